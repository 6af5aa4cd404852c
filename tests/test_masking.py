"""masking.py: what training masks while reading is what instances.mask would."""

import collections
import doctest
import json
import math
import os
import random

import helpers
import numpy as np
import pytest

import create_pretraining_data as cpd
import instances
import masking
import pretraining
import record_making
import records
import run_pretraining
import tokenization
from errors import UserError
from test_create_pretraining_data import invented_text
from test_instances import made_of_words

import tensorflow.compat.v1 as tf

SIZES = {"sequence": 64, "predictions": 10}


@pytest.fixture(scope="module")
def entries(vocab_file):
    return instances.describe_vocabulary(tokenization.FullTokenizer(vocab_file))


@pytest.fixture
def settings(tmp_path, vocab_file):
    (tmp_path / "corpus.txt").write_bytes(invented_text(40).encode("utf-8"))
    return cpd.Settings(str(tmp_path / "corpus.txt"), str(tmp_path / "x.tfrecord"), vocab_file,
                        dupe_factor=1, num_workers=1, max_seq_length=64, num_shards=2,
                        max_predictions_per_seq=10, do_whole_word_mask=True, masking="dynamic")


def spec_of(wanted, entries):
    return masking.Spec(
        wanted.whole_words, wanted.share, wanted.most_predictions, wanted.max_ngram,
        entries.mask_id, entries.ordinary_ids, entries.twins if wanted.prefixed_labels else None,
        len(entries.twins))


def test_the_examples_in_the_docstrings_hold():
    result = doctest.testmod(masking)
    assert result.attempted >= 1 and result.failed == 0


@pytest.mark.parametrize("wanted", [
    instances.Masking(True, 0.15, 20, 1, False), instances.Masking(True, 0.5, 30, 1, True),
    instances.Masking(False, 0.15, 20, 1, True), instances.Masking(True, 0.2, 20, 3, True),
    instances.Masking(True, 0.9, 99, 4, False), instances.Masking(True, 0.01, 1, 2, False)])
def test_the_same_draws_mask_the_same(entries, wanted):
    rng = random.Random(5)
    sizes = [[rng.randint(1, 4) for _ in range(rng.randint(2, 40))] for _ in range(60)]
    made = made_of_words(sizes, entries)
    draws = instances.seeded("draws").random_sample([4, made.offsets[-1]]).astype(np.float32)
    expected = instances.mask(made, draws, wanted, entries)
    with tf.Graph().as_default(), tf.Session() as session:
        record = {"input_ids": tf.placeholder(tf.int32, [None]),
                  "segment_ids": tf.placeholder(tf.int32, [None]),
                  "word_starts": tf.placeholder(tf.int32, [None]),
                  "next_sentence_labels": tf.constant([1])}
        drawn = tf.placeholder(tf.float32, [4, None])
        outputs = masking.mask_with(record, spec_of(wanted, entries), drawn)
        for index in range(len(sizes)):
            start, end = made.offsets[index:index + 2]
            first = made.first_lengths[index]
            found = session.run(outputs, {
                record["input_ids"]: made.ids[start:end],
                record["segment_ids"]: [0] * first + [1] * (end - start - first),
                record["word_starts"]: made.word_starts[start:end].astype(np.int32),
                drawn: draws[:, start:end]})
            places = slice(*expected.offsets[index:index + 2])
            assert found["masked_lm_positions"].tolist() == expected.positions[places].tolist()
            assert found["masked_lm_ids"].tolist() == expected.labels[places].tolist()
            assert found["input_ids"].tolist() == expected.ids[start:end].tolist()
            assert found["masked_lm_weights"].tolist() == [1.0] * len(expected.labels[places])
            assert found["input_mask"].tolist() == [1] * (end - start)


@pytest.mark.parametrize("most", [2, 3, 5])
def test_span_lengths_are_those_of_the_static_masks(most):
    draws = np.random.RandomState(1).random_sample(5000).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(masking.span_lengths(tf.constant(draws), most))
    assert found.tolist() == instances.span_lengths(draws, most).tolist()


def batches(paths, count, seed=1, training=True):
    with tf.Graph().as_default(), tf.Session() as session:
        dataset = pretraining.input_fn_builder(paths, SIZES, training, seed)({"batch_size": 8})
        features = tf.data.make_one_shot_iterator(dataset).get_next()
        return [session.run(features) for _ in range(count)]


def restored(batch):
    """Returns {text without masks: the masked places} of a batch."""
    found = {}
    for row in range(len(batch["input_ids"])):
        ids = batch["input_ids"][row].copy()
        real = batch["masked_lm_weights"][row] == 1
        places = batch["masked_lm_positions"][row][real]
        ids[places] = batch["masked_lm_ids"][row][real]
        found[tuple(ids[batch["input_mask"][row] == 1])] = tuple(places)
    return found


def test_every_epoch_has_masks_of_its_own(settings):
    summary = cpd.create(settings)
    epochs, seen = 12, collections.defaultdict(list)
    for batch in batches(summary["outputs"], epochs * summary["instances"] // 8):
        for text, places in restored(batch).items():
            seen[text].append(places)
    originals = {tuple(helpers_ids(record)) for path in summary["outputs"]
                 for record in records.read(path)}
    assert set(seen) == originals
    assert sum(len(set(places)) for places in seen.values()) > 0.8 * sum(map(len, seen.values()))
    masked = sum(len(places) for text in seen.values() for places in text)
    tokens = sum(len(text) * len(places) for text, places in seen.items())
    assert abs(masked / float(tokens) - 0.15) < 0.01


def helpers_ids(serialized):
    return tf.train.Example.FromString(serialized).features.feature["input_ids"].int64_list.value


def test_the_share_of_each_case_is_that_of_the_static_masks(settings):
    summary = cpd.create(settings)
    outcomes = collections.Counter()
    for batch in batches(summary["outputs"], 200):
        real = batch["masked_lm_weights"] == 1
        now = np.take_along_axis(batch["input_ids"], batch["masked_lm_positions"], 1)[real]
        labels = batch["masked_lm_ids"][real]
        outcomes["mask"] += (now == 103).sum()
        outcomes["kept"] += (now == labels).sum()
        outcomes["total"] += len(now)
    total = outcomes["total"]
    # Words of several tokens share a case, so the spread is wider than that of single tokens.
    for name, share in (("mask", 0.8), ("kept", 0.1)):
        assert abs(outcomes[name] - share * total) < 8 * math.sqrt(total * share * (1 - share))


def test_a_seed_fixes_the_masks(settings):
    paths = cpd.create(settings)["outputs"]
    one, same, other = (batches(paths, 3, seed) for seed in (1, 1, 2))
    for first, second in zip(one, same):
        assert all((first[name] == second[name]).all() for name in first)
    assert restored(one[0]) != restored(other[0])
    evaluations = [batches(paths, 2, training=False) for _ in range(2)]
    assert all((evaluations[0][0][name] == evaluations[1][0][name]).all()
               for name in evaluations[0][0])


def test_every_evaluation_has_the_same_masks(settings, tmp_path):
    """Those of run_pretraining.py, too: else the best checkpoint would be one of luck."""
    summary = cpd.create(settings)
    config = helpers.write_config(tmp_path, vocab_size=21128, num_hidden_layers=1,
                                  max_position_embeddings=64)
    given = ("--input_file=" + ",".join(summary["outputs"]), "--bert_config_file=" + config,
             "--max_seq_length=64", "--max_predictions_per_seq=10", "--train_batch_size=4",
             "--eval_batch_size=4", "--num_train_steps=1", "--num_warmup_steps=1",
             "--max_eval_steps=4")
    made = "--output_dir=%s/made" % tmp_path
    assert helpers.run_here(run_pretraining, made, "--do_train", *given)[0] == 0
    results = []
    for name in ("one", "two"):
        out = "--output_dir=%s/%s" % (tmp_path, name)
        status, _, err = helpers.run_here(
            run_pretraining, out, "--do_eval", "--init_checkpoint=%s/made" % tmp_path, *given)
        assert status == 0, err
        with open(str(tmp_path / name / "eval_results.txt")) as stream:
            results.append(stream.read())
    assert results[0] == results[1]


def test_training_runs_on_records_that_are_not_masked_yet(settings, tmp_path):
    summary = cpd.create(settings)
    status, _, said = helpers.run_script(
        "run_pretraining.py", "--input_file=" + ",".join(summary["outputs"]),
        "--bert_config_file=" + helpers.write_config(
            tmp_path, vocab_size=21128, num_hidden_layers=1, max_position_embeddings=64),
        "--output_dir=" + str(tmp_path / "out"), "--do_train", "--do_eval", "--max_seq_length=64",
        "--max_predictions_per_seq=10", "--train_batch_size=4", "--eval_batch_size=4",
        "--num_train_steps=3", "--num_warmup_steps=1", "--learning_rate=1e-3",
        "--max_eval_steps=4")
    assert status == 0, said
    with open(str(tmp_path / "out" / "eval_results.txt")) as stream:
        assert "masked_lm_accuracy" in stream.read()


def test_faults_are_named(settings, tmp_path):
    paths = cpd.create(settings)["outputs"]
    static = cpd.create(settings._replace(masking="static", output_file=str(tmp_path / "s"),
                                          num_shards=1))["outputs"]
    config = collections.namedtuple("Config", "vocab_size type_vocab_size")(21128, 2)
    pretraining.check_input(paths, config, SIZES)
    with pytest.raises(UserError, match="is not masked yet .*s.tfrecord is"):
        pretraining.check_input(paths + static, config, SIZES)
    with pytest.raises(UserError, match="use --max_predictions_per_seq=10"):
        pretraining.check_input(paths, config, dict(SIZES, predictions=5))
    with pytest.raises(UserError, match="use --max_seq_length="):
        pretraining.check_input(paths, config, dict(SIZES, sequence=10))
    # Though no word of the first records is beyond the table, what replaces words would be.
    with pytest.raises(UserError, match="vocabulary of 21128, but .* vocab_size is 21127"):
        pretraining.check_input(paths, config._replace(vocab_size=21127), SIZES)
    other = cpd.create(settings._replace(masked_lm_prob=0.1, output_file=str(tmp_path / "y")))
    with pytest.raises(UserError, match="masked in different ways: .*x.json and .*y.json"):
        pretraining.check_input(paths + other["outputs"], config, SIZES)
    summary = str(tmp_path / "x.json")
    with open(summary) as stream:
        content = json.load(stream)
    with open(summary, "w") as stream:
        json.dump({name: content[name] for name in content if name != "masking"}, stream)
    with pytest.raises(UserError, match="x.json does not say how to mask"):
        pretraining.check_input(paths, config, SIZES)
    os.remove(summary)
    with pytest.raises(UserError, match="x.json, which says how to mask them, is missing"):
        pretraining.check_input(paths, config, SIZES)


def test_what_is_to_be_known_of_the_vocabulary_comes_back(settings, entries, tmp_path):
    paths = cpd.create(settings._replace(prefixed_word_labels=True, max_ngram=3))["outputs"]
    spec = masking.load(paths)
    assert (spec.ordinary_ids == entries.ordinary_ids).all()
    assert (spec.twins == entries.twins).all() and spec.mask_id == entries.mask_id
    assert spec[:4] == (True, 0.15, 10, 3)
    assert record_making.describe_masking(cpd.making_of(settings))["twins"] is None
