r"""Grade answers: `grade` for one completion, `grade_all` for many.

>>> grade(gold=r"\frac{\pi}{2}", completion=r"<think>...</think> It is $\boxed{\pi/2}$.").status
'correct'
"""

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.nearest import did_you_mean
from progdata.builders.thinking import CLOSE
from progdata.verifiers.answers import Answer, find_answer, find_boxes, find_said, response_start
from progdata.verifiers.pool import CPU_SECONDS, MEMORY_MB, GradingPool
from progdata.verifiers.readings import as_words, gold_choice, read_gold
from progdata.verifiers.shortcuts import SHORT, decide, refuse
from progdata.verifiers.verdicts import GRADERS, GraderName, Verdict

WINDOW = 1_000
"""Items that `grade_all` holds at a time."""

LONG = 10_000
"""Golds with more characters are read in a worker alone, where reading has a budget."""

CACHED = 20_000
"""Gradings remembered within a process, so that equal pairs are graded once."""

MAX_WORKERS = 4


@dataclass(frozen=True, slots=True)
class Budget:
    """What one item may use: seconds of CPU time, megabytes of memory."""

    cpu_seconds: float = CPU_SECONDS
    memory_mb: int = MEMORY_MB

    def __post_init__(self) -> None:
        if not 0 < self.cpu_seconds < math.inf or self.memory_mb < 1:
            raise UsageError(
                "a grading budget needs more than 0 CPU seconds, not endlessly many, and 1 MB"
            )


def grade(
    *,
    gold: str,
    completion: str,
    grader: GraderName = "math-verify",
    thinks: bool = False,
    cpu_seconds: float = CPU_SECONDS,
    memory_mb: int = MEMORY_MB,
) -> Verdict:
    r"""The verdict on a completion's answer, by `gold`, LaTeX bare or in delimiters.

    Never raises for what is in the texts, never hangs, and runs nothing that is in them: what
    needs computer algebra runs in worker processes with this budget (see `pool`). `thinks` says
    that the model thinks, so that a completion without `</think>` has no answer.
    """
    return grade_all(
        golds=[gold],
        completions=[completion],
        grader=grader,
        thinks=thinks,
        cpu_seconds=cpu_seconds,
        memory_mb=memory_mb,
    )[0]


def grade_all(
    *,
    golds: Sequence[str],
    completions: Sequence[str],
    grader: GraderName = "math-verify",
    workers: int | None = None,
    thinks: bool = False,
    cpu_seconds: float = CPU_SECONDS,
    memory_mb: int = MEMORY_MB,
) -> list[Verdict]:
    """The verdict on each completion, in their order; equal pairs are graded once.

    `workers` is the number of grading processes, by default one a processor and at most four.
    Raises UsageError where the lengths differ, the grader is unknown or the budget makes no sense.
    """
    if len(golds) != len(completions):
        raise UsageError(f"{len(golds)} golds and {len(completions)} completions to grade")
    pairs = zip(golds, completions, strict=True)
    budget = Budget(cpu_seconds, memory_mb)
    return list(grade_stream(pairs, grader, workers=workers, thinks=thinks, budget=budget))


def grade_stream(
    pairs: Iterable[tuple[str, str]],
    grader: GraderName = "math-verify",
    *,
    workers: int | None = None,
    thinks: bool = False,
    budget: Budget = Budget(),
) -> Iterator[Verdict]:
    """The verdicts on (gold, completion) pairs, in their order, a window of them at a time."""
    if grader not in GRADERS:
        raise UsageError(f"unknown grader {grader!r}{did_you_mean(grader, GRADERS)}")
    pool = shared_pool(workers or min(os.cpu_count() or 1, MAX_WORKERS))
    held: list[_Item] = []
    for gold, completion in pairs:
        held.append(_ask(gold, completion, grader, thinks, budget, pool))
        if len(held) >= WINDOW:
            yield from map(_verdict, held[: WINDOW // 2])
            del held[: WINDOW // 2]
    yield from map(_verdict, held)


@lru_cache(maxsize=8)
def shared_pool(workers: int) -> GradingPool:
    """The pool of this process with so many workers, started at its first use."""
    return GradingPool(workers)


Asked = Future[dict[str, Any]] | dict[str, Any]
"""An answer of the pool, or the promise of one."""


@dataclass(frozen=True, slots=True)
class _Item:
    """What is known of an item: its verdict, or else what its answer will be added to."""

    known: Verdict
    start: int = 0
    asked: Asked | None = None


def _ask(
    gold: str,
    completion: str,
    grader: GraderName,
    thinks: bool,
    budget: Budget,
    pool: GradingPool,
) -> _Item:
    start = response_start(completion, thinks=thinks)
    if start is None or (grader == "deepscaler" and CLOSE not in completion):
        status = "wrong" if grader == "deepscaler" else "no_answer"
        return _Item(Verdict(status, "no </think>"))
    answer = _last_box(completion) if grader == "deepscaler" else find_answer(completion, start)
    request: dict[str, Any] = {"grader": grader, "gold": gold}
    refused = refuse(read_gold(gold)) if len(gold) <= LONG else None
    if refused is not None:
        known = Verdict(refused.status, refused.rule, gold_normal=refused.gold_normal)
        return _Item(known if answer is None else replace(known, **_place(answer)))
    if answer is None:
        if grader == "deepscaler":
            return _Item(Verdict("no_answer", "no box in the response"))
        if not completion[start:].strip():
            return _Item(Verdict("no_answer", "empty response"))
        said = _said(gold, completion, start) if len(gold) <= SHORT else None
        if said is not None:
            return _Item(said)
        known = Verdict("no_answer", "no answer in the response")
        request["text"] = completion[start:]
    else:
        known = Verdict("no_answer", "", **_place(answer))
        decided = _decide_here(gold, answer.latex) if grader == "math-verify" else None
        if decided is not None:
            return _Item(replace(known, **asdict(decided)))
        request["answer"] = answer.latex
    return _Item(known, start, _cache.ask(pool, request | asdict(budget)))


def _last_box(completion: str) -> Answer | None:
    """The box that DeepScaleR's rule reads: the last between the first and second `</think>`."""
    start = completion.index(CLOSE) + len(CLOSE)
    second = completion.find(CLOSE, start)
    boxes = find_boxes(completion if second < 0 else completion[:second], start)
    if not boxes:
        return None
    first, last = boxes[-1].inner_start, boxes[-1].inner_end
    return Answer(completion[first:last], first, last, completion[first:last], "boxed")


def _said(gold: str, completion: str, start: int) -> Verdict | None:
    """The verdict on an answer in words, where the gold is a letter or words, and they decide."""
    read = read_gold(gold)
    if gold_choice(read.latex) is None and as_words(read.latex) is None:
        return None
    answer = find_said(completion, start)
    decided = decide(read, answer.latex) if answer else None
    return (
        replace(Verdict("no_answer", ""), **_place(answer), **asdict(decided))
        if answer and decided
        else None
    )


def _place(answer: Answer) -> dict[str, Any]:
    return {
        "extracted_answer": answer.text,
        "span": (answer.start, answer.end),
        "extraction": answer.extraction,
    }


def _decide_here(gold: str, answer: str) -> Any:
    return decide(read_gold(gold), answer) if len(gold) + len(answer) <= SHORT else None


def _verdict(item: _Item) -> Verdict:
    if item.asked is None:
        return item.known
    answer = dict(item.asked if isinstance(item.asked, dict) else _result(item.asked))
    found = answer.pop("found", None)
    answer.pop("lost", None)
    verdict = replace(item.known, **answer)
    return verdict if found is None else replace(verdict, **_placed(found, item.start))


def _result(asked: "Future[dict[str, Any]]") -> dict[str, Any]:
    try:
        return asked.result()
    except ProgdataError:  # the pool cannot start, and fails others too that are on their way
        _cache.forget()
        raise


def _placed(found: dict[str, Any], start: int) -> dict[str, Any]:
    span = found["start"] + start, found["end"] + start
    return {"extracted_answer": found["text"], "span": span, "extraction": found["extraction"]}


class _Cache:
    """The answers to the latest requests, by their content; futures of those still asked."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._known: OrderedDict[bytes, Asked] = OrderedDict()

    def ask(self, pool: GradingPool, request: dict[str, Any]) -> Asked:
        """The answer to a request: that to an equal one before it, or else the pool's."""
        key = blake2b(repr(sorted(request.items())).encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                return known
            future = self._known[key] = pool.submit(request)
            if len(self._known) > CACHED:
                self._known.popitem(last=False)
        future.add_done_callback(lambda done: self._keep(key, done))
        return future

    def forget(self) -> None:
        """Ask everything anew."""
        with self._lock:
            self._known.clear()

    def _keep(self, key: bytes, done: "Future[dict[str, Any]]") -> None:
        """Remember an answer, but not that the pool failed."""
        with self._lock:
            if key not in self._known:
                return
            if done.exception() is None and "lost" not in done.result():
                self._known[key] = done.result()
            else:
                del self._known[key]


_cache = _Cache()


def _after_fork() -> None:
    _cache.__init__()


os.register_at_fork(after_in_child=_after_fork)
