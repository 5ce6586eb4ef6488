"""Wrong recipes, options and folders: one line that names what is wrong and what to do, exit 2."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from source_files import GOOD, build_sources, failure, jsonl, trace, write_source

from progdata.builders.errors import ProgdataError, UsageError
from progdata.releases.recipe import Recipe, load_recipe


def refusal(recipe: str | None = None, **fields: object) -> str:
    """The message with which a recipe is refused, in one line."""
    with pytest.raises(UsageError) as caught:
        load_recipe(recipe, **fields)
    message = str(caught.value)
    assert caught.value.exit_code == 2 and message == " ".join(message.split())
    return message


def recipe_file(folder: Path, text: str | bytes) -> str:
    path = folder / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file of a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


class TestRecipes:
    @pytest.mark.parametrize(
        ("text", "wrong", "nearest"),
        [
            ("variants: nosy", "unknown variant 'nosy'", "'noisy'"),
            ("variants: [clean, masked_special]", "'masked_special'", "'masked-special'"),
            ("segmenter: newlines", "unknown segmenter 'newlines'", "'newline'"),
            ("segmenter: {name: episode}", "unknown segmenter 'episode'", "'episodes'"),
            ("varaints: clean", "unknown field 'varaints'", "'variants'"),
            ("prompt_profile: deepscale", "unknown prompt profile 'deepscale'", "'deepscaler'"),
            ("policies: {cut_trace: keep}", "policies.cut_trace", "'cut_traces'"),
            ("segmenter: {name: tokens, token: 5}", "segmenter.token", "'tokens'"),
            ("markers: {tags: p}", "markers.tags", "'tag'"),
            ("splits: {ood_token: 5}", "splits.ood_token", "'ood_tokens'"),
            ("sources: [{spec: a, column: {}}]", "sources.0.column", "'columns'"),
            ("variants: [{name: a, sigm: 1}]", "variants.0.sigm", "'sigma'"),
        ],
    )
    def test_nearest_known_name_is_suggested(
        self, tmp_path: Path, text: str, wrong: str, nearest: str
    ) -> None:
        path = recipe_file(tmp_path, text)
        message = refusal(path)
        assert wrong in message and f"did you mean {nearest}?" in message
        assert message.startswith(f"{path}: "), "the recipe's file is not named"

    @pytest.mark.parametrize(
        ("text", "field"),
        [
            ("limit: 0", "limit"),
            ("limit: many", "limit"),
            ("seed: 1.5", "seed"),
            ("variants: []", "variants"),
            ("variants: 5", "variants.0"),
            ("variants: [{name: a, sigma: -1}]", "variants.0.sigma"),
            ("variants: [{name: ../a}]", "variants.0.name"),
            ("variants: [clean, {name: clean, sigma: 1}]", "variants"),
            ("segmenter: tokens", "segmenter"),
            ("segmenter: 'tokens:0'", "segmenter.tokens"),
            ("segmenter: 'tokens:ten'", "segmenter.tokens"),
            ("progress: token", "progress"),
            ("markers: {tag: think}", "markers.tag"),
            ("markers: {tag: '<b>'}", "markers.tag"),
            ("markers: {format: '50%'}", "markers.format"),
            ("markers: {format: '{label}{label}'}", "markers.format"),
            ("policies: {marked_traces: keep}", "policies.marked_traces"),
            ("splits: {validation: 1}", "splits.validation"),
            ("sources: []", "sources"),
            ("sources: 5", "sources.0"),
            ("tokenizer: 5", "tokenizer"),
            ("1: 2", "1"),
        ],
    )
    def test_wrong_value_names_the_file_and_the_field(
        self, tmp_path: Path, text: str, field: str
    ) -> None:
        path = recipe_file(tmp_path, text)
        assert refusal(path).startswith((f"{path}: {field}: ", f"{path}: unknown field '{field}'"))

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("variants: [clean", "not YAML"),
            ("a: b: c", "not YAML"),
            ("\tname: a", "not YAML"),
            ("name: \x00", "not YAML"),
            (b"name: \xff", "not YAML"),
            ("!!python/object:os.system {}", "not YAML"),
            ("- clean\n- noisy", "found list"),
            ("clean", "found str"),
            ("5", "found int"),
        ],
    )
    def test_file_that_holds_no_fields_is_refused(
        self, tmp_path: Path, text: str | bytes, what: str
    ) -> None:
        path = recipe_file(tmp_path, text)
        message = refusal(path)
        assert message.startswith(f"{path}: ") and what in message

    @pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n", "---\n", "{}"])
    def test_empty_recipe_is_the_default_one(self, tmp_path: Path, text: str) -> None:
        assert load_recipe(recipe_file(tmp_path, text)) == Recipe()

    def test_missing_recipe_names_the_shipped_ones(self, tmp_path: Path) -> None:
        message = refusal(str(tmp_path / "absent.yaml"))
        assert "absent.yaml: No such file" in message and "one of" in message

    def test_folder_is_no_recipe(self, tmp_path: Path) -> None:
        assert refusal(str(tmp_path)).startswith(f"{tmp_path}: Is a directory")

    @pytest.mark.parametrize("spec", ["wrods", "absent/tokenizer.json", "."])
    def test_missing_tokenizer_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # else it retries
        message = failure(Path("out"), ["countdown:1"], error=UsageError, tokenizer=spec)
        assert message.startswith(f"tokenizer {spec!r}: no file")


class TestOutputFolder:
    def test_build_of_another_recipe_is_left_alone(self, tmp_path: Path) -> None:
        spec = write_source(tmp_path / "a.jsonl", GOOD)
        out = build_sources(tmp_path / "out", [spec]).out
        before = digests(out)
        with pytest.raises(UsageError, match=r"another recipe \(seed differ\)"):
            build_sources(out, [spec], seed=5)
        with pytest.raises(UsageError, match=r"another recipe \(limit, variants differ\)"):
            build_sources(out, [spec], variants=["noisy"], limit=3)
        write_source(tmp_path / "a.jsonl", GOOD[:2])
        with pytest.raises(UsageError, match="the sources' content differ"):
            build_sources(out, [spec])
        assert digests(out) == before

    def test_finished_build_is_left_as_it_is(self, tmp_path: Path) -> None:
        spec = write_source(tmp_path / "a.jsonl", GOOD)
        first = build_sources(tmp_path / "out", [spec])
        before = digests(first.out)
        assert build_sources(first.out, [spec]).report == first.report
        assert digests(first.out) == before

    def test_changed_file_of_a_finished_build_is_named(self, tmp_path: Path) -> None:
        spec = write_source(tmp_path / "a.jsonl", GOOD)
        out = build_sources(tmp_path / "out", [spec]).out
        (out / "README.md").write_text("mine")
        assert "README.md: differs from" in _failure_of(out, [spec])

    @pytest.mark.parametrize("name", ["README.md", "data/mine.parquet", "progdata.lock.json"])
    def test_folder_of_something_else_is_left_alone(self, tmp_path: Path, name: str) -> None:
        out = tmp_path / "out"
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text("mine")
        before = digests(out)
        message = _failure_of(out, ["countdown:5"])
        assert name.split("/")[0] in message
        assert {own: digest for own, digest in digests(out).items() if own in before} == before

    def test_files_made_after_a_failed_build_are_left_alone(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        failure(out, [str(tmp_path / "absent.jsonl")])
        out.mkdir(exist_ok=True)
        (out / "README.md").write_text("mine")
        (out / "data").mkdir()
        (out / "data" / "mine.parquet").write_text("mine")
        _failure_of(out, ["countdown:5"])
        assert (out / "README.md").read_text() == "mine"
        assert (out / "data" / "mine.parquet").read_text() == "mine"

    def test_other_files_beside_a_build_stay(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "notes.txt").write_text("mine")
        build_sources(out, ["countdown:5"])
        assert (out / "notes.txt").read_text() == "mine"

    def test_file_is_no_output_folder(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.write_text("mine")
        with pytest.raises(UsageError, match="is a file; --out must name a folder"):
            build_sources(out, ["countdown:5"])
        assert out.read_text() == "mine"

    def test_folder_below_a_file_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        assert "cannot be written" in _failure_of(tmp_path / "file" / "out", ["countdown:5"])

    def test_missing_source_leaves_no_folder_behind(self, tmp_path: Path) -> None:
        failure(tmp_path / "out", [str(tmp_path / "absent.jsonl")])
        assert not (tmp_path / "out").exists()


def _failure_of(out: Path, sources: list[str]) -> str:
    with pytest.raises(ProgdataError) as caught:
        build_sources(out, sources)
    return str(caught.value)


def progdata(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real command in `folder`."""
    command = [str(Path(sys.executable).with_name("progdata")), *arguments]
    clean = {name: value for name, value in os.environ.items() if name != "PROGDATA_DEBUG"}
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True)


class TestCommand:
    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            (["build", "--variant", "nosy"], 2, "did you mean 'noisy'?"),
            (["build", "--limit", "0"], 2, "--limit"),
            (["build", "list.yaml", "--json"], 2, "list.yaml: expected fields"),
            (["build", "--source", "absent.jsonl", "--json"], 1, "absent.jsonl"),
            (["build", "--out", "list.yaml"], 2, "--out must name a folder"),
        ],
    )
    def test_error_is_one_line_on_standard_error(
        self, tmp_path: Path, arguments: list[str], code: int, said: str
    ) -> None:
        (tmp_path / "list.yaml").write_text("- clean\n")
        done = progdata(tmp_path, *arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith("progdata: ") and done.stderr.count("\n") == 1
        assert said in done.stderr

    def test_error_while_reading_is_the_last_line_and_no_traceback(self, tmp_path: Path) -> None:
        write_source(tmp_path / "a.jsonl", [trace(1, problem=""), trace(2, completion="\ud800")])
        done = progdata(tmp_path, "build", "--source", "a.jsonl", "--out", "out", "--json")
        assert (done.returncode, done.stdout) == (1, "")
        *before, last = done.stderr.splitlines()
        assert last.startswith("progdata: out: no row was left: ")
        assert not any(line.startswith(("progdata: ", "Traceback", "  File")) for line in before)
        assert pq.read_metadata(tmp_path / "out" / "rejects.parquet").num_rows == 2

    def test_json_is_one_object_and_nothing_else(self, tmp_path: Path) -> None:
        write_source(tmp_path / "a.jsonl", jsonl(GOOD) + b"bad\n")
        done = progdata(tmp_path, "build", "--source", "a.jsonl", "--out", "out", "--json")
        assert done.returncode == 0 and done.stdout.count("\n") == 1
        report = json.loads(done.stdout)
        assert (report["rows_in"], report["rows_out"], report["rows_rejected"]) == (4, 3, 1)
        assert report["rejected"] == {"read": {"invalid_json": 1}}

    def test_debug_shows_the_traceback(self, tmp_path: Path) -> None:
        done = progdata(tmp_path, "--debug", "build", "--source", "absent.jsonl")
        assert done.returncode == 1 and "Traceback" in done.stderr
