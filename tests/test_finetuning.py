"""Fine-tuning on one's own data from the command line, and what decides the course of a run."""

import collections
import hashlib
import io
import json
import os
import shutil

import numpy as np
import pytest
from helpers import (TINY, assert_user_error, read, run_here, run_script, write_checkpoint,
                     write_config, write_vocabulary)

import curves
import estimators
import files
import finetuning
import run_classifier
import tasks
import tokenization
from errors import UserError

LABELS = ("中评", "好评", "差评")  # in the order of their code points, as own data sorts them
TEXTS = [("天气真好今天很好", "好评"), ("今天一般", "中评"), ("苹果坏了今天不好", "差评"),
         ("苹果真好", "好评"), ("天气很坏不好", "差评"), ("今天很好", "好评")]
PAIRS = [("今天很好", "今天真好", "1"), ("天气很坏", "苹果坏了", "0"),
         ("天气一般", "天气很一般", "1"), ("今天不好", "苹果很好", "0")]


def write_table(path, rows, separator="\t"):
    with io.open(str(path), "w", encoding="utf-8") as stream:
        stream.writelines(separator.join(row) + "\n" for row in rows)


def classify(folder, *others):
    return run_here(run_classifier, *flags_for(folder, *others))


def flags_for(folder, *others):
    return ("--bert_config_file=%s/config.json" % folder, "--vocab_file=%s/vocab.txt" % folder,
            "--max_seq_length=8", "--num_threads=1", "--train_batch_size=4") + others


def predictions_in(output_dir):
    """Returns the probabilities of a run's prediction, [N, C]."""
    return np.loadtxt(os.path.join(str(output_dir), "test_results.tsv"))


def read_json(*parts):
    return json.loads(read(os.path.join(*map(str, parts))).decode("utf-8"))


def results_text(output_dir):
    lines = read(output_dir + "/eval_results.txt").decode().splitlines()
    return dict(line.split(" = ") for line in lines if not line.startswith("#"))


# ---------------------------------------------------------------------------------------------
# One text: three classes, a header, tabs
# ---------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A configuration, a vocabulary and data: 24 training, 12 dev and 6 test rows."""
    folder = tmp_path_factory.mktemp("own")
    write_config(folder, num_hidden_layers=1)
    write_vocabulary(folder, [text for row in TEXTS + PAIRS for text in row[:2]])
    (folder / "data").mkdir()
    for split, times in (("train", 4), ("dev", 2), ("test", 1)):
        write_table(folder / "data" / (split + ".tsv"), [("text", "label")] + TEXTS * times)
    (folder / "unlabelled").mkdir()
    write_table(folder / "unlabelled" / "test.tsv", [("text",)] + [row[:1] for row in TEXTS])
    return str(folder)


@pytest.fixture(scope="module")
def trained(folder):
    """The output folder of a run of all steps, its standard output and standard error."""
    status, out, err = run_script("run_classifier.py", *flags_for(
        folder, "--task_name=sentence", "--data_dir=%s/data" % folder,
        "--output_dir=%s/run" % folder, "--do_train", "--do_eval", "--do_predict",
        "--max_train_steps=2", "--save_checkpoints_steps=1", "--truncate=head_tail",
        "--class_weights=balanced"))
    assert status == 0, err
    return folder + "/run", out, err


def use(folder, data_dir, output_dir, *others):
    """Evaluates or predicts with the flags of that run."""
    return classify(folder, "--task_name=sentence", "--data_dir=%s" % data_dir,
                    "--output_dir=%s" % output_dir, "--truncate=head_tail", *others)


def test_own_data_from_training_to_prediction(folder, trained):
    output_dir, out, err = trained
    assert 'text from column "text"; label from column "label"' in err
    assert "Class weights: 中评 2, 好评 0.667, 差评 1\n" in err
    assert read(output_dir + "/labels.txt").decode("utf-8").split() == list(LABELS)
    assert read_json(output_dir, "classifier.json") == {
        "max_seq_length": 8, "do_lower_case": True, "use_pooled_output": True,
        "truncate": "head_tail", "task": "sentence", "labels": list(LABELS)}
    for picture in ("confusion_matrix.png", "curves.png"):
        assert read("%s/%s" % (output_dir, picture)).startswith(b"\x89PNG")
    found = predictions_in(output_dir)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-6)
    right = np.mean([LABELS[row.argmax()] == label for row, (_, label) in zip(found, TEXTS)])
    assert found.shape == (6, 3) and "test accuracy %.4f, macro-F1" % right in out


def test_the_report_agrees_with_the_predictions(trained):
    """Dev holds the test rows twice, so that its scores are those of the prediction."""
    output_dir, out, _ = trained
    predicted = [LABELS[row.argmax()] for row in predictions_in(output_dir)]
    pairs = collections.Counter(zip([label for _, label in TEXTS], predicted))
    f1 = []
    for label in LABELS:
        right, wrong = pairs[label, label], sum(
            count for pair, count in pairs.items() if label in pair and pair != (label, label))
        f1.append(2.0 * right / (2 * right + wrong))
    results = results_text(output_dir)
    assert float(results["macro_f1"]) == pytest.approx(np.mean(f1), abs=1e-9)
    report = read(output_dir + "/eval_report.txt").decode("utf-8")
    assert "of 12), macro-F1 %.4f" % np.mean(f1) in report
    for label in LABELS:
        row = [label] + [str(2 * pairs[label, other]) for other in LABELS]
        assert row in [line.split() for line in report.splitlines()]
    assert "macro-F1 %.4f on 6 examples" % np.mean(f1) in out


def test_the_run_is_recorded(folder, trained):
    record = read_json(trained[0], "run.json")
    assert set(record["versions"]) == {"tensorflow", "python", "numpy", "platform"}
    assert record["config"] == dict(TINY, num_hidden_layers=1)
    for split in ("train", "dev", "test"):
        path = "%s/data/%s.tsv" % (folder, split)
        facts = record["data"].pop(path)
        assert facts["bytes"] == os.path.getsize(path)
        assert facts["sha256"] == hashlib.sha256(read(path)).hexdigest()
    assert record["data"] == {}
    told = record["trained_with"]
    assert (told["task"], told["text_columns"], told["label_column"]) == (
        "sentence", "text", "label")
    assert (told["truncate"], told["class_weights"], told["use_pooled_output"]) == (
        "head_tail", "balanced", True)
    assert set(record["results"]) == {"dev_accuracy", "dev_macro_f1", "test_accuracy",
                                      "test_macro_f1"}
    assert "%.6g" % record["results"]["dev_macro_f1"] == "%.6g" % float(
        results_text(trained[0])["macro_f1"])
    assert record["flags"]["class_weights"] == "balanced" and record["seconds"] > 0


# ---------------------------------------------------------------------------------------------
# Prediction with a model trained before
# ---------------------------------------------------------------------------------------------

def test_unlabelled_rows_are_predicted_in_the_folder_of_the_training(folder, trained, tmp_path):
    shutil.copytree(trained[0], str(tmp_path / "run"))
    os.remove(str(tmp_path / "run" / "test_results.tsv"))
    status, out, err = use(folder, folder + "/unlabelled", tmp_path / "run", "--do_predict")
    assert status == 0 and "test accuracy" not in out, err
    assert "no label" in err
    np.testing.assert_allclose(predictions_in(tmp_path / "run"), predictions_in(trained[0]),
                               atol=1e-6)
    record = read_json(tmp_path, "run", "run.json")
    # The record of the training stays, what was predicted is added.
    assert record["data"][folder + "/unlabelled/test.tsv"]["bytes"] > 0
    assert folder + "/data/train.tsv" in record["data"]
    assert record["flags"]["do_train"] and not record["flags_of_last_call"]["do_train"]
    assert "dev_accuracy" in record["results"]
    assert record["trained_with"]["class_weights"] == "balanced"


@pytest.mark.parametrize("flag", ["predict_checkpoint", "init_checkpoint"])
def test_a_model_of_another_folder_brings_its_labels(folder, trained, tmp_path, flag):
    best = read_json(trained[0], "eval_results.json")["best"]["checkpoint"]
    status, _, err = use(folder, folder + "/unlabelled", tmp_path / "out", "--do_predict",
                         "--%s=%s/%s" % (flag, trained[0], best))
    assert status == 0, err
    np.testing.assert_allclose(predictions_in(tmp_path / "out"), predictions_in(trained[0]),
                               atol=1e-6)
    assert read(tmp_path / "out" / "labels.txt") == read(trained[0] + "/labels.txt")


@pytest.mark.parametrize("flag", ["predict_checkpoint", "init_checkpoint"])
def test_of_a_folder_the_best_checkpoint_is_used(folder, trained, tmp_path, flag):
    """Not the last one, and also where no `checkpoint` file names one."""
    model = tmp_path / "model"
    shutil.copytree(trained[0], str(model))
    os.remove(str(model / "checkpoint"))
    results = read_json(model, "eval_results.json")
    results["checkpoints"][0]["eval_accuracy"] = 2.0
    files.write_json(str(model / "eval_results.json"), results)
    names = [row["checkpoint"] for row in results["checkpoints"]]
    assert len(names) > 1
    found = []
    for path in (model, model / names[0], model / names[-1]):
        out = tmp_path / ("out%d" % len(found))
        status, _, err = use(folder, folder + "/unlabelled", out, "--do_predict",
                             "--%s=%s" % (flag, path))
        assert status == 0, err
        found.append(predictions_in(out))
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-6


def test_fewer_steps_are_refused_and_more_are_told(folder, trained, tmp_path):
    run = str(tmp_path / "run")
    shutil.copytree(trained[0], run)
    again = ("--do_train", "--class_weights=balanced", "--save_checkpoints_steps=1")
    assert_user_error(use(folder, folder + "/data", run, "--max_train_steps=1", *again),
                      "holds a run of 2 steps, and 1 are asked for", "choose another --output_dir")
    status, _, err = use(folder, folder + "/data", run, "--max_train_steps=2", *again)
    assert status == 0 and "nothing to train" in err and "num_train_steps" not in err, err
    status, _, err = use(folder, folder + "/data", run, "--max_train_steps=3", *again)
    assert status == 0 and "num_train_steps: 2 then, 3 now" in err, err


def test_a_classifier_of_another_task_is_told(folder, trained, tmp_path):
    model, files_of = str(tmp_path / "model"), "classifier.json"
    shutil.copytree(trained[0], model)
    files.write_json(os.path.join(model, files_of), dict(read_json(model, files_of), task="other"))
    status, _, err = use(folder, folder + "/unlabelled", str(tmp_path / "out"), "--do_predict",
                         "--predict_checkpoint=" + model)
    assert status == 0 and "was trained on other, not on sentence" in err, err


def test_the_labels_keep_their_order_where_the_data_hold_fewer(folder, trained, tmp_path):
    rows = [row for row in TEXTS if row[1] != LABELS[0]]
    for split in ("train", "dev", "test"):
        write_table(tmp_path / (split + ".tsv"), [("text", "label")] + rows)
    best = read_json(trained[0], "eval_results.json")["best"]["checkpoint"]
    status, out, err = use(folder, tmp_path, tmp_path / "out", "--do_eval", "--do_predict",
                           "--init_checkpoint=%s/%s" % (trained[0], best))
    assert status == 0, err
    expected = predictions_in(trained[0])[[row[1] != LABELS[0] for row in TEXTS]]
    np.testing.assert_allclose(predictions_in(tmp_path / "out"), expected, atol=1e-6)
    right = np.mean([LABELS[row.argmax()] == label for row, (_, label) in zip(expected, rows)])
    assert "test accuracy %.4f" % right in out
    assert float(results_text(str(tmp_path / "out"))["eval_accuracy"]) == pytest.approx(right)
    assert read(tmp_path / "out" / "labels.txt").decode("utf-8").split() == list(LABELS)


def test_rows_with_a_label_that_was_never_learnt_are_refused(folder, trained, tmp_path):
    write_table(tmp_path / "dev.tsv", [("text", "label"), ("今天", "好评"), ("苹果", "绝佳")])
    assert_user_error(use(folder, tmp_path, tmp_path / "out", "--do_eval",
                          "--init_checkpoint=%s/model.ckpt-2" % trained[0]),
                      "dev.tsv line 3", 'label "绝佳" is unknown')
    assert not os.path.exists("%s/out" % tmp_path)


def test_two_classifiers_never_share_a_folder(folder, trained, tmp_path):
    """Else the labels beside one would be those of the other."""
    other = str(tmp_path / "other")
    shutil.copytree(trained[0], other)
    files.write_text(other + "/labels.txt", "".join(label + "\n" for label in LABELS[::-1]))
    files.write_json(other + "/classifier.json", dict(
        read_json(other, "classifier.json"), labels=LABELS[::-1]))
    before = {name: read(os.path.join(trained[0], name)) for name in os.listdir(trained[0])
              if os.path.isfile(os.path.join(trained[0], name))}
    assert_user_error(use(folder, folder + "/unlabelled", trained[0], "--do_predict",
                          "--predict_checkpoint=%s/model.ckpt-2" % other),
                      "labels: 3 (中评, 好评, 差评) then, 3 (差评, 好评, 中评) now",
                      "choose another --output_dir")
    for name, content in before.items():
        assert read(os.path.join(trained[0], name)) == content


def test_without_matplotlib_a_run_says_so_once_and_ends_well(folder, trained, tmp_path):
    (tmp_path / "matplotlib").mkdir()
    files.write_text(str(tmp_path / "matplotlib" / "__init__.py"), "raise ImportError('stub')\n")
    status, _, err = run_script("run_classifier.py", *flags_for(
        folder, "--task_name=sentence", "--data_dir=%s/data" % folder, "--truncate=head_tail",
        "--output_dir=%s/out" % tmp_path, "--do_eval", "--init_checkpoint=%s/model.ckpt-2"
        % trained[0]), PYTHONPATH=str(tmp_path))
    assert status == 0, err
    assert err.count("no picture drawn: matplotlib is not installed") == 1
    names = os.listdir("%s/out" % tmp_path)
    assert "eval_report.txt" in names and not [name for name in names if name.endswith(".png")]
    assert read_json(tmp_path, "out", "run.json")["results"]["dev_accuracy"] >= 0
    assert "eval loss" in curves.read("%s/out" % tmp_path)


# ---------------------------------------------------------------------------------------------
# Two texts in all formats
# ---------------------------------------------------------------------------------------------

SPLITS = (("train", 4), ("dev", 2), ("test", 1))


def write_pairs(folder, kind):
    """Writes the same rows in one of the formats that a pair task reads."""
    folder.mkdir()
    for split, times in SPLITS:
        rows = PAIRS * times
        if kind == "old":
            write_table(folder / ("%s_0827.tsv" % split), [(c, a, b) for a, b, c in rows])
        elif kind == "csv":
            write_table(folder / (split + ".csv"), [("label", "query", "title")] + [
                (c, '"%s"' % a, b) for a, b, c in rows], ",")
        else:
            write_table(folder / (split + ".json"), [
                (json.dumps({"sentence1": a, "sentence2": b, "label": int(c)}),)
                for a, b, c in rows])
    return str(folder)


def test_prediction_reads_the_columns_that_training_was_told(tmp_path):
    def columns(**changes):
        values = {"do_train": False, "output_dir": str(tmp_path), "predict_checkpoint": None,
                  "init_checkpoint": None, "task_name": "sentence", "text_columns": None,
                  "label_column": None}
        found = finetuning.with_columns_of_training(dict(values, **changes))
        return found["text_columns"], found["label_column"]

    assert columns() == (None, None)
    write_checkpoint(tmp_path / "model.ckpt-3", {"x": np.zeros(1)})
    files.write_text(str(tmp_path / "checkpoint"), 'model_checkpoint_path: "model.ckpt-3"\n')
    files.write_json(str(tmp_path / "run.json"), {"flags": {
        "task_name": "sentence", "text_columns": "summary", "label_column": None}})
    assert columns() == ("summary", None)
    assert columns(label_column="kind") == ("summary", "kind")
    assert columns(text_columns="2") == ("2", None)
    assert columns(do_train=True) == columns(task_name="tnews") == (None, None)
    elsewhere = str(tmp_path / "elsewhere")
    assert columns(output_dir=elsewhere) == (None, None)
    assert columns(output_dir=elsewhere, init_checkpoint=str(tmp_path)) == ("summary", None)


def test_pairs_in_every_format_are_the_same_run(folder, tmp_path):
    def run(kind, *others):
        status, out, err = classify(
            folder, "--task_name=sentence_pair", "--output_dir=%s/run" % tmp_path, "--do_eval",
            "--data_dir=" + write_pairs(tmp_path / kind, kind), "--do_predict", *others)
        assert status == 0, err
        return out, err, predictions_in(tmp_path / "run")

    out, err, expected = run("old", "--do_train", "--max_train_steps=1")
    assert expected.shape == (4, 2) and "evaluate model.ckpt-1  example" in err
    assert read(tmp_path / "run" / "labels.txt") == b"0\n1\n"
    assert float(results_text("%s/run" % tmp_path)["macro_f1"]) > 0
    assert os.path.exists("%s/run/eval_report.txt" % tmp_path)
    scored = [line for line in out.splitlines() if line.startswith("test accuracy")]
    for kind, columns in (("csv", '"query" and column "title"'),
                          ("json", '"sentence1" and column "sentence2"')):
        out, err, found = run(kind)
        assert "texts from column %s; label from" % columns in err
        assert "features" not in err and "evaluate" not in err  # the same rows were done before
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert scored == [line for line in out.splitlines() if line.startswith("test accuracy")]


@pytest.mark.parametrize("flag, told", [
    ("--text_columns=txet", ("--text_columns=txet", "train.tsv has no such column",
                             'Did you mean "text"', "1: text, 2: label")),
    ("--label_column=3", ("--label_column=3", "train.tsv has no such column")),
    ("--text_columns=text,label", ("--text_columns=text,label", "sentence_pair reads 2"))])
def test_a_mistyped_column_is_told_before_anything_is_written(folder, tmp_path, flag, told):
    assert_user_error(use(folder, folder + "/data", tmp_path / "out", "--do_train", flag), *told)
    assert not os.path.exists("%s/out" % tmp_path)


def test_columns_chosen_anew_are_other_settings(folder, trained, tmp_path):
    for split in ("train", "dev"):
        write_table(tmp_path / (split + ".tsv"), [("text", "label", "other")] + [
            row + (row[0],) for row in TEXTS])
    assert_user_error(use(folder, tmp_path, trained[0], "--do_train", "--class_weights=balanced",
                          "--text_columns=other", "--label_column=label"),
                      "text_columns: text then, other now", "train_data: ")


# ---------------------------------------------------------------------------------------------
# Decisions
# ---------------------------------------------------------------------------------------------

def examples(*labels):
    return [tasks.Example(number, "x", None, label) for number, label in enumerate(labels)]


def test_balanced_weights_make_all_classes_weigh_alike():
    rows = examples(*"aaaaaabbc")
    weights = finetuning.balanced_weights(rows, ("a", "b", "c"))
    assert weights == pytest.approx([9 / 18.0, 9 / 6.0, 9 / 3.0])
    # A class that has no examples changes nothing for the others.
    assert finetuning.balanced_weights(rows, ("a", "none", "b", "c")) == pytest.approx(
        [9 / 18.0, 1.0, 9 / 6.0, 9 / 3.0])
    assert finetuning.balanced_weights(examples(*"abab"), ("a", "b")) == [1.0, 1.0]


SETTINGS = estimators.RunSettings("out", False, None, None, None, None, 8, 1, 1, 1, 1, 1)


@pytest.mark.parametrize("changes, steps, warmup", [
    ({}, 75, 7), ({"num_train_epochs": 0.5}, 12, 1), ({"max_train_steps": 20}, 20, 2),
    ({"max_train_steps": 99}, 75, 7), ({"train_batch_size": 1000}, 1, 0),
    ({"warmup_proportion": 0.0}, 75, 0)])
def test_the_number_of_steps(changes, steps, warmup):
    values = dict({"train_batch_size": 4, "num_train_epochs": 3.0, "max_train_steps": 0,
                   "warmup_proportion": 0.1, "learning_rate": 0.5, "class_weights": "none"},
                  **changes)
    recipe = finetuning.recipe_for(examples(*"a" * 100), ("a", "b"), values, SETTINGS)
    assert recipe == (0.5, steps, warmup, None, 1, False, None)


def test_epochs_count_all_that_a_step_sees():
    values = {"train_batch_size": 4, "num_train_epochs": 2.0, "max_train_steps": 0,
              "warmup_proportion": 0.0, "learning_rate": 0.5, "class_weights": "none"}
    recipe = finetuning.recipe_for(examples(*"a" * 48), ("a",), values, SETTINGS._replace(
        gradient_accumulation_steps=3, precision="float16"))
    assert recipe == (0.5, 8, 0, None, 3, True, None)  # 48 examples, twice, 12 a step


def test_a_vocabulary_must_fit_the_model(tmp_path, capsys):
    tokenizer = tokenization.FullTokenizer(write_vocabulary(tmp_path, ["天"]))
    tokenization.require_fits(tokenizer, 60)
    assert capsys.readouterr().err == ""
    tokenization.require_fits(tokenizer, 61)
    assert "WARNING: %s/vocab.txt has 60 entries" % tmp_path in capsys.readouterr().err
    with pytest.raises(UserError, match="has 60 entries, the configuration's vocab_size is 59"):
        tokenization.require_fits(tokenizer, 59)


@pytest.mark.parametrize("content", ["[]", "{"])
def test_a_damaged_classifier_file_is_named(folder, tmp_path, content):
    files.write_text(str(tmp_path / "classifier.json"), content)
    tokenizer = tokenization.FullTokenizer(folder + "/vocab.txt")
    with pytest.raises(UserError, match=r"classifier\.json is (damaged|not valid JSON)"):
        finetuning.require_same_classifier(
            str(tmp_path), {"do_lower_case": True, "use_pooled_output": True},
            tasks.get("afqmc"), tokenizer)


def test_many_labels_are_told_by_the_first(folder, tmp_path):
    files.write_json(str(tmp_path / "classifier.json"), {"labels": [str(i) for i in range(12)]})
    with pytest.raises(UserError, match=r"labels: 12 \(0, 1, .*, 9, \.\.\.\) then, 2 \(0, 1\) now"):
        finetuning.require_same_classifier(
            str(tmp_path), {"do_lower_case": True, "use_pooled_output": True},
            tasks.get("afqmc"), tokenization.FullTokenizer(folder + "/vocab.txt"))
