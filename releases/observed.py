"""What `progdata curate` reads of graded traces: what is measured, and their problems."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from progdata.builders.thinking import CLOSE, OPEN
from progdata.builders.tokenizer import Counter
from progdata.verifiers.answers import find_answer, response_start
from progdata.verifiers.difficulty import TRACES, find_cut

_READ = [
    "trace_id", "problem_id", "file", "row", "source", "model", "problem", "answer", "completion",
    "finish_reason", "verdict", "extracted_answer",
]  # fmt: skip

_OWN = pl.Schema(
    {
        "trace_id": pl.String,
        "file": pl.Categorical(),
        "place": pl.Int64,  # the row in its file, from 1
        "answer": pl.String,  # what the trace answers, null where it does not
    }
)


@dataclass(frozen=True)
class Observed:
    """The traces of a source, and its problems.

    `traces`: `row` (counted over all from 0), `trace_id`, `file`, `place`, `answer`, and the
    columns of `difficulty.TRACES`; `problems`: of each `problem_id` the `problem` and its `answer`,
    the gold of most of its rows (of equals the first by its text), null where none has one.
    """

    traces: pl.DataFrame
    problems: pl.DataFrame


def observe(path: Path, counter: Counter) -> Observed:
    """Read a Parquet table of graded traces (`verified.VERIFIED`), a row group at a time."""
    traces = [pl.DataFrame(schema=_OWN | TRACES)]
    texts = [pl.DataFrame(schema=dict.fromkeys(("problem_id", "problem", "answer"), pl.String))]
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = pl.DataFrame(file.read_row_group(group, columns=_READ))
            traces.append(_measured(rows, counter))
            texts.append(rows.select("problem_id", "problem", "answer"))
    return Observed(pl.concat(traces).with_row_index("row"), _problems(pl.concat(texts)))


def _measured(rows: pl.DataFrame, counter: Counter) -> pl.DataFrame:
    """The columns of `Observed.traces` but for `row`."""
    completions = rows["completion"].to_list()
    said = map(answer_of, completions, rows["extracted_answer"].to_list())
    tokens = counter.starts([thinking_of(text) for text in completions]).per_text()
    problem_tokens = counter.starts(rows["problem"].to_list()).per_text()
    closed = pl.col("completion").str.contains(CLOSE, literal=True)
    return rows.with_columns(
        place="row",
        answer=pl.Series(said, dtype=pl.String, strict=True),
        cut=find_cut(closed, pl.col("finish_reason")),
        tokens=pl.Series(tokens),
        problem_tokens=pl.Series(problem_tokens),
    ).select(pl.col(name).cast(kind) for name, kind in (_OWN | TRACES).items())


def thinking_of(completion: str) -> str:
    """The thinking of a completion: before its last `</think>`, and after a leading `<think>`.

    >>> thinking_of("<think>a</think>b"), thinking_of("cut off")
    ('a', 'cut off')
    """
    before, closed, rest = completion.rpartition(CLOSE)
    text = before if closed else rest
    before, opened, think = text.partition(OPEN)
    return think if opened and not before.strip() else text


def answer_of(completion: str, extracted: str | None) -> str | None:
    """What a trace answers: its box as LaTeX, or else what the grader found; None if it is cut."""
    start = response_start(completion, thinks=True)
    boxed = find_answer(completion, start) if start is not None else None
    return boxed.latex if boxed else extracted


def _problems(texts: pl.DataFrame) -> pl.DataFrame:
    """Each problem with its text (the first in order, where white space differs) and its gold."""
    golds = texts.drop_nulls("answer").group_by("problem_id", "answer").agg(rows=pl.len())
    golds = golds.sort("problem_id", "rows", "answer", descending=[False, True, False])
    first = golds.unique("problem_id", keep="first", maintain_order=True).drop("rows")
    problems = texts.group_by("problem_id").agg(pl.col("problem").min())
    return problems.join(first, on="problem_id", how="left").sort("problem_id")
