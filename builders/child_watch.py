"""A process that ends an engine's processes when the one that started them is killed.

vLLM's processes go on for good when their parent gets a `kill -9`, with all of the GPU's memory, so
that the rerun would find none. This one is told by nobody: it looks twice a second.
"""

import os
import select
import subprocess
import sys
from contextlib import suppress

SECONDS = 0.5
READY = b"ready\n"


class ChildWatch:
    """Watches the processes that this one starts from now on until `ready` is called."""

    def __init__(self) -> None:
        import psutil

        known = [str(child.pid) for child in psutil.Process().children()]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(os.getpid()), *known],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # out of reach of what ends the terminal's processes
        )

    def ready(self) -> None:
        """The engine has started its processes; later ones are none of its."""
        with suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.write(READY)
            self._process.stdin.flush()

    def close(self) -> None:
        """The engine ended in order."""
        self._process.kill()
        self._process.communicate()


def main(parent: int, known: set[int]) -> None:
    """Wait until the parent is gone, then kill what it started that is not `known`."""
    import psutil

    roots: set[psutil.Process] = set()
    ours: set[psutil.Process] = set()  # what they started in turn
    ready = False
    while os.getppid() == parent:
        with suppress(psutil.Error):
            if not ready:
                started = psutil.Process(parent).children()
                roots.update(own for own in started if own.pid not in known | {os.getpid()})
        for own in roots:
            with suppress(psutil.Error):
                ours.update(own.children(recursive=True))
        ours = {own for own in ours if own.is_running()}
        readable, _, _ = select.select([] if ready else [0], [], [], SECONDS)
        ready = ready or bool(readable)
    for own in roots | ours:
        with suppress(psutil.Error):
            own.kill()  # psutil checks that the number was not given to another process


if __name__ == "__main__":
    first, *others = map(int, sys.argv[1:])
    main(first, set(others))
