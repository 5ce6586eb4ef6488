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
TOKENIZER = SHARED / "data" / "tokenizers" / "deepscaler"

needs_shared_data = pytest.mark.skipif(
    not TRACES.is_dir() or not (TOKENIZER / "tokenizer.json").is_file(),
    reason=f"real traces and tokenizer not found under {SHARED}/data (set PROGDATA_SHARED)",
)


def read_traces(name: str) -> Iterator[dict[str, Any]]:
    """The rows of a file of real traces."""
    with gzip.open(TRACES / name, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)
