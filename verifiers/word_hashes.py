r"""The words of many texts as hashes in flat arrays, at some ten megabytes a second and core.

LaTeX that is written in more than one way gives the same words: `$x$` and `\(x\)`, `\dfrac` and
`\frac`, `$ABC$` and `$A B C$`, spacing and style commands, glued punctuation, Unicode forms. What
counts as a word: a run of letters, a run of digits, a command (`\frac` is the word frac), each
other sign that is not punctuation, and each character of a script that puts no spaces between
words.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2^64
_MIX = np.uint64(0xD6E8FEB86659FD93)

_SPACE, _LETTER, _DIGIT, _SIGN, _WIDE = range(5)

_PUNCTUATION = b"$~{}[]().,;:!?\"'`&@|\\"


_OTHER_PUNCTUATION = str.maketrans(dict.fromkeys("。、「」『』،؛؟“”‘’–—", " "))


def _classes() -> NDArray[np.uint8]:
    """The class of each byte of UTF-8."""
    table = np.full(256, _SIGN, np.uint8)
    table[list(b" \t\n\r\f\v\x00" + _PUNCTUATION)] = _SPACE
    table[[*range(ord("a"), ord("z") + 1)]] = _LETTER
    table[[*range(ord("0"), ord("9") + 1)]] = _DIGIT
    table[0x80:] = _LETTER
    table[0xE3:0xF0] = _WIDE  # first bytes of Chinese, Japanese and Korean characters
    return table


_CLASS = _classes()

_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)

_LONG = 40
"""Bytes of a word that count; a longer one is its beginning."""

_DROPPED = (
    "left right big bigg text textbf textit textrm mathrm mathbf mathit mathsf operatorname mbox",
    "displaystyle limits quad qquad boldsymbol rm bf it",
)
_SAME = {"dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "cdot": "times", "leq": "le",
         "leqslant": "le", "geq": "ge", "geqslant": "ge", "neq": "ne", "ldots": "dots",
         "cdots": "dots"}  # fmt: skip

_DELIMITER = re.compile(r"((?<!\\)\$+|\\[()\[\]])")
_POINTS = re.compile(r"[A-Z](?<![A-Za-z][A-Z])(?:\s+[A-Z](?![A-Za-z]))+")
"""Capitals with white space between them."""


@dataclass(frozen=True)
class Words:
    """The words of some texts, flat: those of text i are `first[i] : first[i + 1]`.

    `starts` and `ends` are their places in bytes of `data`, the normalised texts in one.
    """

    hashes: Hashes
    numeric: NDArray[np.bool_]
    first: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    data: bytes

    def count(self) -> NDArray[np.int64]:
        """The number of words of each text."""
        return np.diff(self.first)

    def text(self, start: int, end: int) -> str:
        """The text from one word up to another, both counted over all texts."""
        if start >= end:
            return ""
        return self.data[self.starts[start] : self.ends[end - 1]].decode("utf-8", "replace")


def find_words(texts: Sequence[str]) -> Words:
    """The words of texts, in order."""
    pieces = [_encoded(text) for text in texts]
    data = b"\n".join(pieces) + b"\n"
    sizes = np.fromiter(map(len, pieces), np.int64, len(pieces))
    starts_of_texts = np.cumsum(sizes + 1) - sizes - 1
    starts, ends, classes = _tokens(np.frombuffer(data, np.uint8))
    hashes = _hash_slices(np.frombuffer(data, np.uint8), starts, ends)
    kept = ~np.isin(hashes, _DROPPED_HASHES)
    hashes, starts, ends, classes = hashes[kept], starts[kept], ends[kept], classes[kept]
    for other, one in _SAME_HASHES:
        hashes[hashes == other] = one
    first = np.searchsorted(starts, np.append(starts_of_texts, len(data)))
    return Words(hashes, classes == _DIGIT, first, starts, ends, data)


def mask_numbers(words: Words) -> Hashes:
    """The hashes with every number the same."""
    return np.where(words.numeric, np.uint64(1), words.hashes)


def ngram_hashes(hashes: Hashes, n: int) -> Hashes:
    """The hash of the n words from each word on; the last n - 1 reach past the end and are 0."""
    total = np.zeros(len(hashes), np.uint64)
    if len(hashes) < n:
        return total
    size = len(hashes) - n + 1
    mixed = hashes[:size].copy()
    for place in range(1, n):
        mixed *= _MIX
        mixed += hashes[place : place + size]
    mixed ^= mixed >> np.uint64(29)
    mixed *= _BASE
    total[:size] = mixed
    return total


def _encoded(text: str) -> bytes:
    """A text in lower case and one Unicode form; lone surrogates become question marks."""
    if _POINTS.search(text):
        text = _join_points(text)
    text = text.replace(r"\equal{}", "=")  # of AoPS
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_OTHER_PUNCTUATION)
    return text.lower().encode("utf-8", "replace")


def _join_points(text: str) -> str:
    """A text with `A B C` as `ABC` between the delimiters of mathematics."""
    parts = _DELIMITER.split(text)
    maths = False
    for place, part in enumerate(parts):
        if place % 2:
            maths = not maths if part[0] == "$" else part[1] in "(["
        elif maths:
            parts[place] = _POINTS.sub(lambda own: "".join(own[0].split()), part)
    return "".join(parts)


def _tokens(data: Bytes) -> tuple[NDArray[np.int64], NDArray[np.int64], Bytes]:
    """Where words begin and end in bytes, and their classes."""
    classes = _CLASS[data]
    changes = np.empty(len(data), np.bool_)
    changes[0] = True
    np.not_equal(classes[1:], classes[:-1], out=changes[1:])
    changes |= classes >= _SIGN
    if data.max() >= 0x80:  # the rest of a wide character belongs to it
        rest = np.flatnonzero((data & 0xC0) == 0x80)
        heads = np.where((data & 0xC0) != 0x80, np.arange(len(data)), 0)
        np.maximum.accumulate(heads, out=heads)
        classes[rest] = classes[heads[rest]]
        changes[rest] = False
        after = rest[rest + 1 < len(data)] + 1
        changes[after] = (classes[after] != classes[after - 1]) | (classes[after] >= _SIGN)
        changes[rest] = False
    begins = np.flatnonzero(changes)
    ends = np.append(begins[1:], len(data))
    kinds = classes[begins]
    real = kinds != _SPACE
    return begins[real], ends[real], kinds[real]


def _hash_slices(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> Hashes:
    """A hash of each slice, eight bytes at a time."""
    padded = np.append(data, np.zeros(8, np.uint8))
    eights = np.ndarray(len(data), "<u8", padded.tobytes(), strides=(1,))
    sizes = np.minimum(ends - starts, _LONG)
    sums = eights[starts] & _MASKS[np.minimum(sizes, 8)]
    for place in range(8, int(sizes.max(initial=0)), 8):
        longer = np.flatnonzero(sizes > place)
        more = eights[starts[longer] + place] & _MASKS[np.minimum(sizes[longer] - place, 8)]
        sums[longer] = (sums[longer] ^ (sums[longer] >> np.uint64(32))) * _BASE + more
    sums = (sums ^ (sums >> np.uint64(31))) * _MIX
    return sums ^ (sums >> np.uint64(29))


def _hash_of(word: str) -> np.uint64:
    data = np.frombuffer(word.encode(), np.uint8)
    return _hash_slices(data, np.array([0]), np.array([len(data)]))[0]


_DROPPED_HASHES = np.array([_hash_of(word) for words in _DROPPED for word in words.split()])
_SAME_HASHES = [(_hash_of(other), _hash_of(one)) for other, one in _SAME.items()]
