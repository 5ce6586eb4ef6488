"""Which request is answered by what, and who may ask it."""

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

import hub_reading
import hub_writing
from hub_server import Answer, RefusedError, Request, json_answer

if TYPE_CHECKING:
    from loopback_hub import HubRepo, LoopbackHub

REPO = r"([^/]+(?:/[^/]+)??)"
ACTIONS = "revision|refs|tree|paths-info|commits|preupload|commit|tag|branch|auth-check"
API = re.compile(rf"/api/(datasets|models)/{REPO}(?:/({ACTIONS})(?:/([^/]+)(?:/(.+))?)?)?")
LFS_API = re.compile(rf"/(datasets/)?{REPO}\.git/info/lfs/objects/(batch|verify)")
LFS_UPLOAD = re.compile(r"/lfs/([0-9a-f]{64})")
RESOLVE = re.compile(r"/(datasets/)?([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)")


def route(hub: "LoopbackHub", request: Request) -> Answer:
    """Do what is asked; raises RefusedError."""
    role = hub.role(request.headers.get("authorization", ""))
    path, asked = request.path, f"{request.method} {request.path}"
    if asked == "GET /api/whoami-v2":
        return whoami(hub, role)
    if asked == "POST /api/validate-yaml":
        return hub_writing.validate_yaml(request)
    if asked == "POST /api/repos/create":
        check_may_write(role)
        return hub_writing.create_repo(hub, request)
    if found := API.fullmatch(path):
        kind, repo_id, action, revision, rest = found.groups("")
        repo = hub.repo(kind, repo_id)
        check_may_read(role, repo)
        return of_repo(hub, request, repo, role, action, unquote(revision), unquote(rest))
    if (found := LFS_API.fullmatch(path)) and request.method == "POST":
        prefix, repo_id, action = found.groups()
        check_may_read(role, hub.repo("datasets" if prefix else "models", repo_id))
        check_may_write(role)
        lfs = hub_writing.lfs_batch if action == "batch" else hub_writing.lfs_verify
        return lfs(hub, request)
    if (found := LFS_UPLOAD.fullmatch(path)) and request.method == "PUT":
        return hub_writing.lfs_upload(hub, request, found[1])
    if (found := RESOLVE.fullmatch(path)) and request.method in ("GET", "HEAD"):
        prefix, repo_id, revision, file = found.groups()
        repo = hub.repo("datasets" if prefix else "models", repo_id)
        check_may_read(role, repo)
        return hub_reading.resolve(hub, request, repo.git, unquote(revision), unquote(file))
    raise not_served(asked)


def of_repo(
    hub: "LoopbackHub",
    request: Request,
    repo: "HubRepo",
    role: str,
    action: str,
    revision: str,
    rest: str,
) -> Answer:
    match request.method, action:
        case "GET", "" | "revision":
            return hub_reading.info(request, repo, revision)
        case "GET", "refs":
            return hub_reading.refs(hub, repo.git)
        case "GET", "tree":
            return hub_reading.tree(hub, request, repo.git, revision, rest)
        case "POST", "paths-info":
            return hub_reading.paths_info(request, repo.git, revision)
        case "GET", "commits":
            return hub_reading.commits(hub, request, repo.git, revision)
        case "GET", "auth-check":
            if revision == "write":
                check_may_write(role)
            return json_answer({})
    check_may_write(role)
    match request.method, action:
        case "POST", "preupload":
            return hub_writing.preupload(request, repo.git, revision)
        case "POST", "commit":
            return hub_writing.commit(hub, request, repo, revision)
        case "POST", "tag":
            return hub_writing.create_tag(request, repo.git, revision)
        case "POST", "branch":
            return hub_writing.create_branch(request, repo.git, revision)
        case "DELETE", "tag":
            return hub_writing.delete_ref(repo.git, "tags", revision)
        case "DELETE", "branch":
            return hub_writing.delete_ref(repo.git, "heads", revision)
    raise not_served(f"{request.method} {action}")


def whoami(hub: "LoopbackHub", role: str) -> Answer:
    if not role:
        raise RefusedError(401, "", "Invalid username or password.")
    token = {"displayName": "loopback", "role": role}
    facts = {"type": "user", "id": "1", "name": hub.user, "fullname": hub.user, "orgs": []}
    return json_answer(facts | {"auth": {"type": "access_token", "accessToken": token}})


def check_may_read(role: str, repo: "HubRepo") -> None:
    if repo.private and not role:
        # The code lets the client say so over http too: without it, it looks for "https://".
        raise RefusedError(401, "RepoNotFound", "Invalid username or password.")


def check_may_write(role: str) -> None:
    if not role:
        raise RefusedError(401, "", "Invalid username or password.")
    if role != "write":
        raise RefusedError(403, "", "You must use a write token to upload to a repository.")


def not_served(asked: str) -> RefusedError:
    return RefusedError(501, "NotServed", f"LoopbackHub has no {asked}")
