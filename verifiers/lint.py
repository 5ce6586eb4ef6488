"""Lint golds: those that cannot be graded, and problems that are given two different ones.

DeepScaleR dropped the golds that sympy cannot evaluate (facts.md 2.3). Here none is dropped: each
is named, with its row and why.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple, get_args

from progdata.builders.schema import content_id, normalise_problem
from progdata.verifiers.answers import find_boxes
from progdata.verifiers.golds import GoldChecks, ahead, classes_of
from progdata.verifiers.grading import WINDOW, Budget
from progdata.verifiers.pool import GradingPool
from progdata.verifiers.readings import read_gold
from progdata.verifiers.verdicts import Comparison

Kind = Literal[
    "unreadable",
    "empty_gold",
    "prose_gold",
    "ungradable_gold",
    "slow_gold",
    "several_boxes",
    "contradictory",
    "duplicate_problem",
]
"""What may be found about a row: `duplicate_problem` is information, the others are faults.

`slow_gold` went over its budget, which says nothing about its mathematics. `contradictory` is a
row whose gold differs from that of another row with the same problem.
"""

KINDS: tuple[Kind, ...] = get_args(Kind)

INFORMATION: frozenset[Kind] = frozenset({"duplicate_problem"})

EXCERPT = 300
"""Characters of the normalised problem that a finding shows."""

SHOWN_ROWS, SHOWN_GOLDS, SHOWN_CHARS = 10, 3, 80
"""Other rows that a finding names at most; golds that its detail shows, and characters of each."""


class Place(NamedTuple):
    """A row of a source, counted in its file from 1, and its gold; None where it has none."""

    file: str
    row: int
    answer: str | None


class SourceRow(NamedTuple):
    """A row to lint: where it stands, and its problem; or else why it cannot be read."""

    place: Place
    problem: str
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one row, with the evidence.

    `problem` is the beginning of the normalised problem, None where the row is unreadable;
    `others` are the first other rows that it contradicts or repeats.
    """

    file: str
    row: int
    problem_id: str | None
    kind: Kind
    detail: str
    answer: str | None
    problem: str | None
    others: tuple[Place, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The finding as a JSON object."""
        row = {name: getattr(self, name) for name in self.__slots__}
        return row | {"others": [other._asdict() for other in self.others]}


@dataclass(frozen=True)
class LintResult:
    """What was found in a source: findings in input order; its rows, and their distinct problems
    and golds."""

    rows: int
    problems: int
    golds: int
    findings: list[Finding]

    @property
    def counts(self) -> dict[Kind, int]:
        """The number of findings of each kind."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in KINDS}

    @property
    def faulty(self) -> int:
        """The number of rows with at least one fault."""
        faults = (finding for finding in self.findings if finding.kind not in INFORMATION)
        return len({(finding.file, finding.row) for finding in faults})


def lint(
    rows: Iterable[SourceRow],
    pool: GradingPool,
    budget: Budget = Budget(),  # noqa: B008, frozen
) -> LintResult:
    """Check every gold of a source, each distinct one once, within this budget.

    Raises ProgdataError where the grading processes fail.
    """
    golds = GoldChecks(pool, budget)
    survey = _Survey(golds)
    try:
        for index, row in ahead(survey.read(rows), WINDOW):
            survey.judge(index, row)
        survey.compare()
    finally:
        golds.forget()
    return survey.result()


@dataclass(slots=True)
class _Repeated:
    """A problem that stands in several rows: their indices."""

    problem_id: str
    excerpt: str
    rows: list[int]


class _Survey:
    """What is known of the rows so far. It keeps every row's place, and the texts of few."""

    def __init__(self, golds: GoldChecks) -> None:
        self._golds = golds
        self._places: list[Place] = []
        self._texts: dict[str, str] = {}  # each gold once
        self._first: dict[bytes, int] = {}  # of each problem, by its id
        self._repeated: dict[bytes, _Repeated] = {}
        self._findings: list[tuple[int, Finding]] = []

    def read(self, rows: Iterable[SourceRow]) -> Iterator[tuple[int, SourceRow]]:
        """The rows with their indices; their golds are asked about on the way."""
        for index, row in enumerate(rows):
            answer = row.place.answer
            if answer is not None:
                answer = self._texts.setdefault(answer, answer)
            self._places.append(row.place._replace(answer=answer))
            if row.refused is None:
                self._golds.begin(answer or "")
            yield index, row

    def judge(self, index: int, row: SourceRow) -> None:
        """Note what is wrong with a row by itself, and whether its problem was seen before."""
        if row.refused is not None:
            self._add(index, "unreadable", row.refused, None, None)
            return
        problem = normalise_problem(row.problem)
        name, excerpt = content_id(problem), problem[:EXCERPT]
        gold = row.place.answer or ""
        for kind, detail in _faults(gold, self._golds.check(gold)):
            self._add(index, kind, detail, name, excerpt)
        key = bytes.fromhex(name)
        first = self._first.setdefault(key, index)
        if first != index:
            own = self._repeated.setdefault(key, _Repeated(name, excerpt, [first]))
            own.rows.append(index)

    def compare(self) -> None:
        """Compare the golds of the problems that stand in several rows."""
        repeated = list(self._repeated.values())
        classes = classes_of([self._golds_of(problem) for problem in repeated], self._golds.relate)
        for problem, own in zip(repeated, classes, strict=True):
            places = [self._places[index] for index in problem.rows]
            for index, (kind, detail, others) in zip(
                problem.rows, _judge_repeated(places, own), strict=True
            ):
                self._add(index, kind, detail, problem.problem_id, problem.excerpt, others)

    def result(self) -> LintResult:
        found = sorted(self._findings, key=lambda own: (own[0], KINDS.index(own[1].kind)))
        findings = [finding for _, finding in found]
        return LintResult(len(self._places), len(self._first), len(self._texts), findings)

    def _golds_of(self, problem: _Repeated) -> list[str]:
        """The distinct golds of a problem, those that can be graded first."""
        golds = dict.fromkeys(self._places[index].answer or "" for index in problem.rows)
        return sorted(golds, key=lambda gold: self._golds.check(gold).status != "correct")

    def _add(
        self,
        index: int,
        kind: Kind,
        detail: str,
        name: str | None,
        excerpt: str | None,
        others: tuple[Place, ...] = (),
    ) -> None:
        file, row, answer = self._places[index]
        finding = Finding(file, row, name, kind, detail, answer, excerpt, others)
        self._findings.append((index, finding))


def _faults(gold: str, check: Comparison) -> Iterator[tuple[Kind, str]]:
    """What is wrong with a gold by itself, and the evidence."""
    if check.status == "gold_unparsable":
        read = f"; read as {_shown(check.gold_normal)}" if check.gold_normal else ""
        yield _UNGRADABLE.get(read_gold(gold).form, "ungradable_gold"), check.rule + read
    elif check.status != "correct":
        yield "slow_gold", f"{check.status}: {check.rule}"
    boxes = [box for box in find_boxes(gold) if gold[box.inner_start : box.inner_end].strip()]
    if len(boxes) > 1:
        yield "several_boxes", f"{len(boxes)} boxes; read as {_shown(read_gold(gold).latex)}"


_UNGRADABLE: dict[str, Kind] = {"empty": "empty_gold", "prose": "prose_gold"}

_Judged = tuple[Kind, str, tuple[Place, ...]]


def _judge_repeated(places: Sequence[Place], classes: dict[str, int]) -> Iterator[_Judged]:
    """For each row of one problem: whether it contradicts or repeats others, and which."""
    numbers = [classes.get(place.answer or "") for place in places]
    distinct = set(numbers) - {None}
    against = {number: _contradicted(number, places, numbers) for number in distinct}
    golds = f"golds: {_listed(places)}"
    for place, number in zip(places, numbers, strict=True):
        if number is not None and len(distinct) > 1:
            yield "contradictory", *against[number]
            continue
        detail = golds if number is not None else f"{golds}; this one cannot be compared"
        others = (other for other in places if other is not place)
        yield "duplicate_problem", detail, tuple(islice(others, SHOWN_ROWS))


def _contradicted(
    number: int | None, places: Sequence[Place], numbers: Sequence[int | None]
) -> tuple[str, tuple[Place, ...]]:
    """The rows of one problem whose golds differ from those of a class, as text and places."""
    pairs = zip(places, numbers, strict=True)
    others = [place for place, own in pairs if own is not None and own != number]
    return f"elsewhere: {_listed(others)}", tuple(others[:SHOWN_ROWS])


def _listed(places: Sequence[Place]) -> str:
    """The golds of rows with how many have them, the most frequent first."""
    golds = Counter(place.answer for place in places)
    shown = [
        f"{_shown(gold) if gold else 'none'} ({rows:,} {'rows' if rows > 1 else 'row'})"
        for gold, rows in golds.most_common(SHOWN_GOLDS)
    ]
    more = len(golds) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."
