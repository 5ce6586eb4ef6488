r"""Clean maths problems, made by a seed: what the contamination benchmark leaks from and into.

A problem is a template filled with words, numbers and formulas. Those of two seeds share no long
run of words beyond the endings that contests share (`ENDINGS`), which a third of them bear. They
are made to be told apart and not to be solved: some have no answer.
"""

import hashlib
import re
from random import Random

from progdata.builders.countdown_search import pick
from progdata.verifiers.generated_exercises import EXERCISES
from progdata.verifiers.generated_formulas import CONSTANT, OF_VARIABLE, whole
from progdata.verifiers.generated_stories import STORIES
from progdata.verifiers.generated_templates import Template
from progdata.verifiers.generated_vocabulary import VOCABULARY

TEMPLATES = (*STORIES, *EXERCISES)

ENDINGS = (
    r"{Quantity} can be written as $\frac{m}{n}$, where $m$ and $n$ are relatively prime "
    "positive integers. Find $m+n$.",
    r"{Quantity} can be expressed in the form $\frac{p}{q}$, where $p$ and $q$ are relatively "
    "prime positive integers. What is $p+q$?",
    r"{Quantity} can be written in the form $a\sqrt{b}$, where $a$ and $b$ are positive integers "
    "and $b$ is not divisible by the square of any prime. Find $a+b$.",
    "Let $N$ be {quantity}. Find the remainder when $N$ is divided by $1000$.",
    "Find {quantity}. Express your answer as a common fraction in lowest terms.",
)
"""Endings that contests share, for `BOILERPLATE` of the problems."""

BOILERPLATE = 1 / 3

QUESTIONS = (
    "Find {quantity}.",
    "What is {quantity}?",
    "Determine {quantity}.",
    "Compute {quantity}.",
    "Calculate {quantity}.",
    "We are looking for {quantity}.",
    "Work out {quantity}.",
    "{Quantity} is wanted.",
)

_ALTERNATIVES = re.compile(r"\[\[((?:(?!\[\[|\]\]).)*)\]\]")
_SLOT = re.compile(r"<(\d+)-(\d+)>|<(\w+)(?:([:/])(\w+))?>")
_ARTICLE = re.compile(r"\b([Aa])(?= [aeio])")
_SENTENCE = re.compile(r"(?:^|(?<=[.?!] ))[a-z]")


def generated_problems(seed: int | str, count: int) -> list[str]:
    """The first `count` problems of the endless list that `seed` stands for, each 12 to 120 words.

    Raises ValueError for a negative count.

    >>> len(generated_problems(seed=0, count=3))
    3
    """
    if count < 0:
        raise ValueError(f"{count} problems: expected a number of 0 or more")
    return [problem_at(seed, index) for index in range(count)]


def problem_at(seed: int | str, index: int) -> str:
    """Problem `index` of those that `seed` stands for."""
    name = f"progdata problem {seed} {index}".encode()
    return draw_problem(
        Random(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big"))
    )


def draw_problem(rng: Random) -> str:
    """A problem by the next numbers of `rng`."""
    return fill(pick(rng, TEMPLATES), rng)


def fill(template: Template, rng: Random) -> str:
    """A problem of one template."""
    names: dict[str, str] = {}
    story = _expand(template.story, rng, names)
    quantity = _expand(template.quantity, rng, names)
    ending = pick(rng, ENDINGS if rng.random() < BOILERPLATE else QUESTIONS)
    question = ending.replace("{quantity}", quantity)
    question = question.replace("{Quantity}", quantity)
    text = _ARTICLE.sub(r"\1n", f"{story} {question}".strip()).replace(" ,", ",")
    return _SENTENCE.sub(lambda start: start[0].upper(), text)


def _expand(text: str, rng: Random, names: dict[str, str]) -> str:
    """A text with its alternatives chosen, the innermost first, and its slots filled."""
    while found := _ALTERNATIVES.search(text):
        text = text[: found.start()] + pick(rng, found[1].split("|")) + text[found.end() :]
    text = _SLOT.sub(lambda slot: _fill_slot(slot, rng, names), text)
    return " ".join(text.split())


def _fill_slot(slot: re.Match[str], rng: Random, names: dict[str, str]) -> str:
    """What stands in a slot; `names` holds what stands in those that have a name."""
    low, high, kind, mark, name = slot.groups()
    if low:
        return str(whole(rng, int(low), int(high)))
    if kind in CONSTANT:
        return CONSTANT[kind](rng)
    if mark == "/":
        return OF_VARIABLE[kind](rng, _word("var", name, rng, names))
    return _word(kind, name, rng, names)


def _word(kind: str, name: str | None, rng: Random, names: dict[str, str]) -> str:
    """A word of a kind, other than those with a name; the same again for the same name."""
    if name in names:
        return names[name]
    word = pick(rng, VOCABULARY[kind])
    while word in names.values():
        word = pick(rng, VOCABULARY[kind])
    if name:
        names[name] = word
    return word
