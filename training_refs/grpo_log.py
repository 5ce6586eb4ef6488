"""What a GRPO run writes while it trains: its log and its samples.

A run that was killed wrote lines after its last checkpoint; the resumed run writes these steps
again, so that they are dropped first, and both files hold every step once.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from progdata.builders.atomic import write_text
from progdata.releases.display import Display
from progdata.training_refs.context_lengthening import LengtheningSection, Stage, find_plateau
from progdata.training_refs.resuming import LOG

SAMPLES = "samples.jsonl"


def run_log(
    out: Path,
    number: int,
    stage: Stage,
    recorded: list[dict[str, Any]],
    watch: LengtheningSection | None,
    display: Display,
) -> Any:
    """TRL's callback that writes RUN/log.jsonl and RUN/samples.jsonl, and ends a stage on its
    plateau where another one follows (`watch`)."""
    from transformers import TrainerCallback

    class RunLog(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            for name in (LOG, SAMPLES):
                _keep_until(out / name, number, state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return  # the summary at the end
            where = {"stage": number, "context": stage.context, "step": state.global_step}
            _append(out / LOG, [where | _plain(logs)])
            _append(out / SAMPLES, [where | own for own in recorded])
            recorded.clear()
            done = state.global_step / stage.max_steps
            display.say(done, f"step {state.global_step:,}, reward {_shown(logs.get('reward'))}")
            if watch is not None and find_plateau(steps_of(state.log_history), watch) is not None:
                control.should_training_stop = control.should_save = True

    return RunLog()


def steps_of(log_history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a trainer's log that are steps, without the summary at its end."""
    return [own for own in log_history if "loss" in own]


def _keep_until(path: Path, stage: int, step: int) -> None:
    """Drop the lines that a killed run wrote after the checkpoint that is resumed."""
    if path.is_file():
        lines = path.read_text("utf-8").splitlines(keepends=True)
        kept = []
        for line in lines:
            if not line.endswith("\n"):
                break  # cut off while it was written
            own = json.loads(line)
            if (own["stage"], own["step"]) <= (stage, step):
                kept.append(line)
        write_text(path, "".join(kept))


def _append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(own, ensure_ascii=False) + "\n" for own in rows)


def _plain(logs: Mapping[str, Any]) -> dict[str, Any]:
    """What was logged, as numbers."""
    return {name: float(value) if value is not None else None for name, value in logs.items()}


def _shown(value: Any) -> str:
    return "none" if value is None else f"{float(value):.3f}"
