"""`progdata check`: every law of design.md on the folder of a finished build."""

import json
from collections import Counter as Counts
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from progdata.builders.atomic import TEMPORARY
from progdata.builders.base_table import tally_rejects
from progdata.builders.counter_proof import why_not_fast
from progdata.builders.errors import UsageError
from progdata.builders.restore import marker_spans, restore_base
from progdata.builders.schema import TRACE_FIELDS, VARIANT, problem_id
from progdata.builders.segmenters import find_segmenter
from progdata.builders.splits import SPLITS, SplitRule, assign_splits
from progdata.builders.table_names import tables_of
from progdata.builders.tokenizer import Counter, find_tokenizer, load_counter
from progdata.builders.variants import Variant, draw_mask, replace_style
from progdata.releases.lockfile import FileRecord, LockFile, declared_recipe, read_lock
from progdata.releases.parts import describe
from progdata.releases.workspace import LOCK_FILE, REPORT
from progdata.verifiers.curate_laws import COLUMNS as CURATED
from progdata.verifiers.curate_laws import check_curated
from progdata.verifiers.laws import (
    LawSettings,
    Violation,
    check_progress,
    check_rows,
    check_segments,
)
from progdata.verifiers.texts import ProvenTexts
from progdata.verifiers.verify_rows import check_verdicts

_MISSING = "the lock file names it; it is not there"

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
        names = tables_of(self.lock.files, variant)
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
    broken = [*_check_declared(path, lock)]
    if any(violation.where.endswith((".parquet", REPORT)) for violation in broken):
        return broken  # what is damaged cannot be read row by row
    checks = (_check_conserved, _check_tables, _check_splits, _check_curated)
    return [*broken, *(violation for own in checks for violation in own(build))]


def check_files(folder: Path, lock: LockFile) -> list[Violation]:
    """The broken laws that a look at the files shows: some are missing, or of another size, or too
    many. Nothing is read."""
    broken = [*_check_strangers(folder, lock)]
    for name, record in lock.files.items():
        path = folder / name
        if not path.is_file():
            broken.append(Violation("declared", name, _MISSING))
        elif (found := path.stat().st_size) != record.bytes:
            detail = f"{record.bytes} bytes are declared, {found} were found"
            broken.append(Violation("declared", name, detail))
    return broken


def _counter(lock: LockFile, spec: str | None) -> Counter:
    """The build's tokenizer, from where it is now."""
    found = find_tokenizer(spec or lock.tokenizer.spec)
    if found.fingerprint != lock.tokenizer.fingerprint:
        raise UsageError(
            f"tokenizer {found.spec}: its fingerprint is {found.fingerprint[:12]}, the build's is "
            f"{lock.tokenizer.fingerprint[:12]}; give the build's own with --tokenizer"
        )
    fast = found.path is not None and lock.tokenizer.counter == "fastokens"
    if found.path is not None and fast:
        fast = why_not_fast(found.path, found.fingerprint) is None
    return load_counter(found.path, fast)


def _check_declared(folder: Path, lock: LockFile) -> Iterator[Violation]:
    """Laws 7 and 8: the lock file names every file and its bytes, and nothing half-written lies
    about."""
    if declared_recipe(lock.recipe)[1] != lock.recipe_sha256:
        yield Violation("declared", LOCK_FILE, "recipe_sha256 is not the hash of the recipe")
    for name, record in lock.files.items():
        path = folder / name
        if not path.is_file():
            yield Violation("declared", name, _MISSING)
            continue
        found = describe(path)
        if (found["bytes"], found["sha256"]) != (record.bytes, record.sha256):
            yield Violation(
                "declared",
                name,
                f"sha256 {record.sha256[:12]} and {record.bytes} bytes are declared, "
                f"{found['sha256'][:12]} and {found['bytes']} were found",
            )
        elif path.suffix == ".parquet" and (wrong := _wrong_table(path, name, record)):
            yield Violation("declared", name, wrong)
    yield from _check_strangers(folder, lock)


def _check_strangers(folder: Path, lock: LockFile) -> Iterator[Violation]:
    """Files that should not lie there: half-written ones, and tables that are not declared."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if TEMPORARY in path.name and not name.startswith(".progdata/"):
            yield Violation("atomic", name, "an unfinished file")
        elif name.startswith("data/") and path.is_file() and name not in lock.files:
            yield Violation("declared", name, "the lock file does not name it")


def _wrong_table(path: Path, name: str, record: FileRecord) -> str | None:
    """What is wrong with a Parquet file as a whole."""
    try:
        with pq.ParquetFile(path) as file:
            rows, schema = file.metadata.num_rows, file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        return f"not a Parquet file that can be read: {error}"
    if name.startswith("data/") and not schema.equals(VARIANT):
        return "its columns are not those of a variant table"
    return f"{record.rows} rows are declared, it has {rows}" if rows != record.rows else None


def _check_conserved(build: _Build) -> Iterator[Violation]:
    """Law 4: rows in = rows out + rejects, at every stage, and each reject says why."""
    rejects = pq.read_table(build.folder / "rejects.parquet", columns=["stage", "reason"])
    if not all(rejects["reason"].to_pylist()):
        yield Violation("conserved", "rejects.parquet", "a reject has no reason")
    try:
        report = json.loads((build.folder / REPORT).read_text("utf-8"))
        yield from _check_report(report, rejects, sum(build.lock.splits.values()))
    except (KeyError, TypeError, ValueError) as error:
        detail = f"not the report of a build: {type(error).__name__} {error}"
        yield Violation("declared", REPORT, detail)


def _check_report(
    report: Mapping[str, Any], rejects: pa.Table, rows_out: int
) -> Iterator[Violation]:
    """The stages of the report hand on all their rows, and its rejects are those of the table."""
    rows = report["rows_in"]
    for stage in report["stages"]:
        if stage["rows_in"] != rows:
            detail = f"stage {stage['stage']} has {stage['rows_in']} rows in, not {rows}"
            yield Violation("conserved", REPORT, detail)
        rows = stage["rows_out"]
        if stage["rows_in"] != rows + sum(stage["rejected"].values()):
            yield Violation("conserved", REPORT, f"stage {stage['stage']} does not add up")
    if tally_rejects(rejects) != report["rejected"]:
        yield Violation("conserved", "rejects.parquet", "its reasons are not those of the report")
    if not rows == report["rows_out"] == rows_out or (
        report["rows_in"] != rows_out + rejects.num_rows
    ):
        detail = f"{report['rows_in']} rows in, {rows_out} out, {rejects.num_rows} rejected"
        yield Violation("conserved", REPORT, detail)


def _check_tables(build: _Build) -> Iterator[Violation]:
    """Laws 1, 2, 3 and 6 on every row of every variant."""
    files = {variant.name: build.files(variant.name) for variant in build.variants}
    common = set.intersection(*({path.name for path in own} for own in files.values()))
    for variant, own in files.items():
        for name in sorted({path.name for path in own} - common):
            yield Violation("aligned", f"data/{variant}/{name}", "not every variant has this file")
    positions: dict[str, int] = {}
    for name in sorted(common):
        split = name.split("-")[0]
        opened = [
            (variant, pq.ParquetFile(build.folder / "data" / variant.name / name))
            for variant in build.variants
        ]
        for group in range(max(file.num_row_groups for _, file in opened)):
            tables = [(variant, _read_row_group(file, group)) for variant, file in opened]
            start = positions.get(split, 0)
            positions[split] = start + tables[0][1].num_rows
            yield from _check_row_group(build, name, split, start, tables)


def _read_row_group(file: pq.ParquetFile, group: int) -> pa.Table:
    """A row group, empty where the file has fewer."""
    return file.read_row_groups([group] if group < file.num_row_groups else [])


def _check_row_group(
    build: _Build, name: str, split: str, start: int, tables: list[tuple[Variant, pa.Table]]
) -> Iterator[Violation]:
    """The same rows in every variant."""
    first, reference = tables[0]
    known: list[ProvenTexts] = []
    sound: set[str] = set()
    for variant, table in tables:
        broken, proof = check_rows(table, variant, build.laws, known)
        known += [proof] if proof else []
        yield from broken
        if not broken:
            sound.add(variant.name)
            yield from _check_mask(build, variant, table, split, start)
        if variant is not first:
            yield from _check_aligned(build, (variant, table), tables[0], name)
        for own_id, own in zip(
            table["trace_id"].to_pylist(), table["split"].to_pylist(), strict=True
        ):
            if own != split:
                detail = f"says that it is in {own}, and stands in data/{variant.name}/{name}"
                yield Violation("aligned", own_id, detail)
    if len(sound) == len(tables):
        grammar = replace_style(build.laws.grammar, first.special)
        yield from _check_counts(build, reference, restore_base(reference, grammar))


def _check_counts(build: _Build, table: pa.Table, base: pa.Table) -> Iterator[Violation]:
    """Laws 2 and 5: progress, segments and verdicts are what tokenizer, segmenter, grader give.

    What `sat` gives is not asked again: its model may not be at hand.
    """
    recipe = build.lock.recipe
    yield from check_progress(table, base, build.counter, recipe.progress)
    if recipe.segmenter.name != "sat":
        cut = recipe.segmenter.model_dump(exclude={"min_tokens"})
        min_tokens = recipe.segmenter.min_tokens
        yield from check_segments(base, find_segmenter(**cut), build.counter, min_tokens)
    yield from check_verdicts(base, recipe.verify_settings())


def _check_aligned(
    build: _Build, other: tuple[Variant, pa.Table], first: tuple[Variant, pa.Table], name: str
) -> Iterator[Violation]:
    """Law 6: a variant differs from the first one in its labels alone."""
    (variant, table), (_, reference) = other, first
    if table.num_rows != reference.num_rows:
        detail = f"{table.num_rows} rows, variant {first[0].name} has {reference.num_rows}"
        yield Violation("aligned", f"data/{variant.name}/{name}", detail)
        return
    differing: dict[int, list[str]] = {}
    for column in SAME_COLUMNS:
        if not table[column].equals(reference[column]):
            pairs = zip(table[column].to_pylist(), reference[column].to_pylist(), strict=True)
            for row in [row for row, (own, same) in enumerate(pairs) if own != same]:
                differing.setdefault(row, []).append(column)
    places = _marker_places(build, *other), _marker_places(build, *first)
    if not differing and not np.array_equal(*places):
        differing = {row: ["markers' places"] for row in _rows_of_differences(reference, *places)}
    for row, columns in sorted(differing.items()):
        detail = f"variant {variant.name}: {', '.join(columns)} differ from variant {first[0].name}"
        yield Violation("aligned", reference["trace_id"][row].as_py(), detail)


def _marker_places(build: _Build, variant: Variant, table: pa.Table) -> NDArray[np.int64]:
    """The character of its row's text without markers at which each marker stands."""
    spans = marker_spans(table, replace_style(build.laws.grammar, variant.special))
    sizes = spans.ends - spans.starts
    running = np.append(0, np.cumsum(sizes))
    before_row = running[np.cumsum(spans.counts) - spans.counts]
    return spans.starts - running[:-1] + np.repeat(before_row, spans.counts)


def _rows_of_differences(
    table: pa.Table, first: NDArray[np.int64], second: NDArray[np.int64]
) -> list[int]:
    """The rows in which the places of markers differ; none where a row lacks some (law 3)."""
    counts = np.diff(table["label_spans"].combine_chunks().offsets.to_numpy())
    if len(first) != len(second):
        return []
    return np.unique(np.repeat(np.arange(len(counts)), counts)[first != second]).tolist()


def _check_mask(
    build: _Build, variant: Variant, table: pa.Table, split: str, start: int
) -> Iterator[Violation]:
    """Law 5 for masks: they are those that the seed and the place in the split give."""
    column = table["masked"].combine_chunks()
    counts = np.diff(column.offsets.to_numpy()).astype(np.int64)
    ids = table["trace_id"].to_pylist()
    positions = start + np.arange(table.num_rows)
    rows = build.lock.splits.get(split, 0)
    expected = draw_mask(ids, counts, positions, rows, variant, build.laws.seed)
    found = column.flatten().to_numpy(zero_copy_only=False)
    row_of = np.repeat(np.arange(table.num_rows), counts)
    for row in np.unique(row_of[found != expected]).tolist():
        yield Violation("reproducible", ids[row], f"variant {variant.name}: not the seed's mask")


def _check_splits(build: _Build) -> Iterator[Violation]:
    """Law 6: a problem stands in one split alone, which its hash and its lengths give."""
    columns = ["trace_id", "problem_id", "problem", "num_tokens", "split"]
    tables = [pq.read_table(path, columns=columns) for path in build.files(build.variants[0].name)]
    empty = VARIANT.empty_table().select(columns)
    rows = pa.concat_tables([*tables, empty])
    ids, splits = rows["trace_id"].to_pylist(), rows["split"].to_pylist()
    counts = _tally(splits)
    if counts != build.lock.splits:
        yield Violation("aligned", LOCK_FILE, f"splits {build.lock.splits}, found {counts}")
    for own_id, times in Counts(ids).items():
        if times > 1:
            yield Violation("aligned", own_id, f"the trace stands there {times} times")
    problems = [problem_id(problem) for problem in rows["problem"].to_pylist()]
    for own_id, stored, expected in zip(ids, rows["problem_id"].to_pylist(), problems, strict=True):
        if stored != expected:
            yield Violation("aligned", own_id, f"problem_id is {stored}, its problem's {expected}")
    rule = SplitRule(**build.lock.recipe.splits.model_dump())
    raw_ids = np.frombuffer(bytes.fromhex("".join(problems)), dtype="S16")
    expected, refused = assign_splits(raw_ids, rows["num_tokens"].to_numpy().astype(int), rule)
    for own_id, split, number, sibling in zip(
        ids, splits, expected.tolist(), refused.tolist(), strict=True
    ):
        if split != SPLITS[number] or sibling:
            yield Violation("aligned", own_id, f"is in {split}; its problem belongs to another")


def _check_curated(build: _Build) -> Iterator[Violation]:
    """Law 2 for pass rates: they are those that verdicts and rejects allow. No problem that was
    removed as contaminated is in the build."""
    paths = build.files(build.variants[0].name)
    tables = [pl.read_parquet(path, columns=CURATED) for path in paths]
    rows = pl.concat([*tables, pl.DataFrame(VARIANT.empty_table().select(CURATED))])
    rejects = pl.read_parquet(build.folder / "rejects.parquet", columns=["stage", "problem_id"])
    recipe = build.lock.recipe
    leaked = set(rejects.filter(pl.col("stage") == "contamination")["problem_id"])
    for problem in sorted(leaked.intersection(rows["problem_id"])):
        detail = "was removed as contaminated; other rows of it are in the build"
        yield Violation("conserved", problem, detail)
    yield from check_curated(rows, rejects, recipe.curate_settings(), recipe.verify.enabled)


def _tally(values: list[str]) -> Mapping[str, Any]:
    return {split: values.count(split) for split in SPLITS if split in values}
