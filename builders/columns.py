"""Which columns of a source hold the problem, the answer and the completion of a trace.

Columns are detected by name; a recipe may name them instead. A completion is one text, a list of
generations, a chat, or a reasoning and a content column.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from progdata.builders.errors import ProgdataError
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
    "generation_complete": ("is_reasoning_complete",),
    "generation_verified": ("correctness_math_verify", "correctness_llama"),
    "generation_finish": ("finish_reasons",),
}
"""For each field of a trace, the column names that are taken for it, the best first."""

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


def detect_columns(found: Sequence[str], named: Mapping[str, str], where: str) -> Columns:
    """The columns of a source, from the names it has and those that the recipe names.

    Raises ProgdataError, naming the columns found, where no problem or completion is among them.
    """
    for field, column in named.items():
        if column not in found:
            raise ProgdataError(
                f"{where}: no column {column!r} for {field}; columns found: {', '.join(found)}"
            )
    columns = {
        field: tuple(name for name in names if name in found) for field, names in ALIASES.items()
    } | {field: (column,) for field, column in named.items()}
    columns = {field: names for field, names in columns.items() if names}
    if not _holds_completion(columns):
        raise ProgdataError(
            f"{where}: no column holds a completion (looked for completion, generations, "
            f"reasoning_content + content, messages); columns found: {', '.join(found)}"
        )
    if "problem" not in columns and "messages" not in columns:
        raise ProgdataError(
            f"{where}: no column holds the problem (looked for {', '.join(ALIASES['problem'])}); "
            f"columns found: {', '.join(found)}"
        )
    return columns


def _holds_completion(columns: Columns) -> bool:
    whole = {"completion", "generations", "messages"} & columns.keys()
    return bool(whole) or {"reasoning", "content"} <= columns.keys()


def read_fields(row: Mapping[str, Any], columns: Columns) -> Fields:
    """What a row says of its trace. Raises RowRefused where it holds none."""
    completion, index = _completion(row, columns)
    problem = _text(_first(row, columns, "problem"))
    if not problem and "messages" in columns:
        problem = _turn(_first(row, columns, "messages"), "user")
    if not problem or not problem.strip():
        raise RowRefused("empty_problem", "the problem is null or empty")
    if not completion or not completion.strip():
        raise RowRefused("empty_completion", "the completion is null or empty")
    answer = _text(_first(row, columns, "answer"))
    finish = _text(_first(row, columns, "finish_reason"))
    if finish is None and index is not None:
        finish = _text(_item(_first(row, columns, "generation_finish"), index))
    return Fields(
        problem,
        answer if answer and answer.strip() else None,
        completion,
        _text(_first(row, columns, "source")),
        _text(_first(row, columns, "model")),
        finish,
        _sampling(_first(row, columns, "sampling"), index),
    )


def _completion(row: Mapping[str, Any], columns: Columns) -> tuple[str | None, int | None]:
    """The row's completion, and its index where it was one of several generations."""
    value = _first(row, columns, "completion")
    if isinstance(value, list):
        return _turn(value, "assistant"), None
    if value is not None:
        return _text(value), None
    generations = _first(row, columns, "generations")
    if isinstance(generations, list):
        index = _choose_generation(row, columns, generations)
        return _text(generations[index]), index
    reasoning, content = _first(row, columns, "reasoning"), _first(row, columns, "content")
    if reasoning is not None and content is not None:
        return from_reasoning(str(reasoning), str(content)), None
    messages = _first(row, columns, "messages")
    return (_turn(messages, "assistant") if messages is not None else None), None


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


def _turn(messages: Any, role: str) -> str | None:
    """The text of the last turn of a role in a chat; reasoning kept apart is put back."""
    if not isinstance(messages, list):
        return None
    names = {"user": ("user", "human"), "assistant": ("assistant", "gpt")}[role]
    for turn in reversed(messages):
        if isinstance(turn, dict) and (turn.get("role") or turn.get("from")) in names:
            content = turn.get("content", turn.get("value"))
            reasoning = turn.get("reasoning_content")
            if reasoning:
                return from_reasoning(str(reasoning), str(content or ""))
            return _text(content)
    return None


def _sampling(value: Any, index: int | None) -> dict[str, Any] | None:
    """The sampling struct of the base table, from what the source says."""
    if value is None and index is None:
        return None
    given = value if isinstance(value, dict) else {}
    note = None if value is None or isinstance(value, dict) else _text(value)
    return {
        "sample_index": index if index is not None else given.get("sample_index"),
        "temperature": given.get("temperature"),
        "top_p": given.get("top_p"),
        "max_tokens": given.get("max_tokens"),
        "seed": given.get("seed"),
        "note": note or given.get("note"),
    }


def _first(row: Mapping[str, Any], columns: Columns, field: str) -> Any:
    """The first value that is not null among the columns of a field."""
    return next((v for name in columns.get(field, ()) if (v := row.get(name)) is not None), None)


def _item(values: Any, index: int) -> Any:
    return values[index] if isinstance(values, list) and index < len(values) else None


def _text(value: Any) -> str | None:
    """A value as text: numbers as written, a list of one as its item, other lists as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 1:
        return _text(value[0])
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
