"""`card.yaml`: what a dataset card says that no report knows."""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from progdata.builders.errors import UsageError
from progdata.builders.nearest import did_you_mean
from progdata.builders.prompts import is_unicode

CARD_FACTS = "card.yaml"

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class CardFacts(BaseModel):
    """What the publisher says of a build. What is not given is shown as missing.

    `license`: an identifier as the Hub lists them (`apache-2.0`), or a name of the user's own.
    `citation`: BibTeX. `source_licenses`: by the spec of a source, as the recipe has it, or by the
    id of its dataset on the Hub.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    license: str | None = None
    languages: list[str] = ["en"]
    pretty_name: str | None = None
    authors: list[str] = []
    notes: str | None = None
    citation: str | None = None
    source_licenses: dict[str, str] = {}

    @field_validator("*")
    @classmethod
    def _encodable(cls, value: Any) -> Any:
        nested = [*value, *value.values()] if isinstance(value, dict) else value
        for text in nested if isinstance(nested, list) else [nested]:
            if isinstance(text, str) and not is_unicode(text):
                raise ValueError("holds a lone surrogate, which no file can")
            if isinstance(text, str) and not text.strip():
                raise ValueError("is empty; leave the field out")
        return value

    @field_validator("languages")
    @classmethod
    def _codes(cls, value: list[str]) -> list[str]:
        for code in value:
            if not _LANGUAGE.fullmatch(code):
                raise ValueError(f"{code!r} is no code of a language, such as en or pt-BR")
        return value


def read_facts(path: Path) -> CardFacts:
    """The facts in a YAML file. Raises UsageError that names the file and the field."""
    try:
        return parse_facts(path.read_bytes(), path)
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror or error}; expected a YAML file of facts for the card"
        ) from error


def parse_facts(content: bytes, where: Path | str) -> CardFacts:
    """The facts in the bytes of a YAML file, which is named in errors as `where`."""
    try:
        fields = yaml.safe_load(content.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{where}: not YAML: {' '.join(str(error).split())[:300]}") from error
    if fields is None:
        fields = {}
    if not isinstance(fields, dict):
        raise UsageError(f"{where}: expected fields and values, found {type(fields).__name__}")
    try:
        return CardFacts.model_validate(fields)
    except ValidationError as error:
        raise UsageError(f"{where}: {_explain(error)}") from error


def facts_text(facts: CardFacts) -> str:
    """The facts as they are written into a build: what was given, in the order of the fields."""
    given = facts.model_dump(exclude_defaults=True)
    return yaml.safe_dump(given, sort_keys=False, allow_unicode=False) if given else ""


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "card"
    if first["type"] == "extra_forbidden":
        return f"unknown field {field!r}{did_you_mean(field, CardFacts.model_fields)}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{field}: {message} (found {first['input']!r:.80})"
