"""Is bfloat16 as good as float32? Dev accuracies over several seeds, and equal predictions.

    python benchmarks/precision.py --work_dir=/tmp/precision
    python benchmarks/precision.py --work_dir=/tmp/precision --init_checkpoint=pretrain_output

Fine-tunes LCQMC in both precisions for each seed, as users do, by run_classifier.py in a process of
its own; a run that was finished before is not repeated. Then each of these models predicts all dev
pairs in both precisions, and equal decisions are counted. Needs TensorFlow 2 on a CPU with bfloat16
instructions. Writes into --work_dir only; prints two tables.
"""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import files  # noqa: E402 - the project's modules lie one folder up
import inference  # noqa: E402
import numpy as np  # noqa: E402
import runtime  # noqa: E402
import tasks  # noqa: E402
from absl import flags  # noqa: E402
from console import say, table  # noqa: E402
from errors import UserError  # noqa: E402

FLAGS = flags.FLAGS
PRECISIONS = ("float32", "bfloat16")
REAL_DATA = os.path.join(os.path.dirname(ROOT), "shared", "data", "lcqmc")
SAMPLE = os.path.join(ROOT, "data", "clue_sample", "lcqmc")


def define_flags():
    flags.DEFINE_string("work_dir", None, "Folder for the runs.")
    flags.DEFINE_string("data_dir", REAL_DATA if os.path.exists(REAL_DATA) else SAMPLE,
                        "Folder with LCQMC's train and dev files.")
    flags.DEFINE_string("init_checkpoint", None, "Checkpoint or folder to start from; none: random "
                        "weights.")
    flags.DEFINE_string("bert_config_file",
                        os.path.join(ROOT, "albert_config", "albert_config_tiny.json"),
                        "JSON file with the model's sizes.")
    flags.DEFINE_list("seeds", ["1", "2", "3"], "Seeds of fine-tuning.")
    flags.DEFINE_string("extra_flags", "", "Flags for run_classifier.py, blanks between them; "
                        "they come last, so they win.")


def fine_tune(precision, seed, values):
    """Runs run_classifier.py; returns (folder, dev accuracy)."""
    folder = os.path.join(values.work_dir, "%s-seed%d" % (precision, seed))
    command = [
        sys.executable, os.path.join(ROOT, "run_classifier.py"), "--task_name=lcqmc",
        "--data_dir=" + values.data_dir, "--output_dir=" + folder, "--do_train", "--do_eval",
        "--bert_config_file=" + values.bert_config_file,
        "--vocab_file=" + os.path.join(ROOT, "albert_config", "vocab.txt"),
        "--train_batch_size=64", "--eval_batch_size=64", "--learning_rate=1e-4",
        "--num_train_epochs=3", "--save_checkpoints_steps=1000", "--precision=" + precision,
        "--random_seed=%d" % seed]
    if values.init_checkpoint:
        command.append("--init_checkpoint=" + values.init_checkpoint)
    command += values.extra_flags.split()
    say("Running: " + " ".join(command))
    if subprocess.call(command, stdout=sys.stderr.fileno()):
        raise UserError("run_classifier.py failed (see above); the same command goes on from its "
                        "last checkpoint")
    record = files.read_json(os.path.join(folder, "run.json"))
    return folder, record["results"]["dev_accuracy"]


def agreement(folder, pairs):
    """Predicts pairs in both precisions.

    Returns:
        (share of equal decisions, largest difference of a probability).
    """
    model, found = inference.read_folder(folder), []
    for precision in PRECISIONS:
        with inference.Predictor(model, precision=precision) as predictor:
            found.append(predictor.probabilities(pairs))
    one, other = found
    return (float(np.mean(one.argmax(axis=1) == other.argmax(axis=1))),
            float(np.abs(one - other).max()))


def main(_):
    reason = runtime.why_no_bfloat16()
    if reason:
        raise UserError("bfloat16 cannot be tried here: " + reason)
    for seed in FLAGS.seeds:
        if not seed.isdigit():
            raise UserError("--seeds: %r is no number" % seed)
    files.make_dir(FLAGS.work_dir, "work_dir")
    pairs = [(example.text_a, example.text_b)
             for example in tasks.get("lcqmc").read(FLAGS.data_dir, "dev")]
    folders, accuracies = {}, {}
    for seed in map(int, FLAGS.seeds):
        for precision in PRECISIONS:
            folders[precision, seed], accuracies[precision, seed] = fine_tune(
                precision, seed, FLAGS)
    rows = []
    for precision in PRECISIONS:
        found = [accuracies[key] for key in sorted(accuracies) if key[0] == precision]
        rows.append([precision] + ["%.4f" % value for value in found]
                    + ["%.4f" % np.mean(found), "%.4f" % np.std(found)])
    print(table(["trained in"] + ["seed " + seed for seed in FLAGS.seeds] + ["mean", "deviation"],
                rows))
    rows = []
    for (precision, seed), folder in sorted(folders.items()):
        equal, difference = agreement(folder, pairs)
        rows.append([precision, str(seed), str(len(pairs)), "%.2f %%" % (100 * equal),
                     "%.4f" % difference])
    print(table(["trained in", "seed", "pairs", "equal predictions", "largest difference"], rows))


if __name__ == "__main__":
    define_flags()
    runtime.run(main)
