"""Lint the golds of a source of problems: what `progdata lint` does."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from progdata.builders.atomic import atomic_file
from progdata.builders.columns import PROBLEMS, RowRefused, read_fields
from progdata.builders.errors import UsageError
from progdata.builders.shard_rows import Shard, read_rows
from progdata.builders.sources import Source, find_source, read_shards
from progdata.verifiers.grading import MAX_WORKERS, Budget, shared_pool
from progdata.verifiers.lint import INFORMATION, Finding, Place, SourceRow, lint
from progdata.verifiers.pool import CPU_SECONDS, MEMORY_MB
from progdata.verifiers.verify_rows import grading_versions

SHOWN = 3
"""Findings of each kind that the report itself shows."""


def lint_source(
    spec: str,
    *,
    out: Path | None = None,
    workers: int | None = None,
    cpu_seconds: float = CPU_SECONDS,
    memory_mb: int = MEMORY_MB,
    limit: int | None = None,
) -> dict[str, Any]:
    """Check the golds of a source of problems, with or without completions; the report.

    The findings go to `out` (JSON lines, in input order) if given. The budget is that of one gold,
    or of one pair of golds of the same problem. Raises UsageError or ProgdataError where the
    source cannot be read, or `out` is part of it.
    """
    begun = time.monotonic()
    budget = Budget(cpu_seconds, memory_mb)
    _refuse_numbers(workers, limit)
    source = find_source(spec, needs=PROBLEMS)
    with _findings_file(out, source) as file:
        pool = shared_pool(workers or min(os.cpu_count() or 1, MAX_WORKERS))
        found = lint(_rows(read_shards([source], limit=limit)), pool, budget)
        if file is not None:
            for finding in found.findings:
                file.write(json.dumps(finding.as_dict(), ensure_ascii=False) + "\n")
    report = {
        "source": spec,
        "rows": found.rows,
        "problems": found.problems,
        "golds": found.golds,
        "faulty": found.faulty,
        "counts": found.counts,
        "examples": _examples(found.findings),
        "budget": asdict(budget),
        "versions": grading_versions(),
        "seconds": round(time.monotonic() - begun, 3),
    }
    return report | ({"out": str(out)} if out else {})


def _refuse_numbers(workers: int | None, limit: int | None) -> None:
    for name, number in (("workers", workers), ("limit", limit)):
        if number is not None and number < 1:
            raise UsageError(f"{name} {number}: give a number of at least 1")


@contextmanager
def _findings_file(out: Path | None, source: Source) -> Iterator[IO[str] | None]:
    """The file of findings, opened before the work is done; visible once it is whole."""
    if out is None:
        yield None
        return
    if out.suffix != ".jsonl" or out.is_dir():
        raise UsageError(f"{out}: the findings are JSON lines; name a .jsonl file")
    if out.exists() and any(out.samefile(path) for path in source.paths):
        raise UsageError(f"{out}: the findings would replace their source; name another file")
    with atomic_file(out) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


def _rows(shards: Iterator[Shard]) -> Iterator[SourceRow]:
    for shard in shards:
        for number, row, _ in read_rows(shard):
            try:
                if isinstance(row, RowRefused):
                    raise row
                fields = read_fields(row, shard.columns, PROBLEMS)
            except RowRefused as refused:
                place = Place(shard.file, number, None)
                yield SourceRow(place, "", f"{refused.reason}: {refused.detail}")
            else:
                yield SourceRow(Place(shard.file, number, fields.answer), fields.problem)


def _examples(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The first findings of each kind of fault."""
    shown: dict[str, list[Finding]] = {}
    for finding in findings:
        own = shown.setdefault(finding.kind, [])
        if finding.kind not in INFORMATION and len(own) < SHOWN:
            own.append(finding)
    return [finding.as_dict() for own in shown.values() for finding in own]
