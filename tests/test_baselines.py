"""What predictions that read nothing are worth, against plain versions and simulations."""

from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from progdata.training_refs.baselines import (
    BASELINES,
    Lengths,
    baseline_errors,
    by_mean_length,
    by_survival,
    position_predictions,
    random_error,
)
from progdata.training_refs.progress_metrics import Positions

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=30)
TOKENS = st.lists(st.integers(0, 80), min_size=1, max_size=30)


def plain_survival(k: int, lengths: list[int]) -> float:
    left = [m for m in lengths if m >= k]
    return fmean(k / m for m in left) if left else 1.0


@given(TOKENS, LENGTHS)
def test_positions_are_predicted_as_by_the_plain_versions(tokens, lengths):
    own = Lengths.of(np.array(lengths))
    survival = by_survival(np.array(tokens), own.tokens)
    mean = by_mean_length(np.array(tokens), own.tokens)
    assert survival.tolist() == pytest.approx([plain_survival(k, lengths) for k in tokens])
    assert mean.tolist() == pytest.approx([min(k / fmean(lengths), 1) for k in tokens])


@given(TOKENS, LENGTHS, st.randoms(use_true_random=False))
def test_the_lengths_of_a_problem_itself_are_not_used_for_it(tokens, lengths, random):
    owner = [random.randrange(-1, 3) for _ in lengths]  # -1: a problem without a marker
    asked = [random.randrange(3) for _ in tokens]
    given_lengths = Lengths.of(np.array(lengths), np.array(owner))
    found = position_predictions(np.array(tokens), np.array(asked), given_lengths)
    for k, problem, mean, survival in zip(tokens, asked, *found, strict=True):
        others = [m for m, own in zip(lengths, owner, strict=True) if own != problem]
        if not others:
            assert np.isnan(mean) and np.isnan(survival)
            continue
        assert mean == pytest.approx(min(k / fmean(others), 1))
        assert survival == pytest.approx(plain_survival(k, others))


def test_the_random_guess_is_the_expectation_of_one():
    truth = np.linspace(0, 1, 9)
    guesses = np.random.default_rng(0).random((400_000, 1))
    simulated = np.abs(guesses - truth).mean(axis=0)
    assert random_error(truth).tolist() == pytest.approx(simulated.tolist(), abs=0.002)


def test_on_uniform_positions_a_guess_errs_by_a_third_and_50_percent_by_a_quarter():
    """The 0.333 of table 3 in paper 000, and the arithmetic of facts.md 2.1."""
    truth = (np.arange(100_000) + 0.5) / 100_000
    assert random_error(truth).mean() == pytest.approx(1 / 3, abs=1e-6)
    assert np.abs(0.5 - truth).mean() == pytest.approx(1 / 4, abs=1e-6)


def test_the_survival_curve_beats_the_mean_length_where_lengths_differ():
    random = np.random.default_rng(1)
    lengths = np.sort(np.exp(random.normal(7, 1, 2_000)).astype(np.int64) + 1)
    total = random.permutation(lengths)
    tokens = (random.random(2_000) * total).astype(np.int64)
    truth = tokens / total
    by_curve = np.abs(by_survival(tokens, lengths) - truth).mean()
    by_mean = np.abs(by_mean_length(tokens, lengths) - truth).mean()
    assert by_curve < by_mean < np.abs(0.5 - truth).mean() + 0.05


def test_beyond_the_longest_a_position_is_the_end():
    assert by_survival(np.array([11]), np.array([3, 10])).tolist() == [1.0]
    assert by_survival(np.array([10]), np.array([3, 10])).tolist() == [1.0]
    assert by_mean_length(np.array([11]), np.array([3, 10])).tolist() == [1.0]


def test_all_baselines_are_on_the_same_positions():
    """Two traces: labels 20, 130, 90 at 2, 8 and 9 of 10 tokens; -5 at 5 of 20."""
    where = Positions(
        np.array([0, 0, 0, 1]),
        np.array([0, 0, 0, 1]),
        np.array([0.2, 0.8, 0.9, 0.25]),
        np.array([0.2, 1.3, 0.9, -0.05]),
        2,
    )
    errors = baseline_errors(where, np.array([2, 8, 9, 5]), Lengths.of(np.array([10, 20])))
    assert tuple(errors) == BASELINES
    shown = {name: own.tolist() for name, own in errors.items()}
    mean = [0.2 - 2 / 15, 0.8 - 8 / 15, 0.9 - 9 / 15, 5 / 15 - 0.25]
    assert shown["random"] == pytest.approx([0.34, 0.34, 0.41, 0.3125])
    assert shown["constant"] == pytest.approx([0.3, 0.3, 0.4, 0.25])
    assert shown["mean_length"] == pytest.approx(mean)
    assert shown["survival"] == pytest.approx([0.05, 0.2, 0.225, 0.125])
    assert shown["previous"] == pytest.approx([0.2, 0.6, 0.1, 0.25])


def test_lengths_of_nothing_are_no_lengths():
    assert Lengths.of(np.array([5, 0, 3])).tokens.tolist() == [3, 5]
    only = Lengths.of(np.array([5, 0, 3]), np.array([7, 8, 9]))
    assert only.problem is not None and only.problem.tolist() == [9, 7]
