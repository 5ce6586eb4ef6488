"""What GRPO asks: one prompt for each problem with a gold answer, in an order that is fixed."""

import json
from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from progdata.builders.chat_template import ChatTemplate, PromptRefused
from progdata.builders.errors import UsageError
from progdata.builders.markers import special_tokens
from progdata.training_refs.training_data import TrainingData


@dataclass(frozen=True)
class Prompts:
    """What is asked: rows with `prompt` (messages), `answer` and `problem_id`, one a problem;
    `left_out`: rows by reason; `longest`: tokens of the longest prompt."""

    rows: list[dict[str, Any]]
    left_out: dict[str, int]
    longest: int


def read_prompts(table: pa.Table, template: ChatTemplate, name: str = "dataset") -> Prompts:
    """One prompt for each problem with a gold answer, in the order of the rows.

    Raises UsageError where none is left.
    """
    rows: dict[str, dict[str, Any]] = {}
    left_out: Tally[str] = Tally()
    longest = 0
    for row in table.select(["problem_id", "prompt", "answer"]).to_pylist():
        if not (row["answer"] or "").strip():
            left_out["no_gold"] += 1
        elif row["problem_id"] in rows:
            left_out["same_problem"] += 1
        else:
            try:
                turns = [(turn["role"], turn["content"]) for turn in row["prompt"]]
                longest = max(longest, len(template.prompt(turns).token_ids or ()))
                rows[row["problem_id"]] = row
            except PromptRefused as refused:
                left_out[refused.reason] += 1
    if not rows:
        why = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items()) or "no rows"
        raise UsageError(f"{name}: no problem to train on ({why}); expected rows with an answer")
    return Prompts(list(rows.values()), dict(sorted(left_out.items())), longest)


def prompt_order(prompts: int, needed: int, seed: Sequence[int]) -> list[int]:
    """Which prompts are asked, in order: all of them, shuffled, again and again.

    It is fixed before training, so that a resumed run asks the same.
    """
    random = np.random.default_rng(list(seed))
    rounds = [random.permutation(prompts) for _ in range(-(-needed // prompts))]
    return np.concatenate(rounds)[:needed].tolist()


def check_prompts(
    folder: Path,
    template: ChatTemplate,
    data: TrainingData,
    prompts: Prompts,
    context: int,
) -> None:
    """Refuse a model that cannot write this variant, or not as many tokens."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    positions, needed = config.get("max_position_embeddings"), prompts.longest + context
    if isinstance(positions, int) and positions < needed:
        raise UsageError(
            f"context {context:,}: with prompts of up to {prompts.longest:,} tokens the "
            f"model needs {needed:,} positions and has {positions:,}; set context lower"
        )
    known = template.tokenizer.get_vocab()
    absent = [own for own in special_tokens(data.grammar) if own not in known]
    if data.variant.special and absent:
        raise UsageError(
            f"variant {data.variant.name}: the tokenizer in {folder} has no token {absent[0]}; "
            "begin with a model that SFT trained on this variant"
        )
    turns = prompts.rows[0]["prompt"]
    given = template.tokenizer.apply_chat_template(turns, add_generation_prompt=True)
    wanted = template.prompt([(turn["role"], turn["content"]) for turn in turns]).token_ids or ()
    if list(given["input_ids"]) != list(wanted):
        raise UsageError(
            f"{folder}: the chat template leaves the BOS token to the tokenizer, and TRL's prompts "
            "would lack it; write it into the template"
        )
