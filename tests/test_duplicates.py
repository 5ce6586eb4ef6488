"""Which problems are the same but for notation, and which rows of a cluster stay."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import needs_shared_data, read_rows

from progdata.builders.schema import normalise_problem, problem_id
from progdata.verifiers.duplicates import Entry, choose, exact_labels, join
from progdata.verifiers.problem_forms import normal_form, rough_form
from progdata.verifiers.unicode_latex import as_latex

SAME = [
    ("Find $x$.", r"Find \(x\)."),
    ("Find $$x$$.", r"Find \[x\]."),
    ("Find $x$.", "Find x"),
    ("Find $x.$", "Find $x$."),
    ("Find  \n\n $x$", "Find $x$"),
    (r"\dfrac{1}{2}", r"\frac{1}{2}"),
    (r"\tfrac12", r"\frac{1}{2}"),
    (r"\frac{12}{5}", r"\frac { 12 } { 5 }"),
    (r"x^{2}", "x^2"),
    (r"\sqrt{x}", r"\sqrt x"),
    (r"P_{}^{}$", "P$"),
    (r"a\,b\;c\quad d~e\hspace{1cm}f\!g", "a b c d e f g"),
    (r"\left( x \right)", "(x)"),
    (r"\left. x \right|", r"x|"),
    (r"\Bigl( x \Bigr)", "(x)"),
    (r"a \leqslant b", r"a \le b"),
    (r"1, 2, \ldots, 9", "1, 2, ..., 9"),
    (r"f^{\prime}(x)", "f'(x)"),
    (r"5\text{ cm}", "5 cm"),
    (r"\mathrm{AB}", "AB"),
    (r"\operatorname{lcm}(a, b)", "lcm(a,b)"),
    ("so,we have", "so, we have"),
    ("$A B C$", "$ABC$"),
    ("triangle $ABC$", "triangle ABC"),
    ("$2 x$", "$2x$"),
    ("There are 1{,}000 cows", "There are 1,000 cows"),
    ("There are $1,000$ cows", "There are 1,000 cows"),
    ("$(100,200)$", "$(100, 200)$"),
    ("It is ____.", r"It is \_\_\_\_\_\_."),
    ("Find it", "find it"),
    ("In it", "in it"),
    ("Найти $x$", "найти $x$"),
    (r"50\%", "50%"),
    ("2πr² ≤ ½", r"2\pi r^2 \leq \frac12"),
    ("x⁻¹⁰", "x^{-10}"),
    ("x₁", "x_1"),
    ("90°", r"90^{\circ}"),
    ("\uff11\uff12", "12"),
    ("ℝ", r"\mathbb{R}"),
    ("\u00e9", "e\u0301"),
    ("5 \u2212 3", "5 - 3"),
    ("Tom\u2019s", "Tom's"),
    ("a\u00a0b\u200b", "a b"),
    (r"\boldsymbol{v}", r"\mathbf{v}"),
    ("plus: a \\plus{} b", "plus: a + b"),
    ("证明 $x$", r"证明\(x\)"),
]

DIFFERENT = [
    ("x!", "x"),
    ("Find $5!$", "Find 5"),
    ("(a+b)c", "a+bc"),
    ("$1.5$", "$15$"),
    ("$1.5$", "$1 5$"),
    ("$1 5$", "$15$"),
    ("1,234 and 5", "1, 234 and 5"),
    (r"\{1, 2\}", "1, 2"),
    (r"\{1, 2\}", "(1, 2)"),
    ("f'(x)", "f(x)"),
    ("f''(x)", "f'(x)"),
    ("|x|", "x"),
    (r"\|x\|", "|x|"),
    ("x_1", "x"),
    ("x_1", "x^1"),
    ("x_1", "x1"),
    ("$x^23$", "$x^{23}$"),
    ("{2}^{3} é", "23 é"),
    ("x²", "x2"),
    ("x₂", "x2"),
    ("3½", "31/2"),
    ("x", "X"),
    ("$Abc$", "$abc$"),
    ("AABb", "aabb"),
    ("Aa", "aa"),
    ("5 mW", "5 MW"),
    ("x+y", "x-y"),
    ("x + y", "x y"),
    ("$-3$", "$3$"),
    ("a < b", "a > b"),
    (r"a \le b", "a < b"),
    (r"a \cdot b", r"a \times b"),
    (r"\sin x", r"\cos x"),
    (r"\log_8 2", r"\log_{82}"),
    (r"\frac{1}{23}", r"\frac{1}23"),
    (r"\frac{12}{3}", r"\frac123"),
    (r"\sqrt{ab}", r"\sqrt{a}b"),
    (r"x^{ab}", "x^ab"),
    (r"0.\overline{12}", r"0.\overline{1}2"),
    (r"\mathbf{v}", "v"),
    (r"\mathbb{R}", "R"),
    (r"\overline{AB}", "AB"),
    (r"\vec a", "a"),
    ("50%", "50"),
    (r"\$5", "5"),
    ("90°", "90"),
    ("①", "1"),
    ("find it?", "find it"),
    ("a, b", "a b"),
    (r"a \\ b", "a b"),
    ("six-digit", "six digit"),
    ("证明 x", "证 x"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_notation_makes_no_difference(one, other):
    assert normal_form(one) == normal_form(other) != ""
    assert exact_labels([one, other]).tolist() == [0, 0]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_problems_that_differ_in_mathematics_stay_apart(one, other):
    assert exact_labels([one, other]).tolist() == [0, 1]


PIECES = st.sampled_from(
    [piece for pair in (*SAME, *DIFFERENT) for piece in pair]
    + [*"$\\{}()[]_^.,'!~ 1aAé½²π…\n\x01\u0130", r"\frac", r"\text{", r"\left", r"\hspace{", "''"]
)
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=8).map("".join)


@given(TEXTS)
def test_rough_form_never_parts_what_the_normal_form_joins(text):
    """So that normal forms are needed only where rough forms are shared."""
    assert rough_form(normal_form(text)) == rough_form(text)


@given(TEXTS)
def test_white_space_says_nothing(text):
    """Rows with the same problem id are the same problem."""
    spaced = "  " + "\n ".join(text.split()) + "\t"
    assert normalise_problem(spaced) == normalise_problem(text)
    assert exact_labels([text, spaced]).tolist() == [0, 0]


@given(st.lists(TEXTS, max_size=6))
def test_labels_are_the_classes_of_the_normal_form(texts):
    forms = [normal_form(text) or f"\0{normalise_problem(text)}" for text in texts]
    assert exact_labels(texts).tolist() == [forms.index(form) for form in forms]


@pytest.mark.parametrize("texts", [["$ $", "$$", r"\,", "{}"], ["", ".", "$.$"]])
def test_problems_of_nothing_but_markup_are_not_the_same(texts):
    assert exact_labels(texts).tolist() == list(range(len(texts)))


def test_unicode_forms_keep_the_mathematics():
    assert as_latex("{2}^{3}") == "{2}^{3}"
    assert as_latex("καλό") == "καλό"
    assert normal_form("𝑥² + 𝜋") == r"x ^ 2 + \pi"


def test_megabyte_of_text_is_read_in_seconds():
    begun = time.monotonic()
    for text in ("\\" * 500_000, "{" * 500_000, r"\frac" * 100_000, "_ " * 250_000, "1," * 250_000):
        exact_labels([text, text + " "])
    assert time.monotonic() - begun < 60


@needs_shared_data
def test_real_duplicates_are_found_and_fast():
    """DeepScaleR's training set holds 916 problems again word for word, 580 in another notation."""
    problems = [row["problem"] for row in read_rows("problems/deepscaler_train.jsonl.gz")]
    begun = time.process_time()
    labels = exact_labels(problems)
    seconds = time.process_time() - begun
    assert len(problems) - len(set(problems)) == 916
    assert len(problems) - len(np.unique(labels)) == 1_496
    assert len(problems) / seconds > 15_000  # about 100,000 where nothing else runs


@given(st.integers(1, 30), st.data())
def test_joined_labels_are_connected_components(size, data):
    places = st.integers(0, size - 1)
    pairs = data.draw(st.lists(st.tuples(places, places), max_size=40))
    labels = join(np.arange(size), [a for a, _ in pairs], [b for _, b in pairs])
    reached = {index: {index} for index in range(size)}
    for _ in range(size):
        for a, b in pairs:
            reached[a] |= reached[b]
            reached[b] |= reached[a]
    assert labels.tolist() == [min(reached[index]) for index in range(size)]
    halves = join(join(np.arange(size), *zip(*pairs[:5], strict=True)) if pairs else labels, [], [])
    rest = pairs[5:]
    assert join(halves, [a for a, _ in rest], [b for _, b in rest]).tolist() == labels.tolist()


SHORT, LONG = "Find $x$", "  Find  \\( x \\) ."
IDS = [problem_id(text) for text in (SHORT, LONG)]


def removed(entries, keep_traces=None, problems=(SHORT, LONG), labels=(0, 0)):
    labels = np.array(labels)
    ids = [problem_id(text) for text in problems]
    found = choose(entries, problems, ids, exact_labels(problems), labels, keep_traces)
    return [(own.row, own.kept, own.rule) for own in found]


class TestKeeper:
    def test_longest_statement_stays(self):
        assert removed([Entry(0, "a"), Entry(1, "b")]) == [(0, 1, "exact")]

    def test_verified_one_stays_before_the_longest(self):
        assert removed([Entry(0, "a", verified=True), Entry(1, "b")]) == [(1, 0, "exact")]

    def test_smallest_id_stays_among_equals(self):
        problems = ("Find $x$", "Find $y$")
        entries = [Entry(0, ids := problem_id(problems[0])), Entry(1, problem_id(problems[1]))]
        kept = 0 if ids == min(entry.id for entry in entries) else 1
        assert removed(entries, None, problems) == [(1 - kept, kept, "near")]
        assert removed(entries[::-1], None, problems) == [(kept, 1 - kept, "near")]

    def test_order_of_rows_does_not_matter(self):
        entries = [Entry(i % 2, f"{i}", verified=i == 3, content=bytes([i])) for i in range(6)]
        kept = {entries[row].id for row in range(6)} - {entries[r].id for r, *_ in removed(entries)}
        turned = entries[::-1]
        again = {own.id for own in turned} - {turned[r].id for r, *_ in removed(turned)}
        assert kept == again == {"1", "3", "5"}

    def test_problems_alone_keep_one_row(self):
        assert removed([Entry(1, "a"), Entry(1, "a"), Entry(0, "b")]) == [
            (1, 0, "exact"),
            (2, 0, "exact"),
        ]

    def test_clusters_do_not_touch_each_other(self):
        assert removed([Entry(0, "a"), Entry(1, "b")], labels=(0, 1)) == []


class TestTraces:
    def test_all_that_differ_stay(self):
        rows = [Entry(1, f"{i}", content=bytes([i % 3])) for i in range(5)]
        assert removed(rows) == [(3, 0, "same_trace"), (4, 1, "same_trace")]

    def test_best_ones_stay(self):
        rows = [
            Entry(1, "a", content=b"a"),
            Entry(1, "b", finished=True, content=b"b"),
            Entry(1, "d", verified=True, content=b"d"),
            Entry(1, "c", verified=True, content=b"c"),
        ]
        gone = [removed(rows, n) for n in (1, 2, 3, 4)]
        assert gone[0] == [(0, 3, "extra_trace"), (1, 3, "extra_trace"), (2, 3, "extra_trace")]
        assert [[row for row, *_ in own] for own in gone] == [[0, 1, 2], [0, 1], [0], []]

    def test_copy_does_not_take_the_place_of_another_trace(self):
        rows = [Entry(1, f"{i}", content=bytes([i // 2])) for i in range(6)]
        assert removed(rows, 2) == [
            (1, 0, "same_trace"),
            (3, 2, "same_trace"),
            (4, 0, "extra_trace"),
            (5, 0, "extra_trace"),
        ]

    def test_traces_of_another_wording_go_with_it(self):
        """Splits are by problem id: two wordings of a problem could be parted."""
        rows = [Entry(0, "a", content=b"a"), Entry(1, "b", content=b"b")]
        assert removed(rows, 2) == [(0, 1, "exact")]

    def test_rows_that_stay_are_never_removed(self):
        rows = [Entry(i % 2, f"{i}", content=bytes([i % 4])) for i in range(20)]
        found = removed(rows, 1)
        gone = {row for row, *_ in found}
        assert len(gone) == 19 and not gone & {kept for _, kept, _ in found}
