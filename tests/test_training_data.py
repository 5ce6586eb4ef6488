"""What trainers read: proved files, one variant, labels that are true for their tokenizer."""

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from shared_data import TOKENIZER, needs_shared_data
from tampering import build_in
from tokenizers import Tokenizer

from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.markers import find_markers, strip
from progdata.builders.schema import VARIANT
from progdata.builders.variants import PRESETS
from progdata.releases.pushed import push
from progdata.training_refs.training_data import open_data


def refusal(*arguments, **options) -> str:
    """The one line with which data is refused."""
    with pytest.raises(ProgdataError) as caught:
        open_data(*arguments, **options)
    message = str(caught.value)
    assert message == " ".join(message.split())
    return message


class TestABuild:
    def test_its_splits_are_read_in_order(self, countdown_build):
        data = open_data(str(countdown_build), "noisy", None)
        assert data.variant == PRESETS["noisy"] and not data.relabelled
        assert set(data.tables) == {"train", "validation", "ood"}
        assert data.rows("train").schema == VARIANT
        assert set(data.rows("train")["split"].to_pylist()) == {"train"}

    def test_a_limit_is_of_each_split(self, countdown_build):
        data = open_data(str(countdown_build), "clean", None, limit=3)
        whole = open_data(str(countdown_build), "clean", None)
        for split, table in data.tables.items():
            assert table.equals(whole.rows(split).slice(0, 3))

    def test_splits_that_are_not_there_are_left_out(self, countdown_build):
        data = open_data(str(countdown_build), "clean", None, splits=["train", "test"])
        assert list(data.tables) == ["train"]
        with pytest.raises(UsageError, match="no split 'trian'; did you mean 'train'"):
            data.rows("trian")

    def test_special_tokens_are_how_the_special_variant_writes(self, countdown_build):
        data = open_data(str(countdown_build), "masked-special", None)
        assert data.grammar.special and data.variant.mask_max == 0.5

    def test_a_variant_it_does_not_have_is_refused(self, tmp_path):
        build_in(tmp_path / "out", variants="clean", sources="countdown:20")
        said = refusal(str(tmp_path / "out"), "cleen", None)
        assert "no variant 'cleen'" in said and "did you mean 'clean'" in said

    def test_a_changed_table_is_refused(self, forgery):
        path = forgery.file("clean", "train")
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        assert "its sha256 is" in refusal(str(forgery.folder), "clean", None)

    def test_a_folder_that_is_no_build_is_refused(self, tmp_path):
        assert "finished build" in refusal(str(tmp_path), "clean", None)


def test_a_release_is_read_by_name_and_version(countdown_build, tmp_path):
    registry = str(tmp_path / "registry")
    copy = shutil.copytree(countdown_build, tmp_path / "copy")
    push(copy, "me/countdown", "1.0.0", to=registry)
    found = open_data("me/countdown@1.0.0", "masked", None, source=registry, splits=["train"])
    assert found.name == "me/countdown@1.0.0"
    assert found.rows("train").equals(open_data(str(countdown_build), "masked", None).rows("train"))
    assert "no version 3.0.0" in refusal("me/countdown@3.0.0", "masked", None, source=registry)


@pytest.fixture(scope="module")
def counted(tmp_path_factory) -> Path:
    """The countdown build of the other tests, with tokens of the real tokenizer."""
    return build_in(tmp_path_factory.mktemp("counted") / "out", tokenizer=str(TOKENIZER))


@needs_shared_data
class TestTokenizers:
    def test_one_that_gives_other_progress_is_refused(self, countdown_build):
        said = refusal(str(countdown_build), "clean", TOKENIZER)
        assert "counts tokens of 'words'" in said and "--relabel" in said

    def test_the_same_is_accepted(self, counted):
        assert not open_data(str(counted), "noisy", TOKENIZER).relabelled
        assert not open_data(str(counted), "noisy", TOKENIZER, relabel=True).relabelled

    def test_the_same_saved_by_another_library_is_accepted(self, counted, tmp_path):
        copy = tmp_path / "tokenizer.json"
        Tokenizer.from_file(str(TOKENIZER / "tokenizer.json")).save(str(copy), pretty=False)
        assert copy.read_bytes() != (TOKENIZER / "tokenizer.json").read_bytes()
        assert not open_data(str(counted), "clean", tmp_path).relabelled

    @pytest.mark.parametrize("variant", PRESETS)
    def test_labelling_again_gives_what_a_build_would(self, variant, countdown_build, counted):
        """Rows that stand in the same split of both builds are equal in every column; but masks
        follow a row's place in its split, which other lengths may move."""
        again = open_data(str(countdown_build), variant, TOKENIZER, relabel=True)
        built = open_data(str(counted), variant, TOKENIZER)
        assert again.relabelled
        compared = 0
        for split, table in built.tables.items():
            expected = {row["trace_id"]: row for row in table.to_pylist()}
            for row in again.rows(split).to_pylist():
                other = expected.get(row["trace_id"])
                if other is not None:
                    row.pop("masked")
                    assert row == {name: own for name, own in other.items() if name != "masked"}
                    compared += 1
        assert compared > 40

    def test_labelling_again_keeps_the_texts(self, countdown_build):
        before = open_data(str(countdown_build), "special", None)
        after = open_data(str(countdown_build), "special", TOKENIZER, relabel=True)
        for split in before.tables:
            old, new = before.rows(split).to_pylist(), after.rows(split).to_pylist()
            assert [own["trace_id"] for own in old] == [own["trace_id"] for own in new]
            for one, other in zip(old, new, strict=True):
                assert strip(one["completion"]) == strip(other["completion"])
                assert one["masked"] == other["masked"]
                shown = [marker.label for marker in find_markers(other["completion"])]
                assert shown == other["labels"]

    def test_a_limit_does_not_change_what_is_labelled(self, countdown_build):
        whole = open_data(str(countdown_build), "masked-special", TOKENIZER, relabel=True)
        part = open_data(str(countdown_build), "masked-special", TOKENIZER, relabel=True, limit=5)
        for split, table in part.tables.items():
            assert table.equals(whole.rows(split).slice(0, 5))


@needs_shared_data
@pytest.mark.parametrize("progress", ["joint", "segment-sum"])
def test_cut_and_escaped_traces_are_labelled_again_too(progress, tmp_path):
    fields = {
        "sources": "countdown:80",
        "policies": {"cut_traces": "keep", "marked_traces": "escape"},
        "progress": progress,
        "variants": "clean",
        "splits": {"validation": 0},
    }
    build_in(tmp_path / "words", **fields)
    build_in(tmp_path / "real", **fields, tokenizer=str(TOKENIZER))
    again = open_data(str(tmp_path / "words"), "clean", TOKENIZER, relabel=True).rows("train")
    built = open_data(str(tmp_path / "real"), "clean", TOKENIZER).rows("train")
    assert False in built["think_closed"].to_pylist()
    assert isinstance(again, pa.Table) and again.equals(built)
