"""Prefixes of traces, and how a model is made to go on from them."""

from itertools import islice, pairwise

import pytest
from hostile_text import texts
from hypothesis import example, given
from hypothesis import strategies as st
from shared_data import TOKENIZER, needs_shared_data, read_traces

from progdata.builders.chat_template import ChatTemplate, load_chat_template
from progdata.builders.continuations import (
    PUSHES,
    TIME_IS_UP,
    WAITS,
    Prefix,
    begin_answer,
    choose_prefixes,
    pushed,
)
from progdata.builders.errors import UsageError
from progdata.builders.thinking import split_completion

USER = [("user", "What is 1 + 1?")]
RENDERED = "<｜begin▁of▁sentence｜><｜User｜>What is 1 + 1?<｜Assistant｜>"


@st.composite
def segmented(draw) -> tuple[list[int], list[int]]:
    """Segment ends in characters and in tokens."""
    sizes = draw(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 9)), min_size=1))
    ends, token_ends = [0], [0]
    for characters, tokens in sizes:
        ends.append(ends[-1] + characters)
        token_ends.append(token_ends[-1] + tokens)
    return ends[1:], token_ends[1:]


# --- which prefixes


@given(trace=segmented(), most=st.integers(1, 60))
@example(trace=(list(range(1, 8)), list(range(1, 8))), most=7)
@example(trace=(list(range(1, 50)), list(range(1, 50))), most=49)
def test_prefixes_are_spread_evenly_and_end_with_the_whole(trace, most):
    ends, token_ends = trace
    chosen = choose_prefixes(ends, token_ends, most)
    assert len(chosen) == min(most, len(ends))
    assert chosen[-1] == Prefix(len(ends) - 1, ends[-1], token_ends[-1], token_ends[-1])
    assert chosen[-1].progress == 1
    steps = [b.segment - a.segment for a, b in pairwise([Prefix(-1, 0, 0, 1), *chosen])]
    assert min(steps) >= 1 and max(steps) - min(steps) <= 1
    for own in chosen:
        assert (own.end, own.tokens) == (ends[own.segment], token_ends[own.segment])
        assert own.total == token_ends[-1] and 0 < own.progress <= 1


@given(trace=segmented())
def test_without_a_limit_each_segment_end_is_one(trace):
    ends, token_ends = trace
    chosen = choose_prefixes(ends, token_ends, None)
    assert [own.end for own in chosen] == ends
    assert chosen == choose_prefixes(ends, token_ends, len(ends))


@pytest.mark.parametrize(
    ("segments", "most", "expected"),
    [
        (10, 1, [9]),
        (10, 2, [4, 9]),
        (10, 3, [3, 6, 9]),
        (10, 4, [2, 4, 7, 9]),
        (3, 2, [1, 2]),
        (1, 8, [0]),
        (0, 8, []),
        (0, None, []),
    ],
)
def test_which_segments_are_chosen(segments, most, expected):
    ends = list(range(1, segments + 1))
    assert [own.segment for own in choose_prefixes(ends, ends, most)] == expected


@pytest.mark.parametrize("most", [0, -1])
def test_less_than_one_prefix_is_refused(most):
    with pytest.raises(UsageError, match="--prefixes"):
        choose_prefixes([1, 2], [1, 2], most)


# --- pushes


def test_the_texts_are_those_of_the_papers():
    """facts.md 8.7: MRT's stop prompt and reflection steps, s1's word."""
    assert TIME_IS_UP == (
        "Time is up.\n\nGiven the time I've spent and the approaches I've tried, I should stop "
        "thinking and formulate a final answer based on what I already have.\n</think>\n\n"
        "**Step-by-Step Explanation and Answer:**\n\n1. **"
    )
    assert PUSHES == {"continue": "", "stop": TIME_IS_UP, "close": "</think>\n\n", "wait": "Wait"}
    assert WAITS == ("Wait", "Alternatively", "But hold on", "But wait")


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        ("", "Wait"),
        ("So x = 2.", "So x = 2.\n\nWait"),
        ("So x = 2.\n", "So x = 2.\n\nWait"),
        ("So x = 2.\n\n", "So x = 2.\n\nWait"),
        ("So x = 2.\n\n\n", "So x = 2.\n\n\nWait"),
        ("So x = 2. ", "So x = 2. \n\nWait"),
        ("\n", "\n\nWait"),
    ],
)
def test_a_push_stands_in_a_paragraph_of_its_own(thinking, expected):
    assert pushed(thinking, "Wait") == expected


@given(thinking=texts, push=st.sampled_from(sorted(PUSHES.values())))
def test_a_push_changes_nothing_before_it(thinking, push):
    whole = pushed(thinking, push)
    assert whole.startswith(thinking) and whole.endswith(push)
    between = whole[len(thinking) : len(whole) - len(push)]
    assert between in ("", "\n", "\n\n")
    if push and thinking:
        assert (thinking + between).endswith("\n\n")
    else:
        assert between == ""


# --- with the template of the model


@pytest.fixture(scope="module")
def template() -> ChatTemplate:
    return load_chat_template(TOKENIZER)


@needs_shared_data
@pytest.mark.parametrize(
    ("opening", "thinking", "expected"),
    [
        ("<think>", "\nOkay", "<think>\nOkay"),  # the trace wrote what the template writes
        ("\n <think>", "\nOkay", "<think>\nOkay"),
        ("", "Okay", "<think>\nOkay"),  # it was prefilled
        ("", "\nOkay", "<think>\n\nOkay"),  # and the model wrote a line end of its own
        ("<think>", "Okay", "<think>\nOkay"),  # a template cannot take its line end back
        ("<think>", "\n\nOkay", "<think>\n\nOkay"),
        ("<think>", "\n", "<think>\n"),
        ("", "", "<think>\n"),
        ("<think>", "", "<think>\n"),
    ],
)
def test_the_real_template_has_one_think_and_the_trace_goes_on(
    template, opening, thinking, expected
):
    begun = begin_answer(opening, thinking, template.prefill)
    ids = template.prompt(USER, begun).token_ids
    assert template.tokenizer.decode(ids) == RENDERED + expected
    assert list(ids).count(template.tokenizer.convert_tokens_to_ids("<think>")) == 1


@pytest.mark.parametrize(
    ("opening", "thinking", "expected"),
    [
        ("<think>", "\nOkay", "<think>\nOkay"),
        (" \n<think>", "Okay", "<think>Okay"),
        ("", "Okay", "<think>\nOkay"),
        ("", "", "<think>\n"),
    ],
)
def test_an_older_template_leaves_think_to_the_answer(opening, thinking, expected):
    assert begin_answer(opening, thinking, "") == expected


@needs_shared_data
@pytest.mark.parametrize("name", ["r1_1p5b_math", "r1_distill"])
def test_real_traces_go_on_from_every_prefix_as_they_stand(template, name):
    """With a `<think>` of their own (the first file) and without (the second)."""
    for row in islice(read_traces(f"{name}.jsonl.gz"), 5):
        own = split_completion(row["completion"])
        assert bool(own.opening) == (name == "r1_1p5b_math")
        for end in (1, len(own.think) // 2, len(own.think)):
            begun = begin_answer(own.opening, own.think[:end], template.prefill)
            text = template.tokenizer.decode(template.prompt(USER, begun).token_ids)
            opening = own.opening or "<think>\n"
            assert text == RENDERED + opening + own.think[:end]
