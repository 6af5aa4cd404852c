"""Classification, for both layouts: features, model_fn, training, selection and prediction.

Dimension letters: B batch, S sequence length, H hidden size, C classes.
"""

import collections
import hashlib
import json
import os

import checkpoints
import estimators
import files
import modeling
import optimization
import records
import runtime
import tasks
from console import Progress, say, table
from errors import UserError

import tensorflow.compat.v1 as tf

POOLED_DROPOUT = 0.1
SHUFFLE_BUFFER = 100000
FEATURES_VERSION = 1  # raise when the same text would give other features: caches are then renewed

Recipe = collections.namedtuple("Recipe", ["learning_rate", "num_train_steps", "num_warmup_steps"])
Recipe.__doc__ = "How a classifier is trained: AdamW with these numbers."

Split = collections.namedtuple("Split", ["path", "key", "examples"])
Split.__doc__ = """Features of one split.

path: record file; key: what they were made from, hashed; examples: list of tasks.Example."""


# ---------------------------------------------------------------------------------------------
# Features
# ---------------------------------------------------------------------------------------------

def truncate_pair(tokens_a, tokens_b, max_tokens):
    """Shortens the longer of two token lists, from its end, until both fit together.

    truncate_pair([1, 2, 3, 4], [5, 6], 4) == ([1, 2], [5, 6])
    """
    length_a, length_b = len(tokens_a), len(tokens_b)
    while length_a + length_b > max_tokens:
        if length_a > length_b:
            length_a -= 1
        else:
            length_b -= 1
    return tokens_a[:length_a], tokens_b[:length_b]


def featurise(example, labels, tokenizer, max_seq_length):
    """Turns an example into features of its own length: [CLS] a [SEP], or [CLS] a [SEP] b [SEP].

    Args:
        labels: the task's labels; an example without one gets class 0.

    Returns:
        dict of field name to list of numbers, as records.CLASSIFICATION says.
    """
    tokens_a = tokenizer.tokenize(example.text_a)
    tokens_b = [] if example.text_b is None else tokenizer.tokenize(example.text_b)
    if example.text_b is None:
        tokens_a = tokens_a[:max_seq_length - 2]
    else:
        tokens_a, tokens_b = truncate_pair(tokens_a, tokens_b, max_seq_length - 3)
    cls, sep = tokenizer.cls_token, tokenizer.sep_token
    tokens = [cls] + tokens_a + [sep]
    segments = [0] * len(tokens)
    if example.text_b is not None:
        tokens += tokens_b + [sep]
        segments += [1] * (len(tokens) - len(segments))
    label = 0 if example.label is None else labels.index(example.label)
    return {"input_ids": tokenizer.convert_tokens_to_ids(tokens), "input_mask": [1] * len(tokens),
            "segment_ids": segments, "label_ids": [label], "is_real_example": [1]}


def split_features(task, split, examples, data_dir, output_dir, tokenizer, tokenizer_key,
                   max_seq_length):
    """Makes the features of a split's examples, or finds them made from the very same content.

    Args:
        examples: what task.read(data_dir, split) gave.
        tokenizer_key: string that identifies vocabulary and lower-casing.

    Returns:
        Split.
    """
    key = hashlib.sha256(json.dumps([
        FEATURES_VERSION, task.name, list(task.labels), tokenizer_key, max_seq_length,
        files.fingerprint(task.path(data_dir, split))]).encode("utf-8")).hexdigest()[:16]
    path = os.path.join(output_dir, "%s-%s.tf_record" % (split, key))
    if files.exists(path):
        return Split(path, key, examples)
    progress = Progress("features %s" % split, len(examples), "example")

    def serialized():
        for done, example in enumerate(examples, start=1):
            yield records.encode(records.CLASSIFICATION, featurise(
                example, task.labels, tokenizer, max_seq_length))
            progress.update(done)

    records.write(path, serialized())
    return Split(path, key, examples)


def input_fn_builder(split, max_seq_length, is_training, random_seed=None, fixed_shapes=False,
                     whole_batch=None):
    """Returns the input_fn over a split.

    Batches are padded to their longest example, which changes no result; with `fixed_shapes`
    (TPU) to `max_seq_length`, and a last incomplete batch is filled with rows that do not count.

    Args:
        whole_batch: with fixed_shapes, the batch size over all cores; params["batch_size"] is
            that of one core.
    """
    length = max_seq_length if fixed_shapes else None
    count = len(split.examples)

    def input_fn(params):
        batch_size = params["batch_size"]
        dataset = tf.data.TFRecordDataset(split.path)
        if is_training:
            dataset = dataset.shuffle(min(count, SHUFFLE_BUFFER), seed=random_seed).repeat()
        elif fixed_shapes:
            dataset = dataset.concatenate(_filling(-count % (whole_batch or batch_size)))
        dataset = dataset.map(_decode, num_parallel_calls=tf.data.experimental.AUTOTUNE)
        shapes = {field.name: [length] if field.length == "sequence" else []
                  for field in records.CLASSIFICATION}
        dataset = dataset.padded_batch(batch_size, shapes,
                                       drop_remainder=is_training or fixed_shapes)
        return runtime.without_auto_shard(dataset.prefetch(2))

    return input_fn


def _decode(record):
    features = records.decode(records.CLASSIFICATION, record, {"sequence": None})
    return {name: value if value.shape.as_list() == [None] else tf.reshape(value, [])
            for name, value in features.items()}


def _filling(count):
    """A dataset of `count` records that do not count, to fill up a last batch."""
    empty = records.encode(records.CLASSIFICATION, {
        "input_ids": [0], "input_mask": [1], "segment_ids": [0], "label_ids": [0],
        "is_real_example": [0]})
    return tf.data.Dataset.from_tensors(tf.constant(empty)).repeat(count)


# ---------------------------------------------------------------------------------------------
# The model
# ---------------------------------------------------------------------------------------------

def class_logits(config, pooled, classes, is_training):
    """The classifier's head. [B, H] to [B, C].

    A pre-LN model, whose last layer ends without a LayerNorm, gets one here.
    """
    if getattr(config, "ln_type", "postln") == "preln":
        with tf.variable_scope("loss"):
            pooled = modeling.layer_norm(pooled)
    pooled = modeling.dropout(pooled, POOLED_DROPOUT if is_training else 0.0)
    return modeling.output_logits(pooled, classes, config.initializer_range)


def variable_shapes(config, model_class, classes):
    """Returns {name: shape} of an encoder with a classifier head."""
    def build():
        model = model_class(config, False, tf.zeros([1, 1], tf.int32))
        class_logits(config, model.get_pooled_output(), classes, False)

    return modeling.variable_shapes(build)


def metric_fn(label_ids, logits, weights):
    """Accuracy and mean loss over the rows that count."""
    nll = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label_ids, logits=logits)
    predicted = tf.argmax(logits, -1, output_type=tf.int32)
    return {"eval_accuracy": tf.metrics.accuracy(label_ids, predicted, weights=weights),
            "eval_loss": tf.metrics.mean(nll, weights=weights)}


def model_fn_builder(config, model_class, classes, recipe=None, model_fit=None, use_tpu=False):
    """Returns the model_fn of a TPUEstimator.

    Args:
        classes: number of labels.
        recipe: Recipe, or None when nothing is trained.
        model_fit: checkpoints.Fit to start from, or None for random initialisation.
    """
    def model_fn(features, labels, mode, params):
        del labels, params
        training = mode == tf.estimator.ModeKeys.TRAIN
        model = model_class(config, training, features["input_ids"], features["input_mask"],
                            features["segment_ids"], use_one_hot_embeddings=use_tpu)
        logits = class_logits(config, model.get_pooled_output(), classes, training)
        scaffold = estimators.scaffold_fn(model_fit, use_tpu, with_global_step=not training)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.tpu.TPUEstimatorSpec(
                mode, predictions={"probabilities": tf.nn.softmax(logits)}, scaffold_fn=scaffold)

        label_ids = features["label_ids"]
        weights = tf.cast(features["is_real_example"], tf.float32)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=label_ids, logits=logits))
        loss = tf.identity(loss, name="total_loss")
        if training:
            train_op = optimization.create_optimizer(
                loss, recipe.learning_rate, recipe.num_train_steps, recipe.num_warmup_steps,
                use_tpu, "adamw")
            return tf.estimator.tpu.TPUEstimatorSpec(mode, loss=loss, train_op=train_op,
                                                     scaffold_fn=scaffold)
        return tf.estimator.tpu.TPUEstimatorSpec(
            mode, loss=loss, scaffold_fn=scaffold,
            eval_metrics=(metric_fn, [label_ids, logits, weights]))

    return model_fn


# ---------------------------------------------------------------------------------------------
# One classifier's life: train, evaluate each checkpoint, keep in mind the best, predict
# ---------------------------------------------------------------------------------------------

class Classifier(object):
    """A task, a model and a folder; the methods are the steps of a run."""

    def __init__(self, task, config, model_class, run, max_seq_length, model_fit=None):
        """Binds the parts.

        Args:
            task: tasks.Task.
            config, model_class: the encoder's configuration and class.
            run: estimators.RunSettings.
            model_fit: checkpoints.Fit to start training from, or None.
        """
        self._task, self._config, self._model_class = task, config, model_class
        self._run, self._length, self._start = run, max_seq_length, model_fit
        self._shapes = variable_shapes(config, model_class, len(task.labels))

    def _path(self, name):
        return os.path.join(self._run.output_dir, name)

    def _input_fn(self, split, is_training, batch_size):
        return input_fn_builder(split, self._length, is_training, self._run.random_seed,
                                fixed_shapes=self._run.use_tpu, whole_batch=batch_size)

    def _naming_a_damaged_cache(self, split):
        return records.naming_the_damaged([split.path], records.CLASSIFICATION,
                                          {"sequence": None})

    def _model_fn(self, model_fit, recipe=None):
        return model_fn_builder(self._config, self._model_class, len(self._task.labels), recipe,
                                model_fit, self._run.use_tpu)

    def train(self, split, batch_size, recipe):
        """Trains up to `recipe.num_train_steps` in all; goes on from the folder's last step."""
        latest = checkpoints.latest_in(self._run.output_dir)
        if latest and checkpoints.step_in_name(latest) >= recipe.num_train_steps:
            say("Already trained to step %d of %d: nothing to train"
                % (checkpoints.step_in_name(latest), recipe.num_train_steps))
            return
        if batch_size > len(split.examples):
            say("WARNING: --train_batch_size=%d is more than the %d training examples: every batch "
                "holds examples several times" % (batch_size, len(split.examples)))
        say("Training on %d examples: %d steps of %d, warm-up %d steps" % (
            len(split.examples), recipe.num_train_steps, batch_size, recipe.num_warmup_steps))
        scalars = [] if self._run.use_tpu else [("loss", "total_loss:0"),
                                                ("rate", "learning_rate:0")]
        estimator = estimators.make_estimator(
            self._model_fn(self._start, recipe), self._run, self._run.output_dir,
            train_batch_size=batch_size)
        with self._naming_a_damaged_cache(split):
            estimator.train(
                self._input_fn(split, True, batch_size), max_steps=recipe.num_train_steps,
                hooks=[estimators.ProgressHook("train", recipe.num_train_steps, scalars)])

    def evaluate(self, split, batch_size, prefixes):
        """Evaluates checkpoints, writes all results, returns those of the best.

        What was evaluated before, on the same data, is not evaluated again. The best has the
        highest accuracy, among equals the lowest loss.

        Args:
            prefixes: checkpoints, in the order of their steps.

        Returns:
            dict with checkpoint, step, eval_accuracy, eval_loss.
        """
        known = {(row["fingerprint"], row["data"]): row for row in self._recorded()}
        rows = []
        for prefix in prefixes:
            fingerprint = files.fingerprint(prefix + ".index")
            row = known.get((fingerprint, split.key))
            if row is None:
                row = self._evaluate_one(split, batch_size, prefix)
                row.update(fingerprint=fingerprint, data=split.key)
            rows.append(row)
            self._record(rows)
        best = best_of(rows)
        print(table(["step", "dev accuracy", "loss", ""], [
            [row["step"], "%.4f" % row["eval_accuracy"], "%.4f" % row["eval_loss"],
             "best" if row is best else ""] for row in rows]))
        return best

    def _evaluate_one(self, split, batch_size, prefix):
        model_fit = checkpoints.fit_with_heads(prefix, self._shapes)
        steps = -(-len(split.examples) // batch_size)
        name = os.path.basename(prefix)
        estimator = estimators.make_estimator(
            self._model_fn(model_fit), self._run, self._path("eval"), train_batch_size=batch_size,
            eval_batch_size=batch_size)
        hook = estimators.ProgressHook("evaluate %s" % name, steps, count_global_steps=False)
        with self._naming_a_damaged_cache(split):
            metrics = estimator.evaluate(self._input_fn(split, False, batch_size), steps=steps,
                                         hooks=[hook])
        return {"checkpoint": name, "folder": os.path.dirname(prefix),
                "step": int(metrics["global_step"]),
                "eval_accuracy": float(metrics["eval_accuracy"]),
                "eval_loss": float(metrics["eval_loss"])}

    def _recorded(self):
        path = self._path("eval_results.json")
        return read_results(path)["checkpoints"] if files.exists(path) else []

    def _record(self, rows):
        best = best_of(rows)
        files.write_json(self._path("eval_results.json"), {
            "task": self._task.name, "best": best, "checkpoints": rows})
        results = {"eval_accuracy": best["eval_accuracy"], "eval_loss": best["eval_loss"],
                   "loss": best["eval_loss"], "global_step": best["step"],
                   "checkpoint": best["checkpoint"]}
        text = "".join("# step %d: eval_accuracy = %s, eval_loss = %s\n" % (
            row["step"], row["eval_accuracy"], row["eval_loss"]) for row in rows)
        files.write_text(self._path("eval_results.txt"),
                         estimators.format_results(results) + text)

    def recorded_best(self, prefixes):
        """Returns the one of `prefixes` that was evaluated best, or None if none was."""
        by_content = {files.fingerprint(prefix + ".index"): prefix for prefix in prefixes}
        rows = [row for row in self._recorded() if row["fingerprint"] in by_content]
        return by_content[best_of(rows)["fingerprint"]] if rows else None

    def predict(self, split, batch_size, prefix):
        """Writes class probabilities and the submission file; returns the predicted labels."""
        model_fit = checkpoints.fit_with_heads(prefix, self._shapes)
        say("Predicting %d examples with %s" % (len(split.examples), prefix))
        estimator = estimators.make_estimator(
            self._model_fn(model_fit), self._run, self._path("eval"), train_batch_size=batch_size,
            predict_batch_size=batch_size)
        progress = Progress("predict", len(split.examples), "example")
        probabilities = []
        with self._naming_a_damaged_cache(split):
            for row in estimator.predict(self._input_fn(split, False, batch_size)):
                if len(probabilities) < len(split.examples):
                    probabilities.append(row["probabilities"])
                    progress.update(len(probabilities))
        lines = ["\t".join("%.9g" % value for value in row) + "\n" for row in probabilities]
        files.write_text(self._path("test_results.tsv"), "".join(lines))
        predicted = [self._task.labels[int(row.argmax())] for row in probabilities]
        if self._task.submission_name:
            path = self._path(self._task.submission_name)
            tasks.write_submission(self._task, split.examples, predicted, path)
            tasks.check_submission(self._task, split.examples, path)
            say("Wrote %s" % path)
        return predicted


def read_results(path):
    """Reads an eval_results.json; UserError when it is not one of ours."""
    results = files.read_json(path)
    if not (isinstance(results, dict) and isinstance(results.get("checkpoints"), list)
            and all(isinstance(row, dict) and row.get("fingerprint")
                    for row in results["checkpoints"])):
        raise UserError("%s is damaged: move it away, evaluation writes it anew" % path)
    return results


def best_of(rows):
    """Returns the result of highest accuracy; among equals the lowest loss, then the earliest."""
    return min(rows, key=lambda row: (-row["eval_accuracy"], row["eval_loss"], row["step"]))


def accuracy(examples, predicted):
    """Returns the share of labelled examples that were predicted right, or None without labels."""
    pairs = [(example.label, label) for example, label in zip(examples, predicted)
             if example.label is not None]
    if not pairs:
        return None
    return sum(1 for label, guess in pairs if label == guess) / len(pairs)


def keep_model_files(output_dir, config, vocab_file, labels):
    """Puts configuration, vocabulary and labels beside the checkpoints that need them."""
    files.write_text(os.path.join(output_dir, "albert_config.json"), config.to_json_string())
    files.write_text(os.path.join(output_dir, "labels.txt"), "".join(x + "\n" for x in labels))
    target = os.path.join(output_dir, "vocab.txt")
    if not files.exists(target) or files.fingerprint(target) != files.fingerprint(vocab_file):
        files.copy(vocab_file, target)
