"""The rows of a source that may or may not hold completions, with what a grader said of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from progdata.builders.columns import TRACES, Columns, Fields, RowRefused, read_fields
from progdata.builders.errors import ProgdataError
from progdata.builders.shard_rows import read_rows
from progdata.builders.sources import Source, find_source, read_shards

PROBLEM = ("problem",)


@dataclass(frozen=True, slots=True)
class ReadableRow:
    """A row, and where it stands: the file and its row or line, from 1."""

    file: str
    row: int
    source: str
    fields: Fields
    verdict: str | None
    extracted_answer: str | None


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row that holds no problem, or no completion where the others do; and why."""

    file: str
    row: int
    reason: str
    detail: str


def find_rows(spec: str) -> tuple[Source, bool]:
    """The source that `spec` names, and whether it holds traces rather than problems alone.

    What its first file holds, all of them must. Raises UsageError or ProgdataError where it cannot
    be read.
    """
    source = find_source(spec, needs=TRACES)
    try:
        next(read_shards([source], limit=1), None)
    except ProgdataError:  # no column of completions; or what reading it as problems will say too
        return replace(source, needs=PROBLEM), False
    return source, True


def read_readable(
    source: Source, limit: int | None = None
) -> Iterator[ReadableRow | UnreadableRow]:
    """The rows of a source in order."""
    for shard in read_shards([source], limit=limit):
        for number, row, _ in read_rows(shard):
            try:
                if isinstance(row, RowRefused):
                    raise row
                fields = read_fields(row, shard.columns, source.needs)
            except RowRefused as refused:
                yield UnreadableRow(shard.file, number, refused.reason, refused.detail)
            else:
                yield ReadableRow(
                    shard.file,
                    number,
                    fields.source or shard.source,
                    fields,
                    _said(row, shard.columns, "verdict"),
                    _said(row, shard.columns, "extracted_answer"),
                )


def _said(row: Mapping[str, Any], columns: Columns, field: str) -> str | None:
    values = (row.get(name) for name in columns.get(field, ()))
    return next((value for value in values if isinstance(value, str)), None)
