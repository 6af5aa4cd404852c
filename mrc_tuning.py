"""Reading comprehension on the encoder: a head that points at the answer, its training, its files.

The course of a run is finetuning.py's; this module brings what is particular to spans in passages.

Dimension letters: B batch, S sequence length.
"""

import collections
import hashlib
import json
import os

import classifier
import console
import features
import files
import finetuning
import heads
import model_flags
import mrc_metrics
import numpy as np
import reading_comprehension
import records
import runtime  # noqa: F401 - before TensorFlow
import selection
import training_checks
from console import say
from errors import UserError

import tensorflow.compat.v1 as tf

VERSION = 2  # raise when the same questions would give other windows: caches are then renewed
SCOPE = heads.READING_SCOPE  # as BERT's run_squad.py names it

# The window of one question, at its own length. Positions are those of the answer's first and last
# token, 0 where the window does not hold it.
WINDOW = (
    records.Field("input_ids", "int64", "sequence"),
    records.Field("input_mask", "int64", "sequence"),
    records.Field("segment_ids", "int64", "sequence"),
    records.Field("start_positions", "int64", 1),
    records.Field("end_positions", "int64", 1),
    records.Field("is_real_example", "int64", 1),
)

# Characters of an answer up to which the report puts it together with others.
LENGTHS = (5, 15, 30)
WRONG_ANSWERS_SHOWN = 10

ReadSplit = collections.namedtuple("ReadSplit", features.Split._fields + ("reading",))
ReadSplit.__doc__ = """features.Split of the windows, with the reading_comprehension.Reading."""


class SpanObjective(object):
    """Learns where the answer starts and ends; the two are the answers [B, 2] that count."""

    def __init__(self, config, model_class, use_tpu=False, recompute=False):
        self._config, self._model_class = config, model_class
        self._use_tpu, self._recompute = use_tpu, recompute

    def logits(self, features, is_training):
        """Builds encoder and head; [B, 2, S], very low where no answer can be: in the question."""
        logits = heads.token_logits(
            self._config, self._model_class, 2, SCOPE, is_training, features["input_ids"],
            features["input_mask"], features["segment_ids"], self._use_tpu, self._recompute)
        in_passage = tf.cast(features["segment_ids"], tf.float32)
        first = tf.one_hot(0, tf.shape(in_passage)[1])  # [CLS] stands for no answer
        allowed = tf.maximum(in_passage, first)
        return tf.transpose(logits, [0, 2, 1]) - 10000.0 * (1.0 - allowed[:, tf.newaxis, :])

    def weights(self, features):
        return tf.ones_like(self._labels(features), tf.float32)

    counts = weights

    def losses(self, features, logits):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=self._labels(features), logits=logits)

    def right(self, features, logits):
        return tf.equal(self._labels(features), tf.argmax(logits, -1, output_type=tf.int32))

    def predictions(self, features, logits):
        del features
        return {"log_probabilities": tf.nn.log_softmax(logits)}

    @staticmethod
    def _labels(features):
        return tf.stack([features["start_positions"], features["end_positions"]], axis=1)


class Reader(classifier.Tuner):
    """A task of reading comprehension, a model and a folder; the methods are the steps of a run."""

    SCHEMA = WINDOW
    COLUMNS = (("dev F1", "eval_f1"), ("exact match", "eval_exact_match"), ("loss", "eval_loss"))
    REPORT_FILES = ("dev_predictions.json", "dev_nbest_predictions.json")

    def __init__(self, task, config, model_class, run, values, may_be_absent, model_fit=None):
        """Binds the parts: as classifier.Tuner does.

        Args:
            values: {flag: value} with n_best_size, max_answer_length, null_score_threshold.
            may_be_absent: whether the passage may hold no answer.
        """
        shapes = heads.token_variable_shapes(config, model_class, 2, SCOPE)
        super(Reader, self).__init__(task, config, model_class, run, values["max_seq_length"],
                                     shapes, model_fit)
        self._n_best_size = values["n_best_size"]
        self._max_answer_length = values["max_answer_length"]
        self._given_threshold = values["null_score_threshold"]
        self._may_be_absent = may_be_absent

    def _model_fn(self, model_fit, recipe=None):
        objective = SpanObjective(self._config, self._model_class, self._run.use_tpu,
                                  self._run.recompute)
        return classifier.model_fn_of(objective, recipe, model_fit, self._run.use_tpu)

    def _loss_of_chance(self, split):
        """Of a model that knows how often a window holds the answer, and nothing of where."""
        windows, reading = split.examples, split.reading
        held = [window for window in windows if reading.positions(window) != (0, 0)]
        places = sum(np.log(window.end - window.start) for window in held) / len(windows)
        return places + training_checks.chance_loss([len(held), len(windows) - len(held)])

    def _answers(self, split, batch_size, prefix, label):
        """Returns (list of reading_comprehension.Answer, one a question, mean loss)."""
        scores, losses = [None] * len(split.examples), []
        for row, prediction in self._predicted(split, batch_size, prefix, label):
            window = split.examples[row]
            length = split.reading.first_place(window) + window.end - window.start
            scores[row] = prediction["log_probabilities"][:, :length]
            first, last = split.reading.positions(window)
            losses.append(-(scores[row][0, first] + scores[row][1, last]) / 2.0)
        found = []
        for number in range(len(split.reading.questions)):
            of_windows = [scores[window] for window in split.reading.windows_of(number)]
            found.append(reading_comprehension.answer(
                split.reading, number, of_windows, self._n_best_size, self._max_answer_length))
        return found, float(np.mean(losses))

    # ---- evaluation

    def _data_key(self, split):
        return "%s longest %d threshold %s" % (split.key, self._max_answer_length,
                                               self._given_threshold)

    def _evaluate_one(self, split, batch_size, prefix):
        found, loss = self._answers(split, batch_size, prefix,
                                    "evaluate %s" % prefix.rsplit("/", 1)[-1])
        questions = split.reading.questions
        threshold = None
        if self._may_be_absent:
            threshold = self._given_threshold
            if threshold is None:
                threshold = _tuned_threshold(questions, found)
        predictions = _texts(questions, found, threshold)
        scores = mrc_metrics.score(_gold(questions), predictions)
        row = {"step": self._step_of(prefix), "eval_f1": scores.f1 / 100,
               "eval_exact_match": scores.exact_match / 100, "eval_loss": loss}
        if threshold is not None:
            row["null_score_threshold"] = threshold
            row["threshold_is_tuned"] = self._given_threshold is None
        self._write_scores(row)
        return row, (questions, found, predictions)

    def _results(self, best):
        return {name: best[name] for name in ("eval_f1", "eval_exact_match", "eval_loss")}

    def _heading(self, best):
        return "%s, %d best" % (classifier.report_heading(best), self._n_best_size)

    def _report(self, best, detail):
        """Writes the best checkpoint's answers to dev and how those of each length fare."""
        questions, found, predictions = detail
        self._write(questions, found, predictions, "dev_")
        text = format_report(questions, predictions)
        if "null_score_threshold" in best:
            text += ("\n\nNo answer is given where its score is above the best answer's by more "
                     "than %.4f." % best["null_score_threshold"])
        files.write_text(self._path(classifier.REPORT), "%s\n\n%s\n" % (
            self._heading(best), text))
        print(text.split("\n\n")[0])
        say("Scores by length, wrong answers: %s" % self._path(classifier.REPORT))

    def _write(self, questions, found, predictions, start):
        reading_comprehension.write_predictions(self._path(start + "predictions.json"), predictions)
        files.write_json(self._path(start + "nbest_predictions.json"), collections.OrderedDict(
            (question.id, reading_comprehension.n_best(one, self._may_be_absent))
            for question, one in zip(questions, found)))

    # ---- prediction

    def predict(self, split, batch_size, prefix):
        """Writes the answers of a split, its n-best answers, CLUE's submission; returns answers.

        Returns:
            {id: text}.
        """
        questions = split.reading.questions
        say("Answering %d questions with %s" % (len(questions), prefix))
        found, _ = self._answers(split, batch_size, prefix, "predict")
        predictions = _texts(questions, found, self._threshold_of(prefix))
        self._write(questions, found, predictions, "")
        say("Wrote %s" % self._path("predictions.json"))
        if self._task.submission_name:
            path = self._path(self._task.submission_name)
            reading_comprehension.write_predictions(path, predictions)
            reading_comprehension.check_submission(path, questions)
            say("Wrote %s" % path)
        return predictions

    def _threshold_of(self, prefix):
        """Returns the flag's threshold, else that which evaluation found for a checkpoint, or 0."""
        if not self._may_be_absent:
            return None
        if self._given_threshold is not None:
            return self._given_threshold
        fingerprint = files.fingerprint(prefix + ".index")
        for folder in (os.path.dirname(prefix), self._run.output_dir):
            for row in selection.recorded(folder):
                if (row["fingerprint"] == fingerprint and "null_score_threshold" in row
                        and row.get("threshold_is_tuned", True)):
                    return row["null_score_threshold"]
        say("WARNING: the passage may hold no answer, and no threshold was tuned for %s: taking 0; "
            "evaluate it with --do_eval, or give --null_score_threshold" % prefix)
        return 0.0


def _gold(questions):
    return collections.OrderedDict(
        (question.id, question.answers) for question in questions)


def _texts(questions, found, threshold):
    return collections.OrderedDict(
        (question.id, reading_comprehension.chosen_text(one, threshold))
        for question, one in zip(questions, found))


def _tuned_threshold(questions, found):
    """Returns the threshold at which the mean F1 over the questions is highest."""
    margins, with_answer, without = [], [], []
    for question, one in zip(questions, found):
        if one.candidates:
            margins.append(one.null_score - one.candidates[0].score)
            with_answer.append(mrc_metrics.f1(question.answers, one.candidates[0].text))
            without.append(mrc_metrics.f1(question.answers, ""))
    if not margins:
        return 0.0
    return reading_comprehension.best_threshold(margins, with_answer, without)[0]


def format_report(questions, predictions):
    """Formats scores as text: all questions, those with answers of each length, wrong answers."""
    def row(name, some):
        scores = mrc_metrics.score(_gold(some), predictions)
        return [name, "%.2f" % scores.exact_match, "%.2f" % scores.f1, scores.questions]

    groups = [("no answer", [one for one in questions if not one.answers])]
    least = 1
    for most in LENGTHS + (None,):
        name = "%d to %d" % (least, most) if most else "%d or more" % least
        groups.append((name, [one for one in questions if one.answers and least <= len(
            one.answers[0]) <= (most or len(one.answers[0]))]))
        least = (most or 0) + 1
    rows = [row(name, some) for name, some in groups if some]
    wrong = [one for one in questions if not mrc_metrics.exact_match(
        one.answers, predictions[one.id])][:WRONG_ANSWERS_SHOWN]
    parts = [console.table(["characters of the answer", "exact match", "F1", "questions"],
                           [row("all", questions)] + rows)]
    if wrong:
        parts.append("The first wrong answers:\n" + "\n".join(
            "%s  %s\n  answer:    %s\n  predicted: %s" % (
                one.id, one.text, one.answers[0] if one.answers else "-", predictions[one.id])
            for one in wrong))
    return "\n\n".join(parts)


# ---------------------------------------------------------------------------------------------
# What finetuning.run needs to know
# ---------------------------------------------------------------------------------------------

class ReadingComprehension(object):
    """As finetuning.Classification: what is particular to questions about passages."""

    trained_with = ("train_batch_size", "gradient_accumulation_steps", "learning_rate",
                    "max_seq_length", "warmup_proportion", "do_lower_case", "doc_stride",
                    "max_query_length")
    can_distill = False  # answers belong to tokens
    head_file = heads.READING_FILE
    head_flags = ("max_seq_length", "doc_stride", "max_query_length", "max_answer_length")
    dev_results = (("dev_f1", "eval_f1"), ("dev_exact_match", "eval_exact_match"))

    def __init__(self):
        self._may_be_absent = False

    def read_data(self, values, model):
        """Reads and tokenizes the splits that the flags ask for; returns finetuning.Data."""
        task = reading_comprehension.ReadingTask(_task_name(values["task_name"]),
                                                 model_flags.named_files(values))
        needed = finetuning.splits_needed(values)
        folder = model_flags.folder_of(task, values, needed)
        questions = {split: task.read(folder, split) for split in needed}
        self._may_be_absent = self._whether_absent(values, questions)
        if values["null_score_threshold"] is not None and not self._may_be_absent:
            say("WARNING: --null_score_threshold=%g has no effect: this run takes every question "
                "to have an answer, as in its training" % values["null_score_threshold"])
        settings = reading_comprehension.Settings(
            model.tokenizer, values["max_seq_length"], values["doc_stride"],
            values["max_query_length"])
        readings = collections.OrderedDict(
            (split, reading_comprehension.Reading(some, settings, split == "train"))
            for split, some in questions.items())
        if "train" in readings and not readings["train"].questions:
            raise UserError("%s: no passage holds the answer to its question, so there is nothing "
                            "to learn from" % task.path(folder, "train"))
        return finetuning.Data(task, folder, readings)

    @staticmethod
    def _whether_absent(values, questions):
        """Tells whether a passage may hold no answer: as training had it, else as its data say.

        What a run was begun with stays, whichever splits a later call reads. Test has no say: its
        answers may be hidden, and what is asked of a model must not decide what it is.
        """
        path = finetuning.trained_file(values, ReadingComprehension.head_file)
        in_data = {split: any(question.answers == () for question in questions.get(split, ()))
                   for split in ("train", "dev")}
        if not path:
            return any(in_data.values())
        written = files.read_json(path)
        if not isinstance(written, dict):
            raise UserError("%s is damaged: put back the file that training wrote" % path)
        may_be_absent = bool(written.get("answers_may_be_absent"))
        if in_data["dev"] and not may_be_absent:
            say("WARNING: dev holds questions without an answer, and this run (%s) takes every "
                "question to have one: those count as wrong; to learn that answers may be absent, "
                "train in another --output_dir" % path)
        return may_be_absent

    def settings_of_the_model(self, values, task):
        return {"task": task.name, "answers_may_be_absent": self._may_be_absent}

    def settings_of_training(self, task):
        return {}

    def variable_shapes(self, model, task):
        return heads.token_variable_shapes(model.config, model.model_class, 2, SCOPE)

    def settings_of_the_head(self, values, task):
        return {"do_lower_case": values["do_lower_case"],
                "answers_may_be_absent": self._may_be_absent}

    def examples_of(self, data, split):
        return data.examples[split].windows

    def features(self, data, split, output_dir, model, tokenizer_key, values):
        reading = data.examples[split]
        digest = hashlib.sha256(json.dumps([
            VERSION, tokenizer_key, values["max_seq_length"], values["doc_stride"],
            values["max_query_length"]]).encode("utf-8"))
        for question in reading.questions:
            digest.update(json.dumps(question).encode("utf-8"))
        made = features.make_split(split, digest.hexdigest()[:16], reading.windows, output_dir,
                                   WINDOW, reading.features)
        _tell_of_windows(split, reading, values)
        return ReadSplit(*(made + (reading,)))

    def work(self, data, model, settings, values, start):
        return Reader(data.task, model.config, model.model_class, settings, values,
                      self._may_be_absent, start)

    def score_of(self, best):
        return "dev F1", best["eval_f1"]

    def predict(self, work, split, values, prefix, data):
        """Predicts a split, scores it where its answers are known; returns results."""
        predictions = work.predict(split, values["predict_batch_size"], prefix)
        questions = split.reading.questions
        hidden = sum(question.answers is None for question in questions)
        if 0 < hidden < len(questions):
            say("test is not scored: the answers to %d of its %d questions are not in the file"
                % (hidden, len(questions)))
        # Some test files without answers hold invented ones, which stand in no passage.
        if hidden or not any(question.span or question.answers == () for question in questions):
            return {}
        scores = mrc_metrics.score(_gold(questions), predictions)
        print("test exact match %.3f, F1 %.3f on %d questions" % (
            scores.exact_match, scores.f1, scores.questions))
        return {"test_exact_match": scores.exact_match / 100, "test_f1": scores.f1 / 100}


def _tell_of_windows(split, reading, values):
    """Says how many windows a split has, and which answers the lengths put out of reach."""
    numbers = range(len(reading.questions))
    say("%s: %d questions, %d windows" % (split, len(numbers), len(reading.windows)))
    if reading.without_overlap:
        say("WARNING: %s: --doc_stride=%d is no less than a window holds of the passage beside "
            "the question, so that the windows of %d questions do not overlap; give a smaller one"
            % (split, values["doc_stride"], reading.without_overlap))
    beyond = sum(map(reading.is_beyond_windows, numbers))
    if beyond:
        say("WARNING: %s: %d answers stand in no window as a whole and cannot be found: give a "
            "smaller --doc_stride (now %d) or a larger --max_seq_length (now %d)"
            % (split, beyond, values["doc_stride"], values["max_seq_length"]))
    spans = filter(None, map(reading.answer_tokens, numbers))
    longer = sum(last - first >= values["max_answer_length"] for first, last in spans)
    if longer:
        say("%s: %d answers are longer than --max_answer_length=%d tokens and cannot be found"
            % (split, longer, values["max_answer_length"]))


def _task_name(name):
    wanted = (name or "").strip().lower()
    if wanted not in reading_comprehension.TASK_NAMES:
        raise UserError("--task_name=%s is no task of reading comprehension: use one of %s (squad "
                        "is any file in SQuAD's format)" % (
                            name, ", ".join(reading_comprehension.TASK_NAMES)))
    return wanted


def check_values(values):
    """Checks the flags of reading comprehension; UserError names the flag at fault."""
    finetuning.check_values(values)
    for name in ("doc_stride", "max_query_length", "max_answer_length", "n_best_size"):
        if values[name] < 1:
            raise UserError("--%s=%d: at least 1 is needed" % (name, values[name]))
    threshold = values["null_score_threshold"]
    if threshold is not None and not abs(threshold) < float("inf"):
        raise UserError("--null_score_threshold=%g: a number is needed" % threshold)
    room = values["max_seq_length"] - values["max_query_length"] - 3
    if room < reading_comprehension.SHORTEST_PART:
        raise UserError(
            "--max_seq_length=%d leaves %d tokens for the passage beside a question of "
            "--max_query_length=%d: at least %d are needed" % (
                values["max_seq_length"], max(room, 0), values["max_query_length"],
                reading_comprehension.SHORTEST_PART))
