"""`progdata verify`, and the verify stage of a build."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from build_folder import assert_same, countdown, published
from shared_data import TRACES, needs_shared_data, read_traces
from tampering import Forgery

from progdata.builders.errors import ProgdataError, UsageError
from progdata.releases.build import build
from progdata.releases.check import check
from progdata.releases.recipe import load_recipe
from progdata.releases.verified import verify_source
from progdata.verifiers import grade
from progdata.verifiers.grading import Budget

COMMAND = [sys.executable, "-m", "progdata.cli"]

ROWS = [
    ("correct", r"\frac{1}{2}", r"<think>hm</think> It is $\boxed{1/2}$."),
    ("wrong", "5", r"<think>\boxed{5}</think> It is $\boxed{6}$."),
    ("correct", r"2\pi", r"<think>hm</think> It is $\boxed{\pi+\pi}$."),
    ("no_answer", "5", "<think>hm</think> I do not know."),
    ("no_answer", "5", r"<think>so it is \boxed{5}"),
    ("gold_unparsable", "The mean is larger since one of the values is large", "<think>a</think>b"),
    (None, None, r"<think>hm</think> \boxed{7}"),
    ("timeout", "5", r"<think>hm</think> \boxed{9^{9^{9^9}}}"),
]  # fmt: skip


def write_rows(path: Path, rows: Sequence[tuple[str | None, str | None, str]] = ROWS) -> Path:
    """A source with one row a case; the model is named after its parity."""
    lines = [
        {
            "problem": f"Problem {number}",
            "answer": gold,
            "completion": completion,
            "model": f"model-{number % 2}",
            "source": "made",
        }
        for number, (_, gold, completion) in enumerate(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True)


FAST = Budget(cpu_seconds=0.5)


def test_each_row_gets_its_verdict(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl")
    report = verify_source(str(source), out=tmp_path / "out", budget=FAST)
    rows = pq.read_table(tmp_path / "out" / "verified.parquet").to_pylist()
    assert [row["verdict"] for row in rows] == [status for status, _, _ in ROWS]
    assert report["verdicts"] == {
        "correct": 2, "gold_unparsable": 1, "no_answer": 2, "timeout": 1, "ungraded": 1, "wrong": 1,
    }  # fmt: skip
    assert (report["rows"], report["graded"], report["ungraded"]) == (8, 7, 1)
    assert report["accuracy"] == 0.4 and report["decided"] == 5
    assert report["by_source"] == {
        "made": {name: report[name] for name in ("verdicts", "decided", "accuracy")}
    }
    assert report["by_model"]["model-0"]["verdicts"] == {
        "correct": 2, "no_answer": 1, "ungraded": 1,
    }  # fmt: skip
    assert report["slowest"][0]["row"] == 8 and report["slowest"][0]["status"] == "timeout"


def test_the_written_answers_are_the_characters_at_their_spans(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl")
    verify_source(str(source), out=tmp_path / "out", budget=FAST)
    rows = pq.read_table(tmp_path / "out" / "verified.parquet").to_pylist()
    found = [row for row in rows if row["answer_span"]]
    assert [row["extracted_answer"] for row in found] == ["1/2", "6", r"\pi+\pi", "9^{9^{9^9}}"]
    for row in found:
        span = row["answer_span"]
        assert row["completion"][span["start"] : span["end"]] == row["extracted_answer"]


def test_the_written_table_is_a_source_with_the_same_verdicts(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl")
    first = verify_source(str(source), out=tmp_path / "out", budget=FAST)
    second = verify_source(str(tmp_path / "out" / "verified.parquet"), budget=FAST)
    assert second["verdicts"] == first["verdicts"] and second["by_model"] == first["by_model"]


def test_both_graders_report_where_they_disagree(tmp_path):
    rows = [
        ("correct", r"\frac{3}{4}", r"<think>a</think> \boxed{\frac{6}{8}}"),
        ("correct", "1024", r"<think>a</think> \boxed{2^{10}}"),
        ("correct", "5", r"<think>a</think> \boxed{5}"),
        ("wrong", "5", r"<think>a</think> \boxed{6}"),
    ]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    report = verify_source(str(source), grader="both", out=tmp_path / "out")
    assert report["disagreements"]["count"] == 2
    shown = report["disagreements"]["shown"]
    assert [row["row"] for row in shown] == [1, 2]
    assert shown[0]["math-verify"]["status"] == "correct"
    assert shown[0]["deepscaler"]["status"] == "wrong"
    assert report["graders"]["deepscaler"]["verdicts"] == {"correct": 1, "wrong": 3}
    table = pq.read_table(tmp_path / "out" / "verified.parquet")
    assert table["deepscaler_verdict"].to_pylist() == ["wrong", "wrong", "correct", "wrong"]
    assert all(table["deepscaler_rule"].to_pylist())


def test_no_end_of_thinking_is_wrong_for_deepscaler_and_no_answer_for_math_verify(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", [(None, "5", r"so \boxed{5}")])
    report = verify_source(str(source), grader="both")
    verdicts = {name: own["verdicts"] for name, own in report["graders"].items()}
    assert verdicts == {"math-verify": {"no_answer": 1}, "deepscaler": {"wrong": 1}}


def test_unreadable_rows_are_counted_with_their_reason(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", ROWS[:2])
    with source.open("a") as file:
        file.write('{"problem": "p", "completion": null}\nnot json\n')
    report = verify_source(str(source))
    assert report["rows"] == 4
    assert report["unreadable"] == {"empty_completion": 1, "invalid_json": 1}


def test_a_failed_run_leaves_no_table(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "verified.parquet").write_text("older")
    with pytest.raises(
        UsageError, match="unknown grader 'math_verify'; did you mean 'math-verify'"
    ):
        verify_source(str(source), grader="math_verify", out=tmp_path / "out")
    with pytest.raises(ProgdataError, match="no such file"):
        verify_source(str(tmp_path / "none.jsonl"), out=tmp_path / "out")
    assert (tmp_path / "out" / "verified.parquet").read_text() == "older"


def test_the_command_prints_its_tables_or_one_json_object(tmp_path):
    write_rows(tmp_path / "rows.jsonl", ROWS[:4])
    done = run("verify", "rows.jsonl", "--grader", "both", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 rows, 4 graded, 0 without a gold, 0 unreadable, ")
    assert "out: verified.parquet, verification.json" in done.stdout
    done = run("verify", "rows.jsonl", "--workers", "1", "--limit", "2", "--json", cwd=tmp_path)
    report = json.loads(done.stdout)
    assert report["rows"] == 2 and report["verdicts"] == {"correct": 1, "wrong": 1}
    stored = json.loads((tmp_path / "out" / "verification.json").read_text("utf-8"))
    assert stored["graders"].keys() == {"math-verify", "deepscaler"}
    assert set(report) == set(stored) - {"out"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--grader", "sympy"],
            "unknown grader 'sympy'; choose from math-verify, deepscaler, both",
        ),
        (["--cpu-seconds", "0"], "--cpu-seconds"),
        (["--memory-mb", "0"], "--memory-mb"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(arguments, said, tmp_path):
    write_rows(tmp_path / "rows.jsonl")
    done = run("verify", "rows.jsonl", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr and done.stderr.count("\n") == 1


@needs_shared_data
def test_the_samples_judged_at_their_source_get_the_same_verdicts():
    """DeepSeek-R1 on AIME 2024, as the source of these traces judged it."""
    report = verify_source(str(TRACES / "r1_aime2024.jsonl.gz"))
    judged = [row["judged_correct"] for row in read_traces("r1_aime2024.jsonl.gz")]
    assert report["verdicts"]["correct"] == sum(judged)


def test_a_build_fills_the_verdicts_and_says_how_many(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl")
    recipe = load_recipe(sources=[str(source)], verify={"cpu_seconds": 0.5})
    report = build(recipe, tmp_path / "out")
    rows = read_build(tmp_path / "out")
    assert {row["problem"]: row["verdict"] for row in rows} == {
        f"Problem {number}": status for number, (status, _, _) in enumerate(ROWS) if number != 4
    }
    assert {row["extracted_answer"] for row in rows if row["verdict"] == "correct"} == {
        "1/2", r"\pi+\pi",
    }  # fmt: skip
    assert report["verify"]["verdicts"] == {
        "correct": 2, "gold_unparsable": 1, "no_answer": 1, "timeout": 1, "ungraded": 1, "wrong": 1,
    }  # fmt: skip
    assert check(tmp_path / "out") == []
    assert "| correct | 2 |" in (tmp_path / "out" / "README.md").read_text("utf-8")


def read_build(out: Path) -> list[dict[str, Any]]:
    files = sorted((out / "data" / "clean").glob("*.parquet"))
    return [row for path in files for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("all", {"correct", "wrong", "no_answer", "gold_unparsable", None, "timeout"}),
        ("correct", {"correct"}),
        (["correct", "ungraded"], {"correct", None}),
        (["correct", "wrong", "timeout"], {"correct", "wrong", "timeout"}),
    ],
)
def test_keep_says_which_verdicts_stay_and_the_others_are_rejects(keep, kept, tmp_path):
    source = write_rows(tmp_path / "rows.jsonl")
    verify = {"cpu_seconds": 0.5, "keep": keep}
    report = build(load_recipe(sources=[str(source)], verify=verify), tmp_path / "out")
    assert {row["verdict"] for row in read_build(tmp_path / "out")} == kept
    rejects = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    refused = [row for row in rejects if row["stage"] == "verify"]
    assert {row["reason"] for row in refused} == {
        status or "ungraded" for number, (status, _, _) in enumerate(ROWS)
        if number != 4 and status not in kept
    }  # fmt: skip
    assert all(json.loads(row["raw"])["completion"] == ROWS[row["row"] - 1][2] for row in refused)
    assert report["rows_in"] == report["rows_out"] + report["rows_rejected"]
    assert check(tmp_path / "out") == []


def test_a_recipe_switches_the_stage_off(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("sources: [countdown:20]\nverify: off\n", "utf-8")
    report = build(load_recipe(str(recipe)), tmp_path / "out")
    assert report["verify"] is None
    assert {row["verdict"] for row in read_build(tmp_path / "out")} == {None}
    assert check(tmp_path / "out") == []


def test_options_of_the_command_go_into_the_recipe(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", ROWS[:2])
    options = ["--source", str(source), "--keep", "correct", "--out", "out", "--json"]
    done = run("build", *options, cwd=tmp_path)
    assert json.loads(done.stdout)["rejected"] == {"verify": {"wrong": 1}}
    done = run("build", "--no-verify", "--out", "off", "--limit", "5", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["verify"] is None
    done = run("build", "--no-verify", "--keep", "correct", "--out", "no", cwd=tmp_path)
    assert done.returncode == 2 and "switch verify on" in done.stderr


def test_an_unknown_verdict_to_keep_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"verify\.keep: unknown verdict 'corect'; did you mean"):
        load_recipe(verify={"keep": "corect"})
    with pytest.raises(UsageError, match="at least one verdict"):
        load_recipe(verify={"keep": []})
    with pytest.raises(UsageError, match=r"unknown field 'verify\.grade'"):
        load_recipe(verify={"grade": "math-verify"})


def test_verdicts_do_not_depend_on_workers_or_shards(tmp_path):
    boxed = [rf" \boxed{{{n}^{{1/2}}}}" if n % 3 else " so" for n in range(60)]
    rows = [("", rf"\sqrt{{{n}}}", f"<think>a</think>{boxed[n]}") for n in range(1, 60)]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    recipe = load_recipe(sources=[str(source)], variants=["clean", "noisy"])
    build(recipe, tmp_path / "one")
    build(recipe, tmp_path / "two", workers=2, shard_bytes=700)
    assert {row["verdict"] for row in read_build(tmp_path / "one")} == {"correct", "no_answer"}
    assert_same(tmp_path / "two", tmp_path / "one")


def test_a_finished_build_is_not_graded_again(tmp_path):
    recipe = countdown(30, ["clean"])
    build(recipe, tmp_path / "out")
    before = published(tmp_path / "out")
    build(recipe, tmp_path / "out")
    assert published(tmp_path / "out") == before
    with pytest.raises(UsageError, match=r"another recipe \(verify differ"):
        build(countdown(30, ["clean"], verify={"keep": "correct"}), tmp_path / "out")


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("verdict", "correct", "verdict correct, answer '6'; grading gives wrong"),
        ("extracted_answer", "5", "verdict wrong, answer '5'; grading gives wrong"),
        ("verdict", None, "verdict None, answer '6'; grading gives wrong"),
    ],
)
def test_check_finds_a_forged_verdict(column, value, said, tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", ROWS[:3])
    build(load_recipe(sources=[str(source)]), tmp_path / "out")

    def forge(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if row["verdict"] == "wrong":
                row[column] = value

    Forgery(tmp_path / "out").edit_rows(forge)
    broken = [own for own in check(tmp_path / "out") if own.law == "true"]
    assert broken and said in broken[0].detail


def test_check_finds_a_verdict_where_none_was_to_be_given_or_kept(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", ROWS[:3])
    build(load_recipe(sources=[str(source)], verify=False), tmp_path / "off")

    def forge(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["verdict"] = "correct"

    Forgery(tmp_path / "off").edit_rows(forge)
    assert "nothing was verified" in check(tmp_path / "off")[0].detail


def test_the_stage_and_grade_agree_on_real_rows(tmp_path):
    report = build(countdown(200, ["clean"]), tmp_path / "out")
    rows = read_build(tmp_path / "out")
    for row in rows:
        verdict = grade(gold=row["answer"], completion=row["completion"], thinks=True)
        assert (verdict.status, verdict.extracted_answer) == (
            row["verdict"],
            row["extracted_answer"],
        )
    assert sum(report["verify"]["verdicts"].values()) == len(rows)
