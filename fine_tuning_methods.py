"""What may make a fine-tuned model better than plain fine-tuning does: six methods, a flag each.

    --r_drop                R-Drop: dropped out twice, a text gets the same answer
    --fgm                   adversarial training: moving the word embeddings changes no answer
    --layer_decay           the deeper in the encoder, the lower the learning rate
    --multi_sample_dropout  the head learns from several dropouts of what the encoder gives
    --ema_decay             the model that is kept is the mean of those after each step
    --teacher_logits        distillation: learn what another model gives for each training row

What is not asked for adds nothing to the graph. All of them may be combined.

Dimension letters: B batch, K copies of a batch, R training rows, C classes (those of a text or a
token, the places where an answer may be).
"""

import collections
import functools
import hashlib
import io
import json
import re
import zipfile
import zlib

import checkpoints
import files
import heads
import numpy as np
import optimization
import runtime
from absl import flags
from console import say
from errors import UserError

import tensorflow.compat.v1 as tf

MOST_SAMPLES = 64

Number = collections.namedtuple("Number", ["off", "is_fine", "range"])
Number.__doc__ = """A flag that is a number.

off: plain fine-tuning; is_fine: function that tells whether a value is in the range."""

NUMBERS = collections.OrderedDict([
    ("r_drop", Number(0.0, lambda value: 0 <= value < float("inf"), "0 or more")),
    ("fgm", Number(0.0, lambda value: 0 <= value < float("inf"), "0 or more")),
    ("layer_decay", Number(1.0, lambda value: 0 < value <= 1, "above 0, at most 1")),
    ("multi_sample_dropout", Number(1, lambda value: 1 <= value <= MOST_SAMPLES,
                                    "1 to %d" % MOST_SAMPLES)),
    ("ema_decay", Number(0.0, lambda value: 0 <= value < 1, "0 to below 1")),
])
TEMPERATURE, ALPHA = 2.0, 0.5
DISTILLING = ("teacher_logits", "distill_temperature", "distill_alpha")

_AVERAGE = "average"  # the optimizer's slot that holds a variable's mean
WORD_TABLE = "bert/embeddings/word_embeddings"


# ---------------------------------------------------------------------------------------------
# Flags
# ---------------------------------------------------------------------------------------------

def define_flags():
    """Defines the methods' flags."""
    flags.DEFINE_float("r_drop", NUMBERS["r_drop"].off, "R-Drop: drop out every batch twice and "
                       "add so many times the divergence of the two answers to the loss. 0: off; "
                       "1 to 5 are usual.")
    flags.DEFINE_float("fgm", NUMBERS["fgm"].off, "Adversarial training (FGM): compute every batch "
                       "again with the table of word embeddings moved this far to where its loss "
                       "rises, and add the gradients. 0: off; begin with 0.1: where it is too far, "
                       "the loss stays that of guessing.")
    flags.DEFINE_float("layer_decay", NUMBERS["layer_decay"].off, "Learning rate of the encoder's "
                       "shared layers as a share of the head's; of the embeddings, this share of "
                       "that. 1: off; 0.5 to 0.9 are usual.")
    flags.DEFINE_integer("multi_sample_dropout", NUMBERS["multi_sample_dropout"].off, "Dropouts of "
                         "the encoder's output that the head learns from in a step. 1: off; 4 to 8 "
                         "are usual.")
    flags.DEFINE_float("ema_decay", NUMBERS["ema_decay"].off, "Evaluate, predict and export the "
                       "mean of the weights after each step, in which a step counts so many times "
                       "what the next one does. 0: off; 0.99 to 0.9999 are usual.")
    flags.DEFINE_string("teacher_logits", None, "Distillation: file of what another model gives "
                        "for each training row, as --do_predict --predict_split=train writes it "
                        "(.npz), or of scores or probabilities, a row a line, tabs between (.tsv).")
    flags.DEFINE_float("distill_temperature", TEMPERATURE, "Temperature of both models' answers "
                       "when they are compared.")
    flags.DEFINE_float("distill_alpha", ALPHA, "Share of the teacher in the loss; the rest is the "
                       "labels'.")


def check_values(values):
    """Checks the flags' values; UserError names the flag at fault. values: {flag: value}."""
    for name, number in NUMBERS.items():
        if not number.is_fine(values[name]):
            raise UserError("--%s=%g: a number is needed, %s" % (name, values[name], number.range))
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


def trained_with(values):
    """Returns {name: value} of what shaped the weights, for run.json. values: {flag: value}."""
    settings = collections.OrderedDict((name, values[name]) for name in NUMBERS)
    for name in DISTILLING:
        settings[name] = values[name] if values["teacher_logits"] else None
    if values["teacher_logits"]:
        files.require_file(values["teacher_logits"], "teacher_logits")
        settings["teacher_logits"] = files.fingerprint(values["teacher_logits"])[:16]
    return settings


# What runs were trained with whose run.json is from before there were these methods.
PLAIN = collections.OrderedDict([(name, number.off) for name, number in NUMBERS.items()]
                                + [(name, None) for name in DISTILLING])


def slot_names(values):
    """Returns the last parts of the names of what a checkpoint must hold to go on from."""
    return optimization.AdamWeightDecayOptimizer.SLOT_NAMES + (
        (checkpoints.UNAVERAGED,) if values["ema_decay"] else ())


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
    wanted = ["--%s=%s" % (name, values[name]) for name in list(NUMBERS) + ["teacher_logits"]
              if values[name] != PLAIN[name]]
    if not wanted:
        return None
    if run.use_tpu:
        raise UserError("%s: this has not been tried on a TPU; leave it out, or train on GPUs or "
                        "the CPU" % ", ".join(wanted))
    if values["ema_decay"] and run.distribution == "multi_worker":
        raise UserError("--ema_decay=%g: this has not been tried with several workers, who save "
                        "their checkpoints together; leave it out, or use --distribution=mirrored"
                        % values["ema_decay"])
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
    numbers = {name: values[name] for name in NUMBERS}
    return Methods(teacher=teacher, distill_temperature=values["distill_temperature"],
                   distill_alpha=values["distill_alpha"], encoder_drops=drops,
                   keep_checkpoint_max=run.keep_checkpoint_max, **numbers)


# ---------------------------------------------------------------------------------------------
# What training does otherwise
# ---------------------------------------------------------------------------------------------

_Methods = collections.namedtuple("_Methods", list(NUMBERS) + [
    "teacher", "distill_temperature", "distill_alpha", "encoder_drops", "keep_checkpoint_max"])
_Methods.__new__.__defaults__ = tuple(number.off for number in NUMBERS.values()) + (
    None, TEMPERATURE, ALPHA, True, 5)


class Methods(_Methods):
    """The methods of a run; what classifier.py does is asked of it where there are any.

    teacher: float [R, C] or None; encoder_drops: whether the encoder has dropout;
    keep_checkpoint_max: as in estimators.RunSettings. The other fields are the flags.
    """

    def objective(self, objective):
        """Returns the objective to train with, in place of a task's own."""
        if self.r_drop or self.multi_sample_dropout > 1 or self.teacher is not None:
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

    def optimizer(self):
        """Returns what optimization.create_optimizer takes as the optimizer."""
        if self.ema_decay or self.layer_decay < 1:
            return functools.partial(_AdamW, layer_decay=self.layer_decay,
                                     ema_decay=self.ema_decay)
        return "adamw"

    def add_saver(self):
        """Makes checkpoints hold averaged weights; called when all variables are there."""
        if self.ema_decay and not tf.get_collection(tf.GraphKeys.SAVERS):
            tf.add_to_collection(tf.GraphKeys.SAVERS, tf.train.Saver(
                _names_in_checkpoints(), sharded=True, save_relative_paths=True,
                max_to_keep=self.keep_checkpoint_max or None))


class _Objective(object):
    """An objective (see classifier.ClassObjective) of several copies of a batch, dropped out anew.

    The copies stand one after the other, as in the batch K times. R-Drop compares each with the
    next one. A copy's loss counts a K-th, because the weights that sums are divided by are those
    of all copies.
    """

    def __init__(self, objective, methods):
        self._objective, self._methods = objective, methods
        self._copies = methods.multi_sample_dropout * (2 if methods.r_drop else 1)

    def logits(self, features, is_training):
        # Without dropout in the encoder, it gives all copies the same.
        samples = (self._methods.multi_sample_dropout if self._methods.encoder_drops
                   else self._copies)
        with heads.dropout_samples(samples):
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
            losses += methods.r_drop * divergence_of_pairs(logits, self._copies)
        return losses

    def _repeated(self, features):
        if self._copies == 1:
            return features
        return {name: tf.concat([tensor] * self._copies, 0) for name, tensor in features.items()}


def divergence_of_pairs(logits, copies):
    """R-Drop (arXiv 2106.14448, equation 2): (KL(p || q) + KL(q || p)) / 2 of a copy and the next.

    Both divergences together are the sum of (p - q)(log p - log q).

    Args:
        logits: [K B, ..., C], of K copies of a batch, one after the other; K is even.

    Returns:
        [K B, ...]: what a pair has, both its rows have.
    """
    shape = tf.shape(logits)
    logs = tf.nn.log_softmax(tf.reshape(logits, tf.concat(
        [[copies // 2, 2, shape[0] // copies], shape[1:]], 0)))
    one, other = logs[:, 0], logs[:, 1]
    both = 0.5 * tf.reduce_sum((tf.exp(one) - tf.exp(other)) * (one - other), -1)
    return tf.reshape(tf.stack([both, both], 1), shape[:-1])


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
# The optimizer: learning rates by depth, averaged weights
# ---------------------------------------------------------------------------------------------

def depths_of(names):
    """Returns {name: depth} of a model's variables: how many sets of weights stand above them.

    ALBERT's layers share their weights, so a depth is not a layer but a set of weights: 0 for
    pooler and heads, 1 for the shared layers, 2 for the embeddings with their projection. With
    several groups of layers, the last one has 1, the one before it 2, and so on. The blocks within
    a group take turns in each layer and are of one depth.

    depths_of(["output_bias", "bert/encoder/layer_shared/output/dense/bias", WORD_TABLE])
        == {"output_bias": 0, "bert/encoder/layer_shared/output/dense/bias": 1, WORD_TABLE: 2}
    """
    groups = {name: int(re.search(r"/group_(\d+)/", name).group(1)) if "/group_" in name else 0
              for name in names}
    last = max(groups.values())

    def depth(name):
        if name.startswith("bert/embeddings/") or "/embedding_hidden_mapping_in/" in name:
            return last + 2
        return last + 1 - groups[name] if name.startswith("bert/encoder/") else 0

    return {name: depth(name) for name in names}


class _AdamW(optimization.AdamWeightDecayOptimizer):
    """AdamW whose rate falls with the depth, and that keeps the mean of the weights.

    After step t, from t = 1, the mean of the weights w is

        a_t = sum over i of d^(t - i) w_i / sum over i of d^(t - i)      i = 1 .. t

    so that the first steps are averages of what there is, without the weights before training
    (but for float16, where a step that overflowed is one of the t and has added no w).
    """

    def __init__(self, learning_rate, layer_decay=1.0, ema_decay=0.0, step=None, **settings):
        """As the base class; step: the number of steps done before this one, scalar integer."""
        super(_AdamW, self).__init__(learning_rate, step=step, **settings)
        self._layer_decay, self._ema_decay = layer_decay, ema_decay
        if layer_decay < 1:
            self._depths = depths_of([_name(variable) for variable in tf.trainable_variables()])
        if ema_decay:
            self._share = newest_share(step, ema_decay)

    def _rate_of(self, variable):
        if self._layer_decay == 1:
            return self._rate
        name = re.sub(r"/replica_\d+$", "", variable.op.name)  # a strategy's copies are called so
        return self._rate * self._layer_decay ** self._depths[name]

    def _create_slots(self, var_list):
        super(_AdamW, self)._create_slots(var_list)
        for variable in var_list if self._ema_decay else ():
            # Not initial_value: a strategy's copies do not know that of a checkpoint there.
            with tf.control_dependencies([variable.initializer]):
                start = variable.read_value()
            self._get_or_make_slot(variable, start, _AVERAGE, _AVERAGE)

    def _steps_of_copies(self, strategy, grad, variable):
        steps = super(_AdamW, self)._steps_of_copies(strategy, grad, variable)
        if not self._ema_decay:
            return steps
        copies, averages = [strategy.experimental_local_results(one) for one in (
            variable, self.get_slot(variable, _AVERAGE))]
        averaging = []
        for step, copy, average in zip(steps, copies, averages):
            with tf.device(copy.device), tf.control_dependencies([step]):
                averaging.append(average.assign_sub(
                    self._share * (average.read_value() - copy.read_value()), read_value=False))
        return averaging


def newest_share(step, decay):
    """Returns what the newest weights count in their mean: (1 - d) / (1 - d^t), t = step + 1.

    Args:
        step: scalar integer tensor, counted from 0.
    """
    done = tf.cast(step + 1, tf.float32)
    # 1 - d^t as it is, since d^t is close to 1 at the start.
    return (1.0 - decay) / -tf.math.expm1(done * float(np.log(decay)))


def _names_in_checkpoints():
    """Returns a Saver's {name: variable}: a mean takes the name of what it is the mean of."""
    variables = {_name(variable): variable for variable in tf.global_variables()}
    named = {}
    for name, variable in variables.items():
        if name + "/" + _AVERAGE in variables:
            named[name + "/" + checkpoints.UNAVERAGED] = variable
        elif name.endswith("/" + _AVERAGE):
            named[name[:-len("/" + _AVERAGE)]] = variable
        else:
            named[name] = variable
    return {name: _saved_as(variable, name) for name, variable in named.items()}


def _saved_as(variable, name):
    """Returns what a Saver takes for a variable under a name of its own."""
    if not runtime.IS_TF1 or isinstance(variable, tf.Variable):
        return variable
    # TensorFlow 1.15 saves the copies of a strategy under their own names only, but by objects
    # that it makes under any.
    make_saveable, = variable._gather_saveables_for_checkpoint().values()
    return make_saveable(name=name)


def _name(variable):
    """Returns a variable's name; of the first copy, where a strategy has several."""
    return variable.name.split(":")[0]


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
