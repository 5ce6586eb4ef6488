"""What several samples of a problem show, against numbers worked out by hand and by brute force."""

from itertools import combinations, pairwise
from math import comb
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progdata.verifiers.difficulty import CUTS
from progdata.verifiers.majority_votes import MajorityAtK, majority_at_k
from progdata.verifiers.sample_metrics import (
    SAMPLES,
    Estimate,
    ProblemCounts,
    count_problems,
    default_cutoffs,
    default_ks,
    estimate_mean,
    judge_samples,
    pass_at_k,
    pass_chances,
    share_by_context,
)
from progdata.verifiers.verdicts import STATUSES

NO_END, AT_LIMIT = CUTS


def samples(*rows: dict[str, Any]) -> pl.DataFrame:
    """Judged samples; of problem p, correct and 100 tokens long unless they say otherwise."""
    default = {"problem_id": "p", "verdict": "correct", "tokens": 100}
    return judge_samples(pl.DataFrame([default | row for row in rows], schema=SAMPLES))


def decided(*rows: dict[str, Any]) -> pl.DataFrame:
    return samples(*rows).filter(pl.col("passed").is_not_null())


def says(answer: str | None, verdict: str = "wrong", **fields: Any) -> dict[str, Any]:
    return {"answer": answer, "verdict": verdict, **fields}


def counts_of(*pairs: tuple[int, int]) -> ProblemCounts:
    """Counts of problems with so many samples, and so many correct ones among them."""
    columns = np.array(pairs, np.int64).reshape(-1, 2)
    return ProblemCounts(columns[:, 0], columns[:, 1])


def voted(rows: list[dict[str, Any]], k: int, **fields: Any) -> MajorityAtK:
    (found,) = majority_at_k(decided(*rows), [k], **fields)
    return found


@pytest.mark.parametrize(
    ("row", "passed", "left_out"),
    [
        ({}, True, None),
        ({"verdict": "wrong"}, False, None),
        ({"verdict": "no_answer"}, False, None),
        ({"verdict": "correct", "cut": AT_LIMIT}, False, None),
        ({"verdict": "no_answer", "cut": NO_END}, False, None),
        ({"verdict": "timeout"}, None, "timeout"),
        ({"verdict": "error"}, None, "error"),
        ({"verdict": "gold_unparsable"}, None, "gold_unparsable"),
        ({"verdict": None}, None, "no_gold"),
        ({"verdict": None, "cut": NO_END}, None, "no_gold"),
    ],
)
def test_a_cut_sample_is_wrong_and_one_that_nothing_is_known_of_left_out(row, passed, left_out):
    (found,) = samples(row).select("passed", "left_out").rows()
    assert found == (passed, left_out)


def test_a_gold_that_cannot_be_read_leaves_out_every_sample_of_its_problem():
    rows = [{"verdict": "gold_unparsable"}, {"verdict": "no_answer", "cut": NO_END}, {}]
    found = samples(*rows, {"problem_id": "q"})
    assert found["left_out"].to_list() == ["gold_unparsable"] * 3 + [None]


def test_problems_are_counted_in_the_order_of_their_ids():
    rows = [{"problem_id": own, "verdict": "wrong"} for own in "hgfedcba"]
    found = count_problems(decided(*rows, {"problem_id": "b"}, {"problem_id": "g"}))
    assert found.samples.tolist() == [1, 2, 1, 1, 1, 1, 2, 1]
    assert found.correct.tolist() == [0, 1, 0, 0, 0, 0, 1, 0]
    assert found.rates.tolist() == [0, 0.5, 0, 0, 0, 0, 0.5, 0]


@pytest.mark.parametrize(
    ("n", "c", "k", "chance"),
    [
        (5, 2, 1, 2 / 5),
        (5, 2, 2, 7 / 10),  # 1 - C(3,2) / C(5,2) = 1 - 3/10
        (5, 2, 3, 9 / 10),
        (5, 2, 4, 1.0),
        (16, 0, 16, 0.0),
        (16, 1, 16, 1.0),
        (16, 1, 8, 1 / 2),
        (64, 13, 17, 1 - comb(51, 17) / comb(64, 17)),
        (10_000, 5, 1_000, 1 - comb(9_995, 1_000) / comb(10_000, 1_000)),  # of 1,400 digits
    ],
)
def test_pass_at_k_is_the_unbiased_estimate(n, c, k, chance):
    assert pass_chances(counts_of((n, c)), k).tolist() == [pytest.approx(chance, rel=1e-12)]


@given(n=st.integers(1, 8), data=st.data())
def test_pass_at_k_is_the_share_of_all_subsets_that_hold_a_correct_sample(n, data):
    outcomes = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    k = data.draw(st.integers(1, n))
    subsets = [any(subset) for subset in combinations(outcomes, k)]
    found = pass_chances(counts_of((n, sum(outcomes))), k)
    assert found.tolist() == [pytest.approx(sum(subsets) / len(subsets))]


pairs = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@given(own=st.lists(pairs, min_size=1, max_size=20))
def test_pass_at_k_never_falls_and_starts_at_the_pass_rate(own):
    counts = counts_of(*own)
    assert pass_chances(counts, 1) == pytest.approx(counts.rates)
    least = int(counts.samples.min())
    curve = [pass_chances(counts, k) for k in range(1, least + 1)]
    for lower, higher in pairwise(curve):
        assert (higher >= lower - 1e-12).all() and (higher <= 1).all()


def test_each_k_is_over_the_problems_with_as_many_samples():
    one, two, five = pass_at_k(counts_of((1, 1), (2, 1), (4, 1)), [1, 2, 5])
    assert (one.problems, one.estimate.mean) == (3, pytest.approx((1 + 1 / 2 + 1 / 4) / 3))
    assert (two.problems, two.estimate.mean) == (2, pytest.approx((1 + 1 / 2) / 2))
    assert (five.problems, five.estimate) == (0, Estimate(None, None, None))


@pytest.mark.parametrize(
    ("numbers", "ks"),
    [
        ([16, 16, 16], [1, 2, 4, 8, 16]),
        ([5, 5, 5, 10], [1, 2, 4, 5]),
        ([1, 1, 1, 10], [1]),
        ([1, 10], [1]),
        ([1, 6, 10], [1, 2, 4, 6]),
        ([], [1]),
    ],
)
def test_the_default_ks_are_those_that_half_of_the_problems_reach(numbers, ks):
    assert default_ks(np.array(numbers, np.int64)) == ks


def test_the_interval_is_that_of_problems_drawn_with_replacement():
    """Of 100 problems, half solved: the binomial's 2.5 % and 97.5 % points are 0.40 and 0.60."""
    found = estimate_mean(np.array([0.0, 1.0] * 50))
    assert found.mean == 0.5
    assert found.low == pytest.approx(0.40, abs=0.011)
    assert found.high == pytest.approx(0.60, abs=0.011)


def test_the_interval_of_few_draws_is_exact_by_enumeration():
    """Of two problems a quarter of the draws has the mean 0, a quarter 1."""
    assert estimate_mean(np.array([0.0, 1.0])) == Estimate(0.5, 0.0, 1.0)
    assert estimate_mean(np.array([0.25] * 9)) == Estimate(0.25, 0.25, 0.25)


def test_one_problem_has_no_interval_and_none_no_mean():
    assert estimate_mean(np.array([0.25])) == Estimate(0.25, None, None)
    assert estimate_mean(np.array([])) == Estimate(None, None, None)


def test_the_seed_decides_the_interval():
    values = np.linspace(0, 1, 30) ** 2
    assert estimate_mean(values, seed=1) == estimate_mean(values, seed=1)
    assert estimate_mean(values, seed=1) != estimate_mean(values, seed=2)


@pytest.mark.parametrize(
    ("rows", "mean"),
    [
        ([says("5", "correct"), says(r"\frac{10}{2}", "correct"), says("6")], 1.0),
        ([says("6"), says("6.0"), says("5", "correct")], 0.0),
        ([says("5", "correct"), says(None, "no_answer"), says(None, "no_answer")], 1.0),
        ([says("5", "correct"), says("6", cut=AT_LIMIT), says("6", cut=AT_LIMIT)], 1.0),
        ([says("5", "correct", cut=AT_LIMIT)] * 3, 0.0),  # no vote at all
        ([says("?", "no_answer"), says("?", "no_answer"), says("5", "correct")], 1.0),
        ([says("5", "correct"), says("5", "correct"), says("5")], 1.0),  # most of its samples
        ([says("5"), says("5"), says("5", "correct")], 0.0),
        ([says("5"), says("5", "correct")], 0.0),
    ],
)
def test_the_majority_of_all_samples_decides(rows, mean):
    found = voted(rows, len(rows))
    assert (found.problems, found.mean, found.deviation) == (1, mean, 0.0)


def test_ties_are_broken_by_chance():
    pair = [says("5", "correct"), says("6")]
    assert voted(pair, 2, draws=4_000).mean == pytest.approx(1 / 2, abs=0.04)
    three = [*pair, says("7")]
    assert voted(three, 3, draws=4_000).mean == pytest.approx(1 / 3, abs=0.04)


def test_maj_at_1_is_the_pass_rate_with_the_deviation_of_a_draw():
    """Two problems with rates 1/4 and 1: variance of their mean (1/4 * 3/4) / 4."""
    rows = [says("5", "correct"), *[says(own) for own in "678"]]
    rows += [says("5", "correct", problem_id="q")] * 3
    found = voted(rows, 1, draws=8_000)
    assert found.mean == pytest.approx((1 / 4 + 1) / 2, abs=0.01)
    assert found.deviation == pytest.approx((3 / 16) ** 0.5 / 2, abs=0.01)


@settings(max_examples=20)
@given(answers=st.lists(st.sampled_from(["5", "6", "7", None]), min_size=2, max_size=6))
def test_maj_at_k_is_the_mean_over_all_subsets(answers):
    """Over all subsets, a tie counts with the chance that the right answer is drawn from it."""
    k = max(len(answers) - 2, 1)
    rows = [says(own, "correct" if own == "5" else "wrong" if own else "no_answer")
            for own in answers]  # fmt: skip
    found = voted(rows, k, draws=3_000)
    exact = [chance_of_five(subset) for subset in combinations(answers, k)]
    assert found.mean == pytest.approx(sum(exact) / len(exact), abs=0.05)


def chance_of_five(subset: tuple[str | None, ...]) -> float:
    votes = [own for own in subset if own]
    most = max(map(votes.count, votes), default=0)
    tied = {own for own in votes if votes.count(own) == most}
    return ("5" in tied) / len(tied) if tied else 0.0


def test_maj_at_k_is_over_problems_with_as_many_samples_and_says_what_they_cost():
    rows = [says("5", "correct", tokens=own) for own in (100, 200, 300)]
    rows += [says("6", problem_id="q", tokens=1_000)]
    one, three, four = majority_at_k(decided(*rows), [1, 3, 4])
    assert one == MajorityAtK(1, 2, 0.5, 0.0, (200 + 1_000) / 2)
    assert three == MajorityAtK(3, 1, 1.0, 0.0, 600.0)
    assert four == MajorityAtK(4, 0, None, None, None)


def test_the_draws_of_a_problem_do_not_depend_on_the_others():
    rows = [says("5", "correct"), says("6"), says("7"), says(None, "no_answer")]
    alone = voted(rows, 2)
    unsolved = [says("6", problem_id="a")] * 2
    together = voted([*unsolved, *rows], 2)
    assert together.mean == pytest.approx((alone.mean or 0) / 2)


CONTEXT_ROWS = [
    {"tokens": 100},
    {"tokens": 300},
    {"tokens": 50, "verdict": "wrong"},
    {"tokens": 60, "cut": AT_LIMIT},
    {"tokens": 200, "problem_id": "q"},
]


@pytest.mark.parametrize(
    ("cutoff", "coverage", "solved", "truncated"),
    [
        (50, 0.0, 0.0, 4 / 5),
        (99, 0.0, 0.0, 4 / 5),
        (100, 1 / 8, 1 / 2, 3 / 5),  # a quarter of p, nothing of q; a cut one stays truncated
        (200, 5 / 8, 1.0, 2 / 5),
        (300, 3 / 4, 1.0, 1 / 5),
    ],
)
def test_coverage_and_truncation_are_counted_within_the_cutoff(cutoff, coverage, solved, truncated):
    (found,) = share_by_context(decided(*CONTEXT_ROWS), [cutoff])
    assert found.coverage == pytest.approx(coverage)
    assert (found.problems_solved, found.truncated) == (solved, pytest.approx(truncated))


@pytest.mark.parametrize(
    ("tokens", "cutoffs"),
    [
        ([700, 3000], [512, 768, 1024, 1536, 2048, 3072]),
        ([512, 1024], [384, 512, 768, 1024]),
        ([1, 65], [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96]),
        ([5], [4, 6]),
        ([1], [1]),
        ([0], [1]),
    ],
)
def test_cutoffs_are_powers_of_two_and_the_middles_between_them(tokens, cutoffs):
    assert default_cutoffs(np.array(tokens)) == cutoffs


@given(tokens=st.lists(st.integers(1, 1 << 20), min_size=1, max_size=9))
def test_the_longest_completion_fits_into_the_last_cutoff_and_no_other(tokens):
    cutoffs = default_cutoffs(np.array(tokens))
    assert cutoffs[0] > 0 and cutoffs == sorted(set(cutoffs)) and len(cutoffs) <= 14
    assert cutoffs[-1] >= max(tokens)
    assert all(own < max(tokens) for own in cutoffs[:-1])


own_sample = st.fixed_dictionaries(
    {
        "problem_id": st.sampled_from("pqr"),
        "verdict": st.sampled_from([*STATUSES, "correct", "wrong", None]),
        "cut": st.sampled_from([None, None, *CUTS]),
        "answer": st.sampled_from(["1", "1.0", "2", "1/2", "0.5", r"\frac{1}{2}", None]),
        "tokens": st.integers(1, 40),
    }
)
own_samples = st.lists(own_sample, min_size=1, max_size=20)


@given(rows=own_samples)
def test_a_sample_is_either_decided_or_left_out_for_a_reason(rows):
    found = samples(*rows)
    assert (found["passed"].is_null() == found["left_out"].is_not_null()).all()


@given(rows=own_samples)
def test_coverage_never_falls_and_truncation_never_rises(rows):
    table = decided(*rows)
    if not table.height:
        return
    found = share_by_context(table, range(1, 42))
    for lower, higher in pairwise(found):
        assert higher.coverage >= lower.coverage and higher.truncated <= lower.truncated
        assert higher.problems_solved >= lower.problems_solved
    assert all(own.coverage <= own.problems_solved for own in found)
    assert found[-1].coverage == pytest.approx(count_problems(table).rates.mean())
    assert found[-1].truncated == table["cut"].is_not_null().mean()


@settings(max_examples=40)
@given(rows=own_samples, data=st.data())
def test_nothing_depends_on_the_order_of_the_samples(rows, data):
    first, second = decided(*rows), decided(*data.draw(st.permutations(rows)))
    if not first.height:
        return
    ks, cutoffs = [1, 2, 3], [5, 20]
    assert majority_at_k(first, ks, draws=40) == majority_at_k(second, ks, draws=40)
    assert share_by_context(first, cutoffs) == share_by_context(second, cutoffs)
    assert pass_at_k(count_problems(first), ks) == pass_at_k(count_problems(second), ks)


@pytest.mark.parametrize("solved", [(), ("p",), ("p", "q")])
def test_all_samples_without_a_tie_leave_nothing_to_chance(solved):
    rows = [
        says(answer, "correct" if problem in solved else "wrong", problem_id=problem)
        for problem in ("p", "q")
        for answer in ("5", "5.0", "10/2")
    ]
    lost = [says("8", problem_id=own) for own in "pq"] + [says(None, "no_answer", problem_id="q")]
    (found, *_) = majority_at_k(decided(*rows, *lost), [4])
    assert (found.mean, found.deviation) == (len(solved) / 2, 0.0)
