"""Scores of a classifier, against their definitions written out example by example."""

import json

import numpy as np
import pytest

import console
import metrics


def invented(classes, examples, seed, right=0.6):
    rng = np.random.RandomState(seed)
    truth = rng.randint(0, classes, examples)
    guess = np.where(rng.rand(examples) < right, truth, rng.randint(0, classes, examples))
    return list(truth), list(guess)


def f1_by_definition(truth, predicted, number):
    """F1 as the harmonic mean of precision and recall, counted one example at a time."""
    hits = sum(1 for t, p in zip(truth, predicted) if t == p == number)
    if not hits:
        return 0.0
    precision = hits / sum(1 for p in predicted if p == number)
    recall = hits / sum(1 for t in truth if t == number)
    return 2 * precision * recall / (precision + recall)


# ---------------------------------------------------------------------------------------------
# Numbers
# ---------------------------------------------------------------------------------------------

def test_rows_are_the_truth():
    matrix = metrics.confusion([0, 0, 1, 2], [0, 2, 1, 1], 3)
    assert matrix.tolist() == [[1, 0, 1], [0, 1, 0], [0, 1, 0]]
    assert matrix.dtype.kind == "i"


@pytest.mark.parametrize("classes, examples", [(2, 50), (3, 400), (15, 300), (119, 500)])
def test_scores_are_those_of_the_definition(classes, examples):
    truth, predicted = invented(classes, examples, seed=classes)
    report = metrics.report(metrics.confusion(truth, predicted, classes), range(classes))
    assert report.accuracy == pytest.approx(
        sum(t == p for t, p in zip(truth, predicted)) / examples)
    for number, scores in enumerate(report.classes):
        assert scores.f1 == pytest.approx(f1_by_definition(truth, predicted, number))
        assert scores.support == truth.count(number)
        assert scores.predicted == predicted.count(number)
    occurring = set(truth) | set(predicted)
    assert report.macro_f1 == pytest.approx(
        sum(f1_by_definition(truth, predicted, number) for number in occurring) / len(occurring))


def test_precision_and_recall_worked_out_by_hand():
    # Of class a: 3 examples, 2 of them found, 4 predictions.
    report = metrics.report([[2, 1], [2, 5]], ["a", "b"])
    first = report.classes[0]
    assert (first.precision, first.recall) == (0.5, pytest.approx(2 / 3))
    assert first.f1 == pytest.approx(4 / 7)
    assert report.accuracy == 0.7


def test_a_class_that_is_never_predicted_counts_with_zero():
    report = metrics.report([[4, 0], [2, 0]], ["a", "b"])
    never = report.classes[1]
    assert (never.precision, never.recall, never.f1) == (0.0, 0.0, 0.0)
    assert report.macro_f1 == pytest.approx(0.8 / 2)


def test_a_class_that_occurs_nowhere_does_not_count():
    with_c = metrics.report([[3, 1, 0], [1, 3, 0], [0, 0, 0]], ["a", "b", "c"])
    without = metrics.report([[3, 1], [1, 3]], ["a", "b"])
    assert with_c.macro_f1 == without.macro_f1 == 0.75


def test_all_right_and_all_wrong():
    assert metrics.report(np.diag([3, 2]), "ab").macro_f1 == 1.0
    wrong = metrics.report([[0, 3], [2, 0]], "ab")
    assert (wrong.accuracy, wrong.macro_f1) == (0.0, 0.0)


@pytest.mark.parametrize("truth, predicted", [
    ([0, 1], [0]), ([0, 2], [0, 1]), ([0, 1], [0, -1]), ([[0]], [[0]])])
def test_numbers_that_do_not_fit_are_refused(truth, predicted):
    with pytest.raises(ValueError):
        metrics.confusion(truth, predicted, 2)


def test_a_report_needs_examples_and_all_labels():
    with pytest.raises(ValueError, match="without examples"):
        metrics.report(metrics.confusion([], [], 2), "ab")
    with pytest.raises(ValueError, match="3 labels"):
        metrics.report([[1, 0], [0, 1]], "abc")


def test_a_report_can_be_written_as_json():
    report = metrics.report(metrics.confusion([0, 1, 1], [0, 1, 0], 2), ["否", "是"])
    read = json.loads(json.dumps(report.to_dict()))
    assert read["confusion"] == [[1, 0], [1, 1]]
    assert read["classes"][1] == {"label": "是", "precision": 1.0, "recall": 0.5,
                                  "f1": pytest.approx(2 / 3), "support": 2, "predicted": 1}


# ---------------------------------------------------------------------------------------------
# Text
# ---------------------------------------------------------------------------------------------

def test_text_of_two_classes():
    report = metrics.report([[2, 1], [0, 1]], ["不同", "same"])
    assert metrics.format_report(report) == """\
accuracy 0.7500 (3 of 4), macro-F1 0.7333

class  precision  recall      F1  examples  predicted
-----  ---------  ------  ------  --------  ---------
不同      1.0000  0.6667  0.8000         3          2
same      0.5000  1.0000  0.6667         1          2

truth \\ predicted  不同  same
-----------------  ----  ----
不同                  2     1
same                  0     1"""


def test_a_class_that_occurs_nowhere_is_marked():
    text = metrics.format_report(metrics.report([[3, 0], [0, 0]], ["here", "nowhere"]))
    row = next(line for line in text.split("\n") if line.startswith("nowhere"))
    assert row.split() == ["nowhere", "-", "-", "-", "0", "0"]
    assert "macro-F1 leaves it out" in text


def test_wide_labels_are_numbered_over_the_matrix():
    labels = ["news_entertainment_%d" % i for i in range(15)]
    matrix = metrics.confusion(*invented(15, 600, seed=1), classes=15)
    lines = metrics.format_matrix(matrix, labels).split("\n")
    assert max(map(console.width, lines)) <= metrics.WIDEST_MATRIX
    assert lines[0].split()[-15:] == [str(number) for number in range(1, 16)]
    assert lines[2].split()[:2] == ["1", "news_entertainment_0"]
    assert [int(cell) for cell in lines[2].split()[2:]] == matrix[0].tolist()


def test_of_many_classes_the_largest_mistakes_are_shown():
    matrix = np.diag([10] * 30)
    matrix[4, 7], matrix[20, 1], matrix[3, 2] = 5, 8, 1
    labels = ["c%d" % number for number in range(30)]
    text = metrics.format_report(metrics.report(matrix, labels))
    assert "truth \\ predicted" not in text
    assert "14 of 14 in all" in text
    mistakes = [line.split() for line in text.split("\n")[-3:]]
    assert mistakes == [["c20", "c1", "8", "44.4", "%"], ["c4", "c7", "5", "33.3", "%"],
                        ["c3", "c2", "1", "9.1", "%"]]


def test_of_many_mistakes_only_the_largest_are_listed():
    truth, predicted = invented(119, 2600, seed=5)
    matrix = metrics.confusion(truth, predicted, 119)
    rows = metrics.format_mistakes(matrix, [str(n) for n in range(119)]).split("\n")[3:]
    assert len(rows) == metrics.MOST_MISTAKES
    shown = [int(row.split()[2]) for row in rows]
    mistakes = sorted((int(matrix[i, j]) for i in range(119) for j in range(119) if i != j),
                      reverse=True)
    assert shown == mistakes[:len(shown)]


def test_many_classes_without_a_mistake():
    text = metrics.format_report(metrics.report(np.eye(30, dtype=int), range(30)))
    assert text.endswith("No mistakes.")
