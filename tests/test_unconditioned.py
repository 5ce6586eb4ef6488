"""Predictions asked afresh: the prompts that a model is given, and what becomes of its answers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from shared_data import needs_shared_data
from tiny_model import BOS, make_small_model

from progdata.builders.errors import ProgdataError
from progdata.builders.markers import DEFAULT
from progdata.builders.prompts import find_profile
from progdata.builders.sampling import Sample
from progdata.builders.sampling_engines import EngineOptions
from progdata.builders.special_tokens import add_progress_tokens
from progdata.cards.eval_tables import eval_summary
from progdata.training_refs.evaluated import EvalSettings, evaluate
from progdata.training_refs.evaluation_settings import asked_model
from progdata.training_refs.unconditioned import read_label

pytestmark = needs_shared_data

THINK = "Two<progressbar>30%</progressbar> and two\n<progressbar>160%</progressbar>make four."
PLAIN = ["Two", "Two and two\n"]


QUESTION = "What is 2 + 2?"


def prompts() -> list[str]:
    """What the model must be given, one prompt a marker of THINK."""
    asked = find_profile("deepscaler").ask(QUESTION)
    return [
        f"{BOS}<｜User｜>{asked}<｜Assistant｜><think>\n{before}{DEFAULT.opening}"
        for before in PLAIN
    ]


def teach(folder: Path, answer: str) -> None:
    """Overfit the model in `folder` on `answer` after each of the prompts."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
    model: Any = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    answered = tokenizer(answer, add_special_tokens=False).input_ids
    loss = [1.0]
    while max(loss) > 0.05:
        loss = []
        for prompt in prompts():
            ids = tokenizer(prompt, add_special_tokens=False).input_ids
            labels = torch.tensor([[-100] * len(ids) + answered])
            error = model(input_ids=torch.tensor([ids + answered]), labels=labels).loss
            error.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.append(error.item())
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> Path:
    """A small model that has learnt to answer 60 %, and nothing else."""
    folder = make_small_model(tmp_path_factory.mktemp("taught") / "model")
    teach(folder, f"60%{DEFAULT.closing}")
    return folder


@pytest.fixture
def settings(taught, tmp_path) -> EvalSettings:
    rows = [
        {"problem": QUESTION, "answer": "4", "completion": f"{THINK}</think> \\boxed{{4}}"},
        {"problem": "And 1 + 1?", "answer": "2", "completion": "<think>Two.</think> \\boxed{2}"},
    ]
    path = tmp_path / "traces.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return EvalSettings(
        str(path),
        workers=1,
        out=tmp_path / "out",
        unconditioned=True,
        model=str(taught),
        engine="transformers",
        options=EngineOptions(dtype="float32"),
    )


def sample(text: str, finish_reason: str = "stop") -> Sample:
    return Sample(text, finish_reason, 1, 1, 0.0, "")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("60%", 60),
        ("[60%]", 60),
        ("145%", 145),
        ("-3%", -3),
        ("60", None),
        (" 60%", None),
        ("", None),
        ("60%</progressbar><progressbar>5%", None),
        ("60%</progressbar>", None),
    ],
)
def test_a_label_is_read_in_both_styles_and_nothing_else_is(text, label):
    assert read_label(sample(text), DEFAULT) == label


def test_an_answer_that_was_cut_off_is_no_label():
    assert read_label(sample("60%", "length"), DEFAULT) is None


def test_both_are_compared_on_the_same_positions(settings):
    report = evaluate(settings)
    asked = report["asked_afresh"]
    assert (asked["asked"], asked["unanswered"], asked["new"]) == (2, {}, 2)
    found = report["compared"]["unconditioned"]
    markers = pl.read_parquet(settings.out / "markers.parquet")
    assert markers["unconditioned"].to_list() == [0.6, 0.6]
    truth = markers["truth"].to_list()
    assert (found["positions"], found["none"]) == (2, 0)
    assert found["other"]["raw"]["micro"]["mean"] == pytest.approx(
        (abs(0.6 - truth[0]) + abs(0.6 - truth[1])) / 2
    )
    assert found["model"]["raw"]["micro"]["mean"] == pytest.approx(
        (abs(0.3 - truth[0]) + abs(1.6 - truth[1])) / 2
    )
    assert found["other"]["filtered"]["micro"]["mean"] == pytest.approx(abs(0.6 - truth[0]))
    assert found["model"]["filtered"]["micro"]["mean"] == pytest.approx(abs(0.3 - truth[0]))
    assert "unconditioned" in eval_summary(report)


def test_the_model_is_given_the_thinking_without_markers_and_the_opening_tag(settings, monkeypatch):
    from transformers import AutoTokenizer

    from progdata.builders.transformers_engine import TransformersEngine

    seen = []
    run = TransformersEngine.run

    def watched(self, requests):
        requests = list(requests)
        seen.extend(requests)
        return run(self, requests)

    monkeypatch.setattr(TransformersEngine, "run", watched)
    evaluate(settings)
    tokenizer: Any = AutoTokenizer.from_pretrained(settings.model)
    for request, prompt in zip(seen, prompts(), strict=True):
        assert tokenizer.decode(list(request.prompt.token_ids)) == prompt
        assert request.settings.temperature == 0 and request.settings.stop == (DEFAULT.closing,)


def test_the_device_is_handed_to_the_engine_that_has_one(settings):
    assert asked_model(replace(settings, device="cpu")).options.device == "cpu"
    assert asked_model(settings).options.device is None
    both = replace(settings, device="cpu", engine="vllm", probe="run")
    assert asked_model(both).options == EngineOptions(dtype="float32")
    asked_model(both).check()


def test_what_was_asked_is_not_asked_again(settings):
    first = evaluate(settings)
    again = evaluate(settings)
    assert (first["asked_afresh"]["new"], again["asked_afresh"]["new"]) == (2, 0)
    assert again["compared"] == first["compared"]


def test_a_model_that_writes_no_label_is_counted_and_says_nothing(settings, small_model):
    report = evaluate(replace(settings, model=str(small_model)))
    found = report["compared"]["unconditioned"]
    assert report["asked_afresh"]["unanswered"] == {"no_label": 2}
    assert (found["positions"], found["none"]) == (0, 2)
    assert found["other"]["raw"]["macro"] == {"mean": None, "low": None, "high": None}
    json.dumps(report, allow_nan=False)
    assert "nan" not in eval_summary(report)


def test_a_prompt_that_fills_the_context_is_counted(settings):
    options = EngineOptions(dtype="float32", max_model_len=20)
    report = evaluate(replace(settings, options=options))
    assert report["asked_afresh"]["unanswered"] == {"prompt_too_long": 2}


def test_labels_that_are_special_tokens_are_read(settings, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_small_model(tmp_path / "special")
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
    model: Any = AutoModelForCausalLM.from_pretrained(str(folder))
    add_progress_tokens(tokenizer, model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    teach(folder, f"[25%]{DEFAULT.closing}")
    evaluate(replace(settings, model=str(folder)))
    markers = pl.read_parquet(settings.out / "markers.parquet")
    assert markers["unconditioned"].to_list() == [0.25, 0.25]


def test_a_model_that_is_not_there_is_an_error_of_one_line(settings, tmp_path):
    with pytest.raises(ProgdataError) as found:
        evaluate(replace(settings, model=str(tmp_path / "nothing")))
    assert "\n" not in str(found.value)
