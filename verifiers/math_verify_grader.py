"""The default grader: math-verify, given what it reads rightly. Runs in a worker process.

Its own timeouts are off: they need the main thread and a signal of the caller's, and change
verdicts (facts.md 8.4, 8.11). The pool's budgets replace them.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import Any

from latex2sympy2_extended import latex2sympy
from latex2sympy2_extended.logic import And
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from math_verify.parser import extract_match, get_extraction_regexes
from sympy import Expr, I
from sympy.core.relational import Relational

from progdata.verifiers.readings import Gold, boxed_text, read_gold
from progdata.verifiers.shortcuts import decide, normal_form, refuse
from progdata.verifiers.verdicts import Comparison

for _name in ("math_verify", "latex2sympy2_extended"):
    logging.getLogger(_name).setLevel(logging.ERROR)

NO_TIMEOUT = 0

LATEX = (LatexExtractionConfig(),)
LATEX_AND_NUMBERS = (LatexExtractionConfig(), ExprExtractionConfig())

_ANCHORS = {
    0: "final answer, I hope",
    50: "final answer is",
    100: "answer:",
    200: "answer",
    300: "last expression",
}
"""math-verify's patterns by their priority, named after the words that they look for."""

SMALL_DIFFERENCE = 1e-3
"""Numbers that differ by more than this share of the larger are not equal, however small."""


@dataclass(frozen=True, slots=True)
class Found:
    """An answer that math-verify's patterns found in a text: its span, what it means, by which."""

    start: int
    end: int
    values: tuple[Any, ...]
    text: str
    extraction: str


def compare(gold: str, answer: str) -> Comparison:
    """Grade an answer's LaTeX (see `answers.Answer`) against a gold."""
    read = read_gold(gold)
    return refuse(read) or decide(read, answer) or _compare(read, answer, parse_answer(answer))


def compare_found(gold: str, found: Found) -> Comparison:
    """Grade what was found in a text that has no box."""
    read = read_gold(gold)
    return refuse(read) or decide(read, found.text) or _compare(read, found.text, found.values)


def check_gold(gold: str) -> Comparison:
    """Whether a gold can be graded: `correct` where it means something and equals itself.

    Shortcuts are not taken: by its text alone every gold equals itself.
    """
    read = read_gold(gold)
    return refuse(read) or _equals_itself(read)


def _equals_itself(gold: Gold) -> Comparison:
    found = _compare(gold, gold.latex, parse_answer(gold.latex))
    if found.status in ("correct", "gold_unparsable"):
        return found
    return replace(found, status="gold_unparsable", rule="gold does not equal itself")


def _compare(gold: Gold, answer: str, values: tuple[Any, ...]) -> Comparison:
    normal = normal_form(gold.latex), normal_form(answer)
    golds = tuple(value for text in gold.texts for value in parse_gold(text))
    if not any(not isinstance(value, str) for value in golds):
        return Comparison("gold_unparsable", "gold is not mathematics", *normal)
    if not values:
        return Comparison("no_answer", "nothing to read", *normal)
    if not _verify(golds, values):
        if _equal_complex_numbers(golds, values):
            return Comparison("correct", "complex numbers", *normal)
        return Comparison("wrong", "math-verify", *normal)
    if _small_and_different(golds, values):
        return Comparison("wrong", "small numbers that differ", *normal)
    return Comparison("correct", "math-verify", *normal)


@lru_cache(maxsize=256)
def parse_gold(text: str) -> tuple[Any, ...]:
    """The sympy objects of a gold's reading, then its text."""
    return tuple(parse(text, LATEX_AND_NUMBERS, parsing_timeout=NO_TIMEOUT))


@lru_cache(maxsize=64)
def parse_answer(latex: str) -> tuple[Any, ...]:
    """The sympy objects of an answer, then its text; no other place is tried where it has none."""
    return tuple(
        parse(boxed_text(latex), LATEX, extraction_mode="first_match", parsing_timeout=NO_TIMEOUT)
    )


def find_in_text(text: str) -> Found | None:
    """The answer that math-verify's patterns find in a text: the first priority with a match, its
    rightmost match that means something (as `math_verify.parse`, which does not say where)."""
    unread = None
    for priority, matches in _matches(text):
        for match, target in matches:
            value, said = _read_match(match, target)
            unread = unread or said or None
            if value is not None:
                values = (value, unread) if unread else (value,)
                return Found(*_answer_span(match), values, said, _ANCHORS[priority])
    return None


def _read_match(match: re.Match[str], target: Any) -> tuple[Any, str]:
    """What a match means, and its text; no meaning where math-verify fails on it."""
    try:
        return extract_match(match, target)
    except Exception:
        return None, ""


def _answer_span(match: re.Match[str]) -> tuple[int, int]:
    """The span of the named groups of a match: the answer without the words around it."""
    spans = [match.span(name) for name, text in match.groupdict().items() if text]
    return min(start for start, _ in spans), max(end for _, end in spans)


def _matches(text: str) -> Iterator[tuple[int, list[tuple[Any, Any]]]]:
    """The matches of each priority, those that end last first, the longer of two that end alike."""
    patterns = [
        (priority, pattern, target)
        for own, target in get_extraction_regexes(LATEX_AND_NUMBERS)
        for pattern, priority in own
    ]
    patterns.sort(key=lambda own: own[0])
    for priority, group in groupby(patterns, key=lambda own: own[0]):
        found = [(match, target) for _, own, target in group for match in own.finditer(text)]
        found.sort(key=lambda own: (own[0].end(), -own[0].start()), reverse=True)
        yield priority, found


def _verify(golds: tuple[Any, ...], values: tuple[Any, ...]) -> bool:
    """math-verify's own verdict, except that `x > 4` also answers a gold that is a set.

    Only bounds are read as sets: an inequality to be solved is a question, and no answer.
    """
    bounds = all(isinstance(value, str) or _is_bounds(value) for value in values)
    return verify(
        list(golds), list(values), allow_set_relation_comp=bounds, timeout_seconds=NO_TIMEOUT
    )


def _is_bounds(value: Any) -> bool:
    """Whether a value is a relation of one symbol with numbers, or several of them."""
    parts = value.args if isinstance(value, And) else (value,)
    return all(
        isinstance(part, Relational)
        and any(side.is_Symbol for side in part.args)
        and any(not side.free_symbols for side in part.args)
        for part in parts
    )


def _equal_complex_numbers(golds: tuple[Any, ...], values: tuple[Any, ...]) -> bool:
    """Whether both are equal once the letter i, which math-verify takes for a variable, is the
    imaginary unit, as where no other letter stands beside it."""
    if not any(isinstance(own[0], Expr) and own[0].free_symbols for own in (golds, values)):
        return False
    first, second = _as_complex(golds[0]), _as_complex(values[0])
    if first is None or second is None:
        return False
    return verify(first, second, timeout_seconds=NO_TIMEOUT)


def _as_complex(value: Any) -> Any:
    if not isinstance(value, Expr) or {str(symbol) for symbol in value.free_symbols} - {"i"}:
        return None
    return value.subs(dict.fromkeys(value.free_symbols, I)).doit()


def _small_and_different(golds: tuple[Any, ...], values: tuple[Any, ...]) -> bool:
    """Whether both are numbers that are equal only because six decimals of them were compared."""
    pair = _number(golds[0]), _number(values[0])
    if pair[0] is None or pair[1] is None:
        return False
    size = max(abs(pair[0]), abs(pair[1]))
    return 0 < size < 1e-2 and abs(pair[0] - pair[1]) > SMALL_DIFFERENCE * size


def _number(value: Any) -> float | None:
    if isinstance(value, str) or not getattr(value, "is_Number", False):
        return None
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError):
        return None


def warm_up() -> None:
    """Do what is slow once: compile the patterns, load the parser's tables and sympy's parts."""
    latex2sympy(r"\frac{1}{2}")
    find_in_text("The answer is 5.")
    for gold, answer in _WARM_UP:
        compare(gold, answer)


_WARM_UP = (
    (r"\frac{\pi}{2}", r"\sqrt{x^2+1}"),
    (r"(x+1)^2", r"x^2+2x+1"),
    (r"x \in (1,2] \cup \{3\}", r"1 < x \leq 2"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 3 \end{pmatrix}"),
    (r"y = 2x+1", r"2x - y + 1 = 0"),
    ("0.3333", r"\frac{1}{3}"),
)
