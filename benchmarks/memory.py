"""Peak memory of fine-tuning by configuration, length and batch, and the batch that fits a card.

    python benchmarks/memory.py
    python benchmarks/memory.py --configs=albert_config_base.json --recompute --card_gb=24

Every cell is a fresh process that does --steps training steps on random examples without padding;
its figure is the most memory the process held (getrusage), libraries included. With --recompute
every cell is measured a second time with recomputation of the layers. HF transformers on PyTorch
stands beside, where it is installed; it is not needed (--nohf).

From the cells of a configuration and length, `memory = a + b * batch` is fitted (least squares),
and from that the largest batch of a card with --card_gb computed. This is a PREDICTION FROM
MEASUREMENTS ON A CPU: a GPU's libraries, its work space and its allocator take other amounts. To
measure on a GPU: run_classifier.py there with rising --train_batch_size until it is out of memory.
"""

import collections
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import errors  # noqa: E402 - the project's modules lie one folder up
import files  # noqa: E402
import heads  # noqa: E402
import plots  # noqa: E402
import side_by_side  # noqa: E402
from absl import flags  # noqa: E402
from console import say  # noqa: E402
from errors import UserError  # noqa: E402
from side_by_side import number  # noqa: E402

FLAGS = flags.FLAGS

OURS, RECOMPUTED, HF = "this project", "recomputed", side_by_side.HF
COLOURS = {OURS: plots.BLUE, RECOMPUTED: plots.ORANGE, HF: plots.GREY}
MIB_PER_GB = 1024.0  # cards are named in units of 2 ** 30 bytes

Cell = collections.namedtuple("Cell", ["config", "length", "batch", "kind"])
Cell.__doc__ = """What is measured.

config: path of a configuration; length: tokens; batch: examples; kind: OURS, RECOMPUTED or HF."""

Line = collections.namedtuple("Line", ["start", "per_example"])
Line.__doc__ = "memory = start + per_example * batch, in MiB."


def define_flags():
    flags.DEFINE_list("configs", ["albert_config_tiny.json", "albert_config_base.json"],
                      "Configurations: names in albert_config/ or paths.")
    flags.DEFINE_list("lengths", ["128", "256", "512"], "Tokens of an example.")
    flags.DEFINE_list("batches", ["2", "4", "8"], "Examples of a step: two numbers at least.")
    flags.DEFINE_integer("steps", 2, "Training steps of a cell.")
    flags.DEFINE_bool("recompute", False, "Measure with recomputation too.")
    flags.DEFINE_bool("hf", True, "Measure HF transformers too.")
    flags.DEFINE_float("card_gb", 12.0, "Memory of the card to predict for.")
    flags.DEFINE_string("output_dir", "benchmark_output", "Folder for the table (.md, .json) and "
                        "the picture (.png).")
    flags.DEFINE_string("worker", None, "Set by the benchmark itself, for its workers.")


# ---------------------------------------------------------------------------------------------
# The workers: one for each cell
# ---------------------------------------------------------------------------------------------

def prepare(settings):
    """Gets a worker ready; see side_by_side.serve."""
    train = _train_tensorflow
    if settings["kind"] == HF:
        import torch  # noqa: F401 - said to be missing before anything starts
        train = _train_torch

    def run_round():
        runtime = train(settings)
        return {"memory": side_by_side.peak_memory(), "runtime": runtime}

    return {}, run_round


def _train_tensorflow(settings):
    """Does the steps on this project; returns what it ran on."""
    import classifier
    import layouts

    import tensorflow.compat.v1 as tf
    layout, config = layouts.read_config(settings["config"])
    recipe = classifier.Recipe(1e-5, 10 ** 6, 0, None)
    # Given where it is wanted only: the numbers are those of a plain run otherwise.
    changes = {"recompute": True} if settings["kind"] == RECOMPUTED else {}

    def input_fn(params):
        shape = [params["batch_size"], settings["length"]]
        ids = tf.random.uniform(shape, maxval=config.vocab_size, dtype=tf.int32, seed=1)
        ones, zeros = tf.ones(shape, tf.int32), tf.zeros(shape, tf.int32)
        return tf.data.Dataset.from_tensors({
            "input_ids": ids, "input_mask": ones, "segment_ids": zeros,
            "label_ids": zeros[:, 0], "is_real_example": ones[:, 0],
            "row": tf.range(shape[0])}).repeat()

    steps = side_by_side.Steps(
        input_fn, classifier.model_fn_builder(config, layout.model_class,
                                              heads.ClassifierHead(2, True), recipe, **changes),
        settings["batch"], "train")
    steps.rate(settings["steps"])
    return side_by_side.tensorflow_about(steps.session)["runtime"]


def _train_torch(settings):
    """Does the steps on transformers; returns what it ran on."""
    import torch
    model = side_by_side.hugging_face(files.read_json(settings["config"]),
                                      "AlbertForSequenceClassification", "sdpa")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids = torch.randint(0, model.config.vocab_size, [settings["batch"], settings["length"]],
                        device=side_by_side.torch_device())
    for _ in range(settings["steps"]):
        model(input_ids=ids, labels=ids[:, 0] % 2).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return side_by_side.torch_about({})["runtime"]


# ---------------------------------------------------------------------------------------------
# The cells, and what follows from them
# ---------------------------------------------------------------------------------------------

def measure(cells, steps, run_cell):
    """Measures cells, one after the other.

    Args:
        cells: list of Cell.
        run_cell: function of a worker's settings that returns its values, or raises WorkerError.

    Returns:
        ({Cell: MiB}, {kind: what it ran on, or why it could not}). A kind that fails is left out
        from there on, where its first cell already failed.
    """
    found, runtimes = collections.OrderedDict(), collections.OrderedDict()
    failed = set()
    for place, cell in enumerate(cells, start=1):
        if cell.kind in failed:
            continue
        name = "%s, %s, length %d, batch %d" % (
            cell.kind, os.path.basename(cell.config), cell.length, cell.batch)
        say("Cell %d of %d: %s" % (place, len(cells), name))
        try:
            values = run_cell(dict(cell._asdict(), steps=steps))
        except side_by_side.WorkerError as error:
            say("Not measured: %s: %s" % (name, error))
            if cell.kind not in runtimes:
                failed.add(cell.kind)
                runtimes[cell.kind] = "not run: %s" % error
            continue
        found[cell] = values["memory"]
        runtimes[cell.kind] = values["runtime"]
    return found, runtimes


def fit(points):
    """Returns the Line nearest to points (batch, MiB) by least squares; None for fewer than two.

    fit([(2, 500.0), (4, 700.0)]) == Line(300.0, 100.0)
    """
    count = len(points)
    if count < 2:
        return None
    mean_x = sum(x for x, _ in points) / float(count)
    mean_y = sum(y for _, y in points) / float(count)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return Line(mean_y - slope * mean_x, slope)


def largest_batch(line, card_mib):
    """Returns the most examples for which a Line stays within a card's memory; None: no telling."""
    if line is None or line.per_example <= 0:
        return None
    return max(int((card_mib - line.start) / line.per_example), 0)


def cell_rows(found, kinds):
    """Returns the table of cells, the header first: a line for each configuration, length, batch.

    With HF measured, its memory in units of this project's stands last.
    """
    rows = [["configuration", "length", "batch"] + ["%s, MiB" % kind for kind in kinds]]
    rows[0] += ["%s, times %s" % (kind, OURS) for kind in kinds[1:]]
    for place in _places(found, ("config", "length", "batch")):
        values = [found.get(Cell(*place, kind=kind)) for kind in kinds]
        row = [_short(place[0]), str(place[1]), str(place[2])]
        row += ["-" if value is None else number(value) for value in values]
        rows.append(row + ["-" if None in (value, values[0]) else "%.2fx" % (value / values[0])
                           for value in values[1:]])
    return rows


def batch_rows(found, kinds, card_gb):
    """Returns the table of predicted largest batches, the header first."""
    rows = [["configuration", "length"] + list(kinds)]
    for config, length in _places(found, ("config", "length")):
        batches = [largest_batch(fit(points_of(found, config, length, kind)),
                                 card_gb * MIB_PER_GB) for kind in kinds]
        rows.append([_short(config), str(length)] + [
            "-" if batch is None else format(batch, ",") for batch in batches])
    return rows


def points_of(found, config, length, kind):
    """Returns [(batch, MiB)] of the cells of one line, by batch."""
    return sorted((cell.batch, memory) for cell, memory in found.items()
                  if (cell.config, cell.length, cell.kind) == (config, length, kind))


def _places(found, fields):
    """Returns the different values of some fields of the cells, in the order of the cells."""
    return list(collections.OrderedDict.fromkeys(
        tuple(getattr(cell, name) for name in fields) for cell in found))


def _short(config):
    name = os.path.splitext(os.path.basename(config))[0]
    return name.replace("albert_config_", "")


def draw(found, kinds, path):
    """Draws memory over the batch, a panel for each configuration and length.

    Returns:
        True if the picture was drawn.
    """
    if not plots.is_available():
        return False
    from matplotlib.ticker import MaxNLocator
    places = _places(found, ("config", "length"))
    columns = min(len(places), 3)
    lines = -(-len(places) // columns)
    font, names = plots.spell([_short(config) for config, _ in places])
    with plots.canvas(path, 3.2 * columns, 2.5 * lines + 0.4, font) as figure:
        figure.suptitle("Peak memory, MiB (CPU)", x=0.01, ha="left", fontsize=11)
        for place, (config, length) in enumerate(places):
            axes = figure.add_subplot(lines, columns, place + 1)
            axes.set_title("%s, length %d" % (names[place], length))
            axes.grid(True, axis="y")
            for kind in kinds:
                points = points_of(found, config, length, kind)
                if points:
                    axes.plot(*zip(*points), color=COLOURS[kind], marker="o", label=kind)
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.set_xlabel("batch")
            axes.legend(loc="best")
    return True


# ---------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------

def find_config(name):
    """Returns the path of a configuration: the file itself, or that of albert_config/."""
    inside = os.path.join(ROOT, "albert_config", name)
    return name if os.path.exists(name) or not os.path.exists(inside) else inside


def report(found, runtimes, facts, card_gb, output_dir):
    """Prints and saves the tables and the picture."""
    kinds = [kind for kind in runtimes if any(cell.kind == kind for cell in found)]
    conditions = collections.OrderedDict([("command", side_by_side.command_line())])
    conditions.update(facts)
    conditions.update((kind, runtime) for kind, runtime in runtimes.items())
    tables = [
        ("Peak memory, measured on this machine", cell_rows(found, kinds)),
        ("Largest batch for %g GB, predicted from these cells (measured on a CPU: a GPU's own "
         "figures differ)" % card_gb, batch_rows(found, kinds, card_gb))]
    title = "Memory of fine-tuning"
    side_by_side.print_tables(title, conditions, tables)
    path = os.path.join(output_dir, "memory")
    cells = [dict(cell._asdict(), config=_short(cell.config), mib=memory)
             for cell, memory in found.items()]
    side_by_side.save(path, title, conditions, tables, {"cells": cells},
                      lambda picture: draw(found, kinds, picture))


def main(_):
    if FLAGS.worker:
        side_by_side.serve(prepare, json.loads(FLAGS.worker))
        return
    side_by_side.require_at_least_one(FLAGS, ("steps",))
    lengths = side_by_side.whole_numbers(FLAGS.lengths, "lengths", least=1)
    batches = side_by_side.whole_numbers(FLAGS.batches, "batches", least=1)
    if len(batches) < 2:
        raise UserError("--batches: two different numbers at least are needed, for a line")
    if not FLAGS.card_gb > 0:
        raise UserError("--card_gb=%g: a number above 0 is needed" % FLAGS.card_gb)
    configs = [find_config(name) for name in FLAGS.configs]
    for config in configs:
        side_by_side.read_sizes(config, max(lengths), "configs")
    files.make_dir(FLAGS.output_dir, "output_dir")
    kinds = [OURS] + [RECOMPUTED] * FLAGS.recompute + [HF] * FLAGS.hf
    cells = [Cell(config, length, batch, kind) for config in configs for length in lengths
             for batch in batches for kind in kinds]
    facts = side_by_side.machine()
    found, runtimes = measure(
        cells, FLAGS.steps, lambda settings: side_by_side.run_once(__file__, settings)[1])
    if not found:
        raise UserError("no cell could be measured: %s" % "; ".join(runtimes.values()))
    report(found, runtimes, facts, FLAGS.card_gb, FLAGS.output_dir)


if __name__ == "__main__":
    define_flags()
    errors.run(main)
