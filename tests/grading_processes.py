"""Looking after the processes that grade: who they are, what they hold, whether any is left."""

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from progdata.verifiers.frames import READ_BYTES, READY, Decoder, encode, write_all
from progdata.verifiers.pool import GradingPool

PATIENCE = 300.0
"""Seconds after which a test that waits has failed; machines that run other work are slow."""

ENDLESS = ("$5$", "9^{9^{9^{9}}}")
"""A gold and an answer that take more CPU time than anyone has."""

GREEDY = ("$5$", "(1+2i)^{10^{8}}")
"""A gold and an answer that take more and more memory, and little CPU time until then."""

PAIRS = [
    (r"\frac{\pi}{2}", r"\pi/2", "correct"),
    (r"(x+1)^2", r"x^2+2x+1", "correct"),
    (r"(x+1)^3", r"x^3+3x^2+3x+2", "wrong"),
    (r"\sqrt{8}", r"2\sqrt{2}", "correct"),
    (r"[1,2)", r"[1,2]", "wrong"),
    (r"\{1,2,3\}", r"\{3,2,1\}", "correct"),
    (r"\frac{1}{\sqrt{3}}", r"\frac{\sqrt{3}}{3}", "correct"),
    (r"2\pi", r"6.28", "wrong"),
]
"""Golds and answers that take computer algebra and little time, with their statuses."""


def request(
    gold: str,
    answer: str,
    *,
    cpu_seconds: float = 20,
    memory_mb: int = 800,
    grader: str = "math-verify",
) -> dict[str, Any]:
    """What a pool is asked, with a budget that no honest item comes near."""
    return {
        "grader": grader,
        "gold": gold,
        "answer": answer,
        "cpu_seconds": cpu_seconds,
        "memory_mb": memory_mb,
    }


def sum_of_terms(count: int) -> tuple[str, str]:
    """A gold and an equal answer that take about 1.5 ms of CPU time a term."""
    terms = "+".join(f"{n}x" for n in range(1, count + 1))
    return f"${terms}$", f"{count * (count + 1) // 2}x"


def statuses(pool: GradingPool, requests: list[dict[str, Any]]) -> list[str]:
    """The statuses of all, asked at once."""
    return [future.result(PATIENCE)["status"] for future in [pool.submit(own) for own in requests]]


def supervisor_of(pool: GradingPool) -> psutil.Process:
    assert pool._link is not None
    return psutil.Process(pool._link.process.pid)


def workers_of(pool: GradingPool) -> list[psutil.Process]:
    return supervisor_of(pool).children()


def wait_until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What the condition gives, once it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return found


def working(pool: GradingPool) -> psutil.Process:
    """The only worker of a pool, once it has one."""
    (worker,) = wait_until(lambda: workers_of(pool))
    return worker


class Peaks:
    """The most that a supervisor and a worker of it held while watched, in MB and sockets."""

    supervisor = 0.0
    worker = 0.0
    sockets = 0  # to a network


@contextmanager
def memory_watched(supervisor: psutil.Process, seconds: float = 0.01) -> Iterator[Peaks]:
    """Look at a supervisor and its workers every so often."""
    peaks, over = Peaks(), threading.Event()

    def watch() -> None:
        while not over.wait(seconds):
            peaks.supervisor = max(peaks.supervisor, megabytes(supervisor))
            for worker in supervisor.children():
                peaks.worker = max(peaks.worker, megabytes(worker))
                peaks.sockets = max(peaks.sockets, network_sockets(worker))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def megabytes(process: psutil.Process) -> float:
    """The resident memory of a process, 0 where it is gone."""
    try:
        return process.memory_info().rss / 2**20
    except psutil.Error:
        return 0.0


def network_sockets(process: psutil.Process) -> int:
    """How many sockets to a network a process has, 0 where it is gone."""
    try:
        return len(process.net_connections(kind="inet"))
    except psutil.Error:
        return 0


MARK = "PROGDATA_TEST_MARK"

SCRIPTS = Path(__file__).parent / "grading_scripts.py"


class Script:
    """A Python program in a process of its own, and all processes that come from it."""

    def __init__(self, *command: str | Path, cwd: Path | None = None, **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env=os.environ | {MARK: self.mark} | environment,
        )

    def output(self, seconds: float = PATIENCE) -> str:
        """What it printed; it must end well, and say nothing on its standard error."""
        try:
            output, errors = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert (self.process.returncode, errors) == (0, ""), output + errors
        return output

    def kill(self) -> None:
        """As `kill -9` does, which reaches this process alone."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def processes(self) -> list[psutil.Process]:
        """Those that came from it and are alive."""
        return marked(self.mark)


def script(name: str, *arguments: str | Path) -> Script:
    """One of `grading_scripts`, started."""
    return Script(SCRIPTS, name, *arguments)


def marked(mark: str) -> list[psutil.Process]:
    """The living processes that have a mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:  # it just ended, or is a zombie
            continue
    return found


class RawSupervisor:
    """A supervisor without its pool: it is asked and heard by hand."""

    def __init__(self, *command: str | Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *(command or ("-m", "progdata.verifiers.supervisor", "1"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.requests, self.answers = self.process.stdin.fileno(), self.process.stdout
        assert self.answers.read(len(READY)) == READY

    def __enter__(self) -> "RawSupervisor":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=PATIENCE)

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def ask(self, number: int, request: dict[str, Any]) -> None:
        write_all(self.requests, encode(request | {"id": number}))

    def hear(self, count: int) -> dict[int, dict[str, Any]]:
        """So many answers, by their numbers."""
        decoder, found = Decoder(), {}
        while len(found) < count:
            data = os.read(self.answers.fileno(), READ_BYTES)
            assert data, "the supervisor ended"
            found |= {answer["id"]: answer for answer in decoder.feed(data)}
        return found
