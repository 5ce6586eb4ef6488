"""Hostile gradings: each ends within its budget, does nothing beside, and harms no other.

The shared ones and our own (`hostile_answers`), with Python's integers and with gmpy2's.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from grading_processes import PAIRS, memory_watched, supervisor_of, wait_until
from hostile_answers import hostile_answers
from shared_data import SHARED, needs_shared_data, read_rows

from progdata.verifiers import Verdict
from progdata.verifiers.grading import Budget, grade_stream
from progdata.verifiers.pool import GradingPool
from progdata.verifiers.verdicts import STATUSES

CPU_SECONDS, MEMORY_MB = 0.5, 400

OVERSHOOT_MB = 128
"""What a worker may take past its budget before it is seen and killed."""


class Graded(NamedTuple):
    """What became of all hostile inputs, and of the honest ones between them."""

    hostile: dict[str, Verdict]
    honest: list[str]
    seconds: float
    peak_mb: float
    folder: Path
    canary: Path


@pytest.fixture(scope="module", params=["python", "gmpy"])
def graded(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Graded]:
    """All of them in one batch of two workers, an honest pair after each eighth."""
    folder = tmp_path_factory.mktemp("hostile")
    canary = tmp_path_factory.mktemp("canary") / "touched"
    inputs = [(own.name, own.gold, own.answer) for own in hostile_answers(canary)]
    inputs += [
        (row["id"], row["gold"], row["answer"])
        for row in read_rows(SHARED / "data" / "answers" / "hostile.jsonl.gz")
    ]
    honest = [PAIRS[n % len(PAIRS)] for n in range(len(inputs) // 8)]
    pairs: list[tuple[str, str]] = []
    for n, (_, gold, answer) in enumerate(inputs):
        pairs.append((gold, answer))
        if n % 8 == 7:
            own = honest[n // 8]
            pairs.append((own[0], rf"\boxed{{{own[1]}}} and so on, number {n}"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYMPY_GROUND_TYPES", request.param)
        patch.chdir(folder)
        with GradingPool(2) as pool:
            patch.setattr("progdata.verifiers.grading.shared_pool", lambda workers: pool)
            patch.setattr(
                "progdata.verifiers.grading._cache.ask", lambda own, asked: own.submit(asked)
            )
            pool.submit(
                {"grader": "gold", "gold": "1", "cpu_seconds": 5, "memory_mb": 500}
            ).result()
            begun = time.monotonic()
            with memory_watched(supervisor_of(pool)) as peaks:
                verdicts = list(grade_stream(pairs, budget=Budget(CPU_SECONDS, MEMORY_MB)))
            seconds = time.monotonic() - begun
    names = iter(name for name, _, _ in inputs)
    hostile: dict[str, Verdict] = {}
    between: list[str] = []
    for n, verdict in enumerate(verdicts):
        if n % 9 == 8:
            between.append(verdict.status)
        else:
            hostile[next(names)] = verdict
    assert between and len(hostile) == len(inputs)
    yield Graded(
        hostile, [status for *_, status in honest] + between, seconds, peaks.worker, folder, canary
    )


@needs_shared_data
@pytest.mark.slow
def test_each_ends_with_a_status_within_its_budget(graded: Graded):
    assert len(graded.hostile) >= 65 + 40
    for name, verdict in graded.hostile.items():
        assert verdict.status in STATUSES, name
        assert verdict.cpu_seconds <= CPU_SECONDS * 1.2, name
        if verdict.status == "timeout":
            assert verdict.rule == "over its budget of 0.5 CPU seconds", name
    assert sum(own.status == "timeout" for own in graded.hostile.values()) > 20


@needs_shared_data
@pytest.mark.slow
def test_honest_pairs_between_them_get_their_verdicts(graded: Graded):
    half = len(graded.honest) // 2
    assert graded.honest[half:] == graded.honest[:half]


@needs_shared_data
@pytest.mark.slow
def test_memory_stays_under_the_limit(graded: Graded):
    assert graded.peak_mb < MEMORY_MB + OVERSHOOT_MB


@needs_shared_data
@pytest.mark.slow
def test_nothing_is_done_beside_grading(graded: Graded):
    assert not graded.canary.exists()
    assert list(graded.folder.iterdir()) == []
    assert "forbidden" not in {own.rule for own in graded.hostile.values()}


@needs_shared_data
@pytest.mark.slow
def test_what_is_equal_to_itself_is_never_wrong(graded: Graded):
    """A timeout must not be recorded as wrong, nor a huge equal pair."""
    equal = {"H007", "H017"}  # 2^1000000 and 1000000!, both sides the same text
    assert {graded.hostile[name].status for name in equal} == {"correct"}


@pytest.mark.slow
def test_a_file_that_an_answer_would_read_is_not_read(tmp_path):
    """The canary holds the gold: an answer that read it would be correct."""
    canary = tmp_path / "canary"
    canary.write_text("5")
    inputs = [
        own for own in hostile_answers(canary) if own.category == "code" and "canary" in own.answer
    ]
    assert inputs
    pairs = [(own.gold, own.answer) for own in inputs]
    verdicts = list(grade_stream(pairs, budget=Budget(CPU_SECONDS, MEMORY_MB)))
    for own, verdict in zip(inputs, verdicts, strict=True):
        assert verdict.status != "correct" or (verdict.extracted_answer or "").strip("$ ") == "5", (
            own.name
        )
    assert canary.read_text() == "5"


def test_no_process_is_left_when_hostile_items_are_dropped():
    pool = GradingPool(2)
    asked = {"grader": "math-verify", "gold": "5", "answer": "9^{9^{9^9}}"}
    futures = [pool.submit(asked | {"cpu_seconds": 30, "memory_mb": 900}) for _ in range(4)]
    supervisor = supervisor_of(pool)
    workers = wait_until(lambda: len(own := supervisor.children()) == 2 and own)
    pool.close()
    gone, alive = psutil.wait_procs([supervisor, *workers], timeout=20)
    assert not alive and len(gone) == 3
    assert {future.result(5)["status"] for future in futures} == {"error"}
    assert os.getpid() not in {own.pid for own in gone}
