"""The experiment's report says what the evaluations say, and plainly where a model loses."""

import json
import re
import sys
from pathlib import Path

import polars as pl
import pytest
from tampering import build_in

from progdata.training_refs.evaluated import EvalSettings, evaluate

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

FACTS = {
    "scale": "laptop",
    "seed": 0,
    "command": "python benchmarks/experiment.py",
    "machine": "2 CPU cores",
    "sizes": {"samples": 1, "grpo_steps": 3},
    "seconds": {"model": 30.0, "data": 90.0},
}
LOSER = "masked"


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder as the experiment leaves it, with marked traces of a build as the samples. One run
    says 50 % everywhere, and another has no marker."""
    folder = tmp_path_factory.mktemp("experiment")
    build = build_in(folder / "build", splits={"validation": 0})
    traces = {
        run: pl.concat(map(pl.read_parquet, sorted((build / "data" / variant).glob("*.parquet"))))
        for run, variant in {
            "clean": "clean", "noisy": "noisy", "special": "special", "rl": "noisy"
        }.items()
    }  # fmt: skip
    fifty = [
        re.sub(r"<progressbar>\d+%", "<progressbar>50%", text)
        for text in traces["clean"]["completion"]
    ]
    traces[LOSER] = traces["clean"].with_columns(completion=pl.Series(fifty))
    for run, table in traces.items():
        path = folder / f"{run}.parquet"
        table.select("problem", "answer", "completion").write_parquet(path)
        for name, lengths in ((run, str(build)), (f"{run}-own", None)):
            out = folder / "evals" / name
            evaluate(EvalSettings(str(path), lengths=lengths, grade=False, out=out))
        _write_run(folder / "runs" / run)
    (folder / "model").mkdir()
    config = {"num_hidden_layers": 4, "hidden_size": 128, "vocab_size": 2050}
    (folder / "model" / "config.json").write_text(json.dumps(config))
    (folder / "held-out.jsonl").write_text("{}\n" * 7)
    return folder


def _write_run(folder: Path) -> None:
    folder.mkdir(parents=True)
    lines = [
        {"step": 10, "label_loss": 2.5, "reward": 0.25},
        {"step": 20, "label_loss": 1.125, "reward": 0.75},
        {"step": 20, "eval_label_loss": 1.25, "eval_other_loss": 1.5},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "recipe.yaml").write_text("per_device_batch_size: 8\ngradient_accumulation: 2\n")
    (folder / "report.json").write_text('{"steps": 20, "epochs": 0.5, "rows": 640}')


@pytest.fixture(scope="module")
def written(work) -> str:
    from experiment_report import write_report

    write_report(work, FACTS, work / "docs" / "experiment.md")
    return (work / "docs" / "experiment.md").read_text("utf-8")


def test_what_was_done_is_read_from_the_runs(written):
    assert "2.0 minutes on 2 CPU cores" in written
    assert "20 steps of 16 rows, 0.50 of an epoch of 640 rows" in written
    assert "the same 7 problems" in written


def test_every_error_is_the_one_of_its_evaluation(written, work):
    report = json.loads((work / "evals" / "noisy" / "report.json").read_text("utf-8"))
    for progress in (report["progress"], report["progress"]["before_end"]):
        for own in (progress["mae"]["raw"], progress["baselines"]["survival"]["mae"]):
            found = own["macro"]
            assert f"{found['mean']:.3f} ({found['low']:.3f} to {found['high']:.3f})" in written


def test_a_model_that_loses_is_told_plainly(written):
    said = written.partition("**Not every model beats every baseline:")[2].partition("**")[0]
    assert f"`{LOSER}` does not beat constant 50 %" in said
    assert "`clean`" not in said


def test_why_is_told_by_numbers(written):
    line = next(own for own in written.splitlines() if own.startswith(f"| `{LOSER}` | 0 | 50 |"))
    assert re.search(r"\(.* to .*\)", line)


def test_the_difference_of_two_runs_is_paired_by_problem(work):
    from experiment_report import _difference, _errors_by_problem

    clean = _errors_by_problem(work / "evals" / "clean" / "markers.parquet")
    loser = _errors_by_problem(work / "evals" / LOSER / "markers.parquet")
    same = _difference(clean, clean)
    assert same == {"mean": 0.0, "low": 0.0, "high": 0.0}
    found = _difference(loser, clean)
    sides = [(own["error"].to_numpy(), own["traces"].to_numpy()) for own in (loser, clean)]
    means = [error.sum() / traces.sum() for error, traces in sides]
    plain = means[0] - means[1]
    assert found["mean"] == pytest.approx(plain)
    assert 0 < found["low"] < found["mean"] < found["high"]


def test_plots_are_beside_it(written, work):
    for name in re.findall(r"!\[.*?\]\((.*?)\)", written):
        assert (work / "docs" / name).read_bytes().startswith(b"\x89PNG")


def test_a_run_without_markers_is_told(work, tmp_path):
    from experiment_report import write_report

    hidden = work / "evals" / "rl" / "report.json"
    moved = hidden.rename(tmp_path / "report.json")
    try:
        write_report(work, FACTS, tmp_path / "experiment.md")
    finally:
        moved.rename(hidden)
    written = (tmp_path / "experiment.md").read_text("utf-8")
    assert "No marker of `rl` could be scored." in written
