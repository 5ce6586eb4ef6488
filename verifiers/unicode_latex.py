r"""Unicode mathematics as LaTeX, so that a text reads the same in both notations.

Compatibility forms are unfolded as Unicode's NFKC does it (full-width and styled characters,
ligatures, Roman numerals), but where that would change the mathematics: a superscript becomes
`^{2}` and not 2, a subscript `_{1}`, a fraction `\frac{1}{2}`, a double-struck letter `\mathbb{R}`;
a digit in a circle stays what it is.
"""

import re
import unicodedata

_SYMBOLS = {
    "×": r"\times", "÷": r"\div", "·": r"\cdot", "⋅": r"\cdot", "±": r"\pm", "∓": r"\mp",
    "≤": r"\le", "≥": r"\ge", "⩽": r"\le", "⩾": r"\ge", "≠": r"\ne", "≈": r"\approx",
    "≡": r"\equiv", "≅": r"\cong", "∼": r"\sim", "∝": r"\propto", "∞": r"\infty", "√": r"\sqrt",
    "∈": r"\in", "∉": r"\notin", "⊂": r"\subset", "⊆": r"\subseteq", "∪": r"\cup", "∩": r"\cap",
    "∅": r"\emptyset", "∀": r"\forall", "∃": r"\exists", "∂": r"\partial", "∇": r"\nabla",
    "→": r"\to", "←": r"\leftarrow", "↔": r"\leftrightarrow", "⇒": r"\Rightarrow",
    "⇔": r"\Leftrightarrow", "↦": r"\mapsto", "∑": r"\sum", "∏": r"\prod", "∫": r"\int",
    "∠": r"\angle", "△": r"\triangle", "∆": r"\Delta", "⊥": r"\perp", "∥": r"\parallel",
    "⌊": r"\lfloor", "⌋": r"\rfloor", "⌈": r"\lceil", "⌉": r"\rceil", "⟨": r"\langle",
    "⟩": r"\rangle", "‖": r"\|", "⊕": r"\oplus", "⊗": r"\otimes", "∧": r"\wedge", "∨": r"\vee",
    "¬": r"\neg", "ℓ": r"\ell", "°": r"^\circ", "…": r"\dots", "⋯": r"\dots",
}  # fmt: skip

_PLAIN = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‒": "-", "∣": "|", "∶": ":", "∗": "*", "⁄": "/",
    "∕": "/", "“": '"', "”": '"', "‘": "'", "’": "'", "′": "'",
}  # fmt: skip

_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ϵ": "epsilon",
    "ζ": "zeta", "η": "eta", "θ": "theta", "ϑ": "vartheta", "ι": "iota", "κ": "kappa",
    "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma",
    "τ": "tau", "υ": "upsilon", "φ": "varphi", "ϕ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega",
    "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma",
    "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip

_ALONE = re.compile(rf"(?<![Ͱ-Ͽ])[{''.join(_GREEK)}](?![Ͱ-Ͽ])")
"""A Greek letter that is no part of a Greek word."""

_STYLES = {"DOUBLE-STRUCK": "mathbb", "SCRIPT": "mathcal", "FRAKTUR": "mathfrak", "BLACK-LETTER":
           "mathfrak", "BOLD": "mathbf"}  # fmt: skip
_RAISED = {"<super>": "^", "<sub>": "_"}
_CONTROLS = {code: " " for code in (*range(32), 127) if chr(code) not in "\t\n\r"}
_OPEN, _CLOSE = "\x01", "\x02"  # around what is raised or lowered, until runs of it are one


def as_latex(text: str) -> str:
    r"""A text in one Unicode form, with its mathematical symbols as LaTeX commands.

    >>> as_latex("2πr² ≤ ½")
    '2\\pi r^{2} \\le   \\frac{1}{2} '
    >>> as_latex("x⁻¹⁰")
    'x^{-10}'
    """
    if text.isascii():
        return text.translate(_CONTROLS)
    text = unicodedata.normalize("NFC", text).translate(_CHARACTERS)
    text = _ALONE.sub(lambda found: f"\\{_GREEK[found[0]]} ", text)
    for sign in _RAISED.values():
        text = text.replace(f"{_CLOSE}{sign}{_OPEN}", "")
    text = text.replace(_OPEN, "{").replace(_CLOSE, "}")
    return unicodedata.normalize("NFC", text)


class _Characters(dict[int, str]):
    """What each character becomes, found when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _unfold(chr(code))
        return found


_CHARACTERS = _Characters()


def _unfold(character: str) -> str:
    if character in _SYMBOLS:
        return f"{_SYMBOLS[character]} "
    if character in _PLAIN:
        return _PLAIN[character]
    category = unicodedata.category(character)
    if category in ("Zs", "Zl", "Zp", "Cc"):
        return character if character in "\t\n\r" else " "
    if category == "Cf":  # invisible: soft hyphens, marks of direction, joiners
        return ""
    tag, _, codes = unicodedata.decomposition(character).partition(" ")
    if not tag.startswith("<") or tag == "<circle>":
        return character
    inner = "".join(_unfold(chr(int(code, 16))) for code in codes.split())
    if tag in _RAISED:
        return f"{_RAISED[tag]}{_OPEN}{inner}{_CLOSE}"
    if tag == "<fraction>":
        over, _, under = inner.partition("/")
        return f" \\frac{{{over}}}{{{under}}} "
    if tag == "<font>":
        name = unicodedata.name(character, "")
        for style, command in _STYLES.items():
            if style in name:
                return f"\\{command}{{{inner}}}"
    return inner
