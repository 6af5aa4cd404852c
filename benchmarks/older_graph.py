"""The model and its training step as code of the BERT family computes them: what "older" measures.

The same function of the same variables as modeling.py's, in the arrangement that the older releases
shared with BERT (arXiv 1810.04805): every layer at every position; query, key and value apart;
GELU, LayerNorm and softmax composed of single operations, whose gradients TensorFlow derives;
segments and labels as one-hot matrices, over the whole vocabulary for masked words; an optimizer of
single operations for each variable. Benchmarks alone use it; tests/test_benchmarks.py compares its
losses and updated weights with this project's.
"""

import collections

import heads
import runtime  # noqa: F401 - before TensorFlow

import tensorflow.compat.v1 as tf

LEARNING_RATE, DECAY, CLIP_NORM = 1e-5, 0.01, 1.0

Spec = collections.namedtuple("Spec", ["loss", "train_op", "eval_metrics"])
Spec.__doc__ = "What side_by_side.Steps uses of an estimator's specification."


def classifier_model_fn(config, classes=2):
    """Returns the model_fn of a classifier on the pooled first token."""
    def model_fn(features, labels, mode, params):
        del labels, params
        vectors, _ = encode(config, features)
        pooled = tf.tanh(_dense(vectors[:, 0], config.hidden_size, "bert/pooler/dense"))
        if mode == tf.estimator.ModeKeys.TRAIN:
            pooled = tf.nn.dropout(pooled, rate=heads.POOLED_DROPOUT)
        weights = _variable("output_weights", [classes, config.hidden_size])
        logits = tf.nn.bias_add(tf.matmul(pooled, weights, transpose_b=True),
                                _variable("output_bias", [classes], 0.0))
        nll = _one_hot_loss(logits, features["label_ids"], classes)
        return _spec(tf.reduce_mean(nll), mode, [nll], lambda nll: {"loss": tf.metrics.mean(nll)})

    return model_fn


def pretraining_model_fn(config):
    """Returns the model_fn of pre-training: masked words and the order of sentences."""
    def model_fn(features, labels, mode, params):
        del labels, params
        vectors, embeddings = encode(config, features)
        table = tf.matmul(embeddings, _variable("bert/embeddings/word_embeddings_2"))
        at_masks = tf.batch_gather(vectors, features["masked_lm_positions"])
        at_masks = _gelu(_dense(tf.reshape(at_masks, [-1, config.hidden_size]),
                                config.hidden_size, "cls/predictions/transform/dense"))
        at_masks = _layer_norm(at_masks, "cls/predictions/transform/LayerNorm")
        logits = tf.nn.bias_add(tf.matmul(at_masks, table, transpose_b=True), _variable(
            "cls/predictions/output_bias", [config.vocab_size], 0.0))
        nll = _one_hot_loss(logits, tf.reshape(features["masked_lm_ids"], [-1]), config.vocab_size)
        weights = tf.reshape(features["masked_lm_weights"], [-1])
        words = tf.reduce_sum(nll * weights) / (tf.reduce_sum(weights) + 1e-5)
        pooled = tf.tanh(_dense(vectors[:, 0], config.hidden_size, "bert/pooler/dense"))
        order = tf.nn.bias_add(tf.matmul(
            pooled, _variable("cls/seq_relationship/output_weights", [2, config.hidden_size]),
            transpose_b=True), _variable("cls/seq_relationship/output_bias", [2], 0.0))
        order_nll = _one_hot_loss(order, tf.reshape(features["next_sentence_labels"], [-1]), 2)
        return _spec(words + tf.reduce_mean(order_nll), mode, [nll],
                     lambda nll: {"loss": tf.metrics.mean(nll)})

    return model_fn


def _spec(loss, mode, outputs, metric_fn):
    train_op = training_step(loss) if mode == tf.estimator.ModeKeys.TRAIN else None
    return Spec(loss, train_op, (metric_fn, outputs))


# ---------------------------------------------------------------------------------------------
# The encoder
# ---------------------------------------------------------------------------------------------

def encode(config, features):
    """Returns (vectors [B, S, H] of the last layer, table [V, E] of the words)."""
    ids, segments = features["input_ids"], features["segment_ids"]
    table = _variable("bert/embeddings/word_embeddings",
                      [config.vocab_size, config.embedding_size])
    project = _variable("bert/embeddings/word_embeddings_2",
                        [config.embedding_size, config.hidden_size])
    size, length = tf.shape(ids)[0], tf.shape(ids)[1]
    vectors = tf.matmul(tf.gather(table, tf.reshape(ids, [-1])), project)
    vectors = tf.reshape(vectors, [size, length, config.hidden_size])
    types = _variable("bert/embeddings/token_type_embeddings",
                      [config.type_vocab_size, config.hidden_size])
    one_hot = tf.one_hot(tf.reshape(segments, [-1]), config.type_vocab_size)
    vectors += tf.reshape(tf.matmul(one_hot, types), tf.shape(vectors))
    positions = _variable("bert/embeddings/position_embeddings",
                          [config.max_position_embeddings, config.hidden_size])
    vectors = _layer_norm(vectors + positions[:length], "bert/embeddings/LayerNorm")
    mask = tf.cast(features["input_mask"], tf.float32)
    mask = tf.ones([size, length, 1]) * mask[:, tf.newaxis, :]
    vectors = tf.reshape(vectors, [-1, config.hidden_size])
    for _ in range(config.num_hidden_layers):
        vectors = _layer(config, vectors, mask, size, length)
    return tf.reshape(vectors, [size, length, config.hidden_size]), table


def _layer(config, vectors, mask, size, length):
    """One layer. vectors: [B * S, H]; mask: [B, S, S], 1 where a token may be seen."""
    scope, heads = "bert/encoder/layer_shared/", config.num_attention_heads
    width = config.hidden_size // heads

    def by_head(name):
        dense = _dense(vectors, config.hidden_size, scope + "attention/self/" + name)
        return tf.transpose(tf.reshape(dense, [size, length, heads, width]), [0, 2, 1, 3])

    scores = tf.matmul(by_head("query"), by_head("key"), transpose_b=True)
    scores = scores / float(width) ** 0.5 + (1.0 - mask[:, tf.newaxis]) * -10000.0
    context = tf.matmul(tf.nn.softmax(scores), by_head("value"))
    context = tf.reshape(tf.transpose(context, [0, 2, 1, 3]), [-1, config.hidden_size])
    attended = _dense(context, config.hidden_size, scope + "attention/output/dense")
    vectors = _layer_norm(attended + vectors, scope + "attention/output/LayerNorm")
    inner = _gelu(_dense(vectors, config.intermediate_size, scope + "intermediate/dense"))
    return _layer_norm(_dense(inner, config.hidden_size, scope + "output/dense") + vectors,
                       scope + "output/LayerNorm")


def _variable(name, shape=None, value=None):
    initializer = (tf.truncated_normal_initializer(stddev=0.02) if value is None
                   else tf.constant_initializer(value))
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        return tf.get_variable(name, shape, initializer=initializer)


def _dense(vectors, width, scope):
    kernel = _variable(scope + "/kernel", [vectors.shape[-1], width])
    return tf.nn.bias_add(tf.matmul(vectors, kernel), _variable(scope + "/bias", [width], 0.0))


def _gelu(x):
    return x * 0.5 * (1.0 + tf.tanh(0.7978845608028654 * (x + 0.044715 * tf.pow(x, 3))))


def _layer_norm(vectors, scope):
    width = vectors.shape[-1]
    mean, variance = tf.nn.moments(vectors, [-1], keep_dims=True)
    return tf.nn.batch_normalization(
        vectors, mean, variance, _variable(scope + "/beta", [width], 0.0),
        _variable(scope + "/gamma", [width], 1.0), 1e-12)


def _one_hot_loss(logits, labels, classes):
    """Negative log-likelihood of labels. [n, C], [n] to [n]."""
    return -tf.reduce_sum(tf.one_hot(labels, classes) * tf.nn.log_softmax(logits), axis=-1)


# ---------------------------------------------------------------------------------------------
# The optimizer
# ---------------------------------------------------------------------------------------------

def training_step(loss):
    """Returns the operation of a step of Adam with decoupled weight decay, without correction."""
    variables = tf.trainable_variables()
    gradients, _ = tf.clip_by_global_norm(tf.gradients(loss, variables), CLIP_NORM)
    updates = []
    for variable, gradient in zip(variables, gradients):
        name = variable.op.name
        m, v = (tf.get_variable(name + ending, variable.shape, trainable=False,
                                initializer=tf.zeros_initializer())
                for ending in ("/adam_m", "/adam_v"))
        gradient = tf.convert_to_tensor(gradient)  # the embeddings' one is sparse
        next_m = 0.9 * m + 0.1 * gradient
        next_v = 0.999 * v + 0.001 * tf.square(gradient)
        update = next_m / (tf.sqrt(next_v) + 1e-6)
        if "LayerNorm" not in name and "bias" not in name:
            update += DECAY * variable
        updates += [variable.assign(variable - LEARNING_RATE * update), m.assign(next_m),
                    v.assign(next_v)]
    return tf.group(*updates)
