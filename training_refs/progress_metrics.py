"""The errors of progress predictions, as ratios that a bootstrap over problems can estimate.

Every metric here is a ratio of two sums over problems (`Ratio`): so one set of drawn problems
serves all metrics at once, and the difference of two of them is estimated on the same problems.
`docs/metrics.md` says what each number means.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progdata.builders.randomness import row_keys, uniforms
from progdata.verifiers.sample_metrics import BOOTSTRAP_DRAWS, CONFIDENCE, Estimate

BINS = 10
"""Parts of the thinking, of equal length, in which predictions are shown."""

_BLOCK = 1 << 20
"""Random numbers of the bootstrap that are held at a time."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Ratio:
    """A metric: `top.sum() / bottom.sum()`. Both are float64[problems]."""

    top: Floats
    bottom: Floats


@dataclass(frozen=True)
class Positions:
    """Where a prediction is scored, one item a marker, traces in order and markers in theirs.

    `problem` (below `problems`) and `trace` (any numbers): int64[markers]; `truth` in [0, 1] and
    `predicted`, the label / 100 as it stands: float64[markers].
    """

    problem: NDArray[np.int64]
    trace: NDArray[np.int64]
    truth: Floats
    predicted: Floats
    problems: int

    @property
    def first(self) -> Mask:
        """Whether a marker is the first of its trace."""
        first = np.ones(len(self.trace), dtype=bool)
        first[1:] = self.trace[1:] != self.trace[:-1]
        return first

    @property
    def previous(self) -> Floats:
        """The prediction of the marker before, 0 at the first of a trace: float64[markers]."""
        before = np.concatenate([np.zeros(min(len(self.trace), 1)), self.predicted[:-1]])
        return np.where(self.first, 0.0, before)

    @property
    def bins(self) -> NDArray[np.int64]:
        """The part of the thinking that each marker is in."""
        return bins_of(self.truth)


def bins_of(progress: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """The part of the thinking: (0, 0.1] is 0, (0.9, 1] is 9, and 0 itself 0.

    Rounded to 6 digits, since a stored 0.3 (float32) is more than three tenths.
    """
    parts = np.ceil(np.round(progress.astype(np.float64) * BINS, 6))
    return np.clip(parts.astype(np.int64) - 1, 0, BINS - 1)


def clip(predicted: Floats) -> Floats:
    """Predictions as a user would be shown them: in [0, 1]."""
    return np.clip(predicted, 0.0, 1.0)


def mean_by_problem(values: Floats, problem: NDArray[np.int64], problems: int) -> Ratio:
    """The mean of values, each of which belongs to one of so many problems."""
    tops = np.bincount(problem, weights=values, minlength=problems).astype(np.float64)
    return Ratio(tops, np.bincount(problem, minlength=problems).astype(np.float64))


def over_markers(values: Floats, where: Positions, keep: Mask | None = None) -> Ratio:
    """The mean of one value a marker over all markers kept (micro)."""
    kept = slice(None) if keep is None else keep
    return mean_by_problem(values[kept], where.problem[kept], where.problems)


def over_traces(values: Floats, where: Positions, keep: Mask | None = None) -> Ratio:
    """The mean over traces of the mean over a trace's markers (macro, the paper's).

    A trace without a marker that is kept is left out.
    """
    kept = slice(None) if keep is None else keep
    _, index, markers = np.unique(where.trace[kept], return_inverse=True, return_counts=True)
    problem = np.zeros(len(markers), dtype=np.int64)
    problem[index] = where.problem[kept]
    means = np.bincount(index, weights=values[kept], minlength=len(markers)) / markers
    return mean_by_problem(means, problem, where.problems)


def both(values: Floats, where: Positions, keep: Mask | None = None) -> dict[str, Ratio]:
    """A mean over traces and over markers."""
    return {
        "macro": over_traces(values, where, keep),
        "micro": over_markers(values, where, keep),
    }


def prediction_errors(where: Positions, keep: Mask) -> dict[str, Any]:
    """MAE raw, clipped, and of the predictions up to 100 %; shares of impossible predictions."""
    raw = np.abs(where.predicted - where.truth)
    over, below = where.predicted > 1, where.predicted < 0
    return {
        "mae": {
            "raw": both(raw, where, keep),
            "clip": both(np.abs(clip(where.predicted) - where.truth), where, keep),
            "filtered": both(raw, where, keep & ~over),
        },
        "share_over_100": both(over.astype(np.float64), where, keep),
        "share_below_0": both(below.astype(np.float64), where, keep),
    }


def against(other: Floats, where: Positions, keep: Mask) -> dict[str, Any]:
    """Another predictor's MAE, given its errors, and the model's minus its, raw and clipped.

    Positions where the other's error is NaN are left out on both sides.
    """
    keep = keep & ~np.isnan(other)
    raw = np.abs(where.predicted - where.truth)
    clipped = np.abs(clip(where.predicted) - where.truth)
    return {
        "mae": both(other, where, keep),
        "difference": {
            "raw": both(raw - other, where, keep),
            "clip": both(clipped - other, where, keep),
        },
    }


def non_monotone(where: Positions, keep: Mask) -> Ratio:
    """The share of predictions below the one before in their trace (paper 000, figure 5)."""
    falls = (where.predicted < where.previous).astype(np.float64)
    return over_markers(falls, where, keep & ~where.first)


def estimate(
    tree: Mapping[str, Any], seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> dict[str, Any]:
    """The same tree with each Ratio as its `mean`, `low` and `high` (plain numbers).

    The interval is the percentile bootstrap's over problems: all ratios are taken of the same
    drawn problems. A draw in which a ratio has nothing to divide by says nothing of it. `mean` is
    None without any problem; `low` and `high` are with fewer than two.
    """
    ratios = list(_leaves(tree))
    estimates = iter(estimate_ratios(ratios, seed, draws))
    return _map_leaves(tree, lambda _: asdict(next(estimates)))


def estimate_ratios(
    ratios: Sequence[Ratio], seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> list[Estimate]:
    """The estimate of each ratio; all of them have the same problems."""
    if not ratios:
        return []
    tops = np.stack([own.top for own in ratios], axis=1)
    bottoms = np.stack([own.bottom for own in ratios], axis=1)
    drawn = [
        _divide(counts @ tops, counts @ bottoms)
        for counts in drawn_problems(len(tops), seed, draws)
    ]
    means = _divide(tops.sum(axis=0), bottoms.sum(axis=0))
    return [
        _estimate(mean, values, int((bottom > 0).sum()))
        for mean, values, bottom in zip(means, np.concatenate(drawn).T, bottoms.T, strict=True)
    ]


def drawn_problems(problems: int, seed: int, draws: int) -> Iterator[Floats]:
    """How often each problem is drawn, with replacement: float64[some draws, problems] a block."""
    keys = row_keys(seed, [str(draw) for draw in range(draws)], "bootstrap")
    for block in np.array_split(keys, -(-draws * problems // _BLOCK) or 1):
        picked = uniforms(block, np.full(len(block), problems)) * problems
        picked = np.minimum(picked.astype(np.int64), problems - 1)
        cells = picked + np.repeat(np.arange(len(block)) * problems, problems)
        counts = np.bincount(cells, minlength=len(block) * problems)
        yield counts.reshape(len(block), problems).astype(np.float64)


def _estimate(mean: float, drawn: Floats, problems: int) -> Estimate:
    if problems == 0:
        return Estimate(None, None, None)
    if problems == 1:
        return Estimate(float(mean), None, None)
    bounds = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(drawn[~np.isnan(drawn)], bounds).tolist()
    return Estimate(float(mean), low, high)


def _divide(tops: Floats, bottoms: Floats) -> Floats:
    """NaN where there is nothing to divide by."""
    return np.divide(tops, bottoms, out=np.full(tops.shape, np.nan), where=bottoms > 0)


def _leaves(tree: Any) -> Iterator[Ratio]:
    if isinstance(tree, Ratio):
        yield tree
    elif isinstance(tree, Mapping):
        for own in tree.values():
            yield from _leaves(own)
    elif isinstance(tree, list):
        for own in tree:
            yield from _leaves(own)


def _map_leaves(tree: Any, change: Callable[[Ratio], Any]) -> Any:
    """The tree with its ratios changed, in the order of `_leaves`; what else is in it stays."""
    if isinstance(tree, Ratio):
        return change(tree)
    if isinstance(tree, Mapping):
        return {name: _map_leaves(own, change) for name, own in tree.items()}
    return [_map_leaves(own, change) for own in tree] if isinstance(tree, list) else tree
