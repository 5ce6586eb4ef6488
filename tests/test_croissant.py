"""`croissant.json`: read by mlcroissant, from the folder it describes."""

import json
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import mlcroissant
import pyarrow.parquet as pq
import pytest

from progdata.cards.card_facts import CardFacts
from progdata.releases.carded import card_files, write_card
from progdata.releases.lockfile import ReleaseRecord, read_lock

FACTS = CardFacts(license="cc-by-4.0", authors=["Ada"], citation="@misc{a}", notes="N")
RELEASE = ReleaseRecord(name="lab/progress", version="1.2.0", previous=None, changes=[])


@pytest.fixture(scope="module")
def folder(countdown_build: Path, tmp_path_factory) -> Path:
    folder = shutil.copytree(countdown_build, tmp_path_factory.mktemp("croissant") / "build")
    write_card(folder, facts=FACTS)
    return folder


@pytest.fixture(scope="module")
def content(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "croissant.json").read_text("utf-8"))


def plain(value: Any) -> Any:
    """A value as mlcroissant reads it, as Arrow does: without prefixes of fields, as text."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {name.rpartition("/")[2]: plain(own) for name, own in value.items()}
    if isinstance(value, list):
        return [plain(own) for own in value]
    return value.item() if hasattr(value, "item") else value


def test_mlcroissant_finds_nothing_wrong(folder):
    issues = mlcroissant.Dataset(jsonld=str(folder / "croissant.json")).metadata.ctx.issues
    assert issues.errors == set()
    missing = {own.partition("Property ")[2] for own in issues.warnings}
    assert missing == {
        '"https://schema.org/datePublished" is recommended, but does not exist.',
        '"https://schema.org/version" is recommended, but does not exist.',
    }, "a build has no date, and no version before it is released"


def test_mlcroissant_reads_the_rows_of_every_variant(folder):
    dataset = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))
    lock = read_lock(folder)
    for variant in lock.recipe.variants:
        table = pq.read_table(folder / "data" / variant.name)
        rows = {row["trace_id"]: row for row in table.to_pylist()}
        found = [plain(row) for row in islice(dataset.records(variant.name), 5)]
        assert len(found) == 5
        for row in found:
            expected = rows[row["trace_id"]]
            assert set(row) == set(expected)
            for column in ("completion", "labels", "label_spans", "prompt", "masked", "split"):
                assert row[column] == expected[column], column
            assert row["progress"] == pytest.approx(expected["progress"])


def test_every_data_file_is_there_with_its_checksum_and_nothing_circular(folder, content):
    lock = read_lock(folder)
    objects = [own for own in content["distribution"] if own["@type"] == "cr:FileObject"]
    assert {own["contentUrl"]: own["sha256"] for own in objects} == {
        name: file.sha256 for name, file in lock.files.items() if name.startswith("data/")
    }
    assert "README.md" not in json.dumps(content)


def test_a_changed_file_is_noticed(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = next((copy / "data" / "noisy").glob("train*"))
    content = json.loads((copy / "croissant.json").read_text("utf-8"))
    name = f"data/noisy/{path.name}"
    content["recordSet"].append(
        {
            "@type": "cr:RecordSet",
            "@id": "one-file",
            "name": "one-file",
            "field": [
                {
                    "@type": "cr:Field",
                    "@id": "one-file/split",
                    "name": "one-file/split",
                    "dataType": "sc:Text",
                    "source": {"fileObject": {"@id": name}, "extract": {"column": "split"}},
                }
            ],
        }
    )
    (copy / "croissant.json").write_text(json.dumps(content), "utf-8")
    records = mlcroissant.Dataset(jsonld=str(copy / "croissant.json")).records("one-file")
    assert next(iter(records)) == {"one-file/split": b"train"}
    path.write_bytes(path.read_bytes() + b"x")
    records = mlcroissant.Dataset(jsonld=str(copy / "croissant.json")).records("one-file")
    with pytest.raises(Exception, match="during the operation Download"):
        next(iter(records))


def test_the_lineage_names_sources_and_the_build(folder, content):
    lock = read_lock(folder)
    (source,) = content["prov:wasDerivedFrom"]
    assert source["prov:label"] == "countdown:60"
    assert source["license"] == "Apache-2.0"
    own = content["prov:wasGeneratedBy"]
    assert own["prov:wasAssociatedWith"]["sc:softwareVersion"] == lock.progdata
    used = {entity["@id"] for entity in own["prov:used"]}
    assert f"urn:sha256:{lock.recipe_sha256}" in used
    assert f"urn:sha256:{lock.tokenizer.fingerprint}" in used


def test_the_lineage_survives_the_reading_as_linked_data(folder):
    from rdflib import Graph, URIRef

    graph = Graph().parse(folder / "croissant.json", format="json-ld")
    prov = "http://www.w3.org/ns/prov#"
    assert len(list(graph.triples((None, URIRef(f"{prov}wasDerivedFrom"), None)))) == 1
    assert len(list(graph.triples((None, URIRef(f"{prov}wasGeneratedBy"), None)))) == 1


def test_sources_of_the_hub_and_of_files_keep_their_revision_and_checksums(folder):
    lock = read_lock(folder)
    hub = {
        "spec": "hf:org/set@main#train",
        "repo": "org/set",
        "config": None,
        "split": "train",
        "revision": "a" * 40,
    }
    file = {"name": "/home/me/traces.jsonl", "bytes": 12, "sha256": "b" * 64}
    files = {"spec": "/home/me/*.jsonl", "files": [file]}
    fake = lock.model_copy(update={"sources": [hub, files]})
    content = json.loads(card_files(folder, fake, facts=FACTS)["croissant.json"])
    first, second = content["prov:wasDerivedFrom"]
    assert first["@id"].endswith(f"/org/set/tree/{'a' * 40}") and "license" not in first
    assert second["prov:hadMember"] == [
        {
            "@type": "prov:Entity",
            "@id": f"urn:sha256:{'b' * 64}",
            "prov:label": "traces.jsonl",
            "sc:contentSize": "12 B",
        }
    ]
    assert "/home/me" not in json.dumps(content)


def test_a_release_has_its_version_and_its_place(folder):
    made = card_files(folder, read_lock(folder), release=RELEASE)
    content = json.loads(made["croissant.json"])
    assert content["version"] == "1.2.0"
    assert content["url"] == "https://huggingface.co/datasets/lab/progress"
    assert content["license"] == "cc-by-4.0"
