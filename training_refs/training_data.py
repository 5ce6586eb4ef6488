"""The rows that a trainer reads: one variant of a build or a release, bound to a tokenizer.

Progress is a share of tokens, so labels are true for one tokenizer only (law 2). A trainer's own
tokenizer must give the progress that the dataset states; else the rows are refused, or labelled
again (`relabel`), which needs nothing but the variant table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from progdata.builders.base_table import list_column
from progdata.builders.counter_proof import why_not_fast
from progdata.builders.errors import UsageError
from progdata.builders.markers import MarkerGrammar
from progdata.builders.nearest import did_you_mean
from progdata.builders.progress import Segmentation, count_joint, segment_sum
from progdata.builders.restore import restore_base
from progdata.builders.schema import VARIANT
from progdata.builders.table_names import tables_of
from progdata.builders.tokenizer import Counter, find_tokenizer, load_counter
from progdata.builders.variants import Variant, mark, prepare_rows, replace_style
from progdata.releases.lockfile import LockFile
from progdata.releases.pulled import find_copy, wanted_files
from progdata.releases.registries import HUB
from progdata.releases.verified_files import Copy, open_folder
from progdata.verifiers.laws import check_progress

BATCH = 1_000
"""Rows whose progress is counted at a time."""


@dataclass(frozen=True)
class TrainingData:
    """The tables of one variant by split, columns as in `schema.VARIANT`.

    `name`: the folder, or org/name@1.2.0. `grammar`: how the variant writes its markers.
    `relabelled`: whether labels were made anew for the trainer's tokenizer. `splits`: all that the
    dataset has, of which `tables` has those that were asked for.
    """

    name: str
    lock_sha256: str
    variant: Variant
    grammar: MarkerGrammar
    tables: dict[str, pa.Table]
    relabelled: bool
    splits: tuple[str, ...] = ()

    def rows(self, split: str) -> pa.Table:
        """The rows of a split. Raises UsageError where the dataset has none of that name."""
        if split not in self.tables:
            known = self.splits or tuple(self.tables)
            raise UsageError(
                f"{self.name}: no split {split!r}{did_you_mean(split, known)}; "
                f"it has: {', '.join(known) or 'none'}"
            )
        return self.tables[split]

    def record(self) -> dict[str, Any]:
        """What a trainer's report says of its data."""
        return {
            "name": self.name,
            "lock_sha256": self.lock_sha256,
            "variant": self.variant.name,
            "relabelled": self.relabelled,
        }


def open_data(
    spec: str,
    variant: str,
    tokenizer: Path | None,
    *,
    source: str = HUB,
    splits: Sequence[str] | None = None,
    relabel: bool = False,
    limit: int | None = None,
) -> TrainingData:
    """Read a variant of the build in a folder, or of the release org/name@1.2.0 in `source`.

    Every file is proved by its sha256. `tokenizer`: the folder of the model that will be trained;
    None where no label is used. `splits`: all unless named, of which those that are absent are left
    out. `limit`: rows of each split. Raises UsageError where the variant is not there, or where
    the tokenizer gives other progress than the rows state and `relabel` does not say to label them
    again.
    """
    copy = open_folder(Path(spec)) if Path(spec).is_dir() else find_copy(spec, source)[2]
    wanted_files(copy.lock, [variant], None)  # refuses an unknown variant
    own = next(one for one in copy.lock.recipe.build_variants() if one.name == variant)
    chosen = [split for split in splits or copy.lock.splits if split in copy.lock.splits]
    tables = {split: _read(copy, variant, split, limit) for split in chosen}
    grammar = copy.lock.recipe.grammar()
    differs = tokenizer is not None and _differs(copy, tables, grammar, tokenizer, relabel)
    if tokenizer is not None and differs:
        counter = _counter(tokenizer)
        tables = {
            split: _relabel(table, copy.lock, own, counter, split)
            for split, table in tables.items()
        }
    return TrainingData(
        copy.label,
        copy.lock_sha256,
        own,
        replace_style(grammar, own.special),
        tables,
        relabelled=differs,
        splits=tuple(copy.lock.splits),
    )


def _read(copy: Copy, variant: str, split: str, limit: int | None) -> pa.Table:
    """The first rows of a variant's split, from as few files as that takes."""
    pieces: list[pa.Table] = []
    rows = 0
    for name in tables_of(copy.lock.files, variant, split):
        if limit is not None and rows >= limit:
            break
        pieces.append(pq.read_table(copy.path(name), schema=VARIANT))
        rows += pieces[-1].num_rows
    return pa.concat_tables(pieces).slice(0, limit).combine_chunks()


def _counter(tokenizer: Path) -> Counter:
    """The counter of a model's tokenizer: the fast one where it is shown to be equal."""
    found = find_tokenizer(str(tokenizer))
    assert found.path is not None
    return load_counter(found.path, why_not_fast(found.path, found.fingerprint) is None)


def _differs(
    copy: Copy, tables: dict[str, pa.Table], grammar: MarkerGrammar, tokenizer: Path, relabel: bool
) -> bool:
    """Whether a tokenizer gives other progress than the rows state. Raises UsageError where it does
    and they are not to be labelled again.

    A tokenizer with another fingerprint may still be the same one, saved by another library or
    with tokens added, so that the rows themselves are asked.
    """
    declared = copy.lock.tokenizer
    if find_tokenizer(str(tokenizer)).fingerprint == declared.fingerprint:
        return False
    counter, mode = _counter(tokenizer), copy.lock.recipe.progress
    for table in tables.values():
        for batch in _batches(table):
            broken = check_progress(batch, restore_base(batch, grammar), counter, mode)
            if not broken:
                continue
            if relabel:
                return True
            raise UsageError(
                f"{copy.label}: its progress counts tokens of {declared.spec!r}; the tokenizer in "
                f"{tokenizer} gives other progress (trace {broken[0].where}: {broken[0].detail}); "
                "label it again for this tokenizer with --relabel, or name a model with that "
                "tokenizer"
            )
    return False


def _batches(table: pa.Table) -> list[pa.Table]:
    return [table.slice(start, BATCH) for start in range(0, table.num_rows, BATCH)]


def _relabel(
    table: pa.Table, lock: LockFile, variant: Variant, counter: Counter, split: str
) -> pa.Table:
    """The same rows with progress, labels and texts as the recipe makes them with this tokenizer.

    Segments, noise and masks are those of the build: they do not depend on the tokenizer.
    """
    recipe = lock.recipe
    grammar = recipe.grammar()
    done = []
    first = 0
    for batch in _batches(table):
        base, byte_ends = _recount(restore_base(batch, grammar), counter, recipe.progress)
        rows = prepare_rows(
            base,
            byte_ends,
            grammar=grammar,
            split=split,
            first_position=first,
            split_rows=lock.splits[split],
        )
        done += mark(
            rows,
            [variant],
            seed=recipe.seed,
            rounding=recipe.markers.rounding,
            profile=recipe.profile(),
        )
        first += batch.num_rows
    return pa.concat_tables(done).combine_chunks() if done else table


def _recount(base: pa.Table, counter: Counter, mode: str) -> tuple[pa.Table, np.ndarray]:
    """Base rows with the tokens of another tokenizer; the ends of their segments in bytes."""
    thinks = base["think"].to_pylist()
    ends = [[span["end"] for span in own] for own in base["segments"].to_pylist()]
    starts = counter.starts(thinks)
    counted: Segmentation = count_joint(thinks, ends, starts)
    totals = starts.per_text()
    if mode == "segment-sum":
        counted = segment_sum(thinks, counted, counter)
        totals = np.where(counted.counts > 0, counted.totals, totals)
    columns = {
        "num_tokens": pa.array(totals, pa.int32()),
        "token_ends": list_column(counted.counts, pa.array(counted.token_ends, pa.int32())),
    }
    for name, column in columns.items():
        base = base.set_column(base.schema.get_field_index(name), base.schema.field(name), column)
    return base, counted.byte_ends
