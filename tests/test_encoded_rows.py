"""Rows as tokens: which tokens show a label, for several tokenizers and every variant."""

import copy
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import TOKENIZER, TRACES, needs_shared_data
from training_models import BARE_TEMPLATE, UNKNOWN, files_of, make_tokenizer, texts_of

from progdata.builders.chat_template import ChatTemplate, load_chat_template
from progdata.builders.errors import ProgdataError
from progdata.builders.special_tokens import add_progress_tokens
from progdata.builders.variants import PRESETS
from progdata.releases.build import build
from progdata.releases.recipe import load_recipe
from progdata.training_refs.encoded_rows import (
    CompletionEncoder,
    EncodedRow,
    answer_text,
    encode_rows,
    label_spans,
    label_tokens,
)
from progdata.training_refs.windows import IGNORED, cut_windows, what_is_seen

KINDS = ["byte-level", "unigram", "words", pytest.param("deepscaler", marks=needs_shared_data)]


@pytest.fixture(scope="module")
def tokenizers(countdown_build: Path, tmp_path_factory) -> Any:
    """Each tokenizer with its template, by kind and by whether it has the progress tokens."""
    made: dict[tuple[str, bool], ChatTemplate] = {}

    def get(kind: str, special: bool) -> ChatTemplate:
        if (kind, special) not in made:
            texts = [own for name in PRESETS for own in texts_of(countdown_build, name)]
            tokenizer = make_tokenizer(kind, texts)
            if special:
                add_progress_tokens(tokenizer)
            folder = tmp_path_factory.mktemp(kind)
            tokenizer.save_pretrained(folder)
            made[kind, special] = load_chat_template(folder)
        return made[kind, special]

    return get


def rows_of(folder: Path, variant: str) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in files_of(folder, variant))


# --- which tokens show a label -----------------------------------------------------------------


def slow_pieces(kind: str, tokenizer: Any, text: str, ids: list[int]) -> Iterator[tuple[int, int]]:
    """The bytes of `text` that each token stands for, found from what the tokens are called."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    to_byte = {letter: byte for byte, letter in bytes_to_unicode().items()}
    added = tokenizer.get_added_vocab()
    data, at = text.encode(), 0
    for name in tokenizer.convert_ids_to_tokens(ids):
        if kind == "words":  # blanks belong to no token
            at += len(data[at:]) - len(data[at:].lstrip())
        if name == UNKNOWN:  # a word or a run of signs that it has not been trained on
            piece = re.findall(r"\w+|[^\w\s]+", data[at:].decode())[0].encode()
        elif name in added or kind == "words":
            piece = name.encode()
        elif kind == "unigram":
            piece = name.replace("▁", " ").encode()
            if not data.startswith(piece, at):  # the blank that it puts before a text
                piece = piece[1:]
        else:
            piece = bytes(to_byte[letter] for letter in name)
        assert data.startswith(piece, at), (name, data[at : at + 20])
        yield at, at + len(piece)
        at += len(piece)
    assert not data[at:].strip()


def slow_markers(kind: str, tokenizer: Any, text: str, spans: Any, ids: list[int]) -> list[int]:
    """Of each token the first label with a byte of its own in the token, byte by byte."""
    owner = [-1] * len(text)
    for number, (start, end) in enumerate(spans):
        owner[start:end] = [number] * (end - start)
    owner_of_byte = [owner[i] for i, letter in enumerate(text) for _ in range(len(letter.encode()))]
    found = []
    for start, end in slow_pieces(kind, tokenizer, text, ids):
        owners = [own for own in owner_of_byte[start:end] if own != -1]
        found.append(owners[0] if owners else -1)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", PRESETS)
def test_label_tokens_are_those_of_a_slow_reference(
    kind: str, variant: str, tokenizers: Any, countdown_build: Path
) -> None:
    template = tokenizers(kind, PRESETS[variant].special)
    table = rows_of(countdown_build, variant).slice(0, 10)
    encoded = encode_rows(table, template).rows
    assert len(encoded) == table.num_rows
    for row, own in zip(table.to_pylist(), encoded, strict=True):
        text = answer_text(row, template.prefill)
        spans = label_spans(row, text)
        ids = own.completion.tolist()
        eos = [template.tokenizer.eos_token_id] if row["finish_reason"] in (None, "stop") else []
        assert ids[len(ids) - len(eos) :] == eos
        ids = ids[: len(ids) - len(eos)]
        expected = slow_markers(kind, template.tokenizer, text, spans, ids)
        assert own.markers.tolist() == expected + [-1] * len(eos)
        assert {*own.markers.tolist()} - {-1} == {*range(len(row["labels"]))}


@pytest.mark.parametrize("variant", ["special", "masked-special"])
def test_a_special_label_is_one_token(variant: str, tokenizers: Any, countdown_build: Path) -> None:
    template = tokenizers("byte-level", True)
    first = template.tokenizer.convert_tokens_to_ids("[0%]")
    for row in encode_rows(rows_of(countdown_build, variant), template).rows:
        shown = row.completion[row.markers >= 0]
        assert (shown - first).tolist() == row.labels.tolist()


@st.composite
def offsets_and_spans(draw: Any) -> tuple[np.ndarray, np.ndarray]:
    """Tokens in any order, some empty, some overlapping; disjoint label spans."""
    tokens = draw(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)), max_size=12))
    edges = sorted(draw(st.sets(st.integers(0, 36), max_size=10)))
    spans = list(zip(edges[0::2], edges[1::2], strict=False))
    offsets = [(start, start + size) for start, size in tokens]
    return np.array(offsets).reshape(-1, 2), np.array(spans, dtype=np.int64).reshape(-1, 2)


@given(offsets_and_spans())
def test_a_token_shows_the_first_label_that_it_overlaps(case: tuple[np.ndarray, np.ndarray]):
    offsets, spans = case
    expected = [
        next((n for n, (a, b) in enumerate(spans) if {*range(*own)} & {*range(a, b)}), -1)
        for own in offsets.tolist()
    ]
    assert label_tokens(offsets, spans).tolist() == expected


def test_blanks_inside_a_label_are_part_of_it(countdown_build: Path) -> None:
    """Post-processors trim them off the offsets."""
    tokenizer = make_tokenizer("byte-level", ["a b"])
    ids, offsets = CompletionEncoder(tokenizer).encode(["x 7 of 100 y"])[0]
    found = label_tokens(offsets, np.array([[1, 11]]))
    assert found.tolist() == [-1, *[0] * (len(ids) - 2), -1]


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        name_or_path = "org/slow"

    with pytest.raises(ProgdataError, match=r"^tokenizer 'org/slow': has no tokenizer\.json"):
        CompletionEncoder(Slow())


# --- prompt and completion ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def templates(countdown_build: Path, tmp_path_factory, tokenizers: Any) -> list[ChatTemplate]:
    """One that prefills `<think>`, and one that leaves it to the model."""
    bare = copy.deepcopy(tokenizers("byte-level", False).tokenizer)
    bare.chat_template = BARE_TEMPLATE
    bare.save_pretrained(folder := tmp_path_factory.mktemp("bare"))
    return [tokenizers("byte-level", False), load_chat_template(folder)]


@pytest.mark.parametrize("bare", [False, True], ids=["prefilled", "bare"])
@pytest.mark.parametrize("opening", ["", "<think>"], ids=["without opening", "with opening"])
def test_prompt_and_completion_make_the_whole_text(
    bare: bool, opening: str, templates: list[ChatTemplate], countdown_build: Path
) -> None:
    """Whatever part of `<think>` the template and the trace have, each stands there once."""
    template = templates[bare]
    row = rows_of(countdown_build, "clean").slice(0, 1).to_pylist()[0]
    rest = row["completion"][len(row["think_opening"]) :].lstrip("\n")
    marked = f"{opening}\n{rest}" if opening else rest
    moved = len(marked) - len(row["completion"])
    row |= {"completion": marked, "think_opening": opening, "finish_reason": "stop"}
    row["label_spans"] = [
        {"start": span["start"] + moved, "end": span["end"] + moved} for span in row["label_spans"]
    ]
    table = pa.Table.from_pylist([row], schema=rows_of(countdown_build, "clean").schema)
    (encoded,) = encode_rows(table, template).rows
    whole = template.tokenizer.decode([*encoded.prompt, *encoded.completion])
    problem = row["prompt"][0]["content"]
    bos, eos = template.tokenizer.bos_token, template.tokenizer.eos_token
    assert whole == f"{bos}<｜User｜>{problem}<｜Assistant｜><think>\n{rest}{eos}"
    text = answer_text(row, template.prefill)
    shown = [text[a:b] for a, b in label_spans(row, text)]
    assert shown == [f"{label}%" for label in row["labels"]]
    assert encoded.prompt.tolist().count(template.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize(
    ("closed", "reason", "ends"),
    [(True, "stop", True), (True, None, True), (True, "length", False), (False, None, False)],
)
def test_eos_is_a_target_of_traces_that_ended(
    closed: bool, reason: str | None, ends: bool, templates: list[ChatTemplate], countdown_build
) -> None:
    table = rows_of(countdown_build, "clean").slice(0, 1)
    row = table.to_pylist()[0] | {"think_closed": closed, "finish_reason": reason}
    (encoded,) = encode_rows(pa.Table.from_pylist([row], schema=table.schema), templates[0]).rows
    assert (encoded.completion[-1] == templates[0].tokenizer.eos_token_id) == ends


def test_a_prompt_that_holds_a_token_of_the_model_is_dropped(
    templates: list[ChatTemplate], countdown_build: Path
) -> None:
    table = rows_of(countdown_build, "clean").slice(0, 2)
    rows = table.to_pylist()
    rows[0]["prompt"][0]["content"] += templates[0].tokenizer.eos_token
    found = encode_rows(pa.Table.from_pylist(rows, schema=table.schema), templates[0])
    assert found.dropped == {"special_token_in_problem": 1}
    assert [row.trace_id for row in found.rows] == [rows[1]["trace_id"]]


@needs_shared_data
def test_real_traces_come_back_from_their_tokens(tmp_path: Path) -> None:
    recipe = load_recipe(
        None,
        sources=[str(TRACES / "r1_distill.jsonl.gz")],
        variants=["noisy"],
        tokenizer=str(TOKENIZER),
        limit=6,
    )
    build(recipe, tmp_path / "out")
    template = load_chat_template(TOKENIZER)
    table = rows_of(tmp_path / "out", "noisy")
    encoded = encode_rows(table, template).rows
    for row, own in zip(table.to_pylist(), encoded, strict=True):
        text = template.tokenizer.decode(own.completion)
        assert text.removesuffix(template.tokenizer.eos_token) == answer_text(row, template.prefill)
        assert {*own.markers.tolist()} - {-1} == {*range(len(row["labels"]))}


# --- windows -----------------------------------------------------------------------------------


def make_row(prompt: int, completion: int, labels: int = 0) -> EncodedRow:
    """A row whose ids are their own positions, with labels of one token at even distances."""
    markers = np.full(completion, -1, dtype=np.int32)
    places = np.linspace(0, completion - 1, labels).astype(int) if labels else []
    markers[places] = np.arange(labels)
    ids = np.arange(prompt + completion, dtype=np.int32)
    shown = np.linspace(0, 100, labels).astype(np.int32)
    return EncodedRow("t", ids[:prompt], ids[prompt:], markers, shown, np.zeros(labels, dtype=bool))


@given(st.integers(1, 20), st.integers(1, 200), st.integers(2, 60), st.integers(0, 30))
def test_every_token_is_a_target_once_in_windows(
    prompt: int, completion: int, context: int, overlap: int
) -> None:
    row = make_row(prompt, completion)
    windows = cut_windows(row, context, "windows", overlap)
    targets = np.concatenate([own.labels[own.labels != IGNORED] for own in windows] or [[]])
    assert targets.tolist() == (row.completion.tolist() if prompt < context else [])
    for own in windows:
        assert len(own.input_ids) <= context
        assert own.input_ids.tolist() == own.position_ids.tolist()  # what make_row makes them
        assert own.input_ids[:prompt].tolist() == row.prompt.tolist()
        assert own.target - own.first == (
            min(overlap, (context - prompt) // 2) if own.first else own.target
        )
        assert (
            own.labels[own.labels != IGNORED].tolist()
            == own.input_ids[own.labels != IGNORED].tolist()
        )


@given(st.integers(1, 20), st.integers(1, 200), st.integers(2, 60))
def test_truncation_keeps_the_start(prompt: int, completion: int, context: int) -> None:
    row = make_row(prompt, completion)
    windows = cut_windows(row, context, "truncate", 10)
    whole = [*row.prompt.tolist(), *row.completion.tolist()]
    assert [own.input_ids.tolist() for own in windows] == (
        [whole[:context]] if prompt < context else []
    )


def test_the_report_counts_what_is_seen() -> None:
    rows = [make_row(10, 100, 11), make_row(10, 20, 11), make_row(200, 10, 1)]
    seen = what_is_seen(rows, 60, 5)
    assert seen["truncate"] == {
        "windows": 2,
        "target_tokens": 70,
        "rows_without_room": 1,
        "rows_cut": 2,
        "markers": 23,
        "markers_seen": 6 + 11,
        "share_seen": 17 / 23,
        "mean_label": (sum(range(0, 51, 10)) + sum(range(0, 101, 10))) / 17,
        "labels_by_decile": [2, 2, 2, 2, 2, 2, 1, 1, 1, 2],
    }
    assert seen["windows"]["markers_seen"] == 22
    assert (seen["windows"]["windows"], seen["windows"]["rows_cut"]) == (4, 1)


def test_a_label_that_is_cut_in_two_is_not_seen() -> None:
    row = make_row(1, 10, 2)
    markers = np.array([-1, 0, 0, -1, -1, 1, 1, -1, -1, -1], dtype=np.int32)
    row = replace(row, markers=markers)
    found = [what_is_seen([row], context, 0)["truncate"]["markers_seen"] for context in (7, 8)]
    assert found == [1, 2]
