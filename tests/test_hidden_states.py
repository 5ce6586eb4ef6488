"""Hidden states on disk: the right ones, the same after a kill, and never all in memory."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import TOKENIZER, needs_shared_data, read_traces

from progdata.builders.chat_template import PromptRefused, load_chat_template
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.markers import strip
from progdata.builders.thinking import split_completion
from progdata.training_refs.hidden_states import (
    Features,
    HiddenStates,
    as_stored,
    draw_positions,
    extract,
)
from progdata.training_refs.layer_reader import LayerReader, StatesSettings, check_layers
from progdata.training_refs.probed_trace import ProbedTrace, tokenise_trace
from progdata.training_refs.training_data import open_data

SETTINGS = StatesSettings(layers=(2, 1), tokens_per_trace=5, question_tokens=3, shard_traces=4)
QUESTION = (("user", "What is 1 + 1? Answer with a number."),)


@pytest.fixture(scope="module")
def reader(small_model):
    return LayerReader(small_model, SETTINGS, "cpu", "auto")


@pytest.fixture(scope="module")
def data(countdown_build):
    return open_data(str(countdown_build), "noisy", None)


@pytest.fixture(scope="module")
def rows(data):
    """Ten rows of `train`, of which the fourth was cut off."""
    table = data.rows("train").slice(0, 10)
    closed = [i != 3 for i in range(10)]
    index = table.schema.get_field_index("think_closed")
    return table.set_column(index, table.schema.field(index), pa.array(closed))


def trace_of(row, grammar) -> ProbedTrace:
    messages = tuple((turn["role"], turn["content"]) for turn in row["prompt"])
    return ProbedTrace(messages, split_completion(strip(row["completion"], grammar)).think)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_states_are_those_of_a_direct_forward_pass(small_model, reader):
    import torch
    from transformers import AutoModelForCausalLM

    tokens = tokenise_trace(reader.template, ProbedTrace(QUESTION, "\nOkay, 1 + 1 is 2.\n"))
    states, question = reader.read(tokens, np.arange(tokens.total))
    model = AutoModelForCausalLM.from_pretrained(str(small_model))
    with torch.no_grad():
        found = model(torch.from_numpy(tokens.ids)[None], output_hidden_states=True).hidden_states
        last = model.model.norm(torch.from_numpy(states[0])).numpy()
    assistant = reader.template.tokenizer.convert_tokens_to_ids("<｜Assistant｜>")
    before = tokens.ids.tolist().index(assistant)
    first = found[1][0].numpy()
    np.testing.assert_allclose(states[1], first[tokens.first :], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(last, found[2][0, tokens.first :].numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        question[1], first[before - 3 : before].mean(0), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("think", ["Okay.\n\nSo 2.", "\nOkay.\n\nSo 2.", "\n\nOkay", "", "\n"])
def test_the_thinking_follows_the_prefilled_tag_once(reader, think):
    tokens = tokenise_trace(reader.template, ProbedTrace(QUESTION, think))
    text = reader.template.tokenizer.decode(tokens.ids)
    assert text.endswith("<｜Assistant｜><think>\n" + think.removeprefix("\n"))
    written = reader.template.tokenizer.decode(tokens.ids[tokens.first :])
    assert written == think.removeprefix("\n")


def test_a_template_that_alters_the_question_is_refused(small_model, tmp_path):
    folder = tmp_path / "loud"
    shutil.copytree(small_model, folder)
    file = folder / "chat_template.jinja"
    text = file.read_text("utf-8")
    assert "message['content']" in text
    file.write_text(text.replace("message['content']", "message['content']|upper"), "utf-8")
    with pytest.raises(PromptRefused, match="turn_left_out"):
        tokenise_trace(load_chat_template(folder), ProbedTrace((("user", "What is it?"),), "Well"))


def test_a_template_without_think_gets_the_tag(small_model, tmp_path):
    folder = shutil.copytree(small_model, tmp_path / "bare")
    file = folder / "chat_template.jinja"
    file.write_text(re.sub(r"<think>(\\n|\n)", "", file.read_text("utf-8")), "utf-8")
    bare = load_chat_template(folder)
    assert not bare.prefills_think
    for think in ("Okay", "\nOkay"):
        tokens = tokenise_trace(bare, ProbedTrace(QUESTION, think))
        assert bare.tokenizer.decode(tokens.ids).endswith("<｜Assistant｜><think>\nOkay")
        assert bare.tokenizer.decode(tokens.ids[tokens.first :]) == think


@needs_shared_data
def test_last_token_before_an_end_by_brute_force():
    template = load_chat_template(TOKENIZER)
    for row in islice(read_traces("r1_1p5b_math.jsonl.gz"), 5):
        think = split_completion(row["completion"]).think.removeprefix("\n")[:1500]
        ends = list(range(0, len(think) + 1, 37))
        tokens = tokenise_trace(template, ProbedTrace(QUESTION, think, ends))
        decoded = [template.tokenizer.decode(tokens.ids[tokens.first :][:n]) for n in range(1_000)]
        for end, found in zip(ends, tokens.before(ends), strict=True):
            # the token that holds the character before the end
            assert found == sum(len(own) < end for own in decoded[: tokens.total]) - 1


@given(st.text(min_size=1, max_size=30), st.integers(1, 200), st.integers(1, 40))
def test_kept_tokens_depend_on_the_trace_alone(trace_id, count, most):
    settings = replace(SETTINGS, tokens_per_trace=most)
    own = draw_positions(trace_id, count, settings)
    assert len(own) == min(most, count)
    assert (np.diff(own) > 0).all() and own[0] >= 0 and own[-1] < count
    np.testing.assert_array_equal(own, draw_positions(trace_id, count, settings))


def test_every_token_is_as_likely_to_be_kept():
    kept = [draw_positions(str(i), 20, SETTINGS) for i in range(4_000)]
    share = np.bincount(np.concatenate(kept), minlength=20) / len(kept)
    np.testing.assert_allclose(share, 5 / 20, atol=0.03)


def test_shards_hold_the_states_and_the_truth_of_each_row(data, rows, reader, tmp_path):
    extract(reader, rows, data.grammar, tmp_path, SETTINGS)
    states = HiddenStates(tmp_path)
    assert states.counts()["left_out"] == {"unclosed_think": 1}
    assert len(states) == 9 * 5
    everything = np.arange(len(states))
    positions, totals, problems = states.truth(everything)
    kept = [row for row in rows.to_pylist() if row["think_closed"]]
    for number, row in enumerate(kept):
        own = slice(5 * number, 5 * number + 5)
        tokens = tokenise_trace(reader.template, trace_of(row, data.grammar))
        assert (totals[own] == tokens.total).all()
        assert {states.problem_ids[i] for i in problems[own]} == {row["problem_id"]}
        read, question = reader.read(tokens, positions[own])
        for layer in (0, 1):
            found = states.features(Features(layer, question=True), everything[own])
            asked = np.broadcast_to(question[layer], (5, reader.width))
            expected = as_stored(np.concatenate([read[layer], asked], axis=1))
            np.testing.assert_array_equal(found, expected.astype(np.float32))
    alone = states.features(Features(None), everything)
    np.testing.assert_array_equal(alone[:, 0], positions)


def test_what_the_context_cuts_keeps_its_true_length(data, rows, small_model, tmp_path):
    short = replace(SETTINGS, max_tokens=200)
    reader = LayerReader(small_model, short, "cpu", "auto")
    extract(reader, rows, data.grammar, tmp_path, short)
    states = HiddenStates(tmp_path)
    positions, totals, _ = states.truth(np.arange(len(states)))
    assert states.counts()["cut_by_context"] > 0
    assert positions.max() < 200 < totals.max()


def test_rows_that_no_model_should_be_given_are_left_out(data, rows, reader, tmp_path):
    changed = rows.slice(0, 2).to_pylist()
    changed[0]["prompt"][-1]["content"] += "<｜User｜>"
    changed[1]["completion"] = "<think></think>nothing"
    table = pa.Table.from_pylist(changed, rows.schema)
    extract(reader, table, data.grammar, tmp_path, SETTINGS)
    states = HiddenStates(tmp_path)
    assert states.counts()["left_out"] == {"no_tokens": 1, "special_token_in_problem": 1}
    assert len(states) == 0


def test_states_too_large_for_float16_are_clipped():
    stored = as_stored(np.array([1e6, -1e6, 1.5], np.float32))
    np.testing.assert_array_equal(stored, np.array([65504, -65504, 1.5], np.float16))


def test_states_that_are_not_numbers_are_refused(data, rows, small_model, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(small_model))
    torch.nn.init.constant_(model.model.layers[0].mlp.up_proj.weight, float("nan"))
    folder = shutil.copytree(small_model, tmp_path / "broken")
    model.save_pretrained(folder)
    reader = LayerReader(folder, SETTINGS, "cpu", "auto")
    with pytest.raises(ProgdataError, match=r"^trace \w+: the model's hidden states are not"):
        extract(reader, rows, data.grammar, tmp_path / "states", SETTINGS)
    assert list((tmp_path / "states").iterdir()) == []


def test_a_run_that_fails_goes_on_with_the_same_bytes(data, rows, reader, tmp_path, monkeypatch):
    extract(reader, rows, data.grammar, tmp_path / "whole", SETTINGS)
    calls = []
    read = LayerReader.read

    def fail_at_the_sixth(self, *arguments):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return read(self, *arguments)

    monkeypatch.setattr(LayerReader, "read", fail_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        extract(reader, rows, data.grammar, tmp_path / "broken", SETTINGS)
    assert [path.name for path in (tmp_path / "broken").iterdir()] == ["00000"]
    extract(reader, rows, data.grammar, tmp_path / "broken", SETTINGS)
    assert digests(tmp_path / "broken") == digests(tmp_path / "whole")
    assert len(calls) == 9 + 3  # the first shard's three were not read again


KILLED = """
import sys, time
from pathlib import Path
from progdata.training_refs.hidden_states import extract
from progdata.training_refs.layer_reader import LayerReader, StatesSettings
from progdata.training_refs.training_data import open_data
build, model, out = sys.argv[1:]
settings = StatesSettings((2, 1), 5, None, 3, 1)
data = open_data(build, "noisy", None, limit=12)
reader = LayerReader(Path(model), settings, "cpu", "auto")
read = reader.read
reader.read = lambda *own: (time.sleep(0.2), read(*own))[1]
extract(reader, data.rows("train"), data.grammar, Path(out), settings)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_bytes(countdown_build, small_model, reader, tmp_path):
    out = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(countdown_build), str(small_model), str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    for _ in range(1_200):
        if len(list(out.glob("[0-9]*"))) >= 3 or process.poll() is not None:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    there = len(list(out.glob("[0-9]*")))
    assert 3 <= there < 12
    settings = replace(SETTINGS, shard_traces=1)
    data = open_data(str(countdown_build), "noisy", None, limit=12)
    for folder in (out, tmp_path / "whole"):
        extract(reader, data.rows("train"), data.grammar, folder, settings)
    assert digests(out) == digests(tmp_path / "whole")


def test_memory_does_not_grow_with_the_rows(data, reader, tmp_path):
    every = replace(SETTINGS, tokens_per_trace=None, shard_traces=8)
    grammar = data.grammar
    table = data.rows("train").slice(0, 8)
    peaks = {}
    for times in (1, 4):
        folder = tmp_path / str(times)
        tracemalloc.start()
        extract(reader, pa.concat_tables([table] * times), grammar, folder, every)
        peaks[times] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    size = sum(path.stat().st_size for path in (tmp_path / "4").rglob("states.npy"))
    assert peaks[4] < 1.2 * peaks[1] < size / 3


def test_a_layer_that_the_model_does_not_have(small_model):
    check_layers(small_model, [1, 2])
    with pytest.raises(UsageError, match=r"^layers: 8: the model small-r1 has 2 layers; choose"):
        check_layers(small_model, [8, 16, 24])
