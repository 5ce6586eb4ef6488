"""Shards of source rows, still undecoded, and the reading of their rows.

A row that cannot be read is a `RowRefused` in its place: nothing is lost, and nothing stops.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from progdata.builders.columns import Columns, RowRefused
from progdata.builders.countdown import traces

MAX_ROW_BYTES = 64 << 20
"""A longer row is refused as `row_too_large`."""

RAW_BYTES = 1024
"""Bytes that are kept of a row that is too large."""


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


def _read_lines(shard: Shard, block: bytes) -> Iterator[tuple[int, Row, str | None]]:
    if shard.oversized:
        yield shard.first_row, *_too_large(block)
        return
    for number, line in enumerate(block.split(b"\n"), shard.first_row):
        if not holds_row(line):
            continue
        if len(line) > MAX_ROW_BYTES:
            yield number, *_too_large(line)
            continue
        row = _parse_line(line)
        yield number, row, line.decode("utf-8", "replace") if isinstance(row, RowRefused) else None


def holds_row(line: bytes) -> bool:
    return bool(line) and not line.isspace()


def _too_large(row: bytes) -> tuple[RowRefused, str]:
    detail = f"the row is longer than {MAX_ROW_BYTES:,} bytes"
    return RowRefused("row_too_large", detail), row[:RAW_BYTES].decode("utf-8", "replace")


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
