"""A client of the loopback hub: `python hub_client.py NAME < arguments.json` runs one function.

huggingface_hub reads HF_ENDPOINT once, at import, so a test runs its clients as processes.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.hf_api import RepoFile

api = HfApi()


def push(repo_id: str, files: dict[str, str], tag: str | None = None) -> str:
    """A release as we make it: a repository, its large files, one commit, one annotated tag."""
    api.create_repo(repo_id, repo_type="dataset", exist_ok=True)
    head = api.list_repo_refs(repo_id, repo_type="dataset").branches[0].target_commit
    adds = [CommitOperationAdd(path, text.encode()) for path, text in files.items()]
    api.preupload_lfs_files(repo_id, adds, repo_type="dataset")
    done = api.create_commit(
        repo_id, adds, commit_message="Release", parent_commit=head, repo_type="dataset"
    )
    if tag:
        at = done.oid
        api.create_tag(repo_id, tag=tag, tag_message="As built", revision=at, repo_type="dataset")
    return done.oid


def create(repo_id: str, private: bool) -> list[str]:
    url = api.create_repo(repo_id, private=private, repo_type="dataset")
    return [str(url), api.whoami()["name"]]


def look(repo_id: str, revision: str) -> dict[str, Any]:
    """All that can be read of a repository at a revision."""
    tree = api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type="dataset")
    paths = ["data/part.parquet", "README.md"]
    infos = api.get_paths_info(repo_id, paths, revision=revision, repo_type="dataset")
    commits = api.list_repo_commits(repo_id, revision=revision, repo_type="dataset")
    info = api.dataset_info(repo_id, revision=revision)
    tags = api.list_repo_refs(repo_id, repo_type="dataset").tags
    return {
        "tree": sorted(item.path for item in tree),
        "sha256s": {
            file.path: file.lfs and file.lfs.sha256 for file in infos if isinstance(file, RepoFile)
        },
        "commits": [[commit.commit_id, commit.title] for commit in commits],
        "info": [info.sha, info.private, info.card_data and info.card_data.license],
        "part": download(repo_id, "data/part.parquet", revision),
        "tags": {tag.name: tag.target_commit for tag in tags},
    }


def download(repo_id: str, path: str, revision: str) -> str:
    fetched = hf_hub_download(repo_id, path, revision=revision, repo_type="dataset")
    return Path(fetched).read_bytes().decode()


def load(repo_id: str, revision: str) -> list[Any]:
    from datasets import load_dataset

    return [*load_dataset(repo_id, split="train", revision=revision)]


def copy_folder(repo_id: str, folder: str) -> dict[str, str]:
    """Upload a folder, and again as "copy"; delete "copy/deep"; fetch it all as it was before."""
    api.create_repo(repo_id, repo_type="dataset")
    upload = partial(api.upload_folder, repo_id=repo_id, folder_path=folder, repo_type="dataset")
    upload()
    whole = upload(path_in_repo="copy").oid
    api.delete_folder("copy/deep", repo_id, repo_type="dataset")
    root = Path(snapshot_download(repo_id, revision=whole, repo_type="dataset"))
    return {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file()}


def refusals(calls: list[tuple[str, list[Any], dict[str, Any]]]) -> list[str]:
    """What each call of an HfApi method raised, as "Name status message"; "" if nothing."""
    return [refusal(*call) for call in calls]


def refusal(method: str, args: list[Any], options: dict[str, Any]) -> str:
    if method == "create_commit":
        adds = [CommitOperationAdd(p, text.encode()) for p, text in options.pop("add", {}).items()]
        deletes = [CommitOperationDelete(path) for path in options.pop("delete", [])]
        options |= {"operations": [*adds, *deletes], "commit_message": "m"}
    try:
        getattr(api, method)(*args, repo_type="dataset", **options)
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", "-")
        return f"{type(error).__name__} {status} {error}"
    return ""


def main() -> None:
    """Print, as a line of JSON, what the function returned and what it raised."""
    value = raised = None
    try:
        value = globals()[sys.argv[1]](*json.load(sys.stdin))
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
    print(json.dumps({"value": value, "raised": raised}))


if __name__ == "__main__":
    main()
