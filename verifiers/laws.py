"""The laws of a progress dataset as checks of a variant table (design.md, laws 1, 2 and 3).

A variant table proves itself: `trace_id` is the content hash of the completion as sampled, so the
text without its markers must hash to it (law 1), and labels follow from the stored progress, the
seed and the trace id (law 2).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from progdata.builders.markers import MarkerGrammar, cut_markers, unescape
from progdata.builders.progress import Mode, Rounding, count_joint, segment, segment_sum
from progdata.builders.restore import marker_spans
from progdata.builders.schema import trace_id
from progdata.builders.segmenters import SegmentFunction
from progdata.builders.thinking import CLOSE
from progdata.builders.tokenizer import Counter
from progdata.builders.variants import Variant, make_labels, replace_style
from progdata.verifiers.texts import ProvenTexts, prove_texts


@dataclass(frozen=True)
class Violation:
    """A broken law: where, and what was expected against what was found."""

    law: str
    where: str  # a file, or the trace_id of a row
    detail: str


@dataclass(frozen=True)
class LawSettings:
    """What a build declares, and its rows are checked against."""

    grammar: MarkerGrammar
    seed: int
    rounding: Rounding


TEXT_COLUMNS = ("trace_id", "problem", "model", "completion", "think_opening", "labels")
"""What laws 1 and 3 depend on, with the label spans."""


def check_rows(
    table: pa.Table,
    variant: Variant,
    settings: LawSettings,
    known: Sequence[ProvenTexts] = (),
) -> tuple[list[Violation], ProvenTexts | None]:
    """Laws 1, 2 and 3 on a variant table; `check_progress` adds what needs the tokenizer.

    Gives what is broken, and the proof of the texts, which as one of `known` spares work on the
    same rows in the next variant.
    """
    grammar = replace_style(settings.grammar, variant.special)
    broken = list(_check_shapes(table))
    if broken:  # the other checks read the columns by each other's lengths
        return broken, None
    proof = prove_texts(table, grammar, known)
    texts = () if proof is not None else _check_texts(table, grammar)
    return [*texts, *_check_labels(table, variant, settings)], proof


def check_progress(
    table: pa.Table, base: pa.Table, counter: Counter, mode: Mode
) -> list[Violation]:
    """Law 2: the stored progress is what the tokenizer gives for the thinking and its segments.

    `base` is what `restore_base` makes of `table`.
    """
    thinks = base["think"].to_pylist()
    ends = [[span["end"] for span in own] for own in base["segments"].to_pylist()]
    starts = counter.starts(thinks)
    counted = count_joint(thinks, ends, starts)
    totals = starts.per_text()
    if mode == "segment-sum":
        counted = segment_sum(thinks, counted, counter)
        totals = np.where(counted.counts > 0, counted.totals, base["num_tokens"].to_numpy())
    expected = (counted.token_ends / np.repeat(totals, counted.counts)).astype(np.float32)
    stored = table["progress"].combine_chunks().flatten().to_numpy()
    ids = table["trace_id"].to_pylist()
    rows = np.repeat(np.arange(len(ids)), counted.counts)
    broken = [
        Violation("true", ids[i], f"the tokenizer gives {totals[i]} tokens, num_tokens is {stated}")
        for i, stated in enumerate(base["num_tokens"].to_pylist())
        if stated != totals[i]
    ]
    for i in np.flatnonzero(expected != stored).tolist():
        detail = f"the tokenizer gives progress {expected[i]:.6f}, stored is {stored[i]:.6f}"
        broken.append(Violation("true", ids[rows[i]], detail))
    return broken


def check_segments(
    base: pa.Table, segmenter: SegmentFunction, counter: Counter, min_tokens: int
) -> Iterator[Violation]:
    """Law 5: the segments of a base table are those that the declared segmenter gives.

    Traces that were cut off have no markers, so that their segments are not known.
    """
    found = segment(base["think"].to_pylist(), segmenter, counter, min_tokens=min_tokens)
    edges = np.append(0, np.cumsum(found.counts)).tolist()
    columns = (base[name].to_pylist() for name in ("trace_id", "think_closed", "segments"))
    for row, (own_id, closed, spans) in enumerate(zip(*columns, strict=True)):
        expected = found.ends[edges[row] : edges[row + 1]].tolist()
        if closed and [span["end"] for span in spans] != expected:
            detail = f"its {len(spans)} segments are not the {len(expected)} of the segmenter"
            yield Violation("reproducible", own_id, detail)


def _check_shapes(table: pa.Table) -> Iterator[Violation]:
    """Every list column has one item a marker."""
    lengths = {
        name: np.diff(table[name].combine_chunks().offsets.to_numpy())
        for name in ("labels", "progress", "label_spans", "masked")
    }
    for name, found in lengths.items():
        for row in np.flatnonzero(found != lengths["labels"]).tolist():
            detail = f"{name} has {found[row]} items, labels has {lengths['labels'][row]}"
            yield Violation("inside", table["trace_id"][row].as_py(), detail)


def _check_texts(table: pa.Table, grammar: MarkerGrammar) -> Iterator[Violation]:
    """Laws 1 and 3: each marker is where its span says, inside the thinking; nothing is lost."""
    columns = [table[name].to_pylist() for name in TEXT_COLUMNS]
    spans = marker_spans(table, grammar).of_rows()
    rendered = {label: grammar.render(label) for label in set().union(*columns[-1])}
    for own_id, problem, model, text, opening, labels, (starts, ends) in zip(
        *columns, spans, strict=True
    ):
        found = [text[a:b] for a, b in zip(starts, ends, strict=True)]
        if found != [rendered[label] for label in labels]:
            yield Violation("inside", own_id, "a label span does not hold the marker of its label")
            continue
        if text.count(grammar.opening) != len(labels):
            count = text.count(grammar.opening)
            yield Violation("inside", own_id, f"{count} markers in the text, {len(labels)} labels")
        if starts and (starts[0] < len(opening) or not text.startswith(CLOSE, ends[-1])):
            detail = "markers must stand inside the thinking, the last just before </think>"
            yield Violation("inside", own_id, detail)
        plain = "".join(cut_markers(text, starts, ends))
        plain = unescape(plain, grammar) if grammar.escaped else plain
        if trace_id(problem, plain, model) != own_id:
            detail = "the completion without its markers is not the one trace_id was made from"
            yield Violation("lossless", own_id, detail)


def _check_labels(table: pa.Table, variant: Variant, settings: LawSettings) -> Iterator[Violation]:
    """Law 2: labels are what progress, seed and variant give; clean ones rise to 100."""
    column = table["labels"].combine_chunks()
    counts = np.diff(column.offsets.to_numpy()).astype(np.int64)
    labels = column.flatten().to_numpy().astype(np.int64)
    share = table["progress"].combine_chunks().flatten().to_numpy().astype(np.float64)
    totals = np.repeat(table["num_tokens"].to_numpy().astype(np.int64), counts)
    token_ends = np.rint(share * totals).astype(np.int64)
    ids = table["trace_id"].to_pylist()
    expected = make_labels(
        ids, counts, token_ends, totals, variant, settings.seed, settings.rounding
    )
    rows = np.repeat(np.arange(len(counts)), counts)
    for i in np.flatnonzero(labels != expected).tolist():
        yield Violation(
            "true", ids[rows[i]], f"label {labels[i]}, its progress gives {expected[i]}"
        )
    if variant.sigma:
        if variant.clip:
            for i in np.flatnonzero((labels < 0) | (labels > 100)).tolist():
                yield Violation("true", ids[rows[i]], f"label {labels[i]} is outside 0..100")
        return
    falls = (np.diff(labels, prepend=0) < 0) & (np.diff(rows, prepend=-1) == 0)
    for i in np.flatnonzero(falls).tolist():
        yield Violation("true", ids[rows[i]], f"label {labels[i]} is lower than the one before")
    last = (np.cumsum(counts) - 1)[counts > 0]
    for i in last[labels[last] != 100].tolist():
        yield Violation("true", ids[rows[i]], f"the last label is {labels[i]}, not 100")
