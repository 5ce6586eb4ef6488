"""Recipes of trainers: every field can be set, a wrong one is named, a run keeps to its recipe."""

from pathlib import Path

import pytest
import yaml

from progdata.builders.errors import UsageError
from progdata.releases.recipe import load_recipe as load_build_recipe
from progdata.releases.recipe import shipped_recipes
from progdata.training_refs.grpo import GrpoRecipe
from progdata.training_refs.probe import ProbeRecipe
from progdata.training_refs.sft import SftRecipe
from progdata.training_refs.train_recipe import SHIPPED, begin_run, load_recipe, recipe_text

KINDS = {"sft": SftRecipe, "grpo": GrpoRecipe, "probe": ProbeRecipe}
NEEDED = ["data.dataset=build", "model=folder"]


def refusal(text: str | bytes, folder: Path, *settings: str) -> str:
    path = folder / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as caught:
        load_recipe(SftRecipe, str(path), settings)
    message = str(caught.value)
    assert message == " ".join(message.split()) and message.startswith((str(path), "--set"))
    return message


@pytest.mark.parametrize("name", KINDS)
def test_a_recipe_of_each_trainer_is_shipped(name):
    assert name in shipped_recipes(SHIPPED)
    recipe = load_recipe(KINDS[name], name, NEEDED)
    assert recipe.data.dataset == "build" and recipe.model == "folder"


@pytest.mark.parametrize("name", ["sft", "grpo"])
def test_the_recipes_of_the_experiment_can_be_read(name):
    path = Path(__file__).resolve().parent.parent / "recipes" / "experiment" / f"{name}.yaml"
    assert load_recipe(KINDS[name], str(path)).lora is None


def test_the_data_of_the_experiment_can_be_read():
    path = Path(__file__).resolve().parent.parent / "recipes" / "experiment" / "data.yaml"
    names = [variant.name for variant in load_build_recipe(str(path)).build_variants()]
    assert names == ["clean", "noisy", "special", "masked"]


@pytest.mark.parametrize("name", KINDS)
def test_a_recipe_written_out_is_the_same_recipe(name, tmp_path):
    recipe = load_recipe(KINDS[name], name, NEEDED)
    (tmp_path / "again.yaml").write_text(recipe_text(recipe), "utf-8")
    assert load_recipe(KINDS[name], str(tmp_path / "again.yaml")) == recipe


class TestSettings:
    def test_they_stand_above_the_file(self):
        recipe = load_recipe(SftRecipe, "sft", [*NEEDED, "lora.rank=3", "mask.max=0.25"])
        assert recipe.lora is not None and recipe.lora.rank == 3
        assert recipe.mask.max == 0.25

    def test_a_section_can_be_switched_off(self):
        assert load_recipe(SftRecipe, "sft", [*NEEDED, "lora=null"]).lora is None

    def test_the_file_of_the_package_stays_as_it_is(self):
        load_recipe(SftRecipe, "sft", [*NEEDED, "lora.rank=3"])
        assert load_recipe(SftRecipe, "sft", NEEDED).lora.rank != 3  # type: ignore[union-attr]

    @pytest.mark.parametrize("setting", ["rank", "=3", "lora.rank=[1", "model=2024-13-01"])
    def test_what_is_no_setting_is_refused(self, setting, tmp_path):
        assert f"--set {setting}: " in refusal("{}", tmp_path, setting)


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("modle: a", "unknown field 'modle'; did you mean 'model'?"),
            ("lora: {rang: 3}", "unknown field 'lora.rang'; did you mean 'rank'?"),
            ("data: {dataset: a, variants: b}", "did you mean 'variant'?"),
            ("data: {dataset: a}", "model is missing"),
            ("model: a", "data is missing; write it into the recipe, or give --dataset"),
            ("{data: {dataset: a}, model: b, context: many}", "context: "),
            ("{data: {dataset: a}, model: b, mask: {mode: hard}}", "mask.mode"),
            ("[a]", "expected fields and values, found list"),
            ("a: [", "not YAML"),
            ("model: 2024-02-31", "not YAML"),
            (b"\xff", "not YAML"),
        ],
    )
    def test_what_is_wrong_is_named(self, text, said, tmp_path):
        assert said in refusal(text, tmp_path)

    def test_a_file_that_is_not_there_names_those_that_are(self, tmp_path):
        with pytest.raises(UsageError, match=r"give a YAML file or one of: .*sft"):
            load_recipe(SftRecipe, str(tmp_path / "none.yaml"))


class TestRuns:
    def recipe(self, *settings: str) -> SftRecipe:
        return load_recipe(SftRecipe, "sft", [*NEEDED, *settings])

    def test_the_recipe_is_written_into_its_folder(self, tmp_path):
        out = tmp_path / "new" / "run"
        begin_run(self.recipe(), out)
        assert yaml.safe_load((out / "recipe.yaml").read_text("utf-8"))["seed"] == 0
        begin_run(self.recipe(), out)  # the same again goes on

    def test_another_recipe_is_refused_by_the_names_of_what_differs(self, tmp_path):
        begin_run(self.recipe(), tmp_path / "run")
        with pytest.raises(UsageError, match=r"another loss\.label_weight, seed; choose"):
            begin_run(self.recipe("seed=1", "loss.label_weight=9"), tmp_path / "run")

    @pytest.mark.parametrize("held", ["model: 2024-13-01", "a: [", b"\xff"])
    def test_a_damaged_recipe_in_the_folder_is_refused(self, tmp_path, held):
        content = held if isinstance(held, bytes) else held.encode()
        (tmp_path / "recipe.yaml").write_bytes(content)
        with pytest.raises(UsageError, match=r"recipe\.yaml: not YAML; choose another --out"):
            begin_run(self.recipe(), tmp_path)

    def test_a_folder_with_something_else_is_refused(self, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        with pytest.raises(UsageError, match="is not empty"):
            begin_run(self.recipe(), tmp_path)

    def test_a_file_in_its_place_is_refused(self, tmp_path):
        (tmp_path / "run").write_text("mine")
        with pytest.raises(UsageError, match="run"):
            begin_run(self.recipe(), tmp_path / "run")
