"""`progdata eval`: the report of traces that report their progress, its tables and its plot."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from build_folder import countdown
from shared_data import TOKENIZER, TRACES, needs_shared_data

from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.markers import DEFAULT, MarkerGrammar, strip
from progdata.builders.prompts import find_profile
from progdata.builders.sampling_engines import EngineOptions
from progdata.builders.sources import find_source
from progdata.builders.tokenizer import find_tokenizer, load_counter
from progdata.cards.eval_plots import plot_progress
from progdata.cards.eval_tables import eval_summary
from progdata.releases.build import build
from progdata.releases.recipe import load_recipe
from progdata.releases.sampled import sample_statistics
from progdata.training_refs.evaluated import EvalSettings, evaluate
from progdata.training_refs.reported_progress import count_malformed, read_reported


def bar(label: object) -> str:
    return f"<progressbar>{label}%</progressbar>"


def box(think: str, answer: object = 5) -> str:
    return f"<think>{think}</think> \\boxed{{{answer}}}"


ROWS = [
    ("P", "5", box(f"a b{bar(50)} c d{bar(120)}") + bar(99)),
    ("P", "5", box(f"a{bar(-10)} b c d", 6)),
    ("P", "5", f"<think>a b{bar(30)} c"),
    ("Q", "7", box(f"a b c d e{bar(100)} f g h i j{bar(40)}", 7)),
    ("Q", "7", box("a b c")),
    ("R", None, box(f"<progressbar>?</progressbar>a b</progressbar>{bar('[37')} c")),
    ("R", None, box(f"{bar(0)}a b<progressbar>[75%]</progressbar> c d")),
    ("S", None, f"a{bar(5)} <think>b</think> c"),
    ("S", None, box(f"\n{bar(5)} ").replace("\n", "")),
    ("T", None, ""),
]
"""Problem, gold, completion. The truths of what is scored: 2/4, 4/4; 1/4; 5/10, 10/10; 0, 2/4."""


def write_rows(path: Path, rows: Sequence[tuple[str, str | None, str]] = ROWS) -> str:
    names = ("problem", "answer", "completion")
    lines = [dict(zip(names, row, strict=True)) for row in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return str(path)


@pytest.fixture
def settings(tmp_path) -> EvalSettings:
    return EvalSettings(write_rows(tmp_path / "rows.jsonl"), workers=1)


def timeless(report: dict[str, Any]) -> dict[str, Any]:
    return {name: own for name, own in report.items() if name not in ("seconds", "source")}


def test_each_row_and_each_marker_counts_once(settings):
    report = evaluate(settings)
    assert (report["rows"], report["unreadable"]) == (10, {"empty_completion": 1})
    traces = report["traces"]
    assert (traces["read"], traces["finished"], traces["with_markers"]) == (9, 6, 4)
    assert traces["left_out"] == {"empty_thinking": 1, "no </think>": 1, "text_before_think": 1}
    assert traces["share_without_markers"] == 2 / 6
    assert report["markers"] == {
        "scored": 7,
        "in_traces_left_out": 3,
        "outside": 1,
        "malformed": 3,
    }


def test_the_numbers_of_a_small_source_are_those_worked_out_by_hand(settings):
    progress = evaluate(settings)["progress"]
    errors = [[0.0, 0.2], [0.35], [0.5, 0.6], [0.0, 0.25]]  # raw, a trace each
    assert (progress["markers"], progress["traces"], progress["problems"]) == (7, 4, 3)
    mae = progress["mae"]
    assert mae["raw"]["micro"]["mean"] == pytest.approx(sum(map(sum, errors)) / 7)
    assert mae["raw"]["macro"]["mean"] == pytest.approx((0.1 + 0.35 + 0.55 + 0.125) / 4)
    assert mae["clip"]["macro"]["mean"] == pytest.approx((0 + 0.25 + 0.55 + 0.125) / 4)
    assert mae["filtered"]["macro"]["mean"] == pytest.approx((0 + 0.35 + 0.55 + 0.125) / 4)
    assert progress["share_over_100"]["micro"]["mean"] == pytest.approx(1 / 7)
    assert progress["share_below_0"]["micro"]["mean"] == pytest.approx(1 / 7)
    assert progress["non_monotone"]["mean"] == pytest.approx(1 / 3)
    previous = progress["baselines"]["previous"]["mae"]["micro"]["mean"]
    assert previous == pytest.approx((0.5 + 0.5 + 0.25 + 0.5 + 0 + 0 + 0.5) / 7)
    constant = progress["baselines"]["constant"]
    assert constant["mae"]["micro"]["mean"] == pytest.approx(
        (0 + 0.5 + 0.25 + 0 + 0.5 + 0.5 + 0) / 7
    )
    minus = constant["difference"]["raw"]["micro"]["mean"]
    assert minus == pytest.approx(sum(map(sum, errors)) / 7 - 1.75 / 7)


def test_markers_at_the_end_of_the_thinking_are_told_apart(settings):
    """All but those whose truth is 100 %: a label there tells what its position has told."""
    progress = evaluate(settings)["progress"]
    own = progress["before_end"]
    assert (own["markers"], own["traces"], own["problems"]) == (5, 4, 3)
    assert own["mae"]["raw"]["micro"]["mean"] == pytest.approx((0 + 0.35 + 0.5 + 0 + 0.25) / 5)
    assert own["mae"]["clip"]["macro"]["mean"] == pytest.approx((0 + 0.25 + 0.5 + 0.125) / 4)
    constant = own["baselines"]["constant"]["mae"]["micro"]["mean"]
    assert constant == pytest.approx((0 + 0.25 + 0 + 0.5 + 0) / 5)
    assert own.keys() == progress.keys() - {"before_end", "cells", "along"}
    counted = evaluate(replace(settings, count_markers=True))["progress"]
    last = counted["markers"] - counted["before_end"]["markers"]
    assert last == 2  # though a last marker has its own tokens behind it


def test_a_free_last_label_beats_no_baseline_before_the_end(tmp_path):
    """Right at the end alone, and 50 % elsewhere: better than 50 % in all, and equal before."""
    rows = [
        (f"P{i}", None, box(f"{bar(50)}{'a ' * i}{bar(50)} b c{bar(100)}")) for i in range(1, 9)
    ]
    progress = evaluate(EvalSettings(write_rows(tmp_path / "rows.jsonl", rows)))["progress"]
    assert progress["baselines"]["constant"]["difference"]["clip"]["macro"]["high"] < -0.1
    before = progress["before_end"]["baselines"]["constant"]["difference"]["clip"]["macro"]
    assert before == {"mean": 0, "low": 0, "high": 0}


def test_cells_are_by_length_and_verdict(settings):
    cells = evaluate(replace(settings, long_tokens=4))["progress"]["cells"]
    found = {(own["length"], own["verdict"]): own["markers"] for own in cells}
    assert found == {
        ("<= 4", "correct"): 2,
        ("<= 4", "incorrect"): 1,
        ("<= 4", "ungraded"): 2,
        ("> 4", "correct"): 2,
        ("> 4", "incorrect"): 0,
        ("> 4", "ungraded"): 0,
    }
    assert cells[0]["mae"]["raw"]["macro"]["mean"] == pytest.approx(0.1)
    assert cells[4]["mae"]["raw"]["macro"] == {"mean": None, "low": None, "high": None}


def test_position_baselines_know_the_other_problems_or_what_they_are_given(settings, tmp_path):
    """P: lengths 4, 4; Q: 10, 3; R: two of 4 and 7. Given: 8 and 8."""
    report = evaluate(settings)
    assert report["lengths"] == {"source": None, "traces": 6}
    first = pl.DataFrame(_markers(settings, tmp_path))[0]
    others = [10, 3, *_lengths_of(settings, "R")]
    assert first["mean_length_error"][0] == pytest.approx(abs(2 / (sum(others) / 4) - 0.5))
    lengths = write_rows(tmp_path / "lengths.jsonl", [("X", None, box("a b c d e f g h"))] * 2)
    given = evaluate(replace(settings, lengths=lengths))
    assert given["lengths"] == {"source": lengths, "traces": 2}
    found = given["progress"]["baselines"]["mean_length"]["mae"]["micro"]["mean"]
    truths = [(2, 4), (4, 4), (1, 4), (5, 10), (10, 10), (0, 4), (2, 4)]
    expected = [abs(min(k / 8, 1) - k / m) for k, m in truths]
    assert found == pytest.approx(sum(expected) / 7)


def _markers(settings: EvalSettings, tmp_path: Path) -> pl.DataFrame:
    evaluate(replace(settings, out=tmp_path / "out"))
    return pl.read_parquet(tmp_path / "out" / "markers.parquet")


def _lengths_of(settings: EvalSettings, problem: str) -> list[int]:
    texts = [strip(text[7:].split("</think>")[0]) for name, _, text in ROWS if name == problem]
    return load_counter(None, False).starts(texts).per_text().tolist()


def test_the_tokens_of_markers_count_where_they_are_asked_to(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", [("P", None, box(f"a{bar(5)} b{bar(99)}"))])
    settings = EvalSettings(source, count_markers=True)
    counter = load_counter(None, False)
    (marker,) = counter.starts([bar(5)]).per_text().tolist()
    found = read_reported(find_source(source), counter, DEFAULT, count_markers=True).markers
    assert found["tokens"].to_list() == [1, 2 + marker]
    longer = counter.starts([bar(99)]).per_text().tolist()[0]
    assert found["total"].to_list() == [2 + marker + longer] * 2
    assert evaluate(settings)["settings"]["count_markers"] is True


def test_reports_are_counted_and_their_spacing_measured(settings):
    reports = evaluate(settings)["reports"]
    assert reports["per_trace"]["mean"] == 7 / 6
    assert reports["spacing_tokens"]["mean"] == (2 + 5 + 2) / 3
    assert reports["spacing_tokens"]["p50"] == 2
    assert reports["spacing_tokens"]["p95"] == pytest.approx(2 + 0.9 * 3)


def test_accuracy_is_that_of_stats_and_markers_do_not_change_it(settings):
    report = evaluate(settings)
    expected = sample_statistics(settings.traces, workers=1)["accuracy"]
    assert report["accuracy"]["mean"] == pytest.approx(expected["mean"], abs=1e-6)
    assert report["accuracy"]["samples"] == 5 and report["accuracy"]["mean"] == pytest.approx(
        5 / 12
    )
    ungraded = evaluate(replace(settings, grade=False))
    assert ungraded["accuracy"]["mean"] is None
    assert ungraded["progress"]["mae"] == report["progress"]["mae"]
    assert {own["verdict"] for own in ungraded["progress"]["cells"] if own["markers"]} == {
        "ungraded"
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        (bar(5), 0),
        (bar("x"), 1),
        ("<progressbar>", 1),
        ("</progressbar>", 1),
        ("<progressbar><progressbar>", 2),
        ("<progressbar></progressbar></progressbar>", 2),
        (f"</progressbar>{bar(1)}<progressbar>{bar(2)}{bar('')}", 3),
        (bar("9" * 10), 1),
        ("<progressbar>[5]</progressbar>", 1),
        ("<ProgressBar>5%</ProgressBar>", 0),
    ],
)
def test_tags_without_a_label_are_malformed(text, expected):
    assert count_malformed(text, DEFAULT) == expected


def test_a_grammar_of_ones_own_is_read(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", [("P", None, box("a<done>5/100</done> b"))])
    grammar = MarkerGrammar("done", "{label}/100")
    report = evaluate(EvalSettings(source, grammar=grammar))
    assert report["progress"]["mae"]["raw"]["micro"]["mean"] == pytest.approx(0.45)


def test_the_report_is_strict_json_and_prints(settings, tmp_path):
    report = evaluate(replace(settings, out=tmp_path / "out", plot=tmp_path / "plot.svg"))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    text = eval_summary(report)
    assert "10 rows: 7 markers in 4 traces of 3 problems scored" in text
    assert "before the last token" in text
    assert "without the 2 markers at the end of the thinking, where the truth is 100 %: 5" in text
    assert "left out: no </think>: 1" in text
    assert "markers not scored: 1 after the thinking, 3 in traces left out; 3 malformed" in text
    assert text.endswith("plot.svg: predicted against true progress")
    assert "nan" not in text and "None" not in text


def test_the_table_of_markers_gives_the_errors_of_the_report(settings, tmp_path):
    markers = _markers(settings, tmp_path)
    report = evaluate(settings)["progress"]
    assert markers["label"].to_list() == [50, 120, -10, 100, 40, 0, 75]
    assert markers["truth"].to_list() == [0.5, 1, 0.25, 0.5, 1, 0, 0.5]
    error = (markers["predicted"] - markers["truth"]).abs().mean()
    assert error == pytest.approx(report["mae"]["raw"]["micro"]["mean"])
    for name, own in report["baselines"].items():
        assert markers[f"{name}_error"].mean() == pytest.approx(own["mae"]["micro"]["mean"])


def test_one_problem_alone_has_no_interval_and_no_position_baseline(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", ROWS[:1])
    report = evaluate(EvalSettings(source, workers=1, plot=tmp_path / "plot.svg"))
    own = report["progress"]
    assert own["mae"]["raw"]["macro"] == {"mean": pytest.approx(0.1), "low": None, "high": None}
    assert own["baselines"]["survival"]["mae"]["macro"]["mean"] is None
    assert own["baselines"]["random"]["mae"]["macro"]["mean"] == pytest.approx(0.375)
    assert "nan" not in eval_summary(json.loads(json.dumps(report, allow_nan=False)))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("P", None, box("a b"))], "1 with a finished thinking; markers: none inside those, 0"),
        ([("P", None, f"<think>a{bar(5)}")], "0 with a finished thinking.* 1 in the others"),
        ([("P", None, box("a") + bar(5))], "1 after it"),
        ([("P", None, box(bar("x")))], "1 malformed; .* expected markers like <progressbar>37%"),
        (
            [("P", None, box("a")), ("P", None, ""), ("Q", None, "")],
            "unreadable rows: 2, 2 empty_completion; expected",
        ),
    ],
)
def test_without_a_marker_to_score_it_says_what_was_found(rows, message, tmp_path):
    with pytest.raises(ProgdataError, match=message) as found:
        evaluate(EvalSettings(write_rows(tmp_path / "rows.jsonl", rows), workers=1))
    assert "\n" not in str(found.value) and not isinstance(found.value, UsageError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grader": "math-verfy"}, "did you mean 'math-verify'"),
        ({"grader": "both"}, "unknown grader 'both'"),
        ({"long_tokens": 0}, "--long-tokens 0"),
        ({"limit": 0}, "--limit 0"),
        ({"tokenizer": "no/such/tokenizer.json"}, "no file"),
        ({"plot": Path("plot.pdf")}, r"cannot plot to \.pdf"),
        ({"unconditioned": True}, "name a folder with --out"),
        ({"model": "x"}, "--model is used with --unconditioned"),
        ({"revision": "x"}, "--revision is used with --unconditioned"),
        ({"engine": "openai"}, "--engine is used with --unconditioned"),
        ({"options": EngineOptions(batch_size=3)}, "--batch-size is used with --unconditioned"),
        ({"options": EngineOptions(base_url="u")}, "--base-url is used with --unconditioned"),
        ({"profile": find_profile("r1-plain")}, "--profile is used with --unconditioned or"),
        ({"device": "cpu"}, "--device is used with --probe, or with --unconditioned --engine tr"),
        (
            {"unconditioned": True, "out": Path("x"), "device": "cpu"},
            "--device is used with --probe, or with --unconditioned --engine tr",
        ),
        ({"unconditioned": True, "out": Path("x"), "revision": "x"}, "is of the engine openai"),
        ({"probe": "no/such/folder"}, "no/such/folder: no probe.json of trained probes"),
        ({"variant": "noisy"}, "rows.jsonl is not the folder of a build"),
        ({"grammar_of": "no/such/folder"}, "expected the folder of a finished build"),
        ({"grammar_of": "x", "grammar": DEFAULT}, "both say how markers are written"),
        ({"unconditioned": True, "out": Path("x"), "engine": "openai"}, "name the model's --tok"),
        ({"rollouts": "no/such/folder"}, "no such file; name the --out of progdata rollouts"),
    ],
)
def test_a_wrong_option_is_refused_before_the_work(settings, options, message):
    with pytest.raises(UsageError, match=message):
        evaluate(replace(settings, **options))


def test_a_build_is_not_written_into(settings, countdown_build):
    with pytest.raises(UsageError, match="holds a build"):
        evaluate(replace(settings, out=countdown_build))


def test_a_source_is_not_replaced_by_its_evaluation(tmp_path):
    source = tmp_path / "markers.parquet"
    pl.DataFrame({"problem": ["P"], "completion": [ROWS[0][2]]}).write_parquet(source)
    with pytest.raises(UsageError, match="would replace its own source"):
        evaluate(EvalSettings(str(source), out=tmp_path))


def test_markers_do_not_stand_in_the_way_of_an_answer(tmp_path):
    completion = f"<think>a{bar(50)} b</think> \\boxed{{1{bar(99)}2}}"
    source = write_rows(tmp_path / "rows.jsonl", [("P", "12", completion)])
    report = evaluate(EvalSettings(source, workers=1))
    assert report["accuracy"]["verdicts"] == {"correct": 1}


def test_lengths_need_a_finished_thinking(settings, tmp_path):
    lengths = write_rows(tmp_path / "lengths.jsonl", [("X", None, "<think>a b")])
    with pytest.raises(ProgdataError, match="no trace with a finished thinking"):
        evaluate(replace(settings, lengths=lengths))


def test_the_order_of_the_traces_changes_no_number(settings, tmp_path):
    report = evaluate(settings)
    turned = evaluate(EvalSettings(write_rows(tmp_path / "turned.jsonl", ROWS[::-1]), workers=1))
    for kind in ("raw", "clip", "filtered"):
        for over in ("macro", "micro"):
            own = turned["progress"]["mae"][kind][over]
            assert own == pytest.approx(report["progress"]["mae"][kind][over])
    assert timeless(turned)["markers"] == timeless(report)["markers"]


# --- builds and real traces


@pytest.mark.parametrize("variant", ["clean", "special"])
def test_the_labels_of_a_clean_build_err_by_their_rounding_alone(variant, tmp_path):
    build(countdown(40, [variant]), tmp_path / "out")
    report = evaluate(EvalSettings(str(tmp_path / "out"), workers=1))
    progress = report["progress"]
    assert 0 < progress["mae"]["raw"]["micro"]["mean"] < 0.005
    assert (
        progress["non_monotone"]["mean"] == 0 and progress["share_over_100"]["micro"]["mean"] == 0
    )
    markers = pl.read_parquet(tmp_path / "out" / "data" / variant / "*.parquet")["labels"]
    assert report["markers"]["scored"] == markers.list.len().sum()


def test_the_truth_is_the_progress_that_a_build_stored(tmp_path):
    build(countdown(40, ["noisy"]), tmp_path / "out")
    table = pl.read_parquet(tmp_path / "out" / "data" / "noisy" / "*.parquet")
    evaluate(EvalSettings(str(tmp_path / "out"), grade=False, out=tmp_path / "eval"))
    markers = pl.read_parquet(tmp_path / "eval" / "markers.parquet")
    stored = dict(zip(table["trace_id"], table["progress"], strict=True))
    labels = dict(zip(table["trace_id"], table["labels"], strict=True))
    plain = [strip(text) for text in table["completion"]]
    assert len(plain) == markers["trace"].n_unique() == table.height
    truths = markers.group_by("trace", maintain_order=True).agg("truth", "label")
    expected = sorted(zip(map(list, labels.values()), map(list, stored.values()), strict=True))
    found = sorted(zip(truths["label"].to_list(), truths["truth"].to_list(), strict=True))
    for (own, truth), (label, progress) in zip(found, expected, strict=True):
        assert own == label and truth == pytest.approx(progress, abs=1e-6)


def test_escaped_tags_of_a_build_are_text_again(tmp_path):
    think = f"a b {bar(5)} c d\nand\ne {bar('x')} f"
    source = write_rows(tmp_path / "rows.jsonl", [("P", "5", box(think))])
    recipe = load_recipe(
        None, sources=[source], policies={"marked_traces": "escape"}, variants=["clean"]
    )
    build(recipe, tmp_path / "out")
    settings = EvalSettings(str(tmp_path / "out"), workers=1)
    report = evaluate(settings)
    assert report["progress"]["mae"]["raw"]["micro"]["mean"] < 0.005
    (expected,) = load_counter(None, False).starts([think]).per_text().tolist()
    assert report["reports"]["thinking_tokens"]["mean"] == expected
    assert report["markers"]["malformed"] == 0


@pytest.fixture(scope="module")
def own_grammar(tmp_path_factory) -> Path:
    """A build that writes `<done>37 done</done>`; the labels of `noisy` err."""
    out = tmp_path_factory.mktemp("own") / "out"
    markers = {"tag": "done", "format": "{label} done"}
    build(countdown(40, ["clean", "noisy"], markers=markers), out)
    return out


def test_every_variant_of_a_build_is_read_as_the_build_writes_it(own_grammar):
    settings = EvalSettings(str(own_grammar), grade=False)
    maes = {}
    for variant in (None, "clean", "noisy"):
        report = evaluate(replace(settings, variant=variant))
        assert report["settings"]["variant"] == variant
        assert report["settings"]["marker"] == "<done>37 done</done>"
        maes[variant] = report["progress"]["mae"]["raw"]["micro"]["mean"]
    assert maes[None] == maes["clean"] < 0.005 < maes["noisy"]
    with pytest.raises(UsageError, match=r"nosy.*noisy"):
        evaluate(replace(settings, variant="nosy"))


def test_traces_of_a_model_are_read_in_the_grammar_that_it_learnt(own_grammar, tmp_path):
    """So are the lengths, where they are no build with a grammar of their own."""
    think = f"a b<done>50 done</done> c {bar(3)} d"
    source = write_rows(tmp_path / "rows.jsonl", [("P", None, box(think))])
    settings = EvalSettings(source, grammar_of=str(own_grammar), lengths=source)
    report = evaluate(settings)
    assert report["markers"]["scored"] == 1
    (tokens,) = load_counter(None, False).starts([f"a b c {bar(3)} d"]).per_text().tolist()
    assert report["reports"]["thinking_tokens"]["mean"] == tokens
    position = report["progress"]["baselines"]["mean_length"]["mae"]["micro"]["mean"]
    assert position == pytest.approx(0)  # the length given is that of the trace itself
    with pytest.raises(ProgdataError, match="expected markers like <progressbar>"):
        evaluate(EvalSettings(write_rows(tmp_path / "b.jsonl", [("P", None, box("a<done>"))])))


@needs_shared_data
def test_real_traces_marked_by_a_build_err_by_their_rounding_alone(tmp_path):
    source = str(TRACES / "r1_14b_aime_samples.jsonl.gz")
    recipe = load_recipe(
        None, sources=[source], variants=["clean"], limit=25, tokenizer=str(TOKENIZER)
    )
    build(recipe, tmp_path / "out")
    settings = EvalSettings(str(tmp_path / "out"), tokenizer=str(TOKENIZER), workers=1)
    report = evaluate(settings)
    progress = report["progress"]
    assert progress["mae"]["raw"]["macro"]["mean"] < 0.005
    assert max(own["mae"]["raw"]["macro"]["mean"] or 0 for own in progress["cells"]) < 0.005
    assert {own["verdict"] for own in progress["cells"] if own["markers"]} == {
        "correct",
        "incorrect",
    }
    other = evaluate(replace(settings, tokenizer="words", grade=False))["progress"]
    assert 0.005 < other["mae"]["raw"]["macro"]["mean"] < 0.05
    assert report["tokenizer"]["fingerprint"] == find_tokenizer(str(TOKENIZER)).fingerprint
    survival = progress["baselines"]["survival"]["mae"]["macro"]["mean"]
    assert 0.05 < survival < 0.3


# --- the plot


@pytest.mark.parametrize(("ending", "begins"), [("png", b"\x89PNG\r\n"), ("svg", b"<?xml")])
def test_a_plot_has_the_same_bytes_each_time(settings, tmp_path, ending, begins):
    first, second = tmp_path / f"first.{ending}", tmp_path / f"second.{ending}"
    report = evaluate(replace(settings, plot=first))
    plot_progress(report, second)
    assert first.read_bytes().startswith(begins)
    assert first.read_bytes() == second.read_bytes()


def test_a_plot_takes_names_as_they_are_and_names_every_predictor(tmp_path):
    source = write_rows(tmp_path / r"a$\bad$ & <name>.jsonl")
    evaluate(EvalSettings(source, workers=1, plot=tmp_path / "plot.svg"))
    text = (tmp_path / "plot.svg").read_text("utf-8")
    for shown in ("bad$ &amp; &lt;name&gt;", "uniform random", "position, survival curve"):
        assert shown in text
