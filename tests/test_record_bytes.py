"""record_bytes.py: the bytes are protobuf's and TensorFlow's."""

import gzip
import random

import numpy as np
import pytest

import record_bytes
import records
from errors import UserError
from record_bytes import FLOAT, INT64

import tensorflow.compat.v1 as tf


def test_records_are_those_of_protobuf():
    rng = random.Random(1)
    kinds = {field.name: field.dtype for field in records.PRETRAINING}
    rows = []
    for length, masked in [(5, 0), (1, 1), (130, 20), (512, 77), (3000, 300), (40000, 0)]:
        first = rng.randint(0, length)
        rows.append({
            "input_ids": [rng.choice([0, 1, 127, 128, 16383, 16384, 21127, 2 ** 28 - 1])
                          for _ in range(length)],
            "input_mask": [1] * length, "segment_ids": [0] * first + [1] * (length - first),
            "masked_lm_positions": [rng.randrange(length) for _ in range(masked)],
            "masked_lm_ids": [rng.randrange(30000) for _ in range(masked)],
            "masked_lm_weights": [1.0] * masked, "next_sentence_labels": [rng.randrange(2)]})

    def column(name):
        values = [row[name] for row in rows]
        return record_bytes.whole_numbers(
            np.array([number for row in values for number in row]),
            np.append(0, np.cumsum([len(row) for row in values])))

    columns = {name: column(name) for name in ("input_ids", "masked_lm_positions",
                                               "masked_lm_ids", "next_sentence_labels")}
    columns["input_mask"] = record_bytes.ones([len(row["input_mask"]) for row in rows])
    columns["segment_ids"] = record_bytes.zeros_then_ones(
        *zip(*[(row["segment_ids"].count(0), row["segment_ids"].count(1)) for row in rows]))
    columns["masked_lm_weights"] = record_bytes.weights(
        [len(row["masked_lm_weights"]) for row in rows])
    made = record_bytes.encode(columns, kinds, len(rows))
    assert made == [records.encode(records.PRETRAINING, row) for row in rows]


def test_kinds_are_those_of_the_schema():
    assert (INT64, FLOAT) == ("int64", "float32")


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_files_are_those_of_tensorflow(tmp_path, ending):
    rng = random.Random(2)
    made = [bytes(bytearray(rng.randrange(256) for _ in range(size)))
            for size in (0, 1, 7, 300, 70000)]
    path, other = tmp_path / ("mine.tfrecord" + ending), tmp_path / "theirs.tfrecord"
    assert record_bytes.write(str(path), iter(made)) == len(made)
    with tf.io.TFRecordWriter(str(other)) as writer:
        for record in made:
            writer.write(record)
    content = (gzip.decompress if ending else bytes)(path.read_bytes())
    assert content == other.read_bytes()
    assert list(records.read(str(path))) == made


def test_the_same_records_are_the_same_compressed_bytes(tmp_path, monkeypatch):
    for name in ("a.gz", "b.gz"):
        record_bytes.write(str(tmp_path / name), [b"record"] * 9)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_a_lacking_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "google_crc32c", None)
    record_bytes._checksum.cache_clear()
    try:
        with pytest.raises(UserError, match="pip install google-crc32c"):
            record_bytes.framed(b"x")
    finally:
        record_bytes._checksum.cache_clear()
