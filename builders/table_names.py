"""What the files of the variant tables are called: data/VARIANT/SPLIT-00000-of-00001.parquet."""

from collections.abc import Iterable

DATA = "data/"
"""What the name of every variant table begins with, and of nothing else in a build."""


def tables_of(names: Iterable[str], variant: str, split: str | None = None) -> list[str]:
    """The names of a variant's tables, or of those of one split, in the order of their rows.

    >>> tables_of(["README.md", "data/clean/train-00000-of-00001.parquet"], "clean", "train")
    ['data/clean/train-00000-of-00001.parquet']
    """
    start = f"{DATA}{variant}/" + (f"{split}-" if split else "")
    return sorted(name for name in names if name.startswith(start))
