"""Recipes: the small YAML file that says everything that determines the bytes of a build."""

import hashlib
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from progdata.builders.errors import UsageError
from progdata.builders.markers import MarkerGrammar
from progdata.builders.nearest import did_you_mean
from progdata.builders.progress import Mode, Rounding
from progdata.builders.prompts import find_profile
from progdata.builders.segmenters import SEGMENTERS
from progdata.builders.splits import OOD_TOKENS
from progdata.builders.variants import PRESETS, Variant, find_preset
from progdata.verifiers.contamination_profiles import PROFILES, ContaminationSettings
from progdata.verifiers.difficulty import CutTraces
from progdata.verifiers.near_duplicates import MODEL
from progdata.verifiers.pool import CPU_SECONDS, MEMORY_MB
from progdata.verifiers.selection import CurateSettings, Range, read_range
from progdata.verifiers.strata import LengthOf, Stratify
from progdata.verifiers.verdicts import STATUSES, GraderName
from progdata.verifiers.verify_rows import UNGRADED, VerifySettings

DEFAULT_SOURCE = "countdown:1000"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="after")
    @classmethod
    def _encodable(cls, value: Any) -> Any:
        if isinstance(value, str) and not _is_unicode(value):
            raise ValueError("holds a lone surrogate, which no file can")
        return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class SourceSection(_Section):
    """One source: its spec, and the columns to read where their names say too little."""

    spec: str
    columns: dict[str, str] = {}


class SegmenterSection(_Section):
    """The segmenter and its settings; `tokens` is the K of `tokens:K`, the rest but the
    minimum is for `sat`."""

    name: str = "newline"
    min_tokens: int = Field(default=1, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    model: str = "sat-3l"
    threshold: float = Field(default=0.5, gt=0, lt=1)
    batch_size: int = Field(default=32, ge=1)
    device: str = "cpu"

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        """`tokens:256` and `sat:PATH` as they are written on the command line."""
        if not isinstance(value, str):
            return value
        name, _, rest = value.partition(":")
        if name == "tokens" and rest:
            return {"name": name, "tokens": rest}
        return {"name": name, "model": rest} if name == "sat" and rest else {"name": value}

    @model_validator(mode="after")
    def _known(self) -> "SegmenterSection":
        if self.name not in SEGMENTERS:
            hint = did_you_mean(self.name, SEGMENTERS)
            raise ValueError(f"unknown segmenter {self.name!r}{hint}")
        if (self.name == "tokens") != (self.tokens is not None):
            raise ValueError("write tokens:K, with K tokens a segment")
        return self


class MarkerSection(_Section):
    """How markers are written, and how progress is rounded to a label."""

    tag: str = Field(default="progressbar", pattern=r"^[A-Za-z_][\w.-]*$")
    format: str = "{label}%"
    rounding: Rounding = "half-even"

    @field_validator("format")
    @classmethod
    def _one_label(cls, value: str) -> str:
        if value.count("{label}") != 1 or set(value.replace("{label}", "")) & set(
            "<>{}[]0123456789-"
        ):
            raise ValueError(
                "a marker format holds {label} once, and no digit, minus or bracket beside it"
            )
        return value

    @field_validator("tag")
    @classmethod
    def _not_think(cls, value: str) -> str:
        if value == "think":
            raise ValueError("the tag of a marker cannot be 'think'")
        return value


class PolicySection(_Section):
    """What happens to traces that were cut off, and to those that hold marker text already."""

    cut_traces: Literal["reject", "keep"] = "reject"
    marked_traces: Literal["reject", "escape"] = "reject"


class SplitSection(_Section):
    """Shares and limits of the splits (see `builders.splits`)."""

    validation: float = Field(default=0.05, ge=0, lt=1)
    ood_tokens: int = Field(default=OOD_TOKENS, ge=1)
    ood_siblings: Literal["reject", "ood"] = "reject"


class VerifySection(_Section):
    """How answers are graded (see `verifiers.verify_rows`), and which verdicts stay.

    `keep` is `all`, a verdict or a list of verdicts; `ungraded` is one, of rows without a gold.
    A bare `on` or `off` stands for `enabled`.
    """

    enabled: bool = True
    grader: GraderName = "math-verify"
    keep: Literal["all"] | list[str] = "all"
    cpu_seconds: float = Field(default=CPU_SECONDS, gt=0)
    memory_mb: int = Field(default=MEMORY_MB, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        return {"enabled": value} if isinstance(value, bool) else value

    @field_validator("keep", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) and value != "all" else value

    @field_validator("keep")
    @classmethod
    def _known_verdicts(cls, value: Any) -> Any:
        known = (*STATUSES, UNGRADED)
        for name in () if value == "all" else value:
            if name not in known:
                hint = did_you_mean(name, known)
                raise ValueError(f"unknown verdict {name!r}{hint}; choose from {', '.join(known)}")
        if not value:
            raise ValueError("name at least one verdict, or all")
        return value

    @model_validator(mode="after")
    def _keeps_what_is_graded(self) -> "VerifySection":
        if not self.enabled and self.keep != "all":
            raise ValueError("keep needs verdicts: switch verify on")
        return self


class CurateSection(_Section):
    """Which problems and traces stay, by measures over the whole dataset (see `CurateSettings`).

    Off unless the section says anything, or a bare `on`. Ranges are `[A, B]` or `"A:B"`.
    """

    enabled: bool = False
    pass_rate: Range | None = None
    length_bin: str | Range | None = None
    length_of: LengthOf = "thinking"
    finished: bool = False
    gradable: bool = False
    min_traces: int = 1
    sample: int | None = None
    stratify: Stratify | None = None
    per_stratum: bool = False
    cut_traces: CutTraces = "ignore"

    @model_validator(mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return {"enabled": value}
        return {"enabled": True} | value if isinstance(value, dict) and value else value

    @field_validator("pass_rate", "length_bin", mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        if isinstance(value, (int, float)):  # what YAML makes of 10:30
            raise ValueError("write a range as [A, B]")
        return _usage(read_range, value) if isinstance(value, str) and ":" in value else value

    @model_validator(mode="after")
    def _makes_sense(self) -> "CurateSection":
        _usage(self.settings, 0)
        return self

    def settings(self, seed: int) -> CurateSettings:
        return CurateSettings(**self.model_dump(exclude={"enabled"}), seed=seed)


def _usage(function: Callable[[Any], Any], value: Any) -> Any:
    """What `function` gives; its UsageError as the ValueError that pydantic expects."""
    try:
        return function(value)
    except UsageError as error:
        raise ValueError(str(error)) from error


class ContaminationSection(_Section):
    """Against which benchmarks the problems are held; off where none is named.

    `against` are paths, hub datasets, or names (see `progdata decontaminate`); `model` is of the
    profile `embedding`.
    """

    against: list[str] = []
    profile: str = "weighted"
    action: Literal["flag", "remove"] = "flag"
    model: str = MODEL

    @field_validator("against", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, value: str) -> str:
        if value not in PROFILES:
            hint = did_you_mean(value, PROFILES)
            raise ValueError(f"unknown profile {value!r}{hint}; choose from {', '.join(PROFILES)}")
        return value

    @model_validator(mode="after")
    def _names_benchmarks(self) -> "ContaminationSection":
        off = ContaminationSection.model_construct().model_dump()
        if not self.against and self.model_dump() != off:
            raise ValueError("name at least one benchmark in against")
        return self


class VariantSection(_Section):
    """A variant of the user's own: a name and the three axes."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    sigma: float = Field(default=0.0, ge=0, le=1)
    clip: bool = True
    special: bool = False
    mask_max: float = Field(default=0.0, ge=0, le=1)


def _one_variant(value: Any) -> Any:
    return find_preset(value).__dict__ if isinstance(value, str) else value


VariantEntry = Annotated[VariantSection, BeforeValidator(_one_variant)]


class Recipe(_Section):
    """Everything that determines the bytes of a build. Unset values are this project's defaults."""

    name: str = "progress"
    sources: list[SourceSection] = Field(default=[SourceSection(spec=DEFAULT_SOURCE)], min_length=1)
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
    prompt_profile: str = "deepscaler"
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
    def _known_profile(cls, value: str) -> str:
        find_profile(value)
        return value

    @model_validator(mode="after")
    def _curates_what_there_is(self) -> "Recipe":
        own = self.curate
        by_verdict = own.pass_rate or own.gradable or own.stratify == "pass-rate"
        if own.enabled and by_verdict and not self.verify.enabled:
            raise ValueError("curate by pass rate or gold needs verdicts: switch verify on")
        if own.enabled and own.cut_traces == "wrong" and self.policies.cut_traces == "reject":
            raise ValueError("curate.cut_traces: wrong needs policies.cut_traces: keep")
        return self

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


_SECTIONS: dict[str, type[_Section]] = {
    "sources": SourceSection,
    "variants": VariantSection,
    "segmenter": SegmenterSection,
    "markers": MarkerSection,
    "policies": PolicySection,
    "splits": SplitSection,
    "verify": VerifySection,
    "contamination": ContaminationSection,
    "curate": CurateSection,
}


def load_recipe(path: str | None = None, **overrides: Any) -> Recipe:
    """The recipe in a YAML file, or the default one, with `overrides` that are not None on top.

    `path` may also be the bare name of a recipe that comes with the package. Raises UsageError
    that names the file and the field that is wrong.
    """
    content = _read_yaml(path) if path else {}
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


def shipped_recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    folder = files("progdata").joinpath("recipes")
    return sorted(
        f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")
    )


def _read_yaml(path: str) -> dict[str, Any]:
    file = Path(path)
    if not file.exists() and path in shipped_recipes():
        file = Path(str(files("progdata").joinpath("recipes", f"{path}.yaml")))
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        known = ", ".join(shipped_recipes())
        raise UsageError(
            f"{path}: {error.strerror or error}; give a YAML file or one of: {known}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected fields and values, found {type(content).__name__}")
    return content


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
