"""Whatever a hub does to a push, it holds the old release or the new one, and a rerun finishes."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from loopback_hub import Fault, LoopbackHub
from published_builds import (
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

from progdata.releases.local_registry import LocalRegistry

API = f"/api/datasets/{NAME}"
FILES = f"/datasets/{NAME}/resolve/"
COMMIT = f"POST {API}/commit/main"
TAG = f"POST {API}/tag/"
REQUESTS = {
    "info": f"GET {API}/revision/main",
    "refs": f"GET {API}/refs",
    "ask-for-file": f"HEAD {FILES}",
    "file": f"GET {FILES}",
    "create": "POST /api/repos/create",
    "preupload": f"POST {API}/preupload/main",
    "batch": "POST /datasets/org/traces.git/info/lfs/objects/batch",
    "upload": "PUT /lfs/",
    "verify": "POST /datasets/org/traces.git/info/lfs/objects/verify",
    "validate-yaml": "POST /api/validate-yaml",
    "commit": COMMIT,
    "tag": TAG,
    "info-of-tag": f"GET {API}/revision/v2.0.0",
}
FAULTS = {
    "500": Fault("", "status", status=500),
    "503": Fault("", "status", status=503),
    "429": Fault("", "status", status=429, retry_after=0),
    "cut": Fault("", "cut"),
    "slow": Fault("", "slow", seconds=0.2),
    "lost-answer": Fault("", "lose_answer"),
}
FOREVER = 1000


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with hub_with_first(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def push_second(hub: LoopbackHub, tmp_path: Path) -> Callable[..., Done]:
    """Push 2.0.0, with more options if given."""

    def run(*more: Any) -> Done:
        release = published_builds().second_release
        return push(hub, tmp_path / "home", "2.0.0", release, *more)

    return run


def writes(hub: LoopbackHub) -> list[str]:
    """The requests that may have changed something."""
    return [line for line in hub.requests if not line.startswith(("GET ", "HEAD "))]


# --- faults that pass -------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_push_outlives_a_fault_of_every_kind_of_request(
    hub: LoopbackHub, push_second: Callable[..., Done], fault: Fault
):
    hub.faults = [
        replace(fault, match=match)
        for name, match in REQUESTS.items()
        if (name, fault.kind) != ("upload", "lose_answer")  # that has a test of its own
    ]
    done = push_second()
    assert done.code == 0, done.err
    assert_second_published_once(hub)
    met = [match for match in REQUESTS.values() if any(match in line for line in hub.requests)]
    assert met == [*REQUESTS.values()]


@pytest.mark.parametrize("request_name", ["create", "batch", "upload", "commit", "tag"])
def test_a_push_outlives_two_cuts_in_a_row_of_a_request_that_writes(
    hub: LoopbackHub, push_second: Callable[..., Done], request_name: str
):
    hub.faults = [Fault(REQUESTS[request_name], "cut", times=2)]
    done = push_second()
    assert done.code == 0, done.err
    assert_second_published_once(hub)


def test_a_push_waits_as_long_as_the_hub_asks(hub: LoopbackHub, push_second: Callable[..., Done]):
    came: list[float] = []

    def note(line: str) -> None:
        if line == COMMIT:
            came.append(time.monotonic())

    hub.on_request = note
    hub.faults = [Fault(COMMIT, "status", status=429, retry_after=1)]
    assert push_second().code == 0
    assert len(came) == 2 and came[1] - came[0] >= 1


def test_an_upload_whose_answer_is_lost_is_repeated_by_the_client_and_never_by_a_rerun(
    hub: LoopbackHub, push_second: Callable[..., Done]
):
    hub.faults = [Fault("PUT /lfs/", "lose_answer", nth=2)]
    assert push_second().code == 0
    arrived = list(hub.uploads)
    assert len(arrived) == len(set(arrived)) + 1
    assert push_second().code == 0
    assert hub.uploads == arrived


def test_a_commit_whose_answer_is_lost_is_not_made_twice(
    hub: LoopbackHub, push_second: Callable[..., Done]
):
    hub.faults = [Fault(COMMIT, "lose_answer", times=FOREVER)]
    assert push_second().code == 0
    assert sum(line == COMMIT for line in hub.requests) == 1
    assert_second_published_once(hub)


# --- faults that stay -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_name",
    ["info", "ask-for-file", "create", "validate-yaml", "commit", "tag"],
)
def test_a_push_that_fails_for_good_says_so_in_one_line_and_a_rerun_finishes(
    hub: LoopbackHub, push_second: Callable[..., Done], request_name: str
):
    hub.faults = [Fault(REQUESTS[request_name], "status", times=FOREVER)]
    line = assert_one_line(push_second())
    assert NAME in line and "status 500" in line and "run the same command again" in line
    assert_old_or_new(hub)
    assert version_at(hub) == ("2.0.0" if "tag" in request_name else "1.0.0")
    hub.faults = []
    assert push_second().code == 0
    assert_second_published_once(hub)


def test_an_upload_that_is_cut_for_good_leaves_the_old_release_and_a_rerun_finishes(
    hub: LoopbackHub, push_second: Callable[..., Done]
):
    hub.faults = [Fault("PUT /lfs/", "cut", nth=2, times=FOREVER)]
    line = assert_one_line(push_second())
    assert NAME in line and "run the same command again" in line
    assert version_at(hub) == "1.0.0"
    arrived = len(hub.uploads)
    hub.faults = []
    assert push_second().code == 0
    assert arrived > 0
    assert_second_published_once(hub)


@pytest.mark.parametrize(
    ("token", "said"),
    [("", "log in"), ("hf_unknown", "log in"), (None, "may write")],
    ids=["none", "unknown", "read-only"],
)
def test_a_push_without_the_right_to_write_says_what_to_do(
    hub: LoopbackHub, tmp_path: Path, token: str | None, said: str
):
    token = hub.read_only_token if token is None else token
    env = hub.client_env(tmp_path / "home", token)
    folder = published_builds().second_release
    args = ("push", folder, "--repo", NAME, "--version", "2.0.0")
    line = assert_one_line(commands().run(*args, env=env))
    assert said in line
    assert not token or token not in line
    assert version_at(hub) == "1.0.0"


# --- versions and bytes -----------------------------------------------------------------------


@pytest.mark.parametrize("tag_objects", [False, True])
def test_the_same_push_again_writes_nothing(
    hub: LoopbackHub, push_second: Callable[..., Done], tag_objects: bool
):
    hub.list_tag_objects = tag_objects
    first = push_second("--json").report
    hub.requests.clear()
    again = push_second("--json").report
    assert (first["status"], again["status"]) == ("published", "already there")
    assert again["commit"] == first["commit"] == hub.tags(NAME)["v2.0.0"]
    assert writes(hub) == []
    assert_second_published_once(hub)


def test_a_build_that_was_published_is_known_again_by_its_bytes(hub: LoopbackHub, tmp_path: Path):
    done = push(hub, tmp_path / "home", "1.0.0", published_builds().first, "--json")
    assert done.report["status"] == "already there"
    assert writes(hub) == []


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("1.0.0", "1.0.0 is published with other bytes"),
        ("0.9.0", "lower than the latest release, 1.0.0"),
        ("1.9.0", "too low: the least version that fits is 2.0.0"),
    ],
)
def test_a_version_that_promises_less_than_what_changed_is_refused(
    hub: LoopbackHub, tmp_path: Path, version: str, said: str
):
    home = tmp_path / "home"
    line = assert_one_line(push(hub, home, version, published_builds().second), 2)
    assert said in line
    assert writes(hub) == []


def test_a_dry_run_sends_no_request_that_writes(
    hub: LoopbackHub, push_second: Callable[..., Done], tmp_path: Path
):
    planned = push_second("--dry-run", "--json").report
    args = ("push", published_builds().second_release, "--repo", NAME, "--dry-run", "--json")
    proposed = commands().run(*args, env=hub.client_env(tmp_path / "home")).report
    for report in (planned, proposed):
        assert (report["status"], report["version"], report["least_version"]) == (
            "planned",
            "2.0.0",
            "2.0.0",
        )
    assert writes(hub) == []
    assert set(hub.tags(NAME)) == {"v1.0.0"}


def test_a_dry_run_for_a_new_name_creates_no_repository(hub: LoopbackHub, tmp_path: Path):
    args = ("push", published_builds().second, "--repo", "org/other", "--dry-run", "--json")
    report = commands().run(*args, env=hub.client_env(tmp_path / "home")).report
    assert (report["status"], report["version"]) == ("planned", "1.0.0")
    assert writes(hub) == []
    assert not hub.git_folder("org/other").exists()


# --- the repository ---------------------------------------------------------------------------


def test_files_of_the_release_before_leave_in_the_commit_of_the_new_one(
    hub: LoopbackHub, push_second: Callable[..., Done]
):
    assert push_second().code == 0
    newest, older, *_ = hub.history(NAME)
    left = {name for name in older.files if name not in newest.files}
    assert left == {name for name in older.files if name.startswith("data/noisy/")} != set()
    assert version_at(hub, "v1.0.0") == "1.0.0"


def test_a_file_of_the_release_before_may_have_been_deleted_by_hand(
    hub: LoopbackHub, push_second: Callable[..., Done]
):
    gone = "data/noisy/train-00000-of-00001.parquet"
    hub.add_dataset(NAME, {name: own for name, own in hub.files(NAME).items() if name != gone})
    done = push_second()
    assert done.code == 0, done.err
    assert version_at(hub) == version_at(hub, "v2.0.0") == "2.0.0"


def test_a_file_that_no_release_named_stays(hub: LoopbackHub, push_second: Callable[..., Done]):
    hub.add_dataset(NAME, hub.files(NAME) | {"notes.txt": b"Mine."})
    assert push_second().code == 0
    assert hub.files(NAME)["notes.txt"] == b"Mine."
    assert version_at(hub, others=("notes.txt",)) == "2.0.0"


def test_private_is_refused_for_a_repository_that_is_public(
    hub: LoopbackHub, push_second: Callable[..., Done]
):
    line = assert_one_line(push_second("--private"), 2)
    assert "is public" in line
    assert version_at(hub) == "1.0.0"
    assert set(hub.tags(NAME)) == {"v1.0.0"}


def test_private_makes_a_repository_that_only_a_token_reads(hub: LoopbackHub, tmp_path: Path):
    args = ("push", published_builds().second, "--repo", "org/own", "--version", "1.0.0")
    env = hub.client_env(tmp_path / "home")
    assert commands().run(*args, "--private", env=env).code == 0
    assert hub.repo("datasets", "org/own").private
    pulled = commands().run("pull", "org/own@1.0.0", env=hub.client_env(tmp_path / "other", ""))
    assert_one_line(pulled, pulled.code)
    again = commands().run(*args, "--private", "--json", env=env)
    assert again.report["status"] == "already there"


# --- others who write -------------------------------------------------------------------------


def test_a_commit_made_in_the_meantime_is_refused_and_a_rerun_compares_with_it(
    hub: LoopbackHub, push_second: Callable[..., Done]
):
    def interfere(line: str) -> None:
        if line == COMMIT:
            hub.on_request = None
            hub.add_dataset(NAME, hub.files(NAME) | {"notes.txt": b"Mine."})

    hub.on_request = interfere
    line = assert_one_line(push_second())
    assert "changed while this release was made" in line and "nothing was published" in line
    assert version_at(hub, others=("notes.txt",)) == "1.0.0"
    assert push_second().code == 0
    assert version_at(hub, others=("notes.txt",)) == "2.0.0"
    assert [own.title for own in hub.history(NAME)].count("Release 2.0.0") == 1


def test_a_tag_that_somebody_else_made_in_the_meantime_is_told(
    hub: LoopbackHub, push_second: Callable[..., Done]
):
    first = hub.tags(NAME)["v1.0.0"]

    def interfere(line: str) -> None:
        if line.startswith(TAG):
            hub.on_request = None
            hub.repo("datasets", NAME).git.set_ref("refs/tags/v2.0.0", first)

    hub.on_request = interfere
    line = assert_one_line(push_second())
    assert "the tag v2.0.0 is of commit" in line
    assert hub.tags(NAME)["v2.0.0"] == first


def at_the_same_time(hub: LoopbackHub, *started: tuple[Path, str, Path]) -> list[Done]:
    """Push these (home, version, folder), so that all of them are about to commit at once."""
    barrier = threading.Barrier(len(started))
    left = threading.Semaphore(len(started))

    def meet(line: str) -> None:
        if line == COMMIT and left.acquire(blocking=False):
            barrier.wait(60)

    hub.on_request = meet
    running = [start_push(hub, *own) for own in started]
    done = [own.wait() for own in running]
    hub.on_request = None
    return done


@pytest.mark.parametrize("other", ["2.0.0", "1.0.1"])
def test_of_two_pushers_at_once_one_wins_and_the_other_is_refused(
    hub: LoopbackHub, tmp_path: Path, other: str
):
    """The other builds are the rows of 1.0.0 once more, as a later version."""
    second = (tmp_path / "home", "2.0.0", published_builds().second_release)
    repeated = (tmp_path / "other", other, published_builds().first)
    done = at_the_same_time(hub, second, repeated)
    assert sorted(own.code for own in done) == [0, 1]
    won = [own.code for own in done].index(0)
    line = assert_one_line(done[1 - won])
    assert "changed while this release was made" in line
    version = ("2.0.0", other)[won]
    assert set(hub.tags(NAME)) == {"v1.0.0", f"v{version}"}
    assert [own.title for own in hub.history(NAME)][:2] == [f"Release {version}", "Release 1.0.0"]
    if won == 0:
        assert_second_published_once(hub)
    again = push(hub, *(second, repeated)[1 - won])
    goes_on = won == 1 and other == "1.0.1"
    assert again.code == (0 if goes_on else 2), again.err
    assert set(hub.tags(NAME)) == {"v1.0.0", f"v{version}", *(["v2.0.0"] if goes_on else [])}


def test_two_pushers_of_the_same_bytes_at_once_both_succeed_with_one_commit(
    hub: LoopbackHub, tmp_path: Path
):
    release = published_builds().second_release
    homes = (tmp_path / "home", tmp_path / "other")
    done = at_the_same_time(hub, *((home, "2.0.0", release) for home in homes))
    assert [own.code for own in done] == [0, 0], done
    titles = [own.title for own in hub.history(NAME)]
    assert titles.count("Release 2.0.0") == 1
    assert version_at(hub) == version_at(hub, "v2.0.0") == "2.0.0"


# --- the same promises of a folder ------------------------------------------------------------


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return registry_with_first(tmp_path / "registry")


def snapshot(registry: Path) -> dict[str, int]:
    """Every file of a registry, with its time of change; but for the writer's lock."""
    return {
        path.relative_to(registry).as_posix(): path.stat().st_mtime_ns
        for path in registry.rglob("*")
        if path.is_file() and path.name != ".writer.lock"
    }


def releases_in(registry: Path) -> list[str]:
    return [str(own) for own in LocalRegistry(registry).versions(NAME)]


def wait_for(condition: Callable[[], bool], running: list[Command]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, [own.said() for own in running]
        time.sleep(0.02)


def all_together(registry: Path, *args: list[Any]) -> list[Done]:
    """Run pushes that have all compared with what is there before any of them may write."""
    with FileLock(registry / NAME / ".writer.lock"):
        running = [commands().start(*own, env={}) for own in args]
        wait_for(lambda: all("publishing " in own.said() for own in running), running)
        time.sleep(0.2)
    return [own.wait() for own in running]


@pytest.mark.parametrize("other", ["2.0.0", "1.0.1"])
def test_of_two_pushers_to_a_folder_at_once_one_wins_and_the_other_is_refused(
    registry: Path, other: str
):
    second = registry_args(registry, "2.0.0", published_builds().second_release)
    repeated = registry_args(registry, other, published_builds().first)
    done = all_together(registry, second, repeated)
    assert sorted(own.code for own in done) == [0, 1], done
    won = [own.code for own in done].index(0)
    assert "changed while this release was made" in assert_one_line(done[1 - won])
    assert releases_in(registry) == ["1.0.0", ("2.0.0", other)[won]]


def test_the_same_push_to_a_folder_again_writes_nothing(registry: Path):
    args = registry_args(registry, "2.0.0", published_builds().second_release)
    assert commands().run(*args, env={}).code == 0
    before = snapshot(registry)
    again = commands().run(*args, "--json", env={})
    assert again.report["status"] == "already there"
    assert snapshot(registry) == before


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("1.0.0", "1.0.0 is published with other bytes"),
        ("1.0.1", "too low: the least version that fits is 2.0.0"),
    ],
)
def test_a_version_that_promises_less_is_refused_in_a_folder_too(
    registry: Path, version: str, said: str
):
    before = snapshot(registry)
    args = registry_args(registry, version, published_builds().second)
    assert said in assert_one_line(commands().run(*args, env={}), 2)
    assert snapshot(registry) == before


def test_a_dry_run_writes_nothing_into_a_folder(registry: Path, tmp_path: Path):
    before = snapshot(registry)
    for where in (registry, tmp_path / "new"):
        args = registry_args(where, "2.0.0", published_builds().second_release)
        done = commands().run(*args, "--dry-run", "--json", env={})
        assert done.report["status"] == "planned"
    assert snapshot(registry) == before
    assert not (tmp_path / "new").exists()
