"""`progdata bench contamination`: profiles and users' checkers against planted leaks."""

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from shared_data import needs_shared_data, read_rows

from progdata.builders.errors import ProgdataError, UsageError
from progdata.cards.contamination_bench_table import bench_summary
from progdata.releases.benched import bench_sources
from progdata.verifiers.contamination_bench import (
    DEFAULT_PROFILES,
    LENGTHS,
    bench_contamination,
    find_checkers,
    length_classes,
)
from progdata.verifiers.contamination_profiles import PROFILES
from progdata.verifiers.generated_problems import generated_problems
from progdata.verifiers.leaks import LEAKS, count_words
from progdata.verifiers.planted_leaks import mix, plant_leaks

CHECKERS = """
def nothing(problems, items):
    return []

def everything(problems, items):
    return range(len(problems))

def same_text(problems, items):
    return {i for i, problem in enumerate(problems) if problem in set(items)}

def holds_an_item(problems, items):
    return (i for i, problem in enumerate(problems) if any(item in problem for item in items))

def part_of_an_item(problems, items):
    return [i for i, problem in enumerate(problems) if any(problem in item for item in items)]

def greedy(problems, items):
    problems.clear()
    items.clear()
    return [0]

def mask(problems, items):
    return [problem in items for problem in problems]

def shares(problems, items):
    return [0.5]

def beyond(problems, items):
    return [len(problems)]

def negative(problems, items):
    return [-1]

def none(problems, items):
    return None

def raises(problems, items):
    raise KeyError("no\\nmodel")

def in_numpy(problems, items):
    import numpy
    return numpy.arange(len(problems))

constant = 3
"""

KINDS_OF_THE_TARGET = ("verbatim", "reformatted", "case_and_punctuation", "embedded")


@pytest.fixture
def mine(tmp_path, monkeypatch) -> str:
    """The import path of a module of users' checkers."""
    (tmp_path / "my_checkers.py").write_text(CHECKERS, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_checkers", raising=False)
    return "my_checkers"


def bench_one(path: str, **options: Any) -> dict[str, Any]:
    """The part of the report on one checker, with few rows."""
    return bench_contamination([], [path], **{"rows": 12, **options})["checkers"][path]


def recall(report: dict[str, Any]) -> dict[str, float]:
    return {kind: own["share"] for kind, own in report["recall"].items()}


def write_rows(path: Path, problems: list[str]) -> str:
    data = "".join(json.dumps({"problem": problem}) + "\n" for problem in problems).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def without_seconds(report: Any) -> Any:
    if isinstance(report, dict):
        slow = {"seconds", "problems_per_second"}
        return {key: without_seconds(own) for key, own in report.items() if key not in slow}
    return report


# --- what is measured


def test_a_checker_that_flags_nothing_finds_nothing(mine):
    report = bench_one(f"{mine}:nothing")
    assert set(recall(report).values()) == {0.0}
    assert report["false_alarms"]["found"] == 0
    assert all(len(shown) == 5 for shown in report["misses"].values())


def test_a_checker_that_flags_everything_raises_only_alarms(mine):
    report = bench_one(f"{mine}:everything")
    assert set(recall(report).values()) == {1.0}
    assert report["false_alarms"]["share"] == 1.0
    assert report["false_alarms"]["of"] == 120
    assert not any(report["misses"].values())


def test_equal_texts_are_the_verbatim_leaks_alone(mine):
    report = bench_one(f"{mine}:same_text")
    assert recall(report) == {kind: float(kind == "verbatim") for kind in LEAKS}
    assert report["false_alarms"]["found"] == 0


def test_contained_items_are_verbatim_or_embedded(mine):
    found = recall(bench_one(f"{mine}:holds_an_item"))
    assert found == {kind: float(kind in ("verbatim", "embedded")) for kind in LEAKS}


def test_parts_of_items_are_verbatim_or_halves(mine):
    found = recall(bench_one(f"{mine}:part_of_an_item"))
    assert found == {
        kind: float(kind in ("verbatim", "first_half", "second_half")) for kind in LEAKS
    }


def test_numpy_integers_are_indices(mine):
    assert bench_one(f"{mine}:in_numpy")["false_alarms"]["share"] == 1.0


def test_a_checker_cannot_change_what_others_see(mine):
    reports = bench_contamination([], [f"{mine}:greedy", f"{mine}:everything"], rows=3)["checkers"]
    assert reports[f"{mine}:everything"]["false_alarms"]["of"] == 30
    assert reports[f"{mine}:everything"]["false_alarms"]["share"] == 1.0


def test_the_interval_is_that_of_wilson(mine):
    alarms = bench_one(f"{mine}:nothing", rows=10)["false_alarms"]
    assert alarms["of"] == 100
    assert alarms["interval_95"] == pytest.approx([0, 0.0370], abs=1e-4)


def test_the_misses_show_the_item_and_what_was_planted(mine):
    items = generated_problems(3, 30)
    misses = bench_one(f"{mine}:holds_an_item", items=items)["misses"]
    assert not misses["verbatim"]
    for miss in misses["first_half"]:
        assert miss["item"] in items
        assert miss["item"].startswith(miss["planted"])


def test_classes_of_length_are_by_the_words_of_the_item(mine):
    items = ["Find $x$.", " ".join(["word"] * LENGTHS[0]), "one two " * LENGTHS[-1]]
    report = bench_one(f"{mine}:same_text", items=items)["by_length"]
    assert list(report) == length_classes() == ["1-7", "8-12", "13-24", "25-49", "50+"]
    verbatim = {name: own["kinds"]["verbatim"]["of"] for name, own in report.items()}
    assert verbatim == {"1-7": 1, "8-12": 1, "13-24": 0, "25-49": 0, "50+": 1}
    assert report["13-24"]["share"] is None


def test_profiles_say_which_item_leaked():
    report = bench_contamination(["weighted"], rows=20)["checkers"]["weighted"]
    verbatim = report["recall"]["verbatim"]
    assert verbatim["right_item"] == verbatim["found"] == 20
    assert sum(verbatim["reasons"].values()) == 20


def test_false_alarms_are_shown_with_their_evidence():
    examples = bench_contamination(["ngram-8"], rows=10)["checkers"]["ngram-8"]["false_alarms"]
    assert len(examples["examples"]) == 5
    for one in examples["examples"]:
        assert one["reason"] == "shared 8-gram"
        assert one["problem"] and one["item"]


# --- what is planted


def test_each_item_leaks_once_in_a_set_at_most():
    items = generated_problems("items", 20)
    clean = generated_problems("clean", 50)
    leaks = plant_leaks(items, 15, seed=0)
    sets = mix(leaks, clean, seed=0)
    assert len(sets) > 1
    for own in sets:
        leaked = Counter(leak.item for leak in own.leaks if leak is not None)
        assert max(leaked.values()) == 1
        assert sorted(index for index in own.clean if index >= 0) == list(range(50))
        for problem, leak, index in zip(own.problems, own.leaks, own.clean, strict=True):
            assert problem == (clean[index] if leak is None else leak.text)
    planted = Counter(id(leak) for own in sets for leak in own.leaks if leak is not None)
    assert planted == Counter(map(id, leaks))


def test_a_kind_is_planted_as_often_as_it_applies():
    items = ["Find $x$.", "Compute $2 + 3$.", "Name 4 odd primes. Add them."]
    planted = bench_contamination(["ngram-13"], items=items, rows=50)["planted"]
    assert planted["verbatim"] == 3
    assert planted["numbers_changed"] == 2
    assert planted["sentence_order"] == 1
    assert planted["first_half"] == 0


def test_leaks_are_among_the_clean_problems_and_not_behind_them():
    leaks = plant_leaks(generated_problems("items", 50), 50, seed=0)
    (own, *_) = mix(leaks, generated_problems("clean", 200), seed=0)
    places = [place for place, leak in enumerate(own.leaks) if leak is not None]
    assert places[0] < 30
    assert places[-1] > len(own.leaks) - 30


def test_a_seed_gives_the_same_report_and_another_seed_another(mine):
    reports = [
        without_seconds(bench_contamination(["weighted"], [f"{mine}:nothing"], rows=8, seed=seed))
        for seed in (1, 1, 2)
    ]
    assert reports[0] == reports[1]
    assert reports[0]["checkers"] != reports[2]["checkers"]


# --- wrong use


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("no_such_module:check", "cannot import no_such_module"),
        ("my_checkers:missing", "missing is not in it"),
        ("my_checkers:constant", "constant is not a function"),
        ("my_checkers", "unknown checker 'my_checkers'"),
        ("my_checkers.nothing", "unknown checker 'my_checkers.nothing'"),
        ("", "unknown checker ''"),
    ],
)
def test_a_wrong_import_path_is_wrong_use(mine, path, says):
    with pytest.raises(UsageError) as error:
        bench_contamination([], [path])
    assert says in str(error.value)
    assert "expected the import path package.module:function" in str(error.value)
    assert "math-verify" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("mask", "gave False; expected indices"),
        ("shares", "gave 0.5; expected indices"),
        ("beyond", "expected indices of flagged problems, 0 to "),
        ("negative", "gave -1; expected indices"),
        ("none", "failed: TypeError"),
        ("raises", "failed: KeyError: 'no\\nmodel'"),
    ],
)
def test_a_checker_that_fails_is_named(mine, function, says):
    with pytest.raises(ProgdataError) as error:
        bench_one(f"{mine}:{function}", rows=3)
    assert says in str(error.value)
    assert f"{mine}:{function}" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_profile_is_wrong_use():
    with pytest.raises(UsageError, match=r"unknown profile 'ngram-9'.*ngram-8"):
        bench_contamination(["ngram-9"])
    with pytest.raises(UsageError, match="no profile to bench"):
        bench_contamination([])


def test_impossible_numbers_and_empty_sets_are_wrong_use():
    with pytest.raises(UsageError, match="0 leaks of each kind"):
        bench_contamination(["ngram-8"], rows=0)
    with pytest.raises(UsageError, match="no items"):
        bench_contamination(["ngram-8"], items=[])
    with pytest.raises(UsageError, match="no clean problems"):
        bench_contamination(["ngram-8"], clean=[])


def test_all_profiles_but_the_slow_one_run_by_default():
    assert (
        list(find_checkers()) == list(DEFAULT_PROFILES) == [p for p in PROFILES if p != "embedding"]
    )


# --- files


def test_items_and_clean_problems_come_from_files(tmp_path, mine):
    items = write_rows(tmp_path / "bench.jsonl.gz", generated_problems("a", 15))
    clean = write_rows(tmp_path / "train.jsonl", generated_problems("b", 40))
    report = bench_sources(["ngram-8"], [f"{mine}:same_text"], items=[items], clean=clean, rows=5)
    assert report["items"]["count"] == 15
    assert report["clean"]["count"] == 40
    assert not report["items"]["generated"] and not report["clean"]["generated"]
    assert "sha256" in json.dumps(report["items"]["sources"])
    assert "sha256" in json.dumps(report["clean"]["sources"])
    assert report["checkers"][f"{mine}:same_text"]["recall"]["verbatim"]["share"] == 1.0


def test_files_may_be_given_for_one_side_only(tmp_path):
    clean = write_rows(tmp_path / "train.jsonl", generated_problems("b", 40))
    report = bench_sources(["ngram-8"], clean=clean, rows=2)
    assert report["items"]["generated"]
    assert report["clean"]["count"] == 40


def test_a_wrong_checker_is_found_before_files_are_read(mine):
    with pytest.raises(UsageError, match="missing is not in it"):
        bench_sources(None, [f"{mine}:missing"], items=["no-such-file.jsonl"])


def test_a_file_without_problems_is_an_error(tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"")
    with pytest.raises(ProgdataError, match="empty"):
        bench_sources(["ngram-8"], clean=str(empty))
    blank = write_rows(tmp_path / "blank.jsonl", ["", " "])
    with pytest.raises(ProgdataError, match="holds no problem"):
        bench_sources(["ngram-8"], clean=blank)
    with pytest.raises(ProgdataError, match="holds no problem"):
        bench_sources(["ngram-8"], items=[blank])


# --- the report


def test_the_report_is_json_and_a_table(mine):
    report = bench_contamination(["weighted", "ngram-13"], [f"{mine}:nothing"], rows=10)
    assert json.loads(json.dumps(report)) == report
    text = bench_summary(report)
    for words in (
        "100 leaks of 20 generated items among 100 generated clean problems, seed 0",
        "case and punctuation",
        f"weighted  ngram-13  {mine}:nothing",
        "false alarms",
        "25-49",
    ):
        assert words in text
    rows = {line.split("  ")[0]: line for line in text.splitlines()}
    assert rows["verbatim"].split() == ["verbatim", "10", "100.0%", "100.0%", "0.0%"]


def test_the_table_shows_no_control_characters():
    report = bench_contamination(["ngram-13"], items=["Find \x1b[31m $x$."], rows=1)
    assert "\x1b" not in bench_summary(report)
    assert "x1b" in bench_summary(report)


# --- targets


def assert_targets(report: dict[str, Any]) -> None:
    """The targets of the default profile."""
    found = recall(report)
    for kind in KINDS_OF_THE_TARGET:
        assert found[kind] >= 0.99, kind
    assert found["first_half"] >= 0.95
    assert found["second_half"] >= 0.95
    assert found["numbers_changed"] >= 0.90


def test_the_default_profile_meets_its_targets_on_generated_problems():
    report = bench_contamination(["weighted"], rows=100)["checkers"]["weighted"]
    assert_targets(report)
    assert report["false_alarms"]["share"] <= 0.005


@needs_shared_data
def test_the_default_profile_meets_its_targets_on_other_contests():
    """AIME 1983-2023 holds nothing of AIME 2024; plain 8-grams flag 227 of its problems."""
    train = list(read_rows("problems/deepscaler_train_part.jsonl.gz"))
    clean = [row["problem"] for row in train if row["source"] == "aime_1983_2023"]
    items = [row["problem"] for row in read_rows("benchmarks/aime24.jsonl.gz")]
    report = bench_contamination(["weighted", "ngram-8"], items=items, clean=clean, rows=30)
    alarms = {name: own["false_alarms"] for name, own in report["checkers"].items()}
    assert alarms["ngram-8"]["found"] == 227
    assert alarms["ngram-8"]["of"] == 975
    assert alarms["weighted"]["share"] <= 0.005
    assert_targets(report["checkers"]["weighted"])


@needs_shared_data
def test_short_items_are_found_as_well():
    """MATH500 has problems of two words; few of those under 8 are within reach of 8-grams."""
    items = [row["problem"] for row in read_rows("benchmarks/math500.jsonl.gz")]
    assert min(map(count_words, items)) < 5
    clean = generated_problems("clean", 200)
    report = bench_contamination(["weighted", "ngram-8"], items=items, clean=clean, rows=500)
    short = {name: own["by_length"]["1-7"]["kinds"] for name, own in report["checkers"].items()}
    assert short["weighted"]["verbatim"]["share"] == 1.0
    assert short["weighted"]["case_and_punctuation"]["share"] == 1.0
    assert short["weighted"]["reformatted"]["share"] > 0.95
    assert short["ngram-8"]["verbatim"]["share"] < 0.5


def test_the_command_prints_tables_or_json(tmp_path):
    (tmp_path / "mine.py").write_text("def nothing(problems, items):\n    return []\n")

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "progdata.cli", "bench", "contamination", "--rows", "5"]
        paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": paths}
        return subprocess.run(
            [*command, *more], cwd=tmp_path, capture_output=True, text=True, env=environment
        )

    done = run("--profiles", "weighted,ngram-13")
    assert done.returncode == 0, done.stderr
    assert "leaks found           planted  weighted  ngram-13" in done.stdout
    report = json.loads(run("--checker", "mine:nothing", "--json", "--seed", "3").stdout)
    assert (list(report["checkers"]), report["seed"]) == (["mine:nothing"], 3)
    done = run("--profile", "wieghted")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "did you mean 'weighted'?" in done.stderr
