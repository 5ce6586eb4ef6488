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

from pydantic import BaseModel, ConfigDict, ValidationError

from progdata import __version__
from progdata.builders.errors import ProgdataError, UsageError
from progdata.releases.recipe import Recipe, recipe_sha256
from progdata.releases.workspace import LOCK_FILE

FORMAT = 1

_RECORDED = (
    "pyarrow", "numpy", "tokenizers", "fastokens", "wtpsplit", "datasets",
    "math-verify", "latex2sympy2_extended", "sympy", "gmpy2",
)  # fmt: skip
"""Packages whose version can change a build."""


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


def read_lock(folder: Path) -> LockFile:
    """The lock file of a build. Raises UsageError where there is none or it cannot be read."""
    path = folder / LOCK_FILE
    try:
        return LockFile.model_validate(json.loads(path.read_text("utf-8")))
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror or error}; expected the folder of a finished build"
        ) from error
    except (ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise ProgdataError(
            f"{path}: not a lock file of progdata {__version__}: {first}"
        ) from error


def lock_text(lock: LockFile) -> str:
    """The lock file as it is written."""
    return json.dumps(lock.model_dump(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


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
