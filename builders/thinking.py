"""Split a completion into its thinking and its response, and put it together again.

R1-family templates prefill `<think>`, so a completion often lacks it; a completion without
`</think>` was cut off while thinking (facts.md 8.2).
"""

from dataclasses import dataclass

OPEN, CLOSE = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Thinking:
    """The parts of a completion: `opening + think + (CLOSE if closed) + response` is all of it.

    `opening` is `<think>` with the white space before it, or empty where it was prefilled.
    """

    opening: str
    think: str
    closed: bool
    response: str

    @property
    def prefilled(self) -> bool:
        return not self.opening


class UnusualThinking(ValueError):
    """A completion whose think tags do not bound one stretch of thinking."""


def split_completion(completion: str) -> Thinking:
    """The parts of a completion as a model wrote it.

    Raises UnusualThinking, with a reason for the rejects table, where a tag is repeated or out
    of order or text stands before `<think>`: `repeated_think` or `text_before_think`.

    >>> split_completion("<think>a</think>b")
    Thinking(opening='<think>', think='a', closed=True, response='b')
    """
    before, opening, rest = completion.partition(OPEN)
    if not opening:
        before, rest = "", completion
    elif before.strip():
        raise UnusualThinking("repeated_think" if CLOSE in before else "text_before_think")
    think, closing, response = rest.partition(CLOSE)
    if OPEN in rest or CLOSE in response:
        raise UnusualThinking("repeated_think")
    return Thinking(before + opening, think, bool(closing), response)


def join_completion(opening: str, think: str, closed: bool, response: str) -> str:
    """The completion of these parts: the inverse of `split_completion`."""
    return f"{opening}{think}{CLOSE}{response}" if closed else f"{opening}{think}{response}"


def from_reasoning(reasoning: str, content: str) -> str:
    """The completion of a server that returns reasoning and content apart.

    Without content nothing shows that the thinking ended: it counts as cut off.

    >>> from_reasoning("a", "")
    '<think>\\na'
    """
    if not content.strip():
        return f"{OPEN}\n{reasoning}{content}"
    return f"{OPEN}\n{reasoning}\n{CLOSE}\n\n{content}"
