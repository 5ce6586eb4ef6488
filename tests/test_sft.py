"""Supervised fine-tuning end to end, on small models and real builds."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from shared_data import TOKENIZER, TRACES, needs_shared_data
from training_models import make_tokenizer, make_training_model, texts_of

from progdata.builders.chat_template import load_chat_template
from progdata.builders.errors import ProgdataError, UsageError
from progdata.releases.build import build
from progdata.releases.display import Silent
from progdata.releases.recipe import load_recipe as load_build_recipe
from progdata.training_refs.sft import train
from progdata.training_refs.sft_recipe import MaskSection, SftRecipe
from progdata.training_refs.train_recipe import load_recipe

LORA = {"rank": 4, "alpha": 8, "dropout": 0.1}


@pytest.fixture(scope="module")
def model(countdown_build: Path, tmp_path_factory) -> Path:
    """A small model with a byte-level BPE of 400 tokens."""
    texts = texts_of(countdown_build, "clean")
    folder = tmp_path_factory.mktemp("model") / "small"
    return make_training_model(folder, make_tokenizer("byte-level", texts), positions=8_192)


@pytest.fixture(scope="module")
def untied(countdown_build: Path, tmp_path_factory) -> Path:
    """The same with an output layer of its own."""
    texts = texts_of(countdown_build, "clean")
    folder = tmp_path_factory.mktemp("model") / "untied"
    return make_training_model(folder, make_tokenizer("byte-level", texts), tied=False)


@pytest.fixture(scope="module")
def data(model: Path, tmp_path_factory) -> Path:
    """A build that counts the model's tokens."""
    recipe = load_build_recipe(
        None,
        sources=["countdown:40"],
        variants=["all"],
        tokenizer=str(model),
        splits={"validation": 0.2},
    )
    folder = tmp_path_factory.mktemp("data") / "build"
    build(recipe, folder)
    return folder


@pytest.fixture(scope="module")
def make_recipe(data: Path, model: Path) -> Any:
    """A recipe of a few short steps."""

    def make(variant: str = "clean", on: dict[str, Any] | None = None, **fields: Any) -> SftRecipe:
        section = {"dataset": str(data), "variant": variant, "limit": 12, "eval_limit": 2}
        short = {
            "model": str(model),
            "lora": None,
            "context": 160,
            "overlap": 40,
            "max_steps": 6,
            "per_device_batch_size": 2,
            "gradient_accumulation": 2,
            "learning_rate": 3e-3,
            "warmup_steps": 1,
            "logging_steps": 2,
            "save_steps": 2,
        }
        return SftRecipe.model_validate({**short, "data": {**section, **(on or {})}, **fields})

    return make


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def assert_same_run(ours: Path, theirs: Path) -> None:
    """The same losses and the same weights, to the last bit."""
    assert (ours / "log.jsonl").read_bytes() == (theirs / "log.jsonl").read_bytes()
    ours_weights, their_weights = weights_of(ours / "model"), weights_of(theirs / "model")
    assert ours_weights.keys() == their_weights.keys()
    for name, weight in ours_weights.items():
        assert torch.equal(weight, their_weights[name]), name


# --- a run -------------------------------------------------------------------------------------


def test_a_run_lowers_the_losses_and_its_model_loads(make_recipe: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    recipe = make_recipe(max_steps=10, eval_steps=5, init="random", context=400, learning_rate=1e-2)
    report = train(recipe, tmp_path)
    log = log_of(tmp_path)
    assert [line["step"] for line in log if "loss" in line] == [*range(2, 11, 2)]
    assert [line["step"] for line in log if "eval_loss" in line] == [5, 10]
    for name in ("loss", "label_loss", "other_loss", "plain_loss"):
        assert log[-2][name] < log[0][name]
    evaluated = [line["eval_loss"] for line in log if "eval_loss" in line]
    assert evaluated[1] < evaluated[0]
    assert report == json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert (report["rows"], report["eval_rows"], report["steps"]) == (12, 2, 10)
    assert report["evaluation"]["eval_loss"] == log[-1]["eval_loss"]
    seen = report["seen"]
    assert 0 < seen["truncate"]["share_seen"] < seen["windows"]["share_seen"] == 1
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    template = load_chat_template(tmp_path / "model")
    assert template.prefill == "<think>\n"
    assert loaded.generation_config.eos_token_id == template.tokenizer.eos_token_id
    prompt = torch.tensor([template.prompt([("user", "1 + 1?")]).token_ids])
    assert loaded.generate(prompt, max_new_tokens=3).shape[1] > prompt.shape[1]


def test_a_finished_run_gives_its_report_again(make_recipe: Any, tmp_path: Path) -> None:
    report = train(make_recipe(max_steps=2), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert train(make_recipe(max_steps=2), tmp_path) == report
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    with pytest.raises(UsageError, match="holds a run with another max_steps"):
        train(make_recipe(max_steps=4), tmp_path)


def test_a_mask_hides_labels_in_training_and_not_in_evaluation(
    make_recipe: Any, tmp_path: Path
) -> None:
    """With next to no learning, so that nothing else differs."""
    still = {"max_steps": 2, "learning_rate": 1e-12, "context": 300, "per_device_batch_size": 8}
    still |= {"gradient_accumulation": 1, "on": {"limit": None}}  # it masks more in later rows
    masks = {
        "none": {"mode": "none"},
        "auto": {},
        "column": {"schedule": "column"},
        "token": {"mode": "token", "schedule": "column"},
    }
    logs = {}
    for name, mask in masks.items():
        train(make_recipe("masked", mask=mask, **still), tmp_path / name)
        logs[name] = log_of(tmp_path / name)
    losses = [log[0]["loss"] for log in logs.values()]
    assert len({*losses}) == len(masks)
    assert [log[0].get("mask_probability") for log in logs.values()] == [None, 0.5, None, None]
    expected = logs["none"][1]["eval_loss"]
    for log in logs.values():
        assert log[1]["eval_loss"] == pytest.approx(expected, rel=1e-6)


# --- the same again ----------------------------------------------------------------------------

RESUMED = {
    "variant": "masked-special",
    "lora": LORA,
    "long_rows": "windows",
    "max_steps": 7,
    "eval_steps": 3,
}
"""Everything that is drawn: order, dropout, masks; and a last step that is no multiple."""


@pytest.fixture(scope="module")
def whole_run(make_recipe: Any, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    train(make_recipe(**RESUMED), out)
    return out


def test_two_runs_are_equal(make_recipe: Any, whole_run: Path, tmp_path: Path) -> None:
    train(make_recipe(**RESUMED), tmp_path)
    assert_same_run(tmp_path, whole_run)


class StopAt(Silent):
    """Breaks a run off at a step, before it is saved."""

    def __init__(self, step: int) -> None:
        self._step = step

    def say(self, share: float, text: str) -> None:
        if text.startswith(f"step {self._step} "):
            raise KeyboardInterrupt


@pytest.mark.parametrize("step", [1, 3, 7])
def test_a_broken_off_run_goes_on_as_if_it_had_not_been(
    step: int, make_recipe: Any, whole_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(make_recipe(**RESUMED), tmp_path, display=StopAt(step))
    assert not (tmp_path / "model").exists()
    (tmp_path / "checkpoints" / "checkpoint-notes").mkdir(parents=True, exist_ok=True)
    train(make_recipe(**RESUMED), tmp_path)
    assert_same_run(tmp_path, whole_run)


def test_a_torn_checkpoint_and_a_torn_line_are_made_again(
    make_recipe: Any, whole_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(make_recipe(**RESUMED), tmp_path, display=StopAt(5))
    (tmp_path / "checkpoints" / "checkpoint-4" / "trainer_state.json").write_text('{"global')
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 4, "loss": 1.')
    train(make_recipe(**RESUMED), tmp_path)
    assert_same_run(tmp_path, whole_run)


@pytest.mark.slow
def test_a_killed_process_goes_on_as_if_it_had_not_been(
    make_recipe: Any, whole_run: Path, tmp_path: Path
) -> None:
    recipe, out = make_recipe(**RESUMED), tmp_path / "run"
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump()), "utf-8")
    script = (
        "import sys; from pathlib import Path\n"
        "from progdata.training_refs.sft import SftRecipe, train\n"
        "from progdata.training_refs.train_recipe import load_recipe\n"
        "train(load_recipe(SftRecipe, sys.argv[1]), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", script, str(file), str(out)]
    started = subprocess.Popen(command, start_new_session=True)
    end = time.monotonic() + 120
    while not (out / "checkpoints" / "checkpoint-4").exists():
        assert started.poll() is None and time.monotonic() < end
        time.sleep(0.002)
    os.kill(started.pid, signal.SIGKILL)
    started.wait(60)
    assert not (out / "report.json").exists()
    train(recipe, out)
    assert_same_run(out, whole_run)


# --- progress tokens under LoRA ----------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_lora_trains_the_rows_of_the_progress_tokens_and_no_others(
    tied: bool, make_recipe: Any, model: Path, untied: Path, tmp_path: Path
) -> None:
    """Each label that occurs; as input where the embeddings are not tied, as output all of them."""
    from transformers import AutoTokenizer

    folder = model if tied else untied
    train(make_recipe("special", model=str(folder), lora=LORA, max_steps=3, context=400), tmp_path)
    before, after = weights_of(folder), weights_of(tmp_path / "model")
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = tokenizer.convert_tokens_to_ids([f"[{label}%]" for label in range(101)])
    old = before["model.embed_tokens.weight"].shape[0]
    assert ids == [*range(old, old + 101)]
    layers = ["model.embed_tokens.weight"] + ([] if tied else ["lm_head.weight"])
    plain: Any = AutoTokenizer.from_pretrained(folder)
    for name in layers:
        assert torch.equal(after[name][:old], before[name])
        pieces = [plain(f"[{n}%]", add_special_tokens=False).input_ids for n in range(101)]
        begun = torch.stack([before[name][own].mean(0) for own in pieces])
        changed = (after[name][ids] != begun).any(1)
        assert changed.all() if name == layers[-1] else changed.any()
    query = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(before[query], after[query])
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_lora_is_on_every_linear_layer(make_recipe: Any, model: Path, tmp_path: Path) -> None:
    train(make_recipe(lora=LORA, max_steps=3), tmp_path)
    before, after = weights_of(model), weights_of(tmp_path / "model")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "proj.weight" in name}


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"variant": "cleen"}, "cleen"),
        ({"on": {"train_split": "trian"}}, "no split 'trian'; did you mean 'train'"),
        ({"on": {"eval_split": "validtion"}}, "no split 'validtion'; did you mean 'validation'"),
        ({"device": "cuda:7"}, "device 'cuda:7': this machine has"),
        ({"context": 8}, r"context 8: the shortest prompt has \d+ tokens"),
        ({"model": "./nowhere/x/y"}, "no such folder"),
        ({"mask": {"mode": "token", "stand_in": "no such token"}}, "mask.stand_in"),
        ({"mask": {"mode": "attention", "schedule": "column"}}, "masks no label"),
        ({"model": "UNTIED", "long_rows": "windows"}, r"has 2,048 positions, and .* needs 3,\d+;"),
    ],
    ids=[
        "variant",
        "split",
        "evaluated",
        "gpu",
        "context",
        "model",
        "stand-in",
        "column",
        "positions",
    ],
)
def test_bad_input_gets_one_line_before_anything_is_written(
    fields: dict[str, Any], said: str, make_recipe: Any, untied: Path, tmp_path: Path
) -> None:
    if fields.get("model") == "UNTIED":
        fields = fields | {"model": str(untied)}
    out = tmp_path / "run"
    with pytest.raises(UsageError, match=said) as caught:
        train(make_recipe(**fields), out)
    assert "\n" not in str(caught.value)
    assert not out.exists(), "a mended command would be refused as another run's"


def test_a_launcher_is_refused(make_recipe: Any, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="start it without a launcher"):
        train(make_recipe(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_model_under_the_same_name_does_not_go_on(
    make_recipe: Any, model: Path, tmp_path: Path
) -> None:
    own, out = tmp_path / "model", tmp_path / "run"
    shutil.copytree(model, own)
    recipe = make_recipe(model=str(own))
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out, display=StopAt(3))
    from safetensors.torch import save_file

    weights = weights_of(own)
    save_file({name: weight + 1 for name, weight in weights.items()}, own / "model.safetensors")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(UsageError, match="its run was begun with another model"):
        train(recipe, out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


LITTLE_MEMORY = """
import resource
import progdata.training_refs.sft as sft
from progdata.cli import main

def limit(*arguments, begin=sft.begin_run_on):
    begin(*arguments)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)

sft.begin_run_on = limit
main()
"""
"""What a cluster's limit does. It falls when the run begins: some libraries hang where they cannot
start their threads."""


def test_too_little_memory_is_one_line(make_recipe: Any, tmp_path: Path) -> None:
    """The allocator fails in the middle of a step."""
    large = {"per_device_batch_size": 4_096, "context": 2_000, "on": {"limit": None}}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(make_recipe(**large).model_dump()), "utf-8")
    command = ["train", "sft", "--config", str(file), "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, *command],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "not enough memory" in done.stderr
    assert "lower per_device_batch_size or context (cpu)" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_another_tokenizer_gets_one_line(
    make_recipe: Any, countdown_build: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(on={"dataset": str(countdown_build)}, max_steps=1)
    with pytest.raises(UsageError, match="gives other progress"):
        train(recipe, tmp_path / "refused")
    relabelled = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"relabel": True})}
    )
    assert train(relabelled, tmp_path / "relabelled")["data"]["relabelled"]


def test_a_loss_that_is_no_number_gets_one_line(make_recipe: Any, tmp_path: Path) -> None:
    with pytest.raises(ProgdataError, match=r"(loss|grad_norm) is (nan|inf) at step \d+: lower"):
        train(make_recipe(learning_rate=1e30, max_grad_norm=1e30, logging_steps=1), tmp_path)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("save_steps=15", "no multiple of logging_steps"),
        ("mask.mode=blind", "mask.mode: Input should be"),
        ("lora.rank=0", "lora.rank"),
        ("labels=3", "unknown field 'labels'"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(setting: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_recipe(SftRecipe, "sft", [setting])


def test_windows_need_an_overlap_below_the_context() -> None:
    with pytest.raises(UsageError, match="overlap 0: the first target"):
        load_recipe(SftRecipe, "sft", ["long_rows=windows", "overlap=0"])
    with pytest.raises(UsageError, match="overlap 256 is not below context 256"):
        load_recipe(SftRecipe, "sft", ["long_rows=windows", "context=256"])


def test_the_highest_probability_is_the_variants_unless_one_is_named() -> None:
    assert MaskSection().highest(0.3) == 0.3
    assert MaskSection().highest(0.0) == 0.5
    assert MaskSection(max=0.0).highest(0.3) == 0.0


def test_the_shipped_recipe_is_the_default() -> None:
    shipped = load_recipe(SftRecipe, "sft")
    bare = SftRecipe.model_validate({"data": shipped.data.model_dump(), "model": shipped.model})
    assert shipped == bare


def test_reading_a_recipe_loads_neither_torch_nor_transformers() -> None:
    script = (
        "import sys, progdata.training_refs.sft\n"
        "assert not {'torch', 'transformers', 'peft', 'datasets'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


# --- the real thing ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_run(tiny_model: Path, tmp_path_factory) -> Path:
    """Real traces, the real tokenizer and template, special tokens, LoRA, masks."""
    folder = tmp_path_factory.mktemp("real")
    recipe = load_build_recipe(
        None,
        sources=[str(TRACES / "r1_distill.jsonl.gz")],
        variants=["masked-special"],
        tokenizer=str(TOKENIZER),
        limit=30,
    )
    build(recipe, folder / "build")
    train(
        SftRecipe.model_validate(
            {
                "data": {"dataset": str(folder / "build"), "variant": "masked-special"},
                "model": str(tiny_model),
                "context": 256,
                "max_steps": 9,
                "per_device_batch_size": 2,
                "gradient_accumulation": 1,
                "learning_rate": 1e-2,
                "warmup_steps": 0,
                "logging_steps": 3,
                "save_steps": 6,
            }
        ),
        folder / "run",
    )
    return folder / "run"


@needs_shared_data
@pytest.mark.slow
def test_losses_fall_on_real_traces(real_run: Path) -> None:
    lines = [line for line in log_of(real_run) if "loss" in line]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["label_loss"] < lines[0]["label_loss"]


@needs_shared_data
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_vllm_samples_the_trained_model(real_run: Path, tmp_path: Path, monkeypatch) -> None:
    """And transformers gives the same tokens."""
    from transformers import AutoModelForCausalLM

    from progdata.builders.sampling import Request, Sample, SamplingSettings
    from progdata.builders.vllm_engine import VllmEngine, VllmOptions

    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    options = VllmOptions(dtype="float32", enforce_eager=True, max_model_len=512)
    prompt = load_chat_template(real_run / "model").prompt([("user", "What is 2 + 3?")])
    with VllmEngine(real_run / "model", options, tmp_path / "engine.log") as engine:
        settings = SamplingSettings(temperature=0.0, max_tokens=8)
        ((_, outcome),) = next(engine.run([Request("one", prompt, settings, 0, seed=0)]))
    loaded: Any = AutoModelForCausalLM.from_pretrained(real_run / "model")
    ids = torch.tensor([prompt.token_ids])
    theirs = loaded.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    decoder = load_chat_template(real_run / "model").tokenizer
    assert isinstance(outcome, Sample)
    assert outcome.text == decoder.decode(theirs, skip_special_tokens=True)
