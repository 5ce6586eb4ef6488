"""Releases on the Hugging Face Hub: one commit and one annotated tag each, in a dataset repository.

The client retries uploads by itself; commits, tags and reads are retried here (facts.md 8.10).
A commit whose answer was lost stands all the same: the head says so, and is looked at before any
second try. The token is the client's own (`hf auth login` or HF_TOKEN); it is never read here.
"""

import hashlib
import itertools
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.hub_files import sha256_file
from progdata.builders.retries import delay
from progdata.releases.hub_errors import (
    is_absent,
    is_absent_file,
    is_conflict,
    is_local,
    is_stale,
    is_tried_out,
    is_unreachable,
    setback_of_hub,
    told,
)
from progdata.releases.lockfile import FileRecord, LockFile, parse_lock
from progdata.releases.registry import (
    Draft,
    Head,
    NotAReleaseError,
    Release,
    StaleParentError,
    unknown_version,
)
from progdata.releases.versions import Version, version_of_tag
from progdata.releases.workspace import LOCK_FILE

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TRIES = 6
"""Of a call that changes the Hub; with the usual backoff they span about a minute."""

COMMITS_SEARCHED = 20
"""The latest commits among which one that could not be tagged is looked for."""

READ_TRIES = 3
"""Of a call that only reads; the client retries some of these by itself."""

T = TypeVar("T")


class HubRegistry:
    """Releases in dataset repositories of the Hub (or of the server that HF_ENDPOINT names)."""

    where = "the Hub"
    nothing = (
        "no release of that name, or it is private: log in with `hf auth login` or set HF_TOKEN"
    )

    @cached_property
    def _api(self) -> "HfApi":
        from huggingface_hub import HfApi
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
        return HfApi()

    def versions(self, name: str, *, offline: bool = False) -> list[Version]:
        """The versions that have a tag; with `offline`, those of the cache where the Hub cannot be
        reached."""
        try:
            refs = self._call(name, lambda: self._api.list_repo_refs(name, repo_type="dataset"))
        except _AbsentError:
            return []
        except _UnreachableError:
            known = self._cached_versions(name) if offline else []
            if not known:
                raise
            return known
        return sorted(v for v in (version_of_tag(tag.name) for tag in refs.tags) if v)

    def find(self, name: str, version: Version) -> Release:
        """A published release. Raises UsageError where there is none of this version."""
        try:
            path = self._download_lock(name, version.tag)
        except _AbsentFileError as error:
            raise NotAReleaseError(f"{name}: the tag {version.tag} holds no {LOCK_FILE}") from error
        except _AbsentError as error:
            raise unknown_version(self, name, version) from error
        return Release(name, version, _commit_of(path, LOCK_FILE))

    def fetch(self, release: Release, file: str, *, again: bool = False) -> Path:
        """The path to a file in the client's cache."""
        try:
            return self._download(release.name, file, release.commit, again=again)
        except _AbsentError as error:
            raise ProgdataError(f"{release}: {file} is not in {self.where}") from error

    def date(self, release: Release) -> str:
        """When its commit was made."""
        commits = self._call(
            release.name,
            lambda: self._api.list_repo_commits(
                release.name, repo_type="dataset", revision=release.commit
            ),
        )
        return commits[0].created_at.strftime("%Y-%m-%dT%H:%M:%SZ")

    def head(self, name: str) -> Head:
        """The head of `main`."""
        try:
            info = self._call(name, lambda: self._api.dataset_info(name, revision="main"))
        except _AbsentError:
            return Head(None)
        assert info.sha is not None
        try:
            path = self._download_lock(name, info.sha)
        except _AbsentError:
            return Head(info.sha)
        lock: LockFile | None = None
        with suppress(ProgdataError):  # a file of somebody else's under this name
            lock = parse_lock(path.read_bytes(), path)
        return Head(info.sha, lock, sha256_file(path))

    def create(self, name: str, *, private: bool) -> None:
        """Make the repository unless it is there."""
        self._call(
            name,
            lambda: self._api.create_repo(
                name, repo_type="dataset", private=private or None, exist_ok=True
            ),
            TRIES,
        )
        if private and not self._call(name, lambda: self._api.dataset_info(name)).private:
            raise UsageError(
                f"{name}: is there already and is public; make it private in its settings, or "
                "leave --private out"
            )

    def commit(self, draft: Draft, parent: str | None) -> str:
        """Upload what is large, then make one commit; a commit whose answer was lost is found."""
        for tried in itertools.count(1):
            try:
                return self._commit_once(draft, parent)
            except ProgdataError:
                raise
            except Exception as error:  # the client and its transport raise many kinds
                if is_local(error):
                    raise
                head = self.head(draft.name)
                if head.commit != parent and (made := self.find_untagged(draft)):
                    return made
                if head.commit != parent or is_stale(error):
                    raise StaleParentError(draft.name, head.commit) from error
                self._wait_or_raise(draft.name, error, tried, TRIES)
        raise AssertionError

    def find_untagged(self, draft: Draft) -> str | None:
        """The latest commit that holds exactly the files of a draft, beside those of others."""
        commits = self._call(
            draft.name, lambda: self._api.list_repo_commits(draft.name, repo_type="dataset")
        )
        recent = [own.commit_id for own in commits[:COMMITS_SEARCHED]]
        return next((commit for commit in recent if self._holds(draft, commit)), None)

    def _holds(self, draft: Draft, commit: str) -> bool:
        """Whether each file of a draft has the same bytes in a commit, by the hashes of the Hub."""
        from huggingface_hub.hf_api import RepoFile

        found = self._call(
            draft.name,
            lambda: self._api.get_paths_info(
                draft.name, [*draft.files, *draft.removed], repo_type="dataset", revision=commit
            ),
        )
        there = {own.path: own for own in found if isinstance(own, RepoFile)}
        if there.keys() != draft.files.keys():
            return False
        records = _records(draft)
        return all(
            own.lfs.sha256 == records[name].sha256
            if own.lfs
            else own.blob_id == git_blob_id(draft.files[name])
            for name, own in there.items()
        )

    def tag(self, draft: Draft, commit: str) -> None:
        """Make the annotated tag; one that is there already must be of this commit."""
        name, tag = draft.name, draft.version.tag

        def make() -> None:
            try:
                self._api.create_tag(
                    name,
                    repo_type="dataset",
                    tag=tag,
                    tag_message=draft.message,
                    revision=commit,
                )
            except Exception as error:
                if not is_conflict(error):
                    raise

        self._call(name, make, TRIES)
        holds = self._call(name, lambda: self._api.dataset_info(name, revision=tag)).sha
        if holds != commit:
            raise ProgdataError(
                f"{name}: the tag {tag} is of commit {str(holds)[:12]}, not of {commit[:12]}: "
                "somebody else released this version; publish as a higher one"
            )

    def _commit_once(self, draft: Draft, parent: str | None) -> str:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        records = _records(draft)

        def hashed(name: str) -> CommitOperationAdd:
            content = draft.files[name]
            addition = CommitOperationAdd(name, content)
            if addition.upload_info.sha256.hex() != records[name].sha256:
                raise ProgdataError(
                    f"{content if isinstance(content, Path) else name}: changed while it was being "
                    "published; nothing was published"
                )
            return addition

        with ThreadPoolExecutor() as pool:
            additions = list(pool.map(hashed, draft.files))
        left = self._present(draft.name, draft.removed, parent)
        deletions = [CommitOperationDelete(name, is_folder=False) for name in left]
        self._api.preupload_lfs_files(
            draft.name, additions, repo_type="dataset", revision="main", free_memory=False
        )
        made = self._api.create_commit(
            draft.name,
            [*additions, *deletions],
            commit_message=draft.message,
            repo_type="dataset",
            revision="main",
            parent_commit=parent,
        )
        return made.oid

    def _present(self, name: str, files: tuple[str, ...], commit: str | None) -> list[str]:
        """Those of the files that are in a commit; somebody may have deleted some by hand."""
        if not files:
            return []
        found = self._call(
            name,
            lambda: self._api.get_paths_info(
                name, list(files), repo_type="dataset", revision=commit
            ),
        )
        return [own.path for own in found]

    def _download_lock(self, name: str, revision: str) -> Path:
        """The lock file, which proves the others, and is itself proved by its name in git."""
        path = self._download(name, LOCK_FILE, revision)
        if _is_whole(path):
            return path
        damaged = ProgdataError(
            f"{name}: {LOCK_FILE} has other bytes than the Hub says it has; nothing was taken"
        )
        try:
            path = self._download(name, LOCK_FILE, revision, again=True)
        except ProgdataError as error:
            raise damaged from error
        if not _is_whole(path):
            raise damaged
        return path

    def _download(self, name: str, file: str, revision: str, *, again: bool = False) -> Path:
        from huggingface_hub import hf_hub_download

        return Path(
            self._call(
                name,
                lambda: hf_hub_download(
                    name, file, repo_type="dataset", revision=revision, force_download=again
                ),
            )
        )

    def _cached_versions(self, name: str) -> list[Version]:
        from huggingface_hub.constants import HF_HUB_CACHE

        refs = Path(HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}" / "refs"
        found = [version_of_tag(path.name) for path in refs.glob("v*")]
        return sorted(version for version in found if version)

    def _call(self, name: str, attempt: Callable[[], T], tries: int = READ_TRIES) -> T:
        """What a call gives; tried again where what went wrong may pass."""
        for tried in itertools.count(1):
            try:
                return attempt()
            except Exception as error:
                if is_local(error):
                    raise
                if is_absent(error):
                    kind = _AbsentFileError if is_absent_file(error) else _AbsentError
                    raise kind(told(name, error)) from error
                self._wait_or_raise(name, error, tried, tries)
        raise AssertionError

    def _wait_or_raise(self, name: str, error: Exception, tried: int, tries: int) -> None:
        setback = setback_of_hub(error)
        if not setback.passing or tried >= tries or is_tried_out(error):
            kind = _UnreachableError if is_unreachable(error) else ProgdataError
            raise kind(told(name, error, tried)) from error
        time.sleep(delay(tried, setback))


class _AbsentError(ProgdataError):
    """There is no such repository, revision or file, or it is not shown to this user."""


class _AbsentFileError(_AbsentError):
    """The repository and the revision are there; the file is not."""


class _UnreachableError(ProgdataError):
    """No answer came from the Hub."""


def _commit_of(path: Path, file: str) -> str:
    """The commit that a file of the cache is of: the folder of its snapshot is named by it."""
    return path.parents[len(Path(file).parts) - 1].name


def _is_whole(path: Path) -> bool:
    """Whether a file of the client's cache has the bytes that its blob there is named by: git's
    own hash or, for large files, the SHA-256."""
    blob, content = path.resolve().name, path.read_bytes()
    if re.fullmatch("[0-9a-f]{40}", blob):
        return git_blob_id(content) == blob
    if re.fullmatch("[0-9a-f]{64}", blob):
        return hashlib.sha256(content).hexdigest() == blob
    return True  # a cache without links does not say


def git_blob_id(content: Path | bytes) -> str:
    """The hash by which git, and so the Hub, names a file that is not large."""
    data = content.read_bytes() if isinstance(content, Path) else content
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _records(draft: Draft) -> dict[str, FileRecord]:
    """What every file of a draft must be, the lock file too."""
    content: Any = draft.files[LOCK_FILE]
    own = FileRecord(bytes=len(content), sha256=draft.lock_sha256)
    return {**draft.lock.files, LOCK_FILE: own}
