"""Fine-tuning one model, and classification: model_fn, training, evaluation and prediction.

Dimension letters: B batch, S sequence length, H hidden size, C classes.
"""

import collections
import os

import checkpoints
import distribution
import estimators
import features
import files
import fine_tuning_methods
import heads
import metrics
import numpy as np
import optimization
import plots
import records
import runtime  # noqa: F401 - before TensorFlow
import selection
import tasks
import training_checks
from console import Progress, say, table

import tensorflow.compat.v1 as tf

REPORT = "eval_report.txt"

Recipe = collections.namedtuple("Recipe", [
    "learning_rate", "num_train_steps", "num_warmup_steps", "class_weights", "parts",
    "loss_scaling", "methods"])
Recipe.__new__.__defaults__ = (None, 1, False, None)
Recipe.__doc__ = """How a classifier is trained: AdamW with these numbers.

class_weights: C numbers that the examples' losses are weighted with, or None; parts: number of
parts that a batch is computed in; loss_scaling: whether the loss is scaled, as float16 needs it;
methods: fine_tuning_methods.Methods or None."""

# ---------------------------------------------------------------------------------------------
# The model
# ---------------------------------------------------------------------------------------------

def example_weights(label_ids, class_weights=None):
    """Returns what each example counts in the loss, [B]: 1, or its class's weight."""
    if class_weights is None:
        return tf.ones_like(label_ids, tf.float32)
    return tf.gather(tf.constant(class_weights, tf.float32), label_ids)


def negative_log_likelihood(logits, label_ids):
    """[B, C] and [B] to [B]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label_ids, logits=logits)


class ClassObjective(object):
    """What a classifier learns and tells: the class of each text.

    Objectives of other tasks have the same methods. An answer is what the loss counts: here a
    text's class, so that answers are [B].
    """

    def __init__(self, config, model_class, head, class_weights=None, use_tpu=False,
                 recompute=False):
        """Binds the parts. head: heads.ClassifierHead; recompute: as for modeling.Encoder."""
        self._config, self._model_class, self._head = config, model_class, head
        self._class_weights, self._use_tpu, self._recompute = class_weights, use_tpu, recompute

    def logits(self, features, is_training):
        """Builds encoder and head; returns [B, C]."""
        return heads.classifier_logits(
            self._config, self._model_class, self._head, is_training, features["input_ids"],
            features["input_mask"], features["segment_ids"], self._use_tpu, self._recompute)

    def weights(self, features):
        """What each answer counts in the loss."""
        return example_weights(features["label_ids"], self._class_weights)

    def counts(self, features):
        """What each answer counts in the accuracy."""
        return tf.ones_like(features["label_ids"], tf.float32)

    def losses(self, features, logits):
        """The negative log-likelihood of each answer."""
        return negative_log_likelihood(logits, features["label_ids"])

    def right(self, features, logits):
        """Whether each answer is right."""
        return tf.equal(features["label_ids"], tf.argmax(logits, -1, output_type=tf.int32))

    def predictions(self, features, logits):
        """What prediction gives for each row: {name: tensor [B, ...]}."""
        del features
        return {"probabilities": tf.nn.softmax(logits),
                "log_probabilities": tf.nn.log_softmax(logits)}


def model_fn_builder(config, model_class, head, recipe=None, model_fit=None, use_tpu=False,
                     recompute=False):
    """Returns the model_fn of an estimator for a classifier.

    Args:
        head: Head.
        recipe: Recipe, or None when nothing is trained.
        model_fit: checkpoints.Fit to start from, or None for random initialisation.
        recompute: as for modeling.Encoder.
    """
    return model_fn_of(ClassObjective(config, model_class, head, recipe and recipe.class_weights,
                                      use_tpu, recompute), recipe, model_fit, use_tpu)


def model_fn_of(objective, recipe=None, model_fit=None, use_tpu=False):
    """Returns the model_fn of an estimator for an objective, ClassObjective or another task's.

    It trains and predicts; evaluations score what it predicts.

    Args:
        recipe, model_fit: as for `model_fn_builder`.
    """
    def model_fn(features, labels, mode, params):
        del labels, params
        if mode == tf.estimator.ModeKeys.TRAIN:
            return train_spec(features)
        predictions = objective.predictions(features, objective.logits(features, False))
        return tf.estimator.tpu.TPUEstimatorSpec(
            mode, scaffold_fn=estimators.scaffold_fn(model_fit, use_tpu),
            predictions=dict(predictions, row=features["row"]))

    def train_spec(features):
        methods = recipe.methods
        learner = methods.objective(objective) if methods else objective

        # ---- gradients; shares are divided by what the whole batch holds, so that they add up
        weight, answers = optimization.sum_over_replicas([
            tf.reduce_sum(learner.weights(features)), tf.reduce_sum(learner.counts(features))])

        def share_of(part):
            logits = learner.logits(part, True)
            nll = learner.losses(part, logits)
            right = learner.counts(part) * tf.cast(learner.right(part, logits), tf.float32)
            return tf.reduce_sum(learner.weights(part) * nll) / weight, {
                "accuracy": tf.reduce_sum(right) / answers}

        loss_scale = optimization.LossScale() if recipe.loss_scaling else None
        gradients, scalars = (methods or optimization).differentiate(
            share_of, features, recipe.parts, loss_scale)
        shown = optimization.name_scalars(
            {"accuracy": scalars["accuracy"], "total_loss": scalars["loss"]})

        # ---- initialisation, update
        scaffold = estimators.scaffold_fn(model_fit, use_tpu)
        train_op = optimization.create_optimizer(
            None, recipe.learning_rate, recipe.num_train_steps, recipe.num_warmup_steps, use_tpu,
            gradients=gradients, loss_scale=loss_scale)
        return tf.estimator.tpu.TPUEstimatorSpec(
            tf.estimator.ModeKeys.TRAIN, loss=scalars["loss"],
            train_op=tf.group(train_op, shown), scaffold_fn=scaffold)

    return model_fn


# ---------------------------------------------------------------------------------------------
# One model's life: train, evaluate each checkpoint, keep in mind the best, predict
# ---------------------------------------------------------------------------------------------

CURVES = (estimators.Scalar("loss", "total_loss:0", "loss"),
          estimators.Scalar("accuracy", "accuracy:0", None),
          estimators.Scalar("learning_rate", "learning_rate:0", "rate"),
          estimators.Scalar("gradient_norm", "gradient_norm:0", None))


class Tuner(object):
    """A task, a model and a folder; the methods are the steps of a run.

    What the tasks differ in, a subclass brings: `_model_fn`, `_evaluate_one`, `_data_key`,
    `_results` and `_report`, and a `predict` of its own.
    """

    SCHEMA = records.CLASSIFICATION  # of the feature caches
    COLUMNS = ()                     # of the table of checkpoints: pairs of heading and key
    REPORT_FILES = ()                # the best checkpoint's predictions, written with the report

    def __init__(self, task, config, model_class, run, max_seq_length, shapes, model_fit=None):
        """Binds the parts.

        Args:
            task: tasks.Task, or what has its name.
            config, model_class: the encoder's configuration and class.
            run: estimators.RunSettings.
            shapes: {name: shape} of the model's variables.
            model_fit: checkpoints.Fit to start training from, or None.
        """
        self._task, self._config, self._model_class = task, config, model_class
        self._run, self._length, self._start = run, max_seq_length, model_fit
        self._shapes = shapes

    def _path(self, name):
        return os.path.join(self._run.output_dir, name)

    def _input_fn(self, split, is_training, batch_size, first_step=0):
        return features.input_fn_builder(
            split, self._length, is_training, self._run.random_seed,
            fixed_shapes=self._run.use_tpu or self._run.xla, whole_batch=batch_size,
            first_step=first_step, schema=self.SCHEMA)

    def _naming_a_damaged_cache(self, split):
        return records.naming_the_damaged([split.path], self.SCHEMA,
                                          records.any_sizes(self.SCHEMA))

    def _model_fn(self, model_fit, recipe=None):
        raise NotImplementedError

    def train(self, split, batch_size, recipe, begin=None):
        """Trains up to `recipe.num_train_steps` in all; goes on from the folder's last step.

        Args:
            begin: called before the training, if there are steps to train.
        """
        done = checkpoints.step_reached(self._run.output_dir)
        if done >= recipe.num_train_steps:
            say("Already trained to step %d of %d: nothing to train"
                % (done, recipe.num_train_steps))
            return
        if begin:
            begin()
        in_a_step = distribution.examples_per_step(self._run, batch_size)
        if in_a_step > len(split.examples):
            say("WARNING: a batch of %d (--train_batch_size x accumulation x devices) is more than "
                "the %d training examples: every batch holds examples several times"
                % (in_a_step, len(split.examples)))
        say("Training on %d examples: %d steps of %d, warm-up %d steps" % (
            len(split.examples), recipe.num_train_steps, in_a_step, recipe.num_warmup_steps))
        estimator = estimators.make_estimator(
            self._model_fn(self._start, recipe), self._run, self._run.output_dir,
            train_batch_size=batch_size)
        training_checks.warn_of_rate("adamw", recipe.learning_rate, in_a_step)
        hooks = [estimators.ProgressHook(
            "train", recipe.num_train_steps, () if self._run.use_tpu else CURVES,
            self._run.output_dir, in_a_step)]
        if not self._run.use_tpu:
            hooks.append(training_checks.NumbersHook(
                self._run.output_dir, self._loss_of_chance(split), recipe.loss_scaling))
        input_fn = self._input_fn(split, True, batch_size, first_step=done)
        if recipe.methods:
            input_fn = recipe.methods.input_fn(input_fn)
        with self._naming_a_damaged_cache(split):
            estimators.train(estimator, self._run, input_fn, recipe.num_train_steps, hooks)

    def _loss_of_chance(self, split):
        """Returns the loss of a model that knows nothing; here None, as it is not known."""
        del split

    def evaluate(self, split, batch_size, prefixes):
        """Evaluates checkpoints, writes all results, prints and returns those of the best.

        What was evaluated before, on the same data, is not evaluated again, but for the best where
        its report or predictions are missing or of another one. The best is selection.best_of's.

        Args:
            prefixes: checkpoints, in the order of their steps.

        Returns:
            dict with checkpoint, step, eval_loss and the task's scores.
        """
        folder = self._run.output_dir
        details = {}

        def evaluate_one(prefix):
            row, detail = self._evaluate_one(split, batch_size, prefix)
            details[os.path.basename(prefix)] = detail
            return row

        rows = selection.evaluate_each(folder, self._task.name, prefixes, self._data_key(split),
                                       evaluate_one)
        best = selection.best_of(rows)
        self._write_results_text(best, rows)
        print(table(["step"] + [heading for heading, _ in self.COLUMNS] + [""], [
            [row["step"]] + ["%.4f" % row[key] for _, key in self.COLUMNS]
            + ["best" if row is best else ""] for row in rows]))
        name = best["checkpoint"]
        if name not in details and not self._is_reported(best):
            evaluate_one(prefixes[rows.index(best)])
        if name in details:
            self._report(best, details[name])
        return best

    def _data_key(self, split):
        """Returns what identifies the evaluation: its data, and the settings that decide on it."""
        return split.key

    def _evaluate_one(self, split, batch_size, prefix):
        """Returns (row of results, what `_report` needs beside it)."""
        raise NotImplementedError

    def _results(self, best):
        """Returns {name: value} of a row's scores for eval_results.txt."""
        raise NotImplementedError

    def _report(self, best, detail):
        """Writes REPORT_FILES, then eval_report.txt, first line `_heading(best)`."""
        raise NotImplementedError

    def _write_results_text(self, best, rows):
        results = dict(self._results(best), loss=best["eval_loss"], global_step=best["step"],
                       checkpoint=best["checkpoint"])
        main = self.COLUMNS[0][1]
        text = "".join("# step %d: %s = %s, eval_loss = %s\n" % (
            row["step"], main, row[main], row["eval_loss"]) for row in rows)
        files.write_text(self._path("eval_results.txt"),
                         estimators.format_results(results) + text)

    def _heading(self, best):
        """Returns the first line of eval_report.txt: what the files are of that it belongs to."""
        return report_heading(best)

    def _is_reported(self, best):
        """Tells whether what `_report` writes is there, of the best checkpoint, on these data."""
        paths = [self._path(name) for name in self.REPORT_FILES + (REPORT,)]
        return all(map(files.exists, paths)) and next(
            files.read_lines(paths[-1]), (1, ""))[1] == self._heading(best)

    def _predicted(self, split, batch_size, prefix, label):
        """Yields what the model_fn predicts for each example of a split, in no certain order.

        Args:
            prefix: the checkpoint; label: what the progress display calls it.

        Yields:
            (example's place in the split, {name: array}).
        """
        model_fn = self._model_fn(checkpoints.fit_with_heads(prefix, self._shapes))
        progress = Progress(label, len(split.examples), "example")
        done = 0
        with self._naming_a_damaged_cache(split):
            for prediction in estimators.predicted_rows(
                    model_fn, self._run, self._input_fn(split, False, batch_size), batch_size,
                    self._path("eval")):
                row = prediction["row"]
                if row < len(split.examples):  # beyond them: what fills a TPU's batch
                    yield row, prediction
                    done += 1
                    progress.update(done)

    def _step_of(self, prefix):
        """Returns the global step that a checkpoint was saved at, 0 where it does not say."""
        reader = tf.train.NewCheckpointReader(prefix)
        return int(reader.get_tensor("global_step")) if reader.has_tensor("global_step") else 0

    def _write_scores(self, row):
        """Adds the scores of a row of results to the curves, as an Estimator's evaluation does."""
        writer = tf.summary.FileWriterCache.get(self._path("eval"))
        writer.add_summary(tf.Summary(value=[
            tf.Summary.Value(tag=key, simple_value=float(row[key])) for _, key in self.COLUMNS]),
            row["step"])
        writer.flush()


class Classifier(Tuner):
    """A classification task, a model and a folder."""

    COLUMNS = (("dev accuracy", "eval_accuracy"), ("macro-F1", "macro_f1"), ("loss", "eval_loss"))

    def __init__(self, task, config, model_class, run, max_seq_length, use_pooled_output=True,
                 model_fit=None):
        """Binds the parts: as Tuner does. use_pooled_output: as in Head."""
        super(Classifier, self).__init__(
            task, config, model_class, run, max_seq_length,
            heads.classifier_variable_shapes(config, model_class, len(task.labels)), model_fit)
        self._head = heads.ClassifierHead(len(task.labels), use_pooled_output)

    def _model_fn(self, model_fit, recipe=None):
        return model_fn_builder(self._config, self._model_class, self._head, recipe, model_fit,
                                self._run.use_tpu, self._run.recompute)

    def _loss_of_chance(self, split):
        counts = collections.Counter(example.label for example in split.examples)
        return training_checks.chance_loss(counts.values())

    def _data_key(self, split):
        return split.key if self._head.use_pooled_output else split.key + " mean"

    def _evaluate_one(self, split, batch_size, prefix):
        """Returns (row of results, confusion matrix [C, C])."""
        labels = [self._task.labels.index(example.label) for example in split.examples]
        predicted, losses = np.zeros([2, len(labels)])
        for row, prediction in self._predicted(split, batch_size, prefix,
                                               "evaluate %s" % os.path.basename(prefix)):
            scores = prediction["log_probabilities"]
            predicted[row], losses[row] = scores.argmax(), -scores[labels[row]]
        matrix = metrics.confusion(labels, predicted.astype(int), self._head.classes)
        scores = metrics.report(matrix, self._task.labels)
        row = {"step": self._step_of(prefix), "eval_accuracy": scores.accuracy,
               "eval_loss": float(losses.mean()), "macro_f1": scores.macro_f1}
        self._write_scores(row)
        return row, matrix

    def _results(self, best):
        return {name: best[name] for name in ("eval_accuracy", "eval_loss", "macro_f1")}

    def _report(self, best, matrix):
        """Writes the best checkpoint's scores of every class as text and picture."""
        training_checks.warn_of_one_class(matrix, self._task.labels, best["checkpoint"])
        text = metrics.format_report(metrics.report(matrix, self._task.labels))
        files.write_text(self._path(REPORT), "%s\n\n%s\n" % (report_heading(best), text))
        if len(self._task.labels) <= metrics.MOST_COLUMNS:
            print(text)
        else:
            say("Scores of every class: %s" % self._path(REPORT))
        plots.confusion_matrix(matrix, self._task.labels, self._path("confusion_matrix.png"))

    def predict(self, split, batch_size, prefix, name="test"):
        """Writes class probabilities and labels, of CLUE tasks as submission; returns the labels.

        The labels of other tasks go to predictions.tsv: id, label, probability. Of train or dev,
        what is written is what another model learns from with --teacher_logits.

        Args:
            name: of the split, "train", "dev" or "test".
        """
        say("Predicting %d examples with %s" % (len(split.examples), prefix))
        probabilities = np.zeros([len(split.examples), self._head.classes], np.float32)
        for row, prediction in self._predicted(split, batch_size, prefix, "predict"):
            probabilities[row] = prediction["probabilities"]
        predicted = [self._task.labels[int(row.argmax())] for row in probabilities]
        if name != "test":
            path = self._path(fine_tuning_methods.LOGITS % name)
            fine_tuning_methods.write_teacher(path, probabilities, self._task.labels,
                                              split.examples)
            say("Wrote %s" % path)
            return predicted
        lines = ["\t".join("%.9g" % value for value in row) + "\n" for row in probabilities]
        files.write_text(self._path("test_results.tsv"), "".join(lines))
        if self._task.submission_name:
            path = self._path(self._task.submission_name)
            tasks.write_submission(self._task, split.examples, predicted, path)
            tasks.check_submission(self._task, split.examples, path)
        else:
            path = self._path("predictions.tsv")
            rows = ["%s\t%s\t%.4f\n" % (" ".join(str(example.id).split()), label, row.max())
                    for example, label, row in zip(split.examples, predicted, probabilities)]
            files.write_text(path, "id\tlabel\tprobability\n" + "".join(rows))
        say("Wrote %s" % path)
        return predicted


def report_heading(row):
    """Returns the first line of eval_report.txt: what was evaluated, on what."""
    return "# %s (%s), data %s" % (row["checkpoint"], row["fingerprint"][:16], row["data"])


def score(examples, predicted, labels):
    """Scores predictions of the examples that have a label.

    Returns:
        metrics.Report, or None without labels.
    """
    pairs = [(labels.index(example.label), labels.index(label))
             for example, label in zip(examples, predicted) if example.label is not None]
    if not pairs:
        return None
    truth, guesses = zip(*pairs)
    return metrics.report(metrics.confusion(truth, guesses, len(labels)), labels)
