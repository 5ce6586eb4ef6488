"""The device a trainer runs on, and what happens when its memory is not enough."""

from collections.abc import Iterator
from contextlib import contextmanager

from progdata.builders.errors import ProgdataError, UsageError, missing_extra, one_line

_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc")
"""What torch's allocators say on a CPU, where they raise a plain RuntimeError."""


def find_device(name: str) -> str:
    """The device that `name` means: `auto` is the first GPU, or the CPU where there is none.

    Raises UsageError for a device that this machine does not have.
    """
    try:
        import torch
    except ImportError as error:
        raise missing_extra("torch", "train") from error
    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device {name!r}: expected auto, cpu, cuda or cuda:1") from error
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= gpus:
        has = f"{gpus} GPUs that torch can use" if gpus else "no GPU that torch can use"
        raise UsageError(f"device {name!r}: this machine has {has}; set device to cpu or auto")
    return f"cuda:{device.index or 0}" if device.type == "cuda" else name


@contextmanager
def memory_as_error(hint: str) -> Iterator[None]:
    """Within the block, running out of memory raises ProgdataError: one line, with `hint` on what
    to set lower."""
    try:
        yield
    except MemoryError as error:
        raise ProgdataError(f"not enough memory: {hint}") from error
    except RuntimeError as error:  # torch.OutOfMemoryError is one too
        said = one_line(error)
        if not any(phrase in said.lower() for phrase in _NO_MEMORY):
            raise
        raise ProgdataError(f"not enough memory ({said[:120]}): {hint}") from error
