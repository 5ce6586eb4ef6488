"""What papers report from several samples of each problem; pure functions over columns.

Only samples that were decided count: correct, wrong, or without an answer. One that was cut off
counts as wrong, as in the papers. `majority_votes` has maj@k.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from progdata.builders.randomness import row_keys, uniforms
from progdata.verifiers.difficulty import CUTS, judge
from progdata.verifiers.verdicts import STATUSES

SEED = 0

BOOTSTRAP_DRAWS = 2_000

CONFIDENCE = 0.95

SAMPLES = pl.Schema(
    {
        "problem_id": pl.String,
        "verdict": pl.Enum(STATUSES),  # null where there is no gold
        "cut": pl.Enum(CUTS),  # why it is not finished; null where it is
        "answer": pl.String,  # as written, null where there is none
        "tokens": pl.Int64,  # of the whole completion
    }
)
"""The columns that are measured, one row a sample."""

_BLOCK = 1 << 20
"""Random numbers of the bootstrap that are held at a time."""

_OCTAVES = 6
"""How far the shortest cutoff may lie below the longest completion, in powers of two."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems and its confidence interval, all in [0, 1].

    `mean` is None without problems; `low` and `high` are with fewer than two, which say nothing of
    how far problems differ.
    """

    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class PassAtK:
    """The chance that one of `k` samples is correct, over `problems` with at least `k` decided."""

    k: int
    problems: int
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class ContextShare:
    """What a context of `max_tokens` would have shown of the samples; shares in [0, 1]."""

    max_tokens: int
    coverage: float
    problems_solved: float
    truncated: float


@dataclass(frozen=True, slots=True)
class ProblemCounts:
    """Decided samples of each problem and the correct ones among them: int64[problems]."""

    samples: NDArray[np.int64]
    correct: NDArray[np.int64]

    @property
    def rates(self) -> NDArray[np.float64]:
        """The share of correct samples of each problem."""
        return self.correct / self.samples


def judge_samples(samples: pl.DataFrame) -> pl.DataFrame:
    """The samples (columns as in SAMPLES) with `passed` and `left_out`, of which one is null.

    `passed`: whether a sample solved its problem; false for one that was cut off. `left_out`: why
    that is not known. It is `no_gold`, `gold_unparsable` (for every sample of a problem with one,
    see `difficulty.judge`), `timeout` or `error`.
    """
    reason = (
        pl.when(pl.col("verdict").is_null())
        .then(pl.lit("no_gold"))
        .when(~pl.col("gradable"))
        .then(pl.lit("gold_unparsable"))
        .otherwise(pl.col("verdict").cast(pl.String))
    )
    judged = judge(samples, "wrong")
    return judged.with_columns(left_out=pl.when(pl.col("passed").is_null()).then(reason))


def count_problems(decided: pl.DataFrame) -> ProblemCounts:
    """The counts of each problem of decided samples (`passed` is not null), by `problem_id`."""
    counts = decided.group_by("problem_id").agg(
        samples=pl.len().cast(pl.Int64), correct=pl.col("passed").sum().cast(pl.Int64)
    )
    ordered = counts.sort("problem_id")
    return ProblemCounts(ordered["samples"].to_numpy(), ordered["correct"].to_numpy())


def default_ks(samples: NDArray[np.int64]) -> list[int]:
    """The powers of two up to the number of samples that half of the problems have, and that.

    >>> default_ks(np.array([5, 5, 5, 10]))
    [1, 2, 4, 5]
    """
    most = int(np.quantile(samples, 0.5, method="lower")) if len(samples) else 1
    powers = [1 << i for i in range(most.bit_length()) if 1 << i <= most]
    return sorted({*powers, most})


def pass_chances(counts: ProblemCounts, k: int) -> NDArray[np.float64]:
    """The chance that `k` samples hold a correct one: float64[problems with `k` or more].

    The unbiased estimator 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, section 2.1), as a product of
    `k` factors in [0, 1], so that no binomial overflows. With k = 1 it is the pass rate.
    """
    enough = counts.samples >= k
    samples, correct = counts.samples[enough], counts.correct[enough]
    missed = np.ones(len(samples))
    for drawn in range(k):
        missed *= np.maximum(samples - correct - drawn, 0) / (samples - drawn)
    return 1.0 - missed


def pass_at_k(counts: ProblemCounts, ks: Sequence[int], seed: int = SEED) -> list[PassAtK]:
    """pass@k for each of `ks`, each over the problems with at least so many decided samples."""
    chances = ((k, pass_chances(counts, k)) for k in ks)
    return [PassAtK(k, len(own), estimate_mean(own, seed)) for k, own in chances]


def estimate_mean(
    values: NDArray[np.float64], seed: int = SEED, draws: int = BOOTSTRAP_DRAWS
) -> Estimate:
    """The mean of one value a problem, with its percentile bootstrap interval over problems.

    Problems are drawn with replacement, never single samples: samples of one problem are alike,
    and would make the interval too narrow. The draws depend on the seed and on how many problems
    there are; give the values in the order of their `problem_id`.
    """
    number = len(values)
    if number < 2:
        return Estimate(float(values[0]) if number else None, None, None)
    keys = row_keys(seed, [str(draw) for draw in range(draws)], "bootstrap")
    means = []
    for block in np.array_split(keys, -(-draws * number // _BLOCK)):
        picked = uniforms(block, np.full(len(block), number)) * number
        drawn = values[np.minimum(picked.astype(np.int64), number - 1)]
        means.append(drawn.reshape(len(block), number).mean(axis=1))
    low, high = np.quantile(
        np.concatenate(means), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    ).tolist()
    return Estimate(float(values.mean()), low, high)


def default_cutoffs(tokens: NDArray[np.int64]) -> list[int]:
    """Powers of two and the middles between them, for completions of these lengths.

    From the last that is below the shortest completion, but no less than 1/64 of the longest, to
    the first that the longest fits into.

    >>> default_cutoffs(np.array([700, 3000]))
    [512, 768, 1024, 1536, 2048, 3072]
    """
    shortest, longest = int(tokens.min()), max(int(tokens.max()), 1)
    powers = [1 << i for i in range(longest.bit_length() + 1)]
    grid = sorted({*powers, *(own * 3 // 2 for own in powers if own > 1)})
    last = next(own for own in grid if own >= longest)
    below = max((own for own in grid if own < shortest), default=1)
    first = max(below, longest >> _OCTAVES)
    return [own for own in grid if first <= own <= last]


def share_by_context(decided: pl.DataFrame, cutoffs: Sequence[int]) -> list[ContextShare]:
    """Coverage and truncation at each cutoff, in tokens of the completion (DeepScaleR figure 6).

    `decided`: samples with `passed`, at least one. `coverage`: the share of a problem's samples
    that are correct and within the cutoff, then the mean over problems. `problems_solved`:
    problems with at least one such sample. `truncated`: samples that are longer than the cutoff;
    one that was cut at its own limit is truncated at every cutoff, since nobody knows its length.
    """
    ordered = decided.sort("problem_id")
    problem = ordered["problem_id"].rank("dense").to_numpy().astype(np.int64) - 1
    tokens, passed = ordered["tokens"].to_numpy(), ordered["passed"].to_numpy()
    cut = ordered["cut"].is_not_null().to_numpy()
    samples = np.bincount(problem)
    found = []
    for cutoff in cutoffs:
        solved = np.bincount(problem[passed & (tokens <= cutoff)], minlength=len(samples))
        found.append(
            ContextShare(
                max_tokens=cutoff,
                coverage=float((solved / samples).mean()),
                problems_solved=float((solved > 0).mean()),
                truncated=float((cut | (tokens > cutoff)).mean()),
            )
        )
    return found
