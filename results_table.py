"""Prints one table of finished fine-tuning runs: task, dev accuracy, best step, seconds.

python results_table.py --runs=afqmc_output,tnews_output
"""

import os

import errors
import files
from absl import flags
from console import table
from errors import UserError

FLAGS = flags.FLAGS


def row_of(folder):
    """Returns [task, dev accuracy, best step, seconds] of a run's folder as strings.

    Raises:
        UserError: the folder holds no evaluated run.
    """
    results = os.path.join(folder, "eval_results.json")
    if not files.exists(results):
        raise UserError("%s holds no eval_results.json: run run_classifier.py with --do_eval first"
                        % folder)
    evaluated = files.read_json(results)
    record_path = os.path.join(folder, "run.json")
    record = files.read_json(record_path) if files.exists(record_path) else {}
    if isinstance(evaluated, dict) and evaluated.get("best", True) is None:
        raise UserError("%s: the evaluation was interrupted; give the same command with --do_eval "
                        "again" % folder)
    try:
        best = evaluated["best"]
        return [evaluated["task"], "%.4f" % best["eval_accuracy"], best["step"],
                "%.0f" % record["seconds"] if "seconds" in record else "-"]
    except (KeyError, TypeError) as error:
        raise UserError("%s or %s is damaged (%s): move it away and evaluate again"
                        % (results, record_path, error)) from error


def main(_):
    if not FLAGS.runs:
        raise UserError("--runs is missing: name the output folders, comma-separated")
    rows = [row_of(folder) for folder in FLAGS.runs.split(",") if folder]
    print(table(["task", "dev accuracy", "best step", "seconds"], rows))


if __name__ == "__main__":
    flags.DEFINE_string("runs", None, "Output folders of run_classifier.py, comma-separated.")
    errors.run(main)
