"""Progress: cumulative tokens at the end of each segment (paper 000, section 5, steps 2 and 3).

`joint` tokenises the whole thinking once, and a token belongs to the segment in which it starts.
`segment-sum` tokenises each segment alone, as the paper's formula reads; its total is 1 to 2.6 %
larger where segments cut tokens (facts.md 8.12).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from progdata.builders.segmenters import SegmentFunction
from progdata.builders.tokenizer import Counter, TokenStarts
from progdata.builders.utf8 import byte_offsets

Mode = Literal["joint", "segment-sum"]
Rounding = Literal["half-even", "floor", "ceil"]


@dataclass(frozen=True)
class Segmentation:
    """The segments of a batch of texts, text after text.

    `counts`: segments of each text, int64[texts]. For each segment its end in characters (`ends`)
    and in UTF-8 bytes (`byte_ends`), and the tokens of the text up to there (`token_ends`):
    int64[segments].
    """

    counts: NDArray[np.int64]
    ends: NDArray[np.int64]
    byte_ends: NDArray[np.int64]
    token_ends: NDArray[np.int64]

    @property
    def totals(self) -> NDArray[np.int64]:
        """Tokens of each text, 0 where it has no segment: int64[texts]."""
        last = np.cumsum(self.counts) - 1
        return np.where(self.counts > 0, np.append(self.token_ends, 0)[last], 0)

    def select(self, texts: Sequence[int]) -> "Segmentation":
        """The segments of some of the texts, given by index."""
        edges = np.append(0, np.cumsum(self.counts))
        rows = [np.arange(edges[i], edges[i + 1]) for i in texts]
        chosen = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
        counts = self.counts[np.array(texts, dtype=np.int64)]
        return self.keep(counts, chosen)

    def keep(self, counts: NDArray[np.int64], segments: NDArray) -> "Segmentation":
        """Some of the segments, given by index or as a mask; `counts` says how many a text."""
        return Segmentation(
            counts, self.ends[segments], self.byte_ends[segments], self.token_ends[segments]
        )


def segment(
    texts: Sequence[str],
    segmenter: SegmentFunction,
    counter: Counter,
    *,
    min_tokens: int = 1,
) -> Segmentation:
    """Cut each text into segments of at least `min_tokens` tokens and count tokens jointly.

    A shorter segment joins the one after it; a short last one joins the one before. A text
    without a token has no segment.
    """
    starts = counter.starts(texts)
    ends = segmenter(texts, starts)
    return _merge_short(count_joint(texts, ends, starts), min_tokens)


def count_joint(
    texts: Sequence[str], ends: Sequence[Sequence[int]], starts: TokenStarts
) -> Segmentation:
    """The segments that end at these characters, with the tokens that start before each end."""
    counts = np.fromiter(map(len, ends), dtype=np.int64, count=len(ends))
    byte_ends = _flat([_byte_ends(text, own) for text, own in zip(texts, ends, strict=True)])
    return Segmentation(counts, _flat(ends), byte_ends, starts.before(byte_ends, counts))


def segment_sum(texts: Sequence[str], segmentation: Segmentation, counter: Counter) -> Segmentation:
    """The same segments, with each one's tokens counted alone and added up."""
    edges = np.append(0, np.cumsum(segmentation.counts))
    pieces: list[str] = []
    for text, first, last in zip(texts, edges[:-1], edges[1:], strict=True):
        bounds = [0, *segmentation.ends[first:last].tolist()]
        pieces += [text[a:b] for a, b in pairwise(bounds)]
    running = np.append(0, np.cumsum(counter.starts(pieces).per_text()))
    before = np.repeat(running[edges[:-1]], segmentation.counts)
    return replace(segmentation, token_ends=running[1:] - before)


def percent(token_ends: NDArray[np.int64], totals: NDArray[np.int64]) -> NDArray[np.int64]:
    """100 * token_ends / totals, rounded half to even in whole numbers: the clean label.

    >>> percent(np.array([1, 3, 5]), np.array([200, 200, 200])).tolist()
    [0, 2, 2]
    """
    quotient, remainder = np.divmod(100 * token_ends, totals)
    twice = 2 * remainder
    return quotient + ((twice > totals) | ((twice == totals) & (quotient % 2 == 1)))


ROUNDINGS: dict[Rounding, Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]] = {
    "half-even": percent,
    "floor": lambda token_ends, totals: 100 * token_ends // totals,
    "ceil": lambda token_ends, totals: -(-100 * token_ends // totals),
}
"""How progress becomes a whole percent; the paper does not say, half-even is our default."""


def _byte_ends(text: str, ends: Sequence[int]) -> Sequence[int]:
    """Character offsets of a text as offsets in its UTF-8 bytes."""
    if text.isascii():
        return ends
    return byte_offsets(text, text.encode())[list(ends)].tolist()


def _merge_short(given: Segmentation, min_tokens: int) -> Segmentation:
    """Join segments until each has `min_tokens` tokens; drop those of texts without a token."""
    edges = np.append(0, np.cumsum(given.counts))
    sizes = np.diff(given.token_ends, prepend=0)
    firsts = edges[:-1][given.counts > 0]
    sizes[firsts] = given.token_ends[firsts]
    keep = np.ones(len(sizes), dtype=bool)
    counts = given.counts.copy()
    short = np.unique(np.searchsorted(edges, np.flatnonzero(sizes < min_tokens), "right") - 1)
    for text in short.tolist():
        own = slice(edges[text], edges[text + 1])
        keep[own] = _long_enough(given.token_ends[own].tolist(), min_tokens)
        counts[text] = keep[own].sum()
    return given.keep(counts, keep)


def _long_enough(token_ends: list[int], min_tokens: int) -> list[bool]:
    """Which of one text's ends stay, so that no segment is shorter than `min_tokens`."""
    total = token_ends[-1]
    if total == 0:
        return [False] * len(token_ends)
    keep, last = [], 0
    for end in token_ends[:-1]:
        stays = end - last >= min_tokens and total - end >= min_tokens
        keep.append(stays)
        last = end if stays else last
    return [*keep, True]


def _flat(lists: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    return np.fromiter(chain.from_iterable(lists), dtype=np.int64)
