"""Small real tokenizers, trained and saved by `tokenizers`: one of every kind that matters."""

from collections.abc import Callable
from pathlib import Path

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

CORPUS = [
    "Okay, so I need to find 24 from 3, 5 and 8. Let me try 8 * 3 = 24, but 5 is left over.",
    "Wait, that is a dead end.\n\nBut wait, 5 - 3 = 2 and 8 * 2 = 16.\n\nAlternatively, 8 + 16.",
    "So the answer is \\boxed{24}.\n\n  It's right. 数学 é 🙂 <think> </think> ３７ ½",
] * 20

WAIT_TOKEN = "<|wait|>"


def byte_level_bpe(
    path: Path, *, prefix_space: bool = False, normalizer: str = "NFC", all_bytes: bool = True
) -> Path:
    """A byte-level BPE, the kind that the fast counter is for.

    With a token that takes the blanks beside it, and one that is only found by itself.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = {"NFC": normalizers.NFC, "lowercase": normalizers.Lowercase}[
        normalizer
    ]()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if all_bytes else []
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    greedy = AddedToken("<|greedy|>", lstrip=True, rstrip=True)
    tokenizer.add_tokens([WAIT_TOKEN, greedy, AddedToken("alone", single_word=True)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)  # type: ignore[assignment]
    return _save(tokenizer, path)


def word_piece(path: Path) -> Path:
    """BERT's kind: tokens that are not in the vocabulary become [UNK], blanks become nothing."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[UNK]"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _save(tokenizer, path)


def unigram(path: Path) -> Path:
    """SentencePiece's kind: blanks become a visible character, and one stands before the text."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _save(tokenizer, path)


def lowercase_bpe(path: Path) -> Path:
    return byte_level_bpe(path, normalizer="lowercase")


def prefix_space_bpe(path: Path) -> Path:
    return byte_level_bpe(path, prefix_space=True)


def few_bytes_bpe(path: Path) -> Path:
    """One that has no token for bytes it has not seen: they become nothing."""
    return byte_level_bpe(path, all_bytes=False)


SLOW_KINDS: dict[Callable[[Path], Path], str] = {
    word_piece: "its model is not a plain byte-level BPE",
    unigram: "its model is not a plain byte-level BPE",
    lowercase_bpe: "it normalises text by Lowercase",
    prefix_space_bpe: "its pre-tokenizer is not ByteLevel without a prefix space",
    few_bytes_bpe: "its vocabulary has no token for some of the 256 bytes",
}
"""Tokenizers that the fast counter must not be used for, and why."""


def _save(tokenizer: Tokenizer, path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path / "tokenizer.json"))
    return path
