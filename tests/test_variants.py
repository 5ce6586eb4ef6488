import json
import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hostile_text import texts
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shared_data import TOKENIZER, TRACES, needs_shared_data

from progdata.builders.base_table import BaseSettings, SegmenterSettings, build_base
from progdata.builders.errors import UsageError
from progdata.builders.markers import MarkerGrammar, find_markers, strip
from progdata.builders.prompts import find_profile
from progdata.builders.randomness import normals, row_keys, uniforms
from progdata.builders.restore import restore_base
from progdata.builders.schema import VARIANT
from progdata.builders.sources import find_source, read_shards
from progdata.builders.variants import (
    MASK_MAX,
    PRESETS,
    SIGMA,
    Variant,
    draw_mask,
    find_preset,
    make_labels,
    mark,
    mask_probability,
    prepare_rows,
    replace_style,
)

SEED = 7
PLAIN = MarkerGrammar()
ESCAPED = MarkerGrammar(escaped=True)
IDS = [f"{number:032x}" for number in range(20_000)]


def base_of(source: str, **settings: Any) -> tuple[pa.Table, np.ndarray]:
    """The base table of a source, and the byte ends of its segments."""
    shards = read_shards([find_source(source)], limit=settings.pop("limit", None))
    made = [build_base(shard, BaseSettings(**settings)) for shard in shards]
    base = pa.concat_tables([own.base for own in made]).combine_chunks()
    working = pa.concat_tables([own.working for own in made]).combine_chunks()
    return base, working["byte_ends"].combine_chunks().flatten().to_numpy().astype(np.int64)


def marked(
    base: tuple[pa.Table, np.ndarray],
    grammar: MarkerGrammar = PLAIN,
    variants: list[Variant] | None = None,
    *,
    first_position: int = 0,
    split_rows: int | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """The rows of each variant."""
    return {
        name: table.to_pylist()
        for name, table in marked_tables(
            base, grammar, variants, first_position=first_position, split_rows=split_rows
        ).items()
    }


def marked_tables(
    base: tuple[pa.Table, np.ndarray],
    grammar: MarkerGrammar = PLAIN,
    variants: list[Variant] | None = None,
    *,
    first_position: int = 0,
    split_rows: int | None = None,
) -> dict[str, pa.Table]:
    table, byte_ends = base
    rows = prepare_rows(
        table,
        byte_ends,
        grammar=grammar,
        split="train",
        first_position=first_position,
        split_rows=split_rows or table.num_rows,
    )
    wanted = variants or list(PRESETS.values())
    tables = mark(rows, wanted, seed=SEED, rounding="half-even", profile=find_profile("deepscaler"))
    return dict(zip([variant.name for variant in wanted], tables, strict=True))


@pytest.fixture(scope="module")
def countdown() -> tuple[pa.Table, np.ndarray]:
    return base_of("countdown:60")


def labels_at(progress: list[tuple[int, int]], variant: Variant, **options: Any) -> np.ndarray:
    """Labels of one row after another, each with one marker at `tokens` of `total`."""
    ends, totals = np.array(progress).T
    ids = options.get("ids", IDS[: len(progress)])
    counts = np.ones(len(ids), dtype=np.int64)
    seed = options.get("seed", SEED)
    return make_labels(
        ids, counts, ends, totals, variant, seed, options.get("rounding", "half-even")
    )


# --- labels


@given(
    progress=st.lists(
        st.tuples(st.integers(1, 40_000), st.integers(0, 40_000)).map(lambda p: (p[0], sum(p))),
        min_size=1,
        max_size=20,
    )
)
@example([(1, 200), (3, 200), (1, 1)])
def test_clean_labels_are_progress_rounded_half_to_even(progress):
    shares = [Fraction(100 * end, total) for end, total in progress]
    clean = PRESETS["clean"]
    assert labels_at(progress, clean).tolist() == [round(share) for share in shares]
    assert labels_at(progress, clean, rounding="floor").tolist() == [math.floor(s) for s in shares]
    assert labels_at(progress, clean, rounding="ceil").tolist() == [math.ceil(s) for s in shares]


def test_clean_labels_rise_to_100(countdown):
    for row in marked(countdown)["clean"]:
        assert row["labels"] == sorted(row["labels"])
        assert row["labels"][-1] == 100
        shares = [np.rint(100 * np.float64(share)) for share in row["progress"]]
        assert np.abs(np.array(row["labels"]) - shares).max() <= 1


@pytest.mark.parametrize("sigma", [0.02, SIGMA, 0.1])
def test_noise_has_mean_0_and_the_standard_deviation_that_is_asked_for(sigma):
    rows = len(IDS)
    labels = labels_at([(1, 2)] * rows, Variant("noisy", sigma=sigma, clip=False))
    spread = math.sqrt((100 * sigma) ** 2 + 1 / 12)  # rounding adds that of a uniform number
    assert abs(labels.mean() - 50) < 4 * spread / math.sqrt(rows)
    assert abs(labels.std() - spread) < 4 * spread / math.sqrt(2 * rows)
    within = (np.abs(labels - 50) <= 100 * sigma + 0.5).mean()
    expected = math.erf((100 * sigma + 0.5) / (100 * sigma) / math.sqrt(2))
    assert abs(within - expected) < 4 * math.sqrt(expected * (1 - expected) / rows) + 0.02


def test_noise_of_a_rows_markers_is_independent():
    noise = normals(row_keys(SEED, IDS[:5000], "noisy/noise"), np.full(5000, 4)).reshape(-1, 4)
    correlation = np.corrcoef(noise.T) - np.eye(4)
    assert np.abs(correlation).max() < 4 / math.sqrt(5000)
    assert abs((noise[:, 0] > 0).mean() - 0.5) < 4 * 0.5 / math.sqrt(5000)


def test_noisy_labels_are_clipped_to_0_and_100_unless_asked_otherwise():
    progress = [(1, 100), (99, 100)] * 2000
    clipped = labels_at(progress, Variant("noisy", sigma=SIGMA))
    free = labels_at(progress, Variant("noisy", sigma=SIGMA, clip=False))
    assert (free < 0).any() and (free > 100).any()
    assert clipped.tolist() == np.clip(free, 0, 100).tolist()


def test_noise_depends_on_seed_trace_and_variant():
    progress = [(1, 2)] * 200
    noisy = Variant("noisy", sigma=SIGMA)
    labels = labels_at(progress, noisy).tolist()
    assert labels == labels_at(progress, noisy).tolist()
    assert labels != labels_at(progress, noisy, seed=SEED + 1).tolist()
    assert labels != labels_at(progress, Variant("other", sigma=SIGMA)).tolist()
    assert labels != labels_at(progress, noisy, ids=IDS[200:400]).tolist()


# --- random numbers


def splitmix64(key: int, count: int) -> list[float]:
    """SplitMix64 in plain integers (Steele, Lea, Flood 2014)."""
    mask, found = 2**64 - 1, []
    for number in range(1, count + 1):
        state = (key + number * 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
        found.append(((state >> 11) + 0.5) * 2.0**-53)
    return found


@given(rows=st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 6)), max_size=8))
@example([(2**64 - 1, 5), (0, 0), (0, 3)])
def test_random_numbers_are_splitmix64(rows):
    keys = np.array([key for key, _ in rows], dtype=np.uint64)
    counts = np.array([count for _, count in rows], dtype=np.int64)
    expected = [number for key, count in rows for number in splitmix64(key, count)]
    assert uniforms(keys, counts).tolist() == expected


@given(
    rows=st.lists(
        st.tuples(st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(0, 9)),
        unique_by=lambda row: row[0],
        max_size=20,
    ),
    data=st.data(),
)
def test_a_rows_numbers_are_the_same_to_the_last_bit_in_any_batch(rows, data):
    def drawn(chosen: list[tuple[str, int]], draw: Any) -> dict[str, bytes]:
        counts = np.array([count for _, count in chosen], dtype=np.int64)
        numbers = draw(row_keys(SEED, [own_id for own_id, _ in chosen], "x"), counts)
        edges = np.append(0, np.cumsum(counts)).tolist()
        pairs = zip(chosen, pairwise(edges), strict=True)
        return {own_id: numbers[a:b].tobytes() for (own_id, _), (a, b) in pairs}

    shuffled = data.draw(st.permutations(rows))
    some = shuffled[: data.draw(st.integers(0, len(rows)))]
    for draw in (uniforms, normals):
        together = drawn(rows, draw)
        assert drawn(shuffled, draw) == together
        assert drawn(some, draw) == {own_id: together[own_id] for own_id, _ in some}
        for row in rows[:3]:
            assert drawn([row], draw) == {row[0]: together[row[0]]}


# --- masks


def test_masks_follow_the_cosine_ramp_over_the_rows():
    rows, markers = len(IDS), 10
    counts = np.full(rows, markers, dtype=np.int64)
    variant = PRESETS["masked"]
    masked = draw_mask(IDS, counts, np.arange(rows), rows, variant, SEED)
    rates = masked.reshape(20, -1).mean(axis=1)
    middles = (np.arange(20) + 0.5) / 20
    expected = MASK_MAX * (1 - np.cos(np.pi * middles)) / 2
    size = rows * markers / 20
    assert (np.abs(rates - expected) < 4 * np.sqrt(expected * (1 - expected) / size) + 0.003).all()


def test_the_ramp_goes_from_0_to_the_highest_probability():
    ramp = mask_probability(np.arange(101), 101, 0.5)
    assert (ramp[0], ramp[50], ramp[100]) == pytest.approx((0.0, 0.25, 0.5))
    assert (np.diff(ramp) > 0).all()
    assert mask_probability(np.arange(1), 1, 0.5).tolist() == [0.0]
    assert not draw_mask(IDS[:1], np.array([999]), np.array([0]), 50, PRESETS["masked"], 0).any()
    everything = Variant("all", mask_max=1.0)
    assert draw_mask(IDS[:1], np.array([999]), np.array([49]), 50, everything, 0).all()


def test_a_rows_mask_is_the_same_in_any_batch(countdown):
    table, byte_ends = countdown
    whole = marked(countdown)["masked"]
    counts = np.diff(table["segments"].combine_chunks().offsets.to_numpy())
    edges = np.append(0, np.cumsum(counts))
    pieces = []
    for first, last in pairwise([0, 1, 20, 21, table.num_rows]):
        part = (
            table.slice(first, last - first).combine_chunks(),
            byte_ends[edges[first] : edges[last]],
        )
        pieces += marked(part, first_position=first, split_rows=table.num_rows)["masked"]
    assert pieces == whole
    assert any(True in row["masked"] for row in whole)


# --- presets


def test_presets_are_the_three_axes():
    axes = {name: (own.sigma, own.special, own.mask_max) for name, own in PRESETS.items()}
    assert axes == {
        "clean": (0, False, 0),
        "noisy": (SIGMA, False, 0),
        "masked": (0, False, MASK_MAX),
        "special": (0, True, 0),
        "masked-special": (0, True, MASK_MAX),
    }
    assert all(own.name == name and own.clip for name, own in PRESETS.items())


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"'nosy'; did you mean 'noisy'\?; choose from clean"):
        find_preset("nosy")


def test_all_presets_have_the_same_rows_and_progress(countdown):
    found = marked(countdown)
    differing = {"completion", "labels", "label_spans", "masked"}
    shared = [name for name in VARIANT.names if name not in differing]
    for rows in found.values():
        assert [{name: row[name] for name in shared} for row in rows] == [
            {name: row[name] for name in shared} for row in found["clean"]
        ]
    assert [row["trace_id"] for row in found["clean"]] == countdown[0]["trace_id"].to_pylist()


def test_each_preset_changes_what_its_axes_say(countdown):
    found = marked(countdown)

    def column(variant: str, name: str) -> list[Any]:
        return [row[name] for row in found[variant]]

    assert column("noisy", "labels") != column("clean", "labels")
    for variant in ("masked", "special", "masked-special"):
        assert column(variant, "labels") == column("clean", "labels")
    assert column("masked", "completion") == column("clean", "completion")
    assert column("masked-special", "completion") == column("special", "completion")
    for variant in ("clean", "noisy", "special"):
        assert not any(True in masked for masked in column(variant, "masked"))
    for variant in ("masked", "masked-special"):
        assert any(True in masked for masked in column(variant, "masked"))
    assert column("masked", "masked") != column("masked-special", "masked"), "drawn per variant"


def test_labels_are_shown_as_plain_text_or_as_special_tokens(countdown):
    found = marked(countdown)
    for variant in PRESETS.values():
        for row in found[variant.name]:
            shown = [row["completion"][s["start"] : s["end"]] for s in row["label_spans"]]
            wanted = "[{}%]" if variant.special else "{}%"
            assert shown == [wanted.format(label) for label in row["labels"]]
            at = [marker.label_start for marker in find_markers(row["completion"])]
            assert at == [span["start"] for span in row["label_spans"]]


# --- any text


def write_traces(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


completions = st.builds(
    lambda opening, think, response: f"{opening}{think}\n\na</think>{response}",
    st.sampled_from(["<think>", " \n<think>\n", ""]),
    texts.filter(lambda text: "think>" not in text),
    texts.filter(lambda text: "think>" not in text),
)
NEWLINE, EVERY_TOKEN = SegmenterSettings(), SegmenterSettings("tokens", tokens=1)
MANY_BYTES = "<think>🙂\n\ne\u0301 <progressbar>3%</progressbar>\n\n数<\\progressbar></think>é🙂"


@pytest.mark.parametrize("segmenter", [NEWLINE, EVERY_TOKEN], ids=["newline", "tokens:1"])
@pytest.mark.parametrize("grammar", [PLAIN, ESCAPED], ids=["reject", "escape"])
@settings(max_examples=30)
@given(rows=st.lists(completions, min_size=1, max_size=6))
@example([MANY_BYTES, "plain\n\nascii</think>x", "<think>é</think>"])
def test_any_text_is_marked_and_restored(tmp_path_factory, grammar, segmenter, rows):
    folder = tmp_path_factory.mktemp("rows")
    source = write_traces(
        folder, [{"problem": str(number), "completion": own} for number, own in enumerate(rows)]
    )
    policy = "escape" if grammar.escaped else "reject"
    base = base_of(source, grammar=grammar, marked_traces=policy, segmenter=segmenter)
    tables = marked_tables(base, grammar)
    assert base[0].num_rows == len(rows) or not grammar.escaped
    for name, table in tables.items():
        own_grammar = replace_style(grammar, PRESETS[name].special)
        for row in table.to_pylist():
            original = rows[int(row["problem"])]
            assert strip(row["completion"], own_grammar) == original
            shown = [row["completion"][s["start"] : s["end"]] for s in row["label_spans"]]
            assert shown == [own_grammar.label_text(label) for label in row["labels"]]
        restored = restore_base(table, own_grammar)
        for column in base[0].column_names:
            expected = ["train"] * table.num_rows if column == "split" else None
            assert restored[column].to_pylist() == (expected or base[0][column].to_pylist())


def test_traces_that_were_cut_off_keep_their_text_and_get_no_markers(tmp_path):
    rows = ["<think>cut\n\noff 🙂", "<think>one\n\ntwo</think>three", "prefilled and cut"]
    source = write_traces(
        tmp_path, [{"problem": str(number), "completion": own} for number, own in enumerate(rows)]
    )
    base = base_of(source, cut_traces="keep")
    for name, table in marked_tables(base).items():
        grammar = replace_style(PLAIN, PRESETS[name].special)
        assert [strip(text, grammar) for text in table["completion"].to_pylist()] == rows
        assert [len(labels) for labels in table["labels"].to_pylist()] == [0, 2, 0]
        restored = restore_base(table, grammar)
        assert restored["think"].to_pylist() == ["cut\n\noff 🙂", "one\n\ntwo", "prefilled and cut"]
        assert restored["response"].to_pylist() == ["", "three", ""]


@needs_shared_data
@pytest.mark.parametrize("grammar", [PLAIN, ESCAPED], ids=["reject", "escape"])
def test_real_traces_are_restored_from_every_preset(grammar):
    base = base_of(
        str(TRACES / "r1_distill.jsonl.gz"),
        limit=80,
        tokenizer_path=str(TOKENIZER / "tokenizer.json"),
        fast=True,
        grammar=grammar,
        marked_traces="escape" if grammar.escaped else "reject",
    )
    for name, table in marked_tables(base, grammar).items():
        restored = restore_base(table, replace_style(grammar, PRESETS[name].special))
        assert restored.num_rows > 40
        for column in base[0].column_names:
            if column != "split":
                assert restored[column].equals(base[0][column]), (name, column)


def test_no_rows_make_empty_tables(countdown):
    empty = (countdown[0].slice(0, 0), np.zeros(0, dtype=np.int64))
    for table in marked_tables(empty, split_rows=1).values():
        assert table.schema.equals(VARIANT)
        assert table.num_rows == 0
