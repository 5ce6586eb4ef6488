"""A small Hugging Face Hub on 127.0.0.1, over real git repositories, for tests of real clients.

    with LoopbackHub() as hub:
        sha = hub.add_dataset("org/name", {"data.jsonl": b'{"a": 1}'}, tag="v1.0.0")
        subprocess.run([sys.executable, "client.py"], env=hub.client_env(tmp_path))

`huggingface_hub` reads `HF_ENDPOINT` once, at import, so a client is a process of its own.
`load_dataset` without a revision (or at "main") also looks up `datasets-server.127.0.0.1`, a name
that this hub cannot answer for: load at a commit or a tag.

As a program, `python tests/loopback_hub.py --folder DIR` prints its endpoint and token as one line
of JSON, and serves the repositories kept in DIR until it is killed.
"""

import argparse
import json
import os
import random
import re
import string
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from hub_blobs import BlobStore
from hub_faults import Fault, FaultCounter
from hub_git import Commit, Entry, GitRepo, sha256_of
from hub_routes import route
from hub_server import Answer, HubHandler, HubServer, RefusedError, Request, json_answer
from hub_writing import LFS_SUFFIXES, REPO_NAME, Changes, goes_to_lfs

__all__ = ["LFS_SUFFIXES", "Fault", "HubCommit", "LoopbackHub", "sha256"]

Files = dict[str, bytes]

OUTSIDE_SETTINGS = re.compile(r"HF_|HUGGING|.*_PROXY$", re.IGNORECASE)

sha256 = sha256_of


@dataclass(frozen=True)
class HubCommit:
    """A commit as a test sees it: `files` is the sha256 of each file's content."""

    sha: str
    title: str
    files: dict[str, str]


@dataclass(frozen=True)
class HubRepo:
    """A repository of "datasets" or "models"."""

    kind: str
    repo_id: str
    git: GitRepo

    @property
    def private(self) -> bool:
        return (self.git.folder / "private").exists()

    def make_private(self) -> None:
        (self.git.folder / "private").touch()


class LoopbackHub:
    """Serves the repositories in `folder` while its `with` block lasts.

    folder: where the repositories and LFS blobs are kept, and found again by a later hub; by
        default a temporary one, that goes when the block ends.
    token, read_only_token: may write, or only read private repositories.
    requests: what was asked, as "METHOD /path?query", in order of arrival.
    uploads: the sha256 of every LFS blob that arrived whole, in order; twice if it came twice.
    faults: see `hub_faults.Fault`; may be changed at any time.
    fail_next: text found in such a line -> statuses to answer, one for each request with that text,
        e.g. `hub.fail_next["GET /datasets/"] = [500, 429]`.
    on_request: called with the line of each request that arrived whole, before anything is done for
        it; of an upload (PUT), before its body is read. It may commit something of its own, or end
        the client. The request is then still carried out (see `wait_until_idle`), unless it raises
        a ConnectionError: that closes the connection with nothing done.
    page_size: entries on one page of a listing.
    list_tag_objects: list an annotated tag with the sha of its tag object, not of its commit.
    """

    user = "loopback"

    def __init__(self, folder: Path | None = None) -> None:
        self._temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.folder = folder or Path(self._temporary.name)
        self.blobs = BlobStore(self.folder / "lfs")
        self.token = made_up_token()
        self.read_only_token = made_up_token()
        self.endpoint = ""
        self.requests: list[str] = []
        self.uploads: list[str] = []
        self.faults: list[Fault] = []
        self.fail_next: dict[str, list[int]] = {}
        self.on_request: Callable[[str], None] | None = None
        self.page_size = 1000
        self.list_tag_objects = False
        self._counter = FaultCounter()
        self._repos: dict[tuple[str, str], HubRepo] = {}
        self._lock = threading.Lock()
        self._at_work = 0
        self._done = threading.Condition()
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        self._server = HubServer(("127.0.0.1", 0), partial(HubHandler, self))
        threading.Thread(target=self._server.serve_forever, args=(0.02,)).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        with suppress(TimeoutError):
            self.wait_until_idle(2)
        self._temporary.cleanup()

    def add_dataset(
        self, repo_id: str, files: Files, *, revision: str = "main", tag: str | None = None
    ) -> str:
        """Commit `files`, the whole tree, to the branch `revision`, and point `tag` at it.

        Returns the commit's sha. A tag that exists is moved.
        """
        return self._add("datasets", repo_id, files, revision, tag)

    def add_model(
        self, repo_id: str, files: Files, *, revision: str = "main", tag: str | None = None
    ) -> str:
        """The same as `add_dataset`, for a model repository."""
        return self._add("models", repo_id, files, revision, tag)

    def client_env(self, home: Path, token: str | None = None) -> dict[str, str]:
        """Environment of a client process that talks to this hub only and caches under `home`.

        token: by default the one that may write; "" for a client that has none.
        """
        ours = {name: v for name, v in os.environ.items() if not OUTSIDE_SETTINGS.match(name)}
        token = self.token if token is None else token
        return (
            ours
            | {
                "HF_ENDPOINT": self.endpoint,
                "HF_HOME": str(home),
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_HUB_DISABLE_XET": "1",
                "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # else `datasets` asks s3.amazonaws.com
            }
            | ({"HF_TOKEN": token} if token else {})
        )

    def history(
        self, repo_id: str, revision: str = "main", *, kind: str = "datasets"
    ) -> list[HubCommit]:
        """The commits of a branch, a tag or a sha, newest first."""
        repo = self.repo(kind, repo_id).git
        return [self._as_seen(repo, c) for c in repo.history(found(repo, revision))]

    def tags(self, repo_id: str, *, kind: str = "datasets") -> dict[str, str]:
        """The commit that each tag points at, through a tag object if there is one."""
        return {name: ref.commit for name, ref in self.repo(kind, repo_id).git.tags().items()}

    def files(self, repo_id: str, revision: str = "main", *, kind: str = "datasets") -> Files:
        """The content of every file at a branch, a tag or a sha."""
        repo = self.repo(kind, repo_id).git
        entries = found(repo, revision).files()
        in_git = repo.read_blobs(entry.oid for entry in entries if entry.lfs is None)
        return {
            entry.path: self.blobs.path(entry.lfs.sha256).read_bytes()
            if entry.lfs
            else in_git[entry.oid]
            for entry in entries
        }

    def git_folder(self, repo_id: str, *, kind: str = "datasets") -> Path:
        """The bare repository on disk."""
        return self.folder / kind / f"{repo_id}.git"

    def wait_until_idle(self, seconds: float = 10) -> None:
        """Wait until no request is being carried out, e.g. of a client that was just killed."""
        with self._done:
            if not self._done.wait_for(lambda: self._at_work == 0, seconds):
                raise TimeoutError(f"still at work after {seconds} s: {self.requests[-1]}")

    def pause(self, seconds: float) -> None:
        """Wait, for a slow answer; raises ConnectionError if the hub closes meanwhile."""
        if self._closing.wait(seconds):
            raise ConnectionAbortedError("the hub has closed")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While a request is read, carried out and answered."""
        with self._done:
            self._at_work += 1
        try:
            yield
        finally:
            with self._done:
                self._at_work -= 1
                self._done.notify_all()

    def repo(self, kind: str, repo_id: str) -> HubRepo:
        """A repository that is there; raises RefusedError(RepoNotFound)."""
        with self._lock:
            if (kind, repo_id) not in self._repos:
                folder = self.git_folder(repo_id, kind=kind)
                if not REPO_NAME.fullmatch(repo_id) or not folder.is_dir():
                    raise RefusedError(404, "RepoNotFound", "Repository not found")
                self._repos[kind, repo_id] = HubRepo(kind, repo_id, GitRepo(folder))
            return self._repos[kind, repo_id]

    def create(self, kind: str, repo_id: str, first: Changes, private: bool) -> HubRepo | None:
        """A new repository, with one commit of `first`; None if there is one of this name."""
        with self._lock:
            repo = HubRepo(kind, repo_id, GitRepo(self.git_folder(repo_id, kind=kind)))
            if repo.git.folder.is_dir():
                return None
            repo.git.create()
            if private:
                repo.make_private()
            if first:
                repo.git.commit("main", None, first, "initial commit")
            self._repos[kind, repo_id] = repo
        return repo

    def role(self, authorization: str) -> str:
        """ "write", "read", or "" without a token; raises RefusedError(401) for an unknown one."""
        if not authorization:
            return ""
        roles = {f"Bearer {self.token}": "write", f"Bearer {self.read_only_token}": "read"}
        if authorization not in roles:
            raise RefusedError(401, "", "Invalid credentials in Authorization header")
        return roles[authorization]

    def arrived(self, line: str) -> Fault | None:
        """Take note of a request; the fault that it meets."""
        self.requests.append(line)
        return self._counter.next(line, self.faults, self.fail_next)

    def tell(self, line: str) -> None:
        if self.on_request is not None:
            self.on_request(line)

    def answer(self, request: Request) -> Answer:
        try:
            return route(self, request)
        except RefusedError as refusal:
            return json_answer({"error": str(refusal)}, refusal.headers, refusal.status)

    def _add(self, kind: str, repo_id: str, files: Files, branch: str, tag: str | None) -> str:
        repo = (self.create(kind, repo_id, {}, private=False) or self.repo(kind, repo_id)).git
        in_git = {
            path: self.blobs.add(data).text() if goes_to_lfs(path, len(data)) else data
            for path, data in files.items()
        }
        with repo.lock:
            heads = repo.heads()
            head = heads.get(branch) or heads.get("main")
            parent = repo.commit_of(head.commit) if head else None
            title = f"Commit {repo.count() + 1}"
            commit = repo.commit(branch, parent, in_git, title, whole=True)
            if not heads and branch != "main":
                repo.set_ref("refs/heads/main", commit.sha)
            if tag is not None:
                repo.set_ref(f"refs/tags/{tag}", commit.sha)
        return commit.sha

    def _as_seen(self, repo: GitRepo, commit: Commit) -> HubCommit:
        def content_sha256(entry: Entry) -> str:
            return entry.lfs.sha256 if entry.lfs else sha256_of(in_git[entry.oid])

        in_git = repo.read_blobs(entry.oid for entry in commit.files() if entry.lfs is None)
        files = {entry.path: content_sha256(entry) for entry in commit.files()}
        return HubCommit(commit.sha, commit.title, files)


def found(repo: GitRepo, revision: str) -> Commit:
    commit = repo.find(revision)
    if commit is None:
        raise KeyError(f"no revision {revision} in {repo.folder}")
    return commit


def made_up_token() -> str:
    return "hf_" + "".join(random.SystemRandom().choices(string.ascii_letters, k=34))


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a loopback hub until killed.")
    parser.add_argument("--folder", type=Path, required=True, help="where its data is kept")
    with LoopbackHub(parser.parse_args().folder) as hub:
        print(json.dumps({"endpoint": hub.endpoint, "token": hub.token}), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
