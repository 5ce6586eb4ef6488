"""Statistics of measured problems: how pass rates, lengths and labels lie."""

from typing import Any

import polars as pl

from progdata.cards.statistics import quantiles
from progdata.verifiers.strata import pass_rate_range, third_bounds

_MEASURES = (
    "pass_rate_cv", "finished_share", "mean_tokens", "problem_tokens", "majority_share",
)  # fmt: skip


def describe_problems(problems: pl.DataFrame) -> dict[str, Any]:
    """How the measures of problems lie (see `difficulty.measure`, `strata.add_bins`).

    Mean and quantiles of each measure over the problems that have it; problems by range of pass
    rate; where the length bins end; and, of labelled problems, where their labels are from.
    """
    rates = problems["pass_rate"].drop_nulls()
    ranges = problems.select(pass_rate_range()).to_series().value_counts(name="n").iter_rows()
    short, middle = third_bounds(problems["length"])
    found: dict[str, Any] = {
        "count": problems.height,
        "pass_rate": {
            "known": len(rates),
            "unknown": problems.height - len(rates),
            "ranges": dict(sorted(ranges)),
            **quantiles(rates.to_list()),
        },
        "length_bins": {"short_to": short, "middle_to": middle},
    }
    for name in _MEASURES:
        if name in problems.columns:
            found[name] = quantiles(problems[name].drop_nulls().to_list())
    if "label_source" in problems.columns:
        sources = problems["label_source"].fill_null("none").value_counts().sort("label_source")
        found["label_source"] = dict(sources.iter_rows())
    return found
