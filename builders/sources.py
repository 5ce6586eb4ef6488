"""Sources of traces: the built-in countdown, files, and hub datasets, cut into shards of rows.

A source only cuts: it hands out shards in input order, each with the bytes or rows it covers and a
key made of the content they come from. Reading a row's fields is the work of a shard's stage.
"""

import glob
import gzip
import hashlib
import json
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

from progdata.builders.columns import Columns, RowRefused, all_columns, detect_columns
from progdata.builders.countdown import traces
from progdata.builders.errors import ProgdataError, UsageError

SHARD_BYTES = 8 << 20
"""Bytes of input that a shard covers by default."""

MAX_ROW_BYTES = 64 << 20
"""A longer row is refused as `row_too_large`."""

COUNTDOWN_ROWS = 2_000
"""Countdown traces in a shard of the default size."""

_DETECT_ROWS = 100
_DETECT_BYTES = 1 << 20
_RAW_BYTES = 1024  # what is kept of a row that is too large
_ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
_FORMS = (
    "countdown:N, a path or glob of .jsonl, .jsonl.gz, .parquet, "
    "or hf:org/name[:config][@revision][#split]"
)
_HF = re.compile(
    r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<config>[\w.+-]+))?"
    r"(?:@(?P<revision>[\w./-]+))?(?:#(?P<split>[\w.-]+))?"
)


@dataclass(frozen=True)
class Shard:
    """A run of input rows, still undecoded.

    `key` names the content; `first_row` counts in the file, from 1; `first_index` counts over
    all sources, from 0. `data` is a block of JSON lines, a table, or a countdown seed; blank
    lines are no rows.
    """

    key: str
    file: str
    source: str
    first_row: int
    first_index: int
    rows: int
    data: bytes | pa.Table | int
    columns: Columns = field(default_factory=dict)
    oversized: bool = False
    share: float = 0.0


Row = Mapping[str, Any] | RowRefused


@dataclass(frozen=True)
class Source:
    """Where traces come from: `spec` as the user wrote it, and what `record` says of its bytes."""

    spec: str
    kind: str
    record: dict[str, Any]
    named_columns: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()


def find_source(spec: str, *, seed: int = 0, columns: Mapping[str, str] | None = None) -> Source:
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
        return _find_hub_source(spec, named)
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
    files = [_file_record(path) for path in paths]
    return Source(spec, "files", {"spec": spec, "files": files}, named, tuple(paths))


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


def read_rows(shard: Shard) -> Iterator[tuple[int, Row, str | None]]:
    """Each row of a shard with its number in the file; a refused one with its raw text."""
    if isinstance(shard.data, bytes):
        yield from _read_lines(shard, shard.data)
    elif isinstance(shard.data, int):
        start = shard.first_row - 1
        for offset, trace in enumerate(traces(shard.data, start, start + shard.rows)):
            row = {name: getattr(trace, name) for name in trace.__slots__}
            yield shard.first_row + offset, row, None
    else:
        yield from _read_table(shard, shard.data)


def _shards_of(source: Source, shard_bytes: int) -> Iterator[Shard]:
    if source.kind == "countdown":
        return _countdown_shards(source, max(1, COUNTDOWN_ROWS * shard_bytes // SHARD_BYTES))
    if source.kind == "hub":
        return _hub_shards(source, shard_bytes)
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
    columns = _detect_in_rows(shards, source.named_columns, path)
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
                rows=1 if oversized else sum(map(_holds_row, block.split(b"\n"))),
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
            if len(held) > MAX_ROW_BYTES:
                yield held[:_RAW_BYTES], 1, True
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


def _detect_in_rows(shards: Iterator[Shard], named: Mapping[str, str], path: str) -> Columns:
    """The columns of a JSON lines file, whose first rows must hold a problem and a completion.

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
            "expected one object with a problem and a completion a line"
        )
    detect_columns(list(found), named, path)
    return all_columns(named)


def _read_lines(shard: Shard, block: bytes) -> Iterator[tuple[int, Row, str | None]]:
    if shard.oversized:
        yield shard.first_row, *_too_large(block)
        return
    for number, line in enumerate(block.split(b"\n"), shard.first_row):
        if not _holds_row(line):
            continue
        if len(line) > MAX_ROW_BYTES:
            yield number, *_too_large(line)
            continue
        row = _parse_line(line)
        yield number, row, line.decode("utf-8", "replace") if isinstance(row, RowRefused) else None


def _holds_row(line: bytes) -> bool:
    return bool(line) and not line.isspace()


def _too_large(row: bytes) -> tuple[RowRefused, str]:
    detail = f"the row is longer than {MAX_ROW_BYTES:,} bytes"
    return RowRefused("row_too_large", detail), row[:_RAW_BYTES].decode("utf-8", "replace")


def _parse_line(line: bytes) -> Row:
    """A JSON line as a row."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return RowRefused("invalid_utf8", f"byte {error.start} of the line: {error.reason}")
    except (ValueError, RecursionError) as error:
        return RowRefused("invalid_json", str(error)[:200])
    if not isinstance(row, dict):
        return RowRefused("not_an_object", f"expected a JSON object, found {type(row).__name__}")
    return row


def _read_table(shard: Shard, table: pa.Table) -> Iterator[tuple[int, Row, str | None]]:
    large = table.nbytes > MAX_ROW_BYTES
    for number, (row, raw) in enumerate(_decoded(table), shard.first_row):
        if large and _text_bytes(row) > MAX_ROW_BYTES:
            yield number, *_too_large(json.dumps(row, default=repr).encode())
        else:
            yield number, row, raw


def _decoded(table: pa.Table) -> Iterator[tuple[Row, str | None]]:
    """The rows of a table; one that holds invalid UTF-8 is refused, with the text it is in."""
    try:
        yield from ((row, None) for row in table.to_pylist())
    except UnicodeDecodeError as error:
        if table.num_rows > 1:
            for index in range(table.num_rows):
                yield from _decoded(table.slice(index, 1))
            return
        detail = f"byte {error.start} of a text: {error.reason}"
        yield RowRefused("invalid_utf8", detail), error.object.decode("utf-8", "replace")


def _text_bytes(value: Any) -> int:
    """The bytes of all texts in a value, in UTF-8."""
    if isinstance(value, bytes) or (isinstance(value, str) and value.isascii()):
        return len(value)
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(_text_bytes, value)) if isinstance(value, list) else 0


def _parquet_shards(
    source: Source, path: str, record: dict[str, Any], shard_bytes: int
) -> Iterator[Shard]:
    first_row = 1
    try:
        with pq.ParquetFile(path) as file:
            columns = detect_columns(file.schema_arrow.names, source.named_columns, path)
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
            f"{path}: not a whole Parquet file (after row {first_row - 1}): {_one_line(error)}"
        ) from error


def _find_hub_source(spec: str, named: Mapping[str, str]) -> Source:
    """A hub dataset, its revision resolved to a commit."""
    parts = _HF.fullmatch(spec)
    if not parts:
        raise UsageError(f"source {spec!r}: write hf:org/name[:config][@revision][#split]")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        info = HfApi().dataset_info(parts["repo"], revision=parts["revision"])
    except (HfHubHTTPError, OSError) as error:
        raise ProgdataError(f"source {spec!r}: {_one_line(error)}") from error
    record = {
        "spec": spec,
        "repo": parts["repo"],
        "config": parts["config"],
        "split": parts["split"] or "train",
        "revision": info.sha,
    }
    return Source(spec, "hub", record, named)


def _hub_shards(source: Source, shard_bytes: int) -> Iterator[Shard]:
    """The rows of a hub dataset, streamed by the `datasets` library."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    record = source.record
    origin = "/".join(str(record[name]) for name in ("repo", "config", "split", "revision"))
    first_row, columns = 1, None
    try:
        dataset = load_dataset(
            record["repo"],
            record["config"],
            split=record["split"],
            revision=record["revision"],
            streaming=True,
        )
        batches = dataset.with_format("arrow").iter(batch_size=64)
        for table in _batches_of(batches, shard_bytes):
            columns = columns or detect_columns(
                table.column_names, source.named_columns, source.spec
            )
            names = sorted({name for names in columns.values() for name in names})
            key = f"{origin}/{first_row}/{table.num_rows}"
            name = record["repo"]
            rows = table.select(names)
            yield Shard(key, source.spec, name, first_row, 0, table.num_rows, rows, columns)
            first_row += table.num_rows
    except (DatasetNotFoundError, OSError, ValueError, pa.ArrowInvalid) as error:
        raise ProgdataError(f"source {source.spec!r}: {_one_line(error)}") from error


def _batches_of(tables: Iterator[pa.Table], size: int) -> Iterator[pa.Table]:
    """Small tables joined to tables of about `size` bytes."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(part.nbytes for part in held) >= size:
            yield pa.concat_tables(held).combine_chunks()
            held = []
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _file_record(path: str) -> dict[str, Any]:
    """The name, size and sha256 of an input file. Raises ProgdataError for an empty one."""
    try:
        size = Path(path).stat().st_size
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ProgdataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not size:
        raise ProgdataError(
            f"{path}: the file is empty; expected rows with a problem and a completion"
        )
    return {"name": path, "bytes": size, "sha256": digest}


def _first_rows(shard: Shard, rows: int) -> Shard:
    """The first `rows` rows of a shard."""
    data = shard.data
    if isinstance(data, bytes):
        lines = data.split(b"\n")
        ends = [number for number, line in enumerate(lines, 1) if _holds_row(line)]
        data = b"\n".join(lines[: ends[rows - 1]])
    elif not isinstance(data, int):
        data = data.slice(0, rows)
    return replace(shard, key=f"{shard.key}/first{rows}", data=data, rows=rows)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
