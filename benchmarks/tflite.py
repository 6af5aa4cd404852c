"""Exported models: latency by length and threads, memory, size, agreement with TensorFlow.

    python benchmarks/tflite.py
    python benchmarks/tflite.py --model_dir=lcqmc_output --pairs_file=lcqmc/dev.txt

A call takes ids and returns class probabilities of one pair; tokenising is not in it. Lines of the
table: TensorFlow's session on the frozen graph, TensorFlow Lite (LiteRT) with each type of numbers,
its models taking any length or a fixed one, and ONNX Runtime. Each runs in a process of its own
that loads no other runtime, so memory is what an application would need for it, Python included;
with fixed lengths there are as many models in it as lengths.

Agreement is of real pairs, of --pairs_file or the sample in data/. Without --model_dir the weights
are random: their values do not change the speed, but agreement then says little.

Needs requirements/export.txt; where a package of it is missing, a line says so.
"""

import importlib.util
import itertools
import json
import os
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)  # before this folder: the root has an inference.py too

import errors  # noqa: E402 - the project's modules lie one folder up
import files  # noqa: E402
import numpy as np  # noqa: E402
import side_by_side  # noqa: E402
from absl import flags  # noqa: E402
from errors import UserError  # noqa: E402
from side_by_side import THIS, Measure, Reference, Variant  # noqa: E402

FLAGS = flags.FLAGS

LENGTHS = (16, 32, 64, 128)  # tokens of the one pair, [CLS] and both [SEP] among them
THREADS = (1, 2)
PAIRS = os.path.join(ROOT, "data", "clue_sample", "lcqmc", "dev.txt")
NAMES = ("input_ids", "input_mask", "segment_ids")

KINDS = [  # key, name, role, file; %d: the length that the model takes
    ("tensorflow", "TensorFlow", "tensorflow", "model.pb"),
    ("float32", "TFLite float32", "tflite", "model_float32.tflite"),
    ("float32_fixed", "TFLite float32, fixed length", "tflite", "model_float32_%d.tflite"),
    ("float16", "TFLite float16", "tflite", "model_float16.tflite"),
    ("int8_activations", "TFLite int8_activations", "tflite",
     "model_int8_activations.tflite"),
    ("int8_dynamic", "TFLite int8_dynamic, by weights", "tflite", "model_int8_dynamic.tflite"),
    ("int8_dynamic_fixed", "TFLite int8_dynamic, fixed length", "tflite",
     "model_int8_dynamic_%d.tflite"),
    ("int8", "TFLite int8", "tflite", "model_int8.tflite"),
    ("onnx", "ONNX Runtime float32", "onnx", "model.onnx"),
    ("onnx_int8", "ONNX Runtime int8", "onnx", "model_int8.onnx"),
]


def variants_of(threads):
    """Returns the list of Variant: each kind with each number of threads."""
    return [Variant("%s_%d" % (key, count), "%s, %d thread%s" % (name, count, "s" * (count > 1)),
                    THIS, {"role": role, "file": name_of_file, "threads": count, "kind": key})
            for (key, name, role, name_of_file), count in itertools.product(KINDS, threads)]


def measures_of(lengths):
    return [Measure("p50_%d" % length, "One pair of %d tokens" % length, "ms", False,
                    (("p95_%d" % length, "95th percentile"),)) for length in lengths] + [
        Measure("memory", "Peak memory of the process", "MiB", False, ())]


def define_flags():
    side_by_side.define_flags()
    side_by_side.define_config_flag()
    flags.DEFINE_string("model_dir", None, "Folder of a fine-tuned model; none: random weights.")
    flags.DEFINE_string("pairs_file", PAIRS, "Pairs to compare decisions on, one a line, a tab "
                        "between them.")
    flags.DEFINE_list("lengths", [str(length) for length in LENGTHS], "Tokens of the one pair.")
    flags.DEFINE_list("threads", [str(count) for count in THREADS], "Threads of an operation.")
    flags.DEFINE_integer("calls", 30, "Calls with one pair, a round and length.")
    flags.DEFINE_integer("pairs", 300, "Pairs that agreement is measured on, at most.")


# ---------------------------------------------------------------------------------------------
# The models, made once
# ---------------------------------------------------------------------------------------------

def make_models(settings):
    """Exports the model in all kinds, and writes inputs and the model's own answers."""
    import export_model
    import exported_graph
    import inference
    import onnx_export
    import tensorflow_export
    import tflite_export
    import verification

    folder, source = settings["folder"], settings["model_dir"]
    if source is None:
        source = os.path.join(folder, "random")
        os.makedirs(source, exist_ok=True)
        _make_random_model(source, settings["config"])
    prefix = export_model.find_source(source).prefix
    model = inference.read_folder(os.path.dirname(prefix) or ".", ckpt_name=prefix)
    head = exported_graph.choose_head(model)
    if head.name != "classifier":
        raise UserError("--model_dir=%s has no classifier: fine-tune the model first" % source)
    most = model.config.max_position_embeddings
    pairs = verification.read_texts(settings["pairs_file"], "pairs_file", settings["pairs"])
    batches = [{name: batch[name][row:row + 1, :int(batch["input_mask"][row].sum())]
                for name in NAMES}
               for batch in verification.to_batches(model, head, pairs, min(128, most))
               for row in range(len(batch["input_mask"]))]
    expected = np.concatenate(verification.expected_outputs(model, head, batches))
    arrays = {"%s_%d" % (name, number): batch[name]
              for number, batch in enumerate(batches) for name in NAMES}
    np.savez(os.path.join(folder, "pairs.npz"), expected=expected, **arrays)

    def put(name, content):
        with files.atomic_write(os.path.join(folder, name)) as stream:
            stream.write(content)

    wanted = set(settings["files"])
    graphs = {length: exported_graph.freeze(model, head, length)
              for length in [None] + settings["lengths"]}
    tensorflow_export.write_frozen(graphs[None], os.path.join(folder, "model.pb"))
    for numbers, length in itertools.product(tflite_export.TYPES, [None] + settings["lengths"]):
        name = "model_%s%s.tflite" % (numbers, "_%d" if length else "")
        if name not in wanted:
            continue
        content = tflite_export.convert(graphs[length], numbers, batches[:40],
                                        float_products=numbers == "int8_dynamic")
        put(name % length if length else name, content)
    if wanted & {"model.onnx", "model_int8.onnx"} and _has_onnx():
        path = os.path.join(folder, "model.onnx")
        onnx_export.write(graphs[None], path)
        onnx_export.quantise(path, os.path.join(folder, "model_int8.onnx"))
    return {}


def _has_onnx():
    return all(importlib.util.find_spec(name) for name in ("tf2onnx", "onnx", "onnxruntime"))


def _make_random_model(folder, config):
    # The file is loaded by its path: the root has a module of the same name.
    spec = importlib.util.spec_from_file_location(
        "similarity_benchmark", os.path.join(ROOT, "benchmarks", "similarity.py"))
    similarity_benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(similarity_benchmark)
    similarity_benchmark.make_random_model(folder, config)


# ---------------------------------------------------------------------------------------------
# The workers
# ---------------------------------------------------------------------------------------------

def prepare(settings):
    """Gets a worker ready; see side_by_side.serve."""
    if settings["role"] == "models":
        return {}, lambda: make_models(settings)
    start = {"tensorflow": start_tensorflow, "tflite": start_tflite, "onnx": start_onnx}[
        settings["role"]]
    loaded, about = {}, {}

    def model_for(length):
        name = settings["file"] % length if "%d" in settings["file"] else settings["file"]
        if name not in loaded:
            loaded[name], about["runtime"] = start(os.path.join(settings["folder"], name),
                                                   settings["threads"])
            about["bytes"] = os.path.getsize(os.path.join(settings["folder"], name))
        return loaded[name]

    generator = np.random.RandomState(1)
    inputs = {length: _one_pair(generator, length, settings["vocab_size"])
              for length in settings["lengths"]}
    for length, feeds in inputs.items():
        for _ in range(3):  # the warm-up
            model_for(length)(feeds)
    if settings["compares"] and "%d" not in settings["file"]:
        about.update(_agreement(model_for(None), settings["folder"]))

    def run_round():
        values = {}
        for length, feeds in inputs.items():
            model = model_for(length)
            model(feeds)  # a new length has memory allocated
            times = [1e3 * side_by_side.seconds(model, feeds) for _ in range(settings["calls"])]
            values["p50_%d" % length] = float(np.median(times))
            values["p95_%d" % length] = float(np.percentile(times, 95))
        return dict(values, memory=side_by_side.peak_memory())

    return about, run_round


def _one_pair(generator, length, vocab_size):
    ids = generator.randint(min(670, vocab_size // 2), min(7992, vocab_size), size=[1, length])
    segments = (np.arange(length) >= length // 2).astype(np.int32)[np.newaxis]
    return {"input_ids": ids.astype(np.int32), "input_mask": np.ones([1, length], np.int32),
            "segment_ids": segments}


def _agreement(model, folder):
    """Returns how a model's probabilities compare with those of the checkpoint's graph."""
    data = np.load(os.path.join(folder, "pairs.npz"))
    expected = data["expected"]
    found = np.concatenate([
        model({name: data["%s_%d" % (name, number)] for name in NAMES})
        for number in range(len(expected))])
    return {"difference": float(np.abs(found - expected).max()), "pairs": len(expected),
            "equal": float((found.argmax(1) == expected.argmax(1)).mean())}


def start_tensorflow(path, threads):
    """Returns (function of {input name: array}, name of the runtime)."""
    import runtime  # noqa: F401 - before TensorFlow

    import tensorflow.compat.v1 as tf
    graph_def = tf.GraphDef()
    with files.open_binary(path) as stream:
        graph_def.ParseFromString(stream.read())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    session = tf.Session(graph=graph, config=tf.ConfigProto(intra_op_parallelism_threads=threads,
                                                            inter_op_parallelism_threads=1))
    call = session.make_callable("probabilities:0", [name + ":0" for name in NAMES])
    return (lambda feeds: call(*(feeds[name] for name in NAMES))), "TensorFlow " + tf.__version__


def start_tflite(path, threads):
    """As `start_tensorflow`, with LiteRT."""
    from importlib import metadata

    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=path, num_threads=threads)
    inputs = {detail["name"].split(":")[0]: detail["index"]
              for detail in interpreter.get_input_details()}
    output, allocated = interpreter.get_output_details()[0]["index"], []

    def call(feeds):
        shape = feeds["input_ids"].shape
        if allocated != [shape]:
            for name in NAMES:
                interpreter.resize_tensor_input(inputs[name], shape)
            interpreter.allocate_tensors()
            allocated[:] = [shape]
        for name in NAMES:
            interpreter.set_tensor(inputs[name], feeds[name])
        interpreter.invoke()
        return interpreter.get_tensor(output)

    return call, "LiteRT " + metadata.version("ai-edge-litert")


def start_onnx(path, threads):
    """As `start_tensorflow`, with ONNX Runtime."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return (lambda feeds: session.run(None, feeds)[0]), "ONNX Runtime " + onnxruntime.__version__


# ---------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------

def agreement_rows(outcomes):
    """Returns the rows of the table of sizes and agreement, a row for each kind of file."""
    rows = [["variant", "size, MB", "largest difference", "equal decisions", "pairs"]]
    seen = set()
    for outcome in outcomes:
        kind = outcome.variant.settings["kind"]
        if outcome.problem or kind in seen or "bytes" not in outcome.about:
            continue
        seen.add(kind)
        about = outcome.about
        rows.append([outcome.variant.name.rsplit(",", 1)[0], "%.1f" % (about["bytes"] / 1e6)] + (
            ["%.1e" % about["difference"], "%.2f %%" % (100 * about["equal"]), about["pairs"]]
            if "equal" in about else ["-", "-", "-"]))
    return rows


def main(_):
    if FLAGS.worker:
        side_by_side.serve(prepare, json.loads(FLAGS.worker))
        return
    side_by_side.require_at_least_one(FLAGS, ("rounds", "calls", "pairs"))
    lengths = side_by_side.whole_numbers(FLAGS.lengths, "lengths", least=5)
    threads = side_by_side.whole_numbers(FLAGS.threads, "threads", least=1)
    config = FLAGS.bert_config_file
    if FLAGS.model_dir:
        if not files.is_dir(FLAGS.model_dir):
            raise UserError("--model_dir=%s is no folder" % FLAGS.model_dir)
        config = _config_of(FLAGS.model_dir)
    sizes = side_by_side.read_sizes(config, max(lengths))
    files.require_file(FLAGS.pairs_file, "pairs_file")
    chosen = side_by_side.choose(variants_of(threads), FLAGS.variants)
    files.make_dir(FLAGS.output_dir, "output_dir")
    facts = side_by_side.machine()
    with tempfile.TemporaryDirectory() as folder:
        common = {"config": config, "folder": folder, "calls": FLAGS.calls, "lengths": lengths,
                  "vocab_size": sizes["vocab_size"]}
        side_by_side.require_once(__file__, dict(
            common, role="models", model_dir=FLAGS.model_dir, pairs=FLAGS.pairs,
            pairs_file=FLAGS.pairs_file,
            files=[variant.settings["file"] for variant in chosen]))
        # One number of threads suffices for what a file computes.
        variants = [variant._replace(settings=dict(
            common, compares=variant.settings["threads"] == threads[0], **variant.settings))
            for variant in chosen]
        outcomes = side_by_side.measure(
            __file__, variants, side_by_side.interpreters(FLAGS.baseline_python), FLAGS.rounds)
    facts.update(config=os.path.basename(config), calls=FLAGS.calls, rounds=FLAGS.rounds)
    references = [Reference("to TensorFlow", tuple("tensorflow_%d" % count for count in threads))]
    side_by_side.report("tflite", "Exported models", facts, outcomes, measures_of(lengths),
                        references, FLAGS.output_dir,
                        [("Size and agreement with the checkpoint", agreement_rows(outcomes))])


def _config_of(folder):
    """Returns the path of the configuration in a model's folder, without TensorFlow."""
    names = [name for name in files.list_dir(folder) if "config" in name and name.endswith(".json")
             and "hidden_size" in files.read_json(os.path.join(folder, name))]
    if not names:
        raise UserError("--model_dir=%s holds no configuration (*config*.json)" % folder)
    return os.path.join(folder, names[0])


if __name__ == "__main__":
    define_flags()
    errors.run(main)
