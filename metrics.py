"""Scores of a classifier: accuracy, precision, recall and F1 of every class, what is mistaken.

Needs NumPy alone; works on class numbers, so it knows neither tasks nor models.

Dimension letter: C classes.
"""

import collections

import numpy as np

import console

MOST_COLUMNS = 20     # a confusion matrix of more classes is told as its largest mistakes
WIDEST_MATRIX = 100   # columns of text; beyond, the classes over the matrix are numbered
MOST_MISTAKES = 20

ClassScores = collections.namedtuple(
    "ClassScores", ["label", "precision", "recall", "f1", "support", "predicted"])
ClassScores.__doc__ = """The scores of one class.

precision = right / predicted; recall = right / support; f1 = 2 right / (predicted + support), each
0.0 where it would divide by 0; support: examples of the class; predicted: examples taken for it.
"""


class Report(collections.namedtuple("Report", ["accuracy", "macro_f1", "classes", "matrix"])):
    """The scores of a classifier.

    accuracy: share of right predictions; macro_f1: mean F1 of the classes that occur; classes: list
    of ClassScores, in the order of the matrix; matrix: int array [C, C] of `confusion`.
    """

    __slots__ = ()

    def to_dict(self):
        """Returns all of it as what JSON can hold."""
        return collections.OrderedDict([
            ("accuracy", self.accuracy), ("macro_f1", self.macro_f1),
            ("classes", [scores._asdict() for scores in self.classes]),
            ("confusion", self.matrix.tolist())])


def confusion(label_ids, predicted_ids, classes):
    """Counts how often each class was taken for each.

    Args:
        label_ids: the true classes, numbers from 0 to classes - 1, one an example.
        predicted_ids: the predicted ones, in the same order.
        classes: C.

    Returns:
        int array [C, C]: a row for each true class, a column for each predicted one.

    Raises:
        ValueError: the two differ in length, or hold a number that is no class.

    >>> confusion([0, 0, 1], [0, 1, 1], 2).tolist()
    [[1, 1], [0, 1]]
    """
    truth = np.asarray(label_ids, np.int64)
    predicted = np.asarray(predicted_ids, np.int64)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError("%s labels and %s predictions do not go together"
                         % (truth.shape, predicted.shape))
    for numbers in (truth, predicted):
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < classes:
            raise ValueError("class numbers from %d to %d where there are %d classes"
                             % (numbers.min(), numbers.max(), classes))
    counts = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def report(matrix, labels):
    """Computes all scores from a confusion matrix.

    The macro-F1 is that of scikit-learn's f1_score(truth, predicted, average="macro"): the mean
    over the classes that occur in truth or predictions. A class that is never predicted, or that
    has no examples, counts with F1 0; one that has neither says nothing about the classifier and
    does not count.

    Args:
        matrix: int array [C, C] of `confusion`.
        labels: the C names to show.

    Returns:
        Report.

    Raises:
        ValueError: there are no examples, or not C labels.
    """
    matrix = np.asarray(matrix)
    if matrix.shape != (len(labels), len(labels)):
        raise ValueError("a matrix of shape %s does not fit %d labels"
                         % (matrix.shape, len(labels)))
    if not matrix.any():
        raise ValueError("there are no scores without examples")
    right, supports, predictions = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    classes = [
        ClassScores(str(label), _share(hits, predicted), _share(hits, support),
                    _share(2 * hits, predicted + support), int(support), int(predicted))
        for label, hits, support, predicted in zip(labels, right, supports, predictions)]
    occurring = [scores.f1 for scores in classes if occurs(scores)]
    return Report(_share(right.sum(), matrix.sum()), sum(occurring) / len(occurring), classes,
                  matrix)


def _share(part, whole):
    return float(part) / float(whole) if whole else 0.0


def occurs(scores):
    """Tells whether a class has examples or predictions."""
    return bool(scores.support or scores.predicted)


# ---------------------------------------------------------------------------------------------
# As text
# ---------------------------------------------------------------------------------------------

def format_report(scores):
    """Formats a Report as text: the summary, a table of the classes, what was taken for what.

    Of more than MOST_COLUMNS classes, only the most frequent mistakes are shown.
    """
    right, examples = int(scores.matrix.trace()), int(scores.matrix.sum())
    parts = ["accuracy %.4f (%s of %s), macro-F1 %.4f" % (
        scores.accuracy, format(right, ","), format(examples, ","), scores.macro_f1),
        _class_table(scores.classes)]
    absent = [row for row in scores.classes if not occurs(row)]
    if absent:
        parts.append("A dash: the class has neither examples nor predictions (%d of %d classes); "
                     "macro-F1 leaves it out." % (len(absent), len(scores.classes)))
    labels = [row.label for row in scores.classes]
    if len(labels) <= MOST_COLUMNS:
        parts.append(format_matrix(scores.matrix, labels))
    elif right == examples:
        parts.append("No mistakes.")
    else:
        parts.append(format_mistakes(scores.matrix, labels))
    return "\n\n".join(parts)


def _class_table(classes):
    rows = [[row.label] + (["%.4f" % row.precision, "%.4f" % row.recall, "%.4f" % row.f1]
                           if occurs(row) else ["-"] * 3) + [row.support, row.predicted]
            for row in classes]
    return console.table(["class", "precision", "recall", "F1", "examples", "predicted"], rows)


def format_matrix(matrix, labels):
    """Formats a confusion matrix: a row for each true class, a column for each predicted one."""
    text = _matrix_table(matrix, labels, labels)
    if max(map(console.width, text.split("\n"))) > WIDEST_MATRIX:
        numbers = range(1, len(labels) + 1)
        text = _matrix_table(matrix, ["%d %s" % pair for pair in zip(numbers, labels)], numbers)
    return text


def _matrix_table(matrix, row_names, column_names):
    return console.table(
        ["truth \\ predicted"] + list(column_names),
        [[name] + list(map(int, row)) for name, row in zip(row_names, matrix)])


def format_mistakes(matrix, labels):
    """Formats the most frequent mistakes of a confusion matrix, the largest first."""
    mistakes = matrix * (1 - np.eye(len(labels), dtype=matrix.dtype))
    # A stable sort: among equals the order is that of the classes.
    order = np.argsort(-mistakes, axis=None, kind="mergesort")[:MOST_MISTAKES]
    pairs = [divmod(int(place), len(labels)) for place in order]
    rows = [[labels[truth], labels[predicted], int(mistakes[truth, predicted]),
             "%.1f %%" % (100 * _share(mistakes[truth, predicted], matrix[truth].sum()))]
            for truth, predicted in pairs if mistakes[truth, predicted]]
    return "most frequent mistakes, %d of %d in all\n%s" % (
        sum(row[2] for row in rows), mistakes.sum(),
        console.table(["truth", "taken for", "examples", "of its class"], rows))
