"""The training op: learning-rate schedule, gradient clipping, AdamW or LAMB, the global step."""

import random_draws
from errors import UserError
from lamb_optimizer import DecoupledDecayOptimizer, LAMBOptimizer

import tensorflow.compat.v1 as tf

OPTIMIZERS = ("adamw", "lamb")

# The graph's collection of the names of variables, in the order of `gradient_squares:0`.
GRADIENT_NAMES = "gradient_names"


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


# ---------------------------------------------------------------------------------------------
# Gradients: part by part, of all replicas, scaled for float16, clipped
# ---------------------------------------------------------------------------------------------

def differentiate(share_of, features, parts=1, loss_scale=None):
    """Gradients of a batch's loss, computed on one part of the batch after the other.

    Only one part's activations are in memory at a time. The sum is that of the undivided batch to
    rounding, because `share_of` divides by the numbers of the whole batch.

    Args:
        share_of: function of features that returns (loss, {name: scalar}), which add up over the
            parts (and replicas) to the whole batch's.
        features: {name: [B, ...] tensor}; B is a multiple of `parts`.
        parts: number of parts of B / parts examples.
        loss_scale: LossScale or None.

    Returns:
        (gradients of tf.trainable_variables(), None for unused ones, {name: scalar}): sums over
        the parts. The loss is among the scalars as "loss".
    """
    def gradients_of(number, reuse):
        # Entering the scope anew lets scopes of default names keep their names in every part.
        with tf.variable_scope(tf.get_variable_scope(), reuse=reuse,
                               auxiliary_name_scope=False), random_draws.part_of_batch(number):
            loss, scalars = share_of(_part(features, number, parts))
        variables = tf.trainable_variables()
        scaled = loss if loss_scale is None else loss_scale.up(loss)
        return _dense(tf.gradients(scaled, variables)), dict(scalars, loss=loss)

    gradients, scalars = gradients_of(0, reuse=None)
    if parts == 1:
        return gradients, scalars
    used = [number for number, gradient in enumerate(gradients) if gradient is not None]
    names = sorted(scalars)

    def add_part(number, sums, totals):
        more, of_part = gradients_of(number, reuse=True)
        return (number + 1, [total + more[at] for total, at in zip(sums, used)],
                [total + of_part[name] for total, name in zip(totals, names)])

    # One part is done before the next begins, else the activations of several are held.
    first_sums = [gradients[at] for at in used]
    with tf.control_dependencies(first_sums):
        second = tf.constant(1)
    _, sums, totals = tf.while_loop(
        lambda number, *_: number < parts, add_part,
        (second, first_sums, [scalars[name] for name in names]),
        parallel_iterations=1, back_prop=False)
    for at, total in zip(used, sums):
        gradients[at] = total
    return gradients, dict(zip(names, totals))


def _part(features, number, parts):
    """Returns {name: [B / parts, ...]}: one of equal parts of a batch."""
    if parts == 1:
        return features
    found = {}
    for name, tensor in features.items():
        sizes = [dynamic if static is None else static for static, dynamic in zip(
            tensor.shape.as_list(), tf.unstack(tf.shape(tensor), tensor.shape.ndims))]
        found[name] = tf.reshape(tensor, [parts, sizes[0] // parts] + sizes[1:])[number]
    return found


def sum_over_replicas(tensors):
    """Sums tensors over the replicas of a distribution strategy; each replica gets the sums.

    TPU cores are no replicas in this sense: there, what is passed comes back.

    Args:
        tensors: list of tensors, made in the replica.

    Returns:
        list of tensors.
    """
    def merge(strategy, *per_replica):
        return strategy.extended.batch_reduce_to(
            tf.distribute.ReduceOp.SUM, [(one, one) for one in per_replica])

    if replicas() == 1:
        return list(tensors)
    return list(tf.distribute.get_replica_context().merge_call(merge, args=tuple(tensors)))


def replicas():
    """Returns the number of replicas that compute a step together."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def name_scalars(scalars):
    """Gives scalars, which add up over replicas, the names under which progress displays find them.

    Args:
        scalars: {name: scalar tensor}; the graph then holds `name:0` with the sum.

    Returns:
        The op that sums. Every worker must run it in each step: one that wants to display a sum
        waits for the others' shares.
    """
    names = sorted(scalars)
    sums = sum_over_replicas([scalars[name] for name in names])
    return tf.group(*[tf.identity(total, name=name) for name, total in zip(names, sums)])


class LossScale(object):
    """Dynamic loss scaling for float16 (Micikevicius et al., arXiv 1710.03740, section 3.2).

    Small gradients vanish in float16, so the loss is multiplied before differentiation and the
    gradients are divided after it. The factor is halved whenever a gradient overflows, and doubled
    after GROWTH_STEPS steps without. It is no part of checkpoints: a run that goes on finds it anew
    within a few steps.
    """

    START = 2.0 ** 15
    GROWTH_STEPS = 2000

    def __init__(self):
        def local(name, value, dtype):
            return tf.get_variable(
                name, [], dtype, initializer=tf.constant_initializer(value), trainable=False,
                collections=[tf.GraphKeys.LOCAL_VARIABLES],
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

        self._scale = local("loss_scale", self.START, tf.float32)
        self._good_steps = local("loss_scale_good_steps", 0, tf.int32)

    def up(self, loss):
        return loss * self._scale

    def down(self, gradients):
        factor = 1.0 / self._scale
        return [None if one is None else one * factor for one in gradients]

    def adjust(self, finite):
        """Returns the op that adapts the factor to a step whose gradients were finite or not."""
        good = tf.where(finite, self._good_steps + 1, 0)
        grown = good >= self.GROWTH_STEPS
        factor = tf.where(finite, tf.where(grown, 2.0, 1.0), 0.5)
        scale = tf.clip_by_value(self._scale * factor, 1.0, 2.0 ** 126)
        with tf.control_dependencies([good, scale]):
            return tf.group(self._scale.assign(scale, read_value=False),
                            self._good_steps.assign(tf.where(grown, 0, good), read_value=False))


def clip_gradients(gradients, clip_norm):
    """Makes gradients dense and clips them to a global norm; None (unused variables) stays None.

    Dense first: the norm of IndexedSlices counts a word that occurs twice as two gradients.
    """
    dense = _dense(gradients)
    # As tf.global_norm does it, but for the name: who looks for a bad gradient wants them singly.
    squares = tf.stack([tf.nn.l2_loss(one) for one in dense if one is not None],
                       name="gradient_squares")
    norm = tf.sqrt(tf.reduce_sum(squares) * 2.0, name="gradient_norm")
    clipped, _ = tf.clip_by_global_norm(dense, clip_norm, use_norm=norm)
    return clipped, norm


def _dense(gradients):
    return [None if one is None else tf.convert_to_tensor(one) for one in gradients]


# ---------------------------------------------------------------------------------------------
# The training op
# ---------------------------------------------------------------------------------------------

def create_optimizer(loss, init_lr, num_train_steps, num_warmup_steps, use_tpu, optimizer="adamw",
                     poly_power=1.0, start_warmup_step=0, weight_decay_rate=0.01,
                     exclude_from_layer_adaptation=(), bias_correction=False, slot_names=None,
                     clip_norm=1.0, gradients=None, loss_scale=None):
    """Builds the training op.

    The rate is computed from the global step before it is incremented: the increment waits for
    all updates, so no run differs from another by a race. Gradients that are no numbers update
    nothing, and the step does not count; with float16 it does, whose gradients overflow now and
    then. (TPUs update whatever comes.)

    Args:
        loss: scalar tensor, the mean over a replica's examples; None with `gradients`.
        init_lr: peak rate; see `learning_rate_at` for the schedule's other numbers.
        use_tpu: sums gradients across TPU cores.
        optimizer: "adamw" or "lamb".
        exclude_from_layer_adaptation: LAMB only; names (regular expressions) whose trust ratio
            is 1. () as for the albert_zh layout, lamb_optimizer.NO_DECAY as for the Google one.
        bias_correction: the moments' correction of algorithm 2 in the LAMB paper; off in the
            training of the released models.
        clip_norm: global norm that gradients are clipped to, summed over parts and replicas.
        gradients: of `differentiate`, in place of the loss.
        loss_scale: the LossScale that `differentiate` was given.

    Returns:
        The op that does one step. The graph then holds the scalars `learning_rate:0` and
        `gradient_norm:0` for progress displays, and half the square of each gradient's norm in
        `gradient_squares:0`, of the variables in the collection GRADIENT_NAMES.

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
    variables = tf.trainable_variables()
    if gradients is None:
        gradients = tf.gradients(loss / replicas() if replicas() > 1 else loss, variables)
    gradients, norm = clip_gradients(_summed(gradients, loss_scale), clip_norm)
    pairs = list(zip(gradients, variables))
    if not tf.get_collection(GRADIENT_NAMES):  # as they are of the first replica
        for gradient, variable in pairs:
            if gradient is not None:
                tf.add_to_collection(GRADIENT_NAMES, variable.op.name)
    finite, counts = tf.math.is_finite(norm), 1
    if use_tpu:
        update = tf.tpu.CrossShardOptimizer(stepper).apply_gradients(pairs)
    else:
        update = stepper.apply_gradients(pairs, when=finite)
        if loss_scale is not None:
            update = tf.group(update, loss_scale.adjust(finite))
        else:
            counts = tf.cast(finite, global_step.dtype.base_dtype)
    with tf.control_dependencies([update]):
        return global_step.assign_add(counts, read_value=False)


def _summed(gradients, loss_scale):
    """Returns gradients summed over replicas, at the scale of the loss itself."""
    dense = _dense(gradients)
    used = [number for number, gradient in enumerate(dense) if gradient is not None]
    for number, total in zip(used, sum_over_replicas([dense[at] for at in used])):
        dense[number] = total
    return dense if loss_scale is None else loss_scale.down(dense)
