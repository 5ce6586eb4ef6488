"""vLLM in this process: requests go in one by one and come out as they end.

`AsyncLLM`, the engine behind `vllm serve`, is as fast as `LLM.generate` and hands out each sample
when it is there, so that each can be kept at once; it serves replicas (data parallel) as well. Its
prefix cache serves the samples of a prompt, and the prefixes of a trace, which come one after
another.
"""

import asyncio
import os
import re
import time
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progdata.builders.child_watch import ChildWatch
from progdata.builders.concurrent_requests import run_concurrently
from progdata.builders.engine_log import find_cause, printed_to
from progdata.builders.errors import ProgdataError, missing_extra, one_line
from progdata.builders.sampling import BROKEN_OFF, Failure, Outcome, Outcomes, Request, Sample

ERRORS_IN_A_ROW = 16
"""Requests that may end in an error of the engine, one after the other, before the run does."""


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
    concurrency: int = 1_024


class VllmEngine:
    """A model in vLLM; a context manager. What vLLM's processes print goes to `log`.

    Raises ProgdataError, with the cause in one line, where vLLM is not installed, the model cannot
    be loaded, or memory is short.
    """

    family = "vllm"

    def __init__(self, folder: Path, options: VllmOptions, log: Path | None = None) -> None:
        self._options, self._log = options, log
        self._log_begun = log.stat().st_size if log is not None and log.is_file() else 0
        self._number = self._errors = 0
        vllm = _import_vllm()
        self.version: str = f"vllm {vllm.__version__}"
        self._watch = ChildWatch()
        self._loop = asyncio.new_event_loop()
        try:
            with printed_to(log):
                arguments = engine_arguments(folder, options)
                self._engine: Any = vllm.AsyncLLMEngine.from_engine_args(
                    arguments, usage_context=_as_of_llm()
                )
        except BaseException as error:
            self._watch.close()
            self._loop.close()
            if isinstance(error, Exception):
                raise self._failed("could not start", error) from error
            raise
        self._watch.ready()
        self.context: int | None = self._engine.model_config.max_model_len

    def __enter__(self) -> "VllmEngine":
        return self

    def __exit__(self, *_: object) -> None:
        with printed_to(self._log):
            self._engine.shutdown()
            del self._engine  # while what its end needs is still there
            with suppress(RuntimeError):
                self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
        self._watch.close()

    def run(self, requests: Iterable[Request]) -> Generator[Outcomes]:
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
        except Exception as error:
            return self._error_of_one(error)
        written = ended.outputs[0] if ended is not None else None
        if written is None or written.finish_reason in BROKEN_OFF:
            return Failure("broken_answer", "vLLM broke the sample off")
        self._errors = 0
        return Sample(
            text=written.text,
            finish_reason=written.finish_reason,
            prompt_tokens=len(ids),
            completion_tokens=len(written.token_ids),
            seconds=round(time.perf_counter() - begun, 4),
            engine_version=self.version,
        )

    def _error_of_one(self, error: Exception) -> Failure:
        """An error that ends one request. Raises it where it ends the engine, or where so many
        came in a row that the next ones would be no better."""
        from vllm.v1.engine.exceptions import EngineGenerateError

        if isinstance(error, _refusals()):
            return Failure("refused_by_engine", one_line(error))
        self._errors += 1
        if not isinstance(error, EngineGenerateError) or self._errors >= ERRORS_IN_A_ROW:
            raise error
        return Failure("engine_error", one_line(error.__cause__ or error))

    def _failed(self, what: str, error: Exception) -> ProgdataError:
        """The error for the user: the cause from the log, which names what the processes met."""
        cause = find_cause(self._log, self._log_begun) or one_line(error)
        cause = re.sub(r"^\d+ validation errors? for \w+ Value error, ", "", cause)
        hint = ""
        if "memory" in cause.lower():
            hint = "; give it less: a shorter --max-model-len, or another --gpu-memory-utilization"
        elif "max_model_len" in cause or "max seq len" in cause.lower():
            hint = "; name a shorter --max-model-len"
        where = f" (all of it is in {self._log})" if self._log else ""
        return ProgdataError(f"vLLM {what}: {cause}{hint}{where}")


def engine_arguments(folder: Path, options: VllmOptions) -> Any:
    """The options as vLLM's own."""
    from vllm import AsyncEngineArgs

    optional = {
        "max_model_len": options.max_model_len,
        "gpu_memory_utilization": options.gpu_memory_utilization,
    }
    return AsyncEngineArgs(
        model=str(folder),
        tensor_parallel_size=options.tensor_parallel_size,
        data_parallel_size=options.data_parallel_size,
        dtype=options.dtype,  # type: ignore[arg-type], vLLM refuses what it does not know
        enforce_eager=options.enforce_eager,
        enable_prefix_caching=True,
        disable_log_stats=True,
        **{name: value for name, value in optional.items() if value is not None},
        **whole_prompts(),
    )


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


def whole_prompts() -> dict[str, Any]:
    """The argument that keeps prompts from being read in chunks, where vLLM runs on a CPU.

    There a chunk of a request with a seed of its own ends the engine (vLLM 0.32.0: it sets back a
    random generator, which those of CPUs cannot be).
    """
    from vllm.platforms import current_platform

    return {"enable_chunked_prefill": False} if current_platform.is_cpu() else {}


def _as_of_llm() -> Any:
    """The context in which vLLM takes the batch sizes of `LLM`, larger than those of a server."""
    from vllm.usage.usage_lib import UsageContext

    return UsageContext.LLM_CLASS


def _refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request that is at fault itself: older versions a plain ValueError."""
    import vllm.exceptions

    own = getattr(vllm.exceptions, "VLLMClientError", ValueError)
    return (own, ValueError)


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
