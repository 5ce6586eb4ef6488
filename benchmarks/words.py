"""How far progress counted by the built-in tokenizer `words` is from the shared tokenizer's.

Both label the same newline segments of the finished real traces in $PROGDATA_SHARED (default
../shared). Prints the mean and the 95th percentile of the absolute difference, in points.

    python benchmarks/words.py
"""

import gzip
import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np

from progdata.builders.progress import count_joint, percent, segment
from progdata.builders.segmenters import newline
from progdata.builders.thinking import UnusualThinking, split_completion
from progdata.builders.tokenizer import find_tokenizer, load_counter

SHARED = Path(os.environ.get("PROGDATA_SHARED", Path(__file__).parents[2] / "shared"))


def finished_thinking() -> list[str]:
    """The thinking of every finished trace."""
    thinks = []
    for name in sorted((SHARED / "data" / "traces").glob("*.jsonl.gz")):
        with gzip.open(name, "rt", encoding="utf-8") as lines:
            for line in lines:
                try:
                    thinking = split_completion(json.loads(line)["completion"])
                except UnusualThinking:
                    continue
                if thinking.closed and thinking.think.strip():
                    thinks.append(thinking.think)
    return thinks


def main() -> None:
    thinks = finished_thinking()
    tokenizer = find_tokenizer(str(SHARED / "data" / "tokenizers" / "deepscaler"))
    words, exact = load_counter(None, False), load_counter(tokenizer.path, True)
    by_words = segment(thinks, newline, words)
    edges = np.append(0, np.cumsum(by_words.counts))
    ends = [by_words.ends[a:b].tolist() for a, b in pairwise(edges.tolist())]
    by_exact = count_joint(thinks, ends, exact.starts(thinks))
    shares = [own.token_ends / np.repeat(own.totals, own.counts) for own in (by_words, by_exact)]
    points = 100 * np.abs(shares[0] - shares[1])
    labels = [
        percent(own.token_ends, np.repeat(own.totals, own.counts)) for own in (by_words, by_exact)
    ]
    print(
        json.dumps(
            {
                "traces": len(thinks),
                "markers": len(points),
                "mean_points": round(float(points.mean()), 2),
                "p95_points": round(float(np.quantile(points, 0.95)), 2),
                "most_points": round(float(points.max()), 2),
                "labels_equal": round(float((labels[0] == labels[1]).mean()), 3),
                "tokens_words": int(by_words.totals.sum()),
                "tokens_deepscaler": int(by_exact.totals.sum()),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
