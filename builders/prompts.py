"""Prompt profiles: how a problem becomes the messages of a prompt. They are data, in YAML."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from progdata.builders.errors import UsageError
from progdata.builders.nearest import did_you_mean
from progdata.builders.sampling import Message

PLACE = "{problem}"
"""What stands for the text of the problem in the user turn of a profile."""

_FIELDS = {"name", "source", "system", "user"}


@dataclass(frozen=True)
class PromptProfile:
    """Where the instruction goes, and its exact text: a user turn with `{problem}` in it, and a
    system turn where there is one."""

    name: str
    user: str
    system: str | None = None

    @property
    def sha256(self) -> str:
        """SHA-256 of the texts of the turns."""
        system = self.system
        text = self.user if system is None else f"{len(system)} {system}{self.user}"
        return hashlib.sha256(text.encode()).hexdigest()

    def ask(self, problem: str) -> str:
        """The user turn that asks a problem."""
        return self.user.replace(PLACE, problem)

    def messages(self, problem: str) -> tuple[Message, ...]:
        """The turns of the prompt that asks a problem."""
        system = () if self.system is None else (("system", self.system),)
        return (*system, ("user", self.ask(problem)))


@lru_cache(maxsize=1)
def profiles() -> dict[str, PromptProfile]:
    """The profiles that come with the package, by name."""
    text = files("progdata.builders").joinpath("prompt_profiles.yaml").read_text("utf-8")
    return {
        name: _profile(own | {"name": name}, name) for name, own in yaml.safe_load(text).items()
    }


def find_profile(spec: str | Mapping[str, Any]) -> PromptProfile:
    """The profile that `spec` is: a name, a YAML file with `user` and maybe `system` and `name`, or
    the content of such a file.

    The name of a file without one is the file's. Raises UsageError for what is no profile.
    """
    if not isinstance(spec, str):
        return _profile(spec, "prompt profile")
    if spec.endswith((".yaml", ".yml")):
        content = _read_yaml(spec)
        return _profile(content | {"name": content.get("name") or Path(spec).stem}, spec)
    known = profiles()
    if spec not in known:
        raise UsageError(
            f"unknown prompt profile {spec!r}{did_you_mean(spec, known)}; "
            f"choose from {', '.join(known)}, or give a .yaml file with a user turn"
        )
    return known[spec]


def _profile(content: Mapping[str, Any], where: str) -> PromptProfile:
    """A profile from its fields. Raises UsageError where one is missing, unknown or no text."""
    for field, value in content.items():
        if field not in _FIELDS:
            raise UsageError(f"{where}: unknown field {field!r}{did_you_mean(str(field), _FIELDS)}")
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{where}: {field} must be a text (found {value!r:.80})")
        if value is not None and not is_unicode(value):
            raise UsageError(f"{where}: {field} holds a lone surrogate, which no file can")
    user = content.get("user") or ""
    if user.count(PLACE) != 1:
        raise UsageError(f"{where}: user must be the user turn, with {PLACE} in it once")
    return PromptProfile(content.get("name") or where, user, content.get("system"))


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: JSON and YAML allow lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"prompt profile {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected user, and maybe system and name")
    return content
