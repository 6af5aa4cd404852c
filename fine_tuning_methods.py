"""What may make a fine-tuned model better than plain fine-tuning does: three methods, a flag each.

    --r_drop          R-Drop: dropped out twice, a text gets the same answer
    --fgm             adversarial training: moving the word embeddings changes no answer
    --teacher_logits  distillation: learn what another model gives for each training row

What is not asked for adds nothing to the graph. All of them may be combined.

Dimension letters: B batch, R training rows, C classes (those of a text or a token, the places where
an answer may be).
"""

import collections
import functools
import hashlib
import io
import json
import zipfile
import zlib

import files
import numpy as np
import optimization
import runtime  # noqa: F401 - before TensorFlow
from absl import flags
from console import say
from errors import UserError

import tensorflow.compat.v1 as tf

STRENGTHS = ("r_drop", "fgm")  # flags that are numbers; 0: off
TEMPERATURE, ALPHA = 2.0, 0.5
DISTILLING = ("teacher_logits", "distill_temperature", "distill_alpha")

WORD_TABLE = "bert/embeddings/word_embeddings"


# ---------------------------------------------------------------------------------------------
# Flags
# ---------------------------------------------------------------------------------------------

def define_flags():
    """Defines the methods' flags."""
    flags.DEFINE_float("r_drop", 0.0, "R-Drop: drop out every batch twice and add so many times "
                       "the divergence of the two answers to the loss. 0: off; 1 to 5 are usual.")
    flags.DEFINE_float("fgm", 0.0, "Adversarial training (FGM): compute every batch again with the "
                       "table of word embeddings moved this far to where its loss rises, and add "
                       "the gradients. 0: off; begin with 0.1: where it is too far, the loss stays "
                       "that of guessing.")
    flags.DEFINE_string("teacher_logits", None, "Distillation: file of what another model gives "
                        "for each training row, as --do_predict --predict_split=train writes it "
                        "(.npz), or of scores or probabilities, a row a line, tabs between (.tsv).")
    flags.DEFINE_float("distill_temperature", TEMPERATURE, "Temperature of both models' answers "
                       "when they are compared.")
    flags.DEFINE_float("distill_alpha", ALPHA, "Share of the teacher in the loss; the rest is the "
                       "labels'.")


def check_values(values):
    """Checks the flags' values; UserError names the flag at fault. values: {flag: value}."""
    for name in STRENGTHS:
        if not is_strength(values[name]):
            raise UserError("--%s=%g: a number is needed, 0 or more" % (name, values[name]))
    if not 0 < values["distill_temperature"] < float("inf"):
        raise UserError("--distill_temperature=%g: a number above 0 is needed"
                        % values["distill_temperature"])
    if not 0 < values["distill_alpha"] <= 1:
        raise UserError("--distill_alpha=%g: a share above 0, at most 1, is needed"
                        % values["distill_alpha"])
    for name, default in (("distill_temperature", TEMPERATURE), ("distill_alpha", ALPHA)):
        if not values["teacher_logits"] and values[name] != default:
            raise UserError("--%s=%g has no meaning without --teacher_logits" % (
                name, values[name]))


def is_strength(value):
    """Tells whether a flag of STRENGTHS may have a value."""
    return 0 <= value < float("inf")


def trained_with(values):
    """Returns {name: value} of what shaped the weights, for run.json. values: {flag: value}."""
    settings = collections.OrderedDict((name, values[name]) for name in STRENGTHS)
    for name in DISTILLING:
        settings[name] = values[name] if values["teacher_logits"] else None
    if values["teacher_logits"]:
        files.require_file(values["teacher_logits"], "teacher_logits")
        settings["teacher_logits"] = files.fingerprint(values["teacher_logits"])[:16]
    return settings


# What runs were trained with whose run.json is from before there were these methods.
PLAIN = collections.OrderedDict([(name, 0.0) for name in STRENGTHS]
                                + [(name, None) for name in DISTILLING])


def read(values, run, config, examples, labels, can_distill):
    """Returns the Methods that the flags ask for, None where they ask for plain fine-tuning.

    Args:
        values: {flag: value}, checked by `check_values`.
        run: estimators.RunSettings.
        config: the encoder's configuration.
        examples: the training rows; labels: the task's.
        can_distill: whether the task's answers are one class for each row.

    Raises:
        UserError: a method does not go together with the run or the task, or the teacher's file
            is not of these training rows.
    """
    wanted = ["--%s=%s" % (name, values[name]) for name in STRENGTHS + ("teacher_logits",)
              if values[name] != PLAIN[name]]
    if not wanted:
        return None
    if run.use_tpu:
        raise UserError("%s: this has not been tried on a TPU; leave it out, or train on GPUs or "
                        "the CPU" % ", ".join(wanted))
    teacher = None
    if values["teacher_logits"]:
        if not can_distill:
            raise UserError("--teacher_logits=%s: only classifiers of texts learn from a teacher; "
                            "here answers belong to tokens, which are another tokenizer's and "
                            "another length's in another model" % values["teacher_logits"])
        teacher = read_teacher(values["teacher_logits"], examples, labels)
    drops = config.hidden_dropout_prob > 0 or config.attention_probs_dropout_prob > 0
    if values["r_drop"] and not drops:
        say("WARNING: --r_drop=%g compares answers that differ by dropout, and the encoder has "
            "none: only the head's is compared. Set hidden_dropout_prob and "
            "attention_probs_dropout_prob to 0.1 in a copy of the configuration" % values["r_drop"])
    say("Training with %s" % ", ".join(wanted))
    return Methods(values["r_drop"], values["fgm"], teacher, values["distill_temperature"],
                   values["distill_alpha"])


# ---------------------------------------------------------------------------------------------
# What training does otherwise
# ---------------------------------------------------------------------------------------------

_Methods = collections.namedtuple("_Methods", [
    "r_drop", "fgm", "teacher", "distill_temperature", "distill_alpha"])
_Methods.__new__.__defaults__ = (0.0, 0.0, None, TEMPERATURE, ALPHA)


class Methods(_Methods):
    """The methods of a run; what classifier.py does is asked of it where there are any.

    teacher: float [R, C] or None. The other fields are the flags.
    """

    def objective(self, objective):
        """Returns the objective to train with, in place of a task's own."""
        if self.r_drop or self.teacher is not None:
            return _Objective(objective, self)
        return objective

    def input_fn(self, input_fn):
        """Returns an input_fn whose batches tell what the teacher gives for their rows."""
        return input_fn if self.teacher is None else _with_teacher(input_fn, self.teacher)

    def differentiate(self, share_of, features, parts, loss_scale):
        """As optimization.differentiate, whose arguments these are; with FGM, of both passes."""
        gradients, scalars = optimization.differentiate(share_of, features, parts, loss_scale)
        if self.fgm:
            gradients = _add_adversarial(gradients, self.fgm, functools.partial(
                optimization.differentiate, share_of, features, parts, loss_scale))
        return gradients, scalars


class _Objective(object):
    """An objective (see classifier.ClassObjective) that also learns from a teacher, or by R-Drop.

    By R-Drop a batch has two copies, one after the other, which are dropped out each in its own
    way. A copy's loss counts half, because the weights that sums are divided by are those of both.
    """

    def __init__(self, objective, methods):
        self._objective, self._methods = objective, methods

    def logits(self, features, is_training):
        return self._objective.logits(self._repeated(features), is_training)

    def weights(self, features):
        return self._objective.weights(self._repeated(features))

    def counts(self, features):
        return self._objective.counts(self._repeated(features))

    def right(self, features, logits):
        return self._objective.right(self._repeated(features), logits)

    def losses(self, features, logits):
        features, methods = self._repeated(features), self._methods
        losses = self._objective.losses(features, logits)
        if methods.teacher is not None:
            losses = (1.0 - methods.distill_alpha) * losses + methods.distill_alpha * (
                distillation_losses(logits, features["teacher_logits"],
                                    methods.distill_temperature))
        if methods.r_drop:
            losses += methods.r_drop * divergence_of_copies(logits)
        return losses

    def _repeated(self, features):
        if not self._methods.r_drop:
            return features
        return {name: tf.concat([tensor, tensor], 0) for name, tensor in features.items()}


def divergence_of_copies(logits):
    """R-Drop (arXiv 2106.14448, equation 2): (KL(p || q) + KL(q || p)) / 2 of a batch's two copies.

    Both divergences together are the sum of (p - q)(log p - log q).

    Args:
        logits: [2 B, ..., C], of a copy after the other.

    Returns:
        [2 B, ...]: what a pair has, both its rows have.
    """
    one, other = tf.split(tf.nn.log_softmax(logits), 2)
    both = 0.5 * tf.reduce_sum((tf.exp(one) - tf.exp(other)) * (one - other), -1)
    return tf.concat([both, both], 0)


def distillation_losses(logits, teacher, temperature):
    """T^2 KL(teacher || model) at the temperature T (arXiv 1503.02531, section 2).

    Args:
        logits, teacher: [B, C].

    Returns:
        [B].
    """
    of_teacher = tf.nn.log_softmax(teacher / temperature)
    of_model = tf.nn.log_softmax(logits / temperature)
    return temperature ** 2 * tf.reduce_sum(tf.exp(of_teacher) * (of_teacher - of_model), -1)


def _with_teacher(input_fn, teacher):
    @runtime.as_written
    def with_teacher(params, input_context=None):
        def add(features):
            # Looked up while the graph runs: a constant would be in every checkpoint's graph.
            rows = tf.numpy_function(lambda rows: teacher[rows], [features["row"]], tf.float32)
            rows.set_shape(features["row"].shape.as_list() + [teacher.shape[1]])
            return dict(features, teacher_logits=rows)

        return input_fn(params, input_context).map(add)

    return with_teacher


# ---------------------------------------------------------------------------------------------
# Adversarial training
# ---------------------------------------------------------------------------------------------

def _add_adversarial(gradients, distance, differentiate):
    """Adds the gradients at the word embeddings that are worse by FGM (arXiv 1605.07725, eq. 5).

    The table moves by distance * g / |g|, g its gradient over the whole batch: all its parts and
    replicas, so that neither changes what is learned. Rows that are not in the batch have no
    gradient and stay.

    Args:
        gradients: of the batch; differentiate: function that computes them again.
    """
    variables = tf.trainable_variables()
    place, = [number for number, variable in enumerate(variables)
              if variable.name == WORD_TABLE + ":0"]
    slope, = optimization.sum_over_replicas([gradients[place]])
    # Not before the first pass is done, else the activations of both are held.
    with tf.control_dependencies([one for one in gradients if one is not None]):
        moved = _as_constant(adversarial(slope, distance))

    def moved_table(getter, name, *args, **kwargs):
        found = getter(name, *args, **kwargs)
        return tf.convert_to_tensor(found) + moved if name == WORD_TABLE else found

    with tf.variable_scope(tf.get_variable_scope(), reuse=True, auxiliary_name_scope=False,
                           custom_getter=moved_table):
        more, _ = differentiate()
    return [one if other is None else one + other for one, other in zip(gradients, more)]


def _as_constant(tensor):
    """Returns a tensor that gradients do not flow through, nor look for a way through.

    tf.stop_gradient is not enough: TensorFlow would still refuse to differentiate within a loop
    over a batch's parts what depends on another such loop. Whole numbers have no gradients.
    """
    return tf.bitcast(tf.bitcast(tensor, tf.int32), tensor.dtype)


def adversarial(slope, distance):
    """Returns distance * slope / |slope|; 0 where the slope is."""
    largest = tf.reduce_max(tf.abs(slope))  # its square may be 0 where it is not
    direction = tf.math.divide_no_nan(slope, largest)
    return distance * tf.math.divide_no_nan(direction, tf.norm(direction))


# ---------------------------------------------------------------------------------------------
# The teacher's file
# ---------------------------------------------------------------------------------------------

LOGITS = "%s_logits.npz"  # of a split, in an output folder


def fingerprint_of(examples):
    """Returns a hash of examples, their labels and their order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps(example).encode("utf-8"))
    return digest.hexdigest()[:16]


def write_teacher(path, probabilities, labels, examples):
    """Writes what a model gives for each example, as --teacher_logits reads it.

    Args:
        probabilities: [R, C], one column for each of `labels`.
    """
    content = io.BytesIO()
    np.savez(content, log_probabilities=_logs(probabilities).astype(np.float32),
             labels=np.array(list(labels)), examples=np.array(fingerprint_of(examples)))
    with files.atomic_write(path) as stream:
        stream.write(content.getvalue())


def read_teacher(path, examples, labels):
    """Reads a file of --teacher_logits.

    Args:
        examples: the training rows, whose order is that of the file's rows; labels: the task's.

    Returns:
        float32 [R, C].

    Raises:
        UserError: it cannot be read, is of other rows, other labels, or holds what is no number.
    """
    if path.endswith((".npz", ".npy")):
        rows, told = _read_arrays(path)
    else:
        rows, told = _read_text(path), {}
    flag = "--teacher_logits=%s" % path
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise UserError("%s: a table of numbers is needed, a row for each training row" % flag)
    if "labels" in told and told["labels"] != list(map(str, labels)):
        raise UserError("%s is of a model with other labels: %s there, %s here" % (
            flag, ", ".join(told["labels"][:10]), ", ".join(labels[:10])))
    if rows.shape[1] != len(labels):
        raise UserError("%s has %d columns, the task %d classes: one for each is needed, in the "
                        "order of labels.txt" % (flag, rows.shape[1], len(labels)))
    if len(rows) != len(examples):
        raise UserError("%s has %d rows, the training data %d examples: let the teacher predict "
                        "these data (--do_predict --predict_split=train)"
                        % (flag, len(rows), len(examples)))
    if told.get("examples", fingerprint_of(examples)) != fingerprint_of(examples):
        raise UserError("%s was made from other training data, or from these in another order: "
                        "let the teacher predict them (--do_predict --predict_split=train)" % flag)
    if not np.isfinite(rows).all():
        raise UserError("%s: row %d holds NaN or an infinite number" % (
            flag, 1 + int(np.argmin(np.isfinite(rows).all(axis=1)))))
    return _as_scores(rows, flag).astype(np.float32)


def _as_scores(rows, flag):
    """Returns a teacher's rows as scores, the logarithms of what are probabilities.

    Files often hold rounded probabilities, whose rows miss 1 by a little.

    Raises:
        UserError: it cannot be told which of the two the rows are.
    """
    rows = rows.astype(np.float64)
    if not ((rows >= 0).all() and (rows <= 1).all()):
        return rows
    sums = rows.sum(axis=1)
    worst = int(np.argmax(np.abs(sums - 1)))
    if abs(sums[worst] - 1) >= 0.1:
        raise UserError("%s: all numbers lie between 0 and 1, as probabilities do, but row %d adds "
                        "up to %.3g: give the teacher's scores before its softmax, or its "
                        "probabilities with more digits" % (flag, worst + 1, sums[worst]))
    return _logs(rows / sums[:, np.newaxis])


def _logs(probabilities):
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))


def _read_arrays(path):
    """Returns (array, {name: what else the file tells}) of a NumPy file."""
    with files.open_binary(path) as stream:
        content = io.BytesIO(stream.read())
    try:
        found = np.load(content, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found, {}
        names = [name for name in ("log_probabilities", "logits") if name in found.files]
        if not names:
            raise UserError('--teacher_logits=%s holds no array "logits": it has %s'
                            % (path, ", ".join(found.files)))
        told = {"examples": found["examples"].tolist()} if "examples" in found.files else {}
        if "labels" in found.files:
            told["labels"] = [str(label) for label in np.ravel(found["labels"])]
        return found[names[0]], told
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, KeyError, zlib.error,
            NotImplementedError, RuntimeError) as error:  # zipfile has many words for damage
        if isinstance(error, UserError):
            raise
        raise UserError("--teacher_logits=%s cannot be read as a NumPy file (%s)"
                        % (path, error)) from error


def _read_text(path):
    """Returns a file's table of numbers, a row a line, tabs or spaces between."""
    rows = []
    for number, line in files.read_lines(path):
        try:
            rows.append([float(value) for value in line.split()])
        except ValueError as error:
            raise UserError("--teacher_logits=%s line %d: %s" % (path, number, error)) from error
        if len(rows[-1]) != len(rows[0]):
            raise UserError("--teacher_logits=%s line %d holds %d numbers, the first line %d"
                            % (path, number, len(rows[-1]), len(rows[0])))
    return np.array(rows, np.float64).reshape([len(rows), len(rows[0]) if rows else 0])
