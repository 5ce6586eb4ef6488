"""Find problems of benchmarks in other problems: our default profile, `weighted`.

An n-gram that many problems share ("relatively prime positive integers") says nothing; one that
stands in a single benchmark item and in one other problem says much. So each shared n-gram
weighs log(N / the number of problems that hold it), and a problem is flagged where the shared
weight is most of what the item, or the problem, weighs in all. The same with all numbers masked
catches a problem with changed numbers, and says so.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from progdata.verifiers.shared_ngrams import (
    Found,
    Ints,
    NgramIndex,
    distinct_pairs,
    expand,
    index_ngrams,
)
from progdata.verifiers.word_hashes import Words, find_words, mask_numbers

BLOCK = 2_000
"""Problems that are looked at together."""

SAMPLE = 10_000
"""The first problems of a source, by which the rarity of n-grams is measured."""

EVIDENCE_CHARS = 300

Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Match:
    """A problem (`row`) that holds text of a benchmark item, and the evidence.

    `score` is in (0, 1], by the profile's own measure; `row_text` and `item_text` are the texts
    that match, at most 300 characters of each.
    """

    row: int
    item: int
    reason: str
    score: float
    row_text: str
    item_text: str


class Detector(Protocol):
    """A profile, ready for the items of some benchmarks."""

    def look(self, problems: Sequence[str]) -> list[Match]:
        """The matches of some problems, in order; `row` counts in `problems`."""
        ...


@dataclass(frozen=True)
class WeightedSettings:
    """The thresholds of `weighted`. They are ours, found on real problems (docs/contamination.md).

    `words` are the words of an n-gram. A pair is flagged where its shared weight is at least
    `share` of the item's, and at least that of `rare` n-grams that stand nowhere else (of
    `whole_rare` where all of the item is shared); or `share` of the problem's, and at least that
    of `row_rare` such n-grams, since a short question may well stand in a longer one. Masked pairs
    need `masked_share` of both, and `masked_rare`. N-grams in more than `common` items weigh
    nothing.
    """

    words: int = 5
    share: float = 0.6
    rare: float = 3.0
    row_rare: float = 5.0
    whole_rare: float = 1.0
    masked_share: float = 0.6
    masked_rare: float = 3.0
    common: int = 30


def in_blocks(problems: Iterable[str], size: int = BLOCK) -> Iterator[list[str]]:
    """Problems in blocks."""
    rest = iter(problems)
    while block := list(islice(rest, size)):
        yield block


def find_matches(problems: Iterable[str], detector: Detector) -> Iterator[Match]:
    """The matches of a stream of problems, block by block."""
    first = 0
    for block in in_blocks(problems):
        for match in detector.look(block):
            yield Match(
                match.row + first, match.item, match.reason, match.score,
                match.row_text, match.item_text,
            )  # fmt: skip
        first += len(block)


def weighted(
    items: Sequence[str], sample: Iterable[str], settings: WeightedSettings = WeightedSettings()
) -> "WeightedDetector":
    """The default profile: n-gram overlap weighted by rarity, also with numbers masked.

    `sample` are problems of the source, by which rarity is measured together with the items. A
    text of fewer than `settings.words` words matches only the same words. Source: ours; the idea
    of weights is that of inverse document frequency (as in allenai/decon, facts.md 8.6).
    """
    words = find_words(items)
    plain = index_ngrams(words.hashes, words, settings.words)
    masked = index_ngrams(mask_numbers(words), words, settings.words)
    counts = [np.zeros(len(index.grams), np.int64) for index in (plain, masked)]
    problems = 0
    for block in in_blocks(dict.fromkeys(sample)):  # a problem with many traces counts once
        problems += len(block)
        own = find_words(block)
        for index, count, hashes in zip(
            (plain, masked), counts, (own.hashes, mask_numbers(own)), strict=True
        ):
            found = index.find(hashes, own)
            _, grams = distinct_pairs(found.text, found.gram)
            count += np.bincount(grams, minlength=len(count))
    total = problems + len(items)
    by_words: dict[bytes, list[int]] = {}
    for item in range(len(items)):
        by_words.setdefault(_whole(words, item), []).append(item)
    return WeightedDetector(
        words,
        by_words,
        Side(plain, _weights(plain, counts[0], total, settings), len(items), total),
        Side(masked, _weights(masked, counts[1], total, settings), len(items), total),
        settings,
    )


def _weights(index: NgramIndex, counts: Ints, total: int, settings: WeightedSettings) -> Weights:
    known = np.log(total / np.maximum(counts + index.items_of, 1))
    return np.where(index.items_of > settings.common, 0.0, known)


@dataclass(frozen=True)
class Side:
    """An index with the weight of each of its n-grams and of each item."""

    index: NgramIndex
    weights: Weights
    items: int
    problems: int
    item_weights: Weights = field(init=False)

    def __post_init__(self) -> None:
        each = np.repeat(self.weights, self.index.items_of)
        total = np.bincount(self.index.items, weights=each, minlength=self.items)
        object.__setattr__(self, "item_weights", total)

    @property
    def rarest(self) -> float:
        """The weight of an n-gram that stands in one problem alone."""
        return float(np.log(max(self.problems, 3)))


@dataclass(frozen=True)
class Pairs:
    """Problems and items that share n-grams: the share of the weight of each that they share, and
    its amount in n-grams that stand nowhere else."""

    row: Ints
    item: Ints
    of_item: Weights
    of_row: Weights
    rare: Weights


@dataclass(frozen=True)
class WeightedDetector:
    """`weighted` for some items."""

    items: Words
    by_words: dict[bytes, list[int]]  # the items that are word for word the same
    plain: Side
    masked: Side
    settings: WeightedSettings

    def look(self, problems: Sequence[str]) -> list[Match]:
        """See `Detector`."""
        words = find_words(problems)
        matches = self._same_words(words)
        known = {(match.row, match.item) for match in matches}
        for match in chain(self._shared_text(words), self._changed_numbers(words)):
            if (match.row, match.item) not in known:
                known.add((match.row, match.item))
                matches.append(match)
        return sorted(matches, key=lambda own: (own.row, -own.score, own.item))

    def _same_words(self, words: Words) -> list[Match]:
        return [
            Match(row, item, "same text", 1.0, _cut(words, row), _cut(self.items, item))
            for row in range(len(words.first) - 1)
            for item in self.by_words.get(_whole(words, row), ())
            if words.first[row + 1] > words.first[row]
        ]

    def _shared_text(self, words: Words) -> Iterator[Match]:
        settings = self.settings
        found = self.plain.index.find(words.hashes, words)
        pairs = score_pairs(self.plain, found, words)
        share = np.maximum(pairs.of_item, pairs.of_row)
        flagged = (pairs.of_item >= settings.share) & (pairs.rare >= settings.rare)
        flagged |= (pairs.of_row >= settings.share) & (pairs.rare >= settings.row_rare)
        flagged |= (pairs.of_item >= 0.95) & (pairs.rare >= settings.whole_rare)
        for k in np.flatnonzero(flagged).tolist():
            row, item = int(pairs.row[k]), int(pairs.item[k])
            texts = shared_run(self.plain.index, found, words, self.items, row, item)
            yield Match(row, item, "shared text", round(float(share[k]), 3), *texts)

    def _changed_numbers(self, words: Words) -> Iterator[Match]:
        settings = self.settings
        found = self.masked.index.find(mask_numbers(words), words)
        pairs = score_pairs(self.masked, found, words)
        share = np.minimum(pairs.of_item, pairs.of_row)
        flagged = (share >= settings.masked_share) & (pairs.rare >= settings.masked_rare)
        for k in np.flatnonzero(flagged).tolist():
            row, item = int(pairs.row[k]), int(pairs.item[k])
            texts = _cut(words, row), _cut(self.items, item)
            yield Match(row, item, "numbers changed", round(float(share[k]), 3), *texts)


def score_pairs(side: Side, found: Found, words: Words) -> Pairs:
    """Every pair of a problem and an item that share an n-gram of some weight."""
    rows, grams = distinct_pairs(found.text, found.gram)
    weights, number = side.weights[grams], len(words.first) - 1
    shared = np.bincount(rows, weights=weights, minlength=number)
    others = np.maximum(words.count() - side.index.n + 1, 0) - np.bincount(rows, minlength=number)
    row_weights = shared + np.maximum(others, 0) * side.rarest
    rows, grams, weights = rows[weights > 0], grams[weights > 0], weights[weights > 0]
    position, items = expand(side.index, grams)
    keys, inverse = np.unique(rows[position] * side.items + items, return_inverse=True)
    common = np.bincount(inverse, weights=weights[position], minlength=len(keys))
    row, item = keys // max(side.items, 1), keys % max(side.items, 1)
    return Pairs(
        row,
        item,
        common / np.maximum(side.item_weights[item], 1e-9),
        common / np.maximum(row_weights[row], 1e-9),
        common / side.rarest,
    )


def shared_run(
    index: NgramIndex, found: Found, words: Words, items: Words, row: int, item: int
) -> tuple[str, str]:
    """The longest run of words that a problem shares with an item, as it stands in both."""
    low, high = np.searchsorted(found.text, [row, row + 1])
    grams, places = found.gram[low:high], found.place[low:high]
    position, owners = expand(index, grams)
    grams, places = grams[position[owners == item]], places[position[owners == item]]
    if not len(places):
        return "", ""
    breaks = np.flatnonzero(np.diff(places) > 1) + 1
    longest = max(np.split(np.arange(len(places)), breaks), key=len)
    start, end = places[longest[0]], places[longest[-1]] + index.n
    entry = index.first[grams[longest[0]]] + np.flatnonzero(
        index.items[index.first[grams[longest[0]]] : index.first[grams[longest[0]] + 1]] == item
    )
    at = int(index.places[entry[0]])
    stop = min(at + int(end - start), int(items.first[item + 1]))
    return words.text(int(start), int(end))[:EVIDENCE_CHARS], items.text(at, stop)[:EVIDENCE_CHARS]


def _whole(words: Words, text: int) -> bytes:
    return words.hashes[words.first[text] : words.first[text + 1]].tobytes()


def _cut(words: Words, text: int) -> str:
    return words.text(int(words.first[text]), int(words.first[text + 1]))[:EVIDENCE_CHARS]
