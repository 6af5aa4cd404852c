"""Fine-tunes several tasks, or a sweep of each, and packs a submission: for run_classifier_clue.sh.

python clue_runs.py --tasks="tnews c3" --data_dir=CLUEdataset --work_dir=. \\
    --base_flag=--bert_config_file=albert_tiny/albert_config_tiny.json \\
    --base_flag=--vocab_file=albert_tiny/vocab.txt --base_flag=--init_checkpoint=albert_tiny

Each run is a fine-tuning script in a process of its own. On a machine with several GPUs as many
run at a time, each on its own; otherwise one after the other. A run that came to its end is not
started again while its command, its data and the checkpoint that it starts from stay the same; one
that fails is named at the end, and the others go on. With a sweep, test is predicted by the best
run on dev alone.
"""

import collections
import contextlib
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import console
import download
import errors
import files
import results_table
import submission
import sweeps
import tasks
from absl import flags
from console import say
from errors import UserError

FLAGS = flags.FLAGS
ROOT = os.path.dirname(os.path.abspath(__file__))

DEFAULT_TASKS = ("afqmc", "cmnli", "csl", "iflytek", "tnews", "wsc")
ALL_TASKS = tuple(tasks.clue_names()) + tuple(submission.OTHERS)

FINISHED = "finished.json"  # in a run's folder: what it was that came to its end

Other = collections.namedtuple("Other", ["script", "flags", "sample", "sample_flags"])
Other.__doc__ = """A task with a script of its own.

flags: its settings, as in README; sample: its folder in data/; sample_flags: what that needs."""

OTHERS = {
    "cmrc2018": Other(
        "run_mrc.py",
        ("--max_seq_length=512", "--train_batch_size=32", "--learning_rate=3e-5",
         "--num_train_epochs=2"), "mrc_sample",
        ("--max_seq_length=128", "--doc_stride=32")),
    "cluener": Other(
        "run_ner.py",
        ("--max_seq_length=128", "--train_batch_size=32", "--learning_rate=3e-4",
         "--num_train_epochs=5"), "ner_sample", ()),
}

# What TASKS=all adds to a task's settings, since its table has published scores of these beside it.
WITH_ALL = {"csl": ["--max_seq_length=256"]}

STEPS = ("do_train", "do_eval", "do_predict")  # of every run

Run = collections.namedtuple("Run", ["name", "task", "folder", "data_dir", "script", "flags"])
Run.__doc__ = """A run to come.

name: as messages call it; task: tasks.Task; folder: for its results; data_dir: of its data; script:
its file's name; flags: list, all of them."""


def define_flags():
    flags.DEFINE_string("tasks", "", "Tasks, between blanks or commas; all: %s. None: %s." % (
        " ".join(ALL_TASKS), " ".join(DEFAULT_TASKS)))
    flags.DEFINE_string("data_dir", "CLUEdataset", "Folder with a folder of data per task.")
    flags.DEFINE_string("work_dir", ".", "Folder that gets <task>_output/ and the results.")
    flags.DEFINE_string("classifier", "run_classifier.py", "Script for tasks of classification and "
                        "multiple choice: that of the model's layout.")
    flags.DEFINE_multi_string("base_flag", [], "A flag for every run: the model's, and what wins "
                              "over the tasks' published settings. May stand several times.")
    flags.DEFINE_multi_string("flag", [], "A flag for every run that wins over those, such as "
                              "--flag=--max_train_steps=10. May stand several times.")
    flags.DEFINE_string("sweep", "", "Settings and seeds to try: learning_rate=2e-5,6e-5 "
                        "seed=1,2,3.")
    flags.DEFINE_bool("sample", False, "The data are the embedded samples.")
    flags.DEFINE_bool("prepare_only", False, "Check the tasks and the sweep, fetch data that are "
                      "absent, and stop.")


# ---------------------------------------------------------------------------------------------
# What is to be run
# ---------------------------------------------------------------------------------------------

def task_names(text):
    """Returns the names of the tasks that --tasks means; UserError names an unknown one."""
    found = []
    for name in _listed(text):
        if name not in ALL_TASKS and name != "all":
            try:
                known = tasks.get(name).name
                advice = ("; write %s." if known in ALL_TASKS else "; run_classifier.py is for "
                          "%s.") % known
            except UserError:
                advice = "." + errors.nearest(name, ALL_TASKS)
            raise UserError("TASKS: %s is no CLUE task by that name%s Known are: all, %s" % (
                name, advice, ", ".join(ALL_TASKS)))
        found += ALL_TASKS if name == "all" else (name,)
    return list(collections.OrderedDict.fromkeys(found)) or list(DEFAULT_TASKS)


def _listed(text):
    return text.replace(",", " ").split()


def task_of(name):
    return submission.OTHERS[name] if name in OTHERS else tasks.get(name)


def data_of(name, data_dir, is_sample):
    """Returns the folder of a task's data."""
    if is_sample and name in OTHERS:
        return os.path.join(ROOT, "data", OTHERS[name].sample)
    folders = [os.path.join(data_dir, one)
               for one in (name,) + tuple(task_of(name).aliases)]
    return next(filter(files.is_dir, folders), folders[0])


def require_data(names, data_dir, is_sample):
    """Fetches the data of tasks that have none in their folders."""
    mirrors = [one for one in (os.environ.get("ALBERT_ZH_MIRROR"),) if one]
    for name in names:
        folder = data_of(name, data_dir, is_sample)
        task = task_of(name)
        there = set(files.list_dir(folder)) if files.is_dir(folder) else set()
        if not there.intersection(task.file_names["train"]):
            download.fetch(name, data_dir, mirrors=mirrors)


def script_of(name, values):
    return OTHERS[name].script if name in OTHERS else values.classifier


def require_flags(names, values, sweep):
    """Raises UserError for a flag of the user's that the script of one of the tasks lacks.

    The scripts are asked before the first one starts: the last task's turn may come hours later.
    """
    given = [flag.lstrip("-").partition("=")[0] for flag in values.flag]
    for flag in given:
        if re.sub("^no", "", flag) in STEPS:
            raise UserError("--%s: every task is trained, evaluated and predicted here; for single "
                            "steps use the task's script, such as run_classifier.py" % flag)
    given += [name for name, _ in sweep.settings[0]] if sweep else []
    tasks_of = collections.OrderedDict()
    for name in names if given else ():
        tasks_of.setdefault(script_of(name, values), []).append(name)
    for script, some in tasks_of.items():
        known = flags_of(script)
        for flag in given:
            if flag not in known:
                raise UserError("--%s is no flag of %s, which is for %s.%s Without it, or without "
                                "these tasks, the command runs" % (
                                    flag, script, ", ".join(some), errors.nearest(flag, known)))


def flags_of(script):
    """Returns the names of the flags that a script takes, asked of itself."""
    told = subprocess.run([sys.executable, os.path.join(ROOT, script), "--helpxml"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        listed = ElementTree.fromstring(told.stdout)
    except ElementTree.ParseError as error:
        raise UserError("%s --helpxml lists no flags: %s" % (
            script, told.stderr.decode("utf-8", "replace").strip().split("\n")[-1])) from error
    names = set()
    for flag in listed.iter("flag"):
        names.add(flag.findtext("name"))
        if flag.findtext("type") == "bool":
            names.add("no" + flag.findtext("name"))
    return names


def run_of(name, values, folder, more=(), steps=STEPS):
    """Returns the Run of a task. more: its flags that win over all; values: the script's flags."""
    task = task_of(name)
    settings = (list(OTHERS[name].flags) if name in OTHERS
                else tasks.settings_flags(task.settings).split())
    if "all" in _listed(values.tasks):
        settings += WITH_ALL.get(name, [])
    settings += values.base_flag
    if name in OTHERS:
        settings = [one.replace("--albert_config_file=", "--bert_config_file=")
                    for one in settings]
        settings += OTHERS[name].sample_flags if values.sample else ()
    data_dir = data_of(name, values.data_dir, values.sample)
    given = ["--task_name=" + name, "--data_dir=" + data_dir, "--output_dir=" + folder]
    # A question is as many rows as it has options.
    rows = task.kind.most_options if isinstance(task, tasks.ChoiceTask) else 1
    given += ["--" + step for step in steps]
    given += ["--%s_batch_size=%d" % (step, 64 // rows) for step in ("eval", "predict")]
    return Run(os.path.relpath(folder, values.work_dir), task, folder, data_dir,
               script_of(name, values), given + settings + list(values.flag) + list(more))


# ---------------------------------------------------------------------------------------------
# What has been run
# ---------------------------------------------------------------------------------------------

def state_of(run):
    """Returns what a run's results depend on, as it is now: {name: value}.

    A file is known by its size and the hash of its content.
    """
    state = {"script": run.script, "flags": run.flags, "files": {}}
    paths = [os.path.join(run.data_dir, name) for name in files.list_dir(run.data_dir)]
    for flag in run.flags:
        name, _, value = flag.partition("=")
        if name == "--init_checkpoint":
            paths += files.glob(value + "*.index") + files.glob(os.path.join(value, "*.index"))
        elif name.endswith("_file") or name == "--teacher_logits":
            paths.append(value)
    for path in sorted(set(paths)):
        if not files.is_dir(path) and files.exists(path):
            state["files"][path] = "%d %s" % (files.size(path), files.fingerprint(path))
    return state


def results_of(run):
    """Returns {name: hash} of the files that a finished run leaves, None while one is missing."""
    names = ["eval_results.json"] if "--do_eval" in run.flags else []
    names += [run.task.submission_in(run.data_dir)] if "--do_predict" in run.flags else []
    paths = [os.path.join(run.folder, name) for name in names]
    if not all(map(files.exists, paths)):
        return None
    return dict(zip(names, map(files.fingerprint, paths)))


def is_finished(run):
    """Tells whether a run came to its end with these very settings and data.

    And whether what it left is still there: another command may have replaced it.
    """
    results = results_of(run)
    finished = _finished_parts(os.path.join(run.folder, FINISHED)).get(_part_of(run))
    return results is not None and finished == _part(state_of(run), results)


def note_begun(run):
    """Notes that what a run is going to replace in its folder counts no more."""
    path = os.path.join(run.folder, FINISHED)
    if files.exists(path):
        files.write_json(path, {"parts": _kept_parts(run)})


def note_finished(run, state):
    """Notes that a run came to its end; state: of `state_of`, before it began."""
    parts = dict(_kept_parts(run), **{_part_of(run): _part(state, results_of(run))})
    files.write_json(os.path.join(run.folder, FINISHED), dict(state, parts=parts))


def _part_of(run):
    return "training" if "--do_train" in run.flags else "prediction"


def _part(state, results):
    """Returns what is noted of a part of the work that came to its end."""
    return {"key": _key(state), "results": results}


def _kept_parts(run):
    """Returns the parts of the work that a run leaves valid.

    A sweep's best run is trained by one command and predicts by another: both are over.
    """
    parts = _finished_parts(os.path.join(run.folder, FINISHED))
    return {part: noted for part, noted in parts.items()
            if part == "training" and _part_of(run) == "prediction"}


def _finished_parts(path):
    """Returns {part of the work: _part} of what came to its end; what cannot be read did not."""
    try:
        written = files.read_json(path) if files.exists(path) else {}
    except UserError as error:
        say("WARNING: %s; its run is done again" % error)
        written = {}
    parts = written.get("parts") if isinstance(written, dict) else None
    return parts if isinstance(parts, dict) else {}


def _key(state):
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode("utf-8")).hexdigest()


# ---------------------------------------------------------------------------------------------
# Running
# ---------------------------------------------------------------------------------------------

def devices(given_flags):
    """Returns what is put into CUDA_VISIBLE_DEVICES for runs at the same time; [None]: nothing.

    Without GPUs, with one, and where each run is to use all of them, it is one run at a time.
    """
    if any(flag.startswith(("--distribution=", "--use_tpu")) and flag not in (
            "--distribution=none", "--use_tpu=false", "--use_tpu=False") for flag in given_flags):
        return [None]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        found = [one.strip() for one in visible.split(",") if one.strip() not in ("", "-1")]
    else:
        found = _gpus()
    return found if len(found) > 1 else [None]


def _gpus():
    """Returns the numbers of this machine's GPUs, as strings."""
    try:
        listing = subprocess.check_output(["nvidia-smi", "-L"], stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return []
    lines = [line for line in listing.decode("utf-8", "replace").split("\n")
             if line.startswith("GPU ")]
    return [str(number) for number in range(len(lines))]


class _Started(object):
    """A run in a process of its own."""

    def __init__(self, run, device, log):
        """Starts the process. device: of `devices`; log: file for what it says, None: here."""
        self.run, self.log, self.state = run, log, state_of(run)
        environment = dict(os.environ)
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(io.open(log, "wb")) if log else None
            # A session of its own: Ctrl-C comes to us, and each process gets it once, from us.
            self.process = subprocess.Popen(
                [sys.executable, os.path.join(ROOT, run.script)] + run.flags, env=environment,
                stdout=stream, stderr=stream and subprocess.STDOUT, start_new_session=True)

    def ended(self):
        """Returns the exit status, or None while it runs."""
        return self.process.poll()


def run_all(runs, places):
    """Runs what is not finished, as many at a time as there are places.

    Args:
        runs: list of Run; places: of `devices`.

    Returns:
        {name: what went wrong} of the runs that failed.
    """
    waiting, active, failed = collections.deque(), {}, collections.OrderedDict()
    for run in runs:
        if is_finished(run):
            say("== %s: finished before" % run.name)
        else:
            waiting.append(run)
    try:
        while waiting or active:
            for place in places:
                if place not in active and waiting:
                    active[place] = _start(waiting.popleft(), place)
            time.sleep(0.1)
            for place, started in list(active.items()):
                status = started.ended()
                if status is not None:
                    del active[place]
                    _end(started, status, failed)
    except BaseException as error:
        _pass_on(active.values(), _signal_of(error))
        raise
    return failed


def _signal_of(error):
    """Returns the signal that an error here came from; SIGTERM for any other one."""
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    # Who writes to the same terminal has to know, too, that it is gone.
    is_hangup = isinstance(error, SystemExit) and error.code == 128 + signal.SIGHUP
    return signal.SIGHUP if is_hangup else signal.SIGTERM


def _start(run, place):
    log = None
    if place is not None:
        log = run.folder.rstrip("/") + ".log"
        files.make_dir(os.path.dirname(log) or ".", "work_dir")
    say("== %s%s" % (run.name, "" if log is None else " on GPU %s, see %s" % (place, log)))
    note_begun(run)
    return _Started(run, place, log)


def _end(started, status, failed):
    if status == 0:
        note_finished(started.run, started.state)
        if started.log:
            say("== %s: done" % started.run.name)
        return
    problem = "exit status %d%s" % (status, _last_words(started.log))
    if status < 0:
        problem = "ended by signal %d" % -status
    failed[started.run.name] = problem
    say("== %s FAILED: %s" % (started.run.name, problem))


def _last_words(log):
    """Returns the error that a run's log ends with, or ''."""
    if not log:
        return ""
    with files.open_binary(log) as stream:
        lines = stream.read().decode("utf-8", "replace").split("\n")
    found = [line for line in lines if line.startswith("ERROR: ")]
    return ": " + found[-1][len("ERROR: "):] if found else ", see %s" % log


def _pass_on(started, number):
    """Sends a signal to the processes and waits for them: training saves a checkpoint first."""
    running = [one for one in started if one.ended() is None]
    for one in running:
        one.process.send_signal(number)
    for one in running:
        try:
            one.process.wait()
        except KeyboardInterrupt:  # the second one: each ends at once
            for other in running:
                if other.ended() is None:
                    other.process.send_signal(signal.SIGINT)
            one.process.wait()


# ---------------------------------------------------------------------------------------------
# Tasks, or sweeps
# ---------------------------------------------------------------------------------------------

def run_tasks(names, values, places):
    """Runs each task once.

    Returns:
        (folders of results {name: folder}, {name: what went wrong}).
    """
    runs = collections.OrderedDict(
        (name, run_of(name, values, os.path.join(values.work_dir, name + "_output")))
        for name in names)
    failed = run_all(list(runs.values()), places)
    return collections.OrderedDict((name, run.folder) for name, run in runs.items()
                                   if run.name not in failed), failed


def run_sweeps(names, values, places, sweep):
    """Runs the grid of each task, prints and writes its table, predicts test with the best.

    Returns:
        as `run_tasks`: the folders are those of the best runs.
    """
    def folder_of(name, setting, seed):
        return os.path.join(values.work_dir, name + "_sweep", sweeps.folder_name(setting, seed))

    def run_for(name, setting, seed, steps):
        return run_of(name, values, folder_of(name, setting, seed),
                      sweeps.flags_of(setting, seed), steps)

    grid = [run_for(name, setting, seed, ("do_train", "do_eval"))
            for name in names for setting in sweep.settings for seed in sweep.seeds]
    failed = run_all(grid, places)
    rows, report, best = [], [], collections.OrderedDict()
    for name in names:
        metric, summaries = None, []
        for setting in sweep.settings:
            scores = []
            for seed in sweep.seeds:
                folder = folder_of(name, setting, seed)
                if os.path.relpath(folder, values.work_dir) in failed:
                    scores.append(None)
                    continue
                result = results_table.result_of(folder)
                metric = result.metric
                scores.append(result.dev_score)
            summaries.append(sweeps.summarise(setting, scores))
        chosen = sweeps.choose(summaries)
        rows += sweeps.rows_of(name, metric or "-", summaries, chosen)
        if chosen:
            best[name] = sweep.settings[chosen[0]], sweep.seeds[chosen[1]]
        report.append({
            "task": name, "metric": metric,
            "settings": [dict(one._asdict(), setting=dict(one.setting)) for one in summaries],
            "seeds": sweep.seeds, "best": best.get(name) and {
                "setting": dict(best[name][0]), "seed": best[name][1],
                "folder": folder_of(name, *best[name])}})
    print(console.table(sweeps.HEADS, rows))
    files.write_text(os.path.join(values.work_dir, "sweep_results.md"),
                     results_table.markdown(sweeps.HEADS, rows))
    files.write_json(os.path.join(values.work_dir, "sweep_results.json"), report)
    for name in names:
        if name not in best:
            say("WARNING: %s: a run of every setting failed, so none is chosen" % name)
    predictions = {name: run_for(name, setting, seed, ("do_predict",))
                   for name, (setting, seed) in best.items()}
    more = run_all([predictions[name] for name in best], places)
    failed.update(("%s, prediction" % name, problem) for name, problem in more.items())
    return collections.OrderedDict((name, run.folder) for name, run in predictions.items()
                                   if run.name not in more), failed


def report(folders, values):
    """Prints and writes the table of the results in the folders."""
    results = [results_table.result_of(folder) for folder in folders.values()]
    results_table.write(results, values.work_dir)
    print("\n" + console.table(results_table.HEADS, results_table.rows_of(results)))


def pack(folders, values):
    """Packs the predictions in the folders of results into one zip."""
    paths = [os.path.join(folder, task_of(name).submission_in(
        data_of(name, values.data_dir, values.sample))) for name, folder in folders.items()]
    checked = []
    for name, path in zip(folders, paths):
        checked += submission.check([path], data_of(name, values.data_dir, values.sample))
    target = os.path.join(values.work_dir, "clue_submission.zip")
    gone = sorted(submission.names_in(target) - set(map(os.path.basename, paths)))
    if gone:
        say("WARNING: %s held %s of an earlier call, too; name all tasks in TASKS to have them in "
            "one zip: what is finished is not run again" % (target, ", ".join(gone)))
    submission.pack(paths, target)
    say("%s is written, checked and read back: %s" % (target, ", ".join(
        os.path.basename(path) for _, path, _ in checked)))


def main(_):
    # ---- everything that can be refused
    names = task_names(FLAGS.tasks)
    sweep = sweeps.parse(FLAGS.sweep) if FLAGS.sweep.strip() else None
    if not FLAGS.work_dir:
        raise UserError("--work_dir is missing: name a folder for the results")
    files.require_file(os.path.join(ROOT, os.path.basename(FLAGS.classifier)), "classifier")
    require_data(names, FLAGS.data_dir, FLAGS.sample)
    if FLAGS.prepare_only:
        return
    require_flags(names, FLAGS, sweep)  # now it is known which script the model needs

    # ---- runs
    files.make_dir(FLAGS.work_dir, "work_dir")
    places = devices(FLAGS.base_flag + FLAGS.flag)
    if sweep:
        folders, failed = run_sweeps(names, FLAGS, places, sweep)
    else:
        folders, failed = run_tasks(names, FLAGS, places)

    # ---- results
    if folders:
        report(folders, FLAGS)
        say("== submission")
        pack(folders, FLAGS)
    if failed:
        raise UserError("%d of the runs failed; the same command runs just these again:%s" % (
            len(failed), "".join("\n  %s: %s" % pair for pair in failed.items())))


if __name__ == "__main__":
    define_flags()
    errors.run(main)
