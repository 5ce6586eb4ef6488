"""Asking for what a store does not hold yet, and the keys by which it is found again."""

from array import array
from collections.abc import Callable, Generator, Iterable
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path

import pytest
from shared_data import needs_shared_data

from progdata.builders.ask import LazyEngine, ask
from progdata.builders.errors import ProgdataError
from progdata.builders.sample_store import SampleStore
from progdata.builders.sampling import (
    PAPER,
    Asker,
    Failure,
    Outcome,
    Outcomes,
    Prompt,
    Request,
    Sample,
    SamplingSettings,
    sample_seed,
)
from progdata.builders.sampling_engines import EngineOptions

Answer = Callable[[Request], Outcome]

ASKER = Asker("org/model", "abc123", "scripted", PAPER)
PROMPT = Prompt((("user", "1 + 1?"),), array("I", [1, 2, 3]))


def said(request: Request) -> Outcome:
    return Sample(f"{request.key} {request.seed}", "stop", 3, 2, 0.0, "scripted 1")


class Scripted:
    """An engine that answers by a function, three requests in a batch; what it was asked."""

    family, version = "scripted", "scripted 1"

    def __init__(self, answer: Answer = said, context: int | None = None) -> None:
        self.context = context
        self.answer = answer
        self.asked: list[Request] = []
        self.opened = self.closed = 0

    def run(self, requests: Iterable[Request]) -> Generator[Outcomes]:
        waiting = iter(requests)
        while batch := list(islice(waiting, 3)):
            self.asked += batch
            yield [(request, self.answer(request)) for request in reversed(batch)]

    def __enter__(self) -> "Scripted":
        self.opened += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.closed += 1


def run(
    engine: Scripted,
    requests: Iterable[Request],
    folder: Path,
    watch: Callable[[Outcomes], None] = lambda _: None,
    hold: Callable[[Request], None] = lambda _: None,
) -> dict[str, Failure]:
    with SampleStore(folder) as store, LazyEngine(lambda: engine) as lazy:
        return ask(lazy, requests, store, watch, hold)


def kept(folder: Path, requests: Iterable[Request]) -> list[Outcome | None]:
    with SampleStore(folder) as store:
        return [store.get(own.key) for own in requests]


def some(count: int, prompt: Prompt = PROMPT) -> list[Request]:
    return list(ASKER.requests(prompt, range(count)))


# --- what is asked


def test_every_request_is_asked_and_its_sample_is_kept_under_its_key(tmp_path):
    engine, requests = Scripted(), some(10)
    assert run(engine, requests, tmp_path) == {}
    assert engine.asked == requests and (engine.opened, engine.closed) == (1, 1)
    assert kept(tmp_path, requests) == [said(own) for own in requests]


def test_only_what_is_missing_is_asked_for(tmp_path):
    run(Scripted(), some(4), tmp_path)
    engine, held = Scripted(), []
    run(engine, some(10), tmp_path, hold=held.append)
    assert engine.asked == some(10)[4:] and held == some(10)[:4]


def test_an_engine_that_nobody_needs_is_not_opened(tmp_path):
    run(Scripted(), some(4), tmp_path)
    for requests in (some(4), []):
        engine, watched = Scripted(), []
        assert run(engine, requests, tmp_path, watched.append) == {}
        assert (engine.opened, engine.closed, engine.asked, watched) == (0, 0, [], [])


def test_a_key_is_asked_for_once(tmp_path):
    engine, held = Scripted(), []
    run(engine, [*some(2), *some(3), *some(1)], tmp_path, hold=held.append)
    assert engine.asked == some(3)
    assert [own.index for own in held] == [0, 1, 0]


def test_a_request_that_fails_is_not_asked_for_twice_in_one_run(tmp_path):
    engine = Scripted(lambda _: Failure("refused", "no"))
    run(engine, [*some(1), *some(1)], tmp_path)
    assert len(engine.asked) == 1


def test_failures_are_told_but_not_kept_and_asked_for_again(tmp_path):
    odd = Failure("refused_by_engine", "odd")
    requests = some(6)
    failures = run(Scripted(lambda own: odd if own.index % 2 else said(own)), requests, tmp_path)
    assert failures == {own.key: odd for own in requests if own.index % 2}
    engine = Scripted()
    assert run(engine, requests, tmp_path) == {}
    assert engine.asked == requests[1::2]


def test_a_damaged_sample_is_asked_for_again(tmp_path):
    requests = some(3)
    run(Scripted(), requests, tmp_path)
    with SampleStore(tmp_path) as store:
        store._database.execute(  # as a disk would
            "UPDATE samples SET sample = x'00' WHERE key = ?", (requests[1].key,)
        )
    engine = Scripted()
    run(engine, requests, tmp_path)
    assert engine.asked == [requests[1]]
    assert kept(tmp_path, requests) == [said(own) for own in requests]


def test_what_is_watched_is_kept_by_then(tmp_path):
    batches: list[Outcomes] = []

    def look(outcomes: Outcomes) -> None:
        batches.append(outcomes)
        with SampleStore(tmp_path) as other:
            assert [other.get(own.key) for own, _ in outcomes] == [it for _, it in outcomes]

    run(Scripted(), some(7), tmp_path, look)
    assert [len(batch) for batch in batches] == [0, 3, 3, 1]  # the first says: it is ready


# --- prompts that do not fit


@pytest.mark.parametrize(
    ("tokens", "context", "fits"),
    [(9, 10, True), (10, 10, False), (11, 10, False), (1_000, None, True)],
)
def test_a_prompt_that_leaves_no_room_is_refused_without_asking(tmp_path, tokens, context, fits):
    engine, watched = Scripted(context=context), []
    long = some(2, Prompt((), array("I", range(tokens))))
    failures = run(engine, [long[0], *some(1), long[1]], tmp_path, watched.append)
    assert sorted(own.key for batch in watched for own, _ in batch) == sorted(
        own.key for own in [*long, *some(1)]
    )
    if fits:
        assert failures == {} and len(engine.asked) == 3
    else:
        expected = f"the prompt has {tokens} tokens, the model's context is {context}"
        assert failures == {own.key: Failure("prompt_too_long", expected) for own in long}
        assert engine.asked == some(1)


def test_messages_without_token_ids_are_left_to_the_server(tmp_path):
    engine = Scripted(context=1)
    assert run(engine, some(1, Prompt((("user", "x" * 99),))), tmp_path) == {}
    assert len(engine.asked) == 1


# --- what goes wrong


def dies_at(index: int) -> Answer:
    def answer(request: Request) -> Outcome:
        if request.index == index:
            raise ProgdataError("the engine died")
        return said(request)

    return answer


def test_an_engine_that_dies_keeps_what_came_before(tmp_path):
    engine, requests = Scripted(dies_at(7)), some(10)
    with pytest.raises(ProgdataError, match="the engine died"):
        run(engine, requests, tmp_path)
    assert engine.closed == 1
    assert kept(tmp_path, requests) == [said(own) for own in requests[:6]] + [None] * 4
    again = Scripted()
    run(again, requests, tmp_path)
    assert again.asked == requests[6:]


def test_a_watcher_that_stops_the_run_loses_nothing(tmp_path):
    def stop(outcomes: Outcomes) -> None:
        if outcomes:
            raise KeyboardInterrupt

    engine, requests = Scripted(), some(10)
    with pytest.raises(KeyboardInterrupt):
        run(engine, requests, tmp_path, stop)
    assert engine.closed == 1
    assert [own is not None for own in kept(tmp_path, requests)] == [True] * 3 + [False] * 7


def test_an_engine_that_cannot_be_opened_leaves_nothing_to_close(tmp_path):
    def refuse() -> Scripted:
        raise ProgdataError("no such engine")

    with (
        pytest.raises(ProgdataError, match="no such engine"),
        SampleStore(tmp_path) as store,
        LazyEngine(refuse) as lazy,
    ):
        ask(lazy, some(1), store)


def test_one_engine_is_opened_once_for_several_runs(tmp_path):
    engine = Scripted()
    with SampleStore(tmp_path) as store, LazyEngine(lambda: engine) as lazy:
        ask(lazy, some(2), store)
        ask(lazy, some(4), store)
        assert (engine.opened, engine.closed) == (1, 0)
    assert (engine.opened, engine.closed, len(engine.asked)) == (1, 1, 4)


# --- keys


def first_key(asker: Asker = ASKER, prompt: Prompt = PROMPT, index: int = 0) -> str:
    return next(asker.requests(prompt, [index])).key


OTHERS = {
    "model": replace(ASKER, model="org/other"),
    "revision": replace(ASKER, revision="abc124"),
    "family": replace(ASKER, family="vllm"),
    "seed": replace(ASKER, seed=1),
    "model and revision": replace(ASKER, model="org/modela", revision="bc123"),
    "temperature": replace(ASKER, settings=replace(PAPER, temperature=0.7)),
    "top_p": replace(ASKER, settings=replace(PAPER, top_p=1.0)),
    "max_tokens": replace(ASKER, settings=replace(PAPER, max_tokens=16_383)),
    "context": replace(ASKER, context=100),  # it leaves less than max_tokens
    "stop": replace(ASKER, settings=replace(PAPER, stop=("\n",))),
    "another stop": replace(ASKER, settings=replace(PAPER, stop=("\n\n",))),
    "two stops": replace(ASKER, settings=replace(PAPER, stop=("\n", "\n"))),
}


def test_whatever_changes_what_a_model_says_changes_the_key():
    prompts = [
        Prompt(PROMPT.messages, array("I", [1, 2, 4])),
        Prompt(PROMPT.messages, array("I", [1, 2])),
        Prompt(PROMPT.messages, array("I", [258, 3])),
        Prompt(PROMPT.messages),
        Prompt((("system", "1 + 1?"),)),
        Prompt((("user", "1 + 1? "),)),
        Prompt((("user", "1 + 1?"), ("user", ""))),
    ]
    keys = [first_key(), first_key(index=1), *map(first_key, OTHERS.values())]
    keys += [first_key(prompt=own) for own in prompts]
    assert len(set(keys)) == 2 + len(OTHERS) + len(prompts)
    covered = {own.name for own in fields(Asker)} | {own.name for own in fields(SamplingSettings)}
    assert covered - {"settings"} <= set(OTHERS)


def test_keys_are_the_same_in_every_run():
    """A key that changes is a sample that is paid for again: a format change, to be announced."""
    assert first_key() == "6f13481b8753507411c711aa6f56a3a1"
    assert next(ASKER.requests(PROMPT, [3])).seed == 1_443_897_310
    assert first_key(prompt=Prompt((("user", "1 + 1?"),))) == "5e5e5b610ecf257e172252ffa9bfd598"


def test_a_prompt_that_is_given_as_ids_is_known_by_its_ids_alone():
    assert first_key(prompt=Prompt((), PROMPT.token_ids)) == first_key()


def test_options_of_an_engine_are_in_no_key():
    names = {own.name for own in fields(EngineOptions)}
    assert not names & {own.name for kind in (Asker, SamplingSettings) for own in fields(kind)}


def test_more_samples_keep_the_keys_of_fewer():
    assert some(16)[:4] == some(4)
    assert [own.index for own in some(4)] == [0, 1, 2, 3]
    assert list(ASKER.requests(PROMPT, [3, 0])) == [some(4)[3], some(4)[0]]


def test_lone_surrogates_have_keys_too():
    assert first_key(prompt=Prompt((("user", "\ud800"),))) != first_key(
        prompt=Prompt((("user", "\udfff"),))
    )


# --- seeds


def test_each_sample_has_a_seed_of_its_own_of_31_bits():
    digests = [Prompt((), array("I", [own])).digest for own in range(50)]
    seeds = [sample_seed(seed, own, i) for seed in range(4) for own in digests for i in range(64)]
    assert len(set(seeds)) >= len(seeds) - 3  # two of 12,800 draws from 2**31 may meet
    assert min(seeds) >= 0 and max(seeds) < 2**31
    for bit in range(31):
        share = sum(own >> bit & 1 for own in seeds) / len(seeds)
        assert 0.48 < share < 0.52, f"bit {bit}"


# --- with a real engine


@needs_shared_data
def test_a_real_engine_is_asked_once_and_then_never_again(tmp_path, tiny_model):
    from progdata.builders.chat_template import load_chat_template
    from progdata.builders.transformers_engine import TransformersEngine, TransformersOptions

    opened = []

    def open_engine() -> TransformersEngine:
        opened.append(1)
        return TransformersEngine(tiny_model, TransformersOptions(), tmp_path / "engine.log")

    settings = SamplingSettings(1.0, 1.0, max_tokens=8)
    asker = Asker("tiny", "0", "transformers", settings)
    prompt = load_chat_template(tiny_model).prompt([("user", "1 + 1?")])
    too_long = Prompt((), array("I", [5] * 2_048))
    requests = [*asker.requests(prompt, range(5)), *asker.requests(too_long, [0])]
    for turn in range(2):
        with SampleStore(tmp_path) as store, LazyEngine(open_engine) as lazy:
            failures = ask(lazy, requests[: 5 if turn else 6], store)
            assert [own.reason for own in failures.values()] == ["prompt_too_long"][turn:]
    assert opened == [1]
    samples = kept(tmp_path, requests[:5])
    assert all(
        isinstance(own, Sample) and own.prompt_tokens == len(prompt.token_ids or ())
        for own in samples
    )
    assert len({own.text for own in samples if isinstance(own, Sample)}) == 5
