"""How the loopback hub misbehaves on demand."""

import threading
from dataclasses import dataclass
from typing import Literal

Kind = Literal["status", "cut", "lose_answer", "slow", "corrupt"]


@dataclass(frozen=True)
class Fault:
    """What happens to the `nth` request whose "METHOD /path?query" contains `match`.

    status: answer `status`, with a Retry-After header if `retry_after` is given; nothing is done.
    cut: close the connection half-way through the request's body, with nothing done; if the request
        has no body, half-way through the answer's.
    lose_answer: do what was asked, and close the connection without an answer.
    slow: wait `seconds`, then go on as ever.
    corrupt: flip one byte in the middle of the answer's body.

    times: as many matching requests in a row, from the `nth` on, meet the fault.
    """

    match: str
    kind: Kind
    status: int = 500
    retry_after: int | None = None
    nth: int = 1
    times: int = 1
    seconds: float = 1.0


class FaultCounter:
    """Counts, for each fault that was listed, the requests that matched it."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Fault, int]] = {}
        self._lock = threading.Lock()

    def next(self, line: str, faults: list[Fault], fail_next: dict[str, list[int]]) -> Fault | None:
        """The fault that the request `line` meets; `fail_next` goes first."""
        with self._lock:
            for text, statuses in fail_next.items():
                if statuses and text in line:
                    return Fault(text, "status", status=statuses.pop(0))
            met = [fault for fault in faults if fault.match in line and self._is_due(fault)]
        return met[0] if met else None

    def _is_due(self, fault: Fault) -> bool:
        _, count = self._seen.get(id(fault), (fault, 0))
        self._seen[id(fault)] = (fault, count + 1)  # the fault too, so that its id is not reused
        return fault.nth <= count + 1 < fault.nth + fault.times
