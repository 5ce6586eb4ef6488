"""What the loopback hub does for those who write: repositories, uploads, commits and tags."""

import base64
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from hub_blobs import WrongBytesError
from hub_git import Commit, GitError, GitRepo, Pointer, RefMovedError, sha256_of
from hub_reading import commit_at
from hub_server import Answer, RefusedError, Request, json_answer

if TYPE_CHECKING:
    from loopback_hub import HubRepo, LoopbackHub

LFS_SUFFIXES = (".parquet", ".arrow", ".safetensors", ".bin", ".gz", ".zst")
LARGEST_IN_GIT = 10_000_000
REPO_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
GIT_ATTRIBUTES = "".join(f"*{end} filter=lfs diff=lfs merge=lfs -text\n" for end in LFS_SUFFIXES)
MOVED = "A commit has happened since. Please refresh and try again."

Changes = dict[str, bytes | None]


def goes_to_lfs(path: str, size: int) -> bool:
    return path.endswith(LFS_SUFFIXES) or size > LARGEST_IN_GIT


def create_repo(hub: "LoopbackHub", request: Request) -> Answer:
    """A repository with one commit, that holds .gitattributes, as on the Hub."""
    asked = request.json()
    kind = f"{asked.get('type') or 'model'}s"
    repo_id = f"{asked.get('organization') or hub.user}/{asked.get('name')}"
    if kind not in ("datasets", "models") or not REPO_NAME.fullmatch(repo_id):
        raise RefusedError(400, "", f"Cannot create {kind} {repo_id}")
    prefix = "datasets/" if kind == "datasets" else ""
    made = {"url": f"{hub.endpoint}/{prefix}{repo_id}", "name": repo_id}
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    first: Changes = {".gitattributes": GIT_ATTRIBUTES.encode()}
    if hub.create(kind, repo_id, first, private) is None:
        message = f"You already created this {kind[:-1]} repo: {repo_id}"
        return json_answer({"error": message, **made}, status=409)
    return json_answer(made)


def preupload(request: Request, repo: GitRepo, revision: str) -> Answer:
    """For each file: whether it goes through LFS, and what stands at its path now."""
    commit = commit_at(repo, revision)
    answers: list[dict[str, Any]] = []
    for file in request.json()["files"]:
        mode = "lfs" if goes_to_lfs(file["path"], file["size"]) else "regular"
        answer = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
        if entry := commit.entries.get(file["path"]):
            answer["oid"] = entry.lfs.sha256 if entry.lfs else entry.oid
        answers.append(answer)
    return json_answer({"files": answers, "commitOid": commit.sha})


def lfs_batch(hub: "LoopbackHub", request: Request) -> Answer:
    """Where to upload each blob; nothing to do for those that are here already."""
    verify = f"{hub.endpoint}{request.path.removesuffix('batch')}verify"
    objects: list[dict[str, Any]] = []
    for wanted in request.json()["objects"]:
        answer = {"oid": wanted["oid"], "size": wanted["size"], "authenticated": True}
        if hub.blobs.size(wanted["oid"]) is None:
            href = f"{hub.endpoint}/lfs/{wanted['oid']}?signature={signature(hub, wanted['oid'])}"
            answer["actions"] = {"upload": {"href": href}, "verify": {"href": verify}}
        objects.append(answer)
    return json_answer({"transfer": "basic", "objects": objects})


def lfs_upload(hub: "LoopbackHub", request: Request, oid: str) -> Answer:
    if request.query.get("signature") != [signature(hub, oid)]:
        raise RefusedError(403, "", "This upload URL was not signed by this hub")
    try:
        hub.blobs.receive(oid, request.chunks())
    except WrongBytesError as wrong:
        raise RefusedError(400, "", f"BadDigest: {wrong}") from wrong
    hub.uploads.append(oid)
    return Answer(200, b"", {"ETag": f'"{oid}"'})


def lfs_verify(hub: "LoopbackHub", request: Request) -> Answer:
    claimed = request.json()
    if hub.blobs.size(claimed["oid"]) != claimed["size"]:
        raise RefusedError(404, "", f"Object {claimed['oid']} of that size did not arrive")
    return json_answer({})


def signature(hub: "LoopbackHub", oid: str) -> str:
    """Upload URLs carry this instead of a token, as those of S3 do."""
    return sha256_of(f"{hub.token} {oid}".encode())[:16]


@dataclass(frozen=True)
class Operation:
    key: str
    value: dict[str, Any]


def commit(hub: "LoopbackHub", request: Request, repo: "HubRepo", branch: str) -> Answer:
    """One commit from newline-delimited JSON: a header, then an operation a line."""
    if "create_pr" in request.query:
        raise RefusedError(501, "NotServed", "LoopbackHub has no pull requests")
    lines = request.body().splitlines()
    header, *operations = [Operation(**json.loads(line)) for line in lines if line.strip()]
    title, description = header.value.get("summary", ""), header.value.get("description", "")
    with repo.git.lock:
        head = head_of(repo.git, branch)
        expected = header.value.get("parentCommit")
        if expected and not (head and head.sha.startswith(expected)):
            raise RefusedError(412, "", MOVED)
        changes = changes_of(hub, head, operations)
        try:
            made = repo.git.commit(branch, head, changes, title, description)
        except RefMovedError as moved:
            raise RefusedError(412, "", MOVED) from moved
        except GitError as refused:
            raise RefusedError(400, "", f"Your push was rejected: {refused}") from refused
    url = f"{hub.endpoint}/{'datasets/' if repo.kind == 'datasets' else ''}{repo.repo_id}"
    facts = {"commitOid": made.sha, "commitUrl": f"{url}/commit/{made.sha}"}
    return json_answer({"success": True, "hookOutput": "", **facts})


def head_of(repo: GitRepo, branch: str) -> Commit | None:
    """What a branch points at; None for "main" of a repository without commits."""
    heads = repo.heads()
    if branch in heads:
        return repo.commit_of(heads[branch].commit)
    if branch == "main" and not heads:
        return None
    raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {branch}")


def changes_of(hub: "LoopbackHub", head: Commit | None, operations: list[Operation]) -> Changes:
    files = {entry.path for entry in head.files()} if head else set[str]()
    changes: Changes = {}
    for operation in operations:
        path = operation.value["path"]
        if {"", ".", "..", ".git"} & set(path.removesuffix("/").split("/")):
            raise RefusedError(400, "", f"Invalid path in the commit: {path}")
        match operation.key:
            case "file":
                changes[path] = content_of(operation.value)
            case "lfsFile":
                changes[path] = pointer_to(hub, operation.value).text()
            case "deletedFile" | "deletedFolder":
                changes |= dict.fromkeys(deleted(operation, files))
            case _:
                raise RefusedError(400, "", f"Unknown operation {operation.key}")
    return changes


def content_of(value: dict[str, Any]) -> bytes:
    content: str = value["content"]
    data = base64.b64decode(content) if value.get("encoding") == "base64" else content.encode()
    if len(data) > LARGEST_IN_GIT:
        message = f"{value['path']} is larger than 10 MB: upload it through LFS"
        raise RefusedError(400, "", f"Your push was rejected: {message}")
    return data


def pointer_to(hub: "LoopbackHub", value: dict[str, Any]) -> Pointer:
    """Raises RefusedError(400) where the blob never arrived, or has another size."""
    size = hub.blobs.size(value["oid"])
    if size is None or value.get("size", size) != size:
        message = f"LFS pointer pointed to a file that does not exist: {value['oid']}"
        raise RefusedError(400, "", f"Your push was rejected: {message} ({value['path']})")
    return Pointer(value["oid"], size)


def deleted(operation: Operation, files: set[str]) -> set[str]:
    path = operation.value["path"]
    if operation.key == "deletedFile":
        found = files & {path}
    else:
        found = {file for file in files if file.startswith(f"{path.rstrip('/')}/")}
    if not found:
        raise RefusedError(404, "EntryNotFound", f"A file with this name doesn't exist: {path}")
    return found


def create_tag(request: Request, repo: GitRepo, revision: str) -> Answer:
    """A tag at `revision`; with a message, a tag object."""
    asked = request.json()
    tag = str(asked["tag"])
    commit = commit_at(repo, revision)
    with repo.lock:
        if tag in repo.tags():
            raise RefusedError(409, "", f"Tag {tag} already exists")
        try:
            if asked.get("message"):
                repo.annotate(tag, commit, asked["message"])
            else:
                repo.set_ref(f"refs/tags/{tag}", commit.sha)
        except GitError as refused:
            raise RefusedError(400, "", f"Invalid tag {tag}: {refused}") from refused
    return json_answer({})


def create_branch(request: Request, repo: GitRepo, branch: str) -> Answer:
    start = commit_at(repo, request.json().get("startingPoint") or "main")
    with repo.lock:
        if branch in repo.heads():
            raise RefusedError(409, "", f"Reference already exists: refs/heads/{branch}")
        try:
            repo.set_ref(f"refs/heads/{branch}", start.sha)
        except GitError as refused:
            raise RefusedError(400, "", f"Invalid branch {branch}: {refused}") from refused
    return json_answer({})


def delete_ref(repo: GitRepo, folder: str, name: str) -> Answer:
    with repo.lock:
        refs = repo.tags() if folder == "tags" else repo.heads()
        if name not in refs:
            raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {name}")
        repo.delete_ref(f"refs/{folder}/{name}")
    return json_answer({})


def validate_yaml(request: Request) -> Answer:
    """What the client asks before it commits a README.md: is its front matter YAML?"""
    found = re.match(r"---\r?\n(.*?)\r?\n---\s", request.json()["content"], re.DOTALL)
    if found is None or not found[1].strip():
        message = "empty or missing yaml metadata in repo card"
        return json_answer({"errors": [], "warnings": [{"message": message}]})
    try:
        metadata = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        return json_answer({"errors": [{"message": str(error)}], "warnings": []}, status=400)
    if not isinstance(metadata, dict):
        return json_answer({"errors": [{"message": "not a mapping"}], "warnings": []}, status=400)
    return json_answer({"errors": [], "warnings": []})
