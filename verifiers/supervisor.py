"""The supervisor: a process of its own that forks workers, feeds them, and kills those over budget.

It loads the graders once, so that a new worker costs a fork and not an import. It does nothing
else, and waits for nobody, so that no item and no busy caller can keep it from watching. `pool`
starts it and talks to it through its standard input and output; it ends when its caller does.
"""

import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import psutil

from progdata.verifiers.frames import READ_BYTES, READY, Decoder, encode, write_all
from progdata.verifiers.math_verify_grader import warm_up
from progdata.verifiers.worker import FORBIDDEN, OVER_MEMORY, serve

WATCH_SECONDS = 0.02
"""Time between looks at the memory of busy workers."""

STILL_SECONDS = 60.0
"""An item that uses no CPU time for so long waits for ever, and is ended. However loaded a machine
is, a process that wants to run gets some of it."""


@dataclass
class Worker:
    """A forked worker, and the request that it is at."""

    process: psutil.Process
    channel: socket.socket
    decoder: Decoder = field(default_factory=Decoder)
    request: dict[str, Any] | None = None
    looked: float = 0.0  # when its CPU time was last looked at, or the request begun
    spent: float = -1.0  # what its CPU time was then
    retires: bool = False
    killed: str | None = None  # why

    @property
    def idle(self) -> bool:
        """Whether it waits for a request."""
        return self.request is None and not self.retires and self.killed is None


class Supervisor:
    """Keeps at most `limit` workers; `output` is where answers go."""

    def __init__(self, limit: int, output: int) -> None:
        self._limit = limit
        self._output = output
        self._unsent = bytearray()
        self._waiting: deque[dict[str, Any]] = deque()
        self._workers: dict[int, Worker] = {}  # by the descriptor of their channel
        self._selector = selectors.DefaultSelector()
        self._watched = 0.0  # when the workers were last looked at

    def run(self, source: int) -> None:
        """Serve requests from `source` until it closes; no worker outlives this."""
        os.set_blocking(self._output, False)
        try:
            self._serve(source)
        except BrokenPipeError:  # the caller is gone
            pass
        finally:
            for worker in self._workers.values():
                worker.process.kill()
            for worker in self._workers.values():
                os.waitpid(worker.process.pid, 0)

    def _serve(self, source: int) -> None:
        decoder = Decoder()
        self._selector.register(source, selectors.EVENT_READ)
        while True:
            busy = any(worker.request for worker in self._workers.values())
            for key, _ in self._selector.select(WATCH_SECONDS if busy else None):
                if key.fd in self._workers:
                    self._hear(self._workers[key.fd])
                elif key.fd == source:
                    data = os.read(source, READ_BYTES)
                    if not data:
                        return
                    self._take(decoder.feed(data))
            self._watch()
            self._hand_out()
            self._send()

    def _take(self, messages: Iterable[dict[str, Any]]) -> None:
        """Requests wait for a worker; those that are to be forgotten leave it."""
        for message in messages:
            if "forget" not in message:
                self._waiting.append(message)
                continue
            ids = set(message["forget"])
            self._waiting = deque(own for own in self._waiting if own["id"] not in ids)
            for worker in self._workers.values():
                if worker.request and worker.request["id"] in ids:
                    self._kill(worker, "forgotten")

    def _hand_out(self) -> None:
        """Give waiting requests to idle workers, or to new ones where the limit allows."""
        while self._waiting:
            worker = next((own for own in self._workers.values() if own.idle), None)
            if worker is None:
                if len(self._workers) >= self._limit:
                    return
                worker = self._fork()
            worker.request = self._waiting.popleft()
            worker.looked, worker.spent = time.monotonic(), -1.0
            with contextlib.suppress(OSError):  # it may just have ended, which `_hear` will know
                write_all(worker.channel.fileno(), encode(worker.request))  # idle: it reads at once

    def _fork(self) -> Worker:
        ours, its = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            self._become_worker(its, ours)
        its.close()
        worker = self._workers[ours.fileno()] = Worker(psutil.Process(pid), ours)
        self._selector.register(ours, selectors.EVENT_READ)
        return worker

    def _become_worker(self, channel: socket.socket, parents: socket.socket) -> NoReturn:
        try:
            for descriptor in {*self._selector.get_map(), self._output, parents.fileno()}:
                os.close(descriptor)
            self._selector.close()
            _prefer_to_kill_this()
            serve(channel.detach())
        finally:
            os._exit(1)

    def _hear(self, worker: Worker) -> None:
        try:
            data = worker.channel.recv(READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._bury(worker)
        for answer in worker.decoder.feed(data):
            worker.retires = answer.pop("retires")
            self._answer(worker, answer)

    def _bury(self, worker: Worker) -> None:
        """A worker ended; what it was at gets its verdict."""
        self._selector.unregister(worker.channel)
        del self._workers[worker.channel.fileno()]
        worker.channel.close()
        _, status = os.waitpid(worker.process.pid, 0)
        if worker.request is not None:
            code = os.waitstatus_to_exitcode(status)
            self._answer(worker, _cause_of_death(worker.request, code, worker.killed))

    def _answer(self, worker: Worker, answer: dict[str, Any]) -> None:
        assert worker.request is not None
        self._unsent += encode(answer | {"id": worker.request["id"]})
        worker.request = None

    def _send(self) -> None:
        """Send as much as the caller takes; its pipe is watched while there is more."""
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                del self._unsent[: os.write(self._output, self._unsent)]
        if bool(self._unsent) == (self._output in self._selector.get_map()):
            return
        if self._unsent:
            self._selector.register(self._output, selectors.EVENT_WRITE)
        else:
            self._selector.unregister(self._output)

    def _watch(self) -> None:
        """Kill workers that are over their memory, or stand still."""
        now = time.monotonic()
        if now - self._watched < WATCH_SECONDS:
            return
        self._watched = now
        for worker in self._workers.values():
            if worker.request is None or worker.killed:
                continue
            if _memory(worker.process) > worker.request["memory_mb"] * 2**20:
                self._kill(worker, _over_memory(worker.request))
            elif now - worker.looked > STILL_SECONDS:
                before, worker.spent, worker.looked = worker.spent, _spent(worker.process), now
                if worker.spent - before < 0.01:
                    self._kill(worker, "waited for ever without using CPU")

    def _kill(self, worker: Worker, why: str) -> None:
        worker.killed = why
        worker.process.kill()


def _cause_of_death(request: dict[str, Any], code: int, killed: str | None) -> dict[str, Any]:
    """The verdict on the item that a worker died of, by its exit code (negative for signals)."""
    if killed is not None:
        return {"status": "error", "rule": killed}
    if code == -signal.SIGPROF:
        spent = request["cpu_seconds"]
        rule = f"over its budget of {spent:g} CPU seconds"
        return {"status": "timeout", "rule": rule, "cpu_seconds": spent}
    if code == OVER_MEMORY:
        rule = _over_memory(request)
    elif code == FORBIDDEN:
        rule = "the worker reached for what is forbidden, and was ended"
    elif code < 0:
        rule = f"the worker died of {signal.Signals(-code).name}"
    else:
        rule = f"the worker ended with exit code {code}"
    return {"status": "error", "rule": rule}


def _over_memory(request: dict[str, Any]) -> str:
    return f"over its memory of {request['memory_mb']} MB"


def _memory(process: psutil.Process) -> int:
    """Bytes of memory that a process holds; 0 where it is gone."""
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def _spent(process: psutil.Process) -> float:
    """The seconds of CPU time that a process has used; 0 where it is gone."""
    try:
        times = process.cpu_times()
        return times.user + times.system
    except psutil.Error:
        return 0.0


def _prefer_to_kill_this() -> None:
    """Where memory runs out, let the system end this worker before its user's own processes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def main() -> None:
    """Serve standard input until it closes: requests in, answers out, as frames."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the caller's own settings are inherited
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warm_up()
    source, output = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    write_all(output, READY)
    gc.collect()
    gc.freeze()
    Supervisor(int(sys.argv[1]), output).run(source)


if __name__ == "__main__":
    main()
