"""The plan of a build: which base rows stay, in which split, and in which file each is written.

Only this and the stages before it (contamination, curate) look at all rows at once. It keeps about
60 bytes a row, whatever the length of the traces. Everything follows from the order of the input
rows, so that neither the size of the shards nor the number of workers can change a file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from progdata.builders.engine import ShardStore
from progdata.builders.splits import SPLITS, SplitRule, assign_splits
from progdata.releases.contamination_stage import Leaked
from progdata.releases.curate_stage import Curated

ROW_GROUP_TEXT = 8 << 20
"""Characters in a Parquet row group, at least: what a reader holds at a time."""

FILE_TEXT = 8 * ROW_GROUP_TEXT
"""Characters in a Parquet file, at least."""

Selection = list[tuple[str, list[int]]]
"""Base rows: for each shard, by key, the indices of its rows."""


@dataclass(frozen=True)
class BaseIndex:
    """What the plan needs to know of every base row, in input order."""

    keys: list[str]
    shard: NDArray[np.int32]  # index into `keys`
    local: NDArray[np.int32]  # the row's index in its shard
    row: NDArray[np.int64]  # its number in the input file
    trace_id: NDArray[np.bytes_]  # S16
    problem_id: NDArray[np.bytes_]  # S16
    num_tokens: NDArray[np.int64]
    num_segments: NDArray[np.int64]
    size: NDArray[np.int64]  # characters of text


@dataclass(frozen=True)
class Part:
    """The rows of one Parquet file of each variant: its row groups, and its place in the split.

    `pass_rates`: of the rows of each row group, where the build is curated.
    """

    split: str
    number: int
    parts: int
    first_position: int
    split_rows: int
    row_groups: list[Selection]
    pass_rates: list[list[float | None]] | None = None

    @property
    def name(self) -> str:
        return f"{self.split}-{self.number:05d}-of-{self.parts:05d}.parquet"

    @property
    def rows(self) -> int:
        return sum(len(own) for group in self.row_groups for _, own in group)


@dataclass(frozen=True)
class Plan:
    """What becomes of every base row.

    `split`: index into SPLITS, -1 where the row is dropped; `first_seen`: for a duplicate the
    row it repeats, else -1; `sibling`: short traces of a problem that has a long one; `leaked` and
    `curated`: what those stages made of all rows, where there are any.
    """

    index: BaseIndex
    split: NDArray[np.int8]
    first_seen: NDArray[np.int64]
    sibling: NDArray[np.bool_]
    leaked: Leaked | None = None
    curated: Curated | None = None

    def rows_of(self, split: str) -> NDArray[np.int64]:
        return np.flatnonzero(self.split == SPLITS.index(split))


def read_index(store: ShardStore, keys: Sequence[str]) -> BaseIndex:
    """Read what the plan needs from the committed base shards."""
    parts = [_index_shard(store.table(key, "base")) for key in keys]
    rows = [len(part["row"]) for part in parts]
    columns = {
        name: np.concatenate([part[name] for part in parts])
        for name in ("row", "trace_id", "problem_id", "num_tokens", "num_segments", "size")
    }
    shard = np.repeat(np.arange(len(keys), dtype=np.int32), rows)
    local = np.concatenate([np.arange(count, dtype=np.int32) for count in rows])
    return BaseIndex(list(keys), shard, local, **columns)


def make_plan(
    index: BaseIndex,
    rule: SplitRule,
    leaked: Leaked | None = None,
    curated: Curated | None = None,
) -> Plan:
    """Drop repeated traces, keeping the first, what is contaminated, and what was curated away;
    put each problem of the others in one split."""
    _, first, inverse = np.unique(index.trace_id, return_index=True, return_inverse=True)
    original = first[inverse]
    duplicate = original != np.arange(len(original))
    stays = ~duplicate
    if leaked is not None:
        stays[leaked.rows] = False
    if curated is not None:
        stays[curated.dropped["row"].to_numpy()] = False
    split, sibling = np.full(len(stays), -1, dtype=np.int8), np.zeros_like(stays)
    split[stays], sibling[stays] = assign_splits(
        index.problem_id[stays], index.num_tokens[stays], rule
    )
    split[sibling] = -1
    return Plan(index, split, np.where(duplicate, original, -1), sibling, leaked, curated)


def cut_parts(plan: Plan, split: str) -> list[Part]:
    """The files of a split, cut by the characters that come before each row."""
    rows = plan.rows_of(split)
    if not len(rows):
        return []
    sizes = plan.index.size[rows]
    begins = np.cumsum(sizes) - sizes
    group = begins // ROW_GROUP_TEXT
    file = begins // FILE_TEXT
    files = np.unique(file).tolist()
    parts = []
    for number, own_file in enumerate(files):
        mine = np.flatnonzero(file == own_file)
        groups = [rows[mine[group[mine] == g]] for g in np.unique(group[mine]).tolist()]
        selections = [_select(plan.index, own) for own in groups]
        rates = [_pass_rates(plan.curated, own) for own in groups] if plan.curated else None
        parts.append(Part(split, number, len(files), int(mine[0]), len(rows), selections, rates))
    return parts


def _pass_rates(curated: Curated, rows: NDArray[np.int64]) -> list[float | None]:
    return [None if rate != rate else rate for rate in curated.pass_rate[rows].tolist()]


def gather(store: ShardStore, selection: Selection) -> pa.Table:
    """The selected base rows as one table."""
    tables = [store.table(key, "base").take(pa.array(rows)) for key, rows in selection]
    return pa.concat_tables(tables).combine_chunks()


def _select(index: BaseIndex, rows: NDArray[np.int64]) -> Selection:
    shards = index.shard[rows]
    return [
        (index.keys[shard], index.local[rows[shards == shard]].tolist())
        for shard in np.unique(shards).tolist()
    ]


def _index_shard(base: pa.Table) -> dict[str, NDArray]:
    return {
        "row": base["row"].to_numpy(),
        "size": base["size"].to_numpy(),
        "trace_id": _raw_ids(base["trace_id"]),
        "problem_id": _raw_ids(base["problem_id"]),
        "num_tokens": base["num_tokens"].to_numpy().astype(np.int64),
        "num_segments": np.diff(base["segments"].combine_chunks().offsets.to_numpy()),
    }


def _raw_ids(column: pa.ChunkedArray) -> NDArray[np.bytes_]:
    """Ids in hexadecimal as their 16 bytes."""
    return np.frombuffer(bytes.fromhex("".join(column.to_pylist())), dtype="S16")


def regroup(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` rows, however they came."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += table.num_rows
        while count >= rows:
            joined = pa.concat_tables(held).combine_chunks()
            yield joined.slice(0, rows)
            held, count = [joined.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(held).combine_chunks()
