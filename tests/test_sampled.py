"""`progdata stats --samples`: the report of a source or a build, its tables, its plot."""

import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from build_folder import countdown
from shared_data import TRACES, needs_shared_data, read_traces

from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.tokenizer import load_counter
from progdata.cards.plots import plot_coverage
from progdata.cards.sample_tables import samples_summary
from progdata.releases.build import build
from progdata.releases.recipe import load_recipe
from progdata.releases.sampled import sample_statistics

AIME = "r1_14b_aime_samples.jsonl.gz"

ROWS = [
    ("P", "5", r"<think>a b c</think> \boxed{5}"),
    ("P", "5", r"<think>a b c d</think> \boxed{5.0}"),
    ("P", "5", r"<think>a</think> \boxed{6}"),
    ("P", "5", "<think>a b c d e f"),
    ("Q", r"\frac{1}{2}", r"<think>a</think> \boxed{0.5}"),
    ("Q", r"\frac{1}{2}", "<think>a</think> I do not know"),
    ("no gold", None, r"<think>a</think> \boxed{5}"),
    ("prose", "The mean is larger since one of the values is large", "<think>a</think> b"),
    ("empty", "5", ""),
]
"""Problem, gold, completion."""


def write_rows(path: Path, rows: Sequence[tuple[str, str | None, str]] = ROWS) -> str:
    """A source with these rows; its path."""
    names = ("problem", "answer", "completion")
    lines = [dict(zip(names, row, strict=True)) for row in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return str(path)


def timeless(report: dict[str, Any]) -> dict[str, Any]:
    return {name: own for name, own in report.items() if name != "seconds"}


@cache
def real(name: str) -> dict[str, Any]:
    return sample_statistics(str(TRACES / name), workers=1)


def test_each_row_counts_once_and_the_others_are_counted_by_reason(tmp_path):
    report = sample_statistics(write_rows(tmp_path / "rows.jsonl"), workers=1)
    assert (report["rows"], report["samples"], report["problems"]) == (9, 6, 2)
    assert report["left_out"] == {"gold_unparsable": 1, "no_gold": 1}
    assert report["unreadable"] == {"empty_completion": 1}
    assert (report["problems_left_out"], report["cut"]) == (2, 1)
    assert report["samples_per_problem"]["p0"] == 2 and report["samples_per_problem"]["p100"] == 4
    assert report["models"] == {"unknown": 6}


def test_the_numbers_of_a_small_source_are_those_worked_out_by_hand(tmp_path):
    """P solves 2 of 4 samples, Q 1 of 2; the six are 15, 18, 13, 9, 15 and 11 tokens long."""
    report = sample_statistics(write_rows(tmp_path / "rows.jsonl"), ks=[2, 1, 8], workers=1)
    assert report["accuracy"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    one, two, eight = report["pass_at_k"]
    assert (one["k"], one["problems"], one["mean"]) == (1, 2, 0.5)
    assert (two["k"], two["problems"], two["mean"]) == (2, 2, round((5 / 6 + 1) / 2, 6))
    assert eight == {"k": 8, "problems": 0, "mean": None, "low": None, "high": None}
    lengths = [load_counter(None, False).starts([text]).per_text()[0] for _, _, text in ROWS[:6]]
    assert report["tokens"]["all"]["mean"] == pytest.approx(sum(lengths) / 6, abs=0.01)
    assert report["tokens"]["correct"]["samples"] == report["tokens"]["incorrect"]["samples"] == 3
    assert report["tokens"]["correct"]["p100"] == max(lengths[0], lengths[1], lengths[4])
    last = report["contexts"][-1]
    assert last["max_tokens"] >= max(lengths) and last["coverage"] == 0.5
    assert (last["problems_solved"], last["truncated"]) == (1.0, round(1 / 6, 6))


def test_the_order_of_the_rows_changes_nothing(tmp_path):
    first = sample_statistics(write_rows(tmp_path / "rows.jsonl"), workers=1)
    second = sample_statistics(write_rows(tmp_path / "rows.jsonl", ROWS[::-1]), workers=1)
    assert timeless(first) == timeless(second)


def test_the_report_is_json_without_nan_and_prints(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", ROWS[:1])
    report = sample_statistics(source, ks=[1, 3], plot=tmp_path / "plot.svg", workers=1)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    text = samples_summary(report)
    assert "accuracy: 100.0% (mean over problems, by math-verify)" in text
    assert text.endswith("plot.svg: coverage and truncation")
    assert "nan" not in text and "None" not in text


def test_several_models_are_named_as_pooled(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = {"problem": "P", "answer": "5", "completion": r"<think>a</think> \boxed{5}"}
    path.write_text("".join(json.dumps(row | {"model": own}) + "\n" for own in "bab"), "utf-8")
    report = sample_statistics(str(path), workers=1)
    assert report["models"] == {"a": 1, "b": 2}
    assert "samples of several models as if of one: a (1), b (2)" in samples_summary(report)


def test_a_source_of_which_nothing_can_be_decided_fails_and_says_why(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", ROWS[6:8])
    with pytest.raises(ProgdataError, match=r"1 gold_unparsable, 1 no_gold\); expected rows with"):
        sample_statistics(source, workers=1)
    nothing = write_rows(tmp_path / "nothing.jsonl", ROWS[8:])
    with pytest.raises(ProgdataError, match="no sample can be called right or wrong"):
        sample_statistics(nothing, workers=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ks": [0, 2]}, "found 0, 2; expected numbers from 1"),
        ({"ks": []}, "found none"),
        ({"grader": "math-verfy"}, "did you mean"),
        ({"grader": "both"}, "unknown grader 'both'"),
        ({"tokenizer": "no/such/tokenizer.json"}, "no file"),
        ({"plot": "plot.pdf"}, r"cannot plot to \.pdf; expected a file that ends in \.png or"),
        ({"plot": "plot"}, "a name without an ending"),
        ({"plot": "/dev/null/plot.png"}, "/dev/null is a file"),
    ],
)
def test_a_wrong_option_is_refused_before_the_work(options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        sample_statistics(str(tmp_path / "is never read.jsonl"), **options)


def test_a_folder_is_no_file_for_the_plot(tmp_path):
    (tmp_path / "plot.png").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        sample_statistics("countdown:1", plot=tmp_path / "plot.png")


@pytest.mark.parametrize("variant", ["clean", "masked-special"])
def test_a_build_gives_the_numbers_of_its_source(variant, tmp_path):
    """Its markers are no tokens of the samples."""
    build(countdown(30, [variant], policies={"cut_traces": "keep"}), tmp_path / "out")
    of_build = sample_statistics(str(tmp_path / "out"), workers=1)
    of_source = sample_statistics("countdown:30", workers=1)
    differing = {name for name in of_source if of_build[name] != of_source[name]}
    assert differing <= {"source", "seconds"}
    assert (of_build["samples"], of_build["cut"]) == (30, 1)


def test_escaped_tags_of_a_build_are_counted_as_they_were_sampled(tmp_path):
    rows = [("P", "5", r"<think>a <progressbar>5%</progressbar> b</think> \boxed{5}")]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    policies = {"marked_traces": "escape"}
    build(load_recipe(None, sources=[source], policies=policies), tmp_path / "out")
    of_build = sample_statistics(str(tmp_path / "out"), workers=1)
    assert of_build["tokens"] == sample_statistics(source, workers=1)["tokens"]


@pytest.mark.parametrize(
    ("ending", "begins"), [("png", b"\x89PNG\r\n"), ("svg", b"<?xml"), ("PNG", b"\x89PNG\r\n")]
)
def test_a_plot_is_a_file_of_its_format_with_the_same_bytes_each_time(ending, begins, tmp_path):
    source = write_rows(tmp_path / "rows.jsonl")
    first, second = tmp_path / f"first.{ending}", tmp_path / "new" / f"second.{ending}"
    report = sample_statistics(source, plot=first, workers=1)
    plot_coverage(report, second)
    assert first.read_bytes().startswith(begins) and len(first.read_bytes()) > 5_000
    assert first.read_bytes() == second.read_bytes()
    assert report["plot"] == str(first)
    assert [own.name for own in second.parent.iterdir()] == [second.name]


def test_a_plot_shows_its_axes_and_takes_names_as_they_are(tmp_path):
    report = sample_statistics(write_rows(tmp_path / r"a$\bad$ & <name>.jsonl"), workers=1)
    plot_coverage(report, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text("utf-8")
    for shown in (
        "Max tokens (words)",
        "Share (%)",
        "Truncated samples",
        "bad$ &amp; &lt;name&gt;",
    ):
        assert shown in text


def test_the_settings_of_the_user_change_no_plot_and_are_not_changed(tmp_path):
    from matplotlib import rc_context, rcParams

    report = sample_statistics(write_rows(tmp_path / "rows.jsonl"), workers=1)
    plot_coverage(report, tmp_path / "first.svg")
    with rc_context({"axes.facecolor": "red", "svg.hashsalt": "own"}):
        before = dict(rcParams)
        plot_coverage(report, tmp_path / "second.svg")
        assert dict(rcParams) == before
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()


@needs_shared_data
def test_the_accuracy_is_the_one_that_the_makers_of_the_data_judged():
    judged = defaultdict(list)
    for row in read_traces(AIME):
        judged[row["problem"]].append(row["judged_correct"])
    rates = [sum(own) / len(own) for own in judged.values()]
    report = real(AIME)
    assert report["accuracy"]["mean"] == pytest.approx(sum(rates) / len(rates), abs=1e-6)
    assert report["pass_at_k"][0]["mean"] == report["accuracy"]["mean"]
    assert report["accuracy"]["low"] < report["accuracy"]["mean"] < report["accuracy"]["high"]
    solved = sum(any(own) for own in judged.values()) / len(judged)
    assert report["contexts"][-1]["problems_solved"] == solved
    assert [own["k"] for own in report["majority_at_k"]] == [1, 2, 4, 5]
    tokens = report["tokens"]
    assert tokens["incorrect"]["mean"] > 1.5 * tokens["correct"]["mean"]  # as in table 1


@needs_shared_data
def test_sixteen_samples_gain_from_votes_and_more_from_the_best_of_them():
    report = real("r1_8b_math500_16_samples.jsonl.gz")
    assert [own["problems"] for own in report["pass_at_k"]] == [68] * 5
    passed = [own["mean"] for own in report["pass_at_k"]]
    voted = [own["mean"] for own in report["majority_at_k"]]
    assert passed == sorted(passed) and voted == sorted(voted)
    assert all(low <= high for low, high in zip(voted[1:], passed[1:], strict=True))
    assert report["majority_at_k"][0]["mean"] == pytest.approx(passed[0], abs=0.01)
    deviations = [own["deviation"] for own in report["majority_at_k"]]
    assert deviations == sorted(deviations, reverse=True)
    assert report["contexts"][-1]["coverage"] == report["accuracy"]["mean"]
    assert report["contexts"][-1]["truncated"] == pytest.approx(75 / 1088, abs=1e-6)


@needs_shared_data
def test_golds_that_are_prose_leave_their_samples_out():
    report = real("r1_14b_mixed_samples.jsonl.gz")
    sources = Counter(row["source"] for row in read_traces("r1_14b_mixed_samples.jsonl.gz"))
    assert sum(report["left_out"].values()) + report["samples"] == sources.total()
    assert report["left_out"]["gold_unparsable"] > 0.9 * sources["reasoning"]
    assert report["problems"] + report["problems_left_out"] == 318
    json.dumps(report, allow_nan=False)


# --- the command


def stats(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "progdata.cli", "stats", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@needs_shared_data
def test_the_command_prints_the_tables_and_writes_the_plot(tmp_path):
    source = str(TRACES / "r1_14b_aime_samples.jsonl.gz")
    done = stats(source, "--samples", "--k", "1", "--k", "4", "--plot", str(tmp_path / "c.png"))
    assert done.returncode == 0, done.stderr
    assert "pass@k" in done.stdout and "coverage" in done.stdout
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--k", "2"), "--k is an option of stats --samples"),
        (("--plot", "x.png"), "--plot is an option of stats --samples"),
        (("--grader", "deepscaler"), "--grader is an option of stats --samples"),
        (("--samples", "--segmenter", "newline"), "samples are not segmented"),
        (("--samples", "--plot", "x.pdf"), "x.pdf"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(arguments, message):
    done = stats("countdown:5", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
