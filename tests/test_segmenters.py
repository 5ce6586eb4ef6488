import re
from itertools import pairwise

import numpy as np
import pytest
from hostile_text import giant_lines, texts
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shared_data import TOKENIZER, needs_shared_data, read_traces
from tokenizer_files import byte_level_bpe

from progdata.builders.errors import UsageError
from progdata.builders.progress import segment
from progdata.builders.segmenters import (
    EPISODE_PHRASES,
    SegmentFunction,
    episodes,
    find_segmenter,
    fixed_tokens,
    newline,
)
from progdata.builders.thinking import UnusualThinking, split_completion
from progdata.builders.tokenizer import Counter, WordsCounter, load_counter

WORDS = WordsCounter()
SEGMENTERS = {
    "newline": find_segmenter("newline"),
    "episodes": find_segmenter("episodes"),
    **{f"tokens:{size}": find_segmenter("tokens", tokens=size) for size in (1, 3, 50)},
}
each_segmenter = pytest.mark.parametrize("segmenter", SEGMENTERS.values(), ids=SEGMENTERS)


@pytest.fixture(scope="module")
def bpe(tmp_path_factory) -> tuple[Counter, Counter]:
    """The fast counter and the reference of a small byte-level BPE."""
    path = str(byte_level_bpe(tmp_path_factory.mktemp("bpe")) / "tokenizer.json")
    return load_counter(path, True), load_counter(path, False)


def cut(text: str, segmenter: SegmentFunction, counter: Counter = WORDS) -> list[str]:
    """The segments of a text, which must tile it."""
    (ends,) = segmenter([text], counter.starts([text]))
    assert all(a < b for a, b in pairwise([0, *ends])), "an empty segment"
    pieces = [text[a:b] for a, b in pairwise([0, *ends])]
    assert "".join(pieces) == text
    return pieces


def tokens_of(pieces: list[str]) -> list[int]:
    return WORDS.starts(pieces).per_text().tolist()


@each_segmenter
@given(text=texts | giant_lines)
@example("")
@example(" \n\n ")
@example("\r\n\r\n")
@example("x" * 100_000)
@example("🙂" * 5_000)
def test_segments_tile_any_text(segmenter, text):
    pieces = cut(text, segmenter)
    assert bool(pieces) == bool(text)
    if text.strip():
        assert pieces[0].strip(), "the first marker would stand before any visible text"
        assert pieces[-1].strip(), "the last marker would stand for blanks alone"


@each_segmenter
@given(batch=st.lists(texts, max_size=6))
def test_a_batch_gives_what_each_text_gives_alone(segmenter, batch):
    alone = [segmenter([text], WORDS.starts([text]))[0] for text in batch]
    assert segmenter(batch, WORDS.starts(batch)) == alone


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("one", ["one"]),
        ("a\nb", ["a\nb"]),
        ("a\n\nb", ["a\n\n", "b"]),
        ("a\n\n\n\nb", ["a\n\n\n\n", "b"]),
        ("a\r\n\r\nb\r\nc", ["a\r\n\r\n", "b\r\nc"]),
        ("a\r\rb", ["a\r\r", "b"]),
        ("a\r\nb", ["a\r\nb"]),
        ("a\n\rb", ["a\n\r", "b"]),
        ("a\n \t\f\u3000\nb", ["a\n \t\f\u3000\n", "b"]),
        ("a\n\n    b", ["a\n\n", "    b"]),
        ("a\n\n \n  b", ["a\n\n \n", "  b"]),
        ("a  \n\nb", ["a  \n\n", "b"]),
        ("\n\na\n\nb", ["\n\na\n\n", "b"]),
        (" \n\n  a", [" \n\n  a"]),
        ("a\n\nb\n\n", ["a\n\n", "b\n\n"]),
        ("a\n\n \t ", ["a\n\n \t "]),
        (" \n\n \n\n", [" \n\n \n\n"]),
        ("a\f\fb", ["a\f\fb"]),
        ("a\u2028\u2028b", ["a\u2028\u2028b"]),
        ("🙂\n\ne\u0301\n\n数", ["🙂\n\n", "e\u0301\n\n", "数"]),
    ],
)
def test_blank_lines_stay_with_the_segment_before_and_indentation_with_the_next(text, expected):
    assert cut(text, newline) == expected


def cut_by_lines(text: str) -> list[str]:
    """The newline rule once more, line by line: cut before a line that follows a blank one."""
    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)
    segments = [""]
    for number, line in enumerate(lines):
        follows_blank = number > 0 and not lines[number - 1].strip()
        if line.strip() and follows_blank and segments[-1].strip():
            segments.append("")
        segments[-1] += line
    return segments if text else []


@given(text=texts)
def test_newline_cuts_before_each_line_that_follows_a_blank_one(text):
    assert cut(text, newline) == cut_by_lines(text)


def mrt_episodes(text: str) -> list[str]:
    """MRT's three-step rule as its notebook writes it (facts.md 8.7), which loses blank lines."""
    steps = text.split("\n\n")
    joined, previous = [], 0
    for index, step in enumerate(steps):
        if step.startswith(EPISODE_PHRASES) and index - previous >= 3:
            joined.append("\n\n".join(steps[previous:index]).rstrip("\n"))
            previous = index
    return [*joined, "\n\n".join(steps[previous:]).rstrip("\n")]


paragraphs = st.sampled_from(
    [*EPISODE_PHRASES, "Wait, no.", "Alternatively, x", "So 5.", "wait", "  Wait", "a\nWait"]
)


@given(steps=st.lists(paragraphs, min_size=1, max_size=15))
@example(["a", "Wait", "b", "Wait", "c", "d", "Wait"])
@example(["Wait", "Wait", "Wait", "Wait"])
@example(["a", "b", "c", "But wait"])
def test_episodes_are_those_of_mrt_without_losing_a_character(steps):
    text = "\n\n".join(steps)
    assert [piece.rstrip("\n") for piece in cut(text, episodes)] == mrt_episodes(text)


def test_episodes_follow_the_three_step_rule():
    steps = ["Okay", "3 + 5", "8 * 3", "Wait, 24", "Wait, no", "so", "But hold on", "end"]
    assert cut("\n\n".join(steps), episodes) == [
        "Okay\n\n3 + 5\n\n8 * 3\n\n",
        "Wait, 24\n\nWait, no\n\nso\n\n",
        "But hold on\n\nend",
    ]


@needs_shared_data
def test_episodes_of_real_traces_are_those_of_mrt():
    seen = 0
    for row in read_traces("r1_aime2024.jsonl.gz"):
        think = split_completion(row["completion"]).think.strip()
        if re.search(r"\n\n\n|\n[^\S\n]+\n|\r", think):
            continue  # paragraphs that MRT's split("\n\n") sees differently
        assert [piece.rstrip("\n") for piece in cut(think, episodes)] == mrt_episodes(think)
        seen += 1
    assert seen >= 5


def expected_token_ends(text: str, counter: Counter, size: int) -> list[int]:
    """Every `size` tokens, past the character where some of its tokens are still to come."""
    starts = counter.starts([text]).starts.tolist()
    begins = [len(text[:i].encode()) for i in range(len(text) + 1)]
    character = [max(i for i, begin in enumerate(begins[:-1]) if begin <= s) for s in starts]
    ends = set()
    for number in range(size, len(starts), size):
        inside = character[number]
        tokens_before = sum(own < inside for own in character)
        ends.add(inside if tokens_before == number else inside + 1)
    visible = [i for i, own in enumerate(text) if own.strip()] or [len(text)]
    return [e for e in sorted(ends) if visible[0] < e <= visible[-1]] + [len(text)] * bool(text)


@given(text=texts, size=st.integers(1, 9))
@example("🙂🙂🙂", 1)
@example("a 🙂 数", 2)
def test_tokens_cuts_every_k_tokens_and_never_inside_a_character(bpe, text, size):
    for counter in bpe:
        (ends,) = fixed_tokens([text], counter.starts([text]), size)
        assert ends == expected_token_ends(text, counter, size)


@given(text=texts, size=st.integers(1, 9))
@example("🙂🙂🙂", 1)
@example("x 👩‍👩‍👧", 3)
def test_tokens_cuts_alike_whichever_counter_counts(bpe, text, size):
    fast, reference = (fixed_tokens([text], own.starts([text]), size) for own in bpe)
    assert fast == reference


@given(text=texts.map(str.strip), size=st.integers(1, 9))
def test_every_segment_of_words_but_the_last_has_k_tokens(text, size):
    counts = tokens_of(cut(text, find_segmenter("tokens", tokens=size)))
    assert all(count == size for count in counts[:-1])
    if any(counts):
        assert 0 < counts[-1] <= size
    else:
        assert len(counts) == bool(text), "a text without tokens is one segment at most"


@needs_shared_data
@pytest.mark.parametrize("size", [1, 64, 256])
def test_real_traces_are_cut_every_k_tokens_of_the_real_tokenizer(size):
    counter = load_counter(str(TOKENIZER / "tokenizer.json"), True)
    thinks = [
        row["completion"].partition("</think>")[0] for row in read_traces("r1_distill.jsonl.gz")
    ]
    thinks = [think.strip() for think in thinks[:150]]
    found = segment(thinks, find_segmenter("tokens", tokens=size), counter)
    edges = np.append(0, np.cumsum(found.counts)).tolist()
    exact = cut_characters = 0
    for first, last in pairwise(edges):
        for number, token_end in enumerate(found.token_ends[first : last - 1].tolist(), 1):
            off = token_end - number * size if size > 1 else 0
            assert 0 <= off <= 3, "a character has at most four tokens"
            exact, cut_characters = exact + (off == 0), cut_characters + (off > 0)
    assert exact > 50 * (cut_characters + 1)


@given(text=texts, size=st.integers(2, 12))
@each_segmenter
def test_short_segments_join_their_neighbours(segmenter, text, size):
    plain = segment([text], segmenter, WORDS)
    merged = segment([text], segmenter, WORDS, min_tokens=size)
    counts = np.diff(merged.token_ends, prepend=0).tolist()
    assert all(count >= size for count in counts) or len(counts) == 1
    assert set(merged.ends.tolist()) <= set(plain.ends.tolist())
    assert merged.ends[-1:].tolist() == plain.ends[-1:].tolist()
    assert merged.totals.tolist() == plain.totals.tolist()


def test_a_short_segment_joins_the_next_and_a_short_last_one_the_one_before():
    def merged(*paragraphs: str) -> list[str]:
        text = "\n\n".join(paragraphs)  # the blank line is one token, of the paragraph before
        ends = segment([text], newline, WORDS, min_tokens=4).ends.tolist()
        return [text[a:b].rstrip() for a, b in pairwise([0, *ends])]

    assert merged("a b c", "d e f g") == ["a b c", "d e f g"]
    assert merged("a b", "d e f g") == ["a b\n\nd e f g"]
    assert merged("a", "b", "c d e f") == ["a\n\nb", "c d e f"]
    assert merged("a b c", "d e f", "g h i") == ["a b c", "d e f\n\ng h i"]
    assert merged("a b c", "d", "e") == ["a b c\n\nd\n\ne"]
    assert merged("a", "b") == ["a\n\nb"]


@given(batch=st.lists(texts, max_size=6), size=st.integers(1, 5))
def test_merging_a_batch_is_merging_each_text(batch, size):
    together = segment(batch, newline, WORDS, min_tokens=size)
    alone = [segment([text], newline, WORDS, min_tokens=size) for text in batch]
    assert together.counts.tolist() == [int(own.counts[0]) for own in alone]
    assert together.ends.tolist() == [end for own in alone for end in own.ends.tolist()]


@settings(max_examples=30)
@given(text=st.text(alphabet=" \t\r\x00\f", min_size=1))
def test_text_without_a_token_has_no_segment(text):
    assert segment([text], newline, WORDS).counts.tolist() == [0]


@needs_shared_data
@each_segmenter
def test_real_traces_are_tiled(segmenter):
    seen = 0
    for row in read_traces("no_gold_math.jsonl.gz"):
        try:
            think = split_completion(row["completion"]).think
        except UnusualThinking:
            continue
        cut(think, segmenter)
        seen += 1
        if seen == 60:
            break
    assert seen == 60


@pytest.mark.parametrize(
    ("name", "message"),
    [("newlines", "did you mean 'newline'"), ("tokens", r"write tokens:K"), ("?", "choose from")],
)
def test_an_unknown_segmenter_is_refused_with_the_names_there_are(name, message):
    with pytest.raises(UsageError, match=message):
        find_segmenter(name)
