"""Scores of named entities: precision, recall and F1 of whole entities, as seqeval 1.2.2 counts.

An entity is right if its first and last character and its type are. Needs no model: it compares
sets of entities, sentence by sentence.
"""

import collections

import console
from metrics import ClassScores

MOST_MISTAKES = 20


class Report(collections.namedtuple("Report", [
        "precision", "recall", "f1", "macro_f1", "types", "support", "predicted"])):
    """The scores of a file.

    precision, recall, f1: over the entities of all types (seqeval's micro average); macro_f1: mean
    F1 of the types that occur; types: list of metrics.ClassScores, sorted by their names; support,
    predicted: numbers of entities.
    """

    __slots__ = ()


def report(truth, predicted):
    """Scores predicted entities.

    Args:
        truth, predicted: a sentence each, sequences of entities.Entity.

    Returns:
        Report; what would divide by 0 is 0.0.

    Raises:
        ValueError: they are not as many.
    """
    if len(truth) != len(predicted):
        raise ValueError("%d and %d sentences do not go together" % (len(truth), len(predicted)))
    counts = collections.defaultdict(lambda: [0, 0, 0])  # right, true, predicted of each type
    for true, guessed in zip(truth, predicted):
        true, guessed = set(true), set(guessed)
        for column, some in enumerate((true & guessed, true, guessed)):
            for entity in some:
                counts[entity.type][column] += 1
    types = [_scores(kind, *counts[kind]) for kind in sorted(counts)]
    sums = [sum(row[column] for row in counts.values()) for column in range(3)]
    whole = _scores("all", *sums)
    macro = sum(scores.f1 for scores in types) / len(types) if types else 0.0
    return Report(whole.precision, whole.recall, whole.f1, macro, types, whole.support,
                  whole.predicted)


def _scores(name, right, support, predicted):
    return ClassScores(name, _share(right, predicted), _share(right, support),
                       _share(2 * right, support + predicted), support, predicted)


def _share(part, whole):
    return float(part) / whole if whole else 0.0


def format_report(scores):
    """Formats a Report as text: a table with a row for each type and one for all."""
    rows = [(one.label, one.precision, one.recall, one.f1, one.support, one.predicted)
            for one in scores.types]
    rows.append(("all", scores.precision, scores.recall, scores.f1, scores.support,
                 scores.predicted))
    return "entity F1 %.4f, macro-F1 %.4f\n\n%s" % (scores.f1, scores.macro_f1, console.table(
        ["type", "precision", "recall", "F1", "entities", "predicted"],
        [[row[0]] + ["%.4f" % share for share in row[1:4]] + list(row[4:]) for row in rows]))


def format_mistakes(sentences, predicted):
    """Formats the first wrong sentences: what was missed (-) and what was invented (+).

    Args:
        sentences: entities.Sentences with their entities; predicted: of each its entities.
    """
    parts = []
    for sentence, guessed in zip(sentences, predicted):
        true, guessed = set(sentence.entities), set(guessed)
        if true == guessed:
            continue
        lines = ["%s  %s" % (sentence.id, sentence.text)]
        for entity in sorted(true ^ guessed):
            lines.append("  %s %s %d-%d %s" % (
                "-" if entity in true else "+", entity.type, entity.start, entity.end,
                sentence.text[entity.start:entity.end]))
        parts.append("\n".join(lines))
        if len(parts) == MOST_MISTAKES:
            break
    return "\n".join(["The first mistakes (- missed, + not there):"] + parts if parts
                     else ["No mistakes."])
