"""The graph that is exported: a model with one head, its weights as constants.

Dimension letters: B batch, S sequence length, P masks of a text, H hidden size, C classes,
V vocabulary.
"""

import collections

import checkpoints
import heads
import inference
import modeling
import runtime  # noqa: F401 - before TensorFlow
from errors import UserError

import tensorflow.compat.v1 as tf

HEADS = ("classifier", "pooled", "embedding", "masked_words")

# The head's output, as it is called in every format.
OUTPUTS = {"classifier": "probabilities", "pooled": "pooled", "embedding": "embedding",
           "masked_words": "words"}
SHAPES = {"classifier": "[B, C]", "pooled": "[B, H]", "embedding": "[B, H]",
          "masked_words": "[B, P, V]"}

INPUTS = ("input_ids", "input_mask", "segment_ids")
POSITIONS = "positions"

Head = collections.namedtuple("Head", ["name", "layer", "pooling"])
Head.__doc__ = """What is exported of a model.

name: one of HEADS; layer, pooling: of the embedding, as for inference.Predictor.vectors."""

Frozen = collections.namedtuple("Frozen", ["graph_def", "inputs", "output"])
Frozen.__doc__ = """A graph of constants.

graph_def: tf.GraphDef; inputs: list of names, int32 each, [B, S] or positions [B, P]; output: name,
float32. All are names of operations without a scope, each with one output."""


def choose_head(model, name=None, layer=-2, pooling="mean"):
    """Returns the Head to export of a model.

    Args:
        model: inference.ModelFolder.
        name: one of HEADS; None: the classifier where there is one, else the embedding.

    Raises:
        UserError: the model has no such head, or no such layer.
    """
    name = name or ("classifier" if model.head else "embedding")
    if name == "classifier" and model.head is None:
        raise UserError("--head=classifier: %s has no classifier, it is only pre-trained; "
                        "fine-tune it first, or take another head" % model.checkpoint)
    if name == "masked_words" and not model.fills_masks:
        raise UserError("--head=masked_words: %s has no masked words' head; use a checkpoint of "
                        "pre-training" % model.checkpoint)
    if name == "pooled" and not inference.has_pooler(model.checkpoint):
        raise UserError("--head=pooled: %s has no pooler; take another head" % model.checkpoint)
    count = model.config.num_hidden_layers
    if name == "embedding" and not -count <= layer < count:
        raise UserError("--layer=%d: the model's %d layers are 0 to %d, or -%d to -1"
                        % (layer, count, count - 1, count))
    return Head(name, layer, pooling)


def takes_strings(model, head):
    """Whether strings can be made the graph's inputs by TensorFlow's core operations alone.

    Those do not include SentencePiece; and where words are wanted, only ids can say at which
    places.
    """
    return not model.tokenizer.is_sentencepiece and head.name != "masked_words"


def freeze(model, head, length=None):
    """Builds a model with one head and makes constants of its weights.

    What the head does not need is not in the graph.

    Args:
        model: inference.ModelFolder; head: Head.
        length: tokens of a text, for a graph that takes texts one by one, padded to that length;
            None: any number of texts, of any length.

    Returns:
        Frozen.

    Raises:
        UserError: checkpoint and configuration do not belong together.
    """
    with tf.Graph().as_default() as graph:
        shape = [None, None] if length is None else [1, length]
        inputs = [tf.placeholder(tf.int32, shape, name=name) for name in INPUTS]
        names = list(INPUTS)
        if head.name == "masked_words":
            inputs.append(tf.placeholder(tf.int32, [shape[0], None if length is None else 1],
                                         name=POSITIONS))
            names.append(POSITIONS)
        output = tf.identity(_output(model, head, *inputs), name=OUTPUTS[head.name])
        needed = tf.graph_util.extract_sub_graph(graph.as_graph_def(), names + [output.op.name])
        _load(model, needed)
        settings = tf.ConfigProto(intra_op_parallelism_threads=inference.threads_for(model.config))
        with tf.Session(graph=graph, config=settings) as session:
            session.run(tf.global_variables_initializer())
            constants = tf.graph_util.convert_variables_to_constants(
                session, needed, names + [output.op.name])
    with tf.Graph().as_default():
        tf.import_graph_def(constants, name="")
        # A TensorFlow that does not know an attribute takes the graph if it has none of them.
        plain = tf.train.export_meta_graph(clear_devices=True, strip_default_attrs=True).graph_def
    plain.library.Clear()  # functions of gradients
    for node in plain.node:
        for attribute in [name for name in node.attr if name.startswith("_")]:
            del node.attr[attribute]  # notes of this TensorFlow to itself
    return Frozen(plain, names, OUTPUTS[head.name])


def _output(model, head, input_ids, input_mask, segment_ids, positions=None):
    """Builds the model; returns the head's output."""
    inputs = [input_ids, input_mask, segment_ids]
    if head.name == "classifier":
        return tf.nn.softmax(heads.classifier_logits(
            model.config, model.layout.model_class, model.head, False, *inputs))
    encoder = model.layout.model_class(
        model.config, False, *inputs, scope="bert",
        output_positions=modeling.first_position(input_ids) if head.name == "pooled" else None)
    if head.name == "pooled":
        return encoder.get_pooled_output()
    if head.name == "embedding":
        return heads.pool(encoder.get_all_encoder_layers()[head.layer], input_mask, head.pooling)
    return tf.nn.softmax(heads.word_logits(model.config, encoder, positions))


def _load(model, needed):
    """Has the initialisers load the weights; those of the part that is needed must all be there."""
    names = {node.name for node in needed.node}
    shapes = {variable.op.name: tuple(variable.shape.as_list())
              for variable in tf.trainable_variables() if variable.op.name in names}
    checkpoints.load(checkpoints.fit_with_heads(model.checkpoint, shapes))


class Session(object):
    """A graph of constants, ready to run."""

    def __init__(self, frozen, num_threads=0):
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(frozen.graph_def, name="")
        self._names, self._output = frozen.inputs, frozen.output + ":0"
        self._session = tf.Session(graph=graph, config=tf.ConfigProto(
            intra_op_parallelism_threads=num_threads))

    def __call__(self, feeds):
        """Returns the output for {input name: int32 array}."""
        return self._session.run(self._output, {name + ":0": feeds[name] for name in self._names})

    def close(self):
        self._session.close()
