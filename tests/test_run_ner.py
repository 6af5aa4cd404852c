"""run_ner.py: the model against NumPy, the course of a run, entities and their files, bad input."""

import json
import os
import shutil
from unittest import mock

import numpy as np
import pytest
import reference
from helpers import (TINY, assert_user_error, batches_of, read, read_checkpoint, run_here,
                     run_script, write_checkpoint, write_config, write_vocabulary)

import entities
import entity_metrics
import features
import files
import finetuning
import heads
import modeling
import ner_tuning
import run_ner
import tokenization

SENTENCES = [("王明在北京工作。", [(0, 2, "PER"), (3, 5, "LOC")]),
             ("他和李红去上海看王明，又从上海回到北京的家，李红很高兴。",
              [(2, 4, "PER"), (5, 7, "LOC"), (8, 10, "PER"), (13, 15, "LOC"), (17, 19, "LOC"),
               (22, 24, "PER")]),
             ("天气很好。", [])]


def tagged(times=1, scheme="bio"):
    lines = []
    for text, found in SENTENCES * times:
        tags = entities.tags_of([entities.Entity(*one) for one in found], len(text), scheme)
        lines += ["%s %s" % pair for pair in zip(text, tags)] + [""]
    return "\n".join(lines) + "\n"


def rows(with_labels):
    for number, (text, found) in enumerate(SENTENCES):
        row = {"id": number, "text": text}
        if with_labels:
            row["label"] = {}
            for start, end, kind in found:
                row["label"].setdefault(kind, {}).setdefault(text[start:end], []).append(
                    [start, end - 1])
        yield json.dumps(row, ensure_ascii=False) + "\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A configuration, a vocabulary and data: 24 training, 3 dev and 3 test sentences."""
    folder = tmp_path_factory.mktemp("ner")
    write_config(folder)
    write_vocabulary(folder, [text for text, _ in SENTENCES])
    (folder / "data").mkdir()
    files.write_text(str(folder / "data" / "train.txt"), tagged(8))
    files.write_text(str(folder / "data" / "dev.bmes"), tagged(scheme="bioes").replace("I-", "M-"))
    files.write_text(str(folder / "data" / "test.json"), "".join(rows(False)))
    return str(folder)


def flags_for(folder, *others):
    return ("--data_dir=%s/data" % folder, "--bert_config_file=%s/config.json" % folder,
            "--vocab_file=%s/vocab.txt" % folder, "--task_name=cluener", "--max_seq_length=16",
            "--doc_stride=6", "--num_threads=1", "--train_batch_size=8") + others


def tag(folder, *others):
    return run_here(run_ner, *flags_for(folder, *others))


ALL_STEPS = ("--do_train", "--do_eval", "--do_predict", "--num_train_epochs=20",
             "--save_checkpoints_steps=40", "--learning_rate=5e-3")


@pytest.fixture(scope="module")
def trained(folder):
    """The output folder of a whole run from the command line."""
    status, out, err = run_script("run_ner.py", *flags_for(
        folder, "--output_dir=%s/run" % folder, *ALL_STEPS))
    assert status == 0, err
    return folder + "/run", out, err


def read_lines(*parts):
    return [json.loads(line) for line in read(os.path.join(*parts)).decode("utf-8").splitlines()]


def read_json(*parts):
    return json.loads(read(os.path.join(*parts)).decode("utf-8"))


# ---------------------------------------------------------------------------------------------
# The course of a run
# ---------------------------------------------------------------------------------------------

def test_from_training_to_entities(folder, trained):
    output_dir, out, err = trained
    results = read_json(output_dir, "eval_results.json")
    best = results["best"]
    assert len(results["checkpoints"]) > 1 and best["eval_f1"] == max(
        row["eval_f1"] for row in results["checkpoints"])
    assert "dev: 3 sentences, 6 windows" in err  # the long one does not fit into one
    assert "Best: %s, dev F1 %.4f" % (best["checkpoint"], best["eval_f1"]) in err
    assert "entity F1 %.4f" % best["eval_f1"] in out
    assert read_json(output_dir, "run.json")["results"]["dev_f1"] == best["eval_f1"]
    assert read(output_dir + "/labels.txt").decode().split() == [
        "O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert read_json(output_dir, "entities.json") == {
        "task": "cluener", "labels": ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"],
        "do_lower_case": True, "tag_scheme": "bio", "max_seq_length": 16, "doc_stride": 6}


def test_what_was_seen_in_training_is_found(trained):
    """The model learns its three sentences by heart."""
    assert read_json(trained[0], "eval_results.json")["best"]["eval_f1"] > 0.9


def test_the_scores_are_those_of_the_written_entities(folder, trained):
    output_dir = trained[0]
    best = read_json(output_dir, "eval_results.json")["best"]
    written = read_lines(output_dir, "dev_predictions.jsonl")
    assert [row["text"] for row in written] == [text for text, _ in SENTENCES]
    for row in written:
        for one in row["entities"]:
            assert row["text"][one["start"]:one["end"]] == one["text"] != ""
    found = [[entities.Entity(one["start"], one["end"], one["type"]) for one in row["entities"]]
             for row in written]
    report = entity_metrics.report(
        [[entities.Entity(*one) for one in some] for _, some in SENTENCES], found)
    assert (report.f1, report.precision, report.recall) == (
        best["eval_f1"], best["eval_precision"], best["eval_recall"])
    text = read(output_dir + "/eval_report.txt").decode()
    assert text.startswith("# %s (" % best["checkpoint"])
    assert entity_metrics.format_report(report) in text


def test_predictions_and_submission(trained):
    output_dir = trained[0]
    written = read_lines(output_dir, "predictions.jsonl")
    submitted = read_lines(output_dir, "cluener_predict.json")
    assert [row["id"] for row in submitted] == [0, 1, 2]
    for row, line in zip(written, submitted):
        spans = sorted((first, last + 1, kind) for kind, mentions in line["label"].items()
                       for mention, places in mentions.items() for first, last in places
                       if row["text"][first:last + 1] == mention)
        assert spans == sorted((one["start"], one["end"], one["type"]) for one in row["entities"])
    # test is dev, with another name
    assert [row["entities"] for row in written] == [
        row["entities"] for row in read_lines(output_dir, "dev_predictions.jsonl")]


def test_a_second_run_repeats_nothing_and_a_known_model_serves(folder, trained, tmp_path):
    copied = str(tmp_path / "run")
    shutil.copytree(trained[0], copied)
    names = ("predictions.jsonl", "eval_report.txt", "eval_results.json", "labels.txt")
    before = [read(os.path.join(copied, name)) for name in names]
    status, _, err = tag(folder, "--output_dir=" + copied, *ALL_STEPS)
    assert status == 0 and "Already trained" in err and "evaluate" not in err, err
    assert [read(os.path.join(copied, name)) for name in names] == before
    # Another folder, with labelled test data under another name, no training data at hand.
    files.write_text(str(tmp_path / "mine.json"), "".join(rows(True)))
    status, out, err = tag(folder, "--output_dir=%s/out" % tmp_path, "--do_predict",
                           "--task_name=ner", "--data_dir=", "--init_checkpoint=" + copied,
                           "--test_file=%s/mine.json" % tmp_path)
    assert status == 0, err
    assert "test entity F1" in out and "on 3 sentences" in out
    assert not os.path.exists("%s/out/cluener_predict.json" % tmp_path)
    for place in ("--output_dir=" + copied, "--init_checkpoint=" + copied):
        assert_user_error(tag(folder, "--output_dir=%s/new" % tmp_path, place, "--do_eval",
                              "--tag_scheme=bioes"), "tag_scheme: bio then, bioes now")


@pytest.mark.parametrize("decoding", ner_tuning.DECODINGS)
def test_entities_equal_those_of_numpy(folder, tmp_path, decoding):
    labels = entities.labels_for(["LOC", "PER"], "bio")
    weights = reference.initial_values(heads.token_variable_shapes(
        modeling.BertConfig.from_dict(TINY), modeling.BertModel, len(labels), ner_tuning.SCOPE))
    write_checkpoint(tmp_path / "model.ckpt", weights)
    files.write_text(str(tmp_path / "labels.txt"), "".join(label + "\n" for label in labels))
    status, _, err = tag(folder, "--init_checkpoint=%s" % tmp_path, "--do_eval",
                         "--output_dir=%s/out" % tmp_path, "--decoding=" + decoding)
    assert status == 0, err
    sentences = entities.read_sentences(folder + "/data/dev.bmes")
    tagging = entities.Tagging(sentences, entities.Settings(
        tokenization.FullTokenizer(folder + "/vocab.txt"), 16, 6, labels, "bio"))
    losses = []
    for number, row in enumerate(read_lines(str(tmp_path), "out", "dev_predictions.jsonl")):
        scores = []
        for window in tagging.windows_of(number):
            made = tagging.features(tagging.windows[window])
            _, layers, _ = reference.encode(TINY, weights, *[np.array(made[name]) for name in (
                "input_ids", "input_mask", "segment_ids")])
            logits = (layers[-1] @ weights["cls/entities/output_weights"].T
                      + weights["cls/entities/output_bias"])
            scores.append(np.log(reference.softmax(logits))[1:-1])
        joined = tagging.joined(number, scores)
        tags = (joined.argmax(axis=1) if decoding == "greedy"
                else entities.best_sequence(joined, entities.rules_for(labels)))
        wanted = entities.spans_of([labels[one] for one in tags])
        assert [(one["start"], one["end"], one["type"]) for one in row["entities"]] == wanted
        losses.extend(-joined[np.arange(len(joined)), tagging.tag_ids(number)])
    best = read_json(str(tmp_path), "out", "eval_results.json")["best"]
    assert best["eval_loss"] == pytest.approx(np.mean(losses), abs=1e-4)


@pytest.mark.parametrize("stride, apart", [(13, 0), (14, 2), (40, 2)])
def test_windows_that_do_not_overlap_are_told(folder, tmp_path, capsys, stride, apart):
    tokenizer = tokenization.FullTokenizer(folder + "/vocab.txt")
    sentences = [entities.Sentence(str(number), "天" * length, ())
                 for number, length in enumerate((5, 40, 14))]
    labels = entities.labels_for(["LOC"], "bio")
    tagging = entities.Tagging(sentences, entities.Settings(tokenizer, 16, stride, labels, "bio"))
    task = mock.Mock(labels=labels)
    ner_tuning.NamedEntities().features(
        mock.Mock(examples={"dev": tagging}, task=task), "dev", str(tmp_path), None, "key",
        {"max_seq_length": 16, "doc_stride": stride})
    err = capsys.readouterr().err
    assert ("--doc_stride=%d is all that" % stride in err) == bool(apart), err
    assert ("so that %d windows" % apart in err) == bool(apart), err


def test_windows_are_half_a_length_apart_unless_told(folder, tmp_path):
    """Of 30 characters, 14 a window: 8 apart, as half of 16, they are 3 windows."""
    files.write_text(str(tmp_path / "train.txt"), "天 B-LOC\n" + "气 O\n" * 29)
    flags_given = [flag for flag in flags_for(folder) if not flag.startswith("--doc_stride=")]
    status, _, err = run_here(run_ner, *(flags_given + [
        "--data_dir=%s" % tmp_path, "--output_dir=%s/out" % tmp_path, "--do_train",
        "--max_train_steps=1", "--train_batch_size=1"]))
    assert status == 0 and "train: 1 sentences, 3 windows" in err, err


@pytest.mark.parametrize("fixed_shapes", [False, True])
def test_batches_hold_every_window_with_its_tags(folder, tmp_path, fixed_shapes):
    """Padded to the longest, or all to one length as TPUs want it, the last batch filled up."""
    sentences = entities.read_sentences(folder + "/data/dev.bmes")
    labels = entities.labels_for(["LOC", "PER"], "bio")
    tagging = entities.Tagging(sentences, entities.Settings(
        tokenization.FullTokenizer(folder + "/vocab.txt"), 16, 6, labels, "bio"))
    split = features.make_split("dev", "key", tagging.windows, str(tmp_path), ner_tuning.WINDOW,
                                tagging.features)
    batches = batches_of(features.input_fn_builder(
        split, 16, False, fixed_shapes=fixed_shapes, whole_batch=4, schema=ner_tuning.WINDOW), 4)
    seen = []
    for batch in batches:
        width = batch["input_ids"].shape[1]
        assert width == 16 if fixed_shapes else width == batch["input_mask"].sum(axis=1).max()
        for place, row in enumerate(batch["row"]):
            if not batch["is_real_example"][place]:
                assert row >= len(tagging.windows) and not batch["label_mask"][place].any()
                continue
            seen.append(row)
            made = tagging.features(tagging.windows[row])
            for name in ("input_ids", "input_mask", "segment_ids", "label_ids", "label_mask"):
                numbers = batch[name][place].tolist()
                assert numbers == made[name] + [0] * (width - len(made[name]))
    assert sorted(seen) == list(range(6))


# ---------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------

def test_bad_input(folder, trained, tmp_path):
    out = "--output_dir=%s/out" % tmp_path
    files.write_text(str(tmp_path / "plain.txt"), "天 O\n气 O\n")
    files.write_text(str(tmp_path / "bad.txt"), "天 O\n气 PER\n")
    weights = {name: value for name, value in read_checkpoint(
        finetuning.candidates(trained[0], None)[-1]).items()
        if name.startswith("bert/") and "adam" not in name}
    write_checkpoint(tmp_path / "bare.ckpt", weights)
    cases = [
        ((), ("nothing to do",)),
        (("--do_train", "--task_name=msra"), ("--task_name=msra", "cluener, ner")),
        (("--do_train", "--data_dir=%s" % tmp_path), ("train.txt", "--train_file")),
        (("--do_train", "--train_file=%s/plain.txt" % tmp_path), ("plain.txt holds no entity",)),
        (("--do_train", "--train_file=%s/bad.txt" % tmp_path), ("bad.txt line 2", "is no tag")),
        (("--do_train", "--doc_stride=0"), ("--doc_stride=0",)),
        (("--do_predict",), ("no labels.txt", "--do_train")),
        (("--do_eval", "--init_checkpoint=%s/bare.ckpt" % tmp_path), ("no labels.txt",)),
        (("--do_predict", "--do_lower_case=False", "--init_checkpoint=" + trained[0]),
         ("entities.json", "do_lower_case: True then, False now")),
    ]
    for others, fragments in cases:
        assert_user_error(tag(folder, out, *others), *fragments)
    assert not os.path.exists("%s/out" % tmp_path)
    status, _, err = tag(folder, out, "--do_train", "--max_train_steps=1",
                         "--init_checkpoint=%s/bare.ckpt" % tmp_path)
    assert status == 0 and "initialised anew: cls/entities/output_weights" in err, err
