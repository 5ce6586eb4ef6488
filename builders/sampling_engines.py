"""The sampling engines by name, and the options that each of them takes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from progdata.builders.errors import UsageError
from progdata.builders.sampling import SamplingEngine

EngineName = Literal["vllm", "openai", "transformers"]


@dataclass(frozen=True)
class EngineOptions:
    """How an engine is run; None leaves its default. Nothing here is part of a request's key.

    An option that an engine does not have is refused (`check_options`).
    """

    tensor_parallel_size: int | None = None  # vllm: GPUs a replica
    data_parallel_size: int | None = None  # vllm: replicas
    dtype: str | None = None  # vllm, transformers
    max_model_len: int | None = None  # tokens of prompt and completion
    gpu_memory_utilization: float | None = None  # vllm: share of the GPU's memory
    enforce_eager: bool | None = None  # vllm: without CUDA graphs
    base_url: str | None = None  # openai
    concurrency: int | None = None  # vllm, openai: requests in flight
    retries: int | None = None  # openai
    timeout: float | None = None  # openai: seconds without a byte
    batch_size: int | None = None  # transformers
    device: str | None = None  # transformers

    @property
    def given(self) -> dict[str, Any]:
        """The options that are not None."""
        named = {own.name: getattr(self, own.name) for own in fields(self)}
        return {name: value for name, value in named.items() if value is not None}


NO_OPTIONS = EngineOptions()

_TAKES: Mapping[EngineName, tuple[str, ...]] = {
    "vllm": (
        "tensor_parallel_size",
        "data_parallel_size",
        "dtype",
        "max_model_len",
        "gpu_memory_utilization",
        "enforce_eager",
        "concurrency",
    ),
    "openai": ("base_url", "concurrency", "retries", "timeout", "max_model_len"),
    "transformers": ("batch_size", "dtype", "device", "max_model_len"),
}
ENGINES = tuple(_TAKES)
_MAY_BE_0 = ("enforce_eager", "retries")


def check_options(engine: EngineName, options: EngineOptions) -> None:
    """Raises UsageError for an option that the engine does not have, or a number that is none."""
    for name in options.given:
        if name not in _TAKES[engine]:
            owners = ", ".join(own for own, taken in _TAKES.items() if name in taken)
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} is an option of {owners}, not of the engine {engine}")
    for name, value in options.given.items():
        if isinstance(value, (int, float)) and value <= 0 and name not in _MAY_BE_0:
            raise UsageError(f"--{name.replace('_', '-')} {value}: expected more than 0")


def open_engine(
    engine: EngineName, model: str, folder: Path | None, options: EngineOptions, log: Path | None
) -> SamplingEngine:
    """The engine, with its model loaded or its server found.

    `model` is the name that a server knows it by, `folder` where it lies for the others. Raises
    ProgdataError where it cannot be had.
    """
    given = options.given
    if engine == "openai":
        from progdata.builders.openai_engine import OpenAIEngine

        given["context"] = given.pop("max_model_len", None)
        return OpenAIEngine(model, **given)
    assert folder is not None
    if engine == "vllm":
        from progdata.builders.vllm_engine import VllmEngine, VllmOptions

        return VllmEngine(folder, VllmOptions(**given), log)
    from progdata.builders.transformers_engine import TransformersEngine, TransformersOptions

    return TransformersEngine(folder, TransformersOptions(**given), log)
