"""Random numbers that depend on a row alone: SplitMix64 keyed by (seed, trace_id, variant).

NumPy keeps its bit generators stable but not its distributions, and one generator a row is slow;
this is SplitMix64 (Steele, Lea, Flood 2014) as a counter-based generator over whole tables, so a
row's numbers are the same in any batch, process or order.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def row_keys(seed: int, trace_ids: Sequence[str], purpose: str) -> NDArray[np.uint64]:
    """One 64-bit key a row: the first 8 bytes of SHA-256 of "seed/purpose/trace_id"."""
    prefix = f"{seed}/{purpose}/"
    digests = (hashlib.sha256((prefix + trace_id).encode()).digest()[:8] for trace_id in trace_ids)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def uniforms(keys: NDArray[np.uint64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """`counts[i]` numbers in (0, 1] for each row, row after row: float64[counts.sum()]."""
    total = int(counts.sum())
    position = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    with np.errstate(over="ignore"):
        state = np.repeat(keys, counts) + (position.astype(np.uint64) + np.uint64(1)) * _GOLDEN
        state = (state ^ (state >> np.uint64(30))) * _MIX_1
        state = (state ^ (state >> np.uint64(27))) * _MIX_2
        state ^= state >> np.uint64(31)
    return ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normals(keys: NDArray[np.uint64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """`counts[i]` standard normal numbers for each row (Box-Muller): float64[counts.sum()]."""
    pairs = uniforms(keys, counts * 2)
    return np.sqrt(-2.0 * np.log(pairs[0::2])) * np.cos(2.0 * np.pi * pairs[1::2])
