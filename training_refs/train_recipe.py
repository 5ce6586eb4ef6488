"""Recipes of trainers: what they share, how they are read, and the folder that a run fills."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import Field, ValidationError

from progdata.builders.atomic import write_text
from progdata.builders.errors import UsageError
from progdata.builders.nearest import did_you_mean
from progdata.releases.outputs import refuse_file
from progdata.releases.recipe import NOT_YAML, read_yaml
from progdata.releases.recipe_sections import Section

RECIPE_FILE = "recipe.yaml"

SHIPPED = "train"
"""The folder of recipes/ with the recipes of trainers."""

_ORDER = {"extra_forbidden": 0, "missing": 2}
_OPTIONS = {"data": "--dataset", "data.dataset": "--dataset", "model": "--model"}

R = TypeVar("R", bound="TrainRecipe")


class DataSection(Section):
    """What is trained on: `dataset` is the folder of a build, or org/name@1.2.0 in `source` (the
    Hub, or the folder of a local registry); limits are in rows."""

    dataset: str
    variant: str = "clean"
    source: str = "hub"
    train_split: str = "train"
    eval_split: str | None = "validation"
    limit: int | None = Field(default=None, ge=1)
    eval_limit: int | None = Field(default=None, ge=1)
    relabel: bool = False


class TrainRecipe(Section):
    """What every trainer's recipe says. `model`: a folder, or a hub id org/name[@revision]."""

    data: DataSection
    model: str
    seed: int = 0
    device: str = "auto"


def load_recipe(kind: type[R], path: str, settings: Sequence[str] = ()) -> R:
    """The recipe in a YAML file, or that of this name which comes with the package.

    `settings`: values on top, each `field=value` or `section.field=value` with the value in YAML.
    Raises UsageError that names the file and the field that is wrong.
    """
    content = read_yaml(path, SHIPPED)
    for setting in settings:
        _set(content, setting)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {_explain(kind, error)}") from error


def begin_run(recipe: TrainRecipe, out: Path) -> None:
    """Make `out` the folder of this recipe's run: OUT/recipe.yaml says every value of it.

    Raises UsageError where `out` holds the run of another recipe, or something else.
    """
    refuse_file(out, "name a folder with --out")
    own, file = recipe_text(recipe), out / RECIPE_FILE
    if file.is_file():
        try:
            held = yaml.safe_load(file.read_text("utf-8"))
        except NOT_YAML as error:
            raise UsageError(f"{file}: not YAML; choose another --out, or delete it") from error
        differing = _differing(held, recipe.model_dump())
        if differing:
            raise UsageError(
                f"{out}: holds a run with another {', '.join(differing)}; "
                "choose another --out, or delete it"
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out}: is not empty, and holds no run of this command; choose another")
    out.mkdir(parents=True, exist_ok=True)
    write_text(file, own)


def recipe_text(recipe: TrainRecipe) -> str:
    """A recipe with every value, as YAML."""
    return yaml.safe_dump(recipe.model_dump(), sort_keys=False, allow_unicode=True)


def _set(content: dict[str, Any], setting: str) -> None:
    """Put one `section.field=value` on top of a recipe."""
    name, equals, value = setting.partition("=")
    if not equals or not name:
        raise UsageError(f"--set {setting}: expected field=value or section.field=value")
    *sections, field = name.split(".")
    inner = content
    for section in sections:
        held = inner.get(section)
        inner[section] = inner = dict(held) if isinstance(held, dict) else {}
    try:
        inner[field] = yaml.safe_load(value)
    except NOT_YAML as error:
        raise UsageError(f"--set {setting}: the value is not YAML") from error


def _differing(held: Any, wanted: dict[str, Any], within: str = "") -> list[str]:
    """The fields in which a recipe on file differs from another, by their full names."""
    if not isinstance(held, dict):
        return [within.rstrip(".") or RECIPE_FILE]
    found = []
    for name in sorted({*held, *wanted}):
        one, other = held.get(name), wanted.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found += _differing(one, other, f"{within}{name}.")
        elif one != (list(other) if isinstance(other, tuple) else other):
            found.append(f"{within}{name}")
    return found


def _explain(kind: type[TrainRecipe], error: ValidationError) -> str:
    """What is wrong with a recipe, in one line: a name that is not known explains what is missing,
    so that it comes first."""
    first = min(error.errors(), key=lambda own: _ORDER.get(own["type"], 1))
    field = ".".join(str(part) for part in first["loc"]) or "recipe"
    if first["type"] == "extra_forbidden":
        return (
            f"unknown field {field!r}{did_you_mean(field.split('.')[-1], _fields_at(kind, field))}"
        )
    if first["type"] == "missing":
        option = _OPTIONS.get(field, f"--set {field}=...")
        return f"{field} is missing; write it into the recipe, or give {option}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{field}: {message} (found {first['input']!r:.80})"


def _fields_at(kind: Any, field: str) -> list[str]:
    """The fields of the section that an unknown field stands in."""
    for name in field.split(".")[:-1]:
        known = getattr(kind, "model_fields", {}).get(name)
        kinds = [known.annotation, *getattr(known.annotation, "__args__", ())] if known else []
        kind = next((own for own in kinds if hasattr(own, "model_fields")), None)
    return list(getattr(kind, "model_fields", {}))
