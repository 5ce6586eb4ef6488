"""What an engine's own processes print: kept in a file, away from the user's terminal."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CAUSE = re.compile(r"(?:[\w.]*(?:Error|Exception|Exit)): (?P<said>\S.*)")
_WRAPPERS = ("see stack trace", "root cause", "Engine core initialization", "EngineDead")
_TAIL_BYTES = 1 << 18


@contextmanager
def printed_to(path: Path | None) -> Iterator[None]:
    """Send what this process and those that it starts print to the end of a file.

    Processes that start within the block go on printing there. None: print as usual.
    """
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept = [(number, os.dup(number)) for number in (1, 2)]
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        for number, _ in kept:
            os.dup2(log, number)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, own in kept:
            os.dup2(own, number)
            os.close(own)
        os.close(log)


def find_cause(path: Path | None, begun: int = 0) -> str | None:
    """The first error that a log names after `begun` bytes which is not about another one."""
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(begun, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    for line in lines:
        found = _CAUSE.search(line)
        if found and not any(own in line for own in _WRAPPERS):
            return " ".join(found[0].split())[:300]
    return None
