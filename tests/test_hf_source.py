"""`progdata build --source hf:...`: datasets and tokenizers from a hub, in processes of their own.

The hub is the loopback one; its clients are the real `datasets` and `huggingface_hub`.
"""

import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from build_folder import LOCK, assert_same
from loopback_hub import LoopbackHub, sha256
from tokenizers import Tokenizer, models, pre_tokenizers

BUILDS = """
import contextlib, io, json, sys
from progdata.cli import main

outcomes = []
for arguments in json.load(sys.stdin):
    sys.argv = ["progdata", *arguments]
    out, err = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in "oe"]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            texts = [stream.buffer.getvalue().decode() for stream in (out, err)]
            outcomes.append([ended.code, *texts])
print(json.dumps(outcomes))
"""
"""Runs the command line once for each list of arguments."""

IMPATIENT = "import time\n\ntime.sleep = lambda seconds: None\n"
"""As sitecustomize.py: the clients' pauses between two tries take no time."""

CONFIGS = b"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
  - split: test
    path: data/test-*.parquet
- config_name: extended
  data_files:
  - split: train
    path: extended/*.parquet
---
"""

NO_DEFAULT = b"""---
configs:
- config_name: easy
  data_files: easy.jsonl
- config_name: hard
  data_files: hard.jsonl
---
"""


@dataclass(frozen=True)
class Outcome:
    """How one run of the command line ended."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def report(self) -> dict[str, Any]:
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def lock(self) -> dict[str, Any]:
        assert self.code == 0, self.err
        return json.loads((self.folder / LOCK).read_text())

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the clean variant, in the order of their problems."""
        assert self.code == 0, self.err
        files = (self.folder / "data" / "clean").glob("*.parquet")
        rows = [row for file in files for row in pq.read_table(file).to_pylist()]
        return sorted(rows, key=lambda row: int(row["answer"]))

    def answers(self) -> list[int]:
        return [int(row["answer"]) for row in self.rows()]

    def message(self) -> str:
        """The one line that says why it failed."""
        lines = [line for line in self.err.splitlines() if line.startswith("progdata: ")]
        assert len(lines) == 1, self.err
        assert self.err.endswith(f"{lines[0]}\n")
        assert "Traceback" not in self.err
        assert not self.out
        return lines[0].removeprefix("progdata: ")


class Client:
    """Builds in processes whose hub is the loopback hub."""

    def __init__(self, hub: LoopbackHub, folder: Path) -> None:
        self.hub, self.folder = hub, folder
        (folder / "impatient").mkdir(parents=True)
        (folder / "impatient" / "sitecustomize.py").write_text(IMPATIENT)
        paths = [str(folder / "impatient"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.env = hub.client_env(folder / "hf") | {"PYTHONPATH": os.pathsep.join(paths)}
        self._built = 0

    def build(self, *arguments: Sequence[str], **env: str) -> list[Outcome]:
        """One process that runs `progdata build` once for each list of arguments."""
        folders = [self.folder / f"out-{self._built + n}" for n in range(len(arguments))]
        self._built += len(arguments)
        commands = [
            ["build", *own, "--json", *([] if "--out" in own else ["--out", str(folder)])]
            for own, folder in zip(arguments, folders, strict=True)
        ]
        done = subprocess.run(
            [sys.executable, "-c", BUILDS],
            env=self.env | env,
            input=json.dumps(commands),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        ended = json.loads(done.stdout.splitlines()[-1])
        return [
            Outcome(code, out, err, folder)
            for (code, out, err), folder in zip(ended, folders, strict=True)
        ]


@pytest.fixture(scope="module")
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as running:
        yield running


@pytest.fixture(scope="module")
def client(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(hub, tmp_path_factory.mktemp("client"))


def trace(number: int, **fields: Any) -> dict[str, Any]:
    completion = f"<think>\nstep {number}\n\nso\n\ndone\n</think>\n\\boxed{{{number}}}"
    row = {"problem": f"What is {number}?", "answer": str(number), "completion": completion}
    return row | fields


def parquet(numbers: Sequence[int], **fields: Any) -> bytes:
    return parquet_of([trace(number, **fields) for number in numbers])


def parquet_of(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def traces_repo(first: int) -> dict[str, bytes]:
    """A repository with two configs, whose answers begin at `first`."""
    return {
        "README.md": CONFIGS,
        "data/train-00000-of-00002.parquet": parquet(range(first, first + 5)),
        "data/train-00001-of-00002.parquet": parquet(range(first + 5, first + 8)),
        "data/test-00000-of-00001.parquet": parquet(range(first + 20, first + 22)),
        "extended/train.parquet": parquet(range(first + 40, first + 44)),
    }


# --- what is read ----------------------------------------------------------------------------


def test_the_train_split_is_read_at_a_commit_that_the_lock_records(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    """By the installed command itself, with the clients' own pauses."""
    sha = hub.add_dataset("org/first", traces_repo(100))
    asked = len(hub.requests)
    command = ["progdata", "build", "--source", "hf:org/first", "--out", "out", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "progdata.cli", *command[1:]],
        env=hub.client_env(tmp_path / "hf"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    built = Outcome(done.returncode, done.stdout, done.stderr, tmp_path / "out")
    assert built.report["rows_in"] == 8
    assert built.answers() == [*range(100, 108)]
    assert {row["source"] for row in built.rows()} == {"org/first"}
    assert built.lock["sources"] == [
        {
            "spec": "hf:org/first",
            "repo": "org/first",
            "config": None,
            "split": "train",
            "revision": sha,
        }
    ]
    fetched = {line.rpartition("/")[2] for line in hub.requests[asked:] if "/resolve/" in line}
    assert not {name for name in fetched if name.startswith(("test-", "extended"))}


def test_each_part_of_a_source_is_honoured(hub: LoopbackHub, client: Client) -> None:
    """Branch, tag and commit are resolved to a commit; config and split choose the files."""
    first = hub.add_dataset("org/traces", traces_repo(100), tag="v1")
    draft = hub.add_dataset("org/traces", traces_repo(300), revision="drafts/next")
    second = hub.add_dataset("org/traces", traces_repo(200))
    expected: dict[str, tuple[str, list[int]]] = {
        "hf:org/traces": (second, [*range(200, 208)]),
        "hf:org/traces@main": (second, [*range(200, 208)]),
        "hf:org/traces@v1": (first, [*range(100, 108)]),
        f"hf:org/traces@{first}": (first, [*range(100, 108)]),
        "hf:org/traces@drafts/next": (draft, [*range(300, 308)]),
        "hf:org/traces#test": (second, [220, 221]),
        "hf:org/traces:extended": (second, [*range(240, 244)]),
        "hf:org/traces:default@v1#test": (first, [120, 121]),
    }
    for spec, built in zip(
        expected, client.build(*(["--source", spec] for spec in expected)), strict=True
    ):
        assert (built.lock["sources"][0]["revision"], built.answers()) == expected[spec], spec
        assert built.lock["sources"][0]["spec"] == spec


def test_another_process_does_not_change_a_build(hub: LoopbackHub, client: Client) -> None:
    """And a limit cuts the rows of both splits together."""
    hub.add_dataset("org/same", traces_repo(0))
    arguments = ["--source", "hf:org/same", "--source", "hf:org/same#test", "--variant", "noisy"]
    one, limited = client.build(arguments, [*arguments, "--limit", "9", "--variant", "clean"])
    (other,) = client.build(arguments)
    assert one.report["rows_out"] == 10
    assert_same(other.folder, one.folder)
    assert limited.answers() == [*range(8), 20]


def test_a_moved_branch_is_not_mistaken_for_the_build_that_is_there(
    hub: LoopbackHub, client: Client
) -> None:
    hub.add_dataset("org/moving", traces_repo(0))
    arguments = ["--source", "hf:org/moving", "--out", str(client.folder / "moving")]
    client.build(arguments)
    hub.add_dataset("org/moving", traces_repo(1))
    (again,) = client.build(arguments)
    assert again.code == 2
    assert "holds the build of another recipe (the sources' content differ)" in again.message()


# --- columns ---------------------------------------------------------------------------------


def generations_row(number: int, texts: list[str], **marks: Any) -> dict[str, Any]:
    """A row as in open-r1/OpenR1-Math-220k (facts.md 8.3)."""
    count = len(texts)
    return {
        "problem": f"What is {number}?",
        "solution": f"It is {number}.",
        "answer": str(number),
        "problem_type": "Algebra",
        "question_type": "math-word-problem",
        "source": "olympiads",
        "uuid": f"uuid-{number}",
        "is_reasoning_complete": [True] * count,
        "generations": texts,
        "correctness_math_verify": [True] * count,
        "correctness_llama": None,
        "finish_reasons": None,
        "correctness_count": count,
        "messages": [
            {"role": "user", "content": f"What is {number}?"},
            {"role": "assistant", "content": "the messages are not read"},
        ],
    } | marks


def generation(text: str) -> str:
    return f"<think>\n{text}\n\nso\n</think>\nDone."


def test_the_first_complete_and_verified_generation_is_taken(
    hub: LoopbackHub, client: Client
) -> None:
    texts = [generation("zero"), generation("one"), generation("two")]
    rows = [
        generations_row(0, texts),
        generations_row(1, texts, correctness_math_verify=[False, True, True]),
        generations_row(
            2,
            texts,
            is_reasoning_complete=[False, True, True],
            correctness_math_verify=[True, False, True],
        ),
        generations_row(
            3,
            texts,
            correctness_math_verify=None,
            correctness_llama=[False, True, False],
            finish_reasons=["length", "stop", "stop"],
        ),
        generations_row(4, texts, correctness_math_verify=[False, False, False]),
    ]
    hub.add_dataset("org/openr1", {"data/train-00000-of-00001.parquet": parquet_of(rows)})
    (built,) = client.build(["--source", "hf:org/openr1"])
    assert built.report["rejected"] == {"read": {"no_usable_generation": 1}}
    found = built.rows()
    assert [row["sampling"]["sample_index"] for row in found] == [0, 1, 2, 1]
    said = [row["completion"].partition("\n\n")[0] for row in found]
    assert [words for text in said for words in ("zero", "one", "two") if words in text] == [
        "zero", "one", "two", "one",
    ]  # fmt: skip
    assert found[3]["finish_reason"] == "stop"
    assert {row["source"] for row in found} == {"olympiads"}


# --- tokenizers ------------------------------------------------------------------------------


def tokenizer_json(*extra: str) -> bytes:
    words = ["[UNK]", "step", "so", "done", *extra]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    return tokenizer.to_str().encode()


def test_a_hub_tokenizer_is_recorded_with_its_commit_and_chat_template(
    hub: LoopbackHub, client: Client
) -> None:
    """A template lies in a file of its own, or in older repositories in the tokenizer's config."""
    old, new, template = tokenizer_json(), tokenizer_json("more"), "{{ messages }}"
    in_config = {"tokenizer_config.json": json.dumps({"chat_template": template}).encode()}
    first = hub.add_model("org/model", {"tokenizer.json": old, **in_config}, tag="v1")
    in_file = {"chat_template.jinja": b"{{ other }}"}
    second = hub.add_model("org/model", {"tokenizer.json": new, **in_config, **in_file})
    hub.add_model("org/untold", {"tokenizer.json": old, "config.json": b"{}"})
    specs = {
        "org/model": (second, new, "{{ other }}"),
        "org/model@v1": (first, old, template),
        f"org/model@{first}": (first, old, template),
        "hf:org/model@main": (second, new, "{{ other }}"),
    }
    runs = [["--source", "countdown:5", "--tokenizer", spec] for spec in (*specs, "org/untold")]
    *built, untold = client.build(*runs)
    for (spec, (sha, content, own_template)), outcome in zip(specs.items(), built, strict=True):
        recorded = outcome.lock["tokenizer"]
        assert recorded["spec"] == spec
        assert recorded["revision"] == sha
        assert recorded["fingerprint"] == sha256(content)
        assert recorded["template_sha256"] == sha256(own_template.encode())
    assert untold.lock["tokenizer"]["template_sha256"] is None


# --- what goes wrong -------------------------------------------------------------------------

WRONG: dict[str, tuple[list[str], int, list[str]]] = {
    "repository": (["--source", "hf:org/absent"], 1, ["hf:org/absent"]),
    "revision": (["--source", "hf:org/good@v9"], 1, ["hf:org/good@v9"]),
    "commit": (["--source", f"hf:org/good@{'0' * 40}"], 1, ["0" * 40]),
    "config": (["--source", "hf:org/good:hard"], 1, ["'hard' not found", "'extended'"]),
    "no config": (["--source", "hf:org/choose"], 1, ["Config name is missing", "'easy', 'hard'"]),
    "split": (["--source", "hf:org/good#tset"], 1, ["Bad split: tset", "'train', 'test'"]),
    "form": (["--source", "hf:good"], 2, ["'hf:good'", "hf:org/name[:config][@revision][#split]"]),
    "no data": (["--source", "hf:org/card"], 1, ["hf:org/card", "any data files"]),
    "no columns": (["--source", "hf:org/other"], 1, ["no column holds a completion", "a, b"]),
    "script": (["--source", "hf:org/script"], 1, ["hf:org/script", "scripts are no longer"]),
    "broken lines": (["--source", "hf:org/broken"], 1, ["hf:org/broken"]),
    "cut gzip": (["--source", "hf:org/gzip"], 1, ["hf:org/gzip"]),
    "cut parquet": (["--source", "hf:org/parquet"], 1, ["hf:org/parquet", "Parquet"]),
    "forbidden": (["--source", "hf:org/secret"], 1, ["hf:org/secret", "403"]),
    "model": (["--source", "countdown:5", "--tokenizer", "org/absent"], 1, ["org/absent"]),
    "model revision": (["--source", "countdown:5", "--tokenizer", "org/m@v9"], 1, ["org/m@v9"]),
    "no tokenizer": (["--source", "countdown:5", "--tokenizer", "org/bare"], 1, ["org/bare"]),
}


@pytest.fixture(scope="module")
def wrong(hub: LoopbackHub, client: Client) -> dict[str, Outcome]:
    """How each entry of WRONG ends."""
    rows = lines([trace(n) for n in range(30)])
    hub.add_dataset("org/good", traces_repo(0))
    hub.add_dataset("org/choose", {"README.md": NO_DEFAULT, "easy.jsonl": rows, "hard.jsonl": rows})
    hub.add_dataset("org/card", {"README.md": b"# Nothing yet\n"})
    hub.add_dataset("org/other", {"train.jsonl": lines([{"a": 1, "b": 2}])})
    hub.add_dataset("org/script", {"script.py": b"import datasets\n"})
    hub.add_dataset("org/broken", {"train.jsonl": rows + b'{"problem": \n' + rows})
    hub.add_dataset("org/gzip", {"train.jsonl.gz": gzip.compress(rows)[:-40]})
    hub.add_dataset("org/parquet", {"train.parquet": parquet(range(9))[:-50]})
    hub.add_dataset("org/secret", {"train.jsonl": rows})
    hub.fail_next["/api/datasets/org/secret"] = [403]
    hub.add_model("org/m", {"tokenizer.json": tokenizer_json()})
    hub.add_model("org/bare", {"config.json": b"{}"})
    outcomes = client.build(*(arguments for arguments, _, _ in WRONG.values()))
    return dict(zip(WRONG, outcomes, strict=True))


@pytest.mark.parametrize("name", WRONG)
def test_what_the_hub_does_not_have_gets_one_line(wrong: dict[str, Outcome], name: str) -> None:
    _, code, words = WRONG[name]
    assert wrong[name].code == code
    message = wrong[name].message()
    assert "internal error" not in message
    assert [word for word in words if word not in message] == []
    assert not (wrong[name].folder / LOCK).exists()


def test_a_hub_that_cannot_be_reached_gets_one_line(client: Client) -> None:
    sources = ["--source", "hf:org/good"], ["--source", "countdown:5", "--tokenizer", "org/m"]
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(client.folder / "other")}
    for built in client.build(*sources, **nowhere):
        assert built.code == 1
        assert "internal error" not in built.message()


@pytest.mark.slow
def test_a_build_goes_on_after_a_server_error_in_the_middle(
    hub: LoopbackHub, client: Client
) -> None:
    """The first shard is committed by then, and the client's own retries are used up."""
    long = "a b c.\n\n" * 16_500
    completion = f"<think>\n{long}</think>\nDone."
    whole = {
        "data/train-00000-of-00002.parquet": parquet(range(70), completion=completion),
        "data/train-00001-of-00002.parquet": parquet(range(70, 73)),
    }
    hub.add_dataset("org/halting", whole)
    out = client.folder / "halting"
    arguments = ["--source", "hf:org/halting", "--out", str(out)]
    hub.fail_next["train-00001-of"] = [500] * 50
    (failed,) = client.build(arguments)
    assert failed.code == 1
    assert failed.message().startswith("source 'hf:org/halting': ")
    assert "500" in failed.message()
    assert not (out / LOCK).exists()
    assert list((out / ".progdata" / "shards").iterdir())

    hub.fail_next["train-00001-of"] = [500]  # one error alone, which the client gets over
    again, undisturbed = client.build(arguments, arguments[:2])
    assert again.report["rows_in"] == 73
    assert not hub.fail_next["train-00001-of"]
    assert_same(out, undisturbed.folder)
