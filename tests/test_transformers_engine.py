"""The engine of transformers: samples are the model's, and depend on the request alone."""

import json
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shared_data import needs_shared_data
from tiny_model import CONTEXT

from progdata.builders.chat_template import ChatTemplate, load_chat_template
from progdata.builders.errors import ProgdataError
from progdata.builders.sampling import Asker, Failure, Outcome, Prompt, Request, Sample
from progdata.builders.sampling import SamplingSettings as Settings
from progdata.builders.transformers_engine import TransformersEngine, TransformersOptions, _Draw

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = needs_shared_data

GREEDY = Settings(0.0, 1.0, max_tokens=6)
RANDOM = Settings(0.8, 0.9, max_tokens=6)
PROBLEMS = ["1 + 1?", "What is the product of 3 and 4?", "数学 🙂"]


@pytest.fixture(scope="module")
def template(tiny_model: Path) -> ChatTemplate:
    return load_chat_template(tiny_model)


@pytest.fixture(scope="module")
def engine(tiny_model: Path, tmp_path_factory) -> Iterator[TransformersEngine]:
    log = tmp_path_factory.mktemp("log") / "engine.log"
    with TransformersEngine(tiny_model, TransformersOptions(device="cpu"), log) as own:
        yield own


@pytest.fixture
def ask(template: ChatTemplate, engine: TransformersEngine, monkeypatch):
    """The outcomes of problems, in order: of `indices` samples each, in batches of `batch`."""

    def ask(
        settings: Settings,
        problems: list[str] = PROBLEMS,
        indices: int = 1,
        batch: int = 8,
        begun: str = "",
    ) -> list[Outcome]:
        asker = Asker("tiny", "0", engine.family, settings)
        prompts = [template.prompt([("user", text)], begun) for text in problems]
        requests = [own for it in prompts for own in asker.requests(it, range(indices))]
        monkeypatch.setattr(engine, "_options", replace(engine._options, batch_size=batch))
        return answers(engine, requests)

    return ask


def answers(engine: TransformersEngine, requests: list[Request]) -> list[Outcome]:
    """The outcome of each request, in the order of the requests."""
    pairs = [pair for batch in engine.run(requests) for pair in batch]
    assert [own for own, _ in pairs] == requests
    return [outcome for _, outcome in pairs]


def samples(outcomes: list[Outcome]) -> list[Sample]:
    """Samples without the time they took."""
    assert all(isinstance(own, Sample) for own in outcomes), outcomes
    return [replace(own, seconds=0) for own in outcomes if isinstance(own, Sample)]


def request(ids: Sequence[int], settings: Settings = GREEDY) -> Request:
    return Request("key", Prompt((), array("I", ids)), settings, 0, 0)


def greedy(engine: TransformersEngine, ids: Sequence[int], count: int = 6) -> list[int]:
    """What `generate` itself gives for a prompt, without this project's code."""
    inputs = torch.tensor([list(ids)])
    return engine._model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        do_sample=False,
        max_new_tokens=count,
        pad_token_id=151_643,
    )[0, len(ids) :].tolist()


# --- what the model says


def test_greedy_samples_are_what_generate_itself_gives(engine, template, ask):
    for problem, own in zip(PROBLEMS, samples(ask(GREEDY)), strict=True):
        ids = template.prompt([("user", problem)]).token_ids or ()
        assert own.text == template.tokenizer.decode(greedy(engine, ids))
        assert (own.prompt_tokens, own.completion_tokens) == (len(ids), 6)
        assert own.finish_reason == "length" and own.truncated
        assert own.engine_version == engine.version and engine.version.startswith("transformers ")


@pytest.mark.slow
@pytest.mark.parametrize("settings", [GREEDY, RANDOM])
def test_a_sample_does_not_depend_on_its_batch(ask, settings):
    whole = samples(ask(settings, indices=2, batch=16))
    for batch in (1, 4):
        assert samples(ask(settings, indices=2, batch=batch)) == whole


def test_each_sample_of_a_prompt_is_another_and_the_same_every_time(ask):
    first = samples(ask(RANDOM, PROBLEMS[:1], indices=3))
    assert len({own.text for own in first}) == 3
    assert samples(ask(RANDOM, PROBLEMS[:1], indices=3)) == first
    assert len({own.text for own in samples(ask(GREEDY, PROBLEMS[:1], indices=3))}) == 1


def test_random_numbers_of_others_are_left_alone(ask):
    before = torch.random.get_rng_state()
    ask(RANDOM)
    assert torch.equal(torch.random.get_rng_state(), before)


@contextmanager
def configured(model: Path, folder: Path, **own: Any) -> Iterator[TransformersEngine]:
    """An engine whose model has a generation_config.json of its own."""
    for path in model.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "generation_config.json").unlink()
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 151_643} | own))
    with TransformersEngine(folder, TransformersOptions(device="cpu"), folder / "log") as engine:
        yield engine


@pytest.mark.parametrize(
    "own",
    [
        {"repetition_penalty": 1e-6, "max_time": 1e-9},
        {"num_beams": 3, "do_sample": True, "temperature": 0.1, "top_k": 1, "max_length": 3},
    ],
    ids=lambda own: next(iter(own)),
)
def test_settings_of_the_models_own_change_nothing(tiny_model, tmp_path, engine, own):
    """What its generation_config.json asks for beside the tokens that end a completion."""
    requests = [request([5, 6, 7], GREEDY), request([5, 6, 7], RANDOM)]
    with configured(tiny_model, tmp_path, **own) as other:
        found = samples(answers(other, requests))
    assert found == samples(answers(engine, requests))


# --- the distribution of a draw

SCORES = np.log([0.30, 0.25, 0.15, 0.12, 0.08, 0.05, 0.03, 0.02])


@pytest.mark.parametrize(
    ("temperature", "top_p"), [(1.0, 1.0), (0.6, 0.95), (1.5, 0.7), (0.8, 0.5), (0.3, 1.0)]
)
def test_draws_have_the_distribution_of_transformers_own_warpers(
    engine, monkeypatch, temperature, top_p
):
    """A chi-square test of 8,000 draws over all seeds from 0: the same on every machine."""
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    count = 8_000
    batch = [replace(request([1]), seed=seed) for seed in range(count)]
    scores = torch.tensor(SCORES, dtype=torch.float32).repeat(count, 1)
    warped = TemperatureLogitsWarper(temperature)(None, scores[:1])  # type: ignore[arg-type]
    if top_p < 1:
        warped = TopPLogitsWarper(top_p)(None, warped)  # type: ignore[arg-type]
    expected = torch.softmax(warped[0], -1).numpy() * count
    processors = engine._processors(batch, Settings(temperature, top_p))
    drawn = processors(torch.ones((count, 1), dtype=torch.long), scores).argmax(-1)
    found = np.bincount(drawn.numpy(), minlength=len(SCORES))
    possible = expected > 0
    assert found[~possible].sum() == 0
    chi_square = ((found - expected)[possible] ** 2 / expected[possible]).sum()
    assert chi_square < 24.4  # its 0.999 quantile with 7 degrees of freedom, the most there are
    assert np.abs(found - expected).sum() / 2 / count < 0.02


def test_the_steps_of_a_row_are_drawn_independently():
    draw = _Draw(range(4_000))
    scores = torch.zeros((4_000, 2))
    first, second = (draw(None, scores).argmax(-1).numpy() for _ in range(2))
    table = np.histogram2d(first, second, bins=2)[0]
    assert np.abs(table / 4_000 - 0.25).max() < 0.03


# --- how a sample ends


@pytest.fixture
def start(engine, template) -> tuple[Request, list[int]]:
    """A request, and the tokens of its greedy completion."""
    ids = list(template.prompt([("user", PROBLEMS[0])]).token_ids or ())
    return request(ids), greedy(engine, ids)


def stopping(own: Request, *stop: str) -> Request:
    return replace(own, settings=replace(GREEDY, stop=stop))


def test_a_stop_text_ends_a_sample_and_is_not_part_of_it(engine, template, start):
    own, written = start
    whole, stop = template.tokenizer.decode(written), template.tokenizer.decode(written[3:5])
    (sample,) = samples(answers(engine, [stopping(own, "absent", stop[1:])]))
    assert sample.text == whole[: whole.index(stop[1:])]
    assert (sample.finish_reason, sample.completion_tokens) == ("stop", 5)


def test_a_stopped_sample_is_the_same_in_every_batch(engine, template, start):
    own = stopping(start[0], template.tokenizer.decode(start[1][3]))
    other = stopping(request([9, 10]), *own.settings.stop)
    (alone,) = samples(answers(engine, [own]))
    assert alone.finish_reason == "stop" and alone.completion_tokens == 4
    assert samples(answers(engine, [own, other]))[0] == alone


def test_a_stop_text_that_begins_in_the_prompt_stops_nothing(engine, template, start):
    """The prompt ends with a line end, and the completion begins with the rest of the stop text."""
    own, written = start
    assert template.prefill.endswith("\n")
    stop = "\n" + template.tokenizer.decode(written[0])[:1]
    assert samples(answers(engine, [stopping(own, stop)])) == samples(answers(engine, [own]))


def test_the_models_end_token_ends_a_sample_even_at_the_limit(
    tiny_model, tmp_path, template, start
):
    own, written = start
    with configured(tiny_model, tmp_path, eos_token_id=[151_643, written[4]]) as other:
        for limit, reason in ((4, "length"), (5, "stop"), (6, "stop")):
            settings = replace(GREEDY, max_tokens=limit)
            both = [replace(own, settings=settings), request([9], settings)]
            sample = samples(answers(other, both))[0]
            assert sample.text == template.tokenizer.decode(written[:4])
            assert (sample.finish_reason, sample.completion_tokens) == (reason, min(limit, 5))


@pytest.mark.parametrize("limit", [1, 5])
def test_max_tokens_cuts_a_sample(ask, limit):
    for own, whole in zip(
        samples(ask(replace(RANDOM, max_tokens=limit))), samples(ask(RANDOM)), strict=True
    ):
        assert (own.finish_reason, own.completion_tokens) == ("length", limit)
        assert whole.text.startswith(own.text.rstrip("\ufffd"))


@pytest.mark.parametrize("room", [1, 3])
def test_the_context_cuts_a_sample(engine, room):
    (own,) = samples(answers(engine, [request([5] * (CONTEXT - room))]))
    assert engine.context == CONTEXT
    assert (own.finish_reason, own.completion_tokens) == ("length", room)


def test_settings_may_differ_between_requests_of_a_batch(engine, start):
    limits = [3, 3, 5, 3]
    mixed = [replace(start[0], settings=replace(GREEDY, max_tokens=own)) for own in limits]
    assert [own.completion_tokens for own in samples(answers(engine, mixed))] == limits


def test_special_tokens_stay_in_the_text(engine, monkeypatch):
    bos, end = engine._tokenizer.bos_token_id, engine._tokenizer.eos_token_id
    think = engine._tokenizer.convert_tokens_to_ids("</think>")

    def generate(input_ids: Any, **_: Any) -> Any:
        return torch.cat([input_ids, torch.tensor([[think, 16, bos, end, end]])], 1)

    monkeypatch.setattr(engine._model, "generate", generate)
    (own,) = samples(answers(engine, [request([5, 6])]))
    assert own.text == "</think>1" + engine._tokenizer.bos_token
    assert (own.finish_reason, own.completion_tokens) == ("stop", 4)


# --- what goes wrong


def test_too_little_memory_is_one_line_that_says_what_to_do(engine, monkeypatch):
    def generate(**_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")

    monkeypatch.setattr(engine._model, "generate", generate)
    with pytest.raises(ProgdataError) as caught:
        list(engine.run([request([5]), request([6])]))
    assert str(caught.value) == (
        "cpu: out of memory with 2 requests at a time; name a smaller --batch-size or a shorter "
        "--max-tokens"
    )


@pytest.mark.parametrize("ids", [[5, 400_000], []])
def test_a_broken_request_fails_in_one_line(engine, ids):
    (own,) = answers(engine, [request(ids)])
    assert isinstance(own, Failure) and own.reason == "refused_by_engine"
    assert own.detail and "\n" not in own.detail


def test_a_broken_request_fails_alone(engine):
    good = request([5, 6])
    outcomes = answers(engine, [good, request([5, 400_000]), good])
    assert [type(own) for own in outcomes] == [Sample, Failure, Sample]
    assert samples([outcomes[0]]) == samples(answers(engine, [good]))


def test_nothing_asked_is_nothing_done(engine):
    assert list(engine.run([])) == []


@pytest.mark.parametrize("kind", ["an empty folder", "broken weights"])
def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path, tiny_model, kind):
    if kind == "broken weights":
        for path in tiny_model.iterdir():
            (tmp_path / path.name).symlink_to(path)
        (tmp_path / "model.safetensors").unlink()
        (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ProgdataError) as caught:
        TransformersEngine(tmp_path, TransformersOptions())
    assert str(caught.value).startswith(f"{tmp_path}: cannot be loaded: ")
    assert "\n" not in str(caught.value)


def test_a_shorter_context_may_be_asked_for(tiny_model):
    options = TransformersOptions(max_model_len=16, dtype="float32", device="cpu")
    with TransformersEngine(tiny_model, options) as own:
        assert own.context == 16
        (sample,) = samples(answers(own, [request([5] * 12)]))
    assert (sample.finish_reason, sample.completion_tokens) == ("length", 4)
