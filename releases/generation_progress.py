"""How far a generation is: counted, graded on the side, and shown."""

import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from progdata.builders.sampling import Outcomes, Request, Sample
from progdata.releases.display import Display
from progdata.verifiers.grading import grade_all

BATCH = 64
"""Answers that are graded at a time while sampling goes on: the end waits for no more."""


@dataclass
class GenerationTally:
    """How far a generation is. `held`: samples that earlier runs made; `wanted`: all together."""

    problems: int = 0
    wanted: int = 0
    held: int = 0
    problems_done: int = 0
    sampled: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    truncated: int = 0
    graded: int = 0
    correct: int = 0
    unit: str = "problems"
    ready: float | None = None  # when the engine was, on the monotonic clock

    @property
    def share(self) -> float:
        done = self.held + self.sampled + self.failed
        return done / self.wanted if self.wanted else 1.0

    @property
    def rate(self) -> float:
        """Tokens a second since the engine was ready."""
        return self.completion_tokens / max(self._spent, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        done = self.sampled + self.failed
        left = self.wanted - self.held - done
        return self._spent / done * left if done else None

    @property
    def _spent(self) -> float:
        return 0.0 if self.ready is None else time.monotonic() - self.ready

    def line(self) -> str:
        """One line of it all."""
        done = self.held + self.sampled
        parts = [
            f"{self.problems_done:,} of {self.problems:,} {self.unit}",
            f"{done:,} of {self.wanted:,} samples",
            f"{self.rate:,.0f} tokens/s",
        ]
        if self.seconds_left is not None and self.share < 1:
            parts.append(f"{_duration(self.seconds_left)} left")
        if self.sampled:
            parts.append(f"{self.truncated / self.sampled:.1%} truncated")
        if self.graded:
            parts.append(f"{self.correct / self.graded:.1%} correct")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        return ", ".join(parts)


class LiveGrader:
    """Grades answers on a thread of its own while sampling goes on, for the correct share alone."""

    def __init__(self, tally: GenerationTally) -> None:
        self._tally = tally
        self._thread = ThreadPoolExecutor(1, "progdata-live-grader")
        self._running: Future[None] | None = None
        self._waiting: list[tuple[str, str]] = []

    def add(self, gold: str, completion: str) -> None:
        self._waiting.append((gold, completion))

    def start(self) -> None:
        """Grade what waits, unless a batch is being graded."""
        if self._waiting and (self._running is None or self._running.done()):
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            self._running = self._thread.submit(self._grade, batch)

    def _grade(self, batch: list[tuple[str, str]]) -> None:
        golds, completions = zip(*batch, strict=True)
        for verdict in grade_all(golds=golds, completions=completions, thinks=True):
            self._tally.graded += 1
            self._tally.correct += verdict.status == "correct"

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)


class Watcher:
    """Counts outcomes, grades them on the side, and shows how far it all is; a context manager.

    `places`: for each key that was asked for, the gold (None without one, or where nothing is
    graded) and the number of its problem; it fills while requests are drawn.
    """

    def __init__(self, tally: GenerationTally, display: Display, verify: bool) -> None:
        self.tally, self._display = tally, display
        self._grader = LiveGrader(tally) if verify else None
        self._samples = 1
        self._done: Counter[int] = Counter()
        self.places: dict[str, tuple[int, str | None]] = {}

    def __enter__(self) -> "Watcher":
        self._display.stage("generating")
        self._show()
        return self

    def __exit__(self, *_: object) -> None:
        if self._grader is not None:
            self._grader.close()
        self._show()

    def _show(self) -> None:
        self._display.say(self.tally.share, self.tally.line())

    def expect(self, samples: int) -> None:
        """A round begins, in which each problem is asked for so many samples."""
        self._samples = samples
        self._done.clear()
        self.places.clear()
        self.tally.problems_done = 0

    def ask(self, key: str, problem: int, gold: str | None) -> None:
        """A sample of a problem may be asked for under this key."""
        self.places[key] = problem, gold

    def hold(self, request: Request) -> None:
        """A sample was made by an earlier run."""
        self.tally.held += 1
        self._count(self.places[request.key][0])

    def _count(self, problem: int) -> None:
        self._done[problem] += 1
        self.tally.problems_done += self._done[problem] == self._samples

    def see(self, outcomes: Outcomes) -> None:
        """The engine is ready, where there is no outcome; or these came."""
        tally = self.tally
        if tally.ready is None:
            tally.ready = time.monotonic()
        for request, outcome in outcomes:
            problem, gold = self.places[request.key]
            self._count(problem)
            if not isinstance(outcome, Sample):
                tally.failed += 1
                continue
            tally.sampled += 1
            tally.prompt_tokens += outcome.prompt_tokens
            tally.completion_tokens += outcome.completion_tokens
            tally.truncated += outcome.truncated
            if self._grader is not None and gold is not None:
                self._grader.add(gold, outcome.text)
        if self._grader is not None:
            self._grader.start()
        self._show()


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
