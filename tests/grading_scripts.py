"""Callers of the grading that run in processes of their own: they are killed, interrupted, fork.

A test runs one by its name (see `grading_processes.Script`); it fails by raising.
"""

import contextlib
import functools
import json
import math
import multiprocessing
import os
import random
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from grading_processes import (
    ENDLESS,
    PAIRS,
    PATIENCE,
    megabytes,
    memory_watched,
    request,
    supervisor_of,
    working,
)
from hostile_answers import hostile_answers
from shared_data import ANSWERS, read_rows

from progdata.builders.errors import ProgdataError
from progdata.verifiers import grade, grade_all
from progdata.verifiers.frames import encode
from progdata.verifiers.grading import MAX_WORKERS, shared_pool
from progdata.verifiers.pool import GradingPool
from progdata.verifiers.shortcuts import normal_form
from progdata.verifiers.verdicts import GRADERS

pool = GradingPool(1)

EXPECTED = [status for _, _, status in PAIRS]


def family() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def start() -> None:
    assert pool.submit(request(*PAIRS[0][:2])).result(PATIENCE)["status"] == EXPECTED[0]


def grade_sums(numbers: Sequence[int], shift: int = 0) -> set[str]:
    """The statuses of pairs that each number gives: equal, where nothing is added to the answer."""
    golds = [rf"{n}+x+\pi" for n in numbers]
    completions = [rf"\boxed{{x+{n + shift}+\pi}}" for n in numbers]
    return {own.status for own in grade_all(golds=golds, completions=completions)}


def statuses_of_pairs(n: int) -> list[str]:
    """The statuses of the pairs, and of one that was not graded before."""
    boxed = [(gold, rf"\boxed{{{answer}}}") for gold, answer, _ in PAIRS]
    known = [grade(gold=gold, completion=completion).status for gold, completion in boxed]
    return [*known, *grade_sums([n])]


def take_too_much_memory() -> None:
    """A worker without a supervisor, and an item that takes 80 MB of the 50 that it may."""
    from progdata.verifiers.worker import OVER_MEMORY, serve

    limit = math.ceil(megabytes(psutil.Process())) + 50
    ours, its = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        serve(its.detach())
    its.close()
    ours.sendall(encode(request("$5$", "2^{150000000}", memory_mb=limit)))
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == OVER_MEMORY, status


def supervise_impatiently() -> None:
    """A supervisor that lets an item stand still for a second, and not a minute."""
    from progdata.verifiers import supervisor

    supervisor.STILL_SECONDS = 1
    sys.argv = ["supervisor", "1"]
    supervisor.main()


def start_broken(how: str, folder: str) -> None:
    """Every way to ask fails in one line; when all is well again, nothing of it is remembered."""
    normal_form("x+1")  # imports what it needs
    python, path, environment = sys.executable, list(sys.path), dict(os.environ)
    for n in (0, 1000):
        if how == "no such Python":
            sys.executable = f"{folder}/python"
        elif how == "no Python":
            sys.executable = "/bin/false"
        elif how == "an import fails":
            sys.path.insert(0, folder)
        else:
            os.environ["PYTHONHOME"], sys.path[:] = folder, []
        fails(lambda n=n: grade(gold=f"x+{n}", completion=rf"\boxed{{{n}+x}}"))
        fails(lambda n=n: grade_sums(range(n, n + 300)))
        sys.executable, sys.path[:] = python, path
        os.environ.clear()
        os.environ.update(environment)
        assert grade_sums(range(n, n + 20)) == {"correct"}
        assert grade(gold=f"x+{n}", completion=rf"\boxed{{{n}+x}}").correct
        for workers in range(1, MAX_WORKERS + 1):
            shared_pool(workers).close()


def fails(ask: Callable[[], Any]) -> None:
    try:
        ask()
    except ProgdataError as error:
        line = str(error)
        assert line.startswith("cannot start the grading processes: "), line
        assert "\n" not in line and len(line) > 45, line
        print(line)
    else:
        raise AssertionError("it started")


def stay_busy(cpu_seconds: str) -> None:
    """Keep a worker at an item for so long."""
    pool.submit(request(*ENDLESS, cpu_seconds=float(cpu_seconds)))
    working(pool)
    print("busy", flush=True)
    time.sleep(600)


def end(how: str) -> None:
    """End in one of these ways, with processes that idle, start, or work."""
    start()
    endless = request(*ENDLESS, cpu_seconds=600)
    if how == "sys.exit":
        sys.exit(0)
    if how == "beside a daemon thread":
        threading.Thread(target=time.sleep, args=[600], daemon=True).start()
    if how == "while starting":
        GradingPool(1).submit(endless)
    if how == "while working":
        asked = pool.submit(endless)
        threading.Thread(target=asked.result, daemon=True).start()
        time.sleep(0.5)
    if how == "after the supervisor":
        supervisor_of(pool).kill()
        time.sleep(0.5)
    if how == "with more pools":
        pools = [GradingPool(1) for _ in range(3)]
        for own in [own.submit(request(*PAIRS[0][:2])) for own in pools]:
            assert own.result(PATIENCE)["status"] == EXPECTED[0]


def use_up_processes() -> None:
    """Workers and supervisors that end leave no zombie, no descriptor and no thread."""
    me = psutil.Process()
    before = 0, 0
    for n in range(4):
        if n == 1:
            before = me.num_fds(), threading.active_count()
        for own in [pool.submit(request(*ENDLESS, cpu_seconds=0.1)) for _ in range(3)]:
            assert own.result(PATIENCE)["status"] == "timeout"
        supervisor_of(pool).kill()
        start()
        assert [own for own in family() if own.status() == psutil.STATUS_ZOMBIE] == []
        pool.close()
        assert family() == []
        time.sleep(0.2)
    assert (me.num_fds(), threading.active_count()) == before, before


def interrupt_grading() -> None:
    """ctrl-C three times while hostile items are graded, and others in between."""
    assert grade_sums(range(10)) == {"correct"}
    for n in range(3):
        sent: list[float] = []
        threading.Timer(0.5, interrupt_this, [sent]).start()
        hostile = [f"$9^{{9^{{9^{{9}}}}}}+{n}{k}$" for k in range(4)]
        try:
            grade_all(golds=["$5$"] * 4, completions=hostile, cpu_seconds=3)
        except KeyboardInterrupt:
            assert time.monotonic() - sent[0] < 2
        else:
            raise AssertionError("not interrupted")
        fresh = range(100 * n + 100, 100 * n + 110)
        assert grade_sums(fresh) == {"correct"}
        assert grade_sums(fresh, shift=1) == {"wrong"}


def interrupt_this(sent: list[float]) -> None:
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)


def interrupt_at_any_moment() -> None:
    """Such as half-way through a request: the pipe is always full of long ones."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def ask(n: int) -> "tuple[int, Future[dict[str, Any]]]":
        return n, pool.submit(request(str(n), f"{n}+x" + " " * 1_900, grader="deepscaler"))

    def check(asked: "list[tuple[int, Future[dict[str, Any]]]]") -> None:
        for n, future in asked:
            assert int(future.result(PATIENCE)["gold_normal"]) == n

    random.seed(0)
    signal.signal(signal.SIGALRM, interrupt)
    check([ask(0)])
    interrupted = 0
    for first in range(0, 12_000, 1_000):
        asked = []
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.001, 0.02))
            for n in range(first, first + 1_000):
                asked.append(ask(n))
        except KeyboardInterrupt:
            interrupted += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        check([ask(first + 999), *asked])
    assert interrupted > 8, interrupted
    assert len(family()) == 2, family()


def fork_and_grade() -> None:
    """Children that are forked while threads grade; all grade, and so does the parent."""
    expected = [*EXPECTED, "correct"]
    assert statuses_of_pairs(0) == expected
    busy = [threading.Thread(target=statuses_of_pairs, args=(n,)) for n in range(1, 9)]
    for thread in busy:
        thread.start()
    children = []
    for n in range(3):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if statuses_of_pairs(100 + n) == expected else 1)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    with multiprocessing.get_context("fork").Pool(2) as forked:
        assert forked.map(statuses_of_pairs, range(200, 206)) == [expected] * 6
    assert statuses_of_pairs(9) == expected


def leave_a_fork_behind() -> None:
    """A child that lives on after its parent and never grades."""
    start()
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
    print("forked", flush=True)
    time.sleep(600)


def ignore_signals() -> None:
    """A caller that ignores and blocks what the workers are ended by."""
    for number in (signal.SIGCHLD, signal.SIGPROF, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    endless = request(*ENDLESS, cpu_seconds=0.3)
    asked = [pool.submit(own) for own in (endless, request(*PAIRS[0][:2]), endless)]
    assert [own.result(PATIENCE)["status"] for own in asked] == ["timeout", EXPECTED[0], "timeout"]
    pool.close()


def grade_hostile(canary: str, cpu_seconds: str, memory_mb: str) -> None:
    """Grade all hostile answers in one batch by both graders, an honest pair after every ninth.

    Prints in JSON what became of them, and what the grading processes held meanwhile.
    """
    hostile = [(own.name, own.gold, own.answer) for own in hostile_answers(Path(canary))]
    hostile += [
        (row["id"], row["gold"], row["answer"]) for row in read_rows(ANSWERS / "hostile.jsonl.gz")
    ]
    items = []
    for n, own in enumerate(hostile):
        items.append(own)
        if n % 9 == 8:
            gold, answer, status = PAIRS[n // 9 % len(PAIRS)]
            items.append((f"honest {n} {status}", f"${gold}$", rf"\boxed{{{answer}}}"))
    assert grade_all(golds=["x+1"], completions=["$1+x$"], workers=2)[0].correct
    (supervisor,) = psutil.Process().children()
    said: dict[str, Any] = {"libraries": [own.path for own in supervisor.memory_maps()]}
    for grader in GRADERS:
        begun = time.monotonic()
        with memory_watched(supervisor, 0.05) as peaks:
            verdicts = grade_all(
                golds=[gold for _, gold, _ in items],
                completions=[f"<think></think>{text}" for _, _, text in items],
                grader=grader,
                cpu_seconds=float(cpu_seconds),
                memory_mb=int(memory_mb),
                workers=2,
            )
        said[grader] = {
            "seconds": time.monotonic() - begun,
            "worker_mb": peaks.worker,
            "sockets": peaks.sockets,
            "verdicts": {
                name: asdict(own) for (name, *_), own in zip(items, verdicts, strict=True)
            },
        }
    print(json.dumps(said))


def attempt(path: str, folder: str) -> None:
    """Run each of the codes of a JSON file in a guarded worker of its own; `folder` has modules.

    Prints how each ended: its exit code, or the name of the exception that it raised.
    """
    from progdata.verifiers import math_verify_grader, worker

    math_verify_grader.warm_up()
    sys.path.append(folder)
    codes = json.loads(Path(path).read_text())
    ended = []
    for code in codes:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            worker._guard()
            try:
                exec(code, {})
            except Exception as error:
                os.write(writer, type(error).__name__.encode())
            os._exit(0)
        os.close(writer)
        _, status = os.waitpid(pid, 0)
        raised = os.read(reader, 100).decode()
        os.close(reader)
        ended.append(raised or os.waitstatus_to_exitcode(status))
    print(json.dumps(ended))


def record_code(path: str) -> None:
    """Grade the requests of a JSON file, each in a fork, and print all that is run as code in it.

    A line each, in JSON: the number of the request, the source (None where code was run that was
    compiled before), the file that it is said to be from, the file that compiled or ran it.
    """
    from progdata.verifiers import math_verify_grader, worker

    math_verify_grader.warm_up()
    for number, own in enumerate(json.loads(Path(path).read_text())):
        pid = os.fork()
        if pid == 0:
            signal.setitimer(signal.ITIMER_PROF, own["cpu_seconds"])
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
            sys.addaudithook(functools.partial(_print_code, number))
            with contextlib.suppress(Exception):
                if own["grader"] == "eval":
                    eval(own["gold"])
                else:
                    worker.grade_request(own)
            os._exit(0)
        os.waitpid(pid, 0)


def _print_code(number: int, event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ("compile", "exec"):
        return
    by, source = sys._getframe(1).f_code.co_filename, None
    if event == "exec":
        said = arguments[0].co_filename
    else:
        source, said = arguments
        source = source.decode("utf-8", "replace") if isinstance(source, bytes) else source
        source = source if isinstance(source, str) else type(source).__name__
    os.write(1, json.dumps([number, source, str(said), by]).encode() + b"\n")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
