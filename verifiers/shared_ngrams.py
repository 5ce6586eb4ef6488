"""Which n-grams of words texts share with the items of benchmarks: an index, and what it finds.

The index is as large as the benchmarks; nothing in it grows with the texts that are looked up.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from progdata.verifiers.word_hashes import Hashes, Words, ngram_hashes

Ints = NDArray[np.int64]

_FILTER_BITS = 23
_FILTER_MASK = np.uint64((1 << _FILTER_BITS) - 1)


@dataclass(frozen=True)
class Found:
    """Shared n-grams: `gram` of the index stands at word `place` of all words of text `text`.

    Sorted by text, then by place; a gram that a text holds twice is there twice.
    """

    text: Ints
    gram: Ints
    place: Ints


@dataclass(frozen=True)
class NgramIndex:
    """The distinct n-grams of some items: `items[first[g] : first[g + 1]]` hold gram g, at the
    words `places` of theirs."""

    n: int
    grams: Hashes
    first: Ints
    items: Ints
    places: Ints
    _filter: NDArray[np.bool_]

    def find(self, hashes: Hashes, words: Words) -> Found:
        """The n-grams of the index in some texts; `hashes` are those of their words, or masked."""
        own = ngram_hashes(hashes, self.n)
        maybe = np.flatnonzero(self._filter[own & _FILTER_MASK])
        where = np.searchsorted(self.grams, own[maybe])
        where[where == len(self.grams)] = 0
        real = self.grams[where] == own[maybe] if len(self.grams) else np.zeros(0, np.bool_)
        places, grams = maybe[real], where[real]
        texts = np.searchsorted(words.first, places, side="right") - 1
        inside = places + self.n <= words.first[texts + 1]
        return Found(texts[inside], grams[inside], places[inside])

    @property
    def items_of(self) -> Ints:
        """The number of items that hold each gram."""
        return np.diff(self.first)


def index_ngrams(hashes: Hashes, words: Words, n: int) -> NgramIndex:
    """The index of the n-grams of some items; `hashes` are those of their words, or masked."""
    own = ngram_hashes(hashes, n)
    item = np.repeat(np.arange(len(words.first) - 1), words.count())
    place = np.arange(len(own))
    inside = place + n <= words.first[item + 1]
    own, item, place = own[inside], item[inside], place[inside]
    order = np.lexsort((place, item, own))
    own, item, place = own[order], item[order], place[order]
    once = np.ones(len(own), np.bool_)
    once[1:] = (own[1:] != own[:-1]) | (item[1:] != item[:-1])
    own, item, place = own[once], item[once], place[once]
    grams, first = np.unique(own, return_index=True)
    known = np.zeros(1 << _FILTER_BITS, np.bool_)
    known[grams & _FILTER_MASK] = True
    return NgramIndex(n, grams, np.append(first, len(own)), item, place, known)


def distinct_pairs(first: Ints, second: Ints) -> tuple[Ints, Ints]:
    """Each pair of numbers once, in order."""
    if not len(first):
        return first, second
    joined = np.unique(first * (int(second.max()) + 1) + second)
    return joined // (int(second.max()) + 1), joined % (int(second.max()) + 1)


def expand(index: NgramIndex, grams: Ints) -> tuple[Ints, Ints]:
    """For each gram its items: the position in `grams`, and the item."""
    counts = index.items_of[grams]
    position = np.repeat(np.arange(len(grams)), counts)
    offset = np.arange(len(position)) - np.repeat(np.cumsum(counts) - counts, counts)
    return position, index.items[index.first[grams][position] + offset]
