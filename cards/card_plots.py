"""The plots of a dataset card, as the bytes of PNG files; the same build gives the same bytes."""

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from progdata.cards.markdown_text import one_line
from progdata.cards.plots import METADATA, plain_settings, tidy_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

PLOTS = {
    "plots/trace_lengths.png": "Lengths of the thinking, by split",
    "plots/label_against_position.png": "Labels against true progress, by variant",
    "plots/label_histogram.png": "How often each label is shown, by variant",
    "plots/verdicts.png": "Verdicts on the answers",
}
"""The plots of a card, and what each shows."""

BINS = 50
"""Bins of progress and of labels, of two points each."""

COLOURS = {"train": "#1f6fb4", "validation": "#4c9f70", "ood": "#c8553d"}
_VERDICTS = {"correct": "#4c9f70", "wrong": "#c8553d"}
_COLUMNS = 3
_GREY = "#8a8a8a"


@dataclass(frozen=True)
class PlotTallies:
    """What the plots need of the rows.

    `lengths`: the tokens of each trace, by split. `positions`: for each variant, how many markers
    show a label at a progress: int64[BINS, BINS], progress first.
    """

    lengths: Mapping[str, NDArray[np.int64]]
    positions: Mapping[str, NDArray[np.int64]]


def draw_plots(report: Mapping[str, Any], tallies: PlotTallies) -> dict[str, bytes]:
    """The plots by name; without the verdicts where none were given."""
    plots = {
        "plots/trace_lengths.png": _draw_lengths(tallies.lengths, report["tokenizer"]["spec"]),
        "plots/label_against_position.png": _draw_positions(tallies.positions),
        "plots/label_histogram.png": _draw_labels(report["variants"]),
    }
    if report["verify"] and report["verify"]["verdicts"]:
        plots["plots/verdicts.png"] = _draw_verdicts(report["verify"])
    return plots


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple["Figure", io.BytesIO]]:
    """A figure to draw on; its PNG is in the buffer when the block ends."""
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with plain_settings(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
        yield figure, buffer
        figure.savefig(buffer, format="png", metadata=METADATA[".png"])


def _draw_lengths(lengths: Mapping[str, NDArray[np.int64]], tokenizer: str) -> bytes:
    """The traces of each split by their length, one split above the other; on a logarithm where
    lengths differ much."""
    shown = {split: own for split, own in lengths.items() if len(own)}
    every = np.concatenate(list(shown.values()))
    low, high = max(int(every.min()), 1), int(every.max()) + 1
    wide = high / low > 20
    edges = np.geomspace(low, high, 41) if wide else np.linspace(low, high, 41)
    with _figure(8, 1.3 + 1.7 * len(shown)) as (figure, buffer):
        panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False).ravel().tolist()
        for axes, (split, own) in zip(panels, shown.items(), strict=True):
            counts, _ = np.histogram(own, edges)
            axes.stairs(counts, edges, color=COLOURS.get(split, _GREY), fill=True)
            axes.set_title(f"{split}: {len(own):,} traces", fontsize=10, loc="left")
            axes.yaxis.set_major_locator(_whole_numbers())
            if wide:
                axes.set_xscale("log")
            _plain_numbers(axes)
            tidy_axes(axes)
        unit = one_line(tokenizer.rstrip("/").rpartition("/")[2], 40)
        panels[-1].set_xlabel(f"Thinking tokens of a trace ({unit})", parse_math=False)
        figure.supylabel("Traces", fontsize=11)
        figure.suptitle(PLOTS["plots/trace_lengths.png"], x=0.01, ha="left", fontsize=13)
    return buffer.getvalue()


def _draw_positions(positions: Mapping[str, NDArray[np.int64]]) -> bytes:
    """Of each bin of true progress, which labels stand there: the darker, the more often."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullLocator

    norm = LogNorm(0.5, 100, clip=True)
    with _panels(list(positions), 3.0) as (figure, panels, buffer):
        image = None
        for axes, counts in zip(panels, positions.values(), strict=True):
            share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            image = axes.imshow(
                np.ma.masked_equal(share.T, 0),
                origin="lower",
                extent=(0, 100, 0, 100),
                aspect="auto",
                cmap="viridis_r",
                norm=norm,
                interpolation="nearest",
            )
            axes.plot([0, 100], [0, 100], color=_GREY, linewidth=0.8, linestyle=":")
        if image is not None:
            bar = figure.colorbar(image, ax=list(panels), shrink=0.9)
            bar.ax.yaxis.set_major_locator(FixedLocator([0.5, 1, 2, 5, 10, 20, 50, 100]))
            bar.ax.yaxis.set_minor_locator(NullLocator())
            bar.ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            bar.set_label("Share of the markers there (%)")
        figure.suptitle(PLOTS["plots/label_against_position.png"], x=0.01, ha="left", fontsize=13)
        figure.supxlabel("True progress at the marker (% of the thinking's tokens)", fontsize=11)
        figure.supylabel("Label shown (%)", fontsize=11)
    return buffer.getvalue()


def _draw_labels(variants: Mapping[str, Any]) -> bytes:
    """How often each label 0 to 100 is shown, in percent of a variant's markers."""
    with _panels(list(variants), 2.4) as (figure, panels, buffer):
        for axes, own in zip(panels, variants.values(), strict=True):
            counts = np.array(own["label_histogram"], float)
            share = 100 * counts / max(counts.sum(), 1)
            axes.bar(np.arange(len(share)), share, width=1.0, color=COLOURS["train"])
            axes.set_xlim(-1, 101)
            tidy_axes(axes)
        figure.suptitle(PLOTS["plots/label_histogram.png"], x=0.01, ha="left", fontsize=13)
        figure.supxlabel("Label (%)", fontsize=11)
        figure.supylabel("Share of the variant's markers (%)", fontsize=11)
    return buffer.getvalue()


def _draw_verdicts(verify: Mapping[str, Any]) -> bytes:
    counts = dict(sorted(verify["verdicts"].items(), key=lambda own: (own[1], own[0])))
    total = max(sum(counts.values()), 1)
    with _figure(8, 1.5 + 0.4 * len(counts)) as (figure, buffer):
        axes = figure.subplots()
        colours = [_VERDICTS.get(name, _GREY) for name in counts]
        names = [one_line(name, 40) for name in counts]
        bars = axes.barh(names, list(counts.values()), color=colours)
        labels = [f"{rows:,} ({100 * rows / total:.1f} %)" for rows in counts.values()]
        axes.bar_label(bars, labels, padding=4, fontsize=10)
        axes.set_xlim(0, 1.2 * max(counts.values()))
        axes.set_xlabel("Traces that came to the verify stage")
        grader = one_line(verify["grader"], 40)
        axes.set_title(f"Verdicts on the answers, by {grader}", loc="left", fontsize=13)
        _plain_numbers(axes)
        tidy_axes(axes)
    return buffer.getvalue()


@contextmanager
def _panels(
    names: Sequence[str], height: float
) -> Iterator[tuple["Figure", Sequence["Axes"], io.BytesIO]]:
    """A figure with a panel a variant, three in a line, on the same axes."""
    columns = min(len(names), _COLUMNS)
    rows = math.ceil(len(names) / columns)
    with _figure(max(3.0 * columns + 1.2, 5), height * rows + 0.9) as (figure, buffer):
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, name in zip(grid, names, strict=False):
            axes.set_title(one_line(name, 30), fontsize=10, loc="left", parse_math=False)
        for axes in grid[len(names) :]:
            axes.remove()
        for axes in grid[max(len(names) - columns, 0) : len(names)]:
            axes.xaxis.set_tick_params(labelbottom=True)
        yield figure, grid[: len(names)].tolist(), buffer


def _whole_numbers() -> "Locator":
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4, integer=True)


def _plain_numbers(axes: "Axes") -> None:
    """Ticks as 1,000 instead of powers of ten."""
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
