"""What the folder of a build holds, for comparing two builds byte for byte."""

import hashlib
from pathlib import Path

import pyarrow.parquet as pq

from progdata.releases.recipe import Recipe, load_recipe

WORK = ".progdata"
LOCK = "progdata.lock.json"


def countdown(rows: int, variants: list[str] | None = None, **fields: object) -> Recipe:
    """A recipe on the built-in source, with every preset unless `variants` says which."""
    return load_recipe(None, sources=[f"countdown:{rows}"], variants=variants or ["all"], **fields)


def published(out: Path) -> dict[str, str]:
    """The sha256 of every file that a reader of the folder can see, by name."""
    visible = (path for path in sorted(out.glob("*")) if path.name != WORK)
    paths = [own for path in visible for own in (path, *sorted(path.rglob("*")))]
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.is_file()
    }


def unfinished(out: Path) -> list[str]:
    """What a build still keeps for itself beside the writer's lock."""
    return sorted(
        path.relative_to(out).as_posix()
        for path in (out / WORK).rglob("*")
        if path.name != "writer.lock"
    )


def assert_same(out: Path, expected: Path | dict[str, str]) -> None:
    """Both folders hold the same files with the same bytes."""
    wanted = expected if isinstance(expected, dict) else published(expected)
    found = published(out)
    assert set(found) == set(wanted), "not the same files"
    differing = [name for name in wanted if found[name] != wanted[name]]
    assert not differing, f"bytes differ in {differing}"


def assert_nothing_half_written(out: Path, expected: dict[str, str]) -> None:
    """Whatever is visible is whole: a file of the finished build; the lock file is the last."""
    found = published(out)
    for name in found:
        if name.endswith(".parquet"):
            pq.ParquetFile(out / name).close()  # raises for a file without its footer
    wrong = [name for name, digest in found.items() if expected.get(name) != digest]
    assert not wrong, f"visible, and not as the finished build has them: {wrong}"
    if LOCK in found:
        assert found == expected, "the lock file is there before the build is complete"
