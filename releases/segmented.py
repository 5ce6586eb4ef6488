"""Segment a source without building it, and the statistics of a source or a build."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from progdata.builders.atomic import atomic_file
from progdata.builders.base_table import BaseShard, build_base
from progdata.builders.engine import LocalEngine
from progdata.builders.progress import percent
from progdata.builders.schema import BASE
from progdata.builders.sources import read_shards
from progdata.cards.statistics import quantiles
from progdata.releases.inputs import choose_counter, find_inputs
from progdata.releases.lockfile import read_lock
from progdata.releases.recipe import Recipe


def segment_source(recipe: Recipe, *, out: Path | None = None, show: int = 0) -> dict[str, Any]:
    """Segment the sources of a recipe, shard by shard; lengths and rejects, by name.

    The base table goes to `out` (Parquet) if given, one row group a shard; the segments of the
    first `show` traces are in `shown`.
    """
    tokens: list[np.ndarray] = []
    segments: list[np.ndarray] = []
    shown: list[dict[str, Any]] = []
    rows_in = 0
    rejected: dict[str, dict[str, int]] = {}
    for made in _written(_base_shards(recipe), out):
        rows_in += made.rows_in
        tokens.append(made.base["num_tokens"].to_numpy())
        segments.append(np.diff(made.base["segments"].combine_chunks().offsets.to_numpy()))
        for stage, reasons in made.rejected.items():
            known = rejected.setdefault(stage, {})
            for reason, rows in reasons.items():
                known[reason] = known.get(reason, 0) + rows
        shown += [_show(row) for row in made.base.slice(0, show - len(shown)).to_pylist()]
    found = np.concatenate([*tokens, np.zeros(0, np.int64)])
    report = {
        "rows_in": rows_in,
        "rows_out": len(found),
        "rows_rejected": rows_in - len(found),
        "rejected": rejected,
        "tokens": int(found.sum()),
        "tokens_per_trace": quantiles(found),
        "segments_per_trace": quantiles(np.concatenate([*segments, np.zeros(0, np.int64)])),
    }
    return report | ({"out": str(out)} if out else {}) | ({"shown": shown} if show else {})


def build_statistics(folder: Path) -> dict[str, Any]:
    """The statistics of a finished build, from its report. Raises UsageError for no build."""
    read_lock(folder)
    return json.loads((folder / "reports" / "build.json").read_text("utf-8"))


def _base_shards(recipe: Recipe) -> Iterator[BaseShard]:
    inputs = choose_counter(find_inputs(recipe), LocalEngine())
    for shard in read_shards(inputs.sources, limit=recipe.limit):
        yield build_base(shard, inputs.settings)


def _written(shards: Iterator[BaseShard], out: Path | None) -> Iterator[BaseShard]:
    """The same shards, written to a Parquet file on the way."""
    if out is None:
        yield from shards
        return
    with (
        atomic_file(out) as temporary,
        pq.ParquetWriter(temporary, BASE, compression="zstd", write_page_checksum=True) as writer,
    ):
        for made in shards:
            if made.base.num_rows:
                writer.write_table(made.base)
            yield made


def _show(row: dict[str, Any]) -> dict[str, Any]:
    """The segments of a base row, with their tokens and the percent at their ends."""
    ends = np.array(row["token_ends"], dtype=np.int64)
    totals = np.full(len(ends), max(row["num_tokens"], 1))
    return {
        "trace_id": row["trace_id"],
        "num_tokens": row["num_tokens"],
        "segments": [
            {
                "text": row["think"][span["start"] : span["end"]],
                "tokens": last - first,
                "percent": label,
            }
            for span, (first, last), label in zip(
                row["segments"],
                pairwise([0, *row["token_ends"]]),
                percent(ends, totals).tolist(),
                strict=True,
            )
        ],
    }
