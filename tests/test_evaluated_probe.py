"""Probes beside the predictions that traces hold, on the same positions (paper 000, 5.3)."""

import re
from dataclasses import replace

import polars as pl
import pytest
from build_folder import countdown
from shared_data import needs_shared_data

from progdata.builders.errors import UsageError
from progdata.cards.eval_tables import eval_summary
from progdata.releases.build import build
from progdata.training_refs.evaluated import EvalSettings, evaluate
from progdata.training_refs.probe import ProbeRecipe, train
from progdata.training_refs.train_recipe import load_recipe


@pytest.mark.slow
@needs_shared_data
def test_a_probe_is_measured_where_the_traces_report_their_progress(small_model, tmp_path):
    data = tmp_path / "data"
    build(countdown(60, ["noisy"], tokenizer=str(small_model)), data)
    options = [
        f"data.dataset={data}", "data.variant=noisy", f"model={small_model}", "layers=[1]",
        "tokens_per_trace=8", "epochs=1", "batch_size=64", "shard_traces=16", "device=cpu",
        "form=classes",
    ]  # fmt: skip
    train(load_recipe(ProbeRecipe, "probe", options), tmp_path / "probe")
    settings = EvalSettings(
        str(data),
        tokenizer=str(small_model),
        grade=False,
        limit=20,
        probe=str(tmp_path / "probe"),
        device="cpu",
        out=tmp_path / "out",
        long_tokens=1_000,
    )
    report = evaluate(settings)
    markers = pl.read_parquet(tmp_path / "out" / "markers.parquet")
    assert len(report["compared"]) == 2
    for name, own in report["compared"].items():
        known = markers.drop_nulls(name)
        assert name.startswith("probe: ") and name in eval_summary(report)
        rows = [re.split(r"\s{2,}", row) for row in eval_summary(report).splitlines()]
        (line,) = (row for row in rows if row[:2] == [name, "clipped, in domain"])
        assert line[2] == str(own["in_domain"]["positions"])
        assert own["positions"] == known.height and own["none"] == markers.height - known.height
        assert known.height > 0 and known[name].is_between(0, 1).all()
        short = known.filter(pl.col("total") <= 1_000)
        assert own["in_domain"]["positions"] == short.height < known.height
        for table, found in ((known, own), (short, own["in_domain"])):
            for side, column in (("other", name), ("model", "predicted")):
                error = (table[column] - table["truth"]).abs().mean()
                assert found[side]["raw"]["micro"]["mean"] == pytest.approx(error)


def test_a_folder_without_probes_is_refused(tmp_path):
    """Before the traces are read."""
    (tmp_path / "probe.json").write_text("{")
    settings = EvalSettings("no/such/traces", probe=str(tmp_path))
    with pytest.raises(UsageError, match=r"no probe\.json of trained probes that can be read"):
        evaluate(settings)
    (tmp_path / "probe.json").write_text("{}")
    with pytest.raises(UsageError, match="device 'cuda:99'"):
        evaluate(replace(settings, device="cuda:99"))
