import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from progdata.builders.markers import MarkerGrammar, find_markers
from progdata.builders.schema import VARIANT
from progdata.builders.tokenizer import WordsCounter
from progdata.cards.statistics import (
    CONTEXTS,
    QUANTILES,
    add_tallies,
    marker_costs,
    quantiles,
    survival,
    tally_variant,
)
from progdata.releases.build import build
from progdata.releases.recipe import Recipe

WORDS = WordsCounter()
COSTS = marker_costs(MarkerGrammar(), WORDS)
COLUMNS = ["num_tokens", "labels", "progress", "masked"]
SCHEMA = pa.schema([VARIANT.field(name) for name in COLUMNS])


@st.composite
def rows_of_variant(draw) -> dict[str, Any]:
    """What the statistics read of a row: markers at rising tokens, labels of any number."""
    total = draw(st.integers(1, 20_000))
    ends = sorted(draw(st.sets(st.integers(1, total), max_size=6)) | {total})
    ends = draw(st.sampled_from([ends, []]))
    return {
        "num_tokens": total,
        "progress": [float(np.float32(end / total)) for end in ends],
        "labels": draw(st.lists(st.integers(-30, 130), min_size=len(ends), max_size=len(ends))),
        "masked": draw(st.lists(st.booleans(), min_size=len(ends), max_size=len(ends))),
        "ends": ends,
        "prompt": draw(st.integers(0, 400)),
    }


def tally(rows: list[dict[str, Any]]) -> dict[str, Any]:
    table = pa.Table.from_pylist([{name: row[name] for name in COLUMNS} for row in rows], SCHEMA)
    prompts = np.array([row["prompt"] for row in rows], dtype=np.int64)
    return tally_variant(table, prompts, COSTS)


def seen(row: dict[str, Any], context: int) -> list[bool]:
    """Whether each marker of a row ends within the context, written out."""
    used, found, before = row["prompt"], [], 0
    for end, label in zip(row["ends"], row["labels"], strict=True):
        used += end - before + int(COSTS[min(max(label, 0), 100)])
        before = end
        found.append(used <= context)
    return found


def histogram(labels: list[int]) -> list[int]:
    shown = [min(max(label, 0), 100) for label in labels]
    return [shown.count(label) for label in range(101)]


@given(rows=st.lists(rows_of_variant(), max_size=8))
@example([])
def test_a_tally_counts_what_a_loop_over_the_markers_counts(rows):
    found = tally(rows)
    labels = [label for row in rows for label in row["labels"]]
    assert found["rows"] == len(rows)
    assert found["markers"] == len(labels)
    assert found["masked"] == sum(own for row in rows for own in row["masked"])
    assert found["out_of_range"] == sum(not 0 <= label <= 100 for label in labels)
    assert found["labels"] == histogram(labels)
    for context in CONTEXTS:
        own = found["contexts"][str(context)]
        survivors = [
            label
            for row in rows
            for label, visible in zip(row["labels"], seen(row, context), strict=True)
            if visible
        ]
        assert own["markers"] == len(survivors)
        assert own["labels"] == histogram(survivors)
        assert own["whole_traces"] == sum(seen(row, context)[-1:] == [True] for row in rows)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("over", [0, 1])
def test_a_marker_that_ends_with_the_last_token_of_a_context_is_seen(context, over):
    """Prompt, thinking and marker fill the context, or take one token more."""
    tokens = context - 20 - int(COSTS[100])
    row = {"num_tokens": tokens, "progress": [1.0], "labels": [100], "masked": [False]}
    own = tally([row | {"prompt": 20 + over, "ends": [tokens]}])["contexts"][str(context)]
    assert (own["markers"], own["whole_traces"], sum(own["labels"])) == (1 - over,) * 3


@given(rows=st.lists(rows_of_variant(), min_size=2, max_size=8), data=st.data())
def test_tallies_of_parts_add_up_to_the_tally_of_the_whole(rows, data):
    cut = data.draw(st.integers(1, len(rows) - 1))
    assert add_tallies(tally(rows[:cut]), tally(rows[cut:])) == tally(rows)
    assert add_tallies(tally(rows[cut:]), tally(rows[:cut])) == tally(rows)


@given(rows=st.lists(rows_of_variant(), max_size=8))
@example([])
def test_survival_is_the_share_of_markers_traces_and_label_deciles(rows):
    found = survival(tally(rows))
    labels = [label for row in rows for label in row["labels"]]
    for context in CONTEXTS:
        visible = [own for row in rows for own in seen(row, context)]
        whole = sum(seen(row, context)[-1:] == [True] for row in rows)
        own = found[str(context)]
        assert own["markers"] == share(sum(visible), len(labels))
        assert own["whole_traces"] == share(whole, len(rows))
        tenths = [min(max(label, 0) // 10, 9) for label in labels]  # 100 is of the last tenth
        names = [*(f"{low}-{low + 9}" for low in range(0, 90, 10)), "90-100"]
        kept = [own for own, shown in zip(tenths, visible, strict=True) if shown]
        assert own["by_label"] == {
            name: share(kept.count(tenth), tenths.count(tenth)) for tenth, name in enumerate(names)
        }


def share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


@pytest.mark.parametrize("special", [False, True])
def test_a_marker_costs_its_tokens_and_a_special_token_is_one(special):
    costs = marker_costs(MarkerGrammar(special=special), WORDS)
    assert costs.shape == (101,)
    if special:
        assert set(costs.tolist()) == {3 + 1 + 4}, "<progressbar>, the token, </progressbar>"
    else:
        assert [costs[label] for label in (5, 37, 100)] == [3 + 2 + 4, 3 + 3 + 4, 3 + 4 + 4]


@given(values=st.lists(st.integers(0, 100_000), max_size=40))
def test_quantiles_are_values_of_the_column(values):
    found = quantiles(values)
    if not values:
        assert found == {}
        return
    ordered = sorted(values)
    assert found["mean"] == pytest.approx(float(Fraction(sum(values), len(values))), abs=0.006)
    assert (found["p0"], found["p100"]) == (ordered[0], ordered[-1])
    for quantile in QUANTILES:
        at = quantile * (len(values) - 1)
        assert found[f"p{round(100 * quantile)}"] in {ordered[int(at)], ordered[-int(-at // 1)]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("statistics") / "out"
    fields = {"sources": "countdown:80", "variants": "all", "splits": {"ood_tokens": 1500}}
    recipe = Recipe.model_validate(fields)
    build(recipe, out)
    return out


@pytest.mark.parametrize("variant", ["clean", "noisy", "masked", "special"])
def test_the_report_of_a_build_says_what_its_texts_say(folder, variant):
    """Counted again from the published text alone: prompt, thinking and markers by `words`."""
    report = json.loads((folder / "reports" / "build.json").read_text("utf-8"))
    special = variant == "special"
    rows = [
        row
        for path in (folder / "data" / variant).glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    ]
    own = report["variants"][variant]
    found = [find_markers(row["completion"]) for row in rows]
    labels = [marker.label for markers in found for marker in markers]
    assert own["markers"] == len(labels)
    assert own["label_histogram"] == histogram(labels)
    assert own["masked"] == sum(mask for row in rows for mask in row["masked"])
    for context in CONTEXTS:
        visible = []
        for row, markers in zip(rows, found, strict=True):
            begin = len(row["think_opening"])
            before = [row["completion"][begin : marker.end] for marker in markers]
            tokens = WORDS.starts(before).per_text()
            if special:  # "[37%]" is one token there, and four or five words
                shown = [row["completion"][m.label_start : m.label_end] for m in markers]
                tokens = tokens - np.cumsum(WORDS.starts(shown).per_text() - 1)
            prompt = WORDS.starts([row["prompt"][0]["content"]]).per_text()[0]
            visible += (tokens + prompt <= context).tolist()
        assert own["contexts"][str(context)]["markers"] == share(sum(visible), len(visible))
