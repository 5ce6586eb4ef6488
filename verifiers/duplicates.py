"""Duplicates among problems and among traces: which are the same, and which one stays.

Problems are the same where they have the same normal form (`problem_forms`, exact), or where a
search by embeddings says so (`near_duplicates`). What is the same as the same is the same: problems
form clusters, and of each cluster one problem stays, with one row or with several traces.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from progdata.builders.schema import content_id, normalise_problem
from progdata.verifiers.problem_forms import normal_form, rough_form

Ints = NDArray[np.int64]

Rule = Literal["exact", "near", "same_trace", "extra_trace"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: the index of its problem, its own id, and what ranks it.

    `content` is what a trace says, in any form that is equal for equal traces; it is None where
    the rows are problems alone, of which one stays whatever else they hold.
    """

    problem: int
    id: str
    verified: bool = False
    finished: bool = False
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Removal:
    """A row that goes, the row that stays for it, and why; both by index.

    `exact` and `near`: its problem is another way to write that of the row that stays;
    `same_trace`: it says the same; `extra_trace`: its problem has traces enough.
    """

    row: int
    kept: int
    rule: Rule
    cluster: str


def exact_labels(problems: Sequence[str]) -> Ints:
    """For each problem the index of the first one with the same normal form, which may be itself.

    Normal forms are made only for those whose letters and digits another one has too. A problem
    that is nothing but markup has no normal form, and is the same as its own text only.
    """
    rough = [content_id(rough_form(problem)) for problem in problems]
    shared = Counter(rough)
    first: dict[str, int] = {}
    labels = np.arange(len(problems))
    for index, problem in enumerate(problems):
        if shared[rough[index]] > 1:
            labels[index] = first.setdefault(normal_form(problem) or _bare(problem), index)
    return labels


def _bare(problem: str) -> str:
    """What stands for a normal form that is empty; no normal form begins so."""
    return f"\0{normalise_problem(problem)}"


def join(labels: Ints, first: Iterable[int], second: Iterable[int]) -> Ints:
    """Labels after each pair is put into one cluster; a cluster's label is its first member.

    >>> join(np.arange(5), [3, 1], [4, 3]).tolist()
    [0, 1, 2, 1, 1]
    """
    parents = labels.tolist()

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for one, other in zip(first, second, strict=True):
        low, high = sorted((root(int(one)), root(int(other))))
        parents[high] = low
    return np.array([root(index) for index in range(len(parents))], np.int64)


def choose(
    entries: Sequence[Entry],
    problems: Sequence[str],
    ids: Sequence[str],
    exact: Ints,
    labels: Ints,
    keep_traces: int | None = None,
) -> Iterator[Removal]:
    """The rows that go, cluster by cluster in the order of their first rows.

    `ids` are the problem ids of `problems`, of which `exact` has the labels by normal form and
    `labels` those of the clusters. Of a cluster that problem stays which has a correct trace, or
    else is longest, or else has the smallest id. Of its rows one stays; of traces all that differ,
    or the best `keep_traces`: correct ones first, then those that ended by themselves, then the
    smallest id.
    """
    clusters: dict[int, list[int]] = defaultdict(list)
    for row, entry in enumerate(entries):
        clusters[int(labels[entry.problem])].append(row)
    for rows in clusters.values():
        if len(rows) > 1:
            yield from _choose_in(rows, entries, problems, ids, exact, keep_traces)


def _choose_in(
    rows: Sequence[int],
    entries: Sequence[Entry],
    problems: Sequence[str],
    ids: Sequence[str],
    exact: Ints,
    keep_traces: int | None,
) -> Iterator[Removal]:
    keeper = _keeper(rows, entries, problems, ids)
    own = [row for row in rows if ids[entries[row].problem] == keeper]
    own.sort(key=lambda row: _rank(entries[row], row))
    kept: dict[bytes | None, int] = {}
    for row in own:
        if len(kept) != keep_traces:
            kept.setdefault(entries[row].content, row)
    best = own[0]
    for row in rows:
        entry = entries[row]
        if ids[entry.problem] != keeper:
            same = exact[entry.problem] == exact[entries[best].problem]
            yield Removal(row, best, "exact" if same else "near", keeper)
        elif entry.content not in kept:
            yield Removal(row, best, "extra_trace", keeper)
        elif kept[entry.content] != row:
            rule = "exact" if entry.content is None else "same_trace"
            yield Removal(row, kept[entry.content], rule, keeper)


def _keeper(
    rows: Sequence[int], entries: Sequence[Entry], problems: Sequence[str], ids: Sequence[str]
) -> str:
    """The id of the problem that stays."""
    verified = {ids[entries[row].problem] for row in rows if entries[row].verified}

    def rank(row: int) -> tuple[bool, int, str]:
        problem = entries[row].problem
        statement = normalise_problem(problems[problem])
        return ids[problem] not in verified, -len(statement), ids[problem]

    return ids[entries[min(rows, key=rank)].problem]


def _rank(entry: Entry, row: int) -> tuple[bool, bool, str, int]:
    return not entry.verified, not entry.finished, entry.id, row
