"""ALBERT as Hugging Face's transformers has it: names of weights, configuration, tokenizer, folder.

One table of names serves both directions (`convert_albert_tf_checkpoint_to_pytorch.py` and
`convert_albert_pytorch_checkpoint_to_tf.py`). Their AlbertModel is the Google layout. The albert_zh
layout fits too: its factors are multiplied to one wide embedding, and what widens the embedding
there, embedding_hidden_mapping_in, is the identity.

Dimension letters: B batch, S sequence length, H hidden size, E embedding size, V vocabulary,
C classes.
"""

import collections
import contextlib
import importlib.util
import json
import os
import shutil
import tempfile

import batching
import checkpoints
import files
import layouts
import modeling
import modeling_google
import numpy as np
import runtime  # noqa: F401 - before TensorFlow
import tokenization
from console import say, table
from errors import UserError

import tensorflow.compat.v1 as tf

WEIGHTS_FILE, SETTINGS_FILE = "model.safetensors", "config.json"
BOUND = 2e-5  # the largest difference between their outputs and ours that counts as none

# Our GELU is the tanh form, which they call gelu_new; their "gelu" is the exact one.
ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu", "tanh": "tanh", "linear": "linear"}
_OUR_ACTIVATIONS = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "gelu_fast": "gelu",
                    "gelu": "gelu", "relu": "relu", "tanh": "tanh", "linear": "linear"}

# Keys of an AlbertConfig that are called the same here.
_SIZES = ("vocab_size", "embedding_size", "hidden_size", "num_hidden_layers",
          "num_hidden_groups", "num_attention_heads", "intermediate_size", "inner_group_num",
          "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings",
          "type_vocab_size", "initializer_range")
# What AlbertConfig has for a key that a config.json leaves out, where it is not ours.
_THEIR_DEFAULTS = {"vocab_size": 30000, "embedding_size": 128, "hidden_size": 4096,
                   "num_hidden_layers": 12, "num_hidden_groups": 1, "num_attention_heads": 64,
                   "intermediate_size": 16384, "inner_group_num": 1, "hidden_dropout_prob": 0.0,
                   "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 512,
                   "type_vocab_size": 2, "initializer_range": 0.02}

# Texts of several kinds and lengths, for comparing a converted model with its source.
TEXTS = (("我喜欢妈妈做的汤", "妈妈做的汤我很喜欢喝"), "今天天气怎么样？",
         ("花呗分期后逾期了如何还款", "花呗分期还不上，逾期了怎么办"), "北京 2008 年的奥运会",
         "ALBERT is a Lite BERT.", ("上海", "中国的城市，人口两千多万。"), "。")


# ---------------------------------------------------------------------------------------------
# Names of the weights
# ---------------------------------------------------------------------------------------------

Variable = collections.namedtuple("Variable", ["name", "transposed"])
Variable.__doc__ = "A variable of ours; transposed: whether theirs has rows and columns swapped."

ENCODER = "albert."
WORDS = ENCODER + "embeddings.word_embeddings.weight"
MAPPING = ENCODER + "encoder.embedding_hidden_mapping_in"
POOLER = ENCODER + "pooler"
CLASSIFIER, MASKED_LM, SENTENCE_ORDER = "classifier.", "predictions.", "sop_classifier."

# Their classes and the scopes of ours that each is made of beside the encoder, the first that fits.
_ARCHITECTURES = (("AlbertForSequenceClassification", ("output_",)),
                  ("AlbertForPreTraining", ("cls/",)),
                  ("AlbertForMaskedLM", ("cls/predictions/",)),
                  ("AlbertModel", ()))


def encoder_names(config):
    """Returns {name of theirs: Variable} of an encoder, without what an albert_zh one computes.

    Args:
        config: of either layout.
    """
    names = collections.OrderedDict()
    if is_google(config):
        names[WORDS] = Variable("bert/embeddings/word_embeddings", False)
        names.update(_dense(MAPPING, "bert/encoder/embedding_hidden_mapping_in"))
    for kind in ("token_type", "position"):
        names[ENCODER + "embeddings.%s_embeddings.weight" % kind] = Variable(
            "bert/embeddings/%s_embeddings" % kind, False)
    names.update(_norm(ENCODER + "embeddings.LayerNorm", "bert/embeddings/LayerNorm"))
    for theirs, ours, block in _blocks(config):
        for part in ("query", "key", "value"):
            names.update(_dense(theirs + "attention." + part,
                                ours + block.attention + "/self/" + part))
        names.update(_dense(theirs + "attention.dense", ours + block.attention + "/output/dense"))
        names.update(_norm(theirs + "attention.LayerNorm", ours + block.attention_norm))
        names.update(_dense(theirs + "ffn", ours + block.intermediate))
        names.update(_dense(theirs + "ffn_output", ours + block.output))
        names.update(_norm(theirs + "full_layer_layer_norm", ours + block.output_norm))
    names.update(_dense(POOLER, "bert/pooler/dense"))
    return names


def head_names():
    """Returns {name of theirs: Variable} of all heads, the same in both layouts."""
    names = collections.OrderedDict(
        [(MASKED_LM + "bias", Variable("cls/predictions/output_bias", False))])
    names.update(_dense(MASKED_LM + "dense", "cls/predictions/transform/dense"))
    names.update(_norm(MASKED_LM + "LayerNorm", "cls/predictions/transform/LayerNorm"))
    for theirs, ours in ((SENTENCE_ORDER + "classifier.", "cls/seq_relationship/"),
                         (CLASSIFIER, "")):
        names[theirs + "weight"] = Variable(ours + "output_weights", False)
        names[theirs + "bias"] = Variable(ours + "output_bias", False)
    return names


def architecture_of(variables):
    """Returns (class, {name of theirs: Variable} of its heads) for a model with these variables.

    Args:
        variables: names of ours.
    """
    variables = set(variables)
    candidates = [(architecture, collections.OrderedDict(
        (theirs, ours) for theirs, ours in head_names().items() if ours.name.startswith(scopes)))
        for architecture, scopes in _ARCHITECTURES]
    return next((architecture, heads) for architecture, heads in candidates
                if all(ours.name in variables for ours in heads.values()))


def is_google(config):
    return isinstance(config, modeling_google.AlbertConfig)


def _blocks(config):
    """Yields (scope of theirs, scope of ours, modeling.BlockNames) of each set of parameters."""
    scope = ENCODER + "encoder.albert_layer_groups.%d.albert_layers.%d."
    if not is_google(config):
        yield scope % (0, 0), "bert/encoder/layer_shared/", modeling.ALBERT_ZH_NAMES
        return
    for group in range(config.num_hidden_groups):
        for inner in range(config.inner_group_num):
            yield (scope % (group, inner),
                   "bert/encoder/transformer/group_%d/inner_group_%d/" % (group, inner),
                   modeling_google.NAMES)


def _dense(theirs, ours):
    return [(theirs + ".weight", Variable(ours + "/kernel", True)),
            (theirs + ".bias", Variable(ours + "/bias", False))]


def _norm(theirs, ours):
    return [(theirs + ".weight", Variable(ours + "/gamma", False)),
            (theirs + ".bias", Variable(ours + "/beta", False))]


# ---------------------------------------------------------------------------------------------
# The weights
# ---------------------------------------------------------------------------------------------

def to_tensors(config, weights, names):
    """Turns our weights into theirs.

    Args:
        config: of either layout; weights: {name of ours: array}.
        names: {name of theirs: Variable}: `encoder_names(config)` and those of heads.

    Returns:
        {name of theirs: float32 array}, without the masked words' output layer, which is the word
        embedding.
    """
    tensors = collections.OrderedDict(
        (theirs, _laid_out(weights[ours.name], ours)) for theirs, ours in names.items())
    if not is_google(config):
        factors = [weights["bert/embeddings/" + name].astype(np.float64)
                   for name in ("word_embeddings", "word_embeddings_2")]
        tensors[WORDS] = np.dot(*factors).astype(np.float32)
        tensors[MAPPING + ".weight"] = np.eye(config.hidden_size, dtype=np.float32)
        tensors[MAPPING + ".bias"] = np.zeros(config.hidden_size, np.float32)
    return tensors


def to_weights(tensors, names):
    """The way back: {name of theirs: array} to {name of ours: array}, for those in `names`."""
    return collections.OrderedDict(
        (ours.name, _laid_out(tensors[theirs], ours)) for theirs, ours in names.items()
        if theirs in tensors)


def _laid_out(value, variable):
    # In one piece: safetensors writes the memory of an array as it lies.
    return np.ascontiguousarray(value.T if variable.transposed else value)


def require_same_groups(layers, groups, inner, source):
    """Raises UserError where their ALBERT takes other parameters for a layer than ours.

    Args:
        layers, groups, inner: num_hidden_layers, num_hidden_groups, inner_group_num.
        source: the configuration's file, for the message.
    """
    advice = "; choose numbers of layers and groups of which one is a multiple of the other"
    # They divide in floating point: 18 layers in 14 groups, for example, come out otherwise.
    for layer in range(layers):
        theirs = int(layer / (layers / float(groups)))
        ours = modeling_google.group_of(layer, layers, groups)
        if theirs != ours:
            raise UserError("%s: with %d layers in %d groups, Hugging Face's ALBERT takes group %d "
                            "for layer %d by a rounding error, and not group %d%s"
                            % (source, layers, groups, theirs, layer, ours, advice))
    if inner > layers // groups:
        raise UserError(
            "%s: Hugging Face's ALBERT (transformers before version 5) fails with inner_group_num "
            "%d where a group has only %d layers: it cuts its head masks by layers and reads them "
            "by blocks"
            % (source, inner, layers // groups))


# ---------------------------------------------------------------------------------------------
# Configuration
# ---------------------------------------------------------------------------------------------

def to_settings(config, tokenizer, architecture, labels=()):
    """Returns the content of config.json.

    Args:
        config: of either layout; tokenizer: tokenization.FullTokenizer.
        architecture: name of the class that the weights are complete for.
        labels: of a classifier, in class index order.

    Raises:
        UserError: their ALBERT cannot compute what this model does.
    """
    if getattr(config, "ln_type", "postln") == "preln":
        raise UserError(
            "a pre-LN model (ln_type preln) cannot be converted: Hugging Face's ALBERT normalises "
            "after each residual sum, this model before each sub-layer, and no choice of weights "
            "makes the one of the other; export_model.py writes formats that hold any model")
    sizes = config.to_dict()
    if not is_google(config):
        sizes.update(embedding_size=config.hidden_size, num_hidden_groups=1, inner_group_num=1)
    require_same_groups(sizes["num_hidden_layers"], sizes["num_hidden_groups"],
                        sizes["inner_group_num"], "the configuration")
    settings = collections.OrderedDict([("architectures", [architecture]),
                                        ("model_type", "albert")])
    settings.update((name, sizes[name]) for name in _SIZES)
    settings.update([
        ("hidden_act", ACTIVATIONS[config.hidden_act]),
        ("layer_norm_eps", modeling.LAYER_NORM_EPSILON), ("classifier_dropout_prob", 0.1),
        ("pad_token_id", tokenizer.pad_id), ("bos_token_id", tokenizer.cls_id),
        ("eos_token_id", tokenizer.sep_id), ("torch_dtype", "float32"),
        ("tokenizer_class", tokenizer_class(tokenizer))])
    if labels:
        settings["id2label"] = {str(number): label for number, label in enumerate(labels)}
        settings["label2id"] = {label: number for number, label in enumerate(labels)}
    return settings


def to_config(settings, source):
    """Returns the modeling_google.AlbertConfig of a config.json's content.

    Args:
        settings: dict; source: the file, for messages.

    Raises:
        UserError: it is no ALBERT's, or one that computes something else than ours does.
    """
    if not isinstance(settings, dict) or settings.get("model_type") != "albert":
        raise UserError(
            '%s: "model_type" is %s; only "albert" models can be converted (a Chinese ALBERT whose '
            "file lacks it: add it)" % (
                source, json.dumps(settings.get("model_type") if isinstance(settings, dict)
                                   else None)))
    activation = settings.get("hidden_act", "gelu_new")
    if not isinstance(activation, str) or activation not in _OUR_ACTIVATIONS:
        raise UserError('%s: hidden_act "%s" does not exist here; convertible are %s'
                        % (source, activation, ", ".join(sorted(_OUR_ACTIVATIONS))))
    epsilon = settings.get("layer_norm_eps", modeling.LAYER_NORM_EPSILON)
    if epsilon != modeling.LAYER_NORM_EPSILON:
        raise UserError("%s: layer_norm_eps is %s; LayerNorm here adds %g, so results would differ"
                        % (source, epsilon, modeling.LAYER_NORM_EPSILON))
    positions = settings.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise UserError('%s: position_embedding_type is "%s"; only absolute positions exist here'
                        % (source, positions))
    ours = {name: settings.get(name, _THEIR_DEFAULTS[name]) for name in _SIZES}
    config = modeling_google.AlbertConfig.from_dict(
        dict(ours, hidden_act=_OUR_ACTIVATIONS[activation]), source)
    require_same_groups(config.num_hidden_layers, config.num_hidden_groups,
                        config.inner_group_num, source)
    return config


# ---------------------------------------------------------------------------------------------
# Tokenizer
# ---------------------------------------------------------------------------------------------

def tokenizer_class(tokenizer):
    return "AlbertTokenizer" if tokenizer.is_sentencepiece else "BertTokenizer"


def tokenizer_files(tokenizer, most_tokens):
    """Returns {name: bytes} of what AutoTokenizer reads.

    Args:
        tokenizer: tokenization.FullTokenizer; most_tokens: the model's positions.
    """
    specials = collections.OrderedDict([
        ("unk_token", tokenizer.unk_token), ("sep_token", tokenizer.sep_token),
        ("pad_token", tokenizer.pad_token), ("cls_token", tokenizer.cls_token),
        ("mask_token", tokenizer.mask_token)])
    settings = collections.OrderedDict([
        ("tokenizer_class", tokenizer_class(tokenizer)),
        ("do_lower_case", tokenizer.do_lower_case), ("model_max_length", most_tokens)])
    if tokenizer.is_sentencepiece:
        specials.update([("bos_token", tokenizer.cls_token), ("eos_token", tokenizer.sep_token)])
        settings.update([("remove_space", True), ("keep_accents", False)])
        with files.open_binary(tokenizer.file) as stream:
            content = {"spiece.model": stream.read()}
    else:
        settings.update([("strip_accents", None), ("tokenize_chinese_chars", True)])
        content = {"vocab.txt": "".join(token + "\n" for token in tokenizer.vocab).encode("utf-8"),
                   "tokenizer.json": to_json(_fast_wordpiece(tokenizer))}
    settings.update(specials)
    content[tokenization.SETTINGS_FILE] = to_json(settings)
    content["special_tokens_map.json"] = to_json(specials)
    return content


def _fast_wordpiece(tokenizer):
    """Returns the content of tokenizer.json, which the package tokenizers reads.

    vocab.txt would do but for two things, in which what is made from it is no BERT: it gives up on
    words of more than 100 characters, not 200, and drops characters of private use (Chinese web
    pages have icons among them), which are unknown words. Those are replaced by a letter that the
    vocabulary lacks.
    """
    def special(token, segment):
        return {"SpecialToken": {"id": token, "type_id": segment}}

    cls, sep = tokenizer.cls_token, tokenizer.sep_token
    first, second = ({"Sequence": {"id": name, "type_id": segment}}
                     for segment, name in enumerate("AB"))
    single = [special(cls, 0), first, special(sep, 0)]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": tokenizer.vocab[token], "content": token, "single_word": False,
             "lstrip": False, "rstrip": False, "normalized": False, "special": True}
            for token in tokenization.WORDPIECE_SPECIALS],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Replace", "pattern": {"Regex": "\\p{Co}"},
             "content": _unknown_letter(tokenizer.vocab)},
            {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
             "strip_accents": None, "lowercase": tokenizer.do_lower_case}]},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing", "single": single,
            "pair": single + [second, special(sep, 1)],
            "special_tokens": {token: {"id": token, "ids": [tokenizer.vocab[token]],
                                       "tokens": [token]} for token in (cls, sep)}},
        "decoder": {"type": "WordPiece", "prefix": tokenization.WORD_PREFIX, "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": tokenizer.unk_token,
                  "continuing_subword_prefix": tokenization.WORD_PREFIX,
                  "max_input_chars_per_word":
                      tokenizer.wordpiece_tokenizer.max_input_chars_per_word,
                  "vocab": tokenizer.vocab}}


def _unknown_letter(vocab):
    """Returns a letter that words cannot be made of: a syllable of Yi, a script without cases."""
    letters = set("".join(vocab))
    return next(letter for letter in map(chr, range(0xA000, 0xA48D)) if letter not in letters)


def to_json(value):
    """Returns a value as the bytes of a JSON file."""
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8")


# ---------------------------------------------------------------------------------------------
# A folder
# ---------------------------------------------------------------------------------------------

def need(module, package, purpose):
    """Imports a module of an optional package; UserError names the pip command."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError("%s needs the package %s: pip install %s"
                        % (purpose, package, package)) from error


def require_new_folder(folder, flag):
    """Raises UserError unless a folder is empty or does not exist: nothing is overwritten."""
    if files.exists(folder) and not files.is_dir(folder):
        raise UserError("--%s=%s is a file: name a folder" % (flag, folder))
    there = files.list_dir(folder) if files.is_dir(folder) else []
    if there:
        raise UserError("--%s=%s holds files already (%s): name a new folder"
                        % (flag, folder, ", ".join(there[:3] + ["..."] * (len(there) > 3))))


@contextlib.contextmanager
def unfinished_folder(folder):
    """Yields a folder inside `folder`; its files are moved to `folder` when the block succeeds."""
    unfinished = tempfile.mkdtemp(prefix=files.TEMPORARY, dir=folder)
    try:
        yield unfinished
        for name in files.list_dir(unfinished):
            files.move(os.path.join(unfinished, name), os.path.join(folder, name))
    finally:
        shutil.rmtree(unfinished)


def write_folder(folder, tensors, settings, other_files):
    """Writes a folder that `from_pretrained` loads.

    Args:
        folder: exists; tensors: {name: float32 array}; settings: content of config.json.
        other_files: {name: bytes}, such as `tokenizer_files`.
    """
    safetensors = need("safetensors.numpy", "safetensors", "writing %s" % WEIGHTS_FILE)
    # Without this remark transformers refuses to load the file.
    content = {WEIGHTS_FILE: safetensors.save(dict(tensors), metadata={"format": "pt"}),
               SETTINGS_FILE: to_json(settings)}
    content.update(other_files)
    for name, data in content.items():
        with files.atomic_write(os.path.join(folder, name)) as stream:
            stream.write(data)


def read_tensors(folder):
    """Reads the weights in a folder that `save_pretrained` has written.

    Args:
        folder: holds model.safetensors or pytorch_model.bin, or parts of one with their index.

    Returns:
        {name: float32 array}.

    Raises:
        UserError: there are none, a part is missing or damaged, or a package is missing.
    """
    for name, read in ((WEIGHTS_FILE, _read_safetensors), ("pytorch_model.bin", _read_pickle)):
        path = os.path.join(folder, name)
        if files.exists(path):
            return read(path)
        index = path + ".index.json"
        if files.exists(index):
            return _read_parts(folder, index, read)
    raise UserError("%s holds no weights: neither %s nor pytorch_model.bin, nor parts of one with "
                    "their .index.json" % (folder, WEIGHTS_FILE))


def _read_parts(folder, index, read):
    places = files.read_json(index)
    places = places.get("weight_map") if isinstance(places, dict) else None
    if not isinstance(places, dict) or not all(
            isinstance(name, str) and os.path.basename(name) == name for name in places.values()):
        raise UserError("%s is damaged: its weight_map must name the file of each weight" % index)
    tensors = {}
    for name in sorted(set(places.values())):
        path = os.path.join(folder, name)
        if not files.exists(path):
            raise UserError("%s names the part %s, which is missing: copy it too" % (index, name))
        tensors.update(read(path))
    lacking = sorted(set(places) - set(tensors))
    if lacking:
        raise UserError("%s names weights that are not in its parts: %s; copy them again"
                        % (index, ", ".join(lacking)))
    return tensors


def _read_safetensors(path):
    safetensors = need("safetensors", "safetensors", "reading %s" % path)
    try:
        with safetensors.safe_open(path, framework="np") as stream:
            names = list(stream.keys())
            types = {name: stream.get_slice(name).get_dtype() for name in names}
            if set(types.values()) <= {"F16", "F32", "F64", "I64"}:
                return {name: _as_float32(stream.get_tensor(name)) for name in names}
    except safetensors.SafetensorError as error:
        raise UserError("%s is damaged (%s); copy or download it again" % (path, error)) from error
    # Types that NumPy does not have, such as bfloat16.
    torch = need("torch", "torch", "reading %s, which holds %s," % (
        path, ", ".join(sorted(set(types.values())))))
    with safetensors.safe_open(path, framework="pt") as stream:
        return {name: stream.get_tensor(name).to(torch.float32).numpy() for name in names}


def _read_pickle(path):
    torch = need("torch", "torch", "reading %s" % path)
    try:
        # weights_only: a pickle from somewhere else must not run what it likes.
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - pickle, zipfile and PyTorch have no common one
        raise UserError("%s is damaged or holds more than weights (%s); copy or download it again"
                        % (path, str(error).split("\n")[0])) from error
    if not isinstance(tensors, dict) or not all(map(torch.is_tensor, tensors.values())):
        raise UserError("%s holds no weights by name, as torch.save(model.state_dict()) writes them"
                        % path)
    return {name: value.to(torch.float32).numpy() for name, value in tensors.items()}


def _as_float32(value):
    return np.ascontiguousarray(value, np.float32)


# ---------------------------------------------------------------------------------------------
# Comparison
# ---------------------------------------------------------------------------------------------

def why_not_comparable():
    """Returns which package a comparison lacks, or None."""
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            return package
    return None


def compare(folder, architecture, config, prefix, tokenizer, **changes):
    """Compares what a folder's model and a checkpoint's TensorFlow graph compute, on real texts.

    Args:
        folder: of Hugging Face; architecture: class to load it with.
        config, prefix, tokenizer: of the checkpoint.
        changes: settings that take the place of those in config.json.

    Returns:
        {output: largest difference}, where outputs above 1 count relative to the largest.

    Raises:
        UserError: weights are missing in the folder.
    """
    rows = [_row(text, tokenizer, config.max_position_embeddings) for text in TEXTS]
    batch = batching.padded([ids for ids, _ in rows], [segments for _, segments in rows])
    with _quiet_transformers():
        theirs = _their_outputs(folder, architecture, batch, changes)
    ours = _our_outputs(config, prefix, batch, theirs)
    real = batch.input_mask.astype(bool)  # what stands at padding differs with the way of masking
    differences = collections.OrderedDict()
    for name, expected in ours.items():
        found = theirs[name]
        if expected.shape[:2] == real.shape:
            expected, found = expected[real], found[real]
        scale = max(1.0, np.abs(expected).max())
        differences[name] = float(np.abs(found - expected).max() / scale)
    return differences


def report(differences, source, target):
    """Says how large the differences are; UserError when one is above BOUND."""
    say(table(["compared with TensorFlow", "largest difference"],
              [[name, "%.1e" % value] for name, value in differences.items()]))
    for name in [name for name, value in differences.items() if not value <= BOUND]:
        raise UserError("%s was not written: its %s differ by %.1e from those of %s, more than %g; "
                        "this is a defect of the converter, please report it"
                        % (target, name, differences[name], source, BOUND))


@contextlib.contextmanager
def _quiet_transformers():
    import transformers
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)


def _row(text, tokenizer, most):
    """Returns (ids, segments) of a text or pair, cut off after `most` tokens."""
    ids, segments = [tokenizer.cls_id], [0]
    for segment, part in enumerate((text,) if isinstance(text, str) else text):
        tokens = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(part)) + [tokenizer.sep_id]
        ids, segments = ids + tokens, segments + [segment] * len(tokens)
    if isinstance(text, str):
        segments = [0] * len(ids)
    return ids[:most], segments[:most]


def text_with_other_ids(folder, tokenizer):
    """Returns the first of TEXTS that a folder's tokenizer gives other ids than ours, or None."""
    import transformers
    # The fast AlbertTokenizer is another program; the slow one is what ALBERT was trained with.
    kind = transformers.AlbertTokenizer if tokenizer.is_sentencepiece else (
        transformers.AutoTokenizer)
    with _quiet_transformers():
        theirs = kind.from_pretrained(folder)
    for text in TEXTS:
        encoded = theirs(*((text,) if isinstance(text, str) else text))
        if (encoded["input_ids"], encoded["token_type_ids"]) != _row(text, tokenizer, None):
            return text
    return None


def _their_outputs(folder, architecture, batch, changes):
    """Returns {output: array} of a folder's model."""
    import torch
    import transformers
    model, loading = getattr(transformers, architecture).from_pretrained(
        folder, output_loading_info=True, local_files_only=True, **changes)
    lacking = sorted(loading["missing_keys"])
    has_pooler = not any("pooler." in name for name in lacking)
    if any("pooler." not in name for name in lacking):
        raise UserError("%s lacks weights of %s: %s" % (folder, architecture, ", ".join(lacking)))
    ids, mask, segments = (torch.from_numpy(part.astype(np.int64)) for part in batch)
    with torch.no_grad():
        model = model.float().eval()
        encoder = getattr(model, "albert", model)
        encoded = encoder(ids, attention_mask=mask, token_type_ids=segments,
                          output_hidden_states=True)
        # Version 5 lists the inner blocks of a layer too; its last one is the layer.
        blocks = (len(encoded.hidden_states) - 1) // model.config.num_hidden_layers
        outputs = {"hidden states": torch.stack(encoded.hidden_states[blocks::blocks], 2)}
        if hasattr(model, "predictions"):
            outputs["masked words"] = model.predictions(encoded.last_hidden_state)
        if encoded.pooler_output is not None and has_pooler:
            outputs["pooled"] = encoded.pooler_output
            if hasattr(model, "sop_classifier"):
                outputs["sentence order"] = model.sop_classifier.classifier(outputs["pooled"])
            if hasattr(model, "classifier"):
                outputs["classes"] = model.classifier(outputs["pooled"])
    return {name: value.numpy() for name, value in outputs.items()}


def _our_outputs(config, prefix, batch, wanted):
    """Returns {output: array} of a checkpoint, for the `wanted` ones.

    hidden states: [B, S, layers, H]; pooled: [B, H]; masked words: [B, S, V]; sentence order:
    [B, 2]; classes: [B, C].
    """
    layout = layouts.GOOGLE if is_google(config) else layouts.ALBERT_ZH
    with tf.Graph().as_default(), tf.Session() as session:
        placeholders = [tf.placeholder(tf.int32, [None, None]) for _ in batch]
        model = layout.model_class(config, False, *placeholders, scope="bert")
        outputs = {"hidden states": tf.stack(model.get_all_encoder_layers(), 2),
                   "pooled": model.get_pooled_output()}
        if "masked words" in wanted:
            flat = tf.reshape(model.get_sequence_output(), [-1, config.hidden_size])
            scores = modeling.masked_lm_logits(config, flat, model.get_embedding_table(),
                                               model.get_embedding_table_2())
            outputs["masked words"] = tf.reshape(scores, list(batch.input_ids.shape) + [-1])
        if "sentence order" in wanted:
            outputs["sentence order"] = modeling.sentence_order_logits(
                config, model.get_pooled_output())
        if "classes" in wanted:
            outputs["classes"] = modeling.output_logits(
                model.get_pooled_output(), wanted["classes"].shape[-1], config.initializer_range)
        shapes = {variable.op.name: tuple(variable.shape.as_list())
                  for variable in tf.trainable_variables()}
        # A folder of a masked-word model has no pooler; what needs it is then not wanted.
        model_fit = checkpoints.fit(prefix, shapes, allow_partial=True)
        checkpoints.load(model_fit)
        session.run(tf.global_variables_initializer())
        outputs = {name: value for name, value in outputs.items() if name in wanted}
        return session.run(outputs, dict(zip(placeholders, batch)))
