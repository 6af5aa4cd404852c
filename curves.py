"""The curves of a run: read from the event files in its folder, drawn as curves.png beside them.

    python curves.py --output_dir=afqmc_output

reads them at any time, during the training too. Event files are TensorBoard's: what training and
evaluation wrote there can be looked at with `tensorboard --logdir` as well.
"""

import collections
import os
import re

import files
import plots
import runtime  # noqa: F401 - before TensorFlow
from absl import flags
from console import say
from errors import UserError

import tensorflow.compat.v1 as tf

NAME = "curves.png"

_Point = collections.namedtuple("_Point", ["tag", "step", "value", "time"])
# From here a training went on, at this time: what was written before of later steps is undone.
_Restart = collections.namedtuple("_Restart", ["step", "time", "tag"])


# ---------------------------------------------------------------------------------------------
# Event files
# ---------------------------------------------------------------------------------------------

def event_files(folder):
    """Returns the event files of a folder in the order in which they were begun."""
    names = files.list_dir(folder) if files.is_dir(folder) else []
    begun = {name: re.match(r"events\.out\.tfevents\.(\d+)", name) for name in names}
    found = sorted((int(match.group(1)), name) for name, match in begun.items() if match)
    return [os.path.join(folder, name) for _, name in found]


def _events(path):
    """Yields the events of a file up to its end, or to where a killed run left it cut short."""
    try:
        for event in tf.train.summary_iterator(path):
            yield event
    except tf.errors.DataLossError:
        return


def _scalar(value):
    """Returns the number of a summary value, or None where it is no single number."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return value.simple_value
    if kind == "tensor":
        array = tf.make_ndarray(value.tensor)
        if array.size == 1 and array.dtype.kind in "fiu":
            return float(array.reshape(-1)[0])
    return None


def _read_file(path, restarts=None):
    """Returns the points of an event file.

    Args:
        restarts: list to which the file's restarts are added; None: it is of no training.
    """
    points, first_steps, told = [], {}, False
    for event in _events(path):
        # The hook that saves checkpoints notes one as soon as a training begins or goes on.
        if event.HasField("session_log") and restarts is not None and not told:
            told = True
            restarts.append(_Restart(event.step, event.wall_time, None))
        for value in event.summary.value:
            number = _scalar(value)
            if number is None:
                continue
            points.append(_Point(value.tag, event.step, number, event.wall_time))
            if restarts is not None and value.tag not in first_steps:
                first_steps[value.tag] = event.step
                restarts.append(_Restart(event.step, event.wall_time, value.tag))
    return points


def _series(points, restarts):
    """Returns {tag: [(step, value), ...]} without undone points; of a step the later one stays."""
    series, relevant = collections.OrderedDict(), {}
    for point in points:
        if point.tag not in relevant:
            relevant[point.tag] = [restart for restart in restarts
                                   if restart.tag in (None, point.tag)]
        if not any(restart.time > point.time and restart.step < point.step
                   for restart in relevant[point.tag]):
            series.setdefault(point.tag, {})[point.step] = point.value
    return collections.OrderedDict(
        (tag, sorted(values.items())) for tag, values in series.items())


# ---------------------------------------------------------------------------------------------
# A run's folder
# ---------------------------------------------------------------------------------------------

def read(output_dir):
    """Reads the scalars that a run's training and evaluations wrote.

    A run that was stopped leaves several files. Where it went on from a checkpoint before its last
    point, the points after that checkpoint are dropped, of training and of evaluations; of a step
    that is there twice, the later file counts.

    Args:
        output_dir: the folder of the run; its evaluations lie in or below its folder `eval`.

    Returns:
        ordered dict {tag: [(step, value), ...]}, steps ascending. The evaluations' tags come last,
        as "eval X" for a metric named X or eval_X.
    """
    restarts, trained, evaluated = [], [], []
    for path in event_files(output_dir):
        trained.extend(_read_file(path, restarts))
    for folder in _evaluation_folders(output_dir):
        for path in event_files(folder):
            evaluated.extend(_read_file(path))
    series = _series(trained, restarts)
    of_whole_run = [restart for restart in restarts if restart.tag is None]
    series.update(_named_as_evaluation(_series(evaluated, of_whole_run)))
    return series


def _evaluation_folders(output_dir):
    """Returns the folders where an Estimator's evaluations may have written."""
    top = os.path.join(output_dir, "eval")
    names = files.list_dir(top) if files.is_dir(top) else []
    return [top] + [os.path.join(top, name) for name in names]


def _named_as_evaluation(series):
    """Renames X and eval_X to "eval X"; where both are there, the script's own eval_X counts."""
    renamed = collections.OrderedDict()
    for tag, points in series.items():
        own = tag.startswith("eval_")
        name = plots.EVALUATION + (tag[len("eval_"):] if own else tag)
        if own or name not in renamed:
            renamed[name] = points
    return renamed


def draw(output_dir):
    """Draws the curves of a run as `<output_dir>/curves.png` and says where they are.

    Returns:
        True if the picture was drawn; False without event files, or without matplotlib.
    """
    series = read(output_dir)
    if not series:
        say("no curves drawn: %s holds no event files with scalars" % output_dir)
        return False
    return _draw_series(series, output_dir)


def _draw_series(series, output_dir):
    path = os.path.join(output_dir, NAME)
    drawn = plots.curves(series, path, title=os.path.basename(os.path.abspath(output_dir)))
    if drawn:
        say("Curves: %s" % path)
    return drawn


def main(_):
    output_dir = flags.FLAGS.output_dir
    if not output_dir:
        raise UserError("--output_dir is missing: name the folder of a run")
    if not files.is_dir(output_dir):
        raise UserError("--output_dir=%s is no folder" % output_dir)
    series = read(output_dir)
    if not series:
        raise UserError("--output_dir=%s holds no event files with scalars: name the folder of a "
                        "run that was trained or evaluated" % output_dir)
    _draw_series(series, output_dir)


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", None, "Folder of a run; curves.png is written there.")
    runtime.run(main)
