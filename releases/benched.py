"""Bench contamination checkers on problems of files: what `progdata bench contamination` does."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from progdata.builders.errors import ProgdataError
from progdata.releases.benchmarks import read_benchmarks
from progdata.releases.problems import find_problems, read_problems
from progdata.verifiers.contamination_bench import ROWS, bench_contamination, find_checkers
from progdata.verifiers.near_duplicates import MODEL


def bench_sources(
    profiles: Sequence[str] | None = None,
    checkers: Sequence[str] = (),
    *,
    items: Sequence[str] = (),
    clean: str | None = None,
    rows: int = ROWS,
    seed: int = 0,
    model: str = MODEL,
) -> dict[str, Any]:
    """Plant leaks of benchmarks into the problems of a source; the report.

    `items` are benchmarks as `decontaminate` takes them (files, hub datasets, names), `clean` a
    source of problems that hold nothing of them; what is not given is generated. The rest, and the
    report, are those of `bench_contamination`, with the sources of items and clean problems.
    Raises UsageError or ProgdataError where one cannot be read or holds no problem.
    """
    find_checkers(profiles, checkers)  # a wrong name fails before anything is read
    texts = others = None
    named: dict[str, Any] = {}
    if items:
        read = read_benchmarks(items)
        named["items"], texts = read.found, [item.row.problem for item in read.items]
    if clean is not None:
        named["clean"], others = _read_clean(clean)
    report = bench_contamination(
        profiles, checkers, items=texts, clean=others, rows=rows, seed=seed, model=model
    )
    for what, sources in named.items():
        report[what]["sources"] = sources
    return report


def _read_clean(spec: str) -> tuple[dict[str, Any], list[str]]:
    """What the source of clean problems was found to be, and its problems."""
    source = find_problems(spec)
    unreadable: Counter[str] = Counter()
    problems = [row.problem for row in read_problems(source, unreadable)]
    if not problems:
        raise ProgdataError(f"source {spec!r}: holds no problem")
    record = {"source": source.record, "unreadable": dict(sorted(unreadable.items()))}
    return {spec: record}, problems
