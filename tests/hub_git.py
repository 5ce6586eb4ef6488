"""The git side of the loopback hub: bare repositories, written and read by git itself."""

import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

FIRST_COMMIT = datetime(2026, 1, 1, tzinfo=UTC)
NO_OBJECT = "0" * 40
FULL_SHA = re.compile(r"[0-9a-f]{40}")
POINTER = re.compile(
    rb"version https://git-lfs.github.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d+)\n"
)
LONGEST_POINTER = 150
SETTINGS = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "loopback",
    "GIT_AUTHOR_EMAIL": "loopback@127.0.0.1",
    "GIT_COMMITTER_NAME": "loopback",
    "GIT_COMMITTER_EMAIL": "loopback@127.0.0.1",
}


class GitError(Exception):
    """What git said when it refused."""


class RefMovedError(GitError):
    """A branch is no longer where the writer thought it was."""


@dataclass(frozen=True)
class Pointer:
    """A file kept outside git: the sha256 and the size of its content."""

    sha256: str
    size: int

    def text(self) -> bytes:
        """The pointer file that git keeps instead."""
        spec = "version https://git-lfs.github.com/spec/v1"
        return f"{spec}\noid sha256:{self.sha256}\nsize {self.size}\n".encode()


@dataclass(frozen=True)
class Entry:
    """A file or a folder of a commit. `size` is that of the git object: in LFS, the pointer's."""

    path: str
    is_file: bool
    oid: str
    size: int
    lfs: Pointer | None


@dataclass(frozen=True)
class Commit:
    """A commit and everything in its tree, by path; folders too."""

    sha: str
    parent: str | None
    title: str
    message: str
    when: datetime
    entries: dict[str, Entry]

    def files(self) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.is_file]


@dataclass(frozen=True)
class Ref:
    """A branch or a tag. `target` is a tag object's sha if the tag has a message."""

    name: str
    ref: str
    target: str
    commit: str


class GitRepo:
    """A bare repository in `folder`. Hold `lock` from reading a head to moving it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self._commits: dict[str, Commit] = {}
        self._pointers: dict[str, Pointer | None] = {}

    def create(self) -> None:
        self.folder.mkdir(parents=True)
        self.git("init", "--quiet", "--bare", "--template=", "--initial-branch=main")

    def git(self, *args: str, given: bytes = b"", settings: Mapping[str, str] | None = None) -> str:
        return self._run(args, given, settings).decode().strip()

    def heads(self) -> dict[str, Ref]:
        return self._refs("refs/heads/")

    def tags(self) -> dict[str, Ref]:
        return self._refs("refs/tags/")

    def find(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag, or the full sha of a commit or a tag object."""
        if not FULL_SHA.fullmatch(revision):
            ref = self.heads().get(revision) or self.tags().get(revision)
            return self.commit_of(ref.commit) if ref else None
        if revision in self._commits:
            return self._commits[revision]
        try:
            return self.commit_of(self.git("rev-parse", "--verify", f"{revision}^{{commit}}"))
        except GitError:
            return None  # git knows no such object, or one that is no commit

    def commit_of(self, sha: str) -> Commit:
        if sha not in self._commits:
            self._commits[sha] = self._read_commit(sha)
        return self._commits[sha]

    def count(self) -> int:
        """How many commits there are, on all branches and tags."""
        return int(self.git("rev-list", "--all", "--count"))

    def history(self, commit: Commit) -> list[Commit]:
        """The commit and its ancestors, newest first."""
        listed = [commit]
        while listed[-1].parent is not None:
            listed.append(self.commit_of(listed[-1].parent))
        return listed

    def last_change(self, commit: Commit, path: str) -> Commit:
        """The newest ancestor that changed the file or folder `path`."""
        oid = commit.entries[path].oid
        while commit.parent is not None:
            parent = self.commit_of(commit.parent)
            before = parent.entries.get(path)
            if before is None or before.oid != oid:
                break
            commit = parent
        return commit

    def read_blobs(self, oids: Iterable[str]) -> dict[str, bytes]:
        wanted = sorted(set(oids))
        output = self._run(["cat-file", "--batch"], "\n".join(wanted).encode()) if wanted else b""
        found: dict[str, bytes] = {}
        start = 0
        for oid in wanted:
            first_line = output.index(b"\n", start)
            size = int(output[start:first_line].split()[2])
            found[oid] = output[first_line + 1 : first_line + 1 + size]
            start = first_line + size + 2
        return found

    def commit(
        self,
        branch: str,
        parent: Commit | None,
        changes: Mapping[str, bytes | None],
        title: str,
        description: str = "",
        *,
        whole: bool = False,
    ) -> Commit:
        """Commit `changes` (None deletes a path) on `parent`, and move `branch` to the commit.

        whole: `changes` are the whole tree. Raises RefMovedError if the branch moves meanwhile.
        """
        before = self.heads().get(branch)
        tree = self._write_tree(None if whole else parent, changes)
        parents = ["-p", parent.sha] if parent else []
        message = f"{title}\n\n{description}" if description else title
        sha = self.git(
            "commit-tree", tree, *parents, "-F", "-", given=message.encode(), settings=self._now()
        )
        expected = before.target if before else NO_OBJECT
        try:
            self.git("update-ref", f"refs/heads/{branch}", sha, expected)
        except GitError as refused:
            raise RefMovedError(str(refused)) from refused
        return self.commit_of(sha)

    def set_ref(self, ref: str, sha: str) -> None:
        self.git("check-ref-format", ref)
        self.git("update-ref", ref, sha)

    def delete_ref(self, ref: str) -> None:
        self.git("update-ref", "-d", ref)

    def annotate(self, tag: str, commit: Commit, message: str) -> None:
        """A tag object with a message; raises GitError if the tag exists or has a bad name."""
        options = ["-a", "-F", "-", "--cleanup=verbatim"]
        dated = at_time(commit.when)
        self.git("tag", *options, "--", tag, commit.sha, given=message.encode(), settings=dated)

    def _run(
        self,
        args: Iterable[str],
        given: bytes = b"",
        settings: Mapping[str, str] | None = None,
    ) -> bytes:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        done = subprocess.run(
            ["git", f"--git-dir={self.folder}", *args],
            input=given,
            capture_output=True,
            env={**ours, **SETTINGS, **(settings or {})},
        )
        if done.returncode != 0:
            raise GitError(done.stderr.decode().strip() or f"git {args} failed")
        return done.stdout

    def _now(self) -> dict[str, str]:
        """A time for the next commit: as many minutes after FIRST_COMMIT as there are commits."""
        return at_time(FIRST_COMMIT + timedelta(minutes=self.count()))

    def _refs(self, prefix: str) -> dict[str, Ref]:
        listed = self.git(
            "for-each-ref", "--format=%(refname) %(objectname) %(*objectname)", prefix
        )
        refs: dict[str, Ref] = {}
        for line in listed.splitlines():
            ref, target, *peeled = line.split()
            name = ref.removeprefix(prefix)
            refs[name] = Ref(name, ref, target, peeled[0] if peeled else target)
        return refs

    def _read_commit(self, sha: str) -> Commit:
        head, _, message = self._run(["cat-file", "commit", sha]).decode().partition("\n\n")
        facts = [line.split(" ") for line in head.splitlines()]
        parents = [fact[1] for fact in facts if fact[0] == "parent"]
        seconds = next(int(fact[-2]) for fact in facts if fact[0] == "committer")
        title, _, description = message.rstrip("\n").partition("\n")
        return Commit(
            sha,
            parents[0] if parents else None,
            title,
            description.strip("\n"),
            datetime.fromtimestamp(seconds, UTC),
            self._read_tree(sha),
        )

    def _read_tree(self, sha: str) -> dict[str, Entry]:
        listed = self._run(["ls-tree", "-r", "-t", "-z", "--long", sha]).decode()
        rows: list[tuple[str, str, str, int]] = []
        for line in listed.split("\0")[:-1]:
            facts, _, path = line.partition("\t")
            _mode, kind, oid, size = facts.split()
            rows.append((path, kind, oid, 0 if size == "-" else int(size)))
        self._learn_pointers(
            oid for _, kind, oid, size in rows if kind == "blob" and size <= LONGEST_POINTER
        )
        return {
            path: Entry(path, kind == "blob", oid, size, self._pointers.get(oid))
            for path, kind, oid, size in rows
        }

    def _learn_pointers(self, oids: Iterable[str]) -> None:
        unknown = [oid for oid in oids if oid not in self._pointers]
        for oid, data in self.read_blobs(unknown).items():
            found = POINTER.fullmatch(data)
            self._pointers[oid] = Pointer(found[1].decode(), int(found[2])) if found else None

    def _write_tree(self, start: Commit | None, changes: Mapping[str, bytes | None]) -> str:
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            index = {"GIT_INDEX_FILE": f"{scratch}/index"}
            if start is not None:
                self.git("read-tree", start.sha, settings=index)
            added = {path: data for path, data in changes.items() if data is not None}
            oids = dict(zip(added, self._write_blobs(added.values(), Path(scratch)), strict=True))
            lines = [
                f"100644 {oids[path]}\t{path}\0" if path in oids else f"0 {NO_OBJECT}\t{path}\0"
                for path in sorted(changes, key=lambda path: path in oids)  # deletions first
            ]
            listed = "".join(lines).encode()
            self.git("update-index", "-z", "--index-info", given=listed, settings=index)
            return self.git("write-tree", settings=index)

    def _write_blobs(self, contents: Iterable[bytes], scratch: Path) -> list[str]:
        paths: list[Path] = []
        for number, data in enumerate(contents):
            paths.append(scratch / str(number))
            paths[-1].write_bytes(data)
        listed = "".join(f"{path}\n" for path in paths).encode()
        return self.git(
            "hash-object", "-w", "--no-filters", "--stdin-paths", given=listed
        ).splitlines()


def at_time(when: datetime) -> dict[str, str]:
    seconds = f"{int(when.timestamp())} +0000"
    return {"GIT_AUTHOR_DATE": seconds, "GIT_COMMITTER_DATE": seconds}


def sha256_of(data: bytes) -> str:
    return sha256(data).hexdigest()
