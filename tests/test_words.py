"""words.py: tokens and the words they lie in, against the tokenizer and jieba themselves."""

import os
import random
import sys

import helpers
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

import corpus
import tokenization
import words
from errors import UserError


@pytest.fixture(scope="module")
def tokenizer(vocab_file):
    return tokenization.FullTokenizer(vocab_file)


@pytest.fixture(scope="module")
def reader(tokenizer):
    return words.WordPieceReader(tokenizer, words.load_segmenter("jieba"))


def words_of(sentences, tokenizer):
    """Returns the words of some Sentences, lists of tokens."""
    found = []
    for number, opens in zip(sentences.ids.tolist(), sentences.word_starts):
        if opens:
            found.append([])
        found[-1].append(tokenizer.inv_vocab[number])
    return found


@pytest.mark.parametrize("text, expected", [
    ("使用语言模型来预测下一个词。",
     [["使", "用"], ["语", "言"], ["模", "型"], ["来"], ["预", "测"], ["下"], ["一", "个"],
      ["词"], ["。"]]),
    ("中华人民共和国成立了", [list("中华人民共和国"), ["成", "立"], ["了"]]),
    ("用GPU和T恤，Café 3.14%", [["用"], ["gpu"], ["和"], ["t", "恤"], ["，"],
                             ["cafe"], ["3", ".", "14", "%"]]),
    ("中\u200b华\x85人民[MASK]", [list("中华人民"), ["["], ["ma", "##sk"], ["]"]]),
])
def test_tokens_are_grouped_by_the_words_of_jieba(reader, tokenizer, text, expected):
    assert words_of(reader.read([text]), tokenizer) == expected


HOSTILE = [
    "", " ", "\u3000", "\u200b\ufeff", "a\u2028b", "甲\u2028乙\u2029丙", "ΑΣ.ΒΣ，Σ甲ΑΣ",
    "é\u0301甲\u0301乙e\u0301,\u0301", "İstanbul Straße ﬁ ǅ", "한국어 텍스트", "عربى ١٢٣",
    "x" * 201 + "甲" + "y" * 300, "👨‍👩‍👧😀中", "[CLS]中[unused1]##ing ##中",
    "a\tb\nc\rd\x0be\x1cf",
    "Σ", "ΑΣ", "aΣ.bΣ,甲", "\ufffd\x00甲\x00乙", "１２月３１日，ＡＢＣ",
    "\U00020000\U0002f800豈", "..--__##%%１.5%", "a€b¥c",
    "…………——“”《》", "\u037e\u1fef`^$", "ºª²③㈱㍿", "\ud7b0\u1100\u1161", "C++/C#_x-y@z.com",
]


@pytest.mark.parametrize("lower", [True, False])
def test_tokens_are_those_of_the_whole_text(vocab_file, lower):
    tokenizer = tokenization.FullTokenizer(vocab_file, lower)
    reader = words.WordPieceReader(tokenizer, words.load_segmenter("jieba"))
    rng = random.Random(4)
    alphabet = sorted(set("".join(HOSTILE)) - {"\n"})
    texts = [text.replace("\n", "") for text in HOSTILE]
    texts += ["".join(rng.choice(alphabet) for _ in range(rng.randint(1, 30)))
              for _ in range(3000)]
    for start in range(0, len(texts), 50):
        assert_ids_are_the_tokenizers(reader, tokenizer, texts[start:start + 50])


def assert_ids_are_the_tokenizers(reader, tokenizer, texts):
    sentences = reader.read(texts)
    start = 0
    assert len(sentences.ends) == len(texts)
    for text, end in zip(texts, sentences.ends.tolist()):
        expected = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
        assert sentences.ids[start:end].tolist() == expected, repr(text)
        assert all(sentences.word_starts[start:start + 1])
        start = end
    assert len(sentences.ids) == len(sentences.word_starts) == start


ANY_TEXT = strategies.text(strategies.characters(blacklist_characters="\n",
                                                 blacklist_categories=("Cs",)), max_size=30)


@hypothesis.settings(deadline=None, max_examples=300)
@hypothesis.given(strategies.lists(ANY_TEXT, max_size=6))
def test_any_text_gives_the_tokenizers_ids(reader, tokenizer, texts):
    assert_ids_are_the_tokenizers(reader, tokenizer, texts)


@hypothesis.settings(deadline=None, max_examples=200)
@hypothesis.given(strategies.lists(ANY_TEXT, min_size=1, max_size=6))
def test_sentences_read_together_are_as_read_alone(reader, texts):
    together = reader.read(texts)
    alone = [reader.read([text]) for text in texts]
    assert together.ids.tolist() == sum((one.ids.tolist() for one in alone), [])
    assert together.word_starts.tolist() == sum((one.word_starts.tolist() for one in alone), [])
    assert np.diff(np.append(0, together.ends)).tolist() == [len(one.ids) for one in alone]


def test_words_are_those_of_jieba(shared_data, reader, tokenizer):
    path = os.path.join(shared_data, "corpus", "people_daily_199801.txt")
    compared = 0
    for document in real_documents(path, 300):
        for line in document.lines:
            if all(tokenization.is_chinese_char(ord(char)) for char in line):
                found = ["".join(word) for word in words_of(reader.read([line]), tokenizer)]
                if "[UNK]" not in "".join(found):
                    assert found == words.load_jieba()(line)
                    compared += 1
    assert compared > 50


def real_documents(path, most):
    for number, document in enumerate(corpus.read_documents(corpus.plan_pieces([path]))):
        if number == most:
            return
        yield document


def test_rjieba_finds_the_words_of_jieba(shared_data):
    pytest.importorskip("rjieba")
    slow, fast = words.load_segmenter("jieba"), words.load_segmenter("rjieba")
    for path in (os.path.join(shared_data, "corpus", "people_daily_199801.txt"),
                 os.path.join(shared_data, "clue", "iflytek", "dev.json"),
                 os.path.join(shared_data, "lcqmc", "dev.txt")):
        for document in real_documents(path, 400):
            text = "\n".join(document.lines)
            codes = words.code_points(text)
            assert (slow.word_starts(text, codes) == fast.word_starts(text, codes)).all(), text


@hypothesis.settings(deadline=None, max_examples=300)
@hypothesis.given(strategies.text(max_size=40, alphabet=(
    "中国人民大学生产品质量的了在是和a1.%-_+T恤 ，。\u3400\U00020000\n")))
def test_rjieba_finds_the_words_of_jieba_in_any_mixture(text):
    pytest.importorskip("rjieba")
    codes = words.code_points(text)
    found = [words.load_segmenter(name).word_starts(text, codes).tolist()
             for name in ("jieba", "rjieba")]
    assert found[0] == found[1]
    expected, place = [False] * len(text), 0
    for word in words.load_jieba()(text):
        expected[place] = True
        place += len(word)
    # jieba leaves runs of other characters whole now and then; here each is a word of its own.
    assert all(one for one, other in zip(found[0], expected) if other)


def test_a_lacking_rjieba_is_named_or_done_without(monkeypatch):
    monkeypatch.setitem(sys.modules, "rjieba", None)
    words.load_segmenter.cache_clear()
    try:
        with pytest.raises(UserError, match="pip install rjieba"):
            words.load_segmenter("rjieba")
        assert words.load_segmenter("auto")._fast is None
    finally:
        words.load_segmenter.cache_clear()


def test_memories_stay_bounded(tokenizer, monkeypatch):
    monkeypatch.setattr(words.WordPieceReader, "MOST_RUNS", 10)
    monkeypatch.setattr(words.Segmenter, "MOST_STRETCHES", 10)
    reader = words.WordPieceReader(tokenizer, words.Segmenter())
    reader.read(["%d年 w%d" % (number, number) for number in range(100)])
    assert len(reader._runs) <= 10 and len(reader._segmenter._known) <= 10


def test_without_a_segmenter_only_continuation_pieces_belong_together(tokenizer):
    sentences = words.load_reader(tokenizer, None).read(["模型embeddings好"])
    assert words_of(sentences, tokenizer) == [
        ["模"], ["型"], tokenizer.tokenize("embeddings"), ["好"]]
    assert len(tokenizer.tokenize("embeddings")) > 1


def test_sentencepiece_words_last_until_the_next_word_mark(tmp_path):
    tokenizer = tokenization.FullTokenizer(None, True, str(helpers.train_spm(tmp_path)))
    reader = words.load_reader(tokenizer, "jieba")
    found = ["".join(word) for word in words_of(reader.read(["the reader, reading"]), tokenizer)]
    assert found == ["▁the", "▁reader,", "▁reading"]
    sentences = reader.read(["the reader", "", "reading"])
    assert sentences.ends.tolist()[0] == sentences.ends.tolist()[1] < len(sentences.ids)
