"""Iterative context lengthening: its three rules on the paper's tables and on histories."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from progdata.builders.errors import UsageError
from progdata.releases.sampled import measure_samples
from progdata.training_refs.context_lengthening import (
    CLIPPED,
    LENGTH,
    REWARD,
    LengtheningSection,
    Stage,
    best_checkpoint,
    find_plateau,
    first_context,
    plan_stages,
    read_contexts,
)

COUNTDOWN = {0: 0.0, 512: 10.9, 1024: 45.5, 2048: 61.9, 3072: 66.8, 4096: 69.3, 5632: 71.1,
             8192: 71.8}  # fmt: skip
"""Paper 004, table 6: coverage of Qwen3-0.6B on countdown, in percent."""

AIME = {2048: 3.0, 4096: 9.0, 8192: 23.0, 16384: 26.0, 32768: 29.0}
"""Paper 004, section 3.3: pass@1 of DeepSeek-R1-Distill-1.5B on AIME 2024, in percent."""


def table(coverage: dict[int, float]) -> list[dict[str, float]]:
    return [{"max_tokens": own, "coverage": coverage[own] / 100} for own in coverage]


def test_the_first_context_is_what_the_paper_chose_on_countdown():
    """Section 4.2: "within the 1K-2K range"; the run from 1K was the best."""
    assert first_context(table(COUNTDOWN)) == 1024
    assert first_context(table(COUNTDOWN), taper=0.2) == 2048


def test_the_first_context_is_what_the_paper_chose_on_aime():
    assert first_context(table(AIME)) == 8192


def test_gains_only_near_the_end_mean_the_longest_context():
    assert first_context(table({1024: 1, 2048: 2, 4096: 60})) == 4096


def test_no_gain_anywhere_means_the_longest_context():
    assert first_context(table({1024: 0, 2048: 0})) == 2048


def test_a_second_steep_gain_is_waited_for():
    """After 1,024 a token gains little, but not after 2,048."""
    assert first_context(table({1024: 40, 2048: 41, 4096: 81, 8192: 82})) == 4096


def brute_force(coverage: dict[int, float], taper: float) -> int:
    """The first context, not before the steepest gain, after which every token gains little."""
    edges = [0, *sorted(coverage)]
    gain = {
        end: (coverage[end] - coverage.get(start, 0.0)) / (end - start)
        for start, end in pairwise(edges)
    }
    steepest = next(end for end in gain if gain[end] == max(gain.values()))
    return next(
        context
        for context in gain
        if context >= steepest
        and all(gain[end] < taper * gain[steepest] for end in gain if end > context)
    )


@given(
    st.dictionaries(st.integers(1, 100), st.integers(0, 20), min_size=1, max_size=8),
    st.sampled_from([0.1, 0.25, 0.5, 0.9]),
)
def test_the_first_context_by_brute_force(rows, taper):
    coverage = dict(zip(sorted(rows), sorted(own / 20 for own in rows.values()), strict=True))
    found = first_context(
        [{"max_tokens": own, "coverage": coverage[own]} for own in coverage], taper
    )
    assert found == brute_force(coverage, taper)


def test_the_order_and_a_row_at_zero_do_not_matter():
    turned = list(reversed(table(COUNTDOWN)))
    assert first_context(turned) == first_context(turned[:-1]) == 1024


@given(
    st.dictionaries(st.integers(1, 40_000), st.floats(0, 1), min_size=1, max_size=12),
    st.floats(0.01, 0.99),
)
def test_the_first_context_is_a_row_at_or_after_the_steepest_gain(rows, taper):
    coverage = dict(zip(sorted(rows), sorted(rows.values()), strict=True))
    found = first_context(
        [{"max_tokens": own, "coverage": coverage[own]} for own in coverage], taper
    )
    edges = [0, *coverage]
    gains = [
        (coverage[end] - coverage.get(start, 0)) / (end - start) for start, end in pairwise(edges)
    ]
    assert found in coverage and found >= edges[gains.index(max(gains)) + 1]


def test_the_table_is_that_of_stats_samples(tmp_path):
    """Eight samples of one problem: the four short ones are right."""
    samples = pl.DataFrame(
        {
            "problem_id": ["p"] * 8,
            "model": ["m"] * 8,
            "verdict": ["correct"] * 4 + ["wrong"] * 4,
            "answer": ["1"] * 8,
            "cut": [None] * 8,
            "tokens": [100, 110, 120, 128, 900, 1000, 1000, 1024],
        },
        schema_overrides={"cut": pl.String},
    )
    file = tmp_path / "stats.json"
    file.write_text(json.dumps(measure_samples(samples)), "utf-8")
    assert first_context(read_contexts(str(file))) == 128


@pytest.mark.parametrize("content", ["", "[]", '{"contexts": [{"coverage": 1}]}', None])
def test_a_file_without_the_table_is_refused_in_one_line(tmp_path, content):
    file = tmp_path / "stats.json"
    if content is not None:
        file.write_text(content, "utf-8")
    with pytest.raises(UsageError, match=r"stats\.json: no table .* stats SAMPLES --samples") as e:
        read_contexts(str(file))
    assert "\n" not in str(e.value)


def test_deepscalers_schedule():
    assert plan_stages([8192, 16384, 24576], [1040, 480, 250], [8, 16, 16]) == [
        Stage(8192, 1040, 8),
        Stage(16384, 480, 16),
        Stage(24576, 250, 16),
    ]
    assert plan_stages(8096, 500, 4) == [Stage(8096, 500, 4)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([8192, 16384], [10, 20, 30], 4), "max_steps: 3 numbers for 2 contexts"),
        (([8192, 16384], 10, [4]), "num_generations: 1 numbers for 2 contexts"),
        (([16384, 8192], 10, 4), "expected rising"),
        (([8192, 8192], 10, 4), "expected rising"),
        (([], 10, 4), "expected rising"),
        ((0, 10, 4), "expected rising"),
        ((8192, 0, 4), "from 1"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        plan_stages(*given)


RULES = LengtheningSection(window=3, reward_gain=0.01, length_rise=0.05, clipped_rise=0.01)


def rows(
    rewards: Sequence[float | None],
    lengths: Sequence[float] | None = None,
    clipped: Sequence[float] | None = None,
) -> list[dict[str, Any]]:
    """A log with a row a step, from step 1."""
    lengths = lengths or [100] * len(rewards)
    clipped = clipped or [0.05] * len(rewards)
    return [
        {"step": step, REWARD: one, LENGTH: two, CLIPPED: three}
        for step, (one, two, three) in enumerate(zip(rewards, lengths, clipped, strict=True), 1)
    ]


STILL = [0.5, 0.6, 0.7, 0.6, 0.6, 0.6]
RISING = [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
LONGER = [100, 100, 100, 110, 110, 110]
CUT_MORE = [0.042, 0.042, 0.042, 0.065, 0.065, 0.065]  # section 3.2: 4.2 % to 6.5 %


@pytest.mark.parametrize(
    ("history", "moves"),
    [
        (rows(STILL, LONGER), True),
        (rows(STILL, None, CUT_MORE), True),
        (rows(STILL, LONGER[::-1], CUT_MORE), True),  # the paper's second move: lengths decline
        (rows(STILL), False),  # still, but the context is not what limits it
        (rows(RISING, LONGER, CUT_MORE), False),
        (rows(RISING[::-1], LONGER), True),
        (rows(STILL[1:], LONGER[1:]), False),  # too few steps to say
        ([], False),
    ],
    ids=["longer", "cut more", "cut more, shorter", "still", "rising", "falls", "short", "none"],
)
def test_a_stage_moves_on_when_the_reward_stands_still_and_the_context_limits(history, moves):
    assert (find_plateau(history, RULES) is not None) == moves


def test_a_plateau_says_where_and_what():
    found = find_plateau([{"step": 0, REWARD: 9}, *rows(STILL, LONGER)], RULES)
    assert found is not None
    assert (found.since, found.step, found.length) == (4, 6, (100, 110))
    assert found.reward == pytest.approx((0.6, 0.6)) and found.clipped == pytest.approx(
        (0.05, 0.05)
    )


def test_steps_without_a_reward_are_passed_over():
    history = rows([0.5, None, 0.6, 0.7, None, 0.6, 0.6, 0.6], [100] * 5 + [110] * 3)
    found = find_plateau(history, RULES)
    assert found is not None and (found.since, found.step) == (6, 8)


def test_the_next_stage_begins_with_the_best_checkpoint_before_the_plateau():
    history = rows([0.1, 0.2, 0.9, 0.9, 0.9, 0.5, 0.5, 0.5, 0.6, 0.5], [100] * 7 + [150] * 3)
    plateau = find_plateau(history, RULES)
    assert plateau is not None and plateau.since == 8
    assert best_checkpoint(history, [2, 5, 7, 9, 10], plateau, RULES.window) == 5
    assert best_checkpoint(history, [2, 6, 7], plateau, RULES.window) == 6
    assert best_checkpoint(history, [9, 10], plateau, RULES.window) == 9


def test_the_later_of_equal_checkpoints_is_taken():
    history = rows([0.5] * 8, [100] * 5 + [150] * 3)
    plateau = find_plateau(history, RULES)
    assert plateau is not None
    assert best_checkpoint(history, [1, 3, 5, 8], plateau, RULES.window) == 5
