"""The contamination stage of a build: what leaves, with what evidence, and what the card says."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from build_folder import assert_same
from shared_data import SHARED, TRACES, needs_shared_data
from tampering import Forgery, found_in

from progdata.builders.errors import ProgdataError, UsageError
from progdata.releases.build import build
from progdata.releases.check import check
from progdata.releases.lockfile import read_lock
from progdata.releases.recipe import load_recipe

LEAK = (
    "Find the number of ways to seat 9 guests at a round table if two of them never sit together."
)
CHANGED = LEAK.replace("9", "7")
CLEAN = "What is the largest prime that divides the product of all even numbers up to fifty?"


def write(path: Path, problems: list[str], **more: object) -> str:
    rows = [{"problem": problem, "n": n, **more} for n, problem in enumerate(problems)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


@pytest.fixture
def held(tmp_path: Path) -> dict[str, Any]:
    """Fields of a recipe with seven traces of three problems, held against a contest."""
    problems = [CLEAN, LEAK, LEAK, CHANGED, CLEAN, CLEAN, LEAK]
    rows = [
        {"problem": problem, "answer": "5", "completion": f"<think>{n}</think>\\boxed{{{n}}}"}
        for n, problem in enumerate(problems)
    ]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    contest = write(tmp_path / "contest.jsonl", [f"See here: {LEAK}", "How far is it?"])
    return {
        "sources": [str(source)],
        "variants": ["clean"],
        "splits": {"validation": 0.0},
        "contamination": {"against": contest, "action": "remove"},
    }


def problems_in(folder: Path) -> list[str]:
    return pl.read_parquet(folder / "data" / "clean" / "*.parquet")["problem"].to_list()


def test_what_holds_text_of_a_benchmark_leaves_with_the_evidence(held, tmp_path):
    report = build(load_recipe(**held), tmp_path / "out")
    assert problems_in(tmp_path / "out") == [CLEAN] * 3
    assert report["rejected"] == {"contamination": {"shared_text": 3, "numbers_changed": 1}}
    own = report["contamination"]
    assert (own["rows"], own["flagged"], own["problems_flagged"]) == (7, 4, 2)
    assert own["by_benchmark"] == {"contest": 4}
    assert own["by_reason"] == {"numbers changed": 1, "shared text": 3}
    assert own["benchmarks"]["contest"]["items"] == 2
    rejects = pl.read_parquet(tmp_path / "out" / "rejects.parquet")
    details = rejects.filter(reason="shared_text")["detail"].unique()
    assert len(details) == 1
    assert details[0].startswith("contest row 1, score ") and "seat 9 guests" in details[0]
    assert check(tmp_path / "out") == []


def test_flagged_rows_stay_and_are_reported(held, tmp_path):
    held["contamination"]["action"] = "flag"
    report = build(load_recipe(**held), tmp_path / "out")
    assert (report["rows_out"], report["contamination"]["flagged"]) == (7, 4)
    assert "They are still in it" in (tmp_path / "out" / "README.md").read_text()


def test_the_card_shows_both_texts_and_none_of_them_is_markup(held, tmp_path):
    write(tmp_path / "contest.jsonl", [LEAK.replace("guests", "<b>guests</b> | _and_ [x](y)")])
    held["contamination"]["profile"] = "coverage-50"
    build(load_recipe(**held), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "## Contamination" in card and "They were removed" in card
    assert "<b>" not in card and "[x](y)" not in card


def test_what_is_left_is_curated(held, tmp_path):
    held["curate"] = {"sample": 1}
    report = build(load_recipe(**held), tmp_path / "out")
    assert problems_in(tmp_path / "out") == [CLEAN] * 3
    assert report["curate"]["funnel"][0]["rows_in"] == 3
    assert check(tmp_path / "out") == []


def test_neither_workers_nor_shards_change_the_build(held, tmp_path):
    build(load_recipe(**held), tmp_path / "one")
    build(load_recipe(**held), tmp_path / "two", workers=2, shard_bytes=200)
    assert_same(tmp_path / "one", tmp_path / "two")


def test_the_lock_file_records_the_benchmarks_and_other_ones_are_another_build(held, tmp_path):
    build(load_recipe(**held), tmp_path / "out")
    (record,) = read_lock(tmp_path / "out").benchmarks.values()
    assert len(record["source"]["files"][0]["sha256"]) == 64
    assert build(load_recipe(**held), tmp_path / "out")["rows_out"] == 3
    write(tmp_path / "contest.jsonl", [CLEAN])
    with pytest.raises(UsageError, match="the benchmarks' content differ"):
        build(load_recipe(**held), tmp_path / "out")


def test_check_finds_a_removed_problem_that_came_back(held, tmp_path):
    build(load_recipe(**held), tmp_path / "out")
    forgery = Forgery(tmp_path / "out")
    kept = forgery.rows()[0]["problem_id"]
    forgery.edit_rejects(lambda rows: [row | {"problem_id": kept} for row in rows])
    assert found_in(forgery) == {("conserved", kept)}


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"against": "contest.jsonl", "profile": "wieghted"}, "did you mean 'weighted'?"),
        ({"action": "remove"}, "name at least one benchmark"),
        ({"against": "x.jsonl", "action": "drop"}, "contamination.action"),
        ({"againts": ["x"]}, "did you mean 'against'?"),
        (True, "say against what"),
    ],
)
def test_a_wrong_section_is_one_line(section, says):
    with pytest.raises(UsageError) as error:
        load_recipe(contamination=section)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_benchmark_that_is_not_there_is_named(held, tmp_path):
    held["contamination"]["against"] = str(tmp_path / "none.jsonl")
    with pytest.raises(ProgdataError, match=r"none\.jsonl"):
        build(load_recipe(**held), tmp_path / "out")


@needs_shared_data
def test_traces_of_a_benchmark_are_all_flagged_by_it(tmp_path):
    recipe = load_recipe(
        sources=[str(TRACES / "r1_aime2024.jsonl.gz")],
        variants=["clean"],
        contamination={"against": str(SHARED / "data" / "benchmarks" / "aime24.jsonl.gz")},
    )
    report = build(recipe, tmp_path / "out")
    assert report["contamination"]["flagged"] == report["contamination"]["rows"] > 0
