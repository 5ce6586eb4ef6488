"""`progdata card`: what the card of a build says, and that a build stays what it was."""

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from build_folder import countdown, published
from datasets import Features
from huggingface_hub import DatasetCard
from shared_data import BENCHMARKS, TOKENIZER, TRACES, needs_shared_data

from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.schema import VARIANT
from progdata.cards.card_facts import CardFacts, read_facts
from progdata.cards.card_header import default_variant, size_category, variant_features
from progdata.cards.card_plots import PLOTS
from progdata.releases.build import build
from progdata.releases.carded import card_files, write_card
from progdata.releases.check import check
from progdata.releases.lockfile import LockFile, ReleaseRecord, lock_text, read_lock
from progdata.releases.recipe import Recipe, load_recipe

FACTS = CardFacts(
    license="cc-by-4.0",
    pretty_name="Progress of countdown",
    authors=["Ada L.", "Bo *M.*"],
    notes="First paragraph.\n\nSecond <b>paragraph</b>.",
    citation="@misc{progress,\n  title = {Progress}\n}",
    source_licenses={"countdown:60": "CC0-1.0"},
)

RELEASE = ReleaseRecord(name="lab/progress", version="1.2.0", previous=None, changes=[])


@pytest.fixture
def folder(countdown_build: Path, tmp_path: Path) -> Path:
    """A build without a card, of its own."""
    return shutil.copytree(countdown_build, tmp_path / "build")


@pytest.fixture(scope="module")
def carded(countdown_build: Path, tmp_path_factory) -> Path:
    """A build with a full card; never written to."""
    folder = shutil.copytree(countdown_build, tmp_path_factory.mktemp("carded") / "build")
    write_card(folder, facts=FACTS)
    return folder


def readme(folder: Path) -> str:
    return (folder / "README.md").read_text("utf-8")


def header(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))


def section(text: str, name: str) -> str:
    return text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


# --- the build stays what it was


def test_a_card_is_recorded_and_every_law_still_holds(folder):
    report = write_card(folder)
    lock = read_lock(folder)
    names = {"README.md", "croissant.json", *PLOTS}
    assert {own["name"] for own in report["files"]} == names
    for own in report["files"]:
        content = (folder / own["name"]).read_bytes()
        assert own["bytes"] == len(content) == lock.files[own["name"]].bytes
        assert lock.files[own["name"]].sha256 == hashlib.sha256(content).hexdigest()
    assert report["missing"] == ["license", "authors", "citation"]
    assert check(folder) == []


def test_a_carded_build_is_still_the_finished_build_of_its_recipe(folder):
    write_card(folder, facts=FACTS)
    before = published(folder)
    build(read_lock(folder).recipe, folder)
    assert published(folder) == before


def test_a_second_card_is_the_same_and_keeps_the_facts(folder):
    write_card(folder, facts=FACTS)
    before = published(folder)
    write_card(folder)
    assert published(folder) == before
    assert read_facts(folder / "card.yaml") == FACTS


def test_facts_that_are_taken_back_leave_the_build(folder):
    write_card(folder, facts=FACTS)
    write_card(folder, facts=CardFacts())
    assert not (folder / "card.yaml").exists()
    assert "card.yaml" not in read_lock(folder).files
    assert "not stated" in readme(folder)


def test_a_card_that_was_killed_before_the_lock_file_is_mended_by_the_next(folder, carded):
    lock = (folder / "progdata.lock.json").read_bytes()
    write_card(folder, facts=FACTS)
    (folder / "progdata.lock.json").write_bytes(lock)
    assert check(folder), "the card is not the declared one"
    write_card(folder, facts=FACTS)
    assert published(folder) == published(carded)
    assert check(folder) == []


def test_what_a_killed_card_left_half_written_goes_with_the_next(folder):
    write_card(folder)
    (folder / ".tmp-1-README.md").write_text("half", "utf-8")
    (folder / "plots" / ".tmp-1-verdicts.png").write_text("half", "utf-8")
    assert {own.law for own in check(folder)} == {"atomic"}
    write_card(folder)
    assert check(folder) == []


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_plot_that_is_not_the_declared_one_is_drawn_again(folder, damage):
    write_card(folder)
    path = folder / "plots" / "verdicts.png"
    drawn = path.read_bytes()
    path.write_bytes(b"other") if damage == "changed" else path.unlink()
    write_card(folder)
    assert path.read_bytes() == drawn
    assert check(folder) == []


def test_card_files_writes_nothing_and_reads_no_row_for_plots_again(carded):
    before = published(carded)
    made = card_files(carded, read_lock(carded), release=RELEASE)
    assert published(carded) == before
    assert {name for name in made if name.startswith("plots/")} == set(PLOTS)
    same = {name for name, own in made.items() if own == (carded / name).read_bytes()}
    assert same == {"card.yaml", *PLOTS}, "README.md and croissant.json name the release"


def test_a_card_names_no_folder_of_this_machine(countdown_build, tmp_path):
    first = card_files(countdown_build, read_lock(countdown_build))
    second = shutil.copytree(countdown_build, tmp_path / "elsewhere")
    assert card_files(second, read_lock(second)) == first
    assert not any(str(countdown_build.parent).encode() in own for own in first.values())


def test_damaged_data_is_not_carded(folder):
    path = folder / "data" / "clean" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ProgdataError, match=r"train-00000.*differs from what the lock file"):
        write_card(folder)
    path.unlink()
    with pytest.raises(ProgdataError, match=r"train-00000.*is not there"):
        write_card(folder)


def test_a_release_is_not_carded(folder):
    lock = read_lock(folder).model_copy(update={"release": RELEASE})
    (folder / "progdata.lock.json").write_text(lock_text(lock), "utf-8")
    with pytest.raises(UsageError, match=r"it is release lab/progress 1\.2\.0; card the build"):
        write_card(folder)


def test_a_folder_that_is_no_build_is_not_carded(tmp_path):
    with pytest.raises(UsageError, match="finished build"):
        write_card(tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- the header


def test_the_header_is_what_the_hub_reads(carded):
    card = DatasetCard.load(carded / "README.md")
    data = card.data.to_dict()
    assert data == header(readme(carded))
    assert data["license"] == "cc-by-4.0"
    assert data["pretty_name"] == "Progress of countdown"
    assert data["size_categories"] == ["n<1K"]
    assert data["source_datasets"] == ["original"]
    assert data["task_categories"] == ["text-generation"]
    defaults = [own["config_name"] for own in data["configs"] if own.get("default")]
    assert defaults == ["clean"]


def test_the_header_repeats_what_variants_share_instead_of_referring_to_it(carded):
    text = readme(carded).split("\n---\n")[0]
    assert not re.search(r": [&*]id\d", text)
    assert text.count("name: think_opening") == 5


def test_the_header_counts_rows_and_bytes(carded):
    lock = read_lock(carded)
    for own in header(readme(carded))["dataset_info"]:
        assert {split["name"]: split["num_examples"] for split in own["splits"]} == lock.splits
        files = [f for name, f in lock.files.items() if f"data/{own['config_name']}/" in name]
        assert own["download_size"] == sum(file.bytes for file in files)
        assert own["dataset_size"] == sum(split["num_bytes"] for split in own["splits"])
        assert own["dataset_size"] > own["download_size"]


def test_datasets_loads_every_variant_by_the_card_with_all_checks(carded, tmp_path):
    from datasets import Dataset, load_dataset

    lock = read_lock(carded)
    for variant in lock.recipe.variants:
        loaded = load_dataset(
            str(carded),
            variant.name,
            cache_dir=str(tmp_path),
            verification_mode="all_checks",
        )
        assert {split: len(rows) for split, rows in loaded.items()} == lock.splits
        table = pq.read_table(carded / "data" / variant.name / "train-00000-of-00001.parquet")
        assert loaded["train"]["completion"][:] == table["completion"].to_pylist()
    own = load_dataset(str(carded), split="train", cache_dir=str(tmp_path))
    assert isinstance(own, Dataset) and own.config_name == "clean"


def test_a_licence_that_the_hub_does_not_know_is_declared_as_another(countdown_build):
    lock = read_lock(countdown_build)
    facts = CardFacts(license="Our House Licence 2")
    text = card_files(countdown_build, lock, facts=facts)["README.md"].decode()
    assert header(text)["license"] == "other"
    assert header(text)["license_name"] == "our-house-licence-2"
    assert "- Licence: Our House Licence 2\n" in text


def test_the_default_variant_is_clean_or_the_first():
    assert default_variant(["noisy", "clean"]) == "clean"
    assert default_variant(["special", "noisy"]) == "special"


@pytest.mark.parametrize(
    ("rows", "category"),
    [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**6, "1M<n<10M")],
)
def test_size_categories(rows, category):
    assert size_category(rows) == category


# --- the body


def test_the_row_is_a_real_one_with_its_markers(carded):
    text = section(readme(carded), "A row")
    rows = pq.read_table(carded / "data" / "clean" / "train-00000-of-00001.parquet").to_pylist()
    (row,) = (row for row in rows if row["trace_id"] in text)
    for column in ("problem", "answer", "completion"):
        assert f"text\n{row[column]}\n```" in text
    assert ", ".join(map(str, row["labels"])) in text
    assert "<progressbar>100%</progressbar>" in text


def test_the_variants_and_statistics_are_those_of_the_report(carded):
    text = readme(carded)
    assert "| `noisy` | 0.05 | plain text | none |" in section(text, "Variants")
    assert "| `masked-special` | none | one of 101 special tokens | 0 to 0.5 |" in section(
        text, "Variants"
    )
    for split, rows in read_lock(carded).splits.items():
        assert f"| `{split}` | {rows} |" in section(text, "Statistics")
    assert "| variant | 2,048 | 8,192 | 16,384 |" in section(text, "Statistics")
    assert "| `correct` |" in section(text, "How answers were checked")
    assert "| `think` | `think_not_closed` |" in section(text, "What was refused")


def test_given_facts_are_shown(carded):
    text = readme(carded)
    assert "\n# Progress of countdown\n" in text
    assert "- Licence: cc-by-4.0\n- Authors: Ada L., Bo \\*M.\\*\n" in text
    assert "First paragraph.\n\nSecond &#60;b&#62;paragraph&#60;/b&#62;." in text
    assert "```bibtex\n@misc{progress,\n  title = {Progress}\n}\n```" in text
    assert "  - licence: CC0-1.0\n" in section(text, "Sources")


def test_missing_facts_are_shown_as_missing(countdown_build):
    text = card_files(countdown_build, read_lock(countdown_build))["README.md"].decode()
    assert "license" not in header(text)
    assert "- Licence: not stated\n- Authors: not stated\n- Version: not released\n" in text
    assert "Of this dataset: not given." in section(text, "Citation")
    assert "were not held against any benchmark" in section(text, "Contamination")


def test_a_release_is_loaded_and_rebuilt_by_its_name_and_version(carded):
    text = card_files(carded, read_lock(carded), release=RELEASE)["README.md"].decode()
    assert 'load_dataset("lab/progress", "clean", revision="v1.2.0")' in section(text, "Load it")
    assert 'progdata.load("lab/progress", version="1.2.0", variant="clean")' in text
    assert "progdata diff rebuilt lab/progress@1.2.0\n" in section(text, "Rebuild it")
    assert "- Version: `1.2.0`\n" in text


def test_a_folder_is_loaded_and_rebuilt_without_a_name(carded):
    text = readme(carded)
    assert 'load_dataset("path/to/this/folder", "clean")' in section(text, "Load it")
    assert "progdata build progdata.lock.json --out rebuilt\n" in section(text, "Rebuild it")
    assert "progdata diff" not in text


def test_the_loading_lines_run(carded, monkeypatch, capsys):
    text = section(readme(carded), "Load it")
    lines = text.partition("```python\n")[2].partition("\n```")[0]
    assert len(lines.splitlines()) == 3
    monkeypatch.setenv("HF_DATASETS_CACHE", str(carded.parent / "cache"))
    exec(lines.replace("path/to/this/folder", str(carded)), {})
    assert "<progressbar>" in capsys.readouterr().out


def test_defaults_follow_the_recipe(tmp_path):
    recipe = countdown(
        30, ["noisy"], splits={"validation": 0.25, "ood_tokens": 3000}, segmenter="tokens:40"
    )
    build(recipe, tmp_path)
    text = card_files(tmp_path, read_lock(tmp_path))["README.md"].decode()
    own = section(text, "What the paper leaves open")
    assert "| sigma of the label noise, as a share of the trace | 0.05 | left open" in own
    assert "| `tokens`, 40 tokens each |" in own
    assert "| 25 % | left open |" in own
    assert "| 3,000 thinking tokens |" in own
    assert "| mask |" not in own


def test_without_verdicts_the_card_says_so_and_has_no_plot_of_them(tmp_path):
    build(countdown(30, ["clean"], verify=False), tmp_path)
    write_card(tmp_path)
    text = readme(tmp_path)
    assert "They were not checked" in section(text, "How answers were checked")
    assert "There is no plot of verdicts" in text
    assert not (tmp_path / "plots" / "verdicts.png").exists()
    assert check(tmp_path) == []


def test_plots_are_the_same_for_every_setting_of_matplotlib(countdown_build, monkeypatch):
    import matplotlib

    lock = read_lock(countdown_build)
    first = card_files(countdown_build, lock)
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30}):
        assert card_files(countdown_build, lock) == first
    for name in PLOTS:
        assert first[name].startswith(b"\x89PNG")
        assert b"Software" not in first[name] and b"matplotlib" not in first[name]


# --- facts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("licence: mit", r"unknown field 'licence'; did you mean 'license'\?"),
        ("languages: [english!]", "languages: 'english!' is no code of a language"),
        ("authors: Ada", "authors: "),
        ("- a", "expected fields and values, found list"),
        ("license: ''", "license: is empty; leave the field out"),
        ("a: [", "not YAML"),
        ('notes: "\\ud800"', "not YAML|lone surrogate"),
    ],
    ids=["unknown", "language", "type", "list", "empty", "yaml", "surrogate"],
)
def test_facts_that_make_no_sense_are_refused_with_file_and_field(tmp_path, content, message):
    path = tmp_path / "card.yaml"
    path.write_text(content, "utf-8")
    with pytest.raises(UsageError, match=message) as caught:
        read_facts(path)
    assert str(path) in str(caught.value)


def test_facts_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none\.yaml: No such file"):
        read_facts(tmp_path / "none.yaml")


def test_an_empty_file_of_facts_says_nothing(tmp_path):
    (tmp_path / "card.yaml").write_text("# nothing yet\n", "utf-8")
    assert read_facts(tmp_path / "card.yaml") == CardFacts()


# --- real traces


@needs_shared_data
def test_the_card_of_real_traces_held_against_a_benchmark(tmp_path):
    recipe = load_recipe(
        None,
        sources=[str(TRACES / "r1_aime2024.jsonl.gz")],
        tokenizer=str(TOKENIZER),
        variants=["clean", "noisy"],
        contamination={"against": str(BENCHMARKS / "aime24.jsonl.gz")},
        limit=60,
    )
    assert isinstance(recipe, Recipe)
    folder = tmp_path / "real"
    build(recipe, folder)
    report = write_card(folder)
    assert check(folder) == []
    text = readme(folder)
    own = section(text, "Contamination")
    digest = hashlib.sha256((BENCHMARKS / "aime24.jsonl.gz").read_bytes()).hexdigest()
    assert "`aime24.jsonl.gz`" in own and f"sha256 `{digest[:16]}`" in own
    assert "hold text of one. They are still in it" in own
    assert "the dataset says" in own
    assert str(TRACES) not in text and str(TOKENIZER) not in text
    assert "source_licenses: r1_aime2024.jsonl.gz" in report["missing"]
    assert "licence: not stated" in section(text, "Sources")


def test_known_sources_have_their_licence_and_what_it_does_not_cover(countdown_build):
    lock = read_lock(countdown_build)
    source = {
        "spec": "hf:open-r1/OpenR1-Math-220k:default#train",
        "repo": "open-r1/OpenR1-Math-220k",
        "config": "default",
        "split": "train",
        "revision": "e4e141ec9dea9f8326f4d347be56105859b2bd68",
    }
    fake: LockFile = lock.model_copy(update={"sources": [source]})
    text = card_files(countdown_build, fake)["README.md"].decode()
    assert header(text)["source_datasets"] == ["open-r1/OpenR1-Math-220k"]
    own = section(text, "Sources")
    assert "  - licence: Apache-2.0\n" in own and "NuminaMath" in own
    assert "revision `e4e141ec9dea9f8326f4d347be56105859b2bd68`" in own


def test_the_columns_of_a_card_are_those_that_datasets_makes_of_the_schema() -> None:
    assert variant_features() == Features.from_arrow_schema(VARIANT)._to_yaml_list()
