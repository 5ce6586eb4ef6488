"""Plain math text as sympy objects, by a parser of its own: no text is ever run as code.

sympy's `parse_expr` and `sympify` evaluate what they read as Python (facts.md 8.11). Here a text
is cut into tokens of a fixed list, and numbers are bounded before anything is computed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy
from sympy import Add, E, Expr, I, Integer, Mul, Pow, Rational, Symbol, nan, oo, pi, zoo

MAX_LETTERS = 2
MAX_CHARACTERS = 2_000
MAX_DEPTH = 50
MAX_DIGITS = 300
MAX_DEGREE = 40
MAX_POWER = 99
MAX_ROOT = 20
MAX_ARGUMENT_DIGITS = 20

CONSTANTS: dict[str, Expr] = {
    "pi": pi, "e": E, "i": I, "oo": oo, "infty": oo, "infinity": oo,
}  # fmt: skip

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": sympy.sqrt, "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "log": sympy.log,
    "ln": sympy.log, "exp": sympy.exp, "abs": sympy.Abs,
}  # fmt: skip

NAMES = "|".join(
    sorted((name for name in (*CONSTANTS, *FUNCTIONS) if len(name) > 1), key=len, reverse=True)
)
"""Of the names longer than one letter, a regular expression that takes the longest."""

_TOKEN = re.compile(rf"\s*(?:([0-9]+(?:\.[0-9]+)?|\.[0-9]+|\*\*|[-+*/^()]|{NAMES}|[A-Za-z])|(\S))")
_NUMBER = re.compile(r"[0-9.]+")
_KNOWN = re.compile(NAMES)
_LARGE_POWER = re.compile(r"\*\*\(?[-+]?(?:[0-9]{2}|[0-9A-Za-z]\*\*)")


class NotArithmetic(ValueError):
    """The text is no arithmetic expression that this parser reads, or it is too large."""


@dataclass(frozen=True, slots=True)
class _Value:
    """A sympy object with bounds on its size.

    `digits` bounds the digits that its numbers may grow to when it is multiplied out, and counts a
    letter as one; `degree` bounds its degree in the letters, numerator and denominator together.
    """

    expression: Expr
    digits: int
    degree: int = 0


def is_risky(*texts: str) -> bool:
    """Whether texts to be compared have too many unknown letters between them, or a power of a
    power or of two digits. Names such as `pi` and `sin` are known; `e` and `i` count as letters.

    >>> is_risky("2pi*x", "x+y"), is_risky("x*y", "z"), is_risky("2**10"), is_risky("2**x**2")
    (False, True, True, True)
    """
    letters = {own for text in texts for own in _KNOWN.sub(" ", text) if own.isalpha()}
    return len(letters) > MAX_LETTERS or any(map(_LARGE_POWER.search, texts))


def parse(text: str) -> Expr:
    """The sympy object that a text such as `2*x**2-sqrt(3)/2` says; decimals are exact.

    Letters are symbols, but `e`, `i`, `pi` and `oo` the constants; `2x` and `2(x+1)` multiply.
    Raises NotArithmetic for any other text, for division by zero, and past the bounds above.

    >>> parse("0.25+3/4")
    1
    >>> parse("2pi(x+1)")
    2*pi*(x + 1)
    """
    reader = _Reader(_tokens(text))
    value = reader.read_sum()
    if reader.token:
        raise NotArithmetic(f"unexpected {reader.token!r}")
    return value.expression


def same_value(first: Expr, second: Expr) -> bool:
    """Whether the difference of two expressions simplifies to 0.

    Where their values at one point differ, it cannot, and nothing is simplified.
    """
    if first == second:
        return True
    if first.has(oo, -oo) or second.has(oo, -oo) or _differ_at_a_point(first, second):
        return False
    difference = first - second
    return sympy.expand(difference) == 0 or sympy.simplify(difference) == 0


def _differ_at_a_point(first: Expr, second: Expr) -> bool:
    """Whether values at one point are further apart than any rounding; False if in doubt."""
    letters = sorted(first.free_symbols | second.free_symbols, key=str)
    point = [(letter, Rational(2 * k + 3, 7 * k + 11)) for k, letter in enumerate(letters)]
    try:
        left, right = (complex(own.subs(point).evalf(20)) for own in (first, second))
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return False
    return abs(left - right) > 1e-10 * max(1.0, abs(left), abs(right))


def _tokens(text: str) -> list[str]:
    """The tokens of a text, and an empty one at the end."""
    if len(text) > MAX_CHARACTERS:
        raise NotArithmetic(f"{len(text)} characters, at most {MAX_CHARACTERS} are read")
    tokens: list[str] = []
    for match in _TOKEN.finditer(text.strip()):
        if match[2]:
            raise NotArithmetic(f"unexpected {match[2]!r}")
        tokens.append(match[1])
    return [*tokens, ""]


class _Reader:
    """Reads tokens from left to right; each method takes the tokens of what it is named after."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0

    @property
    def token(self) -> str:
        return self.tokens[self.position]

    def take(self) -> str:
        token = self.token
        self.position += 1
        return token

    def take_sign(self) -> int:
        """The sign that a row of `+` and `-` makes."""
        sign = 1
        while self.token in ("+", "-"):
            sign = -sign if self.take() == "-" else sign
        return sign

    def read_sum(self) -> _Value:
        terms = [self.read_product()]
        while self.token in ("+", "-"):
            terms.append(self.read_product())
        return _combined(Add, terms, max(term.degree for term in terms))

    def read_product(self) -> _Value:
        factors = [self.read_factor()]
        while operator := self._operator():
            factor = self.read_factor()
            factors.append(_power(factor, Integer(-1)) if operator == "/" else factor)
        return _combined(Mul, factors, sum(factor.degree for factor in factors))

    def _operator(self) -> str:
        """The operator before the next factor, taken where it is written; empty at the end.

        Nothing between two factors multiplies, unless the second is a number: `x2` is refused.
        """
        if self.token in ("*", "/"):
            return self.take()
        return "*" if self.token == "(" or self.token[:1].isalpha() else ""

    def read_factor(self) -> _Value:
        """A signed power. One exponent only: stacked powers are refused."""
        sign = self.take_sign()
        base = self.read_atom()
        if self.token in ("**", "^"):
            self.take()
            exponent_sign = self.take_sign()
            exponent = self.read_atom().expression
            base = _power(base, Mul(exponent_sign, exponent))
        return base if sign == 1 else _Value(Mul(-1, base.expression), base.digits, base.degree)

    def read_atom(self) -> _Value:
        token = self.take() if self.token else "the end"
        if token == "(":
            return self.read_parenthesis()
        if _NUMBER.fullmatch(token):
            return _number(token)
        if token in FUNCTIONS:
            return self.read_call(token)
        if token in CONSTANTS:
            return _Value(CONSTANTS[token], 1)
        if len(token) == 1 and token.isalpha():
            return _Value(Symbol(token), 1, 1)
        raise NotArithmetic(f"unexpected {token}")

    def read_parenthesis(self) -> _Value:
        """What stands in a parenthesis whose `(` was taken."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotArithmetic(f"nested deeper than {MAX_DEPTH}")
        value = self.read_sum()
        if self.token != ")":
            raise NotArithmetic("unclosed parenthesis")
        self.take()
        self.depth -= 1
        return value

    def read_call(self, name: str) -> _Value:
        """The value of a function. `ln2` is read without parentheses, `sin2x` is ambiguous."""
        if self.token == "(":
            self.take()
            return _call(name, self.read_parenthesis())
        if self.token in FUNCTIONS:
            raise NotArithmetic(f"{name} of a function without parentheses")
        value = _call(name, self.read_atom())
        if self._operator_is_ambiguous():
            raise NotArithmetic(f"where the argument of {name} ends is ambiguous")
        return value

    def _operator_is_ambiguous(self) -> bool:
        return self.token in ("**", "^", "(") or self.token[:1].isalnum()


def _number(token: str) -> _Value:
    if len(token) > MAX_DIGITS:
        raise NotArithmetic(f"a number of more than {MAX_DIGITS} digits")
    whole, _, decimals = token.partition(".")
    value = Rational(int(whole + decimals), 10 ** len(decimals))
    return _Value(value, len(token))


def _combined(operation: Callable[..., Any], values: list[_Value], degree: int) -> _Value:
    """The sum or product of values. Digits add up in both: so denominators do."""
    if len(values) == 1:
        return values[0]
    digits = _bounded(sum(value.digits for value in values), degree)
    return _Value(_finite(operation(*(value.expression for value in values))), digits, degree)


def _power(base: _Value, exponent: Any) -> _Value:
    """A power with a small rational exponent; 1/2 is a square root."""
    if not isinstance(exponent, Rational):
        raise NotArithmetic("an exponent that is no number")
    if abs(exponent.p) > MAX_POWER or exponent.q > MAX_ROOT:
        raise NotArithmetic(f"the exponent {exponent} is too large")
    times = max(1, abs(exponent.p))
    digits = _bounded(base.digits * times, base.degree * times)
    return _Value(_finite(Pow(base.expression, exponent)), digits, base.degree * times)


def _call(name: str, argument: _Value) -> _Value:
    digits = argument.digits
    if name == "exp":
        digits = 10 ** min(digits, 3)
    elif name != "sqrt" and digits > MAX_ARGUMENT_DIGITS:
        raise NotArithmetic(f"{name} of a number that is too long")
    digits = _bounded(digits, argument.degree)
    return _Value(_finite(FUNCTIONS[name](argument.expression)), digits, argument.degree)


def _bounded(digits: int, degree: int) -> int:
    if digits > MAX_DIGITS or degree > MAX_DEGREE:
        raise NotArithmetic(f"numbers past {MAX_DIGITS} digits or degrees past {MAX_DEGREE}")
    return digits


def _finite(expression: Any) -> Expr:
    """The expression, where it divides by no zero."""
    if not isinstance(expression, Expr) or expression.has(zoo, nan):
        raise NotArithmetic("division by zero, or no defined value")
    return expression
