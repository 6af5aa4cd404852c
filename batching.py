"""Which examples share a batch: those of like length, so that little is computed on padding.

Plain NumPy, without files and without TensorFlow: what is here depends on its arguments alone.
"""

import collections

import numpy as np

# Batches that are sorted by length together, at most, and the least number of such windows in an
# epoch: a batch is to hold one length, but also a fair sample. Where batches are few, grouping
# costs accuracy and saves little.
WINDOW = 50
WINDOWS_OF_AN_EPOCH = 8


class TrainingOrder(object):
    """Batches for ever: each epoch holds every example once, in an order of its own.

    The examples of all epochs, shuffled anew in each, form one stream; the batches that end in an
    epoch are cut from it, some of them at a time sorted by length, and come in a random order.
    Batches are always full: what is left at the end of an epoch goes into the next one's. A batch
    depends on the seed and its number alone, so a run can go on at any step.
    """

    def __init__(self, lengths, batch_size, seed):
        """Binds the parts.

        Args:
            lengths: the examples' lengths, at least one.
            batch_size: examples of a batch.
            seed: number; the same seed gives the same batches.
        """
        self._lengths = np.asarray(lengths)
        self._batch_size, self._seed = batch_size, seed
        self._epoch = (None, None, None)  # number, number of its first batch, its batches

    def batch(self, number):
        """Returns the indexes [batch_size] of the examples in a batch, counted from 0."""
        # The epoch in which the batch's last example lies.
        epoch = ((number + 1) * self._batch_size - 1) // len(self._lengths)
        current = self._epoch
        if current[0] != epoch:
            first = epoch * len(self._lengths) // self._batch_size
            current = self._epoch = (epoch, first, self._batches(epoch, first))
        return current[2][number - current[1]]

    def _batches(self, epoch, first):
        """Returns the batches [batches, batch_size] that end in an epoch."""
        size, count = self._batch_size, len(self._lengths)
        begin, end = first * size, (epoch + 1) * count // size * size
        stream = np.concatenate([self._shuffled(number)
                                 for number in range(begin // count, epoch + 1)])
        stream = stream[begin - begin // count * count:][:end - begin]
        together = min(WINDOW, max(len(stream) // size // WINDOWS_OF_AN_EPOCH, 1)) * size
        for start in range(0, len(stream), together):
            window = stream[start:start + together]
            stream[start:start + together] = window[
                np.argsort(self._lengths[window], kind="mergesort")]
        batches = stream.reshape([-1, size])
        return batches[self._random(epoch, 1).permutation(len(batches))]

    def _shuffled(self, epoch):
        return self._random(epoch, 0).permutation(len(self._lengths))

    def _random(self, epoch, purpose):
        # RandomState, not a newer generator: its sequences are the same on every NumPy.
        return np.random.RandomState([self._seed % 2 ** 32, epoch, purpose])


def group_by_length(lengths, batch_size, most_tokens=None):
    """Parts examples into batches of like length.

    Args:
        lengths: tokens of each example.
        batch_size: examples of a batch, at most.
        most_tokens: tokens of a batch with its padding, at most (but at least one example).

    Returns:
        list of lists of indexes into `lengths`, from the short to the long.

    group_by_length([9, 2, 3], 2) == [[1, 2], [0]]
    """
    groups = []
    for index in np.argsort(lengths, kind="mergesort").tolist():
        size = len(groups[-1]) + 1 if groups else 0
        if groups and size <= batch_size and (
                most_tokens is None or size * lengths[index] <= most_tokens):
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


Inputs = collections.namedtuple("Inputs", ["input_ids", "input_mask", "segment_ids"])
Inputs.__doc__ = "What an encoder takes: int32 arrays [B, S]; the mask is 0 for padding."


def padded(ids, segments, length=None):
    """Puts examples of several lengths into one batch.

    Args:
        ids, segments: lists of sequences of numbers, one an example.
        length: what they are padded to; None: the longest of them.

    Returns:
        Inputs.
    """
    ones = [np.ones(len(row), np.int32) for row in ids]
    return Inputs(*(padded_rows(rows, length) for rows in (ids, ones, segments)))


def padded_rows(rows, length=None):
    """Puts sequences of several lengths into one array [B, S], zeros behind them.

    Args:
        rows: list of sequences of integers; length: as for `padded`.
    """
    array = np.zeros([len(rows), length or max(map(len, rows))], np.int32)
    for number, row in enumerate(rows):
        array[number, :len(row)] = row
    return array
