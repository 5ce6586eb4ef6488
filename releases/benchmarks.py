"""Benchmarks that problems are held against: their names, their items, what was found of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.nearest import did_you_mean
from progdata.builders.sources import Source
from progdata.releases.problems import ProblemRow, find_problems, read_problems


@dataclass(frozen=True)
class Item:
    """A problem of a benchmark."""

    benchmark: str
    row: ProblemRow


@dataclass(frozen=True)
class Benchmarks:
    """The items of benchmarks, and for each, by name, what it was `found` to be: its source's
    record, its items, and how many of its rows could not be read."""

    items: list[Item]
    found: dict[str, Any]


def read_benchmarks(against: Sequence[str]) -> Benchmarks:
    """Benchmarks by path, hub dataset, name or bundle.

    Raises UsageError for an unknown name, ProgdataError for a benchmark without a problem.
    """
    if not against:
        raise UsageError("name at least one benchmark with --against")
    items: list[Item] = []
    found: dict[str, Any] = {}
    for name, source in named_benchmarks(against):
        unreadable: Counter[str] = Counter()
        own = [Item(name, row) for row in read_problems(source, unreadable)]
        if not own:
            raise ProgdataError(f"benchmark {name!r}: holds no problem")
        items += own
        found[name] = {
            "source": source.record,
            "items": len(own),
            "unreadable": dict(sorted(unreadable.items())),
        }
    return Benchmarks(items, found)


def named_benchmarks(against: Sequence[str]) -> Iterator[tuple[str, Source]]:
    """The sources that names, bundles and specs stand for, each under a name of its own."""
    text = files("progdata.releases").joinpath("benchmarks.yaml").read_text("utf-8")
    known = yaml.safe_load(text)
    seen: set[str] = set()
    for spec in against:
        for one in known["bundles"].get(spec, [spec]):
            for name, target in _sources_of(one, known["benchmarks"]):
                if name in seen:
                    name = target
                seen.add(name)
                yield name, find_problems(target)


def _sources_of(spec: str, known: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The names and specs that a spec stands for: a known name, a hub dataset, or files, each of
    which is a benchmark of its own."""
    if spec in known:
        yield spec, known[spec]
    elif spec.startswith(("hf:", "countdown:")):
        yield spec, spec
    else:
        try:
            paths = find_problems(spec).paths
        except ProgdataError as error:
            if "/" in spec or Path(spec).exists():
                raise
            hint = did_you_mean(spec, known)
            raise UsageError(
                f"benchmark {spec!r}: neither a file nor one of {', '.join(known)}{hint}: {error}"
            ) from error
        yield from ((Path(path).name.split(".")[0], path) for path in paths)
