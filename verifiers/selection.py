"""Filters and stratified sampling of measured traces, as pure steps over columns.

Each step gives the rows that it kept, and those that it dropped with reason and evidence. Whether
a row stays depends on its problem's measures, the settings and the seed, never on row order.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import polars as pl

from progdata.builders.errors import UsageError
from progdata.builders.nearest import did_you_mean
from progdata.verifiers.difficulty import CutTraces
from progdata.verifiers.strata import LengthOf, Stratify, draw

LengthBin = Literal["short", "middle", "long"]
Range = tuple[float, float]

MOST_TOKENS = 1e9

_WHY = ("reason", "evidence")

_CHOICES: Mapping[str, Any] = {
    "length_bin": LengthBin,
    "length_of": LengthOf,
    "stratify": Stratify,
    "cut_traces": CutTraces,
}


@dataclass(frozen=True)
class CurateSettings:
    """Which problems and traces stay. Bounds are inclusive; None and False switch a filter off.

    - `gradable`: only traces with a gold that can be read.
    - `finished`: only traces that the token limit did not cut off.
    - `min_traces`: only problems with so many traces left after these two.
    - `pass_rate`: only problems whose pass rate is in this range (open-r1: 0.1 to 0.9); one whose
      pass rate is not known is dropped.
    - `length_bin`: the shortest, middle or longest third of all measured problems, or a range of
      tokens; by the mean thinking, or with `length_of` "problem" by the problem's own text, which
      is what FastCuRL splits by (arXiv 2503.17287).
    - `sample`: so many problems in all, of each stratum in proportion, or `per_stratum`; `stratify`
      says by what. A problem is drawn with all its traces.
    - `cut_traces`: what a cut trace counts as in the measures (see `difficulty`).
    """

    pass_rate: Range | None = None
    length_bin: LengthBin | Range | None = None
    length_of: LengthOf = "thinking"
    finished: bool = False
    gradable: bool = False
    min_traces: int = 1
    sample: int | None = None
    stratify: Stratify | None = None
    per_stratum: bool = False
    cut_traces: CutTraces = "ignore"
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises UsageError for settings that make no sense."""
        for name, kind in _CHOICES.items():
            value, known = getattr(self, name), get_args(kind)
            if isinstance(value, str) and value not in known:
                hint = did_you_mean(value, known)
                raise UsageError(f"unknown {name} {value!r}{hint}; choose from {', '.join(known)}")
        _refuse_range("pass_rate", self.pass_rate, 1.0)
        if not isinstance(self.length_bin, str):
            _refuse_range("length_bin", self.length_bin, MOST_TOKENS)
        for name in ("min_traces", "sample"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} {value}: give a number of at least 1")
        if self.sample is None and (self.stratify or self.per_stratum):
            raise UsageError("stratify and per_stratum say how to sample: give sample as well")
        if self.per_stratum and not self.stratify:
            raise UsageError("per_stratum needs strata: say by what to stratify")


def _refuse_range(name: str, bounds: Range | None, most: float) -> None:
    if bounds is not None and not 0 <= bounds[0] <= bounds[1] <= most:
        low, high = bounds
        raise UsageError(f"{name} {low:g}:{high:g}: expected A:B with 0 <= A <= B <= {most:g}")


def read_range(text: str) -> Range:
    """The bounds that `A:B` names. Raises UsageError for any other text.

    >>> read_range("0.1:0.9")
    (0.1, 0.9)
    """
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError as error:
        raise UsageError(f"range {text!r}: write A:B, two numbers") from error


def read_length_bin(text: str) -> Any:
    """The `length_bin` that a text names: `short`, `middle`, `long`, or a range of tokens."""
    return read_range(text) if ":" in text else text


@dataclass(frozen=True)
class Step:
    """What a step did: the rows it kept, and `row`, `reason`, `evidence` of those it dropped."""

    name: str
    kept: pl.DataFrame
    dropped: pl.DataFrame
    details: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """The step in a funnel: rows before and after it, problems after it, why rows left."""
        reasons = self.dropped["reason"].value_counts().sort("reason")
        return {
            "step": self.name,
            "rows_in": self.kept.height + self.dropped.height,
            "rows_out": self.kept.height,
            "problems_out": self.kept["problem_id"].n_unique(),
            "dropped": dict(reasons.iter_rows()),
        } | self.details


@dataclass(frozen=True)
class Selection:
    """What all steps together did: `kept` rows, `dropped` ones (`row`, `step`, `reason`,
    `evidence`), and the `funnel`, each step as it describes itself."""

    kept: pl.Series
    dropped: pl.DataFrame
    funnel: list[dict[str, Any]]


def select(traces: pl.DataFrame, problems: pl.DataFrame, settings: CurateSettings) -> Selection:
    """Take traces through the steps that `settings` switches on, in the order they have there.

    `traces` are as `difficulty.TRACES` says, with a `row` to name each by; `problems` are the
    measures of their problems, with bins (`difficulty.measure`, `strata.add_bins`).
    """
    measures = problems.rename({"cut": "cut_traces"})
    rows = traces.select("row", "problem_id", "verdict", "cut").join(
        measures, on="problem_id", how="left", maintain_order="left"
    )
    names = {"step": pl.String, "reason": pl.String, "evidence": pl.String}
    dropped, funnel = [pl.DataFrame(schema={"row": rows["row"].dtype} | names)], []
    for step in _steps(settings):
        done = step(rows, settings)
        dropped.append(done.dropped.select("row", pl.lit(done.name).alias("step"), *_WHY))
        funnel.append(done.describe())
        rows = done.kept
    return Selection(rows["row"], pl.concat(dropped), funnel)


def _steps(settings: CurateSettings) -> Iterator[Callable[[pl.DataFrame, CurateSettings], Step]]:
    if settings.gradable:
        yield drop_ungradable
    if settings.finished:
        yield drop_unfinished
    if settings.min_traces > 1:
        yield drop_rare
    if settings.pass_rate is not None:
        yield drop_by_pass_rate
    if settings.length_bin is not None:
        yield drop_by_length
    if settings.sample is not None:
        yield drop_undrawn


def drop_ungradable(rows: pl.DataFrame, settings: CurateSettings) -> Step:
    """Drop traces without a gold, and those of a problem whose gold cannot be read."""
    graded = pl.col("verdict").is_not_null()
    reason = pl.when(graded).then(pl.lit("gold_not_gradable")).otherwise(pl.lit("no_gold"))
    evidence = (
        pl.when(graded)
        .then(pl.lit("a trace of this problem was graded gold_unparsable"))
        .otherwise(pl.lit("the row has no answer to grade by"))
    )
    return _part("gradable", rows, graded & pl.col("gradable"), reason, evidence)


def drop_unfinished(rows: pl.DataFrame, settings: CurateSettings) -> Step:
    """Drop traces that the token limit cut off."""
    evidence = pl.format("cut off: {}", "cut")
    return _part("finished", rows, pl.col("cut").is_null(), pl.lit("not_finished"), evidence)


def drop_rare(rows: pl.DataFrame, settings: CurateSettings) -> Step:
    """Drop problems with too few traces left."""
    left = pl.len().over("problem_id")
    text = f"traces of this problem that are left: {{}}; asked: {settings.min_traces} or more"
    evidence = pl.format(text, left)
    stays = left >= settings.min_traces
    return _part("min_traces", rows, stays, pl.lit("too_few_traces"), evidence)


def drop_by_pass_rate(rows: pl.DataFrame, settings: CurateSettings) -> Step:
    """Drop problems whose pass rate is out of the range, or not known."""
    low, high = settings.pass_rate or (0.0, 1.0)
    known = pl.col("pass_rate").is_not_null()
    out, unknown = pl.lit("pass_rate_out_of_range"), pl.lit("pass_rate_unknown")
    rate = f"pass rate {{}}, {{}} of {{}} decided traces; asked: {low:g} to {high:g}"
    none = "decided traces of this problem: 0 of {}, with {} graded and {} cut off"
    evidence = (
        pl.when(known)
        .then(pl.format(rate, pl.col("pass_rate").round(4), "correct", "decided"))
        .otherwise(pl.format(none, "traces", "graded", "cut_traces"))
    )
    stays = pl.col("pass_rate").is_between(low, high)
    reason = pl.when(known).then(out).otherwise(unknown)
    return _part("pass_rate", rows, stays, reason, evidence)


def drop_by_length(rows: pl.DataFrame, settings: CurateSettings) -> Step:
    """Drop problems that are not in the length bin, or the range of tokens."""
    asked = settings.length_bin
    if isinstance(asked, tuple):
        stays, said = pl.col("length").is_between(*asked), f"{asked[0]:g} to {asked[1]:g}"
    else:
        stays, said = pl.col("length_bin") == asked, asked
    what = "mean thinking" if settings.length_of == "thinking" else "problem"
    text = f"{what} of {{}} tokens, in the bin {{}}; asked: {said}"
    evidence = pl.format(text, pl.col("length").round(1), "length_bin")
    return _part("length", rows, stays, pl.lit("length_out_of_range"), evidence)


def drop_undrawn(rows: pl.DataFrame, settings: CurateSettings) -> Step:
    """Drop problems that the sample does not draw."""
    problems = rows.select("problem_id", "stratum").unique()
    places = draw(problems, settings.sample or 0, settings.per_stratum, settings.seed)
    placed = rows.join(places.drop("stratum"), on="problem_id", how="left", maintain_order="left")
    text = f"place {{}} of {{}} in stratum {{}}; drawn: {settings.sample} {{}}"
    where = "of each" if settings.per_stratum else "in all"
    evidence = pl.format(text, "place", "of", "stratum", pl.lit(where))
    step = _part("sample", placed, pl.col("drawn"), pl.lit("not_sampled"), evidence)
    strata = places.group_by("stratum").agg(problems=pl.len(), drawn=pl.col("drawn").sum())
    details = {"strata": strata.sort("stratum").to_dicts()}
    return Step(step.name, step.kept.select(rows.columns), step.dropped, details)


def _part(
    name: str, rows: pl.DataFrame, stays: pl.Expr, reason: pl.Expr, evidence: pl.Expr
) -> Step:
    """The rows where `stays` is true, and the others; null is not true."""
    marked = rows.with_columns(_stays=stays.fill_null(False), reason=reason, evidence=evidence)
    kept = marked.filter("_stays").select(rows.columns)
    return Step(name, kept, marked.filter(~pl.col("_stays")).select("row", *_WHY))
