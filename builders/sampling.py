"""What is asked of a model, and what comes back: the nouns that all sampling engines share.

A *request* is one sample of one prompt. Its key names everything that can change what the model
says, and nothing else, so that a rerun finds what it has (facts.md 6.1). An engine takes requests
and hands back outcomes in any order; it knows of no problem, file or store.
"""

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
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

    def run(self, requests: Iterable[Request]) -> Iterator[Outcomes]:
        """The outcome of each request, in batches, as they come; requests are drawn as needed.

        Raises ProgdataError where the engine cannot go on.
        """
        ...

    def __enter__(self) -> "SamplingEngine": ...

    def __exit__(self, *error: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Asker:
    """Makes the requests of one model under one engine family, settings and seed."""

    model: str
    revision: str
    family: str
    settings: SamplingSettings
    seed: int = 0

    def requests(self, prompt: Prompt, indices: Iterable[int]) -> Iterator[Request]:
        """The requests for these samples of a prompt."""
        digest = prompt.digest
        for index in indices:
            seed = sample_seed(self.seed, digest, index)
            yield Request(self.key(digest, index), prompt, self.settings, index, seed)

    def key(self, digest: str, index: int) -> str:
        """The key of a sample of the prompt that has this digest."""
        return content_id(
            digest,
            self.model,
            self.revision,
            json.dumps(asdict(self.settings), sort_keys=True),
            str(sample_seed(self.seed, digest, index)),
            str(index),
            self.family,
        )


def sample_seed(seed: int, digest: str, index: int) -> int:
    """The seed of one sample: 31 bits of the SHA-256 of "seed/digest of the prompt/index"."""
    text = f"{seed}/{digest}/{index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
