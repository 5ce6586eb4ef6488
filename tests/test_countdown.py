import hashlib
import itertools
import os
import re
import statistics
import subprocess
import sys
from fractions import Fraction

import pytest

from progdata.builders.countdown import (
    CUT_RATE,
    WRONG_RATE,
    CountdownTrace,
    evaluate,
    is_solution,
    numbers_and_target,
    trace_at,
    traces,
)

FIRST_ROWS_SHA256 = "7874105e15a1c703b665c2363860fad42d238ab2f778dd4d846f20c11596a7ef"
EQUATION = re.compile(r"\b(\d+) ([-+*/]) (\d+) = (\d+)\b")
ENDING = re.compile(r"\d+ and \d+: (?:at most |even )?([^a-zA-Z]+)")
STATE = re.compile(r"([Bb]ack to |return to )?(\d+(?:, \d+){2,})\b(?! [-+*/])")
EPISODE_PHRASES = (
    "Wait",
    "But wait",
    "Alternatively",
    "Is there another way to think about this?",
    "But let me double-check",
    "But hold on",
    "Hmm",
)


@pytest.fixture(scope="module")
def rows() -> list[CountdownTrace]:
    return list(traces(seed=0, start=0, stop=5000))


def think_and_response(row: CountdownTrace) -> tuple[str, str]:
    think, _, response = row.completion.removeprefix("<think>\n").partition("\n</think>\n\n")
    return think, response


def boxed(row: CountdownTrace) -> str:
    found = re.findall(r"\\boxed\{([^{}]*)\}", row.completion)
    assert len(found) == 1
    return found[0]


def outcome(row: CountdownTrace) -> str:
    if row.finish_reason == "length":
        return "cut"
    return "right" if is_solution(boxed(row), *numbers_and_target(row.problem)) else "wrong"


def fingerprint(rows: list[CountdownTrace]) -> str:
    text = "\0".join(
        f"{row.problem}\0{row.answer}\0{row.completion}\0{row.finish_reason}" for row in rows
    )
    return hashlib.sha256(text.encode()).hexdigest()


def test_first_rows_are_the_pinned_ones(rows):
    assert fingerprint(rows[:200]) == FIRST_ROWS_SHA256


def test_a_row_depends_only_on_seed_and_index(rows):
    for index in reversed(range(0, 300, 7)):
        assert trace_at(0, index) == rows[index]
    assert list(traces(0, 40, 60)) == rows[40:60]
    assert list(traces(0, 40, 40)) == []


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_row_is_the_same_in_another_process(rows, hash_seed):
    code = (
        "from progdata.builders.countdown import trace_at\n"
        "print(ascii(trace_at(0, 123).completion))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == ascii(rows[123].completion)


def test_seeds_give_different_rows(rows):
    assert all(a != b for a, b in zip(traces(1, 0, 200), rows, strict=False))
    assert trace_at(-1, 0) != trace_at(1, 0)


def test_a_negative_index_is_refused():
    with pytest.raises(ValueError, match="row -1"):
        trace_at(0, -1)


def test_every_equation_is_true(rows):
    checked = 0
    for row in rows[:600]:
        for a, operator, b, result in EQUATION.findall(row.completion):
            assert evaluate(f"{a} {operator} {b}") == int(result), row.completion
            checked += 1
        assert row.completion.count(" = ") == len(EQUATION.findall(row.completion))
    assert checked > 20_000


def test_words_about_size_are_true(rows):
    claims = 0
    for row in rows[:600]:
        _, target = numbers_and_target(row.problem)
        think, _ = think_and_response(row)
        for value in re.findall(r"at most \d+ [-+*/] \d+ = (\d+), too small", think):
            claims += 1
            assert int(value) < target
        for value, claimed in re.findall(r"even \d+ - \d+ = (\d+) is above (\d+)", think):
            claims += 1
            assert int(value) > target == int(claimed)
        for value, gap in re.findall(r"Close: (\d+) is off by (\d+)", think):
            claims += 1
            assert abs(int(value) - target) == int(gap) > 0
        for divisor, quotient in re.findall(r"Note that \d+ / (\d+) = (\d+)", think):
            claims += 1
            assert int(divisor) * int(quotient) == target
    assert claims > 1000


def test_a_pair_called_hopeless_is_hopeless(rows):
    pattern = r"(\d+) and (\d+): (?:at most|even) "
    for row in rows[:600]:
        _, target = numbers_and_target(row.problem)
        for high, low in re.findall(pattern, row.completion):
            tries = [evaluate(f"{high} {operator} {low}") for operator in "+-*/"]
            assert target not in tries


def test_the_target_is_reached_only_where_the_search_ends(rows):
    for row in rows[:600]:
        _, target = numbers_and_target(row.problem)
        think, _ = think_and_response(row)
        endings = ENDING.findall(think)
        hits = [ending for ending in endings if re.search(rf"= {target}\b", ending)]
        assert len(hits) == (1 if outcome(row) == "right" else 0) or outcome(row) == "cut"
        assert not hits or hits == endings[-1:]


def test_what_the_summaries_count_and_call_nearest_is_so(rows):
    summaries = 0
    for row in rows[:600]:
        _, target = numbers_and_target(row.problem)
        think, _ = think_and_response(row)
        endings, values = 0, []
        for paragraph in think.split("\n\n"):
            for tries in ENDING.findall(paragraph):
                endings += 1
                values += [int(value) for value in re.findall(r"= (\d+)", tries)]
            if not re.match("So far I have|Let me take stock|That makes|Summary so far", paragraph):
                continue
            summaries += 1
            assert re.findall(r"(\d+) endings?\b", paragraph) == [str(endings)]
            endings = 0
            nearest = re.search(r"(?:yet is|seen is) (\d+)\.", paragraph)
            if nearest:
                gap = abs(int(nearest[1]) - target)
                assert gap == min(abs(value - target) for value in values if value)
    assert summaries > 100


def test_the_check_at_the_end_recomputes_the_boxed_expression(rows):
    for row in rows[:600]:
        if outcome(row) != "right":
            continue
        numbers, target = numbers_and_target(row.problem)
        check = think_and_response(row)[0].split("\n\n")[-1]
        pool = [Fraction(number) for number in numbers]
        for a, operator, b, result in EQUATION.findall(check):
            pool.remove(Fraction(a))
            pool.remove(Fraction(b))
            pool.append(evaluate(f"{a} {operator} {b}"))
            assert pool[-1] == int(result)
        assert pool == [target]


def one_step_apart(state: list[int], child: list[int]) -> bool:
    for i, j in itertools.permutations(range(len(state)), 2):
        rest = [number for k, number in enumerate(state) if k not in (i, j)]
        for result in (evaluate(f"{state[i]} {operator} {state[j]}") for operator in "+-*/"):
            if sorted([*rest, result]) == child:
                return True
    return False


def test_each_state_follows_from_the_one_above_and_going_back_names_that_one(rows):
    entered = returned = 0
    for row in rows[:400]:
        numbers, _ = numbers_and_target(row.problem)
        held = {len(numbers): sorted(numbers)}
        think, _ = think_and_response(row)
        for back, listed in STATE.findall(think):
            state = sorted(map(int, listed.split(", ")))
            if back:
                returned += 1
                assert len(state) - 1 in held, listed
                assert state == held[len(state)], listed
            elif len(state) < len(numbers):
                entered += 1
                assert one_step_apart(held[len(state) + 1], state), listed
            held = {size: above for size, above in held.items() if size > len(state)}
            held[len(state)] = state
    assert entered > 1000
    assert returned > 300


def test_no_ending_is_checked_twice(rows):
    for row in rows[:600]:
        endings = re.findall(r"(\d+ and \d+): ", row.completion)
        assert len(set(endings)) == len(endings)


def test_gold_answers_are_right_and_problems_parse_back(rows):
    for row in rows:
        numbers, target = numbers_and_target(row.problem)
        assert 3 <= len(numbers) <= 6
        assert 10 <= target <= 999
        assert is_solution(row.answer, numbers, target), row


def test_wrong_answers_use_every_number_once_and_own_up(rows):
    wrong = [row for row in rows if outcome(row) == "wrong"]
    for row in wrong:
        numbers, target = numbers_and_target(row.problem)
        value = evaluate(boxed(row))
        assert value != target
        assert is_solution(boxed(row), numbers, int(value))
        _, response = think_and_response(row)
        assert re.search("closest|best attempt|not exact|nearest", response)
        seen = {int(result) for *_, result in EQUATION.findall(row.completion)}
        assert value in seen


def test_cut_rows_stop_inside_the_thinking(rows):
    for row in rows:
        assert row.completion.startswith("<think>\n")
        assert row.completion.count("<think>") == 1
        closed = row.completion.count("</think>")
        assert closed == (0 if row.finish_reason == "length" else 1)
        assert ("\\boxed" in row.completion) == (row.finish_reason == "stop")
        assert row.finish_reason in ("stop", "length")


def test_outcomes_come_at_the_declared_rates(rows):
    outcomes = [outcome(row) for row in rows]
    assert outcomes.count("wrong") / len(rows) == pytest.approx(WRONG_RATE, abs=0.01)
    assert outcomes.count("cut") / len(rows) == pytest.approx(CUT_RATE, abs=0.008)


def test_lengths_spread_from_a_few_lines_to_thousands_of_words(rows):
    words = sorted(len(row.completion.split()) for row in rows)
    assert 250 <= statistics.median(words) <= 500
    assert words[len(rows) // 20] < 120
    assert 0.01 < sum(count > 2000 for count in words) / len(rows) < 0.08
    assert 4000 < words[-1] < 8500


def test_thinking_is_in_paragraphs_that_vary(rows):
    paragraphs = [paragraph for row in rows for paragraph in row.completion.split("\n\n")]
    assert all(paragraph.strip() for paragraph in paragraphs)
    for phrase in EPISODE_PHRASES:
        assert sum(paragraph.startswith(phrase) for paragraph in paragraphs) > 50, phrase
    openings = {paragraph.split(",")[0] for paragraph in paragraphs}
    assert len(openings) > 10_000


def test_no_marker_text_appears(rows):
    for row in rows:
        assert "<progressbar" not in row.completion
        assert not re.search(r"\[\d+%\]", row.completion + row.problem)


def test_rows_are_unique(rows):
    assert len({(row.problem, row.completion) for row in rows}) == len(rows)
    assert len({row.problem for row in rows}) > 0.995 * len(rows)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("7", 7),
        ("3 + 5 * 12", 63),
        ("(3 + 5) * 12", 96),
        ("((3)+(5))*12", 96),
        ("100 - 10 - 1", 89),
        ("100 - (10 - 1)", 91),
        ("64 / 8 / 2", 4),
        ("64 / (8 / 2)", 16),
        ("1 / 3 + 1 / 6", Fraction(1, 2)),
        ("2 - 3", -1),
    ],
)
def test_evaluate_is_exact(expression, value):
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "   ",
        "x + 1",
        "abs(3)",
        "__import__('os')",
        "3(4)",
        "(3)(4)",
        "3 4",
        "3 +",
        "+ 3",
        "-3",
        "2 ** 9",
        "9 ** 9 ** 9",
        "2 ^ 9",
        "7 // 2",
        "7 % 2",
        "1.5",
        "1e9",
        "1_000",
        "(3 + 4",
        "3 + 4)",
        ")3(",
        "()",
        "3 = 3",
        "1 / 0",
        "1 / (2 - 2)",
        "3, 4",
        "٣ + ٤",
        "9" * 19,
        "(" * 2000 + "1" + ")" * 2000,
        "1 + " * 5000 + "1",
    ],
)
def test_evaluate_refuses_what_is_not_plain_arithmetic(expression):
    with pytest.raises(ValueError):
        evaluate(expression)
    assert is_solution(expression, [3, 4], 7) is False


@pytest.mark.parametrize(
    ("expression", "right"),
    [
        ("(3 + 5) * 12", True),
        ("12 * (5 + 3)", True),
        ("3 * 5 * 12", False),
        ("96", False),
        ("(3 + 5) * 12 + 3 - 3", False),
        ("8 * 12", False),
        ("(3 + 5) * 12 =", False),
    ],
)
def test_a_solution_hits_the_target_with_each_number_once(expression, right):
    assert is_solution(expression, [3, 5, 12], 96) is right


def test_a_number_given_twice_must_be_used_twice():
    assert is_solution("6 * 6 + 2", [6, 2, 6], 38)
    assert not is_solution("6 + 2", [6, 2, 6], 8)


@pytest.mark.parametrize(
    "problem",
    ["", "Make 96.", "You have [3, 5, 12].", "Make 96 or 97 from [3, 5].", "[3] and [5] make 8"],
)
def test_a_text_without_one_list_and_one_target_is_refused(problem):
    with pytest.raises(ValueError, match="countdown problem"):
        numbers_and_target(problem)
