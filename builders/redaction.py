"""Secrets struck out of what is shown, whoever wrote it: servers echo what they are sent."""

import os
import sys

_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY")


def redact(text: str) -> str:
    """The text with `***` for every token and key that this process uses."""
    for secret in _secrets():
        text = text.replace(secret, "***")
    return text


def _secrets() -> set[str]:
    found = {os.environ.get(name) for name in _VARIABLES}
    if "huggingface_hub" in sys.modules:  # nothing of a stored login is known before
        from huggingface_hub import get_token

        found.add(get_token())
    return {secret.strip() for secret in found if secret and secret.strip()}
