"""Scores of entities: cases worked by hand, and seqeval's own numbers."""

import make_seqeval_cases
import pytest

import entities
import entity_metrics
import files
from entities import Entity, Sentence


def test_scores_worked_by_hand():
    truth = [[Entity(0, 2, "PER"), Entity(4, 6, "LOC")], [Entity(0, 1, "PER")], []]
    predicted = [[Entity(0, 2, "PER"), Entity(4, 5, "LOC")], [Entity(0, 1, "LOC")],
                 [Entity(3, 4, "ORG")]]
    found = entity_metrics.report(truth, predicted)
    # 1 right of 3 true and 4 predicted
    assert (found.precision, found.recall) == (0.25, pytest.approx(1 / 3.0))
    assert found.f1 == pytest.approx(2 / 7.0)
    assert [(one.label, one.precision, one.recall, one.f1, one.support, one.predicted)
            for one in found.types] == [
        ("LOC", 0.0, 0.0, 0.0, 1, 2), ("ORG", 0.0, 0.0, 0.0, 0, 1),
        ("PER", 1.0, 0.5, pytest.approx(2 / 3.0), 2, 1)]
    assert found.macro_f1 == pytest.approx(2 / 9.0)
    text = entity_metrics.format_report(found)
    assert text.startswith("entity F1 0.2857, macro-F1 0.2222\n") and "PER" in text
    sentences = [Sentence(0, "王明在北京", tuple(truth[0])), Sentence(1, "他", tuple(truth[1]))]
    told = entity_metrics.format_mistakes(sentences, [predicted[0], truth[1]])
    assert told.split("\n") == ["The first mistakes (- missed, + not there):", "0  王明在北京",
                                "  + LOC 4-5 京", "  - LOC 4-6 京"]
    assert entity_metrics.format_mistakes(sentences[1:], truth[1:2]) == "No mistakes."


def test_nothing_to_divide_by_is_0():
    found = entity_metrics.report([[], []], [[], []])
    assert found == (0.0, 0.0, 0.0, 0.0, [], 0, 0)
    with pytest.raises(ValueError, match="1 and 0 sentences"):
        entity_metrics.report([[]], [])


def test_scores_are_those_of_seqeval():
    """On random tags, sequences that make no sense among them; see make_seqeval_cases.py."""
    for case in files.read_json(make_seqeval_cases.PATH)["reports"]:
        found = entity_metrics.report(*[[entities.spans_of(row.split()) for row in case[name]]
                                        for name in ("truth", "guessed")])
        wanted = case["report"]
        assert (found.precision, found.recall, found.f1, found.support) == pytest.approx(
            [wanted["micro avg"][name] for name in (
                "precision", "recall", "f1-score", "support")])
        assert found.macro_f1 == pytest.approx(wanted["macro avg"]["f1-score"])
        for one in found.types:
            row = wanted[one.label]
            assert (one.precision, one.recall, one.f1, one.support) == pytest.approx(
                (row["precision"], row["recall"], row["f1-score"], row["support"]))
