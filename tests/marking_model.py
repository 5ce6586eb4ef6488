"""A language model for RL tests: random weights, but a strong leaning to markers and few letters.

Its untrained completions already hold markers, finished thinking and boxed answers, so that every
reward has something to reward, and a few steps of RL can raise it.
"""

from pathlib import Path
from typing import Any

from tiny_model import EOS, make_small_model

from progdata.builders.markers import DEFAULT

WORDS = ["α", "β", "γ", "δ", "ε", r"\boxed{5}", *map(DEFAULT.render, range(0, 101, 10))]
"""Tokens of their own. No problem holds them, so that no prompt is refused for one."""


def make_marking_model(folder: Path, *, seed: int = 0, positions: int = 512) -> Path:
    """Save the model, and the tokenizer of the small model with WORDS, into `folder`."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer: Any = AutoTokenizer.from_pretrained(str(make_small_model(folder)))
    tokenizer.add_tokens(WORDS)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=positions,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = Qwen2ForCausalLM(config)
    liked = tokenizer.convert_tokens_to_ids([*WORDS, "</think>", EOS])
    with torch.no_grad():  # one dimension of the hidden state is constant: a bias on the logits
        model.get_input_embeddings().weight[:, 0] = 10
        model.get_output_embeddings().weight[:, 0] = -2
        model.get_output_embeddings().weight[liked, 0] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
