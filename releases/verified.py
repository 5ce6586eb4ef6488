"""Grade the answers of a source or a build: what `progdata verify` does."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from heapq import nlargest
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from progdata.builders.atomic import atomic_file, write_text
from progdata.builders.columns import Fields, RowRefused, read_fields
from progdata.builders.errors import UsageError
from progdata.builders.nearest import did_you_mean
from progdata.builders.schema import SAMPLING, problem_id, trace_id
from progdata.builders.shard_rows import read_rows
from progdata.builders.sources import Source, find_source, read_shards
from progdata.cards.statistics import accuracy_of
from progdata.releases.lockfile import read_lock
from progdata.releases.outputs import refuse_out
from progdata.releases.workspace import LOCK_FILE
from progdata.verifiers.grading import Budget, grade_all
from progdata.verifiers.verdicts import GRADERS, GraderName, Verdict
from progdata.verifiers.verify_rows import UNGRADED, grading_versions

BLOCK = 2_000
"""Rows that are graded and written at a time."""

SLOWEST, SHOWN_DISAGREEMENTS = 10, 50

_GRADED = [
    pa.field("verdict", pa.string()),
    pa.field("extracted_answer", pa.string()),
    pa.field(
        "answer_span", pa.struct([pa.field("start", pa.int32()), pa.field("end", pa.int32())])
    ),
    pa.field("extraction", pa.string()),
    pa.field("rule", pa.string()),
    pa.field("gold_normal", pa.string()),
    pa.field("answer_normal", pa.string()),
    pa.field("cpu_seconds", pa.float32()),
]

FILES = ("verified.parquet", "verification.json")

VERIFIED = pa.schema(
    [
        pa.field("trace_id", pa.string(), nullable=False),
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("model", pa.string()),
        pa.field("problem", pa.string(), nullable=False),
        pa.field("answer", pa.string()),
        pa.field("completion", pa.string(), nullable=False),
        pa.field("finish_reason", pa.string()),
        pa.field("sampling", SAMPLING),
        *_GRADED,
    ]
)
"""The table that `verify --out` writes; with both graders, `deepscaler_verdict` and
`deepscaler_rule` too. It is itself a source."""


Found = dict[GraderName, list[Verdict | None]]
"""The verdicts of each grader on some rows; None where a row has no gold."""


@dataclass
class _Tally:
    """What one grader found so far."""

    verdicts: Counter[str] = field(default_factory=Counter)
    by_source: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_model: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    slowest: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Row:
    """A readable row, and where it stands."""

    file: str
    row: int
    source: str
    fields: Fields


def verify_source(
    spec: str,
    *,
    grader: str = "math-verify",
    out: Path | None = None,
    workers: int | None = None,
    budget: Budget = Budget(),  # noqa: B008, frozen
    limit: int | None = None,
) -> dict[str, Any]:
    """Grade every trace of a source, or of a build whose folder `spec` is; the report.

    `grader` is a grader's name or `both`. The traces with their verdicts go to
    `out/verified.parquet`, the report to `out/verification.json`, if `out` is given. A trace
    without `</think>` was cut off, and has no answer. Raises UsageError or ProgdataError where the
    source cannot be read.
    """
    graders = _named_graders(grader)
    begun = time.monotonic()
    source = find_traces(spec)
    refuse_out(out, FILES, source)
    unreadable: Counter[str] = Counter()
    tallies = {name: _Tally() for name in graders}
    disagreements: list[dict[str, Any]] = []
    rows = disagreed = 0
    with ExitStack() as files:
        writer = _open(files, out, graders)
        for block in _blocks(_read(read_shards([source], limit=limit), unreadable)):
            found: Found = {name: _grade(block, name, workers, budget) for name in graders}
            rows += len(block)
            for name in graders:
                _count(tallies[name], block, found[name])
            differing = list(_disagreeing(block, found))
            disagreed += len(differing)
            disagreements += differing[: SHOWN_DISAGREEMENTS - len(disagreements)]
            if writer is not None:
                writer.write_table(_table(block, found, writer.schema))
    seconds = time.monotonic() - begun
    report = {
        "source": spec,
        "rows": rows + unreadable.total(),
        "graded": rows - tallies[graders[0]].verdicts[UNGRADED],
        "ungraded": tallies[graders[0]].verdicts[UNGRADED],
        "unreadable": dict(sorted(unreadable.items())),
        "grader": grader,
        "budget": asdict(budget),
        "versions": grading_versions(),
        **_grader_report(tallies[graders[0]]),
        "graders": {name: _grader_report(tally) for name, tally in tallies.items()},
        "disagreements": {"count": disagreed, "shown": disagreements},
        "seconds": round(seconds, 3),
    }
    if out is not None:
        report["out"] = str(out)
        text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        write_text(out / "verification.json", text)
    return report


def _named_graders(name: str) -> tuple[GraderName, ...]:
    """The graders that a name stands for. Raises UsageError for an unknown one."""
    chosen: tuple[GraderName, ...] = tuple(own for own in GRADERS if name in (own, "both"))
    if not chosen:
        choices = (*GRADERS, "both")
        raise UsageError(
            f"unknown grader {name!r}{did_you_mean(name, choices)}; "
            f"choose from {', '.join(choices)}"
        )
    return chosen


def find_traces(spec: str) -> Source:
    """The source that `spec` names, or the tables of the build whose folder it is."""
    return find_source(_files_of_build(spec) or spec)


def _files_of_build(spec: str) -> str | None:
    """The files of the first variant, where `spec` is the folder of a build: all have the same
    responses."""
    folder = Path(spec)
    if not (folder / LOCK_FILE).is_file():
        return None
    variant = read_lock(folder).recipe.variants[0].name
    return str(folder / "data" / variant / "*.parquet")


def _read(shards: Iterator[Any], unreadable: Counter[str]) -> Iterator[_Row]:
    """The readable rows; the reasons of the others are counted."""
    for shard in shards:
        for number, row, _ in read_rows(shard):
            try:
                if isinstance(row, RowRefused):
                    raise row
                fields = read_fields(row, shard.columns)
            except RowRefused as refused:
                unreadable[refused.reason] += 1
            else:
                yield _Row(shard.file, number, fields.source or shard.source, fields)


def _blocks(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    while block := list(islice(rows, BLOCK)):
        yield block


def _grade(
    block: Sequence[_Row], grader: GraderName, workers: int | None, budget: Budget
) -> list[Verdict | None]:
    """The verdict of each row; None where it has no gold."""
    graded = [row.fields for row in block if row.fields.answer is not None]
    found = iter(
        grade_all(
            golds=[str(fields.answer) for fields in graded],
            completions=[fields.completion for fields in graded],
            grader=grader,
            workers=workers,
            thinks=True,
            **asdict(budget),
        )
    )
    return [None if row.fields.answer is None else next(found) for row in block]


def _count(tally: _Tally, block: Sequence[_Row], verdicts: Sequence[Verdict | None]) -> None:
    for row, verdict in zip(block, verdicts, strict=True):
        status = verdict.status if verdict else UNGRADED
        tally.verdicts[status] += 1
        tally.by_source[row.source][status] += 1
        tally.by_model[row.fields.model or "unknown"][status] += 1
    slow = [
        {"seconds": round(verdict.cpu_seconds, 3), "status": verdict.status, **_evidence(row)}
        | {"extracted_answer": verdict.extracted_answer, "rule": verdict.rule}
        for row, verdict in zip(block, verdicts, strict=True)
        if verdict is not None and verdict.cpu_seconds
    ]
    tally.slowest = nlargest(SLOWEST, tally.slowest + slow, key=lambda own: own["seconds"])


def _disagreeing(block: Sequence[_Row], found: Found) -> Iterator[dict[str, Any]]:
    """The rows that one grader calls correct and the other does not."""
    for row, *verdicts in zip(block, *found.values(), strict=True):
        if len({verdict.correct for verdict in verdicts if verdict is not None}) > 1:
            yield _evidence(row) | {
                name: {
                    "status": own.status,
                    "extracted_answer": own.extracted_answer,
                    "rule": own.rule,
                }
                for name, own in zip(found, verdicts, strict=True)
                if own is not None
            }


def _evidence(row: _Row) -> dict[str, Any]:
    return {"file": row.file, "row": row.row, "gold": row.fields.answer}


def _grader_report(tally: _Tally) -> dict[str, Any]:
    return accuracy_of(_statuses(tally.verdicts)) | {
        "by_source": _by_name(tally.by_source),
        "by_model": _by_name(tally.by_model),
        "slowest": tally.slowest,
    }


def _by_name(counts: dict[str, Counter[str]]) -> dict[str, Any]:
    return {name: accuracy_of(_statuses(own)) for name, own in sorted(counts.items())}


def _statuses(counts: Counter[str]) -> dict[str, int]:
    return {name: rows for name, rows in counts.items() if rows}


def _open(
    files: ExitStack, out: Path | None, graders: Sequence[GraderName]
) -> pq.ParquetWriter | None:
    """The writer of `verified.parquet`, which appears when `files` closes without an error."""
    if out is None:
        return None
    out.mkdir(parents=True, exist_ok=True)
    schema = VERIFIED
    for name in graders[1:]:
        schema = schema.append(pa.field(f"{name}_verdict", pa.string()))
        schema = schema.append(pa.field(f"{name}_rule", pa.string()))
    temporary = files.enter_context(atomic_file(out / "verified.parquet"))
    return files.enter_context(
        pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True)
    )


def _table(block: Sequence[_Row], found: Found, schema: pa.Schema) -> pa.Table:
    first, *others = found
    rows = []
    for i, row in enumerate(block):
        fields = row.fields
        values = fields._asdict() | {
            "trace_id": trace_id(fields.problem, fields.completion, fields.model),
            "problem_id": problem_id(fields.problem),
            "file": row.file,
            "row": row.row,
            "source": row.source,
        }
        values |= _columns(found[first][i])
        for name in others:
            own = found[name][i]
            values |= {f"{name}_verdict": own and own.status, f"{name}_rule": own and own.rule}
        rows.append(values)
    return pa.Table.from_pylist(rows, schema)


def _columns(verdict: Verdict | None) -> dict[str, Any]:
    """A verdict as the columns of VERIFIED."""
    if verdict is None:
        return {}
    values = asdict(verdict)
    span = values.pop("span")
    return values | {
        "verdict": values.pop("status"),
        "answer_span": {"start": span[0], "end": span[1]} if span else None,
    }
