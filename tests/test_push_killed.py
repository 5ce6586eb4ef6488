"""After `kill -9` of a push at any of its steps a reader finds the old release or the new one, and
the same command finishes what was begun."""

from collections.abc import Iterator
from concurrent.futures import Future
from itertools import count
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub, sha256
from published_builds import (
    LOCK,
    NAME,
    Command,
    Done,
    assert_old_or_new,
    assert_one_line,
    assert_second_published_once,
    commands,
    hub_with_first,
    published_builds,
    push,
    registry_args,
    registry_with_first,
    start_push,
    version_at,
)

from progdata.releases.pulled import pull

SHARES = 3
"""Tests that the kill points are dealt to."""

KILLED = -9
WRITES = ("POST ", "PUT ")
COMMIT = f"POST /api/datasets/{NAME}/commit/main"
TAG = f"POST /api/datasets/{NAME}/tag/"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with hub_with_first(tmp_path / "hub") as running:
        yield running


def push_killed(
    hub: LoopbackHub, home: Path, folder: Path, at: int, match: str = "", *, carry_out: bool
) -> tuple[Done, str]:
    """Push 2.0.0, and kill the push as its so-manieth request with `match` arrives; how it ended,
    and that request. `carry_out`: count only those that write; do what was asked all the same."""
    started: Future[Command] = Future()
    matching = count()
    killed_at = ""

    def kill(line: str) -> None:
        nonlocal killed_at
        wanted = match in line and line.startswith(WRITES if carry_out else "")
        if wanted and next(matching) == at:
            killed_at = line
            started.result(60).kill()
            if not carry_out:
                raise ConnectionAbortedError("nothing is done for a client that was killed")

    hub.on_request = kill
    started.set_result(start_push(hub, home, "2.0.0", folder))
    done = started.result().wait()
    hub.wait_until_idle()
    hub.on_request = None
    return done, killed_at


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("carry_out", [False, True], ids=["unanswered", "carried-out"])
def test_a_push_killed_at_any_request_is_finished_by_the_next(
    tmp_path: Path, share: int, carry_out: bool
):
    for at in count(share, SHARES):
        folder = tmp_path / str(at)
        with hub_with_first(folder / "hub") as hub:
            release = published_builds().second_release
            done, line = push_killed(hub, folder / "home", release, at, carry_out=carry_out)
            if not line:
                assert done.code == 0, done.err
                return
            assert done.code == KILLED, f"at {line}"
            assert_old_or_new(hub)
            again = push(hub, folder / "home", "2.0.0", release)
            assert again.code == 0, f"after {line}: {again.err}"
            assert_second_published_once(hub)


@pytest.mark.parametrize(
    ("request_line", "carry_out", "then"),
    [
        (COMMIT, False, "1.0.0"),
        (COMMIT, True, "2.0.0"),
    ],
    ids=["before-commit", "after-commit"],
)
def test_the_push_of_a_build_killed_around_its_commit_is_finished_by_the_next(
    hub: LoopbackHub, tmp_path: Path, request_line: str, carry_out: bool, then: str
):
    build, home = published_builds().second, tmp_path / "home"
    done, _ = push_killed(hub, home, build, 0, request_line, carry_out=carry_out)
    assert done.code == KILLED
    assert version_at(hub) == then
    pulled = commands().run("pull", f"{NAME}@latest", "--json", env=hub.client_env(home))
    assert pulled.report["version"] == "1.0.0"  # no tag yet
    again = push(hub, home, "2.0.0", build, "--json")
    assert again.report["commit"] == hub.tags(NAME)["v2.0.0"]
    assert_second_published_once(hub)


def test_other_bytes_are_refused_after_a_push_was_killed_between_commit_and_tag(
    hub: LoopbackHub, tmp_path: Path
):
    home = tmp_path / "home"
    push_killed(hub, home, published_builds().second, 0, TAG, carry_out=False)
    line = assert_one_line(push(hub, home, "2.0.0", published_builds().first), 2)
    assert "2.0.0 was cut off before its tag" in line and "other bytes" in line
    assert set(hub.tags(NAME)) == {"v1.0.0"}
    assert push(hub, home, "2.0.0", published_builds().second).code == 0
    assert_second_published_once(hub)


@pytest.mark.parametrize("share", range(SHARES))
def test_a_push_to_a_folder_killed_at_any_write_is_finished_by_the_next(tmp_path: Path, share: int):
    for at in count(share, SHARES):
        registry = registry_with_first(tmp_path / str(at))
        args = registry_args(registry, "2.0.0", published_builds().second_release)
        done = commands().run(*args, env={}, kill_under=str(registry), kill_at=at)
        assert done.code in (0, KILLED), done.err
        if done.code == 0:
            return
        assert_whole(registry, {"1.0.0", "2.0.0"})
        again = commands().run(*args, env={})
        assert again.code == 0, f"at write {at}: {again.err}"
        assert_whole(registry, {"2.0.0"})
        left = {path.name for path in (registry / NAME).iterdir()}
        assert left - {".writer.lock"} == {"v1.0.0", "v2.0.0", "v1.0.0.yaml", "v2.0.0.yaml"}


def assert_whole(registry: Path, versions: set[str]) -> None:
    """The latest release of a local registry is one of these, and every byte of it is there."""
    pulled = pull(f"{NAME}@latest", source=str(registry))
    version = str(pulled.release.version)
    assert version in versions
    folder = registry / NAME / f"v{version}"
    found = {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert found.pop(LOCK) == sha256(published_builds().lock_bytes(version))
    assert found == published_builds().files(version)
