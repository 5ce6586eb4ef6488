"""`rejects.parquet`: every refused row with its stage, its reason and the evidence (law 4)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from progdata.builders.atomic import atomic_file
from progdata.builders.base_table import tally_rejects
from progdata.builders.engine import ShardStore
from progdata.builders.schema import RAW_LIMIT, REJECTS
from progdata.builders.thinking import join_completion
from progdata.releases.plan import Plan, regroup
from progdata.releases.workspace import Workspace

ROWS = 500
"""Rows in a row group; a row can hold RAW_LIMIT characters."""

Rejected = dict[str, dict[str, int]]
"""Refused rows by stage and reason."""


def write_rejects(
    workspace: Workspace, summaries: Sequence[Mapping[str, Any]], plan: Plan
) -> Rejected:
    """Write the rejects of all stages, in input order within a stage; their tally."""
    store = workspace.store
    by_shard = (store.table(summary["key"], "rejects") for summary in summaries)
    rejected: Rejected = {}
    path = workspace.staging / "rejects.parquet"
    with (
        atomic_file(path) as temporary,
        pq.ParquetWriter(
            temporary, REJECTS, compression="zstd", write_page_checksum=True
        ) as writer,
    ):
        for table in regroup(chain(by_shard, _dropped(store, summaries, plan)), ROWS):
            writer.write_table(table)
            for stage, reasons in tally_rejects(table).items():
                for reason, rows in reasons.items():
                    known = rejected.setdefault(stage, {})
                    known[reason] = known.get(reason, 0) + rows
    return rejected


def describe_rejects(rejected: Rejected) -> str:
    """The reasons and their rows in one line, the most frequent first."""
    reasons = [(rows, reason) for own in rejected.values() for reason, rows in own.items()]
    return ", ".join(f"{rows:,} {reason}" for rows, reason in sorted(reasons, reverse=True))


def _dropped(
    store: ShardStore, summaries: Sequence[Mapping[str, Any]], plan: Plan
) -> Iterator[pa.Table]:
    """The base rows that the plan drops, shard by shard."""
    index = plan.index
    for number, summary in enumerate(summaries):
        mine = np.flatnonzero((index.shard == number) & (plan.split < 0))
        if not len(mine):
            continue
        base = store.table(summary["key"], "base").take(pa.array(index.local[mine]))
        rows = [
            _reject(row, int(where), plan, summaries)
            for row, where in zip(base.to_pylist(), mine, strict=True)
        ]
        yield pa.Table.from_pylist(rows, REJECTS)


def _reject(
    row: Mapping[str, Any], where: int, plan: Plan, summaries: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """One dropped base row as a reject; a duplicate's text stands with the row it repeats."""
    index = plan.index
    found = {
        "file": summaries[index.shard[where]]["file"],
        "row": row["row"],
        "trace_id": row["trace_id"],
        "problem_id": row["problem_id"],
    }
    first = int(plan.first_seen[where])
    if first >= 0:
        file = summaries[index.shard[first]]["file"]
        detail = f"the same trace as {file} row {index.row[first]}"
        return found | {"stage": "duplicates", "reason": "duplicate_trace", "detail": detail}
    refused = {
        "stage": "splits",
        "reason": "problem_in_ood",
        "detail": "another sample of this problem thinks for too long, and is in ood",
    }
    if plan.leaked is not None and plan.leaked.rows[where]:
        reason, evidence = plan.leaked.why(row["problem_id"])
        refused = {"stage": "contamination", "reason": reason, "detail": evidence}
    elif plan.curated is not None and not plan.sibling[where]:
        reason, evidence = plan.curated.why(where)
        refused = {"stage": "curate", "reason": reason, "detail": evidence}
    parts = (row["think_opening"], row["think"], row["think_closed"], row["response"])
    raw = {
        "problem": row["problem"],
        "answer": row["answer"],
        "completion": join_completion(*parts),
    }
    return found | refused | {"raw": json.dumps(raw, ensure_ascii=False)[:RAW_LIMIT]}
