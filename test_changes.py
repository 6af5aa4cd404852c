"""The three changes that make BERT an ALBERT (arXiv 1909.11942, section 3.1), on the real code.

    python test_changes.py           shows them, and draws sample_output/parameters.png
    python -m pytest test_changes.py asserts them

1. Factorised embedding: V·E + E·H parameters in place of V·H.
2. Cross-layer sharing: one set of parameters for all layers.
3. Sentence-order prediction: two touching segments of a text, swapped in half of the cases.

All counts are taken from graphs built for the purpose; no weight is ever allocated. Runs within a
minute on a CPU, needs no network and writes nothing but the picture.
"""

import collections
import functools
import glob
import os
import re

import numpy as np

import console
import corpus
import files
import instances
import modeling
import plots
import runtime  # before TensorFlow
import tokenization
import words
from absl import flags

import tensorflow.compat.v1 as tf

ROOT = os.path.dirname(os.path.abspath(__file__))
CORPUS = os.path.join(ROOT, "data", "news_zh_1.txt")
VOCABULARY = os.path.join(ROOT, "albert_config", "vocab.txt")
PICTURE = os.path.join(ROOT, "sample_output", "parameters.png")

MAX_SEQ_LENGTH, SEED = 128, 12345

VOCAB_SIZE, HIDDEN_SIZE, EMBEDDING_SIZE = 30000, 4096, 128     # ALBERT xxlarge, as in the paper
LAYERS, LAYER_WIDTH, LAYER_HEADS, LAYER_INNER = 12, 1024, 16, 3072


def count(shapes):
    """Returns the number of parameters of {name: shape}."""
    return sum(int(np.prod(shape)) for shape in shapes.values())


# ---------------------------------------------------------------------------------------------
# 1. Factorised embedding
# ---------------------------------------------------------------------------------------------

def embedding_shapes(is_factorised):
    """Returns {name: shape} of the word embeddings, with or without the factorisation."""
    def build():
        ids = tf.zeros([1, 1], tf.int32)
        if is_factorised:
            vectors, _, _ = modeling.embedding_lookup_factorized(
                ids, VOCAB_SIZE, HIDDEN_SIZE, EMBEDDING_SIZE)
        else:
            vectors, _ = modeling.embedding_lookup(ids, VOCAB_SIZE, HIDDEN_SIZE, "word_embeddings")
        # Either way the layers above get vectors of the same width.
        assert vectors.shape.as_list() == [1, 1, HIDDEN_SIZE]

    return modeling.variable_shapes(build)


def test_the_embedding_is_factorised():
    assert embedding_shapes(False) == {"word_embeddings": (30000, 4096)}
    assert embedding_shapes(True) == {"word_embeddings": (30000, 128),
                                      "word_embeddings_2": (128, 4096)}
    assert count(embedding_shapes(False)) == 122880000
    assert count(embedding_shapes(True)) == 4364288


def show_factorised_embedding():
    print("1. Factorised embedding: V = %s words, H = %s, E = %d\n" % (
        format(VOCAB_SIZE, ","), format(HIDDEN_SIZE, ","), EMBEDDING_SIZE))
    _print_counts("word embeddings", [("V·H, as in BERT", embedding_shapes(False)),
                                      ("V·E + E·H, as in ALBERT", embedding_shapes(True))])


def _print_counts(what, rows):
    """Prints a table of (name, shapes); the first row is what the others are compared with."""
    whole = count(rows[0][1])
    print(console.table([what, "variables", "parameters", ""], [
        [name, len(shapes), format(count(shapes), ","),
         "1 / %.1f" % (whole / count(shapes)) if count(shapes) != whole else ""]
        for name, shapes in rows]))


# ---------------------------------------------------------------------------------------------
# 2. Parameters shared across layers
# ---------------------------------------------------------------------------------------------

def stack_shapes(is_shared, layers=LAYERS, width=LAYER_WIDTH, heads=LAYER_HEADS,
                 inner=LAYER_INNER):
    """Returns {name: shape} of a stack of transformer layers, without embeddings and heads."""
    def build():
        outputs = modeling.transformer_model(
            tf.zeros([1, 1, width]), hidden_size=width, num_hidden_layers=layers,
            num_attention_heads=heads, intermediate_size=inner, do_return_all_layers=True,
            share_parameter_across_layers=is_shared)
        assert len(outputs) == layers  # sharing saves parameters, not layers

    return modeling.variable_shapes(build)


def test_layers_share_their_parameters():
    own, shared = stack_shapes(False), stack_shapes(True)
    assert count(own) == 125976576
    assert count(shared) == 10498048
    assert len(own) == LAYERS * len(shared)
    assert {name.split("/")[0] for name in shared} == {"layer_shared"}
    assert {name.split("/")[0] for name in own} == {"layer_%d" % i for i in range(LAYERS)}


def test_shared_layers_cost_the_same_at_every_depth():
    assert stack_shapes(True, layers=1) == stack_shapes(True, layers=24)


def show_sharing():
    print("\n2. Parameters shared across layers: %d layers, H = %s, I = %s\n" % (
        LAYERS, format(LAYER_WIDTH, ","), format(LAYER_INNER, ",")))
    _print_counts("stack of layers", [("each layer has its own", stack_shapes(False)),
                                      ("all layers share one set", stack_shapes(True))])


# ---------------------------------------------------------------------------------------------
# 3. Sentence-order prediction
# ---------------------------------------------------------------------------------------------

Pair = collections.namedtuple(
    "Pair", ["document", "first", "second", "first_at", "second_at", "label"])
Pair.__doc__ = """One training example of the sample corpus.

document: number from 0; first, second: its segments in the words of the source text; first_at,
second_at: where each begins there, in characters; label: 1 if the example says "swapped".
"""


def sentence_order_pairs():
    """Yields the Pairs that create_pretraining_data.py makes of the sample corpus."""
    tokenizer = tokenization.FullTokenizer(VOCABULARY)
    reader = words.load_reader(tokenizer, None)
    entries = instances.describe_vocabulary(tokenizer)
    documents = corpus.read_documents(corpus.plan_pieces([CORPUS]))
    for number, (document, source) in enumerate(zip(documents, source_texts(CORPUS))):
        sentences = reader.read(document.lines)
        cuts = list(instances.Chunks(sentences, entries).of_document(
            0, len(sentences.ids), MAX_SEQ_LENGTH, 0.1, instances.seeded(SEED, document.offset)))
        made = instances.assemble(sentences, cuts, entries)
        for index, is_swapped in enumerate(made.is_swapped):
            first, second = segment_texts(made, index, tokenizer)
            (first_at, first_end), (second_at, second_end) = find_both(source, first, second)
            yield Pair(number, source[first_at:first_end], source[second_at:second_end],
                       first_at, second_at, int(is_swapped))


def segment_texts(made, index, tokenizer):
    """Returns both segments of one of some Instances as text."""
    start, end = made.offsets[index:index + 2]
    tokens = [tokenization.strip_word_prefix(token)
              for token in tokenizer.convert_ids_to_tokens(made.ids[start:end].tolist())]
    first_length = made.first_lengths[index]
    # [CLS] first [SEP] second [SEP]
    return "".join(tokens[1:first_length - 1]), "".join(tokens[first_length:-1])


def source_texts(path):
    """Returns the documents of a corpus as the tokenizer sees them: no blanks, lower case."""
    documents = [[]]
    for _, line in files.read_lines(path):
        if line.strip():
            documents[-1].append("".join(line.split()).lower())
        elif documents[-1]:
            documents.append([])
    return ["".join(lines) for lines in documents if lines]


def find_both(source, first, second):
    """Finds two touching segments in their source text, in whichever order they stand there.

    Returns:
        ((start, end) of the first, (start, end) of the second), in characters.

    >>> find_both("甲乙丙丁", "丙丁", "乙")
    ((2, 4), (1, 2))
    """
    as_they_are, swapped = _find_in_a_row(source, first, second), _find_in_a_row(
        source, second, first)
    if bool(as_they_are) == bool(swapped):
        raise ValueError("the text does not tell the order of %r and %r" % (first, second))
    return (as_they_are.span(1), as_they_are.span(2)) if as_they_are else (
        swapped.span(2), swapped.span(1))


def _find_in_a_row(source, earlier, later):
    # [UNK] stands for a character that the vocabulary lacks.
    patterns = [".+?".join(map(re.escape, text.split("[UNK]"))) for text in (earlier, later)]
    return re.search("(%s)(%s)" % tuple(patterns), source)


def is_proved(pair):
    """Tells whether the label says in which order the segments stand in the source text."""
    return pair.label == (1 if pair.second_at < pair.first_at else 0)


def test_the_label_is_the_order_in_the_source_text():
    pairs = list(sentence_order_pairs())
    assert [pair for pair in pairs if not is_proved(pair)] == []
    swapped = sum(pair.label for pair in pairs)
    assert 0.35 * len(pairs) < swapped < 0.65 * len(pairs)


def show_sentence_order(shown=3):
    pairs = list(sentence_order_pairs())
    by_label = [[pair for pair in pairs if pair.label == label] for label in (0, 1)]
    print("\n3. Sentence-order prediction: %d pairs made from %s, %d of them swapped\n" % (
        len(pairs), os.path.relpath(CORPUS, ROOT), len(by_label[1])))
    rows = []
    for in_order, swapped in list(zip(*by_label))[:shown]:
        both = (in_order, swapped)
        if rows:
            rows.append(["", "", ""])
        rows.append(["[CLS]"] + [_shorten(pair.first) for pair in both])
        rows.append(["[SEP]"] + [_shorten(pair.second) for pair in both])
        rows.append(["place in the text"] + [_order(pair) for pair in both])
    print(console.table(["", "label 0: in order", "label 1: swapped"], rows))
    print("\nThe label is the order in the source text for %d of %d pairs." % (
        sum(map(is_proved, pairs)), len(pairs)))


def _shorten(text, characters=16):
    return text if len(text) <= characters else text[:characters - 1] + "…"


def _order(pair):
    order = "before" if pair.first_at < pair.second_at else "after"
    return "document %d: %d %s %d" % (pair.document + 1, pair.first_at, order, pair.second_at)


# ---------------------------------------------------------------------------------------------
# The configurations of albert_config/
# ---------------------------------------------------------------------------------------------

@functools.lru_cache(maxsize=None)
def parameter_rows():
    """Returns [(name, parameters with shared layers, with unshared layers)], the smallest first.

    Of the albert_zh layout, with the heads of pre-training.
    """
    rows = []
    for path in glob.glob(os.path.join(ROOT, "albert_config", "albert_config_*.json")):
        if not path.endswith("_google.json"):
            name = os.path.basename(path)[len("albert_config_"):-len(".json")]
            rows.append((name,) + count_both_ways(modeling.BertConfig.from_json_file(path)))
    return sorted(rows, key=lambda row: row[1])


def count_both_ways(config):
    """Returns the number of parameters of a configuration with shared and with unshared layers.

    Of one layer as it is built, which with sharing is all of them (the tests above), and without is
    one of many that are alike: whole stacks of the large configurations take long to build.
    """
    one_layer = modeling.BertConfig.from_dict(dict(config.to_dict(), num_hidden_layers=1))
    shapes = modeling.pretraining_variable_shapes(one_layer, modeling.BertModel)
    of_layer = {name: shape for name, shape in shapes.items() if "/encoder/" in name}
    return count(shapes), count(shapes) + (config.num_hidden_layers - 1) * count(of_layer)


def test_every_configuration_is_smaller_with_shared_layers():
    rows = parameter_rows()
    assert [row[0] for row in rows] == ["tiny", "base", "large", "xlarge", "xxlarge"]
    assert all(shared < own for _, shared, own in rows)


def test_whole_stacks_have_as_many_parameters_as_counted():
    config = modeling.BertConfig.from_json_file(
        os.path.join(ROOT, "albert_config", "albert_config_tiny.json"))
    shapes = modeling.pretraining_variable_shapes(config, modeling.BertModel)
    rest = {name: shape for name, shape in shapes.items() if "/encoder/" not in name}
    own = stack_shapes(False, config.num_hidden_layers, config.hidden_size,
                       config.num_attention_heads, config.intermediate_size)
    assert parameter_rows()[0] == ("tiny", count(shapes), count(rest) + count(own))


def test_the_picture_is_drawn(tmp_path):
    import pytest  # not at the top: the script is to run without it

    pytest.importorskip("matplotlib")
    path = tmp_path / "parameters.png"
    assert plots.parameters(parameter_rows(), str(path))
    assert path.read_bytes().startswith(b"\x89PNG")


def show_configurations(picture):
    rows = parameter_rows()
    print("\nParameters of the configurations in albert_config, heads of pre-training included\n")
    print(console.table(["configuration", "shared layers", "unshared layers", ""], [
        [name, format(shared, ","), format(own, ","), "1 / %.1f" % (own / shared)]
        for name, shared, own in rows]))
    if plots.parameters(rows, picture):
        console.say("Picture: %s" % os.path.relpath(picture))


def main(_):
    picture = flags.FLAGS.output_file
    files.make_dir(os.path.dirname(os.path.abspath(picture)), "output_file")
    show_factorised_embedding()
    show_sharing()
    show_sentence_order()
    show_configurations(picture)


if __name__ == "__main__":
    flags.DEFINE_string("output_file", PICTURE, "PNG file to draw the parameters in.")
    runtime.run(main)
