"""run_classifier_sp_google.py: probabilities against NumPy, SentencePiece, splits, refusals."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import reference
from helpers import (TINY, TINY_GOOGLE, assert_user_error, read, run_here, run_script,
                     write_checkpoint, write_config, write_google_config, write_vocabulary)

import heads
import layouts
import run_classifier
import run_classifier_sp_google
import tokenization

# Of unequal length and number, with other texts and labels: no split can pass for another.
SPLITS = {
    "train": [("天气好吗", "今天天气好不好", "1"), ("天气好吗", "苹果多少钱", "0")] * 4,
    "dev": [("苹果好吗", "今天苹果好不好", "1"), ("今天天气", "天", "0"),
            ("好不好", "多少钱一斤苹果", "0"), ("天气", "气天", "1"), ("苹", "果", "0")],
    "test": [("多少钱", "一斤多少钱苹果", "1"), ("气好", "天", "1"),
             ("今天好吗天气好吗", "果", "1")]}
LENGTH = 16

TRAIN_SPM = """
import json, sys, sentencepiece
sentencepiece.SentencePieceTrainer.train(**json.loads(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Configuration, vocabulary, afqmc data, and a fine-tuned model as unpacked from an archive
    whose `checkpoint` file points nowhere."""
    folder = tmp_path_factory.mktemp("google")
    write_google_config(folder)
    write_vocabulary(folder, [a + b for rows in SPLITS.values() for a, b, _ in rows])
    for split, rows in SPLITS.items():
        with io.open(str(folder / (split + ".json")), "w", encoding="utf-8") as stream:
            for a, b, label in rows:
                stream.write(json.dumps({"sentence1": a, "sentence2": b, "label": label},
                                        ensure_ascii=False) + "\n")
    (folder / "model").mkdir()
    write_checkpoint(folder / "model" / "albert_model.ckpt", fine_tuned_weights())
    (folder / "model" / "checkpoint").write_text(
        'model_checkpoint_path: "/nowhere/on/earth/model.ckpt-36000"\n', encoding="utf-8")
    return str(folder)


@pytest.fixture(scope="module")
def spm_model_file(tmp_path_factory):
    """A small SentencePiece model, trained in its own process: beside TensorFlow it crashes."""
    pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("spm")
    texts = [a + b for rows in SPLITS.values() for a, b, _ in rows]
    (folder / "text.txt").write_text("\n".join(texts * 20), encoding="utf-8")
    subprocess.check_call([sys.executable, "-c", TRAIN_SPM, json.dumps(dict(
        input=str(folder / "text.txt"), model_prefix=str(folder / "small"), vocab_size=60,
        hard_vocab_limit=False, num_threads=1, minloglevel=2, pad_id=0, unk_id=1, bos_id=-1,
        eos_id=-1, pad_piece="<pad>", unk_piece="<unk>",
        control_symbols=["[CLS]", "[SEP]", "[MASK]"]))])
    return str(folder / "small.model")


def fine_tuned_weights(**changes):
    config = layouts.GOOGLE.config_class.from_dict(dict(TINY_GOOGLE, **changes))
    return reference.initial_values(
        heads.classifier_variable_shapes(config, layouts.GOOGLE.model_class, 2))


def flags_for(folder, *others):
    return ("--data_dir=" + folder, "--albert_config_file=%s/config.json" % folder,
            "--task_name=afqmc", "--num_threads=1") + others


def classify(folder, *others):
    """Runs with the fixture's vocabulary and a length that the model has."""
    return run_here(run_classifier_sp_google, *flags_for(
        folder, "--vocab_file=%s/vocab.txt" % folder, "--max_seq_length=%d" % LENGTH, *others))


def numpy_probabilities(tokenizer, split, weights, use_pooled_output=True):
    """Class probabilities of a split's rows, one row at a time, without padding. [N, 2]."""
    probabilities = []
    for text_a, text_b, _ in SPLITS[split]:
        a, b = tokenizer.tokenize(text_a), tokenizer.tokenize(text_b)
        assert len(a) + len(b) + 3 <= LENGTH
        tokens = [tokenizer.cls_token] + a + [tokenizer.sep_token] + b + [tokenizer.sep_token]
        ids = np.array(tokenizer.convert_tokens_to_ids(tokens))
        segments = (np.arange(len(ids)) >= len(a) + 2).astype(int)
        _, layers, pooled = reference.encode_google(
            TINY_GOOGLE, weights, ids, np.ones(len(ids)), segments)
        if not use_pooled_output:
            pooled = layers[-1].mean(0)
        probabilities.append(reference.class_probabilities(weights, pooled))
    return np.array(probabilities)


def probabilities_in(output_dir):
    return np.loadtxt(os.path.join(str(output_dir), "test_results.tsv"), ndmin=2)


def accuracy(probabilities, split):
    return np.mean([str(row.argmax()) == label
                    for row, (_, _, label) in zip(probabilities, SPLITS[split])])


# ---------------------------------------------------------------------------------------------
# Probabilities
# ---------------------------------------------------------------------------------------------

def test_the_splits_and_probabilities_from_the_command_line(folder, tmp_path):
    status, out, err = run_script("run_classifier_sp_google.py", *flags_for(
        folder, "--vocab_file=%s/vocab.txt" % folder, "--max_seq_length=%d" % LENGTH, "--do_eval",
        "--do_predict", "--init_checkpoint=%s/model" % folder, "--output_dir=%s" % tmp_path,
        "--predict_batch_size=2"))
    assert status == 0, err
    tokenizer = tokenization.FullTokenizer(folder + "/vocab.txt")
    weights = fine_tuned_weights()
    dev, test = (numpy_probabilities(tokenizer, split, weights) for split in ("dev", "test"))
    np.testing.assert_allclose(probabilities_in(tmp_path), test, atol=2e-5)
    # Dev accuracy is that of the dev rows, predictions are of the test rows.
    assert accuracy(dev, "dev") != accuracy(test, "test")
    results = json.loads(read(tmp_path / "eval_results.json").decode("utf-8"))["best"]
    assert results["eval_accuracy"] == pytest.approx(accuracy(dev, "dev"))
    picked = [row[int(label)] for row, (_, _, label) in zip(dev, SPLITS["dev"])]
    assert results["eval_loss"] == pytest.approx(-np.log(picked).mean(), abs=2e-5)
    assert "test accuracy %.4f" % accuracy(test, "test") in out
    submission = read(tmp_path / "afqmc_predict.json").decode("utf-8").splitlines()
    assert [json.loads(line)["label"] for line in submission] == [
        str(row.argmax()) for row in test]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_mean_leaves_padding_out(folder, tmp_path, batch_size):
    status, _, err = classify(
        folder, "--do_predict", "--init_checkpoint=%s/model" % folder, "--nouse_pooled_output",
        "--predict_batch_size=%d" % batch_size, "--output_dir=%s" % tmp_path)
    assert status == 0, err
    tokenizer, weights = tokenization.FullTokenizer(folder + "/vocab.txt"), fine_tuned_weights()
    pooled, mean = (numpy_probabilities(tokenizer, "test", weights, kind)
                    for kind in (True, False))
    np.testing.assert_allclose(probabilities_in(tmp_path), mean, atol=2e-5)
    assert np.abs(pooled - mean).max() > 1e-3


def test_probabilities_with_sentencepiece(folder, spm_model_file, tmp_path):
    tokenizer = tokenization.FullTokenizer(None, True, spm_model_file)
    size = len(tokenizer.vocab)
    weights = fine_tuned_weights(vocab_size=size)
    write_checkpoint(tmp_path / "model.ckpt", weights)
    config = write_google_config(tmp_path, vocab_size=size)
    out = tmp_path / "out"
    status, _, err = run_here(run_classifier_sp_google, *flags_for(
        folder, "--albert_config_file=" + config, "--spm_model_file=" + spm_model_file,
        "--max_seq_length=%d" % LENGTH, "--do_predict",
        "--init_checkpoint=%s/model.ckpt" % tmp_path, "--output_dir=%s" % out))
    assert status == 0, err
    expected = numpy_probabilities(tokenizer, "test", weights)
    np.testing.assert_allclose(probabilities_in(out), expected, atol=2e-5)
    assert read(out / "spm.model") == read(spm_model_file)


# ---------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------

def test_a_model_is_fine_tuned_evaluated_and_used(folder, tmp_path):
    out = "--output_dir=%s" % tmp_path
    status, _, err = classify(
        folder, out, "--init_checkpoint=%s/model" % folder, "--do_train", "--do_eval",
        "--do_predict", "--train_batch_size=4", "--max_train_steps=2",
        "--save_checkpoints_steps=1", "--num_train_epochs=9", "--learning_rate=1e-3")
    assert status == 0, err
    results = json.loads(read(tmp_path / "eval_results.json").decode("utf-8"))
    assert [row["step"] for row in results["checkpoints"]] == [1, 2]
    assert "Predicting 3 examples with %s/%s" % (tmp_path, results["best"]["checkpoint"]) in err
    layout, config = layouts.read_config(str(tmp_path / "albert_config.json"))
    assert layout is layouts.GOOGLE and config.hidden_size == TINY_GOOGLE["hidden_size"]
    assert read(tmp_path / "vocab.txt") == read(folder + "/vocab.txt")


# ---------------------------------------------------------------------------------------------
# Refusals
# ---------------------------------------------------------------------------------------------

def test_the_default_length_is_refused_for_models_with_fewer_positions(folder, tmp_path):
    result = run_here(run_classifier_sp_google, *flags_for(
        folder, "--vocab_file=%s/vocab.txt" % folder, "--do_train",
        "--output_dir=%s/out" % tmp_path))
    assert_user_error(result, "--max_seq_length=512 is beyond the 32 positions")
    assert not os.path.exists(str(tmp_path / "out"))


def test_vocabularies_that_cannot_be(folder, spm_model_file, tmp_path):
    out = "--output_dir=%s/out" % tmp_path
    spm = "--spm_model_file=" + spm_model_file
    assert_user_error(classify(folder, out, "--do_train", spm),
                      "--spm_model_file or --vocab_file, not both")
    assert_user_error(classify(folder, out, "--do_train", "--vocab_file="),
                      "--vocab_file is missing")
    assert_user_error(classify(folder, out, "--do_train", "--vocab_file=",
                               "--spm_model_file=%s/vocab.txt" % folder),
                      "is not a SentencePiece model")
    small = write_google_config(tmp_path, vocab_size=20)
    assert_user_error(classify(folder, out, "--do_train", "--vocab_file=", spm,
                               "--albert_config_file=" + small), "vocab_size is 20")
    assert not os.path.exists(str(tmp_path / "out"))


def test_the_other_layout_is_refused_with_the_name_of_its_script(folder, tmp_path):
    write_config(tmp_path, "zh.json")
    config = layouts.ALBERT_ZH.config_class.from_dict(TINY)
    write_checkpoint(tmp_path / "zh.ckpt", reference.initial_values(
        heads.classifier_variable_shapes(config, layouts.ALBERT_ZH.model_class, 2)))
    out = "--output_dir=%s/out" % tmp_path
    ours, theirs = "run_classifier_sp_google.py", "run_classifier.py"
    for work in ("--do_train", "--do_predict"):
        assert_user_error(classify(folder, out, work, "--init_checkpoint=%s/zh.ckpt" % tmp_path),
                          "a checkpoint of the albert_zh layout, for", theirs)
        assert_user_error(classify(folder, out, work, "--albert_config_file=%s/zh.json" % tmp_path),
                          "albert_zh-layout config", theirs)

    def albert_zh(config, *others):
        return run_here(run_classifier, "--data_dir=" + folder, "--bert_config_file=" + config,
                        "--task_name=afqmc", "--vocab_file=%s/vocab.txt" % folder, out,
                        "--max_seq_length=%d" % LENGTH, *others)

    for work in ("--do_train", "--do_predict"):
        assert_user_error(albert_zh("%s/zh.json" % tmp_path, work, "--init_checkpoint=%s/model"
                                    % folder), "a checkpoint of the Google layout, for", ours)
    assert_user_error(albert_zh(folder + "/config.json", "--do_train"), "Google-layout config",
                      ours)
    assert not os.path.exists(str(tmp_path / "out"))
