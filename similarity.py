"""Do two Chinese sentences mean the same? Probabilities by a model that was fine-tuned on pairs.

    python similarity.py "我喜欢妈妈做的汤" "妈妈做的汤我很喜欢喝"
    python similarity.py --file=pairs.tsv
    python similarity.py                      (asks for sentences)

In a program:

    with BertSim() as sim:
        probabilities = sim.predict_sentences([("我喜欢妈妈做的汤", "妈妈做的汤我很喜欢喝")])
        vectors = sim.sentence_embeddings(["我喜欢妈妈做的汤", "妈妈做的汤我很喜欢喝"])

The settings stand in args.py.
"""

import io
import os
import re
import shlex
import sys
import threading

import args
import checkpoints
import console
import files
import heads
import inference
import numpy as np
import runtime
from absl import flags
from errors import UserError, nearest

FLAGS = flags.FLAGS
BLOCK = 4096  # pairs of a file that are answered at a time

# As args.py is delivered with them: these give way to a file of the same kind in model_dir.
_DELIVERED = {
    "config_name": os.path.join(args.ROOT, "albert_config", "albert_config_tiny.json"),
    "vocab_file": os.path.join(args.ROOT, "albert_config", "vocab.txt")}
# Where run_classifier_lcqmc.sh looks for LCQMC by itself.
_LCQMC_DIR = os.path.join(args.ROOT, "chineseGLUEdatasets", "lcqmc")


# ---------------------------------------------------------------------------------------------
# The predictor
# ---------------------------------------------------------------------------------------------

class BertSim(object):
    """Compares sentences; loads its model once, at the first use or by `start_model`.

    Threads may share it. It prints nothing.
    """

    def __init__(self, batch_size=None, model_dir=None, **settings):
        """Takes the settings; args.py explains them and has their values where none is given.

        Args:
            batch_size: pairs computed at once, at most.
            model_dir: folder of the model.
            settings: further ones of args.NAMES.

        Raises:
            UserError: a setting is unknown, ill-typed or out of range.
        """
        settings.update(batch_size=batch_size, model_dir=model_dir)
        for name in settings:
            if name not in args.NAMES:
                raise UserError("%s is no setting of args.py.%s"
                                % (name, nearest(name, args.NAMES)))
        self._settings = {name: args.setting(name, settings.get(name)) for name in args.NAMES}
        self._lock = threading.Lock()
        self._predictor, self._closed = None, False

    def start_model(self):
        """Loads the model, if that has not been done, and runs it once so that it is warm.

        Raises:
            UserError: there is no model; the message names the command that makes one.
        """
        self._started()

    def predict_sentences(self, pairs):
        """Tells for each pair how probable it is that both sentences mean the same.

        Args:
            pairs: list of pairs of strings, in any number.

        Returns:
            float32 array [pairs, 2], in the order of `pairs`; column 1: they mean the same.

        Raises:
            UserError: an item is no pair of strings; the model is no classifier of pairs whose
                second class means the same.
        """
        pairs = _checked_pairs(pairs)
        predictor = self._started()
        head = predictor.model.head
        if head is None:
            raise UserError(
                "the model in %s is only pre-trained and cannot tell whether sentences mean the "
                "same; fine-tune it with\n  MODEL_DIR=%s %s\nor compare sentence vectors (--cosine)"
                % (self._folder, _shown(self._folder),
                   training_command(self._settings, self._settings["output_dir"])))
        reason = inference.why_no_comparison(predictor.model)
        if reason:
            raise UserError("the model in %s %s; train one on pairs with the labels 0 (different) "
                            "and 1 (same), or compare sentence vectors (--cosine)"
                            % (self._folder, reason))
        return predictor.probabilities(pairs)

    def sentence_embeddings(self, texts, layer=None, pooling="mean"):
        """Computes a vector for each sentence, with a fine-tuned or a pre-trained model.

        Args:
            texts: list of strings, in any number.
            layer: layer to take it from (-1 the last, -2 the one before, 0 the first), or a list
                of them, whose vectors are joined; None: args.layer_indexes, which is [-2].
            pooling: "mean" or "max" over all tokens, [CLS] and [SEP] among them, or "first".

        Returns:
            float32 array [texts, hidden size], in the order of `texts`.

        Raises:
            UserError: an item is no string; there is no such layer or pooling.
        """
        texts = _checked(texts, "string", lambda text: isinstance(text, str))
        layers = self._settings["layer_indexes"]
        if layer is not None:
            layers = args.setting("layer_indexes", layer if np.iterable(layer) else [layer])
        return self._started().vectors(texts, layers, pooling)

    def cosine(self, pairs, layer=None, pooling="mean"):
        """Returns the cosine similarity of the sentence vectors of each pair: [pairs]."""
        pairs = _checked_pairs(pairs)
        vectors = self.sentence_embeddings([text for pair in pairs for text in pair], layer,
                                           pooling)
        return cosine_similarity(vectors[0::2], vectors[1::2])

    def describe(self):
        """Returns a line on the model in use: checkpoint, layout, configuration, what is cut."""
        model, most = self._started().model, self._settings["max_seq_len"]
        line = "Model: %s (%s layout, %d layers, width %d, configuration %s)" % (
            model.checkpoint, model.layout.name, model.config.num_hidden_layers,
            model.config.hidden_size, model.config_file)
        if most < (model.max_seq_length or 0):
            line += "; max_seq_len=%d cuts what it was fine-tuned to read, up to %d tokens" % (
                most, model.max_seq_length)
        return line

    def close(self):
        """Frees the model once the calls under way have ended; later calls are refused."""
        with self._lock:
            self._closed = True
            predictor = self._predictor
        if predictor:
            predictor.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def _folder(self):
        return self._settings["model_dir"]

    def _started(self):
        """Returns the predictor, made at the first call."""
        with self._lock:
            if self._closed:
                raise UserError("this BertSim has been closed; make a new one")
            if self._predictor is None:
                self._predictor = self._make_predictor()
            return self._predictor

    def _make_predictor(self):
        settings = self._settings
        if not (files.is_dir(self._folder)
                and (settings["ckpt_name"] or checkpoints.prefixes_in(self._folder))):
            raise UserError(_advice(settings))
        find = {"config_name": inference.find_config, "vocab_file": inference.find_vocabulary}
        chosen = {name: None if settings[name] == _DELIVERED[name] and find[name](self._folder)
                  else settings[name] for name in find}
        model = inference.read_folder(self._folder, chosen["config_name"], chosen["vocab_file"],
                                      settings["ckpt_name"], settings["do_lower_case"])
        length = min(settings["max_seq_len"], model.max_seq_length or settings["max_seq_len"])
        predictor = inference.Predictor(model, settings["batch_size"], length,
                                        settings["gpu_memory_fraction"])
        predictor.warm_up()
        return predictor


def cosine_similarity(first, second):
    """Returns the cosines of the angles between vectors, row by row. [N, H], [N, H] to [N]."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.sum(first * second, axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)


# ---------------------------------------------------------------------------------------------
# Checks and advice
# ---------------------------------------------------------------------------------------------

def _checked_pairs(pairs):
    return _checked(pairs, "pair of strings", lambda pair: (
        isinstance(pair, (tuple, list)) and len(pair) == 2
        and all(isinstance(text, str) for text in pair)))


def _checked(items, expected, fits):
    """Returns a list of the items; UserError names the first that does not fit."""
    if isinstance(items, (str, bytes)):
        raise UserError("a list is expected, each item a %s; a single string was given" % expected)
    try:
        items = list(items)
    except TypeError as error:
        raise UserError("a list is expected, each item a %s; %s was given"
                        % (expected, repr(items)[:80])) from error
    for number, item in enumerate(items):
        if not fits(item):
            raise UserError("item %d is no %s: %s" % (number, expected, repr(item)[:80]))
    return items


def training_command(settings, output_dir, sample=False):
    """Returns the command that fine-tunes a model.

    Args:
        settings: {name: value} of args.NAMES.
        output_dir: folder for the model.
        sample: on the embedded sample in place of LCQMC.
    """
    words = ["OUTPUT_DIR=" + _shown(output_dir)]
    if not sample and settings["data_dir"] != _LCQMC_DIR:
        words.append("LCQMC_DATA_DIR=" + _shown(settings["data_dir"]))
    words += ["bash", _shown(os.path.join(args.ROOT, "run_classifier_lcqmc.sh"))]
    if sample:
        return " ".join(words + ["--sample"])
    return " ".join(words + ["--%s=%g" % (flag, settings[name]) for flag, name in (
        ("num_train_epochs", "num_train_epochs"), ("learning_rate", "learning_rate"),
        ("max_seq_length", "max_seq_len"))])


def _advice(settings):
    """Returns what to do where there is no model."""
    # Whoever names another folder for the model, and none for the output, means both.
    output_dir = settings["output_dir"]
    if output_dir == os.path.join(args.ROOT, args.model_dir):
        output_dir = settings["model_dir"]
    return ("there is no trained model in %s. This makes one from LCQMC, a licensed corpus that is "
            "expected in %s:\n  %s\nThis makes one offline, from the embedded sample:\n  %s\n"
            "Another folder with a model is named by --model_dir." % (
                _shown(settings["model_dir"]), _shown(settings["data_dir"]),
                training_command(settings, output_dir),
                training_command(settings, output_dir, sample=True)))


def _shown(path):
    """Returns a path as one types it into a shell here."""
    if files.is_remote(path):
        return shlex.quote(path)
    relative = os.path.relpath(path or os.curdir)
    return shlex.quote(os.path.abspath(path) if relative.startswith(os.pardir) else relative)


# ---------------------------------------------------------------------------------------------
# As a script
# ---------------------------------------------------------------------------------------------

def define_flags():
    flags.DEFINE_string("file", None, "File with two sentences a line, a tab between them.")
    flags.DEFINE_bool("cosine", False, "Compare sentence vectors by their cosine, which needs no "
                      "fine-tuned model.")
    flags.DEFINE_enum("pooling", "mean", heads.POOLINGS, "How --cosine makes one vector of a "
                      "sentence's tokens.")
    flags.DEFINE_string("model_dir", None, "Folder of the model (this and the following: default "
                        "in args.py).")
    flags.DEFINE_string("ckpt_name", None, "Checkpoint in it.")
    flags.DEFINE_string("config_name", None, "Configuration, if not the one in model_dir.")
    flags.DEFINE_string("vocab_file", None, "Vocabulary, if not the one in model_dir.")
    flags.DEFINE_bool("do_lower_case", None, "Of a model whose folder does not say it: False if it "
                      "was trained with --do_lower_case=False.")
    flags.DEFINE_integer("batch_size", None, "Pairs computed at once, at most.")
    flags.DEFINE_integer("max_seq_len", None, "Tokens of a pair, at most; longer ones are cut.")
    flags.DEFINE_string("layer_indexes", None, "Layers that --cosine takes vectors from: -2 or "
                        "-2,-1.")
    flags.DEFINE_float("gpu_memory_fraction", None, "Share of a GPU's memory to take at most.")
    flags.DEFINE_string("output_dir", None, "Where the training command that is named where there "
                        "is no model puts one.")
    flags.DEFINE_string("data_dir", None, "Folder with LCQMC in that command.")
    flags.DEFINE_float("num_train_epochs", None, "Passes over the data in that command.")
    flags.DEFINE_float("learning_rate", None, "Learning rate in that command.")


def read_pairs(path):
    """Reads a file with two sentences a line, a tab between them.

    Returns:
        list of pairs.

    Raises:
        UserError: a line holds something else; names file and line.
    """
    files.require_file(path, "file")
    pairs, blank = [], None
    for number, line in files.read_lines(path):
        if not line.strip():
            blank = blank or number
            continue
        if blank:
            raise UserError("%s line %d is blank, and pairs follow it; remove it" % (path, blank))
        columns = line.split("\t")
        if len(columns) != 2:
            raise UserError("%s line %d has %d column%s where 2 sentences are expected, between "
                            "them a tab" % (path, number, len(columns),
                                            "" if len(columns) == 1 else "s"))
        pairs.append(tuple(columns))
    if pairs and _names_columns(*pairs[0]):
        console.say("%s: the first line names the columns, so it is no pair" % path)
        del pairs[0]
    if not pairs:
        raise UserError("%s holds no pair" % path)
    return pairs


# What columns of two texts are called: sentence1 and sentence2, text_a and text_b, query and title.
_NUMBERED = re.compile("(sentence|sent|text|question|query|title|句子|文本)[_ ]?([12ab])")
_NAMED = {("query", "title"), ("premise", "hypothesis")}


def _names_columns(first, second):
    """Tells whether a line holds the names of columns; words that may be meant as texts do not."""
    names = first.strip().lower(), second.strip().lower()
    one, other = map(_NUMBERED.fullmatch, names)
    return names in _NAMED or bool(
        one and other and one.group(1) == other.group(1)
        and one.group(2) + other.group(2) in ("12", "ab"))


class _Answers(object):
    """What the script prints for pairs: by the classifier, or by the cosine of vectors."""

    def __init__(self, sim, cosine, pooling):
        self._sim, self._cosine, self._pooling = sim, cosine, pooling

    def numbers(self, pairs):
        if self._cosine:
            return self._sim.cosine(pairs, pooling=self._pooling)
        return self._sim.predict_sentences(pairs)[:, 1]

    def sentence(self, pair):
        """Returns `similar 0.9731 相似`: the probability of "same", and what it comes to."""
        number = self.numbers([pair])[0]
        if self._cosine:
            return "cosine %.4f" % number
        return "similar %.4f %s" % (number, "相似" if number >= 0.5 else "不相似")

    def print_all(self, pairs):
        """Prints a line a pair: first, second and number between tabs."""
        progress = console.Progress("pairs", len(pairs), "pair")
        for start in range(0, len(pairs), BLOCK):
            block = pairs[start:start + BLOCK]
            for pair, number in zip(block, self.numbers(block)):
                print("%s\t%s\t%.6f" % (pair + (number,)))
            progress.update(start + len(block))

    def ask(self):
        """Asks a person for pairs of sentences until a line is empty or the input ends."""
        while True:
            first = _ask("sentence 1: ")
            second = first and _ask("sentence 2: ")
            if not second:
                return
            self._print(first, second)

    def answer(self, stream):
        """Answers pairs of lines of a pipe or a file as they come.

        Args:
            stream: of bytes.

        Raises:
            UserError: a sentence has no second one, or is blank; names the line.
        """
        first, blank = None, None
        for number, line in enumerate(stream, start=1):
            text = _decoded(line)
            if not text and first is None:
                blank = blank or number
                continue
            if blank or not text:
                raise UserError("line %d of the input is blank, between sentences; remove it"
                                % (blank or number))
            if first is None:
                first = text
            else:
                self._print(first, text)
                first = None
        if first is not None:
            raise UserError("line %d of the input, the last one, has no second sentence" % number)

    def _print(self, first, second):
        print(self.sentence((first, second)))
        sys.stdout.flush()


def _ask(prompt):
    """Returns what a person types, "" at the end of the input."""
    try:
        return input(prompt).strip()
    except EOFError:
        print()
        return ""


def _decoded(line):
    try:
        return line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise UserError("the input is not UTF-8; convert it first, for example: iconv -f GB18030 "
                        "-t UTF-8") from error


def main(argv):
    sentences = argv[1:]
    if len(sentences) == 1:
        raise UserError("one sentence was given, two are compared; put each into quotes")
    if sentences and FLAGS.file is not None:
        raise UserError("give either two sentences or --file, not both")
    pairs = None if FLAGS.file is None else read_pairs(FLAGS.file)
    for flag in ("layer_indexes", "pooling"):
        if FLAGS[flag].present and not FLAGS.cosine:
            raise UserError("--%s=%s has no meaning without --cosine" % (flag, FLAGS[flag].value))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack a character
    values = FLAGS.flag_values_dict()
    with BertSim(**{name: values[name] for name in args.NAMES}) as sim:
        console.say(sim.describe())
        answers = _Answers(sim, FLAGS.cosine, FLAGS.pooling)
        if pairs:
            answers.print_all(pairs)
        elif sentences:
            print(answers.sentence(tuple(sentences)))
        else:
            if not FLAGS.cosine:
                sim.predict_sentences([])  # a model that cannot answer says so before one types
            if sys.stdin.isatty():
                answers.ask()
            else:
                answers.answer(sys.stdin.buffer)


if __name__ == "__main__":
    define_flags()
    runtime.run(main, positional=2)
