"""The proof that the fast counter may stand for the reference (facts.md 8.12).

For every tokenizer it is used with, its file must be of a kind that can be counted by token
lengths, and both counters must agree on a fixed set of odd texts. A build compares sampled traces
as well.
"""

import json
import random
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from progdata.builders.errors import ProgdataError
from progdata.builders.tokenizer import encode, load_counter
from progdata.builders.utf8 import character_of_byte


@lru_cache(maxsize=4)
def why_not_fast(path: str, fingerprint: str) -> str | None:
    """Why the fast counter must not be used for a tokenizer file; None where it may be.

    `fingerprint` is the file's, so that the answer for other content is not remembered.

    It needs a byte-level BPE (then token lengths are byte lengths) and no normaliser but NFC,
    must load the file, and must agree with the reference on every text of `probe_texts`.
    """
    try:
        content = json.loads(Path(path).read_text("utf-8"))
        reason = _unsuitable(content)
        if reason is None and not counters_agree(path, probe_texts()):
            reason = "fastokens and tokenizers differ on the probe texts"
    except (ProgdataError, ImportError, ValueError, AttributeError, TypeError) as error:
        reason = f"fastokens cannot load it: {error}"
    return reason


def _unsuitable(content: dict) -> str | None:
    """The part of a tokenizer.json that rules out counting by token lengths."""
    from tokenizers.pre_tokenizers import ByteLevel

    model = content.get("model") or {}
    parts = _flatten(content.get("pre_tokenizer"), "pretokenizers")
    byte_level = [part for part in parts if part.get("type") == "ByteLevel"]
    normalizers = {
        str(part.get("type")) for part in _flatten(content.get("normalizer"), "normalizers")
    }
    if model.get("type") != "BPE" or model.get("byte_fallback") or model.get("dropout"):
        return "its model is not a plain byte-level BPE"
    if not byte_level or any(part.get("add_prefix_space", True) for part in byte_level):
        return "its pre-tokenizer is not ByteLevel without a prefix space"
    if not set(ByteLevel.alphabet()) <= set(model.get("vocab") or ()):
        return "its vocabulary has no token for some of the 256 bytes"
    if normalizers - {"NFC"}:
        return f"it normalises text by {', '.join(sorted(normalizers - {'NFC'}))}"
    return None


def _flatten(part: dict | None, key: str) -> list[dict]:
    """A `Sequence` part of a tokenizer.json as the list of its members."""
    if not part:
        return []
    return list(part.get(key, [])) if part.get("type") == "Sequence" else [part]


def counters_agree(path: str, texts: Sequence[str]) -> bool:
    """Whether both counters start their tokens in the same characters of every text."""
    encoded, _ = encode(texts)
    fast, slow = load_counter(path, True).starts(texts), load_counter(path, False).starts(texts)
    for index, data in enumerate(encoded):
        first, second = fast.of_text(index), slow.of_text(index)
        characters = character_of_byte(data)
        if len(first) != len(second) or (characters[first] != characters[second]).any():
            return False
    return True


def probe_texts() -> list[str]:
    """A fixed set of odd texts on which tokenizers are compared: 400 strings."""
    pieces = [
        *"abz AZ09 \t\r\n.,;:!?'\"-_(){}[]<>|\\/$^&*+=~`@#%",
        *"é√²×≤π–—…“”\u00a0\u3000\u200b\u200d\u202e\ufeff\u0301\u0000",
        *"你好，数学مرحباनमस्तेкириллица🙂🧑‍🚀👩‍👩‍👧é\u1e9b\u0323",
        *[
            "\n\n",
            "\r\n",
            "    ",
            "Wait",
            "'s",
            "'LL",
            "\\boxed{",
            "<think>",
            "</think>",
            "1234567",
        ],
        *["<｜User｜>", "<|im_end|>", "<progressbar>", "[50%]", "x" * 300, "=" * 90, "\n" * 40],
    ]
    rng = random.Random(20260401)
    return [
        "".join(rng.choice(pieces) for _ in range(int(1 + rng.random() * 60))) for _ in range(400)
    ]
