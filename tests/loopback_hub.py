"""A small read-only Hugging Face Hub on 127.0.0.1, for tests of the real clients.

    with LoopbackHub() as hub:
        sha = hub.add_dataset("org/name", {"data.jsonl": b'{"a": 1}'}, tag="v1.0.0")
        subprocess.run([sys.executable, "client.py"], env=hub.client_env(tmp_path))

`huggingface_hub` reads `HF_ENDPOINT` once, at import, so a client is a process of its own.
`load_dataset` without a revision (or at "main") also looks up `datasets-server.127.0.0.1`, a name
that this hub cannot answer for: load at a commit or a tag.
"""

import hashlib
import json
import os
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import yaml

Files = dict[str, bytes]
Form = dict[str, list[str]]

FIRST_COMMIT = datetime(2026, 1, 1, tzinfo=UTC)
LFS_SUFFIXES = (".parquet", ".arrow", ".safetensors", ".bin", ".gz", ".zst")
OUTSIDE_SETTINGS = re.compile(r"HF_|HUGGING|.*_PROXY$", re.IGNORECASE)

API = re.compile(
    r"/api/(datasets|models)/([^/]+(?:/[^/]+)??)"
    r"(?:/(revision|refs|tree|paths-info)(?:/([^/]+)(?:/(.+))?)?)?"
)
RESOLVE = re.compile(r"/(datasets/)?([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)")


@dataclass(frozen=True)
class Commit:
    """All files of a repository at one commit."""

    sha: str
    parent: "Commit | None"
    title: str
    date: str
    files: Files


@dataclass
class Repo:
    """Commits by sha, and the branches and tags that point at them."""

    repo_id: str
    commits: dict[str, Commit] = field(default_factory=dict[str, Commit])
    branches: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])

    def commit(self, files: Files, branch: str) -> Commit:
        """Make `files`, a whole tree, the new head of `branch`."""
        parent = self.commits.get(self.branches.get(branch) or self.branches.get("main", ""))
        key = f"{self.repo_id} {parent and parent.sha} {tree_oid(files)}"
        commit = Commit(
            sha=hashlib.sha1(key.encode()).hexdigest(),
            parent=parent,
            title=f"Commit {len(self.commits) + 1}",
            date=f"{FIRST_COMMIT + timedelta(minutes=len(self.commits)):%Y-%m-%dT%H:%M:%S.000Z}",
            files=dict(files),
        )
        self.commits[commit.sha] = commit
        self.branches[branch] = commit.sha
        self.branches.setdefault("main", commit.sha)
        return commit

    def at(self, revision: str) -> Commit:
        """The commit of a branch, a tag or a full sha; raises RefusedError(RevisionNotFound)."""
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        if sha not in self.commits:
            raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[sha]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Form
    body: bytes
    byte_range: str


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]


class RefusedError(Exception):
    """A request that the Hub answers with an error code."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": message, **headers}


class LoopbackHub:
    """Serves the repositories added to it while its `with` block lasts.

    requests: what was asked, as "METHOD /path?query", in order of arrival.
    fail_next: text found in such a line -> statuses to answer, one for each request with that text,
        e.g. `hub.fail_next["GET /datasets/"] = [500, 429]`.
    page_size: entries on one page of a tree listing.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.requests: list[str] = []
        self.fail_next: dict[str, list[int]] = {}
        self.page_size = 1000
        self._repos: dict[tuple[str, str], Repo] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(HubHandler, self))
        threading.Thread(target=self._server.serve_forever, args=(0.02,)).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

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

    def client_env(self, home: Path) -> dict[str, str]:
        """Environment of a client process that talks to this hub only and caches under `home`."""
        ours = {name: v for name, v in os.environ.items() if not OUTSIDE_SETTINGS.match(name)}
        return ours | {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # else `datasets` sends a HEAD to s3.amazonaws.com
        }

    def answer(self, line: str, request: Request) -> Answer:
        self.requests.append(line)
        if status := self._planned_failure(line):
            return json_answer({"error": f"Planned failure {status}"}, status=status)
        try:
            return self._route(request)
        except RefusedError as refusal:
            return json_answer({"error": str(refusal)}, refusal.headers, refusal.status)

    def _add(self, kind: str, repo_id: str, files: Files, branch: str, tag: str | None) -> str:
        repo = self._repos.setdefault((kind, repo_id), Repo(repo_id))
        sha = repo.commit(files, branch).sha
        if tag is not None:
            repo.tags[tag] = sha
        return sha

    def _planned_failure(self, line: str) -> int | None:
        with self._lock:
            for text, statuses in self.fail_next.items():
                if statuses and text in line:
                    return statuses.pop(0)
        return None

    def _repo(self, kind: str, repo_id: str) -> Repo:
        if (kind, repo_id) not in self._repos:
            raise RefusedError(404, "RepoNotFound", "Repository not found")
        return self._repos[kind, repo_id]

    def _route(self, request: Request) -> Answer:
        if found := API.fullmatch(request.path):
            kind, repo_id, action, revision, path = found.groups("")
            repo = self._repo(kind, repo_id)
            return self._api(request, repo, action, unquote(revision) or "main", unquote(path))
        if (found := RESOLVE.fullmatch(request.path)) and request.method in ("GET", "HEAD"):
            prefix, repo_id, revision, path = found.groups()
            repo = self._repo("datasets" if prefix else "models", repo_id)
            return resolve(repo.at(unquote(revision)), unquote(path), request.byte_range)
        raise RefusedError(501, "NotServed", f"LoopbackHub has no {request.method} {request.path}")

    def _api(self, request: Request, repo: Repo, action: str, rev: str, path: str) -> Answer:
        match request.method, action:
            case "GET", "" | "revision":
                return json_answer(repo_info(repo, repo.at(rev), is_true(request.query, "blobs")))
            case "GET", "refs":
                return json_answer(repo_refs(repo))
            case "GET", "tree":
                return self._tree(request, repo.at(rev), path)
            case "POST", "paths-info":
                return json_answer(paths_info(repo.at(rev), parse_qs(request.body.decode())))
            case _:
                raise RefusedError(
                    501, "NotServed", f"LoopbackHub has no {request.method} {action}"
                )

    def _tree(self, request: Request, commit: Commit, folder: str) -> Answer:
        query = request.query
        expand = is_true(query, "expand")
        paths = tree_paths(commit.files, folder, is_true(query, "recursive"))
        if folder and not paths:
            raise no_entry(commit, folder)
        start = int(query.get("cursor", ["0"])[0])
        end = start + self.page_size
        headers: dict[str, str] = {}
        if end < len(paths):
            following = urlencode({**query, "cursor": end}, doseq=True)
            headers["Link"] = f'<{self.endpoint}{request.path}?{following}>; rel="next"'
        return json_answer([entry(commit, path, expand) for path in paths[start:end]], headers)


class HubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, hub: LoopbackHub, *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        byte_range = self.headers.get("Range", "")
        request = Request(self.command, url.path, parse_qs(url.query), body, byte_range)
        answer = self.hub.answer(f"{self.command} {self.path}", request)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def json_answer(value: Any, headers: dict[str, str] | None = None, status: int = 200) -> Answer:
    headers = {"Content-Type": "application/json", **(headers or {})}
    return Answer(status, json.dumps(value, default=str).encode(), headers)


def no_entry(commit: Commit, path: str) -> RefusedError:
    return RefusedError(404, "EntryNotFound", f"No entry {path}", **{"X-Repo-Commit": commit.sha})


def is_true(query: Form, name: str) -> bool:
    return query.get(name, [""])[-1].lower() in ("true", "1")


@cache
def blob_oid(data: bytes) -> str:
    """Git's own blob id, which is also the ETag of a file outside LFS."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@cache
def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tree_oid(files: Files) -> str:
    listing = "".join(f"{path} {blob_oid(data)}\n" for path, data in sorted(files.items()))
    return hashlib.sha1(listing.encode()).hexdigest()


def under(files: Files, path: str) -> Files:
    """The file `path`, or all files of the folder `path`."""
    return {p: data for p, data in files.items() if p == path or p.startswith(f"{path}/")}


def tree_paths(files: Files, folder: str, recursive: bool) -> list[str]:
    """Files and folders below `folder`, which is "" for the root."""
    prefix = f"{folder}/" if folder else ""
    found: set[str] = set()
    for path in files:
        if path.startswith(prefix):
            parts = path.removeprefix(prefix).split("/")
            depth = len(parts) if recursive else 1
            found.update(prefix + "/".join(parts[:end]) for end in range(1, depth + 1))
    return sorted(found)


def last_change(commit: Commit, path: str) -> Commit:
    while commit.parent and under(commit.parent.files, path) == under(commit.files, path):
        commit = commit.parent
    return commit


def entry(commit: Commit, path: str, expand: bool) -> dict[str, Any]:
    """One item of a tree listing; with `expand`, also the commit that last changed it."""
    data = commit.files.get(path)
    if data is None:
        item: dict[str, Any] = {"type": "directory", "oid": tree_oid(under(commit.files, path))}
    else:
        item = {"type": "file", "size": len(data), "oid": blob_oid(data)}
        if path.endswith(LFS_SUFFIXES):
            item["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
    if expand:
        changed = last_change(commit, path)
        item["lastCommit"] = {"id": changed.sha, "title": changed.title, "date": changed.date}
    return {"path": path, **item}


def paths_info(commit: Commit, form: Form) -> list[dict[str, Any]]:
    wanted = [path for path in form.get("paths", []) if under(commit.files, path)]
    return [entry(commit, path, is_true(form, "expand")) for path in wanted]


def repo_refs(repo: Repo) -> dict[str, Any]:
    listed = {
        folder: [
            {"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": sha}
            for name, sha in refs.items()
        ]
        for folder, refs in (("heads", repo.branches), ("tags", repo.tags))
    }
    return {"branches": listed["heads"], "tags": listed["tags"], "converts": []}


def repo_info(repo: Repo, commit: Commit, blobs: bool) -> dict[str, Any]:
    return {
        "id": repo.repo_id,
        "sha": commit.sha,
        "lastModified": commit.date,
        "private": False,
        "gated": False,
        "cardData": front_matter(commit.files.get("README.md", b"").decode()),
        "siblings": [sibling(*item, blobs) for item in sorted(commit.files.items())],
    }


def front_matter(readme: str) -> dict[str, Any] | None:
    found = re.match(r"---\n(.*?)\n---\s", readme, re.DOTALL)
    return yaml.safe_load(found[1]) if found else None


def sibling(path: str, data: bytes, blobs: bool) -> dict[str, Any]:
    item: dict[str, Any] = {"rfilename": path}
    if blobs:
        item |= {"size": len(data), "blobId": blob_oid(data)}
        if path.endswith(LFS_SUFFIXES):
            item["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
    return item


def resolve(commit: Commit, path: str, byte_range: str) -> Answer:
    """A file's bytes. LFS files are served here too, where the Hub redirects to a CDN."""
    data = commit.files.get(path)
    if data is None:
        raise no_entry(commit, path)
    headers = {
        "Content-Type": "application/octet-stream",
        "X-Repo-Commit": commit.sha,
        "ETag": f'"{blob_oid(data)}"',
    }
    if path.endswith(LFS_SUFFIXES):
        headers |= {"X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data))}
    return part_of(data, byte_range, headers)


def part_of(data: bytes, byte_range: str, headers: dict[str, str]) -> Answer:
    """The bytes that a Range header asks for: "bytes=2-5", "bytes=2-" or "bytes=-5"."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", byte_range)
    if found is None or found.groups() == ("", ""):
        return Answer(200, data, headers)
    first, last = found.groups()
    start = int(first) if first else max(len(data) - int(last), 0)
    end = min(int(last) + 1, len(data)) if first and last else len(data)
    if start >= end:
        return Answer(416, b"", headers | {"Content-Range": f"bytes */{len(data)}"})
    sent = f"bytes {start}-{end - 1}/{len(data)}"
    return Answer(206, data[start:end], headers | {"Content-Range": sent})
