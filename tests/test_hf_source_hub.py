"""The real `datasets` and `huggingface_hub` clients load repositories from the loopback hub."""

import inspect
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback_hub import LoopbackHub
from tokenizers import Tokenizer, models

REPO = "org/traces"
README = b"""---
license: mit
configs:
- config_name: easy
  default: true
  data_files:
  - split: train
    path: easy/train-*.parquet
  - split: test
    path: easy/test-*.parquet
- config_name: hard
  data_files:
  - split: train
    path: hard/*.parquet
---
# Traces
"""

CLIENT = """
import json, sys
from typing import Any

off_loopback = []

def stay_on_loopback(event, args):
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event == "socket.connect" and isinstance(args[1], tuple):
        host = args[1][0]
    else:
        return
    if host != "127.0.0.1":
        off_loopback.append(str(host))
        raise PermissionError(f"{event} {host}")

sys.addaudithook(stay_on_loopback)
names = {"Any": Any}
job = json.load(sys.stdin)
exec(job["source"], names)
value = raised = None
try:
    value = names[job["name"]](*job["args"])
except Exception as error:
    raised = f"{type(error).__name__}: {error}"
print(json.dumps({"value": value, "raised": raised, "off_loopback": off_loopback}))
"""


class ClientError(Exception):
    """What the client's exception was, as "Name: message"."""


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as running:
        yield running


@pytest.fixture
def client(hub: LoopbackHub, tmp_path: Path) -> Callable[..., Any]:
    """Runs a function in a process whose clients know only the hub, and returns its JSON value."""

    def run(call: Callable[..., Any], *args: Any) -> Any:
        job = {"source": inspect.getsource(call), "name": call.__name__, "args": args}
        done = subprocess.run(
            [sys.executable, "-c", CLIENT],
            env=hub.client_env(tmp_path / "hf"),
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout.splitlines()[-1])
        assert answer["off_loopback"] == []
        if answer["raised"]:
            raise ClientError(answer["raised"])
        return answer["value"]

    return run


@pytest.fixture
def releases(hub: LoopbackHub) -> list[str]:
    """Two commits of a parquet repository, tagged v1 and v2; the second doubles every number."""
    return [hub.add_dataset(REPO, release_files(n), tag=f"v{n}") for n in (1, 2)]


def release_files(factor: int) -> dict[str, bytes]:
    return {
        "README.md": README,
        "easy/train-00000-of-00002.parquet": parquet([1 * factor, 2 * factor]),
        "easy/train-00001-of-00002.parquet": parquet([3 * factor]),
        "easy/test-00000-of-00001.parquet": parquet([9 * factor]),
        "hard/train.parquet": parquet([10 * factor]),
    }


def parquet(numbers: list[int]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": numbers}), sink)
    return sink.getvalue()


def tokenizer_json() -> bytes:
    words = {"[UNK]": 0, "two": 1, "three": 2}
    return Tokenizer(models.WordLevel(words, unk_token="[UNK]")).to_str().encode()


def dataset_info(repo_id: str, revision: str | None = None) -> Any:
    from huggingface_hub import HfApi

    info = HfApi().dataset_info(repo_id, revision=revision, files_metadata=True)
    files = {file.rfilename: file.lfs and file.lfs.sha256 for file in info.siblings or []}
    return {"sha": info.sha, "license": info.card_data and info.card_data.license, "files": files}


def shas_at(repo_id: str, revisions: list[str | None]) -> Any:
    from huggingface_hub import HfApi

    return [HfApi().dataset_info(repo_id, revision=revision).sha for revision in revisions]


def load(repo_id: str, parts: list[tuple[str | None, str, str]], streaming: bool = True) -> Any:
    from datasets import load_dataset

    return [
        [*load_dataset(repo_id, config, split=split, revision=revision, streaming=streaming)]
        for config, split, revision in parts
    ]


def download(repo_id: str, filename: str, revision: str | None = None, kind: str = "model") -> Any:
    from huggingface_hub import hf_hub_download

    return hf_hub_download(repo_id, filename, revision=revision, repo_type=kind)


def snapshot(repo_id: str, revision: str) -> Any:
    from huggingface_hub import snapshot_download

    return snapshot_download(repo_id, repo_type="dataset", revision=revision)


def look_around(repo_id: str, revision: str) -> Any:
    from huggingface_hub import HfApi, HfFileSystem

    api, files = HfApi(), HfFileSystem()
    root = f"datasets/{repo_id}@{revision}"
    tree = api.list_repo_tree(repo_id, repo_type="dataset", revision=revision, expand=True)
    wanted = ["hard", "README.md", "absent"]
    infos = api.get_paths_info(repo_id, wanted, repo_type="dataset", revision=revision)
    return {
        "tags": {
            ref.name: ref.target_commit
            for ref in api.list_repo_refs(repo_id, repo_type="dataset").tags
        },
        "changed": {item.path: item.last_commit and item.last_commit.oid for item in tree},
        "paths": [info.path for info in infos],
        "glob": [path.removeprefix(root) for path in files.glob(f"{root}/**/*.parquet")],
        "tail": list(files.cat_file(f"{root}/hard/train.parquet", start=-4)),
    }


def numbers(rows: list[dict[str, int]]) -> list[int]:
    return [row["n"] for row in rows]


def test_a_branch_a_tag_and_a_sha_resolve_to_the_commit(
    hub: LoopbackHub, client: Any, releases: list[str]
):
    v1, v2 = releases
    draft = hub.add_dataset(REPO, {"README.md": README}, revision="drafts/next")
    revisions = [None, "main", "v1", "v2", v1, "drafts/next"]
    assert client(shas_at, REPO, revisions) == [v2, v2, v1, v2, v1, draft]


def test_dataset_info_tells_the_card_and_the_sha256_of_lfs_files(client: Any, releases: list[str]):
    info = client(dataset_info, REPO, "v1")
    sha256s = {
        path: sha256(data).hexdigest() if path.endswith(".parquet") else None
        for path, data in release_files(1).items()
    }
    assert info == {"sha": releases[0], "license": "mit", "files": sha256s}


@pytest.mark.parametrize("streaming", [True, False])
def test_both_configs_of_a_parquet_repository_load(
    client: Any, releases: list[str], streaming: bool
):
    head = releases[-1]
    parts = [("easy", "train", head), ("easy", "test", head), ("hard", "train", head)]
    loaded = client(load, REPO, parts, streaming)
    assert [numbers(rows) for rows in loaded] == [[2, 4, 6], [18], [20]]


def test_a_jsonl_repository_without_a_card_loads(hub: LoopbackHub, client: Any):
    rows = [{"n": n, "think": f"trace {n} \u00e9\n"} for n in range(3)]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    sha = hub.add_dataset("org/lines", {"data/train.jsonl": data})
    assert client(load, "org/lines", [(None, "train", sha)]) == [rows]


def test_an_old_revision_still_loads_by_sha_and_by_tag(client: Any, releases: list[str]):
    parts = [("easy", "train", revision) for revision in (releases[0], "v1", "v2")]
    loaded = client(load, REPO, parts)
    assert [numbers(rows) for rows in loaded] == [[1, 2, 3], [1, 2, 3], [2, 4, 6]]


def test_a_tokenizer_downloads_from_a_model_repository(hub: LoopbackHub, client: Any):
    sha = hub.add_model("org/model", {"tokenizer.json": tokenizer_json()})
    path = Path(client(download, "org/model", "tokenizer.json"))
    assert path.parent.name == sha
    assert Tokenizer.from_file(str(path)).encode("three").ids == [2]


def test_a_snapshot_of_many_pages_is_the_whole_commit(
    hub: LoopbackHub, client: Any, releases: list[str]
):
    hub.page_size = 2
    root = Path(client(snapshot, REPO, "v1"))
    found = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    assert found == release_files(1)
    assert sum("/tree/" in line for line in hub.requests) == 4


def test_trees_paths_refs_and_ranges_are_what_the_clients_expect(
    hub: LoopbackHub, client: Any, releases: list[str]
):
    v1, v2 = releases
    seen = client(look_around, REPO, v2)
    assert seen == {
        "tags": {"v1": v1, "v2": v2},
        "changed": {"README.md": v1, "easy": v2, "hard": v2},
        "paths": ["hard", "README.md"],
        "glob": [f"/{path}" for path in sorted(release_files(2)) if path.endswith(".parquet")],
        "tail": list(b"PAR1"),
    }


@pytest.mark.parametrize(
    ("call", "args", "raised"),
    [
        (dataset_info, ["org/absent"], "RepositoryNotFoundError"),
        (dataset_info, [REPO, "v9"], "RevisionNotFoundError"),
        (download, [REPO, "README.md"], "RepositoryNotFoundError"),
        (download, [REPO, "README.md", "0" * 40, "dataset"], "RevisionNotFoundError"),
        (download, [REPO, "absent.json", "v1", "dataset"], "RemoteEntryNotFoundError"),
        (load, ["org/absent", [("easy", "train", "v1")]], "DatasetNotFoundError: Dataset"),
        (load, [REPO, [("easy", "train", "v9")]], "DatasetNotFoundError: Revision 'v9'"),
    ],
)
@pytest.mark.usefixtures("releases")
def test_what_is_not_there_raises_the_clients_own_exception(
    client: Any, call: Callable[..., Any], args: list[Any], raised: str
):
    with pytest.raises(ClientError, match=f"^{raised}"):
        client(call, *args)


def test_a_planned_failure_is_answered_once(hub: LoopbackHub, client: Any, releases: list[str]):
    hub.fail_next["/tree/"] = [503]
    assert Path(client(snapshot, REPO, "v1")).name == releases[0]
    assert sum("/tree/" in line for line in hub.requests) == 2


@pytest.mark.usefixtures("releases")
def test_a_download_answered_500_raises(hub: LoopbackHub, client: Any):
    hub.fail_next["GET /datasets/"] = [500]
    with pytest.raises(ClientError, match="500"):
        client(download, REPO, "README.md", "v1", "dataset")


@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [
        (None, 200, b"0123456789"),
        ("bytes=2-5", 206, b"2345"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=10-", 416, b""),
    ],
)
def test_ranges(hub: LoopbackHub, asked: str | None, status: int, body: bytes):
    hub.add_dataset("org/digits", {"digits.txt": b"0123456789"})
    connection = HTTPConnection(urlsplit(hub.endpoint).netloc)
    headers = {"Range": asked} if asked else {}
    connection.request("GET", "/datasets/org/digits/resolve/main/digits.txt", headers=headers)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (status, body)
    connection.close()
