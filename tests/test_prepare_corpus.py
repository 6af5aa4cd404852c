"""prepare_corpus.py: sentences, formats, cleaning, filters, duplicates, restarts and bad input."""

import doctest
import gc
import glob
import gzip
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from conftest import ROOT
from helpers import assert_user_error, read, run_here, run_script
from hypothesis import given, settings as hypothesis_settings, strategies

import corpus
import create_pretraining_data
import duplicates
import files
import prepare_corpus
import raw_text
import sentence_splitting
from errors import UserError
from prepare_corpus import Settings, create
from sentence_splitting import split_sentences

WORDS = ["图书馆", "运动会", "博物馆", "火车站", "天安门", "计算机", "电影院", "大学生", "参观",
         "讨论", "研究", "建设", "介绍", "学习", "支持", "发展", "昨天", "北方", "南方", "孩子"]


def invented_document(rng, sentences=6):
    return ["".join(rng.choice(WORDS) for _ in range(rng.randint(4, 12))) + "。"
            for _ in range(rng.randint(2, sentences))]


def invented(documents, seed=1):
    rng = random.Random(seed)
    return [invented_document(rng) for _ in range(documents)]


def as_text(documents):
    return "\n".join("".join(line + "\n" for line in document) for document in documents)


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return str(path)


def prepare(folder, text, name="raw.txt", **changes):
    """Prepares a text; returns (documents, report)."""
    (folder / "out").mkdir(exist_ok=True)
    changes = dict({"num_workers": 1, "min_characters": 0, "overwrite": True}, **changes)
    report = create(Settings(write(folder / name, text), str(folder / "out" / "c.txt"), **changes))
    return documents_in(report["outputs"][0]), report


def documents_in(path):
    with files.open_uncompressed(str(path)) as stream:
        text = stream.read().decode("utf-8")
    return [document.split("\n") for document in text.split("\n\n") if document]


def outputs_in(folder):
    """Returns {name: content} of a folder; of the report, what does not tell the time."""
    found = {}
    for name in sorted(os.listdir(str(folder))):
        content = read(os.path.join(str(folder), name))
        if name.endswith(".json"):
            content = json.loads(content.decode("utf-8"))
            for varying in ("seconds", "settings", "outputs", "inputs"):
                del content[varying]
        found[name] = content
    return found


def reasons(report):
    return {row["reason"]: row.get("documents", row.get("lines")) for row in report["dropped"]}


# With these there are many pieces, jobs, parts, runs and buckets of texts that are small.
SMALL = [(corpus, "PIECE_BYTES", 4000), (prepare_corpus, "PART_DOCUMENTS", 7),
         (prepare_corpus, "COUNTED_LINES", 20), (duplicates, "BUCKET_ITEMS", 64),
         (duplicates, "BLOCK_ITEMS", 5)]


@pytest.fixture
def small_pieces(monkeypatch):
    for module, name, value in SMALL:
        monkeypatch.setattr(module, name, value)


# ---------------------------------------------------------------------------------------------
# Sentences
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("divided", [
    "今天下雨。|我没有出门！|你呢？",
    "真的吗？！！|好……|走吧…",
    "第一点；|第二点。|没有句号",
    "他说：“你好。我来了。”|然后走了。",
    "“谁来？”的问题，没有人答。|“来！”，他喊。",
    "「好。」|『不好！』|她说。",
    "他说：「你说『好。』我听见了。」|走了。",
    "（他走了。）|她来了（昨天？）又走了。",
    "《为什么？》这本书很好。|【注意！】",
    "“没有关上的引号。|第二句。|第三句",
    "没有打开的引号。”|第二句。）|第三句",
    '他说:"你好。我来了。"|"再见。"|"再来！"',
    "圆周率是3.14。|见www.a.com/x?id=3;b!c，U.S. Army和J. Smith。",
    'He came. |She left! |Why? |"Go on." |(See Fig. 3.) |It was e.g. here.',
    "Mr. Smith met Dr. Li. |He was No. 1 there... |Well, ok... yes.",
    "Yahoo! is a firm. |Is it? |Yes",
    "1. Overview. |2. More",
    "版本2.0发布了.|大家很高兴. |OK!|我们走吧",
    "A&nbsp;B&amp;C；|中文;|英文;|or English; really.",
    "！！！",
    "……然后他走了。|结束。！",
    "第一句。|第二句！ )",
    "第一句。 。 |第二句",
    "第一句。|第二句。“",
    "到了年底。|’９８年再见。|It's '98. |OK",
])
def test_sentences_end_where_they_should(divided):
    assert split_sentences(divided.replace("|", "")) == [
        part.strip() for part in divided.split("|")]


def test_a_long_quotation_is_split_and_a_lone_mark_swallows_nothing():
    inside = "他来了。" * (sentence_splitting.MOST_ENCLOSED // 4 + 1)
    assert split_sentences("“" + inside[:-4 * 2] + "”") == ["“" + inside[:-8] + "”"]
    assert len(split_sentences("“" + inside + "”")) == len(inside) // 4
    assert split_sentences("“" + inside + "”")[-1] == "他来了。”"
    assert len(split_sentences("“" * 3 + inside * 3)) == 3 * len(inside) // 4


def test_long_sentences_are_cut_at_clauses():
    assert split_sentences("一二三，四五六七，八九十。", 6) == [
        "一二三，", "四五六七，", "八九十。"]


MARKS = "。！？；…“”‘’「」『』（）()《》【】[]\"'.!?;&#,，、：—的之 \n\t\u3000a1U中文"


@hypothesis_settings(deadline=None, max_examples=200)
@given(strategies.one_of(strategies.text(MARKS, max_size=60), strategies.text(max_size=40)),
       strategies.integers(10, 50))
def test_no_character_is_lost(text, limit):
    found = split_sentences(text, limit)
    assert "".join("".join(found).split()) == "".join(text.split())
    for sentence in found:
        assert sentence and sentence == sentence.strip() and len(sentence) <= limit


@pytest.mark.parametrize("unit", ["“", "（a。", "! ", "\"", "。", "(a.)", "a" * 50, "’"])
def test_any_text_takes_time_in_proportion(unit, monkeypatch):
    """Counts the steps of the searches rather than the time."""
    steps = []

    def counting(pattern):
        class Counting(object):
            def search(self, text, start=0, end=None):
                found = pattern.search(text, start, len(text) if end is None else end)
                steps.append((found.end() if found else len(text)) - start)
                return found
        return Counting()

    for name in ("_WORD", "_NOT_BLANK"):
        monkeypatch.setattr(sentence_splitting, name, counting(getattr(sentence_splitting, name)))
    text = unit * 2000
    assert "".join(split_sentences(text)).replace(" ", "") == text.replace(" ", "")
    assert sum(steps) <= 10 * len(text) + 10


def test_the_examples_in_the_docstrings_hold():
    for module in (prepare_corpus, sentence_splitting, raw_text, duplicates):
        assert doctest.testmod(module).failed == 0


def line_ends(lines):
    return np.cumsum([len(line.replace(" ", "")) for line in lines]).tolist()


def test_sentences_of_real_text_are_those_of_its_editors(shared_data):
    """People's Daily was split by hand or by another program; its paragraphs are put together."""
    with io.open(os.path.join(shared_data, "corpus", "people_daily_199801.txt"),
                 encoding="utf-8") as stream:
        text = stream.read(400000)
    ends = found = outside = outside_found = 0
    for document in text.split("\n\n")[:-1]:
        lines = [line.strip() for line in document.split("\n") if line.strip()]
        joined = "".join(lines)
        ours = set(line_ends(split_sentences(joined)))
        quoted = sentence_splitting._enclosed(joined)
        for end, line in zip(line_ends(lines), lines):
            if line.rstrip("”’』）")[-1:] not in ("。", "！", "？"):
                continue  # headlines and the like, whose end the text does not show
            ends += 1
            found += end in ours
            if not any(start < end - 1 < stop for start, stop in quoted):
                outside += 1
                outside_found += end in ours
    assert ends > 8000
    assert found >= 0.93 * ends
    assert outside_found >= 0.995 * outside


def test_real_paragraphs_are_split_without_loss(shared_data):
    with io.open(os.path.join(shared_data, "cmrc2018", "dev.json"), encoding="utf-8") as stream:
        passages = [paragraph["context"] for article in json.load(stream)["data"]
                    for paragraph in article["paragraphs"]]
    for passage in passages:
        found = split_sentences(passage, 500)
        assert "".join("".join(found).split()) == "".join(passage.split())
        assert max(map(len, found)) <= 500
        assert len(found) >= passage.count("。") / 3.0


# ---------------------------------------------------------------------------------------------
# Formats
# ---------------------------------------------------------------------------------------------

DOCUMENTS = [["第一篇文章的第一句。", "第二句！"], ["第二篇文章，只有一句。"],
             ["第三篇：标题", "正文在这里。"]]


def as_wiki(documents):
    return "".join('<doc id="%d" url="x" title="t">\n%s\n\n</doc>\n' % (number, "\n".join(lines))
                   for number, lines in enumerate(documents))


def as_rows(documents, field="text"):
    return "".join(json.dumps({"id": number, field: "\n".join(lines)}) + "\n"
                   for number, lines in enumerate(documents))


@pytest.mark.parametrize("name, text, changes", [
    ("raw.txt", as_text(DOCUMENTS), {}),
    ("raw", as_text(DOCUMENTS).replace("\n", "\r\n"), {}),
    ("raw.txt", "\ufeff\n \n\n" + as_text(DOCUMENTS), {}),
    ("raw.jsonl", as_rows(DOCUMENTS), {}),
    ("raw.json", as_rows(DOCUMENTS, "content"), {"text_field": "content"}),
    ("wiki_00", as_rows(DOCUMENTS), {"input_format": "wiki"}),
    ("wiki_00", as_rows(DOCUMENTS), {}),
    ("wiki_00", as_wiki(DOCUMENTS), {}),
    ("raw.txt", as_wiki(DOCUMENTS).replace("</doc>\n", "", 1), {}),
    ("odd.name", as_wiki(DOCUMENTS), {"input_format": "wiki"}),
])
def test_every_format_gives_the_same_documents(tmp_path, name, text, changes):
    assert prepare(tmp_path, text, name, **changes)[0] == DOCUMENTS


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_compressed_files_are_read(tmp_path, ending):
    text = as_rows(DOCUMENTS).encode("utf-8")
    if ending == "gz":
        packed = gzip.compress(text)
    else:
        packed = pytest.importorskip("zstandard").ZstdCompressor().compress(text)
    assert prepare(tmp_path, packed, "raw.jsonl." + ending)[0] == DOCUMENTS


def test_several_files_in_order_and_a_file_for_a_document(tmp_path):
    for name, text in (("b.txt", "第一句。\n\n第二句。"), ("a.txt", "第三句。\n\n\n第四句。\n")):
        write(tmp_path / name, text)
    target = str(tmp_path / "out.txt")
    for blank_lines, documents in (
            ("paragraph", [["第三句。", "第四句。"], ["第一句。", "第二句。"]]),
            ("document", [["第三句。"], ["第四句。"], ["第一句。"], ["第二句。"]])):
        create(Settings(str(tmp_path / "[ab].txt"), target, blank_lines=blank_lines,
                        min_characters=0, num_workers=1, overwrite=True))
        assert documents_in(target) == documents


def test_titles_become_the_first_line(tmp_path):
    rows = "\n".join(json.dumps(row) for row in [
        {"title": "标题一", "text": "正文。"}, {"title": "标题二", "text": "标题二\n正文二。"},
        {"title": None, "text": "正文三。"}, {"text": "正文四。"}])
    assert prepare(tmp_path, rows, "raw.jsonl", title_field="title")[0] == [
        ["标题一", "正文。"], ["标题二", "正文二。"], ["正文三。"], ["正文四。"]]
    assert prepare(tmp_path, rows, "raw.jsonl", title_field="")[0][0] == ["正文。"]


@hypothesis_settings(deadline=None, max_examples=60)
@given(strategies.data())
def test_documents_do_not_depend_on_the_pieces(tmp_path_factory, data):
    kind = data.draw(strategies.sampled_from(raw_text.FORMATS))
    lines = {"text": ["中文。", "a", "", " ", "\ufeff"], "jsonl": ['{"text": "中\\n文"}', "", "{}"],
             "wiki": ["<doc id=1>", "</doc>", "中文", "", "<doc of no end"]}[kind]
    chosen = data.draw(strategies.lists(strategies.sampled_from(lines), min_size=1, max_size=30))
    path = write(tmp_path_factory.mktemp("pieces") / "raw", "\n".join(chosen) + "\n")
    reading = raw_text.Reading("text", "", "document", True)

    def read_in(pieces):
        found, bad, before = [], [], 0
        for piece in pieces:
            tally = raw_text.Tally(lambda _, number, text, start=before: bad.append(
                (start + number, text)))
            found.extend(([before + number for number in document.numbers], document.lines)
                         for document in raw_text.read_documents(piece, kind, reading, tally))
            before += tally.lines
        return found, bad, before

    whole = read_in(raw_text.plan_pieces([path], [kind], "document", 1 << 20))
    assert whole[2] == len(chosen)
    assert whole == read_in(raw_text.plan_pieces([path], [kind], "document",
                                                 data.draw(strategies.integers(1, 40))))


def test_what_stands_between_extracts_is_none_of_theirs(tmp_path):
    text = "前言。\n" + as_wiki(DOCUMENTS).replace("</doc>\n", "</doc>\n别的。\n")
    assert prepare(tmp_path, text, input_format="wiki")[0] == DOCUMENTS


@pytest.mark.parametrize("kind, line", [("text", "中文。"), ("wiki", "<doc>"), ("jsonl", "{}")])
def test_no_piece_reads_on_where_nothing_is_its_own(tmp_path, monkeypatch, kind, line):
    path = write(tmp_path / "raw", (line + "\n") * 400)
    pieces = raw_text.plan_pieces([path], [kind], "document", 100)
    lines, counted = raw_text._raw_lines, []

    def counting(piece):
        for found in lines(piece):
            counted.append(piece)
            yield found

    monkeypatch.setattr(raw_text, "_raw_lines", counting)
    reading = raw_text.Reading("text", "", "document", True)
    for piece in pieces[1:]:
        list(raw_text.read_documents(piece, kind, reading, raw_text.Tally()))
    assert 400 - 100 < len(counted) <= 400 + len(pieces)


def test_a_very_long_document_is_handed_out_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_text, "PART_CHARACTERS", 30)
    lines = ["这是第%d句话。" % number for number in range(20)]
    documents, report = prepare(tmp_path, "\n".join(lines))
    assert sum(documents, []) == lines and len(documents) > 3
    assert report["parts_of_very_long_documents"] == len(documents) - 1


# ---------------------------------------------------------------------------------------------
# Cleaning and filters
# ---------------------------------------------------------------------------------------------

def test_cleaning():
    assert raw_text.clean(" a\u3000\u3000中\tb\u200b\x00\ufeffc\ufffd\ud800\u2028&nbsp;\x85") == (
        "a 中 bc &nbsp;")
    assert raw_text.clean("e\u0301Ａ，", "none") == "e\u0301Ａ，"
    assert raw_text.clean("e\u200b\u0301Ａ，", "nfc") == "éＡ，"
    assert raw_text.clean("e\u0301Ａ，\u00a8", "nfkc") == "éA, \u0308"


GOOD = "这是一篇普通的文章，没有什么特别之处。还有第二句话在这里。"


@pytest.mark.parametrize("bad, reason, changes", [
    ("\u200b\x00", prepare_corpus.EMPTY, {}),
    ("太短了。", prepare_corpus.TOO_SHORT, {"min_characters": 20}),
    (GOOD * 2 + "完。", prepare_corpus.TOO_LONG, {"max_characters": 40}),
    ("只有一句话，没有第二句。", prepare_corpus.TOO_FEW, {"min_sentences": 2}),
    ("This is English with 一点中文.", prepare_corpus.NOT_CHINESE, {"min_chinese_share": 0.5}),
    ("1998.12.31 | 3.14 | +86-10-1234567 电话", prepare_corpus.SYMBOLS, {}),
    ("点击这里。点击这里。点击这里。好。", prepare_corpus.REPETITIVE, {}),
])
def test_each_filter_drops_what_it_is_for(tmp_path, bad, reason, changes):
    documents, report = prepare(tmp_path, "%s\n\n%s\n" % (GOOD, bad), **changes)
    assert documents == [split_sentences(GOOD)]
    assert reasons(report) == {reason: 1}
    example = report["dropped"][0]["examples"][0]
    assert example["at"] == "%s line 3" % (tmp_path / "raw.txt")
    assert example["text"] in bad


@pytest.mark.parametrize("text, changes", [
    ("一共八个字在这", {"min_characters": 7, "max_characters": 7}),
    ("两句。两句话。", {"min_sentences": 2}),
    ("一半chin", {"min_chinese_share": 2 / 6.0}),
    ("一九98", {"max_symbol_share": 0.5}),
    ("点击。点击。", {"max_repeated_share": 0.5}),
])
def test_what_just_meets_a_limit_is_kept(tmp_path, text, changes):
    assert prepare(tmp_path, text, **changes)[0] == [split_sentences(text)]


def test_filters_can_be_turned_off(tmp_path):
    text = "1998.12.31 | 3.14\n\n点击。点击。点击。\n\n点击。点击。点击。\n"
    documents, report = prepare(tmp_path, text, max_symbol_share=1.0, max_repeated_share=1.0,
                                drop_duplicates=False)
    assert len(documents) == 3 and reasons(report) == {}


def test_the_report_counts_everything(tmp_path, capsys):
    text = "%s\n\n短。\n\n%s\n" % (GOOD, GOOD)
    _, report = prepare(tmp_path, text, min_characters=5)
    assert report == json.loads(read(tmp_path / "out" / "c.json").decode("utf-8"))
    assert report["documents_in"] == 3 and report["documents"] == 1
    assert report["characters_in"] == 2 * len(GOOD) + 2 and report["characters"] == len(GOOD)
    assert report["sentences"] == 2
    assert [(row["reason"], row["documents"], row["characters"]) for row in report["dropped"]] == [
        (prepare_corpus.TOO_SHORT, 1, 2), (prepare_corpus.DUPLICATE, 1, len(GOOD))]
    out, err = capsys.readouterr()
    assert prepare_corpus.TOO_SHORT in out and "input" in out
    assert "raw.txt line 5 (like %s line 1)" % (tmp_path / "raw.txt") in err


def test_examples_name_the_line_whatever_the_pieces(tmp_path, small_pieces):
    documents = invented(120)
    documents[100] = ["短。"]
    text = as_text(documents)
    line = text[:text.index("\n短。")].count("\n") + 2
    for name in ("first.txt", "second.txt"):
        write(tmp_path / name, text if name == "second.txt" else as_text(invented(30, seed=2)))
    report = create(Settings(str(tmp_path / "*.txt"), str(tmp_path / "c.txt"), num_workers=1,
                             min_characters=5))
    assert report["dropped"][0]["examples"][0]["at"].endswith("second.txt line %d" % line)


# ---------------------------------------------------------------------------------------------
# Duplicates
# ---------------------------------------------------------------------------------------------

def test_the_same_text_is_kept_once(tmp_path, small_pieces):
    documents = invented(90)
    again = [["".join(documents[0])], [line.replace("。", "。 ") for line in documents[3]],
             documents[80]]
    kept, report = prepare(tmp_path, as_text(documents + again))
    assert kept == documents
    assert reasons(report) == {prepare_corpus.DUPLICATE: 3}
    assert report["dropped"][0]["examples"][0]["like"].endswith("raw.txt line 1")
    kept, _ = prepare(tmp_path, as_text(documents + again), drop_duplicates=False)
    assert len(kept) == 93


@pytest.mark.parametrize("bits", [0, 1, 3])
def test_buckets_hold_every_digest_once(tmp_path, bits):
    rng = random.Random(bits)
    keys = [rng.getrandbits(64) for _ in range(200)] + [0, (1 << 64) - 1, 1 << 61, (1 << 61) - 1]
    paths = [str(tmp_path / name) for name in "ab"]
    for path in paths:
        duplicates.write_counts(path, {key: 1 + key % 2 for key in keys})
    for most, expected in ((1, keys), (2, [key for key in keys if key % 2])):
        found = [duplicates.find_frequent(paths, most, bits, bucket).tolist()
                 for bucket in range(1 << bits)]
        assert sum(found, []) == sorted(expected)
    known = np.array(sorted(keys[:100]), np.uint64)
    assert duplicates.is_among(keys, known).tolist() == [key in set(keys[:100]) for key in keys]


def test_parts_and_counts_are_bounded(tmp_path, monkeypatch):
    """What a process holds is written out before it is too much."""
    monkeypatch.setattr(prepare_corpus, "PART_BYTES", 2000)
    monkeypatch.setattr(prepare_corpus, "COUNTED_LINES", 30)
    written, write_counts = [], duplicates.write_counts
    monkeypatch.setattr(duplicates, "write_counts", lambda path, counts: (
        written.append(len(counts)), write_counts(path, counts)))
    parts, find = [], prepare_corpus.find_duplicates
    monkeypatch.setattr(prepare_corpus, "find_duplicates", lambda settings, found, work: (
        parts.extend(os.path.getsize(part.path + prepare_corpus.TEXT) for part in found),
        find(settings, found, work)))
    assert prepare(tmp_path, as_text(invented(100)), max_line_repeats=9)[0] == invented(100)
    assert len(written) > 5 and max(written) < 40
    assert len(parts) > 5 and max(parts) < 3000


def test_lines_of_many_documents_are_dropped_everywhere(tmp_path, small_pieces):
    documents = [lines + ["版权所有，不得转载。", "版权所有，不得转载。"] for lines in invented(60)]
    for number in (3, 40, 55):
        documents[number].insert(1, "三篇文章里都有这一行。")
    kept, report = prepare(tmp_path, as_text(documents), max_line_repeats=3)
    assert kept == [[line for line in lines if not line.startswith("版权")] for lines in documents]
    assert reasons(report) == {prepare_corpus.REPEATED_LINE: 120}
    line = as_text(documents).split("\n").index("版权所有，不得转载。") + 1
    assert [one["at"] for one in report["dropped"][0]["examples"][:2]] == [
        "%s line %d" % (tmp_path / "raw.txt", number) for number in (line, line + 1)]
    assert prepare(tmp_path, as_text(documents), max_line_repeats=2)[0] == invented(60)
    assert prepare(tmp_path, as_text(documents), max_line_repeats=60)[0] == documents


def variant(document, rng, share):
    """Returns the document with so many of its characters replaced, in one stretch."""
    text = "".join(document)
    size = int(len(text) * share)
    start = rng.randrange(len(text) - size)
    return [text[:start] + "变" * size + text[start + size:]]


def shingles(document):
    text = "".join(document)
    return {text[place:place + 5] for place in range(len(text) - 4)}


def jaccard(one, other):
    return len(shingles(one) & shingles(other)) / float(len(shingles(one) | shingles(other)))


def test_near_duplicates_are_found_wherever_they_stand(tmp_path, small_pieces):
    rng = random.Random(5)
    documents = [invented_document(rng, 12) for _ in range(60)]
    alike = [variant(documents[number], rng, 0.02) for number in (0, 7, 30, 59)]
    unlike = [variant(documents[number], rng, 0.6) for number in (1, 8)]
    assert min(jaccard(one, documents[n]) for one, n in zip(alike, (0, 7, 30, 59))) > 0.8
    kept, report = prepare(tmp_path, as_text(documents + unlike + alike), near_duplicates=0.7,
                           max_repeated_share=1.0)
    expected = [split_sentences("".join(one)) for one in unlike]
    assert kept == documents + expected
    assert reasons(report) == {prepare_corpus.NEAR_DUPLICATE: 4}
    assert report["dropped"][0]["examples"][0]["like"].endswith("raw.txt line 1")


def test_bands_find_what_comparing_all_finds():
    rng = np.random.RandomState(3)
    signer, texts = duplicates.Signer(), []
    for number in range(40):
        text = "".join(rng.choice(WORDS, 40))
        texts.append(text)
        for cut in (2, 8, 20):
            texts.append(text[:len(text) - cut] + str(number) * cut)
    signatures = np.stack([signer.sign(text) for text in texts])
    threshold, numbers = 0.8, np.arange(len(texts))
    every = {(one, other) for one in numbers for other in numbers
             if one < other and (signatures[one] == signatures[other]).mean() >= threshold}
    bands, rows = duplicates.choose_bands(threshold)
    found = set()
    for keys in duplicates.band_keys(signatures, bands, rows):
        pairs, left_keys, left = duplicates.link(keys, numbers, threshold, lambda n: signatures[n])
        found.update(map(tuple, pairs.tolist()))
        assert len(left) + len(pairs) == len(numbers) and len(left_keys) == len(left)
    assert found <= every
    # Some pairs are linked through a third document instead.
    assert groups_of(found, len(texts)) == groups_of(every, len(texts))


def groups_of(pairs, count):
    first = list(range(count))
    for one, other in sorted(pairs):
        one, other = sorted((first[one], first[other]))
        first = [one if f == other else f for f in first]
    return first


def test_groups_hold_for_any_order_of_pairs(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "BUCKET_ITEMS", 8)
    rng = random.Random(2)
    for _ in range(20):
        pairs = [tuple(sorted(rng.sample(range(50), 2))) for _ in range(rng.randint(0, 60))]
        groups = duplicates.Groups(str(tmp_path / "groups"), 50)
        groups.join(np.array(pairs, np.int64).reshape([-1, 2]))
        found = [first for _, block in groups.settle() for first in block.tolist()]
        assert found == groups_of(pairs, 50)


def test_signatures_estimate_the_share_of_common_shingles():
    rng = random.Random(9)
    signer, errors = duplicates.Signer(), []
    for share in (0.05, 0.1, 0.2, 0.3, 0.5):
        one = invented_document(rng, 40)
        other = variant(one, rng, share)
        same = (signer.sign("".join(one)) == signer.sign("".join(other))).mean()
        errors.append(abs(same - jaccard(one, other)))
    assert max(errors) < 0.15 and sum(errors) / len(errors) < 0.06


# Made by datasketch 1.7 on Python 3.7 and by datasketch 2.0 on Python 3.11.
EXPECTED_START = [28081429, 14656799, 58051337, 23794434]
EXPECTED_DIGEST = 3803308844028051691
EXPECTED_SHORT = [2324332763, 3566160960]
EXPECTED_KEYS = [11002265117335144980, 2632144823002345042]


def test_signatures_are_the_same_on_every_runtime():
    signature = duplicates.Signer().sign("今天天气很好，我们去公园散步。The weather is fine today.")
    assert signature[:4].tolist() == EXPECTED_START
    assert duplicates.digest(signature.tobytes().hex()) == EXPECTED_DIGEST
    assert duplicates.Signer().sign("短")[:2].tolist() == EXPECTED_SHORT
    bands, rows = duplicates.choose_bands(0.8)
    assert (bands, rows) == (18, 7)
    assert duplicates.band_keys(signature[None], bands, rows)[:2, 0].tolist() == EXPECTED_KEYS


def test_a_missing_package_is_named_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    prepare_corpus._load_signer.cache_clear()
    with pytest.raises(UserError, match="pip install datasketch"):
        prepare(tmp_path, as_text(DOCUMENTS), near_duplicates=0.8)
    assert os.listdir(str(tmp_path / "out")) == []


# ---------------------------------------------------------------------------------------------
# Output
# ---------------------------------------------------------------------------------------------

def test_held_out_documents_depend_on_their_text_alone(tmp_path):
    documents = invented(200)

    def held_out(text, **changes):
        kept, report = prepare(tmp_path, text, held_out_share=0.2, **changes)
        found = documents_in(tmp_path / "out" / "c.held_out.txt")
        assert report["held_out_documents"] == len(found)
        assert report["held_out_characters"] == sum(map(len, sum(found, [])))
        return found, kept

    found, kept = held_out(as_text(documents))
    assert 20 <= len(found) <= 60
    assert sorted(found + kept) == sorted(documents)
    assert found == [document for document in documents if document in found]  # in order
    again, _ = held_out(as_text(invented(50, seed=8) + documents[::-1]), max_sentence_characters=10)
    joined = {"".join(document) for document in found}
    texts = {"".join(document) for document in documents}
    assert {"".join(one) for one in again} & texts == joined


def test_shards_hold_everything_in_order(tmp_path, small_pieces):
    documents = invented(100)
    for changes, count in (({"num_shards": 3}, 3), ({"shard_megabytes": 0.004}, None),
                           ({"num_shards": 100}, 100)):
        report = prepare(tmp_path, as_text(documents), **changes)[1]
        shards = [documents_in(path) for path in report["outputs"]]
        assert sum(shards, []) == documents and all(shards)
        sizes = [os.path.getsize(path) for path in report["outputs"]]
        if count:
            assert len(shards) == count
        else:
            assert len(shards) > 3 and max(sizes) < 4000 + 2 * max(
                len("".join(lines).encode("utf-8")) for lines in documents)
    # Those of an earlier run are gone.
    assert len(glob.glob(str(tmp_path / "out" / "c-*"))) == 100
    with pytest.raises(UserError, match="100 documents cannot fill 101 shards"):
        prepare(tmp_path, as_text(documents), num_shards=101)


def test_gzip_by_the_ending(tmp_path):
    source = write(tmp_path / "raw.txt", as_text(invented(50)))
    for name in ("a.txt.gz", "b.txt.gz", "c.txt"):
        create(Settings(source, str(tmp_path / name), num_workers=1, held_out_share=0.1))
    assert read(tmp_path / "a.txt.gz") == read(tmp_path / "b.txt.gz")
    assert read(tmp_path / "a.txt.gz")[3:8] == b"\0" * 5  # neither name nor time
    for part in ("", ".held_out"):
        assert gzip.decompress(read(tmp_path / ("a%s.txt.gz" % part))) == read(
            tmp_path / ("c%s.txt" % part))


def test_the_corpus_is_read_as_it_was_written(tmp_path):
    documents = invented(30)
    prepare(tmp_path, as_text(documents))
    pieces = corpus.plan_pieces([str(tmp_path / "out" / "c.txt")])
    assert [document.lines for document in corpus.read_documents(pieces)] == documents
    assert create_pretraining_data.corpus.survey(pieces[0]).documents == 30


# ---------------------------------------------------------------------------------------------
# Workers, restarts, memory
# ---------------------------------------------------------------------------------------------

def mixed_input(folder):
    """Writes files of all formats with duplicates of both kinds; returns their pattern."""
    rng = random.Random(4)
    documents = [invented_document(rng, 10) + ["转载请注明出处，谢谢。"] for _ in range(90)]
    documents += documents[:5] + [variant(one, rng, 0.02) for one in documents[20:25]]
    rng.shuffle(documents)
    write(folder / "in-1.txt", as_text(documents[:40]))
    write(folder / "in-2.jsonl", as_rows(documents[40:70]) + "{}\nnonsense\n")
    write(folder / "in-3.jsonl.gz", gzip.compress(as_rows(documents[60:80]).encode("utf-8")))
    write(folder / "in-4", as_wiki(documents[80:]))
    return str(folder / "in-*")


def all_settings(pattern, target, **changes):
    return Settings(pattern, str(target), skip_bad_lines=True, near_duplicates=0.8,
                    held_out_share=0.1, max_line_repeats=20, num_shards=3, **changes)


def test_the_output_does_not_depend_on_the_workers(tmp_path, small_pieces):
    pattern = mixed_input(tmp_path)
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        create(all_settings(pattern, folder / "c.txt", num_workers=workers))
    found = outputs_in(tmp_path / "1")
    assert found == outputs_in(tmp_path / "2")
    assert set(found) == {"c.json", "c.held_out.txt"} | {
        "c-%05d-of-00003.txt" % number for number in range(3)}
    dropped = {row["reason"] for row in found["c.json"]["dropped"]}
    assert dropped == {raw_text.NOT_JSON, raw_text.NO_TEXT, prepare_corpus.REPEATED_LINE,
                       prepare_corpus.DUPLICATE, prepare_corpus.NEAR_DUPLICATE}


KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
import files, prepare_corpus
for module, name, value in {small!r}:
    setattr(__import__(module), name, value)
moves, here, move = [0], os.getpid(), files.move

def move_or_die(source, target):
    moves[0] += 1
    if moves[0] == {point} and os.getpid() == here:
        os.kill(here, signal.SIGKILL)
    move(source, target)

files.move = move_or_die
prepare_corpus.create(prepare_corpus.Settings(*{settings!r}))
"""


@pytest.mark.parametrize("workers, shares", [(1, (0.05, 0.5, 0.7, 0.99)), (2, (0.5,))])
def test_a_killed_run_goes_on_and_gives_the_same(tmp_path, small_pieces, monkeypatch, capsys,
                                                 workers, shares):
    """The run is killed as it finishes one file or another, of all that it writes."""
    pattern = mixed_input(tmp_path)
    (tmp_path / "whole").mkdir()
    moves, move = [], files.move
    with monkeypatch.context() as patched:
        patched.setattr(files, "move", lambda *paths: (moves.append(os.getpid()), move(*paths)))
        create(all_settings(pattern, tmp_path / "whole" / "c.txt", num_workers=workers))
    kept = []
    for number, share in enumerate(shares):
        folder = tmp_path / ("killed-%d" % number)
        folder.mkdir()
        settings = all_settings(pattern, folder / "c.txt", num_workers=workers)
        point = max(1, int(share * moves.count(os.getpid())))
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED.format(
                root=ROOT, point=point, settings=tuple(settings),
                small=[(module.__name__, name, value) for module, name, value in SMALL])],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, err.decode("utf-8")
        kept.append(any(name.startswith(prepare_corpus.JOB)
                        for name in os.listdir(str(folder / ".c.txt.unfinished"))))
        capsys.readouterr()
        create(settings)
        assert ("going on with the unfinished run" in capsys.readouterr().err) == kept[-1]
        assert outputs_in(folder) == outputs_in(tmp_path / "whole")
    assert kept[-1]


def test_other_settings_do_not_go_on_with_an_unfinished_run(tmp_path, monkeypatch):
    source = write(tmp_path / "raw.txt", as_text(invented(20)))
    settings = Settings(source, str(tmp_path / "c.txt"), num_workers=1)
    with monkeypatch.context() as patched:
        patched.setattr(prepare_corpus, "find_duplicates", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            create(settings)
    with pytest.raises(UserError, match="another min_sentences lies in"):
        create(settings._replace(min_sentences=2))
    create(settings._replace(min_sentences=2, overwrite=True))
    assert sorted(os.listdir(str(tmp_path))) == ["c.json", "c.txt", "raw.txt"]


def test_memory_does_not_grow_with_the_text(tmp_path, monkeypatch, request):
    monkeypatch.setattr(corpus, "PIECE_BYTES", 40000)
    monkeypatch.setattr(prepare_corpus, "PART_BYTES", 40000)
    monkeypatch.setattr(prepare_corpus, "COUNTED_LINES", 200)
    monkeypatch.setattr(duplicates, "BUCKET_ITEMS", 256)
    peaks, thresholds = [], gc.get_threshold()
    gc.set_threshold(700, 10, 10)  # conftest.py has garbage collected late, and it would count
    request.addfinalizer(lambda: gc.set_threshold(*thresholds))
    for documents in (50, 50, 300):  # the first one fills the caches
        rng = random.Random(1)
        source = write(tmp_path / "raw.txt", as_text(
            [invented_document(rng, 60) for _ in range(documents)]))
        tracemalloc.start()
        create(Settings(source, str(tmp_path / "c.txt"), num_workers=1, overwrite=True,
                        max_line_repeats=5))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    text = os.path.getsize(source)
    # All the text, as str, would be two thirds of its UTF-8.
    assert peaks[2] - peaks[1] < 0.25 * (text - text / 6.0), (peaks, text)


# ---------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, text, changes, message", [
    ("raw.txt", "好。\n".encode("gb18030"), {}, r"raw.txt line 1 is not UTF-8.*GB18030"),
    ("raw.jsonl", '{"text": "好"}\n\n{"text": \n', {}, r"raw.jsonl line 3 is not valid JSON.*"
                                                     r"--skip_bad_lines=True"),
    ("raw.jsonl", '{"text": "好"}\n["text"]\n', {}, "raw.jsonl line 2 holds list"),
    ("raw.jsonl", '{"txt": "好"}\n', {}, "line 1 has no field 'text'.*but 'txt'.*mean \"txt\""),
    ("raw.jsonl", '{"text": 3}\n', {}, "line 1 holds int in the field 'text'"),
    ("raw.jsonl", '{"text": "好", "title": 3}\n', {"title_field": "title"}, "field 'title'"),
    ("raw.json", '[{"text": "好"}]\n', {}, "one JSON array.*jq"),
    ("raw.jsonl.gz", b"no gzip", {}, "raw.jsonl.gz is damaged"),
    ("raw.txt", "\n \n", {}, "holds no document"),
    ("raw.txt", "没有标记。", {"input_format": "wiki"}, "holds no document; --input_format"),
    ("raw.txt", "短。\n\n1.", {"min_characters": 3}, "none of the 2 documents is left .*--min_ch"),
    ("raw.txt", GOOD, {"held_out_share": 1.0}, "--held_out_share=1.0"),
    ("raw.txt", GOOD, {"near_duplicates": 1.5}, "--near_duplicates=1.5 must be 0.0 to 1.0"),
    ("raw.txt", GOOD, {"near_duplicates": 0.1}, "--near_duplicates=0.1"),
    ("raw.txt", GOOD, {"num_shards": 0}, "--num_shards=0"),
    ("raw.txt", GOOD, {"num_shards": 2, "shard_megabytes": 1.0}, "two ways"),
    ("raw.txt", GOOD, {"num_shards": 2}, "1 documents cannot fill 2 shards"),
    ("raw.txt", GOOD, {"min_characters": 9, "max_characters": 3}, "--max_characters=3"),
    ("raw.txt", GOOD, {"text_field": ""}, "--text_field is empty"),
    ("raw.txt", GOOD, {"max_sentence_characters": 3}, "--max_sentence_characters=3"),
])
def test_mistakes_are_named_and_nothing_is_left(tmp_path, name, text, changes, message):
    with pytest.raises(UserError, match=message):
        prepare(tmp_path, text, name, **changes)
    assert os.listdir(str(tmp_path / "out")) == []


def test_the_line_of_a_mistake_is_right_in_any_piece(tmp_path, small_pieces):
    rows = as_rows(invented(80)).split("\n")
    rows[70] = "nonsense"
    with pytest.raises(UserError, match="raw.jsonl line 71 is not valid JSON"):
        prepare(tmp_path, "\n".join(rows), "raw.jsonl")


def test_bad_lines_can_be_passed_over(tmp_path):
    rows = (as_rows(DOCUMENTS).encode("utf-8") + b'nonsense\n{"text": "\xff"}\n{"t": 1}\n[]\n')
    documents, report = prepare(tmp_path, rows, "raw.jsonl", skip_bad_lines=True)
    assert documents == DOCUMENTS
    assert reasons(report) == {raw_text.NOT_JSON: 2, raw_text.NOT_UTF8: 1, raw_text.NO_TEXT: 1}
    assert report["dropped"][1]["examples"] == [
        {"at": "%s line 4" % (tmp_path / "raw.jsonl"), "text": "nonsense"},
        {"at": "%s line 7" % (tmp_path / "raw.jsonl"), "text": "[]"}]
    documents, report = prepare(tmp_path, "第一句。\n".encode("utf-8") + b"\xff\n"
                                + "第二句。\n".encode("utf-8"), skip_bad_lines=True)
    assert documents == [["第一句。", "第二句。"]]


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_text, "LINE_BYTES", 1000)
    with pytest.raises(UserError, match="line of more than"):
        prepare(tmp_path, "好" * 500)


def test_json_lines_by_the_name_of_a_text_are_pointed_out(tmp_path, capsys):
    source = write(tmp_path / "raw.txt", as_rows(DOCUMENTS))
    create(Settings(source, str(tmp_path / "c.txt"), num_workers=1, min_characters=0,
                    max_symbol_share=1.0))
    assert "raw.txt begins like JSON lines" in capsys.readouterr().err


def test_no_file_of_the_users_is_overwritten(tmp_path):
    source = write(tmp_path / "raw.txt", GOOD)
    for target, message in (("raw.txt", "overwrite the input"), ("", "is a folder"),
                            ("c.txt.zst", "plain or as .gz"), (".txt", "no name before")):
        with pytest.raises(UserError, match=message):
            create(Settings(source, os.path.join(str(tmp_path), target), num_workers=1))
    for name in ("raw.txt.gz", "raw-00000-of-00002.txt", "raw.held_out.txt"):
        mine = write(tmp_path / name, gzip.compress(GOOD.encode("utf-8"))
                     if name.endswith(".gz") else GOOD)
        with pytest.raises(UserError, match="overwrite the input .*" + re.escape(name)):
            create(Settings(mine, source, num_workers=1, overwrite=True))
        os.remove(mine)
    write(tmp_path / "c.json", '{"mine": 1}')
    with pytest.raises(UserError, match="c.json, where the report would go, is a file of another"):
        create(Settings(source, str(tmp_path / "c.txt"), num_workers=1, overwrite=True))
    write(tmp_path / "d.txt", "mine")
    with pytest.raises(UserError, match="d.txt of an earlier run is there.*--overwrite=True"):
        create(Settings(source, str(tmp_path / "d.txt"), num_workers=1))
    (tmp_path / "f.txt").mkdir()
    with pytest.raises(UserError, match="the output would be .*f.txt, and that is a folder"):
        create(Settings(source, str(tmp_path / "f"), num_workers=1, overwrite=True))
    (tmp_path / "f.txt").rmdir()
    for name in ("e.txt.gz", "e.held_out.txt", "e-00000-of-00003.txt"):
        mine = write(tmp_path / name, "mine")
        with pytest.raises(UserError, match=name + " would be taken for a part of the output"):
            create(Settings(source, str(tmp_path / "e.txt"), num_workers=1, overwrite=True))
        os.remove(mine)
    assert sorted(os.listdir(str(tmp_path))) == ["c.json", "d.txt", "raw.txt"]


def test_short_documents_are_pointed_out(tmp_path, capsys):
    prepare(tmp_path, "\n\n".join("这是第%d段，别的没有。" % number for number in range(30)))
    assert "--blank_lines=paragraph" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------
# The command line
# ---------------------------------------------------------------------------------------------

def test_the_command_line_prepares_a_corpus(tmp_path):
    source = write(tmp_path / "raw.jsonl", as_rows(invented(20)))
    status, out, err = run_script("prepare_corpus.py", "--input_file=" + source,
                                  "--output_file=%s" % (tmp_path / "c.txt"))
    assert status == 0, err
    assert "prepared corpus" in out and "20 documents" in err
    assert documents_in(tmp_path / "c.txt") == invented(20)


def test_flags_and_settings_are_the_same(tmp_path):
    source = write(tmp_path / "raw.txt", as_text(invented(20)))
    target = str(tmp_path / "c.txt")
    status, _, err = run_here(prepare_corpus, "--input_file=" + source, "--output_file=" + target)
    assert status == 0, err
    found = json.loads(read(tmp_path / "c.json").decode("utf-8"))["settings"]
    assert dict(found, num_workers=None) == Settings(source, target)._asdict()


@pytest.mark.parametrize("arguments, message", [
    ([], "--input_file is missing"),
    (["--input_file=absent-*.txt"], "no file matches absent-*.txt"),
    (["--input_file=README.md"], "--output_file is missing"),
])
def test_missing_flags_are_named(arguments, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert_user_error(run_here(prepare_corpus, *arguments), message)
