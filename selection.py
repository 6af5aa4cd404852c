"""Which checkpoint is best: evaluates each once, remembers the results, names the best.

The results lie in `eval_results.json` of a run's folder, one row a checkpoint, known by its
content; a run that is repeated evaluates only what is new.
"""

import math
import os

import checkpoints
import files
from console import say
from errors import UserError

NAME = "eval_results.json"


def rank(row):
    """Returns what orders rows, the best first; equals go by the earlier step.

    Spans in texts: the highest F1, then the lowest loss; classifiers: the highest accuracy, then
    the lowest loss. Pre-training: the lowest masked LM loss. What has no finite loss comes last.
    """
    score = next((row[name] for name in ("eval_f1", "eval_accuracy") if name in row), 0.0)
    loss = row["eval_loss"] if "eval_loss" in row else row["masked_lm_loss"]
    # Weights that are no numbers make every logit NaN, which counts as a guess of class 0.
    return not math.isfinite(loss), -score, loss, row["step"]


def best_of(rows):
    """Returns the best row."""
    return min(rows, key=rank)


def evaluate_each(folder, task, prefixes, data_key, evaluate_one):
    """Evaluates checkpoints that were not evaluated on these data before; writes all results.

    Only when all are evaluated do the results replace those of another call: one that is
    interrupted keeps what it has done and changes nothing in what counts as the best.

    Args:
        folder: the run's folder.
        task: name written beside the results.
        prefixes: checkpoints, in the order of their steps.
        data_key: what identifies the evaluation data.
        evaluate_one: function from a prefix to its row, a dict of numbers with `step`.

    Returns:
        list of rows, one a prefix.
    """
    earlier = _read(folder)
    known = {(row["fingerprint"], row["data"]): row for row in earlier["checkpoints"]}
    rows = []
    for prefix in prefixes:
        fingerprint = files.fingerprint(prefix + ".index")
        row = known.get((fingerprint, data_key))
        if row is None:
            row = dict(evaluate_one(prefix), checkpoint=os.path.basename(prefix),
                       folder=os.path.dirname(prefix), fingerprint=fingerprint, data=data_key)
            known[fingerprint, data_key] = row
            _write(folder, dict(earlier, task=task, checkpoints=list(known.values())))
        rows.append(row)
    _write(folder, {"task": task, "data": data_key, "best": best_of(rows), "checkpoints": rows})
    return rows


def _write(folder, results):
    files.write_json(os.path.join(folder, NAME), results)


def _read(folder):
    """Returns what earlier evaluations left in a folder; UserError when it is damaged.

    data: the evaluation data of the last call that came to its end, None before; checkpoints: the
    rows of all.
    """
    path = os.path.join(folder, NAME)
    if not files.exists(path):
        return {"task": None, "data": None, "best": None, "checkpoints": []}
    results = files.read_json(path)
    rows = results.get("checkpoints") if isinstance(results, dict) else None
    if not (isinstance(rows, list) and "data" in results and all(
            isinstance(row, dict) and row.get("fingerprint") and {"data", "step"} <= set(row)
            and any(keys <= set(row) for keys in _SCORES) for row in rows)):
        raise UserError("%s is damaged: move it away, evaluation writes it anew" % path)
    return results


_SCORES = ({"eval_accuracy", "eval_loss"}, {"eval_f1", "eval_loss"}, {"masked_lm_loss"})


def recorded(folder):
    """Returns the rows of the last evaluation that came to its end; UserError when damaged."""
    results = _read(folder)
    return [row for row in results["checkpoints"] if row["data"] == results["data"]]


def recorded_best(folder, prefixes):
    """Returns the one of `prefixes` that was evaluated best, or None if none was.

    Says so when the folder's run went on after that evaluation.
    """
    by_content = {files.fingerprint(prefix + ".index"): prefix for prefix in prefixes}
    rows = [row for row in recorded(folder) if row["fingerprint"] in by_content]
    if not rows:
        return None
    evaluated = {row["fingerprint"] for row in rows}
    later = [prefix for content, prefix in by_content.items() if content not in evaluated
             and checkpoints.step_in_name(prefix) > max(row["step"] for row in rows)]
    if later:
        say("WARNING: checkpoints of %s that were saved after its evaluation are passed over, such "
            "as %s; --do_eval evaluates them" % (folder, os.path.basename(later[-1])))
    return by_content[best_of(rows)["fingerprint"]]


def choose(path, flag):
    """Returns the checkpoint that a user means: of a folder, the best evaluated one, else the last.

    Args:
        path: checkpoint or folder; flag: the flag that names it.

    Raises:
        UserError: there is none.
    """
    if path and files.is_dir(path):
        return (recorded_best(path, checkpoints.prefixes_in(path))
                or checkpoints.resolve(path, flag))
    return checkpoints.resolve(path, flag)
