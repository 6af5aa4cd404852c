"""Batches of like length: what they hold, in which order, and that little of them is padding."""

import numpy as np
import pytest

import batching

LENGTHS = np.random.RandomState(0).gamma(6.0, 4.5, size=1000).astype(int) + 5


def padding_share(lengths, groups):
    """Share of a set of batches that is padding."""
    computed = sum(len(group) * max(lengths[i] for i in group) for group in groups)
    return 1.0 - sum(lengths[i] for group in groups for i in group) / computed


# ---------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("count, batch_size", [(1000, 32), (96, 32), (33, 32), (7, 3), (1, 1)])
def test_an_epoch_holds_every_example_once(count, batch_size):
    order = batching.TrainingOrder(LENGTHS[:count], batch_size, 1)
    epochs = 5
    stream = np.concatenate([order.batch(n) for n in range(-(-epochs * count // batch_size))])
    # What is left of an epoch, less than a batch, comes with the next one's.
    for epoch in range(1, epochs + 1):
        seen = np.bincount(stream[:epoch * count // batch_size * batch_size], minlength=count)
        missing = epoch * count % batch_size
        assert np.clip(epoch - seen, 0, None).sum() <= missing and seen.max() <= epoch


def test_batches_larger_than_the_data_hold_examples_several_times():
    order = batching.TrainingOrder([3, 1, 2], 8, 1)
    stream = np.concatenate([order.batch(number) for number in range(6)])
    assert len(stream) == 48 and np.bincount(stream).tolist() == [16, 16, 16]


@pytest.mark.parametrize("count, batch_size, most", [
    (34000, 64, 0.05), (6800, 64, 0.15), (1000, 32, 0.35)])
def test_batches_hold_like_lengths(count, batch_size, most):
    lengths = np.random.RandomState(2).gamma(6.0, 4.5, size=count).astype(int) + 5
    order = batching.TrainingOrder(lengths, batch_size, 1)
    batches = [order.batch(number) for number in range(3 * count // batch_size)]
    full = count // batch_size * batch_size
    at_random = np.random.RandomState(1).permutation(full).reshape([-1, batch_size])
    assert padding_share(lengths, batches) < most < 0.4 < padding_share(lengths, at_random)


def test_few_batches_are_not_sorted():
    order = batching.TrainingOrder(LENGTHS[:240], 16, 1)  # 15 batches an epoch
    batches = [order.batch(number) for number in range(15)]
    at_random = np.random.RandomState(1).permutation(240).reshape([15, 16])
    assert padding_share(LENGTHS, batches) > 0.9 * padding_share(LENGTHS, at_random)


def test_short_and_long_batches_come_in_a_random_order():
    order = batching.TrainingOrder(LENGTHS, 32, 1)
    means = [LENGTHS[order.batch(number)].mean() for number in range(31)]
    assert sorted(means) not in (means, means[::-1])
    assert abs(np.corrcoef(np.arange(31), means)[0, 1]) < 0.5


def test_other_epochs_put_other_examples_together():
    order = batching.TrainingOrder(LENGTHS, 8, 1)
    together = [{frozenset(order.batch(number)) for number in range(epoch * 125, epoch * 125 + 125)}
                for epoch in range(2)]
    assert not together[0] & together[1]


def test_a_batch_depends_on_seed_and_number_alone():
    first, again = [batching.TrainingOrder(LENGTHS, 32, 7) for _ in range(2)]
    batches = [first.batch(number) for number in range(100)]
    for number in (99, 3, 40, 0, 31, 32):
        np.testing.assert_array_equal(again.batch(number), batches[number])
    other = batching.TrainingOrder(LENGTHS, 32, 8)
    assert any((other.batch(number) != batches[number]).any() for number in range(3))


# ---------------------------------------------------------------------------------------------
# Evaluation and prediction
# ---------------------------------------------------------------------------------------------

def test_groups_are_of_like_length_and_hold_each_example_once():
    lengths = list(np.random.RandomState(1).randint(1, 100, size=300))
    for batch_size, most_tokens in ((7, None), (64, 500), (1, 10), (1000, 50)):
        groups = batching.group_by_length(lengths, batch_size, most_tokens)
        assert sorted(index for group in groups for index in group) == list(range(300))
        assert all(len(group) <= batch_size for group in groups)
        flat = [lengths[index] for group in groups for index in group]
        assert flat == sorted(lengths)
        if most_tokens:
            assert all(len(group) == 1 or len(group) * max(lengths[i] for i in group) <= most_tokens
                       for group in groups)
    assert batching.group_by_length([], 4) == []
    assert batching.group_by_length([9, 2, 3], 2) == [[1, 2], [0]]


def test_groups_without_a_limit_of_tokens_are_full():
    groups = batching.group_by_length(list(LENGTHS), 64)
    assert [len(group) for group in groups] == [64] * 15 + [40]


def test_padding_is_masked():
    batch = batching.padded([[2, 7, 3], [2]], [[0, 0, 1], [0]])
    assert batch.input_ids.tolist() == [[2, 7, 3], [2, 0, 0]]
    assert batch.input_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.segment_ids.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert batching.padded([[2]], [[0]], 4).input_ids.tolist() == [[2, 0, 0, 0]]
