"""Pre-training, for both layouts: masked LM and sentence order as model_fn, input_fn and results.

ALBERT, arXiv 1909.11942: masked language modelling as in BERT, sentence-order prediction in the
place of next-sentence prediction (section 3.1).
"""

import collections
import os

import checkpoints
import estimators
import files
import modeling
import optimization
import records
import runtime
from console import say
from errors import UserError

import tensorflow.compat.v1 as tf

SHUFFLE_BUFFER = 10000
READ_FILES_AT_ONCE = 8

Schedule = collections.namedtuple("Schedule", [
    "optimizer", "learning_rate", "num_train_steps", "num_warmup_steps", "poly_power",
    "start_warmup_step", "exclude_from_layer_adaptation", "slot_names"])
Schedule.__doc__ = "How the weights are updated; see optimization.create_optimizer."

# The metrics' names, and the ones that scripts written for the older releases look for.
KNOWN_NAMES = {"sentence_order_accuracy": "next_sentence_accuracy",
               "sentence_order_loss": "next_sentence_loss"}


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

def model_fn_builder(config, model_class, schedule, model_fit=None, use_tpu=False):
    """Returns the model_fn of a TPUEstimator.

    Args:
        config: a configuration; model_class: the encoder that takes it.
        schedule: Schedule, or None when nothing is trained.
        model_fit: checkpoints.Fit to start from, or None for random initialisation.
    """
    def model_fn(features, labels, mode, params):
        del labels, params
        training = mode == tf.estimator.ModeKeys.TRAIN

        # ---- encoder and heads
        model = model_class(config, training, features["input_ids"], features["input_mask"],
                            features["segment_ids"], use_one_hot_embeddings=use_tpu)
        at_masks = modeling.gather_positions(model.get_sequence_output(),
                                             features["masked_lm_positions"])
        lm_logits = modeling.masked_lm_logits(config, at_masks, model.get_embedding_table(),
                                              model.get_embedding_table_2())
        order_logits = modeling.sentence_order_logits(config, model.get_pooled_output())

        # ---- losses
        lm_ids = tf.reshape(features["masked_lm_ids"], [-1])
        lm_weights = tf.reshape(features["masked_lm_weights"], [-1])
        order_labels = tf.reshape(features["next_sentence_labels"], [-1])
        lm_loss, _ = masked_lm_loss(lm_logits, lm_ids, lm_weights)
        order_loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=order_labels, logits=order_logits))
        tf.identity(lm_loss, name="masked_lm_loss")
        tf.identity(order_loss, name="sentence_order_loss")
        loss = tf.add(lm_loss, order_loss, name="total_loss")

        # ---- initialisation, training, evaluation
        scaffold = estimators.scaffold_fn(model_fit, use_tpu, with_global_step=not training)
        if training:
            train_op = optimization.create_optimizer(
                loss, schedule.learning_rate, schedule.num_train_steps,
                schedule.num_warmup_steps, use_tpu, schedule.optimizer, schedule.poly_power,
                schedule.start_warmup_step, slot_names=schedule.slot_names,
                exclude_from_layer_adaptation=schedule.exclude_from_layer_adaptation)
            return tf.estimator.tpu.TPUEstimatorSpec(mode, loss=loss, train_op=train_op,
                                                     scaffold_fn=scaffold)
        return tf.estimator.tpu.TPUEstimatorSpec(
            mode, loss=loss, scaffold_fn=scaffold,
            eval_metrics=(metric_fn, [lm_logits, lm_ids, lm_weights, order_logits, order_labels]))

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
    """Checks the first record of every file before anything long starts; see records.check."""
    for path in paths:
        records.check(path, records.PRETRAINING, sizes, value_limits(config, sizes))


def input_fn_builder(paths, sizes, is_training, random_seed=None, drop_remainder=False):
    """Returns the input_fn over record files.

    Training reads all files for ever, in an order drawn anew each epoch; evaluation reads them
    once, in order.

    Args:
        sizes: {"sequence": S, "predictions": P}.
        drop_remainder: leave an incomplete last batch out (TPUs need full ones).
    """
    def input_fn(params):
        dataset = tf.data.Dataset.from_tensor_slices(tf.constant(paths))
        if is_training:
            dataset = dataset.shuffle(len(paths), seed=random_seed)
            # Dataset.interleave with num_parallel_calls corrupts the heap of TensorFlow 1.15 when a
            # session ends before the data do; this form of it does not.
            dataset = dataset.apply(tf.data.experimental.parallel_interleave(
                tf.data.TFRecordDataset, cycle_length=min(READ_FILES_AT_ONCE, len(paths)),
                sloppy=False))
            dataset = dataset.shuffle(SHUFFLE_BUFFER, seed=random_seed).repeat()
        else:
            dataset = dataset.flat_map(tf.data.TFRecordDataset)
        dataset = dataset.map(lambda record: records.decode(records.PRETRAINING, record, sizes),
                              num_parallel_calls=tf.data.experimental.AUTOTUNE)
        dataset = dataset.batch(params["batch_size"], drop_remainder or is_training)
        return runtime.without_auto_shard(dataset.prefetch(2))

    return input_fn


def warn_if_never_filled(paths, batch_size):
    """Says so when the training data hold fewer records than one batch."""
    count = 0
    for path in paths:
        for _ in records.read(path):
            count += 1
            if count >= batch_size:
                return
    say("WARNING: --train_batch_size=%d is more than the %d records there are: every batch holds "
        "records several times" % (batch_size, count))


# ---------------------------------------------------------------------------------------------
# Before, during and after
# ---------------------------------------------------------------------------------------------

def check_numbers(values):
    """Checks the numbers that both scripts take as flags; UserError names the flag at fault.

    Args:
        values: {flag name: value}.
    """
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
    if values["do_train"] and values["num_warmup_steps"] >= values["num_train_steps"]:
        say("WARNING: --num_warmup_steps=%d is not below --num_train_steps=%d: the rate never "
            "reaches its peak" % (values["num_warmup_steps"], values["num_train_steps"]))


def train(model_fn, run, config, paths, sizes, batch_size, num_train_steps):
    """Trains up to `num_train_steps` in all; goes on from the folder's last checkpoint."""
    latest = checkpoints.latest_in(run.output_dir)
    if latest and checkpoints.step_in_name(latest) >= num_train_steps:
        say("Already trained to step %d; raise --num_train_steps to train on"
            % checkpoints.step_in_name(latest))
        return
    warn_if_never_filled(paths, batch_size)
    scalars = [] if run.use_tpu else [
        ("loss", "total_loss:0"), ("mlm", "masked_lm_loss:0"), ("sop", "sentence_order_loss:0"),
        ("rate", "learning_rate:0"), ("grad norm", "gradient_norm:0")]
    estimator = estimators.make_estimator(model_fn, run, run.output_dir,
                                          train_batch_size=batch_size)
    with records.naming_the_damaged(paths, records.PRETRAINING, sizes,
                                    value_limits(config, sizes)):
        estimator.train(input_fn_builder(paths, sizes, True, run.random_seed),
                        max_steps=num_train_steps,
                        hooks=[estimators.ProgressHook("pre-train", num_train_steps, scalars)])
    say("Trained to step %d: %s" % (num_train_steps, checkpoints.latest_in(run.output_dir)))


def evaluate(model_fn, run, config, paths, sizes, batch_size, max_eval_steps, prefix):
    """Evaluates a checkpoint on records read once; writes and prints `eval_results.txt`."""
    steps, covered, total = evaluation_steps(paths, batch_size, max_eval_steps, run.use_tpu)
    estimator = estimators.make_estimator(
        model_fn, run, os.path.join(run.output_dir, "eval"), train_batch_size=batch_size,
        eval_batch_size=batch_size)
    with records.naming_the_damaged(paths, records.PRETRAINING, sizes,
                                    value_limits(config, sizes)):
        metrics = estimator.evaluate(
            input_fn_builder(paths, sizes, False, drop_remainder=run.use_tpu), steps=steps,
            hooks=[estimators.ProgressHook("evaluate", steps, count_global_steps=False)])
    results = evaluation_results(metrics, covered, total)
    path = os.path.join(run.output_dir, "eval_results.txt")
    files.write_text(path, estimators.format_results(results))
    print("Evaluation of %s on %d of %d records" % (prefix, covered, total))
    print(estimators.format_results(results), end="")
    return results


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
