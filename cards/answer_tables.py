"""The report on answer checkers as plain text for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from progdata.cards.tables import percent, table

SHOWN_MISTAKES = 10

_CHARACTERS = 44
"""Of a gold or response in a table: of a response the end, where its answer is."""


def bench_summary(report: Mapping[str, Any]) -> str:
    """What `progdata bench answers` prints."""
    checkers: Mapping[str, Mapping[str, Any]] = report["checkers"]
    blocks = [
        f"{report['pairs']:,} pairs in {report['file']}: "
        f"{report['equal']:,} equal, {report['unequal']:,} not",
        _checker_table(checkers),
        *_form_table(checkers),
        *(_mistakes(name, own["mistakes"]) for name, own in checkers.items() if own["mistakes"]),
        *_errors(checkers),
    ]
    if report["disagreements"] is not None:
        found = len(report["disagreements"])
        blocks.append(f"math-verify and deepscaler disagree on {found:,} pairs (--json lists them)")
    return "\n\n".join(blocks)


def _checker_table(checkers: Mapping[str, Mapping[str, Any]]) -> str:
    header = [
        *("checker", "accuracy", "95% interval", "wrongly equal", "wrongly unequal"),
        *("timeouts", "errors", "undecided", "pairs/s"),
    ]
    rows = [
        [
            name,
            percent(own["accuracy"]),
            " to ".join(f"{100 * bound:.1f}" for bound in own["accuracy_95"]),
            own["confusion"]["false_equal"],
            own["confusion"]["false_unequal"],
            own["timeouts"],
            own["errors"],
            sum(own["undecided"].values()),
            round(own["pairs_per_second"]),
        ]
        for name, own in checkers.items()
    ]
    return table(header, rows)


def _form_table(checkers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The accuracy on each form of answer, where the pairs have forms."""
    forms = {form: own for checker in checkers.values() for form, own in checker["by_form"].items()}
    rows = [
        [
            _cut(form),
            own["pairs"],
            *(percent(c["by_form"][form]["accuracy"]) for c in checkers.values()),
        ]
        for form, own in forms.items()
    ]
    return [table(["form", "pairs", *checkers], rows)] if rows else []


def _mistakes(name: str, mistakes: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            own["line"],
            _cut(own["gold"]),
            _cut(own["pred"], end=True),
            "equal" if own["equal"] else "unequal",
            f"{own['said']} ({_cut(own['rule'])})",
        ]
        for own in mistakes[:SHOWN_MISTAKES]
    ]
    more = len(mistakes) - len(rows)
    text = f"{name} is wrong on {len(mistakes):,}:\n"
    text += table(["line", "gold", "response (its end)", "is", "said"], rows)
    return text + (f"\n... and {more:,} more (--json lists them)" if more else "")


def _errors(checkers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"{name} failed on line {first['line']}: {_cut(first['message'], 300)}"
        for name, own in checkers.items()
        for first in own["error_messages"][:1]
    ]


def _cut(text: str, most: int = _CHARACTERS, *, end: bool = False) -> str:
    """The beginning or end of a text, on one line, without what a terminal takes for a command."""
    line = " ".join(text[-9 * most :].split() if end else text[: 9 * most].split())
    line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
    if len(line) <= most:
        return line
    return f"...{line[3 - most :]}" if end else f"{line[: most - 3]}..."
