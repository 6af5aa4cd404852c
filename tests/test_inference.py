"""Model folders: what is found in them, and that what is computed equals plain NumPy."""

import hashlib
import io
import json
import os
import re
import threading

import helpers
import numpy as np
import pytest
import reference
from test_tokenization import train_spm

import distribution
import heads
import inference
import layouts
import modeling
import runtime
from errors import UserError

TINY = dict(helpers.TINY, num_hidden_layers=3)
GOOGLE = dict(helpers.TINY_GOOGLE, num_hidden_layers=3, num_hidden_groups=2)
TEXTS = ["天地", ("人", "大小多少"), "", ("上下来去天地人", "中"), "日月水火山石田土人大小天地" * 4,
         ("天地人" * 9, "大小" * 9), ("来", "去"), "多少"]


def make_folder(folder, settings=TINY, classes=2, told=None, name="model.ckpt"):
    """Makes a folder with a model, its weights a function of their names; returns the path."""
    folder = str(folder)
    os.makedirs(folder, exist_ok=True)
    layout = layouts.GOOGLE if "num_hidden_groups" in settings else layouts.ALBERT_ZH
    config = layout.config_class.from_dict(settings)
    shapes = (heads.classifier_variable_shapes(config, layout.model_class, classes) if classes
              else modeling.pretraining_variable_shapes(config, layout.model_class))
    write(folder, "albert_config.json", json.dumps(settings))
    write(folder, "vocab.txt", "\n".join(vocabulary(settings["vocab_size"])) + "\n")
    if told is not None:
        write(folder, "classifier.json", json.dumps(told))
    helpers.write_checkpoint(os.path.join(folder, name), reference.initial_values(shapes))
    return folder


def vocabulary(size):
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list(
        "天地人大小多少上下来去中日月水火山石田土")
    return entries + ["[unused%d]" % number for number in range(size - len(entries))]


def write(folder, name, text):
    with io.open(os.path.join(str(folder), name), "w", encoding="utf-8") as stream:
        stream.write(text)


# ---------------------------------------------------------------------------------------------
# The same in NumPy
# ---------------------------------------------------------------------------------------------

def expected_ids(text, length):
    """Returns (ids, segments); every character is a token of its own, and so is [MASK]."""
    parts = list(text) if isinstance(text, tuple) else [text]
    parts = [[vocabulary(60).index(token) for token in re.findall(r"\[MASK\]|.", part)]
             for part in parts]
    while sum(map(len, parts)) + len(parts) + 1 > length:
        longest = 0 if len(parts) == 1 or len(parts[0]) > len(parts[1]) else 1
        parts[longest].pop()
    ids, segments = [2] + parts[0] + [3], [0] * (len(parts[0]) + 2)
    for part in parts[1:]:
        ids, segments = ids + part + [3], segments + [1] * (len(part) + 1)
    return np.array(ids), np.array(segments)


def expected_layers(folder, settings, text, length):
    """Returns (list of [S, H], pooled [H]) of a text."""
    weights = helpers.read_checkpoint(os.path.join(folder, "model.ckpt"))
    ids, segments = expected_ids(text, length)
    encode = reference.encode_google if "num_hidden_groups" in settings else reference.encode
    _, layers, pooled = encode(settings, weights, ids, np.ones(len(ids)), segments)
    return layers, pooled


def expected_probabilities(folder, settings, text, length=32, mean=False):
    weights = helpers.read_checkpoint(os.path.join(folder, "model.ckpt"))
    layers, pooled = expected_layers(folder, settings, text, length)
    vector = layers[-1].mean(0) if mean else pooled
    if settings.get("ln_type") == "preln":
        vector = reference.normalise(vector, weights, "loss/LayerNorm")
    return reference.softmax(weights["output_weights"] @ vector + weights["output_bias"])


# ---------------------------------------------------------------------------------------------
# What is computed
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("settings, told", [
    (TINY, {}),
    (dict(TINY, ln_type="preln"), {"use_pooled_output": True}),
    (GOOGLE, {}),
    (GOOGLE, {"use_pooled_output": False, "max_seq_length": 20}),
], ids=["albert_zh", "preln", "google", "google, mean"])
def test_probabilities_equal_numpy(tmp_path, capfd, settings, told):
    folder = make_folder(tmp_path, settings, classes=3, told=told)
    length = told.get("max_seq_length", 32)
    mean = not told.get("use_pooled_output", True)
    with inference.Predictor(inference.read_folder(folder), batch_size=3) as predictor:
        found = predictor.probabilities(TEXTS)
        assert found.shape == (len(TEXTS), 3) and found.dtype == np.float32
        for text, row in zip(TEXTS, found):
            expected = expected_probabilities(folder, settings, text, length, mean)
            np.testing.assert_allclose(row, expected, atol=2e-5)
    assert np.ptp(found[:, 0]) > 1e-3  # they do differ
    assert capfd.readouterr() == ("", "")  # nothing is printed


@pytest.mark.parametrize("settings", [TINY, GOOGLE], ids=["albert_zh", "google"])
def test_vectors_equal_numpy(tmp_path, settings):
    folder = make_folder(tmp_path, settings, classes=0)
    with inference.Predictor(inference.read_folder(folder), batch_size=3) as predictor:
        found = {pooling: predictor.vectors(TEXTS, (0, -2, 2), pooling)
                 for pooling in heads.POOLINGS}
    pooled = {"mean": lambda x: x.mean(0), "max": lambda x: x.max(0), "first": lambda x: x[0]}
    for number, text in enumerate(TEXTS):
        layers, _ = expected_layers(folder, settings, text, 32)
        for pooling, function in pooled.items():
            expected = np.concatenate([function(layers[layer]) for layer in (0, 1, 2)])
            np.testing.assert_allclose(found[pooling][number], expected, atol=2e-5)


@pytest.mark.parametrize("settings", [TINY, GOOGLE], ids=["albert_zh", "google"])
def test_words_for_masks_equal_numpy(tmp_path, settings):
    folder = make_folder(tmp_path, settings, classes=0)
    texts = ["天[MASK]人", ("[MASK]大[MASK]", "[MASK]来"), "上下" * 9 + "[MASK]", "[MASK][MASK]去"]
    with inference.Predictor(inference.read_folder(folder), batch_size=3) as predictor:
        found = predictor.masked_words(texts, top=4)
        everything = predictor.masked_words(texts[:1], top=60)
        many = predictor.masked_words(texts[:2] * 700, top=4)  # more than one window
    assert [len(masks) for masks in found] == [1, 3, 1, 2]
    for text, masks in zip(texts, found):
        for words, row in zip(masks, expected_words(folder, settings, text)):
            best = np.argsort(-row, kind="stable")[:4]
            assert [word for word, _ in words] == [vocabulary(60)[index] for index in best]
            np.testing.assert_allclose([number for _, number in words], row[best], atol=2e-5)
    assert len(everything[0][0]) == 60
    assert sum(number for _, number in everything[0][0]) == pytest.approx(1.0, abs=1e-5)
    for masks, expected in zip(many[-2:], found):
        for words, others in zip(masks, expected):
            assert [word for word, _ in words] == [word for word, _ in others]


def expected_words(folder, settings, text):
    """Returns the probabilities of all words at the masks of a text: [P, V]."""
    weights = helpers.read_checkpoint(os.path.join(folder, "model.ckpt"))
    ids, _ = expected_ids(text, 32)
    vectors = expected_layers(folder, settings, text, 32)[0][-1][ids == 4]
    if "num_hidden_groups" in settings:
        return reference.softmax(reference.masked_lm_scores_google(weights, vectors))
    transform = "cls/predictions/transform/"
    vectors = reference.normalise(
        reference.gelu(reference.linear(vectors, weights, transform + "dense")), weights,
        transform + "LayerNorm")
    table = (weights["bert/embeddings/word_embeddings"]
             @ weights["bert/embeddings/word_embeddings_2"])
    return reference.softmax(vectors @ table.T + weights["cls/predictions/output_bias"])


@pytest.mark.parametrize("texts, top, message", [
    (["天[MASK]", "天地"], 5, r"item 1 has no \[MASK\] among the 32 tokens.*天地"),
    (["天" * 31 + "[MASK]"], 5, "item 0 has no"), (["天[MASK]"], 0, "top=0: 1 to 60 words"),
    (["天[MASK]"], 61, "top=61"), ([3], 5, "item 0 is neither"), ("[MASK]", 5, "not a single")])
def test_texts_without_masks_are_refused(tmp_path, texts, top, message):
    with inference.Predictor(inference.read_folder(make_folder(tmp_path, classes=0))) as ready:
        with pytest.raises(UserError, match=message):
            ready.masked_words(texts, top)
        assert ready.masked_words([]) == []


@pytest.mark.parametrize("settings", [TINY, GOOGLE], ids=["albert_zh", "google"])
def test_a_masked_word_model_without_pooler_fills_masks(tmp_path, settings):
    folder = make_folder(tmp_path / "whole", settings, classes=0)
    weights = helpers.read_checkpoint(os.path.join(folder, "model.ckpt"))
    other = make_folder(tmp_path / "masked", settings, classes=0, name="before.ckpt")
    for ending in ("index", "data-00000-of-00001"):
        os.remove("%s/before.ckpt.%s" % (other, ending))
    helpers.write_checkpoint(os.path.join(other, "model.ckpt"), {
        name: value for name, value in weights.items() if "pooler" not in name})
    texts, found = ["天[MASK]人", "[MASK]来"], []
    for one in (folder, other):
        with inference.Predictor(inference.read_folder(one)) as ready:
            found.append((ready.masked_words(texts), ready.vectors(TEXTS)))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_a_classifier_of_the_first_token_needs_its_pooler(tmp_path):
    folder = make_folder(tmp_path)
    weights = helpers.read_checkpoint(os.path.join(folder, "model.ckpt"))
    helpers.write_checkpoint(os.path.join(folder, "model.ckpt"), {
        name: value for name, value in weights.items() if "pooler" not in name})
    with pytest.raises(UserError, match="bert/pooler/dense/bias .* is missing"):
        inference.Predictor(inference.read_folder(folder))


def test_a_classifier_that_has_no_words_says_so(predictor):
    with pytest.raises(UserError, match="no masked-word head: use a checkpoint of pre-training"):
        predictor.masked_words(["天[MASK]"])


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    folder = make_folder(tmp_path_factory.mktemp("model"))
    with inference.Predictor(inference.read_folder(folder)) as ready:
        yield ready


def test_nothing_gives_an_array_of_no_rows(predictor):
    assert predictor.probabilities([]).shape == (0, 2)
    assert predictor.vectors([], (-1, -2)).shape == (0, 32)


def test_order_is_kept_whatever_the_batches(tmp_path, predictor):
    rng = np.random.RandomState(5)
    words = vocabulary(60)[5:25]
    texts = [("".join(rng.choice(words, rng.randint(0, 12))), "".join(
        rng.choice(words, rng.randint(1, 12)))) for _ in range(2500)]  # more than two windows
    whole = predictor.probabilities(texts)
    for index in list(range(0, 2500, 311)) + [1023, 1024, 2499]:
        np.testing.assert_allclose(predictor.probabilities([texts[index]])[0], whole[index],
                                   atol=2e-6)
    with inference.Predictor(predictor.model, batch_size=1, num_threads=0) as other:
        np.testing.assert_allclose(other.probabilities(texts[:40]), whole[:40], atol=2e-6)


def test_threads_share_a_predictor(predictor):
    texts = [TEXTS[number % len(TEXTS)] for number in range(60)]
    expected = predictor.probabilities(texts)
    vectors = predictor.vectors(texts)
    results, failures = {}, []

    def work(number):
        try:
            for _ in range(3):
                results[number] = (predictor.probabilities(texts[number:]),
                                   predictor.vectors(texts[number:]))
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and len(results) == 8
    for number, (probabilities, other) in results.items():
        np.testing.assert_allclose(probabilities, expected[number:], atol=2e-6)
        np.testing.assert_allclose(other, vectors[number:], atol=1e-5)


def test_closing_waits_for_calls_and_refuses_later_ones(predictor):
    ready = inference.Predictor(predictor.model)
    expected = ready.probabilities(TEXTS * 60)
    begun, results = threading.Event(), []

    def texts():
        for text in TEXTS * 60:
            begun.set()
            yield text

    def work():
        try:
            results.append(ready.probabilities(texts()))
        except UserError as error:
            results.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    ready.close()
    ready.close()  # a second time does no harm
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:  # answered in full, or refused: nothing in between
        if isinstance(result, str):
            assert "has been closed" in result
        else:
            np.testing.assert_allclose(result, expected, atol=2e-6)
    with pytest.raises(UserError, match="has been closed"):
        ready.vectors(["天"])


@pytest.mark.parametrize("texts, message", [
    ("天地", "not a single text"),
    (["天", 3], "item 1 .* 3"),
    ([("天", "地"), ("天", "地", "人")], "item 1"),
    ([("天", None)], "item 0"),
    ([b"abc"], "item 0"),
    ([[]], "item 0"),
])
def test_what_is_no_text_is_refused(predictor, texts, message):
    with pytest.raises(UserError, match=message):
        predictor.probabilities(texts)


@pytest.mark.parametrize("layers, pooling, message", [
    ((3,), "mean", "no layer 3: the model's 3 layers are 0 to 2, or -3 to -1"),
    ((-4,), "mean", "no layer -4"), ((), "mean", "no layer"),
    ((-1,), "sum", 'pooling "sum" is unknown; use one of mean, first, max')])
def test_unknown_layers_and_poolings_are_refused(predictor, layers, pooling, message):
    with pytest.raises(UserError, match=message):
        predictor.vectors(["天"], layers, pooling)


@pytest.mark.parametrize("settings, message", [
    ({"max_seq_length": 33}, "33 tokens: the model in .* takes 5 to 32"),
    ({"max_seq_length": 4}, "takes 5 to 32"), ({"batch_size": 0}, "at least 1")])
def test_numbers_out_of_range_are_refused(predictor, settings, message):
    with pytest.raises(UserError, match=message):
        inference.Predictor(predictor.model, **settings)


# ---------------------------------------------------------------------------------------------
# What is found
# ---------------------------------------------------------------------------------------------

def test_a_folder_says_how_its_classifier_was_made(tmp_path):
    told = {"task": "x", "labels": ["no", "yes"], "max_seq_length": 24, "do_lower_case": False,
            "use_pooled_output": False, "truncate": "tail"}
    model = inference.read_folder(make_folder(tmp_path, GOOGLE, told=told))
    assert model.layout.name == "google" and model.head == (2, False)
    assert (model.labels, model.max_seq_length, model.truncate) == (["no", "yes"], 24, "tail")
    assert not model.tokenizer.do_lower_case
    assert model.checkpoint == str(tmp_path / "model.ckpt")


@pytest.mark.parametrize("name", ["classifier.json", "entities.json", "reading.json",
                                  "tokenizer_config.json"])
def test_whether_texts_are_lower_cased_is_said_by_the_folder_or_given(tmp_path, name):
    folder = make_folder(tmp_path, classes=0)
    assert inference.read_folder(folder).tokenizer.do_lower_case
    assert not inference.read_folder(folder, do_lower_case=False).tokenizer.do_lower_case
    write(folder, name, '{"do_lower_case": false}')
    for given in (None, False):
        assert not inference.read_folder(folder, do_lower_case=given).tokenizer.do_lower_case
    with pytest.raises(UserError, match="--do_lower_case=True: the model was trained with False"):
        inference.read_folder(folder, do_lower_case=True)


def test_an_older_folder_gets_defaults(tmp_path):
    folder = make_folder(tmp_path, classes=3)
    model = inference.read_folder(folder)
    assert model.layout.name == "albert_zh" and model.head == (3, True)
    assert (model.labels, model.max_seq_length) == (["0", "1", "2"], None)
    write(folder, "labels.txt", "a\nb\nc\n")
    assert inference.read_folder(folder).labels == ["a", "b", "c"]
    write(folder, "labels.txt", "a\nb\n")
    with pytest.raises(UserError, match="labels.txt names 2 labels.*has 3 classes"):
        inference.read_folder(folder)


def test_the_best_checkpoint_is_taken_else_the_last(tmp_path):
    folder = make_folder(tmp_path, name="model.ckpt-10")
    make_folder(tmp_path, dict(TINY, initializer_range=0.03), classes=4, name="model.ckpt-20")
    write(folder, "checkpoint", 'model_checkpoint_path: "/gone/model.ckpt-20"\n')
    assert inference.read_folder(folder).checkpoint.endswith("model.ckpt-20")
    fingerprint = hashlib.sha256(helpers.read(os.path.join(folder, "model.ckpt-10.index")))
    write(folder, "eval_results.json", json.dumps({"data": "x", "checkpoints": [
        {"fingerprint": fingerprint.hexdigest(), "data": "x", "step": 10, "eval_accuracy": 0.9,
         "eval_loss": 0.1}]}))
    assert inference.read_folder(folder).checkpoint.endswith("model.ckpt-10")
    for name in ("model.ckpt-20", os.path.join(folder, "model.ckpt-20.index")):
        assert inference.read_folder(folder, ckpt_name=name).checkpoint.endswith("ckpt-20")
    with pytest.raises(UserError, match="--ckpt_name=.*model.ckpt-30 does not exist"):
        inference.read_folder(folder, ckpt_name="model.ckpt-30")


def test_a_pretrained_folder_has_vectors_and_no_probabilities(tmp_path):
    model = inference.read_folder(make_folder(tmp_path, classes=0))
    assert model.head is None and model.labels == []
    with inference.Predictor(model) as ready:
        ready.warm_up()
        assert ready.vectors(["天地"]).shape == (1, 16)
        with pytest.raises(UserError, match="only pre-trained: fine-tune it.*--do_train"):
            ready.probabilities(["天地"])


def test_a_sentencepiece_model_serves_as_vocabulary(tmp_path):
    folder = make_folder(tmp_path / "a", dict(GOOGLE, vocab_size=330), classes=0)
    os.remove(os.path.join(folder, "vocab.txt"))
    source = train_spm(tmp_path, vocab_size=320, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
                       pad_piece="<pad>", control_symbols=["[CLS]", "[SEP]", "[MASK]"])
    os.rename(source, os.path.join(folder, "spm.model"))
    model = inference.read_folder(folder)
    assert model.tokenizer.is_sentencepiece
    with inference.Predictor(model) as ready:
        assert ready.vectors(["天地", ("人", "大")]).shape == (2, 16)


def test_missing_and_ambiguous_parts_are_named(tmp_path):
    with pytest.raises(UserError, match="--model_dir=.*nowhere is no folder"):
        inference.read_folder(str(tmp_path / "nowhere"))
    folder = make_folder(tmp_path / "a")
    write(folder, "other_config.json", json.dumps(dict(TINY, num_hidden_layers=5)))
    with pytest.raises(UserError, match="several configurations .albert_config.json, other_conf"):
        inference.read_folder(folder)
    write(folder, "other_config.json", json.dumps(TINY))  # the same twice is no question
    write(folder, "data_config.json", "[1]")
    inference.read_folder(folder)
    write(folder, "spm.model", "x")
    with pytest.raises(UserError, match="several vocabularies .spm.model, vocab.txt"):
        inference.read_folder(folder)
    for name in ("spm.model", "vocab.txt"):
        os.remove(os.path.join(folder, name))
    with pytest.raises(UserError, match="holds no vocabulary"):
        inference.read_folder(folder)
    os.remove(os.path.join(folder, "albert_config.json"))
    os.remove(os.path.join(folder, "other_config.json"))
    with pytest.raises(UserError, match="holds no configuration"):
        inference.read_folder(folder)


def test_files_given_count_before_the_folders_own(tmp_path):
    folder = make_folder(tmp_path / "a")
    deeper = helpers.write_config(tmp_path, num_hidden_layers=5)
    with pytest.raises(UserError, match="num_hidden_layers: 3 there, 5 given"):
        inference.read_folder(folder, config_name=deeper)
    os.remove(os.path.join(folder, "albert_config.json"))
    assert inference.read_folder(folder, config_name=deeper).config.num_hidden_layers == 5
    write(tmp_path, "words.txt", "\n".join(vocabulary(61)) + "\n")
    with pytest.raises(UserError, match="words.txt has 61 entries"):
        inference.read_folder(folder, deeper, str(tmp_path / "words.txt"))


@pytest.mark.parametrize("told, message", [
    ([], "a JSON object is expected"), ({"max_seq_length": "24"}, "max_seq_length must not be"),
    ({"use_pooled_output": 1}, "use_pooled_output must not be 1"),
    ({"do_lower_case": "no"}, "do_lower_case must not be 'no'"),
    ({"truncate": "middle"}, "truncate is none of head"),
    ({"labels": ["a", "b", "c"]}, "classifier.json names 3 labels")])
def test_a_damaged_classifier_file_is_named(tmp_path, told, message):
    with pytest.raises(UserError, match="classifier.json.*" + message.replace(
            "classifier.json ", "")):
        inference.read_folder(make_folder(tmp_path, told=told))


def test_weights_of_another_size_are_refused(tmp_path):
    folder = make_folder(tmp_path)
    write(folder, "albert_config.json", json.dumps(dict(TINY, intermediate_size=20)))
    with pytest.raises(UserError, match="does not fit the model"):
        inference.Predictor(inference.read_folder(folder))


def test_ids_are_taken_in_place_of_texts(tmp_path):
    folder = make_folder(tmp_path, classes=3)
    with inference.Predictor(inference.read_folder(folder)) as predictor:
        ids = inference.Tokens([2, 5, 6, 3, 7, 3], [0, 0, 0, 0, 1, 1])
        for compute in (predictor.probabilities, predictor.vectors):
            np.testing.assert_allclose(compute([ids, "人"]), compute([("天地", "人"), "人"]),
                                       atol=2e-6)
        for wrong in (inference.Tokens([2, 3], [0]), inference.Tokens([], []),
                      inference.Tokens([2, 10 ** 6], [0, 0]), inference.Tokens([2, -1], [0, 0]),
                      inference.Tokens([2, 3], [0, 2]), inference.Tokens([2] * 200, [0] * 200)):
            with pytest.raises(UserError, match="expected"):
                predictor.probabilities([wrong])


def test_precision_is_checked_before_the_model_is_read(monkeypatch):
    with pytest.raises(UserError, match="float16 is unknown"):
        inference.require_precision("float16")
    monkeypatch.setattr(runtime, "why_no_bfloat16", lambda: "there is none")
    inference.require_precision("float32")
    with pytest.raises(UserError, match="--precision=bfloat16: there is none"):
        inference.require_precision("bfloat16")
    monkeypatch.setattr(runtime, "why_no_bfloat16", lambda: None)
    inference.require_precision("bfloat16")
    monkeypatch.setattr(distribution, "local_devices", lambda: ["/gpu:0"])
    with pytest.raises(UserError, match="GPUs are used here.*--precision=float32"):
        inference.require_precision("bfloat16")


@pytest.mark.skipif(bool(runtime.why_no_bfloat16()), reason="no bfloat16 here")
def test_bfloat16_is_near_float32(tmp_path):
    folder, texts = make_folder(tmp_path, classes=3), ["天地人", ("日月", "水火山石")]
    found = []
    for precision in inference.PRECISIONS:
        with inference.Predictor(inference.read_folder(folder), precision=precision) as predictor:
            found.append(predictor.probabilities(texts))
    difference = np.abs(found[0] - found[1]).max()
    assert 0 < difference < 0.03
