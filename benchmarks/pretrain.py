"""Pre-training: sequences a second and peak memory, beside HF transformers.

    python benchmarks/pretrain.py
    python benchmarks/pretrain.py --short_share=0.1

The records hold random ids, which cost as much as real ones. --short_share of them are of a random
shorter length, as create_pretraining_data.py makes them with --short_seq_prob; all others are full.
Masked words are 15 %.

Lines of the table: the graph of the older releases (older_graph.py) on TensorFlow 1.15, everything
padded, as they ran; this project, padded to --max_seq_length and by length, on TensorFlow 1.15 and
on the TensorFlow of the Python that runs this, in float32 and bfloat16; and transformers'
AlbertForPreTraining on the same batches of like length, with its head computed on the masked
positions only (its own forward scores every token), at the settings that are the fastest here (see
side_by_side.TorchTraining). All train with AdamW. Memory is the most that a fresh process holds
which does one round, libraries included; transformers has its leanest settings there.

For transformers install requirements/hf.txt and requirements/bench.txt.
"""

import functools
import itertools
import json
import os
import random
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import batching  # noqa: E402 - the project's modules lie one folder up
import errors  # noqa: E402
import files  # noqa: E402
import numpy as np  # noqa: E402
import side_by_side  # noqa: E402
from absl import flags  # noqa: E402
from console import say  # noqa: E402
from errors import UserError  # noqa: E402
from side_by_side import HF, THIS, Measure, Reference, Variant  # noqa: E402

FLAGS = flags.FLAGS

SEED = 1
MASKED_SHARE = 0.15
SHORTEST = 16  # tokens of a short record

MEASURES = [Measure("train", "Pre-training", "sequences/s", True, ()),
            Measure("memory", "Peak memory", "MiB", False, ())]
REFERENCES = [Reference("to older code", ("older",)), Reference("to padded", ("padded",)),
              Reference("to HF's best", ("hf", "hf_bfloat16"))]


def _theirs(key, precision):
    return Variant(key, "%s, %s" % (HF, precision), THIS, {"role": "torch",
                                                           "precision": precision})


VARIANTS = side_by_side.training_variants() + [
    _theirs("hf", "float32"),
    _theirs("hf_bfloat16", "bfloat16"),
]


def define_flags():
    side_by_side.define_flags()
    side_by_side.define_model_flags(batch_size=8, max_seq_length=512)
    flags.DEFINE_integer("records", 256, "Records that the batches are made of.")
    flags.DEFINE_integer("steps", 8, "Steps of a round.")
    flags.DEFINE_float("short_share", 0.1, "Share of the records that are shorter, 0 to 1.")


# ---------------------------------------------------------------------------------------------
# The records: made once, read by all variants
# ---------------------------------------------------------------------------------------------

def make_rows(count, length, vocab_size, short_share):
    """Invents pre-training records, padded to `length`, as dicts of records.PRETRAINING's fields.

    Args:
        short_share: share of the records that are of a random length from SHORTEST on.
    """
    generator = random.Random(SEED)
    predictions = predictions_of(length)
    rows = []
    for _ in range(count):
        real = length
        if generator.random() < short_share:
            real = generator.randint(min(SHORTEST, length), length)
        masked = predictions_of(real)
        rest, empty = [0] * (length - real), [0] * (predictions - masked)
        half = real // 2
        rows.append({
            "input_ids": [generator.randrange(vocab_size) for _ in range(real)] + rest,
            "input_mask": [1] * real + rest,
            "segment_ids": [0] * half + [1] * (real - half) + rest,
            "masked_lm_positions": sorted(generator.sample(range(real), masked)) + empty,
            "masked_lm_ids": [generator.randrange(vocab_size) for _ in range(masked)] + empty,
            "masked_lm_weights": [1.0] * masked + [0.0] * len(empty),
            "next_sentence_labels": [generator.randrange(2)]})
    return rows


def predictions_of(length):
    """Returns how many words of a text are masked."""
    return max(int(length * MASKED_SHARE), 1)


def _path(folder):
    return os.path.join(folder, "records.json")


# ---------------------------------------------------------------------------------------------
# The workers
# ---------------------------------------------------------------------------------------------

def prepare(settings):
    """Gets a worker ready; see side_by_side.serve."""
    prepare_one = {"tensorflow": prepare_tensorflow, "torch": prepare_torch}[settings["role"]]
    about, rate = prepare_one(settings, files.read_json(_path(settings["folder"])))
    if settings.get("memory_only"):
        return about, lambda: rate() and {"memory": side_by_side.peak_memory()}
    rate()  # the warm-up
    return about, lambda: {"train": rate()}


def prepare_tensorflow(settings, rows):
    """This project's input_fn and model_fn. Returns (about, function that returns the rate)."""
    import layouts
    import optimization
    import pretraining
    import records
    layout, config = layouts.read_config(settings["config"])
    sizes = {"sequence": settings["max_seq_length"],
             "predictions": predictions_of(settings["max_seq_length"])}
    schedule = pretraining.Schedule(
        "adamw", 1e-5, 10 ** 6, 0, 1.0, 0, (), optimization.AdamWeightDecayOptimizer.SLOT_NAMES)
    if settings["older"]:
        import older_graph
        model_fn = older_graph.pretraining_model_fn(config)
    else:
        model_fn = pretraining.model_fn_builder(config, layout.model_class, schedule)
    # A file of its own: the variants are prepared one after the other, but all stay alive.
    path = os.path.join(settings["folder"], "%d.tfrecord" % os.getpid())
    records.write(path, [records.encode(records.PRETRAINING, row) for row in rows])
    steps = side_by_side.Steps(
        pretraining.input_fn_builder([path], sizes, True, SEED,
                                     fixed_shapes=settings["padded"]),
        model_fn, settings["batch_size"], "train", settings["precision"])
    about = side_by_side.tensorflow_about(steps.session)
    if not settings.get("memory_only"):
        steps.rate(1)  # the first step would be nothing like the others
        about["profile"] = steps.profile()
    return about, lambda: steps.rate(settings["steps"])


def prepare_torch(settings, rows):
    """Transformers' AlbertForPreTraining. Returns (about, function that returns the rate)."""
    import torch  # noqa: F401 - said to be missing before anything else is
    model = functools.partial(side_by_side.hugging_face, files.read_json(settings["config"]),
                              "AlbertForPreTraining")
    order = batching.TrainingOrder([sum(row["input_mask"]) for row in rows],
                                   settings["batch_size"], SEED)
    numbers = itertools.count()

    def batch():
        return torch_batch([rows[place] for place in order.batch(next(numbers))])

    training = side_by_side.TorchTraining(model, masked_loss, settings["precision"], batch(),
                                          lean=bool(settings.get("memory_only")))
    return (side_by_side.torch_about(training.chosen), lambda: training.rate(
        (batch() for _ in range(settings["steps"])), True))


def torch_batch(rows):
    """Returns tensors of some records, cut to the longest of them.

    `places` are the masked positions of the batch, counted over all its tokens, and `words` what
    stands there: without the predictions that only fill up. No mask where nothing is padded.
    """
    longest = max(sum(row["input_mask"]) for row in rows)
    counts = [int(sum(row["masked_lm_weights"])) for row in rows]

    def tokens(name):
        return np.array([row[name][:longest] for row in rows])

    def masked(name, offset):
        return np.concatenate([np.array(row[name][:count]) + number * offset
                               for number, (row, count) in enumerate(zip(rows, counts))])

    arrays = {"input_ids": tokens("input_ids"), "token_type_ids": tokens("segment_ids"),
              "places": masked("masked_lm_positions", longest),
              "words": masked("masked_lm_ids", 0),
              "order": np.array([row["next_sentence_labels"][0] for row in rows])}
    if not tokens("input_mask").all():
        arrays["attention_mask"] = tokens("input_mask")
    return side_by_side.torch_tensors(arrays)


def masked_loss(model, batch):
    """The sum of both pre-training losses, the words' scores at masked positions only."""
    from torch.nn.functional import cross_entropy
    inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")
              if name in batch}
    outputs = model.albert(**inputs)
    vectors = outputs.last_hidden_state.flatten(0, 1).index_select(0, batch["places"])
    return (cross_entropy(model.predictions(vectors), batch["words"])
            + cross_entropy(model.sop_classifier(outputs.pooler_output), batch["order"]))


# ---------------------------------------------------------------------------------------------
# Memory, and the command line
# ---------------------------------------------------------------------------------------------

def add_memory(outcomes, pythons):
    """Adds to the rounds of each variant that ran the peak memory of a process of its own."""
    for outcome in outcomes:
        if outcome.problem:
            continue
        say("Memory: %s" % outcome.variant.name)
        try:
            _, values = side_by_side.run_once(
                __file__, dict(outcome.variant.settings, memory_only=True),
                pythons[outcome.variant.interpreter])
        except side_by_side.WorkerError as error:
            say("Not measured: %s" % error)
        else:
            outcome.rounds.append(values)


def main(_):
    if FLAGS.worker:
        side_by_side.serve(prepare, json.loads(FLAGS.worker))
        return
    side_by_side.require_at_least_one(FLAGS, ("rounds", "batch_size", "records", "steps"))
    if not 0.0 <= FLAGS.short_share <= 1.0:
        raise UserError("--short_share=%g: a share from 0 to 1 is needed" % FLAGS.short_share)
    config = side_by_side.read_sizes(FLAGS.bert_config_file, FLAGS.max_seq_length)
    chosen = side_by_side.choose(VARIANTS, FLAGS.variants)
    pythons = side_by_side.interpreters(FLAGS.baseline_python)
    files.make_dir(FLAGS.output_dir, "output_dir")
    facts = side_by_side.machine()
    with tempfile.TemporaryDirectory() as folder:
        common = {"config": FLAGS.bert_config_file, "folder": folder, "steps": FLAGS.steps,
                  "batch_size": FLAGS.batch_size, "max_seq_length": FLAGS.max_seq_length}
        files.write_json(_path(folder), make_rows(
            FLAGS.records, FLAGS.max_seq_length, config["vocab_size"],
            FLAGS.short_share))
        variants = [variant._replace(settings=dict(common, **variant.settings))
                    for variant in chosen]
        outcomes = side_by_side.measure(__file__, variants, pythons, FLAGS.rounds)
        add_memory(outcomes, pythons)
    facts["data"] = "%d records of random ids, %g %% of them shorter" % (
        FLAGS.records, 100 * FLAGS.short_share)
    facts.update(config=os.path.basename(FLAGS.bert_config_file), batch_size=FLAGS.batch_size,
                 max_seq_length=FLAGS.max_seq_length, steps=FLAGS.steps,
                 predictions=predictions_of(FLAGS.max_seq_length), rounds=FLAGS.rounds)
    side_by_side.report("pretrain", "Pre-training", facts, outcomes, MEASURES, REFERENCES,
                        FLAGS.output_dir)


if __name__ == "__main__":
    define_flags()
    errors.run(main)
