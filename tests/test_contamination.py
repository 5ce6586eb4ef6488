"""The profiles of contamination: what each convicts, and what it must not."""

from collections.abc import Sequence

import pytest
from shared_data import needs_shared_data, read_rows

from progdata.builders.errors import ProgdataError, UsageError
from progdata.verifiers.contamination import Match, find_matches, weighted
from progdata.verifiers.contamination_profiles import PROFILES, find_leaks

LEAK = (
    "A farmer has 17 sheep, 23 goats and a barn that holds exactly 12 animals on every floor. "
    "How many floors does the barn need so that no goat sleeps beside a sheep?"
)
BOILERPLATE = (
    "The answer can be written as $\\frac{m}{n}$, where $m$ and $n$ are relatively prime positive "
    "integers. Find $m+n$."
)
OTHERS = [
    f"A {thing} of length {7 * n} is cut into {n} pieces at random. Which piece is expected to be "
    f"the longest of all {thing} pieces? {BOILERPLATE}"
    for n, thing in enumerate(["rod", "rope", "string", "wire", "ribbon", "chain", "cable"] * 6, 2)
]


def reasons(problem: str, items: Sequence[str] = (LEAK,), profile: str = "weighted") -> list[str]:
    """Why a problem among others is flagged."""
    found = find_leaks([*OTHERS, problem], items, profile)
    return [match.reason for match in found if match.row == len(OTHERS)]


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (LEAK, "same text"),
        (LEAK.upper().replace(",", " ,"), "same text"),
        (f"Here is a nice one for you. {LEAK} Explain your answer in full.", "shared text"),
        (LEAK.split(". ")[0], "shared text"),
        (LEAK.split(". ")[1], "shared text"),
        (". ".join(reversed(LEAK.split(". "))), "shared text"),
        (LEAK.replace("17", "31").replace("23", "45").replace("12", "16"), "numbers changed"),
    ],
)
def test_weighted_finds_a_leak_and_says_how_it_was_changed(problem, reason):
    assert reasons(problem) == [reason]


@pytest.mark.parametrize(
    "problem",
    [
        f"Two dice are rolled until both show six. How long does it take? {BOILERPLATE}",
        "A farmer has a field of wheat and sells it for 12 dollars an acre. What does he get?",
        "How many?",
        "17 23 12",
        "",
    ],
)
def test_weighted_convicts_nobody_for_boilerplate_or_a_few_words(problem):
    items = [LEAK, *(f"Item {n} is about {'xyz'[n % 3]}. {BOILERPLATE}" for n in range(40))]
    assert reasons(problem, items) == []


def test_the_same_problem_as_two_items_gives_two_matches():
    found = find_leaks([LEAK], [LEAK, LEAK.lower()], "weighted")
    assert [(match.row, match.item, match.score) for match in found] == [(0, 0, 1.0), (0, 1, 1.0)]


@pytest.mark.parametrize("text", ["Compute 3!", "Prove it now", "x"])
def test_a_short_item_matches_only_the_same_words(text):
    assert reasons(text.lower(), [text]) == ["same text"]
    assert reasons(f"{text} and then something else", [text]) == []


def test_the_evidence_is_the_longest_run_of_both_texts():
    problem = "To begin with, a farmer has 17 sheep, 23 goats and a barn that holds exactly 12."
    (match,) = [own for own in find_leaks([*OTHERS, problem], [LEAK]) if own.row == len(OTHERS)]
    assert match.row_text == "a farmer has 17 sheep, 23 goats and a barn that holds exactly 12"
    assert match.item_text == match.row_text


def test_blocks_do_not_change_what_is_found():
    problems = [*OTHERS, LEAK] * 60
    whole = find_leaks(problems, [LEAK, OTHERS[3]])
    detector = weighted([LEAK, OTHERS[3]], problems)
    alone = [
        Match(row, own.item, own.reason, own.score, own.row_text, own.item_text)
        for row, problem in enumerate(problems)
        for own in detector.look([problem])
    ]
    assert alone == whole
    assert list(find_matches(iter(problems), detector)) == whole


@pytest.mark.parametrize(
    ("profile", "problem", "flagged"),
    [
        ("ngram-8", "a farmer has 17 sheep, 23 goats and more", True),
        ("ngram-8", "a farmer has 17 sheep , 23 goats and more", False),  # glued punctuation
        ("ngram-8", BOILERPLATE, False),
        ("ngram-13", LEAK.split(". ")[1], True),
        ("ngram-13", "a farmer has 17 sheep 23 goats and a barn that holds", False),
        ("ngram-13", "a farmer has 17 sheep 23 goats and a barn that holds exactly", True),
        ("coverage-50", LEAK.split(". ")[0], True),
        ("coverage-50", "A farmer has 17 sheep, 23 goats and a barn", False),
        ("fuzzy-95", LEAK.replace("sheep?", "sheep"), True),
        ("fuzzy-95", f"{LEAK} Explain it to a friend who does not know sheep.", False),
    ],
)
def test_the_published_profiles_do_what_they_say(profile, problem, flagged):
    assert bool(reasons(problem, profile=profile)) == flagged


def test_published_ngrams_never_flag_short_items_and_coverage_takes_them_whole():
    short = "Compute the sum of 12 and 13"
    assert reasons(short, [short], "ngram-8") == []
    assert reasons(short, [short], "ngram-13") == []
    assert reasons(f"Now {short} please", [short], "coverage-50") == ["coverage"]


def test_shared_boilerplate_convicts_under_plain_ngrams():
    """Why `weighted` is the default."""
    item = f"Alice has 3 cats. {BOILERPLATE}"
    problem = f"Two dice are rolled. {BOILERPLATE}"
    assert reasons(problem, [item, *OTHERS], "ngram-8") != []
    assert reasons(problem, [item, *OTHERS], "weighted") == []


def test_an_unknown_profile_is_named():
    with pytest.raises(UsageError, match="unknown profile 'ngram8'; did you mean 'ngram-8'"):
        find_leaks([LEAK], [LEAK], "ngram8")


def test_the_embedding_profile_names_its_extra_where_it_is_missing(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ProgdataError, match=r"pip install 'progdata\[embed\]'"):
        find_leaks([LEAK], [LEAK], "embedding")


@pytest.mark.slow
def test_embeddings_find_other_words_for_the_same_question():
    problems = ["How many sheep does a farmer own who has twice seven of them?", "Find $2+2$."]
    items = ["A farmer owns twice seven sheep. How many sheep does he own?", *OTHERS]
    (match,) = find_leaks(problems, items, "embedding")
    assert (match.row, match.item, match.reason) == (0, 0, "near by embedding")
    assert match.score > 0.9


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "embedding"])
@pytest.mark.parametrize(
    "text", ["", " ", "5", "word", "12 34 56", "x" * 1_000_000, "证明 " * 30, "\x00", "مرحبا " * 20]
)
def test_odd_texts_are_looked_at_like_others(profile, text):
    found = find_leaks([text, LEAK, text], [LEAK, text], profile)
    assert 1 in {match.row for match in found}
    for match in found:
        assert 0 < match.score <= 1 and len(match.row_text) <= 300


@pytest.mark.parametrize(
    "script",
    [
        "证明对于所有正整数 n 都有一个素数大于它并且小于它的两倍",
        "أثبت أن لكل عدد صحيح موجب يوجد عدد أولي أكبر منه وأصغر من ضعفه",
    ],
)
def test_other_scripts_are_found(script):
    assert reasons(f"{script}。", [script]) == ["same text"]
    assert reasons(f"See this: {script} ok?", [script]) == ["shared text"]


@needs_shared_data
def test_different_contests_are_no_leaks_though_plain_ngrams_say_so():
    problems = [
        row["problem"]
        for row in read_rows("problems/deepscaler_train_part.jsonl.gz")
        if row["source"] == "aime_1983_2023"
    ]
    items = [row["problem"] for row in read_rows("benchmarks/aime24.jsonl.gz")]
    flagged = {
        profile: len({match.row for match in find_leaks(problems, items, profile)})
        for profile in ("ngram-8", "weighted")
    }
    assert len(problems) == 975
    assert flagged == {"ngram-8": 227, "weighted": 0}


@needs_shared_data
def test_real_rewrites_with_changed_numbers_are_found():
    """MATH-Perturb: MATH problems rewritten with changed numbers, against the originals."""
    problems = [row["problem"] for row in read_rows("problems/math_perturb.jsonl.gz")]
    files = ("benchmarks/math500.jsonl.gz", "problems/deepscaler_train_part.jsonl.gz")
    items = [row["problem"] for name in files for row in read_rows(name)]
    found = find_leaks(problems, items)
    assert len({match.row for match in found}) >= 127
    assert any(match.reason == "numbers changed" for match in found)


@needs_shared_data
def test_every_benchmark_problem_finds_itself():
    for name in ("aime24", "amc23", "math500", "olympiadbench", "minerva_math"):
        items = [row["problem"] for row in read_rows(f"benchmarks/{name}.jsonl.gz")]
        found = {match.row for match in find_leaks(items, items) if match.row == match.item}
        assert found == set(range(len(items))), name
