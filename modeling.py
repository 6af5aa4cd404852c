"""ALBERT in the albert_zh checkpoint layout: configuration, shared layers, encoder, heads.

The layers here (dense, layer_norm, transformer_block, the heads) also build the Google layout in
modeling_google.py; only names and the place of the factorisation differ there.

ALBERT (arXiv 1909.11942) is BERT with three changes: a factorised embedding (section 3.1),
parameters shared across layers (3.1) and sentence-order prediction (3.1, equation in 4.1).

Dimension letters: B batch, S sequence length, F from-length, T to-length, N heads, D head width,
H hidden size, E embedding size, V vocabulary, P predictions per sequence.
"""

import collections
import functools
import json
import math

import files
import random_draws
import runtime  # noqa: F401 - before TensorFlow
from errors import UserError, nearest

import tensorflow.compat.v1 as tf

LAYER_NORM_EPSILON = 1e-12
MASKED_SCORE = -10000.0


# ---------------------------------------------------------------------------------------------
# Configuration
# ---------------------------------------------------------------------------------------------

LARGEST_SIZE = 1 << 24  # of anything a configuration names; no machine holds such a model
REQUIRED = object()
Key = collections.namedtuple("Key", ["type", "default"])


class Config(object):
    """A model configuration whose keys are checked: unknown, missing and ill-typed ones raise.

    Subclasses give `KEYS`, an ordered mapping of name to (type, default), and `UNUSED_KEYS`, names
    that released files carry without use.
    """

    KEYS = collections.OrderedDict()
    UNUSED_KEYS = ()
    UNUSED_PREFIXES = ()

    def __init__(self, vocab_size, **settings):
        settings["vocab_size"] = vocab_size
        self._set(settings, "configuration")

    @classmethod
    def from_dict(cls, settings, source="configuration"):
        """Builds a configuration from a dict that gives every key without a default.

        Raises:
            UserError: names `source`, the key at fault and the remedy.
        """
        if not isinstance(settings, dict):
            raise UserError("%s: a JSON object with the model's sizes is expected" % source)
        missing = [name for name in cls.REQUIRED_IN_FILES if name not in settings]
        cls._check_names(settings, source)
        if missing:
            raise UserError("%s lacks %s" % (source, ", ".join(missing)))
        config = cls.__new__(cls)
        config._set(settings, source)
        return config

    @classmethod
    def from_json_file(cls, path, flag="bert_config_file"):
        """Reads a configuration; UserError names the file and the key at fault."""
        files.require_file(path, flag)
        return cls.from_dict(files.read_json(path), source=path)

    def require_positions(self, max_seq_length):
        """Raises UserError when a length is beyond the position table."""
        if max_seq_length > self.max_position_embeddings:
            raise UserError("--max_seq_length=%d is beyond the %d positions of the configuration"
                            % (max_seq_length, self.max_position_embeddings))

    def to_dict(self):
        return collections.OrderedDict((name, getattr(self, name)) for name in self.KEYS)

    def to_json_string(self):
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def architecture(self):
        """Returns the settings that must agree between a checkpoint and the model that loads it.

        Dropout and the initialiser's range may be chosen anew for each run.
        """
        free = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
        return {name: value for name, value in self.to_dict().items() if name not in free}

    @classmethod
    def _check_names(cls, settings, source):
        for name in settings:
            known = (name in cls.KEYS or name in cls.UNUSED_KEYS
                     or name.startswith(cls.UNUSED_PREFIXES))
            if not known:
                cls._refuse(name, source)

    @classmethod
    def _refuse(cls, name, source):
        if name in ("architectures", "model_type"):
            raise UserError("%s: this is a Hugging Face configuration; convert its folder first, "
                            "with convert_albert_pytorch_checkpoint_to_tf.py" % source)
        raise UserError("%s: unknown key %r.%s Known keys: %s" % (
            source, name, nearest(name, cls.KEYS), ", ".join(cls.KEYS)))

    def _set(self, settings, source):
        self._check_names(settings, source)
        for name, key in self.KEYS.items():
            value = settings.get(name, key.default)
            if value is REQUIRED:
                raise UserError("%s lacks %s" % (source, name))
            setattr(self, name, _checked(value, key.type, "%s: %s" % (source, name)))
        self._check_values(source)

    def _check_values(self, source):
        for name, key in self.KEYS.items():
            value = getattr(self, name)
            if key.type is int and not 1 <= value <= LARGEST_SIZE:
                raise UserError("%s: %s is %d; it must be at least 1, and at most %d"
                                % (source, name, value, LARGEST_SIZE))
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UserError("%s: %s is %g; a probability from 0 to below 1 is expected"
                                % (source, name, getattr(self, name)))
        if not 0 < self.initializer_range <= 1:
            raise UserError("%s: initializer_range must be above 0, at most 1; 0.02 is usual"
                            % source)
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                "%s: hidden_size %d is not a multiple of num_attention_heads %d; choose a number "
                "of heads that divides it" % (source, self.hidden_size, self.num_attention_heads))
        try:
            get_activation(self.hidden_act)
        except ValueError as error:
            raise UserError("%s: %s" % (source, error)) from error


def _checked(value, kind, place):
    """Returns `value` as `kind`; UserError when it is of another type (True is no number)."""
    fits = isinstance(value, kind) and not isinstance(value, bool)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not fits or value != value:
        names = {int: "a whole number", float: "a number", str: "a string"}
        raise UserError("%s is %s; %s is expected" % (place, json.dumps(value), names[kind]))
    return value


def is_google(settings):
    """Tells whether the settings in a configuration file are of the Google layout."""
    return "num_hidden_groups" in settings or "inner_group_num" in settings


class BertConfig(Config):
    """Configuration of the albert_zh layout (`albert_config/albert_config_*.json`).

    ln_type: "postln" (LayerNorm after each residual sum) or "preln" (before each sub-layer).
    """

    KEYS = collections.OrderedDict([
        ("vocab_size", Key(int, REQUIRED)),
        ("embedding_size", Key(int, 128)),
        ("hidden_size", Key(int, 768)),
        ("num_hidden_layers", Key(int, 12)),
        ("num_attention_heads", Key(int, 12)),
        ("intermediate_size", Key(int, 3072)),
        ("hidden_act", Key(str, "gelu")),
        ("hidden_dropout_prob", Key(float, 0.0)),
        ("attention_probs_dropout_prob", Key(float, 0.0)),
        ("max_position_embeddings", Key(int, 512)),
        ("type_vocab_size", Key(int, 2)),
        ("initializer_range", Key(float, 0.02)),
        ("ln_type", Key(str, "postln")),
    ])
    REQUIRED_IN_FILES = tuple(k for k in KEYS if k not in ("embedding_size", "ln_type"))
    UNUSED_KEYS = ("directionality", "net_structure_type", "gap_size", "num_memory_blocks",
                   "down_scale_factor")
    UNUSED_PREFIXES = ("pooler_",)

    @classmethod
    def _refuse(cls, name, source):
        if is_google([name]):
            raise UserError(
                "%s: this is a Google-layout config (it has %r); use run_pretraining_google.py or "
                "run_classifier_sp_google.py with it, or one of albert_config/albert_config_"
                "{tiny,base,large,xlarge,xxlarge}.json here" % (source, name))
        super(BertConfig, cls)._refuse(name, source)

    def _check_values(self, source):
        super(BertConfig, self)._check_values(source)
        if self.ln_type not in ("postln", "preln"):
            raise UserError('%s: ln_type is "%s"; "postln" or "preln" is expected'
                            % (source, self.ln_type))


# ---------------------------------------------------------------------------------------------
# Layers that both layouts share
# ---------------------------------------------------------------------------------------------

# tanh form: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), which is x sigmoid(x (A + B x^2)).
GELU_A = 2.0 * math.sqrt(2.0 / math.pi)
GELU_B = 0.044715 * GELU_A


@tf.custom_gradient
def gelu(x):
    """Gaussian error linear unit in its tanh form (arXiv 1606.08415, section 2).

    With a gradient of its own, which goes over memory less often and holds fewer tensors for the
    way back than the one that TensorFlow derives; see also `compile_activations`.
    """
    compiled = dict(tf.get_collection(_COMPILED)).get(x.dtype)
    if compiled:
        return compiled.value(x), lambda upstream: compiled.slope(x, upstream)
    result, share = _gelu_and_share(x)
    return result, lambda upstream: _gelu_slope(x, result, share, upstream)


def _gelu_and_share(x):
    share = tf.sigmoid(x * (GELU_A + GELU_B * tf.square(x)))
    return x * share, share


def _gelu_slope(x, result, share, upstream):
    slope = (GELU_A + 3.0 * GELU_B * tf.square(x)) * (1.0 - share)
    return upstream * (share + result * slope)


_COMPILED = "compiled_gelu"  # collection of the graph: (type, _CompiledGelu)
_CompiledGelu = collections.namedtuple("_CompiledGelu", ["value", "slope"])


def compile_activations():
    """Has XLA compile the GELUs of the current graph, where TensorFlow can do so on CPUs.

    One pass over memory each in place of six and eight; the way back computes again what it needs.
    Each new shape of x is compiled anew, which takes some hundredths of a second.
    """
    def slope(x, upstream):
        return _gelu_slope(x, *(_gelu_and_share(x) + (upstream,)))

    for dtype in (tf.float32, tf.bfloat16):
        compiled = [runtime.compiled(function, [dtype] * tensors) for function, tensors in (
            (lambda x: _gelu_and_share(x)[0], 1), (slope, 2))]
        if all(compiled):
            tf.add_to_collection(_COMPILED, (dtype, _CompiledGelu(*compiled)))


def get_activation(name):
    """Returns the function of an activation's name; "linear" gives None. ValueError if unknown."""
    known = {"linear": None, "relu": tf.nn.relu, "gelu": gelu, "tanh": tf.tanh}
    if name not in known:
        raise ValueError('hidden_act "%s" is unknown; use one of %s'
                         % (name, ", ".join(sorted(known))))
    return known[name]


def create_initializer(initializer_range=0.02):
    return tf.truncated_normal_initializer(stddev=initializer_range)


def get_shape_list(tensor, expected_rank=None):
    """Returns the shape as a list: numbers where it is static, scalar tensors where dynamic.

    Raises:
        ValueError: the rank is not `expected_rank`.
    """
    static = tensor.shape.as_list()
    if expected_rank is not None and len(static) != expected_rank:
        raise ValueError("%s has shape %s; rank %d is expected"
                         % (tensor.name, static, expected_rank))
    if all(size is not None for size in static):
        return static
    dynamic = tf.shape(tensor)
    return [dynamic[i] if size is None else size for i, size in enumerate(static)]


def dropout(x, probability):
    """Dropout whose draws a run repeats that goes on; see random_draws."""
    if not probability:
        return x
    kept = _kept(x, probability, random_draws.seeds([2]))
    return tf.where(kept, x * (1.0 / (1.0 - probability)), tf.zeros_like(x))


class SeededDropout(object):
    """`dropout` whose n-th call draws the same each time that it is made with the same seeds."""

    def __init__(self, seeds):
        """seeds: int tensor [calls, 2]."""
        self._seeds, self._calls = seeds, 0

    def __call__(self, x, probability):
        seed = self.next_seed()
        return x * dropout_factors(x, probability, seed) if probability else x

    def next_seed(self):
        """Returns the seed of the next call, int [2], in place of that call."""
        self._calls += 1
        return self._seeds[self._calls - 1]


def dropout_factors(x, probability, seed):
    """Returns what dropout multiplies with, the same for the same seed: 0 or 1 / (1 - p)."""
    return tf.cast(_kept(x, probability, seed), x.dtype) * (1.0 / (1.0 - probability))


def _kept(x, probability, seed):
    return tf.random.stateless_uniform(tf.shape(x), seed) >= probability


def layer_norm(x, name="LayerNorm"):
    """Normalises the last axis to mean 0 and variance 1, then scales and shifts (1607.06450)."""
    with tf.variable_scope(name):
        width = x.shape.as_list()[-1]
        beta = tf.get_variable("beta", [width], initializer=tf.zeros_initializer())
        gamma = tf.get_variable("gamma", [width], initializer=tf.ones_initializer())
        return _normalised(x, tf.convert_to_tensor(beta), tf.convert_to_tensor(gamma))


@tf.custom_gradient
def _normalised(x, beta, gamma):
    """gamma n + beta with n = (x - mean) / deviation, and its gradient in few passes.

    dx = (g - mean(g) - n mean(g n)) / deviation, where g = upstream gamma.
    """
    mean, variance = tf.nn.moments(x, axes=[-1], keep_dims=True)
    scale = tf.rsqrt(variance + LAYER_NORM_EPSILON)
    normal = (x - mean) * scale

    def gradient(upstream):
        g = upstream * gamma
        rows = list(range(x.shape.ndims - 1))
        upstream_normal = upstream * normal
        # The mean of g n over the width is a product with gamma, so g n itself is not needed.
        along = tf.tensordot(upstream_normal, gamma, 1)[..., tf.newaxis]
        along /= float(gamma.shape.as_list()[0])
        dx = (g - tf.reduce_mean(g, axis=-1, keepdims=True) - normal * along) * scale
        return dx, tf.reduce_sum(upstream, axis=rows), tf.reduce_sum(upstream_normal, axis=rows)

    return normal * gamma + beta, gradient


def dense(x, units, name, initializer_range=0.02, activation=None):
    """Applies x · kernel + bias. x: [rows, width]; returns [rows, units]."""
    result = dense_side_by_side(x, units, [name], initializer_range)
    return activation(result) if activation else result


def dense_side_by_side(x, units, names, initializer_range=0.02):
    """Applies several dense layers to one input in one product, their results side by side.

    Args:
        x: [rows, width]; names: the layers' scopes, each with a kernel [width, units] and a bias.

    Returns:
        [rows, len(names) * units].
    """
    kernels, biases = [], []
    for name in names:
        with tf.variable_scope(name):
            kernels.append(tf.get_variable("kernel", [x.shape.as_list()[-1], units],
                                           initializer=create_initializer(initializer_range)))
            biases.append(tf.get_variable("bias", [units], initializer=tf.zeros_initializer()))
    kernel = kernels[0] if len(names) == 1 else tf.concat(kernels, axis=1)
    bias = biases[0] if len(names) == 1 else tf.concat(biases, axis=0)
    kernel, bias = tf.cast(kernel, x.dtype), tf.cast(bias, x.dtype)
    if _multiplies_in_bfloat16() and x.shape.as_list()[-1] <= len(names) * units:
        return tf.matmul(_with_ones(x), _widened(kernel, bias[tf.newaxis], axis=0))
    with tf.get_default_graph().gradient_override_map({"BiasAdd": "SumByProduct"}):
        return tf.nn.bias_add(tf.matmul(x, kernel), bias)


_BFLOAT16 = "multiply_in_bfloat16"  # collection of the graph
LEAST_DEPTH = 64


def multiply_in_bfloat16():
    """Tells the layers of the current graph that its matrices are multiplied in bfloat16 on a CPU.

    They compute the same but for bfloat16's rounding, which biases and the feed-forward part share,
    by products of shapes that suit a CPU with AMX: with oneDNN 3.2 the bias as a further column of
    the matrix, unless the input is wider than the output, and LEAST_DEPTH columns or more, filled
    up with zeros.
    """
    tf.add_to_collection(_BFLOAT16, True)


def _multiplies_in_bfloat16():
    return bool(tf.get_collection(_BFLOAT16))


def _widened(matrix, column, axis=-1):
    """Appends a column, and zeros up to a width that products over it are fast at.

    Args:
        matrix: [..., D]; column: [..., 1]; axis: the one of D, where it is not the last.
    """
    joined = tf.concat([matrix, column], axis)
    filling = _width_of_products(matrix.shape.as_list()[axis]) - joined.shape.as_list()[axis]
    paddings = [[0, 0] for _ in range(joined.shape.ndims)]
    paddings[axis][1] = filling
    return tf.pad(joined, paddings)


def _with_ones(rows):
    """Appends ones to [..., D], for a product with what `_widened` returns."""
    width = rows.shape.as_list()[-1]
    paddings = [[0, 0]] * (rows.shape.ndims - 1) + [[0, _width_of_products(width) - width]]
    return tf.pad(rows, paddings, constant_values=1.0)


def _width_of_products(width):
    """Returns how many columns products over `width` and one more are fast at."""
    if _multiplies_in_bfloat16():
        return max((width + 8) // 8 * 8, LEAST_DEPTH)
    return (width + 4) // 4 * 4


@tf.RegisterGradient("SumByProduct")
def _bias_add_gradient(operation, upstream):
    """The gradient of a bias on [rows, units]: the sum over rows, as a product with ones.

    Faster than TensorFlow's own where it was measured, in bfloat16 on a CPU. The product's
    rows are all alike; one is taken.
    """
    del operation
    ones = tf.ones([4, tf.shape(upstream)[0]], upstream.dtype)
    return upstream, tf.matmul(ones, upstream)[0]


def embedding_lookup(ids, vocab_size, width, name, initializer_range=0.02, use_one_hot=False):
    """Looks up rows of a table.

    Args:
        ids: int tensor [B, S].
        use_one_hot: multiply with one-hot rows instead of gathering (faster on TPUs).

    Returns:
        ([B, S, width] float tensor, the table [vocab_size, width]).
    """
    table = tf.get_variable(name, [vocab_size, width],
                            initializer=create_initializer(initializer_range))
    if not use_one_hot:
        return tf.nn.embedding_lookup(table, ids), table
    batch, length = get_shape_list(ids, expected_rank=2)
    rows = tf.matmul(tf.one_hot(tf.reshape(ids, [-1]), depth=vocab_size), table)
    return tf.reshape(rows, [batch, length, width]), table


def embedding_lookup_factorized(input_ids, vocab_size, hidden_size, embedding_size=128,
                                initializer_range=0.02, word_embedding_name="word_embeddings",
                                use_one_hot_embeddings=False):
    """Looks up word vectors of width E and projects them to width H, without a bias.

    V·E + E·H parameters in place of V·H (ALBERT, section 3.1).

    Args:
        input_ids: int tensor [B, S].

    Returns:
        ([B, S, H] vectors, table [V, E], projection [E, H]).
    """
    vectors, table = embedding_lookup(input_ids, vocab_size, embedding_size, word_embedding_name,
                                      initializer_range, use_one_hot_embeddings)
    projection = tf.get_variable(word_embedding_name + "_2", [embedding_size, hidden_size],
                                 initializer=create_initializer(initializer_range))
    batch, length = get_shape_list(input_ids, expected_rank=2)
    projected = tf.matmul(tf.reshape(vectors, [-1, embedding_size]), projection)
    return tf.reshape(projected, [batch, length, hidden_size]), table, projection


def add_types_and_positions(vectors, token_type_ids, config):
    """Adds segment and position vectors, then normalises and drops out. [B, S, W] to [B, S, W]."""
    _, length, width = get_shape_list(vectors, expected_rank=3)
    if isinstance(length, int) and length > config.max_position_embeddings:
        raise UserError("the sequence length %d is beyond the position table of %d rows; use "
                        "--max_seq_length=%d or less"
                        % (length, config.max_position_embeddings, config.max_position_embeddings))
    types, _ = embedding_lookup(token_type_ids, config.type_vocab_size, width,
                                "token_type_embeddings", config.initializer_range,
                                use_one_hot=True)
    positions = tf.get_variable("position_embeddings", [config.max_position_embeddings, width],
                                initializer=create_initializer(config.initializer_range))
    summed = vectors + types + positions[tf.newaxis, :length, :]
    return dropout(layer_norm(summed), config.hidden_dropout_prob)


def attention_bias(attention_mask):
    """Turns a mask (1 = attend) into what is added to the scores: 0 or -10000.

    Args:
        attention_mask: [B, T], or [B, F, T] for a mask of its own per position.

    Returns:
        float tensor [B, 1, 1, T] or [B, 1, F, T].
    """
    mask = tf.cast(attention_mask, tf.float32)
    axes = [1, 2] if mask.shape.ndims == 2 else [1]
    for axis in axes:
        mask = tf.expand_dims(mask, axis)
    return (1.0 - mask) * MASKED_SCORE


Layer = collections.namedtuple("Layer", [
    "num_attention_heads", "intermediate_size", "activation", "hidden_dropout_prob",
    "attention_probs_dropout_prob", "initializer_range", "ln_type", "attention_parts"])
Layer.__doc__ = """What one transformer block needs to know; the width is its input's.

attention_parts: as for `Encoder`."""

BlockNames = collections.namedtuple("BlockNames", [
    "attention", "attention_norm", "intermediate", "output", "output_norm"])
BlockNames.__doc__ = "The variable scopes of one block: all that differs between the layouts."

ALBERT_ZH_NAMES = BlockNames(
    attention="attention", attention_norm="attention/output/LayerNorm",
    intermediate="intermediate/dense", output="output/dense", output_norm="output/LayerNorm")


def layer_of(config, attention_parts=1):
    """Returns the Layer of a configuration."""
    return Layer(config.num_attention_heads, config.intermediate_size,
                 get_activation(config.hidden_act), config.hidden_dropout_prob,
                 config.attention_probs_dropout_prob, config.initializer_range,
                 getattr(config, "ln_type", "postln"), attention_parts)


DROPOUTS_OF_A_BLOCK = 3


def self_attention(x, bias, batch, length, layer, queries=None, drop=dropout):
    """Multi-head scaled dot-product attention of a sequence with itself (arXiv 1706.03762, 3.2).

    Args:
        x: [B*S, H]; bias: from `attention_bias`, or None.
        queries: [B*F, H], the positions that attend; None: all of x.
        drop: `dropout` or a SeededDropout.

    Returns:
        [B*S, H], or [B*F, H], after the output projection and dropout.
    """
    width = x.shape.as_list()[-1]
    heads, size = layer.num_attention_heads, width // layer.num_attention_heads

    def project(rows, positions, names):
        projected = dense_side_by_side(rows, width, names, layer.initializer_range)
        split = tf.reshape(projected, [batch, positions, len(names), heads, size])
        return tf.unstack(tf.transpose(split, [2, 0, 3, 1, 4]))  # each [B, N, positions, D]

    with tf.variable_scope("self"):
        if queries is None:
            query, key, value = project(x, length, ["query", "key", "value"])
        else:
            query, = project(queries, -1, ["query"])
            key, value = project(x, length, ["key", "value"])
        query *= 1.0 / math.sqrt(size)  # and not the scores: it is the smaller of them
        rate = layer.attention_probs_dropout_prob
        is_same_for_all = bias is None or bias.shape.as_list()[2] == 1  # of the positions
        if layer.attention_parts > 1 and queries is None and is_same_for_all:
            seed = random_draws.seeds([2]) if drop is dropout else drop.next_seed()
            context = attend_in_parts(query, key, value, bias, layer.attention_parts, rate, seed)
        else:
            weights = drop(_attention_weights(query, key, bias), rate)
            context = tf.matmul(weights, value)
        context = tf.reshape(tf.transpose(context, [0, 2, 1, 3]), [-1, width])  # of [B, F, N, D]
    attended = dense(context, width, "output/dense", layer.initializer_range)
    return drop(attended, layer.hidden_dropout_prob)


def _attention_weights(query, key, bias):
    """Softmax of the scores. [..., F, D], [..., T, D], bias or None to [..., F, T]."""
    scores = tf.matmul(query, key, transpose_b=True)
    return tf.nn.softmax(scores if bias is None else scores + bias)


def attend_in_parts(query, key, value, bias, parts, rate=0.0, seed=None):
    """Sums of values by attention, without holding the weights of all heads at a time.

    The weights [B, N, F, T] are the widest tensors of an encoder at great lengths. Here they are
    made for some heads of some examples after the others, and made again, not kept, for the
    gradient: as FlashAttention does (arXiv 2205.14135), whose formula of the gradient this is, with
    a head where it has a tile.

    What would be added to the scores, or taken from their gradient, is added by the matrix product
    itself, as the product of one more column: the wide tensors are gone through once less.

    Args:
        query (scaled): [B, N, F, D]; key, value: [B, N, T, D].
        bias: [B, 1, 1, T] from `attention_bias`, or None.
        parts: how many parts the heads of all examples are divided into.
        rate: dropout of the weights; seed: int [2], of which it is drawn.

    Returns:
        [B, N, F, D].
    """
    bias = (tf.zeros_like(key[..., :1]) if bias is None else  # [B, N, T, 1]
            tf.ones_like(key[..., :1]) * tf.transpose(bias, [0, 1, 3, 2]))

    def of_heads(tensor):
        return tf.reshape(tensor, [-1] + get_shape_list(tensor)[2:])

    query_shape = get_shape_list(query)
    query, key, value, bias = [of_heads(tensor) for tensor in (query, key, value, bias)]
    heads = tf.shape(query)[0]
    bounds = [heads * number // parts for number in range(parts + 1)]
    # Made once: a graph of many layers has thousands of cuts, and is built by Python.
    begins = [tf.stack([bound, 0, 0]) for bound in bounds[:-1]]
    sizes = [tf.stack([end - start, -1, -1]) for start, end in zip(bounds, bounds[1:])]

    def cut(number, done, *tensors):
        """Returns a part of each tensor, which is not there before `done` is."""
        with tf.control_dependencies(done):
            found = [tf.slice(tensor, begins[number], sizes[number]) for tensor in tensors]
        for part, tensor in zip(found, tensors):
            part.set_shape([None] + tensor.shape.as_list()[1:])
        return found

    @tf.custom_gradient
    def attend(query, key, value):
        sums, wide = [], [_with_ones(query), _widened(key, bias)]
        for number in range(parts):
            wide_q, wide_k, v = cut(number, sums[-1:], *(wide + [value]))
            weights, factors = _weights_of_part(wide_q, wide_k, number, rate, seed)
            sums.append(tf.matmul(weights * factors if rate else weights, v))
        result = tf.concat(sums, 0)

        def gradient(upstream):
            # Bound to its arrival, or the weights would be made at once and kept.
            with tf.control_dependencies([upstream]):
                again = [tf.identity(one) for one in (query, key, value, bias, result, upstream)]
                same_seed = None if seed is None else tf.identity(seed)
            q, k, v, b, summed, up = again
            mean = tf.reduce_sum(up * summed, -1, keepdims=True)
            # The scores' gradient: weights (dropped(upstream valueᵀ) - mean).
            sides = [up, v] if rate else [_widened(up, -mean), _with_ones(v)]
            tensors = [q, k, up, _with_ones(q), _widened(k, b), mean] + sides
            gradients, done = [], []
            for number in range(parts):
                q, k, up, wide_q, wide_k, mean, left, right = cut(number, done, *tensors)
                weights, factors = _weights_of_part(wide_q, wide_k, number, rate, same_seed)
                slope = tf.matmul(left, right, transpose_b=True)
                slope = (slope * factors - mean if rate else slope) * weights
                done = [tf.matmul(slope, k), tf.matmul(slope, q, transpose_a=True),
                        tf.matmul(weights * factors if rate else weights, up, transpose_a=True)]
                gradients.append(done)
            return [tf.concat(one, 0) for one in zip(*gradients)]

        return result, gradient

    return tf.reshape(attend(query, key, value), query_shape)


def _weights_of_part(query, key, number, rate, seed):
    """Returns a part's weights before dropout, and dropout's factors for them."""
    weights = _attention_weights(query, key, None)
    return weights, dropout_factors(weights, rate, seed + [number, 0]) if rate else 1.0


def transformer_block(x, bias, batch, length, layer, names, output_positions=None, drop=dropout):
    """One block: attention and feed-forward, each with a residual sum and a LayerNorm.

    Post-LN: y = LN(x + f(x)). Pre-LN: y = x + f(LN(x)).

    Args:
        x: [B*S, H].
        output_positions: int [B, P], the positions to compute; None: all.
        drop: `dropout`, or a SeededDropout with DROPOUTS_OF_A_BLOCK seeds.

    Returns:
        [B*S, H], or [B*P, H].
    """
    width = x.shape.as_list()[-1]
    pre = layer.ln_type == "preln"

    def chosen(rows):
        if output_positions is None:
            return rows
        return gather_positions(tf.reshape(rows, [batch, length, width]), output_positions)

    def attend(y):
        with tf.variable_scope(names.attention):
            return self_attention(y, bias, batch, length, layer,
                                  None if output_positions is None else chosen(y), drop)

    def feed_forward(y):
        # Said here, since TensorFlow would give the widest tensors to a compiled GELU in float32.
        y = tf.cast(y, tf.bfloat16) if _multiplies_in_bfloat16() else y
        inner = dense(y, layer.intermediate_size, names.intermediate, layer.initializer_range,
                      layer.activation)
        outer = dense(inner, width, names.output, layer.initializer_range)
        return drop(tf.cast(outer, tf.float32), layer.hidden_dropout_prob)

    if pre:
        x = chosen(x) + attend(layer_norm(x, names.attention_norm))
        return x + feed_forward(layer_norm(x, names.output_norm))
    x = layer_norm(chosen(x) + attend(x), names.attention_norm)
    return layer_norm(x + feed_forward(x), names.output_norm)


def run_blocks(vectors, attention_mask, scopes, layer, names, output_positions=None,
               recompute=False):
    """Runs transformer blocks one after another.

    Args:
        vectors: [B, S, H].
        attention_mask: [B, T] or [B, F, T], 1 where a position may be attended to; None: all.
        scopes: the variable scope of each block; blocks of one scope share their parameters.
        layer: Layer; names: BlockNames.
        output_positions: int [B, P], the positions that the last block is computed at; None: all.
        recompute: keep only each block's input for the way back and compute the block again there:
            less memory for one more pass forward (arXiv 1604.06174).

    Returns:
        list of the blocks' outputs, [B, S, H] each, the last one [B, P, H].
    """
    batch, length, width = get_shape_list(vectors, expected_rank=3)
    bias = None if attention_mask is None else attention_bias(attention_mask)
    x = tf.reshape(vectors, [-1, width])
    outputs = []
    for number, scope in enumerate(scopes, start=1):
        positions = output_positions if number == len(scopes) else None
        if positions is not None and bias is not None:
            bias = attention_bias(_rows_of_mask(attention_mask, positions))
        block = functools.partial(transformer_block, bias=bias, batch=batch, length=length,
                                  layer=layer, names=names, output_positions=positions)
        with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
            x = recomputed(block, x) if recompute else block(x)
        outputs.append(tf.reshape(x, [batch, length if positions is None else -1, width]))
    return outputs


def recomputed(block, x):
    """Runs a block such that nothing but its input is kept for the gradient.

    Args:
        block: function of x and `drop` whose variables are resource variables of the current scope;
            it calls `drop` DROPOUTS_OF_A_BLOCK times.
    """
    scope = tf.get_variable_scope()
    # Drawn here and not in the block: both runs of it must leave out the same.
    seeds = random_draws.seeds([DROPOUTS_OF_A_BLOCK, 2])

    @tf.custom_gradient
    def run(value):
        def gradient(upstream, variables=None):
            # Bound to the gradient's arrival, or TensorFlow would compute the block at once and
            # keep what it was to forget; so too what depends on the seeds alone.
            with tf.control_dependencies([upstream]):
                again = tf.stop_gradient(value)
            with tf.control_dependencies([again]):
                same_seeds = tf.identity(seeds)
            with tf.variable_scope(scope, reuse=True, auxiliary_name_scope=False):
                result = block(again, drop=SeededDropout(same_seeds))
            variables = variables or []
            gradients = tf.gradients(result, [again] + variables, upstream)
            return gradients[0], gradients[1:]

        return block(value, drop=SeededDropout(seeds)), gradient

    return run(x)


def _rows_of_mask(attention_mask, positions):
    """Returns the part of a mask that tells what some positions attend to."""
    if attention_mask.shape.ndims == 2:
        return attention_mask
    batch, _, targets = get_shape_list(attention_mask)
    return tf.reshape(gather_positions(attention_mask, positions), [batch, -1, targets])


def transformer_model(input_tensor, attention_mask=None, hidden_size=768, num_hidden_layers=12,
                      num_attention_heads=12, intermediate_size=3072, intermediate_act_fn=gelu,
                      hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
                      initializer_range=0.02, do_return_all_layers=False,
                      share_parameter_across_layers=True, ln_type="postln",
                      output_positions=None, recompute=False, attention_parts=1):
    """A stack of transformer blocks that share one set of parameters (ALBERT, section 3.1).

    Args:
        input_tensor: [B, S, H].
        attention_mask, output_positions, recompute: as for `run_blocks`.
        attention_parts: as for `Encoder`.
        share_parameter_across_layers: False gives each layer its own (`layer_0`, `layer_1`, ...).

    Returns:
        [B, S, H] of the last layer, or the list of all layers' outputs.

    Raises:
        ValueError: the width of the input is not `hidden_size`, or not a multiple of the heads.
    """
    width = get_shape_list(input_tensor, expected_rank=3)[2]
    if width != hidden_size or hidden_size % num_attention_heads:
        raise ValueError("input width %s, hidden_size %d and %d heads do not go together"
                         % (width, hidden_size, num_attention_heads))
    layer = Layer(num_attention_heads, intermediate_size, intermediate_act_fn, hidden_dropout_prob,
                  attention_probs_dropout_prob, initializer_range, ln_type, attention_parts)
    scopes = ["layer_shared" if share_parameter_across_layers else "layer_%d" % index
              for index in range(num_hidden_layers)]
    outputs = run_blocks(input_tensor, attention_mask, scopes, layer, ALBERT_ZH_NAMES,
                         output_positions, recompute)
    return outputs if do_return_all_layers else outputs[-1]


def pool_first_token(sequence_output, initializer_range):
    """Returns tanh of a dense layer on the first token's vector. [B, S, H] to [B, H]."""
    width = sequence_output.shape.as_list()[-1]
    return dense(sequence_output[:, 0, :], width, "dense", initializer_range, tf.tanh)


def first_position(input_ids):
    """Returns the Encoder's output_positions where only its pooled output is used: zeros [B, 1]."""
    return tf.zeros_like(input_ids[:, :1])


def mean_over_tokens(vectors, input_mask):
    """Returns the mean of the real tokens' vectors. [B, S, H] and [B, S] to [B, H]."""
    mask = tf.expand_dims(tf.cast(input_mask, tf.float32), -1)
    return tf.reduce_sum(vectors * mask, axis=1) / tf.maximum(tf.reduce_sum(mask, axis=1), 1.0)


# ---------------------------------------------------------------------------------------------
# The encoder
# ---------------------------------------------------------------------------------------------

class Encoder(object):
    """What the encoders of both layouts share: a subclass builds embedding and layers.

    Works with static and with dynamic batch size and sequence length.
    """

    def __init__(self, config, is_training, input_ids, input_mask=None, token_type_ids=None,
                 use_one_hot_embeddings=False, scope=None, output_positions=None,
                 recompute=False, attention_parts=1):
        """Builds the graph.

        Args:
            config: the layout's configuration.
            is_training: dropout acts only when True.
            input_ids: int tensor [B, S].
            input_mask: int tensor [B, S], 1 for tokens, 0 for padding; None: all tokens.
            token_type_ids: int tensor [B, S], segment 0 or 1; None: all 0.
            use_one_hot_embeddings: one-hot products in place of gathers (TPU).
            scope: variable scope, "bert" unless given.
            output_positions: int tensor [B, P], the positions that the last layer is computed at,
                position 0 first where the pooled output is used; None: all. It saves most of that
                layer where few are needed, and changes no number. See `first_position`.
            recompute: in training, as for `run_blocks`.
            attention_parts: above 1, the attention of the batch is computed in so many parts, one
                after the other, and again for the gradient; see `attend_in_parts`. For great
                lengths; numbers stay the same.

        Raises:
            UserError: the (static) sequence length is beyond the position table.
        """
        if input_mask is None:
            input_mask = tf.ones_like(input_ids)
        if token_type_ids is None:
            token_type_ids = tf.zeros_like(input_ids)
        if not is_training:
            config = _without_dropout(config)
        with tf.variable_scope(scope, default_name="bert"):
            with tf.variable_scope("embeddings"):
                self._embedding_output = self._embed(config, input_ids, token_type_ids,
                                                     use_one_hot_embeddings)
            with tf.variable_scope("encoder"):
                self._all_layers = self._encode(config, input_mask, output_positions,
                                                recompute and is_training, attention_parts)
            with tf.variable_scope("pooler"):
                self._pooled_output = pool_first_token(self._all_layers[-1],
                                                       config.initializer_range)

    def _embed(self, config, input_ids, token_type_ids, use_one_hot):
        """Sets _table and _table_2; returns the embedding after LayerNorm."""
        raise NotImplementedError

    def _encode(self, config, input_mask, output_positions, recompute, attention_parts):
        """Returns the outputs of all layers."""
        raise NotImplementedError

    def get_pooled_output(self):
        """[B, H]: the first token's vector after a dense layer and tanh."""
        return self._pooled_output

    def get_sequence_output(self):
        """[B, S, H]: the last layer's output; [B, P, H] where it is computed at P positions."""
        return self._all_layers[-1]

    def get_all_encoder_layers(self):
        """List of [B, S, H], one a layer, the first layer first; the last as sequence output."""
        return self._all_layers

    def get_embedding_output(self):
        """[B, S, H], in the Google layout [B, S, E]: summed embeddings, after LayerNorm."""
        return self._embedding_output

    def get_embedding_table(self):
        """[V, E]: the word embeddings."""
        return self._table

    def get_embedding_table_2(self):
        """[E, H]: the projection of word embeddings to the hidden width, without a bias.

        None in the Google layout, where a dense layer widens what enters the first layer.
        """
        return self._table_2


class BertModel(Encoder):
    """The ALBERT encoder in the albert_zh layout.

    Example:
        model = BertModel(config=BertConfig.from_json_file(path), is_training=False,
                          input_ids=ids, input_mask=mask, token_type_ids=segments)
        pooled = model.get_pooled_output()  # [B, H]
    """

    def _embed(self, config, input_ids, token_type_ids, use_one_hot):
        vectors, self._table, self._table_2 = embedding_lookup_factorized(
            input_ids, config.vocab_size, config.hidden_size, config.embedding_size,
            config.initializer_range, "word_embeddings", use_one_hot)
        return add_types_and_positions(vectors, token_type_ids, config)

    def _encode(self, config, input_mask, output_positions, recompute, attention_parts):
        layer = layer_of(config)
        return transformer_model(
            self._embedding_output, input_mask, config.hidden_size, config.num_hidden_layers,
            layer.num_attention_heads, layer.intermediate_size, layer.activation,
            layer.hidden_dropout_prob, layer.attention_probs_dropout_prob,
            layer.initializer_range, do_return_all_layers=True, ln_type=layer.ln_type,
            output_positions=output_positions, recompute=recompute,
            attention_parts=attention_parts)


def _without_dropout(config):
    """Returns a copy of a configuration with dropout off."""
    settings = config.to_dict()
    settings.update(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return type(config).from_dict(settings)


# ---------------------------------------------------------------------------------------------
# Heads
# ---------------------------------------------------------------------------------------------

def gather_positions(sequence, positions):
    """Picks vectors by position. [B, S, H] and int [B, P] to [B*P, H]."""
    batch, length, width = get_shape_list(sequence, expected_rank=3)
    offsets = tf.reshape(tf.range(batch) * length, [-1, 1])
    return tf.gather(tf.reshape(sequence, [-1, width]), tf.reshape(positions + offsets, [-1]))


def masked_lm_vectors(config, hidden, projection=None):
    """The first half of the masked words' head: LN(act(dense(h))) · projectionᵀ.

    The Google layout has no projection: there the dense layer itself narrows to the embedding
    width.

    Args:
        hidden: [rows, H] vectors at the masked positions; projection: [E, H] or None.

    Returns:
        ([rows, E], output_bias [V]): a word's score is their product with its embedding, plus its
        bias.
    """
    width = config.embedding_size if projection is None else config.hidden_size
    with tf.variable_scope("cls/predictions"):
        with tf.variable_scope("transform"):
            hidden = layer_norm(dense(hidden, width, "dense", config.initializer_range,
                                      get_activation(config.hidden_act)))
        bias = tf.get_variable("output_bias", [config.vocab_size],
                               initializer=tf.zeros_initializer())
        if projection is not None:
            hidden = tf.matmul(hidden, projection, transpose_b=True)
    return hidden, bias


def masked_lm_logits(config, hidden, table, projection=None):
    """Scores of all words at masked positions. [rows, H] to [rows, V]; see masked_lm_vectors."""
    vectors, bias = masked_lm_vectors(config, hidden, projection)
    return word_logits(vectors, table, bias)


def word_logits(vectors, table, bias):
    """Scores of all words. [rows, E], [V, E], [V] to [rows, V]."""
    with tf.name_scope("cls/predictions/"):
        return tf.nn.bias_add(tf.matmul(vectors, table, transpose_b=True), bias)


def word_losses(vectors, table, bias, ids, weights, parts):
    """Loss of the masked words, without holding the scores of all of them at a time.

    Scores of V words for each row are by far the widest tensors of pre-training. Here some rows are
    scored after the others, and what their gradients add is computed at once, from the scores that
    are there: the same products as otherwise, in less memory.

    Args:
        vectors, table, bias: as for `word_logits`.
        ids: int [rows], the words that are right; weights: [rows].
        parts: into how many parts the rows are divided.

    Returns:
        (sum of weights * nll, sum of the weights of the rows whose best word is right).
    """
    @tf.custom_gradient
    def losses(vectors, table, bias):
        rows = tf.shape(vectors)[0]
        sums, of_vectors, done = None, [], []
        wide_table = _widened(table, bias[:, tf.newaxis]) if _multiplies_in_bfloat16() else None
        for number in range(parts):
            some = slice(rows * number // parts, rows * (number + 1) // parts)
            with tf.control_dependencies(done):
                here, labels, counts = vectors[some], ids[some], weights[some]
            logits = (word_logits(here, table, bias) if wide_table is None else
                      tf.matmul(_with_ones(here), wide_table, transpose_b=True))
            nll, right, slope = _cross_entropy(logits, labels, counts)
            of_vectors.append(tf.matmul(slope, table))
            added = [tf.reduce_sum(counts * nll), tf.reduce_sum(counts * right),
                     tf.matmul(slope, here, transpose_a=True), tf.reduce_sum(slope, 0)]
            sums = added if sums is None else [a + b for a, b in zip(sums, added)]
            done = sums + of_vectors[-1:]
        loss, right, of_table, of_bias = sums

        def gradient(upstream, of_right):
            del of_right  # it has none
            return (upstream * tf.concat(of_vectors, 0), upstream * of_table, upstream * of_bias)

        return (loss, right), gradient

    with tf.name_scope("cls/predictions/"):
        return losses(vectors, tf.identity(table), tf.identity(bias))


def _cross_entropy(logits, labels, weights):
    """Softmax cross-entropy with its gradient, in fewer passes than TensorFlow's own (for CPUs).

    Args:
        logits: [rows, V]; labels: int [rows]; weights: [rows].

    Returns:
        (nll [rows]; 1 where the best word is right, else 0, [rows]; the gradient of
        sum(weights * nll) by the logits).
    """
    numbers = tf.range(tf.shape(labels)[0], dtype=labels.dtype)
    best = tf.argmax(logits, -1, output_type=labels.dtype)
    at_labels = tf.stack([numbers, labels], 1)
    largest = tf.gather_nd(logits, tf.stack([numbers, best], 1))
    powers = tf.exp(logits - largest[:, tf.newaxis])
    total = tf.reduce_sum(powers, -1)
    nll = tf.log(total) + largest - tf.gather_nd(logits, at_labels)
    slope = tf.tensor_scatter_nd_sub(
        powers * (weights / total)[:, tf.newaxis], at_labels, weights)
    return nll, tf.cast(tf.equal(best, labels), tf.float32), slope


def output_logits(vectors, labels, initializer_range):
    """A linear output layer `output_weights` [labels, H], `output_bias`. [B, H] to [B, labels]."""
    weights = tf.get_variable("output_weights", [labels, vectors.shape.as_list()[-1]],
                              initializer=create_initializer(initializer_range))
    bias = tf.get_variable("output_bias", [labels], initializer=tf.zeros_initializer())
    return tf.nn.bias_add(tf.matmul(vectors, weights, transpose_b=True), bias)


def sentence_order_logits(config, pooled):
    """Scores of "in order" (0) and "swapped" (1). [B, H] to [B, 2]."""
    with tf.variable_scope("cls/seq_relationship"):
        return output_logits(pooled, 2, config.initializer_range)


# ---------------------------------------------------------------------------------------------
# Variables without running anything
# ---------------------------------------------------------------------------------------------

def variable_shapes(build):
    """Returns {name: shape} of the trainable variables that `build()` makes, in a graph apart."""
    with tf.Graph().as_default():
        build()
        return collections.OrderedDict(
            (variable.op.name, tuple(variable.shape.as_list()))
            for variable in tf.trainable_variables())


def once_for_each(shapes_of):
    """Decorates shapes_of(config, ...): equal arguments build a graph once in a process."""
    known = {}

    @functools.wraps(shapes_of)
    def shapes(config, *others):
        key = (config.to_json_string(),) + others
        if key not in known:
            known[key] = shapes_of(config, *others)
        return collections.OrderedDict(known[key])

    return shapes


@once_for_each
def pretraining_variable_shapes(config, model_class):
    """Returns {name: shape} of an encoder with both pre-training heads."""
    def build():
        model = model_class(config, False, tf.zeros([1, 1], tf.int32))
        first = gather_positions(model.get_sequence_output(), tf.zeros([1, 1], tf.int32))
        masked_lm_vectors(config, first, model.get_embedding_table_2())
        sentence_order_logits(config, model.get_pooled_output())

    return variable_shapes(build)
