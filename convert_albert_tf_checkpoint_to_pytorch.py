"""Converts a TensorFlow checkpoint of either layout to a folder for Hugging Face's transformers.

    python convert_albert_tf_checkpoint_to_pytorch.py --model_dir=tnews_output \
        --output_dir=tnews_hugging_face

AutoModel...from_pretrained and AutoTokenizer.from_pretrained load the folder without a network.
With the flags of Hugging Face's script of this name, --pytorch_dump_path=pytorch_model.bin writes
the bare weights to one file, as it does.

Needs the package safetensors. Where PyTorch and transformers are installed, the folder is loaded
and compared with TensorFlow before it is put in its place.
"""

import collections
import os
import shutil
import tempfile

import checkpoints
import files
import hugging_face
import inference
import modeling
import runtime
from absl import flags
from console import say
from errors import UserError

import tensorflow.compat.v1 as tf

FLAGS = flags.FLAGS

BARE_FILE_ENDINGS = (".bin", ".pt", ".pth")


def define_flags():
    flags.DEFINE_string("model_dir", None, "Folder with a checkpoint, its configuration and "
                        "vocabulary, such as a run's output_dir.")
    flags.DEFINE_string("tf_checkpoint_path", None, "The checkpoint, in place of --model_dir; what "
                        "else is needed is looked for beside it.")
    flags.DEFINE_string("albert_config_file", None, "JSON file with the model's sizes; the one "
                        "beside the checkpoint when not given.")
    flags.DEFINE_string("vocab_file", None, "Vocabulary or SentencePiece model; the one beside "
                        "the checkpoint when not given.")
    flags.DEFINE_bool("do_lower_case", None, "Of a model whose folder does not say it: False if it "
                      "was trained with --do_lower_case=False.")
    flags.DEFINE_string("output_dir", None, "Folder to write for transformers.")
    flags.DEFINE_string("pytorch_dump_path", None, "A file *.bin for the bare weights "
                        "(state dict), in place of --output_dir; any other name is a folder.")


# ---------------------------------------------------------------------------------------------
# What is converted
# ---------------------------------------------------------------------------------------------

Conversion = collections.namedtuple("Conversion", [
    "model", "architecture", "settings", "names"])
Conversion.__doc__ = """A model and what becomes of it.

model: inference.ModelFolder; architecture: name of the transformers class that it is complete for;
settings: content of config.json; names: {name of theirs: hugging_face.Variable}."""


def find_model(model_dir, tf_checkpoint_path=None, albert_config_file=None, vocab_file=None,
               do_lower_case=None):
    """Finds a checkpoint and what belongs to it.

    Returns:
        inference.ModelFolder.

    Raises:
        UserError: something is missing, ambiguous or damaged, or does not belong together.
    """
    if bool(model_dir) == bool(tf_checkpoint_path):
        raise UserError("give --model_dir or --tf_checkpoint_path: a folder or a checkpoint")
    for flag, path in (("albert_config_file", albert_config_file), ("vocab_file", vocab_file)):
        if path:
            files.require_file(path, flag)
    prefix = None
    if tf_checkpoint_path:
        prefix = checkpoints.resolve(tf_checkpoint_path, "tf_checkpoint_path")
        model_dir = os.path.dirname(prefix) or "."
    if files.is_dir(model_dir) and not (vocab_file or inference.find_vocabulary(model_dir)):
        raise UserError("there is no vocabulary in %s (vocab.txt or a SentencePiece model): name "
                        "the model's as --vocab_file" % model_dir)
    return inference.read_folder(model_dir, albert_config_file, vocab_file, prefix, do_lower_case)


def plan(model):
    """Decides what a model becomes, before anything is written.

    Args:
        model: inference.ModelFolder.

    Returns:
        Conversion.

    Raises:
        UserError: it cannot be expressed, or checkpoint and configuration do not fit.
    """
    if model.head and not model.head.use_pooled_output:
        raise UserError(
            "the classifier in %s cannot be converted: it classifies the mean over all tokens "
            "(--use_pooled_output=False), Hugging Face's AlbertForSequenceClassification the "
            "pooled first token; export_model.py writes formats that hold any model" % model.folder)
    there = checkpoints.read_shapes(model.checkpoint)
    shapes = modeling.pretraining_variable_shapes(model.config, model.layout.model_class)
    architecture, heads = hugging_face.architecture_of(
        name for name in there if there[name] == shapes.get(name, there[name]))
    settings = hugging_face.to_settings(model.config, model.tokenizer, architecture, model.labels)
    lacking = () if inference.has_pooler(model.checkpoint) else (inference.POOLER,)
    checkpoints.fit_with_heads(model.checkpoint, {
        name: shape for name, shape in shapes.items()
        if name.startswith(checkpoints.ENCODER) and not name.startswith(lacking)})
    names = hugging_face.encoder_names(model.config)
    names.update(heads)
    names = collections.OrderedDict((theirs, ours) for theirs, ours in names.items()
                                    if not ours.name.startswith(lacking))
    _say_what_is_left_out(there, names, architecture)
    return Conversion(model, architecture, settings, names)


def _say_what_is_left_out(there, names, architecture):
    kept = {variable.name for variable in names.values()}
    # An optimizer's slot is called after its variable: variable/adam_m.
    heads = sorted(name for name in checkpoints.head_names(there)
                   if name not in kept and name != "global_step"
                   and os.path.dirname(name) not in there)
    if heads:
        say("Left out, as %s has no place for it: %s" % (architecture, ", ".join(heads)))


# ---------------------------------------------------------------------------------------------
# The conversion
# ---------------------------------------------------------------------------------------------

def read_weights(prefix):
    """Returns {name: array} of the variables in a checkpoint that a table of names may ask for."""
    reader = tf.train.NewCheckpointReader(prefix)
    shapes = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(name) for name in shapes
            if os.path.dirname(name) not in shapes}  # what is below a variable is its slot


def write_folder(conversion, folder):
    """Writes the folder for transformers, and compares it where that is possible.

    Returns:
        the number of weights written.

    Raises:
        UserError: what it computes differs, or the package safetensors is missing.
    """
    model = conversion.model
    tensors = hugging_face.to_tensors(model.config, read_weights(model.checkpoint),
                                      conversion.names)
    hugging_face.write_folder(
        folder, tensors, conversion.settings, hugging_face.tokenizer_files(
            model.tokenizer, model.config.max_position_embeddings))
    lacking = hugging_face.why_not_comparable()
    if lacking:
        say("Not compared with TensorFlow: the package %s is missing (pip install %s)"
            % (lacking, lacking))
        return len(tensors)
    differing = hugging_face.text_with_other_ids(folder, model.tokenizer)
    if differing:
        raise UserError("the Hugging Face folder was not written: its tokenizer gives other ids "
                        "than %s, for example for %r; this is a defect of the converter, please "
                        "report it" % (model.tokenizer.file, differing))
    differences = hugging_face.compare(folder, conversion.architecture, model.config,
                                       model.checkpoint, model.tokenizer)
    hugging_face.report(differences, model.checkpoint, "the Hugging Face folder")
    return len(tensors)


def convert_to_folder(conversion, output_dir):
    """Writes the folder; what is written appears in it when it is complete and compared."""
    files.make_dir(output_dir, "output_dir")
    with hugging_face.unfinished_folder(output_dir) as unfinished:
        count = write_folder(conversion, unfinished)
    say("Converted %s to %s: %s, %d weights" % (
        conversion.model.checkpoint, output_dir, conversion.architecture, count))


def convert_to_file(conversion, path):
    """Writes the bare weights, named as in transformers, to one file of torch.save."""
    torch = hugging_face.need("torch", "torch", "--pytorch_dump_path=%s" % path)
    transformers = hugging_face.need("transformers", "transformers", "--pytorch_dump_path=" + path)
    folder = os.path.dirname(path) or "."
    files.make_dir(folder, "pytorch_dump_path")
    unfinished = tempfile.mkdtemp(prefix=files.TEMPORARY, dir=folder)
    try:
        write_folder(conversion, unfinished)
        model = getattr(transformers, conversion.architecture).from_pretrained(unfinished)
        with files.atomic_path(path) as temporary:
            torch.save(model.state_dict(), temporary)
    finally:
        shutil.rmtree(unfinished)
    say("Converted %s to %s: the weights of %s alone; --output_dir writes configuration and "
        "tokenizer too" % (conversion.model.checkpoint, path, conversion.architecture))


def main(_):
    target, path = FLAGS.output_dir, FLAGS.pytorch_dump_path
    if bool(target) == bool(path):
        raise UserError("give --output_dir, a folder to write for transformers, or "
                        "--pytorch_dump_path, a file *.bin for the bare weights")
    bare = bool(path) and path.endswith(BARE_FILE_ENDINGS)
    if bare and files.exists(path):
        raise UserError("--pytorch_dump_path=%s exists already: name a new file" % path)
    if not bare:
        hugging_face.require_new_folder(target or path, "output_dir" if target else
                                        "pytorch_dump_path")
    hugging_face.need("safetensors.numpy", "safetensors", "the conversion")
    conversion = plan(find_model(FLAGS.model_dir, FLAGS.tf_checkpoint_path,
                                 FLAGS.albert_config_file, FLAGS.vocab_file,
                                 FLAGS.do_lower_case))
    if bare:
        convert_to_file(conversion, path)
    else:
        convert_to_folder(conversion, target or path)


if __name__ == "__main__":
    define_flags()
    runtime.run(main)
