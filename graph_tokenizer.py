"""The WordPiece tokenizer as a TensorFlow graph: strings in, the model's inputs out.

Gives the ids that tokenization.py gives, on any text. TensorFlow's core operations know neither
Unicode's categories nor its decompositions, so what the tokenizer makes of each character is
written into tables when the graph is built, with the Unicode version of the Python that builds it.
Only core operations, so that TensorFlow Serving runs it as it is.

Dimension letters: B texts, N characters of all texts, M symbols made of them, W words, L the
longest entry's characters, K pieces of the word that has the most, P pieces of all words,
S sequence length.
"""

import collections
import functools
import unicodedata

import features
import numpy as np
import runtime  # noqa: F401 - before TensorFlow
import tokenization

import tensorflow.compat.v1 as tf

CODE_POINTS = 0x110000
PAGE = 256  # code points of a page of the table; most pages are alike and kept once

# Symbols that are no code point.
BREAK = -1   # ends a word
ITSELF = -2  # the character that is looked up

CAPITAL_SIGMA, FINAL_SIGMA = 0x3A3, 0x3C2

Tables = collections.namedtuple("Tables", [
    "page_of", "pages", "starts", "counts", "symbols", "cased", "ignored"])
Tables.__doc__ = """What the tokenizer makes of each code point.

page_of: [CODE_POINTS / PAGE], a code point's page; pages: [pages * PAGE], its rule.
starts, counts: [rules], the rule's part of symbols; symbols: code points, BREAK or ITSELF.
cased, ignored: [rules], whether a final sigma's neighbour counts as a letter, or is passed over."""

_Rows = collections.namedtuple("_Rows", ["values", "owners", "lengths"])
_Rows.__doc__ = """Rows of different lengths, one after the other.

values: [of all rows]; owners: [of all rows], each value's row; lengths: [rows]."""


# ---------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------

@functools.lru_cache(maxsize=2)
def tables(do_lower_case):
    """Returns the Tables of tokenization.BasicTokenizer(do_lower_case)."""
    tokenizer = tokenization.BasicTokenizer(do_lower_case)
    rules, rule_of = collections.OrderedDict(), np.zeros(CODE_POINTS, np.int32)
    for code_point in range(CODE_POINTS):
        rule_of[code_point] = rules.setdefault(_rule(tokenizer, chr(code_point)), len(rules))
    pages, page_of = np.unique(rule_of.reshape([-1, PAGE]), axis=0, return_inverse=True)
    counts = np.array([len(symbols) for symbols, _, _ in rules], np.int32)
    return Tables(
        page_of.reshape([-1]).astype(np.int32), pages.reshape([-1]),
        (np.cumsum(counts) - counts).astype(np.int32), counts,
        np.array([symbol for symbols, _, _ in rules for symbol in symbols], np.int32),
        np.array([cased for _, cased, _ in rules]), np.array([ignored for _, _, ignored in rules]))


_PLAIN = ((ITSELF,), False, False)


def _rule(tokenizer, char):
    """Returns (symbols, whether cased, whether ignored) of one character."""
    if unicodedata.category(char) in ("Cn", "Co", "Cs") and not tokenization.is_chinese_char(
            ord(char)):
        return _PLAIN  # nothing is known of most code points
    clean = tokenizer.clean(char)
    symbols = tuple(BREAK if made.isspace() else ITSELF if made == char else ord(made)
                    for made in tokenizer.set_apart(clean))
    if not tokenizer.do_lower_case:
        return symbols, False, False
    # A sigma is final after a letter, with nothing but ignored characters between, unless a letter
    # follows it in the same way (Unicode's Final_Sigma). Python tells which character is what.
    cased = (" %s\u03a3" % clean).lower().endswith("\u03c2")
    ignored = not cased and ("A%s\u03a3" % clean).lower().endswith("\u03c2")
    return symbols, cased, ignored


# ---------------------------------------------------------------------------------------------
# The graph
# ---------------------------------------------------------------------------------------------

class GraphTokenizer(object):
    """A WordPiece tokenizer in the current graph; its table is filled by tf.tables_initializer().

    Example:
        inputs = GraphTokenizer(tokenizer, max_seq_length=128)(text_a, text_b)
    """

    def __init__(self, tokenizer, max_seq_length, truncate="head"):
        """Makes the tables.

        Args:
            tokenizer: tokenization.FullTokenizer of WordPiece.
            max_seq_length, truncate: as for features.featurise.
        """
        if tokenizer.is_sentencepiece:
            raise ValueError("TensorFlow's core operations do not include SentencePiece")
        self._tokenizer, self._length, self._truncate = tokenizer, max_seq_length, truncate
        self._tables = tables(tokenizer.do_lower_case)
        wordpiece = tokenizer.wordpiece_tokenizer
        self._longest_word = wordpiece.max_input_chars_per_word
        self._longest_entry = max(map(len, tokenizer.vocab))
        self._ids = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(
            list(tokenizer.vocab), np.array(list(tokenizer.vocab.values()), np.int32),
            tf.string, tf.int32), default_value=-1)

    def __call__(self, text_a, text_b):
        """Returns what the model takes.

        Args:
            text_a: string [B], UTF-8.
            text_b: string [B], the second texts of pairs; [0]: these are no pairs.

        Returns:
            int32 [B, S] input_ids, input_mask, segment_ids; S is the longest one's length.
        """
        count, count_b = tf.size(text_a), tf.size(text_b)
        as_many = tf.debugging.Assert(
            tf.logical_or(tf.equal(count_b, 0), tf.equal(count_b, count)),
            ["there must be as many second texts as first ones, or none; there are", count_b,
             "and", count])
        with tf.control_dependencies([as_many]):
            is_pair = tf.cast(count_b > 0, tf.int32)
        texts = tf.concat([text_a, text_b, tf.fill([(1 - is_pair) * count], "")], axis=0)
        pieces = self._pieces(*self._words(*self._symbols(texts)), texts=tf.size(texts))
        kept_a, kept_b = _lengths_of_pairs(
            pieces.lengths[:count], pieces.lengths[count:], self._length - 2 - is_pair)
        kept = tf.concat([kept_a, kept_b], axis=0)
        rows, places, ids = self._cut(pieces, kept)
        # [CLS] a [SEP], and b [SEP] of pairs
        is_second = rows >= count
        rows = tf.where(is_second, rows - count, rows)
        places += tf.where(is_second, 2 + tf.gather(kept_a, rows), tf.ones_like(rows))
        lengths = 2 + kept_a + is_pair * (kept_b + 1)
        size = tf.reduce_max(tf.concat([lengths, [0]], axis=0))
        every, first = tf.range(count), tf.zeros_like(kept_a)
        rows = tf.concat([rows, every, every, every], axis=0)
        places = tf.concat([places, first, kept_a + 1, lengths - 1], axis=0)
        ids = tf.concat([ids, first + self._tokenizer.cls_id, first + self._tokenizer.sep_id,
                         is_pair * (first + self._tokenizer.sep_id)], axis=0)
        input_ids = tf.scatter_nd(tf.stack([rows, places], axis=1), ids, [count, size])
        input_mask = tf.sequence_mask(lengths, size, tf.int32)
        segment_ids = input_mask - tf.sequence_mask(2 + kept_a, size, tf.int32)
        return input_ids, input_mask, segment_ids

    def _symbols(self, texts):
        """Looks the characters of texts up; returns (symbols [M], their texts [M])."""
        known = self._tables
        decoded = tf.strings.unicode_decode(texts, "UTF-8", errors="ignore")
        chars = decoded.values  # [N]
        owners, _ = _spread(tf.cast(decoded.row_lengths(), tf.int32))
        page = tf.gather(known.page_of, chars // PAGE)
        rules = tf.gather(known.pages, page * PAGE + chars % PAGE)
        chars_of, places = _spread(tf.gather(known.counts, rules))
        symbols = tf.gather(known.symbols, tf.gather(tf.gather(known.starts, rules), chars_of)
                            + places)
        symbols = tf.where(tf.equal(symbols, ITSELF), tf.gather(chars, chars_of), symbols)
        if self._tokenizer.do_lower_case:
            is_final = tf.gather(_final_sigmas(known, chars, rules, owners), chars_of)
            symbols = tf.where(is_final, tf.fill(tf.shape(symbols), FINAL_SIGMA), symbols)
        return symbols, tf.gather(owners, chars_of)

    @staticmethod
    def _words(symbols, owners):
        """Joins symbols; returns (words [W], their characters [W], their texts [W])."""
        inside = tf.not_equal(symbols, BREAK)
        begins = tf.logical_and(inside, tf.logical_not(tf.logical_and(
            _shifted(inside, False), tf.equal(_shifted(owners, -1), owners))))
        word_of = tf.boolean_mask(tf.cumsum(tf.cast(begins, tf.int32)) - 1, inside)
        count = tf.reduce_sum(tf.cast(begins, tf.int32))
        lengths = tf.math.unsorted_segment_sum(tf.ones_like(word_of), word_of, count)
        splits = tf.concat([[0], tf.cumsum(lengths)], axis=0)
        words = tf.strings.unicode_encode(tf.RaggedTensor.from_row_splits(
            tf.boolean_mask(symbols, inside), tf.cast(splits, tf.int64)), "UTF-8")
        return words, lengths, tf.boolean_mask(owners, begins)

    def _pieces(self, words, lengths, owners, texts):
        """Splits words into the longest entries, from left to right; returns _Rows, a text each."""
        too_long = lengths > self._longest_word

        def is_left(unused_pieces, places, unused_failed):
            return tf.reduce_any(places < lengths)

        def take_next(pieces, places, failed):
            left = places < lengths
            ids, sizes = self._longest_match(words, tf.where(left, places, tf.zeros_like(places)),
                                             lengths)
            found = tf.logical_and(left, sizes > 0)
            ids = tf.where(found, ids, tf.fill(tf.shape(ids), -1))
            failed = tf.logical_or(failed, tf.logical_and(left, tf.logical_not(found)))
            places = tf.where(found, places + sizes, lengths)
            return tf.concat([pieces, ids[:, tf.newaxis]], axis=1), places, failed

        none = tf.fill([tf.size(words), 0], -1)
        begin = tf.where(too_long, lengths, tf.zeros_like(lengths))
        pieces, _, failed = tf.while_loop(
            is_left, take_next, [none, begin, too_long],
            [tf.TensorShape([None, None]), begin.shape, too_long.shape], parallel_iterations=1)
        # [W, 1 + K]: a word that is not made of entries is one unknown
        nothing = tf.fill(tf.shape(pieces), -1)
        pieces = tf.where(tf.tile(failed[:, tf.newaxis], [1, tf.shape(pieces)[1]]), nothing, pieces)
        unknown = tf.where(failed, tf.fill(tf.shape(failed), self._tokenizer.unk_id),
                           tf.fill(tf.shape(failed), -1))
        pieces = tf.concat([unknown[:, tf.newaxis], pieces], axis=1)
        is_piece = pieces >= 0
        owners = tf.gather(owners, tf.cast(tf.where(is_piece)[:, 0], tf.int32))
        counts = tf.math.unsorted_segment_sum(tf.ones_like(owners), owners, texts)
        return _Rows(tf.boolean_mask(pieces, is_piece), owners, counts)

    def _longest_match(self, words, places, lengths):
        """Returns (ids [W], characters [W], 0 where nothing matches) of what words go on with."""
        most = tf.reduce_max(tf.concat([lengths - places, [0]], axis=0))
        sizes = tf.range(1, tf.minimum(most, self._longest_entry) + 1)
        shape = [tf.size(words), tf.size(sizes)]

        def spread_out(values):
            return tf.tile(values[:, tf.newaxis], [1, shape[1]])

        sizes = tf.tile(sizes[tf.newaxis, :], [shape[0], 1])
        parts = tf.strings.substr(spread_out(words), spread_out(places), sizes, unit="UTF8_CHAR")
        prefixes = tf.where(spread_out(places) > 0, tf.fill(shape, tokenization.WORD_PREFIX),
                            tf.fill(shape, ""))
        ids = self._ids.lookup(tf.strings.join([prefixes, parts]))
        fits = tf.logical_and(ids >= 0, spread_out(places) + sizes <= spread_out(lengths))
        longest = tf.reduce_max(tf.concat(
            [tf.zeros([shape[0], 1], tf.int32), tf.where(fits, sizes, tf.zeros_like(sizes))],
            axis=1), axis=1)
        is_it = tf.logical_and(fits, tf.equal(sizes, spread_out(longest)))
        return tf.reduce_sum(tf.where(is_it, ids, tf.zeros_like(ids)), axis=1), longest

    def _cut(self, pieces, kept):
        """Keeps as many pieces of each text; returns (texts, places in them, ids), all [P]."""
        heads = {"head": kept, "tail": tf.zeros_like(kept),
                 "head_tail": -(-kept // features.HEAD_SHARE)}[self._truncate]
        rows, places = _spread(kept)
        skipped = tf.where(places < tf.gather(heads, rows), tf.zeros_like(rows),
                           tf.gather(pieces.lengths - kept, rows))
        starts = tf.cumsum(pieces.lengths, exclusive=True)
        return rows, places, tf.gather(pieces.values, tf.gather(starts, rows) + skipped + places)


def _final_sigmas(known, chars, rules, owners):
    """Returns which characters are a capital sigma that becomes a final one: bool [N]."""
    matters = tf.logical_not(tf.gather(known.ignored, rules))
    # Among those that matter, the neighbours decide.
    owner, cased = [tf.boolean_mask(values, matters)
                    for values in (owners, tf.gather(known.cased, rules))]

    def cased_beside(cased, owner):
        return tf.logical_and(_shifted(cased, False), tf.equal(_shifted(owner, -1), owner))

    after = cased_beside(cased, owner)
    before = cased_beside(cased[::-1], owner[::-1])[::-1]
    is_sigma = tf.equal(tf.boolean_mask(chars, matters), CAPITAL_SIGMA)
    is_final = tf.logical_and(is_sigma, tf.logical_and(after, tf.logical_not(before)))
    return tf.scatter_nd(tf.where(matters), tf.cast(is_final, tf.int32),
                         tf.cast(tf.shape(chars), tf.int64)) > 0


def _lengths_of_pairs(lengths_a, lengths_b, most):
    """Returns the tokens that features.truncate_pair keeps of each text: (of a [B], of b [B])."""
    kept = tf.minimum(lengths_a, tf.maximum(most - lengths_b, (most + 1) // 2))
    fits = lengths_a + lengths_b <= most
    return (tf.where(fits, lengths_a, kept), tf.where(fits, lengths_b, most - kept))


def _spread(counts):
    """Numbers the elements of rows: _spread([2, 0, 1]) == ([0, 0, 2], [0, 1, 0]).

    Args:
        counts: int32 [rows].

    Returns:
        int32 (row of each element, its place in the row).
    """
    ends = tf.cumsum(counts)
    numbers = tf.range(tf.reduce_sum(counts))
    rows = tf.searchsorted(ends, numbers, side="right")
    return rows, numbers - tf.gather(ends - counts, rows)


def _shifted(values, first):
    """Returns each element's predecessor: _shifted([1, 2, 3], 0) == [0, 1, 2]."""
    return tf.concat([[first], values], axis=0)[:-1]
