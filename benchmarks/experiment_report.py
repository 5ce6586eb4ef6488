"""What benchmarks/experiment.py found, as Markdown; each number is read from a report of a run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from experiment_plots import plot_along, plot_losses

RUNS = ("clean", "noisy", "special", "masked", "rl")
BASELINES = {
    "survival": "survival curve",
    "mean_length": "mean length",
    "constant": "constant 50 %",
    "previous": "previous prediction",
    "random": "uniform random",
}
BY_LENGTHS = ("survival", "mean_length")
DRAWS = 2_000

Report = Mapping[str, Any]


def write_report(work: Path, facts: Report, path: Path) -> None:
    """Write the report of the runs in `work` to `path`, and its plots into a folder beside it.

    A run without a marker that can be scored has no evaluation, and is told as such.
    """
    found = {run: _read_if_there(work / "evals" / run / "report.json") for run in RUNS}
    evals = {run: own for run, own in found.items() if own is not None}
    own_lengths = {run: _read(work / "evals" / f"{run}-own" / "report.json") for run in evals}
    trained = _read(work / "runs" / "clean" / "report.json")
    logs = {run: _lines(work / "runs" / run / "log.jsonl") for run in RUNS}
    plots = path.parent / path.stem
    plots.mkdir(parents=True, exist_ok=True)
    plot_losses({run: logs[run] for run in RUNS[:-1]}, plots / "label-loss.png")
    plot_along(evals, plots / "along.png")
    parts = [
        _head(facts, trained, work),
        _errors(evals, own_lengths),
        _verdict(evals, own_lengths),
        _reasons(work, evals, own_lengths, logs["special"]),
        _behaviour(evals),
        _changes(work, evals),
        _losses(logs, plots.name),
        _reinforced(logs["rl"]),
        _analyses(evals["clean"]),
        _limits(facts),
    ]
    path.write_text("\n\n".join(part.strip() for part in parts) + "\n", "utf-8")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def _read_if_there(path: Path) -> dict[str, Any] | None:
    return _read(path) if path.is_file() else None


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _head(facts: Report, trained: Report, work: Path) -> str:
    """What was done, by which command, in what time."""
    sizes, seconds = facts["sizes"], facts["seconds"]
    config = _read(work / "model" / "config.json")
    recipe = yaml.safe_load((work / "runs" / "clean" / "recipe.yaml").read_text("utf-8"))
    batch = recipe["per_device_batch_size"] * recipe["gradient_accumulation"]
    problems = len((work / "held-out.jsonl").read_text("utf-8").splitlines())
    layers, width = config["num_hidden_layers"], config["hidden_size"]
    minutes = sum(seconds.values()) / 60
    return "\n".join(
        [
            f"# An experiment of {minutes:.0f} minutes",
            "",
            f"Written by `{facts['command']}`: {minutes:.1f} minutes on {facts['machine']}.",
            "",
            f"A Llama of {layers} layers and width {width} with a tokenizer of its own "
            f"({config['vocab_size']:,} tokens) is",
            "trained from scratch on countdown traces of at most 300 tokens of thinking, cut into "
            "segments of 32",
            f"tokens: {trained['steps']} steps of {batch} rows, {trained['epochs']:.2f} of an "
            f"epoch of {trained['rows']:,} rows, the same rows in the",
            "same order for every variant. `rl` is `clean` after "
            f"{sizes['grpo_steps']} steps of GRPO. Each model is then sampled",
            f"{sizes['samples']} times (temperature 0.6, top_p 0.95) on the same {problems} "
            "problems, which none has seen.",
            f"Every seed is {facts['seed']}; there is one run of each.",
            "",
            _table(["step", "seconds"], [[name, f"{own:.0f}"] for name, own in seconds.items()]),
        ]
    )


def _errors(evals: Mapping[str, Report], own_lengths: Mapping[str, Report]) -> str:
    """MAE of the models and of what reads nothing, on the same positions."""
    header = ["", "raw", "clipped", *BASELINES.values(), "survival, own lengths"]
    blocks = []
    for part, title in (("all", "Over all markers:"), ("before_end", "Before the end alone:")):
        rows = []
        for run, report in evals.items():
            progress = _part(report, part)
            own = [_interval(progress["mae"][kind]["macro"]) for kind in ("raw", "clip")]
            others = [_interval(progress["baselines"][b]["mae"]["macro"]) for b in BASELINES]
            survival = _part(own_lengths[run], part)["baselines"]["survival"]["mae"]["macro"]
            rows.append([f"`{run}`", *own, *others, _interval(survival)])
        blocks.append(f"{title}\n\n{_table(header, rows)}")
    return "\n\n".join(
        [
            "## Error beside the baselines",
            "Mean absolute error of the markers in the samples, over traces, with 95 % intervals "
            "over problems.\nThe baselines are scored on the same positions of the same traces. "
            "Those that go by the position know\nthe lengths of the training rows, or, in the last "
            "column, the lengths of the model's other samples.\nA model puts its last marker right "
            "before `</think>`, where 100 % is always right and no position\ncan tell; so all is "
            "given again without those markers.",
            *blocks,
        ]
    )


def _part(report: Report, part: str) -> Report:
    progress = report["progress"]
    return progress if part == "all" else progress[part]


def _verdict(evals: Mapping[str, Report], own_lengths: Mapping[str, Report]) -> str:
    """Whether each model beats each baseline, plainly, by paired differences."""
    own_names = [f"{BASELINES[name]}, own lengths" for name in BY_LENGTHS]
    header = ["", *(f"- {name}" for name in [*BASELINES.values(), *own_names]), "beats all"]
    rows, lost = [], []
    for run, report in evals.items():
        sources = [(report, BASELINES), (own_lengths[run], BY_LENGTHS)]
        differences = {
            f"{BASELINES[name]}{', own lengths' if own is not report else ''}": _part(
                own, "before_end"
            )["baselines"][name]["difference"]["raw"]["macro"]
            for own, names in sources
            for name in names
        }
        failed = [name for name, own in differences.items() if not _below_zero(own)]
        lost += [f"`{run}` does not beat {name}" for name in failed]
        rows.append([f"`{run}`", *map(_interval, differences.values()), "no" if failed else "yes"])
    said = (
        "Every model beats every baseline: each interval lies below 0."
        if not lost and len(evals) == len(RUNS)
        else f"**Not every model beats every baseline: {'; '.join(lost)}.** There the interval of "
        "the difference reaches 0 or lies above it."
    )
    missing = [f"`{run}`" for run in RUNS if run not in evals]
    if missing:
        said += f" No marker of {', '.join(missing)} could be scored."
    return f"Model minus baseline, raw, before the end, paired:\n\n{_table(header, rows)}\n\n{said}"


def _reasons(
    work: Path,
    evals: Mapping[str, Report],
    own_lengths: Mapping[str, Report],
    special: Sequence[Report],
) -> str:
    """What lies behind a baseline that is not beaten: impossible labels, lengths that are so alike
    that the position tells most of it, tokens that are hardly trained."""
    label_loss = [own["eval_label_loss"] for own in special if "eval_label_loss" in own][-1]
    rows = []
    for run, report in evals.items():
        part, own = (_part(one, "before_end") for one in (report, own_lengths[run]))
        labels = pl.read_parquet(work / "evals" / run / "markers.parquet", columns=["label"])
        lengths = report["reports"]["thinking_tokens"]
        clipped = [
            _interval(one["baselines"]["survival"]["difference"]["clip"]["macro"])
            for one in (part, own)
        ]
        over = int((labels["label"] > 100).sum())
        between = f"{_number(lengths['p5'])} to {_number(lengths['p95'])}"
        rows.append([f"`{run}`", over, labels["label"].max(), *clipped, between])
    header = ["", "labels over 100", "highest label", "clipped, - survival curve",
              "clipped, - survival curve, own lengths", "thinking tokens, p5 to p95"]  # fmt: skip
    return (
        "Why a baseline is not beaten: a few labels far over 100 carry the raw error of a model "
        "that has them\n(clipped to 100 they cost little); and the nearer the lengths of a model's "
        "samples are to one another, the\nmore the position alone says about them to a baseline "
        "that knows these lengths. A label of\n`special` is one of 101 tokens whose rows begin "
        f"untrained: its held-out loss is {label_loss:.2f} nats after these steps,\nand "
        f"{np.log(101):.2f} for a guess.\n\n" + _table(header, rows)
    )


def _below_zero(estimate: Report) -> bool:
    return estimate["high"] is not None and estimate["high"] < 0


def _behaviour(evals: Mapping[str, Report]) -> str:
    header = ["", "samples", "scored", "markers a trace", "tokens between", "over 100 %",
              "non-monotone", "outside", "malformed", "accuracy", "median thinking"]  # fmt: skip
    rows = []
    for run, own in evals.items():
        reports, markers, progress = own["reports"], own["markers"], own["progress"]
        rows.append(
            [
                f"`{run}`",
                own["traces"]["read"],
                own["traces"]["with_markers"],
                _number(reports["per_trace"]["mean"]),
                _number(reports["spacing_tokens"]["mean"]),
                _percent(progress["share_over_100"]["micro"]["mean"]),
                _percent(progress["non_monotone"]["mean"]),
                markers["outside"],
                markers["malformed"],
                _percents(own["accuracy"]),
                _number(reports["thinking_tokens"]["p50"]),
            ]
        )
    return (
        "## What the models do\n\nSamples without a finished thinking or without a marker are not "
        "scored; accuracy counts all.\n\n" + _table(header, rows)
    )


def _changes(work: Path, evals: Mapping[str, Report]) -> str:
    """What each change of the recipe does to the error: paired by problem, over the same draws."""
    errors = {run: _errors_by_problem(work / "evals" / run / "markers.parquet") for run in evals}
    rows = []
    for run in evals:
        if run != "clean":
            estimate = _difference(errors[run], errors["clean"])
            apart = estimate["high"] < 0 or estimate["low"] > 0
            rows.append([f"`{run}`", _interval(estimate), "yes" if apart else "no"])
    header = ["", "raw MAE minus that of `clean`", "interval without 0"]
    return (
        "## What noise, special tokens, masking and RL change\n\nOver traces and all markers; "
        "problems are drawn, with the samples that each model wrote for them. Every\nmodel is "
        "scored on what it wrote itself.\n\n" + _table(header, rows)
    )


def _errors_by_problem(path: Path) -> pl.DataFrame:
    """Of each problem the number of scored traces, and the sum of their mean errors."""
    markers = pl.read_parquet(path)
    error = (pl.col("predicted") - pl.col("truth")).abs().mean()
    traces = markers.group_by("problem_id", "trace").agg(error=error)
    return traces.group_by("problem_id").agg(traces=pl.len(), error=pl.col("error").sum())


def _difference(one: pl.DataFrame, other: pl.DataFrame, seed: int = 0) -> dict[str, float]:
    """The difference of two means over traces, bootstrapped over the problems of both."""
    both = one.join(other, on="problem_id", how="full", coalesce=True).fill_null(0)
    values = both.sort("problem_id").drop("problem_id").to_numpy().astype(np.float64)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=DRAWS)

    def difference(weights: np.ndarray) -> np.ndarray:
        traces, error, other_traces, other_error = (weights @ values).T
        return error / traces - other_error / other_traces

    low, high = np.quantile(difference(drawn), [0.025, 0.975])
    mean = difference(np.ones((1, len(values))))[0]
    return {"mean": float(mean), "low": float(low), "high": float(high)}


def _losses(logs: Mapping[str, Sequence[Report]], folder: str) -> str:
    header = ["", "first label loss", "last label loss", "held out: label loss", "other tokens"]
    rows = []
    for run in RUNS[:-1]:
        shown = [own["label_loss"] for own in logs[run] if own.get("label_loss") is not None]
        held_out = [own for own in logs[run] if "eval_label_loss" in own][-1]
        named = (shown[0], shown[-1], held_out["eval_label_loss"], held_out["eval_other_loss"])
        rows.append([f"`{run}`", *(f"{own:.3f}" for own in named)])
    return (
        "## Losses\n\nCross-entropy in nats per token. A label of `special` is one token, of the "
        "others its digits and the sign: not\ncomparable with one another."
        f"\n\n{_table(header, rows)}\n\n"
        f"![Loss on label tokens over training]({folder}/label-loss.png)\n\n"
        f"![Error along the thinking]({folder}/along.png)"
    )


def _reinforced(log: Sequence[Report]) -> str:
    """The rewards at the beginning and at the end of GRPO."""
    names = ["rewards/progress_accuracy/mean", "rewards/report_frequency/mean",
             "rewards/correctness/mean", "reward", "completions/mean_length",
             "completions/clipped_ratio"]  # fmt: skip
    part = max(len(log) // 4, 1)
    rows = [
        [name.removesuffix("/mean"), _average(log[:part], name), _average(log[-part:], name)]
        for name in names
    ]
    header = ["mean of the batches", f"first {part} steps", f"last {part} steps"]
    return "## Reinforcement\n\n" + _table(header, rows)


def _average(lines: Sequence[Report], name: str) -> str:
    values = [line[name] for line in lines if line.get(name) is not None]
    return f"{sum(values) / len(values):.3f}" if values else "-"


def _analyses(clean: Report) -> str:
    """Sections 5.3, 7.1 and 7.2 of the paper, on the clean model."""
    header = ["predictor", "positions", "without one", "`clean` there", "the other", "difference"]
    rows = [
        [
            name,
            own["positions"],
            own["none"],
            _interval(own["model"]["clip"]["macro"]),
            _interval(own["other"]["clip"]["macro"]),
            _interval(own["difference"]["clip"]["macro"]),
        ]
        for name, own in clean["compared"].items()
    ]
    return (
        "## Without its own predictions, and by a probe\n\n"
        "Clipped MAE of `clean` beside other predictors on the same positions. *unconditioned*: "
        "the markers\nbefore are taken out and the prediction is asked afresh (section 7.2 of the "
        "paper). Probes read the\nhidden states of the same model (5.3). Both see text without "
        "markers, which this model was not trained\non.\n\n"
        + _table(header, rows)
        + "\n\n"
        + _dispersion(clean["dispersion"])
    )


def _dispersion(found: Report | None) -> str:
    if found is None:
        return ""
    rows = [
        [
            f"{100 * own['from']:.0f} to {100 * own['to']:.0f} %",
            own["prefixes"],
            _interval(own["mad"]),
            _interval(own["mapd"]),
        ]
        for own in found["by_position"]
        if own["prefixes"]
    ]
    rows.append(["all", found["prefixes"], _interval(found["mad"]), _interval(found["mapd"])])
    return (
        "## How far its rollouts agree\n\n"
        f"{found['rollouts']:,} rollouts of `clean` from prefixes of {found['traces']} held-out "
        f"traces without markers; {found['unfinished']:,} did not\nfinish their thinking and are "
        f"left out, with {found['prefixes_left_out']} prefixes. Mean absolute deviation of the "
        "progress that\nthe rollouts give a prefix, and the same as a share of their mean "
        "(7.1): what no predictor of these\nprefixes can get under by much.\n\n"
        + _table(["position", "prefixes", "MAD", "MAPD"], rows)
    )


def _limits(facts: Report) -> str:
    larger = (
        "The larger setting (`--scale gpu`) was not run: there was no GPU."
        if facts["scale"] == "laptop"
        else "The small setting is in experiment.md."
    )
    return f"""## What this does not show

- One training a variant: the intervals are over problems, not over trainings, so that a difference
  between variants may be one between two runs of the same recipe.
- Countdown is not mathematics: how long a search lasts is drawn by the generator of the traces, and
  its last steps are told by their words. Nothing here says what holds for DeepScaleR.
- Each model is scored on what it writes itself: one that writes shorter thinkings has other, and
  maybe easier, positions; what it did not finish is not scored.
- {larger}"""


# --- cells --------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _interval(estimate: Report) -> str:
    if estimate["mean"] is None:
        return "-"
    between = (
        "" if estimate["low"] is None else f" ({estimate['low']:.3f} to {estimate['high']:.3f})"
    )
    return f"{estimate['mean']:.3f}{between}"


def _percents(estimate: Report) -> str:
    if estimate["low"] is None:
        return _percent(estimate["mean"])
    low, high = (100 * estimate[name] for name in ("low", "high"))
    return f"{_percent(estimate['mean'])} ({low:.1f} to {high:.1f})"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
