"""How predictable progress is: the dispersion of it over rollouts of one prefix (paper 000, 7.1).

Of a prefix of k tokens and a rollout that thinks on for r tokens until `</think>`, the progress is
k / (k + r). No predictor knows which rollout comes, so that their spread bounds what any can do.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from progdata.builders.errors import ProgdataError, UsageError, one_line
from progdata.builders.markers import MarkerGrammar, strip
from progdata.builders.thinking import CLOSE
from progdata.builders.tokenizer import Counter
from progdata.releases.rolled_out import ROLLOUTS
from progdata.training_refs.progress_metrics import BINS, Ratio, bins_of, estimate, mean_by_problem

_READ = ["trace_id", "problem_id", "how", "segment", "prefix_end", "prefix_tokens", "progress",
         "continuation", "truncated", "completion_tokens", "model"]  # fmt: skip

_REPORT = "rollouts.json"

_TOLERANCE = 0.02
"""How far tokens may differ from those that the engine counted before the tokenizer is refused."""


@dataclass(frozen=True)
class Spread:
    """The dispersion at prefixes with at least two finished rollouts: arrays of one item each.

    `problem`: below `problems`; `position`: progress of the trace at the prefix, (0, 1]; `mad`:
    mean |p - mean of p|; `mapd`: that over the mean.
    """

    problem: NDArray[np.int64]
    position: NDArray[np.float64]
    mad: NDArray[np.float64]
    mapd: NDArray[np.float64]
    problems: int


def measure_dispersion(
    path: Path | str, counter: Counter, grammar: MarkerGrammar, *, tokenizer: str, seed: int = 0
) -> dict[str, Any]:
    """MAD and MAPD of the rollouts in a folder of `progdata rollouts --how continue`, or a file.

    `counter` must be of the tokenizer that counted the prefixes: the model's own; `tokenizer` is
    its name for messages. Markers in continuations are no tokens. Raises UsageError where the
    rollouts were not made so, or were counted otherwise; ProgdataError where none can be used.
    """
    rows = _read(path)
    _check(rows, counter, tokenizer, path)
    finished = rows.filter(
        ~pl.col("truncated") & pl.col("continuation").str.contains(CLOSE, literal=True)
    )
    estimates = rollout_progress(finished, counter, grammar)
    spread = spread_of_prefixes(estimates)
    prefixes = rows.select("trace_id", "prefix_end").unique().height
    if not len(spread.mad):
        raise ProgdataError(
            f"{path}: no prefix has two rollouts that finished their thinking ({rows.height:,} "
            f"rollouts of {prefixes:,} prefixes, {finished.height:,} finished); make more of them "
            "with a higher --n or --max-tokens"
        )
    return {
        "rollouts": rows.height,
        "unfinished": rows.height - finished.height,
        "traces": rows["trace_id"].n_unique(),
        "problems": spread.problems,
        "prefixes": len(spread.mad),
        "prefixes_left_out": prefixes - len(spread.mad),
    } | estimate(dispersion_ratios(spread), seed)


def rollout_progress(rows: pl.DataFrame, counter: Counter, grammar: MarkerGrammar) -> pl.DataFrame:
    """Rollouts that finished their thinking, with `estimate`: the prefix's progress by each."""
    thought = [strip(text.partition(CLOSE)[0], grammar) for text in rows["continuation"]]
    remaining = counter.starts(thought).per_text()
    prefix = rows["prefix_tokens"].to_numpy().astype(np.float64)
    return rows.with_columns(estimate=pl.Series(prefix / (prefix + remaining), dtype=pl.Float64))


def spread_of_prefixes(rows: pl.DataFrame) -> Spread:
    """The dispersion at each prefix of at least two rollouts (columns: `trace_id`, `problem_id`,
    `prefix_end`, `progress`, `estimate`)."""
    own = pl.col("estimate")
    prefixes = (
        rows.group_by("problem_id", "trace_id", "prefix_end")
        .agg(
            rollouts=pl.len(),
            position=pl.col("progress").first().cast(pl.Float64),
            mean=own.mean(),
            mad=(own - own.mean()).abs().mean(),
        )
        .filter(pl.col("rollouts") > 1)
        .sort("problem_id", "trace_id", "prefix_end")
    )
    problem = prefixes["problem_id"].rank("dense").to_numpy().astype(np.int64) - 1
    mad = prefixes["mad"].to_numpy()
    return Spread(
        problem,
        prefixes["position"].to_numpy(),
        mad,
        mad / prefixes["mean"].to_numpy(),
        int(problem.max(initial=-1)) + 1,
    )


def dispersion_ratios(spread: Spread) -> dict[str, Any]:
    """Mean MAD and MAPD over all prefixes, and over those of each tenth of the position."""
    bins = bins_of(spread.position)
    everywhere = np.ones(len(bins), dtype=bool)
    return {
        "mad": _mean(spread, spread.mad, everywhere),
        "mapd": _mean(spread, spread.mapd, everywhere),
        "by_position": [
            {
                "from": part / BINS,
                "to": (part + 1) / BINS,
                "prefixes": int((bins == part).sum()),
                "mad": _mean(spread, spread.mad, bins == part),
                "mapd": _mean(spread, spread.mapd, bins == part),
            }
            for part in range(BINS)
        ],
    }


def _mean(spread: Spread, values: NDArray[np.float64], keep: NDArray[np.bool_]) -> Ratio:
    return mean_by_problem(values[keep], spread.problem[keep], spread.problems)


def _read(path: Path | str) -> pl.DataFrame:
    file = Path(path) / ROLLOUTS if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise UsageError(
            f"{file}: no such file; name the --out of progdata rollouts --how continue"
        )
    try:
        rows = pl.read_parquet(file, columns=_READ)
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
        raise ProgdataError(
            f"{file}: not a table of rollouts that can be read: {one_line(error)}"
        ) from error
    other = sorted(set(rows["how"]) - {"continue"})
    if other or not rows.height:
        found = f"made with --how {other[0]}" if other else "without a row"
        raise UsageError(f"{file}: {found}; the dispersion needs rollouts with --how continue")
    if (push := _push_beside(file)) is not None:
        raise UsageError(
            f"{file}: made with --push {push!r}, which the model did not think; the dispersion "
            "needs rollouts without --push"
        )
    return rows


def _push_beside(file: Path) -> str | None:
    """The text that was pushed into the rollouts, as their report says, where that can be read."""
    try:
        push = json.loads(file.with_name(_REPORT).read_text("utf-8"))["push"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return push or None


def _check(rows: pl.DataFrame, counter: Counter, tokenizer: str, path: Path | str) -> None:
    """Refuse a tokenizer that does not count continuations as the engine did: the tokens of the
    prefixes are the model's."""
    counted = counter.starts(rows["continuation"].to_list()).per_text()
    written = rows["completion_tokens"].to_numpy().astype(np.int64)
    ending = 2  # the end-of-sequence token, and a token that the text cuts
    off = np.maximum(np.abs(counted - written) - ending, 0) / np.maximum(written, 1)
    if np.median(off) > _TOLERANCE:
        raise UsageError(
            f"{path}: the rollouts' tokens are those of {rows['model'][0]}, and --tokenizer "
            f"{tokenizer} counts {counted.sum():,} where it wrote {written.sum():,}; name the "
            "tokenizer of that model"
        )
