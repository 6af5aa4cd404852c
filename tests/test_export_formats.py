"""Exported files: each equals the model, whatever head, layout, batch size and length."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import test_inference
from conftest import ROOT
from helpers import TINY, TINY_GOOGLE, assert_user_error, read, run_here, run_script

import export_model
import exported_graph
import graph_rewriting
import graph_tokenizer
import heads
import inference
import onnx_export
import runtime
import tensorflow_export
import tflite_export
import verification
from errors import UserError
from verification import Agreement, Bound

import tensorflow.compat.v1 as tf

# Large enough that matrices are made 8-bit.
SIZES = {"embedding_size": 32, "hidden_size": 64, "intermediate_size": 96}
ALBERT_ZH = dict(TINY, **SIZES)
PRELN = dict(ALBERT_ZH, ln_type="preln")
GOOGLE = dict(TINY_GOOGLE, **SIZES)
TEXTS = ["天地人大小", "日月\t水火山石田土", "多少上下来去中", "天" * 40, "人",
         "大小\t天地人日月水火山石"] * 2

HAS_ONNX = all(importlib.util.find_spec(name) for name in onnx_export.PACKAGES)
needs_onnx = pytest.mark.skipif(
    not HAS_ONNX or runtime.IS_TF1, reason="tf2onnx, onnx and onnxruntime are not installed "
    "(requirements/export.txt)")
needs_tflite = pytest.mark.skipif(runtime.IS_TF1, reason="TensorFlow 1.15 is too old for it")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A classifier of three classes in the albert_zh layout."""
    return make(tmp_path_factory.mktemp("classifier"), ALBERT_ZH, 3)


def make(folder, settings, classes):
    """Makes a folder with a model; returns its path."""
    return test_inference.make_folder(folder, settings, classes, told={
        "labels": ["好", "中", "差"][:classes], "max_seq_length": 24} if classes else None)


def export(source, target, texts, *others):
    return run_here(export_model, "--init_checkpoint=%s" % source, "--export_dir=%s" % target,
                    "--verify_file=%s" % texts, *others)


def inputs_of(model, length=None):
    """Returns inputs of one batch of mixed lengths."""
    head = exported_graph.choose_head(model)
    return verification.to_batches(model, head, ["天地", "日月水火山石田土大小", "人"], 24, length)


def own_probabilities(source, texts):
    with inference.Predictor(inference.read_folder(source)) as predictor:
        return predictor.probabilities(texts)


# ---------------------------------------------------------------------------------------------
# TensorFlow
# ---------------------------------------------------------------------------------------------

def test_from_the_command_line(folder, texts, tmp_path):
    target = tmp_path / "target"
    status, out, err = run_script(
        "export_model.py", "--format=frozen,savedmodel", "--init_checkpoint=" + folder,
        "--export_dir=%s" % target, "--verify_file=" + texts)
    assert status == 0, err
    assert out == ""
    assert "savedmodel/1: largest difference" in err and "(bound 2e-05)" in err
    assert sorted(os.listdir(str(target))) == [
        "README.md", "albert_config.json", "classifier.json", "export.json", "model.pb",
        "savedmodel", "vectors.json", "vocab.txt"]
    record = json.loads(read(target / "export.json").decode("utf-8"))
    assert record["labels"] == ["好", "中", "差"] and record["max_seq_length"] == 24
    assert set(record["files"]) == {"savedmodel/1", "model.pb"}
    for known in record["files"].values():
        assert known["difference"] <= known["bound"] == 2e-5 and known["equal_decisions"] == 1
    card = read(target / "README.md").decode("utf-8")
    for fragment in ("`input_ids`, `input_mask`, `segment_ids`", "`probabilities`", "24", "`好`",
                     "`savedmodel/1`", "2e-05"):
        assert fragment in card, card
    assert read(target / "vocab.txt") == read(os.path.join(folder, "vocab.txt"))


def test_what_is_exported_equals_the_predictor(folder, texts, tmp_path):
    assert export(folder, tmp_path / "x", texts, "--format=frozen,savedmodel")[0] == 0
    expected = own_probabilities(folder, ["天地", "日月水火山石田土大小", "人"])
    batch, = [verification.to_batches(
        inference.read_folder(folder), exported_graph.Head("classifier", -2, "mean"), [text], 24)
        for text in ["日月水火山石田土大小"]][0]
    frozen = tensorflow_export.read_frozen(
        str(tmp_path / "x" / "model.pb"), list(exported_graph.INPUTS), "probabilities")
    saved = tensorflow_export.SavedModel(str(tmp_path / "x" / "savedmodel" / "1"))
    for run in (frozen, saved):
        np.testing.assert_allclose(run(batch)[0], expected[1], atol=2e-6)
        run.close()
    assert np.ptp(expected, axis=0).max() > 1e-3  # texts do differ


@pytest.mark.parametrize("head, settings", [
    ("pooled", GOOGLE), ("embedding", PRELN), ("masked_words", ALBERT_ZH),
    ("masked_words", GOOGLE)])
def test_every_head(tmp_path, texts, settings, head):
    source = make(tmp_path / "model", settings, 0)
    status, _, err = export(source, tmp_path / "x", texts, "--format=savedmodel", "--head=" + head,
                            "--layer=-1", "--pooling=max")
    assert status == 0, err
    record = json.loads(read(tmp_path / "x" / "export.json").decode("utf-8"))
    assert record["head"] == head and record["output"] == exported_graph.OUTPUTS[head]
    assert ("positions" in record["inputs"]) == (head == "masked_words")
    assert ("equal_decisions" in record["files"]["savedmodel/1"]) == (head == "masked_words")


def test_a_pretrained_model_gives_embeddings_of_the_layer_asked_for(tmp_path, texts):
    source = make(tmp_path / "model", ALBERT_ZH, 0)
    model = inference.read_folder(source)
    head = exported_graph.choose_head(model)
    assert head == exported_graph.Head("embedding", -2, "mean")
    with inference.Predictor(model) as predictor:
        for layer, pooling in ((-2, "mean"), (1, "first"), (-1, "max")):
            batch, = verification.to_batches(model, head, ["天地人"], 24)
            session = exported_graph.Session(exported_graph.freeze(
                model, exported_graph.Head("embedding", layer, pooling)))
            np.testing.assert_allclose(
                session(batch), predictor.vectors(["天地人"], (layer,), pooling), atol=2e-6)
            session.close()


def test_only_what_the_head_needs_is_exported(tmp_path):
    model = inference.read_folder(make(tmp_path, ALBERT_ZH, 0))
    sizes, names = {}, {}
    for head in ("pooled", "embedding", "masked_words"):
        graph_def = exported_graph.freeze(model, exported_graph.Head(head, 0, "mean")).graph_def
        names[head] = {node.name for node in graph_def.node if node.op == "Const"}
        sizes[head] = graph_def.ByteSize()
        assert not [node for node in graph_def.node if "Variable" in node.op or "Var" in node.op]
        assert not [node for node in graph_def.node if node.attr.get("_output_shapes")]
    assert not [name for name in names["embedding"] if "pooler" in name or "cls/" in name]
    assert [name for name in names["pooled"] if "pooler" in name]
    assert sizes["embedding"] < sizes["pooled"]


def test_a_new_savedmodel_is_a_new_version(folder, texts, tmp_path):
    for version in ("1", "2"):
        status, _, err = export(folder, tmp_path / "x", texts, "--format=savedmodel")
        assert status == 0, err
        assert os.path.isfile(str(tmp_path / "x" / "savedmodel" / version / "saved_model.pb"))
    record = json.loads(read(tmp_path / "x" / "export.json").decode("utf-8"))
    assert list(record["files"]) == ["savedmodel/1", "savedmodel/2"]


def test_the_signature_is_what_tensorflow_serving_expects(folder, texts, tmp_path):
    assert export(folder, tmp_path / "x", texts, "--format=savedmodel")[0] == 0
    with tf.Graph().as_default(), tf.Session() as session:
        found = tf.saved_model.loader.load(
            session, ["serve"], str(tmp_path / "x" / "savedmodel" / "1"))
    signature = found.signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    assert set(signature.inputs) == set(exported_graph.INPUTS)
    for tensor in signature.inputs.values():
        assert tensor.dtype == tf.int32.as_datatype_enum
        assert [size.size for size in tensor.tensor_shape.dim] == [-1, -1]
    assert list(signature.outputs) == ["probabilities"]
    assert [size.size for size in signature.outputs["probabilities"].tensor_shape.dim][1] == 3


def strings_of(saved, signature, **texts):
    """Runs a signature that takes strings; closes what it ran."""
    run = tensorflow_export.SavedModel(str(saved), signature)
    try:
        return run({name: [text.encode("utf-8") for text in value]
                    for name, value in texts.items()})
    finally:
        run.close()


@pytest.mark.parametrize("more, wanted", [
    ([], lambda predictor, texts: predictor.probabilities(texts)),
    (["--head=embedding"], lambda predictor, texts: predictor.vectors(texts))])
def test_signatures_that_take_strings(folder, texts, tmp_path, more, wanted):
    status, _, err = export(folder, tmp_path / "x", texts, "--format=savedmodel", *more)
    assert status == 0 and "the same ids from" in err, err
    saved, singles = tmp_path / "x" / "savedmodel" / "1", ["天地人", "", "日月水火山石田土" * 9]
    pairs = list(zip(singles, ["大小多少", "人\u2028Σ", ""]))
    with inference.Predictor(inference.read_folder(folder)) as predictor:
        expected = [wanted(predictor, singles), wanted(predictor, pairs)]
    np.testing.assert_allclose(strings_of(saved, "texts", text=singles), expected[0], atol=2e-6)
    np.testing.assert_allclose(strings_of(
        saved, "pairs", text_a=singles, text_b=[pair[1] for pair in pairs]), expected[1], atol=2e-6)
    assert "`text_b`" in read(tmp_path / "x" / "README.md").decode("utf-8")


def test_a_tokenizer_that_gives_other_ids_is_not_exported(folder, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(graph_tokenizer, "BREAK", ord("天"))
    result = export(folder, tmp_path / "x", texts, "--format=savedmodel")
    assert_user_error(result, "does not make the tokenizer's ids")
    assert not os.path.exists(str(tmp_path / "x" / "savedmodel" / "1"))


@pytest.mark.parametrize("other", [".venv-tf1", ".venv-tf2"])
def test_the_other_tensorflow_takes_it_too(folder, texts, tmp_path, other):
    python = os.path.join(ROOT, other, "bin", "python")
    if not os.path.exists(python):
        pytest.skip("there is no %s here" % other)
    if (other == ".venv-tf1") == runtime.IS_TF1:
        pytest.skip("%s is what runs this" % other)
    assert export(folder, tmp_path / "x", texts, "--format=savedmodel,frozen")[0] == 0
    batch, = verification.to_batches(
        inference.read_folder(folder), exported_graph.Head("classifier", -2, "mean"), ["天地"], 24)
    np.savez(str(tmp_path / "batch.npz"), **batch)
    strings = [text.encode("utf-8") for text in ("天地", "Ça ΑΣ.\u2028日月")]
    np.save(str(tmp_path / "strings.npy"), strings)
    code = ("import sys, numpy as np, tensorflow_export\n"
            "batch = dict(np.load(sys.argv[1] + '/batch.npz'))\n"
            "runs = [tensorflow_export.SavedModel(sys.argv[1] + '/x/savedmodel/1'),\n"
            "        tensorflow_export.read_frozen(sys.argv[1] + '/x/model.pb', sorted(batch),\n"
            "                                      'probabilities')]\n"
            "np.save(sys.argv[1] + '/found.npy', [run(batch) for run in runs])\n"
            "run = tensorflow_export.SavedModel(sys.argv[1] + '/x/savedmodel/1', 'texts')\n"
            "texts = list(np.load(sys.argv[1] + '/strings.npy'))\n"
            "np.save(sys.argv[1] + '/of_strings.npy', run({'text': texts}))\n")
    subprocess.run([python, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    for found in np.load(str(tmp_path / "found.npy")):
        np.testing.assert_allclose(found, own_probabilities(folder, ["天地"]), atol=2e-6)
    np.testing.assert_allclose(
        np.load(str(tmp_path / "of_strings.npy")),
        own_probabilities(folder, [text.decode("utf-8") for text in strings]), atol=2e-6)


# ---------------------------------------------------------------------------------------------
# TensorFlow Lite
# ---------------------------------------------------------------------------------------------

@needs_tflite
@pytest.mark.parametrize("settings", [ALBERT_ZH, GOOGLE], ids=["albert_zh", "google"])
def test_tflite_in_every_type(tmp_path, texts, settings):
    source = make(tmp_path / "model", settings, 3)
    status, _, err = export(source, tmp_path / "x", texts, "--format=tflite",
                            "--tflite_type=float32,float16,int8_dynamic,int8_activations")
    assert status == 0, err
    known = json.loads(read(tmp_path / "x" / "export.json").decode("utf-8"))["files"]
    sizes = [known["model_%s.tflite" % kind]["bytes"]
             for kind in ("float32", "float16", "int8_dynamic")]
    assert sizes[0] > sizes[1] > sizes[2]
    for name, bound in (("float32", 1e-5), ("float16", 2e-3), ("int8_dynamic", 2e-2),
                        ("int8_activations", 0.1)):
        assert known["model_%s.tflite" % name]["difference"] <= bound
    model = tflite_export.Model(str(tmp_path / "x" / "model_float32.tflite"))
    expected = own_probabilities(source, ["天地", "日月水火山石田土大小", "人"])
    read_model = inference.read_folder(source)
    head = exported_graph.choose_head(read_model)
    for text, row in zip(["天地", "日月水火山石田土大小", "人"], expected):  # the length changes
        batch, = verification.to_batches(read_model, head, [text], 24)
        np.testing.assert_allclose(model(batch)[0], row, atol=1e-5)


@needs_tflite
def test_tflite_of_a_fixed_length(folder, texts, tmp_path):
    status, _, err = export(folder, tmp_path / "x", texts, "--format=tflite", "--length=16",
                            "--tflite_type=float32")
    assert status == 0, err
    interpreter = tf.lite.Interpreter(str(tmp_path / "x" / "model_float32_16.tflite"))
    assert {detail["name"].split(":")[0]: detail["shape"].tolist()
            for detail in interpreter.get_input_details()} == dict.fromkeys(
                exported_graph.INPUTS, [1, 16])
    assert "`[1, 16]`" in read(tmp_path / "x" / "README.md").decode("utf-8")


@needs_tflite
@pytest.mark.parametrize("length", [None, 16])
def test_8_bit_weights_with_products_in_float32(folder, length):
    model = inference.read_folder(folder)
    frozen = exported_graph.freeze(model, exported_graph.choose_head(model), length)
    contents = [tflite_export.convert(frozen, "float32"),
                tflite_export.convert(frozen, "int8_dynamic", float_products=True)]
    assert len(contents[1]) < 0.6 * len(contents[0])
    exact, coarse = map(tflite_export.Model, contents)
    for batch in inputs_of(model, length):
        difference = np.abs(exact(batch) - coarse(batch)).max()
        assert 0 < difference < 1e-2


@needs_tflite
@pytest.mark.parametrize("bound", [1.0, 0.0])
def test_int8_with_representative_texts(folder, texts, tmp_path, monkeypatch, bound):
    # Bounds of the test's own: weights that were never trained leave some classes near a tie.
    monkeypatch.setitem(tflite_export.BOUNDS, "int8", Bound(bound, 0.0))
    done = export(folder, tmp_path / "x", texts, "--format=tflite", "--length=16",
                  "--tflite_type=int8", "--representative_file=" + texts)
    written = os.path.exists(str(tmp_path / "x" / "model_int8_16.tflite"))
    if bound:
        assert done[0] == 0 and written, done
    else:
        assert_user_error(done, "does not compute what the model computes")
        assert not written


def test_tflite_needs_tensorflow_2(folder, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "IS_TF1", True)
    for kind in ("tflite", "onnx"):
        assert_user_error(export(folder, tmp_path / "x", texts, "--format=" + kind),
                          "--format=%s needs TensorFlow 2" % kind, "ALBERT_TF=2")
    assert not os.path.exists(str(tmp_path / "x"))


# ---------------------------------------------------------------------------------------------
# ONNX
# ---------------------------------------------------------------------------------------------

@needs_onnx
@pytest.mark.parametrize("settings, classes", [(ALBERT_ZH, 3), (GOOGLE, 0)],
                         ids=["classifier", "embedding, google"])
def test_onnx(tmp_path, texts, settings, classes):
    source = make(tmp_path / "model", settings, classes)
    status, _, err = export(source, tmp_path / "x", texts, "--format=onnx",
                            "--onnx_type=float32,int8")
    assert status == 0, err
    import onnxruntime
    session = onnxruntime.InferenceSession(str(tmp_path / "x" / "model.onnx"))
    assert {place.name: place.shape for place in session.get_inputs()} == dict.fromkeys(
        exported_graph.INPUTS, ["batch", "length"])
    assert [place.name for place in session.get_outputs()] == [
        "probabilities" if classes else "embedding"]
    known = json.loads(read(tmp_path / "x" / "export.json").decode("utf-8"))["files"]
    assert known["model.onnx"]["difference"] <= 2e-5
    assert known["model_int8.onnx"]["bytes"] < known["model.onnx"]["bytes"]
    assert not [name for name in os.listdir(str(tmp_path / "x")) if name.startswith(".")]


def test_a_missing_package_is_named(folder, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "IS_TF1", False)
    for name in onnx_export.PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    assert_user_error(export(folder, tmp_path / "x", texts, "--format=onnx"),
                      "needs the package onnx", "requirements/export.txt")


# ---------------------------------------------------------------------------------------------
# Rewritten graphs
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("settings", [ALBERT_ZH, GOOGLE], ids=["albert_zh", "google"])
@pytest.mark.parametrize("head", ["classifier", "masked_words"])
def test_rewriting_changes_no_number(tmp_path, settings, head):
    model = inference.read_folder(make(tmp_path, settings, 3 if head == "classifier" else 0))
    wanted = exported_graph.choose_head(model, head)
    frozen = exported_graph.freeze(model, wanted)
    batches = verification.to_batches(model, wanted, [text.replace("\t", "") for text in TEXTS], 24)
    plain = exported_graph.Session(frozen)
    for rewrite in (graph_rewriting.for_size, graph_rewriting.for_quantisation,
                    graph_rewriting.with_small_masked_score):
        rewritten = exported_graph.Session(frozen._replace(graph_def=rewrite(frozen.graph_def)))
        for batch in batches:
            np.testing.assert_allclose(rewritten(batch), plain(batch), atol=2e-6)


def test_rows_and_columns_are_balanced(folder):
    model = inference.read_folder(folder)
    frozen = exported_graph.freeze(model, exported_graph.choose_head(model))
    rewritten = graph_rewriting.for_quantisation(frozen.graph_def)
    balanced = {node.name: tf.make_ndarray(node.attr["value"].tensor) for node in rewritten.node
                if "/balanced_" in node.name}
    assert len(balanced) >= 7
    for name, values in balanced.items():
        np.testing.assert_allclose(np.abs(values).max(axis=int(name[-1])), 1, rtol=1e-6)
    assert not [node for node in rewritten.node if node.op == "ConcatV2" and all(
        "kernel" in source for source in node.input[:-1])]


# ---------------------------------------------------------------------------------------------
# Verification
# ---------------------------------------------------------------------------------------------

def test_a_file_that_differs_is_not_written(folder, texts, tmp_path, monkeypatch):
    assert export(folder, tmp_path / "x", texts, "--format=frozen")[0] == 0
    before = read(tmp_path / "x" / "model.pb")

    def write_another(frozen, path):
        graph_def = tf.GraphDef()
        graph_def.CopyFrom(frozen.graph_def)
        for node in graph_def.node:
            if node.name == "output_bias":
                node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(
                    tf.make_ndarray(node.attr["value"].tensor) + np.float32([0, 1e-3, 0])))
        with open(path, "wb") as stream:
            stream.write(graph_def.SerializeToString())

    monkeypatch.setattr(tensorflow_export, "write_frozen", write_another)
    assert_user_error(export(folder, tmp_path / "x", texts, "--format=frozen"),
                      "model.pb does not compute what the model computes", "bound 2e-05")
    assert read(tmp_path / "x" / "model.pb") == before
    assert not [name for name in os.listdir(str(tmp_path / "x")) if name.startswith(".")]


def test_words_may_change_more_often_than_classes():
    words, classes = (exported_graph.Head(name, -2, "mean")
                      for name in ("masked_words", "classifier"))
    assert verification.bound_for(words, Bound(0.1, 0.99), True) == Bound(0.1, 0.95)
    assert verification.bound_for(words, Bound(0.1, 0.9), True) == Bound(0.1, 0.9)
    for head, is_8_bit in ((words, False), (classes, True)):
        assert verification.bound_for(head, Bound(0.1, 0.99), is_8_bit) == Bound(0.1, 0.99)


def test_comparison():
    expected = np.array([[0.1, 0.9], [0.6, 0.4]], np.float32)
    sample = verification.Sample([{}], [expected], 2)
    classifier, pooled = (exported_graph.Head(name, -2, "mean")
                          for name in ("classifier", "pooled"))
    found = np.array([[0.1, 0.9], [0.49, 0.51]], np.float32)
    agreement = verification.compare(lambda _: found, sample, classifier)
    assert agreement.difference == pytest.approx(0.11, abs=1e-6) and agreement.equal == 0.5
    assert not verification.is_kept(agreement, Bound(0.2, 0.99))
    assert not verification.is_kept(agreement, Bound(0.1, 0.5))
    assert verification.is_kept(agreement, Bound(0.2, 0.5))
    assert verification.compare(lambda _: 2 * expected, sample, pooled, True).difference < 1e-6
    assert verification.compare(lambda _: 2 * expected, sample, pooled).difference > 0.5
    broken = verification.compare(lambda _: expected * np.nan, sample, classifier)
    assert not verification.is_kept(broken, Bound(0.5, 0.0))
    with pytest.raises(UserError, match="shape"):
        verification.compare(lambda _: expected[:1], sample, classifier)
    with pytest.raises(UserError, match="x.tflite does not compute"):
        verification.require_kept("x.tflite", Agreement(1.0, 1.0, None, 2), Bound(0.1, 0.9), "y")


def test_sentences_come_in_several_batch_sizes_and_lengths(folder):
    model = inference.read_folder(folder)
    head = exported_graph.choose_head(model)
    texts = verification.read_texts()
    assert 100 < len(texts) <= verification.MOST_TEXTS
    assert {isinstance(text, tuple) for text in texts} == {True, False}
    shapes = [batch["input_ids"].shape
              for batch in verification.to_batches(model, head, texts, 24)]
    assert {size for size, _ in shapes} >= {1, 2, 7, 32} and len({size for _, size in shapes}) > 2
    assert sum(size for size, _ in shapes) == len(texts)
    batches = verification.to_batches(model, head, texts[:5], 24, length=24)
    assert [batch["input_ids"].shape for batch in batches] == [(1, 24)] * 5


# ---------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------

def test_wrong_wishes(folder, texts, tmp_path):
    target = tmp_path / "x"
    assert_user_error(export(folder, target, texts, "--format=savedmodle"),
                      "--format: savedmodle is unknown", 'Did you mean "savedmodel"?')
    assert_user_error(export(folder, target, texts, "--format=onnx", "--onnx_type=int9"),
                      "--onnx_type: int9 is unknown")
    assert_user_error(export(folder, target, texts, "--format=frozen", "--length=16"),
                      "--length=16 is for --format=tflite")
    assert_user_error(export(folder, target, texts, "--format=frozen", "--head=masked_words"),
                      "has no masked words' head")
    assert_user_error(export(folder, target, texts, "--format=frozen", "--head=embedding",
                             "--layer=7"), "--layer=7: the model's 2 layers")
    assert_user_error(export(folder, target, texts, "--format=frozen", "--strip"),
                      "are two different exports")
    assert_user_error(export(folder, target, tmp_path / "none.txt", "--format=frozen"),
                      "none.txt does not exist")
    (tmp_path / "empty.txt").write_text("\n\n", encoding="utf-8")
    assert_user_error(export(folder, target, tmp_path / "empty.txt", "--format=frozen"),
                      "empty.txt holds no text")
    assert not os.path.exists(str(target))
    pretrained = make(tmp_path / "pretrained", ALBERT_ZH, 0)
    assert_user_error(export(pretrained, target, texts, "--format=frozen", "--head=classifier"),
                      "has no classifier")
    if not runtime.IS_TF1:
        assert_user_error(export(folder, target, texts, "--format=tflite", "--length=33"),
                          "--length=33: the model takes 5 to 32 tokens")


def test_nothing_of_others_is_overwritten(folder, texts, tmp_path):
    target = tmp_path / "x"
    target.mkdir()
    for name in ("model.pb", "README.md"):
        (target / name).write_bytes(b"mine")
        assert_user_error(export(folder, target, texts, "--format=frozen"),
                          "holds another %s: name a new folder" % name)
        assert read(target / name) == b"mine"
        os.remove(str(target / name))
    assert export(folder, target, texts, "--format=frozen")[0] == 0
    assert export(folder, target, texts, "--format=frozen")[0] == 0  # our own is replaced
    assert_user_error(export(folder, target, texts, "--format=frozen", "--head=pooled"),
                      "holds another export (head, output", "name a new folder")
    (target / "README.md").write_bytes(b"mine")
    assert_user_error(export(folder, target, texts, "--format=frozen"), "README.md was changed")
    (target / "export.json").write_bytes(b"[]")
    assert_user_error(export(folder, target, texts, "--format=frozen"), "export.json is damaged")


def test_several_formats_and_a_checkpoint_lie_in_one_folder(folder, texts, tmp_path):
    status, _, err = export(folder, tmp_path / "x", texts, "--format=checkpoint,frozen")
    assert status == 0, err
    assert os.path.exists(str(tmp_path / "x" / "albert_model.ckpt.index"))
    found = own_probabilities(str(tmp_path / "x"), ["天地"])
    np.testing.assert_array_equal(found, own_probabilities(folder, ["天地"]))


def test_no_estimator_is_imported():
    code = ("import sys, export_model\n"
            "print([name for name in ('finetuning', 'estimators', 'classifier', 'pretraining')\n"
            "       if name in sys.modules])\n")
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True,
                           stdout=subprocess.PIPE)
    assert found.stdout.decode("utf-8").strip().split("\n")[-1] == "[]"


def test_heads_agree_with_the_table_of_outputs():
    assert set(exported_graph.OUTPUTS) == set(exported_graph.SHAPES) == set(exported_graph.HEADS)
    assert heads.POOLINGS == ("mean", "first", "max")
