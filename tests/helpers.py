"""Small models, checkpoints and records that several tests need."""

import contextlib
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import reference
from absl import flags
from conftest import ROOT

import files
import modeling
import modeling_google
import plots
import records
from errors import UserError

import tensorflow.compat.v1 as tf

TINY = {"vocab_size": 60, "embedding_size": 8, "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 24, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 32, "type_vocab_size": 2, "initializer_range": 0.02,
        "ln_type": "postln"}


TINY_GOOGLE = dict({name: value for name, value in TINY.items() if name != "ln_type"},
                   num_hidden_groups=1, inner_group_num=1, net_structure_type=0, gap_size=0,
                   num_memory_blocks=0, down_scale_factor=1)


def read(path):
    """Returns a file's bytes."""
    with io.open(str(path), "rb") as stream:
        return stream.read()


def write_config(folder, name="config.json", **changes):
    """Writes a tiny configuration; returns its path."""
    path = os.path.join(str(folder), name)
    with io.open(path, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(dict(TINY, **changes)))
    return path


def write_google_config(folder, name="config.json", **changes):
    """Writes a tiny configuration of the Google layout; returns its path."""
    path = os.path.join(str(folder), name)
    with io.open(path, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(dict(TINY_GOOGLE, **changes)))
    return path


def write_checkpoint(prefix, weights):
    """Writes {name: array} as a checkpoint of bare variables, as released ones are."""
    with tf.Graph().as_default(), tf.Session() as session:
        variables = [tf.get_variable(name, initializer=tf.constant(value))
                     for name, value in weights.items()]
        session.run(tf.global_variables_initializer())
        tf.train.Saver(variables).save(session, str(prefix), write_meta_graph=False,
                                       write_state=False)
    return str(prefix)


def pretraining_weights(**changes):
    config = modeling.BertConfig.from_dict(dict(TINY, **changes))
    return reference.initial_values(
        modeling.pretraining_variable_shapes(config, modeling.BertModel))


def google_pretraining_weights(**changes):
    config = modeling_google.AlbertConfig.from_dict(dict(TINY_GOOGLE, **changes))
    return reference.initial_values(
        modeling.pretraining_variable_shapes(config, modeling_google.AlbertModel))


def load_weights(session, weights):
    """Gives the graph's trainable variables their values, all at once: one by one takes long."""
    variables = tf.trainable_variables()
    session.run([variable.initializer for variable in variables],
                {variable.initializer.inputs[1]: weights[variable.op.name]
                 for variable in variables})


def read_checkpoint(prefix):
    """Returns {name: array} of all tensors in a checkpoint."""
    reader = tf.train.NewCheckpointReader(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def pretraining_rows(count, length=12, predictions=3, seed=3):
    """Invents pre-training records as dicts of arrays."""
    rng = np.random.RandomState(seed)
    rows = []
    for _ in range(count):
        real = rng.randint(7, length + 1)
        mask = (np.arange(length) < real).astype(int)
        rows.append({
            "input_ids": rng.randint(5, 60, size=length) * mask, "input_mask": mask,
            "segment_ids": (np.arange(length) >= real // 2).astype(int) * mask,
            "masked_lm_positions": np.sort(rng.choice(real, predictions, replace=False)),
            "masked_lm_ids": rng.randint(5, 60, size=predictions),
            "masked_lm_weights": np.array([1.0] * (predictions - 1) + [0.0], np.float32),
            "next_sentence_labels": [rng.randint(0, 2)]})
    return rows


def write_records(path, rows):
    records.write(str(path), [records.encode(records.PRETRAINING, row) for row in rows])
    return str(path)


def batches_of(input_fn, batch_size, limit=100):
    """Returns up to `limit` batches of an input_fn, as dicts of arrays."""
    with tf.Graph().as_default(), tf.Session() as session:
        batch = tf.data.make_one_shot_iterator(input_fn({"batch_size": batch_size})).get_next()
        found = []
        while len(found) < limit:
            try:
                found.append(session.run(batch))
            except tf.errors.OutOfRangeError:
                break
        return found


def run_script(script, *arguments, **environment):
    """Runs a script of the project as a user does; returns (exit status, stdout, stderr)."""
    process = subprocess.Popen(
        [sys.executable, os.path.join(ROOT, script)] + list(arguments), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=dict(os.environ, PYTHONIOENCODING="utf-8", **environment))
    out, err = process.communicate()
    return process.returncode, out.decode("utf-8"), err.decode("utf-8")


def run_main(script, *arguments):
    """Parses a script's flags and runs its `main` here, without the start of another process.

    Args:
        script: a module of the project with define_flags and main.
    """
    known = set(flags.FLAGS)
    script.define_flags()
    try:
        flags.FLAGS([script.__name__] + list(arguments))
        script.main([script.__name__])
    finally:
        flags.FLAGS.unparse_flags()
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)


@contextlib.contextmanager
def _without_pictures():
    with pytest.MonkeyPatch.context() as patch:
        for draw in ("curves", "confusion_matrix"):
            patch.setattr(plots, draw, lambda *figures, **settings: False)
        yield


def run_here(script, *arguments):
    """Runs a script in this process; returns (exit status, stdout, stderr) like run_script.

    Another process for every run would take most of a test's time, pictures a tenth, so there are
    none; the first run of a test file should still be run_script's, which starts the script as
    users do.

    Args:
        script: a module of the project with define_flags and main.
        arguments: its command line, "--name=value".
    """
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _without_pictures():
        try:
            run_main(script, *arguments)
        except UserError as error:
            status = 1
            err.write("ERROR: %s\n" % error)
    return status, out.getvalue(), err.getvalue()


def run_on_sentences(script, folder, name, *others):
    """Runs a script of fine-tuning on the own data in folder/data; see `run_here`.

    Args:
        script: run_classifier or run_classifier_sp_google.
        folder: holds config.json or google.json, vocab.txt and data/; name: of the output folder
            there; others: further flags.
    """
    config = ("--albert_config_file=%s/google.json" if "google" in script.__name__
              else "--bert_config_file=%s/config.json") % folder
    return run_here(
        script, config, "--vocab_file=%s/vocab.txt" % folder, "--data_dir=%s/data" % folder,
        "--output_dir=%s/%s" % (folder, name), "--task_name=sentence", "--max_seq_length=12",
        "--train_batch_size=4", "--num_train_epochs=2", "--num_threads=1", "--learning_rate=0.01",
        *others)


def write_vocabulary(folder, texts, size=60):
    """Writes a vocabulary of the texts' characters, with as many entries as helpers.TINY has rows.

    Returns:
        its path.
    """
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + sorted(set("".join(texts)))
    assert len(entries) <= size
    entries += ["[unused%d]" % number for number in range(size - len(entries))]
    path = os.path.join(str(folder), "vocab.txt")
    files.write_text(path, "".join(entry + "\n" for entry in entries))
    return path


def assert_user_error(result, *fragments):
    """Checks that a script ended with one clear message: status, no traceback, the fragments."""
    status, _, err = result
    assert status != 0
    for sign in ("Traceback", "Original stack trace", 'File "'):
        assert sign not in err, err
    for fragment in fragments:
        assert fragment in err, err


def train_spm(folder):
    """Trains a small English SentencePiece model; returns the path of its .model file."""
    pytest.importorskip("sentencepiece")
    text = folder / "english.txt"
    text.write_text("\n".join("the unbelievable reader is reading %d books, slowly" % i
                              for i in range(300)))
    # In a process of its own: training crashes in one that has loaded TensorFlow 1.15.
    subprocess.run(
        [sys.executable, "-c", "import sys, sentencepiece\n"
         "sentencepiece.SentencePieceTrainer.train(sys.argv[1])",
         "--input=%s --model_prefix=%s --vocab_size=60 --pad_id=0 --unk_id=1 --bos_id=-1 "
         "--eos_id=-1 --user_defined_symbols=[CLS],[SEP],[MASK] --minloglevel=2" % (
             text, folder / "m")], check=True)
    return folder / "m.model"
