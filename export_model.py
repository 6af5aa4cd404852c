"""Exports a trained model to a folder of its own, to be passed on or put to use elsewhere.

python export_model.py --strip --init_checkpoint=tnews_output --export_dir=tnews_model

--strip leaves the optimizer's slots out, as releases do: a third of the size remains. Works for
both layouts, pre-trained or fine-tuned.
"""

import collections
import os

import checkpoints
import exporting
import files
import heads
import inference
import layouts
import modeling
import runtime
import selection
import tokenization
from absl import flags
from errors import UserError

FLAGS = flags.FLAGS

Source = collections.namedtuple("Source", [
    "prefix", "layout", "config", "vocab_file", "extra_files"])
Source.__doc__ = """A trained model and what belongs to it.

prefix: its checkpoint; layout: layouts.Layout; config: its configuration; vocab_file: path;
extra_files: paths of what a classifier's folder tells those who use it."""


def define_flags():
    flags.DEFINE_enum("format", None, sorted(FORMATS), "What to make of the model; checkpoint: "
                      "the same without optimizer slots, as releases are.")
    flags.DEFINE_bool("strip", False, "Short for --format=checkpoint.")
    flags.DEFINE_string("init_checkpoint", None, "Checkpoint or folder. Of a run's folder, the "
                        "checkpoint that was evaluated best; else the last one.")
    flags.DEFINE_string("export_dir", None, "Folder to write to.")
    flags.DEFINE_string("config_file", None, "JSON file with the model's sizes; the one beside "
                        "the checkpoint when not given.")
    flags.DEFINE_string("vocab_file", None, "Vocabulary or SentencePiece model; the one beside "
                        "the checkpoint when not given.")


def export_checkpoint(source, export_dir):
    exporting.strip(source.prefix, source.config, source.vocab_file, export_dir,
                    source.extra_files)


FORMATS = {"checkpoint": export_checkpoint}


# ---------------------------------------------------------------------------------------------
# What is exported
# ---------------------------------------------------------------------------------------------

def find_source(init_checkpoint, config_file=None, vocab_file=None):
    """Finds a checkpoint and what belongs to it; checks that it does.

    Args:
        init_checkpoint: checkpoint or folder.
        config_file, vocab_file: others than those beside the checkpoint.

    Returns:
        Source.

    Raises:
        UserError: something is missing, ambiguous or damaged, or does not belong together.
    """
    prefix = selection.choose(init_checkpoint, "init_checkpoint")
    folder = os.path.dirname(prefix) or "."
    layout, config = layouts.read_config(
        config_file or _beside(folder, inference.find_config(folder), "config_file",
                               "configuration (*config*.json with hidden_size)"), "config_file")
    require_encoder(prefix, layout, config)
    if config_file:
        checkpoints.require_same_config(config, prefix)
    vocab_file = vocab_file or _beside(folder, inference.find_vocabulary(folder), "vocab_file",
                                       "vocabulary (vocab.txt or spm.model)")
    files.require_file(vocab_file, "vocab_file")
    tokenization.require_fits(tokenization.from_file(vocab_file), config.vocab_size)
    return Source(prefix, layout, config, vocab_file, classifier_files(prefix))


def require_encoder(prefix, layout, config):
    """Raises UserError unless a checkpoint holds all of the encoder that a configuration says."""
    if checkpoints.layout_of(checkpoints.read_shapes(prefix)) not in (
            layouts.ALBERT_ZH.name, layouts.GOOGLE.name):
        raise UserError("checkpoint %s cannot be exported: there is no ALBERT in it" % prefix)
    model_fit = checkpoints.fit(
        prefix, modeling.pretraining_variable_shapes(config, layout.model_class),
        allow_partial=True)
    lacking = [name for name in model_fit.fresh if name.startswith(checkpoints.ENCODER)]
    if lacking:
        raise UserError("the configuration is not that of %s, in which these variables are missing "
                        "or of another shape:%s\nname its own configuration as --config_file"
                        % (prefix, "".join("\n  " + name for name in lacking)))


def _beside(folder, path, flag, what):
    if path is None:
        raise UserError("there is no %s in %s: name it as --%s" % (what, folder, flag))
    return path


def classifier_files(prefix):
    """Returns the paths of labels.txt and classifier.json beside a fine-tuned checkpoint.

    Raises:
        UserError: labels.txt is of another classifier.
    """
    classes = checkpoints.read_shapes(prefix).get("output_weights", (0,))[0]
    if not classes:
        return []
    labels, settings = (os.path.join(os.path.dirname(prefix), name)
                        for name in ("labels.txt", heads.CLASSIFIER_FILE))
    if files.exists(labels):
        inference.require_all_named(list(files.read_lines(labels)), labels, classes, prefix)
    return [path for path in (labels, settings) if files.exists(path)]


def main(_):
    if not (FLAGS.strip or FLAGS.format):
        raise UserError("nothing to do: give --strip, or --format=%s" % "|".join(sorted(FORMATS)))
    if FLAGS.strip and FLAGS.format not in (None, "checkpoint"):
        raise UserError("--strip and --format=%s are two different exports: give one of them"
                        % FLAGS.format)
    if not FLAGS.export_dir:
        raise UserError("--export_dir is missing: name a folder to write to")
    source = find_source(FLAGS.init_checkpoint, FLAGS.config_file, FLAGS.vocab_file)
    exporting.require_place(FLAGS.export_dir, os.path.dirname(source.prefix), source.config,
                            source.vocab_file, source.extra_files)
    FORMATS["checkpoint" if FLAGS.strip else FLAGS.format](source, FLAGS.export_dir)


if __name__ == "__main__":
    define_flags()
    runtime.run(main)
