"""Signals, locks, and that a run that was stopped ends as one that was not, to the last bit."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import ROOT
from helpers import (assert_user_error, pretraining_rows, read, read_checkpoint, run_here,
                     run_on_sentences, run_script, write_config, write_google_config, write_records,
                     write_vocabulary)

import curves
import estimators
import files
import interruption
import pretraining
import run_classifier
import run_classifier_sp_google
import run_lock
import run_pretraining
import run_pretraining_google
from errors import UserError

import tensorflow.compat.v1 as tf

TEXTS = [("天气真好今天很好", "好"), ("今天一般", "坏"), ("苹果坏了今天不好", "坏"),
         ("苹果真好", "好"), ("天气很坏不好", "坏"), ("今天很好", "好")]
DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Configurations with dropout, a vocabulary, 24 training rows and 100 records."""
    folder = tmp_path_factory.mktemp("interruption")
    write_config(folder, num_hidden_layers=1, **DROPOUT)  # the graphs take most of the time
    write_google_config(folder, "google.json", num_hidden_layers=1, **DROPOUT)
    write_vocabulary(folder, [text for text, _ in TEXTS])
    (folder / "data").mkdir()
    for split, times in (("train", 4), ("dev", 1)):
        files.write_text(str(folder / "data" / (split + ".tsv")), "text\tlabel\n" + "".join(
            "%s\t%s\n" % row for row in TEXTS * times))
    rows = pretraining_rows(100)
    for number in range(2):
        write_records(folder / ("%d.tfrecord" % number), rows[number::2])
    return str(folder)


def fine_tune(folder, name, *others, **settings):
    return run_on_sentences(settings.get("script", run_classifier), folder, name, "--do_train",
                            *others)


def pretrain(folder, name, *others, **settings):
    script = settings.get("script", run_pretraining)
    config = ("--albert_config_file=%s/google.json" if script is run_pretraining_google
              else "--bert_config_file=%s/config.json") % folder
    return run_here(
        script, config, "--input_file=%s/*.tfrecord" % folder,
        "--output_dir=%s/%s" % (folder, name), "--max_seq_length=12",
        "--max_predictions_per_seq=3", "--train_batch_size=4", "--num_train_steps=31",
        "--num_warmup_steps=2", "--num_threads=1", "--do_train", "--learning_rate=0.01", *others)


class SignalAt(tf.train.SessionRunHook):
    """Sends this process a signal in a step of the training."""

    def __init__(self, number, step):
        self._number, self._left = number, step

    def after_run(self, run_context, run_values):
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._number)
            time.sleep(0.2)


def stopped(monkeypatch, run, number, step):
    """Runs a training and stops it by a signal; returns the exit status."""
    train = estimators.train
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ending:
        patch.setattr(estimators, "train", lambda estimator, settings, input_fn, steps, hooks: (
            train(estimator, settings, input_fn, steps, [SignalAt(number, step)] + list(hooks))))
        run()
    return ending.value.code


def assert_same_weights(one, other, step):
    one, other = [read_checkpoint("%s/model.ckpt-%d" % (folder, step)) for folder in (one, other)]
    assert set(one) == set(other) and any("adam_m" in name or "lamb_m" in name for name in one)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


# ---------------------------------------------------------------------------------------------
# The same run again, and the same run in two parts
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("script, others", [
    (run_classifier, ("--recompute",)),
    (run_classifier_sp_google, ("--gradient_accumulation_steps=2",))])
def test_fine_tuning_in_two_parts_equals_one_run(folder, monkeypatch, script, others):
    names = ["%s-%d" % (script.__name__, number) for number in range(3)]
    steps = 6 if "--gradient_accumulation_steps=2" in others else 12
    status, _, err = fine_tune(folder, names[0], *others, script=script)
    assert status == 0, err

    assert stopped(monkeypatch, lambda: fine_tune(folder, names[2], *others, script=script),
                   signal.SIGTERM, 4) == 143
    there = [name for name in os.listdir(folder + "/" + names[2]) if name.endswith(".index")]
    assert len(there) == 2 and "model.ckpt-0.index" in there
    status, _, err = fine_tune(folder, names[2], *others, script=script)
    assert status == 0 and "Going on from" in err, err
    assert_same_weights(folder + "/" + names[0], folder + "/" + names[2], steps)


@pytest.mark.parametrize("script, others, step", [
    (run_pretraining, (), 19), (run_pretraining_google, ("--gradient_accumulation_steps=3",), 12)])
def test_pretraining_in_two_parts_equals_one_run(folder, monkeypatch, script, others, step):
    names = ["%s-%d" % (script.__name__, number) for number in range(2)]
    status, _, err = pretrain(folder, names[0], *others, script=script)
    assert status == 0, err
    assert stopped(monkeypatch, lambda: pretrain(folder, names[1], *others, script=script),
                   signal.SIGINT, step) == 130
    status, _, err = pretrain(folder, names[1], *others, script=script)
    assert status == 0 and "The input goes on in epoch" in err, err
    assert_same_weights(folder + "/" + names[0], folder + "/" + names[1], 31)


def test_the_seed_decides_on_all_weights(folder):
    for name, seed in (("seed-1", 7), ("seed-2", 7), ("seed-3", 8)):
        status, _, err = fine_tune(folder, name, "--random_seed=%d" % seed, "--max_train_steps=3")
        assert status == 0, err
    assert_same_weights(folder + "/seed-1", folder + "/seed-2", 3)
    one, other = [read_checkpoint(folder + name)["bert/pooler/dense/kernel"]
                  for name in ("/seed-1/model.ckpt-0", "/seed-3/model.ckpt-0")]
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("seed", [5, 20240101120000, 1700000000000000000, -3])  # dates, too
def test_dropout_differs_from_step_to_step_and_from_part_to_part(seed):
    import random_draws
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(seed)
        step = tf.train.get_or_create_global_step()
        draws = [random_draws.seeds([2]), random_draws.seeds([3, 2])]
        part = tf.placeholder(tf.int32, [])
        with random_draws.part_of_batch(part):
            in_part = random_draws.seeds([2])
        session.run(tf.global_variables_initializer())

        def draw(number=0):
            return [value.tolist() for value in session.run(draws + [in_part], {part: number})]

        first, again, other_part = draw(), draw(), draw(1)
        session.run(step.assign_add(1))
        later = draw()
    assert first == again
    assert first[:2] == other_part[:2] and first[2] != other_part[2]
    seen = [tuple(np.ravel(one)[:2]) for values in (first, other_part[2:], later)
            for one in values]
    assert len(set(seen)) == len(seen) == 7


def batches(folder, first_step, count, batch_size=4, **settings):
    paths = [folder + "/0.tfrecord", folder + "/1.tfrecord"]
    input_fn = pretraining.input_fn_builder(
        paths, {"sequence": 12, "predictions": 3}, True, 3, first_step=first_step, **settings)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(3)
        batch = tf.data.make_one_shot_iterator(input_fn({"batch_size": batch_size})).get_next()
        return [session.run(batch) for _ in range(count)]


@pytest.mark.parametrize("batch_size, settings", [
    (4, {}), (4, {"fixed_shapes": True}), (100, {}), (130, {"fixed_shapes": True})])
def test_the_input_goes_on_at_any_step(folder, batch_size, settings):
    whole = batches(folder, 0, 60, batch_size, **settings)
    for step in (1, 6, 23, 24, 25, 49):
        for one, other in zip(whole[step:], batches(folder, step, 4, batch_size, **settings)):
            for name, value in one.items():
                np.testing.assert_array_equal(value, other[name], err_msg=name)


# ---------------------------------------------------------------------------------------------
# Signals
# ---------------------------------------------------------------------------------------------

def test_a_second_signal_ends_at_once():
    program = (
        "import os, signal, sys, time; sys.path.insert(0, %r); import interruption\n"
        "with interruption.Watch() as watch:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    while watch.number is None: time.sleep(0.01)\n"
        "    print('noted', watch.number, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(30)\n" % ROOT)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, universal_newlines=True)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143 and out == "noted 2\n"
    assert "Ctrl-C: saving a checkpoint" in err and "ended at once by a second SIGTERM" in err


@pytest.mark.parametrize("in_training, status", [(True, 0), (False, 129)])
def test_a_closed_terminal_is_a_signal_to_end(tmp_path, in_training, status):
    """It comes twice, from the shell and the kernel, and nothing can be written to it any more."""
    ready, done = str(tmp_path / "ready"), str(tmp_path / "done")
    program = (
        "import fcntl, os, signal, sys, termios, time; sys.path.insert(0, %r)\n"
        "import interruption\nfrom console import say\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "with interruption.terminable():\n"
        "    if %r:\n"
        "        with interruption.Watch() as watch:\n"
        "            open(%r, 'w').close()\n"
        "            while watch.number is None: time.sleep(0.01)\n"
        "            os.kill(os.getpid(), signal.SIGHUP)\n"
        "            time.sleep(0.3)\n"
        "    else:\n"
        "        try:\n"
        "            open(%r, 'w').close()\n"
        "            time.sleep(30)\n"
        "        finally:\n"
        "            os.kill(os.getpid(), signal.SIGHUP)\n"
        "            say('tidied up'); print('indeed', flush=True)\n"
        "            open(%r, 'w').close()\n"
        "say('saved'); print('indeed', flush=True)\n"
        "open(%r, 'w').close()\n" % (ROOT, in_training, ready, ready, done, done))
    master, slave = os.openpty()
    process = subprocess.Popen([sys.executable, "-c", program], stdin=slave, stdout=slave,
                               stderr=slave, start_new_session=True,
                               # These tests themselves may run under nohup.
                               preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    os.close(slave)
    deadline = time.time() + 60
    while not os.path.exists(ready) and time.time() < deadline:
        time.sleep(0.05)
    os.close(master)
    assert process.wait(60) == status
    assert os.path.exists(done)


def test_nohup_is_heard_of_by_nobody():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruption.terminable(), interruption.Watch() as watch:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.2)
        assert watch.number is None and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in interruption.NAMES]
    with interruption.terminable():
        with interruption.Watch():
            pass
        with pytest.raises(SystemExit) as ending:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        assert ending.value.code == 143
    assert [signal.getsignal(number) for number in interruption.NAMES] == before


def test_signals_wait_for_the_end_of_a_picture():
    seen = []

    @interruption.deferred()
    def draw(number):
        os.kill(os.getpid(), number)
        time.sleep(0.05)
        seen.append(number)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with interruption.terminable():
            with pytest.raises(KeyboardInterrupt):
                draw(signal.SIGINT)
                time.sleep(5)
            with pytest.raises(SystemExit) as ending:
                draw(signal.SIGTERM)
                time.sleep(5)
        assert ending.value.code == 143 and seen == [signal.SIGINT, signal.SIGTERM]
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as shells start background jobs
        draw(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen[2:] == [signal.SIGINT]


def test_in_another_thread_signals_are_left_alone():
    found = []

    def work():
        with interruption.terminable(), interruption.Watch() as watch:
            found.append(watch.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]


# ---------------------------------------------------------------------------------------------
# The lock
# ---------------------------------------------------------------------------------------------

HOLDER = ("import sys, time; sys.path.insert(0, %r); import run_lock\n"
          "with run_lock.RunLock(sys.argv[1]) as lock:\n"
          "    lock.take()\n"
          "    print('held', flush=True)\n"
          "    time.sleep(60)\n" % ROOT)


def test_a_folder_is_held_as_long_as_its_run_lives(folder):
    output = folder + "/locked"
    os.mkdir(output)
    process = subprocess.Popen([sys.executable, "-c", HOLDER, output], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        for run in (fine_tune, pretrain):
            assert_user_error(run(folder, "locked"), "in use by another run",
                              "process %d on" % process.pid, "choose another --output_dir")
        assert os.listdir(output) == [run_lock.NAME]
    finally:
        process.kill()
        process.communicate()
    assert run_lock.NAME in os.listdir(output)  # what a killed run leaves holds nothing
    status, _, err = fine_tune(folder, "locked")
    assert status == 0, err
    assert run_lock.NAME not in os.listdir(output)


def test_locks_of_remote_folders_and_those_without_locks(tmp_path, monkeypatch, capsys):
    with run_lock.RunLock("gs://bucket/run") as lock:
        lock.take()

    def refuse(stream, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(run_lock.fcntl, "flock", refuse)
    with run_lock.RunLock(str(tmp_path)) as lock:
        lock.take()
    assert "has no locks (Operation not supported)" in capsys.readouterr().err


def test_a_removed_lock_is_not_taken_for_the_folders(tmp_path, monkeypatch):
    """Between opening and locking the file, its run may have ended and removed it."""
    path, flock, calls = str(tmp_path / run_lock.NAME), run_lock.fcntl.flock, []

    def remove_first(stream, how):
        if not calls:
            os.remove(path)
        calls.append(how)
        flock(stream, how)

    monkeypatch.setattr(run_lock.fcntl, "flock", remove_first)
    with run_lock.RunLock(str(tmp_path)) as lock:
        lock.take()
        monkeypatch.undo()
        assert len(calls) == 2 and os.path.exists(path)
        with pytest.raises(UserError, match="in use by another run"):
            run_lock.RunLock(str(tmp_path)).take()


# ---------------------------------------------------------------------------------------------
# What interrupted runs leave
# ---------------------------------------------------------------------------------------------

def test_what_a_killed_run_was_writing_is_removed(folder):
    output = folder + "/left-over"
    os.makedirs(output + "/model.ckpt-4_temp_0123abc")
    os.makedirs(output + "/model.ckpt-4_temp")
    for name in ("model.ckpt-4_temp/part-00000-of-00001.data-00000-of-00001", ".tmp-77-run.json",
                 "model.ckpt-best.tmp-77.index", "my.ckpt-notes.txt", "x.tmp"):
        with io.open("%s/%s" % (output, name), "w") as stream:
            stream.write("x")
    status, _, err = fine_tune(folder, "left-over", "--max_train_steps=1")
    assert status == 0, err
    left = [name for name in os.listdir(output) if "tmp" in name or "temp" in name]
    assert left == ["x.tmp"] and "my.ckpt-notes.txt" in os.listdir(output)


def test_a_run_from_the_command_line_says_how_to_go_on(folder):
    arguments = ("--bert_config_file=%s/config.json" % folder, "--task_name=sentence",
                 "--vocab_file=%s/vocab.txt" % folder, "--data_dir=%s/data" % folder,
                 "--output_dir=%s/ended" % folder, "--max_seq_length=12", "--num_threads=1",
                 "--do_train", "--train_batch_size=4", "--num_train_epochs=1000")
    process = subprocess.Popen(
        [sys.executable, os.path.join(ROOT, "run_classifier.py")] + list(arguments),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.time() + 60
    while not os.path.exists(folder + "/ended/model.ckpt-0.index") and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=60)[1].decode("utf-8")
    assert process.returncode == 143 and "Traceback" not in err, err
    assert "ERROR: ended by SIGTERM after step" in err and "give the same command again" in err
    step = int(err.split("after step ")[1].split()[0])
    assert step > 0 and os.path.exists("%s/ended/model.ckpt-%d.index" % (folder, step))
    record = json.loads(read(folder + "/ended/run.json").decode("utf-8"))
    assert record["flags"]["num_train_epochs"] == 1000
    status, _, err = run_script("run_classifier.py", *(arguments[:-1] + (
        "--num_train_epochs=1000", "--max_train_steps=%d" % (step + 1))))
    assert status == 0 and "Going on from %s/ended/model.ckpt-%d" % (folder, step) in err, err


def test_going_on_leaves_the_checkpoint_as_it_is(folder):
    """TensorFlow would write it again, and a run that is killed then would lose it."""
    assert fine_tune(folder, "kept", "--max_train_steps=2")[0] == 0
    path = folder + "/kept/model.ckpt-2.index"
    before = os.stat(path)
    status, _, err = fine_tune(folder, "kept", "--max_train_steps=3")
    assert status == 0 and os.path.exists(folder + "/kept/model.ckpt-3.index"), err
    after = os.stat(path)
    assert (before.st_ino, before.st_mtime) == (after.st_ino, after.st_mtime)
    steps = [step for step, _ in curves.read(folder + "/kept")["loss"]]
    assert steps == [1, 2, 3]
