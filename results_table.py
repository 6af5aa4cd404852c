"""Prints one table of finished fine-tuning runs, with published scores beside them; or writes it.

python results_table.py --runs=afqmc_output,tnews_output
python results_table.py --runs=afqmc_output,tnews_output --output_dir=.
"""

import collections
import os

import errors
import files
from absl import flags
from console import table
from errors import UserError

FLAGS = flags.FLAGS

Result = collections.namedtuple("Result", [
    "task", "metric", "dev_score", "best_step", "seconds", "folder"])
Result.__doc__ = """The best checkpoint of a run.

metric: what dev_score is, "accuracy" or "F1"; dev_score: 0 to 1; seconds: of the run, None where
it was not recorded; folder: of the run."""

Published = collections.namedtuple("Published", ["model", "dev", "test", "source"])
Published.__doc__ = """A published score in per cent, None where none is known to us."""

_CLUE = "https://www.cluebenchmarks.com and the release notes of albert_zh"
_NOTES = "the release notes of albert_zh"
TINY, BERT = "ALBERT tiny (albert_zh)", "BERT-base"

# Only what stands in README, with its source; what we know no number of stays empty.
PUBLISHED = {
    "afqmc": (Published(TINY, 69.13, 69.92, _CLUE), Published(BERT, None, 73.70, _CLUE)),
    "tnews": (Published(TINY, 53.55, 53.35, _CLUE), Published(BERT, None, 56.58, _CLUE)),
    "iflytek": (Published(TINY, 48.76, 48.71, _CLUE + "; batch 32, rate 2e-5, 10 epochs"),
                Published(BERT, None, 60.29, _CLUE)),
    "cmnli": (Published(TINY, 70.26, 70.61, _CLUE), Published(BERT, None, 79.69, _CLUE)),
    "wsc": (Published(TINY, None, 58.5, _CLUE),),
    "csl": (Published(TINY, None, 74.56, _CLUE + "; length 256, batch 4"),
            Published(BERT, None, 80.36, _CLUE)),
    "lcqmc": (Published(TINY, None, 85.4, _NOTES), Published(BERT, 89.4, 86.9, _NOTES)),
    "xnli": (Published(BERT, 77.8, 77.8, _NOTES),),
}

HEADS = ("task", "metric", "dev score", "best step", "seconds", "published dev, %",
         "published test, %", "model published")


def result_of(folder):
    """Returns the Result of a run's folder.

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
        if "masked_lm_loss" in best:
            raise UserError("%s is of pre-training, which has no score for this table" % folder)
        metric, key = ("F1", "eval_f1") if "eval_f1" in best else ("accuracy", "eval_accuracy")
        return Result(evaluated["task"], metric, 0.0 + best[key], best["step"],
                      0.0 + record["seconds"] if "seconds" in record else None, folder)
    except (KeyError, TypeError) as error:
        raise UserError("%s or %s is damaged (%s): move it away and evaluate again"
                        % (results, record_path, error)) from error


def rows_of(results):
    """Returns the table's rows, strings: a result, then what else is published of its task."""
    rows = []
    for result in results:
        cells = [result.task, result.metric, "%.4f" % result.dev_score, str(result.best_step),
                 "-" if result.seconds is None else "%.0f" % result.seconds]
        for published in PUBLISHED.get(result.task, (None,)):
            rows.append(cells + (["", "", ""] if published is None else [
                _percent(published.dev), _percent(published.test), published.model]))
            cells = [""] * len(cells)
    return rows


def _percent(value):
    return "" if value is None else "%.2f" % value


def markdown(heads, rows):
    """Returns a table in Markdown."""
    return "".join("| %s |\n" % " | ".join(str(cell) for cell in row)
                   for row in [heads, ["---"] * len(heads)] + list(rows))


def write(results, folder):
    """Writes results.md and results.json."""
    sources = ["- %s, %s: %s" % (result.task, published.model, published.source)
               for result in results for published in PUBLISHED.get(result.task, ())]
    text = markdown(HEADS, rows_of(results))
    if sources:
        text += "\nSources of the published scores:\n\n%s\n" % "\n".join(sources)
    files.write_text(os.path.join(folder, "results.md"), text)
    files.write_json(os.path.join(folder, "results.json"), [
        dict(result._asdict(), published=[
            published._asdict() for published in PUBLISHED.get(result.task, ())])
        for result in results])


def main(_):
    if not FLAGS.runs:
        raise UserError("--runs is missing: name the output folders, comma-separated")
    results = [result_of(folder) for folder in FLAGS.runs.split(",") if folder]
    print(table(HEADS, rows_of(results)))
    if FLAGS.output_dir:
        files.make_dir(FLAGS.output_dir, "output_dir")
        write(results, FLAGS.output_dir)


if __name__ == "__main__":
    flags.DEFINE_string("runs", None, "Output folders of fine-tuning scripts, comma-separated.")
    flags.DEFINE_string("output_dir", None, "Folder for results.md and results.json.")
    errors.run(main)
