"""Input, losses and evaluation arithmetic of pre-training."""

import collections
import json

import numpy as np
import pytest
from helpers import (TINY, TINY_GOOGLE, batches_of, google_pretraining_weights, load_weights,
                     pretraining_rows, pretraining_weights, read, read_checkpoint,
                     write_checkpoint, write_records)

import curves
import estimators
import files
import modeling
import modeling_google
import optimization
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
    return [list(batch["input_ids"][:, 0])
            for batch in batches_of(input_fn, batch_size, batches)]


def test_evaluation_reads_every_record_once_in_order(paths):
    found = first_ids(pretraining.input_fn_builder(paths, SIZES, False), 5, 99)
    assert [len(batch) for batch in found] == [5, 5, 2]
    assert [i for batch in found for i in batch] == list(range(12))
    full = first_ids(pretraining.input_fn_builder(paths, SIZES, False, fixed_shapes=True,
                                                  drop_remainder=True), 5, 99)
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


def unpadded(row):
    """A record of tests as create_pretraining_data.py writes it."""
    ends = {"sequence": int(sum(row["input_mask"])),
            "predictions": int(np.count_nonzero(row["masked_lm_weights"]))}
    return {field.name: row[field.name][:ends.get(field.length)]
            for field in records.PRETRAINING}


def all_batches(path, batch_size, is_training=False, limit=99, **settings):
    return batches_of(pretraining.input_fn_builder([path], SIZES, is_training, 1, **settings),
                      batch_size, limit)


def test_records_with_and_without_padding_make_the_same_batches(tmp_path):
    rows = pretraining_rows(11)
    padded = write_records(tmp_path / "padded", rows)
    plain = write_records(tmp_path / "plain", [unpadded(row) for row in rows])
    for settings in ({}, {"fixed_shapes": True}, {"is_training": True, "limit": 6}):
        found, expected = [all_batches(path, 3, **settings) for path in (plain, padded)]
        assert len(found) == len(expected) >= 4
        for one, other in zip(found, expected):
            assert all(np.array_equal(one[name], other[name]) for name in other)
            longest = SIZES["sequence"] if "fixed_shapes" in settings else max(
                one["input_mask"].sum(1))
            assert one["input_ids"].shape[1] == longest
    for row, found in zip(rows, all_batches(plain, 1, fixed_shapes=True)):
        for name, value in row.items():
            if name.startswith("masked_lm"):  # what is masked without weight is padding as well
                value = np.array(value) * (np.array(row["masked_lm_weights"]) > 0)
            np.testing.assert_array_equal(found[name][0], value)


def test_training_puts_records_of_like_length_together(tmp_path):
    rows = [unpadded(row) for row in pretraining_rows(400)]
    path = write_records(tmp_path / "many", rows)
    assert 11 <= pretraining.batches_of_a_window([path], 4) <= 14  # 400 / 4 / 8, about
    assert pretraining.batches_of_a_window([path], 40) == 1  # too few to group them
    batches = all_batches(path, 4, is_training=True, limit=300)
    masks = [batch["input_mask"] for batch in batches]
    assert all(mask.shape[0] == 4 for mask in masks)
    share = sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks)
    in_order = all_batches(path, 4)
    assert share > 0.93 > 0.9 > np.mean([batch["input_mask"].mean() for batch in in_order])
    # 300 batches are three epochs, but that the last window may have been drawn from the next.
    seen = collections.Counter(tuple(row[:size]) for batch in batches for row, size in zip(
        batch["input_ids"], batch["input_mask"].sum(1)))
    assert len(seen) == len({tuple(row["input_ids"]) for row in rows})
    assert set(seen.values()) <= {2, 3, 4} and list(seen.values()).count(3) > 300
    again = all_batches(path, 4, is_training=True, limit=20)
    assert all(np.array_equal(one["input_ids"], other["input_ids"])
               for one, other in zip(batches, again))


@pytest.mark.parametrize("change, message", [
    ({"input_mask": [1, 1, 1]}, "record 2: input_ids holds 12 numbers, input_mask 3"),
    ({"masked_lm_ids": [7, 8, 9, 10]}, "masked_lm_ids holds 4 numbers where there may be 3; "
     "use --max_predictions_per_seq=4"),
    ({"input_ids": [1] * 13}, "input_ids holds 13 numbers where there may be 12; use "
     "--max_seq_length=13"),
    ({"next_sentence_labels": [0, 1]}, "next_sentence_labels holds 2 numbers where 1 are")])
def test_a_record_whose_fields_do_not_go_together_is_named(tmp_path, change, message):
    rows = pretraining_rows(3)
    rows[1].update(change)
    path = write_records(tmp_path / "bad", rows)
    with pytest.raises(UserError, match=message), records.naming_the_damaged(
            [path], records.PRETRAINING, SIZES):
        all_batches(path, 1)


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
            pretraining.batch_accuracy(logits, ids, tf.constant(weights), sum(weights))
            for weights in ([1.0] * 4, [1.0, 1.0, 0.0, 0.0], [0.0] * 4)])
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


# ---------------------------------------------------------------------------------------------
# A batch part by part
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("config, model_class, weights", [
    (modeling.BertConfig.from_dict(TINY), modeling.BertModel, pretraining_weights()),
    (modeling_google.AlbertConfig.from_dict(TINY_GOOGLE), modeling_google.AlbertModel,
     google_pretraining_weights())])
def test_unequal_parts_give_the_gradients_of_the_batch(config, model_class, weights):
    rows = pretraining_rows(8)
    for row in rows[:3]:  # fewer masked words in the first part than in the second
        row["masked_lm_weights"] = np.array([1.0, 0.0, 0.0], np.float32)

    def found(parts):
        with tf.Graph().as_default(), tf.Session() as session:
            features = {name: tf.constant(
                np.array([row[name] for row in rows]),
                tf.float32 if name == "masked_lm_weights" else tf.int32) for name in rows[0]}
            totals = pretraining.totals_of(features)
            gradients, scalars = optimization.differentiate(
                lambda part: pretraining.losses(
                    pretraining.outputs_of(config, model_class, part, True), totals),
                features, parts)
            load_weights(session, weights)
            return session.run((gradients, scalars))

    gradients, scalars = found(1)
    of_parts, scalars_of_parts = found(2)
    for name, value in scalars.items():
        assert scalars_of_parts[name] == pytest.approx(value, abs=1e-5), name
    for name, one, other in zip(weights, of_parts, gradients):
        np.testing.assert_allclose(one, other, atol=1e-6, err_msg=name)


def test_workers_share_the_records(paths):
    context = collections.namedtuple(
        "Context", "num_input_pipelines input_pipeline_id num_replicas_in_sync")

    def epoch_of(files_to_read, workers, worker, count):
        input_fn = pretraining.input_fn_builder(files_to_read, SIZES, True, 1)
        with tf.Graph().as_default(), tf.Session() as session:
            ids = tf.data.make_one_shot_iterator(input_fn(
                {"batch_size": 1}, context(workers, worker, workers))).get_next()["input_ids"]
            return sorted(session.run(ids)[0, 0] for _ in range(count))

    assert epoch_of(paths, 2, 0, 8) == [0, 1, 2, 7, 8, 9, 10, 11]  # files 1 and 3
    assert epoch_of(paths, 2, 1, 4) == [3, 4, 5, 6]
    assert [epoch_of(paths[:1], 3, worker, 1) for worker in range(3)] == [[0], [1], [2]]


class TpuHost(object):
    """What a TPUEstimator gives an input_fn as params["context"]: which host calls."""

    def __init__(self, number, hosts, cores):
        self._deployment = ("/job:worker/task:%d" % number, number, hosts, cores)

    def current_input_fn_deployment(self):
        return self._deployment


def test_hosts_of_a_tpu_share_the_records_and_go_on_where_they_were(paths):
    def ids(host, batches, first_step=0):
        input_fn = pretraining.input_fn_builder(paths, SIZES, True, 1, fixed_shapes=True,
                                                first_step=first_step)
        return first_ids(lambda params: input_fn(dict(params, context=host)), 1, batches)

    hosts = [TpuHost(number, 2, 3) for number in range(2)]
    assert sorted(sum(ids(hosts[0], 8), [])) == [0, 1, 2, 7, 8, 9, 10, 11]
    assert sorted(sum(ids(hosts[1], 4), [])) == [3, 4, 5, 6]
    for host in hosts:  # a step takes a batch for each of the host's three cores
        assert ids(host, 12)[6:] == ids(host, 6, first_step=2)
