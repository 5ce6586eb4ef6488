"""The default grader where it goes beyond math-verify: what it adds, and what it must not add."""

import pytest

from progdata.verifiers import grade
from progdata.verifiers.math_verify_grader import check_gold, find_in_text


@pytest.mark.parametrize(
    ("gold", "answer", "status", "rule"),
    [
        ("-i", "i^3", "correct", "complex numbers"),
        (r"\frac{1-i}{2}", r"\frac{1}{1+i}", "correct", "complex numbers"),
        (r"1+i\sqrt{3}", r"2e^{i\pi/3}", "correct", "complex numbers"),
        ("1+i", "1-i", "wrong", "math-verify"),
        ("2i", "2", "wrong", "math-verify"),
        ("n", "i", "wrong", "math-verify"),
        ("n+i^2", "n-1", "wrong", "math-verify"),  # beside n, i may be a variable
        (r"(4,\infty)", "x > 4", "correct", "math-verify"),
        ("x > 4", r"(4,\infty)", "correct", "math-verify"),
        ("(-1,1)", "-1 < x < 1", "correct", "math-verify"),
        (r"(4,\infty)", r"x \ge 4", "wrong", "math-verify"),
        ("(-1,1)", "x^2 < 1", "wrong", "math-verify"),  # the question, not its answer
        ("1.5e-7", "2.5e-7", "wrong", "math-verify"),
        (r"1.5 \times 10^{-7}", "0.00000015", "correct", "math-verify"),
        ("0.0000672", "0.000067", "wrong", "small numbers that differ"),
        ("0.333333", r"\frac{1}{3}", "correct", "math-verify"),
        (r"50\%", "0.5", "correct", "math-verify"),
        (r"\{1, 2\}", "2, 1", "correct", "math-verify"),
        ("(1, 2, 3)", "(1, 3, 2)", "wrong", "math-verify"),
        (r"\frac{dM}{dt}=\frac{10^{5} L_{\odot}}{c^{2} M_{\odot}^{6}} M^{6}", "5",
         "gold_unparsable", "gold is not mathematics"),
    ],
)  # fmt: skip
def test_what_decides(gold, answer, status, rule):
    verdict = grade(gold=gold, completion=rf"<think>a</think>\boxed{{{answer}}}")
    assert (verdict.status, verdict.rule) == (status, rule)
    assert verdict.gold_normal and verdict.answer_normal


@pytest.mark.parametrize(
    ("text", "extraction", "said"),
    [
        ("The final answer is $5$. I hope it is correct.", "final answer, I hope", "5"),
        (r"So the final answer is \(x+1\), as claimed.", "final answer is", "x+1"),
        ("Answer: 3/4 of them", "answer:", "3/4"),
        ("the answer must be 12 apples", "answer", "12"),
        ("It takes 3 weeks and 4 days", "last expression", "4"),
        (r"as $\frac{1}{2}$ and then 7 or $\sqrt{5}$ cm", "last expression", r"\sqrt{5}"),
    ],
)
def test_the_fallbacks_of_math_verify_are_named_and_placed(text, extraction, said):
    found = find_in_text(text)
    assert found is not None and found.extraction == extraction
    assert text[found.start : found.end].strip() == said


def test_nothing_is_found_where_nothing_stands():
    assert find_in_text("I do not know.") is None
    assert find_in_text("") is None


@pytest.mark.parametrize(
    ("gold", "status", "rule"),
    [
        (r"2\pi", "correct", "math-verify"),
        (r"\text{Tuesday}", "correct", "math-verify"),
        ("4.5e33", "correct", "math-verify"),
        ("E_1, E_2", "correct", "math-verify"),
        ("$f(x)=a x+b$, where $b$ is an integer", "correct", "math-verify"),
        ("$t(0,4]$", "gold_unparsable", "gold is not mathematics"),
        (
            r"\frac{2 k n}{n+k-1}-2 \frac{k!n!}{(k+n-1)!",
            "gold_unparsable",
            "gold is not mathematics",
        ),
        (" ", "gold_unparsable", "empty gold"),
    ],
)
def test_whether_a_gold_can_be_graded(gold, status, rule):
    found = check_gold(gold)
    assert (found.status, found.rule) == (status, rule)
