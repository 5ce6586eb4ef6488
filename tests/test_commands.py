"""The commands as a user meets them: build, load in `datasets`, segment, stats, the display."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from shared_data import TOKENIZER, TRACES, needs_shared_data, read_traces

import progdata
from progdata.builders.schema import BASE
from progdata.releases.build import build
from progdata.releases.check import check
from progdata.releases.display import PlainLines
from progdata.releases.recipe import load_recipe

COMMAND = [sys.executable, "-m", "progdata.cli"]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_bare_command_builds_a_thousand_countdown_traces(tmp_path):
    done = run("build", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1,000 rows in, ")
    assert run("check", "progdata-out", cwd=tmp_path).stdout == "progdata-out: every law holds\n"


def test_datasets_loads_every_variant_of_a_folder(countdown_build, tmp_path):
    from datasets import load_dataset

    names = sorted(path.name for path in (countdown_build / "data").iterdir())
    assert {"clean", "noisy", "masked", "special", "masked-special"} <= set(names)
    for name in names:
        loaded = load_dataset(str(countdown_build), name, cache_dir=str(tmp_path))
        for split, rows in loaded.items():
            files = sorted((countdown_build / "data" / name).glob(f"{split}-*.parquet"))
            stored = [row for path in files for row in pq.read_table(path).to_pylist()]
            assert rows.to_list() == stored, f"{name}, {split}"


def test_the_first_variant_is_the_default_configuration(countdown_build, tmp_path):
    from datasets import get_dataset_default_config_name

    report = json.loads((countdown_build / "reports" / "build.json").read_text("utf-8"))
    found = get_dataset_default_config_name(str(countdown_build), cache_dir=str(tmp_path))
    assert found == next(iter(report["variants"]))


@pytest.mark.slow
@needs_shared_data
def test_every_real_trace_is_built_or_refused_and_every_law_holds(tmp_path):
    sources = str(TRACES / "*.jsonl.gz")
    recipe = load_recipe(sources=[sources], variants=["all"], tokenizer=str(TOKENIZER))
    report = build(recipe, tmp_path / "out")
    originals = {
        (row["problem"], row["completion"])
        for path in TRACES.glob("*.jsonl.gz")
        for row in read_traces(path.name)
    }
    assert report["rows_in"] == 5_617
    assert report["rows_in"] == report["rows_out"] + report["rows_rejected"]
    assert report["tokenizer"]["counter"] == "fastokens"
    rows = [
        row
        for path in sorted((tmp_path / "out" / "data" / "noisy").glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    assert len(rows) == report["rows_out"]
    assert all((row["problem"], progdata.strip(row["completion"])) in originals for row in rows)
    assert {row["split"] for row in rows} == {"train", "validation", "ood"}
    assert all((row["num_tokens"] > 16_384) == (row["split"] == "ood") for row in rows)
    assert len({(row["problem_id"], row["split"]) for row in rows}) == report["problems"]
    assert any(row["answer"] is None for row in rows)
    assert check(tmp_path / "out") == []


class TestSegment:
    def test_it_prints_one_object_and_writes_the_base_table(self, tmp_path):
        done = run(
            *("segment", "countdown:40", "--segmenter", "tokens:50", "--out", "base.parquet"),
            *("--show", "2", "--json"),
            cwd=tmp_path,
        )
        report = json.loads(done.stdout)
        base = pq.read_table(tmp_path / "base.parquet")
        assert base.schema.equals(BASE)
        assert report["rows_in"] == 40 == report["rows_out"] + report["rows_rejected"]
        assert base.num_rows == report["rows_out"]
        assert report["tokens"] == sum(base["num_tokens"].to_pylist())
        assert len(report["shown"]) == 2
        shown, row = report["shown"][0], base.slice(0, 1).to_pylist()[0]
        assert "".join(piece["text"] for piece in shown["segments"]) == row["think"]
        assert [piece["tokens"] for piece in shown["segments"][:-1]] == [50] * (
            len(shown["segments"]) - 1
        )
        assert shown["segments"][-1]["percent"] == 100

    def test_it_prints_the_segments_of_a_trace(self, tmp_path):
        done = run("segment", "countdown:3", "--show", "1", cwd=tmp_path)
        assert done.returncode == 0
        assert "3 rows in, " in done.stdout and " 100%  " in done.stdout

    def test_an_unknown_segmenter_gets_one_line(self, tmp_path):
        done = run("segment", "countdown:3", "--segmenter", "newlines", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "did you mean 'newline'" in done.stderr and done.stderr.count("\n") == 1


class TestStats:
    def test_of_a_build_they_are_its_report(self, countdown_build, tmp_path):
        done = run("stats", str(countdown_build), "--json", cwd=tmp_path)
        report = (countdown_build / "reports" / "build.json").read_text("utf-8")
        assert json.loads(done.stdout) == json.loads(report)

    def test_of_a_build_they_are_a_table(self, countdown_build, tmp_path):
        done = run("stats", str(countdown_build), cwd=tmp_path)
        assert "seen at 2,048 tokens" in done.stdout and "masked-special" in done.stdout

    def test_of_a_source_they_are_its_lengths(self, tmp_path):
        done = run("stats", "countdown:30", "--json", cwd=tmp_path)
        assert json.loads(done.stdout)["tokens_per_trace"]["p50"] > 0

    def test_of_any_other_folder_they_are_refused(self, tmp_path):
        done = run("stats", str(tmp_path), cwd=tmp_path)
        assert done.returncode == 2 and "expected the folder of a finished build" in done.stderr


class TestDisplay:
    def test_on_a_terminal_there_is_a_live_bar(self, tmp_path):
        ours, theirs = pty.openpty()
        command = [*COMMAND, "build", "--source", "countdown:200"]
        with subprocess.Popen(command, cwd=tmp_path, stderr=theirs, stdout=theirs) as process:
            os.close(theirs)
            shown = b""
            while True:
                try:
                    piece = os.read(ours, 65536)
                except OSError:
                    break
                if not piece:
                    break
                shown += piece
        os.close(ours)
        assert process.returncode == 0
        text = shown.decode()
        assert "writing variants" in text and "MB/s" in text and "\x1b[" in text
        assert "200 rows in, " in text

    def test_elsewhere_there_are_plain_lines_on_standard_error(self, tmp_path):
        done = run("build", "--source", "countdown:200", "--json", cwd=tmp_path)
        assert json.loads(done.stdout)["rows_in"] == 200
        lines = done.stderr.splitlines()
        assert lines[0] == "reading and counting ..."
        assert lines[-1].startswith("writing variants: ") and "100%" in lines[-1]
        assert "\x1b" not in done.stderr

    def test_a_plain_line_says_how_much_time_is_left(self, monkeypatch):
        clock = iter([0.0, 20.0, 21.0, 40.0, 41.0])
        monkeypatch.setattr("time.monotonic", lambda: next(clock))
        stream = io.StringIO()
        lines = PlainLines(stream)
        lines.stage("reading")
        lines.update(0.25, 1_000, 40_000_000)
        lines.update(0.30, 1_100, 41_000_000)
        lines.update(1.0, 4_000, 160_000_000)
        lines.update(1.0, 4_000, 160_000_000)
        assert stream.getvalue().splitlines() == [
            "reading ...",
            "reading: 1,000 rows, 25%, 2.0 MB/s, 60 s left",
            "reading: 4,000 rows, 100%, 4.0 MB/s",
        ]
