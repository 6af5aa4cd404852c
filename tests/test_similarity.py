"""Sentence similarity: the class and its settings, and the script in its three forms."""

import argparse
import io
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from helpers import assert_user_error, run_script
from test_inference import (
    GOOGLE, TINY, expected_layers, expected_probabilities, make_folder, write)

import args
import files
import similarity
from errors import UserError

PAIRS = [("天地人", "人大小"), ("多少", "多少"), ("日月水火山石田土" * 3, "中"), ("", "来去")]


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch):
    for name in args.NAMES:
        monkeypatch.delenv(args.PREFIX + name.upper(), raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of a two-class model of the albert_zh layout."""
    return make_folder(tmp_path_factory.mktemp("similarity"), TINY)


@pytest.fixture(scope="module")
def sim(folder):
    with similarity.BertSim(model_dir=folder, max_seq_len=32) as ready:
        yield ready


# ---------------------------------------------------------------------------------------------
# The class
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("settings", [TINY, GOOGLE], ids=["albert_zh", "google"])
def test_probabilities_of_pairs_equal_numpy(tmp_path, capfd, settings):
    folder = make_folder(tmp_path, settings)
    sim = similarity.BertSim(batch_size=2, model_dir=folder, max_seq_len=32)
    sim.start_model()
    found = sim.predict_sentences(PAIRS)
    sim.close()
    assert found.shape == (4, 2)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    for pair, row in zip(PAIRS, found):
        np.testing.assert_allclose(row, expected_probabilities(folder, settings, pair), atol=2e-5)
    assert capfd.readouterr() == ("", "")  # nothing is printed


def test_a_thousand_pairs_and_none(sim):
    found = sim.predict_sentences(PAIRS * 250)
    np.testing.assert_allclose(found, np.tile(sim.predict_sentences(PAIRS), (250, 1)), atol=2e-6)
    assert sim.predict_sentences([]).shape == (0, 2)


def test_vectors_come_from_the_layers_asked_for(sim, folder):
    texts = ["天地人大小", "多少"]
    found = sim.sentence_embeddings(texts)
    for text, row in zip(texts, found):
        layers, _ = expected_layers(folder, TINY, text, 32)
        np.testing.assert_allclose(row, layers[-2].mean(0), atol=2e-5)
    last = sim.sentence_embeddings(texts, layer=-1, pooling="max")
    assert last.shape == (2, 16)
    both = sim.sentence_embeddings(texts, layer=[-2, -1], pooling="max")
    assert both.shape == (2, 32)
    np.testing.assert_array_equal(both[:, 16:], last)


@pytest.mark.parametrize("layer", [np.int64(-1), "-1", [np.int32(-1)], -1.0])
def test_a_layer_may_be_any_whole_number(sim, layer):
    np.testing.assert_array_equal(sim.sentence_embeddings(["天"], layer=layer),
                                  sim.sentence_embeddings(["天"], layer=-1))


@pytest.mark.parametrize("layer", [1.5, "last", [None]])
def test_a_layer_that_is_no_number_is_refused(sim, layer):
    with pytest.raises(UserError, match="layer_indexes=.* a list of layers"):
        sim.sentence_embeddings(["天"], layer=layer)


def test_cosine_of_vectors(sim):
    found = sim.cosine([("天地", "天地"), ("天地", "多少上下")])
    first, second = sim.sentence_embeddings(["天地", "多少上下"]).astype(np.float64)
    expected = first @ second / np.sqrt((first @ first) * (second @ second))
    np.testing.assert_allclose(found, [1, expected], atol=1e-5)
    assert sim.cosine([]).shape == (0,)
    zero = similarity.cosine_similarity(np.zeros([1, 3]), np.ones([1, 3]))
    assert zero.tolist() == [0.0]


def test_one_start_for_all_calls(folder, monkeypatch):
    made = []
    real = similarity.inference.Predictor
    monkeypatch.setattr(similarity.inference, "Predictor",
                        lambda *arguments: made.append(1) or real(*arguments))
    with similarity.BertSim(model_dir=folder, max_seq_len=32) as sim:
        for _ in range(3):
            sim.predict_sentences(PAIRS)
            sim.sentence_embeddings(["天"])
            sim.start_model()
    assert made == [1]
    for call in (sim.start_model, lambda: sim.predict_sentences(PAIRS)):
        with pytest.raises(UserError, match="has been closed"):
            call()
    similarity.BertSim(model_dir=folder).close()  # never started


@pytest.mark.parametrize("pairs, message", [
    ("天地", "a list is expected"), (("天", "地"), "item 0 is no pair of strings: '天'"),
    ([("天", "地"), ("天",)], "item 1"), ([("天", "地"), ("天", 1)], "item 1"),
    ([("天", "地", "人")], "item 0"), (None, "a list is expected, .*None was given"),
    (3, "a list is expected")])
def test_what_is_no_pair_is_refused(sim, pairs, message):
    with pytest.raises(UserError, match=message):
        sim.predict_sentences(pairs)


def test_models_that_cannot_compare_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    pretrained = make_folder(tmp_path / "pretrained", classes=0)
    with similarity.BertSim(model_dir=pretrained, max_seq_len=32) as sim:
        assert sim.sentence_embeddings(["天地"]).shape == (1, 16)
        with pytest.raises(UserError) as raised:
            sim.predict_sentences(PAIRS)
    assert "only pre-trained" in str(raised.value)
    assert ("MODEL_DIR=%s OUTPUT_DIR=albert_lcqmc_checkpoints bash run_classifier_lcqmc.sh "
            % pretrained) in str(raised.value)
    with similarity.BertSim(model_dir=make_folder(tmp_path / "three", classes=3),
                            max_seq_len=32) as sim:
        with pytest.raises(UserError, match="tells 3 classes apart, not two"):
            sim.predict_sentences(PAIRS)


# ---------------------------------------------------------------------------------------------
# Settings
# ---------------------------------------------------------------------------------------------

def test_settings_that_users_know():
    assert os.path.relpath(args.model_dir, ROOT) == "albert_lcqmc_checkpoints"
    assert (args.batch_size, args.max_seq_len, args.layer_indexes, args.num_train_epochs,
            args.learning_rate, args.gpu_memory_fraction) == (128, 128, [-2], 10, 5e-5, 0.8)
    assert os.path.isfile(args.config_name) and os.path.isfile(args.vocab_file)
    for name in ("output_dir", "data_dir", "ckpt_name", "graph_file"):
        assert hasattr(args, name)
    assert all(hasattr(args, name) for name in args.NAMES)


def test_importing_them_does_nothing(tmp_path):
    code = ("import sys; sys.path.insert(0, %r); import args, os; "
            "assert 'tensorflow' not in sys.modules; print(os.listdir('.'))" % ROOT)
    out = subprocess.check_output([sys.executable, "-B", "-c", code], cwd=str(tmp_path))
    assert out.decode().strip() == "[]"


def test_given_before_environment_before_file(monkeypatch):
    assert args.setting("batch_size") == 128
    monkeypatch.setenv("ALBERT_ZH_BATCH_SIZE", "7")
    monkeypatch.setenv("ALBERT_ZH_LAYER_INDEXES", "-2,-1")
    monkeypatch.setenv("ALBERT_ZH_LEARNING_RATE", "1e-4")
    monkeypatch.setenv("ALBERT_ZH_MODEL_DIR", "")  # empty: as if it were not there
    assert args.setting("batch_size") == 7
    assert args.setting("layer_indexes") == [-2, -1]
    assert args.setting("learning_rate") == 1e-4
    assert args.setting("model_dir") == args.model_dir
    assert args.setting("batch_size", 9) == 9
    monkeypatch.setattr(args, "gpu_memory_fraction", 0.5)
    assert args.setting("gpu_memory_fraction") == 0.5
    for told, wanted in (("False", False), ("true", True), ("", None)):
        monkeypatch.setenv("ALBERT_ZH_DO_LOWER_CASE", told)
        assert args.setting("do_lower_case") is wanted
    # Paths in args.py are seen from the project's folder, others from where the user is.
    for written, wanted in (("mine", os.path.join(ROOT, "mine")), ("/mine", "/mine"),
                            ("gs://mine", "gs://mine")):
        monkeypatch.setattr(args, "model_dir", written)
        assert args.setting("model_dir") == wanted
    assert args.setting("model_dir", "mine") == "mine"


@pytest.mark.parametrize("name, value, message", [
    ("batch_size", "many", "ALBERT_ZH_BATCH_SIZE=many: a whole number from 1 on is needed"),
    ("batch_size", "0", "ALBERT_ZH_BATCH_SIZE=0"), ("max_seq_len", "4", "5 on"),
    ("layer_indexes", "-2;", "a list of layers"), ("gpu_memory_fraction", "1.5", "at most 1"),
    ("num_train_epochs", "nan", "above 0"), ("learning_rate", "-1", "above 0"),
    ("do_lower_case", "perhaps", "True or False")])
def test_values_are_checked(monkeypatch, name, value, message):
    monkeypatch.setenv(args.PREFIX + name.upper(), value)
    with pytest.raises(UserError, match=message):
        similarity.BertSim()


def test_unknown_settings_are_refused():
    with pytest.raises(UserError, match='max_seq_length is no setting.*"max_seq_len"'):
        similarity.BertSim(max_seq_length=3)
    with pytest.raises(UserError, match="batch_size=0.5"):
        similarity.BertSim(batch_size=0.5)


def test_the_environment_names_the_model(folder, monkeypatch):
    monkeypatch.setenv("ALBERT_ZH_MODEL_DIR", folder)
    monkeypatch.setenv("ALBERT_ZH_MAX_SEQ_LEN", "6")
    with similarity.BertSim() as sim:
        assert folder in sim.describe()
        found = sim.predict_sentences(PAIRS)
    for pair, row in zip(PAIRS, found):
        np.testing.assert_allclose(row, expected_probabilities(folder, TINY, pair, 6), atol=2e-5)


def test_a_model_keeps_to_the_length_it_was_tuned_with(tmp_path):
    folder = make_folder(tmp_path, told={"max_seq_length": 8})
    with similarity.BertSim(model_dir=folder) as sim:
        found = sim.predict_sentences(PAIRS)
        assert "cuts" not in sim.describe()
    for pair, row in zip(PAIRS, found):
        np.testing.assert_allclose(row, expected_probabilities(folder, TINY, pair, 8), atol=2e-5)
    with similarity.BertSim(model_dir=folder, max_seq_len=6) as sim:
        assert sim.describe().endswith("max_seq_len=6 cuts what it was fine-tuned to read, up to "
                                       "8 tokens")


def test_an_older_folder_without_configuration_uses_the_one_named(tmp_path, folder):
    older = make_folder(tmp_path / "older")
    config, vocab = (os.path.join(older, name) for name in ("albert_config.json", "vocab.txt"))
    os.rename(config, str(tmp_path / "mine.json"))
    os.rename(vocab, str(tmp_path / "words.txt"))
    named = dict(model_dir=older, max_seq_len=32, config_name=str(tmp_path / "mine.json"),
                 vocab_file=str(tmp_path / "words.txt"))
    with similarity.BertSim(**named) as sim, similarity.BertSim(
            model_dir=folder, max_seq_len=32) as other:
        np.testing.assert_array_equal(sim.predict_sentences(PAIRS), other.predict_sentences(PAIRS))
    # As args.py is delivered, the tiny model's configuration is taken, which these weights refuse.
    with pytest.raises(UserError, match="does not fit the model"):
        similarity.BertSim(model_dir=older).start_model()


def test_files_that_are_named_settle_which_of_several_count(tmp_path):
    several = make_folder(tmp_path / "several")
    config, vocab = (os.path.join(several, name) for name in ("albert_config.json", "vocab.txt"))
    files.write_json(os.path.join(several, "other_config.json"), dict(
        files.read_json(config), num_hidden_layers=7))
    shutil.copy(vocab, os.path.join(several, "spm.model"))
    with pytest.raises(UserError, match="several configurations"):
        similarity.BertSim(model_dir=several).start_model()
    with similarity.BertSim(model_dir=several, config_name=config, vocab_file=vocab,
                            max_seq_len=32) as sim:
        assert sim.predict_sentences(PAIRS).shape == (len(PAIRS), 2)


def test_a_configuration_that_contradicts_the_folders_is_refused(tmp_path, folder):
    path = os.path.join(ROOT, "albert_config", "albert_config_base.json")
    with pytest.raises(UserError, match="differs from the given one"):
        similarity.BertSim(model_dir=folder, config_name=path).start_model()


def test_without_a_model_the_command_that_makes_one_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    missing = os.path.join(ROOT, "no such folder")
    with pytest.raises(UserError) as raised:
        similarity.BertSim(model_dir=missing).predict_sentences(PAIRS)
    text = str(raised.value)
    assert "no trained model in 'no such folder'" in text
    assert ("\n  OUTPUT_DIR='no such folder' bash run_classifier_lcqmc.sh --num_train_epochs=10 "
            "--learning_rate=5e-05 --max_seq_length=128\n") in text
    assert "\n  OUTPUT_DIR='no such folder' bash run_classifier_lcqmc.sh --sample\n" in text
    with pytest.raises(UserError) as raised:
        similarity.BertSim(model_dir=str(tmp_path), output_dir=str(tmp_path / "new"),
                           data_dir="mine", num_train_epochs=2.5).start_model()
    assert "OUTPUT_DIR=%s LCQMC_DATA_DIR=mine bash run_classifier_lcqmc.sh " \
        "--num_train_epochs=2.5" % (tmp_path / "new") in str(raised.value)
    with pytest.raises(UserError, match="no trained model"):
        similarity.BertSim(model_dir="").start_model()


# ---------------------------------------------------------------------------------------------
# The script
# ---------------------------------------------------------------------------------------------

def run(*arguments, given=""):
    """Runs similarity.py from another folder, with text on its standard input."""
    process = subprocess.Popen(
        [sys.executable, os.path.join(ROOT, "similarity.py")] + list(arguments), cwd="/",
        env=dict(os.environ, PYTHONIOENCODING="utf-8"), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(given.encode("utf-8"))
    return process.returncode, out.decode("utf-8"), err.decode("utf-8")


def test_two_sentences(folder, sim):
    status, out, err = run("天地人", "--model_dir=" + folder, "人大小", "--max_seq_len=32")
    assert status == 0, err
    number = sim.predict_sentences([("天地人", "人大小")])[0, 1]
    assert out == "similar %.4f %s\n" % (number, "相似" if number >= 0.5 else "不相似")
    assert "Model: %s" % folder in err and "albert_zh layout, 3 layers" in err


def test_a_file_of_pairs(folder, sim, tmp_path):
    write(tmp_path, "pairs.tsv", "".join("%s\t%s\n" % pair for pair in PAIRS) + "\n")
    status, out, err = run("--file=%s" % (tmp_path / "pairs.tsv"), "--model_dir=" + folder,
                           "--max_seq_len=32", "--cosine", "--layer_indexes=-1", "--pooling=max")
    assert status == 0, err
    expected = sim.cosine(PAIRS, layer=-1, pooling="max")
    rows = [line.split("\t") for line in out.splitlines()]
    assert [tuple(row[:2]) for row in rows] == PAIRS
    np.testing.assert_allclose([float(row[2]) for row in rows], expected, atol=2e-6)


@pytest.mark.parametrize("rest, message", [
    ("\n\n", None), ("\n天\n地\n", "line 5 of the input is blank"),
    ("天\n", "line 5 of the input, the last one, has no second sentence")])
def test_pairs_from_a_pipe_are_all_answered(folder, sim, rest, message):
    status, out, err = run("--model_dir=" + folder, "--max_seq_len=32",
                           given="天地人\n人大小\n多少\n多少\n" + rest)
    assert (status == 0 if message is None else status == 1 and message in err), err
    numbers = [line.split()[1] for line in out.splitlines()]
    assert numbers == ["%.4f" % row[1] for row in sim.predict_sentences(PAIRS[:2])]


def test_a_person_is_asked_until_an_empty_line(sim, monkeypatch, capsys):
    typed = iter(["天地人", "人大小", "", "天"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    similarity._Answers(sim, False, "mean").ask()
    assert capsys.readouterr().out.startswith("similar ") and next(typed) == "天"


@pytest.mark.parametrize("labels, task, message", [
    (["duplicate", "not_duplicate"], "sentence_pair", "tells duplicate and not_duplicate apart"),
    (["0", "1"], "sentence", "classifies single texts"), (["1", "0"], None, "tells 1 and 0 apart"),
    (["0", "1"], "sentence_pair", None)])
def test_only_labels_0_and_1_of_pairs_say_which_one_means_the_same(tmp_path, labels, task, message):
    folder = make_folder(tmp_path / "mine")
    files.write_json(os.path.join(folder, "classifier.json"), {
        "labels": labels, "task": task, "max_seq_length": 32})
    with similarity.BertSim(model_dir=folder, max_seq_len=32) as sim:
        if message is None:
            assert sim.predict_sentences(PAIRS).shape == (4, 2)
            return
        with pytest.raises(UserError, match=message):
            sim.predict_sentences(PAIRS)
        assert sim.cosine(PAIRS).shape == (4,)


def test_names_may_be_paths_and_nothing_but_names(folder):
    with similarity.BertSim(model_dir=pathlib.Path(folder), max_seq_len=32) as sim:
        assert sim.predict_sentences(PAIRS).shape == (4, 2)
    for name in ("model_dir", "ckpt_name"):
        with pytest.raises(UserError, match="%s=5: a name, as text" % name):
            similarity.BertSim(**dict({"model_dir": folder}, **{name: 5})).start_model()


@pytest.mark.parametrize("arguments, fragment", [
    (["天", "地", "人"], "unexpected argument '人'"),
    (["天", "地", "--modeldir=x"], "Unknown command line flag 'modeldir'"),
    (["天", "地", "--pooling=max"], "--pooling=max has no meaning without --cosine"),
    (["--file="], "--file is missing")])
def test_the_script_refuses(arguments, fragment):
    assert_user_error(run(*arguments), fragment)


@pytest.mark.parametrize("sentences, file, message", [
    (["天"], None, "one sentence was given"), (["天", "地"], "x", "either two sentences or --file"),
    ([], "/nowhere.tsv", "--file=/nowhere.tsv does not exist")])
def test_what_is_to_be_compared_is_checked_first(monkeypatch, sentences, file, message):
    monkeypatch.setattr(similarity, "FLAGS", argparse.Namespace(file=file))
    with pytest.raises(UserError, match=message):
        similarity.main(["similarity.py"] + sentences)


def test_input_that_is_not_utf8(sim):
    with pytest.raises(UserError, match="not UTF-8.*iconv"):
        similarity._Answers(sim, False, "mean").answer(io.BytesIO("天地\n".encode("gb18030")))


def test_a_screen_without_a_character_is_no_reason_to_stop(folder, tmp_path, monkeypatch):
    write(tmp_path, "pairs.tsv", "天😀\t地\n")
    monkeypatch.setenv("PYTHONIOENCODING", "gbk")
    done = subprocess.run(
        [sys.executable, os.path.join(ROOT, "similarity.py"), "--model_dir=" + folder,
         "--max_seq_len=32", "--file=%s" % (tmp_path / "pairs.tsv")], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("gbk").startswith("天\\U0001f600\t地\t0.")


def test_a_line_that_names_the_columns_is_no_pair(tmp_path, capsys):
    path = tmp_path / "pairs.tsv"
    for header, count in (
            ("sentence1\tsentence2\n", 1), ("text_a\tText_B\n", 1), ("query\ttitle\n", 1),
            ("问题\t疑问\n", 2), ("标题\t题目\n", 2), ("sentence2\tsentence2\n", 2),
            ("sentence1\t句子2\n", 2), ("title\tquery\n", 2)):
        path.write_bytes((header + "天\t地\n").encode("utf-8"))
        assert len(similarity.read_pairs(str(path))) == count
        assert ("the first line names the columns" in capsys.readouterr().err) == (count == 1)


@pytest.mark.parametrize("text, message", [
    ("天\t地\n天\t地\t1\n", "line 2 has 3 columns where 2 sentences"),
    ("天地\n", "line 1 has 1 column where"), ("天\t地\n\n天\t地\n", "line 2 is blank"),
    ("\n \n", "holds no pair"), ("sentence1\tsentence2\n", "holds no pair"),
    ("", "is empty")])
def test_faulty_files_are_named_with_their_line(tmp_path, text, message):
    path = tmp_path / "pairs.tsv"
    with io.open(str(path), "w", encoding="utf-8") as stream:
        stream.write(text)
    with pytest.raises(UserError, match="pairs.tsv.*" + message):
        similarity.read_pairs(str(path))


def test_the_benchmark_prints_its_table(folder):
    status, out, err = run_script("benchmarks/similarity.py", "--model_dir=" + folder, "--calls=3",
                                  "--rebuilt_calls=1", "--pairs=5")
    assert status == 0, err
    rows = out.splitlines()
    assert rows[1].startswith("model ") and rows[3].startswith("held ready ")
    assert rows[4].startswith("built for each call ") and rows[5].startswith("times faster ")
