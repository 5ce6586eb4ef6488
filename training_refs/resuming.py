"""Going on with a run: on the same data and model only, from the last checkpoint, with a log that
has each step once."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from progdata.builders.atomic import write_text
from progdata.builders.errors import UsageError
from progdata.training_refs.train_recipe import RECIPE_FILE, TrainRecipe, begin_run

CHECKPOINTS, LOG = "checkpoints", "log.jsonl"
"""Where a run keeps its checkpoints, and its losses as JSON lines."""

STATE = "trainer_state.json"
"""What transformers writes last into a checkpoint."""

REPORT, BEGUN = "report.json", "begun.json"
"""The report of a finished run; what an unfinished one was begun on."""

_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")


def read_report(recipe: TrainRecipe, out: Path) -> dict[str, Any] | None:
    """The report of the run in `out` where it has ended, else None. Writes nothing.

    Raises UsageError where `out` holds the run of another recipe.
    """
    if any((out / name).is_file() for name in (RECIPE_FILE, REPORT)):
        begin_run(recipe, out)
    file = out / REPORT
    return json.loads(file.read_text("utf-8")) if file.is_file() else None


def begin_run_on(recipe: TrainRecipe, out: Path, begun_on: Mapping[str, Any]) -> None:
    """Make `out` the folder of this recipe's run on this data and model, as OUT/begun.json has it.

    A recipe names folders and branches, whose content may change while a run is broken off.
    `begun_on`: by name, as plain JSON. Raises UsageError where a run in `out` was begun on other.
    """
    begin_run(recipe, out)
    file = out / BEGUN
    if not file.is_file():
        write_text(file, json.dumps(begun_on, indent=2) + "\n")
        return
    held = json.loads(file.read_text("utf-8"))
    changed = [name for name in {**held, **begun_on} if held.get(name) != begun_on.get(name)]
    if changed:
        raise UsageError(
            f"{out}: its run was begun with another {' and '.join(changed)} than is there now; "
            "choose another --out, or delete it"
        )


def train_on(trainer: Any, checkpoints: Path, log: Path) -> None:
    """Train to the end, from the last whole checkpoint where there is one.

    `trainer`: a `transformers.Trainer` that adds lines with a `step` to `log`. Lines of steps after
    the checkpoint are taken out: those steps are made again.
    """
    checkpoint, step = last_checkpoint(checkpoints)
    lines = log.read_text("utf-8").splitlines(keepends=True) if log.is_file() else []
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    write_text(log, "".join(kept))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def last_checkpoint(folder: Path) -> tuple[Path | None, int]:
    """The last checkpoint that was written to its end, and its step; None and 0 without one.

    Those that lack their last file, or have half of it, are deleted, else the run would end up
    with two histories.
    """
    for step, path in sorted(checkpoints_in(folder).items(), reverse=True):
        try:
            if "global_step" in json.loads((path / STATE).read_text("utf-8")):
                return path, step
        except (FileNotFoundError, ValueError):
            pass
        shutil.rmtree(path)
    return None, 0


def read_history(checkpoint: Path) -> list[dict[str, Any]]:
    """The log of all steps up to a checkpoint, as transformers keeps it."""
    return json.loads((checkpoint / STATE).read_text("utf-8"))["log_history"]


def checkpoints_in(folder: Path) -> dict[int, Path]:
    """The folders checkpoint-STEP in a folder, by step."""
    found = {path: _CHECKPOINT.fullmatch(path.name) for path in folder.glob("checkpoint-*")}
    return {int(own[1]): path for path, own in found.items() if own and path.is_dir()}
