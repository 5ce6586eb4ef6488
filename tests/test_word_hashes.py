"""The words of texts: what counts as the same word, and that hashing many texts is hashing each."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from progdata.verifiers.word_hashes import Words, find_words, mask_numbers, ngram_hashes


def shown(text: str) -> list[str]:
    """The words of a text, as they stand in it."""
    words = find_words([text])
    return [words.text(i, i + 1) for i in range(len(words.hashes))]


def of(words: Words, text: int) -> list[int]:
    return words.hashes[words.first[text] : words.first[text + 1]].tolist()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Let $x$ be 12.", ["let", "x", "be", "12"]),
        (r"\dfrac12+\sqrt{3}", ["dfrac", "12", "+", "sqrt", "3"]),
        (r"\left( a_{1} \right)", ["a", "_", "1"]),
        (r"a\,b\quad c", ["a", "b", "c"]),
        ("x,y;z", ["x", "y", "z"]),
        ("证明 x", ["证", "明", "x"]),
        ("Привет, мир", ["привет", "мир"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        ("", []),
        ("$ $ .", []),
        ("\x00", []),
    ],
)
def test_what_counts_as_a_word(text, words):
    assert shown(text) == words


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("If $x$ is 5", r"if \(x\) is 5"),
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        (r"\tfrac 1 2", r"\frac{1}{2}"),
        ("a \\leq b", "a \\le b"),
        ("so,we  have\n\nx", "so, we have x"),
        ("\u00e9", "e\u0301"),
        ("\uff11\uff12", "12"),
        ("FIND IT", "find it"),
        (r"\mathbf{v}", "v"),
        (r"$AB \leqslant 5$", r"\(A B \le 5\)"),
        (r"$$ \overline{ABCD} $$", r"\[\overline{A B C D}\]"),
        (r"so $AB \equal{} 5$", "so $A B = 5$"),
    ],
)
def test_texts_that_read_alike_have_the_same_words(first, second):
    words = find_words([first, second])
    assert of(words, 0) == of(words, 1)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("12", "13"),
        ("1 2", "12"),
        ("x+y", "x-y"),
        ("ab", "a b"),
        ("a", "b"),
        ("AB", "A B"),
        (r"costs \$5 in NY", r"costs \$5 in N Y"),
    ],
)
def test_texts_that_differ_have_other_words(first, second):
    words = find_words([first, second])
    assert of(words, 0) != of(words, 1)


@pytest.mark.parametrize("piece", ["$", r"\(", "AB$", r"\(AB", "A", "$AB", "\\"])
def test_a_megabyte_of_delimiters_is_read_at_once(piece):
    begun = time.process_time()
    find_words(["AB " + piece * (1_000_000 // len(piece))])
    assert time.process_time() - begun < 5


@given(st.lists(st.text(max_size=40), max_size=12))
def test_many_texts_have_the_words_that_each_has_alone(texts):
    together = find_words(texts)
    for number, text in enumerate(texts):
        alone = find_words([text])
        assert of(together, number) == alone.hashes.tolist()
        first = int(together.first[number])
        spans = [together.text(first + i, first + i + 1) for i in range(len(alone.hashes))]
        assert spans == [alone.text(i, i + 1) for i in range(len(alone.hashes))]


def test_numbers_are_all_alike_when_masked():
    words = find_words(["find 12 of 7", "find 9 of 100", "find x of 7"])
    masked = mask_numbers(words)
    rows = [masked[words.first[i] : words.first[i + 1]].tolist() for i in range(3)]
    assert rows[0] == rows[1] != rows[2]


def test_an_ngram_has_one_hash_wherever_it_stands_and_reaches_no_further():
    words = find_words(["a b c d", "x a b c"])
    grams = ngram_hashes(words.hashes, 3)
    assert grams[0] == grams[5]
    assert len({int(gram) for gram in grams[:6]}) == 5
    assert grams[6:].tolist() == [0, 0]
    assert ngram_hashes(words.hashes[:2], 3).tolist() == [0, 0]


def test_long_words_and_long_texts_are_read():
    words = find_words(["a" * 1_000_000, "b " * 300_000])
    assert words.count().tolist() == [1, 300_000]


def test_no_two_words_of_a_large_vocabulary_collide():
    texts = [f"w{number:x}q{number * 7919:x}" for number in range(50_000)]
    words = find_words([text.replace("0", "z") for text in texts])
    letters = words.hashes[~words.numeric]
    spelled = {words.text(int(i), int(i) + 1) for i in np.flatnonzero(~words.numeric)}
    assert len(np.unique(letters)) == len(spelled)


def test_a_lone_surrogate_is_no_error():
    assert shown("a \ud800 b") == ["a", "b"]
