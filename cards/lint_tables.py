"""The report of `progdata lint` as plain text for a terminal."""

from collections.abc import Mapping
from typing import Any

from progdata.cards.tables import table
from progdata.verifiers.lint import INFORMATION

_EVIDENCE_CHARS = 100


def lint_summary(report: Mapping[str, Any]) -> str:
    """What `progdata lint` prints."""
    blocks = [
        f"{report['rows']:,} rows, {report['problems']:,} problems, {report['golds']:,} golds; "
        f"{report['faulty']:,} rows with a fault, {report['seconds']:.1f} s"
    ]
    counts = report["counts"]
    found = [(kind, n) for kind, n in counts.items() if n and kind not in INFORMATION]
    if found:
        blocks.append(table(["fault", "rows"], found))
        blocks.append(table(["for example", "where", "evidence"], _examples(report)))
    if counts["duplicate_problem"]:
        blocks.append(
            f"{counts['duplicate_problem']:,} rows share a problem with others, and do not "
            "contradict them (no fault)"
        )
    if report.get("out"):
        blocks.append(f"{report['out']}: every finding, with its evidence")
    return "\n\n".join(blocks)


def _examples(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (own["kind"], f"{own['file']}:{own['row']}", _cut(_evidence(own)))
        for own in report["examples"]
    ]


def _evidence(finding: Mapping[str, Any]) -> str:
    answer = "" if finding["answer"] is None else f"{finding['answer']}: "
    return answer + finding["detail"]


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _EVIDENCE_CHARS else line[: _EVIDENCE_CHARS - 3] + "..."
