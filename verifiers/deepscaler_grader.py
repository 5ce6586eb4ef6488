r"""The outcome rule of DeepScaleR's reward: the same LaTeX normal form, or the same by sympy.

Written from its description (facts.md 8.1), not from its code. The rule is strict where
math-verify is not: `6/8` is not `3/4`, and `2^{10}` is not `1024`. No text is run as code.
"""

import re
from itertools import pairwise

from progdata.verifiers.answers import find_boxes
from progdata.verifiers.arithmetic import NotArithmetic, is_risky, parse, same_value
from progdata.verifiers.verdicts import Comparison, Status

MAX_CHARACTERS = 2_000
"""Longer golds and answers are compared as text."""

_NESTED_BOXES = 5

_CLEANED = (
    (r"(\\\\)|\\?\$|\\[()\[\]!]", r"\1"),  # delimiters, dollars, `\!`; `\\` breaks a line
    (r"(\\\\)|(?:\\[,:;\s]|\\q?quad(?![A-Za-z])|~|\s)+", r"\1 "),
    (r"\\[dt]frac(?![A-Za-z])", r"\\frac"),
    (r"\\(?:left|right|displaystyle)(?![A-Za-z])", ""),
    (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degrees?(?![A-Za-z])|°", ""),
    (r"\\?%", ""),
    (r"\{,\}", ","),
)
_WORD = re.compile(r"\\text\s*\{([^{}]*)\}")

_LATEX_UNIT = re.compile(
    r"\s*\\(?:text\s*\{\s[^{}0-9]*\}|mbox\s*\{[^{}]*\})\s*(?:\^\s*(?:[0-9]|\{[0-9]\}))?\s*\Z"
)
_LATEX = (
    (r"\s+", ""),
    (r"\A[^=<>!]{0,2}=(?=[^=]+\Z)", ""),
    (r"(?<![0-9])\.(?=[0-9])", "0."),
    (r"\A0\.5\Z", r"\\frac{1}{2}"),
    (r"\A(-?[0-9]+)/(-?[0-9]+)\Z", r"\\frac{\1}{\2}"),
)

_THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])")
_MIXED = re.compile(
    r"(?<![0-9.^_])([0-9]+)(?: *(\\frac\{[0-9]+\}\{[0-9]+\})| +([0-9]+/[0-9]+)(?![0-9]))"
)
_POWER = re.compile(r"(?:\*\*|(\^|_))\s*([0-9]+(?:\.[0-9]+)?)")
_UNITS = re.compile(
    r"(?<![a-z\\])(?:degree|cm|centimeter|meter|mile|second|minute|hour|day|week|month|year|foot"
    r"|feet|inch|yard|dollar)(?:es|s)?(?![a-z])(?:\s*\*\*\([0-9]\))?(?!\s*[0-9])"
)
_PLAIN = (
    (r"\s+", ""),
    (r"(\*\*|_)\(([0-9]+|[a-z])\)(?![0-9.])", r"\1\2"),
    (r"(?<![0-9.])([0-9]+)\.0*(?![0-9])", r"\1"),
    (r"\A\+", ""),
)

_TOKEN = re.compile(r"\\sqrt\s*\[[^][{}]*\]|\\[A-Za-z]+|\\.|.", re.DOTALL)
_ROOT = re.compile(r"\\sqrt(?:\s*\[([^][{}]*)\])?")
_ATOM = re.compile(r"[0-9]+|[A-Za-z]|pi")
_SCRIPTS = ("^", "_")
_TEXTS = {
    *(r"\text", r"\textbf", r"\textit", r"\textrm", r"\textnormal", r"\mbox"),
    *(r"\mathrm", r"\mathbf", r"\operatorname"),
}
_MATHS = {
    **{rf"\{name}": name for name in ("pi", "sin", "cos", "tan", "log", "ln", "exp")},
    **{r"\cdot": "*", r"\times": "*", r"\div": "/", r"\infty": "oo", "^": "**", "−": "-"},
    **{"π": "pi", "∞": "oo", "×": "*", "·": "*", "÷": "/", r"\{": "{", r"\}": "}"},
}

_INTEGER = re.compile(r"-?[0-9]+")
_FRACTION = re.compile(r"(-?)\(?(-?[0-9]+)\)?/\(?(-?[0-9]+)\)?")
_BRACKETED_POWER = re.compile(r"(?:\^|\*\*)\s*[{(\[]")


def compare(gold: str, answer: str) -> Comparison:
    r"""Whether the answer's LaTeX is the gold's, by the rule of DeepScaleR's reward.

    Args:
        gold: bare LaTeX, in math delimiters, or with `\boxed{}`: then the last box's content.
        answer: the content of the answer's box.

    Returns:
        correct, wrong, or gold_unparsable where nothing is left of the gold. The normal forms are
        those of LaTeX where these decided, otherwise those of plain mathematics.

    >>> compare(r"\frac{1}{3}", "1/3").status
    'correct'
    >>> compare("3/4", "6/8").rule
    'fractions must be reduced alike'
    """
    gold, answer = _unboxed(gold).strip(), answer.strip()
    if gold and max(len(gold), len(answer)) > MAX_CHARACTERS:
        same = gold.split() == answer.split()
        return Comparison("correct" if same else "wrong", "too long, compared as text")
    gold = _cleaned(gold)
    latex, plain = latex_form(gold), plain_form(gold)
    if not latex or not plain:
        return Comparison("gold_unparsable", "empty gold")
    answer = _cleaned(answer)
    if latex == (answer_latex := latex_form(answer)):
        return Comparison("correct", "same normal form", latex, answer_latex)
    answer_plain = plain_form(answer)
    bracketed = bool(_BRACKETED_POWER.search(gold) or _BRACKETED_POWER.search(answer))
    status, rule = _compare_plain(plain, answer_plain, bracketed)
    return Comparison(status, rule, plain, answer_plain)


def _unboxed(gold: str) -> str:
    """What the last complete box says; the gold itself where there is none."""
    for _ in range(_NESTED_BOXES):
        boxes = find_boxes(gold)
        if not boxes:
            break
        gold = gold[boxes[-1].inner_start : boxes[-1].inner_end]
    return gold


def _cleaned(text: str) -> str:
    """The LaTeX without what says nothing, and with every argument in braces."""
    text = _replaced(text, _CLEANED).strip()
    word = _WORD.fullmatch(text)
    return _braced(word[1].strip() if word else text)


def latex_form(cleaned: str) -> str:
    r"""The normal form of cleaned LaTeX: no unit behind it, no `k =` before it, one kind of `1/2`.

    >>> latex_form(r"x = 1/2\text{ cm}")
    '\\frac{1}{2}'
    """
    return _replaced(_LATEX_UNIT.sub("", cleaned) or cleaned, _LATEX)


def plain_form(cleaned: str) -> str:
    r"""Cleaned LaTeX as plain mathematics in lower case, without units.

    >>> plain_form(r"\frac{x+1}{2}\text{ Meters}")
    '(x+1)/2'
    >>> plain_form(r"1,000 \cdot 3\frac{1}{2}")
    '1000*(3+(1/2))'
    """
    text = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), cleaned)
    text = _MIXED.sub(r"(\1+\2\3)", text)
    text = _plain_math(_POWER.sub(lambda power: f"{power[1] or '^'}{{{power[2]}}}", text)).lower()
    text = _UNITS.sub(" ", text) if _UNITS.sub("", text).strip() else text
    text = _replaced(text, _PLAIN)
    return text if "," in text else _plain_part(text)


def _replaced(text: str, table: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in table:
        text = re.sub(pattern, replacement, text)
    return text


def _arguments(token: str) -> int:
    """How many arguments a command takes, of those that are rewritten."""
    return 2 if token == r"\frac" else 1 if _ROOT.fullmatch(token) else 0


def _braced(latex: str) -> str:
    r"""The LaTeX with braces around all arguments: `\frac12` as `\frac{1}{2}`, `\sqrt3` alike."""
    out: list[str] = []
    wanted = [0]  # arguments still to come, by depth
    for token in _TOKEN.findall(latex):
        if token == "{":
            wanted.append(0)
        elif token == "}":
            if len(wanted) > 1:
                wanted.pop()
            wanted[-1] = max(0, wanted[-1] - 1)
        elif arguments := _arguments(token):
            wanted[-1] = arguments
        elif wanted[-1] and token.isspace():
            continue
        elif wanted[-1]:
            wanted[-1] -= 1
            token = f"{{{token}}}"
        out.append(token)
    return "".join(out)


def _plain_math(latex: str) -> str:
    """LaTeX with its arguments in braces as plain mathematics; unknown commands stay."""
    out: list[str] = []
    opened: list[tuple[str, int]] = []  # of each open brace: whose argument it is, where it is
    owner = ""
    for token in _TOKEN.findall(latex):
        if token == "{":
            opened.append((owner, len(out)))
            out.append(token)
            owner = ""
        elif token == "}" and opened:
            owner = _close(out, *opened.pop())
        elif token.isspace():
            out.append(token)
        else:
            owns = token in _SCRIPTS or (token[0] == "\\" and token not in _MATHS)
            owner = token if owns else ""
            out.append("" if token in _TEXTS else _MATHS.get(token, token))
    return "".join(out)


def _close(out: list[str], owner: str, start: int) -> str:
    """Write the argument of `owner` that begins at `start`; the owner of a brace that follows."""
    content = "".join(out[start + 1 :])
    if owner == "over":
        out[start - 2 :] = [f"({_factor(out[start - 1])}/{_factor(content)})"]
    elif root := _ROOT.fullmatch(owner):
        order = (root[1] or "2").strip()
        text = f"sqrt({content})" if order == "2" else f"(({content})**(1/{_factor(order)}))"
        out[start - 1 :] = [text]
    elif owner == r"\frac":
        out[start:] = [content]
        return "over"
    elif owner in _SCRIPTS:
        out[start:] = [f"({content})"]
    elif owner in _TEXTS:
        out[start:] = [f" {content} "]
    elif owner:  # an unknown command: which of its arguments begins where matters
        out[start:] = [f"({content})"]
        return owner
    else:
        out[start:] = [content]
    return ""


def _factor(text: str) -> str:
    return text if _ATOM.fullmatch(text) else f"({text})"


def _compare_plain(gold: str, answer: str, bracketed: bool) -> tuple[Status, str]:
    """Compare plain forms; `bracketed` says that an exponent stood in braces or brackets."""
    if not answer:
        return "wrong", "empty answer"
    (outer, parts), (answer_outer, answer_parts) = _parts(gold), _parts(answer)
    if len(parts) != len(answer_parts):
        return "wrong", "different number of parts"
    if outer != answer_outer:
        return "wrong", "different brackets"
    rule = "same plain text"
    for own, other in zip(parts, answer_parts, strict=True):
        if own != other:
            equal, rule = _compare_part(own, other, bracketed)
            if not equal:
                return "wrong", rule
    return "correct", rule


def _compare_part(gold: str, answer: str, bracketed: bool) -> tuple[bool, str]:
    """Whether parts of different text are equal, and the rule that says so."""
    if _FRACTION.fullmatch(gold) and _FRACTION.fullmatch(answer):
        return False, "fractions must be reduced alike"
    if bool(_INTEGER.fullmatch(gold)) != bool(_INTEGER.fullmatch(answer)):
        return False, "integer against another form"
    if bracketed or is_risky(gold, answer):
        return False, "risky expression, compared as text"
    try:
        equal = same_value(parse(gold), parse(answer))
    except NotArithmetic:
        return False, "not an expression, compared as text"
    return equal, "equal by sympy" if equal else "unequal by sympy"


def _parts(text: str) -> tuple[str, list[str]]:
    """The outer brackets of a tuple, interval or list, and its parts; none around a single one."""
    depth, commas, enclosed = 0, [], len(text) > 1
    for index, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        enclosed = enclosed and (depth > 0) == (index < len(text) - 1)
        commas += [(index, depth)] if character == "," else []
    cuts = [index for index, level in commas if level == int(enclosed)]
    if not cuts:
        return "", [text]
    edges = [0, *cuts, len(text) - 1] if enclosed else [-1, *cuts, len(text)]
    pieces = [text[a + 1 : b] for a, b in pairwise(edges)]
    return text[0] + text[-1] if enclosed else "", [_plain_part(own) for own in pieces]


def _plain_part(text: str) -> str:
    """A part without parentheses around it; a quotient of two integers without any."""
    text = _without_parentheses(text)
    fraction = _FRACTION.fullmatch(text)
    return f"{fraction[1]}{fraction[2]}/{fraction[3]}" if fraction else text


def _without_parentheses(text: str) -> str:
    """The text without the parentheses that enclose all of it."""
    opened: list[int] = []
    partner: dict[int, int] = {}
    for index, character in enumerate(text):
        if character == "(":
            opened.append(index)
        elif character == ")" and opened:
            partner[opened.pop()] = index
    start, end = 0, len(text)
    while start < end and partner.get(start) == end - 1:
        start, end = start + 1, end - 1
    return text[start:end]
