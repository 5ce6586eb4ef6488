"""Golds by themselves and against each other: whether one can be graded, which are equal."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from itertools import islice
from typing import Any, Literal, TypeVar

from progdata.builders.errors import ProgdataError
from progdata.verifiers.grading import WINDOW, Budget
from progdata.verifiers.pool import GradingPool
from progdata.verifiers.readings import read_gold
from progdata.verifiers.verdicts import Comparison

MOST_COMPARED = 20
"""Golds of one problem that its others are compared with; it has hardly ever so many."""

Relation = Literal["equal", "different", "unknown"]
"""How two golds compare; `unknown` where one cannot be graded, or comparing ends over budget."""

T = TypeVar("T")


class GoldChecks:
    """Asks the pool about golds, and about pairs of them."""

    def __init__(self, pool: GradingPool, budget: Budget) -> None:
        self._pool = pool
        self._budget = asdict(budget)
        self._checks: dict[str, Future[dict[str, Any]] | Comparison] = {}
        self._open: set[Future[dict[str, Any]]] = set()

    def begin(self, gold: str) -> None:
        """Ask whether a gold can be graded, if that was not asked before."""
        if gold not in self._checks:
            self._checks[gold] = self._ask(grader="gold", gold=gold)

    def check(self, gold: str) -> Comparison:
        """Whether a gold that was asked about can be graded: `correct`, or else why not."""
        known = self._checks[gold]
        if isinstance(known, Future):
            known = self._answer(known)
            self._checks[gold] = known = _GRADABLE if known.status == "correct" else known
        return known

    def relate(self, pairs: Iterable[tuple[str, str]]) -> Iterator[Relation]:
        """Whether the two golds of each pair are equal, by the verdict on either against the other:
        `verify` is not symmetric, so that one `correct` is enough."""
        asked = ((pair, self._compare(*pair), self._compare(*pair[::-1])) for pair in pairs)
        for pair, *both in ahead(asked, WINDOW // 4):
            yield _relation(
                [self.check(gold) for gold in pair], [self._answer(own) for own in both]
            )

    def _compare(self, gold: str, other: str) -> "Future[dict[str, Any]]":
        return self._ask(grader="math-verify", gold=gold, answer=read_gold(other).latex)

    def _ask(self, **request: str) -> "Future[dict[str, Any]]":
        asked = self._pool.submit(request | self._budget)
        self._open.add(asked)
        return asked

    def _answer(self, asked: "Future[dict[str, Any]]") -> Comparison:
        """The pool's answer. Raises ProgdataError where it failed, which says nothing of a gold."""
        answer = asked.result()
        self._open.discard(asked)
        if "lost" in answer:
            raise ProgdataError(f"the golds could not be checked: {answer['rule']}; run it again")
        return Comparison(answer["status"], answer["rule"], answer.get("gold_normal"))

    def forget(self) -> None:
        """Let the pool drop what nobody waits for any more, after a failure."""
        if self._open:
            self._pool.forget(self._open)


_GRADABLE = Comparison("correct", "equals itself")


def _relation(golds: Sequence[Comparison], both: Sequence[Comparison]) -> Relation:
    if any(own.status == "correct" for own in both):
        return "equal"
    gradable = all(own.status == "correct" for own in golds)
    decided = all(own.status in ("wrong", "no_answer") for own in both)
    return "different" if gradable and decided else "unknown"


def classes_of(
    problems: Sequence[Sequence[str]],
    relate: Callable[[Iterable[tuple[str, str]]], Iterator[Relation]],
) -> list[dict[str, int]]:
    """The class of each distinct gold of each problem: equal ones share it, different ones do not.

    A gold is compared with the first of each class; where that does not decide it has no class.
    What differs from the first `MOST_COMPARED` shares the last class. `relate` takes pairs of
    golds and gives their relations; all problems are compared at once.
    """
    classes: list[dict[str, int]] = [{} for _ in problems]
    left = [list(golds) for golds in problems]
    for number in range(MOST_COMPARED):
        relations = relate((golds[0], gold) for golds in left for gold in golds[1:])
        rest: list[list[str]] = []
        for own, golds in zip(classes, left, strict=True):
            own |= dict.fromkeys(golds[:1], number)
            found = list(zip(golds[1:], islice(relations, len(golds[1:])), strict=True))
            own |= {gold: number for gold, relation in found if relation == "equal"}
            rest.append([gold for gold, relation in found if relation == "different"])
        left = rest
        if not any(left):
            break
    for own, golds in zip(classes, left, strict=True):
        own |= dict.fromkeys(golds, MOST_COMPARED)
    return classes


def ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """The same items, each after `count` that follow it were begun."""
    held: deque[T] = deque()
    for item in items:
        held.append(item)
        if len(held) > count:
            yield held.popleft()
    yield from held
