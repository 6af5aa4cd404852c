"""run_pretraining.py from the command line: steps against NumPy, results, resuming, bad input."""

import json
import os

import numpy as np
import pytest
import reference
from helpers import (TINY, assert_user_error, pretraining_rows, pretraining_weights, read,
                     read_checkpoint, run_script, write_checkpoint, write_config, write_records)

SIZES = ("--max_seq_length=12", "--max_predictions_per_seq=3")


def pretrain(folder, *flags):
    return run_script("run_pretraining.py", "--bert_config_file=%s/config.json" % folder,
                      "--input_file=%s/data.tfrecord" % folder, "--num_threads=1",
                      *(SIZES + flags))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A configuration, a checkpoint and eight records."""
    folder = tmp_path_factory.mktemp("pretraining")
    write_config(folder)
    write_checkpoint(folder / "init.ckpt", pretraining_weights())
    write_records(folder / "data.tfrecord", pretraining_rows(8))
    return str(folder)


@pytest.fixture(scope="module")
def trained(folder):
    """The output folder of six LAMB steps, the whole data in each batch."""
    status, out, err = pretrain(
        folder, "--init_checkpoint=%s/init.ckpt" % folder, "--output_dir=%s/lamb" % folder,
        "--do_train", "--do_eval", "--train_batch_size=8", "--eval_batch_size=3",
        "--num_train_steps=6", "--num_warmup_steps=2", "--learning_rate=0.01")
    assert status == 0, err
    assert "31 of 31 variables" in err and "step 6/6" in err
    assert "evaluating on the training data" in err
    return folder + "/lamb", out


def numpy_loss(values, rows):
    """The training objective in NumPy."""
    nll, weight, order = 0.0, 0.0, 0.0
    for row in rows:
        _, layers, pooled = reference.encode(
            TINY, values, row["input_ids"], row["input_mask"], row["segment_ids"])
        h = layers[-1][row["masked_lm_positions"]]
        transform = "cls/predictions/transform/"
        h = reference.gelu(reference.linear(h, values, transform + "dense"))
        h = reference.normalise(h, values, transform + "LayerNorm")
        logits = (h @ values["bert/embeddings/word_embeddings_2"].T
                  @ values["bert/embeddings/word_embeddings"].T
                  + values["cls/predictions/output_bias"])
        picked = reference.softmax(logits)[np.arange(len(h)), row["masked_lm_ids"]]
        nll -= (np.log(picked) * row["masked_lm_weights"]).sum()
        weight += row["masked_lm_weights"].sum()
        scores = (pooled @ values["cls/seq_relationship/output_weights"].T
                  + values["cls/seq_relationship/output_bias"])
        order -= np.log(reference.softmax(scores)[row["next_sentence_labels"][0]])
    return nll / (weight + 1e-5) + order / len(rows)


def test_loss_before_training_equals_numpy(folder):
    status, out, err = pretrain(
        folder, "--init_checkpoint=%s/init.ckpt" % folder, "--output_dir=%s/untrained" % folder,
        "--do_eval", "--eval_batch_size=8", "--eval_input_file=%s/data.tfrecord" % folder)
    assert status == 0, err
    results = dict(line.split(" = ") for line in out.splitlines() if " = " in line)
    expected = numpy_loss(pretraining_weights(), pretraining_rows(8))
    assert float(results["loss"]) == pytest.approx(expected, abs=2e-5)
    assert float(results["masked_lm_loss"]) + float(
        results["sentence_order_loss"]) == pytest.approx(expected, abs=2e-4)


def test_results_under_both_names_and_coverage(trained):
    output_dir, out = trained
    text = read(output_dir + "/eval_results.txt").decode("utf-8")
    results = dict(line.split(" = ") for line in text.splitlines())
    assert text.splitlines() == [line for line in out.splitlines() if " = " in line]
    for name in ("masked_lm_accuracy", "masked_lm_loss", "sentence_order_accuracy",
                 "sentence_order_loss"):
        assert name in results
    assert results["next_sentence_loss"] == results["sentence_order_loss"]
    assert results["next_sentence_accuracy"] == results["sentence_order_accuracy"]
    assert (results["eval_records"], results["eval_records_total"]) == ("8", "8")
    assert results["global_step"] == "6"


def test_lamb_slots_and_configuration_are_saved(trained):
    values = read_checkpoint(trained[0] + "/model.ckpt-6")
    assert "bert/pooler/dense/kernel/lamb_m" in values
    assert values["global_step"] == 6
    assert json.loads(read(trained[0] + "/albert_config.json").decode())["num_hidden_layers"] == 2
    record = json.loads(read(trained[0] + "/run.json").decode())
    assert record["flags"]["num_train_steps"] == 6 and record["seconds"] > 0


def test_twice_in_a_row_identical_on_one_thread(folder, trained):
    status, _, err = pretrain(
        folder, "--init_checkpoint=%s/init.ckpt" % folder, "--output_dir=%s/again" % folder,
        "--do_train", "--train_batch_size=8", "--num_train_steps=6", "--num_warmup_steps=2",
        "--learning_rate=0.01")
    assert status == 0, err
    first = read_checkpoint(trained[0] + "/model.ckpt-6")
    second = read_checkpoint(folder + "/again/model.ckpt-6")
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


@pytest.mark.parametrize("name, optimizer", [("postln", "lamb"), ("preln", "lamb")])
def test_golden_steps_from_the_command_line(shared_data, tmp_path, name, optimizer):
    path = os.path.join(os.path.dirname(shared_data), "reference", "golden", name + ".npz")
    if not os.path.exists(path):
        pytest.skip("no golden file %s" % path)
    golden = np.load(path)
    settings = json.loads(str(golden["config"]))
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    write_checkpoint(tmp_path / "init.ckpt", pretraining_weights(**settings))
    keys = {"input_ids": "ids", "input_mask": "mask", "segment_ids": "seg",
            "masked_lm_positions": "pos", "masked_lm_ids": "mids", "masked_lm_weights": "mw",
            "next_sentence_labels": "sop"}
    write_records(tmp_path / "data.tfrecord", [
        {field: golden[key][row] for field, key in keys.items()} for row in range(3)])
    steps = int(golden["N"])
    status, _, err = run_script(
        "run_pretraining.py", "--bert_config_file=%s/config.json" % tmp_path,
        "--input_file=%s/data.tfrecord" % tmp_path, "--output_dir=%s/out" % tmp_path,
        "--init_checkpoint=%s/init.ckpt" % tmp_path, "--max_seq_length=16",
        "--max_predictions_per_seq=4", "--do_train", "--train_batch_size=3",
        "--num_train_steps=%d" % steps, "--num_warmup_steps=%d" % golden["W"],
        "--learning_rate=%r" % float(golden["LR"]), "--optimizer=" + optimizer)
    assert status == 0, err
    found = read_checkpoint("%s/out/model.ckpt-%d" % (tmp_path, steps))
    compared = 0
    for key in golden.files:
        variable = key[len("var/"):]
        if key.startswith("var/") and not variable.endswith("key/bias"):
            np.testing.assert_allclose(found[variable], golden[key], atol=1e-4, err_msg=variable)
            compared += 1
    assert compared == 30


def test_training_goes_on_and_stops_when_done(folder, trained):
    flags = ("--output_dir=" + trained[0], "--do_train", "--train_batch_size=8",
             "--num_warmup_steps=2", "--learning_rate=0.01")
    status, _, err = pretrain(folder, "--num_train_steps=6", *flags)
    assert status == 0 and "Already trained to step 6" in err
    status, _, err = pretrain(folder, "--num_train_steps=7", *flags)
    assert status == 0 and "Going on from" in err and "step 7/7" in err


def test_a_batch_beyond_the_data_is_said_and_goes_on(folder):
    status, _, err = pretrain(folder, "--output_dir=%s/large" % folder, "--do_train",
                              "--train_batch_size=20", "--num_train_steps=1",
                              "--num_warmup_steps=0")
    assert status == 0
    assert "--train_batch_size=20 is more than the 8 records" in err
    assert "Initialisation: random" in err


def test_bad_input(folder, trained, tmp_path):
    out = "--output_dir=%s/out" % tmp_path
    assert_user_error(pretrain(folder, out, "--do_train", "--learning_rat=1"), "learning_rat")
    assert_user_error(pretrain(folder, out), "--do_train")
    assert_user_error(pretrain(folder, out, "--do_train", "--max_seq_length=10"),
                      "data.tfrecord record 1: input_ids holds 12 numbers", "--max_seq_length=12")
    assert_user_error(pretrain(folder, out, "--do_train", "--max_seq_length=64"),
                      "beyond the 32 positions")
    assert_user_error(pretrain(folder, out, "--do_train", "--input_file=nowhere*.tfrecord"),
                      "no file matches nowhere*.tfrecord")
    assert_user_error(pretrain(folder, out, "--do_train", "--optimizer=sgd"), "--optimizer=sgd")
    assert_user_error(pretrain(folder, out, "--do_eval"), "holds no checkpoint")
    assert_user_error(
        pretrain(folder, out, "--do_train", "--init_checkpoint=%s/bert_model.ckpt" % folder),
        "bert_model.ckpt does not exist", "init.ckpt")
    assert_user_error(pretrain(folder, "--output_dir=" + trained[0], "--do_train",
                               "--optimizer=adamw", "--num_train_steps=9"),
                      "another optimizer", "adam_m")
    assert not os.path.exists("%s/out" % tmp_path)


def test_a_damaged_record_is_named(folder, tmp_path):
    content = read(folder + "/data.tfrecord")
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 0xFF
    (tmp_path / "data.tfrecord").write_bytes(bytes(damaged))
    write_config(tmp_path)
    result = pretrain(str(tmp_path), "--output_dir=%s/out" % tmp_path, "--do_train",
                      "--train_batch_size=8", "--num_train_steps=2", "--num_warmup_steps=0")
    assert_user_error(result, "data.tfrecord is damaged after record")
