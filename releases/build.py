"""Build a progress dataset: recipe -> base shards -> plan -> variant files -> lock file.

Read `build` from top to bottom; it is the main path of the project.
"""

import errno
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas  # noqa: F401, pyarrow imports it later where it would swallow a ctrl-C
import pyarrow as pa
import pyarrow.parquet as pq

from progdata import __version__
from progdata.builders.atomic import write_text
from progdata.builders.base_table import (
    WORKING,
    BaseSettings,
    TokenizerMismatch,
    build_base,
)
from progdata.builders.engine import LocalEngine, ShardStore
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.markers import special_tokens
from progdata.builders.schema import content_id
from progdata.builders.shard_rows import Shard
from progdata.builders.sources import SHARD_BYTES, Source, find_source, read_shards
from progdata.builders.splits import SPLITS, SplitRule
from progdata.cards.card import build_card
from progdata.cards.statistics import add_tallies
from progdata.releases.contamination_stage import Leaked, find_leaked
from progdata.releases.curate_stage import EVIDENCE, curate_base
from progdata.releases.display import Display, Silent
from progdata.releases.generated import DECLARED, TRACES, generate
from progdata.releases.inputs import Inputs, WarmUp, choose_counter, find_inputs
from progdata.releases.lockfile import (
    FORMAT,
    FileRecord,
    LockFile,
    declared_recipe,
    differing_fields,
    lock_text,
    read_lock,
    recorded_versions,
)
from progdata.releases.parts import PartTask, PartWriter, describe, part_key
from progdata.releases.plan import Plan, cut_parts, make_plan, read_index
from progdata.releases.recipe import Recipe
from progdata.releases.rejects import describe_rejects, write_rejects
from progdata.releases.report import make_report
from progdata.releases.workspace import LOCK_FILE, Workspace, open_workspace, refuse_strangers
from progdata.verifiers.laws import LawSettings
from progdata.verifiers.verify_rows import VerifySettings, verify_rows

_SOURCES = "the sources' content"


def build(
    recipe: Recipe,
    out: Path | str,
    *,
    workers: int = 1,
    shard_bytes: int = SHARD_BYTES,
    display: Display | None = None,
    rebuild: LockFile | None = None,
) -> dict[str, Any]:
    """Build what `recipe` says into the folder `out`; the content of its `reports/build.json`.

    A finished build of the same recipe and inputs is left as it is; an unfinished one is
    continued. Neither `workers` (processes) nor `shard_bytes` (input bytes a task) changes a byte
    of the result. `rebuild` is the lock file of a build that is made again: other inputs than it
    had are refused. Raises UsageError where `out` holds another build, ProgdataError where an input
    cannot be read, `out` cannot be written or every row was refused, LawError where a law breaks.
    """
    folder = Path(out)
    try:
        refuse_strangers(folder)
        inputs = find_inputs(recipe)
        if rebuild is not None:
            _refuse_other_inputs(rebuild, inputs)
        with open_workspace(folder) as workspace:
            if recipe.generate is not None:
                inputs = replace(inputs, sources=[_generated(recipe, folder, display)])
            report = _finished(folder, inputs)
            if report is not None:
                workspace.clean()
            else:
                workspace.prepare(inputs.build_id)
                with LocalEngine(workers, WarmUp(inputs.tokenizer.path)) as engine:
                    chosen = choose_counter(inputs, engine)
                    report = _build(workspace, chosen, engine, shard_bytes, display or Silent())
            return report
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        raise ProgdataError(
            f"{folder}: {os.strerror(error.errno)}; what is committed stays: "
            "make room and run the same command again to go on"
        ) from error


def _generated(recipe: Recipe, out: Path, display: Display | None) -> Source:
    """The traces that a recipe generates, as a source; those of a finished build as it declares.

    They are kept outside the build, so that no rebuild costs a sample.
    """
    own = recipe.generate
    assert own is not None
    if (out / LOCK_FILE).exists():
        lock = read_lock(out)
        if not differing_fields(lock.recipe.model_dump(), recipe.model_dump()):
            return Source("generate", "files", lock.sources[0])
    verify = recipe.verify.enabled
    settings = own.settings(recipe.profile(), recipe.seed, recipe.limit, verify=verify)
    folder = Path(own.out or f"{out}-samples")
    report = generate(settings, folder, display=display)
    source = find_source(str(folder / TRACES))
    (file,) = source.record["files"]
    declared = {name: report[name] for name in DECLARED}
    record = {"spec": "generate", "files": [file | {"name": TRACES}], "generated": declared}
    return replace(source, record=record)


def _build(
    workspace: Workspace, inputs: Inputs, engine: LocalEngine, shard_bytes: int, display: Display
) -> dict[str, Any]:
    try:
        keys = _make_base(workspace.store, inputs, engine, shard_bytes, display)
    except TokenizerMismatch as error:
        settings = replace(inputs.settings, fast=False)
        inputs = replace(inputs, settings=settings, slow_because=str(error))
        keys = _make_base(workspace.store, inputs, engine, shard_bytes, display)
    if not keys:
        raise ProgdataError("the sources hold no row")
    rule = SplitRule(**inputs.recipe.splits.model_dump())
    settings = inputs.recipe.curate_settings()
    leaked = _find_leaked(workspace.store, keys, inputs)
    removed = leaked.removed if leaked else ()
    curated = curate_base(workspace.store, keys, settings, removed) if settings else None
    plan = make_plan(read_index(workspace.store, keys), rule, leaked, curated)
    summaries = [workspace.store.summary(key) for key in keys]
    rejected = write_rejects(workspace, summaries, plan)
    if (plan.split < 0).all():
        workspace.publish()
        raise ProgdataError(
            f"{workspace.out}: no row was left: {describe_rejects(rejected)}; "
            "the rows and the reasons are in rejects.parquet"
        )
    files, tallies = _write_parts(workspace, inputs, plan, engine, display)
    report = make_report(inputs.recipe, plan, summaries, rejected, tallies, inputs.tokenizer_record)
    _write_declarations(workspace.staging, inputs, report, files)
    workspace.publish()
    return report


def _find_leaked(store: ShardStore, keys: list[str], inputs: Inputs) -> Leaked | None:
    settings = inputs.recipe.contamination_settings()
    if settings is None or inputs.benchmarks is None:
        return None
    return find_leaked(store, keys, settings, inputs.benchmarks)


def _make_base(
    store: ShardStore, inputs: Inputs, engine: LocalEngine, shard_bytes: int, display: Display
) -> list[str]:
    """Make the base shards that are missing; the keys of all, in input order."""
    display.stage("reading and counting")
    settings_key = inputs.settings_key
    shards: dict[str, Shard] = {}

    def missing() -> Iterator[tuple[str, Shard]]:
        limit = None if inputs.recipe.generate else inputs.recipe.limit  # it was of problems
        for shard in read_shards(inputs.sources, limit=limit, shard_bytes=shard_bytes):
            key = content_id(
                shard.key, shard.file, repr(sorted(shard.columns.items())), settings_key
            )
            shards[key] = replace(shard, data=0)
            if not store.holds(key):
                yield key, shard

    rows = size = 0
    maker = BaseMaker(store, inputs.settings, inputs.verify)
    for key, counted, text_bytes in engine.run(maker, missing()):
        rows, size = rows + counted, size + text_bytes
        display.update(shards[key].share, rows, size)
    display.update(1.0, rows, size)
    return list(shards)


@dataclass(frozen=True)
class BaseMaker:
    """The task of the first stages: a shard of source rows becomes a committed base shard, with
    verdicts where `verify` is given."""

    store: ShardStore
    settings: BaseSettings
    verify: VerifySettings | None

    def __call__(self, task: tuple[str, Shard]) -> tuple[str, int, int]:
        """The shard's key, its rows, and its bytes of text."""
        key, shard = task
        made = build_base(shard, self.settings)
        base, rejects, verdicts = made.base, made.rejects, {}
        for column in WORKING:
            base = base.append_column(column, made.working[column.name])
        refused = base.slice(0, 0)
        if self.verify is not None:
            verified = verify_rows(base, base["row"], shard.file, self.verify)
            base, verdicts = verified.base.filter(verified.kept), verified.counts
            refused = verified.base.filter(~np.asarray(verified.kept))
            rejects = pa.concat_tables([rejects, verified.rejects])
        summary = {
            "key": key,
            "file": shard.file,
            "rows_in": made.rows_in,
            "verdicts": verdicts,
            "sample": made.sample,
        }
        tables = {"base": base, "rejects": rejects, "refused": refused.select(EVIDENCE)}
        self.store.commit(key, tables, summary)
        return key, made.rows_in, made.base.nbytes


def _write_parts(
    workspace: Workspace, inputs: Inputs, plan: Plan, engine: LocalEngine, display: Display
) -> tuple[dict[str, FileRecord], dict[str, dict[str, Any]]]:
    """Write every file of every variant; their records, and the tally of each variant by split."""
    display.stage("writing variants")
    variants = tuple(inputs.recipe.build_variants())
    parts = [part for split in SPLITS for part in cut_parts(plan, split)]
    alone = engine.workers > len(parts)  # then a task a variant, to keep every worker busy
    tasked = [(variant,) for variant in variants] if alone else [variants]
    laws = LawSettings(inputs.recipe.grammar(), inputs.recipe.seed, inputs.recipe.markers.rounding)
    shared = content_id(repr(laws), inputs.settings_key, __version__)
    settings = inputs.settings
    tasks = [
        PartTask(
            part_key(part, own, shared),
            part,
            own,
            laws,
            settings.prompt_profile,
            settings.tokenizer_path,
            settings.fast,
        )
        for part in parts
        for own in tasked
    ]
    writer = PartWriter(workspace.store, workspace.staging)
    files: dict[str, FileRecord] = {}
    tallies: dict[str, dict[str, Any]] = {variant.name: {} for variant in variants}
    total = sum(task.part.rows * len(task.variants) for task in tasks)
    rows = size = 0
    for task, key in zip(tasks, engine.run(writer, tasks), strict=True):
        made = workspace.store.summary(key)
        files |= {name: FileRecord(**record) for name, record in made["files"].items()}
        for name, tally in made["tallies"].items():
            known = tallies[name].get(task.part.split)
            tallies[name][task.part.split] = add_tallies(known, tally) if known else tally
        rows += task.part.rows * len(task.variants)
        size += sum(record["bytes"] for record in made["files"].values())
        display.update(rows / total, rows, size)
    return files, tallies


def _write_declarations(
    staging: Path, inputs: Inputs, report: Mapping[str, Any], files: dict[str, FileRecord]
) -> None:
    """Write the reports, the card and the lock file, which names every other file."""
    recipe = inputs.recipe
    texts = {
        "reports/build.json": json.dumps(report, indent=2, ensure_ascii=False) + "\n",
        "README.md": build_card(report),
    }
    if inputs.settings.special_tokens:
        tokens = special_tokens(recipe.grammar())
        texts["special_tokens.json"] = json.dumps(tokens, indent=0, ensure_ascii=False) + "\n"
    for name, text in texts.items():
        write_text(staging / name, text)
        files[name] = FileRecord(**describe(staging / name))
    rejects = staging / "rejects.parquet"
    files["rejects.parquet"] = FileRecord(
        **describe(rejects), rows=pq.read_metadata(rejects).num_rows
    )
    resolved, digest = declared_recipe(recipe)
    lock = LockFile(
        format=FORMAT,
        progdata=__version__,
        recipe=Recipe.model_validate(resolved),
        recipe_sha256=digest,
        sources=[source.record for source in inputs.sources],
        benchmarks=inputs.benchmarks.found if inputs.benchmarks else {},
        tokenizer=inputs.tokenizer_record,
        segmenter_model=inputs.settings.segmenter.model if inputs.segmenter_sha256 else None,
        segmenter_sha256=inputs.segmenter_sha256,
        prompt_profile_sha256=inputs.settings.prompt_profile.sha256,
        versions=recorded_versions(),
        splits=report["splits"],
        files=files,
    )
    write_text(staging / LOCK_FILE, lock_text(lock))


def _refuse_other_inputs(lock: LockFile, inputs: Inputs) -> None:
    """Refuse to make a build again from other inputs; a recipe that was changed is another build.

    Traces that a recipe generates are looked at when they are there.
    """
    if differing_fields(lock.recipe.model_dump(), inputs.recipe.model_dump()):
        return
    differing = _differing_inputs(lock, inputs)
    if inputs.recipe.generate is not None:
        differing = [own for own in differing if own != _SOURCES]
    if differing:
        raise ProgdataError(
            f"{', '.join(differing)}: not what the lock file says (its `sources`, `benchmarks`, "
            "`tokenizer` and `segmenter_sha256` name revisions and checksums); get those, or build "
            "from a recipe of your own"
        )


def _differing_inputs(lock: LockFile, inputs: Inputs) -> list[str]:
    """What a lock file declares of the inputs, and is otherwise now."""
    same = {
        _SOURCES: lock.sources == [source.record for source in inputs.sources],
        "the benchmarks' content": lock.benchmarks
        == (inputs.benchmarks.found if inputs.benchmarks else {}),
        "the tokenizer's content": lock.tokenizer.fingerprint == inputs.tokenizer.fingerprint,
        "the segmenter model's content": lock.segmenter_sha256 == inputs.segmenter_sha256,
    }
    return [name for name, equal in same.items() if not equal]


def _finished(out: Path, inputs: Inputs) -> dict[str, Any] | None:
    """The report of the finished build in `out`, if it is the one that is asked for.

    Raises UsageError where it is another one, ProgdataError where its files were changed.
    """
    if not (out / LOCK_FILE).exists():
        return None
    lock = read_lock(out)
    differing = differing_fields(lock.recipe.model_dump(), inputs.recipe.model_dump())
    differing = differing or _differing_inputs(lock, inputs)
    if differing:
        raise UsageError(
            f"{out}: holds the build of another recipe ({', '.join(differing)} differ); "
            "choose another --out, or delete the folder"
        )
    for name, record in lock.files.items():
        path = out / name
        if not path.is_file() or describe(path)["sha256"] != record.sha256:
            raise ProgdataError(
                f"{path}: differs from what {LOCK_FILE} declares; delete the folder and build again"
            )
    return json.loads((out / "reports" / "build.json").read_text("utf-8"))
