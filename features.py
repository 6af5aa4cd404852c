"""Features of a classifier: from texts to ids, kept in record files, to batches."""

import collections
import hashlib
import json
import os

import batching
import distribution
import files
import numpy as np
import records
import runtime
from console import Progress
from errors import UserError

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


def featurise(example, labels, tokenizer, max_seq_length, truncate="head", tokenize=None):
    """Turns an example into features of its own length: [CLS] a [SEP], or [CLS] a [SEP] b [SEP].

    Args:
        example: tasks.Example.
        labels: the task's labels; an example without one gets class 0.
        tokenize: function of a text to its tokens; None: the tokenizer's.

    Returns:
        dict of field name to list of numbers, as records.CLASSIFICATION says.
    """
    tokenize = tokenize or tokenizer.tokenize
    tokens_a = tokenize(example.text_a)
    tokens_b = [] if example.text_b is None else tokenize(example.text_b)
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
    return make_split(
        split, _content_key(task, examples, settings), examples, output_dir,
        records.CLASSIFICATION, lambda example: featurise(
            example, task.labels, settings.tokenizer, settings.max_seq_length, settings.truncate))


def make_split(split, key, examples, output_dir, schema, features_of):
    """Writes the features of examples of any kind, or finds them written under the same key.

    Args:
        key: hash of all that the features depend on.
        schema: of the records; features_of: function of an example to {field name: numbers}.

    Returns:
        Split.
    """
    path = os.path.join(output_dir, "%s-%s.tf_record" % (split, key))
    if files.exists(path):
        return Split(path, key, examples)
    progress = Progress("features %s" % split, len(examples), "example")

    def serialized():
        for done, example in enumerate(examples, start=1):
            yield records.encode(schema, features_of(example))
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


def input_fn_builder(split, max_seq_length, is_training, random_seed=0, fixed_shapes=False,
                     whole_batch=None, first_step=0, schema=records.CLASSIFICATION):
    """Returns the input_fn over a split.

    A batch holds examples of like length and is padded to its longest, which changes no result.
    Its fields are the schema's, and `row`: the examples' places in the split, since they do not
    come in its order.

    Args:
        fixed_shapes: pad to `max_seq_length` (TPU); a last incomplete batch is filled with rows
            that do not count, their `row` is beyond the split.
        whole_batch: with fixed_shapes, the batch size over all cores; params["batch_size"] is
            that of one core.
        first_step: step at which training goes on.
        schema: of the split's records: integers, as many as there are tokens, or a fixed number.
    """
    @runtime.as_written
    def input_fn(params, input_context=None):
        batch_size, part = params["batch_size"], distribution.input_part(params, input_context)
        if fixed_shapes:
            dataset = _batches_of_one_shape(
                split, max_seq_length, batch_size,
                random_seed + part.number if is_training else None,  # each in an order of its own
                whole_batch or batch_size, schema)
        else:
            examples = records.load(split.path, schema)
            if len(examples["input_ids"]) != len(split.examples):
                raise UserError(
                    "%s holds %d records where the data have %d examples: it was cut short; "
                    "remove it, and it is made again" % (
                        split.path, len(examples["input_ids"]), len(split.examples)))
            dataset = (
                _training_batches(examples, batch_size, random_seed, first_step, part, schema)
                if is_training else _all_batches(examples, batch_size, schema))
        return runtime.without_auto_shard(dataset.prefetch(2))

    return input_fn


def _training_batches(examples, batch_size, seed, first_step, part, schema):
    """Batches for ever; the workers of a distributed training take turns in one order of them."""
    order = batching.TrainingOrder(_lengths(examples), batch_size, seed)
    first = first_step * part.batches * part.count + part.number
    numbers = tf.data.Dataset.range(first, np.iinfo(np.int64).max, part.count)
    return numbers.map(lambda number: _as_tensors(
        lambda place: _batch(examples, order.batch(int(place)), schema), number, batch_size,
        schema))


def _all_batches(examples, batch_size, schema):
    """Each example once; the longest first, so that memory that does not suffice is seen soon."""
    groups = batching.group_by_length(_lengths(examples), batch_size)[::-1]
    numbers = tf.data.Dataset.range(len(groups))
    return numbers.map(lambda number: _as_tensors(
        lambda number: _batch(examples, groups[number], schema), number, None, schema))


def _lengths(examples):
    """Returns the tokens of each example, with the longest of its options where it has some."""
    lengths = [len(ids) for ids in examples["input_ids"]]
    if "option_lengths" not in examples:
        return lengths
    return [length + int(options.max())
            for length, options in zip(lengths, examples["option_lengths"])]


def _batch(examples, rows, schema):
    """Returns the arrays of a schema's fields, and `row`, for some rows of records.load's."""
    arrays = []
    for field in schema:
        columns = [examples[field.name][row] for row in rows]
        if isinstance(field.length, str):
            arrays.append(batching.padded_rows(columns))
        else:
            rows_of_field = columns if field.length > 1 else np.concatenate(columns)
            arrays.append(np.array(rows_of_field, np.int32))
    return arrays + [np.array(rows, np.int32)]


def _as_tensors(function, number, batch_size, schema):
    """Calls `function` with a number while the graph runs; returns its arrays by field."""
    shapes = [[batch_size] + _shape(field, {}) for field in schema] + [[batch_size]]
    tensors = tf.numpy_function(function, [number], [tf.int32] * len(shapes))
    for shape, tensor in zip(shapes, tensors):
        tensor.set_shape(shape)
    return dict(zip([field.name for field in schema] + ["row"], tensors))


def _shape(field, sizes):
    """Returns the shape of one example's numbers; sizes: {size: number}, others are free."""
    if isinstance(field.length, str):
        return [sizes.get(field.length)]
    return [field.length] if field.length > 1 else []


def _batches_of_one_shape(split, length, batch_size, seed, whole_batch, schema):
    """Batches padded to `length`; shuffled for ever where a seed is given."""
    count = len(split.examples)
    dataset = tf.data.TFRecordDataset(split.path)
    if seed is None:
        dataset = dataset.concatenate(_filling(-count % whole_batch, schema))
    dataset = dataset.apply(tf.data.experimental.enumerate_dataset())
    if seed is not None:
        dataset = dataset.shuffle(min(count, SHUFFLE_BUFFER), seed=seed).repeat()
    dataset = dataset.map(lambda row, record: _decode(row, record, schema),
                          num_parallel_calls=tf.data.experimental.AUTOTUNE)
    most_options = max(field.length for field in schema if not isinstance(field.length, str))
    sizes = {"sequence": length, "options": length * most_options}
    shapes = {field.name: _shape(field, sizes) for field in schema}
    return dataset.padded_batch(batch_size, dict(shapes, row=[]), drop_remainder=True)


def _decode(row, record, schema):
    features = records.decode(schema, record, records.any_sizes(schema))
    shapes = {field.name: [-1] if isinstance(field.length, str) else _shape(field, {})
              for field in schema}
    features = {name: tf.reshape(value, shapes[name]) for name, value in features.items()}
    return dict(features, row=tf.cast(row, tf.int32))


def _filling(count, schema):
    """A dataset of `count` records that do not count, to fill up a last batch."""
    empty = records.encode(schema, {
        field.name: [int(field.name == "input_mask")] * (
            1 if isinstance(field.length, str) else field.length) for field in schema})
    return tf.data.Dataset.from_tensors(tf.constant(empty)).repeat(count)
