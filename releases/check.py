"""`progdata check`: every law of design.md on the folder of a finished build."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from progdata.builders.atomic import TEMPORARY
from progdata.builders.base_table import tally_rejects
from progdata.builders.errors import UsageError
from progdata.builders.schema import TRACE_FIELDS, VARIANT
from progdata.builders.splits import SPLITS, SplitRule, assign_splits
from progdata.builders.tokenizer import Counter, find_tokenizer, load_counter, why_not_fast
from progdata.builders.variants import Variant, draw_mask, replace_style
from progdata.releases.lockfile import LockFile, declared_recipe, read_lock
from progdata.releases.parts import describe
from progdata.releases.workspace import LOCK_FILE
from progdata.verifiers.laws import LawSettings, Violation, check_progress, check_rows

SAME_COLUMNS = [*(own.name for own in TRACE_FIELDS), "prompt", "progress"]
"""Columns that are equal in all variants of a build (law 6)."""


@dataclass(frozen=True)
class _Build:
    """The build that is checked."""

    folder: Path
    lock: LockFile
    laws: LawSettings
    counter: Counter

    @property
    def variants(self) -> list[Variant]:
        return self.lock.recipe.build_variants()

    def files(self, variant: str) -> list[Path]:
        """The declared files of a variant that are there, in the order of the lock file."""
        names = sorted(name for name in self.lock.files if name.startswith(f"data/{variant}/"))
        return [self.folder / name for name in names if (self.folder / name).is_file()]


def check(folder: Path | str, *, tokenizer: str | None = None) -> list[Violation]:
    """The broken laws of the build in `folder`; an empty list where every law holds.

    `tokenizer` says where the build's tokenizer is, if not where the lock file says. Raises
    UsageError where `folder` holds no finished build or the tokenizer is not the build's.
    """
    path = Path(folder)
    lock = read_lock(path)
    recipe = lock.recipe
    laws = LawSettings(recipe.grammar(), recipe.seed, recipe.markers.rounding)
    build = _Build(path, lock, laws, _counter(lock, tokenizer))
    broken = [*_check_declared(build)]
    if any(violation.where.endswith(".parquet") for violation in broken):
        return broken  # a damaged table cannot be read row by row
    return [*broken, *_check_conserved(build), *_check_tables(build), *_check_splits(build)]


def _counter(lock: LockFile, spec: str | None) -> Counter:
    """The build's tokenizer, from where it is now."""
    found = find_tokenizer(spec or lock.tokenizer.spec)
    if found.fingerprint != lock.tokenizer.fingerprint:
        raise UsageError(
            f"tokenizer {found.spec}: its fingerprint is {found.fingerprint[:12]}, the build's is "
            f"{lock.tokenizer.fingerprint[:12]}; give the build's own with --tokenizer"
        )
    fast = found.path is not None and why_not_fast(found.path) is None
    return load_counter(found.path, fast)


def _check_declared(build: _Build) -> Iterator[Violation]:
    """Laws 7 and 8: the lock file names every file and its bytes, and nothing half-written lies
    about."""
    lock, folder = build.lock, build.folder
    if declared_recipe(lock.recipe)[1] != lock.recipe_sha256:
        yield Violation("declared", LOCK_FILE, "recipe_sha256 is not the hash of the recipe")
    for name, record in lock.files.items():
        path = folder / name
        if not path.is_file():
            yield Violation("declared", name, "the lock file names it; it is not there")
            continue
        found = describe(path)
        if (found["bytes"], found["sha256"]) != (record.bytes, record.sha256):
            yield Violation(
                "declared",
                name,
                f"sha256 {record.sha256[:12]} and {record.bytes} bytes are declared, "
                f"{found['sha256'][:12]} and {found['bytes']} were found",
            )
        elif record.rows is not None and pq.read_metadata(path).num_rows != record.rows:
            yield Violation("declared", name, f"{record.rows} rows are declared")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if TEMPORARY in path.name and not name.startswith(".progdata/"):
            yield Violation("atomic", name, "an unfinished file")
        elif name.startswith("data/") and path.is_file() and name not in lock.files:
            yield Violation("declared", name, "the lock file does not name it")


def _check_conserved(build: _Build) -> Iterator[Violation]:
    """Law 4: rows in = rows out + rejects, at every stage, and each reject says why."""
    name = "reports/build.json"
    report = json.loads((build.folder / name).read_text("utf-8"))
    for stage in report["stages"]:
        if stage["rows_in"] != stage["rows_out"] + sum(stage["rejected"].values()):
            yield Violation("conserved", name, f"stage {stage['stage']} does not add up")
    rejects = pq.read_table(build.folder / "rejects.parquet", columns=["stage", "reason"])
    if tally_rejects(rejects) != report["rejected"]:
        yield Violation("conserved", "rejects.parquet", "its reasons are not those of the report")
    if not all(rejects["reason"].to_pylist()):
        yield Violation("conserved", "rejects.parquet", "a reject has no reason")
    rows_out = sum(build.lock.splits.values())
    if report["rows_in"] != rows_out + rejects.num_rows:
        detail = f"{report['rows_in']} rows in, {rows_out} out, {rejects.num_rows} rejected"
        yield Violation("conserved", name, detail)


def _check_tables(build: _Build) -> Iterator[Violation]:
    """Laws 1, 2, 3 and 6 on every row of every variant."""
    first = build.variants[0]
    positions: dict[str, int] = {}
    for index, path in enumerate(build.files(first.name)):
        split = path.name.split("-")[0]
        others = [(variant, build.files(variant.name)) for variant in build.variants]
        if any(len(files) <= index or files[index].name != path.name for _, files in others):
            yield Violation("aligned", path.name, "not every variant has this file")
            continue
        open_files = [(variant, pq.ParquetFile(files[index])) for variant, files in others]
        for group in range(open_files[0][1].num_row_groups):
            tables = [(variant, file.read_row_group(group)) for variant, file in open_files]
            start = positions.get(split, 0)
            positions[split] = start + tables[0][1].num_rows
            yield from _check_row_group(build, path.name, split, start, tables)


def _check_row_group(
    build: _Build, name: str, split: str, start: int, tables: list[tuple[Variant, pa.Table]]
) -> Iterator[Violation]:
    """The same rows in every variant."""
    first, reference = tables[0]
    schema_broken = False
    for variant, table in tables:
        where = f"data/{variant.name}/{name}"
        if not table.schema.equals(VARIANT):
            yield Violation("declared", where, "its columns are not those of a variant table")
            schema_broken = True
            continue
        broken = check_rows(table, variant, build.laws)
        yield from broken
        if not broken:
            yield from _check_mask(build, variant, table, split, start)
        differing = [c for c in SAME_COLUMNS if not table[c].equals(reference[c])]
        if differing:
            detail = f"{', '.join(differing)} differ from variant {first.name}"
            yield Violation("aligned", where, detail)
        if set(table["split"].to_pylist()) != {split}:
            yield Violation("aligned", where, "a row belongs to another split")
        schema_broken |= bool(broken)
    if not schema_broken:
        grammar = replace_style(build.laws.grammar, first.special)
        yield from check_progress(reference, build.counter, grammar, build.lock.recipe.progress)


def _check_mask(
    build: _Build, variant: Variant, table: pa.Table, split: str, start: int
) -> Iterator[Violation]:
    """Law 5 for masks: they are those that the seed and the place in the split give."""
    column = table["masked"].combine_chunks()
    counts = np.diff(column.offsets.to_numpy()).astype(np.int64)
    ids = table["trace_id"].to_pylist()
    positions = start + np.arange(table.num_rows)
    rows = build.lock.splits[split]
    expected = draw_mask(ids, counts, positions, rows, variant, build.laws.seed)
    found = column.flatten().to_numpy(zero_copy_only=False)
    row_of = np.repeat(np.arange(table.num_rows), counts)
    for row in np.unique(row_of[found != expected]).tolist():
        yield Violation("reproducible", ids[row], f"variant {variant.name}: not the seed's mask")


def _check_splits(build: _Build) -> Iterator[Violation]:
    """Law 6: a problem stands in one split alone, which its hash and its lengths give."""
    columns = ["trace_id", "problem_id", "num_tokens", "split"]
    tables = [pq.read_table(path, columns=columns) for path in build.files(build.variants[0].name)]
    if not tables:
        return
    rows = pa.concat_tables(tables)
    ids = rows["trace_id"].to_pylist()
    counts = _tally(rows["split"].to_pylist())
    if counts != build.lock.splits:
        yield Violation("aligned", LOCK_FILE, f"splits {build.lock.splits}, found {counts}")
    if len(set(ids)) != len(ids):
        yield Violation("aligned", "data", "a trace stands there twice")
    problems = np.frombuffer(bytes.fromhex("".join(rows["problem_id"].to_pylist())), dtype="S16")
    rule = SplitRule(**build.lock.recipe.splits.model_dump())
    expected, refused = assign_splits(problems, rows["num_tokens"].to_numpy().astype(int), rule)
    for own_id, split, number, sibling in zip(
        ids, rows["split"].to_pylist(), expected.tolist(), refused.tolist(), strict=True
    ):
        if split != SPLITS[number] or sibling:
            yield Violation("aligned", own_id, f"is in {split}; its problem belongs to another")


def _tally(values: list[str]) -> Mapping[str, Any]:
    return {split: values.count(split) for split in SPLITS if split in values}
