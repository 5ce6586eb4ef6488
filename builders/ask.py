"""Ask an engine for what a store does not hold yet, and keep each answer at once."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import chain

from progdata.builders.sample_store import SampleStore
from progdata.builders.sampling import Failure, Outcomes, Request, Sample, SamplingEngine


class LazyEngine:
    """An engine that is opened when it is first needed; a context manager."""

    def __init__(self, open_engine: Callable[[], SamplingEngine]) -> None:
        self._open = open_engine
        self._engine: SamplingEngine | None = None

    def __enter__(self) -> "LazyEngine":
        return self

    def __exit__(self, *error: object) -> None:
        if self._engine is not None:
            self._engine.__exit__(*error)

    def opened(self) -> SamplingEngine:
        if self._engine is None:
            self._engine = self._open().__enter__()
        return self._engine


def ask(
    lazy: LazyEngine,
    requests: Iterable[Request],
    store: SampleStore,
    watch: Callable[[Outcomes], None] = lambda _: None,
    hold: Callable[[Request], None] = lambda _: None,
) -> dict[str, Failure]:
    """Sample the requests that are missing in `store`; the failures, by key.

    The engine is opened only if something is missing; when it is ready, `watch` is called with
    nothing. What it gives is kept before `watch` sees it; `hold` is told of what was there. A
    prompt that fills the engine's context is refused without asking. Raises ProgdataError where
    the engine or the store cannot go on; what is kept by then stays.
    """
    failures: dict[str, Failure] = {}
    missing = _missing(requests, store, hold)
    first = next(missing, None)
    if first is None:
        return failures

    def note(outcomes: Outcomes) -> None:
        store.add((own.key, said) for own, said in outcomes if isinstance(said, Sample))
        failures.update((own.key, said) for own, said in outcomes if isinstance(said, Failure))
        watch(outcomes)

    engine = lazy.opened()
    watch([])
    with closing(engine.run(_fitting(chain([first], missing), engine, note))) as answers:
        for outcomes in answers:
            note(outcomes)
    return failures


def _missing(
    requests: Iterable[Request], store: SampleStore, hold: Callable[[Request], None]
) -> Iterator[Request]:
    """The requests without a sample, each key once; `hold` is told of the others."""
    seen: set[str] = set()
    for request in requests:
        if request.key in seen or store.get(request.key) is not None:
            hold(request)
        else:
            yield request
        seen.add(request.key)


def _fitting(
    requests: Iterable[Request], engine: SamplingEngine, note: Callable[[Outcomes], None]
) -> Iterator[Request]:
    """The requests whose prompt leaves room for at least one token in the engine's context, which
    a server tells when it is first asked."""
    for request in requests:
        context = engine.context
        tokens = len(request.prompt.token_ids or ())
        if context is None or tokens < context:
            yield request
            continue
        detail = f"the prompt has {tokens:,} tokens, the model's context is {context:,}"
        note([(request, Failure("prompt_too_long", detail))])
