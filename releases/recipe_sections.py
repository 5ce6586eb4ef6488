"""The sections of a recipe: their fields, their defaults, and what makes no sense in them."""

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from progdata.builders.errors import UsageError
from progdata.builders.nearest import did_you_mean
from progdata.builders.progress import Rounding
from progdata.builders.prompts import is_unicode
from progdata.builders.segmenters import SEGMENTERS
from progdata.builders.splits import OOD_TOKENS
from progdata.verifiers.contamination_profiles import PROFILES
from progdata.verifiers.difficulty import CutTraces
from progdata.verifiers.near_duplicates import MODEL
from progdata.verifiers.pool import CPU_SECONDS, MEMORY_MB
from progdata.verifiers.selection import CurateSettings, Range, read_range
from progdata.verifiers.strata import LengthOf, Stratify
from progdata.verifiers.verdicts import STATUSES, GraderName
from progdata.verifiers.verify_rows import UNGRADED


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="after")
    @classmethod
    def _encodable(cls, value: Any) -> Any:
        if isinstance(value, str) and not is_unicode(value):
            raise ValueError("holds a lone surrogate, which no file can")
        return value


class SourceSection(Section):
    """One source: its spec, and the columns to read where their names say too little."""

    spec: str
    columns: dict[str, str] = {}


class SegmenterSection(Section):
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


class MarkerSection(Section):
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


class PolicySection(Section):
    """What happens to traces that were cut off, and to those that hold marker text already."""

    cut_traces: Literal["reject", "keep"] = "reject"
    marked_traces: Literal["reject", "escape"] = "reject"


class SplitSection(Section):
    """Shares and limits of the splits (see `builders.splits`)."""

    validation: float = Field(default=0.05, ge=0, lt=1)
    ood_tokens: int = Field(default=OOD_TOKENS, ge=1)
    ood_siblings: Literal["reject", "ood"] = "reject"


class VerifySection(Section):
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


class CurateSection(Section):
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
        return usage(read_range, value) if isinstance(value, str) and ":" in value else value

    @model_validator(mode="after")
    def _makes_sense(self) -> "CurateSection":
        usage(self.settings, 0)
        return self

    def settings(self, seed: int) -> CurateSettings:
        return CurateSettings(**self.model_dump(exclude={"enabled"}), seed=seed)


def usage(function: Callable[[Any], Any], value: Any) -> Any:
    """What `function` gives; its UsageError as the ValueError that pydantic expects."""
    try:
        return function(value)
    except UsageError as error:
        raise ValueError(str(error)) from error


class ContaminationSection(Section):
    """Against which benchmarks the problems are held; off where none is named.

    `against` are paths, hub datasets, or names (see `progdata decontaminate`); `model` is of the
    profile `embedding`.
    """

    against: list[str] = []
    profile: str = "weighted"
    action: Literal["flag", "remove"] = "flag"
    model: str = MODEL

    @model_validator(mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        if value is True:
            raise ValueError("say against what: {against: [usual]}")
        return {} if value is False else value

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


class VariantSection(Section):
    """A variant of the user's own: a name and the three axes."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    sigma: float = Field(default=0.0, ge=0, le=1)
    clip: bool = True
    special: bool = False
    mask_max: float = Field(default=0.0, ge=0, le=1)
