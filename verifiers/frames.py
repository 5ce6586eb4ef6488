"""Messages between processes: JSON, each behind its length in four bytes.

JSON and not pickle, so that a worker that was taken over could send nothing that runs.
"""

import json
import os
import struct
from collections.abc import Iterator
from typing import Any

READY = b"\0grading processes ready\0"
"""What a supervisor writes first; where it writes anything else, that is why it cannot start."""

READ_BYTES = 1 << 18

_LENGTH = struct.Struct(">I")


def encode(message: Any) -> bytes:
    """A message as bytes."""
    data = json.dumps(message).encode("ascii")
    return _LENGTH.pack(len(data)) + data


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, waiting where the reader is slow."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class Decoder:
    """Puts messages together from the pieces in which a pipe hands them over."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """The messages that `data` completes."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                return
            message = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield json.loads(message)
