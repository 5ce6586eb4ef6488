"""A worker process: grades one item after the other, each within its budget of CPU seconds.

It is forked by the supervisor, which watches its memory. Over its CPU budget the kernel ends it,
whatever code it is in: the timer counts its own CPU time, and its signal has no handler.
"""

import importlib
import os
import resource
import signal
import sys
import sysconfig
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from sympy.core.random import seed as seed_sympy

from progdata.verifiers import deepscaler_grader, math_verify_grader
from progdata.verifiers.frames import READ_BYTES, Decoder, encode, write_all
from progdata.verifiers.verdicts import Comparison

RETIRE_ITEMS, RETIRE_KB = 1_000, 64 << 10
"""math-verify leaks, and sympy's caches grow: a worker ends after so many items, or when it has
held so much more memory than at its start, and another is forked."""

FORBIDDEN, OVER_MEMORY = 77, 78
"""Exit codes of a worker in which something tried to reach a file, a socket or a process, and of
one that finds after an item that this had taken more memory than its budget."""


def serve(channel: int) -> NoReturn:
    """Grade what comes through `channel` until it closes, or it is time to retire."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _guard()
    decoder = Decoder()
    done, kilobytes = 0, _peak_kilobytes()
    while data := os.read(channel, READ_BYTES):
        for request in decoder.feed(data):
            answer = _timed(request)
            done += 1
            retires = done >= RETIRE_ITEMS or _peak_kilobytes() - kilobytes > RETIRE_KB
            write_all(channel, encode(answer | {"retires": retires}))
            if retires:
                os._exit(0)
    os._exit(0)


def _peak_kilobytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 10 if sys.platform == "darwin" else peak


def _timed(request: dict[str, Any]) -> dict[str, Any]:
    peak, begun = _peak_kilobytes(), time.process_time()
    seed_sympy(0)  # sympy tries random points: the same ones for an item, whatever came before it
    try:
        signal.setitimer(signal.ITIMER_PROF, request["cpu_seconds"])
        answer = grade_request(request)
    except (MemoryError, RecursionError) as error:
        answer = asdict(Comparison("error", type(error).__name__))
    except Exception as error:
        answer = asdict(Comparison("error", f"{type(error).__name__}: {error}"[:200]))
    signal.setitimer(signal.ITIMER_PROF, 0)
    if _peak_kilobytes() > max(peak, request["memory_mb"] * 1024):
        os._exit(OVER_MEMORY)  # too short a peak for the supervisor to see
    return answer | {"cpu_seconds": round(time.process_time() - begun, 6)}


def grade_request(request: dict[str, Any]) -> dict[str, Any]:
    """The comparison that a request asks for; with `found` where the answer had to be looked for.

    A request holds `grader`, `gold`, and `answer` (LaTeX) or else `text` (a response without box);
    the grader `gold` asks whether the gold can be graded at all.
    """
    gold: str = request["gold"]
    answer: Any = request.get("answer")
    if request["grader"] == "gold":
        return asdict(math_verify_grader.check_gold(gold))
    if request["grader"] == "deepscaler":
        return asdict(deepscaler_grader.compare(gold, answer))
    if answer is not None:
        return asdict(math_verify_grader.compare(gold, answer))
    found = math_verify_grader.find_in_text(request["text"])
    if found is None:
        return asdict(Comparison("no_answer", "no answer in the response"))
    text = request["text"][found.start : found.end]
    span = {"start": found.start, "end": found.end, "text": text, "extraction": found.extraction}
    return asdict(math_verify_grader.compare_found(gold, found)) | {"found": span}


def _guard() -> None:
    """End this process where anything in it reaches for a file, a socket or another process.

    Nothing that is graded should get that far: this is the second line. Reading the modules of
    this Python is allowed, since libraries import some of them late; reading anything else is
    refused (Python itself looks for a file of the name `<unknown>` to explain a syntax error).
    """
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
        resource.setrlimit(limit, (0, 0))
    for module, names in _UNHEARD.items():
        for name in names:
            vars(importlib.import_module(module)).pop(name, None)
    sys.dont_write_bytecode = True
    folders = (*sysconfig.get_paths().values(), *filter(None, sys.path))
    allowed = tuple(f"{own}/" for folder in folders for own in (Path(folder).resolve(), folder))

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _HARMLESS or event.partition(".")[0] not in _WATCHED:
            return
        if event != "open" or not _reads(arguments):
            os._exit(FORBIDDEN)
        if not _is_module(arguments[0], allowed):
            raise PermissionError(f"a grading worker reads no files: {arguments[0]!r:.80}")

    sys.addaudithook(watch)


_WATCHED = {
    *("open", "os", "pty", "shutil", "subprocess", "signal", "resource"),
    *("ctypes", "fcntl", "mmap", "socket", "sqlite3", "syslog", "urllib", "ftplib"),
}
_HARMLESS = {"os.listdir", "os.scandir"}  # importlib looks for modules
_UNHEARD = {
    "_posixsubprocess": ("fork_exec",),
    "subprocess": ("_fork_exec",),
    **dict.fromkeys(("os", "posix"), ("mkfifo", "mknod", "pidfd_open")),
}  # of these the hook would not hear


def _reads(arguments: tuple[Any, ...]) -> bool:
    """Whether an `open` only reads."""
    _, mode, flags = arguments
    return not (
        (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or set(mode or "") & set("wax+")
    )


def _is_module(path: object, folders: tuple[str, ...]) -> bool:
    return (
        isinstance(path, str)
        and path.endswith((".py", ".pyc", ".so"))
        and os.path.normpath(path).startswith(folders)
    )
