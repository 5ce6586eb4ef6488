"""The verify stage of a build: base rows get their verdicts, and some of them stay."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from progdata.builders.schema import RAW_LIMIT, REJECTS
from progdata.builders.thinking import CLOSE, OPEN, join_completion
from progdata.verifiers.grading import Budget, grade_stream
from progdata.verifiers.laws import Violation
from progdata.verifiers.pool import CPU_SECONDS, MEMORY_MB
from progdata.verifiers.verdicts import GraderName, Verdict

UNGRADED = "ungraded"
"""What a row without a gold counts as; its verdict is null."""


@dataclass(frozen=True)
class VerifySettings:
    """All that determines the verdicts of a base table, and which rows stay.

    `keep` names the verdicts that stay, `ungraded` among them; None keeps every row.
    """

    grader: GraderName = "math-verify"
    keep: tuple[str, ...] | None = None
    cpu_seconds: float = CPU_SECONDS
    memory_mb: int = MEMORY_MB

    @property
    def key(self) -> str:
        """What makes verdicts: these settings, and the versions of the libraries that grade."""
        return f"{self!r} {sorted(grading_versions().items())!r}"


@dataclass(frozen=True)
class VerifiedRows:
    """A base table with its verdicts; `kept` says which rows stay, `counts` what they all got."""

    base: pa.Table
    kept: pa.Array
    rejects: pa.Table
    counts: dict[str, int]


def grading_versions() -> dict[str, str]:
    """The versions of the libraries that decide verdicts."""
    names = ("math-verify", "latex2sympy2_extended", "sympy")
    return {name: version(name) for name in names}


def verify_rows(
    base: pa.Table, rows: pa.Array, file: str, settings: VerifySettings
) -> VerifiedRows:
    """Fill `verdict` and `extracted_answer` of base rows, in one grading process.

    Rows without a gold keep a null verdict. `rows` are their numbers in `file`, for the rejects:
    stage `verify`, the verdict as the reason, the rule that decided as the detail.
    """
    verdicts = _grade(base, settings)
    reasons = [verdict.status if verdict else UNGRADED for verdict in verdicts]
    columns = {
        "verdict": [verdict.status if verdict else None for verdict in verdicts],
        "extracted_answer": [verdict.extracted_answer if verdict else None for verdict in verdicts],
    }
    for name, values in columns.items():
        place = base.schema.get_field_index(name)
        base = base.set_column(place, base.schema.field(place), pa.array(values, pa.string()))
    keep = settings.keep
    kept = pa.array([keep is None or reason in keep for reason in reasons], pa.bool_())
    refused = [
        _reject(base.slice(i, 1).to_pylist()[0], reasons[i], verdicts[i], file, rows[i].as_py())
        for i, stays in enumerate(kept.to_pylist())
        if not stays
    ]
    counts = dict(sorted(Counter(reasons).items()))
    return VerifiedRows(base, kept, pa.Table.from_pylist(refused, REJECTS), counts)


def _grade(base: pa.Table, settings: VerifySettings) -> list[Verdict | None]:
    """The verdict of each row; None where it has no gold."""
    table = base.select(["answer", "think_closed", "response"])
    table = table.append_column("row", pa.array(range(len(base))))
    graded = table.filter(table["answer"].is_valid()).to_pylist()
    verdicts: list[Verdict | None] = [None] * len(base)
    pairs = (
        (row["answer"], f"{CLOSE}{row['response']}" if row["think_closed"] else OPEN)
        for row in graded
    )
    budget = Budget(settings.cpu_seconds, settings.memory_mb)
    found = grade_stream(pairs, settings.grader, workers=1, thinks=True, budget=budget)
    for row, verdict in zip(graded, found, strict=True):
        verdicts[row["row"]] = verdict
    return verdicts


def _reject(
    row: dict[str, Any], reason: str, verdict: Verdict | None, file: str, number: int
) -> dict[str, Any]:
    parts = (row["think_opening"], row["think"], row["think_closed"], row["response"])
    fields = {name: row[name] for name in ("problem", "answer", "source", "model")}
    raw = json.dumps(fields | {"completion": join_completion(*parts)})
    said = f"answer {verdict.extracted_answer!r}: {verdict.rule}" if verdict else "no gold"
    return {
        "stage": "verify",
        "reason": reason,
        "detail": said[:500],
        "file": file,
        "row": number,
        "trace_id": row["trace_id"],
        "problem_id": row["problem_id"],
        "raw": raw[:RAW_LIMIT],
    }


def check_verdicts(base: pa.Table, settings: VerifySettings | None) -> Iterator[Violation]:
    """Law 2 for verdicts: they are those that grading gives, and of the kept ones.

    What ran over a budget, here or when it was built, may do otherwise on another machine: such
    rows are passed over.
    """
    stored = zip(*(base[name].to_pylist() for name in _CHECKED), strict=True)
    if settings is None:
        for trace, verdict, answer in stored:
            if verdict is not None or answer is not None:
                yield Violation("true", trace, "has a verdict, and nothing was verified")
        return
    for (trace, verdict, answer), found in zip(stored, _grade(base, settings), strict=True):
        reason = verdict or UNGRADED
        if settings.keep is not None and reason not in settings.keep:
            yield Violation("true", trace, f"its verdict {reason} is not one that is kept")
        if {reason, found and found.status} & {"timeout", "error"}:
            continue
        given = (found.status, found.extracted_answer) if found else (None, None)
        if (verdict, answer) != given:
            rule = f" ({found.rule})" if found else ""
            detail = f"verdict {verdict}, answer {answer!r}; grading gives {given[0]}{rule}"
            yield Violation("true", trace, f"{detail}, answer {given[1]!r}")


_CHECKED = ("trace_id", "verdict", "extracted_answer")
