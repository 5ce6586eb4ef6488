"""What `progdata decontaminate` prints, and the page that shows the matched texts."""

from collections.abc import Mapping
from typing import Any

from progdata.cards.tables import table

SHOWN = 5
"""Matches that are printed; the page and the report have all of them."""

CARD_MATCHES = 20
"""Matches that the card of a build shows."""


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
        *_benchmark_rows(report),
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


def contamination_card(report: Mapping[str, Any] | None) -> str:
    """What the card of a build says: flagged rows by benchmark, the first texts side by side."""
    if report is None:
        return ""
    left = "They were removed" if report["action"] == "remove" else "They are still in it"
    lines = [
        f"{report['flagged']:,} of {report['rows']:,} rows ({report['problems_flagged']:,} "
        f"problems) hold text of a benchmark, by the profile `{report['profile']}`. {left}.",
        "",
        *_benchmark_rows(report),
    ]
    if report["matches"]:
        lines += [
            "",
            f"The first {min(CARD_MATCHES, len(report['matches']))} of "
            f"{len(report['matches']):,} matches; `reports/build.json` has all:",
            "",
            "| benchmark | reason | score | the dataset says | the benchmark says |",
            "| --- | --- | --- | --- | --- |",
        ]
    for match in report["matches"][:CARD_MATCHES]:
        cells = (
            f"{match['benchmark']} {match['benchmark_row']}",
            match["reason"],
            f"{match['score']}",
            match["row_text"],
            match["item_text"],
        )
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines)


def _benchmark_rows(report: Mapping[str, Any]) -> list[str]:
    return [
        "| benchmark | items | rows flagged |",
        "| --- | --- | --- |",
        *(
            f"| {_cell(name)} | {own['items']:,} | {report['by_benchmark'].get(name, 0):,} |"
            for name, own in report["benchmarks"].items()
        ),
    ]


def _line(text: str) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= 120 else f"{shown[:117]}..."


def _cell(text: str) -> str:
    """A text in a cell of a Markdown table: nothing in it is markup, and it is one line."""
    shown = " ".join(text.split())
    for mark in "\\`*_{}[]<>()#+-!|~$&":
        shown = shown.replace(mark, f"&#{ord(mark)};" if mark in "<>&|" else f"\\{mark}")
    return shown
