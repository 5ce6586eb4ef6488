"""What a dataset is, how it is loaded, rebuilt and cited, and what it is not, on its card."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from progdata.cards.card_facts import CardFacts
from progdata.cards.card_sources import short_path
from progdata.cards.markdown_text import code, fence, inline, markdown_table

EXAMPLE_CHARACTERS = 1_500
"""Characters of each text of the row that the card shows."""

_LABELS = 12
_FOLDER = "path/to/this/folder"


def about(lock: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """One paragraph: what this dataset is."""
    markers = lock["recipe"]["markers"]
    variants = len(lock["recipe"]["variants"])
    special = all(own["special"] for own in lock["recipe"]["variants"])
    label = "[37%]" if special else markers["format"].replace("{label}", "37")
    marker = f"<{markers['tag']}>{label}</{markers['tag']}>"
    return (
        f"{report['rows_out']:,} reasoning traces of {report['problems']:,} problems, with "
        f"progress markers, in {variants} {'variants' if variants != 1 else 'variant'}. After each "
        f"segment of the thinking stands a marker such as {code(marker)}: the share of the "
        "thinking's tokens that is written by then. It is data for models that say how far along "
        "they are."
    )


def loading_section(release: Mapping[str, Any] | None, variant: str) -> str:
    """The three lines that load it: from the Hub at its version, or from a folder."""
    place, revision = json.dumps(_FOLDER), ""
    if release:
        place = json.dumps(release["name"], ensure_ascii=False)
        revision = f", revision={json.dumps(tag_of(release), ensure_ascii=False)}"
    name = json.dumps(variant, ensure_ascii=False)
    lines = [
        "from datasets import load_dataset",
        f"dataset = load_dataset({place}, {name}{revision})",
        'print(next(iter(dataset.values()))[0]["completion"])',
    ]
    blocks = [fence("\n".join(lines), info="python")]
    if release:
        version = json.dumps(release["version"], ensure_ascii=False)
        arguments = f"{place}, version={version}, variant={name}"
        own = f"import progdata\ndataset = progdata.load({arguments})"
        blocks += ["Or with its checksums proved:", fence(own, info="python")]
    return "\n\n".join(blocks)


def tag_of(release: Mapping[str, Any]) -> str:
    """The tag of a release on the Hub: its version, with a `v` before it."""
    return f"v{release['version']}"


def example_section(row: Mapping[str, Any]) -> str:
    """A row as it stands there, with its labels in each variant."""
    tokens = f"{row['num_tokens']:,} thinking tokens"
    model = f", by {code(short_path(row['model']))}" if row["model"] else ""
    verdict = f", verdict {code(row['verdict'])}" if row["verdict"] else ""
    answer = "none" if row["answer"] is None else fence(row["answer"], EXAMPLE_CHARACTERS)
    texts = [
        f"{code(row['trace_id'])}, from {code(row['split'])}, {tokens}{model}{verdict}. Characters "
        "that cannot be seen are written as their code.",
        "The problem:",
        fence(row["problem"], EXAMPLE_CHARACTERS),
        "The gold answer:" if row["answer"] is not None else "It has no gold answer.",
        *([answer] if row["answer"] is not None else []),
        f"The completion, in the variant {code(row['variant'])}:",
        fence(row["completion"], EXAMPLE_CHARACTERS),
        "Its labels in each variant:",
        markdown_table(
            ["variant", "labels", "masked"],
            [
                [code(name), _some(labels), _some(_places(row["masked"][name]), "none")]
                for name, labels in row["labels"].items()
            ],
        ),
    ]
    return "\n\n".join(texts)


def limits_section(lock: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """What this dataset does not say or hold."""
    return "\n".join(f"- {limit}" for limit in _limits(lock, report))


def rebuild_section(lock: Mapping[str, Any]) -> str:
    """The commands that make it again, what they need, and the versions that made it."""
    release = lock.get("release")
    commands = ["progdata build progdata.lock.json --out rebuilt", "progdata check rebuilt"]
    if release:
        commands.append(
            f"progdata diff rebuilt {_word(release['name'])}@{_word(release['version'])}"
        )
    tokenizer = lock["tokenizer"]
    needs = [
        "- the sources above, with these checksums or revisions",
        f"- the tokenizer {code(short_path(tokenizer['spec']))}, sha256 "
        f"{code(tokenizer['fingerprint'][:16])}"
        + (f", revision {code(tokenizer['revision'])}" if tokenizer["revision"] else ""),
    ]
    if lock["segmenter_sha256"]:
        model = short_path(lock["recipe"]["segmenter"]["model"])
        needs.append(f"- the SaT model {code(model)}, sha256 {code(lock['segmenter_sha256'][:16])}")
    if lock["benchmarks"]:
        needs.append("- the benchmarks above, with these checksums or revisions")
    if lock["recipe"]["generate"]:
        needs.append("- the samples: the model is asked again for those that are not there")
    versions = [[code(name), code(own)] for name, own in sorted(lock["versions"].items())]
    return "\n\n".join(
        [
            "The same recipe on the same inputs gives the same bytes. With progdata "
            f"{code(lock['progdata'])}:",
            fence("\n".join(commands), info="bash"),
            "It needs:",
            "\n".join(needs),
            f"Recipe: sha256 {code(lock['recipe_sha256'])}. Versions that were installed:",
            markdown_table(["package", "version"], versions),
        ]
    )


def citation_section(facts: CardFacts) -> str:
    """How to cite it, as the publisher says, and the paper whose setting it follows."""
    own = fence(facts.citation, info="bibtex") if facts.citation else "Of this dataset: not given."
    return (
        f"{own}\n\nThe setting is that of: Hans Peter Lyngsøe Raaschou-Jensen, Constanza Fierro "
        "and Anders Søgaard, *Real-Time Progress Prediction in Reasoning Language Models*, "
        "[arXiv 2506.23274](https://arxiv.org/abs/2506.23274)."
    )


def _limits(lock: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    recipe = lock["recipe"]
    yield (
        "A label is the share of the thinking's tokens that is written. It is no measure of "
        "difficulty, of work done, or of the probability to succeed, and is known only once the "
        "thinking is over."
    )
    yield (
        f"Shares are counted by the tokenizer {code(short_path(recipe['tokenizer']))}; another one "
        "gives slightly other labels."
    )
    if any(own["spec"].startswith("countdown:") for own in lock["sources"]):
        yield (
            "Countdown traces are generated by a program from a few phrases: genuine searches, but "
            "no model's thinking."
        )
    if report["verify"]:
        grader = code(report["verify"]["grader"])
        yield (
            f"A verdict is what {grader} says of the final answer. It can be mistaken, and says "
            "nothing of the steps before."
        )
    else:
        yield "No answer was checked: traces may end in wrong answers."
    if recipe["segmenter"]["name"] == "sat":
        yield (
            "Segments were cut by a model; `progdata check` proves that they tile the text, not "
            "that the model would cut there again."
        )
    if recipe["policies"]["cut_traces"] == "reject":
        yield "Traces that were cut off while thinking are not here, so very long ones are rarer."
    yield "`ood` differs from the rest by its length alone."
    if any(own["mask_max"] for own in recipe["variants"]):
        yield "Masks are drawn once; training for several epochs sees the same ones."
    yield from _unseen(report)
    if report["contamination"] is None:
        yield "It may hold problems of benchmarks: it was not held against any."
    yield "Languages are as the publisher states them. Texts were not searched for personal data."


def _unseen(report: Mapping[str, Any]) -> Iterator[str]:
    """What the shortest training context leaves out."""
    variant, own = next(iter(report["variants"].items()))
    context, shown = next(iter(own["contexts"].items()))
    if shown["markers"] is not None and shown["markers"] < 1:
        share = f"{100 * shown['markers']:.1f} % of the markers of {code(variant)}"
        yield f"A training context of {int(context):,} tokens shows {share}, chiefly early ones."


def _word(text: str) -> str:
    """A word of a command line; one that a shell would read otherwise is only named."""
    return text if re.fullmatch(r"[\w./-]+", text) else "NAME"


def _places(masked: list[bool]) -> list[int]:
    """Which markers are masked, from 1."""
    return [place for place, own in enumerate(masked, start=1) if own]


def _some(values: list[int], nothing: str = "-") -> str:
    shown = ", ".join(f"{value}" for value in values[:_LABELS])
    return inline(shown + (", ..." if len(values) > _LABELS else "")) or nothing
