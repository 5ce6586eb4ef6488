"""Paragraphs by wtpsplit's SaT (Frohmann et al. 2024), the segmenter of paper 000, section 5.

One text at a time and one torch thread: batches that mix texts, or another number of threads, move
probabilities by rounding and could move a boundary. Results are kept by text in a small SQLite
file, since a text costs about eight passes of the model (facts.md 8.5).
"""

import hashlib
import os
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from progdata.builders.errors import ProgdataError, missing_extra
from progdata.builders.segmenters import tidy


def paragraphs(
    texts: Sequence[str], model: str, threshold: float, batch_size: int, device: str
) -> list[list[int]]:
    """The ends of the paragraphs of each text.

    `model` is a SaT name such as `sat-3l` or a folder with a model and its tokenizer;
    `threshold` is the probability over which a paragraph ends; `batch_size` counts windows of 512
    tokens. Raises ProgdataError where the model cannot be loaded.
    """
    cache = _Cache(cache_path(), f"{model_fingerprint(model)}/{threshold}")
    ends = []
    for text in texts:
        found = cache.get(text)
        if found is None:
            found = _split(text, model, threshold, batch_size, device)
            cache.put(text, found)
        ends.append(tidy(text, found))
    return ends


def cache_path() -> Path:
    """Where paragraph ends are kept: `$PROGDATA_CACHE`, else `~/.cache/progdata`."""
    folder = os.environ.get("PROGDATA_CACHE") or Path.home() / ".cache" / "progdata"
    return Path(folder) / "sat.sqlite"


@lru_cache(maxsize=4)
def model_fingerprint(model: str) -> str:
    """SHA-256 over the files of a local model folder; the name of any other model."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            digest.update(path.name.encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _split(text: str, model: str, threshold: float, batch_size: int, device: str) -> list[int]:
    """The paragraph ends of one text, from the model."""
    if not text.strip():
        return []
    parts = _load(model, device).split(
        text,
        do_paragraph_segmentation=True,
        paragraph_threshold=threshold,
        batch_size=batch_size,
        strip_whitespace=False,
    )
    pieces = ["".join(sentences) for sentences in parts]
    if "".join(pieces) != text:
        raise ProgdataError(f"SaT model {model}: its paragraphs do not add up to the text")
    return np.cumsum([len(piece) for piece in pieces]).tolist()


@lru_cache(maxsize=1)
def _load(model: str, device: str) -> Any:
    try:
        import torch
        from wtpsplit import SaT
    except ImportError as error:
        raise missing_extra("wtpsplit", "sat") from error
    torch.set_num_threads(1)
    local = {"tokenizer_name_or_path": model} if Path(model).is_dir() else {}
    try:
        return SaT(model, **local).to(device)
    except Exception as error:  # wtpsplit, transformers and the hub raise many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ProgdataError(f"SaT model {model!r} could not be loaded: {reason}") from error


class _Cache:
    """Ends of texts in SQLite, shared by the workers of a build."""

    def __init__(self, path: Path, settings: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS ends (key BLOB PRIMARY KEY, ends BLOB)"
        )

    def get(self, text: str) -> list[int] | None:
        query = "SELECT ends FROM ends WHERE key = ?"
        row = self._connection.execute(query, (self._key(text),)).fetchone()
        return None if row is None else np.frombuffer(row[0], dtype="<i4").tolist()

    def put(self, text: str, ends: list[int]) -> None:
        data = np.array(ends, dtype="<i4").tobytes()
        self._connection.execute(
            "INSERT OR REPLACE INTO ends VALUES (?, ?)", (self._key(text), data)
        )

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self._settings}\0{text}".encode()).digest()
