"""Tests of the tokenizers against Hugging Face's, a letter-by-letter BERT and worked examples."""

import io
import json
import os
import pickle
import random
import subprocess
import sys
import unicodedata

import pytest

import tokenization
from errors import UserError
from tokenization import BasicTokenizer, FullTokenizer, WordpieceTokenizer

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

# Text that asks for trouble; every entry is tokenised by all implementations alike.
HOSTILE = [
    "", " ", "\t\n\r", "\u3000\u00a0\u2003", "a\u0000b\ufffdc\u200bd\ufeffe\u00adf",
    "\u0085x\u0085y",
    "a\u2028b\u2029c", "x\u1680y", "\u202egnp.exe", "中\u200d国",
    "ＡＢＣ１２３，。！", "ｱｲｳ ｶﾞ", "한국어 조선",
    "ÀÉÎÕÜ ñ Ç ß ẞ ſ ŉ İstanbul ı ǅ ﬁ ﬃ", "e\u0301\u0323\u0302 \u0301\u0301",
    "\u03a9mega \u2126 \u00c5 \u212b",
    "नमस्ते ไทย עברית العربية", "𝒳𝔘 🅰 👍🏽 👩‍👩‍👧‍👦 🇨🇳 🔥",
    "\uf900\ufa0e \U0002f800 㐀䶵 𠀀𪛖 𪜀 𫝀", "〇〡〢々〆ヶ㈱㊣㎏Ⅷ½²",
    "http://a.b/c?d=e&f=g#h", "x_y-z=1+1<2>3|4~5^6`7$8", "C++/C#/.NET",
    "don't won't ‘q’ “q” «q» …—–·",
    "¥€£¢§©®°±×÷", "1,234.56% -7e-10", "中a国b文123字", "ab" * 49, "a." * 200, "。" * 300,
    "unaffable HELLOworld iPhone6s", "[] ][ [ ] # ## ### ##中 ##ing", "\u2028",
    "\u0000", "\\n \\u4e2d",
]

LONG_ENGLISH = "pneumonoultramicroscopicsilicovolcanoconiosis"


def full(vocab_file, lower=True):
    return FullTokenizer(vocab_file, lower)


@pytest.fixture(scope="module")
def tokenizer(vocab_file):
    return FullTokenizer(vocab_file)


def hugging_face(vocab_file, lower):
    tokenizers = pytest.importorskip("tokenizers")
    return tokenizers.BertWordPieceTokenizer(vocab_file, lowercase=lower)


def hugging_face_tokens(reference, texts):
    return [e.tokens for e in reference.encode_batch(texts, add_special_tokens=False)]


def write(path, content):
    with io.open(str(path), "wb") as stream:
        stream.write(content if isinstance(content, bytes) else content.encode("utf-8"))
    return str(path)


# ---------------------------------------------------------------------------------------------
# A letter-by-letter BERT: slow, and written down step by step from the paper's description
# ---------------------------------------------------------------------------------------------

def naive_words(text, lower):
    cleaned = []
    for char in text:
        category = unicodedata.category(char)
        if char in " \t\n\r" or category == "Zs":
            cleaned.append(" ")
        elif category in ("Cc", "Cf") or ord(char) in (0, 0xFFFD):
            continue
        elif tokenization.is_chinese_char(ord(char)):
            cleaned.extend([" ", char, " "])
        else:
            cleaned.append(char)
    words = []
    for word in "".join(cleaned).split():
        if lower:
            decomposed = unicodedata.normalize("NFD", word.lower())
            word = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        current = ""
        for char in word:
            ascii_symbol = ord(char) < 128 and not char.isalnum()
            if ascii_symbol or unicodedata.category(char)[0] == "P":
                words.extend([current, char])
                current = ""
            else:
                current += char
        words.append(current)
    return " ".join(words).split()


def naive_pieces(word, vocab, limit=200):
    if len(word) > limit:
        return ["[UNK]"]
    pieces, rest = [], word
    while rest:
        prefix = "##" if pieces else ""
        lengths = [n for n in range(len(rest), 0, -1) if prefix + rest[:n] in vocab]
        if not lengths:
            return ["[UNK]"]
        pieces.append(prefix + rest[:lengths[0]])
        rest = rest[lengths[0]:]
    return pieces


def naive_tokens(text, vocab, lower):
    return [piece for word in naive_words(text, lower) for piece in naive_pieces(word, vocab)]


# ---------------------------------------------------------------------------------------------
# WordPiece: equal to other implementations
# ---------------------------------------------------------------------------------------------

REAL_TEXT = [("corpus", "people_daily_199801.txt", 20), ("lcqmc", "dev.txt", 5),
             ("clue", "tnews/dev.json", 10), ("clue", "iflytek/dev.json", 10),
             ("clue", "csl/dev.json", 10), ("cmrc2018", "dev.json", 1)]


def real_lines(shared_data, folder, name, every):
    path = os.path.join(shared_data, folder, name)
    if not os.path.isfile(path):
        pytest.skip("no file %s" % path)
    with io.open(path, encoding="utf-8", newline="\n") as stream:
        return [line[:4000] for line in list(stream)[::every]]


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("folder, name, every", REAL_TEXT)
def test_real_text_gives_the_ids_of_hugging_face(
        vocab_file, shared_data, folder, name, every, lower):
    # Private-use characters (bullets of some app descriptions) are the one difference met in
    # real text: see test_known_differences_of_hugging_face.
    lines = [line for line in real_lines(shared_data, folder, name, every)
             if not any(unicodedata.category(c) == "Co" for c in line)]
    assert lines
    ours = full(vocab_file, lower)
    expected = hugging_face(vocab_file, lower).encode_batch(lines, add_special_tokens=False)
    for line, encoding in zip(lines, expected):
        assert ours.convert_tokens_to_ids(ours.tokenize(line)) == encoding.ids, line


@pytest.mark.parametrize("lower", [True, False])
def test_hostile_text_gives_the_tokens_of_hugging_face_and_of_a_naive_bert(vocab_file, lower):
    ours = full(vocab_file, lower)
    texts = HOSTILE + ["a%sb %s中%s" % (t, t, t) for t in HOSTILE]
    # Rust reads U+0085 as white space where BERT drops a control character: no difference either,
    # as it drops it before it looks for white space.
    for text, expected in zip(texts, hugging_face_tokens(hugging_face(vocab_file, lower), texts)):
        assert ours.tokenize(text) == expected, repr(text)
        assert ours.tokenize(text) == naive_tokens(text, ours.vocab, lower), repr(text)


@pytest.mark.parametrize("lower", [True, False])
def test_every_old_character_is_treated_as_hugging_face_does(vocab_file, lower):
    # Characters as old as Unicode 3.2 that never changed their category: newer ones depend on the
    # Unicode tables of Python (11 in 3.7, 14 in 3.11) and of the Rust program (about 8).
    old = unicodedata.ucd_3_2_0
    stable = [chr(c) for c in range(0x110000)
              if old.category(chr(c)) == unicodedata.category(chr(c)) not in ("Cn", "Co", "Cs")]
    assert len(stable) > 90000
    # Ideographs and syllables in masses behave alike: some of them will do.
    sample = [c for c in stable if unicodedata.category(c) != "Lo" or ord(c) % 16 == 0]
    ours = full(vocab_file, lower)
    texts = ["a%sb%sx" % (c, c) for c in sample]
    for text, expected in zip(texts, hugging_face_tokens(hugging_face(vocab_file, lower), texts)):
        assert ours.tokenize(text) == expected, ascii(text)


@pytest.mark.parametrize("lower", [True, False])
def test_every_kind_of_character_equals_a_naive_bert(vocab_file, lower):
    generator = random.Random(3)
    ours = full(vocab_file, lower)
    for start in range(0, 0x30000, 64):
        chars = [chr(c) for c in range(start, start + 64)]
        generator.shuffle(chars)  # surrogate halves included: Python's str may hold them
        text = "".join(c + generator.choice(["", "", " ", "a", "Σ"]) for c in chars)
        assert ours.basic_tokenizer.tokenize(text) == naive_words(text, lower), ascii(text)


def test_known_differences_of_hugging_face(vocab_file):
    """Where the Rust tokenizers part from BERT, this project follows BERT."""
    ours = full(vocab_file)

    def both(text):
        reference = hugging_face(vocab_file, True)
        return ours.tokenize(text), hugging_face_tokens(reference, [text])[0]

    # Words of 101 to 200 characters: its limit is 100.
    assert both("ab" * 60) == (naive_tokens("ab" * 60, ours.vocab, True), ["[UNK]"])
    assert len(ours.tokenize("ab" * 60)) > 1
    # Special tokens written out in a text: a text cannot forge them here.
    assert both("[MASK]") == (["[", "ma", "##sk", "]"], ["[MASK]"])
    # Private use: dropped there, a character like others (and unknown) in BERT.
    assert both("a \uf06c b") == (["a", "[UNK]", "b"], ["a", "b"])
    # First block of CJK extension E: left out there by a slip (0x2B920 for 0x2B820).
    assert both("a\U0002b820b") == (["a", "[UNK]", "b"], ["[UNK]"])
    # Final sigma: lower-cased letter by letter there.
    assert both("αΣ") == (["α", "##ς"], ["α", "##σ"])
    # Characters younger than its Unicode tables: punctuation of Unicode 9 here.
    assert both("a\u2e43b") == (["a", "[UNK]", "b"], ["[UNK]"])
    # A mark that its tables of accents lack.
    assert both("a\u0afab") == (["ab"], ["[UNK]"])


@pytest.mark.parametrize("lower", [True, False])
def test_random_mixtures_equal_a_naive_bert(vocab_file, lower):
    generator = random.Random(7)
    alphabet = sorted(set("".join(HOSTILE))) + list("abcABC123,.!中国\U000e0001\ud800")
    ours = full(vocab_file, lower)
    for _ in range(1500):
        text = "".join(generator.choice(alphabet) for _ in range(generator.randint(1, 40)))
        assert ours.tokenize(text) == naive_tokens(text, ours.vocab, lower), ascii(text)


# ---------------------------------------------------------------------------------------------
# WordPiece: worked examples
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, words", [
    ("Ça va,中国!", ["ca", "va", ",", "中", "国", "!"]),
    (" \tHeLLo!how  \n Are yoU?  ", ["hello", "!", "how", "are", "you", "?"]),
    ("a\x00b\x07c\ufffdd", ["abcd"]),
    ("$1^2`3", ["$", "1", "^", "2", "`", "3"]),
    ("カタカナ", ["カタカナ"]),
    ("2019年1月", ["2019", "年", "1", "月"]),
])
def test_basic_tokenizer(text, words):
    assert BasicTokenizer().tokenize(text) == words


def test_basic_tokenizer_keeps_case_and_accents_when_told_to():
    assert BasicTokenizer(do_lower_case=False).tokenize("Ça Va中") == ["Ça", "Va", "中"]


def test_wordpiece_takes_the_longest_entry_from_the_left():
    vocab = {token: i for i, token in enumerate(
        ["[UNK]", "want", "##want", "##ed", "wa", "un", "runn", "##ing", "una", "##ffable"])}
    pieces = WordpieceTokenizer(vocab)
    assert pieces.tokenize("") == []
    assert pieces.tokenize(" unwanted running ") == ["un", "##want", "##ed", "runn", "##ing"]
    assert pieces.tokenize("unwantedX running") == ["[UNK]", "runn", "##ing"]
    assert pieces.tokenize("unaffable") == ["una", "##ffable"]
    assert WordpieceTokenizer(vocab, unk_token="?").tokenize("zz") == ["?"]
    assert WordpieceTokenizer(vocab, max_input_chars_per_word=5).tokenize("wanted want") == [
        "[UNK]", "want"]


@pytest.mark.parametrize("length, unknown", [(200, False), (201, True)])
def test_a_word_over_200_characters_is_unknown(tokenizer, length, unknown):
    assert (tokenizer.tokenize("a" * length) == ["[UNK]"]) is unknown


def test_literal_special_tokens_are_split_like_text(tokenizer):
    assert tokenizer.tokenize("x[MASK]y [CLS]") == [
        "x", "[", "ma", "##sk", "]", "y", "[", "cl", "##s", "]"]
    for token in SPECIALS:
        assert not set(tokenizer.tokenize(token)) & set(SPECIALS)


def test_ids_and_tokens_turn_into_each_other(tokenizer):
    tokens = ["[CLS]"] + tokenizer.tokenize("我爱北京 unaffable") + ["[SEP]", "[PAD]", "[MASK]"]
    ids = tokenizer.convert_tokens_to_ids(tokens)
    assert ids[0] == 101 and ids[-3:] == [102, 0, 103]
    assert tokenizer.convert_ids_to_tokens(ids) == tokens
    numpy = pytest.importorskip("numpy")
    assert tokenizer.convert_ids_to_tokens(numpy.array(ids, "int32")) == tokens


def test_an_unknown_token_and_an_unknown_id_are_named(tokenizer):
    with pytest.raises(UserError, match="'nosuchtoken'.*vocab.txt"):
        tokenizer.convert_tokens_to_ids(["我", "nosuchtoken"])
    with pytest.raises(UserError, match="21128.*0 to 21127"):
        tokenizer.convert_ids_to_tokens([1, 21128])


def test_bytes_are_read_as_utf8(tokenizer):
    assert tokenizer.tokenize("我 Go".encode("utf-8")) == ["我", "go"]
    assert tokenization.convert_to_unicode(b"a\xffb") == "ab"
    assert tokenization.printable_text(u"中".encode("utf-8")) == "中"
    with pytest.raises(TypeError, match="int"):
        tokenizer.tokenize(3)


def test_the_cache_of_words_is_bounded_and_changes_nothing(vocab_file, monkeypatch):
    monkeypatch.setattr(tokenization._WordCache, "MOST_WORDS", 10)
    ours = full(vocab_file)
    text = " ".join("w%d %s" % (i % 23, LONG_ENGLISH * (i % 3)) for i in range(100))
    assert ours.tokenize(text) == naive_tokens(text, ours.vocab, True)
    cache = ours.wordpiece_tokenizer._known_words
    assert 0 < len(cache) <= 10
    assert max(map(len, cache)) <= 64


def test_a_tokenizer_can_be_sent_to_another_process(tokenizer):
    tokenizer.tokenize("some words first")
    copy = pickle.loads(pickle.dumps(tokenizer))
    text = "some words, 新的 and old"
    assert copy.tokenize(text) == tokenizer.tokenize(text)


def test_neither_tensorflow_nor_sentencepiece_is_imported(root, vocab_file):
    script = ("import sys, tokenization; tokenization.FullTokenizer(%r).tokenize('x'); "
              "assert not {'tensorflow', 'sentencepiece'} & set(sys.modules)" % vocab_file)
    assert subprocess.call([sys.executable, "-c", script], cwd=root) == 0


# ---------------------------------------------------------------------------------------------
# Vocabulary files
# ---------------------------------------------------------------------------------------------

def test_the_chinese_vocabulary_keeps_its_ids(tokenizer):
    vocab = tokenizer.vocab
    assert len(vocab) == len(tokenizer.inv_vocab) == 21128
    assert list(vocab.values()) == list(range(21128))
    assert vocab["\u2028"] == 343 and vocab["##\u2028"] == 13502
    assert [vocab[token] for token in SPECIALS] == [0, 100, 101, 102, 103]
    assert tokenizer.inv_vocab[21127] == "##😎"


def test_special_tokens_by_name(tokenizer):
    names = ["pad", "unk", "cls", "sep", "mask"]
    assert [getattr(tokenizer, n + "_token") for n in names] == SPECIALS
    assert [getattr(tokenizer, n + "_id") for n in names] == [0, 100, 101, 102, 103]


@pytest.mark.parametrize("content", [
    "\n".join(SPECIALS + ["中", "\u2028", "\u0085", "a"]) + "\n",
    "\n".join(SPECIALS + ["中", "\u2028", "\u0085", "a"]),
    "\r\n".join(SPECIALS + ["中", "\u2028", "\u0085", "a"]) + "\r\n\r\n",
    "\ufeff" + " \n".join(SPECIALS + ["\t中", "\u2028", "\u0085", "a"]) + "\n \n",
], ids=["unix", "no last line end", "windows", "byte order mark and blanks"])
def test_forms_of_a_vocabulary_file(tmp_path, content):
    ours = FullTokenizer(write(tmp_path / "vocab.txt", content))
    assert list(ours.vocab) == SPECIALS + ["中", "\u2028", "\u0085", "a"]
    assert ours.convert_tokens_to_ids(ours.tokenize("A中b")) == [8, 5, 1]


def test_an_empty_line_within_a_vocabulary_keeps_its_id(tmp_path):
    path = write(tmp_path / "vocab.txt", "\n".join(SPECIALS) + "\n\n中\n")
    assert tokenization.load_vocab(path)["中"] == 6
    assert tokenization.ordinary_token_ids(FullTokenizer(path)) == [6]


@pytest.mark.parametrize("content, message", [
    ("", "vocab.txt is empty"),
    ("\n".join(SPECIALS + ["中", "a", "中"]), "vocab.txt line 8 repeats the entry '中' of line 6"),
    ("\n".join(SPECIALS[:3]), r"vocab.txt lacks the special entries \[SEP\], \[MASK\]"),
    ("\n".join(SPECIALS[1:]), r"vocab.txt lacks the special entry \[PAD\]"),
    ("\n\n\n", "vocab.txt lacks the special entries"),
    (u"[PAD]\n[UNK]\n中文\n".encode("gb18030"), "vocab.txt line 3 is not UTF-8.*GB18030"),
])
def test_a_bad_vocabulary_is_named(tmp_path, content, message):
    path = write(tmp_path / "vocab.txt", content)
    with pytest.raises(UserError, match=message):
        FullTokenizer(path)


def test_a_missing_vocabulary_is_named(tmp_path):
    with pytest.raises(UserError, match="--vocab_file=.*nothing.txt does not exist"):
        FullTokenizer(str(tmp_path / "nothing.txt"))
    with pytest.raises(UserError, match="--vocab_file=.* is a folder"):
        FullTokenizer(str(tmp_path))
    with pytest.raises(UserError, match="--vocab_file is missing"):
        FullTokenizer(None)


# ---------------------------------------------------------------------------------------------
# What the creation of training data asks
# ---------------------------------------------------------------------------------------------

def test_is_special():
    special = SPECIALS + ["[unused1]", "[unused99]", "<pad>", "<unk>", "<s>", "</s>", "<S>", "<T>"]
    assert all(map(tokenization.is_special, special))
    ordinary = ["[", "]", "[]", "中", "mask", "##s", "<", "<b>", "▁[CLS]", "[CLS]x", "[MASK]\n", ""]
    assert not any(map(tokenization.is_special, ordinary))


def test_strip_word_prefix():
    stripped = {"##ing": "ing", "##中": "中", "ing": "ing", "#": "#", "##": "##", "###": "#"}
    assert {token: tokenization.strip_word_prefix(token) for token in stripped} == stripped


def test_is_chinese_char():
    inside = [0x3400, 0x4DBF, 0x4E00, 0x9FFF, 0xF900, 0xFAFF, 0x20000, 0x2A6DF, 0x2A700, 0x2B73F,
              0x2B740, 0x2B81F, 0x2B820, 0x2CEAF, 0x2F800, 0x2FA1F]
    outside = [0x41, 0x33FF, 0x4DC0, 0x3042, 0xAC00, 0xF8FF, 0xFB00, 0x1FFFF, 0x2A6E0, 0x2CEB0,
               0x2F7FF, 0x2FA20, 0x3007]
    assert all(map(tokenization.is_chinese_char, inside))
    assert not any(map(tokenization.is_chinese_char, outside))


def test_ordinary_entries_of_the_chinese_vocabulary(tokenizer):
    ids = tokenization.ordinary_token_ids(tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(ids)
    # Left out: 5 special, <S>, <T>, 99 unused, 7321 twins, one more twin from extension A (㗎)
    # and the two entries of U+2028.
    assert len(ids) == 21128 - 5 - 2 - 99 - 7321 - 1 - 2
    assert ids == sorted(set(ids))
    assert {"中", "，", "the", "##ing", "##カ"} <= set(tokens)
    assert not {"[PAD]", "[unused1]", "<S>", "##中", "\u2028"} & set(tokens)


# ---------------------------------------------------------------------------------------------
# SentencePiece
# ---------------------------------------------------------------------------------------------

SPM_WORDS = [
    "the", "of", "model", "albert", "language", "cat", "dog", "runs", "fast", "Beijing", "Paris",
    "don't", "中国", "北京", "大学", "研究", "经济", "发展", "人民", "市场",
    "(", ")", "-", '"', "'", "`", "，。"]

TRAIN_SPM = """
import json, sys, sentencepiece
sentencepiece.SentencePieceTrainer.train(**json.loads(sys.argv[1]))
"""


def spm_sentences():
    generator = random.Random(1)
    for _ in range(500):
        yield "%s, in %d, and %d,%03d items at %d, %d." % (
            " ".join(generator.choice(SPM_WORDS) for _ in range(8)),
            generator.choice([1990, 2008, 2019]), generator.randint(1, 9),
            generator.randint(0, 999), generator.randint(0, 9), generator.randint(0, 99))


def train_spm(folder, **settings):
    """Trains a model on `spm_sentences`, in its own process: beside TensorFlow 1.15 it crashes."""
    pytest.importorskip("sentencepiece")
    prefix = os.path.join(str(folder), "small")
    settings.update(
        input=write(prefix + ".txt", "\n".join(spm_sentences())), model_prefix=prefix,
        hard_vocab_limit=False, num_threads=1, minloglevel=2)
    subprocess.check_call([sys.executable, "-c", TRAIN_SPM, json.dumps(settings)])
    return prefix + ".model"


@pytest.fixture(scope="module")
def spm_model_file(tmp_path_factory):
    """A small model with the special pieces of ALBERT's and with pieces such as "▁9,"."""
    return train_spm(
        tmp_path_factory.mktemp("spm"), vocab_size=320, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
        pad_piece="<pad>", unk_piece="<unk>", control_symbols=["[CLS]", "[SEP]", "[MASK]"],
        split_by_unicode_script=False, split_by_number=False)


def albert_tokenizer(spm_model_file, lower):
    transformers = pytest.importorskip("transformers")
    if int(transformers.__version__.split(".")[0]) >= 5:
        pytest.skip("AlbertTokenizer of transformers 5 is another program")
    return transformers.AlbertTokenizer(
        spm_model_file, do_lower_case=lower, keep_accents=False, remove_space=True)


SPM_HOSTILE = HOSTILE + [
    "In 1990, there were 3,456 items, 9, 8,7,6, 12,345,678, and ٣, ²,", "1990,,, 2008,中国,9,",
    "the\u2581cat \u2581 \u2581\u2581", "NAÏVE Café ﬁne Ａｌｂｅｒｔ ①②",
    "αΣ ΟΔΟΣ ΟΔΟΣ㎏ 𝚨𝚺 Σ", "\ue000\uf06c",
    " the  cat\u2028runs\u0085fast\x1cin\x1fcity ", "☃☃ the ☃", "`a' ` '", "İI\u0307 ıẞ",
    "𝐀ℬℂ", "a" * 300,
]


@pytest.mark.parametrize("lower", [True, False])
def test_sentencepiece_equals_the_slow_albert_tokenizer(spm_model_file, lower):
    ours = FullTokenizer(None, lower, spm_model_file)
    reference = albert_tokenizer(spm_model_file, lower)
    for text in SPM_HOSTILE + list(spm_sentences())[:100]:
        expected = reference.tokenize(text)
        assert ours.tokenize(text) == expected, ascii(text)
        assert ours.convert_tokens_to_ids(expected) == reference.convert_tokens_to_ids(expected)


@pytest.mark.parametrize("lower", [True, False])
def test_sentencepiece_on_random_mixtures_and_on_every_bmp_character(spm_model_file, lower):
    generator = random.Random(5)
    ours = FullTokenizer(None, lower, spm_model_file)
    reference = albert_tokenizer(spm_model_file, lower)
    alphabet = sorted(set("".join(SPM_HOSTILE))) + list("0123456789,,,,  中国the")
    texts = ["".join(generator.choice(alphabet) for _ in range(30)) for _ in range(300)]
    usable = [chr(c) for c in range(1, 0x10000) if not 0xD800 <= c < 0xE000]
    texts += ["a".join(usable[i:i + 100]) for i in range(0, len(usable), 100)]
    for text in texts:
        text = text.replace("``", "").replace("''", "")
        assert ours.tokenize(text) == reference.tokenize(text), ascii(text)


def test_the_digit_and_comma_rule_is_at_work(spm_model_file):
    ours = FullTokenizer(None, True, spm_model_file)
    text = "in 9, the"
    plain = ours.sp_model.encode(text, out_type=str)
    assert "▁9," in plain, "the model must hold such a piece for these tests to mean much"
    at = plain.index("▁9,")
    digits = ours.sp_model.encode("9", out_type=str)
    assert ours.tokenize(text) == plain[:at] + digits + [","] + plain[at + 1:]


def test_runs_of_quotes_stay(spm_model_file):
    ours = FullTokenizer(None, True, spm_model_file)
    tokens = ours.tokenize("``the cat''")
    assert "".join(tokens).replace("▁", " ").strip() == "``the cat''"
    assert '"' in "".join(albert_tokenizer(spm_model_file, True).tokenize("``the cat''"))


def test_special_pieces_and_unknown_pieces_of_sentencepiece(spm_model_file):
    ours = FullTokenizer("ignored.txt", True, spm_model_file)
    assert [ours.pad_token, ours.unk_token, ours.cls_token, ours.sep_token, ours.mask_token] == [
        "<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    assert [ours.pad_id, ours.unk_id, ours.cls_id, ours.sep_id, ours.mask_id] == [0, 1, 2, 3, 4]
    assert ours.is_sentencepiece
    tokens = ours.tokenize("the ☃")
    assert tokens[-1] == "☃" and ours.convert_tokens_to_ids(tokens)[-1] == 1
    assert ours.convert_ids_to_tokens([2, 3]) == ["[CLS]", "[SEP]"]
    assert list(ours.vocab.values()) == list(range(len(ours.sp_model)))
    with pytest.raises(UserError, match="id 99999"):
        ours.convert_ids_to_tokens([99999])


@pytest.mark.parametrize("lower", [True, False])
def test_a_text_cannot_forge_special_pieces(spm_model_file, lower):
    ours = FullTokenizer(None, lower, spm_model_file)
    for token in ["[CLS]", "[SEP]", "[MASK]", "<pad>"]:
        assert token in ours.vocab
        assert ours.vocab[token] not in ours.convert_tokens_to_ids(
            ours.tokenize("the %s%s cat" % (token, token)) + ours.tokenize(token))


@pytest.mark.parametrize("text", ["the\ud83d cat", "\udc00", "中\udfff国\ud800"])
def test_half_a_surrogate_pair_is_a_broken_character(spm_model_file, tokenizer, text):
    # JSON may hold one; Python's str takes it, but UTF-8, on which the model works, cannot.
    repaired = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    pieces = FullTokenizer(None, True, spm_model_file)
    assert pieces.tokenize(text) == pieces.tokenize(repaired)
    assert "[UNK]" in tokenizer.tokenize(text)


def test_ordinary_pieces_leave_out_control_and_unknown_ones(spm_model_file):
    ours = FullTokenizer(None, True, spm_model_file)
    ids = tokenization.ordinary_token_ids(ours)
    assert ids == list(range(5, len(ours.vocab)))


def test_a_sentencepiece_tokenizer_can_be_sent_to_another_process(spm_model_file):
    ours = FullTokenizer(None, True, spm_model_file)
    copy = pickle.loads(pickle.dumps(ours))
    assert copy.tokenize("the cat, 1990,") == ours.tokenize("the cat, 1990,")


def test_a_bad_model_file_is_named(tmp_path, spm_model_file, vocab_file):
    with pytest.raises(UserError, match="--spm_model_file=.*none.model does not exist"):
        FullTokenizer(None, True, str(tmp_path / "none.model"))
    with pytest.raises(UserError, match="spm_model_file=.*vocab.txt is not a SentencePiece model"):
        FullTokenizer(None, True, vocab_file)
    with io.open(spm_model_file, "rb") as stream:
        cut = write(tmp_path / "cut.model", stream.read()[:-100])
    with pytest.raises(UserError, match="cut.model is not a SentencePiece model"):
        FullTokenizer(None, True, cut)


def test_a_model_without_alberts_special_pieces_is_named(tmp_path):
    path = train_spm(tmp_path, vocab_size=150)
    with pytest.raises(UserError, match=r"small.model lacks .*<pad>, \[CLS\], \[SEP\], \[MASK\]"):
        FullTokenizer(None, True, path)


def test_a_missing_package_is_named(monkeypatch, spm_model_file):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UserError, match="pip install sentencepiece"):
        FullTokenizer(None, True, spm_model_file)


# ---------------------------------------------------------------------------------------------
# Properties that hold for any text
# ---------------------------------------------------------------------------------------------

hypothesis = pytest.importorskip("hypothesis")
strategies = hypothesis.strategies

any_text = strategies.one_of(
    strategies.text(strategies.characters(), max_size=60),
    strategies.lists(strategies.sampled_from(SPM_HOSTILE), max_size=3).map("".join))
few = hypothesis.settings(
    max_examples=150, deadline=None, database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture,
                           hypothesis.HealthCheck.too_slow])


@few
@hypothesis.given(text=any_text, lower=strategies.booleans())
def test_any_text_gives_entries_of_the_vocabulary(vocab_file, text, lower):
    ours = cached(vocab_file, lower)
    tokens = ours.tokenize(text)
    assert all(tokens)
    assert all(0 <= i < len(ours.vocab) for i in ours.convert_tokens_to_ids(tokens))
    assert tokens == naive_tokens(text, ours.vocab, lower)


@few
@hypothesis.given(text=any_text, blanks=strategies.text(" \t\n\r\u3000\u200b\x00", max_size=5))
def test_surrounding_white_space_changes_nothing(vocab_file, text, blanks):
    ours = cached(vocab_file, True)
    assert ours.tokenize(blanks + text + blanks) == ours.tokenize(text)


@few
@hypothesis.given(text=any_text, lower=strategies.booleans())
def test_tokens_joined_give_the_cleaned_text(vocab_file, text, lower):
    ours = cached(vocab_file, lower)
    tokens = ours.tokenize(text)
    cleaned = "".join(c for c in text if c in "\t\n\r" or (
        c != "\ufffd" and unicodedata.category(c) not in ("Cc", "Cf")))
    if lower:
        cleaned = "".join(c for c in unicodedata.normalize("NFD", cleaned.lower())
                          if unicodedata.category(c) != "Mn")
    cleaned = "".join(cleaned.split())
    words = ours.basic_tokenizer.tokenize(text)
    assert "".join(words) == cleaned
    if "[UNK]" not in tokens:
        assert "".join(t[2:] if ours.vocab[t] in continued(ours) else t for t in tokens) == cleaned


@few
@hypothesis.given(text=any_text, lower=strategies.booleans())
def test_any_text_gives_pieces_of_the_model(spm_model_file, text, lower):
    ours = cached(None, lower, spm_model_file)
    tokens = ours.tokenize(text)
    assert all(tokens)
    ids = ours.convert_tokens_to_ids(tokens)
    assert all(0 <= i < len(ours.vocab) for i in ids)
    assert not {ours.pad_id, ours.cls_id, ours.sep_id, ours.mask_id} & set(ids)
    assert ours.tokenize(" \t" + text + "\n\u3000") == tokens


@few
@hypothesis.given(text=any_text, lower=strategies.booleans())
def test_any_text_gives_the_pieces_of_the_slow_albert_tokenizer(spm_model_file, text, lower):
    # What the two are meant to differ in (see tokenization.spm_pieces) is taken out.
    text = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
    for left_out in ("``", "''", "[CLS]", "[SEP]", "[MASK]", "<pad>", "<unk>"):
        text = text.replace(left_out, " ")
    if ("reference", lower) not in _CACHED:
        _CACHED["reference", lower] = albert_tokenizer(spm_model_file, lower)
    assert cached(None, lower, spm_model_file).tokenize(text) == _CACHED[
        "reference", lower].tokenize(text)


_CACHED = {}


def cached(*settings):
    """The same tokenizer for all examples of a test."""
    if settings not in _CACHED:
        _CACHED[settings] = FullTokenizer(*settings)
    return _CACHED[settings]


def continued(tokenizer):
    """Ids of the "##" entries, which continue a word."""
    if ("continued", tokenizer) not in _CACHED:
        _CACHED["continued", tokenizer] = {
            i for t, i in tokenizer.vocab.items() if t.startswith("##") and len(t) > 2}
    return _CACHED["continued", tokenizer]
