"""run.json: what a run was started with, and what may follow it in the same folder."""

import hashlib
import json

import numpy as np
import pytest
from helpers import TINY, read

import files
import modeling
import run_record
from errors import UserError

import tensorflow.compat.v1 as tf


@pytest.fixture()
def prefix(tmp_path):
    files.write_text(str(tmp_path / "init.ckpt.index"), "weights")
    return str(tmp_path / "init.ckpt")


def written(folder):
    return json.loads(read(str(folder / run_record.NAME)).decode("utf-8"))


def begin(folder, prefix=None, keep_start=False, **others):
    record = run_record.RunRecord(str(folder))
    trained_with = others.pop("trained_with", None)
    record.begin(others.pop("flags", {}), prefix, keep_start, **others)
    if trained_with is not None:
        record.begin_training(trained_with)
    return record


def test_a_run_is_recorded_when_it_begins(tmp_path, prefix):
    data = tmp_path / "train.tsv"
    data.write_bytes(b"one\t1\n")
    config = modeling.BertConfig.from_dict(TINY)
    begin(tmp_path, prefix, config=config, data=[str(data)], trained_with={"learning_rate": 0.1},
          flags={"z": 1.5, "a": None, "names": ["not", "a", "scalar"], "do_train": True})
    record = written(tmp_path)
    assert record["versions"]["tensorflow"] == tf.__version__
    assert record["versions"]["numpy"] == np.__version__
    assert set(record["versions"]) == {"tensorflow", "python", "numpy", "platform"}
    assert record["config"] == config.to_dict() and record["config"]["hidden_size"] == 16
    assert record["data"][str(data)]["bytes"] == 6
    assert record["data"][str(data)]["sha256"] == hashlib.sha256(b"one\t1\n").hexdigest()
    assert record["flags"] == {"z": 1.5, "a": None, "do_train": True}
    assert record["init_checkpoint"] == prefix and "results" not in record


def test_of_a_large_file_the_first_part_is_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr(run_record, "HASHED_BYTES", 4)
    data = tmp_path / "data.tfrecord"
    data.write_bytes(b"123456")
    begin(tmp_path, data=[str(data)])
    assert written(tmp_path)["data"] == {str(data): {
        "bytes": 6, "sha256_of_first_bytes": 4, "sha256": hashlib.sha256(b"1234").hexdigest()}}


def test_seconds_add_up_over_the_runs_in_a_folder(tmp_path):
    begin(tmp_path).finish({"dev_accuracy": 0.5})
    first = written(tmp_path)
    assert first["results"] == {"dev_accuracy": 0.5} and first["seconds"] >= 0
    first["seconds"] = 100.0
    files.write_json(str(tmp_path / run_record.NAME), first)
    begin(tmp_path).finish()
    assert written(tmp_path)["seconds"] >= 100.0


def test_results_never_outlive_the_training_that_they_are_of(tmp_path):
    begin(tmp_path, trained_with={}).finish({"dev_accuracy": 0.5})
    begin(tmp_path, trained_with={})  # and is interrupted
    assert "results" not in written(tmp_path)


def test_a_call_that_ends_before_it_trains_takes_nothing_away(tmp_path):
    begin(tmp_path, trained_with={"a": 1}, flags={"epochs": 20}).finish({"dev_accuracy": 0.5})
    begin(tmp_path, flags={"epochs": 3})  # and is interrupted while it makes features
    begin(tmp_path, flags={"epochs": 20})  # the first command again, with nothing left to train
    record = written(tmp_path)
    assert record["results"] == {"dev_accuracy": 0.5} and record["trained_with"] == {"a": 1}
    assert record["flags"] == record["flags_of_last_call"] == {"epochs": 20}
    begin(tmp_path, trained_with={"a": 2}, flags={"epochs": 4})
    record = written(tmp_path)
    assert record["flags"] == {"epochs": 4} and "flags_of_last_call" not in record
    assert record["trained_with"] == {"a": 2} and "results" not in record


def test_prediction_adds_to_the_record_of_a_training(tmp_path):
    for name in ("train", "test"):
        files.write_text(str(tmp_path / name), name)
    begin(tmp_path, trained_with={}, flags={"num_train_epochs": 20.0},
          data=[str(tmp_path / "train")]).finish({"dev_accuracy": 0.5})
    begin(tmp_path, flags={"num_train_epochs": 3.0}, data=[str(tmp_path / "test")]).finish(
        {"test_accuracy": 0.4})
    record = written(tmp_path)
    assert record["flags"] == {"num_train_epochs": 20.0}
    assert record["flags_of_last_call"] == {"num_train_epochs": 3.0}
    assert sorted(record["data"]) == [str(tmp_path / "test"), str(tmp_path / "train")]
    assert record["results"] == {"dev_accuracy": 0.5, "test_accuracy": 0.4}


def test_another_vocabulary_in_the_folder_is_not_replaced(tmp_path):
    names = ("vocab.txt", "spm.model")
    files.write_text(str(tmp_path / "ours"), "ours")
    files.write_text(str(tmp_path / "vocab.txt"), "theirs")
    with pytest.raises(UserError, match="holds another vocab.txt, and no run of ours made it"):
        run_record.RunRecord(str(tmp_path)).require_own_vocabulary(str(tmp_path / "ours"), names)
    begin(tmp_path)
    run_record.RunRecord(str(tmp_path)).require_own_vocabulary(str(tmp_path / "ours"), names)


def test_a_run_that_goes_on_keeps_its_start(tmp_path, prefix):
    begin(tmp_path, prefix)
    begin(tmp_path, None, keep_start=True)
    assert written(tmp_path)["init_checkpoint"] == prefix
    begin(tmp_path, None, keep_start=False)
    assert written(tmp_path)["init_checkpoint"] is None


def test_another_start_is_refused(tmp_path, prefix, capsys):
    begin(tmp_path, prefix)
    other = str(tmp_path / "other.ckpt")
    files.write_text(other + ".index", "other weights")
    record = run_record.RunRecord(str(tmp_path))
    record.require_same_start(prefix)
    with pytest.raises(UserError, match="started from .*init.ckpt, not from .*other.ckpt"):
        record.require_same_start(other)
    assert capsys.readouterr().err == ""
    record.require_same_start(None)
    assert "WARNING: the run in this folder started from %s" % prefix in capsys.readouterr().err


def test_a_folder_without_a_record_takes_any_start(tmp_path, prefix):
    run_record.RunRecord(str(tmp_path)).require_same_start(prefix)


def test_other_settings_are_refused_or_warned_of(tmp_path, capsys):
    begin(tmp_path, trained_with={"learning_rate": 0.1, "truncate": "head"})
    record = run_record.RunRecord(str(tmp_path))
    record.require_same_settings({"learning_rate": 0.1, "truncate": "head", "new": 1}, True)
    changed = {"learning_rate": 0.2, "truncate": "tail"}
    with pytest.raises(UserError, match=r"(?s)learning_rate: 0.1 then, 0.2 now\s+truncate: head "
                                        r"then, tail now.*choose another --output_dir"):
        record.require_same_settings(changed, refuse=True)
    assert capsys.readouterr().err == ""
    record.require_same_settings(changed, refuse=False)
    assert "WARNING: the run in this folder" in capsys.readouterr().err


def test_prediction_keeps_the_settings_of_the_training(tmp_path):
    begin(tmp_path, trained_with={"learning_rate": 0.1})
    begin(tmp_path, trained_with=None)
    assert written(tmp_path)["trained_with"] == {"learning_rate": 0.1}


def test_a_damaged_record_is_named(tmp_path):
    files.write_text(str(tmp_path / run_record.NAME), "[]")
    with pytest.raises(UserError, match="run.json is damaged: remove it"):
        run_record.RunRecord(str(tmp_path))
