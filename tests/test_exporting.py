"""Exported models: what the folder holds, that nothing is lost on the way, export_model.py."""

import json
import os

import numpy as np
import pytest
import reference
from helpers import (TINY, TINY_GOOGLE, assert_user_error, google_pretraining_weights,
                     pretraining_weights, read, read_checkpoint, run_here, run_script,
                     write_checkpoint, write_config, write_google_config, write_vocabulary)

import checkpoints
import export_model
import exported_graph
import exporting
import heads
import inference
import layouts
import modeling
import selection
from errors import UserError


def with_slots(weights, slots=("adam_m", "adam_v"), step=7):
    """The weights of a checkpoint in the middle of training."""
    values = dict(weights, global_step=np.array(step, np.int64))
    for name, value in weights.items():
        values.update((name + "/" + slot, np.full_like(value, 0.5)) for slot in slots)
    return values


@pytest.fixture()
def vocab(tmp_path):
    return write_vocabulary(tmp_path, "天气好吗")


@pytest.fixture()
def run(tmp_path, vocab):
    """A pre-training run's folder in the Google layout, its vocabulary beside it."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_google_config(folder, "albert_config.json")
    os.rename(vocab, str(folder / "vocab.txt"))
    write_checkpoint(folder / "model.ckpt-7", with_slots(google_pretraining_weights()))
    return folder


def export(source, target, *others):
    return run_here(export_model, "--strip", "--init_checkpoint=%s" % source,
                    "--export_dir=%s" % target, *others)


def assert_exports(folder, weights, config, vocab_bytes, others=()):
    """Checks what an export's folder holds, and that each part is what it should be."""
    assert sorted(os.listdir(str(folder))) == sorted(
        ("albert_config.json", "albert_model.ckpt.data-00000-of-00001", "albert_model.ckpt.index",
         "checkpoint", "vocab.txt") + tuple(others))
    found = read_checkpoint(folder / "albert_model.ckpt")
    assert set(found) == set(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype
    written = json.loads(read(folder / "albert_config.json").decode("utf-8"))
    assert {name: config[name] for name in written} == written
    assert layouts.read_config(str(folder / "albert_config.json"))[1].to_dict() == written
    assert read(folder / "vocab.txt") == vocab_bytes
    assert checkpoints.resolve(str(folder)) == str(folder / "albert_model.ckpt")


# ---------------------------------------------------------------------------------------------
# What comes out
# ---------------------------------------------------------------------------------------------

def test_a_pretrained_model_of_the_google_layout_from_the_command_line(run, tmp_path):
    target = tmp_path / "to" / "pass on"
    status, _, err = run_script("export_model.py", "--strip", "--init_checkpoint=%s" % run,
                                "--export_dir=%s" % target)
    assert status == 0, err
    assert_exports(target, google_pretraining_weights(), TINY_GOOGLE, read(run / "vocab.txt"))
    before, after = (sum(os.path.getsize(path) for path in checkpoints.paths_of(str(prefix)))
                     for prefix in (run / "model.ckpt-7", target / "albert_model.ckpt"))
    assert before > 2.5 * after
    assert "%.1f MB before, %.1f MB now" % (before / 1e6, after / 1e6) in err
    assert "Exported 32 variables" in err and "left out: 65" in err


@pytest.mark.parametrize("slots", [("adam_m", "adam_v"), ("lamb_m", "lamb_v")])
def test_a_fine_tuned_model_of_the_albert_zh_layout(tmp_path, vocab, slots):
    folder, target = tmp_path / "run", tmp_path / "target"
    folder.mkdir()
    write_config(folder, "albert_config_small.json", ln_type="preln")
    config = modeling.BertConfig.from_dict(dict(TINY, ln_type="preln"))
    weights = reference.initial_values(
        heads.classifier_variable_shapes(config, modeling.BertModel, 2))
    assert "loss/LayerNorm/gamma" in weights
    write_checkpoint(folder / "model.ckpt-7", with_slots(weights, slots))
    (folder / "labels.txt").write_text("0\n1\n", encoding="utf-8")
    (folder / "classifier.json").write_text('{"task": "afqmc"}\n', encoding="utf-8")
    (folder / "run.json").write_text("{}", encoding="utf-8")
    status, _, err = export(folder / "model.ckpt-7", target, "--vocab_file=" + vocab)
    assert status == 0, err
    assert_exports(target, weights, dict(TINY, ln_type="preln"), read(vocab),
                   ("labels.txt", "classifier.json"))
    for name in ("labels.txt", "classifier.json"):
        assert read(target / name) == read(folder / name)
    # An export is a model as any other: it can be exported again.
    status, _, err = export(target, tmp_path / "again")
    assert status == 0, err
    assert sorted(os.listdir(str(tmp_path / "again"))) == sorted(os.listdir(str(target)))
    assert "left out: 0" in err


@pytest.mark.parametrize("said", [True, False])
def test_a_cased_model_stays_cased(run, tmp_path, said):
    """Whether its folder says so, or --do_lower_case."""
    if said:
        (run / "tokenizer_config.json").write_text('{"do_lower_case": false}', encoding="utf-8")
    status, _, err = export(run, tmp_path / "bare", *([] if said else ["--do_lower_case=False"]))
    assert status == 0, err
    assert not inference.read_folder(str(tmp_path / "bare")).tokenizer.do_lower_case
    status, _, err = export(tmp_path / "bare", tmp_path / "again")
    assert status == 0, err
    assert not inference.read_folder(str(tmp_path / "again")).tokenizer.do_lower_case


@pytest.mark.parametrize("variable, names", [
    ("cls/entities/output_bias", ["entities.json", "labels.txt"]),
    ("cls/squad/output_bias", ["reading.json"])])
def test_what_a_head_needs_goes_with_it(run, tmp_path, variable, names):
    weights = dict(google_pretraining_weights(), **{variable: np.zeros(2, np.float32)})
    write_checkpoint(run / "model.ckpt-7", with_slots(weights))
    for name in names:
        (run / name).write_text('{"do_lower_case": true}\n', encoding="utf-8")
    status, _, err = export(run, tmp_path / "bare")
    assert status == 0, err
    assert_exports(tmp_path / "bare", weights, TINY_GOOGLE, read(run / "vocab.txt"), names)


def test_a_model_without_pooler_is_exported_as_it_is(run, tmp_path):
    weights = {name: value for name, value in google_pretraining_weights().items()
               if "pooler" not in name}
    write_checkpoint(run / "model.ckpt-7", with_slots(weights))
    status, _, err = export(run, tmp_path / "bare")
    assert status == 0, err
    assert_exports(tmp_path / "bare", weights, TINY_GOOGLE, read(run / "vocab.txt"))
    with pytest.raises(UserError, match="--head=pooled: .* has no pooler"):
        exported_graph.choose_head(inference.read_folder(str(tmp_path / "bare")), "pooled")


def test_the_best_of_a_run_is_exported(run, tmp_path):
    weights = google_pretraining_weights()
    weights["bert/pooler/dense/bias"] = weights["bert/pooler/dense/bias"] + np.float32(1)
    write_checkpoint(run / "model.ckpt-9", with_slots(weights, step=9))
    (run / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-9"\n', encoding="utf-8")
    losses = {str(run / "model.ckpt-7"): 2.0, str(run / "model.ckpt-9"): 3.0}
    selection.evaluate_each(str(run), "pretraining", sorted(losses), "data", lambda prefix: {
        "masked_lm_loss": losses[prefix], "step": checkpoints.step_in_name(prefix)})
    for source, target, bias in (
            (run, "best", 0), (run / "model.ckpt-9", "named", 1)):
        status, _, err = export(source, tmp_path / target)
        assert status == 0, err
        found = read_checkpoint(tmp_path / target / "albert_model.ckpt")
        np.testing.assert_array_equal(
            found["bert/pooler/dense/bias"],
            google_pretraining_weights()["bert/pooler/dense/bias"] + np.float32(bias))
    os.remove(str(run / "eval_results.json"))
    status, _, err = export(run, tmp_path / "last")
    assert status == 0 and "of %s/model.ckpt-9 to" % run in err, err


def test_a_sentencepiece_model_keeps_its_kind_of_name(run, tmp_path):
    (tmp_path / "30k-clean.model").write_bytes(b"not looked into here")
    exporting.strip(str(run / "model.ckpt-7"), layouts.read_config(
        str(run / "albert_config.json"))[1], str(tmp_path / "30k-clean.model"),
        str(tmp_path / "target"))
    assert read(tmp_path / "target" / "spm.model") == b"not looked into here"
    assert not os.path.exists(str(tmp_path / "target" / "vocab.txt"))


def test_a_failed_export_leaves_nothing_half_done(run, tmp_path, monkeypatch):
    def break_off(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "move", break_off)
    with pytest.raises(OSError):
        export(run, tmp_path / "target")
    assert os.listdir(str(tmp_path / "target")) == []


# ---------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------

def test_nothing_is_overwritten_but_an_earlier_export_of_the_same_run(run, tmp_path):
    target = tmp_path / "target"
    assert export(run, target)[0] == 0
    first = read(target / "albert_model.ckpt.index")
    status, _, err = export(run, target)
    assert status == 0 and "Replacing the earlier export" in err, err
    assert read(target / "albert_model.ckpt.index") == first

    # The run goes on: its new checkpoint takes the place of the one it still holds.
    weights = google_pretraining_weights()
    weights["cls/predictions/output_bias"] = weights["cls/predictions/output_bias"] * 2
    write_checkpoint(run / "model.ckpt-9", with_slots(weights))
    assert export(run / "model.ckpt-9", target)[0] == 0
    second = read(target / "albert_model.ckpt.index")
    assert second != first

    # Once that is gone, what the folder holds is of another model.
    for path in checkpoints.paths_of(str(run / "model.ckpt-9")):
        os.remove(path)
    assert_user_error(export(run, target), "--export_dir=%s holds another model, "
                      "albert_model.ckpt" % target)
    assert read(target / "albert_model.ckpt.index") == second


@pytest.mark.parametrize("name, said", [
    ("vocab.txt", "holds another vocab.txt"),
    ("albert_config.json", "holds another albert_config.json"),
    ("checkpoint", "holds another checkpoint")])
def test_other_files_in_the_folder_are_not_overwritten(run, tmp_path, name, said):
    target = tmp_path / "target"
    target.mkdir()
    (target / name).write_text("mine", encoding="utf-8")
    (target / "README.md").write_text("in nobody's way", encoding="utf-8")
    assert_user_error(export(run, target), said)
    assert sorted(os.listdir(str(target))) == sorted([name, "README.md"])
    os.remove(str(target / name))
    assert export(run, target)[0] == 0


def test_a_folder_with_another_checkpoint_is_refused(run, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    write_checkpoint(target / "bert_model.ckpt", google_pretraining_weights())
    assert_user_error(export(run, target), "holds another model, bert_model.ckpt")
    assert_user_error(export(run, run), "is the folder of the checkpoint itself")
    assert_user_error(export(run, str(run) + "/../run/"), "is the folder of the checkpoint itself")
    assert_user_error(export(run, run / "vocab.txt"), "vocab.txt is a file")


def test_parts_that_are_missing_or_do_not_belong_together(run, tmp_path, root):
    target = tmp_path / "target"
    assert_user_error(run_here(export_model, "--init_checkpoint=%s" % run, "--export_dir=x"),
                      "nothing to do: give --strip")
    assert_user_error(run_here(export_model, "--strip", "--init_checkpoint=%s" % run),
                      "--export_dir is missing")
    assert_user_error(run_here(export_model, "--strip", "--export_dir=%s" % target),
                      "--init_checkpoint is missing")
    assert_user_error(export(run / "bert_model.ckpt", target), "model.ckpt-7")
    deeper = write_google_config(tmp_path, num_hidden_layers=6)
    assert_user_error(export(run, target, "--config_file=" + deeper),
                      "num_hidden_layers: 2 there, 6 given")
    wider = write_google_config(tmp_path, intermediate_size=48)
    assert_user_error(export(run, target, "--config_file=" + wider), "the configuration is not",
                      "group_0/inner_group_0/ffn_1/intermediate/dense/kernel")
    albert_zh = write_config(tmp_path, "zh.json")
    assert_user_error(export(run, target, "--config_file=" + albert_zh),
                      "the configuration is not", "word_embeddings_2")
    assert_user_error(
        export(run, target, "--vocab_file=%s/albert_config/vocab.txt" % root),
        "vocab.txt has 21128 entries, the configuration's vocab_size is 60")
    assert_user_error(export(run, target, "--vocab_file=none.txt"), "none.txt does not exist")
    os.rename(str(run / "vocab.txt"), str(tmp_path / "moved.txt"))
    assert_user_error(export(run, target), "there is no vocabulary", "--vocab_file")
    os.remove(str(run / "albert_config.json"))
    assert_user_error(export(run, target), "there is no configuration", "--config_file")
    assert not os.path.exists(str(target))


def test_a_checkpoint_without_an_albert_in_it_is_refused(tmp_path, vocab):
    folder = tmp_path / "bert"
    folder.mkdir()
    write_google_config(folder)
    write_checkpoint(folder / "model.ckpt", {
        "bert/embeddings/word_embeddings": np.zeros([60, 16], np.float32),
        "bert/pooler/dense/bias": np.zeros(16, np.float32)})
    assert_user_error(export(folder, tmp_path / "target", "--vocab_file=" + vocab),
                      "model.ckpt cannot be exported: there is no ALBERT in it")
    with pytest.raises(UserError, match="a BERT checkpoint"):
        checkpoints.strip(str(folder / "model.ckpt"), str(tmp_path / "x"))


def test_labels_of_another_classifier_are_refused(tmp_path, vocab):
    config = layouts.GOOGLE.config_class.from_dict(TINY_GOOGLE)
    weights = reference.initial_values(
        heads.classifier_variable_shapes(config, layouts.GOOGLE.model_class, 3))
    write_google_config(tmp_path)
    write_checkpoint(tmp_path / "model.ckpt-1", weights)
    (tmp_path / "labels.txt").write_text("0\n1\n", encoding="utf-8")
    assert_user_error(export(tmp_path, tmp_path / "target"), "labels.txt names 2 labels",
                      "3 classes")


# ---------------------------------------------------------------------------------------------
# The vocabulary that a pre-training run exports
# ---------------------------------------------------------------------------------------------

def test_the_vocabulary_is_checked_before_training(root, tmp_path, vocab, capsys):
    small = layouts.GOOGLE.config_class.from_dict(TINY_GOOGLE)
    tiny = layouts.read_config(
        os.path.join(root, "albert_config", "albert_config_tiny_google.json"))[1]
    assert exporting.require_vocabulary(None, small, None) is None
    assert exporting.require_vocabulary(None, tiny, "x").endswith("albert_config/vocab.txt")
    assert exporting.require_vocabulary(vocab, small, "x") == vocab
    with pytest.raises(UserError, match="has 21128 entries, .* vocab_size is 60"):
        exporting.require_vocabulary(None, small, "x")
    assert exporting.require_vocabulary(vocab, tiny, "x") == vocab
    assert "has 60 entries, the configuration's vocab_size is 21128" in capsys.readouterr().err
    with pytest.raises(UserError, match="--vocab_file=none.txt does not exist"):
        exporting.require_vocabulary("none.txt", small, "x")
    (tmp_path / "blank lines at the end.txt").write_bytes(read(vocab) + b"\r\n\n")
    exporting.require_vocabulary(str(tmp_path / "blank lines at the end.txt"), small, "x")
    (tmp_path / "a.model").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="a.model is not a SentencePiece model"):
        exporting.require_vocabulary(str(tmp_path / "a.model"), small, "x")


def test_pretrained_weights_of_the_albert_zh_layout_lose_nothing(tmp_path):
    weights = pretraining_weights()
    prefix = write_checkpoint(tmp_path / "model.ckpt-3", with_slots(weights, ("lamb_m", "lamb_v")))
    assert checkpoints.strip(prefix, str(tmp_path / "bare")) == (31, 63)
    found = read_checkpoint(tmp_path / "bare")
    assert set(found) == set(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(found[name], value)
