"""The problems that a model is asked: read from a source, each text once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from progdata.builders.columns import RowRefused, read_fields
from progdata.builders.errors import ProgdataError
from progdata.builders.schema import problem_id
from progdata.builders.shard_rows import read_rows
from progdata.builders.sources import Source, read_shards

NEEDS = ("problem",)

_STAGES = ("read", "think", "progress", "prompt", "generate")


@dataclass(frozen=True, slots=True)
class AskedProblem:
    """A problem, and where it stands: its source's name, the file and its row or line, from 1."""

    file: str
    row: int
    source: str
    problem_id: str
    problem: str
    answer: str | None


@dataclass
class Refusals:
    """Rejects of generation, in the shape of the rejects table."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, where: AskedProblem, stage: str, reason: str, detail: str) -> None:
        self._add(where.file, where.row, stage, reason, detail, where.problem_id, where.problem)

    def add_row(self, file: str, row: int, refused: RowRefused) -> None:
        self._add(file, row, "read", refused.reason, refused.detail, None, None)

    def main(self) -> str:
        """The first reject of the latest stage, as the end of an error message."""
        if not self.rows:
            return "and nothing was refused"
        last = max(self.rows, key=lambda row: _STAGES.index(row["stage"]))
        more = f" (all {len(self.rows):,} are in rejects.parquet)" if len(self.rows) > 1 else ""
        return f"{last['file']}, row {last['row']}: {last['reason']}: {last['detail']}{more}"

    def _add(
        self,
        file: str,
        row: int,
        stage: str,
        reason: str,
        detail: str,
        problem_id: str | None,
        raw: str | None,
    ) -> None:
        self.rows.append(
            {"stage": stage, "reason": reason, "detail": detail, "file": file, "row": row}
            | {"trace_id": None, "problem_id": problem_id, "raw": raw}
        )


def read_asked(
    sources: Sequence[Source], refusals: Refusals, limit: int | None = None
) -> list[AskedProblem]:
    """The distinct problems of some sources, in order; the others are refused with a reason.

    Raises ProgdataError where there is none.
    """
    found: list[AskedProblem] = []
    seen: dict[str, AskedProblem] = {}
    for shard in read_shards(sources, limit=limit):
        for number, row, _ in read_rows(shard):
            try:
                if isinstance(row, RowRefused):
                    raise row
                fields = read_fields(row, shard.columns, NEEDS)
            except RowRefused as refused:
                refusals.add_row(shard.file, number, refused)
                continue
            own = AskedProblem(
                shard.file,
                number,
                fields.source or shard.source,
                problem_id(fields.problem),
                fields.problem,
                fields.answer,
            )
            first = seen.setdefault(own.problem_id, own)
            if first is own:
                found.append(own)
            else:
                detail = f"the problem of {first.file}, row {first.row}; it is asked once"
                refusals.add(own, "read", "repeated_problem", detail)
    if not found:
        spec = ", ".join(source.spec for source in sources)
        raise ProgdataError(f"{spec}: no row holds a problem that can be read")
    return found
