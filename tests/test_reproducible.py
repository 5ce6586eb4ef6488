"""Law 5: the same recipe on the same inputs gives the same bytes, however it was built."""

import gzip
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from build_folder import LOCK, assert_same, countdown, published
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shared_data import TOKENIZER, TRACES, needs_shared_data, read_traces

from progdata.releases import plan
from progdata.releases.build import build
from progdata.releases.recipe import Recipe, load_recipe

PRESETS = ["clean", "noisy", "masked", "special", "masked-special"]
WHOLE = 8 << 20

REAL_ROWS = {
    "no_gold_math": (6, ".jsonl"),
    "r1_14b_aime_samples": (8, ".jsonl.gz"),
    "r1_14b_mixed_samples": (12, ".parquet"),
    "r1_1p5b_math": (6, ".jsonl"),
    "r1_8b_math500_16_samples": (12, ".jsonl.gz"),
    "r1_aime2024": (3, ".jsonl"),
    "r1_distill": (15, ".jsonl.gz"),
}
"""Rows taken from each file of real traces, and the form in which they are written."""


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many characters a row group has, so that small builds have several files."""

    def cut(row_group_text: int) -> None:
        monkeypatch.setattr(plan, "ROW_GROUP_TEXT", row_group_text)
        monkeypatch.setattr(plan, "FILE_TEXT", 4 * row_group_text)

    return cut


@pytest.fixture(scope="module")
def real_sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Real rows of every file of traces: long ones, cut ones, several samples a problem."""
    folder = tmp_path_factory.mktemp("traces")
    sources = []
    for stem, (rows, form) in REAL_ROWS.items():
        taken = list(islice(read_traces(f"{stem}.jsonl.gz"), 0, 6 * rows, 6))
        sources.append(str(_write_rows(folder / f"{stem}{form}", taken)))
    return sources


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def build_in(folder: Path, recipe: Recipe, **options: Any) -> Path:
    """Builds into a folder named after the options."""
    out = folder / ("out-" + "-".join(f"{name}{value}" for name, value in options.items()))
    build(recipe, out, **options)
    return out


def file_count(out: Path, split: str = "train") -> int:
    return len(list((out / "data" / "clean").glob(f"{split}-*.parquet")))


# --- the built-in source ---------------------------------------------------------------------


def test_shard_size_and_workers_do_not_change_a_countdown_build(
    tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    small_files(100_000)
    recipe = countdown(500)
    reference = build_in(tmp_path, recipe)
    assert file_count(reference) > 2
    first = next((reference / "data" / "clean").glob("train-00000-*"))
    assert pq.ParquetFile(first).num_row_groups == 4
    assert {"README.md", "rejects.parquet", "reports/build.json", LOCK} <= set(published(reference))
    for shard_bytes in (64 << 10, 1 << 20, 8 << 20):
        assert_same(build_in(tmp_path, recipe, shard_bytes=shard_bytes), reference)
    assert_same(build_in(tmp_path, recipe, workers=2, shard_bytes=64 << 10), reference)


def test_a_second_build_from_another_process_has_the_same_bytes(tmp_path: Path) -> None:
    """Whatever the order of sets, the time zone, the locale, the threads and the folder are."""
    recipe = countdown(300, ["noisy", "masked-special"])
    build(recipe, tmp_path / "here")
    command = [
        *(sys.executable, "-m", "progdata.cli", "build", "--source", "countdown:300"),
        *("--variant", "noisy", "--variant", "masked-special", "--out", "there"),
    ]
    surroundings = [
        {"PYTHONHASHSEED": "1", "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "OMP_NUM_THREADS": "1"},
        {"PYTHONHASHSEED": "2", "TZ": "America/Lima", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "0"},
    ]
    for number, surrounding in enumerate(surroundings):
        folder = tmp_path / str(number)
        folder.mkdir()
        subprocess.run(
            command, cwd=folder, env=os.environ | surrounding, check=True, capture_output=True
        )
        assert_same(folder / "there", tmp_path / "here")


def test_no_time_machine_or_folder_stands_in_a_build(tmp_path: Path) -> None:
    """Two folders, two moments: every file the same, and none names the folder."""
    for name in ("one", "two"):
        build(countdown(50), tmp_path / name / "out")
    assert_same(tmp_path / "one" / "out", tmp_path / "two" / "out")
    for name in published(tmp_path / "one" / "out"):
        assert str(tmp_path).encode() not in (tmp_path / "one" / "out" / name).read_bytes(), name


@pytest.mark.parametrize("limit", [1, 17, 200])
def test_a_limit_cuts_at_the_same_row_whatever_the_shards(tmp_path: Path, limit: int) -> None:
    recipe = countdown(300, ["noisy"], limit=limit)
    reference = build_in(tmp_path, recipe)
    report = json.loads((reference / "reports" / "build.json").read_text())
    assert report["rows_in"] == limit
    for shard_bytes in (16 << 10, 64 << 10):
        assert_same(build_in(tmp_path, recipe, shard_bytes=shard_bytes), reference)


def test_another_seed_gives_other_bytes(tmp_path: Path) -> None:
    """So that the comparisons above can fail."""
    for seed in (0, 1):
        build(countdown(100, ["noisy"], seed=seed), tmp_path / str(seed))
    with pytest.raises(AssertionError, match="bytes differ"):
        assert_same(tmp_path / "0", tmp_path / "1")


# --- real traces -----------------------------------------------------------------------------


@needs_shared_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("segmenter", "progress"),
    [
        ("newline", "joint"),
        ("newline", "segment-sum"),
        ("episodes", "joint"),
        ("tokens:64", "segment-sum"),
    ],
)
def test_shard_size_does_not_change_a_build_of_real_traces(
    tmp_path: Path,
    small_files: Callable[[int], None],
    real_sources: list[str],
    segmenter: str,
    progress: str,
) -> None:
    small_files(60_000)
    recipe = _real_recipe(real_sources, segmenter=segmenter, progress=progress)
    reference = build_in(tmp_path, recipe)
    lock = json.loads((reference / LOCK).read_text())
    assert set(lock["splits"]) == {"train", "validation", "ood"}
    assert file_count(reference) > 1
    assert_same(build_in(tmp_path, recipe, shard_bytes=64 << 10), reference)


@needs_shared_data
@pytest.mark.slow
def test_workers_do_not_change_a_build_of_real_traces(
    tmp_path: Path, small_files: Callable[[int], None], real_sources: list[str]
) -> None:
    small_files(60_000)
    recipe = _real_recipe(real_sources, segmenter="episodes", progress="segment-sum")
    alone = build_in(tmp_path, recipe)
    assert_same(build_in(tmp_path, recipe, workers=2, shard_bytes=1 << 20), alone)


@needs_shared_data
@pytest.mark.slow
def test_a_limit_on_the_trace_files_cuts_at_the_same_row(tmp_path: Path) -> None:
    """Read in place, the limit falls into the third file."""
    files = [
        str(TRACES / f"{stem}.jsonl.gz")
        for stem in ("r1_aime2024", "r1_14b_aime_samples", "r1_distill")
    ]
    recipe = load_recipe(None, sources=files, variants=PRESETS, limit=170)
    reference = build_in(tmp_path, recipe)
    report = json.loads((reference / "reports" / "build.json").read_text())
    assert report["rows_in"] == 170
    for shard_bytes in (64 << 10, 1 << 20):
        assert_same(build_in(tmp_path, recipe, shard_bytes=shard_bytes), reference)


def _real_recipe(sources: list[str], **fields: object) -> Recipe:
    return load_recipe(None, sources=sources, variants=["all"], tokenizer=str(TOKENIZER), **fields)


# --- files whose rows are not all alike ------------------------------------------------------


def _row(number: int, **fields: Any) -> dict[str, Any]:
    thinking = "\n\n".join(f"step {i} of {number}" for i in range(1 + number % 5))
    completion = f"<think>\n{thinking}\n</think>\n\n\\boxed{{{number}}}"
    return {"problem": f"What is {number}?", "completion": completion} | fields


def _odd_lines() -> list[bytes]:
    """Good rows, and every kind of line that a file of traces should not hold."""
    rng = random.Random(7)
    good = [json.dumps(_row(n, answer=str(n))).encode() for n in range(60)]
    bad = [
        b"",
        b"   ",
        b"{",
        b"[1, 2]",
        b"\xff\xfe not utf-8",
        b'{"problem": null, "completion": "x", "answer": "1"}',
        b'{"problem": "p", "completion": "", "answer": "1"}',
        b'{"problem": "p", "completion": "<think>cut off", "answer": "1"}',
        b'{"problem": "p", "completion": "<think></think>x", "answer": "1"}',
        json.dumps(_row(3, completion="<think>a <progressbar>1%</progressbar></think>x")).encode(),
        json.dumps(_row(4, completion="<think>\U0001f642\r\n\r\nok\t</think>x")).encode() + b"\r",
        json.dumps({"problem": "p", "completion": "<think>\ud800</think>x"}).encode(),
    ]
    lines = [*good, *bad, *good[:9], *bad]
    rng.shuffle(lines)
    return [good[0], *lines]


@settings(max_examples=8)
@given(shard_bytes=st.integers(60, 9000), end=st.sampled_from([b"", b"\n", b"\n\n"]))
@example(shard_bytes=1, end=b"")
@example(shard_bytes=300, end=b"\n")
def test_odd_lines_give_the_same_build_whatever_the_shards(
    tmp_path_factory: pytest.TempPathFactory, shard_bytes: int, end: bytes
) -> None:
    """Rejects, duplicates of rows in other shards, and blank lines included."""
    folder = tmp_path_factory.mktemp("odd")
    source = folder / "odd.jsonl"
    source.write_bytes(b"\n".join(_odd_lines()) + end)
    recipe = load_recipe(None, sources=[str(source)], variants=["noisy", "masked-special"])
    assert_same(
        build_in(folder, recipe, shard_bytes=shard_bytes),
        build_in(folder, recipe, shard_bytes=WHOLE),
    )


def _assert_shards_do_not_matter(
    folder: Path, sources: list[Path], sizes: list[int], **fields: object
) -> Path:
    recipe = load_recipe(None, sources=[str(path) for path in sources], **fields)
    reference = build_in(folder, recipe, shard_bytes=WHOLE)
    for size in sizes:
        assert_same(build_in(folder, recipe, shard_bytes=size), reference)
    return reference


def test_columns_are_found_alike_whatever_the_shards(tmp_path: Path) -> None:
    """The answer and the model first appear in the second row."""
    rows = [_row(0), *(_row(n, answer=str(n), model="m", source="s") for n in range(1, 30))]
    source = _write_rows(tmp_path / "late.jsonl", rows)
    _assert_shards_do_not_matter(tmp_path, [source], [1 << 10, 100, 1])


def test_a_bad_first_line_is_a_reject_whatever_the_shards(tmp_path: Path) -> None:
    source = tmp_path / "first.jsonl"
    good = "".join(json.dumps(_row(n)) + "\n" for n in range(9))
    source.write_text("this is a log line\n" + good)
    _assert_shards_do_not_matter(tmp_path, [source], [200, 1])


def test_a_row_that_is_too_long_is_refused_whatever_the_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("progdata.builders.shard_rows.MAX_ROW_BYTES", 3000)
    rows = [_row(n) for n in range(20)]
    rows[10]["completion"] = "<think>" + "a b " * 1000 + "</think>x"
    source = _write_rows(tmp_path / "long.jsonl", rows)
    reference = _assert_shards_do_not_matter(tmp_path, [source], [4000, 1500, 500, 64])
    assert pq.read_table(reference / "rejects.parquet")["reason"].to_pylist() == ["row_too_large"]


def test_a_limit_counts_the_rows_after_one_that_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("progdata.builders.shard_rows.MAX_ROW_BYTES", 3000)
    rows = [_row(n) for n in range(6)]
    rows[1]["completion"] = "<think>" + "a b " * 1000 + "</think>x"
    source = _write_rows(tmp_path / "long.jsonl", rows)
    _assert_shards_do_not_matter(tmp_path, [source], [2900, 1000, 64], limit=4)


def test_a_source_named_twice_is_read_twice_whatever_the_shards(tmp_path: Path) -> None:
    """Its second reading is all duplicates (law 4 counts them); a limit may cut it."""
    source = _write_rows(tmp_path / "twice.jsonl", [_row(n) for n in range(10)])
    reference = _assert_shards_do_not_matter(tmp_path, [source, source], [700, 1], limit=15)
    report = json.loads((reference / "reports" / "build.json").read_text())
    assert (report["rows_in"], report["rejected"]) == (15, {"duplicates": {"duplicate_trace": 5}})


def test_a_source_named_twice_is_read_twice(tmp_path: Path) -> None:
    source = _write_rows(tmp_path / "twice.jsonl", [_row(n) for n in range(10)])
    report = build(load_recipe(None, sources=[str(source), str(source)]), tmp_path / "out")
    assert (report["rows_in"], report["rows_out"]) == (20, 10)


def test_parquet_rows_give_the_same_build_whatever_the_shards(tmp_path: Path) -> None:
    rows = [_row(n % 40, answer=str(n), model=None if n % 3 else "m") for n in range(90)]
    source = _write_rows(tmp_path / "rows.parquet", rows)
    _assert_shards_do_not_matter(tmp_path, [source], [5000, 300, 1], variants=["masked"])


def test_the_same_rows_in_other_containers_give_the_same_tables(tmp_path: Path) -> None:
    """Compression of the input does not reach the output (its name, and so the lock file, does)."""
    rows = [_row(n, answer=str(n)) for n in range(50)]
    digests = []
    for form in (".jsonl", ".jsonl.gz", ".parquet"):
        source = _write_rows(tmp_path / f"rows{form}", rows)
        recipe = load_recipe(None, sources=[str(source)], variants=["noisy"])
        out = tmp_path / f"out{form}"
        build(recipe, out)
        digests.append({k: v for k, v in published(out).items() if k.startswith("data/")})
    assert digests[0] == digests[1] == digests[2]
