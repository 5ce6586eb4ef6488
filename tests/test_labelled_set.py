"""The labelled answers that ship with the package, which `progdata bench answers` measures on."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from shared_data import SHARED, needs_shared_data

LABELLED = Path(__file__).resolve().parent.parent / "verifiers" / "labelled_answers.jsonl"

FORMS = """
integer decimal fraction radical pi_and_e power scientific thousands percent degrees units currency
polynomial equation inequality interval union_of_intervals set tuple matrix complex function
multiple_choice text base_notation ratio several_boxes nested_braces unclosed_box
factorial_binomial logarithm_trig
"""

Pair = dict[str, Any]


def pairs_in(path: Path) -> list[Pair]:
    """The pairs of a file, one JSON object a line."""
    return [json.loads(line) for line in path.read_bytes().decode("utf-8").split("\n")[:-1]]


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return pairs_in(LABELLED)


def test_the_file_is_utf8_and_ends_its_last_line():
    text = LABELLED.read_bytes().decode("utf-8")
    assert text.endswith("}\n")
    assert "\r" not in text and "\ufeff" not in text


def test_there_are_enough_pairs_and_about_half_are_unequal(pairs: list[Pair]):
    assert len(pairs) >= 300
    assert 0.45 <= sum(not pair["equal"] for pair in pairs) / len(pairs) <= 0.55


def test_every_pair_has_the_same_fields_and_says_why(pairs: list[Pair]):
    for pair in pairs:
        assert list(pair) == ["gold", "pred", "equal", "form", "note"]
        assert isinstance(pair["equal"], bool), pair
        texts = [pair[field] for field in ("gold", "pred", "form", "note")]
        assert all(isinstance(text, str) and text.strip() for text in texts), pair


def test_no_pair_stands_twice(pairs: list[Pair]):
    counts = Counter((pair["gold"], pair["pred"]) for pair in pairs)
    assert [pair for pair, count in counts.items() if count > 1] == []


def test_every_form_has_equal_and_unequal_pairs(pairs: list[Pair]):
    found = {(pair["form"], pair["equal"]) for pair in pairs}
    assert found == {(form, equal) for form in FORMS.split() for equal in (True, False)}


@needs_shared_data
def test_no_pair_is_one_of_the_shared_labelled_pairs(pairs: list[Pair]):
    shared = pairs_in(SHARED / "data" / "answers" / "labelled_pairs.jsonl")
    known = {(pair["gold"], pair["pred"]) for pair in shared}
    assert known
    assert known.isdisjoint((pair["gold"], pair["pred"]) for pair in pairs)
