"""Every law of design.md: that builds keep it, and that `check` finds the row that breaks it."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hostile_text import texts
from hypothesis import example, given, settings
from hypothesis import strategies as st
from row_forgeries import (
    RowEdit,
    add_tokens,
    append_marker,
    append_opening_tag,
    change,
    change_character,
    change_character_at_the_end,
    change_label,
    change_label_column,
    change_label_text,
    change_last_label,
    drop_character_at_the_end,
    drop_one_item,
    flip_mask,
    label_beyond_hundred,
    merge_segments,
    move_last_marker_back,
    move_marker,
    move_marker_before_thinking,
    move_marker_by_a_character,
    move_marker_into_response,
    nudge_progress,
    shift_label_span,
    show_one_marker_twice,
    unmark,
)
from shared_data import TOKENIZER, TRACES, needs_shared_data
from tampering import Forgery, Row, build_in, found_in, remark

from progdata.builders.errors import ProgdataError
from progdata.builders.markers import MarkerGrammar, strip
from progdata.builders.restore import restore_base
from progdata.builders.schema import trace_id
from progdata.builders.tokenizer import WordsCounter
from progdata.releases.check import check
from progdata.releases.lockfile import read_lock
from progdata.verifiers.laws import LawSettings, check_progress, check_rows


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    """A build of real traces with their tokenizer, some of them cut off."""
    return build_in(
        tmp_path_factory.mktemp("real") / "out",
        sources=str(TRACES / "r1_1p5b_math.jsonl.gz"),
        tokenizer=str(TOKENIZER),
        limit=40,
        policies={"cut_traces": "keep"},
    )


@pytest.fixture
def real_forgery(real, tmp_path) -> Forgery:
    return Forgery(shutil.copytree(real, tmp_path / "forged"))


# --- builds keep the laws


def test_a_countdown_build_keeps_every_law(countdown_build):
    assert check(countdown_build) == []
    splits = Forgery(countdown_build).lock["splits"]
    assert all(splits[split] > 3 for split in ("train", "validation", "ood"))
    assert pq.read_metadata(countdown_build / "rejects.parquet").num_rows > 0


@needs_shared_data
def test_a_build_of_real_traces_keeps_every_law(real):
    assert check(real) == []
    closed = {
        row["think_closed"] for split in ("train", "ood") for row in Forgery(real).rows(split=split)
    }
    assert closed == {True, False}


@pytest.mark.parametrize(
    "fields",
    [
        {"progress": "segment-sum"},
        {"segmenter": "tokens:40"},
        {"segmenter": "tokens:40", "progress": "segment-sum"},
        {"segmenter": {"name": "episodes", "min_tokens": 30}},
        {"markers": {"tag": "p", "format": "at {label} percent", "rounding": "floor"}},
        {"markers": {"rounding": "ceil"}},
        {"policies": {"marked_traces": "escape", "cut_traces": "keep"}},
        {"variants": [{"name": "wild", "sigma": 0.5, "clip": False, "mask_max": 1.0}, "special"]},
    ],
    ids=str,
)
def test_every_recipe_keeps_every_law(fields, tmp_path):
    assert check(build_in(tmp_path / "out", sources="countdown:20", **fields)) == []


@needs_shared_data
@pytest.mark.parametrize(
    "fields",
    [{"progress": "segment-sum", "segmenter": "tokens:64"}, {"segmenter": "episodes"}],
    ids=str,
)
def test_real_traces_keep_every_law_with_other_segments(fields, tmp_path):
    source = {"sources": str(TRACES / "no_gold_math.jsonl.gz"), "limit": 12}
    assert check(build_in(tmp_path / "out", tokenizer=str(TOKENIZER), **source, **fields)) == []


markers = st.sampled_from(["<progressbar>5%</progressbar>", "[50%]", "</progressbar>"])
thoughts = st.lists(texts | markers, max_size=4).map("".join)
completions = st.builds(
    lambda opening, think, close, response: opening + think + close + response,
    st.sampled_from(["<think>", "<think>\n", "\n<think>", ""]),
    thoughts,
    st.sampled_from(["</think>", "\n</think>\n\n", "</think>", ""]),
    thoughts,
)
hostile_rows = st.lists(
    st.fixed_dictionaries(
        {"problem": texts, "completion": completions, "model": st.none() | texts}
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("policy", ["reject", "escape"])
@settings(max_examples=25)
@given(rows=hostile_rows)
@example(
    [
        {"problem": "1", "completion": "<think><progressbar>7%</progressbar></think>", "model": ""},
        {"problem": "1", "completion": "<think>🙂\r\n\r\ne\u0301</think>é", "model": None},
        {"problem": "2", "completion": "\n\n<\\progressbar>\n\n<progressbar></think>", "model": ""},
        {"problem": "2", "completion": "<think>cut <progress\n\nbar>", "model": None},
    ]
)  # fmt: skip
def test_hostile_traces_are_kept_whole_or_rejected_with_a_reason(tmp_path_factory, policy, rows):
    folder = tmp_path_factory.mktemp("hostile")
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    policies = {"marked_traces": policy, "cut_traces": "keep"}
    try:
        build_in(folder / "out", sources=str(source), policies=policies)
    except ProgdataError as error:
        assert "no row was left" in str(error)
    else:
        assert check(folder / "out") == []
    rejects = pq.read_table(folder / "out" / "rejects.parquet").to_pylist()
    assert all(reject["reason"] and reject["stage"] for reject in rejects)
    kept = {name: restored(folder / "out", name) for name in ("clean", "noisy", "special")}
    assert kept["clean"] == kept["noisy"] == kept["special"]
    wanted = {trace_id(own["problem"], own["completion"], own["model"]): own for own in rows}
    assert all(wanted[own_id]["completion"] == text for own_id, text in kept["clean"].items())
    refused = {reject["row"] for reject in rejects}
    assert len(refused) == len(rejects)
    for number, own in enumerate(rows, 1):
        own_id = trace_id(own["problem"], own["completion"], own["model"])
        assert (own_id in kept["clean"]) or number in refused, "a row was lost"
    assert len(rows) == len(kept["clean"]) + len(rejects)


def restored(folder: Path, variant: str) -> dict[str, str]:
    """The completions of a variant without their markers, by trace_id."""
    found: dict[str, str] = {}
    for path in (folder / "data" / variant).glob("*.parquet"):
        grammar = Forgery(folder).grammar(variant)
        for row in pq.read_table(path).to_pylist():
            found[row["trace_id"]] = strip(row["completion"], grammar)
    return found


# --- one row is forged: check names the law and the row

ROW_FORGERIES: list[tuple[str, RowEdit, tuple[str, ...]]] = [
    ("lossless", change_character, ()),
    ("lossless", change_character, ("special",)),
    ("lossless", change_character_at_the_end, ("noisy",)),
    ("lossless", drop_character_at_the_end, ()),
    ("lossless", append_opening_tag, ("masked",)),
    ("lossless", change(problem="What is 2 + 2?"), ()),
    ("lossless", change(model="another"), ()),
    ("lossless", change(trace_id="0" * 32), ()),
    ("true", change_label, ()),
    ("true", change_label, ("clean",)),
    ("true", change_label, ("noisy",)),
    ("true", change_label, ("masked-special",)),
    ("true", change_last_label, ("clean",)),
    ("true", label_beyond_hundred, ("noisy",)),
    ("true", nudge_progress, ()),
    ("true", move_marker, ()),
    ("true", merge_segments, ()),
    ("true", add_tokens, ()),
    ("inside", change_label_column, ("clean",)),
    ("inside", change_label_column, ("noisy", "masked-special")),
    ("inside", change_label_text, ("special",)),
    ("inside", move_marker_into_response, ()),
    ("inside", move_marker_into_response, ("noisy",)),
    ("inside", move_last_marker_back, ()),
    ("inside", move_marker_before_thinking, ()),
    ("inside", shift_label_span, ("noisy",)),
    ("inside", show_one_marker_twice, ("clean",)),
    ("inside", append_marker, ("clean",)),
    ("inside", append_opening_tag, ("noisy",)),
    *[("inside", drop_one_item(name), ()) for name in ("labels", "progress", "label_spans")],
    ("inside", drop_one_item("masked"), ("clean",)),
    ("reproducible", flip_mask, ("masked",)),
    ("reproducible", flip_mask, ("masked-special",)),
    ("reproducible", flip_mask, ("clean",)),
    ("reproducible", unmark, ()),
    ("reproducible", move_marker_by_a_character, ()),
    ("aligned", move_marker, ("noisy",)),
    ("aligned", move_marker_by_a_character, ("masked-special",)),
    ("aligned", nudge_progress, ("noisy",)),
    ("aligned", change(answer="42"), ("noisy",)),
    ("aligned", change(prompt=[{"role": "user", "content": "?"}]), ("special",)),
    ("aligned", change(split="validation"), ("masked",)),
    ("aligned", change(problem_id="0" * 32), ()),
    ("aligned", change(problem_id="not a hash"), ()),
]


def name_of(forged: tuple[str, RowEdit, tuple[str, ...]]) -> str:
    law, edit, variants = forged
    return f"{law}-{edit.__name__}-{'+'.join(variants) or 'all'}"


@pytest.mark.parametrize("forged", ROW_FORGERIES, ids=name_of)
def test_a_forged_row_is_found_and_named(forgery, forged):
    law, edit, variants = forged
    own_id = forgery.edit_row(edit, *variants)
    found = found_in(forgery)
    own_id = "0" * 32 if (law, "0" * 32) in found else own_id
    assert (law, own_id) in found
    assert {where for _, where in found} == {own_id}, "nothing but this row is named"
    assert not any(found_law in ("declared", "atomic") for found_law, _ in found)


REAL_FORGERIES = [
    forged
    for forged in ROW_FORGERIES
    if forged[1] in (change_label, move_marker, change_character, flip_mask, shift_label_span)
    or forged[:2] == ("aligned", nudge_progress)
]


@needs_shared_data
@pytest.mark.slow
@pytest.mark.parametrize("forged", REAL_FORGERIES, ids=name_of)
def test_a_forged_real_row_is_found_and_named(real_forgery, forged):
    law, edit, variants = forged
    closed = [row["think_closed"] and len(row["labels"]) > 5 for row in real_forgery.rows()]
    own_id = real_forgery.edit_row(edit, *variants, index=closed.index(True))
    found = found_in(real_forgery)
    assert (law, own_id) in found
    assert {where for _, where in found} == {own_id}


# --- laws that hold of a table by itself, whatever else is forged with it


def details_of(forgery: Forgery, variant: str) -> dict[str, set[str]]:
    """What `check_rows` finds in the rows of `train` of one variant, by trace_id."""
    recipe = read_lock(forgery.folder).recipe
    laws = LawSettings(recipe.grammar(), recipe.seed, recipe.markers.rounding)
    (own,) = (own for own in recipe.build_variants() if own.name == variant)
    broken, _ = check_rows(pq.read_table(forgery.file(variant, "train")), own, laws)
    found: dict[str, set[str]] = {}
    for violation in broken:
        found.setdefault(violation.where, set()).add(f"{violation.law}: {violation.detail}")
    return found


def follow_progress(row: Row, grammar: MarkerGrammar) -> None:
    """Make a row's labels those of its forged progress."""
    total = row["num_tokens"]
    labels = [round(Fraction(100 * round(share * total), total)) for share in row["progress"]]
    remark(row, grammar, labels=dict(enumerate(labels)))


def test_clean_labels_that_fall_are_found_though_they_follow_the_progress(forgery):
    def fall(row: Row, grammar: MarkerGrammar) -> None:
        row["progress"][1:3] = row["progress"][1:3][::-1]
        follow_progress(row, grammar)

    own_id = forgery.edit_row(fall, "clean")
    (details,) = details_of(forgery, "clean").values()
    assert any("is lower than the one before" in detail for detail in details)
    assert all(detail.startswith("true") for detail in details)
    assert own_id in details_of(forgery, "clean")


def test_clean_labels_that_do_not_end_at_100_are_found_though_they_follow_the_progress(forgery):
    def fall_short(row: Row, grammar: MarkerGrammar) -> None:
        row["progress"][-1] = 0.97
        follow_progress(row, grammar)

    own_id = forgery.edit_row(fall_short, "clean")
    assert details_of(forgery, "clean") == {own_id: {"true: the last label is 97, not 100"}}


def test_a_tag_without_a_label_is_found_though_the_trace_id_knows_it(forgery):
    def hide(row: Row, grammar: MarkerGrammar) -> None:
        row["completion"] += grammar.opening
        row["trace_id"] = trace_id(row["problem"], strip(row["completion"]), row["model"])

    forgery.edit_row(hide, "clean")
    (details,) = details_of(forgery, "clean").values()
    assert {detail.split(":")[0] for detail in details} == {"inside"}


def test_a_wrong_number_of_tokens_is_found(forgery):
    own_id = forgery.edit_row(add_tokens, "clean")
    table = pq.read_table(forgery.file("clean", "train"))
    base = restore_base(table, forgery.grammar("clean"))
    broken = check_progress(table, base, WordsCounter(), "joint")
    assert [(own.law, own.where) for own in broken] == [("true", own_id)]
    assert "num_tokens is" in broken[0].detail


@settings(max_examples=40)
@given(data=st.data())
def test_no_character_of_a_completion_can_be_changed_unseen(
    countdown_build, tmp_path_factory, data
):
    folder = tmp_path_factory.mktemp("forged") / "out"
    forgery = Forgery(shutil.copytree(countdown_build, folder))
    variant = data.draw(st.sampled_from(forgery.variants))
    rows = forgery.rows(variant)
    row = data.draw(st.sampled_from(rows[:10]))
    text = row["completion"]
    at = data.draw(st.integers(0, len(text) - 1))
    new = data.draw(st.sampled_from(["", "x", "5", "é", "🙂", "\n", "<", "%"]))
    row["completion"] = text[:at] + new + text[at + 1 :]
    if row["completion"] != text:
        forgery.write_rows(variant, "train", rows)
        forgery.declare()
        assert {where for _, where in found_in(forgery)} == {row["trace_id"]}
