"""What a dataset card needs of the rows: one of them, and how lengths and labels lie.

Files are read one row group and a few columns at a time, so that a card needs little memory.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from progdata.builders.errors import ProgdataError, one_line
from progdata.builders.splits import SPLITS
from progdata.builders.table_names import tables_of
from progdata.cards.card_header import default_variant
from progdata.cards.card_plots import BINS, PlotTallies
from progdata.releases.lockfile import LockFile

SEGMENTS = 5
"""Markers that the row on the card has, if one has so many."""

ROW_CHARACTERS = 1_500
"""Characters that it has at most, if one has so few."""

_SHOWN = ["trace_id", "problem", "answer", "model", "verdict", "num_tokens", "split", "completion"]


def read_example(folder: Path, lock: LockFile) -> dict[str, Any]:
    """A short row of the first split, with its labels in each variant under `labels` and `masked`.

    Of the rows in the first row group that are short enough to be shown whole, the first of those
    nearest to five markers.
    """
    names = [variant.name for variant in lock.recipe.variants]
    main = default_variant(names)
    first = {name: _first_file(lock, name) for name in names}
    table = _first_group(folder / first[main], [*_SHOWN, "labels"])
    index = _choose(table)
    row = table.slice(index, 1).select(_SHOWN).to_pylist()[0] | {"variant": main}
    row["labels"], row["masked"] = {}, {}
    for name in names:
        own = _first_group(folder / first[name], ["labels", "masked"]).slice(index, 1).to_pylist()
        row["labels"][name], row["masked"][name] = own[0]["labels"], own[0]["masked"]
    return row


def read_sizes(folder: Path, lock: LockFile) -> dict[str, int]:
    """The bytes of each data file without compression, from its footer."""
    sizes = {}
    for name in lock.files:
        if name.startswith("data/"):
            with open_table(folder / name) as file:
                groups = range(file.metadata.num_row_groups)
                sizes[name] = sum(file.metadata.row_group(own).total_byte_size for own in groups)
    return sizes


def read_plot_tallies(folder: Path, lock: LockFile) -> PlotTallies:
    """The lengths of the traces of each split, and labels by true progress for each variant."""
    names = [variant.name for variant in lock.recipe.variants]
    lengths = {}
    for split in (own for own in SPLITS if own in lock.splits):
        files = tables_of(lock.files, names[0], split)
        parts = [own["num_tokens"].to_numpy() for own in _groups(folder, files, ["num_tokens"])]
        lengths[split] = np.concatenate(parts).astype(np.int64)
    positions = {}
    for name in names:
        counts = np.zeros((BINS, BINS), np.int64)
        for table in _groups(folder, tables_of(lock.files, name), ["labels", "progress"]):
            progress = _flat(table["progress"]).astype(np.float64)
            labels = _flat(table["labels"]).astype(np.float64) / 100
            np.add.at(counts, (_bins(progress), _bins(labels)), 1)
        positions[name] = counts
    return PlotTallies(lengths, positions)


def _bins(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each share; one on a border belongs to the lower bin."""
    return np.clip(np.ceil(shares * BINS - 1e-6) - 1, 0, BINS - 1).astype(np.int64)


def _choose(table: pa.Table) -> int:
    """The index of the row to show."""
    markers = pc.call_function("list_value_length", [table["labels"]]).to_pylist()
    sizes = pc.call_function("utf8_length", [table["completion"]]).to_pylist()
    return min(
        range(table.num_rows),
        key=lambda row: (
            sizes[row] > ROW_CHARACTERS,
            abs(markers[row] - SEGMENTS),
            sizes[row] if sizes[row] > ROW_CHARACTERS else 0,
        ),
    )


def _first_file(lock: LockFile, variant: str) -> str:
    found = [name for split in SPLITS for name in tables_of(lock.files, variant, split)]
    if not found:
        raise ProgdataError(f"variant {variant}: the lock file names no data file of it")
    return found[0]


def _first_group(path: Path, columns: Sequence[str]) -> pa.Table:
    with open_table(path) as file:
        return file.read_row_group(0, columns=list(columns))


def _groups(folder: Path, names: Sequence[str], columns: Sequence[str]) -> Iterator[pa.Table]:
    for name in names:
        with open_table(folder / name) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=list(columns))


def open_table(path: Path) -> pq.ParquetFile:
    """A Parquet file to read. Raises ProgdataError that names it where it is none."""
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ProgdataError(f"{path}: cannot be read: {one_line(error)}") from error


def _flat(column: pa.ChunkedArray) -> NDArray[Any]:
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
