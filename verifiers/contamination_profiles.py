"""The contamination rules that the field uses, each as published, beside our own `weighted`."""

import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from progdata.builders.errors import UsageError
from progdata.builders.nearest import did_you_mean
from progdata.verifiers.contamination import (
    EVIDENCE_CHARS,
    SAMPLE,
    Detector,
    Match,
    find_matches,
    weighted,
)
from progdata.verifiers.near_duplicates import COSINE, MODEL, Encode, Vectors, load_encoder

RATIO = 95.0


@dataclass(frozen=True)
class ContaminationSettings:
    """Against what a build is held, by which profile, and whether what is flagged leaves it."""

    against: tuple[str, ...]
    profile: str
    action: str
    model: str


def find_leaks(
    problems: Sequence[str],
    items: Sequence[str],
    profile: str = "weighted",
    *,
    model: str = MODEL,
) -> list[Match]:
    """The matches of problems with the items of a benchmark, by row, the best first.

    `profile` is one of `PROFILES`; `model` is for `embedding`. Raises UsageError for an unknown
    profile.
    """
    detector = make_detector(profile, items, problems[:SAMPLE], model=model)
    return list(find_matches(problems, detector))


def make_detector(
    profile: str, items: Sequence[str], sample: Iterable[str], *, model: str = MODEL
) -> Detector:
    """A profile, ready for some items. `sample` are problems of the source (see `weighted`)."""
    if profile not in PROFILES:
        raise UsageError(
            f"unknown profile {profile!r}{did_you_mean(profile, PROFILES)}; "
            f"choose from {', '.join(PROFILES)}"
        )
    return PROFILES[profile](items, sample, model)


def ngram_8(items: Sequence[str]) -> Detector:
    """Any shared 8-gram of words in lower case: open-r1 `scripts/decontaminate.py`, s1
    `collect_data.py` (facts.md 8.6). An item of fewer than 8 words is never flagged."""
    return NgramDetector.of(items, 8, _lower_words, "shared 8-gram")


def ngram_13(items: Sequence[str]) -> Detector:
    """Any shared 13-gram of words in lower case without punctuation: GPT-3, lm-eval's `janitor.py`
    (facts.md 8.6). An item of fewer than 13 words is never flagged."""
    return NgramDetector.of(items, 13, _bare_words, "shared 13-gram")


def coverage_50(items: Sequence[str]) -> Detector:
    """At least half of an item's words stand in shared 8-grams: the rule of Tülu 3 (facts.md 8.6;
    8-grams, over 50 %), on words in lower case without punctuation. An item of fewer than 8 words
    is covered where all of it stands in the problem."""
    return NgramDetector.of(items, 8, _bare_words, "coverage", share=0.5)


def fuzzy_95(items: Sequence[str]) -> Detector:
    """Indel similarity of the whole texts of at least 95 %: open-thoughts (`fuzz.ratio`, no
    normalisation; facts.md 8.6). Short texts need to be nearly equal as long ones do."""
    return FuzzyDetector(list(items))


def embedding(items: Sequence[str], model: str = MODEL) -> Detector:
    """Cosine of sentence embeddings over 0.9: the retrieval step of NeMo-Skills and LMSYS's
    llm-decontaminator (facts.md 8.6), with DeepScaleR's threshold in place of their LLM judge.
    `model` is any sentence-transformers path. Needs the extra `embed`."""
    return EmbeddingDetector.of(items, model)


PROFILES: dict[str, Callable[[Sequence[str], Iterable[str], str], Detector]] = {
    "weighted": lambda items, sample, _: weighted(items, sample),
    "ngram-8": lambda items, *_: ngram_8(items),
    "ngram-13": lambda items, *_: ngram_13(items),
    "coverage-50": lambda items, *_: coverage_50(items),
    "fuzzy-95": lambda items, *_: fuzzy_95(items),
    "embedding": lambda items, _, model: embedding(items, model),
}
"""The profiles by name; the first is the default."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _lower_words(text: str) -> list[str]:
    return text.lower().split()


def _bare_words(text: str) -> list[str]:
    return text.lower().translate(_PUNCTUATION).split()


@dataclass(frozen=True)
class NgramDetector:
    """Shared word n-grams: any of them, or enough to cover `share` of an item's words."""

    n: int
    tokenise: Callable[[str], list[str]]
    reason: str
    share: float
    items: list[list[str]]
    owners: dict[str, list[tuple[int, int]]]  # n-gram -> the items that hold it, and where

    @classmethod
    def of(
        cls,
        items: Sequence[str],
        n: int,
        tokenise: Callable[[str], list[str]],
        reason: str,
        share: float = 0.0,
    ) -> "NgramDetector":
        words = [tokenise(item) for item in items]
        owners: dict[str, list[tuple[int, int]]] = {}
        for item, own in enumerate(words):
            size = min(n, len(own)) if share else n
            for place in range(len(own) - size + 1 if size else 0):
                owners.setdefault(" ".join(own[place : place + size]), []).append((item, place))
        return cls(n, tokenise, reason, share, words, owners)

    def look(self, problems: Sequence[str]) -> list[Match]:
        """See `contamination.Detector`."""
        return [match for row, text in enumerate(problems) for match in self._matches(row, text)]

    def _matches(self, row: int, text: str) -> list[Match]:
        words = self.tokenise(text)
        shared: dict[int, dict[int, int]] = {}  # item -> place in it -> place in the problem
        for size in self._sizes(len(words)):
            for place in range(len(words) - size + 1):
                for item, where in self.owners.get(" ".join(words[place : place + size]), ()):
                    shared.setdefault(item, {}).setdefault(where, place)
        found = [self._match(row, words, item, places) for item, places in shared.items()]
        kept = [match for match in found if match.score >= self.share]
        return sorted(kept, key=lambda own: (-own.score, own.item))

    def _sizes(self, words: int) -> Iterable[int]:
        """The lengths of the n-grams that are looked up; short items are looked up whole."""
        return range(1, min(self.n, words) + 1) if self.share else (self.n,)

    def _match(self, row: int, words: list[str], item: int, places: dict[int, int]) -> Match:
        own = self.items[item]
        covered = {at + k for at in places for k in range(min(self.n, len(own)))}
        first = min(places)
        last = first
        while last + 1 in places and places[last + 1] == places[last] + 1:
            last += 1
        size = last - first + min(self.n, len(own))
        start = places[first]
        return Match(
            row,
            item,
            self.reason,
            round(len(covered) / len(own), 3),
            " ".join(words[start : start + size])[:EVIDENCE_CHARS],
            " ".join(own[first : first + size])[:EVIDENCE_CHARS],
        )


@dataclass(frozen=True)
class FuzzyDetector:
    """Whole texts that are nearly equal."""

    items: list[str]

    def look(self, problems: Sequence[str]) -> list[Match]:
        """See `contamination.Detector`."""
        from rapidfuzz import fuzz, process

        texts = list(problems)
        scores = process.cdist(texts, self.items, scorer=fuzz.ratio, score_cutoff=RATIO)
        rows, items = np.nonzero(scores)
        return [
            Match(
                row,
                item,
                "nearly the same text",
                round(float(scores[row, item]) / 100, 3),
                texts[row][:EVIDENCE_CHARS],
                self.items[item][:EVIDENCE_CHARS],
            )
            for row, item in zip(rows.tolist(), items.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class EmbeddingDetector:
    """Texts whose embeddings point the same way."""

    items: list[str]
    encode: Encode
    vectors: Vectors  # of the items, each of length 1

    @classmethod
    def of(cls, items: Sequence[str], model: str) -> "EmbeddingDetector":
        encode, _ = load_encoder(model)
        return cls(list(items), encode, encode(items))

    def look(self, problems: Sequence[str]) -> list[Match]:
        """See `contamination.Detector`."""
        texts = list(problems)
        cosines = self.encode(texts) @ self.vectors.T
        rows, items = np.nonzero(cosines > COSINE)
        return [
            Match(
                row,
                item,
                "near by embedding",
                round(float(cosines[row, item]), 3),
                texts[row][:EVIDENCE_CHARS],
                self.items[item][:EVIDENCE_CHARS],
            )
            for row, item in zip(rows.tolist(), items.tolist(), strict=True)
        ]
