"""maj@k: what the majority of k samples answers (self-consistency, DeepScaleR figure 5).

k samples are drawn from each problem's pool without replacement, many times over. Equal answers
(`difficulty.answer_key`) vote together. The draws of a problem depend on the seed, its id and the
multiset of its samples, never on the order of the rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from progdata.builders.randomness import row_keys, uniforms
from progdata.verifiers.difficulty import answer_key
from progdata.verifiers.sample_metrics import SEED

DRAWS = 300
"""How often k samples are drawn (DeepScaleR, section 4.1)."""


@dataclass(frozen=True, slots=True)
class MajorityAtK:
    """The accuracy of the majority of `k` samples, over `problems` with at least `k` decided.

    `mean` and `deviation` are over the draws, the deviation being the population's; `tokens` are
    what the k samples of a problem cost, as a mean over the problems. All are None where no
    problem has `k` samples.
    """

    k: int
    problems: int
    mean: float | None
    deviation: float | None
    tokens: float | None


@dataclass(frozen=True, slots=True)
class _Pool:
    """The decided samples of one problem.

    `answers`: int64[samples], the number of the answer that each gives, or the number of answers
    where it has no vote; `right`: bool[answers].
    """

    answers: NDArray[np.int64]
    right: NDArray[np.bool_]
    mean_tokens: float


def majority_at_k(
    decided: pl.DataFrame, ks: Sequence[int], draws: int = DRAWS, seed: int = SEED
) -> list[MajorityAtK]:
    """maj@k for each of `ks`, each over the problems with at least so many decided samples.

    `decided`: samples (columns as in `sample_metrics.SAMPLES`) with `passed`, none of them null.
    One without an answer, or that was cut off, has no vote; no vote at all is wrong. Of several
    answers with the most votes one is drawn at random, each with the same chance. The first k
    of a longer draw are the draw for k.
    """
    ids = decided["problem_id"].unique().sort().to_list()
    keys = row_keys(seed, ids, "majority")
    correct = np.zeros((len(ks), draws), np.int64)
    problems, tokens = [0] * len(ks), [0.0] * len(ks)
    for i, pool in enumerate(_pools(decided)):
        order, ties = _draw(keys[i : i + 1], len(pool.answers), draws)
        for j, k in enumerate(ks):
            if k <= len(pool.answers):
                correct[j] += _majority_is_right(pool, order[:, :k], ties)
                problems[j] += 1
                tokens[j] += k * pool.mean_tokens
    return [_summarise(k, correct[j], problems[j], tokens[j]) for j, k in enumerate(ks)]


def _summarise(k: int, correct: NDArray[np.int64], problems: int, tokens: float) -> MajorityAtK:
    if not problems:
        return MajorityAtK(k, 0, None, None, None)
    rates = correct / problems
    return MajorityAtK(k, problems, float(rates.mean()), float(rates.std()), tokens / problems)


def _pools(decided: pl.DataFrame) -> Iterator[_Pool]:
    """The pool of each problem, by `problem_id`; samples in the order of their answers."""
    table = _with_answer_numbers(decided)
    sizes = table["problem_id"].rle().struct.field("len").to_numpy().astype(np.int64)
    answers = table["number"].to_numpy()
    right, tokens = table["right"].to_numpy(), table["tokens"].to_numpy()
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        own = answers[end - size : end]
        votes = own >= 0
        named = np.zeros(own.max(initial=-1) + 1, np.bool_)
        named[own[votes]] = right[end - size : end][votes]
        yield _Pool(
            np.where(votes, own, len(named)), named, float(tokens[end - size : end].mean())
        )  # fmt: skip


def _with_answer_numbers(decided: pl.DataFrame) -> pl.DataFrame:
    """The samples by problem and answer, with the answer's `number` in its problem, -1 for a
    sample without a vote, and whether the answer is `right`.

    Equal answers may have got several verdicts: most of them decide, and as many are wrong.
    """
    texts = decided.select(pl.col("answer").drop_nulls().unique())
    keys = pl.Series("key", map(answer_key, texts["answer"]), pl.String)
    votes = pl.col("cut").is_null() & (pl.col("verdict") != "no_answer")
    own = ["problem_id", "key"]
    return (
        decided.join(texts.with_columns(keys), on="answer", how="left")
        .with_columns(key=pl.when(votes).then(pl.col("key")))
        .with_columns(
            number=pl.col("key").rank("dense").over("problem_id").cast(pl.Int64).fill_null(0) - 1,
            right=2 * pl.col("passed").sum().over(own) > pl.len().over(own),
        )
        .sort("problem_id", "number")
    )


def _draw(
    key: NDArray[np.uint64], samples: int, draws: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Orders of the samples, int64[draws, samples], and a number in (0, 1] for each draw's ties."""
    numbers = uniforms(key, np.array([draws * (samples + 1)])).reshape(draws, samples + 1)
    return np.argsort(numbers[:, 1:], axis=1, kind="stable"), numbers[:, 0]


def _majority_is_right(
    pool: _Pool, drawn: NDArray[np.int64], ties: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether the majority of the samples `drawn`, int64[draws, k], is right: bool[draws]."""
    draws, answers = len(drawn), len(pool.right)
    if not answers:
        return np.zeros(draws, np.bool_)
    cells = pool.answers[drawn] + np.arange(draws)[:, None] * (answers + 1)
    counts = np.bincount(cells.ravel(), minlength=draws * (answers + 1))
    votes = counts.reshape(draws, answers + 1)[:, :answers]
    most = votes.max(axis=1, keepdims=True)
    first = (votes == most) & (most > 0)
    tied = first.sum(axis=1)
    chosen = np.minimum((ties * tied).astype(np.int64), tied - 1)
    winner = first & (np.cumsum(first, axis=1) - 1 == chosen[:, None])
    return (winner & pool.right).any(axis=1)
