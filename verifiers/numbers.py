"""The value of plain arithmetic, exactly, without a computer algebra system and without `eval`."""

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction

_FRACTION = re.compile(r"(-?)\s?\\[dt]?frac\s?\{(-?\d{1,30})\}\s?\{(\d{1,30})\}", re.ASCII)
_INTEGER = re.compile(r"-?\d{1,30}", re.ASCII)
_ARITHMETIC = re.compile(r"[0-9+*/() -]{1,100}")
_LONG_NUMBER = re.compile(r"\d{31}|\d\s+\d|\*\s*\*|/\s*/")


def as_rational(normal: str) -> Fraction | None:
    r"""The value of `\frac{1}{2}`, or of an expression in `+ - * /` and brackets; None for others.

    >>> as_rational("47 + 7 * 6 / 4")
    Fraction(115, 2)
    """
    fraction = _FRACTION.fullmatch(normal) if len(normal) < 100 else None
    if fraction is not None:
        sign, above, below = fraction.groups()
        return (-1 if sign else 1) * Fraction(int(above), int(below)) if int(below) else None
    if _INTEGER.fullmatch(normal):
        return Fraction(int(normal))
    if not _ARITHMETIC.fullmatch(normal) or _LONG_NUMBER.search(normal):
        return None
    try:
        return _value(ast.parse(normal.strip(), mode="eval").body)
    except (SyntaxError, ZeroDivisionError, TypeError):
        return None


_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _value(node: ast.expr) -> Fraction:
    """The value of a syntax tree of numbers and operations. Raises TypeError for any other."""
    match node:
        case ast.Constant(value=int(number)):
            return Fraction(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _OPERATIONS:
            return _OPERATIONS[type(operation)](_value(left), _value(right))
    raise TypeError("not plain arithmetic")
