"""Where a trainer runs: a device that is there, and one line where memory is not enough."""

import subprocess
import sys

import pytest
import torch

from progdata.builders.errors import ProgdataError, UsageError
from progdata.training_refs.devices import find_device, memory_as_error

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def test_auto_is_a_device_of_this_machine():
    assert find_device("auto") == ("cuda:0" if torch.cuda.is_available() else "cpu")
    assert find_device("cpu") == "cpu"


@no_gpu
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_a_gpu_that_is_not_there_is_refused(name):
    with pytest.raises(UsageError, match="no GPU that torch can use; set device to cpu or auto"):
        find_device(name)


def test_what_is_no_device_is_refused():
    with pytest.raises(UsageError, match="device 'gpu': expected auto, cpu, cuda"):
        find_device("gpu")


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
