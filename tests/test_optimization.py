"""LAMB and AdamW step by step against NumPy; the schedule; clipping; convergence."""

import numpy as np
import pytest
import reference

import lamb_optimizer
import optimization
from errors import UserError

import tensorflow.compat.v1 as tf

START = {"layer/kernel": [[0.5, -0.2], [0.15, 0.9]], "layer/bias": [0.3, -0.1],
         "LayerNorm/gamma": [1.1, 0.7], "output_bias": [0.0, 0.0]}


def quadratic_loss(variables):
    """Pulls each variable to a number of its own; the factor makes clipping bite."""
    return sum(3.0 * tf.reduce_sum(tf.square(variable - 0.1 * (index + 1)))
               for index, variable in enumerate(variables))


def numpy_gradients(weights):
    return {name: 6.0 * (np.asarray(value, np.float64) - 0.1 * (index + 1))
            for index, (name, value) in enumerate(weights.items())}


def run_steps(steps, **settings):
    """Minimises the quadratic; returns (weights, names of all variables, rates)."""
    with tf.Graph().as_default(), tf.Session() as session:
        variables = [tf.get_variable(name, initializer=tf.constant(value, tf.float32))
                     for name, value in START.items()]
        train_op = optimization.create_optimizer(
            quadratic_loss(variables), 0.1, 6, 2, False, **settings)
        session.run(tf.global_variables_initializer())
        rates = []
        for _ in range(steps):
            rates.append(session.run(["learning_rate:0", train_op])[0])
        names = {variable.op.name for variable in tf.global_variables()}
        return dict(zip(START, session.run(variables))), names, rates


@pytest.mark.parametrize("lamb, exempt", [
    (False, ()), (True, ()), (True, lamb_optimizer.NO_DECAY)])
def test_six_steps_equal_numpy(lamb, exempt):
    found, _, rates = run_steps(6, optimizer="lamb" if lamb else "adamw",
                                exclude_from_layer_adaptation=exempt)
    weights = {name: np.asarray(value, np.float32) for name, value in START.items()}
    moments = {}
    for step in range(6):
        rate = reference.rate_at(step, 0.1, 6, 2)
        assert rates[step] == pytest.approx(rate, rel=1e-6)
        reference.optimizer_step(weights, numpy_gradients(weights), moments, rate, lamb,
                                 exempt=exempt)
    for name, value in weights.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


def test_slot_names():
    assert {"layer/kernel/lamb_m", "layer/kernel/lamb_v"} <= run_steps(1, optimizer="lamb")[1]
    assert {"layer/kernel/adam_m", "layer/kernel/adam_v"} <= run_steps(1, optimizer="adamw")[1]
    google = run_steps(1, optimizer="lamb", slot_names=("adam_m", "adam_v"))[1]
    assert "layer/kernel/adam_v" in google and "layer/kernel/lamb_v" not in google


def test_two_runs_are_identical():
    first, second = run_steps(6, optimizer="lamb")[0], run_steps(6, optimizer="lamb")[0]
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


def test_unknown_optimizer_is_refused():
    with pytest.raises(UserError, match="--optimizer=adam is unknown"):
        run_steps(1, optimizer="adam")


def rates(steps, **settings):
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.placeholder(tf.int64, [])
        rate = optimization.learning_rate_at(step, **settings)
        return [session.run(rate, {step: t}) for t in steps]


def test_schedule_by_hand():
    found = rates([0, 1, 3, 4, 7, 10, 12], init_lr=1.0, num_train_steps=10, num_warmup_steps=4)
    np.testing.assert_allclose(found, [0, 0.25, 0.75, 0.6, 0.3, 0, 0], atol=1e-7)


def test_schedule_with_power_and_late_warm_up():
    found = rates([1, 2, 4, 6], init_lr=2.0, num_train_steps=10, num_warmup_steps=4,
                  poly_power=2.0, start_warmup_step=2)
    np.testing.assert_allclose(found, [0, 0, 1.0, 2.0 * 0.4 ** 2], atol=1e-6)


def test_schedule_without_warm_up():
    np.testing.assert_allclose(rates([0, 5], init_lr=1.0, num_train_steps=10, num_warmup_steps=0),
                               [1.0, 0.5], atol=1e-7)


def test_clipping_sums_what_one_word_gets_twice():
    with tf.Graph().as_default(), tf.Session() as session:
        table = tf.get_variable("table", initializer=tf.zeros([3, 1]))
        looked_up = tf.gather(table, [1, 1])
        gradients = tf.gradients(tf.reduce_sum(2.0 * looked_up), [table])
        assert isinstance(gradients[0], tf.IndexedSlices)
        clipped, _ = optimization.clip_gradients(gradients, 1.0)
        session.run(tf.global_variables_initializer())
        value, norm = session.run([clipped[0], "gradient_norm:0"])
    assert norm == pytest.approx(4.0)
    np.testing.assert_allclose(value, [[0], [1.0], [0]], atol=1e-6)


def test_bias_correction_of_the_first_step_gives_the_gradient_back():
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable("w", initializer=tf.constant([1.0, 2.0]))
        optimizer = lamb_optimizer.LAMBOptimizer(
            0.1, weight_decay_rate=0.0, bias_correction=True, step=tf.constant(0, tf.int64))
        step = optimizer.apply_gradients([(tf.constant([0.5, -0.25]), variable)])
        session.run(tf.global_variables_initializer())
        session.run(step)
        found = session.run(variable)
    # Corrected, m / sqrt(v) is the gradient's sign; the ratio is |w| / |sign| = sqrt(5 / 2).
    np.testing.assert_allclose(found, [1.0 - 0.1 * np.sqrt(2.5), 2.0 + 0.1 * np.sqrt(2.5)],
                               atol=1e-4)


@pytest.mark.parametrize("lamb", [False, True])
def test_bias_correction_step_by_step_equals_numpy(lamb):
    """Algorithm 2 of the LAMB paper; epsilon is large, to see where it stands."""
    epsilon, rate, start = 0.1, 0.05, np.array([0.5, -0.2, 0.9])
    w, m, v = start, np.zeros(3), np.zeros(3)
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable("w", initializer=tf.constant(start, tf.float32))
        step = tf.placeholder(tf.int64, [])
        kind = lamb_optimizer.LAMBOptimizer if lamb else optimization.AdamWeightDecayOptimizer
        op = kind(rate, bias_correction=True, step=step, epsilon=epsilon).apply_gradients(
            [(2.0 * variable, variable)])
        session.run(tf.global_variables_initializer())
        for done in range(4):
            session.run(op, {step: done})
            gradient = 2.0 * w
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient ** 2
            u = m / (1 - 0.9 ** (done + 1))
            u = u / (np.sqrt(v / (1 - 0.999 ** (done + 1))) + epsilon) + 0.01 * w
            w = w - rate * (np.linalg.norm(w) / np.linalg.norm(u) if lamb else 1.0) * u
            np.testing.assert_allclose(session.run(variable), w, atol=1e-5)


def test_bias_correction_needs_the_step():
    with pytest.raises(ValueError, match="step"):
        lamb_optimizer.LAMBOptimizer(0.1, bias_correction=True)


@pytest.mark.parametrize("optimizer", ["adamw", "lamb"])
def test_three_numbers_converge(optimizer):
    target = np.array([0.4, 0.2, -0.5], np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable("w", initializer=tf.constant([0.1, -0.2, -0.1]))
        loss = tf.reduce_mean(tf.square(variable - target))
        train_op = optimization.create_optimizer(loss, 0.1, 200, 0, False, optimizer,
                                                 weight_decay_rate=0.0)
        session.run(tf.global_variables_initializer())
        for _ in range(200):
            session.run(train_op)
        np.testing.assert_allclose(session.run(variable), target, atol=1e-2)


def test_a_variable_of_zeros_moves_under_lamb():
    found, _, _ = run_steps(2, optimizer="lamb")
    assert np.abs(found["output_bias"]).max() > 1e-4


# ---------------------------------------------------------------------------------------------
# Gradients part by part, and scaled
# ---------------------------------------------------------------------------------------------

def mean_of_squares(features):
    """A loss's share in that of 8 rows, with a table of which each row takes one entry."""
    with tf.variable_scope("model"):
        kernel = tf.get_variable("kernel", initializer=tf.constant([[0.5, -0.2], [0.15, 0.9]]))
        table = tf.get_variable("table", initializer=tf.constant([0.1, 0.2, 0.3]))
        tf.get_variable("unused", initializer=tf.constant([1.0]))
    rows = tf.matmul(features["x"], kernel)
    rows *= tf.gather(table, features["entry"])[:, tf.newaxis]
    return tf.reduce_sum(tf.square(rows)) / 8.0, {"sum": tf.reduce_sum(rows)}


def differentiated(parts, loss_scale=False):
    with tf.Graph().as_default(), tf.Session() as session:
        rng = np.random.RandomState(1)
        features = {"x": tf.constant(rng.randn(8, 2), tf.float32),
                    "entry": tf.constant(rng.randint(0, 3, size=8))}
        scale = optimization.LossScale() if loss_scale else None
        gradients, scalars = optimization.differentiate(mean_of_squares, features, parts, scale)
        assert [variable.op.name for variable in tf.trainable_variables()] == [
            "model/kernel", "model/table", "model/unused"]
        assert gradients[2] is None
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        return session.run((gradients[:2], scalars))


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_parts_add_up_to_the_batch(parts):
    gradients, scalars = differentiated(1)
    of_parts, scalars_of_parts = differentiated(parts)
    for one, other in zip(of_parts, gradients):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    assert sorted(scalars_of_parts) == ["loss", "sum"]
    for name, value in scalars.items():
        assert scalars_of_parts[name] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("parts", [1, 4])
def test_the_loss_scale_multiplies_gradients_and_not_the_loss(parts):
    gradients, scalars = differentiated(1)
    scaled, same = differentiated(parts, loss_scale=True)
    for one, other in zip(scaled, gradients):
        np.testing.assert_allclose(one, other * optimization.LossScale.START, rtol=1e-5)
    assert same["loss"] == pytest.approx(scalars["loss"], rel=1e-5)


def test_parts_are_clipped_once_together():
    def clipped(parts):
        with tf.Graph().as_default(), tf.Session() as session:
            features = {"x": tf.constant(np.arange(16.0).reshape(8, 2), tf.float32),
                        "entry": tf.constant([0, 1, 2, 0, 1, 2, 0, 1])}
            gradients, _ = optimization.differentiate(mean_of_squares, features, parts)
            op = optimization.create_optimizer(None, 0.1, 10, 0, False, gradients=gradients)
            session.run(tf.global_variables_initializer())
            for _ in range(3):
                norm, _ = session.run(["gradient_norm:0", op])
            assert session.run(tf.train.get_global_step()) == 3
            return norm, session.run(tf.global_variables())

    norm, values = clipped(1)
    norm_of_parts, values_of_parts = clipped(4)
    assert norm > 1.0 and norm_of_parts == pytest.approx(norm, rel=1e-5)
    for one, other in zip(values_of_parts, values):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_an_overflow_changes_nothing_but_the_scale(monkeypatch):
    monkeypatch.setattr(optimization.LossScale, "GROWTH_STEPS", 3)
    start = optimization.LossScale.START
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable("w", initializer=tf.constant([0.5, -0.2]))
        factor = tf.placeholder(tf.float32, [])
        loss_scale = optimization.LossScale()
        gradients, _ = optimization.differentiate(
            lambda _: (factor * tf.reduce_sum(tf.square(variable)), {}), {}, 1, loss_scale)
        op = optimization.create_optimizer(None, 0.1, 100, 0, False, gradients=gradients,
                                           loss_scale=loss_scale)
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        saved = {one.op.name: one for one in tf.global_variables()}
        assert sorted(saved) == ["global_step", "w", "w/adam_m", "w/adam_v"]
        weight_and_slots = [saved["w"], saved["w/adam_m"], saved["w/adam_v"]]
        scales, moved = [], []
        for value in (1.0, np.inf, 1.0, 1.0, 1.0, np.nan, 1e-3):
            before = session.run(weight_and_slots)
            session.run(op, {factor: value})
            after = session.run(weight_and_slots)
            changed = [not (a == b).all() for a, b in zip(before, after)]
            assert changed in ([True] * 3, [False] * 3)
            moved.append(changed[0])
            scales.append(session.run(tf.local_variables()[0]) / start)
        assert session.run(tf.train.get_global_step()) == 7
    assert moved == [True, False, True, True, True, False, True]
    assert scales == [1, 0.5, 0.5, 0.5, 1, 0.5, 0.5]


def test_scaled_steps_are_those_without_a_scale():
    def three_steps(scaled):
        with tf.Graph().as_default(), tf.Session() as session:
            variable = tf.get_variable("w", initializer=tf.constant([0.5, -0.2]))
            loss_scale = optimization.LossScale() if scaled else None
            gradients, _ = optimization.differentiate(
                lambda _: (9.0 * tf.reduce_sum(tf.square(variable)), {}), {}, 1, loss_scale)
            op = optimization.create_optimizer(None, 0.1, 9, 0, False, "lamb",
                                               gradients=gradients, loss_scale=loss_scale)
            session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
            norms = [session.run(["gradient_norm:0", op])[0] for _ in range(3)]
            return norms + list(session.run(variable))

    np.testing.assert_allclose(three_steps(True), three_steps(False), rtol=1e-6)
