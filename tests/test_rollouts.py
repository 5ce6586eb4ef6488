"""`progdata rollouts`: a model goes on from prefixes of traces, and each rollout is kept."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from shared_data import TRACES, needs_shared_data

from progdata.builders.base_table import SegmenterSettings
from progdata.builders.continuations import TIME_IS_UP, WAITS
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.prompts import find_profile
from progdata.builders.sampling import SamplingSettings
from progdata.builders.sampling_engines import EngineOptions
from progdata.releases.rolled_out import RolloutSettings, roll_out, usual_sampling
from progdata.releases.rollout_rows import TABLE

pytestmark = needs_shared_data

THINK = "First I add.\n\nThen I check.\n\nSo it is 4."
PREFIXES = ["First I add.\n\n", "First I add.\n\nThen I check.\n\n", THINK]


@pytest.fixture
def settings(small_model, tmp_path) -> RolloutSettings:
    completion = f"{THINK}</think>\n\nIt is \\boxed{{4}}."
    rows = [{"problem": "What is 2 + 2?", "answer": "4", "completion": completion}]
    path = tmp_path / "traces.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RolloutSettings(
        str(path),
        find_profile("deepscaler"),
        n=2,
        model=str(small_model),
        engine="transformers",
        sampling=SamplingSettings(max_tokens=4),
        options=EngineOptions(dtype="float32"),
    )


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "rollouts.parquet").to_pylist()


def test_there_is_one_row_a_rollout_in_the_order_of_the_prefixes(settings, tmp_path):
    report = roll_out(settings, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert pq.read_schema(tmp_path / "out" / "rollouts.parquet").equals(TABLE)
    assert [row["segment"] for row in rows] == [0, 0, 1, 1, 2, 2]
    assert [row["sampling"]["sample_index"] for row in rows] == [0, 1] * 3
    assert [row["prefix_end"] for row in rows[::2]] == [len(own) for own in PREFIXES]
    assert rows[-1]["progress"] == 1.0 and 0 < rows[0]["progress"] < rows[2]["progress"] < 1
    assert (report["rollouts"], report["prefixes"], report["traces"]) == (6, 3, 1)
    assert len({row["continuation"] for row in rows}) == 6


@pytest.mark.parametrize(
    ("how", "push", "gaps"),
    [
        ("stop", TIME_IS_UP, (0, 0, 2)),
        ("close", "</think>\n\n", (0, 0, 2)),
        ("wait", "Wait", (0, 0, 2)),
        ("continue", "", (0, 0, 0)),
    ],
)
def test_each_way_pushes_with_its_own_text(settings, tmp_path, how, push, gaps):
    roll_out(replace(settings, how=how, n=1), tmp_path / "out")
    for row, gap in zip(rows_of(tmp_path / "out"), gaps, strict=True):
        assert row["continuation"].startswith("\n" * gap + push)
        assert row["how"] == how


def test_the_model_is_given_the_prompt_the_prefix_and_the_push(settings, tmp_path, monkeypatch):
    from transformers import AutoTokenizer

    from progdata.builders.transformers_engine import TransformersEngine

    seen = []
    run = TransformersEngine.run

    def watched(self, requests):
        requests = list(requests)
        seen.extend(list(own.prompt.token_ids or ()) for own in requests)
        return run(self, requests)

    monkeypatch.setattr(TransformersEngine, "run", watched)
    roll_out(replace(settings, n=1), tmp_path / "out")
    tokenizer: Any = AutoTokenizer.from_pretrained(settings.model)
    asked = settings.profile.ask("What is 2 + 2?")
    bos = tokenizer.bos_token
    for ids, prefix, gap in zip(seen, PREFIXES, ("", "", "\n\n"), strict=True):
        text = f"{bos}<｜User｜>{asked}<｜Assistant｜><think>\n{prefix}{gap}{TIME_IS_UP}"
        assert tokenizer.decode(ids) == text
        assert ids.count(tokenizer.bos_token_id) == 1


def test_an_answer_that_is_right_is_the_value_of_its_prefix(settings, tmp_path):
    settings = replace(settings, push="</think>\n\nIt is \\boxed{4}.", prefixes=1)
    report = roll_out(settings, tmp_path / "out")
    assert {row["verdict"] for row in rows_of(tmp_path / "out")} == {"correct"}
    (decile,) = report["by_decile"]
    assert (decile["decile"], decile["value"], decile["rollouts"]) == (10, 1.0, 2)
    wrong = replace(settings, push="</think>\n\nIt is \\boxed{5}.")
    (decile,) = roll_out(wrong, tmp_path / "wrong")["by_decile"]
    assert decile["value"] == 0.0
    (decile,) = roll_out(replace(settings, verify=False), tmp_path / "un")["by_decile"]
    assert decile["value"] is None


def test_a_rerun_asks_for_nothing_and_more_only_adds(settings, tmp_path, monkeypatch):
    first = roll_out(settings, tmp_path / "out")
    assert first["new"] == 6
    before = rows_of(tmp_path / "out")
    assert roll_out(replace(settings, n=3), tmp_path / "out")["new"] == 3
    monkeypatch.setattr("progdata.releases.rolled_out.open_engine", None)
    assert roll_out(settings, tmp_path / "out")["new"] == 0
    assert rows_of(tmp_path / "out") == before


class TestRounds:
    def test_each_round_pushes_on_from_where_the_last_one_stopped(
        self, settings, tmp_path, monkeypatch
    ):
        """The model is made to end its thinking at once, so that every round is asked for."""
        from progdata.builders.transformers_engine import TransformersEngine

        read = TransformersEngine._read

        def ending(self, request, row, own, seconds):
            sample = read(self, request, row, own, seconds)
            return replace(sample, text=" hm. ", finish_reason="stop")

        monkeypatch.setattr(TransformersEngine, "_read", ending)
        settings = replace(settings, how="wait", rounds=3, n=1, prefixes=1)
        report = roll_out(settings, tmp_path / "out")
        (row,) = rows_of(tmp_path / "out")
        pushes = [f"\n\n{own} hm. " for own in WAITS[:3]]
        assert row["continuation"] == "".join(pushes)
        assert 3 <= row["completion_tokens"] <= 3 * 4, "of all rounds"
        assert report["new"] == 3
        assert roll_out(settings, tmp_path / "out")["new"] == 0
        assert roll_out(replace(settings, rounds=4), tmp_path / "out")["new"] > 0

    def test_a_round_that_the_limit_cuts_off_is_the_last(self, settings, tmp_path):
        settings = replace(settings, how="wait", rounds=3, n=1, prefixes=1)
        report = roll_out(settings, tmp_path / "out")
        (row,) = rows_of(tmp_path / "out")
        assert report["new"] == 1 and row["truncated"]
        assert row["continuation"].startswith("\n\nWait") and WAITS[1] not in row["continuation"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"how": "halt"}, "unknown --how 'halt'"),
            ({"rounds": 2}, "--rounds is of --how wait"),
            ({"prefixes": 0}, "--prefixes: at least 1"),
            ({"engine": "openai", "options": EngineOptions()}, "name the model's --tokenizer"),
            ({"traces": "nowhere.jsonl"}, "no such file"),
            ({"options": EngineOptions(retries=1)}, "--retries is an option of openai"),
        ],
    )
    def test_options_that_make_no_sense_are_refused(self, settings, tmp_path, change, message):
        with pytest.raises(ProgdataError, match=message):
            roll_out(replace(settings, **change), tmp_path / "out")

    def test_the_folder_of_a_build_is_refused(self, settings, countdown_build):
        with pytest.raises(UsageError, match="holds a build"):
            roll_out(settings, countdown_build)

    def test_prefixes_that_fill_the_context_are_rejects(self, settings, tmp_path):
        options = EngineOptions(dtype="float32", max_model_len=300)
        settings = replace(settings, options=options, how="continue")
        long = replace(settings, push="x" * 250, prefixes=1)
        with pytest.raises(ProgdataError, match="no rollout was made"):
            roll_out(long, tmp_path / "out")
        rows = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
        assert {row["reason"] for row in rows} == {"prompt_too_long"} and len(rows) == 2


def test_answers_are_sampled_as_mrt_does_and_thinking_as_the_paper():
    assert usual_sampling("stop") == SamplingSettings(0.7, 0.95, 4_096)
    assert usual_sampling("close") == usual_sampling("stop")
    assert usual_sampling("continue") == usual_sampling("wait") == SamplingSettings()


def test_real_traces_are_rolled_out_those_that_were_cut_off_as_well(settings, tmp_path):
    settings = replace(
        settings,
        traces=str(TRACES / "r1_distill.jsonl.gz"),
        limit=4,
        how="continue",
        n=1,
        prefixes=2,
        segmenter=SegmenterSettings("tokens", tokens=256),
        sampling=SamplingSettings(max_tokens=1),
        options=EngineOptions(dtype="float32", batch_size=2, max_model_len=100_000),
    )
    report = roll_out(settings, tmp_path / "out")
    assert report["traces"] == 4 and 4 <= report["prefixes"] <= 8


def test_the_command_prints_values_by_progress(settings, tmp_path):
    line = [
        *(sys.executable, "-m", "progdata.cli", "rollouts", settings.traces, "--how", "close"),
        *("--model", settings.model, "--engine", "transformers", "--dtype", "float32"),
        *("--n", "1", "--max-tokens", "2", "--all-prefixes", "--out", str(tmp_path / "out")),
    ]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert "3 rollouts of 3 prefixes of 1 traces: 3 samples new, 0 failed" in done.stdout
    assert "progress  rollouts  correct" in done.stdout
    done = subprocess.run([*line, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["new"] == 0
    done = subprocess.run([*line, "--how", "halt"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
