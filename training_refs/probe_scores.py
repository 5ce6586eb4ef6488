"""How far a guess of progress is off: by bin and by share, with intervals over problems."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progdata.training_refs.hidden_states import HiddenStates
from progdata.verifiers.sample_metrics import estimate_mean

MEASURES = ("accuracy", "mae_bins", "mae_progress")
"""Top-1 accuracy; distance in bins (both as in paper 000, table 4); distance as a share."""

CHUNK = 2_048
"""Tokens whose features are held at a time."""

_DIGITS = 6

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Guess:
    """What is said of some tokens: the bin, the progress in [0, 1], and where there are any the
    chances of all bins, float64[tokens, bins]."""

    bins: Integers
    progress: Floats
    chances: Floats | None = None


@dataclass(frozen=True)
class Truth:
    """What is true of some tokens."""

    bins: Integers
    progress: Floats


Guesser = Callable[[HiddenStates, Integers], Guess | None]
"""What guesses the progress of some tokens (rows of the states). None: every bin alike, whose
errors are known without drawing."""


def bin_of_position(positions: Integers, totals: Integers, bins: int) -> Integers:
    """The quantile that a token lies in: floor(bins * j / n) for token j of n, from 0 (paper 000,
    section 4: "quantizing its position into 10 equally-spaced quantiles").

    >>> bin_of_position(np.array([0, 4, 9]), np.array([10, 10, 10]), 10).tolist()
    [0, 4, 9]
    """
    return bins * positions // totals


def centre(bins: Integers, number: int) -> Floats:
    """The progress that a bin stands for: its middle.

    The paper multiplies the top bin by a factor that is lost; its edge would be off by half a bin.

    >>> centre(np.array([0, 9]), 10).tolist()
    [0.05, 0.95]
    """
    return (bins + 0.5) / number


def errors(truth: Truth, guess: Guess) -> Floats:
    """The MEASURES of each token: float64[tokens, 3]."""
    return np.stack(
        [
            guess.bins == truth.bins,
            np.abs(guess.bins - truth.bins),
            np.abs(guess.progress - truth.progress),
        ],
        axis=1,
    ).astype(np.float64)


def random_errors(truth: Truth, number: int) -> Floats:
    """The MEASURES expected of each token where every bin is guessed alike."""
    each = [np.full(len(truth.bins), own) for own in range(number)]
    return np.mean([errors(truth, Guess(own, centre(own, number))) for own in each], axis=0)


def score(states: HiddenStates, guesser: Guesser, bins: int) -> dict[str, Any]:
    """The measures of a guesser over a split.

    Each is the mean over problems of the mean over a problem's tokens, with its bootstrap interval
    over problems, and beside it the plain mean over tokens, which is how the paper reads. Where
    the guesser gives chances, `heatmap[b]` is their mean where bin `b` is true (figure 2), None
    where it never is.
    """
    sums = np.zeros((len(states.problem_ids), len(MEASURES)))
    counts = np.zeros(len(states.problem_ids))
    heat, seen = np.zeros((bins, bins)), np.zeros(bins)
    shown = False
    for start in range(0, len(states), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(states)))
        truth, problems = read_truth(states, rows, bins)
        guess = guesser(states, rows)
        own = random_errors(truth, bins) if guess is None else errors(truth, guess)
        np.add.at(sums, problems, own)
        np.add.at(counts, problems, 1)
        if guess is not None and guess.chances is not None:
            shown = True
            np.add.at(heat, truth.bins, guess.chances)
            np.add.at(seen, truth.bins, 1)
    measured = {
        name: _rounded(asdict(estimate_mean(sums[:, i] / counts)))
        | {"over_tokens": round(float(sums[:, i].sum() / counts.sum()), _DIGITS)}
        for i, name in enumerate(MEASURES)
    }
    rows_of_heat = [
        (own / number).round(_DIGITS).tolist() if number else None
        for own, number in zip(heat, seen, strict=True)
    ]
    return measured | ({"heatmap": rows_of_heat} if shown else {})


def read_truth(states: HiddenStates, rows: Integers, bins: int) -> tuple[Truth, Integers]:
    """What is true of these tokens (rising), and the number of each one's problem.

    A token j of n (from 0) has progress (j + 1) / n: it is itself already written.
    """
    positions, totals, problems = states.truth(rows)
    binned = bin_of_position(positions, totals, bins)
    return Truth(binned, (positions + 1) / totals), problems


def most_common_bin(states: HiddenStates, bins: int) -> int:
    """The bin that most tokens lie in; the lowest of several."""
    counts = np.zeros(bins, np.int64)
    for start in range(0, len(states), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(states)))
        counts += np.bincount(read_truth(states, rows, bins)[0].bins, minlength=bins)
    return int(counts.argmax())


def constant(progress: float, bins: int) -> Guesser:
    """A guesser that always says the same."""
    own = min(int(bins * progress), bins - 1)

    def guess(_: HiddenStates, rows: Integers) -> Guess:
        return Guess(np.full(len(rows), own), np.full(len(rows), progress))

    return guess


def at_random(_: HiddenStates, __: Integers) -> None:
    """The guesser that says every bin alike."""


def score_baselines(
    states: dict[str, HiddenStates], train_split: str, bins: int
) -> list[dict[str, Any]]:
    """What guesses without looking reach on each split."""
    usual = most_common_bin(states[train_split], bins)
    guessers: dict[str, Guesser] = {
        "random": at_random,
        f"majority bin {usual}": constant((usual + 0.5) / bins, bins),
        "constant 50%": constant(0.5, bins),
    }
    return [
        {"name": name, "splits": {split: score(own, guess, bins) for split, own in states.items()}}
        for name, guess in guessers.items()
    ]


def _rounded(estimate: dict[str, float | None]) -> dict[str, float | None]:
    return {k: None if v is None else round(v, _DIGITS) for k, v in estimate.items()}
