"""Prediction: the time of one pair and of many, beside HF transformers on the same texts.

    python benchmarks/inference.py
    python benchmarks/inference.py --variants=predictor,hf,hf_bfloat16 --calls=500

A call takes texts and returns class probabilities: tokenising, batching and the model are in it.
One pair is measured at several lengths, call after call, as a service meets it; then 1,000 pairs
of 7 to 61 tokens in one call. Weights are random: their values do not change the speed.

Lines of the table: this project's inference.Predictor on the TensorFlow of the Python that runs
this and on TensorFlow 1.15; the same model fed with batches of 64 padded to 128 tokens, which is
how the older releases predicted ("older code", on TensorFlow 1.15); and transformers with its
tokenizer in Rust, without padding for one pair, sorted by length for many, at the settings that
are the fastest here (PyTorch's fused attention or the plain one, all threads or one, the batch
size; for one pair and for many apart). Not tried: torch.compile, which compiles anew for each
length.

For transformers install requirements/hf.txt and requirements/bench.txt.
"""

import importlib.util
import itertools
import json
import os
import random
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)  # before this folder: the root has an inference.py too

import batching  # noqa: E402 - the project's modules lie one folder up
import errors  # noqa: E402
import files  # noqa: E402
import numpy as np  # noqa: E402
import side_by_side  # noqa: E402
from absl import flags  # noqa: E402
from side_by_side import BASELINE, HF, THIS, Measure, Reference, Variant  # noqa: E402

FLAGS = flags.FLAGS

LENGTHS = (16, 32, 64, 128)  # tokens of the one pair, [CLS] and both [SEP] among them
OLDER_LENGTH, OLDER_BATCH = 128, 64
SEED = 1
TUNING_CALLS, TUNING_PAIRS = 10, 200  # with which transformers' settings are tried

HF_KEYS = ("hf", "hf_bfloat16")
REFERENCES = [Reference("to older code", ("older",)), Reference("to HF's best", HF_KEYS)]

VARIANTS = [
    Variant("older", "older code: padded", BASELINE, {"role": "padded"}),
    Variant("predictor_older", "Predictor, TF 1.15", BASELINE, {"role": "predictor"}),
    Variant("predictor", "Predictor", THIS, {"role": "predictor"}),
    Variant("hf", HF + ", float32", THIS, {"role": "torch", "precision": "float32"}),
    Variant("hf_bfloat16", HF + ", bfloat16", THIS, {"role": "torch", "precision": "bfloat16"}),
]


def measures_of(lengths, pairs):
    """Returns the list of Measure for the lengths of one pair and the number of many."""
    return [Measure("p50_%d" % length, "One pair of %d tokens" % length, "ms", False,
                    (("p95_%d" % length, "95th percentile"),)) for length in lengths] + [
        Measure("many", "%s pairs in one call" % format(pairs, ","), "pairs/s", True, ())]


def define_flags():
    side_by_side.define_flags()
    side_by_side.define_config_flag()
    flags.DEFINE_list("lengths", [str(length) for length in LENGTHS], "Tokens of the one pair.")
    flags.DEFINE_integer("calls", 100, "Calls with one pair, a round and length.")
    flags.DEFINE_integer("pairs", 1000, "Pairs of the one large call.")


# ---------------------------------------------------------------------------------------------
# Texts and model: made once, read by all variants
# ---------------------------------------------------------------------------------------------

def make_texts(lengths, pairs):
    """Returns {"single": {length: pair}, "many": pairs}; a pair is a list of two strings."""
    generator = random.Random(SEED)

    def sentence(length):  # of common Chinese characters, each of which is one token
        return "".join(chr(0x4e00 + generator.randrange(2000)) for _ in range(length))

    def pair(length):
        half = (length - 3) // 2
        return [sentence(half), sentence(length - 3 - half)]

    many = [min(max(int(generator.gammavariate(6.0, 4.2)) + 3, 7), 61) for _ in range(pairs)]
    return {"single": {str(length): pair(length) for length in lengths},
            "many": [pair(length) for length in many]}


def _texts_path(folder):
    return os.path.join(folder, "texts.json")


def make_model(settings):
    """Writes the folder of a model with random weights, as benchmarks/similarity.py does."""
    # The file is loaded by its path: the root has a module of the same name.
    spec = importlib.util.spec_from_file_location(
        "similarity_benchmark", os.path.join(ROOT, "benchmarks", "similarity.py"))
    similarity_benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(similarity_benchmark)
    similarity_benchmark.make_random_model(settings["folder"], settings["config"])


# ---------------------------------------------------------------------------------------------
# The workers
# ---------------------------------------------------------------------------------------------

def prepare(settings):
    """Gets a worker ready; see side_by_side.serve."""
    if settings["role"] == "model":
        return {}, lambda: make_model(settings)
    prepare_one = {"predictor": prepare_predictor, "padded": prepare_padded,
                   "torch": prepare_torch}[settings["role"]]
    texts = files.read_json(_texts_path(settings["folder"]))
    about, single, many = prepare_one(settings, texts)

    def run_round(calls):
        values = {}
        for length, pair in texts["single"].items():
            times = [1e3 * side_by_side.seconds(single, [pair]) for _ in range(calls)]
            values["p50_" + length] = float(np.median(times))
            values["p95_" + length] = float(np.percentile(times, 95))
        values["many"] = len(texts["many"]) / side_by_side.seconds(many, texts["many"])
        return values

    run_round(min(settings["calls"], 10))  # the warm-up
    return about, lambda: run_round(settings["calls"])


def prepare_predictor(settings, texts):
    """This project's Predictor. Returns (about, call for one pair, call for many pairs)."""
    del texts
    import inference

    predictor = inference.Predictor(inference.read_folder(settings["folder"]))
    return _tensorflow_about(), predictor.probabilities, predictor.probabilities


def prepare_padded(settings, texts):
    """The same model on batches of one shape. Returns like `prepare_predictor`."""
    del texts
    import estimators
    import features
    import inference
    import runtime  # noqa: F401 - before TensorFlow

    import tensorflow.compat.v1 as tf
    model = inference.read_folder(settings["folder"])
    length = min(OLDER_LENGTH, model.config.max_position_embeddings)
    with tf.Graph().as_default():
        outputs = inference.build(model)
        session = tf.Session(config=estimators.session_config(
            side_by_side.run_settings("float32")))
        session.run(tf.global_variables_initializer())

    def call(pairs):
        results = []
        for start in range(0, len(pairs), OLDER_BATCH):
            rows = [features.featurise(example, None, model.tokenizer, length) for example in
                    inference.to_examples(pairs[start:start + OLDER_BATCH])]
            feeds = batching.padded([row["input_ids"] for row in rows],
                                    [row["segment_ids"] for row in rows], length)
            results.append(session.run(outputs.probabilities, dict(zip(outputs.inputs, feeds))))
        return np.concatenate(results)

    return side_by_side.tensorflow_about(session), call, call


def _tensorflow_about():
    import tensorflow.compat.v1 as tf
    with tf.Graph().as_default(), tf.Session() as session:
        return side_by_side.tensorflow_about(session)


def prepare_torch(settings, texts):
    """Transformers' tokenizer and AlbertForSequenceClassification, as `prepare_predictor`."""
    import torch
    transformers = side_by_side.import_transformers()
    config = files.read_json(settings["config"])
    tokenizer = transformers.BertTokenizerFast(os.path.join(settings["folder"], "vocab.txt"))
    models = {attention: side_by_side.hugging_face(
        config, "AlbertForSequenceClassification", attention).eval()
        for attention in ("sdpa", "eager")}
    threads = sorted({side_by_side.cores(), 1}, reverse=True)
    cut = {"truncation": True, "max_length": min(OLDER_LENGTH, config["max_position_embeddings"]),
           "return_tensors": "pt"}  # as Predictor cuts

    def compute(attention, inputs):
        with torch.inference_mode(), side_by_side.torch_precision(settings["precision"]):
            logits = models[attention](**inputs.to(side_by_side.torch_device())).logits
            return torch.softmax(logits.float(), -1).cpu().numpy()

    def single_call(chosen):
        attention, thread_count = chosen

        def call(pairs):
            torch.set_num_threads(thread_count)
            inputs = tokenizer(*map(list, zip(*pairs)), **cut)
            return compute(attention, inputs)
        return call

    def many_call(chosen):
        attention, thread_count, batch_size = chosen

        def call(pairs):
            torch.set_num_threads(thread_count)
            results = np.zeros([len(pairs), 2], np.float32)
            lengths = [len(first) + len(second) for first, second in pairs]  # in characters
            for group in batching.group_by_length(lengths, batch_size):
                inputs = tokenizer(
                    *map(list, zip(*[pairs[index] for index in group])), padding=True, **cut)
                results[group] = compute(attention, inputs)
            return results
        return call

    one = [list(texts["single"].values())[0]]

    def several(call):
        return lambda: [call(one) for _ in range(TUNING_CALLS)]

    best_single = side_by_side.fastest(
        list(itertools.product(models, threads)), lambda chosen: several(single_call(chosen)))
    best_many = side_by_side.fastest(
        list(itertools.product(models, threads, (16, 64))),
        lambda chosen: lambda: many_call(chosen)(texts["many"][:TUNING_PAIRS]))
    about = side_by_side.torch_about({"one pair": best_single, "many pairs": best_many})
    return about, single_call(best_single), many_call(best_many)


# ---------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------

def main(_):
    if FLAGS.worker:
        side_by_side.serve(prepare, json.loads(FLAGS.worker))
        return
    side_by_side.require_at_least_one(FLAGS, ("rounds", "calls", "pairs"))
    lengths = side_by_side.whole_numbers(FLAGS.lengths, "lengths", least=5)
    side_by_side.read_sizes(FLAGS.bert_config_file)
    chosen = side_by_side.choose(VARIANTS, FLAGS.variants)
    pythons = side_by_side.interpreters(FLAGS.baseline_python)
    files.make_dir(FLAGS.output_dir, "output_dir")
    facts = side_by_side.machine()
    with tempfile.TemporaryDirectory() as folder:
        common = {"config": FLAGS.bert_config_file, "folder": folder, "calls": FLAGS.calls}
        files.write_json(_texts_path(folder), make_texts(lengths, FLAGS.pairs))
        side_by_side.require_once(__file__, dict(common, role="model"))
        variants = [variant._replace(settings=dict(common, **variant.settings))
                    for variant in chosen]
        outcomes = side_by_side.measure(__file__, variants, pythons, FLAGS.rounds)
    facts.update(config=os.path.basename(FLAGS.bert_config_file), calls=FLAGS.calls,
                 rounds=FLAGS.rounds)
    side_by_side.report("inference", "Prediction", facts, outcomes,
                        measures_of(lengths, FLAGS.pairs), REFERENCES, FLAGS.output_dir)


if __name__ == "__main__":
    define_flags()
    errors.run(main)
