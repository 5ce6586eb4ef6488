"""Variants: how labels are made from progress, shown and hidden (paper 000, sections 5.1 and 6).

Three independent axes: label noise (`sigma`), token style (`special`), and mask. The paper leaves
sigma, the clipping and the rounding of a noisy label open; the defaults here are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from progdata.builders.base_table import list_column
from progdata.builders.errors import UsageError
from progdata.builders.markers import MarkerGrammar, escape, escape_offsets
from progdata.builders.nearest import did_you_mean
from progdata.builders.progress import ROUNDINGS, Rounding, Segmentation
from progdata.builders.prompts import user_message
from progdata.builders.randomness import normals, row_keys, uniforms
from progdata.builders.schema import MESSAGES, SPAN, TRACE_FIELDS, VARIANT
from progdata.builders.thinking import CLOSE

SIGMA = 0.05
"""Default standard deviation of label noise, as a share of the trace (ours)."""

MASK_MAX = 0.5
"""The masking probability at the end of the cosine ramp (paper 000, section 6.2)."""


@dataclass(frozen=True)
class Variant:
    """One way to label: `sigma` 0 is no noise, `mask_max` 0 no mask."""

    name: str
    sigma: float = 0.0
    clip: bool = True
    special: bool = False
    mask_max: float = 0.0


PRESETS = {
    variant.name: variant
    for variant in (
        Variant("clean"),
        Variant("noisy", sigma=SIGMA),
        Variant("masked", mask_max=MASK_MAX),
        Variant("special", special=True),
        Variant("masked-special", special=True, mask_max=MASK_MAX),
    )
}


def find_preset(name: str) -> Variant:
    """The preset called `name`. Raises UsageError, with the nearest name, for an unknown one."""
    if name not in PRESETS:
        hint = did_you_mean(name, [*PRESETS, "all"])
        raise UsageError(
            f"unknown variant {name!r}{hint}; choose from {', '.join(PRESETS)}, or all"
        )
    return PRESETS[name]


@dataclass(frozen=True)
class MarkedRows:
    """Base rows of one split, ready to be marked: what all variants share.

    `pieces[i]`: the text before each marker of row i; `heads` and `tails`: the text before and
    after its thinking; `positions` and `split_rows` place the rows in their split.
    """

    base: pa.Table
    grammar: MarkerGrammar
    heads: list[str]
    pieces: list[list[str]]
    tails: list[str]
    segments: Segmentation  # of the text as it is published, without those of cut traces
    positions: NDArray[np.int64]
    split_rows: int
    split: str


def prepare_rows(
    base: pa.Table,
    *,
    grammar: MarkerGrammar,
    split: str,
    first_position: int,
    split_rows: int,
) -> MarkedRows:
    """Cut the thinking of base rows at their segments.

    A trace that was cut off gets no markers: what share of it is written is unknown.
    """
    thinks, tails, heads = (
        base[name].to_pylist() for name in ("think", "response", "think_opening")
    )
    closed = base["think_closed"].to_pylist()
    segments = _segments_of(base)
    segments = _without_cut(segments, np.array(closed, dtype=bool))
    if grammar.escaped:
        segments = _shift_escaped(thinks, segments, grammar)
        thinks = [escape(text, grammar) for text in thinks]
        tails = [escape(text, grammar) for text in tails]
    pieces = _cut(thinks, segments)
    tails = [
        CLOSE + tail if done else think + tail
        for think, tail, done in zip(thinks, tails, closed, strict=True)
    ]
    positions = first_position + np.arange(base.num_rows)
    return MarkedRows(base, grammar, heads, pieces, tails, segments, positions, split_rows, split)


def mark(rows: MarkedRows, variant: Variant, *, seed: int, rounding: Rounding) -> pa.Table:
    """The variant table of these rows."""
    segments, counts = rows.segments, rows.segments.counts
    trace_ids = rows.base["trace_id"].to_pylist()
    labels = make_labels(trace_ids, segments, variant, seed, rounding)
    grammar = replace_style(rows.grammar, variant.special)
    shown, which = np.unique(labels, return_inverse=True)
    markers = [grammar.render(int(label)) for label in shown]
    texts = np.array(markers, dtype=object)[which].tolist() if len(shown) else []
    completion = _interleave(rows, texts)
    sizes = np.array([len(marker) for marker in markers], dtype=np.int64)[which]
    spans = _label_spans(rows, sizes, grammar)
    progress = segments.token_ends / np.repeat(segments.totals, counts)
    masked = draw_mask(trace_ids, counts, rows.positions, rows.split_rows, variant, seed)
    columns = {
        **{name: rows.base[name] for name in (own.name for own in TRACE_FIELDS)},
        "split": pa.array([rows.split] * len(counts), pa.string()),
        "prompt": _prompts(rows.base),
        "completion": pa.array(completion, pa.string()),
        "progress": list_column(counts, pa.array(progress.astype(np.float32))),
        "labels": list_column(counts, pa.array(labels, pa.int32())),
        "label_spans": list_column(counts, spans),
        "masked": list_column(counts, pa.array(masked)),
    }
    return pa.table([columns[name] for name in VARIANT.names], schema=VARIANT)


def make_labels(
    trace_ids: Sequence[str],
    segments: Segmentation,
    variant: Variant,
    seed: int,
    rounding: Rounding,
) -> NDArray[np.int64]:
    """The label of each segment, in whole percents: int64[segments].

    Without noise it is the rounded progress, in exact arithmetic. With noise it is
    round(100 * (progress + N(0, sigma))), clipped to 0..100 where the variant says so.
    """
    totals = np.repeat(segments.totals, segments.counts)
    if not variant.sigma:
        return ROUNDINGS[rounding](segments.token_ends, totals)
    noise = normals(row_keys(seed, trace_ids, f"{variant.name}/noise"), segments.counts)
    noisy = np.rint(100.0 * (segments.token_ends / totals + variant.sigma * noise))
    return (np.clip(noisy, 0, 100) if variant.clip else noisy).astype(np.int64)


def mask_probability(positions: NDArray[np.int64], rows: int, mask_max: float) -> NDArray:
    """The cosine ramp 0 -> mask_max over the rows of a split: float64[rows] (section 6.2)."""
    share = positions / max(rows - 1, 1)
    return mask_max * (1.0 - np.cos(np.pi * share)) / 2.0


def draw_mask(
    trace_ids: Sequence[str],
    counts: NDArray[np.int64],
    positions: NDArray[np.int64],
    split_rows: int,
    variant: Variant,
    seed: int,
) -> NDArray[np.bool_]:
    """Which markers later positions may not see: bool[segments].

    Each of a row's `counts[i]` markers is masked with the probability that the ramp has at the
    row's position in its split.
    """
    if not variant.mask_max:
        return np.zeros(int(counts.sum()), dtype=bool)
    draws = uniforms(row_keys(seed, trace_ids, f"{variant.name}/mask"), counts)
    ramp = mask_probability(positions, split_rows, variant.mask_max)
    return draws < np.repeat(ramp, counts)


def replace_style(grammar: MarkerGrammar, special: bool) -> MarkerGrammar:
    """The grammar with its labels as special tokens, or as plain text."""
    return MarkerGrammar(grammar.tag, grammar.format, special, grammar.escaped)


def _segments_of(base: pa.Table) -> Segmentation:
    """The segments that a base table stores."""
    segments = base["segments"].combine_chunks()
    tokens = base["token_ends"].combine_chunks()
    counts = np.diff(segments.offsets.to_numpy()).astype(np.int64)
    ends = segments.flatten().field("end").to_numpy().astype(np.int64)
    return Segmentation(counts, ends, tokens.flatten().to_numpy().astype(np.int64))


def _without_cut(segments: Segmentation, closed: NDArray[np.bool_]) -> Segmentation:
    if closed.all():
        return segments
    keep = np.repeat(closed, segments.counts)
    counts = np.where(closed, segments.counts, 0)
    return Segmentation(counts, segments.ends[keep], segments.token_ends[keep])


def _shift_escaped(
    thinks: Sequence[str], segments: Segmentation, grammar: MarkerGrammar
) -> Segmentation:
    """The segments' ends in the escaped text."""
    edges = np.append(0, np.cumsum(segments.counts))
    ends = segments.ends.copy()
    for index, text in enumerate(thinks):
        own = slice(edges[index], edges[index + 1])
        ends[own] += np.searchsorted(escape_offsets(text, grammar), segments.ends[own])
    return Segmentation(segments.counts, ends, segments.token_ends)


def _cut(thinks: Sequence[str], segments: Segmentation) -> list[list[str]]:
    """The text of each segment."""
    ends = segments.ends.tolist()
    starts = [0, *ends[:-1]]
    pieces, first = [], 0
    for text, count in zip(thinks, segments.counts.tolist(), strict=True):
        last = first + count
        if count:
            starts[first] = 0
        pieces.append(
            [text[a:b] for a, b in zip(starts[first:last], ends[first:last], strict=True)]
        )
        first = last
    return pieces


def _interleave(rows: MarkedRows, markers: list[str]) -> list[str]:
    """Each row's text with its markers."""
    texts, first = [], 0
    for head, pieces, tail in zip(rows.heads, rows.pieces, rows.tails, strict=True):
        last = first + len(pieces)
        parts = [""] * (2 * len(pieces))
        parts[0::2] = pieces
        parts[1::2] = markers[first:last]
        texts.append(f"{head}{''.join(parts)}{tail}")
        first = last
    return texts


def _label_spans(
    rows: MarkedRows, sizes: NDArray[np.int64], grammar: MarkerGrammar
) -> pa.StructArray:
    """Where the text inside each marker's tags stands in the completion, as SPAN."""
    counts = rows.segments.counts
    running = np.cumsum(sizes)
    before_row = np.append(0, running)[np.cumsum(counts) - counts]
    heads = np.fromiter(map(len, rows.heads), dtype=np.int64, count=len(counts))
    marker_ends = rows.segments.ends + running + np.repeat(heads - before_row, counts)
    starts = pa.array(marker_ends - sizes + len(grammar.opening), pa.int32())
    ends = pa.array(marker_ends - len(grammar.closing), pa.int32())
    return pa.StructArray.from_arrays([starts, ends], fields=list(SPAN))


def _prompts(base: pa.Table) -> pa.ListArray:
    """One user message a row, as its prompt profile writes it."""
    asked = [
        user_message(profile, problem)
        for profile, problem in zip(
            base["prompt_profile"].to_pylist(), base["problem"].to_pylist(), strict=True
        )
    ]
    roles = pa.array(["user"] * len(asked), pa.string())
    turns = pa.StructArray.from_arrays(
        [roles, pa.array(asked, pa.string())], names=["role", "content"]
    )
    offsets = pa.array(range(len(asked) + 1), pa.int32())
    return pa.ListArray.from_arrays(offsets, turns).cast(MESSAGES)
