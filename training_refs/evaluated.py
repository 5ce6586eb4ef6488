"""Evaluate the progress that traces report: what `progdata eval` does.

OUT/markers.parquet     one row a scored marker: label, truth, the error of every baseline
OUT/report.json         the report
OUT/samples.sqlite      with `unconditioned`: every prediction that was paid for
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from progdata.builders.atomic import atomic_file, write_text
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.markers import DEFAULT, MarkerGrammar
from progdata.builders.model_files import DEFAULT_MODEL
from progdata.builders.nearest import did_you_mean
from progdata.builders.prompts import PromptProfile, find_profile
from progdata.builders.sampling_engines import NO_OPTIONS, EngineName, EngineOptions
from progdata.builders.sources import Source
from progdata.builders.tokenizer import Counter, find_tokenizer, load_counter
from progdata.cards.plots import check_plot_path
from progdata.releases.display import Display
from progdata.releases.lockfile import read_lock
from progdata.releases.outputs import refuse_out
from progdata.releases.verified import find_traces
from progdata.releases.workspace import LOCK_FILE
from progdata.training_refs.dispersion import measure_dispersion
from progdata.training_refs.evaluation_report import (
    Scored,
    compare_predictions,
    describe_traces,
    judge_traces,
    measure_progress,
    score_markers,
)
from progdata.training_refs.probed_trace import ProbedTrace
from progdata.training_refs.progress_metrics import Floats
from progdata.training_refs.reported_progress import Reported, read_lengths, read_reported
from progdata.training_refs.unconditioned import AskedModel, predict_afresh
from progdata.verifiers.sample_metrics import BOOTSTRAP_DRAWS, CONFIDENCE
from progdata.verifiers.verdicts import GRADERS, GraderName

MARKERS, REPORT = "markers.parquet", "report.json"

LONG_TOKENS = 16_384
"""Thinking up to so many tokens is in domain (paper 000, sections 4 and 5.2)."""


@dataclass(frozen=True)
class EvalSettings:
    """What is evaluated, against what, and how.

    `traces`, `lengths`: a source, or the folder of a build; the lengths of `lengths` are what the
    position baselines know, None: of the other problems of `traces`. `tokenizer` counts.
    `grammar`: how markers are written; None: as in the build, or as usual. `unconditioned` asks
    `model` at every marker again, and keeps the answers in `out`. `rollouts`: of `progdata rollouts
    --how continue`; `probe`: the folder of a trained probe.
    """

    traces: str
    tokenizer: str = "words"
    lengths: str | None = None
    count_markers: bool = False
    long_tokens: int = LONG_TOKENS
    grade: bool = True
    grader: str = "math-verify"
    workers: int | None = None
    limit: int | None = None
    seed: int = 0
    out: Path | None = None
    plot: Path | None = None
    grammar: MarkerGrammar | None = None
    unconditioned: bool = False
    model: str | None = None
    engine: EngineName = "vllm"
    profile: PromptProfile = field(default_factory=lambda: find_profile("deepscaler"))
    options: EngineOptions = NO_OPTIONS
    rollouts: str | None = None
    probe: str | None = None
    device: str = "auto"


def evaluate(settings: EvalSettings, *, display: Display | None = None) -> dict[str, Any]:
    """Measure the predictions of the traces beside the baselines; the report as plain JSON.

    `docs/metrics.md` says what each number means. Shares and errors are in [0, 1] (raw errors may
    be more), at full precision, None where nothing can be said. Raises UsageError for options that
    make no sense, ProgdataError where a source cannot be read or holds no marker that can be
    scored.
    """
    begun = time.monotonic()
    _check(settings)
    found = find_tokenizer(settings.tokenizer)
    counter = load_counter(found.path, False)
    source = find_traces(settings.traces)
    refuse_out(settings.out, (MARKERS, REPORT), source)
    grammar = settings.grammar or _grammar_of(settings.traces)
    dispersion = None
    if settings.rollouts is not None:  # before the long work, since its options may be wrong
        dispersion = measure_dispersion(
            settings.rollouts, counter, grammar, tokenizer=settings.tokenizer, seed=settings.seed
        )
    lengths = _lengths(settings, counter)
    reported = _read(settings, source, counter, grammar, display)
    traces = judge_traces(reported.traces)
    scored = score_markers(traces, reported.markers, lengths)
    report: dict[str, Any] = {
        "source": settings.traces,
        "rows": traces.height + sum(reported.unreadable.values()),
        "unreadable": reported.unreadable,
        **describe_traces(traces, reported.markers, settings.seed),
        "progress": measure_progress(scored, settings.long_tokens, settings.seed),
        "lengths": {"source": settings.lengths, "traces": _known_lengths(traces, lengths)},
    }
    others: dict[str, Floats] = {}
    if settings.unconditioned:
        asked, others["unconditioned"] = _ask_afresh(settings, reported, grammar, display)
        report["asked_afresh"] = asked
    if settings.probe is not None:
        others |= _probe(settings, settings.probe, reported, display)
    report["compared"] = compare_predictions(scored, others, settings.long_tokens, settings.seed)
    report["dispersion"] = dispersion
    report["tokenizer"] = {"spec": found.spec, "fingerprint": found.fingerprint}
    report["settings"] = _describe(settings)
    if settings.plot is not None:
        _plot(report, settings.plot)
    report["seconds"] = time.monotonic() - begun
    if settings.out is not None:
        _write(settings.out, report, traces, reported.markers, scored, others)
    return report


def _check(settings: EvalSettings) -> None:
    """Raises UsageError for settings that contradict one another, before any work."""
    if settings.grader not in GRADERS:
        hint = did_you_mean(settings.grader, GRADERS)
        raise UsageError(
            f"unknown grader {settings.grader!r}{hint}; choose from {', '.join(GRADERS)}"
        )
    if settings.long_tokens < 1:
        raise UsageError(f"--long-tokens {settings.long_tokens}: expected at least 1")
    if settings.limit is not None and settings.limit < 1:
        raise UsageError(f"--limit {settings.limit}: expected at least 1")
    if settings.plot is not None:
        check_plot_path(settings.plot)
    if settings.out is not None and (settings.out / LOCK_FILE).exists():
        raise UsageError(f"{settings.out}: holds a build; choose another --out for the evaluation")
    if settings.unconditioned:
        if settings.out is None:
            raise UsageError("--unconditioned keeps what it asked for; name a folder with --out")
        _asked_model(settings).check()
    elif settings.model is not None:
        raise UsageError("--model is asked with --unconditioned only; give both or neither")


def _asked_model(settings: EvalSettings) -> AskedModel:
    server = settings.engine == "openai" and settings.tokenizer != "words"
    return AskedModel(
        settings.model or DEFAULT_MODEL,
        settings.engine,
        settings.profile,
        settings.options,
        settings.tokenizer if server else None,
        settings.seed,
    )


def _grammar_of(spec: str) -> MarkerGrammar:
    """How the markers of a build are written; the usual way where `spec` is none."""
    folder = Path(spec)
    if not (folder / LOCK_FILE).is_file():
        return DEFAULT
    return read_lock(folder).recipe.grammar()


def _lengths(settings: EvalSettings, counter: Counter) -> pl.Series | None:
    if settings.lengths is None:
        return None
    lengths = read_lengths(
        find_traces(settings.lengths),
        counter,
        _grammar_of(settings.lengths),
        count_markers=settings.count_markers,
    )
    if not len(lengths):
        raise ProgdataError(
            f"{settings.lengths}: no trace with a finished thinking; --lengths needs some to know "
            "how long thinking is"
        )
    return lengths


def _known_lengths(traces: pl.DataFrame, lengths: pl.Series | None) -> int:
    return len(traces["tokens"].drop_nulls() if lengths is None else lengths)


def _read(
    settings: EvalSettings,
    source: Source,
    counter: Counter,
    grammar: MarkerGrammar,
    display: Display | None,
) -> Reported:
    """The traces and their markers. Raises ProgdataError where no marker can be scored."""
    graders: list[GraderName] = [own for own in GRADERS if own == settings.grader]
    reported = read_reported(
        source,
        counter,
        grammar,
        count_markers=settings.count_markers,
        grader=graders[0] if settings.grade else None,
        workers=settings.workers,
        limit=settings.limit,
        keep_texts=settings.unconditioned or settings.probe is not None,
        display=display,
    )
    if not reported.markers.height:
        raise ProgdataError(f"{settings.traces}: {_nothing_scored(reported, grammar)}")
    return reported


def _nothing_scored(reported: Reported, grammar: MarkerGrammar) -> str:
    """Why no marker of some traces can be scored, and what was expected."""
    traces = reported.traces
    finished = traces["tokens"].count()
    unfinished = int(traces.filter(pl.col("no_truth").is_not_null())["markers"].sum())
    return (
        f"no progress can be scored: {traces.height:,} traces, {finished:,} with a finished "
        f"thinking; markers: none inside those, {traces['outside'].sum():,} after it, "
        f"{unfinished:,} in the others, {traces['malformed'].sum():,} malformed; expected markers "
        f"like {grammar.render(37)} between <think> and </think>"
    )


def _ask_afresh(
    settings: EvalSettings, reported: Reported, grammar: MarkerGrammar, display: Display | None
) -> tuple[dict[str, Any], Floats]:
    """What was asked, and the unconditioned prediction at each marker, NaN without one."""
    assert settings.out is not None
    found = predict_afresh(
        reported.texts, _asked_model(settings), grammar, settings.out, display=display
    )
    labels = [label for own in found.labels.values() for label in own]
    asked = {
        **found.record,
        "engine": settings.engine,
        "prompt_profile": settings.profile.name,
        "asked": len(labels),
        "unanswered": found.unanswered,
        "new": found.new,
    }
    predicted = [np.nan if label is None else label / 100 for label in labels]
    return asked, np.array(predicted, dtype=np.float64)


def _probe(
    settings: EvalSettings, folder: str, reported: Reported, display: Display | None
) -> dict[str, Floats]:
    """What each probe of a folder predicts at each marker."""
    from progdata.training_refs.probe import predict_progress

    traces = [
        ProbedTrace(settings.profile.messages(own.problem), own.think, own.ends)
        for own in reported.texts.values()
    ]
    found = predict_progress(Path(folder), traces, device=settings.device, display=display)
    return {f"probe: {name}": np.concatenate(own) for name, own in found.items()}


def _describe(settings: EvalSettings) -> dict[str, Any]:
    return {
        "count_markers": settings.count_markers,
        "long_tokens": settings.long_tokens,
        "grader": settings.grader if settings.grade else None,
        "limit": settings.limit,
        "seed": settings.seed,
        "confidence": CONFIDENCE,
        "bootstrap_draws": BOOTSTRAP_DRAWS,
        "probe": settings.probe,
        "rollouts": settings.rollouts,
    }


def _plot(report: dict[str, Any], path: Path) -> None:
    from progdata.cards.eval_plots import plot_progress

    plot_progress(report, path)
    report["plot"] = str(path)


def _write(
    out: Path,
    report: dict[str, Any],
    traces: pl.DataFrame,
    markers: pl.DataFrame,
    scored: Scored,
    others: dict[str, Floats],
) -> None:
    """Write the scored markers and the report."""
    report["out"] = str(out)
    named = traces.select("trace", "trace_id", "problem_id", "file", "row", "verdict", "passed")
    errors = {f"{name}_error": own for name, own in scored.baselines.items()}
    table = markers.join(named, on="trace", how="left", maintain_order="left").with_columns(
        truth=pl.Series(scored.where.truth),
        predicted=pl.Series(scored.where.predicted),
        **{name: pl.Series(own).fill_nan(None) for name, own in (errors | others).items()},
    )
    with atomic_file(out / MARKERS) as temporary:
        table.write_parquet(temporary)
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(out / REPORT, text + "\n")
