"""The depth-first search behind the `countdown` source, which writes down what it does.

`Search` holds one search; the functions below it list the steps from a state and put steps,
lists and remarks into words.
"""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from progdata.builders.countdown_phrases import (
    ANSWERS,
    BACK,
    CHECKS,
    FIRST,
    FOLLOWING,
    GUIDED,
    HITS,
    LEADS,
    LEAVING,
    MISSES,
    OPENERS,
    OPENINGS,
    ORDERS,
    RESUMING,
    RETURNING,
    STALE,
    STOCK,
    STOPS,
    SURRENDERS,
    USED,
)

_T = TypeVar("_T")
Numbers = tuple[int, ...]
Step = tuple[int, str, int, int]
_Move = tuple[Numbers, Step]

_LARGEST_PRODUCT = 2000
_UNLIMITED = 1 << 30


class Search:
    """One depth-first search and the text it leaves behind.

    A state is what is left of the numbers, an ending a state of two. `path` holds the steps to the
    state being looked at, and `seen` every state entered, so that the search enters none twice.
    `left` is how many more endings may be checked, `checked` how many were since `openings`, the
    first steps tried, was last emptied.
    """

    def __init__(self, rng: Random, numbers: Numbers, target: int) -> None:
        self.rng = rng
        self.numbers = numbers
        self.target = target
        self.order = int(rng.random() * 3)
        self.width = 2 + rng.getrandbits(2)
        self.stretch = 2 + rng.getrandbits(2)
        self.separator = "\n" if rng.random() < 0.4 else " "
        self.paragraphs: list[str] = []
        self.sentences: list[str] = []
        self.path: list[Step] = []
        self.seen: set[Numbers] = set()
        self.openings: list[str] = []
        self.checked = 0
        self.left = 0
        self.gap = _UNLIMITED
        self.nearest_path: list[Step] = []

    def begin(self) -> None:
        """Say what is asked, what is easily seen, and in which order the search will go."""
        self.say(pick(self.rng, OPENINGS).format(target=self.target, numbers=_list(self.numbers)))
        if self.rng.random() < 0.7:
            self.say(_remark(self.rng, self.numbers, self.target))
        if self.rng.random() < 0.4:
            self.end_paragraph()
        if self.rng.random() < 0.7:
            self.say(pick(self.rng, ORDERS[self.order]).format(target=self.target))
        self.end_paragraph()

    def solve(self, plan: list[Step], budget: int, guided: bool) -> bool:
        """Search with `budget` endings; where that fails and `guided`, go on along `plan`.

        Each step of the plan taken leaves a smaller search, the last of which, over three numbers,
        is complete and so succeeds.
        """
        state, depth = self.numbers, len(plan) - 2
        for level in range(depth):
            self.left = budget // depth if guided else budget
            self.openings, self.checked = [], 0
            if self.left and self.descend(state, top=True):
                return True
            if not guided:
                return False
            self.take_stock()
            state = self.follow(state, plan[level])
        self.left = _UNLIMITED
        return self.pairs(state)

    def descend(self, state: Numbers, top: bool = False) -> bool:
        """Search below a state of four or more numbers; False when done or out of budget."""
        moves = self.ordered(state)
        phrases = FOLLOWING if self.path else FIRST
        for rest, step in moves if top else moves[: self.width]:
            if self.left <= 0:
                return False
            child = (*rest, step[3])
            key = tuple(sorted(child))
            if key in self.seen:
                continue
            self.seen.add(key)
            self.enter(step, child, phrases)
            phrases = OPENERS
            if top:
                self.openings.append(f"{step[0]} {step[1]} {step[2]}")
            checked = self.checked
            if self.pairs(child) if len(child) == 3 else self.descend(child):
                return True
            self.path.pop()
            if self.left > 0:
                back = pick(self.rng, BACK) if self.checked > checked else STALE
                self.say(back.format(state=_list(state), target=self.target))
            self.end_paragraph()
        return False

    def pairs(self, state: Numbers) -> bool:
        """Search below a state of three numbers: every step, then every ending after it."""
        for (other,), step in self.ordered(state):
            if self.left <= 0:
                break
            result = step[3]
            ending = (result, other) if result >= other else (other, result)
            if ending in self.seen:
                continue
            self.seen.add(ending)
            self.checked += 1
            self.left -= 1
            dice = self.rng.getrandbits(16)
            fresh = self.checked > 1 and not self.sentences
            lead = RESUMING[dice & 7] if fresh else LEADS[dice & 7]
            head = (
                f"{lead}{step[0]} {step[1]} {step[2]} = {result}"
                f"{LEAVING[dice >> 3 & 3]}{ending[0]} and {ending[1]}: "
            )
            if self.ending(head, step, ending, dice >> 5):
                return True
            if len(self.sentences) >= self.stretch:
                self.end_paragraph()
        return False

    def ending(self, head: str, step: Step, ending: Numbers, dice: int) -> bool:
        """Try the operations on the last two numbers, high one first; True when one is a hit."""
        high, low = ending
        best, text = _tries(high, low, self.target, brief=dice & 1 == 0)
        gap = abs(best[3] - self.target)
        if gap == 0:
            self.path += (step, best)
            hit = pick(self.rng, HITS).format(target=self.target)
            self.say(f"{head}{high} {best[1]} {low} = {self.target}.{hit}")
            self.end_paragraph()
            return True
        miss = MISSES[dice >> 1 & 7]
        if gap < self.gap:
            self.gap = gap
            self.nearest_path = [*self.path, step, best]
            if gap < 10 and dice & 16:
                miss = f". Close: {best[3]} is off by {gap}."
        self.sentences.append(f"{head}{text}{miss}")
        return False

    def ordered(self, state: Numbers) -> list[_Move]:
        """Return the moves from `state` in this search's order; see `ORDERS`."""
        moves = _moves(state)
        if self.order == 0:
            draw = self.rng.random
            moves.sort(key=lambda move: draw())
        elif self.order == 1:
            target = self.target
            moves.sort(key=lambda move: abs(move[1][3] - target))
        else:
            moves.sort(key=lambda move: move[1][3])
        return moves

    def enter(self, step: Step, child: Numbers, phrases: Sequence[tuple[str, str]]) -> None:
        """Take a step and say so."""
        before, between = pick(self.rng, phrases)
        self.path.append(step)
        self.say(f"{before}{_equation(step)}{between}{_list(child)}.")

    def follow(self, state: Numbers, step: Step) -> Numbers:
        """Take a step of the plan from `state`, and return the state it leads to."""
        rest = list(state)
        rest.remove(step[0])
        rest.remove(step[2])
        child = (*rest, step[3])
        key = tuple(sorted(child))
        if key in self.seen:
            before, between = pick(self.rng, RETURNING)
            self.path.append(step)
            self.say(f"{before}{_list(child)}{between}{_equation(step)}.")
        else:
            self.seen.add(key)
            self.enter(step, child, GUIDED)
        return child

    def take_stock(self) -> None:
        """Sum up what was tried since the last such summary, if anything was."""
        if not self.checked:
            return
        first, more = self.openings[:6], len(self.openings) - 6
        stock = pick(self.rng, STOCK).format(
            openings=_list(first) if more <= 0 else f"{', '.join(first)} and {more} more",
            checked="1 ending" if self.checked == 1 else f"{self.checked} endings",
            nearest=self.nearest_path[-1][3],
            target=self.target,
        )
        self.end_paragraph()
        self.say(stock)
        self.end_paragraph()

    def conclude(self) -> str:
        """Recompute the solution found, and return the response that gives it."""
        steps = "; ".join(map(_equation, self.path))
        self.say(pick(self.rng, CHECKS).format(steps=steps))
        self.say(pick(self.rng, USED).format(numbers=_list(self.numbers)))
        self.end_paragraph()
        return self.response(ANSWERS, self.path)

    def surrender(self) -> str:
        """Give the search up, and return the response that boxes the nearest value found."""
        self.take_stock()
        self.say(pick(self.rng, STOPS).format(target=self.target))
        steps = "; ".join(map(_equation, self.nearest_path))
        self.say(f"The nearest I have is {steps}, off by {self.gap}.")
        self.end_paragraph()
        return self.response(SURRENDERS, self.nearest_path)

    def response(self, templates: Sequence[str], steps: list[Step]) -> str:
        return pick(self.rng, templates).format(
            target=self.target,
            expression=expression(self.numbers, steps),
            lines="\n".join(map(_equation, steps)),
            value=steps[-1][3],
            gap=self.gap,
        )

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def end_paragraph(self) -> None:
        if self.sentences:
            self.paragraphs.append(self.separator.join(self.sentences))
            self.sentences = []


def _moves(state: Numbers) -> list[_Move]:
    """Return every step that keeps to positive whole numbers, with the numbers it leaves alone."""
    moves: list[_Move] = []
    largest_product = _LARGEST_PRODUCT if len(state) > 3 else _UNLIMITED
    for i, x in enumerate(state):
        for j in range(i):
            y = state[j]
            rest = state[:j] + state[j + 1 : i] + state[i + 1 :]
            a, b = (x, y) if x >= y else (y, x)
            moves.append((rest, (a, "+", b, a + b)))
            if a > b:
                moves.append((rest, (a, "-", b, a - b)))
            if a * b <= largest_product:
                moves.append((rest, (a, "*", b, a * b)))
            if b > 1 and a % b == 0:
                moves.append((rest, (a, "/", b, a // b)))
    return moves


def _tries(high: int, low: int, target: int, brief: bool) -> tuple[Step, str]:
    """Return the operation on two numbers that comes nearest to `target`, and all as text.

    When `brief`, one operation stands for all where it shows that none can reach the target.
    """
    total, difference, product = high + low, high - low, high * low
    best = (high, "+", low, total)
    gap = abs(total - target)
    if abs(product - target) < gap:
        best, gap = (high, "*", low, product), abs(product - target)
    if abs(difference - target) < gap and difference:
        best, gap = (high, "-", low, difference), abs(difference - target)
    whole = low > 1 and high % low == 0
    if whole and abs(high // low - target) < gap:
        best = (high, "/", low, high // low)
    if brief and total < target and product < target:
        return best, f"at most {_equation(best)}, too small"
    if brief and difference > target and not whole:
        return best, f"even {high} - {low} = {difference} is above {target}"
    text = f"{high} + {low} = {total}, {high} - {low} = {difference}, {high} * {low} = {product}"
    return best, f"{text}, {high} / {low} = {high // low}" if whole else text


def _remark(rng: Random, numbers: Numbers, target: int) -> str:
    """Say something true about the problem that a solver would look at first."""
    largest, total = max(numbers), sum(numbers)
    divisors = [number for number in numbers if number > 1 and target % number == 0]
    if divisors and rng.random() < 0.6:
        divisor = divisors[-1]
        quotient = target // divisor
        return f"Note that {target} / {divisor} = {quotient}, so {quotient} from the rest would do."
    if rng.random() < 0.5:
        relation = "exactly" if total == target else "less than" if total < target else "more than"
        return f"Added up they make {total}, {relation} the target."
    if largest > target:
        return f"The largest, {largest}, is already above {target}, so something must come down."
    return f"The largest is {largest}, and {target} - {largest} = {target - largest} is missing."


def expression(numbers: Numbers, steps: list[Step]) -> str:
    """Write the steps as one expression, with the parentheses it needs and no others."""
    pool: dict[int, list[tuple[str, str]]] = {}
    for number in numbers:
        pool.setdefault(number, []).append((str(number), ""))
    text = ""
    for a, operator, b, result in steps:
        left, left_operator = pool[a].pop()
        right, right_operator = pool[b].pop()
        if operator in "*/" and left_operator in ("+", "-"):
            left = f"({left})"
        if right_operator and (operator == "/" or (right_operator in "+-" and operator != "+")):
            right = f"({right})"
        text = f"{left} {operator} {right}"
        pool.setdefault(result, []).append((text, operator))
    return text


def _equation(step: Step) -> str:
    return f"{step[0]} {step[1]} {step[2]} = {step[3]}"


def _list(items: Sequence[object]) -> str:
    return ", ".join(map(str, items))


def pick(rng: Random, options: Sequence[_T]) -> _T:
    return options[int(rng.random() * len(options))]
