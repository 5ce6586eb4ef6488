"""`progdata diff`: what changed from one build or release to another, by trace_id.

Rows are compared by 64-bit hashes of their columns, so that only hashes and ids are held in memory;
two different values have the same hash once in 2**64.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from progdata.builders.errors import ProgdataError
from progdata.builders.table_names import DATA, tables_of
from progdata.cards.card_header import default_variant
from progdata.releases.card_rows import open_table
from progdata.releases.lockfile import LockFile
from progdata.releases.verified_files import Copy
from progdata.releases.versions import Level

EXAMPLES = 5
"""Trace ids that are named of each kind of change."""

OF_A_RELEASE = ("README.md", "CHANGELOG.md", "croissant.json")
"""Files that name the release they are in, and so differ in all of them."""

PLOTS = "plots/"
"""Where the plots of a card lie; they show what else is compared."""


@dataclass(frozen=True)
class Rows:
    """How many rows, and the first few of their trace ids."""

    count: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelChanges:
    """Labels of the rows that are in both: how many rows show others, how many labels those are,
    by how many points on average, and how many rows have another number of labels."""

    rows: int = 0
    labels: int = 0
    mean_points: float = 0.0
    rows_of_other_length: int = 0


@dataclass(frozen=True)
class VariantChanges:
    """What changed in a variant that is in both."""

    rows: tuple[int, int]
    added: Rows = Rows()
    removed: Rows = Rows()
    changed: Rows = Rows()
    moved: Rows = Rows()  # to another split; these count as changed too
    reordered: bool = False
    columns_added: tuple[str, ...] = ()
    columns_removed: tuple[str, ...] = ()
    columns_retyped: tuple[str, ...] = ()
    changed_columns: dict[str, int] = field(default_factory=dict[str, int])
    labels: LabelChanges = LabelChanges()

    @property
    def level(self) -> Level:
        rows = self.added.count + self.removed.count + self.changed.count
        if rows or self.reordered or self.columns_removed or self.columns_retyped:
            return "major"
        return "minor" if self.columns_added else "none"


@dataclass(frozen=True)
class Differences:
    """What changed from `before` to `after`. Dictionaries hold the value before and after."""

    before: str
    after: str
    variants_added: tuple[str, ...]
    variants_removed: tuple[str, ...]
    default_variant: tuple[str, str]  # before, and after
    variants: dict[str, VariantChanges]  # those whose files differ
    recipe: dict[str, tuple[Any, Any]]  # by the path of the field
    inputs: tuple[str, ...]  # sources, benchmarks, tokenizer, segmenter that differ
    versions: dict[str, tuple[str | None, str | None]]  # of packages
    files: tuple[str, ...]  # others that differ: reports, rejects, plots, ...

    @property
    def level(self) -> Level:
        """How much this changes for users of the variants that there were."""
        levels = {own.level for own in self.variants.values()}
        if self.variants_removed or "major" in levels:
            return "major"
        if self.variants_added or "minor" in levels:
            return "minor"
        others = (self.recipe, self.inputs, self.versions, self.files, self.variants)
        switched = self.default_variant[0] != self.default_variant[1]
        return "patch" if switched or any(others) else "none"

    def as_json(self) -> dict[str, Any]:
        """Plain values, with the level."""
        return {**asdict(self), "level": self.level}


def compare(before: Copy, after: Copy) -> Differences:
    """What changed from one copy to another. Files of equal sha256 are not read."""
    old, new = before.lock, after.lock
    names, new_names = _variants(old), _variants(new)
    differing = {
        name: _compare_variant(name, before, after)
        for name in names
        if name in new_names and _records(old, name) != _records(new, name)
    }
    others = {
        name
        for name in {*old.files, *new.files}
        if not name.startswith((DATA, PLOTS))
        and name not in OF_A_RELEASE
        and old.files.get(name) != new.files.get(name)
    }
    inputs = ("sources", "benchmarks", "tokenizer", "segmenter_model", "segmenter_sha256",
              "prompt_profile_sha256")  # fmt: skip
    return Differences(
        before.label,
        after.label,
        tuple(name for name in new_names if name not in names),
        tuple(name for name in names if name not in new_names),
        (default_variant(names), default_variant(new_names)),
        differing,
        _changed(_by_path(old.recipe.model_dump()), _by_path(new.recipe.model_dump())),
        tuple(name for name in inputs if getattr(old, name) != getattr(new, name)),
        _changed(old.versions, new.versions),
        tuple(sorted(others)),
    )


def _variants(lock: LockFile) -> list[str]:
    return [variant.name for variant in lock.recipe.build_variants()]


def _records(lock: LockFile, variant: str) -> dict[str, str]:
    return {name: lock.files[name].sha256 for name in tables_of(lock.files, variant)}


def _compare_variant(variant: str, before: Copy, after: Copy) -> VariantChanges:
    old, new = (_Table.read(own, variant) for own in (before, after))
    shared = [name for name in old.types if name in new.types]
    retyped = tuple(name for name in shared if old.types[name] != new.types[name])
    compared = [name for name in shared if name not in (*retyped, "trace_id")]
    joined = old.rows.join(new.rows, on="trace_id", suffix="_after", maintain_order="left")
    differs = {name: joined[name] != joined[f"{name}_after"] for name in compared}
    differs = {name: own for name, own in differs.items() if own.any()}
    nowhere = pl.Series([False] * len(joined), dtype=pl.Boolean)
    changed = nowhere
    for own in differs.values():
        changed = changed | own
    ids, old_ids, new_ids = (own["trace_id"] for own in (joined, old.rows, new.rows))
    shared_order = new_ids.filter(new_ids.is_in(ids.implode()))
    return VariantChanges(
        rows=(len(old_ids), len(new_ids)),
        added=_named(new_ids.filter(~new_ids.is_in(old_ids.implode()))),
        removed=_named(old_ids.filter(~old_ids.is_in(new_ids.implode()))),
        changed=_named(ids.filter(changed)),
        moved=_named(ids.filter(differs.get("split", nowhere))),
        reordered=not ids.equals(shared_order),
        columns_added=tuple(name for name in new.types if name not in old.types),
        columns_removed=tuple(name for name in old.types if name not in new.types),
        columns_retyped=retyped,
        changed_columns={name: int(own.sum()) for name, own in differs.items()},
        labels=_compare_labels(variant, before, after, ids, differs.get("labels")),
    )


@dataclass(frozen=True)
class _Table:
    """A variant's columns, and its rows: trace_id and the hash of each column."""

    types: dict[str, str]
    rows: pl.DataFrame

    @classmethod
    def read(cls, copy: Copy, variant: str) -> "_Table":
        types: dict[str, str] = {}
        hashed: list[pl.DataFrame] = []
        for path in _files(copy, variant):
            with open_table(path) as file:
                types = {own.name: str(own.type) for own in file.schema_arrow}
                for group in range(file.num_row_groups):
                    table = pl.DataFrame(file.read_row_group(group))
                    others = [pl.col(name).hash() for name in types if name != "trace_id"]
                    hashed.append(table.select("trace_id", *others))
        empty = pl.DataFrame(schema=dict.fromkeys(types, pl.UInt64) | {"trace_id": pl.String})
        rows = pl.concat([empty, *(own.select(empty.columns) for own in hashed)])
        if rows["trace_id"].is_duplicated().any():
            raise ProgdataError(
                f"{copy.label}: variant {variant} holds a trace_id twice, so its rows cannot be "
                "told apart; `progdata check` names them"
            )
        return cls(types, rows)


def _compare_labels(
    variant: str, before: Copy, after: Copy, ids: pl.Series, differs: pl.Series | None
) -> LabelChanges:
    """How the labels of the rows that are in both differ."""
    if differs is None:
        return LabelChanges()
    wanted = ids.filter(differs).implode()
    tables = [
        pl.concat(
            pl.read_parquet(path, columns=["trace_id", "labels"]).filter(
                pl.col("trace_id").is_in(wanted)
            )
            for path in _files(copy, variant)
        )
        for copy in (before, after)
    ]
    pairs = tables[0].join(tables[1], on="trace_id", suffix="_after")
    same = pairs.filter(pl.col("labels").list.len() == pl.col("labels_after").list.len())
    old, new = (same[name].explode().cast(pl.Int64) for name in ("labels", "labels_after"))
    points = (old - new).abs()
    other = points.filter(points > 0)
    return LabelChanges(
        rows=len(pairs),
        labels=len(other),
        mean_points=round(float(other.mean() or 0.0), 2),  # type: ignore[arg-type]
        rows_of_other_length=len(pairs) - len(same),
    )


def _files(copy: Copy, variant: str) -> list[Path]:
    return [copy.path(name) for name in _records(copy.lock, variant)]


def _named(ids: pl.Series) -> Rows:
    return Rows(len(ids), tuple(ids.head(EXAMPLES)))


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = [*before, *(name for name in after if name not in before)]
    pairs = {name: (before.get(name), after.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _by_path(content: Mapping[str, Any] | Sequence[Any], prefix: str = "") -> dict[str, Any]:
    """Values of nested sections by their paths; entries of a list that have a name go by it.

    >>> _by_path({"splits": {"validation": 0.05}, "variants": [{"name": "clean", "sigma": 0.0}]})
    {'splits.validation': 0.05, 'variants.clean.name': 'clean', 'variants.clean.sigma': 0.0}
    """
    if isinstance(content, Mapping):
        entries = list(content.items())
    else:
        named = all(isinstance(own, Mapping) and "name" in own for own in content)
        entries = [(own["name"] if named else place, own) for place, own in enumerate(content)]
    flat: dict[str, Any] = {}
    for name, value in entries:
        path = f"{prefix}{name}"
        if isinstance(value, (Mapping, list)) and value:
            flat |= _by_path(value, f"{path}.")
        else:
            flat[path] = value
    return flat
