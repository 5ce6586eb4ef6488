"""Hiding labels from what comes after them, while they stay targets (paper 000, section 6.2).

Two ways; which tokens are hidden has no way into any later logit, how many they are has: a label
of another number of tokens moves what follows it. With special tokens every label is one token and
nothing is left; in plain text `5%`, `37%` and `100%` can be told apart, `37%` and `38%` cannot.

- `attention`: no position after a label span attends to the tokens of the span; a position inside
  attends to those before it as ever. Attention weights of hidden keys are exactly 0 in every
  layer, so no id reaches a later position, directly or by way of others. Positions count them.
- `token`: the input id of a label token is that of a stand-in, so the model is never given it; as
  many stand-ins are seen. Drawn for each token of a label: of `37%` it may hide the `3` alone.

Which labels are hidden is drawn from (seed, trace_id, step), and so is the same after a resume.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from progdata.builders.errors import UsageError
from progdata.builders.randomness import row_keys, uniforms
from progdata.builders.variants import mask_probability
from progdata.training_refs.encoded_rows import NO_MARKER
from progdata.training_refs.windows import Window

if TYPE_CHECKING:
    from torch import Tensor

MaskMode = Literal["none", "attention", "token"]
Schedule = Literal["cosine", "column"]


@dataclass(frozen=True)
class LabelMask:
    """How labels are hidden: with a probability that rises from 0 to `highest` over the training
    (`cosine`), or as the build drew it (`column`). `stand_in`: the id that replaces a token."""

    mode: MaskMode
    schedule: Schedule
    highest: float
    seed: int
    stand_in: int = 0

    def probability(self, step: int, steps: int) -> float | None:
        """The probability to be hidden at an optimizer step, from 0; None where none is drawn."""
        if self.mode == "none" or self.schedule == "column":
            return None
        return float(mask_probability(np.array([step]), steps, self.highest)[0])

    def hidden(self, windows: Sequence[Window], step: int, steps: int) -> list[NDArray[np.bool_]]:
        """Which tokens of each window are hidden at this step: bool[tokens] each."""
        probability = self.probability(step, steps)
        if probability is None:
            return [_of_tokens(window.row.masked, window.markers) for window in windows]
        keys = row_keys(self.seed, [own.row.trace_id for own in windows], f"mask/{step}")
        places = [_places(window, self.mode) for window in windows]
        counts = np.array([own.max(initial=NO_MARKER) + 1 for own in places], dtype=np.int64)
        draws = np.split(uniforms(keys, counts) <= probability, np.cumsum(counts)[:-1])
        return [_of_tokens(own, place) for own, place in zip(draws, places, strict=True)]


def _places(window: Window, mode: MaskMode) -> NDArray[np.int64]:
    """Which draw of the row is each token's: one a label, or with `token` one a label token."""
    if mode == "attention":
        return window.markers.astype(np.int64)
    shown = window.row.markers != NO_MARKER
    places = np.where(shown, np.cumsum(shown) - 1, NO_MARKER)
    before = np.full(len(window.row.prompt), NO_MARKER, dtype=np.int64)
    return np.append(before, places[window.first : window.end])


def _of_tokens(chosen: NDArray[np.bool_], places: NDArray[Any]) -> NDArray[np.bool_]:
    """What was chosen for each token's place; False for place -1."""
    return np.append(chosen, False)[places]


def attention_mask(real: "Tensor", markers: "Tensor", hidden: "Tensor") -> "Tensor":
    """Who sees whom: bool[batch, 1, tokens, tokens], query by key, causal.

    `real`: bool[batch, tokens], False for padding; `markers`: the marker that each token shows the
    label of, -1 for none; `hidden`: bool[batch, tokens]. A hidden key is seen by the tokens of its
    own label only. Every position sees itself, so that the rows of padding have a softmax.
    """
    import torch

    tokens = real.shape[1]
    causal = torch.ones(tokens, tokens, dtype=torch.bool, device=real.device).tril()
    own_label = markers[:, :, None] == markers[:, None, :]
    seen = causal & real[:, None, :] & (~hidden[:, None, :] | own_label)
    return (seen | torch.eye(tokens, dtype=torch.bool, device=real.device))[:, None]


def find_stand_in(tokenizer: Any, text: str) -> int:
    """The id of the token that stands in for a hidden label token.

    Raises UsageError where `text` is not one token of this tokenizer.
    """
    known = tokenizer.get_vocab()
    ids = [known[text]] if text in known else tokenizer(text, add_special_tokens=False).input_ids
    if len(ids) != 1:
        raise UsageError(f"mask.stand_in: {text!r} is {len(ids)} tokens of this tokenizer, not one")
    return ids[0]
