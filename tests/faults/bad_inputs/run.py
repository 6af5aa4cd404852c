"""Tries bad inputs: each row of rows.py in a process of its own, forked from one that is warm.

    python tests/faults/bad_inputs/run.py [--family=NAME] [--only=TEXT] [--every=N] [--show]

TensorFlow and this project's modules are loaded once; a forked process then runs the script from
its first line, as `python SCRIPT ARGUMENTS` would. Prints a line for each row that does not hold,
and, with --json, all results; the exit status is 1 where a row does not hold.
"""

import argparse
import collections
import hashlib
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(os.path.dirname(HERE))
ROOT = os.path.dirname(TESTS)
sys.path[:0] = [HERE, TESTS, ROOT]

import kit  # noqa: E402
import rows  # noqa: E402

SECONDS_AT_MOST = 90  # for a row
# Loaded before the fork: what most scripts import.
MODULES = ("runtime", "classifier", "convert_albert_pytorch_checkpoint_to_tf",
           "choice_tuning", "clue_runs", "convert_albert_tf_checkpoint_to_pytorch",
           "create_pretraining_data", "curves",
           "download", "estimators", "export_model", "finetuning", "inference", "layouts",
           "own_data", "prepare_corpus", "pretraining", "similarity", "submission", "tasks",
           "tokenizer_vectors", "build_vocab", "results_table", "record_bytes", "sentencepiece")
SIGNS = ("Traceback", "Original stack trace", 'File "', "Exception ignored", "Segmentation",
         "core dumped", "Check failed")

Result = collections.namedtuple("Result", ["row", "problems", "status", "said", "seconds"])


def main():
    options = parse()
    wanted = [one for one in rows.ROWS if options.only in one.name
              and options.family in ("", one.family)
              and one.runtime in (None, 1 if sys.version_info < (3, 8) else 2)][::options.every]
    if options.list:
        for family in collections.OrderedDict.fromkeys(one.family for one in wanted):
            print("%4d %s" % (sum(one.family == family for one in wanted), family))
        return 0
    folder = tempfile.mkdtemp(prefix="bad-inputs-")
    try:
        with served(folder):
            results = try_all(wanted, folder, options.jobs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for result in results:
        if options.show or result.problems:
            print("%s [%s] %s\n    status %s, %.1f s%s\n%s" % (
                "LOST" if result.problems else "held", result.row.family, result.row.name,
                result.status, result.seconds,
                "".join("\n    * " + problem for problem in result.problems),
                "".join("    | %s\n" % line for line in result.said.strip().split("\n")[-12:])))
    if options.json:
        kit.write(options.json, json.dumps([
            [one.row.family, one.row.name, one.problems] for one in results]))
    lost = sum(bool(one.problems) for one in results)
    print("%d bad inputs, %d held" % (len(results), len(results) - lost))
    return 1 if lost else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--family", default="", help="rows of this family")
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    parser.add_argument("--every", type=int, default=1, help="only each so many-th row")
    parser.add_argument("--jobs", type=int, default=1 + (os.cpu_count() or 1),
                        help="rows at a time")
    parser.add_argument("--show", action="store_true", help="show all rows' messages")
    parser.add_argument("--list", action="store_true", help="only count the rows of each family")
    parser.add_argument("--json", default="", help="file for the results")
    return parser.parse_args()


class served(object):  # noqa: N801 - used like a function
    """The server that misbehaves, as a context; its port is in the environment."""

    def __init__(self, folder):
        self._folder = os.path.join(folder, "served")

    def __enter__(self):
        os.mkdir(self._folder)
        self._process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "server.py"), self._folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        os.environ["BAD_SERVER"] = self._process.stdout.readline().decode("ascii").strip()
        os.environ["BAD_SERVER_FOLDER"] = self._folder

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()


def try_all(wanted, folder, jobs):
    """Returns the Results of rows, in their order."""
    sound = os.path.join(folder, "kit")
    if in_child(lambda: kit.make(sound), os.path.join(folder, "kit.log")) != 0:
        raise RuntimeError(kit.read(os.path.join(folder, "kit.log")).decode("utf-8", "replace"))
    for name in MODULES:
        __import__(name)
    # Downloads first: some of them mostly wait.
    waiting = sorted(enumerate(wanted), key=lambda one: one[1].family != "downloads")
    results, running = [None] * len(wanted), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            number, one = waiting.pop(0)
            here = os.path.join(folder, "row-%d" % number)
            os.mkdir(here)
            running[start(one, here, sound)] = number, one, here, time.time()
        child, status = wait_for_one(running)
        number, one, here, began = running.pop(child)
        results[number] = judge(one, here, status, time.time() - began)
        shutil.rmtree(here)
        os.remove(here + ".said")
    return results


def in_child(function, log):
    """Runs a function in a forked process; returns its exit status."""
    child = os.fork()
    if not child:
        leave(function, log)
    return os.WEXITSTATUS(os.waitpid(child, 0)[1])


def leave(function, log, lines=None):
    """Ends this (forked) process as a script ends that does what `function` does."""
    status = 70
    try:
        os.setsid()
        with open(os.devnull if lines is None else lines, "rb") as stdin:
            os.dup2(stdin.fileno(), 0)
        with open(log, "ab") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        status = 0
        function()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - what Python does with it
        traceback.print_exc()
        status = 1
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def start(one, here, sound):
    """Makes a row's input and starts its script; returns the process's number."""
    log, lines = here + ".said", None
    child = os.fork()
    if child:
        return child
    values = {"here": here, "kit": sound}
    if one.lines is not None:
        lines = here + ".lines"
        kit.write(lines, one.lines)

    def run():
        try:
            if one.make:
                one.make(here, sound)
            kit.write(here + ".before", json.dumps(contents(here)))
        except BaseException:  # noqa: BLE001 - the row tells
            traceback.print_exc()
            os._exit(71)
        os.environ.update(one.variables, PYTHONIOENCODING="utf-8")
        script = os.path.join(ROOT, one.script)
        # Relative to a folder that holds nothing, so that nothing is found there by accident.
        os.makedirs(here + ".cwd")
        os.chdir(here + ".cwd")
        sys.argv = [script] + [part.format(**values) for part in one.arguments.split(" ") if part]
        sys.path[:0] = [os.path.dirname(script)]
        runpy.run_path(script, run_name="__main__")

    leave(run, log, lines)
    return None


def wait_for_one(running):
    """Returns (process number, status) of one that has ended; one that hangs is killed."""
    while True:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child in running:
            code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            return child, code
        for other, (_, _, _, began) in running.items():
            if time.time() - began > SECONDS_AT_MOST:
                os.killpg(other, signal.SIGKILL)
        time.sleep(0.01)


def contents(here):
    """Returns {name below `here`: hash} of all files there."""
    found = {}
    for parent, _, names in os.walk(here):
        for name in names:
            path = os.path.join(parent, name)
            found[os.path.relpath(path, here)] = hashlib.sha256(kit.read(path)).hexdigest()
    return found


def judge(one, here, status, seconds):
    """Returns the Result of a row whose process has ended."""
    said = kit.read(here + ".said").decode("utf-8", "replace")
    problems = []
    if status == 71:
        problems.append("the input could not be made")
    elif status != 1:
        problems.append("status %s, not 1%s" % (status, ", it hung" if status == -9 else ""))
    problems += ["it says %r" % sign for sign in SIGNS if sign in said]
    messages = re.findall(r"^(?:ERROR: |FATAL Flags parsing error)", said, re.MULTILINE)
    if len(messages) != 1:
        problems.append("%d messages, not one" % len(messages))
    problems += ["it does not say %r" % part for part in one.says if part not in said]
    if os.path.exists(here + ".before"):
        before = json.loads(kit.read(here + ".before").decode("utf-8"))
        after = contents(here)
        problems += ["it has left %s" % name for name in sorted(after)
                     if name not in before and not name.startswith(one.leaves or "\n")]
        problems += ["it has changed %s" % name for name in sorted(before)
                     if after.get(name) != before[name]]
        os.remove(here + ".before")
    return Result(one, problems, status, said, seconds)


if __name__ == "__main__":
    sys.exit(main())
