"""Versions of a release: MAJOR.MINOR.PATCH (semver.org), and which of them a change asks for."""

import re
from dataclasses import dataclass
from typing import Literal

from progdata.builders.errors import UsageError

Level = Literal["none", "patch", "minor", "major"]
"""How much a release changes for those who use it: nothing; card and metadata; variants or columns
are added; rows, ids, splits or columns of an existing variant change."""

LATEST = "latest"

_VERSION = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")
_REPO_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True, order=True)
class Version:
    """A version of three numbers, which are compared in turn."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def tag(self) -> str:
        """The name of its tag in a repository."""
        return f"v{self}"

    def raised(self, level: Level) -> "Version":
        """The least version after this one for changes of such a level.

        >>> str(Version(1, 2, 3).raised("minor"))
        '1.3.0'
        """
        if level == "major":
            return Version(self.major + 1, 0, 0)
        if level == "minor":
            return Version(self.major, self.minor + 1, 0)
        return Version(self.major, self.minor, self.patch + 1)


def parse_version(text: str) -> Version:
    """The version that `text` is, with or without a "v". Raises UsageError where it is none."""
    found = _VERSION.fullmatch(text.removeprefix("v"))
    if found is None:
        raise UsageError(f"version {text!r}: expected three numbers, such as 1.2.0")
    return Version(*map(int, found.groups()))


def version_of_tag(tag: str) -> Version | None:
    """The version whose tag this is; None for tags of another kind."""
    found = _VERSION.fullmatch(tag.removeprefix("v")) if tag.startswith("v") else None
    return Version(*map(int, found.groups())) if found else None


def check_repo_name(name: str) -> str:
    """`name`, if it is org/name as the Hub has them. Raises UsageError where it is not."""
    if not _REPO_NAME.fullmatch(name) or ".." in name or name.endswith((".git", ".", "-")):
        raise UsageError(f"{name!r}: expected the name of a repository, such as org/name")
    return name


def parse_release(spec: str) -> tuple[str, Version | None]:
    """The name and the version in "org/name@1.2.0"; None stands for the latest one.

    Raises UsageError where `spec` is of another form.

    >>> parse_release("org/name@latest")
    ('org/name', None)
    """
    name, separator, version = spec.partition("@")
    if not separator or not version:
        raise UsageError(f"{spec}: expected org/name@1.2.0 or org/name@{LATEST}")
    return check_repo_name(name), None if version == LATEST else parse_version(version)
