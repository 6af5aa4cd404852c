"""Scores of reading comprehension as CMRC 2018's own evaluation defines them: exact match and F1.

python mrc_metrics.py --data_file=dev.json --predictions=cmrc_output/dev_predictions.json

prints both for any file in SQuAD format and any file of predictions {id: text}. Texts are
lower-cased and lose their punctuation. Exact match asks whether the characters left are the same.
For F1, each Chinese character is a unit, and so is each word or number of another script; it looks
for the longest sequence of units that both texts share, which that evaluation takes without gaps:
its share of the prediction is precision, its share of the answer recall. Of several answers the
best counts.
"""

import collections
import re

from absl import flags

import errors
import files
import reading_comprehension
from errors import UserError

FLAGS = flags.FLAGS

# What that evaluation leaves out; what stood on its two sides then stands together.
PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")

# What is not Chinese it parts by the conventions of the Penn Treebank (NLTK's word_tokenize): some
# marks are units, a comma unless a digit follows, a point only at the very end or before closing
# marks there.
# Not followed here: NLTK's list of joined words (cannot, gonna); single quotes around a word, and
# the marks that it parts beside these (such as ‘ and « and ..); that an opening " is another unit
# than a closing one; and its trained model of where sentences end, so that a point amid foreign
# text stays with its word.
_MARKS = r"""[;@#$%&?!"()\[\]{}<>—–]"""
_WORD = re.compile(r"""
    \.\.\. | %s | ,(?!\d)
  | (?:'(?:s|m|d|ll|re|ve)|n't)\b                       # it 's, do n't
  | (?:(?!\.\.\.|%s|,(?!\d)|(?<=\w)(?:'(?:s|m|d|ll|re|ve)|n't)\b)\S)+
""" % (_MARKS, _MARKS), re.VERBOSE)
_FINAL_POINT = re.compile(r"""(?<=[^.])\.(?=[\])}>"']*\s*$)""")

Scores = collections.namedtuple("Scores", ["exact_match", "f1", "questions", "unanswered"])
Scores.__doc__ = """Means over the questions, from 0 to 100.

questions: number of questions; unanswered: how many of them the predictions lack: they count 0."""


def units(text):
    """Parts a text into what F1 counts, without punctuation.

    units("光荣和 ω-force 3。") == ["光", "荣", "和", "ωforce", "3"]
    """
    found, other = [], []
    for char in without_punctuation(text):
        if "\u4e00" <= char <= "\u9fa5":
            found.extend(_words("".join(other)) + [char])
            other = []
        else:
            other.append(char)
    return found + _words("".join(other))


def _words(text):
    """_words("I don't pay 1,000.5.") == ["I", "do", "n't", "pay", "1,000.5", "."]"""
    return _WORD.findall(_FINAL_POINT.sub(" .", text))


def without_punctuation(text):
    """Returns what exact match compares: the text in lower case without punctuation."""
    return "".join(char for char in text.lower().strip() if char not in PUNCTUATION)


def longest_common_run(first, second):
    """Returns the length of the longest run, without gaps, that two lists share.

    longest_common_run(list("abcd"), list("xbcy")) == 2
    """
    longest, previous = 0, [0] * (len(second) + 1)
    for one in first:
        current = [0] * (len(second) + 1)
        for place, other in enumerate(second, start=1):
            if one == other:
                current[place] = previous[place - 1] + 1
                longest = max(longest, current[place])
        previous = current
    return longest


def exact_match(answers, prediction):
    """Returns 1.0 if a prediction is one of the answers, else 0.0; without answers: if it is ""."""
    if not answers:
        return float(not prediction)
    text = without_punctuation(prediction)
    return float(any(without_punctuation(answer) == text for answer in answers))


def f1(answers, prediction):
    """Returns the best F1 of a prediction with one of the answers, from 0.0 to 1.0.

    Without answers (the question has none): 1.0 for an empty prediction, else 0.0.

    f1(["光荣和ω-force"], "光荣") == 2 * 1.0 * 0.5 / 1.5
    """
    if not answers:
        return float(not prediction)
    predicted = units(prediction)
    return max(_f1_of_units(units(answer), predicted) for answer in answers)


def _f1_of_units(answer, predicted):
    common = longest_common_run(answer, predicted)
    return 2.0 * common / (len(answer) + len(predicted)) if common else 0.0


def score(answers, predictions):
    """Scores the predictions of a file.

    Args:
        answers: {id: sequence of texts}, empty where a question has none.
        predictions: {id: text}.

    Returns:
        Scores.

    Raises:
        ValueError: there is no question.
    """
    if not answers:
        raise ValueError("there are no scores without questions")
    matches, overlaps, unanswered = 0.0, 0.0, 0
    for name, texts in answers.items():
        if name not in predictions:
            unanswered += 1
            continue
        matches += exact_match(texts, predictions[name])
        overlaps += f1(texts, predictions[name])
    return Scores(100.0 * matches / len(answers), 100.0 * overlaps / len(answers), len(answers),
                  unanswered)


def read_predictions(path):
    """Reads a file {id: text}; UserError names what is wrong in it."""
    files.require_file(path, "predictions")
    found = files.read_json(path)
    if not isinstance(found, dict):
        raise UserError("--predictions=%s: an object {id: text} is expected" % path)
    for name, text in found.items():
        if not isinstance(text, str):
            raise UserError("--predictions=%s: the answer to %s is no text: %r"
                            % (path, name, text))
    return found


def main(_):
    files.require_file(FLAGS.data_file, "data_file")
    questions = reading_comprehension.read_squad(FLAGS.data_file)
    if not questions:
        raise UserError("--data_file=%s holds no question" % FLAGS.data_file)
    predictions = read_predictions(FLAGS.predictions)
    unknown = set(predictions) - {question.id for question in questions}
    if unknown:
        raise UserError("--predictions=%s answers %s, which --data_file=%s does not ask: do they "
                        "belong together?" % (FLAGS.predictions, min(unknown), FLAGS.data_file))
    scores = score({question.id: question.answers for question in questions}, predictions)
    print("exact match %.3f  F1 %.3f  questions %d  unanswered %d" % scores)


if __name__ == "__main__":
    flags.DEFINE_string("data_file", None, "Questions and answers, in SQuAD format.")
    flags.DEFINE_string("predictions", None, "Answers to score: {id: text}.")
    errors.run(main)
