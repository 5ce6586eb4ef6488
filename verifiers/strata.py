"""Strata of measured problems, and samples of them that depend on each problem alone."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import polars as pl

from progdata.builders.randomness import row_keys

LengthOf = Literal["thinking", "problem"]
Stratify = Literal["source", "length", "pass-rate"]

QUARTERS = (0.25, 0.5, 0.75)
"""Where the strata of pass rates are cut; 0 and 1, which teach a policy nothing, are their own."""

_LENGTHS: Mapping[LengthOf, str] = {"thinking": "mean_tokens", "problem": "problem_tokens"}


def add_bins(
    problems: pl.DataFrame, length_of: LengthOf = "thinking", stratify: Stratify | None = None
) -> pl.DataFrame:
    """The measured problems (see `difficulty.measure`) with `length`, `length_bin`, `stratum`.

    `length_bin` is `short`, `middle` or `long`: the thirds of these problems. A third ends with
    the smallest length that at least a third of them do not exceed, so that problems of equal
    length share a bin. `stratum` is the source, the bin, the pass rate's range, or `all`.
    """
    problems = problems.with_columns(length=pl.col(_LENGTHS[length_of]).cast(pl.Float64))
    short, middle = third_bounds(problems["length"])
    length_bin = (
        pl.when(pl.col("length") <= short)
        .then(pl.lit("short"))
        .when(pl.col("length") <= middle)
        .then(pl.lit("middle"))
        .otherwise(pl.lit("long"))
    )
    problems = problems.with_columns(length_bin=length_bin)
    return problems.with_columns(stratum=_stratum(stratify))


def third_bounds(lengths: pl.Series) -> tuple[float, float]:
    """The greatest length of the shortest and of the middle third; 0 where there is none."""
    if lengths.is_empty():
        return 0.0, 0.0
    short, middle = np.quantile(lengths.to_numpy(), (1 / 3, 2 / 3), method="inverted_cdf")
    return float(short), float(middle)


def _stratum(stratify: Stratify | None) -> pl.Expr:
    if stratify == "source":
        return pl.col("source")
    if stratify == "length":
        return pl.col("length_bin")
    return pass_rate_range() if stratify == "pass-rate" else pl.lit("all")


def pass_rate_range() -> pl.Expr:
    """Of a pass rate: `0`, `1`, or the quarter in which it lies; a quarter has its upper bound."""
    rate = pl.col("pass_rate")
    stratum = pl.when(rate.is_null()).then(pl.lit("unknown")).when(rate == 0).then(pl.lit("0"))
    stratum = stratum.when(rate == 1).then(pl.lit("1"))
    for low, high in zip((0, *QUARTERS), QUARTERS, strict=False):
        stratum = stratum.when(rate <= high).then(pl.lit(f"{low} to {high}"))
    return stratum.otherwise(pl.lit(f"{QUARTERS[-1]} to 1"))


def draw(problems: pl.DataFrame, sample: int, per_stratum: bool, seed: int) -> pl.DataFrame:
    """Draw `sample` problems (`problem_id`, `stratum`) in all, or `per_stratum`.

    Gives each problem, by stratum and place: `place`, from 1, in the order of random numbers by
    (seed, problem_id); `of`, the problems of its stratum; and whether it is `drawn`. Of each
    stratum the first places are drawn; in all, the strata take turns in proportion to their size
    (Webster's method), so that a larger sample always holds a smaller one.
    """
    ids = problems["problem_id"].to_list()
    placed = (
        problems.select("problem_id", "stratum")
        .with_columns(_key=pl.Series(row_keys(seed, ids, "curate"), dtype=pl.UInt64))
        .sort("stratum", "_key", "problem_id")
        .with_columns(
            place=pl.int_range(1, pl.len() + 1).over("stratum"), of=pl.len().over("stratum")
        )
    )
    if per_stratum:
        return placed.drop("_key").with_columns(drawn=pl.col("place") <= sample)
    turn = (2 * pl.col("place") - 1) / pl.col("of")
    in_turn = placed.with_columns(_turn=turn).sort("_turn", "stratum")
    drawn = in_turn.with_columns(drawn=pl.int_range(pl.len()) < sample)
    return drawn.drop("_key", "_turn").sort("stratum", "place")
