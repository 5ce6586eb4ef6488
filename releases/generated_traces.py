"""The table of generated traces: one row a sample, in the order of the problems."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from progdata.builders.atomic import atomic_file
from progdata.builders.sampling import Sample
from progdata.builders.schema import SAMPLING, trace_id
from progdata.builders.thinking import CLOSE
from progdata.releases.asked_problems import AskedProblem
from progdata.verifiers.grading import grade_all

GENERATED = pa.schema(
    [
        pa.field("trace_id", pa.string(), nullable=False),
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("problem", pa.string(), nullable=False),
        pa.field("answer", pa.string()),
        pa.field("prompt_profile", pa.string(), nullable=False),
        pa.field("completion", pa.string(), nullable=False),
        pa.field("think_prefilled", pa.bool_()),  # by the template; null where a server has it
        pa.field("think_closed", pa.bool_(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),  # by a limit of tokens
        pa.field("model", pa.string(), nullable=False),
        pa.field("model_revision", pa.string(), nullable=False),
        pa.field("sampling", SAMPLING, nullable=False),
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("completion_tokens", pa.int32(), nullable=False),
        pa.field("seconds", pa.float32(), nullable=False),  # in the engine, queue and all
        pa.field("tokens_per_second", pa.float32(), nullable=False),
        pa.field("engine", pa.string(), nullable=False),
        pa.field("engine_version", pa.string(), nullable=False),
        pa.field("template_sha256", pa.string()),
        pa.field("verdict", pa.string()),
        pa.field("extracted_answer", pa.string()),
    ]
)
"""The table that `generate` writes; it is itself a source."""

BLOCK = 1_000
"""Rows that are graded and written at a time."""


@dataclass(frozen=True, slots=True)
class GeneratedTrace:
    """A sample of a problem."""

    problem: AskedProblem
    sample: Sample
    index: int
    seed: int


@dataclass
class Totals:
    """Sums over the traces that were written."""

    samples: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    truncated: int = 0
    think_closed: int = 0
    engine_versions: set[str] = field(default_factory=set)

    def add(self, sample: Sample) -> None:
        self.samples += 1
        self.prompt_tokens += sample.prompt_tokens
        self.completion_tokens += sample.completion_tokens
        self.truncated += sample.truncated
        self.think_closed += CLOSE in sample.text
        self.engine_versions.add(sample.engine_version)


def write_traces(
    path: Path, traces: Iterator[GeneratedTrace], shared: dict[str, Any], *, verify: bool
) -> tuple[Totals, dict[str, int]]:
    """Write traces as GENERATED; their totals, and how many have each verdict.

    `shared` are the columns that all rows have in common; in its `sampling` the sample's own index
    and seed are filled in. Where `verify`, rows with a gold are graded.
    """
    totals, verdicts = Totals(), dict[str, int]()
    with (
        atomic_file(path) as temporary,
        pq.ParquetWriter(
            temporary, GENERATED, compression="zstd", write_page_checksum=True
        ) as writer,
    ):
        while block := list(islice(traces, BLOCK)):
            rows = [_row(trace, shared) for trace in block]
            if verify:
                _grade(rows)
            for trace, row in zip(block, rows, strict=True):
                totals.add(trace.sample)
                if row["verdict"] is not None:
                    verdicts[row["verdict"]] = verdicts.get(row["verdict"], 0) + 1
            writer.write_table(pa.Table.from_pylist(rows, GENERATED))
    return totals, dict(sorted(verdicts.items()))


def _row(trace: GeneratedTrace, shared: dict[str, Any]) -> dict[str, Any]:
    problem, sample = trace.problem, trace.sample
    completion = sample.text.encode("utf-8", "replace").decode()  # a server may send half a pair
    return shared | {
        "trace_id": trace_id(problem.problem, completion, shared["model"]),
        "problem_id": problem.problem_id,
        "source": problem.source,
        "problem": problem.problem,
        "answer": problem.answer,
        "completion": completion,
        "think_closed": CLOSE in completion,
        "finish_reason": sample.finish_reason,
        "truncated": sample.truncated,
        "sampling": shared["sampling"] | {"sample_index": trace.index, "seed": trace.seed},
        "prompt_tokens": sample.prompt_tokens,
        "completion_tokens": sample.completion_tokens,
        "seconds": sample.seconds,
        "tokens_per_second": sample.completion_tokens / max(sample.seconds, 1e-6),
        "engine_version": sample.engine_version,
        "verdict": None,
        "extracted_answer": None,
    }


def _grade(rows: Sequence[dict[str, Any]]) -> None:
    """Fill in the verdicts of the rows that have a gold."""
    graded = [row for row in rows if row["answer"] is not None]
    verdicts = grade_all(
        golds=[row["answer"] for row in graded],
        completions=[row["completion"] for row in graded],
        thinks=True,
    )
    for row, verdict in zip(graded, verdicts, strict=True):
        row |= {"verdict": verdict.status, "extracted_answer": verdict.extracted_answer}
