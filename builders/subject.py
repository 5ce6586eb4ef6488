"""The subject model: which model is asked, at which revision, and how its prompts are made."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progdata.builders.chat_template import ChatTemplate, load_chat_template
from progdata.builders.errors import UsageError
from progdata.builders.model_files import find_model
from progdata.builders.sampling import Message, Prompt
from progdata.builders.sampling_engines import ENGINES, EngineName
from progdata.builders.tokenizer import find_tokenizer


@dataclass(frozen=True)
class Subject:
    """A model; `folder` is None where a server has it, `template` where it makes the prompts."""

    name: str
    revision: str
    folder: Path | None
    template: ChatTemplate | None

    def prompt(self, messages: Sequence[Message], begun: str = "") -> Prompt:
        """The prompt of these turns, with the answer `begun`. Raises PromptRefused for one that no
        model should be given, UsageError where a server cannot go on with an answer."""
        if self.template is not None:
            return self.template.prompt(messages, begun)
        if begun:
            raise UsageError(
                f"{self.name}: a server can go on with an answer only where it is given token ids; "
                "name the model's --tokenizer"
            )
        return Prompt(tuple(messages))

    def rendered_sha256(self, messages: Sequence[Message]) -> str | None:
        """SHA-256 of these turns as the template renders them; None where a server has it."""
        if self.template is None:
            return None
        return hashlib.sha256(self.template.render(messages).encode()).hexdigest()

    @property
    def prefill(self) -> str:
        """What its template has written of the answer already, from `<think>` on."""
        return self.template.prefill if self.template is not None else ""

    @property
    def record(self) -> dict[str, Any]:
        """What reports and lock files say of it; a template on a server is not known."""
        own = self.template
        return {
            "model": self.name,
            "revision": self.revision,
            "template_sha256": own and own.sha256,
            "think_prefilled": own and own.prefills_think,
            "bos_token": own and own.bos_token,
        }


def find_subject(
    model: str, engine: EngineName, tokenizer: str | None = None, revision: str | None = None
) -> Subject:
    """The model that `model` names, for an engine.

    On a server it is what the server calls it; `revision` says which weights that are, and
    `tokenizer` (a folder or a hub id) makes its prompts here, as token ids. Raises UsageError for
    options that the engine does not have, ProgdataError where the model cannot be had.
    """
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}; choose from {', '.join(ENGINES)}")
    if engine != "openai":
        if tokenizer or revision:
            raise UsageError(
                "--tokenizer and --revision are of the engine openai; elsewhere the model's own "
                "tokenizer is used, and --model NAME@REVISION names a revision"
            )
        files = find_model(model)
        return Subject(files.name, files.revision, files.folder, load_chat_template(files.folder))
    template = None
    if tokenizer:
        path = find_tokenizer(tokenizer).path
        if path is None:
            raise UsageError("--tokenizer words is not a model's tokenizer; name the model's own")
        template = load_chat_template(Path(path).parent)
    return Subject(model, revision or "", None, template)
