"""Exports for phones: TensorFlow Lite models of several types of numbers (TensorFlow 2).

    float32           the same numbers, of 4 bytes
    float16           weights of 2 bytes; computed in float32 on CPUs
    int8_activations  weights of 1 byte; activations become 8-bit one product at a time: the fastest
    int8_dynamic      the same, or, where that is too coarse for a model, weights of 1 byte that
                      become float32 as the model is loaded
    int8              weights and activations of 1 byte, their ranges from representative texts

Only TensorFlow Lite's own operations are used, so its runtime needs no further library.
"""

import contextlib
import os
import tempfile

import files
import graph_rewriting
import numpy as np
import runtime
from errors import UserError
from verification import Bound

import tensorflow.compat.v1 as tf

# int8: a softmax and a LayerNorm of 8 bits are coarse. Probabilities move by 0.05 in the mean and
# much more where the model is undecided, so what counts there is how many decisions stay. It is the
# same with 8-bit activations, to a lesser degree.
BOUNDS = {"float32": Bound(1e-5, 0.99), "float16": Bound(2e-3, 0.99),
          "int8_dynamic": Bound(2e-2, 0.99),
          "int8_activations": Bound(0.1, 0.99), "int8": Bound(0.5, 0.90)}
TYPES = tuple(BOUNDS)
REPRESENTATIVE_TEXTS = 100


def require_available():
    """Raises UserError where TensorFlow's converter is too old."""
    if runtime.IS_TF1:
        raise UserError("--format=tflite needs TensorFlow 2, this is TensorFlow %s: give the "
                        "same command with .venv-tf2/bin/python (export ALBERT_TF=2)"
                        % tf.__version__)


def name_of(kind, length):
    """Returns the name of a model's file."""
    return "model_%s%s.tflite" % (kind, "" if length is None else "_%d" % length)


def convert(frozen, kind, representative=(), float_products=False):
    """Returns a TensorFlow Lite model as bytes.

    Args:
        frozen: exported_graph.Frozen, of any shape or of a fixed one.
        kind: one of TYPES.
        representative: for int8, a list of {input name: int32 array} like those to come.
        float_products: for int8_dynamic, compute in float32: nothing but the weights is rounded.

    Raises:
        UserError: the converter gave up.
    """
    rewrite = (graph_rewriting.for_quantisation if kind.startswith("int8")
               else graph_rewriting.for_size)
    graph_def = rewrite(frozen.graph_def)
    if kind == "int8":
        graph_def = graph_rewriting.with_small_masked_score(graph_def)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        converter = tf.lite.TFLiteConverter(
            graph_def, [graph.get_tensor_by_name(name + ":0") for name in frozen.inputs],
            [graph.get_tensor_by_name(frozen.output + ":0")])
    # The factors that for_quantisation takes out of the kernels are not to be put back.
    converter._experimental_disable_fuse_mul_and_fc = kind.startswith("int8")
    if kind != "float32" and not float_products:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        converter.representative_dataset = lambda: (
            [inputs[name] for name in frozen.inputs] for inputs in representative)
    with _silence() as log:
        try:
            content = converter.convert()
        except Exception as error:  # noqa: BLE001 - of many kinds, told with what it said
            raise UserError("TensorFlow Lite's converter gave up: %s\n%s" % (
                str(error).strip().split("\n")[0], _end_of(log))) from error
    return _with_8_bit_weights(content) if float_products else content


def _with_8_bit_weights(content):
    """Makes the large matrices of a float32 model 8-bit; they are made float32 again where used."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    graph, codes = model.subgraphs[0], [code.builtinCode for code in model.operatorCodes]
    dequantize = schema.OperatorCodeT()
    dequantize.builtinCode = schema.BuiltinOperator.DEQUANTIZE
    dequantize.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    dequantize.version = 2
    model.operatorCodes.append(dequantize)
    operators, made_float = [], {}

    def add_tensor(like, kind, quantization=None):
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.buffer = like.name + b"/8_bit", kind, 0
        tensor.shape, tensor.shapeSignature = like.shape, like.shapeSignature
        tensor.quantization = quantization
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    def add_dequantize(source, target):
        operator = schema.OperatorT()
        operator.opcodeIndex = len(codes)
        operator.inputs, operator.outputs = [source], [target]
        operators.append(operator)

    for operator in graph.operators:
        code = codes[operator.opcodeIndex]
        place = {schema.BuiltinOperator.GATHER: 0,
                 schema.BuiltinOperator.FULLY_CONNECTED: 1}.get(code)
        number = None if place is None else operator.inputs[place]
        quantized = number is not None and _quantise(model, graph.tensors[number], schema)
        operators.append(operator)
        if not quantized:
            continue
        matrix = graph.tensors[number]
        if code == schema.BuiltinOperator.GATHER:  # of the rows that are looked up alone
            output = operator.outputs[0]
            looked_up = add_tensor(graph.tensors[output], schema.TensorType.INT8,
                                   matrix.quantization)
            operator.outputs = [looked_up]
            add_dequantize(looked_up, output)
            continue
        if number not in made_float:
            made_float[number] = add_tensor(matrix, schema.TensorType.FLOAT32)
            operators.pop()
            add_dequantize(number, made_float[number])
            operators.append(operator)
        operator.inputs = list(operator.inputs)
        operator.inputs[place] = made_float[number]
    graph.operators = operators
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _quantise(model, tensor, schema):
    """Makes a constant matrix 8-bit; returns whether it is (already)."""
    if tensor.type == schema.TensorType.INT8:
        return True
    buffer = model.buffers[tensor.buffer]
    if (tensor.type != schema.TensorType.FLOAT32 or buffer.data is None or len(tensor.shape) != 2
            or np.prod(tensor.shape) < graph_rewriting.SMALLEST_TABLE):
        return False
    values = np.frombuffer(np.asarray(buffer.data, np.uint8).tobytes(), np.float32)
    scale = np.abs(values).max() / 127
    buffer.data = np.frombuffer(np.round(values / scale).astype(np.int8).tobytes(), np.uint8)
    tensor.type = schema.TensorType.INT8
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [float(scale)], [0]
    return True


class Model(object):
    """A TensorFlow Lite model, ready to run; call it with {input name: array}."""

    def __init__(self, path_or_bytes, num_threads=1, interpreter=None):
        """interpreter: class with the interface of tf.lite.Interpreter, which is the default."""
        content = path_or_bytes
        if not isinstance(content, bytes):
            with files.open_binary(path_or_bytes) as stream:
                content = stream.read()
        with _silence():
            self._interpreter = (interpreter or tf.lite.Interpreter)(
                model_content=content, num_threads=num_threads)
        self._inputs = {detail["name"].split(":")[0]: detail
                        for detail in self._interpreter.get_input_details()}
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._shapes = None

    def __call__(self, inputs):
        """Returns the output for {input name: int32 array}."""
        shapes = {name: value.shape for name, value in inputs.items()}
        if shapes != self._shapes:
            for name, shape in shapes.items():
                self._interpreter.resize_tensor_input(self._inputs[name]["index"], shape)
            with _silence():
                self._interpreter.allocate_tensors()
            self._shapes = shapes
        for name, value in inputs.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], value)
        self._interpreter.invoke()
        return np.array(self._interpreter.get_tensor(self._output))

    def close(self):
        self._interpreter = None


@contextlib.contextmanager
def _silence():
    """Keeps what C++ code prints from the screen; yields a file with it."""
    with tempfile.TemporaryFile() as log:
        kept = {number: os.dup(number) for number in (1, 2)}
        try:
            for number in kept:
                os.dup2(log.fileno(), number)
            yield log
        finally:
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)


def _end_of(log):
    log.seek(0)
    return log.read().decode("utf-8", "replace")[-1000:]
