"""Going on from the last checkpoint, with a log that has each step once."""

import json
import shutil
from pathlib import Path
from typing import Any

from progdata.builders.atomic import write_text

CHECKPOINTS, LOG = "checkpoints", "log.jsonl"
"""Where a run keeps its checkpoints, and its losses as JSON lines."""


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

    `trainer_state.json` is the last file that transformers writes into one. Checkpoints that lack
    it are deleted, else the run would end up with two histories.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in reversed(found):
        try:
            state = json.loads((path / "trainer_state.json").read_text("utf-8"))
            return path, state["global_step"]
        except (OSError, ValueError, KeyError):
            shutil.rmtree(path)
    return None, 0
