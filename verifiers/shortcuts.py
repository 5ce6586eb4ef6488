"""What can be decided without a computer algebra system, with the verdict that it would give.

Each rule says why it cannot differ from math-verify's verdict where math-verify is right.
"""

import re
from functools import lru_cache

from progdata.verifiers.conventions import by_convention
from progdata.verifiers.numbers import as_rational
from progdata.verifiers.readings import (
    Gold,
    answer_choice,
    as_latex,
    as_words,
    clean,
    gold_choice,
    undelimited,
)
from progdata.verifiers.verdicts import Comparison

SHORT = 300
"""Characters up to which the normaliser's backtracking expressions are safe anywhere."""

_ARITHMETIC = re.compile(r"[0-9+*/() -]{1,100}")
_LAST_LETTER = re.compile(r"(?<=[\d}\s)])[A-Za-z]\Z")
_QUOTIENT = re.compile(r"\s*-?\d+/-?\d+\s*")


def refuse(gold: Gold, answer: str | None = None) -> Comparison | None:
    """Why an answer's LaTeX, or any, cannot be held against a gold, where that is so."""
    if gold.form == "empty":
        return Comparison("gold_unparsable", "empty gold")
    if gold.form == "prose" and (answer is None or undelimited(clean(answer))[0] != gold.latex):
        return Comparison("gold_unparsable", "prose without an answer", gold.latex[:SHORT])
    return None


def decide(gold: Gold, answer: str) -> Comparison | None:
    """The comparison of a gold with an answer's LaTeX, where one of these rules decides it.

    - *units*, *number base*, *ratio*: see `conventions`, where it does differ from math-verify.
    - *same normal form*: math-verify compares the normalised texts too, and any match is correct.
      It drops a last letter as a unit: `3c` and `3d` are *other letter at the end*.
    - *plain arithmetic*: integers, quotients, and sums and products of them: compared exactly.
    - *choice letter*: of a gold that is a letter and an answer that begins with one.
    - *same words*: text that differs in case, spaces and full stops alone.
    """
    answer = clean(answer)
    gold_normal, answer_normal = normal_form(gold.latex), normal_form(answer)

    def found(equal: bool, rule: str) -> Comparison:
        return Comparison("correct" if equal else "wrong", rule, gold_normal, answer_normal)

    convention = by_convention(gold.latex, answer)
    if convention is not None:
        return found(*convention)
    if gold_normal and gold_normal == answer_normal:
        ends = [_LAST_LETTER.search(own.rstrip()[-2:]) for own in (gold.latex, answer)]
        if ends[0] and ends[1] and ends[0][0] != ends[1][0]:
            return found(False, "other letter at the end")
        return found(True, "same normal form")
    numbers = as_rational(gold_normal), as_rational(answer_normal)
    if numbers[0] is not None and numbers[1] is not None:
        return found(numbers[0] == numbers[1], "plain arithmetic")
    letters = gold_choice(gold.latex), answer_choice(answer)
    if letters[0] is not None and letters[1] is not None:
        return found(letters[0] == letters[1], "choice letter")
    words = as_words(gold.latex), as_words(answer)
    if words[0] is not None and words[0] == words[1]:
        return found(True, "same words")
    return None


def normal_form(latex: str) -> str:
    r"""The LaTeX as math-verify reads it: spacing, units, styles, `\dfrac`, `1/2` unified."""
    if _ARITHMETIC.fullmatch(latex) and not _QUOTIENT.fullmatch(latex):
        return latex.strip()  # nothing in it to be unified
    return _normalised(latex)


@lru_cache(maxsize=4096)
def _normalised(latex: str) -> str:
    from latex2sympy2_extended import NormalizationConfig, normalize_latex

    config = NormalizationConfig(
        basic_latex=True, units=True, malformed_operators=True, nits=True, boxed="all"
    )
    return normalize_latex(as_latex(latex), config=config)
