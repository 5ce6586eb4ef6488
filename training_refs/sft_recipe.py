"""The recipe of supervised fine-tuning: every value that determines a run."""

from typing import Literal

from pydantic import Field, model_validator

from progdata.builders.variants import MASK_MAX
from progdata.releases.recipe_sections import Section
from progdata.training_refs.label_masks import Schedule
from progdata.training_refs.language_models import Dtype, Init, LoraSection
from progdata.training_refs.train_recipe import TrainRecipe
from progdata.training_refs.windows import LongRows


class LossSection(Section):
    """`label_weight`: the coefficient of label tokens in equation 4 (its value is ours)."""

    label_weight: float = Field(default=5.0, ge=0)


class MaskSection(Section):
    """How labels are hidden from later positions; `auto`: attention for variants that mask.

    `max`: the highest probability; None is the variant's own, or MASK_MAX where it masks nothing.
    `stand_in`: the token that `token` puts in place of a hidden one.
    """

    mode: Literal["auto", "none", "attention", "token"] = "auto"
    schedule: Schedule = "cosine"
    max: float | None = Field(default=None, ge=0, le=1)
    stand_in: str = "?"

    def highest(self, of_variant: float) -> float:
        """The highest probability, for a variant with this `mask_max`."""
        return self.max if self.max is not None else of_variant or MASK_MAX


class SftRecipe(TrainRecipe):
    """Everything that determines a run. Values that the paper leaves open are ours."""

    init: Init = "pretrained"
    loss: LossSection = LossSection()
    lora: LoraSection | None = LoraSection()
    context: int = Field(default=2_048, ge=2)
    long_rows: LongRows = "truncate"
    overlap: int = Field(default=256, ge=0)
    mask: MaskSection = MaskSection()
    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    per_device_batch_size: int = Field(default=4, ge=1)
    gradient_accumulation: int = Field(default=4, ge=1)
    group_by_length: bool = False
    learning_rate: float = Field(default=1e-4, gt=0)
    lr_scheduler: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "cosine"
    warmup_steps: int = Field(default=25, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    dtype: Dtype = "auto"
    gradient_checkpointing: bool = False
    logging_steps: int = Field(default=10, ge=1)
    eval_steps: int | None = Field(default=None, ge=1)
    save_steps: int = Field(default=100, ge=1)

    @model_validator(mode="after")
    def _sensible(self) -> "SftRecipe":
        if self.save_steps % self.logging_steps:
            raise ValueError(
                f"save_steps {self.save_steps} is no multiple of logging_steps "
                f"{self.logging_steps}, so that a resumed run would log other losses"
            )
        if self.long_rows == "windows" and self.overlap >= self.context:
            raise ValueError(f"overlap {self.overlap} is not below context {self.context}")
        if self.long_rows == "windows" and self.overlap < 1:
            raise ValueError(
                "overlap 0: the first target of a window would follow the prompt; set 1 or more"
            )
        return self
