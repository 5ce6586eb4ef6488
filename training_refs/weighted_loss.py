"""The loss of equation 4 (paper 000, section 5.1): label tokens count `label_weight` times.

    loss = sum over targets t of w_t * CE_t / number of targets,  w_t = label_weight on labels, or 1

The sum is over all targets of an optimizer step, in however many micro-batches.
"""

from typing import TYPE_CHECKING

from progdata.training_refs.windows import IGNORED

if TYPE_CHECKING:
    from torch import Tensor


def weighted_loss(
    logits: "Tensor",
    labels: "Tensor",
    is_label: "Tensor",
    label_weight: float,
    num_targets: "Tensor | int",
) -> "tuple[Tensor, Tensor]":
    """The part of the loss that these tokens have, and the sums it is made of.

    `logits`: float[batch, tokens, vocabulary]; `labels`: int64[batch, tokens], -100 for what is no
    target, unshifted; `is_label`: bool[batch, tokens]; `num_targets`: targets of the optimizer
    step. The sums, float64[4] without gradient: cross-entropy over label tokens and over other
    tokens, and how many there are of each.
    """
    import torch
    from torch.nn.functional import cross_entropy

    targets = labels[:, 1:]
    chosen = targets != IGNORED
    shown = is_label[:, 1:][chosen]
    # In float32 whatever the model computes in. Under bf16 accelerate has made all logits float32
    # before; elsewhere only those of targets are copied.
    scores = logits[:, :-1][chosen]
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    losses = cross_entropy(scores, targets[chosen], reduction="none")
    loss = torch.where(shown, label_weight * losses, losses).sum() / num_targets
    known = losses.detach().double()
    sums = [known[shown].sum(), known[~shown].sum(), shown.sum().double(), (~shown).sum().double()]
    return loss, torch.stack(sums)


def mean_losses(sums: "Tensor", label_weight: float) -> dict[str, float | int | None]:
    """What is reported of the sums of `weighted_loss`: the loss, the loss without weights, and
    the means over label tokens and over other tokens (None where there are none)."""
    label, other, labels, others = sums.tolist()
    tokens = labels + others
    return {
        "loss": (label_weight * label + other) / tokens if tokens else None,
        "plain_loss": (label + other) / tokens if tokens else None,
        "label_loss": label / labels if labels else None,
        "other_loss": other / others if others else None,
        "label_tokens": int(labels),
        "other_tokens": int(others),
    }
