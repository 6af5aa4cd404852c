"""Features of a classifier: from texts to ids of one length, kept in record files, to batches."""

import collections
import hashlib
import json
import os

import files
import records
import runtime
from console import Progress

import tensorflow.compat.v1 as tf

SHUFFLE_BUFFER = 100000
VERSION = 2  # raise when the same text would give other features: caches are then renewed

TRUNCATIONS = ("head", "tail", "head_tail")
# head_tail keeps one part in four from the start: 128 + 382 of 510, as arXiv 1905.05583 found.
HEAD_SHARE = 4

Settings = collections.namedtuple("Settings", [
    "tokenizer", "tokenizer_key", "max_seq_length", "truncate"])
Settings.__doc__ = """How texts become features.

tokenizer_key: string that identifies vocabulary and lower-casing; max_seq_length in tokens;
truncate: which part of a longer text is kept, one of TRUNCATIONS."""

Split = collections.namedtuple("Split", ["path", "key", "examples"])
Split.__doc__ = """Features of one split.

path: record file; key: what they were made from, hashed; examples: list of tasks.Example."""


# ---------------------------------------------------------------------------------------------
# One example
# ---------------------------------------------------------------------------------------------

def truncate_tokens(tokens, length, truncate="head"):
    """Keeps `length` tokens: the first, the last, or a quarter from the start and the rest.

    truncate_tokens(list("abcdefgh"), 4, "head_tail") == ["a", "f", "g", "h"]
    """
    if len(tokens) <= length:
        return tokens
    head = {"head": length, "tail": 0, "head_tail": -(-length // HEAD_SHARE)}[truncate]
    return tokens[:head] + tokens[len(tokens) - (length - head):]


def truncate_pair(tokens_a, tokens_b, max_tokens, truncate="head"):
    """Shortens the longer of two token lists until both fit together.

    truncate_pair([1, 2, 3, 4], [5, 6], 4) == ([1, 2], [5, 6])
    """
    length_a, length_b = len(tokens_a), len(tokens_b)
    while length_a + length_b > max_tokens:
        if length_a > length_b:
            length_a -= 1
        else:
            length_b -= 1
    return (truncate_tokens(tokens_a, length_a, truncate),
            truncate_tokens(tokens_b, length_b, truncate))


def featurise(example, labels, tokenizer, max_seq_length, truncate="head"):
    """Turns an example into features of its own length: [CLS] a [SEP], or [CLS] a [SEP] b [SEP].

    Args:
        example: tasks.Example.
        labels: the task's labels; an example without one gets class 0.

    Returns:
        dict of field name to list of numbers, as records.CLASSIFICATION says.
    """
    tokens_a = tokenizer.tokenize(example.text_a)
    tokens_b = [] if example.text_b is None else tokenizer.tokenize(example.text_b)
    if example.text_b is None:
        tokens_a = truncate_tokens(tokens_a, max_seq_length - 2, truncate)
    else:
        tokens_a, tokens_b = truncate_pair(tokens_a, tokens_b, max_seq_length - 3, truncate)
    cls, sep = tokenizer.cls_token, tokenizer.sep_token
    tokens = [cls] + tokens_a + [sep]
    segments = [0] * len(tokens)
    if example.text_b is not None:
        tokens += tokens_b + [sep]
        segments += [1] * (len(tokens) - len(segments))
    label = 0 if example.label is None else labels.index(example.label)
    return {"input_ids": tokenizer.convert_tokens_to_ids(tokens), "input_mask": [1] * len(tokens),
            "segment_ids": segments, "label_ids": [label], "is_real_example": [1]}


# ---------------------------------------------------------------------------------------------
# A split
# ---------------------------------------------------------------------------------------------

def split_features(task, split, examples, output_dir, settings):
    """Makes the features of a split's examples, or finds them made from the very same content.

    Args:
        examples: list of tasks.Example.
        output_dir: folder for the record file.
        settings: Settings.

    Returns:
        Split.
    """
    key = _content_key(task, examples, settings)
    path = os.path.join(output_dir, "%s-%s.tf_record" % (split, key))
    if files.exists(path):
        return Split(path, key, examples)
    progress = Progress("features %s" % split, len(examples), "example")

    def serialized():
        for done, example in enumerate(examples, start=1):
            yield records.encode(records.CLASSIFICATION, featurise(
                example, task.labels, settings.tokenizer, settings.max_seq_length,
                settings.truncate))
            progress.update(done)

    records.write(path, serialized())
    return Split(path, key, examples)


def _content_key(task, examples, settings):
    """Returns a hash of all that the features depend on."""
    digest = hashlib.sha256(json.dumps([
        VERSION, task.name, list(task.labels), settings.tokenizer_key, settings.max_seq_length,
        settings.truncate]).encode("utf-8"))
    for example in examples:
        digest.update(json.dumps(example).encode("utf-8"))
    return digest.hexdigest()[:16]


def input_fn_builder(split, max_seq_length, is_training, random_seed=None, fixed_shapes=False,
                     whole_batch=None):
    """Returns the input_fn over a split.

    Batches are padded to their longest example, which changes no result; with `fixed_shapes`
    (TPU) to `max_seq_length`, and a last incomplete batch is filled with rows that do not count.

    Args:
        whole_batch: with fixed_shapes, the batch size over all cores; params["batch_size"] is
            that of one core.
    """
    length = max_seq_length if fixed_shapes else None
    count = len(split.examples)

    def input_fn(params):
        batch_size = params["batch_size"]
        dataset = tf.data.TFRecordDataset(split.path)
        if is_training:
            dataset = dataset.shuffle(min(count, SHUFFLE_BUFFER), seed=random_seed).repeat()
        elif fixed_shapes:
            dataset = dataset.concatenate(_filling(-count % (whole_batch or batch_size)))
        dataset = dataset.map(_decode, num_parallel_calls=tf.data.experimental.AUTOTUNE)
        shapes = {field.name: [length] if field.length == "sequence" else []
                  for field in records.CLASSIFICATION}
        dataset = dataset.padded_batch(batch_size, shapes,
                                       drop_remainder=is_training or fixed_shapes)
        return runtime.without_auto_shard(dataset.prefetch(2))

    return input_fn


def _decode(record):
    features = records.decode(records.CLASSIFICATION, record, {"sequence": None})
    return {name: value if value.shape.as_list() == [None] else tf.reshape(value, [])
            for name, value in features.items()}


def _filling(count):
    """A dataset of `count` records that do not count, to fill up a last batch."""
    empty = records.encode(records.CLASSIFICATION, {
        "input_ids": [0], "input_mask": [1], "segment_ids": [0], "label_ids": [0],
        "is_real_example": [0]})
    return tf.data.Dataset.from_tensors(tf.constant(empty)).repeat(count)
