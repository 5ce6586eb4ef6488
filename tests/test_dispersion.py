"""MAD and MAPD of progress over rollouts: by hand, against a plain version, and on real ones."""

import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import polars as pl
import pytest
from shared_data import needs_shared_data

from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.markers import DEFAULT
from progdata.builders.prompts import find_profile
from progdata.builders.sampling import SamplingSettings
from progdata.builders.sampling_engines import EngineOptions
from progdata.builders.tokenizer import find_tokenizer, load_counter
from progdata.releases.rolled_out import RolloutSettings, roll_out
from progdata.training_refs.dispersion import measure_dispersion, spread_of_prefixes
from progdata.training_refs.evaluated import EvalSettings, evaluate

WORDS = load_counter(None, False)


def rollout(
    continuation: str, trace: str = "a", end: int = 10, tokens: int = 10, total: int = 40,
    **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """A row of rollouts.parquet as this reads it."""
    counted = WORDS.starts([continuation]).per_text().tolist()[0]
    return {
        "trace_id": trace,
        "problem_id": f"problem of {trace}",
        "how": "continue",
        "segment": 0,
        "prefix_end": end,
        "prefix_tokens": tokens,
        "progress": tokens / total,
        "continuation": continuation,
        "truncated": False,
        "completion_tokens": counted + 1,
        "model": "m",
    } | more


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.mkdir(exist_ok=True)
    pl.DataFrame(rows).with_columns(pl.col("progress").cast(pl.Float32)).write_parquet(
        path / "rollouts.parquet"
    )
    return path


def measure(path: Path, tokenizer: str = "words") -> dict[str, Any]:
    counter = load_counter(find_tokenizer(tokenizer).path, False)
    return measure_dispersion(path, counter, DEFAULT, tokenizer=tokenizer)


def think(tokens: int, response: str = "It is 4.") -> str:
    return " a" * tokens + f"</think> {response}"


def test_two_rollouts_are_as_far_from_their_mean_as_worked_out_by_hand(tmp_path):
    """10 / 40 and 10 / 20: mean .375, both .125 away, which is a third of it."""
    found = measure(write(tmp_path, [rollout(think(30)), rollout(think(10, "x " * 50))]))
    assert found["mad"]["mean"] == pytest.approx(0.125)
    assert found["mapd"]["mean"] == pytest.approx(1 / 3)
    assert (found["prefixes"], found["rollouts"], found["problems"]) == (1, 2, 1)
    assert [own["prefixes"] for own in found["by_position"]] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert found["by_position"][2]["mad"]["mean"] == pytest.approx(0.125)


def test_rollouts_that_did_not_finish_are_left_out_and_counted(tmp_path):
    rows = [
        rollout(think(30)),
        rollout(think(10)),
        rollout(" a" * 90),
        rollout(think(90), truncated=True),
        rollout(think(5), end=20, tokens=20),
        rollout(" a" * 7, end=20, tokens=20),
        rollout(" a" * 7, trace="b"),
    ]
    found = measure(write(tmp_path, rows))
    assert (found["rollouts"], found["unfinished"]) == (7, 4)
    assert (found["prefixes"], found["prefixes_left_out"], found["traces"]) == (1, 2, 2)
    assert found["mad"]["mean"] == pytest.approx(0.125)


def test_markers_in_a_continuation_are_no_tokens(tmp_path):
    marked = " a" * 15 + "<progressbar>50%</progressbar>" + think(15)
    found = measure(write(tmp_path, [rollout(marked), rollout(think(10))]))
    assert found["mad"]["mean"] == pytest.approx(0.125)


def test_the_spread_is_that_of_the_plain_version():
    random = np.random.default_rng(0)
    rows = [
        {
            "trace_id": f"t{trace}",
            "problem_id": f"p{trace // 3}",
            "prefix_end": end,
            "progress": end / 5,
            "estimate": float(random.random()),
        }
        for trace in range(9)
        for end in range(1, 6)
        for _ in range(random.integers(1, 6))
    ]
    random.shuffle(rows)
    spread = spread_of_prefixes(pl.DataFrame(rows))
    by_prefix = defaultdict(list)
    for row in rows:
        key = (row["problem_id"], row["trace_id"], row["prefix_end"])
        by_prefix[key].append(row["estimate"])
    expected = []
    for key in sorted(by_prefix):
        own = by_prefix[key]
        if len(own) > 1:
            mad = fmean(abs(p - fmean(own)) for p in own)
            expected.append((int(key[0][1]), key[2] / 5, mad, mad / fmean(own)))
    found = list(zip(spread.problem, spread.position, spread.mad, spread.mapd, strict=True))
    assert np.array(found) == pytest.approx(np.array(expected))
    assert spread.problems == 3


def test_intervals_are_over_problems(tmp_path):
    """Many prefixes of two problems that differ: the interval reaches from one to the other."""
    rows = []
    for end in range(10, 60):
        rows += [rollout(think(30), "a", end), rollout(think(10), "a", end)]
        rows += [rollout(think(30), "b", end), rollout(think(30), "b", end)]
    found = measure(write(tmp_path, rows))["mad"]
    assert found["mean"] == pytest.approx(0.0625)
    assert (found["low"], found["high"]) == (0.0, pytest.approx(0.125))


def test_a_prefix_at_a_bound_belongs_to_the_tenth_that_it_ends(tmp_path):
    rows = [
        rollout(think(4 * own), end=end, tokens=end, total=10)
        for end in range(1, 11)
        for own in (1, 2)
    ]
    found = measure(write(tmp_path, rows))
    assert [own["prefixes"] for own in found["by_position"]] == [1] * 10


@pytest.mark.parametrize("place", ["folder", "file"])
def test_rollouts_that_were_pushed_are_refused(tmp_path, place):
    path = write(tmp_path, [rollout(think(30)), rollout(think(10))])
    named = path if place == "folder" else path / "rollouts.parquet"
    for push in (None, ""):
        (path / "rollouts.json").write_text(json.dumps({"push": push}))
        assert measure(named)["prefixes"] == 1
    (path / "rollouts.json").write_text(json.dumps({"push": "Wait"}))
    with pytest.raises(UsageError, match="made with --push 'Wait'"):
        measure(named)


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        ([rollout(think(3), how="stop")], UsageError, "made with --how stop"),
        ([rollout(think(3))], ProgdataError, "no prefix has two rollouts that finished"),
        ([rollout(" a" * 4)] * 3, ProgdataError, "3 rollouts of 1 prefixes, 0 finished"),
        (
            [rollout(think(50), completion_tokens=90)] * 3,
            UsageError,
            "tokens are those of m, and --tokenizer words counts",
        ),
    ],
)
def test_rollouts_that_say_nothing_are_refused_in_one_line(rows, kind, message, tmp_path):
    with pytest.raises(kind, match=message) as found:
        measure(write(tmp_path, rows))
    assert "\n" not in str(found.value)


def test_what_is_no_table_of_rollouts_is_refused(tmp_path):
    (tmp_path / "rollouts.parquet").write_bytes(b"PAR1")
    with pytest.raises(ProgdataError, match="not a table of rollouts that can be read"):
        measure(tmp_path)
    pl.DataFrame({"how": ["continue"]}).write_parquet(tmp_path / "rollouts.parquet")
    with pytest.raises(ProgdataError, match="not a table of rollouts that can be read"):
        measure(tmp_path / "rollouts.parquet")


@needs_shared_data
def test_rollouts_of_a_model_are_read_as_they_were_made(small_model, tmp_path):
    """A random model closes no thinking; where it is made to, both ways agree on the tokens."""
    text = "First I add.\n\nThen I check.\n\nSo it is 4."
    marked = text.replace("\n\n", "\n\n<progressbar>40%</progressbar>", 1)
    row = {
        "problem": "What is 2 + 2?",
        "answer": "4",
        "completion": f"{marked}</think> \\boxed{{4}}",
    }
    traces = tmp_path / "traces.jsonl"
    traces.write_text(json.dumps(row) + "\n")
    plain = tmp_path / "plain.jsonl"
    plain.write_text(json.dumps(row | {"completion": f"{text}</think> \\boxed{{4}}"}) + "\n")
    settings = RolloutSettings(
        str(plain),
        find_profile("deepscaler"),
        how="continue",
        n=3,
        push="Wait.</think>",
        model=str(small_model),
        engine="transformers",
        sampling=SamplingSettings(max_tokens=1),
        options=EngineOptions(dtype="float32"),
    )
    roll_out(settings, tmp_path / "rollouts")
    rows = pl.read_parquet(tmp_path / "rollouts" / "rollouts.parquet")
    ended = rows.with_columns(truncated=pl.lit(value=False), completion_tokens=pl.lit(7 + 1))
    ended.write_parquet(tmp_path / "rollouts" / "rollouts.parquet")
    (tmp_path / "rollouts" / "rollouts.json").unlink()  # it says what was pushed
    evaluated = evaluate(
        EvalSettings(
            str(traces), tokenizer=str(small_model), rollouts=str(tmp_path / "rollouts"), workers=1
        )
    )
    found = evaluated["dispersion"]
    assert (found["rollouts"], found["prefixes"], found["prefixes_left_out"]) == (9, 3, 0)
    assert found["mad"]["mean"] == 0.0
    assert [own["prefixes"] for own in found["by_position"]][-1] == 1
