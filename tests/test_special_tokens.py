"""The 101 progress tokens in a real tokenizer and in small Qwen2 models."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from shared_data import TOKENIZER, TRACES, needs_shared_data

from progdata.builders.errors import ProgdataError
from progdata.builders.markers import MarkerGrammar, special_tokens
from progdata.builders.special_tokens import add_progress_tokens
from progdata.releases.build import build
from progdata.releases.recipe import load_recipe

pytestmark = needs_shared_data

TOKENS = special_tokens()
PADDED = 151_936
"""Rows of the embeddings of the published Qwen2 models, more than the tokenizer has tokens."""

AROUND = [
    ("", ""),
    ("<progressbar>", "</progressbar>"),
    ("so x = 3.\n\n<progressbar>", "</progressbar>Wait"),
    ("a", "b"),
    ("1", "2"),
    (" ", " "),
    ("\n", "\n"),
    ("[", "]"),
    ("%", "%"),
    ("e", "\u0301"),
    ("</think>", "<think>"),
    ("[9%]", "[100%]"),
]


@pytest.fixture(scope="module")
def plain() -> Any:
    """The tokenizer as its folder holds it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TOKENIZER)


@pytest.fixture
def tokenizer(plain: Any) -> Any:
    return copy.deepcopy(plain)


@pytest.fixture(scope="module")
def extended(plain: Any) -> tuple[Any, list[int]]:
    """A tokenizer that has the tokens, and their ids; not to be changed."""
    changed = copy.deepcopy(plain)
    return changed, add_progress_tokens(changed)


def make_model(rows: int, *, tied: bool = False, dtype: str = "float32") -> Any:
    """A Qwen2 of two layers and random weights."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=rows,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=tied,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Qwen2ForCausalLM(config).to(getattr(torch, dtype))


def rows_of(model: Any) -> dict[str, Any]:
    """Copies of the input embeddings and the output weights."""
    return {
        "input": model.get_input_embeddings().weight.detach().clone(),
        "output": model.get_output_embeddings().weight.detach().clone(),
    }


def token_ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def assert_means(plain: Any, before: dict[str, Any], after: dict[str, Any], ids: list[int]) -> None:
    """Each new row is the mean of its pieces' rows; every other row is as it was."""
    import torch

    for name, old in before.items():
        new = after[name]
        for text, token in zip(TOKENS, ids, strict=True):
            mean = old[token_ids(plain, text)].float().mean(0).to(old.dtype)
            assert torch.equal(new[token], mean), (name, text)
        others = torch.ones(len(old), dtype=torch.bool)
        others[[token for token in ids if token < len(old)]] = False
        assert torch.equal(new[: len(old)][others], old[others])


# --- the tokenizer ---------------------------------------------------------------------------


def test_the_ids_are_new_and_in_label_order(plain: Any, extended: tuple[Any, list[int]]) -> None:
    tokenizer, ids = extended
    assert ids == list(range(len(plain), len(plain) + 101))
    assert tokenizer.convert_ids_to_tokens(ids) == TOKENS
    assert (TOKENS[0], TOKENS[37], TOKENS[100]) == ("[0%]", "[37%]", "[100%]")


@pytest.mark.parametrize(("before", "after"), AROUND)
def test_a_label_is_one_token_wherever_it_stands(
    extended: tuple[Any, list[int]], before: str, after: str
) -> None:
    tokenizer, ids = extended
    left, right = token_ids(tokenizer, before), token_ids(tokenizer, after)
    for text, token in zip(TOKENS, ids, strict=True):
        found = token_ids(tokenizer, f"{before}{text}{after}")
        assert found == [*left, token, *right]
        assert tokenizer.decode(found) == f"{before}{text}{after}"


def test_a_decoder_that_skips_special_tokens_shows_them(
    plain: Any, extended: tuple[Any, list[int]]
) -> None:
    tokenizer, ids = extended
    text = "so <progressbar>[37%]</progressbar>\n\nWait<progressbar>[100%]</progressbar>"
    end = tokenizer.eos_token
    assert tokenizer.decode(token_ids(tokenizer, text + end), skip_special_tokens=True) == text
    assert tokenizer.all_special_tokens == plain.all_special_tokens
    assert not set(ids) & set(tokenizer.all_special_ids)


def test_text_without_labels_has_the_tokens_it_had(
    plain: Any, extended: tuple[Any, list[int]]
) -> None:
    tokenizer, _ = extended
    for text in ("37%", "[37 %]", "[101%]", "[007%]", "[-1%]", "so [x%] = [3, 7]", "100%]"):
        assert token_ids(tokenizer, text) == token_ids(plain, text)


def test_a_token_that_is_special_already_is_refused(plain: Any, tokenizer: Any) -> None:
    """A decoder would go on hiding it."""
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken("[37%]", special=True)], special_tokens=True)
    with pytest.raises(ProgdataError, match=r"has \[37%\] as a special token"):
        add_progress_tokens(tokenizer)
    assert len(tokenizer) == len(plain) + 1


def test_another_format_has_tokens_of_its_own(tokenizer: Any) -> None:
    grammar = MarkerGrammar(format="{label} of 100")
    ids = add_progress_tokens(tokenizer, grammar=grammar)
    assert token_ids(tokenizer, "<progressbar>[7 of 100]</progressbar>").count(ids[7]) == 1
    assert not set(add_progress_tokens(tokenizer)) & set(ids)


def test_a_tokenizer_without_a_backend_gets_one_line() -> None:
    class Unknown:
        name_or_path = "org/unknown"

    unknown: Any = Unknown()
    with pytest.raises(ProgdataError, match=r"^tokenizer 'org/unknown': .* no tokenizer\.json"):
        add_progress_tokens(unknown)


def test_a_missing_torch_names_the_extra(
    extended: tuple[Any, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, _ = extended
    model: Any = object()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ProgdataError, match=r"^torch is not installed; .*progdata\[train\]"):
        add_progress_tokens(tokenizer, model)


def test_importing_it_loads_neither_torch_nor_transformers() -> None:
    script = (
        "import sys, progdata.builders.special_tokens\n"
        "assert not {'torch', 'transformers'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


# --- the model -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tied", "padded", "dtype"),
    [
        (True, True, "float32"),
        (True, False, "bfloat16"),
        (False, True, "bfloat16"),
        (False, False, "float32"),
    ],
    ids=["tied, padded", "tied, exact", "untied, padded", "untied, exact"],
)
def test_new_rows_are_the_means_of_their_pieces(
    plain: Any, tokenizer: Any, tied: bool, padded: bool, dtype: str
) -> None:
    model = make_model(PADDED if padded else len(plain), tied=tied, dtype=dtype)
    before = rows_of(model)
    ids = add_progress_tokens(tokenizer, model)
    after = rows_of(model)
    size = PADDED if padded else len(plain) + 101
    assert [len(rows) for rows in after.values()] == [size, size]
    assert model.config.vocab_size == size
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    assert_means(plain, before, after, ids)


def test_a_bias_of_the_output_is_the_mean_too(plain: Any, tokenizer: Any) -> None:
    import torch

    model = make_model(PADDED)
    head = torch.nn.Linear(16, PADDED)
    model.set_output_embeddings(head)
    ids = add_progress_tokens(tokenizer, model)
    pieces = token_ids(plain, "[64%]")
    assert torch.equal(head.bias[ids[64]], head.bias[pieces].mean(0))


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_second_call_leaves_trained_rows_alone(tokenizer: Any, tied: bool) -> None:
    import torch

    model = make_model(PADDED, tied=tied)
    ids = add_progress_tokens(tokenizer, model)
    with torch.no_grad():
        model.get_input_embeddings().weight[ids] += 1
        model.get_output_embeddings().weight[ids] += 2
    trained, size = rows_of(model), len(tokenizer)
    assert add_progress_tokens(tokenizer, model) == ids
    assert len(tokenizer) == size
    for name, rows in rows_of(model).items():
        assert torch.equal(rows, trained[name])


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "exact"])
def test_a_tokenizer_that_has_the_tokens_already_serves_a_new_model(
    plain: Any, extended: tuple[Any, list[int]], padded: bool
) -> None:
    """As when the tokenizer was saved beside an adapter, and the base model is loaded afresh."""
    tokenizer, ids = extended
    model = make_model(PADDED if padded else len(plain))
    before = rows_of(model)
    assert add_progress_tokens(tokenizer, model) == ids
    assert_means(plain, before, rows_of(model), ids)


def test_saved_and_loaded_again_they_stay_as_they_are(tokenizer: Any, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = make_model(len(tokenizer), tied=True)
    ids = add_progress_tokens(tokenizer, model)
    with torch.no_grad():
        model.get_input_embeddings().weight[ids] += 1
    tokenizer.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    tokenizer_again = AutoTokenizer.from_pretrained(tmp_path)
    model_again: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert add_progress_tokens(tokenizer_again, model_again) == ids
    text = "so <progressbar>[37%]</progressbar>" + tokenizer.eos_token
    encoded = tokenizer_again(text, return_tensors="pt")
    assert encoded["input_ids"].tolist() == [tokenizer(text)["input_ids"]]
    assert (
        tokenizer_again.decode(encoded["input_ids"][0], skip_special_tokens=True)
        == text[: -len(tokenizer.eos_token)]
    )
    with torch.no_grad():
        expected, found = (m(encoded["input_ids"]).logits for m in (model, model_again))
    assert torch.equal(expected, found)


# --- a build ---------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["countdown:30", "r1_aime2024.jsonl.gz"])
def test_each_label_of_a_build_is_its_token(
    extended: tuple[Any, list[int]], tmp_path: Path, source: str
) -> None:
    tokenizer, ids = extended
    path = source if ":" in source else str(TRACES / source)
    recipe = load_recipe(
        None, sources=[path], variants=["special"], tokenizer=str(TOKENIZER), limit=30
    )
    build(recipe, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "special_tokens.json").read_text()) == TOKENS
    labels = 0
    for file in (tmp_path / "out" / "data" / "special").glob("*.parquet"):
        for row in pq.read_table(file).to_pylist():
            encoded = tokenizer(
                row["completion"], add_special_tokens=False, return_offsets_mapping=True
            )
            found = [
                (token, *span)
                for token, span in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
                if token in {*ids}
            ]
            assert found == [
                (ids[label], span["start"], span["end"])
                for label, span in zip(row["labels"], row["label_spans"], strict=True)
            ]
            labels += len(found)
    assert labels > 100
