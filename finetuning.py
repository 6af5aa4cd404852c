"""The course of a fine-tuning run, for both layouts: flags, checks, start, features, steps.

classifier.py does the work; this module decides, from the flags' values, what is to be done and
refuses what cannot be before anything is written.
"""

import collections
import functools
import os

import checkpoints
import classifier
import curves
import distribution
import estimators
import features
import files
import fine_tuning_methods
import heads
import interruption
import optimization
import own_data
import run_lock
import run_record
import selection
import tasks
import tokenization
import training_checks
from absl import flags
from console import say
from errors import UserError

# Settings that shape the weights: a folder's run never goes on with others.
TRAINED_WITH = ("train_batch_size", "gradient_accumulation_steps", "learning_rate",
                "max_seq_length", "warmup_proportion", "do_lower_case", "truncate",
                "use_pooled_output", "class_weights")

CLASS_WEIGHTS = ("none", "balanced")

MOST_LABELS_SHOWN = 10

Model = collections.namedtuple("Model", ["config", "model_class", "tokenizer"])
Model.__doc__ = "What a script brings: configuration, encoder class, tokenizer."

Data = collections.namedtuple("Data", ["task", "folder", "examples"])
Data.__doc__ = "A task, its folder, and {split: list of tasks.Example} of the splits needed."


def define_flags(max_seq_length=128):
    """Defines the flags that the scripts for classifiers share."""
    flags.DEFINE_string("text_columns", None, "Your own data: the text's columns, by name or by "
                        "position from 1, comma-separated; found when not given.")
    flags.DEFINE_string("label_column", None, "Your own data: the label's column.")
    flags.DEFINE_enum("truncate", "head", features.TRUNCATIONS, "Which part of a longer text is "
                      "kept; head_tail: a quarter from its start, the rest from its end.")
    flags.DEFINE_bool("use_pooled_output", True, "Classify the pooled first token; False: the "
                      "mean over all tokens, padding left out.")
    flags.DEFINE_enum("class_weights", "none", CLASS_WEIGHTS, "balanced: a class counts the more "
                      "in the loss the rarer it is.")
    flags.DEFINE_enum("predict_split", "test", tasks.SPLITS, "What --do_predict predicts; of train "
                      "or dev it writes a file for --teacher_logits.")
    define_common_flags(own_data.names(), max_seq_length)


def define_common_flags(task_names, max_seq_length):
    """Defines the flags that the fine-tuning scripts of all tasks share."""
    flags.DEFINE_string("data_dir", None, "Folder with the task's data files.")
    flags.DEFINE_string("task_name", None, "One of: %s." % ", ".join(task_names))
    flags.DEFINE_string("vocab_file", None, "Vocabulary, one entry a line.")
    flags.DEFINE_string("init_checkpoint", None, "Checkpoint or folder to start from.")
    flags.DEFINE_bool("allow_partial_init", False, "Load what fits of --init_checkpoint, "
                      "initialise the rest anew.")
    flags.DEFINE_bool("do_lower_case", True, "Lower-case the text, as for uncased vocabularies.")
    flags.DEFINE_integer("max_seq_length", max_seq_length,
                         "Longest input in tokens; longer ones are cut.")
    flags.DEFINE_bool("do_train", False, "Train on the train split.")
    flags.DEFINE_bool("do_eval", False, "Evaluate the run's checkpoints on the dev split.")
    flags.DEFINE_bool("do_predict", False, "Predict the test split with the best checkpoint.")
    flags.DEFINE_string("predict_checkpoint", None, "Predict with this one instead of the best.")
    flags.DEFINE_integer("train_batch_size", 32, "Examples per training step.")
    flags.DEFINE_integer("eval_batch_size", 8, "Examples per evaluation step.")
    flags.DEFINE_integer("predict_batch_size", 8, "Examples per prediction step.")
    flags.DEFINE_float("learning_rate", 5e-5, "Peak learning rate of AdamW.")
    flags.DEFINE_float("num_train_epochs", 3.0, "Passes over the training data.")
    flags.DEFINE_integer("max_train_steps", 0, "Train this many steps at most; 0: all epochs.")
    flags.DEFINE_float("warmup_proportion", 0.1, "Share of the steps with a rising rate.")
    fine_tuning_methods.define_flags()
    estimators.define_flags(save_checkpoints_steps=1000)


# ---------------------------------------------------------------------------------------------
# Checks
# ---------------------------------------------------------------------------------------------

def check_values(values):
    """Checks the flags' values; UserError names the flag at fault. values: {flag: value}."""
    for name, least in (("max_seq_length", 5), ("train_batch_size", 1), ("eval_batch_size", 1),
                        ("predict_batch_size", 1), ("max_train_steps", 0)):
        if values[name] < least:
            raise UserError("--%s=%d: at least %d is needed" % (name, values[name], least))
    for name in ("learning_rate", "num_train_epochs"):
        if not 0 < values[name] < float("inf"):
            raise UserError("--%s=%g: a number above 0 is needed" % (name, values[name]))
    if not 0 <= values["warmup_proportion"] < 1:
        raise UserError("--warmup_proportion=%g: a share from 0 to below 1 is needed"
                        % values["warmup_proportion"])
    fine_tuning_methods.check_values(values)
    if not (values["do_train"] or values["do_eval"] or values["do_predict"]):
        raise UserError("nothing to do: give --do_train, --do_eval or --do_predict")
    if values["predict_checkpoint"] and not values["do_predict"]:
        raise UserError("--predict_checkpoint=%s has no effect without --do_predict"
                        % values["predict_checkpoint"])


# ---------------------------------------------------------------------------------------------
# The course of a run
# ---------------------------------------------------------------------------------------------

def run(values, settings, model, kind=None):
    """Trains, evaluates and predicts as the flags say.

    Args:
        values: {flag: value}, checked by `check_values`.
        settings: estimators.RunSettings.
        model: Model.
        kind: Classification, or what another kind of task brings in its place.

    Raises:
        UserError: something does not fit; nothing has then been written.
    """
    with interruption.terminable(), run_lock.RunLock(
            settings.output_dir, distribution.is_chief(settings)) as lock:
        _run_alone(values, settings, model, kind or Classification(), lock)


def _run_alone(values, settings, model, kind, lock):
    """As `run`, for the only run in the folder; lock: run_lock.RunLock."""
    # ---- everything that can be refused
    model.config.require_positions(values["max_seq_length"])
    estimators.require_full_cores(settings, values)
    estimators.require_one_host(settings, values)
    tokenization.require_fits(model.tokenizer, model.config.vocab_size)
    data = kind.read_data(values, model)
    record = run_record.RunRecord(settings.output_dir)
    trained_with = require_same_training(record, values, settings, data, model, kind)
    used = _as_used(values)
    start, chosen = starting_points(record, used, settings, data, model, kind)
    if values["do_predict"] and predicted_split(values) != "test" and not kind.can_distill:
        raise UserError("--predict_split=%s is for tasks whose rows have one class each"
                        % predicted_split(values))
    methods = fine_tuning_methods.read(
        values, settings, model.config, data.examples["train"], data.task.labels,
        kind.can_distill) if values["do_train"] else None
    record.require_own_vocabulary(model.tokenizer.file, tokenization.KEPT_AS)
    keeps_files = values["do_train"] or not checkpoints.latest_in(settings.output_dir)
    if keeps_files:
        record.require_own_config(model.config)
    if values["do_train"]:
        trained_with["num_train_steps"] = require_steps_to_come(
            record, len(kind.examples_of(data, "train")), values, settings)

    # ---- features
    files.make_dir(settings.output_dir, "output_dir")
    if distribution.is_chief(settings):
        lock.take()
        checkpoints.remove_unfinished(settings.output_dir)
        record.begin(
            values, start and start.prefix, config=model.config,
            keep_start=bool(checkpoints.latest_in(settings.output_dir)),
            data=[path for split in data.examples
                  for path in data.task.paths(data.folder, split)])
    key = "%s %s" % (files.fingerprint(model.tokenizer.file), values["do_lower_case"])
    splits = {split: kind.features(data, split, settings.output_dir, model, key, values)
              for split in data.examples}
    if distribution.is_chief(settings) and keeps_files:
        keep_model_files(settings.output_dir, model, data, values, kind)

    # ---- training, evaluation, prediction
    work = kind.work(data, model, settings, values, start)
    results = {}
    if values["do_train"]:
        training_checks.warn_of_no_dropout(model.config)
        recipe = recipe_for(splits["train"].examples, data.task.labels, values, settings)
        work.train(splits["train"], values["train_batch_size"], recipe._replace(methods=methods),
                   functools.partial(record.begin_training, trained_with)
                   if distribution.is_chief(settings) else None)
    if not distribution.is_chief(settings):
        return  # the rest is one machine's work
    if values["do_eval"]:
        best = work.evaluate(splits["dev"], values["eval_batch_size"],
                             candidates(settings.output_dir, used["init_checkpoint"]))
        say("Best: %s, %s %.4f" % ((best["checkpoint"],) + kind.score_of(best)))
        results.update({name: best[key] for name, key in kind.dev_results})
    if values["do_predict"]:
        if chosen is None:
            there = candidates(settings.output_dir, used["init_checkpoint"])
            chosen = selection.recorded_best(settings.output_dir, there) or there[-1]
        results.update(kind.predict(work, splits[predicted_split(values)], values, chosen, data))
    record.finish(results)
    if values["do_train"] or values["do_eval"]:
        curves.draw(settings.output_dir)


class Classification(object):
    """What a run needs to know of the kind of its task: here, that texts have classes.

    Other kinds bring the same attributes and methods; `values` are the flags', {flag: value}.
    """

    trained_with = TRAINED_WITH
    can_distill = True  # an answer is one class for each row of the data
    head_file = heads.CLASSIFIER_FILE  # beside the checkpoints: what the head was trained with
    head_flags = ("max_seq_length", "do_lower_case", "use_pooled_output", "truncate")
    # Results in run.json: pairs of name and key of the row of the best checkpoint.
    dev_results = (("dev_accuracy", "eval_accuracy"), ("dev_macro_f1", "macro_f1"))

    def read_data(self, values, model):
        """Reads the splits that the flags ask for; returns Data."""
        del model
        task = own_data.resolve(with_columns_of_training(values), trained_labels(values))
        if not values["data_dir"]:
            raise UserError("--data_dir is missing: name the folder with the data of task %s; %s"
                            % (task.name, task.remedy()))
        folder = task.folder(values["data_dir"])
        return Data(task, folder, {split: task.read(folder, split)
                                   for split in splits_needed(values)})

    def settings_of_the_model(self, values, task):
        """Returns {name: value} of what evaluation and prediction must share with training."""
        return {"task": task.name, "use_pooled_output": values["use_pooled_output"]}

    def settings_of_training(self, task):
        """Returns {name: value} of what else shaped the weights, beside the flags."""
        return {"text_columns": task.text_columns, "label_column": task.label_column}

    def variable_shapes(self, model, task):
        """Returns {name: shape} of the encoder with its head."""
        return heads.classifier_variable_shapes(model.config, model.model_class, len(task.labels))

    def settings_of_the_head(self, values, task):
        """Returns {name: value} of what makes the head's answers wrong if it were another."""
        return {"labels": list(task.labels), "do_lower_case": values["do_lower_case"],
                "use_pooled_output": values["use_pooled_output"]}

    def examples_of(self, data, split):
        """Returns what a batch has a row for each of, a list."""
        return data.examples[split]

    def features(self, data, split, output_dir, model, tokenizer_key, values):
        """Returns the features.Split of a split."""
        making = features.Settings(model.tokenizer, tokenizer_key, values["max_seq_length"],
                                   values["truncate"])
        return features.split_features(data.task, split, data.examples[split], output_dir, making)

    def work(self, data, model, settings, values, start):
        """Returns the classifier.Tuner. start: checkpoints.Fit or None."""
        return classifier.Classifier(data.task, model.config, model.model_class, settings,
                                     values["max_seq_length"], values["use_pooled_output"], start)

    def score_of(self, best):
        """Returns (name, value) of the score that the best checkpoint was chosen by."""
        return "dev accuracy", best["eval_accuracy"]

    def predict(self, work, split, values, prefix, data):
        """Predicts a split; returns {name: value} of results for run.json."""
        name = predicted_split(values)
        predicted = work.predict(split, values["predict_batch_size"], prefix, name)
        scores = classifier.score(split.examples, predicted, data.task.labels)
        if scores is None:
            return {}
        print("%s accuracy %.4f, macro-F1 %.4f on %d examples" % (
            name, scores.accuracy, scores.macro_f1, scores.matrix.sum()))
        if name == "dev":  # whose results are those of --do_eval
            return {}
        return {name + "_accuracy": scores.accuracy, name + "_macro_f1": scores.macro_f1}


def splits_needed(values):
    """Returns the names of the splits that the flags ask for."""
    asked = {"train": values["do_train"], "dev": values["do_eval"]}
    if values["do_predict"]:
        asked[predicted_split(values)] = True
    return [split for split in tasks.SPLITS if asked.get(split)]


def predicted_split(values):
    """Returns the name of the split that --do_predict predicts."""
    return values.get("predict_split") or "test"


def trained_labels(values):
    """Returns the labels.txt of the checkpoint that the run goes on from or uses, or None."""
    return trained_file(values, "labels.txt")


def with_columns_of_training(values):
    """Returns `values` with the columns that training was told, where this call tells none.

    Else evaluation and prediction could find others in the same files.
    """
    path = None if values["do_train"] else trained_file(values, run_record.NAME)
    told = files.read_json(path).get("flags", {}) if path else {}
    if told.get("task_name") != values["task_name"]:
        return values
    return dict(values, **{name: told[name] for name in ("text_columns", "label_column")
                           if told.get(name) and not values.get(name)})


def trained_file(values, name):
    """Returns a file beside the checkpoint that the run goes on from or uses, None without one."""
    folders = [values["output_dir"]] if checkpoints.latest_in(values["output_dir"]) else []
    if not values["do_train"]:
        folders = [_folder_of(values[flag], flag)
                   for flag in ("predict_checkpoint",) if values[flag]] + folders + [
            _folder_of(values[flag], flag) for flag in ("init_checkpoint",) if values[flag]]
    paths = [os.path.join(folder, name) for folder in folders]
    return next((path for path in paths if files.exists(path)), None)


def _folder_of(path, flag):
    """Returns the folder of the checkpoint that a flag names."""
    return path if files.is_dir(path) else os.path.dirname(checkpoints.resolve(path, flag))


def _as_used(values):
    """Returns `values` whose --init_checkpoint is what evaluation and prediction are to use.

    Of a folder that is the best checkpoint, unless the run's own are used or it is trained on.
    """
    named = values["init_checkpoint"]
    if not named or values["do_train"] or checkpoints.latest_in(values["output_dir"]):
        return values
    return dict(values, init_checkpoint=selection.choose(named, "init_checkpoint"))


def require_same_training(record, values, settings, data, model, kind):
    """Refuses a folder whose run was trained on another task, other data or other settings.

    Returns:
        {name: value} to record when this run trains, else None.
    """
    of_the_model = kind.settings_of_the_model(values, data.task)
    if not values["do_train"]:
        record.require_same_settings(of_the_model, refuse=True)
        return None
    trained_with = {name: values[name] for name in kind.trained_with}
    trained_with.update(of_the_model, **kind.settings_of_training(data.task))
    # How many steps there are to be, and which examples come next, follows from these.
    trained_with.update(random_seed=values["random_seed"], examples_of_a_step=(
        distribution.examples_per_step(settings, values["train_batch_size"])))
    trained_with.update({name: getattr(model.config, name) for name in (
        "hidden_dropout_prob", "attention_probs_dropout_prob")})
    trained_with.update(fine_tuning_methods.trained_with(values))
    trained_with.update(
        vocabulary=files.fingerprint(model.tokenizer.file)[:16],
        train_data=" ".join(files.fingerprint(path)[:16]
                            for path in data.task.paths(data.folder, "train")))
    if checkpoints.trained_in(values["output_dir"]):
        record.require_same_settings(trained_with, refuse=True,
                                     unrecorded=fine_tuning_methods.PLAIN)
    return trained_with


def require_steps_to_come(record, examples, values, settings):
    """Compares how many steps there are to be with what was trained; returns their number.

    Args:
        examples: how many there are to train on.

    Raises:
        UserError: the folder's run is longer; its results would be taken for those of a shorter.
    """
    steps = steps_of(examples, values, settings)
    done = checkpoints.step_reached(settings.output_dir)
    if done > steps:
        raise UserError("--output_dir=%s holds a run of %d steps, and %d are asked for: choose "
                        "another --output_dir for a shorter one" % (
                            settings.output_dir, done, steps))
    if done:
        record.require_same_settings({"num_train_steps": steps}, refuse=False)
    return steps


def require_same_classifier(folder, values, task, tokenizer, kind=None):
    """Refuses to use the classifier (or other head) in a folder so that its answers are wrong.

    Its length and truncation may be others than in training: what it answers is then its answer.
    """
    kind = kind or Classification()
    path = os.path.join(folder, kind.head_file)
    if not files.exists(path):
        return
    written = files.read_json(path)
    if not isinstance(written, dict):
        raise UserError("%s is damaged: put back the file that training wrote" % path)
    if written.get("task", task.name) != task.name:
        say("WARNING: the classifier in %s was trained on %s, not on %s" % (
            folder, written["task"], task.name))
    now = kind.settings_of_the_head(values, task)
    rows = [(name, _shown(written[name]), _shown(value)) for name, value in now.items()
            if name in written and written[name] != value]
    vocabularies = [os.path.join(folder, name) for name in tokenization.KEPT_AS
                    if files.exists(os.path.join(folder, name))]
    if vocabularies and files.fingerprint(tokenizer.file) not in map(
            files.fingerprint, vocabularies):
        rows.append(("vocabulary", " or ".join(vocabularies), tokenizer.file))
    if rows:
        raise UserError(
            "%s: the classifier in this folder was trained with other settings:%s\nuse it with "
            "its own, and choose another --output_dir for another classifier's predictions"
            % (path, "".join("\n  %s: %s then, %s now" % row for row in rows)))


def _shown(value):
    if not isinstance(value, list):
        return value
    more = ["..."] if len(value) > MOST_LABELS_SHOWN else []
    return "%d (%s)" % (len(value), ", ".join(map(str, value[:MOST_LABELS_SHOWN] + more)))


def keep_model_files(output_dir, model, data, values, kind):
    """Puts beside the checkpoints what those who use them need."""
    files.write_text(os.path.join(output_dir, run_record.CONFIG_NAME),
                     model.config.to_json_string())
    if data.task.labels:
        files.write_text(os.path.join(output_dir, "labels.txt"),
                         "".join(label + "\n" for label in data.task.labels))
    settings = {name: values[name] for name in kind.head_flags}
    settings.update(kind.settings_of_the_head(values, data.task), task=data.task.name)
    files.write_json(os.path.join(output_dir, kind.head_file), settings)
    name = tokenization.KEPT_AS[model.tokenizer.is_sentencepiece]
    target, source = os.path.join(output_dir, name), model.tokenizer.file
    if not files.exists(target) or files.fingerprint(target) != files.fingerprint(source):
        files.copy(source, target)


def starting_points(record, values, settings, data, model, kind):
    """Decides where the weights come from.

    Returns:
        (checkpoints.Fit to start training from or None, prefix named to predict with or None).
    """
    shapes = kind.variable_shapes(model, data.task)
    start, chosen = None, None
    if values["do_train"] or values["do_eval"] or not values["predict_checkpoint"]:
        start = checkpoints.starting_point(
            model.config, shapes, record, settings.output_dir, values["init_checkpoint"],
            values["allow_partial_init"],
            optimization.AdamWeightDecayOptimizer.SLOT_NAMES if values["do_train"] else (),
            fresh_heads=values["do_train"] and has_other_labels(values, data.task))
    if values["predict_checkpoint"]:
        chosen = selection.choose(values["predict_checkpoint"], "predict_checkpoint")
        checkpoints.fit_with_heads(chosen, shapes)
        checkpoints.require_same_config(model.config, chosen)
    used = [chosen]
    if not values["do_train"]:
        used += [start and start.prefix, checkpoints.latest_in(settings.output_dir)]
    for prefix in filter(None, used):
        require_same_classifier(os.path.dirname(prefix), values, data.task, model.tokenizer, kind)
    return start, chosen


def has_other_labels(values, task):
    """Tells whether the classifier of --init_checkpoint has other labels than the task."""
    if not values["init_checkpoint"]:
        return False
    folder = os.path.dirname(checkpoints.resolve(values["init_checkpoint"]))
    if files.exists(os.path.join(folder, heads.CHOICE_FILE)):
        return bool(task.labels)
    path = os.path.join(folder, "labels.txt")
    return files.exists(path) and own_data.read_labels(path) != tuple(task.labels)


def steps_of(examples, values, settings):
    """Returns how many steps the flags ask for, where there are so many examples."""
    in_a_step = distribution.examples_per_step(settings, values["train_batch_size"])
    steps = max(int(examples / in_a_step * values["num_train_epochs"]), 1)
    return min(steps, values["max_train_steps"] or steps)


def recipe_for(examples, labels, values, settings):
    """Returns the classifier.Recipe for training examples.

    Args:
        values: {flag: value}; settings: estimators.RunSettings.
    """
    steps, weights = steps_of(len(examples), values, settings), None
    if values.get("class_weights") == "balanced":
        weights = balanced_weights(examples, labels)
        say("Class weights: %s" % ", ".join(
            "%s %.3g" % pair for pair in zip(labels, weights)))
    return classifier.Recipe(values["learning_rate"], steps,
                             int(steps * values["warmup_proportion"]), weights,
                             settings.gradient_accumulation_steps,
                             settings.precision == "float16")


def balanced_weights(examples, labels):
    """Returns n / (C count) for each class, 1 for one without examples: all classes weigh alike."""
    counts = collections.Counter(example.label for example in examples)
    present = sum(1 for label in labels if counts[label])
    return [len(examples) / (present * counts[label]) if counts[label] else 1.0
            for label in labels]


def candidates(output_dir, init_checkpoint):
    """Returns the checkpoints that a run saved while training, or else the one to start from."""
    return checkpoints.trained_in(output_dir) or [
        checkpoints.latest_in(output_dir) or checkpoints.resolve(init_checkpoint)]
