"""Measures of problems against tables worked out by hand, and against what the data's own makers
judged."""

from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import TRACES as FILES
from shared_data import needs_shared_data, read_traces

from progdata.builders.schema import problem_id
from progdata.builders.tokenizer import load_counter
from progdata.cards.problem_statistics import describe_problems
from progdata.releases.observed import Observed, observe, thinking_of
from progdata.releases.verified import verify_source
from progdata.verifiers.difficulty import (
    CUTS,
    TRACES,
    add_labels,
    answer_key,
    find_cut,
    majority,
    measure,
)
from progdata.verifiers.strata import add_bins
from progdata.verifiers.verdicts import STATUSES

NO_END, AT_LIMIT = CUTS


def traces(*rows: dict[str, Any]) -> pl.DataFrame:
    """Traces of one problem unless they say otherwise; `tokens` are 100 unless they say so."""
    default = {"problem_id": "p", "source": "s", "tokens": 100, "problem_tokens": 7}
    filled = [default | row for row in rows]
    return pl.DataFrame(filled, schema=TRACES | {"answer": pl.String})


def verdicts(*names: str | None) -> pl.DataFrame:
    return traces(*({"verdict": name} for name in names))


def measured(table: pl.DataFrame, cut_traces: Any = "ignore") -> dict[str, Any]:
    (row,) = measure(table, cut_traces).to_dicts()
    return row


@pytest.mark.parametrize(
    ("names", "graded", "decided", "correct", "pass_rate"),
    [
        (["correct", "wrong", "no_answer", "correct"], 4, 4, 2, 0.5),
        (["correct", "correct", "correct"], 3, 3, 3, 1.0),
        (["no_answer"], 1, 1, 0, 0.0),
        (["correct", "wrong", "timeout", "error"], 4, 2, 1, 0.5),  # over budget: no evidence
        (["timeout", "error"], 2, 0, 0, None),
        (["correct", "wrong", "wrong", None], 3, 3, 1, 1 / 3),  # one row without the gold
        ([None, None], 0, 0, 0, None),
    ],
)
def test_the_pass_rate_is_of_the_decided_traces(names, graded, decided, correct, pass_rate):
    row = measured(verdicts(*names))
    assert (row["traces"], row["graded"]) == (len(names), graded)
    assert (row["decided"], row["correct"], row["pass_rate"]) == (decided, correct, pass_rate)


def test_a_gold_that_cannot_be_read_makes_no_trace_wrong():
    row = measured(verdicts("gold_unparsable", "no_answer", "no_answer"))
    assert row["gradable"] is False
    assert (row["decided"], row["pass_rate"]) == (0, None)
    assert measured(verdicts("no_answer", "wrong"))["gradable"] is True
    assert measured(verdicts(None, None))["gradable"] is None


CUT_SAMPLES = [
    {"verdict": "correct"},
    {"verdict": "wrong"},
    {"verdict": "no_answer", "cut": NO_END},
    {"verdict": "correct", "cut": AT_LIMIT},  # its answer may be one that it went on to doubt
]


@pytest.mark.parametrize(
    ("cut_traces", "decided", "pass_rate"), [("ignore", 2, 1 / 2), ("wrong", 4, 1 / 4)]
)
def test_a_cut_trace_is_wrong_only_where_the_recipe_says_so(cut_traces, decided, pass_rate):
    row = measured(traces(*CUT_SAMPLES), cut_traces)
    assert (row["decided"], row["pass_rate"]) == (decided, pass_rate)
    assert (row["cut"], row["finished_share"]) == (2, 0.5)


def test_cut_traces_without_a_gold_to_fail_are_never_wrong():
    cut = {"cut": NO_END}
    assert measured(traces(cut, cut), "wrong")["pass_rate"] is None
    unreadable = {"verdict": "gold_unparsable"}
    assert measured(traces(unreadable, cut | {"verdict": "no_answer"}), "wrong")["decided"] == 0


def test_all_traces_cut_leaves_the_pass_rate_unknown():
    row = measured(traces(*[{"verdict": "no_answer", "cut": NO_END}] * 3))
    assert (row["decided"], row["pass_rate"], row["finished_share"]) == (0, None, 0.0)


@pytest.mark.parametrize(
    ("closed", "reason", "cut"),
    [
        (True, None, None),
        (True, "stop", None),
        (True, "length", AT_LIMIT),
        (True, "MAX_TOKENS", AT_LIMIT),
        (False, "length", NO_END),
        (False, "stop", NO_END),
        (False, None, NO_END),
    ],
)
def test_a_trace_is_cut_without_an_end_of_thinking_or_at_the_limit(closed, reason, cut):
    row = pl.DataFrame({"c": [closed], "r": [reason]}, schema={"c": pl.Boolean, "r": pl.String})
    assert row.select(find_cut(pl.col("c"), pl.col("r"))).item() == cut


@pytest.mark.parametrize(
    ("by_model", "models", "variation"),
    [
        ({"a": "cccc", "b": "cw"}, 2, 1 / 3),  # rates 1 and 1/2: mean 3/4, deviation 1/4
        ({"a": "c", "b": "cw", "c": "w"}, 3, (2 / 3) ** 0.5),  # 1, 1/2, 0: sqrt(1/6) / (1/2)
        ({"a": "cw", "b": "wc"}, 2, 0.0),
        ({"a": "cwcw"}, 1, None),
        ({"a": "ww", "b": "w"}, 2, None),  # 0 / 0
        ({"a": "c", None: "w"}, 1, None),  # who is not named is no model
        ({"a": "c", "b": "t"}, 1, None),  # nor is one that nothing is decided of
        ({}, 0, None),
    ],
)
def test_variation_is_the_deviation_of_the_models_pass_rates_over_their_mean(
    by_model, models, variation
):
    names = {"c": "correct", "w": "wrong", "t": "timeout"}
    rows = [
        {"model": model, "verdict": names[letter]}
        for model, letters in by_model.items()
        for letter in letters
    ]
    row = measured(traces(*(rows or [{"verdict": "timeout"}])))
    assert row["models"] == models
    assert row["pass_rate_cv"] == (variation if variation is None else pytest.approx(variation))


def test_lengths_are_means_over_all_traces_the_cut_ones_as_far_as_they_got():
    row = measured(traces({"tokens": 100}, {"tokens": 300, "cut": NO_END}, {"tokens": 101}))
    assert (row["mean_tokens"], row["problem_tokens"]) == (167.0, 7)


def test_the_source_of_a_problem_is_the_one_of_most_of_its_traces():
    sources = ["b", "a", "b", "c"]
    assert measured(traces(*({"source": own} for own in sources)))["source"] == "b"
    assert measured(traces({"source": "b"}, {"source": "a"}))["source"] == "a"


def test_each_problem_is_measured_by_itself_in_the_order_of_their_ids():
    table = traces(
        {"problem_id": "y", "verdict": "wrong"},
        {"problem_id": "x", "verdict": "correct"},
        {"problem_id": "y", "verdict": "correct"},
    )
    found = measure(table)
    assert found.select("problem_id", "pass_rate").rows() == [("x", 1.0), ("y", 0.5)]
    assert measure(table.clear()).height == 0


@pytest.mark.parametrize(
    ("answers", "answer", "share"),
    [
        ([r"\frac{1}{2}", "0.5", "1/2", r"\dfrac12", "2"], "0.5", 4 / 5),
        (["1,000", "1000", "1000", "10"], "1000", 3 / 4),
        (["7", "7", None, None], "7", 1 / 2),  # no answer is no vote, and a trace all the same
        (["3", "2"], "2", 1 / 2),  # a tie: the first by its text
        ([r"\text{Tuesday}", "tuesday.", "Friday"], r"\text{Tuesday}", 2 / 3),
        (["三", "三", "四"], "三", 2 / 3),
        (["9" * 400, "9" * 400, "8"], "9" * 400, 2 / 3),
    ],
)
def test_the_majority_answer_counts_equal_answers_together(answers, answer, share):
    (row,) = majority(traces(*({"answer": own} for own in answers))).to_dicts()
    assert (row["majority_answer"], row["majority_share"]) == (answer, pytest.approx(share))


@pytest.mark.parametrize(("cut_traces", "share"), [("ignore", 1.0), ("wrong", 1 / 3)])
def test_a_cut_trace_has_no_vote(cut_traces, share):
    table = traces(
        {"answer": "5"}, {"answer": "6", "cut": AT_LIMIT}, {"answer": None, "cut": NO_END}
    )
    (row,) = majority(table, cut_traces).to_dicts()
    assert (row["majority_answer"], row["majority_share"]) == ("5", pytest.approx(share))


def test_a_problem_without_any_answer_has_no_majority():
    assert majority(traces({"answer": None}, {"answer": "1", "cut": NO_END})).height == 0


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("5", r"5\text{ cm}", True),
        (r"\left(3, 4\right)", "(3, 4)", True),
        ("\u22125", "-5", True),
        ("5", "-5", False),
        ("7", "7.0", True),
        (".25", r"\frac{1}{4}", True),
        ("1,234.50", "1234.5", True),
        ("1,23", "123", False),
        ("1.2.3", "1.23", False),
        ("AB", "ab", False),
        ("1,2", "12", False),
        (r"2\sqrt{2}", r"\sqrt{8}", False),  # computer algebra is not asked
    ],
)
def test_answers_are_equal_by_their_normal_form(first, second, same):
    assert (answer_key(first) == answer_key(second)) is same


def test_a_label_is_the_gold_or_else_the_majority_and_says_which():
    table = pl.DataFrame(
        {
            "answer": ["1", None, None],
            "majority_answer": ["2", "3", None],
        }
    )
    found = add_labels(table).select("label", "label_source").rows()
    assert found == [("1", "gold"), ("3", "majority"), (None, None)]


samples = st.fixed_dictionaries(
    {
        "problem_id": st.sampled_from("pqr"),
        "source": st.sampled_from("st"),
        "model": st.sampled_from(["a", "b", "c", None]),
        "verdict": st.sampled_from([*STATUSES, None]),
        "cut": st.sampled_from([None, None, *CUTS]),
        "tokens": st.integers(0, 1 << 20),
        "answer": st.sampled_from(["1", "1.0", "2", "1/2", "0.5", r"\frac{1}{2}", None]),
    }
)


@given(
    rows=st.lists(samples, max_size=30), data=st.data(), cut=st.sampled_from(["ignore", "wrong"])
)
def test_measures_do_not_depend_on_the_order_of_the_traces(rows, data, cut):
    shuffled = data.draw(st.permutations(rows))
    for function in (measure, majority):
        first, second = function(traces(*rows), cut), function(traces(*shuffled), cut)
        assert first.equals(second), function.__name__


@given(rows=st.lists(samples, min_size=1, max_size=30))
def test_every_measure_is_in_its_range(rows):
    for row in measure(traces(*rows)).to_dicts():
        assert row["correct"] <= row["decided"] <= row["graded"] <= row["traces"]
        assert 0 <= row["finished_share"] <= 1
        assert (row["pass_rate"] is None) == (row["decided"] == 0)
        assert row["pass_rate_cv"] is None or row["pass_rate_cv"] >= 0
    for row in majority(traces(*rows)).to_dicts():
        assert 0 < row["majority_share"] <= 1


def test_thinking_is_counted_as_a_build_counts_it():
    assert thinking_of("<think>\na</think>b") == "\na"
    assert thinking_of("a</think>b") == "a"
    assert thinking_of("</think>b") == ""
    assert thinking_of("<think>a</think>b<think>c</think>d") == "a</think>b<think>c"


@cache
def observed(name: str, folder: Path) -> Observed:
    """A file of real traces, graded and read."""
    verify_source(str(FILES / name), out=folder / name)
    return observe(folder / name / "verified.parquet", load_counter(None, False))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("graded")


@needs_shared_data
def test_with_cut_traces_wrong_the_pass_rates_are_those_the_makers_of_the_data_judged(folder):
    """Their judge called each of 130 samples right or wrong, the cut ones wrong."""
    judged = defaultdict(list)
    for row in read_traces("r1_14b_aime_samples.jsonl.gz"):
        judged[problem_id(row["problem"])].append(row["judged_correct"])
    expected = {problem: sum(own) / len(own) for problem, own in judged.items()}
    found = observed("r1_14b_aime_samples.jsonl.gz", folder)
    wrong = measure(found.traces, "wrong")
    assert dict(wrong.select("problem_id", "pass_rate").iter_rows()) == expected
    ignored = measure(found.traces)
    assert ignored.filter(pl.col("cut") > 0).height == 7
    higher = [
        rate > expected[problem]
        for problem, rate in ignored.select("problem_id", "pass_rate").iter_rows()
    ]
    assert sum(higher) == 6


@needs_shared_data
def test_sixteen_samples_of_each_math_problem_spread_over_all_pass_rates(folder):
    found = observed("r1_8b_math500_16_samples.jsonl.gz", folder)
    problems = add_bins(measure(found.traces))
    assert problems["traces"].to_list() == [16] * 68
    by_problem = defaultdict(list)
    for row in found.traces.to_dicts():
        if row["cut"] is None:
            by_problem[row["problem_id"]].append(row["verdict"] == "correct")
    for row in problems.to_dicts():
        own = by_problem[row["problem_id"]]
        assert row["decided"] == len(own)
        assert row["pass_rate"] == (sum(own) / len(own) if own else None)
    assert describe_problems(problems)["pass_rate"]["ranges"] == {
        "0": 1, "0 to 0.25": 3, "0.25 to 0.5": 3, "0.5 to 0.75": 14, "0.75 to 1": 27,
        "1": 19, "unknown": 1,
    }  # fmt: skip


@needs_shared_data
def test_without_golds_the_majority_labels_the_problems(folder):
    """These traces were selected for being correct, so that those of a problem must agree."""
    found = observed("no_gold_math.jsonl.gz", folder)
    labels = add_labels(found.problems.join(majority(found.traces), on="problem_id", how="left"))
    assert labels["label_source"].to_list() == ["majority"] * 89
    split = labels.filter(pl.col("majority_share") < 1).select("majority_answer", "majority_share")
    assert split.rows() == [("71", pytest.approx(2 / 3))]  # the third says 71\%
    assert measure(found.traces)["pass_rate"].null_count() == 89
