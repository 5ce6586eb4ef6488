"""Registries: where releases are published and found. The Hub is one, a plain folder another.

Both keep the same promises: a release appears whole or not at all, is never changed, and a push
that does not know the latest one is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from progdata.builders.errors import ProgdataError, UsageError
from progdata.releases.lockfile import LockFile
from progdata.releases.versions import Version


@dataclass(frozen=True)
class Release:
    """A published release: a name, a version, and the commit that holds its files."""

    name: str
    version: Version
    commit: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Head:
    """What a repository holds now, whether it has a version or not.

    `commit` is None where there is no repository yet, `lock` where it holds no release.
    """

    commit: str | None
    lock: LockFile | None = None
    lock_sha256: str | None = None


@dataclass(frozen=True)
class Draft:
    """A release that is to be published: every file, as a path or as its bytes.

    `lock` names all files but the lock file itself. `removed` are files of the head that left.
    """

    name: str
    version: Version
    lock: LockFile
    lock_sha256: str
    files: Mapping[str, Path | bytes]
    message: str
    removed: tuple[str, ...] = ()


class StaleParentError(ProgdataError):
    """Somebody else published in the meantime."""

    def __init__(self, name: str, found: str | None) -> None:
        holds = f"its head is now {found[:12]}" if found else "it is gone"
        super().__init__(
            f"{name}: changed while this release was made: {holds}; nothing was published: run "
            "the same command again to compare with what is there now"
        )


class NotAReleaseError(ProgdataError):
    """What a version names is no release of that version: a tag that somebody made or moved."""


class Registry(Protocol):
    """Publishes releases and finds them again. Errors are ProgdataError, one line each."""

    @property
    def where(self) -> str:
        """How a message calls it."""
        ...

    @property
    def nothing(self) -> str:
        """What a message says of a name that it has no release of."""
        ...

    def versions(self, name: str, *, offline: bool = False) -> list[Version]:
        """The published versions, in order; none where there is no such repository. With
        `offline`, those that are known here will do where it cannot be reached."""
        ...

    def find(self, name: str, version: Version) -> Release:
        """A published release. Raises UsageError where there is none of this version,
        NotAReleaseError where its tag is of something else."""
        ...

    def fetch(self, release: Release, file: str, *, again: bool = False) -> Path:
        """A local path to a file of a release; not yet verified. `again` distrusts caches."""
        ...

    def date(self, release: Release) -> str:
        """When it was published (ISO 8601, UTC)."""
        ...

    def head(self, name: str) -> Head:
        """What the repository holds now."""
        ...

    def create(self, name: str, *, private: bool) -> None:
        """Make the repository unless it is there. Raises UsageError where it is there, public,
        and should be private."""
        ...

    def commit(self, draft: Draft, parent: str | None) -> str:
        """Publish all files of a draft at once on top of `parent`; the commit.

        Raises StaleParentError where the head is another one.
        """
        ...

    def find_untagged(self, draft: Draft) -> str | None:
        """The commit that a push of this draft made and could not tag; None where there is none."""
        ...

    def tag(self, draft: Draft, commit: str) -> None:
        """Give a commit its version. Raises ProgdataError where another commit has it."""
        ...


def unknown_version(registry: Registry, name: str, version: Version) -> UsageError:
    """The error for a version that is not there."""
    known = ", ".join(map(str, registry.versions(name)[-10:]))
    there = f"there are: {known}" if known else f"there is {registry.nothing}"
    return UsageError(f"{name}: no version {version} in {registry.where}; {there}")
