"""run_pretraining_google.py: steps, evaluation of every checkpoint, the best, export, refusals."""

import json
import os
import re
import shutil

import numpy as np
import pytest
import reference
from helpers import (TINY_GOOGLE, assert_user_error, google_pretraining_weights, pretraining_rows,
                     pretraining_weights, read, read_checkpoint, run_here, run_script,
                     write_checkpoint, write_config, write_google_config, write_records,
                     write_vocabulary)

import checkpoints
import curves
import modeling
import pretraining
import run_pretraining
import run_pretraining_google

import tensorflow.compat.v1 as tf

SETTINGS = dict(TINY_GOOGLE, num_hidden_layers=1)
STEPS = ("--num_train_steps=4", "--save_checkpoints_steps=2", "--num_warmup_steps=3",
         "--train_batch_size=8", "--learning_rate=1.0")


def flags_for(folder, *others):
    return ("--albert_config_file=%s/config.json" % folder,
            "--input_file=%s/data.tfrecord" % folder, "--num_threads=1", "--max_seq_length=12",
            "--max_predictions_per_seq=3", "--num_train_steps=1",
            "--num_warmup_steps=0") + others


def pretrain(folder, *others):
    return run_here(run_pretraining_google, *flags_for(folder, *others))


def results_in(folder):
    text = read(os.path.join(str(folder), "eval_results.txt")).decode("utf-8")
    return dict(line.split(" = ") for line in text.splitlines())


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Runs in this process draw nothing, which would take longer than what is tested here."""
    monkeypatch.setattr(curves, "draw", lambda _: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Configuration, vocabulary, eight records, and a folder with a checkpoint as unpacked from an
    archive whose `checkpoint` file points nowhere."""
    folder = tmp_path_factory.mktemp("google")
    write_google_config(folder, **SETTINGS)
    write_vocabulary(folder, "天气好吗")
    write_records(folder / "data.tfrecord", pretraining_rows(8))
    (folder / "released").mkdir()
    write_google_config(folder / "released", "albert_config_tiny_g.json", **SETTINGS)
    write_checkpoint(folder / "released" / "albert_model.ckpt", google_pretraining_weights())
    (folder / "released" / "checkpoint").write_text(
        'model_checkpoint_path: "/nowhere/on/earth/model.ckpt-36000"\n', encoding="utf-8")
    return str(folder)


@pytest.fixture(scope="module")
def trained(folder):
    """(folder of four steps and two evaluations, what was printed); an export beside it."""
    status, out, err = run_script("run_pretraining_google.py", *flags_for(
        folder, "--init_checkpoint=%s/released" % folder, "--output_dir=%s/run" % folder,
        "--do_eval", "--eval_batch_size=8", "--export_dir=%s/exported" % folder,
        "--vocab_file=%s/vocab.txt" % folder, *STEPS))
    assert status == 0, err
    assert "32 of 32 variables from %s/released/albert_model.ckpt" % folder in err
    assert "step 4/4" in err and "evaluating on the training data" in err
    assert os.path.exists(folder + "/run/curves.png")
    return folder + "/run", out, err


def continued(folder, output_dir, *others):
    return pretrain(folder, "--output_dir=%s" % output_dir, "--eval_batch_size=8",
                    *(STEPS[1:] + others))


# ---------------------------------------------------------------------------------------------
# Steps
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, optimizer", [("google", "lamb"), ("google_adamw", "adamw")])
def test_golden_steps_from_the_command_line(shared_data, tmp_path, name, optimizer):
    path = os.path.join(os.path.dirname(shared_data), "reference", "golden", name + ".npz")
    if not os.path.exists(path):
        pytest.skip("no golden file %s" % path)
    golden = np.load(path)
    settings = json.loads(str(golden["config"]))
    write_google_config(tmp_path, **settings)
    write_checkpoint(tmp_path / "init.ckpt", google_pretraining_weights(**settings))
    keys = {"input_ids": "ids", "input_mask": "mask", "segment_ids": "seg",
            "masked_lm_positions": "pos", "masked_lm_ids": "mids", "masked_lm_weights": "mw",
            "next_sentence_labels": "sop"}
    write_records(tmp_path / "data.tfrecord", [
        {field: golden[key][row] for field, key in keys.items()} for row in range(3)])
    steps = int(golden["N"])
    status, _, err = pretrain(
        tmp_path, "--output_dir=%s/out" % tmp_path, "--init_checkpoint=%s/init.ckpt" % tmp_path,
        "--max_seq_length=16", "--max_predictions_per_seq=4", "--train_batch_size=3",
        "--num_train_steps=%d" % steps, "--num_warmup_steps=%d" % golden["W"],
        "--learning_rate=%r" % float(golden["LR"]), "--optimizer=" + optimizer)
    assert status == 0, err
    found = read_checkpoint("%s/out/model.ckpt-%d" % (tmp_path, steps))
    compared = [key[len("var/"):] for key in golden.files if key.startswith("var/")]
    assert len(compared) == 32
    for variable in compared:
        np.testing.assert_allclose(found[variable], golden["var/" + variable], atol=1e-4,
                                   err_msg=variable)
        assert variable + "/adam_m" in found and variable + "/adam_v" in found


# ---------------------------------------------------------------------------------------------
# Evaluation and the best checkpoint
# ---------------------------------------------------------------------------------------------

def test_every_checkpoint_is_evaluated_and_the_best_is_kept(trained):
    run, out, _ = trained
    results = json.loads(read(run + "/eval_results.json").decode("utf-8"))
    assert [row["step"] for row in results["checkpoints"]] == [2, 4]
    rows = pretraining_rows(8)
    for row in results["checkpoints"]:
        weights = read_checkpoint("%s/%s" % (run, row["checkpoint"]))
        masked, order = reference.pretraining_losses_google(SETTINGS, weights, rows)
        assert row["masked_lm_loss"] == pytest.approx(masked, abs=2e-4)
        assert row["sentence_order_loss"] == pytest.approx(order, abs=2e-4)
        assert 0 <= row["masked_lm_accuracy"] <= 1 and 0 <= row["sentence_order_accuracy"] <= 1
    # Steps this large end worse than they were in between.
    assert results["best"]["step"] == 2
    best, kept = (read_checkpoint(run + "/" + name) for name in ("model.ckpt-2", "model.ckpt-best"))
    assert set(best) == set(kept)
    for name, value in best.items():
        np.testing.assert_array_equal(kept[name], value)
    assert 'model_checkpoint_path: "model.ckpt-4"' in read(run + "/checkpoint").decode("utf-8")
    assert "best" in out and "Evaluation of %s/model.ckpt-best on 8 of 8 records" % run in out


def test_results_text_is_of_the_best(trained):
    run, out, _ = trained
    results = results_in(run)
    best = json.loads(read(run + "/eval_results.json").decode("utf-8"))["best"]
    for name in ("masked_lm_loss", "masked_lm_accuracy", "sentence_order_loss",
                 "sentence_order_accuracy", "global_step"):
        assert float(results[name]) == best[name]
        assert "%s = %s\n" % (name, results[name]) in out
    assert (results["eval_records"], results["eval_records_total"]) == ("8", "8")


def test_again_nothing_is_trained_or_evaluated(folder, trained):
    before = {name: read(os.path.join(trained[0], name))
              for name in ("eval_results.json", "eval_results.txt", "model.ckpt-best.index")}
    status, out, err = continued(folder, trained[0], "--num_train_steps=4", "--do_eval")
    assert status == 0, err
    assert "Already trained to step 4" in err and "evaluate" not in err
    assert before == {name: read(os.path.join(trained[0], name)) for name in before}
    assert "sentence_order_accuracy = " in out


def test_another_optimizer_is_refused_though_its_slots_have_the_same_names(folder, trained):
    assert_user_error(continued(folder, trained[0], "--num_train_steps=9", "--optimizer=adamw"),
                      "optimizer: lamb then, adamw now", "choose another --output_dir")


def test_training_goes_on_as_if_nothing_had_been_evaluated(folder, trained, tmp_path):
    # The same run in two folders; one without results and best checkpoint.
    full, bare = str(tmp_path / "full"), tmp_path / "bare"
    shutil.copytree(trained[0], full)
    bare.mkdir()
    for name in os.listdir(trained[0]):
        if name == "checkpoint" or name.startswith("model.ckpt-4."):
            shutil.copy(os.path.join(trained[0], name), str(bare))
    for run, others in ((full, ["--do_eval"]), (str(bare), [])):
        status, _, err = continued(folder, run, "--num_train_steps=6", *others)
        assert status == 0 and "Going on from %s/model.ckpt-4" % run in err, err
        if others:
            assert "evaluate model.ckpt-6" in err
            assert "evaluate model.ckpt-2" not in err and "evaluate model.ckpt-4" not in err
    first, second = (read_checkpoint(run + "/model.ckpt-6") for run in (full, str(bare)))
    for name, value in second.items():
        np.testing.assert_allclose(first[name], value, atol=1e-5, err_msg=name)
    results = json.loads(read(full + "/eval_results.json").decode("utf-8"))
    assert [row["step"] for row in results["checkpoints"]] == [2, 4, 6]
    assert checkpoints.latest_in(full) == full + "/model.ckpt-6"


def test_a_best_checkpoint_outlives_the_one_it_is_a_copy_of(folder, trained, tmp_path):
    run = str(tmp_path / "run")
    shutil.copytree(trained[0], run)
    for name in os.listdir(run):
        if name.startswith("model.ckpt-2."):  # as --keep_checkpoint_max removes the oldest
            os.remove(os.path.join(run, name))
    best = read(run + "/model.ckpt-best.index")
    status, _, err = continued(folder, run, "--num_train_steps=4", "--do_eval")
    assert status == 0 and "evaluate" not in err, err
    assert read(run + "/model.ckpt-best.index") == best
    assert results_in(run)["global_step"] == "2"


def test_a_model_of_another_run_is_never_the_best(folder, trained, tmp_path):
    run = str(tmp_path / "run")
    status, _, err = pretrain(
        folder, "--output_dir=" + run, "--init_checkpoint=%s/model.ckpt-best" % trained[0],
        "--do_train=false", "--do_eval", "--eval_batch_size=8")
    assert status == 0 and not os.path.exists(run + "/model.ckpt-best.index"), err
    one_step = ("--output_dir=" + run, "--do_eval", "--eval_batch_size=8", "--num_train_steps=1",
                "--num_warmup_steps=0")
    status, _, err = pretrain(folder, *one_step)
    assert status == 0, err
    assert read(run + "/model.ckpt-best.index") == read(run + "/model.ckpt-1.index")
    # The best of a run that is gone gives way to no other.
    for name in os.listdir(run):
        if name == "checkpoint" or re.match(r"model\.ckpt-\d", name):
            os.remove(os.path.join(run, name))
    assert_user_error(pretrain(folder, *one_step), "holds model.ckpt-best of a run whose other")
    status, _, err = pretrain(
        folder, "--output_dir=" + run, "--init_checkpoint=%s/released" % folder,
        "--do_train=false", "--do_eval", "--eval_batch_size=8")
    assert status == 0 and os.path.exists(run + "/model.ckpt-best.index"), err
    assert read(run + "/model.ckpt-best.index") != read(
        folder + "/released/albert_model.ckpt.index")


# ---------------------------------------------------------------------------------------------
# Export
# ---------------------------------------------------------------------------------------------

def test_a_run_replaces_its_own_export_though_that_is_of_a_checkpoint_that_is_gone(
        folder, trained, tmp_path):
    run, exported = str(tmp_path / "run"), str(tmp_path / "exported")
    shutil.copytree(trained[0], run)
    shutil.copytree(folder + "/exported", exported)
    for name in os.listdir(run):  # all that the exported one was taken from
        if name.startswith(("model.ckpt-2.", "model.ckpt-best.")):
            os.remove(os.path.join(run, name))
    status, _, err = continued(folder, run, "--num_train_steps=4", "--export_dir=" + exported,
                               "--vocab_file=%s/vocab.txt" % folder)
    assert status == 0 and "Replacing the earlier export in %s" % exported in err, err
    np.testing.assert_array_equal(
        read_checkpoint(exported + "/albert_model.ckpt")["bert/pooler/dense/bias"],
        read_checkpoint(run + "/model.ckpt-4")["bert/pooler/dense/bias"])


def test_the_best_is_exported_and_loads_again(folder, trained, tmp_path):
    exported = folder + "/exported"
    assert sorted(os.listdir(exported)) == [
        "albert_config.json", "albert_model.ckpt.data-00000-of-00001", "albert_model.ckpt.index",
        "checkpoint", "vocab.txt"]
    found, best = (read_checkpoint(path) for path in (
        exported + "/albert_model.ckpt", trained[0] + "/model.ckpt-best"))
    assert len(found) == 32
    for name, value in found.items():
        np.testing.assert_array_equal(value, best[name])
    assert read(exported + "/vocab.txt") == read(folder + "/vocab.txt")
    out = str(tmp_path / "out")
    status, _, err = pretrain(
        folder, "--albert_config_file=%s/albert_config.json" % exported, "--output_dir=" + out,
        "--init_checkpoint=" + exported, "--do_train=false", "--do_eval", "--eval_batch_size=8")
    assert status == 0, err
    for name in ("masked_lm_loss", "sentence_order_loss"):
        assert float(results_in(out)[name]) == pytest.approx(
            float(results_in(trained[0])[name]), abs=1e-5)
    # Nothing was trained there: a run may still begin, and another model may be evaluated.
    assert checkpoints.latest_in(out) is None
    status, _, err = pretrain(
        folder, "--output_dir=" + out, "--init_checkpoint=%s/released" % folder,
        "--do_train=false", "--do_eval", "--eval_batch_size=8")
    assert status == 0 and "evaluate albert_model.ckpt" in err, err
    masked, _ = reference.pretraining_losses_google(
        SETTINGS, google_pretraining_weights(**SETTINGS), pretraining_rows(8))
    assert float(results_in(out)["masked_lm_loss"]) == pytest.approx(masked, abs=2e-5)


def test_what_cannot_be_exported_is_refused_before_training(folder, trained, tmp_path):
    out = "--output_dir=%s/out" % tmp_path
    assert_user_error(pretrain(folder, out, "--export_dir=%s/exported" % tmp_path),
                      "vocab.txt has 21128 entries, the configuration's vocab_size is 60",
                      "--vocab_file")
    vocab = "--vocab_file=%s/vocab.txt" % folder
    for taken in (folder + "/released", folder + "/exported"):
        assert_user_error(pretrain(folder, out, vocab, "--export_dir=" + taken),
                          "--export_dir=%s holds another model, albert_model.ckpt" % taken)
    assert_user_error(pretrain(folder, out, vocab, "--export_dir=%s/out" % tmp_path),
                      "is the folder of the checkpoint itself")
    assert os.listdir(str(tmp_path)) == []


# ---------------------------------------------------------------------------------------------
# Every group from group 0
# ---------------------------------------------------------------------------------------------

def test_all_groups_start_from_group_0(folder, tmp_path, monkeypatch):
    settings = dict(num_hidden_layers=3, inner_group_num=2)
    (tmp_path / "from").mkdir()
    write_google_config(tmp_path / "from", **settings)
    weights = google_pretraining_weights(**settings)
    write_checkpoint(tmp_path / "from" / "model.ckpt", weights)
    config = write_google_config(tmp_path, num_hidden_groups=3, **settings)

    started = {}

    def take_start(config, model_class, schedule, model_fit, *others):
        del schedule, others
        with tf.Graph().as_default(), tf.Session() as session:
            model = model_class(config, True, tf.zeros([1, 4], tf.int32))
            modeling.masked_lm_logits(config, model.get_pooled_output(),
                                      model.get_embedding_table())
            modeling.sentence_order_logits(config, model.get_pooled_output())
            checkpoints.load(model_fit)
            session.run(tf.global_variables_initializer())
            started.update(session.run({v.op.name: v for v in tf.trainable_variables()}))

    # Not a step of training: it takes long with so many blocks.
    monkeypatch.setattr(pretraining, "model_fn_builder", take_start)
    monkeypatch.setattr(pretraining, "train", lambda *_: None)
    status, _, err = pretrain(folder, "--albert_config_file=" + config, "--init_from_group0",
                              "--init_checkpoint=%s/from" % tmp_path,
                              "--output_dir=%s/out" % tmp_path)
    assert status == 0 and "112 of 112 variables from %s/from/model.ckpt" % tmp_path in err, err
    start = "bert/encoder/transformer/group_"
    groups = {0: 0, 1: 0, 2: 0}
    for name, value in started.items():
        if name.startswith(start):
            groups[int(name[len(start)])] += 1
            name = start + "0" + name[len(start) + 1:]
        np.testing.assert_array_equal(value, weights[name], err_msg=name)
    assert groups == {0: 32, 1: 32, 2: 32} and len(started) == 112


def test_groups_without_a_fitting_group_0_are_refused(folder, tmp_path):
    out = "--output_dir=%s/out" % tmp_path
    assert_user_error(pretrain(folder, out, "--init_from_group0"),
                      "--init_from_group0 needs --init_checkpoint")
    config = "--albert_config_file=" + write_google_config(
        tmp_path, num_hidden_layers=1, inner_group_num=2)
    init = "--init_checkpoint=%s/released" % folder  # group 0 of one block
    assert_user_error(pretrain(folder, out, config, init, "--init_from_group0"),
                      "inner_group_1/", "missing")
    config = "--albert_config_file=" + write_google_config(
        tmp_path, num_hidden_layers=1, intermediate_size=48)
    assert_user_error(pretrain(folder, out, config, init, "--init_from_group0"),
                      "ffn_1/intermediate/dense/kernel")
    assert_user_error(pretrain(folder, out, "--albert_config_file=" + write_google_config(
        tmp_path, num_hidden_groups=2), init), "group_1/")
    weights = {name: value for name, value in google_pretraining_weights().items()
               if "/transformer/" not in name}
    write_checkpoint(tmp_path / "none.ckpt", weights)
    assert_user_error(pretrain(folder, out, "--init_checkpoint=%s/none.ckpt" % tmp_path,
                               "--init_from_group0"), "missing")
    assert not os.path.exists(str(tmp_path / "out"))


# ---------------------------------------------------------------------------------------------
# Refusals
# ---------------------------------------------------------------------------------------------

def test_the_other_layout_is_refused_with_the_name_of_its_script(folder, tmp_path):
    write_config(tmp_path, "zh.json")
    write_checkpoint(tmp_path / "zh.ckpt", pretraining_weights())
    out = "--output_dir=%s/out" % tmp_path
    ours, theirs = "run_pretraining_google.py", "run_pretraining.py"
    assert_user_error(pretrain(folder, out, "--init_checkpoint=%s/zh.ckpt" % tmp_path),
                      "a checkpoint of the albert_zh layout, for " + theirs)
    assert_user_error(pretrain(folder, out, "--albert_config_file=%s/zh.json" % tmp_path),
                      "albert_zh-layout config", theirs)

    def albert_zh(config, *others):
        return run_here(run_pretraining, "--bert_config_file=" + config, out, "--do_train",
                        *flags_for(folder)[1:] + others)

    assert_user_error(albert_zh("%s/zh.json" % tmp_path, "--init_checkpoint=%s/released" % folder),
                      "a checkpoint of the Google layout, for " + ours)
    assert_user_error(albert_zh(folder + "/config.json"), "Google-layout config", ours)
    assert not os.path.exists(str(tmp_path / "out"))


def test_a_folder_with_a_run_of_the_other_layout_is_refused(folder, tmp_path):
    write_config(tmp_path, "albert_config.json", num_hidden_layers=1)
    write_checkpoint(tmp_path / "model.ckpt-5", pretraining_weights())
    assert_user_error(pretrain(folder, "--output_dir=%s" % tmp_path),
                      "holds another model, model.ckpt-5", "for run_pretraining.py and")


def test_bad_flags(folder, tmp_path):
    out = "--output_dir=%s/out" % tmp_path
    assert_user_error(pretrain(folder, out, "--masked_lm_budget=5"), "--masked_lm_budget=5",
                      "only 0")
    assert_user_error(pretrain(folder, out, "--do_train=false"), "nothing to do")
    assert_user_error(pretrain(folder, out, "--max_seq_length=512"), "beyond the 32 positions")
    assert_user_error(pretrain(folder, out, "--do_train=false", "--do_eval"),
                      "holds no checkpoint")
    assert_user_error(pretrain(folder, out, "--albert_config_file="),
                      "--albert_config_file is missing")
    assert not os.path.exists(str(tmp_path / "out"))
