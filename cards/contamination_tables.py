"""What `progdata decontaminate` prints, and the page that shows the matched texts."""

from collections.abc import Mapping
from typing import Any

from progdata.cards.tables import table

SHOWN = 5
"""Matches that are printed; the page and the report have all of them."""


def contamination_summary(report: Mapping[str, Any]) -> str:
    """The counts by benchmark and reason, and the first matches, one text above the other."""
    unreadable = sum(report["unreadable"].values())
    lines = [
        f"{report['rows']:,} rows, {report['flagged']:,} flagged by {report['profile']}, "
        f"{unreadable:,} unreadable, {report['seconds']:.1f} s",
        "",
        table(
            ["benchmark", "items", "rows flagged"],
            [
                [name, own["items"], report["by_benchmark"].get(name, 0)]
                for name, own in report["benchmarks"].items()
            ],
        ),
    ]
    if report["matches"]:
        lines += ["", table(["reason", "rows"], list(report["by_reason"].items()))]
    for match in report["matches"][:SHOWN]:
        lines += [
            "",
            f"{match['file']} row {match['row']}, {match['benchmark']} row "
            f"{match['benchmark_row']}: {match['reason']} ({match['score']})",
            f"  {_line(match['row_text'])}",
            f"  {_line(match['item_text'])}",
        ]
    if "out" in report:
        names = ["contamination.json", "contamination.md", *report.get("files", ())]
        lines += ["", f"{report['out']}: {', '.join(names)}"]
    return "\n".join(lines)


def contamination_page(report: Mapping[str, Any]) -> str:
    """Every match with both texts side by side, as Markdown."""
    lines = [
        "# Contamination",
        "",
        f"{report['flagged']:,} of {report['rows']:,} rows hold text of a benchmark, by the "
        f"profile `{report['profile']}`; action: {report['action']}.",
        "",
        "| benchmark | items | rows flagged |",
        "| --- | --- | --- |",
        *(
            f"| {_cell(name)} | {own['items']:,} | {report['by_benchmark'].get(name, 0):,} |"
            for name, own in report["benchmarks"].items()
        ),
    ]
    if report["matches"]:
        lines += [
            "",
            "| row | benchmark | reason | score | the row says | the benchmark says |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
    for match in report["matches"]:
        cells = (
            f"{match['file']} {match['row']}",
            f"{match['benchmark']} {match['benchmark_row']}",
            match["reason"],
            f"{match['score']}",
            match["row_text"],
            match["item_text"],
        )
        lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= 120 else f"{shown[:117]}..."


def _cell(text: str) -> str:
    """A text in a cell of a Markdown table: nothing in it is markup, and it is one line."""
    shown = " ".join(text.split())
    for mark in "\\`*_{}[]<>()#+-!|~$&":
        shown = shown.replace(mark, f"&#{ord(mark)};" if mark in "<>&|" else f"\\{mark}")
    return shown
