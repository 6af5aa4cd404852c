"""A trained model as it is passed on: its files in a folder of their own, as releases have them."""

import os

import checkpoints
import files
import numpy as np
import runtime  # noqa: F401 - before TensorFlow
import tokenization
from console import say
from errors import UserError

import tensorflow.compat.v1 as tf

ROOT = os.path.dirname(os.path.abspath(__file__))
CHECKPOINT_NAME = "albert_model.ckpt"
STATE = 'model_checkpoint_path: "%s"\nall_model_checkpoint_paths: "%s"\n' % (
    CHECKPOINT_NAME, CHECKPOINT_NAME)


# ---------------------------------------------------------------------------------------------
# Checks, before anything long starts
# ---------------------------------------------------------------------------------------------

def require_vocabulary(vocab_file, config, export_dir):
    """Returns the vocabulary to export with a model, checked before anything long starts.

    Args:
        vocab_file: the user's, or None for the one in albert_config/.
        export_dir: None when nothing is exported; the result is then None.

    Raises:
        UserError: the vocabulary does not exist, or cannot be the model's.
    """
    if not export_dir:
        return None
    path = vocab_file or os.path.join(ROOT, "albert_config", "vocab.txt")
    files.require_file(path, "vocab_file")
    tokenizer = tokenization.from_file(path)
    if vocab_file is None and len(tokenizer.vocab) < config.vocab_size:
        raise UserError("%s has %d entries, the configuration's vocab_size is %d; name the "
                        "model's vocabulary as --vocab_file"
                        % (path, len(tokenizer.vocab), config.vocab_size))
    tokenization.require_fits(tokenizer, config.vocab_size)
    return path


def require_place(export_dir, source_folder, config, vocab_file, extra_files=None, earlier=()):
    """Checks that an export takes nothing away that was in its folder before.

    Only an earlier export of the same run is replaced, or one of a checkpoint that the source
    folder still holds.

    Args:
        export_dir: the folder; None when nothing is exported.
        source_folder: where the checkpoint lies or will lie.
        config, vocab_file, extra_files: as for `strip`.
        earlier: fingerprints of the run's own exports, as run_record.RunRecord knows them.

    Raises:
        UserError: names what is in the way.
    """
    if not export_dir:
        return
    checkpoints.require_plain_path(export_dir, "export_dir")
    if os.path.realpath(export_dir) == os.path.realpath(source_folder or "."):
        raise UserError("--export_dir=%s is the folder of the checkpoint itself: name another one"
                        % export_dir)
    if files.exists(export_dir) and not files.is_dir(export_dir):
        raise UserError("--export_dir=%s is a file: name a folder" % export_dir)
    for prefix in checkpoints.prefixes_in(export_dir):
        if not (os.path.basename(prefix) == CHECKPOINT_NAME
                and (files.fingerprint(prefix + ".index") in earlier
                     or _is_export_from(prefix, source_folder))):
            raise UserError("--export_dir=%s holds another model, %s: name a new folder"
                            % (export_dir, os.path.basename(prefix)))
    for name, content in _small_files(config, vocab_file, extra_files).items():
        path = os.path.join(export_dir, name)
        if files.exists(path) and _read(path) != content:
            raise UserError("--export_dir=%s holds another %s: name a new folder"
                            % (export_dir, name))


def _is_export_from(exported, folder):
    """Tells whether one of a folder's checkpoints holds all that an exported one does."""
    shapes = checkpoints.read_shapes(exported)
    names = sorted(shapes, key=lambda name: np.prod(shapes[name]))  # biases differ soonest
    ours = tf.train.NewCheckpointReader(exported)
    for prefix in checkpoints.prefixes_in(folder):
        theirs, reader = checkpoints.read_shapes(prefix), tf.train.NewCheckpointReader(prefix)
        if all(theirs.get(name) == shapes[name] for name in names) and all(
                np.array_equal(ours.get_tensor(name), reader.get_tensor(name)) for name in names):
            return True
    return False


# ---------------------------------------------------------------------------------------------
# The export
# ---------------------------------------------------------------------------------------------

def strip(prefix, config, vocab_file, export_dir, extra_files=None):
    """Writes a released-style folder: checkpoint without slots, configuration, vocabulary.

    Args:
        prefix: the checkpoint; config: its configuration.
        vocab_file: WordPiece vocabulary or SentencePiece model.
        export_dir: checked by `require_place`.
        extra_files: {name: bytes} of what else is to lie beside it, such as labels.txt.

    Returns:
        the new checkpoint's prefix.
    """
    files.make_dir(export_dir, "export_dir")
    target = os.path.join(export_dir, CHECKPOINT_NAME)
    if files.exists(target + ".index"):
        say("Replacing the earlier export in %s" % export_dir)
    unfinished = os.path.join(export_dir, ".tmp-%d" % os.getpid())
    try:
        kept, left_out = checkpoints.strip(prefix, unfinished)
        checkpoints.move(unfinished, target)
    finally:
        for path in files.glob(unfinished + ".*"):
            files.remove(path)
    for name, content in _small_files(config, vocab_file, extra_files).items():
        with files.atomic_write(os.path.join(export_dir, name)) as stream:
            stream.write(content)
    say("Exported %d variables of %s to %s: %s before, %s now; left out: %d (optimizer slots, "
        "step)" % (kept, prefix, target, _megabytes(prefix), _megabytes(target), left_out))
    return target


def _small_files(config, vocab_file, extra_files):
    """Returns {name: bytes} of what lies beside an exported checkpoint."""
    vocabulary = tokenization.KEPT_AS[tokenization.is_spm_file(vocab_file)]
    content = {"checkpoint": STATE.encode("utf-8"), vocabulary: _read(vocab_file),
               "albert_config.json": config.to_json_string().encode("utf-8")}
    content.update(extra_files or {})
    return content


def _read(path):
    with files.open_binary(path) as stream:
        return stream.read()


def _megabytes(prefix):
    return "%.1f MB" % (sum(map(files.size, checkpoints.paths_of(prefix))) / 1e6)
