"""No input of the grading is run as code, reads a file, or reaches a socket or a process."""

import json
import re
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from grading_processes import request, script
from hostile_answers import hostile_answers
from shared_data import ANSWERS, read_rows

from progdata.verifiers.answers import find_answer
from progdata.verifiers.worker import FORBIDDEN

# --- what becomes code

ARITHMETIC = re.compile(r"(?:Integer|Float|[eE](?=[+-]?\d)|[\d\s.,'+\-*/^()])*")
"""Sources that sympy makes of the numbers and the plain arithmetic that it is given."""

PARSERS = ("sympy/parsing/sympy_parser.py", "/ast.py")
"""Where sympy compiles what it was given."""

GENERATORS = (
    "/dataclasses.py",
    "/collections/__init__.py",
    "/typing.py",
    "sympy/polys/monomials.py",
)
"""Where Python and sympy compile what they have written themselves."""

INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


class Code(NamedTuple):
    """Something that was compiled or run: in which request, what, from where, by whom."""

    number: int
    source: str | None
    file: str
    by: str

    @property
    def by_parser(self) -> bool:
        return self.by.endswith(PARSERS)

    @property
    def harmless(self) -> bool:
        """Whether it is arithmetic, or the libraries' own."""
        if self.by_parser:
            own = self.source in (None, "from sympy import *", "Expression")
            return own or ARITHMETIC.fullmatch(self.source or "") is not None
        return self.by.endswith(GENERATORS) or self.file.startswith((*INSTALLED, "<frozen"))


def code_of(requests: list[dict[str, Any]], folder: Path) -> list[Code]:
    path = folder / "requests.json"
    path.write_text(json.dumps(requests))
    lines = script("record_code", path).output(600).splitlines()
    return [Code(*json.loads(line)) for line in lines]


@pytest.mark.slow
def test_no_text_of_an_input_becomes_code(tmp_path: Path):
    canary = tmp_path / "canary"
    canary.write_text("5")
    pairs = [(own.gold, own.answer) for own in hostile_answers(canary)]
    pairs += [(row["gold"], row["answer"]) for row in read_rows(ANSWERS / "hostile.jsonl.gz")]
    requests: list[dict[str, Any]] = []
    for gold, text in pairs:
        found = find_answer(text)
        said = {"answer": found.latex} if found else {"answer": None, "text": text}
        requests.append(request(gold, "", cpu_seconds=0.15) | said)
        requests.append(request(text, gold, cpu_seconds=0.15))
        requests.append(request(gold, text, grader="deepscaler", cpu_seconds=0.15))
    code = code_of(requests, tmp_path)
    assert Counter(own.harmless for own in code)[False] == 0, [o for o in code if not o.harmless]
    assert sum(own.by_parser for own in code) > 500
    assert canary.read_text() == "5"


def test_what_becomes_code_is_seen(tmp_path: Path):
    """The test above can fail: sympy itself runs what it is given."""
    codes = ["__import__('sympy').sympify('open')", "eval('os.getpid()')", "exec('x = 5')"]
    found = code_of([request(code, "", grader="eval") for code in codes], tmp_path)
    assert {own.number for own in found if not own.harmless} == {0, 1, 2}
    assert any(own.by_parser and "open" in (own.source or "") for own in found)


# --- what a worker may not do, whatever runs in it


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file and a module, which workers may import; beside it one that is not."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "there").write_text("5")
    (folder / "new_module.py").write_text("value = 5")
    beside = folder.with_name(f"{folder.name}-beside")
    beside.mkdir()
    (beside / "script.py").write_text("secret = 5")
    return folder


def outcomes(codes: list[str], folder: Path) -> list[int | str]:
    """How guarded workers end that run these: an exit code, or the name of an exception."""
    path = folder / "codes.json"
    path.write_text(json.dumps(codes))
    before = contents(folder)
    found = json.loads(script("attempt", path, folder).output())
    assert contents(folder) == before
    return found


def contents(folder: Path) -> dict[str, tuple[bytes, int, float]]:
    return {
        str(own): (own.read_bytes(), own.stat().st_mode, own.stat().st_mtime)
        for own in folder.rglob("*")
        if own.is_file() and own.name != "codes.json"
    }


FORBIDDEN_CODES = """
open(NEW, 'w')
open(THERE, 'a')
open(THERE, 'r+')
open(THERE, 'x')
import io; io.FileIO(NEW, 'w')
import os; os.open(NEW, os.O_WRONLY | os.O_CREAT)
import os; os.open(THERE, os.O_RDWR)
import os; os.open(THERE, os.O_RDONLY | os.O_TRUNC | os.O_WRONLY)
from pathlib import Path; Path(NEW).write_text('5')
from pathlib import Path; Path(NEW).touch()
import os; os.mkdir(NEW)
import os; os.remove(THERE)
import os; os.unlink(THERE)
import os; os.rename(THERE, NEW)
import os; os.replace(THERE, NEW)
import os; os.link(THERE, NEW)
import os; os.symlink(THERE, NEW)
import os; os.truncate(THERE, 0)
import os; os.chmod(THERE, 0o777)
import os; os.chown(THERE, 1, 1)
import os; os.utime(THERE)
import os; os.rmdir(FOLDER)
import os; os.setxattr(THERE, 'user.x', b'5')
import shutil; shutil.rmtree(FOLDER)
import shutil; shutil.copyfile(THERE, NEW)
import tempfile; tempfile.TemporaryFile()
import sqlite3; sqlite3.connect(NEW)
import os; os.system('touch ' + NEW)
import os; os.fork()
import os; os.forkpty()
import os; os.execv('/bin/touch', ['touch', NEW])
import os; os.spawnv(os.P_WAIT, '/bin/touch', ['touch', NEW])
import os; os.posix_spawn('/bin/touch', ['touch', NEW], {})
import subprocess; subprocess.run(['touch', NEW])
import multiprocessing; multiprocessing.Process(target=print).start()
import pty; pty.spawn('/bin/true')
import os; os.kill(os.getppid(), 0)
import os; os.kill(1, 0)
import os; os.killpg(0, 0)
import signal, threading; signal.pthread_kill(threading.get_ident(), 0)
import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import resource; resource.prlimit(1, resource.RLIMIT_CORE)
import os; os.putenv('PATH', '5')
import os; os.environ['PATH'] = '5'
import socket; socket.socket()
import socket; socket.socketpair()
import socket; socket.getaddrinfo('localhost', 80)
import socket; socket.create_connection(('127.0.0.1', 9))
import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')
import ctypes; ctypes.CDLL(None)
import ctypes; ctypes.pythonapi.Py_GetVersion()
import ctypes; ctypes.string_at(0)
import mmap; mmap.mmap(-1, 5)
import fcntl; fcntl.fcntl(0, fcntl.F_GETFD)
import syslog; syslog.syslog('5')
import sympy; sympy.preview(sympy.Symbol('x'), viewer='file', filename=NEW)
"""


def filled_in(code: str, folder: Path) -> str:
    places = {"NEW": folder / "new", "THERE": folder / "there", "FOLDER": str(folder)}
    return "\n".join([*(f"{name} = {str(path)!r}" for name, path in places.items()), code])


@pytest.fixture(scope="module")
def forbidden(folder: Path) -> dict[str, int | str]:
    codes = FORBIDDEN_CODES.strip().splitlines()
    found = outcomes([filled_in(code, folder) for code in codes], folder)
    return dict(zip(codes, found, strict=True))


@pytest.mark.parametrize("code", FORBIDDEN_CODES.strip().splitlines())
def test_what_reaches_out_ends_the_worker(code: str, forbidden: dict[str, int | str]):
    assert forbidden[code] == FORBIDDEN


REFUSED_CODES = """
open(THERE)
open(THERE, 'rb')
open(FOLDER + '-beside/script.py')
open(FOLDER + '/../' + FOLDER.split('/')[-1] + '-beside/script.py')
open('/etc/passwd')
open('/proc/self/environ')
import io; io.open(THERE)
import io; io.open_code(THERE)
import os; os.open(THERE, os.O_RDONLY)
from pathlib import Path; Path(THERE).read_text()
import numpy; numpy.fromfile(THERE)
import runpy; runpy.run_path(FOLDER + '-beside/script.py')
import os; os.popen('touch ' + NEW)
import os; os.mkfifo(NEW)
import os; os.mknod(NEW)
import os, posix; posix.mknod(NEW)
import os; os.pidfd_open(os.getppid())
import _posixsubprocess; _posixsubprocess.fork_exec
import subprocess; subprocess._fork_exec
"""


def test_no_file_is_read_and_what_the_hook_does_not_hear_is_gone(folder: Path):
    codes = REFUSED_CODES.strip().splitlines()
    found = outcomes([filled_in(code, folder) for code in codes], folder)
    refused = {FORBIDDEN, "PermissionError", "AttributeError"}
    assert set(found) == refused, dict(zip(codes, found, strict=True))
    assert found[0] == "PermissionError"


def test_libraries_may_be_imported_late(folder: Path):
    modules = ["integrals.manualintegrate", "solvers.diophantine", "physics.units", "stats"]
    codes = [f"import sympy.{name}" for name in modules]
    codes.append("from sympy import *; x = Symbol('x'); integrate(exp(-x) * sin(x)**2, (x, 0, 1))")
    assert outcomes(codes, folder) == [0] * len(codes)


def test_a_late_import_writes_nothing(folder: Path):
    """Where no compiled module lies beside the source, Python would write one."""
    (late,) = outcomes(["import new_module; assert new_module.value == 5"], folder)
    assert late == 0
    assert not (folder / "__pycache__").exists()
