"""Predictions without prior ones: each asked afresh, markers stripped (paper 000, section 7.2).

At every position where a trace reports its progress, the model is given the prompt, the thinking
up to there without any marker, and the opening tag; greedily it writes the label.
"""

from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progdata.builders.ask import LazyEngine, ask
from progdata.builders.chat_template import PromptRefused
from progdata.builders.continuations import begin_answer
from progdata.builders.errors import UsageError
from progdata.builders.markers import MarkerGrammar, find_markers
from progdata.builders.prompts import PromptProfile
from progdata.builders.sample_store import SampleStore
from progdata.builders.sampling import Asker, Request, Sample, SamplingSettings
from progdata.builders.sampling_engines import (
    EngineName,
    EngineOptions,
    check_options,
    open_engine,
)
from progdata.builders.subject import Subject, find_subject
from progdata.releases.display import Display, Silent
from progdata.releases.generated import LOG, writing_in
from progdata.releases.generation_progress import GenerationTally, Watcher
from progdata.training_refs.reported_progress import ThinkingText

MAX_TOKENS = 32
"""Room for a label and the closing tag, with any tokenizer (ours)."""


@dataclass(frozen=True)
class AskedModel:
    """Who is asked, and how; `tokenizer`: the model's own, needed with the engine `openai`;
    `revision`: which weights such a server has."""

    model: str
    engine: EngineName
    profile: PromptProfile
    options: EngineOptions
    tokenizer: str | None = None
    seed: int = 0
    revision: str | None = None

    def check(self) -> None:
        """Raises UsageError for options that contradict one another."""
        check_options(self.engine, self.options)
        if self.revision is not None and self.engine != "openai":
            raise UsageError(
                "--revision is of the engine openai; elsewhere --model NAME@REVISION names it"
            )
        if self.engine == "openai" and self.tokenizer is None:
            raise UsageError(
                "a server can go on with an answer only where it is given token ids; name the "
                "model's --tokenizer"
            )


@dataclass(frozen=True)
class Unconditioned:
    """The label at each position of each trace, None where none was given; and what it took.

    `record`: the model; `unanswered`: positions without a label by reason; `new`: samples that
    this run paid for.
    """

    labels: dict[int, list[int | None]]
    record: dict[str, Any]
    unanswered: dict[str, int]
    new: int


def predict_afresh(
    texts: Mapping[int, ThinkingText],
    asked: AskedModel,
    grammar: MarkerGrammar,
    out: Path,
    *,
    display: Display | None = None,
) -> Unconditioned:
    """Ask for every position of the traces; samples are kept in `out`, and not asked for again.

    Raises ProgdataError where the engine or the store cannot go on; what is kept by then stays.
    """
    asked.check()
    tokenizer = asked.tokenizer if asked.engine == "openai" else None
    subject = find_subject(asked.model, asked.engine, tokenizer, asked.revision)
    places: list[tuple[int, str | None]] = []
    unanswered: Tally[str] = Tally()
    positions = sum(len(own.ends) for own in texts.values())
    tally = GenerationTally(positions, positions, unit="positions")
    with writing_in(out), SampleStore(out) as store:
        watcher = Watcher(tally, display or Silent(), verify=False)
        engine = LazyEngine(
            lambda: open_engine(
                asked.engine, subject.name, subject.folder, asked.options, out / LOG
            )
        )
        requests = _requests(texts, asked, subject, grammar, places, unanswered, watcher)
        watcher.expect(1)
        with engine, watcher:
            failures = ask(engine, requests, store, watcher.see, watcher.hold)
        labels: dict[int, list[int | None]] = {trace: [] for trace in texts}
        for trace, key in places:
            sample = store.get(key) if key is not None else None
            label = read_label(sample, grammar) if sample is not None else None
            labels[trace].append(label)
            if key is not None and label is None:
                unanswered[failures[key].reason if key in failures else "no_label"] += 1
    return Unconditioned(labels, subject.record, dict(sorted(unanswered.items())), tally.sampled)


def read_label(sample: Sample, grammar: MarkerGrammar) -> int | None:
    """The label that a model wrote after the opening tag; None where it wrote something else."""
    written = f"{grammar.opening}{sample.text}{grammar.closing}"
    found = find_markers(written, grammar)
    whole = len(found) == 1 and found[0].end - found[0].start == len(written)
    return found[0].label if whole and not sample.truncated else None


def _requests(
    texts: Mapping[int, ThinkingText],
    asked: AskedModel,
    subject: Subject,
    grammar: MarkerGrammar,
    places: list[tuple[int, str | None]],
    unanswered: Tally[str],
    watcher: Watcher,
) -> Iterator[Request]:
    """The request of each position, as it is drawn. `places` fills with each position's trace and
    key (None where no model should be given the prompt, which `unanswered` counts)."""
    asker = Asker(
        subject.name,
        subject.revision,
        asked.engine,
        SamplingSettings(0.0, 1.0, MAX_TOKENS, (grammar.closing,)),
        asked.seed,
        asked.options.max_model_len,
    )
    for trace, text in texts.items():
        messages = asked.profile.messages(text.problem)
        for end in text.ends:
            begun = begin_answer(text.opening, text.think[:end] + grammar.opening, subject.prefill)
            try:
                prompt = subject.prompt(messages, begun)
            except PromptRefused as refused:
                unanswered[refused.reason] += 1
                places.append((trace, None))
                continue
            (request,) = asker.requests(prompt, [0])
            watcher.ask(request.key, len(places), None)
            places.append((trace, request.key))
            yield request
