"""The training op: learning-rate schedule, gradient clipping, AdamW or LAMB, the global step."""

from errors import UserError
from lamb_optimizer import DecoupledDecayOptimizer, LAMBOptimizer

import tensorflow.compat.v1 as tf

OPTIMIZERS = ("adamw", "lamb")


class AdamWeightDecayOptimizer(DecoupledDecayOptimizer):
    """AdamW without bias correction, slots `adam_m` and `adam_v`."""

    SLOT_NAMES = ("adam_m", "adam_v")

    def __init__(self, learning_rate, name="AdamWeightDecayOptimizer", **settings):
        super(AdamWeightDecayOptimizer, self).__init__(learning_rate, name=name, **settings)


def learning_rate_at(step, init_lr, num_train_steps, num_warmup_steps, poly_power=1.0,
                     start_warmup_step=0):
    """The rate of step t, counted from 0: linear warm-up from 0, then polynomial decay to 0.

        init_lr * (t - start) / warmup                   while t < start + warmup (0 before start)
        init_lr * (1 - t / num_train_steps) ^ power      afterwards

    Args:
        step: scalar integer tensor, read BEFORE it is incremented.

    Returns:
        scalar float tensor.
    """
    step = tf.cast(step, tf.float32)
    rest = tf.maximum(1.0 - step / float(num_train_steps), 0.0)
    rate = init_lr * tf.pow(rest, poly_power)
    if num_warmup_steps:
        since_start = tf.maximum(step - start_warmup_step, 0.0)
        warming = since_start < float(num_warmup_steps)
        rate = tf.where(warming, init_lr * since_start / float(num_warmup_steps), rate)
    return rate


def create_optimizer(loss, init_lr, num_train_steps, num_warmup_steps, use_tpu, optimizer="adamw",
                     poly_power=1.0, start_warmup_step=0, weight_decay_rate=0.01,
                     exclude_from_layer_adaptation=(), bias_correction=False, slot_names=None,
                     clip_norm=1.0):
    """Builds the training op.

    The rate is computed from the global step before it is incremented: the increment waits for
    all updates, so no run differs from another by a race.

    Args:
        loss: scalar tensor.
        init_lr: peak rate; see `learning_rate_at` for the schedule's other numbers.
        use_tpu: sums gradients across TPU cores.
        optimizer: "adamw" or "lamb".
        exclude_from_layer_adaptation: LAMB only; names (regular expressions) whose trust ratio
            is 1. () as for the albert_zh layout, lamb_optimizer.NO_DECAY as for the Google one.
        bias_correction: the moments' correction of algorithm 2 in the LAMB paper; off in the
            training of the released models.
        clip_norm: global norm that gradients are clipped to.

    Returns:
        The op that does one step. The graph then holds the scalars `learning_rate:0` and
        `gradient_norm:0` for progress displays.

    Raises:
        UserError: an unknown optimizer.
    """
    global_step = tf.train.get_or_create_global_step()
    rate = tf.identity(
        learning_rate_at(global_step, init_lr, num_train_steps, num_warmup_steps, poly_power,
                         start_warmup_step), name="learning_rate")
    settings = dict(weight_decay_rate=weight_decay_rate, bias_correction=bias_correction,
                    step=global_step, slot_names=slot_names)
    if optimizer == "lamb":
        stepper = LAMBOptimizer(
            rate, exclude_from_layer_adaptation=exclude_from_layer_adaptation, **settings)
    elif optimizer == "adamw":
        stepper = AdamWeightDecayOptimizer(rate, **settings)
    else:
        raise UserError("--optimizer=%s is unknown; use %s" % (optimizer, " or ".join(OPTIMIZERS)))
    if use_tpu:
        stepper = tf.tpu.CrossShardOptimizer(stepper)
    variables = tf.trainable_variables()
    clipped = clip_gradients(tf.gradients(loss, variables), clip_norm)
    update = stepper.apply_gradients(zip(clipped, variables))
    with tf.control_dependencies([update]):
        return global_step.assign_add(1, read_value=False)


def clip_gradients(gradients, clip_norm):
    """Makes gradients dense and clips them to a global norm; None (unused variables) stays None.

    Dense first: the norm of IndexedSlices counts a word that occurs twice as two gradients.
    """
    dense = [None if g is None else tf.convert_to_tensor(g) for g in gradients]
    norm = tf.identity(tf.global_norm(dense), name="gradient_norm")
    clipped, _ = tf.clip_by_global_norm(dense, clip_norm, use_norm=norm)
    return clipped
