"""The shard engine: pure tasks over a process pool, each one's result committed atomically.

A task's result is kept in a folder named by the task's key, which is made of its content and the
settings that can change its output. A rerun finds it there and skips the work. Nothing in a task
knows how many workers there are, or that this is a pool.
"""

import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from progdata.builders.atomic import TEMPORARY, atomic_folder
from progdata.builders.errors import ProgdataError

SUMMARY = "summary.json"

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ShardStore:
    """Committed results: a folder of folders, each with tables (Arrow IPC) and a summary."""

    folder: Path

    def open(self) -> None:
        """Make the store; drop what a killed process left unfinished in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(f"{TEMPORARY}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def holds(self, key: str) -> bool:
        return (self.folder / key).is_dir()

    def commit(self, key: str, tables: Mapping[str, pa.Table], summary: Mapping[str, Any]) -> None:
        """Store a result; visible at once and whole, or not at all."""
        with atomic_folder(self.folder / key) as folder:
            for name, table in tables.items():
                with (
                    pa.OSFile(str(folder / f"{name}.arrow"), "wb") as file,
                    pa.ipc.new_file(file, table.schema) as writer,
                ):
                    writer.write_table(table)
            (folder / SUMMARY).write_text(json.dumps(summary), "utf-8")

    def summary(self, key: str) -> dict[str, Any]:
        return json.loads((self.folder / key / SUMMARY).read_text("utf-8"))

    def table(self, key: str, name: str) -> pa.Table:
        """A stored table, mapped from disk."""
        with pa.memory_map(str(self.folder / key / f"{name}.arrow")) as file:
            return pa.ipc.open_file(file).read_all()


class Engine(Protocol):
    """Runs a function over tasks; results come in the order of the tasks."""

    workers: int

    def run(
        self, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Iterator[Result]: ...


class LocalEngine:
    """This machine: the calling process for one worker, else a pool of `workers` processes.

    A context manager; the pool starts at the first run and lives until the block ends. Each
    process of it first calls `warm_up`, which must pickle.
    """

    def __init__(self, workers: int = 1, warm_up: Callable[[], object] | None = None) -> None:
        self.workers = workers
        self._warm_up = warm_up
        self._pool: ProcessPoolExecutor | None = None
        self._others: set[Any] = set()

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is None:
            return
        if kind is not None:
            for child in set(multiprocessing.active_children()) - self._others:
                child.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Results in task order, with at most `workers + 2` tasks held at a time.

        `function` and the tasks must pickle. Raises what `function` raises; ProgdataError where a
        worker dies.
        """
        if self.workers <= 1:
            yield from map(function, tasks)
            return
        try:
            yield from _ordered(self._start(), function, tasks, self.workers + 2)
        except BrokenProcessPool as error:
            raise ProgdataError(
                "a worker process died, perhaps for want of memory; run the same command again "
                "to go on, with fewer --workers"
            ) from error

    def _start(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._others = set(multiprocessing.active_children())
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self.workers, context, initializer=_start_worker, initargs=(self._warm_up,)
            )
            for _ in range(self.workers):  # a process starts for a task that finds none idle
                _submit(self._pool, os.getpid)
        return self._pool


def _ordered(
    pool: ProcessPoolExecutor,
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    most: int,
) -> Iterator[Result]:
    held: deque[Future[Result]] = deque()
    for task in tasks:
        held.append(_submit(pool, function, task))
        if len(held) >= most:
            yield held.popleft().result()
    while held:
        yield held.popleft().result()


def _submit(
    pool: ProcessPoolExecutor, function: Callable[..., Result], *arguments: Any
) -> Future[Result]:
    with _ctrl_c_deferred():
        try:
            return pool.submit(function, *arguments)
        except Exception as error:  # a worker died, and the pool fell apart in many ways
            raise BrokenProcessPool(str(error)) from error


@contextmanager
def _ctrl_c_deferred() -> Iterator[None]:
    """Hold ctrl-C back while workers may be spawned.

    They inherit the blocked signal, so that only the parent hears it; the parent hears it when
    the new process has been sent all that it waits for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, previous)
    if heard and callable(previous):
        raise KeyboardInterrupt


def _start_worker(warm_up: Callable[[], object] | None) -> None:
    """One thread a worker; leave ctrl-C to the parent; end when the parent ends."""
    os.environ["RAYON_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pa.set_cpu_count(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        watch = partial(_end_with, parent.sentinel)
        threading.Thread(target=watch, daemon=True).start()
    if warm_up is not None:
        warm_up()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
