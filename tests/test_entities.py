"""Named entities: tags and spans, files, windows, decoding, and every character in its place."""

import itertools
import json
import random

import make_seqeval_cases
import numpy as np
import pytest
from random_text import random_text

import entities
import files
import tokenization
import windows
from entities import Entity, Sentence
from errors import UserError


@pytest.fixture(scope="module")
def tokenizer(vocab_file):
    return tokenization.FullTokenizer(vocab_file)


# ---------------------------------------------------------------------------------------------
# Tags and spans
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("tags, spans", [
    ("B-P I-P O I-L", [(0, 2, "P"), (3, 4, "L")]),
    ("B-P B-P I-P", [(0, 1, "P"), (1, 3, "P")]),
    ("B-P I-L", [(0, 1, "P"), (1, 2, "L")]),
    ("S-P B-P M-P M-P E-P O", [(0, 1, "P"), (1, 5, "P")]),
    ("B-P E-P E-P", [(0, 2, "P"), (2, 3, "P")]),
    ("I-P I-P", [(0, 2, "P")]), ("E-P", [(0, 1, "P")]), ("O O", []), ("", [])])
def test_spans_of_tags(tags, spans):
    assert entities.spans_of(tags.split()) == [Entity(*span) for span in spans]


def test_spans_are_those_of_seqeval():
    """On random tags, most of them sequences that make no sense; see make_seqeval_cases.py."""
    for tags, wanted in files.read_json(make_seqeval_cases.PATH)["sequences"]:
        found = entities.spans_of(tags.split())
        assert [[kind, start, end - 1] for start, end, kind in found] == wanted, tags


@pytest.mark.parametrize("scheme", entities.SCHEMES)
def test_spans_and_tags_are_turned_into_one_another(scheme):
    rng = random.Random(2)
    for _ in range(500):
        length = rng.randrange(1, 15)
        starts = [rng.randrange(length) for _ in range(4)]
        found = entities.without_overlaps([
            Entity(start, rng.randrange(start, length) + 1, rng.choice("PL")) for start in starts])
        tags = entities.tags_of(found, length, scheme)
        assert set(tags) <= set(entities.labels_for("LP", scheme))
        assert tuple(entities.spans_of(tags)) == found


def test_of_overlapping_entities_the_longest_stays():
    assert entities.without_overlaps([
        Entity(0, 2, "P"), Entity(1, 5, "O"), Entity(5, 6, "L"), Entity(1, 5, "P")]) == (
            Entity(1, 5, "O"), Entity(5, 6, "L"))


def test_the_longest_ones_are_found_as_by_comparing_all():
    rng = random.Random(3)
    for _ in range(300):
        some = [Entity(start, start + rng.randrange(1, 6), rng.choice("PL"))
                for start in (rng.randrange(20) for _ in range(rng.randrange(12)))]
        kept = []
        for one in sorted(some, key=lambda one: (one.start - one.end, one.start, one.type)):
            if not any(one.start < other.end and other.start < one.end for other in kept):
                kept.append(one)
        assert entities.without_overlaps(some) == tuple(sorted(kept))


# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------

def write(tmp_path, text, name="train.txt"):
    path = str(tmp_path / name)
    files.write_text(path, text)
    return path


def test_a_file_with_tags(tmp_path):
    path = write(tmp_path, "-DOCSTART- O\n\n王 B-PER\n明\tE-PER\n  O\n在 x y O\n\n\n"
                 "1998 B-T\n年 I-T\n\u3000 O\n\u2028 O\n")
    assert entities.read_sentences(path) == [
        Sentence(0, "王明 在", (Entity(0, 2, "PER"),)),
        Sentence(1, "1998年\u3000\u2028", (Entity(0, 5, "T"),))]


def test_a_file_without_tags(tmp_path):
    path = write(tmp_path, "王\n明\n\n在\n", "test.txt")
    assert entities.read_sentences(path, entities_needed=False) == [
        Sentence(0, "王明", None), Sentence(1, "在", None)]
    with pytest.raises(UserError, match=r"test\.txt, sentence that ends in line 2: 2 of 2 lines"):
        entities.read_sentences(path)


@pytest.mark.parametrize("line", ["王 PER", "王 B", "王 B-", "王 X-PER", "王 BPER",
                                  "王 B-PER\u3000", "王 B-\u00a0PER"])
def test_what_is_no_tag_is_named(tmp_path, line):
    with pytest.raises(UserError, match=r"train\.txt line 2: .* is no tag"):
        entities.read_sentences(write(tmp_path, "在 O\n%s\n" % line))


def test_a_file_with_spans(tmp_path):
    label = {"name": {"叶老桂": [[5, 7]]}, "company": {"浙商银行": [[0, 3]]}}
    rows = [{"text": "浙商银行的叶老桂说", "label": label}, {"text": "无", "label": {}}]
    path = write(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "train.json")
    assert entities.read_sentences(path) == [
        Sentence(0, rows[0]["text"], (Entity(0, 4, "company"), Entity(5, 8, "name"))),
        Sentence(1, "无", ())]
    path = write(tmp_path, '{"id": 7, "text": "无"}\n', "test.json")
    assert entities.read_sentences(path, entities_needed=False) == [Sentence(7, "无", None)]


@pytest.mark.parametrize("row, told", [
    ({"text": ""}, 'the field "text"'), ({"text": "甲乙"}, 'the field "label" must be an object'),
    ({"text": "甲乙", "label": {"n": []}}, 'the label "n" must be an object'),
    ({"text": "甲乙", "label": {"n": {"乙": [[0, 0]]}}}, '"乙" does not stand from .* 0 to 0'),
    ({"text": "甲乙", "label": {"n": {"乙": [[1, 2]]}}}, "does not stand from character 1 to 2"),
    ({"text": "甲乙", "label": {"n": {"乙": [1, 1]}}}, r'the places of "乙" must be \[\[first'),
    ({"text": "甲乙", "label": {"n": {"乙": 3}}}, "the places of"),
    ({"text": "甲", "label": {" name": {}}}, '" name" is no type of entities'),
    ({"text": "甲", "label": {"na\nme": {}}}, "is no type of entities"),
    ({"text": "甲", "label": {"": {}}}, "is no type of entities"),
    ({"id": [], "text": "甲乙", "label": {}}, 'the field "id"')])
def test_faults_of_rows_are_named(tmp_path, row, told):
    path = write(tmp_path, "\n" + json.dumps(row) + "\n", "dev.json")
    with pytest.raises(UserError, match=r"dev\.json line 2: .*" + told):
        entities.read_sentences(path)


def test_sentences_to_predict_are_told_by_different_ids(tmp_path):
    rows = '{"id": 7, "text": "甲", "label": {}}\n' * 2
    task = entities.EntityTask("cluener")
    for split in ("test", "dev"):
        write(tmp_path, rows, split + ".json")
    assert len(task.read(str(tmp_path), "dev")) == 2
    with pytest.raises(UserError, match=r"test\.json: 2 rows have the id 7"):
        task.read(str(tmp_path), "test")


def test_where_files_are_looked_for(tmp_path):
    task = entities.EntityTask("ner")
    with pytest.raises(UserError, match=r"train\.txt.*a character and its tag a line"):
        task.path(str(tmp_path), "train")
    write(tmp_path, "\n\n", "train.bmes")
    with pytest.raises(UserError, match=r"train\.bmes holds no sentence"):
        task.read(str(tmp_path), "train")


# ---------------------------------------------------------------------------------------------
# Windows
# ---------------------------------------------------------------------------------------------

def tagging_of(tokenizer, sentences, length=10, stride=4, scheme="bio"):
    labels = entities.labels_for(entities.types_of(sentences), scheme)
    return labels, entities.Tagging(sentences, entities.Settings(
        tokenizer, length, stride, labels, scheme))


def test_windows_of_a_worked_example(tokenizer):
    labels, tagging = tagging_of(tokenizer, [Sentence(0, "一二三四 六七八九十", (
        Entity(3, 6, "P"),))])
    assert [window[1:] for window in tagging.windows] == [(0, 8), (4, 10)]
    made = tagging.features(tagging.windows[1])
    assert tokenizer.convert_ids_to_tokens(made["input_ids"]) == [
        "[CLS]", "[UNK]", "六", "七", "八", "九", "十", "[SEP]"]
    assert [labels[number] for number in made["label_ids"]] == [
        "O", "I-P", "I-P", "O", "O", "O", "O", "O"]
    assert made["label_mask"] == [0, 1, 1, 1, 1, 1, 1, 0]


def random_sentence(rng):
    text = random_text(rng, 40, 1)
    starts = [rng.randrange(len(text)) for _ in range(3)]
    return Sentence(0, text, entities.without_overlaps([
        Entity(start, min(len(text), start + rng.randrange(1, 9)), rng.choice("PL"))
        for start in starts]))


@pytest.mark.parametrize("do_lower_case", [True, False])
@pytest.mark.parametrize("scheme", entities.SCHEMES)
def test_entities_map_back_to_the_original_characters(vocab_file, do_lower_case, scheme):
    """Of a model that is always right, the entities are those of the file, whatever the text."""
    tokenizer = tokenization.FullTokenizer(vocab_file, do_lower_case)
    rng = random.Random(8)
    sentences = [random_sentence(rng) for _ in range(400)]
    labels, tagging = tagging_of(tokenizer, sentences, 12, 5, scheme)
    rules, noise = entities.rules_for(labels), np.random.RandomState(1)
    for number, sentence in enumerate(sentences):
        parts = [tagging.windows[one] for one in tagging.windows_of(number)]
        best = windows.best_of([part[1:] for part in parts], len(sentence.text))
        scores = []
        for part_number, part in enumerate(parts):
            made = tagging.features(part)
            assert part.end - part.start + 2 == len(made["input_ids"]) <= 12
            right = np.log(np.eye(len(labels)) * 0.9 + 0.01)[made["label_ids"][1:-1]]
            # A window knows nothing of the characters that another one sees more around.
            judges = (best[part.start:part.end] == part_number)[:, np.newaxis]
            scores.append(np.where(judges, right, noise.rand(*right.shape)))
        joined = tagging.joined(number, scores)
        tags = [labels[tag] for tag in entities.best_sequence(joined, rules)]
        found = entities.spans_of(tags)
        assert tuple(found) == sentence.entities
        line = json.loads(entities.prediction_line(sentence, found))
        assert line["text"] == sentence.text
        assert [tuple(one.values()) for one in line["entities"]] == [
            (kind, start, end, sentence.text[start:end])
            for start, end, kind in sentence.entities]


def test_a_character_is_judged_where_most_is_seen(tokenizer):
    _, tagging = tagging_of(tokenizer, [Sentence(0, "一二三四五六七八九十", ())])
    scores = [np.full([8, 1], 0.0), np.full([6, 1], 1.0)]  # windows (0, 8) and (4, 10)
    assert tagging.joined(0, scores).ravel().tolist() == [0.0] * 6 + [1.0] * 4


# ---------------------------------------------------------------------------------------------
# Decoding
# ---------------------------------------------------------------------------------------------

def is_allowed(tags, scheme):
    """Whether tags are what some entities would be tagged with."""
    return tags == entities.tags_of(entities.spans_of(tags), len(tags), scheme)


@pytest.mark.parametrize("scheme", entities.SCHEMES)
def test_decoding_is_that_of_an_exhaustive_search(scheme):
    labels = entities.labels_for("LP" if scheme == "bio" else "P", scheme)
    rules, rng = entities.rules_for(labels), np.random.RandomState(3)
    changed = 0
    for _ in range(60):
        scores = np.log(rng.dirichlet(np.ones(len(labels)), size=rng.randint(1, 6)))
        allowed = [path for path in itertools.product(range(len(labels)), repeat=len(scores))
                   if is_allowed([labels[tag] for tag in path], scheme)]
        best = max(allowed, key=lambda path: sum(scores[range(len(path)), path]))
        found = entities.best_sequence(scores, rules)
        assert found == list(best)
        changed += found != scores.argmax(axis=1).tolist()
    assert changed > 10


def test_numbers_gone_bad_are_decoded_to_something():
    rules = entities.rules_for(entities.labels_for("P", "bio"))
    assert len(entities.best_sequence(np.full([4, 3], np.nan), rules)) == 4


# ---------------------------------------------------------------------------------------------
# CLUENER's submission
# ---------------------------------------------------------------------------------------------

def test_submission(tmp_path):
    asked = [Sentence(0, "叶老桂和叶老桂", None), Sentence(1, "无", None)]
    found = [[Entity(0, 3, "name"), Entity(4, 7, "name")], []]
    lines = [entities.submission_line(*pair) for pair in zip(asked, found)]
    assert json.loads(lines[0]) == {"id": 0, "label": {"name": {"叶老桂": [[0, 2], [4, 6]]}}}
    path = write(tmp_path, "\n".join(lines) + "\n", "cluener_predict.json")
    entities.check_submission(path, asked, {"name"})
    for changed, told in ((asked[:1], "holds 2 lines where the test file has 1"),
                          (asked[::-1], "line 1"), ([asked[0]] * 2, "line 2: id or types")):
        with pytest.raises(UserError, match=told):
            entities.check_submission(path, changed, {"name"})
    with pytest.raises(UserError, match="id or types"):
        entities.check_submission(path, asked, {"company"})
    for text, told in (('{"label": {}}\n%s\n' % lines[1], "line 1 has no id"),
                       ("\ufeff" + "\n".join(lines) + "\n", "byte order mark"),
                       ("\r\n".join(lines) + "\n", "carriage returns"),
                       ("\n\n".join(lines) + "\n", "blank lines")):
        path = write(tmp_path, text, "cluener_predict.json")
        with pytest.raises(UserError, match=told):
            entities.check_submission(path, asked)
