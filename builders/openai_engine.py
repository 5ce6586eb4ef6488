"""Samples from a server that speaks OpenAI's API: `vllm serve`, SGLang, llama.cpp, a hosted model.

A prompt with token ids goes to /completions, so that the server's chat template has no say; one
with messages only goes to /chat/completions. Answers are streamed, so that a server that hangs is
told from one that writes for long.

    with OpenAIEngine("Qwen/Qwen3-8B", base_url="http://localhost:8000/v1") as engine:
        for outcomes in engine.run(requests):
            ...
"""

import asyncio
import os
import re
import time
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from progdata.builders import retries as policy
from progdata.builders.concurrent_requests import run_concurrently
from progdata.builders.errors import ProgdataError, UsageError, missing_extra
from progdata.builders.nearest import did_you_mean
from progdata.builders.retries import BadAnswer, Setback, locked_out, server_down, setback_of
from progdata.builders.sampling import BROKEN_OFF, Failure, Outcome, Outcomes, Request, Sample
from progdata.builders.thinking import from_reasoning

CONNECT_SECONDS = 10.0
FIRST_LOOK_SECONDS = 30.0
FIRST_LOOKS = 3
TAKES_SPECIAL_TOKENS = ("vllm", "sglang")
"""Servers, as they name themselves, that can be told to keep special tokens in the text."""

MODELS_SHOWN = 10


class OpenAIEngine:
    """A model on an OpenAI-compatible server; a context manager, which closes the connections.

    base_url: the server, with its /v1; by default OPENAI_BASE_URL. The key comes from
        OPENAI_API_KEY alone; a server that asks for none needs none.
    concurrency: requests in flight at a time.
    retries: further tries of a request after an error that may pass.
    timeout: seconds without a byte from the server, not a limit on the whole answer; for a server
        that does not stream it is one.
    context: see `SamplingEngine`; by default what the server says of its model, known once `run`
        has begun, as `version` is.

    Token counts are the server's. Where it reports none, `completion_tokens` is 0, and
    `prompt_tokens` the number of token ids sent, or 0.
    Raises UsageError for an option that cannot be, ProgdataError where `openai` is not installed.
    """

    family = "openai"

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        concurrency: int = 64,
        retries: int = 6,
        timeout: float = 600.0,
        context: int | None = None,
    ) -> None:
        if concurrency < 1 or retries < 0 or timeout <= 0:
            raise UsageError(
                f"concurrency {concurrency}, retries {retries}, timeout {timeout}: expected at "
                "least 1, at least 0, and more than 0 seconds"
            )
        self.version: str = "unknown"
        self.context: int | None = context
        self._model, self._timeout = model, timeout
        self._concurrency, self._retries = concurrency, retries
        self._url = _server_url(base_url)
        self._secret = _key()
        self._client = _open_client(self._url, self._secret, timeout)
        self._shown_url = _without_password(self._url)
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._met_server = False
        self._extra: dict[str, Any] = {}
        self._given_up = self._refusals = 0
        self._sampled = False

    def __enter__(self) -> "OpenAIEngine":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):  # a connection that cannot be closed in order is gone as well
            self._runner.get_loop().run_until_complete(self._client.close())
        self._runner.close()  # cancels what a run that was left has in flight

    def run(self, requests: Iterable[Request]) -> Generator[Outcomes]:
        """The outcome of each request, as they come (see `SamplingEngine`).

        A request that is refused, or still fails after all tries, is a Failure. Raises
        ProgdataError where no request can succeed: the server cannot be reached, refuses the key
        or does not know the model; or so many requests fail in a row that it must be down.
        """
        loop = self._runner.get_loop()
        if not self._met_server:
            loop.run_until_complete(self._meet_server())
            self._met_server = True
        yield from run_concurrently(loop, self._sample, requests, self._concurrency)

    async def _sample(self, request: Request) -> Outcome:
        for tries in range(1, self._retries + 2):
            begun = time.perf_counter()
            try:
                answer = await self._ask(request)
            except Exception as error:
                setback = setback_of(error, self._secret)
            else:
                self._given_up, self._sampled = 0, True
                return self._outcome(request, answer, time.perf_counter() - begun)
            if not setback.passing:
                return await self._refused(setback)
            if tries > self._retries:
                return self._give_up(setback, tries)
            await asyncio.sleep(policy.delay(tries, setback))
        raise AssertionError("the last try returns")

    async def _ask(self, request: Request) -> "_Answer":
        """One try. Raises BadAnswer, or an error of the client."""
        from openai import AsyncStream

        path = "/chat/completions" if request.prompt.token_ids is None else "/completions"
        body = _body(self._model, request, self.context) | self._extra
        stream = await self._client.post(
            path,
            body=body,
            cast_to=object,  # plain dicts: servers leave out and add fields as they like
            stream=True,
            stream_cls=AsyncStream[object],
        )
        answer = _Answer()
        try:
            if "json" in stream.response.headers.get("content-type", ""):
                await stream.response.aread()  # a server that does not stream
                answer.take(stream.response.json())
            else:
                async for chunk in stream:
                    answer.take(chunk)
        finally:
            await stream.close()
        answer.check_ended()
        return answer

    def _outcome(self, request: Request, answer: "_Answer", seconds: float) -> Outcome:
        ids = request.prompt.token_ids
        if ids is None and not answer.text.strip():
            return Failure(
                "empty_completion",
                f"neither content nor reasoning, finish_reason {answer.finish_reason}",
            )
        return Sample(
            text=answer.text,
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.tokens("prompt_tokens") or len(ids or ()),
            completion_tokens=answer.tokens("completion_tokens"),
            seconds=round(seconds, 4),
            engine_version=self.version,
        )

    def _give_up(self, setback: Setback, tries: int) -> Failure:
        self._given_up += 1
        if self._given_up >= max(2 * self._concurrency, 16):
            raise server_down(setback, self._shown_url, self._given_up, tries)
        return Failure(setback.reason, f"{setback.detail} (tries: {tries})")

    async def _refused(self, setback: Setback) -> Failure:
        """The failure of a request that is at fault itself; raises where all would fail."""
        self._given_up = 0
        if setback.reason == "refused_by_server":
            self._refusals += 1
            if not self._sampled and self._refusals >= max(2 * self._concurrency, 16):
                raise ProgdataError(
                    f"{self._shown_url}: refused the first {self._refusals} requests: "
                    f"{setback.detail}; see that the server takes them (a lower --max-tokens, or "
                    "the model's --tokenizer)"
                )
            return Failure(setback.reason, setback.detail)
        if setback.reason == "not_found":
            listed: dict[str, Any] = {}
            with suppress(Exception):  # then the error goes without the list
                listed, _ = await self._models()
            raise self._unknown_model(setback.detail, listed)
        raise locked_out(setback, self._shown_url)

    def _unknown_model(self, detail: str, listed: dict[str, Any]) -> ProgdataError:
        if listed:
            names = sorted(listed)
            more = f" and {len(names) - MODELS_SHOWN} more" if len(names) > MODELS_SHOWN else ""
            has = f"it has {', '.join(names[:MODELS_SHOWN])}{more}"
        else:
            has = "see that the model's name is right and that the base URL ends as it should (/v1)"
        return ProgdataError(
            f"{self._shown_url}: no model {self._model!r} ({detail})"
            f"{did_you_mean(self._model, listed)}; {has}"
        )

    async def _meet_server(self) -> None:
        """See that the server is there and has the model; learn its version and context."""
        listed, software = await self._first_look()
        own = listed.get(self._model) or listed.get(self._model.partition(":")[0])
        if listed and own is None:  # "model:free" is asked of the listed "model"
            raise self._unknown_model("not in its list", listed)
        own = own or {}
        length = own.get("max_model_len")
        if self.context is None and isinstance(length, int):
            self.context = length
        owner = str(own.get("owned_by") or "")
        if owner in TAKES_SPECIAL_TOKENS:  # `</think>` is a special token in some tokenizers
            self._extra = {"skip_special_tokens": False}
        number = await self._version_number()
        self.version = f"{owner or 'openai'} {number}" if number else software or "unknown"

    async def _first_look(self) -> tuple[dict[str, Any], str]:
        """The models of the server, none where it does not list them, and its Server header."""
        setback = Setback("connection", "")
        for look in range(FIRST_LOOKS):
            await asyncio.sleep(look * policy.BASE_DELAY / 2)
            try:
                return await self._models()
            except Exception as error:
                setback = setback_of(error, self._secret)
            if not setback.passing:
                break
        if setback.status == 401:
            raise locked_out(setback, self._shown_url)
        if setback.passing and setback.reason != "rate_limited":
            raise ProgdataError(
                f"{self._shown_url}: no OpenAI-compatible server answers there: {setback.detail}; "
                "start it, or give its base URL, which mostly ends in /v1"
            )
        return {}, ""  # 403 too: a key may be good for samples only

    async def _models(self) -> tuple[dict[str, Any], str]:
        """What the server lists, by name, and its Server header. Raises errors of the client."""
        seconds = min(self._timeout, FIRST_LOOK_SECONDS)
        answer = await self._client.models.with_raw_response.list(timeout=seconds)
        listing = answer.http_response.json()
        if isinstance(listing, dict):
            listing = listing.get("data")
        entries = [each for each in listing or [] if isinstance(each, dict) and each.get("id")]
        return {str(each["id"]): each for each in entries}, answer.headers.get("server", "")

    async def _version_number(self) -> str:
        """What vLLM's GET /version says; empty where there is none."""
        address = f"{self._url.removesuffix('/v1')}/version"
        options = {"timeout": min(self._timeout, CONNECT_SECONDS)}
        with suppress(Exception):  # most servers have none
            answer = await self._client.get(address, cast_to=object, options=options)
            return " ".join(str(answer["version"]).split())
        return ""


@dataclass(slots=True)
class _Answer:
    """What has come of an answer: the pieces of a stream, or all of it at once."""

    finish_reason: str = ""
    _content: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _usage: dict[str, Any] = field(default_factory=dict)

    def take(self, chunk: Any) -> None:
        """Add one JSON object of the server. Raises BadAnswer for an error or an unknown shape."""
        try:
            if error := chunk.get("error"):
                raise BadAnswer(f"an error: {policy.said_by_server(error)}", "server_error")
            self._usage.update(chunk.get("usage") or {})
            for choice in chunk.get("choices") or ():
                part = choice.get("delta") or choice.get("message") or choice
                self._content.append(_text(part, "content", "text"))
                self._reasoning.append(_text(part, "reasoning_content", "reasoning"))
                self.finish_reason = str(choice.get("finish_reason") or self.finish_reason)
        except (AttributeError, TypeError, ValueError) as error:
            raise BadAnswer(f"JSON of an unknown shape: {str(chunk)[:100]}") from error

    def check_ended(self) -> None:
        """Raises BadAnswer where the model was not done."""
        if not self.finish_reason:
            raise BadAnswer("the answer was cut: it ended without a finish_reason")
        if self.finish_reason in BROKEN_OFF:
            raise BadAnswer(f"the server broke it off (finish_reason {self.finish_reason})")

    @property
    def text(self) -> str:
        content, reasoning = "".join(self._content), "".join(self._reasoning)
        return from_reasoning(reasoning, content) if reasoning else content

    def tokens(self, name: str) -> int:
        """A count of the usage, 0 where there is none."""
        count = self._usage.get(name)
        return count if isinstance(count, int) else 0


def _text(part: dict[str, Any], *names: str) -> str:
    """The first of these fields that holds text: servers name it one way, or both."""
    text = next((part[name] for name in names if part.get(name)), "")
    if not isinstance(text, str):
        raise TypeError(f"{names[0]} is no text")
    return text


def _body(model: str, request: Request, context: int | None) -> dict[str, Any]:
    own, prompt = request.settings, request.prompt
    room = own.max_tokens
    if context is not None and prompt.token_ids is not None:  # servers refuse more than there is
        room = max(1, min(room, context - len(prompt.token_ids)))
    body: dict[str, Any] = {
        "model": model,
        "temperature": own.temperature,
        "top_p": own.top_p,
        "max_tokens": room,
        "seed": request.seed,
        "n": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if own.stop:
        body["stop"] = list(own.stop)
    if prompt.token_ids is not None:
        return body | {"prompt": list(prompt.token_ids)}
    return body | {"messages": [{"role": role, "content": text} for role, text in prompt.messages]}


def _server_url(given: str | None) -> str:
    url = (given or os.environ.get("OPENAI_BASE_URL", "")).strip().rstrip("/")
    if not url:
        raise UsageError(
            "no server was named: give its base URL, such as http://localhost:8000/v1, or set "
            "OPENAI_BASE_URL"
        )
    if not re.match(r"https?://[^/]", url):
        raise _wrong_url(url, "expected one like http://localhost:8000/v1")
    return url


def _wrong_url(url: str, reason: str) -> UsageError:
    return UsageError(f"base URL {_without_password(url)!r}: {reason}")


def _without_password(url: str) -> str:
    return re.sub(r"[^/@]+@", "", url)


def _key() -> str:
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError("OPENAI_API_KEY holds characters that no key has: set it anew")
    return key


def _open_client(url: str, key: str, timeout: float) -> Any:
    try:
        from openai import AsyncOpenAI, Timeout
    except ImportError as error:
        raise missing_extra("openai", "openai") from error
    # The client's own retries end where a stream begins; requests beyond its pool wait their turn.
    limits = Timeout(timeout, connect=min(timeout, CONNECT_SECONDS), pool=None)
    try:
        return AsyncOpenAI(api_key=key or "none", base_url=url, max_retries=0, timeout=limits)
    except Exception as error:
        raise _wrong_url(url, setback_of(error, key).detail) from error
