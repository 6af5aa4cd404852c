"""Tokens and their places: equal to the tokenizer's, and true to the original characters."""

import random
import sys
import unicodedata

import pytest
from helpers import train_spm
from random_text import random_text

import token_offsets
import tokenization
from token_offsets import Token


@pytest.fixture(scope="module", params=[True, False])
def tokenizer(request, vocab_file):
    return tokenization.FullTokenizer(vocab_file, do_lower_case=request.param)


def check(tokenizer, text):
    """Checks what holds for every text; returns its tokens."""
    tokens = token_offsets.tokenize(tokenizer, text)
    assert [token.text for token in tokens] == tokenizer.tokenize(text), repr(text)
    for before, after in zip(tokens, tokens[1:]):
        assert before.start <= after.start and before.end <= after.end, repr(text)
    for token in tokens:
        assert 0 <= token.start <= token.end <= len(text), repr(text)
        if not tokenizer.is_sentencepiece:
            assert token.start < token.end, repr(text)
    return tokens


def test_places_of_a_worked_example(vocab_file):
    tokenizer = tokenization.FullTokenizer(vocab_file)
    text = "  Ｘ《Cafe\u0301》\u3000２０天 unAFFable"
    found = token_offsets.tokenize(tokenizer, text)
    assert [(token.text, text[token.start:token.end]) for token in found] == [
        ("ｘ", "Ｘ"), ("《", "《"), ("cafe", "Cafe\u0301"), ("》", "》"), ("２０", "２０"),
        ("天", "天"), ("u", "u"), ("##na", "nA"), ("##ff", "FF"), ("##able", "able")]
    assert found[2] == Token("cafe", 4, 9)


def test_unknown_words_by_character(vocab_file):
    tokenizer = tokenization.FullTokenizer(vocab_file)
    for text, expected in (
            ("有😀😀", [("有", "有"), ("[UNK]", "😀"), ("[UNK]", "😀")]),
            ("unAFFable", [("u", "u"), ("##na", "nA"), ("##ff", "FF"), ("##able", "able")]),
            ("Ab\u200b😀", [("a", "A"), ("b", "b"), ("[UNK]", "😀")]),
            ("😀e\u0301\u0302", [("[UNK]", "😀"), ("e", "e\u0301\u0302")])):
        found = token_offsets.tokenize(tokenizer, text, unknown_by_character=True)
        assert [(token.text, text[token.start:token.end]) for token in found] == expected


def test_known_words_are_the_same_by_character(tokenizer):
    """Between the tokens that stand for unknown words, nothing changes; those become shorter."""
    rng = random.Random(8)
    for _ in range(1000):
        text = random_text(rng)
        whole = token_offsets.tokenize(tokenizer, text)
        parted = token_offsets.tokenize(tokenizer, text, unknown_by_character=True)
        unknown = [token for token in whole if token.text == tokenizer.unk_token]
        kept = [token for token in parted
                if not any(word.start <= token.start < word.end for word in unknown)]
        assert kept == [token for token in whole if token not in unknown], repr(text)
        for token in parted:
            if token.text == tokenizer.unk_token:
                rest = text[token.start + 1:token.end]
                assert all(unicodedata.category(char).startswith("M") for char in rest), repr(text)


@pytest.mark.parametrize("text, parts", [
    ("国\u200b家", ["国", "家"]),                # what is dropped belongs to no token
    ("e\u0301\u0302x", ["e\u0301\u0302x"]),      # marks belong to their letter
    ("☺\ufe0f好", ["☺\ufe0f", "好"]),
    ("👨\u200d👩\u200d👧。", ["👨\u200d👩\u200d👧", "。"]),
    ("\u1fef", ["\u1fef"]), ("≠", ["≠"]), ("豈", ["豈"]), ("İs", ["İs"])])
def test_characters_of_a_token(vocab_file, text, parts):
    tokenizer = tokenization.FullTokenizer(vocab_file)
    found = token_offsets.tokenize(tokenizer, text)
    spans = sorted({(token.start, token.end) for token in found})
    joined = [text[start:end] for start, end in spans]
    assert "".join(joined) == "".join(parts), joined


def test_every_character_by_itself_and_beside_others(tokenizer):
    # Of the many ideographs and syllables that are treated alike, some.
    chars = [chr(code) for code in range(sys.maxunicode + 1)
             if unicodedata.category(chr(code)) not in ("Cn", "Co", "Lo") or code % 50 == 0]
    random.Random(4).shuffle(chars)
    for start in range(0, len(chars), 500):
        check(tokenizer, "".join(chars[start:start + 500]))
        check(tokenizer, " ".join(chars[start:start + 500]))


def test_random_text_of_every_kind(tokenizer):
    rng = random.Random(5)
    for _ in range(3000):
        check(tokenizer, random_text(rng))


def test_tokens_hold_all_but_what_is_dropped(tokenizer):
    """What lies between tokens is what the tokenizer itself drops: it has no token of its own."""
    rng = random.Random(6)
    for _ in range(1000):
        text = random_text(rng)
        covered = set()
        for token in token_offsets.tokenize(tokenizer, text):
            covered.update(range(token.start, token.end))
        for place, char in enumerate(text):
            if place not in covered:
                assert not tokenizer.tokenize(char) or unicodedata.category(char) == "Mn", (
                    repr(text), place)


def test_sentencepiece(tmp_path):
    folder = tmp_path
    model = str(train_spm(folder))
    rng = random.Random(7)
    for lower in (True, False):
        tokenizer = tokenization.FullTokenizer(None, lower, model)
        for text in ("the unbelievable reader", " Reading  1990, books", "a\u0301b  Ｘ", "[MASK]"):
            check(tokenizer, text)
        found = token_offsets.tokenize(tokenizer, "The reader")
        pieces = [piece for piece in found if piece.start < piece.end]
        assert (pieces[0].start, pieces[-1].end) == (0, 10) and "".join(
            "The reader"[piece.start:piece.end] for piece in pieces) == "Thereader"
        found = token_offsets.tokenize(tokenizer, "a 😀😀b", unknown_by_character=True)
        assert [(token.start, token.end) for token in found if token.end > token.start] == [
            (0, 1), (2, 3), (3, 4), (4, 5)]
        for _ in range(300):
            check(tokenizer, random_text(rng, 12))


def test_a_sign_that_sentencepiece_respells_leaves_its_neighbours_their_places(tmp_path):
    """Signs that become a blank with a mark, syllables that are taken apart, what is dropped."""
    tokenizer = tokenization.FullTokenizer(None, True, str(train_spm(tmp_path)))
    for text, wanted in (
            ("他住在北京´，叫小明。", ("北京", "小明")), ("the￣reader", ("the", "reader")),
            ("한국the북경", ("the", "국", "북")), ("the\u200breader", ("the", "reader")),
            ("the\u2028\u200b\ufeff reader", ("the", "reader"))):
        found = token_offsets.tokenize(tokenizer, text, unknown_by_character=True)
        for part in wanted:
            start = text.index(part)
            inside = [token for token in found
                      if token.start < start + len(part) and token.end > start]
            assert inside and inside[0].start == start, (text, part, found)
            assert inside[-1].end == start + len(part), (text, part, found)
    rng = random.Random(9)
    for _ in range(500):
        signs = "".join(rng.choice("a读´¨¯￣゛‾한ＡÅß\u200b\u0301r") for _ in range(8))
        check(tokenizer, "读" + signs + "国")
        found = token_offsets.tokenize(tokenizer, "读" + signs + "国", unknown_by_character=True)
        places = [(token.start, token.end) for token in found if token.end > token.start]
        last = len(signs) + 1
        assert places[0][0] == 0 and (last, last + 1) == places[-1], (signs, found)
