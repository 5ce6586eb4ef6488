"""The README.md of a build: the YAML by which `datasets` finds its variants, and what it is.

This is the short card that every build carries; its numbers are those of `reports/build.json`.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from progdata.cards.contamination_tables import contamination_card


def build_card(report: Mapping[str, Any]) -> str:
    """The card of a build, from its report."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = files("progdata.cards").joinpath("card.md.jinja").read_text("utf-8")
    header = yaml.safe_dump(card_header(report), sort_keys=False, allow_unicode=True)
    filled = environment.from_string(template).render(
        header=header, report=report, contamination=contamination_card(report["contamination"])
    )
    return filled + "\n"


def card_header(report: Mapping[str, Any]) -> dict[str, Any]:
    """The YAML of the card: one config a variant, one entry a split that has rows."""
    configs = [
        {
            "config_name": name,
            "data_files": [
                {"split": split, "path": f"data/{name}/{split}-*.parquet"}
                for split in variant["rows"]
            ],
        }
        for name, variant in report["variants"].items()
    ]
    configs[0]["default"] = True
    return {
        "language": ["en"],
        "pretty_name": report["name"],
        "task_categories": ["text-generation"],
        "tags": ["reasoning", "progress-prediction", "progdata"],
        "configs": configs,
    }
