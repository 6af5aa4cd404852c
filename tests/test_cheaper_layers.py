"""What saves work changes no number: hand-written gradients, joined products, fewer positions."""

import numpy as np
import pytest

import modeling
import modeling_google
import reference
import runtime
from helpers import TINY, TINY_GOOGLE

import tensorflow.compat.v1 as tf


def run(build, *values):
    """Returns what `build` makes of placeholders, which hold `values`."""
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = [tf.placeholder(tf.as_dtype(value.dtype), [None] * value.ndim)
                  if value.dtype != np.float32 else tf.placeholder(tf.float32, value.shape)
                  for value in values]
        wanted = build(*inputs)
        for variable in tf.trainable_variables():
            variable.load(reference.initial_value(variable.op.name, variable.shape.as_list()),
                          session)
        return session.run(wanted, dict(zip(inputs, values)))


def random(*shape):
    return np.random.RandomState(3).normal(size=shape).astype(np.float32)


# ---------------------------------------------------------------------------------------------
# Layers
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("compiled", [False, True])
def test_gelu_and_its_gradient_equal_numpy(compiled):
    x = np.concatenate([np.linspace(-12, 12, 2001), [-1e4, 1e4, 0.0]]).astype(np.float32)
    weight = np.linspace(0.5, 2, len(x)).astype(np.float32)

    def build(value):
        if compiled:
            modeling.compile_activations()
        result = modeling.gelu(value)
        functions = [one for one in tf.get_default_graph().get_operations()
                     if "PartitionedCall" in one.type]
        assert bool(functions) == (compiled and not runtime.IS_TF1)
        assert result.shape == value.shape
        return result, tf.gradients(tf.reduce_sum(result * weight), value)[0]

    found, slope = run(build, x)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(found, reference.gelu(wide), atol=1e-6, rtol=1e-6)
    step = 1e-5
    expected = (reference.gelu(wide + step) - reference.gelu(wide - step)) / (2 * step)
    np.testing.assert_allclose(slope, expected * weight, atol=1e-5)


@pytest.mark.skipif(runtime.IS_TF1, reason="TensorFlow 1.15 has no bfloat16 on CPUs")
def test_a_compiled_gelu_of_bfloat16_is_rounded_once():
    x = np.linspace(-6, 6, 1001).astype(np.float32)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        modeling.compile_activations()
        value = tf.cast(tf.constant(x), tf.bfloat16)
        result = modeling.gelu(value)
        slope = tf.gradients(result, value, tf.ones_like(result))[0]
        assert any("PartitionedCall" in one.type for one in graph.get_operations())
        rounded, found, slope = session.run([tf.cast(one, tf.float32)
                                             for one in (value, result, slope)])
    wide, step = rounded.astype(np.float64), 1e-5
    expected = (reference.gelu(wide + step) - reference.gelu(wide - step)) / (2 * step)
    # Rounding errs by 2^-8 of the number at most; operation by operation, 1 + tanh by far more.
    np.testing.assert_allclose(found, reference.gelu(wide), rtol=0.004, atol=1e-5)
    np.testing.assert_allclose(slope, expected, rtol=0.004, atol=1e-4)


@pytest.mark.parametrize("shape", [(5, 24), (2, 3, 24)])
def test_layer_norm_has_the_gradients_that_tensorflow_derives(shape):
    upstream = random(*shape)[..., ::-1].copy()

    def plain(x):
        beta, gamma = tf.get_variable("beta", [24]), tf.get_variable("gamma", [24])
        mean, variance = tf.nn.moments(x, axes=[-1], keep_dims=True)
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-12)

    def with_gradients(layer):
        def build(x):
            with tf.variable_scope("scope"):
                result = layer(x)
            variables = sorted(tf.trainable_variables(), key=lambda one: one.op.name)
            variables = [one for one in variables if one.op.name.endswith(("beta", "gamma"))]
            return [result] + tf.gradients(tf.reduce_sum(result * upstream), [x] + variables)
        return build

    ours = run(with_gradients(lambda x: modeling.layer_norm(x, "LayerNorm")), random(*shape))
    with_names = run(with_gradients(lambda x: _in_scope("LayerNorm", plain, x)), random(*shape))
    assert len(ours) == 4
    for found, expected in zip(ours, with_names):
        np.testing.assert_allclose(found, expected, atol=2e-5)


def _in_scope(name, function, x):
    with tf.variable_scope(name):
        return function(x)


SHAPES = pytest.mark.parametrize("shapes", ["plain", "of bfloat16"])


def choose(shapes):
    """Has the graph multiply by the shapes for bfloat16, in float32: the numbers are the same."""
    if shapes == "of bfloat16":
        modeling.multiply_in_bfloat16()


@pytest.mark.parametrize("units", [2, 8])  # narrower than the input together, and wider
@SHAPES
def test_joined_products_equal_single_ones(shapes, units):
    def build(x):
        with tf.variable_scope("scope", reuse=tf.AUTO_REUSE):
            single = tf.concat([modeling.dense(x, units, name) for name in "abc"], axis=1)
            choose(shapes)
            joined = modeling.dense_side_by_side(x, units, ["a", "b", "c"])
        variables = tf.trainable_variables()
        assert len(variables) == 6
        return [[out] + tf.gradients(tf.reduce_sum(tf.square(out)), [x] + variables)
                for out in (joined, single)]

    joined, single = run(build, random(5, 12))
    for found, expected in zip(joined, single):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------------------
# The last layer at some positions
# ---------------------------------------------------------------------------------------------

ENCODERS = {
    "postln": (modeling.BertModel, modeling.BertConfig, TINY),
    "preln": (modeling.BertModel, modeling.BertConfig, dict(TINY, ln_type="preln")),
    "google": (modeling_google.AlbertModel, modeling_google.AlbertConfig, TINY_GOOGLE),
    "google, blocks": (modeling_google.AlbertModel, modeling_google.AlbertConfig,
                       dict(TINY_GOOGLE, num_hidden_groups=2, inner_group_num=2)),
}


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_a_last_layer_at_some_positions_equals_the_whole_one(name):
    model_class, config_class, settings = ENCODERS[name]
    config = config_class.from_dict(settings)
    rng = np.random.RandomState(5)
    ids = rng.randint(0, config.vocab_size, size=[2, 9]).astype(np.int32)
    mask = np.array([[1] * 9, [1] * 6 + [0] * 3], np.int32)
    segments = (np.arange(9)[np.newaxis] > [[4], [2]]).astype(np.int32)
    positions = np.array([[0, 7, 3, 7], [0, 1, 5, 2]], np.int32)  # one of them twice

    def build(*inputs):
        def results(**settings):
            model = model_class(config, True, *inputs, scope="bert", **settings)
            return model.get_pooled_output(), model.get_sequence_output(), model
        with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
            pooled, some, model = results(output_positions=tf.constant(positions))
            assert len(model.get_all_encoder_layers()) == config.num_hidden_layers
            whole_pooled, whole, _ = results()
        picked = tf.reshape(modeling.gather_positions(whole, tf.constant(positions)),
                            tf.shape(some))
        return [[a, b] + [tf.convert_to_tensor(gradient) for gradient in tf.gradients(
            tf.reduce_sum(tf.square(a)) + tf.reduce_sum(b * tf.cos(b)), tf.trainable_variables())]
            for a, b in ((pooled, some), (whole_pooled, picked))]

    found, expected = run(build, ids, mask, segments)
    assert len(found) > 20 and found[1].shape == (2, 4, config.hidden_size)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, atol=2e-5, rtol=1e-4)


def test_positions_go_with_a_mask_per_position():
    x, positions = random(2, 5, 24), np.array([[4, 1], [0, 3]], np.int32)
    mask = np.random.RandomState(1).randint(0, 2, size=[2, 5, 5]).astype(np.int32)
    mask[:, :, 0] = 1

    def build(value, allowed, wanted):
        with tf.variable_scope("scope", reuse=tf.AUTO_REUSE):
            some, whole = [modeling.transformer_model(
                value, allowed, 24, 2, 4, 40, hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0, output_positions=one) for one in (wanted, None)]
        return some, tf.reshape(modeling.gather_positions(whole, wanted), tf.shape(some))

    np.testing.assert_allclose(*run(build, x, mask, positions), atol=1e-5)


# ---------------------------------------------------------------------------------------------
# Blocks computed again on the way back
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_recomputed_blocks_have_the_same_gradients(name):
    model_class, config_class, settings = ENCODERS[name]
    config = config_class.from_dict(settings)
    ids = np.random.RandomState(5).randint(0, config.vocab_size, size=[2, 9]).astype(np.int32)
    mask = np.array([[1] * 9, [1] * 6 + [0] * 3], np.int32)

    def build(*inputs):
        found = []
        for recompute, parts in ((True, 1), (False, 2), (True, 2), (False, 1)):
            with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
                model = model_class(config, True, *inputs, scope="bert", recompute=recompute,
                                    output_positions=tf.constant([[0, 3], [0, 4]]),
                                    attention_parts=parts)
            loss = tf.reduce_sum(tf.sin(3.0 * model.get_sequence_output())) + tf.reduce_sum(
                model.get_pooled_output())
            found.append([loss] + [tf.convert_to_tensor(gradient) for gradient in tf.gradients(
                loss, tf.trainable_variables())])
        return found

    results = run(build, ids, mask)
    assert len(results) == 4 and len(results[0]) > 20
    for found in results[:-1]:
        for one, other in zip(found, results[-1]):
            np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("examples, parts, rate", [
    (5, 2, 0.0), (5, 2, 0.4), (2, 4, 0.0), (1, 4, 0.3), (4, 12, 0.0), (1, 8, 0.2)])
@pytest.mark.parametrize("masked", [True, False])
@SHAPES
def test_attention_in_parts_has_the_same_sums_and_gradients(examples, parts, rate, masked, shapes):
    rng, heads = np.random.RandomState(6), 3
    values = [rng.normal(0, 2, [examples, heads, 6, 4]).astype(np.float32) for _ in range(3)]
    upstream = rng.normal(0, 1, [examples, heads, 6, 4]).astype(np.float32)
    mask = (np.arange(6) < rng.randint(1, 7, [examples, 1])).astype(np.int32)
    seed = tuple(rng.randint(0, 1000, 2))

    def build(*inputs):
        choose(shapes)
        bias = modeling.attention_bias(tf.constant(mask)) if masked else None
        in_parts = modeling.attend_in_parts(*inputs, bias=bias, parts=parts, rate=rate,
                                            seed=tf.constant(seed, tf.int32))
        scores = tf.matmul(inputs[0], inputs[1], transpose_b=True)
        weights = tf.nn.softmax(scores + bias if masked else scores)
        bounds = [examples * heads * number // parts for number in range(parts + 1)]
        if rate:
            of_heads = tf.reshape(weights, [-1, 6, 6])
            factors = tf.concat([modeling.dropout_factors(
                of_heads[start:end], rate, [seed[0] + number, seed[1]])
                for number, (start, end) in enumerate(zip(bounds, bounds[1:]))], 0)
            weights *= tf.reshape(factors, tf.shape(weights))
        whole = tf.matmul(weights, inputs[2])
        return [[sums] + tf.gradients(sums, inputs, upstream) for sums in (in_parts, whole)]

    with tf.Graph().as_default(), tf.Session() as session:
        found, expected = session.run(build(*map(tf.constant, values)))
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, atol=2e-5)
    assert np.ptp(found[1]) > 0.1


def test_attention_with_dropout_leaves_out_something_else_each_time():
    config = modeling.BertConfig.from_dict(dict(TINY, attention_probs_dropout_prob=0.5))
    with tf.Graph().as_default(), tf.Session() as session:
        model = modeling.BertModel(config, True, tf.constant([[5, 6, 7], [8, 9, 9]]), scope="bert",
                                   attention_parts=2)
        total = tf.reduce_sum(model.get_all_encoder_layers()[0] ** 3)
        session.run(tf.global_variables_initializer())
        assert len({float(session.run(total)) for _ in range(4)}) == 4


def test_a_recomputed_block_leaves_out_the_same_as_before():
    """With dropout, the derivative equals the difference of the values under the same seeds."""
    def block(x, drop):
        with tf.variable_scope("inner"):
            for _ in range(modeling.DROPOUTS_OF_A_BLOCK):
                x = drop(modeling.dense(x, 12, "dense_%d" % x.shape.as_list()[1]), 0.4)
        return x

    with tf.Graph().as_default(), tf.Session() as session:
        value = tf.get_variable("value", [5, 12])
        with tf.variable_scope("scope", reuse=tf.AUTO_REUSE):
            result = modeling.recomputed(block, value)
        slope, = tf.gradients(tf.reduce_sum(result), value)
        session.run(tf.global_variables_initializer())
        seen = set()
        for _ in range(5):
            # The block is linear: value times slope is its sum (its biases are 0).
            total, product = session.run([tf.reduce_sum(result), tf.reduce_sum(value * slope)])
            np.testing.assert_allclose(total, product, rtol=1e-4, atol=1e-5)
            seen.add(float(total))
    assert len(seen) == 5  # each step leaves out something else


def test_seeded_dropout_keeps_the_mean():
    with tf.Graph().as_default(), tf.Session() as session:
        drop = modeling.SeededDropout(tf.constant([[1, 2], [3, 4]]))
        first, second = session.run([drop(tf.ones([200, 100]), 0.25) for _ in range(2)])
    assert set(np.unique(first.round(4))) == {0.0, np.float32(1.3333)}  # 1 / 0.75
    assert abs((first > 0).mean() - 0.75) < 0.02 and (first != second).any()


@pytest.mark.parametrize("parts, rows", [(1, 7), (3, 7), (4, 2), (4, 16)])
@SHAPES
def test_words_scored_in_parts_give_the_same_loss_and_gradients(parts, rows, shapes):
    rng = np.random.RandomState(4)
    values = [rng.normal(0, 1, shape).astype(np.float32) for shape in ([rows, 5], [11, 5], [11])]
    ids, weights = rng.randint(0, 11, rows), rng.uniform(0, 1, rows).astype(np.float32)
    ids[0] = (values[0][0] @ values[1].T + values[2]).argmax()
    with tf.Graph().as_default(), tf.Session() as session:
        choose(shapes)
        inputs = [tf.constant(value) for value in values]
        labels = tf.constant(ids, tf.int32)
        logits = modeling.word_logits(*inputs)
        nll = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        right = tf.cast(tf.equal(tf.argmax(logits, -1), ids), tf.float32)
        plain = tf.reduce_sum(weights * nll), tf.reduce_sum(weights * right)
        in_parts = modeling.word_losses(*inputs, ids=labels, weights=tf.constant(weights),
                                        parts=parts)
        found = [session.run([sums, tf.gradients(3.0 * sums[0], inputs)])
                 for sums in (plain, in_parts)]
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-5)
    assert found[1][0][1] >= weights[0] > 0
    for one, other in zip(*[gradients for _, gradients in found]):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def test_great_scores_of_words_give_finite_losses():
    """Beyond what powers of e hold in float32: the losses are differences of scores."""
    table = np.array([[300.0], [-300.0], [299.0]], np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = [tf.constant([[1.0], [1.0]]), tf.constant(table), tf.zeros([3])]
        sums = modeling.word_losses(*inputs, ids=tf.constant([0, 1]), weights=tf.ones([2]), parts=1)
        loss, right, slope = session.run(list(sums) + tf.gradients(sums[0], inputs[0]))
    other = np.log1p(np.exp(-1.0))
    np.testing.assert_allclose(loss, 600.0 + 2.0 * other, rtol=1e-6)
    assert right == 1.0
    mean = (300.0 + 299.0 * np.exp(-1.0)) / (1.0 + np.exp(-1.0))
    np.testing.assert_allclose(slope, [[mean - 300.0], [mean + 300.0]], atol=1e-3)
