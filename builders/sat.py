"""Paragraphs by wtpsplit's SaT (Frohmann et al. 2024), the segmenter of paper 000, section 5.

One text at a time and one torch thread: batches that mix texts, or another number of threads, move
probabilities by rounding and could move a boundary. Results are kept by text in a small SQLite
file, since a text costs about eight passes of the model (facts.md 8.5).
"""

import hashlib
import os
import sqlite3
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np

from progdata.builders.errors import ProgdataError, missing_extra
from progdata.builders.sat_model import SatModel, find_model
from progdata.builders.tidy import tidy


def paragraphs(
    texts: Sequence[str], model: str, threshold: float, batch_size: int, device: str
) -> list[list[int]]:
    """The ends of the paragraphs of each text.

    `model` is what `find_model` takes; `threshold` is the probability over which a paragraph
    ends; `batch_size` counts windows of 512 tokens. Raises ProgdataError where the model cannot be
    loaded or the cache cannot be used.
    """
    found = find_model(model)
    settings = f"{found.fingerprint}/{threshold}/{batch_size}/{device}/{_versions()}"
    ends = []
    with ParagraphCache(cache_path(), settings) as cache:
        for text in texts:
            known = cache.get(text)
            if known is None:
                known = _split(text, found, threshold, batch_size, device)
                cache.put(text, known)
            ends.append(tidy(text, known))
    return ends


def cache_path() -> Path:
    """Where paragraph ends are kept: `$PROGDATA_CACHE`, else `~/.cache/progdata`."""
    folder = os.environ.get("PROGDATA_CACHE") or Path.home() / ".cache" / "progdata"
    return Path(folder) / "sat.sqlite"


class ParagraphCache:
    """The paragraph ends of texts in one SQLite file, shared by processes; a context manager.

    `settings` names all that the ends depend on beside the text. A damaged row counts as absent.
    Every method raises ProgdataError where the file cannot be used.
    """

    def __init__(self, path: Path, settings: str) -> None:
        self._path = path
        self._settings = settings
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        with self._explained():
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)

    def __enter__(self) -> Self:
        try:
            with self._explained():
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS paragraphs (key BLOB PRIMARY KEY, ends BLOB)"
                )
        except ProgdataError:
            self._connection.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, text: str) -> list[int] | None:
        """The ends kept for `text`, None where there are none."""
        key = self._key(text)
        query = "SELECT ends FROM paragraphs WHERE key = ?"
        with self._explained():
            row = self._connection.execute(query, (key,)).fetchone()
        if row is None or row[0] != _sealed(key, row[0][_SEAL_BYTES:]):
            return None
        return np.frombuffer(row[0][_SEAL_BYTES:], dtype="<i4").tolist()

    def put(self, text: str, ends: Sequence[int]) -> None:
        """Keep the ends of `text`."""
        key = self._key(text)
        value = _sealed(key, np.array(ends, dtype="<i4").tobytes())
        command = "INSERT OR REPLACE INTO paragraphs VALUES (?, ?)"
        with self._explained():
            self._connection.execute(command, (key, value))

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self._settings}\0{text}".encode()).digest()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._unusable(str(error)) from error

    def _unusable(self, reason: str) -> ProgdataError:
        return ProgdataError(
            f"{self._path}: the cache of SaT paragraphs cannot be used: {reason}; "
            "delete the file, or set PROGDATA_CACHE to another folder"
        )


_SEAL_BYTES = 8


def _sealed(key: bytes, data: bytes) -> bytes:
    """`data` behind a checksum, since SQLite has none of its own."""
    return hashlib.sha256(key + data).digest()[:_SEAL_BYTES] + data


def _split(text: str, found: SatModel, threshold: float, batch_size: int, device: str) -> list[int]:
    """The paragraph ends of one text, from the model."""
    if not text.strip():
        return []
    sat = _load(found, device)
    if not sat.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]:
        return []  # zero-width characters alone: wtpsplit fails where there is no token
    with _quiet_in_one_thread():
        parts = sat.split(
            text,
            do_paragraph_segmentation=True,
            paragraph_threshold=threshold,
            batch_size=batch_size,
            strip_whitespace=False,
        )
    pieces = ["".join(sentences) for sentences in parts]
    if "".join(pieces) != text:
        raise ProgdataError(f"SaT model {found.pinned}: its paragraphs do not add up to the text")
    return np.cumsum([len(piece) for piece in pieces]).tolist()


@lru_cache(maxsize=1)
def _load(found: SatModel, device: str) -> Any:
    """The model and its tokenizer in memory: a `wtpsplit.SaT`."""
    sat_class = import_wtpsplit()
    try:
        with _quiet_in_one_thread():
            sat = sat_class(str(found.folder), tokenizer_name_or_path=str(found.tokenizer))
            sat.to(device)
    except Exception as error:  # wtpsplit, transformers and torch raise many kinds
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ProgdataError(f"SaT model {found.pinned}: could not be loaded: {reason}") from error
    return sat


def import_wtpsplit() -> Any:
    """`wtpsplit.SaT`, imported without its side effects on warnings.

    On import wtpsplit's dependency skops looks into every loaded module, which makes the lazy ones
    of transformers import what is not installed and fail; so skops must not see them.
    """
    lazy = [name for name in sys.modules if name.partition(".")[0] == "transformers"]
    hidden = {name: sys.modules.pop(name) for name in lazy}
    try:
        with warnings.catch_warnings():
            import skops.io  # noqa: F401, its import is the point

            sys.modules.update(hidden)
            from wtpsplit import SaT
    except ImportError as error:
        raise missing_extra("wtpsplit", "sat") from error
    finally:
        sys.modules.update(hidden)
    return SaT


@contextmanager
def _quiet_in_one_thread() -> Iterator[None]:
    """One torch thread, and no progress bar or warning from transformers, while it lasts."""
    import torch
    from transformers.utils import logging

    threads, verbosity = torch.get_num_threads(), logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@lru_cache(maxsize=1)
def _versions() -> str:
    """The packages whose version can change a probability."""
    return "/".join(f"{name} {version(name)}" for name in ("torch", "transformers", "wtpsplit"))
