"""Sweeps: grids of hyper-parameters and seeds, their mean scores and deviations, the choice on dev.

Plain Python: what is here decides which runs there are and which of them is best; clue_runs.py
runs them.
"""

import collections
import itertools
import math
import re

from errors import UserError

SEED = "random_seed"

# What the scripts that sweep set themselves, or what no score can choose between.
_NOT_TO_SWEEP = ("task_name", "data_dir", "output_dir", "do_train", "do_eval", "do_predict",
                 "predict_checkpoint", "save_checkpoints_steps", "keep_checkpoint_max")

Sweep = collections.namedtuple("Sweep", ["settings", "seeds"])
Sweep.__doc__ = """A grid.

settings: list of tuples of pairs (flag, value), strings; seeds: list of strings, at least one."""

Summary = collections.namedtuple("Summary", ["setting", "scores", "mean", "deviation"])
Summary.__doc__ = """A setting's scores over the seeds.

scores: list of 0 to 1, None of a run that failed; mean, deviation (of a sample, with n - 1): None
where a run failed, the deviation also where there is one seed only."""


def parse(text):
    """Reads "learning_rate=2e-5,6e-5 seed=1,2,3".

    Returns:
        Sweep; without seeds, that of one run with the scripts' own.

    Raises:
        UserError: names the part at fault.
    """
    values = collections.OrderedDict()
    for part in text.split():
        match = re.fullmatch(r"(\w+)=([^=]+)", part)
        if not match:
            raise UserError('SWEEP: "%s" must be name=value,value,..., such as '
                            "learning_rate=2e-5,6e-5 seed=1,2,3" % part)
        name = SEED if match.group(1) == "seed" else match.group(1)
        found = match.group(2).split(",")
        if name in values:
            raise UserError('SWEEP: "%s" comes twice' % name)
        if name in _NOT_TO_SWEEP:
            raise UserError('SWEEP: "%s" is none of the settings to choose between' % name)
        for value in found:
            if not re.fullmatch(r"[\w.+-]+", value):
                raise UserError('SWEEP: %s="%s": a number or a word is expected' % (name, value))
            if name == SEED and not value.isdigit():
                raise UserError('SWEEP: seed="%s": a whole number is expected' % value)
        if len(set(found)) < len(found):
            raise UserError('SWEEP: a value of "%s" comes twice' % name)
        values[name] = found
    if not values:
        raise UserError("SWEEP is empty: give name=value,value,...")
    seeds = values.pop(SEED, [None])
    names = list(values)
    return Sweep([tuple(zip(names, chosen)) for chosen in itertools.product(*values.values())],
                 seeds)


def flags_of(setting, seed):
    """Returns a run's flags: flags_of((("learning_rate", "2e-5"),), "1") ==
    ["--learning_rate=2e-5", "--random_seed=1"]."""
    pairs = list(setting) + ([(SEED, seed)] if seed is not None else [])
    return ["--%s=%s" % pair for pair in pairs]


def folder_name(setting, seed):
    """Returns the name of a run's folder: "learning_rate-2e-5_seed-1"."""
    parts = ["%s-%s" % pair for pair in setting]
    if seed is not None:
        parts.append("seed-%s" % seed)
    return "_".join(parts) or "run"


def title(setting):
    """Returns a setting as it stands in tables: "learning_rate=2e-5"."""
    return " ".join("%s=%s" % pair for pair in setting) or "published settings"


def summarise(setting, scores):
    """Returns the Summary of a setting. scores: one a seed, None where the run failed."""
    if any(score is None or not math.isfinite(score) for score in scores):
        return Summary(setting, scores, None, None)
    mean = sum(scores) / len(scores)
    deviation = None
    if len(scores) > 1:
        deviation = math.sqrt(sum((score - mean) ** 2 for score in scores) / (len(scores) - 1))
    return Summary(setting, scores, mean, deviation)


def choose(summaries):
    """Returns (index of the best setting, index of its best seed), or None where all failed.

    The best has the highest mean over all seeds, the earlier one of equals; a setting of which a
    run failed is out of the choice, for its mean would be that of other seeds.
    """
    complete = [place for place, one in enumerate(summaries) if one.mean is not None]
    if not complete:
        return None
    best = max(complete, key=lambda place: (summaries[place].mean, -place))
    scores = summaries[best].scores
    return best, max(range(len(scores)), key=lambda seed: (scores[seed], -seed))


def rows_of(task, metric, summaries, chosen):
    """Returns rows for a table: task, setting, metric, mean, deviation, scores, "best" or ""."""
    return [[task, title(one.setting), metric,
             "-" if one.mean is None else "%.4f" % one.mean,
             "-" if one.deviation is None else "%.4f" % one.deviation,
             " ".join("failed" if score is None else "%.4f" % score for score in one.scores),
             "best" if chosen and chosen[0] == place else ""]
            for place, one in enumerate(summaries)]


HEADS = ("task", "setting", "metric", "mean", "deviation", "each seed", "")
