"""Hostile inputs, the shared and our own: each ends within its budget, and does nothing else.

All are graded in one batch of two workers, with honest pairs in between, once with Python's
integers and once with those of gmpy2, which no signal handler interrupts.
"""

import json
import subprocess
import sys
from typing import Any

import pytest
from grading_processes import SCRIPTS, Script
from hostile_answers import hostile_answers
from shared_data import ANSWERS, needs_shared_data, read_rows

from progdata.verifiers.verdicts import STATUSES

pytestmark = [needs_shared_data, pytest.mark.slow]

CPU_SECONDS, MEMORY_MB = 1.0, 400

OVERSHOOT_MB = 128
"""What a worker may take past its budget before it is seen and killed."""

Batch = dict[str, Any]
"""Of one grader: its `verdicts` by name, the `seconds` of all, `worker_mb`, `sockets`."""


@pytest.fixture(scope="module", params=["python", "gmpy"])
def said(request: pytest.FixtureRequest, tmp_path_factory) -> dict[str, Any]:
    """What `grade_hostile` says, and the folders that it left."""
    folder = tmp_path_factory.mktemp("empty")
    canary = tmp_path_factory.mktemp("canary") / "canary"
    canary.write_text("5")
    arguments = ("grade_hostile", str(canary), str(CPU_SECONDS), str(MEMORY_MB))
    integers = {"SYMPY_GROUND_TYPES": request.param}
    if request.param == "python":
        integers["MPMATH_NOGMPY"] = "yes"
    run = Script(SCRIPTS, *arguments, cwd=folder, **integers)
    found = json.loads(run.output(1200))
    return found | {
        "ground_types": request.param,
        "written": [str(path) for path in folder.rglob("*")],
        "canary": canary,
        "left": run.processes(),
    }


@pytest.fixture(params=["math-verify", "deepscaler"])
def batch(request: pytest.FixtureRequest, said: dict[str, Any]) -> Batch:
    return said[request.param]


def hostile(batch: Batch) -> dict[str, Any]:
    return {name: own for name, own in batch["verdicts"].items() if not name.startswith("honest ")}


def test_both_kinds_of_integers_are_what_they_seem(said: dict[str, Any]):
    used = any("gmpy2" in path for path in said["libraries"])
    assert used == (said["ground_types"] == "gmpy")


def test_every_one_ends_with_a_status_within_its_budget(batch: Batch):
    found = hostile(batch)
    assert len(found) >= 65 + 100
    assert {own["status"] for own in found.values()} <= set(STATUSES)
    assert {name for name, own in found.items() if own["cpu_seconds"] > 1.1 * CPU_SECONDS} == set()
    over = {f"over its budget of {CPU_SECONDS:g} CPU seconds", f"over its memory of {MEMORY_MB} MB"}
    ended = {own["rule"] for own in found.values() if own["status"] in ("timeout", "error")}
    assert ended <= over
    assert batch["seconds"] < 3 * len(found) * CPU_SECONDS


def test_honest_neighbours_get_their_verdicts(said: dict[str, Any]):
    verdicts = said["math-verify"]["verdicts"]
    honest = [(name.split()[-1], verdicts[name]["status"]) for name in verdicts if "honest" in name]
    assert len(honest) > 15
    assert [name for name, _ in honest] == [status for _, status in honest]


def test_memory_stays_under_the_limit(batch: Batch):
    assert batch["worker_mb"] < MEMORY_MB + OVERSHOOT_MB


def test_nothing_is_written_sent_or_left(said: dict[str, Any], batch: Batch):
    assert said["written"] == []
    assert said["canary"].read_text() == "5"
    assert [path.name for path in said["canary"].parent.iterdir()] == ["canary"]
    assert batch["sockets"] == 0
    assert said["left"] == []


def test_nothing_is_right_that_says_no_5(said: dict[str, Any]):
    """Where the canary is read, it says the gold: no text that asks for it is correct."""
    verdicts = said["math-verify"]["verdicts"]
    asking = {
        own.name for own in hostile_answers(said["canary"]) if str(said["canary"]) in own.answer
    }
    correct = {name for name in asking if verdicts[name]["status"] == "correct"}
    assert len(asking) > 30
    assert all("5" in verdicts[name]["extracted_answer"] for name in correct), correct


def test_equal_pairs_are_wrong_only_where_math_verify_says_so(said: dict[str, Any]):
    own = [(own.name, own.gold, own.answer, own.note) for own in hostile_answers(said["canary"])]
    rows = [
        tuple(row[key] for key in ("id", "gold", "answer", "note"))
        for row in read_rows(ANSWERS / "hostile.jsonl.gz")
    ]
    equal = {
        name: (gold, answer)
        for name, gold, answer, note in [*own, *rows]
        if name.startswith("equal: ") or note.startswith("equal")
    }
    assert len(equal) > 8
    wrong = [n for n in equal if said["math-verify"]["verdicts"][n]["status"] == "wrong"]
    assert [name for name in wrong if not math_verify_says_wrong(*equal[name])] == []


def math_verify_says_wrong(gold: str, answer: str) -> bool:
    code = "import json, sys; from math_verify import parse, verify; " + (
        "print(verify(*map(parse, json.load(sys.stdin))))"
    )
    texts = json.dumps([gold, answer])
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=texts, capture_output=True, text=True, check=True)
    return done.stdout.strip() == "False"
