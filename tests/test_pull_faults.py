"""A pull gives the bytes that were published, or none under their names."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from build_folder import published
from loopback_hub import Fault, LoopbackHub, sha256
from published_builds import (
    LOCK,
    NAME,
    Done,
    assert_one_line,
    commands,
    hub_with_first,
    published_builds,
    push,
    registry_with_first,
)

FILES = f"/datasets/{NAME}/resolve/"
TABLE = "data/clean/train-00000-of-00001.parquet"
FOREVER = 1000


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with hub_with_first(tmp_path / "hub") as running:
        yield running


class Puller:
    """Pulls from a hub with one cache."""

    def __init__(self, hub: LoopbackHub, home: Path) -> None:
        self.hub, self.home = hub, home
        self.env = hub.client_env(home)

    def __call__(self, *args: Any, version: str = "1.0.0", **settings: str) -> Done:
        spec = f"{NAME}@{version}"
        return commands().run("pull", spec, "--json", *args, env=self.env | settings)

    def cached(self, name: str) -> Path:
        """The file of the cache that holds a file of the release."""
        (found,) = (self.home / "hub").glob(f"datasets--*/snapshots/*/{name}")
        return found.resolve()


@pytest.fixture
def pull(hub: LoopbackHub, tmp_path: Path) -> Puller:
    return Puller(hub, tmp_path / "home")


def whole(version: str = "1.0.0") -> dict[str, str]:
    """What a folder holds into which a whole release was pulled."""
    built = published_builds()
    return {LOCK: sha256(built.lock_bytes(version)), **built.files(version)}


def assert_nothing_half_written(out: Path) -> None:
    """What has its final name is as it was published; the lock file is there if all is."""
    found = published(out) if out.exists() else {}
    visible = {name: own for name, own in found.items() if ".tmp-" not in name}
    assert visible.items() <= whole().items()
    assert LOCK not in visible or visible == whole()


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# --- downloads that go wrong ------------------------------------------------------------------


@pytest.mark.parametrize("name", [LOCK, TABLE, "README.md"])
def test_a_download_that_is_corrupted_once_is_asked_for_again(
    hub: LoopbackHub, pull: Puller, tmp_path: Path, name: str
):
    hub.faults = [Fault(f"/{name}", "corrupt", nth=2)]  # the first asks for no body
    done = pull("--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert published(tmp_path / "out") == whole()
    assert sum(line.startswith("GET ") and name in line for line in hub.requests) == 2


@pytest.mark.parametrize("name", [LOCK, TABLE, "README.md"])
def test_a_download_that_is_always_corrupted_is_refused_by_name(
    hub: LoopbackHub, pull: Puller, tmp_path: Path, name: str
):
    out = tmp_path / "out"
    hub.faults = [Fault(f"/{name}", "corrupt", times=FOREVER)]
    for args in ([], ["--out", out]):
        line = assert_one_line(pull(*args))
        assert name in line and NAME in line
    assert_nothing_half_written(out)
    assert not (out / name).exists() and not (out / LOCK).exists()
    hub.faults = []
    assert pull("--out", out).code == 0
    assert published(out) == whole()


@pytest.mark.parametrize("name", [LOCK, TABLE])
def test_a_damaged_cache_is_repaired_from_the_hub_and_refused_without_it(
    pull: Puller, tmp_path: Path, name: str
):
    assert pull().code == 0
    damage(pull.cached(name))
    offline = pull("--out", tmp_path / "none", HF_HUB_OFFLINE="1")
    assert name in assert_one_line(offline)
    assert not (tmp_path / "none" / name).exists()
    assert not (tmp_path / "none" / LOCK).exists()
    assert pull("--out", tmp_path / "out").code == 0
    assert published(tmp_path / "out") == whole()
    assert pull("--out", tmp_path / "again", HF_HUB_OFFLINE="1").code == 0


@pytest.mark.parametrize("kind", ["cut", "status", "slow", "lose_answer"])
def test_a_pull_outlives_faults_of_all_its_requests(
    hub: LoopbackHub, pull: Puller, tmp_path: Path, kind: Any
):
    names = [LOCK, TABLE, "README.md"]
    asked = [f"{method} {FILES}" for method in ("HEAD", "GET")]
    refs = [f"/api/datasets/{NAME}/refs"]
    matches = [*(f"/{name}" for name in names), *asked, *refs]
    hub.faults = [Fault(match, kind, times=2, seconds=0.1) for match in matches]
    done = pull("--out", tmp_path / "out", version="latest")
    assert done.code == 0, done.err
    assert published(tmp_path / "out") == whole()


def test_a_pull_outlives_a_hub_that_is_slower_than_the_client_waits(
    hub: LoopbackHub, pull: Puller, tmp_path: Path
):
    hub.faults = [Fault(f"{method} {FILES}", "slow", seconds=2) for method in ("HEAD", "GET")]
    patience = {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    assert pull("--out", tmp_path / "out", **patience).code == 0
    assert published(tmp_path / "out") == whole()


def test_a_download_that_fails_for_good_leaves_nothing_half_written_and_a_rerun_finishes(
    hub: LoopbackHub, pull: Puller, tmp_path: Path
):
    out = tmp_path / "out"
    hub.faults = [Fault(f"/{TABLE}", "status", status=503, times=FOREVER)]
    line = assert_one_line(pull("--out", out))
    assert NAME in line and "503" in line
    assert_nothing_half_written(out)
    assert not (out / LOCK).exists()
    hub.faults = []
    assert pull("--out", out).code == 0
    assert published(out) == whole()


def test_a_pull_killed_at_any_write_leaves_nothing_half_written_and_is_finished_by_the_next(
    hub: LoopbackHub, pull: Puller, tmp_path: Path
):
    assert pull().code == 0  # into the cache
    for at in count(0, 3):
        out = tmp_path / str(at)
        args = ("pull", f"{NAME}@1.0.0", "--out", out)
        env = pull.env | {"HF_HUB_OFFLINE": "1"}
        done = commands().run(*args, env=env, kill_under=str(out), kill_at=at)
        assert_nothing_half_written(out)
        if done.code == 0:
            break
        assert done.code == -9, done.err
        assert not (out / LOCK).exists()
        assert commands().run(*args, env=env).code == 0
        assert published(out) == whole()  # what was half-written is gone


# --- without a network ------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0.0", "latest"])
@pytest.mark.parametrize("stopped", [False, True], ids=["offline", "no-answer"])
def test_a_release_in_the_cache_is_read_without_a_network(
    tmp_path: Path, version: str, stopped: bool
):
    with ExitStack() as stack:
        hub = stack.enter_context(hub_with_first(tmp_path / "hub"))
        pull = Puller(hub, tmp_path / "home")
        assert pull(version=version).code == 0
        asked = len(hub.requests)
        if stopped:
            stack.close()
        settings = {} if stopped else {"HF_HUB_OFFLINE": "1"}
        done = pull("--out", tmp_path / "out", version=version, **settings)
        assert len(hub.requests) == asked
    assert done.code == 0, done.err
    assert done.report["version"] == "1.0.0"
    assert published(tmp_path / "out") == whole()


def test_a_release_that_was_pulled_by_version_is_the_latest_without_a_network(pull: Puller):
    assert pull(version="1.0.0").code == 0
    assert pull(version="latest", HF_HUB_OFFLINE="1").report["version"] == "1.0.0"


def test_what_the_cache_does_not_hold_is_told_without_a_network(pull: Puller):
    assert pull("--variant", "clean").code == 0
    for args, version in ((["--variant", "noisy"], "1.0.0"), ([], "2.0.0")):
        line = assert_one_line(done := pull(*args, version=version, HF_HUB_OFFLINE="1"), done.code)
        assert NAME in line and "HF_HUB_OFFLINE" in line
    assert pull("--variant", "clean", HF_HUB_OFFLINE="1").code == 0


# --- what is asked for ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "tables"),
    [
        (["--variant", "clean"], ["clean/train", "clean/validation"]),
        (["--split", "train"], ["clean/train", "noisy/train"]),
        (["--variant", "noisy", "--split", "validation"], ["noisy/validation"]),
    ],
    ids=["variant", "split", "both"],
)
def test_only_what_is_asked_for_is_downloaded(
    hub: LoopbackHub, pull: Puller, tmp_path: Path, options: list[str], tables: list[str]
):
    expected = {LOCK, "README.md", *(f"data/{own}-00000-of-00001.parquet" for own in tables)}
    assert pull(*options, "--out", tmp_path / "out").code == 0
    asked = {line.split("?")[0] for line in hub.requests if FILES in line}
    assert {line.split("/resolve/")[1].partition("/")[2] for line in asked} == expected
    assert set(published(tmp_path / "out")) == expected


def test_the_rest_can_be_pulled_into_the_same_folder(pull: Puller, tmp_path: Path):
    assert pull("--variant", "clean", "--out", tmp_path / "out").code == 0
    assert pull("--out", tmp_path / "out").code == 0
    assert published(tmp_path / "out") == whole()


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        (f"{NAME}@1.0.0", ["--variant", "noise"], "noisy"),
        (f"{NAME}@1.0.0", ["--split", "test"], "train, validation"),
        (f"{NAME}@3.0.0", [], "there are: 1.0.0"),
        ("org/nothing@1.0.0", [], "org/nothing"),
        ("org/nothing@latest", [], "org/nothing"),
        (f"{NAME}@1", [], "three numbers"),
        (NAME, [], "org/name@latest"),
        ("../traces@1.0.0", [], "org/name"),
    ],
    ids=["variant", "split", "version", "name", "latest", "form", "no-version", "outside"],
)
@pytest.mark.parametrize("where", ["hub", "folder"])
def test_what_is_not_there_is_refused_by_name(
    hub: LoopbackHub, tmp_path: Path, where: str, spec: str, options: list[str], said: str
):
    source = "hub" if where == "hub" else published_builds().registry
    args = ("pull", spec, *options, "--from", source, "--out", tmp_path / "out")
    line = assert_one_line(commands().run(*args, env=hub.client_env(tmp_path / "home")), 2)
    assert said in line
    assert not (tmp_path / "out").exists()


# --- the folder that is named with --out ------------------------------------------------------


def put_other_file(out: Path) -> None:
    (out / "data" / "clean").mkdir(parents=True)
    (out / TABLE).write_bytes(b"mine")


def put_other_lock(out: Path) -> None:
    out.mkdir()
    shutil.copy(published_builds().second / LOCK, out)


def put_file(out: Path) -> None:
    out.write_bytes(b"mine")


def put_link_to_folder(out: Path) -> None:
    out.mkdir()
    (out.parent / "outside").mkdir()
    (out / "data").symlink_to(out.parent / "outside")


def put_link_to_file(out: Path) -> None:
    out.mkdir()
    (out.parent / "outside").write_bytes(b"mine")
    (out / "README.md").symlink_to(out.parent / "outside")


def put_dangling_link(out: Path) -> None:
    out.mkdir()
    (out / "README.md").symlink_to(out.parent / "outside")


PUT = [
    put_other_file,
    put_other_lock,
    put_file,
    put_link_to_folder,
    put_link_to_file,
    put_dangling_link,
]


@pytest.mark.parametrize("put", PUT, ids=[own.__name__ for own in PUT])
def test_a_folder_that_holds_something_else_is_left_as_it_is(
    tmp_path: Path, put: Callable[[Path], None]
):
    own = tmp_path / "own"
    own.mkdir()
    put(own / "out")

    def seen() -> dict[str, bytes | str]:
        return {
            str(path): str(path.readlink()) if path.is_symlink() else path.read_bytes()
            for path in own.rglob("*")
            if path.is_symlink() or path.is_file()
        }

    before = seen()
    args = ("pull", f"{NAME}@1.0.0", "--from", published_builds().registry, "--out", own / "out")
    line = assert_one_line(commands().run(*args, env={}), 2)
    assert str(own / "out") in line and "--out" in line
    assert seen() == before


def test_files_of_others_beside_a_pulled_release_stay(tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    args = ("pull", f"{NAME}@1.0.0", "--from", published_builds().registry, "--out", out)
    for _ in range(2):
        assert commands().run(*args, env={}).code == 0
        assert published(out) == whole() | {"mine.txt": sha256(b"mine")}


# --- what was released ------------------------------------------------------------------------


def test_a_tag_that_was_moved_to_another_release_is_refused(
    hub: LoopbackHub, pull: Puller, tmp_path: Path
):
    release = published_builds().second_release
    assert push(hub, pull.home, "2.0.0", release).code == 0
    hub.repo("datasets", NAME).git.set_ref("refs/tags/v1.0.0", hub.tags(NAME)["v2.0.0"])
    line = assert_one_line(pull("--out", tmp_path / "out"))
    assert "its files are those of release 2.0.0; somebody made or moved the tag" in line
    assert not (tmp_path / "out").exists()


def test_a_tag_that_was_moved_to_other_bytes_of_its_version_is_found_by_the_record(
    hub: LoopbackHub, pull: Puller, tmp_path: Path
):
    record = tmp_path / "record.yaml"
    release = published_builds().first_release
    assert push(hub, pull.home, "1.0.0", release, "--record", record).code == 0
    assert yaml.safe_load(record.read_text())["lock_sha256"] == whole()[LOCK]
    assert pull("--record", record).code == 0
    files = hub.files(NAME)
    lock = json.loads(files[LOCK])
    files["README.md"] += b"\nForged.\n"
    lock["files"]["README.md"] = {
        "bytes": len(files["README.md"]),
        "sha256": sha256(files["README.md"]),
        "rows": None,
    }
    hub.add_dataset(NAME, files | {LOCK: json.dumps(lock).encode()}, tag="v1.0.0")
    assert pull().code == 0
    out = tmp_path / "out"
    line = assert_one_line(pull("--record", record, "--out", out))
    assert "not the release that was recorded" in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"lock_sha256": "0" * 64}, 1),
        ({"version": "2.0.0"}, 2),
        ({"name": "org/other"}, 2),
        ({"lock_sha256": "short"}, 2),
    ],
    ids=["hash", "version", "name", "no-hash"],
)
def test_a_record_of_something_else_is_refused(tmp_path: Path, changes: dict[str, str], code: int):
    note = {"name": NAME, "version": "1.0.0", "commit": "c", "lock_sha256": whole()[LOCK]}
    record = tmp_path / "record.yaml"
    record.write_text(yaml.safe_dump(note | changes))
    out = tmp_path / "out"
    args = ("pull", f"{NAME}@1.0.0", "--from", published_builds().registry, "--record", record)
    line = assert_one_line(commands().run(*args, "--out", out, env={}), code)
    assert str(record) in line
    assert not out.exists()


@pytest.mark.parametrize("name", [LOCK, TABLE, "README.md"])
@pytest.mark.parametrize("harm", [damage, Path.unlink], ids=["damaged", "gone"])
def test_a_file_that_a_local_registry_lost_is_named(
    tmp_path: Path, name: str, harm: Callable[[Path], None]
):
    registry = registry_with_first(tmp_path / "registry")
    harm(registry / NAME / "v1.0.0" / name)
    out = tmp_path / "out"
    args = ("pull", f"{NAME}@1.0.0", "--from", registry, "--out", out)
    line = assert_one_line(done := commands().run(*args, env={}), done.code)
    assert done.code != 0 and name in line
    assert_nothing_half_written(out)
    assert not (out / LOCK).exists() and not (out / name).exists()


LOADS = f"""
import datasets
from progdata import load
for variant in ("clean", "noisy"):
    plain = datasets.load_dataset("{NAME}", variant, revision="v1.0.0")
    ours = load("{NAME}", version="1.0.0", variant=variant)
    assert set(ours) == set(plain) == {{"train", "validation"}}, (ours, plain)
    for split in plain:
        assert ours[split].features == plain[split].features
        assert ours[split].to_list() == plain[split].to_list() != []
part = load("{NAME}", split="validation")
assert set(part) == {{"validation"}} and part["validation"].num_rows == 3
assert datasets.load_dataset("{NAME}", revision="v1.0.0")["train"].num_rows == 57
"""


def test_load_gives_the_rows_that_the_plain_library_gives(hub: LoopbackHub, tmp_path: Path):
    env = hub.client_env(tmp_path / "home")
    done = subprocess.run([sys.executable, "-c", LOADS], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
