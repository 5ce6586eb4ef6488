r"""Formulas in LaTeX for generated problems, many in form and not only in their numbers."""

from collections.abc import Callable
from random import Random

from progdata.builders.countdown_search import pick


def whole(rng: Random, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return low + int(rng.random() * (high - low + 1))


def polynomial(rng: Random, x: str) -> str:
    """Two to four terms of falling degree, the highest first.

    >>> polynomial(Random(1), "x")
    'x^{2} + 40'
    """
    degree = whole(rng, 2, 5)
    lower = [power for power in range(degree - 1, -1, -1) if rng.random() < 0.6] or [0]
    terms = [f"{pick(rng, ('', whole(rng, 2, 19)))}{_power(x, degree)}"]
    terms += [f"{pick(rng, '+-')} {whole(rng, 2, 60)}{_power(x, power)}" for power in lower[:3]]
    return " ".join(terms)


def formula(rng: Random, x: str) -> str:
    """One to three terms of different kinds."""
    terms = [pick(rng, _TERMS)(rng, x) for _ in range(whole(rng, 1, 3))]
    return f" {pick(rng, '+-')} ".join(terms)


def trigonometric(rng: Random, x: str) -> str:
    """One to three terms with sines and the like."""
    terms = [_trigonometric_term(rng, x) for _ in range(whole(rng, 1, 3))]
    return f" {pick(rng, '+-')} ".join(terms)


def pair(rng: Random) -> str:
    """A point of the plane."""
    return f"({whole(rng, -30, 30)}, {whole(rng, -30, 30)})"


def number_set(rng: Random) -> str:
    """Three to nine numbers in braces, in rising order."""
    members = sorted({whole(rng, 1, 90) for _ in range(whole(rng, 4, 9))})
    return rf"\{{{', '.join(map(str, members))}\}}"


def matrix(rng: Random) -> str:
    """A matrix of two or three rows."""
    size = whole(rng, 2, 3)
    rows = [" & ".join(str(whole(rng, -9, 12)) for _ in range(size)) for _ in range(size)]
    return r"\begin{pmatrix} " + r" \\ ".join(rows) + r" \end{pmatrix}"


def _power(x: str, power: int) -> str:
    return "" if power == 0 else x if power == 1 else f"{x}^{{{power}}}"


def _radical_term(rng: Random, x: str) -> str:
    index = pick(rng, ("", "", "[3]", "[4]"))
    return rf"\sqrt{index}{{{whole(rng, 2, 30)}{x} {pick(rng, '+-')} {whole(rng, 2, 80)}}}"


def _fraction_term(rng: Random, x: str) -> str:
    return rf"\frac{{{whole(rng, 2, 40)}{x}}}{{{polynomial(rng, x)}}}"


def _product_term(rng: Random, x: str) -> str:
    low, high = whole(rng, 2, 30), whole(rng, 31, 60)
    return f"({x} - {low})({pick(rng, ('', 2, 3, 5))}{x} {pick(rng, '+-')} {high})"


def _exponential_term(rng: Random, x: str) -> str:
    return f"{pick(rng, ('e', 2, 3, 5, 7, 10))}^{{{whole(rng, 2, 12)}{x} - {whole(rng, 2, 9)}}}"


def _floor_term(rng: Random, x: str) -> str:
    side, other = pick(rng, ((r"\lfloor", r"\rfloor"), (r"\lvert", r"\rvert")))
    return rf"{side} {whole(rng, 2, 20)}{x} {pick(rng, '+-')} {whole(rng, 2, 40)} {other}"


def _logarithm_term(rng: Random, x: str) -> str:
    name = pick(rng, (r"\ln", rf"\log_{{{whole(rng, 2, 12)}}}"))
    return rf"{name} \left( {whole(rng, 2, 20)} + {x}^{{{whole(rng, 2, 6)}}} \right)"


def _trigonometric_term(rng: Random, x: str) -> str:
    name = pick(rng, (r"\sin", r"\cos", r"\tan", r"\cot"))
    factor, power = pick(rng, ("", whole(rng, 2, 9))), pick(rng, ("", "^{2}", "^{3}", "^{4}"))
    angle = pick(rng, (f" {whole(rng, 2, 9)}{x}", rf"\frac{{{x}}}{{{whole(rng, 2, 9)}}}", f" {x}"))
    return f"{factor}{name}{power}{angle}"


_TERMS: tuple[Callable[[Random, str], str], ...] = (
    polynomial,
    _radical_term,
    _fraction_term,
    _product_term,
    _exponential_term,
    _floor_term,
    _logarithm_term,
    _trigonometric_term,
)

OF_VARIABLE: dict[str, Callable[[Random, str], str]] = {
    "poly": polynomial,
    "any": formula,
    "trig": trigonometric,
}
"""Formulas in a variable, by the name that templates call them."""

CONSTANT: dict[str, Callable[[Random], str]] = {
    "pair": pair,
    "set": number_set,
    "matrix": matrix,
}
"""Formulas without a variable."""
