"""Variants: how labels are made from progress, shown and hidden (paper 000, sections 5.1 and 6).

Three independent axes: label noise (`sigma`), token style (`special`), and mask. The paper leaves
sigma, the clipping and the rounding of a noisy label open; the defaults here are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from progdata.builders.base_table import list_column
from progdata.builders.errors import UsageError
from progdata.builders.markers import MarkerGrammar, escape, escape_offsets
from progdata.builders.nearest import did_you_mean
from progdata.builders.progress import ROUNDINGS, Rounding
from progdata.builders.prompts import PromptProfile
from progdata.builders.randomness import normals, row_keys, uniforms
from progdata.builders.schema import MESSAGES, SPAN, TRACE_FIELDS, VARIANT
from progdata.builders.thinking import CLOSE
from progdata.builders.utf8 import Utf8Texts, characters_before, utf8_texts

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

    `plain`: the completions without markers. For each marker, over all rows: `at`, the byte of
    `plain` where it goes; `characters`, the same in characters of its own row; `token_ends` and
    `totals`, the tokens of the thinking up to there and in all. `counts`: markers of each row;
    `positions`: each row's place among the `split_rows` rows of its split.
    """

    base: pa.Table
    grammar: MarkerGrammar
    plain: Utf8Texts
    counts: NDArray[np.int64]
    at: NDArray[np.int64]
    characters: NDArray[np.int64]
    token_ends: NDArray[np.int64]
    totals: NDArray[np.int64]
    positions: NDArray[np.int64]
    split_rows: int
    split: str

    @cached_property
    def pieces(self) -> list[bytes]:
        """`plain` cut at every marker; one piece more than there are markers."""
        cuts = [0, *self.at.tolist(), len(self.plain.data)]
        return [self.plain.data[a:b] for a, b in pairwise(cuts)]


def prepare_rows(
    base: pa.Table,
    byte_ends: NDArray[np.int64],
    *,
    grammar: MarkerGrammar,
    split: str,
    first_position: int,
    split_rows: int,
) -> MarkedRows:
    """Find where the markers of base rows go.

    `byte_ends`: the end of each segment in bytes of its thinking, int64[segments]. A trace that
    was cut off gets no markers: what share of it is written is unknown.
    """
    counts, ends, token_ends = _stored_segments(base)
    if grammar.escaped:
        base, ends, byte_ends = _escape_texts(base, counts, ends, byte_ends, grammar)
    closed = base["think_closed"].to_numpy()
    shown = np.repeat(closed, counts)
    counts = np.where(closed, counts, 0)
    plain = _completions(base)
    heads = utf8_texts(base["think_opening"])
    starts = plain.offsets[:-1] + np.diff(heads.offsets)
    characters = np.diff(characters_before(heads.data, heads.offsets))
    totals = base["num_tokens"].to_numpy().astype(np.int64)
    return MarkedRows(
        base,
        grammar,
        plain,
        counts,
        at=byte_ends[shown] + np.repeat(starts, counts),
        characters=ends[shown] + np.repeat(characters, counts),
        token_ends=token_ends[shown],
        totals=np.repeat(totals, counts),
        positions=first_position + np.arange(base.num_rows),
        split_rows=split_rows,
        split=split,
    )


@dataclass(frozen=True)
class MarkedText:
    """The texts of some rows with their markers, and where the labels stand in them."""

    completion: pa.Array
    label_spans: pa.ListArray


def mark_text(rows: MarkedRows, labels: NDArray[np.int64], grammar: MarkerGrammar) -> MarkedText:
    """Insert the marker of each label after its segment."""
    lowest, highest = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    rendered = [grammar.render(label) for label in range(lowest, highest + 1)]
    which = labels - lowest
    encoded = [marker.encode() for marker in rendered]
    parts = [b""] * (2 * len(labels) + 1)
    parts[0::2] = rows.pieces
    parts[1::2] = [encoded[index] for index in which.tolist()]
    row_ends = np.append(0, np.cumsum(rows.counts))
    added = np.append(0, np.cumsum(np.array([len(marker) for marker in encoded])[which]))
    texts = Utf8Texts(b"".join(parts), rows.plain.offsets + added[row_ends])
    sizes = np.array([len(marker) for marker in rendered])[which]
    spans = _label_spans(rows, sizes, grammar)
    return MarkedText(texts.to_column(), list_column(rows.counts, spans))


def mark(
    rows: MarkedRows,
    variants: Sequence[Variant],
    *,
    seed: int,
    rounding: Rounding,
    profile: PromptProfile,
) -> list[pa.Table]:
    """The variant table of these rows for each of `variants`, asked as `profile` says.

    Variants that differ in their mask alone share their texts.
    """
    counts = rows.counts
    trace_ids = rows.base["trace_id"].to_pylist()
    progress = (rows.token_ends / rows.totals).astype(np.float32)
    shared = {name: rows.base[name] for name in (own.name for own in TRACE_FIELDS)} | {
        "split": pa.array([rows.split] * len(counts), pa.string()),
        "prompt": _prompts(rows.base, profile),
        "progress": list_column(counts, pa.array(progress)),
    }
    texts: dict[tuple[bool, bytes], MarkedText] = {}
    tables = []
    for variant in variants:
        labels = make_labels(
            trace_ids, counts, rows.token_ends, rows.totals, variant, seed, rounding
        )
        key = (variant.special, labels.tobytes())
        if key not in texts:
            texts[key] = mark_text(rows, labels, replace_style(rows.grammar, variant.special))
        masked = draw_mask(trace_ids, counts, rows.positions, rows.split_rows, variant, seed)
        columns = shared | {
            "completion": texts[key].completion,
            "labels": list_column(counts, pa.array(labels, pa.int32())),
            "label_spans": texts[key].label_spans,
            "masked": list_column(counts, pa.array(masked)),
        }
        tables.append(pa.table([columns[name] for name in VARIANT.names], schema=VARIANT))
    return tables


def make_labels(
    trace_ids: Sequence[str],
    counts: NDArray[np.int64],
    token_ends: NDArray[np.int64],
    totals: NDArray[np.int64],
    variant: Variant,
    seed: int,
    rounding: Rounding,
) -> NDArray[np.int64]:
    """The label of each marker, in whole percents: int64[markers].

    `counts`: markers of each row; `token_ends`, `totals`: tokens up to each marker, and in all.
    Without noise a label is the rounded progress, in exact arithmetic. With noise it is
    round(100 * (progress + N(0, sigma))), clipped to 0..100 where the variant says so.
    """
    if not variant.sigma:
        return ROUNDINGS[rounding](token_ends, totals)
    noise = normals(row_keys(seed, trace_ids, f"{variant.name}/noise"), counts)
    noisy = np.rint(100.0 * (token_ends / totals + variant.sigma * noise))
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
    return replace(grammar, special=special)


def _stored_segments(
    base: pa.Table,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Segments of each row of a base table; their ends in characters, and in tokens."""
    segments = base["segments"].combine_chunks()
    tokens = base["token_ends"].combine_chunks().flatten()
    counts = np.diff(segments.offsets.to_numpy()).astype(np.int64)
    ends = segments.flatten().field("end")
    return counts, ends.to_numpy().astype(np.int64), tokens.to_numpy().astype(np.int64)


def _completions(base: pa.Table) -> Utf8Texts:
    """The completions of base rows, as they were sampled (or escaped)."""
    close = CLOSE.encode()
    rows = [
        b"".join((opening, think, close if closed else b"", response))
        for opening, think, closed, response in zip(
            *(base[name].cast(pa.binary()).to_pylist() for name in ("think_opening", "think")),
            base["think_closed"].to_pylist(),
            base["response"].cast(pa.binary()).to_pylist(),
            strict=True,
        )
    ]
    sizes = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    return Utf8Texts(b"".join(rows), np.append(0, np.cumsum(sizes)))


def _escape_texts(
    base: pa.Table,
    counts: NDArray[np.int64],
    ends: NDArray[np.int64],
    byte_ends: NDArray[np.int64],
    grammar: MarkerGrammar,
) -> tuple[pa.Table, NDArray[np.int64], NDArray[np.int64]]:
    """Escape thinking and response, and move the segments' ends (characters, bytes) along."""
    thinks = base["think"].to_pylist()
    edges = np.append(0, np.cumsum(counts)).tolist()
    moved = np.zeros_like(ends)
    for text, (first, last) in zip(thinks, pairwise(edges), strict=True):
        own = slice(first, last)
        moved[own] = np.searchsorted(escape_offsets(text, grammar), ends[own])
    for name in ("think", "response"):
        texts = [escape(text, grammar) for text in base[name].to_pylist()]
        index = base.schema.get_field_index(name)
        base = base.set_column(index, base.schema.field(name), pa.array(texts, pa.string()))
    return base, ends + moved, byte_ends + moved


def _label_spans(
    rows: MarkedRows, sizes: NDArray[np.int64], grammar: MarkerGrammar
) -> pa.StructArray:
    """Where the text inside each marker's tags stands in the completion, as SPAN."""
    running = np.cumsum(sizes)
    before_row = np.append(0, running)[np.cumsum(rows.counts) - rows.counts]
    marker_ends = rows.characters + running - np.repeat(before_row, rows.counts)
    starts = pa.array(marker_ends - sizes + len(grammar.opening), pa.int32())
    ends = pa.array(marker_ends - len(grammar.closing), pa.int32())
    return pa.StructArray.from_arrays([starts, ends], fields=list(SPAN))


def asked(base: pa.Table, profile: PromptProfile) -> list[str]:
    """The text of all turns of the prompt of each base row."""
    head = profile.system or ""
    return [head + profile.ask(problem) for problem in base["problem"].to_pylist()]


def _prompts(base: pa.Table, profile: PromptProfile) -> pa.ListArray:
    """The turns that a profile makes of each problem."""
    turns = [profile.messages(problem) for problem in base["problem"].to_pylist()]
    columns = [pa.array([turn[i] for own in turns for turn in own], pa.string()) for i in (0, 1)]
    flat = pa.StructArray.from_arrays(columns, names=["role", "content"])
    each = len(profile.messages(""))
    offsets = pa.array(range(0, each * len(turns) + 1, each), pa.int32())
    return pa.ListArray.from_arrays(offsets, flat).cast(MESSAGES)
