"""Exports for ONNX Runtime, by tf2onnx: float32, and 8-bit weights by ONNX Runtime's own quantiser.

Both packages, and onnx itself, are optional: requirements/export.txt.
"""

import contextlib
import importlib
import logging
import os

import files
import graph_rewriting
import runtime
from errors import UserError
from verification import Bound

import tensorflow.compat.v1 as tf

OPSET = 15  # what every ONNX Runtime since 1.10 takes
BOUNDS = {"float32": Bound(2e-5, 0.99), "int8": Bound(0.15, 0.97)}
TYPES = tuple(BOUNDS)
PACKAGES = ("onnx", "onnxruntime", "tf2onnx")
INSTALL = "pip install -r requirements/export.txt -c requirements/constraints-tf2.txt"


def require_available():
    """Raises UserError where a package is missing or TensorFlow is too old."""
    if runtime.IS_TF1:
        raise UserError("--format=onnx needs TensorFlow 2, this is TensorFlow %s: give the same "
                        "command with .venv-tf2/bin/python (export ALBERT_TF=2)" % tf.__version__)
    for name in PACKAGES:
        package(name)


def package(name):
    """Imports an optional package; UserError says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError("--format=onnx needs the package %s: %s (on Python 3.10 or newer; or bash "
                        "env.sh with ALBERT_EXTRAS=export)" % (name, INSTALL)) from error


def name_of(kind):
    """Returns the name of a model's file."""
    return "model%s.onnx" % ("" if kind == "float32" else "_" + kind)


def write(frozen, path):
    """Converts an exported_graph.Frozen and writes it as a float32 ONNX model."""
    tf2onnx, onnx = package("tf2onnx"), package("onnx")
    with _quiet("tf2onnx"):
        model, _ = tf2onnx.convert.from_graph_def(
            graph_rewriting.for_size(frozen.graph_def), opset=OPSET,
            input_names=[name + ":0" for name in frozen.inputs],
            output_names=[frozen.output + ":0"])
    _rename(model.graph)
    model.producer_name = "albert_zh, by " + model.producer_name
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _rename(graph):
    """Takes the ":0" off the names of inputs and output, and names the free sizes."""
    names = {}
    for value in list(graph.input) + list(graph.output):
        names[value.name] = value.name.split(":")[0]
        value.name = names[value.name]
        for place, size in enumerate(value.type.tensor_type.shape.dim):
            if not size.dim_value:
                size.dim_param = ("batch", "masks" if value.name in ("positions", "words")
                                  else "length")[place]
    for node in graph.node:
        for sides in (node.input, node.output):
            sides[:] = [names.get(name, name) for name in sides]


def quantise(source, target):
    """Writes an 8-bit copy of a float32 ONNX model: weights by column, activations as they come."""
    package("onnxruntime")
    quantization = package("onnxruntime.quantization")
    with _quiet("root"):
        quantization.quantize_dynamic(source, target, per_channel=True,
                                      weight_type=quantization.QuantType.QInt8)


class Model(object):
    """An ONNX model in ONNX Runtime, on the CPU; call it with {input name: array}."""

    def __init__(self, path, num_threads=0):
        """num_threads: of an operation; 0: ONNX Runtime's choice."""
        onnxruntime = package("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3  # errors
        with files.open_binary(path) as stream:
            self._session = onnxruntime.InferenceSession(
                stream.read(), options, providers=["CPUExecutionProvider"])

    def __call__(self, inputs):
        """Returns the output for {input name: int32 array}."""
        return self._session.run(None, inputs)[0]

    def close(self):
        self._session = None


@contextlib.contextmanager
def _quiet(name):
    """Lets a library say nothing below an error."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def size(path):
    return os.path.getsize(path)
