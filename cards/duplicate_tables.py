"""What `progdata dedup` prints."""

from collections.abc import Mapping
from typing import Any

from progdata.cards.tables import table

_CHARS = 120

_RULES = {
    "exact": "the same problem in another notation, or word for word",
    "near": "nearly the same problem",
    "same_trace": "the same trace again",
    "extra_trace": "more traces of a problem than are kept",
}


def dedup_summary(report: Mapping[str, Any]) -> str:
    """The counts by rule, and the first removals of each, what goes above what stays."""
    unreadable = sum(report["unreadable"].values())
    lines = [
        f"{report['rows']:,} rows = {report['kept']:,} kept + {report['removed']:,} removed + "
        f"{unreadable:,} unreadable; {report['problems']:,} problems, {report['seconds']:.1f} s"
    ]
    if report["removed"]:
        rules = [[rule, rows, _RULES[rule]] for rule, rows in report["by_rule"].items()]
        lines += ["", table(["rule", "rows", ""], rules), ""]
        lines.append(
            f"{report['clusters']:,} clusters, the largest of {report['largest_cluster']:,} rows"
        )
    if report["answers_differ"]:
        lines.append(
            f"{report['answers_differ']:,} removed rows have a gold that is not written like that "
            "of the row that stays"
        )
    if report.get("approximate"):
        lines.append("searched approximately: some near duplicates may be left")
    for record in report["examples"]:
        lines += [
            "",
            f"{_place(record['removed'])} -> {_place(record['kept'])}: {record['rule']} "
            f"({record['score']})",
            f"  {_line(record['removed_text'])}",
            f"  {_line(record['kept_text'])}",
        ]
    if "out" in report:
        names = "kept.parquet, duplicates.jsonl, unreadable.jsonl, dedup.json"
        lines += ["", f"{report['out']}: {names}"]
    return "\n".join(lines)


def _place(row: Mapping[str, Any]) -> str:
    return f"{row['file']}:{row['row']}"


def _line(text: str) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= _CHARS else f"{shown[: _CHARS - 3]}..."
