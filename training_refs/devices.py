"""What a trainer runs on: the device, its memory, and the libraries that it needs."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

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
    expected = f"device {name!r}: expected auto, cpu, cuda or cuda:1"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(expected) from error
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index):
        raise UsageError(expected)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= gpus:
        has = f"{gpus} GPUs that torch can use" if gpus else "no GPU that torch can use"
        raise UsageError(f"device {name!r}: this machine has {has}; set device to cpu or auto")
    return f"cuda:{device.index or 0}" if device.type == "cuda" else "cpu"


def find_single_device(name: str) -> str:
    """The device of a trainer that runs in one process, where transformers takes the first GPU
    that it sees: "cpu" or "cuda:0".

    Raises UsageError for another GPU, and under a launcher that starts several processes.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError("this trains in one process, on one device; start it without a launcher")
    device = find_device(name)
    if device not in ("cpu", "cuda:0"):
        raise UsageError(
            f"device {name!r}: transformers trains on the first GPU that it sees; set the "
            f"environment's CUDA_VISIBLE_DEVICES to {device.partition(':')[2]} and device to cuda"
        )
    return device


def require_packages(extra: str, *packages: str) -> None:
    """Raises ProgdataError where a package of an extra of progdata is not installed."""
    for package in packages:
        if find_spec(package) is None:
            raise missing_extra(package, extra)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Within the block transformers, PEFT, TRL and datasets show no bars, notes and warnings."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with _no_bars_of_datasets(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _no_bars_of_datasets() -> Iterator[None]:
    """The same for `datasets`, which only GRPO needs."""
    if find_spec("datasets") is None:
        yield
        return
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


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
