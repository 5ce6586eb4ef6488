"""Iterative context lengthening (DeepScaleR, sections 3.2 and 3.3) as a schedule with three rules.

1. Know coverage (problems solved) and truncation by context: the list `contexts` of
   `progdata stats --samples --json`.
2. Start just beyond the steepest gains: `first_context`.
3. Move on when the reward stands still while responses grow or are cut more often (`find_plateau`),
   from the best checkpoint before that (`best_checkpoint`).

The paper gives the rules in words; every number here is ours. Pure functions over plain rows.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from progdata.builders.errors import UsageError
from progdata.releases.recipe_sections import Section

REWARD, LENGTH, CLIPPED = "reward", "completions/mean_length", "completions/clipped_ratio"
"""What TRL calls the columns of its log that rule 3 reads, beside `step`."""


class LengtheningSection(Section):
    """What a recipe says of the rules.

    `coverage`: the JSON of `progdata stats --samples --json`, or none for the schedule as written.
    `taper`: the share of the steepest gain under which gains have tapered off (rule 2). Rule 3
    compares the last `window` steps with the `window` before: `reward_gain` is what the mean reward
    must rise to go on; `length_rise` (relative) and `clipped_rise` (of all completions) are what
    shows that the context has become too short.
    """

    coverage: str | None = None
    taper: float = Field(default=0.25, gt=0, lt=1)
    window: int = Field(default=50, ge=1)
    reward_gain: float = Field(default=0.005, ge=0)
    length_rise: float = Field(default=0.02, ge=0)
    clipped_rise: float = Field(default=0.005, ge=0)


@dataclass(frozen=True)
class Stage:
    """One stage of a schedule: `context` is the most tokens of a completion."""

    context: int
    max_steps: int
    num_generations: int


def plan_stages(
    context: int | Sequence[int],
    max_steps: int | Sequence[int],
    num_generations: int | Sequence[int],
) -> list[Stage]:
    """The stages of a schedule; a single number of steps or completions holds for all of them.

    Raises UsageError where lists differ in length or contexts do not rise.

    >>> [own.num_generations for own in plan_stages([8192, 16384, 24576], 500, [8, 16, 16])]
    [8, 16, 16]
    """
    contexts = [context] if isinstance(context, int) else list(context)
    columns = [contexts]
    for name, given in (("max_steps", max_steps), ("num_generations", num_generations)):
        own = [given] * len(contexts) if isinstance(given, int) else list(given)
        if len(own) != len(contexts):
            raise UsageError(
                f"{name}: {len(own)} numbers for {len(contexts)} contexts; "
                "give one for each context, or a single number"
            )
        columns.append(own)
    if not contexts or contexts != sorted(set(contexts)) or min(map(min, columns)) < 1:
        raise UsageError(f"context: expected rising numbers of tokens from 1, found {contexts}")
    return [Stage(*own) for own in zip(*columns, strict=True)]


def read_contexts(path: str) -> list[dict[str, float]]:
    """Rule 1: the coverage table in a report of `progdata stats --samples --json`.

    Raises UsageError where the file holds none.
    """
    try:
        contexts = json.loads(Path(path).read_text("utf-8"))["contexts"]
        return [{name: float(own[name]) for name in ("max_tokens", "coverage")} for own in contexts]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: no table of coverage by context; write one with "
            "progdata stats SAMPLES --samples --json"
        ) from error


def first_context(contexts: Sequence[Mapping[str, float]], taper: float = 0.25) -> int:
    """Rule 2: the shortest context beyond the steepest gains, of those in the table.

    The gain of a row is the rise of `coverage` a token since the row before (from 0 tokens). The
    first context at or after the steepest one after which every token gains less than `taper`
    times the steepest; the last one where the gains never taper off ("if gains rise sharply only
    near the maximum, train at the target length").

    >>> aime = {2048: 0.03, 4096: 0.09, 8192: 0.23, 16384: 0.26, 32768: 0.29}
    >>> first_context([{"max_tokens": own, "coverage": aime[own]} for own in aime])
    8192
    """
    rows = sorted((int(own["max_tokens"]), own["coverage"]) for own in contexts)
    rows = [own for own in rows if own[0] > 0]
    if not rows:
        raise UsageError("coverage by context: expected at least one context, found none")
    gains, before = [], (0, 0.0)
    for own in rows:
        gains.append((own[1] - before[1]) / (own[0] - before[0]))
        before = own
    steepest = max(gains)
    for place in range(gains.index(steepest), len(rows) - 1):
        if max(gains[place + 1 :]) < taper * steepest:
            return rows[place][0]
    return rows[-1][0]


@dataclass(frozen=True)
class Plateau:
    """Where the reward stood still: steps `since` .. `step`, and means before and within."""

    since: int
    step: int
    reward: tuple[float, float]
    length: tuple[float, float]
    clipped: tuple[float, float]


def find_plateau(history: Sequence[Mapping[str, Any]], rules: LengtheningSection) -> Plateau | None:
    """Rule 3: the plateau that the last steps of a stage's log show, if they do.

    `history`: a row a step, in order, with `step` and the columns REWARD, LENGTH and CLIPPED. The
    reward of the last window rose by less than `reward_gain`, while the length rose by more than
    `length_rise` or the clipped share by more than `clipped_rise`. Rows without a reward (nothing
    could be graded) are passed over.
    """
    rows = [own for own in history if own.get(REWARD) is not None]
    if len(rows) < 2 * rules.window:
        return None
    earlier, recent = rows[-2 * rules.window : -rules.window], rows[-rules.window :]
    reward, length, clipped = (
        (_mean(earlier, column), _mean(recent, column)) for column in (REWARD, LENGTH, CLIPPED)
    )
    still = reward[1] - reward[0] < rules.reward_gain
    longer = length[1] > length[0] * (1 + rules.length_rise)
    if not still or not (longer or clipped[1] - clipped[0] > rules.clipped_rise):
        return None
    return Plateau(int(recent[0]["step"]), int(recent[-1]["step"]), reward, length, clipped)


def best_checkpoint(
    history: Sequence[Mapping[str, Any]], saved: Sequence[int], plateau: Plateau, window: int
) -> int:
    """The saved step to go on from: of those before the plateau, the one with the highest mean
    reward over the `window` steps up to it; the later of equals. The first saved step where all
    were saved within the plateau."""
    before = [step for step in saved if step < plateau.since] or [min(saved)]

    def reward_at(step: int) -> float:
        rows = [own for own in history if own.get(REWARD) is not None and own["step"] <= step]
        return _mean(rows[-window:], REWARD) if rows else float("-inf")

    return max(before, key=lambda step: (reward_at(step), step))


def _mean(rows: Sequence[Mapping[str, Any]], column: str) -> float:
    return sum(float(own[column]) for own in rows) / len(rows)
