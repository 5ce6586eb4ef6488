"""A registry in a plain folder: no account, no network, the same promises as on the Hub.

FOLDER/org/name/v1.2.0/          a release; the folder appears under this name when it is whole
FOLDER/org/name/v1.2.0.yaml      its record: commit, sha256 of the lock file, date
FOLDER/org/name/.tmp-.../        a release that is being written; the next push takes it up
FOLDER/org/name/.writer.lock     held by the one writer; the kernel frees it when the writer dies

Files that a release shares with the one before are hard links where the file system has them.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from progdata.builders.atomic import TEMPORARY, move, sync
from progdata.builders.errors import ProgdataError
from progdata.builders.hub_files import sha256_file
from progdata.releases.lockfile import FileRecord, parse_lock
from progdata.releases.outputs import refuse_file
from progdata.releases.registry import Draft, Head, Release, StaleParentError, unknown_version
from progdata.releases.release_record import ReleaseNote, read_record, write_record
from progdata.releases.verified_files import check_content, copy_verified
from progdata.releases.versions import Version, check_repo_name, version_of_tag
from progdata.releases.workspace import LOCK_FILE

COMMIT_CHARS = 40


class LocalRegistry:
    """Releases in a folder."""

    nothing = "no release of that name"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.where = str(folder)
        refuse_file(folder, "expected `hub` or the folder of a registry")

    def versions(self, name: str, *, offline: bool = False) -> list[Version]:
        """The published versions, in order."""
        own = self._repository(name)
        found = [version_of_tag(path.name) for path in own.glob("v*") if path.is_dir()]
        return sorted(v for v in found if v and self._record_path(name, v).is_file())

    def find(self, name: str, version: Version) -> Release:
        """A published release. Raises UsageError where there is none of this version."""
        if version not in self.versions(name):
            raise unknown_version(self, name, version)
        return Release(name, version, self._record(name, version).commit)

    def fetch(self, release: Release, file: str, *, again: bool = False) -> Path:
        """The path to a file of a release."""
        path = self._repository(release.name) / release.version.tag / file
        if not path.is_file():
            raise ProgdataError(f"{release}: {file} is not in {self.where}")
        if file == LOCK_FILE and sha256_file(path) != self._recorded(release).lock_sha256:
            raise ProgdataError(f"{path}: was changed after it was published; nothing was taken")
        return path

    def date(self, release: Release) -> str:
        """When it was published."""
        return self._recorded(release).date or ""

    def head(self, name: str) -> Head:
        """The latest release."""
        known = self.versions(name)
        if not known:
            return Head(None)
        record = self._record(name, known[-1])
        path = self._repository(name) / known[-1].tag / LOCK_FILE
        return Head(record.commit, parse_lock(path.read_bytes(), path), sha256_file(path))

    def create(self, name: str, *, private: bool) -> None:
        """Make the repository's folder; who may read it, its permissions say."""
        self._repository(name).mkdir(parents=True, exist_ok=True)

    def commit(self, draft: Draft, parent: str | None) -> str:
        """Write all files beside, then rename their folder."""
        own = self._repository(draft.name)
        with self._writing(own):
            head = self.head(draft.name)
            if head.commit != parent or (own / draft.version.tag).exists():
                raise StaleParentError(draft.name, head.commit)
            commit = draft.lock_sha256[:COMMIT_CHARS]
            temporary = own / f"{TEMPORARY}{commit}"
            for stale in {*own.glob(f"{TEMPORARY}*")} - {temporary}:
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
            previous = own / self.versions(draft.name)[-1].tag if parent else None
            self._fill(temporary, draft, previous)
            for folder in (temporary, *(path for path in temporary.rglob("*") if path.is_dir())):
                sync(folder)
            date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            note = ReleaseNote(
                name=draft.name,
                version=str(draft.version),
                commit=commit,
                lock_sha256=draft.lock_sha256,
                date=date,
            )
            write_record(self._record_path(draft.name, draft.version), note)
            move(temporary, own / draft.version.tag)
        return commit

    def find_untagged(self, draft: Draft) -> str | None:
        """None: here a commit has its version from the start."""
        return None

    def tag(self, draft: Draft, commit: str) -> None:
        """The name of the folder is the tag."""

    def _fill(self, temporary: Path, draft: Draft, previous: Path | None) -> None:
        """Put every file of a draft into a folder that a killed push may have begun to fill."""
        temporary.mkdir(exist_ok=True)
        records = {
            **draft.lock.files,
            LOCK_FILE: FileRecord(bytes=0, sha256=draft.lock_sha256),
        }
        for leftover in temporary.rglob(f"{TEMPORARY}*"):
            leftover.unlink()
        for name, content in draft.files.items():
            target, sha256 = temporary / name, records[name].sha256
            if target.is_file() and sha256_file(target) == sha256:
                continue
            target.unlink(missing_ok=True)
            same = previous / name if previous else None
            if same and same.is_file() and sha256_file(same) == sha256:
                check_content(content, sha256, name)
                if _linked(same, target):
                    continue
            copy_verified(content, target, sha256, name)
        for path in [own for own in temporary.rglob("*") if own.is_file()]:
            if path.relative_to(temporary).as_posix() not in draft.files:
                path.unlink()

    @contextmanager
    def _writing(self, own: Path) -> Iterator[None]:
        """Hold the repository; another pusher waits here, then finds that the head has moved."""
        own.mkdir(parents=True, exist_ok=True)
        with FileLock(own / ".writer.lock"):
            yield

    def _repository(self, name: str) -> Path:
        return self.folder / check_repo_name(name)

    def _recorded(self, release: Release) -> ReleaseNote:
        return self._record(release.name, release.version)

    def _record_path(self, name: str, version: Version) -> Path:
        return self._repository(name) / f"{version.tag}.yaml"

    def _record(self, name: str, version: Version) -> ReleaseNote:
        return read_record(self._record_path(name, version))


def _linked(source: Path, target: Path) -> bool:
    """Make `target` a hard link to `source`; False where the file system has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        return False
    return True
