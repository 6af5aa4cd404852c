"""run_classifier.py: the model against NumPy, the course of a run, best checkpoint, bad input."""

import io
import json
import os
import shutil

import numpy as np
import pytest
import reference
from absl import flags
from helpers import (TINY, assert_user_error, read, read_checkpoint, run_here, run_script,
                     write_checkpoint, write_config, write_vocabulary)

import classifier
import curves
import distribution
import estimators
import features
import files
import heads
import modeling
import run_classifier
import selection
import tasks
import tokenization

import tensorflow.compat.v1 as tf

PAIRS = [("怎么开花呗", "花呗怎么开", "1"), ("怎么开花呗", "借呗多少钱", "0"),
         ("天气好吗", "今天天气好不好", "1"), ("天气好吗", "苹果多少钱一斤", "0")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A configuration, a vocabulary and afqmc data: 32 training, 8 dev and 4 test rows."""
    folder = tmp_path_factory.mktemp("classifier")
    write_config(folder)
    write_vocabulary(folder, [a + b for a, b, _ in PAIRS])
    for split, times in (("train", 8), ("dev", 2), ("test", 1)):
        with io.open(str(folder / (split + ".json")), "w", encoding="utf-8") as stream:
            for a, b, label in PAIRS * times:
                row = {"sentence1": a, "sentence2": b, "label": label}
                if split == "test":
                    del row["label"]
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return str(folder)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return tokenization.FullTokenizer(folder + "/vocab.txt")


def flags_for(folder, *others):
    return ("--data_dir=" + folder, "--bert_config_file=%s/config.json" % folder,
            "--vocab_file=%s/vocab.txt" % folder, "--task_name=afqmc", "--max_seq_length=24",
            "--num_threads=1") + others


def classify(folder, *others):
    return run_here(run_classifier, *flags_for(folder, *others))


def fine_tuned_weights(classes=2, **changes):
    config = modeling.BertConfig.from_dict(dict(TINY, **changes))
    return reference.initial_values(
        heads.classifier_variable_shapes(config, modeling.BertModel, classes))


# ---------------------------------------------------------------------------------------------
# Losses and metrics
# ---------------------------------------------------------------------------------------------

def evaluated(folder, output_dir, **changes):
    """Evaluates a trained model as finetuning does; returns (row of results, confusion matrix)."""
    settings = estimators.RunSettings(
        output_dir=output_dir, use_tpu=False, tpu_name=None, tpu_zone=None, gcp_project=None,
        master=None, num_tpu_cores=8, iterations_per_loop=1, save_checkpoints_steps=1,
        keep_checkpoint_max=0, random_seed=1, num_threads=changes.pop("num_threads", 0),
        xla=changes.pop("xla", False))
    task = tasks.get("afqmc")
    config = modeling.BertConfig.from_json_file(folder + "/config.json")
    making = features.Settings(tokenization.FullTokenizer(folder + "/vocab.txt"), "key", 24, "head")
    split = features.split_features(task, "dev", task.read(folder, "dev"), output_dir, making)
    work = classifier.Classifier(task, config, modeling.BertModel, settings, 24)
    return work._evaluate_one(split, changes["batch_size"], output_dir + "/model.ckpt-6")


def test_an_evaluation_scores_every_row_once(folder, copied, monkeypatch):
    """Whatever the batches, one after the other or side by side, filled up to one shape or not."""
    # What the session compiles is another test's; here the input's fixed shapes count.
    monkeypatch.setattr(estimators, "session_config", lambda run: tf.ConfigProto())
    row, matrix = evaluated(folder, copied, batch_size=3)
    assert matrix.sum() == 8 and row["step"] == 6
    assert row["eval_accuracy"] == np.trace(matrix) / 8.0
    recorded = [one for one in results_in(copied)["checkpoints"] if one["step"] == 6][0]
    for name in ("eval_accuracy", "eval_loss", "macro_f1"):
        assert row[name] == pytest.approx(recorded[name], abs=1e-6)
    for others in ({"num_threads": 1, "batch_size": 1}, {"xla": True, "batch_size": 3},
                   {"batch_size": 100}):
        other, its_matrix = evaluated(folder, copied, **others)
        assert other["eval_loss"] == pytest.approx(row["eval_loss"], abs=1e-6)
        np.testing.assert_array_equal(its_matrix, matrix)


def test_examples_weigh_what_their_classes_do():
    label_ids = [0, 2, 1, 0]
    with tf.Graph().as_default(), tf.Session() as session:
        plain, weighted = session.run([
            classifier.example_weights(tf.constant(label_ids), weights)
            for weights in (None, [0.5, 1.0, 4.0])])
    assert plain.tolist() == [1.0] * 4 and weighted.tolist() == [0.5, 4.0, 1.0, 0.5]


@pytest.mark.parametrize("parts, recompute", [(1, False), (3, False), (1, True), (3, True)])
def test_a_training_step_follows_the_weighted_loss(folder, tokenizer, monkeypatch, parts,
                                                   recompute):
    monkeypatch.setattr(heads, "POOLED_DROPOUT", 0.0)
    class_weights = (0.5, 3.0)
    batch = [features.featurise(tasks.Example(0, a, b, label), ("0", "1"), tokenizer, 24)
             for a, b, label in PAIRS[:3]]
    width = max(len(row["input_ids"]) for row in batch)
    fed = {name: np.array([row[name] + [0] * (width - len(row[name])) for row in batch], np.int32)
           for name in ("input_ids", "input_mask", "segment_ids")}
    fed["label_ids"] = np.array([1, 0, 1], np.int32)
    fed["is_real_example"] = np.ones(3, np.int32)
    values = fine_tuned_weights()
    with tf.Graph().as_default(), tf.Session() as session:
        tf.train.get_or_create_global_step()
        spec = classifier.model_fn_builder(
            modeling.BertConfig.from_dict(TINY), modeling.BertModel, heads.ClassifierHead(2, True),
            classifier.Recipe(0.01, 10, 0, class_weights, parts), recompute=recompute)(
                {name: tf.constant(value) for name, value in fed.items()}, None,
                tf.estimator.ModeKeys.TRAIN, None)
        session.run(tf.global_variables_initializer())
        for variable in tf.trainable_variables():
            variable.load(values[variable.op.name], session)
        loss, norm, _ = session.run([spec.loss, "gradient_norm:0", spec.train_op])
        slots = {variable.op.name: variable for variable in tf.global_variables()}
        moment, bias = session.run([slots["output_bias/adam_m"], slots["output_bias"]])

    probabilities = np.array([numpy_probabilities(TINY, values, tokenizer, a, b, 24)
                              for a, b, _ in PAIRS[:3]])
    of_rows = np.array([class_weights[label] for label in fed["label_ids"]])
    nll = -np.log(probabilities[np.arange(3), fed["label_ids"]])
    assert loss == pytest.approx((of_rows * nll).sum() / of_rows.sum(), abs=1e-5)
    gradient = ((of_rows / of_rows.sum())[:, None]
                * (probabilities - np.eye(2)[fed["label_ids"]])).sum(axis=0) / max(norm, 1.0)
    np.testing.assert_allclose(moment, 0.1 * gradient, atol=1e-6)
    step = 0.01 * 0.1 * gradient / (np.sqrt(0.001 * gradient ** 2) + 1e-6)
    np.testing.assert_allclose(bias, values["output_bias"] - step, atol=1e-5)


# ---------------------------------------------------------------------------------------------
# Probabilities against NumPy
# ---------------------------------------------------------------------------------------------

def numpy_probabilities(settings, weights, tokenizer, text_a, text_b, length, truncate="head",
                        use_pooled_output=True):
    """Class probabilities of one pair in NumPy."""
    made = features.featurise(tasks.Example(0, text_a, text_b, None), ("0", "1"), tokenizer,
                              length, truncate)
    ids, mask, segments = (np.array(made[name]) for name in (
        "input_ids", "input_mask", "segment_ids"))
    _, layers, pooled = reference.encode(settings, weights, ids, mask, segments)
    if not use_pooled_output:
        pooled = layers[-1].mean(axis=0)
    if settings["ln_type"] == "preln":
        pooled = reference.normalise(pooled, weights, "loss/LayerNorm")
    return reference.softmax(pooled @ weights["output_weights"].T + weights["output_bias"])


def probabilities_in(path):
    lines = read(path).decode().splitlines()
    return np.array([[float(value) for value in line.split("\t")] for line in lines])


@pytest.mark.parametrize("ln_type, use_pooled_output", [
    ("postln", True), ("preln", True), ("postln", False), ("preln", False)])
def test_probabilities_equal_numpy(folder, tokenizer, tmp_path, ln_type, use_pooled_output):
    write_config(tmp_path, ln_type=ln_type)
    weights = fine_tuned_weights(ln_type=ln_type)
    write_checkpoint(tmp_path / "model.ckpt", weights)
    status, _, err = classify(folder, "--bert_config_file=%s/config.json" % tmp_path,
                              "--init_checkpoint=%s" % tmp_path, "--do_predict",
                              "--output_dir=%s/out" % tmp_path, "--predict_batch_size=3",
                              "--use_pooled_output=%s" % use_pooled_output)
    assert status == 0, err
    found = probabilities_in(tmp_path / "out" / "test_results.tsv")
    first = read(tmp_path / "out" / "test_results.tsv").decode().split("\t")[0]
    assert len(first.replace("0.", "").lstrip("0")) >= 8  # significant digits
    for row, (a, b, _) in zip(found, PAIRS):
        np.testing.assert_allclose(row, numpy_probabilities(
            dict(TINY, ln_type=ln_type), weights, tokenizer, a, b, 24,
            use_pooled_output=use_pooled_output), atol=2e-5)
    submission = read(tmp_path / "out" / "afqmc_predict.json").decode().splitlines()
    assert [json.loads(line) for line in submission] == [
        {"id": i, "label": str(int(row.argmax()))} for i, row in enumerate(found)]


@pytest.mark.parametrize("truncate, use_pooled_output", [("head", True), ("head_tail", False)])
def test_probabilities_of_real_pairs_equal_numpy(shared_data, vocab_file, tmp_path, truncate,
                                                 use_pooled_output):
    task = tasks.get("lcqmc")
    examples = task.read(os.path.join(shared_data, "lcqmc"), "dev")[:60]
    files.write_text(str(tmp_path / "test.txt"), "".join(
        "%s\t%s\t%s\n" % (row.text_a, row.text_b, row.label) for row in examples))
    changes = {"vocab_size": 21128, "hidden_size": 48, "num_attention_heads": 4}
    write_config(tmp_path, **changes)
    weights = fine_tuned_weights(**changes)
    write_checkpoint(tmp_path / "model.ckpt", weights)
    status, out, err = run_here(
        run_classifier, "--task_name=lcqmc_pair", "--data_dir=%s" % tmp_path,
        "--bert_config_file=%s/config.json" % tmp_path, "--vocab_file=" + vocab_file,
        "--init_checkpoint=%s/model.ckpt" % tmp_path, "--output_dir=%s/out" % tmp_path,
        "--max_seq_length=20", "--do_predict", "--truncate=" + truncate,
        "--use_pooled_output=%s" % use_pooled_output)
    assert status == 0, err
    found = probabilities_in(tmp_path / "out" / "test_results.tsv")
    tokenizer = tokenization.FullTokenizer(vocab_file)
    expected = [numpy_probabilities(dict(TINY, **changes), weights, tokenizer, row.text_a,
                                    row.text_b, 20, truncate, use_pooled_output)
                for row in examples]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    truth = np.array([int(example.label) for example in examples])
    right = np.mean(found.argmax(1) == truth)
    f1 = [2 * np.sum((found.argmax(1) == c) & (truth == c))
          / (np.sum(found.argmax(1) == c) + np.sum(truth == c)) for c in (0, 1)]
    assert "test accuracy %.4f, macro-F1 %.4f on 60 examples" % (right, np.mean(f1)) in out


# ---------------------------------------------------------------------------------------------
# The course of a run
# ---------------------------------------------------------------------------------------------

ALL_STEPS = ("--do_train", "--do_eval", "--do_predict", "--train_batch_size=8",
             "--max_train_steps=6", "--save_checkpoints_steps=2", "--learning_rate=1e-3",
             "--num_train_epochs=9", "--warmup_proportion=0.34")


@pytest.fixture(scope="module")
def trained(folder):
    """The output folder of six steps, which the command line ran through to the end."""
    status, out, err = run_script("run_classifier.py", *flags_for(
        folder, "--output_dir=%s/run" % folder, *ALL_STEPS))
    assert status == 0, err
    return folder + "/run", out, err


@pytest.fixture()
def copied(trained, tmp_path):
    """A copy of that folder to work in."""
    shutil.copytree(trained[0], str(tmp_path / "run"))
    return str(tmp_path / "run")


def results_in(output_dir):
    return json.loads(read(os.path.join(output_dir, "eval_results.json")).decode())


def test_every_saved_checkpoint_is_evaluated_and_the_best_predicts(trained):
    output_dir, out, err = trained
    results = results_in(output_dir)
    assert [row["step"] for row in results["checkpoints"]] == [2, 4, 6]
    assert results["best"] == selection.best_of(results["checkpoints"])
    assert "Predicting 4 examples with %s/%s" % (
        output_dir, results["best"]["checkpoint"]) in err
    assert "best" in out
    text = read(output_dir + "/eval_results.txt").decode()
    for name in ("eval_accuracy", "eval_loss", "macro_f1"):
        assert "%s = %s\n" % (name, results["best"][name]) in text
    assert len(read(output_dir + "/test_results.tsv").decode().splitlines()) == 4
    for name in ("albert_config.json", "vocab.txt", "labels.txt", "run.json",
                 "afqmc_predict.json"):
        assert os.path.exists(os.path.join(output_dir, name))


def test_the_best_is_reported_class_by_class(trained):
    best, report = results_in(trained[0])["best"], read(trained[0] + "/eval_report.txt").decode()
    heading, text = report.split("\n\n", 1)
    assert heading == "# %s (%s), data %s" % (
        best["checkpoint"], best["fingerprint"][:16], best["data"])
    assert "accuracy %.4f" % best["eval_accuracy"] in text
    assert "macro-F1 %.4f" % best["macro_f1"] in text and text.strip() in trained[1]
    assert read(trained[0] + "/confusion_matrix.png").startswith(b"\x89PNG")


def test_adamw_slots_are_saved(trained):
    assert "output_weights/adam_m" in read_checkpoint(trained[0] + "/model.ckpt-6")


def test_the_curves_of_a_run(trained):
    found = curves.read(trained[0])
    steps = {tag: [step for step, _ in points] for tag, points in found.items()}
    assert set(found) >= {"loss", "accuracy", "learning_rate", "gradient_norm", "examples/sec",
                          "eval accuracy", "eval loss"}
    for tag in ("loss", "accuracy", "learning_rate", "gradient_norm"):
        assert steps[tag] == [1, 2, 3, 4, 5, 6]
    assert steps["examples/sec"] == [2, 3, 4, 5, 6]
    assert steps["eval accuracy"] == steps["eval loss"] == [2, 4, 6]
    # The rate of the step that was done: two steps of warm-up, then linear decay.
    np.testing.assert_allclose([rate for _, rate in found["learning_rate"]], [
        reference.rate_at(step, 1e-3, 6, 2) for step in range(6)], atol=1e-9)
    assert all(0 < loss < 2 for _, loss in found["loss"])
    assert all(accuracy * 8 in range(9) for _, accuracy in found["accuracy"])
    assert all(value > 0 for tag in ("gradient_norm", "examples/sec") for _, value in found[tag])
    rows = results_in(trained[0])["checkpoints"]
    np.testing.assert_allclose([value for _, value in found["eval accuracy"]],
                               [row["eval_accuracy"] for row in rows])
    np.testing.assert_allclose([value for _, value in found["eval loss"]],
                               [row["eval_loss"] for row in rows], rtol=1e-6)
    assert read(trained[0] + "/curves.png").startswith(b"\x89PNG")
    assert "Curves: %s/curves.png" % trained[0] in trained[2]


def test_a_second_run_repeats_nothing_and_makes_the_same(folder, copied):
    names = ("test_results.tsv", "eval_report.txt", "eval_results.txt", "eval_results.json",
             "classifier.json")
    before = [read(os.path.join(copied, name)) for name in names]
    status, _, err = classify(folder, "--output_dir=" + copied, *ALL_STEPS)
    assert status == 0, err
    assert "Already trained to step 6" in err
    assert "features" not in err and "evaluate" not in err
    assert [read(os.path.join(copied, name)) for name in names] == before
    # Fewer steps than were trained are refused: the results would pass for theirs.
    record = read(copied + "/run.json")
    status, _, err = classify(folder, "--output_dir=" + copied, *(
        ALL_STEPS + ("--max_train_steps=2",)))
    assert status == 1 and "holds a run of 6 steps, and 2 are asked for" in err, err
    assert read(copied + "/run.json") == record
    assert [read(os.path.join(copied, name)) for name in names] == before


def test_the_report_is_always_that_of_the_best(folder, copied):
    def report():
        status, _, err = classify(folder, "--output_dir=" + copied, "--do_eval")
        assert status == 0, err
        text = read(copied + "/eval_report.txt").decode()
        assert "(" + files.fingerprint("%s/%s.index" % (
            copied, results_in(copied)["best"]["checkpoint"]))[:16] + ")" in text
        return text.split(" ")[1], [line.split()[1] for line in err.splitlines()
                                    if line.startswith("evaluate ")]

    # Step 2 was found to be the best; the report at hand is of another step or has no heading.
    results = results_in(copied)
    results["checkpoints"][0]["eval_accuracy"] = 0.99
    files.write_json(copied + "/eval_results.json", results)
    files.write_text(copied + "/eval_report.txt", "accuracy 0.5\n")
    assert report() == ("model.ckpt-2", ["model.ckpt-2"])
    assert report() == ("model.ckpt-2", [])
    for path in os.listdir(copied):
        if path.startswith("model.ckpt-2"):
            os.remove(os.path.join(copied, path))
    best = selection.best_of(results["checkpoints"][1:])["checkpoint"]
    assert report() == (best, [best])
    assert report() == (best, [])


def test_results_of_one_head_are_not_those_of_the_other(folder, tmp_path):
    prefix = write_checkpoint(tmp_path / "model.ckpt", fine_tuned_weights())
    losses = []
    for use_pooled_output in (True, False):
        status, _, err = classify(folder, "--output_dir=%s/out" % tmp_path, "--do_eval",
                                  "--init_checkpoint=" + prefix,
                                  "--use_pooled_output=%s" % use_pooled_output)
        assert status == 0, err
        losses.append(results_in(str(tmp_path / "out"))["best"]["eval_loss"])
    assert losses[0] != losses[1]


def test_other_settings_or_another_task_never_mix_with_a_finished_run(folder, trained, root):
    run = "--output_dir=" + trained[0]
    for change, told in (("--learning_rate=9e-3", "learning_rate: 0.001 then, 0.009 now"),
                         ("--truncate=tail", "truncate: head then, tail now"),
                         ("--random_seed=77", "random_seed: 12345 then, 77 now"),
                         ("--class_weights=balanced", "class_weights: none then, balanced now"),
                         ("--use_pooled_output=False", "use_pooled_output: True then, False now")):
        assert_user_error(classify(folder, run, *(ALL_STEPS + (change,))), told,
                          "choose another --output_dir")
    assert_user_error(classify(folder, run, "--do_eval", "--task_name=lcqmc",
                               "--data_dir=%s/data/clue_sample/lcqmc" % root),
                      "task: afqmc then, lcqmc now")
    assert_user_error(classify(folder, run, "--do_predict", "--use_pooled_output=False"),
                      "use_pooled_output: True then, False now")


def test_more_devices_or_dropout_are_other_settings(folder, trained, tmp_path, monkeypatch):
    """With more devices the same epochs are fewer steps: the run would end too early."""
    run = ("--output_dir=" + trained[0],) + ALL_STEPS
    config = json.loads(read(folder + "/config.json").decode())
    files.write_json(str(tmp_path / "config.json"), dict(config, hidden_dropout_prob=0.25))
    assert_user_error(classify(folder, *(run + ("--bert_config_file=%s/config.json" % tmp_path,))),
                      "hidden_dropout_prob: ", "0.25 now")
    monkeypatch.setattr(distribution, "replicas", lambda settings: 2)
    assert_user_error(classify(folder, *run), "examples_of_a_step: 8 then, 16 now")


@pytest.mark.parametrize("flag", ["init_checkpoint", "predict_checkpoint"])
def test_a_classifier_is_used_as_it_was_trained(folder, trained, tmp_path, flag):
    there = ("--output_dir=%s/out" % tmp_path, "--%s=%s/model.ckpt-6" % (flag, trained[0]),
             "--do_predict")
    lines = read(folder + "/vocab.txt").decode().splitlines()
    files.write_text(str(tmp_path / "vocab.txt"), "\n".join(lines[:5] + lines[:4:-1]) + "\n")
    for change, told in (("--use_pooled_output=False", "use_pooled_output: True then, False now"),
                         ("--do_lower_case=False", "do_lower_case: True then, False now"),
                         ("--vocab_file=%s/vocab.txt" % tmp_path, "vocabulary: ")):
        assert_user_error(classify(folder, *(there + (change,))), "classifier.json", told)
    assert not os.path.exists("%s/out" % tmp_path)


def test_prediction_leaves_what_the_training_wrote(folder, copied):
    names = ("classifier.json", "labels.txt", "vocab.txt", "albert_config.json")
    before = [read(os.path.join(copied, name)) for name in names]
    status, _, err = classify(folder, "--output_dir=" + copied, "--do_predict",
                              "--max_seq_length=12", "--truncate=tail")
    assert status == 0, err
    assert [read(os.path.join(copied, name)) for name in names] == before
    assert json.loads(before[0].decode()) == {
        "max_seq_length": 24, "do_lower_case": True, "use_pooled_output": True,
        "truncate": "head", "task": "afqmc", "labels": ["0", "1"]}


def test_only_the_runs_own_checkpoints_count_as_its_best(folder, trained, tmp_path):
    out = "--output_dir=%s/out" % tmp_path
    init = "--init_checkpoint=%s/model.ckpt-6" % trained[0]
    status, _, err = classify(folder, out, init, "--do_eval")
    assert status == 0, err
    status, _, err = classify(folder, out, init, "--do_train", "--max_train_steps=1")
    assert status == 0, err
    status, _, err = classify(folder, out, "--do_predict")
    assert status == 0 and "with %s/out/model.ckpt-1" % tmp_path in err, err


def test_a_run_of_the_mean_goes_on_and_needs_no_state_file(folder, tmp_path):
    """The pooled output's weights take no part in it: they have no gradient and no slots."""
    same = ("--output_dir=%s" % tmp_path, "--do_train", "--use_pooled_output=False")
    status, _, err = classify(folder, "--max_train_steps=1", *same)
    assert status == 0, err
    for name in os.listdir(str(tmp_path)):
        if name == "checkpoint" or name.startswith("model.ckpt-0"):
            os.remove(str(tmp_path / name))
    status, _, err = classify(folder, "--max_train_steps=2", *same)
    assert status == 0 and "Going on from %s/model.ckpt-1" % tmp_path in err, err
    assert not os.path.exists("%s/model.ckpt-0.index" % tmp_path)
    before, after = (read_checkpoint(tmp_path / ("model.ckpt-%d" % step)) for step in (1, 2))
    moved = {name: np.abs(before[name] - after[name]).max() for name in before}
    assert moved["bert/pooler/dense/kernel"] == 0 < moved["output_weights"] < 1e-2
    assert 0 < moved["bert/encoder/layer_shared/output/dense/kernel"] < 1e-2


def test_a_named_checkpoint_predicts_instead_of_the_best(folder, trained, tmp_path):
    status, _, err = classify(folder, "--output_dir=%s" % tmp_path, "--do_predict",
                              "--predict_checkpoint=%s/model.ckpt-2" % trained[0])
    assert status == 0, err
    assert "Predicting 4 examples with %s/model.ckpt-2" % trained[0] in err


# ---------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------

def test_unknown_flags_and_values_are_refused(folder, tmp_path):
    out = "--output_dir=%s/out" % tmp_path
    with pytest.raises(flags.Error, match="num_train_epoch"):
        classify(folder, out, "--do_train", "--num_train_epoch=3")
    for flag in ("truncate", "class_weights"):
        with pytest.raises(flags.Error, match=flag):
            classify(folder, out, "--do_train", "--%s=middle" % flag)


def test_bad_input(folder, trained, tmp_path):
    out = "--output_dir=%s/out" % tmp_path
    cases = [
        ((), ("nothing to do",)),
        (("--do_eval", "--predict_checkpoint=x"), ("no effect without --do_predict",)),
        (("--do_train", "--task_name=afqcm"), ("afqcm", "afqmc")),
        (("--do_train", "--data_dir=%s" % tmp_path), ("train.json",)),
        (("--do_train", "--data_dir="), ("--data_dir is missing",)),
        (("--do_train", "--max_seq_length=33"), ("beyond the 32 positions",)),
        (("--do_train", "--vocab_file=%s/none.txt" % tmp_path), ("none.txt does not exist",)),
        (("--do_train", "--learning_rate=0"), ("--learning_rate=0",)),
        (("--do_train", "--train_batch_size=0"), ("--train_batch_size=0",)),
        (("--do_train", "--warmup_proportion=1"), ("--warmup_proportion=1",)),
        (("--do_train", "--text_columns=2"), ("--text_columns=2 has no meaning for task afqmc",)),
        (("--do_predict",), ("holds no checkpoint", "--do_train")),
        (("--do_predict", "--predict_checkpoint=%s/model.ckpt-3" % trained[0]),
         ("model.ckpt-3 does not exist", "model.ckpt-2")),
        (("--do_eval", "--init_checkpoint=%s/bare.ckpt" % tmp_path),
         ("no fitting head", "output_weights [2, 16] is missing")),
    ]
    weights = {k: v for k, v in fine_tuned_weights().items() if k.startswith("bert/")}
    write_checkpoint(tmp_path / "bare.ckpt", weights)
    for others, fragments in cases:
        assert_user_error(classify(folder, out, *others), *fragments)
    assert not os.path.exists("%s/out" % tmp_path)


def test_a_bad_row_is_named_before_training_starts(folder, tmp_path):
    files.write_text(str(tmp_path / "train.json"),
                     '{"sentence1": "天气", "sentence2": "好吗", "label": "1"}\n'
                     '{"sentence1": "天气", "sentence2": "好吗", "label": "2"}\n')
    result = classify(folder, "--data_dir=%s" % tmp_path, "--do_train",
                      "--output_dir=%s/out" % tmp_path)
    assert_user_error(result, "train.json line 2", '2')
    assert not os.path.exists("%s/out" % tmp_path)


def test_csl_at_length_256_keeps_its_keywords(root, vocab_file, tmp_path):
    """The length of CLUE's published figure: an abstract that is too long gives way, no keyword."""
    config = write_config(tmp_path, vocab_size=21128, max_position_embeddings=256)
    rows = {}
    for split in ("train", "dev", "test"):
        path = os.path.join(root, "data", "clue_sample", "csl", split + ".json")
        rows[split] = [row for _, row in files.read_json_lines(path)][:6]
        rows[split][0]["abst"] *= 9  # longer than fits
        files.write_text(str(tmp_path / (split + ".json")), "".join(
            json.dumps(row, ensure_ascii=False) + "\n" for row in rows[split]))
    status, _, err = run_here(
        run_classifier, "--task_name=csl", "--data_dir=%s" % tmp_path, "--vocab_file=" + vocab_file,
        "--bert_config_file=" + config, "--output_dir=%s/out" % tmp_path, "--max_seq_length=256",
        "--train_batch_size=4", "--max_train_steps=1", "--do_train", "--do_eval", "--do_predict")
    assert status == 0, err
    submitted = [row for _, row in files.read_json_lines("%s/out/csl_predict.json" % tmp_path)]
    assert [row["id"] for row in submitted] == [row["id"] for row in rows["test"]]
    tokenizer = tokenization.FullTokenizer(vocab_file)
    example = tasks.get("csl").read(str(tmp_path), "test")[0]
    made = features.featurise(example, ("0", "1"), tokenizer, 256)
    assert len(made["input_ids"]) == 256
    keywords = tokenizer.tokenize(" ".join(rows["test"][0]["keyword"]))
    tokens = tokenizer.convert_ids_to_tokens(made["input_ids"])
    assert tokens[1:1 + len(keywords) + 1] == keywords + ["[SEP]"]
