r"""The built-in `countdown` source: problems and depth-first search traces, made from a seed.

The task is that of DeepScaleR, section 4.2: reach a target from a list of numbers with + - * /,
each number used exactly once. The thinking is the log of a search that really ran: every equation
in it is true, every dead end missed the target, and what is counted or called nearest was so.

Two things are chosen from outside the search, so that lengths and outcomes have known rates. A
search that has used up its budget is moved on to the next step of the expression the problem was
made from (`Search.solve`), and `WRONG_RATE` of the rows get no such help, stop, and say so.

Row `index` depends on (seed, index) alone. Only `random()` is drawn from, whose sequence Python
promises to keep from version to version, and `getrandbits()`, the raw words of the same Mersenne
Twister; `shuffle`, `choice` and `gauss` carry no such promise.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from random import Random

from progdata.builders.countdown_phrases import PROBLEMS
from progdata.builders.countdown_search import Numbers, Search, Step, expression, pick

WRONG_RATE: float = 0.03
CUT_RATE: float = 0.02

# A problem's count of numbers is drawn from _COUNTS, their upper bound from _LARGEST_NUMBER[count].
_TARGETS = range(10, 1000)
_COUNTS = (3, 3, 3, 4, 4, 4, 5, 6)
_LARGEST_NUMBER = {3: (99,), 4: (25, 50, 99), 5: (12, 25, 75), 6: (12, 25, 75)}
# (cumulative share of the rows, least, most): endings checked before a search is guided. This sets
# the lengths: an ending is about 17 words, so the median row has 300 words and the longest 8,000.
_BUDGETS = (
    (0.12, 0, 3),
    (0.42, 3, 14),
    (0.74, 14, 36),
    (0.92, 36, 80),
    (0.98, 80, 170),
    (1, 170, 260),
)

_PRECEDENCE = {"(": 0, "+": 1, "-": 1, "*": 2, "/": 2}
_TOKEN = re.compile(r"\s*(?:([0-9]{1,18}|[-+*/()])|(\S))")
_LONGEST_EXPRESSION = 1000


@dataclass(frozen=True, slots=True)
class CountdownTrace:
    """One problem and one completion; `answer` is always right, the completion not always.

    `finish_reason` is "stop", or "length" for a completion cut off before `</think>`.
    """

    problem: str
    answer: str
    completion: str
    finish_reason: str


def trace_at(seed: int, index: int) -> CountdownTrace:
    """Return row `index` of the endless table that `seed` stands for.

    Of the rows, `CUT_RATE` are cut off in mid-thinking and `WRONG_RATE` end in an answer that
    misses the target and says so. Raises ValueError for a negative index.

    >>> row = trace_at(seed=0, index=7)
    >>> is_solution(row.answer, *numbers_and_target(row.problem))
    True
    """
    if index < 0:
        raise ValueError(f"countdown row {index}: expected an index of 0 or more")
    name = f"progdata countdown {seed} {index}".encode()
    rng = Random(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big"))
    fate = rng.random()
    cut, wrong = fate < CUT_RATE, CUT_RATE <= fate < CUT_RATE + WRONG_RATE
    # An unguided search that succeeds is dealt a new problem, or fewer rows would be wrong.
    while True:
        numbers, plan = _deal(rng, smallest=4 if cut or wrong else 3)
        search = Search(rng, numbers, plan[-1][3])
        search.begin()
        solved = search.solve(plan, _budget(rng, least=8 if cut or wrong else 0), guided=not wrong)
        if solved != wrong:
            break
    response = search.conclude() if solved else search.surrender()
    think = "\n\n".join(search.paragraphs)
    completion = f"<think>\n{_cut(think, rng) if cut else think}"
    return CountdownTrace(
        problem=pick(rng, PROBLEMS).format(numbers=list(numbers), target=search.target),
        answer=expression(numbers, plan),
        completion=completion if cut else f"{completion}\n</think>\n\n{response}",
        finish_reason="length" if cut else "stop",
    )


def traces(seed: int, start: int, stop: int) -> Iterator[CountdownTrace]:
    """Yield the rows `start` up to, not including, `stop`; see `trace_at`."""
    for index in range(start, stop):
        yield trace_at(seed, index)


def numbers_and_target(problem: str) -> tuple[list[int], int]:
    """Read the numbers and the target back from the text of a problem of this source.

    Raises ValueError where the text does not hold one bracketed list and one other number.

    >>> numbers_and_target("Make 96. You have [12, 5, 3], each to be used exactly once.")
    ([12, 5, 3], 96)
    """
    lists = re.findall(r"\[([0-9]+(?:, [0-9]+)*)\]", problem)
    targets = re.findall(r"[0-9]+", re.sub(r"\[[^\]]*\]", "", problem))
    if len(lists) != 1 or len(targets) != 1:
        raise ValueError(
            f"countdown problem {problem[:80]!r}: expected one list like [3, 5, 12] and one "
            f"target, found {len(lists)} and {len(targets)}"
        )
    return [int(number) for number in re.findall(r"[0-9]+", lists[0])], int(targets[0])


def is_solution(expression: str, numbers: Sequence[int], target: int) -> bool:
    """Whether `expression` equals `target` and uses each of `numbers` exactly once.

    >>> is_solution("(5 + 3) * 12", [3, 5, 12], 96)
    True
    """
    try:
        value = evaluate(expression)
    except ValueError:
        return False
    used = sorted(int(number) for number in re.findall(r"[0-9]+", expression))
    return value == target and used == sorted(numbers)


def evaluate(expression: str) -> Fraction:
    """Return the exact value of an expression of whole numbers, + - * / and parentheses.

    There is no sign, power, name or call in this language. Raises ValueError for anything else,
    for a division by zero, and beyond 18 digits a number or 1000 characters.

    >>> evaluate("(3 + 5) / 12")
    Fraction(2, 3)
    """
    values: list[Fraction] = []
    operators: list[str] = []
    operand_next = True
    for token in _tokens(expression):
        if operand_next is not (token == "(" or token.isdigit()):
            raise ValueError(f"expression {expression[:80]!r}: {token!r} is out of place")
        if token == "(":
            operators.append(token)
        elif token.isdigit():
            values.append(Fraction(int(token)))
            operand_next = False
        elif token == ")":
            _apply(values, operators, at_least=1)
            if not operators:
                raise ValueError(f"expression {expression[:80]!r}: ')' without '('")
            operators.pop()
        else:
            _apply(values, operators, at_least=_PRECEDENCE[token])
            operators.append(token)
            operand_next = True
    if operand_next:
        raise ValueError(f"expression {expression[:80]!r}: it is empty or not finished")
    _apply(values, operators, at_least=1)
    if operators:
        raise ValueError(f"expression {expression[:80]!r}: '(' without ')'")
    return values[0]


def _tokens(expression: str) -> list[str]:
    if len(expression) > _LONGEST_EXPRESSION:
        raise ValueError(f"expression of {len(expression)} characters: expected 1000 at most")
    tokens: list[str] = []
    for token, stray in _TOKEN.findall(expression):
        if stray:
            raise ValueError(f"expression {expression[:80]!r}: {stray!r} is not arithmetic")
        tokens.append(token)
    return tokens


def _apply(values: list[Fraction], operators: list[str], at_least: int) -> None:
    while operators and _PRECEDENCE[operators[-1]] >= at_least:
        right, left = values.pop(), values.pop()
        match operators.pop():
            case "+":
                values.append(left + right)
            case "-":
                values.append(left - right)
            case "*":
                values.append(left * right)
            case _:
                if right == 0:
                    raise ValueError("division by zero in a countdown expression")
                values.append(left / right)


def _deal(rng: Random, smallest: int) -> tuple[Numbers, list[Step]]:
    """Draw numbers and the steps of an expression over them; its value is the target."""
    draw = rng.random
    count = max(smallest, pick(rng, _COUNTS))
    largest = pick(rng, _LARGEST_NUMBER[count])
    while True:
        numbers = (2 + int(draw() * 11), *(1 + int(draw() * largest) for _ in range(count - 1)))
        state, plan = list(numbers), list[Step]()
        while len(state) > 1:
            x = state.pop(int(draw() * len(state)))
            y = state.pop(int(draw() * len(state)))
            plan.append(_random_step(draw(), max(x, y), min(x, y)))
            state.append(plan[-1][3])
        if state[0] in _TARGETS and state[0] not in numbers:
            turn = int(draw() * count)
            return numbers[turn:] + numbers[:turn], plan


def _random_step(share: float, a: int, b: int) -> Step:
    if share < 0.1 and b > 1 and a % b == 0:
        return a, "/", b, a // b
    if share < 0.5 and b > 1 and a * b < _TARGETS.stop:
        return a, "*", b, a * b
    if share < 0.75 and a > b:
        return a, "-", b, a - b
    return a, "+", b, a + b


def _budget(rng: Random, least: int) -> int:
    """Draw how many endings a search may check before it is guided or given up."""
    share = rng.random()
    _, low, high = next(row for row in _BUDGETS if share < row[0])
    return max(least, low + int(rng.random() * (high - low)))


def _cut(think: str, rng: Random) -> str:
    """Cut somewhere in the later part, at the end of a word."""
    return think[: int(len(think) * (0.4 + 0.57 * rng.random()))].rsplit(maxsplit=1)[0]
