"""Files of models in a hub's repository, in the local cache; and fingerprints of files."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from progdata.builders.errors import ProgdataError, one_line

SAFETENSORS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
"""The names that the weights of a model have."""


@lru_cache(maxsize=16)
def snapshot(
    what: str, repo: str, revision: str | None, patterns: tuple[str, ...], absent: str
) -> Path:
    """The folder of a repository's files at a revision; its name is the commit, which stays the
    same for the life of the process.

    Raises ProgdataError, which names `what` and says `absent` where there is no such repository.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns)))
    except RevisionNotFoundError as error:
        reason = f"{repo} has no branch, tag or commit {revision!r}"
        raise ProgdataError(f"{what}: {reason}") from error
    except RepositoryNotFoundError as error:
        raise ProgdataError(f"{what}: {absent}") from error
    except Exception as error:  # the hub client and its transport raise many kinds
        raise ProgdataError(f"{what}: {repo} could not be downloaded: {one_line(error)}") from error


def existing(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files of a folder whose names match, in order."""
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file; read once as long as its size and time of change stay."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    return sha256_file(path)
