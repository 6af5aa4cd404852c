"""run_classifier.py: features, probabilities against NumPy, best checkpoint, caches, bad input."""

import io
import json
import os

import numpy as np
import pytest
import reference
from helpers import (TINY, assert_user_error, read, read_checkpoint, run_script, write_checkpoint,
                     write_config)

import classifier
import files
import modeling
import records
import tasks
import tokenization

import tensorflow.compat.v1 as tf

PAIRS = [("怎么开花呗", "花呗怎么开", "1"), ("怎么开花呗", "借呗多少钱", "0"),
         ("天气好吗", "今天天气好不好", "1"), ("天气好吗", "苹果多少钱一斤", "0")]


@pytest.fixture(scope="module")
def small_vocab(tmp_path_factory):
    """A vocabulary of 60 entries, as many as the tiny configuration has rows."""
    path = str(tmp_path_factory.mktemp("vocab") / "vocab.txt")
    text = "".join(sorted({c for pair in PAIRS for c in pair[0] + pair[1]}))
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list(text)
    entries += ["[unused%d]" % i for i in range(60 - len(entries))]
    files.write_text(path, "".join(entry + "\n" for entry in entries))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_vocab):
    """A configuration, a vocabulary and afqmc data: 32 training, 8 dev and 4 test rows."""
    folder = tmp_path_factory.mktemp("classifier")
    write_config(folder)
    files.copy(small_vocab, str(folder / "vocab.txt"))
    for split, times in (("train", 8), ("dev", 2), ("test", 1)):
        with io.open(str(folder / (split + ".json")), "w", encoding="utf-8") as stream:
            for a, b, label in PAIRS * times:
                row = {"sentence1": a, "sentence2": b, "label": label}
                if split == "test":
                    del row["label"]
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return str(folder)


def classify(folder, *flags, **environment):
    return run_script(
        "run_classifier.py", "--data_dir=" + folder, "--bert_config_file=%s/config.json" % folder,
        "--vocab_file=%s/vocab.txt" % folder, "--task_name=afqmc", "--max_seq_length=24",
        "--num_threads=1", *flags, **environment)


def fine_tuned_weights(classes=2, **changes):
    config = modeling.BertConfig.from_dict(dict(TINY, **changes))
    return reference.initial_values(
        classifier.variable_shapes(config, modeling.BertModel, classes))


# ---------------------------------------------------------------------------------------------
# Features
# ---------------------------------------------------------------------------------------------

def test_the_longer_text_is_cut():
    assert classifier.truncate_pair([1, 2, 3, 4], [5, 6], 4) == ([1, 2], [5, 6])
    assert classifier.truncate_pair([1, 2], [5, 6, 7], 3) == ([1, 2], [5])
    assert classifier.truncate_pair([1], [], 0) == ([], [])
    assert classifier.truncate_pair([1, 2], [3], 9) == ([1, 2], [3])


def test_features_of_pairs_and_single_texts(small_vocab):
    tokenizer = tokenization.FullTokenizer(small_vocab)
    ids = {token: i for i, token in enumerate(tokenizer.vocab)}
    pair = classifier.featurise(tasks.Example(0, "天气", "好吗", "1"), ("0", "1"), tokenizer, 24)
    tokens = ["[CLS]", "天", "气", "[SEP]", "好", "吗", "[SEP]"]
    assert pair["input_ids"] == [ids[token] for token in tokens]
    assert pair["segment_ids"] == [0, 0, 0, 0, 1, 1, 1]
    assert pair["input_mask"] == [1] * 7 and pair["label_ids"] == [1]
    single = classifier.featurise(tasks.Example(0, "天气好", None, None), ("0", "1"), tokenizer, 4)
    assert single["input_ids"] == [ids[token] for token in ("[CLS]", "天", "气", "[SEP]")]
    assert single["segment_ids"] == [0] * 4 and single["label_ids"] == [0]


def make_split(folder, count):
    """A split of examples of lengths 1, 2, 3, ... for tests of the input."""
    path = os.path.join(str(folder), "split.tf_record")
    rows = [{"input_ids": [i + 1] * (i + 1), "input_mask": [1] * (i + 1),
             "segment_ids": [0] * (i + 1), "label_ids": [i % 2], "is_real_example": [1]}
            for i in range(count)]
    records.write(path, [records.encode(records.CLASSIFICATION, row) for row in rows])
    return classifier.Split(path, "key", [tasks.Example(i, "", None, "0") for i in range(count)])


def batches(input_fn, batch_size, limit=100):
    with tf.Graph().as_default(), tf.Session() as session:
        features = tf.data.make_one_shot_iterator(input_fn({"batch_size": batch_size})).get_next()
        found = []
        while len(found) < limit:
            try:
                found.append(session.run(features))
            except tf.errors.OutOfRangeError:
                break
        return found


def test_batches_are_padded_to_their_longest_example(tmp_path):
    found = batches(classifier.input_fn_builder(make_split(tmp_path, 5), 16, False), 2)
    assert [batch["input_ids"].shape for batch in found] == [(2, 2), (2, 4), (1, 5)]
    np.testing.assert_array_equal(found[0]["input_ids"], [[1, 0], [2, 2]])
    np.testing.assert_array_equal(found[0]["input_mask"], [[1, 0], [1, 1]])


def test_fixed_shapes_fill_the_last_batch_with_rows_that_do_not_count(tmp_path):
    found = batches(classifier.input_fn_builder(make_split(tmp_path, 5), 16, False,
                                                fixed_shapes=True), 4)
    assert [batch["input_ids"].shape for batch in found] == [(4, 16), (4, 16)]
    np.testing.assert_array_equal(found[1]["is_real_example"], [1, 0, 0, 0])
    # Eight TPU cores with 2 rows each: as many rows as whole batches of 16 need.
    found = batches(classifier.input_fn_builder(make_split(tmp_path, 5), 16, False,
                                                fixed_shapes=True, whole_batch=16), 2)
    assert len(found) == 8


def test_training_order_follows_from_the_seed(tmp_path):
    split = make_split(tmp_path, 9)

    def order(seed):
        return [int(i) for batch in batches(classifier.input_fn_builder(
            split, 16, True, seed), 3, limit=6) for i in batch["input_ids"][:, 0]]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)[:9]) == list(range(1, 10))  # each epoch sees every example once
    assert order(1)[:9] != order(1)[9:]


def test_rows_that_do_not_count_are_left_out_of_the_metrics():
    with tf.Graph().as_default(), tf.Session() as session:
        metrics = classifier.metric_fn(
            tf.constant([0, 1, 1]), tf.constant([[2.0, 0.0], [0.0, 1.0], [5.0, 0.0]]),
            tf.constant([1.0, 1.0, 0.0]))
        session.run(tf.local_variables_initializer())
        session.run([update for _, update in metrics.values()])
        found = session.run({name: value for name, (value, _) in metrics.items()})
    assert found["eval_accuracy"] == 1.0
    expected = np.mean([np.log(1 + np.exp(-2.0)), np.log(1 + np.exp(-1.0))])
    assert found["eval_loss"] == pytest.approx(expected, abs=1e-6)


def test_the_best_has_the_highest_accuracy_then_the_lowest_loss():
    rows = [{"eval_accuracy": a, "eval_loss": loss, "step": step}
            for a, loss, step in ((0.5, 0.1, 1), (0.7, 0.9, 2), (0.7, 0.3, 3), (0.7, 0.3, 4))]
    assert classifier.best_of(rows)["step"] == 3


# ---------------------------------------------------------------------------------------------
# The script
# ---------------------------------------------------------------------------------------------

def numpy_probabilities(settings, weights, tokenizer, text_a, text_b, length):
    """Class probabilities of one pair in NumPy."""
    features = classifier.featurise(tasks.Example(0, text_a, text_b, None), ("0", "1"), tokenizer,
                                    length)
    ids, mask, segments = (np.array(features[name]) for name in (
        "input_ids", "input_mask", "segment_ids"))
    _, _, pooled = reference.encode(settings, weights, ids, mask, segments)
    if settings["ln_type"] == "preln":
        pooled = reference.normalise(pooled, weights, "loss/LayerNorm")
    return reference.softmax(pooled @ weights["output_weights"].T + weights["output_bias"])


def probabilities_in(path):
    lines = read(path).decode().splitlines()
    return np.array([[float(value) for value in line.split("\t")] for line in lines])


@pytest.mark.parametrize("ln_type", ["postln", "preln"])
def test_probabilities_equal_numpy(folder, small_vocab, tmp_path, ln_type):
    write_config(tmp_path, ln_type=ln_type)
    weights = fine_tuned_weights(ln_type=ln_type)
    write_checkpoint(tmp_path / "model.ckpt", weights)
    status, _, err = classify(folder, "--bert_config_file=%s/config.json" % tmp_path,
                              "--init_checkpoint=%s" % tmp_path, "--do_predict",
                              "--output_dir=%s/out" % tmp_path, "--predict_batch_size=3")
    assert status == 0, err
    found = probabilities_in(tmp_path / "out" / "test_results.tsv")
    first = read(tmp_path / "out" / "test_results.tsv").decode().split("\t")[0]
    assert len(first.replace("0.", "").lstrip("0")) >= 8  # significant digits
    tokenizer = tokenization.FullTokenizer(small_vocab)
    for row, (a, b, _) in zip(found, PAIRS):
        np.testing.assert_allclose(row, numpy_probabilities(
            dict(TINY, ln_type=ln_type), weights, tokenizer, a, b, 24), atol=2e-5)
    submission = read(tmp_path / "out" / "afqmc_predict.json").decode().splitlines()
    assert [json.loads(line) for line in submission] == [
        {"id": i, "label": str(int(row.argmax()))} for i, row in enumerate(found)]


def test_probabilities_of_real_pairs_equal_numpy(shared_data, vocab_file, tmp_path):
    task = tasks.get("lcqmc")
    examples = task.read(os.path.join(shared_data, "lcqmc"), "dev")[:60]
    files.write_text(str(tmp_path / "test.txt"), "".join(
        "%s\t%s\t%s\n" % (row.text_a, row.text_b, row.label) for row in examples))
    settings = dict(TINY, vocab_size=21128, hidden_size=48, num_attention_heads=4)
    write_config(tmp_path, vocab_size=21128, hidden_size=48, num_attention_heads=4)
    weights = fine_tuned_weights(vocab_size=21128, hidden_size=48, num_attention_heads=4)
    write_checkpoint(tmp_path / "model.ckpt", weights)
    status, out, err = run_script(
        "run_classifier.py", "--task_name=lcqmc_pair", "--data_dir=%s" % tmp_path,
        "--bert_config_file=%s/config.json" % tmp_path, "--vocab_file=" + vocab_file,
        "--init_checkpoint=%s/model.ckpt" % tmp_path, "--output_dir=%s/out" % tmp_path,
        "--max_seq_length=20", "--do_predict")
    assert status == 0, err
    found = probabilities_in(tmp_path / "out" / "test_results.tsv")
    tokenizer = tokenization.FullTokenizer(vocab_file)
    expected = [numpy_probabilities(settings, weights, tokenizer, row.text_a, row.text_b, 20)
                for row in examples]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    right = np.mean([str(row.argmax()) == example.label for row, example in zip(found, examples)])
    assert "test accuracy %.4f on 60 examples" % right in out


@pytest.fixture(scope="module")
def trained(folder):
    status, out, err = classify(
        folder, "--output_dir=%s/run" % folder, "--do_train", "--do_eval", "--do_predict",
        "--train_batch_size=8", "--max_train_steps=6", "--save_checkpoints_steps=2",
        "--learning_rate=1e-3", "--num_train_epochs=9")
    assert status == 0, err
    return folder + "/run", out, err


def test_every_saved_checkpoint_is_evaluated_and_the_best_predicts(trained):
    output_dir, out, err = trained
    results = json.loads(read(output_dir + "/eval_results.json").decode())
    assert [row["step"] for row in results["checkpoints"]] == [2, 4, 6]
    assert results["best"] == classifier.best_of(results["checkpoints"])
    assert "Predicting 4 examples with %s/%s" % (
        output_dir, results["best"]["checkpoint"]) in err
    assert "best" in out
    text = read(output_dir + "/eval_results.txt").decode()
    assert "eval_accuracy = %s" % results["best"]["eval_accuracy"] in text
    assert len(read(output_dir + "/test_results.tsv").decode().splitlines()) == 4
    for name in ("albert_config.json", "vocab.txt", "labels.txt", "run.json",
                 "afqmc_predict.json"):
        assert os.path.exists(os.path.join(output_dir, name))


def test_adamw_slots_are_saved(trained):
    assert "output_weights/adam_m" in read_checkpoint(trained[0] + "/model.ckpt-6")


def test_a_second_run_repeats_nothing_and_makes_the_same(folder, trained):
    before = read(trained[0] + "/test_results.tsv")
    status, _, err = classify(
        folder, "--output_dir=%s/run" % folder, "--do_train", "--do_eval", "--do_predict",
        "--train_batch_size=8", "--max_train_steps=6", "--save_checkpoints_steps=2",
        "--learning_rate=1e-3", "--num_train_epochs=9")
    assert status == 0, err
    assert "Already trained to step 6" in err
    assert "features" not in err and "evaluate" not in err
    assert read(trained[0] + "/test_results.tsv") == before


def test_other_settings_or_another_task_never_mix_with_a_finished_run(folder, trained):
    run = "--output_dir=%s/run" % folder
    same = ("--train_batch_size=8", "--max_train_steps=6", "--num_train_epochs=9")
    assert_user_error(classify(folder, run, "--do_train", "--learning_rate=9e-3", *same),
                      "learning_rate: 0.001 then, 0.009 now", "choose another --output_dir")
    assert_user_error(classify(folder, run, "--do_eval", "--task_name=lcqmc", "--data_dir="
                               + os.path.join(os.path.dirname(os.path.dirname(
                                   os.path.abspath(__file__))), "data/clue_sample/lcqmc")),
                      "task: afqmc then, lcqmc now")


def test_only_the_runs_own_checkpoints_count_as_its_best(folder, trained, tmp_path):
    out = "--output_dir=%s/out" % tmp_path
    init = "--init_checkpoint=%s/model.ckpt-6" % trained[0]
    status, _, err = classify(folder, out, init, "--do_eval")
    assert status == 0, err
    status, _, err = classify(folder, out, init, "--do_train", "--max_train_steps=1")
    assert status == 0, err
    status, _, err = classify(folder, out, "--do_predict")
    assert status == 0 and "with %s/out/model.ckpt-1" % tmp_path in err, err


def test_a_run_whose_state_file_is_gone_goes_on(folder, trained, tmp_path):
    for name in os.listdir(trained[0]):
        if name.startswith(("model.ckpt-6", "run.json")):
            (tmp_path / name).write_bytes(read(os.path.join(trained[0], name)))
    status, _, err = classify(folder, "--output_dir=%s" % tmp_path, "--do_train",
                              "--train_batch_size=8", "--max_train_steps=7",
                              "--learning_rate=1e-3", "--num_train_epochs=9")
    assert status == 0 and "Going on from %s/model.ckpt-6" % tmp_path in err, err
    assert not os.path.exists("%s/model.ckpt-0.index" % tmp_path)
    before = read_checkpoint(tmp_path / "model.ckpt-6")["bert/pooler/dense/kernel"]
    after = read_checkpoint(tmp_path / "model.ckpt-7")["bert/pooler/dense/kernel"]
    assert 0 < np.abs(before - after).max() < 1e-2


def test_a_named_checkpoint_predicts_instead_of_the_best(folder, trained, tmp_path):
    status, _, err = classify(folder, "--output_dir=%s" % tmp_path, "--do_predict",
                              "--predict_checkpoint=%s/model.ckpt-2" % trained[0])
    assert status == 0, err
    assert "Predicting 4 examples with %s/model.ckpt-2" % trained[0] in err


def test_feature_caches_follow_content_vocabulary_and_length(folder, small_vocab, tmp_path):
    task, tokenizer = tasks.get("afqmc"), tokenization.FullTokenizer(small_vocab)

    def path(data_dir=folder, key="vocabulary", length=24):
        return classifier.split_features(task, "dev", task.read(data_dir, "dev"), data_dir,
                                         str(tmp_path), tokenizer, key, length).path

    first = path()
    assert path() == first
    assert len({first, path(key="other"), path(length=12)}) == 3
    changed = tmp_path / "data"
    changed.mkdir()
    files.write_text(str(changed / "dev.json"),
                     '{"sentence1": "天气", "sentence2": "好吗", "label": "1"}\n')
    assert path(str(changed)) != first


def test_bad_input(folder, trained, tmp_path):
    out = "--output_dir=%s/out" % tmp_path
    cases = [
        (("--do_train", "--num_train_epoch=3"), ("num_train_epoch",)),
        ((), ("nothing to do",)),
        (("--do_train", "--task_name=afqcm"), ("afqcm", "afqmc")),
        (("--do_train", "--data_dir=%s" % tmp_path), ("train.json",)),
        (("--do_train", "--max_seq_length=33"), ("beyond the 32 positions",)),
        (("--do_train", "--vocab_file=%s/none.txt" % tmp_path), ("none.txt does not exist",)),
        (("--do_train", "--learning_rate=0"), ("--learning_rate=0",)),
        (("--do_train", "--train_batch_size=0"), ("--train_batch_size=0",)),
        (("--do_train", "--warmup_proportion=1"), ("--warmup_proportion=1",)),
        (("--do_predict",), ("holds no checkpoint", "--do_train")),
        (("--do_eval", "--init_checkpoint=%s/bare.ckpt" % tmp_path),
         ("no fitting head", "output_weights [2, 16] is missing")),
    ]
    weights = {k: v for k, v in fine_tuned_weights().items() if k.startswith("bert/")}
    write_checkpoint(tmp_path / "bare.ckpt", weights)
    for flags, fragments in cases:
        assert_user_error(classify(folder, out, *flags), *fragments)
    assert not os.path.exists("%s/out" % tmp_path)


def test_a_bad_row_is_named_before_training_starts(folder, tmp_path):
    files.write_text(str(tmp_path / "train.json"),
                     '{"sentence1": "天气", "sentence2": "好吗", "label": "1"}\n'
                     '{"sentence1": "天气", "sentence2": "好吗", "label": "2"}\n')
    result = classify(folder, "--data_dir=%s" % tmp_path, "--do_train",
                      "--output_dir=%s/out" % tmp_path)
    assert_user_error(result, "train.json line 2", '2')
    assert not os.path.exists("%s/out" % tmp_path)
