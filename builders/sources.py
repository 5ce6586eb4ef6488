"""Sources of traces: the built-in countdown, files, and hub datasets, cut into shards of rows.

A source only cuts: it hands out shards in input order, each with the bytes or rows it covers and a
key made of the content they come from. Reading a row's fields is the work of a shard's stage.
"""

import glob
import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from progdata.builders import shard_rows
from progdata.builders.columns import (
    TRACES,
    Columns,
    RowRefused,
    all_columns,
    detect_columns,
    needed,
)
from progdata.builders.errors import ProgdataError, UsageError, one_line
from progdata.builders.hub_source import find_hub_dataset, hub_shards
from progdata.builders.shard_rows import RAW_BYTES, Shard, holds_row, read_rows

SHARD_BYTES = 8 << 20
"""Bytes of input that a shard covers by default."""

COUNTDOWN_ROWS = 2_000
"""Countdown traces in a shard of the default size."""

_DETECT_ROWS = 100
_DETECT_BYTES = 1 << 20
_ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
_FORMS = (
    "countdown:N, a path or glob of .jsonl, .jsonl.gz, .parquet, "
    "or hf:org/name[:config][@revision][#split]"
)


@dataclass(frozen=True)
class Source:
    """Where traces come from: `spec` as the user wrote it, and what `record` says of its bytes.

    `needs` are the fields without which it is refused: `columns.TRACES` or `columns.PROBLEMS`.
    """

    spec: str
    kind: str
    record: dict[str, Any]
    named_columns: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    needs: tuple[str, ...] = TRACES


def find_source(
    spec: str,
    *,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
    needs: tuple[str, ...] = TRACES,
) -> Source:
    """The source that `spec` names, with the checksums of its files or its resolved commit.

    Raises UsageError for a spec of no known form, ProgdataError for one that names nothing.
    """
    named = columns or {}
    if spec.partition(":")[0] == "countdown":
        rows = re.fullmatch(r"countdown:(\d+)", spec)
        if not rows or not int(rows[1]):
            raise UsageError(f"source {spec!r}: write countdown:N with N of at least 1")
        return Source(spec, "countdown", {"spec": spec, "rows": int(rows[1]), "seed": seed})
    if spec.startswith("hf:"):
        return Source(spec, "hub", find_hub_dataset(spec), named, needs=needs)
    paths = [spec] if Path(spec).exists() else sorted(glob.glob(spec, recursive=True))  # noqa: PTH207, the spec may be absolute
    paths = [path for path in paths if Path(path).is_file()]
    if not paths:
        what = "is a folder" if Path(spec).is_dir() else "no such file, and no file matches"
        raise ProgdataError(f"source {spec!r}: {what}; give {_FORMS}")
    for path in paths:
        if not path.endswith(_ENDINGS):
            raise UsageError(f"{path}: not a .jsonl, .jsonl.gz or .parquet file")
        if path != os.fsencode(path).decode("utf-8", "replace"):
            raise UsageError(f"{path!a}: the name of the file is not UTF-8; rename it")
    files = [_file_record(path, needs) for path in paths]
    return Source(spec, "files", {"spec": spec, "files": files}, named, tuple(paths), needs)


def read_shards(
    sources: Sequence[Source], *, limit: int | None = None, shard_bytes: int = SHARD_BYTES
) -> Iterator[Shard]:
    """The shards of all sources in order, cut after `limit` rows.

    A shard's place is part of its key: it decides which rows are sampled, and keeps a source
    that is named twice from being taken for one.
    """
    index = 0
    for number, source in enumerate(sources):
        for shard in _shards_of(source, shard_bytes):
            share = (number + shard.share) / len(sources)
            key = f"{shard.key}/{index}"
            shard = replace(shard, key=key, first_index=index, share=share)
            if limit is not None and index + shard.rows > limit:
                shard = _first_rows(shard, limit - index)
            if shard.rows:
                yield shard
            index += shard.rows
            if limit is not None and index >= limit:
                return


def _shards_of(source: Source, shard_bytes: int) -> Iterator[Shard]:
    if source.kind == "countdown":
        return _countdown_shards(source, max(1, COUNTDOWN_ROWS * shard_bytes // SHARD_BYTES))
    if source.kind == "hub":
        return hub_shards(source.record, source.named_columns, shard_bytes, source.needs)
    return _file_shards(source, shard_bytes)


def _countdown_shards(source: Source, rows: int) -> Iterator[Shard]:
    seed, total = source.record["seed"], source.record["rows"]
    columns = detect_columns(("problem", "answer", "completion", "finish_reason"), {}, "countdown")
    for start in range(0, total, rows):
        count = min(rows, total - start)
        key = f"countdown/{seed}/{start}/{count}"
        yield Shard(
            key,
            source.spec,
            "countdown",
            first_row=start + 1,
            first_index=0,
            rows=count,
            data=seed,
            columns=columns,
            share=(start + count) / total,
        )


def _file_shards(source: Source, shard_bytes: int) -> Iterator[Shard]:
    done, total = 0, sum(record["bytes"] for record in source.record["files"])
    for path, record in zip(source.paths, source.record["files"], strict=True):
        if path.endswith(".parquet"):
            shards = _parquet_shards(source, path, record, shard_bytes)
        else:
            shards = _line_shards(source, path, record, shard_bytes)
        try:
            for shard in shards:
                yield replace(shard, share=(done + shard.share * record["bytes"]) / total)
        except OSError as error:
            raise ProgdataError(f"{path}: cannot be read: {error.strerror or error}") from error
        done += record["bytes"]


def _line_shards(
    source: Source, path: str, record: dict[str, Any], shard_bytes: int
) -> Iterator[Shard]:
    shards = _cut_lines(path, record, _DETECT_BYTES)
    columns = _detect_in_rows(shards, source, path)
    for shard in _cut_lines(path, record, shard_bytes):
        yield replace(shard, columns=columns)


def _cut_lines(path: str, record: dict[str, Any], shard_bytes: int) -> Iterator[Shard]:
    """The shards of a JSON lines file, without their columns."""
    first_row = 1
    stem = Path(path).name.removesuffix(".gz").removesuffix(".jsonl")
    with Path(path).open("rb") as file:
        stream = gzip.GzipFile(fileobj=file) if path.endswith(".gz") else file
        for block, lines, oversized in _line_blocks(stream, path, shard_bytes):
            yield Shard(
                f"{record['sha256']}/{first_row}/{lines}",
                path,
                stem,
                first_row,
                first_index=0,
                rows=1 if oversized else sum(map(holds_row, block.split(b"\n"))),
                data=block,
                oversized=oversized,
                share=file.tell() / record["bytes"],
            )
            first_row += lines


def _line_blocks(
    stream: IO[bytes] | gzip.GzipFile, path: str, block_bytes: int
) -> Iterator[tuple[bytes, int, bool]]:
    """Blocks of whole lines, the lines in each, and whether it is the head of an oversized one."""
    held, lines = b"", 0
    try:
        while chunk := stream.read(block_bytes):
            held += chunk
            cut = held.rfind(b"\n") + 1
            if cut:
                block, held = held[:cut], held[cut:]
                count = block.count(b"\n")
                lines += count
                yield block, count, False
            if len(held) > shard_rows.MAX_ROW_BYTES:
                yield held[:RAW_BYTES], 1, True
                lines += 1
                held = _skip_line(stream, block_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ProgdataError(
            f"{path}: the gzip stream is damaged or cut off after line {lines} ({error}); "
            "get the file again"
        ) from error
    if held:
        yield held, held.count(b"\n") + (not held.endswith(b"\n")), False


def _skip_line(stream: IO[bytes] | gzip.GzipFile, chunk_bytes: int) -> bytes:
    """Drop the rest of a line; what was read after it."""
    while chunk := stream.read(chunk_bytes):
        _, newline, rest = chunk.partition(b"\n")
        if newline:
            return rest
    return b""


def _detect_in_rows(shards: Iterator[Shard], source: Source, path: str) -> Columns:
    """The columns of a JSON lines file, whose first rows must hold what the source needs.

    A column may first appear further down, so every known name is looked for in every row.
    """
    found: dict[str, None] = {}
    refused = ""
    for number, row, _ in islice(chain.from_iterable(map(read_rows, shards)), _DETECT_ROWS):
        if isinstance(row, RowRefused):
            refused = refused or f"line {number}: {row.detail}"
        else:
            found |= dict.fromkeys(row)
    if not found:
        what = f"none of the first {_DETECT_ROWS} rows is a JSON object ({refused})"
        raise ProgdataError(
            f"{path}: {what if refused else 'the file holds no row'}; "
            f"expected one object with {needed(source.needs)} a line"
        )
    detect_columns(list(found), source.named_columns, path, source.needs)
    return all_columns(source.named_columns)


def _parquet_shards(
    source: Source, path: str, record: dict[str, Any], shard_bytes: int
) -> Iterator[Shard]:
    first_row = 1
    try:
        with pq.ParquetFile(path) as file:
            columns = detect_columns(
                file.schema_arrow.names, source.named_columns, path, source.needs
            )
            names = sorted({name for names in columns.values() for name in names})
            size = sum(
                file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)
            )
            batch = max(1, shard_bytes * file.metadata.num_rows // max(size, 1))
            if not file.metadata.num_rows:
                raise ProgdataError(f"{path}: the file holds no row")
            for rows in file.iter_batches(batch_size=min(batch, 1 << 16), columns=names):
                last_row = first_row + rows.num_rows - 1
                yield Shard(
                    f"{record['sha256']}/{first_row}/{rows.num_rows}",
                    path,
                    Path(path).stem,
                    first_row,
                    first_index=0,
                    rows=rows.num_rows,
                    data=pa.Table.from_batches([rows]),
                    columns=columns,
                    share=last_row / file.metadata.num_rows,
                )
                first_row = last_row + 1
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise ProgdataError(
            f"{path}: not a whole Parquet file (after row {first_row - 1}): {one_line(error)}"
        ) from error


def _file_record(path: str, needs: Sequence[str]) -> dict[str, Any]:
    """The name, size and sha256 of an input file. Raises ProgdataError for an empty one."""
    try:
        size = Path(path).stat().st_size
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ProgdataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not size:
        raise ProgdataError(f"{path}: the file is empty; expected rows with {needed(needs)}")
    return {"name": path, "bytes": size, "sha256": digest}


def _first_rows(shard: Shard, rows: int) -> Shard:
    """The first `rows` rows of a shard."""
    data = shard.data
    if isinstance(data, bytes):
        lines = data.split(b"\n")
        ends = [number for number, line in enumerate(lines, 1) if holds_row(line)]
        data = b"\n".join(lines[: ends[rows - 1]])
    elif not isinstance(data, int):
        data = data.slice(0, rows)
    return replace(shard, key=f"{shard.key}/first{rows}", data=data, rows=rows)
