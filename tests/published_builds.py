"""Two small builds and their releases, and the command line as processes that can be killed.

A process that has imported what the commands need forks one child for each command, so that a
command costs no start-up; but for that, the child is `progdata` as a user runs it. `python
tests/published_builds.py` is that process. `huggingface_hub` is imported by the children alone: it
reads its environment at import.
"""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from loopback_hub import LFS_SUFFIXES, LoopbackHub, sha256

NAME = "org/traces"
LOCK = "progdata.lock.json"
SHORT = 0.02
"""Seconds to wait before a second try."""

_SHORT_WAITS = {"base_wait_time": SHORT}

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.link", "os.symlink"}


Hub = TypeVar("Hub", bound=LoopbackHub)


@dataclass(frozen=True)
class Done:
    """How a command ended; `code` is -9 after SIGKILL."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        return json.loads(self.out)


class Command:
    """A command that runs."""

    def __init__(self, pool: "Commands", parent: subprocess.Popen[str], order: dict[str, Any]):
        self._pool, self._parent, self._folder = pool, parent, Path(order["folder"])
        assert parent.stdin and parent.stdout
        parent.stdin.write(json.dumps(order) + "\n")
        parent.stdin.flush()
        self.pid = int(parent.stdout.readline())

    def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        os.kill(self.pid, signal.SIGKILL)

    def said(self) -> str:
        """What it wrote to standard error so far; nothing before it has begun."""
        path = self._folder / "err"
        return path.read_text("utf-8") if path.exists() else ""

    def wait(self) -> Done:
        assert self._parent.stdout
        code = int(self._parent.stdout.readline())
        self._pool.idle.append(self._parent)
        out, err = ((self._folder / name).read_text("utf-8") for name in ("out", "err"))
        return Done(code, out, err)


class Commands:
    """Runs commands, several at once if asked to."""

    def __init__(self) -> None:
        self.idle: list[subprocess.Popen[str]] = []
        self._folder = Path(tempfile.mkdtemp(prefix="commands-"))
        self._started = 0
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)

    def start(self, *args: Any, env: dict[str, str], **order: Any) -> Command:
        """Start `progdata ARGS`. `cwd`: where; `kill_under`, `kill_at`: kill it as it is about to
        open a file to write, or to rename or link one, under a folder for the so-manieth time,
        the first being 0."""
        self._started += 1
        folder = self._folder / str(self._started)
        folder.mkdir()
        given = {"args": [*map(str, args)], "env": env, "folder": str(folder), "cwd": str(folder)}
        return Command(self, self.idle.pop() if self.idle else self._new(), given | order)

    def run(self, *args: Any, env: dict[str, str], **order: Any) -> Done:
        return self.start(*args, env=env, **order).wait()

    def _new(self) -> subprocess.Popen[str]:
        ours = {name: own for name, own in os.environ.items() if not name.startswith("HF_")}
        command = [sys.executable, __file__]
        pipe = subprocess.PIPE
        parent = subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            text=True,
            env=ours | {"OPENBLAS_NUM_THREADS": "1"},
        )
        atexit.register(parent.kill)
        return parent


@cache
def commands() -> Commands:
    """The one that all tests of a process share."""
    return Commands()


@dataclass(frozen=True)
class Builds:
    """Builds, the registry that holds their releases, and those as folders to be pushed again.

    first: clean and noisy, released as 1.0.0. second: other rows, clean alone, released as 2.0.0
    after it. Nothing of this is ever written to; a second push of a folder reads no rows.
    """

    folder: Path

    @property
    def first(self) -> Path:
        return self.folder / "first"

    @property
    def second(self) -> Path:
        return self.folder / "second"

    @property
    def registry(self) -> Path:
        return self.folder / "registry"

    @property
    def first_release(self) -> Path:
        return self.folder / "first-release"

    @property
    def second_release(self) -> Path:
        return self.folder / "second-release"

    def files(self, version: str) -> dict[str, str]:
        """The sha256 of every file of a release, but that of its lock file."""
        lock = self.registry / NAME / f"v{version}" / LOCK
        return {name: own["sha256"] for name, own in json.loads(lock.read_bytes())["files"].items()}

    def lock_bytes(self, version: str) -> bytes:
        return (self.registry / NAME / f"v{version}" / LOCK).read_bytes()


@cache
def published_builds() -> Builds:
    """Made once in a process."""
    from progdata.releases.build import build
    from progdata.releases.pulled import pull
    from progdata.releases.pushed import push as publish
    from progdata.releases.recipe import load_recipe

    own = Builds(Path(tempfile.mkdtemp(prefix="builds-")))
    atexit.register(shutil.rmtree, own.folder, ignore_errors=True)
    made = ((own.first, "1.0.0", 1, ["clean", "noisy"]), (own.second, "2.0.0", 2, ["clean"]))
    for folder, version, seed, variants in made:
        recipe = load_recipe(None, sources=["countdown:60"], variants=variants, seed=seed)
        build(recipe, folder)
        publish(folder, NAME, version, to=str(own.registry))
        release = folder.with_name(f"{folder.name}-release")
        pull(f"{NAME}@{version}", out=release, source=str(own.registry))
        publish(release, NAME, version, to=str(own.registry))  # proves it
    return own


@cache
def _hub_folder() -> Path:
    """The folder of a hub that holds release 1.0.0, as a push left it."""
    folder = Path(tempfile.mkdtemp(prefix="hub-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with LoopbackHub(folder / "hub") as hub:
        done = push(hub, folder / "home", "1.0.0", published_builds().first_release)
        assert done.code == 0, done.err
    return folder / "hub"


@contextmanager
def hub_with_first(folder: Path, kind: type[Hub] = LoopbackHub) -> Iterator[Hub]:
    """A hub of its own, kept in `folder`, that holds release 1.0.0."""
    shutil.copytree(_hub_folder(), folder)
    with kind(folder) as hub:
        yield hub


def registry_with_first(folder: Path) -> Path:
    """A local registry of its own in `folder`, that holds release 1.0.0."""
    later = shutil.ignore_patterns("v2.0.0*")
    return Path(shutil.copytree(published_builds().registry, folder, ignore=later))


def push(
    hub: LoopbackHub, home: Path, version: str, folder: Path, *more: Any, **order: Any
) -> Done:
    """Push a folder to a hub; `home`: where the client keeps its cache."""
    return start_push(hub, home, version, folder, *more, **order).wait()


def start_push(
    hub: LoopbackHub, home: Path, version: str, folder: Path, *more: Any, **order: Any
) -> Command:
    """The same, not waited for."""
    args = ("push", folder, "--repo", NAME, "--version", version, *more)
    return commands().start(*args, env=hub.client_env(home), **order)


def registry_args(registry: Path, version: str, folder: Path) -> list[Any]:
    """The arguments of a push of a folder to a local registry."""
    return ["push", folder, "--repo", NAME, "--version", version, "--to", registry]


def version_at(hub: LoopbackHub, revision: str = "main", others: tuple[str, ...] = ()) -> str:
    """The version of the release at a revision, which holds every byte of it and nothing else but
    perhaps these others."""
    found = hub.files(NAME, revision)
    for own in (".gitattributes", *others):
        found.pop(own, None)
    version = json.loads(found[LOCK])["release"]["version"]
    assert found.pop(LOCK) == published_builds().lock_bytes(version)
    hashes = {name: sha256(content) for name, content in found.items()}
    assert hashes == published_builds().files(version), f"{revision} is not whole"
    return version


def assert_old_or_new(hub: LoopbackHub) -> None:
    """Whoever reads now, at any tag or at the head, finds 1.0.0 whole or 2.0.0 whole."""
    tags = hub.tags(NAME)
    assert set(tags) in ({"v1.0.0"}, {"v1.0.0", "v2.0.0"})
    for tag in tags:
        assert version_at(hub, tag) == tag.removeprefix("v")
    assert version_at(hub) in ("1.0.0", "2.0.0")


def assert_second_published_once(hub: LoopbackHub) -> None:
    """2.0.0 is one commit and one tag, and no blob of it arrived twice."""
    assert_old_or_new(hub)
    newest, *older = hub.history(NAME)
    assert [newest.title, *(own.title for own in older)].count("Release 2.0.0") == 1
    assert hub.tags(NAME) == {"v1.0.0": older[0].sha, "v2.0.0": newest.sha}
    first, second = (published_builds().files(version) for version in ("1.0.0", "2.0.0"))
    new = {own for name, own in second.items() if name.endswith(LFS_SUFFIXES)} - {*first.values()}
    assert sorted(hub.uploads) == sorted(new)


def assert_one_line(done: Done, code: int = 1) -> str:
    """A command failed as it should: an exit code and one line, no traceback; that line."""
    *_, line = done.err.splitlines()
    assert (done.code, done.out) == (code, ""), done
    assert line.startswith("progdata: ") and "internal error" not in line, line
    assert "Traceback" not in done.err and done.err.count("progdata: ") == 1, done.err
    return line


def serve() -> list[str]:
    """Fork a child for each order on standard input; the arguments of the command, in the child."""
    _import_what_commands_need()
    while line := sys.stdin.readline():
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order)
            return order["args"]
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    os._exit(0)


def _import_what_commands_need() -> None:

    import progdata.builders.retries
    import progdata.cards.card_plots
    import progdata.cards.release_tables
    import progdata.cli
    import progdata.releases.hub_registry
    import progdata.releases.local_registry
    import progdata.releases.pulled
    import progdata.releases.pushed

    progdata.builders.retries.BASE_DELAY = SHORT
    assert "huggingface_hub" not in sys.modules, "it reads its environment at import"


def _become(order: dict[str, Any]) -> None:
    """Take on the output, the environment and the folder of a command."""
    folder = Path(order["folder"])
    for number, name in enumerate((Path(os.devnull), folder / "out", folder / "err")):
        opened = os.open(name, os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(order["env"])
    _shorten_waits_of_the_client()
    os.chdir(order["cwd"])
    if "kill_under" in order:
        sys.addaudithook(_killer(order["kill_under"], order["kill_at"]))


def _shorten_waits_of_the_client() -> None:
    """Those of `huggingface_hub` between its own tries, which are seconds."""
    from huggingface_hub.utils import _http

    plain: Any = getattr(_http, "_http_backoff_base")  # noqa: B009
    setattr(  # noqa: B010
        _http, "_http_backoff_base", lambda *args, **own: plain(*args, **own | _SHORT_WAITS)
    )


def _killer(folder: str, at: int) -> Callable[[str, tuple[Any, ...]], None]:
    """A hook that ends this process before it opens to write, renames or links what is under a
    folder for the so-manieth time."""
    left = at

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(args[2], int) and args[2] & WRITING
        if not (writes or event in CHANGES):
            return
        touched = [os.fsdecode(own) for own in args[:2] if isinstance(own, (str, bytes, Path))]
        if not any(own.startswith(folder) for own in touched):
            return
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    return hook


if __name__ == "__main__":
    sys.argv[1:] = serve()
    from progdata.cli import main

    main()
