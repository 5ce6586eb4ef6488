"""What `progdata verify` prints."""

from collections.abc import Mapping
from typing import Any

from progdata.cards.tables import percent, table

SHOWN = 5
"""Disagreements and slow items that are printed; the report has more of them."""


def verify_summary(report: Mapping[str, Any]) -> str:
    """The counts, the accuracy by source and model, what graders disagree on, what was slow."""
    unreadable = sum(report["unreadable"].values())
    lines = [
        f"{report['rows']:,} rows, {report['graded']:,} graded, {report['ungraded']:,} without a "
        f"gold, {unreadable:,} unreadable, {report['seconds']:.1f} s",
        *(f"  {reason}: {rows:,}" for reason, rows in report["unreadable"].items()),
    ]
    graders = report["graders"]
    names = sorted({name for own in graders.values() for name in own["verdicts"]})
    counts = [
        [name, *(own["verdicts"].get(verdict, 0) for verdict in names), percent(own["accuracy"])]
        for name, own in graders.items()
    ]
    lines += ["", table(["grader", *names, "accuracy"], counts)]
    for group in ("by_source", "by_model"):
        rows = [
            [
                name,
                own["decided"],
                *(percent(by[group][name]["accuracy"]) for by in graders.values()),
            ]
            for name, own in report[group].items()
        ]
        lines += ["", table([group.removeprefix("by_"), "decided", *graders], rows)]
    lines += [*_disagreements(report), *_slowest(report)]
    if "out" in report:
        lines += ["", f"{report['out']}: verified.parquet, verification.json"]
    return "\n".join(lines)


def _disagreements(report: Mapping[str, Any]) -> list[str]:
    found = report["disagreements"]
    if not found["count"]:
        return []
    lines = ["", f"the graders disagree on {found['count']:,} rows, such as"]
    for row in found["shown"][:SHOWN]:
        verdicts = ", ".join(
            f"{name}: {row[name]['status']} ({row[name]['rule']})"
            for name in report["graders"]
            if name in row
        )
        answer = next(row[name]["extracted_answer"] for name in report["graders"] if name in row)
        lines.append(f"  {row['file']} row {row['row']}: gold {_short(row['gold'])}, "
                     f"answer {_short(answer)}: {verdicts}")  # fmt: skip
    return lines


def _slowest(report: Mapping[str, Any]) -> list[str]:
    if not report["slowest"]:
        return []
    return ["", "slowest, in CPU seconds"] + [
        f"  {row['seconds']:.3f}  {row['file']} row {row['row']}: gold {_short(row['gold'])}, "
        f"answer {_short(row['extracted_answer'])}: {row['status']}"
        for row in report["slowest"][:SHOWN]
    ]


def _short(text: str | None) -> str:
    """A text on one line, cut at 60 characters."""
    shown = repr(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
