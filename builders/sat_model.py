"""Finding a SaT model: the folders that its weights and its tokenizer are loaded from.

wtpsplit takes a bare name such as `sat-3l` for the hub's `segment-any-text/sat-3l`, at whatever
commit its main branch is, and XLM-R's tokenizer beside it (facts.md 8.5). Here both are resolved to
commits and to folders first, and the files in them make the fingerprint, so that a cache and a lock
file are tied to exact weights.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from progdata.builders.errors import UsageError, missing_extra
from progdata.builders.hub_files import SAFETENSORS, existing, sha256_of, snapshot

HUB_OWNER = "segment-any-text"
"""Whose models bare names are."""

XLM_R = "facebookAI/xlm-roberta-base"
"""The tokenizer of every published SaT model."""

MODEL_TYPE = "xlm-token"

_FORMS = "give a folder, a name such as sat-3l, or org/name[@revision]"
_NAME = re.compile(r"(?P<repo>\w[\w.-]*(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?")
_PICKLED = ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json")
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "sentencepiece.bpe.model", "config.json",
)  # fmt: skip


@dataclass(frozen=True)
class SatModel:
    """A model and its tokenizer on this machine.

    `pinned` is a spec that names the same files again: hub names with their commits.
    `fingerprint` is a SHA-256 over the files that are loaded.
    """

    pinned: str
    folder: Path
    tokenizer: Path
    fingerprint: str


def find_model(spec: str) -> SatModel:
    """The SaT model that `spec` names, downloaded where it is on the hub.

    `spec` is a folder, a SaT name such as `sat-3l`, or a hub id, the last two with `@revision` if
    wanted. A folder without a tokenizer and a hub model use XLM-R's; `MODEL+TOKENIZER` names
    another. Raises UsageError for what is no SaT model, ProgdataError where wtpsplit is missing or
    the hub does not give the files.
    """
    if find_spec("wtpsplit") is None or find_spec("torch") is None:
        raise missing_extra("wtpsplit", "sat")
    own, _, other = (spec, "", "") if _is_folder(spec) else spec.partition("+")
    folder, pinned = _find_weights(own)
    tokenizer = folder
    if other or not (Path(own) / "tokenizer.json").is_file():
        tokenizer, pinned_tokenizer = _find_tokenizer(other or XLM_R)
        pinned = f"{pinned}+{pinned_tokenizer}"
    files = ["model", *_model_files(folder), "tokenizer", *existing(tokenizer, _TOKENIZER)]
    digest = hashlib.sha256("\n".join(map(_describe, files)).encode())
    return SatModel(pinned, folder, tokenizer, digest.hexdigest())


def _find_weights(spec: str) -> tuple[Path, str]:
    """The folder of a model, and the spec that pins it."""
    if _is_folder(spec):
        folder, pinned = Path(spec), spec
    else:
        name = spec if "/" in spec else f"{HUB_OWNER}/{spec}"
        folder, pinned = _download(spec, name, ("config.json", *SAFETENSORS))
        if not existing(folder, SAFETENSORS):
            folder, pinned = _download(spec, pinned, ("config.json", *_PICKLED))
    _check_model(spec, folder)
    return folder, pinned


def _check_model(spec: str, folder: Path) -> None:
    """Raises UsageError where a folder holds no SaT model."""
    try:
        kind = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"SaT model {spec!r}: no config.json of a model in {folder}") from error
    if kind != MODEL_TYPE:
        raise UsageError(f"SaT model {spec!r}: a model of type {kind!r}, expected {MODEL_TYPE!r}")
    if len(_model_files(folder)) < 2:
        raise UsageError(f"SaT model {spec!r}: no {SAFETENSORS[0]} or {_PICKLED[0]} in {folder}")


def _find_tokenizer(spec: str) -> tuple[Path, str]:
    """The folder of a tokenizer, and the spec that pins it."""
    if _is_folder(spec):
        folder, pinned = Path(spec), spec
    else:
        folder, pinned = _download(spec, spec, _TOKENIZER)
    if not (folder / "tokenizer.json").is_file():
        raise UsageError(f"tokenizer {spec!r} of a SaT model: no tokenizer.json in {folder}")
    return folder, pinned


def _is_folder(spec: str) -> bool:
    return bool(spec) and Path(spec).is_dir()


def _download(spec: str, name: str, patterns: Sequence[str]) -> tuple[Path, str]:
    """The local folder of a hub repository's files, and its name with the commit."""
    found = _NAME.fullmatch(name)
    if not found:
        raise UsageError(f"SaT model {spec!r}: no such folder; {_FORMS}")
    repo = found["repo"]
    absent = f"neither a folder nor a model {repo} on the hub; {_FORMS}"
    folder = snapshot(f"SaT model {spec!r}", repo, found["revision"], tuple(patterns), absent)
    return folder, f"{repo}@{folder.name}"


def _model_files(folder: Path) -> list[Path]:
    """The files of a model that are loaded: its config, and one kind of weights."""
    weights = existing(folder, SAFETENSORS) or existing(folder, _PICKLED)
    return [folder / "config.json", *weights]


def _describe(file: Path | str) -> str:
    """A file's name and its SHA-256; a heading as it is."""
    return file if isinstance(file, str) else f"{file.name} {sha256_of(file)}"
