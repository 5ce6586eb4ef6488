"""Predictions of progress that read nothing: what a model has to beat.

A uniform random guess, 50 %, the position over the mean length, the position with the survival
curve of lengths, and the model's own previous prediction. Facts.md 2.1 says why the paper's random
baseline is not enough.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from progdata.training_refs.progress_metrics import Floats, Positions, clip

CONSTANT = 0.5

BASELINES = ("random", "constant", "mean_length", "survival", "previous")


@dataclass(frozen=True)
class Lengths:
    """Lengths of finished thinkings in tokens, rising: int64[traces].

    `problem`: whose they are, int64[traces], where they are those of the evaluated traces: a
    problem's own are then not used for it. None: of other traces.
    """

    tokens: NDArray[np.int64]
    problem: NDArray[np.int64] | None = None

    @staticmethod
    def of(tokens: NDArray[np.int64], problem: NDArray[np.int64] | None = None) -> "Lengths":
        """The lengths in rising order, without those of an empty thinking."""
        order = np.argsort(tokens, kind="stable")
        order = order[tokens[order] > 0]
        return Lengths(tokens[order], None if problem is None else problem[order])


def random_error(truth: Floats) -> Floats:
    """The expected error of a guess that is uniform on [0, 1]: the integral of |u - p| du.

    1/3 on average over positions that are uniform themselves.

    >>> random_error(np.array([0.0, 0.5])).tolist()
    [0.5, 0.25]
    """
    return (truth**2 + (1 - truth) ** 2) / 2


def by_mean_length(tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> Floats:
    """The position over the mean length, at most 1; NaN without any length."""
    if not len(lengths):
        return np.full(len(tokens), np.nan)
    return np.minimum(tokens / lengths.mean(), 1.0)


def by_survival(tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> Floats:
    """E[k/m | m >= k] over the lengths m, which rise, at each position k.

    That is the mean progress at k of the traces that were not finished before it; 1 beyond the
    longest of them. NaN without any length.
    """
    if not len(lengths):
        return np.full(len(tokens), np.nan)
    inverse = np.append(np.cumsum(1.0 / lengths[::-1])[::-1], 0.0)
    shorter = np.searchsorted(lengths, tokens, side="left")
    left = len(lengths) - shorter
    return np.where(left > 0, tokens * inverse[shorter] / np.maximum(left, 1), 1.0)


def position_predictions(
    tokens: NDArray[np.int64], problem: NDArray[np.int64], lengths: Lengths
) -> tuple[Floats, Floats]:
    """What the mean length and the survival curve predict at each position: float64[markers]."""
    if lengths.problem is None:
        return by_mean_length(tokens, lengths.tokens), by_survival(tokens, lengths.tokens)
    mean, survival = np.empty(len(tokens)), np.empty(len(tokens))
    for own in np.unique(problem).tolist():
        here = problem == own
        others = lengths.tokens[lengths.problem != own]
        mean[here] = by_mean_length(tokens[here], others)
        survival[here] = by_survival(tokens[here], others)
    return mean, survival


def baseline_errors(
    where: Positions, tokens: NDArray[np.int64], lengths: Lengths
) -> dict[str, Floats]:
    """The absolute error of each baseline at each position; NaN where it can say nothing.

    `tokens`: of the thinking before each position, int64[markers].
    """
    mean, survival = position_predictions(tokens, where.problem, lengths)
    return {
        "random": random_error(where.truth),
        "constant": np.abs(CONSTANT - where.truth),
        "mean_length": np.abs(mean - where.truth),
        "survival": np.abs(survival - where.truth),
        "previous": np.abs(clip(where.previous) - where.truth),
    }
