"""Restore base rows from a variant table: the inverse of `variants.mark`.

Nothing but the base table's own columns is lost by marking, so a published variant is enough to
label again with another tokenizer, segmenter or noise.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from progdata.builders.base_table import list_column, spans
from progdata.builders.markers import MarkerGrammar, cut_markers, escape_offsets, unescape
from progdata.builders.schema import BASE
from progdata.builders.thinking import split_completion


@dataclass(frozen=True)
class MarkerSpans:
    """Where the markers of a variant table stand in its completions.

    `counts`: markers of each row, int64[rows]; `starts`, `ends`: of whole markers, int64[markers].
    """

    counts: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def of_rows(self) -> list[tuple[list[int], list[int]]]:
        """The starts and the ends of each row's markers."""
        edges = np.append(0, np.cumsum(self.counts)).tolist()
        starts, ends = self.starts.tolist(), self.ends.tolist()
        return [(starts[a:b], ends[a:b]) for a, b in pairwise(edges)]


def marker_spans(table: pa.Table, grammar: MarkerGrammar) -> MarkerSpans:
    """The spans of whole markers, from the label spans that a variant table stores."""
    column = table["label_spans"].combine_chunks()
    labels = column.flatten()
    return MarkerSpans(
        np.diff(column.offsets.to_numpy()).astype(np.int64),
        labels.field("start").to_numpy().astype(np.int64) - len(grammar.opening),
        labels.field("end").to_numpy().astype(np.int64) + len(grammar.closing),
    )


def restore_base(table: pa.Table, grammar: MarkerGrammar) -> pa.Table:
    """The base table that a variant table was marked from.

    Traces that were cut off have no markers, and so no segments here.
    """
    found = marker_spans(table, grammar)
    thinks, responses, ends = [], [], []
    for text, opening, own in zip(
        table["completion"].to_pylist(),
        table["think_opening"].to_pylist(),
        found.of_rows(),
        strict=True,
    ):
        pieces = cut_markers(text, *own)
        thinking = split_completion(_plain("".join(pieces), grammar))
        thinks.append(thinking.think)
        responses.append(thinking.response)
        marked = np.cumsum([len(piece) for piece in pieces[:-1]], dtype=np.int64)
        ends.append(_plain_offsets(thinking.think, marked - len(opening), grammar))
    totals = np.repeat(table["num_tokens"].to_numpy(), found.counts)
    share = table["progress"].combine_chunks().flatten().to_numpy()
    token_ends = np.rint(share.astype(np.float64) * totals).astype(np.int64)
    segment_ends = np.concatenate([*ends, np.zeros(0, np.int64)])
    columns = {
        "think": pa.array(thinks, pa.string()),
        "response": pa.array(responses, pa.string()),
        "segments": list_column(found.counts, spans(found.counts, segment_ends)),
        "token_ends": list_column(found.counts, pa.array(token_ends, pa.int32())),
    }
    return pa.table(
        [columns[name] if name in columns else table[name] for name in BASE.names], schema=BASE
    )


def _plain(text: str, grammar: MarkerGrammar) -> str:
    return unescape(text, grammar) if grammar.escaped else text


def _plain_offsets(
    plain: str, offsets: NDArray[np.int64], grammar: MarkerGrammar
) -> NDArray[np.int64]:
    """Offsets in an escaped text as offsets in the plain one."""
    if not grammar.escaped:
        return offsets
    inserted = np.array(escape_offsets(plain, grammar), dtype=np.int64)
    return offsets - np.searchsorted(inserted + np.arange(len(inserted)), offsets)
