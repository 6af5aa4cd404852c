"""Input, losses and evaluation arithmetic of pre-training."""

import numpy as np
import pytest
from helpers import pretraining_rows, write_records

import pretraining
import records
from errors import UserError

import tensorflow.compat.v1 as tf

SIZES = {"sequence": 12, "predictions": 3}


@pytest.fixture()
def paths(tmp_path):
    """Three files of 3, 4 and 5 records, told apart by their first id."""
    rows = pretraining_rows(12)
    for number, row in enumerate(rows):
        row["input_ids"][0] = number
    return [write_records(tmp_path / ("%d.tfrecord" % i), part)
            for i, part in enumerate((rows[:3], rows[3:7], rows[7:]))]


def first_ids(input_fn, batch_size, batches):
    with tf.Graph().as_default(), tf.Session() as session:
        features = tf.data.make_one_shot_iterator(input_fn({"batch_size": batch_size})).get_next()
        found = []
        for _ in range(batches):
            try:
                found.append(list(session.run(features)["input_ids"][:, 0]))
            except tf.errors.OutOfRangeError:
                break
        return found


def test_evaluation_reads_every_record_once_in_order(paths):
    found = first_ids(pretraining.input_fn_builder(paths, SIZES, False), 5, 99)
    assert [len(batch) for batch in found] == [5, 5, 2]
    assert [i for batch in found for i in batch] == list(range(12))
    full = first_ids(pretraining.input_fn_builder(paths, SIZES, False, drop_remainder=True), 5, 99)
    assert [len(batch) for batch in full] == [5, 5]


def test_training_sees_every_record_once_an_epoch_in_the_seeds_order(paths):
    def epochs(seed):
        found = first_ids(pretraining.input_fn_builder(paths, SIZES, True, seed), 4, 6)
        flat = [i for batch in found for i in batch]
        return flat[:12], flat[12:]

    first, second = epochs(1)
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert epochs(1) == (first, second) and epochs(2) != (first, second)


def test_a_batch_larger_than_the_data_is_filled_by_repeating(paths):
    found = first_ids(pretraining.input_fn_builder(paths, SIZES, True, 1), 30, 1)
    assert len(found[0]) == 30 and set(found[0]) == set(range(12))


def test_evaluation_steps(paths):
    assert pretraining.evaluation_steps(paths, 5, 0, False) == (3, 12, 12)
    assert pretraining.evaluation_steps(paths, 5, 0, True) == (2, 10, 12)
    assert pretraining.evaluation_steps(paths, 5, 1, False) == (1, 5, 12)
    assert pretraining.evaluation_steps(paths, 5, 100, False) == (3, 12, 12)
    with pytest.raises(UserError, match="can never be filled from 12 records"):
        pretraining.evaluation_steps(paths, 13, 0, True)


def test_the_masked_loss_by_hand():
    logits = np.log(np.array([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]], np.float32))
    with tf.Graph().as_default(), tf.Session() as session:
        loss, nll = session.run(pretraining.masked_lm_loss(
            tf.constant(logits), tf.constant([0, 1, 0]), tf.constant([1.0, 1.0, 0.0])))
    np.testing.assert_allclose(nll, -np.log([0.5, 0.75, 0.9]), atol=1e-6)
    assert loss == pytest.approx((nll[0] + nll[1]) / (2 + 1e-5), abs=1e-6)


def test_check_names_file_record_and_key(tmp_path):
    rows = pretraining_rows(3)
    del rows[1]["masked_lm_ids"]
    schema = [field for field in records.PRETRAINING if field.name != "masked_lm_ids"]
    path = str(tmp_path / "x.tfrecord")
    records.write(path, [records.encode(records.PRETRAINING, rows[0]),
                         records.encode(schema, rows[1])])
    records.check(path, records.PRETRAINING, SIZES)
    with pytest.raises(UserError, match="x.tfrecord record 2 lacks the key masked_lm_ids"):
        records.check(path, records.PRETRAINING, SIZES, all_records=True)
    with pytest.raises(UserError, match="input_ids holds 59|input_ids holds \\d+, but values"):
        records.check(path, records.PRETRAINING, SIZES, {"input_ids": 3})
    records.write(path, [])
    with pytest.raises(UserError, match="holds no record"):
        records.check(path, records.PRETRAINING, SIZES)
    records.write(path, [b"no example at all \xff"])
    with pytest.raises(UserError, match="record 1 is no tf.train.Example|record 1 lacks the key"):
        records.check(path, records.PRETRAINING, SIZES)
