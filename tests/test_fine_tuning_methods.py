"""The methods of fine-tuning: their gradients against NumPy, and the runs that use them."""

import os
import shutil
import signal

import numpy as np
import pytest
from helpers import (assert_user_error, read, read_checkpoint, run_here, run_on_sentences,
                     write_config, write_google_config, write_vocabulary)
from test_interruption import assert_same_weights, stopped

import estimators
import files
import fine_tuning_methods
import finetuning
import heads
import modeling
import optimization
import run_classifier
import run_classifier_sp_google
import run_mrc
import run_ner
import tasks
from errors import UserError
from fine_tuning_methods import Methods

import tensorflow.compat.v1 as tf

RNG = np.random.RandomState(5)


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)


# ---------------------------------------------------------------------------------------------
# Losses: R-Drop, distillation
# ---------------------------------------------------------------------------------------------

B, WIDTH, CLASSES = 4, 6, 3
X = RNG.randn(B, WIDTH)
WEIGHTS = RNG.randn(WIDTH, CLASSES)
LABELS = np.array([2, 0, 1, 0])
TEACHER = RNG.randn(B, CLASSES)
COUNTS = np.array([1.0, 2.0, 0.5, 1.0])


class Linear(object):
    """An objective whose encoder has one layer, with dropout; it keeps what was not dropped."""

    def logits(self, features, is_training):
        assert is_training
        x = features["x"] + 0.0
        self.dropped = modeling.dropout(x, 0.5)
        kernel = tf.get_variable("kernel", initializer=tf.constant(WEIGHTS, tf.float32))
        return tf.matmul(self.dropped, kernel)

    def weights(self, features):
        return features["counts"]

    def losses(self, features, logits):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=features["labels"], logits=logits)


def gradient_by_graph(methods):
    """Returns (loss, gradient of the kernel, inputs of the layer after dropout) of a step."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(3)
        tf.train.get_or_create_global_step()
        features = {"x": tf.constant(X, tf.float32), "labels": tf.constant(LABELS),
                    "counts": tf.constant(COUNTS, tf.float32),
                    "teacher_logits": tf.constant(TEACHER, tf.float32)}
        linear = Linear()
        learner = methods.objective(linear)
        logits = learner.logits(features, True)
        weights = learner.weights(features)
        loss = tf.reduce_sum(weights * learner.losses(features, logits)) / tf.reduce_sum(weights)
        gradient, = tf.gradients(loss, tf.trainable_variables())
        session.run(tf.global_variables_initializer())
        return session.run([loss, gradient, linear.dropped])


def gradient_by_hand(dropped, r_drop=0.0, alpha=0.0, temperature=1.0):
    """The same, of the given rows after dropout, from the derivatives of the formulas."""
    copies = len(dropped) // B
    labels, teacher, counts = [np.concatenate([one] * copies)
                               for one in (LABELS, TEACHER, COUNTS)]
    counts = counts / counts.sum()
    z = dropped.astype(np.float64) @ WEIGHTS
    p = softmax(z)
    losses = -np.log(p[np.arange(len(z)), labels])
    slopes = p - np.eye(CLASSES)[labels]
    warm, of_teacher = softmax(z / temperature), softmax(teacher / temperature)
    losses = (1 - alpha) * losses + alpha * temperature ** 2 * (
        of_teacher * np.log(of_teacher / warm)).sum(-1)
    slopes = (1 - alpha) * slopes + alpha * temperature * (warm - of_teacher)
    if r_drop:
        pairs = p.reshape(copies // 2, 2, B, CLASSES)
        for own, other in ((0, 1), (1, 0)):
            p, q = pairs[:, own], pairs[:, other]
            both = ((p - q) * (np.log(p) - np.log(q))).sum(-1) / 2
            losses.reshape(copies // 2, 2, B)[:, own] += r_drop * both
            # Of a row's own scores, in its loss and in its partner's, where it stands too.
            ratio = np.log(p) - np.log(q)
            of_both = (p * (ratio - (p * ratio).sum(-1, keepdims=True)) + p - q) / 2
            slopes.reshape(copies // 2, 2, B, CLASSES)[:, own] += 2 * r_drop * of_both
    return (counts * losses).sum(), dropped.T @ (counts[:, np.newaxis] * slopes)


@pytest.mark.parametrize("methods, copies, by_hand", [
    (Methods(r_drop=3.0), 2, {"r_drop": 3.0}),
    (Methods(teacher=TEACHER, distill_temperature=4.0, distill_alpha=0.3), 1,
     {"alpha": 0.3, "temperature": 4.0}),
    (Methods(r_drop=2.0, teacher=TEACHER, distill_alpha=1.0), 2,
     {"r_drop": 2.0, "alpha": 1.0, "temperature": fine_tuning_methods.TEMPERATURE})])
def test_losses_and_gradients_are_those_of_the_formulas(methods, copies, by_hand):
    loss, gradient, dropped = gradient_by_graph(methods)
    assert dropped.shape == (copies * B, WIDTH)
    assert len({copy.tobytes() for copy in np.split(dropped, copies)}) == copies
    expected, slope = gradient_by_hand(dropped, **by_hand)
    assert loss == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(gradient, slope, atol=1e-5)


def test_answers_that_cannot_be_do_not_diverge():
    """Reading comprehension scores places outside of the passage with -10000."""
    logits = np.array([[1.0, -10000.0, 0.5], [0.3, -10000.0, 0.9]])
    with tf.Graph().as_default(), tf.Session() as session:
        scores = tf.constant(logits, tf.float32)
        both = fine_tuning_methods.divergence_of_copies(scores)
        found, slope = session.run([both, tf.gradients(both, scores)[0]])
    p, q = softmax(logits[:, ::2])
    np.testing.assert_allclose(found, [((p - q) * np.log(p / q)).sum() / 2] * 2, rtol=1e-5)
    assert np.isfinite(slope).all() and (slope[:, 1] == 0).all()


CONFIG = modeling.BertConfig.from_dict({
    "vocab_size": 20, "embedding_size": 4, "hidden_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 8, "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 8, "type_vocab_size": 2, "initializer_range": 0.5})


# ---------------------------------------------------------------------------------------------
# Adversarial training
# ---------------------------------------------------------------------------------------------

TABLE = RNG.randn(7, 3)
WORDS = np.array([[0, 2, 2], [5, 0, 0], [3, 2, 0], [3, 3, 5]])  # 0 is padding, 4 and 6 are unused
MASK = (WORDS > 0).astype(np.float64)
OUT = np.array([0.7, -1.2, 0.4])
SIGNS = np.array([1.0, -1.0, -1.0, 1.0])


def logistic_by_hand(table):
    """Returns (loss, gradient of the table, of the output) of a mean of words, by NumPy."""
    means = (table[WORDS] * MASK[..., np.newaxis]).sum(1)
    margins = SIGNS * (means @ OUT)
    slope = -SIGNS / (1 + np.exp(margins)) / len(WORDS)
    of_table = np.zeros_like(table)
    np.add.at(of_table, WORDS, slope[:, np.newaxis, np.newaxis] * MASK[..., np.newaxis] * OUT)
    return np.log1p(np.exp(-margins)).mean(), of_table, slope @ means


def share_of(part):
    with tf.variable_scope("bert/embeddings"):
        table = tf.get_variable("word_embeddings", initializer=tf.constant(TABLE, tf.float32))
    out = tf.get_variable("out", initializer=tf.constant(OUT, tf.float32))
    words = tf.nn.embedding_lookup(table, part["words"]) * part["mask"][..., tf.newaxis]
    margins = part["signs"] * tf.tensordot(tf.reduce_sum(words, 1), out, 1)
    return tf.reduce_sum(tf.nn.softplus(-margins)) / len(WORDS), {}


@pytest.mark.parametrize("parts, scaled", [(1, False), (2, False), (4, True)])
def test_fgm_adds_the_gradients_at_the_worse_embeddings(parts, scaled):
    distance = 0.8
    with tf.Graph().as_default(), tf.Session() as session:
        loss_scale = optimization.LossScale() if scaled else None
        features = {"words": tf.constant(WORDS), "mask": tf.constant(MASK, tf.float32),
                    "signs": tf.constant(SIGNS, tf.float32)}
        gradients, scalars = Methods(fgm=distance).differentiate(share_of, features, parts,
                                                                 loss_scale)
        names = [variable.op.name for variable in tf.trainable_variables()]
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        found, loss = session.run([gradients, scalars["loss"]])
    scale = optimization.LossScale.START if scaled else 1.0
    expected_loss, of_table, of_out = logistic_by_hand(TABLE)
    worse = TABLE + distance * of_table / np.linalg.norm(of_table)
    worse_loss, more_of_table, more_of_out = logistic_by_hand(worse)
    assert names == [fine_tuning_methods.WORD_TABLE, "out"]
    assert worse_loss > expected_loss and loss == pytest.approx(expected_loss, rel=1e-5)
    np.testing.assert_allclose(found[0] / scale, of_table + more_of_table, atol=1e-6)
    np.testing.assert_allclose(found[1] / scale, of_out + more_of_out, atol=1e-6)
    assert (found[0][[0, 4, 6]] == 0).all()


@pytest.mark.parametrize("slope, expected", [
    ([[3.0, 0.0], [0.0, 4.0]], [[0.3, 0.0], [0.0, 0.4]]), ([[0.0, 0.0]], [[0.0, 0.0]]),
    ([[3e-30, 4e-30]], [[0.3, 0.4]]), ([[3e30, 4e30]], [[0.3, 0.4]]),
    ([[1.0, np.nan]], [[np.nan, np.nan]])])
def test_the_distance_does_not_depend_on_the_size_of_the_gradient(slope, expected):
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(fine_tuning_methods.adversarial(tf.constant(slope, tf.float32), 0.5))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# ---------------------------------------------------------------------------------------------
# Whole runs
# ---------------------------------------------------------------------------------------------

TEXTS = [("天气真好今天很好", "好"), ("今天一般", "坏"), ("苹果坏了今天不好", "坏"),
         ("苹果真好", "好"), ("天气很坏不好", "坏"), ("今天很好", "好")]
DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
ALL = ("--r_drop=1", "--fgm=0.5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Configurations with dropout, a vocabulary and 24 training rows."""
    folder = tmp_path_factory.mktemp("methods")
    write_config(folder, num_hidden_layers=1, **DROPOUT)
    write_google_config(folder, "google.json", num_hidden_layers=1, **DROPOUT)
    write_vocabulary(folder, [text for text, _ in TEXTS])
    (folder / "data").mkdir()
    for split, times in (("train", 4), ("dev", 1), ("test", 1)):
        files.write_text(str(folder / "data" / (split + ".tsv")), "text\tlabel\n" + "".join(
            "%s\t%s\n" % row for row in TEXTS * times))
    return str(folder)


def run(folder, name, *others, **settings):
    return run_on_sentences(settings.get("script", run_classifier), folder, name, *others)


def train(folder, name, *others, **settings):
    status, out, err = run(folder, name, "--do_train", *others, **settings)
    assert status == 0, err
    return out, err


@pytest.fixture(scope="module")
def plain(folder):
    """The folder of a plain run with a checkpoint of every step."""
    train(folder, "plain", "--max_train_steps=3", "--save_checkpoints_steps=1", "--do_eval",
          "--do_predict", "--predict_split=train")
    return folder + "/plain"


def test_off_is_plain_fine_tuning(folder, plain, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a method was used")

    for name in ("_Objective", "_add_adversarial", "_with_teacher"):
        monkeypatch.setattr(fine_tuning_methods, name, fail)
    _, err = train(folder, "off", "--max_train_steps=3", "--r_drop=0", "--fgm=0")
    assert "Training with" not in err
    assert_same_weights(plain, folder + "/off", 3)


def test_all_methods_in_two_parts_equal_one_run(folder, plain, monkeypatch):
    script, names, steps = run_classifier_sp_google, ("whole-run", "two-parts"), 3
    others = ALL + ("--teacher_logits=%s/train_logits.npz" % plain, "--do_train", "--recompute",
                    "--num_train_epochs=1", "--gradient_accumulation_steps=2")
    _, err = train(folder, names[0], *others, script=script)
    assert "Training with --r_drop=1.0, --fgm=0.5, --teacher_logits=" in err
    assert stopped(monkeypatch, lambda: run(folder, names[1], *others, script=script),
                   signal.SIGTERM, 2) == 143
    _, err = train(folder, names[1], *others, script=script)
    assert "Going on from" in err
    assert_same_weights(folder + "/" + names[0], folder + "/" + names[1], steps)


def test_a_smaller_part_of_the_batch_learns_the_same(folder, plain, monkeypatch):
    """A batch of 24 in one part or in two: also FGM moves the table once for the whole batch."""
    monkeypatch.setattr(heads, "POOLED_DROPOUT", 0.0)
    config = write_config(folder, "still.json", num_hidden_layers=1)
    others = ALL + ("--bert_config_file=" + config, "--max_train_steps=1",
                    "--teacher_logits=%s/train_logits.npz" % plain,
                    "--init_checkpoint=%s/model.ckpt-3" % plain)
    train(folder, "whole", "--train_batch_size=24", *others)
    train(folder, "in-parts", "--train_batch_size=12", "--gradient_accumulation_steps=2", *others)
    one, other = [read_checkpoint(folder + name) for name in (
        "/whole/model.ckpt-1", "/in-parts/model.ckpt-1")]
    assert set(one) == set(other)
    for name, value in one.items():
        if name.endswith("/adam_m"):
            np.testing.assert_allclose(other[name], value, atol=1e-6, err_msg=name)


SENTENCES = "王 B-PER\n明 I-PER\n在 O\n北 B-LOC\n京 I-LOC\n\n天 O\n气 O\n好 O\n\n"
QUESTIONS = {"version": "v1.0", "data": [{"paragraphs": [{
    "context": "小明住在北京，他每天早上去公园。", "qas": [
        {"id": "%d" % number, "question": "谁", "answers": [{"text": "小明", "answer_start": 0}]}
        for number in range(8)]}]}]}


@pytest.mark.parametrize("script", [run_ner, run_mrc])
def test_tokens_and_spans_learn_so_too(script, tmp_path):
    write_config(tmp_path, num_hidden_layers=1, **DROPOUT)
    write_vocabulary(tmp_path, ["王明在北京天气好小住他每早上去公园谁，。"])
    for split in ("train", "dev"):
        files.write_text(str(tmp_path / (split + ".txt")), SENTENCES * 4)
        files.write_json(str(tmp_path / (split + ".json")), QUESTIONS)
    special = {run_ner: ("--task_name=ner", "--train_file=%s/train.txt" % tmp_path,
                         "--dev_file=%s/dev.txt" % tmp_path, "--max_seq_length=12"),
               run_mrc: ("--task_name=cmrc2018", "--data_dir=%s" % tmp_path, "--doc_stride=4",
                         "--max_seq_length=16", "--max_query_length=3")}[script]
    flags = special + (
        "--bert_config_file=%s/config.json" % tmp_path, "--vocab_file=%s/vocab.txt" % tmp_path,
        "--output_dir=%s/out" % tmp_path, "--do_train", "--do_eval", "--train_batch_size=8",
        "--max_train_steps=2", "--num_threads=1")
    assert_user_error(run_here(script, "--teacher_logits=%s/vocab.txt" % tmp_path, *flags),
                      "only classifiers of texts learn from a teacher")
    assert not os.path.exists("%s/out" % tmp_path)
    status, _, err = run_here(script, *(flags + ALL))
    assert status == 0, err
    losses = files.read_json("%s/out/eval_results.json" % tmp_path)["best"]["eval_loss"]
    assert np.isfinite(losses)


# ---------------------------------------------------------------------------------------------
# Distillation
# ---------------------------------------------------------------------------------------------

def test_a_teachers_file_tells_what_it_gives_each_row(folder, plain):
    examples = tasks_examples(folder)
    found = fine_tuning_methods.read_teacher(plain + "/train_logits.npz", examples, ["坏", "好"])
    assert found.shape == (24, 2) and found.dtype == np.float32
    np.testing.assert_allclose(np.exp(found).sum(-1), 1.0, atol=1e-5)
    # The rows are in the data's order: the first six texts come again and again.
    np.testing.assert_allclose(found, np.concatenate([found[:6]] * 4), atol=1e-5)
    assert not os.path.exists(plain + "/test_results.tsv")
    record = files.read_json(plain + "/run.json")
    assert {"train_accuracy", "dev_accuracy"} <= set(record["results"])


def tasks_examples(folder):
    import own_data
    return own_data.task("sentence", folder + "/data").read(folder + "/data", "train")


def test_the_teacher_decides_what_is_learned(folder, tmp_path):
    """A teacher that takes every text for the other class, and no labels."""
    rows = [[8.0, -8.0] if label == "好" else [-8.0, 8.0] for _, label in TEXTS * 4]
    path = str(tmp_path / "teacher.tsv")
    files.write_text(path, "".join("%g\t%g\n" % tuple(row) for row in rows))
    out, err = train(folder, "contrary", "--teacher_logits=" + path, "--distill_alpha=1",
                     "--num_train_epochs=40", "--learning_rate=0.005", "--do_eval")
    best = files.read_json(folder + "/contrary/eval_results.json")["checkpoints"][-1]
    assert best["eval_accuracy"] == 0.0
    record = files.read_json(folder + "/contrary/run.json")["trained_with"]
    assert record["teacher_logits"] == files.fingerprint(path)[:16]
    assert (record["distill_temperature"], record["distill_alpha"]) == (2.0, 1.0)
    # Its content counts, not its name; other content is another run.
    shutil.move(path, str(tmp_path / "moved.tsv"))
    _, err = train(folder, "contrary", "--teacher_logits=%s/moved.tsv" % tmp_path,
                   "--distill_alpha=1", "--num_train_epochs=40", "--learning_rate=0.005")
    assert "nothing to train" in err
    files.write_text(path, "1\t0\n" * 24)
    assert_user_error(run(folder, "contrary", "--do_train", "--teacher_logits=" + path,
                          "--distill_alpha=1", "--learning_rate=0.005"),
                      "trained with other settings", "teacher_logits: ")


EXAMPLES = [tasks.Example(number, "x", None, "0") for number in range(3)]


@pytest.mark.parametrize("content, told", [
    ("1\t2\n3\t4\n", "has 2 rows, the training data 3 examples"),
    ("1\t2\t3\n" * 3, "has 3 columns, the task 2 classes"),
    ("1\t2\n1\n1\t2\n", "line 2 holds 1 numbers, the first line 2"),
    ("1\t2\nlabel\t3\n", "line 2: could not convert"),
    ("1\t2\n1\tnan\n1\t2\n", "row 2 holds NaN"), ("1\t2\n" * 2 + "1\tinf\n", "row 3 holds NaN"),
    ("", "has 0 columns")])
def test_a_faulty_teacher_is_refused(tmp_path, content, told):
    path = str(tmp_path / "teacher.tsv")
    files.write_text(path, content)
    with pytest.raises(UserError, match=told):
        fine_tuning_methods.read_teacher(path, EXAMPLES, ["0", "1"])


@pytest.mark.parametrize("arrays, told", [
    ({"weights": np.zeros([3, 2])}, 'holds no array "logits": it has weights'),
    ({"logits": np.zeros([3, 2, 1])}, "a table of numbers is needed"),
    ({"logits": np.array([["a", "b"]] * 3)}, "a table of numbers is needed"),
    ({"logits": np.zeros([3, 2]), "labels": np.array(["1", "0"])}, "other labels: 1, 0 there"),
    ({"logits": np.zeros([3, 2]), "labels": np.array([1, 0, 1])}, "other labels: 1, 0, 1 there"),
    ({"logits": np.zeros([3, 2]), "labels": np.array(7)}, "other labels: 7 there"),
    ({"logits": np.array([[0.5, 0.5], [0.5, 0.1], [0.0, 1.0]])}, "row 2 adds up to 0.6: give"),
    ({"logits": np.zeros([3, 2]), "examples": np.array("other")}, "from other training data"),
    ({"logits": np.array([[object()] * 2] * 3)}, "cannot be read as a NumPy file")])
def test_a_faulty_array_is_refused(tmp_path, arrays, told):
    np.savez(str(tmp_path / "teacher.npz"), **arrays)
    with pytest.raises(UserError, match=told):
        fine_tuning_methods.read_teacher(str(tmp_path / "teacher.npz"), EXAMPLES, ["0", "1"])


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    path = str(tmp_path / "teacher.npz")
    fine_tuning_methods.write_teacher(path, np.full([3, 2], 0.5), ["0", "1"], EXAMPLES)
    content = read(path)
    with open(path, "wb") as stream:
        stream.write(content[:len(content) // 2])
    with pytest.raises(UserError, match="cannot be read as a NumPy file"):
        fine_tuning_methods.read_teacher(path, EXAMPLES, ["0", "1"])
    for place in range(len(content)):
        with open(path, "wb") as stream:
            stream.write(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1:])
        try:
            fine_tuning_methods.read_teacher(path, EXAMPLES, ["0", "1"])
        except UserError as error:
            assert "--teacher_logits=" in str(error)


def test_probabilities_and_scores_are_told_apart(tmp_path):
    path = str(tmp_path / "teacher.tsv")
    files.write_text(path, "0.25\t0.75\n1\t0\n0.5\t0.5\n")
    found = fine_tuning_methods.read_teacher(path, EXAMPLES, ["0", "1"])
    np.testing.assert_allclose(np.exp(found), [[0.25, 0.75], [1, 0], [0.5, 0.5]], atol=1e-6)
    assert np.isfinite(found).all()
    np.save(str(tmp_path / "teacher.npy"), np.array([[0.25, 0.75], [1, 0], [3, 2]]))
    found = fine_tuning_methods.read_teacher(str(tmp_path / "teacher.npy"), EXAMPLES, ["0", "1"])
    np.testing.assert_array_equal(found[2], [3, 2])


@pytest.mark.parametrize("classes, decimals", [(3, 2), (15, 2), (119, 4)])
def test_rounded_probabilities_are_probabilities(tmp_path, classes, decimals):
    """Rows of rounded numbers miss 1 by a little; as scores they would be all but uniform."""
    logits = 3 * np.random.RandomState(2).randn(50, classes)
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    path = str(tmp_path / "teacher.tsv")
    np.savetxt(path, rows, "%%.%df" % decimals, "\t")
    examples = [tasks.Example(number, "x", None, "0") for number in range(50)]
    found = np.exp(fine_tuning_methods.read_teacher(path, examples, list(map(str, range(classes)))))
    np.testing.assert_allclose(found, rows, atol=0.02)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-4)


# ---------------------------------------------------------------------------------------------
# Refusals
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("flag, told", [
    ("--r_drop=-1", "--r_drop=-1: a number is needed, 0 or more"), ("--fgm=inf", "--fgm=inf"),
    ("--fgm=nan", "--fgm=nan"),
    ("--distill_alpha=0.7", "no meaning without --teacher_logits"),
    ("--distill_temperature=0", "a number above 0 is needed"),
    ("--teacher_logits=/nowhere/t.npz", "--teacher_logits=/nowhere/t.npz")])
def test_values_out_of_range_are_refused(folder, flag, told):
    assert_user_error(run(folder, "refused", "--do_train", flag), told)
    assert not os.path.exists(folder + "/refused")


SETTINGS = estimators.RunSettings("out", False, None, None, None, None, 8, 1, 1, 1, 1, 1)
VALUES = dict(fine_tuning_methods.PLAIN, distill_temperature=2.0, distill_alpha=0.5)


def read_methods(run_settings=SETTINGS, config=CONFIG, **values):
    return fine_tuning_methods.read(dict(VALUES, **values), run_settings, config, EXAMPLES,
                                    ["0", "1"], True)


def test_what_does_not_go_together_is_refused():
    assert read_methods() is None
    assert read_methods(SETTINGS._replace(use_tpu=True)) is None
    for name in ("r_drop", "fgm"):
        with pytest.raises(UserError, match="--%s=1.0: this has not been tried on a TPU" % name):
            read_methods(SETTINGS._replace(use_tpu=True), **{name: 1.0})


def test_r_drop_without_dropout_is_told(capsys):
    assert read_methods(r_drop=1.0).r_drop == 1.0
    assert "the encoder has none" in capsys.readouterr().err
    config = modeling.BertConfig.from_dict(dict(CONFIG.to_dict(), **DROPOUT))
    assert read_methods(config=config, r_drop=1.0).r_drop == 1.0
    assert "WARNING" not in capsys.readouterr().err


@pytest.mark.parametrize("flag", ALL)
def test_a_folder_is_never_continued_with_other_methods(folder, plain, tmp_path, flag):
    name = flag.split("=")[0].lstrip("-")
    assert_user_error(run(folder, "plain", "--do_train", flag, "--max_train_steps=3"),
                      "trained with other settings", "%s: " % name)
    # Nor one whose record is from before there were methods.
    shutil.copytree(plain, str(tmp_path / "older"))
    record = files.read_json(plain + "/run.json")
    for method in fine_tuning_methods.PLAIN:
        del record["trained_with"][method]
    files.write_json(str(tmp_path / "older" / "run.json"), record)
    older = "--output_dir=%s" % (tmp_path / "older")
    assert_user_error(run(folder, "plain", older, "--do_train", flag, "--max_train_steps=3"),
                      "trained with other settings", "%s: " % name)
    status, _, err = run(folder, "plain", older, "--do_train", "--max_train_steps=3")
    assert status == 0 and "nothing to train" in err, err


def test_every_kind_of_task_records_its_methods(folder, plain):
    recorded = files.read_json(plain + "/run.json")["trained_with"]
    for name, value in fine_tuning_methods.PLAIN.items():
        assert recorded[name] == value
    assert not set(fine_tuning_methods.PLAIN) & set(finetuning.TRAINED_WITH)  # once is enough
