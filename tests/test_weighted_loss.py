"""The loss of equation 4 against a slow per-token reference, and under gradient accumulation."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from progdata.releases.display import Silent
from progdata.training_refs.encoded_rows import EncodedRow
from progdata.training_refs.label_masks import LabelMask
from progdata.training_refs.weighted_loss import mean_losses, weighted_loss
from progdata.training_refs.weighted_trainer import WeightedTrainer, collate
from progdata.training_refs.windows import IGNORED, Window, cut_windows

VOCABULARY = 23


def slow_loss(
    logits: np.ndarray, labels: np.ndarray, is_label: np.ndarray, weight: float
) -> tuple[float, list[float]]:
    """The sum of equation 4 token by token in float64, not yet divided; and the four sums."""
    total, sums = 0.0, [0.0, 0.0, 0.0, 0.0]
    for row in range(len(labels)):
        for place in range(1, labels.shape[1]):
            target = labels[row, place]
            if target == IGNORED:
                continue
            scores = [float(score) for score in logits[row, place - 1]]
            top = max(scores)
            log_sum = top + math.log(math.fsum(math.exp(score - top) for score in scores))
            loss = log_sum - scores[target]
            shown = bool(is_label[row, place])
            total += weight * loss if shown else loss
            sums[0 if shown else 1] += loss
            sums[2 if shown else 3] += 1
    return total, sums


@settings(max_examples=50)
@given(
    st.integers(0, 10**6),
    st.integers(1, 4),
    st.integers(2, 12),
    st.floats(0, 20),
    st.integers(1, 50),
)
def test_the_loss_is_that_of_a_slow_reference(
    seed: int, rows: int, tokens: int, weight: float, targets: int
) -> None:
    numbers = np.random.default_rng(seed)
    logits = numbers.normal(0, 4, (rows, tokens, VOCABULARY))
    labels = numbers.integers(0, VOCABULARY, (rows, tokens))
    labels[numbers.random((rows, tokens)) < 0.4] = IGNORED
    is_label = numbers.random((rows, tokens)) < 0.3
    expected, expected_sums = slow_loss(logits, labels, is_label, weight)
    given_tensors = torch.tensor(logits), torch.tensor(labels), torch.tensor(is_label)
    loss, sums = weighted_loss(*given_tensors, weight, targets)
    assert loss.item() == pytest.approx(expected / targets, rel=1e-12, abs=1e-12)
    assert sums.tolist() == pytest.approx(expected_sums, rel=1e-12, abs=1e-12)
    means = mean_losses(sums, weight)
    count = sums[2:].sum().item()
    assert [means["label_tokens"], means["other_tokens"]] == expected_sums[2:]
    if count:
        assert means["loss"] == pytest.approx(expected / count, rel=1e-12)
        assert means["plain_loss"] == pytest.approx(sum(expected_sums[:2]) / count, rel=1e-12)


def test_only_targets_and_their_weight_get_a_gradient() -> None:
    logits = torch.randn(1, 4, VOCABULARY, generator=torch.manual_seed(0), requires_grad=True)
    labels = torch.tensor([[IGNORED, IGNORED, 3, 4]])
    shown = torch.tensor([[False, False, False, True]])

    def gradient(weight: float) -> torch.Tensor:
        loss, _ = weighted_loss(logits, labels, shown, weight, 2)
        return torch.autograd.grad(loss, logits)[0]

    once, thrice = gradient(1.0), gradient(3.0)
    assert not once[0, [0, 3]].any()
    assert torch.equal(once[0, 1], thrice[0, 1])
    assert torch.allclose(3 * once[0, 2], thrice[0, 2])


# --- in the trainer ----------------------------------------------------------------------------


def make_windows(count: int) -> list[Window]:
    """Windows of many lengths, with prompts and labels."""
    numbers = np.random.default_rng(1)
    windows = []
    for number in range(count):
        prompt, tokens = int(numbers.integers(2, 6)), int(numbers.integers(3, 30))
        ids = numbers.integers(0, VOCABULARY, prompt + tokens).astype(np.int32)
        markers = np.full(tokens, -1, dtype=np.int32)
        labels = max(1, tokens // 8)
        markers[1 : 1 + labels] = np.arange(labels)
        row = EncodedRow(
            f"trace {number}",
            ids[:prompt],
            ids[prompt:],
            markers,
            np.arange(labels, dtype=np.int32),
            np.zeros(labels, dtype=bool),
        )
        windows += cut_windows(row, 64, "truncate", 0)
    return windows


def make_model() -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Qwen2ForCausalLM(config).double()


def make_trainer(folder: Path, batch: int, accumulation: int, **settings: Any) -> WeightedTrainer:
    """A trainer on 12 windows in their own order, that steps by plain gradient descent."""
    from transformers import TrainingArguments

    model = make_model()
    return WeightedTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=batch,
            per_device_eval_batch_size=5,
            gradient_accumulation_steps=accumulation,
            lr_scheduler_type="constant",
            learning_rate=0.1,
            max_grad_norm=0.0,
            logging_steps=1,
            save_strategy="no",
            train_sampling_strategy="sequential",
            use_cpu=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            disable_tqdm=True,
            report_to=[],
            **settings,
        ),
        optimizers=(torch.optim.SGD(model.parameters(), lr=0.1), None),
        train_dataset=make_windows(12),
        eval_dataset=make_windows(7),
        label_weight=4.0,
        group_by_length=False,
        mask=LabelMask("none", "cosine", 0.5, 0),
        log=folder / "log.jsonl",
        display=Silent(),
    )


def slow_step_loss(model: Any, windows: list[Window], weight: float) -> float:
    """Equation 4 over windows, one at a time and without padding."""
    total, targets = 0.0, 0.0
    for window in windows:
        batch = collate([window])
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"]).logits
        loss, sums = slow_loss(
            logits.numpy(), batch["labels"].numpy(), batch["markers"].numpy() >= 0, weight
        )
        total, targets = total + loss, targets + sums[2] + sums[3]
    return total / targets


@pytest.mark.parametrize(("batch", "accumulation"), [(4, 1), (2, 2), (1, 4), (3, 4)])
def test_a_step_is_exact_however_it_is_split(batch: int, accumulation: int, tmp_path: Path) -> None:
    """Loss and gradient are those over all targets of the step, in micro-batches of any size and
    padding; the last step of an epoch may have fewer (12 windows make 3 steps of 4)."""
    step = batch * accumulation
    trainer = make_trainer(tmp_path, batch, accumulation, max_steps=1)
    windows = make_windows(12)[:step]
    reference = make_model()
    expected = slow_step_loss(reference, windows, 4.0)
    whole = collate(windows)
    logits = reference(
        input_ids=whole["input_ids"],
        attention_mask=whole["real"],
        position_ids=whole["position_ids"],
    ).logits
    targets = (whole["labels"] != IGNORED).sum()
    weighted_loss(logits, whole["labels"], whole["markers"] >= 0, 4.0, targets)[0].backward()
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-12)
    trained: Any = trainer.model
    for (name, ours), theirs in zip(
        trained.named_parameters(), reference.parameters(), strict=True
    ):
        moved = theirs.detach() - 0.1 * theirs.grad
        assert torch.allclose(ours, moved, rtol=0, atol=1e-14), name


def test_the_evaluation_counts_tokens_alike(tmp_path: Path) -> None:
    """In two batches of 5 and 2 windows."""
    found = make_trainer(tmp_path, 4, 1).evaluate()
    expected = slow_step_loss(make_model(), make_windows(7), 4.0)
    assert found["eval_loss"] == pytest.approx(expected, rel=1e-12)
    assert found["eval_label_tokens"] == sum((own.markers >= 0).sum() for own in make_windows(7))
