"""The three rewards of paper 000, section 5.1, equations 6 to 8, as plain functions of texts.

They need no trainer: a completion, a gold answer, and what counts tokens (`load_counter` of
`builders.tokenizer` with the model's own tokenizer.json, so that K is in the model's tokens). At
the end of the file they are put into the signatures of two libraries, TRL and verl. The equations
are lost in our text of the paper; where its words leave a choice, the choice here is ours and is
said. No reward raises for what is in a completion.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import Field

from progdata.builders.markers import DEFAULT, MarkerGrammar, find_markers, strip, unmark
from progdata.builders.progress import count_joint
from progdata.builders.thinking import UnusualThinking, split_completion
from progdata.builders.tokenizer import Counter
from progdata.releases.recipe_sections import Section
from progdata.verifiers.grading import grade_all
from progdata.verifiers.verdicts import GraderName

REWARDS = ("progress_accuracy", "report_frequency", "correctness")
"""The names of the rewards, in the order of the paper's equations."""


class RewardSection(Section):
    """What a recipe says of the rewards: the three weights of equation 8, K, and the penalty for
    each marker outside the thinking. The paper's numbers are lost: these are ours."""

    progress_accuracy: float = 1.0
    report_frequency: float = 0.5
    correctness: float = 1.0
    every_tokens: int = Field(default=256, ge=1)
    outside_penalty: float = Field(default=0.5, ge=0)
    grader: GraderName = "math-verify"

    def weights(self) -> list[float]:
        """The weights in the order of REWARDS."""
        return [self.progress_accuracy, self.report_frequency, self.correctness]


@dataclass(frozen=True)
class Reports:
    """The markers of one completion, in order.

    `labels`: the numbers shown inside the thinking, in percent, as the model wrote them (any whole
    number). `truths`: the true progress at each, in [0, 1]; None where the thinking never ends, so
    that its length is unknown. `positions`: the token of the completion that each begins at.
    `outside`: markers that stand outside the thinking.
    """

    labels: list[int]
    truths: list[float] | None
    positions: list[int]
    outside: int


def read_reports(completion: str, tokens: Counter, grammar: MarkerGrammar = DEFAULT) -> Reports:
    """The markers of a completion, and what would have been true at each.

    True progress is the share of the content tokens of the thinking that stand before a marker;
    content is everything but markers, without the backslashes of a grammar that escapes. A
    malformed marker is content. Where the think tags do not bound one stretch of thinking, every
    marker stands outside.
    """
    text = completion.encode("utf-8", "replace").decode()
    try:
        parts = split_completion(text)
    except UnusualThinking:
        return Reports([], None, [], len(find_markers(text, grammar)))
    outside = len(find_markers(parts.response, grammar))
    own = unmark(parts.think, grammar)
    begins = [len(parts.opening) + marker.start for marker in own.markers]
    starts = tokens.starts([own.text, text])
    before = count_joint([own.text, text], [own.ends, begins], starts).token_ends.tolist()
    total = int(starts.per_text()[0])
    known = parts.closed and total > 0
    truths = [count / total for count in before[: len(begins)]] if known else None
    labels = [marker.label for marker in own.markers]
    return Reports(labels, truths, before[len(begins) :], outside)


def progress_accuracy(
    completion: str, *, tokens: Counter, grammar: MarkerGrammar = DEFAULT
) -> float:
    """Equation 6: 1 - the mean absolute error of the labels in the thinking, the error clipped to
    [0, 1].

    0 where the thinking holds no marker, so that silence is never better than a bad guess; and
    where it never ends: a completion that was cut has no known length, hence no truth, and the
    tokens written so far would reward the model for saying 100% too early.

    >>> from progdata.builders.tokenizer import WordsCounter
    >>> half = "<think>a b<progressbar>50%</progressbar> c d</think>"
    >>> progress_accuracy(half, tokens=WordsCounter())
    1.0
    """
    reports = read_reports(completion, tokens, grammar)
    if not reports.labels or reports.truths is None:
        return 0.0
    error = np.abs(np.array(reports.labels) / 100 - np.array(reports.truths)).mean()
    return 1.0 - min(float(error), 1.0)


def report_frequency(
    completion: str,
    *,
    every_tokens: int,
    tokens: Counter,
    outside_penalty: float = RewardSection().outside_penalty,
    grammar: MarkerGrammar = DEFAULT,
) -> float:
    """Equation 7: how near the spacing of consecutive markers is to `every_tokens` (K), at most 1.

    The mean of max(0, 1 - |spacing - K| / K) over consecutive markers in the thinking, minus
    `outside_penalty` for each marker outside it. A spacing runs from the first token of a marker
    to the first token of the next, the marker's own tokens included. Fewer than two markers have no
    spacing: 0. That a spacing is worth no less than 0, and the size of the penalty, are ours.
    """
    reports = read_reports(completion, tokens, grammar)
    spacings = [after - before for before, after in pairwise(reports.positions)]
    near = [max(0.0, 1 - abs(own - every_tokens) / every_tokens) for own in spacings]
    regular = sum(near) / len(near) if near else 0.0
    return regular - outside_penalty * reports.outside


def correctness(
    completions: Sequence[str],
    golds: Sequence[str | None],
    *,
    grader: GraderName = "math-verify",
    thinks: bool = True,
    grammar: MarkerGrammar = DEFAULT,
    workers: int | None = None,
) -> list[float | None]:
    """Equation 8's third term, for a batch: 1 where the answer is right, 0 where it is wrong or
    missing, None (not applicable) where nothing can be said of it.

    Nothing can be said without a gold, with one that cannot be read, or where the grader ran out
    of its budget: a verdict on the grader must not train the model. Markers are stripped first, so
    that none is taken for an answer. `thinks`: a completion without `</think>` has no answer.
    """
    asked = [place for place, gold in enumerate(golds) if gold is not None and gold.strip()]
    verdicts = grade_all(
        golds=[golds[place] or "" for place in asked],
        completions=[strip(completions[place], grammar) for place in asked],
        grader=grader,
        thinks=thinks,
        workers=workers,
    )
    worth = {"correct": 1.0, "wrong": 0.0, "no_answer": 0.0}
    found = {place: worth.get(own.status) for place, own in zip(asked, verdicts, strict=True)}
    return [found.get(place) for place in range(len(completions))]


# For TRL: f(prompts, completions, completion_ids, **columns) -> list[float | None]

TrlReward = Callable[..., list[float | None]]
Texts = Callable[[Sequence[Any], Sequence[Sequence[int]]], list[str]]


def completion_texts(
    completions: Sequence[Any], completion_ids: Sequence[Sequence[int]] = ()
) -> list[str]:
    """The texts of TRL's completions: plain strings, or lists of messages."""
    return [
        own if isinstance(own, str) else "".join(message["content"] for message in own)
        for own in completions
    ]


def trl_rewards(
    rules: RewardSection,
    tokens: Counter,
    grammar: MarkerGrammar = DEFAULT,
    *,
    texts: Texts = completion_texts,
    workers: int | None = None,
) -> list[TrlReward]:
    """The rewards as `reward_funcs` of `trl.GRPOTrainer`, in the order of REWARDS; their
    `reward_weights` are `rules.weights()`.

    The dataset needs a column `answer`. `texts`: how texts are read from TRL's completions and
    their token ids.
    """

    def accuracy(completions: Any, completion_ids: Any = (), **_: Any) -> list[float | None]:
        own = texts(completions, completion_ids)
        return [progress_accuracy(text, tokens=tokens, grammar=grammar) for text in own]

    def frequency(completions: Any, completion_ids: Any = (), **_: Any) -> list[float | None]:
        return [
            report_frequency(
                text,
                every_tokens=rules.every_tokens,
                tokens=tokens,
                outside_penalty=rules.outside_penalty,
                grammar=grammar,
            )
            for text in texts(completions, completion_ids)
        ]

    def correct(
        completions: Any, answer: Sequence[str | None], completion_ids: Any = (), **_: Any
    ) -> list[float | None]:
        own = texts(completions, completion_ids)
        return correctness(own, answer, grader=rules.grader, grammar=grammar, workers=workers)

    functions: list[TrlReward] = [accuracy, frequency, correct]
    for name, function in zip(REWARDS, functions, strict=True):
        function.__name__ = name  # TRL logs a reward under the name of its function
    return functions


# For verl: compute_score(data_source, solution_str, ground_truth, extra_info) -> dict


def verl_score(
    rules: RewardSection, tokens: Counter, grammar: MarkerGrammar = DEFAULT
) -> Callable[..., dict[str, float]]:
    """The weighted sum of the rewards as verl's `compute_score`: `score`, and each of them.

    A reward that is not applicable counts 0 (verl has no word for that).
    """
    functions = trl_rewards(rules, tokens, grammar, workers=1)

    def compute_score(
        data_source: str,
        solution_str: str,
        ground_truth: str,
        extra_info: Mapping[str, Any] | None = None,
    ) -> dict[str, float]:
        own = [one(completions=[solution_str], answer=[ground_truth])[0] for one in functions]
        values = [value or 0.0 for value in own]
        total = sum(weight * value for weight, value in zip(rules.weights(), values, strict=True))
        return {"score": total, **dict(zip(REWARDS, values, strict=True))}

    return compute_score
