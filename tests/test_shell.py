"""The shell entrances: help, arguments, clear errors; the whole way is run by CI's sample run."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
import reference
from conftest import ROOT
from helpers import write_checkpoint

import download
import files
import modeling
import modeling_google

SCRIPTS = ["run_classifier_clue.sh", "run_classifier_lcqmc.sh", "create_pretrain_data.sh"]
RUNTIME = "1" if os.sep + ".venv-tf1" + os.sep in os.path.abspath(os.__file__) else "2"


def bash(script, *arguments, **environment):
    """Runs a shell script from another folder; returns (exit status, stdout, stderr)."""
    settings = dict(os.environ, **environment)
    process = subprocess.Popen(["bash", os.path.join(ROOT, script)] + list(arguments), cwd="/",
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=settings)
    out, err = process.communicate()
    return process.returncode, out.decode("utf-8"), err.decode("utf-8")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script):
    status, out, err = bash(script, "--help")
    assert status == 0, err
    assert "usage: bash " + script in out.lower()


@pytest.mark.parametrize("script", SCRIPTS[:2])
def test_arguments_that_are_no_flags_are_refused(script):
    status, _, err = bash(script, "sample")
    assert status == 1 and "unexpected argument 'sample'" in err
    status, _, err = bash(script, "--sample", "--from_scratch")
    assert status == 1 and "not both" in err


def test_unknown_tasks_are_refused_before_anything_starts(tmp_path):
    status, _, err = bash("run_classifier_clue.sh", "--from_scratch", TASKS="tnews wcs",
                          CLUE_DATA_DIR=os.path.join(ROOT, "data", "clue_sample"),
                          OUTPUT_DIR=str(tmp_path))
    assert status != 0 and "wcs" in err and "wsc" in err
    assert "Traceback" not in err and os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("name, holds, flags, message", [
    ("albert_tiny", "pytorch_model.bin", (), "convert_albert_pytorch_checkpoint_to_tf.py"),
    ("mine", "vocab.txt", (), "no model goes by the name mine"),
    ("albert_tniy", None, (), "--name=albert_tniy"),
    ("albert_tiny", None, ("--init_checkpoint=mine",), "name the model's folder as MODEL_DIR")])
def test_no_model_is_downloaded_into_a_folder_of_another_name(tmp_path, name, holds, flags,
                                                              message):
    model = tmp_path / name
    if holds:
        model.mkdir()
        files.write_text(str(model / holds), "mine")
    status, _, err = bash(
        "run_classifier_clue.sh", *flags, TASKS="wsc", MODEL_DIR=str(model), ALBERT_TF=RUNTIME,
        ALBERT_ZH_MIRROR="http://127.0.0.1:9/", OUTPUT_DIR=str(tmp_path / "out"),
        CLUE_DATA_DIR=os.path.join(ROOT, "data", "clue_sample"))
    assert status != 0 and message in err and "downloading" not in err, err
    assert not holds or os.listdir(str(model)) == [holds]


@pytest.mark.parametrize("folder, name", [
    ("albert_tiny", "default"), ("albert_tiny_zh", "default"),
    ("albert_tiny_google", "albert_tiny_zh_google"), ("albert_base_zh", "albert_base_zh"),
    ("albert_small_google", "albert_small_zh_google")])
def test_a_model_is_downloaded_by_the_name_of_its_folder(tmp_path, folder, name):
    path = str(tmp_path / folder)
    out = subprocess.check_output([
        "bash", "-c", 'set -euo pipefail; . "$0/common.sh"; FLAGS=(); PYTHON=echo; '
        'fetch_model "$1" default', ROOT, path]).decode("utf-8")
    assert out.split()[1:] == ["--name=" + name, "--output_dir=" + path]
    assert name == "default" or name in download.read_downloads(download.DOWNLOADS_FILE)


def test_lcqmc_without_its_licensed_data_says_what_to_do(tmp_path):
    status, _, err = bash("run_classifier_lcqmc.sh", "--from_scratch",
                          LCQMC_DATA_DIR=str(tmp_path))
    assert status == 1 and "licensed corpus" in err and "train.txt" in err


@pytest.mark.parametrize("script", ["run_classifier_clue.sh", "run_classifier_lcqmc.sh"])
def test_a_comma_in_the_output_folder_is_refused_at_once(tmp_path, script):
    status, _, err = bash(script, "--from_scratch", OUTPUT_DIR=str(tmp_path / "a,b"))
    assert status == 1 and "a,b: choose a name without a comma" in err
    assert os.listdir(str(tmp_path)) == []


def test_the_sample_of_a_corpus_replaces_no_shards_of_the_users(tmp_path):
    files.write_text(str(tmp_path / "mine-00000-of-00002.tfrecord"), "mine")
    status, _, err = bash("create_pretrain_data.sh", "--sample",
                          "--output_file=%s/mine.tfrecord" % tmp_path)
    assert status == 1 and "mine-00000-of-00002.tfrecord" in err and "move away" in err, err
    assert os.listdir(str(tmp_path)) == ["mine-00000-of-00002.tfrecord"]


def test_two_tasks_to_a_zip_in_a_folder_with_a_space(tmp_path):
    folder = tmp_path / "my runs"
    status, out, err = bash(
        "run_classifier_clue.sh", "--from_scratch", "--max_seq_length=16", TASKS="wsc tnews",
        CLUE_DATA_DIR=os.path.join(ROOT, "data", "clue_sample"), OUTPUT_DIR=str(folder),
        MAX_STEPS="2", ALBERT_TF=RUNTIME)
    assert status == 0, err
    rows = [line.split() for line in out.splitlines() if line.startswith(("wsc ", "tnews "))]
    assert [row[0] for row in rows[-2:]] == ["wsc", "tnews"]
    assert all(row[3] == "2" for row in rows[-2:])  # best step
    for name in ("clue_submission.zip", "results.md", "results.json"):
        assert os.path.exists(str(folder / name))


def test_the_clue_script_hands_everything_on(tmp_path):
    """With a stub for Python: tasks, sweep and all flags, in the order in which they win."""
    for name in ("run_classifier_clue.sh", "common.sh"):
        shutil.copy(os.path.join(ROOT, name), str(tmp_path))
    (tmp_path / "env.sh").write_text('PYTHON=$ROOT/python\n', encoding="utf-8")
    (tmp_path / "python").write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" end >>"$(dirname "$0")/calls"\n', encoding="utf-8")
    os.chmod(str(tmp_path / "python"), 0o755)
    status, _, err = bash(
        str(tmp_path / "run_classifier_clue.sh"), "--from_scratch", "--truncate=tail", TASKS="all",
        SWEEP="learning_rate=2e-5,6e-5 seed=1,2", EPOCHS="2", MAX_STEPS="3",
        OUTPUT_DIR="/my runs", CLUE_DATA_DIR="/data/clue")
    assert status == 0, err
    calls = (tmp_path / "calls").read_text(encoding="utf-8").split("end\n")
    first, second = [call.splitlines() for call in calls[:-1]]
    common = [str(tmp_path / "clue_runs.py"), "--tasks=all",
              "--sweep=learning_rate=2e-5,6e-5 seed=1,2", "--data_dir=/data/clue"]
    assert first == common + ["--prepare_only"]
    config = str(tmp_path / "albert_config")
    assert second == common + ["--flag=--truncate=tail"] + ["--base_flag=" + flag for flag in (
        "--bert_config_file=%s/albert_config_tiny.json" % config,
        "--vocab_file=%s/vocab.txt" % config, "--keep_checkpoint_max=20", "--num_train_epochs=2",
        "--max_train_steps=3")] + ["--work_dir=/my runs", "--classifier=run_classifier.py"]


def test_a_sweep_of_two_kinds_of_tasks_to_a_zip(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name, folder in (("c3", "clue_sample/c3"), ("cluener", "ner_sample")):
        os.symlink(os.path.join(ROOT, "data", folder), str(data / name))
    status, out, err = bash(
        "run_classifier_clue.sh", "--from_scratch", "--max_seq_length=24", TASKS="c3 cluener",
        SWEEP="seed=1", MAX_STEPS="1", CLUE_DATA_DIR=str(data), OUTPUT_DIR=str(tmp_path / "out"),
        ALBERT_TF=RUNTIME)
    assert status == 0, err
    rows = [line.split() for line in out.splitlines() if line.startswith(("c3 ", "cluener "))]
    assert [row[:3] for row in rows[:2]] == [["c3", "published", "settings"],
                                             ["cluener", "published", "settings"]]
    assert [row[:2] for row in rows[2:]] == [["c3", "accuracy"], ["cluener", "F1"]]
    with zipfile.ZipFile(str(tmp_path / "out" / "clue_submission.zip")) as archive:
        assert archive.namelist() == ["c311_predict.json", "cluener_predict.json"]


def test_a_model_of_the_google_layout_goes_to_its_own_script(tmp_path):
    config = os.path.join(ROOT, "albert_config", "albert_config_tiny_google.json")
    model = tmp_path / "model"
    model.mkdir()
    write_checkpoint(model / "albert_model.ckpt", reference.initial_values(
        modeling.pretraining_variable_shapes(
            modeling_google.AlbertConfig.from_json_file(config), modeling_google.AlbertModel)))
    for source in (config, os.path.join(ROOT, "albert_config", "vocab.txt")):
        shutil.copy(source, str(model))
    status, _, err = bash(
        "run_classifier_lcqmc.sh", "--max_seq_length=16", MODEL_DIR=str(model), MAX_STEPS="1",
        LCQMC_DATA_DIR=os.path.join(ROOT, "data", "clue_sample", "lcqmc"),
        OUTPUT_DIR=str(tmp_path / "out"), ALBERT_TF=RUNTIME)
    assert status == 0, err
    assert "Initialisation: 25 of 27 variables from %s" % model in err


@pytest.fixture()
def mirror(tmp_path):
    """A local server with the two archives that a first run needs; yields its address.

    The model is laid out like a released archive: in a folder, its `checkpoint` file pointing
    nowhere.
    """
    site = tmp_path / "site"
    model = tmp_path / "albert_tiny_489k"
    model.mkdir()
    site.mkdir()
    config = os.path.join(ROOT, "albert_config", "albert_config_tiny.json")
    shapes = modeling.pretraining_variable_shapes(
        modeling.BertConfig.from_json_file(config), modeling.BertModel)
    write_checkpoint(model / "albert_model.ckpt", reference.initial_values(shapes))
    (model / "checkpoint").write_text('model_checkpoint_path: "/gone/model.ckpt-1"\n',
                                      encoding="utf-8")
    shutil.copy(config, str(model))
    shutil.copy(os.path.join(ROOT, "albert_config", "vocab.txt"), str(model))
    shutil.make_archive(str(site / "albert_tiny_489k"), "zip", str(tmp_path), model.name)
    with zipfile.ZipFile(str(site / "tnews_public.zip"), "w") as archive:
        for split in ("train", "dev", "test"):
            archive.write(os.path.join(ROOT, "data", "clue_sample", "tnews", split + ".json"),
                          split + ".json")
        archive.writestr("README", os.urandom(1 << 22))  # as large as is plausible
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(site)], stdout=subprocess.PIPE)
    yield "http://127.0.0.1:%d/" % int(server.stdout.readline())
    server.kill()
    server.wait()


SERVER = """
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def test_model_and_data_are_downloaded_when_absent(mirror, tmp_path):
    work = {"CLUE_DATA_DIR": str(tmp_path / "data"), "MODEL_DIR": str(tmp_path / "albert_tiny"),
            "OUTPUT_DIR": str(tmp_path / "out"), "ALBERT_ZH_MIRROR": mirror, "TASKS": "tnews",
            "MAX_STEPS": "1", "ALBERT_TF": RUNTIME, "no_proxy": "127.0.0.1"}
    status, out, err = bash("run_classifier_clue.sh", "--max_seq_length=16", **work)
    assert status == 0, err
    assert "Initialisation: 24 of 26 variables from %s" % work["MODEL_DIR"] in err
    assert os.path.exists(str(tmp_path / "out" / "clue_submission.zip"))
    status, _, err = bash("run_classifier_clue.sh", "--max_seq_length=16",
                          **dict(work, ALBERT_ZH_MIRROR="http://127.0.0.1:9/"))
    assert status == 0, err  # everything is there: no server is asked
