"""Prompt profiles: how a problem becomes the messages of a prompt. They are data, in YAML."""

import hashlib
from functools import lru_cache
from importlib.resources import files

import yaml

from progdata.builders.errors import UsageError
from progdata.builders.nearest import did_you_mean


@lru_cache(maxsize=1)
def profiles() -> dict[str, str]:
    """The text of the user message of each profile, with `{problem}` in it."""
    text = files("progdata.builders").joinpath("prompt_profiles.yaml").read_text("utf-8")
    return {name: profile["user"] for name, profile in yaml.safe_load(text).items()}


def find_profile(name: str) -> str:
    """The user message of the profile `name`. Raises UsageError for an unknown one."""
    known = profiles()
    if name not in known:
        raise UsageError(
            f"unknown prompt profile {name!r}{did_you_mean(name, known)}; "
            f"choose from {', '.join(known)}"
        )
    return known[name]


def profile_sha256(name: str) -> str:
    """SHA-256 of the profile's text."""
    return hashlib.sha256(find_profile(name).encode()).hexdigest()


def user_message(name: str, problem: str) -> str:
    """The user message that asks `problem` under a profile."""
    return find_profile(name).replace("{problem}", problem)
