"""The curate stage of a build: which of its rows stay, by the measures of their problems.

It sees all rows at once, as the plan does, and keeps a few hundred bytes of each.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from progdata.builders.engine import ShardStore
from progdata.builders.tokenizer import load_counter
from progdata.cards.problem_statistics import describe_problems
from progdata.verifiers.difficulty import TRACES, find_cut, measure
from progdata.verifiers.selection import CurateSettings, select
from progdata.verifiers.strata import add_bins

EVIDENCE = [
    "trace_id", "problem_id", "source", "model", "verdict", "think_closed", "finish_reason",
    "num_tokens", "problem",
]  # fmt: skip
"""Base columns that are measured. Each shard has them of its base rows, and of those that the
verify stage refused: where only correct traces are kept, the others are evidence still."""


@dataclass(frozen=True)
class Curated:
    """What the stage made of the base rows.

    `dropped`: `row` (counted over all shards, rising), `reason`, `evidence`; `pass_rate`: of each
    base row, NaN where it is not known; `report`: for `reports/build.json`.
    """

    dropped: pl.DataFrame
    pass_rate: NDArray[np.float64]
    report: dict[str, Any]

    def why(self, row: int) -> tuple[str, str]:
        """The reason and the evidence for which a row was dropped."""
        place = self.dropped["row"].search_sorted(row)
        _, reason, evidence = self.dropped.row(int(place))
        return reason, evidence


def curate_base(
    store: ShardStore,
    keys: Sequence[str],
    settings: CurateSettings,
    removed: Collection[str] = (),
) -> Curated:
    """Measure the problems of the committed base shards, and select rows by `settings`.

    What the verify stage refused is measured too. A repeated trace counts once. `removed` are ids
    of problems that have left the build.
    """
    base = _read(store, keys, "base", settings).with_row_index("row")
    refused = _read(store, keys, "refused", settings)
    seen = pl.concat([base, refused], how="diagonal")
    seen = seen.unique("trace_id", keep="first", maintain_order=True)
    if removed:
        seen = seen.filter(~pl.col("problem_id").is_in(sorted(removed)))
    problems = add_bins(measure(seen, settings.cut_traces), settings.length_of, settings.stratify)
    selection = select(seen.drop_nulls("row"), problems, settings)
    rates = base.join(problems, on="problem_id", how="left", maintain_order="left")["pass_rate"]
    report = {
        **asdict(settings),
        "problems": describe_problems(problems),
        "funnel": selection.funnel,
    }
    dropped = selection.dropped.sort("row").select("row", "reason", "evidence")
    return Curated(dropped, rates.fill_null(float("nan")).to_numpy(), report)


def _read(
    store: ShardStore, keys: Sequence[str], name: str, settings: CurateSettings
) -> pl.DataFrame:
    """The columns of `TRACES` of one table of all shards, with `trace_id`."""
    schema = {"trace_id": pl.String, **TRACES}
    count = settings.length_of == "problem"
    parts = (_traces(store.table(key, name).select(EVIDENCE), count) for key in keys)
    return pl.concat(
        [part.select(pl.col(own).cast(kind) for own, kind in schema.items()) for part in parts]
    )


def _traces(table: pa.Table, count_problems: bool) -> pl.DataFrame:
    """Base rows as they are measured; their problems' tokens, by `words`, only where asked."""
    sizes = None
    if count_problems:
        sizes = load_counter(None, False).starts(table["problem"].to_pylist()).per_text()
    return pl.DataFrame(table.drop_columns("problem")).with_columns(
        cut=find_cut(pl.col("think_closed"), pl.col("finish_reason")),
        tokens="num_tokens",
        problem_tokens=pl.lit(None) if sizes is None else pl.Series(sizes),
    )
