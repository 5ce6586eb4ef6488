"""Search near duplicates in real problems: the exact search beside the approximate one.

    python benchmarks/duplicates.py [--data DIR] [--rows N] [--vectors N] [--model PATH]

Embeds the first problems of DeepScaleR once, then prints: pairs over a cosine of 0.9, the recall
and the speed of the approximate search against the exact one, among these problems and among
`--vectors` made of theirs by noise; and what agreement in numbers, formulas and deciding words
leaves of DeepScaleR's rule as published.
"""

import argparse
import gzip
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from progdata.verifiers.duplicates import exact_labels
from progdata.verifiers.near_duplicates import (
    COSINE,
    MODEL,
    Pairs,
    Vectors,
    approximate_pairs,
    exact_pairs,
    find_near,
    load_encoder,
)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def collect(found: Pairs) -> set[tuple[int, int]]:
    blocks = [(first.tolist(), second.tolist()) for first, second, _ in found]
    return {pair for first, second in blocks for pair in zip(first, second, strict=True)}


def compare(vectors: Vectors) -> None:
    """Print the recall and the speed of the approximate search against the exact one."""
    begun = time.perf_counter()
    exact = collect(exact_pairs(vectors, COSINE))
    exact_seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    approximate = collect(approximate_pairs(vectors, COSINE))
    seconds = time.perf_counter() - begun
    recall = len(approximate & exact) / max(len(exact), 1)
    print(
        f"{len(vectors):,} vectors: {len(exact):,} pairs over {COSINE} in {exact_seconds:.1f} s, "
        f"one by one; approximate {recall:.2%} of them in {seconds:.1f} s, "
        f"{len(approximate - exact)} others"
    )


def noisy(vectors: Vectors, count: int) -> Vectors:
    """So many vectors around the given ones, at cosines of 0.8 to 1 to them."""
    rng = np.random.default_rng(0)
    around = vectors[np.arange(count) % len(vectors)]
    noise = rng.standard_normal(around.shape, np.float32) / around.shape[1] ** 0.5
    moved = around + rng.uniform(0, 0.75, (count, 1)).astype(np.float32) * noise
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--vectors", type=int, default=0)
    parser.add_argument("--model", default=MODEL)
    options = parser.parse_args()
    path = options.data / "problems" / "deepscaler_train.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines()[: options.rows]
    problems = [json.loads(line)["problem"] for line in lines]

    begun = time.perf_counter()
    labels = exact_labels(problems)
    seconds = time.perf_counter() - begun
    distinct = [problem for own, problem in enumerate(problems) if labels[own] == own]
    print(
        f"{len(problems):,} problems, {len(distinct):,} normal forms, "
        f"{len(problems) / seconds:,.0f} problems/s"
    )

    encode, versions = load_encoder(options.model)
    begun = time.perf_counter()
    vectors = encode(distinct)
    seconds = time.perf_counter() - begun
    print(f"embedded: {len(distinct) / seconds:,.0f} problems/s, {versions}")

    compare(vectors)
    if options.vectors:
        compare(noisy(vectors, options.vectors))

    places = {problem: place for place, problem in enumerate(distinct)}

    def known(texts: Sequence[str]) -> Vectors:
        return vectors[[places[text] for text in texts]]

    for agree in (False, True):
        found = find_near(distinct, known, agree=agree).labels
        removed = sum(int(label) != own for own, label in enumerate(found))
        print(f"{'with' if agree else 'without'} agreement: {removed:,} problems removed")


if __name__ == "__main__":
    main()
