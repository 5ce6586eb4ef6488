"""Where a trainer runs: a device that is there, and one line where memory is not enough."""

import subprocess
import sys
import warnings

import pytest
import torch

from progdata.builders.errors import ProgdataError, UsageError
from progdata.training_refs.devices import (
    find_device,
    find_single_device,
    memory_as_error,
    quiet_libraries,
    require_packages,
)

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def test_auto_is_a_device_of_this_machine():
    assert find_device("auto") == ("cuda:0" if torch.cuda.is_available() else "cpu")
    assert find_device("cpu") == "cpu"


@no_gpu
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_a_gpu_that_is_not_there_is_refused(name):
    with pytest.raises(UsageError, match="no GPU that torch can use; set device to cpu or auto"):
        find_device(name)


@pytest.mark.parametrize("name", ["gpu", "mps", "meta", "xla", "cpu:3"])
def test_what_is_no_device_of_ours_is_refused(name):
    with pytest.raises(UsageError, match=f"device '{name}': expected auto, cpu, cuda"):
        find_device(name)


def test_a_single_device_is_the_cpu_or_the_first_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [find_single_device(own) for own in ("cpu", "auto", "cuda")] == ["cpu", *["cuda:0"] * 2]
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES to 1 and device to cuda"):
        find_single_device("cuda:1")


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")  # a launcher of one process
    assert find_single_device("cpu") == "cpu"
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="start it without a launcher"):
        find_single_device("cpu")


def test_a_missing_package_names_the_extra():
    require_packages("train", "torch")
    with pytest.raises(ProgdataError, match=r"no_such is not installed.*progdata\[train\]"):
        require_packages("train", "torch", "no_such")


def test_libraries_are_quiet_within_a_block_only():
    import datasets
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    shown = not datasets.are_progress_bars_disabled()
    with pytest.raises(KeyError), quiet_libraries():
        assert logging.get_verbosity() == 40 and not logging.is_progress_bar_enabled()
        assert datasets.are_progress_bars_disabled()
        warnings.warn("is not shown", stacklevel=1)
        raise KeyError
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert datasets.are_progress_bars_disabled() != shown


def test_memory_that_the_machine_does_not_have_is_one_line():
    with (
        pytest.raises(ProgdataError, match=r"not enough memory .*: lower context"),
        memory_as_error("lower context"),
    ):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_pythons_own_error_is_too():
    with (
        pytest.raises(ProgdataError, match="not enough memory: lower it"),
        memory_as_error("lower it"),
    ):
        bytearray(1 << 62)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shape"), memory_as_error("lower it"):
        torch.matmul(torch.ones(2, 3), torch.ones(2, 3))


def test_a_limit_on_the_process_is_one_line_too():
    """What a cluster's limit does: the allocator fails in the middle of the work."""
    code = (
        "import resource, torch\n"
        "from progdata.training_refs.devices import memory_as_error\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28),) * 2)\n"
        "with memory_as_error('lower it'):\n"
        "    held = [torch.ones(1 << 22) for _ in range(1000)]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ProgdataError: not enough memory" in done.stderr.splitlines()[-1]
