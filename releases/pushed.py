"""`progdata push`: a build becomes a release: checked, compared, one commit, one tag.

Read `push` from top to bottom. Everything before `registry.commit` can be repeated at no cost.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from progdata.builders.errors import LawError, ProgdataError, UsageError
from progdata.releases.changelog import LEVELS
from progdata.releases.check import check, check_files
from progdata.releases.compared import compare
from progdata.releases.display import Display, Silent
from progdata.releases.drafted import make_draft
from progdata.releases.lockfile import LockFile, read_lock
from progdata.releases.proof import is_proven, remember_proven
from progdata.releases.registries import HUB, find_registry
from progdata.releases.registry import Draft, Head, Registry, StaleParentError
from progdata.releases.release_record import ReleaseNote, refuse_record, write_record
from progdata.releases.verified_files import Copy, last_release, open_folder, open_release
from progdata.releases.versions import Level, Version, check_repo_name, parse_version
from progdata.releases.workspace import LOCK_FILE

FIRST = Version(1, 0, 0)
"""What is proposed for a first release."""

Status = Literal["planned", "published", "finished", "already there"]


@dataclass(frozen=True)
class _Plan:
    """What is to be published, and what is there."""

    draft: Draft
    head: Head
    versions: list[Version]
    least: Version
    level: Level | None  # None for a first release


def push(
    folder: Path | str,
    name: str,
    version: str | None = None,
    *,
    to: str = "hub",
    private: bool = False,
    dry_run: bool = False,
    record: Path | str | None = None,
    tokenizer: str | None = None,
    display: Display | None = None,
) -> dict[str, Any]:
    """Publish the build in `folder` as a release of `name` (org/name); a report of what was done.

    `to`: "hub", or the folder of a local registry. `record`: a file to write the release's record
    into. Pushing the same bytes again does nothing. Raises LawError where a law is broken,
    UsageError for a version that is too low or is published with other bytes, StaleParentError
    where somebody else pushed in the meantime.
    """
    path, shown = Path(folder), display or Silent()
    check_repo_name(name)
    asked = parse_version(version) if version else None
    registry = find_registry(to)
    if private and to != HUB:
        raise UsageError(f"{to}: --private is for the Hub; set the permissions of a folder")
    if record is not None:  # what cannot be written is to be known before anything is published
        refuse_record(Path(record))
    lock = read_lock(path)
    shown.stage("checking every law")
    _prove(path, lock, tokenizer)
    shown.stage(f"comparing with what {registry.where} holds")
    plan = _plan(registry, path, lock, name, asked)
    if asked is None and not dry_run:
        raise UsageError(f"{name}: {_proposal(plan)}: give --version {plan.least}")
    status, commit = _status(registry, plan)
    if status == "planned" and not dry_run:
        shown.stage(f"publishing {len(plan.draft.files)} files as {name}@{plan.draft.version}")
        commit, status = _publish(registry, plan, private), "published"
    if status == "finished" and commit and not dry_run:
        registry.tag(plan.draft, commit)
    if record is not None and commit and not dry_run:
        own = plan.draft
        note = ReleaseNote(
            name=name, version=str(own.version), commit=commit, lock_sha256=own.lock_sha256
        )
        write_record(Path(record), note)
    return _report(registry, plan, status, commit, dry_run)


def _publish(registry: Registry, plan: _Plan, private: bool) -> str:
    """Make the commit and its tag; the commit."""
    name, head = plan.draft.name, plan.head
    registry.create(name, private=private)
    if head.commit is None:  # a repository that was just made may have a first commit of its own
        head = registry.head(name)
        if head.lock_sha256 is not None:
            raise StaleParentError(name, head.commit)
    commit = registry.commit(plan.draft, head.commit)
    registry.tag(plan.draft, commit)
    return commit


def _prove(folder: Path, lock: LockFile, tokenizer: str | None) -> None:
    """Raise LawError unless every law holds. The rows are read once; that the bytes are still the
    same is seen when they are sent."""
    proven = is_proven(folder, lock)
    broken = check_files(folder, lock) if proven else check(folder, tokenizer=tokenizer)
    if broken:
        first = broken[0]
        raise LawError(
            f"{folder}: law '{first.law}' is broken: {first.where}: {first.detail} "
            f"({len(broken)} in all; `progdata check {folder}` shows them); nothing was published"
        )
    if not proven:
        remember_proven(folder, lock)


def _plan(
    registry: Registry, folder: Path, lock: LockFile, name: str, asked: Version | None
) -> _Plan:
    """What to publish, in the light of what is published. Raises UsageError where it must not."""
    head = registry.head(name)
    versions = registry.versions(name)
    before = _opened(registry, name, [own for own in versions if not asked or own < asked])
    differences = compare(before, open_folder(folder)) if before else None
    least = _version_of(before).raised(differences.level) if before and differences else FIRST
    draft = make_draft(folder, lock, name, asked or least, before, differences)
    left = set(head.lock.files) - set(draft.files) if head.lock else set[str]()
    draft = replace(draft, removed=tuple(sorted(left)))
    level = differences.level if differences else None
    plan = _Plan(draft, head, versions, least, level)
    if asked is not None and asked not in versions:
        newer = _opened(registry, name, [own for own in versions if own > asked])
        _refuse_low(plan, asked, newer)
    return plan


def _opened(registry: Registry, name: str, versions: list[Version]) -> Copy | None:
    found = last_release(registry, name, versions)
    return found[1] if found else None


def _version_of(release: Copy) -> Version:
    assert release.lock.release is not None  # it was opened as a release
    return parse_version(release.lock.release.version)


def _refuse_low(plan: _Plan, asked: Version, newer: Copy | None) -> None:
    """Raise UsageError where a version comes too late, or promises less than what changed."""
    name = plan.draft.name
    if newer is not None:
        raise UsageError(
            f"{name}: {asked} is lower than the latest release, {_version_of(newer)}; give a "
            "higher --version (--dry-run says which fits)"
        )
    if plan.level is not None and asked < plan.least:
        raise UsageError(
            f"{name}: {asked} is too low: {_proposal(plan)}: give --version {plan.least}"
        )


def _proposal(plan: _Plan) -> str:
    if plan.level is None:
        return f"there is no release yet; the first may be {plan.least}"
    return f"the least version that fits is {plan.least} ({LEVELS[plan.level]})"


def _status(registry: Registry, plan: _Plan) -> tuple[Status, str | None]:
    """Whether the release is there already, whole or without its tag; and its commit.

    Raises UsageError where other bytes are published under its version.
    """
    draft, head = plan.draft, plan.head
    if draft.version in plan.versions:
        release = registry.find(draft.name, draft.version)
        published = open_release(registry, release)
        if published.lock_sha256 == draft.lock_sha256:
            return "already there", release.commit
        raise _other_bytes(plan, published.lock, f"{draft.version} is published")
    untagged = head.lock.release if head.lock else None
    if head.lock is None or untagged is None or untagged.version != str(draft.version):
        return "planned", None
    commit = registry.find_untagged(draft) if head.lock_sha256 == draft.lock_sha256 else None
    if commit is not None:
        return "finished", commit
    what = f"a push of {draft.version} was cut off before its tag"
    raise _other_bytes(plan, head.lock, what)


def _other_bytes(plan: _Plan, lock: LockFile, what: str) -> ProgdataError:
    own = plan.draft.lock.files
    names = sorted(n for n in {*own, *lock.files} if own.get(n) != lock.files.get(n))
    named = ", ".join([*names[:5], *(["..."] if len(names) > 5 else [])]) or LOCK_FILE
    return UsageError(
        f"{plan.draft.name}: {what} with other bytes ({named}); a release never changes: give a "
        f"higher --version (--dry-run says which fits)"
    )


def _report(
    registry: Registry, plan: _Plan, status: Status, commit: str | None, dry_run: bool
) -> dict[str, Any]:
    draft = plan.draft
    release = draft.lock.release
    there = plan.head.lock.files if plan.head.lock else {}
    new = [own for own, record in draft.lock.files.items() if there.get(own) != record]
    return {
        "name": draft.name,
        "version": str(draft.version),
        "registry": registry.where,
        "status": status,
        "dry_run": dry_run,
        "commit": commit,
        "tag": draft.version.tag,
        "previous": release.previous if release else None,
        "level": plan.level,
        "least_version": str(plan.least),
        "changes": release.changes if release else [],
        "files": len(draft.files),
        "bytes": sum(record.bytes for record in draft.lock.files.values()),
        "new_files": new,
        "new_bytes": sum(draft.lock.files[own].bytes for own in new),
        "removed_files": list(draft.removed),
        "lock_sha256": draft.lock_sha256,
    }
