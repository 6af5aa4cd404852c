"""Documents to serialised pre-training records: the unit of work of every engine.

`RecordMaker.make` turns some documents into records, each with the random key that decides its
place among all records. Local processes and Apache Beam call it alike, so both make the same.
"""

import collections

import corpus
import instances
import numpy as np
import record_bytes
import tokenization
import words
from record_bytes import FLOAT, INT64
from spills import KEY_BITS

BYTES_PER_TOKEN = 7  # of a record, about; decides how the shuffle is divided
UNIT_CHARACTERS = 50000  # documents are worked on in units of about this size

STATIC, DYNAMIC = MASKINGS = ("static", "dynamic")

# The keys of a record and what they hold. `next_sentence_labels` is the sentence order: 1 is
# swapped.
KINDS = {
    STATIC: {"input_ids": INT64, "input_mask": INT64, "segment_ids": INT64,
             "masked_lm_positions": INT64, "masked_lm_ids": INT64, "masked_lm_weights": FLOAT,
             "next_sentence_labels": INT64},
    DYNAMIC: {"input_ids": INT64, "segment_ids": INT64, "word_starts": INT64,
              "next_sentence_labels": INT64}}

Making = collections.namedtuple("Making", [
    "vocab_file", "do_lower_case", "spm_model_file", "do_whole_word_mask", "max_seq_length",
    "max_predictions_per_seq", "random_seed", "dupe_factor", "masked_lm_prob", "short_seq_prob",
    "non_chinese", "prefixed_word_labels", "max_ngram", "pad_records", "masking", "segmenter"])
Making.__doc__ = """What records are made like: flags of create_pretraining_data.py, which see."""


class RecordMaker(object):
    """Makes the records of documents; loads vocabulary and segmenter once.

    Attributes:
        entries: instances.Entries of the vocabulary.
    """

    def __init__(self, making):
        """making: Making."""
        tokenizer = tokenization.FullTokenizer(
            making.vocab_file, making.do_lower_case, making.spm_model_file)
        self._making = making
        self._reader = words.load_reader(tokenizer, segmenter_of(making))
        self.entries = instances.describe_vocabulary(tokenizer)
        self._masking = masking_of(making)
        self._is_dynamic = making.masking == DYNAMIC

    def make(self, documents):
        """Makes the records of a list of corpus.Documents.

        Returns:
            (list of (key, record), Counter of what the summary reports). The key is an int from 0
            to below 2 ** KEY_BITS, drawn at random.
        """
        sentences = self._reader.read([line for document in documents for line in document.lines])
        ends = np.append(0, sentences.ends)
        lines = np.cumsum([0] + [len(document.lines) for document in documents])
        bounds = ends[lines].tolist()
        counts = collections.Counter(
            characters=sum(map(corpus.count_characters, documents)),
            documents=sum(document.part == 0 for document in documents),
            skipped_documents=sum(
                document.part == 0 and end - start < instances.SHORTEST_CHUNK
                for document, start, end in zip(documents, bounds, bounds[1:])),
            sentences=int(np.count_nonzero(np.diff(ends))), text_tokens=len(sentences.ids),
            unknown_tokens=int(np.count_nonzero(sentences.ids == self.entries.unk_id)))
        chunks = instances.Chunks(sentences, self.entries)
        generators = [instances.seeded(self._making.random_seed, document.file, document.offset,
                                       document.part) for document in documents]
        found = []
        for _ in range(self._making.dupe_factor):
            cuts, numbers = [], []
            for start, end, generator in zip(bounds, bounds[1:], generators):
                of_document = list(chunks.of_document(
                    start, end, self._making.max_seq_length, self._making.short_seq_prob,
                    generator))
                cuts.extend(of_document)
                numbers.append(len(of_document))
            if cuts:
                found.extend(self._records(sentences, cuts, numbers, generators, counts))
        return found, counts

    def _records(self, sentences, cuts, numbers, generators, counts):
        """Returns the (key, record) of the chunks of one duplicate.

        Args:
            cuts: of all documents in a row; numbers: how many of them each document has.
        """
        made = instances.assemble(sentences, cuts, self.entries)
        lengths = np.diff(made.offsets)
        counts["instances"] += len(cuts)
        counts["tokens"] += int(made.offsets[-1])
        counts["swapped_pairs"] += int(made.is_swapped.sum())
        draws, keys = self._draws(made.offsets, numbers, generators)
        masked = None
        if not self._is_dynamic:
            masked = instances.mask(made, draws, self._masking, self.entries)
            counts["masked_tokens"] += len(masked.positions)
        columns = self._columns(made, masked, lengths.tolist())
        return list(zip(keys, record_bytes.encode(columns, KINDS[self._making.masking],
                                                  len(cuts))))

    def _draws(self, offsets, numbers, generators):
        """Returns (what `instances.mask` draws with, float [4, N]; the records' keys, list)."""
        rows = 0 if self._is_dynamic else 3 + int(self._masking.max_ngram > 1)
        draws, keys, first = [], [], 0
        for number, generator in zip(numbers, generators):
            tokens = int(offsets[first + number] - offsets[first])
            first += number
            if number:
                draws.append(generator.random_sample([rows, tokens]))
                keys.append(generator.random_sample(number))
        keys = np.ldexp(np.concatenate(keys), KEY_BITS).astype(np.int64).tolist()
        return np.concatenate(draws, axis=1), keys

    def _columns(self, made, masked, lengths):
        """Returns {key: column of record_bytes} of records."""
        firsts = made.first_lengths.tolist()
        columns = {
            "input_ids": record_bytes.whole_numbers(made.ids if masked is None else masked.ids,
                                                    made.offsets),
            "segment_ids": record_bytes.zeros_then_ones(
                firsts, [length - first for length, first in zip(lengths, firsts)]),
            "next_sentence_labels": record_bytes.whole_numbers(
                made.is_swapped, np.arange(len(lengths) + 1))}
        if masked is None:
            columns["word_starts"] = record_bytes.whole_numbers(made.word_starts, made.offsets)
            return columns
        predictions = np.diff(masked.offsets).tolist()
        columns.update(
            input_mask=record_bytes.ones(lengths),
            masked_lm_positions=record_bytes.whole_numbers(masked.positions, masked.offsets),
            masked_lm_ids=record_bytes.whole_numbers(masked.labels, masked.offsets),
            masked_lm_weights=record_bytes.weights(predictions))
        if self._making.pad_records:
            self._pad(columns, lengths, predictions)
        return columns

    def _pad(self, columns, lengths, predictions):
        """Pads the columns with zeros, to what the flags allow at most."""
        for key, zero, counts, most in (
                ("input_ids", b"\x00", lengths, self._making.max_seq_length),
                ("input_mask", b"\x00", lengths, self._making.max_seq_length),
                ("segment_ids", b"\x00", lengths, self._making.max_seq_length),
                ("masked_lm_positions", b"\x00", predictions, self._making.max_predictions_per_seq),
                ("masked_lm_ids", b"\x00", predictions, self._making.max_predictions_per_seq),
                ("masked_lm_weights", b"\x00" * 4, predictions,
                 self._making.max_predictions_per_seq)):
            columns[key] = [columns[key][number] + zero * (most - count)
                            for number, count in enumerate(counts)]


def segmenter_of(making):
    """Returns the name of the segmenter that a Making needs, or None for none."""
    is_needed = (making.do_whole_word_mask or making.prefixed_word_labels
                 or making.masking == DYNAMIC) and not making.non_chinese
    return making.segmenter if is_needed and not making.spm_model_file else None


def masking_of(making):
    """Returns the instances.Masking of a Making."""
    return instances.Masking(making.do_whole_word_mask, making.masked_lm_prob,
                             making.max_predictions_per_seq, making.max_ngram,
                             making.prefixed_word_labels)


def describe_masking(making):
    """Returns, as JSON holds it, all that training must know to mask records of this Making.

    {"whole_words", "share", "most_predictions", "max_ngram": as in instances.Masking; "mask_id";
    "ordinary_ids": candidates for replacement, as ranges [first, last]; "vocab_size"; "twins":
    [[id, id to predict within a word], ...], or None}.
    """
    masking, entries = masking_of(making), get_maker(making).entries
    twins = np.flatnonzero(entries.twins != np.arange(len(entries.twins)))
    return collections.OrderedDict([
        ("whole_words", masking.whole_words), ("share", masking.share),
        ("most_predictions", masking.most_predictions), ("max_ngram", masking.max_ngram),
        ("mask_id", int(entries.mask_id)), ("ordinary_ids", _ranges(entries.ordinary_ids)),
        ("vocab_size", len(entries.twins)),
        ("twins", [[int(number), int(entries.twins[number])] for number in twins]
         if masking.prefixed_labels else None)])


def _ranges(numbers):
    """Returns ascending numbers as [[first, last], ...]."""
    breaks = np.flatnonzero(np.diff(numbers) != 1)
    firsts, lasts = np.append(0, breaks + 1), np.append(breaks, len(numbers) - 1)
    return [[int(numbers[first]), int(numbers[last])] for first, last in zip(firsts, lasts)]


_makers = {}  # the RecordMaker of this process; forked workers inherit it ready made


def get_maker(making):
    """Returns the RecordMaker of this process for a Making."""
    if making not in _makers:
        _makers.clear()
        _makers[making] = RecordMaker(making)
    return _makers[making]


def batches_of(making, piece, counts):
    """Yields lists of (key, record) of a corpus.Piece; adds to `counts`, a Counter."""
    maker = get_maker(making)
    for unit in corpus.in_units(corpus.read_documents([piece]), UNIT_CHARACTERS):
        found, more = maker.make(unit)
        counts.update(more)
        yield found
