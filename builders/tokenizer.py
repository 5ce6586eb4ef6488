"""Tokenizers as counters: where in a text its tokens start.

Progress needs no token ids, only how many tokens start before a position. Three counters answer
that: `words` (built in), the reference (`tokenizers`, by offsets), and the fast one (`fastokens`,
by token lengths), which is used only where it is shown equal to the reference (facts.md 8.12).

All positions are byte offsets in the UTF-8 text. A token that starts inside a character counts
as starting somewhere inside it; span ends lie between characters, so both counters agree.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol
from unicodedata import is_normalized

import numpy as np
from numpy.typing import NDArray

from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.hub_files import snapshot
from progdata.builders.utf8 import byte_offsets

WORDS_PATTERN = r"[A-Za-z]+|[0-9]|\n+|[^\x00-\x20A-Za-z0-9]"
"""The built-in tokenizer `words`, as a regular expression.

Runs of ASCII letters, single digits, runs of newlines, and every other visible character are one
token each; blanks and control characters belong to no token. `WordsCounter` counts by byte
classes; the tests hold it equal to this expression.
"""

_HUB_ID = re.compile(r"(?:hf:)?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class TokenizerSource:
    """A tokenizer that was found: what the user wrote, its file, and the file's fingerprint."""

    spec: str
    fingerprint: str  # sha256 of tokenizer.json, or of WORDS_PATTERN
    path: str | None  # None: the built-in `words`
    revision: str | None = None  # the commit, where it came from a hub
    template_sha256: str | None = None  # of the chat template beside it, where there is one


@dataclass(frozen=True)
class TokenStarts:
    """Token starts of a batch of texts, in the concatenation of their UTF-8 bytes.

    `starts`: rising int64[tokens]; `sizes`: bytes of each text, int64[texts].
    """

    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where each text begins: int64[texts]."""
        return np.cumsum(self.sizes) - self.sizes

    def per_text(self) -> NDArray[np.int64]:
        """Tokens of each text: int64[texts]."""
        edges = np.searchsorted(self.starts, np.append(self.offsets, self.sizes.sum()))
        return np.diff(edges)

    def before(self, ends: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tokens that start before each end, within its text: int64[ends].

        `ends` are byte offsets within their texts, text after text, `counts[i]` of them in
        text i.
        """
        offsets = self.offsets
        first = np.searchsorted(self.starts, offsets)
        found = np.searchsorted(self.starts, ends + np.repeat(offsets, counts))
        return found - np.repeat(first, counts)

    def of_text(self, index: int) -> NDArray[np.int64]:
        """The starts in one text, from its own beginning."""
        begin = int(self.offsets[index])
        edges = np.searchsorted(self.starts, [begin, begin + int(self.sizes[index])])
        return self.starts[edges[0] : edges[1]] - begin


class Counter(Protocol):
    """Finds token starts in texts (which are valid Unicode, without lone surrogates)."""

    def starts(self, texts: Sequence[str]) -> TokenStarts: ...


class WordsCounter:
    """The built-in tokenizer: `WORDS_PATTERN` by byte classes, without a download."""

    _BLANK, _LETTER, _NEWLINE, _SINGLE, _CONTINUATION = range(5)

    def __init__(self) -> None:
        classes = np.full(256, self._SINGLE, dtype=np.uint8)
        classes[: 0x20 + 1] = self._BLANK
        classes[ord("\n")] = self._NEWLINE
        classes[ord("A") : ord("Z") + 1] = self._LETTER
        classes[ord("a") : ord("z") + 1] = self._LETTER
        classes[0x80:0xC0] = self._CONTINUATION
        self._classes = classes

    def starts(self, texts: Sequence[str]) -> TokenStarts:
        encoded, sizes = encode(texts)
        classes = self._classes[np.frombuffer(b"".join(encoded), dtype=np.uint8)]
        run = (classes == self._LETTER) | (classes == self._NEWLINE)
        begins = run.copy()
        begins[1:] &= classes[1:] != classes[:-1]
        first = (np.cumsum(sizes) - sizes)[sizes > 0]
        begins[first] = run[first]
        return TokenStarts(np.flatnonzero(begins | (classes == self._SINGLE)), sizes)


class ReferenceCounter:
    """Hugging Face `tokenizers`, by offsets: exact for every tokenizer, and slow."""

    def __init__(self, path: str) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(path)
        self._tokenizer.post_processor = None  # it would trim blanks off the offsets
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def starts(self, texts: Sequence[str]) -> TokenStarts:
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        encoded, sizes = encode(texts)
        offsets = np.cumsum(sizes) - sizes
        starts = [
            byte_offsets(text, data)[np.array([o[0] for o in encoding.offsets], dtype=np.int64)]
            for text, data, encoding in zip(texts, encoded, encodings, strict=True)
        ]
        return TokenStarts(_join(starts, offsets), sizes)


class FastCounter:
    """`fastokens` by token lengths: exact where the tokens of a byte-level BPE tile the text.

    A text whose tokens do not tile it, or that the tokenizer would normalise first, goes to the
    reference.
    """

    def __init__(self, path: str) -> None:
        from fastokens import Tokenizer

        self._path = path
        self._tokenizer = Tokenizer.from_file(path)
        added = {token["id"]: token["content"] for token in self._tokenizer.added_tokens()}
        self._lengths = np.array(
            [
                len(added[i].encode()) if i in added else len(self._tokenizer.id_to_token(i) or "")
                for i in range(max(self._tokenizer.vocab_size, *added, 0) + 1)
            ],
            dtype=np.int64,
        )

    def starts(self, texts: Sequence[str]) -> TokenStarts:
        _, sizes = encode(texts)
        ids, edges = self._tokenizer.encode_batch_flat(list(texts))
        lengths = self._lengths[np.frombuffer(ids, dtype=np.uint32)]
        ends = np.cumsum(lengths)
        totals = np.append(0, ends)[np.frombuffer(edges, dtype=np.uint64).astype(np.int64)]
        plain = np.array([text.isascii() or is_normalized("NFC", text) for text in texts], bool)
        exact = plain & (np.diff(totals) == sizes)
        if exact.all():
            return TokenStarts(ends - lengths, sizes)
        return self._with_reference(texts, sizes, ends - lengths, totals, exact)

    def _with_reference(
        self,
        texts: Sequence[str],
        sizes: NDArray[np.int64],
        starts: NDArray[np.int64],
        totals: NDArray[np.int64],
        exact: NDArray[np.bool_],
    ) -> TokenStarts:
        """The same starts, with those of the inexact texts taken from the reference."""
        reference = _reference(self._path)
        edges = np.searchsorted(starts, totals)
        parts = [
            starts[edges[i] : edges[i + 1]] - totals[i]
            if exact[i]
            else reference.starts([texts[i]]).starts
            for i in range(len(texts))
        ]
        return TokenStarts(_join(parts, np.cumsum(sizes) - sizes), sizes)


def find_tokenizer(spec: str) -> TokenizerSource:
    """The tokenizer that `spec` names: `words`, a tokenizer.json or its folder, or a hub id.

    A hub id is `org/name[@revision]`; the revision is resolved to a commit. Raises UsageError
    where there is no such tokenizer.
    """
    if spec == "words":
        return TokenizerSource(spec, hashlib.sha256(WORDS_PATTERN.encode()).hexdigest(), None)
    path = Path(spec)
    hub = _HUB_ID.fullmatch(spec)
    revision = None
    if path.is_dir():
        path = path / "tokenizer.json"
    elif not path.exists() and hub and path.suffix != ".json":
        path, revision = _download(hub["repo"], hub["revision"])
    if not path.is_file():
        raise UsageError(
            f"tokenizer {spec!r}: no file {path}; "
            "give 'words', a tokenizer.json, its folder, or a hub id org/name[@revision]"
        )
    fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()
    return TokenizerSource(spec, fingerprint, str(path), revision, _template_sha256(path.parent))


def _template_sha256(folder: Path) -> str | None:
    """SHA-256 of a tokenizer's chat template: a file of its own, or a field of the config."""
    file, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if file.is_file():
        return hashlib.sha256(file.read_bytes()).hexdigest()
    try:
        content = json.loads(config.read_text("utf-8")) if config.is_file() else {}
    except ValueError as error:
        raise ProgdataError(f"{config}: not JSON: {error}") from error
    template = content.get("chat_template")
    if template is None:
        return None
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _download(repo: str, revision: str | None) -> tuple[Path, str]:
    """A hub tokenizer's file in the local cache, beside its template, and its commit."""
    name = f"{repo}@{revision}" if revision else repo
    files = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    absent = "neither a path nor a model on the hub that you may read"
    folder = snapshot(f"tokenizer {name}", repo, revision, files, absent)
    if not (folder / "tokenizer.json").is_file():
        raise ProgdataError(f"tokenizer {name}: the repository holds no tokenizer.json")
    return folder / "tokenizer.json", folder.name


@lru_cache(maxsize=2)
def load_counter(path: str | None, fast: bool, /) -> Counter:
    """The counter of a tokenizer, loaded once in a process.

    Raises ProgdataError where the file is not a tokenizer.
    """
    if path is None:
        return WordsCounter()
    try:
        return FastCounter(path) if fast else _reference(path)
    except Exception as error:  # both libraries raise bare Exception
        raise ProgdataError(f"{path}: not a tokenizer.json that can be read: {error}") from error


@lru_cache(maxsize=1)
def _reference(path: str) -> ReferenceCounter:
    return ReferenceCounter(path)


def encode(texts: Sequence[str]) -> tuple[list[bytes], NDArray[np.int64]]:
    """Each text in UTF-8, and its size in bytes."""
    encoded = [text.encode() for text in texts]
    return encoded, np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))


def _join(parts: Sequence[NDArray[np.int64]], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The starts of single texts as starts in their concatenation."""
    shifted = [part + offset for part, offset in zip(parts, offsets, strict=True)]
    return np.concatenate(shifted) if shifted else np.zeros(0, dtype=np.int64)
