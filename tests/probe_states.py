"""Hidden states made by hand: shards on disk whose states hold what a test puts into them."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from progdata.training_refs.hidden_states import HiddenStates


def make_states(
    folder: Path, states: NDArray[np.floating], positions: NDArray, *, total: int, traces: int
) -> HiddenStates:
    """One shard of one layer: `states` of tokens at `positions` of so many traces in turn, each a
    problem of its own with `total` tokens."""
    shard = folder / f"{len(list(folder.glob('[0-9]*'))) if folder.is_dir() else 0:05d}"
    shard.mkdir(parents=True)
    trace = np.arange(len(positions)) % traces
    np.save(shard / "states.npy", states[None].astype(np.float16))
    np.save(shard / "questions.npy", np.zeros((1, traces, states.shape[1]), np.float16))
    np.save(shard / "tokens.npy", np.stack([trace, positions], axis=1).astype(np.int32))
    names = [f"{shard.name}-{i}" for i in range(traces)]
    record = {
        "trace_ids": names,
        "problem_ids": names,
        "totals": [total] * traces,
        "cut": 0,
        "clipped": 0,
        "left_out": {},
    }
    (shard / "traces.json").write_text(json.dumps(record), "utf-8")
    return HiddenStates(folder)
