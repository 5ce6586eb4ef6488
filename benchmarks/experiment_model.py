"""The small transformer of the experiment: Llama with random weights and a tokenizer of its own.

(AutoTokenizer gives a Qwen2 model Qwen2's own way of cutting words, whatever tokenizer.json says.)
"""

from pathlib import Path
from typing import Any

from progdata.builders.countdown import traces
from progdata.builders.markers import DEFAULT, LABELS

TEXTS = 3_000
"""Countdown traces that the tokenizer is trained on, of a seed that nothing else uses."""

TEXT_SEED = 1_000_003

BOS, EOS, USER, ASSISTANT = "<s>", "</s>", "<user>", "<assistant>"

WORDS = r" ?\p{L}+| \p{N}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"
"""What is never merged across: a number in a formula may be one token, the digits of a label are
several, as in the paper's setting."""

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<' + message['role'] + '>' }}"
    "{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant><think>\n' }}{% endif %}"
)
"""The chat template: like R1's, it prefills `<think>`."""


def make_model(
    folder: Path, *, vocabulary: int, hidden: int, layers: int, context: int, seed: int
) -> Path:
    """Save an untrained model and its tokenizer into `folder`, once."""
    if (folder / "model.safetensors").is_file():
        return folder
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _make_tokenizer(vocabulary)
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=8 * hidden // 3 // 32 * 32,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _make_tokenizer(vocabulary: int) -> Any:
    """Byte-level BPE on countdown traces and markers, so that a marker is a few tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    plain.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS, EOS, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rows = traces(TEXT_SEED, 0, TEXTS)
    markers = ["".join(map(DEFAULT.render, LABELS))] * (TEXTS // len(LABELS))
    plain.train_from_iterator(
        [*(f"{own.problem}{own.completion}" for own in rows), *markers], trainer
    )
    plain.add_tokens(["<think>", "</think>"])
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token=BOS, eos_token=EOS, pad_token=EOS
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
