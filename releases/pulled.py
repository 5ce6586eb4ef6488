"""`progdata pull`: the files of a release, each proved by its sha256 before anything is done with
them. Nothing of a release is ever run."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from progdata.builders.atomic import TEMPORARY
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.hub_files import sha256_file
from progdata.builders.nearest import did_you_mean
from progdata.builders.table_names import tables_of
from progdata.cards.card_header import default_variant
from progdata.releases.display import Display, Silent
from progdata.releases.lockfile import LockFile
from progdata.releases.outputs import refuse_file
from progdata.releases.registries import HUB, find_registry
from progdata.releases.registry import Registry, Release
from progdata.releases.release_record import read_record
from progdata.releases.verified_files import (
    Copy,
    MismatchError,
    copy_verified,
    fetch_again,
    last_release,
    open_release,
    verified,
)
from progdata.releases.versions import parse_release
from progdata.releases.workspace import LOCK_FILE

TRANSFERS = 4
"""Files that are fetched at the same time; more of them only take one another's time in Python."""

WITH_ANY_DATA = ("README.md", "special_tokens.json")
"""Files that come with any part of a release, beside the lock file."""


@dataclass(frozen=True)
class Pulled:
    """A release, or a part of one, whose files are here and proved."""

    release: Release
    registry: str
    lock: LockFile
    lock_sha256: str
    folder: Path
    paths: dict[str, Path]  # by the name in the release

    def data_files(self, variant: str) -> dict[str, list[str]]:
        """The paths of a variant's tables, by split, in order."""
        found = {split: tables_of(self.paths, variant, split) for split in self.lock.splits}
        return {
            split: [str(self.paths[name]) for name in own] for split, own in found.items() if own
        }

    def _loading(self, variants: list[str]) -> str:
        """How `datasets` loads the usual one of the variants that are here; by the card, if all of
        its splits are."""
        usual = usual_variant(self.lock)
        variant = usual if usual in variants or not variants else variants[0]
        files = self.data_files(variant)
        if files and list(files) == list(self.lock.splits):
            return f"load_dataset({json.dumps(str(self.folder))}, {json.dumps(variant)})"
        return f'load_dataset("parquet", data_files={json.dumps(files)})' if files else "no table"

    def report(self) -> dict[str, Any]:
        """What was pulled, as plain values."""
        variants = [
            own.name for own in self.lock.recipe.build_variants() if self.data_files(own.name)
        ]
        return {
            "name": self.release.name,
            "version": str(self.release.version),
            "commit": self.release.commit,
            "registry": self.registry,
            "folder": str(self.folder),
            "variants": variants,
            "load": self._loading(variants),
            "splits": [
                s for s in self.lock.splits if any(s in self.data_files(v) for v in variants)
            ],
            "files": len(self.paths),
            "bytes": sum(self.lock.files[name].bytes for name in self.paths),
            "lock_sha256": self.lock_sha256,
        }


def pull(
    spec: str,
    *,
    variants: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    out: Path | str | None = None,
    source: str = HUB,
    record: Path | str | None = None,
    display: Display | None = None,
) -> Pulled:
    """Fetch the release `spec` (org/name@1.2.0 or org/name@latest), or the named variants and
    splits of it, from the Hub or from the folder of a local registry (`source`).

    The files stay in the cache, from which they are read without a network, or are copied into
    `out`. `record` is a file that says what the lock file's sha256 must be. Raises UsageError
    where there is no such release, variant or split or `out` holds something else, ProgdataError
    that names the file whose bytes are not those that were published.
    """
    shown = display or Silent()
    registry, release, copy = find_copy(spec, source)
    if record is not None:
        _check_record(copy, release, Path(record))
    wanted = wanted_files(copy.lock, variants, splits)
    shown.stage(f"pulling {release}: {len(wanted)} files")
    if out is None:
        lock_path = registry.fetch(release, LOCK_FILE)
        paths = _each(wanted, _Files(registry, release, copy))
        return Pulled(release, registry.where, copy.lock, copy.lock_sha256, lock_path.parent, paths)
    folder = Path(out)
    _refuse_others(folder, copy, wanted)
    with _writing(folder):
        files = _Files(registry, release, copy, folder)
        paths = _each(wanted, files)
        files.prove(LOCK_FILE, files.fetch(LOCK_FILE))
    return Pulled(release, registry.where, copy.lock, copy.lock_sha256, folder, paths)


def find_copy(spec: str, source: str) -> tuple[Registry, Release, Copy]:
    """The release `spec` in a registry, opened."""
    name, version = parse_release(spec)
    registry = find_registry(source)
    if version is not None:
        release = registry.find(name, version)
        return registry, release, open_release(registry, release)
    found = last_release(registry, name, registry.versions(name, offline=True))
    if found is None:
        raise UsageError(f"{name}: there is {registry.nothing} in {registry.where}")
    return registry, *found


def wanted_files(
    lock: LockFile, variants: Sequence[str] | None, splits: Sequence[str] | None
) -> list[str]:
    """The names of the files that hold these variants and splits; of all where none is named.

    Raises UsageError for a variant or split that the release does not have.
    """
    known = [own.name for own in lock.recipe.build_variants()]
    _refuse_unknown("variant", variants, known)
    _refuse_unknown("split", splits, list(lock.splits))
    if not variants and not splits:
        return list(lock.files)
    tables = [
        name
        for variant in variants or known
        for split in splits or lock.splits
        for name in tables_of(lock.files, variant, split)
    ]
    return [name for name in lock.files if name in {*tables, *WITH_ANY_DATA}]


def usual_variant(lock: LockFile) -> str:
    """The variant that is read where none is named: clean, or the first one of the recipe."""
    return default_variant([own.name for own in lock.recipe.build_variants()])


def _refuse_unknown(what: str, asked: Sequence[str] | None, known: list[str]) -> None:
    for own in asked or ():
        if own not in known:
            raise UsageError(
                f"no {what} {own!r} in this release{did_you_mean(own, known)}; it has: "
                f"{', '.join(known)}"
            )


def _check_record(copy: Copy, release: Release, record: Path) -> None:
    """Refuse a release that is not the one that was recorded."""
    note = read_record(record)
    if (note.name, note.version) != (release.name, str(release.version)):
        raise UsageError(f"{record}: is the record of {note.name}@{note.version}, not of {release}")
    if note.lock_sha256 != copy.lock_sha256:
        raise ProgdataError(
            f"{release}: the sha256 of its {LOCK_FILE} is {copy.lock_sha256[:12]}, {record} says "
            f"{note.lock_sha256[:12]}: this is not the release that was recorded"
        )


@dataclass(frozen=True)
class _Files:
    """The files of a release, on their way into a folder, or into the cache alone."""

    registry: Registry
    release: Release
    copy: Copy
    folder: Path | None = None

    def fetch(self, name: str) -> Path:
        """A local path to a file, not yet proved; its own place where it was found to be there."""
        if self.folder is not None and (self.folder / name).is_file():
            return self.folder / name
        return self.registry.fetch(self.release, name)

    def prove(self, name: str, path: Path) -> Path:
        """Where a fetched file is, proved, and put into the folder. A damaged cache is passed over
        once."""
        expected = expected_sha256(self.copy, name)
        if self.folder is None:
            return verified(self.registry, self.release, name, expected, path)
        target = self.folder / name
        if path == target:
            return target
        try:
            copy_verified(path, target, expected, f"{self.release}: {name}")
        except MismatchError as error:
            again = fetch_again(self.registry, self.release, name, error)
            copy_verified(again, target, expected, f"{self.release}: {name}")
        return target


def _each(names: list[str], files: _Files) -> dict[str, Path]:
    """Where each file is. Some are proved while others are still on their way."""
    fetching, proving = ThreadPoolExecutor(TRANSFERS), ThreadPoolExecutor()
    with _cancelling(proving), _cancelling(fetching):

        def begin(name: str) -> Future[Path]:
            return proving.submit(files.prove, name, files.fetch(name))

        begun = fetching.map(begin, names)
        return {name: own.result() for name, own in zip(names, begun, strict=True)}


def expected_sha256(copy: Copy, name: str) -> str:
    """What the lock file says of a file, and its own for the lock file itself."""
    return copy.lock_sha256 if name == LOCK_FILE else copy.lock.files[name].sha256


@contextmanager
def _cancelling(pool: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    """A pool that drops what has not begun when the block fails."""
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _refuse_others(folder: Path, copy: Copy, wanted: list[str]) -> None:
    """Raise UsageError where a folder holds something else under a name that is to be written."""
    refuse_file(folder, "name a folder with --out")
    root = folder.resolve()
    for name in [LOCK_FILE, *wanted]:
        path = folder / name
        if not path.parent.resolve().is_relative_to(root):
            raise UsageError(f"{path}: leads out of {folder}; choose another --out")
        if not (path.exists() or path.is_symlink()):
            continue
        same = path.is_file() and sha256_file(path) == expected_sha256(copy, name)
        if path.is_symlink() or not same:
            raise UsageError(
                f"{path}: is there already, and is not that of {copy.label}; choose another --out"
            )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Hold a folder, without what a pull that was killed left half-written there."""
    work = folder / ".progdata"
    work.mkdir(parents=True, exist_ok=True)
    with FileLock(work / "writer.lock"):
        for leftover in folder.rglob(f"{TEMPORARY}*"):
            leftover.unlink()
        yield
