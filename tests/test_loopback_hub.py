"""The real clients write to the loopback hub and read from it, and it misbehaves as told."""

import inspect
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hub_processes import Client, ClientError, ask, commit_lines, file_line
from loopback_hub import Fault, LoopbackHub

REPO = "org/traces"
README = """---
license: mit
configs:
- config_name: default
  data_files: data/train.jsonl
---
# Traces
"""
ROWS = '{"n": 1}\n{"n": 2}\n'
BLOB = b"PAR1 not really" * 1000
BLOB_SHA256 = sha256(BLOB).hexdigest()


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as running:
        yield running


@pytest.fixture
def client(hub: LoopbackHub, tmp_path: Path) -> Client:
    return Client(hub, tmp_path / "hf")


FILES = {"README.md": README, "data/train.jsonl": ROWS, "data/part.parquet": BLOB.decode()}


def git(hub: LoopbackHub, repo_id: str, *args: str) -> str:
    command = ["git", f"--git-dir={hub.git_folder(repo_id)}", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


# --- writing and reading ----------------------------------------------------------------------


def test_a_push_is_these_requests_and_git_agrees(hub: LoopbackHub, client: Client):
    sha = client("push", REPO, FILES, "v1.0.0")
    assert [line.partition("?")[0] for line in hub.requests] == [
        "POST /api/repos/create",
        "GET /api/datasets/org/traces/refs",
        "POST /api/datasets/org/traces/preupload/main",
        "POST /datasets/org/traces.git/info/lfs/objects/batch",
        f"PUT /lfs/{BLOB_SHA256}",
        "POST /datasets/org/traces.git/info/lfs/objects/verify",
        "POST /api/validate-yaml",
        "POST /api/datasets/org/traces/commit/main",
        f"POST /api/datasets/org/traces/tag/{sha}",
    ]
    assert hub.uploads == [BLOB_SHA256]
    assert hub.tags(REPO) == {"v1.0.0": sha}
    released = {path: text.encode() for path, text in FILES.items()}
    files = hub.files(REPO, "v1.0.0")
    assert {path: data for path, data in files.items() if path != ".gitattributes"} == released
    newest, first = hub.history(REPO)
    assert (newest.sha, newest.title, first.title) == (sha, "Release", "initial commit")
    assert newest.files == {path: sha256(data).hexdigest() for path, data in files.items()}
    git(hub, REPO, "fsck", "--strict")
    assert git(hub, REPO, "log", "--format=%H %s").splitlines() == [
        f"{commit.sha} {commit.title}" for commit in (newest, first)
    ]
    assert git(hub, REPO, "cat-file", "-t", "v1.0.0") == "tag"
    assert git(hub, REPO, "tag", "-l", "--format=%(contents)") == "As built"
    pointer = git(hub, REPO, "show", "v1.0.0:data/part.parquet")
    assert pointer.splitlines()[1:] == [f"oid sha256:{BLOB_SHA256}", f"size {len(BLOB)}"]


@pytest.mark.parametrize("tag_objects", [False, True])
def test_a_pushed_release_reads_back_at_its_tag(
    hub: LoopbackHub, client: Client, tag_objects: bool
):
    sha = client("push", REPO, FILES, "v1")
    client("push", REPO, {"README.md": README + "\nLater.\n"})
    hub.list_tag_objects = tag_objects
    hub.page_size = 1
    seen = client("look", REPO, "v1")
    first = hub.history(REPO)[-1].sha
    assert seen == {
        "tree": [".gitattributes", "README.md", "data", "data/part.parquet", "data/train.jsonl"],
        "sha256s": {"README.md": None, "data/part.parquet": BLOB_SHA256},
        "commits": [[sha, "Release"], [first, "initial commit"]],
        "info": [sha, False, "mit"],
        "part": BLOB.decode(),
        "tags": {"v1": git(hub, REPO, "rev-parse", "refs/tags/v1") if tag_objects else sha},
    }
    assert (seen["tags"]["v1"] != sha) == tag_objects


def test_load_dataset_at_a_pushed_tag(client: Client):
    client("push", REPO, FILES, "v1")
    assert client("load", REPO, "v1") == [{"n": 1}, {"n": 2}]


def test_what_is_there_already_is_not_uploaded_or_committed_again(hub: LoopbackHub, client: Client):
    first = client("push", REPO, FILES)
    assert client("push", REPO, FILES) == first
    renamed = client("push", REPO, {"other.parquet": BLOB.decode()})
    assert [commit.sha for commit in hub.history(REPO)][:2] == [renamed, first]
    assert hub.uploads == [BLOB_SHA256]


def test_folders_are_uploaded_cleared_deleted_and_fetched(
    hub: LoopbackHub, client: Client, tmp_path: Path
):
    folder = tmp_path / "build"
    (folder / "deep").mkdir(parents=True)
    files = {"a.jsonl": ROWS, "deep/b.parquet": "PAR1", "empty.bin": ""}
    for path, text in files.items():
        (folder / path).write_text(text)
    fetched = client("copy_folder", "org/folders", str(folder))
    del fetched[".gitattributes"]
    assert fetched == files | {f"copy/{path}": text for path, text in files.items()}
    assert "copy/deep/b.parquet" not in hub.files("org/folders")
    assert "copy/a.jsonl" in hub.files("org/folders")


def test_refusals(hub: LoopbackHub, client: Client):
    old = hub.add_dataset(REPO, {"a.txt": b"1"})
    head = hub.add_dataset(REPO, {"a.txt": b"2"}, tag="v1")
    new = {"add": {"b.txt": "3"}}
    bad_card = {"add": {"README.md": "---\na: [\n---\n# No\n"}}
    calls: list[tuple[str, list[Any], dict[str, Any], str]] = [
        ("create_repo", [REPO], {}, "HfHubHTTPError 409"),
        ("create_repo", [REPO], {"exist_ok": True}, ""),
        ("create_commit", [REPO], new | {"parent_commit": old}, "HfHubHTTPError 412"),
        ("create_commit", [REPO], new | {"revision": "absent"}, "RevisionNotFoundError 404"),
        ("create_commit", [REPO], bad_card, "ValueError - Invalid metadata in README.md."),
        ("create_commit", [REPO], {"delete": ["no"]}, "RemoteEntryNotFoundError 404"),
        ("create_commit", ["org/absent"], dict(new), "RepositoryNotFoundError 404"),
        ("create_tag", [REPO], {"tag": "v1"}, "HfHubHTTPError 409"),
        ("create_tag", [REPO], {"tag": "v1", "exist_ok": True}, ""),
        ("create_tag", [REPO], {"tag": "v 2"}, "BadRequestError 400"),
        ("create_tag", [REPO], {"tag": "v3", "revision": "absent"}, "RevisionNotFoundError 404"),
        ("delete_tag", [REPO], {"tag": "v2"}, "RevisionNotFoundError 404"),
        ("delete_tag", [REPO], {"tag": "v1"}, ""),
        ("create_branch", [REPO], {"branch": "drafts/next"}, ""),
        ("create_branch", [REPO], {"branch": "drafts/next"}, "HfHubHTTPError 409"),
        ("create_commit", [REPO], new | {"revision": "drafts/next", "parent_commit": head}, ""),
        ("delete_branch", [REPO], {"branch": "drafts/next"}, ""),
    ]
    answers = client("refusals", [call[:3] for call in calls])
    for (name, _, options, expected), answer in zip(calls, answers, strict=True):
        assert answer.startswith(expected) if expected else answer == "", (name, options, answer)
    assert "A commit has happened since." in answers[2]
    assert hub.tags(REPO) == {}
    assert [commit.sha for commit in hub.history(REPO)] == [head, old]


def test_tokens_decide_who_may_read_and_write(hub: LoopbackHub, client: Client):
    url, user = client("create", "org/secret", True)
    assert (url, user) == (f"{hub.endpoint}/datasets/org/secret", hub.user)
    hub.add_dataset("org/open", {"a.txt": b"1"})
    read = [("list_repo_refs", [repo], {}) for repo in ("org/secret", "org/open")]
    write: list[Any] = [("create_tag", ["org/open"], {"tag": "v1"})]
    calls = [*read, *write, ("create_repo", ["org/new"], {})]
    expected = {
        "": ["RepositoryNotFoundError 401", "", "HfHubHTTPError 401", "HfHubHTTPError 401"],
        hub.read_only_token: ["", "", "HfHubHTTPError 403", "HfHubHTTPError 403"],
        "hf_unknown": ["HfHubHTTPError 401"] * 4,
    }
    for token, answers in expected.items():
        given = [" ".join(answer.split()[:2]) for answer in client("refusals", calls, token=token)]
        assert given == answers
    assert hub.tags("org/open") == {}
    path = "/datasets/org/secret/resolve/main/.gitattributes"
    assert [ask(hub, "GET", path, token=token)[0] for token in ("", hub.token)] == [401, 200]


def test_wrong_bytes_and_blobs_that_never_arrived_are_refused(hub: LoopbackHub):
    head = hub.add_dataset(REPO, {"a.txt": b"1"})
    wanted = {"operation": "upload", "objects": [{"oid": BLOB_SHA256, "size": len(BLOB)}]}
    batch = f"/datasets/{REPO}.git/info/lfs/objects/batch"
    actions = json.loads(ask(hub, "POST", batch, json.dumps(wanted).encode())[1])["objects"][0]
    put = actions["actions"]["upload"]["href"].removeprefix(hub.endpoint)
    pointer = {"path": "a.parquet", "algo": "sha256", "oid": BLOB_SHA256, "size": len(BLOB)}
    lines = commit_lines({"key": "lfsFile", "value": pointer})
    status, message = ask(hub, "PUT", put, BLOB[:-1] + b"?")
    assert status == 400 and b"expected sha256" in message
    assert ask(hub, "PUT", put.partition("?")[0], BLOB)[0] == 403
    assert hub.uploads == []
    status, message = ask(hub, "POST", f"/api/datasets/{REPO}/commit/main", lines)
    assert status == 400 and b"does not exist" in message
    assert [commit.sha for commit in hub.history(REPO)] == [head]
    assert ask(hub, "PUT", put, BLOB) == (200, b"")
    assert ask(hub, "POST", f"/api/datasets/{REPO}/commit/main", lines)[0] == 200
    assert hub.files(REPO)["a.parquet"] == BLOB
    assert list(hub.folder.glob("lfs/arriving-*")) == []


@pytest.mark.parametrize("name", ["digits.txt", "digits.parquet"])
def test_ranges_of_files_in_and_outside_of_git(hub: LoopbackHub, name: str):
    hub.add_dataset("org/digits", {name: b"0123456789"})
    path = f"/datasets/org/digits/resolve/main/{name}"
    for asked, status, body in [
        ("bytes=2-5", 206, b"2345"),
        ("bytes=-3", 206, b"789"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=10-", 416, b""),
    ]:
        assert ask(hub, "GET", path, Range=asked) == (status, body)


def test_a_file_may_take_the_place_of_a_folder_and_back(hub: LoopbackHub):
    hub.add_dataset(REPO, {"a/b.txt": b"1", "a/c.txt": b"2", "d": b"3"})
    path = f"/api/datasets/{REPO}/commit/main"
    swap = [{"key": "deletedFolder", "value": {"path": "a/"}}, file_line("a", "file")]
    assert ask(hub, "POST", path, commit_lines(*swap, file_line("d/e", "deep")))[0] == 200
    assert hub.files(REPO) == {"a": b"file", "d/e": b"deep"}
    assert ask(hub, "POST", path, commit_lines(file_line("../out", "no")))[0] == 400


def test_of_many_commits_at_once_on_one_parent_one_is_made(hub: LoopbackHub):
    head = hub.add_dataset(REPO, {"a.txt": b"1"})
    path = f"/api/datasets/{REPO}/commit/main"

    def commit(number: int, parent: str | None) -> int:
        lines = commit_lines(file_line(f"{number}.txt", "2"), parent=parent)
        return ask(hub, "POST", path, lines)[0]

    with ThreadPoolExecutor(8) as pool:
        on_one_parent = [*pool.map(commit, range(8), [head] * 8)]
        on_any = [*pool.map(commit, range(8), [None] * 8)]
    assert sorted(on_one_parent) == [200] + [412] * 7
    assert on_any == [200] * 8
    assert len(hub.history(REPO)) == 10
    assert sorted(hub.files(REPO)) == sorted(["a.txt", *(f"{n}.txt" for n in range(8))])


def test_git_refuses_to_move_a_branch_that_has_moved(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
):
    hub.add_dataset(REPO, {"a.txt": b"1"})
    repo = hub.repo("datasets", REPO).git
    seen = repo.heads()
    moved = hub.add_dataset(REPO, {"a.txt": b"2"})
    monkeypatch.setattr(repo, "heads", lambda: seen)
    lines = commit_lines(file_line("b.txt", "3"))
    assert ask(hub, "POST", f"/api/datasets/{REPO}/commit/main", lines)[0] == 412
    monkeypatch.undo()
    assert hub.history(REPO)[0].sha == moved


def test_a_hub_finds_its_repositories_again(tmp_path: Path):
    with LoopbackHub(tmp_path) as hub:
        sha = hub.add_dataset(REPO, {"a.txt": b"1", "b.parquet": BLOB}, tag="v1")
    with LoopbackHub(tmp_path) as hub:
        assert hub.files(REPO, "v1") == {"a.txt": b"1", "b.parquet": BLOB}
        assert hub.history(REPO)[0].sha == sha


def test_commits_do_not_depend_on_when_or_where_they_are_made(hub: LoopbackHub):
    files = {"a.txt": b"1", "b.parquet": BLOB}
    with LoopbackHub() as other:
        shas = [running.add_dataset(REPO, files, tag="v1") for running in (hub, other)]
    assert shas[0] == shas[1]
    assert git(hub, REPO, "log", "-1", "--format=%cI") == "2026-01-01T00:00:00+00:00"


def test_it_serves_as_a_program(tmp_path: Path):
    command = [sys.executable, inspect.getfile(LoopbackHub), "--folder", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        served = json.loads(program.stdout.readline())
        connection = HTTPConnection(urlsplit(served["endpoint"]).netloc)
        headers = {"Authorization": f"Bearer {served['token']}"}
        connection.request("GET", "/api/whoami-v2", headers=headers)
        assert json.load(connection.getresponse())["name"] == "loopback"
        connection.close()
        program.kill()


# --- faults -----------------------------------------------------------------------------------


def test_a_push_gets_over_faults_of_its_upload(hub: LoopbackHub, client: Client):
    hub.faults = [
        Fault("/preupload/", "status", status=429, retry_after=0),
        Fault("/objects/batch", "status", status=503),
        Fault("PUT /lfs/", "cut"),
        Fault("PUT /lfs/", "lose_answer", nth=2),
    ]
    sha = client("push", REPO, FILES, "v1")
    assert hub.tags(REPO) == {"v1": sha}
    assert sum("PUT /lfs/" in line for line in hub.requests) == 3
    assert hub.uploads == [BLOB_SHA256] * 2  # the second, whose answer was lost, and the third


@pytest.mark.parametrize(
    ("fault", "raised", "commits", "tags"),
    [
        (Fault("/commit/", "status", status=503), "HfHubHTTPError", 1, 0),
        (Fault("/commit/", "cut"), "(WriteError|ReadError|RemoteProtocolError)", 1, 0),
        (Fault("/commit/", "lose_answer"), "RemoteProtocolError", 2, 0),
        (Fault("/tag/", "status", status=429, retry_after=1), "HfHubHTTPError", 2, 0),
        (Fault("/tag/", "lose_answer"), "RemoteProtocolError", 2, 1),
    ],
    ids=["commit-503", "commit-cut", "commit-lost", "tag-429", "tag-lost"],
)
def test_the_client_does_not_try_a_commit_or_a_tag_again(
    hub: LoopbackHub, client: Client, fault: Fault, raised: str, commits: int, tags: int
):
    hub.faults = [fault]
    with pytest.raises(ClientError, match=f"^{raised}"):
        client("push", REPO, {"a.txt": "1"}, "v1")
    assert len(hub.history(REPO)) == commits
    assert len(hub.tags(REPO)) == tags
    assert sum(fault.match in line for line in hub.requests) == 1


@pytest.mark.parametrize("path", ["plain.txt", "blob.bin"])
def test_downloads_are_cut_resumed_and_corrupted(hub: LoopbackHub, client: Client, path: str):
    sha = hub.add_dataset(REPO, {path: BLOB})
    resolve = f"GET /datasets/{REPO}/resolve/"
    hub.faults = [Fault(resolve, "cut"), Fault(resolve, "corrupt", nth=3)]
    assert client("download", REPO, path, sha) == BLOB.decode()
    asked = f"/datasets/{REPO}/resolve/{sha}/{path}"
    status, corrupt = ask(hub, "GET", asked)
    assert (status, len(corrupt)) == (200, len(BLOB))
    assert [n for n in range(len(BLOB)) if corrupt[n] != BLOB[n]] == [len(BLOB) // 2]
    assert ask(hub, "GET", asked) == (200, BLOB)


def test_statuses_at_the_nth_request_slow_and_lost_answers(hub: LoopbackHub):
    hub.add_dataset(REPO, {"a.txt": b"1"})
    refs = f"/api/datasets/{REPO}/refs"
    hub.faults = [Fault("/refs", "status", status=502, nth=2, times=2)]
    assert [ask(hub, "GET", refs)[0] for _ in range(5)] == [200, 502, 502, 200, 200]
    hub.faults.append(Fault("/refs", "lose_answer"))
    with pytest.raises(RemoteDisconnected):
        ask(hub, "GET", refs)
    hub.faults.append(Fault("/refs", "slow", seconds=30))
    with pytest.raises(TimeoutError):
        ask(hub, "GET", refs, timeout=0.2)
    assert ask(hub, "GET", refs)[0] == 200


# --- code of a test, run at a request ---------------------------------------------------------


def test_another_pusher_may_win_in_between(hub: LoopbackHub, client: Client):
    winners: list[str] = []

    def win(line: str) -> None:
        if "/commit/" in line:
            winners.append(hub.add_dataset(REPO, {"won.txt": b"1"}))

    hub.on_request = win
    with pytest.raises(ClientError, match="A commit has happened since"):
        client("push", REPO, {"a.txt": "1"}, "v1")
    assert hub.history(REPO)[0].sha == winners[0]
    assert hub.tags(REPO) == {}


@pytest.mark.parametrize(
    ("step", "commits", "tags"),
    [("/repos/create", 1, 0), ("PUT /lfs/", 1, 0), ("/commit/", 2, 0), ("/tag/", 2, 1)],
    ids=["create", "upload", "commit", "tag"],
)
def test_a_pusher_killed_at_a_request_has_still_made_it(
    hub: LoopbackHub, client: Client, step: str, commits: int, tags: int
):
    pusher = client.start("push")
    hub.on_request = lambda line: pusher.kill() if step in line else None
    with pytest.raises(ClientError, match=f"exit code -{signal.SIGKILL.value}"):
        client.finish(pusher, REPO, FILES, "v1")
    hub.wait_until_idle()
    assert step in hub.requests[-1]
    assert (len(hub.history(REPO)), len(hub.tags(REPO))) == (commits, tags)


def test_a_request_may_be_dropped_undone(hub: LoopbackHub):
    head = hub.add_dataset(REPO, {"a.txt": b"1"})

    def drop(line: str) -> None:
        if "/commit/" in line:
            raise ConnectionAbortedError

    hub.on_request = drop
    with pytest.raises(RemoteDisconnected):
        ask(hub, "POST", f"/api/datasets/{REPO}/commit/main", commit_lines(file_line("b", "2")))
    assert hub.history(REPO)[0].sha == head
