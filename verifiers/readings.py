r"""How golds and answers are read before they are compared.

Datasets hold golds bare (`2\pi`, `A`), in math delimiters, in a box, or as whole solutions.
math-verify reads only delimited LaTeX rightly (facts.md 8.4), so each form is brought into it.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from progdata.verifiers.answers import find_answer

GoldForm = Literal["empty", "boxed", "delimited", "number", "bare", "prose"]


@dataclass(frozen=True, slots=True)
class Gold:
    """A gold as the graders read it.

    `texts` are the readings for math-verify; an answer that equals one of them is correct. `latex`
    is the gold's own text without delimiters or box around all of it.
    """

    form: GoldForm
    latex: str
    texts: tuple[str, ...]


_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_TOKENS = re.compile(r"\\[()\[\]]|\\.|\$\$?", re.DOTALL)
_CLOSING = {"$": "$", "$$": "$$", r"\(": r"\)", r"\[": r"\]"}
_NO_PROSE = re.compile(
    r"\\(?:text\w{0,6}|mbox|mathrm)\s?\{[^{}]*(?:\}|\Z)|\\[A-Za-z]+|(?<![A-Za-z])(?:and|or)(?![A-Za-z])"
)
_CONDITION = re.compile(r"\s*(?:,\s*)?(?:where|with|for|if|when|such that)\b")
_WORDS_BEHIND = re.compile(r"\s*([A-Za-z]{1,20}(?: [A-Za-z]{1,20}){0,2})\s?\.?\Z")
_ONE_NUMBER = re.compile(r"-?(?:\d{1,3}(?:[ ,]\d{3})+(?:\.\d+)?|\d+,\d+)(?:\s?\\?%)?", re.ASCII)
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_TEXT_COMMAND = re.compile(r"\\(?:text\w{0,6}|mbox|mathrm|operatorname)\s?\{[^{}]*\}")
_SCIENTIFIC = re.compile(r"(-?(?:\d+(?:\.\d*)?|\.\d+))[eE]([+-]?\d{1,3})")
_ORDINAL = re.compile(
    r"(\d)\s?\^\s?\{?\s?(?:\\(?:text|mathrm|textrm|rm)\s?)?\{?\s?(?:st|nd|rd|th)\s?\}{0,2}"
)
_THOUSANDS = re.compile(r"(?<=\d)(?:\\[!,;: ]|,\\!\s?|\{,\}(?:\\!)?)(?=\d{3}(?!\d))")
_LONE_THOUSANDS = re.compile(r"(?<=\{)\d{1,3}(?:,\d{3})+(?=\})")
_EXTREME = re.compile(r"(?<=_)(?:\{\s?)?\\(max|min)(?![A-Za-z])(?:\s?\})?")
_INDEXED_E = re.compile(r"(?<![A-Za-z\\{])([eE])(?=\s?_)")
_PERCENT_OF = re.compile(r"([^,;=%$\n]*[^\s\d.%$\\])\s?\\?%")
_LAST_TERM = re.compile(  # a variable, which math-verify may drop as if it were a unit
    r"((?:[-+*/=^<>]|\\(?:cdot|times)(?![a-z])|\\(?:sin|cos|tan|cot|sec|csc|log|ln|exp)"
    r"(?:\s?\^\s?(?:\d|\{\d{1,3}\}))?)\s*)([A-Za-z]{1,3})$"
)
_ROOT = re.compile("\u221a" r"\s?(?:\(([^()]{1,50})\)|\{([^{}]{1,50})\}|(\d+|\\pi\b|[A-Za-z]))")
_UNICODE = {
    "\u03c0": r"\pi ", "\u00d7": r"\times ", "\u00f7": r"\div ", "\u00b7": r"\cdot ",
    "\u00b1": r"\pm ", "\u221e": r"\infty ", "\u2264": r"\leq ", "\u2265": r"\geq ",
    "\u2260": r"\neq ", "\u222a": r"\cup ", "\u2229": r"\cap ", "\u2208": r"\in ",
    "\u00b0": r"^\circ ", "\uff0c": ",", "\uff1b": ";",
}  # fmt: skip
_SCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻₀₁₂₃₄₅₆₇₈₉", "0123456789-0123456789")
_RAISED, _LOWERED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+"), re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_CHOICE_GOLD = re.compile(r"\(?([A-J])\)?[.),]?")
_CHOICE_ANSWER = re.compile(
    r"(?:\(([A-J])\)|([A-J])(?=\s*(?:[).:]|\\[,;:]|\\q?quad(?![a-z])|$)))[).:]?"
    r"(?!\s*(?:[+=*/^<>_]|\\(?:cup|cap|cdot|times|pm|to|in)(?![a-z])|(?:and|or)\b))"
    r"(?:(?=\s|\\|$).*)?",
    re.DOTALL,
)
_STYLE = re.compile(r"\\(?:text\w{0,6}|mbox|mathrm|mathbf|boldsymbol)\s?\{([^{}]*)\}")
_WORDS = re.compile(r"[A-Za-z][A-Za-z ,.'’-]*")

PROSE_WORDS = 8
"""A bare gold with so many words is prose: it says its answer in a box or in delimiters, or not."""


def clean(text: str) -> str:
    r"""The text without control and formatting characters, with a real minus sign.

    >>> clean("\u200b\u22125\x00")
    '-5'
    """
    return _INVISIBLE.sub("", text).replace("\u2212", "-")


@lru_cache(maxsize=4096)
def read_gold(gold: str) -> Gold:
    r"""How a gold is read.

    >>> read_gold(r"2\pi").texts
    ('$2\\pi$',)
    >>> read_gold(r"So it is $\boxed{3}$.")
    Gold(form='boxed', latex='3', texts=('\\boxed{3}',))
    >>> read_gold("1,22").texts
    ('$1,22$', '1,22')
    """
    text = clean(gold).strip()
    if not text:
        return Gold("empty", "", ())
    boxed = find_answer(text)
    if boxed is not None:
        return Gold("boxed", boxed.latex, (boxed_text(boxed.latex),))
    latex, delimited = undelimited(text)
    if not latex:
        return Gold("empty", "", ())
    if delimited:
        return Gold("delimited", latex, (text if latex == text else _in_dollars(latex),))
    if len(_WORD.findall(_TEXT_COMMAND.sub(" ", latex))) >= PROSE_WORDS:
        return Gold("prose", latex, ())
    if _ONE_NUMBER.fullmatch(latex):  # 1,22 may be a list or a decimal
        return Gold("number", latex, (_in_dollars(latex), latex))
    return Gold("bare", latex, (_in_dollars(latex),))


def undelimited(text: str) -> tuple[str, bool]:
    r"""The LaTeX of a text whose mathematics is in delimiters, and whether any is.

    Parts with nothing but LaTeX, "and" and "or" between them are one. With other words it is the
    part of `$..$, where ..`, that of `$..$ miles` with its unit, or those at the end; a text that
    goes on after them is left as it is.

    >>> undelimited("$1$ and $2$"), undelimited("They are $1$ and $2$.")
    (('1 and 2', True), ('1 and 2.', True))
    """
    parts = _delimited_parts(text)
    edges = [0, *(edge for part in parts for edge in part), len(text)]
    prose = [_is_prose(text[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    if parts and any(prose):
        end = parts[0][1]
        behind = _WORDS_BEHIND.match(text, end)
        if parts[0][0] == 0 and _CONDITION.match(text, end):
            text = text[:end]
        elif parts[0][0] == 0 and behind is not None:
            text = text[:end] + rf"\text{{ {behind[1]}}}"
        elif prose[-1]:
            return text, True
        else:
            first = max(n for n, before in enumerate(prose) if before)
            text = text[parts[first][0] :]
    marks = _CLOSING.keys() | _CLOSING.values() if parts else {"$", "$$"}
    latex = _TOKENS.sub(lambda own: " " if own[0] in marks else own[0], text)
    return " ".join(latex.split()).replace(" ,", ",").replace(" .", "."), bool(parts)


def _delimited_parts(text: str) -> list[tuple[int, int]]:
    """The spans of a text that are in math delimiters."""
    parts: list[tuple[int, int]] = []
    opened, start = "", 0
    for token in _TOKENS.finditer(text):
        mark = token[0]
        if not opened and mark in _CLOSING:
            opened, start = mark, token.start()
        elif opened and mark == _CLOSING[opened]:
            parts.append((start, token.end()))
            opened = ""
        elif opened == "$" and mark == "$$":  # one part ends, and another begins
            parts.append((start, token.start() + 1))
            start = token.start() + 1
    return parts


def _is_prose(text: str) -> bool:
    """Whether there are letters in it, other than "and", "or" and those of LaTeX."""
    return re.search("[A-Za-z]", _NO_PROSE.sub(" ", text)) is not None


def _in_dollars(latex: str) -> str:
    latex, percent = _split_percent(as_latex(latex))
    return f"${latex}${percent}"


def boxed_text(latex: str) -> str:
    """An answer's LaTeX as a text of which math-verify reads all."""
    latex, percent = _split_percent(as_latex(latex))
    return f"$\\boxed{{{latex}}}${percent}" if percent else f"\\boxed{{{latex}}}"


def _split_percent(latex: str) -> tuple[str, str]:
    r"""What stands before `\%`, where that is no number and math-verify reads it only outside."""
    found = _PERCENT_OF.fullmatch(latex) if len(latex) < 300 else None
    return (found[1], r"\%") if found else (latex, "")


def as_latex(latex: str) -> str:
    r"""LaTeX that math-verify's parser would misread, in a form that it reads.

    >>> as_latex(r"12^{\mathrm{th}} \text{ grade}.")
    '12 \\text{ grade}'
    >>> as_latex(r"\frac{1 \pm x}{2}")
    '\\frac{1 + x}{2},\\frac{1 - x}{2}'
    >>> as_latex("a + b + c")
    'a + b + {c}'
    """
    text = clean(latex)
    if "$" in text or r"\(" in text:
        text, _ = undelimited(text)
    text = _ORDINAL.sub(r"\1", text).replace(r"\mathrm{i}", "i")
    text = _INDEXED_E.sub(r"\\mathrm{\1}", _EXTREME.sub(r"{\1}", text))
    for sign, command in _UNICODE.items():
        text = text.replace(sign, command)
    text = _RAISED.sub(lambda own: f"^{{{own[0].translate(_SCRIPTS)}}}", text)
    text = _LOWERED.sub(lambda own: f"_{{{own[0].translate(_SCRIPTS)}}}", text)
    text = _THOUSANDS.sub("", _ROOT.sub(r"\\sqrt{\1\2\3}", text))
    text = _LONE_THOUSANDS.sub(lambda own: own[0].replace(",", ""), text)
    text = _without_full_stop(text)
    return scientific_as_latex(_both_signs(_LAST_TERM.sub(r"\1{\2}", text)))


def _without_full_stop(latex: str) -> str:
    latex = latex.rstrip()
    if latex.endswith((".", ",", ";")) and not latex.endswith(("..", r"\,", r"\;", r"\right.")):
        return latex[:-1].rstrip()
    return latex


def _both_signs(latex: str) -> str:
    r"""A fraction with one `\pm` in it as the list of both; elsewhere math-verify reads it."""
    if latex.count(r"\pm") != 1 or r"frac" not in latex or re.search(r",|;|\\mp|\\pmod", latex):
        return latex
    return latex.replace(r"\pm", "+") + "," + latex.replace(r"\pm", "-")


def scientific_as_latex(latex: str) -> str:
    r"""A number such as `4.5e33` in LaTeX, where `e` would be Euler's number; other text as it is.

    >>> scientific_as_latex("4.5e33")
    '4.5 \\times 10^{33}'
    """
    number = _SCIENTIFIC.fullmatch(latex.strip()) if len(latex) < 50 else None
    return f"{number[1]} \\times 10^{{{int(number[2])}}}" if number else latex


def gold_choice(latex: str) -> str | None:
    r"""The letter of a multiple-choice gold: `B`, `(B)`, `\text{B}`; None for any other."""
    letter = _CHOICE_GOLD.fullmatch(_without_style(latex)) if len(latex) < 50 else None
    return letter[1] if letter else None


def answer_choice(latex: str) -> str | None:
    r"""The letter that a multiple-choice answer begins with, `B) 12` or `\textbf{(B)}\ 12`."""
    if len(latex) > 500:
        return None
    letter = _CHOICE_ANSWER.fullmatch(_without_style(latex))
    return (letter[1] or letter[2]) if letter else None


def as_words(latex: str) -> str | None:
    r"""A text answer in lower case, without commands, spaces and points; None where it is maths.

    Letters count as words where they are in `\text{}`, or are more than three in a row; single ones
    keep their case.

    >>> as_words(r"\text{No real solution}") == as_words("no real solution.")
    True
    """
    if len(latex) > 500:
        return None
    plain = _without_style(latex)
    if not _WORDS.fullmatch(plain):
        return None
    if plain == latex.strip() and not re.search("[A-Za-z]{4}", plain):
        return None
    words = re.findall("[A-Za-z]+|[,'-]", plain.replace("\u2019", "'"))
    return "".join(own if len(own) == 1 else own.lower() for own in words)


def _without_style(latex: str) -> str:
    for _ in range(2):
        latex = _STYLE.sub(r"\1", latex)
    return latex.replace(r"\ ", " ").strip()
