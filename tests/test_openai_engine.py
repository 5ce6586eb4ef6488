"""The OpenAI engine against a real server over loopback HTTP that misbehaves by script."""

import itertools
import logging
import sys
import time
from array import array
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from misbehaving_server import (
    Act,
    Handler,
    MisbehavingServer,
    answer,
    at_once,
    close_at_once,
    cut,
    expected_text,
    hang,
    refuse,
    send,
    stream,
)

from progdata.builders import retries
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.openai_engine import OpenAIEngine
from progdata.builders.retries import Setback, delay, retry_after
from progdata.builders.sampling import (
    Failure,
    Outcome,
    Prompt,
    Request,
    Sample,
    SamplingEngine,
    SamplingSettings,
)

pytest.importorskip("openai")

KEY = "sk-secret-0123456789"
PATIENT, HASTY = 60.0, 0.8
"""Seconds that no busy machine makes the server miss, and that a server that hangs must miss."""


@pytest.fixture(autouse=True)
def own_settings(monkeypatch):
    """No key, server or proxy of the machine's; retries that wait for next to nothing."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(retries, "BASE_DELAY", 0.01)


@pytest.fixture
def server():
    with MisbehavingServer() as running:
        yield running


def by_ids(index: int = 0, **settings: Any) -> Request:
    prompt = Prompt((("user", "2+2?"),), array("I", (1, 2, 3 + index)))
    return Request(f"key{index}", prompt, SamplingSettings(**settings), index, 1000 + index)


def by_messages(index: int = 0, **settings: Any) -> Request:
    prompt = Prompt((("system", "Think."), ("user", "2+2?")))
    return Request(f"key{index}", prompt, SamplingSettings(**settings), index, 1000 + index)


def sampled(server: MisbehavingServer, *requests: Request, **options: Any) -> dict[str, Outcome]:
    """The outcomes by key of an engine on this server."""
    options = {"timeout": PATIENT, "retries": 2, "base_url": server.url} | options
    engine: SamplingEngine = OpenAIEngine("tiny", **options)
    with engine:
        return {
            request.key: outcome for batch in engine.run(requests) for request, outcome in batch
        }


def one(server: MisbehavingServer, request: Request, **options: Any) -> Outcome:
    return sampled(server, request, **options)[request.key]


def text_of(outcome: Outcome) -> str:
    assert isinstance(outcome, Sample), outcome
    return outcome.text


def the_error(server: MisbehavingServer, request: Request | None = None, **options: Any) -> str:
    """The one line of the error that ends a run."""
    with pytest.raises(ProgdataError) as caught:
        sampled(server, request or by_ids(), **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# What is asked, and what a sample holds


def test_token_ids_go_to_completions_with_all_settings(server):
    request = by_ids(4, temperature=0.7, top_p=0.9, max_tokens=99, stop=("END", "###"))
    sample = one(server, request)
    (asked,) = server.asked
    assert asked.path == "/v1/completions"
    assert asked.body == {
        "model": "tiny",
        "prompt": [1, 2, 7],
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 99,
        "seed": 1004,
        "n": 1,
        "stop": ["END", "###"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert isinstance(sample, Sample)
    assert sample.text == expected_text(asked.body)
    assert (sample.finish_reason, sample.truncated) == ("stop", False)
    assert (sample.prompt_tokens, sample.completion_tokens) == (5, 32)


def test_messages_go_to_chat_and_no_stop_is_sent_where_there_is_none(server):
    sample = one(server, by_messages())
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body["messages"] == [
        {"role": "system", "content": "Think."},
        {"role": "user", "content": "2+2?"},
    ]
    assert not {"stop", "prompt"} & set(asked.body)
    assert text_of(sample) == expected_text(asked.body)


def test_each_request_has_its_own_outcome(server):
    requests = [by_ids(index) for index in range(30)]
    outcomes = sampled(server, *requests, concurrency=7)
    texts = {asked.body["seed"]: expected_text(asked.body) for asked in server.asked}
    assert len(set(texts.values())) == 30
    assert {key: text_of(sample) for key, sample in outcomes.items()} == {
        request.key: texts[request.seed] for request in requests
    }


def test_no_more_than_concurrency_are_in_flight_and_as_many_are(server):
    def meet_five(handler: Handler, body: dict[str, Any]) -> None:
        deadline = time.monotonic() + 20
        while server.most_at_once < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        answer(before=0.05)(handler, body)

    server.always = meet_five
    sampled(server, *map(by_ids, range(20)), concurrency=5)
    assert server.most_at_once == 5


def test_requests_are_drawn_as_needed(server):
    drawn = itertools.count()
    requests = (by_ids(next(drawn)) for _ in range(50))
    with (
        OpenAIEngine("tiny", base_url=server.url, concurrency=3) as engine,
        closing(engine.run(requests)) as running,  # pyright: ignore[reportArgumentType]
    ):
        next(running)
        assert next(drawn) <= 3


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize(
    ("reasoning", "text", "expected"),
    [
        ("two and two", "is 4", "<think>\ntwo and two\n</think>\n\nis 4"),
        ("two and", "", "<think>\ntwo and"),
        ("", "<think>two and two</think> is 4", "<think>two and two</think> is 4"),
        ("", "two and two</think> is 4", "two and two</think> is 4"),
    ],
)
def test_thinking_is_taken_inline_and_apart(server, field, reasoning, text, expected):
    server.always = answer(text, reasoning=reasoning, field=field)
    assert text_of(one(server, by_messages())) == expected


def test_reasoning_under_both_names_is_taken_once(server):
    delta = {"reasoning": "so", "reasoning_content": "so", "content": "4"}
    server.always = stream({"choices": [{"delta": delta, "finish_reason": "stop"}]})
    assert text_of(one(server, by_messages())) == "<think>\nso\n</think>\n\n4"


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_a_chat_without_content_and_reasoning_is_an_empty_completion(server, text):
    server.always = answer(text)
    outcome = one(server, by_messages())
    assert isinstance(outcome, Failure)
    assert outcome.reason == "empty_completion"
    assert len(server.asked) == 1


def test_a_completion_that_ends_at_once_is_a_sample(server):
    server.always = answer("")
    assert text_of(one(server, by_ids())) == ""


def test_the_limit_of_tokens_shows(server):
    server.always = answer(finish="length")
    sample = one(server, by_ids())
    assert isinstance(sample, Sample)
    assert sample.truncated


def test_without_usage_the_counts_are_those_that_are_known(server):
    server.always = answer(usage=False)
    sample = one(server, by_ids())
    assert isinstance(sample, Sample)
    assert (sample.prompt_tokens, sample.completion_tokens) == (3, 0)
    sample = one(server, by_messages())
    assert isinstance(sample, Sample)
    assert (sample.prompt_tokens, sample.completion_tokens) == (0, 0)


def test_a_server_that_does_not_stream_is_read_too(server):
    server.always = at_once()
    sample = one(server, by_ids())
    assert text_of(sample) == expected_text(server.asked[0].body)
    assert isinstance(sample, Sample)
    assert sample.completion_tokens == 32
    server.always = at_once(content="4", reasoning="so")
    assert text_of(one(server, by_messages())) == "<think>\nso\n</think>\n\n4"


def test_seconds_are_those_of_the_try_that_gave_the_sample(server):
    server.script = [refuse(429, Retry_After="1"), answer(before=0.3)]
    sample = one(server, by_ids())
    assert isinstance(sample, Sample)
    assert sample.seconds >= 0.3
    begun = server.asked[1].at
    assert sample.seconds <= time.monotonic() - begun + 0.9


# What passes, and what does not

PASSING: list[tuple[str, Act, str, str]] = [
    ("429", refuse(429, "slow down"), "rate_limited", "status 429: slow down"),
    ("408", refuse(408, "late"), "timeout", "status 408: late"),
    ("409", refuse(409, "busy"), "server_error", "status 409: busy"),
    ("500", refuse(500, "a\nb"), "server_error", "status 500: a b"),
    ("503", refuse(503, "loading"), "server_error", "status 503: loading"),
    ("closed before headers", close_at_once(), "connection", "Error"),
    ("closed in the stream", cut(after=3), "connection", "Error"),
    ("no finish_reason", answer(finish=None), "broken_answer", "without a finish_reason"),
    ("nothing but the end", stream(), "broken_answer", "without a finish_reason"),
    ("aborted by the server", answer(finish="abort"), "broken_answer", "finish_reason abort"),
    ("wrong JSON in the stream", stream('{"choices": [{'), "broken_answer", "JSONDecodeError"),
    ("no object in the stream", stream("7"), "broken_answer", "unknown shape: 7"),
    ("choices of no known shape", stream({"choices": [3]}), "broken_answer", "unknown shape"),
    ("content that is no text", stream(
        {"choices": [{"text": ["a"], "finish_reason": "stop"}]}
    ), "broken_answer", "unknown shape"),
    ("usage of no known shape", stream({"usage": 3}), "broken_answer", "unknown shape"),
    ("wrong JSON at once", send(b"{"), "broken_answer", "JSONDecodeError"),
    ("no UTF-8 at once", send(b'{"a": "\xff"}'), "broken_answer", ""),
    ("error in the stream", stream({"error": {"message": "dead"}}), "server_error", "dead"),
    ("429 in the stream", stream({"error": {"code": 429}}), "rate_limited", "429"),
    ("error at once", send({"error": {"message": "dead"}}), "server_error", "dead"),
]  # fmt: skip


@pytest.mark.parametrize(
    "act", [act for _, act, _, _ in PASSING], ids=[name for name, *_ in PASSING]
)
def test_what_may_pass_is_tried_again(server, act):
    server.script = [act, act]
    assert text_of(one(server, by_ids())) == expected_text(server.asked[0].body)
    assert len(server.asked) == 3
    assert server.asked[0].body == server.asked[2].body


@pytest.mark.parametrize(
    ("act", "reason", "detail"), [row[1:] for row in PASSING], ids=[name for name, *_ in PASSING]
)
def test_what_does_not_pass_is_a_failure_with_its_reason(server, act, reason, detail):
    server.always = act
    outcome = one(server, by_ids())
    assert isinstance(outcome, Failure)
    assert outcome.reason == reason
    assert detail in outcome.detail
    assert outcome.detail.endswith("(tries: 3)")
    assert "\n" not in outcome.detail
    assert len(server.asked) == 3


@pytest.mark.parametrize("after", [-1, 0, 2])
def test_a_server_that_hangs_is_noticed(server, after):
    server.script = [hang(after)]
    outcome = one(server, by_ids(), timeout=HASTY, retries=6)
    assert text_of(outcome) == expected_text(server.asked[0].body)
    assert len(server.asked) >= 2
    server.always = hang(after)
    outcome = one(server, by_ids(), timeout=HASTY, retries=0)
    assert isinstance(outcome, Failure)
    assert outcome.reason == "timeout"
    assert "ReadTimeout" in outcome.detail


def test_the_timeout_is_for_a_byte_and_not_for_the_answer(server):
    server.always = answer("a b c d e f g h i j", pause=0.25)
    sample = one(server, by_ids(), timeout=2.0, retries=0)
    assert text_of(sample) == "a b c d e f g h i j"
    assert isinstance(sample, Sample)
    assert sample.seconds > 2.0


@pytest.mark.parametrize("status", [400, 413, 422, 418])
def test_a_request_at_fault_is_refused_without_another_try(server, status):
    server.script = [refuse(status, "the prompt is\ntoo long")]
    outcomes = sampled(server, by_ids(0), by_ids(1), concurrency=1)
    assert outcomes["key0"] == Failure(
        "refused_by_server", f"status {status}: the prompt is too long"
    )
    assert isinstance(outcomes["key1"], Sample)
    assert len(server.asked) == 2


def test_one_bad_sample_does_not_lose_the_others(server):
    server.script = [answer(), refuse(400), cut(2), close_at_once(), stream("{"), refuse(500)]
    outcomes = sampled(server, *map(by_ids, range(12)), concurrency=4)
    assert sum(isinstance(outcome, Sample) for outcome in outcomes.values()) == 11


# How long is waited


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for(server, status):
    server.script = [refuse(status, Retry_After="1")]
    assert isinstance(one(server, by_ids()), Sample)
    first, second = server.asked
    assert second.at - first.at >= 1


def test_retry_after_may_be_a_date(server):
    when = datetime.now(UTC) + timedelta(seconds=3)
    server.script = [refuse(429, Retry_After=format_datetime(when, usegmt=True))]
    assert isinstance(one(server, by_ids()), Sample)
    assert datetime.now(UTC) >= when.replace(microsecond=0)


NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0.5", 0.5),
        ("3600", 600),
        ("inf", 600),
        ("-5", 0),
        ("nan", 0),
        ("soon", 0),
        ("", 0),
        ("Fri, 01 May 2026 12:01:30 GMT", 90),
        ("Fri, 01 May 2026 12:01:30 -0000", 90),
        ("Fri, 01 May 2026 14:01:30 +0200", 90),
        ("Fri, 01 May 2026 11:00:00 GMT", 0),
        ("Sat, 02 May 2026 12:00:00 GMT", 600),
        ("Fri, 99 May 2026 12:00:00 GMT", 0),
    ],
)
def test_retry_after_is_read(value, seconds):
    assert retry_after({"retry-after": value}, NOON) == seconds


def test_delays_double_up_to_a_limit_and_are_spread(monkeypatch):
    monkeypatch.setattr(retries, "BASE_DELAY", 2.0)
    setback = Setback("server_error", "")
    for tries, most in [(1, 2), (2, 4), (5, 32), (6, 60), (5000, 60)]:
        delays = {delay(tries, setback) for _ in range(50)}
        assert most / 2 <= min(delays) < max(delays) <= most


def test_the_longer_of_backoff_and_retry_after_is_waited(monkeypatch):
    monkeypatch.setattr(retries, "BASE_DELAY", 2.0)
    assert 100 <= delay(1, Setback("rate_limited", "", 429, 100)) <= 102
    assert 30 <= delay(9, Setback("rate_limited", "", 429, 1)) <= 60


# What ends a run


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_ends_the_run_and_is_not_shown(server, status, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.always = refuse(status, f"Incorrect API key provided: {KEY}")
    message = the_error(server)
    assert f"status {status}: Incorrect API key provided: ***" in message
    assert "set OPENAI_API_KEY" in message
    assert KEY not in message
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "act", [refuse(402, "Insufficient Balance"), refuse(429, "quota", code="insufficient_quota")]
)
def test_a_spent_account_ends_the_run(server, act):
    server.always = act
    assert "add credit" in the_error(server)
    assert len(server.asked) == 1


@pytest.mark.parametrize("act", [refuse(404, "gone"), refuse(400, "gone", code="model_not_found")])
def test_an_unknown_model_ends_the_run_with_those_there_are(server, act):
    server.models = [{"id": "tiny"}, {"id": "tinier"}]
    server.always = act
    message = the_error(server)
    assert "no model 'tiny'" in message
    assert "gone" in message
    assert "it has tinier, tiny" in message


@pytest.mark.parametrize("status", [404, 405])
def test_a_wrong_path_ends_the_run_also_where_no_models_are_listed(server, status):
    server.models, server.always = None, refuse(status)
    assert "base URL" in the_error(server)


def test_a_server_that_is_down_ends_the_run(server):
    server.always = refuse(503, "engine is dead")
    done: list[Outcome] = []
    with (
        OpenAIEngine("tiny", base_url=server.url, concurrency=2, retries=1) as engine,
        pytest.raises(ProgdataError, match=r"16 requests in a row.*503: engine is dead.*again"),
    ):
        for batch in engine.run(map(by_ids, range(1000))):
            done += [outcome for _, outcome in batch]
    assert len(done) <= 15
    assert len(server.asked) <= 16 * 2 + 2


def test_a_server_that_refuses_every_request_ends_the_run(server):
    """It does not take what we send: 160,000 refusals would say no more than the first ones."""
    server.always = refuse(400, "unknown field seed")
    with pytest.raises(ProgdataError, match=r"refused the first 16 requests: .*unknown field seed"):
        sampled(server, *map(by_ids, range(40)), concurrency=1)
    assert len(server.asked) == 16
    server.always = answer()
    server.script = [answer(), *[refuse(400)] * 20]
    outcomes = sampled(server, *map(by_ids, range(21)), concurrency=1)
    assert sum(isinstance(own, Failure) for own in outcomes.values()) == 20


def test_more_tokens_than_there_is_room_for_are_not_asked_for(server):
    request = by_ids(max_tokens=100)
    one(server, request, context=50)
    assert server.asked[-1].body["max_tokens"] == 50 - len(request.prompt.token_ids or ())


def test_a_sample_between_failures_shows_that_the_server_lives(server):
    server.script = ([refuse(503)] * 12 + [answer()]) * 3
    outcomes = sampled(server, *map(by_ids, range(39)), concurrency=1, retries=0)
    assert sum(isinstance(outcome, Sample) for outcome in outcomes.values()) == 3


# The first look at a server


def test_an_unreachable_server_is_named():
    with MisbehavingServer() as gone:
        pass
    message = the_error(gone)
    assert gone.url in message
    assert "start it" in message


@pytest.mark.parametrize("act", [refuse(503), close_at_once(), refuse(500)])
def test_the_first_look_is_taken_again(server, act):
    server.models_script = [act, act]
    assert isinstance(one(server, by_ids()), Sample)
    assert server.looks == 3


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (refuse(503, "loading"), "loading"),
        (send(b"<html>"), "/v1"),
        (hang(), "ReadTimeout"),
    ],
)
def test_a_server_that_cannot_list_its_models_now_is_not_asked(server, act, told):
    server.models_script = [act] * 5
    assert told in the_error(server, timeout=HASTY)
    assert not server.asked


@pytest.mark.parametrize("status", [404, 405, 403, 400])
def test_a_server_without_a_list_of_models_is_accepted(server, status):
    server.models_script = [refuse(status)]
    sample = one(server, by_ids())
    assert isinstance(sample, Sample)
    assert sample.engine_version == "unknown"


@pytest.mark.parametrize("listing", [[{"id": "tiny"}], {"data": [{"id": "tiny"}]}, {"data": None}])
def test_lists_of_other_shapes_are_read(server, listing):
    server.models_script = [send(listing)]
    assert isinstance(one(server, by_ids()), Sample)
    assert server.looks == 1


def test_a_key_refused_at_the_first_look_ends_the_run(server):
    server.models_script = [refuse(401, "no key")]
    assert "set OPENAI_API_KEY" in the_error(server)
    assert not server.asked


def test_a_model_that_is_not_listed_ends_the_run(server):
    server.models = [{"id": "tiny-2"}] + [{"id": f"other{index}"} for index in range(30)]
    message = the_error(server)
    assert "no model 'tiny'" in message
    assert "did you mean 'tiny-2'?" in message
    assert "and 21 more" in message
    assert not server.asked


def test_context_and_version_are_learnt_from_vllm(server):
    server.models = [{"id": "tiny", "owned_by": "vllm", "max_model_len": 4096}]
    server.version = "0.32.0"
    with OpenAIEngine("tiny", base_url=server.url) as engine:
        ((_, sample),) = next(iter(engine.run([by_ids()])))
        assert engine.context == 4096
        assert engine.version == "vllm 0.32.0"
    assert isinstance(sample, Sample)
    assert sample.engine_version == "vllm 0.32.0"
    assert server.asked[0].body["skip_special_tokens"] is False


def test_a_context_that_was_given_stays_and_a_server_may_be_known_by_its_header(server):
    server.models = [{"id": "tiny", "max_model_len": 4096}]
    with OpenAIEngine("tiny", base_url=server.url, context=100) as engine:
        assert list(engine.run([])) == []
        assert engine.context == 100
        assert engine.version == "Loopback"


# Its edges


def test_an_engine_runs_again_and_looks_once(server):
    with OpenAIEngine("tiny", base_url=server.url) as engine:
        for index in range(3):
            assert len(list(engine.run([by_ids(index)]))) == 1
    assert server.looks == 1


def test_a_run_may_be_left_with_requests_in_flight(server):
    server.script = [answer()]
    server.always = hang(1)
    with OpenAIEngine("tiny", base_url=server.url, concurrency=4) as engine:
        running = engine.run(map(by_ids, range(100)))
        assert len(next(running)) == 1
        begun = time.monotonic()
    assert time.monotonic() - begun < 20  # the server hangs for longer
    running.close()  # pyright: ignore[reportAttributeAccessIssue]  # as garbage collection does


def test_the_server_and_key_come_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert isinstance(one(server, by_ids(), base_url=None), Sample)
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_server_without_a_key_is_sent_none(server):
    one(server, by_ids())
    assert server.asked[0].headers["authorization"] == "Bearer none"


def test_the_key_is_in_no_log_repr_or_failure(server, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    server.always = refuse(500, f"bad key {KEY}")
    assert KEY not in repr(one(server, by_ids()))
    assert KEY not in repr(OpenAIEngine("tiny", base_url=server.url))
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": None},
        {"base_url": "localhost:8000/v1"},
        {"base_url": "http://"},
        {"base_url": "http://localhost:port/v1"},
        {"concurrency": 0},
        {"retries": -1},
        {"timeout": 0},
    ],
)
def test_options_that_cannot_be_are_wrong_use(options):
    with pytest.raises(UsageError) as caught:
        OpenAIEngine("tiny", **{"base_url": "http://localhost:1/v1"} | options)
    assert "\n" not in str(caught.value)


def test_a_key_that_no_header_can_hold_is_wrong_use(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-é")
    with pytest.raises(UsageError, match="OPENAI_API_KEY") as caught:
        OpenAIEngine("tiny", base_url="http://localhost:1/v1")
    assert "sk-" not in str(caught.value)


def test_a_password_in_the_url_is_not_shown(server):
    server.always = refuse(401)
    message = the_error(server, base_url=server.url.replace("://", "://me:hunter2@"))
    assert "hunter2" not in message
    assert server.url in message


def test_the_extra_is_named_where_the_client_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ProgdataError, match=r"progdata\[openai\]"):
        OpenAIEngine("tiny", base_url="http://localhost:1/v1")
