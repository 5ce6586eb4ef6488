"""What a release consists of: a build's files, a card that names the release, and its changes."""

import hashlib
from pathlib import Path

from progdata.builders.errors import UsageError
from progdata.releases.carded import card_files
from progdata.releases.changelog import changelog_text, changes_of, first_changes
from progdata.releases.compared import OF_A_RELEASE, Differences
from progdata.releases.lockfile import FileRecord, LockFile, ReleaseRecord, lock_text
from progdata.releases.registry import Draft
from progdata.releases.verified_files import Copy
from progdata.releases.versions import Version
from progdata.releases.workspace import LOCK_FILE

CHANGELOG = "CHANGELOG.md"


def make_draft(
    folder: Path,
    lock: LockFile,
    name: str,
    version: Version,
    before: Copy | None,
    differences: Differences | None,
) -> Draft:
    """The release of the build in `folder`, after the release `before`, to which it has these
    differences. Nothing is written.

    The same build after the same release gives the same bytes, at any time.
    """
    if lock.release is not None:
        return _published_before(folder, lock, name, version)
    changes = changes_of(differences) if differences else first_changes(lock)
    record = ReleaseRecord(
        name=name,
        version=str(version),
        previous=before.lock.release.version if before and before.lock.release else None,
        changes=changes,
    )
    kept = {own: record for own, record in lock.files.items() if own not in OF_A_RELEASE}
    made = card_files(folder, lock, release=record)
    earlier = None
    if before and CHANGELOG in before.lock.files:
        earlier = before.path(CHANGELOG).read_text("utf-8")
    level = differences.level if differences else None
    made[CHANGELOG] = changelog_text(name, version, level, changes, earlier).encode()
    records = kept | {own: _record_of(content) for own, content in made.items()}
    released = lock.model_copy(update={"files": dict(sorted(records.items())), "release": record})
    files: dict[str, Path | bytes] = {own: folder / own for own in kept}
    return _draft(name, version, released, files | made, lock_text(released).encode())


def _published_before(folder: Path, lock: LockFile, name: str, version: Version) -> Draft:
    """A pulled release, which may go to another registry as it is."""
    assert lock.release is not None
    if (lock.release.name, lock.release.version) != (name, str(version)):
        raise UsageError(
            f"{folder}: is the release {lock.release.name}@{lock.release.version}, which can only "
            "be pushed under its own name and version; push the build that it came from"
        )
    files: dict[str, Path | bytes] = {own: folder / own for own in lock.files}
    return _draft(name, version, lock, files, (folder / LOCK_FILE).read_bytes())


def _draft(
    name: str, version: Version, lock: LockFile, files: dict[str, Path | bytes], text: bytes
) -> Draft:
    digest = hashlib.sha256(text).hexdigest()
    message = f"Release {version}"
    return Draft(name, version, lock, digest, {**files, LOCK_FILE: text}, message)


def _record_of(content: bytes) -> FileRecord:
    return FileRecord(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
