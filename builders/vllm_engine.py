"""vLLM in this process: requests go in one by one and come out as they end.

`AsyncLLM`, the engine behind `vllm serve`, is as fast as `LLM.generate` and hands out each sample
when it is there, so that each can be kept at once; it serves replicas (data parallel) as well. Its
prefix cache serves the samples of a prompt, and the prefixes of a trace, which come one after
another.
"""

import asyncio
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progdata.builders.concurrent_requests import run_concurrently
from progdata.builders.engine_log import find_cause, printed_to
from progdata.builders.errors import ProgdataError, missing_extra, one_line
from progdata.builders.sampling import Failure, Outcome, Outcomes, Request, Sample


@dataclass(frozen=True)
class VllmOptions:
    """What is passed through to vLLM; None leaves its default.

    `concurrency`: requests that are in the engine at a time, running or queued.
    """

    tensor_parallel_size: int = 1
    data_parallel_size: int = 1
    dtype: str = "auto"
    max_model_len: int | None = None
    gpu_memory_utilization: float | None = None
    enforce_eager: bool = False
    concurrency: int = 512


class VllmEngine:
    """A model in vLLM; a context manager. What vLLM's processes print goes to `log`.

    Raises ProgdataError, with the cause in one line, where vLLM is not installed, the model cannot
    be loaded, or memory is short.
    """

    family = "vllm"

    def __init__(self, folder: Path, options: VllmOptions, log: Path | None = None) -> None:
        self._folder, self._options, self._log = folder, options, log
        self._log_begun = log.stat().st_size if log is not None and log.is_file() else 0
        self._loop = asyncio.new_event_loop()
        self._number = 0
        vllm = _import_vllm()
        self.version: str = f"vllm {vllm.__version__}"
        try:
            with printed_to(log):
                self._engine: Any = self._start(vllm)
        except BaseException as error:
            self._loop.close()
            if isinstance(error, Exception):
                raise self._failed("could not start", error) from error
            raise
        self.context: int | None = self._engine.model_config.max_model_len

    def _start(self, vllm: Any) -> Any:
        own = self._options
        given = {
            "max_model_len": own.max_model_len,
            "gpu_memory_utilization": own.gpu_memory_utilization,
        }
        arguments = vllm.AsyncEngineArgs(
            model=str(self._folder),
            tensor_parallel_size=own.tensor_parallel_size,
            data_parallel_size=own.data_parallel_size,
            dtype=own.dtype,
            enforce_eager=own.enforce_eager,
            enable_prefix_caching=True,
            disable_log_stats=True,
            **{name: value for name, value in given.items() if value is not None},
        )
        return vllm.AsyncLLMEngine.from_engine_args(arguments)

    def __enter__(self) -> "VllmEngine":
        return self

    def __exit__(self, *_: object) -> None:
        with printed_to(self._log):
            self._engine.shutdown()
            del self._engine  # while what its end needs is still there
            with suppress(RuntimeError):
                self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def run(self, requests: Iterable[Request]) -> Iterator[Outcomes]:
        """The outcome of each request, as they come (see `SamplingEngine`)."""
        try:
            yield from run_concurrently(
                self._loop, self._sample, requests, self._options.concurrency
            )
        except ProgdataError:
            raise
        except Exception as error:
            raise self._failed("stopped", error) from error

    async def _sample(self, request: Request) -> Outcome:
        """One request, which fails alone where vLLM refuses it alone."""
        ids = request.prompt.token_ids
        if ids is None:
            raise ProgdataError("vLLM is given token ids: a prompt was made without a tokenizer")
        self._number += 1
        begun = time.perf_counter()
        ended: Any = None
        try:
            async for output in self._engine.generate(
                {"prompt_token_ids": list(ids)}, _parameters(request), f"progdata-{self._number}"
            ):
                ended = output
        except ValueError as error:
            return Failure("refused_by_engine", one_line(error))
        written = ended.outputs[0]
        return Sample(
            text=written.text,
            finish_reason=written.finish_reason,
            prompt_tokens=len(ids),
            completion_tokens=len(written.token_ids),
            seconds=round(time.perf_counter() - begun, 4),
            engine_version=self.version,
        )

    def _failed(self, what: str, error: Exception) -> ProgdataError:
        """The error for the user: the cause from the log, which names what the processes met."""
        cause = find_cause(self._log, self._log_begun) or one_line(error)
        hint = ""
        if "memory" in cause.lower():
            hint = "; give it less: a shorter --max-model-len, or another --gpu-memory-utilization"
        elif "max_model_len" in cause or "max seq len" in cause.lower():
            hint = "; name a shorter --max-model-len"
        where = f" (all of it is in {self._log})" if self._log else ""
        return ProgdataError(f"vLLM {what}: {cause}{hint}{where}")


def _parameters(request: Request) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    own = request.settings
    return SamplingParams(
        temperature=own.temperature,
        top_p=own.top_p,
        max_tokens=own.max_tokens,
        seed=request.seed,
        stop=list(own.stop),
        skip_special_tokens=False,  # </think> is a special token in some tokenizers
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _import_vllm() -> Any:
    """vLLM, quiet. Raises ProgdataError where it is not installed or cannot be imported."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        import vllm
    except ImportError as error:
        if error.name and error.name.partition(".")[0] == "vllm":
            raise missing_extra("vllm", "generate") from error
        raise ProgdataError(f"vLLM cannot be imported: {one_line(error)}") from error
    return vllm
