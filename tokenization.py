"""Text to tokens to ids: BERT's WordPiece, and ALBERT's SentencePiece, behind one tokenizer.

WordPiece is exactly BERT's (https://arxiv.org/abs/1810.04805, section 3), SentencePiece is that
of ALBERT (https://arxiv.org/abs/1909.11942, section 3.1). Which characters count as punctuation
or accents, and how letters are lower-cased, is the Unicode version of the running Python's.
"""

import collections
import itertools
import re
import unicodedata

import files
from console import say
from errors import UserError

WORD_PREFIX = "##"          # WordPiece: this piece continues a word
SPM_WORD_START = "\u2581"   # SentencePiece: "▁" opens a word

# Names of the five special entries, in the order pad, unk, cls, sep, mask.
WORDPIECE_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SPM_ENDINGS = (".model", ".spm")
SETTINGS_FILE = "tokenizer_config.json"  # of transformers, and of converted models
KEPT_AS = ("vocab.txt", "spm.model")  # names beside a checkpoint: WordPiece, SentencePiece
SPM_SPECIALS = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")

_SPECIAL = re.compile(r"\[[A-Za-z]\w*\]|</?[sST]>|<(pad|unk|mask)>")

_CHINESE_BLOCKS = (
    (0x4E00, 0x9FFF),    # CJK Unified Ideographs
    (0x3400, 0x4DBF),    # extension A
    (0x20000, 0x2A6DF),  # extension B
    (0x2A700, 0x2B73F),  # extension C
    (0x2B740, 0x2B81F),  # extension D
    (0x2B820, 0x2CEAF),  # extension E
    (0xF900, 0xFAFF),    # compatibility ideographs
    (0x2F800, 0x2FA1F),  # their supplement
)


class FullTokenizer(object):
    """Splits text into vocabulary entries and maps them to ids.

    WordPiece by default; SentencePiece when `spm_model_file` is given.

    Attributes:
        file: the vocabulary or SentencePiece model that it was made from.
        vocab: ordered dict of token to id; inv_vocab: dict of id to token.
        pad_token, unk_token, cls_token, sep_token, mask_token: names of the special entries
            ("[PAD]" or "<pad>", ...); pad_id, unk_id, cls_id, sep_id, mask_id: their ids.
        is_sentencepiece: whether a word is marked by a leading "▁" rather than by "##" inside it.
    """

    def __init__(self, vocab_file, do_lower_case=True, spm_model_file=None):
        """Loads the vocabulary.

        Args:
            vocab_file: one entry a line, its id is the line's number from 0; ignored, and may be
                None, when `spm_model_file` is given.
            do_lower_case: whether to lower-case; for WordPiece also whether to strip accents.
            spm_model_file: optional SentencePiece model, which holds its own vocabulary.

        Raises:
            UserError: a file is missing, unreadable or no vocabulary; names file and line.
        """
        self.do_lower_case = do_lower_case
        self.is_sentencepiece = bool(spm_model_file)
        self.file = spm_model_file if self.is_sentencepiece else vocab_file
        if self.is_sentencepiece:
            self.sp_model = load_spm_model(spm_model_file)
            self.vocab = pieces_of(self.sp_model, spm_model_file)
        else:
            self.vocab = load_vocab(vocab_file)
            self.basic_tokenizer = BasicTokenizer(do_lower_case)
            self.wordpiece_tokenizer = WordpieceTokenizer(self.vocab)
        self.inv_vocab = {number: token for token, number in self.vocab.items()}
        self._name_specials(SPM_SPECIALS if self.is_sentencepiece else WORDPIECE_SPECIALS)

    def _name_specials(self, names):
        missing = [name for name in names if name not in self.vocab]
        if missing:
            raise UserError(
                "%s lacks the special %s %s: give the vocabulary that the model was trained with"
                % (self.file, "entry" if len(missing) == 1 else "entries", ", ".join(missing)))
        self.pad_token, self.unk_token, self.cls_token, self.sep_token, self.mask_token = names
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self.vocab[name] for name in names)

    def tokenize(self, text):
        """Returns the list of tokens of `text` (str, or UTF-8 bytes); every text has one.

        Special tokens written out in the text, such as "[MASK]", are split like any text.
        """
        if self.is_sentencepiece:
            return spm_pieces(self.sp_model, text, self.do_lower_case)
        return self.wordpiece_tokenizer.split_words(self.basic_tokenizer.tokenize(text))

    def convert_tokens_to_ids(self, tokens):
        """Returns the list of ids.

        A SentencePiece piece that the model does not know (it hands out unknown characters as
        they are) gets the id of <unk>. WordPiece has already written [UNK] for what it does not
        know, so a token outside the vocabulary is an error there.

        Raises:
            UserError: a WordPiece token is not in the vocabulary; names the token.
        """
        if self.is_sentencepiece:
            return [self.vocab.get(token, self.unk_id) for token in tokens]
        try:
            return list(map(self.vocab.__getitem__, tokens))
        except KeyError as error:
            raise UserError("token %r is not in the vocabulary %s: tokens must come from "
                            "tokenize() with this vocabulary" % (error.args[0], self.file)
                            ) from error

    def convert_ids_to_tokens(self, ids):
        """Returns the list of tokens; UserError names an id that the vocabulary does not have."""
        try:
            return [self.inv_vocab[number] for number in ids]
        except KeyError as error:
            raise UserError("id %s is not in the vocabulary %s, whose ids go from 0 to %d"
                            % (error.args[0], self.file, len(self.vocab) - 1)) from error


# ---------------------------------------------------------------------------------------------
# What the creation of training data asks about tokens
# ---------------------------------------------------------------------------------------------

def is_special(token):
    """Whether a token is a mark rather than text: [CLS], [unused7], <pad>, <S>, ..."""
    return _SPECIAL.fullmatch(token) is not None


def strip_word_prefix(token):
    """Returns the token without WordPiece's mark: strip_word_prefix("##x") == "x"."""
    if token.startswith(WORD_PREFIX) and len(token) > len(WORD_PREFIX):
        return token[len(WORD_PREFIX):]
    return token


def is_chinese_char(code_point):
    """Whether a code point lies in one of the CJK ideograph blocks (no kana, no hangul)."""
    return any(first <= code_point <= last for first, last in _CHINESE_BLOCKS)


def ordinary_token_ids(tokenizer):
    """Returns the ids of entries that text is made of, ascending: candidates for replacement.

    Left out are special and unused entries, "##" twins of Chinese characters (text never yields
    them, as each Chinese character is a word of its own) and entries that are only white space.
    """
    if tokenizer.is_sentencepiece:
        model = tokenizer.sp_model
        return [number for token, number in tokenizer.vocab.items()
                if not (is_special(token) or model.is_control(number) or model.is_unused(number)
                        or model.is_unknown(number) or model.is_byte(number))]
    return [number for token, number in tokenizer.vocab.items() if _is_ordinary(token)]


def _is_ordinary(token):
    text = strip_word_prefix(token)
    if not text.strip() or is_special(token):
        return False
    return text == token or not any(is_chinese_char(ord(char)) for char in text)


# ---------------------------------------------------------------------------------------------
# WordPiece
# ---------------------------------------------------------------------------------------------

class BasicTokenizer(object):
    """Splits text into words at white space, punctuation and around Chinese characters.

    The steps are BERT's. Each runs over the whole text at C speed instead of word by word; the
    result is the same because no step looks across a space: lower-casing (whose final sigma
    depends on the letters around it) and the decomposition of accents both stop there.
    """

    def __init__(self, do_lower_case=True):
        self.do_lower_case = do_lower_case

    def tokenize(self, text):
        """Returns the words of `text`: "Ça va,中国!" -> ["ca", "va", ",", "中", "国", "!"]."""
        return self.set_apart(self.clean(text)).split()

    @staticmethod
    def clean(text):
        """Returns `text` without control characters, Chinese characters between blanks."""
        return convert_to_unicode(text).translate(_CLEAN)

    def set_apart(self, text):
        """Returns a clean text with punctuation between blanks; lower-cased, without accents."""
        if self.do_lower_case:
            return unicodedata.normalize("NFD", text.lower()).translate(_WITHOUT_ACCENTS)
        return text.translate(_WITH_ACCENTS)


class WordpieceTokenizer(object):
    """Splits words into the longest vocabulary entries, from left to right."""

    def __init__(self, vocab, unk_token="[UNK]", max_input_chars_per_word=200):
        self.vocab = vocab
        self.unk_token = unk_token
        self.max_input_chars_per_word = max_input_chars_per_word
        self._longest_entry = max(map(len, vocab)) if vocab else 0
        self._known_words = _WordCache(self._split_word)

    def tokenize(self, text):
        """Splits at white space, then into pieces: "unaffable" -> ["un", "##aff", "##able"].

        A word that cannot be made of entries, or is longer than `max_input_chars_per_word`, is
        one `unk_token`.
        """
        return self.split_words(convert_to_unicode(text).split())

    def split_words(self, words):
        """Returns the pieces of a list of words, one after the other."""
        return list(itertools.chain.from_iterable(map(self._known_words.__getitem__, words)))

    def _split_word(self, word):
        if len(word) > self.max_input_chars_per_word:
            return (self.unk_token,)
        pieces, start = [], 0
        while start < len(word):
            prefix = WORD_PREFIX if start else ""
            end = self._end_of_longest_piece(word, start, prefix)
            if end is None:
                return (self.unk_token,)
            pieces.append(prefix + word[start:end])
            start = end
        return tuple(pieces)

    def _end_of_longest_piece(self, word, start, prefix):
        for end in range(min(len(word), start + self._longest_entry), start, -1):
            if prefix + word[start:end] in self.vocab:
                return end
        return None


def load_vocab(vocab_file):
    """Reads a vocabulary file into an ordered dict of token to id (the line's number from 0).

    Lines end in "\\n" or "\\r\\n" alone, since the entry of line 344 of the Chinese vocabulary is
    the character U+2028. Blanks and tabs around an entry are dropped; an empty line within the
    file keeps its id, as in BERT; empty lines at the end count for nothing.

    Raises:
        UserError: the file is missing, empty or not UTF-8, or an entry comes twice.
    """
    files.require_file(vocab_file, "vocab_file")
    entries = [line.strip(" \t") for _, line in files.read_lines(vocab_file)]
    while entries and not entries[-1]:
        entries.pop()
    vocab = collections.OrderedDict()
    for number, token in enumerate(entries):
        if token in vocab:
            raise UserError(
                "%s line %d repeats the entry %r of line %d: each must be unique, as its line is "
                "its id" % (vocab_file, number + 1, token, vocab[token] + 1))
        vocab[token] = number
    return vocab


def convert_to_unicode(text):
    """Returns `text` as str; bytes are read as UTF-8, and what is not UTF-8 in them is skipped.

    Raises:
        TypeError: `text` is neither str nor bytes.
    """
    if isinstance(text, str):
        return text
    if isinstance(text, bytes):
        return text.decode("utf-8", "ignore")
    raise TypeError("a text must be str or bytes, not %s" % type(text).__name__)


def printable_text(text):
    """Returns `text` in the form that print takes; kept for scripts written for BERT."""
    return convert_to_unicode(text)


class _CharacterTable(dict):
    """Table for str.translate that asks `rule(char)` once for each character it meets."""

    def __init__(self, rule):
        super(_CharacterTable, self).__init__()
        self._rule = rule

    def __missing__(self, code_point):
        self[code_point] = replacement = self._rule(chr(code_point))
        return replacement


class _WordCache(dict):
    """Remembers the pieces of words; emptied when full, so that any corpus fits into memory."""

    MOST_WORDS = 1 << 14
    LONGEST_WORD = 64

    def __init__(self, split):
        super(_WordCache, self).__init__()
        self._split = split

    def __missing__(self, word):
        pieces = self._split(word)
        if len(word) <= self.LONGEST_WORD:
            if len(self) >= self.MOST_WORDS:
                self.clear()
            self[word] = pieces
        return pieces


def _clean(char):
    """Drops control characters but for white space, sets Chinese characters apart."""
    if char in "\t\n\r":
        return " "
    if char == "\ufffd" or unicodedata.category(char) in ("Cc", "Cf"):
        return ""
    return " %s " % char if is_chinese_char(ord(char)) else char


def _set_punctuation_apart(char):
    # BERT counts every ASCII symbol ("$", "^", "`", ...) as punctuation, Unicode does not.
    is_ascii_symbol = "!" <= char <= "~" and not char.isalnum()
    is_punctuation = is_ascii_symbol or unicodedata.category(char).startswith("P")
    return " %s " % char if is_punctuation else char


def _drop_accents_and_set_punctuation_apart(char):
    return "" if unicodedata.category(char) == "Mn" else _set_punctuation_apart(char)


_CLEAN = _CharacterTable(_clean)
_WITH_ACCENTS = _CharacterTable(_set_punctuation_apart)
_WITHOUT_ACCENTS = _CharacterTable(_drop_accents_and_set_punctuation_apart)


# ---------------------------------------------------------------------------------------------
# SentencePiece
# ---------------------------------------------------------------------------------------------

def from_file(path, do_lower_case=True):
    """Returns the FullTokenizer of a file, which its name tells to be of the one kind or other."""
    is_spm = is_spm_file(path)
    return FullTokenizer(None if is_spm else path, do_lower_case, path if is_spm else None)


def require_fits(tokenizer, vocab_size):
    """Raises UserError when a vocabulary has more entries than the embedding table has rows."""
    sizes = "%s has %d entries, the configuration's vocab_size is %d" % (
        tokenizer.file, len(tokenizer.vocab), vocab_size)
    if len(tokenizer.vocab) > vocab_size:
        raise UserError(sizes + "; use the vocabulary that belongs to the model (--vocab_file)")
    if len(tokenizer.vocab) < vocab_size:
        say("WARNING: %s: is it the vocabulary of this model?" % sizes)


def is_spm_file(path):
    """Tells a SentencePiece model from a WordPiece vocabulary, by its name."""
    return path.endswith(SPM_ENDINGS)


def load_spm_model(spm_model_file):
    """Returns the sentencepiece.SentencePieceProcessor of a model file.

    Raises:
        UserError: the package or the file is missing, or the file is no SentencePiece model.
    """
    files.require_file(spm_model_file, "spm_model_file")
    try:
        import sentencepiece
    except ImportError as error:
        raise UserError("--spm_model_file needs the package sentencepiece: "
                        "pip install sentencepiece") from error
    with files.open_binary(spm_model_file) as stream:
        content = stream.read()
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=content)
    except RuntimeError as error:
        raise UserError("--spm_model_file=%s is not a SentencePiece model: name the .model file "
                        "that spm_train wrote" % spm_model_file) from error


def pieces_of(model, path):
    """Returns an ordered dict of piece to id; UserError when the model at `path` is damaged."""
    pieces = collections.OrderedDict()
    for number in range(len(model)):
        try:
            piece = model.id_to_piece(number)
        except UnicodeDecodeError as error:
            raise UserError("--spm_model_file=%s is damaged: its piece %d is no text; copy or "
                            "download it again" % (path, number)) from error
        pieces.setdefault(piece, number)
    return pieces


def spm_pieces(model, text, do_lower_case):
    """Returns the pieces of `text`, as the slow AlbertTokenizer of transformers<5 gives them.

    Two things differ: runs of `` and '' are left as they are, and a special token written out in
    the text is text (its characters, or <unk> where the model has no pieces for them).
    Pieces that end in a digit and a comma are split again, so that numbers look alike whatever
    follows: "▁1990," -> ["▁1990", ","].
    """
    pieces = []
    for piece in model.encode(normalize_for_spm(text, do_lower_case), out_type=str):
        if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit():
            pieces.extend(_split_digits_from_comma(model, piece))
        elif piece in SPM_SPECIALS:
            # The model hands out a run of unknown characters as one piece; "[MASK]" may be one.
            pieces.append(model.id_to_piece(model.unk_id()))
        else:
            pieces.append(piece)
    return pieces


def normalize_for_spm(text, do_lower_case):
    """Returns a text as SentencePiece models get it: blanks, accents, lower case."""
    text = " ".join(convert_to_unicode(text).split())
    if do_lower_case:
        # Once before the decomposition, letter by letter (so no final sigma), and once after
        # it: that is what the reference does, and a few letters come out differently otherwise.
        text = text.replace("\u03a3", "\u03c3").lower()
    text = unicodedata.normalize("NFKD", text).translate(_WITHOUT_COMBINING)
    return text.lower() if do_lower_case else text


def _split_digits_from_comma(model, piece):
    digits = model.encode(piece[:-1].replace(SPM_WORD_START, ""), out_type=str)
    # The model opens every text with "▁"; keep it only where the piece had it.
    if digits and not piece.startswith(SPM_WORD_START) and digits[0].startswith(SPM_WORD_START):
        digits[0] = digits[0][len(SPM_WORD_START):]
    return [digit for digit in digits if digit] + [","]


def _drop_combining(char):
    if "\ud800" <= char <= "\udfff":
        return "\ufffd"  # half a surrogate pair has no UTF-8 form, which the model works on
    return "" if unicodedata.combining(char) else char


_WITHOUT_COMBINING = _CharacterTable(_drop_combining)
