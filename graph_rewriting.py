"""Rewrites of a graph of constants for converters: the same function in a form that suits them.

A converter folds concatenated kernels into copies of them. TFLite's quantiser gives a whole matrix
one scale, so small rows of a table of word vectors would lose most of their digits, and where
activations are of 8 bits too, the score of -10000 for padding would leave none for the others.
"""

import modeling
import numpy as np
import runtime  # noqa: F401 - before TensorFlow

import tensorflow.compat.v1 as tf

SMALLEST_TABLE = 1024  # elements; TFLite quantises none that is smaller
# Added to the scores of padding where they are quantised: e^-20 is nothing beside 1/255.
SMALL_MASKED_SCORE = -20.0


def for_size(graph_def):
    """Returns a copy whose kernels are not concatenated, so that no folded copies of them arise.

    x · [K1 K2] becomes [x · K1, x · K2].
    """
    graph = _Graph(graph_def)
    for node in graph.nodes_of("MatMul"):
        joined = graph.behind(node.input[1])
        if joined.op == "ConcatV2" and not node.attr["transpose_b"].b:
            _multiply_apart(graph, node, joined)
    return graph.pruned()


def for_quantisation(graph_def):
    """Returns a copy, as by `for_size`, whose matrices keep their small numbers in 8 bits.

    The rows of a looked-up table, and the columns of a kernel, are divided by their largest number,
    and what is looked up or multiplied is multiplied with that again.
    """
    graph = _Graph(for_size(graph_def))
    for node in graph.nodes_of("GatherV2"):
        table = graph.behind(node.input[0])
        if _is_table(table):
            rows, factors = _balanced(graph, table, axis=1)
            looked_up = graph.add_copy(node, "/rows", {0: rows})
            graph.replace(node, "Mul", [looked_up, graph.add_copy(node, "/factors", {0: factors})])
    for node in graph.nodes_of("MatMul"):
        kernel = graph.behind(node.input[1])
        if _is_table(kernel):
            if node.attr["transpose_b"].b:  # scores of words: the table is that of their vectors
                columns, factors = _balanced(graph, kernel, axis=1, turned=True)
            else:
                columns, factors = _balanced(graph, kernel, axis=0)
            product = graph.add_copy(node, "/columns", {1: columns})
            graph.replace(node, "Mul", [product, factors])
    return graph.pruned()


def with_small_masked_score(graph_def):
    """Returns a copy of a graph whose attention adds SMALL_MASKED_SCORE to padding's scores."""
    graph = _Graph(graph_def)
    for node in graph.nodes_of("Const"):
        value = node.attr["value"].tensor
        if list(value.float_val) == [modeling.MASKED_SCORE]:
            value.float_val[:] = [SMALL_MASKED_SCORE]
    return graph.pruned()


def _balanced(graph, table, axis, turned=False):
    """Parts a matrix into one whose rows (axis 1) or columns (axis 0) reach up to 1, and factors.

    Returns:
        (name of the one, name of the other: [rows, 1], [1, rows] if turned, or [1, columns]).
    """
    names = (table.name + "/balanced_%d" % axis, table.name + "/factors_%d%d" % (axis, turned))
    values = tf.make_ndarray(table.attr["value"].tensor)
    factors = np.maximum(np.abs(values).max(axis=axis, keepdims=True), np.float32(1e-12))
    graph.add_constant(names[0], values / factors)
    graph.add_constant(names[1], factors.T if turned else factors)
    return names


def _is_table(node):
    """Whether a node is a matrix of numbers that a quantiser makes 8-bit."""
    if node.op != "Const" or node.attr["dtype"].type != tf.float32.as_datatype_enum:
        return False
    shape = node.attr["value"].tensor.tensor_shape.dim
    return len(shape) == 2 and shape[0].size * shape[1].size >= SMALLEST_TABLE


def _multiply_apart(graph, node, joined):
    kernels = joined.input[:-1]
    products = [graph.add_copy(node, "/part_%d" % number, {1: kernel})
                for number, kernel in enumerate(kernels)]
    axis = graph.add_constant(node.name + "/axis", np.array(1, np.int32))
    graph.replace(node, "ConcatV2", products + [axis])
    node.attr["N"].i = len(products)
    node.attr["Tidx"].type = tf.int32.as_datatype_enum


class _Graph(object):
    """A graph that nodes are added to; a replaced node keeps its name, so what reads it stays."""

    def __init__(self, graph_def):
        self._graph_def = tf.GraphDef()
        self._graph_def.CopyFrom(graph_def)
        self._nodes = {node.name: node for node in self._graph_def.node}
        self._outputs = self._nodes.keys() - {
            _name(source) for node in graph_def.node for source in node.input}

    def nodes_of(self, op):
        return [node for node in list(self._nodes.values()) if node.op == op]

    def behind(self, source):
        """Returns the node that an input comes from, identities passed over."""
        node = self._nodes[_name(source)]
        while node.op == "Identity":
            node = self._nodes[_name(node.input[0])]
        return node

    def add_constant(self, name, value):
        """Adds a constant, unless there is one of that name; returns the name."""
        if name in self._nodes:
            return name
        node = self._add(name)
        node.op = "Const"
        node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        return node.name

    def add_copy(self, node, ending, inputs):
        """Adds a copy of a node with other inputs, {place: name}; returns its name."""
        copy = self._add(node.name + ending, node)
        for place, source in inputs.items():
            copy.input[place] = source
        return copy.name

    def replace(self, node, op, inputs):
        """Makes another operation on float32 of a node."""
        name = node.name
        node.Clear()
        node.name, node.op = name, op
        node.input.extend(inputs)
        node.attr["T"].type = tf.float32.as_datatype_enum

    def _add(self, name, like=None):
        node = self._graph_def.node.add()
        if like is not None:
            node.CopyFrom(like)
        node.name = name
        self._nodes[name] = node
        return node

    def pruned(self):
        """Returns the graph without what nothing reads any more."""
        return tf.graph_util.extract_sub_graph(self._graph_def, sorted(self._outputs))


def _name(source):
    return source.lstrip("^").split(":")[0]
