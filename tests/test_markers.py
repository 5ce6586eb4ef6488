import itertools
import string

import pytest
from hostile_text import cuts, pieces_of, texts
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from progdata.builders.markers import (
    LABELS,
    MarkerGrammar,
    StreamParser,
    escape,
    escape_offsets,
    find_markers,
    holds_markers,
    holds_special_token,
    insert,
    labels_in,
    special_tokens,
    strip,
    unescape,
    unmark,
)

DEFAULT = MarkerGrammar()
SPECIAL = MarkerGrammar(special=True)
GRAMMARS = [
    DEFAULT,
    SPECIAL,
    MarkerGrammar("p"),
    MarkerGrammar("p", special=True),
    MarkerGrammar("progress-bar.v2", "{label}"),
    MarkerGrammar("_x", "about {label} percent."),
    MarkerGrammar("p", "*({label})+?|$", special=True),
    MarkerGrammar("è", "{label}\n"),
]
each_grammar = pytest.mark.parametrize("grammar", GRAMMARS, ids=str)
fewer = settings(max_examples=40)  # a grammar; there are eight
labels = st.integers(0, 100) | st.integers(-300, 400)


def escaping(grammar: MarkerGrammar) -> MarkerGrammar:
    return MarkerGrammar(grammar.tag, grammar.format, grammar.special, escaped=True)


@st.composite
def marked_texts(draw, grammar: MarkerGrammar) -> tuple[str, list[int], list[int]]:
    """A text without markers, where to insert some, and their labels."""
    text = draw(texts)
    assume(not find_markers(text, grammar))
    ends = draw(cuts(text))
    return text, ends, draw(st.lists(labels, min_size=len(ends), max_size=len(ends)))


def test_writes_the_marker_of_the_paper():
    assert DEFAULT.render(37) == "<progressbar>37%</progressbar>"
    assert SPECIAL.render(37) == "<progressbar>[37%]</progressbar>"


@each_grammar
def test_finds_every_label_it_renders(grammar):
    for label in [*LABELS, -1, -250, 101, 12345]:
        text = grammar.render(label)
        (found,) = find_markers(f"é🙂{text} rest", grammar)
        assert (found.label, found.start, found.end) == (label, 2, 2 + len(text))
        shown = f"é🙂{text}"[found.label_start : found.label_end]
        assert shown == grammar.label_text(label)


@each_grammar
@fewer
@given(data=st.data())
def test_inserted_markers_are_found_and_stripped_again(grammar, data):
    text, ends, given_labels = data.draw(marked_texts(grammar))
    marked = insert(text, ends, given_labels, grammar)
    found = find_markers(marked, grammar)
    assert [marker.label for marker in found] == given_labels
    before = itertools.accumulate((m.end - m.start for m in found), initial=0)
    assert [m.start - size for m, size in zip(found, before, strict=False)] == ends
    assert strip(marked, grammar) == text


@each_grammar
@fewer
@given(data=st.data())
def test_unmark_gives_the_text_and_where_its_markers_stood(grammar, data):
    text, ends, given_labels = data.draw(marked_texts(grammar))
    found = unmark(insert(text, ends, given_labels, grammar), grammar)
    assert (found.text, found.ends) == (text, ends)
    assert [marker.label for marker in found.markers] == given_labels


@given(data=st.data())
def test_strip_takes_both_token_styles_whichever_is_written(data):
    text, ends, given_labels = data.draw(marked_texts(DEFAULT))
    for written, read in itertools.product([DEFAULT, SPECIAL], repeat=2):
        assert strip(insert(text, ends, given_labels, written), read) == text


@given(text=texts)
def test_strip_leaves_text_without_markers_alone(text):
    assume(not find_markers(text))
    assert strip(text) == text


def test_insert_refuses_labels_that_do_not_match_the_ends():
    with pytest.raises(ValueError, match="zip"):
        insert("ab", [1, 2], [50], DEFAULT)


@pytest.mark.parametrize(
    "text",
    [
        "<progressbar>37</progressbar>",
        "<progressbar> 37%</progressbar>",
        "<progressbar>37 %</progressbar>",
        "<progressbar>3.5%</progressbar>",
        "<progressbar>%</progressbar>",
        "<progressbar></progressbar>",
        "<progressbar>[37%</progressbar>",
        "<progressbar>37%]</progressbar>",
        "<progressbar>[[37%]]</progressbar>",
        "<progressbar>３７%</progressbar>",
        "<progressbar>٣٧%</progressbar>",
        "<progressbar>1234567890%</progressbar>",
        "<progressbar>37%</Progressbar>",
        "<progressbar>37%<progressbar>",
        "<progressbar>37%\n</progressbar>",
        "<\\progressbar>37%<\\/progressbar>",
        "progressbar>37%</progressbar>",
    ],
)
def test_what_only_looks_like_a_marker_is_none(text):
    assert find_markers(text) == []
    assert strip(text) == text
    assert labels_in(text) == []


def test_special_tokens_are_the_101_label_texts():
    tokens = special_tokens()
    assert len(set(tokens)) == 101
    assert (tokens[0], tokens[100]) == ("[0%]", "[100%]")
    assert tokens == [SPECIAL.label_text(label) for label in LABELS]


def test_notices_special_tokens_that_stand_in_a_text():
    assert all(holds_special_token(f"a{token}b") for token in special_tokens())
    for text in ("[101%]", "[007%]", "[-1%]", "[ 5%]", "[5 %]", "[5]", "5%", "[٥%]"):
        assert not holds_special_token(text), text


@given(text=texts)
def test_a_text_that_holds_no_tag_holds_no_marker(text):
    assert holds_markers(text) or not find_markers(text)


@given(text=texts, at=st.integers(0, 50), label=st.sampled_from(LABELS))
def test_unmark_gives_an_escaped_text_back_as_strip_does(text, at, label):
    grammar = MarkerGrammar(escaped=True)
    at = min(at, len(text))
    before, after = escape(text[:at], grammar), escape(text[at:], grammar)
    assume(escape(text, grammar) == before + after)
    marked = f"{before}{grammar.render(label)}{after}"
    found = unmark(marked, grammar)
    assert found.text == strip(marked, grammar) == text
    assert found.ends == [at]


@each_grammar
@fewer
@given(text=texts)
@example(text="<progressbar>5%</progressbar><\\progressbar><\\\\/progressbar>")
def test_escape_hides_every_tag_and_unescape_gives_it_back(grammar, text):
    escaped = escape(text, grammar)
    assert not holds_markers(escaped, grammar)
    assert unescape(escaped, grammar) == text
    offsets = escape_offsets(text, grammar)
    assert escaped == "\\".join(pieces_of(text, offsets))


@each_grammar
@fewer
@given(data=st.data())
def test_text_with_markers_of_its_own_survives_where_it_is_escaped(grammar, data):
    text = data.draw(texts)
    for own in data.draw(st.lists(labels, max_size=3)):
        text += grammar.render(own) + data.draw(texts)
    own_grammar = escaping(grammar)
    escaped = escape(text, grammar)
    ends = data.draw(cuts(escaped))
    marked = insert(escaped, ends, [len(ends)] * len(ends), own_grammar)
    assert len(find_markers(marked, own_grammar)) == len(ends)
    assert strip(marked, own_grammar) == text


def streams(grammar: MarkerGrammar) -> st.SearchStrategy[str]:
    """Text with whole markers, halves of markers, and anything else."""
    whole = labels.map(grammar.render)
    half = st.builds(lambda marker, end: marker[:end], whole, st.integers(1, 40))
    return st.lists(whole | half | texts, max_size=6).map("".join)


@each_grammar
@fewer
@given(data=st.data())
def test_a_stream_gives_the_markers_of_the_text_wherever_it_is_cut(grammar, data):
    text = data.draw(streams(grammar))
    expected = [marker.label for marker in find_markers(text, grammar)]
    ends = data.draw(st.lists(st.integers(0, len(text)), max_size=len(text)).map(sorted))
    assert labels_in(pieces_of(text, ends), grammar) == expected
    assert labels_in(text, grammar) == expected


@pytest.mark.parametrize(
    "text", ["<p>5%</p>", "x<p><p>-7%</p>", "<p>1<p>[9%]</p>", "<p>2%</p><p>3%</p>"[:14]]
)
def test_a_stream_gives_the_same_labels_for_every_way_to_cut_it(text):
    grammar = MarkerGrammar("p")
    expected = [marker.label for marker in find_markers(text, grammar)]
    for size in range(len(text)):
        for ends in itertools.combinations(range(1, len(text)), size):
            assert labels_in(pieces_of(text, list(ends)), grammar) == expected, ends


def test_a_stream_yields_a_label_with_the_piece_that_completes_it():
    parser = StreamParser()
    marker = DEFAULT.render(37)
    assert [parser.feed(character) for character in marker] == [[]] * (len(marker) - 1) + [[37]]
    assert parser.feed("") == []


@pytest.mark.parametrize("unit", ["<progressbar>", "<progressbar>999999999", "<", "a", "🙂\n"])
def test_a_stream_holds_back_at_most_one_marker_however_long_it_is(unit):
    parser = StreamParser()
    for _ in range(2000):
        parser.feed(unit)
        assert sum(len(held) for held in vars(parser).values() if isinstance(held, str)) < 64
    parser.feed(unit * 100_000)
    assert sum(len(held) for held in vars(parser).values() if isinstance(held, str)) < 64


@pytest.mark.parametrize("label", [-999_999_999, 999_999_999])
def test_the_longest_marker_is_found_in_a_stream_of_single_characters(label):
    text = string.printable + MarkerGrammar("p", special=True).render(label)
    assert labels_in(text, MarkerGrammar("p")) == [label]
