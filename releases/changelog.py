"""What a release changed, in words: the lines of CHANGELOG.md."""

import json
from typing import Any

from progdata.cards.markdown_text import code
from progdata.releases.compared import Differences, Rows, VariantChanges
from progdata.releases.lockfile import LockFile
from progdata.releases.versions import Level, Version

LISTED = 20
"""Entries of one kind (recipe fields, packages, files) that are named; the rest is counted."""

LEVELS: dict[Level, str] = {
    "major": "major: rows, ids, splits or columns of an existing variant changed",
    "minor": "minor: variants or columns were added",
    "patch": "patch: card, recipe or metadata alone changed",
    "none": "patch: nothing but the version changed",
}


def changes_of(differences: Differences) -> list[str]:
    """A line for each thing that changed; in Markdown, with all names and values as code."""
    lines = [f"variant {code(name)} added" for name in differences.variants_added]
    lines += [f"variant {code(name)} removed" for name in differences.variants_removed]
    for name, own in differences.variants.items():
        lines += [f"variant {code(name)}: {line}" for line in _changes_of_variant(own)]
    told = tuple(
        f"variants.{name}." for name in (*differences.variants_added, *differences.variants_removed)
    )
    recipe = [
        f"{code(name)} from {code(_short(old))} to {code(_short(new))}"
        for name, (old, new) in differences.recipe.items()
        if not name.startswith(told)
    ]
    packages = [
        f"{code(name)} {code(old or 'none')} to {code(new or 'none')}"
        for name, (old, new) in differences.versions.items()
    ]
    old, new = differences.default_variant
    if old != new:
        lines.append(f"the variant that is loaded by default is {code(new)}, it was {code(old)}")
    lines += _listed("recipe", recipe)
    lines += _listed("other content of", [code(name) for name in differences.inputs])
    lines += _listed("built with", packages)
    lines += _listed("other bytes in", [code(name) for name in differences.files])
    return lines or ["nothing but the version"]


def first_changes(lock: LockFile) -> list[str]:
    """The lines of a first release."""
    splits = ", ".join(f"{rows:,} in {split}" for split, rows in lock.splits.items())
    variants = ", ".join(code(own.name) for own in lock.recipe.build_variants())
    return [f"first release: rows {splits}; variants {variants}"]


def changelog_text(
    name: str, version: Version, level: Level | None, changes: list[str], earlier: str | None
) -> str:
    """CHANGELOG.md with a new entry on top of the `earlier` ones."""
    title = f"# Changelog of {name}\n"
    heading = f"## {version}" + (f" ({LEVELS[level]})" if level else "")
    entry = "\n".join([heading, "", *(f"- {line}" for line in changes)])
    older = (earlier or "").partition("## ")
    rest = f"\n{older[1]}{older[2]}" if older[1] else ""
    return f"{title}\n{entry}\n{rest}"


def _changes_of_variant(own: VariantChanges) -> list[str]:
    before, after = own.rows
    lines: list[str] = []
    if own.added.count or own.removed.count:
        lines.append(
            f"{before:,} rows became {after:,}: {own.added.count:,} added, "
            f"{own.removed.count:,} removed"
        )
    if own.changed.count:
        columns = ", ".join(f"{code(n)} in {rows:,}" for n, rows in own.changed_columns.items())
        lines.append(f"{_rows(own.changed)} changed ({columns})")
    if own.moved.count:
        lines.append(f"{_rows(own.moved)} moved to another split")
    if own.labels.labels:
        lines.append(
            f"{own.labels.labels:,} labels of {own.labels.rows:,} rows changed, by "
            f"{own.labels.mean_points} points on average"
        )
    if own.reordered:
        lines.append("the rows stand in another order")
    for what, columns in (
        ("added", own.columns_added),
        ("removed", own.columns_removed),
        ("of another type", own.columns_retyped),
    ):
        if columns:
            lines.append(f"columns {what}: {', '.join(map(code, columns))}")
    return lines or ["the same rows in other bytes"]


def _rows(rows: Rows) -> str:
    return f"{rows.count:,} row{'' if rows.count == 1 else 's'}"


def _listed(what: str, entries: list[str]) -> list[str]:
    if not entries:
        return []
    more = f", and {len(entries) - LISTED} more" if len(entries) > LISTED else ""
    return [f"{what}: {', '.join(entries[:LISTED])}{more}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
