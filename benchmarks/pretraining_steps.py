"""Steps of pre-training that benchmarks share, each by the script that users run.

For pretraining_lift.py and reviews.py: from lists of sentences to a corpus, from a corpus to
records, from records to a model. What is there already is not made again. Writes into the folder
that the caller names.
"""

import collections
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import files  # noqa: E402 - the project's modules lie one folder up
import sentence_splitting  # noqa: E402
from console import say  # noqa: E402
from errors import UserError  # noqa: E402

CONFIG = os.path.join(ROOT, "albert_config", "albert_config_tiny.json")
VOCABULARY = os.path.join(ROOT, "albert_config", "vocab.txt")

Stage = collections.namedtuple("Stage", ["length", "predictions", "batch"])
Stage.__doc__ = "A part of pre-training: so many tokens, masked ones, records of a step at most."

Rate = collections.namedtuple("Rate", ["peak", "warmup"])
Rate.__doc__ = "Of learning (AdamW): its peak, and the share of all steps in which it rises."


def run(script, *arguments):
    """Runs one of the project's scripts; UserError if it fails."""
    command = [sys.executable, os.path.join(ROOT, script)] + list(arguments)
    say("Running: " + " ".join(command))
    if subprocess.call(command, stdout=sys.stderr.fileno()):
        raise UserError("%s failed (see above); the same command goes on from where it was"
                        % script)


def write_config(source, path, **changes):
    """Writes a copy of a model's configuration with some settings changed; returns its path."""
    files.write_json(path, dict(files.read_json(source), **changes))
    return path


def documents_of(texts):
    """Returns a document, a list of sentences, of each list of texts; of equal ones the first."""
    documents = (tuple(sentence for text in some
                       for sentence in sentence_splitting.split_sentences(text)) for some in texts)
    return [list(document) for document in collections.OrderedDict.fromkeys(documents)]


def write_corpus(documents, path):
    """Writes lists of sentences as a corpus: a sentence a line, a blank line between documents."""
    files.write_text(path, "\n\n".join("\n".join(document) for document in documents) + "\n")
    say("%s: %d documents, %d characters" % (path, len(documents), sum(
        len(sentence) for document in documents for sentence in document)))


def make_records(corpora, stage, vocab_file=VOCABULARY):
    """Makes records that are masked when they are read; returns their paths."""
    paths = []
    for corpus in corpora:
        paths.append("%s_%d.tfrecord" % (os.path.splitext(corpus)[0], stage.length))
        if not files.exists(paths[-1]):
            run("create_pretraining_data.py", "--input_file=" + corpus,
                "--output_file=" + paths[-1], "--vocab_file=" + vocab_file,
                "--do_whole_word_mask", "--max_seq_length=%d" % stage.length,
                "--max_predictions_per_seq=%d" % stage.predictions, "--masked_lm_prob=0.2",
                "--masking=dynamic")
    return paths


def pretrain(records, output_dir, stage, steps, rate, precision, init_checkpoint=None,
             config=CONFIG):
    """Pre-trains a model, and evaluates what comes of it.

    Args:
        records: paths of those to train on and to evaluate on; steps: number of them; rate: Rate;
            init_checkpoint: path to start from; None: random weights; config: path of its sizes.
    """
    start = ("--init_checkpoint=" + init_checkpoint,) if init_checkpoint else ()
    run("run_pretraining.py", "--input_file=" + records[0], "--eval_input_file=" + records[1],
        "--bert_config_file=" + config, "--output_dir=" + output_dir, "--do_train", "--do_eval",
        "--max_seq_length=%d" % stage.length, "--max_predictions_per_seq=%d" % stage.predictions,
        "--train_batch_size=%d" % stage.batch, "--optimizer=adamw",
        "--learning_rate=%g" % rate.peak, "--num_train_steps=%d" % steps,
        "--num_warmup_steps=%d" % max(int(round(steps * rate.warmup)), 1), "--max_eval_steps=0",
        "--save_checkpoints_steps=1000", "--keep_checkpoint_max=2", "--precision=" + precision,
        *start)
