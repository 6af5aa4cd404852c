"""Masks records while they are read, so that every epoch sees other masks (--masking=dynamic).

create_pretraining_data.py writes such records unmasked, with their word boundaries, and what is to
be known of the vocabulary into the summary beside them (record_making.describe_masking). Here
stands what `instances.mask` does, in TensorFlow's own operations, which the input pipelines of GPUs
and of TPU hosts run alike; given the same draws, both mask the same (tested).

Letters of shapes: S tokens of a record, W its words, P its masked tokens, N words of a span.
"""

import collections
import os
import re

import files
import numpy as np
import runtime  # noqa: F401 - before TensorFlow
from errors import UserError

import tensorflow.compat.v1 as tf

Spec = collections.namedtuple("Spec", [
    "whole_words", "share", "most_predictions", "max_ngram", "mask_id", "ordinary_ids", "twins",
    "vocab_size"])
Spec.__doc__ = """How records are masked; see instances.Masking and instances.Entries.

ordinary_ids: int32 array, candidates for random replacement; twins: int32 array, of each id the one
to predict within a word; None where it is the id itself; vocab_size: all ids lie below it."""

_SHARD = re.compile("(%s)?" % files.SHARD_NUMBER + r"\.tfrecord(\.gz)?$")


# ---------------------------------------------------------------------------------------------
# What the summary beside the records says
# ---------------------------------------------------------------------------------------------

def load(paths):
    """Returns the Spec of record files, which all must share.

    Raises:
        UserError: a summary is missing, is of other records, or the files differ; names it.
    """
    found = {}
    for path in paths:
        summary = summary_of(path)
        if not files.exists(summary):
            raise UserError("%s holds records made with --masking=dynamic, and %s, which says how "
                            "to mask them, is missing: put it beside them" % (path, summary))
        content = files.read_json(summary)
        if not isinstance(content, dict) or not isinstance(content.get("masking"), dict):
            raise UserError("%s does not say how to mask %s: it is of other records"
                            % (summary, path))
        _check(content["masking"], summary)
        found.setdefault(_key(content["masking"]), (summary, content["masking"]))
    if len(found) > 1:
        raise UserError("records are to be masked in different ways: %s; train on those of one way"
                        % " and ".join(sorted(summary for summary, _ in found.values())[:2]))
    (_, content), = found.values()
    twins = None
    if content["twins"] is not None:
        twins = np.arange(content["vocab_size"], dtype=np.int32)
        for number, twin in content["twins"]:
            twins[number] = twin
    ordinary = np.concatenate([np.arange(first, last + 1)
                               for first, last in content["ordinary_ids"]])
    return Spec(content["whole_words"], content["share"], content["most_predictions"],
                content["max_ngram"], content["mask_id"], ordinary.astype(np.int32), twins,
                content["vocab_size"])


def _check(content, summary):
    """Raises UserError unless a summary's `masking` is as record_making.describe_masking has it."""
    size = content.get("vocab_size")
    size = size if _is_number(size, 1) else 0
    pairs = [content.get("ordinary_ids"), content.get("twins") or []]
    for name, is_so in (
            ("vocab_size", size > 0), ("whole_words", isinstance(content.get("whole_words"), bool)),
            ("share", isinstance(content.get("share"), float) and 0 < content["share"] < 1),
            ("most_predictions", _is_number(content.get("most_predictions"), 1)),
            ("max_ngram", _is_number(content.get("max_ngram"), 1)),
            ("mask_id", _is_number(content.get("mask_id"), 0, size)),
            ("ordinary_ids", bool(pairs[0]) and _are_pairs(pairs[0], size)),
            ("twins", "twins" in content and _are_pairs(pairs[1], size))):
        if not is_so:
            raise UserError("%s is damaged: its %s is not what create_pretraining_data.py writes; "
                            "make the records again" % (summary, name))


def _is_number(value, least, end=1 << 31):
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < end


def _are_pairs(values, end):
    return isinstance(values, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(_is_number(one, 0, end) for one in pair)
        for pair in values)


def _key(content):
    return repr(sorted(content.items()))


def summary_of(path):
    """Returns the path of the summary beside a file of records.

    >>> summary_of("data/x-00001-of-00004.tfrecord")
    'data/x.json'
    """
    return os.path.join(os.path.dirname(path), _SHARD.sub("", os.path.basename(path)) + ".json")


# ---------------------------------------------------------------------------------------------
# TensorFlow
# ---------------------------------------------------------------------------------------------

def mask(record, spec, seed):
    """Masks a record with draws of its own.

    Args:
        record: {field of records.UNMASKED: [S]}.
        spec: Spec.
        seed: int64 [2]; the same seed draws the same.

    Returns:
        {field of records.PRETRAINING: [S], [P] or [1]}, without padding.
    """
    rows = 4 if spec.max_ngram > 1 else 3
    draws = tf.random.stateless_uniform([rows, tf.size(record["input_ids"])], seed)
    return mask_with(record, spec, draws)


def mask_with(record, spec, draws):
    """As `mask`, with the draws given: float [4, S] as for `instances.mask`."""
    ids, starts = record["input_ids"], tf.equal(record["word_starts"], 1)
    length = tf.size(ids)
    first_length = tf.reduce_sum(1 - record["segment_ids"])
    is_text = tf.logical_not(tf.reduce_any(tf.equal(
        tf.range(length)[:, tf.newaxis], tf.stack([0, first_length - 1, length - 1])), axis=1))
    opens = starts if spec.whole_words else is_text
    words = _words(opens, is_text)
    limit = tf.minimum(tf.maximum(tf.cast(tf.round(
        tf.cast(length, tf.float64) * spec.share), tf.int32), 1), spec.most_predictions)
    order = tf.argsort(tf.gather(draws[0], words.starts), stable=True)
    if spec.max_ngram == 1:
        span_of = _take_words(words, order, limit)
    else:
        counts = span_lengths(tf.gather(draws[3], words.starts), spec.max_ngram)
        span_of = _take_spans(words, order, limit, counts, spec.max_ngram)
    # Of every token: the span that it was taken with, by its first word, or -1.
    span = tf.where(is_text, tf.gather(tf.concat([span_of, [-1]], 0),
                                       tf.where(is_text, words.numbers,
                                                tf.zeros_like(words.numbers))),
                    -tf.ones_like(ids))
    positions = tf.cast(tf.where(span >= 0)[:, 0], tf.int32)
    labels = tf.gather(ids, positions)
    if spec.twins is not None:
        labels = tf.where(tf.gather(starts, positions), labels,
                          tf.gather(tf.constant(spec.twins), labels))
    case = tf.gather(draws[1], tf.gather(words.starts, tf.maximum(span, 0)))
    number = tf.cast(tf.cast(draws[2], tf.float64) * len(spec.ordinary_ids), tf.int32)
    at_random = tf.gather(tf.constant(spec.ordinary_ids), number)
    replaced = tf.where(case < 0.8, tf.fill([length], spec.mask_id),
                        tf.where(case < 0.9, at_random, ids))
    return {
        "input_ids": tf.where(span >= 0, replaced, ids),
        "input_mask": tf.ones_like(ids), "segment_ids": record["segment_ids"],
        "masked_lm_positions": positions, "masked_lm_ids": labels,
        "masked_lm_weights": tf.ones_like(positions, tf.float32),
        "next_sentence_labels": record["next_sentence_labels"]}


_Words = collections.namedtuple("_Words", ["starts", "lengths", "numbers"])
_Words.__doc__ = """starts, lengths: int32 [W], in tokens; numbers: int32 [S], the word of a token,
of no meaning at special tokens."""


def _words(opens, is_text):
    """Returns the _Words. opens: bool [S], whether a word starts; is_text: bool [S]."""
    starts = tf.cast(tf.where(opens)[:, 0], tf.int32)
    numbers = tf.cumsum(tf.cast(opens, tf.int32)) - 1
    lengths = tf.math.unsorted_segment_sum(
        tf.cast(is_text, tf.int32), tf.maximum(numbers, 0), tf.size(starts))
    return _Words(starts, lengths, numbers)


def _take_words(words, order, limit):
    """Returns int32 [W]: the word's own number where it is taken, else -1.

    All words that fit in a row are taken at once; of the others, those that can still fit are gone
    through again. See instances.mask.
    """
    count = tf.size(words.starts)

    def some_left(order, room, taken):
        del room, taken
        return tf.size(order) > 0

    def take(order, room, taken):
        sizes = tf.gather(words.lengths, order)
        blocked = tf.cumsum(tf.cast(tf.cumsum(sizes) > room, tf.int32)) > 0
        these = tf.boolean_mask(order, tf.logical_not(blocked))
        room = room - tf.reduce_sum(tf.gather(words.lengths, these))
        taken = taken + tf.scatter_nd(these[:, tf.newaxis], tf.ones_like(these), [count])
        return tf.boolean_mask(order, tf.logical_and(blocked, sizes <= room)), room, taken

    _, _, taken = tf.while_loop(
        some_left, take, [order, limit, tf.zeros([count], tf.int32)],
        [tf.TensorShape([None]), tf.TensorShape([]), tf.TensorShape([None])],
        parallel_iterations=1)
    return tf.where(taken > 0, tf.range(count), -tf.ones_like(taken))


def span_lengths(draws, max_ngram):
    """Returns numbers of words, int32 [W], as instances.span_lengths. draws: float [W]."""
    bounds = np.cumsum(1.0 / np.arange(1, max_ngram + 1))
    bounds = (bounds[:-1] / bounds[-1]).astype(np.float32)
    return 1 + tf.reduce_sum(tf.cast(draws[:, tf.newaxis] >= bounds, tf.int32), axis=1)


def _take_spans(words, order, limit, counts, max_ngram):
    """Returns int32 [W]: the number of the first word of the span it is taken with, else -1.

    Args:
        counts: int32 [W], how many words a span has that starts there.
    """
    count = tf.size(words.starts)
    ends = words.starts + words.lengths

    def some_left(place, room, span_of):
        del span_of
        return tf.logical_and(place < count, room > 0)

    def take(place, room, span_of):
        first = order[place]
        following = tf.minimum(first + tf.range(max_ngram), count - 1)
        wanted = tf.range(max_ngram) < tf.minimum(counts[first], count - first)
        touches = tf.equal(tf.gather(words.starts, following),
                           tf.concat([[words.starts[first]], tf.gather(ends, following)[:-1]], 0))
        fits = tf.gather(ends, following) - words.starts[first] <= room
        free = tf.gather(span_of, following) < 0
        goes = tf.cumprod(tf.cast(tf.reduce_all(
            tf.stack([wanted, touches, fits, free]), axis=0), tf.int32))
        here = tf.boolean_mask(following, tf.equal(goes, 1))
        room = room - tf.reduce_sum(tf.gather(words.lengths, here))
        span_of = span_of + tf.scatter_nd(
            here[:, tf.newaxis], tf.fill(tf.shape(here), first + 1), [count])
        return place + 1, room, span_of

    _, _, span_of = tf.while_loop(
        some_left, take, [0, limit, -tf.ones([count], tf.int32)],
        [tf.TensorShape([]), tf.TensorShape([]), tf.TensorShape([None])], parallel_iterations=1)
    return span_of
