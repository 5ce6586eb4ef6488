"""A language model that every engine loads: two layers of Qwen2 with random weights.

Its head dimension is 32, the smallest that vLLM's attention on CPUs takes.
"""

from pathlib import Path
from typing import Any

from shared_data import TOKENIZER

CONTEXT = 2_048
BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"


def make_small_model(folder: Path, *, seed: int = 0) -> Path:
    """The same with a vocabulary of 300 and the same special tokens: fast to load and to sample."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {letter: number for number, letter in enumerate(sorted(letters))}
    plain = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    plain.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    plain.add_special_tokens([BOS, EOS, "<｜User｜>", "<｜Assistant｜>"])
    plain.add_tokens(["<think>", "</think>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, bos_token=BOS, eos_token=EOS)
    tokenizer.chat_template = (TOKENIZER / "chat_template.jinja").read_text("utf-8")
    return _save(folder, tokenizer, seed, CONTEXT, size=300)


def make_tiny_model(folder: Path, *, seed: int = 0, context: int = CONTEXT) -> Path:
    """Save a model and its tokenizer with the R1 template into `folder` (about 50 MB).

    Weights are large enough that the likeliest token is so by far, on every engine.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(TOKENIZER))
    return _save(folder, tokenizer, seed, context, size=151_936)


def _save(folder: Path, tokenizer: Any, seed: int, context: int, *, size: int) -> Path:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
