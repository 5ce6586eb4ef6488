"""Generated problems: what the contamination benchmark leaks from and into."""

import hashlib
import re
from random import Random

import pytest

from progdata.verifiers.generated_problems import (
    ENDINGS,
    TEMPLATES,
    draw_problem,
    fill,
    generated_problems,
    problem_at,
)
from progdata.verifiers.generated_templates import Template

FIRST_PROBLEMS_SHA256 = "ed677a7688e8c96cedeb2133b467822f35fa5f193b3da2f5e337ababcc8b8f76"
LONGEST_SHARED = 0.5
"""Of two problems' 5-grams, beyond the endings that contests share."""

_ENDING_WORDS = tuple(
    re.split(r"\{[Qq]uantity\}", ending)[-1].strip(" .")[:40] for ending in ENDINGS
)


@pytest.fixture(scope="module")
def problems() -> list[str]:
    return generated_problems(seed=0, count=3000)


def has_ending(problem: str) -> bool:
    return any(words in problem for words in _ENDING_WORDS)


def masked_ngrams(problem: str, n: int = 5) -> set[tuple[str, ...]]:
    """The n-grams of words, numbers and signs of a problem, all numbers the same."""
    words = re.findall(r"[a-z]+|\d+|[^\sa-z\d]", problem.lower())
    words = ["0" if word.isdigit() else word for word in words if word not in "$.,{}()"]
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def test_a_seed_gives_the_same_problems_everywhere():
    text = "\n".join(generated_problems(seed=0, count=500))
    assert hashlib.sha256(text.encode()).hexdigest() == FIRST_PROBLEMS_SHA256


def test_a_longer_list_begins_with_the_shorter_one(problems):
    assert generated_problems(seed=0, count=20) == problems[:20]
    assert problem_at(0, 19) == problems[19]


def test_seeds_give_other_problems(problems):
    assert not set(problems) & set(generated_problems(seed=1, count=3000))
    assert len(set(problems)) == len(problems)


def test_a_negative_count_is_refused():
    assert generated_problems(seed=0, count=0) == []
    with pytest.raises(ValueError, match="-1 problems"):
        generated_problems(seed=0, count=-1)


def test_problems_have_12_to_120_words_of_all_lengths(problems):
    words = sorted(len(problem.split()) for problem in problems)
    assert words[0] >= 12
    assert words[-1] <= 120
    assert words[len(words) // 20] < 30
    assert words[-len(words) // 20] > 75


def test_there_are_many_kinds():
    assert len(TEMPLATES) == len({template.kind for template in TEMPLATES}) >= 40


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.kind)
def test_nothing_of_a_template_is_left_unfilled(template):
    for seed in range(60):
        problem = fill(template, Random(seed))
        assert not re.search(r"<|>|\[\[|\]\]|\{[Qq]uantity\}|\|| ,|  ", problem), problem
        assert problem.count("$") % 2 == 0, problem
        assert problem.count("{") == problem.count("}"), problem
        assert not problem[0].islower(), problem


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.kind)
def test_problems_of_one_template_share_less_than_their_half(template):
    """Even with all numbers masked, so that none of them is a leak of another."""
    plain = Template(template.kind, template.story, template.quantity)
    texts = [fill(plain, Random(seed)) for seed in range(200)]
    texts = [text for text in texts if not has_ending(text)][:60]
    grams = [masked_ngrams(text) for text in texts]
    shares = sorted(
        len(one & other) / min(len(one), len(other))
        for i, one in enumerate(grams)
        for other in grams[:i]
    )
    assert shares[int(len(shares) * 0.99)] < LONGEST_SHARED


def test_a_third_ends_as_contests_do(problems):
    share = sum(map(has_ending, problems)) / len(problems)
    assert abs(share - 1 / 3) < 0.03


def test_endings_are_a_trap_for_a_rule_that_counts_any_8_words(problems):
    items = {
        ngram for item in generated_problems(1, 300) for ngram in word_ngrams(item, 8)
    }  # fmt: skip
    flagged = [bool(items & word_ngrams(problem, 8)) for problem in problems]
    with_ending = [
        flag for flag, problem in zip(flagged, problems, strict=True) if has_ending(problem)
    ]
    assert sum(with_ending) / len(with_ending) > 0.9
    assert sum(flagged) / len(flagged) < 0.75


def word_ngrams(text: str, n: int) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def test_a_named_slot_says_the_same_again_and_others_say_something_else():
    template = Template(
        "t", "<name:a> likes <name:b>, <name:a> said.", "the <1-3> <crop> of <name>"
    )
    for seed in range(300):
        names = re.match(r"(\w+) likes (\w+), (\w+) said\.", fill(template, Random(seed)))
        assert names is not None
        assert names[1] == names[3] != names[2]


def test_alternatives_may_stand_in_one_another():
    template = Template("t", "", "it[[, the [[big|small]] <month>|]]")
    found = [re.search(r"[Ii]t(?:, the (big|small) \w+)?\b", fill(template, Random(seed)))
             for seed in range(200)]  # fmt: skip
    assert {own[1] for own in found if own} == {"big", "small", None}


def test_articles_fit_what_follows(problems):
    assert not [own for own in problems if re.search(r"\b[Aa] [aeio][a-z]", own)]
    assert any(re.search(r"\b[Aa]n [aeio][a-z]", own) for own in problems)


def test_a_generator_goes_on_to_the_next_problem():
    rng = Random(0)
    assert draw_problem(rng) != draw_problem(rng)
