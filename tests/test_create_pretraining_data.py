"""create_pretraining_data.py: words, sentence order, masking, files, workers and bad input."""

import collections
import doctest
import filecmp
import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

import create_pretraining_data as cpd
import records
import tokenization
from errors import UserError

import tensorflow.compat.v1 as tf

# Each document has sentences of its own numbers, so that any stretch of text tells its origin.
NOUNS = ["图书馆", "运动会", "博物馆", "火车站", "天安门", "计算机", "电影院", "大学生"]
VERBS = ["参观", "讨论", "研究", "建设", "介绍", "学习", "支持", "发展"]


def invented_text(documents=30, sentences=12, seed=1):
    rng = random.Random(seed)
    lines = []
    for document in range(documents):
        for sentence in range(rng.randint(2, sentences)):
            clauses = ["第%d个%s正在%s%s" % (document * 100 + sentence, rng.choice(NOUNS),
                                         rng.choice(VERBS), rng.choice(NOUNS))
                       for _ in range(rng.randint(1, 4))]
            lines.append("，".join(clauses) + "。")
        lines.append("")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def tokenizer(vocab_file):
    return tokenization.FullTokenizer(vocab_file)


@pytest.fixture(scope="module")
def entries(tokenizer):
    return cpd.describe_vocabulary(tokenizer)


@pytest.fixture(scope="module")
def reader(tokenizer):
    return cpd.WordPieceReader(tokenizer, cpd.load_segmenter())


@pytest.fixture
def settings(tmp_path, vocab_file):
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes(invented_text().encode("utf-8"))
    (tmp_path / "out").mkdir()
    return cpd.Settings(str(corpus), str(tmp_path / "out" / "x.tfrecord"), vocab_file,
                        dupe_factor=2, num_workers=1, max_seq_length=64,
                        max_predictions_per_seq=10, do_whole_word_mask=True)


def read_corpus(settings, reader):
    return [[reader.read(line) for line in document.lines]
            for document in cpd.read_documents([settings.input_file])]


def all_instances(documents, settings, entries):
    """Yields (document number, Instance) of every duplicate."""
    for number, sentences in enumerate(documents):
        for duplicate in range(settings.dupe_factor):
            rng = cpd.seeded(settings.random_seed, number, 0, duplicate)
            for instance in cpd.make_instances(sentences, rng, settings, entries):
                yield number, instance


def restored(instance, plain):
    """Returns the two segments as they were before masking (labels as plain ids)."""
    ids = list(instance.ids)
    for position, label in zip(instance.positions, instance.labels):
        ids[position] = plain.get(label, label)
    return ids[1:instance.first_length - 1], ids[instance.first_length:-1]


def as_text(ids):
    return "".join(map(chr, ids))


def within_binomial(successes, trials, share, deviations=4.5):
    return abs(successes - trials * share) <= deviations * math.sqrt(trials * share * (1 - share))


def read_records(paths):
    found = []
    for path in paths:
        for serialized in records.read(path):
            example = tf.train.Example.FromString(serialized)
            found.append({name: list(feature.int64_list.value or feature.float_list.value)
                          for name, feature in example.features.feature.items()})
    return found


def words_of(sentence, tokenizer):
    words = []
    for number, opens in zip(*sentence):
        if opens:
            words.append([])
        words[-1].append(tokenizer.inv_vocab[number])
    return words


# ---------------------------------------------------------------------------------------------
# Documents
# ---------------------------------------------------------------------------------------------

def test_the_examples_in_the_docstrings_hold():
    result = doctest.testmod(cpd)
    assert result.attempted >= 4 and result.failed == 0


def test_a_document_ends_at_a_blank_line_and_at_the_end_of_a_file(tmp_path):
    (tmp_path / "a.txt").write_bytes("一\n二\n\n \u3000\n\n三".encode("utf-8"))
    (tmp_path / "b.txt").write_bytes("\ufeff四\r\n五\u2028六\x85七\r\n\r\n\n".encode("utf-8"))
    found = list(cpd.read_documents([str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]))
    assert found == [(0, 0, ["一", "二"]), (1, 0, ["三"]), (2, 0, ["四", "五\u2028六\x85七"])]


def test_long_lines_and_documents_are_divided_without_loss(tmp_path, monkeypatch):
    line = "".join(random.Random(3).choice("甲乙丙丁戊，。 ") for _ in range(23456)) + "完"
    pieces = list(cpd.cut_line(line))
    assert "".join(pieces) == line and max(map(len, pieces)) <= cpd.LINE_CHARACTERS
    monkeypatch.setattr(cpd, "PART_CHARACTERS", 100)
    sentences = ["第%d句话没有结束。" % i for i in range(50)]
    (tmp_path / "a.txt").write_bytes(("\n".join(sentences) + "\n\n下一篇").encode("utf-8"))
    parts = list(cpd.read_documents([str(tmp_path / "a.txt")]))
    assert [line for part in parts[:-1] for line in part.lines] == sentences
    assert [part.part for part in parts[:-1]] == list(range(len(parts) - 1)) and len(parts) > 4
    assert max(map(cpd.count_characters, parts)) <= 100
    assert parts[-1] == (1, 0, ["下一篇"])


# ---------------------------------------------------------------------------------------------
# Words
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, words", [
    ("使用语言模型来预测下一个词。",
     [["使", "用"], ["语", "言"], ["模", "型"], ["来"], ["预", "测"], ["下"], ["一", "个"],
      ["词"], ["。"]]),
    ("中华人民共和国成立了", [list("中华人民共和国"), ["成", "立"], ["了"]]),
    ("用GPU和T恤，Café 3.14%", [["用"], ["gpu"], ["和"], ["t", "恤"], ["，"],
                             ["cafe"], ["3", ".", "14", "%"]]),
    ("中\u200b华\x85人民[MASK]", [list("中华人民"), ["["], ["ma", "##sk"], ["]"]]),
])
def test_tokens_are_grouped_by_the_words_of_jieba(reader, tokenizer, text, words):
    assert words_of(reader.read(text), tokenizer) == words


HOSTILE = [
    "", " ", "\u3000", "\u200b\ufeff", "a\u2028b", "甲\u2028乙\u2029丙", "ΑΣ.ΒΣ，Σ甲ΑΣ",
    "é\u0301甲\u0301乙e\u0301,\u0301", "İstanbul Straße ﬁ ǅ", "한국어 텍스트", "عربى ١٢٣",
    "x" * 201 + "甲" + "y" * 300, "👨‍👩‍👧😀中", "[CLS]中[unused1]##ing ##中",
    "a\tb\nc\rd\x0be\x1cf",
    "\ufffd\x00甲\x00乙", "１２月３１日，ＡＢＣ",
    "\U00020000\U0002f800豈", "..--__##%%１.5%", "a€b¥c",
    "…………——“”《》", "\u037e\u1fef`^$", "ºª²③㈱㍿", "\ud7b0\u1100\u1161", "C++/C#_x-y@z.com",
]


@pytest.mark.parametrize("lower", [True, False])
def test_tokens_are_those_of_the_whole_text(vocab_file, lower):
    tokenizer = tokenization.FullTokenizer(vocab_file, lower)
    reader = cpd.WordPieceReader(tokenizer, cpd.load_segmenter())
    rng = random.Random(4)
    alphabet = sorted(set("".join(HOSTILE)))
    texts = HOSTILE + ["".join(rng.choice(alphabet) for _ in range(rng.randint(1, 30)))
                       for _ in range(3000)]
    for text in texts:
        sentence = reader.read(text)
        tokens = tokenizer.tokenize(text)
        assert sentence.ids == tokenizer.convert_tokens_to_ids(tokens), repr(text)
        assert len(sentence.word_starts) == len(tokens) and all(sentence.word_starts[:1])


def test_words_of_real_text_are_those_of_jieba(shared_data, reader, tokenizer):
    path = os.path.join(shared_data, "corpus", "people_daily_199801.txt")
    compared = 0
    for document in cpd.read_documents([path]):
        for line in document.lines:
            ids = reader.read(line).ids
            assert ids == tokenizer.convert_tokens_to_ids(tokenizer.tokenize(line))
            if all(tokenization.is_chinese_char(ord(char)) for char in line):
                words = ["".join(word) for word in words_of(reader.read(line), tokenizer)]
                if "[UNK]" not in "".join(words):
                    assert words == cpd.load_segmenter()(line)
                    compared += 1
        if document.number == 300:
            break
    assert compared > 50


def test_without_a_segmenter_only_continuation_pieces_belong_together(tokenizer):
    sentence = cpd.WordPieceReader(tokenizer).read("模型embeddings好")
    assert words_of(sentence, tokenizer) == [
        ["模"], ["型"], tokenizer.tokenize("embeddings"), ["好"]]
    assert len(tokenizer.tokenize("embeddings")) > 1


def test_sentencepiece_words_last_until_the_next_word_mark(tmp_path):
    pytest.importorskip("sentencepiece")
    text = tmp_path / "english.txt"
    text.write_text("\n".join("the unbelievable reader is reading %d books, slowly" % i
                              for i in range(300)))
    # In a process of its own: training crashes in one that has loaded TensorFlow 1.15.
    subprocess.run(
        [sys.executable, "-c", "import sys, sentencepiece\n"
         "sentencepiece.SentencePieceTrainer.train(sys.argv[1])",
         "--input=%s --model_prefix=%s --vocab_size=60 --pad_id=0 --unk_id=1 --bos_id=-1 "
         "--eos_id=-1 --user_defined_symbols=[CLS],[SEP],[MASK] --minloglevel=2" % (
             text, tmp_path / "m")], check=True)
    settings = cpd.Settings(str(text), str(tmp_path / "x.tfrecord"), None, dupe_factor=1,
                            max_seq_length=32, max_predictions_per_seq=8, num_workers=1,
                            do_whole_word_mask=True, spm_model_file=str(tmp_path / "m.model"))
    tokenizer = tokenization.FullTokenizer(None, True, settings.spm_model_file)
    sentence = cpd.load_reader(tokenizer, settings).read("the reader, reading")
    words = ["".join(word) for word in words_of(sentence, tokenizer)]
    assert words == ["▁the", "▁reader,", "▁reading"]
    summary = cpd.create(settings)
    assert summary["instances"] == len(read_records(summary["outputs"])) > 100
    assert summary["vocabulary"] == settings.spm_model_file


# ---------------------------------------------------------------------------------------------
# Sentence order
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("short", [0.0, 0.1, 1.0])
def test_chunks_in_a_row_are_the_document(settings, reader, entries, short):
    settings = settings._replace(short_seq_prob=short)
    documents = read_corpus(settings, reader)
    documents.append([reader.read("没有标点的一句话" * 40), reader.read("短")])
    for number, sentences in enumerate(documents):
        chunks = list(cpd.chunk_sentences(sentences, cpd.seeded(number), settings, entries))
        ids = [number for chunk in chunks for sentence in chunk for number in sentence.ids]
        assert ids == [number for sentence in sentences for number in sentence.ids]
        lengths = [cpd.count_tokens(chunk) for chunk in chunks]
        assert max(lengths) <= settings.max_seq_length - 3 and min(lengths[:-1] or [2]) >= 2
        for chunk in chunks:
            assert all(sentence.ids and sentence.word_starts[0] for sentence in chunk)
            assert all(len(sentence.ids) == len(sentence.word_starts) for sentence in chunk)


def test_full_chunks_are_cut_at_clause_marks_or_are_full(settings, reader, entries):
    settings = settings._replace(short_seq_prob=0.0)
    sentence = reader.read("，".join(["他们正在研究这个问题"] * 30))
    first = next(cpd.chunk_sentences([sentence], cpd.seeded(1), settings, entries))
    assert cpd.count_tokens(first) == 55  # five clauses of 11 tokens; 61 is the most
    sentence = reader.read("他们正在研究这个问题" * 30)
    first = next(cpd.chunk_sentences([sentence], cpd.seeded(1), settings, entries))
    assert 58 <= cpd.count_tokens(first) <= 61  # ends with a whole word


@pytest.mark.parametrize("text, first", [
    ("他来了，我走。", "他来了，"),
    ("一，他说今天下雨，我们没有出门；后来。", "一，他说今天下雨，"),
    ("他问：“你来吗？”我没有回答他的话", "他问：“你来吗？"),   # ” is [UNK] in this vocabulary
    ("（他来了。）我走", "（他来了。）"),
    ("北京大学", "北京"),                              # one word: the middle
    ("我喜欢图书馆", "我喜欢"),                         # no mark: between words
])
def test_a_single_sentence_is_cut_nearest_its_middle(reader, entries, tokenizer, text, first):
    sentence = reader.read(text)
    one, two = cpd.cut_in_two([sentence], cpd.seeded(1), entries)
    assert one.ids + two.ids == sentence.ids and two.word_starts[0]
    assert one.ids == reader.read(first).ids


def test_several_sentences_are_cut_at_a_sentence_end(reader, entries):
    chunk = [reader.read(text) for text in ("今天，下雨。", "我没有，出门。", "他来了，又走了。")]
    seen = set()
    for seed in range(50):
        one, two = cpd.cut_in_two(chunk, cpd.seeded(seed), entries)
        assert one.ids + two.ids == sum((sentence.ids for sentence in chunk), [])
        seen.add(len(one.ids))
    assert seen == {len(chunk[0].ids), len(chunk[0].ids) + len(chunk[1].ids)}


def test_order_is_proved_against_the_source(settings, reader, entries):
    settings = settings._replace(dupe_factor=6)
    documents = read_corpus(settings, reader)
    texts = [as_text(number for sentence in sentences for number in sentence.ids)
             for sentences in documents]
    swapped = total = 0
    for number, instance in all_instances(documents, settings, entries):
        first, second = restored(instance, {})
        in_order = second + first if instance.is_swapped else first + second
        assert as_text(in_order) in texts[number]
        assert instance.ids[0] == entries.cls_id and instance.ids[-1] == entries.sep_id
        assert instance.ids[instance.first_length - 1] == entries.sep_id
        swapped += instance.is_swapped
        total += 1
    assert total > 500 and within_binomial(swapped, total, 0.5)


def test_every_document_with_two_tokens_is_used(settings, reader, entries):
    texts = {"一": 0, "一二": 1, "。": 0, "，。": 1, "Hi": 0, "\u200b": 0}
    for text, expected in texts.items():
        sentences = [sentence for sentence in [reader.read(text)] if sentence.ids]
        found = list(cpd.make_instances(sentences, cpd.seeded(1), settings, entries))
        assert len(found) == expected, text


# ---------------------------------------------------------------------------------------------
# Masking
# ---------------------------------------------------------------------------------------------

def test_whole_words_are_masked_80_10_10(settings, reader, entries, tokenizer):
    settings = settings._replace(dupe_factor=40, max_predictions_per_seq=20)
    documents = read_corpus(settings, reader)
    ordinary = set(entries.ordinary_ids)
    outcomes, masked, tokens = collections.Counter(), 0, 0
    for _, instance in all_instances(documents, settings, entries):
        first, second = restored(instance, {})
        original = [entries.cls_id] + first + [entries.sep_id] + second + [entries.sep_id]
        changed = dict(zip(instance.positions, instance.labels))
        assert instance.positions == sorted(set(instance.positions))
        assert len(changed) <= cpd.count_predictions(len(original), settings)
        masked, tokens = masked + len(changed), tokens + len(original)
        # Segments can be cut inside a sentence, so words are taken from runs of masked tokens: a
        # word of several characters is masked in whole or not at all.
        for word in ("图 书 馆", "计 算 机", "参 观"):
            ids = tokenizer.convert_tokens_to_ids(word.split())
            for place in range(1, len(original) - len(ids)):
                if original[place:place + len(ids)] == ids:
                    places = range(place, place + len(ids))
                    assert len({place in changed for place in places}) == 1
                    if place in changed:
                        now = instance.ids[place:place + len(ids)]
                        if now == ids:
                            outcomes["kept"] += 1
                        elif now == [entries.mask_id] * len(ids):
                            outcomes["mask"] += 1
                        else:
                            assert entries.mask_id not in now and ordinary.issuperset(now)
                            outcomes["random"] += 1
    total = sum(outcomes.values())
    assert total > 1000
    assert within_binomial(outcomes["mask"], total, 0.8)
    assert within_binomial(outcomes["random"], total, 0.1)
    assert within_binomial(outcomes["kept"], total, 0.1)
    assert abs(masked / float(tokens) - 0.15) < 0.01


def test_single_tokens_are_drawn_one_by_one(settings, reader, entries):
    settings = settings._replace(do_whole_word_mask=False, dupe_factor=10)
    documents = read_corpus(settings, reader)
    inside = total = kept = 0
    for _, instance in all_instances(documents, settings, entries):
        assert len(instance.positions) == cpd.count_predictions(len(instance.ids), settings)
        for position, label in zip(instance.positions, instance.labels):
            total += 1
            kept += instance.ids[position] == label
            inside += position + 1 not in instance.positions
    assert within_binomial(kept, total, 0.1) and inside > total / 2


def test_replacements_are_ordinary_entries(entries, tokenizer):
    ids = [5] * 60000
    cpd.replace_spans(ids, [(i, i + 1) for i in range(60000)], cpd.seeded(1), entries)
    replaced = [tokenizer.inv_vocab[i] for i in ids if i not in (5, entries.mask_id)]
    assert within_binomial(len(replaced), 60000, 0.1)
    assert not [token for token in replaced if token.startswith("[") and len(token) > 1]
    assert not [token for token in replaced if token.startswith("##") and len(token) == 3
                and tokenization.is_chinese_char(ord(token[2]))]
    assert len(set(replaced)) > 3000  # drawn from the whole vocabulary


def test_labels_are_plain_or_prefixed(settings, reader, entries, tokenizer):
    documents = read_corpus(settings, reader)
    plain = {twin: number for number, twin in entries.twins.items()}
    both = [list(all_instances(documents, settings._replace(prefixed_word_labels=choice), entries))
            for choice in (False, True)]
    prefixed_labels = 0
    for (_, one), (_, other) in zip(*both):
        assert (one.ids, one.positions) == (other.ids, other.positions)
        assert not plain.keys() & set(one.labels) and not plain.keys() & set(one.ids)
        assert [plain.get(label, label) for label in other.labels] == one.labels
        prefixed_labels += len(plain.keys() & set(other.labels))
    assert prefixed_labels > 100
    twins = [token for token in tokenizer.convert_ids_to_tokens(plain) if "一" <= token[2] <= "龥"]
    assert len(twins) == 7321
    sentence = reader.read("图书馆")
    many = settings._replace(prefixed_word_labels=True, masked_lm_prob=0.9)
    other = reader.read("图书馆")
    labels = cpd.mask_tokens(sentence, other, False, cpd.seeded(1), many, entries).labels
    assert tokenizer.convert_ids_to_tokens(labels) == ["图", "##书", "##馆"] * 2


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_span_lengths_follow_the_paper(most):
    rng = cpd.seeded(most)
    counts = collections.Counter(cpd.draw_span_length(most, rng) for _ in range(20000))
    whole = sum(1.0 / n for n in range(1, most + 1))
    assert set(counts) == set(range(1, most + 1))
    if most > 1:
        for length in counts:
            assert within_binomial(counts[length], 20000, 1.0 / length / whole)


def test_spans_stay_in_their_segment_and_below_the_limit():
    rng = random.Random(5)
    lengths = collections.Counter()
    for seed in range(2000):
        sizes = [rng.randint(1, 3) for _ in range(30)]
        words, place = [], 1
        for number, size in enumerate(sizes):
            place += int(number == 15)  # [SEP]
            words.append((place, place + size))
            place += size
        spans = cpd.choose_spans(words, 12, 3, cpd.seeded(seed))
        starts, ends = {start for start, _ in words}, {end for _, end in words}
        covered = [place for start, end in spans for place in range(start, end)]
        assert len(covered) == len(set(covered)) <= 12 and len(covered) >= 10
        assert all(start in starts and end in ends for start, end in spans)
        assert all(end <= words[14][1] or start >= words[15][0] for start, end in spans)
        lengths.update(sum(start <= word[0] < end for word in words) for start, end in spans[:1])
    assert within_binomial(lengths[1], 2000, 6 / 11.0, 6)
    assert within_binomial(lengths[2], 2000, 3 / 11.0, 6)


def test_a_word_that_exceeds_the_limit_is_passed_over():
    words = [(1, 6), (6, 8), (8, 13)]
    for seed in range(20):
        assert cpd.choose_spans(words, 3, 1, cpd.seeded(seed)) == [(6, 8)]


# ---------------------------------------------------------------------------------------------
# Records, files, workers
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("pad_records", [False, True])
def test_records_have_the_known_keys(settings, pad_records):
    summary = cpd.create(settings._replace(pad_records=pad_records))
    (path,) = summary["outputs"]
    records.check(path, records.PRETRAINING, {"sequence": 64, "predictions": 10})
    found = read_records([path])
    tokens = sum(sum(record["input_mask"]) for record in found)
    masked = sum(sum(record["masked_lm_weights"]) for record in found)
    swapped = sum(record["next_sentence_labels"][0] for record in found)
    assert summary["instances"] == len(found)
    assert summary["mean_length"] == round(tokens / float(len(found)), 2)
    assert summary["padding_share"] == pytest.approx(1 - tokens / (64.0 * len(found)), abs=1e-6)
    assert summary["masked_share"] == pytest.approx(masked / tokens, abs=1e-6)
    assert summary["swapped_share"] == pytest.approx(swapped / float(len(found)), abs=1e-6)
    assert summary["documents"] == 30 and summary["skipped_documents"] == 0
    for record in found:
        length = sum(record["input_mask"])
        assert set(record) == {field.name for field in records.PRETRAINING}
        padding = [0] * (64 - length) if pad_records else []
        assert record["input_mask"] == [1] * length + padding
        assert record["input_ids"][length:] == padding
        first = record["input_ids"].index(102) + 1
        assert record["segment_ids"] == [0] * first + [1] * (length - first) + padding
        number = int(sum(record["masked_lm_weights"]))
        unused = [0] * (10 - number) if pad_records else []
        assert record["masked_lm_weights"] == [1.0] * number + unused
        assert record["masked_lm_positions"][number:] == unused
        assert record["masked_lm_ids"][number:] == unused
    with open(os.path.join(os.path.dirname(path), "x.json"), encoding="utf-8") as stream:
        assert json.load(stream) == json.loads(json.dumps(summary))
    assert sorted(os.listdir(os.path.dirname(path))) == ["x.json", "x.tfrecord"]


def test_same_seed_same_bytes_whatever_the_workers(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(cpd, "UNIT_CHARACTERS", 500)
    digests = set()
    for number, workers in enumerate((1, 1, 2, 3)):
        output = str(tmp_path / str(number) / "x.tfrecord")
        cpd.create(settings._replace(num_workers=workers, output_file=output))
        with open(output, "rb") as stream:
            digests.add(hashlib.sha256(stream.read()).hexdigest())
    assert len(digests) == 1
    other = settings._replace(random_seed=7)
    cpd.create(other)
    with open(other.output_file, "rb") as stream:
        assert hashlib.sha256(stream.read()).hexdigest() not in digests


def test_records_are_the_same_on_every_runtime(settings):
    # Both runtimes must give this digest. It changes with the vocabulary, jieba's dictionary or
    # the meaning of a draw; a change of that kind belongs in CHANGELOG.md.
    cpd.create(settings._replace(max_ngram=2, pad_records=True))
    with open(settings.output_file, "rb") as stream:
        assert hashlib.sha256(stream.read()).hexdigest() == DIGEST


DIGEST = "a47b1768fde1f22516aaf1ce039a8101dd9fbc30e95aea4cc36b4f8e704e6ab9"


def test_padding_is_all_that_pad_records_adds(settings):
    cpd.create(settings)
    plain = read_records([settings.output_file])
    cpd.create(settings._replace(pad_records=True, overwrite=True))
    padded = read_records([settings.output_file])
    assert len(plain) == len(padded)
    for short, full in zip(plain, padded):
        assert all(full[name][:len(value)] == value and not any(full[name][len(value):])
                   for name, value in short.items())


def test_spawned_workers_give_the_same_records(settings):
    settings = settings._replace(num_workers=2)
    units = list(cpd.units_of_work(cpd.read_documents([settings.input_file])))
    spawned = list(cpd.map_units(settings, iter(units), start_method="spawn"))
    assert spawned == [cpd.make_records(settings, unit) for unit in units]


def test_a_killed_worker_ends_the_run_with_a_message(settings, monkeypatch):
    monkeypatch.setattr(cpd.RecordMaker, "make",
                        lambda self, document: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match="worker process was killed.*--num_workers=1"):
        cpd.create(settings._replace(num_workers=2))
    assert os.listdir(os.path.dirname(settings.output_file)) == []


def test_an_error_in_a_worker_arrives(settings, monkeypatch):
    def fail(self, document):
        raise UserError("document %d is bad" % document.number)

    monkeypatch.setattr(cpd.RecordMaker, "make", fail)
    with pytest.raises(UserError, match="document 0 is bad"):
        cpd.create(settings._replace(num_workers=2))
    assert os.listdir(os.path.dirname(settings.output_file)) == []


def test_the_shuffle_is_uniform_and_loses_nothing(tmp_path):
    items = [b"%d" % i * (i % 7) + b"-%d" % i for i in range(200)]
    first_places = collections.Counter()
    for seed in range(300):
        folder = tmp_path / str(seed)
        folder.mkdir()
        buckets = cpd.ShuffleBuckets(str(folder), 4, seed)
        for number, item in enumerate(items):
            buckets.add(item)
            if number % 50 == 0:
                buckets._flush()
        found = list(buckets.shuffled())
        assert sorted(found) == sorted(items) and list(folder.iterdir()) == []
        first_places.update(items.index(item) // 50 for item in found[:20])
    for quarter in range(4):
        assert within_binomial(first_places[quarter], 6000, 0.25)


def test_draws_are_fixed():
    rng = cpd.seeded(12345, 0, 0, 0)
    assert [cpd.below(rng, 1000) for _ in range(4)] == DRAWS
    assert sorted(cpd.in_random_order("abcdef", rng)) == list("abcdef")


DRAWS = [876, 875, 313, 358]


@pytest.mark.parametrize("name, shards, expected", [
    ("x.tfrecord", 1, ["x.tfrecord"]),
    ("x", 1, ["x.tfrecord"]),
    ("x.tfrecord", 3, ["x-00000-of-00003.tfrecord", "x-00001-of-00003.tfrecord",
                       "x-00002-of-00003.tfrecord"]),
    ("x.tfrecord, y.tfrecord", 1, ["x.tfrecord", "y.tfrecord"]),
])
def test_names_of_shards(settings, name, shards, expected):
    folder = os.path.dirname(settings.output_file)
    names = ",".join(os.path.join(folder, part.strip()) for part in name.split(","))
    summary = cpd.create(settings._replace(output_file=names, num_shards=shards))
    assert sorted(os.listdir(folder)) == sorted(expected + ["x.json"])
    sizes = [len(read_records([os.path.join(folder, name)])) for name in expected]
    assert sum(sizes) == summary["instances"] and max(sizes) - min(sizes) <= 1


def test_an_earlier_run_is_refused_then_replaced_as_a_whole(settings, capsys):
    folder = os.path.dirname(settings.output_file)
    cpd.create(settings._replace(num_shards=3))
    bystander = os.path.join(folder, "x-more.tfrecord")
    shutil.copy(os.path.join(folder, "x-00000-of-00003.tfrecord"), bystander)
    before = {name: os.stat(os.path.join(folder, name)).st_mtime_ns for name in os.listdir(folder)}
    for shards in (1, 2, 3):
        with pytest.raises(UserError, match="--overwrite=True"):
            cpd.create(settings._replace(num_shards=shards))
    assert before == {name: os.stat(os.path.join(folder, name)).st_mtime_ns
                      for name in os.listdir(folder)}
    cpd.create(settings._replace(num_shards=1, overwrite=True))
    assert sorted(os.listdir(folder)) == ["x-more.tfrecord", "x.json", "x.tfrecord"]
    assert "removing" in capsys.readouterr().err
    with open(os.path.join(folder, "x.json"), encoding="utf-8") as stream:
        assert json.load(stream)["outputs"] == [settings.output_file]


def test_a_file_of_the_users_in_the_summarys_place_is_kept(settings):
    own = os.path.join(os.path.dirname(settings.output_file), "x.json")
    with open(own, "w") as stream:
        stream.write('{"text": "mine"}')
    with pytest.raises(UserError, match="file of another kind"):
        cpd.create(settings._replace(overwrite=True))
    with open(own) as stream:
        assert stream.read() == '{"text": "mine"}'


# ---------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("changes, message", [
    ({"max_seq_length": 4}, "--max_seq_length=4 must be 5 to"),
    ({"max_predictions_per_seq": 0}, "--max_predictions_per_seq=0 must be 1 to"),
    ({"max_predictions_per_seq": 64}, "must be less than --max_seq_length=64"),
    ({"dupe_factor": 0}, "--dupe_factor=0"),
    ({"masked_lm_prob": 0.0}, "--masked_lm_prob=0.0"),
    ({"masked_lm_prob": 15.0}, "--masked_lm_prob=15.0"),
    ({"short_seq_prob": -0.1}, "--short_seq_prob=-0.1"),
    ({"short_seq_prob": float("nan")}, "--short_seq_prob=nan"),
    ({"num_workers": -2}, "--num_workers=-2"),
    ({"num_shards": 0}, "--num_shards=0"),
    ({"num_shards": 5000}, "cannot fill 5000 shards"),
    ({"max_ngram": 0}, "--max_ngram=0"),
    ({"prefixed_word_labels": True, "non_chinese": True}, "--prefixed_word_labels"),
    ({"input_file": None}, "--input_file is missing"),
    ({"input_file": "/no/such/*.txt"}, "no file matches /no/such"),
    ({"output_file": None}, "--output_file is missing"),
    ({"output_file": "{folder}"}, "is a folder"),
    ({"output_file": "{folder}/.tfrecord"}, "has no name"),
    ({"output_file": "{folder}/a.tfrecord,{folder}/a.tfrecord"}, "twice"),
    ({"output_file": "{folder}/a.tfrecord,{folder}/b.tfrecord", "num_shards": 3}, "does not fit"),
    ({"output_file": "{corpus}/x.tfrecord"}, "cannot be written to"),
    ({"vocab_file": None}, "--vocab_file is missing"),
    ({"vocab_file": "/no/such/vocab.txt"}, "--vocab_file=/no/such/vocab.txt does not exist"),
    ({"vocab_file": "{corpus}"}, "repeats the entry|lacks the special"),
])
def test_bad_settings_are_named(settings, changes, message):
    folder = os.path.dirname(settings.output_file)
    changes = {name: value.format(folder=folder, corpus=settings.input_file)
               if isinstance(value, str) else value for name, value in changes.items()}
    with pytest.raises(UserError, match=message):
        cpd.create(settings._replace(**changes))
    assert os.listdir(folder) == []


@pytest.mark.parametrize("content, message", [
    (b"", "is empty"),
    (b"\n \n\xe3\x80\x80\n", "holds only blank lines"),
    ("一\n\n二\n".encode("utf-8"), "all 2 documents are too short.*nothing was written"),
    ("好的。\n\n".encode("utf-8") * 300 + "中文。\n".encode("gb18030"),
     "corpus.txt line 601 is not UTF-8.*GB18030"),
])
def test_bad_text_is_named(settings, content, message):
    with open(settings.input_file, "wb") as stream:
        stream.write(content)
    with pytest.raises(UserError, match=message):
        cpd.create(settings)
    assert os.listdir(os.path.dirname(settings.output_file)) == []


def test_the_input_is_not_overwritten(settings, tmp_path):
    own = str(tmp_path / "mine.tfrecord")
    shutil.copy(settings.input_file, own)
    with pytest.raises(UserError, match="would overwrite the input"):
        cpd.create(settings._replace(input_file=own, output_file=own, overwrite=True))
    assert filecmp.cmp(own, settings.input_file, shallow=False)


@pytest.mark.parametrize("text, warning", [
    ("今天没有下雨。\n" * 300, "no blank lines"),
    ("今天没有下雨。\n\n" * 20, "every document is a single sentence"),
])
def test_unlikely_texts_are_pointed_out(settings, capsys, text, warning):
    with open(settings.input_file, "wb") as stream:
        stream.write(text.encode("utf-8"))
    cpd.create(settings)
    assert warning in capsys.readouterr().err


def test_too_short_documents_are_counted(settings):
    with open(settings.input_file, "ab") as stream:
        stream.write("\n一\n\n\u200b\n\n。\n".encode("utf-8"))
    summary = cpd.create(settings)
    assert summary["documents"] == 33 and summary["skipped_documents"] == 3


# ---------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------

def command(root, *arguments):
    return [sys.executable, os.path.join(root, "create_pretraining_data.py")] + list(arguments)


def run(*arguments, **options):
    return subprocess.run(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, timeout=120, **options)


def test_the_command_line_creates_records(root, settings):
    done = run(command(root, "--input_file=%s" % settings.input_file, "--dupe_factor=1",
                       "--output_file=new/tf_news.tfrecord", "--num_shards=2", "--num_workers=2",
                       "--vocab_file=%s" % settings.vocab_file, "--do_whole_word_mask"),
               cwd=os.path.dirname(settings.output_file))
    assert done.returncode == 0, done.stderr
    assert "Building prefix dict" not in done.stderr and "Warning:" not in done.stderr
    assert "swapped pairs" in done.stdout and "30 documents" in done.stderr
    folder = os.path.join(os.path.dirname(settings.output_file), "new")
    assert sorted(os.listdir(folder)) == ["tf_news-00000-of-00002.tfrecord",
                                          "tf_news-00001-of-00002.tfrecord", "tf_news.json"]
    with open(os.path.join(folder, "tf_news.json"), encoding="utf-8") as stream:
        chosen = json.load(stream)["settings"]
    assert chosen["max_seq_length"] == 128 and chosen["max_predictions_per_seq"] == 20
    assert chosen["random_seed"] == 12345 and chosen["masked_lm_prob"] == 0.15
    assert chosen["short_seq_prob"] == 0.1 and chosen["do_lower_case"] is True


@pytest.mark.parametrize("arguments, message", [
    (["--max_sequence_length=64"], "max_seq_length"),
    (["--input_file=/no/such.txt"], "no file matches /no/such.txt"),
])
def test_the_command_line_answers_mistakes_in_one_message(root, arguments, message):
    done = run(command(root, *arguments))
    assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing(root, settings, number):
    folder = os.path.dirname(settings.output_file)
    process = subprocess.Popen(
        command(root, "--input_file=%s" % settings.input_file, "--dupe_factor=100000",
                "--output_file=%s" % settings.output_file, "--num_workers=2",
                "--vocab_file=%s" % settings.vocab_file),
        stderr=subprocess.PIPE, universal_newlines=True, start_new_session=True,
        # A shell starts background jobs, and so perhaps these tests, with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        deadline = time.time() + 60
        while not os.listdir(folder) and time.time() < deadline:
            time.sleep(0.05)
        assert os.listdir(folder)[0].startswith(".tmp-")
        time.sleep(0.5)
        # Ctrl-C reaches the whole group, a plain kill the process alone.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        _, said = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 130 and "Traceback" not in said and "interrupted" in said
    assert os.listdir(folder) == []


def test_the_shell_script_passes_flags_through(root, tmp_path):
    script = str(tmp_path / "a folder" / "create_pretrain_data.sh")
    os.mkdir(os.path.dirname(script))
    shutil.copy(os.path.join(root, "create_pretrain_data.sh"), script)
    done = run(["bash", script, "--help"], cwd="/")
    assert done.returncode == 0 and "--max_predictions_per_seq=51" in done.stdout
    with open(os.path.join(os.path.dirname(script), "env.sh"), "w") as stream:
        stream.write("export PYTHON=echo\n")
    for given in ([], ["--max_seq_length=64", "--input_file=a b.txt", "--output_file=c.tfrecord"]):
        done = run(["bash", script] + given, cwd="/")
        assert done.returncode == 0, done.stderr
        for default in ("data/news_zh_1.txt --output_file=",
                        "data/tf_news_2016_zh_raw_news2016zh_1.tfrecord", "albert_config/vocab.txt",
                        "--do_whole_word_mask=True", "--max_seq_length=512",
                        "--max_predictions_per_seq=51", "--masked_lm_prob=0.10"):
            assert default in done.stdout
        assert done.stdout.strip().endswith(" ".join(["--masked_lm_prob=0.10"] + given))
    done = run(["bash", script, "--input_file=mine.txt"], cwd="/")
    assert done.returncode == 1 and "--output_file" in done.stderr
