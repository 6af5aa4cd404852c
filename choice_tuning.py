"""Multiple choice on the encoder: one score an option, its training, its files.

The course of a run is finetuning.py's; this module brings what is particular to questions with
options. A question is one example; the encoder sees each of its options with the text as a row of
its own, all rows of a batch padded alike.

Dimension letters: B batch, K options of a question at most.
"""

import functools
import hashlib
import json

import choices
import classifier
import console
import features
import files
import finetuning
import heads
import numpy as np
import records
import runtime  # noqa: F401 - before TensorFlow
import tasks
from console import say
from errors import UserError

import tensorflow.compat.v1 as tf

VERSION = 1  # raise when the same questions would give other features: caches are then renewed
WRONG_ANSWERS_SHOWN = 10


# ---------------------------------------------------------------------------------------------
# Features
# ---------------------------------------------------------------------------------------------

def featurise(question, kind, tokenizer, max_seq_length, truncate="head"):
    """Turns a question into features of its own length, as records.choices says.

    Args:
        question: choices.Question; kind: choices.Comprehension or choices.Idioms.

    Returns:
        {field name: list of numbers}; a question without an answer gets the first option's.
    """
    text, options = kind.tokens(
        question, tokenizer.tokenize, tokenizer.mask_token, max_seq_length - 3,
        functools.partial(features.truncate_tokens, truncate=truncate))
    ids = tokenizer.convert_tokens_to_ids
    first = [tokenizer.cls_id] + ids(text) + [tokenizer.sep_id]
    seconds = [ids(option) + [tokenizer.sep_id] for option in options]
    absent = [0] * (kind.most_options - len(seconds))
    return {"input_ids": first, "input_mask": [1] * len(first),
            "option_ids": [number for second in seconds for number in second],
            "option_lengths": [len(second) for second in seconds] + absent,
            "label_ids": [question.answer or 0], "is_real_example": [1]}


# ---------------------------------------------------------------------------------------------
# The model
# ---------------------------------------------------------------------------------------------

class ChoiceObjective(classifier.ClassObjective):
    """Learns which option is right; the questions are the answers [B] that count."""

    def __init__(self, config, model_class, use_pooled_output, length=None, use_tpu=False,
                 recompute=False):
        """Binds the parts. length: tokens of every row with padding, None: of the longest."""
        super(ChoiceObjective, self).__init__(
            config, model_class, heads.ClassifierHead(1, use_pooled_output), None, use_tpu,
            recompute)
        self._length = length

    def logits(self, features, is_training):
        """Builds encoder and head; returns [B, K], very low where a question has no option."""
        return heads.choice_logits(
            self._config, self._model_class, self._head, is_training, features["input_ids"],
            features["input_mask"], features["option_ids"], features["option_lengths"],
            self._length, self._use_tpu, self._recompute)

    def predictions(self, features, logits):
        del features
        return {"log_probabilities": tf.nn.log_softmax(logits)}


class Chooser(classifier.Tuner):
    """A task of multiple choice, a model and a folder; the methods are the steps of a run."""

    COLUMNS = (("dev accuracy", "eval_accuracy"), ("loss", "eval_loss"))

    def __init__(self, task, config, model_class, run, max_seq_length, use_pooled_output,
                 submission_name=None, model_fit=None):
        """Binds the parts: as classifier.Tuner does.

        Args:
            task: tasks.ChoiceTask.
            submission_name: of the file that predictions are written to; None: nothing will be.
        """
        super(Chooser, self).__init__(
            task, config, model_class, run, max_seq_length,
            heads.classifier_variable_shapes(config, model_class, 1), model_fit)
        self.SCHEMA = records.choices(task.kind.most_options)
        self._use_pooled_output, self._submission_name = use_pooled_output, submission_name

    def _model_fn(self, model_fit, recipe=None):
        has_one_length = self._run.use_tpu or self._run.xla
        objective = ChoiceObjective(
            self._config, self._model_class, self._use_pooled_output,
            self._length if has_one_length else None, self._run.use_tpu, self._run.recompute)
        return classifier.model_fn_of(objective, recipe, model_fit, self._run.use_tpu)

    def _loss_of_chance(self, split):
        return float(np.mean([np.log(len(question.options)) for question in split.examples]))

    def _scores(self, split, batch_size, prefix, label):
        """Returns the log-probabilities of a split's options: [questions, K]."""
        scores = np.zeros([len(split.examples), self._task.kind.most_options], np.float32)
        for row, prediction in self._predicted(split, batch_size, prefix, label):
            scores[row] = prediction["log_probabilities"]
        return scores

    # ---- evaluation

    def _data_key(self, split):
        return split.key if self._use_pooled_output else split.key + " mean"

    def _evaluate_one(self, split, batch_size, prefix):
        scores = self._scores(split, batch_size, prefix,
                              "evaluate %s" % prefix.rsplit("/", 1)[-1])
        questions = split.examples
        chosen = self._task.kind.decide(questions, scores)
        answers = [question.answer for question in questions]
        row = {"step": self._step_of(prefix), "eval_accuracy": accuracy(questions, chosen),
               "eval_loss": -float(np.mean(scores[np.arange(len(questions)), answers]))}
        self._write_scores(row)
        return row, (questions, chosen)

    def _results(self, best):
        return {name: best[name] for name in ("eval_accuracy", "eval_loss")}

    def _report(self, best, detail):
        """Writes the best checkpoint's accuracy by the number of options, its first mistakes."""
        text = format_report(*detail)
        files.write_text(self._path(classifier.REPORT), "%s\n\n%s\n" % (
            classifier.report_heading(best), text))
        print(text.split("\n\n")[0])
        say("Wrong answers: %s" % self._path(classifier.REPORT))

    # ---- prediction

    def predict(self, split, batch_size, prefix):
        """Writes the options' probabilities and CLUE's submission; returns the options chosen.

        Returns:
            list of the options' indexes.
        """
        questions = split.examples
        say("Choosing answers to %d questions with %s" % (len(questions), prefix))
        scores = self._scores(split, batch_size, prefix, "predict")
        files.write_text(self._path("test_results.tsv"), "".join(
            "\t".join("%.9g" % value for value in np.exp(row[:len(question.options)])) + "\n"
            for question, row in zip(questions, scores)))
        chosen = self._task.kind.decide(questions, scores)
        path = self._path(self._submission_name)
        files.write_text(path, self._task.kind.submission(questions, chosen))
        self._task.check_submission(questions, path)
        say("Wrote %s" % path)
        return chosen


def accuracy(questions, chosen):
    """Returns the share of questions whose option was chosen that is right."""
    return float(np.mean([question.answer == option
                          for question, option in zip(questions, chosen)]))


def format_report(questions, chosen):
    """Formats accuracies as text: of all questions, of those with so many options, mistakes."""
    pairs = list(zip(questions, chosen))
    counts = sorted({len(question.options) for question in questions})
    groups = [("all", pairs)] + [
        (str(count), [pair for pair in pairs if len(pair[0].options) == count])
        for count in counts]
    parts = [console.table(["options", "accuracy", "questions"], [
        [name, "%.4f" % accuracy(*zip(*some)), len(some)] for name, some in groups])]
    wrong = [pair for pair in pairs if pair[0].answer != pair[1]][:WRONG_ANSWERS_SHOWN]
    if wrong:
        parts.append("The first wrong answers:\n" + "\n".join(
            "%s  %s\n  answer:    %s\n  predicted: %s" % (
                question.id, question.question or " ".join(question.text.split())[:200],
                question.options[question.answer], question.options[option])
            for question, option in wrong))
    return "\n\n".join(parts)


# ---------------------------------------------------------------------------------------------
# What finetuning.run needs to know
# ---------------------------------------------------------------------------------------------

def kind_of(values):
    """Returns what finetuning.run takes as `kind`: by the task that the flags name.

    Args:
        values: {flag: value}.

    Raises:
        UserError: a flag has no meaning for the task.
    """
    name = (values["task_name"] or "").strip().lower()
    if name in tasks.names() and isinstance(tasks.get(name), tasks.ChoiceTask):
        _check_values(values, tasks.get(name))
        return MultipleChoice()
    return finetuning.Classification()


def _check_values(values, task):
    if values["class_weights"] != "none":
        raise UserError("--class_weights=%s has no meaning for task %s: options are no classes, "
                        "each question has its own" % (values["class_weights"], task.name))
    if task.kind.decides_groups and values["truncate"] != "head":
        raise UserError("--truncate=%s has no meaning for task %s: what is kept of a passage lies "
                        "around the blank" % (values["truncate"], task.name))
    if values.get("predict_split", "test") != "test":
        raise UserError("--predict_split=%s has no meaning for task %s: another model cannot learn "
                        "from its answers" % (values["predict_split"], task.name))
    if values["max_seq_length"] < choices.SHORTEST:
        raise UserError("--max_seq_length=%d: at least %d is needed for task %s" % (
            values["max_seq_length"], choices.SHORTEST, task.name))


class MultipleChoice(finetuning.Classification):
    """As finetuning.Classification: what is particular to questions with options."""

    trained_with = tuple(name for name in finetuning.TRAINED_WITH if name != "class_weights")
    can_distill = False  # options are no classes that all questions share
    head_file = heads.CHOICE_FILE
    dev_results = (("dev_accuracy", "eval_accuracy"),)

    def settings_of_training(self, task):
        return {}

    def variable_shapes(self, model, task):
        return heads.classifier_variable_shapes(model.config, model.model_class, 1)

    def settings_of_the_head(self, values, task):
        return {"do_lower_case": values["do_lower_case"],
                "use_pooled_output": values["use_pooled_output"]}

    def features(self, data, split, output_dir, model, tokenizer_key, values):
        kind = data.task.kind
        digest = hashlib.sha256(json.dumps([
            VERSION, data.task.name, tokenizer_key, values["max_seq_length"], values["truncate"],
            kind.most_options]).encode("utf-8"))
        for question in data.examples[split]:
            digest.update(json.dumps(question).encode("utf-8"))
        return features.make_split(
            split, digest.hexdigest()[:16], data.examples[split], output_dir,
            records.choices(kind.most_options), lambda question: featurise(
                question, kind, model.tokenizer, values["max_seq_length"], values["truncate"]))

    def work(self, data, model, settings, values, start):
        name = data.task.submission_in(data.folder) if "test" in data.examples else None
        return Chooser(data.task, model.config, model.model_class, settings,
                       values["max_seq_length"], values["use_pooled_output"], name, start)

    def predict(self, work, split, values, prefix, data):
        """Predicts a split, scores it where all answers are known; returns results."""
        chosen = work.predict(split, values["predict_batch_size"], prefix)
        if any(question.answer is None for question in split.examples):
            return {}
        share = accuracy(split.examples, chosen)
        print("test accuracy %.4f on %d questions" % (share, len(split.examples)))
        return {"test_accuracy": share}
