"""What benchmarks/experiment.py found, as Markdown with plots; each number is from a report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RUNS = ("clean", "noisy", "special", "masked", "rl")
BASELINES = {
    "survival": "position, survival curve",
    "mean_length": "position over mean length",
    "constant": "constant 50 %",
    "random": "uniform random",
    "previous": "previous prediction",
}
POSITION = ("survival", "mean_length", "constant")
COLOURS = {"clean": "#1f6fb4", "noisy": "#c8553d", "special": "#4c9f70", "masked": "#8a5fb0",
           "rl": "#333333"}  # fmt: skip

Report = Mapping[str, Any]


def write_report(work: Path, facts: Report, path: Path) -> None:
    """Write the report of the runs in `work` to `path`, and its plots into a folder beside it."""
    evals = {run: _read(work / "evals" / run / "report.json") for run in RUNS}
    trained = {run: _read(work / "runs" / run / "report.json") for run in RUNS}
    logs = {run: _lines(work / "runs" / run / "log.jsonl") for run in RUNS}
    plots = path.parent / path.stem
    plots.mkdir(parents=True, exist_ok=True)
    _plot_losses(logs, plots / "label-loss.png")
    _plot_along(evals, plots / "along.png")
    parts = [
        _head(facts, evals, trained, work),
        _against_baselines(evals),
        _verdict(evals),
        _behaviour(evals),
        _changes(evals),
        _losses(logs, plots.name),
        _reinforced(logs["rl"]),
        _analyses(evals["clean"]),
        _limits(facts),
    ]
    path.write_text("\n\n".join(part.strip() for part in parts) + "\n", "utf-8")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# --- text ---------------------------------------------------------------------------------------


def _head(facts: Report, evals: Report, trained: Report, work: Path) -> str:
    sizes = facts["sizes"]
    config = _read(work / "model" / "config.json")
    problems = evals["clean"]["accuracy"]["samples"] // sizes["samples"]
    machine = "two CPU cores" if sizes["device"] == "cpu" else "a GPU"
    steps = "; ".join(f"{name} {own:.0f} s" for name, own in facts["seconds"].items())
    command = f"python benchmarks/experiment.py --scale {facts['scale']} --seed {facts['seed']}"
    layers, width = config["num_hidden_layers"], config["hidden_size"]
    return "\n".join(
        [
            "# An experiment that fits on a laptop",
            "",
            f"Written by `{command}`",
            f"in {facts['total_seconds'] / 60:.1f} minutes on {machine} ({steps}).",
            "",
            f"A Llama of {layers} layers and width {width} with a tokenizer of its own "
            f"({config['vocab_size']:,} tokens)",
            f"is trained from scratch on {trained['clean']['rows']:,} countdown traces of at most "
            "300 tokens of thinking, cut into",
            f"segments of 32 tokens: {trained['clean']['steps']} steps of 32 rows, the same rows "
            "in the same order for each variant.",
            f"`rl` is `clean` after {sizes['grpo_steps']} steps of GRPO. Each model is then sampled "
            f"{sizes['samples']} times (temperature 0.6,",
            f"top_p 0.95) on the same {problems} problems, which no model has seen. All seeds are "
            f"{facts['seed']}; there is one run of each.",
        ]
    )


def _against_baselines(evals: Report) -> str:
    header = ["", "MAE raw", "MAE clipped", *BASELINES.values()]
    rows = []
    for run in RUNS:
        progress = evals[run]["progress"]
        own = [_interval(progress["mae"][kind]["macro"]) for kind in ("raw", "clip")]
        others = [_mean(progress["baselines"][name]["mae"]["macro"]) for name in BASELINES]
        rows.append([f"`{run}`", *own, *others])
    return (
        "## Error beside the baselines\n\n"
        "Mean absolute error of the markers in the samples, over traces, with 95 % intervals over "
        "problems. The baselines are scored on the same positions of the same traces; the position "
        "baselines know the lengths of the training data.\n\n" + _table(header, rows)
    )


def _verdict(evals: Report) -> str:
    """Whether each model beats the constant and the position baselines, plainly."""
    header = ["", *(f"model - {BASELINES[name]}" for name in POSITION), "beats all three"]
    rows, all_beaten = [], True
    for run in RUNS:
        baselines = evals[run]["progress"]["baselines"]
        differences = [baselines[name]["difference"]["raw"]["macro"] for name in POSITION]
        beaten = all((own["high"] if own["high"] is not None else 1) < 0 for own in differences)
        all_beaten &= beaten
        rows.append([f"`{run}`", *map(_interval, differences), "yes" if beaten else "**no**"])
    said = (
        "Every model beats the constant and both position baselines: each interval of the paired "
        "difference lies below 0."
        if all_beaten
        else "Not every model beats the constant and both position baselines: where the last "
        "column says no, an interval of the paired difference reaches 0 or lies above it."
    )
    return f"{said}\n\n{_table(header, rows)}"


def _behaviour(evals: Report) -> str:
    header = ["", "traces", "finished", "markers a trace", "tokens between", "over 100 %",
              "non-monotone", "outside", "accuracy", "median thinking"]  # fmt: skip
    rows = []
    for run in RUNS:
        own = evals[run]
        rows.append(
            [
                f"`{run}`",
                own["traces"]["read"],
                own["traces"]["finished"],
                f"{own['reports']['per_trace']['mean']:.1f}",
                f"{own['reports']['spacing_tokens']['mean']:.1f}",
                _percent(own["progress"]["share_over_100"]["micro"]["mean"]),
                _percent(own["progress"]["non_monotone"]["mean"]),
                own["markers"]["outside"],
                _percents(own["accuracy"]),
                f"{own['reports']['thinking_tokens']['p50']:.0f}",
            ]
        )
    return "## What the models do\n\n" + _table(header, rows)


def _changes(evals: Report) -> str:
    """What each change of the recipe does to the error, as far as one run tells."""
    clean = evals["clean"]["progress"]["mae"]["raw"]["macro"]
    lines = [
        "## What noise, special tokens, masking and RL change",
        "",
        "Difference of the raw MAE from `clean` (each model is scored on its own samples, so these "
        "are not paired). Where the intervals of both overlap, one run does not tell them apart.",
        "",
    ]
    for run in RUNS[1:]:
        own = evals[run]["progress"]["mae"]["raw"]["macro"]
        apart = own["high"] < clean["low"] or own["low"] > clean["high"]
        word = "lower" if own["mean"] < clean["mean"] else "higher"
        tells = "the intervals do not overlap" if apart else "the intervals overlap"
        lines.append(
            f"- `{run}`: {abs(own['mean'] - clean['mean']):.3f} {word} ({own['mean']:.3f} against "
            f"{clean['mean']:.3f}); {tells}."
        )
    return "\n".join(lines)


def _losses(logs: Mapping[str, Sequence[Report]], folder: str) -> str:
    header = ["", "first label loss", "last label loss", "held out: label loss", "other tokens"]
    rows = []
    for run in RUNS[:-1]:
        shown = [own for own in logs[run] if "label_loss" in own]
        held_out = [own for own in logs[run] if "eval_label_loss" in own]
        rows.append(
            [
                f"`{run}`",
                f"{shown[0]['label_loss']:.3f}",
                f"{shown[-1]['label_loss']:.3f}",
                f"{held_out[-1]['eval_label_loss']:.3f}",
                f"{held_out[-1]['eval_other_loss']:.3f}",
            ]
        )
    return (
        "## Losses\n\nCross-entropy in nats per token. A label of `special` is one token, of the "
        "others two or three (digits and the sign), so these are not comparable with one another."
        f"\n\n{_table(header, rows)}\n\n"
        f"![Loss on label tokens over training]({folder}/label-loss.png)\n\n"
        f"![Error along the thinking]({folder}/along.png)"
    )


def _reinforced(log: Sequence[Report]) -> str:
    """The rewards at the beginning and at the end of GRPO."""
    rewards = sorted({key for line in log for key in line if key.endswith("/mean")})
    part = max(len(log) // 5, 1)
    rows = [
        [name, *(f"{_average(lines, name):.3f}" for lines in (log[:part], log[-part:]))]
        for name in rewards
    ]
    header = ["reward, mean of a batch", f"first {part} steps", f"last {part} steps"]
    return "## Reinforcement\n\n" + _table(header, rows)


def _average(lines: Sequence[Report], name: str) -> float:
    values = [line[name] for line in lines if line.get(name) is not None]
    return sum(values) / len(values) if values else float("nan")


def _analyses(clean: Report) -> str:
    """Sections 5.3, 7.1 and 7.2 of the paper, on the clean model."""
    header = ["predictor", "positions", "`clean` there", "the other", "difference"]
    rows = [
        [
            name,
            own["positions"],
            _mean(own["model"]["clip"]["macro"]),
            _mean(own["other"]["clip"]["macro"]),
            _interval(own["difference"]["clip"]["macro"]),
        ]
        for name, own in clean["compared"].items()
    ]
    return (
        "## Without its own predictions, and by a probe\n\n"
        "Clipped MAE of `clean` beside other predictors on the same positions. *unconditioned*: "
        "the markers before are taken out and the prediction is asked afresh (section 7.2). "
        "Probes read the hidden states of the same model on the text without markers (5.3).\n\n"
        + _table(header, rows)
        + "\n\n"
        + _dispersion(clean["dispersion"])
    )


def _dispersion(found: Report) -> str:
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
    return (
        "## How far progress can be predicted at all\n\n"
        "Rollouts of `clean` from prefixes of held-out traces: mean absolute deviation of the "
        "progress that they give a prefix, and the same as a share of their mean (7.1).\n\n"
        + _table(["position", "prefixes", "MAD", "MAPD"], rows)
    )


def _limits(facts: Report) -> str:
    larger = (
        "The larger setting (`--scale gpu`) was not run for this report."
        if facts["scale"] == "laptop"
        else "The small setting runs on two CPU cores (`--scale laptop`)."
    )
    return f"""## What this does not show

- One seed a variant: what differs by less than the intervals may be chance, and the intervals are
  over problems, not over trainings.
- Countdown is not mathematics: how long a search lasts is drawn by the generator of the traces.
  Nothing here says what holds for DeepScaleR.
- Each model is scored on what it writes itself: one that writes shorter thinkings has other, and
  maybe easier, positions. The baselines are on the same positions for that reason.
- {larger}"""


# --- plots --------------------------------------------------------------------------------------


def _plot_losses(logs: Mapping[str, Sequence[Report]], path: Path) -> None:
    from matplotlib.figure import Figure

    from progdata.cards.plots import METADATA, plain_settings, tidy_axes

    with plain_settings():
        figure = Figure(figsize=(8, 4.5), dpi=130, layout="constrained")
        axes = figure.subplots()
        for run in RUNS[:-1]:
            shown = [own for own in logs[run] if "label_loss" in own]
            steps, losses = ([own[name] for own in shown] for name in ("step", "label_loss"))
            axes.plot(steps, losses, color=COLOURS[run], label=run)
        axes.set_xlabel("Step")
        axes.set_ylabel("Loss on label tokens (nats)")
        axes.legend(frameon=False)
        tidy_axes(axes)
        figure.savefig(path, metadata=METADATA[".png"])


def _plot_along(evals: Report, path: Path) -> None:
    from matplotlib.figure import Figure

    from progdata.cards.plots import METADATA, plain_settings, tidy_axes

    with plain_settings():
        figure = Figure(figsize=(10, 4.5), dpi=130, layout="constrained")
        error, falls = figure.subplots(1, 2)
        for run in RUNS:
            along = [own for own in evals[run]["progress"]["along"] if own["markers"]]
            middles = [50 * (own["from"] + own["to"]) for own in along]
            error.plot(middles, [own["mae"]["micro"]["mean"] for own in along], "o-",
                       color=COLOURS[run], markersize=4, label=run)  # fmt: skip
            pairs = [(at, own) for at, own in zip(middles, along, strict=True) if own["pairs"]]
            falls.plot([at for at, _ in pairs],
                       [100 * own["non_monotone"]["mean"] for _, own in pairs], "o-",
                       color=COLOURS[run], markersize=4)  # fmt: skip
        error.set_ylabel("MAE, clipped")
        falls.set_ylabel("Predictions below the one before (%)")
        for axes in (error, falls):
            axes.set_xlabel("True progress (%)")
            tidy_axes(axes)
        error.legend(frameon=False)
        figure.savefig(path, metadata=METADATA[".png"])


# --- cells --------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _mean(estimate: Report) -> str:
    return "-" if estimate["mean"] is None else f"{estimate['mean']:.3f}"


def _interval(estimate: Report) -> str:
    if estimate["low"] is None:
        return _mean(estimate)
    return f"{estimate['mean']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def _percents(estimate: Report) -> str:
    if estimate["low"] is None:
        return _percent(estimate["mean"])
    low, high = (100 * estimate[name] for name in ("low", "high"))
    return f"{_percent(estimate['mean'])} ({low:.1f} to {high:.1f})"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
