"""Hidden labels: of two as long, nothing is in any later logit; and the draws are seeded."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_models import make_tokenizer

from progdata.builders.errors import UsageError
from progdata.training_refs.encoded_rows import EncodedRow
from progdata.training_refs.label_masks import LabelMask, attention_mask, find_stand_in
from progdata.training_refs.weighted_trainer import collate
from progdata.training_refs.windows import Window, cut_windows

VOCABULARY, STAND_IN = 29, 28


def make_row(trace: str, tokens: int, labels: int, size: int = 2) -> EncodedRow:
    """A prompt of 3 tokens, then labels of `size` tokens, evenly among others."""
    numbers = np.random.default_rng(len(trace) + tokens)
    markers = np.full(tokens, -1, dtype=np.int32)
    for label, place in enumerate(np.linspace(2, tokens - 2 * size, labels).astype(int)):
        markers[place : place + size] = label
    ids = numbers.integers(0, STAND_IN, 3 + tokens).astype(np.int32)
    shown = np.arange(labels, dtype=np.int32)
    return EncodedRow(trace, ids[:3], ids[3:], markers, shown, np.arange(labels) % 2 == 0)


def windows_of(*rows: EncodedRow) -> list[Window]:
    return [window for row in rows for window in cut_windows(row, 128, "truncate", 0)]


# --- who sees whom -----------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 10))
def test_the_attention_mask_is_that_of_a_slow_reference(seed: int, rows: int, tokens: int) -> None:
    numbers = np.random.default_rng(seed)
    real = np.arange(tokens) < numbers.integers(1, tokens + 1, (rows, 1))
    markers = np.sort(numbers.integers(-1, 3, (rows, tokens)))
    hidden = (numbers.random((rows, tokens)) < 0.5) & (markers >= 0)
    found = attention_mask(*map(torch.from_numpy, (real, markers, hidden)))
    assert found.shape == (rows, 1, tokens, tokens)
    for row in range(rows):
        for query in range(tokens):
            for key in range(tokens):
                seen = key <= query and real[row, key]
                if hidden[row, key] and markers[row, key] != markers[row, query]:
                    seen = False
                assert found[row, 0, query, key] == (seen or key == query)


def make_model(dtype: torch.dtype = torch.float32) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = Qwen2ForCausalLM(config)
    assert model.config._attn_implementation == "sdpa"
    return model.to(dtype).eval()


def logits_of(model: Any, batch: dict[str, Any], hidden: torch.Tensor, mode: str) -> torch.Tensor:
    """What the trainer computes of a batch, with these tokens hidden."""
    ids, seen = batch["input_ids"], batch["real"]
    if mode == "token":
        ids = ids.masked_fill(hidden, STAND_IN)
    else:
        seen = attention_mask(batch["real"], batch["markers"], hidden)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=seen, position_ids=batch["position_ids"]).logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("mode", ["attention", "token"])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_hidden_label_moves_no_later_logit(mode: str, label: int, dtype: torch.dtype) -> None:
    """Exactly none, in a padded batch; the same label moves them when it is not hidden."""
    model = make_model(dtype)
    batch = collate(windows_of(make_row("one", 40, 4), make_row("two", 25, 3)))
    of_label = batch["markers"] == label
    changed = batch | {
        "input_ids": torch.where(of_label, (batch["input_ids"] + 7) % STAND_IN, batch["input_ids"])
    }
    for hidden, moves in ((of_label, False), (torch.zeros_like(of_label), True)):
        before, after = (logits_of(model, own, hidden, mode) for own in (batch, changed))
        for row in range(2):
            last = int(of_label[row].nonzero().max())
            rest = batch["real"][row].nonzero()[last + 1 :, 0]
            assert torch.equal(before[row, : last - 1], after[row, : last - 1])
            assert torch.equal(before[row, rest], after[row, rest]) != moves


@pytest.mark.parametrize("mode", ["attention", "token"])
def test_how_many_tokens_a_hidden_label_has_is_still_seen(mode: str) -> None:
    """`5%` and `37%` are of other lengths in plain text: what follows stands elsewhere."""
    model = make_model()
    longer = make_row("one", 40, 4, size=3)
    last = np.flatnonzero(longer.markers == 1)[-1]
    shorter = replace(
        longer,
        completion=np.delete(longer.completion, last),
        markers=np.delete(longer.markers, last),
    )
    ends = []
    for row in (longer, shorter):
        batch = collate(windows_of(row))
        ends.append(logits_of(model, batch, batch["markers"] == 1, mode)[0, -1])
    assert not torch.allclose(*ends)


def test_inside_a_hidden_label_the_earlier_tokens_are_seen() -> None:
    """The 7 of `37%` is learned with the 3 in sight."""
    model = make_model()
    batch = collate(windows_of(make_row("one", 40, 4)))
    hidden = batch["markers"] == 1
    first, last = hidden[0].nonzero()[:, 0].tolist()
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][0, first] = (changed["input_ids"][0, first] + 7) % STAND_IN
    before, after = (logits_of(model, own, hidden, "attention") for own in (batch, changed))
    assert not torch.equal(before[0, last], after[0, last])


def test_with_nothing_hidden_the_model_computes_what_it_always_does() -> None:
    model = make_model()
    batch = collate(windows_of(make_row("one", 40, 4), make_row("two", 25, 3)))
    ours = logits_of(model, batch, torch.zeros_like(batch["real"]), "attention")
    with torch.no_grad():
        plain = model(input_ids=batch["input_ids"], attention_mask=batch["real"]).logits
        alone = model(input_ids=batch["input_ids"][1:, :28]).logits
    assert torch.allclose(ours[batch["real"]], plain[batch["real"]], atol=1e-5)
    assert torch.allclose(ours[1, :28], alone[0], atol=1e-5)


def test_a_later_window_has_its_real_positions() -> None:
    """Positions that leave some out are no packed sequences."""
    row = make_row("one", 40, 4)
    second = cut_windows(row, 20, "windows", 4)[1]
    batch = collate([second])
    model = make_model()
    ours = logits_of(model, batch, torch.zeros_like(batch["real"]), "attention")
    visible = torch.ones(1, 1, 20, 20, dtype=torch.bool).tril()
    with torch.no_grad():
        expected = model(
            input_ids=batch["input_ids"],
            position_ids=batch["position_ids"],
            attention_mask=visible,
        ).logits
        through_padding_mask = model(
            input_ids=batch["input_ids"],
            position_ids=batch["position_ids"],
            attention_mask=batch["real"],
        ).logits
    assert batch["position_ids"][0].tolist() == [0, 1, 2, *range(16, 33)]
    assert torch.equal(ours, expected)
    assert torch.allclose(through_padding_mask, expected, atol=1e-5)


# --- what is drawn -----------------------------------------------------------------------------

STEPS = 101


def mask_of(mode: str, **changed: Any) -> LabelMask:
    own = LabelMask("attention", "cosine", 0.5, seed=0, stand_in=STAND_IN)
    return replace(own, mode=mode, **changed)


def test_the_probability_is_a_cosine_ramp() -> None:
    found = [mask_of("attention").probability(step, STEPS) for step in (0, 25, 50, 75, 100)]
    expected = [0.25 * (1 - np.cos(np.pi * share)) for share in (0, 0.25, 0.5, 0.75, 1)]
    assert found == pytest.approx(expected)
    assert mask_of("none").probability(100, STEPS) is None
    assert mask_of("token", schedule="column").probability(100, STEPS) is None


@pytest.mark.parametrize(("mode", "places"), [("attention", 30), ("token", 60)])
def test_as_many_are_hidden_as_the_probability_says(mode: str, places: int) -> None:
    """Whole labels with `attention`, each token by itself with `token`; and nothing else."""
    windows = windows_of(*(make_row(f"trace {number}", 120, 30) for number in range(40)))
    for step in (0, 50, 100):
        hidden = mask_of(mode).hidden(windows, step, STEPS)
        probability = mask_of(mode).probability(step, STEPS) or 0.0
        share = np.mean(
            [own[window.markers >= 0] for own, window in zip(hidden, windows, strict=True)]
        )
        assert abs(share - probability) <= 4 * (0.25 / (40 * places)) ** 0.5
        whole = 0
        for own, window in zip(hidden, windows, strict=True):
            assert len(own) == len(window.input_ids)
            assert not own[window.markers < 0].any()
            whole += sum(len({*own[window.markers == label]}) == 1 for label in range(30))
        assert (whole == 40 * 30) == (mode == "attention" or step == 0)


def test_draws_depend_on_seed_trace_and_step_alone() -> None:
    """Not on the batch, nor on the window that shows a label."""
    row, other = make_row("a trace", 120, 30), make_row("another", 120, 30)
    mask = mask_of("attention")

    def drawn(windows: list[Window], step: int = 100, own: LabelMask = mask) -> list[list[bool]]:
        return [hidden.tolist() for hidden in own.hidden(windows, step, STEPS)]

    (alone,) = drawn(windows_of(row))
    assert drawn(windows_of(other, row))[1] == alone
    assert drawn(windows_of(row), 99)[0] != alone
    assert drawn(windows_of(row), own=mask_of("attention", seed=1))[0] != alone
    renamed = replace(row, trace_id="third")
    assert drawn(windows_of(renamed))[0] != alone
    for mode in ("attention", "token"):
        (whole,) = drawn(windows_of(row), own=mask_of(mode))
        windows = cut_windows(row, 40, "windows", 10)
        for window, part in zip(windows, drawn(windows, own=mask_of(mode)), strict=True):
            assert part[3:] == whole[3 + window.first : 3 + window.end]


@pytest.mark.parametrize("mode", ["attention", "token"])
def test_the_column_hides_what_the_build_drew(mode: str) -> None:
    windows = windows_of(make_row("a trace", 40, 6))
    (hidden,) = mask_of(mode, schedule="column").hidden(windows, 0, STEPS)
    assert hidden.tolist() == [own >= 0 and own % 2 == 0 for own in windows[0].markers]


# --- the stand-in ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["byte-level", "unigram", "words"])
def test_the_stand_in_is_one_token(kind: str) -> None:
    tokenizer = make_tokenizer(kind, ["is it so ? yes.", "why? ??"])
    found = find_stand_in(tokenizer, "?")
    assert tokenizer.convert_ids_to_tokens(found).strip("▁") == "?"


def test_a_stand_in_of_several_tokens_is_refused() -> None:
    tokenizer = make_tokenizer("byte-level", ["a b"])
    with pytest.raises(UsageError, match=r"mask\.stand_in: 'why not' is 7 tokens"):
        find_stand_in(tokenizer, "why not")
