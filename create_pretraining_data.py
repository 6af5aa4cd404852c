"""Turns text into the records that ALBERT is pre-trained on: masked words and sentence order.

Input: UTF-8 text, one sentence a line; a blank line or the end of a file ends a document.
Output: TFRecords with the keys of `records.PRETRAINING`, shuffled, and a summary beside them.

How a document becomes instances (once for each of `dupe_factor` duplicates):

1. `read_documents`: lines of one document. Every sentence is tokenised and segmented once.
2. `chunk_sentences`: consecutive sentences are packed into chunks that fit a record. What does
   not fit opens the next chunk, so no text is thrown away and nothing needs to be truncated.
3. `cut_in_two`, `order_pair`: a chunk becomes two touching segments, swapped in half of the cases
   (sentence-order prediction, https://arxiv.org/abs/1909.11942, section 3.1).
4. `mask_tokens`: whole words, or n-grams of them (equation 1 of section 4.1 there), are replaced.

All of these are pure functions of their arguments and a random generator that is seeded from
(random_seed, document, duplicate): the records do not depend on how the work is divided. They use
`random()` of `random.Random` alone, whose sequence is the same on every version of Python.

Dimension letters: S max_seq_length, P max_predictions_per_seq.
"""

import collections
import concurrent.futures
import concurrent.futures.process
import contextlib
import functools
import hashlib
import itertools
import multiprocessing
import os
import random
import re
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time
import unicodedata
import warnings

from absl import flags

import console
import files
import records
import runtime
import tokenization
from errors import UserError

# Bounds of memory. A document longer than PART_CHARACTERS is worked on in parts of that size, a
# line longer than LINE_CHARACTERS counts as several sentences; the text stays complete.
LINE_CHARACTERS = 5000
PART_CHARACTERS = 50000
UNIT_CHARACTERS = 20000    # documents are handed to the workers in units of about this size
BUCKET_BYTES = 64 << 20    # the shuffle holds one bucket of about this size in memory
BUFFER_BYTES = 16 << 20    # ... or this much before it is appended to the buckets
MOST_BUCKETS = 4096

SPECIALS_PER_INSTANCE = 3  # [CLS] first [SEP] second [SEP]
SHORTEST_CHUNK = 2         # tokens: two segments of at least one

CLAUSE_MARKS = frozenset("，；：、。！？…,;:!?")
CLOSING_MARKS = frozenset("”’」』）》〉】〕)]}")

ENDING = ".tfrecord"

Settings = collections.namedtuple("Settings", [
    "input_file", "output_file", "vocab_file", "do_lower_case", "do_whole_word_mask",
    "max_seq_length", "max_predictions_per_seq", "random_seed", "dupe_factor", "masked_lm_prob",
    "short_seq_prob", "non_chinese", "spm_model_file", "num_workers", "num_shards",
    "prefixed_word_labels", "max_ngram", "overwrite", "pad_records"])
Settings.__doc__ = """The flags of this script, one field each; `define_flags` describes them."""
Settings.__new__.__defaults__ = (
    True, False, 128, 20, 12345, 10, 0.15, 0.1, False, None, None, 1, False, 1, False, False)

Document = collections.namedtuple("Document", ["number", "part", "lines"])
Document.__doc__ = """A document, or a part of a very long one.

number: counted over all input files from 0; part: from 0; lines: list of str, one sentence each.
"""

Sentence = collections.namedtuple("Sentence", ["ids", "word_starts"])
Sentence.__doc__ = """A sentence, a piece of one, or several in a row, as parallel lists.

ids: token ids; word_starts: whether a token opens a word (the first one always does).
"""

Entries = collections.namedtuple("Entries", [
    "cls_id", "sep_id", "mask_id", "unk_id", "ordinary_ids", "twins", "clause_marks",
    "closing_marks"])
Entries.__doc__ = """What making instances needs to know of the vocabulary.

ordinary_ids: list of candidates for random replacement; twins: dict from the id of a Chinese
character to that of its "##" entry; clause_marks, closing_marks: sets of ids of punctuation.
"""

Instance = collections.namedtuple(
    "Instance", ["ids", "first_length", "positions", "labels", "is_swapped"])
Instance.__doc__ = """One training example.

ids: [CLS] first [SEP] second [SEP], masked; first_length: how many of them have segment id 0;
positions, labels: masked places, ascending, and the ids to predict there; is_swapped: bool.
"""


# ---------------------------------------------------------------------------------------------
# Text to documents
# ---------------------------------------------------------------------------------------------

def read_documents(paths):
    """Yields the documents of all files in order; long ones in parts (see PART_CHARACTERS)."""
    number = -1
    for path in paths:
        for part, lines in _parts_of_documents(path):
            if part == 0:
                number += 1
            yield Document(number, part, lines)


def _parts_of_documents(path):
    """Yields (part number, lines); part number 0 opens a document."""
    part, lines, size = 0, [], 0
    for _, line in files.read_lines(path):
        line = line.strip()
        if not line:
            if lines:
                yield part, lines
            part, lines, size = 0, [], 0
        for piece in cut_line(line):
            if lines and size + len(piece) > PART_CHARACTERS:
                yield part, lines
                part, lines, size = part + 1, [], 0
            lines.append(piece)
            size += len(piece)
    if lines:
        yield part, lines


def cut_line(line, limit=LINE_CHARACTERS):
    """Yields a line in pieces of at most `limit` characters, cut after a mark or a blank.

    >>> list(cut_line("一二三，四五六七", limit=6))
    ['一二三，', '四五六七']
    """
    start = 0
    while len(line) - start > limit:
        end = start + limit
        mark = max(line.rfind(mark, start, end) for mark in CLAUSE_MARKS.union(" "))
        if mark >= start + limit // 2:
            end = mark + 1
        yield line[start:end]
        start = end
    if start < len(line):
        yield line[start:]


def units_of_work(documents):
    """Yields lists of consecutive documents, each of about UNIT_CHARACTERS characters."""
    unit, size = [], 0
    for document in documents:
        unit.append(document)
        size += count_characters(document)
        if size >= UNIT_CHARACTERS:
            yield unit
            unit, size = [], 0
    if unit:
        yield unit


def count_characters(document):
    return sum(map(len, document.lines))


# ---------------------------------------------------------------------------------------------
# Sentence to tokens and words
# ---------------------------------------------------------------------------------------------

def load_reader(tokenizer, settings):
    """Returns the object whose `read(text)` gives the Sentence of a text."""
    if tokenizer.is_sentencepiece:
        return SentencePieceReader(tokenizer)
    needs_words = settings.do_whole_word_mask or settings.prefixed_word_labels
    segment = load_segmenter() if needs_words and not settings.non_chinese else None
    return WordPieceReader(tokenizer, segment)


@functools.lru_cache(maxsize=None)
def load_segmenter():
    """Returns jieba's segmentation, a function from text to the list of its words.

    The dictionary is read afresh: jieba's own cache in the folder for temporary files is shared
    with other versions and users, and records must not depend on what lies there.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # jieba imports pkg_resources, which is deprecated
            import jieba
    except ImportError as error:
        raise UserError("whole words of Chinese need the package jieba: pip install jieba==0.42.1 "
                        "(or --non_chinese=True for other languages)") from error
    segmenter = jieba.Tokenizer()
    segmenter.FREQ, segmenter.total = segmenter.gen_pfdict(segmenter.get_dict_file())
    segmenter.initialized = True
    return segmenter.lcut


class SentencePieceReader(object):
    """Reads sentences as SentencePiece ids; a word lasts until the next piece that opens with ▁."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def read(self, text):
        """Returns the Sentence of a text."""
        tokens = self._tokenizer.tokenize(text)
        starts = [token.startswith(tokenization.SPM_WORD_START) for token in tokens]
        starts[:1] = [True] * len(starts[:1])
        return Sentence(self._tokenizer.convert_tokens_to_ids(tokens), starts)


class WordPieceReader(object):
    """Reads sentences as WordPiece ids, each aligned to the word of the segmenter it lies in.

    The tokenizer changes text (lower case, accents, control characters, [UNK] for whole words), so
    tokens are not found again by searching for them. Instead the text is cut where the tokenizer
    is bound to cut: at white space and around Chinese characters. The blocks between keep their
    place in the text, and the tokens of all blocks in a row are those of the whole text.
    """

    MOST_BLOCKS = 1 << 17  # blocks are remembered; the memory is emptied when it is full

    def __init__(self, tokenizer, segment=None):
        """Takes a WordPiece FullTokenizer and a function from text to words, or None."""
        self._tokenizer = tokenizer
        self._segment = segment
        self._blocks = {}

    def read(self, text):
        """Returns the Sentence of a text."""
        text = text.translate(_WITHOUT_CONTROL)
        ids, places = [], []
        for start, end in _blocks(text):
            for number, continues, first, last in self._tokens_of_block(text[start:end]):
                ids.append(number)
                places.append((start + first, start + last, continues))
        words = self._segment(text) if self._segment else None
        return Sentence(ids, mark_word_starts(places, words))

    def _tokens_of_block(self, block):
        known = self._blocks.get(block)
        if known is None:
            known = self._read_block(block)
            if len(block) <= 64:
                if len(self._blocks) >= self.MOST_BLOCKS:
                    self._blocks.clear()
                self._blocks[block] = known
        return known

    def _read_block(self, block):
        """Returns a list of (id, continues a word, first character, last character)."""
        tokens = self._tokenizer.tokenize(block)
        places = []
        for match in _BETWEEN_PUNCTUATION.finditer(block):
            place = (match.start(), match.end() - 1)
            places.extend((token, place) for token in self._tokenizer.tokenize(match.group()))
        if [token for token, _ in places] != tokens:
            # A letter whose lower case depends on its neighbours beyond a punctuation mark
            # (the Greek final sigma): all tokens then share the place of the block.
            places = [(token, (0, len(block) - 1)) for token in tokens]
        ids = self._tokenizer.convert_tokens_to_ids(tokens)
        return [(number, tokenization.strip_word_prefix(token) != token, first, last)
                for number, (token, (first, last)) in zip(ids, places)]


def mark_word_starts(places, words):
    """Tells for each token whether it opens a word.

    Args:
        places: list of (first character, last character, continues) of the tokens, in order;
            continues: the token is a "##" piece.
        words: list of the words that make up the text, blanks included; None: every token that is
            not a "##" piece is a word.

    Returns:
        list of bool. A "##" piece never opens a word, wherever the segmenter cut.

    Example: "使用mask模型", tokens 使, 用, ma, ##sk, 模, 型, words 使用, mask, 模型:

    >>> places = [(0, 0, False), (1, 1, False), (2, 5, False), (2, 5, True), (6, 6, False),
    ...           (7, 7, False)]
    >>> mark_word_starts(places, ["使用", "mask", "模型"])
    [True, False, True, False, True, False]
    """
    if words is None:
        starts = [not continues for _, _, continues in places]
    else:
        word_at = [number for number, word in enumerate(words) for _ in word]
        starts, previous = [], None
        for first, last, continues in places:
            starts.append(not continues and word_at[first] != previous)
            previous = word_at[last]
    starts[:1] = [True] * len(starts[:1])
    return starts


_BLANK, _ALONE, _INSIDE = range(3)  # what a character is to the tokenizer's cuts


class _Kinds(dict):
    def __missing__(self, char):
        if char in "\t\n\r" or unicodedata.category(char) == "Zs":
            kind = _BLANK
        else:
            kind = _ALONE if tokenization.is_chinese_char(ord(char)) else _INSIDE
        self[char] = kind
        return kind


class _WithoutControl(dict):
    """Table for str.translate that drops control and format characters, as the tokenizer does."""

    def __missing__(self, code_point):
        char = chr(code_point)
        dropped = char not in "\t\n\r" and unicodedata.category(char) in ("Cc", "Cf")
        self[code_point] = None if dropped else code_point
        return self[code_point]


_KINDS = _Kinds()
_WITHOUT_CONTROL = _WithoutControl()
_BETWEEN_PUNCTUATION = re.compile(r"[^\W_]+|[\W_]")


def _blocks(text):
    """Yields (start, end) of each Chinese character and of each stretch between them or blanks."""
    start = None
    for position, char in enumerate(text):
        kind = _KINDS[char]
        if kind == _INSIDE:
            if start is None:
                start = position
            continue
        if start is not None:
            yield start, position
            start = None
        if kind == _ALONE:
            yield position, position + 1
    if start is not None:
        yield start, len(text)


def describe_vocabulary(tokenizer):
    """Returns the Entries of a tokenizer's vocabulary."""
    vocab = tokenizer.vocab
    twins = {number: vocab[tokenization.WORD_PREFIX + token] for token, number in vocab.items()
             if len(token) == 1 and tokenization.is_chinese_char(ord(token))
             and tokenization.WORD_PREFIX + token in vocab}
    return Entries(
        cls_id=tokenizer.cls_id, sep_id=tokenizer.sep_id, mask_id=tokenizer.mask_id,
        unk_id=tokenizer.unk_id, ordinary_ids=tokenization.ordinary_token_ids(tokenizer),
        twins=twins,
        clause_marks=frozenset(n for token, n in vocab.items() if token in CLAUSE_MARKS),
        closing_marks=frozenset(n for token, n in vocab.items() if token in CLOSING_MARKS))


# ---------------------------------------------------------------------------------------------
# Random draws: random() alone, the same on every Python
# ---------------------------------------------------------------------------------------------

def seeded(*numbers):
    """Returns a random.Random that depends on the given numbers alone."""
    digest = hashlib.sha256("/".join(map(str, numbers)).encode("ascii")).digest()
    return random.Random(int.from_bytes(digest[:16], "big"))


def below(rng, limit):
    """Draws an int from 0 to limit - 1."""
    return int(rng.random() * limit)


def in_random_order(items, rng):
    """Yields the items in random order, drawing only as many as are asked for."""
    items = list(items)
    for place in range(len(items)):
        other = place + below(rng, len(items) - place)
        items[place], items[other] = items[other], items[place]
        yield items[place]


# ---------------------------------------------------------------------------------------------
# Document to chunks, chunk to two segments
# ---------------------------------------------------------------------------------------------

def make_instances(sentences, rng, settings, entries):
    """Yields the Instances of one document; chunks too short for two segments give none.

    Args:
        sentences: list of Sentence.
        rng: random.Random of this document and duplicate.
        settings: Settings.
        entries: Entries.
    """
    for chunk in chunk_sentences(sentences, rng, settings, entries):
        if count_tokens(chunk) < SHORTEST_CHUNK:
            continue
        first, second, is_swapped = order_pair(cut_in_two(chunk, rng, entries), rng)
        yield mask_tokens(first, second, is_swapped, rng, settings, entries)


def count_tokens(sentences):
    return sum(len(sentence.ids) for sentence in sentences)


def chunk_sentences(sentences, rng, settings, entries):
    """Yields lists of consecutive sentences, together at most max_seq_length - 3 tokens.

    With probability short_seq_prob a chunk gets a random, shorter length. A sentence that does not
    fit is cut (see `fitting_length`) and its rest opens the next chunk: the chunks of a document in
    a row are the document.
    """
    waiting = collections.deque(sentences)
    while waiting:
        target = draw_length(rng, settings)
        chunk, filled = [], 0
        while waiting and filled < target:
            sentence = waiting.popleft()
            length = fitting_length(sentence, filled, target, entries)
            if length:
                chunk.append(_part(sentence, 0, length))
                filled += length
            if length < len(sentence.ids):
                waiting.appendleft(_part(sentence, length, len(sentence.ids)))
                break
        yield chunk


def draw_length(rng, settings):
    """Draws how many tokens a chunk may have: all that fit, or at times 2 to that many."""
    longest = settings.max_seq_length - SPECIALS_PER_INSTANCE
    if rng.random() < settings.short_seq_prob:
        return SHORTEST_CHUNK + below(rng, longest - SHORTEST_CHUNK + 1)
    return longest


def fitting_length(sentence, filled, target, entries):
    """Returns how many tokens of a sentence go into a chunk that holds `filled` of `target`.

    All of them if they fit. Else those up to the last clause mark that fits, or none, if the chunk
    is at least half full then. Else as many whole words as fit.
    """
    room = target - filled
    if len(sentence.ids) <= room:
        return len(sentence.ids)
    clause = max([end for end in clause_ends(sentence, entries) if end <= room] or [0])
    if filled + clause >= max(SHORTEST_CHUNK, target // 2):
        return clause
    words = next((end for end in range(room, 0, -1) if sentence.word_starts[end]), room)
    return words if filled + words >= SHORTEST_CHUNK else room


def clause_ends(sentence, entries):
    """Returns the places inside a sentence that follow a clause mark (and its closing quotes)."""
    ids, starts = sentence
    ends = []
    for place in range(1, len(ids)):
        after_mark = ids[place - 1] in entries.clause_marks or (
            ids[place - 1] in entries.closing_marks and ends and ends[-1] == place - 1)
        if after_mark and ends and ends[-1] == place - 1:
            ends.pop()
        if after_mark:
            ends.append(place)
    return [place for place in ends if starts[place]]


def cut_in_two(chunk, rng, entries):
    """Cuts a chunk into two touching segments at a sentence end drawn at random.

    A chunk of a single sentence is cut at the clause mark nearest its middle, else between words
    nearest the middle, else in the middle of its only word.

    Returns:
        (first, second), each a Sentence.

    Example: the sentence 他来了，我走。 becomes 他来了， and 我走。
    """
    if len(chunk) > 1:
        end = 1 + below(rng, len(chunk) - 1)
        return _join(chunk[:end]), _join(chunk[end:])
    sentence = chunk[0]
    length = len(sentence.ids)
    places = (clause_ends(sentence, entries)
              or [place for place in range(1, length) if sentence.word_starts[place]]
              or [length // 2])
    place = min(places, key=lambda place: abs(2 * place - length))
    return _part(sentence, 0, place), _part(sentence, place, length)


def order_pair(pair, rng):
    """Swaps two segments in half of the cases; returns (first, second, is_swapped).

    Example: 今天下雨。 and 我没有出门。 become one or the other of

        [CLS] 今天下雨。 [SEP] 我没有出门。 [SEP]    label 0
        [CLS] 我没有出门。 [SEP] 今天下雨。 [SEP]    label 1
    """
    if rng.random() < 0.5:
        return pair[1], pair[0], True
    return pair[0], pair[1], False


def _part(sentence, start, end):
    return Sentence(sentence.ids[start:end], [True] + sentence.word_starts[start + 1:end])


def _join(sentences):
    return Sentence(list(itertools.chain.from_iterable(s.ids for s in sentences)),
                    list(itertools.chain.from_iterable(s.word_starts for s in sentences)))


# ---------------------------------------------------------------------------------------------
# Two segments to a masked instance
# ---------------------------------------------------------------------------------------------

def mask_tokens(first, second, is_swapped, rng, settings, entries):
    """Masks two segments into an Instance.

    Of each drawn span (a token; with do_whole_word_mask a word; with max_ngram several of them) all
    tokens become [MASK] in 80 % of the cases, random ordinary entries in 10 %, and stay in 10 %
    (https://arxiv.org/abs/1810.04805, section 3.1); the case is drawn once per span.
    """
    ids = [entries.cls_id] + first.ids + [entries.sep_id] + second.ids + [entries.sep_id]
    starts = [True] + first.word_starts + [True] + second.word_starts + [True]
    first_length = len(first.ids) + 2
    whole_words = settings.do_whole_word_mask
    words = (find_words(first.word_starts, 1, whole_words)
             + find_words(second.word_starts, first_length, whole_words))
    spans = choose_spans(words, count_predictions(len(ids), settings), settings.max_ngram, rng)
    positions = sorted(place for start, end in spans for place in range(start, end))
    labels = [ids[place] if starts[place] or not settings.prefixed_word_labels
              else entries.twins.get(ids[place], ids[place]) for place in positions]
    replace_spans(ids, spans, rng, entries)
    return Instance(ids, first_length, positions, labels, is_swapped)


def count_predictions(length, settings):
    """Returns how many of `length` tokens (special ones counted) are to be predicted, at most."""
    share = max(1, int(round(length * settings.masked_lm_prob)))
    return min(settings.max_predictions_per_seq, share)


def find_words(word_starts, offset, whole_words):
    """Returns the (start, end) of each word of a segment, or of each token.

    >>> find_words([True, False, True], 10, True)
    [(10, 12), (12, 13)]
    """
    starts = [offset + place for place, opens in enumerate(word_starts)
              if opens or not whole_words]
    return list(zip(starts, starts[1:] + [offset + len(word_starts)]))


def choose_spans(words, limit, max_ngram, rng):
    """Draws spans of words, in random order, until `limit` tokens are covered.

    A word that would exceed the limit is passed over. A span of several words is shortened where
    it would exceed the limit, meet another span, or leave its segment: between the segments lies
    [SEP], so their words do not touch.

    Args:
        words: list of (start, end), ascending.
        limit: number of tokens that is never exceeded.
        max_ngram: most words of a span.
        rng: random.Random.

    Returns:
        list of (start, end) in the order drawn.
    """
    spans, covered, taken = [], 0, set()
    for number in in_random_order(range(len(words)), rng):
        if covered >= limit:
            break
        start, end = words[number]
        if number in taken or covered + end - start > limit:
            continue
        last = number + draw_span_length(max_ngram, rng)
        taken.add(number)
        for following in range(number + 1, min(last, len(words))):
            if (following in taken or words[following][0] != end
                    or covered + words[following][1] - start > limit):
                break
            taken.add(following)
            end = words[following][1]
        spans.append((start, end))
        covered += end - start
    return spans


def draw_span_length(max_ngram, rng):
    """Draws the number of words of a span, 1 to N, with p(n) = (1/n) / (1/1 + ... + 1/N).

    ALBERT, https://arxiv.org/abs/1909.11942, section 4.1, equation 1.
    """
    if max_ngram == 1:
        return 1
    rest = rng.random() * sum(1.0 / n for n in range(1, max_ngram + 1))
    for length in range(1, max_ngram):
        rest -= 1.0 / length
        if rest < 0:
            return length
    return max_ngram


def replace_spans(ids, spans, rng, entries):
    """Replaces the tokens of each span in place, 80/10/10."""
    for start, end in spans:
        draw = rng.random()
        if draw < 0.8:
            ids[start:end] = [entries.mask_id] * (end - start)
        elif draw < 0.9:
            ids[start:end] = [entries.ordinary_ids[below(rng, len(entries.ordinary_ids))]
                              for _ in range(start, end)]


def features(instance, settings):
    """Returns the fields of a record, at their own lengths: lists of numbers, by name.

    With settings.pad_records they are S, P or 1 numbers, as other codebases read them.
    """
    length, predictions = len(instance.ids), len(instance.positions)
    padding = [0] * (settings.max_seq_length - length if settings.pad_records else 0)
    no_predictions = [0] * (
        settings.max_predictions_per_seq - predictions if settings.pad_records else 0)
    return {
        "input_ids": instance.ids + padding,
        "input_mask": [1] * length + padding,
        "segment_ids": ([0] * instance.first_length + [1] * (length - instance.first_length)
                        + padding),
        "masked_lm_positions": instance.positions + no_predictions,
        "masked_lm_ids": instance.labels + no_predictions,
        "masked_lm_weights": [1.0] * predictions + [0.0] * len(no_predictions),
        "next_sentence_labels": [int(instance.is_swapped)],
    }


# ---------------------------------------------------------------------------------------------
# A unit of work: documents to serialised records and counts
# ---------------------------------------------------------------------------------------------

class RecordMaker(object):
    """Makes the records of documents; loads vocabulary and segmenter once."""

    def __init__(self, settings):
        tokenizer = tokenization.FullTokenizer(
            settings.vocab_file, settings.do_lower_case, settings.spm_model_file)
        self._settings = settings
        self._reader = load_reader(tokenizer, settings)
        self._entries = describe_vocabulary(tokenizer)

    def make(self, document):
        """Returns (list of serialised records, Counter of what `summarize` reports)."""
        sentences = [s for s in map(self._reader.read, document.lines) if s.ids]
        is_skipped = count_tokens(sentences) < SHORTEST_CHUNK
        counts = collections.Counter(
            characters=count_characters(document), documents=int(document.part == 0),
            skipped_documents=int(document.part == 0 and is_skipped),
            sentences=len(sentences), text_tokens=count_tokens(sentences),
            unknown_tokens=sum(s.ids.count(self._entries.unk_id) for s in sentences))
        serialized = []
        for duplicate in range(0 if is_skipped else self._settings.dupe_factor):
            rng = seeded(self._settings.random_seed, document.number, document.part, duplicate)
            for instance in make_instances(sentences, rng, self._settings, self._entries):
                _count_instance(instance, counts)
                serialized.append(records.encode(
                    records.PRETRAINING, features(instance, self._settings)))
        return serialized, counts


def _count_instance(instance, counts):
    counts["instances"] += 1
    counts["tokens"] += len(instance.ids)
    counts["masked_tokens"] += len(instance.positions)
    counts["swapped_pairs"] += int(instance.is_swapped)


_makers = {}  # the RecordMaker of this process; forked workers inherit it ready made


def get_maker(settings):
    if settings not in _makers:
        _makers.clear()
        _makers[settings] = RecordMaker(settings)
    return _makers[settings]


def make_records(settings, documents):
    """The unit of work: returns (list of serialised records, Counter) of a list of Documents."""
    maker = get_maker(settings)
    serialized, counts = [], collections.Counter()
    for document in documents:
        more, more_counts = maker.make(document)
        serialized.extend(more)
        counts.update(more_counts)
    return serialized, counts


# ---------------------------------------------------------------------------------------------
# Workers
# ---------------------------------------------------------------------------------------------

def map_units(settings, units, start_method=None):
    """Yields `make_records` of each unit, in the order of the units, from num_workers processes.

    Few units are under way at any time, so memory does not grow with the input. Close the generator
    to stop the workers.

    Raises:
        UserError: a worker was killed.
    """
    if settings.num_workers == 1:
        for unit in units:
            yield make_records(settings, unit)
        return
    get_maker(settings)  # before the fork, so that the workers share it
    context = multiprocessing.get_context(start_method or _default_start_method())
    reading_end, writing_end = context.Pipe(duplex=False)
    pool = concurrent.futures.ProcessPoolExecutor(
        settings.num_workers, mp_context=context, initializer=_start_worker,
        initargs=(reading_end, writing_end))
    try:
        for result in _map_in_order(pool, settings, units):
            yield result
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError("a worker process was killed, perhaps for lack of memory; nothing was "
                        "written. Try --num_workers=%d" % max(1, settings.num_workers // 2)
                        ) from error
    except BaseException:
        writing_end.close()  # the workers end at once, in the middle of their units
        raise
    finally:
        pool.shutdown()
        writing_end.close()
        reading_end.close()


def _map_in_order(pool, settings, units):
    under_way = collections.deque()
    for unit in units:
        under_way.append(pool.submit(make_records, settings, unit))
        if len(under_way) > 2 * settings.num_workers:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


def _default_start_method():
    # Elsewhere than on Linux, forking a process that has loaded system libraries is not safe.
    return "fork" if sys.platform.startswith("linux") else "spawn"


def _start_worker(reading_end, writing_end):
    """Prepares a worker: Ctrl-C is the parent's business, and without the parent it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    writing_end.close()
    threading.Thread(target=_end_with_parent, args=(reading_end,), daemon=True).start()


def _end_with_parent(reading_end):
    """Waits until the parent closes its end of the pipe, by its death if need be."""
    try:
        reading_end.recv()
    except (EOFError, OSError):
        os._exit(1)


# ---------------------------------------------------------------------------------------------
# Shuffle: through bucket files, so that memory holds one bucket at a time
# ---------------------------------------------------------------------------------------------

class ShuffleBuckets(object):
    """Shuffles any number of records uniformly.

    Each record goes to a bucket file drawn at random; then each bucket is read and shuffled in
    memory. One bucket after the other is a uniformly random order of all records.
    """

    def __init__(self, folder, number, seed):
        self._paths = [os.path.join(folder, "bucket-%05d" % i) for i in range(number)]
        self._buffers = [[] for _ in range(number)]
        self._buffered = 0
        self._rng = seeded(seed, "buckets")
        self._seed = seed

    def add(self, record):
        """Takes one record, as bytes."""
        self._buffers[below(self._rng, len(self._buffers))].append(record)
        self._buffered += len(record)
        if self._buffered >= BUFFER_BYTES:
            self._flush()

    def _flush(self):
        for path, buffered in zip(self._paths, self._buffers):
            if buffered:
                with open(path, "ab") as stream:
                    for record in buffered:
                        stream.write(struct.pack("<I", len(record)) + record)
                del buffered[:]
        self._buffered = 0

    def shuffled(self):
        """Yields all records in random order; the bucket files are removed on the way."""
        self._flush()
        for number, path in enumerate(self._paths):
            if os.path.exists(path):
                bucket = list(_read_bucket(path))
                os.remove(path)
                for record in in_random_order(bucket, seeded(self._seed, "bucket", number)):
                    yield record


def _read_bucket(path):
    with open(path, "rb") as stream:
        header = stream.read(4)
        while header:
            yield stream.read(struct.unpack("<I", header)[0])
            header = stream.read(4)


def count_buckets(expected_bytes):
    """Returns how many buckets to use for about so many bytes of records."""
    return max(1, min(MOST_BUCKETS, int(expected_bytes / BUCKET_BYTES) + 1))


@contextlib.contextmanager
def temporary_folder(output):
    """Yields a folder of our own beside the output (for a remote output: a local one)."""
    if files.is_remote(output):
        folder = tempfile.mkdtemp(prefix="create-pretraining-data-")
    else:
        # Hidden and without the word "tfrecord": no glob of the user's finds it.
        name = os.path.basename(output)[:-len(ENDING)]
        folder = os.path.join(os.path.dirname(output), ".tmp-%d-%s.shuffle" % (os.getpid(), name))
        os.mkdir(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


# ---------------------------------------------------------------------------------------------
# Output files
# ---------------------------------------------------------------------------------------------

Outputs = collections.namedtuple("Outputs", ["shards", "summary", "older"])
Outputs.__doc__ = """shards: paths to write; summary: path; older: files of an earlier run."""


def plan_outputs(output_file, num_shards=1, overwrite=False):
    """Names the output files.

    "x.tfrecord" gives x.tfrecord, or with num_shards=4 x-00000-of-00004.tfrecord and so on; a comma
    list names the shards one by one. The summary is x.json, x from the first name.

    Raises:
        UserError: a name is that of a folder, comes twice, or an earlier run's files are there.
    """
    names = [_with_ending(name.strip()) for name in (output_file or "").split(",") if name.strip()]
    if not names:
        raise UserError("--output_file is missing: name a file, such as data/my_corpus.tfrecord")
    if len(set(names)) < len(names):
        raise UserError("--output_file=%s names a file twice" % output_file)
    if len(names) > 1 and num_shards not in (1, len(names)):
        raise UserError("--num_shards=%d does not fit the %d names of --output_file: leave it out"
                        % (num_shards, len(names)))
    stems = [name[:-len(ENDING)] for name in names]
    if len(names) == 1 and num_shards > 1:
        shards = ["%s-%05d-of-%05d%s" % (stems[0], i, num_shards, ENDING)
                  for i in range(num_shards)]
    else:
        shards = names
    summary = stems[0] + ".json"
    older = sorted({path for stem in stems for path in find_shards(stem)})
    older += _older_summary(summary)
    if older and not overwrite:
        raise UserError("%s of an earlier run %s there: give --overwrite=True to replace %s, or "
                        "another --output_file" % (
                            _name_some(older), *(("is", "it") if len(older) == 1
                                                 else ("are", "them"))))
    return Outputs(shards, summary, older)


def _with_ending(name):
    if files.is_dir(name) or not os.path.basename(name):
        raise UserError("--output_file=%s is a folder: name a file in it, such as %s"
                        % (name, os.path.join(name, "my_corpus.tfrecord")))
    if not name.endswith(ENDING):
        console.say("note: the output is written to %s%s, as the names of records end in %s"
                    % (name, ENDING, ENDING))
        name += ENDING
    if os.path.basename(name) == ENDING:
        raise UserError("--output_file=%s has no name before %s" % (name, ENDING))
    return name


def find_shards(stem):
    """Returns the files there are under a stem: x.tfrecord and x-00000-of-00004.tfrecord."""
    folder, base = os.path.split(stem)
    if not files.is_dir(folder or "."):
        return []
    pattern = re.compile(re.escape(base) + r"(-\d{5,}-of-\d{5,})?" + re.escape(ENDING))
    return [os.path.join(folder, name) for name in files.list_dir(folder or ".")
            if pattern.fullmatch(name)]


def _older_summary(path):
    """Returns [path] for a summary that this script wrote, [] where there is no file."""
    if not files.exists(path):
        return []
    try:
        content = files.read_json(path)
    except UserError:
        content = None
    if not isinstance(content, dict) or content.get("made_by") != "create_pretraining_data.py":
        raise UserError("%s, where the summary would go, is a file of another kind: choose another "
                        "--output_file" % path)
    return [path]


def _name_some(paths):
    more = " and %d more" % (len(paths) - 3) if len(paths) > 3 else ""
    return ", ".join(paths[:3]) + more


def write_shards(outputs, serialized, number):
    """Writes `number` records to the shards in equal shares; all appear together at the end.

    The records come shuffled, so consecutive ones in a shard are as good as dealing them out, and
    one file is open at a time.
    """
    with contextlib.ExitStack() as stack:
        shards = len(outputs.shards)
        for index, path in enumerate(outputs.shards):
            size = number * (index + 1) // shards - number * index // shards
            # Leaving the stack without an error moves all files into place.
            staged = stack.enter_context(files.atomic_path(path))
            records.write(staged, itertools.islice(serialized, size))
    for path in outputs.older:
        if path not in outputs.shards and path != outputs.summary:
            console.say("removing %s of the earlier run (--overwrite)" % path)
            files.remove(path)


# ---------------------------------------------------------------------------------------------
# The whole run
# ---------------------------------------------------------------------------------------------

Survey = collections.namedtuple("Survey", ["documents", "sentences", "characters"])


def create(settings):
    """Creates the records and their summary.

    Args:
        settings: Settings; num_workers None means one worker for each processor.

    Returns:
        the summary, a dict.

    Raises:
        UserError: a setting, an input or the output cannot be used; nothing has been written then.
    """
    began = time.time()
    settings = settings._replace(num_workers=settings.num_workers or count_processors())
    check_settings(settings)
    inputs = files.expand(settings.input_file or "", "input_file")
    outputs = plan_outputs(settings.output_file, settings.num_shards, settings.overwrite)
    check_paths(inputs, outputs)
    get_maker(settings)
    corpus = survey(inputs)
    advise(settings, corpus, inputs)
    with temporary_folder(outputs.shards[0]) as folder:
        buckets, counts = fill_buckets(settings, inputs, corpus, folder)
        check_counts(settings, counts, outputs)
        write_shards(outputs, buckets.shuffled(), counts["instances"])
    summary = summarize(settings, inputs, outputs, counts, time.time() - began)
    files.write_json(outputs.summary, summary)
    print(summary_table(summary))
    return summary


def survey(inputs):
    """Reads all inputs once, so that faults show before the work starts; returns a Survey."""
    documents = sentences = characters = 0
    progress = console.Progress("reading", unit="document")
    for document in read_documents(inputs):
        documents += int(document.part == 0)
        sentences += len(document.lines)
        characters += count_characters(document)
        progress.update(documents)
    if not documents:
        raise UserError("--input_file: %s only blank lines; one sentence a line is expected"
                        % ("%s holds" % inputs[0] if len(inputs) == 1
                           else "the %d files hold" % len(inputs)))
    return Survey(documents, sentences, characters)


def fill_buckets(settings, inputs, corpus, folder):
    """Makes all records; returns (the ShuffleBuckets that hold them, Counter)."""
    buckets, counts = None, collections.Counter()
    progress = console.Progress("creating", total=corpus.characters, unit="character")
    units = units_of_work(read_documents(inputs))
    with contextlib.closing(map_units(settings, units)) as results:
        for serialized, more_counts in results:
            counts.update(more_counts)
            if buckets is None:
                expected = sum(map(len, serialized)) * corpus.characters / counts["characters"]
                warn_of_full_disk(folder, expected)
                buckets = ShuffleBuckets(folder, count_buckets(expected), settings.random_seed)
            for record in serialized:
                buckets.add(record)
            progress.update(counts["characters"], "%s documents  %s instances" % (
                format(counts["documents"], ","), format(counts["instances"], ",")))
    return buckets, counts


def warn_of_full_disk(folder, expected):
    free = shutil.disk_usage(folder).free
    if free < 1.1 * expected:
        console.say("WARNING: about %.1f GB will be written, but only %.1f GB are free at %s"
                    % (expected / 1e9, free / 1e9, folder))


def count_processors():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_settings(settings):
    """Raises UserError for a setting out of its range; names the flag."""
    ranges = (
        ("max_seq_length", 5, 1 << 20), ("max_predictions_per_seq", 1, 1 << 20),
        ("dupe_factor", 1, 1 << 20), ("num_workers", 1, 4096), ("num_shards", 1, 100000),
        ("max_ngram", 1, 1000), ("short_seq_prob", 0.0, 1.0))
    for name, least, most in ranges:
        value = getattr(settings, name)
        if not least <= value <= most:
            raise UserError("--%s=%s must be %s to %s" % (name, value, least, most))
    if not 0.0 < settings.masked_lm_prob < 1.0:
        raise UserError("--masked_lm_prob=%s must lie between 0 and 1; 0.15 is usual"
                        % settings.masked_lm_prob)
    if settings.max_predictions_per_seq >= settings.max_seq_length:
        raise UserError("--max_predictions_per_seq=%d must be less than --max_seq_length=%d"
                        % (settings.max_predictions_per_seq, settings.max_seq_length))
    if settings.prefixed_word_labels and (settings.non_chinese or settings.spm_model_file):
        raise UserError("--prefixed_word_labels is about Chinese words in a WordPiece vocabulary: "
                        "leave it out with --non_chinese or --spm_model_file")


def check_paths(inputs, outputs):
    """Raises UserError where output folders cannot be written to or an output is an input."""
    for path in outputs.shards + [outputs.summary]:
        if os.path.realpath(path) in map(os.path.realpath, inputs):
            raise UserError("--output_file would overwrite the input %s: choose another name"
                            % path)
    for folder in sorted({os.path.dirname(path) or "." for path in outputs.shards}):
        files.make_dir(folder, "output_file")
        for name in files.list_dir(folder):
            if re.fullmatch(r"\.tmp-\d+-.*\.shuffle", name):
                console.say("note: %s is left from a run that was killed, unless one is at work "
                            "now; it can be removed" % os.path.join(folder, name))


def advise(settings, corpus, inputs):
    """Says what looks unintended, before the work starts."""
    console.say("%s documents, %s sentences, %s characters in %d %s; workers: %d" % (
        format(corpus.documents, ","), format(corpus.sentences, ","),
        format(corpus.characters, ","), len(inputs), "file" if len(inputs) == 1 else "files",
        settings.num_workers))
    if corpus.documents == len(inputs) and corpus.sentences > 200 * len(inputs):
        console.say("WARNING: no blank lines: each file counts as one document. Put a blank line "
                    "between documents, or segments of unrelated texts are paired")
    if corpus.documents == corpus.sentences > 1:
        console.say("WARNING: every document is a single sentence, so each is cut in two. Put the "
                    "sentences of one document on consecutive lines, without blank lines")
    wanted = int(round(settings.max_seq_length * settings.masked_lm_prob))
    if settings.max_predictions_per_seq < wanted:
        console.say("WARNING: --max_predictions_per_seq=%d masks less than --masked_lm_prob=%g of "
                    "%d tokens; use %d" % (
                        settings.max_predictions_per_seq, settings.masked_lm_prob,
                        settings.max_seq_length, wanted))


def check_counts(settings, counts, outputs):
    """Raises UserError where there is nothing, or too little, to write; warns of few masks."""
    if not counts["instances"]:
        raise UserError("--input_file: all %d documents are too short for two segments (%d tokens "
                        "at least); nothing was written" % (counts["documents"], SHORTEST_CHUNK))
    if counts["instances"] < len(outputs.shards):
        raise UserError("%d instances cannot fill %d shards: use fewer; nothing was written"
                        % (counts["instances"], len(outputs.shards)))
    if 2 * counts["masked_tokens"] < _expected_share(settings) * counts["tokens"]:
        console.say("WARNING: few tokens are masked, as most words are longer than an instance may "
                    "predict: is this text of another language than the settings say?")


def _expected_share(settings):
    return min(settings.masked_lm_prob,
               settings.max_predictions_per_seq / float(settings.max_seq_length))


def summarize(settings, inputs, outputs, counts, seconds):
    """Returns the summary of a run as a dict; shares are fractions of 1."""
    instances, tokens = counts["instances"], counts["tokens"]
    to_use = counts["text_tokens"] * settings.dupe_factor
    used = tokens - SPECIALS_PER_INSTANCE * instances
    vocabulary = settings.spm_model_file or settings.vocab_file
    return collections.OrderedDict([
        ("made_by", "create_pretraining_data.py"),
        ("documents", counts["documents"]),
        ("skipped_documents", counts["skipped_documents"]),
        ("sentences", counts["sentences"]),
        ("instances", instances),
        ("mean_length", round(tokens / float(instances), 2)),
        ("padding_share", _share(instances * settings.max_seq_length - tokens,
                                 instances * settings.max_seq_length)),
        ("masked_share", _share(counts["masked_tokens"], tokens)),
        ("swapped_share", _share(counts["swapped_pairs"], instances)),
        ("unknown_share", _share(counts["unknown_tokens"], counts["text_tokens"])),
        ("unused_share", _share(to_use - used, to_use)),
        ("seconds", round(seconds, 1)),
        ("inputs", list(inputs)),
        ("outputs", list(outputs.shards)),
        ("vocabulary", vocabulary),
        ("vocabulary_sha256", files.fingerprint(vocabulary)),
        ("settings", settings._asdict()),
    ])


def _share(part, whole):
    return round(part / float(max(1, whole)), 6)


def summary_table(summary):
    """Formats the summary for the screen."""
    rows = [
        ("documents", format(summary["documents"], ",")),
        ("  of these too short, skipped", format(summary["skipped_documents"], ",")),
        ("sentences", format(summary["sentences"], ",")),
        ("instances", format(summary["instances"], ",")),
        ("mean length in tokens", "%.1f" % summary["mean_length"]),
        ("padding, where padded", "%.1f %%" % (100 * summary["padding_share"])),
        ("masked tokens", "%.1f %%" % (100 * summary["masked_share"])),
        ("swapped pairs", "%.1f %%" % (100 * summary["swapped_share"])),
        ("[UNK] in the text", "%.2f %%" % (100 * summary["unknown_share"])),
        ("seconds", "%.1f" % summary["seconds"]),
        ("files", "%s%s" % (os.path.basename(summary["outputs"][0]),
                            " ..." if len(summary["outputs"]) > 1 else "")),
    ]
    return console.table(["pre-training records", ""], rows)


# ---------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------

def define_flags():
    """Defines the flags; called when this file is run, so that other scripts may import it."""
    flags.DEFINE_string("input_file", None,
                        "Text, one sentence a line, a blank line between documents; a comma list "
                        "of names and globs. Read in the order of the list, globs by name.")
    flags.DEFINE_string("output_file", None,
                        "TFRecord file to write, or a comma list of them.")
    flags.DEFINE_string("vocab_file", None,
                        "WordPiece vocabulary, such as albert_config/vocab.txt.")
    flags.DEFINE_bool("do_lower_case", True, "Lower-case the text (and strip accents).")
    flags.DEFINE_bool("do_whole_word_mask", False,
                      "Mask whole words: Chinese ones as jieba finds them.")
    flags.DEFINE_integer("max_seq_length", 128, "Tokens of a record.")
    flags.DEFINE_integer("max_predictions_per_seq", 20, "Most masked tokens of a record.")
    flags.DEFINE_integer("random_seed", 12345, "The same seed gives the same records.")
    flags.DEFINE_integer("dupe_factor", 10, "How often the text is used, each time masked anew.")
    flags.DEFINE_float("masked_lm_prob", 0.15, "Share of tokens that are masked.")
    flags.DEFINE_float("short_seq_prob", 0.1, "Share of records made shorter at random.")
    flags.DEFINE_bool("non_chinese", False,
                      "The text is not Chinese: words are told by ## alone, without jieba.")
    flags.DEFINE_string("spm_model_file", None,
                        "SentencePiece model to use in place of --vocab_file.")
    flags.DEFINE_integer("num_workers", None, "Processes; default: one for each processor.")
    flags.DEFINE_integer("num_shards", 1, "Files to write: x-00000-of-00004.tfrecord, ...")
    flags.DEFINE_bool("prefixed_word_labels", False,
                      "Predict the ## entry of all but the first character of a Chinese word, as "
                      "the released albert_zh models were trained.")
    flags.DEFINE_integer("max_ngram", 1, "Mask spans of up to so many words (ALBERT: 3).")
    flags.DEFINE_bool("pad_records", False, "Pad every record to --max_seq_length and "
                      "--max_predictions_per_seq, as other codebases read them.")
    flags.DEFINE_bool("overwrite", False,
                      "Replace the records of an earlier run with the same --output_file.")


def main(_):
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidy up as after Ctrl-C
    create(Settings(**{name: flags.FLAGS[name].value for name in Settings._fields}))


if __name__ == "__main__":
    define_flags()
    runtime.run(main)
