"""Documents to training examples: chunks, two segments, sentence order, masked words.

How a document becomes instances (once for each of `dupe_factor` duplicates):

1. `Chunks`: consecutive sentences are packed into chunks that fit a record. What does not fit opens
   the next chunk, so no text is thrown away and nothing needs to be truncated.
2. `Chunks.cut`: a chunk becomes two touching segments, swapped in half of the cases (sentence-order
   prediction, https://arxiv.org/abs/1909.11942, section 3.1).
3. `mask`: whole words, or n-grams of them (equation 1 of section 4.1 there), are replaced.

All draws of a document come from a generator of its own, seeded by the run's seed and the
document's place, so the records do not depend on how the work is divided. Only `random_sample` of
NumPy's RandomState is used, whose sequence is the same on every version.

Many instances are masked at once, as arrays without padding: one after the other, with the offset
of each. I instances, N tokens of them all, [CLS] and [SEP] among them.
"""

import bisect
import collections
import hashlib

import numpy as np
import tokenization
from corpus import CLAUSE_MARKS, CLOSING_MARKS

SPECIALS_PER_INSTANCE = 3  # [CLS] first [SEP] second [SEP]
SHORTEST_CHUNK = 2         # tokens: two segments of at least one

Entries = collections.namedtuple("Entries", [
    "cls_id", "sep_id", "mask_id", "unk_id", "ordinary_ids", "twins", "clause_marks",
    "closing_marks"])
Entries.__doc__ = """What making instances needs to know of the vocabulary.

ordinary_ids: int32 array of the candidates for random replacement; twins: int32 array that maps
the id of a Chinese character to that of its "##" entry and every other id to itself;
clause_marks, closing_marks: bool arrays that tell the ids of punctuation.
"""

Masking = collections.namedtuple("Masking", [
    "whole_words", "share", "most_predictions", "max_ngram", "prefixed_labels"])
Masking.__doc__ = """How words are masked.

whole_words: words, not tokens; share: of the tokens; most_predictions: masked tokens of a record at
most; max_ngram: spans of up to so many words; prefixed_labels: predict the "##" entry of all but
the first character of a Chinese word."""

Cut = collections.namedtuple("Cut", ["start", "middle", "end", "is_swapped", "duplicate"])
Cut.__doc__ = """A chunk as two segments: tokens start to middle and middle to end of its unit."""

Instances = collections.namedtuple("Instances", [
    "ids", "word_starts", "offsets", "first_lengths", "is_swapped"])
Instances.__doc__ = """Instances before masking.

ids: int32 [N]; word_starts: bool [N], whether a token may open a span to mask, False at special
tokens; offsets: int64 [I + 1], where each instance starts and ends; first_lengths: int64 [I], how
many of its tokens have segment id 0; is_swapped: bool [I].
"""

Masked = collections.namedtuple("Masked", ["ids", "positions", "labels", "offsets"])
Masked.__doc__ = """Instances after masking.

ids: int32 [N]; positions: int64 [P], of all instances' masked tokens, each from the start of its
instance, ascending; labels: int32 [P], what is to be predicted there; offsets: int64 [I + 1], which
of them belong to an instance.
"""


def describe_vocabulary(tokenizer):
    """Returns the Entries of a tokenizer's vocabulary."""
    vocab = tokenizer.vocab
    twins = np.arange(len(vocab), dtype=np.int32)
    clause_marks, closing_marks = np.zeros(len(vocab), bool), np.zeros(len(vocab), bool)
    for token, number in vocab.items():
        twin = vocab.get(tokenization.WORD_PREFIX + token)
        if twin is not None and len(token) == 1 and tokenization.is_chinese_char(ord(token)):
            twins[number] = twin
        clause_marks[number] = token in CLAUSE_MARKS
        closing_marks[number] = token in CLOSING_MARKS
    return Entries(
        cls_id=tokenizer.cls_id, sep_id=tokenizer.sep_id, mask_id=tokenizer.mask_id,
        unk_id=tokenizer.unk_id, twins=twins, clause_marks=clause_marks,
        closing_marks=closing_marks,
        ordinary_ids=np.array(tokenization.ordinary_token_ids(tokenizer), np.int32))


def seeded(*numbers):
    """Returns a numpy.random.RandomState that depends on the given numbers alone."""
    digest = hashlib.sha256("/".join(map(str, numbers)).encode("ascii")).digest()
    return np.random.RandomState(np.frombuffer(digest[:16], "<u4").astype(np.uint32))


# ---------------------------------------------------------------------------------------------
# Document to chunks, chunk to two segments
# ---------------------------------------------------------------------------------------------

class Chunks(object):
    """The chunks of documents; made for a unit of them at a time."""

    def __init__(self, sentences, entries):
        """Prepares what cutting asks for.

        Args:
            sentences: words.Sentences of the unit.
            entries: Entries.
        """
        self._ends = np.unique(sentences.ends[sentences.ends > 0]).tolist()
        count = len(sentences.ids)
        self._word_starts = np.flatnonzero(sentences.word_starts).tolist()
        places = np.where(sentences.word_starts, np.arange(count), 0)
        self._last_start = np.append(np.maximum.accumulate(places), count).tolist()
        self._clause_ends = clause_ends(sentences, entries).tolist()

    def of_document(self, start, end, max_seq_length, short_share, generator):
        """Yields (start, middle, end, is_swapped) of the chunks of a document.

        Chunks of fewer than two tokens, which cannot be two segments, are left out.

        Args:
            start, end: the document's tokens in the unit.
            max_seq_length: tokens of a record; a chunk has 3 fewer at most.
            short_share: probability that a chunk gets a random, shorter length.
            generator: RandomState of the document.
        """
        longest = max_seq_length - SPECIALS_PER_INSTANCE
        while start < end:
            short, length, place, order = generator.random_sample(4).tolist()
            target = longest
            if short < short_share:
                target = SHORTEST_CHUNK + int(length * (longest - SHORTEST_CHUNK + 1))
            chunk_end = self._chunk_end(start, end, target)
            if chunk_end - start >= SHORTEST_CHUNK:
                yield start, self.cut(start, chunk_end, place), chunk_end, order < 0.5
            start = chunk_end

    def _chunk_end(self, start, end, target):
        """Returns where the chunk that starts at `start` ends.

        Sentences go in while they fit. The one that does not is cut behind its last clause mark
        that fits, or is left out, if the chunk is at least half full then; else behind its last
        whole word that fits.
        """
        limit = start + target
        if end <= limit:
            return end
        before = bisect.bisect_right(self._ends, limit) - 1
        whole = max(self._ends[before] if before >= 0 else 0, start)  # sentences that fit
        clause = max(_last_up_to(self._clause_ends, limit), whole)
        if clause - start >= max(SHORTEST_CHUNK, target // 2):
            return clause
        word = self._last_start[limit]
        return word if word > whole and word - start >= SHORTEST_CHUNK else limit

    def cut(self, start, end, draw):
        """Returns where a chunk is cut in two: at a sentence end drawn at random.

        A chunk of a single sentence is cut at the clause mark nearest its middle, else between
        words nearest the middle, else in the middle of its only word.

        Args:
            draw: number from 0 to below 1.

        Example: the sentence 他来了，我走。 becomes 他来了， and 我走。
        """
        first = bisect.bisect_right(self._ends, start)
        inside = bisect.bisect_left(self._ends, end) - first
        if inside > 0:
            return self._ends[first + int(draw * inside)]
        for places in (self._clause_ends, self._word_starts):
            place = _nearest_between(places, start, end)
            if place is not None:
                return place
        return start + (end - start) // 2


def _last_up_to(places, limit):
    """Returns the last of ascending places that is at most `limit`; 0 where there is none."""
    index = bisect.bisect_right(places, limit)
    return places[index - 1] if index else 0


def _nearest_between(places, start, end):
    """Returns the place between `start` and `end` (both excluded) nearest their middle, or None."""
    index = bisect.bisect_left(places, (start + end + 1) // 2)
    found = [place for place in places[max(index - 1, 0):index + 1] if start < place < end]
    return min(found, key=lambda place: abs(2 * place - start - end)) if found else None


def clause_ends(sentences, entries):
    """Returns the places inside sentences that follow a clause mark (and its closing quotes).

    Of several marks in a row the last one counts, and a place inside a word does not.

    Args:
        sentences: words.Sentences; entries: Entries.

    Returns:
        int64 array, ascending: the numbers of the tokens that follow.
    """
    ids, starts, ends = sentences
    count = len(ids)
    if not count:
        return np.zeros(0, np.int64)
    opens_sentence = np.zeros(count + 1, bool)
    opens_sentence[0] = opens_sentence[ends] = True
    places = np.arange(count)
    first_of_sentence = np.maximum.accumulate(np.where(opens_sentence[:-1], places, 0))
    is_closing = entries.closing_marks[ids]
    origin = np.maximum.accumulate(np.where(is_closing, 0, places))
    ends_clause = entries.clause_marks[ids[origin]] & (origin >= first_of_sentence)
    inside = ends_clause[:-1] & ~ends_clause[1:] & ~opens_sentence[1:-1] & starts[1:]
    return np.flatnonzero(inside) + 1


def assemble(sentences, cuts, entries):
    """Returns the Instances of a list of Cuts: [CLS] first [SEP] second [SEP] each.

    Example: 今天下雨。 and 我没有出门。 become one or the other of

        [CLS] 今天下雨。 [SEP] 我没有出门。 [SEP]    label 0
        [CLS] 我没有出门。 [SEP] 今天下雨。 [SEP]    label 1
    """
    starts, middles, ends, swapped = (
        np.array([cut[field] for cut in cuts], np.int64) for field in range(4))
    swapped = swapped.astype(bool)
    lengths = ends - starts
    firsts = np.where(swapped, ends - middles, middles - starts)
    offsets = np.append(0, np.cumsum(lengths + SPECIALS_PER_INSTANCE))
    count = offsets[-1]
    owner = np.repeat(np.arange(len(cuts)), lengths + SPECIALS_PER_INSTANCE)
    place = np.arange(count) - offsets[owner]  # in the instance
    in_first = (place >= 1) & (place <= firsts[owner])
    in_second = (place >= firsts[owner] + 2) & (place <= lengths[owner] + 1)
    first_source = np.where(swapped, middles, starts)
    second_source = np.where(swapped, starts, middles)
    source = np.where(in_first, first_source[owner] + place - 1,
                      second_source[owner] + place - 2 - firsts[owner])
    in_text = in_first | in_second
    source = np.where(in_text, source, 0)
    ids = np.where(in_text, sentences.ids[source], entries.sep_id).astype(np.int32)
    ids[offsets[:-1]] = entries.cls_id
    word_starts = in_text & sentences.word_starts[source]
    word_starts[offsets[:-1] + 1] = True
    word_starts[offsets[:-1] + firsts + 2] = True
    return Instances(ids, word_starts, offsets, firsts + 2, swapped)


# ---------------------------------------------------------------------------------------------
# Masking
# ---------------------------------------------------------------------------------------------

def mask(instances, draws, masking, entries):
    """Masks Instances.

    In random order words (or tokens, or n-grams of words) are taken until the wanted number of
    tokens is covered; one that would exceed it is passed over. Of each taken span all tokens become
    [MASK] in 80 % of the cases, random ordinary entries in 10 %, and stay in 10 %
    (https://arxiv.org/abs/1810.04805, section 3.1); the case is drawn once per span.

    Args:
        instances: Instances.
        draws: float [4, N], numbers from 0 to below 1, of which the tokens' are used: for the
            order, the case, the replacement, and the number of words of a span.
        masking: Masking; entries: Entries.

    Returns:
        Masked.
    """
    spans = _words_of(instances, masking.whole_words)
    limits = count_predictions(np.diff(instances.offsets), masking)
    keys = draws[0][spans.starts]
    order = np.lexsort((keys, spans.owners))
    if masking.max_ngram == 1:
        taken = _take_words(spans, order, limits)
        starts, ends, first = spans.starts[taken], spans.ends[taken], spans.starts[taken]
    else:
        starts, ends, first = _take_spans(spans, order, limits, draws[3], masking.max_ngram)
    lengths = ends - starts
    tokens = np.arange(lengths.sum()) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
    case = np.repeat(draws[1][first], lengths)
    by_place = np.argsort(tokens, kind="stable")
    tokens, case = tokens[by_place], case[by_place]
    ids = instances.ids.copy()
    labels = ids[tokens]
    if masking.prefixed_labels:
        labels = np.where(instances.word_starts[tokens], labels, entries.twins[labels])
    ids[tokens[case < 0.8]] = entries.mask_id
    at_random = tokens[(case >= 0.8) & (case < 0.9)]
    ids[at_random] = entries.ordinary_ids[
        (draws[2][at_random] * len(entries.ordinary_ids)).astype(np.int64)]
    owners = np.searchsorted(instances.offsets, tokens, side="right") - 1
    offsets = np.searchsorted(tokens, instances.offsets)
    return Masked(ids, tokens - instances.offsets[owners], labels, offsets)


def count_predictions(lengths, masking):
    """Returns how many of so many tokens (special ones counted) are to be predicted, at most."""
    shares = np.maximum(np.rint(lengths * masking.share), 1).astype(np.int64)
    return np.minimum(shares, masking.most_predictions)


_Words = collections.namedtuple("_Words", ["starts", "ends", "owners"])


def _words_of(instances, whole_words):
    """Returns the words (or tokens) of Instances: tokens `starts` to `ends`, of which instance."""
    count = instances.offsets[-1]
    is_special = np.zeros(count + 1, bool)
    is_special[instances.offsets] = True
    is_special[instances.offsets[1:] - 1] = True
    is_special[instances.offsets[:-1] + instances.first_lengths - 1] = True
    if whole_words:
        opens = instances.word_starts
    else:
        opens = ~is_special[:-1]
    bounds = np.flatnonzero(np.append(opens, False) | is_special)
    is_word = opens[bounds[:-1]]
    starts, ends = bounds[:-1][is_word], bounds[1:][is_word]
    owners = np.searchsorted(instances.offsets, starts, side="right") - 1
    return _Words(starts, ends, owners)


def _take_words(words, order, limits):
    """Returns which words are taken, in their order within each instance, until the limits.

    Equal to going through the words one by one. All that fit in a row are taken at once; after the
    first that does not, every word longer than what is left is dropped (it would never fit), and
    the rest is gone through again: few words, a few times.
    """
    lengths = words.ends - words.starts
    owners, room = words.owners[order], limits.copy()
    taken = []
    while len(order):
        sizes = lengths[order]
        total = np.cumsum(sizes)
        first = np.flatnonzero(np.diff(owners, prepend=-1))
        before = np.repeat(total[first] - sizes[first], np.diff(np.append(first, len(order))))
        exceeds = total - before > room[owners]
        # From the first that exceeds on, in each instance, none is taken in this round.
        blocked = _since_first(exceeds, first)
        taken.append(order[~blocked])
        room -= np.bincount(owners[~blocked], sizes[~blocked], len(room)).astype(np.int64)
        again = blocked & (sizes <= room[owners])
        order, owners = order[again], owners[again]
    return np.concatenate(taken) if taken else order


def _since_first(flags, first):
    """Tells which places have a True at or before them within their group.

    flags: bool [n]; first: where the groups start, ascending, the first one at 0.
    """
    counts = np.cumsum(flags)
    before = counts[first] - flags[first]
    return counts > np.repeat(before, np.diff(np.append(first, len(flags))))


def _take_spans(words, order, limits, draws, max_ngram):
    """Draws spans of words, in the order of their first words, until the limits are reached.

    A word that would exceed the limit is passed over. A span is shortened where it would exceed the
    limit, meet another span, or leave its segment: between the segments lies [SEP], so their words
    do not touch.

    Returns:
        (starts, ends, starts): of the spans, int64 arrays.
    """
    starts, ends, owners = (part.tolist() for part in words)
    counts = span_lengths(draws[words.starts], max_ngram).tolist()
    room, taken, spans = limits.tolist(), [False] * len(starts), []
    for number in order.tolist():
        owner = owners[number]
        start, end = starts[number], ends[number]
        if taken[number] or end - start > room[owner] or not room[owner]:
            continue
        taken[number] = True
        for following in range(number + 1, min(number + counts[number], len(starts))):
            if (taken[following] or starts[following] != end
                    or ends[following] - start > room[owner]):
                break
            taken[following] = True
            end = ends[following]
        spans.append((start, end))
        room[owner] -= end - start
    found = np.array(spans, np.int64).reshape([-1, 2])
    return found[:, 0], found[:, 1], found[:, 0]


def span_lengths(draws, max_ngram):
    """Returns numbers of words, 1 to N, with p(n) = (1/n) / (1/1 + ... + 1/N).

    ALBERT, https://arxiv.org/abs/1909.11942, section 4.1, equation 1.

    Args:
        draws: float array, numbers from 0 to below 1.
    """
    bounds = np.cumsum(1.0 / np.arange(1, max_ngram + 1))
    return 1 + np.searchsorted(bounds[:-1] / bounds[-1], draws, side="right")
