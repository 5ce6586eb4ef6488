"""`progdata eval` and `progdata train` as a user meets them: options, output, exit codes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from build_folder import countdown
from shared_data import needs_shared_data
from typer.testing import CliRunner

from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.prompts import find_profile
from progdata.builders.sampling_engines import EngineOptions
from progdata.cli import app
from progdata.releases.build import build
from progdata.training_refs import evaluated
from progdata.training_refs.evaluated import EvalSettings

SHORT = [
    "context=300", "max_steps=2", "per_device_batch_size=1", "gradient_accumulation=1",
    "logging_steps=1", "save_steps=1", "data.limit=4", "data.eval_limit=2", "device=cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A small build whose labels count words."""
    out = tmp_path_factory.mktemp("data") / "build"
    build(countdown(40, ["clean", "noisy"], splits={"validation": 0.2}), out)
    return out


def run(*arguments: object) -> str:
    """What a command prints, run in this process. Raises what it raises."""
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False,
                              standalone_mode=False)  # fmt: skip
    return done.stdout


def sets(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def printed(*arguments: object) -> dict[str, Any]:
    return json.loads(run(*arguments, "--json"))


def refused(*arguments: object) -> str:
    """The one line of a wrong use."""
    with pytest.raises(UsageError) as found:
        run(*arguments)
    assert "\n" not in str(found.value)
    return str(found.value)


# --- eval


def test_an_evaluation_prints_its_tables_or_one_object(data, tmp_path):
    out = tmp_path / "out"
    report = printed("eval", data, "--no-grade", "--variant", "noisy", "--out", out)
    assert report == json.loads((out / "report.json").read_text("utf-8"))
    assert report["settings"]["variant"] == "noisy" and report["settings"]["grader"] is None
    text = run("eval", data, "--no-grade", "--variant", "noisy")
    for kept in ("position, survival curve", "before the last token", "non-monotone"):
        assert kept in text
    assert f"{report['markers']['scored']:,} markers in" in text


def test_the_exit_code_of_an_evaluation_says_what_was_wrong(data, tmp_path):
    """0, 2 for a wrong use, 1 for traces that hold nothing to score; an error is one line."""
    (tmp_path / "a.jsonl").write_text('{"problem": "P", "completion": "<think>a</think> b"}\n')
    codes = {}
    for name, arguments in {
        "fine": [data, "--no-grade"],
        "wrong": [data, "--device", "cpu"],
        "nothing": ["a.jsonl"],
    }.items():
        command = [sys.executable, "-m", "progdata.cli", "eval", *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        codes[name] = done.returncode
        last = done.stderr.strip().splitlines()[-1:]
        assert name == "fine" or last[0].startswith("progdata: ")
        assert "Traceback" not in done.stderr
    assert codes == {"fine": 0, "wrong": 2, "nothing": 1}


EVAL_OPTIONS = {
    "--variant": ("variant", "noisy"),
    "--grammar-of": ("grammar_of", "build"),
    "--tokenizer": ("tokenizer", "t"),
    "--lengths": ("lengths", "l"),
    "--count-markers": ("count_markers", True),
    "--long-tokens": ("long_tokens", 7),
    "--no-grade": ("grade", False),
    "--grader": ("grader", "deepscaler"),
    "--unconditioned": ("unconditioned", True),
    "--rollouts": ("rollouts", "r"),
    "--probe": ("probe", "p"),
    "--model": ("model", "m"),
    "--revision": ("revision", "abc"),
    "--engine": ("engine", "openai"),
    "--out": ("out", Path("o")),
    "--plot": ("plot", Path("p.svg")),
    "--seed": ("seed", 3),
    "--limit": ("limit", 4),
    "--workers": ("workers", 5),
    "--device": ("device", "cuda:1"),
}
ENGINE_OPTIONS = {
    "tensor_parallel_size": 2, "data_parallel_size": 3, "dtype": "float16", "max_model_len": 9,
    "gpu_memory_utilization": 0.5, "enforce_eager": True, "base_url": "u", "concurrency": 4,
    "retries": 6, "timeout": 7.5, "batch_size": 8,
}  # fmt: skip


def test_every_option_of_eval_reaches_its_setting(monkeypatch):
    """All of them at once, each with a value of its own; what is evaluated is not looked at."""
    seen: list[EvalSettings] = []

    def stop(settings: EvalSettings, **_: Any) -> None:
        seen.append(settings)
        raise ProgdataError("enough")

    monkeypatch.setattr(evaluated, "evaluate", stop)
    given = {flag: value for flag, (_, value) in EVAL_OPTIONS.items()}
    given |= {f"--{name.replace('_', '-')}": value for name, value in ENGINE_OPTIONS.items()}
    words = [
        word
        for flag, value in given.items()
        for word in ([flag] if isinstance(value, bool) else [flag, str(value)])
    ]
    with pytest.raises(ProgdataError, match="enough"):
        run("eval", "traces", "--profile", "r1-plain", *words)
    assert seen == [
        EvalSettings(
            "traces",
            profile=find_profile("r1-plain"),
            options=EngineOptions(**ENGINE_OPTIONS),
            **dict(EVAL_OPTIONS.values()),
        )
    ]


def test_no_option_of_eval_is_left_out_of_that_test():
    import inspect

    from progdata.cli import evaluate

    tested = {flag[2:].replace("-", "_") for flag in EVAL_OPTIONS} | set(ENGINE_OPTIONS)
    known = set(inspect.signature(evaluate).parameters)
    assert known == tested - {"no_grade"} | {"traces", "grade", "profile", "as_json"}


@pytest.mark.parametrize("flag", ["batch-size", "base-url", "max-model-len", "retries", "dtype"])
def test_an_option_that_nothing_would_use_is_refused(data, flag):
    message = refused("eval", data, f"--{flag}", "3")
    assert message == f"--{flag} is used with --unconditioned only; give both or neither"


# --- train


@needs_shared_data
def test_two_steps_of_fine_tuning_through_the_command(data, small_model, tmp_path):
    """The folder is named with an emoji, which an option must carry as it is."""
    out, named = tmp_path / "run", tmp_path / "data 🚀"
    named.symlink_to(data)
    common = ["--dataset", named, "--model", small_model, *sets(*SHORT, "lora=null")]
    message = refused("train", "sft", *common, "--out", out)
    assert "--relabel" in message and not out.exists()
    report = printed("train", "sft", *common, "--relabel", "--out", out)
    assert report == json.loads((out / "report.json").read_text("utf-8"))
    assert report["data"]["relabelled"] is True
    steps = [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    assert max(own["step"] for own in steps) == 2
    assert (out / "model" / "model.safetensors").is_file() and not (out / "adapter").exists()
    assert run("train", "sft", *common, "--relabel", "--out", out).strip()  # prints, trains no more


@needs_shared_data
def test_probes_are_trained_and_measured_through_the_commands(data, small_model, tmp_path):
    out = tmp_path / "probe"
    settings = ["layers=[1]", "tokens_per_trace=4", "epochs=1", "form=classes", "device=cpu",
                "data.limit=8", "data.eval_limit=4"]  # fmt: skip
    report = printed("train", "probe", "--dataset", data, "--model", small_model,
                     *sets(*settings), "--out", out)  # fmt: skip
    assert report == json.loads((out / "report.json").read_text("utf-8"))
    found = printed("eval", data, "--no-grade", "--limit", 4, "--probe", out, "--device", "cpu")
    assert found["settings"]["probe"] == str(out) and found["compared"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["rewards.acuracy=1"], "unknown field 'rewards.acuracy'"),
        (["num_generations=many"], "num_generations"),
        (["model=2024-13-01"], "--set model=2024-13-01: the value is not YAML"),
    ],
)
def test_a_wrong_recipe_is_refused(data, settings, said, tmp_path):
    out = tmp_path / "run"
    message = refused("train", "grpo", "--dataset", data, *sets(*settings), "--out", out)
    assert said in message and not out.exists()


def test_the_exit_code_of_a_wrong_recipe_is_2(data, tmp_path):
    command = [sys.executable, "-m", "progdata.cli", "train", "grpo", "--dataset", str(data),
               "--set", "num_generations=1", "--out", "run"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("progdata: ") and "num_generations" in line
