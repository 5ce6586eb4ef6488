"""GRPO on a small model that likes markers: what it learns, writes, resumes and refuses."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from build_folder import countdown
from marking_model import make_marking_model
from shared_data import TOKENIZER, needs_shared_data

from progdata.builders.chat_template import load_chat_template
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.special_tokens import add_progress_tokens
from progdata.builders.tokenizer import load_counter
from progdata.releases.build import build
from progdata.releases.display import Silent
from progdata.training_refs import devices
from progdata.training_refs.context_lengthening import find_plateau
from progdata.training_refs.grpo import GrpoRecipe, train
from progdata.training_refs.grpo_prompts import prompt_order, read_prompts
from progdata.training_refs.rewards import REWARDS, progress_accuracy, report_frequency
from progdata.training_refs.sampled_rewards import decode
from progdata.training_refs.train_recipe import load_recipe
from progdata.training_refs.training_data import open_data

pytestmark = needs_shared_data  # the chat template of the small model


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A build and a model."""
    folder = tmp_path_factory.mktemp("grpo")
    build(countdown(24, ["clean", "special"]), folder / "build")
    make_marking_model(folder / "model")
    return folder


def recipe(folders: Path, **fields: Any) -> GrpoRecipe:
    """A run of a few seconds: four groups of four completions a step, up to 24 tokens."""
    return GrpoRecipe.model_validate(
        {
            "data": {"dataset": str(folders / "build")},
            "model": str(folders / "model"),
            "device": "cpu",
            "rewards": {"every_tokens": 3},
            "lengthening": {"window": 2},
            "context": 24,
            "max_steps": 5,
            "num_generations": 4,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 2,
            "gradient_checkpointing": False,
            "warmup_steps": 1,
            "learning_rate": 5e-3,
            "max_grad_norm": 1.0,
            "save_steps": 2,
            "lora": None,
        }
        | fields
    )


class Interrupted(Exception):
    """Stands for a kill."""


class Interrupter(Silent):
    """Ends a run after so many steps, as a kill would."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def say(self, share: float, text: str) -> None:
        self.left -= 1
        if not self.left:
            raise Interrupted


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def timeless(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: own for name, own in line.items() if name != "step_time"} for line in lines]


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(bool((first[name] == second[name]).all()) for name in first)


@pytest.fixture(scope="module")
def staged(folders):
    """A whole run of two stages, in which every plateau counts."""
    own = recipe(folders, **STAGES)
    return own, train(own, folders / "staged"), folders / "staged"


STAGES: dict[str, Any] = {
    "context": [12, 20],
    "max_steps": [12, 3],
    "num_generations": [4, 8],
    "save_steps": 1,
    "lengthening": {"window": 2, "reward_gain": 9, "length_rise": 0, "clipped_rise": 0},
}


@pytest.mark.slow
def test_training_raises_the_reward(folders, tmp_path):
    report = train(recipe(folders, max_steps=24, lengthening={"window": 6}), tmp_path / "run")
    stage = report["stages"][0]
    assert stage["steps"] == stage["go_on_from"] == 24 and stage["plateau"] is None
    assert stage["last"]["reward"] > stage["first"]["reward"] + 0.2


class TestRun:
    """What the run of two stages left."""

    def test_the_log_has_a_line_a_step_with_every_reward(self, staged):
        _, report, out = staged
        lines = read_lines(out / "log.jsonl")
        steps = [(1, own + 1) for own in range(report["stages"][0]["steps"])]
        assert [(own["stage"], own["step"]) for own in lines] == [*steps, (2, 1), (2, 2), (2, 3)]
        for line in lines:
            assert line["loss"] is not None and 0 <= line["completions/clipped_ratio"] <= 1
            assert line["completions/mean_length"] <= line["context"]

    def test_the_samples_are_what_was_rewarded(self, staged, folders):
        own, _, out = staged
        counter = load_counter(str(folders / "model" / "tokenizer.json"), False)
        samples, log = read_lines(out / "samples.jsonl"), read_lines(out / "log.jsonl")
        assert len(samples) == 16 * len(log)
        for sample in samples:
            text = sample["completion"]
            assert sample["progress_accuracy"] == progress_accuracy(text, tokens=counter)
            assert sample["report_frequency"] == report_frequency(
                text, every_tokens=3, tokens=counter
            )
            assert sample["tokens"] <= sample["context"] and "<｜" not in text
        assert any("</think>" in sample["completion"] for sample in samples)
        weights = dict(zip(REWARDS, own.rewards.weights(), strict=True))
        totals = [sum(weights[name] * sample[name] for name in REWARDS) for sample in samples]
        means = [sum(totals[at : at + 16]) / 16 for at in range(0, len(totals), 16)]
        assert [line["reward"] for line in log] == pytest.approx(means, abs=1e-5)

    def test_each_group_answers_one_problem(self, staged):
        _, report, out = staged
        samples = read_lines(out / "samples.jsonl")
        for stage in (1, 2):
            own = [sample["problem_id"] for sample in samples if sample["stage"] == stage]
            size = report["stages"][stage - 1]["num_generations"]
            groups = [own[at : at + size] for at in range(0, len(own), size)]
            assert all(len(set(group)) == 1 for group in groups)
        first = {sample["problem_id"] for sample in samples if sample["step"] == 1}
        assert len(first) > 2

    def test_a_stage_moves_on_at_the_first_plateau(self, staged):
        own, report, out = staged
        history = [line for line in read_lines(out / "log.jsonl") if line["stage"] == 1]
        assert 4 <= len(history) < 12, "the rule should have ended the stage"
        assert find_plateau(history, own.lengthening) is not None
        assert find_plateau(history[:-1], own.lengthening) is None
        assert [stage["context"] for stage in report["stages"]] == [12, 20]
        assert report["stages"][0]["go_on_from"] < report["stages"][0]["plateau"]["since"]
        assert report["stages"][1]["plateau"] is None

    def test_a_stage_begins_with_the_weights_of_the_best_checkpoint(self, staged):
        """Its first step has a learning rate of 0 (warm-up), so that step 1 changes nothing."""
        _, report, out = staged
        chosen = f"checkpoint-{report['stages'][0]['go_on_from']}"
        begun = out / "checkpoints" / "stage-2" / "checkpoint-1"
        assert_same_weights(begun, out / "checkpoints" / "stage-1" / chosen)

    def test_a_run_that_is_killed_in_both_stages_ends_the_same(self, staged, folders, tmp_path):
        own, report, out = staged
        killed = tmp_path / "run"
        first = report["stages"][0]["steps"]
        for steps in (3, first - 2 + 3):  # at step 3 of each stage, before its checkpoint
            with pytest.raises(Interrupted):
                train(own, killed, display=Interrupter(steps))
        found = train(own, killed)
        for name in ("log.jsonl", "samples.jsonl"):
            assert timeless(read_lines(killed / name)) == timeless(read_lines(out / name))
        assert found["stages"] == report["stages"]
        assert_same_weights(killed / "model", out / "model")

    @pytest.mark.parametrize("number", [1, 2], ids=["plateau", "last step"])
    def test_a_stage_killed_after_its_last_checkpoint_is_not_trained_on(
        self, staged, tmp_path, number
    ):
        """Before done.json: the checkpoint is that of its plateau, or of its last step."""
        own, report, out = staged
        killed = tmp_path / "run"
        shutil.copytree(out, killed)
        stage = killed / "checkpoints" / f"stage-{number}"
        for path in (killed / "report.json", stage / "done.json"):
            path.unlink()
        shutil.rmtree(killed / "model")
        if number == 1:
            shutil.rmtree(killed / "checkpoints" / "stage-2")
        assert train(own, killed)["stages"] == report["stages"]
        for name in ("log.jsonl", "samples.jsonl"):
            assert timeless(read_lines(killed / name)) == timeless(read_lines(out / name))
        assert_same_weights(killed / "model", out / "model")

    def test_the_seconds_are_those_of_all_steps(self, staged):
        _, report, out = staged
        steps = [line["step_time"] for line in read_lines(out / "log.jsonl")]
        assert report["seconds"] == round(sum(steps), 1) > 0

    def test_the_same_command_again_returns_the_report(self, staged):
        own, report, out = staged
        before = (out / "log.jsonl").stat().st_mtime_ns
        assert train(own, out) == report == json.loads((out / "report.json").read_text("utf-8"))
        assert (out / "log.jsonl").stat().st_mtime_ns == before

    def test_another_recipe_may_not_go_on_in_its_folder(self, staged):
        own, _, out = staged
        with pytest.raises(UsageError, match="another seed"):
            train(own.model_copy(update={"seed": 1}), out)

    def test_transformers_loads_the_model_that_was_trained(self, staged, folders):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(str(staged[2] / "model"))
        tokenizer = AutoTokenizer.from_pretrained(str(staged[2] / "model"))
        assert model.config.vocab_size == len(tokenizer)
        before, after = weights(folders / "model"), weights(staged[2] / "model")
        assert any(bool((before[name] != after[name]).any()) for name in before)


@pytest.mark.slow
def test_lora_on_a_variant_of_special_tokens_saves_an_adapter_and_the_merged_model(
    folders, tmp_path
):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(str(folders / "model"))
    tokenizer = AutoTokenizer.from_pretrained(str(folders / "model"))
    add_progress_tokens(tokenizer, model)
    model.save_pretrained(tmp_path / "special")
    tokenizer.save_pretrained(tmp_path / "special")
    own = recipe(
        folders,
        model=str(tmp_path / "special"),
        data={"dataset": str(folders / "build"), "variant": "special"},
        lora={"rank": 4, "alpha": 8, "dropout": 0.0},
        max_steps=3,
    )
    train(own, tmp_path / "run")
    base = AutoModelForCausalLM.from_pretrained(str(tmp_path / "special"))
    adapted: Any = PeftModel.from_pretrained(base, str(tmp_path / "run" / "adapter"))
    assert any(bool((w != 0).any()) for name, w in adapted.named_parameters() if "lora_B" in name)
    merged, saved = adapted.merge_and_unload().state_dict(), weights(tmp_path / "run" / "model")
    assert all(bool((saved[name] == merged[name]).all()) for name in saved)


@pytest.mark.slow
def test_lora_in_two_stages_goes_on_after_a_kill_in_each(folders, tmp_path):
    """The second begins with the first one's adapter, which is trained on."""
    fields = STAGES | {
        "max_steps": [4, 2],
        "lora": {"rank": 2, "alpha": 4, "dropout": 0.1},
        "learning_rate": 5e-2,
        "warmup_steps": 0,
    }
    own, whole, killed = recipe(folders, **fields), tmp_path / "whole", tmp_path / "killed"
    report = train(own, whole)
    first = report["stages"][0]
    for steps in (2, first["steps"] - 1 + 2):  # at step 2 of each stage, before its checkpoint
        with pytest.raises(Interrupted):
            train(own, killed, display=Interrupter(steps))
    assert train(own, killed)["stages"] == report["stages"]
    assert timeless(read_lines(killed / "log.jsonl")) == timeless(read_lines(whole / "log.jsonl"))
    assert_same_weights(killed / "model", whole / "model")
    stages = whole / "checkpoints"
    chosen = adapter(stages / "stage-1" / f"checkpoint-{first['go_on_from']}")
    after = adapter(stages / "stage-2" / "checkpoint-1")
    changed = [float((after[name] - chosen[name]).abs().max()) for name in chosen]
    assert 0 < max(changed) < 0.1, "one step from that adapter, not from a new one"


def adapter(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def template(folders):
    return load_chat_template(folders / "model")


@pytest.fixture(scope="module")
def table(folders):
    return open_data(str(folders / "build"), "clean", None, splits=["train"]).rows("train")


class TestPrompts:
    def test_each_problem_with_a_gold_is_asked_once(self, table, template):
        answers = table["answer"].to_pylist()
        answers[3], answers[5] = None, "  "
        at = table.schema.get_field_index("answer")
        some = table.set_column(at, table.schema.field("answer"), pa.array(answers))
        found = read_prompts(pa.concat_tables([some, some]), template)
        rows = table.num_rows
        assert len(found.rows) == rows - 2
        assert found.left_out == {"no_gold": 4, "same_problem": rows - 2}
        assert [own["problem_id"] for own in found.rows] == [
            own for own, gold in zip(table["problem_id"].to_pylist(), answers, strict=True)
            if gold and gold.strip()
        ]  # fmt: skip

    def test_a_problem_that_holds_a_token_of_the_model_is_left_out(self, table, template):
        rows = table.to_pylist()
        rows[0]["prompt"][-1]["content"] += " </think>"
        found = read_prompts(pa.Table.from_pylist(rows, schema=table.schema), template)
        assert found.left_out == {"special_token_in_problem": 1}

    def test_no_gold_at_all_is_one_clear_line(self, table, template):
        at = table.schema.get_field_index("answer")
        none = pa.nulls(table.num_rows, pa.string())
        bare = table.set_column(at, table.schema.field("answer"), none)
        with pytest.raises(UsageError, match=r"it: no problem to train on \(\d+ no_gold\)"):
            read_prompts(bare, template, "it")

    def test_the_order_holds_every_prompt_equally_often(self):
        order = prompt_order(7, 21, (0, 1))
        assert all(sorted(order[at : at + 7]) == list(range(7)) for at in (0, 7, 14))
        assert order == prompt_order(7, 21, (0, 1)) != prompt_order(7, 21, (0, 2))
        assert prompt_order(7, 30, (0, 1))[:21] == order and len(prompt_order(7, 3, (5, 1))) == 3

    def test_prompts_have_one_bos_and_end_in_the_thinking(self, table):
        """What TRL gives to the model, with the tokenizer of the paper's model."""
        template = load_chat_template(TOKENIZER)
        turns = table["prompt"].to_pylist()[0]
        ids = template.tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
        assert ids.count(template.tokenizer.bos_token_id) == 1
        assert template.tokenizer.decode(ids).endswith("<think>\n")
        wanted = template.prompt([(own["role"], own["content"]) for own in turns])
        assert ids == list(wanted.token_ids or ())


def test_texts_keep_the_tokens_that_a_tokenizer_calls_special(folders):
    template = load_chat_template(folders / "model")
    tokenizer = template.tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["</think>"]})
    text = "α<progressbar>50%</progressbar></think> \\boxed{5}"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    end = tokenizer.eos_token_id
    assert "</think>" not in tokenizer.decode(ids, skip_special_tokens=True)
    assert decode(tokenizer, [ids, [*ids, end], [end], []], {end}) == [text, text, "", ""]


REFUSED = {
    "an engine for each stage": (
        {"use_vllm": True, "context": [8, 16]},
        "each of several stages .* set vllm_mode to server",
    ),
    "labels made again": ({"data": {"dataset": "BUILD", "relabel": True}}, "uses no labels"),
    "vllm without a GPU": ({"use_vllm": True}, "vLLM needs a GPU"),
    "groups do not fit": ({"num_generations": 5}, "a step has 16 completions"),
    "a group of one": ({"num_generations": 1}, "at least 2"),
    "one stage does not fit": (
        {"context": [8, 16], "num_generations": [4, 3]},
        "num_generations 3: a step has 16",
    ),
    "too long for the model": ({"context": 500}, "the model needs 7.. positions and has 512"),
    "special without its tokens": (
        {"data": {"dataset": "BUILD", "variant": "special"}},
        r"has no token \[0%\]",
    ),
    "no such variant": ({"data": {"dataset": "BUILD", "variant": "noisy"}}, "noisy"),
    "no such split": ({"data": {"dataset": "BUILD", "train_split": "ood"}}, "ood"),
    "no such model": ({"model": "nothing/at all"}, "no such folder"),
    "no table of coverage": ({"lengthening": {"coverage": "nothing.json"}}, "no table of coverage"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_in_one_line_before_training(folders, tmp_path, name):
    fields, message = REFUSED[name]
    data = fields.get("data", {})
    if "dataset" in data:
        fields = fields | {"data": data | {"dataset": str(folders / "build")}}
    with pytest.raises(UsageError, match=message) as error:
        train(recipe(folders, **fields), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists(), "a mended command would be refused as another run's"


def test_a_launcher_is_refused(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="start it without a launcher"):
        train(recipe(folders), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_missing_library_names_the_extra(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(
        devices, "find_spec", lambda name: None if name == "trl" else importlib.util.find_spec(name)
    )
    with pytest.raises(ProgdataError, match=r"trl is not installed.*progdata\[train\]"):
        train(recipe(folders), tmp_path / "run")


def test_stages_below_the_steepest_gains_are_left_out(folders, tmp_path):
    """Coverage rises up to 16 tokens: of 8, 16 and 24 the run begins with 16."""
    table = [{"max_tokens": own, "coverage": c} for own, c in ((8, 0.1), (16, 0.6), (24, 0.61))]
    (tmp_path / "stats.json").write_text(json.dumps({"contexts": table}), "utf-8")
    own = recipe(
        folders,
        context=[8, 16, 24],
        max_steps=1,
        lengthening={"window": 2, "coverage": str(tmp_path / "stats.json")},
    )
    with pytest.raises(Interrupted):
        train(own, tmp_path / "run", display=Interrupter(1))
    (tmp_path / "stats.json").write_text(json.dumps({"contexts": table[:1]}), "utf-8")
    with pytest.raises(UsageError, match="begun with another stages"):
        train(own, tmp_path / "run")
    (tmp_path / "stats.json").write_text(json.dumps({"contexts": table}), "utf-8")
    report = train(own, tmp_path / "run")
    assert [stage["context"] for stage in report["stages"]] == [16, 24]


def test_the_shipped_recipe_has_the_settings_of_table_2():
    own = load_recipe(GrpoRecipe, "grpo")
    assert (own.context, own.max_steps, own.num_generations) == (8096, 500, 4)
    assert (own.temperature, own.max_grad_norm, own.warmup_steps) == (1.0, 0.1, 25)
    assert (own.beta, own.epsilon, own.epsilon_high) == (0.0, 0.2, 0.28)
    assert own.lr_scheduler_type == "constant_with_warmup" and own.gradient_accumulation_steps == 4
    assert own == GrpoRecipe(data=own.data, model=own.model), "the defaults are those of the file"


def test_the_shipped_recipe_takes_deepscalers_schedule():
    own = load_recipe(
        GrpoRecipe,
        "grpo",
        ["context=[8192, 16384, 24576]", "num_generations=[8, 16, 16]"],
    )
    assert [stage.num_generations for stage in own.stages()] == [8, 16, 16]
