"""The plots of the experiment's report; the same numbers give the same bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from progdata.cards.plots import METADATA, plain_settings, tidy_axes

COLOURS = {"clean": "#1f6fb4", "noisy": "#c8553d", "special": "#4c9f70", "masked": "#8a5fb0",
           "rl": "#333333"}  # fmt: skip

Report = Mapping[str, Any]


def plot_losses(logs: Mapping[str, Sequence[Report]], path: Path) -> None:
    """The loss on label tokens over the steps, a line a run."""
    with plain_settings():
        figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
        axes = figure.subplots()
        for run, log in logs.items():
            shown = [own for own in log if own.get("label_loss") is not None]
            steps, losses = ([own[name] for own in shown] for name in ("step", "label_loss"))
            axes.plot(steps, losses, color=COLOURS[run], label=run)
        axes.set_xlabel("Step")
        axes.set_ylabel("Loss on label tokens (nats)")
        axes.legend(frameon=False)
        tidy_axes(axes)
        figure.savefig(path, metadata=METADATA[".png"])


def plot_along(evals: Mapping[str, Report], path: Path) -> None:
    """Error and non-monotone share by tenth of the true progress (paper 000, figure 5)."""
    with plain_settings():
        figure = Figure(figsize=(10, 4.5), dpi=110, layout="constrained")
        error, falls = figure.subplots(1, 2)
        for run, report in evals.items():
            along = [own for own in report["progress"]["along"] if own["markers"]]
            _line(error, along, [own["mae"]["macro"]["mean"] for own in along], run)
            pairs = [own for own in along if own["pairs"]]
            _line(falls, pairs, [100 * own["non_monotone"]["mean"] for own in pairs], run)
        error.set_ylabel("MAE over traces, clipped")
        falls.set_ylabel("Predictions below the one before (%)")
        for axes in (error, falls):
            axes.set_xlabel("True progress (%)")
            tidy_axes(axes)
        error.legend(frameon=False)
        figure.savefig(path, metadata=METADATA[".png"])


def _line(axes: Any, along: Sequence[Report], values: Sequence[float], run: str) -> None:
    middles = [50 * (own["from"] + own["to"]) for own in along]
    axes.plot(middles, values, "o-", color=COLOURS[run], markersize=4, label=run)
