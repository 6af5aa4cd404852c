"""Converts a Hugging Face folder of an ALBERT to a TensorFlow checkpoint of the Google layout.

    python convert_albert_pytorch_checkpoint_to_tf.py --model_dir=albert_chinese_tiny \
        --output_dir=albert_tiny_from_hugging_face

The folder written holds albert_model.ckpt, albert_config.json and the vocabulary, and, of a
classifier, labels.txt and classifier.json, as run_classifier_sp_google.py leaves them. A folder
that convert_albert_tf_checkpoint_to_pytorch.py made from the albert_zh layout comes back in the
Google layout too: with an embedding as wide as the model, which computes the same.

Needs the package safetensors, for pytorch_model.bin PyTorch. Where PyTorch and transformers are
installed, both models are compared before the folder is put in its place.
"""

import collections
import os

import checkpoints
import exporting
import files
import heads
import hugging_face
import inference
import numpy as np
import runtime
import tokenization
from absl import flags
from console import say
from errors import UserError

import tensorflow.compat.v1 as tf

FLAGS = flags.FLAGS

# Names in older files of what is no weight, or the same as another one.
BUFFERS = ("position_ids", "token_type_ids")
DECODER = hugging_face.MASKED_LM + "decoder."
TOKENIZER = "tokenizer.json"  # of their fast tokenizers: vocabulary and how texts are prepared


def define_flags():
    flags.DEFINE_string("model_dir", None, "Folder with config.json, model.safetensors or "
                        "pytorch_model.bin (or parts of one), and a vocabulary.")
    flags.DEFINE_string("output_dir", None, "Folder to write the TensorFlow model to.")
    flags.DEFINE_string("vocab_file", None, "Vocabulary or SentencePiece model; the one in the "
                        "folder when not given.")


# ---------------------------------------------------------------------------------------------
# Weights
# ---------------------------------------------------------------------------------------------

def read_weights(folder, config, settings):
    """Reads a folder's weights and gives them our names.

    Args:
        config: modeling_google.AlbertConfig; settings: the content of config.json.

    Returns:
        {name of ours: float32 array}.

    Raises:
        UserError: weights are missing or of another shape, or cannot be expressed here.
    """
    tensors = hugging_face.read_tensors(folder)
    if not any(name.startswith(hugging_face.ENCODER) for name in tensors):
        # An AlbertModel is saved without the name that it has in the other classes.
        tensors = {hugging_face.ENCODER + name: value for name, value in tensors.items()}
    tensors = {name: value for name, value in tensors.items() if not name.endswith(BUFFERS)}
    _fold_decoder(folder, tensors)
    encoder, known = hugging_face.encoder_names(config), hugging_face.head_names()
    has_pooler = any(name.startswith(hugging_face.POOLER) for name in tensors)
    lacking = [name for name in encoder if name not in tensors
               and (has_pooler or not name.startswith(hugging_face.POOLER))]
    beyond = sorted(name for name in tensors
                    if name.startswith(hugging_face.ENCODER) and name not in encoder)
    for names, what in ((lacking, "lacks weights of"), (beyond, "holds weights beyond")):
        if names:
            raise UserError("%s %s the model that its config.json describes: %s"
                            % (folder, what, _shown(names)))
    why_not = _why_no_classifier(settings, tensors)
    if why_not:
        known = {theirs: ours for theirs, ours in known.items()
                 if not theirs.startswith(hugging_face.CLASSIFIER)}
    names = collections.OrderedDict(encoder, **known)
    left_out = sorted(set(tensors) - set(names))
    if left_out:
        say("WARNING: left out, since %s: %s" % (
            why_not or "there is no place for it here", _shown(left_out)))
    weights = hugging_face.to_weights(tensors, names)
    _require_shapes(folder, weights, config)
    if not has_pooler:
        say("WARNING: %s has no pooler (a masked-word model has none): it gives vectors and words "
            "for masks, but training from it needs --allow_partial_init" % folder)
    return weights


def _fold_decoder(folder, tensors):
    """Takes the output layer of the masked words out, which here is the word embedding.

    Raises:
        UserError: it is a layer of its own.
    """
    weight, bias = tensors.pop(DECODER + "weight", None), tensors.pop(DECODER + "bias", None)
    if weight is not None and not np.array_equal(weight, tensors.get(hugging_face.WORDS)):
        raise UserError("%s: the masked words' output layer (%sweight) is not the word embedding "
                        "(tie_word_embeddings is false); here it always is" % (folder, DECODER))
    if bias is not None:
        name = hugging_face.MASKED_LM + "bias"
        if not np.array_equal(tensors.setdefault(name, bias), bias):
            raise UserError("%s: %s and %sbias differ, though both are the masked words' bias: "
                            "save the model anew with transformers" % (folder, name, DECODER))


def _why_no_classifier(settings, tensors):
    """Returns why the weights called classifier.* are not those of a classifier here, or None."""
    weight = tensors.get(hugging_face.CLASSIFIER + "weight")
    if weight is None:
        return None
    architectures = settings.get("architectures") or ["AlbertForSequenceClassification"]
    if "AlbertForSequenceClassification" not in architectures:
        return "it is the head of a %s" % architectures[0]
    if len(weight) < 2 or settings.get("problem_type") not in (
            None, "single_label_classification"):
        return "it does not choose one of several labels"
    return None


def _require_shapes(folder, weights, config):
    width, hidden = config.embedding_size, config.hidden_size
    expected = {"bert/embeddings/word_embeddings": (config.vocab_size, width),
                "bert/embeddings/position_embeddings": (config.max_position_embeddings, width),
                "bert/embeddings/token_type_embeddings": (config.type_vocab_size, width),
                "bert/encoder/embedding_hidden_mapping_in/kernel": (width, hidden),
                "cls/predictions/output_bias": (config.vocab_size,)}
    expected.update((name, (hidden, config.intermediate_size)) for name in weights
                    if name.endswith("/ffn_1/intermediate/dense/kernel"))
    for name, shape in expected.items():
        if name in weights and weights[name].shape != shape:
            raise UserError("%s: %s is of shape %s, by config.json it should be %s" % (
                folder, name, list(weights[name].shape), list(shape)))


def _shown(names):
    return ", ".join(list(names)[:5] + ["... (%d in all)" % len(names)] * (len(names) > 5))


def write_checkpoint(prefix, weights):
    """Writes {name: array} as a checkpoint."""
    with tf.Graph().as_default(), tf.Session() as session:
        # Fed one by one: a graph must not hold the weights as constants (2 GB at most).
        placeholders = [tf.placeholder(tf.float32, value.shape) for value in weights.values()]
        variables = [tf.get_variable(name, initializer=placeholder, trainable=False)
                     for name, placeholder in zip(weights, placeholders)]
        for variable, placeholder, value in zip(variables, placeholders, weights.values()):
            session.run(variable.initializer, {placeholder: value})
        tf.train.Saver(variables).save(session, prefix, write_meta_graph=False, write_state=False)


# ---------------------------------------------------------------------------------------------
# What lies beside them
# ---------------------------------------------------------------------------------------------

def vocabulary_of(folder, vocab_file, vocab_size):
    """Returns (name here, bytes) of a folder's vocabulary.

    Args:
        vocab_file: another one than the folder's, or None; vocab_size: rows of the model's table.

    Raises:
        UserError: there is none that a tokenizer here can use, or it has more words than the model.
    """
    candidates = [os.path.join(folder, name) for name in ("vocab.txt", "spiece.model")]
    path = vocab_file or next(filter(files.exists, candidates), None)
    if path:
        tokenization.require_fits(tokenization.from_file(path), vocab_size)
        with files.open_binary(path) as stream:
            return tokenization.KEPT_AS[tokenization.is_spm_file(path)], stream.read()
    path = os.path.join(folder, TOKENIZER)
    model = _object_in(files.read_json(path) if files.exists(path) else None, "model")
    entries = _object_in(model, "vocab")
    if model.get("type") != "WordPiece" or not entries:
        raise UserError("%s holds no vocabulary (vocab.txt, spiece.model, or a tokenizer.json of "
                        "WordPiece): name it as --vocab_file" % folder)
    if not all(isinstance(number, int) for number in entries.values()):
        raise UserError("%s is damaged: its vocabulary must give each token a number" % path)
    tokens = sorted(entries, key=entries.get)
    if len(tokens) > vocab_size:
        raise UserError("%s has %d tokens, the model's vocabulary %d: do they belong together?"
                        % (path, len(tokens), vocab_size))
    if [entries[token] for token in tokens] != list(range(len(tokens))):
        raise UserError("%s: the ids of its vocabulary have gaps; name the model's vocab.txt as "
                        "--vocab_file" % path)
    return "vocab.txt", "".join(token + "\n" for token in tokens).encode("utf-8")


def _object_in(value, *names):
    """Returns the JSON object under `names` in another one; {} where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def lower_case_of(folder):
    """Returns whether a folder's tokenizer lower-cases: as its files say, else True."""
    told = tokenizer_settings(folder).get("do_lower_case")
    if told is None:
        path = os.path.join(folder, TOKENIZER)
        normalizer = _object_in(files.read_json(path) if files.exists(path) else None,
                                "normalizer")
        steps = normalizer.get("normalizers")
        for step in [normalizer] + (steps if isinstance(steps, list) else []):
            told = _object_in(step).get("lowercase", told)
    return told is None or bool(told)


def labels_of(settings, classes, source):
    """Returns the labels in class index order; numbers where config.json has none.

    Raises:
        UserError: id2label is of another classifier.
    """
    named = settings.get("id2label")
    if named is None:
        return [str(number) for number in range(classes)]
    labels = [named.get(str(number)) for number in range(classes)] if isinstance(
        named, dict) and len(named) == classes else [None]
    if not inference.are_labels(labels):
        raise UserError("%s: id2label must name the classifier's %d labels, 0 to %d, by different "
                        "texts" % (source, classes, classes - 1))
    return labels


def tokenizer_settings(folder):
    """Returns the content of tokenizer_config.json, {} where there is none."""
    path = os.path.join(folder, tokenization.SETTINGS_FILE)
    settings = files.read_json(path) if files.exists(path) else {}
    if not isinstance(settings, dict):
        raise UserError("%s is damaged: a JSON object is expected" % path)
    return settings


# ---------------------------------------------------------------------------------------------
# The conversion
# ---------------------------------------------------------------------------------------------

def convert(folder, output_dir, vocab_file=None):
    """Writes the TensorFlow model of a Hugging Face folder.

    Raises:
        UserError: it cannot be converted, or the result computes something else.
    """
    source = os.path.join(folder, hugging_face.SETTINGS_FILE)
    if not files.exists(source):
        raise UserError("--model_dir=%s is no Hugging Face folder: there is no config.json in it"
                        % folder)
    settings = files.read_json(source)
    config = hugging_face.to_config(settings, source)
    content = dict([vocabulary_of(folder, vocab_file, config.vocab_size)])
    weights = read_weights(folder, config, settings)
    exact_gelu = settings.get("hidden_act") == "gelu"
    if exact_gelu:
        say('WARNING: hidden_act is "gelu" in %s, the exact form; TensorFlow\'s ALBERT computes '
            'the tanh form, "gelu_new". Released Chinese models were trained with that and are '
            "right as converted; others differ a little" % source)
    lower = lower_case_of(folder)
    content["albert_config.json"] = config.to_json_string().encode("utf-8")
    content["checkpoint"] = exporting.STATE.encode("utf-8")
    if "output_weights" in weights:
        labels = labels_of(settings, len(weights["output_weights"]), source)
        content["labels.txt"] = "".join(label + "\n" for label in labels).encode("utf-8")
        content[heads.CLASSIFIER_FILE] = hugging_face.to_json(
            {"do_lower_case": lower, "use_pooled_output": True, "labels": labels})
    elif not lower:
        content[tokenization.SETTINGS_FILE] = hugging_face.to_json(
            {"do_lower_case": lower})
        say("NOTE: the model tells capitals from small letters: scripts that train need "
            "--do_lower_case=False with it")
    files.make_dir(output_dir, "output_dir")
    with hugging_face.unfinished_folder(output_dir) as unfinished:
        for name, data in content.items():
            with files.atomic_write(os.path.join(unfinished, name)) as stream:
                stream.write(data)
        prefix = os.path.join(unfinished, exporting.CHECKPOINT_NAME)
        tokenizer = tokenization.from_file(os.path.join(unfinished, next(
            name for name in tokenization.KEPT_AS if name in content)), lower)
        write_checkpoint(prefix, weights)
        _compare(folder, config, prefix, tokenizer, exact_gelu, has_own_words=not vocab_file)
    say("Converted %s to %s: %d variables of the Google layout"
        % (folder, output_dir, len(weights)))


def _compare(folder, config, prefix, tokenizer, exact_gelu, has_own_words):
    lacking = hugging_face.why_not_comparable()
    if lacking:
        say("Not compared with PyTorch: the package %s is missing (pip install %s)"
            % (lacking, lacking))
        return
    if has_own_words and tokenizer_settings(folder).get("tokenizer_class"):
        differing = hugging_face.text_with_other_ids(folder, tokenizer)
        if differing:
            say("WARNING: the folder's own tokenizer gives other ids than the one here, for "
                "example for %r" % (differing,))
    shapes = checkpoints.read_shapes(prefix)
    architecture, _ = hugging_face.architecture_of(shapes)
    changes = {"hidden_act": "gelu_new"} if exact_gelu else {}
    if "output_weights" in shapes:  # transformers takes two labels where config.json names none
        changes["num_labels"] = shapes["output_weights"][0]
    hugging_face.report(
        hugging_face.compare(folder, architecture, config, prefix, tokenizer, **changes),
        folder, "the TensorFlow model")


def main(_):
    if not FLAGS.model_dir or not files.is_dir(FLAGS.model_dir):
        raise UserError("--model_dir=%s is no folder: name one that Hugging Face's save_pretrained "
                        "has written" % FLAGS.model_dir)
    if not FLAGS.output_dir:
        raise UserError("--output_dir is missing: name a folder to write to")
    checkpoints.require_plain_path(FLAGS.output_dir, "output_dir")
    hugging_face.require_new_folder(FLAGS.output_dir, "output_dir")
    if FLAGS.vocab_file:
        files.require_file(FLAGS.vocab_file, "vocab_file")
    convert(FLAGS.model_dir, FLAGS.output_dir, FLAGS.vocab_file)


if __name__ == "__main__":
    define_flags()
    runtime.run(main)
