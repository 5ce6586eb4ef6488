"""Rows of like length come together: each once an epoch, in an order that anybody can repeat."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from progdata.training_refs.length_groups import LengthGroups, grouped_order

LENGTHS = st.lists(st.integers(1, 500), max_size=300)


@given(LENGTHS, st.integers(1, 8), st.integers(0, 3))
def test_every_row_comes_once_an_epoch(lengths, batch, epoch):
    order = grouped_order(np.array(lengths, dtype=np.int64), batch, seed=0, epoch=epoch)
    assert sorted(order) == list(range(len(lengths)))


def test_little_is_padded():
    lengths = np.random.default_rng(0).integers(1, 1000, 4096)

    def padded(order: list[int]) -> int:
        batches = lengths[np.array(order)].reshape(-1, 8)
        return int((batches.max(axis=1) * 8).sum())

    at_random = padded(np.random.default_rng(1).permutation(4096).tolist())
    grouped = padded(grouped_order(lengths, 8, seed=0))
    assert grouped < 1.05 * lengths.sum() < at_random / 1.5


def test_epochs_and_seeds_have_orders_of_their_own_that_stay():
    lengths = [1, 2, 3, 4] * 50
    groups = LengthGroups(lengths, 4, seed=7)
    first = list(groups)
    assert first == list(groups) and len(groups) == 200
    groups.set_epoch(1)
    second = list(groups)
    assert second != first != list(LengthGroups(lengths, 4, seed=8))
    again = LengthGroups(lengths, 4, seed=7)
    again.set_epoch(1)
    assert list(again) == second


def test_long_and_short_batches_are_mixed():
    """Batches are shuffled: long ones do not all come first."""
    lengths = np.arange(1, 513)
    heads = [int(lengths[row]) for row in grouped_order(lengths, 4, seed=0)[::4]]
    assert heads != sorted(heads, reverse=True) and np.mean(heads[:64]) < 400


def test_a_last_batch_that_is_not_full_stays_last():
    """It is that of the shortest rows of its chunk, whatever place the others are shuffled to."""
    lengths = np.array([9, 8, 7, 6, 5])
    orders = [grouped_order(lengths, 2, seed) for seed in range(20)]
    assert {own[-1] for own in orders} == {4}
    assert {frozenset(own[:2]) for own in orders} == {frozenset({0, 1}), frozenset({2, 3})}


def test_all_variants_of_a_build_have_the_same_order(countdown_build, small_model):
    from progdata.builders.chat_template import load_chat_template
    from progdata.training_refs.encoded_rows import encode_rows
    from progdata.training_refs.training_data import open_data

    template = load_chat_template(small_model)
    orders = set()
    for variant in ("clean", "noisy", "special", "masked"):
        rows = encode_rows(open_data(str(countdown_build), variant, None).rows("train"), template)
        lengths = [own.num_tokens for own in rows.rows]
        orders.add(tuple(rows.rows[place].trace_id for place in LengthGroups(lengths, 4, seed=0)))
    assert len(orders) == 1 and len(set(lengths)) > 5
