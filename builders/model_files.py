"""Finding a language model: a folder, or a hub repository at a commit, in the local cache."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from progdata.builders.errors import UsageError
from progdata.builders.hub_files import SAFETENSORS, existing, sha256_of, snapshot

DEFAULT_MODEL = "agentica-org/DeepScaleR-1.5B-Preview"
"""The model whose thinking the source paper probes (section 4)."""

_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_FORMS = "give a folder, or a hub id org/name[@revision]"
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt",
)  # fmt: skip
_MODEL = ("config.json", "generation_config.json", *SAFETENSORS)


@dataclass(frozen=True)
class ModelFiles:
    """A model on this machine: the name that traces have, its revision, and its folder.

    `revision` is the commit of a hub model; of a folder, a SHA-256 over the files that are loaded.
    """

    name: str
    revision: str
    folder: Path


def find_model(spec: str) -> ModelFiles:
    """The model that `spec` names, downloaded where it is on the hub.

    A folder's name is the model's, so that no path of this machine gets into a dataset. Raises
    UsageError for what is no model with safetensors weights, ProgdataError where the hub does not
    give it.
    """
    if Path(spec).is_dir():
        folder = Path(spec).resolve()
        _check(spec, folder)
        files = existing(folder, (*_MODEL, *_TOKENIZER))
        text = "\n".join(f"{path.name} {sha256_of(path)}" for path in files)
        return ModelFiles(folder.name, hashlib.sha256(text.encode()).hexdigest(), folder)
    found = _NAME.fullmatch(spec)
    if not found:
        raise UsageError(f"model {spec!r}: no such folder; {_FORMS}")
    repo = found["repo"]
    absent = f"neither a folder nor a model {repo} on the hub that you may read; {_FORMS}"
    patterns = (*_MODEL, *_TOKENIZER)
    folder = snapshot(f"model {spec!r}", repo, found["revision"], patterns, absent)
    _check(spec, folder)
    return ModelFiles(repo, folder.name, folder)


def _check(spec: str, folder: Path) -> None:
    """Raises UsageError where a folder holds no language model."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        architectures = list(map(str, config.get("architectures") or []))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"model {spec!r}: no config.json of a model in {folder}") from error
    if not any("CausalLM" in name or "ConditionalGeneration" in name for name in architectures):
        found = ", ".join(architectures) or "no architecture"
        raise UsageError(f"model {spec!r}: expected a causal language model, found {found}")
    if not existing(folder, SAFETENSORS[:2]):
        raise UsageError(f"model {spec!r}: no {SAFETENSORS[0]} in {folder}")
