"""transformers in this process, for small models: batches, and a random stream of its own a row.

`generate` draws from one stream for a whole batch, so that a sample would depend on its neighbours.
Here each row adds Gumbel noise from its own generator to its warped scores and takes the largest,
which is a draw from the softmax of those scores (Maddison, Tarlow, Minka 2014).
"""

import time
from bisect import bisect_left
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from progdata.builders.engine_log import printed_to
from progdata.builders.errors import ProgdataError, missing_extra, one_line
from progdata.builders.sampling import Failure, Outcomes, Request, Sample, SamplingSettings


@dataclass(frozen=True)
class TransformersOptions:
    """How the model is run; `device` None: the first GPU, where there is one."""

    batch_size: int = 8
    dtype: str = "auto"
    device: str | None = None
    max_model_len: int | None = None


class TransformersEngine:
    """A causal language model with its tokenizer; a context manager. What its loading prints goes
    to `log`. A sample depends on its batch only where the longest prompt of it leaves less room.

    Raises ProgdataError where the extra is missing, the model cannot be loaded, or memory is short.
    """

    family = "transformers"

    def __init__(self, folder: Path, options: TransformersOptions, log: Path | None = None) -> None:
        try:
            import torch
            import transformers
        except ImportError as error:
            raise missing_extra(error.name or "transformers", "generate") from error
        self._options = options
        self._device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.version: str = f"transformers {transformers.__version__}"
        try:
            with printed_to(log):
                self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(str(folder))
                model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                    str(folder), dtype=options.dtype
                )
                self._model = model.to(self._device).eval()
        except Exception as error:  # transformers and torch raise many kinds
            raise ProgdataError(f"{folder}: cannot be loaded: {one_line(error)}") from error
        self._ends = self._end_tokens()
        # what `generate` would take from the model's own: penalties, bans, limits of time
        self._model.generation_config = transformers.GenerationConfig()
        config = self._model.config
        self.context: int | None = options.max_model_len or getattr(
            config, "max_position_embeddings", None
        )

    def __enter__(self) -> "TransformersEngine":
        return self

    def __exit__(self, *_: object) -> None:
        del self._model

    def run(self, requests: Iterable[Request]) -> Generator[Outcomes]:
        """The outcome of each request, a batch at a time (see `SamplingEngine`)."""
        waiting = iter(requests)
        while block := list(islice(waiting, self._options.batch_size)):
            for settings, own in groupby(block, key=lambda request: request.settings):
                batch = list(own)
                yield list(zip(batch, self._sample(batch, settings), strict=True))

    def _sample(self, batch: Sequence[Request], settings: SamplingSettings) -> list[Any]:
        import torch

        begun = time.perf_counter()
        try:
            ids, mask, length = self._padded(batch)
            with torch.inference_mode():
                written = self._model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    generation_config=self._config(settings, length),
                    logits_processor=self._processors(batch, settings),
                    stopping_criteria=self._stops(settings, length),
                )
        except (RuntimeError, ValueError, IndexError) as error:
            if _out_of_memory(error):
                raise ProgdataError(
                    f"{self._device}: out of memory with {len(batch)} requests at a time; name a "
                    "smaller --batch-size or a shorter --max-tokens"
                ) from error
            if len(batch) > 1:  # one of them is at fault
                return [said for own in batch for said in self._sample([own], settings)]
            return [Failure("refused_by_engine", one_line(error))]
        seconds = round(time.perf_counter() - begun, 4)
        rows = written[:, length:].tolist()
        return [
            self._read(request, row, settings, seconds)
            for request, row in zip(batch, rows, strict=True)
        ]

    def _padded(self, batch: Sequence[Request]) -> tuple[Any, Any, int]:
        """Token ids and attention mask, int64[rows, length], padded on the left."""
        import torch

        prompts = [list(request.prompt.token_ids or ()) for request in batch]
        length = max(map(len, prompts))
        ids = [[self._ends[0]] * (length - len(own)) + own for own in prompts]
        mask = [[0] * (length - len(own)) + [1] * len(own) for own in prompts]
        return torch.tensor(ids).to(self._device), torch.tensor(mask).to(self._device), length

    def _end_tokens(self) -> list[int]:
        """The tokens that end a completion, by the model's generation config."""
        found = self._model.generation_config.eos_token_id
        found = self._tokenizer.eos_token_id if found is None else found
        return list(found) if isinstance(found, (list, tuple)) else [found]

    def _config(self, settings: SamplingSettings, length: int) -> Any:
        """No sampling of its own, and no penalty or cut that was not asked for."""
        from transformers import GenerationConfig

        room = settings.max_tokens
        if self.context is not None:
            room = min(room, self.context - length)
        return GenerationConfig(
            do_sample=False,
            max_new_tokens=max(room, 1),
            eos_token_id=self._ends,
            pad_token_id=self._ends[0],
        )

    def _processors(self, batch: Sequence[Request], settings: SamplingSettings) -> Any:
        from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

        processors = LogitsProcessorList()
        if settings.temperature > 0:
            processors.append(TemperatureLogitsWarper(settings.temperature))
            if settings.top_p < 1:
                processors.append(TopPLogitsWarper(settings.top_p))
            processors.append(_Draw([request.seed for request in batch]))
        return processors

    def _stops(self, settings: SamplingSettings, length: int) -> Any:
        from transformers import StoppingCriteriaList, StopStringCriteria

        if not settings.stop:
            return StoppingCriteriaList()
        found = StopStringCriteria(self._tokenizer, list(settings.stop))

        def in_what_is_written(ids: Any, scores: Any, **more: Any) -> Any:
            return found(ids[:, length:], scores, **more)

        return StoppingCriteriaList([in_what_is_written])

    def _read(
        self, request: Request, row: list[int], settings: SamplingSettings, seconds: float
    ) -> Sample:
        """A row of token ids as a sample, without what ended it and what pads it."""
        ends = [i for i, token in enumerate(row) if token in self._ends]
        written = row[: ends[0]] if ends else row
        text = self._decode(written)
        stops = [place for stop in settings.stop if (place := text.find(stop)) >= 0]
        if stops:
            completion_tokens = self._tokens_to(settings.stop, written)
        else:
            completion_tokens = len(written) + bool(ends)
        return Sample(
            text=text[: min(stops)] if stops else text,
            finish_reason="stop" if ends or stops else "length",
            prompt_tokens=len(request.prompt.token_ids or ()),
            completion_tokens=completion_tokens,
            seconds=seconds,
            engine_version=self.version,
        )

    def _tokens_to(self, stops: Sequence[str], written: list[int]) -> int:
        """How many tokens it takes until one of the stop texts is there."""

        def stopped(count: int) -> bool:
            text = self._decode(written[:count])
            return any(own in text for own in stops)

        return 1 + bisect_left(range(1, len(written)), True, key=stopped)

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=False)


def _out_of_memory(error: Exception) -> bool:
    """Whether memory was short: on CPUs torch raises a plain RuntimeError."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


class _Draw:
    """Adds Gumbel noise to the scores of each row, from the row's own generator."""

    def __init__(self, seeds: Sequence[int]) -> None:
        import torch

        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, _: Any, scores: Any) -> Any:
        import torch

        noise = torch.stack(
            [
                torch.empty(scores.shape[-1], dtype=torch.float64).exponential_(generator=own)
                for own in self._generators
            ]
        )
        return scores.to(torch.float64) - noise.log().to(scores.device)
