"""LAMB, and the decoupled weight decay step that it shares with AdamW.

LAMB: You et al., "Large Batch Optimization for Deep Learning", arXiv 1904.00962, algorithm 2.
With moments m, v of the gradient g of a variable w at step t (no bias correction by default, as
in the training of the released models):

    m = beta1 m + (1 - beta1) g
    v = beta2 v + (1 - beta2) g^2
    u = m / (sqrt(v) + epsilon) + decay w
    w = w - rate * ratio * u         AdamW: ratio = 1
                                     LAMB:  ratio = |w| / |u|, 1 where either norm is 0
"""

import re

import runtime  # noqa: F401 - before TensorFlow

import tensorflow.compat.v1 as tf

NO_DECAY = ("LayerNorm", "layer_norm", "bias")


class DecoupledDecayOptimizer(tf.train.Optimizer):
    """Adam's moments with decoupled weight decay: a step of AdamW (arXiv 1711.05101).

    Subclasses name their slots and scale the step. Slots are ordinary optimizer slots
    (`<variable>/<slot name>`), so checkpoints and distribution strategies know them.
    """

    SLOT_NAMES = ("adam_m", "adam_v")

    def __init__(self, learning_rate, weight_decay_rate=0.01, beta_1=0.9, beta_2=0.999,
                 epsilon=1e-6, exclude_from_weight_decay=NO_DECAY, bias_correction=False,
                 step=None, slot_names=None, name="DecoupledDecayOptimizer"):
        """Makes the optimizer.

        Args:
            learning_rate: number or scalar tensor.
            exclude_from_weight_decay: regular expressions; a variable whose name contains one of
                them is not decayed.
            bias_correction: divides the moments by 1 - beta^(step + 1), as in algorithm 2 of the
                paper; `step` is then needed.
            step: scalar integer tensor, the number of steps done before this one.
            slot_names: names of the two slots in checkpoints, if not the class's own.

        Raises:
            ValueError: bias_correction without step.
        """
        super(DecoupledDecayOptimizer, self).__init__(use_locking=False, name=name)
        if bias_correction and step is None:
            raise ValueError("bias_correction needs the step")
        self._rate = learning_rate
        self._decay = weight_decay_rate
        self._beta_1, self._beta_2, self._epsilon = beta_1, beta_2, epsilon
        self._no_decay = tuple(exclude_from_weight_decay or ())
        self._step = step if bias_correction else None
        self._slot_names = slot_names or self.SLOT_NAMES

    def _create_slots(self, var_list):
        for variable in var_list:
            self._zeros_slot(variable, "m", self._slot_names[0])
            self._zeros_slot(variable, "v", self._slot_names[1])

    def _resource_apply_dense(self, grad, handle):
        return self._apply(grad, handle)

    def _apply_dense(self, grad, var):
        return self._apply(grad, var)

    def _resource_apply_sparse(self, grad, handle, indices):
        # Rows without a gradient move too: their moments and their decay go on.
        dense = tf.scatter_nd(tf.expand_dims(indices, 1), grad, tf.shape(handle))
        return self._apply(dense, handle)

    def _apply_sparse(self, grad, var):
        return self._apply(tf.convert_to_tensor(grad), var)

    def _apply(self, grad, variable):
        m, v = self.get_slot(variable, "m"), self.get_slot(variable, "v")
        next_m = self._beta_1 * m + (1.0 - self._beta_1) * grad
        next_v = self._beta_2 * v + (1.0 - self._beta_2) * tf.square(grad)
        update = self._corrected(next_m, self._beta_1) / (
            tf.sqrt(self._corrected(next_v, self._beta_2)) + self._epsilon)
        name = variable.op.name
        if self._decay and not _matches(name, self._no_decay):
            update += self._decay * variable
        step = self._rate * self._ratio(variable, update, name) * update
        return tf.group(variable.assign_sub(step), m.assign(next_m), v.assign(next_v))

    def _corrected(self, moment, beta):
        if self._step is None:
            return moment
        return moment / (1.0 - tf.pow(beta, tf.cast(self._step + 1, tf.float32)))

    def _ratio(self, variable, update, name):
        """Returns the factor of the step: 1 here."""
        del variable, update, name
        return 1.0


class LAMBOptimizer(DecoupledDecayOptimizer):
    """LAMB: each variable's step is scaled to the variable's own norm.

    In the albert_zh layout the ratio applies to every variable and the slots are `lamb_m`,
    `lamb_v`; the Google layout passes `exclude_from_layer_adaptation=NO_DECAY` and
    `slot_names=("adam_m", "adam_v")`.
    """

    SLOT_NAMES = ("lamb_m", "lamb_v")

    def __init__(self, learning_rate, exclude_from_layer_adaptation=(), name="LAMBOptimizer",
                 **settings):
        """As the base class; exclude_from_layer_adaptation: names whose ratio is 1."""
        super(LAMBOptimizer, self).__init__(learning_rate, name=name, **settings)
        self._no_adaptation = tuple(exclude_from_layer_adaptation or ())

    def _ratio(self, variable, update, name):
        if _matches(name, self._no_adaptation):
            return 1.0
        weight_norm, update_norm = tf.norm(variable), tf.norm(update)
        both = tf.logical_and(weight_norm > 0.0, update_norm > 0.0)
        return tf.where(both, weight_norm / tf.where(both, update_norm, 1.0), 1.0)


def _matches(name, patterns):
    return any(re.search(pattern, name) for pattern in patterns)
