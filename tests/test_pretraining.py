"""Input, losses and evaluation arithmetic of pre-training."""

import json

import numpy as np
import pytest
from helpers import pretraining_rows, read, read_checkpoint, write_checkpoint, write_records

import curves
import estimators
import files
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


def test_accuracy_of_a_batch_counts_what_has_weight():
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant([[2.0, 1.0], [0.0, 3.0], [5.0, 0.0], [1.0, 0.0]])
        ids = tf.constant([0, 0, 1, 0])
        found = session.run([
            pretraining.batch_accuracy(logits, ids, tf.constant(weights), name)
            for name, weights in (("all", [1.0] * 4), ("two", [1.0, 1.0, 0.0, 0.0]),
                                  ("none", [0.0] * 4))])
    assert found == [0.5, 0.5, 0.0]  # no NaN where a batch has nothing masked


def test_results_have_the_known_names_too():
    results = pretraining.evaluation_results(
        {"sentence_order_accuracy": 0.5, "sentence_order_loss": 0.7, "loss": 1.0}, 5, 8)
    assert results == {
        "sentence_order_accuracy": 0.5, "next_sentence_accuracy": 0.5, "loss": 1.0,
        "sentence_order_loss": 0.7, "next_sentence_loss": 0.7, "eval_records": 5,
        "eval_records_total": 8, "eval_coverage": "0.6250"}


def test_the_best_checkpoint_is_kept_beside_the_others(tmp_path, capsys):
    losses = {2: 3.0, 4: 2.0, 6: 2.5}
    for step in losses:
        write_checkpoint(tmp_path / ("model.ckpt-%d" % step), {"x": np.float32([step])})
    asked = []

    def evaluate_one(prefix):
        asked.append(int(prefix.rsplit("-", 1)[1]))
        return {"masked_lm_loss": np.float32(losses[asked[-1]]), "masked_lm_accuracy": 0.1,
                "sentence_order_accuracy": 0.5, "global_step": np.int64(asked[-1])}

    results, kept = pretraining.evaluate_all(str(tmp_path), None, evaluate_one, "data")
    assert results == {"masked_lm_loss": 2.0, "masked_lm_accuracy": 0.1,
                       "sentence_order_accuracy": 0.5, "global_step": 4}
    assert kept == str(tmp_path / "model.ckpt-best")
    assert read_checkpoint(kept) == {"x": [4.0]}
    assert "Best: model.ckpt-4, masked LM loss 2.0000" in capsys.readouterr().err
    rows = json.loads(read(tmp_path / "eval_results.json").decode())["checkpoints"]
    assert [row["masked_lm_loss"] for row in rows] == [3.0, 2.0, 2.5]
    # The kept copy is none of the run's own; a better one takes its place.
    losses[8] = 1.0
    write_checkpoint(tmp_path / "model.ckpt-8", {"x": np.float32([8])})
    pretraining.evaluate_all(str(tmp_path), None, evaluate_one, "data")
    assert asked == [2, 4, 6, 8] and read_checkpoint(kept) == {"x": [8.0]}


@pytest.mark.parametrize("total, first_points", [
    (12, [1, 2, 3]), (1500, [3, 6, 9]), (10 ** 6, [100, 200, 300])])
def test_long_runs_have_no_more_points_than_can_be_drawn(tmp_path, total, first_points):
    last = first_points[-1]
    with tf.Graph().as_default():
        step = tf.train.get_or_create_global_step()
        with tf.control_dependencies([tf.cast(step, tf.float32, name="followed")]):
            train_op = step.assign_add(1)
        hook = estimators.ProgressHook(
            "train", total, [estimators.Scalar("before", "followed:0", None)], str(tmp_path), 4)
        with tf.train.SingularMonitoredSession(hooks=[hook]) as session:
            for _ in range(last + 1):
                session.run(train_op)
    found = curves.read(str(tmp_path))
    assert found["before"][:3] == [(step, step - 1.0) for step in first_points]
    assert [step for step, _ in found["examples/sec"]][:2] == first_points[1:]


def test_the_steps_of_an_evaluation_are_counted(capsys):
    with tf.Graph().as_default():
        step = tf.train.get_or_create_global_step()
        hook = estimators.ProgressHook("evaluate x", 3)
        with tf.train.SingularMonitoredSession(hooks=[hook]) as session:
            for _ in range(3):
                session.run(step)
    assert "evaluate x  step 3/3" in capsys.readouterr().err


def test_evaluation_data_are_told_apart_by_content(paths, tmp_path):
    keys = [pretraining.evaluation_key(paths, (2, 8, 12)),
            pretraining.evaluation_key(paths[:2], (2, 8, 12)),
            pretraining.evaluation_key(paths, (3, 12, 12))]
    moved = [str(tmp_path / ("moved-%d" % i)) for i in range(len(paths))]
    for path, place in zip(paths, moved):
        files.copy(path, place)
    assert pretraining.evaluation_key(moved, (1, 8, 12)) == keys[0]
    content = read(paths[0])
    with open(paths[0], "wb") as stream:  # as large, and other
        stream.write(content[::-1])
    keys.append(pretraining.evaluation_key(paths, (2, 8, 12)))
    assert len(set(keys)) == 4


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
