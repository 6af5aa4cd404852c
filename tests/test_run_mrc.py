"""run_mrc.py: the model against NumPy, the course of a run, answers and their files, bad input."""

import json
import os
import re
import shutil
from unittest import mock

import numpy as np
import pytest
import reference
from helpers import (TINY, TINY_GOOGLE, assert_user_error, read, read_checkpoint, run_here,
                     run_script, write_checkpoint, write_config, write_google_config,
                     write_vocabulary)

import files
import heads
import modeling
import modeling_google
import mrc_metrics
import mrc_tuning
import reading_comprehension
import run_mrc
import selection
import tokenization

PASSAGES = [
    ("小明住在北京，他每天早上去公园跑步。", (("谁住在北京", "小明"), ("他去哪里", "公园"))),
    ("上海是大城市，小红在上海工作十年了。", (("谁在上海", "小红"), ("多少年", "十年"))),
    ("今天天气好，大家都去公园看花。", (("天气怎样", "好"), ("去看什么", "花")))]


def squad(times=1, without_answer=False, with_answers=True):
    """The passages as a file; without_answer: each has a further question that it cannot answer."""
    paragraphs = []
    for turn in range(times):
        for number, (passage, pairs) in enumerate(PASSAGES):
            qas = []
            for question, answer in pairs:
                qas.append({"id": "t%d_p%d_q%d" % (turn, number, len(qas)), "question": question})
                if with_answers:
                    qas[-1]["answers"] = [{"text": answer, "answer_start": passage.find(answer)}]
            if without_answer:
                qas.append({"id": "t%d_p%d_none" % (turn, number), "question": "怎么了",
                            "answers": [], "is_impossible": True})
            paragraphs.append({"context": passage, "qas": qas})
    return {"version": "v1.0", "data": [{"paragraphs": paragraphs}]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A configuration, a vocabulary and data: 24 training, 6 dev and 6 test questions."""
    folder = tmp_path_factory.mktemp("mrc")
    write_vocabulary(folder, [json.dumps(squad(without_answer=True), ensure_ascii=False)], size=140)
    write_config(folder, vocab_size=140, num_hidden_layers=1)
    (folder / "data").mkdir()
    (folder / "absent").mkdir()
    for split, times in (("train", 4), ("dev", 1)):
        files.write_json(str(folder / "data" / (split + ".json")), squad(times))
        files.write_json(str(folder / "absent" / (split + ".json")), squad(times, True))
    files.write_json(str(folder / "data" / "test.json"), squad(with_answers=False))
    files.write_json(str(folder / "absent" / "test.json"), squad(without_answer=True))
    return str(folder)


def flags_for(folder, *others):
    return ("--data_dir=%s/data" % folder, "--bert_config_file=%s/config.json" % folder,
            "--vocab_file=%s/vocab.txt" % folder, "--task_name=cmrc2018", "--max_seq_length=22",
            "--doc_stride=5", "--max_query_length=6", "--max_answer_length=8", "--n_best_size=4",
            "--num_threads=1", "--train_batch_size=8") + others


def answer(folder, *others):
    return run_here(run_mrc, *flags_for(folder, *others))


ALL_STEPS = ("--do_train", "--do_eval", "--do_predict", "--max_train_steps=4",
             "--save_checkpoints_steps=2", "--learning_rate=1e-3")


@pytest.fixture(scope="module")
def trained(folder):
    """The output folder of four steps, which the command line ran through to the end."""
    status, out, err = run_script("run_mrc.py", *flags_for(
        folder, "--output_dir=%s/run" % folder, *ALL_STEPS))
    assert status == 0, err
    return folder + "/run", out, err


def read_json(*parts):
    return json.loads(read(os.path.join(*parts)).decode("utf-8"))


def gold_of(path):
    return {one.id: one.answers for one in reading_comprehension.read_squad(path)}


# ---------------------------------------------------------------------------------------------
# The course of a run
# ---------------------------------------------------------------------------------------------

def test_from_training_to_answers(folder, trained):
    output_dir, out, err = trained
    results = read_json(output_dir, "eval_results.json")
    assert [row["step"] for row in results["checkpoints"]] == [2, 4]
    best = results["best"]
    assert best == max(results["checkpoints"], key=lambda row: (row["eval_f1"], -row["eval_loss"]))
    assert "Best: %s, dev F1 %.4f" % (best["checkpoint"], best["eval_f1"]) in err
    assert "Answering 6 questions with %s/%s" % (output_dir, best["checkpoint"]) in err
    text = read(output_dir + "/eval_results.txt").decode()
    for name in ("eval_f1", "eval_exact_match", "eval_loss"):
        assert "%s = %s\n" % (name, best[name]) in text
    record = read_json(output_dir, "run.json")
    assert record["results"]["dev_f1"] == best["eval_f1"]
    assert read(output_dir + "/curves.png").startswith(b"\x89PNG")
    assert read_json(output_dir, "reading.json") == {
        "task": "cmrc2018", "answers_may_be_absent": False, "do_lower_case": True,
        "max_seq_length": 22, "doc_stride": 5, "max_query_length": 6, "max_answer_length": 8}
    assert {"vocab.txt", "albert_config.json"} <= set(os.listdir(output_dir))
    assert "labels.txt" not in os.listdir(output_dir)


def test_the_scores_are_those_of_the_written_answers(folder, trained):
    output_dir = trained[0]
    best = read_json(output_dir, "eval_results.json")["best"]
    predictions = read_json(output_dir, "dev_predictions.json")
    scores = mrc_metrics.score(gold_of(folder + "/data/dev.json"), predictions)
    assert scores.f1 == pytest.approx(100 * best["eval_f1"])
    assert scores.exact_match == pytest.approx(100 * best["eval_exact_match"])
    assert "all" in trained[1] and "%.2f" % scores.f1 in trained[1]
    heading = read(output_dir + "/eval_report.txt").decode().split("\n")[0]
    assert heading.startswith("# %s (" % best["checkpoint"])


def test_answers_stand_in_their_passages(folder, trained):
    output_dir = trained[0]
    questions = reading_comprehension.read_squad(folder + "/data/test.json", answers_needed=False)
    predictions = read_json(output_dir, "predictions.json")
    assert list(predictions) == [one.id for one in questions]
    assert predictions == read_json(output_dir, "cmrc2018_predict.json")
    n_best = read_json(output_dir, "nbest_predictions.json")
    for one in questions:
        entries = n_best[one.id]
        assert 1 <= len(entries) <= 4 and entries[0]["text"] == predictions[one.id]
        assert sum(entry["probability"] for entry in entries) == pytest.approx(1, abs=1e-4)
        for entry in entries:
            assert entry["text"] == one.passage[entry["start"]:entry["end"]] != ""
    # dev asks the same: the same checkpoint answers the same
    assert predictions == read_json(output_dir, "dev_predictions.json")


def test_a_second_run_repeats_nothing_and_makes_the_same(folder, trained, tmp_path):
    copied = str(tmp_path / "run")
    shutil.copytree(trained[0], copied)
    names = ("predictions.json", "nbest_predictions.json", "eval_report.txt", "eval_results.json")
    before = [read(os.path.join(copied, name)) for name in names]
    status, _, err = answer(folder, "--output_dir=" + copied, *ALL_STEPS)
    assert status == 0, err
    assert "Already trained to step 4" in err and "evaluate" not in err and "features" not in err
    assert [read(os.path.join(copied, name)) for name in names] == before
    assert_user_error(answer(folder, "--output_dir=" + copied, *(ALL_STEPS + ("--doc_stride=4",))),
                      "doc_stride: 5 then, 4 now", "choose another --output_dir")


def test_answers_to_dev_follow_what_was_asked(folder, trained, tmp_path):
    copied = str(tmp_path / "run")
    shutil.copytree(trained[0], copied)
    best = read_json(copied, "eval_results.json")["best"]["checkpoint"]

    def evaluate(*others):
        status, _, err = answer(folder, "--output_dir=" + copied, "--do_eval", *others)
        assert status == 0, err
        assert set(re.findall("evaluate [^ ]+", err)) == {"evaluate " + best}  # and no other
        return {name: len(entries) for name, entries in read_json(
            copied, "dev_nbest_predictions.json").items()}

    fewer = dict.fromkeys(gold_of(folder + "/data/dev.json"), 2)
    assert evaluate("--n_best_size=2") == fewer
    os.remove(copied + "/dev_predictions.json")
    assert evaluate("--n_best_size=2") == fewer
    assert read_json(copied, "dev_predictions.json") == read_json(
        trained[0], "dev_predictions.json")


def test_more_steps_go_on(folder, trained, tmp_path):
    copied = str(tmp_path / "run")
    shutil.copytree(trained[0], copied)
    status, _, err = answer(folder, "--output_dir=" + copied, "--do_train", "--max_train_steps=6",
                            "--save_checkpoints_steps=2", "--learning_rate=1e-3")
    assert status == 0 and "Going on from %s/model.ckpt-4" % copied in err, err
    assert "cls/squad/output_weights/adam_m" in read_checkpoint(copied + "/model.ckpt-6")


def test_answers_may_be_absent(folder, tmp_path):
    out = "--output_dir=%s/run" % tmp_path
    absent = ("--data_dir=%s/absent" % folder, "--task_name=squad", out)
    status, screen, err = answer(folder, *(absent + ALL_STEPS))
    assert status == 0, err
    best = read_json(str(tmp_path), "run", "eval_results.json")["best"]
    gold = gold_of(folder + "/absent/dev.json")
    predictions = read_json(str(tmp_path), "run", "predictions.json")
    scores = mrc_metrics.score(gold, predictions)  # test is dev
    assert scores.f1 == pytest.approx(100 * best["eval_f1"])
    assert "test exact match %.3f, F1 %.3f on 9 questions" % scores[:2] in screen
    n_best = read_json(str(tmp_path), "run", "nbest_predictions.json")
    for name, entries in n_best.items():
        null = [entry for entry in entries if entry["text"] == ""]
        others = [entry for entry in entries if entry["text"]]
        assert len(null) == 1
        refused = null[0]["score"] - others[0]["score"] > best["null_score_threshold"] + 1e-6
        assert predictions[name] == ("" if refused else others[0]["text"])
    # No tuned threshold is worse than to answer all, or none.
    answered = {name: entries[0]["text"] or entries[1]["text"] for name, entries in n_best.items()}
    for one in (answered, dict.fromkeys(n_best, "")):
        assert scores.f1 >= mrc_metrics.score(gold, one).f1 - 1e-9
    assert not os.path.exists("%s/run/cmrc2018_predict.json" % tmp_path)
    for threshold, every in ((-1e9, True), (1e9, False)):
        status, _, err = answer(folder, "--null_score_threshold=%g" % threshold, "--do_predict",
                                *absent)
        assert status == 0, err
        answers = read_json(str(tmp_path), "run", "predictions.json").values()
        assert all((text == "") == every for text in answers)
    # The threshold goes with the checkpoint, into another folder, too; a given one is not a tuned.
    for given in ("--predict_checkpoint", "--init_checkpoint"):
        other = absent[:2] + ("--output_dir=%s/%s" % (tmp_path, given[2:]),)
        status, _, err = answer(folder, "--do_predict", "%s=%s/run" % (given, tmp_path), *other)
        assert status == 0 and "no threshold was tuned" not in err, err
        assert read_json(str(tmp_path), given[2:], "predictions.json") == predictions
    assert answer(folder, "--do_eval", "--null_score_threshold=1e9", *absent)[0] == 0
    status, _, err = answer(folder, "--do_predict", *absent)
    assert status == 0 and "no threshold was tuned" in err, err


def test_whether_answers_may_be_absent_does_not_flip(folder, tmp_path):
    """Train and dev decide it, once: a later call of the run may read other splits than the first.

    The test file of the folder "absent" has questions without an answer.
    """
    def run(name, *others):
        status, _, err = answer(folder, "--output_dir=%s/%s" % (tmp_path, name),
                                "--max_train_steps=1", *others)
        assert status == 0, err
        return read_json(str(tmp_path), name, "reading.json")["answers_may_be_absent"], err

    absent = {split: "--%s_file=%s/absent/%s.json" % (split, folder, split)
              for split in ("dev", "test")}
    assert not run("a", "--do_train", "--do_predict", absent["test"])[0]
    flag, err = run("a", "--do_train", "--do_eval", "--do_predict", *absent.values())
    assert not flag and "WARNING: dev holds questions without an answer" in err
    assert run("b", "--do_train", "--do_eval", absent["dev"])[0]
    assert run("b", "--do_train")[0]  # whose train alone would say no


def test_what_of_test_is_scored(tmp_path, capsys):
    """Only a file that tells every answer: what is hidden is not an answer that does not exist."""
    def results_of(document):
        path = str(tmp_path / "test.json")
        files.write_json(path, document)
        reading = mock.Mock(questions=reading_comprehension.read_squad(path, answers_needed=False))
        work = mock.Mock()
        work.predict.return_value = {one.id: "北京" for one in reading.questions}
        return mrc_tuning.ReadingComprehension().predict(
            work, mock.Mock(reading=reading), {"predict_batch_size": 8}, "model.ckpt-1", None)

    hidden = squad(with_answers=False)
    for answers in (None, [], [{"text": "", "answer_start": -1}],
                    [{"text": "FAKE_ANSWER_1", "answer_start": -1}]):
        for paragraph in hidden["data"][0]["paragraphs"]:
            for entry in paragraph["qas"]:
                entry["answers"] = answers
        assert results_of(hidden) == {}
    assert "not scored" not in capsys.readouterr().err
    told = squad(without_answer=True)
    assert results_of(told) == {"test_exact_match": 0.0, "test_f1": pytest.approx(0.0)}
    told["data"][0]["paragraphs"][0]["qas"][0]["answers"] = []
    assert results_of(told) == {}
    assert "test is not scored: the answers to 1 of its 9 questions" in capsys.readouterr().err


@pytest.mark.parametrize("data, threshold, warns", [
    ("data", 0.0, True), ("data", None, False), ("absent", 0.0, False)])
def test_a_threshold_without_effect_is_told(folder, tmp_path, capsys, data, threshold, warns):
    values = dict.fromkeys(("train_file", "dev_file", "test_file", "do_predict"), "")
    values.update(task_name="squad", data_dir="%s/%s" % (folder, data), do_train=True,
                  do_eval=True, output_dir=str(tmp_path / "out"), max_seq_length=22, doc_stride=5,
                  max_query_length=6, null_score_threshold=threshold)
    tokenizer = tokenization.FullTokenizer(folder + "/vocab.txt")
    mrc_tuning.ReadingComprehension().read_data(values, mock.Mock(tokenizer=tokenizer))
    told = "--null_score_threshold=0 has no effect" in capsys.readouterr().err
    assert told == warns


@pytest.mark.parametrize("stride, told", [
    (3, ()), (7, ("1 answers stand in no window",)),
    (16, ("1 answers stand in no window",)),
    (17, ("--doc_stride=17 is no less than", "windows of 1 questions do not overlap",
          "1 answers stand in no window")),
    (40, ("--doc_stride=40 is no less than", "windows of 1 questions do not overlap",
          "smaller --doc_stride (now 40) or a larger --max_seq_length (now 22)"))])
def test_what_windows_pass_over_is_told(folder, tmp_path, capsys, stride, told):
    """[CLS] 问什 [SEP] and [SEP] leave 17 places; the answer begins at the fourteenth of 26."""
    passage = "一二三四五六七八九十" * 2 + "一二三四五六"
    questions = [reading_comprehension.Question(str(start), "问什", text, (text[start:end],),
                                                (start, end))
                 for text, start, end in ((passage, 13, 26), (passage[:17], 0, 17))]
    settings = reading_comprehension.Settings(
        tokenization.FullTokenizer(folder + "/vocab.txt"), 22, stride, 6)
    reading = reading_comprehension.Reading(questions, settings)
    mrc_tuning.ReadingComprehension().features(
        mock.Mock(examples={"dev": reading}), "dev", str(tmp_path), None, "key",
        {"max_seq_length": 22, "doc_stride": stride, "max_query_length": 6,
         "max_answer_length": 17})
    err = capsys.readouterr().err
    assert all(fragment in err for fragment in told), err
    assert err.count("WARNING") == (len(told) > 0) + (stride >= 17), err


# ---------------------------------------------------------------------------------------------
# The model against NumPy
# ---------------------------------------------------------------------------------------------

LAYOUTS = {
    "postln": (TINY, modeling.BertConfig, modeling.BertModel, reference.encode),
    "preln": (dict(TINY, ln_type="preln"), modeling.BertConfig, modeling.BertModel,
              reference.encode),
    "google": (TINY_GOOGLE, modeling_google.AlbertConfig, modeling_google.AlbertModel,
               reference.encode_google)}


def model_in(folder, layout):
    """Writes a model with a head of reading comprehension; returns (settings, weights, encode)."""
    settings, config_class, model_class, encode = LAYOUTS[layout]
    settings = dict(settings, vocab_size=140)
    weights = reference.initial_values(heads.token_variable_shapes(
        config_class.from_dict(settings), model_class, 2, mrc_tuning.SCOPE))
    write_checkpoint(os.path.join(str(folder), "model.ckpt"), weights)
    changes = {name: settings[name] for name in ("vocab_size", "ln_type") if name in settings}
    (write_google_config if layout == "google" else write_config)(folder, **changes)
    return settings, weights, encode


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_answers_equal_those_of_numpy(folder, tmp_path, layout):
    settings, weights, encode = model_in(tmp_path, layout)
    status, _, err = answer(folder, "--bert_config_file=%s/config.json" % tmp_path,
                            "--init_checkpoint=%s" % tmp_path, "--do_predict", "--do_eval",
                            "--output_dir=%s/out" % tmp_path, "--predict_batch_size=3")
    assert status == 0, err
    found = read_json(str(tmp_path), "out", "nbest_predictions.json")
    made = reading_comprehension.Settings(tokenization.FullTokenizer(folder + "/vocab.txt"),
                                          22, 5, 6)
    questions = reading_comprehension.read_squad(folder + "/data/dev.json")
    reading = reading_comprehension.Reading(questions, made)
    assert len(reading.windows) > len(questions)
    losses = []
    for number, question in enumerate(questions):
        scores = []
        for window in reading.windows_of(number):
            row = {name: np.array(values) for name, values in reading.features(
                reading.windows[window]).items()}
            scores.append(numpy_scores(settings, weights, encode, row))
            losses.append(-(scores[-1][0, row["start_positions"][0]]
                            + scores[-1][1, row["end_positions"][0]]) / 2)
        wanted = reading_comprehension.n_best(
            reading_comprehension.answer(reading, number, scores, 4, 8), False)
        assert [entry["text"] for entry in found[question.id]] == [
            entry["text"] for entry in wanted]
        np.testing.assert_allclose([entry["score"] for entry in found[question.id]],
                                   [entry["score"] for entry in wanted], atol=2e-4)
    best = read_json(str(tmp_path), "out", "eval_results.json")["best"]
    assert best["eval_loss"] == pytest.approx(np.mean(losses), abs=1e-4)


def numpy_scores(settings, weights, encode, row):
    """Log-probabilities [2, S] of a window in NumPy."""
    _, layers, _ = encode(settings, weights, row["input_ids"], row["input_mask"],
                          row["segment_ids"])
    vectors = layers[-1]
    if settings.get("ln_type") == "preln":
        vectors = reference.normalise(vectors, weights, "cls/squad/LayerNorm")
    logits = (vectors @ weights["cls/squad/output_weights"].T
              + weights["cls/squad/output_bias"]).T
    logits[:, (row["segment_ids"] == 0) & (np.arange(len(vectors)) > 0)] -= 10000.0
    return np.log(np.maximum(reference.softmax(logits), 1e-300))


# ---------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------

def test_bad_input(folder, trained, tmp_path):
    out = "--output_dir=%s/out" % tmp_path
    cases = [
        ((), ("nothing to do",)),
        (("--do_train", "--task_name=cmrc"), ("--task_name=cmrc", "cmrc2018, drcd, squad")),
        (("--do_train", "--data_dir=%s" % tmp_path), ("train.json", "--train_file")),
        (("--do_train", "--train_file=%s/x" % tmp_path), ("--train_file", "does not exist")),
        (("--do_train", "--doc_stride=0"), ("--doc_stride=0",)),
        (("--do_train", "--max_query_length=12"),
         ("--max_seq_length=22 leaves 7 tokens", "--max_query_length=12")),
        (("--do_train", "--max_seq_length=33"), ("beyond the 32 positions",)),
        (("--do_train", "--n_best_size=0"), ("--n_best_size=0",)),
        (("--do_predict",), ("holds no checkpoint", "--do_train")),
        (("--do_predict", "--do_lower_case=False", "--init_checkpoint=" + trained[0]),
         ("reading.json", "do_lower_case: True then, False now")),
        (("--do_train", "--spm_model_file=x.model"), ("not both",)),
    ]
    for others, fragments in cases:
        assert_user_error(answer(folder, out, *others), *fragments)
    assert not os.path.exists("%s/out" % tmp_path)


def test_an_encoder_alone_cannot_answer(folder, trained, tmp_path):
    weights = {name: value for name, value in read_checkpoint(trained[0] + "/model.ckpt-4").items()
               if name.startswith("bert/") and "adam" not in name}
    write_checkpoint(tmp_path / "bare.ckpt", weights)
    assert_user_error(answer(folder, "--output_dir=%s/out" % tmp_path, "--do_eval",
                             "--init_checkpoint=%s/bare.ckpt" % tmp_path),
                      "no fitting head", "cls/squad/output_weights [2, 16] is missing")


def test_data_without_anything_to_learn(folder, tmp_path):
    files.write_json(str(tmp_path / "train.json"), {"data": [{"paragraphs": [{
        "context": "小明", "qas": [{"id": 1, "question": "谁", "answers": [
            {"text": "花", "answer_start": -1}]}]}]}]})
    assert_user_error(answer(folder, "--output_dir=%s/out" % tmp_path, "--do_train",
                             "--data_dir=%s" % tmp_path), "train.json", "nothing to learn from")


def test_the_best_is_that_with_the_highest_f1():
    rows = [{"step": 1, "eval_f1": 0.4, "eval_loss": 0.1}, {"step": 2, "eval_f1": 0.6,
             "eval_loss": 3.0}, {"step": 3, "eval_f1": 0.6, "eval_loss": 2.0},
            {"step": 4, "eval_f1": 0.9, "eval_loss": float("nan")}]
    assert selection.best_of(rows)["step"] == 3
