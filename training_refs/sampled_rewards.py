"""The rewards of the tokens that TRL sampled, and a note of what each completion was worth."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from progdata.builders.markers import MarkerGrammar
from progdata.builders.tokenizer import find_tokenizer, load_counter
from progdata.training_refs.rewards import REWARDS, RewardSection, Texts, TrlReward, trl_rewards


def sampled_rewards(
    rules: RewardSection,
    model: Path,
    tokenizer: Any,
    grammar: MarkerGrammar,
    recorded: list[dict[str, Any]],
) -> list[TrlReward]:
    """The three rewards, read from token ids with the tokenizer in the folder `model`; each call is
    noted in `recorded`, one row a completion."""
    ends = end_tokens(tokenizer, model)

    def texts(_: Sequence[Any], ids: Sequence[Sequence[int]]) -> list[str]:
        return decode(tokenizer, ids, ends)

    counter = load_counter(find_tokenizer(str(model)).path, False)
    functions = trl_rewards(rules, counter, grammar, texts=texts)
    return [_recorded(function, texts, recorded) for function in functions]


def _recorded(function: TrlReward, texts: Texts, recorded: list[dict[str, Any]]) -> TrlReward:
    """The same reward; what it gave is noted, one row a completion."""

    def reward(completion_ids: Any, problem_id: Any, **rest: Any) -> list[float | None]:
        values = function(completion_ids=completion_ids, **rest)
        if function.__name__ == REWARDS[0]:
            own = zip(problem_id, completion_ids, texts([], completion_ids), strict=True)
            recorded.extend(
                {"problem_id": problem, "tokens": len(ids), "completion": text}
                for problem, ids, text in own
            )
        for row, value in zip(recorded[-len(values) :], values, strict=True):
            row[function.__name__] = value
        return values

    reward.__name__ = function.__name__
    return reward


def decode(
    tokenizer: Any, completion_ids: Sequence[Sequence[int]], ends: Collection[int]
) -> list[str]:
    """The texts of sampled tokens, without the token that ends them.

    TRL's own texts lack every token that a tokenizer calls special, which may be `</think>`, and
    for some templates lack the thinking.
    """
    return [
        tokenizer.decode(
            list(ids[:-1] if len(ids) and ids[-1] in ends else ids),
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        for ids in completion_ids
    ]


def end_tokens(tokenizer: Any, model: Path) -> set[int]:
    """The tokens that end a completion: the tokenizer's, and those the model's settings name."""
    file = model / "generation_config.json"
    own = json.loads(file.read_text("utf-8")).get("eos_token_id") if file.is_file() else None
    named = own if isinstance(own, list) else [own]
    return {token for token in (tokenizer.eos_token_id, *named) if token is not None}
