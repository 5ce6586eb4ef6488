"""The outcome rule of DeepScaleR's reward (facts.md 8.1), and that no text reaches an `eval`."""

import ast
import builtins
import gzip
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shared_data import SHARED
from sympy import E, Integer, Mul, Rational, Symbol, oo, pi, sqrt
from sympy.parsing.sympy_parser import parse_expr

from progdata.verifiers import arithmetic, deepscaler_grader
from progdata.verifiers.arithmetic import NotArithmetic, is_risky, parse, same_value
from progdata.verifiers.deepscaler_grader import compare

LATEX, PLAIN = "same normal form", "same plain text"
SYMPY, UNEQUAL = "equal by sympy", "unequal by sympy"
REDUCED = "fractions must be reduced alike"
INTEGER = "integer against another form"
PARTS, BRACKETS = "different number of parts", "different brackets"
RISKY = "risky expression, compared as text"
TEXT = "not an expression, compared as text"
LONG = "too long, compared as text"

CORRECT: list[tuple[str, str, str]] = [
    ("5", "x=5", LATEX),
    ("5", "k = 5", LATEX),
    ("12", r"12\%", LATEX),
    ("12%", "12", LATEX),
    ("90", r"90^\circ", LATEX),
    (r"90^{\circ}", "90", LATEX),
    ("90", "90°", LATEX),
    (r"\text{Tuesday}", "Tuesday", LATEX),
    (r"\text{Tuesday}", "tuesday", PLAIN),
    (r"\frac12", "0.5", LATEX),
    (r"\frac{1}{2}", ".5", LATEX),
    ("1/2", r"\dfrac{1}{2}", LATEX),
    ("-1/2", r"-\tfrac 1 2", PLAIN),
    (r"\frac{\sqrt3}2", r"\frac{\sqrt{3}}{2}", LATEX),
    (r"\frac\pi2", r"\frac {\pi} {2}", LATEX),
    (r"\left( 1, 2 \right)", "(1,2)", LATEX),
    (r"\$3.60", "3.60", LATEX),
    ("$37$", "37", LATEX),
    ("\\[\n\\frac{1}{3}\n\\]", r"\frac13", LATEX),
    (r"10,\!000", "10,000", LATEX),
    (r"5\text{ cm}", "5", LATEX),
    (r"5\mbox{cm}^2", "5", LATEX),
    (r"\boxed{7}", "7", LATEX),
    (r"So $\boxed{3}$, or rather $\boxed{\frac{1}{4}}$.", "1/4", LATEX),
    (r"\boxed{8}, not \boxed{9", "8", LATEX),
    (r"\boxed{\boxed{6}}", "6", LATEX),
    ("1,000", "1000", PLAIN),
    ("1{,}234{,}567", "1234567", PLAIN),
    ("5", "5.0", PLAIN),
    ("5", "+5", PLAIN),
    ("5 inches", "5 feet", PLAIN),
    ("30", "30 Degrees", PLAIN),
    ("3 days", "3", PLAIN),
    (r"\text{(C)}", "C", PLAIN),
    ("A", "a", PLAIN),
    (r"2\pi", "2π", PLAIN),
    ("2^{10}", "2^10", PLAIN),
    ("x^{2}y", "x^2 y", PLAIN),
    (r"3 \cdot 4x", r"3 \times 4x", PLAIN),
    (r"\frac{-3}{4}", r"-\frac{3}{4}", PLAIN),
    (r"(-\infty, 1]", "(-∞,1]", PLAIN),
    (r"\binom{12}{3}", r"\binom {12} {3}", LATEX),
    ("x^2+2x+1", "(x+1)^2", SYMPY),
    ("0.25", r"\frac{1}{4}", SYMPY),
    ("3 1/2", r"\frac{7}{2}", SYMPY),
    (r"2\frac{2}{3}", "8/3", SYMPY),
    (r"-2\frac{2}{3}", "-8/3", SYMPY),
    (r"2\sqrt{23}", r"\sqrt{92}", SYMPY),
    (r"\frac{4}{\sqrt{3}}", r"\frac{4\sqrt3}{3}", SYMPY),
    (r"\sqrt{5+2\sqrt6}", r"\sqrt2+\sqrt3", SYMPY),
    (r"2\sqrt[3]{10}", r"\sqrt[3]{80}", SYMPY),
    (r"\frac{1}{4}\pi", r"\frac{\pi}{4}", SYMPY),
    (r"\ln 4", r"2\ln 2", SYMPY),
    (r"\frac{3+\sqrt{3} i}{2}", r"\frac32 + \frac{i\sqrt3}{2}", SYMPY),
    (r"\frac{x^2-1}{x-1}", "x+1", SYMPY),
    ("[0, 0.25)", r"[0,\frac{1}{4})", SYMPY),
    (r"\sqrt{8}, 1, x/2", r"2\sqrt{2}, 1, \frac{1}{2}x", SYMPY),
]

WRONG: list[tuple[str, str, str]] = [
    ("6/8", "3/4", REDUCED),
    (r"\frac{3}{4}", r"\frac{6}{8}", REDUCED),
    ("(1/2, 3)", r"(\frac24, 3)", REDUCED),
    ("0.333", "1/3", UNEQUAL),
    ("1/3", "0.3333333333333333", UNEQUAL),
    ("5", "6", UNEQUAL),
    ("A", "B", UNEQUAL),
    ("2^{10}", "1024", INTEGER),
    ("1024", "2^10", INTEGER),
    ("2", r"\frac{4}{2}", INTEGER),
    ("5", "five", INTEGER),
    ("5", r"5\text{ or }6", INTEGER),
    ("5", r"5\text{ or 6}", INTEGER),
    ("530", "5 hours 30 minutes", INTEGER),
    ("5", "5\u200b", INTEGER),
    ("5", "٥", INTEGER),
    ("5", r"x \le 5", INTEGER),
    ("5", "x<=5", INTEGER),
    ("5", r"\frac{5}{", INTEGER),
    ("1,2", "1,2,3", PARTS),
    ("(1,2)", "5", PARTS),
    ("(1,2)", "[1,2]", BRACKETS),
    (r"\{1,2\}", "1,2", BRACKETS),
    ("[0,1)", "[0,1]", BRACKETS),
    ("1,2", "2,1", UNEQUAL),
    ("x^{2}+1", "1+x^2", RISKY),
    ("x^(2)+1", "1+x^2", RISKY),
    ("1+x^10", "x^10+1", RISKY),
    ("1+x^2^3", "x^2^3+1", RISKY),
    ("x+y+z", "z+y+x", RISKY),
    ("10^{-3}", "0.001", RISKY),
    (r"\binom{12}{3}", r"\binom{1}{23}", RISKY),
    (r"\text{Tuesday}", "Monday", RISKY),
    ("second", "day", RISKY),
    ("2:1", "4:2", TEXT),
    ("x=2y", "2y=x", TEXT),
    ("5!", "4.5", TEXT),
    (r"1 \pm \sqrt2", r"\pm\sqrt2 + 1", TEXT),
    ("1.5", r"\frac{1}{0}", TEXT),
    ("x_{12}", "x_{1}2", TEXT),
    ("5", "", "empty answer"),
    ("5", r"\%", "empty answer"),
]

EMPTY = ["", " \n", "$$", r"\boxed{}", r"So \boxed{5}, no, \boxed{ }", r"\%", "{}", r"\text{}"]


@pytest.mark.parametrize(("gold", "answer", "rule"), CORRECT)
def test_correct_answers(gold: str, answer: str, rule: str):
    found = compare(gold, answer)
    assert (found.status, found.rule) == ("correct", rule)
    assert (found.gold_normal == found.answer_normal) or rule == SYMPY


@pytest.mark.parametrize(("gold", "answer", "rule"), WRONG)
def test_wrong_answers(gold: str, answer: str, rule: str):
    found = compare(gold, answer)
    assert (found.status, found.rule) == ("wrong", rule)
    assert found.gold_normal != found.answer_normal


@pytest.mark.parametrize("gold", EMPTY)
def test_a_gold_that_says_nothing_is_unparsable(gold: str):
    for answer in ("5", "", gold):
        assert compare(gold, answer).status == "gold_unparsable"


def test_the_normal_forms_are_what_was_compared():
    found = compare(r"$\frac{\sqrt{3}}2\text{ cm}$", r"\sqrt3/2")
    assert (found.gold_normal, found.answer_normal) == ("(sqrt(3))/2", "sqrt(3)/2")


def test_only_the_gold_is_unboxed():
    assert compare("5", r"\boxed{5}").status == "wrong"


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason=f"no shared data under {SHARED}")
def test_every_gold_of_deepscaler_is_its_own_answer():
    with gzip.open(SHARED / "data" / "problems" / "deepscaler_train.jsonl.gz", "rt") as lines:
        golds = [json.loads(line)["answer"] for line in lines]
    found = Counter(
        (compare(gold, gold).status, compare(gold, f" ${gold}$ ").status)
        for gold in golds
        if "boxed" not in gold
    )
    assert set(found) == {("correct", "correct")}
    assert found.total() > 39_000


# --- the parser


ATOMS = st.integers(0, 99).map(str) | st.decimals(0, 9, places=2).map(str)


def longer(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operands = st.one_of(
        texts,
        texts.map("({})".format),
        texts.map("-({})".format),
        st.builds("({})**{}".format, texts, st.integers(0, 3)),
        st.builds("{}**-{}".format, st.integers(1, 99), st.integers(1, 2)),
    )
    return st.builds("{}{}{}".format, operands, st.sampled_from([*"+-*/", "*-", "--"]), operands)


@given(st.recursive(ATOMS, longer, max_leaves=12))
@settings(max_examples=500, deadline=None)
def test_arithmetic_is_read_as_python_reads_it(text: str):
    numbers = re.sub(r"[0-9.]+", r"Fraction('\g<0>')", text)
    try:
        expected = eval(numbers, {"Fraction": Fraction})
    except ZeroDivisionError:
        with pytest.raises(NotArithmetic):
            parse(text)
        return
    try:
        value = parse(text)
    except NotArithmetic as error:
        assume(not str(error).startswith("numbers past"))
        raise
    assert isinstance(value, Rational)
    assert Fraction(int(value.p), int(value.q)) == expected


X, Y = Symbol("x"), Symbol("y")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2xy", 2 * X * Y),
        ("2(x+1)(y)", Mul(2, X + 1, Y)),
        ("1/2x", X / 2),
        ("-x^2", -(X**2)),
        ("x^-1", 1 / X),
        ("4**(1/2)", Integer(2)),
        ("x^0.5", sqrt(X)),
        ("2pie", 2 * pi * E),
        ("i*i", Integer(-1)),
        ("oo", oo),
        ("-infinity", -oo),
        ("sqrt(2)sqrt(8)", Integer(4)),
        ("sin(pi/6)+cos(0)+tan(0)", Rational(3, 2)),
        ("log(e)+ln(exp(2))", Integer(3)),
        ("abs(-3)", Integer(3)),
        (".5", Rational(1, 2)),
        (" 1 + 2 ", Integer(3)),
    ],
)
def test_constants_functions_and_implied_products(text: str, value: object):
    assert parse(text) == value


NO_ARITHMETIC = [
    *["", "()", "1+", "*2", "(1", "1)", "1 2", "x2", "2**", "2**3**2", "x**y", "2**x", "1..2"],
    *["5!", "x=1", "1<2", "a_1", "a.b", "x[0]", "'x'", "1e3+", "{x}", "|x|", r"\pi", "5%", "1,2"],
    *["sin", "sin2x", "ln2(3)", "lnln2", "sin**2x", "1/0", "0**-1", "ln(0)", "oo-oo", "tan(pi/2)"],
    *["９", "٥", "x̂", "ª", "\x00", "\ud800", "1" * 301, "9" * 100 + "**4", "x**41", "x**100"],
    *["2**(1/21)", "((9**9)**9)**9", "exp(exp(exp(5)))", f"sin({'9' * 21})", "+".join("1" * 301)],
    *["(" * 51 + "1" + ")" * 51, "sqrt(" * 51 + "1" + ")" * 51, "1" + " " * 2000 + "+1"],
]


@pytest.mark.parametrize("text", NO_ARITHMETIC)
def test_everything_else_is_refused(text: str):
    with pytest.raises(NotArithmetic):
        parse(text)


def test_equality_is_of_values():
    equal = [("sin(x)sin(x)+cos(x)cos(x)", "1"), ("(x+y)(x-y)", "x*x-y*y"), ("x/x", "1")]
    for first, second in equal:
        assert same_value(parse(first), parse(second)), (first, second)
    unequal = [("sqrt(x^2)", "x"), ("oo", "-oo"), ("oo", "1"), ("x", "y"), ("10^-20", "2*10^-20")]
    for first, second in unequal:
        assert not same_value(parse(first), parse(second)), (first, second)


def test_letters_are_counted_on_both_sides():
    assert not is_risky("2pi*x*sqrt(y)", "sin(x)+oo")
    assert is_risky("x+y", "z")
    assert is_risky("x**-12", "1")


# --- hostile texts


CODE = [
    "__import__('os').system('touch owned')",
    "().__class__.__base__.__subclasses__()",
    "(lambda: 5)()",
    "eval('5')",
    "exec('x=5')",
    "open('owned','w')",
    "{0.__class__}",
    "%s%n%x",
    "f'{5}'",
    "Symbol('x').func",
    "5 if __import__('os') else 5",
    r"\write18{touch owned}",
    r"\input{owned}",
    "x.__class__",
    "sqrt.__globals__",
    "N(5)",
    "S(5)",
    "[x for x in (5,)][0]",
    "\ud800",
    "5\x00",
    "1.(2)",
]

LARGE = [
    *[
        "9**9**9",
        "9^{9^{9^9}}",
        "(9^9)^9^9",
        "(((((9^9)^9)^9)^9)^9)",
        r"10^{10^{10}}",
        "1E999999999",
    ],
    *["1000000!", r"\binom{10^9}{5}", r"\exp(\exp(\exp(\exp(5))))", "2^(2^(2^99))", "tan(10^{99})"],
    "123456789123456789^{1/123456789}",
    "((x+y+1)^9)^9((x-y)^9)^9",
    "+".join(rf"\sqrt{{{n}}}" for n in range(2, 99)),
    "*".join(f"(x+{n})" for n in range(99)),
    "+".join(f"1/(x+{n})" for n in range(99)),
]

ENDLESS = [
    *[
        "(",
        ")",
        "{",
        "}",
        "[",
        "-",
        "-(",
        "2^",
        "x^{",
        "\\",
        "\\\\",
        "$",
        "%",
        " ",
        "\n",
        "1",
        "9 ",
    ],
    *["1,", ",", "1,000,", "1/", "=", ".", "_", "1 1/2 ", "cm ", "day", "e", "!", "\u0301", "é"],
    *[
        r"\frac",
        r"\frac{",
        r"\frac1",
        r"\sqrt",
        r"\sqrt{",
        r"\sqrt[",
        r"\sqrt[3",
        r"\text",
        r"\text{",
    ],
    *[r"\text{ ", r"\mbox{", r"\boxed{", r"\boxed", r"\left(", r"\left", r"^{\circ", "^ ", "** "],
    *["sqrt(", "sin", "(1,", "[(", r"\{", "1.0", "1. ", "\\ ", "~", r"\quad"],
]

HOSTILE = [*CODE, *LARGE, *(piece * (100_000 // len(piece)) for piece in ENDLESS)]
HOSTILE += [(piece * 2_000)[:1_990] for piece in ENDLESS]
HOSTILE += [r"\frac{1}{" * 200 + "2" + "}" * 200, "{" * 900 + "5" + "}" * 900]
HOSTILE += [r"\sqrt{2+" * 40 + "2" + "}" * 40, "{" * 100_000 + "5" + "}" * 100_000]


@contextmanager
def no_code() -> Iterator[None]:
    """Fail where anything runs text as code. What sympy imports late is imported before."""
    assert compare("x^2+2x+1.5", "(x+1)^2+1/2").rule == SYMPY
    assert compare(r"\sqrt{5+2\sqrt6}+x", r"\sqrt2+\sqrt3+x").rule == SYMPY

    def refuse(name: str) -> Callable[..., None]:
        return lambda *_, **__: pytest.fail(f"{name} was called")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("eval", "exec", "compile", "open"):
            patch.setattr(builtins, name, refuse(name))
        yield


def test_hostile_texts_are_graded_fast_and_never_run():
    found: list[tuple[float, str, str]] = []
    with no_code():
        for text in HOSTILE:
            for gold, answer in ((text, "4.5"), ("4.5", text), ("x+y", text), (text, f"{text}+0")):
                begun = time.process_time()
                status = compare(gold, answer).status
                found.append((time.process_time() - begun, status, text[:40]))
    assert max(found)[0] < 2, max(found)
    assert sum(seconds for seconds, _, _ in found) < 30
    assert {status for _, status, _ in found} == {"correct", "wrong", "gold_unparsable"}


def test_the_watch_sees_code_that_runs():
    with no_code(), pytest.raises(pytest.fail.Exception, match="was called"):
        parse_expr("5")


@pytest.mark.parametrize("text", CODE)
def test_code_is_no_answer(text: str):
    assert compare("5", text).status == "wrong"


def test_long_texts_are_equal_only_to_themselves():
    text = "1+" * 1_500 + "1"
    assert (compare(text, f" {text}\n").status, compare(text, text).rule) == ("correct", LONG)
    assert compare(text, f"{text}+0").status == "wrong"
    assert compare("1501", text).rule == LONG


PIECES = (
    *ENDLESS,
    *CODE,
    *["x", "y", "2", "35", "0.5", "+", "*", "^2", "}", "{3}", ")", "]"],
    *[
        r"\right)",
        r"\pi",
        r"\cdot ",
        r"\frac{1}{2}",
        r"\sqrt{2}",
        r"\ln ",
        "i",
        r"\infty",
        r"\}",
        "°",
        "feet",
    ],
)
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=30)


@given(TEXTS, TEXTS)
@settings(max_examples=400, deadline=None)
def test_any_texts_are_compared(gold: str, answer: str):
    found = compare(gold, answer)
    assert found.status in ("correct", "wrong", "gold_unparsable")
    if "boxed" not in gold:
        assert compare(gold, gold).status in ("correct", "gold_unparsable")


@pytest.mark.parametrize("module", [arithmetic, deepscaler_grader])
def test_nothing_that_runs_text_is_named(module: object):
    tree = ast.parse(Path(str(getattr(module, "__file__", ""))).read_text("utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
              for alias in node.names}  # fmt: skip
    forbidden = {"eval", "exec", "sympify", "parse_expr", "S", "N", "lambdify", "parse_latex"}
    assert names & forbidden == set()
    assert "parse" in names or "Symbol" in names
