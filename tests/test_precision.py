"""--precision and --xla: what is refused with which reason, and what the sessions are asked for."""

import os

import numpy as np
import pytest
from helpers import (assert_user_error, pretraining_rows, pretraining_weights, read_checkpoint,
                     run_here, write_checkpoint, write_config, write_records)

import distribution
import estimators
import run_pretraining
import runtime
from errors import UserError

import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import rewriter_config_pb2

ON = rewriter_config_pb2.RewriterConfig.ON


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("precision")
    write_config(folder, num_hidden_layers=1)
    write_checkpoint(folder / "init.ckpt", pretraining_weights())
    write_records(folder / "data.tfrecord", pretraining_rows(8))
    return str(folder)


def pretrain(folder, out, *others):
    return run_here(
        run_pretraining, "--bert_config_file=%s/config.json" % folder,
        "--input_file=%s/data.tfrecord" % folder, "--output_dir=%s" % out, "--do_train",
        "--init_checkpoint=%s/init.ckpt" % folder, "--max_seq_length=12",
        "--max_predictions_per_seq=3", "--train_batch_size=8", "--num_train_steps=4",
        "--num_warmup_steps=0", "--learning_rate=0.01", *others)


def settings(**changes):
    values = dict.fromkeys(estimators.RunSettings._fields)
    values.update(num_threads=0, precision="float32", xla=False, gradient_accumulation_steps=1,
                  distribution="none", use_tpu=False)
    return estimators.RunSettings(**dict(values, **changes))


def graph_options(**changes):
    return estimators.session_config(settings(**changes)).graph_options


def pretend(monkeypatch, gpus=(), why_no_bfloat16=None):
    monkeypatch.setattr(distribution, "local_devices", lambda: list(gpus))
    monkeypatch.setattr(runtime, "why_no_bfloat16", lambda: why_no_bfloat16)


def test_nothing_is_asked_for_by_default():
    options = graph_options()
    assert not options.HasField("rewrite_options")
    assert not options.HasField("optimizer_options")


def test_what_is_asked_for():
    assert graph_options(precision="float16").rewrite_options.auto_mixed_precision == ON
    level = graph_options(xla=True).optimizer_options.global_jit_level
    assert level == tf.OptimizerOptions.ON_1
    # A TPU multiplies float32 matrices in bfloat16 by itself: nothing is to be rewritten.
    assert not graph_options(precision="bfloat16", use_tpu=True).HasField("rewrite_options")


def test_without_estimator_training_says_what_to_use(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "HAS_ESTIMATOR", False)
    out = tmp_path / "out"
    assert_user_error(pretrain(folder, out), "has no Estimator", "ALBERT_TF=2",
                      "similarity.py and export_model.py run here")
    assert not os.path.exists(str(out))


def test_what_is_refused_before_anything_is_written(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    pretend(monkeypatch, why_no_bfloat16="this CPU lacks it")
    assert_user_error(pretrain(folder, out, "--precision=float16"),
                      "--precision=float16 needs a GPU", "sees none here", "float32")
    assert_user_error(pretrain(folder, out, "--precision=bfloat16"),
                      "--precision=bfloat16: this CPU lacks it")
    tpu = ("--use_tpu", "--tpu_name=nowhere")
    assert_user_error(pretrain(folder, out, "--precision=float16", *tpu), "--precision=bfloat16")
    assert_user_error(pretrain(folder, out, "--xla", *tpu), "--xla: a TPU always compiles")
    assert_user_error(pretrain(folder, out, "--distribution=mirrored", *tpu),
                      "--distribution=mirrored: a TPU's cores need none")
    assert_user_error(pretrain(folder, out, "--distribution=mirrored"),
                      "--distribution=mirrored needs GPUs")
    pretend(monkeypatch, gpus=["/gpu:0"])
    assert_user_error(pretrain(folder, out, "--precision=bfloat16"),
                      "GPUs are used here", "--precision=float16")
    assert not os.path.exists(str(out))


def test_several_tpu_hosts_only_train():
    pod, host = (settings(use_tpu=True, num_tpu_cores=cores) for cores in (32, 8))
    with pytest.raises(UserError, match="--do_eval and --do_predict: several TPU hosts .*=32"):
        estimators.require_one_host(pod, {"do_train": True, "do_eval": True, "do_predict": True})
    estimators.require_one_host(pod, {"do_train": True, "do_eval": False})
    estimators.require_one_host(host, {"do_train": True, "do_eval": True})
    estimators.require_one_host(settings(num_tpu_cores=32), {"do_eval": True})


def test_what_is_allowed(monkeypatch):
    pretend(monkeypatch)
    estimators.require_precision(settings(precision="bfloat16"))
    estimators.require_precision(settings(precision="bfloat16", use_tpu=True))
    estimators.require_precision(settings(xla=True))
    pretend(monkeypatch, gpus=["/gpu:0"])
    estimators.require_precision(settings(precision="float16"))


def test_reasons_against_bfloat16(tmp_path, monkeypatch):
    cpus = {name: tmp_path / name for name in ("old", "new", "newest")}
    cpus["old"].write_text(u"flags : avx avx512f\n")
    cpus["new"].write_text(u"flags : avx avx512f avx512_bf16\n")
    cpus["newest"].write_text(u"flags : avx amx_bf16 amx_tile\n")
    if runtime.IS_TF1:
        assert all("TensorFlow 1.15" in runtime.why_no_bfloat16(str(path))
                   for path in cpus.values())
        return
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    assert runtime.why_no_bfloat16(str(cpus["new"])) is None
    assert runtime.why_no_bfloat16(str(cpus["newest"])) is None
    for path in (cpus["old"], tmp_path / "no such file"):
        assert "neither avx512_bf16 nor amx_bf16" in runtime.why_no_bfloat16(str(path))
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert "TF_ENABLE_ONEDNN_OPTS=0" in runtime.why_no_bfloat16(str(cpus["new"]))


@pytest.mark.parametrize("changes, gpus, expected", [
    ({}, [], ["compiled_gelu"]),
    ({"precision": "bfloat16"}, [], ["compiled_gelu", "multiply_in_bfloat16"]),
    ({"precision": "bfloat16", "distribution": "mirrored"}, [], ["multiply_in_bfloat16"]),
    ({"xla": True}, [], []),
    ({"gradient_accumulation_steps": 2}, [], []),
    ({"precision": "bfloat16", "use_tpu": True}, [], []),
    ({}, ["/gpu:0"], [])])
@pytest.mark.parametrize("mode", ["train", "eval", "infer"])
def test_what_a_graph_is_made_for(changes, gpus, expected, mode, monkeypatch):
    pretend(monkeypatch, gpus=gpus)
    if runtime.IS_TF1 and changes.get("precision") == "bfloat16":
        pytest.skip("TensorFlow 1.15 has no bfloat16 on CPUs")
    with tf.Graph().as_default() as graph:
        model_fn = estimators.adapted(lambda features, labels, mode, params: mode,
                                      settings(**changes))
        assert model_fn(None, None, mode, {}) == mode
        found = sorted(graph.get_all_collection_keys())
    assert found == [name for name in expected if name != "compiled_gelu"
                     or mode == "train" and not runtime.IS_TF1]


@pytest.mark.skipif(runtime.why_no_bfloat16() is not None,
                    reason="no bfloat16 here: %s" % runtime.why_no_bfloat16())
def test_bfloat16_engages_and_checkpoints_stay_float32(folder, tmp_path):
    found = {}
    for precision in ("float32", "bfloat16"):
        out = str(tmp_path / precision)
        status, _, err = pretrain(folder, out, "--precision=" + precision, "--optimizer=adamw",
                                  "--learning_rate=0.001")
        assert status == 0, err
        found[precision] = read_checkpoint(out + "/model.ckpt-4")
    assert set(found["float32"]) == set(found["bfloat16"])
    start, differs = pretraining_weights(), 0
    for name, value in found["float32"].items():
        other = found["bfloat16"][name]
        assert other.dtype == value.dtype and other.shape == value.shape
        differs += not np.array_equal(other, value)
        if name in start and not name.endswith("key/bias"):  # whose gradient is 0 but for rounding
            moved, apart = value - start[name], other - value
            assert np.linalg.norm(apart) < 0.3 * np.linalg.norm(moved), name
    assert differs > 30


def test_loss_scaling_trains_as_without(folder, tmp_path, monkeypatch):
    """float16's course of a run, as far as it goes without a GPU: in float32, loss scaled."""
    out = {precision: str(tmp_path / precision) for precision in ("float32", "float16")}
    assert pretrain(folder, out["float32"])[0] == 0
    monkeypatch.setattr(estimators, "require_precision", lambda run: None)
    status, _, err = pretrain(folder, out["float16"], "--precision=float16")
    assert status == 0, err
    plain, scaled = (read_checkpoint(out[one] + "/model.ckpt-4") for one in ("float32", "float16"))
    assert set(plain) == set(scaled)
    for name, value in plain.items():
        if "/key/bias" not in name:  # its gradient is 0 but for rounding, which LAMB scales up
            np.testing.assert_allclose(scaled[name], value, atol=2e-5, err_msg=name)
