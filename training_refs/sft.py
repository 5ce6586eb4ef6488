"""Supervised fine-tuning on marked traces (paper 000, section 5.1), from top to bottom.

    progdata train sft --config sft --set data.dataset=./out --set model=org/name --out ./run

1. read a variant of a build or release        (training_data)
2. render prompts, tokenise completions        (encoded_rows)
3. cut them to the context                     (windows)
4. load the model, with LoRA, with 101 tokens  (language_models)
5. train: weighted loss, hidden labels         (weighted_trainer, weighted_loss, label_masks)
6. save a model that transformers and vLLM load

The run's folder: recipe.yaml, log.jsonl, checkpoints/, model/, adapter/ (LoRA), report.json.
The same command goes on from the last checkpoint, or gives the report of a finished run.
"""

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progdata.builders.atomic import write_text
from progdata.builders.chat_template import ChatTemplate, load_chat_template
from progdata.builders.errors import UsageError, missing_extra
from progdata.builders.model_files import find_model
from progdata.releases.display import Display, Silent
from progdata.training_refs.devices import find_device, memory_as_error
from progdata.training_refs.encoded_rows import EncodedRow, EncodedRows, encode_rows
from progdata.training_refs.label_masks import LabelMask, find_stand_in
from progdata.training_refs.language_models import (
    LanguageModel,
    load_language_model,
    save_language_model,
)
from progdata.training_refs.resuming import CHECKPOINTS, LOG, train_on
from progdata.training_refs.sft_recipe import SftRecipe
from progdata.training_refs.train_recipe import begin_run
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
    begin_run(recipe, out)
    finished = out / "report.json"
    if finished.is_file():
        return json.loads(finished.read_text("utf-8"))
    _require_packages()
    _be_quiet()
    device = _find_device(recipe.device)

    display.stage("read")
    folder = _model_folder(recipe)
    data = open_data(
        recipe.data.dataset,
        recipe.data.variant,
        folder,
        source=recipe.data.source,
        splits=[recipe.data.train_split, recipe.data.eval_split],
        relabel=recipe.data.relabel,
        limit=_both_limits(recipe),
    )
    template = load_chat_template(folder)
    with memory_as_error(f"lower per_device_batch_size or context ({device})"):
        trained = _load(recipe, folder, template.tokenizer, data, device)

        display.stage("tokenise")
        rows = _encode(data, recipe.data.train_split, recipe.data.limit, template)
        if not rows.rows:
            raise UsageError(f"{data.name}: no row to train on is left; dropped: {rows.dropped}")
        held_out = EncodedRows([], {})
        if recipe.data.eval_split in data.tables:
            held_out = _encode(data, recipe.data.eval_split, recipe.data.eval_limit, template)

        display.stage("train")
        trainer = _make_trainer(recipe, trained, data, rows.rows, held_out.rows, out, display)
        train_on(trainer, out / CHECKPOINTS, out / LOG)
        save_language_model(trained, out)
    report = _report(recipe, data, rows, held_out, trainer)
    write_text(finished, json.dumps(report, indent=2) + "\n")
    return report


# --- 1 to 3: rows and windows --------------------------------------------------------------------


def _both_limits(recipe: SftRecipe) -> int | None:
    """Rows of each split that have to be read."""
    limits = recipe.data.limit, recipe.data.eval_limit
    return None if None in limits else max(limit for limit in limits if limit is not None)


def _encode(
    data: TrainingData, split: str, limit: int | None, template: ChatTemplate
) -> EncodedRows:
    return encode_rows(data.rows(split).slice(0, limit), template)


def _cut(recipe: SftRecipe, rows: list[EncodedRow]) -> list[Window]:
    """The windows of all rows. Raises UsageError where no prompt leaves room for a completion."""
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
    return windows


# --- 4: the model ------------------------------------------------------------------------------


def _find_device(name: str) -> str:
    """The device, which is the first GPU where it is one: that is what transformers trains on."""
    device = find_device(name)
    if device.startswith("cuda") and device != "cuda:0":
        raise UsageError(
            f"device {name!r}: transformers trains on the first GPU that it sees; set "
            f"CUDA_VISIBLE_DEVICES={device.partition(':')[2]} and device to cuda"
        )
    return device


def _require_packages() -> None:
    """Raises ProgdataError where the extra `train` is not installed."""
    for package in ("torch", "transformers", "accelerate", "peft"):
        if find_spec(package) is None:
            raise missing_extra(package, "train")


def _be_quiet() -> None:
    """Keep the bars and warnings of transformers and PEFT out of the terminal."""
    from transformers.utils import logging

    warnings.filterwarnings("ignore", "Setting `save_embedding_layers`")  # as they have to be
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _model_folder(recipe: SftRecipe) -> Path:
    """The folder of the model; random weights need no more than its config and tokenizer."""
    folder = Path(recipe.model)
    if recipe.init == "random" and (folder / "config.json").is_file():
        return folder
    return find_model(recipe.model).folder


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
    return LabelMask(mode, recipe.mask.schedule, recipe.mask.max, recipe.seed, stand_in)


def _make_trainer(
    recipe: SftRecipe,
    trained: LanguageModel,
    data: TrainingData,
    rows: list[EncodedRow],
    held_out: list[EncodedRow],
    out: Path,
    display: Display,
) -> "WeightedTrainer":
    from progdata.training_refs.weighted_trainer import WeightedTrainer

    evaluated = _cut(recipe, held_out)
    return WeightedTrainer(
        model=trained.model,
        args=_arguments(recipe, trained, out, evaluate=bool(evaluated)),
        train_dataset=_cut(recipe, rows),
        eval_dataset=evaluated or None,
        label_weight=recipe.loss.label_weight,
        group_by_length=recipe.group_by_length,
        mask=_make_mask(recipe, data, trained),
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
