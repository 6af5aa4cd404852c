"""The Google layout: configuration, variables, groups; outputs, gradients and steps, checked
against NumPy and golden values."""

import collections
import fractions
import json
import os
import re

import numpy as np
import pytest
import reference
from helpers import TINY, TINY_GOOGLE, load_weights, pretraining_rows

import checkpoints
import files
import layouts
import modeling
import modeling_google
import optimization
import pretraining
from errors import UserError

import tensorflow.compat.v1 as tf

# FACTS of the published models: (with heads, encoder only).
PARAMETERS = {"tiny": (4142594, 4080520), "small": (4813706, 4742272)}
GROUPS = {"one group": {}, "two groups of two blocks": {
    "num_hidden_layers": 3, "num_hidden_groups": 2, "inner_group_num": 2}}


def config_of(**changes):
    return modeling_google.AlbertConfig.from_dict(dict(TINY_GOOGLE, **changes))


def pretraining_shapes(config):
    return modeling.pretraining_variable_shapes(config, modeling_google.AlbertModel)


def shipped(root, size):
    return os.path.join(root, "albert_config", "albert_config_%s_google.json" % size)


def golden_file(shared_data, name):
    path = os.path.join(os.path.dirname(shared_data), "reference", "golden", name + ".npz")
    if not os.path.exists(path):
        pytest.skip("no golden file %s" % path)
    return np.load(path)


# ---------------------------------------------------------------------------------------------
# Configuration
# ---------------------------------------------------------------------------------------------

def test_unused_keys_of_released_files_are_accepted_and_the_rest_makes_a_round_trip(tmp_path):
    config = config_of(directionality="bidi", pooler_type="first_token_transform")
    path = tmp_path / "config.json"
    path.write_text(config.to_json_string(), encoding="utf-8")
    again = modeling_google.AlbertConfig.from_json_file(str(path), "albert_config_file")
    assert again.to_dict() == config.to_dict()
    assert (again.num_hidden_groups, again.inner_group_num) == (1, 1)


@pytest.mark.parametrize("change, expected", [
    ({"hiden_size": 16}, 'Did you mean "hidden_size"'),
    ({"ln_type": "postln"}, "unknown key 'ln_type'"),
    ({"architectures": ["AlbertModel"]}, "this is a Hugging Face configuration; convert its"),
    ({"num_hidden_groups": 0}, "num_hidden_groups is 0"),
    ({"num_hidden_groups": "1"}, 'num_hidden_groups is "1"; a whole number'),
    ({"inner_group_num": 1.5}, "inner_group_num is 1.5"),
    ({"num_attention_heads": 3}, "not a multiple of num_attention_heads 3"),
    ({"hidden_act": "gelu_new"}, 'hidden_act "gelu_new" is unknown'),
])
def test_faults_are_named(change, expected):
    with pytest.raises(UserError, match=expected):
        config_of(**change)


@pytest.mark.parametrize("name", [
    name for name in TINY if name not in ("embedding_size", "ln_type")])
def test_missing_keys_are_named(name):
    with pytest.raises(UserError, match="lacks " + name):
        modeling_google.AlbertConfig.from_dict(
            {k: v for k, v in TINY_GOOGLE.items() if k != name})


def test_a_configuration_of_the_other_layout_is_told_its_scripts():
    with pytest.raises(UserError, match="albert_zh-layout config.*run_pretraining.py"):
        modeling_google.AlbertConfig.from_dict(TINY)
    with pytest.raises(UserError, match="Google-layout config.*run_pretraining_google.py"):
        modeling.BertConfig.from_dict(TINY_GOOGLE)


def test_a_file_tells_its_layout(root, tmp_path):
    for path in files.glob(os.path.join(root, "albert_config", "*.json")):
        layout, config = layouts.read_config(path)
        assert layout.name == ("google" if "google" in path else "albert_zh")
        assert isinstance(config, layout.config_class)
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="list.json: a JSON object"):
        layouts.read_config(str(tmp_path / "list.json"))
    with pytest.raises(UserError, match="--config_file=.*none.json does not exist"):
        layouts.read_config(str(tmp_path / "none.json"), "config_file")


# ---------------------------------------------------------------------------------------------
# Variables and groups
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size", sorted(PARAMETERS))
def test_the_shipped_configurations_have_the_published_number_of_parameters(root, size):
    shapes = pretraining_shapes(layouts.read_config(shipped(root, size))[1])
    counts = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    encoder = sum(count for name, count in counts.items() if name.startswith("bert/"))
    assert (sum(counts.values()), encoder) == PARAMETERS[size]


def test_the_32_variables_by_name_and_shape():
    shapes = pretraining_shapes(config_of())
    h, i, e, v = 16, 24, 8, 60
    block = "bert/encoder/transformer/group_0/inner_group_0/"
    expected = {
        "bert/embeddings/word_embeddings": (v, e), "bert/embeddings/position_embeddings": (32, e),
        "bert/embeddings/token_type_embeddings": (2, e), "cls/predictions/output_bias": (v,),
        "cls/seq_relationship/output_weights": (2, h), "cls/seq_relationship/output_bias": (2,)}
    for scope, width in (("bert/embeddings/LayerNorm", e), (block + "LayerNorm", h),
                         (block + "LayerNorm_1", h), ("cls/predictions/transform/LayerNorm", e)):
        expected.update({scope + "/" + name: (width,) for name in ("beta", "gamma")})
    attention = block + "attention_1/"
    for scope, before, after in (
            ("bert/encoder/embedding_hidden_mapping_in", e, h), (attention + "self/query", h, h),
            (attention + "self/key", h, h), (attention + "self/value", h, h),
            (attention + "output/dense", h, h), (block + "ffn_1/intermediate/dense", h, i),
            (block + "ffn_1/intermediate/output/dense", i, h), ("bert/pooler/dense", h, h),
            ("cls/predictions/transform/dense", h, e)):
        expected.update({scope + "/kernel": (before, after), scope + "/bias": (after,)})
    assert len(expected) == 32
    assert dict(shapes) == expected
    assert checkpoints.layout_of(shapes) == layouts.GOOGLE.name


def test_the_tiny_configuration_makes_the_variables_of_the_released_file(root, shared_data):
    path = os.path.join(os.path.dirname(shared_data), "reference",
                        "albert_tiny_zh_google.variables.json")
    if not os.path.exists(path):
        pytest.skip("no %s" % path)
    released = {name: tuple(shape) for name, shape in files.read_json(path).items()
                if name != "global_step" and not name.endswith(("/adam_m", "/adam_v"))}
    assert len(released) == 32
    assert dict(pretraining_shapes(layouts.read_config(shipped(root, "tiny"))[1])) == released


def test_the_layers_of_a_group_are_exact_at_every_depth():
    for layers in range(1, 100):
        for groups in range(1, layers + 1):
            found = [modeling_google.group_of(layer, layers, groups) for layer in range(layers)]
            assert found == [int(fractions.Fraction(layer * groups, layers))
                             for layer in range(layers)]
            assert set(found) == set(range(groups))


def test_each_group_and_block_has_its_own_variables():
    shapes = pretraining_shapes(config_of(num_hidden_layers=5, num_hidden_groups=3,
                                          inner_group_num=2))
    assert len(shapes) == 16 + 3 * 2 * 16
    found = {re.search(r"group_\d/inner_group_\d", name).group(0) for name in shapes
             if "/transformer/" in name}
    assert found == {"group_%d/inner_group_%d" % (g, n) for g in range(3) for n in range(2)}


# ---------------------------------------------------------------------------------------------
# Outputs
# ---------------------------------------------------------------------------------------------

def random_batch(seed=7, rows=3, length=11):
    rng = np.random.RandomState(seed)
    ids = rng.randint(0, TINY_GOOGLE["vocab_size"], size=[rows, length]).astype(np.int32)
    segments = rng.randint(0, 2, size=[rows, length]).astype(np.int32)
    mask = (np.arange(length)[None, :] < np.array([length, 6, 2])[:rows, None]).astype(np.int32)
    return ids, mask, segments


def run_model(config, weights, batch, fetch, one_hot=False):
    """Runs an AlbertModel with given weights on [ids, mask, segments]; fetch(model) names what
    comes back. One-hot lookup goes with static shapes, as on TPUs."""
    with tf.Graph().as_default(), tf.Session() as session:
        shape = list(batch[0].shape) if one_hot else [None, None]
        inputs = [tf.placeholder(tf.int32, shape) for _ in range(3)]
        model = modeling_google.AlbertModel(config, False, *inputs, use_one_hot_embeddings=one_hot)
        wanted = fetch(model)
        load_weights(session, weights)
        return session.run(wanted, dict(zip(inputs, batch)))


def outputs(model):
    return (model.get_embedding_output(), model.get_all_encoder_layers(),
            model.get_pooled_output(), model.get_sequence_output())


@pytest.mark.parametrize("groups", sorted(GROUPS))
@pytest.mark.parametrize("one_hot", [False, True])
def test_outputs_equal_numpy(groups, one_hot):
    settings = dict(TINY_GOOGLE, **GROUPS[groups])
    config = config_of(**GROUPS[groups])
    weights = reference.initial_values(pretraining_shapes(config))
    ids, mask, segments = batch = random_batch()
    embedding, layers, pooled, last = run_model(config, weights, batch, outputs, one_hot)
    assert len(layers) == config.num_hidden_layers and embedding.shape == (3, 11, 8)
    np.testing.assert_array_equal(layers[-1], last)
    for row in range(len(ids)):
        expected = reference.encode_google(settings, weights, ids[row], mask[row], segments[row])
        np.testing.assert_allclose(embedding[row], expected[0], atol=2e-5)
        for ours, theirs in zip(layers, expected[1]):
            np.testing.assert_allclose(ours[row], theirs, atol=2e-5)
        np.testing.assert_allclose(pooled[row], expected[2], atol=2e-5)


def test_word_vectors_come_before_everything_else():
    config = config_of()
    weights = reference.initial_values(pretraining_shapes(config))
    batch = random_batch()
    for one_hot in (False, True):
        found = run_model(config, weights, batch, lambda m: m.get_word_embedding_output(), one_hot)
        np.testing.assert_allclose(found, weights["bert/embeddings/word_embeddings"][batch[0]],
                                   atol=1e-6)


def test_padding_changes_nothing():
    config = config_of(**GROUPS["two groups of two blocks"])
    weights = reference.initial_values(pretraining_shapes(config))
    batch = random_batch(rows=2)
    long, short = (run_model(config, weights, part, lambda m: m.get_pooled_output())
                   for part in (batch, [one[1:, :6] for one in batch]))
    np.testing.assert_allclose(long[1], short[0], atol=1e-6)


def test_dropout_acts_only_in_training():
    config = config_of(hidden_dropout_prob=0.5, inner_group_num=2)

    def spread(is_training):
        with tf.Graph().as_default(), tf.Session() as session:
            model = modeling_google.AlbertModel(config, is_training, tf.constant([[1, 2, 3]]))
            session.run(tf.global_variables_initializer())
            runs = [session.run(model.get_sequence_output()) for _ in range(2)]
        return np.abs(runs[0] - runs[1]).max()

    assert spread(False) == 0 and spread(True) > 0


def test_sequences_beyond_the_position_table_are_refused():
    with tf.Graph().as_default(), pytest.raises(UserError, match="beyond the position table"):
        modeling_google.AlbertModel(config_of(), False, tf.zeros([1, 33], tf.int32))


# ---------------------------------------------------------------------------------------------
# Losses, gradients and steps of pre-training
# ---------------------------------------------------------------------------------------------

Step = collections.namedtuple("Step", ["losses", "gradients", "weights"])
Step.__doc__ = """A training step: losses (masked LM, sentence order, total) and gradients before
it, weights after it; gradients and weights are {name: array}."""


class Training(object):
    """The pre-training graph of a configuration on one batch that never changes."""

    def __init__(self, config, rows, optimizer="lamb", rate=0.01, steps=4, warmup=1):
        schedule = pretraining.Schedule(
            optimizer, rate, steps, warmup, 1.0, 0, layouts.GOOGLE.lamb_exclusions,
            layouts.GOOGLE.lamb_slots)
        batch = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        with tf.Graph().as_default() as self._graph:
            model_fn = pretraining.model_fn_builder(config, modeling_google.AlbertModel, schedule)
            with pytest.MonkeyPatch().context() as patch:
                taken = []
                clip = optimization.clip_gradients
                patch.setattr(optimization, "clip_gradients",
                              lambda gradients, norm: taken.extend(gradients)
                              or clip(gradients, norm))
                self._step = model_fn(
                    {name: tf.constant(value, tf.float32 if value.dtype.kind == "f" else tf.int32)
                     for name, value in batch.items()}, None, tf.estimator.ModeKeys.TRAIN,
                    {}).train_op
            self._variables = {v.op.name: v for v in tf.trainable_variables()}
            self._gradients = {name: tf.convert_to_tensor(gradient)
                               for name, gradient in zip(self._variables, taken)}
            self.names = {v.op.name for v in tf.global_variables()}
            initializer = tf.global_variables_initializer()
        self._losses = ["masked_lm_loss:0", "sentence_order_loss:0", "total_loss:0"]
        self._session = tf.Session(graph=self._graph)
        self._session.run(initializer)

    def load(self, weights):
        with self._graph.as_default():
            load_weights(self._session, weights)

    def losses(self):
        return self._session.run(self._losses)

    def step(self):
        # The forward pass is shared with the update, so what is fetched is from before it.
        losses, gradients, _ = self._session.run([self._losses, self._gradients, self._step])
        return Step(losses, gradients, self._session.run(self._variables))


@pytest.fixture(scope="module")
def lamb():
    """(config, rows, initial weights, three LAMB steps, names of all variables)."""
    config = config_of(num_hidden_layers=2, num_hidden_groups=2, inner_group_num=2)
    rows = pretraining_rows(2)
    weights = reference.initial_values(pretraining_shapes(config))
    training = Training(config, rows, steps=4, warmup=1)
    training.load(weights)
    return config, rows, weights, [training.step() for _ in range(3)], training.names


def test_losses_equal_numpy(lamb):
    config, rows, weights, steps, _ = lamb
    expected = reference.pretraining_losses_google(config.to_dict(), weights, rows)
    np.testing.assert_allclose(steps[0].losses, expected + (sum(expected),), atol=2e-5)
    expected = reference.pretraining_losses_google(config.to_dict(), steps[1].weights, rows)
    np.testing.assert_allclose(steps[2].losses, expected + (sum(expected),), atol=2e-5)


def test_gradients_equal_differences_of_the_losses_in_numpy(lamb):
    config, rows, weights, steps, _ = lamb
    rng = np.random.RandomState(1)

    def loss_at(name, change):
        return sum(reference.pretraining_losses_google(
            config.to_dict(), dict(weights, **{name: weights[name].astype(np.float64) + change}),
            rows))

    for name, gradient in steps[0].gradients.items():
        # Along one random direction in the space of this variable, at double precision.
        direction = rng.normal(size=gradient.shape)
        direction *= 1e-4 / np.linalg.norm(direction)
        expected = (loss_at(name, direction) - loss_at(name, -direction)) / 2
        assert (gradient * direction).sum() == pytest.approx(expected, abs=1e-8), name


def test_lamb_steps_equal_numpy(lamb):
    _, _, initial, steps, names = lamb
    weights, moments = dict(initial), {}
    for number, step in enumerate(steps):
        reference.optimizer_step(weights, step.gradients, moments,
                                 reference.rate_at(number, 0.01, 4, 1), lamb=True,
                                 exempt=("LayerNorm", "bias"))
        for name, value in step.weights.items():
            np.testing.assert_allclose(value, weights[name], atol=1e-5, err_msg=name)
    assert {name + slot for name in weights for slot in ("/adam_m", "/adam_v")} < names


def golden_rows(golden):
    keys = {"input_ids": "ids", "input_mask": "mask", "segment_ids": "seg",
            "masked_lm_positions": "pos", "masked_lm_ids": "mids", "masked_lm_weights": "mw",
            "next_sentence_labels": "sop"}
    return [{field: golden[key][row] for field, key in keys.items()} for row in range(3)]


@pytest.mark.parametrize("name", ["google", "google_g2", "google_adamw"])
def test_golden_values(shared_data, name):
    golden = golden_file(shared_data, name)
    config = modeling_google.AlbertConfig.from_dict(json.loads(str(golden["config"])))
    weights = reference.initial_values(pretraining_shapes(config))
    found = run_model(config, weights, [golden[key] for key in ("ids", "mask", "seg")], outputs)
    for key, value in (("embedding_output", found[0]), ("pooled_output", found[2]),
                       ("sequence_output", found[3])):
        np.testing.assert_allclose(value, golden["initial/" + key], atol=2e-5)

    steps = int(golden["N"])
    training = Training(config, golden_rows(golden),
                        "adamw" if name == "google_adamw" else "lamb", float(golden["LR"]),
                        steps, int(golden["W"]))
    training.load(weights)
    done = [training.step() for _ in range(steps)]
    np.testing.assert_allclose(done[0].losses[:2], [golden["initial/mlm_loss"],
                                                    golden["initial/sop_loss"]], atol=2e-5)
    assert len(done[0].gradients) == sum(key.startswith("grad/") for key in golden.files)
    for variable, gradient in done[0].gradients.items():
        np.testing.assert_allclose(gradient, golden["grad/" + variable], atol=2e-5,
                                   err_msg=variable)
    final = training.losses()
    np.testing.assert_allclose([step.losses[2] for step in done] + [final[2]], golden["losses"],
                               atol=1e-4)
    np.testing.assert_allclose(final[:2], [golden["final_mlm"], golden["final_sop"]], atol=1e-4)
    for variable, value in done[-1].weights.items():
        np.testing.assert_allclose(value, golden["var/" + variable], atol=1e-4, err_msg=variable)
