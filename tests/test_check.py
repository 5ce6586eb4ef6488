"""`progdata check` on forged builds: whole rows, files, reports, lock files; and its exit codes."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from row_forgeries import (
    change,
    change_character,
    change_label,
    flip_mask,
    move_marker_into_response,
)
from tampering import LOCK, REPORT, Forgery, Row, found_in

from progdata.builders.errors import UsageError
from progdata.builders.splits import SPLITS
from progdata.releases.check import check
from progdata.releases.recipe import Recipe
from progdata.verifiers.laws import Violation

# --- rows and files are forged


def drop_row(rows: list[Row]) -> list[Row]:
    return rows[:3] + rows[4:]


def double_row(rows: list[Row]) -> list[Row]:
    return [*rows, rows[3]]


def test_a_row_missing_from_one_variant_is_found(forgery):
    forgery.edit_rows(drop_row, "noisy")
    assert ("aligned", forgery.name("noisy", "train")) in found_in(forgery)


def test_a_row_missing_from_every_variant_is_found(forgery):
    forgery.edit_rows(drop_row)
    assert ("aligned", LOCK) in found_in(forgery)
    forgery.declare_splits()
    assert ("conserved", REPORT) in found_in(forgery)


def test_a_doubled_row_is_found(forgery):
    own_id = forgery.rows()[3]["trace_id"]
    forgery.edit_rows(double_row)
    forgery.declare_splits()
    assert {("aligned", own_id), ("conserved", REPORT)} <= found_in(forgery)


@pytest.mark.parametrize("variant", ["clean", "noisy"])
def test_a_row_doubled_in_one_variant_is_found(forgery, variant):
    forgery.edit_rows(double_row, variant)
    assert "aligned" in {law for law, _ in found_in(forgery)}


@pytest.mark.parametrize("variant", ["clean", "noisy"])
def test_rows_added_in_a_row_group_of_their_own_are_found(forgery, variant):
    """Where the first row group is as it was, and only one variant has a second."""
    rows = forgery.rows(variant)
    forgery.write_rows(variant, "train", rows + rows[:2], group=len(rows))
    forgery.declare()
    assert "aligned" in {law for law, _ in found_in(forgery)}


def test_rows_in_other_row_groups_are_still_compared(forgery):
    rows = forgery.rows("noisy")
    forgery.write_rows("noisy", "train", rows, group=10)
    forgery.declare()
    assert "aligned" in {law for law, _ in found_in(forgery)}


def test_a_row_moved_to_another_split_is_found(forgery):
    own_id = forgery.rows()[3]["trace_id"]
    for variant in forgery.variants:
        rows = forgery.rows(variant)
        moved = rows.pop(3) | {"split": "validation"}
        others = [*forgery.rows(variant, "validation"), moved]
        forgery.write_rows(variant, "train", rows)
        forgery.write_rows(variant, "validation", others)
    forgery.declare()
    forgery.declare_splits()
    found = {(v.law, v.where, v.detail) for v in check(forgery.folder)}
    assert ("aligned", own_id, "is in validation; its problem belongs to another") in found
    assert {law for law, _, _ in found} == {"aligned", "reproducible"}, "masks follow the places"


def test_a_row_that_stands_in_the_file_of_another_split_is_found(forgery):
    """Its own column says where its problem belongs; only its file is the wrong one."""
    own_id = forgery.rows()[3]["trace_id"]
    for variant in forgery.variants:
        rows = forgery.rows(variant)
        forgery.write_rows(variant, "ood", [*forgery.rows(variant, "ood"), rows.pop(3)])
        forgery.write_rows(variant, "train", rows)
    forgery.declare()
    assert ("aligned", own_id) in found_in(forgery)


def test_a_row_that_says_it_is_in_another_split_is_found(forgery):
    own_id = forgery.edit_row(change(split="ood"))
    assert found_in(forgery) == {("aligned", own_id), ("aligned", LOCK)}


def test_rows_in_another_order_in_one_variant_are_found(forgery):
    ids = {row["trace_id"] for row in forgery.rows()}
    forgery.edit_rows(lambda rows: rows[::-1], "noisy")
    found = found_in(forgery)
    assert {law for law, _ in found} == {"aligned"}
    assert {where for _, where in found} <= ids


def test_rows_in_another_order_in_every_variant_are_found(forgery):
    forgery.edit_rows(lambda rows: rows[::-1])
    assert {law for law, _ in found_in(forgery)} == {"reproducible"}


@pytest.mark.parametrize(
    "columns",
    [
        lambda table: table.drop_columns(["masked"]),
        lambda table: table.append_column("extra", pa.nulls(table.num_rows)),
        lambda table: table.set_column(
            table.schema.get_field_index("num_tokens"),
            "num_tokens",
            table["num_tokens"].cast(pa.int64()),
        ),
    ],
    ids=["dropped", "added", "of another type"],
)
@pytest.mark.parametrize("variant", ["clean", "special"])
def test_a_table_with_other_columns_is_found(forgery, columns, variant):
    path = forgery.file(variant, "train")
    pq.write_table(columns(pq.read_table(path)), path)
    forgery.declare()
    assert ("declared", forgery.name(variant, "train")) in found_in(forgery)


def test_an_undeclared_file_is_found(forgery):
    extra = forgery.folder / "data" / "noisy" / "train-00001-of-00002.parquet"
    shutil.copy(forgery.file("noisy", "train"), extra)
    name = "data/noisy/train-00001-of-00002.parquet"
    assert found_in(forgery) == {("declared", name)}


@pytest.mark.parametrize("place", [".", "data/noisy", "reports"])
def test_an_unfinished_file_is_found(forgery, place):
    (forgery.folder / place / ".tmp-123-train.parquet").write_bytes(b"PAR1")
    found = {where for law, where in found_in(forgery) if law == "atomic"}
    assert found == {f"{place}/.tmp-123-train.parquet".removeprefix("./")}


@pytest.mark.parametrize(
    "name", ["README.md", REPORT, "rejects.parquet", "special_tokens.json", "data"]
)
def test_a_changed_or_missing_file_is_found(forgery, name):
    path = forgery.file("masked", "ood") if name == "data" else forgery.folder / name
    name = path.relative_to(forgery.folder).as_posix()
    path.write_bytes(path.read_bytes() + b" ")
    assert found_in(forgery) == {("declared", name)}
    path.unlink()
    assert found_in(forgery) == {("declared", name)}


@pytest.mark.parametrize("name", ["rejects.parquet", "data"])
def test_a_declared_file_that_is_no_parquet_is_found(forgery, name):
    path = forgery.file("noisy", "train") if name == "data" else forgery.folder / name
    path.write_bytes(path.read_bytes()[:200])

    def declare(lock: dict[str, Any]) -> None:
        record = lock["files"][path.relative_to(forgery.folder).as_posix()]
        data = path.read_bytes()
        record |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    forgery.edit_json(LOCK, declare)
    assert found_in(forgery) == {("declared", path.relative_to(forgery.folder).as_posix())}


def test_a_variant_without_a_file_is_found(forgery):
    path = forgery.file("noisy", "ood")
    name = forgery.name("clean", "ood")
    forgery.edit_json(LOCK, lambda lock: lock["files"].pop(forgery.name("noisy", "ood")))
    path.unlink()
    assert ("aligned", name) in found_in(forgery)


def test_a_file_that_only_one_variant_has_is_found(forgery):
    path = forgery.file("noisy", "ood")
    name = "data/noisy/ood-00001-of-00002.parquet"
    shutil.copy(path, forgery.folder / name)

    def declare(lock: dict[str, Any]) -> None:
        lock["files"][name] = lock["files"][forgery.name_of(path)]

    forgery.edit_json(LOCK, declare)
    assert ("aligned", name) in found_in(forgery)


def test_a_build_that_declares_no_table_is_found(forgery):
    shutil.rmtree(forgery.folder / "data")

    def forget(lock: dict[str, Any]) -> None:
        lock["files"] = {k: v for k, v in lock["files"].items() if not k.startswith("data/")}

    forgery.edit_json(LOCK, forget)
    assert ("aligned", LOCK) in found_in(forgery)


# --- what the build says of itself is forged


@pytest.mark.parametrize(
    "edit",
    [
        lambda report: report.update(rows_in=report["rows_in"] + 1),
        lambda report: report.update(rows_out=report["rows_out"] - 1),
        lambda report: report["stages"][1].update(rows_in=report["stages"][1]["rows_in"] + 1),
        lambda report: report["stages"][-1].update(rows_out=0),
        lambda report: report["stages"][1]["rejected"].clear(),
        lambda report: report["stages"].pop(1),
    ],
    ids=["rows_in", "rows_out", "stage in", "stage out", "stage rejects", "stage missing"],
)
def test_an_edited_report_is_found(forgery, edit):
    forgery.edit_json(REPORT, edit)
    assert found_in(forgery) == {("declared", REPORT)}
    forgery.declare()
    assert found_in(forgery) == {("conserved", REPORT)}


def test_a_report_with_other_rejects_is_found(forgery):
    forgery.edit_json(REPORT, lambda report: report["rejected"].clear())
    forgery.declare()
    assert ("conserved", "rejects.parquet") in found_in(forgery)


@pytest.mark.parametrize("content", ["not JSON", "[]", "{}", '{"rows_in": "x"}'])
def test_a_report_that_is_none_is_found(forgery, content):
    (forgery.folder / REPORT).write_text(content, "utf-8")
    forgery.declare()
    assert ("declared", REPORT) in found_in(forgery)


def test_a_missing_reject_is_found(forgery):
    forgery.edit_rejects(lambda rows: rows[1:])
    assert {("conserved", "rejects.parquet"), ("conserved", REPORT)} == found_in(forgery)


def test_a_reject_without_a_reason_is_found(forgery):
    forgery.edit_rejects(lambda rows: [rows[0] | {"reason": ""}, *rows[1:]])
    details = {(v.where, v.detail) for v in check(forgery.folder)}
    assert ("rejects.parquet", "a reject has no reason") in details


def test_an_edited_recipe_is_found(forgery):
    forgery.edit_json(LOCK, lambda lock: lock["recipe"].update(seed=1))
    assert ("declared", LOCK) in found_in(forgery)


@pytest.mark.parametrize(
    ("changes", "law"),
    [
        ({"seed": 1}, "true"),
        ({"seed": 1}, "reproducible"),
        ({"markers": {"tag": "p"}}, "inside"),
        ({"markers": {"rounding": "ceil"}}, "true"),
        ({"variants": ["clean", {"name": "noisy", "sigma": 0.06}]}, "true"),
        ({"variants": ["clean", {"name": "noisy", "special": True}]}, "inside"),
        ({"variants": ["clean", {"name": "masked", "mask_max": 0.4}]}, "reproducible"),
        ({"splits": {"ood_tokens": 3000, "validation": 0.2}}, "aligned"),
        ({"splits": {"ood_tokens": 1500, "validation": 0.1}}, "aligned"),
        ({"segmenter": "tokens:7"}, "reproducible"),
        ({"segmenter": {"name": "newline", "min_tokens": 30}}, "reproducible"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_recipe_that_the_rows_do_not_follow_is_found(forgery, changes, law):
    recipe = forgery.lock["recipe"] | changes
    forgery.declare_recipe(Recipe.model_validate(recipe).model_dump())
    found = found_in(forgery)
    assert law in {found_law for found_law, _ in found}
    assert "declared" not in {found_law for found_law, _ in found}
    rows = {row["trace_id"] for split in SPLITS for row in forgery.rows(split=split)}
    assert {where for found_law, where in found if found_law == law} <= rows


def test_other_splits_in_the_lock_file_are_found(forgery):
    forgery.edit_json(LOCK, lambda lock: lock["splits"].update(train=lock["splits"]["train"] + 1))
    assert {("aligned", LOCK), ("conserved", REPORT)} <= found_in(forgery)


def test_other_rows_in_the_lock_file_are_found(forgery):
    name = forgery.name("noisy", "train")
    forgery.edit_json(LOCK, lambda lock: lock["files"][name].update(rows=3))
    assert ("declared", name) in found_in(forgery)


def test_another_tokenizer_is_refused(forgery, tmp_path):
    forgery.edit_json(LOCK, lambda lock: lock["tokenizer"].update(fingerprint="0" * 64))
    with pytest.raises(UsageError, match="its fingerprint is"):
        check(forgery.folder)


def test_a_folder_without_a_build_is_refused(tmp_path):
    with pytest.raises(UsageError, match="expected the folder of a finished build"):
        check(tmp_path)


# --- the command line

ONE_EACH: dict[str, Callable[[Forgery], Any]] = {
    "lossless": lambda forgery: forgery.edit_row(change_character),
    "true": lambda forgery: forgery.edit_row(change_label, "noisy"),
    "inside": lambda forgery: forgery.edit_row(move_marker_into_response, "clean"),
    "conserved": lambda forgery: forgery.edit_rejects(lambda rows: rows[1:]),
    "reproducible": lambda forgery: forgery.edit_row(flip_mask, "masked"),
    "aligned": lambda forgery: forgery.edit_row(change(answer="42"), "noisy"),
    "atomic": lambda forgery: (forgery.folder / ".tmp-1-x").write_bytes(b""),
    "declared": lambda forgery: (forgery.folder / "README.md").unlink(),
}


def run_check(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "progdata.cli", "check", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("law", ONE_EACH)
def test_the_command_line_names_the_law_and_exits_with_3(forgery, law):
    ONE_EACH[law](forgery)
    broken = check(forgery.folder)
    done = run_check(forgery.folder)
    assert done.returncode == 3
    assert done.stderr == ""
    assert [f"{own.law}: {own.where}: {own.detail}" for own in broken] == done.stdout.splitlines()[
        :-1
    ]
    assert law in {own.law for own in broken}


def test_the_command_line_gives_violations_as_json(forgery):
    own_id = forgery.edit_row(flip_mask, "masked")
    done = run_check(forgery.folder, "--json")
    assert done.returncode == 3
    answer = json.loads(done.stdout)
    assert answer["ok"] is False
    assert answer["violations"] == 1
    assert [Violation(**own).where for own in answer["broken"]] == [own_id]


def test_the_command_line_exits_with_0_where_every_law_holds(countdown_build):
    done = run_check(countdown_build, "--json")
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, True)
