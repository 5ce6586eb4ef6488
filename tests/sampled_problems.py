"""Problems with several samples each, as rows of a source file."""

import json
from pathlib import Path
from typing import Any


def completion(answer: str | None, think: str = "so it is") -> str:
    return f"<think>{think}" if answer is None else rf"<think>{think}</think> \boxed{{{answer}}}"


def write_source(path: Path, rows: list[Any]) -> str:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
    return str(path)


def sampled(problem: str, gold: str | None, *answers: str | None, **fields: Any) -> list[Any]:
    """Rows of a source: samples of a problem; an answer of None is one that was cut off."""
    row = {"problem": problem, "answer": gold, "source": "made"} | fields
    return [
        row | {"completion": completion(own, f"sample {number}")}
        for number, own in enumerate(answers)
    ]


SOURCE = [
    *sampled("easy", "1", "1", "1", "1"),
    *sampled("fair", "2", "2", "3", None),
    *sampled("hard", "4", "5", "5", None),
    *sampled("prose", "It is larger, as one of the values is so very large.", "6"),
    "not JSON",
    *sampled("open", None, "7", "7.0", "8", None),
    {"problem": "", "answer": "1", "completion": completion("1")},
]
