"""Multiple choice: the model against NumPy, the course of a run, its files, who else meets it."""

import json
import os
import shutil

import numpy as np
import pytest
import reference
from helpers import (TINY, TINY_GOOGLE, assert_user_error, batches_of, load_weights, read,
                     read_checkpoint, run_here, run_script, write_checkpoint, write_config,
                     write_google_config, write_vocabulary)

import choice_tuning
import choices
import export_model
import features
import files
import finetuning
import heads
import inference
import modeling
import modeling_google
import records
import run_classifier
import run_classifier_sp_google
import similarity
import tasks
import tokenization
from errors import UserError

import tensorflow.compat.v1 as tf

PLACES = "东西南北中"
WORDS = "去哪里问他说成语在好不从" + PLACES


def c3_entry(rng, with_answer, number):
    """A text with one question; the right option is the one with 好, of two to four."""
    options = ["去" + place for place in rng.permutation(list(PLACES))[:rng.randint(2, 5)]]
    right = rng.randint(len(options))
    options[right] += "好"
    question = {"question": "去哪里", "choice": options}
    question.update({"answer": options[right]} if with_answer else {"id": 100 + number})
    return [["他说", "问" * rng.randint(1, 9)], [question], "t-%d" % number]


def chid_line(rng, first, blanks):
    """A line with some blanks and five candidates, as many of which have 好 as there are blanks."""
    candidates = ["成语" + place for place in PLACES]
    right = rng.permutation(5)[:blanks]
    for place in right:
        candidates[place] += "好"
    text = "他说" + "".join("#idiom%06d#在" % (first + number) for number in range(blanks))
    return ({"content": [text + "问" * rng.randint(9)], "candidates": candidates},
            {"#idiom%06d#" % (first + number): int(place) for number, place in enumerate(right)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Configurations, a vocabulary and data of both tasks: 60 training, 20 dev, 10 test rows."""
    folder = tmp_path_factory.mktemp("choices")
    write_config(folder)
    write_google_config(folder, "google.json")
    write_vocabulary(folder, [WORDS])
    rng = np.random.RandomState(5)
    for name, split, count in (("train.json", "train", 60), ("dev.json", "dev", 20),
                               ("test1.0.json", "test", 10)):
        (folder / "c3").mkdir(exist_ok=True)
        (folder / "chid").mkdir(exist_ok=True)
        entries = [c3_entry(rng, split != "test", number) for number in range(count)]
        files.write_text(str(folder / "c3" / name), json.dumps(entries, ensure_ascii=False))
        rows = [chid_line(rng, 10 * number, 2 if number % 5 == 0 else 1)
                for number in range(count)]
        files.write_text(str(folder / "chid" / name), "".join(
            json.dumps(row, ensure_ascii=False) + "\n" for row, _ in rows))
        if split != "test":
            answers = {}
            for _, more in rows:
                answers.update(more)
            files.write_text(str(folder / "chid" / (split + "_answer.json")), json.dumps(answers))
    return str(folder)


def flags_for(folder, task, *others):
    return ("--task_name=" + task, "--data_dir=%s/%s" % (folder, task),
            "--bert_config_file=%s/config.json" % folder, "--vocab_file=%s/vocab.txt" % folder,
            "--max_seq_length=32", "--num_threads=1", "--train_batch_size=10") + others


def choose(folder, task, *others):
    return run_here(run_classifier, *flags_for(folder, task, *others))


ALL_STEPS = ("--do_train", "--do_eval", "--do_predict", "--num_train_epochs=15",
             "--save_checkpoints_steps=45", "--learning_rate=1e-2")


@pytest.fixture(scope="module")
def trained(folder):
    """The output folder of a whole run of c3 from the command line."""
    status, out, err = run_script("run_classifier.py", *flags_for(
        folder, "c3", "--output_dir=%s/run" % folder, *ALL_STEPS))
    assert status == 0, err
    return folder + "/run", out, err


def read_json(*parts):
    return json.loads(read(os.path.join(*parts)).decode("utf-8"))


def read_rows(path):
    return [[float(cell) for cell in line.split("\t")]
            for line in read(path).decode("utf-8").splitlines()]


# ---------------------------------------------------------------------------------------------
# The course of a run
# ---------------------------------------------------------------------------------------------

def test_from_training_to_a_submission(folder, trained):
    output_dir, out, err = trained
    results = read_json(output_dir, "eval_results.json")
    best = results["best"]
    assert len(results["checkpoints"]) > 1 and best["eval_accuracy"] == max(
        row["eval_accuracy"] for row in results["checkpoints"])
    assert best["eval_accuracy"] > 0.9  # the rule is easy to learn
    assert "Best: %s, dev accuracy %.4f" % (best["checkpoint"], best["eval_accuracy"]) in err
    assert read_json(output_dir, "run.json")["results"] == {
        "dev_accuracy": best["eval_accuracy"]}
    assert read_json(output_dir, "choices.json") == {
        "task": "c3", "do_lower_case": True, "use_pooled_output": True, "max_seq_length": 32,
        "truncate": "head"}
    assert not os.path.exists(output_dir + "/labels.txt")
    report = read(output_dir + "/eval_report.txt").decode()
    assert report.startswith("# %s (" % best["checkpoint"])
    assert [line.split()[0] for line in report.split("\n\n")[1].strip().split("\n")[2:]
            ] == [
        "all", "2", "3", "4"]
    questions = tasks.get("c3").read(folder + "/c3", "test")
    submitted = [json.loads(line) for line in read(
        output_dir + "/c310_predict.json").decode().splitlines()]
    assert [row["id"] for row in submitted] == list(range(100, 110))
    probabilities = read_rows(output_dir + "/test_results.tsv")
    for row, question, numbers in zip(submitted, questions, probabilities):
        assert len(numbers) == len(question.options)
        assert sum(numbers) == pytest.approx(1.0, abs=1e-6)
        assert row["label"] == int(np.argmax(numbers))


def test_a_second_run_repeats_nothing_and_one_in_two_parts_is_the_same(folder, trained, tmp_path):
    copied = str(tmp_path / "run")
    shutil.copytree(trained[0], copied)
    names = ("c310_predict.json", "eval_report.txt", "eval_results.json", "test_results.tsv")
    before = [read(os.path.join(copied, name)) for name in names]
    status, _, err = choose(folder, "c3", "--output_dir=" + copied, *ALL_STEPS)
    assert status == 0 and "Already trained" in err and "evaluate" not in err, err
    assert [read(os.path.join(copied, name)) for name in names] == before
    halves = str(tmp_path / "halves")
    shutil.copytree(copied, halves)
    for name in os.listdir(halves):
        if name.startswith(("model.ckpt-90", "eval")):
            path = os.path.join(halves, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
    status, _, err = choose(folder, "c3", "--output_dir=" + halves, *ALL_STEPS)
    assert status == 0 and "Going on from" in err, err
    for path in (copied, halves):
        assert "model.ckpt-90.index" in os.listdir(path)
    one, other = (read_checkpoint(path + "/model.ckpt-90") for path in (copied, halves))
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_idioms_go_the_whole_way_and_none_twice_in_a_group(folder, tmp_path):
    out = str(tmp_path / "out")
    status, _, err = choose(folder, "chid", "--output_dir=" + out, *ALL_STEPS)
    assert status == 0, err
    assert read_json(out, "eval_results.json")["best"]["eval_accuracy"] > 0.7
    submitted = read_json(out, "chid10_predict.json")
    questions = tasks.get("chid").read(folder + "/chid", "test")
    assert list(submitted) == [question.id for question in questions]
    groups = {}
    for question in questions:
        groups.setdefault(question.group, []).append(submitted[question.id])
    assert any(len(found) == 2 for found in groups.values())
    assert all(len(set(found)) == len(found) for found in groups.values())


def test_the_google_layout_has_its_own_script(folder, tmp_path):
    arguments = [one for one in flags_for(folder, "c3", "--output_dir=%s/out" % tmp_path,
                                          "--albert_config_file=%s/google.json" % folder,
                                          "--nouse_pooled_output", "--max_train_steps=2",
                                          "--gradient_accumulation_steps=2", *ALL_STEPS)
                 if not one.startswith("--bert_config_file")]
    status, _, err = run_here(run_classifier_sp_google, *arguments)
    assert status == 0, err
    assert os.path.exists("%s/out/c310_predict.json" % tmp_path)
    assert read_checkpoint("%s/out/model.ckpt-2" % tmp_path)["output_weights"].shape == (1, 16)


def test_known_answers_of_test_are_scored(folder, trained, tmp_path):
    shutil.copy(folder + "/c3/dev.json", str(tmp_path / "test.json"))
    status, out, err = choose(
        folder, "c3", "--do_predict", "--data_dir=%s" % tmp_path,
        "--predict_checkpoint=" + trained[0], "--output_dir=%s/out" % tmp_path)
    assert status == 0, err
    best = read_json(trained[0], "eval_results.json")["best"]
    assert "test accuracy %.4f on 20 questions" % best["eval_accuracy"] in out
    assert os.path.exists("%s/out/c311_predict.json" % tmp_path)


# ---------------------------------------------------------------------------------------------
# The model
# ---------------------------------------------------------------------------------------------

def rows_of(question, kind, tokenizer, length):
    """Returns [(ids, mask, segments)] of a question's options, written out."""
    made = choice_tuning.featurise(question, kind, tokenizer, length)
    start, rows = 0, []
    for count in made["option_lengths"]:
        if count:
            second = made["option_ids"][start:start + count]
            start += count
            ids = made["input_ids"] + second
            rows.append((np.array(ids), np.ones(len(ids), int), np.array(
                [0] * len(made["input_ids"]) + [1] * count)))
    assert start == len(made["option_ids"])
    return rows


@pytest.mark.parametrize("layout", ["albert_zh", "google"])
def test_probabilities_equal_those_of_numpy(folder, tmp_path, layout):
    google = layout == "google"
    config, model_class = (
        (modeling_google.AlbertConfig.from_dict(TINY_GOOGLE), modeling_google.AlbertModel)
        if google else (modeling.BertConfig.from_dict(TINY), modeling.BertModel))
    weights = reference.initial_values(heads.classifier_variable_shapes(config, model_class, 1))
    write_checkpoint(tmp_path / "model.ckpt", weights)
    arguments = flags_for(folder, "c3", "--do_predict", "--init_checkpoint=%s" % tmp_path,
                          "--output_dir=%s/out" % tmp_path)
    if google:
        arguments = [one.replace("--bert_config_file=%s/config" % folder,
                                 "--albert_config_file=%s/google" % folder) for one in arguments]
    status, _, err = run_here(run_classifier_sp_google if google else run_classifier, *arguments)
    assert status == 0, err
    encode = reference.encode_google if google else reference.encode
    tokenizer = tokenization.FullTokenizer(folder + "/vocab.txt")
    questions = tasks.get("c3").read(folder + "/c3", "test")
    assert len({len(question.options) for question in questions}) > 1
    for question, found in zip(questions, read_rows("%s/out/test_results.tsv" % tmp_path)):
        scores = [float(encode(TINY_GOOGLE if google else TINY, weights, *row)[2]
                        @ weights["output_weights"][0] + weights["output_bias"][0])
                  for row in rows_of(question, choices.Comprehension(), tokenizer, 32)]
        np.testing.assert_allclose(found, reference.softmax(np.array(scores)), atol=1e-5)


def splits_of(folder, tmp_path, task):
    kind = tasks.get(task).kind
    tokenizer = tokenization.FullTokenizer(folder + "/vocab.txt")
    questions = tasks.get(task).read("%s/%s" % (folder, task), "dev")
    schema = records.choices(kind.most_options)
    split = features.make_split(
        "dev", "key", questions, str(tmp_path), schema,
        lambda question: choice_tuning.featurise(question, kind, tokenizer, 32))
    return split, schema, [rows_of(question, kind, tokenizer, 32) for question in questions]


@pytest.mark.parametrize("task", ["c3", "chid"])
@pytest.mark.parametrize("fixed_shapes", [False, True])
def test_rows_of_a_question_stay_together_whatever_the_padding(folder, tmp_path, task,
                                                               fixed_shapes):
    """Batches hold each question once; its rows come out as they were written out, and scored."""
    split, schema, wanted = splits_of(folder, tmp_path, task)
    batches = batches_of(features.input_fn_builder(
        split, 32, False, fixed_shapes=fixed_shapes, whole_batch=8, schema=schema), 8)
    config = modeling.BertConfig.from_dict(TINY)
    weights = reference.initial_values(
        heads.classifier_variable_shapes(config, modeling.BertModel, 1))
    seen, width = [], schema[3].length
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = {field.name: tf.placeholder(
            tf.int32, [None, field.length if field.length == width else None]
            if field.length != 1 else [None]) for field in schema}
        objective = choice_tuning.ChoiceObjective(config, modeling.BertModel, True,
                                                  32 if fixed_shapes else None)
        logits = objective.logits(inputs, False)
        told = objective.predictions(inputs, logits)["log_probabilities"]
        load_weights(session, weights)
        for batch in batches:
            scores, logged = session.run(
                [logits, told], {inputs[name]: batch[name] for name in inputs})
            assert scores.shape == (len(batch["row"]), width)
            for place, row in enumerate(batch["row"]):
                if not batch["is_real_example"][place]:
                    assert row >= len(wanted) and fixed_shapes
                    continue
                seen.append(row)
                rows = wanted[row]
                expected = [float(reference.encode(TINY, weights, *one)[2]
                                  @ weights["output_weights"][0] + weights["output_bias"][0])
                            for one in rows]
                np.testing.assert_allclose(scores[place][:len(rows)], expected, atol=1e-5)
                assert (scores[place][len(rows):] < -9000).all()
                # What a question lacks takes nothing from the others' probabilities.
                np.testing.assert_allclose(np.exp(logged[place][:len(rows)]),
                                           reference.softmax(np.array(expected)), atol=1e-5)
                assert (np.exp(logged[place][len(rows):]) == 0).all()
    assert sorted(seen) == list(range(len(wanted)))


def test_options_that_are_not_there_have_no_gradient(folder):
    config = modeling.BertConfig.from_dict(TINY)
    weights = reference.initial_values(
        heads.classifier_variable_shapes(config, modeling.BertModel, 1))

    def gradients(lengths):
        with tf.Graph().as_default(), tf.Session() as session:
            batch = {"input_ids": [[2, 7, 3]], "input_mask": [[1, 1, 1]],
                     "option_ids": [[8, 3, 9, 10, 3]], "option_lengths": [lengths],
                     "label_ids": [1]}
            batch = {name: tf.constant(value) for name, value in batch.items()}
            objective = choice_tuning.ChoiceObjective(config, modeling.BertModel, True)
            loss = objective.losses(batch, objective.logits(batch, False))
            found = tf.gradients(loss, tf.trainable_variables())
            load_weights(session, weights)
            return session.run([loss] + [tf.convert_to_tensor(one) for one in found
                                         if one is not None])

    for one, other in zip(gradients([2, 3]), gradients([2, 3, 0, 0])):
        np.testing.assert_allclose(one, other, atol=1e-6)


# ---------------------------------------------------------------------------------------------
# Who else meets such a model
# ---------------------------------------------------------------------------------------------

def test_others_say_what_it_is(folder, trained, tmp_path):
    says = "chooses among the options of a question"
    with pytest.raises(UserError, match=says):
        inference.read_folder(trained[0])
    with similarity.BertSim(model_dir=trained[0]) as sim:
        for call in (lambda: sim.predict_sentences([("东", "西")]),
                     lambda: sim.sentence_embeddings(["东"])):
            with pytest.raises(UserError, match=says):
                call()
    export = ("--init_checkpoint=" + trained[0], "--export_dir=%s/export" % tmp_path)
    assert_user_error(run_here(export_model, "--format=savedmodel", *export), says)
    # A stripped copy serves for predicting on, and still says what it is.
    status, _, err = run_here(export_model, "--strip", *export)
    assert status == 0, err
    with pytest.raises(UserError, match=says):
        inference.read_folder("%s/export" % tmp_path)
    status, _, err = choose(folder, "c3", "--do_predict", "--init_checkpoint=%s/export" % tmp_path,
                            "--output_dir=%s/again" % tmp_path)
    assert status == 0, err
    assert read("%s/again/c310_predict.json" % tmp_path) == read(trained[0] + "/c310_predict.json")


def test_heads_that_do_not_fit_are_initialised_anew(folder, trained, tmp_path):
    """From c3 to chid the head stays; from and to a classifier it does not."""
    os.makedirs(str(tmp_path / "own"))
    for split in ("train", "dev"):
        files.write_text(str(tmp_path / "own" / (split + ".tsv")),
                         "text\tlabel\n" + "去东\t好\n去西\t不\n" * 6)
    one_step = ("--do_train", "--max_train_steps=1")
    status, _, err = choose(folder, "chid", "--init_checkpoint=" + trained[0],
                            "--output_dir=%s/chid" % tmp_path, *one_step)
    assert status == 0 and "initialised anew" not in err, err
    status, _, err = choose(folder, "sentence", "--init_checkpoint=" + trained[0],
                            "--data_dir=%s/own" % tmp_path, "--output_dir=%s/texts" % tmp_path,
                            *one_step)
    assert status == 0 and "output_weights" in err, err
    status, _, err = choose(folder, "c3", "--init_checkpoint=%s/texts" % tmp_path,
                            "--output_dir=%s/back" % tmp_path, *one_step)
    assert status == 0 and "output_weights" in err, err


# ---------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------

def test_bad_input(folder, trained, tmp_path):
    out = "--output_dir=%s/out" % tmp_path
    cases = [
        ("c3", ("--do_train", "--class_weights=balanced"), ("--class_weights=balanced", "c3")),
        ("chid", ("--do_train", "--truncate=tail"), ("--truncate=tail", "around the blank")),
        ("c3", ("--do_train", "--max_seq_length=15"), ("--max_seq_length=15", "at least 16")),
        ("c3", ("--do_train", "--text_columns=a"), ("--text_columns=a", "no meaning")),
        ("c3", ("--do_train", "--data_dir=%s" % tmp_path), ("m-train.json", "download.py")),
        ("c3", ("--do_predict", "--do_lower_case=False", "--init_checkpoint=" + trained[0]),
         ("choices.json", "do_lower_case: True then, False now")),
    ]
    for task, others, fragments in cases:
        assert_user_error(choose(folder, task, out, *others), *fragments)
    assert not os.path.exists("%s/out" % tmp_path)
    assert_user_error(choose(folder, "c3", "--output_dir=" + trained[0], "--do_train",
                             "--learning_rate=1e-3"), "learning_rate: 0.01 then, 0.001 now")
    assert_user_error(choose(folder, "chid", "--output_dir=" + trained[0], "--do_eval"),
                      "task: c3 then, chid now")
    assert finetuning.Classification.head_file != choice_tuning.MultipleChoice.head_file
