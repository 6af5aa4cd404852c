"""Training that goes wrong: numbers that are none any more, a loss that stays, odd settings.

What is certainly wrong stops the run with what is known of it; what is probably wrong is said once,
with the remedy that is known for it.
"""

import collections
import math

import numpy as np
import optimization
import runtime  # noqa: F401 - before TensorFlow
from console import say
from errors import UserError

import tensorflow.compat.v1 as tf

# Rates that the published trainings used, and at which batch size: AdamW of BERT (1810.04805), LAMB
# of 1904.00962, table 4. The rate goes with the square root of the batch size.
PUBLISHED_RATES = {"adamw": (1e-4, 256), "lamb": (5e-3, 32768)}
FAR = 30.0

# A model of this width or more, fine-tuned without dropout, learns small data by heart.
LARGE_WIDTH = 1024

# With loss scaling, so many steps in a row may overflow: from its start to 1 takes 15 halvings.
MOST_OVERFLOWS = 40

SHOWN_GRADIENTS = 5

LOSSES_COMPARED = 100
STEPS_TO_MOVE = 500


# ---------------------------------------------------------------------------------------------
# Settings
# ---------------------------------------------------------------------------------------------

def warn_of_rate(optimizer, learning_rate, batch_size):
    """Says so when a learning rate is far from what the optimizer takes at a batch size.

    Args:
        optimizer: "adamw" or "lamb"; batch_size: examples of an update.
    """
    published, at = PUBLISHED_RATES[optimizer]
    usual = published * math.sqrt(batch_size / float(at))
    if usual / FAR <= learning_rate <= usual * FAR:
        return
    say("WARNING: --learning_rate=%g is far %s what %s takes with %d examples a step, about %.2g: "
        "%s" % (learning_rate, "above" if learning_rate > usual else "below",
                {"adamw": "AdamW", "lamb": "LAMB"}[optimizer], batch_size, usual,
                "the weights may be thrown off and never come back; lower it"
                if learning_rate > usual else "little will be learned; raise it"))


def warn_of_no_dropout(config):
    """Says so when a large model is to be fine-tuned without dropout."""
    if config.hidden_size >= LARGE_WIDTH and not (
            config.hidden_dropout_prob or config.attention_probs_dropout_prob):
        say("WARNING: a model of this size is fine-tuned without dropout, and learns small data by "
            "heart: set hidden_dropout_prob and attention_probs_dropout_prob to 0.1 in a copy of "
            "its configuration, or train few epochs")


def warn_of_one_class(matrix, labels, name):
    """Says so when every example was taken for the same class, although there are several.

    Args:
        matrix: confusion matrix [C, C], a row for each true class; name: of what was evaluated.
    """
    predicted, there = matrix.sum(axis=0) > 0, matrix.sum(axis=1) > 0
    if predicted.sum() == 1 and there.sum() > 1:
        say('WARNING: %s takes every example for "%s": it has learned no more than which class is '
            "frequent. Train longer or with another --learning_rate, see that --init_checkpoint is "
            "a pre-trained model, or use --class_weights=balanced"
            % (name, labels[int(predicted.argmax())]))


def chance_loss(counts):
    """Returns the loss of guessing by frequency alone, the entropy in nats of class counts."""
    shares = np.array([count for count in counts if count], np.float64)
    shares /= shares.sum()
    return float(-(shares * np.log(shares)).sum())


# ---------------------------------------------------------------------------------------------
# While training
# ---------------------------------------------------------------------------------------------

class NumbersHook(tf.train.SessionRunHook):
    """Stops a training whose loss or gradients are no longer numbers; says when nothing is learned.

    Nothing was updated in such a step (optimization.create_optimizer), so the weights are those of
    the step before. What it looks at is computed in every step anyway.
    """

    def __init__(self, output_dir, chance=None, skips_overflows=False):
        """Makes the hook.

        Args:
            output_dir: the run's folder, for the message.
            chance: the loss of a model that knows nothing, or None.
            skips_overflows: float16's loss scaling is on, so single steps may overflow.
        """
        self._folder, self._chance = output_dir, chance
        self._most_overflows = MOST_OVERFLOWS if skips_overflows else 0
        self._overflows, self._steps = 0, 0
        self._first, self._last = [], collections.deque(maxlen=LOSSES_COMPARED)

    def begin(self):
        graph = tf.get_default_graph()
        self._names = graph.get_collection(optimization.GRADIENT_NAMES)
        self._fetches = {name: graph.get_tensor_by_name(tensor) for name, tensor in (
            ("loss", "total_loss:0"), ("rate", "learning_rate:0"), ("norm", "gradient_norm:0"),
            ("squares", "gradient_squares:0"))}
        self._fetches["step"] = tf.train.get_global_step(graph)

    def before_run(self, run_context):
        del run_context
        return tf.train.SessionRunArgs(self._fetches)

    def after_run(self, run_context, run_values):
        del run_context
        found = run_values.results
        if np.isfinite(found["loss"]) and np.isfinite(found["norm"]):
            self._overflows = 0
            self._watch(float(found["loss"]))
            return
        self._overflows += 1
        if self._overflows > self._most_overflows:
            raise UserError(self._account(found))

    def _account(self, found):
        """Returns the message about a step whose numbers are none."""
        norms = np.sqrt(2.0 * found["squares"].astype(np.float64))
        # NaN first, then Infinity, then by size.
        order = sorted(range(len(norms)), key=lambda at: (
            not np.isnan(norms[at]), -norms[at] if not np.isnan(norms[at]) else 0.0))
        return (
            "after %d steps, with the learning rate %.3g, the loss is %.4g and the gradients' norm "
            "%.4g: they are no longer numbers. Largest gradients:%s\nNothing was updated with "
            "them, and the checkpoints in %s are from before. Go on from one of them, as "
            "--init_checkpoint in a new --output_dir, with a lower --learning_rate or a longer "
            "warm-up" % (
                found["step"], found["rate"], found["loss"], found["norm"], "".join(
                    "\n  %s: %.4g" % (self._names[at], norms[at])
                    for at in order[:SHOWN_GRADIENTS]), self._folder))

    def _watch(self, loss):
        """Compares the last losses with the first; says once where both are those of chance."""
        self._steps += 1
        if self._chance is None or self._steps > STEPS_TO_MOVE:
            return
        if len(self._first) < LOSSES_COMPARED:
            self._first.append(loss)
        self._last.append(loss)
        if self._steps == STEPS_TO_MOVE:
            before, now = np.mean(self._first), np.mean(self._last)
            if now > 0.99 * before and now > 0.95 * self._chance:
                say("WARNING: the loss does not move: %.4g in the first %d steps, %.4g in the last "
                    "of %d; chance is %.4g. Raise --learning_rate (or lower it, if the loss rose), "
                    "see that --init_checkpoint is a pre-trained model, and that labels belong to "
                    "their texts" % (before, LOSSES_COMPARED, now, STEPS_TO_MOVE, self._chance))
