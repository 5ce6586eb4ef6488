"""The report on contamination profiles as plain text for a terminal."""

from collections.abc import Mapping
from typing import Any

from progdata.cards.tables import percent, table

SHOWN_MISSES = 2
"""Misses of each kind that are printed of the first checker; the report has more."""

_CHARACTERS = 160


def bench_summary(report: Mapping[str, Any]) -> str:
    """What `progdata bench contamination` prints."""
    checkers: Mapping[str, Mapping[str, Any]] = report["checkers"]
    first = next(iter(checkers))
    return "\n\n".join(
        [
            _head(report),
            _recall_table(report["planted"], checkers),
            _length_table(checkers),
            _alarm_table(checkers),
            *_misses(first, checkers[first]["misses"]),
        ]
    )


def _head(report: Mapping[str, Any]) -> str:
    items, clean = report["items"], report["clean"]
    return (
        f"{sum(report['planted'].values()):,} leaks of {_counted(items, 'items')} among "
        f"{_counted(clean, 'clean problems')}, seed {report['seed']}"
    )


def _counted(texts: Mapping[str, Any], what: str) -> str:
    return f"{texts['count']:,} {'generated ' if texts['generated'] else ''}{what}"


def _recall_table(planted: Mapping[str, int], checkers: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [
            kind.replace("_", " "),
            leaks,
            *(percent(own["recall"][kind]["share"]) for own in checkers.values()),
        ]
        for kind, leaks in planted.items()
    ]
    return table(["leaks found", "planted", *checkers], rows)


def _length_table(checkers: Mapping[str, Mapping[str, Any]]) -> str:
    """Recall over all kinds by the length of the item."""
    lengths: Mapping[str, Mapping[str, Any]] = next(iter(checkers.values()))["by_length"]
    rows = [
        [
            name,
            own["of"],
            *(percent(one["by_length"][name]["share"]) for one in checkers.values()),
        ]
        for name, own in lengths.items()
    ]
    return table(["words of the item", "planted", *checkers], rows)


def _alarm_table(checkers: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, own in checkers.items():
        alarms = own["false_alarms"]
        low, high = alarms["interval_95"]
        rows.append(
            [
                name,
                alarms["found"],
                percent(alarms["share"]),
                f"{100 * low:.2f} to {100 * high:.2f}",
                round(own["problems_per_second"]),
            ]
        )
    return table(["checker", "false alarms", "of the clean", "95% interval", "problems/s"], rows)


def _misses(name: str, misses: Mapping[str, list[Mapping[str, Any]]]) -> list[str]:
    lines = [
        line
        for kind, shown in misses.items()
        for miss in shown[:SHOWN_MISSES]
        for line in (
            f"{kind.replace('_', ' ')}: {_cut(miss['planted'])}",
            f"  of: {_cut(miss['item'])}",
        )
    ]
    return ["\n".join([f"{name} missed, among others:", *lines])] if lines else []


def _cut(text: str) -> str:
    """The beginning of a text, on one line, without what a terminal takes for a command."""
    line = " ".join(text[: 9 * _CHARACTERS].split())
    line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
    return line if len(line) <= _CHARACTERS else f"{line[: _CHARACTERS - 3]}..."
