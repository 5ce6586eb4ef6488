"""The curate stage of a build: what it measures, what it refuses, and what `check` proves of it."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from build_folder import assert_same, countdown
from sampled_problems import SOURCE, sampled, write_source
from tampering import Forgery, found_in

from progdata.builders.errors import UsageError
from progdata.releases.build import build
from progdata.releases.check import check
from progdata.releases.curated import curate_source
from progdata.releases.recipe import Recipe, load_recipe


def build_rows(tmp_path: Path, rows: list[Any] = SOURCE, **fields: Any) -> dict[str, Any]:
    source = write_source(tmp_path / "rows.jsonl", rows)
    return build(load_recipe(sources=[source], variants=["clean"], **fields), tmp_path / "out")


def built(tmp_path: Path, *columns: str) -> list[tuple[Any, ...]]:
    paths = sorted((tmp_path / "out" / "data" / "clean").glob("*.parquet"))
    rows = pl.concat(pl.read_parquet(path, columns=list(columns)) for path in paths)
    return sorted(rows.iter_rows())


def rejects(tmp_path: Path, stage: str) -> list[dict[str, Any]]:
    rows = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    return [row for row in rows if row["stage"] == stage]


def test_a_build_without_curate_has_no_pass_rate(tmp_path):
    report = build_rows(tmp_path)
    assert report["curate"] is None and report["stages"][-2] == {
        "stage": "curate", "rows_in": 11, "rows_out": 11, "rejected": {},
    }  # fmt: skip
    assert {rate for (rate,) in built(tmp_path, "pass_rate")} == {None}


def test_a_build_fills_in_the_pass_rates(tmp_path):
    report = build_rows(tmp_path, curate=True)
    assert set(built(tmp_path, "problem", "pass_rate")) == {
        ("easy", 1.0), ("fair", 0.5), ("hard", 0.0), ("prose", None), ("open", None),
    }  # fmt: skip
    assert report["curate"]["problems"]["pass_rate"]["known"] == 3
    assert check(tmp_path / "out") == []


def test_a_build_refuses_what_is_not_selected_with_the_evidence(tmp_path):
    report = build_rows(tmp_path, curate={"pass_rate": [0.1, 0.9], "gradable": True})
    assert report["rejected"]["curate"] == {
        "gold_not_gradable": 1, "no_gold": 3, "pass_rate_out_of_range": 5,
    }  # fmt: skip
    assert {name for (name,) in built(tmp_path, "problem")} == {"fair"}
    refused = rejects(tmp_path, "curate")
    assert {json.loads(row["raw"])["problem"] for row in refused} == {
        "easy",
        "hard",
        "prose",
        "open",
    }
    details = {row["detail"] for row in refused if row["reason"] == "pass_rate_out_of_range"}
    assert details == {
        f"pass rate {own} decided traces; asked: 0.1 to 0.9"
        for own in ("1.0, 3 of 3", "0.0, 0 of 2")
    }
    assert check(tmp_path / "out") == []


def test_traces_that_the_verify_stage_refuses_are_evidence_still(tmp_path):
    build_rows(tmp_path, verify={"keep": "correct"}, curate={"pass_rate": [0.1, 0.9]})
    assert built(tmp_path, "problem", "pass_rate") == [("fair", 0.5)]
    assert check(tmp_path / "out") == []


def test_a_build_counts_cut_traces_as_wrong_where_the_recipe_keeps_and_says_so(tmp_path):
    policies = {"cut_traces": "keep"}
    build_rows(tmp_path, policies=policies, curate={"cut_traces": "wrong", "finished": True})
    found = dict(built(tmp_path, "problem", "pass_rate"))
    assert found["fair"] == pytest.approx(1 / 3, rel=1e-6)
    assert len(rejects(tmp_path, "curate")) == 3
    assert check(tmp_path / "out") == []


def test_a_repeated_trace_counts_once(tmp_path):
    rows = sampled("p", "1", "1", "2") + sampled("p", "1", "1")
    build_rows(tmp_path, rows, curate=True)
    assert built(tmp_path, "pass_rate") == [(0.5,), (0.5,)]
    assert [row["reason"] for row in rejects(tmp_path, "duplicates")] == ["duplicate_trace"]


def test_splits_see_only_what_is_left(tmp_path):
    """A problem whose one long trace was cut off, and dropped for it, is not in `ood`."""
    rows = [
        *sampled("p", "1", "1", "1"),
        {"problem": "p", "answer": "1", "completion": "<think>" + "word " * 50},
    ]
    fields = {"policies": {"cut_traces": "keep"}, "splits": {"ood_tokens": 20, "validation": 0}}
    (tmp_path / "off").mkdir()
    assert build_rows(tmp_path / "off", rows, **fields)["splits"] == {"ood": 1}
    report = build_rows(tmp_path, rows, **fields, curate={"finished": True})
    assert report["splits"] == {"train": 2}
    assert check(tmp_path / "out") == []


CURATED = {
    "pass_rate": [0.1, 0.95], "sample": 40, "stratify": "length", "length_of": "problem",
}  # fmt: skip


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """Sixty problems with three samples each, some wrong."""
    rows = [
        row
        for number in range(60)
        for row in sampled(
            f"Problem {'x ' * (number % 7)}{number}", "1", "1", "1" if number % 5 else "2", "2"
        )
    ]
    path = tmp_path_factory.mktemp("many") / "rows.jsonl"
    write_source(path, rows)
    return path


@pytest.mark.parametrize(("workers", "shard_bytes"), [(1, 512), (2, 4096)])
def test_neither_workers_nor_shards_change_a_curated_build(many, tmp_path, workers, shard_bytes):
    recipe = load_recipe(sources=[str(many)], variants=["all"], curate=CURATED)
    build(recipe, tmp_path / "one")
    build(recipe, tmp_path / "other", workers=workers, shard_bytes=shard_bytes)
    assert_same(tmp_path / "other", tmp_path / "one")


def test_every_law_holds_on_a_curated_build_of_all_variants(many, tmp_path):
    recipe = load_recipe(sources=[str(many)], variants=["all"], curate=CURATED)
    report = build(recipe, tmp_path / "out")
    assert report["rows_in"] == report["rows_out"] + report["rows_rejected"] == 180
    assert report["problems"] == 40
    assert [own["stage"] for own in report["stages"]][-3:] == ["contamination", "curate", "splits"]
    assert check(tmp_path / "out") == []


@pytest.fixture
def forged(many, tmp_path) -> Forgery:
    recipe = load_recipe(sources=[str(many)], variants=["clean"], curate={"pass_rate": [0.1, 0.95]})
    build(recipe, tmp_path / "out")
    return Forgery(tmp_path / "out")


@pytest.mark.parametrize("rate", [0.5, None, 0.05])
def test_check_finds_a_pass_rate_that_the_verdicts_do_not_give(forged, rate):
    problem = forged.rows()[0]["problem_id"]

    def edit(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["pass_rate"] = rate if row["problem_id"] == problem else row["pass_rate"]

    forged.edit_rows(edit)
    assert ("true", forged.rows()[0]["trace_id"]) in found_in(forged)


def test_check_finds_a_pass_rate_that_differs_within_a_problem(forged):
    changed = forged.edit_row(lambda row, _: row.update(pass_rate=0.9), index=0)
    assert ("true", changed) in found_in(forged)


def test_check_finds_pass_rates_where_nothing_was_curated(forged):
    forged.declare_recipe({"curate": {"enabled": False}})
    details = {violation.detail for violation in check(forged.folder)}
    assert "has a pass rate, and nothing was curated" in details


def test_check_finds_a_row_that_the_recipe_would_drop(forged):
    curate = forged.lock["recipe"]["curate"]
    forged.declare_recipe({"curate": curate | {"pass_rate": [0.5, 0.95]}})
    assert {"pass rate 0.333333 is not in 0.5 to 0.95"} <= {
        violation.detail.replace("0.33333334", "0.333333") for violation in check(forged.folder)
    }


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"curate": {"pass_rate": [0.9, 0.1]}}, "curate: pass_rate 0.9:0.1: expected A:B"),
        ({"curate": {"pass_rate": "0.1"}}, "curate.pass_rate"),
        ({"curate": {"length_bin": 6010}}, "curate.length_bin: write a range as"),
        ({"curate": {"pas_rate": [0, 1]}}, "unknown field 'curate.pas_rate'; did you mean"),
        ({"curate": {"gradable": True}, "verify": False}, "switch verify on"),
        ({"curate": {"cut_traces": "wrong"}}, "needs policies.cut_traces: keep"),
    ],
)
def test_a_recipe_that_cannot_be_curated_is_refused(fields, said):
    with pytest.raises(UsageError, match=said):
        load_recipe(**fields)


def test_a_curate_section_is_on_when_it_says_anything():
    assert not Recipe().curate.enabled
    assert not load_recipe(curate={}).curate.enabled
    assert load_recipe(curate=True).curate.enabled
    assert load_recipe(curate={"pass_rate": "0.1:0.9"}).curate.pass_rate == (0.1, 0.9)
    off = load_recipe(curate={"enabled": False, "sample": 5})
    assert off.curate_settings() is None
    assert Recipe.model_validate(off.model_dump()) == off


def test_lengths_and_samples_need_no_verdicts(tmp_path):
    recipe = countdown(30, ["clean"], verify=False, curate={"length_bin": "short", "sample": 5})
    report = build(recipe, tmp_path / "out")
    assert report["problems"] == 5
    assert check(tmp_path / "out") == []


def test_the_folder_of_a_build_can_be_curated(tmp_path):
    report = build_rows(tmp_path)
    again = curate_source(str(tmp_path / "out"), workers=1)
    assert again["kept"] == again["rows_in"] == report["rows_out"]
