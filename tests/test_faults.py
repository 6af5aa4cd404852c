"""The table of faults: what is tried, counted and told; the faults themselves are run_all.sh's."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

FOLDER = os.path.join(ROOT, "tests", "faults")
RUN_ALL = os.path.join(FOLDER, "run_all.py")

FAULTS = """
import table

@table.fault("all held", seconds=1)
def held(trial):
    return trial.times(4, short=2), trial.times(4, short=2)

@table.fault("one lost", in_short=%s, seconds=2)
def lost(trial):
    return 3, sum(trial.held(number, "lost it") for number in range(3))

@table.fault("cannot be tried")
def skipped(trial):
    raise table.Skip("no root")

@table.fault("defect")
def defect(trial):
    raise KeyError("oops") if %s else table.Skip("not wanted")
"""


def run_all(folder, *arguments):
    process = subprocess.Popen([sys.executable, os.path.join(folder, "run_all.py")]
                               + list(arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               universal_newlines=True)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.fixture()
def folder(tmp_path):
    """Returns a function that makes a project of invented faults."""
    def make(lost_in_short=True, defect=False):
        faults = tmp_path / "tests" / "faults"
        faults.mkdir(parents=True)
        for name, place in (("run_all.py", FOLDER), ("table.py", FOLDER), ("console.py", ROOT)):
            goal = tmp_path / name if place == ROOT else faults / name
            shutil.copyfile(os.path.join(place, name), str(goal))
        (faults / "faults_invented.py").write_text(FAULTS % (lost_in_short, defect))
        return str(faults)

    return make


def test_what_was_lost_is_told_and_decides_the_status(folder):
    status, out, err = run_all(folder(), "--seed=3")
    assert status == 1 and "Seed 3" in err
    rows = [line.split() for line in out.splitlines()]
    assert ["all", "held", "4", "4"] in rows and ["one", "lost", "3", "2"] in rows
    assert ["cannot", "be", "tried", "skipped", "-"] in rows
    assert "one lost: lost it" in out and "cannot be tried: not tried: no root" in out
    assert "4 faults, 7 tries, 1 with a loss" in out


def test_the_short_form_and_a_choice(folder):
    place = folder(lost_in_short=False)
    assert run_all(place, "--short")[0] == 0
    assert run_all(place, "--only=held")[0] == 0
    assert run_all(place, "--only=nothing")[0] == 2
    assert run_all(place, "--list")[1].split("\n")[0] == "all held"


def test_a_defect_of_a_fault_is_a_loss(folder):
    status, out, _ = run_all(folder(lost_in_short=False, defect=True), "--short")
    assert status == 1 and "KeyError: 'oops'" in out


def test_the_issues_faults_are_all_there():
    status, out, _ = run_all(FOLDER, "--list")
    assert status == 0
    for name in ("kill -9: data creation", "kill -9: download", "kill -9: pre-training",
                 "kill -9: fine-tuning with evaluation", "kill -9: prediction", "kill -9: export",
                 "second run in the same folder", "NaN in training", "half-written records"):
        assert name in out.split("\n")


@pytest.fixture()
def trial(tmp_path):
    spec = importlib.util.spec_from_file_location("fault_table", os.path.join(FOLDER, "table.py"))
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    place = tmp_path / "trial"
    place.mkdir()
    return table.Trial(str(place), 1, True)


def test_processes_of_a_trial(trial, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import subprocess, sys, time\n"
                      "sys.stderr.write('ERROR: x\\n'); sys.stderr.flush()\n"
                      "child = subprocess.Popen(['sleep', sys.argv[1]])\n"
                      "print(child.pid, flush=True); child.wait(); sys.exit(1)\n")
    done = trial.run(str(script), "0")
    assert (done.status, done.err) == (1, "ERROR: x\n")
    killed = trial.kill_after(1.0, str(script), "50")
    assert killed.status == -9 and killed.out.strip().isdigit()
    with pytest.raises(ProcessLookupError):  # the group is killed as a whole
        for _ in range(200):
            os.kill(int(killed.out), 0)
            subprocess.call(["sleep", "0.05"])
    assert not trial.losses
