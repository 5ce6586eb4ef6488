"""Finding a language model: folders, and repositories on a hub (the real client, over loopback)."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback_hub import LoopbackHub

from progdata.builders.errors import UsageError
from progdata.builders.model_files import DEFAULT_MODEL, ModelFiles, find_model

FILES = {
    "config.json": b'{"architectures": ["Qwen2ForCausalLM"]}',
    "generation_config.json": b'{"eos_token_id": 1}',
    "model.safetensors": b"weights of the model",
    "tokenizer.json": b'{"model": {}}',
    "tokenizer_config.json": b'{"bos_token": "<s>"}',
    "chat_template.jinja": b"{{ messages }}",
}
SHARDS = {
    "model-00001-of-00002.safetensors": b"first half",
    "model-00002-of-00002.safetensors": b"second half",
    "model.safetensors.index.json": b'{"weight_map": {}}',
}
UNUSED = {
    "README.md": b"# A model",
    "pytorch_model.bin": b"a pickle",
    "original/model.safetensors": b"the same again",
    "optimizer.pt": b"of its training",
}


def save(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def refusal(spec: str) -> str:
    """The one line that refuses a model."""
    with pytest.raises(UsageError) as caught:
        find_model(spec)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"model {spec!r}: ")
    return str(caught.value)


# --- folders


def test_a_folder_is_a_model_under_its_own_name(tmp_path, monkeypatch):
    folder = save(tmp_path / "runs" / "my-model", FILES)
    found = find_model(str(folder))
    assert found == ModelFiles("my-model", found.revision, folder)
    assert len(found.revision) == 64
    monkeypatch.chdir(folder)
    assert find_model(".") == find_model(f"{folder}/") == find_model("../my-model") == found


def test_no_path_of_this_machine_is_in_the_name_or_the_revision(tmp_path):
    found = find_model(str(save(tmp_path / "secret-user" / "m", FILES)))
    assert "secret-user" not in found.name + found.revision and "/" not in found.name


@pytest.mark.parametrize("changed", sorted(FILES))
def test_any_byte_of_what_is_loaded_changes_the_revision(tmp_path, changed):
    first = find_model(str(save(tmp_path / "a", FILES)))
    other = find_model(str(save(tmp_path / "b", FILES | {changed: FILES[changed] + b" "})))
    assert other.revision != first.revision


def test_a_file_that_changes_in_place_changes_the_revision(tmp_path):
    folder = save(tmp_path / "a", FILES)
    first = find_model(str(folder))
    (folder / "model.safetensors").write_bytes(FILES["model.safetensors"] + b"!")
    second = find_model(str(folder))
    (folder / "chat_template.jinja").unlink()
    third = find_model(str(folder))
    assert len({first.revision, second.revision, third.revision}) == 3


@pytest.mark.parametrize("shard", sorted(SHARDS))
def test_each_shard_of_the_weights_counts(tmp_path, shard):
    whole = {name: data for name, data in FILES.items() if name != "model.safetensors"} | SHARDS
    first = find_model(str(save(tmp_path / "a", whole)))
    other = find_model(str(save(tmp_path / "b", whole | {shard: b"other"})))
    assert other.revision != first.revision


def test_exchanged_shards_are_another_model(tmp_path):
    one, two, _ = SHARDS
    exchanged = SHARDS | {one: SHARDS[two], two: SHARDS[one]}
    revisions = {
        find_model(str(save(tmp_path / name, FILES | own))).revision
        for name, own in (("a", SHARDS), ("b", exchanged))
    }
    assert len(revisions) == 2


def test_the_same_bytes_under_another_name_are_another_model(tmp_path):
    names = ("special_tokens_map.json", "model.safetensors.index.json")  # neighbours in order
    revisions = {
        find_model(str(save(tmp_path / name, FILES | {name: b"{}"}))).revision for name in names
    }
    assert len(revisions) == 2


def test_the_revision_stays_where_a_folder_is_moved_renamed_or_gets_other_files(tmp_path):
    folder = save(tmp_path / "a", FILES)
    first = find_model(str(folder))
    moved = shutil.copytree(folder, tmp_path / "deep" / "b")
    save(moved, UNUSED)
    shutil.rmtree(folder)
    second = find_model(str(moved))
    assert (second.name, second.revision) == ("b", first.revision)
    (tmp_path / "link").symlink_to(moved)
    assert find_model(str(tmp_path / "link")).revision == first.revision


NO_MODEL = {
    "an empty folder": ({}, "no config.json of a model"),
    "no config": ({"config.json": None}, "no config.json of a model"),
    "a config that is no JSON": ({"config.json": b"{"}, "no config.json of a model"),
    "a config in latin-1": ({"config.json": b'{"a": "\xe9"}'}, "no config.json of a model"),
    "a config that is a list": ({"config.json": b"[]"}, "no config.json of a model"),
    "no architecture": ({"config.json": b"{}"}, "found no architecture"),
    "null": ({"config.json": b'{"architectures": null}'}, "found no architecture"),
    "a classifier": (
        {"config.json": b'{"architectures": ["BertForSequenceClassification"]}'},
        "expected a causal language model, found BertForSequenceClassification",
    ),
    "a number": ({"config.json": b'{"architectures": [3]}'}, "expected a causal language model"),
    "no weights": ({"model.safetensors": None}, "no model.safetensors in"),
    "pickled weights": (
        {"model.safetensors": None, "pytorch_model.bin": b"x"},
        "no model.safetensors in",
    ),
    "an index without its shards": (
        {"model.safetensors": None, "model.safetensors.index.json": b"{}"},
        "no model.safetensors in",
    ),
}


@pytest.mark.parametrize("kind", NO_MODEL)
def test_a_folder_that_is_no_model_is_refused_with_what_is_missing(tmp_path, kind):
    changes, expected = NO_MODEL[kind]
    files = {} if kind == "an empty folder" else FILES | changes
    (tmp_path / "m").mkdir()
    folder = save(tmp_path / "m", {name: data for name, data in files.items() if data is not None})
    assert expected in refusal(str(folder))


@pytest.mark.parametrize("name", ["Qwen2ForCausalLM", "Mistral3ForConditionalGeneration"])
def test_models_that_write_text_are_accepted(tmp_path, name):
    config = json.dumps({"architectures": ["Other", name]}).encode()
    assert find_model(str(save(tmp_path / "m", FILES | {"config.json": config}))).name == "m"


@pytest.mark.parametrize("spec", ["gpt2", "/absent/folder", "a/b/c", "org/name@", "org/na me"])
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused(spec):
    assert "give a folder, or a hub id org/name[@revision]" in refusal(spec)


# --- repositories on the hub

FIND = """
import json, sys
from progdata.builders.errors import ProgdataError
from progdata.builders.model_files import find_model
for spec in sys.argv[1:]:
    try:
        found = find_model(spec)
        print(json.dumps([found.name, found.revision, str(found.folder)]))
    except ProgdataError as error:
        print(json.dumps([error.exit_code, str(error)]))
"""


class Client:
    """A loopback hub with a model, and a folder for what its clients download."""

    def __init__(self, hub: LoopbackHub, home: Path) -> None:
        self.hub, self.env = hub, hub.client_env(home)
        self.home = home
        self.first = hub.add_model("org/model", FILES | UNUSED, tag="v1")

    def find(self, *specs: str, **env: str) -> list[Any]:
        """What one process finds for each: name, revision and folder, or exit code and error."""
        done = subprocess.run(
            [sys.executable, "-c", FIND, *specs],
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with LoopbackHub() as hub:
        yield Client(hub, tmp_path / "hf")


def test_a_hub_model_is_pinned_to_its_commit_with_the_files_that_are_loaded(client):
    moved = client.hub.add_model("org/model", FILES | {"tokenizer.json": b"{}"})
    main, tag, commit, again = client.find(
        "org/model", "org/model@v1", f"org/model@{client.first}", "org/model"
    )
    assert main[:2] == again[:2] == ["org/model", moved]
    assert tag == commit and tag[:2] == ["org/model", client.first]
    assert {path.name for path in Path(tag[2]).rglob("*") if path.is_file()} == set(FILES)
    assert str(client.home) not in main[0] + main[1]


def test_a_branch_can_be_named(client):
    branch = client.hub.add_model("org/model", FILES | {"tokenizer.json": b"x"}, revision="a-b")
    assert client.find("org/model@a-b")[0][:2] == ["org/model", branch]


def test_sharded_weights_are_downloaded_whole(client):
    parts = {name: data for name, data in FILES.items() if name != "model.safetensors"} | SHARDS
    sha = client.hub.add_model("org/large", parts)
    ((name, revision, folder),) = client.find("org/large")
    assert (name, revision) == ("org/large", sha)
    assert {path.name for path in Path(folder).iterdir()} == set(parts)


def test_a_pinned_model_that_was_downloaded_needs_no_hub(client):
    spec = f"org/model@{client.first}"
    there = client.find(spec)
    asked = len(client.hub.requests)
    assert client.find(spec, HF_HUB_OFFLINE="1") == there == client.find(spec)
    assert len(client.hub.requests) == asked


def test_what_the_hub_does_not_have_is_one_line(client):
    hub = client.hub
    hub.add_model("org/bert", FILES | {"config.json": b'{"architectures": ["BertModel"]}'})
    hub.add_model("org/pickle", {"config.json": FILES["config.json"], "pytorch_model.bin": b"x"})
    hub.add_model("org/empty", {"README.md": b"#"})
    hub.fail_next["org/down"] = [500] * 50
    expected = {
        "org/absent": "neither a folder nor a model org/absent on the hub that you may read",
        "org/model@v9": "org/model has no branch, tag or commit 'v9'",
        f"org/model@{'0' * 40}": f"org/model has no branch, tag or commit '{'0' * 40}'",
        "org/bert": "expected a causal language model, found BertModel",
        "org/pickle": "no model.safetensors in",
        "org/empty": "no config.json of a model in",
        "org/down": "org/down could not be downloaded: ",
    }
    found = client.find(*expected)
    assert len(found) == len(expected)
    for (code, message), (spec, said) in zip(found, expected.items(), strict=True):
        assert message.startswith(f"model {spec!r}: ") and said in message and "\n" not in message
        assert code in (1, 2)


def test_a_hub_that_cannot_be_reached_is_one_line(client):
    env = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # nobody listens there
    ((code, message),) = client.find("org/model", **env)
    assert code == 1 and "\n" not in message
    assert message.startswith("model 'org/model': org/model could not be downloaded: ")


def test_the_default_model_is_the_one_of_the_paper():
    assert DEFAULT_MODEL == "agentica-org/DeepScaleR-1.5B-Preview"
