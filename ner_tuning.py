"""Named entities on the encoder: a head that tags every character, its training, its files.

The course of a run is finetuning.py's; this module brings what is particular to tags.

There is no layer of conditional random fields: TensorFlow 1.15's own (tf.contrib.crf) is gone from
2.x, and TensorFlow Addons, which has one for 2.x, has come to its end and never had one for 1.15.
What such a layer forbids, sequences of tags that make no sense, decoding forbids here.

Dimension letters: B batch, S sequence length, L labels (tags).
"""

import collections
import hashlib
import json

import classifier
import entities
import entity_metrics
import features
import files
import finetuning
import heads
import model_flags
import numpy as np
import own_data
import records
import runtime  # noqa: F401 - before TensorFlow
import training_checks
from console import say
from errors import UserError

import tensorflow.compat.v1 as tf

VERSION = 1  # raise when the same sentences would give other windows: caches are then renewed
SCOPE = heads.ENTITY_SCOPE
DECODINGS = ("viterbi", "greedy")

# The window of one sentence, at its own length. `label_mask` is 0 at [CLS] and [SEP].
WINDOW = (
    records.Field("input_ids", "int64", "sequence"),
    records.Field("input_mask", "int64", "sequence"),
    records.Field("segment_ids", "int64", "sequence"),
    records.Field("label_ids", "int64", "sequence"),
    records.Field("label_mask", "int64", "sequence"),
    records.Field("is_real_example", "int64", 1),
)

TagSplit = collections.namedtuple("TagSplit", features.Split._fields + ("tagging",))
TagSplit.__doc__ = """features.Split of the windows, with the entities.Tagging."""


class TagObjective(object):
    """Learns the tag of each character; the tags are the answers [B, S] that count."""

    def __init__(self, config, model_class, labels, use_tpu=False, recompute=False):
        self._config, self._model_class, self._labels = config, model_class, labels
        self._use_tpu, self._recompute = use_tpu, recompute

    def logits(self, features, is_training):
        """Builds encoder and head; [B, S, L]."""
        return heads.token_logits(
            self._config, self._model_class, self._labels, SCOPE, is_training,
            features["input_ids"], features["input_mask"], features["segment_ids"], self._use_tpu,
            self._recompute)

    def weights(self, features):
        return tf.cast(features["label_mask"], tf.float32)

    counts = weights

    def losses(self, features, logits):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=features["label_ids"], logits=logits)

    def right(self, features, logits):
        return tf.equal(features["label_ids"], tf.argmax(logits, -1, output_type=tf.int32))

    def predictions(self, features, logits):
        del features
        return {"log_probabilities": tf.nn.log_softmax(logits)}


class Tagger(classifier.Tuner):
    """A task of named entities, a model and a folder; the methods are the steps of a run."""

    SCHEMA = WINDOW
    COLUMNS = (("dev F1", "eval_f1"), ("precision", "eval_precision"), ("recall", "eval_recall"),
               ("loss", "eval_loss"))
    REPORT_FILES = ("dev_predictions.jsonl",)

    def __init__(self, task, config, model_class, run, max_seq_length, decoding, model_fit=None):
        """Binds the parts: as classifier.Tuner does. decoding: one of DECODINGS."""
        shapes = heads.token_variable_shapes(config, model_class, len(task.labels), SCOPE)
        super(Tagger, self).__init__(task, config, model_class, run, max_seq_length, shapes,
                                     model_fit)
        self._decoding = decoding
        self._rules = entities.rules_for(task.labels)

    def _model_fn(self, model_fit, recipe=None):
        objective = TagObjective(self._config, self._model_class, len(self._task.labels),
                                 self._run.use_tpu, self._run.recompute)
        return classifier.model_fn_of(objective, recipe, model_fit, self._run.use_tpu)

    def _loss_of_chance(self, split):
        counts = collections.Counter(tag for number in range(len(split.tagging.sentences))
                                     for tag in split.tagging.tag_ids(number))
        return training_checks.chance_loss(counts.values())

    def _scores(self, split, batch_size, prefix, label):
        """Returns the log-probabilities [T, L] of each sentence's characters, in a list."""
        of_windows = [None] * len(split.examples)
        for row, prediction in self._predicted(split, batch_size, prefix, label):
            window = split.examples[row]
            of_windows[row] = prediction["log_probabilities"][1:1 + window.end - window.start]
        tagging = split.tagging
        return [tagging.joined(number, [of_windows[window]
                                        for window in tagging.windows_of(number)])
                for number in range(len(tagging.sentences))]

    def _decode(self, scores):
        """Returns the entities in the scores [T, L] of one sentence."""
        if self._decoding == "greedy":
            tags = scores.argmax(axis=1)
        else:
            tags = entities.best_sequence(scores, self._rules)
        return entities.spans_of([self._task.labels[tag] for tag in tags])

    # ---- evaluation

    def _data_key(self, split):
        return "%s %s" % (split.key, self._decoding)

    def _evaluate_one(self, split, batch_size, prefix):
        scores = self._scores(split, batch_size, prefix,
                              "evaluate %s" % prefix.rsplit("/", 1)[-1])
        sentences = split.tagging.sentences
        losses = [-of_text[np.arange(len(of_text)), split.tagging.tag_ids(number)]
                  for number, of_text in enumerate(scores)]
        found = [self._decode(of_text) for of_text in scores]
        report = entity_metrics.report([one.entities for one in sentences], found)
        row = {"step": self._step_of(prefix), "eval_f1": report.f1,
               "eval_precision": report.precision, "eval_recall": report.recall,
               "macro_f1": report.macro_f1, "eval_loss": float(np.mean(np.concatenate(losses)))}
        self._write_scores(row)
        return row, (sentences, found, report)

    def _results(self, best):
        return {name: best[name] for name in (
            "eval_f1", "eval_precision", "eval_recall", "macro_f1", "eval_loss")}

    def _report(self, best, detail):
        """Writes the best checkpoint's scores of every type, its first mistakes, its entities."""
        sentences, found, report = detail
        self._write("dev_predictions.jsonl", sentences, found)
        text = entity_metrics.format_report(report)
        files.write_text(self._path(classifier.REPORT), "%s\n\n%s\n\n%s\n" % (
            classifier.report_heading(best), text,
            entity_metrics.format_mistakes(sentences, found)))
        print(text)
        say("Mistakes: %s" % self._path(classifier.REPORT))

    def _write(self, name, sentences, found):
        files.write_text(self._path(name), "".join(
            entities.prediction_line(sentence, of_text) + "\n"
            for sentence, of_text in zip(sentences, found)))

    # ---- prediction

    def predict(self, split, batch_size, prefix):
        """Writes the entities of a split's texts, and CLUENER's submission; returns the entities.

        Returns:
            list, a sentence each, of lists of entities.Entity.
        """
        sentences = split.tagging.sentences
        say("Tagging %d sentences with %s" % (len(sentences), prefix))
        found = [self._decode(of_text)
                 for of_text in self._scores(split, batch_size, prefix, "predict")]
        self._write("predictions.jsonl", sentences, found)
        say("Wrote %s" % self._path("predictions.jsonl"))
        if self._task.submission_name:
            path = self._path(self._task.submission_name)
            files.write_text(path, "".join(entities.submission_line(sentence, of_text) + "\n"
                                           for sentence, of_text in zip(sentences, found)))
            entities.check_submission(path, sentences, {
                entities.split_tag(label)[1] for label in self._task.labels})
            say("Wrote %s" % path)
        return found


# ---------------------------------------------------------------------------------------------
# What finetuning.run needs to know
# ---------------------------------------------------------------------------------------------

class NamedEntities(object):
    """As finetuning.Classification: what is particular to entities in sentences."""

    trained_with = ("train_batch_size", "gradient_accumulation_steps", "learning_rate",
                    "max_seq_length", "warmup_proportion", "do_lower_case", "doc_stride",
                    "tag_scheme")
    can_distill = False  # answers belong to tokens
    head_file = heads.ENTITY_FILE
    head_flags = ("max_seq_length", "doc_stride")
    dev_results = (("dev_f1", "eval_f1"), ("dev_precision", "eval_precision"),
                   ("dev_recall", "eval_recall"))

    def read_data(self, values, model):
        """Reads the splits that the flags ask for; returns finetuning.Data."""
        task = entities.EntityTask(_task_name(values["task_name"]),
                                   model_flags.named_files(values))
        needed = finetuning.splits_needed(values)
        folder = model_flags.folder_of(task, values, needed)
        sentences = collections.OrderedDict(
            (split, task.read(folder, split)) for split in needed)
        task.labels = self._labels(values, sentences, task, folder)
        settings = entities.Settings(model.tokenizer, values["max_seq_length"],
                                     values["doc_stride"], task.labels, values["tag_scheme"])
        return finetuning.Data(task, folder, collections.OrderedDict(
            (split, entities.Tagging(some, settings)) for split, some in sentences.items()))

    @staticmethod
    def _labels(values, sentences, task, folder):
        """Returns the tags: those of the training data, else of the model that is used."""
        if "train" in sentences:
            types = entities.types_of(sentences["train"])
            if not types:
                raise UserError("%s holds no entity, so there is nothing to learn from"
                                % task.path(folder, "train"))
            labels = tuple(entities.labels_for(types, values["tag_scheme"]))
        else:
            path = finetuning.trained_labels(values)
            if path is None:
                raise UserError("there is no labels.txt beside the checkpoint, which tells what "
                                "entities it knows: train first (--do_train), or name a folder "
                                "that run_ner.py has trained in")
            labels = own_data.read_labels(path)
        known = {entities.split_tag(label)[1] for label in labels}
        for split, some in sentences.items():
            unknown = sorted(set(entities.types_of(some)) - known)
            if unknown:
                say("WARNING: %s holds types of entities that the model does not learn: %s"
                    % (task.path(folder, split), ", ".join(unknown)))
        return labels

    def settings_of_the_model(self, values, task):
        return {"task": task.name, "tag_scheme": values["tag_scheme"]}

    def settings_of_training(self, task):
        return {"labels": list(task.labels)}

    def variable_shapes(self, model, task):
        return heads.token_variable_shapes(model.config, model.model_class, len(task.labels),
                                           SCOPE)

    def settings_of_the_head(self, values, task):
        return {"labels": list(task.labels), "do_lower_case": values["do_lower_case"],
                "tag_scheme": values["tag_scheme"]}

    def examples_of(self, data, split):
        return data.examples[split].windows

    def features(self, data, split, output_dir, model, tokenizer_key, values):
        tagging = data.examples[split]
        digest = hashlib.sha256(json.dumps([
            VERSION, tokenizer_key, values["max_seq_length"], values["doc_stride"],
            list(data.task.labels)]).encode("utf-8"))
        for sentence in tagging.sentences:
            digest.update(json.dumps(sentence).encode("utf-8"))
        made = features.make_split(split, digest.hexdigest()[:16], tagging.windows, output_dir,
                                   WINDOW, tagging.features)
        say("%s: %d sentences, %d windows" % (split, len(tagging.sentences),
                                              len(tagging.windows)))
        apart = sum(one.text == other.text and one.end <= other.start
                    for one, other in zip(tagging.windows, tagging.windows[1:]))
        if apart:
            say("WARNING: %s: --doc_stride=%d is all that a window of --max_seq_length=%d holds, "
                "so that %d windows do not overlap the next, and no window sees what stands on "
                "their edge as a whole; give a smaller one" % (
                    split, values["doc_stride"], values["max_seq_length"], apart))
        return TagSplit(*(made + (tagging,)))

    def work(self, data, model, settings, values, start):
        return Tagger(data.task, model.config, model.model_class, settings,
                      values["max_seq_length"], values["decoding"], start)

    def score_of(self, best):
        return "dev F1", best["eval_f1"]

    def predict(self, work, split, values, prefix, data):
        """Predicts a split, scores it where its entities are known; returns results."""
        found = work.predict(split, values["predict_batch_size"], prefix)
        truth = [sentence.entities for sentence in split.tagging.sentences]
        if any(one is None for one in truth):
            return {}
        report = entity_metrics.report(truth, found)
        print("test entity F1 %.4f, precision %.4f, recall %.4f on %d sentences" % (
            report.f1, report.precision, report.recall, len(truth)))
        return {"test_f1": report.f1, "test_precision": report.precision,
                "test_recall": report.recall}


def _task_name(name):
    wanted = (name or "").strip().lower()
    if wanted not in entities.TASK_NAMES:
        raise UserError("--task_name=%s is no task of named entities: use one of %s (ner is any "
                        "data with tags or spans)" % (name, ", ".join(entities.TASK_NAMES)))
    return wanted


def check_values(values):
    """Checks the flags of named entities; UserError names the flag at fault."""
    finetuning.check_values(values)
    if values["doc_stride"] < 1:
        raise UserError("--doc_stride=%d: at least 1 is needed" % values["doc_stride"])
