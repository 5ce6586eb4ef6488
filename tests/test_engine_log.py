"""What engines print: kept away from the terminal, and searched for what went wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from progdata.builders.engine_log import find_cause, printed_to

BOTH = 'import os, sys; print("out"); print("err", file=sys.stderr); os.write(2, b"raw\\n")'

CORE = "(EngineCore_DP0 pid=2114) ERROR 08-22 14:03:11 [core.py:946] "
"""What vLLM's engine process writes before each line of a traceback."""

WRAPPED = """\
(APIServer pid=2011) Traceback (most recent call last):
(APIServer pid=2011)   File "/venv/lib/vllm/v1/engine/utils.py", line 732, in wait_for_engine
(APIServer pid=2011)     raise RuntimeError("Engine core initialization failed. "
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""

CAUSES = {
    "a GPU that is full": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a "
        "total capacity of 79.19 GiB of which 1.06 GiB is free."
    ),
    "an attention that a CPU does not have": (
        "NotImplementedError: Unsupported CPU attention configuration: head_size=16"
    ),
    "no room for the cache": (
        "ValueError: No available memory for the cache blocks. Try increasing "
        "`gpu_memory_utilization` when initializing the engine."
    ),
    "a context that is too long": (
        "ValueError: To serve at least one request with the models's max seq len (131072), "
        "(3.50 GiB KV cache is needed, which is larger than the available KV cache memory."
    ),
    "an error of a validator": (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig"
    ),
    "an exit": "SystemExit: 3",
}


def vllm_log(cause: str) -> str:
    """A start that failed, as vLLM 0.22 tells it."""
    lines = [
        "INFO 08-22 14:02:58 [__init__.py:216] Automatically detected platform cpu.",
        "WARNING 08-22 14:03:01 [_custom_ops.py:20] Failed to import from vllm._C with "
        "ImportError('libcuda.so.1: cannot open shared object file')",
        "INFO 08-22 14:03:05 [model.py:547] Resolved architecture: Qwen2ForCausalLM",
        CORE + "EngineCore failed to start.",
        CORE + "Traceback (most recent call last):",
        CORE + '  File "/venv/lib/vllm/v1/engine/core.py", line 937, in run_engine_core',
        CORE + "    engine_core = EngineCoreProc(*args, engine_index=dp_rank, **kwargs)",
        CORE + "                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
        CORE + cause,
    ]
    return "\n".join(lines) + "\n" + WRAPPED


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "engine.log"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# --- where prints go


def test_prints_of_this_process_and_its_children_go_to_the_file(tmp_path):
    path = tmp_path / "new" / "folder" / "engine.log"
    script = (
        "import subprocess, sys\n"
        "from pathlib import Path\n"
        "from progdata.builders.engine_log import printed_to\n"
        "print('before')\n"
        "with printed_to(Path(sys.argv[1])):\n"
        "    print('mine')\n"
        "    subprocess.run([sys.executable, '-c', sys.argv[2]], check=True)\n"
        "print('after')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), BOTH], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "before\nafter\n", "")
    assert sorted(path.read_text().split()) == ["err", "mine", "out", "raw"]


def test_a_child_that_outlives_the_block_goes_on_printing_there(tmp_path, capfd):
    path = tmp_path / "engine.log"
    with printed_to(path):
        child = subprocess.Popen(
            [sys.executable, "-c", f"input(); {BOTH}"], stdin=subprocess.PIPE, text=True
        )
    child.communicate("go\n")
    assert sorted(path.read_text().split()) == ["err", "out", "raw"]
    assert capfd.readouterr() == ("", "")


def test_each_block_adds_to_the_file(tmp_path):
    path = write(tmp_path, "first\n")
    for word in (b"second\n", b"third\n"):
        with printed_to(path):
            os.write(1, word)
    assert path.read_text() == "first\nsecond\nthird\n"


def test_an_error_in_the_block_ends_the_redirection(tmp_path, capfd):
    files = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0  # noqa: PTH208
    with pytest.raises(ZeroDivisionError), printed_to(tmp_path / "engine.log"):
        raise ZeroDivisionError
    os.write(1, b"shown\n")
    assert capfd.readouterr().out == "shown\n"
    if files:
        assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208


def test_without_a_file_prints_are_shown(capfd):
    with printed_to(None):
        os.write(1, b"shown\n")
    assert capfd.readouterr().out == "shown\n"


# --- what went wrong


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_is_found_and_not_what_wraps_it(tmp_path, name):
    assert find_cause(write(tmp_path, vllm_log(CAUSES[name]))) == CAUSES[name]


@pytest.mark.parametrize(
    "wrapper",
    [
        "RuntimeError: Engine core initialization failed. See root cause above.",
        "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack "
        "trace (above) for the root cause.",
        "Exception: WorkerProc initialization failed due to an exception in a background "
        "process. See stack trace for root cause.",
    ],
)
def test_an_error_about_another_one_is_no_cause(tmp_path, wrapper):
    path = write(tmp_path, f"{wrapper}\nValueError: the cause\n{wrapper}\n")
    assert find_cause(path) == "ValueError: the cause"
    assert find_cause(write(tmp_path, f"{wrapper}\n")) is None


def test_only_what_was_written_after_the_beginning_counts(tmp_path):
    old, new = "ValueError: of an earlier run\n", "ValueError: of this run\n"
    path = write(tmp_path, old + new)
    assert find_cause(path) == "ValueError: of an earlier run"
    assert find_cause(path, len(old)) == "ValueError: of this run"
    assert find_cause(path, len(old + new)) is None
    assert find_cause(path, 10 * len(old + new)) is None


def test_a_long_log_is_read_from_near_its_end(tmp_path):
    lines = "INFO 08-22 14:03:05 é nothing to see\n" * 20_000
    path = write(tmp_path, "ValueError: long ago\n" + lines + "ValueError: of the end\n")
    assert find_cause(path) == "ValueError: of the end"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("INFO all is well\nError:\nErrors: 0\n", None),
        ("raise ValueError('no')\n", None),
        (b"\xff\xfe ValueError: \xff\x00 odd bytes\n", "ValueError: \ufffd\x00 odd bytes"),
        ("ValueError: many \t blanks  \r\n", "ValueError: many blanks"),
        ("KeyError: 'x'", "KeyError: 'x'"),
    ],
)
def test_odd_logs(tmp_path, text, expected):
    assert find_cause(write(tmp_path, text)) == expected


def test_a_cause_is_one_line_of_at_most_300_characters(tmp_path):
    found = find_cause(write(tmp_path, "ValueError: " + "x" * 10_000))
    assert found is not None and found.startswith("ValueError: xxx") and len(found) == 300


def test_a_log_that_is_not_there_has_no_cause(tmp_path):
    assert find_cause(None) is find_cause(tmp_path / "absent") is find_cause(tmp_path) is None
