"""Many requests over one event loop: how many at a time, how they end, and that they do end."""

import asyncio
import subprocess
import sys
from array import array
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from progdata.builders.concurrent_requests import run_concurrently
from progdata.builders.sampling import PAPER, Failure, Outcome, Prompt, Request, Sample

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with closing(asyncio.new_event_loop()) as own:
        yield own


def requests(count: int, drawn: list[int] | None = None) -> Iterator[Request]:
    """Requests; `drawn` gets the index of each as it is drawn."""
    prompt = Prompt((("user", "1 + 1?"),), array("I", [1, 2, 3]))
    for index in range(count):
        if drawn is not None:
            drawn.append(index)
        yield Request(f"key {index}", prompt, PAPER, index, index)


def said(request: Request) -> Sample:
    return Sample(f"sample {request.index}", "stop", 3, 2, 0.0, "engine 1.0")


class Model:
    """Counts what is in flight, and what was begun, ended and cancelled."""

    def __init__(self, act: Callable[[Request], Awaitable[Outcome]]) -> None:
        self.flying = self.most = 0
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.cancelled: list[int] = []
        self._act = act

    async def __call__(self, request: Request) -> Outcome:
        self.begun.append(request.index)
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            outcome = await self._act(request)
        except asyncio.CancelledError:
            self.cancelled.append(request.index)
            raise
        finally:
            self.flying -= 1
        self.ended.append(request.index)
        return outcome


async def at_once(request: Request) -> Outcome:
    return said(request)


async def next_turn(request: Request) -> Outcome:
    for _ in range(request.index * 7 % 5):
        await asyncio.sleep(0)
    return said(request)


async def never(request: Request) -> Outcome:
    await asyncio.sleep(3_600)
    return said(request)


# --- all that is asked is answered


@pytest.mark.parametrize("act", [at_once, next_turn])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 50, 4_000])
@pytest.mark.parametrize("concurrency", [1, 3, 64, 10_000])
def test_each_request_has_its_own_outcome_once(loop, act, count, concurrency):
    model = Model(act)
    batches = list(run_concurrently(loop, model, requests(count), concurrency))
    assert all(batches)
    outcomes = [pair for batch in batches for pair in batch]
    assert sorted(own.index for own, _ in outcomes) == list(range(count))
    assert all(outcome == said(own) for own, outcome in outcomes)
    assert model.flying == 0 and model.most <= concurrency
    assert asyncio.all_tasks(loop) == set()


def test_no_more_than_the_limit_are_in_flight_and_no_fewer_while_some_wait(loop):
    levels: list[int] = []

    async def look(request: Request) -> Outcome:
        await asyncio.sleep(0.001 * (request.index % 3))
        levels.append(model.flying)
        return said(request)

    model = Model(look)
    assert len(list(run_concurrently(loop, model, requests(60), 5))) > 1
    assert model.most == max(levels) == 5
    assert sum(levels[:50]) / 50 > 2.5


def test_outcomes_come_as_they_are_ready_not_in_order(loop):
    gates = [asyncio.Event() for _ in range(3)]

    async def wait(request: Request) -> Outcome:
        await gates[request.index].wait()
        return said(request)

    outcomes = run_concurrently(loop, wait, requests(3), 3)
    for index in (2, 0, 1):
        gates[index].set()
        assert [own.index for own, _ in next(outcomes)] == [index]
    assert list(outcomes) == []


def test_a_slow_request_holds_up_no_other(loop):
    release = asyncio.Event()

    async def first_waits(request: Request) -> Outcome:
        if request.index == 0:
            await release.wait()
        return said(request)

    seen: list[int] = []
    for batch in run_concurrently(loop, first_waits, requests(200), 2):
        seen += [own.index for own, _ in batch]
        if len(seen) == 199:
            release.set()
    assert seen[-1] == 0 and sorted(seen) == list(range(200))


def test_requests_are_drawn_as_room_comes(loop):
    drawn: list[int] = []
    outcomes = run_concurrently(loop, Model(next_turn), requests(100, drawn), 4)
    assert drawn == []
    done = 0
    for batch in outcomes:
        done += len(batch)
        assert len(drawn) <= done + 4 - 1 + len(batch)
    assert len(drawn) == 100


def test_a_failure_is_an_outcome_like_any_other(loop):
    async def refuse(request: Request) -> Outcome:
        return Failure("refused", "no reason") if request.index % 2 else said(request)

    outcomes = [own for batch in run_concurrently(loop, refuse, requests(6), 2) for own in batch]
    assert [own.index for own, it in outcomes if isinstance(it, Failure)] == [1, 3, 5]


def test_one_loop_serves_run_after_run(loop):
    for _ in range(3):
        assert sum(map(len, run_concurrently(loop, next_turn, requests(20), 4))) == 20


# --- how a run ends early


def test_an_exception_ends_the_run_and_cancels_the_rest(loop):
    drawn: list[int] = []

    async def third_breaks(request: Request) -> Outcome:
        if request.index == 2:
            await asyncio.sleep(0.01)
            raise RuntimeError("the engine is gone")
        return said(request) if request.index < 2 else await never(request)

    model, seen = Model(third_breaks), []
    with pytest.raises(RuntimeError, match="the engine is gone"):
        for batch in run_concurrently(loop, model, requests(100, drawn), 4):
            seen += [own.index for own, _ in batch]
    assert seen == [0, 1] == model.ended
    assert sorted(model.cancelled) == [3, 4, 5]
    assert max(drawn) == 5
    assert asyncio.all_tasks(loop) == set()


def test_what_is_finished_beside_an_exception_is_not_lost(loop):
    """Samples that were paid for."""

    async def breaks(request: Request) -> Outcome:
        if request.index == 1:
            raise RuntimeError("the engine is gone")
        return said(request)

    seen: list[int] = []
    with pytest.raises(RuntimeError):
        for batch in run_concurrently(loop, breaks, requests(4), 4):
            seen += [own.index for own, _ in batch]
    assert sorted(seen) == [0, 2, 3]


def test_closing_the_iterator_cancels_what_is_in_flight(loop):
    async def first_ends(request: Request) -> Outcome:
        return said(request) if request.index == 0 else await never(request)

    model = Model(first_ends)
    outcomes = run_concurrently(loop, model, requests(100), 5)
    assert [own.index for own, _ in next(outcomes)] == [0]
    outcomes.close()  # type: ignore[attr-defined]
    assert (model.flying, sorted(model.cancelled), model.ended) == (0, [1, 2, 3, 4], [0])
    assert asyncio.all_tasks(loop) == set()


def test_requests_that_cannot_be_drawn_cancel_what_is_in_flight(loop):
    def some() -> Iterator[Request]:
        yield from requests(2)
        raise ValueError("no more")

    model = Model(never)
    with pytest.raises(ValueError, match="no more"):
        list(run_concurrently(loop, model, some(), 5))
    assert model.flying == 0


def test_a_request_that_is_cancelled_from_within_ends_the_run(loop):
    """A client may cancel a request of its own; the run must not wait for it for ever."""

    async def cancelled(request: Request) -> Outcome:
        if request.index == 1:
            raise asyncio.CancelledError
        return said(request)

    loop.call_later(2, loop.stop)  # which is a RuntimeError
    with pytest.raises(asyncio.CancelledError):
        list(run_concurrently(loop, cancelled, requests(3), 2))


INTERRUPTED = """
import asyncio, os, signal, threading
from test_concurrent_requests import Model, never, requests
from progdata.builders.concurrent_requests import run_concurrently
loop, model = asyncio.new_event_loop(), Model(never)
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    list(run_concurrently(loop, model, requests(9), 3))
except KeyboardInterrupt:
    print("interrupted", sorted(model.cancelled), model.flying)
loop.close()
"""


def test_ctrl_c_cancels_what_is_in_flight_and_prints_nothing():
    path = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r})\n{INTERRUPTED}"],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stdout) == (0, "interrupted [0, 1, 2] 0\n")
    assert done.stderr == ""
