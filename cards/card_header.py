"""The YAML at the head of a dataset card: what the Hub and `datasets` read."""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from importlib.resources import files
from typing import Any

import yaml

from progdata.builders.table_names import tables_of
from progdata.cards.card_facts import CardFacts

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)

_CONFIG = "clean"
"""The variant that is loaded where none is named, if there is one of this name."""


def card_header(
    lock: Mapping[str, Any],
    facts: CardFacts,
    features: Sequence[Mapping[str, Any]],
    sizes: Mapping[str, int],
) -> dict[str, Any]:
    """The fields of the header.

    `lock`: the content of the lock file. `features`: the columns as `datasets` writes them in YAML.
    `sizes`: the uncompressed bytes of each data file, by name.
    """
    names = [variant["name"] for variant in lock["recipe"]["variants"]]
    header: dict[str, Any] = _licence(facts.license) if facts.license else {}
    return header | {
        "language": list(facts.languages),
        "pretty_name": facts.pretty_name or lock["recipe"]["name"],
        "size_categories": [size_category(sum(lock["splits"].values()))],
        "task_categories": ["text-generation"],
        "annotations_creators": ["machine-generated"],
        "source_datasets": source_datasets(lock["sources"]),
        "tags": ["reasoning", "progress-prediction", "chain-of-thought", "progdata"],
        "configs": [_config(name, lock, default_variant(names)) for name in names],
        "dataset_info": [_dataset_info(name, lock, features, sizes) for name in names],
    }


def header_text(header: Mapping[str, Any]) -> str:
    """The header as YAML without its fences; what cannot be seen is written as escapes."""
    text = yaml.safe_dump(dict(header), sort_keys=False, allow_unicode=True, width=1 << 20)
    if any(not own.isprintable() and own != "\n" for own in text):
        text = yaml.safe_dump(dict(header), sort_keys=False, allow_unicode=False, width=1 << 20)
    return text


def default_variant(names: Sequence[str]) -> str:
    """The variant that is loaded where none is named: `clean`, else the first."""
    return _CONFIG if _CONFIG in names else names[0]


def size_category(rows: int) -> str:
    """The Hub's category for so many rows.

    >>> size_category(999), size_category(1000)
    ('n<1K', '1K<n<10K')
    """
    return next((name for limit, name in _SIZES if rows < limit), "100M<n<1B")


def source_datasets(sources: Sequence[Mapping[str, Any]]) -> list[str]:
    """The Hub's ids of the sources that have one; `original` stands for all others."""
    found = dict.fromkeys(own.get("repo") or "original" for own in sources)
    return list(found) or ["original"]


def known_licences() -> dict[str, Any]:
    """The content of `licences.yaml`."""
    return yaml.safe_load(files("progdata.cards").joinpath("licences.yaml").read_text("utf-8"))


def variant_features() -> list[dict[str, Any]]:
    """The columns of a variant table as `datasets` writes them in YAML."""
    return yaml.safe_load(files("progdata.cards").joinpath("features.yaml").read_text("utf-8"))


def _licence(name: str) -> dict[str, str]:
    """The licence as the Hub takes it; one that it does not know is `other` with its name."""
    if name.lower() in known_licences()["hub"]:
        return {"license": name.lower()}
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")
    return {"license": "other", "license_name": slug or "unnamed"}


def _config(name: str, lock: Mapping[str, Any], default: str) -> dict[str, Any]:
    own = {split: tables_of(lock["files"], name, split) for split in lock["splits"]}
    paths = [{"split": split, "path": files} for split, files in own.items() if files]
    config = {"config_name": name, "data_files": paths}
    return config | {"default": True} if name == default else config


def _dataset_info(
    name: str,
    lock: Mapping[str, Any],
    features: Sequence[Mapping[str, Any]],
    sizes: Mapping[str, int],
) -> dict[str, Any]:
    files, splits = lock["files"], []
    for split in lock["splits"]:
        own = tables_of(files, name, split)
        if own:
            rows = sum(files[file]["rows"] for file in own)
            size = sum(sizes[file] for file in own)
            splits.append({"name": split, "num_bytes": size, "num_examples": rows})
    return {
        "config_name": name,
        "features": deepcopy(list(features)),  # else YAML would name one and refer to it
        "splits": splits,
        "download_size": sum(files[file]["bytes"] for file in tables_of(files, name)),
        "dataset_size": sum(split["num_bytes"] for split in splits),
    }
