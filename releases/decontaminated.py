"""Hold the problems of a source against benchmarks: what `progdata decontaminate` does."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from progdata.builders.atomic import write_text
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.nearest import did_you_mean
from progdata.builders.schema import problem_id
from progdata.builders.sources import Source
from progdata.cards.contamination_tables import contamination_page
from progdata.releases.problems import ProblemRow, copy_without, find_problems, read_problems
from progdata.verifiers.contamination import BLOCK, SAMPLE, Detector, Match
from progdata.verifiers.contamination_profiles import make_detector
from progdata.verifiers.near_duplicates import MODEL

ACTIONS = ("flag", "remove")


@dataclass(frozen=True)
class Item:
    """A problem of a benchmark."""

    benchmark: str
    row: ProblemRow


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
    items, benchmarks = read_benchmarks(against)
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
        "benchmarks": benchmarks,
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


def read_benchmarks(against: Sequence[str]) -> tuple[list[Item], dict[str, Any]]:
    """The items of benchmarks, and for each what it was found to be: its source's record, its
    items, and how many of its rows could not be read.

    Raises UsageError for an unknown name, ProgdataError for a benchmark without a problem.
    """
    if not against:
        raise UsageError("name at least one benchmark with --against")
    items: list[Item] = []
    found: dict[str, Any] = {}
    for name, source in named_benchmarks(against):
        unreadable: Counter[str] = Counter()
        own = [Item(name, row) for row in read_problems(source, unreadable)]
        if not own:
            raise ProgdataError(f"benchmark {name!r}: holds no problem")
        items += own
        found[name] = {
            "source": source.record,
            "items": len(own),
            "unreadable": dict(sorted(unreadable.items())),
        }
    return items, found


def named_benchmarks(against: Sequence[str]) -> Iterator[tuple[str, Source]]:
    """The sources that names, bundles and specs stand for, each under a name of its own."""
    text = files("progdata.releases").joinpath("benchmarks.yaml").read_text("utf-8")
    known = yaml.safe_load(text)
    seen: set[str] = set()
    for spec in against:
        for one in known["bundles"].get(spec, [spec]):
            for name, target in _sources_of(one, known["benchmarks"]):
                if name in seen:
                    name = target
                seen.add(name)
                yield name, find_problems(target)


def _sources_of(spec: str, known: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The names and specs that a spec stands for: a known name, a hub dataset, or files, each of
    which is a benchmark of its own."""
    if spec in known:
        yield spec, known[spec]
    elif spec.startswith(("hf:", "countdown:")):
        yield spec, spec
    else:
        try:
            paths = find_problems(spec).paths
        except ProgdataError as error:
            if "/" in spec or Path(spec).exists():
                raise
            hint = did_you_mean(spec, known)
            raise UsageError(
                f"benchmark {spec!r}: neither a file nor one of {', '.join(known)}{hint}: {error}"
            ) from error
        yield from ((Path(path).name.split(".")[0], path) for path in paths)


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
