"""Going on with a run: on the same data and model, from checkpoints that are whole."""

import json
from pathlib import Path

import pytest

from progdata.builders.errors import UsageError
from progdata.training_refs.resuming import begin_run_on, last_checkpoint, read_report
from progdata.training_refs.train_recipe import TrainRecipe

RECIPE = TrainRecipe.model_validate({"data": {"dataset": "d"}, "model": "m"})
BEGUN = {"data": "abc", "model": "def", "stages": [{"context": 8}]}


def make_checkpoint(folder: Path, step: int, state: str | None = None) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(
        json.dumps({"global_step": step}) if state is None else state, "utf-8"
    )
    return path


def test_a_run_goes_on_with_what_it_was_begun_on(tmp_path):
    begin_run_on(RECIPE, tmp_path / "run", BEGUN)
    begin_run_on(RECIPE, tmp_path / "run", BEGUN)
    assert json.loads((tmp_path / "run" / "begun.json").read_text("utf-8")) == BEGUN


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"data": "xyz"}, "another data than"),
        ({"model": "xyz"}, "another model than"),
        ({"stages": [{"context": 9}]}, "another stages than"),
        ({"data": "xyz", "model": "xyz"}, "another data and model than"),
        ({"more": 1}, "another more than"),
    ],
    ids=lambda own: own if isinstance(own, str) else None,
)
def test_a_run_does_not_go_on_with_something_else(tmp_path, changed, named):
    begin_run_on(RECIPE, tmp_path, BEGUN)
    with pytest.raises(UsageError, match=named) as caught:
        begin_run_on(RECIPE, tmp_path, BEGUN | changed)
    assert "\n" not in str(caught.value)


def test_reading_a_report_writes_nothing_and_refuses_another_recipe(tmp_path):
    out = tmp_path / "run"
    assert read_report(RECIPE, out) is None and not out.exists()
    begin_run_on(RECIPE, out, BEGUN)
    assert read_report(RECIPE, out) is None
    (out / "report.json").write_text('{"steps": 3}', "utf-8")
    assert read_report(RECIPE, out) == {"steps": 3}
    with pytest.raises(UsageError, match="another seed"):
        read_report(RECIPE.model_copy(update={"seed": 1}), out)


@pytest.mark.parametrize("torn", ["", '{"global_st', "{}"], ids=["empty", "half", "other"])
def test_a_torn_checkpoint_is_deleted(tmp_path, torn):
    whole = make_checkpoint(tmp_path, 9)
    later = make_checkpoint(tmp_path, 10, torn)
    without = tmp_path / "checkpoint-11"
    without.mkdir()
    assert last_checkpoint(tmp_path) == (whole, 9)
    assert not later.exists() and not without.exists()


def test_what_is_no_checkpoint_is_left_alone(tmp_path):
    whole = make_checkpoint(tmp_path, 2)
    for name in ("checkpoint-best", "checkpoint-2-copy", "checkpoint-"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-30").write_text("a file", "utf-8")
    assert last_checkpoint(tmp_path) == (whole, 2)
    assert len(list(tmp_path.iterdir())) == 5
    assert last_checkpoint(tmp_path / "nowhere") == (None, 0)


def test_a_checkpoint_that_cannot_be_read_now_is_not_deleted(tmp_path):
    make_checkpoint(tmp_path, 1)
    (tmp_path / "checkpoint-2" / "trainer_state.json").mkdir(parents=True)
    with pytest.raises(OSError):
        last_checkpoint(tmp_path)
    assert (tmp_path / "checkpoint-2").is_dir()
