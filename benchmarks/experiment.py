"""The experiment of docs/experiment.md: from countdown problems to a table, in one command.

    python benchmarks/experiment.py                  # two CPU cores: under half an hour
    python benchmarks/experiment.py --scale gpu      # a larger model, on a GPU

A small transformer is trained from scratch on the variants clean, noisy, special and masked of the
same rows, the clean one is reinforced with GRPO, and each is evaluated on problems it has not seen,
by sampling. Every step is a command of progdata, which goes on where it was stopped; so does this.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import polars as pl
from experiment_model import make_model
from experiment_report import write_report

from progdata.builders.markers import strip

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / "recipes" / "experiment"
SECONDS = Path("seconds.json")
HELD_OUT = "held-out.jsonl"
"""Problems that no model has seen, with their traces, without markers."""

VARIANTS = ("clean", "noisy", "special", "masked")


@dataclass(frozen=True)
class Scale:
    """How large everything is. `rows`: countdown traces before the long ones are left out."""

    rows: int
    hidden: int
    layers: int
    vocabulary: int
    steps: int
    grpo_steps: int
    problems: int
    samples: int
    max_tokens: int
    probed: int
    rolled_out: int
    device: str


SCALES = {
    "laptop": Scale(
        rows=24_000,
        hidden=128,
        layers=4,
        vocabulary=2_048,
        steps=320,
        grpo_steps=24,
        problems=120,
        samples=2,
        max_tokens=480,
        probed=300,
        rolled_out=12,
        device="cpu",
    ),
    "gpu": Scale(
        rows=400_000,
        hidden=512,
        layers=8,
        vocabulary=4_096,
        steps=5_000,
        grpo_steps=200,
        problems=1_000,
        samples=4,
        max_tokens=480,
        probed=5_000,
        rolled_out=200,
        device="cuda",
    ),
}


def main() -> None:
    options = _options()
    scale = SCALES[options.scale]
    work, report = _places(options)
    os.chdir(work)
    seconds = _seconds()
    for name, step in _steps(scale, options.seed).items():
        if name not in seconds:  # a step that was stopped counts from where it went on
            begun = time.monotonic()
            print(f"--- {name}", flush=True)
            step()
            seconds[name] = time.monotonic() - begun
            SECONDS.write_text(json.dumps(seconds), "utf-8")
    facts = {
        "scale": options.scale,
        "seed": options.seed,
        "command": f"python benchmarks/experiment.py --scale {options.scale} --seed {options.seed}",
        "machine": _machine(scale),
        "sizes": asdict(scale),
        "seconds": seconds,
    }
    write_report(work, facts, report)
    print(f"{report}: {sum(seconds.values()) / 60:.1f} minutes")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scale", choices=SCALES, default="laptop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", help="folder of all runs: progdata-experiment-SCALE-SEED")
    parser.add_argument("--report", help="docs/experiment.md, or docs/experiment-SCALE.md")
    return parser.parse_args()


def _places(options: argparse.Namespace) -> tuple[Path, Path]:
    """The folder of the runs, and the file of the report."""
    name = "experiment" if options.scale == "laptop" else f"experiment-{options.scale}"
    work = Path(options.work or f"progdata-experiment-{options.scale}-{options.seed}").resolve()
    work.mkdir(parents=True, exist_ok=True)
    return work, Path(options.report or ROOT / "docs" / f"{name}.md").resolve()


def _seconds() -> dict[str, float]:
    """What each step that is done took."""
    return json.loads(SECONDS.read_text("utf-8")) if SECONDS.is_file() else {}


def _machine(scale: Scale) -> str:
    if scale.device == "cpu":
        return f"{len(os.sched_getaffinity(0))} CPU cores"
    import torch

    return torch.cuda.get_device_name(0)


def _steps(scale: Scale, seed: int) -> dict[str, Callable[[], object]]:
    """What is done, in order, by name."""
    model = partial(
        make_model,
        Path("model"),
        vocabulary=scale.vocabulary,
        hidden=scale.hidden,
        layers=scale.layers,
        context=1_024,
        seed=seed,
    )
    runs = (*VARIANTS, "rl")
    return {
        "model": model,
        "data": partial(_build, scale, seed),
        **{f"train {variant}": partial(_train, variant, scale, seed) for variant in VARIANTS},
        "train rl": partial(_reinforce, scale, seed),
        "probe": partial(_probe, scale, seed),
        **{f"sample {run}": partial(_sample, run, scale, seed) for run in runs},
        "roll out": partial(_roll_out, scale, seed),
        **{f"evaluate {run}": partial(_evaluate, run, scale, seed) for run in runs},
    }


def _build(scale: Scale, seed: int) -> None:
    """The data of all variants, and the held-out problems."""
    progdata("build", RECIPES / "data.yaml", "--source", f"countdown:{scale.rows}",
             "--tokenizer", "model", "--seed", seed, "--workers", 2, "--out", "data")  # fmt: skip
    names = ["problem", "answer", "completion"]
    held_out = pl.read_parquet("data/data/clean/validation-*.parquet", columns=names)
    unmarked = [strip(text) for text in held_out["completion"]]
    chosen = held_out.with_columns(completion=pl.Series(unmarked)).unique(
        "problem", maintain_order=True
    )
    chosen.head(scale.problems).write_ndjson(HELD_OUT)


def _train(variant: str, scale: Scale, seed: int) -> None:
    progdata("train", "sft", "--config", RECIPES / "sft.yaml", "--dataset", "data",
             "--model", "model", "--set", f"data.variant={variant}", "--set", f"seed={seed}",
             "--set", f"max_steps={scale.steps}", "--set", f"device={scale.device}",
             "--out", f"runs/{variant}")  # fmt: skip


def _reinforce(scale: Scale, seed: int) -> None:
    progdata("train", "grpo", "--config", RECIPES / "grpo.yaml", "--dataset", "data",
             "--model", "runs/clean/model", "--set", f"max_steps={scale.grpo_steps}",
             "--set", f"seed={seed}", "--set", f"device={scale.device}",
             "--out", "runs/rl")  # fmt: skip


def _probe(scale: Scale, seed: int) -> None:
    """Linear probes on the hidden states of the clean model."""
    layers = [scale.layers // 2, scale.layers]
    progdata("train", "probe", "--config", "probe", "--dataset", "data",
             "--model", "runs/clean/model", "--set", f"layers={layers}",
             "--set", f"data.limit={scale.probed}", "--set", f"data.eval_limit={scale.probed // 4}",
             "--set", f"seed={seed}", "--set", f"device={scale.device}",
             "--out", "runs/probe")  # fmt: skip


def _sample(run: str, scale: Scale, seed: int) -> None:
    progdata("generate", "--problems", HELD_OUT, "--model", f"runs/{run}/model",
             *_engine(scale), "--n", scale.samples, "--temperature", 0.6,
             "--max-tokens", scale.max_tokens, "--seed", seed,
             "--out", f"samples/{run}")  # fmt: skip


def _roll_out(scale: Scale, seed: int) -> None:
    """Rollouts of the clean model from prefixes of held-out traces (without markers, as rollouts
    are): how far progress can be predicted."""
    progdata("rollouts", HELD_OUT, "--how", "continue", "--prefixes", 4,
             "--n", 8, "--limit", scale.rolled_out, "--segmenter", "tokens:32",
             "--model", "runs/clean/model", *_engine(scale), "--temperature", 0.6,
             "--max-tokens", scale.max_tokens, "--seed", seed, "--no-verify",
             "--out", "rollouts")  # fmt: skip


def _evaluate(run: str, scale: Scale, seed: int) -> None:
    """The metrics of one run; for the clean one all that the paper looks at. A second time with
    the run's own lengths for the position baselines."""
    common = ["eval", f"samples/{run}/traces.parquet", "--tokenizer", "model", "--long-tokens", 150,
              "--seed", seed]  # fmt: skip
    more = []
    if run == "clean":
        more = ["--unconditioned", "--model", "runs/clean/model", *_engine(scale),
                "--rollouts", "rollouts", "--probe", "runs/probe"]  # fmt: skip
    lengths = ["--lengths", "data/data/clean/train-*.parquet"]
    progdata(*common, *lengths, *more, "--plot", f"evals/{run}.png", "--out", f"evals/{run}",
             may_fail=True)  # fmt: skip
    progdata(*common, "--no-grade", "--out", f"evals/{run}-own", may_fail=True)


def _engine(scale: Scale) -> list[str | int]:
    return ["--engine", "transformers", "--device", scale.device, "--batch-size", 100,
            "--profile", "r1-plain"]  # fmt: skip


def progdata(*arguments: object, may_fail: bool = False) -> None:
    """Run a command of progdata; what it makes holds its report. `may_fail`: an evaluation has
    nothing to score where a model writes no marker."""
    command = [str(own) for own in arguments]
    print("progdata", *command, flush=True)
    done = subprocess.run([sys.executable, "-m", "progdata.cli", *command], check=False)
    if done.returncode and not (may_fail and done.returncode == 1):
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
