"""Tokens together with the characters of the original text that each of them stands for.

The tokens are exactly `tokenizer.tokenize(text)`, unless unknown words are asked for by their
characters; what the tokenizer drops or changes on the way (blanks, control characters, accents,
capitals, full-width forms) is traced back to its place.
"""

import collections
import itertools
import unicodedata

import tokenization

Token = collections.namedtuple("Token", ["text", "start", "end"])
Token.__doc__ = """A token and the characters it stands for: original[start:end].

Characters that belong to no token (blanks, control characters) lie between the tokens; a mark that
joins the letter before it, such as a combining accent, belongs to that letter's token."""


def tokenize(tokenizer, text, unknown_by_character=False):
    """Tokenizes a text and tells where in it each token stands.

    Args:
        tokenizer: tokenization.FullTokenizer, WordPiece or SentencePiece.
        text: string.
        unknown_by_character: give a word (or a SentencePiece's run) that the vocabulary cannot
            write a token for each of its characters, [UNK] where it is no entry either: two emoji
            side by side are one word, and a part of it could else not be told from the whole.

    Returns:
        list of Token, in order, none overlapping another except where several pieces stand for
        one character, or for a word that the vocabulary cannot write otherwise.

    tokenize(tokenizer, " Café 天") == [Token("cafe", 1, 5), Token("天", 6, 7)]
    tokenize(tokenizer, "😀😀", True) == [Token("[UNK]", 0, 1), Token("[UNK]", 1, 2)]
    """
    if tokenizer.is_sentencepiece:
        return _sentencepiece_tokens(tokenizer, text, unknown_by_character)
    tokens = []
    for word, places in _traced_words(tokenizer.basic_tokenizer, text):
        pieces = tokenizer.wordpiece_tokenizer.split_words([word])
        if unknown_by_character and pieces == [tokenizer.unk_token]:
            tokens.extend(_characters(tokenizer, word, places))
        elif len(pieces) == 1:  # the whole word, maybe as an unknown one
            tokens.append(Token(pieces[0], places[0], places[-1] + 1))
        else:
            tokens.extend(_placed(pieces, places))
    return _with_joined_marks(tokens, text)


def _placed(pieces, places):
    """Gives each of the pieces of a word its characters.

    Args:
        pieces: list of strings, "##" before all but the first.
        places: for each of the word's characters its place in the text.
    """
    tokens, done = [], 0
    for number, piece in enumerate(pieces):
        end = done + len(tokenization.strip_word_prefix(piece) if number else piece)
        tokens.append(Token(piece, places[done], places[end - 1] + 1))
        done = end
    return tokens


def _characters(tokenizer, letters, places):
    """Returns a token for each original character of an unknown word.

    Args:
        letters: the word as the tokenizer has it, several letters for some characters.
        places: for each of the letters the place in the text of its character.
    """
    tokens = []
    for place, group in itertools.groupby(zip(places, letters), key=lambda pair: pair[0]):
        char = "".join(letter for _, letter in group)
        tokens.append(Token(char if char in tokenizer.vocab else tokenizer.unk_token,
                            place, place + 1))
    return tokens


def _with_joined_marks(tokens, text):
    """Extends tokens over the marks behind them that the tokenizer has dropped."""
    for number, token in enumerate(tokens):
        limit = tokens[number + 1].start if number + 1 < len(tokens) else len(text)
        end = token.end
        while end < limit and unicodedata.category(text[end]).startswith("M"):
            end += 1
        if end > token.end:
            tokens[number] = token._replace(end=end)
    return tokens


# ---------------------------------------------------------------------------------------------
# WordPiece
# ---------------------------------------------------------------------------------------------

# What becomes of a character: `text` in the word that it stands in, and whether a word ends
# before it or behind it.
_Fate = collections.namedtuple("_Fate", ["words", "ends_before", "ends_after"])


class _Fates(dict):
    """What the tokenizer makes of a character, found out by asking it once for each."""

    def __init__(self, basic_tokenizer):
        super(_Fates, self).__init__()
        self._basic = basic_tokenizer

    def __missing__(self, char):
        # Between two letters that never change, so that it is seen what parts them.
        words = self._basic.tokenize("a" + char + "a")
        if len(words) == 1:
            fate = _Fate([words[0][1:-1]], False, False)
        else:
            ends_before, ends_after = words[0] == "a", words[-1] == "a"
            middle = list(words)
            middle[0], middle[-1] = middle[0][1:], middle[-1][:-1]
            fate = _Fate([word for word in middle if word], ends_before, ends_after)
        self[char] = fate
        return fate


_FATES = {}  # by whether a tokenizer lower-cases: its words depend on nothing else


def _fates_of(basic_tokenizer):
    key = basic_tokenizer.do_lower_case
    if key not in _FATES:
        _FATES[key] = _Fates(basic_tokenizer)
    return _FATES[key]


def _traced_words(basic_tokenizer, text):
    """Returns the words of a text as the basic tokenizer has them: list of (word, places).

    places: for each of the word's characters, the place in the text of that which it comes from.
    """
    fates, lengths, places = _fates_of(basic_tokenizer), [], []
    within = False  # whether the next character goes on with the word before it
    for place, char in enumerate(text):
        words, ends_before, ends_after = fates[char]
        within = within and not ends_before
        for number, word in enumerate(words):
            if not word:
                continue
            if within and number == 0:
                lengths[-1] += len(word)
            else:
                lengths.append(len(word))
            places.extend([place] * len(word))
            within = True
        within = within and not ends_after
    # Which letters a word holds may depend on its neighbours (a final sigma, the order of accents
    # that follow one another); how many it holds does not.
    words = basic_tokenizer.tokenize(text)
    if list(map(len, words)) != lengths:
        raise ValueError("the words of %r cannot be traced" % text[:80])
    traced, done = [], 0
    for word in words:
        traced.append((word, places[done:done + len(word)]))
        done += len(word)
    return traced


# ---------------------------------------------------------------------------------------------
# SentencePiece
# ---------------------------------------------------------------------------------------------

def _sentencepiece_tokens(tokenizer, text, unknown_by_character):
    """As `tokenize`; the pieces of a blank-separated stretch are those of the whole text."""
    tokens = []
    for start, end in _stretches(text):
        stretch = text[start:end]
        places, spelt = [], ""
        for place, char in enumerate(stretch, start=start):
            normal = _spelt(char, tokenizer)
            places.extend([place] * len(normal))
            spelt += normal
        whole = _spelt(stretch, tokenizer)
        pieces = tokenizer.tokenize(stretch)
        bare = [_spelt(piece.replace(tokenization.SPM_WORD_START, ""), tokenizer)
                for piece in pieces]
        if not places:  # the model makes something of what is dropped otherwise
            tokens.extend(Token(piece, start, end) for piece in pieces)
            continue
        # Which letters a stretch holds may depend on their neighbours.
        ranges = _ranges("".join(bare), whole if len(whole) == len(spelt) else spelt, places)
        placed = _pieces_with_word_start(pieces, bare, ranges)
        tokens.extend(_split_unknown(tokenizer, placed, bare, ranges)
                      if unknown_by_character else placed)
    return _with_joined_marks(tokens, text)


def _spelt(text, tokenizer):
    """Returns a text's normal form without blanks, which some marks become a part of: ´, ￣."""
    return tokenization.normalize_for_spm(text, tokenizer.do_lower_case).replace(" ", "")


def _ranges(letters, spelt, places):
    """Returns for each of the pieces' letters the range of the characters that it stands for.

    Where the model's own normalisation has changed a text, so that its pieces no longer spell it,
    all letters between those that are the same stand for all characters between.

    Args:
        letters: all that the pieces hold; spelt: the letters of the text, one at least.
        places: for each letter of the text the place of its character.

    Returns:
        list of (place of the first character, place after the last one).
    """
    most = min(len(letters), len(spelt))
    same = next((number for number in range(most) if letters[number] != spelt[number]), most)
    most -= same
    after = next((number for number in range(most)
                  if letters[-1 - number] != spelt[-1 - number]), most)
    rest = len(places) - after
    middle = places[same:rest] or [places[min(same, len(places) - 1)]]
    exact = [(place, place + 1) for place in places]
    return exact[:same] + [(middle[0], middle[-1] + 1)] * (len(letters) - same - after) + (
        exact[rest:])


def _pieces_with_word_start(pieces, bare, ranges):
    """Gives each piece its characters; a lone word start stands for none, before what follows.

    Within a range that several letters share, all stand for the whole range.
    """
    tokens, done, end = [], 0, 0
    for piece, letters in zip(pieces, bare):
        first = ranges[done][0] if done < len(ranges) else ranges[-1][1]
        end = ranges[done + len(letters) - 1][1] if letters else max(first, end)
        tokens.append(Token(piece, first, end))
        done += len(letters)
    return tokens


def _split_unknown(tokenizer, tokens, bare, ranges):
    """Parts the tokens that are runs of unknown characters into these; as `tokenize` has it.

    Args:
        tokens, bare: of each piece its Token, and its letters without a word start.
        ranges: for each of all the letters the range of its characters.
    """
    found, done = [], 0
    for token, letters in zip(tokens, bare):
        own = ranges[done:done + len(letters)]
        if len(letters) > 1 and token.text not in tokenizer.vocab and all(
                end == first + 1 for first, end in own):
            found.extend(_characters(tokenizer, letters, [first for first, _ in own]))
        else:
            found.append(token)
        done += len(letters)
    return found


def _stretches(text):
    """Yields (start, end) of what lies between blanks."""
    start = None
    for place, char in enumerate(text):
        if char.isspace():
            if start is not None:
                yield start, place
            start = None
        elif start is None:
            start = place
    if start is not None:
        yield start, len(text)
