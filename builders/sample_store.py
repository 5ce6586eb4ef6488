"""Samples that were paid for, kept by their request's key: a SQLite file.

A sample is one row, written in one transaction, so that a `kill -9` leaves it there or not there,
and the primary key leaves no room for a second one. Each row carries a checksum: SQLite has none,
and a sample that a disk changed is a sample to ask for again.

The journal is a write-ahead log beside the file, `samples.sqlite-wal`, which belongs to it. A
commit there is safe from the death of this process and does not wait for the disk, so that no
engine does; a power cut may take the last megabytes, and leaves the rest whole.
"""

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from progdata.builders.errors import ProgdataError
from progdata.builders.sampling import Sample

FORMAT = 1
STORE = "samples.sqlite"

_WAIT_SECONDS = 30.0


class SampleStore:
    """The samples of a folder; a context manager. One process writes it at a time.

    Raises ProgdataError where the file is no store, or cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / STORE
        self._database: Any = None
        self.damaged: set[str] = set()
        """The keys of rows that were found to be damaged, and are as good as absent."""

    def __enter__(self) -> "SampleStore":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)
            self._open()
        except BaseException as error:
            self.__exit__()
            if isinstance(error, sqlite3.Error):
                raise self._failed(error) from error
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(sqlite3.Error):  # a full disk was reported when it was written
            if self._database is not None:
                self._database.close()

    def _open(self) -> None:
        self._database.text_factory = bytes  # a damaged text need not be UTF-8
        (found,) = self._database.execute("PRAGMA user_version").fetchone()
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if found != FORMAT and tables:
            raise ProgdataError(
                f"{self.path}: a store of format {found}, expected {FORMAT}; it was made by "
                "another version of progdata: use that, or choose another --out"
            )
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        if tables:
            return
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS samples "
            "(key TEXT PRIMARY KEY, sample BLOB NOT NULL, checksum BLOB NOT NULL) WITHOUT ROWID"
        )
        self._database.execute(f"PRAGMA user_version = {FORMAT}")
        self._database.execute("COMMIT")

    def add(self, samples: Iterable[tuple[str, Sample]]) -> None:
        """Keep samples by their keys: all of them or, where this raises, none."""
        rows = [(key, *_packed(key, sample)) for key, sample in samples]
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany("INSERT OR REPLACE INTO samples VALUES (?, ?, ?)", rows)
                self._database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def get(self, key: str) -> Sample | None:
        """The sample of a request; None where there is none, or a damaged one."""
        try:
            row = self._database.execute(
                "SELECT sample, checksum FROM samples WHERE key = ?", (key,)
            ).fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        if row is None:
            return None
        sample = _unpacked(key, *row)
        if sample is None:
            self.damaged.add(key)
        return sample

    def __len__(self) -> int:
        try:
            return self._database.execute("SELECT count(*) FROM samples").fetchone()[0]
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> ProgdataError:
        return ProgdataError(
            f"{self.path}: {error}; what is committed stays: mend what it names (a full disk, "
            "permissions, another process) and run the same command again"
        )


def _packed(key: str, sample: Sample) -> tuple[bytes, bytes]:
    """A sample in bytes, and their checksum."""
    text = json.dumps(asdict(sample)).encode()  # ASCII: lone surrogates are escaped
    packed = zlib.compress(text, 3)
    return packed, _checksum(key, packed)


def _unpacked(key: str, packed: bytes, checksum: bytes) -> Sample | None:
    if not isinstance(packed, bytes) or _checksum(key, packed) != checksum:
        return None
    return Sample(**json.loads(zlib.decompress(packed)))


def _checksum(key: str, packed: bytes) -> bytes:
    return hashlib.blake2b(packed, key=key.encode(), digest_size=16).digest()
