"""Files of a release whose bytes are proved to be those that its lock file declares."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from progdata.builders.atomic import atomic_file
from progdata.builders.errors import ProgdataError
from progdata.builders.hub_files import sha256_file
from progdata.releases.lockfile import LockFile, parse_lock, read_lock
from progdata.releases.registry import NotAReleaseError, Registry, Release
from progdata.releases.versions import Version
from progdata.releases.workspace import LOCK_FILE

CHUNK = 1 << 20


class MismatchError(ProgdataError):
    """The bytes of a file are not those that its lock file declares."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(
            f"{what}: its sha256 is {found[:12]}, {LOCK_FILE} says {expected[:12]}: these are not "
            "the bytes that were declared; nothing was taken from it"
        )


@dataclass(frozen=True)
class Copy:
    """A build or a release to read: its lock file, and a path to each of its files.

    `label` is how a message calls it. `path` fetches a file where it is not here yet; it raises
    ProgdataError where the file is not what the lock file says.
    """

    label: str
    lock: LockFile
    lock_sha256: str
    path: Callable[[str], Path]


def open_folder(folder: Path) -> Copy:
    """The build, or the pulled release, in a folder. Raises UsageError where there is none."""
    lock = read_lock(folder)

    def path(name: str) -> Path:
        own = folder / name
        if not own.is_file():
            raise ProgdataError(f"{own}: {LOCK_FILE} names it; it is not there")
        _verify(own, lock.files[name].sha256, str(own))
        return own

    return Copy(str(folder), lock, sha256_file(folder / LOCK_FILE), path)


def open_release(registry: Registry, release: Release) -> Copy:
    """A published release. Raises NotAReleaseError where its files are those of another one."""
    lock_path = registry.fetch(release, LOCK_FILE)
    try:
        lock = parse_lock(lock_path.read_bytes(), f"{release}: {LOCK_FILE}")
    except ProgdataError:  # the cache may be damaged
        lock_path = registry.fetch(release, LOCK_FILE, again=True)
        lock = parse_lock(lock_path.read_bytes(), f"{release}: {LOCK_FILE}")
    own = lock.release
    if own is None or own.version != str(release.version):
        holds = f"release {own.version}" if own else "a build that was never released"
        raise NotAReleaseError(
            f"{release}: its files are those of {holds}; somebody made or moved the tag"
        )
    return Copy(
        str(release),
        lock,
        sha256_file(lock_path),
        lambda name: fetch_verified(registry, release, name, lock.files[name].sha256),
    )


def last_release(
    registry: Registry, name: str, versions: list[Version]
) -> tuple[Release, Copy] | None:
    """The highest of these versions that is a release; tags of something else are passed over."""
    for version in reversed(versions):
        with suppress(NotAReleaseError):
            release = registry.find(name, version)
            return release, open_release(registry, release)
    return None


def fetch_verified(registry: Registry, release: Release, name: str, sha256: str) -> Path:
    """A local path to a file of a release, verified. A damaged cache is passed over once.

    Raises ProgdataError that names the file where its bytes are not those that were published.
    """
    return verified(registry, release, name, sha256, registry.fetch(release, name))


def verified(registry: Registry, release: Release, name: str, sha256: str, path: Path) -> Path:
    """The same, of a file that was fetched to `path`."""
    found = sha256_file(path)
    if found != sha256:
        mismatch = MismatchError(f"{release}: {name}", sha256, found)
        path = fetch_again(registry, release, name, mismatch)
        _verify(path, sha256, f"{release}: {name}")
    return path


def fetch_again(registry: Registry, release: Release, name: str, reason: MismatchError) -> Path:
    """A file once more, past the cache. Raises `reason` where it cannot be had."""
    try:
        return registry.fetch(release, name, again=True)
    except ProgdataError as error:
        raise reason from error


def copy_verified(content: Path | bytes, target: Path, sha256: str, what: str) -> None:
    """Write a file atomically, and only if its bytes have this sha256; else raise ProgdataError."""
    digest = hashlib.sha256()
    with (
        atomic_file(target) as temporary,
        temporary.open("wb") as out,
        content.open("rb") if isinstance(content, Path) else BytesIO(content) as source,
    ):
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            out.write(chunk)
        if digest.hexdigest() != sha256:
            raise MismatchError(what, sha256, digest.hexdigest())


def check_content(content: Path | bytes, sha256: str, what: str) -> None:
    """Raise MismatchError unless these bytes have this sha256."""
    if isinstance(content, Path):
        _verify(content, sha256, what)
    elif (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise MismatchError(what, sha256, found)


def _verify(path: Path, sha256: str, what: str) -> None:
    found = sha256_file(path)
    if found != sha256:
        raise MismatchError(what, sha256, found)
