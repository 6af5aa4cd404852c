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


def write_saved_model(frozen, folder, add_signatures=None):
    """Writes a SavedModel with the signature serving_default.

    Args:
        frozen: exported_graph.Frozen; folder: must not exist.
        add_signatures: function that adds to the current graph and returns {name: signature}.
    """
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen.graph_def, name="")
        tensors = {name: graph.get_tensor_by_name(name + ":0")
                   for name in frozen.inputs + [frozen.output]}
        signatures = {"serving_default": tf.saved_model.predict_signature_def(
            {name: tensors[name] for name in frozen.inputs},
            {frozen.output: tensors[frozen.output]})}
        if add_signatures:
            signatures.update(add_signatures(graph))
        tables = tf.tables_initializer() if add_signatures else None
        builder = tf.saved_model.Builder(folder)
        with tf.Session(graph=graph) as session:
            builder.add_meta_graph_and_variables(
                session, [tf.saved_model.tag_constants.SERVING], signatures, main_op=tables,
                strip_default_attrs=True, clear_devices=True)
        builder.save()


class SavedModel(object):
    """A SavedModel, loaded as TensorFlow Serving loads one; call it with a signature's inputs."""

    def __init__(self, folder, signature="serving_default"):
        self._session = tf.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            found = tf.saved_model.loader.load(
                self._session, [tf.saved_model.tag_constants.SERVING], folder)
        self._signature = found.signature_def[signature]
        self._output, = (tensor.name for tensor in self._signature.outputs.values())

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
        stream.write(frozen.graph_def.SerializeToString())


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
