"""Near duplicates: what must agree, and that every search finds the same clusters."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import needs_shared_data, read_rows

from progdata.builders.errors import ProgdataError
from progdata.verifiers.deciding_tokens import deciding_tokens
from progdata.verifiers.near_duplicates import (
    approximate_pairs,
    exact_pairs,
    find_near,
    links_to,
    load_encoder,
    near_labels,
)

PARAPHRASES = [
    (
        "What is the area of the smallest square that can contain a circle of radius 5?",
        "Find the area of the smallest square that can contain a circle of radius 5.",
    ),
    (
        "Compute the sum of the digits of $2^{100}$.",
        "Find the sum of digits of the number \\(2^{100}\\).",
    ),
    (
        "How many nonnegative integers below 12 are there?",
        "How many non-negative integers less than twelve are there?",
    ),
]

OTHERS = [
    (r"What is $\log_{36}(36)$?", r"What is $\log_{36} 6$?"),
    ("What is the largest prime factor of 2010?", "What is the smallest prime factor of 2010?"),
    ("What is 12 percent of 60?", "What is 60 percent of 12?"),
    ("What is the sum of the roots of $x^2-5x$?", "What is the product of the roots of $x^2-5x$?"),
    ("Solve $a - b = 3$ for $a$.", "Solve $b - a = 3$ for $a$."),
    ("How many boys are among the 20 students?", "How many girls are among the 20 students?"),
    ("How many ways are there with repetition?", "How many ways are there without repetition?"),
    ("Tom has three apples and buys five.", "Tom has five apples and buys three."),
    ("Find the area of a circle of radius 3.", "Find the perimeter of a circle of radius 3."),
    ("There are at most 7 red balls.", "There are at least 7 red balls."),
    ("He doesn't run 5 miles.", "He does run 5 miles."),
    ("Find $f(x+1)$.", "Find $f(x)+1$."),
    ("Find $5!$.", "Find $5$."),
    ("It takes 5 hours.", "It takes 5 minutes."),
]  # fmt: skip


@pytest.fixture(scope="module")
def encode():
    return load_encoder()[0]


@pytest.mark.parametrize(("one", "other"), PARAPHRASES)
def test_other_words_may_say_the_same(encode, one, other):
    assert find_near([one, other], encode).labels.tolist() == [0, 0]


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_problems_that_differ_in_what_decides_stay_apart(encode, one, other):
    assert deciding_tokens(one) != deciding_tokens(other)
    assert find_near([one, other], encode).labels.tolist() == [0, 1]


def test_cosine_alone_merges_different_problems(encode):
    """DeepScaleR's rule as published, which `agree=False` is."""
    merged = [find_near(pair, encode, agree=False).labels.tolist() == [0, 0] for pair in OTHERS[:4]]
    assert any(merged)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Find the sum of two numbers.", ["=sum", "2"]),
        ("Let x be 1,000.", ["x", "1,000"]),
        ("Let a = 5 and I am a man", ["a", "=", "5", "=boy"]),
        ("Tom's 3 dogs (all of them) don't bark!", ["3", "=not"]),
        ("a six-digit number", ["6"]),
        (r"$\frac{1}{2}$ of $f(x, y)$", [r"\frac", "1", "2", "f", "(", "x", "y", ")"]),
        ("indistinguishable balls", ["=not", "=different"]),
        ("证明 3 大于 2", ["3", "2"]),
        ("", []),
    ],
)
def test_what_decides(text, tokens):
    assert list(deciding_tokens(text)) == tokens


def test_only_problems_that_agree_with_another_are_embedded():
    asked = []

    def count(texts):
        asked.extend(texts)
        return np.ones((len(texts), 1), np.float32)

    found = find_near(["Find 1", "Get 1", "Find 2", "Go", "Run"], count)
    assert asked == ["Find 1", "Get 1", "Go", "Run"]
    assert found.labels.tolist() == [0, 0, 2, 3, 3]
    assert sorted(found.vectors) == [0, 1, 3, 4]
    assert find_near(["Find 1", "Find 2"], count).vectors == {}
    assert len(asked) == 4


def vectors_of(seed: int, rows: int, spread: float, dimensions: int = 8):
    """Vectors of length 1 around a few others; the smaller the spread the nearer."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(1, rows // 4), dimensions))
    found = centres[random.integers(0, len(centres), rows)]
    found = found + spread * random.normal(size=found.shape)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def pairs_of(found) -> set[tuple[int, int]]:
    blocks = [(one.tolist(), other.tolist()) for one, other, _ in found]
    return {pair for one, other in blocks for pair in zip(one, other, strict=True)}


@settings(max_examples=30)
@given(st.integers(0, 99), st.integers(1, 60), st.sampled_from([0.0, 0.1, 0.3]), st.integers(1, 70))
def test_tiles_make_no_difference(seed, rows, spread, tile):
    vectors = vectors_of(seed, rows, spread)
    cosines = (vectors.astype(float) @ vectors.T.astype(float)).round(6)
    expected = {(i, j) for i in range(rows) for j in range(i + 1, rows) if cosines[i, j] > 0.9}
    assert pairs_of(exact_pairs(vectors, 0.9, tile)) == expected
    labels = near_labels(vectors, 0.9, tile=tile)
    assert labels.tolist() == near_labels(vectors, 0.9).tolist()
    assert all(labels[i] == labels[j] for i, j in expected)
    assert (labels <= np.arange(rows)).all() and (labels[labels] == labels).all()


def test_approximate_search_finds_what_the_exact_one_does():
    vectors = vectors_of(1, 6_000, 0.15, 48)
    exact = pairs_of(exact_pairs(vectors, 0.9))
    found = pairs_of(approximate_pairs(vectors, 0.9))
    assert len(exact) > 1_000
    assert found <= exact
    assert len(found) / len(exact) > 0.99
    assert pairs_of(approximate_pairs(vectors, 0.9, tile=500)) == found
    own = near_labels(vectors, 0.9, exact_rows=0)
    assert (own == near_labels(vectors, 0.9)).mean() > 0.99


def test_search_is_approximate_beyond_the_rows_that_are_compared(encode):
    texts = [f"{start} a number" for start in ("Find", "Get", "Compute", "Calculate")]
    exact, other = (find_near(texts, encode, exact_rows=rows) for rows in (4, 3))
    assert (exact.approximate, other.approximate) == (False, True)
    assert exact.labels.tolist() == other.labels.tolist()


def test_clusters_hang_together_by_chains():
    """0 - 1 - 2: the ends are apart, and each is near the middle."""
    turns = np.deg2rad([0.0, 20.0, 40.0])
    vectors = np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)
    assert near_labels(vectors, 0.9).tolist() == [0, 0, 0]
    keeper, near, far = links_to(0, vectors, 0.9)
    assert (keeper.through, near.through, far.through) == (0, 0, 1)
    assert far.score == pytest.approx(np.cos(turns[2]), abs=1e-6)
    assert far.through_score == near.score == pytest.approx(np.cos(turns[1]), abs=1e-6)


def test_threshold_is_to_be_passed():
    vectors = np.array([[1, 0], [1, 0]], np.float32)
    assert near_labels(vectors, 0.999999).tolist() == [0, 0]
    assert near_labels(vectors, 1.0).tolist() == [0, 1]


@needs_shared_data
def test_real_problems_are_embedded_as_their_authors_do(encode):
    """Encoding does not depend on what else is encoded, to the digits that count."""
    texts = [row["problem"] for row in read_rows("benchmarks/aime24.jsonl.gz")]
    together, alone = encode(texts), np.concatenate([encode([text]) for text in texts[:5]])
    assert together.shape == (30, 384) and together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(together[:5], alone, atol=1e-5)


@pytest.mark.parametrize("content", [None, "", '{"model_type": "nothing"}', "{"])
def test_model_that_cannot_be_loaded_is_named(tmp_path, monkeypatch, content):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "model"
    if content is not None:
        folder.mkdir()
        (folder / "config.json").write_text(content)
    with pytest.raises(ProgdataError, match=r"cannot load it.* saved sentence-") as error:
        load_encoder(str(folder))
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["sentence_transformers", "faiss"])
def test_missing_package_names_the_extra(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ProgdataError, match=r"pip install 'progdata\[embed\]'"):
        if name == "faiss":
            list(approximate_pairs(vectors_of(0, 4, 0.1), 0.9))
        else:
            load_encoder()
