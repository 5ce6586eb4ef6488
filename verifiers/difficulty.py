r"""How hard each problem is, measured on several traces of it; pure functions over columns.

A trace is evidence of difficulty only where something was decided about its answer. `timeout` and
`error` say nothing of an answer, a gold that cannot be read says nothing of any, and a trace that
the token limit cut off did not fail: it is left out, or counts as wrong where the recipe says so.
"""

import re
from fractions import Fraction
from typing import Literal

import polars as pl

from progdata.verifiers.numbers import as_rational
from progdata.verifiers.readings import as_words, clean
from progdata.verifiers.shortcuts import SHORT, normal_form
from progdata.verifiers.verdicts import STATUSES

DECIDED = ("correct", "wrong", "no_answer")
"""The verdicts that say whether a trace solved its problem."""

CutTraces = Literal["ignore", "wrong"]
"""What a trace that the token limit cut off counts as: nothing at all, or a wrong answer."""

CUTS = ("no </think>", "finish_reason length")

CUT_REASONS = ("length", "max_tokens", "model_length")
"""What servers write as the finish reason of a completion that reached the limit."""

TRACES = pl.Schema(
    {
        "problem_id": pl.String,
        "source": pl.Categorical(),
        "model": pl.Categorical(),  # null where it is not known
        "verdict": pl.Enum(STATUSES),  # null where there is no gold
        "cut": pl.Enum(CUTS),  # why it is not finished; null where it is
        "tokens": pl.Int64,  # of its thinking
        "problem_tokens": pl.Int64,
    }
)
"""The columns that are measured, one row a trace."""

_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d{1,30})(?:\.\d{1,30})?|-?\.\d{1,30}", re.ASCII)


def find_cut(closed: pl.Expr, finish_reason: pl.Expr) -> pl.Expr:
    """The column `cut`: why a trace is not finished, from its `</think>` and its finish reason."""
    return (
        pl.when(~closed)
        .then(pl.lit(CUTS[0]))
        .when(finish_reason.cast(pl.String).str.to_lowercase().is_in(CUT_REASONS))
        .then(pl.lit(CUTS[1]))
        .cast(pl.Enum(CUTS))
    )


def judge(traces: pl.DataFrame, cut_traces: CutTraces = "ignore") -> pl.DataFrame:
    """The traces with `gradable` and `passed`.

    `gradable`: whether the problem's gold can be read, null where it has none: a single
    `gold_unparsable` shows that it cannot, and then no verdict of the problem is evidence.
    `passed`: whether the trace solved it, null where that is not known. A cut trace is null or
    false by `cut_traces`, whatever its verdict.
    """
    verdict, problem = pl.col("verdict"), "problem_id"
    unparsable = (verdict == "gold_unparsable").any().over(problem)
    graded = verdict.is_not_null().any().over(problem)
    return traces.with_columns(gradable=pl.when(graded).then(~unparsable)).with_columns(
        passed=pl.when(verdict.is_null() | ~pl.col("gradable"))
        .then(None)
        .when(pl.col("cut").is_not_null())
        .then(None if cut_traces == "ignore" else False)
        .when(verdict.is_in(DECIDED))
        .then(verdict == "correct")
        .cast(pl.Boolean)
    )


def measure(traces: pl.DataFrame, cut_traces: CutTraces = "ignore") -> pl.DataFrame:
    """The measures of each problem of `traces` (columns as in TRACES), in order of `problem_id`.

    - `source`: the one that most of its traces have; of equals the first by name.
    - `traces`, `graded` (with a verdict), `decided` (known to pass or not), `correct`, `cut`.
    - `gradable`: whether its gold can be read; null where it has none.
    - `pass_rate`: correct / decided, in [0, 1]; null where nothing is decided.
    - `models`, `pass_rate_cv`: named models with a decided trace, and the coefficient of variation
      of their pass rates (DeepDistill, facts.md 2.4): the population's standard deviation / mean;
      null with fewer than two models, and where none of them ever passes.
    - `mean_tokens`: of the thinking of all its traces; a cut one counts with what it has, so that
      this is a lower bound where `finished_share` < 1.
    - `problem_tokens`: of the problem's text.

    Nothing depends on the order of the rows.
    """
    judged = judge(traces, cut_traces)
    measures = judged.group_by("problem_id").agg(
        source=pl.col("source").cast(pl.String).mode().min(),
        traces=pl.len(),
        graded=pl.col("verdict").count(),
        decided=pl.col("passed").count(),
        correct=pl.col("passed").sum(),
        cut=pl.col("cut").count(),
        gradable=pl.col("gradable").first(),
        mean_tokens=pl.col("tokens").sum() / pl.len(),
        problem_tokens=pl.col("problem_tokens").max(),
    )
    shares = measures.with_columns(
        pass_rate=pl.when(pl.col("decided") > 0).then(pl.col("correct") / pl.col("decided")),
        finished_share=(pl.col("traces") - pl.col("cut")) / pl.col("traces"),
    )
    return (
        shares.join(_spread(judged), on="problem_id", how="left")
        .with_columns(pl.col("models").fill_null(0))
        .sort("problem_id")
    )


def _spread(judged: pl.DataFrame) -> pl.DataFrame:
    """How far the pass rates of a problem's models are apart; rates in order, so that the sums of
    floats are the same in any order of rows."""
    rates = (
        judged.drop_nulls(["model", "passed"])
        .group_by("problem_id", "model")
        .agg(rate=pl.col("passed").sum() / pl.len())
    )
    rate = pl.col("rate").sort()
    spread = pl.when((pl.len() > 1) & (rate.sum() > 0)).then(rate.std(ddof=0) / rate.mean())
    return rates.group_by("problem_id").agg(models=pl.len(), pass_rate_cv=spread)


def majority(traces: pl.DataFrame, cut_traces: CutTraces = "ignore") -> pl.DataFrame:
    """The answer that most traces of a problem give, and its share: TTRL's label of a problem
    without a gold (arXiv 2504.16084).

    `traces` have `problem_id`, `cut` and `answer` (as written, null where there is none). Equal
    answers (`answer_key`) are one, shown as most of them write it. The share is of the finished
    traces, with or without an answer; with `cut_traces` "wrong" it is of all traces, of which the
    cut ones have no vote. Of equals the first by its text. A problem without any vote is left out.
    """
    finished = traces.filter(pl.col("cut").is_null())
    voters = finished if cut_traces == "ignore" else traces
    answers = finished.select(pl.col("answer").drop_nulls().unique())
    keys = pl.Series("key", map(answer_key, answers["answer"]), pl.String)
    votes = finished.join(answers.with_columns(keys), on="answer").group_by("problem_id", "key")
    found = votes.agg(
        majority_votes=pl.len(), majority_answer=pl.col("answer").mode().sort().first()
    ).sort("problem_id", "majority_votes", "majority_answer", descending=[False, True, False])
    return (
        found.unique("problem_id", keep="first", maintain_order=True)
        .join(voters.group_by("problem_id").agg(voters=pl.len()), on="problem_id")
        .select(
            "problem_id",
            "majority_answer",
            majority_share=pl.col("majority_votes") / pl.col("voters"),
        )
        .sort("problem_id")
    )


def answer_key(answer: str) -> str:
    r"""A text that equal answers share: the number that it is, or its words, or its normal form.

    Narrower than grading, which asks computer algebra: `2\sqrt{2}` and `\sqrt{8}` stay apart.

    >>> answer_key(r"\dfrac{3}{2}"), answer_key("6/4"), answer_key("1.50")
    ('3/2', '3/2', '3/2')
    """
    text = clean(answer).strip()
    if len(text) > SHORT:
        return text
    normal = normal_form(text)
    plain = Fraction(normal.replace(",", "")) if _NUMBER.fullmatch(normal) else None
    number = plain if plain is not None else as_rational(normal)
    return str(number) if number is not None else as_words(normal) or normal


def add_labels(problems: pl.DataFrame) -> pl.DataFrame:
    """The problems with `label` and `label_source`: their gold (`answer`), or else the majority's
    answer, marked `majority`; both null where there is neither."""
    gold, voted = pl.col("answer"), pl.col("majority_answer")
    source = pl.when(gold.is_not_null()).then(pl.lit("gold"))
    return problems.with_columns(
        label=pl.coalesce(gold, voted),
        label_source=source.when(voted.is_not_null()).then(pl.lit("majority")),
    )
