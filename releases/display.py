"""What a running command shows on standard error: a live bar, or plain lines for logs."""

import sys
import time
from types import TracebackType
from typing import Protocol, TextIO

PLAIN_SECONDS = 10.0
"""Time between plain lines."""


class Display(Protocol):
    """Shows how far a stage is."""

    def stage(self, name: str) -> None: ...

    def update(self, share: float, rows: int, size: int) -> None: ...

    def say(self, share: float, text: str) -> None: ...


class Silent:
    """Shows nothing."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def update(self, share: float, rows: int, size: int) -> None:
        """`share` of the stage is done: so many rows, so many bytes of text, since it began."""

    def say(self, share: float, text: str) -> None:
        """`share` of the stage is done, of which `text` says more."""


class PlainLines(Silent):
    """One line a stage and every ten seconds, for logs."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._name, self._begun, self._shown, self._done = "", 0.0, 0.0, False

    def stage(self, name: str) -> None:
        self._name, self._begun = name, time.monotonic()
        self._shown, self._done = self._begun, False
        print(f"{name} ...", file=self._stream, flush=True)

    def update(self, share: float, rows: int, size: int) -> None:
        now = time.monotonic()
        spent = max(now - self._begun, 1e-9)
        left = f", {spent * (1 - share) / share:.0f} s left" if 0 < share < 1 else ""
        rate = size / 1e6 / spent
        self._print(now, share, f"{rows:,} rows, {100 * share:.0f}%, {rate:.1f} MB/s{left}")

    def say(self, share: float, text: str) -> None:
        self._print(time.monotonic(), share, text)

    def _print(self, now: float, share: float, text: str) -> None:
        if self._done or (share < 1.0 and now - self._shown < PLAIN_SECONDS):
            return
        self._done = share >= 1.0
        self._shown = now
        print(f"{self._name}: {text}", file=self._stream, flush=True)


class LiveBar:
    """A progress bar with what a stage says beside it, and the time left; a context manager."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        self._bar = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(20),
            TextColumn("{task.fields[said]}", table_column=Column(ratio=1)),  # it may wrap
            TimeRemainingColumn(),
            console=Console(stderr=True),
            expand=True,
        )
        self._task, self._begun = None, 0.0

    def __enter__(self) -> "LiveBar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stage(self, name: str) -> None:
        self._begun = time.monotonic()
        self._task = self._bar.add_task(name, total=1.0, said="0 rows, 0.0 MB/s")

    def update(self, share: float, rows: int, size: int) -> None:
        rate = size / 1e6 / max(time.monotonic() - self._begun, 1e-9)
        self.say(share, f"{rows:,} rows, {rate:.1f} MB/s")

    def say(self, share: float, text: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=share, said=text)
