"""The full dataset card of a build: its README.md, made from its lock file and its report.

Every text that comes from data or from a user passes `cards.markdown_text`. What is not known is
said to be missing; nothing is guessed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from progdata.cards.card_defaults import defaults_section
from progdata.cards.card_facts import CardFacts
from progdata.cards.card_header import card_header, default_variant, header_text
from progdata.cards.card_plots import PLOTS
from progdata.cards.card_removals import (
    answers_section,
    contamination_section,
    duplicates_section,
    refused_section,
)
from progdata.cards.card_sources import sources_section, unlicensed
from progdata.cards.card_statistics import statistics_section, variants_section
from progdata.cards.card_use import (
    about,
    citation_section,
    example_section,
    limits_section,
    loading_section,
    rebuild_section,
)
from progdata.cards.markdown_text import code, inline, paragraphs


@dataclass(frozen=True)
class CardContent:
    """All that a card is made from.

    `lock` and `report`: the content of the lock file and of `reports/build.json`. `example`: a row,
    as `releases.card_rows.read_example` gives it. `features`: the columns as `datasets` writes them
    in YAML. `sizes`: the uncompressed bytes of each data file. `plots`: the names of those there.
    """

    lock: Mapping[str, Any]
    report: Mapping[str, Any]
    facts: CardFacts
    example: Mapping[str, Any]
    features: Sequence[Mapping[str, Any]]
    sizes: Mapping[str, int]
    plots: Collection[str]


def dataset_card(content: CardContent) -> str:
    """The text of README.md."""
    lock, report, facts = content.lock, content.report, content.facts
    header = card_header(lock, facts, content.features, content.sizes)
    names = [variant["name"] for variant in lock["recipe"]["variants"]]
    release = lock.get("release")
    title = facts.pretty_name or (release["name"] if release else lock["recipe"]["name"])
    shown = {name: caption for name, caption in PLOTS.items() if name in content.plots}
    filled = _template().render(
        header=header_text(header),
        title=title,
        about=about(lock, report),
        lock=lock,
        report=report,
        facts=facts,
        release=release,
        loading=loading_section(release, default_variant(names)),
        example=example_section(content.example),
        variants=variants_section(lock, report),
        statistics=statistics_section(report),
        plots={"shown": shown, "no_verdicts": shown and "plots/verdicts.png" not in shown},
        answers=answers_section(lock, report),
        refused=refused_section(report),
        duplicates=duplicates_section(report),
        contamination=contamination_section(lock, report),
        sources=sources_section(lock["sources"], facts),
        defaults=defaults_section(lock),
        limits=limits_section(lock, report),
        rebuild=rebuild_section(lock),
        citation=citation_section(facts),
    )
    return filled.rstrip("\n") + "\n"


def missing_facts(lock: Mapping[str, Any], facts: CardFacts) -> list[str]:
    """The facts that the card shows as missing, as fields of `card.yaml`."""
    absent = [name for name in ("license", "authors", "citation") if not getattr(facts, name)]
    return absent + [f"source_licenses: {spec}" for spec in unlicensed(lock["sources"], facts)]


def _template() -> Any:
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "inline": inline,
        "code": code,
        "paragraphs": paragraphs,
        "number": lambda value: f"{value:,}",
    }
    text = files("progdata.cards").joinpath("dataset_card.md.jinja").read_text("utf-8")
    return environment.from_string(text)
