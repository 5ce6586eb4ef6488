"""The report of `progdata train probe` as plain text for a terminal."""

from collections.abc import Mapping
from typing import Any

from progdata.cards.tables import percent, table

_HEADER = ["accuracy", "interval", "MAE in bins", "interval", "MAE of progress", "interval"]


def probe_summary(report: Mapping[str, Any]) -> str:
    """What was probed, and for each split the probes with the baselines under them."""
    model, data = report["model"], report["data"]
    head = f"probes of {model['name']} on {data['name']} ({data['variant']}), {report['device']}"
    lines = [head, *(_counts(split, own) for split, own in report["splits"].items())]
    return "\n\n".join(["\n".join(lines), *(_scores(report, split) for split in report["splits"])])


def _counts(split: str, own: Mapping[str, Any]) -> str:
    """What there is of a split, and what is missing from it."""
    missing = [f"{rows:,} left out ({reason})" for reason, rows in own["left_out"].items()]
    if own["cut_by_context"]:
        missing.append(f"{own['cut_by_context']:,} longer than the context")
    if own["clipped_to_float16"]:
        missing.append(f"{own['clipped_to_float16']:,} numbers too large for float16")
    counts = f"{own['tokens']:,} tokens of {own['traces']:,} traces, {own['problems']:,} problems"
    return f"  {split}: " + "; ".join([counts, *missing])


def _scores(report: Mapping[str, Any], split: str) -> str:
    rows = []
    for own in [*report["probes"], *report["baselines"]]:
        measured = own["splits"][split]
        hits, bins, share = (measured[name] for name in ("accuracy", "mae_bins", "mae_progress"))
        rows.append(
            [
                own["name"],
                percent(hits["mean"]),
                _interval(hits, "{:.1%}"),
                f"{bins['mean']:.2f}",
                _interval(bins, "{:.2f}"),
                f"{share['mean']:.3f}",
                _interval(share, "{:.3f}"),
            ]
        )
    return table([split, *_HEADER], rows)


def _interval(estimate: Mapping[str, Any], form: str) -> str:
    if estimate["low"] is None:
        return "-"
    return f"{form.format(estimate['low'])} to {form.format(estimate['high'])}"
