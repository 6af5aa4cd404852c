"""Whether an exported file computes what the model computes, on real sentences.

Dimension letters: B batch, S sequence length, P masks of a text.
"""

import collections
import os

import batching
import exported_graph
import features
import files
import heads
import inference
import numpy as np
import runtime  # noqa: F401 - before TensorFlow
from console import say
from errors import UserError

import tensorflow.compat.v1 as tf

ROOT = os.path.dirname(os.path.abspath(__file__))
SAMPLES = tuple(os.path.join(ROOT, "data", "clue_sample", "lcqmc", name)
                for name in ("dev.txt", "test.txt"))
LONG_SAMPLE = os.path.join(ROOT, "data", "news_zh_1.txt")
MOST_TEXTS = 200
EQUAL_WORDS = 0.95
BATCHES = (1, 2, 7, 32)  # sizes, in turn

Bound = collections.namedtuple("Bound", ["difference", "equal"])
Bound.__doc__ = """What a format must keep.

difference: the largest that is allowed, as `Agreement` says; equal: the least share of decisions
that are the same."""

Agreement = collections.namedtuple("Agreement", ["difference", "mean", "equal", "texts"])
Agreement.__doc__ = """How an exported file's outputs compare with the graph's.

difference: the largest one of a probability; of vectors, relative to their largest number where
that is above 1, and for 8 bits the largest of 1 - cosine.
mean: of all; equal: share of texts (of masks) with the same most probable class (word), None for
vectors; texts: their number."""

Sample = collections.namedtuple("Sample", ["batches", "expected", "texts"])
Sample.__doc__ = """Real sentences and what the model makes of them.

batches: list of {input name: int32 array}; expected: list of arrays, the model's outputs."""


# ---------------------------------------------------------------------------------------------
# Sentences
# ---------------------------------------------------------------------------------------------

def read_texts(path=None, flag="verify_file", most=MOST_TEXTS):
    """Reads texts, or pairs with a tab between them, from a file with one a line.

    Args:
        path: None: pairs, sentences and passages of the project's data/.

    Returns:
        list of strings and pairs, at most `most`.

    Raises:
        UserError: the file is missing or holds no text.
    """
    if path is None:
        pairs = [tuple(line.split("\t")[:2]) for sample in SAMPLES
                 for _, line in files.read_lines(sample)]
        sentences = [line for _, line in files.read_lines(LONG_SAMPLE) if line.strip()]
        passages = ["".join(sentences[start:start + 5]) for start in range(0, len(sentences), 5)]
        texts = pairs[:64] + [pair[0] for pair in pairs[64:]] + sentences[:56] + passages[:48]
        order = np.random.RandomState(1).permutation(len(texts))  # short and long in one batch
        return [texts[number] for number in order][:most]
    files.require_file(path, flag)
    texts = []
    for _, line in files.read_lines(path):
        columns = line.split("\t")
        if line.strip() and len(texts) < most:
            texts.append(tuple(columns[:2]) if len(columns) > 1 else line)
    if not texts:
        raise UserError("--%s=%s holds no text" % (flag, path))
    return texts


def to_batches(model, head, texts, max_seq_length, length=None):
    """Turns texts into inputs of several batch sizes and lengths.

    Args:
        head: exported_graph.Head; max_seq_length: tokens of a text, at most.
        length: of a graph that takes texts one by one, all padded to it; None: any shape.

    Returns:
        list of {input name: int32 array}.
    """
    tokenizer = model.tokenizer
    rows = [features.featurise(example, None, tokenizer, max_seq_length, model.truncate)
            for example in inference.to_examples(texts)]
    batches, start = [], 0
    while start < len(rows):
        size = 1 if length else BATCHES[len(batches) % len(BATCHES)]
        group = rows[start:start + size]
        start += size
        inputs = batching.padded([row["input_ids"] for row in group],
                                 [row["segment_ids"] for row in group], length)._asdict()
        if head.name == "masked_words":
            _mask_words(inputs, tokenizer.mask_id, 1 if length else 1 + len(batches) % 3)
        batches.append(inputs)
    return batches


def _mask_words(inputs, mask_id, count):
    """Masks `count` tokens of each text, spread over it, and tells their positions."""
    lengths = inputs["input_mask"].sum(axis=1)
    inputs["positions"] = np.stack(
        [lengths * (number + 1) // (count + 1) for number in range(count)], 1).astype(np.int32)
    np.put_along_axis(inputs["input_ids"], inputs["positions"], mask_id, axis=1)


def require_equal_ids(name, run, model, texts, max_seq_length):
    """Raises UserError unless a graph that takes strings makes the tokenizer's ids of them.

    Args:
        name: of the exported file; texts: list of strings and pairs.
        run: function of (list of texts, list of second texts or an empty one) to arrays of
            input_ids, input_mask and segment_ids.
    """
    examples = inference.to_examples(texts)
    for is_pair in (False, True):
        chosen = [example for example in examples if (example.text_b is not None) == is_pair]
        for start in range(0, len(chosen), BATCHES[-1]):
            group = chosen[start:start + BATCHES[-1]]
            rows = [features.featurise(example, None, model.tokenizer, max_seq_length,
                                       model.truncate) for example in group]
            expected = batching.padded([row["input_ids"] for row in rows],
                                       [row["segment_ids"] for row in rows])
            found = run([example.text_a for example in group],
                        [example.text_b for example in group] if is_pair else [])
            if not all(np.array_equal(*both) for both in zip(found, expected)):
                raise UserError("%s does not make the tokenizer's ids of strings, so it was not "
                                "written; this is a defect of graph_tokenizer.py" % name)
    say("  %s: the same ids from %d strings and pairs" % (name, len(examples)))


# ---------------------------------------------------------------------------------------------
# What the model itself makes of them
# ---------------------------------------------------------------------------------------------

def expected_outputs(model, head, batches):
    """Runs the model as inference.py builds it; returns a list of arrays."""
    with tf.Graph().as_default():
        outputs = inference.build(model)
        output = {
            "classifier": lambda: outputs.probabilities,
            "pooled": outputs.encoder.get_pooled_output,
            "embedding": lambda: heads.pool(
                outputs.encoder.get_all_encoder_layers()[head.layer], outputs.inputs[1],
                head.pooling),
            "masked_words": lambda: outputs.words}[head.name]()
        places = dict(zip(exported_graph.INPUTS, outputs.inputs), positions=outputs.positions)
        settings = tf.ConfigProto(intra_op_parallelism_threads=inference.threads_for(model.config))
        with tf.Session(config=settings) as session:
            session.run(tf.global_variables_initializer())
            return [session.run(output, {places[name]: value for name, value in batch.items()})
                    for batch in batches]


def sample(model, head, texts, max_seq_length, length=None):
    """Returns the Sample of texts; the arguments are those of `to_batches`."""
    batches = to_batches(model, head, texts, max_seq_length, length)
    return Sample(batches, expected_outputs(model, head, batches), len(texts))


# ---------------------------------------------------------------------------------------------
# The comparison
# ---------------------------------------------------------------------------------------------

def compare(run, a_sample, head, is_8_bit=False):
    """Returns the Agreement of a function of inputs with the model.

    Args:
        run: function of {input name: int32 array} to the output.
    """
    differences, equal = [], []
    for batch, expected in zip(a_sample.batches, a_sample.expected):
        found = np.asarray(run(batch), np.float32)
        if found.shape != expected.shape:
            raise UserError("an output has shape %s where %s is expected"
                            % (list(found.shape), list(expected.shape)))
        if head.name in ("classifier", "masked_words"):
            differences.append(np.abs(found - expected).max(axis=-1).ravel())
            equal.append((found.argmax(-1) == expected.argmax(-1)).ravel())
        elif is_8_bit:
            differences.append(1.0 - _cosines(found, expected))
        else:
            differences.append(np.abs(found - expected).max(axis=-1)
                               / max(1.0, np.abs(expected).max()))
    differences = np.concatenate(differences)
    return Agreement(_largest(differences), float(differences.mean()),
                     float(np.concatenate(equal).mean()) if equal else None, a_sample.texts)


def _largest(differences):
    # A NaN is larger than any number, and no bound holds it.
    return float("inf") if np.isnan(differences).any() else float(differences.max())


def _cosines(a, b):
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return (a * b).sum(axis=-1) / np.maximum(norms, np.finfo(np.float32).tiny)


def bound_for(head, bound, is_8_bit):
    """Returns the Bound that a head must keep of a format's one.

    The most probable of all words has a close second far more often than one of a few classes, so
    8 bits may change more of these decisions.
    """
    if head.name == "masked_words" and is_8_bit:
        return bound._replace(equal=min(bound.equal, EQUAL_WORDS))
    return bound


def is_kept(agreement, bound):
    """Whether an Agreement is within a Bound."""
    return agreement.difference <= bound.difference and (
        agreement.equal is None or agreement.equal >= bound.equal)


def describe(agreement, bound):
    """Returns a line such as "largest difference 1.2e-07 (bound 2e-05), 100.0% of ... equal"."""
    text = "largest difference %.2g (bound %g), mean %.2g" % (
        agreement.difference, bound.difference, agreement.mean)
    if agreement.equal is not None:
        text += ", equal decisions %.1f%%" % (100 * agreement.equal)
        if bound.equal:
            text += " (bound %g%%)" % (100 * bound.equal)
    return text + ", on %d texts" % agreement.texts


def require_kept(name, agreement, bound, remedy):
    """Says how an export compares; raises UserError if it is not within its bound."""
    say("  %s: %s" % (name, describe(agreement, bound)))
    if not is_kept(agreement, bound):
        raise UserError("%s does not compute what the model computes, so it was not written: %s; %s"
                        % (name, describe(agreement, bound), remedy))
