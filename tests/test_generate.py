"""`progdata generate`: problems in, traces out, and no sample asked for twice."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from shared_data import BENCHMARKS, needs_shared_data

from progdata.builders.chat_template import load_chat_template
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.prompts import find_profile
from progdata.builders.sampling import SamplingSettings
from progdata.builders.sampling_engines import EngineOptions
from progdata.builders.transformers_engine import TransformersEngine
from progdata.releases.build import build
from progdata.releases.check import check
from progdata.releases.generated import GenerateSettings, generate
from progdata.releases.generated_traces import GENERATED
from progdata.releases.recipe import load_recipe
from progdata.releases.segmented import segment_source

pytestmark = needs_shared_data

PROFILE = find_profile("deepscaler")
TOKENS = 6


@pytest.fixture
def settings(small_model) -> GenerateSettings:
    return GenerateSettings(
        ("countdown:3",),
        PROFILE,
        model=str(small_model),
        engine="transformers",
        n=2,
        sampling=SamplingSettings(max_tokens=TOKENS),
        options=EngineOptions(dtype="float32"),
    )


def traces(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "traces.parquet").to_pylist()


def rejects(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "rejects.parquet").to_pylist()


def asked(monkeypatch) -> list[tuple[str, int]]:
    """The prompt and the sample index of each request that an engine gets from now on."""
    seen: list[tuple[str, int]] = []
    run = TransformersEngine.run

    def watched(self, requests):
        def noted():
            for request in requests:
                seen.append((request.prompt.messages[-1][1], request.index))
                yield request

        return run(self, noted())

    monkeypatch.setattr(TransformersEngine, "run", watched)
    return seen


def problem_file(folder: Path, *problems: str | None) -> str:
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps({"problem": own, "answer": "4"}) + "\n" for own in problems))
    return str(path)


class TestTraces:
    def test_there_is_one_row_a_sample_in_the_order_of_the_problems(self, settings, tmp_path):
        report = generate(settings, tmp_path)
        rows = traces(tmp_path)
        assert pq.read_schema(tmp_path / "traces.parquet").equals(GENERATED)
        assert len({row["problem_id"] for row in rows}) == 3
        assert [row["sampling"]["sample_index"] for row in rows] == [0, 1] * 3
        assert rows[0]["problem_id"] == rows[1]["problem_id"] != rows[2]["problem_id"]
        assert (report["samples"], report["new"], report["reused"], report["failed"]) == (
            6,
            6,
            0,
            0,
        )

    def test_each_row_says_how_it_was_made(self, settings, tmp_path, small_model):
        report = generate(settings, tmp_path)
        for row in traces(tmp_path):
            assert row["model"] == "small-r1" and len(row["model_revision"]) == 64
            assert row["engine"] == "transformers" and row["engine_version"].startswith("transf")
            assert row["template_sha256"] == load_chat_template(small_model).sha256
            assert row["think_prefilled"] and row["prompt_profile"] == "deepscaler"
            assert row["completion_tokens"] == TOKENS and row["prompt_tokens"] > 20
            assert (row["finish_reason"], row["truncated"]) == ("length", True)
            assert row["seconds"] > 0
            assert row["tokens_per_second"] == pytest.approx(TOKENS / row["seconds"], rel=1e-3)
            assert row["sampling"]["temperature"] == pytest.approx(0.6)
            assert row["sampling"]["max_tokens"] == TOKENS
            assert row["verdict"] == "no_answer" and row["answer"] is not None
        seeds = [row["sampling"]["seed"] for row in traces(tmp_path)]
        assert len(set(seeds)) == 6
        assert report["tokens"]["completion"] == report["cost"]["completion_tokens"] == 6 * TOKENS

    def test_without_verification_nothing_is_graded(self, settings, tmp_path):
        report = generate(replace(settings, verify=False), tmp_path)
        assert {row["verdict"] for row in traces(tmp_path)} == {None}
        assert "accuracy" not in report

    def test_real_problems_are_asked_as_the_profile_says(self, settings, tmp_path, monkeypatch):
        seen = asked(monkeypatch)
        spec = str(BENCHMARKS / "aime24.jsonl.gz")
        generate(replace(settings, problems=(spec,), limit=2, n=1), tmp_path)
        ending = " Let's think step by step and output the final answer within \\boxed{}."
        assert len(seen) == 2 and all(text.endswith(ending) for text, _ in seen)
        assert [row["source"] for row in traces(tmp_path)] == ["aime24"] * 2

    def test_the_same_seed_gives_the_same_traces_elsewhere(self, settings, tmp_path):
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            generate(replace(settings, seed=seed), tmp_path / name)
        texts = [[row["completion"] for row in traces(tmp_path / name)] for name in "abc"]
        assert texts[0] == texts[1]
        assert set(texts[0]).isdisjoint(texts[2])


class TestResume:
    def test_a_finished_run_asks_for_nothing_and_opens_no_engine(
        self, settings, tmp_path, monkeypatch
    ):
        generate(settings, tmp_path)
        before = (tmp_path / "traces.parquet").read_bytes()
        monkeypatch.setattr("progdata.releases.generated.open_engine", None)
        report = generate(settings, tmp_path)
        assert (report["new"], report["reused"]) == (0, 6)
        assert (tmp_path / "traces.parquet").read_bytes() == before

    def test_more_samples_and_more_problems_only_add(self, settings, tmp_path, monkeypatch):
        generate(settings, tmp_path)
        first = {row["trace_id"] for row in traces(tmp_path)}
        seen = asked(monkeypatch)
        generate(replace(settings, n=4), tmp_path)
        assert sorted(index for _, index in seen) == [2, 2, 2, 3, 3, 3]
        seen.clear()
        generate(replace(settings, n=4, problems=("countdown:4",)), tmp_path)
        assert [index for _, index in seen] == [0, 1, 2, 3] and len({text for text, _ in seen}) == 1
        assert first < {row["trace_id"] for row in traces(tmp_path)}

    def test_fewer_samples_are_fewer_rows_and_the_others_stay_kept(self, settings, tmp_path):
        generate(settings, tmp_path)
        assert generate(replace(settings, n=1), tmp_path)["samples"] == 3
        assert generate(settings, tmp_path)["new"] == 0

    @pytest.mark.parametrize(
        "change",
        [
            {"options": EngineOptions(dtype="float32", batch_size=3)},
            {"options": EngineOptions(dtype="float32", max_model_len=1_000)},  # it does not bind
            {"verify": False},
        ],
    )
    def test_how_it_is_run_changes_no_key(self, settings, tmp_path, change):
        generate(settings, tmp_path)
        assert generate(replace(settings, **change), tmp_path)["new"] == 0

    @pytest.mark.parametrize(
        "change",
        [
            {"sampling": SamplingSettings(max_tokens=TOKENS, top_p=0.9)},
            {"sampling": SamplingSettings(max_tokens=TOKENS, temperature=0.7)},
            {"sampling": SamplingSettings(max_tokens=TOKENS + 1)},
            {"seed": 1},
            {"profile": find_profile("openr1")},
        ],
    )
    def test_what_can_change_a_sample_changes_every_key(self, settings, tmp_path, change):
        generate(settings, tmp_path)
        assert generate(replace(settings, **change), tmp_path)["new"] == 6

    def test_another_model_of_the_same_name_is_another(self, settings, tmp_path):
        from tiny_model import make_small_model

        generate(settings, tmp_path / "out")
        other = make_small_model(tmp_path / "elsewhere" / "small-r1", seed=1)
        assert generate(replace(settings, model=str(other)), tmp_path / "out")["new"] == 6

    def test_an_engine_that_dies_keeps_what_came_before(self, settings, tmp_path, monkeypatch):
        run = TransformersEngine.run

        def dying(self, requests):
            yield next(run(self, requests))
            raise ProgdataError("the engine died")

        options = EngineOptions(dtype="float32", batch_size=2)
        settings = replace(settings, options=options)
        monkeypatch.setattr(TransformersEngine, "run", dying)
        with pytest.raises(ProgdataError, match="the engine died"):
            generate(settings, tmp_path)
        assert not (tmp_path / "traces.parquet").exists()
        monkeypatch.setattr(TransformersEngine, "run", run)
        report = generate(settings, tmp_path)
        assert (report["new"], report["reused"]) == (4, 2)

    def test_a_damaged_sample_is_asked_for_again(self, settings, tmp_path):
        generate(settings, tmp_path)
        whole = traces(tmp_path)
        with sqlite3.connect(tmp_path / "samples.sqlite") as database:
            database.execute(
                "UPDATE samples SET sample = x'00' || sample "
                "WHERE key = (SELECT min(key) FROM samples)"
            )
        report = generate(settings, tmp_path)
        assert (report["damaged"], report["new"]) == (1, 1)
        texts = [[row["completion"] for row in rows] for rows in (whole, traces(tmp_path))]
        assert texts[0] == texts[1]


class TestRejects:
    def test_a_prompt_that_is_too_long_is_one_reject_a_sample(self, settings, tmp_path):
        spec = problem_file(tmp_path, "What is 2 + 2?", "What is 2 + 2? " * 200)
        options = EngineOptions(dtype="float32", max_model_len=200)
        report = generate(replace(settings, problems=(spec,), options=options), tmp_path / "out")
        assert (report["samples"], report["failed"]) == (2, 2)
        assert report["rejected"] == {"generate": {"prompt_too_long": 2}}
        found = rejects(tmp_path / "out")
        assert {own["row"] for own in found} == {2}
        assert "the model's context is 200" in found[0]["detail"]

    def test_when_nothing_fits_the_context_the_error_says_so(self, settings, tmp_path):
        options = EngineOptions(dtype="float32", max_model_len=8)
        with pytest.raises(
            ProgdataError, match=r"too_long: sample 0: the prompt has \d+ tokens, the"
        ):
            generate(replace(settings, options=options), tmp_path)

    def test_rows_without_a_problem_and_repeated_problems_are_rejects(self, settings, tmp_path):
        spec = problem_file(
            tmp_path, "What is 2 + 2?", None, " What is  2 + 2?", "<think>hm</think>"
        )
        report = generate(replace(settings, problems=(spec,), n=1), tmp_path / "out")
        assert (report["problems"], report["samples"]) == (1, 1)
        assert [(own["row"], own["stage"], own["reason"]) for own in rejects(tmp_path / "out")] == [
            (2, "read", "empty_problem"),
            (3, "read", "repeated_problem"),
            (4, "prompt", "special_token_in_problem"),
        ]

    def test_a_sample_that_fails_is_a_reject_and_is_asked_for_again(
        self, settings, tmp_path, monkeypatch
    ):
        from transformers import Qwen2ForCausalLM

        whole: Any = Qwen2ForCausalLM.generate  # pyright: ignore[reportAttributeAccessIssue]
        calls = []

        def failing(self, **given):
            calls.append(1)
            if len(calls) in (2, 3):  # a batch, and then its first row alone
                raise RuntimeError("a bad row")
            return whole(self, **given)

        options = EngineOptions(dtype="float32", batch_size=2)
        settings = replace(settings, options=options)
        monkeypatch.setattr(Qwen2ForCausalLM, "generate", failing)
        report = generate(settings, tmp_path)
        assert (report["samples"], report["failed"]) == (5, 1)
        assert {own["reason"] for own in rejects(tmp_path)} == {"refused_by_engine"}
        assert rejects(tmp_path)[0]["detail"] == "sample 0: a bad row"
        report = generate(settings, tmp_path)
        assert (report["samples"], report["new"], report["failed"]) == (6, 1, 0)
        assert rejects(tmp_path) == []


class TestRefusals:
    def test_a_second_process_is_refused(self, settings, tmp_path):
        from progdata.releases.generated import writing_in

        with writing_in(tmp_path), pytest.raises(ProgdataError, match="another process"):
            generate(settings, tmp_path)

    def test_the_folder_of_a_build_is_refused(self, settings, countdown_build):
        with pytest.raises(UsageError, match="holds a build"):
            generate(settings, countdown_build)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"options": EngineOptions(base_url="http://x")}, "--base-url is an option of openai"),
            ({"model": "no/such/model"}, "no such folder"),
            ({"tokenizer": "words"}, "--tokenizer and --revision are of the engine openai"),
            ({"problems": ("nowhere.jsonl",)}, "no such file"),
        ],
    )
    def test_options_that_make_no_sense_are_refused(self, settings, tmp_path, change, message):
        with pytest.raises(ProgdataError, match=message):
            generate(replace(settings, **change), tmp_path)

    def test_traces_do_not_replace_the_problems_they_come_from(self, settings, tmp_path):
        generate(settings, tmp_path)
        spec = str(tmp_path / "traces.parquet")
        with pytest.raises(UsageError, match="would replace its own source"):
            generate(replace(settings, problems=(spec,)), tmp_path)


class TestRecipes:
    def recipe(self, tmp_path: Path, small_model: Path, **more: Any) -> Path:
        path = tmp_path / "recipe.yaml"
        section = {
            "problems": "countdown:4",
            "model": str(small_model),
            "engine": "transformers",
            "n": 2,
            "max_tokens": TOKENS,
            "options": {"dtype": "float32"},
        }
        own = {"generate": section | more.pop("generate", {}), "policies": {"cut_traces": "keep"}}
        path.write_text(json.dumps(own | more))
        return path

    def test_one_recipe_goes_from_problems_to_a_build(self, tmp_path, small_model):
        recipe = load_recipe(str(self.recipe(tmp_path, small_model)), variants=["noisy"])
        report = build(recipe, tmp_path / "out")
        assert report["rows_in"] == 8 and report["rows_out"] > 4
        assert check(tmp_path / "out") == []
        lock = json.loads((tmp_path / "out" / "progdata.lock.json").read_text())
        (source,) = lock["sources"]
        assert source["generated"]["model"] == "small-r1"
        assert source["generated"]["sampling"]["max_tokens"] == TOKENS
        assert source["generated"]["template_sha256"] and source["generated"]["rendered_sha256"]
        assert source["files"][0]["sha256"]
        assert build(recipe, tmp_path / "out") == report, "a finished build is left as it is"

    def test_the_limit_is_of_problems_and_no_trace_is_lost(self, tmp_path, small_model):
        recipe = load_recipe(str(self.recipe(tmp_path, small_model)), limit=3)
        report = build(recipe, tmp_path / "out")
        assert report["rows_in"] == 3 * 2

    def test_a_finished_build_samples_nothing_whatever_the_engine_options(
        self, tmp_path, small_model, monkeypatch
    ):
        path = self.recipe(tmp_path, small_model)
        report = build(load_recipe(str(path)), tmp_path / "out")
        monkeypatch.setattr("progdata.releases.build.generate", None)
        options = {"options": {"dtype": "float32", "batch_size": 1}, "out": str(tmp_path / "x")}
        path = self.recipe(tmp_path, small_model, generate=options)
        assert build(load_recipe(str(path)), tmp_path / "out") == report
        lock = (tmp_path / "out" / "progdata.lock.json").read_text()
        assert "dtype" not in lock and str(tmp_path / "x") not in lock

    def test_a_rebuild_costs_no_sample(self, tmp_path, small_model, monkeypatch):
        recipe = load_recipe(str(self.recipe(tmp_path, small_model)))
        build(recipe, tmp_path / "out")
        monkeypatch.setattr("progdata.releases.generated.open_engine", None)
        again = {"out": str(tmp_path / "out-samples")}
        path = self.recipe(tmp_path, small_model, generate=again)
        assert build(load_recipe(str(path)), tmp_path / "again")["rows_in"] == 8
        other = load_recipe(str(path), variants=["masked"])
        with pytest.raises(UsageError, match="variants differ"):
            build(other, tmp_path / "out")

    def test_a_profile_of_a_file_is_in_the_recipe_and_in_the_prompts(self, tmp_path, small_model):
        profile = tmp_path / "brief.yaml"
        profile.write_text('user: "{problem} Go on."\nsystem: "Be brief."\n')
        path = self.recipe(tmp_path, small_model, prompt_profile=str(profile))
        recipe = load_recipe(str(path))
        profile.unlink()
        build(recipe, tmp_path / "out")
        (data,) = (tmp_path / "out" / "data" / "clean").glob("train*.parquet")
        row = pq.read_table(data).to_pylist()[0]
        assert row["prompt"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": f"{row['problem']} Go on."},
        ]
        assert row["prompt_profile"] == "brief"
        assert check(tmp_path / "out") == []

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ({"sources": "countdown:3"}, "not both"),
            ({"generate": {"n": 0}}, r"generate\.n"),
            ({"generate": {"engine": "vlm"}}, r"generate\.engine"),
            ({"generate": {"options": {"dtyp": "x"}}}, "did you mean 'dtype'"),
            ({"generate": {"options": {"base_url": "x"}}}, "--base-url is an option of openai"),
            ({"generate": {"options": {"batch_size": "many"}}}, r"generate\.options"),
            ({"generate": {"options": {"batch_size": 0}}}, "--batch-size 0: expected more than 0"),
            ({"generate": {"temperatur": 1}}, "unknown field 'generate.temperatur'; did you mean"),
            ({"generate": {"top_p": 0}}, r"generate\.top_p"),
            ({"prompt_profile": "nowhere.yaml"}, "nowhere.yaml"),
            ({"prompt_profile": {"user": "x"}}, "{problem}"),
        ],
    )
    def test_what_makes_no_sense_is_named(self, tmp_path, small_model, more, message):
        with pytest.raises(UsageError, match=message):
            load_recipe(str(self.recipe(tmp_path, small_model, **more)))

    def test_traces_are_a_source_like_any_other(self, settings, tmp_path):
        generate(settings, tmp_path)
        recipe = load_recipe(None, sources=[str(tmp_path / "traces.parquet")])
        report = segment_source(recipe)
        assert report["rows_in"] == 6
        assert report["rejected"]["think"]["think_not_closed"] > 3


# --- the command, killed and not


def command(out: Path, model: Path, *more: str, problems: str = "countdown:12") -> list[str]:
    return [
        *(sys.executable, "-m", "progdata.cli", "generate", "--problems", problems),
        *("--model", str(model), "--engine", "transformers", "--dtype", "float32"),
        *("--max-tokens", "4", "--batch-size", "2", "--n", "4", "--out", str(out), *more),
    ]


def test_the_command_prints_what_there_is_and_what_it_cost(small_model, tmp_path):
    line = command(tmp_path / "out", small_model, "--n", "1", problems="countdown:2")
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert "2 samples of 2 problems: 2 new, 0 from earlier runs, 0 failed" in done.stdout
    assert "generating: 2 of 2 problems, 2 of 2 samples, " in done.stderr
    done = subprocess.run([*line, "--json"], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert (report["new"], report["reused"]) == (0, 2)
    assert {"prompt_tokens", "completion_tokens", "seconds", "tokens_per_second"} <= set(
        report["cost"]
    )


@pytest.mark.slow
def test_killed_at_any_moment_it_loses_what_was_in_flight_and_doubles_nothing(
    small_model, tmp_path
):
    """Four kills of one run: what each had kept is never asked for again, and the traces in the end
    are those of a run that nobody killed."""
    out, chance = tmp_path / "killed", random.Random(5)
    store = out / "samples.sqlite"
    kept = 0
    for _ in range(4):
        process = subprocess.Popen(
            command(out, small_model), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while count(store) == kept and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)  # the model is loading
        time.sleep(chance.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert count(store) >= kept
        kept = count(store)
    done = subprocess.run(
        [*command(out, small_model), "--json"], capture_output=True, text=True, check=True
    )
    report = json.loads(done.stdout)
    assert (report["reused"], report["new"]) == (kept, 48 - kept)
    assert kept >= 4 * 2
    whole = tmp_path / "whole"
    subprocess.run(command(whole, small_model), check=True, capture_output=True)
    assert [row["trace_id"] for row in traces(out)] == [row["trace_id"] for row in traces(whole)]
    assert len({row["trace_id"] for row in traces(out)}) == 48


def count(store: Path) -> int:
    """The samples in a store that another process may be writing."""
    if not store.exists():
        return 0
    with sqlite3.connect(store, timeout=10) as database:
        try:
            return database.execute("SELECT count(*) FROM samples").fetchone()[0]
        except sqlite3.OperationalError:  # not made yet
            return 0


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(small_model, tmp_path):
    process = subprocess.Popen(
        command(tmp_path / "out", small_model),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not count(tmp_path / "out" / "samples.sqlite") and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "progdata: interrupted; run the same command again to go on"
    assert "Traceback" not in said
