"""The second stage of a build: base rows become the Parquet files of every variant, proved."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from progdata.builders.atomic import atomic_file
from progdata.builders.base_table import WORKING
from progdata.builders.engine import ShardStore
from progdata.builders.errors import LawError
from progdata.builders.hub_files import sha256_file
from progdata.builders.prompts import PromptProfile
from progdata.builders.schema import VARIANT, content_id
from progdata.builders.table_names import DATA
from progdata.builders.tokenizer import load_counter
from progdata.builders.variants import (
    MarkedRows,
    Variant,
    asked,
    mark,
    prepare_rows,
    replace_style,
)
from progdata.cards.statistics import add_tallies, marker_costs, tally_variant
from progdata.releases.plan import Part, gather
from progdata.verifiers.laws import LawSettings, check_rows
from progdata.verifiers.texts import ProvenTexts

PLAIN_COLUMNS = [
    "source", "prompt_profile", "think_opening", "finish_reason", "model", "split", "verdict",
]  # fmt: skip
"""Text columns with few different values, which Parquet stores as a dictionary."""


@dataclass(frozen=True)
class PartTask:
    """One file of some variants: its rows, and all that its bytes depend on."""

    key: str
    part: Part
    variants: tuple[Variant, ...]
    laws: LawSettings
    profile: PromptProfile
    tokenizer_path: str | None
    fast: bool


@dataclass(frozen=True)
class PartWriter:
    """Writes parts into a staging folder; what they became is kept in the store."""

    store: ShardStore
    staging: Path

    def __call__(self, task: PartTask) -> str:
        """Write the files of a task unless they are there; its key.

        Raises LawError where a law does not hold on what would be written.
        """
        if not self.is_done(task):
            tallies = self._write(task)
            files = {
                file_of(variant, task.part): describe(self.staging / file_of(variant, task.part))
                | {"rows": task.part.rows}
                for variant in task.variants
            }
            self.store.commit(task.key, {}, {"files": files, "tallies": tallies})
        return task.key

    def is_done(self, task: PartTask) -> bool:
        """Whether the files of a task are committed and still there."""
        if not self.store.holds(task.key):
            return False
        files = self.store.summary(task.key)["files"]
        paths = {self.staging / name: record["bytes"] for name, record in files.items()}
        return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())

    def _write(self, task: PartTask) -> dict[str, Any]:
        """Write the Parquet files of a task; the tally of each variant."""
        tallies: dict[str, Any] = {}
        counter = load_counter(task.tokenizer_path, task.fast)
        costs = [
            marker_costs(replace_style(task.laws.grammar, variant.special), counter)
            for variant in task.variants
        ]
        with ExitStack() as files:
            writers = [
                _open_parquet(files, self.staging / file_of(variant, task.part))
                for variant in task.variants
            ]
            position = task.part.first_position
            for number, selection in enumerate(task.part.row_groups):
                base = gather(self.store, selection)
                if task.part.pass_rates is not None:
                    base = with_pass_rates(base, task.part.pass_rates[number])
                rows = _prepare(base, task, position)
                prompt_tokens = counter.starts(asked(base, task.profile)).per_text()
                tables = _mark_and_prove(rows, task)
                for variant, table, writer, cost in zip(
                    task.variants, tables, writers, costs, strict=True
                ):
                    writer.write_table(table, row_group_size=table.num_rows)
                    tally = tally_variant(table, prompt_tokens, cost)
                    known = tallies.get(variant.name)
                    tallies[variant.name] = add_tallies(known, tally) if known else tally
                position += base.num_rows
        return tallies


def file_of(variant: Variant, part: Part) -> str:
    """Where the file of a part stands in a build."""
    return f"{DATA}{variant.name}/{part.name}"


def part_key(part: Part, variants: Sequence[Variant], settings: str) -> str:
    """The key of a part task: of the base rows it writes and all that is done to them."""
    return content_id(settings, repr(part), repr(variants))


def describe(path: Path) -> dict[str, Any]:
    """The size and the sha256 of a file."""
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def with_pass_rates(base: pa.Table, rates: Sequence[float | None]) -> pa.Table:
    """The base rows with these pass rates."""
    place = base.schema.get_field_index("pass_rate")
    return base.set_column(place, base.schema.field(place), pa.array(rates, pa.float32()))


def _prepare(base: pa.Table, task: PartTask, position: int) -> MarkedRows:
    byte_ends = base["byte_ends"].combine_chunks().flatten().to_numpy().astype(np.int64)
    return prepare_rows(
        base.drop_columns(WORKING.names),
        byte_ends,
        grammar=task.laws.grammar,
        split=task.part.split,
        first_position=position,
        split_rows=task.part.split_rows,
    )


def _mark_and_prove(rows: MarkedRows, task: PartTask) -> list[pa.Table]:
    """The variant tables of some rows, after the laws were checked on them."""
    tables = mark(
        rows,
        task.variants,
        seed=task.laws.seed,
        rounding=task.laws.rounding,
        profile=task.profile,
    )
    known: list[ProvenTexts] = []
    for variant, table in zip(task.variants, tables, strict=True):
        broken, proof = check_rows(table, variant, task.laws, known)
        if broken:
            first = broken[0]
            raise LawError(
                f"variant {variant.name}, trace {first.where}: law '{first.law}' is broken: "
                f"{first.detail} ({len(broken)} violations in this row group); please report it"
            )
        known += [proof] if proof else []
    return tables


def _open_parquet(files: ExitStack, path: Path) -> pq.ParquetWriter:
    """A Parquet writer whose file appears under `path` when `files` closes without an error."""
    temporary = files.enter_context(atomic_file(path))
    writer = pq.ParquetWriter(
        temporary,
        VARIANT,
        compression="zstd",
        use_dictionary=PLAIN_COLUMNS,  # pyright: ignore[reportArgumentType]
        write_statistics=["trace_id", "num_tokens"],  # pyright: ignore[reportArgumentType]
        write_page_checksum=True,
    )
    return files.enter_context(writer)
