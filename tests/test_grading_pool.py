"""The grading pool: budgets, what dies, who asks at once, and that no process is left behind."""

import gc
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from grading_processes import (
    ENDLESS,
    GREEDY,
    PAIRS,
    PATIENCE,
    SCRIPTS,
    RawSupervisor,
    megabytes,
    memory_watched,
    request,
    script,
    statuses,
    sum_of_terms,
    supervisor_of,
    wait_until,
    workers_of,
    working,
)

from progdata.verifiers.pool import GradingPool
from progdata.verifiers.worker import RETIRE_ITEMS, RETIRE_KB

HONEST = [request(gold, answer) for gold, answer, _ in PAIRS]
EXPECTED = [status for _, _, status in PAIRS]

OVERSHOOT_MB = 128
"""What a worker may take past its budget before it is seen and killed."""


@pytest.fixture(scope="module")
def shared() -> Iterator[GradingPool]:
    """A pool of two workers, for tests that leave it as it is."""
    with GradingPool(2) as pool:
        yield pool


@pytest.fixture
def single() -> Iterator[GradingPool]:
    """A pool of one worker, so that items come to it in the order of their asking."""
    with GradingPool(1) as pool:
        yield pool


def numbered(n: int) -> dict[str, Any]:
    """A cheap request; its answer shows which one it was."""
    return request(str(n), f"{n}+x", grader="deepscaler")


def number_in(answer: dict[str, Any]) -> int:
    return int(answer["gold_normal"])


# --- budgets


def test_items_over_budget_leave_their_neighbours_the_verdicts_they_get_alone(shared: GradingPool):
    endless = request(*ENDLESS, cpu_seconds=0.5)
    greedy = request(*GREEDY, memory_mb=200)
    mixed = [own for honest in HONEST for own in (endless, honest, greedy)]
    answers = [future.result(PATIENCE) for future in [shared.submit(own) for own in mixed]]
    assert {(own["status"], own["rule"]) for own in answers[0::3]} == {
        ("timeout", "over its budget of 0.5 CPU seconds")
    }
    assert {(own["status"], own["rule"]) for own in answers[2::3]} == {
        ("error", "over its memory of 200 MB")
    }
    with GradingPool(1) as pool:
        alone = [pool.submit(own).result(PATIENCE) for own in HONEST]
    shown = ("status", "rule", "gold_normal", "answer_normal")
    assert [[own[key] for key in shown] for own in answers[1::3]] == [
        [own[key] for key in shown] for own in alone
    ]
    assert [own["status"] for own in alone] == EXPECTED


@pytest.mark.skipif(not hasattr(psutil.Process, "cpu_affinity"), reason="cannot choose a CPU")
def test_a_loaded_machine_changes_no_verdict(single: GradingPool):
    items = [sum_of_terms(count) for count in (600, 700)]
    alone = [single.submit(request(*item)).result(PATIENCE) for item in items]
    cpu = supervisor_of(single).cpu_affinity()[:1]
    loop = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(loop, start_new_session=True) for _ in range(8)]  # no shared autogroup
    try:
        for process in busy:
            psutil.Process(process.pid).cpu_affinity(cpu)
        with GradingPool(1) as pool:
            pool.submit(numbered(1)).result(PATIENCE)
            for process in (supervisor_of(pool), *workers_of(pool)):
                process.cpu_affinity(cpu)
            for item, own in zip(items, alone, strict=True):
                budget = 2.5 * own["cpu_seconds"]
                begun = time.monotonic()
                answer = pool.submit(request(*item, cpu_seconds=budget)).result(PATIENCE)
                assert time.monotonic() - begun > 1.5 * budget
                assert (answer["status"], answer["rule"]) == (own["status"], own["rule"])
                assert answer["cpu_seconds"] < budget
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_workers_stay_under_their_memory_and_the_caller_holds_none_of_it(shared: GradingPool):
    statuses(shared, HONEST)
    before = megabytes(psutil.Process())
    greedy = [request(*GREEDY, memory_mb=200), request("$5$", "1E999999999", memory_mb=200)]
    with memory_watched(supervisor_of(shared)) as peaks:
        assert statuses(shared, greedy * 4) == ["error"] * 8
    assert 150 < peaks.worker < 200 + OVERSHOOT_MB
    assert peaks.supervisor < 120
    assert megabytes(psutil.Process()) - before < 10


def test_memory_is_watched_while_the_caller_does_not_listen():
    """The answers fill the pipe to the caller, who comes back for them later."""
    with RawSupervisor() as supervisor:
        for n in range(8):
            supervisor.ask(n, request("7" * 20_000, "8" * 20_000))
        supervisor.ask(8, request(*GREEDY, memory_mb=200))
        with memory_watched(psutil.Process(supervisor.process.pid)) as peaks:
            wait_until(lambda: peaks.worker > 150)
            wait_until(lambda: max(map(megabytes, supervisor.workers()), default=0) < 150)
        assert peaks.worker < 200 + OVERSHOOT_MB
        answers = supervisor.hear(9)
    assert answers[8]["rule"] == "over its memory of 200 MB"
    assert sum(len(answer.get("gold_normal", "")) for answer in answers.values()) > 100_000


def test_a_peak_that_is_too_short_to_be_seen_counts():
    script("take_too_much_memory").output()


def test_what_waits_for_ever_without_using_cpu_is_ended():
    """A stopped worker stands for it: no text is known that makes one wait."""
    with RawSupervisor(SCRIPTS, "supervise_impatiently") as supervisor:
        supervisor.ask(0, request(*ENDLESS, cpu_seconds=0.5))
        (worker,) = wait_until(supervisor.workers)
        worker.suspend()
        (answer,) = supervisor.hear(1).values()
    assert (answer["status"], answer["rule"]) == ("error", "waited for ever without using CPU")


# --- what dies


def test_a_worker_that_dies_costs_only_its_item(single: GradingPool):
    for number in (signal.SIGKILL, signal.SIGSEGV):
        endless = single.submit(request(*ENDLESS))
        rest = [single.submit(own) for own in HONEST]
        time.sleep(0.1)
        os.kill(working(single).pid, number)
        answer = endless.result(PATIENCE)
        assert (answer["status"], answer["rule"]) == ("error", f"the worker died of {number.name}")
        assert [own.result(PATIENCE)["status"] for own in rest] == EXPECTED


def test_workers_are_replaced_after_so_many_items(single: GradingPool):
    seen: list[int] = []
    for first in range(0, 2 * RETIRE_ITEMS + 100, 100):
        futures = [single.submit(numbered(n)) for n in range(first, first + 100)]
        assert [number_in(own.result(PATIENCE)) for own in futures] == list(
            range(first, first + 100)
        )
        seen += [own.pid for own in workers_of(single) if own.pid not in seen]
    assert len(seen) == 3


def test_a_worker_that_has_grown_is_replaced(single: GradingPool):
    """And with it what it held; the items behind it are none the wiser."""
    single.submit(numbered(1)).result(PATIENCE)
    before = working(single)
    growing = request("$5$", "2^{150000000}")
    with memory_watched(supervisor_of(single)) as peaks:
        assert statuses(single, [growing, *HONEST]) == ["wrong", *EXPECTED]
    assert peaks.worker - 70 > RETIRE_KB / 1024
    assert not before.is_running()
    assert megabytes(working(single)) < 90


def test_a_killed_supervisor_is_replaced_and_asked_again(single: GradingPool):
    endless = single.submit(request(*ENDLESS, cpu_seconds=2))
    rest = [single.submit(own) for own in HONEST]
    worker = working(single)
    supervisor_of(single).kill()
    assert endless.result(PATIENCE)["status"] == "timeout"
    assert [own.result(PATIENCE)["status"] for own in rest] == EXPECTED
    worker.wait(PATIENCE)  # it was alone at its item, and ended with it


def test_a_worker_that_outlives_its_supervisor_blocks_nobody(single: GradingPool):
    """It holds no end of the pipe into which the caller writes."""
    endless = single.submit(request(*ENDLESS, cpu_seconds=60))
    worker, supervisor = working(single), supervisor_of(single)
    supervisor.kill()
    single.forget([endless])
    asked = [single.submit(request(f"{n}", "x" * 1_900, grader="deepscaler")) for n in range(200)]
    assert {own.result(PATIENCE)["status"] for own in asked} == {"wrong"}
    assert worker.is_running()
    worker.kill()


def test_what_kills_the_supervisor_twice_is_an_error(single: GradingPool):
    asked = [single.submit(own) for own in (request(*ENDLESS), *HONEST)]
    first = supervisor_of(single)
    wait_until(first.children)
    first.kill()
    second = wait_until(lambda: single._link and (own := supervisor_of(single)) != first and own)
    wait_until(second.children)
    second.kill()
    answers = [own.result(PATIENCE) for own in asked]
    assert {(own["status"], own["rule"], own["lost"]) for own in answers} == {
        ("error", "the grading processes died", True)
    }
    assert statuses(single, HONEST) == EXPECTED


@pytest.mark.parametrize("how", ["no such Python", "no Python", "an import fails", "no library"])
def test_processes_that_cannot_start_are_one_line_and_then_forgotten(how: str, tmp_path: Path):
    (tmp_path / "math_verify.py").write_text("raise ImportError('broken on purpose')")
    lines = script("start_broken", how, tmp_path).output().splitlines()
    assert len(lines) == 4
    if how == "an import fails":
        assert lines[0].endswith(": ImportError: broken on purpose")


# --- who asks


def test_answers_find_who_asked_among_threads_and_pools(shared: GradingPool, single: GradingPool):
    def ask(first: int) -> list[int]:
        futures = [
            pool.submit(numbered(n)) for n in range(first, first + 50) for pool in (shared, single)
        ]
        return [number_in(own.result(PATIENCE)) for own in futures]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(0, 800, 50)))
    assert [n for own in found for n in own] == [n for n in range(800) for _ in range(2)]


def test_long_requests_and_long_answers_do_not_block_each_other(shared: GradingPool):
    """Both pipes are full at once, many times over."""
    long = [request(f"{n}" + "7" * 50_000, "8" * 50_000) for n in range(16)]

    def ask(own: dict[str, Any]) -> str:
        return shared.submit(own).result(PATIENCE)["gold_normal"]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, long)) == [own["gold"] for own in long]


def test_texts_of_any_size_and_kind_come_through(single: GradingPool):
    texts = ["x" * 10_000_000, "\ud800\udfff\0\n", "\U0001d7d3" * 1000, "{" * 100_000, ""]
    asked = [request("$5$", text, cpu_seconds=1, memory_mb=600) for text in texts]
    found = statuses(single, [*asked, *HONEST])
    assert set(found[:5]) <= {"wrong", "no_answer", "timeout", "error"}
    assert found[5:] == EXPECTED


def test_a_request_that_is_no_message_harms_nothing(single: GradingPool):
    first = single.submit(HONEST[0])
    with pytest.raises(TypeError):
        single.submit(HONEST[0] | {"gold": {5}})
    for budget in ({"cpu_seconds": float("inf")}, {"memory_mb": None}, {"cpu_seconds": "5"}):
        assert single.submit(HONEST[0] | budget).result(PATIENCE)["status"] == "error"
    assert first.result(PATIENCE)["status"] == EXPECTED[0]
    assert statuses(single, HONEST) == EXPECTED


def test_what_is_forgotten_takes_no_more_time(single: GradingPool):
    endless = [single.submit(request(*ENDLESS)) for _ in range(50)]
    kept = single.submit(HONEST[0])
    working(single)
    begun = time.monotonic()
    single.forget(endless)
    assert {own.result(1)["status"] for own in endless} == {"error"}
    assert kept.result(PATIENCE)["status"] == EXPECTED[0]
    assert time.monotonic() - begun < 100  # and not 1,000


def test_a_closed_pool_answers_what_it_was_asked_and_starts_again(single: GradingPool):
    asked = [single.submit(own) for own in (request(*ENDLESS), *HONEST)]
    working(single)
    family = [supervisor_of(single), *workers_of(single)]
    single.close()
    assert not any(psutil.pid_exists(own.pid) for own in family)
    again = single.submit(HONEST[0])  # before the listener may have given up on the old ones
    assert {(own.result(PATIENCE)["rule"], own.result()["lost"]) for own in asked} == {
        ("the pool was closed", True)
    }
    assert again.result(PATIENCE)["status"] == EXPECTED[0]


def test_closing_does_not_wait_for_the_start():
    pool = GradingPool(1)
    asked = pool.submit(HONEST[0])
    begun = time.monotonic()
    pool.close()
    assert asked.result(PATIENCE)["lost"]
    assert time.monotonic() - begun < 5


def test_a_pool_that_nobody_holds_ends_its_processes():
    pool = GradingPool(1)
    asked = pool.submit(HONEST[0])
    assert asked.result(PATIENCE)["status"] == EXPECTED[0]
    family = [supervisor_of(pool), *workers_of(pool)]
    del pool, asked
    gc.collect()
    gone, alive = psutil.wait_procs(family, timeout=PATIENCE)
    assert (len(gone), alive) == (2, [])


def test_the_answer_of_a_pool_that_nobody_holds_comes_all_the_same():
    asked = GradingPool(1).submit(HONEST[0])
    assert asked.result(PATIENCE)["status"] in (EXPECTED[0], "error")


# --- callers that are killed, interrupted, forked, or end


def test_a_killed_caller_leaves_no_process_behind():
    caller = script("stay_busy", "600")
    assert caller.line() == "busy"
    assert len(caller.processes()) == 3
    caller.kill()
    wait_until(lambda: not caller.processes())


def test_a_worker_that_lost_its_supervisor_lives_no_longer_than_its_item():
    caller = script("stay_busy", "2")
    assert caller.line() == "busy"
    (supervisor,) = psutil.Process(caller.process.pid).children()
    supervisor.suspend()  # so that it cannot end its worker
    caller.kill()
    supervisor.kill()
    wait_until(lambda: len(caller.processes()) == 1)
    wait_until(lambda: not caller.processes())


@pytest.mark.parametrize(
    "how",
    [
        *("the end", "sys.exit", "beside a daemon thread", "while starting", "while working"),
        *("after the supervisor", "with more pools"),
    ],
)
def test_a_caller_that_ends_leaves_no_process_behind(how: str):
    caller = script("end", how)
    caller.output()
    assert caller.processes() == []


def test_what_ends_leaves_no_zombie_no_descriptor_and_no_thread():
    script("use_up_processes").output()


def test_an_interrupt_is_prompt_and_the_pool_works_afterwards():
    script("interrupt_grading").output()


def test_interrupts_at_any_moment_mix_up_no_answers():
    script("interrupt_at_any_moment").output()


def test_a_fork_grades_in_the_child_and_in_the_parent():
    caller = script("fork_and_grade")
    caller.output()
    wait_until(lambda: not caller.processes())


def test_a_fork_keeps_no_supervisor_of_a_killed_parent():
    caller = script("leave_a_fork_behind")
    assert caller.line() == "forked"
    assert len(caller.processes()) == 4
    caller.kill()
    (child,) = wait_until(lambda: len(found := caller.processes()) == 1 and found)
    child.kill()


def test_signal_settings_of_the_caller_do_not_reach_the_workers():
    caller = script("ignore_signals")
    caller.output()
    assert caller.processes() == []


# --- over a long time

SOAK_ITEMS = int(os.environ.get("PROGDATA_SOAK_ITEMS", "5000"))


@pytest.mark.slow
def test_a_long_run_loses_nothing_and_grows_nowhere():
    """`benchmarks/soak.py`, shortened."""
    soak = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "soak.py"))["soak"]
    run = soak(SOAK_ITEMS, workers=2, cpu_seconds=0.2, say=print)
    assert run.unexpected == []
    assert run.statuses.total() == SOAK_ITEMS
    assert run.statuses["timeout"] + run.statuses["error"] == SOAK_ITEMS // 100
    second, *_, last = run.points[1:]
    assert last.caller - second.caller < 25  # verdicts that it remembers, at most 20,000
    assert last.supervisor - second.supervisor < 5
    assert max(point.worker for point in run.points) < 300 + OVERSHOOT_MB
