"""Supervised fine-tuning on marked traces (paper 000, section 5.1), from top to bottom.

    progdata train sft --dataset progdata-out --model org/name --out run

1. read a variant of a build or release        (training_data)
2. render prompts, tokenise completions        (encoded_rows)
3. cut them to the context                     (windows)
4. load the model, with LoRA, with 101 tokens  (language_models)
5. train: weighted loss, hidden labels         (weighted_trainer, weighted_loss, label_masks)
6. save a model that transformers and vLLM load

The run's folder: recipe.yaml, begun.json, log.jsonl, checkpoints/, model/, adapter/ (LoRA),
report.json. Nothing is written before everything is checked.
The same command goes on from the last checkpoint, or gives the report of a finished run.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progdata.builders.atomic import write_text
from progdata.builders.chat_template import ChatTemplate, load_chat_template
from progdata.builders.errors import UsageError
from progdata.builders.hub_files import existing, sha256_of
from progdata.builders.model_files import ModelFiles, find_model
from progdata.releases.display import Display, Silent
from progdata.training_refs.devices import (
    find_single_device,
    memory_as_error,
    quiet_libraries,
    require_packages,
)
from progdata.training_refs.encoded_rows import EncodedRow, EncodedRows, encode_rows
from progdata.training_refs.label_masks import LabelMask, find_stand_in
from progdata.training_refs.language_models import (
    LanguageModel,
    load_language_model,
    save_language_model,
)
from progdata.training_refs.resuming import (
    CHECKPOINTS,
    LOG,
    REPORT,
    begin_run_on,
    read_report,
    train_on,
)
from progdata.training_refs.sft_recipe import SftRecipe
from progdata.training_refs.train_recipe import DataSection
from progdata.training_refs.training_data import TrainingData, open_data
from progdata.training_refs.windows import Window, cut_windows, what_is_seen

if TYPE_CHECKING:
    from progdata.training_refs.weighted_trainer import WeightedTrainer


def train(recipe: SftRecipe, out: Path, *, display: Display | None = None) -> dict[str, Any]:
    """Train, and return the report, which OUT/report.json holds too.

    Raises UsageError for a recipe that does not fit the data, the model or the machine, and
    ProgdataError where memory is not enough or the loss is no number.
    """
    display = display or Silent()
    if (report := read_report(recipe, out)) is not None:
        return report
    require_packages("train", "torch", "transformers", "accelerate", "peft")
    device = find_single_device(recipe.device)
    hint = f"lower per_device_batch_size or context ({device})"
    with memory_as_error(hint), quiet_libraries():
        display.stage("read")
        model = _find_model(recipe)
        data = _open_data(recipe, model.folder)
        template = load_chat_template(model.folder)
        trained = _load(recipe, model.folder, template.tokenizer, data, device)
        mask = _make_mask(recipe, data, trained)

        display.stage("tokenise")
        rows, held_out = _encode_splits(recipe, data, template)
        windows = _cut(recipe, rows.rows, trained), _cut(recipe, held_out.rows, trained)

        display.stage("train")
        begun_on = {"data": data.lock_sha256, "model": model.revision}
        begin_run_on(recipe, out, begun_on)
        trainer = _make_trainer(recipe, trained, *windows, mask, out, display)
        train_on(trainer, out / CHECKPOINTS, out / LOG)
        save_language_model(trained, out)
    report = _report(recipe, data, rows, held_out, trainer)
    write_text(out / REPORT, json.dumps(report, indent=2) + "\n")
    return report


# --- 1 to 3: rows and windows --------------------------------------------------------------------


def _open_data(recipe: SftRecipe, tokenizer: Path) -> TrainingData:
    """The rows of both splits, as many of each as either limit asks."""
    own = recipe.data
    limits = own.limit, own.eval_limit
    return open_data(
        own.dataset,
        own.variant,
        tokenizer,
        source=own.source,
        splits=[split for split in (own.train_split, own.eval_split) if split],
        relabel=own.relabel,
        limit=None if None in limits else max(limit for limit in limits if limit is not None),
    )


def _encode_splits(
    recipe: SftRecipe, data: TrainingData, template: ChatTemplate
) -> tuple[EncodedRows, EncodedRows]:
    """The rows to train on and those to evaluate on: none without a split for them.

    Raises UsageError where there is nothing to train on, and for an evaluation split that is not
    there, unless it is the one that a recipe has when it names none.
    """
    own = recipe.data
    rows = encode_rows(data.rows(own.train_split).slice(0, own.limit), template)
    if not rows.rows:
        raise UsageError(f"{data.name}: no row to train on is left; dropped: {rows.dropped}")
    unnamed = DataSection.model_fields["eval_split"].default
    if not own.eval_split or (own.eval_split == unnamed and unnamed not in data.tables):
        return rows, EncodedRows([], {})
    return rows, encode_rows(data.rows(own.eval_split).slice(0, own.eval_limit), template)


def _cut(recipe: SftRecipe, rows: list[EncodedRow], trained: LanguageModel) -> list[Window]:
    """The windows of all rows. Raises UsageError where no prompt leaves room for a completion, or
    a window has positions that the model has not."""
    windows = [
        window
        for row in rows
        for window in cut_windows(row, recipe.context, recipe.long_rows, recipe.overlap)
    ]
    if rows and not windows:
        shortest = min(len(row.prompt) for row in rows)
        raise UsageError(
            f"context {recipe.context}: the shortest prompt has {shortest} tokens, so that no "
            "completion fits; set context higher"
        )
    needed = max((window.positions for window in windows), default=0)
    has = getattr(trained.model.config, "max_position_embeddings", None)
    if isinstance(has, int) and has < needed:
        raise UsageError(
            f"model {recipe.model}: has {has:,} positions, and a window of a trace needs "
            f"{needed:,}; set context to {has} or lower, and long_rows to truncate"
        )
    return windows


# --- 4: the model ------------------------------------------------------------------------------


def _find_model(recipe: SftRecipe) -> ModelFiles:
    """The model; random weights need no more than a folder with its config and tokenizer."""
    folder = Path(recipe.model)
    if recipe.init == "pretrained" or not (folder / "config.json").is_file():
        return find_model(recipe.model)
    files = existing(folder, ("config.json", "tokenizer.json"))
    shape = "\n".join(f"{path.name} {sha256_of(path)}" for path in files)
    return ModelFiles(folder.name, hashlib.sha256(shape.encode()).hexdigest(), folder)


def _load(
    recipe: SftRecipe, folder: Path, tokenizer: Any, data: TrainingData, device: str
) -> LanguageModel:
    """The model, seeded; the tokenizer gets the progress tokens where the variant has them."""
    from transformers import set_seed

    set_seed(recipe.seed)
    return load_language_model(
        folder,
        tokenizer,
        init=recipe.init,
        dtype=recipe.dtype,
        device=device,
        lora=recipe.lora,
        progress_tokens=data.grammar if data.variant.special else None,
    )


# --- 5: the training ---------------------------------------------------------------------------


def _make_mask(recipe: SftRecipe, data: TrainingData, trained: LanguageModel) -> LabelMask:
    """How labels are hidden. Raises UsageError for a model whose layers do not take that mask."""
    mode = recipe.mask.mode
    if mode == "auto":
        mode = "attention" if data.variant.mask_max else "none"
    if mode != "none" and recipe.mask.schedule == "column" and not data.variant.mask_max:
        raise UsageError(
            f"mask.schedule column: {data.variant.name} of {data.name} masks no label; choose a "
            "masked variant, or cosine"
        )
    config = trained.model.config
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or [])
    if mode == "attention" and slides and config.sliding_window < recipe.context:
        raise UsageError(
            f"model {recipe.model}: layers see {config.sliding_window} tokens, less than context "
            f"{recipe.context}, which mask.mode attention would undo; set mask.mode to token"
        )
    stand_in = find_stand_in(trained.tokenizer, recipe.mask.stand_in) if mode == "token" else 0
    highest = recipe.mask.highest(data.variant.mask_max)
    return LabelMask(mode, recipe.mask.schedule, highest, recipe.seed, stand_in)


def _make_trainer(
    recipe: SftRecipe,
    trained: LanguageModel,
    windows: list[Window],
    held_out: list[Window],
    mask: LabelMask,
    out: Path,
    display: Display,
) -> "WeightedTrainer":
    from progdata.training_refs.weighted_trainer import WeightedTrainer

    return WeightedTrainer(
        model=trained.model,
        args=_arguments(recipe, trained, out, evaluate=bool(held_out)),
        train_dataset=windows,
        eval_dataset=held_out or None,
        label_weight=recipe.loss.label_weight,
        group_by_length=recipe.group_by_length,
        mask=mask,
        log=out / LOG,
        display=display,
    )


def _arguments(recipe: SftRecipe, trained: LanguageModel, out: Path, *, evaluate: bool) -> Any:
    """The recipe in the words of transformers. The last step is evaluated in any case."""
    from transformers import TrainingArguments

    on_gpu = trained.model.device.type == "cuda"
    arguments = TrainingArguments(
        output_dir=str(out / CHECKPOINTS),
        num_train_epochs=recipe.epochs,
        max_steps=recipe.max_steps or -1,
        per_device_train_batch_size=recipe.per_device_batch_size,
        per_device_eval_batch_size=recipe.per_device_batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler,
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        bf16=trained.dtype == "bfloat16",
        gradient_checkpointing=recipe.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=recipe.logging_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=recipe.eval_steps or 10**9,
        save_steps=recipe.save_steps,
        save_total_limit=2,
        seed=recipe.seed,
        data_seed=recipe.seed,
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        report_to=[],
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # never split over GPUs behind the user's back
    return arguments


# --- 6: the report -----------------------------------------------------------------------------


def _report(
    recipe: SftRecipe,
    data: TrainingData,
    rows: EncodedRows,
    held_out: EncodedRows,
    trainer: "WeightedTrainer",
) -> dict[str, Any]:
    """What was trained on, what the model saw of it, and the last losses."""
    history = trainer.state.log_history
    last = next((own for own in reversed(history) if "loss" in own), {})
    evaluated = next((own for own in reversed(history) if "eval_loss" in own), {})
    return {
        "trainer": "sft",
        "data": data.record(),
        "model": recipe.model,
        "rows": len(rows.rows),
        "eval_rows": len(held_out.rows),
        "dropped": rows.dropped,
        "eval_dropped": held_out.dropped,
        "long_rows": recipe.long_rows,
        "seen": what_is_seen(rows.rows, recipe.context, recipe.overlap),
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "last": last,
        "evaluation": evaluated,
    }
