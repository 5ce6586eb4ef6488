"""Text columns as UTF-8 buffers, for work on whole tables at once.

Offsets in the tables count characters; buffers count bytes. These functions go from one to the
other without making a Python string of every row.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

FIRST_LEAD = -64
"""The least signed byte that begins a character; those below, 0x80 to 0xBF, continue one."""


@dataclass(frozen=True)
class Utf8Texts:
    """Texts one after the other: row i is `data[offsets[i]:offsets[i + 1]]`.

    `offsets`: int64[rows + 1], from 0.
    """

    data: bytes
    offsets: NDArray[np.int64]

    @cached_property
    def rows(self) -> list[memoryview]:
        """The bytes of each row."""
        view = memoryview(self.data)
        return [view[a:b] for a, b in pairwise(self.offsets.tolist())]

    def to_column(self) -> pa.Array:
        """The texts as a string column."""
        buffers = [None, pa.py_buffer(self.offsets.astype(np.int32)), pa.py_buffer(self.data)]
        return pa.Array.from_buffers(pa.string(), len(self.offsets) - 1, buffers)


def utf8_texts(column: pa.ChunkedArray) -> Utf8Texts:
    """The texts of a string column without nulls."""
    array = column.combine_chunks()
    if not len(array):
        return Utf8Texts(b"", np.zeros(1, dtype=np.int64))
    _, offsets, data = array.buffers()
    edges = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    edges = edges.astype(np.int64)
    held = memoryview(data)[edges[0] : edges[-1]] if data is not None else b""
    return Utf8Texts(bytes(held), edges - edges[0])


def characters_before(data: bytes, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Characters of UTF-8 `data` that begin before each byte position: int64[positions]."""
    if data.isascii():
        return positions
    continuing = np.flatnonzero(np.frombuffer(data, dtype=np.int8) < FIRST_LEAD)
    return positions - np.searchsorted(continuing, positions)


def byte_offsets(text: str, data: bytes) -> NDArray[np.int64]:
    """The byte offset of each character of `text`, and of its end: int64[len(text) + 1]."""
    if len(text) == len(data):
        return np.arange(len(text) + 1)
    return np.flatnonzero(np.frombuffer(data + b"\0", dtype=np.int8) >= FIRST_LEAD)


def character_of_byte(data: bytes) -> NDArray[np.int64]:
    """The index of the character that each byte belongs to: int64[bytes]."""
    return np.cumsum(np.frombuffer(data, dtype=np.int8) >= FIRST_LEAD) - 1
