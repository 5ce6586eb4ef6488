r"""Where the answer is: the last box, lists of boxes, and what counts where there is no box."""

import re
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progdata.verifiers import grade
from progdata.verifiers.answers import find_answer, find_boxes, find_said, response_start
from progdata.verifiers.grading import grade_all

MEGABYTE = 1 << 20

BOXED: list[tuple[str, str]] = [
    (r"\boxed{5}", "5"),
    (r"It is $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
    (r"\fbox{7}", "7"),
    (r"\boxed {7}", "7"),
    ("\\boxed\n{7}", "7"),
    (r"\\boxed{7}", "7"),
    ("\\boxed{\n  7\t}", "7"),
    (r"\\\boxed{7}", "7"),
    (r"First \boxed{3}. No: \boxed{4}", "4"),
    (r"\boxed{3}. Then \fbox{4}", "4"),
    (r"\boxed{4} \boxed{", "4"),
    (r"\boxed{4} and then \boxed{5", "4"),
    (r"\boxed{4} \boxed", "4"),
    (r"\boxed{4} \boxed 5", "4"),
    (r"\boxed{3}. So \boxed{}", "3"),
    (r"\boxed{3}. So \boxed{ }", "3"),
    (r"\boxed{3}. So \boxed{\boxed{}}", "3"),
    (r"\boxed{\boxed{5}}", "5"),
    (r"\boxed{ \boxed{ \fbox{ 5 } } }", "5"),
    (r"\boxed{x = \boxed{5}}", r"x = \boxed{5}"),
    (r"\boxed{\boxed{b}}", "b"),
    (r"\boxed{\{1,2\}}", r"\{1,2\}"),
    (r"\boxed{\{1,2}", r"\{1,2"),
    (r"\boxed{1,2\}}", r"1,2\}"),
    (r"\boxed{\left\{ x \,\middle|\, x > 1 \right\}}", r"\left\{ x \,\middle|\, x > 1 \right\}"),
    (r"\{ \boxed{5} \}", "5"),
    (r"{ \boxed{5}", "5"),
    (r"\boxed{5} }", "5"),
    (r"} } \boxed{\frac{{1}}{2}} {", r"\frac{{1}}{2}"),
    (r"\boxed{ \boxed{3}", "3"),
    (r"\boxed{\frac{1}{2} and \boxed{6}", "6"),
    (r"\boxed{\text{No real solution}}", r"\text{No real solution}"),
    (r"\boxed{a\\b}", r"a\\b"),
    ("\\boxed{\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}}",
     "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"),
    (r"\boxed{$5$}", "$5$"),
    (r"\boxed{5} is the final answer.", "5"),
    (r"\boxed{5} \ne \boxed{6}", "6"),
    ("\\boxed{5}\n\n\\boxed{6}", "6"),
    (r"The answer is 9. \boxed{5}", "5"),
    ("\\boxed{\u0665}", "\u0665"),
    ("\\boxed{5\x00}", "5\x00"),
    ("\\boxed{\ud800}", "\ud800"),
]  # fmt: skip
"""A text, and what its one box says."""

NO_BOX: list[str] = [
    "", "5", "$5$", r"\boxed", r"\boxed{", r"\boxed{}", r"\boxed{5", r"\boxed{\{5\}", r"\boxed 5",
    r"\boxedx{5}", r"boxed{5}", r"\\{5}", r"\boxed{ {5}", r"\boxed{\boxed{}}", r"\fbox{ }",
    r"\boxed{6}. The final answer is $5$. I hope it is correct.",
]  # fmt: skip

LISTS: list[tuple[str, str]] = [
    (r"\boxed{3}\boxed{4}", "3,4"),
    (r"\boxed{3} \boxed{4}", "3,4"),
    (r"\boxed{3} \quad \boxed{4}", "3,4"),
    (r"\boxed{3}, \boxed{4}", "3,4"),
    (r"\boxed{3}; \boxed{4}", "3,4"),
    (r"\boxed{3} and \boxed{4}", "3,4"),
    (r"\boxed{3} or \boxed{4}", "3,4"),
    (r"$\boxed{3}$ and $\boxed{4}$", "3,4"),
    (r"\(\boxed{3}\), and \(\boxed{4}\)", "3,4"),
    (r"$$\boxed{3}$$ , $$\boxed{4}$$", "3,4"),
    ("\\[\\boxed{3}\\]\nand\n\\[\\boxed{4}\\]", "3,4"),
    (r"\boxed{3} \text{ and } \boxed{4}", "3,4"),
    (r"\boxed{3}~\mbox{or}~\boxed{4}", "3,4"),
    (r"\boxed{3} \quad \text{or also} \quad \boxed{4}", "3,4"),
    (r"\boxed{3} & \boxed{4}", "3,4"),
    (r"**\boxed{3}** and **\boxed{4}**", "3,4"),
    (r"x = \boxed{3}, y = \boxed{4}", "3,4"),
    (r"y_1 = \boxed{3}, \quad y_2 = \boxed{4}", "3,4"),
    (r"f(1) = \boxed{3} and f(2) = \boxed{4}", "3,4"),
    (r"\boxed{1}, \boxed{2}, and \boxed{3}", "1,2,3"),
    (r"\boxed{9}. So \boxed{1} or \boxed{2}", "1,2"),
    (r"\boxed{3} and \fbox{4}", "3,4"),
    (r"\boxed{3}, \boxed{3}, \boxed{4}", "3,4"),
    (r"\boxed{3}, \boxed{4}, \boxed{3}", "3,4,3"),
    (r"\boxed{3}, \boxed{}, \boxed{4}", "3,4"),
    (r"\boxed{3}," + " " * 69 + r"\boxed{4}", "3,4"),
]
"""A text that ends with a list of boxes, and their contents."""

NO_LISTS: list[tuple[str, str]] = [
    (r"\boxed{3} so \boxed{4}", "4"),
    (r"\boxed{3} = \boxed{4}", "4"),
    (r"\boxed{3}. \boxed{4}", "4"),
    (r"\boxed{3} + \boxed{4}", "4"),
    (r"\boxed{3}, but \boxed{4}", "4"),
    (r"\boxed{3} \text{ but } \boxed{4}", "4"),
    (r"\boxed{3} sand \boxed{4}", "4"),
    (r"\boxed{3} android \boxed{4}", "4"),
    (r"\boxed{3} and not \boxed{4}", "4"),
    (r"\boxed{3}, speed = \boxed{4}", "4"),
    (r"\boxed{20}\% and \boxed{30}\%", r"30\%"),
    (r"(a) \boxed{3} (b) \boxed{4}", "4"),
    (r"\boxed{3}," + " " * 70 + r"\boxed{4}", "4"),
    (r"\boxed{4} and \boxed{4}", "4"),
    (r"\boxed{4}, \boxed{ 4 }", "4"),
]
"""A text with several boxes that are no list, or say the same, and what the last one says."""

PERCENT: list[tuple[str, str]] = [
    (r"\boxed{50}\%", r"50\%"),
    (r"\boxed{50}%", r"50\%"),
    (r"$\boxed{50}$ \%", r"50\%"),
    (r"\(\boxed{50}\) percent", r"50\%"),
    (r"\boxed{50} percentage points", r"50\%"),
    (r"\boxed{50} pct", r"50\%"),
    (r"\boxed{50\%}", r"50\%"),
    (r"\boxed{50\%}\%", r"50\%"),
    (r"\boxed{50} percentile", "50"),
    (r"\boxed{50}, 20\% more", "50"),
    (r"\boxed{50} is 20\%", "50"),
]

SAID: list[tuple[str, str]] = [
    ("The answer is B", "B"),
    ("So the answer is (D).", "D"),
    ("The answer is **D**.", "D"),
    ("**Answer:** D", "D"),
    ("**Answer**: C", "C"),
    ("Answer: B\n", "B"),
    ("answer : B", "B"),
    ("The correct answer is $B$.", "B"),
    (r"The answer is \textbf{(C)}", "C"),
    ("The answer is option C.", "C"),
    ("The answer is choice (C), 12", "C"),
    ("The answer is D because no other fits", "D"),
    ("The answer is **D** since it is", "D"),
    ("Answer: Yes", "Yes"),
    ("The answer is no real solution.", "no real solution"),
    ("The answer is B. Wait, the answer is C.", "C"),
    ("The answer is A or B", "A or B"),
    ("The answer is Simpson's rule, of course.", "Simpson's rule, of course"),
]

NOT_SAID = ["", "B", "The answer", "The answer is 5", "answers: B", "nswer is", "The answer: $5$"]

FALLBACKS: list[tuple[str, str, str]] = [
    ("The final answer is $5$. I hope it is correct.", "5", "final answer, I hope"),
    ("Final Answer: The final answer is 5. I hope it is correct.", "5", "final answer, I hope"),
    (r"\boxed{6} The final answer is $5$. I hope it is correct.", "5", "final answer, I hope"),
    ("The final answer is $5$.", "5", "final answer is"),
    ("The final answer to your question is $5$.", "5", "final answer is"),
    (r"answer: $5$, for $x > 2$", "5", "answer:"),
    ("Answer: 5\n(not 6)", "5", "answer:"),
    ("The answer should be 5. Not 6", "5", "answer"),
    ("We get $4$ and then $5$", "5", "last expression"),
    ("We get $4$ and $5$", r"4$ and $5", "last expression"),
    (r"so \[x = 5\]", "x = 5", "last expression"),
    (r"so \(5\)", "5", "last expression"),
    ("so it is 5", "5", "last expression"),
    ("5", "5", "last expression"),
    (r"we are left with \frac{1}{2}", r"\frac{1}{2}", "last expression"),
    (r"\boxed{5 and so $5$", "5", "last expression"),
]
"""math-verify's patterns, in its order: a text, the answer, and the words that were looked for."""


@pytest.mark.parametrize(("text", "says"), BOXED)
def test_the_last_complete_box_that_holds_something_counts(text, says):
    found = find_answer(text)
    assert found is not None
    assert (found.text, found.latex, found.extraction) == (says, says, "boxed")
    assert text[found.start : found.end] == says


@pytest.mark.parametrize("text", NO_BOX)
def test_no_box_is_no_answer(text):
    assert find_answer(text) is None


@pytest.mark.parametrize(("text", "latex"), LISTS)
def test_boxes_with_only_separators_between_them_are_a_list(text, latex):
    found = find_answer(text)
    assert found is not None
    assert (found.latex, found.extraction) == (latex, "list of boxes")
    assert text[found.start : found.end] == found.text
    assert found.text.endswith("}") and re.match(r"\\f?box", found.text)


@pytest.mark.parametrize(("text", "latex"), NO_LISTS)
def test_boxes_with_other_words_between_them_are_no_list(text, latex):
    found = find_answer(text)
    assert found is not None
    assert (found.latex, found.extraction) == (latex, "boxed")


@pytest.mark.parametrize(("text", "latex"), PERCENT)
def test_a_percent_sign_behind_a_box_belongs_to_it(text, latex):
    found = find_answer(text)
    assert found is not None and found.latex == latex
    assert text[found.start : found.end] == found.text == re.sub(r"\\%$", "", latex) or (
        found.text == latex
    )


def test_the_box_in_a_box_is_found_where_it_stands():
    text = r"\boxed{ \boxed{ b } }"
    found = find_answer(text)
    assert found is not None
    assert text[: found.start].endswith(r"\boxed{ ")


@pytest.mark.parametrize(("text", "words"), SAID)
def test_an_answer_in_words_is_what_follows_the_last_answer_is(text, words):
    found = find_said(text)
    assert found is not None
    assert (found.text, found.extraction) == (words, "answer is")
    assert found.latex == rf"\text{{{words}}}"
    assert text[found.start : found.end] == words


@pytest.mark.parametrize("text", NOT_SAID)
def test_no_words_after_answer_is(text):
    assert find_said(text) is None


@pytest.mark.parametrize(
    ("completion", "thinks", "response"),
    [
        ("", False, ""),
        ("", True, None),
        ("5", False, "5"),
        ("5", True, None),
        ("<think>5", False, None),
        ("5<think>", False, None),
        ("<think>a</think>b", False, "b"),
        ("a</think>b", True, "b"),
        ("a</think>b</think>c", True, "c"),
        ("<think>a</think>b<think>c</think>d", False, "d"),
        ("<think>a</think>", False, ""),
        ("</think>", True, ""),
        ("a</THINK>b", True, None),
        ("a</think >b", False, "a</think >b"),
    ],
)
def test_only_what_follows_the_last_close_tag_is_the_response(completion, thinks, response):
    start = response_start(completion, thinks=thinks)
    assert (None if start is None else completion[start:]) == response


@pytest.mark.parametrize(("text", "answer", "extraction"), FALLBACKS)
def test_without_a_box_math_verifys_patterns_look_for_the_answer(text, answer, extraction):
    completion = f"<think>$7$, \\boxed{{8}}</think>{text}"
    verdict = grade(gold="12345", completion=completion)
    assert (verdict.extracted_answer, verdict.extraction) == (answer, extraction)
    assert verdict.span is not None
    assert completion[slice(*verdict.span)] == answer


PIECES = [
    r"\boxed{", r"\fbox{", r"\boxed", "{", "}", r"\{", r"\}", "\\", "$", "$$", r"\(", r"\)", r"\[",
    r"\]", "<think>", "</think>", "5", "x", "-1", r"\frac{1}{2}", "1,000", "%", " percent", " and ",
    ", ", "\n", "final answer is ", ". I hope it is correct.", "answer: ", "the answer is ", "B",
    "yes", "=", "\x00", "\u200b", "\ud800", "\u2212", r"\text{ and }", "\u221a2", "10:30",
]  # fmt: skip

texts = st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text(max_size=60)


@given(texts, st.integers(0, 20))
@settings(max_examples=1000)
def test_an_answer_is_always_a_slice_of_its_text(text, start):
    for found in (find_answer(text, start), find_said(text, start)):
        if found is not None:
            assert text[found.start : found.end] == found.text
            assert found.start >= start
            assert found.text.strip()
    boxes = find_boxes(text, start)
    assert all(first.end <= second.start for first, second in pairwise(boxes))


@given(st.lists(texts, min_size=8, max_size=8), st.sampled_from(["5", "B", r"\text{yes}", "x=5"]))
@settings(max_examples=60)
def test_a_verdicts_span_is_always_its_answer(completions, gold):
    verdicts = grade_all(golds=[gold] * len(completions), completions=completions, workers=1)
    for completion, verdict in zip(completions, verdicts, strict=True):
        assert (verdict.span is None) == (verdict.extracted_answer is None)
        if verdict.span is not None:
            assert completion[slice(*verdict.span)] == verdict.extracted_answer
            assert verdict.span[0] >= completion.rfind("</think>")


LARGE = {
    "adjacent boxes": r"\boxed{5}",
    "a list of boxes": r"\boxed{5}, ",
    "opened boxes": r"\boxed{",
    "empty boxes": r"\boxed{}",
    "nested and empty": r"\boxed{\boxed{}}",
    "open braces": "{",
    "closed braces": "}",
    "backslashes": "\\",
    "closing sentences": "final answer is ",
    "answers": "answer: ",
    "said": "the answer is A",
    "commands": r"\boxed ",
    "separators": ",;&",
    "spaces": " ",
    "lines": "\n",
}


def is_quick(function: Callable[[str], Any], text: str) -> bool:
    """Whether a function takes under a second of CPU time; the best of three runs."""
    for _ in range(3):
        begun = time.process_time()
        function(text)
        if time.process_time() - begun < 1:
            return True
    return False


@pytest.mark.parametrize("piece", LARGE.values(), ids=LARGE.keys())
@pytest.mark.parametrize("function", [find_answer, find_said, response_start])
def test_a_megabyte_is_read_in_under_a_second(function, piece):
    text = piece * (MEGABYTE // len(piece))
    for whole in (text, r"\boxed{1}" + text + r"\boxed{2}", r"\boxed{" + text + "}"):
        assert is_quick(function, whole)


@pytest.mark.parametrize("inside", ["", "5", "a"])
def test_deep_nesting_is_read_in_under_a_second(inside):
    depth = MEGABYTE // 8
    text = rf"\boxed{{{inside}" * depth + "5" + "}" * depth
    assert is_quick(find_answer, text)
    found = find_answer(text)
    assert found is not None and found.text.endswith("5" + (depth - 1) * "}" if inside else "5")
