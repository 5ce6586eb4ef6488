"""`progdata curate` on a source: every row is accounted for, and what stays is a source again."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from sampled_problems import SOURCE, sampled, write_source
from shared_data import TRACES as FILES
from shared_data import needs_shared_data, read_traces

from progdata.builders.errors import UsageError
from progdata.builders.schema import problem_id
from progdata.cards.curate_tables import curate_summary
from progdata.releases.curated import curate_source
from progdata.verifiers.selection import CurateSettings


def curate(tmp_path: Path, rows: list[Any] = SOURCE, **settings: Any) -> dict[str, Any]:
    source = write_source(tmp_path / "rows.jsonl", rows)
    own = CurateSettings(**settings)
    return curate_source(source, settings=own, out=tmp_path / "out", workers=1)


def read_dropped(tmp_path: Path) -> list[dict[str, Any]]:
    text = (tmp_path / "out" / "dropped.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_rows_in_are_kept_dropped_or_unreadable_and_each_is_on_file(tmp_path):
    report = curate(tmp_path, pass_rate=(0.1, 0.9), gradable=True)
    assert (report["rows_in"], report["kept"]) == (16, 3)
    assert (report["dropped"], report["unreadable"]) == (11, 2)
    assert [(own["step"], own["rows_out"], own["dropped"]) for own in report["funnel"]] == [
        ("read", 14, {"empty_problem": 1, "invalid_json": 1}),
        ("gradable", 9, {"gold_not_gradable": 1, "no_gold": 4}),
        ("pass_rate", 3, {"pass_rate_out_of_range": 6}),
    ]
    lines = read_dropped(tmp_path)
    assert Counter(line["reason"] for line in lines) == {
        "empty_problem": 1, "invalid_json": 1, "gold_not_gradable": 1, "no_gold": 4,
        "pass_rate_out_of_range": 6,
    }  # fmt: skip
    rows = pq.read_table(tmp_path / "out" / "curated.parquet").to_pylist()
    assert sorted([line["row"] for line in lines] + [row["row"] for row in rows]) == [*range(1, 17)]
    assert all(line["evidence"] and line["file"].endswith("rows.jsonl") for line in lines)
    assert {row["problem"] for row in rows} == {"fair"}
    written = (tmp_path / "out" / "curate.json").read_text("utf-8")
    assert json.loads(written) == json.loads(json.dumps(report))


def test_the_kept_traces_carry_their_problems_measures(tmp_path):
    curate(tmp_path)
    rows = pq.read_table(tmp_path / "out" / "curated.parquet").to_pylist()
    assert [row["row"] for row in rows] == [*range(1, 11), *range(12, 16)]
    fair, unlabelled = rows[3], rows[10]
    assert (fair["problem"], fair["pass_rate"], fair["decided"], fair["traces"]) == (
        "fair", 0.5, 2, 3,
    )  # fmt: skip
    assert (fair["label"], fair["label_source"], fair["finished_share"]) == ("2", "gold", 2 / 3)
    assert (unlabelled["label"], unlabelled["label_source"]) == ("7", "majority")
    assert (unlabelled["majority_share"], unlabelled["pass_rate"]) == (2 / 3, None)
    assert unlabelled["answer"] is None
    assert [row["cut"] for row in rows[3:6]] == [None, None, "no </think>"]


def test_each_problem_is_on_file_with_the_traces_that_stay(tmp_path):
    curate(tmp_path, finished=True, pass_rate=(0.0, 0.5))
    problems = pl.read_parquet(tmp_path / "out" / "problems.parquet").sort("problem")
    found = problems.select("problem", "traces", "cut", "pass_rate", "kept").rows()
    assert found == [
        ("easy", 3, 0, 1.0, 0), ("fair", 3, 1, 0.5, 2), ("hard", 3, 1, 0.0, 2),
        ("open", 4, 1, None, 0), ("prose", 1, 0, None, 0),
    ]  # fmt: skip


def test_cut_traces_count_as_wrong_where_that_is_asked(tmp_path):
    curate(tmp_path, cut_traces="wrong")
    problems = pl.read_parquet(tmp_path / "out" / "problems.parquet").sort("problem")
    assert problems.select("problem", "pass_rate").rows()[:3] == [
        ("easy", 1.0), ("fair", 1 / 3), ("hard", 0.0),
    ]  # fmt: skip


def test_what_is_kept_is_a_source_again_and_nothing_is_dropped_of_it(tmp_path):
    first = curate(tmp_path, pass_rate=(0.5, 0.5))
    again = curate_source(
        str(tmp_path / "out" / "curated.parquet"),
        settings=CurateSettings(pass_rate=(0.5, 0.5)),
        out=tmp_path / "again",
        workers=1,
    )
    assert (again["rows_in"], again["kept"]) == (first["kept"], first["kept"])
    ids = [
        pq.read_table(tmp_path / name / "curated.parquet")["trace_id"].to_pylist()
        for name in ("out", "again")
    ]
    assert ids[0] == ids[1]


def test_the_same_source_gives_the_same_files(tmp_path):
    source = write_source(tmp_path / "rows.jsonl", SOURCE)
    for name, workers in (("one", 1), ("two", 2)):
        settings = CurateSettings(finished=True, sample=2)
        curate_source(source, settings=settings, out=tmp_path / name, workers=workers)
    for name in ("curated.parquet", "problems.parquet", "dropped.jsonl"):
        files = [(tmp_path / own / name).read_bytes() for own in ("one", "two")]
        assert files[0] == files[1], name


def test_only_the_finished_files_are_left_in_the_folder(tmp_path):
    curate(tmp_path)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "curate.json", "curated.parquet", "dropped.jsonl", "problems.parquet",
    ]  # fmt: skip


def test_a_source_is_never_replaced_by_what_is_made_of_it(tmp_path):
    curate(tmp_path)
    with pytest.raises(UsageError, match="would replace its own source"):
        curate_source(str(tmp_path / "out" / "*.parquet"), out=tmp_path / "out")


@pytest.mark.parametrize(
    ("rows", "problems"),
    [
        (sampled("all cut", "1", None, None), 1),
        (sampled("一个问题", "三", "三", "四"), 1),
        (sampled("one", "1", "1"), 1),
        ([{"problem": "", "answer": "1", "completion": "x"}], 0),
    ],
)
def test_a_source_that_nothing_is_left_of_is_reported_as_such(tmp_path, rows, problems):
    report = curate(tmp_path, rows, pass_rate=(0.6, 0.9), sample=3, stratify="source")
    assert (report["kept"], report["problems"]["count"]) == (0, problems)
    assert report["dropped"] + report["unreadable"] == len(rows)
    assert pq.read_table(tmp_path / "out" / "curated.parquet").num_rows == 0
    assert "0 kept" in curate_summary(report)


def test_the_funnel_is_shown_step_by_step(tmp_path):
    report = curate(
        tmp_path, finished=True, pass_rate=(0.0, 0.9), sample=1, stratify="source", min_traces=2
    )
    lines = [line.split() for line in curate_summary(report).splitlines()]
    assert ["finished", "3", "11", "68.8%", "5", "3", "not_finished"] in lines
    assert ["min_traces", "1", "10", "62.5%", "4", "1", "too_few_traces"] in lines
    assert ["made", "2", "1"] in lines


@needs_shared_data
def test_open_r1s_range_keeps_the_problems_that_a_count_of_the_samples_gives(tmp_path):
    report = curate_source(
        str(FILES / "r1_14b_aime_samples.jsonl.gz"),
        settings=CurateSettings(pass_rate=(0.1, 0.9), cut_traces="wrong"),
        out=tmp_path,
    )
    judged: dict[str, list[bool]] = {}
    for row in read_traces("r1_14b_aime_samples.jsonl.gz"):
        judged.setdefault(problem_id(row["problem"]), []).append(row["judged_correct"])
    expected = {name for name, own in judged.items() if 0.1 <= sum(own) / len(own) <= 0.9}
    rows = pq.read_table(tmp_path / "curated.parquet", columns=["problem_id"])
    assert set(rows["problem_id"].to_pylist()) == expected
    assert (report["rows_in"], report["kept"], len(expected)) == (130, 60, 12)


@needs_shared_data
def test_a_question_with_an_answer_in_prose_is_not_gradable():
    report = curate_source(
        str(FILES / "r1_14b_mixed_samples.jsonl.gz"), settings=CurateSettings(gradable=True)
    )
    (step,) = report["funnel"][1:]
    assert step["dropped"] == {"gold_not_gradable": report["dropped"]}
    assert report["verdicts"]["gold_unparsable"] <= report["dropped"]


def test_the_command_prints_a_summary_or_json(tmp_path):
    write_source(tmp_path / "rows.jsonl", SOURCE)

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "progdata.cli", "curate", "rows.jsonl", *more]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    done = run("--pass-rate", "0.1:0.9", "--gradable", "--out", "out", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("16 rows in: 3 kept, 11 dropped, 2 unreadable; ")
    options = ["--length-bin", "short", "--length-of", "problem", "--finished", "--cut-traces"]
    options += ["wrong", "--min-traces", "2", "--sample", "2", "--stratify", "length", "--seed"]
    report = json.loads(run(*options, "7", "--json").stdout)
    settings = {"length_bin": "short", "length_of": "problem", "finished": True, "seed": 7}
    settings |= {"cut_traces": "wrong", "min_traces": 2, "sample": 2, "stratify": "length"}
    assert settings.items() <= report["settings"].items()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--pass-rate", "0.5"], "write A:B"),
        (["--pass-rate", "0.9:0.1"], "0 <= A <= B <= 1"),
        (["--length-bin", "shrt"], "did you mean 'short'?"),
        (["--stratify", "source"], "give sample as well"),
        (["--sample", "5", "--stratify", "sauce"], "unknown stratify 'sauce'"),
        (["--cut-traces", "right"], "unknown cut_traces 'right'"),
        (["--grader", "both"], "grader"),
    ],
)
def test_wrong_options_are_one_line(options, says, tmp_path):
    write_source(tmp_path / "rows.jsonl", SOURCE)
    command = [sys.executable, "-m", "progdata.cli", "curate", "rows.jsonl", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr
