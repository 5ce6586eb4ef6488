"""Variant rows as token ids, with the tokens that show a label.

The prompt is the model's own chat template; the completion follows it as the model would write it,
tokenised by itself, as at inference. It never goes through the template, which deletes the
thinking (facts.md 8.2). Labels are found through character offsets, so they are exact for every
tokenizer that knows them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from progdata.builders.chat_template import ChatTemplate, PromptRefused
from progdata.builders.continuations import begin_answer
from progdata.builders.errors import ProgdataError

BATCH = 1_000
"""Rows that are tokenised at a time."""

NO_MARKER = -1


@dataclass(frozen=True)
class EncodedRow:
    """One trace as tokens.

    `prompt`, `completion`: int32 token ids, the latter with EOS where the trace is closed.
    `markers`: for each token of the completion, which of the row's markers it shows the label of,
    -1 for none (int32). `labels`, `masked`: of each marker, as the variant table has them.
    `num_tokens`: of the thinking without markers, which all variants of a build have alike.
    """

    trace_id: str
    prompt: NDArray[np.int32]
    completion: NDArray[np.int32]
    markers: NDArray[np.int32]
    labels: NDArray[np.int32]
    masked: NDArray[np.bool_]
    num_tokens: int = 0


@dataclass(frozen=True)
class EncodedRows:
    """The rows that could be encoded, and how many were dropped for which reason."""

    rows: list[EncodedRow]
    dropped: dict[str, int]


class CompletionEncoder:
    """A fast tokenizer that gives every token with its characters.

    Its post-processor is left out: it would trim blanks off the offsets, and add BOS or EOS.
    """

    def __init__(self, tokenizer: Any) -> None:
        from tokenizers import Tokenizer

        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ProgdataError(
                f"tokenizer {tokenizer.name_or_path!r}: has no tokenizer.json, so that no label "
                "can be found among its tokens; convert it to a fast tokenizer"
            )
        self._tokenizer = Tokenizer.from_str(backend.to_str())
        self._tokenizer.post_processor = None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, texts: Sequence[str]) -> list[tuple[NDArray[np.int32], NDArray[np.int64]]]:
        """Of each text the ids, int32[tokens], and their half-open character spans,
        int64[tokens, 2]."""
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [
            (
                np.array(encoding.ids, dtype=np.int32),
                np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2),
            )
            for encoding in encodings
        ]


def label_tokens(offsets: NDArray[np.int64], spans: NDArray[np.int64]) -> NDArray[np.int32]:
    """For each token which label span its characters overlap, -1 for none.

    `offsets`: int64[tokens, 2]; `spans`: int64[labels, 2], rising and disjoint; all half-open.

    >>> label_tokens(np.array([[0, 3], [3, 5], [5, 9]]), np.array([[4, 6]])).tolist()
    [-1, 0, 0]
    """
    if not len(spans):
        return np.full(len(offsets), NO_MARKER, dtype=np.int32)
    starts, ends = offsets[:, 0], offsets[:, 1]
    first = np.searchsorted(spans[:, 1], starts, side="right")  # the first that ends after it
    begins = np.append(spans[:, 0], np.iinfo(np.int64).max)[first]
    return np.where((begins < ends) & (starts < ends), first, NO_MARKER).astype(np.int32)


def encode_rows(table: pa.Table, template: ChatTemplate) -> EncodedRows:
    """Tokenise the rows of a variant table (`schema.VARIANT`) for a model's template.

    A row whose prompt no model should be given is dropped, with `chat_template`'s reason.
    """
    encoder = CompletionEncoder(template.tokenizer)
    rows: list[EncodedRow] = []
    dropped: Counter[str] = Counter()
    for start in range(0, table.num_rows, BATCH):
        batch = table.slice(start, BATCH).to_pylist()
        texts = [answer_text(row, template.prefill) for row in batch]
        for row, text, (ids, offsets) in zip(batch, texts, encoder.encode(texts), strict=True):
            try:
                turns = [(turn["role"], turn["content"]) for turn in row["prompt"]]
                prompt = np.array(template.prompt(turns).token_ids, dtype=np.int32)
            except PromptRefused as error:
                dropped[error.reason] += 1
                continue
            spans = label_spans(row, text)
            eos = template.tokenizer.eos_token_id if is_finished(row) else None
            rows.append(_encoded(row, prompt, ids, label_tokens(offsets, spans), eos))
    return EncodedRows(rows, dict(sorted(dropped.items())))


def answer_text(row: dict[str, Any], prefill: str) -> str:
    """What the model writes after the rendered prompt: the completion without what the template
    has prefilled, or with the `<think>` that it leaves to the model."""
    opening = row["think_opening"]
    return begin_answer(opening, row["completion"][len(opening) :], prefill)


def label_spans(row: dict[str, Any], text: str) -> NDArray[np.int64]:
    """The label spans of a row in its `answer_text`, which differs in its first characters only."""
    moved = len(text) - len(row["completion"])
    spans = [(span["start"] + moved, span["end"] + moved) for span in row["label_spans"]]
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def is_finished(row: dict[str, Any]) -> bool:
    """Whether the model stopped by itself, so that EOS is what it wrote last."""
    return row["think_closed"] and row["finish_reason"] in ("stop", None)


def _encoded(
    row: dict[str, Any],
    prompt: NDArray[np.int32],
    ids: NDArray[np.int32],
    markers: NDArray[np.int32],
    eos: int | None,
) -> EncodedRow:
    if eos is not None:
        ids = np.append(ids, np.int32(eos))
        markers = np.append(markers, np.int32(NO_MARKER))
    return EncodedRow(
        row["trace_id"],
        prompt,
        ids,
        markers,
        np.array(row["labels"], dtype=np.int32),
        np.array(row["masked"], dtype=bool),
        row["num_tokens"],
    )
