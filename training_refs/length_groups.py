"""The order of rows in which those of a batch are of like length, so that little is padded."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from progdata.builders.randomness import row_keys, uniforms

CHUNK = 32
"""Batches within which rows are sorted by length: more of them pad less and shuffle less."""


class LengthGroups(Sampler[int]):
    """Every row once an epoch, in an order that depends on the seed and the epoch alone."""

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths, self._batch, self._seed = np.array(lengths, dtype=np.int64), batch, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(grouped_order(self._lengths, self._batch, self._seed, self._epoch))


def grouped_order(lengths: np.ndarray, batch: int, seed: int, epoch: int = 0) -> list[int]:
    """Rows shuffled, sorted by length within chunks of batches, and the batches shuffled.

    A last batch that is not full stays last.

    >>> sorted(grouped_order(np.array([5, 1, 5, 1, 1]), 2, seed=0))
    [0, 1, 2, 3, 4]
    """
    rows = _shuffled(len(lengths), seed, f"rows/{epoch}")
    size = CHUNK * batch
    chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
    ordered = [chunk[np.argsort(-lengths[chunk], kind="stable")] for chunk in chunks]
    batches = [
        chunk[start : start + batch] for chunk in ordered for start in range(0, len(chunk), batch)
    ]
    full = [own for own in batches if len(own) == batch]
    rest = [own for own in batches if len(own) < batch]
    chosen = [full[place] for place in _shuffled(len(full), seed, f"batches/{epoch}")]
    return [int(row) for own in [*chosen, *rest] for row in own]


def _shuffled(count: int, seed: int, purpose: str) -> np.ndarray:
    """The numbers below `count` in an order that depends on the seed and the purpose."""
    keys = row_keys(seed, [purpose], "length groups")
    return np.argsort(uniforms(keys, np.array([count])), kind="stable")
