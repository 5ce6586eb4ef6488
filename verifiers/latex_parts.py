r"""The parts of a problem's text, prose and formulas, and other LaTeX for the same formula."""

import re
from bisect import bisect_left
from collections.abc import Callable
from random import Random

from progdata.builders.countdown_search import pick

_OPENING = re.compile(
    r"\[asy\]|\$\$?|\\begin\{(\w+\*?)\}|\\[A-Za-z]+(?:\{[^{}]*\})*|\\.", re.DOTALL
)
_CLOSING = {
    "[asy]": r"\[/asy\]",
    "$": r"(?<!\\)\$",
    "$$": r"(?<!\\)\$\$",
    r"\(": r"\\\)",
    r"\[": r"\\\]",
}


def find_formulas(text: str) -> list[tuple[int, int]]:
    """Where formulas, drawings and commands stand. What is not closed is not one."""
    spans: list[tuple[int, int]] = []
    unclosed: set[str] = set()
    place = 0
    while opening := _OPENING.search(text, place):
        place = opening.end()
        closing = _CLOSING.get(opening[0])
        if opening[1]:
            closing = re.escape(rf"\end{{{opening[1]}}}")
        if closing is None:  # a command is itself a formula, an escaped sign is none
            if opening[0][1:2].isalpha():
                spans.append(opening.span())
        elif closing not in unclosed:
            end = re.compile(closing).search(text, place)
            if end is None:
                unclosed.add(closing)
            else:
                place = end.end()
                spans.append((opening.start(), place))
    return spans


def map_parts(
    text: str,
    prose: Callable[[str], str] = lambda part: part,
    maths: Callable[[str], str] = lambda part: part,
) -> str:
    """A text with its prose and its formulas changed, each part by itself."""
    parts, end = [], 0
    for start, stop in find_formulas(text):
        parts += [prose(text[end:start]), maths(text[start:stop])]
        end = stop
    return "".join([*parts, prose(text[end:])])


def outside_formulas(text: str, pattern: re.Pattern[str]) -> list[tuple[int, int]]:
    """Where a pattern is found in a text, but not inside a formula."""
    formulas = find_formulas(text)
    found = []
    for place in pattern.finditer(text):
        before = bisect_left(formulas, place.span()) - 1
        if before < 0 or formulas[before][1] <= place.start():
            found.append(place.span())
    return found


_COMMANDS = {
    "dfrac": "frac",
    "tfrac": "frac",
    "frac": "dfrac",
    "le": "leq",
    "leq": "le",
    "ge": "geq",
    "geq": "ge",
    "ne": "neq",
    "neq": "ne",
    "ldots": "dots",
    "cdots": "dots",
    "dots": "ldots",
}
"""Commands, and others that show the same."""


def rewrite_formula(formula: str, rng: Random) -> str:
    """The same formula in other LaTeX."""
    if formula.startswith("[asy]"):
        return formula
    formula = re.sub(r"\\([A-Za-z]+)", lambda own: f"\\{_COMMANDS.get(own[1], own[1])}", formula)
    formula = re.sub(r"frac ?(\d)(\d)", r"frac{\1}{\2}", formula)
    formula = re.sub(r"([\^_])([A-Za-z0-9])(?![{A-Za-z])", r"\1{\2}", formula)
    formula = re.sub(r" ?([=+]) ?", pick(rng, (r"\1", r" \1 ", r" \1\, ")), formula)
    return _other_delimiters(formula)


def _other_delimiters(formula: str) -> str:
    for own, (opening, closing) in (
        ("$$", (r"\[", r"\]")),
        ("$", (r"\(", r"\)")),
        (r"\[", ("$$", "$$")),
        (r"\(", ("$", "$")),
    ):
        if formula.startswith(own):
            return opening + formula[len(own) : -len(own)] + closing
    return formula
