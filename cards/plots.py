"""Plots of reports as .png or .svg files; the same report gives the same bytes.

Figures are made without pyplot, which would keep them and choose a window system; settings of the
user's own (matplotlibrc) are not applied.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progdata.builders.atomic import atomic_file
from progdata.builders.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")

METADATA = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}
"""What matplotlib would write of the day and its own version."""

_LINES = {
    "coverage": ("Coverage (samples solved)", "#1f6fb4", "o", "-"),
    "problems_solved": ("Problems solved by any sample", "#4c9f70", "^", "--"),
    "truncated": ("Truncated samples", "#c8553d", "s", "-"),
}
"""Of each share: its name, colour, marker and line, told apart without colours too."""

_NAME_LENGTH = 60


def check_plot_path(path: str | Path) -> None:
    """Raise UsageError where no plot can be written to `path`; to be asked before the work."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: cannot plot to {path.suffix or 'a name without an ending'}; "
                         f"expected a file that ends in {' or '.join(FORMATS)}")  # fmt: skip
    folder = next(own for own in path.absolute().parents if own.exists())
    if path.is_dir() or not folder.is_dir():
        taken = f"{path}: is a folder" if path.is_dir() else f"{path}: {folder} is a file"
        raise UsageError(f"{taken}; name a new file for the plot")


def plot_coverage(report: Mapping[str, Any], path: str | Path) -> None:
    """Plot coverage and truncation against the context length, as DeepScaleR's figure 6.

    `report` as `releases.sampled.sample_statistics` gives it. The file appears when it is whole.
    Raises UsageError for an ending other than .png or .svg.
    """
    from matplotlib.figure import Figure

    check_plot_path(path)
    path = Path(path)
    ending = path.suffix.lower()
    with plain_settings():
        figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
        _draw_coverage(figure, report)
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format=ending[1:], metadata=METADATA[ending])


@contextmanager
def plain_settings() -> Iterator[None]:
    """Within the block matplotlib has its own defaults, whatever the user's are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["svg.hashsalt"] = "progdata"
        yield


def tidy_axes(axes: "Axes") -> None:
    """A light grid behind what is drawn, and no frame above and to the right."""
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_coverage(figure: "Figure", report: Mapping[str, Any]) -> None:
    axes = figure.subplots()
    contexts = report["contexts"]
    tokens = [0, *(own["max_tokens"] for own in contexts)]
    for share, (name, colour, marker, line) in _LINES.items():
        nothing_shown = 1.0 if share == "truncated" else 0.0
        values = [100 * own for own in (nothing_shown, *(own[share] for own in contexts))]
        axes.plot(tokens, values, line, color=colour, marker=marker, markersize=5, label=name)
    _label_axes(axes, report, tokens[-1])
    figure.legend(loc="outside lower center", ncols=len(_LINES), frameon=False, fontsize=10)


def _label_axes(axes: "Axes", report: Mapping[str, Any], longest: int) -> None:
    from matplotlib.ticker import MultipleLocator, StrMethodFormatter

    source, unit = Path(report["source"]).name, Path(report["tokenizer"]["spec"]).name
    axes.set_title("Coverage and truncation by context length", loc="left", fontsize=13, pad=24)
    axes.text(
        0,
        1.02,
        f"{_short(source)}: {report['samples']:,} samples of {report['problems']:,} problems",
        transform=axes.transAxes,
        fontsize=10,
        color="#555555",
        parse_math=False,
    )
    axes.set_xlabel(f"Max tokens ({_short(unit)})", fontsize=11, parse_math=False)
    axes.set_ylabel("Share (%)", fontsize=11)
    axes.set_xlim(0, longest * 1.02)
    axes.set_ylim(-2, 102)
    axes.xaxis.set_major_locator(MultipleLocator(_tick_step(longest)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    tidy_axes(axes)


def _tick_step(longest: int) -> int:
    """A power of two that stands six to eleven times in `longest`, as contexts are powers of two.

    >>> _tick_step(32_768)
    4096
    """
    return 1 << max((longest // 6).bit_length() - 1, 0)


def _short(name: str) -> str:
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 3]}..."
