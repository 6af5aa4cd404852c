"""Which checkpoint is best: evaluates each once, remembers the results, names the best.

The results lie in `eval_results.json` of a run's folder, one row a checkpoint, known by its
content; a run that is repeated evaluates only what is new.
"""

import math
import os

import files
from errors import UserError

NAME = "eval_results.json"


def rank(row):
    """Returns what orders rows, the best first; equals go by the earlier step.

    Classifiers: the highest accuracy, then the lowest loss. Pre-training: the lowest masked LM
    loss. What has no finite loss comes last.
    """
    is_classifier = "eval_accuracy" in row
    loss = row["eval_loss" if is_classifier else "masked_lm_loss"]
    # Weights that are no numbers make every logit NaN, which counts as a guess of class 0.
    return (not math.isfinite(loss), -row["eval_accuracy"] if is_classifier else 0.0, loss,
            row["step"])


def best_of(rows):
    """Returns the best row."""
    return min(rows, key=rank)


def evaluate_each(folder, task, prefixes, data_key, evaluate_one):
    """Evaluates checkpoints that were not evaluated on these data before; writes all results.

    Args:
        folder: the run's folder.
        task: name written beside the results.
        prefixes: checkpoints, in the order of their steps.
        data_key: what identifies the evaluation data.
        evaluate_one: function from a prefix to its row, a dict of numbers with `step`.

    Returns:
        list of rows, one a prefix.
    """
    known = {(row["fingerprint"], row["data"]): row for row in recorded(folder)}
    rows = []
    for prefix in prefixes:
        fingerprint = files.fingerprint(prefix + ".index")
        row = known.get((fingerprint, data_key))
        if row is None:
            row = dict(evaluate_one(prefix), checkpoint=os.path.basename(prefix),
                       folder=os.path.dirname(prefix), fingerprint=fingerprint, data=data_key)
        rows.append(row)
        write(folder, task, rows)
    return rows


def write(folder, task, rows):
    """Writes the rows and the best of them."""
    files.write_json(os.path.join(folder, NAME), {
        "task": task, "best": best_of(rows), "checkpoints": rows})


def recorded(folder):
    """Returns the rows that earlier evaluations left in a folder; UserError when damaged."""
    path = os.path.join(folder, NAME)
    if not files.exists(path):
        return []
    results = files.read_json(path)
    rows = results.get("checkpoints") if isinstance(results, dict) else None
    if not (isinstance(rows, list) and all(
            isinstance(row, dict) and row.get("fingerprint") and "data" in row
            and {"eval_accuracy", "masked_lm_loss"} & set(row) for row in rows)):
        raise UserError("%s is damaged: move it away, evaluation writes it anew" % path)
    return rows


def recorded_best(folder, prefixes):
    """Returns the one of `prefixes` that was evaluated best, or None if none was."""
    by_content = {files.fingerprint(prefix + ".index"): prefix for prefix in prefixes}
    rows = [row for row in recorded(folder) if row["fingerprint"] in by_content]
    return by_content[best_of(rows)["fingerprint"]] if rows else None
