"""A trained model as it is passed on: its files in a folder of their own, as releases have them."""

import os

import checkpoints
import files
from console import say
from errors import UserError

ROOT = os.path.dirname(os.path.abspath(__file__))
CHECKPOINT_NAME = "albert_model.ckpt"


def require_vocabulary(vocab_file, config, export_dir):
    """Returns the vocabulary to export with a model, checked before anything long starts.

    Args:
        vocab_file: the user's, or None for the one in albert_config/.
        export_dir: None when nothing is exported; the result is then None.

    Raises:
        UserError: the vocabulary does not exist, or is not of the model's size.
    """
    if not export_dir:
        return None
    path = vocab_file or os.path.join(ROOT, "albert_config", "vocab.txt")
    files.require_file(path, "vocab_file")
    if not path.endswith((".model", ".spm")):
        entries = sum(1 for _ in files.read_lines(path))
        if entries != config.vocab_size:
            raise UserError("%s has %d entries, the configuration's vocab_size is %d; name the "
                            "model's vocabulary as --vocab_file"
                            % (path, entries, config.vocab_size))
    return path


def strip(prefix, config, vocab_file, export_dir, extra_files=()):
    """Writes a released-style folder: checkpoint without slots, configuration, vocabulary.

    Args:
        prefix: the checkpoint; config: its configuration.
        vocab_file: WordPiece vocabulary or SentencePiece model.
        extra_files: further files to put beside it, such as labels.txt.

    Returns:
        the new checkpoint's prefix.
    """
    files.make_dir(export_dir, "export_dir")
    target = os.path.join(export_dir, CHECKPOINT_NAME)
    unfinished = target + ".tmp"
    kept, left_out = checkpoints.strip(prefix, unfinished)
    checkpoints.move(unfinished, target)
    files.write_text(os.path.join(export_dir, "checkpoint"),
                     'model_checkpoint_path: "%s"\nall_model_checkpoint_paths: "%s"\n'
                     % (CHECKPOINT_NAME, CHECKPOINT_NAME))
    files.write_text(os.path.join(export_dir, "albert_config.json"), config.to_json_string())
    is_spm = vocab_file.endswith((".model", ".spm"))
    files.copy(vocab_file, os.path.join(export_dir, "spm.model" if is_spm else "vocab.txt"))
    for path in extra_files:
        files.copy(path, os.path.join(export_dir, os.path.basename(path)))
    size = sum(files.size(path) for path in checkpoints.paths_of(target))
    say("Exported %d variables of %s to %s: %.1f MB; left out: %d (optimizer slots, step)" % (
        kept, prefix, target, size / 1e6, left_out))
    return target
