"""What is asked of a model, and what comes back: the nouns that all sampling engines share.

A *request* is one sample of one prompt. Its key names everything that can change what the model
says, and nothing else, so that a rerun finds what it has (facts.md 6.1). An engine takes requests
and hands back outcomes in any order; it knows of no problem, file or store.
"""

import hashlib
import json
from array import array
from collections.abc import Generator, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from progdata.builders.schema import content_id

Message = tuple[str, str]
"""A turn of a chat: its role and its content."""


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How a model is sampled; the defaults are the source paper's, and open-r1's token limit.

    `stop`: texts that end a sample, and are not part of it.
    """

    temperature: float = 0.6
    top_p: float = 0.95
    max_tokens: int = 16_384
    stop: tuple[str, ...] = ()


PAPER = SamplingSettings()


def as_record(settings: SamplingSettings) -> dict[str, Any]:
    """Settings as JSON has them."""
    return asdict(settings) | {"stop": list(settings.stop)}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as messages, and as token ids (of type "I") where a tokenizer is known.

    An engine that takes token ids is given them; one that does not is given the messages.
    """

    messages: tuple[Message, ...]
    token_ids: "array[int] | None" = None

    @property
    def digest(self) -> str:
        """A hash of what the engine is given."""
        if self.token_ids is not None:
            return content_id("ids", self.token_ids.tobytes())
        return content_id("messages", json.dumps(self.messages))


@dataclass(frozen=True, slots=True)
class Request:
    """One sample of a prompt: the `index`-th, from 0, with its own `seed`."""

    key: str
    prompt: Prompt
    settings: SamplingSettings
    index: int
    seed: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What a model wrote: `text` without the end-of-sequence token, and what it took.

    `finish_reason`: `stop` where the model ended it, `length` where a limit did, or what a server
    says. `seconds`: from the request to its last token, with the time it waited in the engine.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    engine_version: str

    @property
    def truncated(self) -> bool:
        return self.finish_reason == "length"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request gave no sample: `reason` for the rejects table, and the evidence."""

    reason: str
    detail: str


BROKEN_OFF = ("abort", "error")
"""Finish reasons of a sample that the engine ended, not the model: it is no sample."""

Outcome = Sample | Failure
Outcomes = list[tuple[Request, Outcome]]


class SamplingEngine(Protocol):
    """A model that can be sampled; a context manager, which frees the model at its end.

    `family` is part of every request's key, `version` is recorded with every sample. `context` is
    the most tokens that prompt and completion may have together, None where that is not known.
    """

    family: str
    version: str
    context: int | None

    def run(self, requests: Iterable[Request]) -> Generator[Outcomes]:
        """The outcome of each request, in batches, as they come; requests are drawn as needed.

        Raises ProgdataError where the engine cannot go on.
        """
        ...

    def __enter__(self) -> "SamplingEngine": ...

    def __exit__(self, *error: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Asker:
    """Makes the requests of one model under one engine family, settings and seed.

    `context`: tokens that prompt and completion may have together, where the user limits them: a
    completion is then asked for with what is left of them, so that one that they cut off is not
    taken for a longer one later.
    """

    model: str
    revision: str
    family: str
    settings: SamplingSettings
    seed: int = 0
    context: int | None = None

    def requests(self, prompt: Prompt, indices: Iterable[int]) -> Iterator[Request]:
        """The requests for these samples of a prompt."""
        digest, settings = prompt.digest, self._settings_for(prompt)
        for index in indices:
            seed = sample_seed(self.seed, digest, index)
            key = content_id(
                digest,
                self.model,
                self.revision,
                json.dumps(asdict(settings), sort_keys=True),
                str(seed),
                str(index),
                self.family,
            )
            yield Request(key, prompt, settings, index, seed)

    def key(self, prompt: Prompt, index: int) -> str:
        """The key of a sample of a prompt."""
        (request,) = self.requests(prompt, [index])
        return request.key

    def _settings_for(self, prompt: Prompt) -> SamplingSettings:
        own = self.settings
        room = own.max_tokens
        if self.context is not None and prompt.token_ids is not None:
            room = max(1, min(room, self.context - len(prompt.token_ids)))
        return replace(
            own, temperature=float(own.temperature), top_p=float(own.top_p), max_tokens=room
        )


def sample_seed(seed: int, digest: str, index: int) -> int:
    """The seed of one sample: 31 bits of the SHA-256 of "seed/digest of the prompt/index"."""
    text = f"{seed}/{digest}/{index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
