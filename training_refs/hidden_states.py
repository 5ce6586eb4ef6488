"""Hidden states at chosen layers, streamed to disk in shards, and read back a few rows at a time.

A shard is a folder, committed at once (law 7), so that a run that was killed goes on:

    states.npy     float16[layers, tokens, width]
    questions.npy  float16[layers, traces, width], the question's embedding
    tokens.npy     int32[tokens, 2]: the trace within the shard, the token within its thinking
    traces.json    trace_id, problem_id and thinking tokens of each trace; what was left out and why
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from progdata.builders.atomic import TEMPORARY, atomic_folder
from progdata.builders.chat_template import PromptRefused
from progdata.builders.errors import ProgdataError
from progdata.builders.markers import MarkerGrammar, strip
from progdata.builders.randomness import row_keys, uniforms
from progdata.builders.thinking import split_completion
from progdata.training_refs.layer_reader import LayerReader, StatesSettings
from progdata.training_refs.probed_trace import ProbedTrace, TraceTokens, tokenise_trace

_LARGEST = float(np.finfo(np.float16).max)


def extract(
    reader: LayerReader,
    rows: pa.Table,
    grammar: MarkerGrammar,
    folder: Path,
    settings: StatesSettings,
    said: Callable[[float, str], None] = lambda share, text: None,
) -> None:
    """Write the states of the traces of a variant table (columns of `schema.VARIANT`) to `folder`.

    Shards that are there already stay. What is held in memory is the tokens of one shard's traces
    and the states of one trace. Raises ProgdataError where a state is not a number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for unfinished in folder.glob(f"{TEMPORARY}*"):  # of a run that was killed
        shutil.rmtree(unfinished)
    for number, start in enumerate(range(0, rows.num_rows, settings.shard_traces)):
        path = folder / f"{number:05d}"
        if not path.exists():
            with atomic_folder(path) as temporary:
                block = rows.slice(start, settings.shard_traces)
                _write_shard(temporary, reader, block, grammar, settings)
        done = min(start + settings.shard_traces, rows.num_rows)
        said(done / rows.num_rows, f"{done:,} of {rows.num_rows:,} traces")


@dataclass(frozen=True)
class _Chosen:
    """A trace to read, and the tokens of its thinking to keep: rising int64[kept]."""

    trace_id: str
    problem_id: str
    tokens: TraceTokens
    visible: int
    positions: NDArray[np.int64]


def _write_shard(
    folder: Path,
    reader: LayerReader,
    rows: pa.Table,
    grammar: MarkerGrammar,
    settings: StatesSettings,
) -> None:
    left_out: Counter[str] = Counter()
    chosen = list(_choose(reader, rows, grammar, settings, left_out))
    counts = [len(own.positions) for own in chosen]
    layers = len(settings.layers)
    shape = (layers, sum(counts), reader.width)
    states = open_memmap(folder / "states.npy", "w+", np.float16, shape)
    questions = np.zeros((layers, len(chosen), reader.width), np.float16)
    clipped, start = 0, 0
    for index, (own, count) in enumerate(zip(chosen, counts, strict=True)):
        read, question = reader.read(own.tokens, own.positions)
        if np.isnan(read).any():
            raise ProgdataError(
                f"trace {own.trace_id}: the model's hidden states are not numbers; "
                "set dtype to bfloat16 or float32, or check the model's weights"
            )
        clipped += int((np.abs(read) > _LARGEST).sum())
        states[:, start : start + count] = as_stored(read)
        questions[:, index] = as_stored(question)
        start += count
    states.flush()
    traces = np.repeat(np.arange(len(chosen)), counts)
    positions = np.concatenate([*(own.positions for own in chosen), np.zeros(0, np.int64)])
    np.save(folder / "questions.npy", questions)
    np.save(folder / "tokens.npy", np.stack([traces, positions], axis=1).astype(np.int32))
    record = {
        "trace_ids": [own.trace_id for own in chosen],
        "problem_ids": [own.problem_id for own in chosen],
        "totals": [own.tokens.total for own in chosen],
        "cut": sum(own.visible < own.tokens.total for own in chosen),
        "clipped": clipped,
        "left_out": dict(sorted(left_out.items())),
    }
    (folder / "traces.json").write_text(json.dumps(record), "utf-8")


def _choose(
    reader: LayerReader,
    rows: pa.Table,
    grammar: MarkerGrammar,
    settings: StatesSettings,
    left_out: Counter[str],
) -> Iterator[_Chosen]:
    """The traces to read, and which of their tokens; counts the others by reason."""
    names = ["trace_id", "problem_id", "prompt", "completion", "think_closed"]
    for row in rows.select(names).to_pylist():
        if not row["think_closed"]:
            left_out["unclosed_think"] += 1  # how long it would have become is unknown
            continue
        think = split_completion(strip(row["completion"], grammar)).think
        messages = tuple((turn["role"], turn["content"]) for turn in row["prompt"])
        try:
            tokens = tokenise_trace(reader.template, ProbedTrace(messages, think))
        except PromptRefused as error:
            left_out[error.reason] += 1
            continue
        visible = reader.visible(tokens)
        if not visible:
            left_out["over_context" if tokens.total else "no_tokens"] += 1
            continue
        positions = draw_positions(row["trace_id"], visible, settings)
        yield _Chosen(row["trace_id"], row["problem_id"], tokens, visible, positions)


def as_stored(states: NDArray[np.float32]) -> NDArray[np.float16]:
    """States as a shard has them: what is too large for float16 becomes its largest number."""
    return np.clip(states, -_LARGEST, _LARGEST).astype(np.float16)


def draw_positions(trace_id: str, count: int, settings: StatesSettings) -> NDArray[np.int64]:
    """The tokens of a trace that are kept, out of its first `count`: rising int64[kept].

    Drawn without replacement, each as likely as the next, from (seed, trace_id) alone.
    """
    most = settings.tokens_per_trace
    if most is None or most >= count:
        return np.arange(count)
    keys = row_keys(settings.seed, [trace_id], "probe/positions")
    draws = uniforms(keys, np.array([count]))
    return np.sort(np.argsort(draws, kind="stable")[:most])


@dataclass(frozen=True)
class Features:
    """What a probe is given of a token: its state at a layer (the index into `layers`), and with
    `question` the question's embedding at that layer after it. None: its position alone."""

    layer: int | None
    question: bool = False


def of_state(
    which: Features, states: NDArray[np.float16], question: NDArray[np.float16]
) -> NDArray[np.float32]:
    """What a probe is given of the states of one trace, [layers, tokens, width], and the question
    of it, [layers, width]: float32[tokens, features]."""
    assert which.layer is not None
    own = states[which.layer]
    if which.question:
        asked = np.broadcast_to(question[which.layer], own.shape)
        own = np.concatenate([own, asked], axis=1)
    return own.astype(np.float32)


@dataclass(frozen=True)
class Shard:
    """One shard on disk; the states are mapped, not read."""

    states: NDArray[np.float16]
    questions: NDArray[np.float16]
    traces: NDArray[np.int32]
    positions: NDArray[np.int32]
    totals: NDArray[np.int64]
    problem_ids: list[str]
    record: dict[str, Any]

    def features(self, which: Features, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        if which.layer is None:
            return self.positions[rows, None].astype(np.float32)
        states = self.states[which.layer][rows]
        if not which.question:
            return states.astype(np.float32)
        asked = self.questions[which.layer][self.traces[rows]]
        return np.concatenate([states, asked], axis=1).astype(np.float32)


def _open_shard(folder: Path) -> Shard:
    tokens = np.load(folder / "tokens.npy")
    record = json.loads((folder / "traces.json").read_text("utf-8"))
    return Shard(
        np.load(folder / "states.npy", mmap_mode="r"),
        np.load(folder / "questions.npy", mmap_mode="r"),
        tokens[:, 0],
        tokens[:, 1],
        np.array(record["totals"], np.int64),
        record["problem_ids"],
        record,
    )


class HiddenStates:
    """The states of one split: tokens are numbered through all shards of a folder.

    In memory are 8 bytes a token (its trace and position) and the names of the traces; training a
    probe adds 8 more, for the order of the tokens.
    """

    def __init__(self, folder: Path) -> None:
        self._shards = [_open_shard(own) for own in sorted(folder.glob("[0-9]*"))]
        sizes = [len(own.positions) for own in self._shards]
        self._edges = np.append(0, np.cumsum(sizes, dtype=np.int64))
        self.problem_ids: list[str] = sorted({p for own in self._shards for p in own.problem_ids})
        """The problems, in the order that `truth` numbers them by."""

    def __len__(self) -> int:
        return int(self._edges[-1])

    @cached_property
    def _problems(self) -> list[NDArray[np.int64]]:
        """The problem of each trace, by shard."""
        number = {own: i for i, own in enumerate(self.problem_ids)}
        return [np.array([number[p] for p in own.problem_ids], np.int64) for own in self._shards]

    def features(self, which: Features, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """What a probe is given of these tokens (rising): float32[rows, width]."""
        return np.concatenate(
            [self._shards[i].features(which, own) for i, own in self._by_shard(rows)]
        )

    def truth(
        self, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Of these tokens (rising): the position in the thinking from 0, the thinking's tokens,
        and the problem's number; each int64[rows]."""
        parts = []
        for i, own in self._by_shard(rows):
            shard = self._shards[i]
            traces = shard.traces[own]
            positions = shard.positions[own].astype(np.int64)
            parts.append((positions, shard.totals[traces], self._problems[i][traces]))
        return tuple(np.concatenate(own) for own in zip(*parts, strict=True))  # pyright: ignore[reportReturnType]

    def _by_shard(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """The shards that rising rows lie in, and the rows within each."""
        cuts = np.searchsorted(rows, self._edges)
        for i in range(len(self._shards)):
            if cuts[i] < cuts[i + 1]:
                yield i, rows[cuts[i] : cuts[i + 1]] - self._edges[i]

    def counts(self) -> dict[str, Any]:
        """What is in here: traces, problems, tokens; and what is not: traces that the context cut,
        numbers too large for float16, rows left out by reason."""
        left_out: Counter[str] = Counter()
        for own in self._shards:
            left_out.update(own.record["left_out"])
        return {
            "traces": sum(len(own.problem_ids) for own in self._shards),
            "problems": len(self.problem_ids),
            "tokens": len(self),
            "cut_by_context": sum(own.record["cut"] for own in self._shards),
            "clipped_to_float16": sum(own.record["clipped"] for own in self._shards),
            "left_out": dict(sorted(left_out.items())),
        }
