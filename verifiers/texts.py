"""Laws 1 and 3 proved on a whole variant table at once, on its UTF-8 buffer.

`prove_texts` only says that they hold; where they do not, `laws` reads row by row to say why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from progdata.builders.markers import MarkerGrammar
from progdata.builders.restore import marker_spans
from progdata.builders.schema import trace_id
from progdata.builders.thinking import CLOSE
from progdata.builders.utf8 import Utf8Texts, characters_before, utf8_texts

ID_COLUMNS = ["trace_id", "problem", "model"]
PROVEN_COLUMNS = [*ID_COLUMNS, "think_opening", "completion", "labels", "label_spans"]


@dataclass(frozen=True)
class ProvenTexts:
    """Texts without their markers that hash to their trace ids, and where the markers stood.

    `rows`: the columns that the proof depends on. `at`: the byte of `plain` before which each
    marker stood, int64[markers]; `characters`: the characters of its own row before it.
    """

    rows: pa.Table
    plain: Utf8Texts
    at: NDArray[np.int64]
    characters: NDArray[np.int64]

    @cached_property
    def pieces(self) -> list[bytes]:
        """`plain` cut at every marker."""
        cuts = [0, *self.at.tolist(), len(self.plain.data)]
        return [self.plain.data[a:b] for a, b in pairwise(cuts)]


def prove_texts(
    table: pa.Table, grammar: MarkerGrammar, known: Sequence[ProvenTexts] = ()
) -> ProvenTexts | None:
    """The proof that markers stand where their spans say, inside the thinking, and that without
    them each text is the one its trace id was made from; None where that is not so.

    `known` are proofs of the same rows in other variants, which spare the same work again.
    Escaped texts are left to the reading row by row.
    """
    if grammar.escaped:
        return None
    rows = table.select(PROVEN_COLUMNS)
    for proof in known:
        if proof.rows.equals(rows):
            return proof
    labels = table["labels"].combine_chunks()
    counts = np.diff(labels.offsets.to_numpy()).astype(np.int64)
    values = labels.flatten().to_numpy().astype(np.int64)
    texts = utf8_texts(table["completion"])
    markers = _Rendered(values, grammar)
    if known and _is_marked(texts, counts, markers, rows, known[0]):
        proof, at = replace(known[0], rows=rows), known[0].at
    else:
        cut = _cut_markers(texts, counts, markers, grammar)
        if cut is None:
            return None
        plain, at = cut
        if not _hashes_match(rows, plain):
            return None
        starts = characters_before(plain.data, plain.offsets[:-1])
        characters = characters_before(plain.data, at) - np.repeat(starts, counts)
        proof = ProvenTexts(rows, plain, at, characters)
    inside = _stand_inside(table, proof.plain, at, counts)
    return proof if inside and _spans_match(table, proof, markers, counts, grammar) else None


class _Rendered:
    """The markers of some labels: their bytes, and their sizes in bytes and in characters."""

    def __init__(self, labels: NDArray[np.int64], grammar: MarkerGrammar) -> None:
        lowest, highest = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
        texts = [grammar.render(label) for label in range(lowest, highest + 1)]
        encoded = [text.encode() for text in texts]
        which = labels - lowest
        self.markers = [encoded[index] for index in which.tolist()]
        self.sizes = np.array([len(marker) for marker in encoded], dtype=np.int64)[which]
        self.characters = np.array([len(text) for text in texts], dtype=np.int64)[which]

    def bytes_before_rows(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes of markers before each row, and in all: int64[rows + 1]."""
        return np.append(0, np.cumsum(self.sizes))[np.append(0, np.cumsum(counts))]


def _is_marked(
    texts: Utf8Texts,
    counts: NDArray[np.int64],
    markers: _Rendered,
    rows: pa.Table,
    known: ProvenTexts,
) -> bool:
    """Whether these texts are proven ones with these markers at the proven places."""
    if len(markers.markers) != len(known.at):
        return False
    if not known.rows.select(ID_COLUMNS).equals(rows.select(ID_COLUMNS)):
        return False
    parts = [b""] * (2 * len(known.at) + 1)
    parts[0::2] = known.pieces
    parts[1::2] = markers.markers
    offsets = known.plain.offsets + markers.bytes_before_rows(counts)
    return np.array_equal(offsets, texts.offsets) and b"".join(parts) == texts.data


def _cut_markers(
    texts: Utf8Texts, counts: NDArray[np.int64], markers: _Rendered, grammar: MarkerGrammar
) -> tuple[Utf8Texts, NDArray[np.int64]] | None:
    """The texts without these markers, and the byte before which each stood; None where other
    markers, or none, are found."""
    closing = grammar.closing.encode()
    pieces = texts.data.split(closing)
    if len(pieces) != len(markers.markers) + 1:
        return None
    heads = [marker[: -len(closing)] for marker in markers.markers]
    if not all(map(bytes.endswith, pieces, heads)):
        return None
    plain = b"".join([*map(bytes.removesuffix, pieces, heads), pieces[-1]])
    if grammar.opening.encode() in plain:
        return None
    lengths = np.fromiter(map(len, pieces[:-1]), dtype=np.int64, count=len(heads))
    offsets = texts.offsets - markers.bytes_before_rows(counts)
    return Utf8Texts(plain, offsets), np.cumsum(lengths + len(closing) - markers.sizes)


def _hashes_match(rows: pa.Table, plain: Utf8Texts) -> bool:
    """Law 1: every text is the one that its trace id was made from."""
    if (np.diff(plain.offsets) < 0).any():
        return False
    problems, models = rows["problem"].to_pylist(), rows["model"].to_pylist()
    return list(map(trace_id, problems, plain.rows, models)) == rows["trace_id"].to_pylist()


def _stand_inside(
    table: pa.Table, plain: Utf8Texts, at: NDArray[np.int64], counts: NDArray[np.int64]
) -> bool:
    """Law 3: markers stand in their own row, after its opening, the last just before </think>."""
    openings = np.diff(utf8_texts(table["think_opening"]).offsets)
    starts = np.repeat(plain.offsets[:-1] + openings, counts)
    ends = np.repeat(plain.offsets[1:], counts)
    last = at[(np.cumsum(counts) - 1)[counts > 0]].tolist()
    close = CLOSE.encode()
    within = bool(((at >= starts) & (at < ends)).all())
    return within and all(plain.data.startswith(close, byte) for byte in last)


def _spans_match(
    table: pa.Table,
    proof: ProvenTexts,
    markers: _Rendered,
    counts: NDArray[np.int64],
    grammar: MarkerGrammar,
) -> bool:
    """Law 3: the stored label spans are those of the markers, in characters of each text."""
    before = np.append(0, np.cumsum(markers.characters))
    first = np.repeat(before[np.cumsum(counts) - counts], counts)
    starts = proof.characters + before[:-1] - first
    ends = proof.characters + before[1:] - first
    stored = marker_spans(table, grammar)
    return np.array_equal(stored.starts, starts) and np.array_equal(stored.ends, ends)
