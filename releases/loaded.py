"""`progdata.load`: a published release as `datasets` tables, every file proved."""

import glob
from typing import TYPE_CHECKING

from progdata.releases.pulled import find_copy, pull, usual_variant
from progdata.releases.registries import HUB
from progdata.releases.versions import LATEST

if TYPE_CHECKING:
    from datasets import DatasetDict


def load(
    name: str,
    *,
    version: str = LATEST,
    variant: str | None = None,
    split: str | None = None,
    source: str = HUB,
) -> "DatasetDict":
    """The splits of a variant of the release `name` (org/name), as a `datasets.DatasetDict`.

    `variant`: clean unless named, or the first one where there is no clean. `split`: all unless
    named. `source`: "hub", or the folder of a local registry. The rows are those that
    `datasets.load_dataset(name, variant, revision="v" + version)` gives. Raises UsageError where
    there is no such release, variant or split, ProgdataError where a file is not the one that was
    published.
    """
    from datasets import DatasetDict, load_dataset

    _, release, copy = find_copy(f"{name}@{version}", source)
    own = variant or usual_variant(copy.lock)
    pulled = pull(str(release), variants=[own], splits=[split] if split else None, source=source)
    files = pulled.data_files(own)
    literal = {split: [glob.escape(path) for path in paths] for split, paths in files.items()}
    found = load_dataset("parquet", data_files=literal)
    assert isinstance(found, DatasetDict)
    return found
