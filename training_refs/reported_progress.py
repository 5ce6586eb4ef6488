"""What traces report of their own progress: every marker with its label, and the truth there.

The truth at a marker is the share of the thinking's tokens that stand before it (paper 000,
equation 2). It is known only where the thinking is finished, with one `</think>`.
"""

from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
import polars as pl

from progdata.builders.columns import Fields, RowRefused, read_fields
from progdata.builders.markers import MarkerGrammar, cut_markers, find_markers, strip, unmark
from progdata.builders.progress import count_joint
from progdata.builders.schema import problem_id, trace_id
from progdata.builders.shard_rows import read_rows
from progdata.builders.sources import Source, read_shards
from progdata.builders.thinking import UnusualThinking, split_completion
from progdata.builders.tokenizer import Counter
from progdata.releases.display import Display, Silent
from progdata.verifiers.grading import grade_all
from progdata.verifiers.verdicts import STATUSES, GraderName

BLOCK = 500
"""Traces that are counted and graded at a time."""

UNFINISHED, EMPTY = "no </think>", "empty_thinking"

TRACES = pl.Schema(
    {
        "trace": pl.Int64,  # counted from 0 over all readable rows
        "trace_id": pl.String,
        "problem_id": pl.String,
        "model": pl.String,
        "file": pl.String,
        "row": pl.Int64,  # in its file, from 1
        "finish_reason": pl.String,
        "verdict": pl.Enum(STATUSES),  # null where there is no gold, or nothing was graded
        "no_truth": pl.String,  # why it has no truth, null where it has
        "tokens": pl.Int64,  # of the whole thinking; null where it is left out
        "markers": pl.Int64,  # inside the thinking; all of them where it is left out
        "outside": pl.Int64,  # markers after `</think>`
        "malformed": pl.Int64,  # tags without a label that can be read
    }
)
"""One row a readable trace."""

MARKERS = pl.Schema(
    {
        "trace": pl.Int64,
        "label": pl.Int64,
        "end": pl.Int64,  # characters of the thinking without markers that stand before it
        "left": pl.Int64,  # and behind it
        "tokens": pl.Int64,  # tokens of the thinking before it
        "total": pl.Int64,  # of the whole thinking, at least 1
    }
)
"""One row a marker inside a finished thinking, in the order of the traces and their text."""


class ThinkingText(NamedTuple):
    """The thinking of a finished trace without markers, and where in it (characters) they stood."""

    problem: str
    opening: str
    think: str
    ends: list[int]


@dataclass(frozen=True)
class Reported:
    """Traces and their markers (TRACES, MARKERS); `unreadable` rows by reason; `texts` of the
    finished traces with markers by their number, where they were asked for."""

    traces: pl.DataFrame
    markers: pl.DataFrame
    unreadable: dict[str, int]
    texts: dict[int, ThinkingText]


_Row = tuple[str, int, Fields]
"""A readable row: its file, its number there, what it holds."""


@dataclass(frozen=True)
class _Parsed:
    """A completion, taken apart. `counted` is the text whose tokens count and `at` where in it
    the markers stand: the thinking without markers, or with them. `unplaced`: markers of one that
    cannot be split."""

    no_truth: str | None
    opening: str = ""
    think: str = ""
    labels: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    counted: str = ""
    at: list[int] = field(default_factory=list)
    unplaced: int = 0
    outside: int = 0
    malformed: int = 0


def read_reported(
    source: Source,
    counter: Counter,
    grammar: MarkerGrammar,
    *,
    count_markers: bool = False,
    grader: GraderName | None = None,
    workers: int | None = None,
    limit: int | None = None,
    keep_texts: bool = False,
    display: Display | None = None,
) -> Reported:
    """Read the traces of a source and their markers; with `grader`, grade those with a gold.

    `count_markers`: the tokens of markers count as tokens of the thinking. Raises ProgdataError
    where the source cannot be read.
    """
    unreadable: Tally[str] = Tally()
    traces, markers = [pl.DataFrame(schema=TRACES)], [pl.DataFrame(schema=MARKERS)]
    texts: dict[int, ThinkingText] = {}
    rows = _read(source, limit, unreadable, display or Silent())
    first = 0
    while block := list(islice(rows, BLOCK)):
        parsed = [_parse(own.completion, grammar, count_markers) for _, _, own in block]
        described, found = _count(parsed, counter, first)
        statuses = _grade([own for _, _, own in block], grammar, grader, workers)
        traces.append(_with_rows(described, block, statuses))
        markers.append(found)
        if keep_texts:
            scored = found["trace"].unique(maintain_order=True).to_list()
            texts |= _texts(block, parsed, scored, first)
        first += len(block)
    return Reported(pl.concat(traces), pl.concat(markers), dict(sorted(unreadable.items())), texts)


def read_lengths(
    source: Source, counter: Counter, grammar: MarkerGrammar, *, count_markers: bool = False
) -> pl.Series:
    """Tokens of the thinking of every finished trace of a source: int64[traces]."""
    found = read_reported(source, counter, grammar, count_markers=count_markers)
    return found.traces["tokens"].drop_nulls()


def _parse(completion: str, grammar: MarkerGrammar, count_markers: bool) -> _Parsed:
    """The markers of a completion, and its thinking without them."""
    malformed = count_malformed(completion, grammar)
    try:
        own = split_completion(completion)
    except UnusualThinking as unusual:
        unplaced = len(find_markers(completion, grammar))
        return _Parsed(no_truth=str(unusual), unplaced=unplaced, malformed=malformed)
    plain = unmark(own.think, grammar)
    return _Parsed(
        no_truth=None if own.closed else UNFINISHED,
        opening=own.opening,
        think=plain.text,
        labels=[marker.label for marker in plain.markers],
        ends=plain.ends,
        counted=own.think if count_markers else plain.text,
        at=[marker.start for marker in plain.markers] if count_markers else plain.ends,
        outside=len(find_markers(own.response, grammar)),
        malformed=malformed,
    )


def count_malformed(text: str, grammar: MarkerGrammar) -> int:
    """Tags that are no part of a marker: an opening tag with the closing one that follows it, if
    any, counts once, and so does a closing tag without one.

    >>> count_malformed("<progressbar>?</progressbar><progressbar>", MarkerGrammar())
    2
    """
    found = 0
    markers = find_markers(text, grammar)
    for piece in cut_markers(text, [m.start for m in markers], [m.end for m in markers]):
        opened, *others = piece.split(grammar.opening)
        found += opened.count(grammar.closing) + len(others)
        found += sum(max(own.count(grammar.closing) - 1, 0) for own in others)
    return found


def _read(
    source: Source, limit: int | None, unreadable: Tally[str], display: Display
) -> Iterator[_Row]:
    """Each readable row; the reasons of the others are counted."""
    display.stage("reading the traces")
    rows = 0
    for shard in read_shards([source], limit=limit):
        for number, row, _ in read_rows(shard):
            rows += 1
            try:
                if isinstance(row, RowRefused):
                    raise row
                yield shard.file, number, read_fields(row, shard.columns)
            except RowRefused as refused:
                unreadable[refused.reason] += 1
        display.say(shard.share, f"{rows:,} rows")


def _count(
    parsed: Sequence[_Parsed], counter: Counter, first: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What is known of each trace without its row (columns of TRACES), and the MARKERS."""
    texts = [own.counted for own in parsed]
    starts = counter.starts(texts)
    found = count_joint(texts, [own.at for own in parsed], starts)
    traces = pl.DataFrame(
        {
            "trace": range(first, first + len(parsed)),
            "no_truth": pl.Series([own.no_truth for own in parsed], dtype=pl.String),
            "tokens": starts.per_text(),
            "markers": [len(own.labels) + own.unplaced for own in parsed],
            "outside": [own.outside for own in parsed],
            "malformed": [own.malformed for own in parsed],
        }
    ).with_columns(
        no_truth=pl.when(pl.col("no_truth").is_null() & (pl.col("tokens") == 0))
        .then(pl.lit(EMPTY))
        .otherwise("no_truth")
    )
    kept = pl.col("no_truth").is_null()
    markers = pl.DataFrame(
        {
            "trace": np.repeat(np.arange(first, first + len(parsed)), found.counts),
            "label": pl.Series([i for own in parsed for i in own.labels], dtype=pl.Int64),
            "end": pl.Series([i for own in parsed for i in own.ends], dtype=pl.Int64),
            "left": pl.Series(
                [len(own.think) - i for own in parsed for i in own.ends], dtype=pl.Int64
            ),
            "tokens": found.token_ends,
        }
    )
    finished = traces.filter(kept).select("trace", total="tokens")
    markers = markers.join(finished, on="trace", how="inner", maintain_order="left")
    traces = traces.with_columns(tokens=pl.when(kept).then("tokens"))
    return traces, markers.select(pl.col(name).cast(kind) for name, kind in MARKERS.items())


def _with_rows(
    traces: pl.DataFrame, block: Sequence[_Row], statuses: Sequence[str | None]
) -> pl.DataFrame:
    """The columns of TRACES: what is known of the traces, with the rows that they are."""
    rows = [
        {
            "trace_id": trace_id(own.problem, own.completion, own.model),
            "problem_id": problem_id(own.problem),
            "model": own.model,
            "file": file,
            "row": row,
            "finish_reason": own.finish_reason,
            "verdict": status,
        }
        for (file, row, own), status in zip(block, statuses, strict=True)
    ]
    schema = {name: TRACES[name] for name in rows[0]}
    both = pl.concat([traces, pl.DataFrame(rows, schema=schema)], how="horizontal")
    return both.select(pl.col(name).cast(kind) for name, kind in TRACES.items())


def _texts(
    block: Sequence[_Row], parsed: Sequence[_Parsed], traces: Sequence[int], first: int
) -> dict[int, ThinkingText]:
    """The texts of some traces of a block, by their number."""
    found = {}
    for trace in traces:
        _, _, fields = block[trace - first]
        own = parsed[trace - first]
        found[trace] = ThinkingText(fields.problem, own.opening, own.think, own.ends)
    return found


def _grade(
    block: Sequence[Fields], grammar: MarkerGrammar, grader: GraderName | None, workers: int | None
) -> list[str | None]:
    """The verdict of each trace, None where it has no gold."""
    graded = [own for own in block if own.answer is not None] if grader else []
    verdicts = iter(
        grade_all(
            golds=[str(own.answer) for own in graded],
            completions=[strip(own.completion, grammar) for own in graded],
            grader=grader or "math-verify",
            workers=workers,
            thinks=True,
        )
    )
    return [next(verdicts).status if grader and own.answer is not None else None for own in block]
