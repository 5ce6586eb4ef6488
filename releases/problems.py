"""Problems of a source, with or without completions; and copies of its files without some rows."""

import gzip
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from progdata.builders.atomic import atomic_file
from progdata.builders.columns import RowRefused, read_fields
from progdata.builders.errors import UsageError
from progdata.builders.shard_rows import read_rows
from progdata.builders.sources import Source, find_source, read_shards
from progdata.releases.outputs import refuse_out

NEEDS = ("problem",)


@dataclass(frozen=True, slots=True)
class ProblemRow:
    """A problem, and where it stands: the file and its row or line, from 1."""

    file: str
    row: int
    problem: str
    answer: str | None


def find_problems(spec: str) -> Source:
    """A source of problems; it needs no column but the problem."""
    return find_source(spec, needs=NEEDS)


def read_problems(
    source: Source, unreadable: Counter[str], limit: int | None = None
) -> Iterator[ProblemRow]:
    """The readable problems of a source, in order; the reasons of the others are counted."""
    for shard in read_shards([source], limit=limit):
        for number, row, _ in read_rows(shard):
            try:
                if isinstance(row, RowRefused):
                    raise row
                fields = read_fields(row, shard.columns, NEEDS)
            except RowRefused as refused:
                unreadable[refused.reason] += 1
            else:
                yield ProblemRow(shard.file, number, fields.problem, fields.answer)


def names_of_copies(source: Source, folder: Path) -> list[str]:
    """The names that copies of a source's files have in `folder`. Raises UsageError for a source
    that is not files, and for copies that would replace their source or each other."""
    if source.kind != "files":
        raise UsageError(f"source {source.spec!r}: only files can be copied; download it first")
    names = [Path(path).name for path in source.paths]
    if len(set(names)) < len(names):
        raise UsageError(f"source {source.spec!r}: two files have the same name; copy them apart")
    refuse_out(folder, names, source)
    return names


def copy_without(
    source: Source, dropped: Callable[[str, int], bool], folder: Path, limit: int | None = None
) -> list[str]:
    """Copy the files of a source, byte for byte a line or value for value a row, without the rows
    for which `dropped(file, row)` holds; the names of the copies (see `names_of_copies`).

    Rows beyond `limit` are left out too.
    """
    names = names_of_copies(source, folder)
    folder.mkdir(parents=True, exist_ok=True)
    left = limit
    for path, name in zip(source.paths, names, strict=True):
        copy = _copy_table if name.endswith(".parquet") else _copy_lines
        rows = copy(path, folder / name, dropped, left)
        left = None if left is None else left - rows
    return names


def _copy_lines(
    path: str, copy: Path, dropped: Callable[[str, int], bool], left: int | None
) -> int:
    rows = 0
    with (
        _opened(path, "rb") as lines,
        atomic_file(copy) as temporary,
        _opened(str(temporary), "wb", zipped=path.endswith(".gz")) as kept,
    ):
        for number, line in enumerate(lines, 1):
            if line.isspace():
                continue
            if left is not None and rows >= left:
                break
            rows += 1
            if not dropped(path, number):
                kept.write(line if line.endswith(b"\n") else line + b"\n")
    return rows


def _opened(path: str, mode: str, zipped: bool | None = None) -> IO[bytes]:
    if zipped if zipped is not None else path.endswith(".gz"):
        return gzip.GzipFile(path, mode, mtime=0)  # type: ignore[return-value]
    return open(path, mode)  # noqa: PTH123


def _copy_table(
    path: str, copy: Path, dropped: Callable[[str, int], bool], left: int | None
) -> int:
    rows = 0
    with (
        closing(pq.ParquetFile(path)) as file,
        atomic_file(copy) as temporary,
        pq.ParquetWriter(temporary, file.schema_arrow, compression="zstd") as writer,
    ):
        for batch in file.iter_batches():
            if left is not None:
                batch = batch.slice(0, max(left - rows, 0))
            numbers = range(rows + 1, rows + 1 + len(batch))
            kept = pa.array([not dropped(path, number) for number in numbers], pa.bool_())
            writer.write_table(pa.Table.from_batches([batch]).filter(kept))
            rows += len(batch)
    return rows
