"""The 101 progress tokens in a tokenizer and a model (paper 000, section 6.1)."""

from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken

from progdata.builders.errors import ProgdataError, missing_extra
from progdata.builders.markers import DEFAULT, MarkerGrammar, special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

INITIALISED = "progress_tokens"
"""The field of a model's config that lists the tokens whose rows were initialised."""


def add_progress_tokens(
    tokenizer: "PreTrainedTokenizerBase",
    model: "PreTrainedModel | None" = None,
    grammar: MarkerGrammar = DEFAULT,
) -> list[int]:
    """Add `[0%]` .. `[100%]` to a tokenizer, and rows for them to a model; their 101 ids in order.

    Both are changed in place; saved and loaded again they stay as they are. The tokens are not
    "special", so that `skip_special_tokens=True` shows them (facts.md 8.8). A row starts as the
    mean of the rows of the pieces that its text is without the token, in the input embeddings and,
    where it is not tied to them, in the output layer. The embeddings grow where needed and never
    shrink. Rows that were initialised before are left alone: the config lists them, under
    `progress_tokens`.

    Call it before the model is wrapped or sharded. Raises ProgdataError for a tokenizer that has no
    tokenizer.json or has one of them as a special token, and where torch is missing.
    """
    tokens = special_tokens(grammar)
    _check_tokenizer(tokenizer, tokens)
    added: list[Any] = [AddedToken(text, special=False, normalized=False) for text in tokens]
    tokenizer.add_tokens(added)
    found: Any = tokenizer.convert_tokens_to_ids(tokens)
    ids: list[int] = list(found)
    if model is not None:
        _initialise(tokenizer, model, dict(zip(tokens, ids, strict=True)))
    return ids


def _initialise(
    tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel", ids: dict[str, int]
) -> None:
    """Give each token a row in the model, unless the config lists it as initialised."""
    try:
        import torch
    except ImportError as error:
        raise missing_extra("torch", "train") from error
    known: list[str] = getattr(model.config, INITIALISED, None) or []
    rows = max(ids.values()) + 1
    if rows > _weights(model)[0].shape[0]:
        model.resize_token_embeddings(rows, mean_resizing=False)
    with torch.no_grad():
        for text, token in ids.items():
            if text not in known:
                pieces = _pieces(tokenizer, text)
                for weight in _weights(model):
                    weight[token] = weight[pieces].mean(0)
    setattr(model.config, INITIALISED, [*known, *(text for text in ids if text not in known)])


def _weights(model: "PreTrainedModel") -> list[Any]:
    """What has a row for each token: input embeddings, untied output weights, output bias."""
    found = [model.get_input_embeddings().weight]
    output = model.get_output_embeddings()
    if output is not None:
        found += [output.weight] if output.weight is not found[0] else []
        bias = getattr(output, "bias", None)
        found += [bias] if bias is not None else []
    return found


def _pieces(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """The ids of a text in the tokenizer's own vocabulary, whatever tokens were added to it."""
    backend = _backend(tokenizer)
    normalizer, splitter = backend.normalizer, backend.pre_tokenizer
    normal = normalizer.normalize_str(text) if normalizer else text
    words = [word for word, _ in splitter.pre_tokenize_str(normal)] if splitter else [normal]
    return [token.id for word in words for token in backend.model.tokenize(word)]


def _backend(tokenizer: "PreTrainedTokenizerBase") -> Any:
    """The `tokenizers.Tokenizer` inside a transformers tokenizer; None where there is none."""
    return getattr(tokenizer, "backend_tokenizer", None)


def _check_tokenizer(tokenizer: "PreTrainedTokenizerBase", tokens: list[str]) -> None:
    """Raises ProgdataError where the tokens cannot be added so that decoders show them."""
    name = f"tokenizer {tokenizer.name_or_path!r}"
    if _backend(tokenizer) is None:
        raise ProgdataError(
            f"{name}: a {type(tokenizer).__name__} has no tokenizer.json to add tokens to; "
            "load it with transformers.AutoTokenizer"
        )
    for token in tokenizer.added_tokens_decoder.values():
        if token.special and token.content in tokens:
            raise ProgdataError(
                f"{name}: has {token.content} as a special token, which decoders hide; "
                'set "special" to false for it in tokenizer.json and tokenizer_config.json'
            )
