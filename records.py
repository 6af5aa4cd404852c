"""TFRecords: one schema per kind of record drives both writing and parsing.

Dimension letters: S sequence length, P predictions per sequence.
"""

import collections
import contextlib

import files
import numpy as np
import runtime  # noqa: F401 - before TensorFlow
from errors import UserError

import tensorflow.compat.v1 as tf

Field = collections.namedtuple("Field", ["name", "dtype", "length"])
Field.__doc__ = """One feature of a record.

name: key in the tf.train.Example; dtype: "int64" or "float32"; length: a number, or the name
of a size ("sequence", "predictions") that `decode` is given."""

# The keys are those of every published ALBERT and BERT pre-training record.
# `next_sentence_labels` holds the sentence-order label: 1 = swapped.
PRETRAINING = (
    Field("input_ids", "int64", "sequence"),
    Field("input_mask", "int64", "sequence"),
    Field("segment_ids", "int64", "sequence"),
    Field("masked_lm_positions", "int64", "predictions"),
    Field("masked_lm_ids", "int64", "predictions"),
    Field("masked_lm_weights", "float32", "predictions"),
    Field("next_sentence_labels", "int64", 1),
)

# One example of a classification task, at its own length. `is_real_example` is 0 for the rows
# that fill up a TPU's last batch.
CLASSIFICATION = (
    Field("input_ids", "int64", "sequence"),
    Field("input_mask", "int64", "sequence"),
    Field("segment_ids", "int64", "sequence"),
    Field("label_ids", "int64", 1),
    Field("is_real_example", "int64", 1),
)


def encode(schema, values):
    """Serialises one record.

    Args:
        schema: sequence of Field.
        values: dict of field name to a sequence of numbers.

    Returns:
        bytes of a tf.train.Example.
    """
    features = {}
    for field in schema:
        numbers = values[field.name]
        if field.dtype == "int64":
            features[field.name] = tf.train.Feature(int64_list=tf.train.Int64List(value=numbers))
        else:
            features[field.name] = tf.train.Feature(float_list=tf.train.FloatList(value=numbers))
    return tf.train.Example(
        features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def decode(schema, serialized, sizes):
    """Parses one serialised record into a dict of tensors, integers as int32 (TPUs want it).

    Args:
        schema: sequence of Field.
        serialized: scalar string tensor.
        sizes: dict of size name to number, e.g. {"sequence": 128, "predictions": 20}; a size of
            None means that records carry their own length, which gives tensors of shape [None].
    """
    parsers = {}
    for field in schema:
        length = _length(field, sizes)
        dtype = tf.as_dtype(field.dtype)
        parsers[field.name] = (
            tf.FixedLenSequenceFeature([], dtype, allow_missing=True) if length is None
            else tf.FixedLenFeature([length], dtype))
    example = tf.parse_single_example(serialized, parsers)
    return {name: tf.cast(value, tf.int32) if value.dtype == tf.int64 else value
            for name, value in example.items()}


def _length(field, sizes):
    return sizes[field.length] if isinstance(field.length, str) else field.length


def write(path, serialized_records):
    """Writes records to `path`, which appears only when complete; returns their number."""
    count = 0
    with files.atomic_path(path) as temporary:
        with tf.io.TFRecordWriter(temporary) as writer:
            for record in serialized_records:
                writer.write(record)
                count += 1
    return count


def read(path):
    """Yields the serialised records of a file; UserError when it is damaged."""
    count = 0
    try:
        for record in tf.io.tf_record_iterator(path):
            count += 1
            yield record
    except tf.errors.DataLossError as error:
        raise UserError("%s is damaged after record %d (%s); make or copy it again"
                        % (path, count, error.message.split("\n")[0])) from error


def load(path, schema):
    """Reads a whole file into memory; UserError when it is damaged.

    Returns:
        {field name: list of arrays, one a record}, int32 or float32.
    """
    columns = {field.name: [] for field in schema}
    for number, serialized in enumerate(read(path), start=1):
        features = _parse("%s record %d" % (path, number), serialized, schema)
        for field in schema:
            columns[field.name].append(np.array(
                _numbers(features, field), np.int32 if field.dtype == "int64" else np.float32))
    return columns


def count(paths):
    """Returns the number of records in several files."""
    return sum(1 for path in paths for _ in read(path))


def check(path, schema, sizes, limits=None, all_records=False):
    """Checks the first record of a file, or all of them, against the schema.

    Args:
        sizes: {size name: number}, as for `decode`.
        limits: {field name: number}; values must lie from 0 to below it.

    Raises:
        UserError: the file holds no record, is damaged, lacks a key, holds another length than
            the flags say or a value out of range; the message names file, record, key and number.
    """
    number = 0
    for number, serialized in enumerate(read(path), start=1):
        _check_record("%s record %d" % (path, number), serialized, schema, sizes, limits or {})
        if not all_records:
            return
    if not number:
        raise UserError("%s holds no record" % path)


def _check_record(place, serialized, schema, sizes, limits):
    features = _parse(place, serialized, schema)
    for field in schema:
        numbers = _numbers(features, field)
        expected = _length(field, sizes)
        if expected is not None and len(numbers) != expected:
            raise UserError("%s: %s holds %d numbers where %d are expected; %s" % (
                place, field.name, len(numbers), expected, _remedy(field, len(numbers))))
        limit = limits.get(field.name)
        if limit is not None and not all(0 <= value < limit for value in numbers):
            raise UserError(
                "%s: %s holds %d, but values lie from 0 to %d with this configuration; use the "
                "configuration and vocabulary that the records were made for"
                % (place, field.name, max(numbers, key=abs), limit - 1))


def _parse(place, serialized, schema):
    """Returns the features of a serialised record, which hold all keys of the schema."""
    example = tf.train.Example()
    try:
        example.ParseFromString(serialized)
    except Exception as error:  # noqa: BLE001 - protobuf's DecodeError moved between releases
        raise UserError("%s is no tf.train.Example: %s" % (place, error)) from error
    features = example.features.feature
    for field in schema:
        if field.name not in features:
            raise UserError("%s lacks the key %s; it holds: %s"
                            % (place, field.name, ", ".join(sorted(features)) or "nothing"))
    return features


def _numbers(features, field):
    feature = features[field.name]
    return feature.int64_list.value if field.dtype == "int64" else feature.float_list.value


@contextlib.contextmanager
def naming_the_damaged(paths, schema, sizes, limits=None):
    """Within the block, a record that TensorFlow cannot read is named with its file.

    TensorFlow's own error tells neither; the files are gone through once it has happened.

    Raises:
        UserError: as `check`, for all records of all files.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError):
        for path in paths:
            check(path, schema, sizes, limits, all_records=True)
        raise


def _remedy(field, found):
    flags = {"sequence": "max_seq_length", "predictions": "max_predictions_per_seq"}
    flag = flags.get(field.length)
    return "use --%s=%d, or make the records again" % (flag, found) if flag else "make it again"
