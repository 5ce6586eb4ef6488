"""Statistics of a build: lengths, labels, and how much of them a training context shows.

Tallies are plain numbers and lists, so that those of many files add up in any order.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from progdata.builders.markers import LABELS, MarkerGrammar
from progdata.builders.tokenizer import Counter

CONTEXTS = (2_048, 8_192, 16_384)
"""Training contexts, in tokens: the paper's for SFT, and DeepScaleR's first two stages."""

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


def marker_costs(grammar: MarkerGrammar, counter: Counter) -> NDArray[np.int64]:
    """Tokens of the marker of each label 0..100; a special token counts as one."""
    if not grammar.special:
        return counter.starts([grammar.render(label) for label in LABELS]).per_text()
    tags = int(counter.starts([grammar.opening, grammar.closing]).per_text().sum())
    return np.full(len(LABELS), tags + 1, dtype=np.int64)


def tally_variant(
    table: pa.Table, prompt_tokens: NDArray[np.int64], costs: NDArray[np.int64]
) -> dict[str, Any]:
    """The tally of a variant table.

    `prompt_tokens`: int64[rows]; `costs`: tokens of the marker of each label (`marker_costs`). A
    marker survives a context if prompt, thinking and markers up to its end fit in it.
    """
    column = table["labels"].combine_chunks()
    counts = np.diff(column.offsets.to_numpy()).astype(np.int64)
    labels = column.flatten().to_numpy().astype(np.int64)
    shown = np.clip(labels, 0, 100)
    share = table["progress"].combine_chunks().flatten().to_numpy().astype(np.float64)
    totals = np.repeat(table["num_tokens"].to_numpy().astype(np.int64), counts)
    own_cost = costs[shown]
    running = np.cumsum(own_cost)
    before_row = np.append(0, running)[np.cumsum(counts) - counts]
    ends = np.rint(share * totals) + running - np.repeat(before_row - prompt_tokens, counts)
    last = (np.cumsum(counts) - 1)[counts > 0]
    return {
        "rows": table.num_rows,
        "markers": len(labels),
        "masked": int(np.count_nonzero(table["masked"].combine_chunks().flatten())),
        "out_of_range": int(((labels < 0) | (labels > 100)).sum()),
        "labels": np.bincount(shown, minlength=len(LABELS)).tolist(),
        "contexts": {
            str(context): {
                "markers": int((ends <= context).sum()),
                "whole_traces": int((ends[last] <= context).sum()),
                "labels": np.bincount(shown[ends <= context], minlength=len(LABELS)).tolist(),
            }
            for context in CONTEXTS
        },
    }


def add_tallies(first: Any, second: Any) -> Any:
    """Two tallies of the same shape added up, item by item."""
    if isinstance(first, Mapping):
        return {name: add_tallies(first[name], second[name]) for name in first}
    if isinstance(first, list):
        return [a + b for a, b in zip(first, second, strict=True)]
    return first + second


def quantiles(values: NDArray[np.int64] | Sequence[int]) -> dict[str, float]:
    """Mean and quantiles of a column, by name (`p50`); empty where there is no value."""
    numbers = np.asarray(values)
    if not len(numbers):
        return {}
    found = np.quantile(numbers, QUANTILES, method="nearest").tolist()
    named = {f"p{round(100 * q)}": value for q, value in zip(QUANTILES, found, strict=True)}
    return {"mean": round(float(numbers.mean()), 2)} | named


def accuracy_of(verdicts: Mapping[str, int]) -> dict[str, Any]:
    """Counts by verdict, and the share of correct ones among those that say something.

    `gold_unparsable`, `timeout`, `error` and rows without a gold are no evidence either way, and
    are left out of `accuracy`; it is None where nothing is left.
    """
    decided = sum(verdicts.get(name, 0) for name in ("correct", "wrong", "no_answer"))
    accuracy = _share(verdicts.get("correct", 0), decided)
    return {"verdicts": dict(sorted(verdicts.items())), "decided": decided, "accuracy": accuracy}


def survival(tally: Mapping[str, Any]) -> dict[str, Any]:
    """What each context shows of a variant: shares of markers and traces, and of label deciles."""
    total = np.array(tally["labels"])
    found = {}
    for context, own in tally["contexts"].items():
        kept = np.array(own["labels"])
        found[context] = {
            "markers": _share(own["markers"], tally["markers"]),
            "whole_traces": _share(own["whole_traces"], tally["rows"]),
            "by_label": {
                f"{low}-{high - 1 if high < 100 else 100}": _share(
                    int(kept[low : high + (high == 100)].sum()),
                    int(total[low : high + (high == 100)].sum()),
                )
                for low, high in zip(range(0, 100, 10), range(10, 101, 10), strict=True)
            },
        }
    return found


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
