"""The bytes of the loopback hub's LFS files: one file on disk for each sha256."""

import tempfile
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from hub_git import Pointer


class WrongBytesError(Exception):
    """Bytes arrived that are not those of the sha256 they were sent for."""


class BlobStore:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, oid: str) -> Path:
        return self.folder / oid[:2] / oid

    def size(self, oid: str) -> int | None:
        """The size of a blob; None if it never arrived whole."""
        path = self.path(oid)
        return path.stat().st_size if path.is_file() else None

    def receive(self, oid: str, chunks: Iterable[bytes]) -> int:
        """Write a blob to disk as it arrives, and return its size; raises WrongBytesError."""
        digest = sha256()
        size = 0
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="arriving-") as scratch:
            arriving = Path(scratch) / oid
            with arriving.open("wb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
                    size += len(chunk)
            if digest.hexdigest() != oid:
                raise WrongBytesError(f"expected sha256 {oid}, received {digest.hexdigest()}")
            self.path(oid).parent.mkdir(exist_ok=True)
            arriving.replace(self.path(oid))
        return size

    def add(self, data: bytes) -> Pointer:
        oid = sha256(data).hexdigest()
        if self.size(oid) is None:
            self.receive(oid, [data])
        return Pointer(oid, len(data))
