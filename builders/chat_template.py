"""A model's own chat template: how messages become the token ids that it is given.

R1-family templates begin with the BOS token, and many end with `<think>`; a tokenizer that adds a
BOS of its own would double it (facts.md 8.2). So the ids are made here, once, and checked: exactly
one BOS where the model has one at all. Whether the template prefills `<think>` is found by
rendering it, since it differs between revisions of a model.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from progdata.builders.errors import ProgdataError, missing_extra, one_line
from progdata.builders.sampling import Message, Prompt
from progdata.builders.thinking import OPEN


class PromptRefused(ValueError):
    """A prompt that no model should be given: `reason` for the rejects table, and the evidence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer with its template; `sha256` is of the template's text.

    `bos_token`: None for a model without one. `prefill`: what a rendered prompt ends with from
    `<think>` on, or nothing where the model writes `<think>` itself.
    """

    tokenizer: Any
    sha256: str
    bos_token: str | None
    prefill: str
    _by_roles: dict[tuple[str, ...], Counter[int]] = field(default_factory=dict)

    @property
    def prefills_think(self) -> bool:
        return bool(self.prefill)

    def prompt(self, messages: Sequence[Message], begun: str = "") -> Prompt:
        """The prompt of these turns, with the answer `begun`, which follows what is prefilled.

        Raises PromptRefused where a text holds what stands for one of the model's own tokens.
        """
        rendered = self.render(messages)
        ids = self._encode(rendered)
        self._check(messages, ids)
        if begun:
            ids = self._encode(rendered + begun)
            self._check_bos(ids)
        return Prompt(tuple(messages), array("I", ids))

    def render(self, messages: Sequence[Message]) -> str:
        """The text of a prompt, up to where the model begins."""
        return _render(self.tokenizer, messages)

    def _encode(self, text: str) -> list[int]:
        ids = self.tokenizer(text, add_special_tokens=False).input_ids
        if self.bos_token is None or text.startswith(self.bos_token):
            return ids
        return self.tokenizer(text).input_ids  # a template that leaves the BOS to the tokenizer

    def _check(self, messages: Sequence[Message], ids: Sequence[int]) -> None:
        """Refuse a prompt without exactly one BOS, or with more of the model's own tokens than
        the template writes."""
        self._check_bos(ids)
        added = Counter(i for i in ids if i in self.own_tokens)
        added.subtract(self._written(tuple(role for role, _ in messages)))
        if any(added.values()):
            token = self.tokenizer.convert_ids_to_tokens(added.most_common(1)[0][0])
            raise PromptRefused("special_token_in_problem", f"the problem holds {token}")

    def _check_bos(self, ids: Sequence[int]) -> None:
        if self.bos_token is not None and (found := ids.count(self.tokenizer.bos_token_id)) != 1:
            raise PromptRefused(
                "special_token_in_problem" if found else "no_bos_token",
                f"the rendered prompt holds {found} tokens {self.bos_token}, expected one",
            )

    @cached_property
    def own_tokens(self) -> frozenset[int]:
        """The ids of the tokens that are no text, such as `<think>` and the ends of turns."""
        return frozenset(self.tokenizer.get_added_vocab().values())

    def _written(self, roles: tuple[str, ...]) -> Counter[int]:
        """How often the template itself writes each of them around turns of these roles."""
        if roles not in self._by_roles:
            plain = self._encode(_render(self.tokenizer, [(role, "1") for role in roles]))
            self._by_roles[roles] = Counter(i for i in plain if i in self.own_tokens)
        return self._by_roles[roles]


def load_chat_template(folder: Path | str) -> ChatTemplate:
    """The tokenizer and the template in the folder of a model.

    Raises ProgdataError where there is none, or where its prompts do not have exactly one BOS.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise missing_extra("transformers", "generate") from error
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
    except Exception as error:  # transformers raises many kinds for a folder without a tokenizer
        raise ProgdataError(
            f"{folder}: no tokenizer that can be read: {one_line(error)}"
        ) from error
    if not tokenizer.chat_template:
        raise ProgdataError(
            f"{folder}: the tokenizer has no chat template; add chat_template.jinja"
        )
    template = tokenizer.chat_template
    text = template if isinstance(template, str) else repr(sorted(template.items()))
    try:
        rendered = _render(tokenizer, [("user", "1 + 1?")])
    except PromptRefused as error:
        raise ProgdataError(f"{folder}: the chat template fails: {error.detail}") from error
    begun = rendered.rstrip().endswith(OPEN)
    own = ChatTemplate(
        tokenizer,
        hashlib.sha256(text.encode()).hexdigest(),
        tokenizer.bos_token,
        rendered[rendered.rindex(OPEN) :] if begun else "",
    )
    try:
        own.prompt([("user", "1 + 1?")])
    except PromptRefused as error:
        raise ProgdataError(f"{folder}: {error.detail}; mend its chat template") from error
    return own


def _render(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The turns as the template writes them. Raises PromptRefused where it does not take them, or
    leaves one out."""
    turns = [{"role": role, "content": content} for role, content in messages]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        text.encode()
    except Exception as error:  # templates raise what they like
        raise PromptRefused("refused_by_template", one_line(error)) from error
    for role, content in messages:
        if content.strip() not in text:
            raise PromptRefused("turn_left_out", f"the chat template leaves out the {role} turn")
    return text
