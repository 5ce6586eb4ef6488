"""The output folder of a build: who may write it, where unfinished work lies, how it is published.

OUT/.progdata/writer.lock    held by the one writer; the kernel frees it when the writer dies
OUT/.progdata/shards/        committed shards of an unfinished build
OUT/.progdata/staging/       the files of the build, until all are there
OUT/data, README.md, ...     the build; progdata.lock.json is written last
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from progdata.builders.atomic import TEMPORARY, move, write_text
from progdata.builders.engine import ShardStore
from progdata.builders.errors import ProgdataError, UsageError

LOCK_FILE = "progdata.lock.json"

REPORT = "reports/build.json"

PUBLISHED = ("data", "reports", "rejects.parquet", "special_tokens.json", "README.md", LOCK_FILE)
"""What a build consists of, in the order in which it is moved into place."""


class Workspace:
    """The folder of one build, while this process is its writer."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.work = out / ".progdata"
        self.store = ShardStore(self.work / "shards")
        self.staging = self.work / "staging"
        self.publishing = self.staging / "publishing"  # says that what is visible is ours
        self.build_id = self.staging / "build-id"  # says which build the staged files belong to

    def prepare(self, build_id: str) -> None:
        """Make the folders, and take back what a killed process had half published.

        Files of another unfinished build are dropped; its shards, named by content, stay.
        """
        self.store.open()
        if not self.build_id.exists() or self.build_id.read_text("utf-8") != build_id:
            if self.publishing.exists():
                for name in PUBLISHED:
                    _remove(self.out / name)
            shutil.rmtree(self.staging, ignore_errors=True)
            write_text(self.build_id, build_id)
        for name in PUBLISHED:
            if (self.out / name).exists() and not (self.staging / name).exists():
                move(self.out / name, self.staging / name)
        for leftover in self.staging.rglob(f"{TEMPORARY}*"):
            leftover.unlink()

    def publish(self) -> None:
        """Move the finished build into place, the lock file last; drop the unfinished work."""
        write_text(self.publishing, "")
        for name in PUBLISHED:
            if (self.staging / name).exists():
                move(self.staging / name, self.out / name)
        self.clean()

    def clean(self) -> None:
        """Drop the unfinished work; a kill may have left some beside a finished build."""
        shutil.rmtree(self.staging, ignore_errors=True)
        shutil.rmtree(self.store.folder, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def open_workspace(out: Path) -> Iterator[Workspace]:
    """The workspace in `out`, locked against a second writer.

    Raises ProgdataError where another process writes there or the folder cannot be written,
    UsageError where it holds something else than a build.
    """
    workspace = Workspace(out)
    refuse_strangers(out)
    try:
        workspace.work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(workspace.work / "writer.lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise ProgdataError(
            f"{out}: another process is building here; wait for it or choose another --out"
        ) from error
    except OSError as error:
        raise ProgdataError(
            f"{out}: cannot be written: {error.strerror or error}; choose another --out"
        ) from error
    try:
        yield workspace
    finally:
        lock.release()


def refuse_strangers(out: Path) -> None:
    """Refuse a folder whose files a build would replace although no build made them."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; --out must name a folder")
    workspace = Workspace(out)
    ours = (out / LOCK_FILE).exists() or workspace.publishing.exists()
    taken = [name for name in PUBLISHED if (out / name).exists()]
    ours = ours or (taken == ["rejects.parquet"] and workspace.work.exists())
    if taken and not ours:
        raise UsageError(
            f"{out}: holds {', '.join(taken)}, which no build of progdata made; "
            "choose another --out"
        )
