"""Prefixes of a trace, and how a model is made to go on from them.

A continuation is a request like any other: the trace's prompt, its thinking up to the end of a
segment, and a *push*, which is what makes the model stop or think on. Nothing here depends on an
engine, as long as it is given token ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from progdata.builders.errors import UsageError
from progdata.builders.thinking import CLOSE, OPEN

How = Literal["continue", "stop", "close", "wait"]

TIME_IS_UP = (
    "Time is up.\n\nGiven the time I've spent and the approaches I've tried, I should stop "
    "thinking and formulate a final answer based on what I already have.\n</think>\n\n"
    "**Step-by-Step Explanation and Answer:**\n\n1. **"
)
"""MRT's text that ends the thinking and begins the answer (paper 002, figure 22; facts.md 8.7)."""

WAITS = ("Wait", "Alternatively", "But hold on", "But wait")
"""What pushes the thinking on: s1's word, then those that MRT takes in turn (appendix F)."""

PUSHES: dict[How, str] = {
    "continue": "",
    "stop": TIME_IS_UP,
    "close": f"{CLOSE}\n\n",
    "wait": WAITS[0],
}
"""What follows the prefix: nothing; MRT's text; the bare end of thinking; s1's word."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """A trace's thinking up to the end of a segment: half-open [0, `end`) in characters.

    `segment` counts from 0, -1 for the empty prefix; `tokens` of `total` are in it.
    """

    segment: int
    end: int
    tokens: int
    total: int

    @property
    def progress(self) -> float:
        return self.tokens / self.total


def choose_prefixes(
    ends: Sequence[int], token_ends: Sequence[int], most: int | None
) -> list[Prefix]:
    """The prefixes at segment ends, at most so many, spread evenly over the segments.

    With fewer than all, the last is the whole thinking and the first is as far from the beginning
    as they are from each other. None: every segment end.
    """
    count = len(ends)
    if most is not None and most < 1:
        raise UsageError("--prefixes: at least 1 of each trace")
    if most is None or most >= count:
        chosen = list(range(count))
    else:
        places = np.ceil(np.arange(1, most + 1) * count / most).astype(int) - 1
        chosen = places.tolist()
    return [Prefix(i, ends[i], token_ends[i], token_ends[-1]) for i in chosen]


def pushed(thinking: str, push: str) -> str:
    """A thinking with a push, which stands in a paragraph of its own.

    >>> pushed("So x = 2.", "Wait")
    'So x = 2.\\n\\nWait'
    """
    if not push:
        return thinking
    gap = 2 - min(2, len(thinking) - len(thinking.rstrip("\n"))) if thinking else 0
    return thinking + "\n" * gap + push


def begin_answer(opening: str, thinking: str, prefill: str) -> str:
    """What follows a rendered prompt, so that the model goes on from `thinking`.

    `opening` is the trace's own (`<think>`, or empty where it was prefilled), `prefill` what the
    template has written already, from `<think>` on, or nothing.

    >>> begin_answer("<think>", "\\nOkay", "<think>\\n")
    'Okay'
    >>> begin_answer("", "Okay", "")
    '<think>\\nOkay'
    """
    if prefill:
        blank = prefill.removeprefix(OPEN)
        return thinking.removeprefix(blank) if opening else thinking
    return (opening.lstrip() or f"{OPEN}\n") + thinking
