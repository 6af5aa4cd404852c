"""Reading comprehension: files, windows, and answers that are the passage's own characters."""

import collections
import json
import random
import unicodedata

import numpy as np
import pytest
from random_text import random_text

import files
import reading_comprehension as mrc
import token_offsets
import tokenization
from errors import UserError
from reading_comprehension import Answer, Candidate, Question


@pytest.fixture(scope="module")
def tokenizer(vocab_file):
    return tokenization.FullTokenizer(vocab_file)


def settings(tokenizer, length=32, stride=8, query=6):
    return mrc.Settings(tokenizer, length, stride, query)


def question(passage, start=0, end=1, name="q", text="问什么"):
    return Question(name, text, passage, (passage[start:end],), (start, end))


# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------

def write(tmp_path, *paragraphs, **changes):
    document = dict({"version": "v1.0", "data": [{"paragraphs": list(paragraphs)}]}, **changes)
    path = str(tmp_path / "dev.json")
    files.write_text(path, json.dumps(document))
    return path


def paragraph(context, *questions):
    return {"context": context, "qas": [dict({"id": "q%d" % number, "question": "问"}, **fields)
                                        for number, fields in enumerate(questions)]}


def answers(*pairs):
    return {"answers": [{"text": text, "answer_start": start} for text, start in pairs]}


def test_questions_of_a_file(tmp_path, capsys):
    path = write(tmp_path, paragraph(
        "他在北京，她也在北京。", answers(("北京", 2)), answers(("北京", 7)), answers(("北京", 8)),
        answers(("上海", -1), ("她", 5)), {"answers": []},
        dict(answers(("北京", 2)), is_impossible=True), dict(answers(("上海", 0)), id=7)))
    found = mrc.read_squad(path)
    assert [one.span for one in found] == [(2, 4), (8, 10), (8, 10), (5, 6), None, None, None]
    assert [one.answers for one in found] == [
        ("北京",)] * 3 + [("上海", "她"), (), (), ("上海",)]
    assert found[-1].id == "7"
    told = capsys.readouterr().err
    assert "answers found elsewhere than at their answer_start: 1 (first: q1)" in told
    assert "none of whose answers stands in the passage: 1 (first: 7)" in told


def test_places_in_utf16_units(tmp_path):
    passage = "𫚭鱼😀，俗名龙尖"
    units = len(passage[:passage.find("龙")].encode("utf-16-le")) // 2
    path = write(tmp_path, paragraph(passage, answers(("龙尖", units))))
    start, end = mrc.read_squad(path)[0].span
    assert passage[start:end] == "龙尖"
    assert mrc.locate("甲乙甲乙", "甲乙", 2) == (2, 4) and mrc.locate("甲乙", "丙", 0) is None
    assert mrc.locate("", "丙", 5) is None and mrc.locate("甲乙", "乙", 99) == (1, 2)


def test_test_files_may_go_without_answers(tmp_path):
    path = write(tmp_path, paragraph("他在北京。", {}))
    assert mrc.read_squad(path, answers_needed=False)[0].answers is None
    with pytest.raises(UserError, match=r'qas\[0\]: a list "answers" is expected'):
        mrc.read_squad(path)


@pytest.mark.parametrize("hidden", [
    [], None, [{"text": "", "answer_start": -1}], [{"text": None, "answer_start": None}],
    [{"text": " ", "answer_start": ""}] * 2, [""]])
def test_hidden_answers_of_a_test_file_are_unknown(tmp_path, hidden):
    path = write(tmp_path, paragraph(
        "他在北京。", {"answers": hidden}, {"answers": hidden, "is_impossible": False},
        {"answers": hidden, "is_impossible": True}, answers(("北京", 2))))
    found = mrc.read_squad(path, answers_needed=False)
    assert [one.answers for one in found] == [None, None, (), ("北京",)]
    if hidden == []:  # as SQuAD 2 has it
        assert mrc.read_squad(path)[0].answers == ()
    else:
        with pytest.raises(UserError, match=r"qas\[0\]"):
            mrc.read_squad(path)


def test_faults_of_a_test_file_are_named_all_the_same(tmp_path):
    for fault in ("他", ["他"], [{"text": 3}], [{"text": "他", "answer_start": "0"}],
                  [{"text": ""}, {"text": "他", "answer_start": 0}]):
        path = write(tmp_path, paragraph("他在北京。", {"answers": fault}))
        with pytest.raises(UserError, match=r"qas\[0\]"):
            mrc.read_squad(path, answers_needed=False)


@pytest.mark.parametrize("fields, told", [
    ({"id": ""}, 'the field "id"'), ({"id": None}, 'the field "id"'),
    ({"question": 3}, 'the field "question" must be a text'),
    ({"answers": [{"text": " ", "answer_start": 0}]}, r"answers\[0\]: the answer is empty"),
    ({"answers": [{"text": "他", "answer_start": "0"}]}, "answer_start must be a whole number"),
    ({"answers": {}}, 'a list "answers"'), ({"answers": ["他"]}, 'the field "text"')])
def test_faults_are_named(tmp_path, fields, told):
    path = write(tmp_path, paragraph("他在北京。", dict(answers(("他", 0)), **fields)))
    with pytest.raises(UserError, match=r"dev\.json, data\[0\]\.paragraphs\[0\].*" + told):
        mrc.read_squad(path)


def test_more_faults_are_named(tmp_path):
    twice = paragraph("他。", answers(("他", 0)), dict(answers(("他", 0)), id="q0"))
    with pytest.raises(UserError, match='the id "q0" is that of an earlier question'):
        mrc.read_squad(write(tmp_path, twice))
    with pytest.raises(UserError, match="is not in SQuAD's format"):
        mrc.read_squad(write(tmp_path, data={}))
    with pytest.raises(UserError, match='a list "paragraphs" is expected'):
        mrc.read_squad(write(tmp_path, data=[3]))
    with pytest.raises(UserError, match='the field "context" must be a text'):
        mrc.read_squad(write(tmp_path, {"qas": []}))
    with pytest.raises(UserError, match="holds no question"):
        write(tmp_path)
        mrc.ReadingTask("squad").read(str(tmp_path), "dev")


def test_files_of_other_names(tmp_path):
    task = mrc.ReadingTask("drcd", {"train": "", "dev": str(tmp_path / "mine.json")})
    files.write_text(str(tmp_path / "DRCD_training.json"), "{}")
    assert task.path(str(tmp_path), "train") == str(tmp_path / "DRCD_training.json")
    with pytest.raises(UserError, match="--dev_file=.*mine.json does not exist"):
        task.path(str(tmp_path), "dev")


# ---------------------------------------------------------------------------------------------
# Windows
# ---------------------------------------------------------------------------------------------

def test_windows_of_a_worked_example(tokenizer):
    reading = mrc.Reading([question("一二三四五六七八九十", 6, 8)], settings(tokenizer, 12, 3, 2))
    # [CLS] 问 什 [SEP] and [SEP] leave 7 places
    assert [window[1:] for window in reading.windows] == [(0, 7), (3, 10)]
    assert [reading.positions(window) for window in reading.windows] == [(0, 0), (7, 8)]
    made = reading.features(reading.windows[1])
    tokens = tokenizer.convert_ids_to_tokens(made["input_ids"])
    assert "".join(tokens) == "[CLS]问什[SEP]四五六七八九十[SEP]"
    assert made["segment_ids"] == [0] * 4 + [1] * 8 and made["input_mask"] == [1] * 12
    assert made["start_positions"] == [7] and tokens[7] == "七"
    assert made["end_positions"] == [8] and tokens[8] == "八"


def test_what_cannot_be_learnt_is_left_out_of_training(tokenizer, capsys):
    some = [question("甲乙丙"), Question("b", "问", "甲乙丙", ("丁",), None),
            Question("c", "问", "甲乙丙", (), None), question("甲 乙", 1, 2)]
    reading = mrc.Reading(some, settings(tokenizer), for_training=True)
    assert reading.questions == [some[0], some[2]]
    assert "2 of 4 questions are left out of training" in capsys.readouterr().err
    assert mrc.Reading(some, settings(tokenizer)).questions == some


def random_question(rng, tokenizer):
    """A question about random text, and the span that its answer's tokens stand for, or None."""
    passage = random_text(rng, 60, 1)
    start = rng.randrange(len(passage))
    end = rng.randrange(start, min(len(passage), start + 12)) + 1
    if not passage[start:end].strip():
        return None
    return question(passage, start, end, text=random_text(rng, 12))


def one_hot(reading, window, wanted):
    """The scores of a model that is sure of one span of the passage's tokens, or of no answer."""
    length = reading.first_place(window) + window.end - window.start
    scores = np.full([2, length], -50.0)
    if wanted is not None and window.start <= wanted[0] <= wanted[1] < window.end:
        shift = reading.first_place(window) - window.start
        scores[0, wanted[0] + shift] = scores[1, wanted[1] + shift] = -0.001
    else:
        scores[:, 0] = -0.001
    return scores


def oracle_answer(one, made):
    """What a model that is always right answers to a question, as a Candidate.

    None where the answer has no token, or stands in no window as a whole.
    """
    reading = mrc.Reading([one], made)
    wanted = reading.answer_tokens(0)
    if wanted is None or reading.is_beyond_windows(0):
        return None
    scores = [one_hot(reading, window, wanted) for window in reading.windows]
    found = mrc.answer(reading, 0, scores, 5, 64).candidates[0]
    assert found.text == one.passage[found.start:found.end]
    return found


def random_settings(rng, tokenizer):
    return settings(tokenizer, rng.randrange(24, 60), rng.randrange(1, 30), rng.randrange(1, 9))


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_answers_between_tokens_map_back_exactly(vocab_file, do_lower_case):
    """Of a model that is always right, without an exception but for answers beyond the windows."""
    tokenizer = tokenization.FullTokenizer(vocab_file, do_lower_case)
    rng, beyond = random.Random(10), 0
    for _ in range(1000):
        tokens = []
        while not tokens:
            passage = random_text(rng, 60, 1)
            tokens = token_offsets.tokenize(tokenizer, passage, unknown_by_character=True)
        first = rng.randrange(len(tokens))
        last = rng.randrange(first, min(len(tokens), first + 12))
        start, end = tokens[first].start, tokens[last].end
        found = oracle_answer(question(passage, start, end), random_settings(rng, tokenizer))
        beyond += found is None
        if found is not None:
            assert (found.start, found.end) == (start, end), repr(passage)
            assert found.text == passage[start:end]
    assert beyond < 200  # of 1,000


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_answers_map_back_to_the_original_characters(vocab_file, do_lower_case):
    """Answers from anywhere to anywhere: all come back exactly but for two kinds, and no others.

    One that begins or ends within an entry of the vocabulary (Phone in iPhone), or before a mark
    that joins its letter, is widened to the token. Blanks and control characters around an answer
    have no token and are left out.
    """
    tokenizer = tokenization.FullTokenizer(vocab_file, do_lower_case)
    rng, counts = random.Random(11), collections.Counter()
    for _ in range(1500):
        one = random_question(rng, tokenizer)
        if one is None:
            counts["blank"] += 1
            continue
        found = oracle_answer(one, random_settings(rng, tokenizer))
        if found is None:
            counts["no token or window"] += 1
            continue
        tokens = token_offsets.tokenize(tokenizer, one.passage, unknown_by_character=True)
        owners = {place: token for token in tokens for place in range(token.start, token.end)}
        places = [place for place in range(*one.span) if place in owners]
        exact = (found.start, found.end) == (places[0], places[-1] + 1)
        counts["exact" if exact else "widened"] += 1
        for border in {places[0], places[-1] + 1} - {found.start, found.end}:
            owner = owners[border]
            assert found.start <= owner.start < border < owner.end <= found.end
            is_mark = unicodedata.category(one.passage[border]).startswith("M")
            letters = tokenization.strip_word_prefix(owner.text)
            assert is_mark or owner.text != tokenizer.unk_token and len(letters) > 1, owner
    assert sum(counts.values()) == 1500 and counts["exact"] > 1000, counts
    assert counts["widened"] > 20, counts  # what the README says of iPhone is not made up


@pytest.mark.parametrize("passage, answer", [
    ("我有😀😀两个", "😀"), ("我有😀😀两个", "😀😀"), ("𫚭😀鱼", "😀"),
    ("全家👨\u200d👩\u200d👧。", "👨\u200d👩\u200d👧"),
    ("他用iPhone😀打字", "iPhone"), ("他用iPhone😀打字", "😀"), ("去🇨🇳🇨🇳吧", "🇨🇳")])
def test_a_part_of_an_unknown_word_maps_back(tokenizer, passage, answer):
    for start in (passage.find(answer), passage.rfind(answer)):
        one = question(passage, start, start + len(answer))
        found = oracle_answer(one, settings(tokenizer))
        assert (found.text, found.start) == (answer, start)


def test_the_question_writes_unknown_words_as_the_passage_does(tokenizer):
    reading = mrc.Reading([question("有😀😀", text="😀😀")], settings(tokenizer))
    ids = reading.features(reading.windows[0])["input_ids"]
    assert "".join(tokenizer.convert_ids_to_tokens(ids)) == (
        "[CLS][UNK][UNK][SEP]有[UNK][UNK][SEP]")


def test_every_window_that_holds_the_answer_learns_it(tokenizer):
    rng = random.Random(12)
    for _ in range(300):
        one = random_question(rng, tokenizer)
        if one is None:
            continue
        reading = mrc.Reading([one], settings(tokenizer, 30, 5, 4))
        wanted = reading.answer_tokens(0)
        for window in reading.windows:
            made = reading.features(window)
            assert len(made["input_ids"]) <= 30
            first, last = made["start_positions"][0], made["end_positions"][0]
            if wanted and window.start <= wanted[0] and wanted[1] < window.end:
                tokens = reading.tokens(0)[wanted[0]:wanted[1] + 1]
                assert made["input_ids"][first:last + 1] == tokenizer.convert_tokens_to_ids(
                    [token.text for token in tokens])
            else:
                assert (first, last) == (0, 0)


def test_answers_of_real_data_come_back(shared_data, tokenizer):
    """All of 1,002 answers come back to the character, but for blanks around three of them."""
    questions = mrc.read_squad(shared_data + "/cmrc2018/dev.json")
    passages = {one.passage for one in questions}
    tokens_of = {text: token_offsets.tokenize(tokenizer, text, unknown_by_character=True)
                 for text in passages}
    different = 0
    for one in questions:
        tokens = tokens_of[one.passage]
        first, last = mrc.tokens_within(tokens, *one.span)
        text = one.passage[tokens[first].start:tokens[last].end]
        assert one.passage[slice(*one.span)].strip() == text
        different += text not in one.answers
    assert different == 3


# ---------------------------------------------------------------------------------------------
# Scores
# ---------------------------------------------------------------------------------------------

def test_best_spans_are_those_of_an_exhaustive_search():
    rng = np.random.RandomState(2)
    for _ in range(200):
        size, count, longest = rng.randint(1, 12), rng.randint(1, 9), rng.randint(1, 14)
        starts, ends = rng.normal(size=(2, size))
        allowed = rng.rand(size, size + longest) < 0.7
        wanted = sorted(((starts[i] + ends[j], i, j) for i in range(size)
                         for j in range(i, min(size, i + longest)) if allowed[i, j]),
                        reverse=True)[:count]
        found = mrc.best_spans(starts, ends, count, longest,
                               lambda i, j, table=allowed: table[i, j])
        assert [span[1:] for span in found] == [span[1:] for span in wanted]
        np.testing.assert_allclose([span[0] for span in found], [span[0] for span in wanted])
    assert mrc.best_spans(np.zeros(0), np.zeros(0), 3, 3) == []


def test_a_span_counts_in_the_window_that_sees_most_around_it(tokenizer):
    reading = mrc.Reading([question("一二三四五六七八九十")], settings(tokenizer, 12, 3, 2))
    low = [np.full([2, 11], -9.0) for _ in reading.windows]
    # 四 is the fourth token: in window 0 three stand on its shorter side, in window 1 none.
    low[0][:, 4 + 3], low[1][:, 4 + 0] = -1.0, -0.1
    found = mrc.answer(reading, 0, low, 3, 5)
    assert found.candidates[0][:2] == ("四", -2.0)
    low[0][:, 0], low[1][:, 0] = -0.5, -4.0
    assert mrc.answer(reading, 0, low, 3, 5).null_score == -8.0


def test_equal_texts_are_one_answer(tokenizer):
    reading = mrc.Reading([question("北京北京")], settings(tokenizer))
    scores = np.full([2, reading.first_place(reading.windows[0]) + 4], -5.0)
    found = mrc.answer(reading, 0, [scores], 20, 2)
    texts = [candidate.text for candidate in found.candidates]
    assert sorted(texts) == ["京", "京北", "北", "北京"] and found.candidates[0].start in (0, 1)
    entries = mrc.n_best(found, with_null=True)
    assert sum(entry["probability"] for entry in entries) == pytest.approx(1.0, abs=1e-4)
    assert [entry["text"] for entry in entries].count("") == 1
    assert entries == sorted(entries, key=lambda entry: -entry["probability"])


def test_a_passage_without_tokens_has_an_empty_answer(tokenizer):
    reading = mrc.Reading([Question("q", "问", "\u200b", None, None)], settings(tokenizer))
    found = mrc.answer(reading, 0, [np.zeros([2, reading.first_place(reading.windows[0])])], 5, 9)
    assert found.candidates == [] and mrc.chosen_text(found) == ""
    assert mrc.n_best(found, with_null=False)[0]["text"] == ""


def test_no_answer_above_the_threshold():
    found = Answer([Candidate("北京", -1.0, 0, 2)], 0.5)
    assert mrc.chosen_text(found) == mrc.chosen_text(found, 1.5) == "北京"
    assert mrc.chosen_text(found, 1.4) == ""


def test_the_best_threshold_is_that_of_an_exhaustive_search():
    rng = np.random.RandomState(4)
    for _ in range(300):
        count = rng.randint(1, 9)
        margins = rng.randint(-3, 4, size=count).astype(float)
        with_answer, without = rng.rand(2, count).round(1)

        threshold, best = mrc.best_threshold(margins, with_answer, without)
        totals = [np.where(margins > one, without, with_answer).sum()
                  for one in [threshold] + np.arange(-5.0, 5.0, 0.5).tolist()]
        assert totals[0] == pytest.approx(best) and best == pytest.approx(max(totals))
    assert mrc.best_threshold([-2.0, 3.0], [1.0, 0.0], [0.0, 1.0]) == (-2.0, 2.0)


def test_a_submission_answers_each_question_once(tmp_path):
    path = str(tmp_path / "cmrc2018_predict.json")
    asked = [question("甲", name="a"), question("甲", name="b")]
    mrc.write_predictions(path, {"a": "甲", "b": ""})
    mrc.check_submission(path, asked)
    mrc.write_predictions(path, collections.OrderedDict([("b", ""), ("a", "甲")]))
    mrc.check_submission(path, asked)  # an object has no order
    mrc.write_predictions(path, {"a": "甲"})
    with pytest.raises(UserError, match="does not answer the 2 questions"):
        mrc.check_submission(path, asked)
