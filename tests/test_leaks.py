"""Leaks of known kind, planted by the contamination benchmark."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import needs_shared_data, read_rows

from progdata.verifiers.generated_problems import generated_problems
from progdata.verifiers.leak_words import NOUNS, NUMBER_WORDS, PHRASES, SPELLINGS
from progdata.verifiers.leaks import HALF_WORDS, LEAKS, count_words
from progdata.verifiers.word_hashes import find_words

GENERATED = generated_problems(seed=7, count=300)

REMAINDER = (
    "Every morning Aya goes for a $9$-kilometer-long walk. Let $N$ be the number of steps, where "
    r"$N \le \dfrac{12{,}000}{7}$. Find the remainder when $N$ is divided by $12$."
)

FORMULA = re.compile(r"\$[^$]*\$")


def leaked(kind: str, text: str, seed: int = 0) -> str | None:
    return LEAKS[kind](text, Random(seed))


def each_leak(kind: str, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Generated problems and what a kind makes of them, where it applies."""
    found = [(text, leaked(kind, text, seed)) for text in GENERATED]
    applied = [(text, leak) for text, leak in found if leak is not None]
    assert len(applied) > 150, kind
    return iter(applied)


def normal_words(text: str) -> list[int]:
    return find_words([text]).hashes.tolist()


# --- all kinds


def test_the_kinds_are_those_of_the_benchmark():
    assert list(LEAKS) == [
        "verbatim",
        "reformatted",
        "case_and_punctuation",
        "embedded",
        "first_half",
        "second_half",
        "sentence_order",
        "numbers_changed",
        "names_changed",
        "spelling",
    ]


@pytest.mark.parametrize("kind", LEAKS)
def test_a_leak_depends_on_the_text_and_the_generator_alone(kind):
    for text in GENERATED[:50]:
        assert leaked(kind, text, 3) == leaked(kind, text, 3)


@pytest.mark.parametrize("kind", [kind for kind in LEAKS if kind != "verbatim"])
def test_a_leak_is_not_the_text_itself(kind):
    assert all(leak != text for text, leak in each_leak(kind))


@pytest.mark.parametrize("kind", LEAKS)
@given(text=st.text(st.sampled_from("ab1 2.,$\\()[]{}^_?\n\u00e9\u4e2d") | st.characters()))
def test_any_text_leaks_or_does_not_apply(kind, text):
    leak = leaked(kind, text)
    assert leak is None or isinstance(leak, str)


@pytest.mark.parametrize("kind", LEAKS)
@pytest.mark.parametrize(
    "text",
    [
        "word " * 60_000,
        "$x$ and $12$. " * 20_000,
        r"\( 3 " * 60_000,
        "a\u4e2d\u6587\u3002" * 9000,
    ],
    ids=["words", "sentences", "unclosed", "chinese"],
)
def test_the_time_grows_with_the_text_alone(kind, text):
    """300 kB: where it grew with the square of the length, unclosed formulas took minutes."""
    begun = time.process_time()
    leaked(kind, text)
    assert time.process_time() - begun < 10


# --- verbatim, reformatted, case, embedded


def test_verbatim_is_the_text():
    assert all(leaked("verbatim", text) == text for text in GENERATED)


def test_reformatted_text_has_the_same_words_and_formulas():
    for text, leak in each_leak("reformatted"):
        assert normal_words(leak) == normal_words(text), leak


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$x$", r"\(x\)"),
        ("$$x$$", r"\[x\]"),
        (r"\(x\)", "$x$"),
        (r"\[x\]", "$$x$$"),
        (r"$\dfrac{1}{2}$", r"\(\frac{1}{2}\)"),
        (r"$\frac12$", r"\(\dfrac{1}{2}\)"),
        (r"$a \le b \geq c$", r"\(a \leq b \ge c\)"),
        (r"$1, \ldots, n$", r"\(1, \dots, n\)"),
        (r"$x^2_i$", r"\(x^{2}_{i}\)"),
        (r"\$3 and $x$", r"\$3 and \(x\)"),
    ],
)
def test_formulas_are_written_in_another_way(text, expected):
    assert {" ".join((leaked("reformatted", text, seed) or "").split()) for seed in range(20)} == {
        expected
    }


def test_reformatted_drawings_keep_their_code():
    text = "Find $x$. [asy] draw((0,0)--(1,1)); [/asy]"
    leak = leaked("reformatted", text)
    assert leak is not None
    assert "[asy] draw((0,0)--(1,1)); [/asy]" in " ".join(leak.split())


def test_case_and_punctuation_change_nothing_else():
    changed_case = 0
    for text, leak in each_leak("case_and_punctuation"):
        assert FORMULA.findall(leak) == FORMULA.findall(text)
        letters = [re.sub(r"[\s.,;:!?]", "", own).lower() for own in (text, leak)]
        assert letters[0] == letters[1]
        changed_case += leak.isupper() or leak.lower() == leak or leak.istitle()
    assert changed_case


def test_decimals_keep_their_point():
    for seed in range(20):
        leak = leaked("case_and_punctuation", "It costs 3.50, or 1,200 in all.", seed)
        assert leak is not None
        assert "3.50" in leak
        assert "1,200" in leak


def test_an_embedded_text_stands_inside_a_longer_one():
    for text, leak in each_leak("embedded"):
        before, _, after = leak.partition(text)
        assert count_words(before) >= 12, leak
        assert count_words(after) >= 12, leak


# --- halves and order


@pytest.mark.parametrize("kind", ["first_half", "second_half"])
def test_a_half_is_the_beginning_or_the_end_of_the_text(kind):
    for text, leak in each_leak(kind):
        assert text.startswith(leak) if kind == "first_half" else text.endswith(leak)
        assert count_words(leak) >= HALF_WORDS
        assert 0.2 < len(leak) / len(text) < 0.8, leak


def test_halves_make_up_the_whole():
    for text in GENERATED:
        halves = [leaked(kind, text) for kind in ("first_half", "second_half")]
        if None not in halves:
            assert " ".join(map(str, halves)).split() == text.split()


def test_halves_do_not_cut_formulas():
    for kind in ("first_half", "second_half"):
        assert all(leak.count("$") % 2 == 0 for _, leak in each_leak(kind))


def test_a_half_ends_with_a_sentence_where_one_ends_near_the_middle():
    text = f"{'One two three four five six seven. ' * 2}{'Eight nine ten and so on too. ' * 2}"
    assert leaked("first_half", text) == "One two three four five six seven. " * 1 + (
        "One two three four five six seven."
    )


@pytest.mark.parametrize("words", [2, 11, 20])
def test_a_short_half_is_not_planted(words):
    text = " ".join(f"word{i}" for i in range(words))
    assert leaked("first_half", text) is leaked("second_half", text) is None


def test_words_of_drawings_do_not_make_a_half():
    text = f"{'word ' * 14}.\n[asy] {'draw(a, b); ' * 14}[/asy]"
    assert leaked("second_half", text) is None


def test_sentences_change_places_only():
    for text, leak in each_leak("sentence_order"):
        assert Counter(text.split()) == Counter(leak.split())
        assert text.split() != leak.split()


@pytest.mark.parametrize(
    "text", ["Find $x$.", "Find $x$ where $y. z$ is 3.5 and so on", "Twice. Twice.", ""]
)
def test_one_sentence_has_no_other_order(text):
    assert leaked("sentence_order", text) is None


# --- changed words


def test_all_numbers_change_and_keep_their_length():
    for text, leak in each_leak("numbers_changed"):
        own, other = (re.findall(r"\d+(?:\.\d+)?", one) for one in (text, leak))
        assert [len(number) for number in own] == [len(number) for number in other]
        assert all(one != two for one, two in zip(own, other, strict=True)), leak


def test_nothing_but_numbers_changes():
    words = re.compile(rf"\d|\b(?:{'|'.join(NUMBER_WORDS)})\b", re.IGNORECASE)
    for text, leak in each_leak("numbers_changed"):
        assert words.sub("0", text) == words.sub("0", leak)


def test_a_number_is_the_same_wherever_it_stands():
    leak = leaked("numbers_changed", REMAINDER)
    assert leak is not None
    known = re.fullmatch(
        r"Every morning Aya goes for a \$(\d)\$-kilometer.*dfrac\{(\d\d)\{,\}(\d{3})\}\{\d\}\$\. "
        r"Find the remainder when \$N\$ is divided by \$(\d\d)\$\.",
        leak,
    )
    assert known is not None, leak
    assert known[2] == known[4] != "12"


def test_number_words_change_as_well():
    leak = leaked("numbers_changed", "Three of twelve boys")
    assert leak is not None
    assert re.fullmatch(r"[A-Z]\w+ of [a-z]+ boys", leak)
    assert not {"Three", "twelve"} & set(leak.split())


def test_a_text_without_numbers_has_none_to_change():
    assert leaked("numbers_changed", "Find $x$ such that $x = y$, and be often gone.") is None


def test_names_change_and_formulas_do_not():
    for text, leak in each_leak("names_changed"):
        assert FORMULA.findall(text) == FORMULA.findall(leak)
        own, other = (re.findall(r"[A-Za-z]+", FORMULA.sub("", one)) for one in (text, leak))
        changed = {(a, b) for a, b in zip(own, other, strict=True) if a != b}
        assert changed
        assert all(a in NOUNS or a.lower() in NOUNS for a, _ in changed)
        assert len({a.lower() for a, _ in changed}) == len({b.lower() for _, b in changed}), leak


@pytest.mark.parametrize("seed", range(5))
def test_a_name_is_the_same_wherever_it_stands(seed):
    leak = leaked("names_changed", "Alice gives Bob 3 red apples. Bob thanks Alice.", seed)
    assert leak is not None
    found = re.fullmatch(r"(\w+) gives (\w+) 3 (\w+) (\w+)s. (\w+) thanks (\w+)\.", leak)
    assert found is not None
    assert found[1] == found[6] != "Alice"
    assert found[2] == found[5] != "Bob"
    assert found[3] != "red"
    assert found[4] != "apple"


def test_a_text_without_known_nouns_has_no_names_to_change():
    assert leaked("names_changed", "Find the sum of all $x$ with $x^2 = 4$.") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The color is gray.", {"The colour is grey."}),
        ("Her neighbour walks 3 kilometres.", {"Her neighbor walks 3 kilometers."}),
        ("Find $x$ such that $find = 2$.", {"Determine", "Work out"}),
        ("How many integers", {"What number of whole numbers", "Which number of whole numbers"}),
        ("relatively prime positive integers", {"coprime natural numbers"}),
    ],
)
def test_spelling_and_phrases_change(text, expected):
    leaks = {leaked("spelling", text, seed) or "" for seed in range(30)}
    if text.startswith("Find"):
        assert {leak.partition(" $x$")[0] for leak in leaks} == expected
        assert all(leak.endswith("$find = 2$.") for leak in leaks)
    else:
        assert leaks == expected


def test_every_spelling_and_phrase_is_changed_to_another():
    for own, other in SPELLINGS:
        assert leaked("spelling", f"an {own} one") == f"an {other} one"
        assert leaked("spelling", f"an {other} one") == f"an {own} one"
    for phrase, others in PHRASES:
        assert phrase not in others
        assert leaked("spelling", f"so {phrase} it") in {f"so {other} it" for other in others}


def test_a_text_that_has_no_other_spelling_is_not_planted():
    assert leaked("spelling", "$x + 1 = 2$, so $x$?") is None


# --- real problems


@needs_shared_data
def test_most_kinds_apply_to_most_real_problems():
    problems = [row["problem"] for row in read_rows("benchmarks/olympiadbench.jsonl.gz")]
    applied = {
        kind: sum(leaked(kind, text) is not None for text in problems) / len(problems)
        for kind in LEAKS
    }
    assert min(applied.values()) > 0.15
    assert min(applied[kind] for kind in ("reformatted", "case_and_punctuation")) > 0.99
    assert applied["numbers_changed"] > 0.8
    assert applied["spelling"] > 0.9


@needs_shared_data
def test_reformatted_real_problems_have_the_same_words():
    r"""All but a few: `\frac12` becomes `\frac{1}{2}`, which has a word more."""
    problems = [row["problem"] for row in read_rows("benchmarks/math500.jsonl.gz")]
    same = [
        normal_words(leaked("reformatted", text) or "") == normal_words(text) for text in problems
    ]
    assert sum(same) / len(same) > 0.9
