"""run.json: what the run in an output folder was started with, on what, with which results.

Two runs that start from different weights never mix in one folder: the second is refused.
"""

import os
import platform
import time

import numpy as np

import files
import runtime  # noqa: F401 - before TensorFlow
from console import say
from errors import UserError

import tensorflow.compat.v1 as tf

NAME = "run.json"
CONFIG_NAME = "albert_config.json"  # beside it: of the folder's model
HASHED_BYTES = 1 << 20


class RunRecord(object):
    """The record of one output folder; written when work begins and when it ends."""

    def __init__(self, output_dir):
        self._path = os.path.join(output_dir, NAME)
        self._folder, self._began = output_dir, time.time()
        self._is_new = not files.exists(self._path)
        self._record = {} if self._is_new else files.read_json(self._path)
        if not isinstance(self._record, dict):
            raise UserError("%s is damaged: remove it, or choose another --output_dir"
                            % self._path)

    def require_same_start(self, init_prefix):
        """Checks that a run that goes on started from the checkpoint now named.

        Args:
            init_prefix: prefix that --init_checkpoint stands for, or None.

        Raises:
            UserError: the run in the folder started from other weights.
        """
        recorded = self._record.get("init_fingerprint")
        if "init_fingerprint" not in self._record or recorded == _fingerprint(init_prefix):
            return
        was = self._record.get("init_checkpoint") or "random weights"
        if init_prefix is None:
            say("WARNING: the run in this folder started from %s; going on with it" % was)
            return
        raise UserError(
            "%s says that the run in this folder started from %s, not from %s; choose an empty "
            "--output_dir" % (self._path, was, init_prefix))

    def require_same_settings(self, settings, refuse, unrecorded=None):
        """Compares settings with those the folder's weights were trained with.

        Args:
            settings: {name: value}; names that were not recorded are passed over.
            refuse: stop at a difference, else warn.
            unrecorded: {name: value} of settings that the folder's run had if it does not say.

        Raises:
            UserError: lists the differences.
        """
        recorded = dict(unrecorded or {}, **self._record.get("trained_with", {}))
        rows = ["\n  %s: %s then, %s now" % (name, recorded[name], value)
                for name, value in settings.items()
                if name in recorded and recorded[name] != value]
        if not rows:
            return
        text = "the run in this folder (%s) was trained with other settings:%s" % (
            self._path, "".join(rows))
        if refuse:
            raise UserError(text + "\nchoose another --output_dir for the new settings")
        say("WARNING: " + text)

    def require_own_vocabulary(self, vocab_file, names):
        """Refuses a folder that holds somebody's other vocabulary, which a run would replace.

        Args:
            vocab_file: the run's vocabulary; names: those that vocabularies go by in a folder.
        """
        for name in names if self._is_new else ():
            path = os.path.join(self._folder, name)
            if files.exists(path) and files.fingerprint(path) != files.fingerprint(vocab_file):
                raise UserError("--output_dir=%s holds another %s, and no run of ours made it; "
                                "choose an empty --output_dir" % (self._folder, name))

    def require_own_config(self, config):
        """Refuses a folder that holds somebody's other configuration, which a run would replace.

        Args:
            config: the run's.
        """
        path = os.path.join(self._folder, CONFIG_NAME)
        if not (self._is_new and files.exists(path)):
            return
        try:
            is_same = type(config).from_json_file(path).to_dict() == config.to_dict()
        except UserError:  # it is no configuration, or one of the other layout
            is_same = False
        if not is_same:
            raise UserError("--output_dir=%s holds another %s, and no run of ours made it; choose "
                            "an empty --output_dir" % (self._folder, CONFIG_NAME))

    def require_own_folder(self, init_prefix):
        """Refuses to train in the folder of the checkpoint that a new run starts from.

        The folder's name would then stand for what was trained, and no longer for where it began.

        Args:
            init_prefix: prefix that --init_checkpoint stands for, or None.
        """
        if self._is_new and init_prefix and (
                files.place_of(os.path.dirname(init_prefix) or ".")
                == files.place_of(self._folder)):
            raise UserError("--output_dir=%s is the folder of --init_checkpoint: choose another "
                            "one, so that the model there stays what it is" % self._folder)

    def exports(self):
        """Returns the fingerprints of the checkpoints that this run has exported."""
        return list(self._record.get("exports", ()))

    def add_export(self, prefix):
        """Remembers an exported checkpoint, which a later export of this run may replace."""
        self._record["exports"] = sorted(set(self.exports()) | {_fingerprint(prefix)})
        files.write_json(self._path, self._record)

    def begin(self, flag_values, init_prefix, keep_start, config=None, data=()):
        """Writes what the run is started with; what an earlier training wrote stays.

        Args:
            flag_values: {flag: value}; beside those of an earlier call, as those of the last one.
            init_prefix: prefix of the checkpoint it starts from, or None.
            keep_start: the run goes on, so its recorded start stays.
            config: the model's configuration.
            data: paths of the data files.
        """
        if not (keep_start and "init_fingerprint" in self._record):
            self._record["init_checkpoint"] = init_prefix
            self._record["init_fingerprint"] = _fingerprint(init_prefix)
        self._record["versions"] = {
            "tensorflow": tf.__version__, "python": platform.python_version(),
            "numpy": np.__version__, "platform": platform.platform()}
        self._record["config"] = config and config.to_dict()
        self._record["data"] = dict(self._record.get("data", {}), **{
            path: _data_fingerprint(path) for path in data})
        shown = {name: value for name, value in sorted(flag_values.items())
                 if isinstance(value, (str, int, float, bool, type(None)))}
        if "flags" in self._record:
            self._record["flags_of_last_call"] = shown
        else:
            self._record["flags"] = shown
        files.write_json(self._path, self._record)

    def begin_training(self, trained_with):
        """Says after `begin`, and just before, that there are steps to train.

        Only then do flags and results of an earlier training give way: who repeats a command has
        nothing to lose by an interruption.

        Args:
            trained_with: {name: value} of the settings that shape the weights.
        """
        self._record["trained_with"] = trained_with
        self._record["flags"] = self._record.pop("flags_of_last_call", self._record["flags"])
        self._record.pop("results", None)
        files.write_json(self._path, self._record)

    def finish(self, results=None):
        """Adds the seconds since this object was made, and results, to the record."""
        seconds = self._record.get("seconds", 0.0) + time.time() - self._began
        self._record["seconds"] = round(seconds, 1)
        self._record["results"] = dict(self._record.get("results", {}), **(results or {}))
        files.write_json(self._path, self._record)


def _data_fingerprint(path):
    """Returns size and hash of a data file; its first part stands for all: there may be many."""
    return {"bytes": files.size(path), "sha256_of_first_bytes": HASHED_BYTES,
            "sha256": files.fingerprint(path, HASHED_BYTES)}


def _fingerprint(prefix):
    return None if prefix is None else files.fingerprint(prefix + ".index")
