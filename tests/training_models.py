"""Small tokenizers of three kinds, trained on a build's own texts, and models for them to train."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from shared_data import TOKENIZER
from tiny_model import BOS, EOS

TEMPLATE = """{{ bos_token }}{% for message in messages %}<｜User｜>{{ message['content'] }}\
{% endfor %}{% if add_generation_prompt %}<｜Assistant｜><think>
{% endif %}"""
"""Like R1's: it ends with the beginning of the thinking."""

BARE_TEMPLATE = TEMPLATE.replace("<think>\n", "")
"""One that leaves `<think>` to the model."""

UNKNOWN = "<unk>"


def texts_of(build: Path, variant: str) -> list[str]:
    """The prompts and completions of a build."""
    rows = [row for path in files_of(build, variant) for row in pq.read_table(path).to_pylist()]
    return [turn["content"] for row in rows for turn in row["prompt"]] + [
        row["completion"] for row in rows
    ]


def files_of(build: Path, variant: str) -> list[Path]:
    return sorted((build / "data" / variant).glob("*.parquet"))


def make_tokenizer(kind: str, texts: Sequence[str], template: str = TEMPLATE) -> Any:
    """`byte-level` (BPE of 400 tokens), `unigram` (SentencePiece's kind) or `words`; or the real
    one, `deepscaler`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if kind == "deepscaler":
        return AutoTokenizer.from_pretrained(str(TOKENIZER))
    own: Any
    trainer: Any
    if kind == "byte-level":
        own = Tokenizer(models.BPE())
        own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        own.decoder = decoders.ByteLevel()
        own.post_processor = processors.ByteLevel(trim_offsets=True)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, initial_alphabet=alphabet, show_progress=False
        )
    elif kind == "unigram":
        own = Tokenizer(models.Unigram())
        own.pre_tokenizer = pre_tokenizers.Metaspace()
        own.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=400, unk_token=UNKNOWN, special_tokens=[UNKNOWN], show_progress=False
        )
    else:
        own = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        own.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(special_tokens=[UNKNOWN], show_progress=False)
    own.train_from_iterator(texts, trainer)
    own.add_special_tokens([BOS, EOS, "<｜User｜>", "<｜Assistant｜>"])
    own.add_tokens(["<think>", "</think>"])
    padding = "<|endoftext|>"  # which transformers gives to every tokenizer of a Qwen2
    found = PreTrainedTokenizerFast(
        tokenizer_object=own, bos_token=BOS, eos_token=EOS, pad_token=padding
    )
    found.chat_template = template
    return found


def make_training_model(
    folder: Path,
    tokenizer: Any,
    *,
    tied: bool = True,
    seed: int = 0,
    heads: int = 2,
    positions: int = 2_048,
) -> Path:
    """Two layers of Qwen2 with random weights and heads of 32, with the tokenizer."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32 * heads,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=1,
        max_position_embeddings=positions,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
