"""Probes: is progress in the hidden states? (paper 000, section 4)

    progdata train probe --config probe --dataset org/name@1.2.0 --out probes

Runs a model over traces without their markers, keeps the hidden states of some layers at some
tokens of the thinking (`hidden_states.py`, on disk), and trains linear probes on them
(`linear_probe.py`): with and without the question's embedding, as bins and as a number. They are
measured on problems that were not trained on, and on traces over 16K tokens, against baselines
that never see the model. `predict_progress` asks them about other traces (section 5.3).
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, field_validator

from progdata.builders.atomic import write_text
from progdata.builders.chat_template import PromptRefused
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.model_files import ModelFiles, find_model
from progdata.builders.schema import content_id
from progdata.builders.splits import SPLITS
from progdata.releases.display import Display, Silent
from progdata.training_refs.devices import find_device, memory_as_error
from progdata.training_refs.hidden_states import (
    Features,
    HiddenStates,
    as_stored,
    extract,
    of_state,
)
from progdata.training_refs.layer_reader import LayerReader, StatesSettings, check_layers
from progdata.training_refs.probe_scores import (
    Guess,
    Guesser,
    score,
    score_baselines,
)
from progdata.training_refs.probed_trace import ProbedTrace, tokenise_trace
from progdata.training_refs.resuming import REPORT, begin_run_on, read_report
from progdata.training_refs.train_recipe import TrainRecipe
from progdata.training_refs.training_data import TrainingData, open_data

if TYPE_CHECKING:
    from progdata.training_refs.linear_probe import FitSettings, Fitted, LinearProbe

OOD = SPLITS[-1]
PROBE_FILE = "probe.json"

Form = Literal["classes", "regression"]

_LESS = "lower max_tokens or batch_size, or set dtype to bfloat16"


class ProbeRecipe(TrainRecipe):
    """What decides a run; `recipes/train/probe.yaml` says which values are the paper's."""

    layers: tuple[int, ...] = Field(default=(8, 16, 24), min_length=1)
    bins: int = Field(default=10, ge=2)
    question: tuple[bool, ...] = Field(default=(False, True), min_length=1)
    form: Literal["classes", "regression", "both"] = "both"
    tokens_per_trace: int | None = Field(default=64, ge=1)
    max_tokens: int | None = Field(default=None, ge=2)
    question_tokens: int = Field(default=8, ge=1)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    shard_traces: int = Field(default=32, ge=1)
    epochs: int = Field(default=5, ge=1)
    batch_size: int = Field(default=1_024, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)

    @field_validator("layers")
    @classmethod
    def _from_one(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        if min(layers) < 1 or len(set(layers)) < len(layers):
            raise ValueError("expected different layers, counted from 1")
        return layers

    @property
    def forms(self) -> list[Form]:
        return ["classes", "regression"] if self.form == "both" else [self.form]

    def states(self) -> StatesSettings:
        return StatesSettings(
            self.layers,
            self.tokens_per_trace,
            self.max_tokens,
            self.question_tokens,
            self.shard_traces,
            self.seed,
        )

    def fitting(self) -> "FitSettings":
        from progdata.training_refs.linear_probe import FitSettings

        return FitSettings(
            self.epochs, self.batch_size, self.learning_rate, self.weight_decay, self.seed
        )


@dataclass(frozen=True)
class ProbeKind:
    """One probe of a run. `layer`: None for the baseline that is given the position alone."""

    layer: int | None
    question: bool
    form: Form

    @property
    def name(self) -> str:
        parts = ["position" if self.layer is None else f"layer-{self.layer}"]
        parts += ["question"] * self.question
        return "-".join([*parts, self.form])

    def features(self, layers: Sequence[int]) -> Features:
        return Features(None if self.layer is None else layers.index(self.layer), self.question)

    def record(self) -> dict[str, Any]:
        return {
            "name": self.name, "layer": self.layer, "question": self.question, "form": self.form,
        }  # fmt: skip


def train(recipe: ProbeRecipe, out: Path, *, display: Display | None = None) -> dict[str, Any]:
    """Train and measure the probes of a recipe in the folder `out`; the report.

    `out` gets the hidden states (`states/`, which may be deleted afterwards), `probes/`,
    `probe.json` and `report.json`. The same call goes on where an earlier one was stopped, or
    returns the report of one that ended.

    Raises UsageError for a wrong recipe, ProgdataError where there is nothing to train on.
    """
    display = display or Silent()
    if (report := read_report(recipe, out)) is not None:
        return report
    if recipe.data.relabel:
        raise UsageError("data.relabel: probes use no labels; leave it false")
    device = find_device(recipe.device)
    model = find_model(recipe.model)
    check_layers(model.folder, recipe.layers)
    run = _Run(recipe, model, _open_splits(recipe), device, out)
    begin_run_on(recipe, out, {"data": run.data.lock_sha256, "model": model.revision})
    with memory_as_error(_LESS):
        states = _read_states(run, display)
        report = _train_and_measure(run, states, display)
    write_text(out / PROBE_FILE, json.dumps(_record(run), indent=2) + "\n")
    write_text(out / REPORT, json.dumps(report, indent=2) + "\n")
    return report


@dataclass(frozen=True)
class _Run:
    """A run's recipe with what it names: the model, the rows, the device, and the folder."""

    recipe: ProbeRecipe
    model: ModelFiles
    data: TrainingData
    device: str
    out: Path

    @cached_property
    def key(self) -> str:
        """What names the hidden states: all that can change them."""
        import torch
        import transformers

        rows = {"variant", "train_split", "limit", "eval_limit"}
        parts = {
            "model": self.model.revision,
            "data": self.data.lock_sha256,
            "rows": self.recipe.data.model_dump(include=rows),
            "states": vars(self.recipe.states()),
            "run": [self.recipe.dtype, self.device.partition(":")[0]],
            "versions": [torch.__version__, transformers.__version__],
        }
        return content_id(json.dumps(parts, sort_keys=True))

    @property
    def kinds(self) -> list[ProbeKind]:
        """The probes to train, but for those that are baselines."""
        own = self.recipe
        return [
            ProbeKind(layer, question, form)
            for layer in own.layers
            for question in own.question
            for form in own.forms
        ]


def _open_splits(recipe: ProbeRecipe) -> TrainingData:
    """The rows to train and to measure on: two splits, and `ood` where there is one.

    Labels are not used, so that the tokenizer of the model need not be that of the data.
    """
    own = recipe.data
    others = [split for split in (own.eval_split, OOD) if split and split != own.train_split]
    data, held_out = (
        open_data(own.dataset, own.variant, None, source=own.source, splits=splits, limit=limit)
        for splits, limit in (([own.train_split], own.limit), (others, own.eval_limit))
    )
    data.tables.update(held_out.tables)
    for split in filter(None, (own.train_split, own.eval_split)):
        if not pc.any(data.rows(split)["think_closed"]).as_py():  # pyright: ignore[reportAttributeAccessIssue]
            rows = data.rows(split).num_rows
            raise UsageError(
                f"{data.name}: split {split!r}: none of its {rows:,} rows has finished thinking; "
                "probes need traces whose length is known"
            )
    return data


def _read_states(run: _Run, display: Display) -> dict[str, HiddenStates]:
    """The hidden states of each split that has any, from disk or from the model."""
    settings, own = run.recipe.states(), run.recipe.data
    reader = LayerReader(run.model.folder, settings, run.device, run.recipe.dtype)
    states = {}
    for split, rows in run.data.tables.items():
        folder = run.out / "states" / run.key / split
        display.stage(f"hidden states of {split}")
        extract(reader, rows, run.data.grammar, folder, settings, display.say)
        found = HiddenStates(folder)
        if len(found):
            states[split] = found
        elif split in (own.train_split, own.eval_split):
            why = ", ".join(f"{n:,} {reason}" for reason, n in found.counts()["left_out"].items())
            raise ProgdataError(
                f"{run.data.name}: split {split!r}: no trace is left to probe ({why}); "
                "give max_tokens more room, or other data"
            )
    return states


def _train_and_measure(
    run: _Run, states: dict[str, HiddenStates], display: Display
) -> dict[str, Any]:
    """Train every probe that is not there yet, and measure all of them on all splits."""
    recipe, data = run.recipe, run.data
    positions = [ProbeKind(None, False, form) for form in recipe.forms]
    kinds = [*run.kinds, *positions]
    measured: dict[ProbeKind, dict[str, Any]] = {}
    display.stage("probes")
    for number, kind in enumerate(kinds, 1):
        fitted = _fit_once(run, kind, states[recipe.data.train_split])
        guesser = _asks(fitted.probe, kind.features(recipe.layers), recipe.bins)
        scores = {split: score(own, guesser, recipe.bins) for split, own in states.items()}
        measured[kind] = kind.record() | {"losses": fitted.losses, "splits": scores}
        display.say(number / len(kinds), kind.name)
    baselines = score_baselines(states, recipe.data.train_split, recipe.bins)
    return {
        "trainer": "probe",
        "data": data.record(),
        "model": {"name": run.model.name, "revision": run.model.revision},
        "device": run.device,
        "bins": recipe.bins,
        "splits": {split: own.counts() for split, own in states.items()},
        "probes": [measured[kind] for kind in run.kinds],
        "baselines": baselines + [measured[kind] for kind in positions],
    }  # fmt: skip


def _record(run: _Run) -> dict[str, Any]:
    """What `predict_progress` must know of a run."""
    model = run.model
    return {
        "model": {"spec": run.recipe.model, "name": model.name, "revision": model.revision},
        "bins": run.recipe.bins,
        "dtype": run.recipe.dtype,
        "states": vars(run.recipe.states()),
        "probes": [kind.record() for kind in run.kinds],
    }


def _fit_once(run: _Run, kind: ProbeKind, states: HiddenStates) -> "Fitted":
    """The probe that an earlier call left, or a newly trained one, which is saved."""
    from progdata.training_refs.linear_probe import fit, load_probe, save_probe

    path = run.out / "probes" / f"{kind.name}.safetensors"
    fitted = load_probe(path, run.device, run.key)
    if fitted is None:
        fitted = fit(
            states,
            kind.features(run.recipe.layers),
            outputs=run.recipe.bins if kind.form == "classes" else 1,
            settings=run.recipe.fitting(),
            device=run.device,
        )
        save_probe(fitted, path, run.key)
    return fitted


def _asks(probe: "LinearProbe", features: Features, bins: int) -> Guesser:
    """What guesses the progress of tokens with a probe."""

    def guess(states: HiddenStates, rows: NDArray[np.int64]) -> Guess:
        return probe.guess(states.features(features, rows), bins)

    return guess


def predict_progress(
    folder: Path,
    traces: Sequence[ProbedTrace],
    *,
    device: str = "auto",
    display: Display | None = None,
) -> dict[str, list[NDArray[np.float64]]]:
    """What the probes in a run's folder say of other traces (paper 000, section 5.3).

    By the name of a probe, for each trace one float64[ends]: the progress in [0, 1] read from the
    state that the model predicts the next token from, at the last token of the thinking that
    starts before each end. NaN where there is none, where it is beyond the context, and for a
    prompt that the model's template refuses.

    Raises UsageError where the folder holds no finished probes, or the model has changed.
    """
    display = display or Silent()
    record = _read_record(folder)
    device = find_device(device)
    model = find_model(record["model"]["spec"])
    if model.revision != record["model"]["revision"]:
        raise UsageError(
            f"{folder}: its probes read {model.name} at {record['model']['revision'][:12]}; found "
            f"{model.revision[:12]}; train the probes again for this model"
        )
    states = record["states"]
    settings = StatesSettings(**states | {"layers": tuple(states["layers"])})
    kinds = [ProbeKind(own["layer"], own["question"], own["form"]) for own in record["probes"]]
    found: dict[str, list[NDArray[np.float64]]] = {kind.name: [] for kind in kinds}
    with memory_as_error(_LESS):
        reader = LayerReader(model.folder, settings, device, record["dtype"])
        probes = {kind: _load(folder, kind, device) for kind in kinds}
        display.stage("probes on traces")
        for number, trace in enumerate(traces, 1):
            for name, own in _predict(reader, probes, settings, trace, record["bins"]):
                found[name].append(own)
            display.say(number / len(traces), f"{number:,} of {len(traces):,} traces")
    return found


def _read_record(folder: Path) -> dict[str, Any]:
    """The probe.json of a run. Raises UsageError where there is none."""
    try:
        return json.loads((folder / PROBE_FILE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{folder}: no {PROBE_FILE} of trained probes; make them with 'progdata train probe'"
        ) from error


def _load(folder: Path, kind: ProbeKind, device: str) -> "LinearProbe":
    from progdata.training_refs.linear_probe import load_probe

    path = folder / "probes" / f"{kind.name}.safetensors"
    if (fitted := load_probe(path, device)) is None:
        raise UsageError(f"{path}: is missing; train the probes again in another folder")
    return fitted.probe


def _predict(
    reader: LayerReader,
    probes: "dict[ProbeKind, LinearProbe]",
    settings: StatesSettings,
    trace: ProbedTrace,
    bins: int,
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """What each probe says of one trace, by name."""
    progress = {kind: np.full(len(trace.ends), np.nan) for kind in probes}
    with suppress(PromptRefused):
        tokens = tokenise_trace(reader.template, trace)
        at = tokens.before(trace.ends)
        known = (at >= 0) & (at < reader.visible(tokens))
        if known.any():
            states, questions = map(as_stored, reader.read(tokens, at[known]))
            for kind, probe in probes.items():
                features = of_state(kind.features(settings.layers), states, questions)
                progress[kind][known] = probe.guess(features, bins).progress
    for kind, own in progress.items():
        yield kind.name, own
