"""The variants of a build and their statistics, on its card."""

from collections.abc import Mapping
from typing import Any

from progdata.cards.markdown_text import code, markdown_table

_QUANTILES = ("mean", "p5", "p25", "p50", "p75", "p95", "p99", "p100")
_NAMES = ("mean", "5 %", "25 %", "median", "75 %", "95 %", "99 %", "most")

_MISSING = "-"


def variants_section(lock: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """How each variant is labelled, shown and hidden, and how many markers it has."""
    rows = []
    for variant in lock["recipe"]["variants"]:
        own = report["variants"][variant["name"]]
        masked = own["masked"] / own["markers"] if own["markers"] else None
        rows.append(
            [
                code(variant["name"]),
                f"{variant['sigma']:g}" if variant["sigma"] else "none",
                _style(variant),
                f"0 to {variant['mask_max']:g}" if variant["mask_max"] else "none",
                f"{own['markers']:,}",
                _percent(masked),
            ]
        )
    header = ["variant", "label noise (sigma)", "labels are", "mask, on a cosine ramp", "markers",
              "masked"]  # fmt: skip
    return markdown_table(header, rows)


def statistics_section(report: Mapping[str, Any]) -> str:
    """Rows of the splits, lengths, and what training contexts show."""
    splits = [[code(split), f"{rows:,}"] for split, rows in report["splits"].items()]
    lengths = [
        [name, *(_number(values.get(key)) for key in _QUANTILES)]
        for name, values in (
            ("thinking tokens of a trace", report["tokens_per_trace"]),
            ("segments of a trace", report["segments_per_trace"]),
        )
    ]
    blocks = [
        markdown_table(["split", "rows"], splits),
        markdown_table(["", *_NAMES], lengths),
        _contexts(report),
    ]
    return "\n\n".join(block for block in blocks if block)


def _contexts(report: Mapping[str, Any]) -> str:
    """The share of markers, and of whole traces, that fits in a training context."""
    variants = report["variants"]
    contexts = list(next(iter(variants.values()))["contexts"])
    rows = [
        [
            code(name),
            *(
                f"{_percent(own['contexts'][context]['markers'])} / "
                f"{_percent(own['contexts'][context]['whole_traces'])}"
                for context in contexts
            ),
        ]
        for name, own in variants.items()
    ]
    return (
        "What a training context of so many tokens (prompt, thinking and markers) shows: markers / "
        "whole traces.\n\n"
        + markdown_table(["variant", *(f"{int(own):,}" for own in contexts)], rows)
    )


def _style(variant: Mapping[str, Any]) -> str:
    return "one of 101 special tokens" if variant["special"] else "plain text"


def _number(value: float | None) -> str:
    return _MISSING if value is None else f"{value:,.1f}".removesuffix(".0")


def _percent(share: float | None) -> str:
    return _MISSING if share is None else f"{100 * share:.1f} %"
