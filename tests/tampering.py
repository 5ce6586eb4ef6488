"""Forge a finished build: change files, and the lock file with them, so that deeper laws break."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from progdata.builders.markers import MarkerGrammar, find_markers, insert, strip
from progdata.builders.schema import REJECTS, VARIANT
from progdata.releases.build import build
from progdata.releases.check import check
from progdata.releases.lockfile import declared_recipe, read_lock
from progdata.releases.recipe import Recipe

COUNTDOWN = {
    "sources": "countdown:60",
    "variants": "all",
    "splits": {"ood_tokens": 1500, "validation": 0.2},
}

LOCK = "progdata.lock.json"
REPORT = "reports/build.json"

Row = dict[str, Any]


def build_in(folder: Path, **fields: Any) -> Path:
    build(Recipe.model_validate(COUNTDOWN | fields), folder)
    return folder


class Forgery:
    """A copy of a build that is being forged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def lock(self) -> dict[str, Any]:
        return self.read_json(LOCK)

    @property
    def variants(self) -> list[str]:
        return [variant["name"] for variant in self.lock["recipe"]["variants"]]

    def file(self, variant: str, split: str) -> Path:
        """The one file of a split."""
        (path,) = (self.folder / "data" / variant).glob(f"{split}-*.parquet")
        return path

    def name(self, variant: str, split: str) -> str:
        return self.name_of(self.file(variant, split))

    def name_of(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def rows(self, variant: str = "clean", split: str = "train") -> list[Row]:
        return pq.read_table(self.file(variant, split)).to_pylist()

    def write_rows(self, variant: str, split: str, rows: list[Row], group: int = 1 << 20) -> None:
        table = pa.Table.from_pylist(rows, VARIANT)
        pq.write_table(table, self.file(variant, split), row_group_size=group)

    def edit_rows(
        self, edit: Callable[[list[Row]], list[Row] | None], *variants: str, split: str = "train"
    ) -> None:
        """Change the rows of a split in some variants, or in all."""
        for variant in variants or self.variants:
            rows = self.rows(variant, split)
            changed = edit(rows)
            self.write_rows(variant, split, rows if changed is None else changed)
        self.declare()

    def edit_row(
        self, edit: Callable[[Row, MarkerGrammar], None], *variants: str, index: int = 4
    ) -> str:
        """Change one row of `train` in some variants, or in all; its trace_id."""
        trace_id = self.rows()[index]["trace_id"]
        for variant in variants or self.variants:
            rows = self.rows(variant)
            edit(rows[index], self.grammar(variant))
            self.write_rows(variant, "train", rows)
        self.declare()
        return trace_id

    def edit_rejects(self, edit: Callable[[list[Row]], list[Row]]) -> None:
        path = self.folder / "rejects.parquet"
        rows = edit(pq.read_table(path).to_pylist())
        pq.write_table(pa.Table.from_pylist(rows, REJECTS), path)
        self.declare()

    def edit_json(self, name: str, edit: Callable[[dict[str, Any]], None]) -> None:
        content = self.read_json(name)
        edit(content)
        (self.folder / name).write_text(json.dumps(content, indent=2), "utf-8")

    def read_json(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / name).read_text("utf-8"))

    def declare(self) -> None:
        """Make the lock file say what the declared files now are."""

        def update(lock: dict[str, Any]) -> None:
            for name, record in lock["files"].items():
                path = self.folder / name
                data = path.read_bytes()
                record |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                if record["rows"] is not None:
                    record["rows"] = pq.read_metadata(path).num_rows

        self.edit_json(LOCK, update)

    def declare_splits(self) -> None:
        """Make the lock file's splits those of the tables."""
        counts = {
            split: len(self.rows(split=split))
            for split in ("train", "validation", "ood")
            if list((self.folder / "data" / "clean").glob(f"{split}-*"))
        }
        self.edit_json(LOCK, lambda lock: lock.update(splits=counts))

    def declare_recipe(self, changes: Mapping[str, Any]) -> None:
        """Change the recipe in the lock file, and its hash with it."""

        def update(lock: dict[str, Any]) -> None:
            lock["recipe"] |= changes
            lock["recipe_sha256"] = declared_recipe(Recipe.model_validate(lock["recipe"]))[1]

        self.edit_json(LOCK, update)

    def grammar(self, variant: str) -> MarkerGrammar:
        plain = read_lock(self.folder).recipe.grammar()
        special = {own["name"]: own["special"] for own in self.lock["recipe"]["variants"]}[variant]
        return MarkerGrammar(plain.tag, plain.format, special, plain.escaped)


def remark(
    row: Row,
    grammar: MarkerGrammar,
    *,
    labels: Mapping[int, int] | None = None,
    moves: Mapping[int, int] | None = None,
) -> None:
    """Mark a row's text again with some labels changed, or some markers moved by characters."""
    grammar = replace(grammar, escaped=False)  # escaped text stays escaped
    found = find_markers(row["completion"], grammar)
    plain = strip(row["completion"], grammar)
    shown = dict(enumerate(row["labels"])) | dict(labels or {})
    sizes = [0]
    for marker in found:
        sizes.append(sizes[-1] + marker.end - marker.start)
    ends = [marker.start - size for marker, size in zip(found, sizes, strict=False)]
    for index, move in (moves or {}).items():
        ends[index] += move
    row["labels"] = [shown[index] for index in range(len(found))]
    row["completion"] = insert(plain, ends, row["labels"], grammar)
    row["label_spans"] = [
        {"start": marker.label_start, "end": marker.label_end}
        for marker in find_markers(row["completion"], grammar)
    ]


def found_in(forgery: Forgery) -> set[tuple[str, str]]:
    """The law and the place of every violation."""
    return {(violation.law, violation.where) for violation in check(forgery.folder)}
