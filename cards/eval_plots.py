"""The plot of `progdata eval`: predicted against true progress, and how often predictions fall."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progdata.builders.atomic import atomic_file
from progdata.cards.eval_tables import PREDICTORS
from progdata.cards.plots import METADATA, check_plot_path, plain_settings, tidy_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MODEL, _GREY, _FALLS = "#1f6fb4", "#999999", "#c8553d"

_NAME_LENGTH = 60


def plot_progress(report: Mapping[str, Any], path: str | Path) -> None:
    """Plot a report of `training_refs.evaluated.evaluate` to a .png or .svg file.

    Left: mean prediction and the middle half of predictions against true progress. Middle: the MAE
    of the model and of every baseline, with intervals. Right: the share of predictions below the
    one before (paper 000, figure 5). The same report gives the same bytes. Raises UsageError for
    another ending.
    """
    from matplotlib.figure import Figure

    check_plot_path(path)
    path = Path(path)
    ending = path.suffix.lower()
    with plain_settings():
        figure = Figure(figsize=(14, 4.6), dpi=150, layout="constrained")
        predicted, errors, falls = figure.subplots(1, 3)
        _draw_predicted(predicted, report["progress"])
        _draw_errors(errors, report["progress"])
        _draw_falls(falls, report["progress"])
        figure.suptitle(_title(report), x=0.01, ha="left", fontsize=12, parse_math=False)
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format=ending[1:], metadata=METADATA[ending])


def _title(report: Mapping[str, Any]) -> str:
    source = Path(report["source"])
    name = str(Path(source.parent.name, source.name)) if "*" in source.name else source.name
    if len(name) > _NAME_LENGTH:
        name = f"{name[: _NAME_LENGTH - 3]}..."
    progress = report["progress"]
    return (
        f"{name}: {progress['markers']:,} predictions in {progress['traces']:,} traces of "
        f"{progress['problems']:,} problems"
    )


def _draw_predicted(axes: "Axes", progress: Mapping[str, Any]) -> None:
    parts = [own for own in progress["along"] if own["markers"]]
    truth = [100 * own["truth"] for own in parts]
    shown = {
        name: [100 * own["predicted"][name] for own in parts] for name in ("mean", "p25", "p75")
    }
    axes.plot([0, 100], [0, 100], "--", color=_GREY, linewidth=1, label="Truth")
    axes.fill_between(
        truth, shown["p25"], shown["p75"], color=_MODEL, alpha=0.2, label="Middle half"
    )
    axes.plot(truth, shown["mean"], "o-", color=_MODEL, markersize=4, label="Mean prediction")
    axes.set_xlabel("True progress (%)")
    axes.set_ylabel("Predicted progress, clipped (%)")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 102)
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    tidy_axes(axes)


def _draw_errors(axes: "Axes", progress: Mapping[str, Any]) -> None:
    """A bar for the model's clipped MAE and for each baseline's, the model on top."""
    mae = progress["mae"]
    found = {"model, clipped": mae["clip"]["macro"]} | {
        name: progress["baselines"][kind]["mae"]["macro"] for kind, name in PREDICTORS.items()
    }
    known = {name: own for name, own in reversed(found.items()) if own["mean"] is not None}
    for place, (name, own) in enumerate(known.items()):
        colour = _MODEL if name.startswith("model") else _GREY
        axes.barh(place, own["mean"], color=colour, height=0.6)
        if own["low"] is not None:
            axes.plot([own["low"], own["high"]], [place, place], color="black", linewidth=1.5)
        axes.annotate(
            f"{own['mean']:.3f}",
            (max(own["mean"], own["high"] or 0), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_yticks(range(len(known)), list(known))
    axes.set_xlabel("Mean absolute error")
    axes.set_xlim(0, 1.15 * max(max(own["mean"], own["high"] or 0) for own in known.values()))
    tidy_axes(axes)
    axes.grid(visible=False, axis="y")


def _draw_falls(axes: "Axes", progress: Mapping[str, Any]) -> None:
    parts = [own for own in progress["along"] if own["pairs"]]
    middle = [50 * (own["from"] + own["to"]) for own in parts]
    share = [100 * own["non_monotone"]["mean"] for own in parts]
    known = [own for own in parts if own["non_monotone"]["low"] is not None]
    axes.fill_between(
        [50 * (own["from"] + own["to"]) for own in known],
        [100 * own["non_monotone"]["low"] for own in known],
        [100 * own["non_monotone"]["high"] for own in known],
        color=_FALLS,
        alpha=0.2,
    )
    axes.plot(middle, share, "s-", color=_FALLS, markersize=4)
    axes.set_xlabel("True progress (%)")
    axes.set_ylabel("Predictions below the one before (%)")
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0)
    tidy_axes(axes)
