"""Recipes: the small YAML file that says everything that determines the bytes of a build."""

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from progdata.builders.errors import UsageError
from progdata.builders.markers import MarkerGrammar
from progdata.builders.nearest import did_you_mean
from progdata.builders.progress import Mode
from progdata.builders.prompts import PromptProfile, find_profile
from progdata.builders.variants import PRESETS, Variant, find_preset
from progdata.releases.generate_section import GenerateSection
from progdata.releases.recipe_sections import (
    ContaminationSection,
    CurateSection,
    MarkerSection,
    PolicySection,
    Section,
    SegmenterSection,
    SourceSection,
    SplitSection,
    VariantSection,
    VerifySection,
)
from progdata.verifiers.contamination_profiles import ContaminationSettings
from progdata.verifiers.selection import CurateSettings
from progdata.verifiers.verify_rows import VerifySettings

DEFAULT_SOURCE = "countdown:1000"


def _one_variant(value: Any) -> Any:
    return find_preset(value).__dict__ if isinstance(value, str) else value


NOT_YAML = (yaml.YAMLError, ValueError)
"""What reading YAML raises; ValueError for a date that is none, and for bytes that are no text."""

VariantEntry = Annotated[VariantSection, BeforeValidator(_one_variant)]


class Recipe(Section):
    """Everything that determines the bytes of a build. Unset values are this project's defaults."""

    name: str = "progress"
    generate: GenerateSection | None = None
    sources: list[SourceSection] = Field(default=[SourceSection(spec=DEFAULT_SOURCE)])
    variants: list[VariantEntry] = Field(default=[_one_variant("clean")], validate_default=True)
    tokenizer: str = "words"
    segmenter: SegmenterSection = SegmenterSection()
    progress: Mode = "joint"
    markers: MarkerSection = MarkerSection()
    policies: PolicySection = PolicySection()
    splits: SplitSection = SplitSection()
    verify: VerifySection = VerifySection()
    contamination: ContaminationSection = ContaminationSection()
    curate: CurateSection = CurateSection()
    prompt_profile: str | dict[str, str] = "deepscaler"
    seed: int = 0
    limit: int | None = Field(default=None, ge=1)

    @field_validator("sources", mode="before")
    @classmethod
    def _specs(cls, value: Any) -> Any:
        entries = value if isinstance(value, list) else [value]
        return [{"spec": entry} if isinstance(entry, str) else entry for entry in entries]

    @field_validator("variants", mode="before")
    @classmethod
    def _all(cls, value: Any) -> Any:
        entries = value if isinstance(value, list) else [value]
        return [own for entry in entries for own in (PRESETS if entry == "all" else [entry])]

    @field_validator("variants")
    @classmethod
    def _distinct(cls, value: list[VariantSection]) -> list[VariantSection]:
        by_name = {variant.name: variant for variant in value}
        if not value:
            raise ValueError("name at least one variant")
        if any(by_name[variant.name] != variant for variant in value):
            raise ValueError("two variants have the same name")
        return list(by_name.values())

    @field_validator("prompt_profile")
    @classmethod
    def _known_profile(cls, value: str | dict[str, str]) -> str | dict[str, str]:
        """A profile of a file becomes its content, so that the recipe says all."""
        profile = find_profile(value)
        if value == profile.name:
            return value
        turns = {"name": profile.name, "user": profile.user, "system": profile.system}
        return {name: text for name, text in turns.items() if text is not None}

    @model_validator(mode="after")
    def _curates_what_there_is(self) -> "Recipe":
        own = self.curate
        by_verdict = own.pass_rate or own.gradable or own.stratify == "pass-rate"
        if own.enabled and by_verdict and not self.verify.enabled:
            raise ValueError("curate by pass rate or gold needs verdicts: switch verify on")
        if own.enabled and own.cut_traces == "wrong" and self.policies.cut_traces == "reject":
            raise ValueError("curate.cut_traces: wrong needs policies.cut_traces: keep")
        return self

    @model_validator(mode="before")
    @classmethod
    def _one_origin(cls, value: Any) -> Any:
        """A recipe that generates its traces has no sources."""
        if not isinstance(value, dict) or value.get("generate") is None:
            return value
        if value.get("sources"):
            raise ValueError("name sources, or generate traces: not both")
        return value | {"sources": []}

    @field_validator("sources")
    @classmethod
    def _has_an_origin(
        cls, value: list[SourceSection], info: ValidationInfo
    ) -> list[SourceSection]:
        if not value and info.data.get("generate") is None:
            raise ValueError("name at least one source")
        return value

    def profile(self) -> PromptProfile:
        """The prompt profile."""
        return find_profile(self.prompt_profile)

    def grammar(self) -> MarkerGrammar:
        escaped = self.policies.marked_traces == "escape"
        return MarkerGrammar(self.markers.tag, self.markers.format, escaped=escaped)

    def verify_settings(self) -> VerifySettings | None:
        """How rows are verified; None where they are not."""
        own = self.verify
        if not own.enabled:
            return None
        keep = None if own.keep == "all" else tuple(own.keep)
        return VerifySettings(own.grader, keep, own.cpu_seconds, own.memory_mb)

    def curate_settings(self) -> CurateSettings | None:
        """How the dataset is curated; None where it is not."""
        return self.curate.settings(self.seed) if self.curate.enabled else None

    def contamination_settings(self) -> ContaminationSettings | None:
        """How the dataset is held against benchmarks; None where it is not."""
        own = self.contamination
        if not own.against:
            return None
        return ContaminationSettings(tuple(own.against), own.profile, own.action, own.model)

    def build_variants(self) -> list[Variant]:
        return [Variant(**variant.model_dump()) for variant in self.variants]


_SECTIONS: dict[str, type[Section]] = {
    "sources": SourceSection,
    "variants": VariantSection,
    "segmenter": SegmenterSection,
    "markers": MarkerSection,
    "policies": PolicySection,
    "splits": SplitSection,
    "verify": VerifySection,
    "contamination": ContaminationSection,
    "curate": CurateSection,
    "generate": GenerateSection,
}


def load_recipe(path: str | None = None, **overrides: Any) -> Recipe:
    """The recipe in a YAML file, or the default one, with `overrides` that are not None on top.

    `path` may also be the bare name of a recipe that comes with the package, or the lock file of a
    build that is to be made again. Raises UsageError that names the file and the field that is
    wrong.
    """
    content = read_yaml(path) if path else {}
    if {"recipe", "recipe_sha256"} <= set(content):
        content = content["recipe"]  # a lock file, whose build is to be made again
        if not isinstance(content, dict):
            raise UsageError(f"{path}: recipe: expected fields and values (found {content!r:.80})")
    for name, value in overrides.items():
        own = content.get(name)
        if isinstance(own, dict) and isinstance(value, dict):
            content[name] = own | value
        elif value is not None:
            content[name] = value
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path or 'recipe'}: {_explain(error)}") from error
    except UsageError as error:  # an unknown variant or prompt profile
        raise UsageError(f"{path}: {error}" if path else str(error)) from error


def recipe_sha256(resolved: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a resolved recipe."""
    text = json.dumps(resolved, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def shipped_recipes(*folder: str) -> list[str]:
    """The names of the recipes that come with the package; those in a folder of recipes/."""
    found = files("progdata").joinpath("recipes", *folder)
    return sorted(f.name.removesuffix(".yaml") for f in found.iterdir() if f.name.endswith(".yaml"))


def read_yaml(path: str, *folder: str) -> dict[str, Any]:
    """The content of a YAML file, or of the recipe of this name that comes with the package.

    Raises UsageError where it cannot be read, or holds no fields and values.
    """
    file = Path(path)
    if not file.exists() and path in shipped_recipes(*folder):
        file = Path(str(files("progdata").joinpath("recipes", *folder, f"{path}.yaml")))
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        known = ", ".join(shipped_recipes(*folder))
        raise UsageError(
            f"{path}: {error.strerror or error}; give a YAML file or one of: {known}"
        ) from error
    except NOT_YAML as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict | None):
        raise UsageError(f"{path}: expected fields and values, found {type(content).__name__}")
    return content or {}


def _explain(error: ValidationError) -> str:
    """The first thing that is wrong with a recipe, in one line."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "recipe"
    if first["type"] == "extra_forbidden":
        *within, name = field.split(".")
        section = _SECTIONS[within[0]] if within else Recipe
        return f"unknown field {field!r}{did_you_mean(name, section.model_fields)}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{field}: {message} (found {first['input']!r:.80})"
