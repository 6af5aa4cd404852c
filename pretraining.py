"""Pre-training, for both layouts: flags, model_fn, input_fn, the course of a run, its results.

ALBERT, arXiv 1909.11942: masked language modelling as in BERT, sentence-order prediction in the
place of next-sentence prediction (section 3.1).
"""

import collections
import functools
import hashlib
import itertools
import os

import checkpoints
import curves
import distribution
import estimators
import exporting
import files
import interruption
import masking
import modeling
import optimization
import random_draws
import records
import run_lock
import run_record
import runtime
import selection
import training_checks
import numpy as np
from absl import flags
from console import say, table
from errors import UserError
from optimization import AdamWeightDecayOptimizer

import tensorflow.compat.v1 as tf

SHUFFLE_BUFFER = 10000
READ_FILES_AT_ONCE = 8
EVALUATION_SEED = 0  # the same masks for every checkpoint, or the best would be one of luck
BEST_NAME = "model.ckpt-best"
HASHED_BYTES = 1 << 26

# Records are put together by length within windows: of so many batches, and of so many records
# where batches are large, but at least LEAST_WINDOW batches; and at least so many windows an epoch.
# How many records there are is judged by the first of them, of some of the files.
MOST_BATCHES_OF_A_WINDOW = 50
RECORDS_OF_A_WINDOW = 8192
LEAST_WINDOW = 8
WINDOWS_OF_AN_EPOCH = 8
JUDGED_RECORDS = 2000
JUDGED_FILES = 20

Schedule = collections.namedtuple("Schedule", [
    "optimizer", "learning_rate", "num_train_steps", "num_warmup_steps", "poly_power",
    "start_warmup_step", "exclude_from_layer_adaptation", "slot_names", "parts", "loss_scaling"])
Schedule.__new__.__defaults__ = (1, False)
Schedule.__doc__ = """How the weights are updated; see optimization.create_optimizer.

parts: number of parts that a batch is computed in; loss_scaling: whether the loss is scaled, as
float16 needs it."""

CURVES = (
    estimators.Scalar("loss", "total_loss:0", "loss"),
    estimators.Scalar("masked_lm_loss", "masked_lm_loss:0", "mlm"),
    estimators.Scalar("masked_lm_accuracy", "masked_lm_accuracy:0", None),
    estimators.Scalar("sentence_order_loss", "sentence_order_loss:0", "sop"),
    estimators.Scalar("sentence_order_accuracy", "sentence_order_accuracy:0", None),
    estimators.Scalar("learning_rate", "learning_rate:0", "rate"),
    estimators.Scalar("gradient_norm", "gradient_norm:0", "grad norm"))

# The metrics' names, and the ones that scripts written for the older releases look for.
KNOWN_NAMES = {"sentence_order_accuracy": "next_sentence_accuracy",
               "sentence_order_loss": "next_sentence_loss"}



def define_flags(learning_rate, max_seq_length, do_train, train_batch_size, eval_batch_size,
                 num_train_steps, num_warmup_steps, save_checkpoints_steps):
    """Defines the flags that both pre-training scripts share; the arguments are the defaults."""
    flags.DEFINE_string("input_file", None, "Training records: names and globs, comma-separated.")
    flags.DEFINE_string("eval_input_file", None, "Evaluation records, apart from training's.")
    flags.DEFINE_string("init_checkpoint", None, "Checkpoint or folder to start from.")
    flags.DEFINE_bool("allow_partial_init", False, "Load what fits of --init_checkpoint, "
                      "initialise the rest anew.")
    flags.DEFINE_string("export_dir", None, "Folder for the trained model as it is passed on: "
                        "checkpoint without optimizer slots, configuration, vocabulary.")
    flags.DEFINE_string("vocab_file", None, "Vocabulary that --export_dir gets; the one in "
                        "albert_config/ when not given.")
    flags.DEFINE_integer("max_seq_length", max_seq_length, "Sequence length of the records.")
    flags.DEFINE_integer("max_predictions_per_seq", 20, "Masked words per record.")
    flags.DEFINE_bool("do_train", do_train, "Train.")
    flags.DEFINE_bool("do_eval", False, "Evaluate what was trained.")
    flags.DEFINE_integer("train_batch_size", train_batch_size, "Records per training step; see "
                         "--gradient_accumulation_steps and --distribution.")
    flags.DEFINE_integer("eval_batch_size", eval_batch_size, "Records per evaluation step.")
    flags.DEFINE_string("optimizer", "lamb", "lamb or adamw.")
    flags.DEFINE_float("learning_rate", learning_rate, "Peak learning rate.")
    flags.DEFINE_float("poly_power", 1.0, "Power of the decay; 1 is linear.")
    flags.DEFINE_integer("num_train_steps", num_train_steps, "Training steps in all.")
    flags.DEFINE_integer("num_warmup_steps", num_warmup_steps, "Steps of linear warm-up from 0.")
    flags.DEFINE_integer("start_warmup_step", 0, "Step at which the warm-up starts.")
    flags.DEFINE_integer("max_eval_steps", 100, "Evaluation steps at most; 0: all records.")
    estimators.define_flags(save_checkpoints_steps)


# ---------------------------------------------------------------------------------------------
# Losses and metrics
# ---------------------------------------------------------------------------------------------

def masked_lm_loss(logits, ids, weights):
    """Weighted mean of the negative log-likelihood of the masked words.

    sum(weight * nll) / (sum(weight) + 1e-5), where nll = -log softmax(logits)[id].

    Args:
        logits: [rows, V]; ids: int [rows]; weights: [rows], 0 for padding.

    Returns:
        (scalar loss, nll [rows]).
    """
    nll = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=ids, logits=logits)
    return tf.reduce_sum(weights * nll) / (tf.reduce_sum(weights) + 1e-5), nll


def batch_accuracy(logits, ids, weights, total_weight):
    """Returns the weighted share of right guesses in a batch, for the curves.

    total_weight: as for `masked_lm_loss`.
    """
    right = tf.cast(tf.equal(ids, tf.argmax(logits, -1, output_type=tf.int32)), tf.float32)
    return tf.div_no_nan(tf.reduce_sum(weights * right), total_weight)


Totals = collections.namedtuple("Totals", ["lm_weight", "records"])
Totals.__doc__ = "What a batch's losses are divided by: scalars, over all parts and replicas."


def totals_of(features):
    """Returns the Totals of the batch that this replica's one is a share of."""
    records_here = tf.cast(tf.shape(features["input_ids"])[0], tf.float32)
    return Totals(*optimization.sum_over_replicas(
        [tf.reduce_sum(features["masked_lm_weights"]), records_here]))


def metric_fn(lm_logits, lm_ids, lm_weights, order_logits, order_labels):
    """Evaluation metrics of both tasks from what the model_fn hands over."""
    _, nll = masked_lm_loss(lm_logits, lm_ids, lm_weights)
    order_nll = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=order_labels, logits=order_logits)
    return {
        "masked_lm_accuracy": tf.metrics.accuracy(
            lm_ids, tf.argmax(lm_logits, -1, output_type=tf.int32), weights=lm_weights),
        "masked_lm_loss": tf.metrics.mean(nll, weights=lm_weights),
        "sentence_order_accuracy": tf.metrics.accuracy(
            order_labels, tf.argmax(order_logits, -1, output_type=tf.int32)),
        "sentence_order_loss": tf.metrics.mean(order_nll),
    }


# ---------------------------------------------------------------------------------------------
# The model function
# ---------------------------------------------------------------------------------------------

Outputs = collections.namedtuple("Outputs", [
    "lm_vectors", "lm_table", "lm_bias", "lm_ids", "lm_weights", "order_logits", "order_labels"])
Outputs.__doc__ = """What the model makes of a batch, and what is right; one row a masked position.

lm_vectors [rows, E], lm_table [V, E], lm_bias [V]: of which modeling.word_logits makes the words'
scores; lm_ids, lm_weights [rows]; order_logits [B, 2], order_labels [B]."""

# So many parts of a batch are computed one after the other where they would take the most memory:
# the scores of words at the masks, and the attention of long texts.
PARTS_OF_WORDS = 4
PARTS_OF_ATTENTION = 16  # measured on a CPU only, by benchmarks/pretrain.py


def outputs_of(config, model_class, features, training, use_tpu=False, recompute=False):
    """Builds encoder and heads; returns their Outputs for the features."""
    # The last layer is needed at the first token, for the order, and at the masked ones.
    wanted = tf.concat([modeling.first_position(features["input_ids"]),
                        features["masked_lm_positions"]], axis=1)
    model = model_class(config, training, features["input_ids"], features["input_mask"],
                        features["segment_ids"], use_one_hot_embeddings=use_tpu,
                        output_positions=wanted, recompute=recompute,
                        attention_parts=1 if use_tpu else PARTS_OF_ATTENTION)
    at_masks = tf.reshape(model.get_sequence_output()[:, 1:, :], [-1, config.hidden_size])
    vectors, bias = modeling.masked_lm_vectors(config, at_masks, model.get_embedding_table_2())
    return Outputs(
        vectors, model.get_embedding_table(), bias, tf.reshape(features["masked_lm_ids"], [-1]),
        tf.reshape(features["masked_lm_weights"], [-1]),
        modeling.sentence_order_logits(config, model.get_pooled_output()),
        tf.reshape(features["next_sentence_labels"], [-1]))


def losses(outputs, totals, parts=PARTS_OF_WORDS):
    """Returns (loss, {name of a curve: scalar}), shares in those of the batch of `totals`.

    parts: into how many the masked words are divided; see modeling.word_losses.
    """
    lm_sum, lm_right = modeling.word_losses(
        outputs.lm_vectors, outputs.lm_table, outputs.lm_bias, outputs.lm_ids, outputs.lm_weights,
        parts)
    lm_loss = lm_sum / (totals.lm_weight + 1e-5)
    order_loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=outputs.order_labels, logits=outputs.order_logits)) / totals.records
    return lm_loss + order_loss, {
        "masked_lm_loss": lm_loss,
        "masked_lm_accuracy": tf.div_no_nan(lm_right, totals.lm_weight),
        "sentence_order_loss": order_loss,
        "sentence_order_accuracy": batch_accuracy(
            outputs.order_logits, outputs.order_labels,
            tf.ones_like(outputs.order_labels, tf.float32), totals.records)}


def model_fn_builder(config, model_class, schedule, model_fit=None, use_tpu=False,
                     recompute=False):
    """Returns the model_fn of an estimator.

    Args:
        config: a configuration; model_class: the encoder that takes it.
        schedule: Schedule, or None when nothing is trained.
        model_fit: checkpoints.Fit to start from, or None for random initialisation.
        recompute: as for modeling.Encoder.
    """
    def model_fn(features, labels, mode, params):
        del labels, params
        if mode == tf.estimator.ModeKeys.TRAIN:
            return train_spec(features)
        outputs = outputs_of(config, model_class, features, False, use_tpu)
        logits = modeling.word_logits(outputs.lm_vectors, outputs.lm_table, outputs.lm_bias)
        lm_loss, _ = masked_lm_loss(logits, outputs.lm_ids, outputs.lm_weights)
        order_loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=outputs.order_labels, logits=outputs.order_logits))
        return tf.estimator.tpu.TPUEstimatorSpec(
            mode, loss=lm_loss + order_loss, eval_metrics=(metric_fn, [
                logits, outputs.lm_ids, outputs.lm_weights, outputs.order_logits,
                outputs.order_labels]),
            scaffold_fn=estimators.scaffold_fn(model_fit, use_tpu, with_global_step=True))

    def train_spec(features):
        # ---- gradients; losses are divided by what the whole batch holds, so that they add up
        totals = totals_of(features)
        loss_scale = optimization.LossScale() if schedule.loss_scaling else None
        gradients, scalars = optimization.differentiate(
            lambda part: losses(outputs_of(config, model_class, part, True, use_tpu, recompute),
                                totals, 1 if use_tpu else PARTS_OF_WORDS),
            features, schedule.parts, loss_scale)
        shown = optimization.name_scalars(dict(scalars, total_loss=scalars["loss"]))

        # ---- initialisation, update
        scaffold = estimators.scaffold_fn(model_fit, use_tpu)
        train_op = optimization.create_optimizer(
            None, schedule.learning_rate, schedule.num_train_steps, schedule.num_warmup_steps,
            use_tpu, schedule.optimizer, schedule.poly_power, schedule.start_warmup_step,
            slot_names=schedule.slot_names,
            exclude_from_layer_adaptation=schedule.exclude_from_layer_adaptation,
            gradients=gradients, loss_scale=loss_scale)
        return tf.estimator.tpu.TPUEstimatorSpec(
            tf.estimator.ModeKeys.TRAIN, loss=scalars["loss"],
            train_op=tf.group(train_op, shown), scaffold_fn=scaffold)

    return model_fn


# ---------------------------------------------------------------------------------------------
# Input
# ---------------------------------------------------------------------------------------------

def value_limits(config, sizes):
    """Returns {field name: number that its values lie below}."""
    return {"input_ids": config.vocab_size, "masked_lm_ids": config.vocab_size,
            "masked_lm_positions": sizes["sequence"], "segment_ids": config.type_vocab_size,
            "next_sentence_labels": 2}


def check_input(paths, config, sizes):
    """Checks the first record of every file before anything long starts; see records.check.

    Raises:
        UserError: also where some files are masked already and others are not, or what is masked
            while reading would be more than --max_predictions_per_seq.
    """
    spec = masking_of(paths)
    for path in paths:
        records.check(path, schema_of(spec), sizes, value_limits(config, sizes))
    if spec and spec.vocab_size > config.vocab_size:
        raise UserError("%s is to be masked with words of a vocabulary of %d, but the "
                        "configuration's vocab_size is %d; use the configuration and vocabulary "
                        "that the records were made for" % (
                            paths[0], spec.vocab_size, config.vocab_size))
    if spec and spec.most_predictions > sizes["predictions"]:
        raise UserError("%s is to be masked with up to %d words a record; use "
                        "--max_predictions_per_seq=%d" % (
                            paths[0], spec.most_predictions, spec.most_predictions))


def masking_of(paths):
    """Returns the masking.Spec of records that are masked while reading; None for all others.

    Raises:
        UserError: the files are of both kinds, or it is not known how to mask them.
    """
    unmasked = [path for path in paths if records.has_key(path, "word_starts")]
    if unmasked and len(unmasked) < len(paths):
        raise UserError("%s is not masked yet (--masking=dynamic), %s is: train on records of one "
                        "kind" % (unmasked[0], next(p for p in paths if p not in unmasked)))
    return masking.load(unmasked) if unmasked else None


def schema_of(spec):
    """Returns the schema of records that are masked while reading, or are not. spec: or None."""
    return records.UNMASKED if spec else records.PRETRAINING


def reading_of(paths, sizes, random_seed, first_record=0, limits=None):
    """Returns the function from a dataset of serialised records to one of records without padding.

    Records that are not masked yet are masked, each time with other draws; the same seed gives the
    same masks in the same order.

    Args:
        random_seed: None: draw one.
        first_record: number of the dataset's first record in the order of all.
        limits: of `value_limits`.
    """
    spec = masking_of(paths)
    seed = np.random.randint(1 << 31) if random_seed is None else random_seed
    parallel = {"num_parallel_calls": tf.data.experimental.AUTOTUNE}

    def read(dataset):
        if spec is None:
            return dataset.map(lambda record: without_padding(
                records.decode(records.PRETRAINING, record, sizes, limits)), **parallel)
        dataset = dataset.apply(tf.data.experimental.enumerate_dataset(first_record))
        return dataset.map(lambda number, record: masking.mask(
            records.decode(records.UNMASKED, record, {"sequence": sizes["sequence"]}, limits), spec,
            tf.stack([tf.constant(seed, tf.int64), number])), **parallel)

    return read


def input_fn_builder(paths, sizes, is_training, random_seed=None, fixed_shapes=False,
                     drop_remainder=False, first_step=0, limits=None):
    """Returns the input_fn over record files.

    Training reads all files for ever, in an order drawn anew each epoch; evaluation reads them
    once, in order. Each worker of a distributed training, and each host of a TPU pod, reads files
    of its own, or, where there are fewer files than these, records of its own. Records may be
    padded or not: batches hold what they have without padding, are of like length in training, and
    padded to their longest.

    A batch of training depends on the data, the seed and its number alone, so a run can go on at
    any step. It then reads past what it has seen of the epoch, and once through the data to count
    them.

    Args:
        sizes: {"sequence": S, "predictions": P}, the most there may be.
        random_seed: of training, and of masks that are drawn while reading; None: draw one.
        fixed_shapes: pad all batches to S and P (TPU, XLA).
        drop_remainder: leave an incomplete last batch out (TPUs need full ones).
        first_step: step at which training goes on.
        limits: of `value_limits`.
    """
    shapes = {field.name: [sizes[field.length] if fixed_shapes else None]
              if field.length in sizes else [field.length] for field in records.PRETRAINING}

    @runtime.as_written
    def input_fn(params, input_context=None):
        batch_size = params["batch_size"]
        if not is_training:
            dataset = tf.data.Dataset.from_tensor_slices(tf.constant(paths)).flat_map(
                records.dataset)
            read = reading_of(paths, sizes, random_seed, limits=limits)
            dataset = read(dataset).padded_batch(batch_size, shapes, drop_remainder=drop_remainder)
            return runtime.without_auto_shard(dataset.prefetch(2))

        # ---- where to begin
        seed = np.random.randint(1 << 31) if random_seed is None else random_seed
        part = distribution.input_part(params, input_context)
        share = _share_of(paths, part)
        window = 1 if fixed_shapes else batches_of_a_window(paths, batch_size)
        first_batch = first_step * part.batches
        first_record = first_batch // window * window * batch_size
        epoch, seen = divmod(first_record, share.count()) if first_record else (0, 0)
        if first_record:
            say("The input goes on in epoch %d, after %d records" % (epoch + 1, seen))

        # ---- from there on, for ever
        numbers = tf.data.Dataset.range(epoch, np.iinfo(np.int64).max)
        dataset = numbers.flat_map(lambda number: share.epoch(number, seed))
        dataset = reading_of(paths, sizes, seed, first_record, limits)(dataset.skip(seen))
        if window > 1:
            dataset = batches_by_length(dataset, batch_size, window, shapes, seed,
                                        first_batch // window).skip(first_batch % window)
        else:
            dataset = dataset.padded_batch(batch_size, shapes, drop_remainder=True)
        return runtime.without_auto_shard(dataset.prefetch(2))

    return input_fn


class _Share(object):
    """What a worker reads: every `step`-th record of some files, from number `first` on."""

    def __init__(self, paths, first=0, step=1):
        self._paths, self._first, self._step = paths, first, step

    def epoch(self, number, seed):
        """Returns the dataset of an epoch's serialised records. number: int64 tensor."""
        seed = random_draws.wrapped(seed * 1000003) + number
        dataset = tf.data.Dataset.from_tensor_slices(tf.constant(self._paths))
        if len(self._paths) == 1:
            dataset = dataset.flat_map(records.dataset)
        else:
            # Dataset.interleave with num_parallel_calls corrupts the heap of TensorFlow 1.15 when a
            # session ends before the data do; this form of it does not.
            dataset = dataset.shuffle(len(self._paths), seed=seed).apply(
                tf.data.experimental.parallel_interleave(
                    records.dataset, cycle_length=min(READ_FILES_AT_ONCE, len(self._paths)),
                    sloppy=False))
        if self._step > 1:
            dataset = dataset.shard(self._step, self._first)
        return dataset.shuffle(SHUFFLE_BUFFER, seed=seed)

    def count(self):
        """Reads the files through; returns the number of an epoch's records, at least 1."""
        with tf.Graph().as_default(), tf.Session() as session:
            dataset = tf.data.Dataset.from_tensor_slices(tf.constant(self._paths)).flat_map(
                records.dataset)
            count = session.run(dataset.reduce(np.int64(0), lambda total, _: total + 1))
        return max(-(-(int(count) - self._first) // self._step), 1)


def _share_of(paths, part):
    """Returns the _Share of a distribution.InputPart."""
    if part.count <= len(paths):
        return _Share(paths[part.number::part.count])
    return _Share(paths, part.number, part.count)


def batches_by_length(dataset, batch_size, window, shapes, seed, first_window=0):
    """Makes batches of records of like length, of so many batches' records at a time.

    The records of a window are sorted by length and cut into batches, which come in a random order.

    Args:
        dataset: of records without padding, without end.
        window: number of batches.
        shapes: as for padded_batch.
        seed, first_window: numbers that the order follows from.

    Returns:
        dataset of batches, padded to their longest record.
    """
    by_length = {field.name: field.length for field in records.PRETRAINING
                 if not isinstance(field.length, int)}
    measures = {"sequence": "input_ids", "predictions": "masked_lm_ids"}

    def measured(features):
        return features, {size: tf.size(features[name]) for size, name in measures.items()}

    def cut(number, padded):
        features, lengths = padded
        order = tf.argsort(lengths["sequence"], stable=True)
        batches = tf.random.stateless_uniform([window], tf.stack([
            tf.constant(seed, tf.int64), number]))
        order = tf.gather(tf.reshape(order, [window, batch_size]), tf.argsort(batches))
        return tf.data.Dataset.from_tensor_slices(order).map(lambda rows: {
            name: tf.gather(values[:, :tf.reduce_max(tf.gather(lengths[by_length[name]], rows))]
                            if name in by_length else values, rows)
            for name, values in features.items()})

    def sized(batch):
        for tensor in batch.values():
            tensor.set_shape([batch_size] + tensor.shape.as_list()[1:])
        return batch

    windows = dataset.map(measured).padded_batch(
        batch_size * window, (shapes, {size: [] for size in measures}), drop_remainder=True)
    return windows.apply(tf.data.experimental.enumerate_dataset(first_window)).flat_map(
        cut).map(sized)


def without_padding(features):
    """Cuts the zeros off that a record was padded with; takes and returns {field: [length]}."""
    ends = {"sequence": records.end_of(features["input_mask"]),
            "predictions": records.end_of(features["masked_lm_weights"])}
    return {field.name: features[field.name][:ends[field.length]]
            if field.length in ends else features[field.name] for field in records.PRETRAINING}


def batches_of_a_window(paths, batch_size):
    """Returns from how many batches' records those of like length are put together.

    Fewer for less data, so that no batch holds the same few records again and again.
    """
    seen, bytes_read = 0, 0
    for path in paths[:JUDGED_FILES]:
        for serialized in itertools.islice(
                records.read(path), -(-JUDGED_RECORDS // min(len(paths), JUDGED_FILES))):
            seen += 1
            bytes_read += len(serialized)
    count = seen * sum(files.size(path) for path in paths) / max(bytes_read, 1)
    return max(1, min(int(count / (batch_size * WINDOWS_OF_AN_EPOCH)),
                      max(RECORDS_OF_A_WINDOW // batch_size, LEAST_WINDOW),
                      MOST_BATCHES_OF_A_WINDOW))


def warn_if_never_filled(paths, batch_size):
    """Says so when the training data hold fewer records than one batch."""
    count = 0
    for path in paths:
        for _ in records.read(path):
            count += 1
            if count >= batch_size:
                return
    say("WARNING: a batch of %d (--train_batch_size x accumulation x devices) is more than the %d "
        "records there are: every batch holds records several times" % (batch_size, count))


# ---------------------------------------------------------------------------------------------
# The course of a run
# ---------------------------------------------------------------------------------------------

def run(values, settings, layout, config, keep_best=False, init_from_group0=False):
    """Trains and evaluates as the flags say.

    Args:
        values: {flag: value} of `define_flags`.
        settings: estimators.RunSettings.
        layout: layouts.Layout; config: its configuration.
        keep_best: evaluate every checkpoint of the run and keep the best as `model.ckpt-best`;
            else only the last one is evaluated.
        init_from_group0: see checkpoints.fit.

    Raises:
        UserError: something does not fit; nothing has then been written.
    """
    with interruption.terminable(), run_lock.RunLock(
            settings.output_dir, distribution.is_chief(settings)) as lock:
        _run_alone(values, settings, layout, config, keep_best, init_from_group0, lock)


def _run_alone(values, settings, layout, config, keep_best, init_from_group0, lock):
    """As `run`, for the only run in the folder; lock: run_lock.RunLock."""
    # ---- everything that can be refused
    check_numbers(values, config)
    if not (values["do_train"] or values["do_eval"]):
        raise UserError("nothing to do: give --do_train, --do_eval or both")
    if init_from_group0 and not (values["init_checkpoint"] and values["do_train"]):
        raise UserError("--init_from_group0 needs --init_checkpoint, whose group 0 it takes, and "
                        "--do_train")
    sizes = record_sizes(values)
    train_files, eval_files = find_input(values)
    for paths in (train_files, eval_files):
        check_input(paths, config, sizes)
    estimators.require_full_cores(settings, values)
    estimators.require_one_host(settings, values)
    vocab_file = exporting.require_vocabulary(values["vocab_file"], config, values["export_dir"])
    record = run_record.RunRecord(settings.output_dir)
    exporting.require_place(values["export_dir"], settings.output_dir, config, vocab_file,
                            earlier=record.exports())
    coverage = values["do_eval"] and evaluation_steps(
        eval_files, values["eval_batch_size"], values["max_eval_steps"], settings.use_tpu)

    # ---- where the weights come from
    slots = (layout.lamb_slots if values["optimizer"] == "lamb"
             else AdamWeightDecayOptimizer.SLOT_NAMES)
    shapes = modeling.pretraining_variable_shapes(config, layout.model_class)
    start = checkpoints.starting_point(
        config, shapes, record, settings.output_dir, values["init_checkpoint"],
        values["allow_partial_init"], slots if values["do_train"] else (), init_from_group0)
    trained_with = {name: values[name] for name in (
        "train_batch_size", "gradient_accumulation_steps", "learning_rate", "num_warmup_steps",
        "poly_power", "input_file", "optimizer", "start_warmup_step", "random_seed")}
    if values["do_train"]:
        # Slots of another optimizer may have the same names.
        record.require_same_settings({"optimizer": values["optimizer"]}, refuse=True)
        record.require_same_settings(trained_with, refuse=False)
        require_no_best_of_others(settings.output_dir)
    record.require_own_config(config)
    files.make_dir(settings.output_dir, "output_dir")
    if distribution.is_chief(settings):
        lock.take()
        checkpoints.remove_unfinished(settings.output_dir)
        record.begin(values, start and start.prefix, config=config,
                     keep_start=bool(checkpoints.latest_in(settings.output_dir)),
                     data=sorted(set(train_files + eval_files)))
        files.write_text(os.path.join(settings.output_dir, run_record.CONFIG_NAME),
                         config.to_json_string())

    # ---- training, evaluation, export
    if values["do_train"]:
        schedule = Schedule(
            values["optimizer"], values["learning_rate"], values["num_train_steps"],
            values["num_warmup_steps"], values["poly_power"], values["start_warmup_step"],
            layout.lamb_exclusions, slots, settings.gradient_accumulation_steps,
            settings.precision == "float16")
        model_fn = model_fn_builder(config, layout.model_class, schedule, start, settings.use_tpu,
                                    settings.recompute)
        train(model_fn, settings, config, train_files, sizes, schedule, values["train_batch_size"],
              functools.partial(record.begin_training, trained_with)
              if distribution.is_chief(settings) else None)
    if not distribution.is_chief(settings):
        return  # the rest is one machine's work
    results, chosen = {}, checkpoints.latest_in(settings.output_dir)
    if values["do_eval"]:
        chosen = chosen or checkpoints.resolve(values["init_checkpoint"])
        results, chosen = evaluate_run(values, settings, layout, config, shapes, eval_files,
                                       coverage, chosen, keep_best)
    record.finish(_plain(results))
    if values["export_dir"]:
        record.add_export(exporting.strip(chosen, config, vocab_file, values["export_dir"]))
    curves.draw(settings.output_dir)


def evaluate_run(values, settings, layout, config, shapes, paths, coverage, last, keep_best):
    """Evaluates the last checkpoint or all; writes and prints `eval_results.txt`.

    Args:
        shapes: {name: shape} of the model's variables; paths: evaluation records; coverage: of
            `evaluation_steps`; last, keep_best: as for `evaluate_all` and `run`.

    Returns:
        (results, the checkpoint that they are of).
    """
    say("Evaluating on %d of %d records" % coverage[1:])
    if not values["eval_input_file"]:
        say("WARNING: no --eval_input_file: evaluating on the training data, whose accuracy "
            "says little about other text")
    sizes = record_sizes(values)

    def evaluate_one(prefix):
        model_fit = checkpoints.fit_with_heads(prefix, shapes)
        return evaluate(
            model_fn_builder(config, layout.model_class, None, model_fit, settings.use_tpu),
            settings, config, paths, sizes, values["eval_batch_size"], coverage,
            os.path.basename(prefix))

    if keep_best:
        results, chosen = evaluate_all(settings.output_dir, last, evaluate_one,
                                       evaluation_key(paths, coverage))
    else:
        results, chosen = evaluate_one(last), last
    files.write_text(os.path.join(settings.output_dir, "eval_results.txt"),
                     estimators.format_results(results))
    print("Evaluation of %s on %d of %d records" % (
        chosen, results["eval_records"], results["eval_records_total"]))
    print(estimators.format_results(results), end="")
    return results, chosen


def record_sizes(values):
    """Returns {dimension of the records: its size}, as the flags say."""
    return {"sequence": values["max_seq_length"],
            "predictions": values["max_predictions_per_seq"]}


def find_input(values):
    """Returns (training files, evaluation files) that the flags name and the run needs."""
    train_files = files.expand(values["input_file"] or "", "input_file") if (
        values["do_train"] or not values["eval_input_file"]) else []
    if not values["do_eval"]:
        if values["eval_input_file"]:
            raise UserError("--eval_input_file=%s has no effect without --do_eval"
                            % values["eval_input_file"])
        return train_files, []
    return train_files, (files.expand(values["eval_input_file"], "eval_input_file")
                         if values["eval_input_file"] else train_files)


def require_no_best_of_others(output_dir):
    """Raises UserError where a folder's best checkpoint is of a run that left no other.

    A new one would compete with it, or replace it.
    """
    kept = os.path.join(output_dir, BEST_NAME)
    if kept in checkpoints.prefixes_in(output_dir) and not checkpoints.trained_in(output_dir):
        raise UserError("--output_dir=%s holds %s of a run whose other checkpoints are gone: "
                        "choose an empty --output_dir for a new one" % (output_dir, BEST_NAME))


def evaluation_key(paths, coverage):
    """Returns what identifies evaluation data: results on other data are not comparable.

    Of a large file, its size and its first part stand for all.
    """
    parts = ["%d:%s" % (files.size(path), files.fingerprint(path, HASHED_BYTES)) for path in paths]
    return "%d of %d records, sha256 %s" % (
        coverage[1], coverage[2], hashlib.sha256(" ".join(parts).encode("utf-8")).hexdigest())


def evaluate_all(output_dir, last, evaluate_one, data_key):
    """Evaluates each checkpoint of a run once and keeps the best as `model.ckpt-best`.

    The one kept before stays in the race when its original is gone. Where nothing was trained,
    `last` is evaluated, and nothing kept.

    Args:
        last: the run's last checkpoint, or the one to start from where nothing was trained.

    Returns:
        (results of the best, its prefix).
    """
    kept = os.path.join(output_dir, BEST_NAME)
    prefixes = checkpoints.trained_in(output_dir)
    contents = {files.fingerprint(prefix + ".index") for prefix in prefixes}
    was_trained = bool(prefixes)
    if not was_trained:
        prefixes = [last]
    elif kept in checkpoints.prefixes_in(output_dir) and (
            files.fingerprint(kept + ".index") not in contents):
        prefixes.insert(0, kept)

    def row_of(prefix):
        results = _plain(evaluate_one(prefix))
        return dict(results, step=int(results["global_step"]))

    rows = selection.evaluate_each(output_dir, "pretraining", prefixes, data_key, row_of)
    best = selection.best_of(rows)
    print(table(["step", "masked LM loss", "accuracy", "order accuracy", ""], [
        [row["step"], "%.4f" % row["masked_lm_loss"], "%.4f" % row["masked_lm_accuracy"],
         "%.4f" % row["sentence_order_accuracy"], "best" if row is best else ""]
        for row in rows]))
    chosen = prefixes[rows.index(best)]
    results = {name: value for name, value in best.items()
               if name not in ("checkpoint", "folder", "fingerprint", "data", "step")}
    if not was_trained:  # what another run made is not this folder's best
        return results, chosen
    checkpoints.copy(chosen, kept)
    say("Best: %s, masked LM loss %.4f; kept as %s" % (
        os.path.basename(chosen), best["masked_lm_loss"], kept))
    return results, kept


def _plain(results):
    """Returns results as what JSON holds: NumPy's numbers as Python's."""
    return {name: value.item() if hasattr(value, "item") else value
            for name, value in results.items()}


def check_numbers(values, config):
    """Checks the numbers that both scripts take as flags; UserError names the flag at fault.

    Args:
        values: {flag name: value}; config: the model's configuration.
    """
    config.require_positions(values["max_seq_length"])
    least = {"max_seq_length": 4, "max_predictions_per_seq": 1, "train_batch_size": 1,
             "eval_batch_size": 1, "num_train_steps": 1, "num_warmup_steps": 0,
             "start_warmup_step": 0, "max_eval_steps": 0}
    for name, minimum in least.items():
        if values[name] < minimum:
            raise UserError("--%s=%d: at least %d is needed" % (name, values[name], minimum))
    for name in ("learning_rate", "poly_power"):
        if not 0 < values[name] < float("inf"):
            raise UserError("--%s=%g: a number above 0 is needed" % (name, values[name]))
    if values["optimizer"] not in optimization.OPTIMIZERS:
        raise UserError("--optimizer=%s is unknown; use %s" % (
            values["optimizer"], " or ".join(optimization.OPTIMIZERS)))
    if not values["do_train"]:
        return
    if values["start_warmup_step"] and not values["num_warmup_steps"]:
        raise UserError("--start_warmup_step=%d has no effect without --num_warmup_steps"
                        % values["start_warmup_step"])
    if values["start_warmup_step"] >= values["num_train_steps"]:
        raise UserError("--start_warmup_step=%d is not below --num_train_steps=%d: the rate would "
                        "be 0 to the end" % (values["start_warmup_step"],
                                             values["num_train_steps"]))
    if values["start_warmup_step"] + values["num_warmup_steps"] >= values["num_train_steps"]:
        say("WARNING: the warm-up (--num_warmup_steps=%d%s) does not end before "
            "--num_train_steps=%d: the rate never reaches its peak" % (
                values["num_warmup_steps"],
                " from --start_warmup_step=%d on" % values["start_warmup_step"]
                if values["start_warmup_step"] else "", values["num_train_steps"]))


def train(model_fn, run, config, paths, sizes, schedule, batch_size, begin=None):
    """Trains to the end of a Schedule; goes on from the folder's last checkpoint.

    Args:
        begin: called before the training, if there are steps to train.
    """
    done, steps = checkpoints.step_reached(run.output_dir), schedule.num_train_steps
    if done >= steps:
        say("Already trained to step %d; raise --num_train_steps to train on" % done)
        return
    if begin:
        begin()
    in_a_step = distribution.examples_per_step(run, batch_size)
    hooks = [estimators.ProgressHook("pre-train", steps, () if run.use_tpu else CURVES,
                                     run.output_dir, in_a_step)]
    if distribution.is_chief(run):
        warn_if_never_filled(paths, in_a_step)
        training_checks.warn_of_rate(schedule.optimizer, schedule.learning_rate, in_a_step)
    if not run.use_tpu:
        hooks.append(training_checks.NumbersHook(
            run.output_dir, np.log(config.vocab_size) + np.log(2.0), schedule.loss_scaling))
    estimator = estimators.make_estimator(model_fn, run, run.output_dir,
                                          train_batch_size=batch_size)
    with records.naming_the_damaged(paths, schema_of(masking_of(paths)), sizes,
                                    value_limits(config, sizes)):
        estimators.train(
            estimator, run, input_fn_builder(paths, sizes, True, run.random_seed,
                                             fixed_shapes=run.use_tpu or run.xla, first_step=done,
                                             limits=value_limits(config, sizes)),
            steps, hooks)
    say("Trained to step %d: %s" % (steps, checkpoints.latest_in(run.output_dir)))


def evaluate(model_fn, run, config, paths, sizes, batch_size, coverage, name):
    """Evaluates one checkpoint on records read once; returns its results.

    Args:
        coverage: of `evaluation_steps`.
    """
    steps, covered, total = coverage
    estimator = estimators.make_estimator(
        model_fn, run, os.path.join(run.output_dir, "eval"), train_batch_size=batch_size,
        eval_batch_size=batch_size)
    with records.naming_the_damaged(paths, schema_of(masking_of(paths)), sizes,
                                    value_limits(config, sizes)):
        metrics = estimator.evaluate(
            input_fn_builder(paths, sizes, False, EVALUATION_SEED,
                             fixed_shapes=run.use_tpu or run.xla,
                             drop_remainder=run.use_tpu, limits=value_limits(config, sizes)),
            steps=steps,
            hooks=[estimators.ProgressHook("evaluate %s" % name, steps)])
    return evaluation_results(metrics, covered, total)


def evaluation_steps(paths, batch_size, max_eval_steps, drop_remainder):
    """Returns (steps, records covered, records in all) of an evaluation that reads data once.

    Raises:
        UserError: not one batch can be filled where only full ones are allowed.
    """
    total = records.count(paths)
    steps = total // batch_size if drop_remainder else -(-total // batch_size)
    if not steps:
        raise UserError("--eval_batch_size=%d can never be filled from %d records; lower it"
                        % (batch_size, total))
    if max_eval_steps:
        steps = min(steps, max_eval_steps)
    return steps, min(steps * batch_size, total), total


def evaluation_results(metrics, covered, total):
    """Returns the results to write: metrics under both names, and how much was covered."""
    results = dict(metrics)
    for name, known in KNOWN_NAMES.items():
        results[known] = results[name]
    results["eval_records"] = covered
    results["eval_records_total"] = total
    results["eval_coverage"] = "%.4f" % (covered / total)
    return results
