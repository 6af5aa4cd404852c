"""Exact match and F1 of reading comprehension, against cases worked by hand."""

import json

import pytest
from helpers import assert_user_error, run_script

import files
import mrc_metrics


@pytest.mark.parametrize("text, expected", [
    ("光荣和ω-force", ["光", "荣", "和", "ωforce"]),     # what stood beside a mark stands together
    ("《三国志》", ["三", "国", "志"]),
    ("Hello World 2019年", ["hello", "world", "2019", "年"]),
    ("1,000.5元", ["1,000.5", "元"]),
    ('abc."', ["abc", ".", '"']), ("(u.s.)", ["(", "u.s", ".", ")"]), ("3.5% ...", [
        "3.5", "%", "..."]),
    ("a.b!c.", ["a.b", "!", "c", "."]),                 # marks of ASCII that are not left out
    ("I don't, it's 1,5.", ["i", "do", "n't", ",", "it", "'s", "1,5", "."]),
    ("ＡＢ１", ["ａｂ１"]),                              # full width stays full width
    ("  。 ", []), ("", [])])
def test_units(text, expected):
    assert mrc_metrics.units(text) == expected


def test_the_longest_run_has_no_gaps():
    assert mrc_metrics.longest_common_run(list("abcd"), list("xbcy")) == 2
    assert mrc_metrics.longest_common_run(list("abcdef"), list("acef")) == 2  # with gaps: 4
    assert mrc_metrics.longest_common_run([], list("a")) == 0
    assert mrc_metrics.longest_common_run(list("aaa"), list("aa")) == 2


@pytest.mark.parametrize("answers, prediction, exact, f1", [
    (["光荣和ω-force"], "光荣和ω-force", 1, 1.0),
    (["光荣和ω-force"], "光荣", 0, 2 * 1.0 * 0.5 / 1.5),          # 2 of 2, 2 of 4
    (["光荣和ω-force"], "光荣和ω Force。", 0, 2 * 0.6 * 0.75 / 1.35),  # 3 of 5, 3 of 4
    (["北京"], "北京。", 1, 1.0),                                  # punctuation does not count
    (["NBA总决赛"], "nba总决赛", 1, 1.0),                          # nor do capitals
    (["大龙湫", "雁荡山大龙湫"], "雁荡山", 0, 2 * 1.0 * 0.5 / 1.5),  # the best of several
    (["上海"], "北京", 0, 0.0),
    (["上海"], "", 0, 0.0),
    (["甲乙丙丁"], "甲丙丁", 0, 2 * (2 / 3.0) * 0.5 / (2 / 3.0 + 0.5)),
    ([], "", 1, 1.0), ([], "北京", 0, 0.0)])
def test_scores_worked_by_hand(answers, prediction, exact, f1):
    assert mrc_metrics.exact_match(answers, prediction) == exact
    assert mrc_metrics.f1(answers, prediction) == pytest.approx(f1)


def test_means_over_all_questions_count_the_unanswered():
    scores = mrc_metrics.score({"1": ("北京",), "2": ("上海",), "3": ("广州",), "4": ()},
                               {"1": "北京", "2": "上", "4": "x"})
    assert scores == (25.0, pytest.approx(100 * (1 + 2 / 3.0) / 4), 4, 1)
    with pytest.raises(ValueError, match="without questions"):
        mrc_metrics.score({}, {})


# ---------------------------------------------------------------------------------------------
# As a command
# ---------------------------------------------------------------------------------------------

def squad(*questions):
    """A file's content: a passage for each (id, passage, answer)."""
    return {"version": "v1.0", "data": [{"paragraphs": [{"context": passage, "qas": [
        {"id": name, "question": "问", "answers": [
            {"text": answer, "answer_start": passage.find(answer)}]}]}]}
        for name, passage, answer in questions]}


def test_the_command_scores_an_oracle_with_100(tmp_path):
    data, gold = str(tmp_path / "dev.json"), str(tmp_path / "gold.json")
    files.write_json(data, squad(("a", "他住在北京。", "北京"), ("b", "1998年。", "1998年")))
    files.write_text(gold, json.dumps({"a": "北京", "b": "1998年"}))
    status, out, err = run_script("mrc_metrics.py", "--data_file=" + data, "--predictions=" + gold)
    assert status == 0, err
    assert out == "exact match 100.000  F1 100.000  questions 2  unanswered 0\n"
    files.write_text(gold, '{"a": "北京", "c": "x"}')
    assert_user_error(run_script("mrc_metrics.py", "--data_file=" + data, "--predictions=" + gold),
                      "answers c", "belong together")
    files.write_text(data, '{"data": []}')
    files.write_text(gold, "{}")
    assert_user_error(run_script("mrc_metrics.py", "--data_file=" + data, "--predictions=" + gold),
                      "--data_file=", "holds no question")


@pytest.mark.parametrize("content, told", [
    ("[]", "an object {id: text} is expected"), ('{"a": 1}', "the answer to a is no text"),
    ("{", "not valid JSON")])
def test_damaged_predictions_are_named(tmp_path, content, told):
    path = str(tmp_path / "predictions.json")
    files.write_text(path, content)
    with pytest.raises(ValueError, match=told):
        mrc_metrics.read_predictions(path)


def test_gold_answers_of_real_data_score_100(shared_data):
    import reading_comprehension
    for split in ("train", "dev"):
        questions = reading_comprehension.read_squad("%s/cmrc2018/%s.json" % (shared_data, split))
        answers = {one.id: one.answers for one in questions}
        for pick in (0, -1):
            scores = mrc_metrics.score(answers, {one.id: one.answers[pick] for one in questions})
            assert scores[:2] == (100.0, 100.0) and scores.unanswered == 0
