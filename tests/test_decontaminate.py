"""`progdata decontaminate`: sources with and without traces, reports, and the rows that stay."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback_hub import LoopbackHub
from shared_data import SHARED, needs_shared_data, read_rows

from progdata.builders.errors import ProgdataError, UsageError
from progdata.cards.contamination_tables import contamination_page
from progdata.releases.benchmarks import named_benchmarks
from progdata.releases.decontaminated import decontaminate_source

COMMAND = [sys.executable, "-m", "progdata.cli"]

ITEMS = [
    "A farmer has 17 sheep, 23 goats and a barn with 12 places a floor. How many floors has it?",
    "Find the number of ways to seat 9 guests at a round table if two of them never sit together.",
]
CLEAN = [
    "What is the largest prime that divides the product of all even numbers up to fifty?",
    "A train leaves at noon and another at one. When do they meet if both drive at full speed?",
    "How long does a snail need for a wall of ten metres if it slips at night?",
]


def lines(path: Path, problems: list[str], **more: object) -> Path:
    rows = [{"problem": problem, "n": n, **more} for n, problem in enumerate(problems)]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    return lines(tmp_path / "contest.jsonl", ITEMS)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return lines(
        tmp_path / "train.jsonl", [CLEAN[0], ITEMS[1], CLEAN[1], ITEMS[0].upper(), CLEAN[2]]
    )


def test_the_report_counts_rows_and_lists_the_matches(source, bench):
    report = decontaminate_source(str(source), [str(bench)])
    assert (report["rows"], report["flagged"], report["kept"]) == (5, 2, 5)
    assert report["by_benchmark"] == {"contest": 2}
    assert report["by_reason"] == {"same text": 2}
    first = report["matches"][0]
    assert (first["file"], first["row"], first["benchmark_row"]) == (str(source), 2, 2)
    assert first["row_text"].startswith("find the number of ways") and first["score"] == 1.0
    assert report["benchmarks"]["contest"]["items"] == 2
    assert report["benchmarks"]["contest"]["source"]["files"][0]["sha256"]


def test_removing_keeps_the_other_lines_byte_for_byte(source, bench, tmp_path):
    report = decontaminate_source(str(source), [str(bench)], action="remove", out=tmp_path / "out")
    before = source.read_bytes().splitlines(keepends=True)
    kept = (tmp_path / "out" / "kept" / "train.jsonl").read_bytes()
    assert kept == before[0] + before[2] + before[4]
    assert report["kept"] == 3 and report["files"] == ["kept/train.jsonl"]
    stored = json.loads((tmp_path / "out" / "contamination.json").read_text("utf-8"))
    assert stored["matches"] == report["matches"]


@pytest.mark.parametrize("name", ["train.jsonl.gz", "train.parquet"])
def test_removing_keeps_every_column_of_other_formats(name, bench, tmp_path):
    problems = [CLEAN[0], ITEMS[1], CLEAN[1]]
    path = tmp_path / name
    if name.endswith(".parquet"):
        extra = pa.array([[1.5], [2.5], None], pa.list_(pa.float32()))
        pq.write_table(pa.table({"problem": problems, "extra": extra}), path)
    else:
        lines(path, problems, extra={"deep": [1]})
    decontaminate_source(str(path), [str(bench)], action="remove", out=tmp_path / "out")
    copy = tmp_path / "out" / "kept" / name
    if name.endswith(".parquet"):
        assert pq.read_table(copy).equals(pq.read_table(path).take([0, 2]))
    else:
        before = gzip.decompress(path.read_bytes()).splitlines()
        assert gzip.decompress(copy.read_bytes()).splitlines() == [before[0], before[2]]


def test_traces_of_the_same_problem_are_all_flagged(bench, tmp_path):
    rows = [
        {"problem": problem, "completion": f"<think>{n}</think> so", "answer": "1"}
        for n in range(3)
        for problem in (ITEMS[0], CLEAN[0])
    ]
    source = tmp_path / "traces.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = decontaminate_source(str(source), [str(bench)])
    assert report["flagged"] == 3
    assert [match["row"] for match in report["matches"]] == [1, 3, 5]


def test_unreadable_rows_are_counted_and_stay(source, bench, tmp_path):
    with source.open("a") as file:
        file.write('{"problem": ""}\nno json\n\n')
    report = decontaminate_source(str(source), [str(bench)], action="remove", out=tmp_path / "out")
    assert report["rows"] == 7 and report["unreadable"] == {"empty_problem": 1, "invalid_json": 1}
    kept = (tmp_path / "out" / "kept" / "train.jsonl").read_text().splitlines()
    assert kept[-2:] == ['{"problem": ""}', "no json"]


def test_every_file_of_a_glob_is_a_benchmark_of_its_own(source, tmp_path):
    (tmp_path / "b").mkdir()
    for n, item in enumerate(ITEMS):
        lines(tmp_path / "b" / f"part{n}.jsonl", [item])
    report = decontaminate_source(str(source), [str(tmp_path / "b" / "*.jsonl")])
    assert report["by_benchmark"] == {"part0": 1, "part1": 1}


def test_two_benchmarks_of_one_name_are_told_apart(source, tmp_path):
    for n, item in enumerate(ITEMS):
        (tmp_path / str(n)).mkdir()
        lines(tmp_path / str(n) / "test.jsonl", [item])
    paths = [str(tmp_path / str(n) / "test.jsonl") for n in range(2)]
    report = decontaminate_source(str(source), paths)
    assert sorted(report["by_benchmark"]) == sorted(["test", paths[1]])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the file is empty"),
        ('{"text": "no problem here"}\n', "no column holds the problem"),
        ('{"problem": "  "}\n', "holds no problem"),
    ],
)
def test_a_benchmark_without_problems_is_an_error_that_names_it(content, said, source, tmp_path):
    path = tmp_path / "empty.jsonl"
    path.write_text(content)
    with pytest.raises(ProgdataError, match=said) as raised:
        decontaminate_source(str(source), [str(path)])
    assert "empty" in str(raised.value)


def test_wrong_use_is_named(source, bench, tmp_path):
    spec = str(source)
    with pytest.raises(
        UsageError, match=r"benchmark 'aime23': neither a file nor one of aime24.*did"
    ):
        decontaminate_source(spec, ["aime23"])
    with pytest.raises(UsageError, match="unknown profile"):
        decontaminate_source(spec, [str(bench)], profile="ngram")
    with pytest.raises(UsageError, match="name a folder with --out"):
        decontaminate_source(spec, [str(bench)], action="remove")
    with pytest.raises(UsageError, match="unknown action 'delete'"):
        decontaminate_source(spec, [str(bench)], action="delete", out=tmp_path / "o")
    with pytest.raises(UsageError, match="at least one benchmark"):
        decontaminate_source(spec, [])
    with pytest.raises(UsageError, match="only files can be copied"):
        decontaminate_source("countdown:20", [str(bench)], action="remove", out=tmp_path / "o")


def test_a_source_is_never_replaced_by_its_copy(bench, tmp_path):
    (tmp_path / "kept").mkdir()
    source = lines(tmp_path / "kept" / "train.jsonl", ITEMS)
    before = source.read_bytes()
    with pytest.raises(UsageError, match="would replace its own source"):
        decontaminate_source(str(source), [str(bench)], action="remove", out=tmp_path)
    assert source.read_bytes() == before


def test_named_benchmarks_are_hub_datasets(monkeypatch):
    from progdata.builders import sources

    monkeypatch.setattr(sources, "find_hub_dataset", lambda spec: {"spec": spec, "revision": "x"})
    names = dict(named_benchmarks(["aime24", "paper"]))
    assert list(names) == ["aime24", "math500", "amc23", "olympiadbench"]
    assert names["math500"].record == {"spec": "hf:HuggingFaceH4/MATH-500#test", "revision": "x"}


def test_benchmarks_come_from_a_hub_at_a_commit_that_the_report_records(source, tmp_path):
    contest = b"".join(json.dumps({"question": text}).encode() + b"\n" for text in ITEMS[:1])
    with LoopbackHub() as hub:
        named = hub.add_dataset("HuggingFaceH4/aime_2024", {"train.jsonl": contest})
        exam = hub.add_dataset(
            "org/exam", {"test.jsonl": contest, "train.jsonl": b'{"question": "a"}\n'}
        )
        command = [*COMMAND, "decontaminate", "train.jsonl", "--json", "--against", "aime24"]
        done = subprocess.run(
            [*command, "--against", "hf:org/exam#test"],
            env=hub.client_env(tmp_path / "hf"), cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        missing = subprocess.run(
            [*command, "--against", "hf:org/none"],
            env=hub.client_env(tmp_path / "hf"), cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["flagged"] == 1
    revisions = [own["source"]["revision"] for own in report["benchmarks"].values()]
    assert revisions == [named, exam]
    assert missing.returncode != 0 and "org/none" in missing.stderr
    assert missing.stderr.splitlines()[-1].startswith("progdata: ")


def test_nothing_in_a_problem_is_markup_on_the_page(tmp_path):
    evil = (
        "Find <script>alert(1)</script> | [x](http://y) `code` **bold** # head of the table 12 34"
    )
    bench = lines(tmp_path / "contest.jsonl", [evil])
    source = lines(tmp_path / "train.jsonl", [evil])
    page = contamination_page(decontaminate_source(str(source), [str(bench)]))
    row = page.splitlines()[-1]
    assert "<script" not in page and "](http" not in page and "**bold" not in page
    assert row.count(" | ") == 5


def test_the_command_prints_a_summary_or_json(source, bench, tmp_path):
    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, "decontaminate", "train.jsonl", "--against", "contest.jsonl", *more]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    done = run("--action", "remove", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("5 rows, 2 flagged by weighted, 0 unreadable, ")
    assert "out: contamination.json, contamination.md, kept/train.jsonl" in done.stdout
    report = json.loads(run("--json", "--profile", "ngram-8").stdout)
    assert {"rows", "flagged", "by_benchmark", "by_reason", "matches"} <= set(report)
    done = run("--profile", "ngrams")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@needs_shared_data
def test_plain_ngrams_flag_as_many_real_problems_as_the_field_reports():
    source = SHARED / "data" / "problems" / "deepscaler_train_part.jsonl.gz"
    against = [
        str(path)
        for path in sorted((SHARED / "data" / "benchmarks").glob("*.gz"))
        if path.name.split(".")[0] not in ("gsm8k", "aime25")
    ]
    report = decontaminate_source(str(source), against, profile="ngram-8")
    rows = list(read_rows("problems/deepscaler_train_part.jsonl.gz"))
    flagged = {match["row"] for match in report["matches"]}
    assert report["flagged"] == len(flagged) == 1_007
    assert sum(rows[row - 1]["source"] == "aime_1983_2023" for row in flagged) == 287
    weighted = decontaminate_source(str(source), against)
    assert weighted["flagged"] < 150
