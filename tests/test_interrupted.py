"""Law 7, and law 5 for builds that were stopped: kills, crashes, ctrl-C, full disks, two builders.

Whatever happens, nothing half-written is visible, and the same command goes on to the same bytes.
"""

import json
import multiprocessing
import os
import pty
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from build_folder import (
    LOCK,
    WORK,
    assert_nothing_half_written,
    assert_same,
    countdown,
    published,
    unfinished,
)
from filelock import FileLock

from progdata.builders.errors import ProgdataError, UsageError
from progdata.releases.build import build
from progdata.releases.display import Silent
from progdata.releases.recipe import Recipe, load_recipe

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads /proc and mounts a tmpfs"
)

PROGDATA = Path(sys.executable).with_name("progdata")
SMALL_SHARDS = 16 << 10
LARGE, LARGE_ROWS = ["all"], 4_000
MEDIUM, MEDIUM_ROWS = ["noisy", "masked-special"], 3_000


# --- a real `progdata build` -----------------------------------------------------------------


@dataclass(frozen=True)
class Running:
    """A `progdata build` in a session of its own, and all its processes by their environment."""

    process: subprocess.Popen[str]
    token: str

    def others(self) -> list[int]:
        """The living processes that it started: workers, and the tracker of multiprocessing."""
        mark = f"PROGDATA_TEST={self.token}".encode()
        return [
            pid for pid in _processes() if pid != self.process.pid and mark in _environment(pid)
        ]

    def workers(self) -> list[int]:
        return [pid for pid in self.others() if b"spawn_main" in _command_line(pid)]

    def wait_for(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        """Returns when the condition holds; fails if the build ends before."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"ended too soon: {self.process.communicate()}"
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.002)

    def end(self, seconds: float = 60) -> tuple[int, str, str]:
        """Its exit code, standard output and standard error."""
        output, errors = self.process.communicate(timeout=seconds)
        return self.process.returncode, output, errors


def start(
    out: Path,
    rows: int,
    variants: list[str],
    workers: int = 1,
    command: list[str] | None = None,
    terminal: int | None = None,
) -> Running:
    """Starts a build; what it prints goes to pipes, or all to a terminal."""
    token = uuid.uuid4().hex
    options = [option for name in variants for option in ("--variant", name)]
    process = subprocess.Popen(
        [
            *(command or [str(PROGDATA)]),
            *("build", "--source", f"countdown:{rows}", *options),
            *("--workers", str(workers), "--out", str(out)),
        ],
        text=True,
        env=os.environ | {"PROGDATA_TEST": token},
        start_new_session=True,
        preexec_fn=_heed_ctrl_c,
        stdin=terminal,
        stdout=subprocess.PIPE if terminal is None else terminal,
        stderr=subprocess.PIPE if terminal is None else terminal,
    )
    _started.append(Running(process, token))
    return _started[-1]


_started: list[Running] = []


@pytest.fixture(autouse=True)
def no_process_survives_its_test() -> Iterator[None]:
    """A failing test must not leave a stopped build or an orphan behind."""
    yield
    for running in _started:
        running.process.kill()  # does nothing where it has been waited for
        for pid in running.others():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        running.process.wait()
    _started.clear()


def run(out: Path, rows: int, variants: list[str], workers: int = 1) -> tuple[int, str, str]:
    return start(out, rows, variants, workers).end()


def _heed_ctrl_c() -> None:
    """A shell that runs the tests in the background makes its children ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _environment(pid: int) -> bytes:
    """Empty for a process that is gone, or dead and not yet waited for."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes()
    return b""


def _command_line(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def shards_of(out: Path) -> list[Path]:
    return [path for path in (out / WORK / "shards").glob("*") if ".tmp-" not in path.name]


def writes_variants(out: Path) -> bool:
    return any((out / WORK / "staging" / "data").glob("*/.tmp-*"))


def assert_all_end(pids: Callable[[], list[int]], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while left := pids():
        assert time.monotonic() < deadline, f"still there: {[_command_line(p) for p in left]}"
        time.sleep(0.02)


def assert_free(out: Path) -> None:
    """No process holds the writer's lock."""
    with FileLock(out / WORK / "writer.lock", timeout=0):
        pass


def one_error_line(errors: str) -> str:
    """What the user is told, after the lines that show how far the build was."""
    lines = errors.splitlines()
    assert "Traceback" not in errors, errors
    assert [line for line in lines if line.startswith("progdata: ")] == lines[-1:], errors
    told = [line for line in lines if not line.startswith(("reading and", "writing variants"))]
    assert told == lines[-1:], errors
    return lines[-1]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """The files of an uninterrupted build with every preset, and the seconds it took."""
    out = tmp_path_factory.mktemp("large") / "out"
    begun = time.monotonic()
    code, _, errors = run(out, LARGE_ROWS, LARGE)
    assert code == 0, errors
    return published(out), time.monotonic() - begun


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of an uninterrupted build with two presets."""
    out = tmp_path_factory.mktemp("medium") / "out"
    build(countdown(MEDIUM_ROWS, MEDIUM), out)
    return published(out)


def finish_medium(out: Path, expected: dict[str, str]) -> None:
    """Goes on with an interrupted build, and compares it with an uninterrupted one."""
    assert_nothing_half_written(out, expected)
    build(countdown(MEDIUM_ROWS, MEDIUM), out)
    assert_same(out, expected)
    assert unfinished(out) == []


# --- kill -9 ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_build_goes_on_to_the_same_bytes(
    tmp_path: Path, large: tuple[dict[str, str], float], workers: int
) -> None:
    """Five kills at random moments, spread over as many builds as it takes."""
    expected, seconds = large
    rng = random.Random(workers)
    kills = builds = 0
    while kills < 5:
        out = tmp_path / str(builds)
        builds += 1
        killed = True
        while killed and kills < 5:
            running = start(out, LARGE_ROWS, LARGE, workers)
            time.sleep(rng.uniform(0.3, seconds))
            killed = running.process.poll() is None
            if killed:
                kills += 1
                _kill_and_look(running, out, expected)
            else:
                code, _, errors = running.end()
                assert code == 0, errors
        if killed:
            code, _, errors = run(out, LARGE_ROWS, LARGE, workers)
            assert code == 0, errors
        assert_same(out, expected)
        assert unfinished(out) == []


def _kill_and_look(running: Running, out: Path, expected: dict[str, str]) -> None:
    running.process.kill()
    running.process.wait()
    if (out / WORK / "writer.lock").exists():
        assert_free(out)
    assert_nothing_half_written(out, expected)
    assert_all_end(running.others)
    assert_nothing_half_written(out, expected)


@pytest.mark.slow
def test_a_reader_sees_whole_files_only_while_a_build_runs(
    tmp_path: Path, medium: dict[str, str]
) -> None:
    out = tmp_path / "out"
    running = start(out, MEDIUM_ROWS, MEDIUM)
    while running.process.poll() is None:
        assert_nothing_half_written(out, medium)
        time.sleep(0.001)
    code, _, errors = running.end()
    assert code == 0, errors
    assert_same(out, medium)


@pytest.mark.slow
def test_a_kill_while_workers_start_leaves_no_process(tmp_path: Path) -> None:
    for delay in (0.0, 0.1):
        running = start(tmp_path / "out", MEDIUM_ROWS, MEDIUM, workers=2)
        running.wait_for(lambda running=running: bool(running.workers()))
        time.sleep(delay)
        running.process.kill()
        running.process.wait()
        assert_free(tmp_path / "out")
        assert_all_end(running.others)


# --- a crash at every step -------------------------------------------------------------------


CRASH_ROWS = 15
CRASH_VARIANTS = ["clean", "masked-special"]


@dataclass
class Steps:
    """Counts what a build does to its folder, and does something at one of these steps.

    A step is a rename, a new folder, a removal or a file opened for writing by Python; the action
    comes before it.
    """

    at: int
    action: Callable[[], None]
    count: int = 0
    names: tuple[str, ...] = ()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_step(event, arguments):
            return
        self.count += 1
        self.names += (f"{event} {arguments[0]}",)
        if self.count == self.at:
            self.action()

    def _is_step(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            return isinstance(arguments[1], str) and set(arguments[1]) & set("wax+") != set()
        return event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir")


def crash_recipe() -> Recipe:
    return countdown(CRASH_ROWS, CRASH_VARIANTS)


def _build_in_child(out: Path, at: int, action: str, sender: Any) -> None:
    """In a forked child: builds, with something at step `at`; sends what became of it."""
    actions = {"kill": _kill_self, "fill": _disk_is_full, "interrupt": _ctrl_c}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    steps = Steps(at, actions[action])
    sys.addaudithook(steps)
    try:
        build(crash_recipe(), out, shard_bytes=SMALL_SHARDS)
        sender.send(("done", steps.names))
    except ProgdataError as error:
        sender.send(("refused", str(error)))
    except KeyboardInterrupt:
        sender.send(("interrupted", ""))
    except BaseException as error:
        sender.send(("raised", repr(error)))


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _disk_is_full() -> None:
    raise OSError(28, "No space left on device")


def _ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def build_in_child(out: Path, at: int, action: str = "kill") -> tuple[str, Any]:
    """What becomes of a build with something at its n-th step: `killed`, `done`, ..."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_build_in_child, args=(out, at, action, sender))
    child.start()
    sender.close()
    child.join(60)
    if child.exitcode == -signal.SIGKILL:
        return "killed", None
    assert child.exitcode == 0 and receiver.poll(), f"exit code {child.exitcode}"
    return receiver.recv()


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """The steps of an uninterrupted build, and its files."""
    out = tmp_path_factory.mktemp("steps") / "out"
    state, names = build_in_child(out, at=0)
    assert state == "done"
    assert len(shards_of(out)) == 0
    return list(names), published(out)


def _publishing(names: list[str]) -> tuple[int, int]:
    """The first and the last step of publishing: the moves once the lock file is written."""
    written = next(n for n, name in enumerate(names, 1) if f"-{LOCK}" in name and "rename" in name)
    return written, max(n for n, name in enumerate(names, 1) if name.startswith("os.rename"))


@pytest.mark.slow
def test_a_crash_before_any_step_of_a_build_loses_nothing(
    tmp_path: Path, steps: tuple[list[str], dict[str, str]]
) -> None:
    """Every step of publishing, and every fourth before and after."""
    names, expected = steps
    first, last = _publishing(names)
    assert last - first >= 6, "publishing takes several steps"
    tried = [*range(1, first, 4), *range(first, last + 3), *range(last + 3, len(names) + 1, 4)]
    for at in tried:
        out = tmp_path / str(at)
        assert build_in_child(out, at) == ("killed", None)
        assert_nothing_half_written(out, expected)
        build(crash_recipe(), out, shard_bytes=SMALL_SHARDS)
        assert_same(out, expected)
        assert unfinished(out) == [], f"killed before step {at}, {names[at - 1]}"


@pytest.mark.slow
def test_a_crash_while_a_half_published_build_is_taken_back_loses_nothing(
    tmp_path: Path, steps: tuple[list[str], dict[str, str]]
) -> None:
    names, expected = steps
    half_published = _publishing(names)[1] - 2
    for again in range(1, 16, 2):
        out = tmp_path / str(again)
        assert build_in_child(out, half_published) == ("killed", None)
        assert (out / "data").is_dir() and not (out / LOCK).exists()
        assert build_in_child(out, again)[0] in ("killed", "done")
        assert_nothing_half_written(out, expected)
        build(crash_recipe(), out, shard_bytes=SMALL_SHARDS)
        assert_same(out, expected)


@pytest.mark.slow
def test_a_build_that_is_killed_again_and_again_arrives(
    tmp_path: Path, steps: tuple[list[str], dict[str, str]]
) -> None:
    """Each run goes a little further than the one before."""
    _, expected = steps
    state, at = "killed", 12
    while state == "killed":
        state, _ = build_in_child(tmp_path / "out", at)
        assert_nothing_half_written(tmp_path / "out", expected)
        at += 6
    assert_same(tmp_path / "out", expected)
    assert unfinished(tmp_path / "out") == []


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_step_is_one_clear_error(
    tmp_path: Path, steps: tuple[list[str], dict[str, str]]
) -> None:
    names, expected = steps
    needing_room = [n for n, name in enumerate(names, 1) if name.startswith(("open", "os.rename"))]
    for at in needing_room[::2]:
        out = tmp_path / str(at)
        state, message = build_in_child(out, at, "fill")
        assert state == "refused", f"step {at}, {names[at - 1]}: {state} {message}"
        assert str(out) in message and "No space left" in message
        assert "\n" not in message
        assert_nothing_half_written(out, expected)
        build(crash_recipe(), out, shard_bytes=SMALL_SHARDS)
        assert_same(out, expected)


@pytest.mark.slow
def test_ctrl_c_at_any_step_stops_the_build(
    tmp_path: Path, steps: tuple[list[str], dict[str, str]]
) -> None:
    names, expected = steps
    first, last = _publishing(names)
    for at in [*range(1, first, 7), *range(first, last + 3)]:
        out = tmp_path / str(at)
        state, detail = build_in_child(out, at, "interrupt")
        assert state == "interrupted", f"step {at}, {names[at - 1]}: {state} {detail}"
        assert_nothing_half_written(out, expected)
        build(crash_recipe(), out, shard_bytes=SMALL_SHARDS)
        assert_same(out, expected)


# --- ctrl-C and SIGTERM ----------------------------------------------------------------------


def _reads(running: Running, out: Path) -> bool:
    return bool(shards_of(out))


def _starts_workers(running: Running, out: Path) -> bool:
    return bool(running.workers())


def _writes(running: Running, out: Path) -> bool:
    return writes_variants(out)


MOMENTS = {"reading": _reads, "writing": _writes, "starting workers": _starts_workers}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "workers", "to_all"),
    [
        ("reading", 1, True),
        ("reading", 2, True),
        ("writing", 2, True),
        ("writing", 2, False),
    ],
)
def test_ctrl_c_stops_a_build_in_one_line(
    tmp_path: Path, medium: dict[str, str], moment: str, workers: int, to_all: bool
) -> None:
    """Sent to the process group, as a terminal does, or to the command alone."""
    out = tmp_path / "out"
    running = start(out, MEDIUM_ROWS, MEDIUM, workers)
    running.wait_for(lambda: MOMENTS[moment](running, out))
    _interrupt_and_look(running, out, to_all)
    finish_medium(out, medium)


@pytest.mark.slow
def test_ctrl_c_while_workers_are_spawned_stops_a_build_in_one_line(tmp_path: Path) -> None:
    for delay in (0.0, 0.005, 0.01, 0.02):
        out = tmp_path / str(delay)
        running = start(out, MEDIUM_ROWS, MEDIUM, workers=2)
        running.wait_for(lambda running=running: bool(running.workers()))
        time.sleep(delay)
        _interrupt_and_look(running, out, to_all=True)


@pytest.mark.slow
def test_workers_leave_ctrl_c_to_the_command_from_their_first_moment(tmp_path: Path) -> None:
    """Else one that still imports prints a traceback beside the one line."""
    running = start(tmp_path / "out", MEDIUM_ROWS, MEDIUM, workers=2)
    running.wait_for(lambda: bool(running.workers()))
    first = running.workers()[0]
    status = Path(f"/proc/{first}/status").read_text()
    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    kept_off = int(masks["SigBlk"], 16) | int(masks["SigIgn"], 16)
    assert kept_off >> (signal.SIGINT - 1) & 1


def _interrupt_and_look(running: Running, out: Path, to_all: bool) -> None:
    begun = time.monotonic()
    send = os.killpg if to_all else os.kill
    send(running.process.pid, signal.SIGINT)
    code, output, errors = running.end()
    assert time.monotonic() - begun < 5
    assert (code, output) == (130, "")
    assert "interrupted" in one_error_line(errors) and "again" in errors
    assert_all_end(running.others, seconds=2)
    assert_free(out)


@pytest.mark.slow
def test_ctrl_c_twice_stops_a_build_without_a_traceback(tmp_path: Path) -> None:
    """As people press it."""
    out = tmp_path / "out"
    for gap in (0.001, 0.01, 0.05):
        running = start(out, MEDIUM_ROWS, MEDIUM, workers=2)
        running.wait_for(lambda running=running: len(shards_of(out)) > 0)
        for _ in range(2):
            with suppress(ProcessLookupError):
                os.killpg(running.process.pid, signal.SIGINT)
            time.sleep(gap)
        code, _, errors = running.end()
        assert code in (130, -signal.SIGINT)
        assert "Traceback" not in errors, errors
        assert_all_end(running.others, seconds=2)


@pytest.mark.slow
def test_ctrl_c_on_a_terminal_stops_a_build_under_its_bar(
    tmp_path: Path, medium: dict[str, str]
) -> None:
    """The terminal sends the signal when it reads the key."""
    out = tmp_path / "out"
    keyboard, terminal = pty.openpty()
    command = ["setsid", "--ctty", "--wait", str(PROGDATA)]
    running = start(out, MEDIUM_ROWS, MEDIUM, 2, command, terminal)
    os.close(terminal)
    running.wait_for(lambda: bool(shards_of(out)))
    os.write(keyboard, b"\x03")
    shown = _read_all(keyboard)
    assert running.process.wait(timeout=5) == 130
    assert "rows" in shown and "MB/s" in shown
    assert "interrupted" in shown.strip().splitlines()[-1]
    assert "Traceback" not in shown
    assert_all_end(running.others, seconds=2)
    finish_medium(out, medium)


def _read_all(terminal: int) -> str:
    shown = b""
    with suppress(OSError):  # Linux says EIO when the other side is closed
        while chunk := os.read(terminal, 1 << 16):
            shown += chunk
    os.close(terminal)
    return shown.decode()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_is_heard_while_pandas_is_imported(tmp_path: Path, workers: int) -> None:
    """pyarrow imports it late, if at all, inside code that swallows what is raised there."""
    driver, sent = tmp_path / "driver.py", tmp_path / "sent"
    driver.write_text(
        "import os, pathlib, signal, sys\n"
        "from progdata.cli import main\n"
        "def hook(event, arguments):\n"
        f"    sent = pathlib.Path({str(sent)!r})\n"
        "    if event == 'import' and arguments[0] == 'pandas' and not sent.exists():\n"
        "        sent.touch()\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "if __name__ == '__main__':\n"
        "    sys.addaudithook(hook)\n"
        "    main()\n"
    )
    command = [sys.executable, str(driver)]
    code, _, errors = start(tmp_path / "out", 300, ["clean"], workers, command).end()
    assert code == (130 if sent.exists() else 0), f"ctrl-C was swallowed: {errors}"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_terminated_build_goes_on(tmp_path: Path, medium: dict[str, str], workers: int) -> None:
    out = tmp_path / "out"
    running = start(out, MEDIUM_ROWS, MEDIUM, workers)
    running.wait_for(lambda: writes_variants(out) if workers == 1 else bool(shards_of(out)))
    running.process.terminate()
    code, _, errors = running.end(seconds=5)
    assert code != 0 and "Traceback" not in errors
    assert_all_end(running.others)
    assert_free(out)
    finish_medium(out, medium)


# --- a worker that dies ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["starting workers", "reading", "writing"])
def test_a_worker_that_dies_is_one_clear_error(
    tmp_path: Path, medium: dict[str, str], moment: str
) -> None:
    out = tmp_path / "out"
    running = start(out, MEDIUM_ROWS, MEDIUM, workers=2)
    running.wait_for(lambda: MOMENTS[moment](running, out))
    os.kill(running.workers()[0], signal.SIGKILL)
    code, output, errors = running.end(seconds=20)
    assert (code, output) == (1, "")
    assert "worker process died" in one_error_line(errors)
    assert_all_end(running.others)
    assert_free(out)
    finish_medium(out, medium)


# --- one writer ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_builder_is_refused_and_the_first_goes_on(
    tmp_path: Path, medium: dict[str, str]
) -> None:
    out = tmp_path / "out"
    first = start(out, MEDIUM_ROWS, MEDIUM, workers=1)
    first.wait_for(lambda: bool(shards_of(out)))
    first.process.send_signal(signal.SIGSTOP)  # so that it does not finish meanwhile
    before = published(out), unfinished(out)
    code, output, errors = run(out, MEDIUM_ROWS, MEDIUM)
    with pytest.raises(ProgdataError, match="another process"):
        build(countdown(10), out)
    assert (published(out), unfinished(out)) == before
    first.process.send_signal(signal.SIGCONT)
    assert (code, output) == (1, "")
    assert len(errors.splitlines()) == 1
    assert str(out) in errors and "another process is building" in errors
    code, _, errors = first.end()
    assert code == 0, errors
    assert_same(out, medium)


def test_a_lock_that_is_held_refuses_a_builder_at_once(tmp_path: Path) -> None:
    (tmp_path / "out" / WORK).mkdir(parents=True)
    with FileLock(tmp_path / "out" / WORK / "writer.lock"):
        begun = time.monotonic()
        with pytest.raises(ProgdataError, match="another process"):
            build(countdown(10), tmp_path / "out")
        assert time.monotonic() - begun < 1
    build(countdown(10), tmp_path / "out")


# --- unfinished and finished folders ---------------------------------------------------------


class StopAt(Silent):
    """Interrupts a build when a stage begins, or at its n-th update."""

    def __init__(self, stage: str, updates: int = 0) -> None:
        self.wanted, self.updates, self.current = stage, updates, ""

    def stage(self, name: str) -> None:
        self.current = name
        self._step()

    def update(self, share: float, rows: int, size: int) -> None:
        self._step()

    def _step(self) -> None:
        if self.current == self.wanted:
            self.updates -= 1
            if self.updates < 0:
                raise KeyboardInterrupt


READING, WRITING = "reading and counting", "writing variants"


def interrupt(recipe: Recipe, out: Path, stage: str, updates: int = 0) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(recipe, out, shard_bytes=SMALL_SHARDS, display=StopAt(stage, updates))


def test_a_build_may_go_on_with_other_workers_and_shards(tmp_path: Path) -> None:
    recipe = countdown(200)
    build(recipe, tmp_path / "whole")
    interrupt(recipe, tmp_path / "out", READING, 5)
    interrupt(recipe, tmp_path / "out", WRITING, 2)
    build(recipe, tmp_path / "out", workers=2, shard_bytes=8 << 20)
    assert_same(tmp_path / "out", tmp_path / "whole")


def test_what_is_committed_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(countdown(100, ["clean"]), tmp_path / "out", READING, 6)
    kept = {path: path.stat().st_mtime_ns for path in shards_of(tmp_path / "out")}
    assert len(kept) > 4
    interrupt(countdown(100, ["clean"]), tmp_path / "out", WRITING)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_leftovers_of_a_killed_process_are_cleaned(tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupt(countdown(100), out, WRITING, 1)
    shard = out / WORK / "shards" / ".tmp-999999-0123456789abcdef"
    shard.mkdir()
    (shard / "base.arrow").write_bytes(b"half")
    for name in ("data/clean/.tmp-999999-train-00000-of-00001.parquet", ".tmp-1-README.md"):
        leftover = out / WORK / "staging" / name
        leftover.parent.mkdir(parents=True, exist_ok=True)
        leftover.write_bytes(b"half")
    build(countdown(100), out)
    assert unfinished(out) == []
    build(countdown(100), tmp_path / "whole")
    assert_same(out, tmp_path / "whole")


def test_a_finished_build_that_was_killed_while_it_cleaned_up_is_cleaned_up(
    tmp_path: Path,
) -> None:
    """The next run finds it finished, and must not keep gigabytes of shards for ever."""
    out = tmp_path / "out"
    interrupt(countdown(50), out, WRITING, 1)
    kept = tmp_path / "kept"
    (out / WORK / "shards").rename(kept)
    build(countdown(50), out)
    kept.rename(out / WORK / "shards")
    build(countdown(50), out)
    assert unfinished(out) == []


OTHERS = {
    "fewer variants": (countdown(60), countdown(60, ["noisy"])),
    "no special tokens": (countdown(60, ["special"]), countdown(60, ["clean"])),
    "fewer files": (countdown(60, ["clean"]), countdown(9, ["clean"])),
    "no rejects": (countdown(200, ["clean"]), countdown(3, ["clean"])),
    "another seed": (countdown(60, ["noisy"]), countdown(60, ["noisy"], seed=1)),
    "another segmenter": (
        countdown(60, ["clean"]),
        countdown(60, ["clean"], segmenter="tokens:16"),
    ),
}


@pytest.mark.parametrize("stage", [READING, WRITING, "publishing"])
@pytest.mark.parametrize("case", OTHERS)
def test_an_unfinished_build_leaves_nothing_in_one_of_another_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, stage: str
) -> None:
    """The second recipe is refused, or builds exactly what it builds in an empty folder."""
    monkeypatch.setattr("progdata.releases.plan.ROW_GROUP_TEXT", 10_000)
    monkeypatch.setattr("progdata.releases.plan.FILE_TEXT", 20_000)
    first, second = OTHERS[case]
    out = tmp_path / "out"
    if stage == "publishing":
        _crash_before_publishing(first, out, monkeypatch)
    else:
        interrupt(first, out, stage, 3)
    try:
        build(second, out, shard_bytes=SMALL_SHARDS)
    except UsageError as error:
        assert str(out) in str(error)
        return
    build(second, tmp_path / "fresh", shard_bytes=SMALL_SHARDS)
    assert_same(out, tmp_path / "fresh")


def _crash_before_publishing(recipe: Recipe, out: Path, patch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with patch.context() as patched:
        patched.setattr("progdata.releases.workspace.Workspace.publish", crash)
        with pytest.raises(KeyboardInterrupt):
            build(recipe, out, shard_bytes=SMALL_SHARDS)


def test_shards_of_another_order_of_sources_do_not_reach_the_report(tmp_path: Path) -> None:
    """Which rows are sampled depends on where a row stands among all sources."""
    specs = []
    for name, pieces in (("long", 30), ("short", 3)):
        thinking = "\n\n".join("so, a step" for _ in range(pieces))
        rows = [
            {"problem": f"{name} {n}", "completion": f"<think>{thinking}</think>x", "answer": "1"}
            for n in range(40)
        ]
        specs.append(str(tmp_path / f"{name}.jsonl"))
        Path(specs[-1]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = (load_recipe(None, sources=order) for order in (specs, specs[::-1]))
    interrupt(first, tmp_path / "out", WRITING)
    try:
        build(second, tmp_path / "out", shard_bytes=SMALL_SHARDS)
    except UsageError:
        return
    build(second, tmp_path / "fresh", shard_bytes=SMALL_SHARDS)
    assert_same(tmp_path / "out", tmp_path / "fresh")


def test_a_build_without_a_row_left_shows_its_rejects_each_time(tmp_path: Path) -> None:
    source = tmp_path / "bad.jsonl"
    source.write_text('{"problem": "p", "completion": "<think>cut off", "answer": "1"}\n' * 3)
    out = tmp_path / "out"
    shown = []
    for _ in range(2):
        with pytest.raises(ProgdataError, match="3 think_not_closed"):
            build(load_recipe(None, sources=[str(source)]), out)
        shown.append(published(out))
        assert unfinished(out) == []
    assert list(shown[0]) == ["rejects.parquet"] and shown[0] == shown[1]


def test_files_of_equal_size_are_not_taken_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recipe A, then B in the same unfinished folder, then A again: A's bytes, not B's."""
    recipes = _recipes_of_equal_size(tmp_path)
    out = tmp_path / "out"
    for recipe in recipes:
        try:
            _crash_before_publishing(recipe, out, monkeypatch)
        except UsageError:
            return
    build(recipes[0], out, shard_bytes=SMALL_SHARDS)
    build(recipes[0], tmp_path / "fresh", shard_bytes=SMALL_SHARDS)
    assert_same(out, tmp_path / "fresh")
    build(recipes[0], out)  # it is finished, and as the lock file declares


def _recipes_of_equal_size(folder: Path) -> list[Recipe]:
    """Two recipes on one trace whose files differ and have the same size."""
    row = {"problem": "p", "completion": "<think>a b\n\nc d\n\ne f\n\ng h</think>x", "answer": "1"}
    (folder / "one.jsonl").write_text(json.dumps(row))
    seen: dict[int, tuple[Recipe, bytes]] = {}
    for seed in range(60):
        recipe = load_recipe(
            None, sources=[str(folder / "one.jsonl")], variants=["noisy"], seed=seed
        )
        out = folder / f"seed-{seed}"
        build(recipe, out)
        data = next((out / "data" / "noisy").glob("*.parquet")).read_bytes()
        if len(data) in seen and seen[len(data)][1] != data:
            return [seen[len(data)][0], recipe]
        seen.setdefault(len(data), (recipe, data))
    pytest.fail("no two seeds gave files of the same size")


def test_a_build_that_failed_before_it_began_takes_over_no_files(tmp_path: Path) -> None:
    """A mistyped source, then files of the user's own in the same folder."""
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ProgdataError, match="no such file"):
        build(load_recipe(None, sources=[str(tmp_path / "missing.jsonl")]), out)
    (out / "README.md").write_text("mine")
    with suppress(UsageError):
        build(countdown(10), out)
    assert (out / "README.md").read_text() == "mine"


def test_a_finished_build_is_left_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = build(countdown(100), out)
    before = {name: _identity(out / name) for name in published(out)}
    again = build(countdown(100), out)
    assert again == report == json.loads((out / "reports" / "build.json").read_text())
    assert {name: _identity(out / name) for name in published(out)} == before
    assert unfinished(out) == []


def _identity(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


@pytest.mark.parametrize(
    "name", ["data/clean/train-00000-of-00001.parquet", "rejects.parquet", "README.md"]
)
@pytest.mark.parametrize("change", ["flip", "cut", "remove"])
def test_a_changed_file_of_a_finished_build_is_noticed(
    tmp_path: Path, name: str, change: str
) -> None:
    out = tmp_path / "out"
    build(countdown(20), out)
    data = (out / name).read_bytes()
    if change == "remove":
        (out / name).unlink()
    elif change == "cut":
        (out / name).write_bytes(data[:-1])
    else:
        (out / name).write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
    with pytest.raises(ProgdataError) as caught:
        build(countdown(20), out)
    assert str(out / name) in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '"x"'])
def test_a_damaged_lock_file_is_one_clear_error(tmp_path: Path, content: str) -> None:
    build(countdown(5), tmp_path / "out")
    (tmp_path / "out" / LOCK).write_text(content)
    before = published(tmp_path / "out")
    with pytest.raises(ProgdataError, match=LOCK) as caught:
        build(countdown(5), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert published(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("sources", countdown(21)),
        ("seed", countdown(20, seed=1)),
        ("variants", countdown(20, ["clean"])),
        ("segmenter", countdown(20, segmenter="episodes")),
        ("limit", countdown(20, limit=5)),
        ("progress", countdown(20, progress="segment-sum")),
    ],
)
def test_another_recipe_in_a_finished_folder_is_refused(
    tmp_path: Path, field: str, other: Recipe
) -> None:
    out = tmp_path / "out"
    build(countdown(20), out)
    before = published(out)
    with pytest.raises(UsageError) as caught:
        build(other, out)
    assert caught.value.exit_code == 2
    assert field in str(caught.value) and str(out) in str(caught.value)
    assert published(out) == before


def test_a_source_that_changed_since_is_not_taken_for_the_finished_build(tmp_path: Path) -> None:
    row = {"problem": "p", "completion": "<think>a b</think>x", "answer": "1"}
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps(row))
    build(load_recipe(None, sources=[str(source)]), tmp_path / "out")
    source.write_text(json.dumps(row | {"answer": "2"}))
    with pytest.raises(UsageError, match="the sources' content"):
        build(load_recipe(None, sources=[str(source)]), tmp_path / "out")


@pytest.mark.slow
def test_the_command_does_nothing_on_a_finished_build(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [str(PROGDATA), "build", "--source", "countdown:50", "--out", str(out), "--json"]
    first, again = (
        json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        for _ in range(2)
    )
    assert first | {"seconds": 0} == again | {"seconds": 0}
    other = subprocess.run([*command, "--seed", "1"], capture_output=True, text=True)
    assert (other.returncode, other.stdout) == (2, "")
    assert len(other.stderr.splitlines()) == 1 and "seed" in other.stderr


# --- disks -----------------------------------------------------------------------------------


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A small tmpfs; skips where mounting is not permitted."""
    folder.mkdir()
    made = _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    if made.returncode:
        pytest.skip(f"mounting a tmpfs is not permitted: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True, text=True)
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(arguments, 1, "", str(error))


def _remount(disk: Path, options: str) -> None:
    made = _mount("-o", f"remount,{options}", str(disk))
    assert made.returncode == 0, made.stderr


@pytest.mark.slow
def test_a_full_disk_is_one_clear_error_and_the_build_goes_on_with_more_room(
    tmp_path: Path,
) -> None:
    recipe = countdown(500)
    build(recipe, tmp_path / "whole")
    expected = published(tmp_path / "whole")
    failed = 0
    with mounted(tmp_path / "disk", "16k") as disk:
        out, size = disk / "out", 16
        while True:
            try:
                build(recipe, out, shard_bytes=64 << 10)
                break
            except ProgdataError as error:
                assert error.exit_code == 1
                assert str(out) in str(error) and "No space left on device" in str(error)
                assert "\n" not in str(error)
            assert_nothing_half_written(out, expected)
            failed += 1
            size = int(size * 1.25) + 8
            _remount(disk, f"size={size}k")
        assert_same(out, expected)
        assert unfinished(out) == []
    assert failed > 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "size", "stage"), [(1, "1m", READING), (2, "3m", READING), (2, "8m", WRITING)]
)
def test_the_command_says_that_the_disk_is_full_in_one_line(
    tmp_path: Path, medium: dict[str, str], workers: int, size: str, stage: str
) -> None:
    with mounted(tmp_path / "disk", size) as disk:
        code, output, errors = run(disk / "out", MEDIUM_ROWS, MEDIUM, workers)
        assert (code, output) == (1, "")
        assert "No space left on device" in one_error_line(errors)
        assert str(disk / "out") in errors
        assert errors.splitlines()[-2].startswith(stage)
        assert_nothing_half_written(disk / "out", medium)
        if workers == 2:
            _remount(disk, "size=200m")
            finish_medium(disk / "out", medium)


def test_a_read_only_folder_is_one_clear_error(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "4m") as disk:
        (disk / "there").mkdir()
        (disk / "begun").mkdir()
        interrupt(countdown(30), disk / "begun", WRITING)
        _remount(disk, "ro")
        for name in ("missing", "there", "begun"):
            with pytest.raises(ProgdataError) as caught:
                build(countdown(30), disk / name)
            assert caught.value.exit_code == 1
            message = str(caught.value)
            assert str(disk / name) in message and "Read-only file system" in message
            assert "\n" not in message


@pytest.mark.slow
def test_the_command_says_that_a_folder_is_read_only_in_one_line(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "1m") as disk:
        _remount(disk, "ro")
        code, output, errors = run(disk / "out", 100, ["clean"])
        assert (code, output) == (1, "")
        assert len(errors.splitlines()) == 1 and "Read-only file system" in errors
