"""Curves: event files of resumed, killed and evaluated runs, and the picture drawn of them."""

import os

import numpy as np
import pytest
from helpers import assert_user_error, run_script

import curves

import tensorflow.compat.v1 as tf


def scalar(tag, step, value, time=0.0):
    return tf.Event(step=step, wall_time=time, summary=tf.Summary(
        value=[tf.Summary.Value(tag=tag, simple_value=value)]))


def tensor(tag, step, array):
    return tf.Event(step=step, summary=tf.Summary(
        value=[tf.Summary.Value(tag=tag, tensor=tf.make_tensor_proto(array))]))


def begin(step, time):
    """What the hook that saves checkpoints notes when a training begins at a step."""
    return tf.Event(step=step, wall_time=time, session_log=tf.SessionLog(
        status=tf.SessionLog.CHECKPOINT, checkpoint_path="model.ckpt"))


def write_events(folder, second, events):
    """Writes an event file begun at a second; returns its path."""
    os.makedirs(str(folder), exist_ok=True)
    path = os.path.join(str(folder), "events.out.tfevents.%010d.host" % second)
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(tf.Event(file_version="brain.Event:2").SerializeToString())
        for event in events:
            writer.write(event.SerializeToString())
    return path


# ---------------------------------------------------------------------------------------------
# One file
# ---------------------------------------------------------------------------------------------

def test_scalars_of_both_kinds_are_read(tmp_path):
    write_events(tmp_path, 1, [
        scalar("loss", 1, 3.0), tensor("loss", 2, np.float32(2.5)), tensor("loss", 3, [2.0]),
        tensor("seen", 3, np.int64(7)), tensor("words", 3, "text"), tensor("vector", 3, [1., 2.]),
        tf.Event(step=3, summary=tf.Summary(value=[tf.Summary.Value(
            tag="picture", image=tf.Summary.Image(height=1, width=1))]))])
    assert curves.read(str(tmp_path)) == {"loss": [(1, 3.0), (2, 2.5), (3, 2.0)],
                                          "seen": [(3, 7.0)]}


def test_what_the_summary_ops_write_is_read(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        summary = session.run(tf.summary.scalar("learning_rate", 0.5))
        writer = tf.summary.FileWriter(str(tmp_path))
        writer.add_summary(summary, 10)
        writer.close()
    assert curves.read(str(tmp_path)) == {"learning_rate": [(10, 0.5)]}


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_a_record_cut_short_ends_a_file_without_failing(tmp_path, cut):
    path = write_events(tmp_path, 1, [scalar("loss", step, 1.0) for step in (1, 2, 3)])
    with open(path, "rb+") as stream:
        stream.truncate(os.path.getsize(path) - cut)
    write_events(tmp_path, 2, [scalar("loss", 4, 1.0)])
    assert curves.read(str(tmp_path)) == {"loss": [(1, 1.0), (2, 1.0), (4, 1.0)]}


def test_an_empty_and_a_foreign_file_hold_nothing(tmp_path):
    (tmp_path / "events.out.tfevents.0000000001.host").write_bytes(b"")
    (tmp_path / "events.out.tfevents.0000000002.host").write_bytes(b"no events at all" * 9)
    (tmp_path / "model.ckpt-1.index").write_bytes(b"something else")
    assert curves.read(str(tmp_path)) == {}
    assert curves.read(str(tmp_path / "missing")) == {}


# ---------------------------------------------------------------------------------------------
# A run that went on
# ---------------------------------------------------------------------------------------------

def test_files_are_in_the_order_of_their_beginning(tmp_path):
    for name in ("events.out.tfevents.1000.a", "events.out.tfevents.999.b", "events.out.other"):
        (tmp_path / name).write_bytes(b"")
    assert [os.path.basename(path) for path in curves.event_files(str(tmp_path))] == [
        "events.out.tfevents.999.b", "events.out.tfevents.1000.a"]


def test_of_a_step_that_is_there_twice_the_later_file_counts(tmp_path):
    write_events(tmp_path, 20, [scalar("loss", 2, 20.0, 21.), scalar("loss", 3, 30.0, 22.)])
    write_events(tmp_path, 10, [scalar("loss", 1, 1.0, 11.), scalar("loss", 2, 2.0, 12.)])
    assert curves.read(str(tmp_path)) == {"loss": [(1, 1.0), (2, 20.0), (3, 30.0)]}


def test_the_points_of_an_abandoned_future_are_dropped(tmp_path):
    # Stopped after step 30, gone on from the checkpoint of step 10, every 6th step noted now.
    write_events(tmp_path, 100, [begin(0, 100.)] + [
        scalar(tag, step, 1.0, 100. + step) for step in (5, 10, 15, 20, 25, 30)
        for tag in ("loss", "rate")])
    write_events(tmp_path, 200, [begin(10, 200.), scalar("loss", 16, 2.0, 201.),
                                 begin(18, 201.), scalar("loss", 22, 2.0, 202.)])
    assert curves.read(str(tmp_path)) == {
        "loss": [(5, 1.0), (10, 1.0), (16, 2.0), (22, 2.0)], "rate": [(5, 1.0), (10, 1.0)]}


def test_without_a_note_of_the_restart_the_first_point_of_a_tag_tells(tmp_path):
    # Two writers at the same time (a TPU's host and the Estimator): neither undoes the other.
    write_events(tmp_path, 100, [scalar("loss", step, 1.0, 100. + step) for step in (1, 2, 3, 4)])
    write_events(tmp_path, 101, [scalar("speed", step, 9.0, 101. + step) for step in (0, 2, 4)])
    write_events(tmp_path, 200, [scalar("loss", 3, 2.0, 201.)])
    assert curves.read(str(tmp_path)) == {"loss": [(1, 1.0), (2, 1.0), (3, 2.0)],
                                          "speed": [(0, 9.0), (2, 9.0), (4, 9.0)]}


# ---------------------------------------------------------------------------------------------
# Evaluations
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("place", [("eval",), ("eval", "eval"), ("eval", "eval_dev")])
def test_evaluations_are_read_in_any_order_of_their_steps(tmp_path, place):
    write_events(tmp_path, 1, [begin(0, 1.), scalar("loss", 10, 3.0, 2.)])
    folder = tmp_path.joinpath(*place)
    write_events(folder, 5, [scalar("loss", 10, 2.9, 5.), scalar("masked_lm_loss", 10, 2.0, 5.)])
    write_events(folder, 6, [scalar("loss", 30, 2.7, 6.), scalar("loss", 20, 2.8, 7.)])
    series = curves.read(str(tmp_path))
    assert list(series.items()) == [
        ("loss", [(10, 3.0)]), ("eval loss", [(10, pytest.approx(2.9)), (20, pytest.approx(2.8)),
                                              (30, pytest.approx(2.7))]),
        ("eval masked_lm_loss", [(10, 2.0)])]


def test_the_scripts_own_name_of_a_metric_counts(tmp_path):
    for order in ((("loss", 1.0), ("eval_loss", 2.0)), (("eval_loss", 2.0), ("loss", 1.0))):
        folder = tmp_path / order[0][0]
        write_events(folder / "eval", 1, [scalar(tag, 10, value) for tag, value in order])
        assert curves.read(str(folder)) == {"eval loss": [(10, 2.0)]}


def test_evaluations_of_an_abandoned_future_are_dropped(tmp_path):
    write_events(tmp_path, 100, [begin(0, 100.), scalar("loss", 10, 1.0, 101.)])
    write_events(tmp_path / "eval", 150, [scalar("loss", 10, 4.0, 150.),
                                          scalar("loss", 30, 4.0, 151.)])
    write_events(tmp_path, 200, [begin(10, 200.), scalar("loss", 20, 1.0, 201.)])
    write_events(tmp_path / "eval", 250, [scalar("loss", 20, 5.0, 250.)])
    assert curves.read(str(tmp_path))["eval loss"] == [(10, 4.0), (20, 5.0)]


def test_a_run_of_an_estimator(tmp_path):
    """Training stopped after step 8, gone on from step 4; both checkpoints evaluated between."""
    def model_fn(features, labels, mode):
        weight = tf.get_variable("weight", [], initializer=tf.ones_initializer())
        loss = tf.square(weight - features)
        train_op = tf.train.GradientDescentOptimizer(0.1).minimize(
            loss, tf.train.get_or_create_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    def input_fn():
        return tf.data.Dataset.from_tensors(3.0).repeat(99)

    config = tf.estimator.RunConfig(save_checkpoints_steps=4, save_summary_steps=1)
    folder = str(tmp_path)
    estimator = tf.estimator.Estimator(model_fn, folder, config)
    estimator.train(input_fn, max_steps=8)
    for step in (8, 4):
        tf.estimator.Estimator(model_fn, os.path.join(folder, "eval")).evaluate(
            input_fn, 1, checkpoint_path=os.path.join(folder, "model.ckpt-%d" % step))
    first = curves.read(folder)
    assert [step for step, _ in first["loss"]] == list(range(1, 9))
    assert [step for step, _ in first["eval loss"]] == [4, 8]

    tf.train.update_checkpoint_state(folder, os.path.join(folder, "model.ckpt-4"))
    tf.summary.FileWriterCache.clear()  # as in a process of its own
    _wait_for_another_second(folder)
    estimator.train(input_fn, max_steps=6)
    second = curves.read(folder)
    assert second["loss"] == [(step, pytest.approx(value)) for step, value in first["loss"][:6]]
    assert [step for step, _ in second["eval loss"]] == [4]


def _wait_for_another_second(folder):
    """Waits until a new event file gets a name of its own."""
    import time

    last = max(curves.event_files(folder))
    while "tfevents.%d." % time.time() in last:
        time.sleep(0.05)


# ---------------------------------------------------------------------------------------------
# The picture
# ---------------------------------------------------------------------------------------------

def test_the_picture_lies_beside_the_event_files(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    write_events(tmp_path, 1, [scalar("loss", step, 1.0 / step) for step in range(1, 9)])
    assert curves.draw(str(tmp_path))
    path = tmp_path / "curves.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr() == ("", "Curves: %s\n" % path)


def test_a_folder_without_scalars_is_told(tmp_path, capsys):
    assert curves.draw(str(tmp_path)) is False
    assert "holds no event files" in capsys.readouterr().err
    assert os.listdir(str(tmp_path)) == []


def test_as_a_script(tmp_path):
    pytest.importorskip("matplotlib")
    write_events(tmp_path, 1, [scalar("loss", 1, 2.0)])
    status, out, err = run_script("curves.py", "--output_dir=%s" % tmp_path)
    assert (status, out, err) == (0, "", "Curves: %s\n" % (tmp_path / "curves.png"))
    assert_user_error(run_script("curves.py", "--output_dir=%s" % (tmp_path / "none")),
                      "is no folder")
