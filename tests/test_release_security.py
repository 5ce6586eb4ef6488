"""No token is told, no file is uploaded that was not declared, and nothing of a release is run."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_server import Answer, Request, json_answer
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
    version_at,
)

from progdata.builders.errors import ProgdataError, UsageError
from progdata.releases.diffed import diff
from progdata.releases.lockfile import parse_lock
from progdata.releases.pulled import pull
from progdata.releases.release_record import read_record
from progdata.releases.released import list_releases

COMMIT = f"POST /api/datasets/{NAME}/commit/main"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with hub_with_first(tmp_path / "hub") as running:
        yield running


# --- the token --------------------------------------------------------------------------------


def assert_nowhere(secret: str, done: Done, *folders: Path, but: Path | None = None) -> None:
    """Nothing that a command printed or wrote holds a secret."""
    assert secret not in done.out and secret not in done.err
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and path != but:
                assert secret.encode() not in path.read_bytes(), path


def assert_not_in_hub(hub: LoopbackHub) -> None:
    """Nothing that the hub was told or keeps holds its token; git's objects are unpacked."""
    assert not any(hub.token in line for line in hub.requests)
    for folder in [path for path in (hub.folder / "datasets").glob("*/*.git") if path.is_dir()]:
        command = ["git", f"--git-dir={folder}", "cat-file", "--batch-all-objects", "--batch"]
        objects = subprocess.run(command, check=True, capture_output=True).stdout
        assert objects and hub.token.encode() not in objects
    for path in hub.folder.rglob("*"):
        assert not path.is_file() or hub.token.encode() not in path.read_bytes()


@pytest.mark.parametrize("stored", [False, True], ids=["environment", "login"])
def test_no_command_tells_the_token(hub: LoopbackHub, tmp_path: Path, stored: bool):
    """`stored`: as `hf auth login` leaves it."""
    home, own = tmp_path / "home", tmp_path / "own"
    build = Path(shutil.copytree(published_builds().second, own / "build"))
    env = hub.client_env(home, "" if stored else hub.token)
    login = home / "token"
    if stored:
        home.mkdir()
        login.write_text(hub.token)
    name = ("--repo", NAME, "--version", "2.0.0")
    for args in (
        ("card", build, "--json"),
        ("push", build, *name, "--dry-run"),
        ("push", build, *name, "--record", own / "record.yaml"),
        ("push", build, *name, "--json"),
        ("releases", NAME),
        ("diff", f"{NAME}@1.0.0", build, "--json"),
        ("pull", f"{NAME}@latest", "--out", own / "out", "--record", own / "record.yaml"),
        ("push", build, "--repo", NAME, "--version", "2.0.0", "--to", own / "registry"),
    ):
        done = commands().run(*args, env=env, cwd=str(own))
        assert done.code == 0, done.err
        assert_nowhere(hub.token, done, own, home, but=login)
    assert_not_in_hub(hub)
    assert hub.tags(NAME).keys() == {"v1.0.0", "v2.0.0"}


class EchoingHub(LoopbackHub):
    """Refuses requests with a text in their line, and repeats the token to whoever sent it."""

    refuses = ""
    status = 400

    def answer(self, request: Request) -> Answer:
        line = f"{request.method} {request.path}"
        if not self.refuses or self.refuses not in line:
            return super().answer(request)
        said = f"I will not take {request.headers.get('authorization', '')} from you"
        headers = {"X-Error-Message": said, "X-Request-Id": "Root=1-echo"}
        return json_answer({"error": said, "message": said}, headers, self.status)


PLACES = {
    "info": f"GET /api/datasets/{NAME}/revision/main",
    "file": f"/datasets/{NAME}/resolve/",
    "create": "POST /api/repos/create",
    "batch": "/objects/batch",
    "validate-yaml": "POST /api/validate-yaml",
    "commit": COMMIT,
    "tag": f"POST /api/datasets/{NAME}/tag/",
}


@pytest.fixture
def echoing(tmp_path: Path) -> Iterator[EchoingHub]:
    with hub_with_first(tmp_path / "hub", EchoingHub) as hub:
        yield hub


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_a_hub_that_repeats_the_token_does_not_make_us_tell_it(
    echoing: EchoingHub, tmp_path: Path, place: str, debug: bool
):
    echoing.refuses, echoing.status = PLACES[place], 400
    env = echoing.client_env(tmp_path / "home")
    release = published_builds().second_release
    args = ["push", release, "--repo", NAME, "--version", "2.0.0"]
    done = commands().run(*(["--debug"] if debug else []), *args, env=env)
    assert done.code == 1, done
    assert debug or assert_one_line(done)
    assert_nowhere(echoing.token, done, tmp_path, release)


@pytest.mark.parametrize("status", [401, 403, 404, 409, 412, 429, 500])
def test_no_status_of_a_hub_that_repeats_the_token_makes_us_tell_it(
    echoing: EchoingHub, tmp_path: Path, status: int
):
    echoing.refuses, echoing.status = PLACES["info"], status
    release = published_builds().second_release
    done = push(echoing, tmp_path / "home", "2.0.0", release, "--dry-run")
    assert_nowhere(echoing.token, done, tmp_path)
    echoing.refuses = PLACES["file"]
    args = ("pull", f"{NAME}@1.0.0", "--out", tmp_path / "out")
    done = commands().run(*args, env=echoing.client_env(tmp_path / "home"))
    assert done.code in (1, 2)
    assert_one_line(done, done.code)
    assert_nowhere(echoing.token, done, tmp_path)


@pytest.mark.parametrize("kind", ["status", "cut", "unknown", "read-only"])
@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_no_failure_tells_the_token(hub: LoopbackHub, tmp_path: Path, kind: Any, debug: bool):
    tokens = {"unknown": "hf_UnknownUnknownUnknownUnknownUnknown", "read-only": hub.read_only_token}
    token = tokens.get(kind, hub.token)
    if kind not in tokens:
        hub.faults = [Fault("POST /api/repos/create", kind, times=1000)]
    env = hub.client_env(tmp_path / "home", token)
    args = ["push", published_builds().second_release, "--repo", NAME, "--version", "2.0.0"]
    done = commands().run(*(["--debug"] if debug else []), *args, env=env)
    assert done.code == 1
    assert ("Traceback" in done.err) == debug
    assert_nowhere(token, done, tmp_path / "home")


# --- what is uploaded -------------------------------------------------------------------------


def test_only_files_that_the_lock_file_names_are_uploaded(hub: LoopbackHub, tmp_path: Path):
    release = Path(shutil.copytree(published_builds().second_release, tmp_path / "release"))
    for name in (".env", "secrets.txt", "reports/notes.txt", ".git/config", ".progdata/own.json"):
        (release / name).parent.mkdir(exist_ok=True)
        (release / name).write_text("PASSWORD=swordfish")
    (release / "linked.txt").symlink_to("/etc/hostname")
    assert push(hub, tmp_path / "home", "2.0.0", release).code == 0
    assert version_at(hub) == "2.0.0"  # nothing else is there
    assert not any(b"swordfish" in content for content in hub.files(NAME).values())


def test_a_stranger_among_the_tables_stops_a_push(hub: LoopbackHub, tmp_path: Path):
    build = Path(shutil.copytree(published_builds().second, tmp_path / "build"))
    (build / "data" / "notes.txt").write_text("mine")
    line = assert_one_line(push(hub, tmp_path / "home", "2.0.0", build), 3)
    assert "data/notes.txt" in line and "nothing was published" in line
    assert version_at(hub) == "1.0.0"


def test_a_file_whose_bytes_are_not_those_of_the_lock_file_stops_a_push(
    hub: LoopbackHub, tmp_path: Path
):
    build = Path(shutil.copytree(published_builds().second, tmp_path / "build"))
    (build / "rejects.parquet").unlink()
    (build / "rejects.parquet").symlink_to("/etc/hostname")
    line = assert_one_line(push(hub, tmp_path / "home", "2.0.0", build), 3)
    assert "rejects.parquet" in line
    assert version_at(hub) == "1.0.0"


# --- names and lock files from a stranger -----------------------------------------------------

HOSTILE = {
    "parent": "../x",
    "absolute": "/etc/x",
    "up-and-out": "data/../../x",
    "drive": "C:\\x",
    "backslash": "a\\..\\b",
    "dot": "data/./x",
    "empty": "",
    "slash": "data//x",
    "nul": "a\0b",
    "line": "a\nb",
    "up": "README.md/../..",
    "git": ".git/config",
    "hidden": ".env",
    "escape": "a\x1b[2Jb",
    "override": "a\u202eb",
}


def forged_lock(**changes: Any) -> bytes:
    return json.dumps(json.loads(published_builds().lock_bytes("1.0.0")) | changes).encode()


def lock_that_names(name: str) -> bytes:
    record = {"bytes": 1, "sha256": "0" * 64, "rows": None}
    return forged_lock(files={"README.md": record, name: record})


def forged_registry(folder: Path, lock: bytes) -> Path:
    """A local registry whose one release has this lock file."""
    registry = registry_with_first(folder)
    (registry / NAME / "v1.0.0" / LOCK).write_bytes(lock)
    record = registry / NAME / "v1.0.0.yaml"
    note = yaml.safe_load(record.read_text("utf-8"))
    record.write_text(yaml.safe_dump(note | {"lock_sha256": sha256(lock)}), "utf-8")
    return registry


def listing(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def assert_refused(tmp_path: Path, lock: bytes) -> None:
    """Nothing that reads releases takes a lock file, or writes a thing for it."""
    registry = forged_registry(tmp_path / "registry", lock)
    before = listing(tmp_path)
    spec = f"{NAME}@1.0.0"
    with pytest.raises(ProgdataError, match="not a lock file of progdata"):
        pull(spec, out=tmp_path / "out", source=str(registry))
    with pytest.raises(ProgdataError, match="not a lock file of progdata"):
        diff(spec, str(published_builds().first), source=str(registry))
    (listed,) = list_releases(NAME, source=str(registry))["releases"]
    assert "not a lock file of progdata" in listed["unreadable"]
    assert "\n" not in listed["unreadable"] and "\x1b" not in listed["unreadable"]
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_lock_file_whose_names_lead_elsewhere_is_refused(tmp_path: Path, name: str):
    assert_refused(tmp_path, lock_that_names(name))


GARBAGE = {
    "empty": b"",
    "words": b"not JSON",
    "list": b"[]",
    "null": b"null",
    "number": b"7",
    "bytes": b"\xff\xfe\x00",
    "nested": b"[" * 100_000,
    "nested-objects": b'{"a":' * 100_000,
    "long-number": b"1" * 10_000,
    "page": b"<!doctype html><title>Sign in</title>",
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_a_lock_file_of_garbage_is_refused(tmp_path: Path, content: bytes):
    assert_refused(tmp_path, content)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"format": float("nan")}, "format"),
        ({"splits": {"train": float("inf")}}, "splits"),
        ({"files": ["README.md"]}, "files"),
        ({"files": {"README.md": {"bytes": "many", "sha256": "0"}}}, "bytes"),
        ({"recipe": None}, "recipe"),
        ({"surprise": 1}, "surprise"),
    ],
    ids=["nan", "infinity", "list-of-files", "size", "no-recipe", "unknown-field"],
)
def test_a_lock_file_with_hostile_values_is_refused(changes: dict[str, Any], field: str):
    with pytest.raises(ProgdataError, match=field) as refused:
        parse_lock(forged_lock(**changes), "lock")
    assert "\n" not in str(refused.value)


def test_a_hub_with_a_hostile_lock_file_is_refused_by_every_command(
    hub: LoopbackHub, tmp_path: Path
):
    files = hub.files(NAME) | {LOCK: lock_that_names("../../outside")}
    hub.add_dataset(NAME, files, tag="v1.0.0")
    env = hub.client_env(tmp_path / "home")
    release = published_builds().second_release
    for args in (
        ("pull", f"{NAME}@latest", "--out", tmp_path / "out"),
        ("diff", f"{NAME}@1.0.0", release),
        ("push", release, "--repo", NAME, "--version", "2.0.0"),
    ):
        line = assert_one_line(commands().run(*args, env=env))
        assert LOCK in line and "outside" in line
    report = commands().run("releases", NAME, "--json", env=env).report
    assert "unreadable" in report["releases"][0]
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("outside*"))
    assert set(hub.tags(NAME)) == {"v1.0.0"}


CLEAR = "\x1b[2J\x1b]0;title\x07"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("releases", NAME), 0),
        (("pull", f"{NAME}@1.0.0"), 0),
        (("pull", f"{NAME}@1.0.0", "--split", "none"), 2),
        (("diff", f"{NAME}@1.0.0", f"{NAME}@2.0.0"), 0),
    ],
    ids=["releases", "pull", "split", "diff"],
)
def test_no_control_character_of_a_strangers_lock_file_reaches_the_terminal(
    tmp_path: Path, args: tuple[str, ...], code: int
):
    lock = json.loads(published_builds().lock_bytes("1.0.0"))
    lock["release"]["changes"] = [f"new {CLEAR}"]
    lock["splits"] = {f"train{CLEAR}": 57, "validation": 3}
    lock["versions"][f"numpy{CLEAR}"] = CLEAR
    lock["sources"][0][f"spec{CLEAR}"] = CLEAR
    registry = forged_registry(tmp_path / "registry", json.dumps(lock).encode())
    for name in ("v2.0.0", "v2.0.0.yaml"):
        (registry / NAME / name).symlink_to(published_builds().registry / NAME / name)
    done = commands().run(*args, "--from", registry, env={})
    assert done.code == code, done.err
    assert "\x1b" not in done.out + done.err and "\x07" not in done.out + done.err


@pytest.mark.parametrize(
    "name",
    ["../traces", "org/../x", "/etc/x", "org/name/x", "org", "org/.git", "org/na me", "", "."],
)
def test_a_name_that_is_no_repository_is_refused(tmp_path: Path, name: str):
    before = listing(tmp_path)
    for act in (
        lambda: pull(f"{name}@1.0.0", out=tmp_path / "out", source=str(tmp_path / "registry")),
        lambda: list_releases(name, source=str(tmp_path / "registry")),
    ):
        with pytest.raises(UsageError):
            act()
    assert listing(tmp_path) == before


# --- nothing is run ---------------------------------------------------------------------------

READS = f"""
import datasets, progdata
assert progdata.load("{NAME}", version="1.0.0")["train"].num_rows == 57
"""


def test_scripts_in_a_repository_are_never_run(hub: LoopbackHub, tmp_path: Path):
    ran = tmp_path / "ran"
    script = f"open({str(ran)!r}, 'w').close()\n".encode()
    names = ("traces.py", "count.py", "sitecustomize.py", "conftest.py", "setup.py")
    files = hub.files(NAME) | dict.fromkeys(names, script)
    lock = json.loads(files[LOCK])
    readme = lock["files"]["README.md"]
    lock["files"]["count.py"] = readme | {"bytes": len(script), "sha256": sha256(script)}
    hub.add_dataset(NAME, files | {LOCK: json.dumps(lock).encode()}, tag="v1.0.0")
    env = hub.client_env(tmp_path / "home")
    out = tmp_path / "out"
    for args in (
        ("pull", f"{NAME}@1.0.0", "--out", out),
        ("pull", f"{NAME}@latest"),
        ("diff", f"{NAME}@1.0.0", published_builds().second_release),
        ("releases", NAME),
    ):
        assert commands().run(*args, env=env, cwd=str(tmp_path)).code == 0
    assert (out / "count.py").read_bytes() == script
    assert not (out / "traces.py").exists()
    done = subprocess.run([sys.executable, "-c", READS], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not ran.exists()


def yaml_that_runs(ran: Path) -> str:
    return f"name: !!python/object/apply:os.system ['touch {ran}']\n"


@pytest.mark.parametrize("command", ["card", "build", "pull"])
def test_yaml_is_loaded_safely(tmp_path: Path, command: str):
    ran, file = tmp_path / "ran", tmp_path / "file.yaml"
    file.write_text(yaml_that_runs(ran))
    build = Path(shutil.copytree(published_builds().second, tmp_path / "build"))
    registry = published_builds().registry
    args: dict[str, tuple[Any, ...]] = {
        "card": ("card", build, "--facts", file),
        "build": ("build", file, "--out", tmp_path / "out"),
        "pull": ("pull", f"{NAME}@1.0.0", "--record", file, "--from", registry),
    }
    line = assert_one_line(commands().run(*args[command], env={}), 2)
    assert str(file) in line
    assert not ran.exists()


def test_yaml_in_a_registry_and_in_a_build_is_loaded_safely(tmp_path: Path):
    ran = tmp_path / "ran"
    registry = registry_with_first(tmp_path / "registry")
    record = registry / NAME / "v1.0.0.yaml"
    record.write_text(yaml_that_runs(ran))
    with pytest.raises(UsageError, match="not the record of a release"):
        read_record(record)
    with pytest.raises(UsageError, match="not the record of a release"):
        pull(f"{NAME}@latest", source=str(registry))
    build = Path(shutil.copytree(published_builds().second, tmp_path / "build"))
    (build / "card.yaml").write_text(yaml_that_runs(ran))
    lock = json.loads((build / LOCK).read_bytes())
    content = (build / "card.yaml").read_bytes()
    lock["files"]["card.yaml"] = {"bytes": len(content), "sha256": sha256(content), "rows": None}
    (build / LOCK).write_text(json.dumps(lock), "utf-8")
    args = ("push", build, "--repo", NAME, "--version", "1.0.0", "--to", tmp_path / "own")
    assert "card.yaml" in assert_one_line(commands().run(*args, env={}), 2)
    assert not ran.exists()
