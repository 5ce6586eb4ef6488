"""A trace as a probe reads it: the model's own prompt, the thinking, and where its tokens stand."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from progdata.builders.chat_template import ChatTemplate
from progdata.builders.continuations import begin_answer
from progdata.builders.sampling import Message
from progdata.builders.thinking import OPEN


@dataclass(frozen=True)
class ProbedTrace:
    """A trace that a probe is asked about.

    `messages`: the turns of its prompt. `think`: its thinking without markers. `ends`: the
    characters of `think` before which progress is asked for, each in [0, len(think)].
    """

    messages: tuple[Message, ...]
    think: str
    ends: Sequence[int] = ()


@dataclass(frozen=True)
class TraceTokens:
    """The tokens of a trace as the model is given them.

    `ids`: int64[tokens], the prompt and then the thinking, whose first token is `ids[first]`.
    `question_end`: the token after the last one of the question, before the assistant's token.
    `starts`: where each token of the thinking begins, in characters of `think`: int64[thinking].
    """

    ids: NDArray[np.int64]
    first: int
    question_end: int
    starts: NDArray[np.int64]

    @property
    def total(self) -> int:
        """Tokens of the whole thinking."""
        return len(self.starts)

    def before(self, ends: Sequence[int]) -> NDArray[np.int64]:
        """The last token of the thinking that starts before each end, counted from 0; -1 where
        there is none. Its hidden state is what the model predicts the next token from."""
        return np.searchsorted(self.starts, np.asarray(ends, np.int64)) - 1


def tokenise_trace(template: ChatTemplate, trace: ProbedTrace) -> TraceTokens:
    """The tokens of a trace, its prompt rendered by the model's own template.

    Prompt and thinking are tokenised apart, as they are where a model goes on from a prompt, and
    no template sees the thinking, which many delete. Raises PromptRefused for a prompt that no
    model should be given.
    """
    prompt = template.prompt(trace.messages).token_ids
    assert prompt is not None
    # the blank line after <think> belongs to the opening, whoever wrote it
    opening = OPEN if trace.think.startswith("\n") else ""
    begun = begin_answer(opening, trace.think, template.prefill)
    coded = template.tokenizer(begun, add_special_tokens=False, return_offsets_mapping=True)
    starts = np.array([start for start, _ in coded.offset_mapping], np.int64)
    added = len(begun) - len(trace.think)  # negative where the blank line was prefilled
    outside = int(np.searchsorted(starts, max(added, 0)))
    ids = np.concatenate([np.asarray(prompt, np.int64), np.asarray(coded.input_ids, np.int64)])
    return TraceTokens(
        ids,
        first=len(prompt) + outside,
        question_end=len(prompt) - _tokens_after_question(template, trace.messages),
        starts=starts[outside:] - added,
    )


def _tokens_after_question(template: ChatTemplate, messages: Sequence[Message]) -> int:
    """How many tokens of the prompt start after its last turn: those that begin the answer.

    Raises PromptRefused where the template does not show every turn as it is written.
    """
    rendered = template.render(messages)  # refuses a template that alters a turn
    question = messages[-1][1].strip()
    end = rendered.rindex(question) + len(question)
    offsets = template.tokenizer(
        rendered, add_special_tokens=False, return_offsets_mapping=True
    ).offset_mapping
    return sum(start >= end for start, _ in offsets)
