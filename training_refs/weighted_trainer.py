"""`transformers.Trainer` with the loss of equation 4, hidden labels, and a log of its own.

Nothing of the library is replaced: `compute_loss` is overridden, as its documentation has it, and
`evaluate`, which would average over batches and not over tokens.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from progdata.builders.errors import ProgdataError
from progdata.releases.display import Display
from progdata.training_refs.encoded_rows import NO_MARKER
from progdata.training_refs.label_masks import LabelMask, attention_mask
from progdata.training_refs.length_groups import LengthGroups
from progdata.training_refs.weighted_loss import mean_losses, weighted_loss
from progdata.training_refs.windows import IGNORED, Window

Batch = dict[str, Any]


def collate(windows: Sequence[Window]) -> Batch:
    """Windows as one batch, padded at the end: int64[batch, tokens] each, `real` as bool.

    `windows` themselves come along, since what is hidden is drawn for their traces.
    """

    def padded(rows: Sequence[Any], value: int) -> torch.Tensor:
        tensors = [torch.from_numpy(row).long() for row in rows]
        return pad_sequence(tensors, batch_first=True, padding_value=value)

    ids = [window.input_ids for window in windows]
    return {
        "input_ids": padded(ids, 0),
        "position_ids": padded([window.position_ids for window in windows], 0),
        "labels": padded([window.labels for window in windows], IGNORED),
        "markers": padded([window.markers for window in windows], NO_MARKER),
        "real": padded([row >= 0 for row in ids], 0).bool(),
        "windows": list(windows),
    }


class WeightedTrainer(Trainer):
    """Trains on windows. One line of `log` (JSON) for each logging step and each evaluation."""

    loss_is_scaled_for_ga = True  # by the targets of the whole step

    def __init__(
        self,
        *,
        label_weight: float,
        mask: LabelMask,
        group_by_length: bool,
        log: Path,
        display: Display,
        **rest: Any,
    ) -> None:
        super().__init__(data_collator=collate, callbacks=[_EachStep(display)], **rest)
        self.remove_callback(PrinterCallback)  # standard output is the report's
        self.model_accepts_loss_kwargs = True  # so that the targets of a step are counted
        self._label_weight, self._mask, self._log = label_weight, mask, log
        self._group_by_length = group_by_length
        self._sums = torch.zeros(4, dtype=torch.float64)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """The order of the rows: at random, or those of a step by the length of their thinking,
        which gives all variants of a build the same order."""
        if not self._group_by_length:
            return super()._get_train_sampler(train_dataset)
        rows: Any = train_dataset if train_dataset is not None else self.train_dataset
        step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return LengthGroups([own.row.num_tokens for own in rows], step, self.args.seed)

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The part of the step's loss that a micro-batch has; its sums go to the log."""
        outputs, loss, sums = self._forward(model, inputs, num_items_in_batch)
        self._sums += sums.cpu()
        return (loss, outputs) if return_outputs else loss

    def _forward(self, model: Any, batch: Batch, targets: Any) -> tuple[Any, Any, torch.Tensor]:
        """Outputs, loss and sums. Labels are hidden while the model is trained, not otherwise."""
        ids, real, markers = batch["input_ids"], batch["real"], batch["markers"]
        seen = real
        if model.training and self._mask.mode != "none":
            step, steps = self.state.global_step, self.state.max_steps
            drawn = self._mask.hidden(batch["windows"], step, steps)
            tensors = [torch.from_numpy(row) for row in drawn]
            hidden = pad_sequence(tensors, batch_first=True, padding_value=False).to(ids.device)
            if self._mask.mode == "token":
                ids = ids.masked_fill(hidden, self._mask.stand_in)
            else:
                seen = attention_mask(real, markers, hidden)
        outputs = model(
            input_ids=ids, attention_mask=seen, position_ids=batch["position_ids"], use_cache=False
        )
        labels = batch["labels"]
        if targets is None:
            targets = (labels[:, 1:] != IGNORED).sum()
        shown = markers != NO_MARKER
        return outputs, *weighted_loss(outputs.logits, labels, shown, self._label_weight, targets)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, Any]:
        """The losses over all targets of the evaluation split, each token counting alike."""
        model: Any = self.model
        model.eval()
        sums = torch.zeros(4, dtype=torch.float64)
        for batch in self.get_eval_dataloader(eval_dataset):
            with torch.no_grad(), self.compute_loss_context_manager():
                sums += self._forward(model, self._prepare_inputs(batch), None)[2].cpu()
        means = mean_losses(sums, self._label_weight)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in means.items()}
        self.log(metrics)
        control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.control = control
        return metrics

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Add the losses since the last line, and write the line. Raises ProgdataError where a
        loss is no number."""
        if "loss" in logs:
            logs |= mean_losses(self._sums, self._label_weight)
            probability = self._mask.probability(self.state.global_step - 1, self.state.max_steps)
            logs |= {} if probability is None else {"mask_probability": probability}
            self._sums.zero_()
        step = self.state.global_step
        for name in ("loss", "grad_norm", "eval_loss"):
            if not math.isfinite(logs.get(name) or 0.0):
                raise ProgdataError(
                    f"{name} is {logs[name]} at step {step}: lower learning_rate or "
                    "loss.label_weight, or train with dtype float32"
                )
        super().log(logs, start_time)
        if "loss" in logs or "eval_loss" in logs:
            with self._log.open("a", encoding="utf-8") as file:
                print(json.dumps({"step": step, **logs}), file=file)


class _EachStep(TrainerCallback):
    """Shows each step. The last one is logged whatever `logging_steps` is, and not saved: from a
    checkpoint of the last step, transformers would make one more."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step >= state.max_steps:
            control.should_log, control.should_save = True, False
        losses = [line["loss"] for line in state.log_history if "loss" in line]
        said = f", loss {losses[-1]:.3f}" if losses else ""
        share = state.global_step / state.max_steps
        self._display.say(share, f"step {state.global_step:,} of {state.max_steps:,}{said}")
