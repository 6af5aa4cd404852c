"""Exports a trained model to a folder of its own, to be passed on or put to use elsewhere.

python export_model.py --format=savedmodel,onnx --init_checkpoint=tnews_output --export_dir=tnews
python export_model.py --format=tflite --tflite_type=int8_dynamic --length=128 ...
python export_model.py --strip --init_checkpoint=tnews_output --export_dir=tnews_model

    savedmodel  for TensorFlow Serving and all else that loads one: any batch, any length
    frozen      one .pb of constants, for tf.import_graph_def
    tflite      for phones, in several types of numbers (TensorFlow 2)
    onnx        for ONNX Runtime (TensorFlow 2.15, requirements/export.txt)
    checkpoint  the same without the optimizer's slots, as releases are: a third of the size remains

Works for both layouts, pre-trained or fine-tuned; --head says what is computed. Each file is loaded
again by its own runtime and compared with the model on real sentences before it is put in place.
Vocabulary, configuration, labels, a model card and test vectors for tokenizers lie beside it.
"""

import collections
import contextlib
import os
import shutil

import checkpoints
import exported_graph
import exporting
import files
import graph_tokenizer
import heads
import hugging_face
import inference
import layouts
import model_card
import modeling
import onnx_export
import runtime
import selection
import tensorflow_export
import tflite_export
import tokenization
import tokenizer_vectors
import verification
from absl import flags
from console import say
from errors import UserError, nearest

FLAGS = flags.FLAGS

FORMATS = ("savedmodel", "frozen", "tflite", "onnx", "checkpoint")

Source = collections.namedtuple("Source", [
    "prefix", "layout", "config", "vocab_file", "extra_files"])
Source.__doc__ = """A trained model and what belongs to it.

prefix: its checkpoint; layout: layouts.Layout; config: its configuration; vocab_file: path;
extra_files: {name: bytes} of what a model's folder tells those who use it."""

Wish = collections.namedtuple("Wish", [
    "formats", "tflite_types", "onnx_types", "length", "texts", "representative"])
Wish.__doc__ = """What is to be exported.

formats: list of FORMATS; tflite_types, onnx_types: lists of types; length: tokens that a TFLite
model takes, None: any; texts, representative: to compare with, and to take ranges from."""


def define_flags():
    flags.DEFINE_list("format", None, "What to make of the model, comma-separated: %s."
                      % ", ".join(FORMATS))
    flags.DEFINE_bool("strip", False, "Short for --format=checkpoint.")
    flags.DEFINE_string("init_checkpoint", None, "Checkpoint or folder. Of a run's folder, the "
                        "checkpoint that was evaluated best; else the last one.")
    flags.DEFINE_string("export_dir", None, "Folder to write to.")
    flags.DEFINE_string("config_file", None, "JSON file with the model's sizes; the one beside "
                        "the checkpoint when not given.")
    flags.DEFINE_string("vocab_file", None, "Vocabulary or SentencePiece model; the one beside "
                        "the checkpoint when not given.")
    flags.DEFINE_bool("do_lower_case", None, "Of a model whose folder does not say it: False if it "
                      "was trained with --do_lower_case=False.")
    flags.DEFINE_enum("head", None, exported_graph.HEADS, "What is computed: class probabilities, "
                      "the pooled first token, a sentence vector, or words for masks. None: the "
                      "classifier where there is one, else the embedding.")
    flags.DEFINE_integer("layer", -2, "Layer that --head=embedding takes vectors from: -1 the "
                         "last, 0 the first.")
    flags.DEFINE_enum("pooling", "mean", heads.POOLINGS, "How --head=embedding makes one vector of "
                      "a text's tokens.")
    flags.DEFINE_list("tflite_type", "float32,float16,int8_dynamic", "Numbers of the TFLite "
                      "models: %s." % ", ".join(tflite_export.TYPES))
    flags.DEFINE_integer("length", None, "Tokens of an input of the TFLite models, which then take "
                         "one text, padded to it; none: any length, any number.")
    flags.DEFINE_list("onnx_type", "float32", "Numbers of the ONNX models: %s."
                      % ", ".join(onnx_export.TYPES))
    flags.DEFINE_string("verify_file", None, "Texts to compare with, one a line, a tab between "
                        "those of a pair; none: samples in data/.")
    flags.DEFINE_string("representative_file", None, "Such texts as will come, from which "
                        "--tflite_type=int8 takes the ranges of numbers; none: samples in data/.")


# ---------------------------------------------------------------------------------------------
# What is exported
# ---------------------------------------------------------------------------------------------

def find_source(init_checkpoint, config_file=None, vocab_file=None, do_lower_case=None):
    """Finds a checkpoint and what belongs to it; checks that it does.

    Args:
        init_checkpoint: checkpoint or folder.
        config_file, vocab_file: others than those beside the checkpoint.
        do_lower_case: of a folder that does not say it.

    Returns:
        Source.

    Raises:
        UserError: something is missing, ambiguous or damaged, or does not belong together.
    """
    prefix = selection.choose(init_checkpoint, "init_checkpoint")
    folder = os.path.dirname(prefix) or "."
    layout, config = layouts.read_config(
        config_file or _beside(folder, inference.find_config(folder), "config_file",
                               "configuration (*config*.json with hidden_size)"), "config_file")
    require_encoder(prefix, layout, config)
    if config_file:
        checkpoints.require_same_config(config, prefix)
    vocab_file = vocab_file or _beside(folder, inference.find_vocabulary(folder), "vocab_file",
                                       "vocabulary (vocab.txt or spm.model)")
    files.require_file(vocab_file, "vocab_file")
    tokenization.require_fits(tokenization.from_file(vocab_file), config.vocab_size)
    return Source(prefix, layout, config, vocab_file, told_beside(prefix, do_lower_case))


def require_encoder(prefix, layout, config):
    """Raises UserError unless a checkpoint holds all of the encoder that a configuration says."""
    if checkpoints.layout_of(checkpoints.read_shapes(prefix)) not in (
            layouts.ALBERT_ZH.name, layouts.GOOGLE.name):
        raise UserError("checkpoint %s cannot be exported: there is no ALBERT in it" % prefix)
    model_fit = checkpoints.fit(
        prefix, modeling.pretraining_variable_shapes(config, layout.model_class),
        allow_partial=True)
    # A model that was made for masked words alone has no pooler.
    may_lack = () if inference.has_pooler(prefix) else (inference.POOLER,)
    lacking = [name for name in model_fit.fresh
               if name.startswith(checkpoints.ENCODER) and not name.startswith(may_lack)]
    if lacking:
        raise UserError("the configuration is not that of %s, in which these variables are missing "
                        "or of another shape:%s\nname its own configuration as --config_file"
                        % (prefix, "".join("\n  " + name for name in lacking)))


def _beside(folder, path, flag, what):
    if path is None:
        raise UserError("there is no %s in %s: name it as --%s" % (what, folder, flag))
    return path


def told_beside(prefix, do_lower_case=None):
    """Returns {name: bytes} of what a checkpoint's folder says of its head and its texts.

    Args:
        do_lower_case: of a folder that does not say it; False is then put down, as else who uses
            the export would lower-case.

    Raises:
        UserError: labels.txt is of another classifier, or the case is another one.
    """
    folder = os.path.dirname(prefix) or "."
    shapes = checkpoints.read_shapes(prefix)
    classes = shapes.get("output_weights", (0,))[0]
    names = {0: [], 1: [heads.CHOICE_FILE]}.get(classes, ["labels.txt", heads.CLASSIFIER_FILE])
    for scope, of_scope in ((heads.ENTITY_SCOPE, ["labels.txt", heads.ENTITY_FILE]),
                            (heads.READING_SCOPE, [heads.READING_FILE])):
        if any(name.startswith(scope + "/") for name in shapes):
            names = names + of_scope
    labels = os.path.join(folder, "labels.txt")
    if classes > 1 and files.exists(labels):
        inference.require_all_named(list(files.read_lines(labels)), labels, classes, prefix)
    found = collections.OrderedDict()
    for name in names:
        if files.exists(os.path.join(folder, name)):
            with files.open_binary(os.path.join(folder, name)) as stream:
                found[name] = stream.read()
    says_case = any("do_lower_case" in files.read_json(os.path.join(folder, name))
                    for name in found if name in inference.CASE_FILES)
    if not says_case and not inference.lower_case(folder, do_lower_case):
        found[tokenization.SETTINGS_FILE] = hugging_face.to_json({"do_lower_case": False})
    return found


# ---------------------------------------------------------------------------------------------
# The wish
# ---------------------------------------------------------------------------------------------

def chosen(values, known, flag):
    """Returns the different values of a list flag; UserError for an unknown one or none."""
    values = [value.strip() for value in values if value.strip()]
    for value in values:
        if value not in known:
            raise UserError("--%s: %s is unknown.%s Known: %s"
                            % (flag, value, nearest(value, known), ", ".join(known)))
    if not values:
        raise UserError("--%s is empty: name one of %s" % (flag, ", ".join(known)))
    return [value for value in known if value in values]


def read_wish(flag_values):
    """Returns the Wish of the parsed flags, checked as far as they go without a model."""
    if not (flag_values.strip or flag_values.format):
        raise UserError("nothing to do: give --strip, or --format=%s" % "|".join(FORMATS))
    formats = chosen(flag_values.format, FORMATS, "format") if flag_values.format else []
    if flag_values.strip and formats not in ([], ["checkpoint"]):
        raise UserError("--strip and --format=%s are two different exports: give one of them"
                        % ",".join(formats))
    if not flag_values.export_dir:
        raise UserError("--export_dir is missing: name a folder to write to")
    formats = formats or ["checkpoint"]
    if formats != ["checkpoint"] and files.is_remote(flag_values.export_dir):
        raise UserError("--export_dir=%s: only --format=checkpoint writes to remote folders; "
                        "export to a local one and copy it" % flag_values.export_dir)
    tflite_types = chosen(flag_values.tflite_type, tflite_export.TYPES, "tflite_type")
    onnx_types = chosen(flag_values.onnx_type, onnx_export.TYPES, "onnx_type")
    if "tflite" in formats:
        tflite_export.require_available()
    elif flag_values.length is not None:
        raise UserError("--length=%d is for --format=tflite; the others take any length"
                        % flag_values.length)
    if "onnx" in formats:
        onnx_export.require_available()
    if formats == ["checkpoint"]:  # which is a copy, so there is nothing to compare
        return Wish(formats, tflite_types, onnx_types, None, [], [])
    texts = verification.read_texts(flag_values.verify_file)
    representative = verification.read_texts(flag_values.representative_file,
                                             "representative_file")
    return Wish(formats, tflite_types, onnx_types, flag_values.length, texts, representative)


def file_names(wish, export_dir):
    """Returns the list of (name in the folder, format, type or None) of what is to be written."""
    names = []
    for kind in wish.formats:
        if kind == "savedmodel":
            folder = os.path.join(export_dir, tensorflow_export.SAVED_MODEL_NAME)
            names.append(("%s/%d" % (tensorflow_export.SAVED_MODEL_NAME,
                                     tensorflow_export.next_version(folder)), kind, None))
        elif kind == "frozen":
            names.append((tensorflow_export.FROZEN_NAME, kind, None))
        elif kind == "tflite":
            names += [(tflite_export.name_of(numbers, wish.length), kind, numbers)
                      for numbers in wish.tflite_types]
        elif kind == "onnx":
            names += [(onnx_export.name_of(numbers), kind, numbers)
                      for numbers in wish.onnx_types]
    return names


# ---------------------------------------------------------------------------------------------
# The export
# ---------------------------------------------------------------------------------------------

class Exporter(object):
    """Writes and verifies the files of one model; the graphs are made when first needed."""

    def __init__(self, model, head, wish, export_dir, max_seq_length):
        self._model, self._head, self._wish = model, head, wish
        self._folder, self._max_seq_length = export_dir, max_seq_length
        self._frozen, self._samples = {}, {}  # by length
        self._writers = {"savedmodel": self._write_saved_model, "frozen": self._write_frozen,
                         "tflite": self._write_tflite, "onnx": self._write_onnx}

    def write(self, name, kind, numbers):
        """Writes one file (or a SavedModel's folder) and verifies it; returns what is known of it.

        Raises:
            UserError: it does not compute what the model does; nothing is left of it then.
        """
        known = collections.OrderedDict([("format", kind)])
        if numbers:
            known["type"] = numbers
        if kind == "tflite" and self._wish.length:
            known["length"] = self._wish.length
        target = os.path.join(self._folder, name)
        files.make_dir(os.path.dirname(target), "export_dir")
        with _in_place(target) as unfinished:
            bound, agreement = self._writers[kind](unfinished, name, numbers)
            known["bytes"] = tensorflow_export.folder_size(unfinished) or files.size(unfinished)
        known.update(difference=agreement.difference, bound=bound.difference,
                     mean_difference=agreement.mean, texts=agreement.texts)
        if agreement.equal is not None:
            known["equal_decisions"] = agreement.equal
        say("Wrote %s (%.1f MB)" % (target, known["bytes"] / 1e6))
        return known

    def _write_saved_model(self, path, name, _):
        if exported_graph.takes_strings(self._model, self._head):
            tensorflow_export.write_saved_model(self._graph(), path, self._tokenize)
            self._require_equal_ids(path, name)
        else:
            tensorflow_export.write_saved_model(self._graph(), path)
        return self._verified(name, tensorflow_export.SavedModel(path), tensorflow_export.BOUND)

    def _tokenize(self, text_a, text_b):
        return graph_tokenizer.GraphTokenizer(
            self._model.tokenizer, self._max_seq_length, self._model.truncate)(text_a, text_b)

    def _require_equal_ids(self, path, name):
        saved = tensorflow_export.SavedModel(path, "pairs", outputs=exported_graph.INPUTS)
        try:
            verification.require_equal_ids(
                name, lambda text_a, text_b: saved({"text_a": text_a, "text_b": text_b}),
                self._model, self._wish.texts + tokenizer_vectors.texts(), self._max_seq_length)
        finally:
            saved.close()

    def _write_frozen(self, path, name, _):
        graph = self._graph()
        tensorflow_export.write_frozen(graph, path)
        return self._verified(
            name, tensorflow_export.read_frozen(path, graph.inputs, graph.output),
            tensorflow_export.BOUND)

    def _write_tflite(self, path, name, numbers):
        length, is_8_bit = self._wish.length, numbers.startswith("int8")
        bound = verification.bound_for(self._head, tflite_export.BOUNDS[numbers], is_8_bit)
        graph, representative = self._graph(length), ()
        if numbers == "int8":
            representative = verification.to_batches(
                self._model, self._head,
                self._wish.representative[:tflite_export.REPRESENTATIVE_TEXTS],
                length or self._max_seq_length, length)

        def convert(**settings):
            content = tflite_export.convert(graph, numbers, representative, **settings)
            with files.open_binary(path, "wb") as stream:
                stream.write(content)
            return tflite_export.Model(path)

        if numbers == "int8_dynamic":
            agreement = self._compare(convert(), is_8_bit=True, length=length)
            # Half the bound: other texts may differ by more than these.
            if verification.is_kept(agreement, bound._replace(difference=bound.difference / 2)):
                say("  %s: %s" % (name, verification.describe(agreement, bound)))
                return bound, agreement
            say("  %s: 8-bit activations are too coarse for this model (%.2g); its weights alone "
                "are made 8-bit" % (name, agreement.difference))
            return self._verified(name, convert(float_products=True), bound, True, length)
        return self._verified(name, convert(), bound, is_8_bit, length)

    def _write_onnx(self, path, name, numbers):
        bound = verification.bound_for(self._head, onnx_export.BOUNDS[numbers], numbers == "int8")
        if numbers == "float32":
            onnx_export.write(self._graph(), path)
            return self._verified(name, onnx_export.Model(path), bound)
        source = os.path.join(self._folder, files.TEMPORARY + "%d-float32.onnx" % os.getpid())
        try:
            onnx_export.write(self._graph(), source)
            onnx_export.quantise(source, path)
        finally:
            if files.exists(source):
                files.remove(source)
        return self._verified(name, onnx_export.Model(path), bound, is_8_bit=True)

    def _graph(self, length=None):
        if length not in self._frozen:
            self._frozen[length] = exported_graph.freeze(self._model, self._head, length)
        return self._frozen[length]

    def _compare(self, run, is_8_bit=False, length=None):
        if length not in self._samples:
            self._samples[length] = verification.sample(
                self._model, self._head, self._wish.texts, length or self._max_seq_length, length)
        try:
            return verification.compare(run, self._samples[length], self._head, is_8_bit)
        finally:
            run.close()

    def _verified(self, name, run, bound, is_8_bit=False, length=None):
        agreement = self._compare(run, is_8_bit, length)
        verification.require_kept(
            name, agreement, bound, "take another type of numbers, or compare on texts of the "
            "model's own kind (--verify_file)" if is_8_bit else "this is a defect of a converter")
        return bound, agreement


@contextlib.contextmanager
def _in_place(target):
    """Yields a temporary name for a file or folder that is moved to `target` on success."""
    folder, name = os.path.split(target)
    unfinished = os.path.join(folder, "%s%d-%s" % (files.TEMPORARY, os.getpid(), name))
    if os.path.isdir(unfinished):
        shutil.rmtree(unfinished)  # of a killed export: in a container numbers come again
    try:
        with files.naming_the_place(target, unfinished):
            yield unfinished
            files.move(unfinished, target)
    finally:
        if os.path.isdir(unfinished):
            shutil.rmtree(unfinished)  # our own, unfinished
        elif os.path.exists(unfinished):
            files.remove(unfinished)


def export_verified(source, wish, names, flag_values):
    """Writes all that is verified against the model's graph, and what lies beside it.

    Args:
        names: of `file_names`.
    """
    export_dir = flag_values.export_dir
    model = inference.read_folder(os.path.dirname(source.prefix) or ".", flag_values.config_file,
                                  flag_values.vocab_file, source.prefix,
                                  flag_values.do_lower_case)
    head = exported_graph.choose_head(model, flag_values.head, flag_values.layer,
                                      flag_values.pooling)
    most = model.config.max_position_embeddings
    if wish.length is not None and not inference.SHORTEST <= wish.length <= most:
        raise UserError("--length=%d: the model takes %d to %d tokens"
                        % (wish.length, inference.SHORTEST, most))
    max_seq_length = min(model.max_seq_length or 128, most)
    record = model_card.record_of(model, head, max_seq_length)
    known = model_card.earlier_files(export_dir, record, [name for name, _, _ in names])
    files.make_dir(export_dir, "export_dir")
    model_card.claim(export_dir, record, known, [name for name, _, _ in names])
    say("Exporting %s: %s (%s), head %s" % (
        source.prefix, ", ".join(wish.formats), model.layout.name, head.name))
    model_card.write_parts(export_dir, source.config, source.vocab_file, source.extra_files)
    files.write_json(os.path.join(export_dir, model_card.VECTORS), list(tokenizer_vectors.vectors(
        model.tokenizer, max_seq_length, truncate=model.truncate)))
    exporter = Exporter(model, head, wish, export_dir, max_seq_length)
    for place, (name, kind, numbers) in enumerate(names, start=1):
        known[name] = exporter.write(name, kind, numbers)
        # After each file: those that are in place are on record whatever becomes of the others.
        model_card.write(export_dir, record, known, model, [later for later, _, _ in names[place:]])
    say("%s describes what is in %s" % (model_card.CARD, export_dir))


def main(_):
    wish = read_wish(FLAGS)
    source = find_source(FLAGS.init_checkpoint, FLAGS.config_file, FLAGS.vocab_file,
                         FLAGS.do_lower_case)
    exporting.require_place(FLAGS.export_dir, os.path.dirname(source.prefix), source.config,
                            source.vocab_file, source.extra_files)
    names = file_names(wish, FLAGS.export_dir)
    if names:
        export_verified(source, wish, names, FLAGS)
    if "checkpoint" in wish.formats:
        exporting.strip(source.prefix, source.config, source.vocab_file, FLAGS.export_dir,
                        source.extra_files)


if __name__ == "__main__":
    define_flags()
    runtime.run(main)
