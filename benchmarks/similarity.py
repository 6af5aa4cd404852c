"""How fast are sentence pairs compared? This project beside a model built anew for each call.

    python benchmarks/similarity.py
    python benchmarks/similarity.py --model_dir=albert_lcqmc_checkpoints --calls=200

Without --model_dir the tiny configuration with random weights is measured: their values do not
change the speed. The start does not count the import of TensorFlow. Prints one table to standard
output.
"""

import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import files
import heads
import inference
import layouts
import numpy as np
import runtime
from absl import flags
from console import say, table
from errors import UserError

import tensorflow.compat.v1 as tf

FLAGS = flags.FLAGS
LENGTH = 32  # tokens of the one pair, with [CLS] and both [SEP]
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def define_flags():
    flags.DEFINE_string("model_dir", None, "Folder of a fine-tuned model; none: random weights.")
    flags.DEFINE_string("config_name", os.path.join(ROOT, "albert_config",
                                                    "albert_config_tiny.json"),
                        "Configuration of the model with random weights.")
    flags.DEFINE_integer("calls", 300, "Calls with one pair.")
    flags.DEFINE_integer("rebuilt_calls", 10, "Calls that build the model anew.")
    flags.DEFINE_integer("pairs", 1000, "Pairs of the one large call.")
    flags.DEFINE_integer("batch_size", 128, "Pairs computed at once, at most.")
    flags.DEFINE_integer("most_tokens", None, "Tokens computed at once; none: the usual.")
    flags.DEFINE_integer("num_threads", None, "Threads of an operation; none: the usual.")


def make_random_model(folder, config_path, num_threads=None):
    """Writes a folder with a two-class model of random weights."""
    layout, config = layouts.read_config(config_path, flag="config_name")
    shapes = heads.classifier_variable_shapes(config, layout.model_class, 2)
    # The first session of a process decides on the threads of all later ones.
    threads = inference.threads_for(config) if num_threads is None else num_threads
    settings = tf.ConfigProto(intra_op_parallelism_threads=threads)
    with tf.Graph().as_default(), tf.Session(config=settings) as session:
        variables = [tf.get_variable(name, shape) for name, shape in shapes.items()]
        session.run(tf.global_variables_initializer())
        tf.train.Saver(variables).save(session, os.path.join(folder, "model.ckpt"),
                                       write_meta_graph=False, write_state=False)
    files.copy(config_path, os.path.join(folder, "albert_config.json"))
    files.copy(os.path.join(ROOT, "albert_config", "vocab.txt"), os.path.join(folder, "vocab.txt"))


def sentence(generator, length):
    """Returns a sentence of common Chinese characters, each of which is one token."""
    return "".join(chr(0x4e00 + number) for number in generator.randint(0, 2000, size=length))


def make_pairs(count):
    """Returns pairs of 8 to 60 tokens, as questions come: most of them short."""
    generator = np.random.RandomState(1)
    lengths = np.clip(generator.gamma(6.0, 2.0, size=[count, 2]).astype(int), 2, 29)
    return [(sentence(generator, a), sentence(generator, b)) for a, b in lengths]


def milliseconds(function, calls):
    """Returns the time of each call."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - start))
    return np.array(times)


def measure(folder, flag_values):
    """Returns {name: [start-up in s, median, 95th percentile, ms a pair of many]}."""
    settings = {"num_threads": flag_values.num_threads, "most_tokens": flag_values.most_tokens,
                "batch_size": flag_values.batch_size}
    half = (LENGTH - 3) // 2
    generator = np.random.RandomState(0)
    one = [(sentence(generator, half), sentence(generator, LENGTH - 3 - half))]
    many = make_pairs(flag_values.pairs)

    say("Starting, then %d calls with one pair, one with %d" % (flag_values.calls, len(many)))
    start = time.perf_counter()
    model = inference.read_folder(folder)
    predictor = inference.Predictor(model, **settings)
    predictor.warm_up()
    start_up = time.perf_counter() - start
    with predictor:
        for _ in range(10):
            predictor.probabilities(one)
        single = milliseconds(lambda: predictor.probabilities(one), flag_values.calls)
        large = milliseconds(lambda: predictor.probabilities(many), 3)

    def rebuild(pairs):
        with inference.Predictor(model, **settings) as fresh:
            fresh.probabilities(pairs)

    say("Building the model anew for each of %d calls" % flag_values.rebuilt_calls)
    rebuilt = milliseconds(lambda: rebuild(one), flag_values.rebuilt_calls)
    return {"held ready": [start_up, np.median(single), np.percentile(single, 95),
                           np.median(large) / len(many)],
            "built for each call": [None, np.median(rebuilt), np.percentile(rebuilt, 95),
                                    np.median(rebuilt)]}


def main(_):
    for name in ("calls", "rebuilt_calls", "pairs", "batch_size"):
        if getattr(FLAGS, name) < 1:
            raise UserError("--%s=%d: at least 1 is needed" % (name, getattr(FLAGS, name)))
    with tempfile.TemporaryDirectory() as folder:
        if FLAGS.model_dir is None:
            make_random_model(folder, FLAGS.config_name, FLAGS.num_threads)
        rows = measure(FLAGS.model_dir or folder, FLAGS)
    print("TensorFlow %s, %d CPUs, one pair of %d tokens; %d pairs in one call, 8 to 60 tokens" % (
        tf.__version__, os.cpu_count(), LENGTH, FLAGS.pairs))
    header = ["model", "start-up s", "one pair: median ms", "95th percentile ms",
              "many pairs: ms a pair"]
    lines = [[name] + ["-" if value is None else "%.2f" % value for value in row]
             for name, row in rows.items()]
    held, rebuilt = rows["held ready"], rows["built for each call"]
    lines.append(["times faster", "-"] + ["%.0f" % (b / a) for a, b in zip(held[1:], rebuilt[1:])])
    print(table(header, lines))


if __name__ == "__main__":
    define_flags()
    runtime.run(main)
