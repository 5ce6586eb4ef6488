"""A language model that is run for the hidden states of some of its layers.

The state at layer L is what decoder layer L puts out: `hidden_states[L]` of transformers, where 0
is the embeddings. Only its last entry differs: transformers has the final norm applied there, we
do not, so that all layers are the same kind of thing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progdata.builders.chat_template import ChatTemplate, load_chat_template
from progdata.builders.errors import ProgdataError, UsageError, missing_extra, one_line
from progdata.training_refs.probed_trace import TraceTokens


@dataclass(frozen=True)
class StatesSettings:
    """What decides which hidden states are kept.

    `tokens_per_trace`: token positions of each trace, drawn at random with `seed`; None for all.
    `max_tokens`: prompt and thinking together, the model's own context where that is less or this
    is None; later positions are not read. `question_tokens`: the last tokens of the question,
    whose mean state is its embedding. `shard_traces`: rows that one shard is made from.
    """

    layers: tuple[int, ...]
    tokens_per_trace: int | None = 64
    max_tokens: int | None = None
    question_tokens: int = 8
    shard_traces: int = 32
    seed: int = 0


def check_layers(folder: Path, layers: Sequence[int]) -> None:
    """Raises UsageError where the model in `folder` does not have one of these layers."""
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise missing_extra("transformers", "train") from error
    try:
        count = AutoConfig.from_pretrained(str(folder)).get_text_config().num_hidden_layers
    except Exception as error:  # transformers raises many kinds
        raise ProgdataError(f"{folder}: config.json cannot be read: {one_line(error)}") from error
    if too_many := [layer for layer in layers if layer > count]:
        raise UsageError(
            f"layers: {too_many[0]}: the model {folder.name} has {count} layers; "
            f"choose from 1 to {count}"
        )


class LayerReader:
    """A language model without its head, which is run for the states of some of its layers.

    `dtype`: `auto` is bfloat16 on a GPU and float32 on a CPU, or a name that torch has.
    `context`: the most tokens that it is given. Raises ProgdataError where it cannot be loaded.
    """

    def __init__(self, folder: Path, settings: StatesSettings, device: str, dtype: str) -> None:
        try:
            from transformers import AutoModel
            from transformers.utils import logging
        except ImportError as error:
            raise missing_extra("transformers", "train") from error
        self.template: ChatTemplate = load_chat_template(folder)
        logging.disable_progress_bar()
        if dtype == "auto":
            dtype = "float32" if device == "cpu" else "bfloat16"
        try:
            model: Any = AutoModel.from_pretrained(str(folder), dtype=dtype)
        except Exception as error:  # transformers and torch raise many kinds
            raise ProgdataError(f"{folder}: cannot be loaded: {one_line(error)}") from error
        self._model = model.to(device).eval()
        self._settings, self._device = settings, device
        config = model.config.get_text_config()
        limits = (settings.max_tokens, getattr(config, "max_position_embeddings", None))
        self.context: int | None = min((own for own in limits if own is not None), default=None)
        self.width: int = config.hidden_size
        blocks = _decoder_layers(model, config.num_hidden_layers)
        self._blocks = {layer: blocks[layer - 1] for layer in settings.layers}

    def visible(self, tokens: TraceTokens) -> int:
        """How many tokens of the thinking are within the context."""
        if self.context is None:
            return tokens.total
        return min(tokens.total, max(self.context - tokens.first, 0))

    def read(
        self, tokens: TraceTokens, positions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The states at these tokens of the thinking, float32[layers, positions, width], and the
        question's embedding, float32[layers, width]. One trace at a time: nothing is padded."""
        import torch

        last = int(positions.max()) if len(positions) else -1
        ids = torch.from_numpy(tokens.ids[: tokens.first + last + 1]).to(self._device)
        wanted = torch.from_numpy(tokens.first + positions).to(self._device)
        begin = max(tokens.question_end - self._settings.question_tokens, 0)
        question = slice(begin, tokens.question_end)
        found: dict[int, tuple[Any, Any]] = {}

        def keep(layer: int, output: Any) -> None:
            own = (output[0] if isinstance(output, tuple) else output)[0]
            found[layer] = own[wanted].float().cpu(), own[question].float().mean(0).cpu()

        hooks = [
            block.register_forward_hook(lambda _, __, output, layer=layer: keep(layer, output))
            for layer, block in self._blocks.items()
        ]
        try:
            with torch.inference_mode():
                self._model(input_ids=ids[None], use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        states, questions = zip(*(found[layer] for layer in self._settings.layers), strict=True)
        return torch.stack(states).numpy(), torch.stack(questions).numpy()


def _decoder_layers(model: Any, count: int) -> Any:
    """The list of a model's decoder layers, whatever the architecture calls it."""
    import torch

    lists = (own for own in model.modules() if isinstance(own, torch.nn.ModuleList))
    found = next((own for own in lists if len(own) == count), None)
    if found is None:
        raise ProgdataError(f"{type(model).__name__}: found no list of its {count} decoder layers")
    return found
