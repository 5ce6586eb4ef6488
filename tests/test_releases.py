"""Releases in a registry of a plain folder: versions, changes, what is refused, what is read."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from build_folder import countdown, published

import progdata
from progdata.builders.errors import LawError, ProgdataError, UsageError
from progdata.releases.build import build
from progdata.releases.check import check
from progdata.releases.lockfile import is_inside, read_lock
from progdata.releases.pulled import pull
from progdata.releases.pushed import push
from progdata.releases.recipe import load_recipe
from progdata.releases.release_record import read_record
from progdata.releases.released import list_releases

NAME = "org/count"
LOCK = "progdata.lock.json"

Builds = dict[str, Path]


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    """Builds of 60 rows: `first`; `patch`, `minor` and `major` changes of it."""
    folder = tmp_path_factory.mktemp("builds")
    recipes = {
        "first": countdown(60, ["clean"]),
        "patch": countdown(60, ["clean"], verify={"memory_mb": 600}),
        "minor": countdown(60, ["clean", "noisy"]),
        "major": countdown(60, ["clean"], seed=1),
        "noisy": countdown(60, ["noisy"]),
    }
    for name, recipe in recipes.items():
        build(recipe, folder / name)
    return {name: folder / name for name in recipes}


class Registry:
    """A registry in a new folder, by the commands' functions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.where = str(folder)

    def push(self, build: Path, version: str | None, **options: Any) -> dict[str, Any]:
        return push(build, NAME, version, to=self.where, **options)

    def files(self, version: str) -> dict[str, str]:
        return published(self.folder / NAME / f"v{version}")

    def names(self) -> list[str]:
        return sorted(path.name for path in (self.folder / NAME).glob("[!.]*"))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


class TestPush:
    def test_a_release_holds_every_file_of_its_lock_and_is_a_build_that_checks(
        self, registry: Registry, builds: Builds
    ) -> None:
        report = registry.push(builds["first"], "1.0.0")
        folder = registry.folder / NAME / "v1.0.0"
        lock = read_lock(folder)
        assert report["status"] == "published"
        assert set(registry.files("1.0.0")) == {*lock.files, LOCK}
        assert {"README.md", "CHANGELOG.md", "croissant.json"} <= set(lock.files)
        assert check(folder) == []
        assert lock.release and (lock.release.name, lock.release.version) == (NAME, "1.0.0")

    def test_the_build_is_left_as_it_was(self, registry: Registry, builds: Builds) -> None:
        before = published(builds["first"])
        registry.push(builds["first"], "1.0.0")
        assert published(builds["first"]) == before

    def test_the_same_bytes_again_are_a_no_op(self, registry: Registry, builds: Builds) -> None:
        first = registry.push(builds["first"], "1.0.0")
        files, names = registry.files("1.0.0"), registry.names()
        again = registry.push(builds["first"], "1.0.0")
        assert again["status"] == "already there"
        assert again["lock_sha256"] == first["lock_sha256"]
        assert (registry.files("1.0.0"), registry.names()) == (files, names)

    def test_an_old_release_can_be_pushed_again_after_newer_ones(
        self, registry: Registry, builds: Builds
    ) -> None:
        registry.push(builds["first"], "1.0.0")
        registry.push(builds["minor"], "1.1.0")
        assert registry.push(builds["first"], "1.0.0")["status"] == "already there"

    @pytest.mark.parametrize(
        ("change", "least"), [("patch", "1.0.1"), ("minor", "1.1.0"), ("major", "2.0.0")]
    )
    def test_the_least_version_follows_from_what_changed(
        self, registry: Registry, builds: Builds, change: str, least: str
    ) -> None:
        registry.push(builds["first"], "1.0.0")
        planned = registry.push(builds[change], None, dry_run=True)
        assert (planned["least_version"], planned["level"]) == (least, change)
        with pytest.raises(UsageError, match=f"give --version {least}"):
            registry.push(builds[change], None)
        assert registry.push(builds[change], least)["status"] == "published"

    @pytest.mark.parametrize(
        ("change", "version"), [("minor", "1.0.1"), ("major", "1.0.1"), ("major", "1.1.0")]
    )
    def test_a_version_that_promises_too_little_is_refused(
        self, registry: Registry, builds: Builds, change: str, version: str
    ) -> None:
        registry.push(builds["first"], "1.0.0")
        with pytest.raises(UsageError, match=f"{version} is too low: the least version that fits"):
            registry.push(builds[change], version)
        assert registry.names() == ["v1.0.0", "v1.0.0.yaml"]

    def test_a_version_below_the_latest_is_refused(
        self, registry: Registry, builds: Builds
    ) -> None:
        registry.push(builds["first"], "2.0.0")
        with pytest.raises(UsageError, match=r"1.9.0 is lower than the latest release, 2.0.0"):
            registry.push(builds["minor"], "1.9.0")

    def test_a_higher_version_than_needed_is_allowed(
        self, registry: Registry, builds: Builds
    ) -> None:
        registry.push(builds["first"], "1.0.0")
        assert registry.push(builds["patch"], "3.0.0")["status"] == "published"

    def test_other_bytes_under_a_published_version_are_refused(
        self, registry: Registry, builds: Builds
    ) -> None:
        registry.push(builds["first"], "1.0.0")
        with pytest.raises(UsageError, match=r"1.0.0 is published with other bytes"):
            registry.push(builds["major"], "1.0.0")

    def test_a_dry_run_writes_nothing(self, registry: Registry, builds: Builds) -> None:
        report = registry.push(builds["first"], "1.0.0", dry_run=True)
        assert (report["status"], report["commit"]) == ("planned", None)
        assert not registry.folder.exists()

    def test_a_broken_law_stops_a_push(
        self, registry: Registry, builds: Builds, tmp_path: Path
    ) -> None:
        out = tmp_path / "broken"
        build(countdown(20, ["clean"]), out)
        (out / "rejects.parquet").write_bytes(b"PAR1")
        with pytest.raises(LawError, match=r"law 'declared' is broken: rejects.parquet"):
            registry.push(out, "1.0.0")
        assert not registry.folder.exists()

    def test_a_table_that_changes_after_the_check_is_not_published(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        out = tmp_path / "changed"
        build(countdown(20, ["clean"]), out)
        registry.push(out, "1.0.0", dry_run=True)  # proves it
        path = out / "data" / "clean" / "train-00000-of-00001.parquet"
        content = bytearray(path.read_bytes())
        content[200] ^= 1
        path.write_bytes(content)
        with pytest.raises(ProgdataError, match=r"train-00000-of-00001.parquet"):
            registry.push(out, "1.0.0")
        assert registry.names() == []

    def test_what_is_no_build_is_refused(self, registry: Registry, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="expected the folder of a finished build"):
            registry.push(tmp_path, "1.0.0")

    def test_a_registry_that_is_a_file_is_refused(self, builds: Builds, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UsageError, match="is a file; expected `hub` or the folder"):
            push(builds["first"], NAME, "1.0.0", to=str(tmp_path / "file"))

    def test_a_folder_cannot_be_made_private(self, registry: Registry, builds: Builds) -> None:
        with pytest.raises(UsageError, match="--private is for the Hub"):
            registry.push(builds["first"], "1.0.0", private=True)

    def test_unchanged_files_are_stored_once(self, registry: Registry, builds: Builds) -> None:
        registry.push(builds["first"], "1.0.0")
        registry.push(builds["minor"], "1.1.0")
        name = Path("data", "clean", "train-00000-of-00001.parquet")
        own = registry.folder / NAME
        assert (own / "v1.0.0" / name).samefile(own / "v1.1.0" / name)

    def test_a_file_that_left_is_not_in_the_next_release(
        self, registry: Registry, builds: Builds
    ) -> None:
        registry.push(builds["minor"], "1.0.0")
        report = registry.push(builds["first"], "2.0.0")
        assert {name.split("/")[1] for name in report["removed_files"] if "data" in name} == {
            "noisy"
        }
        assert not any("noisy" in name for name in registry.files("2.0.0"))

    def test_a_release_can_be_pushed_to_another_registry_as_it_is(
        self, registry: Registry, builds: Builds, tmp_path: Path
    ) -> None:
        registry.push(builds["first"], "1.0.0")
        pulled = pull(f"{NAME}@1.0.0", source=registry.where, out=tmp_path / "pulled").folder
        other = Registry(tmp_path / "other")
        other.push(pulled, "1.0.0")
        assert other.files("1.0.0") == registry.files("1.0.0")
        with pytest.raises(UsageError, match="only be pushed under its own name and version"):
            other.push(pulled, "1.0.1")


class TestChangelog:
    def test_it_has_an_entry_for_each_release_the_latest_on_top(
        self, registry: Registry, builds: Builds
    ) -> None:
        registry.push(builds["first"], "1.0.0")
        registry.push(builds["minor"], "1.1.0")
        registry.push(builds["first"], "2.0.0")
        text = (registry.folder / NAME / "v2.0.0" / "CHANGELOG.md").read_text("utf-8")
        heads = [line for line in text.splitlines() if line.startswith("#")]
        assert heads[0] == f"# Changelog of {NAME}"
        assert [head.split()[1] for head in heads[1:]] == ["2.0.0", "1.1.0", "1.0.0"]
        assert "- variant `noisy` added" in text
        assert "- variant `noisy` removed" in text

    def test_another_default_variant_is_told(self, registry: Registry, builds: Builds) -> None:
        registry.push(builds["noisy"], "1.0.0")
        report = registry.push(builds["minor"], None, dry_run=True)
        default = "the variant that is loaded by default is `clean`, it was `noisy`"
        assert (report["level"], default in report["changes"]) == ("minor", True)

    def test_releases_are_listed_with_what_each_changed(
        self, registry: Registry, builds: Builds
    ) -> None:
        registry.push(builds["first"], "1.0.0")
        registry.push(builds["minor"], "1.1.0")
        listed = list_releases(NAME, source=registry.where)["releases"]
        assert [own["version"] for own in listed] == ["1.1.0", "1.0.0"]
        assert listed[0]["previous"] == "1.0.0"
        assert listed[0]["variants"] == ["clean", "noisy"]
        assert listed[0]["rows"] == sum(read_lock(builds["minor"]).splits.values())
        assert "variant `noisy` added" in listed[0]["changes"]


class TestPull:
    @pytest.fixture
    def filled(self, registry: Registry, builds: Builds) -> Registry:
        registry.push(builds["first"], "1.0.0")
        registry.push(builds["minor"], "1.1.0")
        return registry

    def test_the_latest_release_is_found(self, filled: Registry) -> None:
        assert str(pull(f"{NAME}@latest", source=filled.where).release) == f"{NAME}@1.1.0"

    def test_out_holds_the_very_bytes(self, filled: Registry, tmp_path: Path) -> None:
        pull(f"{NAME}@1.1.0", source=filled.where, out=tmp_path / "out")
        assert published(tmp_path / "out") == filled.files("1.1.0")
        assert check(tmp_path / "out") == []

    def test_a_part_can_be_widened_later(self, filled: Registry, tmp_path: Path) -> None:
        out = tmp_path / "out"
        pull(f"{NAME}@1.1.0", source=filled.where, out=out, variants=["noisy"], splits=["train"])
        names = set(published(out))
        assert {name for name in names if name.startswith("data/")} == {
            "data/noisy/train-00000-of-00001.parquet"
        }
        pull(f"{NAME}@1.1.0", source=filled.where, out=out)
        assert published(out) == filled.files("1.1.0")

    @pytest.mark.parametrize(
        ("spec", "options", "message"),
        [
            ("org/count@3.0.0", {}, "no version 3.0.0 in .*; there are: 1.0.0, 1.1.0"),
            ("org/nothing@1.0.0", {}, "there is no release of that name"),
            ("org/nothing@latest", {}, "no release of that name"),
            ("org/count@1.1.0", {"variants": ["nosy"]}, "no variant 'nosy' .* 'noisy'"),
            ("org/count@1.1.0", {"splits": ["test"]}, "no split 'test' .* it has: train"),
            ("org/count", {}, "expected org/name@1.2.0 or org/name@latest"),
        ],
        ids=["version", "name", "latest of a name", "variant", "split", "no version"],
    )
    def test_what_is_not_there_is_named(
        self, filled: Registry, spec: str, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            pull(spec, source=filled.where, **options)

    def test_a_damaged_file_is_refused_and_named(self, filled: Registry, tmp_path: Path) -> None:
        name = "data/noisy/train-00000-of-00001.parquet"
        path = filled.folder / NAME / "v1.1.0" / name
        path.write_bytes(path.read_bytes()[:-1] + b"\x00")
        with pytest.raises(ProgdataError, match=f"{NAME}@1.1.0: {name}: its sha256 is"):
            pull(f"{NAME}@1.1.0", source=filled.where, out=tmp_path / "out")
        assert not (tmp_path / "out" / LOCK).exists()
        assert not (tmp_path / "out" / name).exists()

    def test_a_changed_lock_file_is_refused(self, filled: Registry) -> None:
        path = filled.folder / NAME / "v1.1.0" / LOCK
        path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
        with pytest.raises(ProgdataError, match="was changed after it was published"):
            pull(f"{NAME}@1.1.0", source=filled.where)

    def test_a_record_stands_for_all_bytes(
        self, registry: Registry, builds: Builds, tmp_path: Path
    ) -> None:
        note = tmp_path / "record.yaml"
        report = registry.push(builds["first"], "1.0.0", record=note)
        own = read_record(note)
        assert (own.name, own.version, own.lock_sha256) == (NAME, "1.0.0", report["lock_sha256"])
        pull(f"{NAME}@1.0.0", source=registry.where, record=note)
        content = yaml.safe_load(note.read_text())
        note.write_text(yaml.safe_dump(content | {"lock_sha256": "0" * 64}))
        with pytest.raises(ProgdataError, match="not the release that was recorded"):
            pull(f"{NAME}@1.0.0", source=registry.where, record=note)
        note.write_text(yaml.safe_dump(content | {"version": "2.0.0"}))
        with pytest.raises(UsageError, match=r"is the record of org/count@2.0.0"):
            pull(f"{NAME}@1.0.0", source=registry.where, record=note)
        note.write_text("name: x\n")
        with pytest.raises(UsageError, match="not the record of a release"):
            pull(f"{NAME}@1.0.0", source=registry.where, record=note)

    def test_a_folder_that_holds_something_else_is_refused(
        self, filled: Registry, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "README.md").write_text("mine")
        with pytest.raises(UsageError, match=r"README.md: is there already"):
            pull(f"{NAME}@1.1.0", source=filled.where, out=out)
        assert published(out).keys() == {"README.md"}


class TestLoad:
    def test_it_gives_the_rows_that_datasets_gives(
        self, registry: Registry, builds: Builds
    ) -> None:
        from datasets import load_dataset

        registry.push(builds["minor"], "1.0.0")
        ours = progdata.load(NAME, version="1.0.0", variant="noisy", source=registry.where)
        theirs = load_dataset(str(registry.folder / NAME / "v1.0.0"), "noisy")
        assert set(ours) == set(theirs) == {"train", "validation"}
        for split in ours:
            assert ours[split].features == theirs[split].features
            assert ours[split].to_list() == theirs[split].to_list()

    def test_a_split_and_the_usual_variant(self, registry: Registry, builds: Builds) -> None:
        registry.push(builds["minor"], "1.0.0")
        found = progdata.load(NAME, split="validation", source=registry.where)
        assert list(found) == ["validation"]
        assert found["validation"].num_rows == read_lock(builds["minor"]).splits["validation"]


class TestRebuild:
    def test_the_lock_file_of_a_release_builds_the_same_tables(
        self, registry: Registry, builds: Builds, tmp_path: Path
    ) -> None:
        registry.push(builds["minor"], "1.0.0")
        lock = registry.folder / NAME / "v1.0.0" / LOCK
        build(load_recipe(str(lock)), tmp_path / "rebuilt")
        report = progdata.diff(str(tmp_path / "rebuilt"), f"{NAME}@1.0.0", source=registry.where)
        assert report["level"] == "none"

    def test_options_go_on_top_of_a_lock_file(self, builds: Builds) -> None:
        recipe = load_recipe(str(builds["first"] / LOCK), seed=7)
        assert (recipe.seed, recipe.sources[0].spec) == (7, "countdown:60")


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("README.md", True),
        ("data/clean/train-00000-of-00001.parquet", True),
        ("data/größe/a b.parquet", True),
        ("", False),
        ("/etc/passwd", False),
        ("../x", False),
        ("data/../../x", False),
        ("data/./x", False),
        ("data//x", False),
        ("data/", False),
        (".git/config", False),
        ("data/.hidden", False),
        ("C:/x", False),
        ("a\\b", False),
        ("a\nb", False),
        ("a\x00b", False),
    ],
)
def test_names_of_a_lock_file_stay_in_its_folder(name: str, inside: bool) -> None:
    assert is_inside(name) == inside


def test_a_lock_file_with_a_name_that_leads_out_is_not_read(builds: Builds, tmp_path: Path) -> None:
    content = json.loads((builds["first"] / LOCK).read_text())
    content["files"]["../evil"] = {"bytes": 1, "sha256": "0" * 64}
    (tmp_path / LOCK).write_text(json.dumps(content))
    with pytest.raises(ProgdataError, match=r"'\.\./evil' is no name of a file inside"):
        read_lock(tmp_path)
