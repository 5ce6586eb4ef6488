"""The report of `progdata stats --samples` as plain text for a terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from progdata.cards.tables import percent, table

_LENGTHS = {"mean": "mean", "p5": "p5", "p50": "median", "p95": "p95", "p100": "most"}


def samples_summary(report: Mapping[str, Any]) -> str:
    """Counts, accuracy with its interval, pass@k and maj@k, tokens, coverage by context."""
    blocks = [
        "\n".join([*_counts(report), _accuracy(report)]),
        _by_k(report),
        _tokens(report),
        _contexts(report),
    ]
    if "plot" in report:
        blocks.append(f"{report['plot']}: coverage and truncation")
    return "\n\n".join(blocks)


def _counts(report: Mapping[str, Any]) -> list[str]:
    """What was read, what counts, and what was left out and why."""
    each = report["samples_per_problem"]
    unreadable, left_out = (sum(report[name].values()) for name in ("unreadable", "left_out"))
    lines = [
        f"{report['rows']:,} rows: {report['samples']:,} samples of {report['problems']:,} "
        f"problems, {left_out:,} left out, {unreadable:,} unreadable, {report['seconds']:.1f} s",
        *(
            f"  {why}: {n:,}"
            for name in ("left_out", "unreadable")
            for why, n in report[name].items()
        ),
    ]
    if report["problems_left_out"]:
        lines.append(f"  problems without any sample that counts: {report['problems_left_out']:,}")
    lines += [
        f"samples a problem: {each['p0']:,} to {each['p100']:,}, median {each['p50']:,}; "
        f"cut off, and so wrong: {report['cut']:,}"
    ]
    if len(report["models"]) > 1:
        models = ", ".join(f"{name} ({rows:,})" for name, rows in report["models"].items())
        lines.append(f"samples of several models as if of one: {models}")
    return lines


def _accuracy(report: Mapping[str, Any]) -> str:
    found = report["accuracy"]
    between = _interval(found)
    confidence = f"{100 * report['settings']['confidence']:g} %"
    interval = f", {confidence} interval {between}" if between != "-" else ""
    return (
        f"accuracy: {100 * found['mean']:.1f}%{interval} (mean over problems, "
        f"by {report['grader']})"
    )


def _by_k(report: Mapping[str, Any]) -> str:
    rows = [
        [
            passed["k"],
            passed["problems"],
            percent(passed["mean"]),
            _interval(passed),
            percent(voted["mean"]),
            percent(voted["deviation"]),
            _number(voted["tokens"], 0),
        ]
        for passed, voted in zip(report["pass_at_k"], report["majority_at_k"], strict=True)
    ]
    header = ["k", "problems", "pass@k", "interval", "maj@k", "deviation", "tokens a problem"]
    return table(header, rows)


def _tokens(report: Mapping[str, Any]) -> str:
    rows = [
        [name, own["samples"], *(_number(own.get(key)) for key in _LENGTHS)]
        for name, own in report["tokens"].items()
    ]
    title = f"tokens ({Path(report['tokenizer']['spec']).name})"
    return table([title, "samples", *_LENGTHS.values()], rows)


def _contexts(report: Mapping[str, Any]) -> str:
    rows = [
        [
            own["max_tokens"],
            percent(own["coverage"]),
            percent(own["problems_solved"]),
            percent(own["truncated"]),
        ]
        for own in report["contexts"]
    ]
    return table(["max tokens", "coverage", "problems solved", "truncated"], rows)


def _interval(estimate: Mapping[str, Any]) -> str:
    if estimate["low"] is None:
        return "-"
    return f"{100 * estimate['low']:.1f}% to {100 * estimate['high']:.1f}%"


def _number(value: float | None, digits: int = 1) -> float:
    return float("nan") if value is None else round(value, digits)
