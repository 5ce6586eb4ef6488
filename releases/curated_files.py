"""The files that `progdata curate --out` writes: kept traces, problems, dropped rows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from progdata.builders.atomic import atomic_file
from progdata.builders.sources import Source
from progdata.releases.observed import Observed
from progdata.releases.plan import regroup
from progdata.releases.readable_rows import UnreadableRow, read_readable
from progdata.releases.verified import VERIFIED
from progdata.verifiers.selection import Selection

ROWS = 2_000
"""Rows in a row group."""

MEASURES = pa.schema(
    [
        pa.field("num_tokens", pa.int64()),  # of the thinking
        pa.field("cut", pa.string()),  # why it is not finished; null where it is
        pa.field("traces", pa.int64()),  # of its problem, and so on
        pa.field("decided", pa.int64()),
        pa.field("pass_rate", pa.float64()),
        pa.field("pass_rate_cv", pa.float64()),
        pa.field("mean_tokens", pa.float64()),
        pa.field("finished_share", pa.float64()),
        pa.field("length_bin", pa.string()),
        pa.field("majority_answer", pa.string()),
        pa.field("majority_share", pa.float64()),
        pa.field("label", pa.string()),
        pa.field("label_source", pa.string()),  # gold or majority
    ]
)
"""What `curated.parquet` says beside what `verify --out` writes of a trace."""

_GRADED = [own.name for own in VERIFIED if own.name != "cpu_seconds"]
"""The columns that are the same in every run."""


def write_traces(
    path: Path, graded: Path, observed: Observed, problems: pl.DataFrame, selection: Selection
) -> None:
    """Write the kept rows of the table `graded` with their measures, in input order."""
    own = observed.traces.select("row", "problem_id", "cut", num_tokens="tokens")
    measures = (
        own.join(
            problems.rename({"cut": "cut_traces"}),
            on="problem_id",
            how="left",
            maintain_order="left",
        )
        .with_columns(kept=pl.col("row").is_in(selection.kept.implode()))
        .select("kept", *(pl.col(name) for name in MEASURES.names))
    )
    schema = pa.schema([*(VERIFIED.field(name) for name in _GRADED), *MEASURES])
    with (
        atomic_file(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for table in regroup(_kept(graded, measures), ROWS):
            writer.write_table(table)


def _kept(graded: Path, measures: pl.DataFrame) -> Iterator[pa.Table]:
    start = 0
    with pq.ParquetFile(graded) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=_GRADED)
            own = measures.slice(start, rows.num_rows)
            start += rows.num_rows
            added = own.drop("kept").to_arrow().cast(MEASURES)
            for field, column in zip(MEASURES, added.itercolumns(), strict=True):
                rows = rows.append_column(field, column)
            yield rows.filter(own["kept"].to_arrow())


def write_problems(
    path: Path, observed: Observed, problems: pl.DataFrame, selection: Selection
) -> None:
    """Write the measures of all problems, with `kept`: how many of their traces are."""
    kept = observed.traces.filter(pl.col("row").is_in(selection.kept.implode()))
    counts = kept.group_by("problem_id").agg(kept=pl.len())
    table = problems.join(counts, on="problem_id", how="left", maintain_order="left")
    with atomic_file(path) as temporary:
        table.with_columns(pl.col("kept").fill_null(0)).write_parquet(temporary)


def write_dropped(
    path: Path, unreadable: Iterator[dict[str, Any]], observed: Observed, selection: Selection
) -> None:
    """Write a JSON line for each row that could not be read (step `read`) or was dropped."""
    places = observed.traces.select("row", "file", "place", "trace_id", "problem_id")
    dropped = selection.dropped.join(places, on="row", how="left", maintain_order="left").select(
        "file", "place", "trace_id", "problem_id", "step", "reason", "evidence"
    )
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for line in unreadable:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        for line in dropped.rename({"place": "row"}).iter_rows(named=True):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def refused_rows(source: Source, limit: int | None) -> Iterator[dict[str, Any]]:
    """The rows of a source that cannot be read as traces, as lines of `dropped.jsonl`."""
    for row in read_readable(source, limit):
        if isinstance(row, UnreadableRow):
            place = {"file": row.file, "row": row.row, "trace_id": None, "problem_id": None}
            yield place | {"step": "read", "reason": row.reason, "evidence": row.detail}
