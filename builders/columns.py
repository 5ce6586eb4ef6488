"""Which columns of a source hold the problem, the answer and the completion of a trace.

Columns are detected by name; a recipe may name them instead. A completion is one text, a list of
generations, a chat, or a reasoning and a content column.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.nearest import did_you_mean
from progdata.builders.thinking import CLOSE, from_reasoning

ALIASES: dict[str, tuple[str, ...]] = {
    "problem": ("problem", "question", "prompt", "instruction", "query"),
    "answer": ("answer", "gold", "gold_answer", "final_answer", "ground_truth"),
    "completion": ("completion", "generation", "response", "output", "model_output"),
    "generations": ("generations",),
    "reasoning": ("reasoning_content", "reasoning"),
    "content": ("content",),
    "messages": ("messages", "conversations"),
    "source": ("source", "data_source"),
    "model": ("model", "model_name", "generator"),
    "finish_reason": ("finish_reason",),
    "sampling": ("sampling",),
    "verdict": ("verdict",),
    "extracted_answer": ("extracted_answer",),
    "generation_complete": ("is_reasoning_complete",),
    "generation_verified": ("correctness_math_verify", "correctness_llama"),
    "generation_finish": ("finish_reasons",),
}
"""For each field of a trace, the column names that are taken for it, the best first."""

TRACES = ("problem", "completion")
PROBLEMS = ("problem", "answer")
"""What a source of traces needs to hold, and a source of problems, which may hold no completion."""

_NAMED = {"problem": "a problem", "answer": "an answer", "completion": "a completion"}
_COMPLETION = {"completion", "generations", "reasoning", "content"}

Columns = Mapping[str, tuple[str, ...]]
"""For each field of a trace, the columns of one source that hold it, the best first."""


class Fields(NamedTuple):
    """What one row of a source says of a trace; texts may still be missing or empty."""

    problem: str
    answer: str | None
    completion: str
    source: str | None
    model: str | None
    finish_reason: str | None
    sampling: dict[str, Any] | None


class RowRefused(ValueError):
    """A row that holds no trace: `reason` for the rejects table, and the evidence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def needed(needs: Sequence[str]) -> str:
    """What a source needs to hold, in words.

    >>> needed(PROBLEMS)
    'a problem and an answer'
    """
    return " and ".join(_NAMED[field] for field in needs)


def detect_columns(
    found: Sequence[str], named: Mapping[str, str], where: str, needs: Sequence[str] = TRACES
) -> Columns:
    """The columns of a source, from the names it has and those that the recipe names.

    Columns of completions are left out where none is needed. Raises UsageError where the recipe
    names a field that no trace has; ProgdataError, naming the columns found, where one that is
    needed is not among them.
    """
    for field, column in named.items():
        if field not in ALIASES:
            raise UsageError(
                f"{where}: a column is named for an unknown field {field!r}"
                f"{did_you_mean(field, ALIASES)}; choose from {', '.join(ALIASES)}"
            )
        if column not in found:
            raise ProgdataError(
                f"{where}: no column {column!r} for {field}; columns found: {', '.join(found)}"
            )
    columns = {
        field: tuple(name for name in names if name in found)
        for field, names in all_columns(named).items()
    }
    columns = {field: names for field, names in columns.items() if names}
    if "completion" not in needs:
        columns = {field: names for field, names in columns.items() if field not in _COMPLETION}
    elif not _holds_completion(columns):
        raise ProgdataError(
            f"{where}: no column holds a completion (looked for completion, generations, "
            f"reasoning_content + content, messages); columns found: {', '.join(found)}"
        )
    if "problem" not in columns and "messages" not in columns:
        raise ProgdataError(
            f"{where}: no column holds the problem (looked for {', '.join(ALIASES['problem'])}); "
            f"columns found: {', '.join(found)}"
        )
    if "answer" in needs and "answer" not in columns:
        raise ProgdataError(
            f"{where}: no column holds the answer (looked for {', '.join(ALIASES['answer'])}); "
            f"columns found: {', '.join(found)}"
        )
    return columns


def all_columns(named: Mapping[str, str]) -> Columns:
    """Every column name that is known, for a source whose rows need not have the same ones."""
    return ALIASES | {field: (column,) for field, column in named.items()}


def _holds_completion(columns: Columns) -> bool:
    whole = {"completion", "generations", "messages"} & columns.keys()
    return bool(whole) or {"reasoning", "content"} <= columns.keys()


def read_fields(row: Mapping[str, Any], columns: Columns, needs: Sequence[str] = TRACES) -> Fields:
    """What a row says of its trace; of its problem alone, with no completion, if none is needed.

    Raises RowRefused where it holds none.
    """
    problem = _problem(row, columns)
    if not problem or problem.isspace():
        raise RowRefused("empty_problem", "the problem is null or empty")
    completion, index = "", None
    if "completion" in needs:
        completion, index = _completion(row, columns)
        if not completion or completion.isspace():
            raise RowRefused("empty_completion", "the completion is null or empty")
    answer = _text(_first(row, columns, "answer"))
    finish = _text(_first(row, columns, "finish_reason"))
    if finish is None and index is not None:
        finish = _text(_item(_first(row, columns, "generation_finish"), index))
    fields = Fields(
        problem,
        answer if answer and answer.strip() else None,
        completion,
        _text(_first(row, columns, "source")),
        _text(_first(row, columns, "model")),
        finish,
        _sampling(_first(row, columns, "sampling"), index),
    )
    _refuse_surrogates(fields)
    return fields


def _problem(row: Mapping[str, Any], columns: Columns) -> str | None:
    value = _first(row, columns, "problem")
    if _is_chat(value):
        return _turn(value, "user")
    problem = _whole_text(value, "problem")
    if not problem and "messages" in columns:
        return _turn(_first(row, columns, "messages"), "user")
    return problem


def _completion(row: Mapping[str, Any], columns: Columns) -> tuple[str | None, int | None]:
    """The row's completion, and its index where it was one of several generations."""
    value = _first(row, columns, "completion")
    if value is not None:
        chat = _is_chat(value)
        return _turn(value, "assistant") if chat else _whole_text(value, "completion"), None
    generations = _first(row, columns, "generations")
    if isinstance(generations, list):
        index = _choose_generation(row, columns, generations)
        return _whole_text(generations[index], "completion"), index
    reasoning, content = _first(row, columns, "reasoning"), _first(row, columns, "content")
    if reasoning is not None and any(name in row for name in columns.get("content", ())):
        return _joined(reasoning, content), None
    messages = _first(row, columns, "messages")
    return _content(content) if messages is None else _turn(messages, "assistant"), None


def _joined(reasoning: Any, content: Any) -> str | None:
    """The completion of a server's answer: its content, after its reasoning where it has one."""
    text = _content(content)
    if reasoning is None:
        return text
    return from_reasoning(_whole_text(reasoning, "completion") or "", text or "")


def _choose_generation(row: Mapping[str, Any], columns: Columns, generations: list[Any]) -> int:
    """The first generation that is complete and verified, by the columns the row has.

    Where no column says whether one is complete, a closed thinking does; where none says whether
    one is verified, the first complete one is taken.
    """
    complete = _first(row, columns, "generation_complete")
    verified = [row[name] for name in columns.get("generation_verified", ()) if row.get(name)]
    for index, text in enumerate(generations):
        if not (_item(complete, index) if complete else CLOSE in str(text)):
            continue
        if not verified or any(_item(marks, index) for marks in verified):
            return index
    raise RowRefused(
        "no_usable_generation", f"none of {len(generations)} generations is complete and verified"
    )


def _is_chat(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _turn(messages: Any, role: str) -> str | None:
    """The text of the last answer of a chat, or of the last question before it."""
    if not isinstance(messages, list):
        return None
    turns = [turn for turn in messages if isinstance(turn, dict)]
    roles = [turn.get("role") or turn.get("from") for turn in turns]
    answers = [i for i, name in enumerate(roles) if name in ("assistant", "gpt")]
    last = answers[-1] if answers else len(turns)
    if role == "user":
        asked = [i for i, name in enumerate(roles[:last]) if name in ("user", "human")]
        return _content(_said(turns[asked[-1]])) if asked else None
    return _joined(turns[last].get("reasoning_content"), _said(turns[last])) if answers else None


def _said(turn: Mapping[str, Any]) -> Any:
    return turn.get("content", turn.get("value"))


def _content(value: Any) -> str | None:
    """What a turn says: a text, or a list of parts that are texts."""
    if _is_chat(value) and all(isinstance(part.get("text"), str) for part in value):
        return "".join(part["text"] for part in value)
    return _whole_text(value, "content")


def _sampling(value: Any, index: int | None) -> dict[str, Any] | None:
    """The sampling struct of the base table; what does not fit its columns is kept as a note."""
    if value is None and index is None:
        return None
    given = value if isinstance(value, dict) else {}
    taken = {
        "sample_index": _integer(given.get("sample_index"), 32),
        "temperature": _number(given.get("temperature")),
        "top_p": _number(given.get("top_p")),
        "max_tokens": _integer(given.get("max_tokens"), 32),
        "seed": _integer(given.get("seed"), 64),
        "note": note if isinstance(note := given.get("note"), str) else None,
    }
    if not isinstance(value, dict):
        taken["note"] = _text(value)
    elif any(taken.get(name) != own for name, own in given.items()):
        taken["note"] = _text(given)
    return taken if index is None else taken | {"sample_index": index}


def _integer(value: Any, bits: int) -> int | None:
    """A whole number that fits a signed integer of so many bits; None for anything else."""
    if not _is_number(value) or value % 1:
        return None
    return int(value) if -(1 << bits - 1) <= value < 1 << bits - 1 else None


def _number(value: Any) -> float | None:
    """A number as a float; None for anything else."""
    return float(value) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    """Whether a value is a number that a float can hold."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max


def _first(row: Mapping[str, Any], columns: Columns, field: str) -> Any:
    """The first value that is not null among the columns of a field."""
    for name in columns.get(field, ()):
        value = row.get(name)
        if value is not None:
            return value
    return None


def _item(values: Any, index: int) -> Any:
    return values[index] if isinstance(values, list) and index < len(values) else None


def _refuse_surrogates(fields: Fields) -> None:
    """Refuse a row whose text cannot be written as UTF-8: JSON allows "\\ud800" alone."""
    texts = fields._asdict() | {"sampling": (fields.sampling or {}).get("note")}
    for name, text in texts.items():
        if text is None or text.isascii():
            continue
        try:
            text.encode()
        except UnicodeEncodeError as error:
            detail = f"the {name} holds a lone surrogate at character {error.start}"
            raise RowRefused("invalid_unicode", detail) from error


def _whole_text(value: Any, field: str) -> str | None:
    """A value that must be one text. Raises RowRefused for a list or an object."""
    if isinstance(value, list) and len(value) == 1:
        return _whole_text(value[0], field)
    if isinstance(value, (list, dict)):
        kind = "a list" if isinstance(value, list) else "an object"
        raise RowRefused(f"{field}_not_text", f"expected a text, found {kind}")
    return _text(value)


def _text(value: Any) -> str | None:
    """A value as text: numbers as written, a list of one as its item, other lists as JSON.

    An empty list or object and NaN, which is how tables of numbers write null, are none. Raises
    RowRefused for bytes that are not UTF-8.
    """
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return _utf8(value)
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=str) if value else None
    return None if value != value else str(value)


def _utf8(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} of a text: {error.reason}"
        raise RowRefused("invalid_utf8", detail) from error
