"""Hugging Face folders: what the converters write and read, and what they refuse.

What the models compute is compared by the converters themselves and in test_transformers.py; here
that needs PyTorch too, the rest of it does not.
"""

import collections
import json
import os
import shutil

import numpy as np
import pytest
from helpers import (TINY, TINY_GOOGLE, assert_user_error, google_pretraining_weights,
                     pretraining_weights, read, read_checkpoint, run_here, run_script, train_spm,
                     write_checkpoint)
from test_exporting import with_slots
from test_inference import make_folder, vocabulary, write
from test_tokenization import HOSTILE

import checkpoints
import convert_albert_pytorch_checkpoint_to_tf as to_tf
import convert_albert_tf_checkpoint_to_pytorch as to_pytorch
import hugging_face
import inference
import layouts
import modeling_google
import tokenization
from errors import UserError

safetensors = pytest.importorskip("safetensors.numpy", reason="the converters need safetensors")

GROUPS = dict(TINY_GOOGLE, num_hidden_layers=4, num_hidden_groups=2, inner_group_num=2)


@pytest.fixture(autouse=True)
def no_comparison(request, monkeypatch):
    """Leaves PyTorch out, as where it is not installed, but in tests marked as needing it."""
    if "torch" not in request.fixturenames:
        monkeypatch.setattr(hugging_face, "why_not_comparable", lambda: "torch")


@pytest.fixture()
def torch():
    pytest.importorskip("transformers")
    return pytest.importorskip("torch", reason='PyTorch is missing: ALBERT_EXTRAS="test hf"')


def forth(source, target, *others):
    return run_here(to_pytorch, "--model_dir=%s" % source, "--output_dir=%s" % target, *others)


def back(source, target, *others):
    return run_here(to_tf, "--model_dir=%s" % source, "--output_dir=%s" % target, *others)


def assert_converts(result):
    status, _, err = result
    assert status == 0, err
    return err


def tensors_in(folder):
    return safetensors.load_file(os.path.join(str(folder), "model.safetensors"))


def settings_in(folder, name="config.json"):
    return json.loads(read(os.path.join(str(folder), name)).decode("utf-8"))


def changed(folder, name="config.json", **changes):
    """Changes a folder's settings; None takes a key out."""
    settings = dict(settings_in(folder, name), **changes)
    write(folder, name, json.dumps({key: value for key, value in settings.items()
                                    if value is not None}))


# ---------------------------------------------------------------------------------------------
# To Hugging Face
# ---------------------------------------------------------------------------------------------

def test_a_pretrained_model_from_the_command_line(tmp_path):
    folder = make_folder(tmp_path / "run", TINY_GOOGLE, classes=0)
    target = tmp_path / "hf"
    status, _, err = run_script("convert_albert_tf_checkpoint_to_pytorch.py",
                                "--model_dir=%s" % folder, "--output_dir=%s" % target)
    assert status == 0, err
    assert sorted(os.listdir(str(target))) == [
        "config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json",
        "tokenizer_config.json", "vocab.txt"]
    assert "AlbertForPreTraining, 32 weights" in err
    assert ("Not compared with TensorFlow: the package" in err) == ("largest difference" not in err)
    settings = settings_in(target)
    assert settings["architectures"] == ["AlbertForPreTraining"]
    assert (settings["hidden_act"], settings["layer_norm_eps"]) == ("gelu_new", 1e-12)
    sizes = set(modeling_google.AlbertConfig.KEYS) - {"hidden_act"}
    assert {name: settings[name] for name in sizes} == {name: TINY_GOOGLE[name] for name in sizes}
    assert read(target / "vocab.txt") == read(os.path.join(folder, "vocab.txt"))


def test_weights_of_the_google_layout_one_by_one(tmp_path):
    folder = make_folder(tmp_path / "run", GROUPS, classes=0)
    assert_converts(forth(folder, tmp_path / "hf"))
    weights, tensors = read_checkpoint(os.path.join(folder, "model.ckpt")), tensors_in(
        tmp_path / "hf")
    assert len(tensors) == len(weights) == 32 + 3 * 16
    layer = "albert.encoder.albert_layer_groups.1.albert_layers.1."
    scope = "bert/encoder/transformer/group_1/inner_group_1/"
    for theirs, ours in [
            (layer + "attention.query.weight", weights[scope + "attention_1/self/query/kernel"].T),
            (layer + "attention.dense.bias", weights[scope + "attention_1/output/dense/bias"]),
            (layer + "attention.LayerNorm.weight", weights[scope + "LayerNorm/gamma"]),
            (layer + "full_layer_layer_norm.bias", weights[scope + "LayerNorm_1/beta"]),
            (layer + "ffn.weight", weights[scope + "ffn_1/intermediate/dense/kernel"].T),
            (layer + "ffn_output.weight",
             weights[scope + "ffn_1/intermediate/output/dense/kernel"].T),
            (hugging_face.WORDS, weights["bert/embeddings/word_embeddings"]),
            ("predictions.bias", weights["cls/predictions/output_bias"]),
            ("predictions.dense.weight", weights["cls/predictions/transform/dense/kernel"].T),
            ("sop_classifier.classifier.weight", weights["cls/seq_relationship/output_weights"])]:
        np.testing.assert_array_equal(tensors[theirs], ours)


def test_the_albert_zh_layout_becomes_one_wide_embedding(tmp_path):
    folder = make_folder(tmp_path / "run", TINY, classes=0)
    assert_converts(forth(folder, tmp_path / "hf"))
    weights, tensors = read_checkpoint(os.path.join(folder, "model.ckpt")), tensors_in(
        tmp_path / "hf")
    settings = settings_in(tmp_path / "hf")
    assert settings["embedding_size"] == settings["hidden_size"] == 16
    assert (settings["num_hidden_groups"], settings["inner_group_num"]) == (1, 1)
    np.testing.assert_allclose(
        tensors["albert.embeddings.word_embeddings.weight"],
        weights["bert/embeddings/word_embeddings"].astype(np.float64)
        .dot(weights["bert/embeddings/word_embeddings_2"]), rtol=1e-6, atol=1e-9)
    mapping = "albert.encoder.embedding_hidden_mapping_in."
    np.testing.assert_array_equal(tensors[mapping + "weight"], np.eye(16))
    np.testing.assert_array_equal(tensors[mapping + "bias"], np.zeros(16))
    np.testing.assert_array_equal(
        tensors["albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"],
        weights["bert/encoder/layer_shared/intermediate/dense/kernel"].T)


@pytest.mark.parametrize("slots", [("adam_m", "adam_v"), ("lamb_m", "lamb_v"),
                                   ("Momentum", "ExponentialMovingAverage")])
def test_slots_of_every_name_are_left_out(tmp_path, slots):
    folder = make_folder(tmp_path / "run", TINY, classes=0)
    assert_converts(forth(folder, tmp_path / "bare"))
    write_checkpoint(os.path.join(folder, "model.ckpt"), with_slots(pretraining_weights(), slots))
    err = assert_converts(forth(folder, tmp_path / "hf"))
    assert "Left out" not in err
    bare, found = tensors_in(tmp_path / "bare"), tensors_in(tmp_path / "hf")
    assert set(bare) == set(found)
    for name in bare:
        np.testing.assert_array_equal(bare[name], found[name])


def test_a_classifier_keeps_its_labels(tmp_path):
    labels = ["财经", "体育", "娱乐"]
    folder = make_folder(tmp_path / "run", TINY_GOOGLE, classes=3,
                         told={"labels": labels, "use_pooled_output": True})
    assert_converts(forth(folder, tmp_path / "hf"))
    settings = settings_in(tmp_path / "hf")
    assert settings["architectures"] == ["AlbertForSequenceClassification"]
    assert settings["id2label"] == {"0": "财经", "1": "体育", "2": "娱乐"}
    assert settings["label2id"] == {"财经": 0, "体育": 1, "娱乐": 2}
    weights, tensors = read_checkpoint(os.path.join(folder, "model.ckpt")), tensors_in(
        tmp_path / "hf")
    np.testing.assert_array_equal(tensors["classifier.weight"], weights["output_weights"])
    np.testing.assert_array_equal(tensors["classifier.bias"], weights["output_bias"])
    assert not any(name.startswith(("predictions", "sop")) for name in tensors)


@pytest.mark.parametrize("kept, architecture, left_out", [
    (("bert/", "cls/"), "AlbertForPreTraining", ""),
    (("bert/", "cls/predictions/"), "AlbertForMaskedLM", ""),
    (("bert/", "cls/seq_relationship/"), "AlbertModel", "Left out, as AlbertModel has no place for "
     "it: cls/seq_relationship/output_bias, cls/seq_relationship/output_weights"),
    (("bert/",), "AlbertModel", ""),
])
def test_the_class_follows_from_the_heads_that_are_there(tmp_path, kept, architecture, left_out):
    folder = make_folder(tmp_path / "run", TINY_GOOGLE, classes=0)
    write_checkpoint(os.path.join(folder, "model.ckpt"), {
        name: value for name, value in google_pretraining_weights().items()
        if name.startswith(kept)})
    err = assert_converts(forth(folder, tmp_path / "hf"))
    assert settings_in(tmp_path / "hf")["architectures"] == [architecture]
    assert left_out in err and ("Left out" in err) == bool(left_out)


def test_the_flags_of_the_script_that_users_know(tmp_path):
    folder = make_folder(tmp_path / "run", TINY, classes=0)
    os.rename(os.path.join(folder, "albert_config.json"), str(tmp_path / "sizes.json"))
    known = ("--tf_checkpoint_path=%s/model.ckpt" % folder,
             "--albert_config_file=%s" % (tmp_path / "sizes.json"))
    assert_converts(run_here(to_pytorch, "--pytorch_dump_path=%s" % (tmp_path / "hf"), *known))
    assert "model.safetensors" in os.listdir(str(tmp_path / "hf"))
    assert_user_error(run_here(to_pytorch, *known), "--output_dir", "--pytorch_dump_path")
    assert_user_error(run_here(to_pytorch, "--model_dir=%s" % folder, "--output_dir=x", *known),
                      "--model_dir or --tf_checkpoint_path")


def test_the_bare_weights_in_one_file(tmp_path, torch):
    folder = make_folder(tmp_path / "run", TINY, classes=0)
    path = tmp_path / "to" / "pytorch_model.bin"
    known = ("--tf_checkpoint_path=%s/model.ckpt" % folder, "--pytorch_dump_path=%s" % path)
    assert_converts(run_here(to_pytorch, *known))
    assert os.listdir(str(tmp_path / "to")) == ["pytorch_model.bin"]
    assert_converts(forth(folder, tmp_path / "hf"))
    state, tensors = torch.load(str(path), weights_only=True), tensors_in(tmp_path / "hf")
    assert set(state) == set(tensors) | {"predictions.decoder.weight", "predictions.decoder.bias"}
    for name, value in tensors.items():
        np.testing.assert_array_equal(state[name].numpy(), value)
    assert_user_error(run_here(to_pytorch, *known), "exists already")


@pytest.mark.parametrize("settings, told, classes, fragments", [
    (dict(TINY, ln_type="preln"), None, 0, ["pre-LN", "before each sub-layer"]),
    (TINY_GOOGLE, {"use_pooled_output": False}, 2, ["mean over all tokens", "export_model.py"]),
    (dict(TINY_GOOGLE, num_hidden_layers=2, num_hidden_groups=2, inner_group_num=2), None, 0,
     ["inner_group_num 2", "only 1 layers"]),
])
def test_what_cannot_be_expressed_is_refused_with_the_reason(tmp_path, settings, told, classes,
                                                             fragments):
    folder = make_folder(tmp_path / "run", settings, classes, told)
    assert_user_error(forth(folder, tmp_path / "hf"), *fragments)
    assert not os.path.exists(str(tmp_path / "hf"))


@pytest.mark.parametrize("layers", [1, 4, 12, 18, 24, 27])
def test_parameter_groups_are_those_of_hugging_face(layers):
    """Where their division in floating point ends in another group, the model is refused."""
    for groups in range(1, layers + 1):
        theirs = [int(layer / (layers / groups)) for layer in range(layers)]
        ours = [modeling_google.group_of(layer, layers, groups) for layer in range(layers)]
        if theirs == ours:
            hugging_face.require_same_groups(layers, groups, 1, "sizes.json")
        else:
            assert (layers, groups) in ((18, 14), (27, 21))
            with pytest.raises(UserError, match="%d layers in %d groups" % (layers, groups)):
                hugging_face.require_same_groups(layers, groups, 1, "sizes.json")


def test_nothing_is_overwritten_and_nothing_half_done_is_left(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "run", TINY, classes=0)
    before = sorted(os.listdir(folder))
    assert_user_error(forth(folder, folder), "--output_dir=%s holds files already" % folder)
    assert_user_error(forth(folder, os.path.join(folder, "vocab.txt")), "is a file")

    monkeypatch.setattr(hugging_face, "why_not_comparable", lambda: None)
    monkeypatch.setattr(hugging_face, "text_with_other_ids", lambda *_: None)
    for wrong in (float("nan"), 3e-5):
        found = {"hidden states": 1e-7, "pooled": wrong}
        monkeypatch.setattr(hugging_face, "compare", lambda *_, found=found, **__: found)
        assert_user_error(forth(folder, tmp_path / "hf"), "was not written: its pooled differ by")
        assert os.listdir(str(tmp_path / "hf")) == []
    monkeypatch.setattr(hugging_face, "text_with_other_ids", lambda *_: "天气")
    assert_user_error(forth(folder, tmp_path / "hf"), "its tokenizer gives other ids", "天气")
    assert os.listdir(str(tmp_path / "hf")) == []
    assert sorted(os.listdir(folder)) == before


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "run", TINY, classes=0)
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    assert_user_error(forth(folder, tmp_path / "hf"), "pip install safetensors")
    assert not os.path.exists(str(tmp_path / "hf"))


# ---------------------------------------------------------------------------------------------
# Loaded by transformers
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("settings, classes, automatic", [
    (GROUPS, 0, "AutoModelForPreTraining"), (TINY, 0, "AutoModelForPreTraining"),
    (GROUPS, 3, "AutoModelForSequenceClassification"),
    (dict(TINY, hidden_act="relu"), 3, "AutoModelForSequenceClassification"),
])
def test_transformers_loads_the_folder_and_agrees(tmp_path, torch, settings, classes, automatic):
    import transformers
    folder = make_folder(tmp_path / "run", settings, classes)
    err = assert_converts(forth(folder, tmp_path / "hf"))
    assert "largest difference" in err and "Not compared" not in err
    hf = str(tmp_path / "hf")
    model, loading = getattr(transformers, automatic).from_pretrained(
        hf, output_loading_info=True, local_files_only=True)
    assert [list(loading[name]) for name in ("missing_keys", "unexpected_keys",
                                             "mismatched_keys")] == [[], [], []]
    others = ["AutoModel"] + ["AutoModelForMaskedLM"] * (not classes)
    for name in others:
        _, loading = getattr(transformers, name).from_pretrained(hf, output_loading_info=True)
        assert not loading["missing_keys"] and not loading["mismatched_keys"]
    # The whole way, from text to probabilities, as users take it.
    if classes:
        texts = [("天气", "大小多少"), ("人来人去", "日月")]
        tokenizer = transformers.AutoTokenizer.from_pretrained(hf)
        batch = tokenizer([a for a, _ in texts], [b for _, b in texts], padding=True,
                          return_tensors="pt")
        with torch.no_grad():
            found = torch.softmax(model.eval()(**batch).logits, -1).numpy()
        with inference.Predictor(inference.read_folder(folder)) as predictor:
            np.testing.assert_allclose(found, predictor.probabilities(texts), atol=2e-5)


def test_a_difference_is_noticed(tmp_path, torch):
    """The comparison sees a single weight that is wrong, in each output that it reaches."""
    folder = make_folder(tmp_path / "run", TINY_GOOGLE, classes=0)
    assert_converts(forth(folder, tmp_path / "hf"))
    model = inference.read_folder(folder)

    def differences(name, **changes):
        tensors = tensors_in(tmp_path / "hf")
        tensors[name] = tensors[name].copy()
        tensors[name].flat[0] += 0.5
        safetensors.save_file(tensors, str(tmp_path / "hf" / "model.safetensors"),
                              metadata={"format": "pt"})
        found = hugging_face.compare(str(tmp_path / "hf"), "AlbertForPreTraining", model.config,
                                     model.checkpoint, model.tokenizer, **changes)
        return {key for key, value in found.items() if value > hugging_face.BOUND}

    assert differences("sop_classifier.classifier.bias") == {"sentence order"}
    assert differences("predictions.bias") == {"sentence order", "masked words"}
    assert differences("albert.pooler.bias") == {"sentence order", "masked words", "pooled"}
    assert len(differences("albert.embeddings.LayerNorm.bias")) == 4


def test_the_tokenizer_gives_our_ids_on_hostile_text(tmp_path, vocab_file):
    transformers = pytest.importorskip("transformers")
    words = ["ab" * 90, "ab" * 101, "a" * 200 + " 中",  # up to 200 characters are one word
             "a\ue000b c\uf06c", "会员\ue64c", "\U000f0000"]  # private use: unknown, not dropped
    for lower in (True, False):
        ours = tokenization.FullTokenizer(vocab_file, lower)
        folder = tmp_path / str(lower)
        folder.mkdir()
        for name, content in hugging_face.tokenizer_files(ours, 512).items():
            (folder / name).write_bytes(content)
        write(folder, "config.json", '{"model_type": "albert", "tokenizer_class": "BertTokenizer"}')
        theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
        assert theirs.is_fast and len(theirs) == len(ours.vocab)
        assert theirs.model_max_length == 512
        for text in HOSTILE + words:
            expected = ours.convert_tokens_to_ids(ours.tokenize(text))
            assert theirs.encode(text, add_special_tokens=False) == expected, repr(text)
        pair = theirs("天气", "好 吗")
        assert pair["input_ids"] == [101, 1921, 3698, 102, 1962, 1408, 102]
        assert pair["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]
        assert theirs.convert_tokens_to_ids(["[PAD]", "[MASK]", "\u2028"]) == [0, 103, 344 - 1]


def test_a_sentencepiece_model_becomes_an_albert_tokenizer(tmp_path, torch):
    import transformers
    folder = make_folder(tmp_path / "run", TINY_GOOGLE, classes=0)
    os.remove(os.path.join(folder, "vocab.txt"))
    model = train_spm(tmp_path)
    os.rename(str(model), os.path.join(folder, "spm.model"))
    assert_converts(forth(folder, tmp_path / "hf"))
    ours = tokenization.from_file(os.path.join(folder, "spm.model"))
    theirs = transformers.AlbertTokenizer.from_pretrained(str(tmp_path / "hf"))
    for text in ("the unbelievable reader", "Reading 1990, slowly!", "", "READER 读者"):
        assert theirs.encode(text, add_special_tokens=False) == ours.convert_tokens_to_ids(
            ours.tokenize(text))
    automatic = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "hf"))
    assert automatic("reader", "slowly") == theirs("reader", "slowly")
    # And back, with the vocabulary under the name that it has here.
    assert_converts(back(tmp_path / "hf", tmp_path / "tf"))
    assert read(tmp_path / "tf" / "spm.model") == read(os.path.join(folder, "spm.model"))


# ---------------------------------------------------------------------------------------------
# The way back
# ---------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A pre-trained model with two groups of two, and its Hugging Face folder."""
    place = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hugging_face, "why_not_comparable", lambda: "torch")
        assert_converts(forth(make_folder(place / "run", GROUPS, classes=0), place / "hf"))
    return place


@pytest.fixture()
def folder(tmp_path, converted):
    """A copy of that Hugging Face folder."""
    shutil.copytree(str(converted / "hf"), str(tmp_path / "hf"))
    return tmp_path / "hf"


@pytest.mark.parametrize("classes", [0, 3])
def test_the_google_layout_comes_back_to_the_bit(tmp_path, classes):
    labels = ["财经", "体育", "娱乐"][:classes]
    run = make_folder(tmp_path / "run", GROUPS, classes, {"labels": labels, "do_lower_case": False}
                      if classes else None)
    assert_converts(forth(run, tmp_path / "hf"))
    err = assert_converts(back(tmp_path / "hf", tmp_path / "tf"))
    before, after = (read_checkpoint(path) for path in (
        os.path.join(run, "model.ckpt"), tmp_path / "tf" / "albert_model.ckpt"))
    assert set(before) == set(after)
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name])
        assert value.dtype == after[name].dtype == np.float32
    first, second = inference.read_folder(run), inference.read_folder(str(tmp_path / "tf"))
    assert first.config.to_dict() == second.config.to_dict() and first.layout == second.layout
    assert (first.head, first.labels) == (second.head, second.labels)
    assert first.tokenizer.vocab == second.tokenizer.vocab
    assert first.tokenizer.do_lower_case == second.tokenizer.do_lower_case
    assert "WARNING" not in err
    assert sorted(os.listdir(str(tmp_path / "tf"))) == sorted(
        ["albert_config.json", "albert_model.ckpt.data-00000-of-00001", "albert_model.ckpt.index",
         "checkpoint", "vocab.txt"] + ["classifier.json", "labels.txt"] * bool(classes))


@pytest.mark.parametrize("classes", [0, 2])
def test_the_albert_zh_layout_comes_back_in_the_google_layout(tmp_path, classes):
    run = make_folder(tmp_path / "run", dict(TINY, num_hidden_layers=3), classes)
    assert_converts(forth(run, tmp_path / "hf"))
    assert_converts(back(tmp_path / "hf", tmp_path / "tf"))
    second = inference.read_folder(str(tmp_path / "tf"))
    assert second.layout == layouts.GOOGLE and second.config.embedding_size == 16
    texts = ["天地人", ("大小", "多少"), "日月" * 9]
    with inference.Predictor(inference.read_folder(run)) as predictor:
        vectors = predictor.vectors(texts, (-1, 0))
        probabilities = predictor.probabilities(texts) if classes else None
    with inference.Predictor(second) as predictor:
        np.testing.assert_allclose(predictor.vectors(texts, (-1, 0)), vectors, atol=2e-5)
        if classes:
            np.testing.assert_allclose(predictor.probabilities(texts), probabilities, atol=2e-5)


def split(folder):
    """Parts a folder's weights over three files, as large models are saved."""
    tensors, places = tensors_in(folder), {}
    for number, name in enumerate(sorted(tensors)):
        places[name] = "model-%05d-of-00003.safetensors" % (number % 3 + 1)
    for part in sorted(set(places.values())):
        safetensors.save_file({name: tensors[name] for name in tensors if places[name] == part},
                              str(folder / part), metadata={"format": "pt"})
    os.remove(str(folder / "model.safetensors"))
    write(folder, "model.safetensors.index.json", json.dumps(
        {"metadata": {"total_size": 1}, "weight_map": places}))
    return tensors


def test_weights_in_parts(tmp_path, folder):
    tensors = split(folder)
    found = hugging_face.read_tensors(str(folder))
    assert set(found) == set(tensors)
    for name in tensors:
        np.testing.assert_array_equal(found[name], tensors[name])
    assert_converts(back(folder, tmp_path / "tf"))
    os.remove(str(folder / "model-00002-of-00003.safetensors"))
    assert_user_error(back(folder, tmp_path / "other"), "names the part model-00002-of-00003",
                      "copy it too")
    index = "model.safetensors.index.json"
    changed(folder, index, weight_map={"x": "../elsewhere"})
    assert_user_error(back(folder, tmp_path / "other"), index, "weight_map")


@pytest.mark.parametrize("kind", ["pickle", "bfloat16"])
def test_weights_that_pytorch_reads(tmp_path, folder, torch, kind):
    from safetensors.torch import save_file
    tensors = tensors_in(folder)
    os.remove(str(folder / "model.safetensors"))
    values = {name: torch.from_numpy(value) for name, value in tensors.items()}
    if kind == "pickle":
        # As older versions saved it: with buffers, and the tied layer once more.
        values.update({"albert.embeddings.position_ids": torch.arange(32)[None],
                       "predictions.decoder.weight":
                           values["albert.embeddings.word_embeddings.weight"],
                       "predictions.decoder.bias": values["predictions.bias"]})
        torch.save(values, str(folder / "pytorch_model.bin"))
    else:
        tensors = {name: value.bfloat16().float().numpy() for name, value in values.items()}
        save_file({name: value.bfloat16() for name, value in values.items()},
                  str(folder / "model.safetensors"), metadata={"format": "pt"})
    err = assert_converts(back(folder, tmp_path / "tf"))
    assert "WARNING" not in err and "largest difference" in err
    found = read_checkpoint(tmp_path / "tf" / "albert_model.ckpt")
    assert len(found) == len(tensors)
    np.testing.assert_array_equal(found["bert/pooler/dense/kernel"],
                                  tensors["albert.pooler.weight"].T)


def test_a_pickle_that_is_more_than_weights_is_refused(tmp_path, folder, torch):
    os.remove(str(folder / "model.safetensors"))
    torch.save({"x": collections.Counter("ab"), "y": os.system}, str(folder / "pytorch_model.bin"))
    assert_user_error(back(folder, tmp_path / "tf"), "pytorch_model.bin", "more than weights")


def test_a_model_of_transformers_own_making(tmp_path, torch):
    """Made, saved and tokenised by transformers alone; every class, with its own numbers."""
    import transformers
    config = transformers.AlbertConfig(
        vocab_size=60, embedding_size=8, hidden_size=16, num_hidden_layers=2, num_hidden_groups=2,
        num_attention_heads=2, intermediate_size=24, max_position_embeddings=40)
    write(tmp_path, "vocab.txt", "\n".join(vocabulary(60)) + "\n")
    for kind, count, told in [
            ("AlbertModel", 25 + 16, []), ("AlbertForPreTraining", 32 + 16, []),
            ("AlbertForMaskedLM", 28 + 16, ["no pooler"]),
            ("AlbertForSequenceClassification", 27 + 16, []),
            ("AlbertForTokenClassification", 23 + 16, ["no pooler", "AlbertForTokenClassification",
                                                       "classifier.weight"])]:
        source, target = str(tmp_path / kind), tmp_path / ("tf_" + kind)
        torch.manual_seed(7)
        getattr(transformers, kind)(config).save_pretrained(source)
        transformers.BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(source)
        os.remove(os.path.join(source, "vocab.txt"))  # version 5 writes tokenizer.json alone
        err = assert_converts(back(source, target))
        assert "hidden states" in err and "other ids" not in err, err
        assert all(fragment in err for fragment in told) and ("WARNING" in err) == bool(told), err
        assert len(read_checkpoint(target / "albert_model.ckpt")) == count, kind
        assert checkpoints.resolve(str(target)) == str(target / "albert_model.ckpt")
        if not told:
            model = inference.read_folder(str(target))
            assert model.labels == (["0", "1"] if model.head else [])
        if kind == "AlbertForMaskedLM":
            words_are_theirs(torch, getattr(transformers, kind).from_pretrained(source), target)
            again = tmp_path / "again"
            assert "masked words" in assert_converts(forth(target, again))
            assert settings_in(again)["architectures"] == [kind]
            assert set(tensors_in(again)) == set(tensors_in(source))


def words_are_theirs(torch, theirs, folder):
    """A masked-word model of theirs has no pooler; what we fill masks with is the same."""
    with inference.Predictor(inference.read_folder(str(folder))) as predictor:
        ids = predictor.model.tokenizer.convert_tokens_to_ids(["[CLS]", "天", "[MASK]", "[SEP]"])
        with torch.no_grad():
            scores = theirs.eval()(torch.tensor([ids])).logits[0, 2].softmax(-1).numpy()
        words, = predictor.masked_words(["天[MASK]"], top=60)[0]
    found = dict(words)
    for index, word in enumerate(vocabulary(60)):
        assert found[word] == pytest.approx(scores[index], abs=2e-5)


@pytest.mark.parametrize("changes, fragments", [
    ({"model_type": "bert"}, ['"model_type" is "bert"']),
    ({"model_type": None}, ['"model_type" is null']),
    ({"hidden_act": "silu"}, ['hidden_act "silu"', "gelu_new"]),
    ({"layer_norm_eps": 1e-5}, ["layer_norm_eps is 1e-05"]),
    ({"position_embedding_type": "relative_key"}, ["position_embedding_type"]),
    ({"num_hidden_layers": "six"}, ['num_hidden_layers is "six"']),
    ({"num_hidden_groups": 4, "num_hidden_layers": 8}, ["lacks weights", "albert_layer_groups.2"]),
    ({"num_hidden_groups": 1}, ["holds weights beyond", "albert_layer_groups.1"]),
    ({"vocab_size": 61}, ["word_embeddings is of shape [60, 8]", "[61, 8]"]),
    ({"intermediate_size": 25}, ["[16, 24]", "[16, 25]"]),
])
def test_a_configuration_that_does_not_fit_is_refused(tmp_path, folder, changes, fragments):
    changed(folder, **changes)
    assert_user_error(back(folder, tmp_path / "tf"), *fragments)
    assert not os.path.exists(str(tmp_path / "tf" / "checkpoint"))


@pytest.mark.parametrize("name, value, fragments", [
    ("predictions.decoder.weight", np.ones([60, 8], np.float32), ["tie_word_embeddings"]),
    ("predictions.decoder.bias", np.ones([60], np.float32), ["differ"]),
    ("albert.pooler.weight", None, ["lacks weights", "pooler.weight"]),
    ("albert.embeddings.LayerNorm.bias", None, ["lacks weights", "embeddings.LayerNorm.bias"]),
])
def test_weights_that_do_not_fit_are_refused(tmp_path, folder, name, value, fragments):
    tensors = tensors_in(folder)
    tensors.pop(name, None)
    if value is not None:
        tensors[name] = value
    safetensors.save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    assert_user_error(back(folder, tmp_path / "tf"), *fragments)


def test_damaged_and_missing_files(tmp_path, folder, converted):
    target = tmp_path / "tf"
    assert_user_error(run_here(to_tf, "--output_dir=%s" % target), "--model_dir=None is no folder")
    assert_user_error(run_here(to_tf, "--model_dir=%s" % folder), "--output_dir is missing")
    assert_user_error(back(folder, folder), "holds files already")
    weights = read(folder / "model.safetensors")
    (folder / "model.safetensors").write_bytes(weights[:-100])
    assert_user_error(back(folder, target), "model.safetensors is damaged")
    os.remove(str(folder / "model.safetensors"))
    assert_user_error(back(folder, target), "holds no weights")
    (folder / "model.safetensors").write_bytes(weights)
    for name in ("vocab.txt", "tokenizer.json"):
        os.remove(str(folder / name))
    assert_user_error(back(folder, target), "holds no vocabulary", "--vocab_file")
    for content, told in (('[]', "holds no vocabulary"), (
            '{"model": {"type": "WordPiece", "vocab": {"a": []}}}', "each token a number"),
            (json.dumps({"model": {"type": "WordPiece", "vocab": {
                str(number): number for number in range(61)}}}), "tokenizer.json has 61 tokens")):
        write(folder, "tokenizer.json", content)
        assert_user_error(back(folder, target), told)
    os.remove(str(folder / "tokenizer.json"))
    write(tmp_path, "large.txt", "\n".join(vocabulary(61)) + "\n")
    assert_user_error(back(folder, target, "--vocab_file=%s" % (tmp_path / "large.txt")),
                      str(tmp_path / "large.txt"), "61")
    assert_user_error(back(folder, tmp_path / "out[1]"), "--output_dir=", "holds *, ? or [")
    assert_converts(back(folder, target, "--vocab_file=%s" % (converted / "run" / "vocab.txt")))
    os.remove(str(folder / "config.json"))
    assert_user_error(back(folder, tmp_path / "other"), "is no Hugging Face folder")


def test_labels_of_another_classifier_are_refused(tmp_path):
    run = make_folder(tmp_path / "run", TINY_GOOGLE, 3)
    assert_converts(forth(run, tmp_path / "hf"))
    changed(tmp_path / "hf", id2label={"0": "a", "1": "b"})
    assert_user_error(back(tmp_path / "hf", tmp_path / "tf"), "id2label", "3 labels")
    changed(tmp_path / "hf", id2label={"0": "a", "1": "b", "2": "b"})
    assert_user_error(back(tmp_path / "hf", tmp_path / "tf"), "by different texts")
    changed(tmp_path / "hf", id2label=None)
    assert_converts(back(tmp_path / "hf", tmp_path / "tf"))
    assert read(tmp_path / "tf" / "labels.txt") == b"0\n1\n2\n"


def test_what_config_json_leaves_out_is_compared_too(tmp_path, torch):
    """Three labels without names, and a vocabulary that lies elsewhere."""
    run = make_folder(tmp_path / "run", TINY_GOOGLE, 3)
    assert_converts(forth(run, tmp_path / "hf"))
    changed(tmp_path / "hf", id2label=None, label2id=None)
    for name in ("vocab.txt", "tokenizer.json"):
        os.remove(str(tmp_path / "hf" / name))
    err = assert_converts(back(tmp_path / "hf", tmp_path / "tf",
                               "--vocab_file=" + os.path.join(run, "vocab.txt")))
    assert "classes" in err


@pytest.mark.parametrize("normalizer", [
    {"type": "BertNormalizer", "lowercase": False},
    {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "BertNormalizer",
                                                           "lowercase": False}]}])
def test_the_case_of_a_fast_tokenizer(tmp_path, folder, normalizer):
    changed(folder, "tokenizer_config.json", do_lower_case=None)
    changed(folder, "tokenizer.json", normalizer=normalizer)
    assert_converts(back(folder, tmp_path / "tf"))
    assert not inference.read_folder(str(tmp_path / "tf")).tokenizer.do_lower_case


def test_a_missing_vocabulary_is_asked_for(tmp_path):
    run = make_folder(tmp_path / "run", TINY, classes=0)
    os.rename(os.path.join(run, "vocab.txt"), str(tmp_path / "vocab.txt"))
    assert_user_error(forth(run, tmp_path / "hf"), "no vocabulary", "--vocab_file")
    assert_user_error(forth(run, tmp_path / "hf", "--vocab_file=x.txt"), "--vocab_file=x.txt does")
    assert_user_error(forth(tmp_path / "absent", tmp_path / "hf"), "is no folder")
    assert_converts(forth(run, tmp_path / "hf", "--vocab_file=%s" % (tmp_path / "vocab.txt")))


def test_another_checkpoint_of_the_same_names_does_not_pass(tmp_path):
    """A checkpoint that is not the configuration's is refused before anything is written."""
    run = make_folder(tmp_path / "run", TINY_GOOGLE, classes=0)
    write_checkpoint(os.path.join(run, "model.ckpt"),
                     google_pretraining_weights(intermediate_size=20))
    assert_user_error(forth(run, tmp_path / "hf"), "does not fit the model")
    assert not os.path.exists(str(tmp_path / "hf"))
