"""The laws of a curated build: what its rows and its rejects can still prove of the selection.

Most of what a selection was made by is not in the build: verdicts of dropped rows, their lengths,
the strata. What a stored pass rate was made of is: each of its traces is a row, whose verdict
stands there, or a reject, which passed or did not.
"""

from collections.abc import Iterator

import polars as pl

from progdata.verifiers.difficulty import find_cut, judge
from progdata.verifiers.laws import Violation
from progdata.verifiers.selection import CurateSettings

COLUMNS = ["trace_id", "problem_id", "verdict", "think_closed", "finish_reason", "pass_rate"]
"""What is read of the rows of a build."""

_MEASURED_STAGES = ("verify", "curate", "splits")
"""The stages that refuse rows which a pass rate may count."""


def check_curated(
    rows: pl.DataFrame, rejects: pl.DataFrame, settings: CurateSettings | None, graded: bool
) -> Iterator[Violation]:
    """Law 2 for pass rates and selection, on the rows of a build and its rejects.

    `rows` have COLUMNS, `rejects` `stage` and `problem_id`; `graded` says whether answers were.
    Every row has the pass rate of its problem, the one that its rows and rejects allow (one alone
    where none was refused, else a range), and it and the row are what the settings ask for.
    Not checked: `min_traces`, lengths and the sample, whose evidence the build does not hold.
    """
    if settings is None or not graded:
        what = "graded" if settings is not None else "curated"
        wrong = rows.drop_nulls("pass_rate")
        yield from _violations(wrong, pl.lit(f"has a pass rate, and nothing was {what}"))
    if settings is None:
        return
    judged = _judged(rows, settings)
    if settings.finished:
        yield from _violations(judged.drop_nulls("cut"), pl.format("is not finished: {}", "cut"))
    if settings.gradable:
        wrong = judged.filter(pl.col("verdict").fill_null("gold_unparsable") == "gold_unparsable")
        yield from _violations(wrong, pl.lit("has no gold that can be graded"))
    if graded:
        yield from _check_rates(judged, rejects, settings)


def _judged(rows: pl.DataFrame, settings: CurateSettings) -> pl.DataFrame:
    cut = find_cut(pl.col("think_closed"), pl.col("finish_reason"))
    return judge(rows.with_columns(cut=cut), settings.cut_traces)


def _check_rates(
    judged: pl.DataFrame, rejects: pl.DataFrame, settings: CurateSettings
) -> Iterator[Violation]:
    """The stored pass rates against the bounds that follow from verdicts and rejects."""
    problems = _problems(judged, rejects)
    several = problems.filter(pl.col("rates") > 1)
    yield from _violations(several, pl.format("its problem has {} different pass rates", "rates"))
    rate, correct, refused = pl.col("rate"), pl.col("correct"), pl.col("refused")
    traces = pl.col("decided") + refused
    low = (correct / traces).cast(pl.Float32)
    high = ((correct + refused) / traces).cast(pl.Float32)
    may_be_null = pl.col("unreadable") | (pl.col("decided") == 0) | (refused > 0)
    allowed = (traces > 0) & ~pl.col("unreadable") & rate.is_between(low, high)
    said = rate.cast(pl.String).fill_null("null")
    text = "pass rate {}; {} of {} decided rows of its problem are correct, {} were refused"
    yield from _violations(
        problems.filter(~pl.when(rate.is_null()).then(may_be_null).otherwise(allowed)),
        pl.format(text, said, "correct", "decided", "refused"),
    )
    if settings.pass_rate is not None:
        low, high = settings.pass_rate
        stays = rate.is_between(pl.lit(low, pl.Float32), pl.lit(high, pl.Float32))
        detail = pl.format(f"pass rate {{}} is not in {low:g} to {high:g}", said)
        yield from _violations(problems.filter(~stays.fill_null(False)), detail)


def _problems(judged: pl.DataFrame, rejects: pl.DataFrame) -> pl.DataFrame:
    """Of each problem its stored pass rate, and the rows that can have made it."""
    refused = rejects.filter(pl.col("stage").is_in(_MEASURED_STAGES))
    return (
        judged.group_by("problem_id")
        .agg(
            trace_id=pl.col("trace_id").first(),
            rates=pl.col("pass_rate").n_unique(),
            rate=pl.col("pass_rate").first(),
            unreadable=pl.col("gradable").first().not_().fill_null(False),
            correct=pl.col("passed").sum().cast(pl.Int64),
            decided=pl.col("passed").count().cast(pl.Int64),
        )
        .join(
            refused.group_by("problem_id").agg(refused=pl.len().cast(pl.Int64)),
            on="problem_id",
            how="left",
        )
        .with_columns(pl.col("refused").fill_null(0))
        .sort("problem_id")
    )


def _violations(rows: pl.DataFrame, detail: pl.Expr) -> Iterator[Violation]:
    for where, said in rows.select("trace_id", detail.alias("detail")).iter_rows():
        yield Violation("true", where, said)
