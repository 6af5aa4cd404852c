"""Strings to ids in TensorFlow's graph: the very ids of tokenization.py, on any text."""

import os
import random

import numpy as np
import pytest
from conftest import ROOT
from tokenizer_vectors import TEXTS

import batching
import features
import graph_tokenizer
import tasks
import tokenization

import tensorflow.compat.v1 as tf

VOCABULARY = os.path.join(ROOT, "albert_config", "vocab.txt")
LENGTH = 24
# Sigmas, what stands around them without counting, letters that become several, marks, breaks.
HOSTILE = "ΣΣσςaA'ſ\u0345\u02b0.\u0300\u00ad\u200b 中文\u2028\x85\u3000İßǅ#[]MASK\x00\ufffd한が"


class Graph(object):
    """A tokenizer and the same in a graph, to be compared."""

    def __init__(self, do_lower_case=True, truncate="head"):
        self._tokenizer = tokenization.FullTokenizer(VOCABULARY, do_lower_case)
        self._truncate = truncate
        with tf.Graph().as_default() as graph:
            self._texts = [tf.placeholder(tf.string, [None]) for _ in range(2)]
            self._inputs = graph_tokenizer.GraphTokenizer(
                self._tokenizer, LENGTH, truncate)(*self._texts)
            self._session = tf.Session(graph=graph)
            self._session.run(tf.tables_initializer())

    def __call__(self, text_a, text_b=()):
        return self._session.run(self._inputs, dict(zip(self._texts, (
            [text.encode("utf-8") for text in text_a], [text.encode("utf-8") for text in text_b]))))

    def require_same(self, text_a, text_b=()):
        seconds = text_b or [None] * len(text_a)
        rows = [features.featurise(tasks.Example(None, *pair, label=None), None, self._tokenizer,
                                   LENGTH, self._truncate) for pair in zip(text_a, seconds)]
        expected = batching.padded([row["input_ids"] for row in rows],
                                   [row["segment_ids"] for row in rows])
        found = self(text_a, text_b)
        for name, one, other in zip(expected._fields, found, expected):
            different = [pair for pair, is_same in zip(
                zip(text_a, seconds), (one == other).all(axis=1)) if not is_same] \
                if one.shape == other.shape else (one.shape, other.shape)
            assert not different, (name, different)


@pytest.fixture(scope="module", params=[True, False], ids=["lower", "cased"])
def graph(request):
    return Graph(request.param)


def random_texts(count, seed):
    generator = random.Random(seed)
    reach = (0x80, 0x250, 0x3100, 0x10000, 0x110000)

    def any_character():
        point = generator.randrange(generator.choice(reach))
        return chr(point) if not 0xd800 <= point < 0xe000 else "x"

    entries = [entry.replace("##", "") for entry in tokenization.load_vocab(VOCABULARY)]
    makers = (any_character, lambda: generator.choice(HOSTILE), lambda: generator.choice(entries))
    return ["".join(maker() for _ in range(generator.randrange(40)))
            for maker in [generator.choice(makers) for _ in range(count)]]


def test_texts_on_which_tokenizers_go_wrong(graph):
    graph.require_same([text for text, _ in TEXTS])
    graph.require_same([text for text, _ in TEXTS], [other or "" for _, other in TEXTS])


def test_random_texts_and_pairs(graph):
    texts = random_texts(800, seed=5)
    graph.require_same(texts)
    graph.require_same(texts[:400], texts[400:])


def test_every_character_of_many_blocks_behind_a_sigma(graph):
    points = list(range(0x3100)) + list(range(0xf900, 0x10000)) + random.Random(6).sample(
        range(0x10000, 0x110000), 3000)
    graph.require_same(["aΣ%sx" % chr(point) for point in points])


@pytest.mark.parametrize("truncate", features.TRUNCATIONS)
def test_pairs_of_all_lengths_are_cut_alike(truncate):
    lengths = (0, 1, 9, 10, 11, 12, 20, 21, 22, 23, 60)
    pairs = [("天地人水火" * one, "abc " * other) for one in lengths for other in lengths]
    graph = Graph(truncate=truncate)
    graph.require_same([one for one, _ in pairs], [other for _, other in pairs])
    graph.require_same([one for one, _ in pairs])


def test_no_text_at_all(graph):
    assert [array.shape for array in graph([])] == [(0, 0)] * 3


def test_second_texts_for_some_only_are_refused(graph):
    with pytest.raises(tf.errors.InvalidArgumentError, match="as many second texts"):
        graph(["天", "地"], ["人"])


def test_bytes_that_are_no_utf_8_are_skipped():
    graph = Graph()
    found = graph._session.run(graph._inputs[0], dict(zip(
        graph._texts, ([b"\xff\xe5\xa4\xa9\xe5\xa4 \x80a\xf4\x90\x80\x80"], []))))
    expected = features.featurise(tasks.Example(None, b"\xe5\xa4\xa9 a", None, None), None,
                                  graph._tokenizer, LENGTH)
    np.testing.assert_array_equal(found, [expected["input_ids"]])


def test_sentencepiece_is_refused():
    class OfSentencePiece(object):
        is_sentencepiece = True

    with pytest.raises(ValueError, match="SentencePiece"):
        graph_tokenizer.GraphTokenizer(OfSentencePiece(), LENGTH)
