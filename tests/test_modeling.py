"""The albert_zh layout: configuration, variables, outputs against NumPy and golden values."""

import glob
import json
import os

import numpy as np
import pytest
import reference

import modeling
from errors import UserError

import tensorflow.compat.v1 as tf

TINY = {"vocab_size": 90, "embedding_size": 10, "hidden_size": 24, "num_hidden_layers": 3,
        "num_attention_heads": 4, "intermediate_size": 40, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 32, "type_vocab_size": 2, "initializer_range": 0.02}

# FACTS of the published models: (with heads, encoder only).
PARAMETERS = {"tiny": (4295186, 4175152), "base": (11492234, 10877440),
              "large": (18084490, 17009664), "xlarge": (62803594, 58577920),
              "xxlarge": (240322186, 223503360)}


def albert_zh_config_files(root):
    return [path for path in glob.glob(os.path.join(root, "albert_config", "*.json"))
            if "google" not in path]


# ---------------------------------------------------------------------------------------------
# Configuration
# ---------------------------------------------------------------------------------------------

def test_defaults_of_released_configurations():
    config = modeling.BertConfig.from_dict(
        {k: v for k, v in TINY.items() if k != "embedding_size"})
    assert (config.ln_type, config.embedding_size) == ("postln", 128)


def test_round_trip(tmp_path):
    config = modeling.BertConfig.from_dict(dict(TINY, ln_type="preln"))
    path = tmp_path / "config.json"
    path.write_text(config.to_json_string(), encoding="utf-8")
    assert modeling.BertConfig.from_json_file(str(path)).to_dict() == config.to_dict()


def test_unused_keys_of_released_files_are_accepted():
    modeling.BertConfig.from_dict(dict(
        TINY, directionality="bidi", pooler_fc_size=768, pooler_type="first_token_transform",
        net_structure_type=0, gap_size=0, num_memory_blocks=0, down_scale_factor=1))


@pytest.mark.parametrize("change, expected", [
    ({"hiden_size": 24}, 'Did you mean "hidden_size"'),
    ({"num_hidden_groups": 1}, "Google-layout config.*run_pretraining_google.py"),
    ({"inner_group_num": 1}, "Google-layout config.*run_pretraining_google.py"),
    ({"hidden_size": "24"}, 'hidden_size is "24"; a whole number'),
    ({"hidden_size": True}, "hidden_size is true"),
    ({"hidden_size": 24.5}, "hidden_size is 24.5"),
    ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    ({"num_attention_heads": 5}, "not a multiple of num_attention_heads 5"),
    ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob is 1"),
    ({"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob is NaN"),
    ({"hidden_act": "swish"}, 'hidden_act "swish" is unknown'),
    ({"ln_type": "both"}, 'ln_type is "both"'),
    ({"initializer_range": 0}, "initializer_range"),
])
def test_faults_are_named(change, expected):
    with pytest.raises(UserError, match=expected):
        modeling.BertConfig.from_dict(dict(TINY, **change))


@pytest.mark.parametrize("name", [k for k in TINY if k != "embedding_size"])
def test_missing_keys_are_named(name):
    with pytest.raises(UserError, match="lacks " + name):
        modeling.BertConfig.from_dict({k: v for k, v in TINY.items() if k != name})


def test_broken_configuration_file_is_named(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"vocab_size": 3,', encoding="utf-8")
    with pytest.raises(UserError, match="config.json is not valid JSON"):
        modeling.BertConfig.from_json_file(str(path))
    with pytest.raises(UserError, match="does not exist"):
        modeling.BertConfig.from_json_file(str(tmp_path / "other.json"))


# ---------------------------------------------------------------------------------------------
# Variables
# ---------------------------------------------------------------------------------------------

def test_shapes_are_those_of_the_configuration_as_it_is_now():
    config = modeling.BertConfig(vocab_size=60, hidden_size=16, num_attention_heads=2)
    shapes = modeling.pretraining_variable_shapes(config, modeling.BertModel)
    expected = dict(shapes)
    shapes.clear()  # what a caller does with them is its own affair
    assert modeling.pretraining_variable_shapes(config, modeling.BertModel) == expected
    config.vocab_size = 70
    changed = modeling.pretraining_variable_shapes(config, modeling.BertModel)
    name = "bert/embeddings/word_embeddings"
    assert (expected[name][0], changed[name][0]) == (60, 70)


def test_every_configuration_has_the_published_number_of_parameters(root):
    for path in albert_zh_config_files(root):
        size = os.path.basename(path)[len("albert_config_"):-len(".json")]
        config = modeling.BertConfig.from_json_file(path)
        shapes = modeling.pretraining_variable_shapes(config, modeling.BertModel)
        with_heads = sum(int(np.prod(shape)) for shape in shapes.values())
        encoder = sum(int(np.prod(shape)) for name, shape in shapes.items()
                      if name.startswith("bert/"))
        assert (with_heads, encoder) == PARAMETERS[size]
    assert len(albert_zh_config_files(root)) == len(PARAMETERS)


def test_the_31_variables():
    config = modeling.BertConfig.from_dict(TINY)
    shapes = modeling.pretraining_variable_shapes(config, modeling.BertModel)
    h, i, e, v = 24, 40, 10, 90
    layer = "bert/encoder/layer_shared/"
    expected = {
        "bert/embeddings/word_embeddings": (v, e), "bert/embeddings/word_embeddings_2": (e, h),
        "bert/embeddings/token_type_embeddings": (2, h),
        "bert/embeddings/position_embeddings": (32, h),
        layer + "intermediate/dense/kernel": (h, i), layer + "intermediate/dense/bias": (i,),
        layer + "output/dense/kernel": (i, h), layer + "output/dense/bias": (h,),
        "cls/predictions/output_bias": (v,),
        "cls/seq_relationship/output_weights": (2, h), "cls/seq_relationship/output_bias": (2,)}
    for scope in ("bert/embeddings", layer + "attention/output", layer + "output",
                  "cls/predictions/transform"):
        expected.update({scope + "/LayerNorm/" + name: (h,) for name in ("beta", "gamma")})
    for scope in [layer + "attention/self/" + part for part in ("query", "key", "value")] + [
            layer + "attention/output/dense", "bert/pooler/dense",
            "cls/predictions/transform/dense"]:
        expected.update({scope + "/kernel": (h, h), scope + "/bias": (h,)})
    assert len(expected) == 31
    assert dict(shapes) == expected


def test_both_ln_types_have_the_same_variables():
    shapes = [modeling.pretraining_variable_shapes(
        modeling.BertConfig.from_dict(dict(TINY, ln_type=ln_type)), modeling.BertModel)
        for ln_type in ("postln", "preln")]
    assert dict(shapes[0]) == dict(shapes[1])


def test_unshared_layers_have_their_own_variables():
    def count(shared):
        def build():
            modeling.transformer_model(tf.zeros([1, 4, 1024]), None, 1024, 12, 16, 3072,
                                       share_parameter_across_layers=shared)
        shapes = modeling.variable_shapes(build)
        return sum(int(np.prod(shape)) for shape in shapes.values()), shapes

    assert count(True)[0] == 10498048
    total, shapes = count(False)
    assert total == 125976576
    assert {name.split("/")[0] for name in shapes} == {"layer_%d" % i for i in range(12)}


# ---------------------------------------------------------------------------------------------
# Outputs
# ---------------------------------------------------------------------------------------------

def random_batch(seed=7, rows=3, length=11):
    rng = np.random.RandomState(seed)
    ids = rng.randint(0, TINY["vocab_size"], size=[rows, length]).astype(np.int32)
    segments = rng.randint(0, 2, size=[rows, length]).astype(np.int32)
    mask = (np.arange(length)[None, :] < np.array([length, 6, 2])[:rows, None]).astype(np.int32)
    return ids, mask, segments


def run_model(config, weights, ids, mask, segments, fetch, dynamic=True, one_hot=False):
    """Runs a BertModel with given weights; fetch(model) names what comes back."""
    with tf.Graph().as_default(), tf.Session() as session:
        shape = [None, None] if dynamic else list(ids.shape)
        inputs = [tf.placeholder(tf.int32, shape) for _ in range(3)]
        model = modeling.BertModel(config, False, *inputs, use_one_hot_embeddings=one_hot)
        wanted = fetch(model)
        for variable in tf.trainable_variables():
            variable.load(weights[variable.op.name], session)
        return session.run(wanted, dict(zip(inputs, (ids, mask, segments))))


@pytest.mark.parametrize("ln_type", ["postln", "preln"])
@pytest.mark.parametrize("dynamic, one_hot", [(True, False), (False, True)])
def test_outputs_equal_numpy(ln_type, dynamic, one_hot):
    settings = dict(TINY, ln_type=ln_type)
    config = modeling.BertConfig.from_dict(settings)
    weights = reference.initial_values(
        modeling.pretraining_variable_shapes(config, modeling.BertModel))
    ids, mask, segments = random_batch()
    embedding, layers, pooled = run_model(
        config, weights, ids, mask, segments, lambda m: (
            m.get_embedding_output(), m.get_all_encoder_layers(), m.get_pooled_output()),
        dynamic, one_hot)
    for row in range(len(ids)):
        expected = reference.encode(settings, weights, ids[row], mask[row], segments[row])
        np.testing.assert_allclose(embedding[row], expected[0], atol=2e-5)
        for ours, theirs in zip(layers, expected[1]):
            np.testing.assert_allclose(ours[row], theirs, atol=2e-5)
        np.testing.assert_allclose(pooled[row], expected[2], atol=2e-5)


def test_padding_changes_nothing():
    config = modeling.BertConfig.from_dict(TINY)
    weights = reference.initial_values(
        modeling.pretraining_variable_shapes(config, modeling.BertModel))
    ids, mask, segments = random_batch(rows=2)
    long = run_model(config, weights, ids, mask, segments, lambda m: m.get_pooled_output())
    short = run_model(config, weights, ids[1:, :6], mask[1:, :6], segments[1:, :6],
                      lambda m: m.get_pooled_output())
    np.testing.assert_allclose(long[1], short[0], atol=1e-6)


def test_sequences_beyond_the_position_table_are_refused():
    config = modeling.BertConfig.from_dict(TINY)
    with tf.Graph().as_default(), pytest.raises(UserError, match="beyond the position table"):
        modeling.BertModel(config, False, tf.zeros([1, 33], tf.int32))


def test_a_mask_per_position_hides_what_it_says():
    rng = np.random.RandomState(0)
    x = rng.normal(size=[1, 4, 24]).astype(np.float32)
    other = x.copy()
    other[0, 2] += 1.0  # position 2 is hidden from position 1 only
    mask = np.ones([1, 4, 4], np.int32)
    mask[0, 1, 2] = 0
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        value = tf.placeholder(tf.float32, [1, 4, 24])
        output = modeling.transformer_model(value, tf.constant(mask), 24, 1, 4, 40,
                                            hidden_dropout_prob=0.0,
                                            attention_probs_dropout_prob=0.0)
        session.run(tf.global_variables_initializer())
        before, after = (session.run(output, {value: v}) for v in (x, other))
    moved = np.abs(before - after).max(-1)[0]
    assert moved[1] == 0 and moved[0] > 1e-5 and moved[3] > 1e-5


def test_dropout_acts_only_in_training():
    config = modeling.BertConfig.from_dict(dict(TINY, hidden_dropout_prob=0.5))

    def spread(is_training):
        with tf.Graph().as_default(), tf.Session() as session:
            output = modeling.BertModel(config, is_training, tf.constant([[1, 2, 3]]))
            session.run(tf.global_variables_initializer())
            runs = [session.run(output.get_sequence_output()) for _ in range(2)]
        return np.abs(runs[0] - runs[1]).max()

    assert spread(False) == 0 and spread(True) > 0


def test_factorised_lookup_returns_both_tables():
    with tf.Graph().as_default():
        output, table, projection = modeling.embedding_lookup_factorized(
            tf.zeros([2, 3], tf.int32), vocab_size=30000, hidden_size=4096)
        assert output.shape.as_list() == [2, 3, 4096]
        assert table.shape.as_list() == [30000, 128]
        assert projection.shape.as_list() == [128, 4096]


def test_gathering_positions():
    x = np.arange(2 * 4 * 3).reshape(2, 4, 3).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        picked = session.run(modeling.gather_positions(tf.constant(x),
                                                       tf.constant([[0, 3], [2, 2]])))
    np.testing.assert_array_equal(picked, x[[0, 0, 1, 1], [0, 3, 2, 2]])


@pytest.mark.parametrize("name", ["postln", "preln"])
def test_golden_outputs(shared_data, name):
    path = os.path.join(os.path.dirname(shared_data), "reference", "golden", name + ".npz")
    if not os.path.exists(path):
        pytest.skip("no golden file %s" % path)
    golden = np.load(path)
    config = modeling.BertConfig.from_dict(json.loads(str(golden["config"])))
    weights = reference.initial_values(
        modeling.pretraining_variable_shapes(config, modeling.BertModel))
    found = run_model(config, weights, golden["ids"], golden["mask"], golden["seg"], lambda m: (
        m.get_embedding_output(), m.get_sequence_output(), m.get_pooled_output()))
    for key, value in zip(("embedding_output", "sequence_output", "pooled_output"), found):
        np.testing.assert_allclose(value, golden["initial/" + key], atol=2e-5)
