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
    order = grouped_order(np.array([9, 1, 1, 1, 1]), 2, seed=3)
    assert len(order) == 5 and 0 in order[:4]
