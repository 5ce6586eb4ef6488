"""Pushes to repositories in states that no push left: none yet, tags and edits of other people."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub
from published_builds import (
    NAME,
    assert_one_line,
    commands,
    hub_with_first,
    published_builds,
    push,
    registry_args,
    registry_with_first,
)

from progdata.builders.errors import ProgdataError
from progdata.releases import pushed
from progdata.releases.build import build
from progdata.releases.lockfile import find_lock
from progdata.releases.pulled import pull
from progdata.releases.pushed import push as push_here
from progdata.releases.recipe import load_recipe

CREATE = "POST /api/repos/create"
TAG = f"POST /api/datasets/{NAME}/tag/"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with hub_with_first(tmp_path / "hub") as hub:
        yield hub


def test_of_two_first_pushers_one_wins_and_the_other_commits_nothing(tmp_path: Path) -> None:
    builds = published_builds()
    with LoopbackHub() as hub:

        def push_the_other_one(line: str) -> None:
            if line == CREATE:
                hub.on_request = None
                done = push(hub, tmp_path / "other", "1.0.0", builds.first_release)
                assert done.code == 0, done.err

        hub.on_request = push_the_other_one
        done = push(hub, tmp_path / "home", "2.0.0", builds.second_release)
        assert "changed while this release was made" in assert_one_line(done)
        assert set(hub.tags(NAME)) == {"v1.0.0"}
        assert hub.history(NAME)[0].sha == hub.tags(NAME)["v1.0.0"]


def test_of_two_first_pushers_to_a_folder_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, builds = tmp_path / "registry", published_builds()
    compared = pushed._status

    def push_the_other_one_after_comparing(*args: object) -> object:
        found = compared(*args)  # type: ignore[arg-type]
        monkeypatch.setattr(pushed, "_status", compared)
        push_here(builds.first_release, NAME, "1.0.0", to=str(registry))
        return found

    monkeypatch.setattr(pushed, "_status", push_the_other_one_after_comparing)
    with pytest.raises(ProgdataError, match="changed while this release was made"):
        push_here(builds.second_release, NAME, "2.0.0", to=str(registry))
    assert str(pull(f"{NAME}@latest", source=str(registry)).release) == f"{NAME}@1.0.0"
    assert not (registry / NAME / "v2.0.0").exists()


@pytest.mark.parametrize("tag", ["v0.1.0", "v2024.1.1"])
def test_a_tag_of_somebody_else_is_no_release(hub: LoopbackHub, tmp_path: Path, tag: str) -> None:
    hub.add_dataset(NAME, {"notes.txt": b"mine"}, revision="drafts", tag=tag)
    env = hub.client_env(tmp_path / "home")
    listed = commands().run("releases", NAME, "--json", env=env).report["releases"]
    assert {own["version"]: "unreadable" in own for own in listed} == {
        "1.0.0": False,
        tag[1:]: True,
    }
    pulled = commands().run("pull", f"{NAME}@latest", "--json", env=env)
    assert pulled.report["version"] == "1.0.0"
    done = push(hub, tmp_path / "home", "2.0.0", published_builds().second_release)
    assert done.code == 0, done.err


def test_a_version_whose_tag_somebody_took_cannot_be_pushed(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.add_dataset(NAME, {"notes.txt": b"mine"}, revision="drafts", tag="v2.0.0")
    done = push(hub, tmp_path / "home", "2.0.0", published_builds().second_release)
    assert "the tag v2.0.0 holds no progdata.lock.json" in assert_one_line(done)


def test_the_commit_of_a_release_is_tagged_and_not_what_somebody_made_of_it(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    """The push of 2.0.0 is cut off before its tag; then somebody edits the card on the web."""
    home, builds = tmp_path / "home", published_builds()
    hub.fail_next[TAG] = [500] * 6
    assert push(hub, home, "2.0.0", builds.second_release).code == 1
    made = hub.history(NAME)[0].sha
    hub.add_dataset(NAME, {**hub.files(NAME), "README.md": b"edited"})
    done = push(hub, home, "2.0.0", builds.second_release)
    assert done.code == 0, done.err
    assert hub.tags(NAME)["v2.0.0"] == made
    env = hub.client_env(tmp_path / "reader")
    assert commands().run("pull", f"{NAME}@2.0.0", env=env).code == 0


def test_a_private_repository_may_be_what_is_not_found(tmp_path: Path) -> None:
    with LoopbackHub() as hub:
        env = hub.client_env(tmp_path / "home")
        done = commands().run("pull", f"{NAME}@1.0.0", env=env)
        assert "or it is private: log in with" in assert_one_line(done, 2)


def test_a_typing_error_in_the_registry_makes_no_folder(tmp_path: Path) -> None:
    args = registry_args(Path("hbu"), "1.0.0", published_builds().first_release)
    done = commands().run(*args, env={})
    assert "did you mean" in assert_one_line(done, 2)
    assert not Path("hbu").exists()


def test_a_folder_whose_name_is_a_pattern_can_be_loaded_from(tmp_path: Path) -> None:
    import progdata

    registry = registry_with_first(tmp_path / "[a]*")
    found = progdata.load(NAME, version="1.0.0", source=str(registry))
    assert sum(own.num_rows for own in found.values()) > 0


def test_a_part_is_loaded_by_the_line_that_pull_prints(tmp_path: Path) -> None:
    from datasets import load_dataset

    registry = registry_with_first(tmp_path / "registry")
    own = pull(f"{NAME}@1.0.0", source=str(registry), splits=["train"], out=tmp_path / "out")
    printed = own.report()["load"]
    assert printed.startswith('load_dataset("parquet", data_files={"train": [')
    assert set(eval(printed, {"load_dataset": load_dataset})) == {"train"}


def test_a_release_without_tables_has_no_line_to_load_it(tmp_path: Path) -> None:
    own = pull(f"{NAME}@1.0.0", source=str(registry_with_first(tmp_path / "registry")))
    report = replace(own, paths={}).report()
    assert (report["load"], report["variants"], report["splits"]) == ("no table", [], [])


class TestRebuild:
    """A lock file stands for the inputs that a build had, not for those of the same name now."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        row = {"problem": "What is 1 + 1?", "completion": "<think>\nTwo.\n</think>\n2"}
        path = tmp_path / "traces.jsonl"
        path.write_text(json.dumps(row) + "\n")
        build(load_recipe(None, sources=[str(path)]), tmp_path / "built")
        return path

    def rebuilt(self, folder: Path, **overrides: object) -> None:
        lock = str(folder / "built" / "progdata.lock.json")
        build(load_recipe(lock, **overrides), folder / "again", rebuild=find_lock(lock))

    def test_the_same_inputs_give_the_same_lock_file(self, source: Path, tmp_path: Path) -> None:
        self.rebuilt(tmp_path)
        first, again = (tmp_path / own / "progdata.lock.json" for own in ("built", "again"))
        assert first.read_bytes() == again.read_bytes()

    def test_other_inputs_are_refused(self, source: Path, tmp_path: Path) -> None:
        source.write_text(source.read_text().replace("Two.", "Three."))
        with pytest.raises(ProgdataError, match="the sources' content: not what the lock file"):
            self.rebuilt(tmp_path)
        assert not (tmp_path / "again" / "progdata.lock.json").exists()

    def test_a_changed_recipe_is_another_build(self, source: Path, tmp_path: Path) -> None:
        source.write_text(source.read_text().replace("Two.", "Three."))
        self.rebuilt(tmp_path, seed=3)
        assert (tmp_path / "again" / "progdata.lock.json").exists()

    def test_what_is_no_lock_file_is_none(self, tmp_path: Path) -> None:
        assert find_lock(None) is None
        assert find_lock("countdown") is None
        assert find_lock(str(tmp_path / "absent.json")) is None
