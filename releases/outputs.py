"""Folders that commands write into: what they must not be, before any work is done."""

from collections.abc import Iterable
from pathlib import Path

from progdata.builders.errors import UsageError
from progdata.builders.sources import Source


def refuse_file(path: Path, advice: str) -> None:
    """Raise UsageError where `path`, or what should be a folder above it, is a file."""
    for own in (path, *path.parents):
        if own.exists() and not own.is_dir():
            raise UsageError(f"{own}: is a file; {advice}")


def refuse_out(out: Path | None, names: Iterable[str], source: Source) -> None:
    """Raise UsageError where `out` is a file, or where one of the files `names` that are to be
    written into it is a file of the source."""
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; name a folder with --out")
    for name in names:
        path = out / name
        if path.exists() and any(path.samefile(own) for own in source.paths):
            raise UsageError(f"{path}: would replace its own source; choose another --out")
