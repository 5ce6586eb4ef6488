"""Text from data in a card: it is seen, and nothing of it is markup, whatever it holds."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hostile_text import PIECES
from huggingface_hub import DatasetCard
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from progdata.builders.schema import VARIANT
from progdata.cards.card_facts import CardFacts
from progdata.cards.card_header import card_header, header_text
from progdata.cards.croissant import croissant_text
from progdata.cards.dataset_card import CardContent, dataset_card
from progdata.cards.markdown_text import code, fence, inline, markdown_table, one_line, visible
from progdata.releases.carded import card_content
from progdata.releases.lockfile import ReleaseRecord, read_lock

HOSTILE = (
    "---\nlicense: mit\n---", "<script>alert(1)</script>", "![x](http://example.com/x.png)",
    "[x](javascript:alert(1))", "[x]: http://example.com", "```", "````\n# T", "~~~", "`a`",
    "| a |", "|---|", "\\|", "\\", "\\\\", "$$x$$", "$x$", "\\(x\\)", "{{ 7 * 7 }}", "{% raw %}",
    "{# x #}", "\u202e\u2066abc", "a\rb", "a\r\nb", "\x00", "<!-- x -->", "-->", "&lt;b&gt;",
    "&#60;b&#62;", "x" * 3000, "# H", "> q", "- i", "+ i", "* i", "1. i", "1) i", "===", "***",
    "___", "**b**", "__b__", "_b_", "~~s~~", "<http://example.com>", "http://example.com",
    "www.example.com", "a@example.com", ":smile:", "    code", "\tcode", "a  \nb", "<b", "</p>",
    "<details>", "&copy;", "[^1]", "- [ ] t", "!", "![", "](", "\u2028", "\ufeff", "'", '"',
    "null", "on", "1.0", "!!python/object:os.system x", "&a", "*a", "? a", "%TAG", "@x",
)  # fmt: skip

texts = st.lists(st.sampled_from((*HOSTILE, *PIECES)) | st.text(max_size=5), max_size=8).map(
    "".join
)

UNSHRUNK = [Phase.explicit, Phase.reuse, Phase.generate]
"""Without shrinking: a whole card takes a fifth of a second."""

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def leaves(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from leaves(token.children or [])


def structure(text: str) -> list[tuple[Any, ...]]:
    """What a Markdown text is made of, without the words in it."""
    words = ("text", "text_special", "code_inline")
    return [
        (own.type, own.tag, own.nesting, own.level, own.info, own.attrs, own.hidden)
        for own in leaves(MARKDOWN.parse(text))
        if own.type not in words
    ]


def words(text: str) -> str:
    """The words that a reader sees of a Markdown text."""
    seen = ("text", "text_special", "code_inline", "fence", "code_block")
    return "".join(own.content for own in leaves(MARKDOWN.parse(text)) if own.type in seen)


# --- the three ways


@given(texts)
def test_inline_text_is_seen_as_it_is_and_is_no_markup(text):
    shown = one_line(text)
    for around in ("{}", "a {} b", "- {}", "| a |\n| --- |\n| {} |", "# {}", "a\n{}"):
        found = around.format(inline(text) or "nothing")
        assert structure(found) == structure(around.format("x"))
        assert words(found) == words(around.format("\0")).replace("\ufffd", shown or "nothing")


@given(texts)
def test_code_is_seen_as_it_is_and_is_no_markup(text):
    shown = one_line(text) or "(empty)"
    for around in ("{}", "a {} b", "- {}", "| a | b |\n| --- | --- |\n| {} | c |"):
        found = around.format(code(text))
        assert structure(found) == structure(around.format("x"))
        assert words(found) == words(around.format("\0")).replace("\ufffd", shown)


@given(texts, st.integers(0, 50))
def test_a_fenced_text_is_seen_as_it_is_and_stays_in_its_block(text, limit):
    tokens = MARKDOWN.parse(f"a\n\n{fence(text)}\n\nb")
    assert [own.type for own in tokens if own.level == 0] == [
        "paragraph_open", "paragraph_close", "fence", "paragraph_open", "paragraph_close",
    ]  # fmt: skip
    (block,) = (own for own in tokens if own.type == "fence")
    assert block.content == visible(text, kept="\n\t") + "\n"
    (cut,) = MARKDOWN.parse(fence(text, limit))
    shown = visible(text, kept="\n\t")
    if len(shown) > limit:
        left = len(shown) - limit
        assert cut.content == f"{shown[:limit]}\n… ({left:,} characters left out)\n"


@given(st.text(max_size=40))
def test_what_cannot_be_seen_is_written_as_its_code(text):
    shown = visible(text)
    assert all(own.isprintable() or own in "\u200c\u200d" or own.isspace() for own in shown)
    assert not set(shown) & set("\r\n\t\x00\u202e\u2028\u2029\x85\ufeff")
    if text.isprintable():
        assert shown == text


def test_a_long_text_is_cut_with_a_mark():
    assert inline("a" * 50, 20) == f"{'a' * 17}..."
    assert fence("a" * 50, 20).splitlines()[1:3] == ["a" * 20, "… (30 characters left out)"]


def test_a_table_has_a_line_a_row():
    rows = [[code("a|b"), inline("c|d\ne")]]
    found = [own.type for own in MARKDOWN.parse(markdown_table(["x", "y"], rows))]
    assert found.count("tr_open") == 2 and found.count("td_open") == 2


# --- the whole card


class Content(CardContent):
    """One that does not fill the screen where a test fails."""

    def __repr__(self) -> str:
        return "Content()"


@pytest.fixture(scope="module")
def content(countdown_build: Path) -> CardContent:
    """What a card is made from, with every part that a card can have."""
    plots = ["plots/trace_lengths.png", "plots/verdicts.png"]
    read = card_content(countdown_build, read_lock(countdown_build), CardFacts(), None, plots)
    own = Content(**vars(read))
    file = {"name": "f", "bytes": 1, "sha256": "0" * 64}
    hub = {"spec": "s", "repo": "r", "config": "c", "split": "t", "revision": "v"}
    match = {"problem_id": "p", "benchmark": "b", "benchmark_row": 1, "score": 0.5}
    lock, report = copy.deepcopy(dict(own.lock)), copy.deepcopy(dict(own.report))
    generated = {"model": "m", "revision": "v", "sampling": {"temperature": 1}, "engine": "e"}
    generated |= {"n": 1, "seed": 0, "problem_sources": [hub]}
    lock["sources"] = [{"spec": "s", "files": [file]}, hub]
    lock["sources"] += [{"spec": "generate", "files": [file], "generated": generated}]
    lock["benchmarks"] = {"b": {"source": hub, "items": 1, "unreadable": {}}}
    report["contamination"] = {
        "profile": "weighted", "action": "flag", "benchmarks": lock["benchmarks"], "rows": 2,
        "flagged": 1, "problems_flagged": 1, "by_benchmark": {"b": 1}, "by_reason": {"r": 1},
        "matches": [match | {"reason": "r", "row_text": "a", "item_text": "b"}],
    }  # fmt: skip
    return replace(own, lock=lock, report=report)


def with_texts(content: CardContent, text: str) -> CardContent:
    """The content with a text in every place where a card can have one of data or of a user."""
    lock, report = copy.deepcopy(dict(content.lock)), copy.deepcopy(dict(content.report))
    lock["recipe"]["name"] = text
    lock["tokenizer"] |= {"spec": text, "revision": text}
    lock["recipe"]["tokenizer"] = text
    lock["segmenter_sha256"], lock["recipe"]["segmenter"]["name"] = text, "sat"
    lock["recipe"]["segmenter"]["model"] = text
    lock["recipe"]["prompt_profile"] = text
    lock["recipe"]["markers"]["format"] = text + "{label}"
    lock["versions"] = {text: text}
    lock["release"] = {"name": text, "version": text, "previous": None, "changes": []}
    files, hub, generated = lock["sources"]
    files |= {"spec": text, "files": [files["files"][0] | {"name": text}]}
    hub |= {"spec": text, "repo": text, "config": text, "split": text, "revision": text}
    generated["generated"] |= {"model": text, "revision": text, "engine": text}
    generated["generated"]["sampling"] = {text: text}
    lock["benchmarks"] = {text: {"source": copy.deepcopy(hub), "items": 1, "unreadable": {}}}
    report["rejected"] = {text: {text: 1}}
    report["verify"] |= {"grader": text, "keep": [text], "verdicts": {text: 1}}
    report["contamination"] |= {"profile": text, "by_benchmark": {text: 1}}
    report["contamination"]["matches"][0] |= {
        "benchmark": text, "reason": text, "row_text": text, "item_text": text, "score": text,
    }  # fmt: skip
    fields = ("trace_id", "problem", "answer", "model", "verdict", "split", "completion")
    row = dict(content.example) | dict.fromkeys(fields, text)
    facts = CardFacts.model_construct(
        license=text, languages=["en"], pretty_name=text, authors=[text, text],
        notes=one_line(text) or "x", citation=text, source_licenses={text: text},
    )  # fmt: skip
    return replace(content, lock=lock, report=report, facts=facts, example=row)


@pytest.fixture(scope="module")
def plain(content: CardContent) -> list[tuple[Any, ...]]:
    """What a card is made of whose texts are plain words."""
    return structure(body(dataset_card(with_texts(content, "x"))))


def body(card: str) -> str:
    return card.partition("\n---\n")[2]


def check_card(content: CardContent, plain: list[tuple[Any, ...]], text: str) -> None:
    card = dataset_card(with_texts(content, text))
    assert structure(body(card)) == plain
    found = {own.type for own in leaves(MARKDOWN.parse(body(card)))}
    assert not found & {"html_inline", "html_block"}
    assert DatasetCard(card).text.strip() == body(card).strip(), "the Hub reads the same body"
    shown = one_line(text)
    assert shown[:100] in words(body(card))
    assert "\r" not in card and "\x00" not in card and "\u202e" not in card


@settings(max_examples=25, phases=UNSHRUNK)
@given(text=texts.filter(str.strip))
def test_no_text_changes_what_a_card_is_made_of(content, plain, text):
    check_card(content, plain, text)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_are_seen_in_a_card_and_do_nothing(content, plain, text):
    if text.strip():
        check_card(content, plain, text)


def test_a_card_has_the_links_and_images_of_its_own_alone(content):
    card = dataset_card(with_texts(content, "".join(HOSTILE)))
    tokens = list(leaves(MARKDOWN.parse(body(card))))
    links = {own.attrs["href"] for own in tokens if own.type == "link_open"}
    images = {own.attrs["src"] for own in tokens if own.type == "image"}
    assert links == {"https://arxiv.org/abs/2506.23274"}
    assert images == set(content.plots)


@settings(max_examples=25, phases=UNSHRUNK)
@given(text=texts.filter(str.strip))
@example(text="---\n---\n")
def test_the_header_is_the_same_structure_for_every_name(content, text):
    own = with_texts(content, text)
    header = card_header(own.lock, own.facts, own.features, own.sizes)
    card = dataset_card(own)
    assert yaml.safe_load(header_text(header)) == header
    assert yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n")) == header
    assert DatasetCard(card).data.to_dict()["pretty_name"] == text
    assert header["pretty_name"] == text
    kinds = [(name, type(value)) for name, value in header.items()]
    plain = with_texts(content, "x")
    wanted = card_header(plain.lock, plain.facts, plain.features, plain.sizes)
    assert kinds == [(name, type(value)) for name, value in wanted.items()]


@pytest.mark.parametrize("name", ["on", "null", "1.0", "1e3", "0x1", "é", "a.b-c_d"])
def test_names_of_variants_stay_text_in_the_header(content, name):
    text = json.dumps(content.lock).replace('"clean"', json.dumps(name))
    lock = json.loads(text.replace("data/clean/", f"data/{name}/"))
    sizes = {own.replace("data/clean/", f"data/{name}/"): n for own, n in content.sizes.items()}
    header = yaml.safe_load(header_text(card_header(lock, CardFacts(), content.features, sizes)))
    assert header["configs"][0]["config_name"] == name
    assert header["dataset_info"][0]["config_name"] == name


@settings(max_examples=25, phases=UNSHRUNK)
@given(text=texts.filter(str.strip))
def test_the_croissant_file_is_json_for_every_name(content, text):
    own = with_texts(content, text)
    found = json.loads(croissant_text(own.lock, own.report, own.facts, VARIANT))
    assert found["citeAs"] == text
    assert len(found["prov:wasDerivedFrom"]) == 3


def test_commands_hold_no_word_that_a_shell_would_read_otherwise(content):
    record = ReleaseRecord(name="a/b; rm -rf ~", version="1.0.0", previous=None, changes=[])
    lock = dict(content.lock) | {"release": record.model_dump()}
    card = dataset_card(replace(content, lock=lock))
    assert "progdata diff rebuilt NAME@1.0.0\n" in card
