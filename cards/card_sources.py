"""The sources of a build on its card: what each was, by its checksums, and under which licence."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from progdata.cards.card_facts import CardFacts
from progdata.cards.card_header import known_licences
from progdata.cards.markdown_text import code, inline

FILES = 20
"""Files of a source that the card names; the lock file has all."""

NOT_STATED = "not stated"


def sources_section(sources: Sequence[Mapping[str, Any]], facts: CardFacts) -> str:
    """The list of sources: what each was, its licence, and what that does not cover."""
    lines = []
    for source in sources:
        licence, note = licence_of(source, facts)
        lines.append(f"- {code(source_name(source))}")
        lines.append(f"  - licence: {inline(licence) if licence else NOT_STATED}")
        lines += [f"  - {inline(note)}"] if note else []
        lines += [f"  - {line}" for line in describe_source(source)]
    if unlicensed(sources, facts):
        lines += ["", "Where a licence is not stated, ask the owner of the source before using it."]
    return "\n".join(lines)


def unlicensed(sources: Sequence[Mapping[str, Any]], facts: CardFacts) -> list[str]:
    """The names of the sources whose licence is not known."""
    return [source_name(own) for own in sources if licence_of(own, facts)[0] is None]


def licence_of(source: Mapping[str, Any], facts: CardFacts) -> tuple[str | None, str | None]:
    """The licence of a source and a note on it: as the publisher says, else as we know it."""
    given, known = facts.source_licenses, known_licences()
    repo = source.get("repo")
    names = [source["spec"], repo, f"hf:{repo}", source_name(source)]
    for name in names:
        if name in given:
            return given[name], known["sources"].get(repo, {}).get("note")
    if source["spec"].startswith("countdown:"):
        return known["countdown"]["licence"], known["countdown"]["note"]
    own = known["sources"].get(repo, {})
    return own.get("licence"), own.get("note")


def source_name(source: Mapping[str, Any]) -> str:
    """How the card calls a source: its spec, without the folders of this machine."""
    return short_path(source["spec"])


def short_path(spec: str) -> str:
    """The last part of an absolute path; any other text as it is.

    >>> short_path("/home/me/traces.jsonl"), short_path("hf:org/name@main")
    ('traces.jsonl', 'hf:org/name@main')
    """
    absolute = spec.startswith(("/", "~", "\\")) or spec[1:3] in (":\\", ":/")
    return PurePosixPath(spec.replace("\\", "/")).name or spec if absolute else spec


def describe_source(source: Mapping[str, Any]) -> Iterator[str]:
    """What a source was, one line a file, dataset or setting, as Markdown."""
    if source.get("repo"):
        parts = [f"split {code(source['split'])}", f"revision {code(source['revision'])}"]
        config = [f"config {code(source['config'])}"] if source.get("config") else []
        yield f"dataset {code(source['repo'])}, {', '.join(config + parts)}"
    if "rows" in source:
        yield f"{source['rows']:,} rows, generated with seed {source['seed']}"
    if source.get("generated"):
        yield from _describe_generated(source["generated"])
    own = source.get("files", [])
    for file in own[:FILES]:
        yield describe_file(file)
    if len(own) > FILES:
        yield f"and {len(own) - FILES:,} more files, which the lock file names"


def describe_file(file: Mapping[str, Any]) -> str:
    name = PurePosixPath(file["name"].replace("\\", "/")).name
    return f"{code(name)}, {file['bytes']:,} bytes, sha256 {code(file['sha256'][:16])}"


def _describe_generated(generated: Mapping[str, Any]) -> Iterator[str]:
    model = code(short_path(str(generated["model"])))
    revision = generated.get("revision")
    yield f"sampled from {model}" + (f", revision {code(str(revision))}" if revision else "")
    sampling = ", ".join(f"{name} {value}" for name, value in generated["sampling"].items())
    engine = inline(str(generated["engine"]))
    yield f"{generated['n']} samples a problem, {inline(sampling)}, engine {engine}"
    for problems in generated.get("problem_sources") or []:
        yield f"problems {code(source_name(problems))}: {'; '.join(describe_source(problems))}"
