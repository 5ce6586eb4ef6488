"""Roll traces out from prefixes of their thinking: what `progdata rollouts` does.

OUT/samples.sqlite      every sample that was paid for, by its request's key
OUT/rollouts.parquet    one row a rollout, in the order of the traces and their prefixes
OUT/rejects.parquet     traces and samples that gave no rollout, with the reason
OUT/rollouts.json       the report
OUT/engine.log          what the engine's own processes printed
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from progdata.builders.ask import LazyEngine, ask
from progdata.builders.atomic import write_text
from progdata.builders.base_table import BaseSettings, SegmenterSettings, build_base
from progdata.builders.chat_template import PromptRefused
from progdata.builders.continuations import (
    PUSHES,
    WAITS,
    How,
    begin_answer,
    choose_prefixes,
    pushed,
)
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.model_files import DEFAULT_MODEL
from progdata.builders.prompts import PromptProfile
from progdata.builders.sample_store import SampleStore
from progdata.builders.sampling import PAPER, Asker, Prompt, Request, SamplingSettings, as_record
from progdata.builders.sampling_engines import (
    NO_OPTIONS,
    EngineName,
    EngineOptions,
    check_options,
    open_engine,
)
from progdata.builders.sources import Source, read_shards
from progdata.builders.subject import Subject, find_subject
from progdata.builders.thinking import CLOSE
from progdata.builders.tokenizer import find_tokenizer
from progdata.releases.asked_problems import AskedProblem, Refusals
from progdata.releases.display import Display, Silent
from progdata.releases.generated import LOG, write_refusals, writing_in
from progdata.releases.generation_progress import GenerationTally, Watcher
from progdata.releases.outputs import refuse_out
from progdata.releases.rollout_rows import Origin, Rollout, write_rollouts
from progdata.releases.verified import find_traces

ROLLOUTS = "rollouts.parquet"
FILES = (ROLLOUTS, "rejects.parquet", "rollouts.json")

STOPPED = SamplingSettings(temperature=0.7, top_p=0.95, max_tokens=4_096)
"""How MRT samples answers after it ended the thinking (facts.md 8.7)."""


def usual_sampling(how: str) -> SamplingSettings:
    """How rollouts are sampled where nothing is said: as MRT does, or as the paper."""
    return STOPPED if how in ("stop", "close") else PAPER


@dataclass(frozen=True)
class RolloutSettings:
    """All that determines which rollouts are asked for; `verify` and `options` change none.

    `how`: `continue` the thinking; `stop` it with MRT's text, or `close` it with the bare tag, and
    answer; or make it `wait`, `rounds` times, each time when it would have ended (s1).
    `prefixes`: at most so many of each trace, spread evenly; None: every segment end.
    `push`: another text than that of `how`. `tokenizer`, `revision`: see `find_subject`.
    """

    traces: str
    profile: PromptProfile
    how: How = "stop"
    prefixes: int | None = 20
    n: int = 20
    rounds: int = 1
    push: str | None = None
    model: str = DEFAULT_MODEL
    engine: EngineName = "vllm"
    sampling: SamplingSettings = STOPPED
    seed: int = 0
    limit: int | None = None
    segmenter: SegmenterSettings = SegmenterSettings()  # noqa: RUF009, frozen
    tokenizer: str | None = None
    revision: str | None = None
    verify: bool = True
    options: EngineOptions = NO_OPTIONS


def roll_out(
    settings: RolloutSettings, out: Path | str, *, display: Display | None = None
) -> dict[str, Any]:
    """Roll every trace out from its prefixes and write the rollouts; the content of the report.

    Rollouts that earlier runs made are not asked for again. Raises UsageError for options that
    make no sense, ProgdataError where the engine cannot go on or gave nothing at all.
    """
    folder = Path(out)
    _check(settings)
    source = find_traces(settings.traces)
    refuse_out(folder, FILES, source)
    if (folder / "generation.json").exists():
        raise UsageError(f"{folder}: holds generated traces; choose another --out for rollouts")
    subject = find_subject(settings.model, settings.engine, settings.tokenizer, settings.revision)
    refusals = Refusals()
    origins = list(_origins(source, settings, subject, refusals))
    rollouts = [
        Rollout(origin, prefix, index)
        for origin in origins
        for prefix in choose_prefixes(origin.ends, origin.token_ends, settings.prefixes)
        for index in range(settings.n)
    ]
    begun = time.monotonic()
    prefixes = len(rollouts) // settings.n
    tally = GenerationTally(prefixes, len(rollouts) * settings.rounds, unit="prefixes")
    with writing_in(folder), SampleStore(folder) as store:
        watcher = Watcher(tally, display or Silent(), verify=False)
        engine = LazyEngine(
            lambda: open_engine(
                settings.engine, subject.name, subject.folder, settings.options, folder / LOG
            )
        )
        with engine, watcher:
            for number in range(settings.rounds):
                _ask_round(number, settings, subject, rollouts, engine, store, watcher, refusals)
        found = write_rollouts(
            folder / ROLLOUTS, rollouts, store, _shared_columns(settings, subject), settings.verify
        )
        write_refusals(folder / "rejects.parquet", refusals)
        report = {
            "out": str(folder),
            "source": source.record,
            "traces": len(origins),
            "prefixes": prefixes,
            **subject.record,
            **_describe(settings),
            **found,
            "new": tally.sampled,
            "failed": tally.failed,
            "rejected_rows": len(refusals.rows),
            "damaged": len(store.damaged),
            "cost": {
                "prompt_tokens": tally.prompt_tokens,
                "completion_tokens": tally.completion_tokens,
                "seconds": round(time.monotonic() - begun, 3),
                "tokens_per_second": round(tally.rate, 1),
            },
        }
        write_text(
            folder / "rollouts.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        )
    if not found["rollouts"]:
        raise ProgdataError(f"{folder}: no rollout was made: {refusals.main()}")
    return report


def _check(settings: RolloutSettings) -> None:
    """Raises UsageError for settings that contradict one another."""
    check_options(settings.engine, settings.options)
    if settings.n < 1 or settings.rounds < 1:
        raise UsageError("--n and --rounds: at least 1")
    if settings.how not in PUSHES:
        raise UsageError(f"unknown --how {settings.how!r}; choose from {', '.join(PUSHES)}")
    if settings.rounds > 1 and settings.how != "wait":
        raise UsageError("--rounds is of --how wait: the others end after one")
    if settings.engine == "openai" and settings.tokenizer is None:
        raise UsageError(
            "a server can go on with an answer only where it is given token ids; name the model's "
            "--tokenizer"
        )


def _origins(
    source: Source, settings: RolloutSettings, subject: Subject, refusals: Refusals
) -> Iterator[Origin]:
    """The traces of a source, segmented and counted by the subject's tokenizer where it has one."""
    path = find_tokenizer(str(subject.folder or settings.tokenizer)).path
    base = BaseSettings(
        tokenizer_path=path,
        segmenter=settings.segmenter,
        prompt_profile=settings.profile,
        cut_traces="keep",
    )
    seen: set[str] = set()
    for shard in read_shards([source], limit=settings.limit):
        made = build_base(shard, base)
        refusals.rows += made.rejects.to_pylist()
        rows = made.working["row"].to_pylist()
        for number, row in zip(rows, made.base.to_pylist(), strict=True):
            where = AskedProblem(
                shard.file, number, row["source"], row["problem_id"], row["problem"], row["answer"]
            )
            if row["trace_id"] in seen:
                detail = f"the same as an earlier trace, {row['trace_id']}"
                refusals.add(where, "read", "repeated_trace", detail)
                continue
            seen.add(row["trace_id"])
            messages = settings.profile.messages(where.problem)
            try:
                whole = begin_answer(row["think_opening"], row["think"], subject.prefill)
                subject.prompt(messages, whole)
            except PromptRefused as refused:
                refusals.add(where, "prompt", refused.reason, refused.detail)
                continue
            ends = [span["end"] for span in row["segments"]]
            yield Origin(
                where,
                row["trace_id"],
                messages,
                row["think_opening"],
                row["think"],
                ends,
                row["token_ends"],
            )


def _ask_round(
    number: int,
    settings: RolloutSettings,
    subject: Subject,
    rollouts: Sequence[Rollout],
    engine: LazyEngine,
    store: SampleStore,
    watcher: Watcher,
    refusals: Refusals,
) -> None:
    """Ask for one round of the rollouts that go on."""
    last = number == settings.rounds - 1
    sampling = settings.sampling if last else replace(settings.sampling, stop=(CLOSE,))
    asker = Asker(
        subject.name,
        subject.revision,
        settings.engine,
        sampling,
        settings.seed,
        settings.options.max_model_len,
    )
    going = [own for own in rollouts if own.goes_on]
    texts = [PUSHES[settings.how]] if settings.push is None else [settings.push]
    if settings.how == "wait" and settings.push is None:
        texts = list(WAITS)
    push = texts[number % len(texts)]

    def requests() -> Iterator[Request]:
        made: tuple[Origin, str, Prompt] | None = None  # the samples of a prefix share it
        for place, own in enumerate(going):
            own.said += pushed(own.thinking, push)[len(own.thinking) :]
            text = own.thinking
            if made is None or made[0] is not own.origin or made[1] != text:
                begun = begin_answer(own.origin.opening, text, subject.prefill)
                made = own.origin, text, subject.prompt(own.origin.messages, begun)
            (request,) = asker.requests(made[2], [own.index])
            own.key, own.seed = request.key, request.seed
            watcher.ask(request.key, place // settings.n, None)
            yield request

    watcher.expect(settings.n)
    failures = ask(engine, requests(), store, watcher.see, watcher.hold)
    for own in going:
        own.failed = own.key in failures
        if own.failed:
            failure = failures[own.key]
            detail = f"segment {own.prefix.segment}, sample {own.index}: {failure.detail}"
            refusals.add(own.origin.problem, "generate", failure.reason, detail)
        elif not last:
            own.take(store)


def _shared_columns(settings: RolloutSettings, subject: Subject) -> dict[str, Any]:
    own = asdict(settings.sampling)
    return {
        "how": settings.how,
        "model": subject.name,
        "model_revision": subject.revision,
        "engine": settings.engine,
        "sampling": {name: own[name] for name in ("temperature", "top_p", "max_tokens")},
    }


def _describe(settings: RolloutSettings) -> dict[str, Any]:
    return {
        "engine": settings.engine,
        "how": settings.how,
        "push": settings.push,
        "rounds": settings.rounds,
        "prefixes_per_trace": settings.prefixes,
        "n": settings.n,
        "seed": settings.seed,
        "sampling": as_record(settings.sampling),
        "prompt_profile": settings.profile.name,
        "prompt_profile_sha256": settings.profile.sha256,
    }
