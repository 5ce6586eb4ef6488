r"""Leaks of known kind: what a problem of a benchmark looks like when it turns up in training data.

Each kind is a function of a text and a random generator; it gives the leaked text, or None where
the kind does not apply to the text (a half of fewer than `HALF_WORDS` words, no number to change).
"""

import re
from collections.abc import Callable
from random import Random

from progdata.builders.countdown_search import pick
from progdata.verifiers.generated_problems import draw_problem
from progdata.verifiers.latex_parts import map_parts, outside_formulas, rewrite_formula
from progdata.verifiers.leak_words import NOUNS, NUMBER_WORDS, PHRASES, SPELLINGS

Leak = Callable[[str, Random], str | None]

HALF_WORDS = 12
"""Words that a half must have to be planted."""

_DRAWING = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+|\n\s*\n")
_SPACE = re.compile(r"\s+")
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


def verbatim(text: str, rng: Random) -> str | None:
    """The same text.

    >>> verbatim("Find $x$.", Random(0))
    'Find $x$.'
    """
    return text


def reformatted(text: str, rng: Random) -> str | None:
    r"""Other LaTeX for the same formulas, and other white space.

    Delimiters, `\dfrac` and `\frac`, `\le` and `\leq`, braces of powers, spaces in formulas;
    between words, line breaks or two spaces.
    """
    changed = map_parts(text, maths=lambda part: rewrite_formula(part, rng))
    space = pick(rng, ("\n", "  ", " \n ", "\u00a0", "\t"))
    parts = _SPACE.split(changed.strip())
    joints = [space if rng.random() < 0.3 else " " for _ in parts[1:]]
    return _unless_same(
        "".join(part + joint for part, joint in zip(parts, [*joints, ""], strict=True)), text
    )


def case_and_punctuation(text: str, rng: Random) -> str | None:
    """Prose in upper, lower or title case, its punctuation dropped, doubled or set apart."""
    case = pick(rng, (str.upper, str.lower, str.title))
    mark = pick(rng, ("", r" \g<0> ", " ;", r"\g<0>\g<0>"))
    punctuation = re.compile(r"(?<!\d)[.,;:!?]|[.,;:!?](?!\d)")
    changed = map_parts(text, prose=lambda part: punctuation.sub(mark, case(part)))
    return _unless_same(changed, text)


def embedded(text: str, rng: Random) -> str | None:
    """In a longer text, between two other problems."""
    before, after = draw_problem(rng), draw_problem(rng)
    layout = pick(
        rng,
        (
            "{0}\n\n{1}\n\n{2}",
            "Problem 1. {0}\nProblem 2. {1}\nProblem 3. {2}",
            "Here is an example: {0} Now answer this. {1} Then do the same for: {2}",
        ),
    )
    return layout.format(before, text, after)


def first_half(text: str, rng: Random) -> str | None:
    """What stands before the sentence or word in the middle."""
    halves = _halves(text)
    return halves[0] if halves and count_words(halves[0]) >= HALF_WORDS else None


def second_half(text: str, rng: Random) -> str | None:
    """What stands after the sentence or word in the middle."""
    halves = _halves(text)
    return halves[1] if halves and count_words(halves[1]) >= HALF_WORDS else None


def sentence_order(text: str, rng: Random) -> str | None:
    """The sentences in another order."""
    cuts = outside_formulas(text, _SENTENCE_END)
    starts = [0, *(end for _, end in cuts)]
    ends = [*(start for start, _ in cuts), len(text)]
    sentences = [text[a:b].strip() for a, b in zip(starts, ends, strict=True)]
    sentences = [sentence for sentence in sentences if sentence]
    if len(set(sentences)) < 2:
        return None
    shuffled = sentences
    while shuffled == sentences:
        shuffled = sorted(sentences, key=lambda _: rng.random())
    return " ".join(shuffled)


def numbers_changed(text: str, rng: Random) -> str | None:
    """All numbers replaced by others of as many digits, those in formulas and in words too.

    A number that stands in several places is replaced by the same one.
    """
    known: dict[str, str] = {}

    def other(match: re.Match[str]) -> str:
        own = match[0]
        if own.lower() not in known:
            known[own.lower()] = _other_number(own.lower(), rng)
        return _cased_like(own, known[own.lower()])

    words = re.compile(rf"{_NUMBER.pattern}|(?<!\\)\b(?:{'|'.join(NUMBER_WORDS)})\b", re.IGNORECASE)
    return _unless_same(words.sub(other, text), text)


def names_changed(text: str, rng: Random) -> str | None:
    """Names and common nouns replaced, each by one of its kind and wherever it stands."""
    known: dict[str, str] = {}

    def other(match: re.Match[str]) -> str:
        own = match[0]
        word = own if own in NOUNS else own.lower()
        if word not in NOUNS:
            return own
        if word not in known:
            left = [one for one in NOUNS[word] if one != word and one not in known.values()]
            known[word] = pick(rng, left or [word])
        return _cased_like(own, known[word])

    words = re.compile(r"[A-Za-z]+")
    return _unless_same(map_parts(text, prose=lambda part: words.sub(other, part)), text)


def spelling(text: str, rng: Random) -> str | None:
    """British for American spelling or the reverse, and other words for common phrases."""

    def other(match: re.Match[str]) -> str:
        return _cased_like(match[0], pick(rng, _SAME[match[0].lower()]))

    return _unless_same(map_parts(text, prose=lambda part: _SAME_WORDS.sub(other, part)), text)


LEAKS: dict[str, Leak] = {
    leak.__name__: leak
    for leak in (
        verbatim,
        reformatted,
        case_and_punctuation,
        embedded,
        first_half,
        second_half,
        sentence_order,
        numbers_changed,
        names_changed,
        spelling,
    )
}
"""The kinds of leaks by name."""


def count_words(text: str) -> int:
    """Words between white space that hold a letter or a digit; those of drawings do not count.

    >>> count_words("Find $x + 1$ . [asy] draw((0, 0)--(1, 1)); [/asy]")
    3
    """
    return sum(any(map(str.isalnum, word)) for word in _DRAWING.sub(" ", text).split())


# --- parts of a text

_SAME = {
    **{american: (british,) for american, british in SPELLINGS},
    **{british: (american,) for american, british in SPELLINGS},
    **dict(PHRASES),
}
_SAME_WORDS = re.compile(
    rf"\b(?:{'|'.join(map(re.escape, sorted(_SAME, key=len, reverse=True)))})\b", re.IGNORECASE
)


def _halves(text: str) -> tuple[str, str] | None:
    """A text cut at the sentence end nearest to its middle, or else at a word; not in a formula.

    A sentence end counts where neither half is more than twice as long as the other.
    """
    middle = len(text) / 2
    for pattern, reach in ((_SENTENCE_END, len(text) / 6), (_SPACE, middle)):
        cuts = outside_formulas(text, pattern)
        start, end = min(cuts, key=lambda cut: abs(cut[0] - middle), default=(0, 0))
        if end and abs(start - middle) <= reach:
            return text[:start], text[end:]
    return None


def _unless_same(changed: str, text: str) -> str | None:
    return None if changed == text else changed


def _cased_like(model: str, word: str) -> str:
    """A word with a capital where the model has one.

    >>> _cased_like("Find", "work out")
    'Work out'
    """
    return word[:1].upper() + word[1:] if model[:1].isupper() else word


def _other_number(own: str, rng: Random) -> str:
    """Another number of as many digits, or another number word."""
    if own in NUMBER_WORDS:
        return pick(rng, [word for word in NUMBER_WORDS if word != own])
    other = own
    while other == own:
        digits = [str(int(rng.random() * 10)) if char.isdigit() else char for char in own]
        digits[0] = str(1 + int(rng.random() * 9))
        other = "".join(digits)
    return other
