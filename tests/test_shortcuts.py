r"""What is decided without computer algebra, and that math-verify alone says the same."""

import random
import warnings
from collections.abc import Iterable
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import ANSWERS, SHARED, TRACES, benchmark_golds, needs_shared_data, read_rows
from test_labelled_set import LABELLED
from test_readings import UNGRADABLE

from progdata.verifiers import math_verify_grader
from progdata.verifiers.answers import find_answer, response_start
from progdata.verifiers.math_verify_grader import parse_answer
from progdata.verifiers.numbers import as_rational
from progdata.verifiers.readings import read_gold
from progdata.verifiers.shortcuts import SHORT, _normalised, decide, normal_form, refuse

warnings.filterwarnings("ignore", module="sympy")

FORM, PLAIN, LETTER, WORDS = "same normal form", "plain arithmetic", "choice letter", "same words"
PROVED = {FORM, PLAIN, LETTER, WORDS}
"""The rules that say what math-verify would; the conventions are there to differ from it."""

DECIDED: list[tuple[str, str, str, str]] = [
    ("5", "5", "correct", FORM),
    ("$5$", " 5 ", "correct", FORM),
    ("5", "5.", "correct", FORM),
    ("5", "\u200b5", "correct", FORM),
    ("5", r"\$5", "correct", FORM),
    (r"\frac{1}{2}", r"\dfrac{1}{2}", "correct", FORM),
    (r"\frac{1}{2}", r"\frac12", "correct", FORM),
    (r"\frac{1}{2}", "1/2", "correct", FORM),
    (r"\frac{1}{2}", "0.5", "correct", FORM),
    (r"\frac{1}{2}", ".5", "correct", FORM),
    (r"-\frac{1}{2}", r"-\tfrac{1}{2}", "correct", FORM),
    (r"\left(1,2\right)", "(1,2)", "correct", FORM),
    (r"5\text{ apples}", r"5\text{ pears}", "correct", FORM),
    (r"5\text{ cm}", "5", "correct", FORM),
    ("5", "5 cm", "correct", FORM),
    (r"2\pi", "2\u03c0", "correct", FORM),
    ("x^2+1", "x^2+1", "correct", FORM),
    (r"\sqrt3", r"\sqrt{3}", "correct", FORM),
    (r"90^\circ", "90\u00b0", "correct", FORM),
    ("1, 2", "1, 2", "correct", FORM),
    ("4.5e33", r"4.5 \times 10^{33}", "correct", FORM),
    ("5", "6", "wrong", PLAIN),
    ("5", "-5", "wrong", PLAIN),
    ("5", "05", "correct", PLAIN),
    ("073", "73", "correct", PLAIN),
    ("5", "--5", "correct", PLAIN),
    ("5", "(5)", "correct", PLAIN),
    ("5", "2+3", "correct", PLAIN),
    ("8", r"\frac{16}{2}", "correct", PLAIN),
    ("3/4", "6/8", "correct", PLAIN),
    (r"-\frac{1}{2}", "-1/2", "correct", PLAIN),
    (r"\frac{-1}{2}", r"-\frac{1}{2}", "correct", PLAIN),
    ("-1/2", r"\frac{1}{2}", "wrong", PLAIN),
    ("47 + 7 * 6 / 4", "115/2", "correct", PLAIN),
    ("2-3-4", "-5", "correct", PLAIN),
    ("2/3/4", "1/6", "correct", PLAIN),
    ("2-(3-4)", "3", "correct", PLAIN),
    ("-2*-3", "6", "correct", PLAIN),
    ("1" * 30, "1" * 30 + " ", "correct", FORM),
    ("1" * 30, "1" * 29 + "2", "wrong", PLAIN),
    ("B", "B", "correct", FORM),
    ("B", "(B)", "correct", LETTER),
    ("(B)", r"\textbf{(B)}\ 12", "correct", LETTER),
    (r"\text{B}", "B) 12", "correct", LETTER),
    ("B", "(C)", "wrong", LETTER),
    ("B", "C", "wrong", LETTER),
    ("B", "\u200bC", "wrong", LETTER),
    (r"\text{No real solution}", "no real solution.", "correct", WORDS),
    ("Tuesday", r"\text{tuesday}", "correct", WORDS),
    (r"\text{A, B}", r"\text{A,B}", "correct", WORDS),
    (r"5\text{ km}", r"5\text{ m}", "wrong", "units"),
    ("241_6", "241_7", "wrong", "number base"),
    ("1:2", "2:4", "correct", "ratio"),
    ("6:00", "12:00", "wrong", "time of day"),
]

UNDECIDED: list[tuple[str, str, str]] = [
    ("5", "5.0", "a decimal: math-verify rounds"),
    ("0.333", "1/3", "a decimal"),
    ("1/0", "1/1", "no number"),
    ("5", "1/0", "no number"),
    ("5", "5/(3-3)", "no number"),
    ("5", "2(3)", "a product without sign"),
    ("5", "2 3", "a list, a product, or a slip"),
    ("25", "2 5", "a list, a product, or a slip"),
    ("5", "2**3", "a power"),
    ("5", "5//1", "floor division is Python"),
    ("8", "2^3", "a power"),
    ("5", "+5", "a sign that Python's tree names otherwise"),
    ("07+1", "8", "leading zeros within a sum are no Python"),
    ("5", "()", "nothing"),
    ("5", "(5", "an open bracket"),
    ("5", "1" * 31, "longer than any integer that is looked at"),
    ("5", "5x", "a letter"),
    ("5", r"5\%", "percent"),
    ("1,000", "1000", "a list or a number"),
    ("5", "\u0665", "other digits"),
    ("x", "y", "letters"),
    ("B", "b", "another letter, perhaps"),
    ("B", "B = 5", "an equation"),
    ("B", "A and B", "several letters"),
    ("K", "L", "no choices"),
    ("B", "12", "a value: it may be that of B"),
    ("Tuesday", "Monday", "words that differ"),
    ("abc", "acb", "letters"),
    ("{1,2}", "(1,2)", "a set and a tuple"),
    ("x=5", "5", "an equation"),
    ("5", "", "nothing"),
]


@pytest.mark.parametrize(("gold", "answer", "status", "rule"), DECIDED)
def test_what_needs_no_algebra_is_decided(gold, answer, status, rule):
    decided = decide(read_gold(gold), answer)
    assert decided is not None
    assert (decided.status, decided.rule) == (status, rule)


@pytest.mark.parametrize(("gold", "answer", "why"), UNDECIDED)
def test_what_may_need_algebra_is_not_decided(gold, answer, why):
    assert decide(read_gold(gold), answer) is None


@pytest.mark.parametrize(
    ("gold", "answer", "refused"),
    [
        ("", None, "empty gold"),
        ("$$", "", "empty gold"),
        ("one two three four five six seven eight", None, "prose without an answer"),
        ("one two three four five six seven eight", "nine", "prose without an answer"),
        ("one two three four five six seven eight", "one two three four  five six seven eight", ""),
        ("5", None, ""),
        ("5", "6", ""),
    ],
)
def test_empty_golds_and_prose_are_refused(gold, answer, refused):
    found = refuse(read_gold(gold), answer)
    assert (found.rule if found else "") == refused
    assert found is None or found.status == "gold_unparsable"


@given(st.text("0123456789+*/() -", max_size=14) | st.from_regex(r"-?\d{1,3} ?/ ?-?\d{1,3}\s?"))
@settings(max_examples=1000)
def test_the_fast_normal_form_is_math_verifys(text):
    assert normal_form(text) == _normalised(text)


Disagreement = tuple[str, str, str, str, str]
"""A gold, an answer, the rule that decided, its verdict, and math-verify's without shortcuts."""


def disagreements(pairs: Iterable[tuple[str, str]]) -> list[Disagreement]:
    """The pairs that a proved rule decides otherwise than math-verify alone."""
    found: list[Disagreement] = []
    for gold, answer in pairs:
        read = read_gold(gold)
        decided = None if refuse(read) or len(gold) + len(answer) > SHORT else decide(read, answer)
        if decided is not None and decided.rule in PROVED:
            direct = math_verify_grader._compare(read, answer, parse_answer(answer))
            if direct.status != decided.status:
                found.append((gold, answer, decided.rule, decided.status, direct.status))
    return found


def exception(rule: str, status: str, direct: str) -> str:
    """Why a shortcut is right where math-verify is not: the only ways in which they may differ."""
    match rule, status, direct:
        case "choice letter", "correct", "wrong":
            return "a letter followed by its value, which math-verify reads"
        case "choice letter", _, "gold_unparsable":
            return "a letter with a bracket, which math-verify cannot read"
        case "same normal form", "correct", "gold_unparsable":
            return "the same text, which math-verify cannot read"
        case "same words", "correct", _:
            return "the same words in another case, with other spaces or points"
    return f"none: {rule} says {status}, math-verify says {direct}"


def exceptions(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """The golds of the pairs that are decided otherwise than by math-verify, by the reason."""
    found: dict[str, set[str]] = {}
    for gold, _, *why in disagreements(pairs):
        found.setdefault(exception(*why), set()).add(gold)
    return found


integers = st.builds(
    lambda number, zeros, sign: f"{sign}{'0' * zeros}{number}",
    st.integers(0, 12) | st.integers(0, 10**6),
    st.sampled_from([0, 0, 0, 1, 2]),
    st.sampled_from(["", "", "", "-", "- ", "--", "+"]),
)
fractions = st.builds(
    str.format,
    st.sampled_from(
        [r"\frac{{{}}}{{{}}}", r"\dfrac{{{}}}{{{}}}", r"-\frac{{{}}}{{{}}}", r"\frac {{{}}} {{{}}}",
         "{}/{}", "-{}/{}", "{} / {}", "({})/({})"]
    ),
    integers,
    integers,
)  # fmt: skip
sums = st.recursive(
    integers,
    lambda own: st.builds(
        lambda left, operation, right, brackets: brackets.format(left + operation + right),
        own,
        st.sampled_from(["+", "-", "*", "/", " + ", " - ", " * ", " / "]),
        own,
        st.sampled_from(["{}", "{}", "({})", "( {} )", "-({})"]),
    ),
    max_leaves=5,
)


@given(integers | fractions | sums, integers | fractions | sums, st.integers(1, 3))
@settings(max_examples=250)
def test_plain_arithmetic_is_what_math_verify_says(gold, answer, factor):
    assert disagreements([(gold, answer), (gold, gold)]) == []
    value = as_rational(normal_form(gold))
    if value is not None:
        above, below = value.numerator * factor, value.denominator * factor
        equal = [(gold, str(value)), (gold, rf"\frac{{{above}}}{{{below}}}")]
        assert disagreements(equal) == []
        assert {decide(read_gold(gold), own).status for _, own in equal} == {"correct"}  # type: ignore[union-attr]


letters = st.sampled_from("ABCDEJ")
choices = st.builds(
    str.format,
    st.sampled_from(
        ["{}", "({})", "{}.", "{})", r"\text{{{}}}", r"\text{{({})}}", r"\textbf{{({})}}\ 12",
         r"\mathrm{{{}}}", r"({}) \frac{{1}}{{2}}", r"{}\quad x+1", "{}: 5", r"{}_1", r"{} \cup F"]
    ),
    letters,
)  # fmt: skip
words = st.builds(
    str.format,
    st.sampled_from(["{}", r"\text{{{}}}", r"\textbf{{{}}}", r"\text{{ {}. }}", r"\mathrm{{{}}}"]),
    st.sampled_from(
        ["Yes", "yes", "no", "No", "Tuesday", "tuesday", "even", "odd", "Odd", "no real solution",
         "No  real solution", "none", "A, B", "A,B", "a and b", "x-axis", "abcd", "ABCD", "dcba"]
    ),
)  # fmt: skip


@given(choices | words, choices | words)
@settings(max_examples=400)
def test_letters_and_words_are_what_math_verify_says_or_a_known_exception(gold, answer):
    assert not any(why.startswith("none") for why in exceptions([(gold, answer)]))


@needs_shared_data
def test_real_pairs_are_what_math_verify_says_or_a_known_exception():
    """Golds against themselves and each other, labelled pairs, and what models answered."""
    golds = sorted(set().union(*benchmark_golds().values()))
    rows = read_rows(SHARED / "data" / "problems" / "deepscaler_train.jsonl.gz")
    known = sorted({*golds, *(str(row["answer"]) for row in rows)})
    draw = random.Random(0)
    drawn = [(draw.choice(known), read_gold(draw.choice(known)).latex) for _ in range(3_000)]
    pairs = {*((gold, gold) for gold in golds), *drawn, *_labelled(), *_answered()}
    found = exceptions(pairs)
    assert found.keys() == {
        "a letter followed by its value, which math-verify reads",
        "the same text, which math-verify cannot read",
    }
    unread = found["the same text, which math-verify cannot read"]
    assert {gold.strip("$") for gold in unread} == UNGRADABLE.keys()


def _labelled() -> Iterable[tuple[str, str]]:
    for path in (ANSWERS / "labelled_pairs.jsonl", LABELLED):
        for row in read_rows(path):
            answer = find_answer(row["pred"])
            yield row["gold"], answer.latex if answer else row["pred"]


def _answered() -> Iterable[tuple[str, str]]:
    """The boxed answers of the real traces with their golds."""
    for row in chain.from_iterable(map(read_rows, sorted(TRACES.glob("*.jsonl.gz")))):
        start = response_start(row["completion"], thinks=True)
        answer = find_answer(row["completion"], start) if start is not None else None
        if answer is not None and row["answer"] is not None:
            yield str(row["answer"]), answer.latex
