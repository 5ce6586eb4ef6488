"""Source files as users have them, whole and damaged, and what a build makes of them."""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from progdata.builders.errors import ProgdataError
from progdata.builders.markers import DEFAULT, MarkerGrammar, strip
from progdata.releases.build import build
from progdata.releases.check import check
from progdata.releases.recipe import load_recipe

Content = bytes | pa.Table | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """A finished build: its report, its rows of the first variant, its rejects, and its folder."""

    report: dict[str, Any]
    rows: list[dict[str, Any]]
    rejects: list[dict[str, Any]]
    out: Path

    @property
    def problems(self) -> list[str]:
        return [row["problem"] for row in self.rows]

    @property
    def reasons(self) -> list[tuple[int, str]]:
        """Row number and reason of each reject."""
        return [(reject["row"], reject["reason"]) for reject in self.rejects]


def trace(number: int, **fields: Any) -> dict[str, Any]:
    """A good row, with `fields` in place of its own."""
    return {
        "problem": f"Problem {number}?",
        "answer": str(number),
        "completion": f"<think>\nStep {number}.\n\nWait, check.\n</think>\n\nIt is {number}.",
    } | fields


def jsonl(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


GOOD = [trace(number) for number in range(1, 4)]
GOOD_PROBLEMS = [row["problem"] for row in GOOD]


def write_source(path: Path, content: Content) -> str:
    """Write a source file in the format that its name says; its path as a source spec."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([dict(row) for row in content]), path)
    else:
        data = jsonl(content)
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return str(path)


def plain(outcome: Outcome, grammar: MarkerGrammar = DEFAULT) -> list[str]:
    """The completions of a build without their markers."""
    return [strip(row["completion"], grammar) for row in outcome.rows]


def build_sources(
    out: Path, sources: Sequence[Any], *, shard_bytes: int = 8 << 20, **fields: Any
) -> Outcome:
    """Build these sources; nothing may be lost, and every law must hold on what came out."""
    recipe = load_recipe(None, sources=list(sources), **{"splits": {"validation": 0}} | fields)
    report = build(recipe, out, shard_bytes=shard_bytes)
    first = recipe.variants[0].name
    rows = [
        row
        for path in sorted((out / "data" / first).glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    rejects = read_rejects(out)
    assert report["rows_out"] == len(rows)
    assert report["rows_in"] == len(rows) + len(rejects), "a row was lost"
    assert check(out) == []
    return Outcome(report, rows, rejects, out)


def build_file(
    folder: Path, content: Content, *, name: str = "traces.jsonl", **fields: Any
) -> Outcome:
    """Build one source file in `folder`."""
    return build_sources(folder / "out", [write_source(folder / name, content)], **fields)


def failure(
    out: Path, sources: Sequence[Any], *, error: type[ProgdataError] = ProgdataError, **fields: Any
) -> str:
    """The message of a build that must fail, which publishes nothing."""
    with pytest.raises(ProgdataError) as caught:
        build_sources(out, sources, **fields)
    assert type(caught.value) is error
    visible = [path.name for path in out.iterdir()] if out.is_dir() else []
    assert set(visible) <= {".progdata"}, "a failed build published something"
    message = str(caught.value)
    assert message == " ".join(message.split()), "the message is not one line"
    return message


def file_failure(
    folder: Path, content: Content, *, name: str = "traces.jsonl", **fields: Any
) -> str:
    """The message of a build of one source file that must fail; it names the file."""
    spec = write_source(folder / name, content)
    message = failure(folder / "out", [spec], **fields)
    assert message.startswith(f"{spec}: ")
    return message.removeprefix(f"{spec}: ")


def read_rejects(out: Path) -> list[dict[str, Any]]:
    """The rejects of a build; each must say what was wrong and where."""
    rejects = pq.read_table(out / "rejects.parquet").to_pylist()
    for reject in rejects:
        assert reject["stage"] and reject["reason"] and reject["detail"], reject
        assert Path(reject["file"]).is_file() and reject["row"] >= 1, reject
    return rejects
