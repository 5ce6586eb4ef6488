"""Segmenters: cut a thinking text into spans that tile it exactly.

A segmenter gives, for each text, the rising character offsets at which its segments end; the
last is the length of the text, and an empty text has none. White space stays with the segment
before it, so that a marker stands between paragraphs and every tokenizer keeps its tokens.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from progdata.builders.errors import UsageError
from progdata.builders.nearest import did_you_mean
from progdata.builders.tidy import tidy
from progdata.builders.tokenizer import TokenStarts
from progdata.builders.utf8 import byte_offsets

SegmentFunction = Callable[[Sequence[str], TokenStarts], list[list[int]]]

SEGMENTERS = ("newline", "sat", "episodes", "tokens")

EPISODE_PHRASES = (
    "Wait",
    "But wait",
    "Alternatively",
    "Is there another way to think about this?",
    "But let me double-check",
    "But hold on",
)
"""The phrases that open an episode in MRT's code (facts.md 8.7)."""

EPISODE_MIN_STEPS = 3
"""MRT's rule: an episode has at least three steps before the next may open (facts.md 8.7)."""

_LINE_END = r"(?>\r\n|\n|\r)"
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_BLANK_LINES_OF_ANY_KIND = re.compile(rf"{_LINE_END}(?:[^\S\r\n]*{_LINE_END})+")


def find_segmenter(
    name: str,
    *,
    tokens: int | None = None,
    model: str = "sat-3l",
    threshold: float = 0.5,
    batch_size: int = 32,
    device: str = "cpu",
) -> SegmentFunction:
    """The segmenter called `name`: newline, sat, episodes, or tokens (with `tokens` as its K).

    `model`, `threshold`, `batch_size` and `device` are for `sat` alone. Raises UsageError for an
    unknown name.
    """
    if name == "newline":
        return newline
    if name == "episodes":
        return episodes
    if name == "tokens" and tokens:
        return lambda texts, starts: fixed_tokens(texts, starts, tokens)
    if name == "sat":
        from progdata.builders.sat import paragraphs

        return lambda texts, _: paragraphs(texts, model, threshold, batch_size, device)
    hint = " (write tokens:K)" if name == "tokens" else did_you_mean(name, SEGMENTERS)
    raise UsageError(f"unknown segmenter {name!r}{hint}; choose from {', '.join(SEGMENTERS)}")


def newline(texts: Sequence[str], _: TokenStarts | None = None) -> list[list[int]]:
    """A segment ends after each run of blank lines.

    >>> newline(["a\\n\\nb\\nc", ""])
    [[3, 6], []]
    """
    return [tidy(text, [found.end() for found in _blank_lines(text)]) for text in texts]


def _blank_lines(text: str) -> Iterator[re.Match[str]]:
    return (_BLANK_LINES_OF_ANY_KIND if "\r" in text else _BLANK_LINES).finditer(text)


def episodes(texts: Sequence[str], _: TokenStarts | None = None) -> list[list[int]]:
    """MRT's episodes: paragraphs, joined until one opens with a phrase of `EPISODE_PHRASES`.

    Source: facts.md 8.7. Unlike MRT's code it loses no character.
    """
    return [_episode_ends(text, ends) for text, ends in zip(texts, newline(texts), strict=True)]


def _episode_ends(text: str, paragraph_ends: list[int]) -> list[int]:
    kept: list[int] = []
    opened_at = 0
    for step, start in enumerate(paragraph_ends[:-1], 1):
        if step - opened_at >= EPISODE_MIN_STEPS and text.startswith(EPISODE_PHRASES, start):
            kept.append(start)
            opened_at = step
    return kept + paragraph_ends[-1:]


def fixed_tokens(texts: Sequence[str], starts: TokenStarts, tokens: int) -> list[list[int]]:
    """A segment ends every `tokens` tokens, moved past a character in which several tokens start.

    It asks only in which character a token starts, which is all that counters agree on.
    """
    ends = []
    for index, text in enumerate(texts):
        offsets = byte_offsets(text, text.encode())
        characters = offsets.searchsorted(starts.of_text(index), "right") - 1
        before, after = characters[tokens - 1 : -1 : tokens], characters[tokens::tokens]
        ends.append(tidy(text, (after + (before == after)).tolist()))
    return ends
