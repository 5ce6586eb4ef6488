"""Many requests at a time over one event loop, for engines that answer asynchronously."""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable

from progdata.builders.errors import ProgdataError
from progdata.builders.sampling import Outcome, Outcomes, Request


def run_concurrently(
    loop: asyncio.AbstractEventLoop,
    sample: Callable[[Request], Awaitable[Outcome]],
    requests: Iterable[Request],
    concurrency: int,
) -> Generator[Outcomes]:
    """The outcomes of `sample` over `requests`, as they come, with `concurrency` in flight.

    The loop runs only while an outcome is waited for. What `sample` raises ends the run; what is
    in flight then, or where the iterator is closed, is cancelled.
    """
    _refuse_running_loop()
    finished: asyncio.Queue[tuple[Request, Outcome | BaseException]] = asyncio.Queue()
    flying: set[asyncio.Task[None]] = set()

    async def fly(request: Request) -> None:
        try:
            outcome: Outcome | BaseException = await sample(request)
        except (Exception, asyncio.CancelledError) as error:
            outcome = error
        if (task := asyncio.current_task()) is not None:
            flying.discard(task)
        finished.put_nowait((request, outcome))

    getter: asyncio.Task[tuple[Request, Outcome | BaseException]] | None = None
    waiting = iter(requests)
    try:
        while True:
            while len(flying) < concurrency and (request := next(waiting, None)) is not None:
                flying.add(loop.create_task(fly(request)))
            if not flying and finished.empty():
                return
            getter = loop.create_task(finished.get())
            batch = [loop.run_until_complete(getter)]
            while not finished.empty():
                batch.append(finished.get_nowait())
            outcomes: Outcomes = []
            errors: list[BaseException] = []
            for request, outcome in batch:
                if isinstance(outcome, BaseException):
                    errors.append(outcome)
                else:
                    outcomes.append((request, outcome))
            if outcomes:
                yield outcomes  # before the error: they are paid for
            if errors:
                raise errors[0]
    finally:
        left = [*flying, *([getter] if getter is not None and not getter.done() else [])]
        for task in left:
            task.cancel()
        if left and not loop.is_closed():
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))


def _refuse_running_loop() -> None:
    """Raises ProgdataError inside another event loop, where a notebook's cells run."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ProgdataError(
        "an event loop runs in this thread already, as in a notebook: sample on a thread of its "
        "own, as asyncio.to_thread does, or with the command progdata generate"
    )
