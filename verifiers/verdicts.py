"""What grading an answer gives: a verdict with its evidence, never a bare bool."""

from dataclasses import dataclass
from typing import Literal, get_args

Status = Literal["correct", "wrong", "no_answer", "gold_unparsable", "timeout", "error"]
"""What became of a graded answer. `timeout` and `error` say nothing about the answer."""

STATUSES: tuple[Status, ...] = get_args(Status)

GraderName = Literal["math-verify", "deepscaler"]

GRADERS: tuple[GraderName, ...] = get_args(GraderName)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a grader says of one gold and one answer.

    `gold_normal` and `answer_normal` are the texts that it compared, in its own normal form;
    `rule` is the name of the rule that decided.
    """

    status: Status
    rule: str
    gold_normal: str | None = None
    answer_normal: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one completion, and why.

    `span` is the half-open span of characters of the completion that `extracted_answer` is;
    both are None where no answer was found. `extraction` is the rule by which it was found,
    `rule` the rule that decided the status. `cpu_seconds` is what the grading cost in a worker
    process, 0 where it needed none.
    """

    status: Status
    rule: str
    extracted_answer: str | None = None
    span: tuple[int, int] | None = None
    extraction: str | None = None
    gold_normal: str | None = None
    answer_normal: str | None = None
    cpu_seconds: float = 0.0

    @property
    def correct(self) -> bool:
        return self.status == "correct"
