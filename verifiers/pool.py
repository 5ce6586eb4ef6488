"""The grading pool: hands requests to the supervisor process, and answers to who asked.

The supervisor is started by command and not forked from here, so that it works from any thread,
under asyncio, in a notebook, in a worker of pytest or of a trainer, and never runs its caller's
main module.
"""

import atexit
import contextlib
import itertools
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progdata.builders.errors import ProgdataError, one_line
from progdata.verifiers.frames import READ_BYTES, READY, Decoder, encode, write_all

CPU_SECONDS = 5.0
"""Default budget of an item in seconds of CPU time (math-verify's own, by the wall clock, is 5)."""

MEMORY_MB = 512
"""Default budget of an item in megabytes of resident memory, about 100 of which the libraries
take."""

END_SECONDS = 10.0
"""A supervisor that was told to end and takes longer is killed."""


class GradingPool:
    """At most `workers` grading processes under a supervisor. Threads may share it.

    A context manager; it starts at the first request. After a fork the child starts its own.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._lock = threading.Lock()
        self._link: _Link | None = None
        _pools.add(self)

    def __enter__(self) -> "GradingPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._link is not None:
            self._link.end()

    def submit(self, request: dict[str, Any]) -> "Future[dict[str, Any]]":
        """Ask for a request's answer (see `worker.grade_request`); `cpu_seconds` and `memory_mb`
        of the request are its budget.

        The future's result holds `status` and `rule` at least, and `lost` where the processes died
        or were closed before they had graded it. Raises ProgdataError, here or from the future,
        where they cannot be started.
        """
        asked = _Asked(request, Future())
        asked.future.set_running_or_notify_cancel()
        with self._lock:
            self._ask(asked)
        return asked.future

    def forget(self, futures: Iterable["Future[dict[str, Any]]"]) -> None:
        """Stop the work on what nobody waits for; those of the futures still open get `error`."""
        unwanted = set(futures)
        with self._lock:
            link = self._link
            taken = link.forget(unwanted) if link is not None else []
        _give_up(taken, "no longer wanted")

    def close(self) -> None:
        """End the grading processes; what is still asked for gets `error`."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def _ask(self, asked: "_Asked") -> None:
        if self._link is None or self._link.ended:
            self._link = self._start()
        self._link.ask(asked)

    def _start(self) -> "_Link":
        try:
            link = _Link(_start_supervisor(self.workers))
            try:
                listener = threading.Thread(target=_listen, args=(weakref.ref(self), link))
                listener.daemon = True
                listener.start()
            except BaseException:
                link.end()
                raise
        except (OSError, RuntimeError) as error:
            raise _cannot_start(one_line(error)) from error
        _links.add(link)
        return link

    def _lost(self, link: "_Link") -> None:
        """The supervisor ended, or could not start. What is unanswered is asked again, once."""
        unasked: list[tuple[_Asked, ProgdataError]] = []
        with self._lock:
            if self._link is link:
                self._link = None
            again = link.take(lambda asked: not (link.closed or asked.again))
            for asked in again:
                asked.again = True
                try:
                    self._ask(asked)
                except ProgdataError as error:
                    unasked.append((asked, error))
        for asked, error in unasked:
            asked.future.set_exception(error)
        link.give_up()


@dataclass(eq=False, slots=True)
class _Asked:
    request: dict[str, Any]
    future: "Future[dict[str, Any]]"
    again: bool = False  # for the second time, since a supervisor died of it


class _Link:
    """A running supervisor, and what it was asked and has not answered yet.

    Its pool asks, with the pool's lock held; the listener thread takes the answers and needs no
    lock for it, so that it never waits for a thread that waits for the supervisor.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None and process.stdout is not None
        self.process, self.requests, self.answers = process, process.stdin, process.stdout
        self._python = sys.executable
        self.ready = False
        self.ended = False  # it is asked no more
        self.closed = False  # its user closed it
        self.failure: str | None = None  # why it could not start
        self._asked: dict[int, _Asked] = {}
        self._numbers = itertools.count()

    def ask(self, asked: _Asked) -> None:
        """Hand a request over."""
        number = next(self._numbers)
        message = encode(asked.request | {"id": number})
        self._asked[number] = asked
        self._write(message)

    def _write(self, message: bytes) -> None:
        try:
            write_all(self.requests.fileno(), message)
        except OSError:  # it died: the listener asks again
            pass
        except BaseException:  # such as ctrl-C: half a message may be on its way
            self.end()
            raise

    def forget(self, unwanted: "set[Future[dict[str, Any]]]") -> list[_Asked]:
        """What of it was not answered yet, and now never will be."""
        numbers = [n for n, asked in self._asked.copy().items() if asked.future in unwanted]
        if numbers:
            self._write(encode({"forget": numbers}))
        return [asked for n in numbers if (asked := self._asked.pop(n, None)) is not None]

    def take(self, wanted: Callable[[_Asked], bool]) -> list[_Asked]:
        """What was not answered and is `wanted`, which is no longer its concern."""
        numbers = [n for n, asked in self._asked.copy().items() if wanted(asked)]
        return [self._asked.pop(n) for n in numbers]

    def listen(self) -> None:
        """Hand answers to who asked, until the supervisor ends."""
        data = self._await_start()
        decoder = Decoder()
        while data:
            for answer in decoder.feed(data):
                asked = self._asked.pop(answer.pop("id"), None)
                if asked is not None:
                    asked.future.set_result(answer)
            data = os.read(self.answers.fileno(), READ_BYTES)
        code = self.process.wait()
        self.answers.close()
        if not self.ready and code >= 0 and not self.closed:
            self.failure = self.failure or f"{self._python} ended with exit code {code}"

    def _await_start(self) -> bytes:
        """What follows the mark of a supervisor that is ready; nothing where it ended before."""
        said = b""
        while data := os.read(self.answers.fileno(), READ_BYTES):
            said += data
            _, mark, rest = said.partition(READY)
            if mark:
                self.ready = True
                return rest or os.read(self.answers.fileno(), READ_BYTES)
        lines = [line for line in said.decode("utf-8", "replace").split("\n") if line.strip()]
        errors = [line for line in lines if "Error: " in line] or lines
        self.failure = errors[-1] if errors else None
        return b""

    def give_up(self) -> None:
        """Say of what was not answered why it will not be."""
        rest = self.take(lambda _: True)
        if self.failure is None:
            _give_up(rest, "the pool was closed" if self.closed else "the grading processes died")
            return
        for asked in reversed(rest):  # who waits for the first finds that all have failed
            asked.future.set_exception(_cannot_start(self.failure))

    def end(self) -> None:
        """Let the supervisor end, and its workers with it."""
        self.ended = True
        self.requests.close()
        if not self.ready:  # it looks for the end of its input only once it has started
            self.process.terminate()

    def close(self) -> None:
        """End it, and wait until it has ended."""
        self.closed = True
        self.end()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def disown(self) -> None:
        """In a forked child: leave the supervisor to the parent."""
        self.requests.close()
        self.answers.close()
        self.process.returncode = 0


def _cannot_start(reason: str) -> ProgdataError:
    return ProgdataError(f"cannot start the grading processes: {reason:.300}")


def _give_up(unanswered: Iterable[_Asked], why: str) -> None:
    for asked in unanswered:
        asked.future.set_result({"status": "error", "rule": why, "lost": True})


def _listen(pool: "weakref.ref[GradingPool]", link: _Link) -> None:
    link.listen()
    _links.discard(link)
    own = pool()
    if own is None:
        link.give_up()
    else:
        own._lost(link)


def _start_supervisor(workers: int) -> "subprocess.Popen[bytes]":
    """A supervisor, in a session of its own, so that ctrl-C reaches the caller alone."""
    module = "progdata.verifiers.supervisor"
    return subprocess.Popen(
        [sys.executable or "python3", "-P", "-W", "ignore", "-m", module, str(workers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        env=os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(_import_path())},
        start_new_session=True,
    )


def _import_path() -> list[str]:
    """Where this process imports from, with the folder of its script and the working directory
    last: a `sympy.py` that lies there is not the library."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    last = {Path(main).resolve().parent} if main else set()
    with contextlib.suppress(OSError):
        last.add(Path.cwd())
    return sorted(filter(None, sys.path), key=lambda folder: Path(folder).resolve() in last)


_pools: "weakref.WeakSet[GradingPool]" = weakref.WeakSet()
_links: set[_Link] = set()


@atexit.register
def _close_all() -> None:
    for link in list(_links):
        link.close()


def _after_fork() -> None:
    """A forked child must not hold the pipes of its parent's pools, nor a lock of its threads."""
    for pool in list(_pools):
        pool._lock, pool._link = threading.Lock(), None
    for link in list(_links):
        link.disown()
    _links.clear()


os.register_at_fork(after_in_child=_after_fork)
