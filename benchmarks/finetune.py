"""Fine-tuning and evaluation of sentence pairs: examples a second, beside HF transformers.

    python benchmarks/finetune.py
    python benchmarks/finetune.py --variants=older,bfloat16,hf_bucketed_bfloat16 --rounds=7

The pairs are those of LCQMC where they lie in --data_dir, else random ones of 7 to 61 tokens,
about as long as LCQMC's (the table says which). Every variant computes the same examples; weights
are random, since their values do not change the speed.

Lines of the table: the graph of the older releases (older_graph.py) on TensorFlow 1.15, everything
padded, as they ran; this project, padded to --max_seq_length and by length, on TensorFlow 1.15 and
on the TensorFlow of the Python that runs this, in float32 and bfloat16; and transformers, padded
to the longest of a batch and with batches of like length, at the settings that are the fastest
here (see side_by_side.TorchTraining). A padded batch always takes as long, so a round of those
variants is only --padded_steps batches. A round of the others is --steps batches of training, drawn
from all examples and going on where the last round ended, and one evaluation of all examples.

Counted is the step with its input, without saving checkpoints. The texts are tokenised before. A
last table shows, for this project, which share of a step it waits for its input, and which share
of the operations' time matrix products take (a few steps under TensorFlow's tracer).
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
import heads  # noqa: E402
import side_by_side  # noqa: E402
from absl import flags  # noqa: E402
from side_by_side import HF, THIS, Measure, Reference, Variant  # noqa: E402

FLAGS = flags.FLAGS

SHORTEST, LONGEST = 7, 61  # tokens of random pairs
SEED = 1

MEASURES = [Measure("train", "Training", "examples/s", True, ()),
            Measure("evaluate", "Evaluation", "examples/s", True, ())]
HF_KEYS = ("hf_padded", "hf_bucketed", "hf_bucketed_bfloat16")
REFERENCES = [Reference("to older code", ("older",)), Reference("to padded", ("padded",)),
              Reference("to HF's best", HF_KEYS)]


def _theirs(key, name, bucketed, precision="float32"):
    return Variant(key, "%s, %s" % (HF, name), THIS, {
        "role": "torch", "bucketed": bucketed, "precision": precision})


VARIANTS = side_by_side.training_variants() + [
    _theirs("hf_padded", "to the longest, float32", False),
    _theirs("hf_bucketed", "by length, float32", True),
    _theirs("hf_bucketed_bfloat16", "by length, bfloat16", True, "bfloat16"),
]


def define_flags():
    side_by_side.define_flags()
    side_by_side.define_model_flags(batch_size=64, max_seq_length=128)
    shared = os.environ.get("ALBERT_ZH_SHARED_DATA",
                            os.path.join(os.path.dirname(ROOT), "shared", "data"))
    flags.DEFINE_string("data_dir", os.path.join(shared, "lcqmc"), "Folder with LCQMC's train.txt "
                        "or train.tsv.")
    flags.DEFINE_string("vocab_file", os.path.join(ROOT, "albert_config", "vocab.txt"),
                        "Vocabulary that LCQMC is tokenised with.")
    flags.DEFINE_integer("examples", 6800, "Pairs that batches are drawn from.")
    flags.DEFINE_integer("steps", 40, "Training steps of a round.")
    flags.DEFINE_integer("padded_steps", 4, "Steps of a round of the padded variants.")


# ---------------------------------------------------------------------------------------------
# The examples: made once, read by all variants
# ---------------------------------------------------------------------------------------------

def make_examples(settings):
    """Writes the examples as JSON and as records.

    Args:
        settings: {"data_dir", "vocab_file", "vocab_size", "max_seq_length", "examples": numbers
            and paths of the flags; "folder": where to write}.

    Returns:
        what the data are, in words.
    """
    import features
    import records
    source = _lcqmc_rows if _has_lcqmc(settings["data_dir"]) else _random_rows
    rows, what = source(settings, features)
    files.write_json(_json_path(settings["folder"]), rows)
    records.write(_records_path(settings["folder"]),
                  [records.encode(records.CLASSIFICATION, row) for row in rows])
    lengths = [len(row["input_ids"]) for row in rows]
    return "%s; %.1f tokens on average, %d at most" % (
        what, sum(lengths) / len(lengths), max(lengths))


def _json_path(folder):
    return os.path.join(folder, "examples.json")


def _records_path(folder):
    return os.path.join(folder, "examples.tf_record")


def _has_lcqmc(folder):
    return any(files.exists(os.path.join(folder, name)) for name in ("train.txt", "train.tsv"))


def _lcqmc_rows(settings, features):
    import tasks
    import tokenization
    task = tasks.get("lcqmc")
    tokenizer = tokenization.from_file(settings["vocab_file"])
    tokenization.require_fits(tokenizer, settings["vocab_size"])
    examples = task.read(settings["data_dir"], "train")
    # From all over the file; more than once where it is too short.
    stride = max(len(examples) // settings["examples"], 1)
    rows = [features.featurise(examples[number * stride % len(examples)], task.labels, tokenizer,
                               settings["max_seq_length"])
            for number in range(settings["examples"])]
    return rows, "%d of %d pairs of LCQMC (train)" % (len(rows), len(examples))


def _random_rows(settings, features):
    del features
    generator = random.Random(SEED)
    rows = []
    for _ in range(settings["examples"]):
        # LCQMC's lengths: most pairs short, a long tail.
        length = int(generator.gammavariate(6.0, 4.2)) + 3
        length = min(max(length, SHORTEST), LONGEST, settings["max_seq_length"])
        ids = [generator.randrange(settings["vocab_size"]) for _ in range(length)]
        half = length // 2
        rows.append({"input_ids": ids, "input_mask": [1] * length,
                     "segment_ids": [0] * half + [1] * (length - half),
                     "label_ids": [generator.randrange(2)], "is_real_example": [1]})
    return rows, "%d random pairs, no LCQMC in --data_dir" % len(rows)


# ---------------------------------------------------------------------------------------------
# The workers
# ---------------------------------------------------------------------------------------------

def prepare(settings):
    """Gets a worker ready; see side_by_side.serve."""
    roles = {"examples": prepare_examples, "tensorflow": prepare_tensorflow,
             "torch": prepare_torch}
    return roles[settings["role"]](settings)


def prepare_examples(settings):
    return {}, lambda: {"data": make_examples(settings)}


def prepare_tensorflow(settings):
    """This project's input_fn and model_fn."""
    import classifier
    import features
    import layouts
    layout, config = layouts.read_config(settings["config"])
    head, recipe = heads.ClassifierHead(2, True), classifier.Recipe(1e-5, 10 ** 6, 0, None)
    split = features.Split(_records_path(settings["folder"]), "", range(settings["examples"]))
    padded, batch_size = settings["padded"], settings["batch_size"]
    if settings["older"]:
        import older_graph
        model_fn = older_graph.classifier_model_fn(config)
    else:
        model_fn = classifier.model_fn_builder(config, layout.model_class, head, recipe)

    def steps(mode):
        return side_by_side.Steps(
            features.input_fn_builder(split, settings["max_seq_length"], mode == "train",
                                      random_seed=SEED, fixed_shapes=padded),
            model_fn, batch_size, mode, settings["precision"])

    training = steps("train")
    evaluation = steps("evaluate" if settings["older"] else "predict")
    most = settings["padded_steps"] if padded else None

    def run_round():
        evaluation.restart()
        return {"train": training.rate(most or settings["steps"]),
                "evaluate": evaluation.rate(most)}

    run_round()  # the warm-up: nearly every length of a batch is met
    about = dict(side_by_side.tensorflow_about(training.session), profile=training.profile())
    return about, run_round


def prepare_torch(settings):
    """Transformers' AlbertForSequenceClassification."""
    import torch  # noqa: F401 - said to be missing before anything else is
    rows = files.read_json(_json_path(settings["folder"]))
    order = Batches(rows, settings["batch_size"], settings["bucketed"])
    batches = order.of_training()
    model = functools.partial(
        side_by_side.hugging_face, files.read_json(settings["config"]),
        "AlbertForSequenceClassification", classifier_dropout_prob=0.1)
    training = side_by_side.TorchTraining(
        model, lambda model, batch: model(**batch).loss, settings["precision"],
        order.tensors(order.middle()))

    def run_round():
        some = itertools.islice(batches, settings["steps"])
        return {"train": training.rate(map(order.tensors, some), True),
                "evaluate": training.rate(map(order.tensors, order.by_length()), False)}

    run_round()
    return side_by_side.torch_about(training.chosen), run_round


class Batches(object):
    """Batches for transformers: the very order that this project has, or a plain shuffled one."""

    def __init__(self, rows, batch_size, bucketed):
        """Binds the parts.

        Args:
            rows: list of examples as `make_examples` writes them.
            bucketed: batches of like length, else as they come.
        """
        self._rows, self._size, self._bucketed = rows, batch_size, bucketed
        self._lengths = [len(row["input_ids"]) for row in rows]

    def of_training(self):
        """Yields batches of training without end, lists of indexes."""
        order = batching.TrainingOrder(self._lengths, self._size, SEED)
        generator, of_an_epoch = random.Random(SEED), max(len(self._rows) // self._size, 1)
        for done in itertools.count():
            if self._bucketed:
                yield list(order.batch(done))
                continue
            if done % of_an_epoch == 0:
                places = generator.sample(range(len(self._rows)), len(self._rows))
            start = done % of_an_epoch * self._size
            yield places[start:start + self._size]

    def by_length(self):
        """Returns the batches of an evaluation: sorted by length where bucketed."""
        if self._bucketed:
            return batching.group_by_length(self._lengths, self._size)
        return [list(range(start, min(start + self._size, len(self._rows))))
                for start in range(0, len(self._rows), self._size)]

    def middle(self):
        """Returns a batch of medium length."""
        groups = batching.group_by_length(self._lengths, self._size)
        return groups[len(groups) // 2]

    def tensors(self, indexes):
        """Returns a batch as transformers' model takes it."""
        rows = [self._rows[index] for index in indexes]
        inputs = batching.padded([row["input_ids"] for row in rows],
                                 [row["segment_ids"] for row in rows])
        tensors = side_by_side.torch_tensors({
            "input_ids": inputs.input_ids, "token_type_ids": inputs.segment_ids,
            "attention_mask": inputs.input_mask})
        labels = [row["label_ids"][0] for row in rows]
        return dict(tensors, labels=tensors["input_ids"].new_tensor(labels))


# ---------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------

def main(_):
    if FLAGS.worker:
        side_by_side.serve(prepare, json.loads(FLAGS.worker))
        return
    side_by_side.require_at_least_one(
        FLAGS, ("rounds", "batch_size", "examples", "steps", "padded_steps"))
    config = side_by_side.read_sizes(FLAGS.bert_config_file, FLAGS.max_seq_length)
    chosen = side_by_side.choose(VARIANTS, FLAGS.variants)
    pythons = side_by_side.interpreters(FLAGS.baseline_python)
    files.require_file(FLAGS.vocab_file, "vocab_file")
    files.make_dir(FLAGS.output_dir, "output_dir")
    facts = side_by_side.machine()
    with tempfile.TemporaryDirectory() as folder:
        common = {"config": FLAGS.bert_config_file, "folder": folder, "examples": FLAGS.examples,
                  "batch_size": FLAGS.batch_size, "max_seq_length": FLAGS.max_seq_length,
                  "steps": FLAGS.steps, "padded_steps": FLAGS.padded_steps}
        facts["data"] = side_by_side.require_once(__file__, dict(
            common, role="examples", data_dir=FLAGS.data_dir, vocab_file=FLAGS.vocab_file,
            vocab_size=config["vocab_size"]))["data"]
        variants = [variant._replace(settings=dict(common, **variant.settings))
                    for variant in chosen]
        outcomes = side_by_side.measure(__file__, variants, pythons, FLAGS.rounds)
    facts.update(config=os.path.basename(FLAGS.bert_config_file), batch_size=FLAGS.batch_size,
                 max_seq_length=FLAGS.max_seq_length, rounds=FLAGS.rounds)
    side_by_side.report("finetune", "Fine-tuning sentence pairs", facts, outcomes, MEASURES,
                        REFERENCES, FLAGS.output_dir)


if __name__ == "__main__":
    define_flags()
    errors.run(main)
