"""The `sat` segmenter: the real wtpsplit with a tiny local model, its cache, and the hub."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build_folder import LOCK, assert_same, countdown
from hostile_text import PIECES, giant_lines, texts
from hypothesis import given, settings
from loopback_hub import LoopbackHub
from tiny_sat import THRESHOLD, make_tiny_sat

from progdata.builders import sat
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.sat import ParagraphCache, cache_path, import_wtpsplit, paragraphs
from progdata.builders.sat_model import XLM_R, find_model
from progdata.builders.tidy import tidy
from progdata.releases.build import build

WORDS = (
    *("so", "wait", "the", "1", "2", "3", "=", "x", "y", "check", "this,", "again.", "Therefore"),
    *("(", ")", "+", "-", "😀", "is", "not", "er", "ing"),
)

ODD_TEXTS = {
    "empty": "",
    "blanks only": " \t\r\n\n ",
    "trailing blanks": "So x = 3.  \n\n \t\n",
    "leading blanks": "\n\n  So x = 3.",
    "CRLF": "Wait, x.\r\n\r\nSo the 3.\r\nAgain.\r\n" * 9,
    "tabs": "x\t=\t3\t\tso\t" * 20,
    "emoji": "so 😀 the 🧑‍🚀👩‍👩‍👧 is 🙂. " * 12,
    "combining characters": "e\u0301 u\u0323\u0308 \u1100\u1161 so cafe\u0301. " * 12,
    "one giant line": "Wait, the x = 12, so " * 300,
    "no blank at all": "x=12,so" * 400,
    "special tokens of the model": "<s> so </s> the <pad><mask> x <unk>",
    "zero-width characters alone": "\u200b\u200b\ufeff",
    "control characters alone": "\x00\x01\x02",
    "one character": "x",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_sat(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for each test; the path of its file."""
    monkeypatch.setenv("PROGDATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sat.sqlite"


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be segmented any more but from the cache."""

    def refuse(*_: object) -> None:
        raise ProgdataError("the model was asked for")

    monkeypatch.setattr(sat, "_load", refuse)


def split(
    some_texts: list[str], model: Path | str, threshold: float = THRESHOLD, **other: Any
) -> list[list[int]]:
    return paragraphs(
        some_texts, str(model), threshold, other.get("batch_size", 32), other.get("device", "cpu")
    )


def some_text(words: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(words))


def assert_tiles(text: str, ends: list[int]) -> None:
    """The ends cut the text into pieces that each hold something visible, if the text does."""
    assert ends[-1:] == [len(text)] * bool(text)
    pieces = [text[a:b] for a, b in pairwise([0, *ends])]
    assert "".join(pieces) == text
    assert all(piece.strip() for piece in pieces) or len(pieces) == 1


# --- paragraphs ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD_TEXTS)
def test_paragraphs_tile_odd_texts(tiny: Path, name: str) -> None:
    text = ODD_TEXTS[name]
    (ends,) = split([text], tiny)
    assert_tiles(text, ends)
    if len(text) > 100:
        assert len(ends) > 2


@settings(max_examples=30)
@given(text=texts | giant_lines)
def test_paragraphs_tile_any_text(tiny: Path, text: str) -> None:
    assert_tiles(text, split([text], tiny)[0])


def test_each_hostile_piece_is_segmented(tiny: Path) -> None:
    for text, ends in zip(PIECES, split([*PIECES], tiny), strict=True):
        assert_tiles(text, ends)


def test_a_paragraph_ends_where_wtpsplit_ends_one(tiny: Path) -> None:
    """The offsets are those of wtpsplit's own paragraphs, but for pieces of white space."""
    text = some_text(200) + "\n\n" + some_text(100, seed=1)
    model = import_wtpsplit()(str(tiny), tokenizer_name_or_path=str(tiny))
    pieces = model.split(text, do_paragraph_segmentation=True, paragraph_threshold=THRESHOLD)
    theirs = np.cumsum([len("".join(sentences)) for sentences in pieces]).tolist()
    assert split([text], tiny) == [tidy(text, theirs)]
    assert len(text) / 50 < len(theirs) < len(text) / 5


def test_a_text_of_many_windows_has_paragraphs_all_over(tiny: Path) -> None:
    """About 4,000 tokens, eight windows of the model."""
    text = some_text(1500)
    (ends,) = split([text], tiny)
    longest = max(b - a for a, b in pairwise([0, *ends]))
    assert len(text) > 5000
    assert longest < 500


def test_a_higher_threshold_gives_fewer_paragraphs(tiny: Path) -> None:
    text = some_text(300)
    counts = [len(split([text], tiny, threshold)[0]) for threshold in (0.2, 0.5, 0.8, 0.999)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] == 1


def test_other_texts_in_the_batch_do_not_move_a_paragraph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a threshold where wtpsplit's own batch does move one, by the last bit of a logit."""
    wide = make_tiny_sat(tmp_path / "wide", width=64)
    batch = [some_text([3, 20, 150, 90][n % 4], seed=n) for n in range(40)]
    threshold = threshold_that_batches_move(wide, batch)
    found = []
    for name, order in (("forward", batch), ("backward", batch[::-1])):
        monkeypatch.setenv("PROGDATA_CACHE", str(tmp_path / name))
        found.append(dict(zip(order, split(order, wide, threshold), strict=True)))
    monkeypatch.setenv("PROGDATA_CACHE", str(tmp_path / "each"))
    each = {text: split([text], wide, threshold)[0] for text in batch}
    assert found == [each, each]
    assert sum(map(len, each.values())) > 100


def threshold_that_batches_move(model: Path, batch: list[str]) -> float:
    """A probability that a text has alone or in this batch, but not in both."""
    own = import_wtpsplit()(str(model), tokenizer_name_or_path=str(model))
    alone = np.concatenate([own.predict_proba(text, stride=64) for text in batch])
    together = np.concatenate(list(own.predict_proba(batch, stride=64)))
    differing = np.flatnonzero(alone != together)
    if not len(differing):
        return THRESHOLD  # on a processor where no logit falls on the other side of a rounding
    threshold = float(min(alone[differing[0]], together[differing[0]]))
    assert np.any((alone > threshold) != (together > threshold))
    return threshold


def test_the_threads_of_torch_are_as_before(tiny: Path) -> None:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    split([some_text(20)], tiny)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_a_process_that_has_imported_transformers_can_import_wtpsplit(
    tiny: Path, tmp_path: Path
) -> None:
    """On its own `import transformers, wtpsplit` fails where Pillow is not installed."""
    text = some_text(60)
    printed = run_python(
        "import sys, transformers\n"
        "from transformers import AutoTokenizer, PreTrainedTokenizerFast\n"
        "from progdata.builders.sat import paragraphs\n"
        "print(paragraphs(sys.argv[2:3], sys.argv[1], 0.5, 32, 'cpu'))\n",
        *(str(tiny), text),
        env=os.environ | {"PROGDATA_CACHE": str(tmp_path / "other")},
    )
    assert json.loads(printed) == split([text], tiny)


@pytest.mark.slow
def test_workers_and_shard_size_do_not_change_a_build(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with a cache of its own, so that every one asks the model."""
    segmenter = {"name": "sat", "model": str(tiny), "threshold": THRESHOLD, "min_tokens": 5}
    recipe = countdown(24, ["noisy"], segmenter=segmenter)
    for name, options in {
        "alone": {},
        "two": {"workers": 2, "shard_bytes": 64 << 10},
    }.items():
        monkeypatch.setenv("PROGDATA_CACHE", str(tmp_path / f"cache of {name}"))
        report = build(recipe, tmp_path / name, **options)
        assert report["rows_out"] > 15
        assert (tmp_path / f"cache of {name}" / "sat.sqlite").is_file()
    assert_same(tmp_path / "two", tmp_path / "alone")
    lock = json.loads((tmp_path / "alone" / LOCK).read_text())
    assert lock["segmenter_sha256"] == find_model(str(tiny)).fingerprint


def test_a_build_with_other_weights_is_not_taken_for_this_one(tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "model")
    recipe = countdown(3, ["clean"], segmenter={"name": "sat", "model": str(folder)})
    first = build(recipe, tmp_path / "out")
    assert build(recipe, tmp_path / "out") == first
    make_tiny_sat(folder, seed=1)
    with pytest.raises(UsageError, match="holds the build of another recipe"):
        build(recipe, tmp_path / "out")


# --- the cache -------------------------------------------------------------------------------


def test_a_second_run_does_not_ask_the_model(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    batch = [some_text(30), *ODD_TEXTS.values()]
    first = split(batch, tiny)
    request.getfixturevalue("no_model")
    assert split(batch[::-1], tiny) == first[::-1]
    with pytest.raises(ProgdataError, match="the model was asked for"):
        split(["a text that was not there"], tiny)


def test_a_run_from_the_cache_loads_no_torch(tiny: Path, cache: Path) -> None:
    text = some_text(30)
    expected = split([text], tiny)
    printed = run_python(
        "import sys, json\n"
        "from progdata.builders.sat import paragraphs\n"
        "ends = paragraphs(sys.argv[2:3], sys.argv[1], 0.5, 32, 'cpu')\n"
        "print(json.dumps([ends, sorted({'torch', 'wtpsplit', 'transformers'} & {*sys.modules})]))",
        *(str(tiny), text),
        env=os.environ | {"PROGDATA_CACHE": str(cache.parent)},
    )
    assert json.loads(printed) == [expected, []]


@pytest.mark.parametrize(
    "other", [{"threshold": 0.51}, {"batch_size": 8}, {"device": "cuda:0"}], ids=str
)
@pytest.mark.usefixtures("cache")
def test_another_setting_is_another_key(
    tiny: Path, request: pytest.FixtureRequest, other: dict[str, Any]
) -> None:
    split(["x = 3"], tiny)
    request.getfixturevalue("no_model")
    with pytest.raises(ProgdataError, match="the model was asked for"):
        split(["x = 3"], tiny, **other)


def test_other_weights_in_the_same_folder_give_other_paragraphs(tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "model")
    text = some_text(100)
    first, fingerprint = split([text], folder), find_model(str(folder)).fingerprint
    assert fingerprint == find_model(str(tiny)).fingerprint
    make_tiny_sat(folder, seed=1)
    assert find_model(str(folder)).fingerprint != fingerprint
    assert split([text], folder) != first


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_the_fingerprint_covers_every_file_that_is_loaded(
    tiny: Path, tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / "README.md").write_text("not loaded")
    fingerprint = find_model(str(folder)).fingerprint
    assert fingerprint == find_model(str(tiny)).fingerprint
    with (folder / name).open("ab") as file:
        file.write(b" ")
    assert find_model(str(folder)).fingerprint != fingerprint


def test_the_cache_lies_where_the_variable_says(tiny: Path, cache: Path) -> None:
    split(["x = 3"], tiny)
    assert cache.is_file()
    assert cache_path() == cache


def test_the_cache_lies_in_the_home_folder_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROGDATA_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_path() == tmp_path / ".cache" / "progdata" / "sat.sqlite"


@pytest.mark.parametrize("damage", [b"no database" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_cache_file_is_named_in_one_line(tiny: Path, cache: Path, damage: bytes) -> None:
    cache.parent.mkdir()
    cache.write_bytes(damage)
    with pytest.raises(ProgdataError, match=r"sat\.sqlite: .* delete the file") as raised:
        split(["x = 3"], tiny)
    assert "\n" not in str(raised.value)
    assert cache.read_bytes() == damage


def test_a_damaged_row_is_made_again(tiny: Path, cache: Path) -> None:
    batch = [some_text(40, seed=n) for n in range(4)]
    expected = split(batch, tiny)
    with sqlite3.connect(cache) as connection:
        values = [row[0] for row in connection.execute("SELECT ends FROM paragraphs")]
        assert len(values) == len(batch)
        for new, old in zip((b"", values[1], values[2][:-4]), values, strict=False):
            connection.execute("UPDATE paragraphs SET ends = ? WHERE ends = ?", (new, old))
    connection.close()
    assert split(batch, tiny) == expected


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_cache_folder_that_cannot_be_made_is_named(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PROGDATA_CACHE", str(tmp_path / name))
    with pytest.raises(ProgdataError, match=r"sat\.sqlite: .*set PROGDATA_CACHE"):
        split(["x = 3"], tiny)


def test_processes_that_write_at_once_lose_nothing(cache: Path) -> None:
    """Three processes put 60 texts each into one new file, half of them the same texts."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from progdata.builders.sat import ParagraphCache\n"
        "first = int(sys.argv[2])\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "for n in range(first, first + 60):\n"
        "    with ParagraphCache(Path(sys.argv[1]), 'settings') as cache:\n"
        "        cache.put(str(n), [n, n + 1])\n"
        "        assert cache.get(str(n)) == [n, n + 1]\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(cache), str(first)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in (0, 30, 60)
    ]
    for process in running:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        process.communicate(timeout=60)
    assert [process.returncode for process in running] == [0, 0, 0]
    with ParagraphCache(cache, "settings") as kept, ParagraphCache(cache, "others") as others:
        assert [kept.get(str(n)) for n in range(120)] == [[n, n + 1] for n in range(120)]
        assert others.get("0") is None


# --- what bad input gets ---------------------------------------------------------------------


@pytest.mark.parametrize("package", ["wtpsplit", "torch"])
def test_a_missing_package_names_the_extra(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ProgdataError) as raised:
        split(["x = 3"], tiny)
    assert str(raised.value) == (
        "wtpsplit is not installed; it comes with the extra 'sat': pip install 'progdata[sat]'"
    )


WRONG_FOLDERS: dict[str, tuple[dict[str, bytes | None], str]] = {
    "no config": ({"config.json": None}, "no config.json of a model in"),
    "a config of something else": ({"config.json": b"[]"}, "no config.json of a model in"),
    "another model": ({"config.json": b'{"model_type": "bert"}'}, "a model of type 'bert'"),
    "no weights": ({"model.safetensors": None}, "no model.safetensors or pytorch_model.bin in"),
    "cut weights": ({"model.safetensors": b"\x08\0\0"}, "could not be loaded: "),
    "a broken tokenizer": ({"tokenizer.json": b"{"}, "could not be loaded: "),
}


@pytest.mark.parametrize("name", WRONG_FOLDERS)
def test_a_wrong_model_folder_gets_one_line(tiny: Path, tmp_path: Path, name: str) -> None:
    changes, expected = WRONG_FOLDERS[name]
    folder = shutil.copytree(tiny, tmp_path / "model")
    for file, content in changes.items():
        (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    with pytest.raises(ProgdataError) as raised:
        split(["x = 3"], folder)
    message = str(raised.value)
    assert expected in message
    assert str(folder) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "path", ["/absent/model", "./absent", "models/tiny/deep", "sat 3l", "", "@"]
)
def test_what_is_no_folder_and_no_name_gets_one_line(path: str) -> None:
    with pytest.raises(ProgdataError) as raised:
        find_model(path)
    assert str(raised.value) == (
        f"SaT model {path!r}: no such folder; "
        "give a folder, a name such as sat-3l, or org/name[@revision]"
    )


# --- models on the hub -----------------------------------------------------------------------

FIND = (
    "import json, sys\n"
    "from progdata.builders.errors import ProgdataError\n"
    "from progdata.builders.sat_model import find_model\n"
    "for spec in sys.argv[1:]:\n"
    "    try:\n"
    "        found = find_model(spec)\n"
    "        print(json.dumps([found.pinned, found.fingerprint]))\n"
    "    except ProgdataError as error:\n"
    "        print(json.dumps(str(error)))\n"
)


class SatHub:
    """A loopback hub with the layout of the real repositories, and a client's folder."""

    def __init__(self, hub: LoopbackHub, tiny: Path, folder: Path) -> None:
        self.hub, self.folder = hub, folder
        self.weights = {name: (tiny / name).read_bytes() for name in WEIGHTS}
        unused = {"model.onnx": b"onnx", "loras/a/b/pytorch_adapter.bin": b"x", "README.md": b"#"}
        self.first = hub.add_model("segment-any-text/sat-tiny", self.weights | unused, tag="v1")
        self.tokenizer = hub.add_model(
            XLM_R,
            {
                "tokenizer.json": (tiny / "tokenizer.json").read_bytes(),
                "tokenizer_config.json": b'{"model_max_length": 512}',
                "config.json": b'{"model_type": "xlm-roberta"}',
                "flax_model.msgpack": b"flax",
            },
        )
        self.env = hub.client_env(folder / "hf") | {"PROGDATA_CACHE": str(folder / "cache")}

    def find(self, *specs: str, offline: bool = False) -> list[Any]:
        """What one process finds: the pin and the fingerprint of each spec, or its error."""
        env = self.env | ({"HF_HUB_OFFLINE": "1"} if offline else {})
        return [json.loads(line) for line in run_python(FIND, *specs, env=env).splitlines()]


WEIGHTS = ("config.json", "model.safetensors")


@pytest.fixture
def sat_hub(tiny: Path, tmp_path: Path) -> Iterator[SatHub]:
    with LoopbackHub() as hub:
        yield SatHub(hub, tiny, tmp_path)


def test_a_name_is_resolved_to_commits_and_fingerprinted_by_content(
    sat_hub: SatHub, tmp_path: Path
) -> None:
    ((pinned, fingerprint),) = sat_hub.find("sat-tiny")
    assert pinned == (
        f"segment-any-text/sat-tiny@{sat_hub.first}+facebookAI/xlm-roberta-base@{sat_hub.tokenizer}"
    )
    fetched = {line.rpartition("/")[2] for line in sat_hub.hub.requests if "/resolve/" in line}
    assert fetched == {*WEIGHTS, "tokenizer.json", "tokenizer_config.json"}
    (copied,) = (tmp_path / "hf").rglob(f"snapshots/{sat_hub.first}")
    (tokenizer,) = (tmp_path / "hf").rglob(f"snapshots/{sat_hub.tokenizer}")
    assert find_model(f"{copied}+{tokenizer}").fingerprint == fingerprint


def test_new_weights_under_the_same_name_are_another_model(sat_hub: SatHub) -> None:
    """The first commit is still there by its tag, its sha, and the pin of a lock file."""
    ((pinned, fingerprint),) = sat_hub.find("sat-tiny")
    moved = sat_hub.weights | {"config.json": sat_hub.weights["config.json"] + b" "}
    second = sat_hub.hub.add_model("segment-any-text/sat-tiny", moved)
    now, *then = sat_hub.find(
        "sat-tiny", "sat-tiny@v1", f"segment-any-text/sat-tiny@{sat_hub.first}", pinned
    )
    assert second in now[0]
    assert now[1] != fingerprint
    assert then == [[pinned, fingerprint]] * 3


def test_a_pin_needs_no_hub_once_its_files_are_there(sat_hub: SatHub) -> None:
    ((pinned, fingerprint),) = sat_hub.find("sat-tiny")
    asked = len(sat_hub.hub.requests)
    assert sat_hub.find(pinned, offline=True) == [[pinned, fingerprint]]
    assert sat_hub.find(pinned) == [[pinned, fingerprint]]
    assert len(sat_hub.hub.requests) == asked


def test_weights_that_are_not_safetensors_are_found_too(sat_hub: SatHub) -> None:
    pickled = {"config.json": sat_hub.weights["config.json"], "pytorch_model.bin": b"weights"}
    sha = sat_hub.hub.add_model("org/old", pickled)
    ((pinned, _),) = sat_hub.find("org/old")
    assert pinned.startswith(f"org/old@{sha}+")


def test_what_the_hub_does_not_have_gets_one_line(sat_hub: SatHub) -> None:
    sat_hub.hub.add_model("org/other", {"config.json": b'{"model_type": "bert"}', "a.bin": b"x"})
    sat_hub.hub.fail_next["sat-down"] = [500] * 50
    messages = sat_hub.find(
        "sat-99l", "sat-tiny@v9", "org/other", "sat-down", "sat-tiny+org/absent"
    )
    expected = [
        "SaT model 'sat-99l': neither a folder nor a model segment-any-text/sat-99l on the hub",
        "SaT model 'sat-tiny@v9': segment-any-text/sat-tiny has no branch, tag or commit 'v9'",
        "SaT model 'org/other': a model of type 'bert', expected 'xlm-token'",
        "SaT model 'sat-down': segment-any-text/sat-down could not be downloaded: ",
        "SaT model 'org/absent': neither a folder nor a model org/absent on the hub",
    ]
    for message, beginning in zip(messages, expected, strict=True):
        assert message.startswith(beginning)
        assert "\n" not in message


@pytest.mark.slow
def test_a_build_with_a_hub_model_is_tied_to_its_weights(sat_hub: SatHub) -> None:
    """The hub is asked once for each repository, not by the workers; and the real loading code
    takes a tokenizer in the layout of XLM-R's repository."""
    ((_, fingerprint),) = sat_hub.find("sat-tiny")
    asked = len(sat_hub.hub.requests)
    command = [
        *(sys.executable, "-m", "progdata.cli", "build", "--source", "countdown:20", "--json"),
        *("--segmenter", "sat:sat-tiny", "--out", str(sat_hub.folder / "out"), "--workers", "2"),
    ]
    done = subprocess.run(command, env=sat_hub.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["rows_out"] == 20
    lock = json.loads((sat_hub.folder / "out" / LOCK).read_text())
    assert lock["segmenter_sha256"] == fingerprint
    assert sat_hub.hub.requests[asked:] == [
        "GET /api/models/segment-any-text/sat-tiny/revision/main",
        "GET /api/models/facebookAI/xlm-roberta-base/revision/main",
    ]


def run_python(script: str, *arguments: str, env: dict[str, str]) -> str:
    """What a script prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
