"""Grade many answers, one in a hundred hostile, and watch that none is lost and nothing grows.

    python benchmarks/soak.py [--items 100000] [--workers 2] [--cpu-seconds 0.5]

No two pairs are alike, and most need computer algebra, so that neither the memory of equal pairs
nor the shortcuts do the work. Prints at ten points of the way the rate and the memory in MB of the
caller, the supervisor, and the workers at their most since the point before. Fails where a
verdict is missing or not the expected one.
"""

import argparse
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from progdata.verifiers.grading import Budget, grade_stream

POINTS = 10

MEMORY_MB = 300


@dataclass(frozen=True)
class Item:
    """A pair and the statuses that it may get."""

    gold: str
    answer: str
    expected: tuple[str, ...]


Equation = Callable[[int], tuple[str, str]]

EQUAL: list[Equation] = [
    lambda n: (str(n), rf"\boxed{{{n}.0}}"),
    lambda n: (rf"\frac{{{2 * n + 1}}}{{8}}", rf"\boxed{{{n // 4 + (2 * n + 1) % 8 / 8}}}"),
    lambda n: (rf"{n}\sqrt{{3}}", rf"\boxed{{\sqrt{{{3 * n * n}}}}}"),
    lambda n: (rf"\frac{{\pi}}{{{n}}}", rf"\boxed{{\pi/{n}}}"),
    lambda n: (f"x^2+{n}x", rf"\boxed{{x(x+{n})}}"),
    lambda n: (f"${n}$", f"The answer is {n}."),
    lambda n: (f"{n}+x", rf"\boxed{{x+{n}}}"),
]
"""Golds and equal answers by a number; with another number in the answer they are unequal."""

HOSTILE: list[Equation] = [
    lambda n: ("$5$", f"$9^{{9^{{9^{{{n}}}}}}}$"),
    lambda n: ("$5$", rf"\boxed{{(1+2i)^{{{10**8 + n}}}}}"),
    lambda n: ("$5$", f"${n}E999999999$"),
    lambda n: ("$5$", rf"\boxed{{({10**9 + n})!}}"),
    lambda n: (f"${n}$", "$" + "{" * 20_000 + "5" + "}" * 20_000 + "$"),
]


def items(count: int) -> Iterator[Item]:
    """Pairs in turn of all kinds, every other one unequal, every hundredth hostile."""
    for n in range(1, count + 1):
        if n % 100 == 0:
            over = ("timeout", "error")
            yield Item(*HOSTILE[n // 100 % len(HOSTILE)](n), expected=over)
            continue
        pair = EQUAL[n % len(EQUAL)]
        gold, answer = pair(n)
        if n % 2:
            yield Item(gold, answer, expected=("correct",))
        else:
            yield Item(gold, pair(n + 16)[1], expected=("wrong",))


@dataclass
class Point:
    """Where a run is: items graded, its rate until then, and memory in MB."""

    graded: int
    rate: float
    caller: float
    supervisor: float
    worker: float


@dataclass
class Run:
    """What became of a run; `unexpected` are the items that got another verdict."""

    points: list[Point] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    unexpected: list[tuple[Item, str]] = field(default_factory=list)


def soak(count: int, workers: int, cpu_seconds: float, say: Callable[[str], None]) -> Run:
    """Grade so many items; `say` is told of every point."""
    run, begun = Run(), time.perf_counter()
    budget = Budget(cpu_seconds, MEMORY_MB)
    pairs = ((item.gold, f"<think>Hm.</think>{item.answer}") for item in items(count))
    verdicts = grade_stream(pairs, workers=workers, budget=budget)
    with watched() as peaks:
        for n, (item, verdict) in enumerate(zip(items(count), verdicts, strict=True), 1):
            run.statuses[verdict.status] += 1
            if verdict.status not in item.expected:
                run.unexpected.append((item, f"{verdict.status}: {verdict.rule}"))
            if n % (count // POINTS) == 0:
                rate = n / (time.perf_counter() - begun)
                point = Point(n, rate, megabytes(psutil.Process()), *peaks.values())
                run.points.append(point)
                peaks.update(supervisor=0.0, worker=0.0)
                say(
                    f"{n:9,} items {rate:6.0f}/s  caller {point.caller:5.0f}  "
                    f"supervisor {point.supervisor:5.0f}  workers up to {point.worker:5.0f} MB"
                )
    return run


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """The most memory of the supervisor and of any worker, looked at all the time."""
    peaks, over = {"supervisor": 0.0, "worker": 0.0}, threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            for supervisor in psutil.Process().children():
                peaks["supervisor"] = max(peaks["supervisor"], megabytes(supervisor))
                for worker in supervisor.children():
                    peaks["worker"] = max(peaks["worker"], megabytes(worker))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def megabytes(process: psutil.Process) -> float:
    try:
        return process.memory_info().rss / 2**20
    except psutil.Error:
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Grade many answers.")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cpu-seconds", type=float, default=0.5)
    options = parser.parse_args()
    run = soak(
        options.items, options.workers, options.cpu_seconds, lambda line: print(line, flush=True)
    )
    print(dict(run.statuses), f"{len(run.unexpected)} unexpected")
    for item, status in run.unexpected[:20]:
        print(f"  {item.gold[:60]!r}, {item.answer[:60]!r}: {status}, not {item.expected}")
    if run.unexpected or run.statuses.total() != options.items:
        sys.exit("FAILED")


if __name__ == "__main__":
    main()
