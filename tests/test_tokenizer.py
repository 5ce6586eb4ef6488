import json
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pyarrow.parquet as pq
import pytest
from hostile_text import giant_lines, texts
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shared_data import TOKENIZER, needs_shared_data, read_traces
from tokenizer_files import SLOW_KINDS, WAIT_TOKEN, byte_level_bpe
from tokenizers import Tokenizer

from progdata.builders import counter_proof
from progdata.builders.countdown import traces
from progdata.builders.counter_proof import probe_texts, why_not_fast
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.thinking import CLOSE, OPEN
from progdata.builders.tokenizer import (
    WORDS_PATTERN,
    Counter,
    FastCounter,
    ReferenceCounter,
    TokenStarts,
    WordsCounter,
    find_tokenizer,
    load_counter,
)
from progdata.builders.utf8 import byte_offsets
from progdata.releases.build import build
from progdata.releases.check import check
from progdata.releases.recipe import Recipe

WORDS = WordsCounter()


@pytest.fixture(scope="module")
def bpe(tmp_path_factory) -> str:
    """The file of a small byte-level BPE."""
    return str(byte_level_bpe(tmp_path_factory.mktemp("bpe")) / "tokenizer.json")


def why_slow(path: Path | str) -> str | None:
    found = find_tokenizer(str(path))
    assert found.path is not None
    return why_not_fast(found.path, found.fingerprint)


def characters_of_starts(text: str, starts: TokenStarts, index: int = 0) -> list[int]:
    """The character in which each token of a text starts."""
    offsets = byte_offsets(text, text.encode())
    return (offsets.searchsorted(starts.of_text(index), "right") - 1).tolist()


@lru_cache(maxsize=4)
def library(path: str) -> Tokenizer:
    """`tokenizers` itself, without any code of this project."""
    loaded = Tokenizer.from_file(path)
    loaded.post_processor = None  # type: ignore[assignment]
    return loaded


def reference_characters(path: str, text: str) -> list[int]:
    """The character in which each token of a text starts, as `tokenizers` says."""
    return [start for start, _ in library(path).encode(text, add_special_tokens=False).offsets]


# --- words


@given(text=texts | giant_lines)
@example("")
@example("A\n\nb 12é🙂\x7f\x00\u0301")
def test_words_are_the_matches_of_their_expression(text):
    begins = byte_offsets(text, text.encode())
    expected = [int(begins[match.start()]) for match in re.finditer(WORDS_PATTERN, text)]
    assert WORDS.starts([text]).starts.tolist() == expected


def test_words_of_every_character_are_the_matches_of_their_expression():
    characters = [chr(i) for i in range(0x10000) if not 0xD800 <= i < 0xE000]
    counts = WORDS.starts(characters).per_text().tolist()
    wrong = [
        own
        for own, count in zip(characters, counts, strict=True)
        if count != len(re.findall(WORDS_PATTERN, own))
    ]
    assert wrong == []


def assert_batch_is_alone(counter: Counter, batch: list[str]) -> None:
    together = counter.starts(batch)
    alone = [counter.starts([text]).starts.tolist() for text in batch]
    assert [together.of_text(index).tolist() for index in range(len(batch))] == alone
    assert together.per_text().tolist() == [len(own) for own in alone]


@given(batch=st.lists(texts, max_size=8))
@example([])
@example(["", "a", "", "", "b", ""])
@example(["a", "b"])
@example(["\n", "\n"])
def test_words_never_join_the_texts_of_a_batch(batch):
    assert_batch_is_alone(WORDS, batch)


@given(batch=st.lists(texts, max_size=8), data=st.data())
def test_tokens_before_an_end_are_those_that_start_before_it(batch, data):
    starts = WORDS.starts(batch)
    ends = [
        sorted(data.draw(st.lists(st.integers(0, len(text.encode())), max_size=5)))
        for text in batch
    ]
    counts = np.array([len(own) for own in ends], dtype=np.int64)
    flat = np.array([end for own in ends for end in own], dtype=np.int64)
    expected = [
        int((starts.of_text(index) < end).sum()) for index, own in enumerate(ends) for end in own
    ]
    assert starts.before(flat, counts).tolist() == expected


# --- fast and reference


def assert_fast_is_reference(path: str, text: str) -> None:
    expected = reference_characters(path, text)
    for fast in (True, False):
        assert characters_of_starts(text, load_counter(path, fast).starts([text])) == expected


@given(text=texts | giant_lines)
@example("")
@example(f"a {WAIT_TOKEN}\n{WAIT_TOKEN}b")
@example("a   <|greedy|> \n b  alone  lonely aloneness")
@example("🙂" * 300)
def test_fast_counts_like_the_reference_with_a_small_vocabulary(bpe, text):
    assert_fast_is_reference(bpe, text)


@needs_shared_data
@settings(max_examples=60)
@given(text=texts | giant_lines)
@example("<think>\nOkay<｜User｜></think>")
def test_fast_counts_like_the_reference_with_the_real_vocabulary(text):
    assert_fast_is_reference(str(TOKENIZER / "tokenizer.json"), text)


@given(batch=st.lists(texts, max_size=8))
@example(["", "a", "", "e\u0301", "b", ""])
def test_neither_counter_joins_the_texts_of_a_batch(bpe, batch):
    for fast in (True, False):
        assert_batch_is_alone(load_counter(bpe, fast), batch)


@needs_shared_data
def test_fast_counts_every_real_trace_like_the_reference():
    path = str(TOKENIZER / "tokenizer.json")
    thinks = [row["completion"].partition(CLOSE)[0] for row in read_traces("r1_1p5b_math.jsonl.gz")]
    assert len(thinks) > 300
    fast = load_counter(path, True).starts(thinks)
    encodings = library(path).encode_batch(thinks, add_special_tokens=False)
    for index, (think, encoding) in enumerate(zip(thinks, encodings, strict=True)):
        expected = [start for start, _ in encoding.offsets]
        assert characters_of_starts(think, fast, index) == expected


@needs_shared_data
def test_the_real_tokenizer_may_be_fast():
    assert why_slow(TOKENIZER) is None


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """The texts that go to the reference counter."""
    found: list[str] = []
    original = ReferenceCounter.starts

    def starts(self: ReferenceCounter, own: list[str]) -> TokenStarts:
        found.extend(own)
        return original(self, own)

    monkeypatch.setattr(ReferenceCounter, "starts", starts)
    return found


NOT_NFC = ["e\u0301", "A\u030a", "\u212b", "\u1100\u1161\u11a8", "q\u0307\u0323", "\uf900"]


@pytest.mark.parametrize("text", [f"Wait, {own} is it" for own in NOT_NFC])
def test_texts_that_are_not_in_nfc_go_the_slow_way_and_are_right(bpe, asked, text):
    assert normalize("NFC", text) != text
    expected = reference_characters(bpe, text)
    batch = ["plain", text, "é in NFC 数", ""]
    found = load_counter(bpe, True).starts(batch)
    assert asked == [text]
    assert characters_of_starts(text, found, 1) == expected


def test_texts_in_nfc_go_the_fast_way(bpe, asked):
    load_counter(bpe, True).starts(["plain", "é 数 🙂 ½", "", "\r\n\t"])
    assert asked == []


@pytest.mark.parametrize("kind", SLOW_KINDS, ids=lambda kind: kind.__name__)
def test_a_tokenizer_that_is_no_plain_byte_level_bpe_is_counted_by_the_reference(kind, tmp_path):
    path = kind(tmp_path / "tokenizer")
    assert why_slow(path) == SLOW_KINDS[kind]
    report = build(recipe(path), tmp_path / "out")
    assert report["tokenizer"]["counter"] == "tokenizers"
    assert report["tokenizer"]["slow_because"] == SLOW_KINDS[kind]
    assert lock_of(tmp_path / "out")["tokenizer"] == report["tokenizer"]
    assert check(tmp_path / "out") == []


def test_probe_texts_are_odd_and_always_the_same():
    assert probe_texts() == probe_texts()
    assert len(probe_texts()) == 400
    assert any(not text.isascii() for text in probe_texts())
    assert any(normalize("NFC", text) != text for text in probe_texts())


def test_a_fast_counter_that_fails_the_probes_is_not_used(bpe, tmp_path, monkeypatch):
    spoil_fast_counter(monkeypatch, lambda text: "Wait" in text)
    other = byte_level_bpe(tmp_path)
    path = other / "tokenizer.json"
    path.write_text(path.read_text("utf-8") + "\n", "utf-8")  # a file not seen before
    assert why_slow(other) == "fastokens and tokenizers differ on the probe texts"


# --- a fast counter that is wrong on a trace


def spoil_fast_counter(monkeypatch, wrong: Any) -> None:
    """Make the fast counter miss the second token of every text that is `wrong`."""
    original = FastCounter.starts

    def starts(self: FastCounter, own: list[str]) -> TokenStarts:
        right = original(self, own)
        missed = [
            int(right.offsets[index] + right.of_text(index)[1])
            for index, text in enumerate(own)
            if wrong(text) and len(right.of_text(index)) > 1
        ]
        return TokenStarts(right.starts[~np.isin(right.starts, missed)], right.sizes)

    monkeypatch.setattr(FastCounter, "starts", starts)


def recipe(path: Path | str, source: str = "countdown:24", **fields: Any) -> Recipe:
    return Recipe.model_validate(
        {"sources": source, "tokenizer": str(path), "variants": ["clean", "noisy"]} | fields
    )


def lock_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "progdata.lock.json").read_text("utf-8"))


def labels_of(folder: Path) -> dict[str, list[list[int]]]:
    """The labels of each Parquet file."""
    return {
        path.relative_to(folder).as_posix(): pq.read_table(path)["labels"].to_pylist()
        for path in sorted(folder.glob("data/*/*.parquet"))
    }


@pytest.fixture
def reference_build(bpe, tmp_path, monkeypatch) -> Path:
    """A build whose tokens the reference counts."""
    with monkeypatch.context() as patched:
        patched.setattr(counter_proof, "_unsuitable", lambda _: "asked for")
        why_not_fast.cache_clear()
        report = build(recipe(bpe), tmp_path / "reference")
    why_not_fast.cache_clear()
    assert report["tokenizer"]["slow_because"] == "asked for"
    return tmp_path / "reference"


def test_a_fast_build_has_the_labels_of_a_reference_build(bpe, tmp_path, reference_build):
    report = build(recipe(bpe), tmp_path / "fast")
    assert (report["tokenizer"]["counter"], report["tokenizer"]["slow_because"]) == (
        "fastokens",
        None,
    )
    assert labels_of(tmp_path / "fast") == labels_of(reference_build)


@pytest.mark.parametrize("how", ["starts", "lengths"])
def test_a_fast_counter_that_is_wrong_on_a_trace_makes_the_reference_count_all(
    how, bpe, tmp_path, monkeypatch, reference_build
):
    probes = set(probe_texts())
    counter = load_counter(bpe, True)
    assert isinstance(counter, FastCounter)
    if how == "starts":
        spoil_fast_counter(monkeypatch, lambda text: text not in probes and "back" in text.lower())
    else:  # in the first trace the wrong lengths add up to the right total
        think = next(own for own in traces(seed=0, start=0, stop=9) if CLOSE in own.completion)
        ids = library(bpe).encode(think.completion.partition(CLOSE)[0].removeprefix(OPEN)).ids
        once = [own for own in ids if ids.count(own) == 1 and counter._lengths[own] > 1]
        lengths = counter._lengths.copy()
        lengths[once[0]] -= 1
        lengths[once[1]] += 1
        monkeypatch.setattr(counter, "_lengths", lengths)
        monkeypatch.setattr(counter_proof, "probe_texts", lambda: ["plain"])
        why_not_fast.cache_clear()
    report = build(recipe(bpe), tmp_path / "fallen-back")
    record = report["tokenizer"]
    assert record["counter"] == "tokenizers"
    assert re.fullmatch(
        r"fastokens and tokenizers differ on trace [0-9a-f]{32}", record["slow_because"]
    )
    assert lock_of(tmp_path / "fallen-back")["tokenizer"] == record
    for path in sorted(reference_build.glob("data/*/*.parquet")):
        name = path.relative_to(reference_build)
        assert (tmp_path / "fallen-back" / name).read_bytes() == path.read_bytes(), name
    assert check(tmp_path / "fallen-back") == [], "the check must not count with the wrong one"
    why_not_fast.cache_clear()


# --- files that are no tokenizers


def corrupted(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "tokenizer.json").write_bytes(content)
    return tmp_path


CORRUPTED = [
    b"",
    b"not JSON",
    b'{"version": "1.0", "model": {"type": "BPE", "vocab": {',
    b"{}",
    b"[]",
    b"null",
    b'"words"',
    b'{"model": []}',
    b'{"model": {"type": "BPE"}, "pre_tokenizer": 3}',
    b"\xff\xfe\x00\x01",
    b'{"version": "1.0", "model": {"type": "NoSuchModel", "vocab": {}}}',
]


@pytest.mark.parametrize("content", CORRUPTED, ids=lambda content: repr(content[:24]))
def test_a_corrupted_tokenizer_is_one_error_that_names_the_file(content, tmp_path):
    path = corrupted(tmp_path, content)
    with pytest.raises(ProgdataError, match=r"tokenizer\.json: not a tokenizer\.json"):
        build(recipe(path), tmp_path / "out")


def test_the_command_line_reports_a_corrupted_tokenizer_in_one_line(tmp_path):
    path = corrupted(tmp_path, CORRUPTED[2])
    command = ["build", "--source", "countdown:5", "--tokenizer", str(path)]
    done = subprocess.run(
        [sys.executable, "-m", "progdata.cli", *command, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("progdata: ")]
    assert str(path / "tokenizer.json") in line
    assert "Traceback" not in done.stderr


def test_a_tokenizer_that_is_not_there_is_wrong_use(tmp_path):
    with pytest.raises(UsageError, match=r"no file .*tokenizer\.json; give 'words'"):
        find_tokenizer(str(tmp_path))


def test_the_fingerprint_is_of_the_content(bpe, tmp_path):
    first = find_tokenizer(bpe)
    assert find_tokenizer(str(Path(bpe).parent)).fingerprint == first.fingerprint
    copy = tmp_path / "tokenizer.json"
    copy.write_bytes(Path(bpe).read_bytes() + b" ")
    assert find_tokenizer(str(copy)).fingerprint != first.fingerprint
    assert find_tokenizer("words").path is None
