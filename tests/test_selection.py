"""The steps of a selection, and samples: every row is kept, or dropped for a reason."""

from collections import Counter
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from progdata.builders.errors import UsageError
from progdata.verifiers.difficulty import CUTS, TRACES, measure
from progdata.verifiers.selection import CurateSettings, Selection, read_range, select
from progdata.verifiers.strata import add_bins, draw, third_bounds
from progdata.verifiers.verdicts import STATUSES


def traces(*rows: dict[str, Any]) -> pl.DataFrame:
    default = {"problem_id": "p", "source": "s", "tokens": 100, "problem_tokens": 7}
    table = pl.DataFrame([default | row for row in rows], schema=TRACES)
    return table.with_row_index("row")


def samples(problem: str, correct: int, wrong: int, **fields: Any) -> list[dict[str, Any]]:
    """Finished traces of a problem."""
    row = {"problem_id": problem} | fields
    return [row | {"verdict": "correct"}] * correct + [row | {"verdict": "wrong"}] * wrong


def chosen(table: pl.DataFrame, **settings: Any) -> Selection:
    own = CurateSettings(**settings)
    problems = add_bins(measure(table, own.cut_traces), own.length_of, own.stratify)
    return select(table, problems, own)


def kept(table: pl.DataFrame, **settings: Any) -> list[str]:
    """The problems that stay."""
    rows = chosen(table, **settings).kept.implode()
    return sorted(set(table.filter(pl.col("row").is_in(rows))["problem_id"]))


# The steps


def test_the_bounds_of_the_pass_rate_belong_to_the_range():
    table = traces(*(row for n in range(11) for row in samples(f"{n:02}", n, 10 - n)))
    inside = [f"{n:02}" for n in range(1, 10)]
    assert kept(table, pass_rate=(0.1, 0.9)) == inside
    assert kept(table, pass_rate=(0.0, 0.1)) == ["00", "01"]
    assert kept(table, pass_rate=(0.3, 0.3)) == ["03"]


UNDECIDED = [{"verdict": "timeout"}, {"verdict": "no_answer", "cut": CUTS[0]}]


@pytest.mark.parametrize(
    ("rows", "settings", "step", "reason", "evidence"),
    [
        (
            samples("p", 3, 0), {"pass_rate": (0.1, 0.9)},
            "pass_rate", "pass_rate_out_of_range",
            "pass rate 1.0, 3 of 3 decided traces; asked: 0.1 to 0.9",
        ),
        (
            UNDECIDED, {"pass_rate": (0.0, 1.0)},
            "pass_rate", "pass_rate_unknown",
            "decided traces of this problem: 0 of 2, with 2 graded and 1 cut off",
        ),
        ([{}], {"gradable": True}, "gradable", "no_gold", "the row has no answer to grade by"),
        (
            [{"verdict": "gold_unparsable"}], {"gradable": True},
            "gradable", "gold_not_gradable", "a trace of this problem was graded gold_unparsable",
        ),
        (
            [{"cut": CUTS[0]}], {"finished": True},
            "finished", "not_finished", "cut off: no </think>",
        ),
        (
            [{"cut": CUTS[1]}], {"finished": True},
            "finished", "not_finished", "cut off: finish_reason length",
        ),
        (
            samples("p", 1, 1), {"min_traces": 3},
            "min_traces", "too_few_traces", "traces of this problem that are left: 2; asked: 3 or "
            "more",
        ),
        (
            [{"tokens": 10}, {"tokens": 15}], {"length_bin": (13, 20)},
            "length", "length_out_of_range",
            "mean thinking of 12.5 tokens, in the bin short; asked: 13 to 20",
        ),
        (
            [{}], {"length_bin": "long", "length_of": "problem"},
            "length", "length_out_of_range",
            "problem of 7.0 tokens, in the bin short; asked: long",
        ),
    ],
)  # fmt: skip
def test_each_dropped_row_says_why(rows, settings, step, reason, evidence):
    found = chosen(traces(*rows), **settings)
    assert found.kept.is_empty()
    expected = [(row, step, reason, evidence) for row in range(len(rows))]
    assert found.dropped.rows() == expected


def test_an_undrawn_problem_says_its_place():
    table = traces(*(own for name in "abcd" for own in samples(name, 1, 0)))
    found = chosen(table, sample=3)
    assert found.dropped.select("step", "reason", "evidence").rows() == [
        ("sample", "not_sampled", "place 4 of 4 in stratum all; drawn: 3 in all")
    ]


def test_cut_traces_move_a_problem_into_the_range_only_where_they_count():
    rows = [*samples("p", 4, 0), {"problem_id": "p", "verdict": "no_answer", "cut": CUTS[0]}]
    assert kept(traces(*rows), pass_rate=(0.1, 0.9)) == []
    assert kept(traces(*rows), pass_rate=(0.1, 0.9), cut_traces="wrong") == ["p"]


def test_traces_are_counted_after_the_unfinished_ones_are_dropped():
    rows = [*samples("p", 2, 0), {"problem_id": "p", "cut": CUTS[0], "verdict": "no_answer"}]
    assert kept(traces(*rows), min_traces=3) == ["p"]
    found = chosen(traces(*rows), min_traces=3, finished=True)
    assert Counter(found.dropped["reason"]) == {"not_finished": 1, "too_few_traces": 2}


def test_without_a_filter_every_row_stays():
    table = traces(*samples("p", 1, 1), *UNDECIDED, {})
    found = chosen(table)
    assert found.kept.to_list() == table["row"].to_list() and found.funnel == []


def lengths(*tokens: int) -> pl.DataFrame:
    return traces(*({"problem_id": f"{n:02}", "tokens": own} for n, own in enumerate(tokens)))


def test_thirds_are_of_problems_and_equal_lengths_share_a_bin():
    table = lengths(50, 10, 40, 20, 60, 30)
    assert kept(table, length_bin="short") == ["01", "03"]
    assert kept(table, length_bin="middle") == ["02", "05"]
    assert kept(table, length_bin="long") == ["00", "04"]
    tied = lengths(5, 5, 5, 5, 9, 9)
    assert kept(tied, length_bin="short") == ["00", "01", "02", "03"]
    assert kept(tied, length_bin="middle") == []
    assert third_bounds(pl.Series([1.0, 2.0, 3.0])) == (1.0, 2.0)
    assert third_bounds(pl.Series(range(1, 11))) == (4.0, 7.0)  # 4 of 10 are a third, 3 are not
    assert third_bounds(pl.Series([], dtype=pl.Float64)) == (0.0, 0.0)


def test_a_length_range_holds_its_bounds():
    assert kept(lengths(9, 10, 15, 20, 21), length_bin=(10, 20)) == ["01", "02", "03"]


# Sampling


def stratified(sizes: dict[str, int]) -> pl.DataFrame:
    rows = [(f"{name}{n}", name) for name, size in sizes.items() for n in range(size)]
    return pl.DataFrame(rows, schema=["problem_id", "stratum"], orient="row")


def drawn(problems: pl.DataFrame, sample: int, *, each: bool = False, seed: int = 0) -> set[str]:
    return set(draw(problems, sample, each, seed).filter("drawn")["problem_id"])


SIZES = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 30), min_size=1)


@given(sizes=SIZES, sample=st.integers(1, 100))
def test_a_sample_has_the_size_that_is_asked_and_a_larger_one_holds_it(sizes, sample):
    problems = stratified(sizes)
    found = drawn(problems, sample)
    assert len(found) == min(sample, problems.height)
    assert found <= drawn(problems, sample + 1)


@given(sizes=SIZES, sample=st.integers(1, 40))
def test_so_many_of_each_stratum_or_all_that_it_has(sizes, sample):
    counts = Counter(name[0] for name in drawn(stratified(sizes), sample, each=True))
    assert counts == {name: min(sample, size) for name, size in sizes.items()}


def test_each_stratum_has_its_share_of_a_sample():
    problems = stratified({"a": 600, "b": 300, "c": 100})
    assert Counter(name[0] for name in drawn(problems, 50)) == {"a": 30, "b": 15, "c": 5}


@given(sizes=SIZES, sample=st.integers(1, 40), data=st.data())
def test_a_sample_does_not_depend_on_the_order_of_problems(sizes, sample, data):
    problems = stratified(sizes)
    order = data.draw(st.permutations(range(problems.height)))
    assert drawn(problems[list(order)], sample) == drawn(problems, sample)


def test_what_is_drawn_first_stays_first_when_other_problems_come():
    few, many = stratified({"a": 20}), stratified({"a": 40})
    first = drawn(many, 10)
    assert first & set(few["problem_id"]) <= drawn(few, 10)


def test_another_seed_draws_others():
    problems = stratified({"a": 1000})
    both = drawn(problems, 100) & drawn(problems, 100, seed=1)
    assert 1 <= len(both) <= 30  # 10 expected


def test_strata_by_pass_rate_are_quarters_with_0_and_1_apart():
    table = traces(*(row for n in range(9) for row in samples(f"{n}", n, 8 - n)), {})
    problems = add_bins(measure(table), stratify="pass-rate")
    assert problems["stratum"].to_list() == [
        "0", "0 to 0.25", "0 to 0.25", "0.25 to 0.5", "0.25 to 0.5", "0.5 to 0.75",
        "0.5 to 0.75", "0.75 to 1", "1", "unknown",
    ]  # fmt: skip


# Laws of any selection

observations = st.fixed_dictionaries(
    {
        "problem_id": st.sampled_from("pqrstu"),
        "source": st.sampled_from("ab"),
        "verdict": st.sampled_from([*STATUSES, None]),
        "cut": st.sampled_from([None, None, *CUTS]),
        "tokens": st.integers(0, 50),
    }
)
ranges = st.tuples(st.integers(0, 5), st.integers(5, 10)).map(
    lambda own: (own[0] / 10, own[1] / 10)
)
asked = st.fixed_dictionaries(
    {
        "pass_rate": st.none() | ranges,
        "length_bin": st.sampled_from([None, "short", "middle", "long", (10, 40)]),
        "finished": st.booleans(),
        "gradable": st.booleans(),
        "min_traces": st.integers(1, 3),
        "cut_traces": st.sampled_from(["ignore", "wrong"]),
        "seed": st.integers(0, 3),
    }
)
sampling = st.sampled_from(
    [
        {},
        {"sample": 2},
        {"sample": 3, "stratify": "length"},
        {"sample": 1, "stratify": "source", "per_stratum": True},
        {"sample": 1, "stratify": "pass-rate", "per_stratum": True},
    ]
)


@given(rows=st.lists(observations, max_size=40), settings=asked, sample=sampling)
def test_every_row_is_kept_or_dropped_once_with_a_reason(rows, settings, sample):
    table = traces(*rows)
    found = chosen(table, **settings, **sample)
    assert sorted([*found.kept, *found.dropped["row"]]) == list(range(len(rows)))
    assert found.dropped.null_count().sum_horizontal().item() == 0
    left = len(rows)
    for step in found.funnel:
        assert step["rows_in"] == left
        left -= sum(step["dropped"].values())
        assert step["rows_out"] == left
    assert left == len(found.kept)
    assert Counter(found.dropped["step"]) == {
        step["step"]: sum(step["dropped"].values()) for step in found.funnel if step["dropped"]
    }


@given(rows=st.lists(observations, max_size=30), settings=asked, sample=sampling, data=st.data())
def test_a_selection_does_not_depend_on_the_order_of_rows(rows, settings, sample, data):
    table = traces(*rows)
    order = data.draw(st.permutations(range(len(rows))))
    first = chosen(table, **settings, **sample)
    second = chosen(table[list(order)], **settings, **sample)
    assert sorted(first.kept) == sorted(second.kept)
    assert sorted(first.dropped.rows()) == sorted(second.dropped.rows())
    assert first.funnel == second.funnel


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pass_rate": (0.9, 0.1)}, "pass_rate 0.9:0.1: expected A:B with 0 <= A <= B <= 1"),
        ({"pass_rate": (0.1, float("nan"))}, "pass_rate 0.1:nan"),
        ({"length_bin": (-1, 5)}, "length_bin -1:5"),
        ({"length_bin": "shrt"}, "unknown length_bin 'shrt'; did you mean 'short'"),
        ({"stratify": "sources", "sample": 1}, "unknown stratify 'sources'; did you mean"),
        ({"cut_traces": "drop"}, "unknown cut_traces 'drop'"),
        ({"min_traces": 0}, "min_traces 0: give a number of at least 1"),
        ({"sample": 0}, "sample 0: give a number of at least 1"),
        ({"stratify": "source"}, "give sample as well"),
        ({"sample": 5, "per_stratum": True}, "say by what to stratify"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        CurateSettings(**settings)


@pytest.mark.parametrize("text", ["", ":", "0.1", "a:b", "1:", "0.1:0.9:1"])
def test_a_range_is_two_numbers(text):
    with pytest.raises(UsageError, match="write A:B"):
        read_range(text)
