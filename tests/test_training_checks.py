"""Training that goes wrong: NaN and Infinity, a loss that stays, settings far from known ones."""

import os

import numpy as np
import pytest
from helpers import (TINY, assert_user_error, pretraining_rows, read_checkpoint, run_here,
                     write_config, write_records, write_vocabulary)

import files
import modeling
import optimization
import run_classifier
import run_pretraining
import training_checks
from errors import UserError

import tensorflow.compat.v1 as tf

TEXTS = [("天气真好今天很好", "好"), ("今天一般", "坏"), ("苹果坏了今天不好", "坏"),
         ("苹果真好", "好")]


# ---------------------------------------------------------------------------------------------
# Numbers
# ---------------------------------------------------------------------------------------------

class Model(object):
    """Two variables, of which a fed gradient is taken, as a training with NumbersHook."""

    def __init__(self, loss_scaling=False, **settings):
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.fed = tf.placeholder(tf.float32, [2])
            self.variables = [tf.get_variable(name, initializer=tf.ones([2]))
                              for name in ("first", "second")]
            tf.train.get_or_create_global_step()
            loss = (tf.reduce_sum(self.variables[0] * self.fed)
                    + tf.reduce_sum(self.variables[1] * tf.square(self.fed)))
            tf.identity(loss, name="total_loss")
            scale = optimization.LossScale() if loss_scaling else None
            gradients = tf.gradients(loss if scale is None else scale.up(loss), self.variables)
            train_op = optimization.create_optimizer(
                None, 0.1, 100, 0, False, "lamb", gradients=gradients, loss_scale=scale)
            hook = training_checks.NumbersHook("some_folder", skips_overflows=loss_scaling,
                                               **settings)
            self.session = tf.train.SingularMonitoredSession(hooks=[hook])
            self.train_op = train_op

    def step(self, *fed):
        return self.session.run(self.train_op, {self.fed: fed})

    def state(self):
        raw = self.session.raw_session()
        return raw.run(self.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES))


@pytest.mark.parametrize("bad, said", [
    ((1.0, float("nan")), ("first: nan", "second: nan")),
    ((1e15, 1.0), ("second: inf", "first: 1e+15")),
    ((float("inf"), 1.0), ("first: inf", "second: inf"))])
def test_bad_gradients_update_nothing_and_are_named(bad, said):
    model = Model()
    model.step(1.0, 2.0)
    before = model.state()
    with pytest.raises(UserError) as stop:
        model.step(*bad)
    text = str(stop.value)
    assert "after 1 steps, with the learning rate 0.099" in text
    assert "no longer numbers" in text and "some_folder" in text and "lower --learning_rate" in text
    assert text.index(said[0]) < text.index(said[1])
    model = Model()
    model.step(1.0, 2.0)
    raw = model.session.raw_session()
    raw.run(model.train_op, {model.fed: bad})
    for one, other in zip(before, model.state()):
        np.testing.assert_array_equal(one, other)


def test_the_norm_is_tensorflows_own():
    gradients = [tf.constant([3.0, 4.0]), None, tf.constant([[12.0]])]
    with tf.Session() as session:
        clipped, norm = optimization.clip_gradients(gradients, 1.0)
        expected, same = tf.clip_by_global_norm(gradients, 1.0)
        found = session.run([norm, same, clipped[0], expected[0], "gradient_squares:0"])
    assert found[0] == found[1] == 13.0
    np.testing.assert_array_equal(found[2], found[3])
    np.testing.assert_array_equal(found[4], [12.5, 72.0])


def test_an_overflow_is_skipped_with_loss_scaling_but_not_for_ever():
    model = Model(loss_scaling=True)
    for _ in range(training_checks.MOST_OVERFLOWS):
        model.step(float("nan"), 1.0)
    model.step(1.0, 1.0)  # and all is forgotten
    for _ in range(training_checks.MOST_OVERFLOWS):
        model.step(float("nan"), 1.0)
    with pytest.raises(UserError, match="no longer numbers"):
        model.step(float("nan"), 1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checks")
    write_config(folder, num_hidden_layers=1)
    write_vocabulary(folder, [text for text, _ in TEXTS])
    (folder / "data").mkdir()
    for split in ("train", "dev"):
        files.write_text(str(folder / "data" / (split + ".tsv")), "text\tlabel\n" + "".join(
            "%s\t%s\n" % row for row in TEXTS * 3))
    write_records(folder / "data.tfrecord", pretraining_rows(8))
    return str(folder)


def flags_for(folder, *others):
    return ("--bert_config_file=%s/config.json" % folder, "--num_threads=1", "--do_train",
            "--max_seq_length=12", "--train_batch_size=4", "--save_checkpoints_steps=1") + others


def fine_tune(folder, *others):
    return run_here(run_classifier, *flags_for(
        folder, "--task_name=sentence", "--data_dir=%s/data" % folder,
        "--vocab_file=%s/vocab.txt" % folder, *others))


@pytest.mark.parametrize("optimizer", ["lamb", "adamw"])
def test_training_that_explodes_leaves_good_checkpoints(folder, tmp_path, optimizer):
    result = run_here(run_pretraining, *flags_for(
        folder, "--input_file=%s/data.tfrecord" % folder, "--output_dir=%s" % tmp_path,
        "--max_predictions_per_seq=3", "--num_warmup_steps=0", "--optimizer=" + optimizer,
        "--learning_rate=1e35", "--num_train_steps=30"))
    assert_user_error(result, "no longer numbers", "Largest gradients:\n  ", "--learning_rate")
    assert "WARNING: --learning_rate=1e+35 is far above" in result[2]
    saved = [name[:-len(".index")] for name in os.listdir(str(tmp_path)) if ".index" in name]
    assert 1 <= len(saved) < 30
    for name in saved:
        for values in read_checkpoint(tmp_path / name).values():
            assert np.isfinite(values).all()


# ---------------------------------------------------------------------------------------------
# Warnings
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("optimizer, rate, batch_size, said", [
    ("adamw", 2e-5, 16, None), ("adamw", 1e-4, 64, None), ("adamw", 5e-5, 32, None),
    ("adamw", 1e-2, 32, "far above what AdamW takes with 32 examples a step, about 3.5e-05"),
    ("adamw", 1e-7, 32, "far below"), ("lamb", 0.00176, 4096, None), ("lamb", 5e-5, 32, None),
    ("lamb", 0.005, 32768, None), ("lamb", 0.1, 256, "far above what LAMB takes"),
    ("lamb", 2e-5, 4096, "raise it")])
def test_learning_rates_far_from_the_published_ones(capsys, optimizer, rate, batch_size, said):
    training_checks.warn_of_rate(optimizer, rate, batch_size)
    err = capsys.readouterr().err
    assert (said is None and not err) or (said and said in err)


def test_large_models_without_dropout(capsys):
    def warned(**changes):
        training_checks.warn_of_no_dropout(modeling.BertConfig.from_dict(dict(TINY, **changes)))
        return capsys.readouterr().err

    assert "set hidden_dropout_prob and attention_probs_dropout_prob to 0.1" in warned(
        hidden_size=1024)
    assert not warned() and not warned(hidden_size=1024, hidden_dropout_prob=0.1)


def test_all_taken_for_one_class(capsys):
    labels = ("a", "b")
    for matrix in ([[3, 1], [0, 2]], [[0, 0], [0, 5]]):  # both classes; nothing but one to find
        training_checks.warn_of_one_class(np.array(matrix), labels, "x")
    assert not capsys.readouterr().err
    training_checks.warn_of_one_class(np.array([[0, 3], [0, 2]]), labels, "model.ckpt-3")
    err = capsys.readouterr().err
    assert 'WARNING: model.ckpt-3 takes every example for "b"' in err and "class_weights" in err


def test_one_class_is_told_by_a_run(folder, tmp_path):
    status, _, err = fine_tune(folder, "--output_dir=%s" % tmp_path, "--max_train_steps=1",
                               "--learning_rate=1e-6", "--do_eval")
    assert status == 0, err
    assert err.count("takes every example for") == 1


def test_the_loss_of_chance():
    assert training_checks.chance_loss([5, 5]) == pytest.approx(np.log(2))
    assert training_checks.chance_loss([9, 0, 1]) == pytest.approx(
        -0.9 * np.log(0.9) - 0.1 * np.log(0.1))


@pytest.mark.parametrize("losses, warns", [
    (lambda step: 0.69, True), (lambda step: 0.69 + 0.3 * (step % 2), True),
    (lambda step: 0.7 - 0.001 * step, False), (lambda step: 0.01, False),
    (lambda step: 0.9 - 0.0002 * step, False)])
def test_a_loss_that_does_not_move_is_said_once(capsys, losses, warns):
    hook = training_checks.NumbersHook("x", chance=np.log(2))
    for step in range(training_checks.STEPS_TO_MOVE * 2):
        hook._watch(losses(step))
    assert capsys.readouterr().err.count("the loss does not move") == int(warns)
