"""clue_runs.py, sweeps.py, results_table.py: which runs there are, in which order, what is told.

The scripts that fine-tune are played by a stub; tests/test_shell.py starts the real ones.
"""

import json
import os
import signal
import subprocess
import sys
import time
import types

import pytest
from conftest import ROOT
from helpers import assert_user_error, run_here

import clue_runs
import files
import results_table
import submission
import sweeps
import tasks
from errors import UserError

# Notes how it was called; its score depends on the rate and the seed; fails where it is told to.
STUB = """
import json, os, sys, time
import entities, reading_comprehension, tasks
flags = {}
for argument in sys.argv[1:]:
    name, _, value = argument[2:].partition("=")
    flags[name] = value
folder, name = flags["output_dir"], flags["task_name"]
place = os.environ["STUB_NOTES"]
note = {"script": os.path.basename(sys.argv[0]), "task": name, "began": time.time(),
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "flags": sys.argv[1:]}
if os.environ.get("STUB_SLEEPS"):
    open(os.path.join(place, "sleeping"), "w").close()
    time.sleep(float(os.environ["STUB_SLEEPS"]))
if os.path.exists(os.path.join(place, "fail-" + name)) or flags.get("learning_rate") == "9":
    print("ERROR: told to fail")
    sys.exit(1)
os.makedirs(folder, exist_ok=True)
score = 0.5 + float(flags.get("learning_rate", 0)) / 100 + float(flags.get("random_seed", 0)) / 1000
key = "eval_f1" if name in ("cmrc2018", "cluener") else "eval_accuracy"
if "do_train" in flags:
    with open(os.path.join(folder, "eval_results.json"), "w") as stream:
        json.dump({"task": name, "best": {key: score, "step": 3}}, stream)
    with open(os.path.join(folder, "run.json"), "w") as stream:
        json.dump({"seconds": 2.5}, stream)
if "do_predict" in flags:
    if name == "cmrc2018":
        task = reading_comprehension.ReadingTask(name)
        text = json.dumps({one.id: "x" for one in task.read(flags["data_dir"], "test")})
    elif name == "cluener":
        task = entities.EntityTask(name)
        text = "".join(entities.submission_line(one, []) + chr(10)
                       for one in task.read(flags["data_dir"], "test"))
    else:
        task = tasks.get(name)
        test = task.read(flags["data_dir"], "test")
        text = (task.kind.submission(test, list(range(2)) * len(test)) if not task.labels else
                "".join(task.submission_line(one, task.labels[number % 2]) + chr(10)
                        for number, one in enumerate(test)))
    with open(os.path.join(folder, task.submission_in(flags["data_dir"])), "w") as stream:
        stream.write(text)
note["ended"] = time.time()
with open(os.path.join(place, "notes"), "a") as stream:
    stream.write(json.dumps(note) + chr(10))
"""


@pytest.fixture()
def place(tmp_path, monkeypatch):
    """A folder with stubs for the scripts, in which clue_runs looks for them."""
    for name in ("run_classifier.py", "run_mrc.py", "run_ner.py"):
        files.write_text(str(tmp_path / name), STUB)
    os.symlink(os.path.join(ROOT, "data"), str(tmp_path / "data"))
    monkeypatch.setattr(clue_runs, "ROOT", str(tmp_path))
    monkeypatch.setenv("STUB_NOTES", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", ROOT)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def values_for(place, **changes):
    values = {"data_dir": os.path.join(ROOT, "data", "clue_sample"),
              "work_dir": str(place / "work"), "classifier": "run_classifier.py",
              "base_flag": [], "flag": [], "sample": True, "tasks": ""}
    return types.SimpleNamespace(**dict(values, **changes))


def notes(place):
    """Returns what the stubs noted, and forgets it."""
    path = str(place / "notes")
    if not os.path.exists(path):
        return []
    found = [json.loads(line) for _, line in files.read_lines(path)]
    os.remove(path)
    return found


def value_of(note, flag):
    """Returns the value of a flag that counts: that of its last place."""
    return [one.partition("=")[2] for one in note["flags"]
            if one.partition("=")[0] == "--" + flag][-1]


# ---------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------

def test_names_of_tasks():
    assert clue_runs.task_names("") == ["afqmc", "cmnli", "csl", "iflytek", "tnews", "wsc"]
    assert clue_runs.task_names("all") == [
        "afqmc", "cmnli", "csl", "iflytek", "tnews", "wsc", "ocnli", "c3", "chid", "cmrc2018",
        "cluener"]
    assert clue_runs.task_names("c3,tnews c3") == ["c3", "tnews"]
    for text, said in (("wcs", 'Did you mean "wsc"?'), ("lcqmc", "run_classifier.py is for lcqmc"),
                       ("cluewsc2020", "write wsc"), ("TNEWS", "write tnews")):
        with pytest.raises(UserError, match="TASKS: " + text) as caught:
            clue_runs.task_names(text)
        assert said in str(caught.value)


def test_all_tasks_by_their_scripts_into_one_zip(place, capsys):
    values = values_for(place, base_flag=["--albert_config_file=x.json", "--init_checkpoint=m"],
                        flag=["--max_train_steps=2"])
    folders, failed = clue_runs.run_tasks(list(clue_runs.ALL_TASKS), values, [None])
    assert not failed and list(folders) == list(clue_runs.ALL_TASKS)
    ran = notes(place)
    assert [note["task"] for note in ran] == list(clue_runs.ALL_TASKS)
    by_task = {note["task"]: note for note in ran}
    assert by_task["cmrc2018"]["script"] == "run_mrc.py"
    assert by_task["cluener"]["script"] == "run_ner.py"
    assert by_task["chid"]["script"] == "run_classifier.py"
    # run_mrc.py and run_ner.py tell the layout from the configuration.
    assert value_of(by_task["cmrc2018"], "bert_config_file") == "x.json"
    assert value_of(by_task["c3"], "albert_config_file") == "x.json"
    assert value_of(by_task["csl"], "learning_rate") == "1e-5"
    assert value_of(by_task["csl"], "max_train_steps") == "2"
    assert value_of(by_task["csl"], "max_seq_length") == "128"
    clue_runs.pack(folders, values)
    archive = submission.zipfile.ZipFile(values.work_dir + "/clue_submission.zip")
    assert sorted(archive.namelist()) == sorted([
        "afqmc_predict.json", "cmnli_predict.json", "csl_predict.json", "iflytek_predict.json",
        "tnews11_predict.json", "cluewsc11_predict.json", "ocnli_50k_predict.json",
        "c311_predict.json", "chid11_predict.json", "cmrc2018_predict.json",
        "cluener_predict.json"])
    assert "of an earlier call" not in capsys.readouterr().err
    clue_runs.pack({"afqmc": folders["afqmc"], "csl": folders["csl"]}, values)
    err = capsys.readouterr().err
    assert "held c311_predict.json, chid11_predict.json, " in err and "of an earlier call" in err
    assert "afqmc_predict.json, c" not in err.split("of an earlier call")[0]


def test_all_tasks_run_csl_at_the_length_of_its_published_score(place):
    for given, wanted in (((), "256"), (("--max_seq_length=64",), "64")):
        values = values_for(place, tasks="tnews, all", flag=list(given))
        clue_runs.run_tasks(["csl", "tnews"], values, [None])
        ran = notes(place)
        assert [value_of(note, "max_seq_length") for note in ran] == [
            wanted, wanted if given else "128"]


def test_results_are_written_even_where_a_file_cannot_be_packed(place, monkeypatch):
    def pack(folders, values):
        raise UserError("not packed")

    monkeypatch.setattr(clue_runs, "pack", pack)
    result = run_here(clue_runs, "--tasks=afqmc", "--sample", "--work_dir=%s" % (place / "work"),
                      "--data_dir=" + os.path.join(ROOT, "data", "clue_sample"))
    assert_user_error(result, "not packed")
    assert "afqmc" in result[1]
    assert files.read_json(str(place / "work" / "results.json"))[0]["task"] == "afqmc"


def test_flags_that_a_later_tasks_script_lacks_are_refused_before_the_first(place, monkeypatch):
    monkeypatch.setattr(clue_runs, "flags_of", lambda script: {"random_seed", "learning_rate"} | (
        {"truncate"} if script == "run_classifier.py" else set()))

    def check(names, given=(), sweep=None):
        clue_runs.require_flags(names, values_for(place, flag=list(given)),
                                sweep and sweeps.parse(sweep))

    check(["tnews", "csl"], ["--truncate=tail"], "learning_rate=1e-4,2e-4 seed=1,2")
    with pytest.raises(UserError, match="--truncate is no flag of run_ner.py.* for cluener"):
        check(["tnews", "cluener"], ["--truncate=tail"])
    for flag in ("--nodo_predict", "--do_train=False"):
        with pytest.raises(UserError, match=flag.split("=")[0] + ": every task is trained"):
            check(["tnews"], [flag])
    with pytest.raises(UserError, match='--learnin_rate is no flag.*Did you mean "learning_rate"'):
        check(["tnews"], sweep="learnin_rate=1e-4")


def test_flags_are_judged_by_the_script_of_the_models_layout(place, monkeypatch):
    """Which one that is, is not known yet when the data are prepared."""
    asked = []
    monkeypatch.setattr(clue_runs, "flags_of", lambda script: asked.append(script) or set())
    given = ["--tasks=afqmc", "--sample", "--flag=--use_pooled_output=False",
             "--work_dir=%s" % (place / "work"),
             "--data_dir=" + os.path.join(ROOT, "data", "clue_sample")]
    assert run_here(clue_runs, "--prepare_only", *given)[0] == 0 and not asked
    files.write_text(str(place / "run_classifier_sp_google.py"), STUB)
    assert_user_error(run_here(clue_runs, "--classifier=run_classifier_sp_google.py", *given),
                      "--use_pooled_output is no flag of run_classifier_sp_google.py")
    assert asked == ["run_classifier_sp_google.py"]


def test_scripts_tell_their_flags(monkeypatch, tmp_path):
    assert {"runs", "output_dir", "help"} <= clue_runs.flags_of("results_table.py")
    assert {"sample", "nosample", "sweep"} <= clue_runs.flags_of("clue_runs.py")
    files.write_text(str(tmp_path / "broken.py"), "raise ValueError('not this one')")
    monkeypatch.setattr(clue_runs, "ROOT", str(tmp_path))
    with pytest.raises(UserError, match="broken.py --helpxml lists no flags: .*not this one"):
        clue_runs.flags_of("broken.py")


def test_finished_tasks_are_not_run_again_and_failed_ones_are(place, capsys):
    values = values_for(place)
    files.write_text(str(place / "fail-csl"), "")
    names = ["afqmc", "csl", "wsc"]
    folders, failed = clue_runs.run_tasks(names, values, [None])
    assert list(folders) == ["afqmc", "wsc"]
    assert list(failed) == ["csl_output"] and "exit status 1" in failed["csl_output"]
    assert [note["task"] for note in notes(place)] == ["afqmc", "wsc"]
    os.remove(str(place / "fail-csl"))
    folders, failed = clue_runs.run_tasks(names, values, [None])
    assert list(folders) == names and not failed
    assert [note["task"] for note in notes(place)] == ["csl"]
    assert "== afqmc_output: finished before" in capsys.readouterr().err
    clue_runs.run_tasks(names, values, [None])
    assert notes(place) == []


def test_what_a_run_depends_on_runs_it_again(place, tmp_path):
    data, model = tmp_path / "mine" / "afqmc", tmp_path / "model"
    data.mkdir(parents=True)
    model.mkdir()
    for split in tasks.SPLITS:
        files.copy(os.path.join(ROOT, "data", "clue_sample", "afqmc", split + ".json"),
                   str(data / (split + ".json")))
    files.write_text(str(model / "model.ckpt.index"), "one")
    for name in ("config.json", "teacher.npz"):
        files.write_text(str(tmp_path / name), "{}")

    def ran(**changes):
        values = values_for(place, data_dir=str(tmp_path / "mine"), base_flag=[
            "--init_checkpoint=%s" % model, "--bert_config_file=%s/config.json" % tmp_path,
            "--teacher_logits=%s/teacher.npz" % tmp_path],
            **changes)
        clue_runs.run_tasks(["afqmc"], values, [None])
        return len(notes(place))

    assert (ran(), ran()) == (1, 0)
    assert (ran(flag=["--truncate=tail"]), ran(flag=["--truncate=tail"])) == (1, 0)
    assert (ran(), ran()) == (1, 0)  # whose results the other one replaced
    files.write_text(str(model / "model.ckpt.index"), "two")
    assert (ran(), ran()) == (1, 0)
    for name in ("config.json", "teacher.npz"):
        files.write_text(str(tmp_path / name), "{ }")
        assert (ran(), ran()) == (1, 0)
    text = "".join(line + "\n" for _, line in files.read_lines(str(data / "train.json")))
    files.write_text(str(data / "train.json"), text.replace("怎", "如", 1) + " ")
    assert (ran(), ran()) == (1, 0)
    for last in "一二":  # far from the beginning, and as large
        files.write_text(str(data / "train.json"), text + " " * (2 << 20) + last)
        assert (ran(), ran()) == (1, 0)
    os.remove(str(place / "work" / "afqmc_output" / "afqmc_predict.json"))
    assert (ran(), ran()) == (1, 0)
    # Another command in that folder has predicted, or evaluated.
    for name in ("afqmc_predict.json", "eval_results.json"):
        path = str(place / "work" / "afqmc_output" / name)
        files.write_text(path, "\n".join(line for _, line in files.read_lines(path)) + "\n\n")
        assert (ran(), ran()) == (1, 0)
    files.write_text(str(place / "work" / "afqmc_output" / clue_runs.FINISHED), "{")
    assert (ran(), ran()) == (1, 0)


def test_a_run_that_fails_leaves_nothing_finished(place):
    """What it replaced before it failed is not what the earlier run had left."""
    assert not clue_runs.run_tasks(["csl"], values_for(place), [None])[1]
    files.write_text(str(place / "fail-csl"), "")
    assert clue_runs.run_tasks(["csl"], values_for(place, flag=["--truncate=tail"]), [None])[1]
    os.remove(str(place / "fail-csl"))
    notes(place)
    clue_runs.run_tasks(["csl"], values_for(place), [None])
    assert [note["task"] for note in notes(place)] == ["csl"]


def test_data_may_lie_under_another_name_of_the_task(tmp_path):
    assert clue_runs.data_of("wsc", str(tmp_path), False) == str(tmp_path / "wsc")
    (tmp_path / "cluewsc2020").mkdir()
    assert clue_runs.data_of("wsc", str(tmp_path), False) == str(tmp_path / "cluewsc2020")
    (tmp_path / "wsc").mkdir()
    assert clue_runs.data_of("wsc", str(tmp_path), False) == str(tmp_path / "wsc")


def test_several_gpus_take_one_task_each(place, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv("STUB_SLEEPS", "0.5")
    files.write_text(str(place / "fail-csl"), "")
    places = clue_runs.devices([])
    assert places == ["3", "5"]
    names = ["afqmc", "csl", "tnews", "wsc"]
    folders, failed = clue_runs.run_tasks(names, values_for(place), places)
    assert list(folders) == ["afqmc", "tnews", "wsc"]
    assert "told to fail" in failed["csl_output"]  # found in its log
    ran = sorted(notes(place), key=lambda note: note["began"])
    assert {note["gpu"] for note in ran} == {"3", "5"}
    for one in ran:
        for other in ran:
            apart = one["ended"] <= other["began"] or other["ended"] <= one["began"]
            assert one is other or one["gpu"] != other["gpu"] or apart
    for name in names:
        assert os.path.exists(str(place / "work" / (name + "_output.log")))


@pytest.mark.parametrize("visible, given, wanted", [
    ("", [], [None]), ("2", [], [None]), ("-1", [], [None]), ("0,1", [], ["0", "1"]),
    ("0,1", ["--distribution=mirrored"], [None]), ("0,1", ["--distribution=none"], ["0", "1"]),
    ("0,1", ["--use_tpu"], [None])])
def test_which_runs_are_at_the_same_time(monkeypatch, visible, given, wanted):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert clue_runs.devices(given) == wanted


def test_gpus_are_counted_by_their_own_tool(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert clue_runs.devices([]) == [None]
    tool = tmp_path / "nvidia-smi"
    files.write_text(str(tool), "#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho 'GPU 1: A (UUID: y)'\n")
    os.chmod(str(tool), 0o755)
    assert clue_runs.devices([]) == ["0", "1"]


@pytest.mark.parametrize("number, status", [
    (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_reach_the_runs(place, number, status):
    """What is under way ends, nothing else is started, and the same command goes on."""
    for name in os.listdir(ROOT):
        if name.endswith(".py") and not (place / name).exists():
            os.symlink(os.path.join(ROOT, name), str(place / name))
    os.remove(str(place / "clue_runs.py"))
    files.copy(os.path.join(ROOT, "clue_runs.py"), str(place / "clue_runs.py"))
    process = subprocess.Popen(
        [sys.executable, str(place / "clue_runs.py"), "--tasks=afqmc wsc", "--sample",
         "--data_dir=" + os.path.join(ROOT, "data", "clue_sample"),
         "--work_dir=%s/work" % place], stderr=subprocess.PIPE,
        env=dict(os.environ, STUB_SLEEPS="60"),
        # A shell starts background jobs, and so perhaps these tests, with SIGINT ignored; nohup,
        # with SIGHUP.
        preexec_fn=lambda: [signal.signal(one, signal.SIG_DFL)
                            for one in (signal.SIGINT, signal.SIGHUP)])
    deadline = time.time() + 60
    while not (place / "sleeping").exists() and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    err = process.communicate()[1].decode("utf-8")
    assert process.returncode == status, err
    assert "go on" in err and "== wsc" not in err
    assert notes(place) == []


# ---------------------------------------------------------------------------------------------
# Sweeps
# ---------------------------------------------------------------------------------------------

def test_a_grid_is_all_settings_with_all_seeds():
    sweep = sweeps.parse("learning_rate=2e-5,6e-5 seed=1,2,3 train_batch_size=16,32")
    assert sweep.seeds == ["1", "2", "3"]
    assert sweep.settings == [
        (("learning_rate", rate), ("train_batch_size", size))
        for rate in ("2e-5", "6e-5") for size in ("16", "32")]
    assert sweeps.parse("seed=7") == sweeps.Sweep([()], ["7"])
    assert sweeps.parse("learning_rate=1e-4") == sweeps.Sweep([(("learning_rate", "1e-4"),)],
                                                              [None])
    names = {sweeps.folder_name(setting, seed) for setting in sweep.settings
             for seed in sweep.seeds}
    assert len(names) == 12 and "learning_rate-2e-5_train_batch_size-16_seed-1" in names
    assert sweeps.flags_of((("learning_rate", "2e-5"),), "1") == [
        "--learning_rate=2e-5", "--random_seed=1"]


@pytest.mark.parametrize("text, problem", [
    ("", "SWEEP is empty"), ("learning_rate", '"learning_rate" must be name=value'),
    ("learning_rate=", "must be name=value"), ("learning_rate=1e-4,,2", "a number or a word"),
    ("learning_rate=1e-4 learning_rate=2", '"learning_rate" comes twice'),
    ("seed=1 random_seed=2", '"random_seed" comes twice'),
    ("seed=1,1", 'a value of "random_seed" comes twice'), ("seed=a", "a whole number"),
    ("output_dir=x", '"output_dir" is none of the settings'), ("rate=../x", "a number or a word")])
def test_faulty_sweeps_are_refused(text, problem):
    with pytest.raises(UserError) as caught:
        sweeps.parse(text)
    assert problem in str(caught.value)


def test_means_and_deviations():
    one = sweeps.summarise((), [0.5, 0.7, 0.9])
    assert one.mean == pytest.approx(0.7) and one.deviation == pytest.approx(0.2)
    assert sweeps.summarise((), [0.5])[2:] == (0.5, None)
    assert sweeps.summarise((), [0.5, None])[2:] == (None, None)
    assert sweeps.summarise((), [0.5, float("nan")])[2:] == (None, None)


def test_the_choice_goes_by_the_mean_of_all_seeds():
    def choose(*scores):
        return sweeps.choose([sweeps.summarise((), list(some)) for some in scores])

    assert choose((0.9, 0.1), (0.6, 0.7)) == (1, 1)  # not by the best single run
    assert choose((0.5, 0.5), (0.5, 0.5)) == (0, 0)
    assert choose((0.9, None), (0.2, 0.3)) == (1, 1)
    assert choose((None,), (None,)) is None


def test_a_sweep_predicts_with_the_best_run_only(place, capsys):
    values, sweep = values_for(place), sweeps.parse("learning_rate=1,4,2,9 seed=1,3,2")
    folders, failed = clue_runs.run_sweeps(["wsc", "c3"], values, [None], sweep)
    ran = notes(place)
    assert len(ran) == 2 * 9 + 2
    predicting = [note for note in ran if "--do_predict" in note["flags"]]
    assert ran[-2:] == predicting  # after all else
    for note in predicting:
        assert "--do_train" not in note["flags"]
        assert (value_of(note, "learning_rate"), value_of(note, "random_seed")) == ("4", "3")
    assert folders["c3"] == str(place / "work" / "c3_sweep" / "learning_rate-4_seed-3")
    assert len(failed) == 6 and all("learning_rate-9" in name for name in failed)
    out = capsys.readouterr().out
    row = [line for line in out.splitlines() if line.startswith("wsc") and "rate=4" in line]
    assert row[0].split()[2:] == ["accuracy", "0.5420", "0.0010", "0.5410", "0.5430", "0.5420",
                                  "best"]
    report = json.loads("".join(text for _, text in files.read_lines(
        values.work_dir + "/sweep_results.json")))
    assert [one["task"] for one in report] == ["wsc", "c3"]
    assert report[0]["best"]["setting"] == {"learning_rate": "4"}
    assert report[0]["best"]["seed"] == "3"
    assert report[0]["settings"][3]["scores"] == [None] * 3
    assert "| wsc | learning_rate=4 |" in "".join(
        text for _, text in files.read_lines(values.work_dir + "/sweep_results.md"))
    # The same again runs only what failed; nothing is trained twice, nothing predicted twice.
    clue_runs.run_sweeps(["wsc", "c3"], values, [None], sweep)
    assert notes(place) == []


def test_a_sweep_without_a_whole_setting_chooses_none(place, capsys):
    values = values_for(place)
    os.mkdir(values.work_dir)
    folders, failed = clue_runs.run_sweeps(["wsc"], values, [None],
                                           sweeps.parse("learning_rate=9 seed=1"))
    assert not folders and len(failed) == 1
    assert "wsc: a run of every setting failed" in capsys.readouterr().err
    assert notes(place) == []


# ---------------------------------------------------------------------------------------------
# The table of results
# ---------------------------------------------------------------------------------------------

def test_published_scores_stand_beside_those_of_the_runs(tmp_path):
    for name, best in (("tnews", {"eval_accuracy": 0.5, "step": 30}),
                       ("cmrc2018", {"eval_f1": 0.625, "step": 9})):
        folder = tmp_path / name
        folder.mkdir()
        files.write_json(str(folder / "eval_results.json"), {"task": name, "best": best})
    files.write_json(str(tmp_path / "tnews" / "run.json"), {"seconds": 12.6})
    results = [results_table.result_of(str(tmp_path / name)) for name in ("tnews", "cmrc2018")]
    assert results_table.rows_of(results) == [
        ["tnews", "accuracy", "0.5000", "30", "13", "53.55", "53.35", results_table.TINY],
        ["", "", "", "", "", "", "56.58", results_table.BERT],
        ["cmrc2018", "F1", "0.6250", "9", "-", "", "", ""]]
    results_table.write(results, str(tmp_path))
    text = "".join(line + "\n" for _, line in files.read_lines(str(tmp_path / "results.md")))
    assert "| tnews | accuracy | 0.5000 | 30 | 13 | 53.55 | 53.35 |" in text
    assert "cluebenchmarks.com" in text
    written = files.read_json(str(tmp_path / "results.json"))
    assert written[0]["published"][0]["test"] == 53.35 and written[1]["published"] == []
    files.write_json(str(tmp_path / "tnews" / "eval_results.json"), {
        "best": {"masked_lm_loss": 4.5, "step": 30}})
    with pytest.raises(UserError, match="is of pre-training, which has no score"):
        results_table.result_of(str(tmp_path / "tnews"))


def test_published_scores_are_those_of_the_readme(root):
    """No number stands here that README does not have, with its source."""
    text = "\n".join(line for _, line in files.read_lines(os.path.join(root, "README_en.md")))
    for task, rows in results_table.PUBLISHED.items():
        for published in rows:
            for value in (published.dev, published.test):
                if value is not None:
                    assert ("%.2f" % value) in text or ("%.1f" % value) in text, (task, value)
            assert published.source
