"""A model folder held ready for use: class probabilities, sentence vectors, words for masks.

`read_folder` finds out what lies in a folder, whatever its layout; `Predictor` keeps one graph and
one session of it for as long as it lives. Nothing is written.

Dimension letters: N texts, B batch, S sequence length, P masks of a text, H hidden size,
C classes, V vocabulary.
"""

import collections
import concurrent.futures
import contextlib
import os
import threading

import batching
import checkpoints
import distribution
import features
import files
import heads
import layouts
import modeling
import numpy as np
import runtime
import selection
import tasks
import tokenization
from errors import UserError

import tensorflow.compat.v1 as tf

SHORTEST = 5  # tokens: [CLS] a [SEP] b [SEP]

# Below this width one thread an operation answers a text sooner than several, and large calls
# occupy the other CPUs by batches side by side (benchmarks/similarity.py --num_threads).
NARROW = 512
# Tokens of one run on a CPU: larger ones fall out of its cache (the same with --most_tokens).
MOST_TOKENS = 1024
PRECISIONS = ("float32", "bfloat16")
POOLER = "bert/pooler/"
WINDOW = 1024  # texts that are turned into features, sorted by length and computed at a time

ModelFolder = collections.namedtuple("ModelFolder", [
    "folder", "layout", "config", "config_file", "tokenizer", "checkpoint", "head", "labels",
    "fills_masks", "max_seq_length", "truncate", "task"])
ModelFolder.__doc__ = """What lies in a folder with a model.

layout: layouts.Layout; config: its configuration, read from config_file.
tokenizer: tokenization.FullTokenizer; checkpoint: prefix.
head: heads.ClassifierHead, or None for a model without a classifier.
labels: list of strings in class index order; empty without a classifier.
fills_masks: whether the checkpoint holds the masked words' head of pre-training.
max_seq_length, truncate: as it was fine-tuned; None and "head" where that is unknown.
task: name of the task it was fine-tuned for, None where that is unknown."""

Tokens = collections.namedtuple("Tokens", ["input_ids", "segment_ids"])
Tokens.__doc__ = """A text that is tokenised already: two lists of as many numbers.

[CLS] and [SEP] are among them, padding is not."""

# Where a folder may tell whether its model was trained on lower-cased texts.
CASE_FILES = (heads.CLASSIFIER_FILE, heads.ENTITY_FILE, heads.READING_FILE,
               tokenization.SETTINGS_FILE)

# Of a folder that does not say how its classifier was made: as the scripts' defaults are.
_DEFAULTS = {"labels": None, "max_seq_length": None, "use_pooled_output": True, "truncate": "head",
             "task": None}
_TYPES = {"labels": list, "max_seq_length": int, "use_pooled_output": bool, "truncate": str,
          "task": str}


# ---------------------------------------------------------------------------------------------
# What lies in a folder
# ---------------------------------------------------------------------------------------------

def read_folder(folder, config_name=None, vocab_file=None, ckpt_name=None, do_lower_case=None):
    """Finds the parts of a model in a folder.

    Args:
        folder: holds a checkpoint, its configuration (one file *config*.json), vocab.txt or a
            SentencePiece model, and, of a classifier, classifier.json or labels.txt.
        config_name, vocab_file: paths of others than the folder's own.
        ckpt_name: the checkpoint's name in the folder, or its path; None: the one recorded as the
            best, else the one that the folder's `checkpoint` file names.
        do_lower_case: of a folder that does not say it; None: True.

    Returns:
        ModelFolder.

    Raises:
        UserError: a part is missing, ambiguous or damaged, or the parts do not belong together.
    """
    if not folder or not files.is_dir(folder):
        raise UserError("--model_dir=%s is no folder: name one that holds a model" % folder)
    settings = _classifier_settings(folder)
    config_file = config_name or find_config(folder)
    if config_file is None:
        raise UserError("--model_dir=%s holds no configuration of a model (*config*.json with "
                        "hidden_size)" % folder)
    layout, config = layouts.read_config(config_file, flag="config_name")
    prefix = _find_checkpoint(folder, ckpt_name)
    if config_name:
        checkpoints.require_same_config(config, prefix)
    shapes = checkpoints.read_shapes(prefix)
    classes = shapes.get("output_weights", (0,))[0]
    if classes == 1 or files.exists(os.path.join(folder, heads.CHOICE_FILE)):
        raise UserError("the model in %s chooses among the options of a question (as in c3 and "
                        "chid) and neither classifies nor compares texts; run_classifier.py "
                        "--do_predict uses it" % folder)
    tokenizer = _tokenizer(folder, vocab_file or find_vocabulary(folder),
                           lower_case(folder, do_lower_case))
    tokenization.require_fits(tokenizer, config.vocab_size)
    head = heads.ClassifierHead(classes, settings["use_pooled_output"]) if classes else None
    labels = _labels(folder, settings["labels"], classes, prefix) if classes else []
    return ModelFolder(folder, layout, config, config_file, tokenizer, prefix, head, labels,
                       "cls/predictions/output_bias" in shapes, settings["max_seq_length"],
                       settings["truncate"], settings["task"])


def why_no_comparison(model):
    """Returns why a classifier's second class is not "the two mean the same"; None where it is.

    Of pairs, only the labels 0 and 1 say by themselves which of them that is, as in LCQMC and
    AFQMC.

    Args:
        model: ModelFolder with a classifier.
    """
    if len(model.labels) != 2:
        return "tells %d classes apart, not two" % len(model.labels)
    if model.task == "sentence":
        return "classifies single texts (--task_name=sentence), not pairs"
    if model.labels != ["0", "1"]:
        return ("tells %s and %s apart, and only of the labels 0 and 1 is it known that the second "
                "one means the same" % tuple(model.labels))
    return None


def find_config(folder):
    """Returns the path of the one configuration in a folder, or None; UserError for several."""
    found = collections.OrderedDict()
    for name in files.list_dir(folder):
        if "config" in name and name.endswith(".json"):
            settings = files.read_json(os.path.join(folder, name))
            if isinstance(settings, dict) and "hidden_size" in settings:
                found[name] = settings
    if len(found) > 1 and any(settings != list(found.values())[0] for settings in found.values()):
        raise UserError("%s holds several configurations (%s): move away those that do not belong "
                        "to the model" % (folder, ", ".join(found)))
    return os.path.join(folder, list(found)[0]) if found else None


def find_vocabulary(folder):
    """Returns the path of the vocabulary in a folder, or None; UserError for several."""
    names = [name for name in files.list_dir(folder)
             if name == "vocab.txt" or name.endswith(tokenization.SPM_ENDINGS)]
    if len(names) > 1:
        raise UserError("%s holds several vocabularies (%s): move away those that do not belong to "
                        "the model" % (folder, ", ".join(names)))
    return os.path.join(folder, names[0]) if names else None


def _find_checkpoint(folder, name):
    if not name:
        return selection.choose(folder, "model_dir")
    inside = os.path.join(folder, name)
    # Where there is none at either place, the message tells what the folder holds.
    is_inside, is_path = (files.exists(path + ".index") or files.exists(path)
                          for path in (inside, name))
    return checkpoints.resolve(name if is_path and not is_inside else inside, "ckpt_name")


def _tokenizer(folder, path, do_lower_case):
    if path is None:
        raise UserError("--model_dir=%s holds no vocabulary: neither vocab.txt nor a SentencePiece "
                        "model (*%s)" % (folder, ", *".join(tokenization.SPM_ENDINGS)))
    return tokenization.from_file(path, do_lower_case)


def lower_case(folder, given=None):
    """Returns whether the texts of a folder's model are lower-cased: as it says, or as given.

    Raises:
        UserError: the folder says otherwise than is given.
    """
    for name in CASE_FILES:
        path = os.path.join(folder, name)
        written = files.read_json(path) if files.exists(path) else {}
        own = written.get("do_lower_case") if isinstance(written, dict) else None
        if own is None:
            continue
        if not isinstance(own, bool):
            raise UserError("%s: do_lower_case must not be %r" % (path, own))
        if given is not None and given != own:
            raise UserError("--do_lower_case=%s: the model was trained with %s, says %s"
                            % (given, own, path))
        return own
    return given is None or given


def _classifier_settings(folder):
    """Returns what classifier.json says, with defaults for what it does not."""
    path = os.path.join(folder, heads.CLASSIFIER_FILE)
    settings = dict(_DEFAULTS)
    if files.exists(path):
        written = files.read_json(path)
        if not isinstance(written, dict):
            raise UserError("%s is damaged: a JSON object is expected" % path)
        settings.update((name, written[name]) for name in _DEFAULTS if name in written)
    for name, value in settings.items():
        if value is not None and type(value) is not _TYPES[name]:
            raise UserError("%s: %s must not be %r" % (path, name, value))
    if settings["labels"] is not None and not are_labels(settings["labels"]):
        raise UserError("%s is damaged: its labels must be different texts, none of them empty; "
                        "put back the file that training wrote" % path)
    if settings["max_seq_length"] is not None and settings["max_seq_length"] < SHORTEST:
        raise UserError("%s: max_seq_length is %d; at least %d is needed"
                        % (path, settings["max_seq_length"], SHORTEST))
    if settings["truncate"] not in features.TRUNCATIONS:
        raise UserError("%s: truncate is none of %s" % (path, ", ".join(features.TRUNCATIONS)))
    return settings


def _labels(folder, labels, classes, prefix):
    """Returns the labels in class index order: the folder's, or else numbers."""
    source = os.path.join(folder, heads.CLASSIFIER_FILE)
    if labels is None:
        source = os.path.join(folder, "labels.txt")
        if not files.exists(source):
            return [str(number) for number in range(classes)]
        labels = [line for _, line in files.read_lines(source)]
        if not are_labels(labels):
            raise UserError("%s is damaged: a label a line is expected, each of them once; put "
                            "back the file that training wrote" % source)
    require_all_named(labels, source, classes, prefix)
    return labels


def are_labels(labels):
    """Whether a list holds different texts, none of them empty."""
    return (all(isinstance(label, str) and label.strip() for label in labels)
            and len(set(labels)) == len(labels))


def require_all_named(labels, source, classes, prefix):
    """Raises UserError unless a file names as many labels as a checkpoint has classes."""
    if len(labels) != classes:
        raise UserError("%s names %d labels, the checkpoint %s has %d classes: they do not belong "
                        "together" % (source, len(labels), prefix, classes))


# ---------------------------------------------------------------------------------------------
# The graph
# ---------------------------------------------------------------------------------------------

Outputs = collections.namedtuple("Outputs", [
    "inputs", "encoder", "probabilities", "positions", "words"])
Outputs.__doc__ = """The ends of a graph.

inputs: int32 placeholders input_ids, input_mask, segment_ids, all [B, S].
encoder: modeling.Encoder; get_all_encoder_layers() lists [B, S, H], the first layer first. None
where the weights are constants.
probabilities: [B, C], None for a model without a classifier.
positions, words: int32 placeholder [B, P], and the probabilities of all words there [B, P, V]; None
for a model that does not fill masks."""


def has_pooler(prefix):
    """Whether a checkpoint holds the pooler, which models for masked words alone do without."""
    return any(name.startswith(POOLER) for name in checkpoints.read_shapes(prefix))


def build(model):
    """Builds a model in the current graph; running the initialisers loads its weights.

    Args:
        model: ModelFolder.

    Returns:
        Outputs.

    Raises:
        UserError: checkpoint and configuration do not belong together.
    """
    inputs = [tf.placeholder(tf.int32, [None, None], name=name)
              for name in ("input_ids", "input_mask", "segment_ids")]
    encoder = model.layout.model_class(model.config, False, *inputs, scope="bert")
    probabilities, positions, words = None, None, None
    if model.head:
        # The classifier's own encoder shares the weights and leaves out what it does not need.
        with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
            probabilities = tf.nn.softmax(
                heads.classifier_logits(model.config, model.layout.model_class, model.head, False,
                                        *inputs), name="probabilities")
    if model.fills_masks:
        positions = tf.placeholder(tf.int32, [None, None], name="positions")
        words = tf.nn.softmax(heads.word_logits(model.config, encoder, positions), name="words")
    lacks_pooler = not has_pooler(model.checkpoint)
    uses_pooler = model.head is not None and model.head.use_pooled_output
    # Hugging Face's masked-word models have no pooler; then its variables stand here unused.
    shapes = {variable.op.name: tuple(variable.shape.as_list())
              for variable in tf.trainable_variables()
              if uses_pooler or not (lacks_pooler and variable.op.name.startswith(POOLER))}
    checkpoints.load(checkpoints.fit_with_heads(model.checkpoint, shapes))
    return Outputs(inputs, encoder, probabilities, positions, words)


# ---------------------------------------------------------------------------------------------
# Prediction
# ---------------------------------------------------------------------------------------------

class Predictor(object):
    """A model in one graph and one session for its whole life; threads may share it.

    Example:
        with Predictor(read_folder("tnews_output")) as predictor:
            probabilities = predictor.probabilities(["股市大涨", "球队夺冠"])  # [2, 15]
    """

    def __init__(self, model, batch_size=128, max_seq_length=None, gpu_memory_fraction=None,
                 num_threads=None, most_tokens=None, precision="float32"):
        """Builds the graph and loads the weights.

        Args:
            model: ModelFolder.
            batch_size: texts computed at once, at most.
            max_seq_length: tokens of a text or pair, at most; None: as the model was fine-tuned,
                128 where that is unknown.
            gpu_memory_fraction: share of a GPU's memory to take at most; None: no limit.
            num_threads: CPU threads of an operation; 0: TensorFlow's choice; None: 1 for a narrow
                model, else TensorFlow's choice. TensorFlow has one pool of these threads in a
                process, made as its first session asks.
            most_tokens: tokens computed at once, padding included, at most (but at least one
                text); None: MOST_TOKENS on a CPU, no limit on a GPU.
            precision: one of PRECISIONS, of matrix products on a CPU.

        Raises:
            UserError: a number is out of range, checkpoint and configuration do not fit, or this
                machine has no such precision.
        """
        positions = model.config.max_position_embeddings
        self._length = max_seq_length or model.max_seq_length or min(128, positions)
        if not SHORTEST <= self._length <= positions:
            raise UserError("a length of %d tokens: the model in %s takes %d to %d" % (
                self._length, model.folder, SHORTEST, positions))
        if batch_size < 1:
            raise UserError("a batch size of %d: at least 1 is needed" % batch_size)
        require_precision(precision)
        self.model = model
        self._batch_size = batch_size
        if num_threads is None:
            num_threads = threads_for(model.config)
        self._session, self._outputs, self._poolings = _start(
            model, num_threads, gpu_memory_fraction, precision)
        on_gpu = any(device.device_type == "GPU" for device in self._session.list_devices())
        self._most_tokens = most_tokens or (None if on_gpu else MOST_TOKENS)
        self._side_by_side = (os.cpu_count() or 1) if num_threads == 1 and not on_gpu else 1
        self._state = threading.Condition()
        self._calls, self._closed = 0, False

    def probabilities(self, texts):
        """Classifies texts.

        Args:
            texts: list of strings, of pairs of strings, or of Tokens, in any number.

        Returns:
            float32 array [N, C], in the order of `texts`.

        Raises:
            UserError: an item is no text, or the model has no classifier.
        """
        if self.model.head is None:
            raise UserError("%s has no classifier, it is only pre-trained: fine-tune it first, for "
                            "example with run_classifier.py --do_train --init_checkpoint=%s"
                            % (self.model.checkpoint, self.model.folder))
        return self._compute([self._outputs.probabilities], texts)

    def vectors(self, texts, layers=(-2,), pooling="mean"):
        """Computes a vector for each text.

        Args:
            texts: list of strings, of pairs of strings, or of Tokens, in any number.
            layers: layers to take it from, 0 the first, -1 the last; the vectors of several are
                joined.
            pooling: one of heads.POOLINGS: the mean or maximum over all tokens, [CLS] and [SEP]
                among them, or the first token's vector.

        Returns:
            float32 array [N, H * len(layers)], in the order of `texts`.

        Raises:
            UserError: an item is no text; there is no such layer or pooling.
        """
        count = self.model.config.num_hidden_layers
        wrong = [layer for layer in layers if not -count <= layer < count]
        if wrong or not layers:
            raise UserError("there is no layer %s: the model's %d layers are 0 to %d, or -%d to -1"
                            % (wrong[0] if wrong else "named", count, count - 1, count))
        if pooling not in heads.POOLINGS:
            raise UserError('pooling "%s" is unknown; use one of %s'
                            % (pooling, ", ".join(heads.POOLINGS)))
        return self._compute([self._poolings[pooling][layer] for layer in layers], texts)

    def masked_words(self, texts, top=5):
        """Tells which words may stand where a text says [MASK].

        Args:
            texts: list of strings, or of pairs of strings, in any number, each with "[MASK]" at
                least once.
            top: words for each mask, at most.

        Returns:
            list, a text each, of lists, a mask each, of lists of (word, probability): the most
            probable first.

        Raises:
            UserError: an item is no text or has no mask within the tokens that are read; `top` is
                out of range; the model does not fill masks.
        """
        if not self.model.fills_masks:
            raise UserError("%s cannot fill masks, it has no masked-word head: use a checkpoint of "
                            "pre-training" % self.model.checkpoint)
        if not 1 <= top <= len(self.model.tokenizer.vocab):
            raise UserError("top=%s: 1 to %d words for a mask can be told"
                            % (top, len(self.model.tokenizer.vocab)))
        examples, filled = to_examples(texts), []
        with self._in_use():
            for start in range(0, len(examples), WINDOW):
                filled += self._fill_window(examples[start:start + WINDOW], top)
        return filled

    def warm_up(self):
        """Runs the model once, since a first run takes longer than all others."""
        if self.model.head:
            self.probabilities([("", "")])
        else:
            self.vectors([""], layers=(-1,))

    def close(self):
        """Frees the model once the calls under way have ended; later calls are refused."""
        with self._state:
            self._closed = True
            self._state.wait_for(lambda: self._calls == 0)
            self._session.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @contextlib.contextmanager
    def _in_use(self):
        with self._state:
            if self._closed:
                raise UserError("this predictor has been closed; make a new one")
            self._calls += 1
        try:
            yield
        finally:
            with self._state:
                self._calls -= 1
                self._state.notify_all()

    def _compute(self, outputs, texts):
        """Returns the values of outputs [B, width], joined, for all texts: [N, sum of widths]."""
        examples = to_examples(texts, or_tokens=True)
        width = sum(output.shape.as_list()[-1] for output in outputs)
        values = np.zeros([len(examples), width], np.float32)
        with self._in_use():
            for start in range(0, len(examples), WINDOW):
                self._compute_window(outputs, examples[start:start + WINDOW],
                                     values[start:start + WINDOW])
        return values

    def _compute_window(self, outputs, examples, values):
        """Fills `values` [len(examples), width]."""
        def run(group, feed):
            values[group] = np.concatenate(self._session.run(outputs, feed), axis=1)

        self._in_batches([self._features(example) for example in examples], run)

    def _fill_window(self, examples, top):
        """Returns the words for the masks of examples, as `masked_words` says."""
        mask = self.model.tokenizer.convert_tokens_to_ids([self.model.tokenizer.mask_token])
        rows = [self._features(example, self._tokenize_with_masks) for example in examples]
        places = [np.flatnonzero(np.equal(row["input_ids"], mask)) for row in rows]
        for example, found in zip(examples, places):
            if not found.size:
                raise UserError(
                    "item %d has no [MASK] among the %d tokens that are read of it: %s"
                    % (example.id, self._length, repr(example.text_a)[:80]))
        filled = [None] * len(rows)

        def run(group, feed):
            width = max(places[row].size for row in group)
            feed[self._outputs.positions] = [np.resize(places[row], width) for row in group]
            for row, scores in zip(group, self._session.run(self._outputs.words, feed)):
                filled[row] = [self._best_words(scores[number], top)
                               for number in range(places[row].size)]

        self._in_batches(rows, run)
        return filled

    def _best_words(self, scores, top):
        """Returns the `top` (word, probability) of scores [V], the most probable first."""
        scores = scores[:len(self.model.tokenizer.vocab)]  # a model may have spare entries
        best = np.argpartition(-scores, top - 1)[:top]
        best = best[np.argsort(-scores[best], kind="stable")]
        words = self.model.tokenizer.convert_ids_to_tokens(best.tolist())
        return [(word, float(scores[index])) for word, index in zip(words, best)]

    def _features(self, example, tokenize=None):
        if isinstance(example, Tokens):
            self._require_readable(example)
            return example._asdict()
        return features.featurise(example, None, self.model.tokenizer, self._length,
                                  self.model.truncate, tokenize)

    def _require_readable(self, tokens):
        """Raises UserError unless Tokens are what the model takes."""
        config = self.model.config
        count = len(tokens.input_ids)
        if not (1 <= count <= self._length and len(tokens.segment_ids) == count):
            raise UserError("%d input_ids and %d segment_ids: as many of both are expected, 1 to %d"
                            % (count, len(tokens.segment_ids), self._length))
        for name, numbers, most in (("input_ids", tokens.input_ids, config.vocab_size),
                                    ("segment_ids", tokens.segment_ids, config.type_vocab_size)):
            if not 0 <= min(numbers) <= max(numbers) < most:
                raise UserError("%s: %d to %d are expected" % (name, 0, most - 1))

    def _tokenize_with_masks(self, text):
        """Returns a text's tokens; where it says [MASK], the token of that name."""
        mask, tokens = self.model.tokenizer.mask_token, []
        for number, part in enumerate(text.split(mask)):
            tokens += ([mask] if number else []) + self.model.tokenizer.tokenize(part)
        return tokens

    def _in_batches(self, rows, run):
        """Calls run(row numbers, feed dictionary of the inputs) for batches of like length."""
        ids, segments = [[row[name] for row in rows] for name in ("input_ids", "segment_ids")]
        groups = batching.group_by_length([len(row) for row in ids], self._batch_size,
                                          self._most_tokens)

        def run_group(group):
            feeds = batching.padded([ids[row] for row in group], [segments[row] for row in group])
            run(group, dict(zip(self._outputs.inputs, feeds)))

        if len(groups) == 1 or self._side_by_side == 1:
            for group in groups:
                run_group(group)
            return
        with concurrent.futures.ThreadPoolExecutor(self._side_by_side) as pool_of_threads:
            for _ in pool_of_threads.map(run_group, groups):
                pass


def threads_for(config):
    """Returns the threads of an operation that serve a model best; 0: TensorFlow's choice."""
    return 1 if config.hidden_size < NARROW else 0


def require_precision(precision):
    """Raises UserError for a precision that is unknown, or that this machine does not have."""
    if precision not in PRECISIONS:
        raise UserError("precision=%s is unknown: use one of %s"
                        % (precision, ", ".join(PRECISIONS)))
    if precision == "bfloat16":
        distribution.require_bfloat16(instead="float32")


def _start(model, num_threads, gpu_memory_fraction, precision):
    """Returns (session with the weights loaded, Outputs, {pooling: list of [B, H], by layer})."""
    config = tf.ConfigProto(allow_soft_placement=True, intra_op_parallelism_threads=num_threads)
    config.gpu_options.allow_growth = True
    if gpu_memory_fraction:
        config.gpu_options.per_process_gpu_memory_fraction = gpu_memory_fraction
    if precision == "bfloat16":
        runtime.enable_bfloat16(config)
    with tf.Graph().as_default() as graph:
        if precision == "bfloat16":
            modeling.multiply_in_bfloat16()
        outputs = build(model)
        layers = outputs.encoder.get_all_encoder_layers()
        poolings = {pooling: [heads.pool(layer, outputs.inputs[1], pooling) for layer in layers]
                    for pooling in heads.POOLINGS}
        session = tf.Session(graph=graph, config=config)
        try:
            session.run(tf.global_variables_initializer())
            if precision == "bfloat16":
                session, outputs, poolings = _with_constants(session, config, outputs, poolings)
        except BaseException:
            session.close()
            raise
        session.graph.finalize()  # threads share it from here on
    return session, outputs, poolings


def _with_constants(session, config, outputs, poolings):
    """Returns the same in a new session, the weights as constants; the old session is closed.

    TensorFlow rounds constants once, but variables in each run, which short texts are too small to
    make up for.
    """
    ends = [outputs.probabilities, outputs.words] + sum(poolings.values(), [])
    kept = [end.op.name for end in ends + outputs.inputs + [outputs.positions] if end is not None]
    constants = tf.graph_util.convert_variables_to_constants(
        session, session.graph.as_graph_def(), kept)
    session.close()
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(constants, name="")

    def same(tensor):
        return None if tensor is None else graph.get_tensor_by_name(tensor.name)

    outputs = Outputs([same(tensor) for tensor in outputs.inputs], None,
                      *map(same, outputs[2:]))
    poolings = {pooling: [same(tensor) for tensor in tensors]
                for pooling, tensors in poolings.items()}
    return tf.Session(graph=graph, config=config), outputs, poolings


def to_examples(texts, or_tokens=False):
    """Returns a list of tasks.Example for a list of strings or pairs of strings.

    Args:
        or_tokens: whether Tokens may be among them, which stay as they are.

    Raises:
        UserError: names the first item that is neither.
    """
    if isinstance(texts, (str, bytes)):
        raise UserError("a list of texts is expected, not a single text")
    examples = []
    for number, text in enumerate(texts):
        if or_tokens and isinstance(text, Tokens):
            examples.append(text)
            continue
        parts = (text,) if isinstance(text, str) else text
        fits = isinstance(parts, (tuple, list)) and len(parts) in (1, 2) and all(
            isinstance(part, str) for part in parts)
        if not fits:
            raise UserError("item %d is neither a string nor a pair of strings: %s"
                            % (number, repr(text)[:80]))
        examples.append(tasks.Example(number, parts[0], parts[1] if len(parts) == 2 else None,
                                      None))
    return examples
