"""build_vocab.py: what becomes an entry, at which id, and the same vocabulary on both runtimes."""

import collections
import doctest
import hashlib
import io
import os
import random
import subprocess
import sys

import pytest

import build_vocab as bv
import corpus
import create_pretraining_data as cpd
import files
import helpers
import instances
import tokenization
import workers
from errors import UserError

STEMS = ["vocab", "token", "train", "model", "record", "segment", "answer", "number", "learn"]
ENDINGS = ["", "s", "ing", "er", "ed", "ization", "less", "2", "98"]
CHINESE = "今天我们一起去图书馆看书然后回家吃饭明天再讨论这个问题"


def invented_text(documents=40, seed=3):
    rng = random.Random(seed)
    lines = []
    for _ in range(documents):
        for _ in range(rng.randint(1, 8)):
            words = [rng.choice(STEMS) + rng.choice(ENDINGS) for _ in range(rng.randint(1, 6))]
            chinese = "".join(rng.choice(CHINESE) for _ in range(rng.randint(2, 12)))
            lines.append("%s，%s 25°C Café（%s）。" % (
                " ".join(words), chinese, rng.choice(CHINESE)))
        lines.append("")
    return "\n".join(lines)


def write(path, text):
    with io.open(str(path), "wb") as stream:
        stream.write(text.encode("utf-8"))
    return str(path)


@pytest.fixture
def settings(tmp_path):
    return bv.Settings(write(tmp_path / "corpus.txt", invented_text()),
                       str(tmp_path / "out" / "vocab.txt"), num_workers=1, vocab_size=400)


def built(settings):
    """Builds a vocabulary; returns its entries."""
    bv.build(settings)
    with io.open(settings.output_file, encoding="utf-8", newline="\n") as stream:
        return stream.read().split("\n")[:-1]


def test_the_examples_in_the_docstrings_hold():
    result = doctest.testmod(bv)
    assert result.attempted >= 3 and result.failed == 0


# ---------------------------------------------------------------------------------------------
# Words and characters
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("lower", [True, False])
def test_words_are_those_of_the_tokenizer(tmp_path, lower):
    lines = ["Ça va, 中国人ABC!", "ΟΔΟΣ\u2028x\u00a0y\ufeffz", "", "a\u0301b\u200bc  3.14㎡",
             "㐀x々"]
    path = write(tmp_path / "a.txt", "\n".join(lines))
    counts = bv.count_words([path], lower, 1)
    tokenizer = tokenization.BasicTokenizer(lower)
    expected = collections.Counter(word for line in lines for word in tokenizer.tokenize(line))
    assert counts.words == expected
    assert counts.characters == collections.Counter("".join(expected.elements()))
    assert counts.forgotten == 0


def test_the_memory_for_words_is_bounded():
    rng = random.Random(1)
    counts, characters, total = bv.WordCounts(most_words=50), collections.Counter(), 0
    for _ in range(300):
        words = ["the"] * 5 + ["of"] * 3 + ["w%d" % rng.randint(0, 5000) for _ in range(20)]
        counts.add(words)
        characters.update("".join(words))
        total += len(words)
        assert len(counts.words) <= 50
    assert counts.words["the"] == 1500 and counts.words["of"] == 900
    assert counts.characters == characters
    assert sum(counts.words.values()) + counts.forgotten == total


def test_equally_rare_words_are_forgotten_together():
    counts = bv.WordCounts(most_words=4)
    counts.add(["a", "a", "b", "c", "d", "e"])
    assert counts.words == {"a": 2} and counts.forgotten == 4


def test_words_that_no_vocabulary_can_hold_take_little_memory():
    counts = bv.WordCounts()
    counts.add(["x" * 5000, "x" * 4000])
    assert counts.words == {"x" * 201: 2} and counts.characters == {"x": 9000}


def test_merged_counts_are_bounded_too():
    first, second = bv.WordCounts(most_words=4), bv.WordCounts(most_words=4)
    first.add(["a", "a", "b", "d"])
    second.add(["a", "c", "c", "c", "c"])
    first.merge(second)
    assert first.words == {"a": 3, "c": 4, "b": 1, "d": 1} and first.forgotten == 0
    second.add(["e", "f", "g"])
    assert second.words == {"c": 4} and second.forgotten == 4
    first.merge(second)
    assert first.words == {"a": 3, "c": 8, "b": 1, "d": 1} and first.forgotten == 4


@pytest.mark.parametrize("most_words", [bv.MOST_WORDS, 25])
def test_counts_do_not_depend_on_the_number_of_processes(
        tmp_path, monkeypatch, most_words, capfd):
    path = write(tmp_path / "a.txt", invented_text(documents=60))
    monkeypatch.setattr(corpus, "PIECE_BYTES", 400)
    monkeypatch.setattr(bv.WordCounts.__init__, "__defaults__", (most_words,))
    alone = bv.count_words([path], True, 1)
    together = bv.count_words([path], True, 3)
    assert len(corpus.plan_pieces([path])) > 24  # more than one round of work for three
    assert (together.words, together.characters, together.forgotten) == (
        alone.words, alone.characters, alone.forgotten)
    assert (alone.forgotten > 0) == (most_words == 25)
    assert ("rare ones" in capfd.readouterr().err) == (most_words == 25)


# ---------------------------------------------------------------------------------------------
# WordPiece
# ---------------------------------------------------------------------------------------------

def test_the_order_of_entries(settings):
    entries = built(settings)
    assert entries[0] == "[PAD]" and entries[1] == "[unused1]" and entries[99] == "[unused99]"
    assert entries[100:104] == ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    kinds = [bv.kind_of(entry) for entry in entries[104:]]
    characters = kinds.count("other characters") + kinds.count("Chinese characters")
    assert entries[104:104 + characters] == sorted(entries[104:104 + characters])
    assert set(kinds[:characters]) == {"other characters", "Chinese characters"}
    rest = kinds[characters:]
    inside, twins = rest.count("## of other characters"), rest.count("## of Chinese characters")
    assert rest[:inside] == ["## of other characters"] * inside
    assert rest[len(rest) - twins:] == ["## of Chinese characters"] * twins
    pieces = entries[104 + characters + inside:len(entries) - twins]
    assert pieces and len(entries) == len(set(entries)) <= 400
    assert all(tokenization.strip_word_prefix(piece).isalnum() for piece in pieces)
    assert not any(tokenization.is_chinese_char(ord(char)) for piece in pieces for char in piece)
    for entry in ("token", "##ization", "model", "cafe", "a", "z", "##z", "°", "##°", "，", "~"):
        assert entry in entries
    assert "##，" not in entries and "A" not in entries and "25°c" not in entries


def test_the_vocabulary_is_the_same_on_both_runtimes(settings):
    built(settings)
    with io.open(settings.output_file, "rb") as stream:
        found = hashlib.sha256(stream.read()).hexdigest()
    assert found == "dc9639d44d37c5c7c0332ceb6efd0ba775dbbdac795d108e3c20823c5c4f58c1"


def test_equal_frequencies_are_decided_alike_each_time():
    """The trainer itself numbers ## characters by the order of a hash table."""
    words = collections.Counter({"abcd": 2, "bcda": 2, "cdab": 2, "dabc": 2, "badc": 2})
    alphabet = list("abcd") + ["##" + char for char in "abcd"]
    found = {tuple(bv.learn_pieces(words, alphabet, 6, 2)) for _ in range(20)}
    assert len(found) == 1 and len(found.pop()) == 6


def test_no_character_is_unknown_and_every_chinese_one_is_single(settings):
    settings = settings._replace(character_coverage=1.0)
    built(settings)
    tokenizer = tokenization.FullTokenizer(settings.output_file)
    tokens = tokenizer.tokenize(invented_text())
    assert "[UNK]" not in tokens
    assert [token for token in tokens if tokenization.is_chinese_char(ord(token[0]))] == [
        char for char in invented_text() if tokenization.is_chinese_char(ord(char))]
    twins = instances.describe_vocabulary(tokenizer).twins
    for char in set(CHINESE):
        assert tokenizer.inv_vocab[twins[tokenizer.vocab[char]]] == "##" + char


def test_twins_can_be_left_out_and_case_kept(settings):
    entries = built(settings._replace(chinese_twins=False, do_lower_case=False))
    assert not any(bv.kind_of(entry) == "## of Chinese characters" for entry in entries)
    assert "Café" in entries and "A" in entries and "##Z" in entries


def test_rare_characters_are_left_out_by_share():
    characters = collections.Counter({"甲": 900, "乙": 90, "丙": 9, "丁": 1})
    assert "乙" in bv.choose_characters(characters, 0.95, True)
    assert "丙" not in bv.choose_characters(characters, 0.95, True)
    assert {"丙", "丁"} <= bv.choose_characters(characters, 1.0, True)
    chosen = bv.choose_characters(characters, 0.5, True)
    assert set("甲azZ09!~，。”《") - chosen == {"Z", "《"}
    assert "Z" in bv.choose_characters(characters, 0.5, False)


def test_rare_pieces_are_left_out(settings, capfd):
    few = built(settings._replace(min_frequency=40))
    assert "The corpus has no more" not in capfd.readouterr().err
    more = built(settings._replace(overwrite=True))
    assert set(few) < set(more)


def test_pieces_stop_at_the_size_and_at_the_corpus(settings, capfd):
    assert len(built(settings._replace(vocab_size=300))) == 300
    assert len(built(settings._replace(vocab_size=4000, overwrite=True))) < 4000
    assert "the corpus has no more pieces that occur 2 times" in capfd.readouterr().err


def test_words_are_fed_as_often_as_they_occur():
    words = collections.OrderedDict([("ab", 3), ("abc", bv.FED_CHARACTERS), ("b", 1)])
    texts = list(bv._texts_of(words, 1.0))
    assert collections.Counter(" ".join(texts).split(" ")) == words
    assert max(map(len, texts)) <= bv.FED_CHARACTERS + 4 and len(texts) == 5
    assert collections.Counter(" ".join(bv._texts_of({"ab": 100, "c": 50}, 0.5)).split(" ")) == {
        "ab": 50, "c": 25}


def test_a_large_corpus_is_scaled_down_with_its_minimum(monkeypatch):
    words = collections.Counter({"ab": 400, "abc": 300, "bcd": 200, "dd": 30})
    alphabet = list("abcd") + ["##" + char for char in "abcd"]
    whole = bv.learn_pieces(words, alphabet, 20, 100)
    monkeypatch.setattr(bv, "MOST_FED_CHARACTERS", 240)
    assert bv.learn_pieces(words, alphabet, 20, 100) == whole
    assert "ab" in whole and "abc" in whole and "dd" not in whole


def test_words_with_characters_outside_the_alphabet_teach_nothing():
    words = collections.Counter({"abx": 9, "xab": 9, "ab°": 9, "a" * 201: 9})
    assert bv.learn_pieces(words, ["a", "b", "##a", "##b", "##°"], 9, 1) == []


def test_too_many_characters_are_an_error_that_says_how_many(settings):
    with pytest.raises(UserError) as error:
        bv.build(settings._replace(vocab_size=150))
    assert "--vocab_size=150 cannot hold" in str(error.value)
    least = int(str(error.value).split("give ")[1].split(" ")[0])
    assert not os.path.exists(settings.output_file)
    assert len(built(settings._replace(vocab_size=least))) == least
    with pytest.raises(UserError):
        bv.build(settings._replace(vocab_size=least - 1, overwrite=True))


# ---------------------------------------------------------------------------------------------
# --extend
# ---------------------------------------------------------------------------------------------

def old_vocabulary(tmp_path, slots=8):
    entries = ["[PAD]"] + ["[unused%d]" % number for number in range(1, slots + 1)]
    entries += ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "甲", "##甲", ",", "，"]
    entries += [prefix + char for char in "abcdefgh" for prefix in ("", "##")] + ["##cd"]
    return write(tmp_path / "old.txt", "\n".join(entries) + "\n"), entries


def test_only_unused_slots_change(tmp_path, settings, capsys):
    path, old = old_vocabulary(tmp_path)
    text = "abcd abcd abcd 乙甲 乙 efg, efg ab a! a! a!\n"
    new = built(settings._replace(input_file=write(tmp_path / "c.txt", text), extend=path,
                                  vocab_size=None))
    assert len(new) == len(old)
    assert new[9:] == old[9:] and new[0] == "[PAD]"
    # "!" and 乙 were [UNK]; of words, abcd saves 3 x 2 tokens, efg 2 x 2; ab occurs once.
    assert new[1:] == ["!", "乙", "##乙", "abcd", "efg", "[unused6]", "[unused7]",
                       "[unused8]"] + old[9:]
    out = capsys.readouterr().out
    row = [line.split() for line in out.splitlines() if line.startswith("abcd")]
    assert row == [["abcd", "4", "[unused4]", "3", "a", "##b", "##cd"]]


def test_words_are_chosen_one_by_one_by_what_they_still_save():
    entries = list("abcdefgh") + ["##" + char for char in "abcdefgh"]
    rng = random.Random(2)
    words = collections.Counter()
    for _ in range(60):
        words["".join(rng.choice("ab") for _ in range(rng.randint(2, 7)))] += rng.randint(1, 9)
    known, expected = set(entries), []
    while len(expected) < 12:
        tokenizer = tokenization.WordpieceTokenizer(known)
        saved = {word: count * (len(tokenizer.split_words([word])) - 1)
                 for word, count in words.items() if count >= 2}
        best = min(saved, key=lambda word: (-saved[word], word))
        expected.append(best)
        known.add(best)
    assert bv._best_words(entries, words, 2, 12) == expected


def test_a_word_that_another_entry_makes_unknown_is_chosen_next():
    entries = ["[UNK]", "a", "##bc", "##bcd", "x", "##y"]
    words = collections.Counter({"abc": 9, "abcd": 3, "xy": 2})
    assert bv._best_words(entries, words, 2, 3) == ["abc", "abcd", "xy"]
    assert tokenization.WordpieceTokenizer(set(entries) | {"abc"}).split_words(
        ["abcd"]) == ["[UNK]"]


def test_characters_that_do_not_fit_make_room_for_smaller_ones(tmp_path, settings):
    path, old = old_vocabulary(tmp_path, slots=2)
    text = "! ! ! ! 乙 乙 乙 ? ?\n"
    new = built(settings._replace(input_file=write(tmp_path / "c.txt", text), extend=path,
                                  vocab_size=None))
    assert new[1:3] == ["!", "?"] and new[3:] == old[3:]


def test_a_vocabulary_without_room_or_need_is_said_so(tmp_path, settings):
    path, _ = old_vocabulary(tmp_path, slots=0)
    full = settings._replace(extend=path, vocab_size=None)
    with pytest.raises(UserError, match="no .unusedN. slot to fill"):
        bv.build(full)
    assert not os.path.exists(settings.output_file)
    with pytest.raises(UserError, match="leave out --vocab_size"):
        bv.build(full._replace(vocab_size=100))
    with pytest.raises(UserError, match="leave out --model_type"):
        bv.build(full._replace(model_type=bv.SENTENCEPIECE))


def test_extending_needs_no_trainer(tmp_path, settings, monkeypatch):
    path, _ = old_vocabulary(tmp_path)
    monkeypatch.setattr(bv.importlib.util, "find_spec", lambda name: None)
    built(settings._replace(extend=path, vocab_size=None))
    with pytest.raises(UserError, match="pip install tokenizers"):
        bv.build(settings._replace(overwrite=True))
    with pytest.raises(UserError, match="pip install sentencepiece"):
        bv.build(settings._replace(model_type=bv.SENTENCEPIECE))


# ---------------------------------------------------------------------------------------------
# SentencePiece: in processes of their own, as it cannot be trained beside TensorFlow 1.15
# ---------------------------------------------------------------------------------------------

def english_text():
    rng = random.Random(4)
    lines = []
    for number in range(300):
        words = [rng.choice(STEMS) + rng.choice(ENDINGS) for _ in range(rng.randint(3, 9))]
        lines.append("The %s (%d) is Café-like: £%d, or “%s”." % (
            " ".join(words), number, number * 7, rng.choice(STEMS)))
    return "\n".join(lines)


@pytest.fixture(scope="module")
def english(tmp_path_factory):
    return write(tmp_path_factory.mktemp("english") / "english.txt", english_text())


def sentencepiece_of(english, path, *more):
    return helpers.run_script("build_vocab.py", "--model_type=sentencepiece",
                              "--input_file=" + english, "--output_file=" + str(path),
                              "--vocab_size=200", "--num_workers=1", *more)


@pytest.fixture(scope="module")
def model(english, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "spm.model"
    status, out, err = sentencepiece_of(english, path)
    assert status == 0, err
    assert "200 entries" in err and "tokens per character: corpus" in out
    return str(path)


def test_sentencepiece_has_alberts_special_pieces(model):
    tokenizer = tokenization.FullTokenizer(None, spm_model_file=model)
    assert list(tokenizer.vocab)[:5] == ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id,
            tokenizer.mask_id) == (0, 1, 2, 3, 4)
    assert len(tokenizer.vocab) == 200
    for symbol in bv.SPM_SYMBOLS:
        assert symbol in tokenizer.vocab
    tokens = tokenizer.tokenize("(Café-models) £98 for training.")
    assert [token for token in tokens if token in bv.SPM_SYMBOLS] == ["(", "-", ")", "£", "."]
    assert "▁train" in tokens
    assert tokenizer.unk_token not in tokens  # case and accents are those it was trained on
    assert not any(token.isupper() for token in list(tokenizer.vocab)[5:])


def test_the_readable_vocabulary_lists_the_pieces(model):
    tokenizer = tokenization.FullTokenizer(None, spm_model_file=model)
    lines = [line.split("\t") for _, line in files.read_lines(bv.beside(model))]
    assert [piece for piece, _ in lines] == list(tokenizer.vocab)
    assert float(lines[150][1]) < 0 and lines[2] == ["[CLS]", "0"]


def test_the_same_text_gives_the_same_model(english, model, tmp_path):
    assert sentencepiece_of(english, tmp_path / "b.model")[0] == 0
    assert helpers.read(model) == helpers.read(tmp_path / "b.model")


def test_some_sentences_are_drawn_from_a_large_corpus(english, model, tmp_path):
    drawn = []
    for name, size in (("a", 150), ("b", 150), ("c", 300)):
        path = tmp_path / (name + ".model")
        assert sentencepiece_of(english, path, "--input_sentence_size=%d" % size,
                                "--vocab_size=100")[0] == 0
        drawn.append([line for _, line in files.read_lines(bv.beside(str(path)))])
    assert drawn[0] == drawn[1] != drawn[2]


def test_problems_of_sentencepiece_are_named(english, model, tmp_path):
    path = tmp_path / "b.model"
    helpers.assert_user_error(sentencepiece_of(english, path, "--vocab_size=30000"),
                              "--vocab_size=30000 is too many for this corpus: give ")
    helpers.assert_user_error(sentencepiece_of(english, path, "--vocab_size=20"),
                              "could not learn a model")
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"one\ncaf\xe9\n")
    helpers.assert_user_error(sentencepiece_of(str(latin), path), "latin.txt line 2 is not UTF-8")
    helpers.assert_user_error(sentencepiece_of(english, model), "is there already")
    assert os.listdir(str(tmp_path)) == ["latin.txt"]


# ---------------------------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------------------------

def test_measures_are_those_of_the_tokenizer(tmp_path, vocab_file):
    path = write(tmp_path / "a.txt", "甲乙 ☃丙\n\nunaffable “x”\n")
    totals, share = bv.measure([path], [vocab_file], True, 1)
    tokens = tokenization.FullTokenizer(vocab_file).tokenize("甲乙 ☃丙 unaffable “x”")
    assert totals == [bv.Measured(16, len(tokens), tokens.count("[UNK]"))]
    assert totals[0].unknown == 3 and share == 1.0


def test_large_corpora_are_measured_in_part(tmp_path, vocab_file, monkeypatch):
    path = write(tmp_path / "a.txt", "一句话。\n\n" * 500)
    monkeypatch.setattr(corpus, "PIECE_BYTES", 500)
    whole, _ = bv.measure([path], [vocab_file], True, 1)
    monkeypatch.setattr(bv, "MEASURED_BYTES", 2000)
    part, share = bv.measure([path], [vocab_file], True, 2)
    assert 0.2 <= share <= 0.4
    assert 0.9 * share < part[0].tokens / float(whole[0].tokens) < 1.1 * share


def test_the_table_compares_vocabularies_on_both_texts(settings, tmp_path, vocab_file, capsys):
    held_out = write(tmp_path / "held.txt", "甲乙丙丁，training\n")
    bv.build(settings._replace(held_out_file=held_out, compare=vocab_file))
    rows = {line.split("  ")[0]: line.split()[-2:] for line in
            capsys.readouterr().out.splitlines()}
    assert rows["entries"] == ["400", "21,128"]
    assert rows["[UNK], % of the tokens: corpus"] == ["0.0000", "0.0000"]
    assert float(rows["[UNK], % of the tokens: held out"][0]) > 50
    assert rows["[UNK], % of the tokens: held out"][1] == "0.0000"
    assert "tokens per character: held out" in rows


# ---------------------------------------------------------------------------------------------
# The script
# ---------------------------------------------------------------------------------------------

def test_the_script_runs_and_imports_no_tensorflow(settings, root):
    program = ("import sys; sys.path.insert(0, %r); import build_vocab as bv; "
               "bv.build(bv.Settings(%r, %r, vocab_size=400)); "
               "assert 'tensorflow' not in sys.modules" % (
                   root, settings.input_file, settings.output_file))
    subprocess.check_call([sys.executable, "-c", program], stderr=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL)
    result = helpers.run_script("build_vocab.py", "--input_file=" + settings.input_file,
                                "--output_file=" + settings.output_file)
    helpers.assert_user_error(result, "vocab.txt is there already", "--overwrite=True")
    status, out, err = helpers.run_script(
        "build_vocab.py", "--input_file=" + settings.input_file, "--vocab_size=300",
        "--output_file=" + settings.output_file, "--overwrite")
    assert status == 0 and "300 entries" in err and "Chinese characters" in out


@pytest.mark.parametrize("changes, message", [
    ({"input_file": None}, "--input_file is missing"),
    ({"input_file": "nowhere*.txt"}, "--input_file: no file matches"),
    ({"output_file": None}, "--output_file is missing"),
    ({"output_file": "."}, "is a folder"),
    ({"output_file": "spm.model"}, "the name of a SentencePiece model"),
    ({"output_file": "v.txt", "model_type": bv.SENTENCEPIECE}, "the name of a SentencePiece model"),
    ({"vocab_size": 0}, "--vocab_size=0 must be"),
    ({"min_frequency": 0}, "--min_frequency=0 must be"),
    ({"character_coverage": 1.5}, "--character_coverage=1.5 must be"),
    ({"num_workers": 0}, "--num_workers=0 must be"),
    ({"compare": "nowhere.txt"}, "--compare=nowhere.txt does not exist"),
    ({"extend": "nowhere.txt", "vocab_size": None}, "--extend=nowhere.txt does not exist"),
    ({"held_out_file": "nowhere.txt"}, "--held_out_file: no file matches"),
    ({"held_out_file": "gb.txt"}, "gb.txt line 2 is not UTF-8"),
    ({"held_out_file": "blank.txt"}, "--held_out_file=blank.txt holds no text"),
])
def test_bad_settings_are_named_before_anything_is_read(
        settings, monkeypatch, tmp_path, changes, message):
    monkeypatch.chdir(tmp_path)

    def no_work(*_):
        raise AssertionError("work has started")

    monkeypatch.setattr(workers, "run_jobs", no_work)
    given = {"gb.txt": b"a\n" + "天地".encode("gb18030"), "blank.txt": b" \n\n"}
    for name, content in given.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        bv.build(settings._replace(**changes))
    assert message in str(error.value)
    assert set(os.listdir(str(tmp_path))) - {"out"} == {"corpus.txt"} | set(given)


def test_nothing_that_is_read_is_overwritten(settings, vocab_file):
    for path in (settings.input_file, vocab_file):
        with pytest.raises(UserError, match="would overwrite"):
            bv.build(settings._replace(output_file=path, compare=vocab_file, overwrite=True))


def test_a_corpus_of_blank_lines_and_bad_text_are_named(settings, tmp_path):
    with pytest.raises(UserError, match="holds only blank lines"):
        bv.build(settings._replace(input_file=write(tmp_path / "a.txt", "\n \n")))
    (tmp_path / "b.txt").write_bytes("好\n中文".encode("gb18030"))
    with pytest.raises(UserError, match=r"b\.txt line 1 is not UTF-8"):
        bv.build(settings._replace(input_file=str(tmp_path / "b.txt")))


def test_a_failed_run_leaves_the_older_vocabulary(settings, monkeypatch):
    built(settings)
    before = helpers.read(settings.output_file)

    def broken(*_):
        raise UserError("no good")

    monkeypatch.setattr(tokenization, "FullTokenizer", broken)
    with pytest.raises(UserError, match="no good"):
        bv.build(settings._replace(vocab_size=300, overwrite=True))
    assert helpers.read(settings.output_file) == before
    assert os.listdir(os.path.dirname(settings.output_file)) == ["vocab.txt"]


# ---------------------------------------------------------------------------------------------
# Real text
# ---------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def newspaper(shared_data, tmp_path_factory):
    """Two parts of the newspaper corpus, whole documents: to learn from, and held out."""
    path = os.path.join(shared_data, "corpus", "people_daily_199801.txt")
    with io.open(path, encoding="utf-8", newline="\n") as stream:
        documents = stream.read().split("\n\n")
    folder = tmp_path_factory.mktemp("newspaper")
    held_out = write(folder / "held.txt", "\n\n".join(documents[::60]))
    rest = [document for number, document in enumerate(documents) if number % 60]
    return write(folder / "learn.txt", "\n\n".join(rest[::2])), held_out


def test_real_text_has_fewer_unknown_tokens_than_with_the_published_vocabulary(
        newspaper, tmp_path, vocab_file):
    learn, held_out = newspaper
    settings = bv.Settings(learn, str(tmp_path / "vocab.txt"), num_workers=1, vocab_size=12000,
                           character_coverage=1.0)
    built(settings)
    (ours, published), _ = bv.measure([held_out], [settings.output_file, vocab_file], True, 1)
    assert ours.characters == published.characters > 20000
    assert 5 * ours.unknown < published.unknown
    assert ours.tokens < published.tokens
    tokenizer = tokenization.FullTokenizer(settings.output_file)
    entries = instances.describe_vocabulary(tokenizer)
    for token, number in tokenizer.vocab.items():
        text = tokenization.strip_word_prefix(token)
        chinese = [char for char in text if tokenization.is_chinese_char(ord(char))]
        assert not chinese or len(text) == 1
        if chinese and text == token:
            assert tokenizer.inv_vocab[entries.twins[number]] == "##" + token


def test_records_can_be_made_with_the_new_vocabulary(newspaper, tmp_path, capsys):
    _, held_out = newspaper
    settings = bv.Settings(held_out, str(tmp_path / "vocab.txt"), num_workers=1, vocab_size=8000,
                           character_coverage=1.0)
    built(settings)
    summary = cpd.create(cpd.Settings(
        held_out, str(tmp_path / "x.tfrecord"), settings.output_file, dupe_factor=1,
        num_workers=1, do_whole_word_mask=True, prefixed_word_labels=True))
    assert summary["unknown_share"] == 0 and summary["instances"] > 100
    assert summary["masked_share"] > 0.1


def test_the_published_vocabulary_extended_keeps_its_ids(newspaper, tmp_path, vocab_file):
    learn, held_out = newspaper
    settings = bv.Settings(held_out, str(tmp_path / "vocab.txt"), num_workers=1, extend=vocab_file)
    new = built(settings)
    old = tokenization.FullTokenizer(vocab_file).vocab
    assert len(new) == len(old)
    assert all(new[number] == token for token, number in old.items()
               if not bv.UNUSED.fullmatch(token))
    assert new[1:3] == ["“", "”"]  # which BERT's Chinese vocabulary lacks
    (ours, published), _ = bv.measure([learn], [settings.output_file, vocab_file], True, 1)
    assert ours.unknown < 0.2 * published.unknown and ours.tokens < published.tokens
