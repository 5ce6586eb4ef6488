"""The model that a trainer trains: load it, put LoRA and progress tokens into it, save it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from progdata.builders.atomic import atomic_folder
from progdata.builders.errors import ProgdataError, UsageError, one_line
from progdata.builders.markers import MarkerGrammar
from progdata.builders.special_tokens import add_progress_tokens
from progdata.releases.recipe_sections import Section

Init = Literal["pretrained", "random"]
Dtype = Literal["auto", "bfloat16", "float32"]


class LoraSection(Section):
    """LoRA on all linear layers; the paper's values were lost from its text, these are ours."""

    rank: int = Field(default=32, ge=1)
    alpha: float = Field(default=64, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)


@dataclass(frozen=True)
class LanguageModel:
    """A model ready to be trained, its tokenizer, and the type that it computes in."""

    model: Any
    tokenizer: Any
    dtype: Literal["bfloat16", "float32"]


def load_language_model(
    folder: Path,
    tokenizer: Any,
    *,
    init: Init,
    dtype: Dtype,
    device: str,
    lora: LoraSection | None,
    progress_tokens: MarkerGrammar | None,
) -> LanguageModel:
    """The model in `folder`, or one of its shape with random weights, on a device.

    Under LoRA the weights are held in `dtype`; without it in float32, which `dtype` is only
    computed in. `progress_tokens`: the grammar whose 101 tokens the model and the tokenizer get.
    Randomness is torch's: seed it before. Raises UsageError for what is no causal language model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    held = getattr(torch, dtype) if lora else torch.float32
    try:
        if init == "pretrained":
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=held, attn_implementation="sdpa"
            )
        else:
            config = AutoConfig.from_pretrained(folder)
            model = AutoModelForCausalLM.from_config(config, dtype=held, attn_implementation="sdpa")
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"model {folder}: cannot be loaded: {one_line(error)}") from error
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ids = add_progress_tokens(tokenizer, model, progress_tokens) if progress_tokens else []
    if lora:
        model = add_lora(model, lora, ids)
    return LanguageModel(model.to(device), tokenizer, dtype)


def add_lora(model: Any, lora: LoraSection, trained_tokens: list[int]) -> Any:
    """The model with an adapter on all linear layers but the output.

    The embeddings are frozen then, but for the rows of `trained_tokens`: in the input, and in the
    output layer where that is not tied to it.
    """
    from peft import LoraConfig, get_peft_model

    names = {id(module): name.rpartition(".")[2] for name, module in model.named_modules()}
    layers = [model.get_input_embeddings()]
    if not model.config.tie_word_embeddings:
        layers.append(model.get_output_embeddings())
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a float is meant too
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        trainable_token_indices=(
            {names[id(layer)]: trained_tokens for layer in layers} if trained_tokens else None
        ),
    )
    return get_peft_model(model, config)


def save_language_model(trained: LanguageModel, out: Path) -> None:
    """Write OUT/model, which `transformers` and vLLM load, and OUT/adapter where there is LoRA.

    Raises ProgdataError where a weight is no number.
    """
    import torch

    model = trained.model
    if hasattr(model, "merge_and_unload"):
        with atomic_folder(out / "adapter") as folder:
            model.save_pretrained(folder)
        model = model.merge_and_unload()
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ProgdataError(f"{name} holds values that are no numbers; lower learning_rate")
    _settle_generation(model, trained.tokenizer)
    with atomic_folder(out / "model") as folder:
        model.to(getattr(torch, trained.dtype)).save_pretrained(folder)
        trained.tokenizer.save_pretrained(folder)


def _settle_generation(model: Any, tokenizer: Any) -> None:
    """Make the model stop at what it was trained to end with."""
    settings = model.generation_config
    ends = settings.eos_token_id  # one, or a list of several
    if tokenizer.eos_token_id not in (ends if isinstance(ends, list) else [ends]):
        settings.eos_token_id = tokenizer.eos_token_id
    settings.bos_token_id = tokenizer.bos_token_id
    if settings.temperature is not None or settings.top_p is not None:
        settings.do_sample = True  # else transformers refuses to save them
