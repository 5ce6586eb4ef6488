"""The table of rollouts: one row a rollout; and what they say of progress, by where they begin."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from progdata.builders.atomic import atomic_file
from progdata.builders.continuations import Prefix
from progdata.builders.sample_store import SampleStore
from progdata.builders.sampling import Message, Sample
from progdata.builders.schema import SAMPLING
from progdata.releases.asked_problems import AskedProblem
from progdata.verifiers.grading import grade_all

TABLE = pa.schema(
    [
        pa.field("trace_id", pa.string(), nullable=False),  # of the trace it goes on from
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("problem", pa.string(), nullable=False),
        pa.field("answer", pa.string()),
        pa.field("how", pa.string(), nullable=False),
        pa.field("segment", pa.int32(), nullable=False),  # the last of the prefix, from 0
        pa.field("prefix_end", pa.int32(), nullable=False),  # characters of the thinking
        pa.field("prefix_tokens", pa.int32(), nullable=False),
        pa.field("progress", pa.float32(), nullable=False),  # of the trace at the prefix, (0, 1]
        pa.field("continuation", pa.string(), nullable=False),  # after the prefix, with the push
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("model_revision", pa.string(), nullable=False),
        pa.field("sampling", SAMPLING, nullable=False),
        pa.field("prompt_tokens", pa.int32(), nullable=False),  # of the last round
        pa.field("completion_tokens", pa.int32(), nullable=False),  # of all rounds
        pa.field("seconds", pa.float32(), nullable=False),
        pa.field("engine", pa.string(), nullable=False),
        pa.field("engine_version", pa.string(), nullable=False),
        pa.field("verdict", pa.string()),
        pa.field("extracted_answer", pa.string()),
    ]
)

BLOCK = 1_000
"""Rows that are graded and written at a time."""

DECILES = 10


@dataclass(frozen=True, slots=True)
class Origin:
    """A trace that is rolled out: its problem and prompt, its thinking, and where segments end."""

    problem: AskedProblem
    trace_id: str
    messages: tuple[Message, ...]
    opening: str
    think: str
    ends: Sequence[int]
    token_ends: Sequence[int]


@dataclass(slots=True)
class Rollout:
    """One rollout under way: `said` is what follows the prefix so far, pushes and samples.

    The last round's sample is left in the store, under `key`.
    """

    origin: Origin
    prefix: Prefix
    index: int
    said: str = ""
    key: str = ""
    seed: int = 0
    tokens: int = 0
    seconds: float = 0.0
    failed: bool = False
    ended: bool = False

    @property
    def thinking(self) -> str:
        return self.origin.think[: self.prefix.end] + self.said

    @property
    def goes_on(self) -> bool:
        return not self.failed and not self.ended

    def take(self, store: SampleStore) -> None:
        """Add the sample of a round that is not the last. One that the limit cut off ends here."""
        sample = store.get(self.key)
        if sample is None:
            self.failed = True
        elif sample.truncated:
            self.ended = True
        else:
            self.said += sample.text
            self.tokens += sample.completion_tokens
            self.seconds += sample.seconds


def write_rollouts(
    path: Path,
    rollouts: Sequence[Rollout],
    store: SampleStore,
    shared: dict[str, Any],
    verify: bool,
) -> dict[str, Any]:
    """Write the rollouts that have a sample as TABLE, graded where `verify` and there is a gold.

    Returns how many there are, their tokens, and a summary by decile of progress.
    """
    kept = ["progress", "verdict", "completion_tokens", "truncated"]
    pieces: list[pl.DataFrame] = []
    found = _found(rollouts, store)
    with (
        atomic_file(path) as temporary,
        pq.ParquetWriter(temporary, TABLE, compression="zstd", write_page_checksum=True) as writer,
    ):
        while block := list(islice(found, BLOCK)):
            rows = [_row(own, sample, shared) for own, sample in block]
            if verify:
                _grade(rows, [own for own, _ in block])
            table = pa.Table.from_pylist(rows, TABLE)
            writer.write_table(table)
            pieces.append(pl.DataFrame(pl.from_arrow(table.select(kept))))
    return summarise_rollouts(pl.concat(pieces)) if pieces else {"rollouts": 0}


def _found(rollouts: Sequence[Rollout], store: SampleStore) -> Iterator[tuple[Rollout, Sample]]:
    for own in rollouts:
        sample = None if own.failed else store.get(own.key)
        if sample is not None:
            yield own, sample


def _row(own: Rollout, sample: Sample, shared: dict[str, Any]) -> dict[str, Any]:
    problem = own.origin.problem
    text = own.said + sample.text
    return shared | {
        "trace_id": own.origin.trace_id,
        "problem_id": problem.problem_id,
        "source": problem.source,
        "problem": problem.problem,
        "answer": problem.answer,
        "segment": own.prefix.segment,
        "prefix_end": own.prefix.end,
        "prefix_tokens": own.prefix.tokens,
        "progress": own.prefix.progress,
        "continuation": text.encode("utf-8", "replace").decode(),
        "finish_reason": sample.finish_reason,
        "truncated": sample.truncated,
        "sampling": shared["sampling"] | {"sample_index": own.index, "seed": own.seed},
        "prompt_tokens": sample.prompt_tokens,
        "completion_tokens": own.tokens + sample.completion_tokens,
        "seconds": own.seconds + sample.seconds,
        "engine_version": sample.engine_version,
        "verdict": None,
        "extracted_answer": None,
    }


def _grade(rows: Sequence[dict[str, Any]], rollouts: Sequence[Rollout]) -> None:
    """Fill in the verdicts of the rows that have a gold."""
    graded = [
        (row, own.origin.think[: own.prefix.end] + row["continuation"])
        for row, own in zip(rows, rollouts, strict=True)
        if row["answer"] is not None
    ]
    verdicts = grade_all(
        golds=[row["answer"] for row, _ in graded],
        completions=[completion for _, completion in graded],
        thinks=True,
    )
    for (row, _), verdict in zip(graded, verdicts, strict=True):
        row |= {"verdict": verdict.status, "extracted_answer": verdict.extracted_answer}


def summarise_rollouts(rows: pl.DataFrame) -> dict[str, Any]:
    """How many rollouts there are, and by decile of progress: their value and their length.

    `value`: the share of correct ones among those whose verdict says anything, which estimates the
    probability of success from there (MRT, paper 002, section 4); None without any. Rows in deciles
    of (0, 1], the first up to 10 %.
    """
    decided = pl.col("verdict").is_in(["correct", "wrong", "no_answer"])
    decile = (pl.col("progress") * DECILES).ceil().clip(1, DECILES).cast(pl.Int32)
    grouped = (
        rows.group_by(decile.alias("decile"))
        .agg(
            rollouts=pl.len(),
            decided=decided.sum(),
            correct=(pl.col("verdict") == "correct").sum(),
            mean_tokens=pl.col("completion_tokens").mean().round(1),
            truncated=pl.col("truncated").sum(),
        )
        .sort("decile")
    )
    by_decile = [
        row | {"value": row["correct"] / row["decided"] if row["decided"] else None}
        for row in grouped.to_dicts()
    ]
    return {
        "rollouts": rows.height,
        "completion_tokens": int(rows["completion_tokens"].sum()),
        "by_decile": by_decile,
    }
