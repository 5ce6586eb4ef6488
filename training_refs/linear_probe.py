"""A linear probe: one affine map from a hidden state to progress, as bins or as a number.

As bins it is the paper's (000, section 4): logits of equal bins, cross-entropy. As a number it is
the form of the "loading bar" work (arXiv 2506.07240): the relative position, squared error.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file

from progdata.builders.atomic import atomic_file
from progdata.builders.randomness import row_keys, uniforms
from progdata.training_refs.hidden_states import Features, HiddenStates
from progdata.training_refs.probe_scores import CHUNK, Guess, bin_of_position, centre


@dataclass(frozen=True)
class FitSettings:
    """How a probe is trained: AdamW, the rate falling linearly to 0; batches in tokens."""

    epochs: int = 5
    batch_size: int = 1_024
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 0


class LinearProbe(torch.nn.Module):
    """An affine map of standardised features to the logits of `outputs` bins; with 1 output, to
    progress. Mean and scale are part of the probe; weights begin at 0, so that no seed matters."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.linear = torch.nn.Linear(width, outputs)
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.constant_(self.linear.bias, 0.5 if outputs == 1 else 0.0)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits float[tokens, outputs] from features float[tokens, width]."""
        return self.linear((features - self.mean) / self.scale)

    def loss(self, features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy over the bins (paper 000, equation 3), or the squared error."""
        outputs = self(features)
        if self.linear.out_features == 1:
            return torch.nn.functional.mse_loss(outputs[:, 0], target)
        return torch.nn.functional.cross_entropy(outputs, target)

    @torch.inference_mode()
    def guess(self, features: NDArray[np.float32], bins: int) -> Guess:
        """What the probe says of these features, float32[tokens, width]."""
        outputs = self(torch.from_numpy(features).to(self.linear.weight.device))
        if self.linear.out_features == 1:
            progress = outputs[:, 0].double().clamp(0, 1).cpu().numpy()
            return Guess(np.minimum((bins * progress).astype(np.int64), bins - 1), progress)
        chances = outputs.double().softmax(1).cpu().numpy()
        top = chances.argmax(1)
        return Guess(top, centre(top, bins), chances)


@dataclass(frozen=True)
class Fitted:
    """A trained probe, and the mean loss of each epoch."""

    probe: LinearProbe
    losses: list[float]


def fit(
    states: HiddenStates, which: Features, *, outputs: int, settings: FitSettings, device: str
) -> Fitted:
    """Train a probe on all tokens of `states`: `outputs` bins, or 1 for progress as a number.

    Features are read from disk a batch at a time, in an order that the seed alone decides.
    """
    mean, scale = _standardise(states, which)
    probe = LinearProbe(len(mean), outputs)
    probe.mean, probe.scale = torch.from_numpy(mean), torch.from_numpy(scale)
    probe.to(device)
    optimizer = torch.optim.AdamW(
        probe.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    steps = settings.epochs * -(-len(states) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    losses = []
    for epoch in range(settings.epochs):
        total = 0.0
        for rows in _batches(len(states), epoch, settings):
            features = torch.from_numpy(states.features(which, rows)).to(device)
            target = torch.from_numpy(_targets(states, rows, outputs)).to(device)
            loss = probe.loss(features, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        losses.append(total / len(states))
    return Fitted(probe.eval(), losses)


def _batches(tokens: int, epoch: int, settings: FitSettings) -> list[NDArray[np.int64]]:
    """The tokens of each batch of an epoch, rising within a batch."""
    keys = row_keys(settings.seed, [str(epoch)], "probe/order")
    order = np.argsort(uniforms(keys, np.array([tokens])), kind="stable")
    size = settings.batch_size
    return [np.sort(order[start : start + size]) for start in range(0, tokens, size)]


def _targets(states: HiddenStates, rows: NDArray[np.int64], outputs: int) -> NDArray:
    """The bin of each token, int64; for one output its progress, float32."""
    positions, totals, _ = states.truth(rows)
    if outputs == 1:
        return ((positions + 1) / totals).astype(np.float32)
    return bin_of_position(positions, totals, outputs)


def _standardise(
    states: HiddenStates, which: Features
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean and the standard deviation of each feature, 1 where it does not vary."""
    first = states.features(which, np.arange(min(len(states), CHUNK))).astype(np.float64).mean(0)
    sums = np.zeros_like(first)
    squares = np.zeros_like(first)
    for start in range(0, len(states), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(states)))
        away = states.features(which, rows) - first  # near the mean, so that squares stay exact
        sums += away.sum(0)
        squares += (away**2).sum(0)
    shift = sums / len(states)
    deviation = np.sqrt(np.maximum(squares / len(states) - shift**2, 0))
    scale = np.where(deviation > 1e-6, deviation, 1.0)
    return (first + shift).astype(np.float32), scale.astype(np.float32)


def save_probe(fitted: Fitted, path: Path, key: str) -> None:
    """Write a probe to a safetensors file; `key` says what it was trained on."""
    record = json.dumps({"key": key, "losses": fitted.losses})
    tensors = {name: own.cpu().contiguous() for name, own in fitted.probe.state_dict().items()}
    with atomic_file(path) as temporary:
        save_file(tensors, str(temporary), {"progdata": record})


def load_probe(path: Path, device: str, key: str | None = None) -> Fitted | None:
    """The probe in a file; None where there is none, or it was trained on something else."""
    if not path.is_file():
        return None
    with safe_open(str(path), "pt") as file:
        record = json.loads(file.metadata()["progdata"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    if key is not None and record["key"] != key:
        return None
    outputs, width = tensors["linear.weight"].shape
    probe = LinearProbe(width, outputs)
    probe.load_state_dict(tensors)
    return Fitted(probe.to(device).eval(), record["losses"])
