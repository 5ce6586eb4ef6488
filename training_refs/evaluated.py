"""Evaluate the progress that traces report: what `progdata eval` does.

OUT/markers.parquet     one row a scored marker: label, truth, the error of every baseline
OUT/report.json         the report
OUT/samples.sqlite      with `unconditioned`: every prediction that was paid for
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from progdata.builders.atomic import atomic_file, write_text
from progdata.builders.errors import ProgdataError
from progdata.builders.markers import MarkerGrammar
from progdata.builders.sources import Source
from progdata.builders.tokenizer import Counter, find_tokenizer, load_counter
from progdata.releases.display import Display
from progdata.releases.outputs import refuse_out
from progdata.releases.verified import find_traces
from progdata.training_refs.dispersion import measure_dispersion
from progdata.training_refs.evaluation_report import (
    Scored,
    compare_predictions,
    describe_traces,
    judge_traces,
    measure_progress,
    score_markers,
)
from progdata.training_refs.evaluation_settings import (
    EvalSettings,
    asked_model,
    check_settings,
    evaluated_traces,
    grammar_of,
    marker_grammar,
)
from progdata.training_refs.probed_trace import ProbedTrace
from progdata.training_refs.progress_metrics import Floats
from progdata.training_refs.reported_progress import Reported, read_lengths, read_reported
from progdata.training_refs.unconditioned import predict_afresh
from progdata.verifiers.sample_metrics import BOOTSTRAP_DRAWS, CONFIDENCE
from progdata.verifiers.verdicts import GRADERS, GraderName

MARKERS, REPORT = "markers.parquet", "report.json"


def evaluate(settings: EvalSettings, *, display: Display | None = None) -> dict[str, Any]:
    """Measure the predictions of the traces beside the baselines; the report as plain JSON.

    `docs/metrics.md` says what each number means. Shares and errors are in [0, 1] (raw errors may
    be more), at full precision, None where nothing can be said. Raises UsageError for options that
    make no sense, ProgdataError where a source cannot be read or holds no marker that can be
    scored.
    """
    begun = time.monotonic()
    check_settings(settings)
    found = find_tokenizer(settings.tokenizer)
    counter = load_counter(found.path, False)
    source = evaluated_traces(settings)
    refuse_out(settings.out, (MARKERS, REPORT), source)
    grammar = marker_grammar(settings)
    dispersion = None
    if settings.rollouts is not None:  # before the long work, since its options may be wrong
        dispersion = measure_dispersion(
            settings.rollouts, counter, grammar, tokenizer=settings.tokenizer, seed=settings.seed
        )
    lengths = _lengths(settings, counter, grammar)
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
    report["settings"] = _describe(settings, grammar)
    if settings.plot is not None:
        _plot(report, settings.plot)
    report["seconds"] = time.monotonic() - begun
    if settings.out is not None:
        _write(settings.out, report, traces, reported.markers, scored, others)
    return report


def _lengths(settings: EvalSettings, counter: Counter, grammar: MarkerGrammar) -> pl.Series | None:
    """What the position baselines are given; markers there are as in the build that `lengths` is,
    or as in the traces."""
    if settings.lengths is None:
        return None
    lengths = read_lengths(
        find_traces(settings.lengths),
        counter,
        grammar_of(settings.lengths, grammar),
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
    unreadable = "".join(f", {n:,} {why}" for why, n in reported.unreadable.items())
    return (
        f"no progress can be scored: {traces.height:,} traces, {finished:,} with a finished "
        f"thinking; markers: none inside those, {traces['outside'].sum():,} after it, "
        f"{unfinished:,} in the others, {traces['malformed'].sum():,} malformed; unreadable rows: "
        f"{sum(reported.unreadable.values()):,}{unreadable}; expected markers like "
        f"{grammar.render(37)} between <think> and </think>"
    )


def _ask_afresh(
    settings: EvalSettings, reported: Reported, grammar: MarkerGrammar, display: Display | None
) -> tuple[dict[str, Any], Floats]:
    """What was asked, and the unconditioned prediction at each marker, NaN without one."""
    assert settings.out is not None
    found = predict_afresh(
        reported.texts, asked_model(settings), grammar, settings.out, display=display
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


def _describe(settings: EvalSettings, grammar: MarkerGrammar) -> dict[str, Any]:
    return {
        "variant": settings.variant,
        "marker": grammar.render(37),
        "escaped": grammar.escaped,
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
