"""Text to token ids that know where words begin, many sentences at a time.

Whole-word masking needs for every token whether it opens a word of the segmenter (jieba). The
tokenizer changes text (lower case, accents, control characters, [UNK] for whole words), so tokens
are not found again by searching for them. Instead the text is cut where the tokenizer is bound to
cut: at white space, at punctuation and around Chinese characters. What lies between keeps its
place in the text, and the tokens of all parts in a row are those of the whole text.

It is fast because a table of all characters holds the token of each that stands alone, which most
characters of Chinese text do; only letters and digits are looked up run by run. The ids are those
of tokenization.FullTokenizer, always.
"""

import collections
import functools
import string
import unicodedata
import warnings

import numpy as np
import tokenization
from errors import UserError

SEGMENTERS = ("auto", "jieba", "rjieba")

Sentences = collections.namedtuple("Sentences", ["ids", "word_starts", "ends"])
Sentences.__doc__ = """Several sentences, one after the other, as arrays.

ids: int32 [N], token ids; word_starts: bool [N], whether a token opens a word (the first one of a
sentence always does); ends: int64 [sentences], where each ends, which is where the next starts.
"""

NEW_LINE = ord("\n")


def load_reader(tokenizer, segment):
    """Returns the object whose `read(lines)` gives the Sentences of a list of texts.

    Args:
        tokenizer: FullTokenizer.
        segment: whether words are those of the segmenter: its name (see `load_segmenter`), or None
            where words are told by "##" (or "▁") alone.
    """
    if tokenizer.is_sentencepiece:
        return SentencePieceReader(tokenizer)
    return WordPieceReader(tokenizer, load_segmenter(segment) if segment else None)


class SentencePieceReader(object):
    """Reads sentences as SentencePiece ids; a word lasts until the next piece that opens with ▁."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def read(self, lines):
        """Returns the Sentences of texts."""
        ids, starts, ends = [], [], []
        for line in lines:
            tokens = self._tokenizer.tokenize(line)
            opens = [token.startswith(tokenization.SPM_WORD_START) for token in tokens]
            opens[:1] = [True] * len(opens[:1])
            ids.extend(self._tokenizer.convert_tokens_to_ids(tokens))
            starts.extend(opens)
            ends.append(len(ids))
        return Sentences(np.array(ids, np.int32), np.array(starts, bool), np.array(ends, np.int64))


# ---------------------------------------------------------------------------------------------
# WordPiece
# ---------------------------------------------------------------------------------------------

# What a character is to the tokenizer: not met yet; dropped before words are looked for; white
# space; one token whatever stands beside it, Chinese or not; a part of a run of letters, digits
# and the like; something else, whose stretch of text is tokenised in one go.
_NEW, _CONTROL, _BLANK, _CHINESE, _ALONE, _INSIDE, _ODD = range(7)


class WordPieceReader(object):
    """Reads sentences as WordPiece ids, each aligned to the word of the segmenter it lies in."""

    MOST_RUNS = 1 << 11   # runs are remembered; the memory is emptied when it is full
    LONGEST_RUN = 64

    def __init__(self, tokenizer, segmenter=None):
        """Takes a WordPiece FullTokenizer and a Segmenter, or None."""
        self._tokenizer = tokenizer
        self._segmenter = segmenter
        self._kinds = np.zeros(0x110000, np.uint8)
        self._ids = np.zeros(0x110000, np.int32)
        self._runs = {}

    def read(self, lines):
        """Returns the Sentences of texts without line breaks."""
        text = "\n".join(lines)
        codes = code_points(text)
        kinds = self._kinds_of(codes)
        if (kinds == _CONTROL).any():
            text = text.translate(_WITHOUT_CONTROL)
            codes = code_points(text)
            kinds = self._kinds[codes]
        if (kinds == _ODD).any():
            kinds = _as_runs(kinds)
        ids, continues, firsts, lasts = self._tokens(text, codes, kinds)
        new_lines = np.flatnonzero(codes == NEW_LINE)
        ends = np.append(np.searchsorted(firsts, new_lines), len(ids))[:len(lines)]
        starts = ~continues
        if self._segmenter is not None:
            words = np.cumsum(self._segmenter.word_starts(text, codes))
            starts[1:] &= words[firsts[1:]] != words[lasts[:-1]]
        firsts_of_lines = np.append(0, ends[:-1])
        starts[firsts_of_lines[firsts_of_lines < len(ids)]] = True
        return Sentences(ids, starts, ends.astype(np.int64))

    def _tokens(self, text, codes, kinds):
        """Returns arrays: ids, whether one continues a word, first and last character of each.

        The characters are those of the part of the text that a token came from.
        """
        inside = kinds == _INSIDE
        edges = np.flatnonzero(np.diff(inside.astype(np.int8), prepend=0, append=0))
        run_starts, run_ends = edges[0::2], edges[1::2]
        runs = [self._tokens_of_run(text[start:end])
                for start, end in zip(run_starts.tolist(), run_ends.tolist())]
        counts = ((kinds == _CHINESE) | (kinds == _ALONE)).astype(np.int64)
        alone = np.flatnonzero(counts)
        counts[run_starts] = [len(tokens) for tokens, _ in runs]
        last_character = np.arange(len(codes))
        last_character[run_starts] = run_ends - 1
        firsts = np.repeat(np.arange(len(codes)), counts)
        offsets = np.cumsum(counts) - counts
        ids, continues = np.empty(len(firsts), np.int32), np.zeros(len(firsts), bool)
        ids[offsets[alone]] = self._ids[codes[alone]]
        is_run = inside[firsts]
        ids[is_run] = [number for tokens, _ in runs for number in tokens]
        continues[is_run] = [flag for _, flags in runs for flag in flags]
        return ids, continues, firsts, last_character[firsts]

    def _tokens_of_run(self, run):
        """Returns (ids, whether each continues a word) of a run of characters."""
        known = self._runs.get(run)
        if known is None:
            tokens = self._tokenizer.tokenize(run)
            known = (self._tokenizer.convert_tokens_to_ids(tokens),
                     [tokenization.strip_word_prefix(token) != token for token in tokens])
            if len(run) <= self.LONGEST_RUN:
                if len(self._runs) >= self.MOST_RUNS:
                    self._runs.clear()
                self._runs[run] = known
        return known

    def _kinds_of(self, codes):
        """Returns the kind of each character, finding out about those not met before."""
        kinds = self._kinds[codes]
        if not kinds.all():
            for code in np.unique(codes[kinds == _NEW]).tolist():
                self._kinds[code], self._ids[code] = self._ask_tokenizer(chr(code))
            kinds = self._kinds[codes]
        return kinds

    def _ask_tokenizer(self, char):
        """Returns (kind, id or 0) of a character; the tokenizer is shown it between letters."""
        if char == "\n":
            return _BLANK, 0
        if _is_dropped(char):
            return _CONTROL, 0
        if self._tokenizer.do_lower_case and char == _SIGMA:
            return _ODD, 0
        words = self._tokenizer.basic_tokenizer.tokenize("a" + char + "a")
        if words == ["a", "a"]:
            return _BLANK, 0
        if len(words) == 1:
            return _INSIDE, 0
        ids = self._tokenizer.convert_tokens_to_ids(self._tokenizer.tokenize(char))
        if len(words) == 3 and words[0] == words[2] == "a" and len(ids) == 1:
            return (_CHINESE if tokenization.is_chinese_char(ord(char)) else _ALONE), ids[0]
        return _ODD, 0


def _as_runs(kinds):
    """Makes each stretch with an odd character in it, between blanks and Chinese, one run.

    Such a stretch is tokenised as a whole and its tokens share its place. Odd are a character that
    becomes several words, and the capital sigma, whose lower case depends on what is beside it.
    """
    kinds = kinds.copy()
    apart = (kinds == _BLANK) | (kinds == _CHINESE)
    stretch = np.cumsum(apart)
    odd = np.unique(stretch[kinds == _ODD])
    kinds[np.isin(stretch, odd) & ~apart] = _INSIDE
    return kinds


def code_points(text):
    """Returns the characters of a text as numbers, uint32 [characters]."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _is_dropped(char):
    return char not in "\t\n\r" and unicodedata.category(char) in ("Cc", "Cf")


class _WithoutControl(dict):
    """Table for str.translate that drops control and format characters, as the tokenizer does."""

    def __missing__(self, code_point):
        self[code_point] = None if _is_dropped(chr(code_point)) else code_point
        return self[code_point]


_SIGMA = "\u03a3"
_WITHOUT_CONTROL = _WithoutControl()


# ---------------------------------------------------------------------------------------------
# Segmentation
# ---------------------------------------------------------------------------------------------

# What jieba takes for a stretch to segment; every other character is a word of its own.
_HAN = (0x4E00, 0x9FD5)
_LATIN = string.ascii_letters + string.digits + "+#&._%-"


@functools.lru_cache(maxsize=None)
def load_segmenter(name="auto"):
    """Returns the Segmenter: "jieba"; "rjieba" (the package must be there); "auto": if it is."""
    fast = None
    if name != "jieba":
        try:
            import rjieba
            fast = rjieba.cut
        except ImportError as error:
            if name == "rjieba":
                raise UserError("--segmenter=rjieba needs the package rjieba: pip install rjieba "
                                "(or --segmenter=auto)") from error
    return Segmenter(fast)


class Segmenter(object):
    """jieba's words; found by rjieba, in Rust, where its answer is jieba's.

    jieba segments each stretch of Chinese characters, ASCII letters and digits on its own. Where
    such a stretch is Chinese characters alone, rjieba (the same dictionary, the same algorithm)
    gives the same words; all others, such as "3.14公里", are jieba's to segment, for there rjieba
    has rules of its own.
    """

    MOST_STRETCHES = 1 << 10

    def __init__(self, fast=None):
        """fast: rjieba's `cut`; None: jieba does it all."""
        self._fast = fast
        self._known = {}

    def word_starts(self, text, codes):
        """Tells for every character of a text whether a word starts there, bool [characters].

        Args:
            text: str, of several sentences; codes: its `code_points`.
        """
        han = (codes >= _HAN[0]) & (codes <= _HAN[1])
        latin = np.zeros(len(codes), bool)
        low = codes < 128
        latin[low] = _IS_LATIN[codes[low]]
        edges = np.flatnonzero(np.diff((han | latin).astype(np.int8), prepend=0, append=0))
        starts, ends = edges[0::2], edges[1::2]
        opens = ~(han | latin)
        opens[starts] = True
        counts = np.append(0, np.cumsum(latin))
        by_jieba = counts[ends] > counts[starts]
        if self._fast is None:
            by_jieba[:] = True
        for start, end in zip(starts[by_jieba].tolist(), ends[by_jieba].tolist()):
            opens[[start + place for place in self._places(text[start:end])]] = True
        if not by_jieba.all():
            self._by_rjieba(codes, starts[~by_jieba], ends[~by_jieba], opens)
        return opens

    def _places(self, stretch):
        """Returns where the words of a stretch start, by jieba."""
        known = self._known.get(stretch)
        if known is None:
            known, place = [], 0
            for word in load_jieba()(stretch):
                known.append(place)
                place += len(word)
            if len(self._known) >= self.MOST_STRETCHES:
                self._known.clear()
            self._known[stretch] = known
        return known

    def _by_rjieba(self, codes, starts, ends, opens):
        """Marks the words of stretches of Chinese characters."""
        lengths = ends - starts + 1  # with a line break after each, which is a word of its own
        places = np.arange(lengths.sum()) - np.repeat(
            np.cumsum(lengths) - lengths - starts, lengths)
        is_break = places == np.repeat(ends, lengths)
        places[is_break] = 0
        characters = np.where(is_break, NEW_LINE, codes[places])
        words = self._fast(characters.astype("<u4").tobytes().decode("utf-32-le"))
        word_lengths = np.fromiter(map(len, words), np.int64, len(words))
        at = np.cumsum(word_lengths) - word_lengths
        at = at[~is_break[at]]
        opens[places[at]] = True


_IS_LATIN = np.zeros(128, bool)
_IS_LATIN[[ord(char) for char in _LATIN]] = True


@functools.lru_cache(maxsize=None)
def load_jieba():
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
