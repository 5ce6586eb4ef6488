"""Remove the duplicates of a source: what `progdata dedup` does."""

import json
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from progdata.builders.atomic import atomic_file, write_text
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.nearest import did_you_mean
from progdata.builders.schema import SAMPLING, content_id, problem_id, trace_id
from progdata.builders.sources import Source
from progdata.releases.duplicate_records import Place, count_records, record_removals
from progdata.releases.outputs import refuse_out
from progdata.releases.readable_rows import ReadableRow, UnreadableRow, find_rows, read_readable
from progdata.verifiers.duplicates import Entry, Ints, choose, exact_labels
from progdata.verifiers.near_duplicates import COSINE, MODEL, Near, find_near, load_encoder

METHODS = ("exact", "near")

FILES = ("kept.parquet", "duplicates.jsonl", "unreadable.jsonl", "dedup.json")

BLOCK = 2_000
"""Rows that are written at a time."""

KEPT_PROBLEMS = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("problem", pa.string(), nullable=False),
        pa.field("answer", pa.string()),
        pa.field("verdict", pa.string()),
    ]
)
KEPT_TRACES = pa.schema(
    [
        pa.field("trace_id", pa.string(), nullable=False),
        *KEPT_PROBLEMS,
        pa.field("model", pa.string()),
        pa.field("completion", pa.string(), nullable=False),
        pa.field("finish_reason", pa.string()),
        pa.field("sampling", SAMPLING),
        pa.field("extracted_answer", pa.string()),
    ]
)
"""The tables of the rows that stay. They are themselves sources."""


@dataclass
class _Read:
    """What is held of all rows; a problem that several rows have is held once."""

    entries: list[Entry] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    problems: dict[str, int] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    unreadable: list[UnreadableRow] = field(default_factory=list)


def dedup_source(
    spec: str,
    *,
    method: str = "exact",
    model: str = MODEL,
    threshold: float = COSINE,
    agree: bool = True,
    keep_traces: int | None = None,
    out: Path | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Find the duplicates of a source of problems or traces; the report.

    `near` finds what `exact` does, and more: problems whose embeddings by `model` (any
    sentence-transformers path) have a cosine over `threshold` and, with `agree`, the same numbers,
    formulas and deciding words. Of traces all that differ stay, or `keep_traces` a problem.
    With `out`, the rows that stay go to `kept.parquet`, each removal with its evidence to
    `duplicates.jsonl`, rows that cannot be read to `unreadable.jsonl`, the report to `dedup.json`.
    All four depend on nothing but the rows, the options and the model. Raises UsageError or
    ProgdataError where the source or the model cannot be read.
    """
    _refuse_options(method, threshold, keep_traces, limit)
    begun = time.monotonic()
    source, traces = find_rows(spec)
    if keep_traces and not traces:
        raise UsageError(f"source {spec!r}: holds no completions; leave out --keep-traces")
    refuse_out(out, FILES, source)
    read = _read(source, traces, limit)
    problems = list(read.problems)
    exact = exact_labels(problems)
    found, labels, used = None, exact, {}
    if method == "near":
        encode, used = load_encoder(model)
        found, labels = _near(problems, exact, encode, threshold, agree)
    removals = sorted(
        choose(read.entries, problems, read.ids, exact, labels, keep_traces),
        key=lambda removal: removal.row,
    )
    records = record_removals(removals, read.places, problems, exact, found, threshold)
    near_options = {"model": model, "threshold": threshold, "agree": agree, "versions": used}
    report = {
        "source": spec,
        "method": method,
        **(near_options if found else {}),
        "keep_traces": keep_traces,
        "rows": len(read.entries) + len(read.unreadable),
        "problems": len(set(read.ids)),
        "kept": len(read.entries) - len(removals),
        "removed": len(removals),
        "unreadable": dict(sorted(Counter(row.reason for row in read.unreadable).items())),
        **count_records(records),
        **({"embedded": len(found.vectors), "approximate": found.approximate} if found else {}),
        "progdata": version("progdata"),
    }
    if out is not None:
        removed = {removal.row for removal in removals}
        _write(out, source, traces, limit, read, removed, records, report)
        report["out"] = str(out)
    return report | {"seconds": round(time.monotonic() - begun, 3)}


def _refuse_options(
    method: str, threshold: float, keep_traces: int | None, limit: int | None
) -> None:
    if method not in METHODS:
        raise UsageError(
            f"unknown method {method!r}{did_you_mean(method, METHODS)}; "
            f"choose from {', '.join(METHODS)}"
        )
    if not 0 < threshold < 1:
        raise UsageError(f"threshold {threshold}: give a cosine between 0 and 1, such as {COSINE}")
    for name, number in (("keep-traces", keep_traces), ("limit", limit)):
        if number is not None and number < 1:
            raise UsageError(f"{name} {number}: give a number of at least 1")


def _read(source: Source, traces: bool, limit: int | None) -> _Read:
    read = _Read()
    for row in read_readable(source, limit):
        if isinstance(row, UnreadableRow):
            read.unreadable.append(row)
            continue
        fields = row.fields
        problem = read.problems.setdefault(fields.problem, len(read.problems))
        if problem == len(read.ids):
            read.ids.append(problem_id(fields.problem))
        entry = Entry(problem, read.ids[problem], row.verdict == "correct")
        if traces:
            entry = Entry(
                problem,
                trace_id(fields.problem, fields.completion, fields.model),
                row.verdict == "correct",
                fields.finish_reason == "stop",
                bytes.fromhex(content_id(fields.completion, fields.model or "")),
            )
        read.entries.append(entry)
        read.places.append(Place(row.file, row.row, entry.id, problem, fields.answer))
    if not read.entries:
        raise ProgdataError(
            f"source {source.spec!r}: none of its {len(read.unreadable):,} rows can be read; "
            f"the first: {read.unreadable[0].detail}"
        )
    return read


def _near(
    problems: list[str], exact: Ints, encode: Any, threshold: float, agree: bool
) -> tuple[Near, Ints]:
    """What the search by embeddings finds among problems of different normal forms, by the index
    of the problem; and the labels of the clusters of all."""
    forms = np.unique(exact)
    near = find_near([problems[i] for i in forms], encode, threshold=threshold, agree=agree)
    vectors = {int(forms[place]): vector for place, vector in near.vectors.items()}
    labels = forms[near.labels[np.searchsorted(forms, exact)]]
    return Near(labels, vectors, near.approximate), labels


def _write(
    out: Path,
    source: Source,
    traces: bool,
    limit: int | None,
    read: _Read,
    removed: Collection[int],
    records: list[dict[str, Any]],
    report: dict[str, Any],
) -> None:
    """Write the four files; the report last."""
    rows = (row for row in read_readable(source, limit) if isinstance(row, ReadableRow))
    kept = (row for index, row in enumerate(rows) if index not in removed)
    _write_kept(out / "kept.parquet", KEPT_TRACES if traces else KEPT_PROBLEMS, kept)
    write_text(out / "duplicates.jsonl", "".join(map(_line, records)))
    write_text(out / "unreadable.jsonl", "".join(_line(asdict(row)) for row in read.unreadable))
    write_text(out / "dedup.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _write_kept(path: Path, schema: pa.Schema, rows: Iterator[ReadableRow]) -> None:
    with ExitStack() as files:
        temporary = files.enter_context(atomic_file(path))
        writer = files.enter_context(
            pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True)
        )
        while block := list(islice(rows, BLOCK)):
            writer.write_table(pa.Table.from_pylist(list(map(_kept_row, block)), schema))


def _kept_row(row: ReadableRow) -> dict[str, Any]:
    fields = row.fields
    return fields._asdict() | {
        "trace_id": trace_id(fields.problem, fields.completion, fields.model),
        "problem_id": problem_id(fields.problem),
        "file": row.file,
        "row": row.row,
        "source": row.source,
        "verdict": row.verdict,
        "extracted_answer": row.extracted_answer,
    }
