"""Generate traces: problems -> prompts -> samples -> traces; what `progdata generate` does.

OUT/samples.sqlite       every sample that was paid for, by its request's key; never cleaned up
OUT/traces.parquet       one row a sample, in the order of the problems; itself a source
OUT/rejects.parquet      problems and samples that gave no trace, with the reason
OUT/generation.json      the report
OUT/engine.log           what the engine's own processes printed
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from progdata.builders.ask import LazyEngine, ask
from progdata.builders.atomic import atomic_file, write_text
from progdata.builders.base_table import tally_rejects
from progdata.builders.chat_template import PromptRefused
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.model_files import DEFAULT_MODEL
from progdata.builders.prompts import PLACE, PromptProfile
from progdata.builders.sample_store import SampleStore
from progdata.builders.sampling import (
    PAPER,
    Asker,
    Prompt,
    Request,
    SamplingSettings,
    as_record,
)
from progdata.builders.sampling_engines import (
    NO_OPTIONS,
    EngineName,
    EngineOptions,
    check_options,
    open_engine,
)
from progdata.builders.schema import REJECTS
from progdata.builders.sources import find_source
from progdata.builders.subject import Subject, find_subject
from progdata.cards.statistics import accuracy_of
from progdata.releases.asked_problems import NEEDS, AskedProblem, Refusals, read_asked
from progdata.releases.display import Display, Silent
from progdata.releases.generated_traces import GeneratedTrace, Totals, write_traces
from progdata.releases.generation_progress import GenerationTally, Watcher
from progdata.releases.outputs import refuse_out
from progdata.releases.workspace import LOCK_FILE

TRACES = "traces.parquet"
FILES = (TRACES, "rejects.parquet", "generation.json")
LOG = "engine.log"
DECLARED = (
    "problem_sources", "model", "revision", "template_sha256", "rendered_sha256",
    "think_prefilled", "bos_token",
    "engine", "engine_versions", "n", "seed", "sampling", "prompt_profile_sha256",
)  # fmt: skip
"""What a lock file says of traces that a recipe generated: fields of the report."""


@dataclass(frozen=True)
class GenerateSettings:
    """All that determines which samples are asked for; `verify` and `options` change none.

    `tokenizer` and `revision` are of the engine `openai` (see `find_subject`).
    """

    problems: tuple[str, ...]
    profile: PromptProfile
    model: str = DEFAULT_MODEL
    engine: EngineName = "vllm"
    n: int = 4
    sampling: SamplingSettings = PAPER
    seed: int = 0
    limit: int | None = None
    tokenizer: str | None = None
    revision: str | None = None
    verify: bool = True
    options: EngineOptions = NO_OPTIONS


@dataclass(frozen=True)
class _Asked:
    """A problem and its prompt."""

    problem: AskedProblem
    prompt: Prompt


def generate(
    settings: GenerateSettings, out: Path | str, *, display: Display | None = None
) -> dict[str, Any]:
    """Sample every problem `n` times and write the traces to `out`; the content of its report.

    Samples that earlier runs made are not asked for again. Raises UsageError for options that make
    no sense, ProgdataError where the engine cannot go on or gave nothing at all; what was sampled
    stays, and the same command goes on from there.
    """
    folder = Path(out)
    check_options(settings.engine, settings.options)
    if settings.n < 1:
        raise UsageError(f"--n {settings.n}: at least 1 sample of each problem")
    sources = [find_source(spec, needs=NEEDS) for spec in settings.problems]
    for source in sources:
        refuse_out(folder, FILES, source)
    refusals = Refusals()
    problems = read_asked(sources, refusals, settings.limit)
    subject = find_subject(settings.model, settings.engine, settings.tokenizer, settings.revision)
    asked = list(_with_prompts(problems, subject, settings.profile, refusals))
    asker = Asker(
        subject.name,
        subject.revision,
        settings.engine,
        settings.sampling,
        settings.seed,
        settings.options.max_model_len,
    )
    begun = time.monotonic()
    with writing_in(folder), SampleStore(folder) as store:
        tally = _sample(settings, subject, asker, asked, store, refusals, folder / LOG, display)
        shared = _shared_columns(settings, subject)
        traces = _traces(asked, asker, settings.n, store)
        totals, verdicts = write_traces(folder / TRACES, traces, shared, verify=settings.verify)
        write_refusals(folder / "rejects.parquet", refusals)
        report = {
            "out": str(folder),
            "problems": len(asked),
            "samples": totals.samples,
            "problem_sources": [source.record for source in sources],
            **describe(settings, subject),
            **summarise(tally, totals, verdicts, refusals, time.monotonic() - begun),
            "damaged": len(store.damaged),
        }
        text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        write_text(folder / "generation.json", text)
    if not totals.samples:
        raise ProgdataError(f"{folder}: no sample was made: {refusals.main()}")
    return report


def _with_prompts(
    problems: Sequence[AskedProblem],
    subject: Subject,
    profile: PromptProfile,
    refusals: Refusals,
) -> Iterator[_Asked]:
    """The problems with their prompts; those that no model should be given are refused."""
    for problem in problems:
        try:
            yield _Asked(problem, subject.prompt(profile.messages(problem.problem)))
        except PromptRefused as refused:
            refusals.add(problem, "prompt", refused.reason, refused.detail)


def _sample(
    settings: GenerateSettings,
    subject: Subject,
    asker: Asker,
    asked: Sequence[_Asked],
    store: SampleStore,
    refusals: Refusals,
    log: Path,
    display: Display | None,
) -> GenerationTally:
    """Ask for what the store lacks; how it went."""
    tally = GenerationTally(len(asked), len(asked) * settings.n)
    watcher = Watcher(tally, display or Silent(), settings.verify)

    def requests() -> Iterator[Request]:
        for number, own in enumerate(asked):
            for request in asker.requests(own.prompt, range(settings.n)):
                watcher.ask(request.key, number, own.problem.answer)
                yield request

    watcher.expect(settings.n)
    engine = LazyEngine(
        lambda: open_engine(settings.engine, subject.name, subject.folder, settings.options, log)
    )
    with engine, watcher:
        failures = ask(engine, requests(), store, watcher.see, watcher.hold)
    for own in asked:
        for index in range(settings.n):
            failure = failures.get(asker.key(own.prompt, index))
            if failure is not None:
                detail = f"sample {index}: {failure.detail}"
                refusals.add(own.problem, "generate", failure.reason, detail)
    return tally


def _traces(
    asked: Sequence[_Asked], asker: Asker, n: int, store: SampleStore
) -> Iterator[GeneratedTrace]:
    """The samples that are there, in the order of the problems."""
    for own in asked:
        for request in asker.requests(own.prompt, range(n)):
            sample = store.get(request.key)
            if sample is not None:
                yield GeneratedTrace(own.problem, sample, request.index, request.seed)


def _shared_columns(settings: GenerateSettings, subject: Subject) -> dict[str, Any]:
    """The columns that all traces of a run have in common."""
    own = asdict(settings.sampling)
    record = subject.record
    return {
        "prompt_profile": settings.profile.name,
        "think_prefilled": record["think_prefilled"],
        "model": subject.name,
        "model_revision": subject.revision,
        "sampling": {name: own[name] for name in ("temperature", "top_p", "max_tokens")},
        "engine": settings.engine,
        "template_sha256": record["template_sha256"],
    }


def describe(settings: GenerateSettings, subject: Subject) -> dict[str, Any]:
    """What determined the samples: the model, the prompts, the sampling."""
    return subject.record | {
        "rendered_sha256": subject.rendered_sha256(settings.profile.messages(PLACE)),
        "engine": settings.engine,
        "n": settings.n,
        "seed": settings.seed,
        "sampling": as_record(settings.sampling),
        "prompt_profile": settings.profile.name,
        "prompt_profile_sha256": settings.profile.sha256,
    }


def summarise(
    tally: GenerationTally,
    totals: Totals,
    verdicts: Mapping[str, int],
    refusals: Refusals,
    seconds: float,
) -> dict[str, Any]:
    """What a run came to: the samples in all, and what those of this run cost."""
    rejects = pa.Table.from_pylist(refusals.rows, REJECTS)
    return {
        "new": tally.sampled,
        "reused": totals.samples - tally.sampled,
        "failed": tally.failed,
        "engine_versions": sorted(totals.engine_versions),
        "rejected": tally_rejects(rejects),
        "tokens": {"prompt": totals.prompt_tokens, "completion": totals.completion_tokens},
        "truncated": totals.truncated,
        "think_closed": totals.think_closed,
        **(accuracy_of(verdicts) if verdicts else {}),
        "cost": {
            "prompt_tokens": tally.prompt_tokens,
            "completion_tokens": tally.completion_tokens,
            "seconds": round(seconds, 3),
            "tokens_per_second": round(tally.rate, 1),
        },
    }


def write_refusals(path: Path, refusals: Refusals) -> None:
    """Write the rejects of a generation: a stage after the other, each in the order of its rows."""
    with atomic_file(path) as temporary:
        table = pa.Table.from_pylist(refusals.rows, REJECTS)
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


@contextmanager
def writing_in(folder: Path) -> Iterator[None]:
    """Hold the folder against a second writer. Raises ProgdataError where there is one, UsageError
    where the folder is that of a build."""
    if (folder / LOCK_FILE).exists():
        raise UsageError(f"{folder}: holds a build; choose another --out for the samples")
    lock = FileLock(folder / ".generating.lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ProgdataError(
            f"{folder}: another process is generating here; wait for it or choose another --out"
        ) from error
    except OSError as error:
        raise ProgdataError(
            f"{folder}: cannot be written: {error.strerror or error}; choose another --out"
        ) from error
    try:
        yield
    finally:
        lock.release()
