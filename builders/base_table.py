"""The first stage of a build: a shard of source rows becomes base rows and rejects.

Pure: the same shard under the same settings gives the same tables, in any process.
"""

import json
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from progdata.builders.columns import Fields, RowRefused, read_fields
from progdata.builders.counter_proof import counters_agree
from progdata.builders.markers import DEFAULT, MarkerGrammar, holds_markers, holds_special_token
from progdata.builders.progress import Mode, Segmentation, percent, segment, segment_sum
from progdata.builders.prompts import PromptProfile, find_profile
from progdata.builders.schema import BASE, RAW_LIMIT, REJECTS, SPAN, problem_id, trace_id
from progdata.builders.segmenters import find_segmenter
from progdata.builders.shard_rows import Row, Shard, read_rows
from progdata.builders.thinking import Thinking, UnusualThinking, split_completion
from progdata.builders.tokenizer import Counter, load_counter

SAMPLE_FIRST = 16
SAMPLE_ONE_IN = 1_000
"""The sample on which counters and modes are compared: the first rows, and one in so many."""


WORKING = pa.schema(
    [
        pa.field("row", pa.int64()),  # the row's number in the input file
        pa.field("size", pa.int64()),  # characters of its problem and completion
        pa.field("byte_ends", pa.list_(pa.int32())),  # segment ends in UTF-8 bytes
    ]
)


class TokenizerMismatch(Exception):
    """The fast counter differs from the reference on a sampled trace, named by the message."""


@dataclass(frozen=True)
class SegmenterSettings:
    """Which segmenter, and all that can change its output (see `find_segmenter`)."""

    name: str = "newline"
    min_tokens: int = 1
    tokens: int | None = None
    model: str = "sat-3l"
    threshold: float = 0.5
    batch_size: int = 32
    device: str = "cpu"


@dataclass(frozen=True)
class BaseSettings:
    """All that determines the base table of a shard."""

    tokenizer_path: str | None = None
    fast: bool = False
    segmenter: SegmenterSettings = SegmenterSettings()
    progress: Mode = "joint"
    prompt_profile: PromptProfile = field(default_factory=lambda: find_profile("deepscaler"))
    grammar: MarkerGrammar = DEFAULT
    cut_traces: Literal["reject", "keep"] = "reject"
    marked_traces: Literal["reject", "escape"] = "reject"
    special_tokens: bool = False  # whether a variant uses them, so that texts must not


@dataclass(frozen=True)
class BaseShard:
    """What the stage made of a shard. `sample` says how its sampled rows compared."""

    base: pa.Table
    working: pa.Table  # for each base row what later stages of a build need: `WORKING`
    rejects: pa.Table
    rows_in: int
    rejected: dict[str, dict[str, int]]  # stage -> reason -> rows
    sample: dict[str, float] = field(default_factory=dict)


class _Trace(NamedTuple):
    row: int
    position: int  # among all rows of all sources, from 0
    trace_id: str
    problem_id: str
    fields: Fields
    thinking: Thinking


@dataclass
class _Refused:
    """Collects the rejects of a shard."""

    file: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self, row: int, stage: str, reason: str, detail: str, raw: str | None, **ids: str
    ) -> None:
        self.rows.append(
            {"stage": stage, "reason": reason, "detail": detail, "file": self.file, "row": row}
            | {"raw": raw[:RAW_LIMIT] if raw is not None else None}
            | ids
        )


def build_base(shard: Shard, settings: BaseSettings) -> BaseShard:
    """The base rows and the rejects of a shard.

    Raises TokenizerMismatch where the fast counter is wrong on a sampled row.
    """
    refused = _Refused(shard.file)
    rows_in = 0
    accepted: list[_Trace] = []
    for number, row, raw in read_rows(shard):
        position = shard.first_index + rows_in
        trace = _read_trace(position, number, row, raw, shard, settings, refused)
        rows_in += 1
        if trace is not None:
            accepted.append(trace)
    segments, sample = _measure(accepted, settings)
    traces, segments = _with_tokens(accepted, segments, refused)
    rejects = pa.Table.from_pylist(sorted(refused.rows, key=lambda own: own["row"]), REJECTS)
    base = _base_rows(traces, segments, shard, settings)
    working = pa.table(
        [
            [trace.row for trace in traces],
            [len(trace.fields.problem) + len(trace.fields.completion) for trace in traces],
            list_column(segments.counts, pa.array(segments.byte_ends, pa.int32())),
        ],
        schema=WORKING,
    )
    return BaseShard(base, working, rejects, rows_in, tally_rejects(rejects), sample)


def _measure(
    traces: Sequence[_Trace], settings: BaseSettings
) -> tuple[Segmentation, dict[str, float]]:
    """The segments of each trace with their tokens, and what the sampled ones show."""
    cut = asdict(settings.segmenter)
    min_tokens = cut.pop("min_tokens")
    thinks = [trace.thinking.think for trace in traces]
    counter = load_counter(settings.tokenizer_path, settings.fast)
    joint = segment(thinks, find_segmenter(**cut), counter, min_tokens=min_tokens)
    chosen = [i for i, trace in enumerate(traces) if _in_sample(trace)]
    sample = {}
    if chosen:
        texts = [thinks[i] for i in chosen]
        if settings.fast and settings.tokenizer_path is not None:
            _prove_equal(settings.tokenizer_path, texts, [traces[i].trace_id for i in chosen])
        sample = _differences(joint.select(chosen), texts, counter)
    if settings.progress == "segment-sum":
        return segment_sum(thinks, joint, counter), sample
    return joint, sample


def _in_sample(trace: _Trace) -> bool:
    return trace.position < SAMPLE_FIRST or int(trace.trace_id[:8], 16) % SAMPLE_ONE_IN == 0


def _prove_equal(path: str, texts: Sequence[str], trace_ids: Sequence[str]) -> None:
    for text, trace in zip(texts, trace_ids, strict=True):
        if not counters_agree(path, [text]):
            raise TokenizerMismatch(f"fastokens and tokenizers differ on trace {trace}")


def _differences(joint: Segmentation, texts: Sequence[str], counter: Counter) -> dict[str, float]:
    """How far labels by segment-sum are from joint ones, in points, as sums to be added up."""
    summed = segment_sum(texts, joint, counter)
    joint_labels = percent(joint.token_ends, np.repeat(joint.totals, joint.counts))
    summed_labels = percent(summed.token_ends, np.repeat(summed.totals, summed.counts))
    points = np.abs(joint_labels - summed_labels)
    return {
        "traces": len(texts),
        "labels": len(points),
        "labels_touched": int((points > 0).sum()),
        "points": int(points.sum()),
        "max_points": int(points.max(initial=0)),
        "joint_tokens": int(joint.totals.sum()),
        "segment_sum_tokens": int(summed.totals.sum()),
    }


def tally_rejects(rejects: pa.Table) -> dict[str, dict[str, int]]:
    """Rejects by stage and reason."""
    counts = Tally(zip(rejects["stage"].to_pylist(), rejects["reason"].to_pylist(), strict=True))
    tally: dict[str, dict[str, int]] = {}
    for (stage, reason), rows in sorted(counts.items()):
        tally.setdefault(stage, {})[reason] = rows
    return tally


def _read_trace(
    position: int,
    number: int,
    row: Row,
    raw: str | None,
    shard: Shard,
    settings: BaseSettings,
    refused: _Refused,
) -> _Trace | None:
    """A source row as a trace; None, with a reject, where it is none."""
    if isinstance(row, RowRefused):
        refused.add(number, "read", row.reason, row.detail, raw)
        return None
    try:
        fields = read_fields(row, shard.columns)
    except RowRefused as error:
        refused.add(number, "read", error.reason, error.detail, _as_text(row))
        return None
    ids = {
        "trace_id": trace_id(fields.problem, fields.completion, fields.model),
        "problem_id": problem_id(fields.problem),
    }
    try:
        thinking = _accepted_thinking(fields, settings)
    except RowRefused as error:
        refused.add(number, "think", error.reason, error.detail, _as_text(row), **ids)
        return None
    return _Trace(number, position, ids["trace_id"], ids["problem_id"], fields, thinking)


def _accepted_thinking(fields: Fields, settings: BaseSettings) -> Thinking:
    """The thinking of a trace that the policies accept. Raises RowRefused for any other."""
    completion = fields.completion
    if settings.marked_traces == "reject" and holds_markers(completion, settings.grammar):
        raise RowRefused("holds_markers", f"the completion holds {settings.grammar.opening}")
    if settings.special_tokens and holds_special_token(completion, settings.grammar):
        raise RowRefused("holds_progress_token", "the completion holds a special token's text")
    try:
        thinking = split_completion(completion)
    except UnusualThinking as error:
        raise RowRefused(str(error), "expected one <think> ... </think>") from error
    if not thinking.closed and settings.cut_traces == "reject":
        raise RowRefused("think_not_closed", "no </think>: cut off, so its progress is unknown")
    if not thinking.think.strip():
        raise RowRefused("empty_thinking", "nothing stands between <think> and </think>")
    return thinking


def _with_tokens(
    traces: list[_Trace], segments: Segmentation, refused: _Refused
) -> tuple[list[_Trace], Segmentation]:
    """The traces whose thinking has a token; the others are refused."""
    kept = []
    for trace, count in zip(traces, segments.counts.tolist(), strict=True):
        if count:
            kept.append(trace)
        else:
            ids = {"trace_id": trace.trace_id, "problem_id": trace.problem_id}
            detail = "the tokenizer finds no token in the thinking"
            raw = _as_text(trace.fields._asdict())
            refused.add(trace.row, "progress", "no_thinking_tokens", detail, raw, **ids)
    return kept, replace(segments, counts=segments.counts[segments.counts > 0])


def _base_rows(
    traces: Sequence[_Trace], segments: Segmentation, shard: Shard, settings: BaseSettings
) -> pa.Table:
    """The base table of these traces; their split is not known yet."""
    fields = [trace.fields for trace in traces]
    thinking = [trace.thinking for trace in traces]
    rows = len(traces)
    columns = {
        "trace_id": [trace.trace_id for trace in traces],
        "problem_id": [trace.problem_id for trace in traces],
        "source": [own.source or shard.source for own in fields],
        "problem": [own.problem for own in fields],
        "answer": [own.answer for own in fields],
        "prompt_profile": [settings.prompt_profile.name] * rows,
        "think_opening": [parts.opening for parts in thinking],
        "think_prefilled": [parts.prefilled for parts in thinking],
        "think_closed": [parts.closed for parts in thinking],
        "finish_reason": [own.finish_reason for own in fields],
        "model": [own.model for own in fields],
        "sampling": [own.sampling for own in fields],
        "num_tokens": segments.totals,
        "verdict": [None] * rows,
        "extracted_answer": [None] * rows,
        "pass_rate": [None] * rows,
        "split": [None] * rows,
        "think": [parts.think for parts in thinking],
        "response": [parts.response for parts in thinking],
        "segments": list_column(segments.counts, spans(segments.counts, segments.ends)),
        "token_ends": list_column(segments.counts, pa.array(segments.token_ends, pa.int32())),
    }
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, type=kind.type)
        for column, kind in zip(columns.values(), BASE, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=BASE)


def spans(counts: NDArray[np.int64], ends: NDArray[np.int64]) -> pa.Array:
    """Segments that tile their texts and end here, as an array of SPAN."""
    starts = np.append(0, ends)[:-1]
    starts[(np.cumsum(counts) - counts)[counts > 0]] = 0
    arrays = [pa.array(starts, pa.int32()), pa.array(ends, pa.int32())]
    return pa.StructArray.from_arrays(arrays, fields=list(SPAN))


def list_column(counts: NDArray[np.int64], values: pa.Array) -> pa.Array:
    """Flat values as a list column with `counts[i]` of them in row i."""
    offsets = pa.array(np.append(0, np.cumsum(counts)), pa.int32())
    return pa.ListArray.from_arrays(offsets, values)


def _as_text(row: Mapping[str, Any]) -> str:
    """A refused row as JSON; what JSON cannot hold is written as Python shows it."""
    return json.dumps(row, ensure_ascii=True, default=repr)
