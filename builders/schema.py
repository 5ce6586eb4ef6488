"""The tables: base (one row a trace), variant (one row a marked trace), rejects; and their ids.

A *base table* is what every stage reads and writes; a *variant table* is what a trainer reads.
All text stays text; offsets are in Unicode characters; all intervals are half-open.
"""

import hashlib
import unicodedata

import pyarrow as pa

SPAN = pa.struct([pa.field("start", pa.int32()), pa.field("end", pa.int32())])

SAMPLING = pa.struct(
    [
        pa.field("sample_index", pa.int32()),  # which of the problem's samples, from 0
        pa.field("temperature", pa.float32()),
        pa.field("top_p", pa.float32()),
        pa.field("max_tokens", pa.int32()),
        pa.field("seed", pa.int64()),
        pa.field("note", pa.string()),  # what the source says, where it is free text
    ]
)

MESSAGES = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))

TRACE_FIELDS = [
    pa.field("trace_id", pa.string(), nullable=False),
    pa.field("problem_id", pa.string(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
    pa.field("problem", pa.string(), nullable=False),
    pa.field("answer", pa.string()),
    pa.field("prompt_profile", pa.string(), nullable=False),
    pa.field("think_opening", pa.string(), nullable=False),  # "<think>", or "" where prefilled
    pa.field("think_prefilled", pa.bool_(), nullable=False),
    pa.field("think_closed", pa.bool_(), nullable=False),
    pa.field("finish_reason", pa.string()),
    pa.field("model", pa.string()),
    pa.field("sampling", SAMPLING),
    pa.field("num_tokens", pa.int32(), nullable=False),
    pa.field("verdict", pa.string()),
    pa.field("extracted_answer", pa.string()),
    pa.field("pass_rate", pa.float32()),
    pa.field("split", pa.string()),
]

BASE = pa.schema(
    [
        *TRACE_FIELDS,
        pa.field("think", pa.string(), nullable=False),
        pa.field("response", pa.string(), nullable=False),
        pa.field("segments", pa.list_(SPAN), nullable=False),
        pa.field("token_ends", pa.list_(pa.int32()), nullable=False),
    ]
)

VARIANT = pa.schema(
    [
        *TRACE_FIELDS,
        pa.field("prompt", MESSAGES, nullable=False),
        pa.field("completion", pa.string(), nullable=False),
        pa.field("progress", pa.list_(pa.float32()), nullable=False),
        pa.field("labels", pa.list_(pa.int32()), nullable=False),
        pa.field("label_spans", pa.list_(SPAN), nullable=False),
        pa.field("masked", pa.list_(pa.bool_()), nullable=False),
    ]
)

REJECTS = pa.schema(
    [
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string()),  # the evidence: what was found, against what
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),  # line or row number in the file, from 1
        pa.field("trace_id", pa.string()),
        pa.field("problem_id", pa.string()),
        pa.field("raw", pa.string()),  # the refused row as JSON or text, cut at RAW_LIMIT
    ]
)

RAW_LIMIT = 1 << 20
"""Characters of a refused row that `rejects.parquet` keeps; file and row name the rest."""

_ID_CHARS = 32


def content_id(*parts: str | bytes | memoryview) -> str:
    """The first 32 hex digits of the SHA-256 of the parts, each framed by its length.

    Lone surrogates, which JSON allows and UTF-8 does not, are hashed as they stand.

    >>> content_id("ab", "c") == content_id("a", "bc")
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:_ID_CHARS]


def normalise_problem(problem: str) -> str:
    """The problem as `problem_id` sees it: Unicode NFC, runs of white space as one space.

    >>> normalise_problem("  Find\\n  $x$. ")
    'Find $x$.'
    """
    return " ".join(unicodedata.normalize("NFC", problem).split())


def problem_id(problem: str) -> str:
    """The content hash of the normalised problem (32 hex digits)."""
    return content_id(normalise_problem(problem))


def trace_id(problem: str, completion: str | bytes | memoryview, model: str | None) -> str:
    """The content hash of a trace: its problem, its completion as sampled (as text or in UTF-8),
    its model."""
    return content_id(problem, completion, model or "")
