"""A SaT model that wtpsplit loads: random weights and an XLM-R-like tokenizer of 110 pieces."""

import string
from pathlib import Path

from progdata.builders.sat import import_wtpsplit

THRESHOLD = 0.5
"""At this threshold the model ends a paragraph every 5 to 50 characters."""

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
_WORDS = ("▁the", "▁so", "▁Wait", "▁=", "ing", "er", "the", "▁1", "▁2", "▁3", "😀", "é")


def make_tiny_sat(folder: Path, *, seed: int = 0, width: int = 16) -> Path:
    """Save a model and its tokenizer into `folder`; other seeds give other paragraphs."""
    import_wtpsplit()
    import torch
    from wtpsplit.configs import SubwordXLMConfig
    from wtpsplit.models import SubwordXLMForTokenClassification

    size = save_tokenizer(folder)
    config = SubwordXLMConfig(
        vocab_size=size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=514,
        type_vocab_size=1,
        num_labels=1,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SubwordXLMForTokenClassification(config)
    model.classifier.weight.data.mul_(80 / width**0.5)
    model.classifier.bias.data.fill_(-0.6)
    model.save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path) -> int:
    """Save a Unigram tokenizer with XLM-R's special tokens and normaliser; the vocabulary's size.

    Like XLM-R's it reads newlines and zero-width spaces as blanks, and drops control characters.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    visible = [c for c in string.printable if not c.isspace()]
    pieces = [(piece, -6.0) for piece in ("▁", *visible)] + [(word, -4.0) for word in _WORDS]
    vocabulary = [(token, 0.0) for token in _SPECIAL] + pieces + [("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=_SPECIAL.index("<unk>")))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=512,
    )
    fast.save_pretrained(folder)
    return len(vocabulary)
