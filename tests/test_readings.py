r"""How golds and answers are read: forms of golds, LaTeX that is rewritten, letters and words."""

import inspect
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import SHARED, benchmark_golds, needs_shared_data, read_rows
from test_labelled_set import LABELLED

from progdata.verifiers import answers, conventions, numbers, readings, shortcuts
from progdata.verifiers.golds import GoldChecks
from progdata.verifiers.grading import Budget, shared_pool
from progdata.verifiers.readings import (
    answer_choice,
    as_latex,
    as_words,
    boxed_text,
    clean,
    gold_choice,
    read_gold,
    undelimited,
)

GOLDS: list[tuple[str, str, str, tuple[str, ...]]] = [
    ("", "empty", "", ()),
    (" \n\t", "empty", "", ()),
    ("\u200b\x00\ufeff", "empty", "", ()),
    ("$$", "empty", "", ()),
    ("$ $", "empty", "", ()),
    (r"2\pi", "bare", r"2\pi", (r"$2\pi$",)),
    ("x^2+1", "bare", "x^2+1", ("$x^2+1$",)),
    ("(1,2)", "bare", "(1,2)", ("$(1,2)$",)),
    ("A", "bare", "A", ("$A$",)),
    (" 5 \n", "bare", "5", ("$5$",)),
    ("a\n  b", "bare", "a b", ("$a b$",)),
    ("\u22125", "bare", "-5", ("$-5$",)),
    ("5$", "bare", "5", ("$5$",)),
    (r"\$18.90", "bare", r"\$18.90", (r"$\$18.90$",)),
    (r"-\frac{5}{3}.", "bare", r"-\frac{5}{3}.", (r"$-\frac{5}{3}$",)),
    (r"33\frac{1}{3}\%", "bare", r"33\frac{1}{3}\%", (r"$33\frac{1}{3}$\%",)),
    ("1, 2, 3", "bare", "1, 2, 3", ("$1, 2, 3$",)),
    ("0,1,2", "bare", "0,1,2", ("$0,1,2$",)),
    ("1,2,", "bare", "1,2,", ("$1,2$",)),
    ("1,22", "number", "1,22", ("$1,22$", "1,22")),
    ("-1,22", "number", "-1,22", ("$-1,22$", "-1,22")),
    ("1 000", "number", "1 000", ("$1 000$", "1 000")),
    ("1,000,000.5", "number", "1,000,000.5", ("$1,000,000.5$", "1,000,000.5")),
    ("$5$", "delimited", "5", ("$5$",)),
    ("$$5$$", "delimited", "5", ("$5$",)),
    (r"\(5\)", "delimited", "5", ("$5$",)),
    ("\\[\n5\n\\]", "delimited", "5", ("$5$",)),
    ("$1,22$", "delimited", "1,22", ("$1,22$",)),
    ("$4.5e33$", "delimited", "4.5e33", (r"$4.5 \times 10^{33}$",)),
    ("$p=1$.", "delimited", "p=1.", ("$p=1$",)),
    ("$8$,$4$", "delimited", "8, 4", ("$8, 4$",)),
    ("$8$ and $4$", "delimited", "8 and 4", ("$8 and 4$",)),
    (r"$8$ \text{ or } $4$", "delimited", r"8 \text{ or } 4", (r"$8 \text{ or } 4$",)),
    ("$5$$6$", "delimited", "5 6", ("$5 6$",)),
    ("$221,$8$", "delimited", "221, 8", ("$221, 8$",)),
    (r"-$$\frac{7}{9}$$", "delimited", r"- \frac{7}{9}", (r"$- \frac{7}{9}$",)),
    (r"$5$\%", "delimited", r"5 \%", (r"$5 \%$",)),
    ("$x+1$, where $x$ is odd", "delimited", "x+1", ("$x+1$",)),
    ("$x$ for all $x > 0$", "delimited", "x", ("$x$",)),
    ("$125$ miles", "delimited", r"125 \text{ miles}", (r"$125 \text{ miles}$",)),
    ("$5$ square feet.", "delimited", r"5 \text{ square feet}", (r"$5 \text{ square feet}$",)),
    ("$5$ if not $6$ is", "delimited", "5", ("$5$",)),
    ("So the answer is $5$.", "delimited", "5.", ("$5$",)),
    ("As $x=2$, they are $3$ and $4$", "delimited", "3 and 4", ("$3 and 4$",)),
    ("The answer is 7, as $x=5$ shows", "delimited", "The answer is 7, as $x=5$ shows",
     ("The answer is 7, as $x=5$ shows",)),
    (r"So it is $\boxed{3}$.", "boxed", "3", (r"\boxed{3}",)),
    (r"\boxed{3} and \boxed{4}", "boxed", "3,4", (r"\boxed{3,4}",)),
    (r"\boxed{50}\%", "boxed", r"50\%", (r"\boxed{50\%}",)),
    (r"n=\boxed {1,3}", "boxed", "1,3", (r"\boxed{1,3}",)),
    ("it is one two three four", "bare", "it is one two three four",
     ("$it is one two three four$",)),
    ("one two three four five six seven eight", "prose",
     "one two three four five six seven eight", ()),
    (r"\text{one two three four five six seven eight nine}", "bare",
     r"\text{one two three four five six seven eight nine}",
     (r"$\text{one two three four five six seven eight nine}$",)),
    (r"\sin x + \cos x + \tan x + \cot x + \sec x + \csc x + \ln x + \exp x + \arctan x", "bare",
     r"\sin x + \cos x + \tan x + \cot x + \sec x + \csc x + \ln x + \exp x + \arctan x",
     (r"$\sin x + \cos x + \tan x + \cot x + \sec x + \csc x + \ln x + \exp x + \arctan x$",)),
]  # fmt: skip
"""A gold, its form, its LaTeX, and the texts that math-verify reads."""

REWRITTEN: list[tuple[str, str]] = [
    ("5", "5"),
    (r"\frac{1}{2}", r"\frac{1}{2}"),
    ("\u200b5\x00\xad", "5"),
    ("\u22125", "-5"),
    ("2\u03c0", r"2\pi "),
    ("\u221e", r"\infty "),
    ("x \u2264 1", r"x \leq  1"),
    ("x \u2265 1", r"x \geq  1"),
    ("x \u2260 1", r"x \neq  1"),
    ("2\u00d73\u00b74", r"2\times 3\cdot 4"),
    ("A\u222aB\u2229C", r"A\cup B\cap C"),
    ("x\u2208A", r"x\in A"),
    ("90\u00b0", r"90^\circ"),
    ("x\u00b2", "x^{2}"),
    ("x\u00b3", "x^{3}"),
    ("x\u207b\u00b9\u2070", "x^{-10}"),
    ("a\u2081\u2082", "a_{12}"),
    ("4\u221a5", r"4\sqrt{5}"),
    ("\u221a(x+1)", r"\sqrt{x+1}"),
    ("\u221a{x+1}", r"\sqrt{x+1}"),
    ("\u221a10", r"\sqrt{10}"),
    ("\u221a\u03c0", r"\sqrt{\pi}"),
    ("1 \u00b1 x", r"1 \pm  x"),
    ("1\uff0c2\uff1b3", "1,2;3"),
    ("\u0410", "\u0410"),
    ("4.5e33", r"4.5 \times 10^{33}"),
    ("-1E-05", r"-1 \times 10^{-5}"),
    ("4.5e+3", r"4.5 \times 10^{3}"),
    ("4.5e3333", "4.5e3333"),
    ("2e", "2e"),
    ("e3", "e3"),
    ("2e3+1", "2e3+1"),
    (r"12^{\text{th}}", "12"),
    (r"12^{th}", "12"),
    (r"1^\text{st}", "1"),
    (r"22^{\mathrm{nd}} \text{ day}", r"22 \text{ day}"),
    ("2^{t}", "2^{t}"),
    ("x^{th}", "x^{th}"),
    (r"29,\!322,\!216", "29322216"),
    (r"1\,000\,000", "1000000"),
    (r"1\ 000", "1000"),
    ("1{,}000", "1000"),
    (r"\frac{1}{20,000}", r"\frac{1}{20000}"),
    (r"\frac{1,2}{3}", r"\frac{1,2}{3}"),
    ("1,000", "1,000"),
    (r"1,\ 234", r"1,\ 234"),
    (r"10,\,200,\,300", r"10,\,200,\,300"),
    (r"(1,\,2)", r"(1,\,2)"),
    ("5.", "5"),
    ("x^2.", "x^2"),
    ("1,2,", "1,2"),
    (r"1,2,\ldots", r"1,2,\ldots"),
    ("1,2...", "1,2..."),
    (r"5\,", r"5\,"),
    (r"\left\{ 5 \right.", r"\left\{ 5 \right."),
    ("3\\mathrm{i}", "3i"),
    ("E_1", r"\mathrm{E}_1"),
    ("x+e_{n}", r"x+\mathrm{e}_{n}"),
    (r"\log_e x", r"\log_e x"),
    (r"m_{\max }", "m_{max}"),
    (r"m_\min", "m_{min}"),
    (r"\max_x", r"\max_x"),
    (r"\frac{1 \pm \sqrt{5}}{2}", r"\frac{1 + \sqrt{5}}{2},\frac{1 - \sqrt{5}}{2}"),
    (r"1 \pm \sqrt{5}", r"1 \pm \sqrt{5}"),
    (r"\frac{\pm 1 \pm \sqrt{5}}{2}", r"\frac{\pm 1 \pm \sqrt{5}}{2}"),
    (r"3, \frac{1 \pm \sqrt{5}}{2}", r"3, \frac{1 \pm \sqrt{5}}{2}"),
    (r"\frac{1}{2} \pmod{8}", r"\frac{1}{2} \pmod{8}"),
    ("$5$", "5"),
    (r"\(5\)", "5"),
    (r"\$5", r"\$5"),
    ("The area is $5$", "5"),
    (r"\text{The area is $5$}", r"\text{The area is 5 }"),
]

PERCENT: list[tuple[str, str]] = [
    ("5", r"\boxed{5}"),
    (r"5\%", r"\boxed{5\%}"),
    (r"\frac{100}{3}\%", r"$\boxed{\frac{100}{3}}$\%"),
    (r"(p+q)\%", r"$\boxed{(p+q)}$\%"),
    (r"p\%", r"$\boxed{p}$\%"),
    (r"20\%, 30\%", r"\boxed{20\%, 30\%}"),
    (r"x = \frac{1}{3}\%", r"\boxed{x = \frac{1}{3}\%}"),
]

GOLD_CHOICES: dict[str, str | None] = {
    **dict.fromkeys(
        ["B", "(B)", "B.", "B)", "(B).", r"\text{B}", r"\text{(B)}", r"(\text{B})"], "B"
    ),
    **dict.fromkeys([r"\textbf{(B)}", r"\mathrm{B}", r"\boldsymbol{B}", "B,", r"\text{(B)},"], "B"),
    **dict.fromkeys(["K", "b", "AB", "A, B", r"\text{A,B}", "B_1", "B^2", "-B", "2B", "B=5"], None),
    **dict.fromkeys(["", "B) 12", r"\mathbb{B}", "\u0412", "AA", "ABCD", "B'", "m", "n"], None),
}

ANSWER_CHOICES: dict[str, str | None] = {
    **dict.fromkeys(["B", "(B)", "B.", "B)", "B:", "(B).", "(B):", "B) 12", "B. 12"], "B"),
    **dict.fromkeys(["(B) 12", "(B) -3", r"(B)\ 12", r"\textbf{(B)}\ 12", r"B\;12"], "B"),
    **dict.fromkeys([r"\text{(B) } 12", r"\text{B) } 12", r"B\quad 12", r"(B)\frac{1}{2}"], "B"),
    **dict.fromkeys([r"\text{B}: x > 1", "(B) no solution", "B:\n12"], "B"),
    **dict.fromkeys(
        ["B = 5", "B+1", "B - 5", "(B) + 5", "(B) = 5", "(B) / 2", "B 12", r"B\ 12"], None
    ),
    **dict.fromkeys([r"B\cdot C", r"B\times 5", r"B \cup C", r"(B) \cup (C)", r"B\pi"], None),
    **dict.fromkeys([r"B\sqrt{2}", r"B\frac{1}{2}", "B^2", "(B)^2", "B_1", "(B)(C)"], None),
    **dict.fromkeys(["A, B", "(A), (B)", "A and B", "(A) and (B)", r"(A) \text{ or } (B)"], None),
    **dict.fromkeys(["", "b", "K", "BC", "12 (B)", "B.5", "B:C", "Both", "A triangle"], None),
}

WORDS: dict[str, str | None] = {
    r"\text{No real solution}": "norealsolution",
    "no real solution.": "norealsolution",
    r"\text{No  real}\ \text{solution}": "norealsolution",
    r"\textbf{Tuesday}": "tuesday",
    "Tuesday": "tuesday",
    r"\text{A, B}": "A,B",
    r"\text{A,B}": "A,B",
    r"W \text{ and } Z": "WandZ",
    r"w \text{ and } z": "wandz",
    r"\text{x-axis}": "x-axis",
    "abcd-ab": "abcd-ab",
    r"\text{Simpson\u2019s}": None,
    "\\text{Simpson\u2019s rule}": "simpson'srule",
    "Simpson's rule": "simpson'srule",
    r"\text{no}": "no",
    r"\mathrm{No}": "no",
    "No": None,
    "abc": None,
    "AB": None,
    "n": None,
    r"\text{n}": "n",
    r"\text{N}": "N",
    "x + word": None,
    r"\text{5 apples}": None,
    r"\text{none}, 5": None,
    r"\alpha": None,
    r"\frac{word}{word}": None,
    "": None,
    r"\text{}": None,
    "\u043d\u0435\u0442": None,
}


@pytest.mark.parametrize(("gold", "form", "latex", "texts"), GOLDS)
def test_golds_of_each_form_are_brought_into_what_math_verify_reads(gold, form, latex, texts):
    read = read_gold(gold)
    assert (read.form, read.latex, read.texts) == (form, latex, texts)


@pytest.mark.parametrize(("latex", "rewritten"), REWRITTEN)
def test_latex_that_would_be_misread_is_rewritten(latex, rewritten):
    assert as_latex(latex).split() == rewritten.split()


@pytest.mark.parametrize("latex", [latex for latex, _ in REWRITTEN])
def test_rewriting_twice_changes_nothing_more(latex):
    assert as_latex(as_latex(latex)) == as_latex(latex)


@pytest.mark.parametrize(("latex", "text"), PERCENT)
def test_a_percent_sign_behind_more_than_a_number_stands_outside(latex, text):
    assert boxed_text(latex) == text


@pytest.mark.parametrize(("latex", "letter"), GOLD_CHOICES.items())
def test_a_gold_that_is_a_letter_is_a_choice(latex, letter):
    assert gold_choice(latex) == letter


@pytest.mark.parametrize(("latex", "letter"), ANSWER_CHOICES.items())
def test_an_answer_that_begins_with_a_letter_is_a_choice(latex, letter):
    assert answer_choice(latex) == letter


@pytest.mark.parametrize(("latex", "words"), WORDS.items())
def test_words_are_compared_without_case_spaces_and_points(latex, words):
    assert as_words(latex) == words


@given(st.text(max_size=40))
def test_cleaning_removes_nothing_that_is_seen(text):
    assert clean(clean(text)) == clean(text)
    assert clean(text) == "".join(
        "-" if own == "\u2212" else own for own in text if own in "\t\n" or clean(own)
    )


@given(st.text("$\\()[] ab1{},%\u00b1\u221a.and", max_size=40) | st.text(max_size=40))
def test_any_text_is_read_as_some_gold(text):
    read = read_gold(text)
    assert bool(read.texts) == (read.form not in ("empty", "prose"))
    assert bool(read.latex) == (read.form != "empty")
    for reads in (as_latex, gold_choice, answer_choice, as_words, undelimited):
        reads(text)


UNGRADABLE = {
    r"\frac{dM}{dt}=\frac{10^{5} L_{\odot}}{0.007 c^{2} M_{\odot}^{6}} M^{6}": "no \\odot",
    "t(0,4]": "a function, or a product, of a half-open interval",
}
"""Golds of the benchmarks that math-verify cannot compare with themselves, and why not."""


WRAPPINGS = ("${}$", "$${}$$", r"\({}\)", "\\[\n{}\n\\]", "${}$.", "So it is ${}$.")


@needs_shared_data
def test_a_gold_in_delimiters_is_read_as_it_is_bare():
    """So that what holds of bare golds holds of wrapped ones."""
    labelled = {row["gold"] for row in read_rows(LABELLED)}
    for gold in labelled.union(*benchmark_golds().values()):
        bare = read_gold(_bare(gold))
        if bare.form in ("bare", "number"):
            wrapped = [read_gold(own.format(_bare(gold))) for own in WRAPPINGS]
            assert {own.form for own in wrapped} == {"delimited"}
            assert {own.texts for own in wrapped} == {bare.texts[:1]}
            assert {own.latex.rstrip(".") for own in wrapped} == {bare.latex.rstrip(".")}


@needs_shared_data
def test_benchmark_golds_equal_themselves_without_shortcuts():
    """By math-verify alone, bare and wrapped; those that are read alike are asked about once."""
    benchmarks = benchmark_golds()
    golds = set().union(*benchmarks.values())
    golds |= {own.format(_bare(gold)) for gold in golds for own in ("{}", "${}$")}
    reading = {gold: (read_gold(gold).latex, read_gold(gold).texts) for gold in golds}
    asked = {own: gold for gold, own in reading.items()}
    checks = GoldChecks(shared_pool(2), Budget())
    for gold in asked.values():
        checks.begin(gold)
    failed = {g for g in golds if checks.check(asked[reading[g]]).status != "correct"}
    assert {_bare(gold) for gold in failed} == UNGRADABLE.keys()
    for wrap in ("{}", "${}$"):
        for name, least in {"math500": 500, "olympiadbench": 674}.items():
            wrapped = [wrap.format(_bare(gold)) for gold in benchmarks[name]]
            assert sum(gold not in failed for gold in wrapped) == least


def _bare(gold: str) -> str:
    return gold[1:-1] if re.fullmatch(r"\$[^$]+\$", gold) else gold


@needs_shared_data
def test_no_real_gold_is_taken_for_prose():
    rows = read_rows(SHARED / "data" / "problems" / "deepscaler_train.jsonl.gz")
    golds = {str(row["answer"]) for row in rows} | set().union(*benchmark_golds().values())
    forms = {gold: read_gold(gold).form for gold in golds}
    assert len(forms) > 12_000
    assert [gold for gold, form in forms.items() if form in ("prose", "empty")] == []


@needs_shared_data
def test_letters_and_words_among_real_golds_are_choices_and_text():
    """Not names of points, products of letters, or variables."""
    rows = read_rows(SHARED / "data" / "problems" / "deepscaler_train.jsonl.gz")
    golds = {read_gold(str(row["answer"])).latex for row in rows}
    golds |= {read_gold(gold).latex for own in benchmark_golds().values() for gold in own}
    choices = {re.sub(r"\W|text(bf)?", "", gold) for gold in golds if gold_choice(gold)}
    assert choices <= set("ABCDEFGHIJ")
    words = {gold for gold in golds if as_words(gold) and not gold_choice(gold)}
    assert 10 < len(words) < 60
    assert {gold for gold in words if not re.search(r"\\(text|mbox|mathrm)|[a-z]{4}", gold)} == {
        "NNNYYY"
    }
    assert {answer_choice(gold) for gold in golds} - set("ABCDEFGHIJ") == {None}


PREFIXES = [
    "$", "$a", "$$", r"\(", r"\(a", r"\[a", r"\text{", r"\text{a", r"\text", "5", "5,", "5 ",
    "1,000,", "a ", "ab ", "and ", "{", "}", "\\", r"\!", r"5\!", r"5{,}", "^", "5^{",
    r"5^{\text{", "\u221a", "\u221a(", "\u221a(a", "_{", r"_{\text{a", "5_", "1:", "1 : ", "1 to ",
    r"\frac{1}{1}", r"\frac{", "-", "- ", "(", "(A", "A)", "A", r"\mathbf{", "5.5e", "\u00b2",
    "\u2081", r"\pm", r"\frac\pm", r"\circ", r"5^\circ ", "~", r"\, ", r"\quad", "1/", "*", "\n",
    " ", "\u200b", "p.m.", ";", ",;&", "5%", r"a\%", r"\boxed{", "answer is ", "answer:",
    "final answer is ", "I hope", "where ", "E_",
]  # fmt: skip
LONG = 100_000


def _uses() -> dict[str, tuple[re.Pattern[str], str]]:
    """The compiled patterns of the modules that read answers, with the methods they are used by."""
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}.{method}": (pattern, method)
        for module in (answers, conventions, numbers, readings, shortcuts)
        for name, pattern in vars(module).items()
        if isinstance(pattern, re.Pattern)
        for method in sorted(set(re.findall(rf"\b{name}\.(\w+)\(", inspect.getsource(module))))
    }


@pytest.mark.parametrize(("pattern", "method"), _uses().values(), ids=_uses().keys())
def test_no_pattern_is_slow_on_a_long_text(pattern, method):
    for prefix in PREFIXES:
        text = (prefix * LONG)[:LONG]
        arguments = ("", text) if method == "sub" else (text,)
        assert _seconds(getattr(pattern, method), *arguments) < 0.5, prefix


@pytest.mark.parametrize("prefix", PREFIXES)
def test_nothing_long_is_slow_to_read(prefix):
    text = (prefix * LONG)[:LONG]
    for reads in (read_gold.__wrapped__, as_latex, undelimited, clean, gold_choice, answer_choice):
        for whole in (text, f"${text}", f"{text}$", f"(A) {text}", f"${text}$ and"):
            assert _seconds(reads, whole) < 0.5, reads


def _seconds(function: Callable[..., Any], *arguments: str) -> float:
    """The CPU time of a call and of what it iterates over, the best of three if it is long."""
    seconds = []
    for _ in range(3):
        begun = time.process_time()
        found = function(*arguments)
        if isinstance(found, Iterator):
            deque(found, maxlen=0)
        seconds.append(time.process_time() - begun)
        if seconds[-1] < 0.5:
            break
    return min(seconds)
