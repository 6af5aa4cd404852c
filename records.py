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
of a size ("sequence", "predictions"): a record holds as many of these numbers as it has tokens, or
masked words, or is padded with zeros to the longest there may be."""

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

# The same before masking, for training to mask afresh each time: `word_starts` tells of each token
# whether a word starts there; it is 0 at [CLS] and [SEP].
UNMASKED = (
    Field("input_ids", "int64", "sequence"),
    Field("segment_ids", "int64", "sequence"),
    Field("word_starts", "int64", "sequence"),
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

def choices(most_options):
    """Returns the schema of questions with up to so many options.

    The inputs of a question's options differ in their second segment only, so that the first is
    kept once: `input_ids` is [CLS] text [SEP]. `option_ids` holds the second segments one after the
    other, each with its [SEP]; the length of an option that a question does not have is 0.
    """
    return (
        Field("input_ids", "int64", "sequence"),
        Field("input_mask", "int64", "sequence"),
        Field("option_ids", "int64", "options"),
        Field("option_lengths", "int64", most_options),
        Field("label_ids", "int64", 1),
        Field("is_real_example", "int64", 1),
    )


def any_sizes(schema):
    """Returns the sizes for `decode` and `check` that leave each size of a schema free."""
    return {field.length: None for field in schema if isinstance(field.length, str)}


FRAME_BYTES = 16  # of a record in its file: its length and two checksums

POSITIONS = "masked_lm_positions"  # each must be that of a token of the record

FLAGS_OF_SIZES = {"sequence": "max_seq_length", "predictions": "max_predictions_per_seq"}


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


def decode(schema, serialized, sizes, limits=None):
    """Parses one serialised record into a dict of tensors, integers as int32 (TPUs want it).

    Args:
        schema: sequence of Field.
        serialized: scalar string tensor.
        sizes: dict of size name to the most numbers there may be, e.g. {"sequence": 128,
            "predictions": 20}; None: any number.
        limits: {field name: number}; values must lie from 0 to below it.

    Returns:
        {field name: tensor}, [length] as the record has it where the field's length is a size.
        Running it raises InvalidArgumentError for a record that breaks the rules of `check`.
    """
    parsers = {
        field.name: tf.FixedLenSequenceFeature([], tf.as_dtype(field.dtype), allow_missing=True)
        if field.length in sizes else tf.FixedLenFeature([field.length], tf.as_dtype(field.dtype))
        for field in schema}
    example = tf.parse_single_example(serialized, parsers)
    count = tf.size(example["input_ids"])
    if POSITIONS in example:
        count = end_of(example["input_mask"])  # what is beyond is padding
    rules = [tf.Assert(count > 0, [count])]
    if POSITIONS in example:
        # Beyond the record's own tokens lies, in a batch, what belongs to another record.
        highest = tf.reduce_max(tf.concat([[0], example[POSITIONS]], 0))
        rules.append(tf.Assert(highest < tf.cast(count, tf.int64), [highest]))
    for name, limit in (limits or {}).items():
        # On a GPU an id beyond the table would be read as zeros, without a word.
        if name in example:
            rules.append(tf.Assert(tf.reduce_all(tf.logical_and(
                example[name] >= 0, example[name] < limit)), [example[name]]))
    for size, most in sizes.items():
        lengths = tf.stack([tf.size(example[field.name]) for field in schema
                            if field.length == size])
        rules.append(tf.Assert(tf.reduce_all(tf.equal(lengths, lengths[0])), [lengths]))
        if most is not None:
            rules.append(tf.Assert(lengths[0] <= most, [lengths]))
    with tf.control_dependencies(rules):
        return {name: tf.cast(value, tf.int32) if value.dtype == tf.int64 else tf.identity(value)
                for name, value in example.items()}


def end_of(values):
    """Returns one more than the place of the last value that is not 0. [length] to scalar."""
    places = tf.range(1, tf.size(values) + 1)
    return tf.reduce_max(tf.concat([[0], tf.where(tf.equal(values, 0), tf.zeros_like(places),
                                                  places)], axis=0))


def write(path, serialized_records):
    """Writes records to `path`, which appears only when complete; returns their number."""
    count = 0
    with files.atomic_path(path) as temporary:
        with tf.io.TFRecordWriter(temporary) as writer:
            for record in serialized_records:
                writer.write(record)
                count += 1
    return count


def _options(path):
    kind = tf.io.TFRecordCompressionType
    return tf.io.TFRecordOptions(kind.GZIP if path.endswith(".gz") else kind.NONE)


def dataset(path):
    """Returns the dataset of the serialised records of a file; path: scalar string tensor."""
    is_compressed = tf.strings.regex_full_match(path, r".*\.gz")
    return tf.data.TFRecordDataset(path, tf.where(is_compressed, "GZIP", ""))


def read(path):
    """Yields the serialised records of a file, .gz or not; UserError when it is damaged."""
    count, size = 0, 0
    try:
        for record in tf.io.tf_record_iterator(path, _options(path)):
            count += 1
            size += FRAME_BYTES + len(record)
            yield record
    except tf.errors.DataLossError as error:
        raise UserError("%s is damaged after record %d (%s); make or copy it again"
                        % (path, count, error.message.split("\n")[0])) from error
    # TensorFlow takes a file for ended that was cut within the length of its next record.
    if not path.endswith(".gz") and files.size(path) != size:
        raise UserError("%s is damaged after record %d (cut short); make or copy it again"
                        % (path, count))


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


def length(serialized):
    """Returns the number of tokens of a serialised record without padding."""
    features = tf.train.Example.FromString(serialized).features.feature
    if "input_mask" in features:
        return sum(features["input_mask"].int64_list.value)
    return len(features["input_ids"].int64_list.value)


def has_key(path, key):
    """Whether the first record of a file has a key; UserError when it is damaged."""
    for serialized in read(path):
        return key in _features(path + " record 1", serialized)
    return False


def count(paths):
    """Returns the number of records in several files."""
    return sum(1 for path in paths for _ in read(path))


def check(path, schema, sizes, limits=None, all_records=False):
    """Checks the first record of a file, or all of them, against the schema.

    Args:
        sizes: {size name: most numbers}, as for `decode`.
        limits: {field name: number}; values must lie from 0 to below it.

    Raises:
        UserError: the file holds no record, is damaged, lacks a key, holds more numbers than the
            flags say, fields that do not go together, no token or a value out of range; the
            message names file, record, key and number.
    """
    number = 0
    for number, serialized in enumerate(read(path), start=1):
        check_record("%s record %d" % (path, number), serialized, schema, sizes, limits)
        if not all_records:
            return
    if not number:
        raise UserError("%s holds no record: make it again, or leave it out" % path)


def check_record(place, serialized, schema, sizes, limits=None):
    """Checks one serialised record as `check` does; place: how a complaint names it."""
    features, limits = _parse(place, serialized, schema), limits or {}
    first_of_size = {}
    for field in schema:
        numbers = _numbers(features, field)
        _check_length(place, field, len(numbers), sizes, first_of_size)
        limit = limits.get(field.name)
        if limit is not None and not all(0 <= value < limit for value in numbers):
            raise UserError(
                "%s: %s holds %d, but values lie from 0 to %d with this configuration; use the "
                "configuration and vocabulary that the records were made for"
                % (place, field.name, max(numbers, key=abs), limit - 1))
    count = len(features["input_ids"].int64_list.value)
    if not count:
        raise UserError("%s: input_ids holds no number; make the records again" % place)
    if POSITIONS in features:
        count = max((number for number, value in enumerate(
            features["input_mask"].int64_list.value, start=1) if value), default=0)
        if not count:
            raise UserError("%s: input_mask says that all is padding; make the records again"
                            % place)
    beyond = [value for value in features[POSITIONS].int64_list.value
              if not 0 <= value < count] if POSITIONS in features else ()
    if beyond:
        raise UserError("%s: %s holds %d, but the record has %d tokens; make the records again"
                        % (place, POSITIONS, beyond[0], count))


def _check_length(place, field, found, sizes, first_of_size):
    """Checks the length of a field; first_of_size: {size name: (field name, length)} so far."""
    if field.length not in sizes:
        if found != field.length:
            raise UserError("%s: %s holds %d numbers where %d are expected; make it again"
                            % (place, field.name, found, field.length))
        return
    most = sizes[field.length]
    if most is not None and found > most:
        raise UserError("%s: %s holds %d numbers where there may be %d; use --%s=%d, or make the "
                        "records again" % (place, field.name, found, most,
                                           FLAGS_OF_SIZES[field.length], found))
    name, length = first_of_size.setdefault(field.length, (field.name, found))
    if found != length:
        raise UserError("%s: %s holds %d numbers, %s %d; make the records again"
                        % (place, name, length, field.name, found))


def _parse(place, serialized, schema):
    """Returns the features of a serialised record, which hold all keys of the schema."""
    features = _features(place, serialized)
    for field in schema:
        if field.name not in features:
            raise UserError("%s lacks the key %s; it holds: %s"
                            % (place, field.name, ", ".join(sorted(features)) or "nothing"))
    return features


def _features(place, serialized):
    """Returns {key: Feature} of a serialised record; UserError names its place if it is none."""
    example = tf.train.Example()
    try:
        example.ParseFromString(serialized)
    except Exception as error:  # noqa: BLE001 - protobuf's DecodeError moved between releases
        raise UserError("%s is no tf.train.Example: %s" % (place, error)) from error
    return example.features.feature


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
