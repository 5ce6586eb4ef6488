r"""Notations that algebra does not see: units, number bases, ratios, times of day.

math-verify drops units and bases, and reads `1:2:3` as divisions; so it calls 5 km and 5 m equal,
`241_6` and `241_7`, 3:20 p.m. and 6:40 a.m. Where both sides use such a notation, it is compared
here.
"""

import re
from fractions import Fraction
from typing import NamedTuple

from progdata.verifiers.numbers import as_rational
from progdata.verifiers.readings import as_latex

_LENGTHS = {
    "mm": Fraction(1, 1000), "cm": Fraction(1, 100), "m": Fraction(1), "km": Fraction(1000),
    "inch": Fraction(254, 10_000), "foot": Fraction(3048, 10_000), "yard": Fraction(9144, 10_000),
    "mile": Fraction(1_609_344, 1000),
}  # fmt: skip
_TIMES = {
    "second": Fraction(1), "minute": Fraction(60), "hour": Fraction(3600), "day": Fraction(86_400),
    "week": Fraction(604_800),
}  # fmt: skip
_WEIGHTS = {"mg": Fraction(1, 1000), "g": Fraction(1), "kg": Fraction(1000)}
_VOLUMES = {"ml": Fraction(1, 1000), "liter": Fraction(1)}
_MONEY = {"cent": Fraction(1, 100), "dollar": Fraction(1)}
_ANGLES = {"degree": Fraction(1), "radian": None}  # a radian is no rational number of degrees

_KINDS: tuple[dict[str, Fraction] | dict[str, Fraction | None], ...] = (
    _LENGTHS, _TIMES, _WEIGHTS, _VOLUMES, _MONEY, _ANGLES,
)  # fmt: skip

_OTHER_NAMES = {
    "millimeter": "mm", "centimeter": "cm", "meter": "m", "metre": "m", "kilometer": "km",
    "kilometre": "km", "in": "inch", "inches": "inch", "ft": "foot", "feet": "foot", "yd": "yard",
    "mi": "mile", "sec": "second", "s": "second", "min": "minute", "hr": "hour", "h": "hour",
    "milligram": "mg", "gram": "g", "kilogram": "kg", "milliliter": "ml", "l": "liter",
    "litre": "liter", "millilitre": "ml", "rad": "radian", "deg": "degree",
}  # fmt: skip

_GAP = r"(?:\s|~|\\[,;:! ]){0,9}"
_UNIT = re.compile(
    rf"(?s:(.{{1,200}}?)){_GAP}\\(?:text|mbox|mathrm|textrm)\s?\{{[\s~]*([A-Za-z]+)\.?\s*\}}"
    r"(?:\s?\^\s?\{?([23])\}?)?\s*"
)
_DEGREES = re.compile(rf"(?s:(.{{1,200}}?)){_GAP}\^\s?(?:\\circ|\{{\s?\\circ\s?\}})\s*")
_OTHER_UNIT = re.compile(r"\\(?:text|mbox|mathrm|textrm)(?![a-z])|\\circ|/\s*$")
_DECIMAL = re.compile(r"-?(?:\d{1,30}|\d{1,3}(?:,\d{3}){1,9})(?:\.\d{1,30})?", re.ASCII)
_BASED = re.compile(
    r"(-?)\s?\(?(?=[0-9]|[A-Z][0-9A-Z])([0-9A-Z]{1,60})\)?_(?:\{\s?\(?([0-9]{1,2})\)?\s?\}|([0-9]))"
)
_RATIO = re.compile(r"\d{1,12}(?:\s?(?::|\\colon|\\to|\bto\b)\s?\d{1,12})+", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d))?([ap]m)?", re.ASCII)
_NOT_IN_TIMES = re.compile(r"\\(?:text\w{0,2}|mbox|mathrm)(?![a-z])|\\[,;:! ]|[\s~{}.]")
_WORD_BASES = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "sixteen": 16,
}  # fmt: skip
_WORD_BASE = re.compile(r"_\{\s?\\text\s?\{\s?([a-z]+)\s?\}\s?\}")
_TEXT_DIGITS = re.compile(r"\\(?:text|mathrm)\s?\{([0-9A-Z]{1,60})\}")


def by_convention(gold: str, answer: str) -> tuple[bool, str] | None:
    r"""Whether two answers in LaTeX are equal, and by which rule; None where none of these holds.

    >>> by_convention(r"5\text{ km}", r"5000\text{ m}")
    (True, 'units')
    >>> by_convention("1101_2", "1101_{10}")
    (False, 'number base')
    >>> by_convention("5:6", "10:12")
    (True, 'ratio')
    >>> by_convention("6:00", "12:00")
    (False, 'time of day')
    >>> by_convention("5", r"5\text{ m}")
    """
    if max(len(gold), len(answer)) > 300:
        return None
    gold, answer = as_latex(gold), as_latex(answer)
    if "_" in gold and "_" in answer:
        return _same_number(gold, answer)
    if ":" in gold and ":" in answer and (same := _same_time(gold, answer)) is not None:
        return same, "time of day"
    ratios = _ratio(gold), _ratio(answer)
    if ratios[0] is not None and ratios[1] is not None:
        return ratios[0] == ratios[1], "ratio"
    return _same_quantity(gold, answer)


def _same_quantity(gold: str, answer: str) -> tuple[bool, str] | None:
    """Compare quantities with units that are known and differ."""
    first, second = _unit(gold), _unit(answer)
    if first is None or second is None or first[1:] == second[1:] or first[2] != second[2]:
        return None
    power = first[2]
    for kind in _KINDS:
        scales = kind.get(first[1]), kind.get(second[1])
        values = _value(first[0]), _value(second[0])
        if None not in (*scales, *values):
            return values[0] * scales[0] ** power == values[1] * scales[1] ** power, "units"  # type: ignore[operator]
    return (False, "units") if first[0].strip() == second[0].strip() else None


def _unit(latex: str) -> tuple[str, str, int] | None:
    """A quantity's number, the name of its unit and the unit's power, where it is a known one."""
    found, degrees = _UNIT.fullmatch(latex.strip()), _DEGREES.fullmatch(latex.strip())
    if degrees is not None:
        number, name, power = degrees[1], "degree", 1
    elif found is not None:
        number, name, power = found[1], found[2].lower(), int(found[3] or 1)
    else:
        return None
    if _OTHER_UNIT.search(number):
        return None
    for known in (name, name.removesuffix("s") if len(name) > 2 else name):
        known = _OTHER_NAMES.get(known, known)
        if any(known in kind for kind in _KINDS):
            return number, known, power
    return None


def _value(latex: str) -> Fraction | None:
    decimal = _DECIMAL.fullmatch(latex.strip())
    return Fraction(decimal[0].replace(",", "")) if decimal else as_rational(latex)


def _same_number(gold: str, answer: str) -> tuple[bool, str] | None:
    first, second = _in_base(gold), _in_base(answer)
    if first is None or second is None:
        return None
    return first == second, "number base"


def _in_base(latex: str) -> int | None:
    r"""The value of `204_5`, `(204)_{5}`, `204_{(5)}`, `2\text{B}7_{12}`, `241_{\text{six}}`.

    A single letter with an index is a name.
    """
    latex = _WORD_BASE.sub(lambda own: f"_{{{_WORD_BASES.get(own[1], own[0])}}}", latex)
    found = _BASED.fullmatch(_TEXT_DIGITS.sub(r"\1", latex).strip())
    base = int(found[3] or found[4]) if found else 0
    if found is None or base < 2:
        return None
    try:
        return int(found[1] + found[2], base)
    except ValueError:  # a digit that the base does not have, or no base
        return None


def _ratio(latex: str) -> tuple[Fraction, ...] | None:
    """The terms of a ratio of integers, as shares of their sum."""
    if not _RATIO.fullmatch(latex.strip()):
        return None
    terms = [int(term) for term in re.findall(r"\d+", latex)]
    total = sum(terms)
    return tuple(Fraction(term, total) for term in terms) if total else None


class _Time(NamedTuple):
    """A time as it is written, with `am`, `pm` or nothing."""

    hour: int
    minute: str
    second: str
    half: str

    @property
    def by_24_hours(self) -> tuple[int, str, str]:
        hour = self.hour % 12 + 12 * (self.half == "pm") if self.half else self.hour
        return hour, self.minute, self.second


def _same_time(gold: str, answer: str) -> bool | None:
    """Whether two times of day are the same; None where they are none, or may be ratios: without
    a.m. or p.m., and with no minutes under ten."""
    first, second = _time(gold), _time(answer)
    if first is None or second is None:
        return None
    if not any(own.half or own.minute[0] == "0" for own in (first, second)):
        return None
    if first.half and second.half:
        return first.by_24_hours == second.by_24_hours
    return first[:3] == second[:3] or first.by_24_hours == second.by_24_hours


def _time(latex: str) -> _Time | None:
    r"""The time that `7:55`, `07:55:00` or `7:55 \text{ p.m.}` says."""
    found = _CLOCK.fullmatch(_NOT_IN_TIMES.sub("", latex).lower())
    return _Time(int(found[1]), found[2], found[3] or "00", found[4] or "") if found else None
