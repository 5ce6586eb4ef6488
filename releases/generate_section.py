"""The section `generate` of a recipe: which model is asked what, before the build."""

from dataclasses import fields
from typing import Any

from pydantic import Field, TypeAdapter, field_validator, model_validator

from progdata.builders.model_files import DEFAULT_MODEL
from progdata.builders.nearest import did_you_mean
from progdata.builders.prompts import PromptProfile
from progdata.builders.sampling import SamplingSettings
from progdata.builders.sampling_engines import EngineName, EngineOptions, check_options
from progdata.releases.generated import GenerateSettings
from progdata.releases.recipe_sections import Section, usage

_OPTIONS = tuple(own.name for own in fields(EngineOptions))


class GenerateSection(Section):
    """What `progdata generate` is told; prompt profile, seed and limit are those of the recipe.

    `options` are of the engine (`EngineOptions`); `out` is where the samples are kept, by default
    beside the build, as OUT-samples. Neither is in the lock file.
    """

    problems: list[str] = Field(min_length=1)
    model: str = DEFAULT_MODEL
    engine: EngineName = "vllm"
    n: int = Field(default=4, ge=1)
    temperature: float = Field(default=0.6, ge=0)
    top_p: float = Field(default=0.95, gt=0, le=1)
    max_tokens: int = Field(default=16_384, ge=1)
    tokenizer: str | None = None
    revision: str | None = None
    options: dict[str, Any] = Field(default={}, exclude=True)
    out: str | None = Field(default=None, exclude=True)

    @field_validator("problems", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("options")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name not in _OPTIONS:
                raise ValueError(f"unknown option {name!r}{did_you_mean(name, _OPTIONS)}")
        return TypeAdapter(EngineOptions).validate_python(value).given

    @model_validator(mode="after")
    def _of_the_engine(self) -> "GenerateSection":
        usage(lambda options: check_options(self.engine, options), self.engine_options())
        return self

    def engine_options(self) -> EngineOptions:
        return EngineOptions(**self.options)

    def settings(
        self, profile: PromptProfile, seed: int, limit: int | None, *, verify: bool
    ) -> GenerateSettings:
        """The settings of the generation."""
        return GenerateSettings(
            problems=tuple(self.problems),
            profile=profile,
            model=self.model,
            engine=self.engine,
            n=self.n,
            sampling=SamplingSettings(self.temperature, self.top_p, self.max_tokens),
            seed=seed,
            limit=limit,
            tokenizer=self.tokenizer,
            revision=self.revision,
            verify=verify,
            options=self.engine_options(),
        )
