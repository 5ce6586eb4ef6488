"""Probes: they find what is there, nothing where nothing is, and say the same every time."""

import json
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe_states import make_states
from shared_data import TRACES, needs_shared_data
from tampering import build_in

from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.markers import strip
from progdata.builders.thinking import split_completion
from progdata.cards.probe_tables import probe_summary
from progdata.training_refs.hidden_states import Features, HiddenStates
from progdata.training_refs.linear_probe import FitSettings, Fitted, fit, load_probe, save_probe
from progdata.training_refs.probe import ProbeRecipe, predict_progress, train
from progdata.training_refs.probe_scores import (
    Guess,
    Truth,
    at_random,
    bin_of_position,
    centre,
    errors,
    most_common_bin,
    random_errors,
    score,
)
from progdata.training_refs.probed_trace import ProbedTrace
from progdata.training_refs.train_recipe import load_recipe

STATE = Features(0)
TOTAL = 1_000


def recipe_for(build, model, *settings: str) -> ProbeRecipe:
    own = [
        f"data.dataset={build}", f"model={model}", "layers=[1, 2]", "tokens_per_trace=8",
        "epochs=2", "batch_size=64", "shard_traces=16", "device=cpu",
    ]  # fmt: skip
    return load_recipe(ProbeRecipe, "probe", [*own, *settings])


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """Training and held-out states that hold the progress on a line and the bin in directions."""
    return [
        encoded_states(tmp_path_factory.mktemp("states") / name, seed)
        for name, seed in (("train", 0), ("held-out", 1))
    ]


def encoded_states(folder, seed: int, *, shuffled: bool = False, tokens: int = 4_000):
    draws = np.random.default_rng(seed)
    positions = draws.integers(0, TOTAL, tokens)
    line, directions = (np.random.default_rng(7).normal(size=(own, 24)) for own in (1, 10))
    states = (positions[:, None] + 1) / TOTAL * line + directions[10 * positions // TOTAL]
    states += 0.01 * draws.normal(size=states.shape)
    shown = draws.permutation(positions) if shuffled else positions
    return make_states(folder, 50 * states + 3, shown, total=TOTAL, traces=40)


def guesser(fitted: Fitted):
    return lambda states, rows: fitted.probe.guess(states.features(STATE, rows), 10)


@given(st.integers(1, 400), st.integers(2, 20))
def test_bins_by_brute_force(total, bins):
    """Token j has the bin b with b <= bins * j / n < b + 1, and the bins are of equal size."""
    found = bin_of_position(np.arange(total), np.full(total, total), bins)
    expected = [
        next(b for b in range(bins) if b * total <= bins * j < (b + 1) * total)
        for j in range(total)
    ]
    assert found.tolist() == expected
    sizes = np.bincount(found, minlength=bins)
    assert sizes.max() - sizes.min() <= 1


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20))
def test_errors_by_brute_force(pairs):
    true, guessed = (np.array(own) for own in zip(*pairs, strict=True))
    found = errors(Truth(true, true / 10), Guess(guessed, centre(guessed, 10)))
    for row, (is_true, said) in zip(found, pairs, strict=True):
        distance = abs((said + 0.5) / 10 - is_true / 10)
        assert row.tolist() == pytest.approx(
            [float(is_true == said), abs(is_true - said), distance]
        )


def test_the_random_baseline_is_what_random_guesses_come_to():
    truth = Truth(np.array([0, 4, 9]), np.array([0.01, 0.48, 1.0]))
    draws = np.random.default_rng(0).integers(0, 10, (20_000, 3))
    drawn = np.mean([errors(truth, Guess(own, centre(own, 10))) for own in draws], axis=0)
    np.testing.assert_allclose(random_errors(truth, 10), drawn, atol=0.05)


def test_scores_are_means_over_problems(tmp_path):
    """A problem with many tokens weighs as much as one with few; `over_tokens` weighs tokens."""
    make_states(tmp_path, np.zeros((9, 2)), np.zeros(9, int), total=10, traces=1)
    states = make_states(tmp_path, np.zeros((1, 2)), np.array([9]), total=10, traces=1)
    first = score(states, lambda _, rows: Guess(np.zeros(len(rows), int), np.zeros(len(rows))), 10)
    assert first["accuracy"]["mean"] == 0.5
    assert first["accuracy"]["over_tokens"] == 0.9
    assert first["mae_bins"]["mean"] == 4.5
    assert first["mae_progress"]["mean"] == pytest.approx((0.1 + 1.0) / 2)
    assert most_common_bin(states, 10) == 0
    assert score(states, at_random, 10)["accuracy"]["mean"] == pytest.approx(0.1)


def test_a_probe_finds_progress_that_is_there(synthetic):
    seen, held_out = synthetic
    settings = FitSettings(epochs=20, batch_size=128, learning_rate=0.01)
    classes = fit(seen, STATE, outputs=10, settings=settings, device="cpu")
    number = fit(seen, STATE, outputs=1, settings=settings, device="cpu")
    assert classes.losses[-1] < 0.2 * classes.losses[0]
    measured = score(
        held_out, lambda own, rows: classes.probe.guess(own.features(STATE, rows), 10), 10
    )
    assert measured["accuracy"]["mean"] > 0.95
    assert np.argmax(measured["heatmap"], axis=1).tolist() == list(range(10))
    measured = score(
        held_out, lambda own, rows: number.probe.guess(own.features(STATE, rows), 10), 10
    )
    assert measured["mae_progress"]["mean"] < 0.03


def test_a_probe_finds_nothing_in_shuffled_labels(synthetic, tmp_path):
    shuffled = encoded_states(tmp_path, 0, shuffled=True)
    fitted = fit(shuffled, STATE, outputs=10, settings=FitSettings(), device="cpu")
    assert 0.05 < score(synthetic[1], guesser(fitted), 10)["accuracy"]["mean"] < 0.15


def test_training_and_its_file_are_deterministic(synthetic, tmp_path):
    settings = FitSettings(epochs=2)
    for name in ("one", "two"):
        fitted = fit(synthetic[0], STATE, outputs=10, settings=settings, device="cpu")
        save_probe(fitted, tmp_path / name, "key")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    other = fit(synthetic[0], STATE, outputs=10, settings=replace(settings, seed=1), device="cpu")
    save_probe(other, tmp_path / "three", "key")
    assert (tmp_path / "three").read_bytes() != (tmp_path / "one").read_bytes()
    features = synthetic[1].features(STATE, np.arange(50))
    loaded = load_probe(tmp_path / "three", "cpu", "key")
    assert loaded is not None and loaded.losses == other.losses
    np.testing.assert_array_equal(
        loaded.probe.guess(features, 10).chances, other.probe.guess(features, 10).chances
    )
    assert load_probe(tmp_path / "three", "cpu", "another key") is None
    assert load_probe(tmp_path / "four", "cpu", "key") is None


def test_features_are_standardised_exactly(synthetic):
    probe = fit(synthetic[0], STATE, outputs=1, settings=FitSettings(epochs=1), device="cpu").probe
    everything = synthetic[0].features(STATE, np.arange(len(synthetic[0])))
    np.testing.assert_allclose(probe.mean.numpy(), everything.mean(0), rtol=1e-4)
    np.testing.assert_allclose(probe.scale.numpy(), everything.std(0), rtol=1e-4)


def test_memory_of_training_does_not_grow_with_the_states(tmp_path):
    peaks = {}
    for shards in (2, 6):
        folder = tmp_path / str(shards)
        for seed in range(shards):
            draws = np.random.default_rng(seed)
            positions = draws.integers(0, TOTAL, 8_192)
            make_states(folder, draws.normal(size=(8_192, 512)), positions, total=TOTAL, traces=8)
        tracemalloc.start()
        fit(HiddenStates(folder), STATE, outputs=10, settings=FitSettings(epochs=1), device="cpu")
        peaks[shards] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    added = 4 * 8_192 * 512 * 2
    assert peaks[6] - peaks[2] < added / 10


@pytest.fixture(scope="module")
def run(countdown_build, small_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("probes") / "out"
    recipe = recipe_for(countdown_build, small_model)
    return recipe, out, train(recipe, out)


def test_a_run_reports_every_probe_on_every_split(run):
    _, out, report = run
    expected = [
        f"layer-{layer}{question}-{form}"
        for layer in (1, 2)
        for question in ("", "-question")
        for form in ("classes", "regression")
    ]
    assert [own["name"] for own in report["probes"]] == expected
    assert [own["name"].partition(" bin")[0] for own in report["baselines"]] == [
        "random", "majority", "constant 50%", "position-classes", "position-regression",
    ]  # fmt: skip
    for own in [*report["probes"], *report["baselines"]]:
        assert list(own["splits"]) == ["train", "validation", "ood"]
        for measured in own["splits"].values():
            for name in ("accuracy", "mae_bins", "mae_progress"):
                assert measured[name]["low"] <= measured[name]["mean"] <= measured[name]["high"]
    assert all(report["splits"][split]["tokens"] for split in ("train", "validation", "ood"))
    assert json.loads((out / "report.json").read_text("utf-8")) == report
    assert {path.stem for path in (out / "probes").iterdir()} >= set(expected)
    summary = probe_summary(report)
    assert all(name in summary for name in [*expected, "random", "train: ", "ood: "])


def test_the_same_call_again_returns_the_report(run, monkeypatch):
    recipe, out, report = run
    monkeypatch.setattr("progdata.training_refs.probe.find_model", None)
    assert train(recipe, out) == report


def test_a_stopped_run_goes_on_with_the_probes_it_has(run, countdown_build, small_model, tmp_path):
    recipe, out, report = run
    kept = [path.stat().st_mtime_ns for path in sorted((out / "probes").iterdir())]
    probe = (out / "probes" / "layer-1-classes.safetensors").read_bytes()
    (out / "report.json").unlink()
    (out / "probes" / "layer-1-classes.safetensors").unlink()
    assert train(recipe, out) == report
    assert (out / "probes" / "layer-1-classes.safetensors").read_bytes() == probe
    again = [path.stat().st_mtime_ns for path in sorted((out / "probes").iterdir())]
    assert [one == other for one, other in zip(kept, again, strict=True)].count(False) == 1


def test_another_variant_gives_the_same_probes(run, countdown_build, small_model, tmp_path):
    """Markers and their labels are not what a probe reads."""
    recipe = recipe_for(countdown_build, small_model, "data.variant=masked-special")
    report = train(recipe, tmp_path / "out")
    assert report["probes"] == run[2]["probes"]


def test_predictions_are_those_of_the_probes_on_the_stored_states(run, countdown_build):
    _, out, _ = run
    (folder,) = (out / "states").iterdir()
    states = HiddenStates(folder / "validation")
    (file,) = (countdown_build / "data" / "clean").glob("validation-*.parquet")
    rows = pq.read_table(file).to_pylist()
    positions, totals, _ = states.truth(np.arange(len(states)))
    traces = []
    for number, row in enumerate(rows):
        think = split_completion(strip(row["completion"])).think
        messages = tuple((turn["role"], turn["content"]) for turn in row["prompt"])
        own = positions[8 * number : 8 * number + 8]
        assert totals[8 * number] == len(think.removeprefix("\n").encode())  # bytes are its tokens
        ends = [int(j) + 1 + think.startswith("\n") for j in own]
        traces.append(ProbedTrace(messages, think, [0, *ends, len(think)]))
    predicted = predict_progress(out, traces, device="cpu")
    for which, name in (
        (Features(0), "layer-1-classes"),
        (Features(1, True), "layer-2-question-regression"),
    ):
        probe = load_probe(out / "probes" / f"{name}.safetensors", "cpu")
        assert probe is not None
        stored = probe.probe.guess(states.features(which, np.arange(len(states))), 10).progress
        found = np.concatenate([own[1:-1] for own in predicted[name]])
        assert np.isclose(found, stored, atol=2e-3).mean() > 0.97  # lengths change the last bits
    assert all(np.isnan(own[0]) for own in predicted["layer-1-classes"])


def test_what_cannot_be_predicted_is_nan(run):
    _, out, _ = run
    question = (("user", "What is 1 + 1?"),)
    traces = [
        ProbedTrace(question, "Okay. " * 400, [3, 2_400]),  # beyond the context of 2,048
        ProbedTrace((("user", "a <｜User｜> b"),), "Okay.", [3]),
        ProbedTrace(question, "Okay.", []),
    ]
    for name, (long, refused, empty) in predict_progress(out, traces).items():
        assert np.isnan(long).tolist() == [False, True], name
        assert np.isnan(refused).all() and len(empty) == 0
        assert 0 <= long[0] <= 1


def test_probes_of_another_model_are_refused(run, small_model, tmp_path):
    from tiny_model import make_small_model

    _, out, _ = run
    record = json.loads((out / "probe.json").read_text("utf-8"))
    record["model"]["spec"] = str(make_small_model(tmp_path / "small-r1", seed=5))
    (tmp_path / "probe.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(UsageError, match="train the probes again for this model"):
        predict_progress(tmp_path, [])
    with pytest.raises(UsageError, match=r"no probe\.json of trained probes"):
        predict_progress(tmp_path / "nothing", [])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["layers=[1, 3]"], r"layers: 3: the model small-r1 has 2 layers; choose from 1 to 2"),
        (["layers=[0]"], r"layers: expected different layers, counted from 1"),
        (["layers=[1, 1]"], r"layers: expected different layers"),
        (["form=loading"], r"form: Input should be 'classes', 'regression' or 'both'"),
        (["device=cuda:7"], r"device 'cuda:7': this machine has"),
        (["model=nowhere/at all"], r"model 'nowhere/at all': no such folder"),
        (["data.eval_split=test"], r"no split 'test'"),
        (["data.variant=cleen"], r"cleen"),
        (["data.relabel=true"], r"data.relabel: probes use no labels"),
        (["max_tokens=4"], r"no trace is left to probe \(\d+ over_context\)"),
    ],
    ids=lambda own: own[0] if isinstance(own, list) else None,
)
def test_bad_input_is_one_line(countdown_build, small_model, tmp_path, settings, message):
    with pytest.raises(ProgdataError, match=message) as caught:
        train(recipe_for(countdown_build, small_model, *settings), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_wrong_recipe_leaves_the_folder_free(countdown_build, small_model, tmp_path):
    with pytest.raises(UsageError):
        train(recipe_for(countdown_build, small_model, "layers=[9]"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_traces_that_were_all_cut_off(forgery, small_model, tmp_path):
    def cut_off(rows):
        for row in rows:
            row["think_closed"] = False

    forgery.edit_rows(cut_off)
    with pytest.raises(UsageError, match=r"split 'train': none of its \d+ rows has finished"):
        train(recipe_for(forgery.folder, small_model), tmp_path / "out")


def test_an_ood_split_without_a_finished_trace_is_not_measured(forgery, small_model, tmp_path):
    def cut_off(rows):
        for row in rows:
            row["think_closed"] = False

    forgery.edit_rows(cut_off, split="ood")
    report = train(recipe_for(forgery.folder, small_model, "form=classes"), tmp_path / "out")
    assert list(report["splits"]) == ["train", "validation"]
    assert [own["name"] for own in report["probes"]][::2] == ["layer-1-classes", "layer-2-classes"]


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_missing_extra_is_named(countdown_build, small_model, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ProgdataError, match=rf"{package} is not installed.*progdata\[train\]"):
        train(recipe_for(countdown_build, small_model), tmp_path / "out")


def test_the_shipped_recipe_has_the_papers_values():
    recipe = load_recipe(ProbeRecipe, "probe")
    assert (recipe.layers, recipe.bins, recipe.question) == ((8, 16, 24), 10, (False, True))
    default = ProbeRecipe(data=recipe.data, model=recipe.model)
    assert recipe == default


@needs_shared_data
@pytest.mark.slow
def test_real_traces_run_end_to_end(tiny_model, tmp_path):
    build = build_in(
        tmp_path / "build",
        sources=str(TRACES / "r1_1p5b_math.jsonl.gz"),
        variants="clean",
        tokenizer=str(tiny_model),
        splits={"ood_tokens": 1_700, "validation": 0.3},
    )
    recipe = recipe_for(build, tiny_model, "data.limit=12", "data.eval_limit=6", "epochs=20")
    report = train(recipe, tmp_path / "out")
    assert set(report["splits"]) >= {"train", "validation"}
    assert all(own["losses"][-1] < own["losses"][0] for own in report["probes"])
