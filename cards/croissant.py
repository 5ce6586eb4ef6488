"""`croissant.json`: what a build is, in Croissant 1.1 (JSON-LD), with the lineage that the file of
the Hub's own making lacks.

Every data file is named with its sha256; a record set a variant says how to read it. Sources, and
what was done to them, are given in the terms of PROV (https://www.w3.org/TR/prov-o/).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from progdata.builders.table_names import tables_of
from progdata.cards.card_facts import CardFacts
from progdata.cards.card_sources import licence_of, short_path, source_name
from progdata.cards.card_use import about
from progdata.cards.markdown_text import one_line

PARQUET = ["application/vnd.apache.parquet", "application/x-parquet"]
"""The registered type, and the one by which readers of Croissant know the files."""

HUB = "https://huggingface.co/datasets/"

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context of Croissant 1.1, with PROV."""

_TYPES = {
    pa.string(): "sc:Text",
    pa.bool_(): "sc:Boolean",
    pa.int32(): "cr:Int32",
    pa.int64(): "cr:Int64",
    pa.float32(): "cr:Float32",
}


def croissant_text(
    lock: Mapping[str, Any], report: Mapping[str, Any], facts: CardFacts, schema: pa.Schema
) -> str:
    """The text of `croissant.json`, from the content of a lock file and a report.

    `schema`: of the variant tables. README.md, the lock file and this file are not named in it,
    as they name each other.
    """
    content = croissant(lock, report, facts, schema)
    return json.dumps(content, indent=2, ensure_ascii=True) + "\n"


def croissant(
    lock: Mapping[str, Any], report: Mapping[str, Any], facts: CardFacts, schema: pa.Schema
) -> dict[str, Any]:
    """The content of `croissant.json`."""
    release = lock.get("release")
    names = [variant["name"] for variant in lock["recipe"]["variants"]]
    content: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": one_line(facts.pretty_name or lock["recipe"]["name"]),
        "description": about(lock, report).replace("`", ""),
        "keywords": ["reasoning", "progress prediction", "chain of thought"],
        "inLanguage": list(facts.languages),
    }
    if facts.license:
        content["license"] = facts.license
    if facts.authors:
        content["creator"] = [{"@type": "sc:Person", "name": name} for name in facts.authors]
    if facts.citation:
        content["citeAs"] = facts.citation
    if release:
        content["version"] = release["version"]
        content["url"] = HUB + release["name"]
    return content | {
        "prov:wasDerivedFrom": [_entity(own, facts) for own in lock["sources"]],
        "prov:wasGeneratedBy": _activity(lock),
        "distribution": [
            *(_file_object(name, lock["files"][name]) for own in names
              for name in tables_of(lock["files"], own)),
            *(_file_set(name, lock) for name in names),
        ],
        "recordSet": [_record_set(name, schema) for name in names],
    }  # fmt: skip


def _file_object(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{record['bytes']} B",
        "encodingFormat": PARQUET,
        "sha256": record["sha256"],
    }


def _file_set(variant: str, lock: Mapping[str, Any]) -> dict[str, Any]:
    """The files of a variant, which are read as one."""
    return {
        "@type": "cr:FileSet",
        "@id": f"files-of-{variant}",
        "name": f"files of {variant}",
        "encodingFormat": PARQUET,
        "includes": tables_of(lock["files"], variant),
    }


def _record_set(variant: str, schema: pa.Schema) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": variant,
        "name": variant,
        "description": "One row a trace; its split is in the column split.",
        "key": {"@id": f"{variant}/trace_id"},
        "field": [_field(variant, column) for column in schema],
    }


def _field(variant: str, column: pa.Field) -> dict[str, Any]:
    """A column; those that hold structures have a sub-field for each part."""
    own, kind = f"{variant}/{column.name}", column.type
    field: dict[str, Any] = {"@type": "cr:Field", "@id": own, "name": own}
    if pa.types.is_list(kind):
        field |= {"isArray": True, "arrayShape": "-1"}
        kind = kind.value_type
    if pa.types.is_struct(kind):
        parts = [kind.field(index) for index in range(kind.num_fields)]
        return field | {"subField": [_sub_field(variant, column, part) for part in parts]}
    return field | {"dataType": _TYPES[kind], "source": _source(variant, column)}


def _sub_field(variant: str, column: pa.Field, part: pa.Field) -> dict[str, Any]:
    own = f"{variant}/{column.name}/{part.name}"
    return {
        "@type": "cr:Field",
        "@id": own,
        "name": own,
        "dataType": _TYPES[part.type],
        "source": _source(variant, column) | {"transform": {"jsonPath": part.name}},
    }


def _source(variant: str, column: pa.Field) -> dict[str, Any]:
    return {"fileSet": {"@id": f"files-of-{variant}"}, "extract": {"column": column.name}}


def _entity(source: Mapping[str, Any], facts: CardFacts) -> dict[str, Any]:
    """A source as an entity that the dataset was derived from."""
    entity: dict[str, Any] = {
        "@type": "prov:Entity",
        "prov:label": one_line(source_name(source)),
        **_licence(source, facts),
    }
    if source.get("repo"):
        url = f"{HUB}{source['repo']}"
        entity |= {
            "@id": f"{url}/tree/{source['revision']}",
            "url": url,
            "version": source["revision"],
            "sc:identifier": one_line(source["spec"]),
        }
    if "rows" in source:
        entity |= {"sc:size": f"{source['rows']} rows", "sc:identifier": f"seed {source['seed']}"}
    if source.get("files"):
        entity["prov:hadMember"] = [_member(own) for own in source["files"]]
    if source.get("generated"):
        entity["prov:wasGeneratedBy"] = _sampling(source["generated"], facts)
    return entity


def _licence(source: Mapping[str, Any], facts: CardFacts) -> dict[str, str]:
    licence, _ = licence_of(source, facts)
    return {"license": licence} if licence else {}


def _member(file: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "prov:Entity",
        "@id": f"urn:sha256:{file['sha256']}",
        "prov:label": one_line(short_path(file["name"])),
        "sc:contentSize": f"{file['bytes']} B",
    }


def _sampling(generated: Mapping[str, Any], facts: CardFacts) -> dict[str, Any]:
    """The sampling of traces from a model."""
    return {
        "@type": "prov:Activity",
        "prov:label": f"sampling from {one_line(short_path(str(generated['model'])))}",
        "prov:used": [_entity(own, facts) for own in generated.get("problem_sources") or []],
        "prov:wasAssociatedWith": _agent(
            one_line(short_path(str(generated["model"]))), str(generated.get("revision"))
        ),
        "sc:description": json.dumps(
            {name: generated[name] for name in ("engine", "n", "seed", "sampling")}, sort_keys=True
        ),
    }


def _activity(lock: Mapping[str, Any]) -> dict[str, Any]:
    """The build: by which version of progdata, with which recipe, tokenizer and segmenter."""
    tokenizer = lock["tokenizer"]
    used = [
        _used("recipe", lock["recipe_sha256"]),
        _used(f"tokenizer {one_line(short_path(tokenizer['spec']))}", tokenizer["fingerprint"]),
        _used("prompt profile", lock["prompt_profile_sha256"]),
    ]
    segmenter = lock["recipe"]["segmenter"]["name"]
    if lock["segmenter_sha256"]:
        used.append(_used(f"segmenter {segmenter}", lock["segmenter_sha256"]))
    return {
        "@type": "prov:Activity",
        "prov:label": "progdata build",
        "sc:description": f"segmenter {segmenter}; progdata build progdata.lock.json repeats it",
        "prov:wasAssociatedWith": _agent("progdata", lock["progdata"]),
        "prov:used": [*used, *_benchmarks(lock)],
    }


def _benchmarks(lock: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The benchmarks that the problems were held against."""
    for name, own in lock["benchmarks"].items():
        entity = _entity(own["source"], CardFacts())
        yield entity | {"prov:label": f"benchmark {one_line(short_path(name))}"}


def _agent(name: str, version: str) -> dict[str, Any]:
    return {
        "@type": ["prov:SoftwareAgent", "sc:SoftwareApplication"],
        "prov:label": name,
        "sc:softwareVersion": version,
    }


def _used(label: str, sha256: str) -> dict[str, Any]:
    return {"@type": "prov:Entity", "@id": f"urn:sha256:{sha256}", "prov:label": label}
