"""Every metric of progress against a plain version of it, on random predictions."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from progdata.training_refs.progress_metrics import (
    Positions,
    Ratio,
    against,
    bins_of,
    both,
    drawn_problems,
    estimate,
    estimate_ratios,
    non_monotone,
    over_traces,
    prediction_errors,
)
from progdata.verifiers.sample_metrics import estimate_mean


@dataclass(frozen=True)
class Row:
    """A marker, plainly."""

    problem: int
    trace: int
    truth: float
    predicted: float


@st.composite
def marked_rows(draw) -> list[Row]:
    """Traces of several problems, some with one marker, with impossible labels among them."""
    rows, trace = [], 0
    for problem in range(draw(st.integers(1, 4))):
        for _ in range(draw(st.integers(1, 3))):
            truths = sorted(draw(st.lists(st.integers(0, 50), min_size=1, max_size=6)))
            for truth in truths:
                label = draw(st.integers(-30, 250))
                rows.append(Row(problem, trace, truth / 50, label / 100))
            trace += draw(st.integers(1, 3))
    return rows


def positions(rows: Sequence[Row]) -> Positions:
    return Positions(
        np.array([row.problem for row in rows], dtype=np.int64),
        np.array([row.trace for row in rows], dtype=np.int64),
        np.array([row.truth for row in rows]),
        np.array([row.predicted for row in rows]),
        max(row.problem for row in rows) + 1,
    )


def everywhere(rows: Sequence[Row]) -> np.ndarray:
    return np.ones(len(rows), dtype=bool)


def value(ratio: Ratio) -> float | None:
    return float(ratio.top.sum() / ratio.bottom.sum()) if ratio.bottom.sum() else None


def plain_micro(rows: Sequence[Row], error: Callable[[Row], float]) -> float | None:
    return fmean(map(error, rows)) if rows else None


def plain_macro(rows: Sequence[Row], error: Callable[[Row], float]) -> float | None:
    by_trace = defaultdict(list)
    for row in rows:
        by_trace[row.trace].append(error(row))
    return fmean(map(fmean, by_trace.values())) if by_trace else None


def assert_both(found: dict[str, Ratio], rows: Sequence[Row], error: Callable[[Row], float]):
    assert value(found["macro"]) == pytest.approx(plain_macro(rows, error))
    assert value(found["micro"]) == pytest.approx(plain_micro(rows, error))


def raw(row: Row) -> float:
    return abs(row.predicted - row.truth)


def clipped(row: Row) -> float:
    return abs(min(max(row.predicted, 0), 1) - row.truth)


@given(marked_rows())
def test_errors_are_those_of_the_plain_version(rows):
    found = prediction_errors(positions(rows), everywhere(rows))
    assert_both(found["mae"]["raw"], rows, raw)
    assert_both(found["mae"]["clip"], rows, clipped)
    assert_both(found["mae"]["filtered"], [row for row in rows if row.predicted <= 1], raw)
    assert_both(found["share_over_100"], rows, lambda row: float(row.predicted > 1))
    assert_both(found["share_below_0"], rows, lambda row: float(row.predicted < 0))


@given(marked_rows(), st.randoms(use_true_random=False))
def test_what_is_not_kept_is_in_no_number(rows, random):
    keep = [random.random() < 0.5 for _ in rows]
    found = prediction_errors(positions(rows), np.array(keep))
    kept = [row for row, own in zip(rows, keep, strict=True) if own]
    assert_both(found["mae"]["raw"], kept, raw)


@given(marked_rows())
def test_predictions_that_fall_are_counted_within_their_trace(rows):
    falls = [
        (row.predicted < before.predicted)
        for before, row in pairwise(rows)
        if before.trace == row.trace
    ]
    ratio = non_monotone(positions(rows), everywhere(rows))
    assert value(ratio) == (pytest.approx(fmean(falls)) if falls else None)
    assert ratio.bottom.sum() == len(falls)


@given(marked_rows(), st.randoms(use_true_random=False))
def test_a_difference_is_on_the_positions_that_both_have(rows, random):
    other = [random.choice([random.random(), float("nan")]) for _ in rows]
    found = against(np.array(other), positions(rows), everywhere(rows))
    error = dict(zip(map(id, rows), other, strict=True))
    known = [row for row in rows if error[id(row)] == error[id(row)]]
    assert_both(found["mae"], known, lambda row: error[id(row)])
    assert_both(found["difference"]["raw"], known, lambda row: raw(row) - error[id(row)])
    assert_both(found["difference"]["clip"], known, lambda row: clipped(row) - error[id(row)])


@given(marked_rows())
def test_parts_of_the_thinking_tile_it(rows):
    for row, part in zip(rows, positions(rows).bins.tolist(), strict=True):
        assert part / 10 < row.truth <= (part + 1) / 10 + 1e-12 or (row.truth == 0 and part == 0)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_each_tenth_ends_with_its_own_bound(kind):
    """Also as a table stores it: 0.3 in float32 is more than three tenths."""
    bounds = np.arange(1, 11, dtype=kind) / kind(10)
    assert bins_of(bounds).tolist() == list(range(10))
    assert bins_of(bounds[:-1] + kind(1e-5)).tolist() == list(range(1, 10))
    assert bins_of(np.array([0, 1e-5], dtype=kind)).tolist() == [0, 0]


@given(marked_rows())
def test_the_first_of_a_trace_has_no_prediction_before_it(rows):
    where = positions(rows)
    for i, row in enumerate(rows):
        first = i == 0 or rows[i - 1].trace != row.trace
        assert where.first[i] == first
        assert where.previous[i] == (0 if first else rows[i - 1].predicted)


def test_macro_and_micro_differ_as_worked_out_by_hand():
    """One trace with errors .1, .1, .4 and one with .6: means .2 and .6."""
    rows = [Row(0, 0, 0.1, 0.2), Row(0, 0, 0.2, 0.3), Row(0, 0, 0.5, 0.9), Row(1, 1, 0.4, 1.0)]
    found = prediction_errors(positions(rows), everywhere(rows))["mae"]["raw"]
    assert value(found["macro"]) == pytest.approx(0.4)
    assert value(found["micro"]) == pytest.approx(0.3)


# --- intervals


def plain_intervals(ratios: Sequence[Ratio], seed: int, draws: int) -> list[tuple[float, float]]:
    """The bootstrap, a draw and a problem at a time."""
    problems = len(ratios[0].top)
    drawn = np.concatenate(list(drawn_problems(problems, seed, draws)))
    assert drawn.shape == (draws, problems) and (drawn.sum(axis=1) == problems).all()
    found = []
    for own in ratios:
        values = []
        for counts in drawn:
            top = sum(counts[i] * own.top[i] for i in range(problems))
            bottom = sum(counts[i] * own.bottom[i] for i in range(problems))
            values += [top / bottom] if bottom else []
        low, high = np.quantile(values, [0.025, 0.975])
        found.append((float(low), float(high)))
    return found


def test_intervals_are_those_of_the_plain_bootstrap():
    random = np.random.default_rng(0)
    bottoms = random.integers(0, 5, (3, 7)).astype(float)
    ratios = [Ratio(random.random(7) * own, own) for own in bottoms]
    expected = plain_intervals(ratios, seed=3, draws=200)
    for own, (low, high) in zip(estimate_ratios(ratios, 3, 200), expected, strict=True):
        assert (own.low, own.high) == (pytest.approx(low), pytest.approx(high))


def test_one_trace_a_problem_gives_the_interval_of_sample_metrics():
    values = np.random.default_rng(1).random(40)
    (own,) = estimate_ratios([Ratio(values, np.ones(40))], seed=5)
    expected = estimate_mean(values, seed=5)
    assert own.mean == pytest.approx(expected.mean)
    assert (own.low, own.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_many_traces_of_one_problem_do_not_narrow_the_interval():
    """Ten problems with one trace each, and the same ten with that trace a hundred times."""
    errors = np.random.default_rng(2).random(10)
    once, often = estimate_ratios(
        [Ratio(errors, np.ones(10)), Ratio(100 * errors, 100 * np.ones(10))]
    )
    assert (once.low, once.high) == (pytest.approx(often.low), pytest.approx(often.high))


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(4)
    covered = 0
    for seed in range(200):
        traces = random.integers(1, 6, 60)
        level = random.normal(0.2, 0.05, 60)  # of each problem
        top = np.array([random.normal(level[i], 0.05, n).sum() for i, n in enumerate(traces)])
        (own,) = estimate_ratios([Ratio(top, traces.astype(float))], seed, draws=400)
        assert own.low is not None and own.high is not None
        covered += own.low <= 0.2 <= own.high
    assert 0.88 <= covered / 200 <= 0.99


def test_a_difference_has_a_narrower_interval_than_its_sides():
    """All are taken of the same drawn problems."""
    random = np.random.default_rng(6)
    level = random.random(30)
    sides = [Ratio(level + random.normal(0, 0.01, 30), np.ones(30)) for _ in range(2)]
    minus = Ratio(sides[0].top - sides[1].top, np.ones(30))
    widths = [
        own.high - own.low for own in estimate_ratios([*sides, minus]) if own.high and own.low
    ]
    assert widths[2] < 0.1 * min(widths[:2])


def test_estimates_stand_where_their_ratios_stood_and_say_nothing_of_nothing():
    some = Ratio(np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    tree = {"a": some, "b": [{"c": Ratio(np.zeros(2), np.zeros(2)), "name": "x", "n": 4}],
            "d": {"e": Ratio(np.array([0.0, 3.0]), np.array([0.0, 4.0]))}}  # fmt: skip
    found = estimate(tree, seed=1)
    assert found["a"]["mean"] == 1.0 and found["a"]["low"] == 0.5 and found["a"]["high"] == 1.5
    nothing = {"mean": None, "low": None, "high": None}
    assert found["b"] == [{"c": nothing, "name": "x", "n": 4}]
    assert found["d"]["e"] == {"mean": 0.75, "low": None, "high": None}
    json.dumps(found, allow_nan=False)
    assert estimate({}, seed=1) == {}


def test_blocks_of_the_bootstrap_change_nothing(monkeypatch):
    whole = np.concatenate(list(drawn_problems(9, 0, 50)))
    monkeypatch.setattr("progdata.training_refs.progress_metrics._BLOCK", 40)
    blocks = list(drawn_problems(9, 0, 50))
    assert len(blocks) > 5
    assert np.array_equal(np.concatenate(blocks), whole)


def test_traces_out_of_order_keep_their_problems():
    """Trace numbers may be any; each belongs to its own problem."""
    where = Positions(np.array([1, 0, 0]), np.array([9, 4, 4]), np.zeros(3), np.ones(3), 2)
    ratio = over_traces(np.array([0.5, 0.1, 0.3]), where)
    assert ratio.top.tolist() == [pytest.approx(0.2), 0.5] and ratio.bottom.tolist() == [1, 1]


def test_without_a_marker_there_is_nothing_to_say():
    none, nowhere = np.zeros(0), np.zeros(0, dtype=np.int64)
    found = estimate(both(none, Positions(nowhere, nowhere, none, none, 1)))
    assert found["macro"] == found["micro"] == {"mean": None, "low": None, "high": None}
