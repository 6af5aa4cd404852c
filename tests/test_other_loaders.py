"""Checkpoints written here, loaded by the packages that users of Chinese ALBERT load them with.

Each package pins an old Keras, so each has an environment of its own, made once with Python 3.7:

    for name in bert4keras bert-for-tf2; do
        python3.7 -m venv /path/to/$name
        /path/to/$name/bin/pip install -r requirements/installers.txt
        /path/to/$name/bin/pip install --no-build-isolation \
            -c requirements/constraints-tf1.txt -r requirements/loaders-$name.txt
    done
    export ALBERT_LOADERS_BERT4KERAS=/path/to/bert4keras/bin/python
    export ALBERT_LOADERS_BERT_FOR_TF2=/path/to/bert-for-tf2/bin/python

Without these variables the tests skip. What stands in the scripts below is what those packages'
documentation tells their users to write.
"""

import json
import os
import subprocess

import numpy as np
import pytest
import reference
from helpers import TINY, TINY_GOOGLE, read_checkpoint, run_here, write_checkpoint
from test_exporting import with_slots
from test_inference import make_folder

import checkpoints
import convert_albert_pytorch_checkpoint_to_tf
import convert_albert_tf_checkpoint_to_pytorch
import export_model
import hugging_face

ROWS, LENGTH = 4, 14
ZH, GOOGLE = TINY, TINY_GOOGLE

BERT4KERAS = """
from bert4keras.backend import keras
from bert4keras.models import build_transformer_model

def compute(case, batch):
    keras.backend.clear_session()
    settings = dict(case["settings"])
    model = build_transformer_model(case["config"], case["checkpoint"], model=case["model"],
                                    with_pool=True, with_mlm="linear" if case["mlm"] else False,
                                    return_keras_model=False, **settings)
    # The pooled vectors and scores; the vectors below them, which it has no switch for.
    pooled = model.model.predict([batch["input_ids"], batch["segment_ids"]])
    pooled = pooled if isinstance(pooled, list) else [pooled]
    last = model.layers["Pooler"].input
    sequence = keras.models.Model(model.model.inputs, last).predict(
        [batch["input_ids"], batch["segment_ids"]])
    return dict(zip(["sequence", "pooled", "words"], [sequence] + pooled))
"""

BERT_FOR_TF2 = """
import bert
from tensorflow import keras

def compute(case, batch):
    keras.backend.clear_session()
    layer = bert.BertModelLayer.from_params(
        bert.params_from_pretrained_ckpt(case["folder"]), name="bert")
    inputs = [keras.layers.Input((batch["input_ids"].shape[1],), dtype="int32") for _ in range(2)]
    model = keras.Model(inputs, layer(inputs))
    model.build([(None, batch["input_ids"].shape[1])] * 2)
    if case["model"] == "names":
        from bert.loader_albert import map_to_tfhub_albert_variable_name
        skipped = bert.loader.load_stock_weights(
            layer, case["checkpoint"], map_to_stock_fn=map_to_tfhub_albert_variable_name)
    else:
        skipped = bert.load_albert_weights(layer, case["checkpoint"])
    assert not skipped, skipped
    return {"sequence": model.predict([batch["input_ids"], batch["segment_ids"]])}
"""

# Runs the cases of a file, one after the other; each ends in arrays or in the text of its error.
RUNNER = """
import json, sys
import numpy as np
import tensorflow as tf
tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
with open(sys.argv[1]) as stream:
    cases = json.load(stream)
errors = {}
for name, case in cases.items():
    try:
        np.savez(case["output"], **compute(case, np.load(case["batch"])))
    except Exception as error:
        errors[name] = "%s: %s" % (type(error).__name__, error)
with open(sys.argv[2], "w") as stream:
    json.dump(errors, stream)
"""


# ---------------------------------------------------------------------------------------------
# Models written here
# ---------------------------------------------------------------------------------------------

def succeed(script, *arguments):
    status, _, err = run_here(script, *arguments)
    assert status == 0, err


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders with a model: {name: path}.

    Of each layout, pre-trained and fine-tuned, as training leaves it and exported; and the
    albert_zh ones rewritten in the Google layout.
    """
    place, folders = tmp_path_factory.mktemp("models"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hugging_face, "why_not_comparable", lambda: "torch")
        for layout, settings in (("zh", ZH), ("google", GOOGLE)):
            for classes in (0, 3):
                kind = "%s %s" % (layout, "fine-tuned" if classes else "pre-trained")
                folders[kind] = make_folder(place / kind, settings, classes, name="model.ckpt-7")
                prefix = checkpoints.resolve(folders[kind])
                write_checkpoint(prefix, with_slots(read_checkpoint(prefix)))
                folders[kind + " exported"] = str(place / (kind + " exported"))
                succeed(export_model, "--strip", "--init_checkpoint=" + folders[kind],
                        "--export_dir=" + folders[kind + " exported"])
                if layout == "zh":
                    wide, between = kind + " as google", str(place / (kind + " hf"))
                    folders[wide] = str(place / wide)
                    succeed(convert_albert_tf_checkpoint_to_pytorch,
                            "--model_dir=" + folders[kind], "--output_dir=" + between)
                    succeed(convert_albert_pytorch_checkpoint_to_tf,
                            "--model_dir=" + between, "--output_dir=" + folders[wide])
    return folders


def batch(padded):
    """Returns inputs; rows are of several lengths where `padded`."""
    rng = np.random.RandomState(5)
    lengths = rng.randint(6, LENGTH, ROWS) if padded else np.full(ROWS, LENGTH)
    real = np.arange(LENGTH) < lengths[:, None]
    segments = (np.arange(LENGTH) >= lengths[:, None] // 2) & real
    return {"input_ids": (rng.randint(5, 60, (ROWS, LENGTH)) * real).astype(np.int32),
            "input_mask": real.astype(np.int32), "segment_ids": segments.astype(np.int32)}


def expected(folder, inputs):
    """Returns {output: array} in NumPy; the padding's rows are zero."""
    with open(os.path.join(folder, "albert_config.json")) as stream:
        settings = json.load(stream)
    weights = read_checkpoint(checkpoints.resolve(folder))
    google = "num_hidden_groups" in settings
    encode = reference.encode_google if google else reference.encode
    results = {"sequence": np.zeros([ROWS, LENGTH, settings["hidden_size"]]), "pooled": []}
    for row, count in enumerate(inputs["input_mask"].sum(1)):
        ids, segments = (inputs[name][row, :count] for name in ("input_ids", "segment_ids"))
        _, layers, pooled = encode(settings, weights, ids, np.ones(count), segments)
        results["sequence"][row, :count] = layers[-1]
        results["pooled"].append(pooled)
    if "cls/predictions/output_bias" in weights and google:
        scope = "cls/predictions/transform/"
        hidden = reference.gelu(reference.linear(results["sequence"], weights, scope + "dense"))
        hidden = reference.normalise(hidden, weights, scope + "LayerNorm")
        results["words"] = (hidden @ weights["bert/embeddings/word_embeddings"].T
                            + weights["cls/predictions/output_bias"])
    return results


class Loader(object):
    """Runs cases in a package's environment, all in one process."""

    def __init__(self, python, script, place):
        self._python, self._script, self._place = python, script, place

    def run(self, inputs, cases):
        """Returns ({case: {output: array}}, {case: error})."""
        place = str(self._place)
        np.savez(os.path.join(place, "batch.npz"), **inputs)
        for number, case in enumerate(cases.values()):
            case.update(checkpoint=checkpoints.resolve(case["folder"]),
                        config=os.path.join(case["folder"], "albert_config.json"),
                        batch=os.path.join(place, "batch.npz"),
                        output=os.path.join(place, "%d.npz" % number))
        paths = {name: os.path.join(place, name)
                 for name in ("run.py", "cases.json", "errors.json")}
        with open(paths["run.py"], "w") as stream:
            stream.write(self._script + RUNNER)
        with open(paths["cases.json"], "w") as stream:
            json.dump(cases, stream)
        # This TensorFlow's variables (TF2_BEHAVIOR) would make the other one eager; by PYTHONPATH
        # the package would find this project's modules.
        surroundings = {name: value for name, value in os.environ.items()
                        if not name.startswith(("TF", "PYTHONPATH"))}
        process = subprocess.run(
            [self._python, paths["run.py"], paths["cases.json"], paths["errors.json"]], cwd=place,
            env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.returncode == 0, process.stdout.decode("utf-8", "replace")[-2000:]
        with open(paths["errors.json"]) as stream:
            errors = json.load(stream)
        return {name: dict(np.load(case["output"])) for name, case in cases.items()
                if name not in errors}, errors


def loader(variable, script, tmp_path_factory):
    python = os.environ.get(variable)
    if not python:
        pytest.skip("%s is not set: this file's first lines tell how to make the environment"
                    % variable)
    return Loader(python, script, tmp_path_factory.mktemp("loader"))


@pytest.fixture(scope="module")
def bert4keras(tmp_path_factory):
    return loader("ALBERT_LOADERS_BERT4KERAS", BERT4KERAS, tmp_path_factory)


@pytest.fixture(scope="module")
def bert_for_tf2(tmp_path_factory):
    return loader("ALBERT_LOADERS_BERT_FOR_TF2", BERT_FOR_TF2, tmp_path_factory)


def largest_difference(found, wanted, inputs):
    real = inputs["input_mask"].astype(bool)
    differences = {}
    for name, value in found.items():
        other = np.array(wanted[name])
        pick = real if value.ndim == 3 else slice(None)
        differences[name] = np.abs(value[pick] - other[pick]).max()
    return max(differences.values())


# ---------------------------------------------------------------------------------------------
# bert4keras
# ---------------------------------------------------------------------------------------------

def test_bert4keras_loads_the_google_layout(bert4keras, models):
    inputs = batch(padded=True)
    tanh = {"hidden_act": "gelu_tanh"}  # its "gelu" is the exact form
    cases = {"%s, %s" % (name, model): {
        "folder": folder, "model": model, "settings": tanh, "mlm": "pre-trained" in name}
        for name, folder in models.items() if "google" in name
        for model in ["albert"] + ["albert_unshared"] * name.endswith("exported")}
    cases["exact"] = {"folder": models["google pre-trained"], "model": "albert", "settings": {},
                      "mlm": False}
    found, errors = bert4keras.run(inputs, cases)
    assert not errors and len(found) == 9
    exact = found.pop("exact")
    for name, outputs in found.items():
        assert set(outputs) == {"sequence", "pooled"} | (
            {"words"} if "pre-trained" in name else set())
        wanted = expected(cases[name]["folder"], inputs)
        assert largest_difference(outputs, wanted, inputs) < 2e-5, name
    # Without hidden_act the vectors are close, and not the same.
    wanted = expected(models["google pre-trained"], inputs)
    assert 2e-5 < largest_difference(exact, wanted, inputs) < 1e-2
    # What was rewritten in the Google layout is still what the albert_zh model computes.
    for kind in ("pre-trained", "fine-tuned"):
        wanted = expected(models["zh " + kind], inputs)
        assert largest_difference({"sequence": found["zh %s as google, albert" % kind]["sequence"]},
                                  wanted, inputs) < 2e-5


def test_bert4keras_refuses_the_albert_zh_layout(bert4keras, models):
    """It knows the Google layout's names alone; rewritten in that, the model loads."""
    cases = {name: {"folder": folder, "model": "albert", "settings": {}, "mlm": False}
             for name, folder in models.items() if "google" not in name}
    found, errors = bert4keras.run(batch(padded=False), cases)
    assert not found and len(errors) == 4
    for error in errors.values():
        assert "embedding_hidden_mapping_in/kernel not found in checkpoint" in error


# ---------------------------------------------------------------------------------------------
# bert-for-tf2
# ---------------------------------------------------------------------------------------------

def test_bert_for_tf2_loads_both_layouts(bert_for_tf2, models):
    inputs = batch(padded=False)
    cases = {name: {"folder": folder, "model": "names" if "google" in name else "albert"}
             for name, folder in models.items()}
    found, errors = bert_for_tf2.run(inputs, cases)
    assert not errors and len(found) == 10
    for name, outputs in found.items():
        wanted = expected(models[name], inputs)
        assert largest_difference(outputs, wanted, inputs) < 2e-5, name


@pytest.mark.parametrize("package", ["bert4keras", "bert_for_tf2"])
def test_parameter_groups_are_unknown_to_both(package, request, tmp_path):
    """They take group 0 for all layers, without a word: such a model is none for them."""
    inputs = batch(padded=False)
    folder = make_folder(tmp_path / "groups", dict(GOOGLE, num_hidden_groups=2), classes=0)
    case = {"folder": folder, "settings": {"hidden_act": "gelu_tanh"}, "mlm": False,
            "model": "albert" if package == "bert4keras" else "names"}
    found, errors = request.getfixturevalue(package).run(inputs, {"groups": case})
    assert not errors
    assert largest_difference(found["groups"], expected(folder, inputs), inputs) > 0.1


def test_bert_for_tf2_takes_a_google_checkpoint_for_an_albert_zh_one(bert_for_tf2, models,
                                                                    tmp_path):
    """load_albert_weights goes by a file name; where it is not there, weights stay random.

    It looks for model.ckpt-best.meta, as Google's archives have; an empty file will do.
    """
    inputs, wanted = batch(padded=False), {}
    marked = make_folder(tmp_path / "marked", GOOGLE, classes=0)
    open(os.path.join(marked, "model.ckpt-best.meta"), "w").close()
    cases = {"plain": {"folder": models["google pre-trained exported"], "model": "albert"},
             "marked": {"folder": marked, "model": "albert"}}
    found, errors = bert_for_tf2.run(inputs, cases)
    assert not errors
    wanted = expected(marked, inputs)
    assert largest_difference(found["marked"], wanted, inputs) < 2e-5
    assert largest_difference(found["plain"], wanted, inputs) > 0.1
