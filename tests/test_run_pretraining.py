"""run_pretraining.py from the command line: steps against NumPy, results, resuming, bad input."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
import reference
from absl import flags
from helpers import (TINY, assert_user_error, pretraining_rows, pretraining_weights, read,
                     read_checkpoint, run_here, run_script, write_checkpoint, write_config,
                     write_records)

import curves
import run_pretraining


def flags_for(folder, *others):
    return ("--bert_config_file=%s/config.json" % folder,
            "--input_file=%s/data.tfrecord" % folder, "--num_threads=1", "--max_seq_length=12",
            "--max_predictions_per_seq=3") + others


def pretrain(folder, *others):
    return run_here(run_pretraining, *flags_for(folder, *others))


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
    status, out, err = run_script("run_pretraining.py", *flags_for(
        folder, "--init_checkpoint=%s/init.ckpt" % folder, "--output_dir=%s/lamb" % folder,
        "--do_train", "--do_eval", "--train_batch_size=8", "--eval_batch_size=3",
        "--num_train_steps=6", "--num_warmup_steps=2", "--learning_rate=0.01",
        "--save_checkpoints_steps=1"))
    assert status == 0, err
    assert "31 of 31 variables" in err and "step 6/6" in err
    assert "Curves: %s/lamb/curves.png" % folder in err
    assert "evaluating on the training data" in err
    return folder + "/lamb", out


def numpy_results(values, rows):
    """Losses and accuracies of a batch in NumPy, under their names in the curves."""
    nll, weight, order, right, order_right = 0.0, 0.0, 0.0, 0.0, 0
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
        right += ((logits.argmax(1) == row["masked_lm_ids"]) * row["masked_lm_weights"]).sum()
        scores = (pooled @ values["cls/seq_relationship/output_weights"].T
                  + values["cls/seq_relationship/output_bias"])
        order -= np.log(reference.softmax(scores)[row["next_sentence_labels"][0]])
        order_right += scores.argmax() == row["next_sentence_labels"][0]
    masked_lm_loss, order_loss = nll / (weight + 1e-5), order / len(rows)
    return {"loss": masked_lm_loss + order_loss, "masked_lm_loss": masked_lm_loss,
            "masked_lm_accuracy": right / weight, "sentence_order_loss": order_loss,
            "sentence_order_accuracy": order_right / len(rows)}


def test_loss_before_training_equals_numpy(folder):
    status, out, err = pretrain(
        folder, "--init_checkpoint=%s/init.ckpt" % folder, "--output_dir=%s/untrained" % folder,
        "--do_eval", "--eval_batch_size=8", "--eval_input_file=%s/data.tfrecord" % folder)
    assert status == 0, err
    results = dict(line.split(" = ") for line in out.splitlines() if " = " in line)
    for name, expected in numpy_results(pretraining_weights(), pretraining_rows(8)).items():
        assert float(results[name]) == pytest.approx(expected, abs=2e-5), name


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


def test_the_run_is_recorded(folder, trained):
    record = json.loads(read(trained[0] + "/run.json").decode())
    assert record["flags"]["num_train_steps"] == 6 and record["seconds"] > 0
    assert record["init_checkpoint"] == folder + "/init.ckpt"
    assert record["config"] == dict(TINY) and "tensorflow" in record["versions"]
    content = read(folder + "/data.tfrecord")
    assert [(path, facts["bytes"], facts["sha256"]) for path, facts in record["data"].items()] == [
        (folder + "/data.tfrecord", len(content), hashlib.sha256(content).hexdigest())]
    assert float(record["results"]["masked_lm_loss"]) > 0


def test_the_curves_of_a_run(trained):
    found = curves.read(trained[0])
    steps = {tag: [step for step, _ in points] for tag, points in found.items()}
    ours = ("loss", "masked_lm_loss", "masked_lm_accuracy", "sentence_order_loss",
            "sentence_order_accuracy", "learning_rate", "gradient_norm")
    assert set(found) >= set(ours + ("examples/sec", "eval masked_lm_loss"))
    assert all(steps[tag] == [1, 2, 3, 4, 5, 6] for tag in ours)
    assert steps["examples/sec"] == [2, 3, 4, 5, 6] and found["examples/sec"][0][1] > 0
    np.testing.assert_allclose([rate for _, rate in found["learning_rate"]], [
        reference.rate_at(step, 0.01, 6, 2) for step in range(6)], atol=1e-8)
    # What a step shows is what its batch, here all data, gave before the update.
    for weights, step in ((pretraining_weights(), 1),
                          (read_checkpoint(trained[0] + "/model.ckpt-5"), 6)):
        for name, expected in numpy_results(weights, pretraining_rows(8)).items():
            assert dict(found[name])[step] == pytest.approx(expected, abs=5e-5), (name, step)
    assert read(trained[0] + "/curves.png").startswith(b"\x89PNG")


def test_the_gradient_norm_is_the_steepest_slope_of_the_loss(trained):
    weights, rows = pretraining_weights(), pretraining_rows(8)
    weights = {name: value.astype(np.float64) for name, value in weights.items()}
    first = read_checkpoint(trained[0] + "/model.ckpt-1")
    moments = {name: first[name + "/lamb_m"].astype(np.float64) for name in weights}
    size = np.sqrt(sum((moment ** 2).sum() for moment in moments.values()))

    def loss_at(distance):  # along the gradient, which the first moment is a multiple of
        return numpy_results({name: value + distance / size * moments[name]
                              for name, value in weights.items()}, rows)["loss"]

    norm = dict(curves.read(trained[0])["gradient_norm"])[1]
    assert norm == pytest.approx((loss_at(1e-4) - loss_at(-1e-4)) / 2e-4, rel=1e-3)
    assert size == pytest.approx(0.1 * min(norm, 1.0), rel=1e-4)  # clipped to 1


def test_twice_in_a_row_identical_on_one_thread(folder, trained):
    # In processes of their own: the first session of a process makes its threads.
    status, _, err = run_script("run_pretraining.py", *flags_for(
        folder, "--init_checkpoint=%s/init.ckpt" % folder, "--output_dir=%s/again" % folder,
        "--do_train", "--train_batch_size=8", "--num_train_steps=6", "--num_warmup_steps=2",
        "--learning_rate=0.01"))
    assert status == 0, err
    first = read_checkpoint(trained[0] + "/model.ckpt-6")
    second = read_checkpoint(folder + "/again/model.ckpt-6")
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def test_batches_added_up_are_one_large_batch(folder, trained, tmp_path):
    same = ("--init_checkpoint=%s/init.ckpt" % folder, "--do_train", "--num_warmup_steps=2",
            "--learning_rate=0.01", "--output_dir=%s/run" % tmp_path)
    added_up = ("--train_batch_size=2", "--gradient_accumulation_steps=4")
    # Three steps of four batches; then the run goes on with large batches.
    for steps, batches in ((3, added_up), (6, ("--train_batch_size=8",))):
        status, _, err = pretrain(folder, "--num_train_steps=%d" % steps, *same + batches)
        assert status == 0 and "step %d/%d" % (steps, steps) in err, err
        found = read_checkpoint("%s/run/model.ckpt-%d" % (tmp_path, steps))
        assert found["global_step"] == steps
        assert set(found) == set(read_checkpoint(trained[0] + "/model.ckpt-6"))
    # The rate falls to 0 at --num_train_steps, so the first steps are compared by their losses.
    curve = dict(curves.read("%s/run" % tmp_path)["loss"])
    expected = dict(curves.read(trained[0])["loss"])
    assert sorted(curve) == [1, 2, 3, 4, 5, 6]
    for step in (1, 2, 3):
        assert curve[step] == pytest.approx(expected[step], abs=2e-5), step
    status, _, err = pretrain(folder, "--init_checkpoint=%s/init.ckpt" % folder, "--do_train",
                              "--num_warmup_steps=2", "--learning_rate=0.01", "--num_train_steps=6",
                              "--output_dir=%s/small" % tmp_path, *added_up)
    assert status == 0, err
    large = read_checkpoint(trained[0] + "/model.ckpt-6")
    small = read_checkpoint("%s/small/model.ckpt-6" % tmp_path)
    for name, value in large.items():
        if "/key/bias" not in name:  # its gradient is 0 but for rounding, which LAMB scales up
            np.testing.assert_allclose(small[name], value, atol=2e-5, err_msg=name)


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
    status, _, err = run_here(
        run_pretraining, "--bert_config_file=%s/config.json" % tmp_path,
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


def test_training_goes_on_and_stops_when_done(folder, trained, tmp_path):
    shutil.copytree(trained[0], str(tmp_path / "run"))
    same = ("--output_dir=%s/run" % tmp_path, "--do_train", "--train_batch_size=8",
            "--num_warmup_steps=2", "--learning_rate=0.01")
    before = json.loads(read("%s/run/run.json" % tmp_path).decode())
    status, _, err = pretrain(folder, "--num_train_steps=6", *(same + ("--learning_rate=0.5",)))
    assert status == 0 and "Already trained to step 6" in err
    # What made the weights stays on record, with what came of them.
    record = json.loads(read("%s/run/run.json" % tmp_path).decode())
    assert all(record[name] == before[name] for name in ("flags", "trained_with", "results"))
    assert record["flags_of_last_call"]["learning_rate"] == 0.5
    status, _, err = pretrain(folder, "--num_train_steps=7", *same)
    assert status == 0 and "Going on from" in err and "step 7/7" in err
    assert [step for step, _ in curves.read("%s/run" % tmp_path)["loss"]] == list(range(1, 8))


def test_a_batch_beyond_the_data_is_said_and_goes_on(folder):
    status, _, err = pretrain(folder, "--output_dir=%s/large" % folder, "--do_train",
                              "--train_batch_size=20", "--num_train_steps=1",
                              "--num_warmup_steps=0")
    assert status == 0
    assert "a batch of 20 (--train_batch_size x accumulation x devices) is more than the 8" in err
    assert "Initialisation: random" in err


def test_bad_input(folder, trained, tmp_path):
    out = "--output_dir=%s/out" % tmp_path
    with pytest.raises(flags.Error, match="learning_rat"):
        pretrain(folder, out, "--do_train", "--learning_rat=1")
    assert_user_error(pretrain(folder, out), "--do_train")
    assert_user_error(pretrain(folder, out, "--do_train", "--max_seq_length=10"),
                      "data.tfrecord record 1: input_ids holds 12 numbers", "--max_seq_length=12")
    assert_user_error(pretrain(folder, out, "--do_train", "--max_seq_length=64"),
                      "beyond the 32 positions")
    assert_user_error(pretrain(folder, out, "--do_train", "--input_file=nowhere*.tfrecord"),
                      "no file matches nowhere*.tfrecord")
    assert_user_error(pretrain(folder, out, "--do_train", "--optimizer=sgd"), "--optimizer=sgd")
    assert_user_error(pretrain(folder, out, "--do_train", "--gradient_accumulation_steps=0"),
                      "--gradient_accumulation_steps=0: at least 1")
    assert_user_error(pretrain(folder, out, "--do_train", "--random_seed=1" + "0" * 19),
                      "at most 63 bits")
    assert_user_error(pretrain(folder, out, "--do_train", "--eval_input_file=other"),
                      "--eval_input_file=other has no effect without --do_eval")
    assert_user_error(pretrain(folder, out, "--do_train", "--tpu_name=pod"),
                      "--tpu_name=pod has no effect without --use_tpu")
    assert_user_error(pretrain(folder, out, "--do_train", "--num_warmup_steps=0",
                               "--start_warmup_step=2"), "no effect without --num_warmup_steps")
    assert_user_error(pretrain(folder, out, "--do_train", "--num_train_steps=6",
                               "--num_warmup_steps=1", "--start_warmup_step=6"),
                      "--start_warmup_step=6 is not below --num_train_steps=6")
    assert_user_error(pretrain(folder, out, "--do_eval"), "holds no checkpoint")
    assert_user_error(
        pretrain(folder, out, "--do_train", "--init_checkpoint=%s/bert_model.ckpt" % folder),
        "bert_model.ckpt does not exist", "init.ckpt")
    assert_user_error(pretrain(folder, "--output_dir=" + trained[0], "--do_train",
                               "--optimizer=adamw", "--num_train_steps=9"),
                      "another optimizer", "adam_m")
    assert not os.path.exists("%s/out" % tmp_path)


def test_a_configuration_of_the_users_is_not_replaced(folder, tmp_path):
    write_config(tmp_path, hidden_dropout_prob=0.3)
    os.rename(str(tmp_path / "config.json"), str(tmp_path / "albert_config.json"))
    before = read(tmp_path / "albert_config.json")
    assert_user_error(pretrain(folder, "--output_dir=%s" % tmp_path, "--do_train"),
                      "holds another albert_config.json", "choose an empty --output_dir")
    assert os.listdir(str(tmp_path)) == ["albert_config.json"]
    assert read(tmp_path / "albert_config.json") == before


def test_a_run_does_not_begin_in_the_folder_that_it_starts_from(folder, tmp_path):
    write_config(tmp_path)
    write_checkpoint(tmp_path / "albert_model.ckpt", pretraining_weights())
    before = sorted(os.listdir(str(tmp_path)))
    assert_user_error(
        pretrain(folder, "--output_dir=%s/." % tmp_path, "--do_train",
                 "--init_checkpoint=%s/albert_model.ckpt" % tmp_path),
        "is the folder of --init_checkpoint", "choose another one")
    assert sorted(os.listdir(str(tmp_path))) == before


def test_a_masked_position_in_the_padding_is_named(folder, tmp_path):
    rows = pretraining_rows(8)
    rows[5]["input_mask"] = np.where(np.arange(12) < 6, 1, 0)
    rows[5]["masked_lm_positions"] = np.array([1, 2, 9])
    write_records(tmp_path / "data.tfrecord", rows)
    write_config(tmp_path)
    result = pretrain(str(tmp_path), "--output_dir=%s/out" % tmp_path, "--do_train",
                      "--train_batch_size=8", "--num_train_steps=1", "--num_warmup_steps=0")
    assert_user_error(result, "data.tfrecord record 6: masked_lm_positions holds 9, but the record "
                              "has 6 tokens")


def test_a_seed_may_have_many_digits(folder, tmp_path):
    status, _, err = pretrain(folder, "--output_dir=%s/out" % tmp_path, "--do_train",
                              "--train_batch_size=8", "--num_train_steps=1",
                              "--num_warmup_steps=0", "--random_seed=20261129123456")
    assert status == 0, err


def test_a_damaged_record_is_named(folder, tmp_path):
    content = read(folder + "/data.tfrecord")
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 0xFF
    (tmp_path / "data.tfrecord").write_bytes(bytes(damaged))
    write_config(tmp_path)
    result = pretrain(str(tmp_path), "--output_dir=%s/out" % tmp_path, "--do_train",
                      "--train_batch_size=8", "--num_train_steps=2", "--num_warmup_steps=0")
    assert_user_error(result, "data.tfrecord is damaged after record")
