"""The course of a fine-tuning run, for both layouts: flags, checks, start, features, steps.

classifier.py does the work; this module decides, from the flags' values, what is to be done and
refuses what cannot be before anything is written.
"""

import collections

import checkpoints
import classifier
import estimators
import files
import run_record
import tasks
from absl import flags
from console import say
from errors import UserError
from optimization import AdamWeightDecayOptimizer

# Settings that shape the weights: a folder's run never goes on with others.
TRAINED_WITH = ("train_batch_size", "learning_rate", "max_seq_length", "warmup_proportion",
                "do_lower_case")

Model = collections.namedtuple("Model", ["config", "model_class", "tokenizer", "vocab_file"])
Model.__doc__ = "What a script brings: configuration, encoder class, tokenizer and its file."

Data = collections.namedtuple("Data", ["task", "folder", "examples"])
Data.__doc__ = "A task, its folder, and {split: list of tasks.Example} of the splits needed."


def define_flags(max_seq_length=128):
    """Defines the flags that all fine-tuning scripts share."""
    flags.DEFINE_string("data_dir", None, "Folder with the task's data files.")
    flags.DEFINE_string("task_name", None, "One of: %s." % ", ".join(tasks.names()))
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
    if not (values["do_train"] or values["do_eval"] or values["do_predict"]):
        raise UserError("nothing to do: give --do_train, --do_eval or --do_predict")


def check_vocabulary(tokenizer, config, vocab_file):
    """Raises UserError when the vocabulary has more entries than the embedding table has rows."""
    sizes = "--vocab_file=%s has %d entries, the configuration's vocab_size is %d" % (
        vocab_file, len(tokenizer.vocab), config.vocab_size)
    if len(tokenizer.vocab) > config.vocab_size:
        raise UserError(sizes + "; use the vocabulary that belongs to the model")
    if len(tokenizer.vocab) < config.vocab_size:
        say("WARNING: %s: is it the vocabulary of this model?" % sizes)


# ---------------------------------------------------------------------------------------------
# The course of a run
# ---------------------------------------------------------------------------------------------

def run(values, settings, model):
    """Trains, evaluates and predicts as the flags say.

    Args:
        values: {flag: value}, checked by `check_values`.
        settings: estimators.RunSettings.
        model: Model.

    Raises:
        UserError: something does not fit; nothing has then been written.
    """
    # ---- everything that can be refused
    if values["max_seq_length"] > model.config.max_position_embeddings:
        raise UserError("--max_seq_length=%d is beyond the %d positions of the configuration" % (
            values["max_seq_length"], model.config.max_position_embeddings))
    check_vocabulary(model.tokenizer, model.config, model.vocab_file)
    data = read_data(values)
    record = run_record.RunRecord(settings.output_dir)
    trained_with = require_same_training(record, values, data, model)
    start, chosen = starting_points(record, values, settings, data, model)

    # ---- features
    files.make_dir(settings.output_dir, "output_dir")
    record.begin(values, start and start.prefix, trained_with=trained_with,
                 keep_start=bool(checkpoints.latest_in(settings.output_dir)))
    key = "%s %s" % (files.fingerprint(model.vocab_file), values["do_lower_case"])
    splits = {split: classifier.split_features(
        data.task, split, examples, data.folder, settings.output_dir, model.tokenizer, key,
        values["max_seq_length"]) for split, examples in data.examples.items()}
    classifier.keep_model_files(settings.output_dir, model.config, model.vocab_file,
                                data.task.labels)

    # ---- training, evaluation, prediction
    work = classifier.Classifier(data.task, model.config, model.model_class, settings,
                                 values["max_seq_length"], start)
    results = {}
    if values["do_train"]:
        work.train(splits["train"], values["train_batch_size"],
                   recipe_for(len(splits["train"].examples), values))
    if values["do_eval"]:
        best = work.evaluate(splits["dev"], values["eval_batch_size"],
                             candidates(settings.output_dir, values["init_checkpoint"]))
        say("Best: %s, dev accuracy %.4f" % (best["checkpoint"], best["eval_accuracy"]))
        results["dev_accuracy"] = best["eval_accuracy"]
    if values["do_predict"]:
        if chosen is None:
            there = candidates(settings.output_dir, values["init_checkpoint"])
            chosen = work.recorded_best(there) or there[-1]
        predicted = work.predict(splits["test"], values["predict_batch_size"], chosen)
        score = classifier.accuracy(splits["test"].examples, predicted)
        if score is not None:
            print("test accuracy %.4f on %d examples" % (score, len(predicted)))
            results["test_accuracy"] = score
    record.finish(results)


def read_data(values):
    """Reads the splits that the flags ask for; returns Data."""
    task = tasks.get(values["task_name"])
    if not values["data_dir"]:
        raise UserError("--data_dir is missing: name the folder with the data of task %s; %s"
                        % (task.name, task.remedy()))
    folder = task.folder(values["data_dir"])
    needed = (("train", "do_train"), ("dev", "do_eval"), ("test", "do_predict"))
    return Data(task, folder, {split: task.read(folder, split)
                               for split, flag in needed if values[flag]})


def require_same_training(record, values, data, model):
    """Refuses a folder whose run was trained on another task, other data or other settings.

    Returns:
        {name: value} to record when this run trains, else None.
    """
    if not values["do_train"]:
        record.require_same_settings({"task": data.task.name}, refuse=True)
        return None
    trained_with = {name: values[name] for name in TRAINED_WITH}
    trained_with.update(
        task=data.task.name, vocabulary=files.fingerprint(model.vocab_file)[:16],
        train_data=files.fingerprint(data.task.path(data.folder, "train"))[:16])
    record.require_same_settings(trained_with, refuse=True)
    return trained_with


def starting_points(record, values, settings, data, model):
    """Decides where the weights come from.

    Returns:
        (checkpoints.Fit to start training from or None, prefix named to predict with or None).
    """
    shapes = classifier.variable_shapes(model.config, model.model_class, len(data.task.labels))
    start, chosen = None, None
    if values["do_train"] or values["do_eval"] or not values["predict_checkpoint"]:
        start = checkpoints.starting_point(
            model.config, shapes, record, settings.output_dir, values["init_checkpoint"],
            values["allow_partial_init"],
            AdamWeightDecayOptimizer.SLOT_NAMES if values["do_train"] else ())
    if values["predict_checkpoint"]:
        chosen = checkpoints.resolve(values["predict_checkpoint"], "predict_checkpoint")
        checkpoints.fit_with_heads(chosen, shapes)
        checkpoints.require_same_config(model.config, chosen)
    return start, chosen


def recipe_for(count, values):
    """Returns the classifier.Recipe for `count` training examples. values: {flag: value}."""
    steps = max(int(count / values["train_batch_size"] * values["num_train_epochs"]), 1)
    if values["max_train_steps"]:
        steps = min(steps, values["max_train_steps"])
    return classifier.Recipe(values["learning_rate"], steps,
                             int(steps * values["warmup_proportion"]))


def candidates(output_dir, init_checkpoint):
    """Returns the checkpoints that a run saved while training, or else the one to start from."""
    saved = [prefix for prefix in checkpoints.prefixes_in(output_dir)
             if checkpoints.step_in_name(prefix) > 0]
    return saved or [checkpoints.latest_in(output_dir) or checkpoints.resolve(init_checkpoint)]
