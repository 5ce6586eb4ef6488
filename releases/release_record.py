"""A release in one small YAML file: what to ask for, and the hash that all its bytes follow from.

The lock file holds the sha256 of every file of a release, so the sha256 of the lock file stands for
all of them. Records of our own releases lie in `releases/records/`.
"""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from progdata.builders.atomic import write_text
from progdata.builders.errors import UsageError


class ReleaseNote(BaseModel):
    """The record of a release."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    commit: str
    lock_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    date: str | None = None


def refuse_record(path: Path) -> None:
    """Raise UsageError where no record can be written to `path`."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        found = "is a folder" if path.is_dir() else "is in no folder that is there"
        raise UsageError(f"{path}: {found}; name a file for the record")


def write_record(path: Path, note: ReleaseNote) -> None:
    """Write a record."""
    content = note.model_dump(exclude_none=True)
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def read_record(path: Path) -> ReleaseNote:
    """The record in a file. Raises UsageError where there is none."""
    try:
        return ReleaseNote.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror or error}; expected a release's record"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        said = " ".join(str(error).split())[:200]
        raise UsageError(f"{path}: not the record of a release: {said}") from error
