"""The contamination stage of a build: which of its problems hold text of a benchmark.

Each distinct problem is looked at once, whatever its traces, over all shards in input order.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progdata.builders.engine import ShardStore
from progdata.releases.benchmarks import Benchmarks
from progdata.verifiers.contamination import SAMPLE, find_matches
from progdata.verifiers.contamination_profiles import ContaminationSettings, make_detector


@dataclass(frozen=True)
class Leaked:
    """What the stage found: the best match of each flagged problem, by its id, and the report.

    `rows` says of each base row whether it leaves the build.
    """

    matches: dict[str, dict[str, Any]]
    rows: NDArray[np.bool_]
    report: dict[str, Any]

    @property
    def removed(self) -> set[str]:
        """The ids of the problems that leave the build."""
        return set(self.matches) if self.report["action"] == "remove" else set()

    def why(self, problem_id: str) -> tuple[str, str]:
        """The reason and the evidence for which a problem was dropped."""
        match = self.matches[problem_id]
        reason = match["reason"].replace(" ", "_")
        where = f"{match['benchmark']} row {match['benchmark_row']}, score {match['score']}"
        return reason, f"{where}: {match['item_text']!r} in {match['row_text']!r}"


def find_leaked(
    store: ShardStore,
    keys: Sequence[str],
    settings: ContaminationSettings,
    benchmarks: Benchmarks,
) -> Leaked:
    """Hold the problems of the committed base shards against the items of some benchmarks."""
    ids: list[str] = []
    for key in keys:
        ids += store.table(key, "base")["problem_id"].to_pylist()
    items = benchmarks.items
    texts = [item.row.problem for item in items]
    sample = (problem for _, problem in islice(_problems(store, keys), SAMPLE))
    detector = make_detector(settings.profile, texts, sample, model=settings.model)
    names: list[str] = []

    def problems() -> Iterator[str]:
        for name, problem in _problems(store, keys):
            names.append(name)
            yield problem

    matches = [
        {
            "problem_id": names[match.row],
            "benchmark": items[match.item].benchmark,
            "benchmark_row": items[match.item].row.row,
            "reason": match.reason,
            "score": match.score,
            "row_text": match.row_text,
            "item_text": match.item_text,
        }
        for match in find_matches(problems(), detector)
    ]
    best: dict[str, dict[str, Any]] = {}
    for match in matches:
        known = best.get(match["problem_id"])
        if known is None or match["score"] > known["score"]:
            best[match["problem_id"]] = match
    flagged = np.array([own in best for own in ids], bool)
    traces = Counter(own for own in ids if own in best)
    report = {
        "profile": settings.profile,
        "action": settings.action,
        "benchmarks": benchmarks.found,
        "rows": len(ids),
        "flagged": int(flagged.sum()),
        "problems_flagged": len(best),
        "by_benchmark": _rows_by("benchmark", matches, traces),
        "by_reason": _rows_by("reason", matches, traces),
        "matches": matches,
    }
    removes = settings.action == "remove"
    return Leaked(best, flagged if removes else np.zeros_like(flagged), report)


def _rows_by(field: str, matches: Sequence[dict[str, Any]], traces: Counter[str]) -> dict[str, int]:
    """The flagged rows by a field of their matches; a row may count in more than one."""
    rows: Counter[str] = Counter()
    for name, problem in sorted({(match[field], match["problem_id"]) for match in matches}):
        rows[name] += traces[problem]
    return dict(rows)


def _problems(store: ShardStore, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The distinct problems with their ids, as they first stand."""
    seen: set[str] = set()
    for key in keys:
        table = store.table(key, "base").select(["problem_id", "problem"])
        for name, problem in zip(
            table["problem_id"].to_pylist(), table["problem"].to_pylist(), strict=True
        ):
            if name not in seen:
                seen.add(name)
                yield name, problem
