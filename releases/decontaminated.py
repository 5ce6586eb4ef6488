"""Hold the problems of a source against benchmarks: what `progdata decontaminate` does."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from progdata.builders.atomic import write_text
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.schema import problem_id
from progdata.cards.contamination_tables import contamination_page
from progdata.releases.benchmarks import Item, read_benchmarks
from progdata.releases.outputs import refuse_out
from progdata.releases.problems import (
    ProblemRow,
    copy_without,
    find_problems,
    names_of_copies,
    read_problems,
)
from progdata.verifiers.contamination import BLOCK, SAMPLE, Detector, Match
from progdata.verifiers.contamination_profiles import make_detector
from progdata.verifiers.near_duplicates import MODEL

ACTIONS = ("flag", "remove")


def decontaminate_source(
    spec: str,
    against: Sequence[str],
    *,
    profile: str = "weighted",
    action: str = "flag",
    out: Path | None = None,
    limit: int | None = None,
    model: str = MODEL,
) -> dict[str, Any]:
    """Find the problems of a source that hold text of a benchmark; the report.

    `against` are sources (paths, globs, hub datasets), names or bundles of `benchmarks.yaml`. With
    `out`, the report goes to `contamination.json` and, to be read, `contamination.md`; with
    `action` `remove`, copies of the source's files without the flagged rows go to `out/kept`.
    Raises UsageError or ProgdataError where a source cannot be read or holds no problem.
    """
    if action not in ACTIONS:
        raise UsageError(f"unknown action {action!r}; choose from {', '.join(ACTIONS)}")
    if action == "remove" and out is None:
        raise UsageError("--action remove writes the rows that stay: name a folder with --out")
    begun = time.monotonic()
    source = find_problems(spec)
    refuse_out(out, (), source)
    if action == "remove" and out is not None:
        names_of_copies(source, out / "kept")  # says before the work what cannot be written
    benchmarks = read_benchmarks(against)
    items = benchmarks.items
    sample = islice(read_problems(source, Counter(), limit), SAMPLE)
    texts = [item.row.problem for item in items]
    detector = make_detector(profile, texts, (row.problem for row in sample), model=model)
    unreadable: Counter[str] = Counter()
    rows, matches = 0, []
    for block in _blocks(read_problems(source, unreadable, limit)):
        rows += len(block)
        matches += [_recorded(match, block, items) for match in _look(detector, block)]
    if not rows:
        raise ProgdataError(f"source {spec!r}: holds no problem")
    flagged = {(match["file"], match["row"]) for match in matches}
    report = {
        "source": spec,
        "profile": profile,
        **({"model": model} if profile == "embedding" else {}),
        "action": action,
        "benchmarks": benchmarks.found,
        "rows": rows + unreadable.total(),
        "unreadable": dict(sorted(unreadable.items())),
        "flagged": len(flagged),
        "kept": rows - len(flagged) if action == "remove" else rows,
        "by_benchmark": _rows_by(matches, "benchmark"),
        "by_reason": _rows_by(matches, "reason"),
        "matches": matches,
        "seconds": round(time.monotonic() - begun, 3),
    }
    if out is not None:
        report["out"] = str(out)
        if action == "remove":
            folder = out / "kept"
            names = copy_without(source, lambda file, row: (file, row) in flagged, folder, limit)
            report["files"] = [f"kept/{name}" for name in names]
        write_text(
            out / "contamination.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        )
        write_text(out / "contamination.md", contamination_page(report))
    return report


def _blocks(rows: Iterator[ProblemRow]) -> Iterator[list[ProblemRow]]:
    while block := list(islice(rows, BLOCK)):
        yield block


def _look(detector: Detector, block: Sequence[ProblemRow]) -> Iterator[Match]:
    """The matches of a block; a problem that stands there more than once is looked at once."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(block):
        places.setdefault(row.problem, []).append(place)
    texts = list(places)
    for match in detector.look(texts):
        for place in places[texts[match.row]]:
            yield replace(match, row=place)


def _recorded(match: Match, block: Sequence[ProblemRow], items: Sequence[Item]) -> dict[str, Any]:
    """A match as the report keeps it."""
    row, item = block[match.row], items[match.item]
    return {
        "file": row.file,
        "row": row.row,
        "problem_id": problem_id(row.problem),
        "benchmark": item.benchmark,
        "benchmark_row": item.row.row,
        "benchmark_problem_id": problem_id(item.row.problem),
        "reason": match.reason,
        "score": match.score,
        "row_text": match.row_text,
        "item_text": match.item_text,
    }


def _rows_by(matches: Sequence[dict[str, Any]], field: str) -> dict[str, int]:
    """The flagged rows by a field of their matches; a row may count in more than one."""
    pairs = {(match[field], match["file"], match["row"]) for match in matches}
    return dict(sorted(Counter(name for name, *_ in pairs).items()))
