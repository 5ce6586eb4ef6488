"""GRPO on rewards for progress, report frequency and correctness (paper 000, section 5.1).

    progdata train grpo --dataset BUILD --model MODEL --out RUN

Read it from `train` downwards: prompts, rewards, stages of rising context, what is saved. The
algorithm is TRL's `GRPOTrainer`; here is what surrounds it. RUN holds `recipe.yaml`, `begun.json`
(what it began with), `log.jsonl` (a line a step), `samples.jsonl` (a line a completion),
`checkpoints/stage-1/...`, and at the end `model/` (merged, for transformers and vLLM), `adapter/`
(with LoRA) and `report.json`. The same command again goes on from the last checkpoint, with the
same samples as if it had never stopped.
"""

import gc
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from progdata.builders.atomic import write_text
from progdata.builders.chat_template import ChatTemplate, load_chat_template
from progdata.builders.errors import UsageError
from progdata.builders.model_files import find_model
from progdata.releases.display import Display, Silent
from progdata.training_refs.context_lengthening import (
    LengtheningSection,
    Stage,
    best_checkpoint,
    find_plateau,
    first_context,
    plan_stages,
    read_contexts,
)
from progdata.training_refs.devices import (
    find_single_device,
    memory_as_error,
    quiet_libraries,
    require_packages,
)
from progdata.training_refs.grpo_log import run_log, steps_of
from progdata.training_refs.grpo_prompts import Prompts, check_prompts, prompt_order, read_prompts
from progdata.training_refs.language_models import (
    LanguageModel,
    LoraSection,
    add_lora,
    save_language_model,
)
from progdata.training_refs.resuming import (
    CHECKPOINTS,
    LOG,
    REPORT,
    begin_run_on,
    checkpoints_in,
    last_checkpoint,
    read_history,
    read_report,
)
from progdata.training_refs.rewards import REWARDS, RewardSection
from progdata.training_refs.sampled_rewards import sampled_rewards
from progdata.training_refs.train_recipe import TrainRecipe
from progdata.training_refs.training_data import TrainingData, open_data

DONE = "done.json"
"""What is known of a stage that is over."""

_LOWER = (
    "set per_device_train_batch_size (and num_generations with it) or context lower, or "
    "gradient_checkpointing to true"
)


class GrpoRecipe(TrainRecipe):
    """A GRPO run. `context` is the most tokens of a completion: a number, or one for each stage of
    iterative context lengthening, as `max_steps` and `num_generations` may be. `lora`: null trains
    every weight. Names of the optimiser's fields are those of `trl.GRPOConfig`."""

    rewards: RewardSection = RewardSection()
    context: int | list[int] = 8096
    max_steps: int | list[int] = 500
    num_generations: int | list[int] = 4
    lengthening: LengtheningSection = LengtheningSection()
    lora: LoraSection | None = LoraSection()
    learning_rate: float = Field(default=1e-5, gt=0)
    lr_scheduler_type: Literal["constant", "constant_with_warmup", "linear", "cosine"] = (
        "constant_with_warmup"
    )
    warmup_steps: int = Field(default=25, ge=0)
    max_grad_norm: float = Field(default=0.1, ge=0)
    per_device_train_batch_size: int = Field(default=4, ge=1)
    gradient_accumulation_steps: int = Field(default=4, ge=1)
    gradient_checkpointing: bool = True
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    beta: float = Field(default=0.0, ge=0)
    epsilon: float = Field(default=0.2, gt=0)
    epsilon_high: float = Field(default=0.28, gt=0)
    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo"] = "grpo"
    use_vllm: bool = False
    vllm_mode: Literal["colocate", "server"] = "colocate"
    vllm_gpu_memory_utilization: float = Field(default=0.3, gt=0, le=1)
    vllm_server_base_url: str | None = None
    save_steps: int = Field(default=25, ge=1)
    keep_checkpoints: int | None = Field(default=None, ge=1)

    def stages(self) -> list[Stage]:
        return plan_stages(self.context, self.max_steps, self.num_generations)


def train(recipe: GrpoRecipe, out: Path, *, display: Display | None = None) -> dict[str, Any]:
    """Train by a recipe into the folder `out`, from where an earlier run of it stopped.

    Returns the report (RUN/report.json). Raises UsageError for a recipe, dataset, model or device
    that cannot work, before anything is trained; ProgdataError where memory is not enough.
    """
    display = display or Silent()
    if (report := read_report(recipe, out)) is not None:
        return report
    device, stages = _check(recipe)
    model = find_model(recipe.model)
    template = load_chat_template(model.folder)
    data = open_data(
        recipe.data.dataset,
        recipe.data.variant,
        None,  # the rewards need no label, so that any tokenizer will do
        source=recipe.data.source,
        splits=[recipe.data.train_split],
        limit=recipe.data.limit,
    )
    prompts = read_prompts(data.rows(recipe.data.train_split), template, data.name)
    check_prompts(model.folder, template, data, prompts, stages[-1].context)
    begun_on = {
        "data": data.lock_sha256,
        "model": model.revision,
        "stages": [asdict(stage) for stage in stages],
    }
    begin_run_on(recipe, out, begun_on)
    run = Run(recipe, out, device, model.folder, template, data, prompts, display)
    with memory_as_error(_LOWER), quiet_libraries():
        done = run.train_stages(stages)
        return _finish(run, stages, done)


# The run


@dataclass
class Run:
    """What all stages of a run share."""

    recipe: GrpoRecipe
    out: Path
    device: str
    model: Path
    template: ChatTemplate
    data: TrainingData
    prompts: Prompts
    display: Display

    def train_stages(self, stages: Sequence[Stage]) -> list[dict[str, Any]]:
        """Train the stages that are not done yet, each from the best of the one before; what is
        known of each (`done.json`)."""
        done: list[dict[str, Any]] = []
        start: Path | None = None
        for number, stage in enumerate(stages, 1):
            folder = self.out / CHECKPOINTS / f"stage-{number}"
            if not (folder / DONE).is_file():
                found = self.train_stage(number, stage, start, folder, last=number == len(stages))
                write_text(folder / DONE, json.dumps(found, indent=2) + "\n")
            done.append(json.loads((folder / DONE).read_text("utf-8")))
            start = folder / f"checkpoint-{done[-1]['go_on_from']}"
        return done

    def train_stage(
        self, number: int, stage: Stage, start: Path | None, folder: Path, *, last: bool
    ) -> dict[str, Any]:
        """Train one stage from the weights in `start`, or resume it from its last checkpoint; what
        became of it. A stage whose last checkpoint ended it is not trained on."""
        self.display.stage(f"grpo, up to {stage.context:,} tokens")
        rules = self.recipe.lengthening
        watch = None if last else rules
        resume, step = last_checkpoint(folder)
        history = steps_of(read_history(resume)) if resume else []
        plateau = find_plateau(history, watch) if watch else None
        if plateau is None and step < stage.max_steps:
            history = self.learn(number, stage, start, folder, resume, watch)
            plateau = find_plateau(history, watch) if watch else None
            _free_memory(self.device)
        return _stage_report(stage, folder, history, plateau, rules.window)

    def learn(
        self,
        number: int,
        stage: Stage,
        start: Path | None,
        folder: Path,
        resume: Path | None,
        watch: LengtheningSection | None,
    ) -> list[dict[str, Any]]:
        """The steps of a stage, from the weights in `start` or the checkpoint `resume`; its log, a
        row a step."""
        from transformers import PrinterCallback, set_seed
        from trl.trainer.grpo_trainer import GRPOTrainer

        seed = self.recipe.seed + number - 1
        set_seed(seed)  # LoRA starts from random numbers
        recorded: list[dict[str, Any]] = []
        rewards = sampled_rewards(
            self.recipe.rewards, self.model, self.template.tokenizer, self.data.grammar, recorded
        )
        trainer = GRPOTrainer(
            model=self.load_policy(start),
            reward_funcs=rewards,  # pyright: ignore[reportArgumentType]
            args=self.arguments(stage, folder, seed),
            train_dataset=self.dataset(stage, (self.recipe.seed, number)),
            processing_class=self.template.tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(run_log(self.out, number, stage, recorded, watch, self.display))
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        return steps_of(trainer.state.log_history)

    @property
    def dtype(self) -> Literal["bfloat16", "float32"]:
        """What the model computes in (Table 2: bf16)."""
        return "float32" if self.device == "cpu" else "bfloat16"

    def load_policy(self, start: Path | None) -> Any:
        """The model that is trained: its own weights or those of the checkpoint `start`. With LoRA
        the base with a new adapter, or with that in `start`."""
        import torch
        from transformers import AutoModelForCausalLM

        lora = self.recipe.lora
        held = getattr(torch, self.dtype) if lora else torch.float32
        weights = self.model if lora or start is None else start
        policy = AutoModelForCausalLM.from_pretrained(str(weights), dtype=held)
        if lora is None:
            return policy
        if start is None:
            return add_lora(policy, lora, [])
        from peft import PeftModel

        return PeftModel.from_pretrained(policy, str(start), is_trainable=True)

    def dataset(self, stage: Stage, seed: Sequence[int]) -> Any:
        """As many prompts as a stage asks, in their order."""
        from datasets import Dataset

        needed = stage.max_steps * (_completions_a_step(self.recipe) // stage.num_generations)
        order = prompt_order(len(self.prompts.rows), needed, seed)
        return Dataset.from_list(self.prompts.rows).select(order)

    def arguments(self, stage: Stage, folder: Path, seed: int) -> Any:
        """TRL's arguments: the recipe's, and what keeps it quiet and repeatable."""
        from trl.trainer.grpo_config import GRPOConfig

        recipe, gpu = self.recipe, self.device != "cpu"
        vllm: dict[str, Any] = {}
        if recipe.use_vllm:
            vllm = {
                "use_vllm": True,
                "vllm_mode": recipe.vllm_mode,
                "vllm_gpu_memory_utilization": recipe.vllm_gpu_memory_utilization,
                "vllm_server_base_url": recipe.vllm_server_base_url,
                "vllm_max_model_length": self.prompts.longest + stage.context,
            }
        same = (
            "learning_rate", "lr_scheduler_type", "warmup_steps", "max_grad_norm", "save_steps",
            "per_device_train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing",
            "temperature", "top_p", "beta", "epsilon", "epsilon_high", "loss_type",
        )  # fmt: skip
        arguments = GRPOConfig(
            output_dir=str(folder),
            max_completion_length=stage.context,
            max_steps=stage.max_steps,
            num_generations=stage.num_generations,
            reward_weights=recipe.rewards.weights(),
            save_total_limit=recipe.keep_checkpoints,
            shuffle_dataset=False,  # `prompt_order` did
            seed=seed,
            bf16=self.dtype == "bfloat16",
            use_cpu=not gpu,
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
            **{name: getattr(recipe, name) for name in same},
            **vllm,
        )
        arguments._n_gpu = min(arguments.n_gpu, 1)  # else several GPUs would be a data parallel
        return arguments


def _free_memory(device: str) -> None:
    """Give back what a stage held, which the next one needs."""
    gc.collect()
    if device != "cpu":
        import torch

        torch.cuda.empty_cache()


# What is saved, and what is told


def _stage_report(
    stage: Stage, folder: Path, history: Sequence[Mapping[str, Any]], plateau: Any, window: int
) -> dict[str, Any]:
    """What became of a stage; `go_on_from`: the checkpoint that the next one starts from."""
    saved = sorted(checkpoints_in(folder))
    chosen = best_checkpoint(history, saved, plateau, window) if plateau else saved[-1]
    shown = max(1, min(window, len(history) // 4))
    return {
        **asdict(stage),
        "steps": len(history),
        "go_on_from": chosen,
        "plateau": asdict(plateau) if plateau else None,
        "first": _means(history[:shown]),
        "last": _means(history[-shown:]),
    }


def _means(history: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Means over some steps of the rewards, the lengths and the loss."""
    names = [f"rewards/{name}/mean" for name in REWARDS]
    names += ["reward", "completions/mean_length", "completions/clipped_ratio", "loss"]
    found = {}
    for name in names:
        values = [float(own[name]) for own in history if own.get(name) is not None]
        found[name] = round(sum(values) / len(values), 6) if values else None
    return found


def _finish(run: Run, stages: Sequence[Stage], done: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Save the model of the last checkpoint, merged, and the report; `seconds` are those of all
    steps, in however many processes they were made."""
    last = run.out / CHECKPOINTS / f"stage-{len(stages)}"
    policy = run.load_policy(last / f"checkpoint-{done[-1]['go_on_from']}")
    save_language_model(LanguageModel(policy, run.template.tokenizer, run.dtype), run.out)
    lines = (run.out / LOG).read_text("utf-8").splitlines()
    seconds = sum(json.loads(line).get("step_time") or 0.0 for line in lines)
    report = {
        "trainer": "grpo",
        "data": run.data.record(),
        "model": run.recipe.model,
        "device": run.device,
        "prompts": len(run.prompts.rows),
        "left_out": run.prompts.left_out,
        "stages": list(done),
        "seconds": round(seconds, 1),
    }
    write_text(run.out / REPORT, json.dumps(report, indent=2) + "\n")
    return report


# What is refused before anything is trained


def _check(recipe: GrpoRecipe) -> tuple[str, list[Stage]]:
    """The device and the stages of a recipe. Raises UsageError for what cannot work."""
    if recipe.data.relabel:
        raise UsageError("data.relabel: grpo uses no labels; leave it false")
    stages = recipe.stages()
    if recipe.lengthening.coverage is not None:
        shortest = first_context(
            read_contexts(recipe.lengthening.coverage), recipe.lengthening.taper
        )
        stages = [own for own in stages if own.context >= shortest] or stages[-1:]
    if recipe.use_vllm and recipe.vllm_mode == "colocate" and len(stages) > 1:
        raise UsageError(
            "vllm_mode colocate: each of several stages would start an engine of its own in this "
            "process; set vllm_mode to server"
        )
    require_packages("train", "torch", "transformers", "peft", "trl")
    device = find_single_device(recipe.device)
    if recipe.use_vllm and device == "cpu":
        raise UsageError("use_vllm: vLLM needs a GPU, and the device is cpu; set use_vllm to false")
    if recipe.use_vllm:
        require_packages("generate", "vllm")
    size = _completions_a_step(recipe)
    for stage in stages:
        if stage.num_generations < 2 or size % stage.num_generations:
            raise UsageError(
                f"num_generations {stage.num_generations}: a step has {size} completions "
                "(per_device_train_batch_size x gradient_accumulation_steps), which must hold "
                "whole groups of at least 2"
            )
    return device, stages


def _completions_a_step(recipe: GrpoRecipe) -> int:
    return recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps
