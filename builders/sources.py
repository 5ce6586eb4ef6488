"""Sources of traces: the built-in countdown, files, and hub datasets, cut into shards of rows.

A source only cuts: it hands out shards in input order, each with the bytes or rows it covers and a
key made of the content they come from. Reading a row's fields is the work of a shard's stage.
"""

import glob
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from progdata.builders.columns import Columns, RowRefused, detect_columns
from progdata.builders.countdown import traces
from progdata.builders.errors import ProgdataError, UsageError

SHARD_BYTES = 8 << 20
"""Bytes of input that a shard covers by default."""

MAX_ROW_BYTES = 64 << 20
"""A longer row is refused as `row_too_large`."""

COUNTDOWN_ROWS = 2_000
"""Countdown traces in a shard of the default size."""

_DETECT_ROWS = 100
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
    all sources, from 0. `data` is a block of JSON lines, a table, or a countdown seed.
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
    if spec.startswith("countdown"):
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
    files = [_file_record(path) for path in paths]
    return Source(spec, "files", {"spec": spec, "files": files}, named, tuple(paths))


def read_shards(
    sources: Sequence[Source], *, limit: int | None = None, shard_bytes: int = SHARD_BYTES
) -> Iterator[Shard]:
    """The shards of all sources in order, cut after `limit` rows."""
    index = 0
    for number, source in enumerate(sources):
        for shard in _shards_of(source, shard_bytes):
            share = (number + shard.share) / len(sources)
            shard = replace(shard, first_index=index, share=share)
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
        for offset, row in enumerate(shard.data.to_pylist()):
            yield shard.first_row + offset, row, None


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
        elif path.endswith((".jsonl", ".jsonl.gz")):
            shards = _line_shards(source, path, record, shard_bytes)
        else:
            raise UsageError(f"{path}: not a .jsonl, .jsonl.gz or .parquet file")
        try:
            for shard in shards:
                yield replace(shard, share=(done + shard.share * record["bytes"]) / total)
        except OSError as error:
            raise ProgdataError(f"{path}: cannot be read: {error.strerror or error}") from error
        done += record["bytes"]


def _line_shards(
    source: Source, path: str, record: dict[str, Any], shard_bytes: int
) -> Iterator[Shard]:
    columns: Columns | None = None
    first_row = 1
    stem = Path(path).name.removesuffix(".gz").removesuffix(".jsonl")
    with Path(path).open("rb") as file:
        stream = gzip.GzipFile(fileobj=file) if path.endswith(".gz") else file
        for block, rows, oversized in _line_blocks(stream, path, shard_bytes):
            if columns is None and not oversized:
                columns = _detect_in_lines(block, source.named_columns, path)
            yield Shard(
                f"{record['sha256']}/{first_row}/{rows}",
                path,
                stem,
                first_row,
                first_index=0,
                rows=rows,
                data=block,
                columns=columns or {},
                oversized=oversized,
                share=file.tell() / record["bytes"],
            )
            first_row += rows


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
                yield held[:1024], 1, True
                lines += 1
                held = _skip_line(stream, block_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ProgdataError(
            f"{path}: the gzip stream is damaged or cut off after line {lines} ({error}); "
            "get the file again"
        ) from error
    if held:
        yield held, 1, False


def _skip_line(stream: IO[bytes] | gzip.GzipFile, chunk_bytes: int) -> bytes:
    """Drop the rest of a line; what was read after it."""
    while chunk := stream.read(chunk_bytes):
        _, newline, rest = chunk.partition(b"\n")
        if newline:
            return rest
    return b""


def _detect_in_lines(block: bytes, named: Mapping[str, str], path: str) -> Columns:
    """The columns of a JSON lines file, from the objects among its first lines."""
    found: dict[str, None] = {}
    for line in islice(block.split(b"\n"), _DETECT_ROWS):
        row = _parse_line(line)
        if isinstance(row, dict):
            found |= dict.fromkeys(row)
    if not found:
        raise ProgdataError(
            f"{path}: none of the first {_DETECT_ROWS} lines is a JSON object; "
            "expected one object with a problem and a completion a line"
        )
    return detect_columns(list(found), named, path)


def _read_lines(shard: Shard, block: bytes) -> Iterator[tuple[int, Row, str | None]]:
    if shard.oversized:
        detail = f"the row is longer than {MAX_ROW_BYTES >> 20} MiB"
        raw = block.decode("utf-8", "replace")
        yield shard.first_row, RowRefused("row_too_large", detail), raw
        return
    lines = block.split(b"\n")
    for number, line in enumerate(lines, shard.first_row):
        if not line.strip():
            continue
        row = _parse_line(line)
        yield number, row, line.decode("utf-8", "replace") if isinstance(row, RowRefused) else None


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
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        reason = str(error).splitlines()[0]
        raise ProgdataError(
            f"{path}: not a whole Parquet file (after row {first_row - 1}): {reason}"
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
        data = b"\n".join(data.split(b"\n", rows)[:rows])
    elif not isinstance(data, int):
        data = data.slice(0, rows)
    return replace(shard, key=f"{shard.key}/first{rows}", data=data, rows=rows)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
