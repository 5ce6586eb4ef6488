"""math-verify called as its README shows, in a process of its own: what ours is compared with.

Its own timeouts are a signal of the main thread, and code in C is deaf to them (facts.md 8.11). The
process is killed where an item takes far too long, and started again where it was lost.
"""

import logging
import os
import re
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from progdata.builders.errors import ProgdataError, one_line
from progdata.verifiers.frames import READ_BYTES, Decoder, encode, write_all
from progdata.verifiers.verdicts import Comparison

WALL_SECONDS = 60.0
"""Default limit of an item by the wall clock: over what its own timeouts add up to."""

START_SECONDS = 300.0

ADDRESS_SPACE = 4 << 30
"""Bytes of address space that the process may take: more than it ever needs, less than harms."""

_DELIMITER = re.compile(r"(?<!\\)\$|\\\(|\\\[|\\boxed")


def check_directly(
    pairs: Iterable[tuple[str, str]], *, wall_seconds: float = WALL_SECONDS
) -> Iterator[Comparison]:
    """What `verify(parse(gold), parse(pred))` says of (gold, pred) pairs, one after the other.

    Golds without a delimiter are put in dollars. `timeout` where one of its own timeouts made it
    say no, or the item took `wall_seconds`; `error` where the process died; `gold_unparsable` and
    `no_answer` where nothing was parsed. Raises ProgdataError where the process cannot be started.
    """
    process: DirectProcess | None = None
    try:
        for gold, pred in pairs:
            process = process or DirectProcess(wall_seconds)
            said = process.ask(gold, pred)
            yield said
            if process.ended:
                process = None
    finally:
        if process is not None:
            process.kill()


def in_delimiters(gold: str) -> str:
    r"""A gold as math-verify is to be given it.

    >>> in_delimiters(r"2\pi"), in_delimiters(r"\boxed{2}"), in_delimiters(r"\$5")
    ('$2\\pi$', '\\boxed{2}', '$\\$5$')
    """
    return gold if _DELIMITER.search(gold) else f"${gold}$"


def fresh_python(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command and environment that run a module as this process would import it."""
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": paths}
    return [sys.executable, "-P", "-m", module, *arguments], environment


class DirectProcess:
    """A process with math-verify in its main thread. It ends with the item that it is lost at."""

    def __init__(self, wall_seconds: float) -> None:
        self.ended = False
        self._wall_seconds = wall_seconds
        self._decoder = Decoder()
        self._process = _start(wall_seconds)
        ready = self._receive(START_SECONDS)
        if ready is None or "fatal" in ready:
            self.kill()
            reason = ready["fatal"] if ready else "its process ended at its start"
            raise ProgdataError(f"cannot start math-verify: {reason}")

    def ask(self, gold: str, pred: str) -> Comparison:
        """What math-verify says of one pair."""
        assert self._process.stdin is not None
        begun = time.monotonic()
        with suppress(OSError):  # it died: nothing will be received
            write_all(self._process.stdin.fileno(), encode([gold, pred]))
        answer = self._receive(self._wall_seconds)
        if answer is not None:
            return Comparison(**answer)
        if time.monotonic() - begun >= self._wall_seconds:
            self.kill()
            return Comparison("timeout", f"killed after {self._wall_seconds:g} seconds")
        code = self._process.wait()
        self.kill()
        how = (
            f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        )
        return Comparison("error", f"its process {how}")

    def kill(self) -> None:
        """End the process, whatever it is at."""
        self.ended = True
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _receive(self, seconds: float) -> Any:
        """The next message; None where none came in so many seconds, or the process ended."""
        assert self._process.stdout is not None
        source, deadline = self._process.stdout.fileno(), time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(source, selectors.EVENT_READ)
            while selector.select(max(0.0, deadline - time.monotonic())):
                data = os.read(source, READ_BYTES)
                for message in self._decoder.feed(data):
                    return message
                if not data:
                    return None
        return None


def _start(wall_seconds: float) -> "subprocess.Popen[bytes]":
    command, environment = fresh_python(__spec__.name, str(wall_seconds))
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise ProgdataError(f"cannot start math-verify: {error}") from error


# --- in the process


class _Timeouts(logging.Handler):
    """Counts the warnings by which math-verify says that it ran into its own timeout."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += str(record.msg).startswith("Timeout during")


def serve(source: int, output: int, wall_seconds: float) -> None:
    """Answer the pairs that come from `source` until it closes."""
    timeouts = _Timeouts()
    try:
        import math_verify

        math_verify.parse("$1$")
    except Exception as error:
        write_all(output, encode({"fatal": f"{type(error).__name__}: {one_line(error)}"}))
        return
    logger = logging.getLogger("math_verify")
    logger.addHandler(timeouts)
    logger.propagate = False
    write_all(output, encode({"ready": True}))
    decoder = Decoder()
    while data := os.read(source, READ_BYTES):
        for gold, pred in decoder.feed(data):
            signal.setitimer(
                signal.ITIMER_PROF, 2 * wall_seconds
            )  # where nobody is left to kill it
            write_all(output, encode(asdict(_compare(gold, pred, timeouts))))
            signal.setitimer(signal.ITIMER_PROF, 0)


def _compare(gold: str, pred: str, timeouts: _Timeouts) -> Comparison:
    from math_verify import parse, verify

    before = timeouts.count
    try:
        golds, answers = parse(in_delimiters(gold)), parse(pred)
        equal = verify(golds, answers)
    except BaseException as error:  # its own timeout is no Exception
        return Comparison("error", f"{type(error).__name__}: {one_line(error)}")
    if equal:
        return Comparison("correct", "math-verify")
    if timeouts.count > before:
        return Comparison("timeout", "its own timeout")
    if not golds:
        return Comparison("gold_unparsable", "nothing parsed in the gold")
    if not answers:
        return Comparison("no_answer", "nothing parsed in the answer")
    return Comparison("wrong", "math-verify")


def main() -> None:
    """Serve standard input until it closes: pairs in, comparisons out, as frames."""
    source, output = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    with suppress(OSError, ValueError):  # not every system limits it
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, hard))
    serve(source, output, float(sys.argv[1]))


if __name__ == "__main__":
    main()
