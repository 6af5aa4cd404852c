"""benchmarks/tflite.py with a tiny model: what it measures, leaves and refuses; no time."""

import importlib.util
import json
import os
import sys

import numpy as np
import pytest
from conftest import ROOT
from helpers import assert_user_error, read, run_here, run_script, write_config

import runtime

sys.path.append(os.path.join(ROOT, "benchmarks"))  # at the end: the root has an inference.py too

import tflite  # noqa: E402
from side_by_side import Outcome  # noqa: E402

HAS_PACKAGES = not runtime.IS_TF1 and all(
    importlib.util.find_spec(name) for name in ("ai_edge_litert", "tf2onnx", "onnxruntime"))


def run(tmp_path, *others):
    config = write_config(tmp_path, vocab_size=21128)
    return run_script(os.path.join("benchmarks", "tflite.py"), "--bert_config_file=" + config,
                      "--output_dir=%s" % (tmp_path / "out"), "--rounds=2", "--calls=2",
                      "--pairs=8", "--lengths=8,16", *others)


def test_tensorflow_alone(tmp_path):
    status, out, err = run(tmp_path, "--variants=tensorflow_1")
    assert status == 0, err
    for fragment in ("One pair of 8 tokens, ms", "One pair of 16 tokens, ms",
                     "TensorFlow, 1 thread", "Peak memory", "Size and agreement", "100.00 %"):
        assert fragment in out, out
    saved = json.loads(read(tmp_path / "out" / "tflite.json").decode("utf-8"))
    about = saved["variants"][0]["about"]
    assert about["pairs"] == 8 and about["difference"] < 2e-5 and about["equal"] == 1
    assert os.path.exists(str(tmp_path / "out" / "tflite.md"))


def test_every_runtime(tmp_path):
    if not HAS_PACKAGES:
        pytest.skip("the packages of requirements/export.txt are not installed")
    status, out, err = run(tmp_path, "--threads=1", "--variants=tensorflow_1,float32_1,"
                           "float32_fixed_1,int8_dynamic_1,onnx_1,onnx_int8_1")
    assert status == 0, err
    assert "not run" not in out
    saved = json.loads(read(tmp_path / "out" / "tflite.json").decode("utf-8"))
    about = {variant["key"]: variant["about"] for variant in saved["variants"]}
    for key, bound in (("float32_1", 1e-5), ("int8_dynamic_1", 2e-2), ("onnx_1", 2e-5)):
        assert about[key]["difference"] <= bound
    assert "equal" not in about["float32_fixed_1"]
    assert about["int8_dynamic_1"]["bytes"] < 0.5 * about["float32_1"]["bytes"]


def test_wrong_settings(tmp_path):
    config = "--bert_config_file=" + write_config(tmp_path)
    assert_user_error(run_here(tflite, config, "--lengths=8,64"), "beyond the 32 positions")
    assert_user_error(run_here(tflite, config, "--lengths=8", "--variants=tensorflow_3"),
                      "tensorflow_3 is unknown")
    assert_user_error(run_here(tflite, config, "--lengths=8", "--threads=0"), "--threads=0")
    assert_user_error(run_here(tflite, "--lengths=8", "--model_dir=none"),
                      "--model_dir=none is no folder")
    assert_user_error(run_here(tflite, "--lengths=8", "--model_dir=%s" % (tmp_path / "..")),
                      "holds no configuration")


def test_the_table_of_agreement():
    variants = tflite.variants_of([1, 2])
    assert len({variant.key for variant in variants}) == 2 * len(tflite.KINDS)
    first, second, failed = variants[0], variants[1], variants[2]
    rows = tflite.agreement_rows([
        Outcome(first, {"bytes": 2e6, "difference": 1e-7, "equal": 0.5, "pairs": 4}, [], None),
        Outcome(second, {"bytes": 2e6}, [], None), Outcome(failed, {}, [], "no")])
    assert rows[1:] == [["TensorFlow", "2.0", "1.0e-07", "50.00 %", 4]]


def test_one_pair_is_of_the_length_asked_for():
    pair = tflite._one_pair(np.random.RandomState(0), 16, 60)
    assert {array.shape for array in pair.values()} == {(1, 16)}
    assert pair["input_ids"].max() < 60 and pair["segment_ids"].sum() == 8
