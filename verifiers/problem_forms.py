r"""The normal form of a problem's text: what two problems share that are the same but for notation.

The text is cut into tokens: words, numbers, LaTeX commands, and every other character by itself.
The normal form is the tokens with one space between them. So white space says nothing, but it parts
numbers and words ("1 5" is not 15). What else makes no difference:

- Unicode forms and symbols (`unicode_latex`), typographic quotes and dashes;
- the delimiters of mathematics (`$`, `$$`, `\(`, `\[`), but not the sign `\$`;
- spacing (`\,`, `\quad`, `~`, `\hspace{...}`), sizes (`\left`, `\big`), `\displaystyle`;
- which of several commands for one thing (`\dfrac` and `\frac`, `\leq` and `\le`, `...` and
  `\ldots`, `^\prime` and `'`), and the markup of prose (`\text`, `\textbf`, `\mathrm`);
- braces around one character or command: `x^{2}` and `x^2`, `\frac{1}{2}` and `\frac12`; an empty
  index `_{}`;
- spaces between the letters of a product or of points: `$A B$` and `$AB$`;
- how long a blank is (`____`), a comma in a number as `{,}` or `,`;
- the capital at the beginning of a word of prose ("Find", not "ABC", "Aa" or a lone letter);
- the full stop at the end.

All else counts: numbers, signs, operators, brackets, primes, factorials, the case of variables.
"""

import re
from typing import NamedTuple

from progdata.verifiers.unicode_latex import as_latex

_SPACES = r"[hv]space\*?\s*\{[^{}]*\}"
_NAME = r"[a-zA-Z]+|[^\w\s]|_"

_TOKEN = re.compile(
    rf"""
      \\(?P<spaces>{_SPACES}|(?:left|right)\s*\.)
    | (?P<blank>(?:\\?_\s*){{2,}})
    | \\(?P<command>{_NAME})
    | (?P<gap>\s|~|\\(?:\s|\Z))
    | (?P<delimiter>\$\$?)
    | (?P<thousands>[0-9]{{1,3}}(?:(?:,|\{{,\}}|,\\!)[0-9]{{3}})+(?![0-9])(?:\.[0-9]+)?)
    | (?P<number>[0-9]*\.[0-9]+|[0-9]+)
    | (?P<word>[^\W\d_]+)
    | (?P<dots>\.{{3,}})
    | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)

_ROUGH = re.compile(rf"\\(?:{_SPACES}|{_NAME})")
_NOT_ROUGH = bytes(set(range(256)) - set(b"abcdefghijklmnopqrstuvwxyz0123456789"))

_DELIMITERS = {"(": True, "[": True, ")": False, "]": False}

_DROPPED = """, ; : ! > quad qquad enspace thinspace medspace thickspace negthinspace hfill
    smallskip medskip bigskip noindent allowbreak left middle right big Big bigg Bigg bigl Bigl
    biggl Biggl bigr Bigr biggr Biggr bigm Bigm displaystyle textstyle scriptstyle limits nolimits
    rm bf it nonumber"""

_UNWRAPPED = """text textrm textnormal textup mbox hbox textbf textit textsl textsc emph
    mathrm mathit mathop operatorname"""
"""Commands that say how words are set; what is in their braces is read as prose."""

_SAME = {
    other: rf"\{one}"
    for one, others in {
        "frac": "dfrac tfrac cfrac", "binom": "dbinom tbinom", "le": "leq leqslant",
        "ge": "geq geqslant", "ne": "neq", "to": "rightarrow", "dots": "ldots cdots dotsc dotsb "
        "dotsm dotsi dotso", "mathbf": "boldsymbol bold bm", "bmod": "mod", "emptyset":
        "varnothing", "|": "Vert lVert rVert", "{": "lbrace", "}": "rbrace", "$": "textdollar",
        "land": "wedge", "lor": "vee", "neg": "lnot", "iff": "Longleftrightarrow",
    }.items()
    for other in others.split()
} | {
    "lt": "<", "gt": ">", "plus": "+", "minus": "-", "equal": "=", "colon": ":", "%": "%",
    "#": "#", "ast": "*", "lbrack": "[", "rbrack": "]",
    "vert": "|", "lvert": "|", "rvert": "|", "mid": "|",
}  # fmt: skip

_TWO_LETTERS = "In If Is It On At To By An As We He No Of Or So Do Be My"
_DROPPED_NAMES, _UNWRAPPED_NAMES, _SHORT_WORDS = (
    frozenset(names.split()) for names in (_DROPPED, _UNWRAPPED, _TWO_LETTERS)
)
_ARGUMENTS = {r"\frac": 2, r"\binom": 2}


class Token(NamedTuple):
    """A piece of a normal form; `maths` where it stood between the delimiters of mathematics."""

    text: str
    maths: bool


def normal_form(text: str) -> str:
    r"""A problem as it is compared: see the module. A text of nothing but markup has the form "".

    >>> normal_form(r"Find \( \dfrac{1}{2} \left(x+1\right)^{2} \).")
    'find \\frac 1 2 ( x + 1 ) ^ 2'
    >>> normal_form("Find $1.5!$"), normal_form("Find $15$!")
    ('find 1.5 !', 'find 15 !')
    """
    return " ".join(token.text for token in tokens_of(text))


def rough_form(text: str) -> bytes:
    """The letters and digits of a text without its commands: the same for texts with the same
    normal form, and much cheaper."""
    bare = _ROUGH.sub(" ", as_latex(text)).lower()
    return bare.encode("ascii", "ignore").translate(None, _NOT_ROUGH)


def tokens_of(text: str) -> list[Token]:
    """The tokens of a text in its normal form."""
    return _Reader(as_latex(text)).read()


class _Reader:
    """Reads a text once, from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = []
        self.braces: list[tuple[int, bool, bool]] = []  # where each began, dropped, maths before
        self.maths = False
        self.unwrapping = False  # the braces that follow are no more than markup
        self.balanced = text.count("$") % 2 == 0

    def read(self) -> list[Token]:
        for found in _TOKEN.finditer(self.text):
            kind, piece = str(found.lastgroup), found[0]
            if kind == "gap":
                continue
            unwrapping, self.unwrapping = self.unwrapping, False
            if piece == "{":
                self._open(unwrapping)
            elif piece == "}":
                self._close()
            elif kind == "command":
                self._command(found["command"])
            elif kind == "delimiter":
                self.maths = not self.maths
            elif kind in ("number", "thousands"):
                self._number(found, kind == "thousands")
            elif kind == "word":
                self._word(piece)
            elif kind != "spaces":
                self._add({"blank": r"\_", "dots": r"\dots"}.get(kind, piece))
        while self.tokens and self.tokens[-1].text == ".":
            self.tokens.pop()
        return self.tokens

    def _add(self, piece: str) -> None:
        self.tokens.append(Token(piece, self.maths))

    def _word(self, word: str) -> None:
        """A word of prose; or letters of mathematics, which are tokens each."""
        if self.maths or (word.isascii() and word.isupper()):
            for letter in word:
                self._add(letter)
        else:
            self._add(_fold(word) if self.balanced else word)

    def _command(self, name: str) -> None:
        if name in _DELIMITERS:
            self.maths = _DELIMITERS[name]
        elif name in _UNWRAPPED_NAMES:
            self.unwrapping = True
        elif name not in _DROPPED_NAMES:
            self._add(_SAME.get(name, f"\\{name}"))
            self._prime()

    def _number(self, found: re.Match[str], thousands: bool) -> None:
        """A number; digits without braces after `\\frac` are an argument each, and in mathematics
        the parts between commas are numbers each, unless there is nothing else."""
        piece = re.sub(r"[{}\\!]", "", found[0])
        missing = self._missing_arguments()
        if missing and len(piece) > 1 and piece.isdigit():
            for digit in piece[:missing]:
                self._add(digit)
            piece = piece[missing:]
        if thousands and self.maths and not self._stands_alone(found):
            parts = piece.split(",")
            for part in parts[:-1]:
                self._add(part)
                self._add(",")
            piece = parts[-1]
        if piece:
            self._add(piece)

    def _missing_arguments(self) -> int:
        """How many arguments the last command still waits for, outside of braces."""
        if self.tokens and self.tokens[-1].text == "{":
            return 0
        for back in (1, 2):
            if len(self.tokens) >= back:
                wanted = _ARGUMENTS.get(self.tokens[-back].text, 0)
                if wanted >= back:
                    return wanted - back + 1
        return 0

    def _stands_alone(self, found: re.Match[str]) -> bool:
        before, after = self.text[: found.start()][-2:], self.text[found.end() :][:2]
        return before.endswith(("$", r"\(")) and after.startswith(("$", r"\)"))

    def _open(self, unwrapping: bool) -> None:
        self.braces.append((len(self.tokens), unwrapping, self.maths))
        if unwrapping:
            self.maths = False
        else:
            self._add("{")

    def _close(self) -> None:
        """The end of a group. Its braces are dropped where they hold one character or command;
        where they hold nothing, so is the sign of the index that they are."""
        if not self.braces:
            self._add("}")
            return
        start, unwrapped, self.maths = self.braces.pop()
        if unwrapped:
            return
        inner = [token.text for token in self.tokens[start + 1 :]]
        if len(inner) > 1 or (inner and len(inner[0]) > 1 and inner[0][0] != "\\"):
            self._add("}")
            return
        del self.tokens[start]
        if not inner and self.tokens and self.tokens[-1].text in "^_":
            self.tokens.pop()
        self._prime()

    def _prime(self) -> None:
        if [token.text for token in self.tokens[-2:]] == ["^", r"\prime"]:
            self.tokens[-2:] = [Token("'", self.maths)]


def _fold(word: str) -> str:
    """A word of prose without the capital it begins with: names of variables, points, genes and
    units keep theirs."""
    if not word[0].isupper() or not word[1:].islower():
        return word
    spelled = not word.isascii() or any(vowel in word[1:] for vowel in "aeiouy")
    return word.lower() if (len(word) > 2 and spelled) or word in _SHORT_WORDS else word
