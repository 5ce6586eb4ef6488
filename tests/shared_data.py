"""Where the real data lies that tests read in place (`PROGDATA_SHARED`, default `../shared`)."""

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(
    os.environ.get("PROGDATA_SHARED") or Path(__file__).resolve().parent.parent.parent / "shared"
)
TRACES = SHARED / "data" / "traces"
ANSWERS = SHARED / "data" / "answers"
BENCHMARKS = SHARED / "data" / "benchmarks"
TOKENIZER = SHARED / "data" / "tokenizers" / "deepscaler"

needs_shared_data = pytest.mark.skipif(
    not TRACES.is_dir() or not (TOKENIZER / "tokenizer.json").is_file(),
    reason=f"real traces and tokenizer not found under {SHARED}/data (set PROGDATA_SHARED)",
)


def read_traces(name: str) -> Iterator[dict[str, Any]]:
    """The rows of a file of real traces."""
    yield from read_rows(TRACES / name)


def read_rows(path: Path | str) -> Iterator[dict[str, Any]]:
    """The rows of a file of JSON lines, by its path in the shared data or elsewhere."""
    path = SHARED / "data" / path
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def benchmark_golds() -> dict[str, list[str]]:
    """The golds of each benchmark, by its name."""
    return {
        path.name.partition(".")[0]: [str(row["answer"]) for row in read_rows(path)]
        for path in sorted(BENCHMARKS.glob("*.jsonl.gz"))
    }
