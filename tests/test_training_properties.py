"""Properties that training must have whatever its numbers are, on real text, for both layouts.

The models are narrow and the texts short, so that each property takes seconds; the vocabulary is
the Chinese one, so that the losses at the start are those of a real run.
"""

import math
import os

import helpers
import numpy as np
import pytest
from conftest import ROOT, SHARED_DATA

import batching
import create_pretraining_data as cpd
import features
import heads
import modeling
import modeling_google
import optimization
import pretraining
import tasks
import tokenization

import tensorflow.compat.v1 as tf

SIZES = {"sequence": 40, "predictions": 6}
RECORDS = 32
CORPUS_BYTES = 200000  # of a real corpus; the sample in data/ is shorter

NARROW = dict(helpers.TINY, vocab_size=21128, embedding_size=24, hidden_size=48,
              num_attention_heads=4, intermediate_size=96, max_position_embeddings=64)
NARROW_GOOGLE = dict(helpers.TINY_GOOGLE, **{
    name: value for name, value in NARROW.items() if name != "ln_type"})
MODELS = {
    "postln": (modeling.BertConfig.from_dict(NARROW), modeling.BertModel),
    "preln": (modeling.BertConfig.from_dict(dict(NARROW, ln_type="preln")), modeling.BertModel),
    "google": (modeling_google.AlbertConfig.from_dict(NARROW_GOOGLE),
               modeling_google.AlbertModel),
    "google, 2 groups of 2 blocks": (
        modeling_google.AlbertConfig.from_dict(
            dict(NARROW_GOOGLE, num_hidden_groups=2, inner_group_num=2)),
        modeling_google.AlbertModel)}

every_model = pytest.mark.parametrize("config, model_class", list(MODELS.values()),
                                      ids=list(MODELS))


# ---------------------------------------------------------------------------------------------
# Real text as batches
# ---------------------------------------------------------------------------------------------

SAMPLE = os.path.join(ROOT, "data", "news_zh_1.txt")


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """RECORDS pre-training records of real text as one batch: {field: array}."""
    newspaper = os.path.join(SHARED_DATA, "corpus", "people_daily_199801.txt")
    return batch_of(newspaper if os.path.exists(newspaper) else SAMPLE,
                    tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def sample_batch(tmp_path_factory):
    """As `batch`, of the sample in data/."""
    return batch_of(SAMPLE, tmp_path_factory.mktemp("records"))


def batch_of(source, folder):
    """Makes the records of the start of a text; returns RECORDS of them as {field: array}."""
    text = helpers.read(source)[:CORPUS_BYTES].decode("utf-8", "ignore")
    (folder / "text.txt").write_bytes(text.encode("utf-8"))
    summary = cpd.create(cpd.Settings(
        str(folder / "text.txt"), str(folder / "x.tfrecord"),
        os.path.join(ROOT, "albert_config", "vocab.txt"), max_seq_length=SIZES["sequence"],
        max_predictions_per_seq=SIZES["predictions"], dupe_factor=1, num_workers=1))
    input_fn = pretraining.input_fn_builder(summary["outputs"], SIZES, False, fixed_shapes=True)
    found, = helpers.batches_of(input_fn, RECORDS, limit=1)
    assert len(found["input_ids"]) == RECORDS
    return found


def losses_of(config, model_class, batch):
    """Builds the pre-training losses of a batch of tensors; returns (loss, {name: scalar})."""
    outputs = pretraining.outputs_of(config, model_class, batch, True)
    return pretraining.losses(outputs, pretraining.totals_of(batch))


def constants(batch):
    return {name: tf.constant(value) for name, value in batch.items()}


# ---------------------------------------------------------------------------------------------
# At the start
# ---------------------------------------------------------------------------------------------

SHIPPED = {name: modeling_google if "google" in name else modeling for name in (
    "albert_config_tiny.json", "albert_config_tiny_google.json")}
STARTS = list(MODELS.values()) + [
    ((module.AlbertConfig if module is modeling_google else modeling.BertConfig).from_json_file(
        os.path.join(ROOT, "albert_config", name)),
     modeling_google.AlbertModel if module is modeling_google else modeling.BertModel)
    for name, module in SHIPPED.items()]


@pytest.mark.parametrize("config, model_class", STARTS, ids=list(MODELS) + list(SHIPPED))
def test_an_untrained_model_guesses(config, model_class, batch):
    """The median of five initialisations, as the two scores of the order are not quite equal.

    Each record is taken in both orders, or the loss would tell which label is the more frequent.
    """
    words, orders = [], []
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(7)
        labels = tf.placeholder(tf.int32, [None, 1])
        _, scalars = losses_of(config, model_class,
                               dict(constants(batch), next_sentence_labels=labels))
        initialise = tf.global_variables_initializer()
        for _ in range(5):
            session.run(initialise)
            found = [session.run(scalars, {labels: np.full([RECORDS, 1], label)})
                     for label in (0, 1)]
            words.append(found[0]["masked_lm_loss"])
            orders.append(np.mean([one["sentence_order_loss"] for one in found]))
    assert np.median(words) == pytest.approx(math.log(21128), rel=0.02)
    assert np.median(orders) == pytest.approx(math.log(2), rel=0.02)
    assert len(set(words)) == 5  # five initialisations indeed


@every_model
def test_every_variable_has_a_finite_gradient_that_is_not_zero(config, model_class, batch):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(7)
        loss, _ = losses_of(config, model_class, constants(batch))
        variables = tf.trainable_variables()
        gradients = tf.gradients(loss, variables)
        missing = [variable.op.name for variable, gradient in zip(variables, gradients)
                   if gradient is None]
        assert not missing
        session.run(tf.global_variables_initializer())
        found = dict(zip([variable.op.name for variable in variables], session.run(
            [tf.convert_to_tensor(gradient) for gradient in gradients])))
    sizes = {name: float(np.abs(value).max()) for name, value in found.items()}
    assert all(np.isfinite(value).all() for value in found.values())
    for name, size in sizes.items():
        if name.endswith("self/key/bias"):
            # It adds the same to the scores of all keys, which a softmax does not see: what is
            # left is rounding.
            assert size < 1e-6, name
        else:
            assert size > 1e-9, (name, size)
    assert len(sizes) == len(modeling.pretraining_variable_shapes(config, model_class))


# ---------------------------------------------------------------------------------------------
# What the masked words' loss depends on
# ---------------------------------------------------------------------------------------------

@every_model
def test_masked_positions_alone_influence_the_masked_words_loss(config, model_class, batch):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(7)
        tensors = constants(batch)
        model = model_class(config, False, tensors["input_ids"], tensors["input_mask"],
                            tensors["segment_ids"])
        vectors = model.get_sequence_output()
        logits = modeling.masked_lm_logits(
            config, modeling.gather_positions(vectors, tensors["masked_lm_positions"]),
            model.get_embedding_table(), model.get_embedding_table_2())
        loss, _ = pretraining.masked_lm_loss(
            logits, tf.reshape(tensors["masked_lm_ids"], [-1]),
            tf.reshape(tensors["masked_lm_weights"], [-1]))
        gradient = tf.convert_to_tensor(tf.gradients(loss, vectors)[0])
        session.run(tf.global_variables_initializer())
        sizes = np.abs(session.run(gradient)).max(axis=-1)
    is_masked = np.zeros_like(sizes, bool)
    for row in range(RECORDS):
        real = batch["masked_lm_weights"][row] > 0
        is_masked[row, batch["masked_lm_positions"][row][real]] = True
    assert (sizes[is_masked] > 0).all()
    assert (sizes[~is_masked] == 0).all()


@every_model
def test_predictions_without_weight_change_nothing(config, model_class, batch):
    weights = batch["masked_lm_weights"].copy()
    weights[:, -2:] = 0.0  # two predictions of each record become padding
    is_padding = weights == 0
    others = {
        "masked_lm_ids": np.where(is_padding, 77, batch["masked_lm_ids"]),
        "masked_lm_positions": np.where(is_padding, 0, batch["masked_lm_positions"])}
    assert all((others[name] != batch[name]).any() for name in others)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(7)
        tensors = {name: tf.placeholder(value.dtype, value.shape)
                   for name, value in batch.items()}
        loss, scalars = losses_of(config, model_class, tensors)
        of_words = tf.convert_to_tensor(tf.gradients(loss, tf.trainable_variables())[0])
        session.run(tf.global_variables_initializer())

        def run(**changes):
            values = dict(batch, masked_lm_weights=weights, **changes)
            return session.run([scalars["masked_lm_loss"], of_words], {
                tensors[name]: value for name, value in values.items()})

        (found, gradient), (other, other_gradient) = run(), run(**others)
        in_use = np.where(is_padding, batch["masked_lm_ids"], 77)
        changed, _ = run(masked_lm_ids=in_use)
    assert found == pytest.approx(other, rel=1e-6)
    np.testing.assert_allclose(gradient, other_gradient, atol=1e-7)
    assert abs(changed - found) > 1e-4  # but a label that counts does count


# ---------------------------------------------------------------------------------------------
# Padding, the order of a batch
# ---------------------------------------------------------------------------------------------

class Encoded(object):
    """An encoder with a classifier in one session; called with arrays, gives arrays."""

    def __init__(self, config, model_class, session):
        self._inputs = [tf.placeholder(tf.int32, [None, None]) for _ in range(3)]
        model = model_class(config, False, *self._inputs, scope="bert")
        logits = heads.class_logits(config, model.get_pooled_output(), 5, False)
        mean = modeling.mean_over_tokens(model.get_sequence_output(), self._inputs[1])
        self._outputs = [model.get_sequence_output(), model.get_pooled_output(), logits, mean]
        self._session = session
        session.run(tf.global_variables_initializer())

    def __call__(self, *arrays):
        """Returns [sequence output, pooled output, logits, mean over the tokens]."""
        return self._session.run(self._outputs, dict(zip(self._inputs, arrays)))


@every_model
def test_padding_never_changes_an_output(config, model_class, batch):
    inputs = [batch[name] for name in ("input_ids", "input_mask", "segment_ids")]
    rng = np.random.RandomState(3)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(7)
        encode = Encoded(config, model_class, session)
        together = encode(*inputs)
        # Longer, and with whatever ids and segments where nothing is read.
        wider = [np.pad(value, [(0, 0), (0, 17)], "constant") for value in inputs]
        outside = wider[1] == 0
        wider[0] = np.where(outside, rng.randint(0, 21128, outside.shape), wider[0])
        wider[2] = np.where(outside, rng.randint(0, 2, outside.shape), wider[2])
        padded = encode(*wider)
        lengths = inputs[1].sum(axis=1)
        alone = [encode(*[value[row:row + 1, :lengths[row]] for value in inputs])
                 for row in range(0, RECORDS, 4)]
    real = inputs[1].astype(bool)
    np.testing.assert_allclose(padded[0][:, :real.shape[1]][real], together[0][real], atol=2e-5)
    for number in (1, 2, 3):
        np.testing.assert_allclose(padded[number], together[number], atol=2e-5)
    for row, outputs in zip(range(0, RECORDS, 4), alone):
        np.testing.assert_allclose(outputs[0][0], together[0][row, :lengths[row]], atol=2e-5)
        for number in (1, 2, 3):
            np.testing.assert_allclose(outputs[number][0], together[number][row], atol=2e-5)


@every_model
def test_permuting_a_batch_permutes_its_outputs(config, model_class, batch):
    inputs = [batch[name] for name in ("input_ids", "input_mask", "segment_ids")]
    order = np.random.RandomState(4).permutation(RECORDS)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(7)
        encode = Encoded(config, model_class, session)
        straight, permuted = encode(*inputs), encode(*[value[order] for value in inputs])
    for one, other in zip(straight, permuted):
        difference = np.abs(other - one[order]).max()
        assert difference < 1e-5
        assert np.abs(other - one).max() > 10 * difference  # and does permute them


# ---------------------------------------------------------------------------------------------
# Overfitting
# ---------------------------------------------------------------------------------------------

def train(session, loss, steps, rate, optimizer, enough):
    """Trains on one batch until the loss is below `enough`; returns the losses."""
    step = optimization.create_optimizer(loss, rate, 10 * steps, 10, False, optimizer)
    session.run(tf.global_variables_initializer())
    found = []
    while len(found) < steps and not (found and found[-1] < enough):
        found.append(session.run([loss, step])[0])
    return found


@pytest.mark.parametrize("config, model_class", [
    MODELS[name] for name in ("postln", "google, 2 groups of 2 blocks")])
def test_pretraining_overfits_32_records(config, model_class, sample_batch):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(7)
        loss, _ = losses_of(config, model_class, constants(sample_batch))
        found = train(session, loss, 400, 0.02, "lamb", 0.1)
    assert found[0] > 9.0
    assert found[-1] < 0.1, found[::20]


@every_model
def test_a_classifier_overfits_32_examples(config, model_class, vocab_file):
    task = tasks.get("tnews")
    examples = task.read(os.path.join(ROOT, "data", "clue_sample", "tnews"), "train")[:32]
    tokenizer = tokenization.FullTokenizer(vocab_file)
    rows = [features.featurise(example, task.labels, tokenizer, 32) for example in examples]
    inputs = batching.padded(*[[row[name] for row in rows]
                               for name in ("input_ids", "segment_ids")])
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(7)
        head = heads.ClassifierHead(len(task.labels), True)
        logits = heads.classifier_logits(
            config, model_class, head, False, *[tf.constant(value) for value in inputs])
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=[row["label_ids"][0] for row in rows], logits=logits))
        found = train(session, loss, 400, 0.001, "adamw", 0.02)
    assert found[0] == pytest.approx(math.log(len(task.labels)), rel=0.1)
    assert found[-1] < 0.02, found[::20]
