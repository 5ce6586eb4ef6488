from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hostile_text import texts
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shared_data import TOKENIZER, needs_shared_data, read_traces
from tokenizer_files import byte_level_bpe
from tokenizers import Tokenizer

from progdata.builders.progress import ROUNDINGS, Segmentation, percent, segment, segment_sum
from progdata.builders.segmenters import SegmentFunction, find_segmenter, newline
from progdata.builders.tokenizer import Counter, WordsCounter, load_counter

WORDS = WordsCounter()
SEGMENTERS = {
    "newline": newline,
    "episodes": find_segmenter("episodes"),
    "tokens:1": find_segmenter("tokens", tokens=1),
    "tokens:5": find_segmenter("tokens", tokens=5),
}
each_segmenter = pytest.mark.parametrize("segmenter", SEGMENTERS.values(), ids=SEGMENTERS)
token_counts = st.integers(1, 3000) | st.integers(1, 10**9)


def library(path: str) -> Tokenizer:
    """`tokenizers` itself, as the reference of these tests."""
    loaded = Tokenizer.from_file(path)
    loaded.post_processor = None  # type: ignore[assignment]
    return loaded


@pytest.fixture(scope="module")
def bpe(tmp_path_factory) -> str:
    return str(byte_level_bpe(tmp_path_factory.mktemp("bpe")) / "tokenizer.json")


@pytest.fixture(scope="module")
def bpe_library(bpe) -> Tokenizer:
    return library(bpe)


@pytest.fixture(params=["words", "fast", "reference"])
def counter(request, bpe) -> Counter:
    return WORDS if request.param == "words" else load_counter(bpe, request.param == "fast")


def rows_of(found: Segmentation) -> list[tuple[list[int], list[int]]]:
    """Segment ends and token ends of each text."""
    edges = np.append(0, np.cumsum(found.counts)).tolist()
    return [(found.ends[a:b].tolist(), found.token_ends[a:b].tolist()) for a, b in pairwise(edges)]


@given(token_end=token_counts, more=st.integers(0, 10**9))
@example(1, 199)
@example(3, 197)
@example(1, 7)
@example(1, 0)
def test_labels_are_rounded_exactly_half_to_even(token_end, more):
    total = token_end + more
    share = Fraction(100 * token_end, total)
    ends, totals = np.array([token_end]), np.array([total])
    assert percent(ends, totals).tolist() == [round(share)]
    assert ROUNDINGS["half-even"](ends, totals).tolist() == [round(share)]
    assert ROUNDINGS["floor"](ends, totals).tolist() == [share.__floor__()]
    assert ROUNDINGS["ceil"](ends, totals).tolist() == [share.__ceil__()]


def test_every_share_of_up_to_400_tokens_is_rounded_exactly():
    pairs = [(end, total) for total in range(1, 401) for end in range(1, total + 1)]
    ends, totals = np.array(pairs).T
    expected = [round(Fraction(100 * end, total)) for end, total in pairs]
    assert percent(ends, totals).tolist() == expected
    halves = [(1, 200), (3, 200), (5, 200), (199, 200), (1, 40), (3, 40)]
    found = percent(*np.array(halves).T).tolist()
    assert found == [0, 2, 2, 100, 2, 8]


@each_segmenter
@settings(max_examples=50)
@given(batch=st.lists(texts, max_size=5), min_tokens=st.integers(1, 6))
def test_token_ends_rise_strictly_to_the_tokens_of_the_whole_text(
    counter, segmenter, batch, min_tokens
):
    found = segment(batch, segmenter, counter, min_tokens=min_tokens)
    totals = counter.starts(batch).per_text().tolist()
    assert found.totals.tolist() == totals
    for text, total, (ends, token_ends) in zip(batch, totals, rows_of(found), strict=True):
        assert all(a < b for a, b in pairwise([0, *ends]))
        assert all(a < b for a, b in pairwise([0, *token_ends]))
        assert token_ends[-1:] == ([total] if total else [])
        assert ends[-1:] == ([len(text)] if total else [])


@given(batch=st.lists(texts, max_size=5))
def test_byte_ends_are_the_ends_in_utf8(batch):
    found = segment(batch, newline, WORDS)
    pairs = zip(batch, rows_of(found), strict=True)
    expected = [len(text[:end].encode()) for text, (ends, _) in pairs for end in ends]
    assert found.byte_ends.tolist() == expected


@each_segmenter
@settings(max_examples=50)
@given(text=texts)
@example("a 🙂 b\n\ne\u0301 数\n\n  x")
def test_joint_progress_counts_the_tokens_that_start_before_each_end(
    bpe, bpe_library, segmenter, text
):
    offsets = bpe_library.encode(text, add_special_tokens=False).offsets
    for fast in (True, False):
        ((ends, token_ends),) = rows_of(segment([text], segmenter, load_counter(bpe, fast)))
        assert token_ends == [sum(start < end for start, _ in offsets) for end in ends]


@each_segmenter
@settings(max_examples=50)
@given(batch=st.lists(texts, max_size=4))
def test_segment_sum_is_the_sum_of_each_segment_tokenised_alone(bpe, bpe_library, segmenter, batch):
    joint = segment(batch, segmenter, load_counter(bpe, True))
    summed = segment_sum(batch, joint, load_counter(bpe, True))
    assert summed.ends.tolist() == joint.ends.tolist()
    for text, (ends, token_ends) in zip(batch, rows_of(summed), strict=True):
        pieces = [text[a:b] for a, b in pairwise([0, *ends])]
        alone = [len(bpe_library.encode(own, add_special_tokens=False).ids) for own in pieces]
        assert token_ends == np.cumsum(alone).tolist()


@given(batch=st.lists(texts, min_size=1, max_size=6), data=st.data())
def test_selected_segments_are_those_of_the_selected_texts(batch, data):
    chosen = data.draw(st.lists(st.integers(0, len(batch) - 1), unique=True))
    found = segment(batch, newline, WORDS)
    rows = rows_of(found)
    assert rows_of(found.select(chosen)) == [rows[i] for i in chosen]


def real_thinks(name: str, rows: int) -> list[str]:
    thinks = [row["completion"].partition("</think>")[0] for row in read_traces(name)]
    return thinks[:rows]


@needs_shared_data
@pytest.mark.parametrize("name", ["newline", "episodes", "tokens:5"])
def test_joint_progress_of_real_traces_is_that_of_the_library(name):
    path = str(TOKENIZER / "tokenizer.json")
    thinks = real_thinks("r1_distill.jsonl.gz", 60)
    segmenter: SegmentFunction = SEGMENTERS[name]
    encodings = library(path).encode_batch(thinks, add_special_tokens=False)
    for encoding, (ends, token_ends) in zip(
        encodings, rows_of(segment(thinks, segmenter, load_counter(path, True))), strict=True
    ):
        starts = np.array([start for start, _ in encoding.offsets])
        assert token_ends == np.searchsorted(starts, ends).tolist()
        assert token_ends[-1] == len(encoding.ids)


@needs_shared_data
def test_no_label_of_real_traces_differs_by_mode_where_blank_lines_stay_before():
    """As measured in facts.md 8.12; where tokens are cut, some labels differ by a point."""
    counter = load_counter(str(TOKENIZER / "tokenizer.json"), True)
    thinks = real_thinks("r1_distill.jsonl.gz", 300)
    joint = segment(thinks, newline, counter)
    summed = segment_sum(thinks, joint, counter)
    labels = [percent(own.token_ends, np.repeat(own.totals, own.counts)) for own in (joint, summed)]
    assert len(labels[0]) > 3000
    assert (labels[0] == labels[1]).mean() > 0.999
