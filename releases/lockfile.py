"""`progdata.lock.json`: what a build declares, for checking and rebuilding it (law 8).

It records the resolved recipe, the bytes of every input, the tokenizer's fingerprint, and the
sha256, size and rows of every file. It holds no time, machine, path of its own or number of
workers, so that the same recipe on the same inputs gives the same lock file.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from progdata import __version__
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.prompts import profiles
from progdata.releases.recipe import Recipe, recipe_sha256
from progdata.releases.workspace import LOCK_FILE

FORMAT = 1

_RECORDED = (
    "pyarrow", "numpy", "tokenizers", "fastokens", "wtpsplit", "datasets",
    "math-verify", "latex2sympy2_extended", "sympy", "gmpy2",
)  # fmt: skip
"""Packages whose version can change a build."""


_UNUSUAL = '\\:*?"<>|'
"""Characters that lead elsewhere, or cannot stand in a file's name, on some system."""


class FileRecord(BaseModel):
    """A file of a build."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: int
    sha256: str
    rows: int | None = None


class TokenizerRecord(BaseModel):
    """The tokenizer of a build: how it was named, and what it was."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: str
    fingerprint: str
    revision: str | None
    template_sha256: str | None
    counter: str
    slow_because: str | None


class ReleaseRecord(BaseModel):
    """What a build was published as."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str  # org/name
    version: str
    previous: str | None  # the version that `changes` are against
    changes: list[str]  # a line each, as in CHANGELOG.md


class BadLockError(ProgdataError):
    """A file that is no lock file, or one that this version of progdata cannot read."""


class LockFile(BaseModel):
    """The content of a lock file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    progdata: str
    recipe: Recipe
    recipe_sha256: str
    sources: list[dict[str, Any]]
    benchmarks: dict[str, Any] = {}  # what the build was held against, by name
    tokenizer: TokenizerRecord
    segmenter_model: str | None  # of `sat`: where its files are, with their commits
    segmenter_sha256: str | None
    prompt_profile_sha256: str
    versions: dict[str, str]
    splits: dict[str, int]
    files: dict[str, FileRecord]
    release: ReleaseRecord | None = None  # of a build that was published

    @field_validator("files")
    @classmethod
    def _inside(cls, value: dict[str, FileRecord]) -> dict[str, FileRecord]:
        """A lock file may come from a stranger: its names must stay in its own folder."""
        for name in value:
            if not is_inside(name):
                raise ValueError(f"{name!r} is no name of a file inside the folder")
        return value


def is_inside(name: str) -> bool:
    """Whether `name` is a plain relative path, which cannot lead out of a folder on any system.

    >>> is_inside("data/clean/train-00000-of-00001.parquet"), is_inside("../secrets")
    (True, False)
    """
    parts = name.split("/")
    usual = not any(part in ("", ".", "..") or part.startswith(".") for part in parts)
    return usual and not any(character in _UNUSUAL or not character.isprintable()
                             for character in name)  # fmt: skip


def read_lock(folder: Path) -> LockFile:
    """The lock file of a build. Raises UsageError where there is none, ProgdataError where it
    cannot be read."""
    path = folder / LOCK_FILE
    try:
        return parse_lock(path.read_bytes(), path)
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror or error}; expected the folder of a finished build"
        ) from error


def find_lock(path: str | None) -> LockFile | None:
    """The lock file that `path` is; None where it is a recipe, or nothing."""
    if path is None or not path.endswith(".json") or not Path(path).is_file():
        return None
    return parse_lock(Path(path).read_bytes(), path)


def parse_lock(content: bytes, where: Path | str) -> LockFile:
    """The lock file with this content. Raises BadLockError that names `where` it is from."""
    found: Any = None
    try:
        found = json.loads(content)
        _refuse_paths(found["recipe"])
        return LockFile.model_validate(found)
    except (ValueError, TypeError, LookupError, RecursionError, UsageError) as error:
        reason = " ".join(str(error).splitlines()[:3])[:300] or type(error).__name__
        maker = found.get("progdata", __version__) if isinstance(found, dict) else __version__
        made = f"; progdata {maker!s:.20} made it" if maker != __version__ else ""
        raise BadLockError(
            f"{where}: not a lock file of progdata {__version__}: {reason}{made}"
        ) from error


def _refuse_paths(recipe: Any) -> None:
    """A lock file may come from a stranger: reading it must open no file that it names."""
    profile = recipe.get("prompt_profile") if isinstance(recipe, dict) else None
    if isinstance(profile, str) and profile not in profiles():
        raise ValueError(f"prompt_profile {profile!r} is neither known nor written out")


def lock_text(lock: LockFile) -> str:
    """The lock file as it is written; without `release` where there is none."""
    content = lock.model_dump(exclude=None if lock.release else {"release"})
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def declared_recipe(recipe: Recipe) -> tuple[dict[str, Any], str]:
    """The resolved recipe as plain values, and its hash; without `generate` where there is none, as
    recipes were before there was such a section."""
    resolved = recipe.model_dump()
    if resolved["generate"] is None:
        del resolved["generate"]
    return resolved, recipe_sha256(resolved)


def recorded_versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a build."""
    found = {"python": platform.python_version(), "progdata": __version__}
    for package in _RECORDED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def differing_fields(first: Mapping[str, Any], second: Mapping[str, Any]) -> Sequence[str]:
    """The names whose values differ between two resolved recipes."""
    return [name for name in sorted({*first, *second}) if first.get(name) != second.get(name)]
