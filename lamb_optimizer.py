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

    def apply_gradients(self, grads_and_vars, global_step=None, name=None, when=None):
        """Updates the variables, on every device that a distribution strategy copies them to.

        TensorFlow's own method sums the gradients over replicas first, which is too late here:
        they are clipped by the norm of their sum. So they come summed, equal on all replicas.

        Args:
            grads_and_vars: pairs; those without a gradient are left out.
            global_step: not taken; the caller counts steps.
            when: scalar bool tensor, False to leave all as it is; None: always update.

        Returns:
            The op that updates.

        Raises:
            ValueError: no variable has a gradient, or a global_step is given.
        """
        del name
        pairs = [(tf.convert_to_tensor(grad), variable) for grad, variable in grads_and_vars
                 if grad is not None]
        if not pairs:
            raise ValueError("no variable has a gradient")
        if global_step is not None:
            raise ValueError("the caller counts the steps")
        grads, variables = zip(*pairs)
        return tf.distribute.get_replica_context().merge_call(
            self._apply_everywhere, args=(grads, variables, when))

    def _apply_everywhere(self, strategy, grads, variables, when):
        with tf.init_scope():
            self._create_slots(variables)

        def update():
            return tf.group(*[step for grad, variable in zip(grads, variables)
                              for step in self._steps_of_copies(strategy, grad, variable)])

        if when is None:
            return update()
        return tf.cond(strategy.experimental_local_results(when)[0], update, tf.no_op)

    def _steps_of_copies(self, strategy, grad, variable):
        """Returns the ops that update a variable's copies on this machine."""
        copies = [strategy.experimental_local_results(one) for one in (
            variable, grad, self.get_slot(variable, "m"), self.get_slot(variable, "v"))]
        steps = []
        for copy, its_grad, m, v in zip(*copies):
            with tf.device(copy.device):
                steps.append(self._step_of(copy, its_grad, m, v))
        return steps

    def _create_slots(self, var_list):
        for variable in var_list:
            self._zeros_slot(variable, "m", self._slot_names[0])
            self._zeros_slot(variable, "v", self._slot_names[1])

    def _step_of(self, variable, grad, m, v):
        """Returns the op of one variable's step; `m` and `v` are its slots."""
        with tf.control_dependencies([grad]):  # whoever needs the old weight has read it by then
            if not self._decays(variable):
                return self._apply_adam(variable, grad, m, v, self._rate)
            decayed = variable.assign(variable * (1.0 - self._rate * self._decay),
                                      read_value=False)
        with tf.control_dependencies([decayed]):
            return self._apply_adam(variable, grad, m, v, self._rate)

    def _decays(self, variable):
        return bool(self._decay) and not _matches(variable.op.name, self._no_decay)

    def _apply_adam(self, variable, grad, m, v, rate):
        """Updates the moments and subtracts rate * m / (sqrt(v) + epsilon), in one pass.

        TensorFlow's kernel corrects the bias by
        rate * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + epsilon'), which is algorithm 2's
        when epsilon' = epsilon * sqrt(1 - beta2^t); with 0 for the powers it corrects nothing.
        """
        power_1 = power_2 = tf.constant(0.0)
        epsilon = self._epsilon
        if self._step is not None:
            done = tf.cast(self._step + 1, tf.float32)
            power_1, power_2 = tf.pow(self._beta_1, done), tf.pow(self._beta_2, done)
            epsilon *= tf.sqrt(1.0 - power_2)
        return tf.raw_ops.ResourceApplyAdam(
            var=variable.handle, m=m.handle, v=v.handle, beta1_power=power_1, beta2_power=power_2,
            lr=rate, beta1=self._beta_1, beta2=self._beta_2, epsilon=epsilon, grad=grad)


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

    def _step_of(self, variable, grad, m, v):
        # TensorFlow has no op that updates moments and hands out u. So the variable holds u for a
        # moment: from decay * w, Adam's op at rate -1 makes it u, without a copy of its own.
        adapts = not _matches(variable.op.name, self._no_adaptation)
        if not adapts:
            return super(LAMBOptimizer, self)._step_of(variable, grad, m, v)
        with tf.control_dependencies([grad]):
            weight = variable.read_value()
        with tf.control_dependencies([weight]):
            begun = variable.assign(
                self._decay * weight if self._decays(variable) else tf.zeros_like(weight),
                read_value=False)
        with tf.control_dependencies([begun]):
            moved = self._apply_adam(variable, grad, m, v, -1.0)
        with tf.control_dependencies([moved]):
            update = variable.read_value()
        rate = self._rate * _trust_ratio(weight, update)
        with tf.control_dependencies([update]):
            restored = variable.assign(weight, read_value=False)
        with tf.control_dependencies([restored]):
            return tf.raw_ops.ResourceApplyGradientDescent(
                var=variable.handle, alpha=rate, delta=update)


def _trust_ratio(weight, update):
    """|w| / |u|, 1 where either is 0."""
    # l2_loss is half the sum of squares, without a tensor of the squares.
    squares = tf.nn.l2_loss(weight), tf.nn.l2_loss(update)
    both = tf.logical_and(squares[0] > 0.0, squares[1] > 0.0)
    return tf.where(both, tf.sqrt(squares[0] / tf.where(both, squares[1], 1.0)), 1.0)


def _matches(name, patterns):
    return any(re.search(pattern, name) for pattern in patterns)
