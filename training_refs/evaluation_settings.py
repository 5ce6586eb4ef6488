"""What `progdata eval` is asked to do, and which of that makes sense."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from progdata.builders.errors import UsageError
from progdata.builders.markers import DEFAULT, MarkerGrammar
from progdata.builders.model_files import DEFAULT_MODEL
from progdata.builders.nearest import did_you_mean
from progdata.builders.prompts import PromptProfile, find_profile
from progdata.builders.sampling_engines import NO_OPTIONS, EngineName, EngineOptions
from progdata.builders.sources import Source, find_source
from progdata.cards.plots import check_plot_path
from progdata.releases.lockfile import LockFile, read_lock
from progdata.releases.pulled import wanted_files
from progdata.releases.verified import find_traces
from progdata.releases.workspace import LOCK_FILE
from progdata.training_refs.unconditioned import AskedModel
from progdata.verifiers.verdicts import GRADERS

LONG_TOKENS = 16_384
"""Thinking up to so many tokens is in domain (paper 000, sections 4 and 5.2)."""

_ENGINE: EngineName = "vllm"
_PROFILE = "deepscaler"


@dataclass(frozen=True)
class EvalSettings:
    """What is evaluated, against what, and how.

    `traces`, `lengths`: a source, or the folder of a build; the lengths of `lengths` are what the
    position baselines know, None: of the other problems of `traces`. `variant`: of the build that
    `traces` is, None: its first. `tokenizer` counts. How markers are written: `grammar`, or as in
    the build in the folder `grammar_of`; without either as in the build, or as usual.

    `unconditioned` asks `model` (`revision`: see `find_subject`) at every marker again, and keeps
    the answers in `out`. `rollouts`: of `progdata rollouts --how continue`; `probe`: the folder of
    a trained probe. `device`: of the probe, and of the engine transformers.
    """

    traces: str
    variant: str | None = None
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
    grammar_of: str | None = None
    unconditioned: bool = False
    model: str | None = None
    revision: str | None = None
    engine: EngineName = _ENGINE
    profile: PromptProfile = field(default_factory=lambda: find_profile(_PROFILE))
    options: EngineOptions = NO_OPTIONS
    rollouts: str | None = None
    probe: str | None = None
    device: str = "auto"


def check_settings(settings: EvalSettings) -> None:
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
    if settings.grammar is not None and settings.grammar_of is not None:
        raise UsageError("grammar and grammar_of both say how markers are written; give one")
    _check_asked(settings)
    if settings.probe is not None:
        _check_probe(settings, Path(settings.probe))


def asked_model(settings: EvalSettings) -> AskedModel:
    """Whom `unconditioned` asks."""
    server = settings.engine == "openai" and settings.tokenizer != "words"
    options = settings.options
    if settings.engine == "transformers" and settings.device != "auto":
        options = replace(options, device=settings.device)
    return AskedModel(
        settings.model or DEFAULT_MODEL,
        settings.engine,
        settings.profile,
        options,
        settings.tokenizer if server else None,
        settings.seed,
        settings.revision,
    )


def evaluated_traces(settings: EvalSettings) -> Source:
    """The source of the traces. Raises UsageError for a variant that is not there."""
    if settings.variant is None:
        return find_traces(settings.traces)
    if (lock := _lock_of(settings.traces)) is None:
        raise UsageError(
            f"--variant {settings.variant}: {settings.traces} is not the folder of a build, which "
            "alone has variants"
        )
    wanted_files(lock, [settings.variant], None)
    return find_source(str(Path(settings.traces) / "data" / settings.variant / "*.parquet"))


def marker_grammar(settings: EvalSettings) -> MarkerGrammar:
    """How the markers of the traces are written."""
    if settings.grammar_of is not None:
        return read_lock(Path(settings.grammar_of)).recipe.grammar()
    return settings.grammar or grammar_of(settings.traces, DEFAULT)


def grammar_of(spec: str, otherwise: MarkerGrammar) -> MarkerGrammar:
    """How the markers of the build are written whose folder `spec` is; `otherwise` for another."""
    lock = _lock_of(spec)
    return otherwise if lock is None else lock.recipe.grammar()


def _lock_of(spec: str) -> LockFile | None:
    """The lock file of the build whose folder `spec` is; None where it is none."""
    folder = Path(spec)
    return read_lock(folder) if (folder / LOCK_FILE).is_file() else None


def _check_asked(settings: EvalSettings) -> None:
    """Refuse options of the engine that are wrong, or that nothing would use."""
    if settings.unconditioned:
        if settings.out is None:
            raise UsageError("--unconditioned keeps what it asked for; name a folder with --out")
        asked_model(settings).check()
    else:
        given = [f"--{name.replace('_', '-')}" for name in settings.options.given]
        given += ["--engine"] if settings.engine != _ENGINE else []
        given += ["--model"] if settings.model is not None else []
        given += ["--revision"] if settings.revision is not None else []
        if given:
            raise UsageError(f"{given[0]} is used with --unconditioned only; give both or neither")
        if settings.profile != find_profile(_PROFILE) and settings.probe is None:
            raise UsageError("--profile is used with --unconditioned or --probe only")
    asks = settings.unconditioned and settings.engine == "transformers"
    if settings.device != "auto" and settings.probe is None and not asks:
        raise UsageError(
            "--device is used with --probe, or with --unconditioned --engine transformers, only"
        )


def _check_probe(settings: EvalSettings, folder: Path) -> None:
    """Refuse a folder without trained probes, and a device that is not there."""
    from progdata.training_refs.devices import find_device
    from progdata.training_refs.probe import PROBE_FILE

    try:
        json.loads((folder / PROBE_FILE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--probe {folder}: no {PROBE_FILE} of trained probes that can be read; name the --out "
            "of progdata train probe"
        ) from error
    find_device(settings.device)
