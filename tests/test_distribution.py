"""Training on several devices: two virtual CPUs in one process, two workers on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from helpers import (assert_user_error, pretraining_rows, pretraining_weights, read,
                     read_checkpoint, run_here, write_checkpoint, write_config, write_records,
                     write_vocabulary)

import checkpoints
import curves
import distribution
import estimators
import files
import heads
import modeling
import optimization
import reference
import run_classifier
import run_pretraining
import runtime

import tensorflow.compat.v1 as tf

STEPS = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A configuration, a checkpoint and 24 records with unequal numbers of masked words."""
    folder = tmp_path_factory.mktemp("distribution")
    write_config(folder, num_hidden_layers=1)  # the graphs take most of the time
    write_checkpoint(folder / "init.ckpt", pretraining_weights())
    rows = pretraining_rows(24)
    for row in rows[::3]:
        row["masked_lm_weights"] = np.array([1.0, 0.0, 0.0], np.float32)
    write_records(folder / "data.tfrecord", rows)
    return str(folder)


def flags_for(folder, out, *others, **values):
    values = dict(dict(num_train_steps=STEPS, num_warmup_steps=2, learning_rate=0.01,
                       max_seq_length=12, max_predictions_per_seq=3), **values)
    return ["--bert_config_file=%s/config.json" % folder,
            "--input_file=%s/data.tfrecord" % folder, "--output_dir=" + out,
            "--init_checkpoint=%s/init.ckpt" % folder, "--do_train"] + [
                "--%s=%s" % item for item in values.items()] + list(others)


def train_here(folder, out, *others, **values):
    status, _, err = run_here(run_pretraining, *flags_for(folder, out, *others, **values))
    assert status == 0, err
    return err


@pytest.fixture()
def two_cpus(monkeypatch):
    """Makes two virtual CPUs what --distribution=mirrored finds."""
    session_config = estimators.session_config

    def with_two_cpus(run):
        config = session_config(run)
        config.device_count["CPU"] = 2
        return config

    monkeypatch.setattr(distribution, "local_devices", lambda: ["/cpu:0", "/cpu:1"])
    monkeypatch.setattr(estimators, "session_config", with_two_cpus)


def assert_same_weights(found, expected, tolerance=1e-5):
    assert set(found) == set(expected)
    for name, value in expected.items():
        if "/key/bias" not in name:  # its gradient is 0 but for rounding, which both scale up
            np.testing.assert_allclose(found[name], value, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("optimizer", ["lamb", "adamw"])
def test_two_devices_are_one_with_the_same_batch(folder, two_cpus, tmp_path, optimizer):
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    train_here(folder, one, train_batch_size=8, optimizer=optimizer)
    size = ("--train_batch_size=4",) if optimizer == "lamb" else (
        "--train_batch_size=2", "--gradient_accumulation_steps=2")
    err = train_here(folder, two, "--distribution=mirrored", *size, optimizer=optimizer)
    assert "31 of 31 variables" in err and "step 10/10" in err
    assert_same_weights(read_checkpoint(two + "/model.ckpt-10"),
                        read_checkpoint(one + "/model.ckpt-10"))
    # What is shown is of the whole batch too.
    found, expected = curves.read(two), curves.read(one)
    for tag in ("loss", "masked_lm_accuracy", "sentence_order_loss", "gradient_norm"):
        np.testing.assert_allclose(found[tag], expected[tag], atol=1e-4, err_msg=tag)


def test_fine_tuning_on_two_devices_is_as_on_one(two_cpus, tmp_path, monkeypatch):
    """With all methods, which sum over the devices on their own too."""
    methods = ("--fgm=0.5", "--r_drop=1", "--teacher_logits=teacher.tsv")
    monkeypatch.setattr(heads, "POOLED_DROPOUT", 0.0)
    write_config(tmp_path, num_hidden_layers=1)
    texts = [("今天很好", "1"), ("天气很坏", "0"), ("苹果坏了今天不好", "0"), ("好", "1"),
             ("今天真好苹果真好", "1"), ("不好", "0"), ("天气真好", "1"), ("坏了", "0")]
    write_vocabulary(tmp_path, [text for text, _ in texts])
    files.write_text(str(tmp_path / "train.tsv"),
                     "text\tlabel\n" + "".join("%s\t%s\n" % row for row in texts))
    files.write_text(str(tmp_path / "teacher.tsv"), "".join(
        "%d\t%d\n" % (number, 2 * number - 5) for number in range(len(texts))))
    monkeypatch.chdir(tmp_path)

    def weights(name, *others):
        # All examples are one step's, on one device or two: so the steps are the same.
        status, _, err = run_here(
            run_classifier, "--task_name=sentence", "--data_dir=%s" % tmp_path,
            "--bert_config_file=%s/config.json" % tmp_path, "--output_dir=%s" % (tmp_path / name),
            "--vocab_file=%s/vocab.txt" % tmp_path, "--max_seq_length=16", "--do_train",
            "--init_checkpoint=%s/init.ckpt" % tmp_path, "--num_train_epochs=5",
            "--learning_rate=0.01", *(methods + others))
        assert status == 0, err
        assert "5 steps of 8" in err
        return read_checkpoint(str(tmp_path / name / "model.ckpt-5"))

    config = modeling.BertConfig.from_json_file(str(tmp_path / "config.json"))
    write_checkpoint(tmp_path / "init.ckpt", reference.initial_values(
        heads.classifier_variable_shapes(config, modeling.BertModel, 2)))
    expected = weights("one", "--train_batch_size=8")
    assert_same_weights(weights("parts", "--train_batch_size=2", "--recompute",
                                "--gradient_accumulation_steps=4"), expected)
    again = ("--recompute",) if runtime.RECOMPUTES_ON_REPLICAS else ()
    assert_same_weights(weights("two", "--distribution=mirrored", "--train_batch_size=2",
                                "--gradient_accumulation_steps=2", *again), expected)
    start, begun = [read_checkpoint(str(tmp_path / name)) for name in (
        "init.ckpt", "two/model.ckpt-0")]
    for name, value in start.items():
        np.testing.assert_array_equal(begun[name], value, err_msg=name)


def test_what_a_second_device_cannot_recompute_is_refused(folder, two_cpus, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "RECOMPUTES_ON_REPLICAS", False)
    status, _, err = run_here(run_pretraining, *flags_for(
        folder, str(tmp_path / "out"), "--distribution=mirrored", "--recompute"))
    assert status == 1 and "--recompute and --distribution=mirrored with several GPUs" in err, err


def test_overflow_on_one_device_is_one_on_all(two_cpus):
    """The loss scale under a strategy: what one replica overflows, none of them applies."""
    def model_fn(features, labels, mode, params):
        del labels, params
        variable = tf.get_variable("w", initializer=tf.constant([1.0]))
        loss_scale = optimization.LossScale()
        gradients, _ = optimization.differentiate(
            lambda part: (tf.reduce_sum(part["x"] * variable), {}), features, 1, loss_scale)
        return tf.estimator.tpu.TPUEstimatorSpec(
            mode, loss=tf.reduce_sum(variable), train_op=optimization.create_optimizer(
                None, 0.1, 1000, 0, False, gradients=gradients, loss_scale=loss_scale))

    def input_fn(params):
        rows = np.array([[1.0], [1.0], [np.inf], [1.0], [1.0], [1.0]], np.float32)
        return runtime.without_auto_shard(
            tf.data.Dataset.from_tensor_slices({"x": rows}).batch(params["batch_size"]))

    seen = []

    class Watch(tf.train.SessionRunHook):
        def after_run(self, run_context, run_values):
            variable, = run_context.session.graph.get_collection("trainable_variables")
            seen.append(float(run_context.session.run(variable)[0]))

    run = estimators.RunSettings(None, False, None, None, None, None, 8, 1, 100, 1, 1, 1,
                                 distribution="mirrored")
    estimator = estimators.make_estimator(model_fn, run, None, train_batch_size=1)
    estimators.train(estimator, run, input_fn, 3, [Watch()])
    assert seen[0] < 1.0 and seen[1] == seen[0] and seen[2] < seen[1]


# ---------------------------------------------------------------------------------------------
# Workers
# ---------------------------------------------------------------------------------------------

def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def tf_config(ports, index):
    return json.dumps({"cluster": {"worker": ["localhost:%d" % port for port in ports]},
                       "task": {"type": "worker", "index": index}})


class Workers(object):
    """Two processes that train together; what they say goes to files in a folder."""

    def __init__(self, logs, arguments):
        self._logs, self._arguments, self._ports = str(logs), arguments, free_ports(2)
        self.processes = [None, None]
        for index in (0, 1):
            self.start(index)

    def start(self, index):
        with open(self._path(index), "ab") as log:
            self.processes[index] = subprocess.Popen(
                [sys.executable, os.path.join(ROOT, "run_pretraining.py")] + self._arguments,
                env=dict(os.environ, TF_CONFIG=tf_config(self._ports, index)), stdout=log,
                stderr=log)

    def _path(self, index):
        return os.path.join(self._logs, "worker-%d" % index)

    def said(self, index):
        return read(self._path(index)).decode("utf-8")

    def wait(self):
        for index, process in enumerate(self.processes):
            assert process.wait() == 0, self.said(index)


@pytest.fixture()
def workers(tmp_path):
    """Starts Workers; kills what is left of them when the test ends."""
    started = []

    def start(arguments):
        started.append(Workers(tmp_path, arguments))
        return started[-1]

    yield start
    for process in [one for each in started for one in each.processes]:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_two_workers_are_one_with_the_same_batch(folder, workers, tmp_path):
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    together = workers(flags_for(folder, two, "--distribution=multi_worker", "--do_eval",
                                 train_batch_size=12))
    train_here(folder, one, train_batch_size=24)
    together.wait()
    assert_same_weights(read_checkpoint(two + "/model.ckpt-10"),
                        read_checkpoint(one + "/model.ckpt-10"))
    for tag in ("loss", "masked_lm_accuracy", "gradient_norm"):
        found, expected = dict(curves.read(two)[tag]), dict(curves.read(one)[tag])
        assert found == pytest.approx(expected, abs=1e-4)
    # One of them shows progress, evaluates and writes.
    assert "step 10/10" in together.said(0) and "step 10/10" not in together.said(1)
    assert "Evaluation of" in together.said(0) and "Evaluation of" not in together.said(1)
    assert "Traceback" not in together.said(0) + together.said(1)
    assert "eval_results.txt" in os.listdir(two)
    assert not [name for name in os.listdir(two) if name.startswith("tmp")]


def test_a_killed_worker_comes_back_and_all_go_on_from_the_checkpoint(folder, workers, tmp_path):
    out = str(tmp_path / "out")
    together = workers(flags_for(folder, out, "--distribution=multi_worker", train_batch_size=12,
                                 num_train_steps=100, save_checkpoints_steps=20))
    while not os.path.exists(out + "/model.ckpt-20.index"):
        assert [process.poll() for process in together.processes] == [None, None], (
            together.said(0) + together.said(1))
        time.sleep(0.1)
    together.processes[1].send_signal(signal.SIGKILL)
    together.processes[1].wait()
    while "is gone; starting anew" not in together.said(0):
        assert together.processes[0].poll() is None, together.said(0)
        time.sleep(0.1)
    together.start(1)
    together.wait()
    for index in (0, 1):
        assert "Going on from %s/model.ckpt-" % out in together.said(index)
    assert checkpoints.latest_in(out) == out + "/model.ckpt-100"
    losses = curves.read(out)["loss"]
    assert [step for step, _ in losses] == list(range(1, 101))
    assert losses[-1][1] < 0.8 * losses[0][1]


def test_a_peer_that_does_not_answer_makes_a_worker_start_anew(monkeypatch):
    class RestartedError(Exception):
        pass

    def restart():
        raise RestartedError

    monkeypatch.setattr(runtime, "restart", restart)
    monkeypatch.setattr(distribution.PeerWatch, "SECONDS_BETWEEN", 0.01)
    peer = socket.socket()
    peer.bind(("localhost", 0))
    peer.listen(5)
    watch = distribution.PeerWatch(json.loads(tf_config([1, peer.getsockname()[1]], 0)))
    watch.restart_if_alone()
    peer.close()
    with pytest.raises(RestartedError):
        watch.restart_if_alone()
    watch.end(None)  # training is over: the others may leave
    watch.restart_if_alone()


def test_a_peer_may_have_an_ipv6_address(monkeypatch):
    def restart():
        raise AssertionError("the peer counts as gone")

    monkeypatch.setattr(runtime, "restart", restart)
    monkeypatch.setattr(distribution.PeerWatch, "SECONDS_BETWEEN", 0.01)
    peer = socket.socket(socket.AF_INET6)
    try:
        peer.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    peer.listen(5)
    cluster = tf_config([1, 2], 0).replace("localhost:2", "[::1]:%d" % peer.getsockname()[1])
    assert "[::1]" in cluster
    watch = distribution.PeerWatch(json.loads(cluster))
    watch.restart_if_alone()
    peer.close()


def test_who_is_who(monkeypatch):
    run = estimators.RunSettings(None, False, None, None, None, None, 8, 1, 1, 1, 1, 1,
                                 gradient_accumulation_steps=4, distribution="multi_worker")
    monkeypatch.setenv("TF_CONFIG", tf_config([1, 2, 3], 0))
    assert distribution.is_chief(run) and distribution.replicas(run) == 3
    assert distribution.examples_per_step(run, 8) == 96
    monkeypatch.setenv("TF_CONFIG", tf_config([1, 2, 3], 1))
    assert not distribution.is_chief(run)
    assert distribution.is_chief(run._replace(distribution="none"))
    monkeypatch.setattr(distribution, "local_devices", lambda: ["/gpu:0", "/gpu:1"])
    assert distribution.replicas(run) == 6
    assert distribution.replicas(run._replace(distribution="mirrored")) == 2
    monkeypatch.setenv("TF_CONFIG", json.dumps({
        "cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}))
    assert not distribution.is_chief(run) and distribution.replicas(run) == 4


@pytest.mark.parametrize("config, message", [
    (None, "needs the environment's TF_CONFIG"), ("{}", "needs the environment's TF_CONFIG"),
    ('{"cluster": {"worker": ["a:1"]}}', "needs the environment's TF_CONFIG"),
    ('{"cluster": {"worker": ["a:1"]}, "task": {"index": 0}}', "needs the environment's TF_CONFIG"),
    (tf_config([1], 3), "needs the environment's TF_CONFIG"),
    (tf_config([1, 2], 0).replace('"type": "worker"', '"type": "ps"'), "TF_CONFIG, on each"),
    (tf_config([1, 2], 0).replace(":1", ""), "TF_CONFIG, on each machine"),
    ("worker", "TF_CONFIG is no JSON"), ("[1]", "TF_CONFIG is no JSON object")])
def test_a_cluster_that_is_not_described_is_refused(folder, tmp_path, monkeypatch, config, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    out = str(tmp_path / "out")
    assert_user_error(run_here(run_pretraining, *flags_for(
        folder, out, "--distribution=multi_worker")), message)
    assert not os.path.exists(out)


def test_a_cluster_is_ignored_where_none_is_asked_for(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config([1, 2], 1))
    assert "step 1/1" in train_here(folder, str(tmp_path / "out"), num_train_steps=1)
    assert os.environ["TF_CONFIG"] == tf_config([1, 2], 1)
