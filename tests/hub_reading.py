"""What the loopback hub answers to those who read: listings, infos, refs, histories and files."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlencode

import yaml
from hub_git import Commit, Entry, GitRepo, Ref
from hub_server import Answer, FilePart, RefusedError, Request, is_true, json_answer

if TYPE_CHECKING:
    from loopback_hub import HubRepo, LoopbackHub

Item = TypeVar("Item")


def commit_at(repo: GitRepo, revision: str) -> Commit:
    """The commit of a branch, a tag or a full sha; raises RefusedError(RevisionNotFound)."""
    commit = repo.find(revision or "main")
    if commit is None:
        raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision or 'main'}")
    return commit


def no_entry(commit: Commit, path: str) -> RefusedError:
    return RefusedError(404, "EntryNotFound", f"No entry {path}", **{"X-Repo-Commit": commit.sha})


def info(request: Request, repo: "HubRepo", revision: str) -> Answer:
    commit = commit_at(repo.git, revision)
    blobs = is_true(request.query, "blobs")
    return json_answer(
        {
            "id": repo.repo_id,
            "sha": commit.sha,
            "lastModified": as_text(commit.when),
            "private": repo.private,
            "gated": False,
            "cardData": front_matter(readme(repo.git, commit)),
            "siblings": [sibling(entry, blobs) for entry in by_path(commit.files())],
        }
    )


def refs(hub: "LoopbackHub", repo: GitRepo) -> Answer:
    def listed(refs: dict[str, Ref]) -> list[dict[str, str]]:
        return [
            {
                "name": ref.name,
                "ref": ref.ref,
                "targetCommit": ref.target if hub.list_tag_objects else ref.commit,
            }
            for ref in refs.values()
        ]

    branches, tags = listed(repo.heads()), listed(repo.tags())
    return json_answer({"branches": branches, "tags": tags, "converts": []})


def tree(hub: "LoopbackHub", request: Request, repo: GitRepo, revision: str, folder: str) -> Answer:
    commit = commit_at(repo, revision)
    inside = f"{folder}/" if folder else ""
    found = [entry for entry in by_path(commit.entries.values()) if entry.path.startswith(inside)]
    if folder and not found:
        raise no_entry(commit, folder)
    if not is_true(request.query, "recursive"):
        found = [entry for entry in found if "/" not in entry.path.removeprefix(inside)]
    expand = is_true(request.query, "expand")
    shown, headers = one_page(hub, request, found)
    return json_answer([item(repo, commit, entry, expand) for entry in shown], headers)


def paths_info(request: Request, repo: GitRepo, revision: str) -> Answer:
    commit = commit_at(repo, revision)
    form = parse_qs(request.body().decode())
    found = [commit.entries[path] for path in form.get("paths", []) if path in commit.entries]
    expand = is_true(form, "expand")
    return json_answer([item(repo, commit, entry, expand) for entry in found])


def commits(hub: "LoopbackHub", request: Request, repo: GitRepo, revision: str) -> Answer:
    shown, headers = one_page(hub, request, repo.history(commit_at(repo, revision)))
    listed = [
        {
            "id": commit.sha,
            "title": commit.title,
            "message": commit.message,
            "authors": [{"user": hub.user}],
            "date": as_text(commit.when),
        }
        for commit in shown
    ]
    return json_answer(listed, headers)


def resolve(
    hub: "LoopbackHub", request: Request, repo: GitRepo, revision: str, path: str
) -> Answer:
    """A file's bytes. LFS files are served here too, where the Hub redirects to a CDN."""
    commit = commit_at(repo, revision)
    entry = commit.entries.get(path)
    if entry is None or not entry.is_file:
        raise no_entry(commit, path)
    headers = {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "X-Repo-Commit": commit.sha,
        "ETag": f'"{entry.oid}"',
    }
    if entry.lfs is None:
        body = repo.read_blobs([entry.oid])[entry.oid]
    else:
        body = FilePart(hub.blobs.path(entry.lfs.sha256), 0, entry.lfs.size)
        headers |= {
            "X-Linked-Etag": f'"{entry.lfs.sha256}"',
            "X-Linked-Size": str(entry.lfs.size),
        }
    return ranged(body, request.headers.get("range", ""), headers)


def ranged(body: bytes | FilePart, asked: str, headers: dict[str, str]) -> Answer:
    """The bytes that a Range header asks for: "bytes=2-5", "bytes=2-" or "bytes=-5"."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
    if found is None or found.groups() == ("", ""):
        return Answer(200, body, headers)
    first, last = found.groups()
    size = len(body)
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if start >= end:
        return Answer(416, b"", headers | {"Content-Range": f"bytes */{size}"})
    sent = {"Content-Range": f"bytes {start}-{end - 1}/{size}"}
    part = body[start:end] if isinstance(body, bytes) else body.part(start, end)
    return Answer(206, part, headers | sent)


def item(repo: GitRepo, commit: Commit, entry: Entry, expand: bool) -> dict[str, Any]:
    """One item of a tree listing; with `expand`, also the commit that last changed it."""
    shown: dict[str, Any] = {"path": entry.path, "type": "directory", "oid": entry.oid}
    if entry.is_file:
        shown |= {"type": "file", "size": content_size(entry)}
    if entry.lfs is not None:
        size = {"size": entry.lfs.size, "pointerSize": entry.size}
        shown["lfs"] = {"oid": entry.lfs.sha256, **size}
    if expand:
        changed = repo.last_change(commit, entry.path)
        date = as_text(changed.when)
        shown["lastCommit"] = {"id": changed.sha, "title": changed.title, "date": date}
    return shown


def sibling(entry: Entry, blobs: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"rfilename": entry.path}
    if blobs:
        shown |= {"size": content_size(entry), "blobId": entry.oid}
        if entry.lfs is not None:
            size = {"size": entry.lfs.size, "pointerSize": entry.size}
            shown["lfs"] = {"sha256": entry.lfs.sha256, **size}
    return shown


def content_size(entry: Entry) -> int:
    return entry.lfs.size if entry.lfs else entry.size


def by_path(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.path)


def as_text(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%S.000Z}"


def one_page(
    hub: "LoopbackHub", request: Request, items: Sequence[Item]
) -> tuple[Sequence[Item], dict[str, str]]:
    """The page that the request's cursor points at, and a link to the next."""
    start = int(request.query.get("cursor", ["0"])[0])
    end = start + hub.page_size
    if end >= len(items):
        return items[start:], {}
    following = urlencode({**request.query, "cursor": end}, doseq=True)
    link = f'<{hub.endpoint}{request.path}?{following}>; rel="next"'
    return items[start:end], {"Link": link}


def readme(repo: GitRepo, commit: Commit) -> str:
    entry = commit.entries.get("README.md")
    if entry is None or not entry.is_file:
        return ""
    return repo.read_blobs([entry.oid])[entry.oid].decode()


def front_matter(text: str) -> dict[str, Any] | None:
    found = re.match(r"---\n(.*?)\n---\s", text, re.DOTALL)
    return yaml.safe_load(found[1]) if found else None
