"""The parts of the report of `progdata eval`: plain numbers from traces and their markers."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from progdata.training_refs.baselines import Lengths, baseline_errors
from progdata.training_refs.progress_metrics import (
    BINS,
    Floats,
    Mask,
    Positions,
    against,
    both,
    clip,
    estimate,
    non_monotone,
    prediction_errors,
)
from progdata.training_refs.reported_progress import UNFINISHED
from progdata.verifiers.difficulty import find_cut
from progdata.verifiers.sample_metrics import count_problems, estimate_mean, judge_samples

VERDICTS = ("correct", "incorrect", "ungraded")

QUANTILES = {"p5": 0.05, "p50": 0.5, "p95": 0.95, "most": 1.0}


@dataclass(frozen=True)
class Scored:
    """The scored markers as arrays of one item each, and the errors of every baseline there.

    `tokens` before a marker, and `total` of its thinking; `before_end`: whether some of it is left;
    `verdict`: an index into VERDICTS.
    """

    where: Positions
    tokens: NDArray[np.int64]
    total: NDArray[np.int64]
    before_end: Mask
    verdict: NDArray[np.int64]
    baselines: Mapping[str, Floats]


def judge_traces(traces: pl.DataFrame) -> pl.DataFrame:
    """The traces (`reported_progress.TRACES`) with `passed`: whether each solved its problem, null
    where that is not known. One that was cut off did not, as in `stats --samples`."""
    closed = pl.col("no_truth").fill_null("") != UNFINISHED
    return judge_samples(traces.with_columns(cut=find_cut(closed, pl.col("finish_reason"))))


def score_markers(traces: pl.DataFrame, markers: pl.DataFrame, lengths: pl.Series | None) -> Scored:
    """The markers of judged traces with every baseline's errors.

    `lengths`: of the thinkings that the position baselines know; None: those of the traces
    themselves, without those of the same problem.
    """
    own = traces.select("trace", "problem_id", "passed")
    known = markers.join(own, on="trace", how="left", maintain_order="left")
    names = known["problem_id"].unique().sort()
    numbers = {name: number for number, name in enumerate(names)}
    tokens, total = known["tokens"].to_numpy(), known["total"].to_numpy()
    where = Positions(
        problem=_numbers(known["problem_id"], numbers),
        trace=known["trace"].to_numpy(),
        truth=tokens / total,
        predicted=known["label"].to_numpy() / 100,
        problems=len(names),
    )
    if lengths is None:
        finished = traces.drop_nulls("tokens")
        problem = _numbers(finished["problem_id"], numbers)
        given = Lengths.of(finished["tokens"].to_numpy(), problem)
    else:
        given = Lengths.of(lengths.to_numpy())
    passed = known["passed"].cast(pl.Int64)
    return Scored(
        where,
        tokens,
        total,
        # where the tokens of markers count, the last marker has its own behind it
        (tokens < total) & (known["left"].to_numpy() > 0),
        (1 - passed).fill_null(VERDICTS.index("ungraded")).to_numpy(),
        baseline_errors(where, tokens, given),
    )


def _numbers(names: pl.Series, numbers: Mapping[str, int]) -> NDArray[np.int64]:
    """Each name's number; -1 for one that has none."""
    return np.array([numbers.get(name, -1) for name in names], dtype=np.int64)


def measure_progress(scored: Scored, long_tokens: int, seed: int) -> dict[str, Any]:
    """Every error of the predictions with its interval: all, before the last token, in the cells of
    paper 000's table 3, and along the thinking.

    `before_end` leaves out the markers with nothing behind them: the model puts them where it ends
    its thinking, which no position says, so that their label is no feat.
    """
    where = scored.where
    tree = {
        **_cell(scored, np.ones(len(where.truth), dtype=bool)),
        "before_end": _cell(scored, scored.before_end),
        "cells": [
            {"length": length, "verdict": verdict, **_cell(scored, keep)}
            for length, verdict, keep in _cells(scored, long_tokens)
        ],
        "along": [_part(where, part) for part in range(BINS)],
    }
    return estimate(tree, seed)


def _cell(scored: Scored, keep: Mask) -> dict[str, Any]:
    """All that is said of some of the markers, with ratios that are still to be estimated."""
    where = scored.where
    return {
        "markers": int(keep.sum()),
        "traces": len(np.unique(where.trace[keep])),
        "problems": len(np.unique(where.problem[keep])),
        **prediction_errors(where, keep),
        "non_monotone": non_monotone(where, keep),
        "baselines": {name: against(own, where, keep) for name, own in scored.baselines.items()},
    }


def _cells(scored: Scored, long_tokens: int) -> Iterator[tuple[str, str, Mask]]:
    """Length by verdict: the cells of table 3, and those of traces without a verdict."""
    short = scored.total <= long_tokens
    for length, fits in ((f"<= {long_tokens}", short), (f"> {long_tokens}", ~short)):
        for number, verdict in enumerate(VERDICTS):
            yield length, verdict, fits & (scored.verdict == number)


def _part(where: Positions, part: int) -> dict[str, Any]:
    """The predictions in a tenth of the thinking."""
    here = where.bins == part
    shown = clip(where.predicted[here])
    pairs = here & ~where.first
    return {
        "from": part / BINS,
        "to": (part + 1) / BINS,
        "markers": len(shown),
        "truth": float(where.truth[here].mean()) if len(shown) else None,
        "predicted": describe(shown, {"p25": 0.25, "p50": 0.5, "p75": 0.75}),
        "mae": both(np.abs(clip(where.predicted) - where.truth), where, here),
        "pairs": int(pairs.sum()),
        "non_monotone": non_monotone(where, here),
    }


def compare_predictions(
    scored: Scored, others: Mapping[str, Floats], long_tokens: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Other predictions beside the model's, each on the positions where it has one (not NaN).

    `in_domain` is the same over thinkings of at most `long_tokens`.
    """
    short = scored.total <= long_tokens
    tree = {}
    for name, other in others.items():
        has = ~np.isnan(other)
        tree[name] = {
            "none": int((~has).sum()),
            **_compare(scored.where, other, has),
            "in_domain": _compare(scored.where, other, has & short),
        }
    return estimate(tree, seed)


def _compare(where: Positions, other: Floats, keep: Mask) -> dict[str, Any]:
    """The errors of both on the positions kept; `filtered`: where neither is above 100 %."""
    other = np.where(keep, other, 0.0)
    sides = {"model": where.predicted, "other": other}
    raw = {name: np.abs(own - where.truth) for name, own in sides.items()}
    clipped = {name: np.abs(clip(own) - where.truth) for name, own in sides.items()}
    possible = keep & (where.predicted <= 1) & (other <= 1)
    kinds = {"raw": (raw, keep), "clip": (clipped, keep), "filtered": (raw, possible)}
    found: dict[str, Any] = {"positions": int(keep.sum()), "filtered": int(possible.sum())}
    for name in sides:
        found[name] = {kind: both(own[name], where, kept) for kind, (own, kept) in kinds.items()}
    found["difference"] = {
        kind: both(own["model"] - own["other"], where, kept) for kind, (own, kept) in kinds.items()
    }
    return found


def describe_traces(traces: pl.DataFrame, markers: pl.DataFrame, seed: int) -> dict[str, Any]:
    """What was read and left out, how often progress is reported, and the accuracy."""
    finished = traces.filter(pl.col("no_truth").is_null())
    with_markers = finished.filter(pl.col("markers") > 0)
    left_out = traces.drop_nulls("no_truth")
    spacing = markers.select(pl.col("tokens").diff().over("trace")).to_series().drop_nulls()
    decided = traces.drop_nulls("passed")
    accuracy = estimate_mean(count_problems(decided).rates, seed)
    without = finished.height - with_markers.height
    return {
        "traces": {
            "read": traces.height,
            "finished": finished.height,
            "left_out": _tally(left_out["no_truth"]),
            "with_markers": with_markers.height,
            "without_markers": without,
            "share_without_markers": without / finished.height if finished.height else None,
            "models": _tally(traces["model"].fill_null("unknown")),
        },
        "markers": {
            "scored": markers.height,
            "in_traces_left_out": int(left_out["markers"].sum()),
            "outside": int(traces["outside"].sum()),
            "malformed": int(traces["malformed"].sum()),
        },
        "reports": {
            "per_trace": describe(finished["markers"].to_numpy()),
            "spacing_tokens": describe(spacing.to_numpy()),
            "thinking_tokens": describe(finished["tokens"].to_numpy()),
        },
        "accuracy": {
            "samples": decided.height,
            "verdicts": _tally(traces["verdict"].cast(pl.String).fill_null("ungraded")),
            **asdict(accuracy),
        },
    }


def describe(
    values: NDArray[Any], quantiles: Mapping[str, float] = QUANTILES
) -> dict[str, float | None]:
    """Mean and quantiles (linear between neighbours) by name; None without a value."""
    if not len(values):
        return {"mean": None} | dict.fromkeys(quantiles)
    found = np.quantile(values, list(quantiles.values())).tolist()
    return {"mean": float(values.mean())} | dict(zip(quantiles, found, strict=True))


def _tally(values: pl.Series) -> dict[str, int]:
    return dict(sorted(values.value_counts(name="rows").iter_rows()))
