r"""Answers and golds that hang, crash, blow up or break into a careless grader of mathematics.

They aim at what lies behind math-verify: its extraction patterns, latex2sympy, sympy and `eval`.
None of them stands in the shared data, which is a second set. Those of the categories code and
tex try to write the canary, or to read it: where it holds a 5, to read it gives the gold.
Some texts hold lone surrogates and NUL, so that not all of them can be written as UTF-8.
"""

from base64 import b64encode
from dataclasses import dataclass
from math import comb
from pathlib import Path

Row = tuple[str, str, str, str]
"""Name, gold, answer, note."""

FIVE = "$5$"
LONG = 100_000


@dataclass(frozen=True)
class HostileAnswer:
    """One pair to grade: `answer` is the text after `</think>`, `note` says what it aims at."""

    name: str
    category: str
    gold: str
    answer: str
    note: str


def hostile_answers(canary: Path) -> list[HostileAnswer]:
    """All pairs, under names of their own; what writes or reads a file aims at `canary`."""
    tables = {**TABLES, "tex": _tex(canary), "code": _code(canary)}
    return [
        HostileAnswer(f"{category}: {name}", category, gold, answer, note)
        for category, rows in tables.items()
        for name, gold, answer, note in rows
    ]


def _math(text: str) -> str:
    return f"${text}$"


def _boxed(text: str) -> str:
    return rf"\boxed{{{text}}}"


def _nested(opening: str, middle: str, closing: str, depth: int) -> str:
    return _math(opening * depth + middle + closing * depth)


def _terms(pattern: str, count: int, between: str = "+") -> str:
    """The pattern with N = 1 to count."""
    return between.join(pattern.replace("N", str(n)) for n in range(1, count + 1))


def _fraction_tree(depth: int) -> str:
    below = _fraction_tree(depth - 1) if depth else "x"
    return rf"\frac{{{below}}}{{1+{below}}}" if depth else below


def _matrix(size: int, entry: str, kind: str = "pmatrix") -> str:
    """A square matrix; in its entries I is the row, J the column, K a mix of both."""

    def cell(i: int, j: int) -> str:
        mix = (7 * i * i + 3 * j * i + j) % 11
        return entry.replace("I", str(i)).replace("J", str(j)).replace("K", str(mix))

    rows = ("&".join(cell(i, j) for j in range(size)) for i in range(size))
    return rf"\begin{{{kind}}}" + r"\\".join(rows) + rf"\end{{{kind}}}"


POWER: list[Row] = [
    ("boxed tower", FIVE, r"So it is \boxed{9^{9^{9^{9}}}}.", "evaluated when compared"),
    ("ladder of squares", FIVE, _nested("(", "2", ")^2", 40), "2^(2^40) in 120 characters"),
    ("near one", "$1$", r"$\frac{10^{10^9}+1}{10^{10^9}-1}$", "exact rational of a gigabyte"),
    ("complex power", FIVE, "$(1+2i)^{10^{8}}$", "expands"),
    ("e notation", FIVE, "$1E999999999$", "a float with 10^999999999, when parsed"),
    ("e tower", FIVE, r"\boxed{e^{10^{10^{10}}}}", "evalf"),
    ("value at a point", FIVE, "$x^{x^x}|_{x=99}$", "substitution evaluates when parsed"),
    ("in gold", "$3^{3^{3^{3^{3}}}}$", r"\boxed{7625597484987}", "the gold is hostile"),
    ("bare gold", "8^{8^{8^{8}}}", "Final answer is 8^(8^(8^8)). I hope it is correct.", "no box"),
]

FACTORIAL: list[Row] = [
    ("quotient", FIVE, r"$\frac{(2\cdot 10^8)!}{((10^8)!)^2}$", "deaf to SIGALRM with gmpy2"),
    ("gamma", FIVE, r"$\Gamma(1000000000)$", "evaluated when parsed"),
    ("literal binomial", FIVE, r"$\binom{99999999}{49999999}$", "evaluated when parsed"),
    ("thrice", FIVE, "$((12!)!)!$", "small text"),
    ("falling", FIVE, "$(1000000000)_{500000000}$", "rewritten by the normaliser"),
    ("in gold", r"$\frac{987654321!}{987654320!}$", "$987654321$", "equal after cancelling"),
    ("in prose", FIVE, r"The answer: $300000000!$ ways.", "outside a box"),
]

SERIES: list[Row] = [
    ("double sum", FIVE, r"$\sum_{i=1}^{10^6}\sum_{j=1}^{10^6}\frac{1}{i^j+j}$", "10^12 terms"),
    ("growing terms", FIVE, r"$\sum_{n=1}^{1000000000} n^{n^n}$", "range and terms are huge"),
    ("integral", FIVE, r"$\int_0^{\infty}\frac{\sin(x^x)\ln(2+x)}{x^{\pi}+e^x}dx$", "integrate"),
    ("nested integral", "$1$", r"$\int_0^1\int_0^x\int_0^y\frac{1}{2-xyz}dzdydx$", "integrate"),
    ("oscillating limit", "$e$", r"$\lim_{n\to\infty}\frac{n^{\sin n}}{\sqrt[n]{n!}}$", "Gruntz"),
    ("derivative", FIVE, _math(r"\frac{d}{dx}" * 100 + "x^{x^x}"), "the hundredth"),
    ("in gold", r"$\int_0^1\frac{\ln(1+x^{2+\sqrt3})}{1+x}dx$", r"\boxed{0.0945}", "integrate"),
]

NESTING: list[Row] = [
    ("braces", FIVE, _nested("{", "5", "}", 20_000), "parser recursion"),
    ("fractions", FIVE, _nested(r"\frac{", "1", "}{2}", 400), "parser recursion"),
    ("fraction tree", "$x$", _math(_fraction_tree(9)), "a thousand fractions, nine deep"),
    ("cube roots", "$2$", _nested(r"\sqrt[3]{6+", "2", "}", 25), "simplify denests"),
    ("subscripts", "$x$", _nested("x_{", "x", "}", 400), "endless look-ahead"),
    ("superscripts", "$x$", _nested("x^{", "x", "}", 400), "recursion in every walk"),
    ("sets of sets", r"$\{1\}$", _nested(r"\{", "1", r"\}", 150), "ambiguous grammar"),
    ("calls", "$2$", _nested(r"\max(", "1", ",2)", 40), "arguments are parsed again and again"),
    ("minus signs", FIVE, _math("-" * 20_000 + "5"), "unary recursion"),
    ("in gold", _nested("(", "5", ")", 900), r"\boxed{5}", "the gold is hostile"),
]

UNCLOSED: list[Row] = [
    ("boxes", FIVE, r"\boxed{" * 14_000, "quadratic search for the brace"),
    ("fractions", FIVE, _math(r"\frac{" * 16_000), "quadratic normaliser"),
    ("lefts", FIVE, _math(r"\left(" * 16_000), "lexer, then parser"),
    ("texts", FIVE, _math(r"\text{" * 16_000), "quadratic lexer"),
    ("inline maths", FIVE, r"\(" * 50_000, "quadratic extraction"),
    ("braces in a box", FIVE, r"\boxed{" + "{" * LONG, "brace counting"),
    ("closing braces", FIVE, r"\boxed{5" + "}" * LONG, "a greedy dot"),
    ("in gold", _math(r"\sqrt{" * 12_000), r"\boxed{5}", "the gold is hostile"),
]

LONG_TEXT: list[Row] = [
    ("digits", FIVE, "7" * LONG, "no separator"),
    ("equal digits", _math("7" * LONG), _boxed("7" * LONG), "past the limit of int()"),
    ("one digit off", "7" * 4_000 + "1", _boxed("7" * 4_000 + "2"), "under the limit of int()"),
    ("thousands", FIVE, "1" + ",000" * 25_000, "one number to the extractor"),
    ("decimals", r"$\frac13$", _boxed("0." + "3" * LONG), "a float of 100,000 digits"),
    ("letters", FIVE, _boxed("abcdefghij" * 10_000), "a product of symbols"),
    ("backslashes", FIVE, _math("\\" * LONG), "lexer"),
    ("percent signs", "$0.05$", _boxed("5" + "%" * LONG), "percent of percent"),
    ("commas", FIVE, _boxed("5" + "," * LONG), "empty elements"),
    ("prose after the box", FIVE, r"\boxed{5} " + "so the answer is 5, " * 5_000, "anchors"),
]

SIX_GAPS = (" " * 200 + ",").join(["$1$" + " " * 200] * 6)

REGEX: list[Row] = [
    ("gaps", FIVE, f"The final answer is {SIX_GAPS}x", "gaps^6 ways to fail before `I hope`"),
    ("gaps in gold", SIX_GAPS + " final answer is " + SIX_GAPS, r"\boxed{1}", "the same"),
    ("open dollar in gold", "$" + "a" * LONG, r"\boxed{5}", "quadratic reading of golds"),
    ("open brackets in gold", r"\(" * 50_000, r"\boxed{5}", "quadratic reading of golds"),
    ("open dollar", FIVE, "$" + r"\boxed{a}" * 1_000, "cubic"),
    ("expression without end", FIVE, "1+" * 50_000 + "x", "quadratic split at the operators"),
    ("answer, equals", FIVE, "answer=" + "=1+1-1*" * 5_000 + "x", "each = may begin it"),
    ("final answer is", FIVE, "final answer is " * 6_000, "a hundred characters of slack each"),
    ("final answer, dollars", FIVE, "final answer is $" * 5_000, "slack and dollars"),
    ("spaces in maths", FIVE, _math("5" + " " * LONG + "x"), "patterns that begin with spaces"),
    ("carets", FIVE, _math("5" + "^(" * 30_000), "normaliser, quadratic"),
    ("texts", FIVE, _math("5" + r"\text{a}b" * 10_000), "unit pattern, quadratic"),
    ("spaces before a unit", FIVE, _boxed("5" + " " * 50_000 + "furlongs"), "unit pattern"),
]

SYMBOLS = _matrix(6, "x_{IJ}")
FIBONACCI = r"\begin{pmatrix}1&1\\1&0\end{pmatrix}^{1000000000}"
EYE, ZEROS = r"\operatorname{eye}(30000)", r"\operatorname{zeros}(30000,30000)"

MATRIX: list[Row] = [
    ("thousand entries", r"$\begin{pmatrix}1\end{pmatrix}$", _math(_matrix(32, "K")), "parser"),
    ("determinant of roots", FIVE, _math(_matrix(9, r"\sqrt{1IJ}", "vmatrix")), "when parsed"),
    ("determinant of symbols", "$0$", _math(_matrix(9, "a_{IJ}", "vmatrix")), "9! terms"),
    ("singular values", FIVE, _math(r"\operatorname{svd}" + _matrix(6, "K")), "when parsed"),
    ("fibonacci", FIVE, _math(FIBONACCI), "hangs or not, by the hash seed"),
    ("ones", FIVE, r"$\operatorname{ones}(30000,30000)$", "gigabytes, when parsed"),
    ("identity", _math(EYE), _math(ZEROS), "9*10^8"),
    ("inverse", _math(SYMBOLS + "^{-1}"), _math(_matrix(6, "x_{JI}") + "^{-1}"), "6 by 6"),
]

ROOTS = r"\{" + _terms(r"\sqrt{N}", 700, ",") + r"\}"
ROOT_QUOTIENTS = r"\{" + _terms(r"\frac{N}{\sqrt{N}}", 700, ",") + r"\}"

SETS: list[Row] = [
    ("roots", _math(ROOTS), _math(ROOT_QUOTIENTS), "equal, sorted by evalf"),
    ("pairs", r"$\{(1,2)\}$", _boxed(r"\{" + _terms("(N,-N)", 2_000, ",") + r"\}"), "parser"),
    ("union", r"$\mathbb{R}$", _math(_terms("[N,N+x)", 200, r"\cup")), "symbolic ends"),
    ("plus or minus", FIVE, _boxed(_terms(r"N\pm x", 1_000, ",")), "two elements each"),
    ("chain of equations", FIVE, _math("x" + "=1" * 3_000 + "=5"), "quadratic And"),
    ("chain of inequalities", FIVE, _math(_terms("N", 1_000, "<")), "quadratic And"),
    ("assignments", "$x=5$", _boxed(_terms("x_{N}=N", 1_000, ",")), "parser"),
    ("tuple of tuples", "$(1,2)$", _nested("(1,", "2", ")", 100), "ambiguous with intervals"),
    ("in prose", FIVE, "The roots are " + _terms("$N^{N^N}$", 2_000, " and ") + ".", "no box"),
]

PLAIN: list[Row] = [
    ("tower", FIVE, "9**9**9**9", "evaluated when compared"),
    ("carets", FIVE, "The answer is 9^9^9^9^9.", "carets become stars"),
    ("minus tower", FIVE, "-(9**9**9**9)", "Mul evaluates"),
    ("floor division", FIVE, "9**9**9//7", "evaluated when parsed"),
    ("negative exponent", FIVE, "2**-(10**9)", "exact rational"),
    ("huge call", FIVE, "(7**7**7**7)(1)", "not callable"),
    ("call of calls", FIVE, "7.(7).(7).(7)", "not callable"),
    ("unpacking", FIVE, "1(*(9**9**9))", "a star argument"),
    ("stars", FIVE, "2" + "**2" * 2_000, "right recursion"),
    ("parentheses", FIVE, "1+" + "(1+" * 5_000 + "1" + ")" * 5_000, "past the compiler's limit"),
    ("signs", FIVE, "5+" + "-+" * 20_000 + "5", "unparsable, then a bare 5"),
    ("continued fraction", FIVE, "1/(1+" * 90 + "1" + ")" * 90, "under the compiler's limit"),
    ("long float", FIVE, "1." + "1" * 50_000 + "+1", "precision of 50,000 digits"),
    ("quotient of towers", "$1$", "answer: (10**10**10)/(10**10**10)", "equal"),
    ("in gold", "6**6**6**6", "6**6**6**6", "hostile on both sides"),
]

RADICALS = _terms(r"\sqrt{N+\sqrt{N+\sqrt{N}}}", 15)
SINES = _terms(r"\sin^{N}(Nx)\cos(Ny)", 20)

ALGEBRA: list[Row] = [
    ("nested radicals", "$1$", _math(RADICALS), "simplify"),
    ("polynomial", "$x^{40}-x-1=0$", _math(_terms("Nx^{N}", 41) + "=0"), "solve, degree 41"),
    ("inequality", "$x>1$", _math(_terms("Nx^{N}", 20) + "<x^{21}"), "solve, degree 21"),
    ("trigonometry", "$0$", _math(SINES), "simplify"),
    ("tangent", r"$\tan(21x)$", _math(rf"\tan({_terms('Nx', 6)})+\tan x-\cot(x)"), "simplify"),
    ("rational function", "$0$", _math(_terms(r"\frac{x^{N}+y}{y^{N}-z+N}", 25)), "together"),
    ("powers of sums", "$(a+b+c+d+f)^{40}$", "$(a+b+c+d+f)^{39}(a+b+c+d+g)$", "expand"),
    ("transcendental", "$x^x=3$", r"$x^{x^x}+\ln x=\sin(x^{\pi})$", "solve"),
    ("absolute values", "$x=0$", _math(_terms("|x-N|", 20) + "=x^2"), "piecewise bomb"),
    ("floors and logs", "$3$", r"$\lfloor\log_{3}(3^{3^{3^3}}+x^x)\rfloor$", "evalf in floor"),
    ("nine unknowns", "$a=b$", "$abcdfghjk=a^9+b^8+c^7+d^6+f^5+g^4+h^3+j^2+k$", "solve"),
    ("modulo tower", "$1$", r"$(3^{5^{7^{11^{13}}}}) \mod 1000007$", "a power without modulus"),
    ("common divisor", "$1$", r"$\gcd(10^{10^9},6)$", "nsimplify, when parsed"),
]

ROOT_OF_SQUARE = r"\sqrt{17+2(\sqrt6+\sqrt{10}+\sqrt{14}+\sqrt{15}+\sqrt{21}+\sqrt{35})}"
EXPANDED = "+".join(f"{comb(150, n)}x^{{{n}}}" for n in range(151))

EQUAL: list[Row] = [
    ("towers", "$2^{3^{4^{5}}}$", r"\boxed{2^{3^{4^{5}}}}", "the same text"),
    ("towers, rewritten", "$4^{4^{4^{4}}}$", "$2^{2^{513}}$", "equal, told by exponents only"),
    ("sum", _math(_terms("Nx", 900)), "$405450x$", "nine hundred terms"),
    ("binomial", "$(x+1)^{150}$", _math(EXPANDED), "151 terms"),
    ("sine", r"$\sin(32x)$", r"$32\sin x\cos x\cos(2x)\cos(4x)\cos(8x)\cos(16x)$", "doubling"),
    ("radicals", r"$\sqrt2+\sqrt3+\sqrt5+\sqrt7$", _math(ROOT_OF_SQUARE), "denesting"),
    ("repunit", r"$\frac{10^{4000}-1}{9}$", _boxed("1" * 4_000), "exact integers"),
]

UNICODE: list[Row] = [
    ("nul in a box", FIVE, "\\boxed{\x005}", "C strings end here"),
    ("controls", FIVE, _math("".join(map(chr, range(32))) + "5\x7f\x9b"), "C0, DEL, C1"),
    ("terminal escape", FIVE, "\x1b]0;5\x07\x1b[2J\\boxed{5}\x1b[0m", "a log that is shown"),
    ("lone surrogate", FIVE, "\\boxed{5\ud800}", "not UTF-8"),
    ("surrogates", FIVE, "\\boxed{" + "\udfff\ud800" * 20_000 + "}", "the wrong way round"),
    ("surrogate in gold", "$\udc80$", r"\boxed{5}", "surrogateescape of a bad byte"),
    ("cyrillic", r"$\text{A}$", "\\boxed{\\text{\u0410}}", "a homoglyph"),
    ("greek", r"$\text{B}$", "\\boxed{\u0392}", "a homoglyph"),
    ("fullwidth", FIVE, "\\boxed{\uff15}", "int() takes it"),
    ("fullwidth power", FIVE, "\uff19**\uff19**\uff19**\uff19", "digits to \\d, then eval"),
    ("mathematical bold", FIVE, "\\boxed{\U0001d7d3}", "NFKC digit"),
    ("circled and raised", FIVE, "$\u2464$ or $\u2075$ or $\u2164$", "isdigit, not isdecimal"),
    ("thai and tibetan", FIVE, "\\boxed{\u0e55\u0f25}", "decimal digits to \\d"),
    ("overridden direction", "$51$", "\\boxed{\u202e15\u202c}", "shown as 51"),
    ("zero width in command", FIVE, "\\bo\u200bxed{5} \\boxed{6}", "shown as two boxes"),
    ("strike", FIVE, "\\boxed{5\u0338}", "struck out by a combining character"),
    ("zalgo", FIVE, "\\boxed{5" + "\u0301\u0316" * 30_000 + "}", "one grapheme"),
    ("expanding", FIVE, "\\boxed{" + "\ufdfa" * 10_000 + "}", "eighteen times longer in NFKC"),
    ("casing", "$\u0130$", "\\boxed{" + "\u0130\u00df\u03a3" * 10_000 + "}", "length changes"),
    ("separators", FIVE, "\\boxed{5}\u2028\u2029\x85\x0b\x0c\\boxed{\u20606\ufeff}", "splitlines"),
]


def _tex(canary: Path) -> list[Row]:
    doubling = "".join(
        rf"\def\{b}{{\{a}\{a}}}" for a, b in zip("abcdfghk", "bcdfghkm", strict=True)
    )
    texts = {
        "input": rf"\boxed{{\input{{{canary}}}}}",
        "include": rf"The final answer is $\include{{{canary}}}$. I hope it is correct.",
        "verbatim": rf"$\verbatiminput{{{canary}}}\lstinputlisting{{{canary}}}$",
        "read": rf"$\newread\f\openin\f={canary} \read\f to \x \x$",
        "csname": rf"\boxed{{\csname input\endcsname{{{canary}}}}}",
        "write18": rf"\boxed{{\write18{{echo 5 > {canary}}}}}",
        "immediate": rf"$\immediate\write18{{touch {canary}}}$",
        "openout": rf"$\newwrite\f\immediate\openout\f={canary}\immediate\write\f{{5}}$",
        "shell escape": rf"$\usepackage{{shellesc}}\ShellEscape{{touch {canary}}}$",
        "lua": rf"\[\directlua{{os.execute('touch {canary}')}}\]",
        "piped input": rf'$\input{{|"touch {canary}"}}$',
        "def loop": r"$\def\x{\x\x}\x$",
        "loop": r"$\loop\iftrue\csname x\endcsname 5\repeat$",
        "doubling": rf"$\def\a{{{'5' * 1_000}}}{doubling}\m\m\m\m$",
    }
    return [(name, FIVE, text, "read, written or expanded by TeX") for name, text in texts.items()]


def _code(canary: Path) -> list[Row]:
    shell, opened = f"touch {canary}", f"open('{canary}','w')"
    numbers = ",".join(str(byte) for byte in opened.encode())
    letters = "+".join(f"chr({byte})" for byte in opened.encode())
    encoded = b64encode(opened.encode()).decode()
    subclasses = "().__class__.__base__.__subclasses__()"
    texts = {
        "import": f"The final answer is __import__('os').system('{shell}'). I hope it is correct.",
        "system": _math(f"os.system('{shell}')"),
        "open": _boxed(opened),
        "eval": _math(f"eval({letters})"),
        "exec": _boxed(f"exec({letters})"),
        "base64": f"exec(__import__('base64').b64decode('{encoded}'))",
        "lambda": _math(f"(lambda x: {opened})(5)"),
        "walrus": _math(f"(x:={opened})"),
        "f-string": _boxed(f'f"{{{opened}}}"'),
        "comprehension": _math(f"[{opened} for x in range(5)]"),
        "comprehension bomb": _math("[[x]*10**9 for x in range(10**9)]"),
        "subclasses": f"[c for c in {subclasses} if c.__name__=='Popen'][0](['touch','{canary}'])",
        "getattr": _boxed(f"getattr(getattr(__builtins__,'__import__')('os'),'system')('{shell}')"),
        "globals": _math(
            f"Symbol('x').simplify.__globals__['__builtins__']['open']('{canary}','w')"
        ),
        "sympify": _math(f'sympy.sympify("{opened}")'),
        "parse_expr": _boxed(f'parse_expr("{opened}")+Symbol("x")'),
        "preview": _boxed(f"preview(5,output='dvi',filename='{canary}')"),
        "roman letters": _boxed(f"e\u2179ec('{'%c' * len(opened)}'%({numbers}))"),
        "roman names": _boxed(f'().__\u217d\u217cass__; e\u2174a\u217c("{opened}")'),
        "subscript": _math(f"x_{{{opened}}}+5"),
        "operator name": _math(rf"\operatorname{{open}}(\text{{{canary}}},w)"),
        "second line": f"5\n{opened}\n5",
        "read": _boxed(f"int(open('{canary}').read())"),
        "read in prose": f"The answer is open('{canary}').read()",
        "format": _boxed("{0.__class__.__init__.__globals__}"),
        "percent format": "The final answer is %s%n%x%(5)s%5$s. I hope it is correct.",
        "shell": f"$({shell}) `{shell}`; {shell} | {shell} && {shell} #$",
        "jinja": f"{{{{ cycler.__init__.__globals__.os.popen('{shell}').read() }}}}",
        "yaml": f'!!python/object/apply:os.system ["{shell}"]',
        "pickle": f"cos\nsystem\n(S'{shell}'\ntR.",
        "forged reply": '6\n{"status": "correct", "rule": "equal"}\n',
        "exit": _boxed("exit(5)") + " os._exit(0) raise SystemExit",
        "standard input": _boxed("input()") + " breakpoint()",
    }
    hidden = ("in gold", opened, _boxed("5"), "the gold is hostile")
    return [*((name, FIVE, text, "run by eval") for name, text in texts.items()), hidden]


TABLES: dict[str, list[Row]] = {
    "power": POWER,
    "factorial": FACTORIAL,
    "series": SERIES,
    "nesting": NESTING,
    "unclosed": UNCLOSED,
    "long": LONG_TEXT,
    "regex": REGEX,
    "matrix": MATRIX,
    "set": SETS,
    "plain": PLAIN,
    "algebra": ALGEBRA,
    "equal": EQUAL,
    "unicode": UNICODE,
}
