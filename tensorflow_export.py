"""Exports for TensorFlow itself: SavedModel and frozen graph.

Both hold the weights as constants and no attribute that is at its default, so either of this
project's TensorFlow versions takes what the other has written.
"""

import os

import exported_graph
import files
import runtime  # noqa: F401 - before TensorFlow
from verification import Bound

import tensorflow.compat.v1 as tf

BOUND = Bound(2e-5, 0.99)
FROZEN_NAME = "model.pb"
SAVED_MODEL_NAME = "savedmodel"  # TensorFlow Serving's base path; versions lie in it


# ---------------------------------------------------------------------------------------------
# SavedModel
# ---------------------------------------------------------------------------------------------

def next_version(folder):
    """Returns the number for a new version: TensorFlow Serving serves the highest in a folder."""
    numbers = [int(name) for name in (files.list_dir(folder) if files.is_dir(folder) else [])
               if name.isdigit()]
    return max(numbers or [0]) + 1


def write_saved_model(frozen, folder, tokenize=None):
    """Writes a SavedModel with the signature serving_default, which takes ids.

    Args:
        frozen: exported_graph.Frozen; folder: must not exist.
        tokenize: function of strings [B] and [B] or [0] to the model's inputs, called with the
            graph as default; for the signatures texts and pairs, which take strings. None: there
            are none.
    """
    with tf.Graph().as_default() as graph:
        signatures = {}
        if tokenize is None:
            tf.import_graph_def(frozen.graph_def, name="")
        else:
            signatures = _import_behind(tokenize, frozen)
        output = {frozen.output: graph.get_tensor_by_name(frozen.output + ":0")}
        signatures["serving_default"] = {name: graph.get_tensor_by_name(name + ":0")
                                         for name in frozen.inputs}
        builder = tf.saved_model.Builder(folder)
        with tf.Session(graph=graph) as session:
            builder.add_meta_graph_and_variables(
                session, [tf.saved_model.tag_constants.SERVING],
                {name: tf.saved_model.predict_signature_def(inputs, output)
                 for name, inputs in signatures.items()},
                main_op=tf.tables_initializer() if tokenize else None,
                strip_default_attrs=True, clear_devices=True)
        builder.save()


def _import_behind(tokenize, frozen):
    """Imports a graph whose inputs are a tokenizer's, unless they are fed.

    Returns:
        {name of a signature that takes strings: its inputs}.
    """
    text_a = tf.placeholder(tf.string, [None], name="text_a")
    text_b = tf.placeholder_with_default(tf.constant([], tf.string), [None], name="text_b")
    with tf.name_scope("tokenizer"):
        made = tokenize(text_a, text_b)
    inputs = [tf.placeholder_with_default(value, [None, None], name=name)
              for name, value in zip(frozen.inputs, made)]
    graph_def = tf.GraphDef()
    graph_def.CopyFrom(frozen.graph_def)
    del graph_def.node[:]
    graph_def.node.extend(node for node in frozen.graph_def.node
                          if node.name not in frozen.inputs)
    tf.import_graph_def(graph_def, dict(zip([name + ":0" for name in frozen.inputs], inputs)),
                        name="")
    return {"texts": {"text": text_a}, "pairs": {"text_a": text_a, "text_b": text_b}}


class SavedModel(object):
    """A SavedModel, loaded as TensorFlow Serving loads one; call it with a signature's inputs."""

    def __init__(self, folder, signature="serving_default", outputs=None):
        """Loads it.

        Args:
            outputs: names of int32 tensors that are wanted instead of the signature's output.
        """
        self._session = tf.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            found = tf.saved_model.loader.load(
                self._session, [tf.saved_model.tag_constants.SERVING], folder)
        self._signature = found.signature_def[signature]
        self._output, = (tensor.name for tensor in self._signature.outputs.values())
        if outputs:
            self._output = [name + ":0" for name in outputs]

    def __call__(self, inputs):
        """Returns the output for {input name: array}."""
        return self._session.run(self._output, {
            self._signature.inputs[name].name: value for name, value in inputs.items()})

    def close(self):
        self._session.close()


# ---------------------------------------------------------------------------------------------
# Frozen graph
# ---------------------------------------------------------------------------------------------

def write_frozen(frozen, path):
    """Writes a GraphDef of constants; inputs and output have their names and no scope."""
    with files.open_binary(path, "wb") as stream:
        stream.write(frozen.graph_def.SerializeToString(deterministic=True))


def read_frozen(path, inputs, output):
    """Returns an exported_graph.Session of a file; inputs: list of names, output: name."""
    graph_def = tf.GraphDef()
    with files.open_binary(path) as stream:
        graph_def.ParseFromString(stream.read())
    return exported_graph.Session(exported_graph.Frozen(graph_def, inputs, output))


def folder_size(folder):
    """Returns the bytes of all files in a folder."""
    return sum(os.path.getsize(os.path.join(place, name))
               for place, _, names in os.walk(folder) for name in names)
