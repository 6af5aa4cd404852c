"""Reading comprehension: questions about passages, their windows, answers out of scores.

Plain NumPy, without TensorFlow: what is here turns files into tokens and positions, and scores of
positions into the characters of the original passage.

Dimension letters: S tokens of a window.
"""

import bisect
import collections
import os

import numpy as np

import console
import errors
import files
import named_files
import token_offsets
import windows
from errors import UserError

TASK_NAMES = ("cmrc2018", "drcd", "squad")
SUBMISSION_NAME = "cmrc2018_predict.json"  # CLUE's

_FILE_NAMES = {
    "train": ("train.json", "cmrc2018_train.json", "DRCD_training.json", "train-v1.1.json",
              "train-v2.0.json"),
    "dev": ("dev.json", "cmrc2018_dev.json", "DRCD_dev.json", "dev-v1.1.json", "dev-v2.0.json"),
    "test": ("test.json", "cmrc2018_test.json", "cmrc2018_test_2k.json", "DRCD_test.json"),
}

Question = collections.namedtuple("Question", ["id", "text", "passage", "answers", "span"])
Question.__doc__ = """A question about a passage.

id: string; text: the question; passage: the text that it is about.
answers: tuple of strings, all that count as right; empty: the passage has none; None: unknown.
span: (start, end) of one of them in the passage, in characters; None where none stands there."""


# ---------------------------------------------------------------------------------------------
# Files in SQuAD format
# ---------------------------------------------------------------------------------------------

class ReadingTask(named_files.NamedFilesTask):
    """Reading comprehension in SQuAD's format: {train,dev,test}.json, or files that are named."""

    file_names = _FILE_NAMES

    def __init__(self, name, files_of_splits=None):
        """Describes a task: as NamedFilesTask. name: one of TASK_NAMES."""
        super(ReadingTask, self).__init__(
            name, files_of_splits, SUBMISSION_NAME if name == "cmrc2018" else None)

    def read(self, data_dir, split):
        """Returns the questions of a split.

        Raises:
            UserError: the file is absent or at fault; in train and dev each question needs answers
                (or none, where SQuAD 2 says so), in test they may be hidden.
        """
        path = self.path(data_dir, split)
        questions = read_squad(path, answers_needed=split != "test")
        if not questions:
            raise UserError("%s holds no question; %s" % (path, self.remedy()))
        return questions

    def check_submission(self, examples, path):
        """As the function `check_submission`; examples: the questions of the test file."""
        files.require_file(path, "predictions")
        check_submission(path, examples)

    def remedy(self):
        return ("put train.json, dev.json and test.json there, in SQuAD's format, or name each by "
                "--train_file, --dev_file and --test_file")


def read_squad(path, answers_needed=True):
    """Reads a file in SQuAD's format, version 1 or 2, in the file's order.

    An answer is looked for where its `answer_start` says; where something else stands there, the
    nearest place that holds it is taken, and the number of such answers is told.

    Args:
        answers_needed: whether each question must tell its answers, or by an empty list that there
            are none. Else answers that a question does not tell (no list, or no text in it) are
            unknown; that there are none, `is_impossible` alone can say.

    Returns:
        list of Question.

    Raises:
        UserError: the file is no SQuAD file; the message names the question and the field.
    """
    document = files.read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        raise UserError("%s is not in SQuAD's format: an object with a list \"data\" of articles "
                        "is expected" % path)
    reader = _SquadReader(path, answers_needed)
    for article_number, article in enumerate(document["data"]):
        place = "data[%d]" % article_number
        for number, paragraph in enumerate(reader.listed(article, "paragraphs", place)):
            reader.read_paragraph(paragraph, "%s.paragraphs[%d]" % (place, number))
    reader.tell()
    return reader.questions


class _SquadReader(object):
    """Collects the questions of one file."""

    def __init__(self, path, answers_needed):
        self.questions = []
        self._path, self._answers_needed = path, answers_needed
        self._ids, self._empty, self._moved, self._absent = set(), [], [], []

    def read_paragraph(self, paragraph, place):
        passage = self._text(paragraph, "context", place)
        for number, entry in enumerate(self.listed(paragraph, "qas", place)):
            self._read_question(entry, passage, "%s.qas[%d]" % (place, number))

    def _read_question(self, entry, passage, place):
        name = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(name, int) and not isinstance(name, bool):
            name = str(name)
        if not isinstance(name, str) or not name.strip():
            self._fail(place, 'the field "id" must be a text')
        name = name.strip()
        if name in self._ids:
            self._fail(place, 'the id "%s" is that of an earlier question: predictions are told '
                              "apart by it" % name)
        self._ids.add(name)
        text = self._text(entry, "question", place)
        if not text.strip():
            self._empty.append(name)
        answers, span = self._answers(entry, passage, name, place)
        self.questions.append(Question(name, text, passage, answers, span))

    def _answers(self, entry, passage, name, place):
        """Returns (answers, span) as in Question."""
        if entry.get("is_impossible") is True:
            return (), None
        if not self._answers_needed and _are_hidden(entry.get("answers")):
            return None, None
        texts, spans, moved = [], [], False
        for number, answer in enumerate(self.listed(entry, "answers", place)):
            here = "%s.answers[%d]" % (place, number)
            text, start = self._text(answer, "text", here), answer.get("answer_start", -1)
            if isinstance(start, bool) or not isinstance(start, int):
                self._fail(here, "answer_start must be a whole number")
            if not text.strip():
                self._fail(here, "the answer is empty")
            texts.append(text)
            span = locate(passage, text, start)
            if span is not None:
                spans.append(span)
                moved = moved or span[0] != start
        if not texts:
            return (), None
        if moved:
            self._moved.append(name)
        if not spans:
            self._absent.append(name)
        return tuple(texts), spans[0] if spans else None

    def tell(self):
        """Says what was not as the file has it."""
        for note, names in (
                ("questions without a word", self._empty),
                ("answers found elsewhere than at their answer_start", self._moved),
                ("questions none of whose answers stands in the passage", self._absent)):
            if names:
                console.say("%s: %s: %d (first: %s)" % (self._path, note, len(names), names[0]))

    def listed(self, value, field, place):
        """Returns a field that must be a list."""
        found = value.get(field) if isinstance(value, dict) else None
        if not isinstance(found, list):
            self._fail(place, 'a list "%s" is expected' % field)
        return found

    def _text(self, value, field, place):
        found = value.get(field) if isinstance(value, dict) else None
        if not isinstance(found, str):
            self._fail(place, 'the field "%s" must be a text' % field)
        problem = errors.half_character(found)
        if problem:
            self._fail(place, 'the field "%s" %s' % (field, problem))
        return found

    def _fail(self, place, problem):
        raise UserError("%s, %s: %s" % (self._path, place, problem))


def _are_hidden(answers):
    """Tells whether the field of a question's answers tells none, as in files for a contest.

    _are_hidden([{"text": "", "answer_start": -1}]) and _are_hidden([]) and _are_hidden(None)
    """
    def is_blank(answer):
        text = answer.get("text", "") if isinstance(answer, dict) else answer
        return text is None or isinstance(text, str) and not text.strip()

    return answers is None or isinstance(answers, list) and all(map(is_blank, answers))


def locate(passage, answer, start):
    """Returns the (start, end) of an answer in a passage, in characters, or None if it is absent.

    Some files count in UTF-16 units, where characters beyond U+FFFF are two, and some point beside
    the answer or (with -1) nowhere: then it is the nearest place that holds the answer.

    locate("a\\U0001F600bc", "bc", 3) == (2, 4)
    """
    for place in (start, _from_utf16(passage, start)):
        if place >= 0 and passage.startswith(answer, place):
            return place, place + len(answer)
    before = passage.rfind(answer, 0, max(start, 0) + len(answer))
    after = passage.find(answer, max(start, 0))
    found = [place for place in (before, after) if place >= 0]
    if not found:
        return None
    nearest = min(found, key=lambda place: abs(place - start))
    return nearest, nearest + len(answer)


def _from_utf16(text, place):
    """Returns the place in characters of a place in UTF-16 units."""
    if place < 0:
        return place
    counted = 0
    for number, char in enumerate(text):
        if counted >= place:
            return number
        counted += 2 if ord(char) > 0xFFFF else 1
    return len(text)


# ---------------------------------------------------------------------------------------------
# Windows: [CLS] question [SEP] part of the passage [SEP]
# ---------------------------------------------------------------------------------------------

Settings = collections.namedtuple("Settings", [
    "tokenizer", "max_seq_length", "doc_stride", "max_query_length"])
Settings.__doc__ = """How questions become windows; numbers are tokens.

doc_stride: from the start of one window to that of the next; above what a window holds of the
passage it counts as that."""

SHORTEST_PART = 8  # tokens of the passage that a window holds, at least


class Reading(object):
    """Questions and their passages as tokens, and the windows that a model sees of them.

    A window is a windows.Window whose `text` is the number of its question.
    """

    def __init__(self, questions, settings, for_training=False):
        """Tokenizes questions and passages.

        Args:
            questions: list of Question; settings: Settings.
            for_training: leave out the questions that cannot be learnt from, and say how many:
                they have answers, but none of them stands in the passage.
        """
        self.questions, self._settings = [], settings
        self.without_overlap = 0  # questions with several windows, which doc_stride sets apart
        self._passages, self._queries, self._answers = {}, [], []
        self.windows, self._first_windows = [], [0]
        progress = console.Progress("tokens", len(questions), "question")
        for done, question in enumerate(questions, start=1):
            self._add(question, for_training)
            progress.update(done)
        lost = len(questions) - len(self.questions)
        if lost:
            console.say("%d of %d questions are left out of training: none of their answers stands "
                        "in the passage" % (lost, len(questions)))

    def _add(self, question, for_training):
        tokenizer = self._settings.tokenizer
        if question.passage not in self._passages:
            tokens = self._tokenized(question.passage)
            self._passages[question.passage] = tokens, tokenizer.convert_tokens_to_ids(
                [token.text for token in tokens])
        tokens, _ = self._passages[question.passage]
        answer = tokens_within(tokens, *question.span) if question.span else None
        if for_training and question.answers and answer is None:
            return
        query = [token.text for token in self._tokenized(question.text)][
            :self._settings.max_query_length]
        room = self._settings.max_seq_length - len(query) - 3
        spans = windows.cut(len(tokens), room, self._settings.doc_stride)
        self.without_overlap += len(spans) > 1 and spans[0][1] <= spans[1][0]
        self.windows.extend(windows.Window(len(self.questions), *span) for span in spans)
        self._first_windows.append(len(self.windows))
        self._queries.append(tokenizer.convert_tokens_to_ids(query))
        self._answers.append(answer)
        self.questions.append(question)

    def _tokenized(self, text):
        # By character, so that an answer can begin and end anywhere in a row of emoji. The question
        # alike, whose unknown characters then look as they do in the passage.
        return token_offsets.tokenize(self._settings.tokenizer, text, unknown_by_character=True)

    def tokens(self, number):
        """Returns the tokens of the passage of a question: list of token_offsets.Token."""
        return self._passages[self.questions[number].passage][0]

    def windows_of(self, number):
        """Returns the range of the numbers of a question's windows."""
        return range(self._first_windows[number], self._first_windows[number + 1])

    def first_place(self, window):
        """Returns the position in a window's input of its first token of the passage."""
        return len(self._queries[window.text]) + 2

    def answer_tokens(self, number):
        """Returns the (first, last) token of the passage that stand for a question's answer.

        None where the passage does not hold it, or where it is none of the tokens (blanks).
        """
        return self._answers[number]

    def is_beyond_windows(self, number):
        """Tells whether the passage holds a question's answer, but no window the whole of it."""
        return self.answer_tokens(number) is not None and all(
            self.positions(self.windows[window]) == (0, 0) for window in self.windows_of(number))

    def positions(self, window):
        """Returns the (first, last) position of the answer in a window's input.

        (0, 0), the place of [CLS], where the window does not hold the whole of it.
        """
        answer = self.answer_tokens(window.text)
        if answer is None or not window.start <= answer[0] <= answer[1] < window.end:
            return 0, 0
        shift = self.first_place(window) - window.start
        return answer[0] + shift, answer[1] + shift

    def features(self, window):
        """Returns {field name: list of numbers} of a window, for its record."""
        tokenizer, query = self._settings.tokenizer, self._queries[window.text]
        ids = self._passages[self.questions[window.text].passage][1][window.start:window.end]
        head = [tokenizer.cls_id] + query + [tokenizer.sep_id]
        body = ids + [tokenizer.sep_id]
        first, last = self.positions(window)
        return {"input_ids": head + body, "input_mask": [1] * len(head + body),
                "segment_ids": [0] * len(head) + [1] * len(body), "start_positions": [first],
                "end_positions": [last], "is_real_example": [1]}


def tokens_within(tokens, start, end):
    """Returns the (first, last) token that stands for some of the characters start to end, or None.

    tokens: list of token_offsets.Token.
    """
    first = bisect.bisect_right([token.end for token in tokens], start)
    last = bisect.bisect_left([token.start for token in tokens], end) - 1
    while first <= last and tokens[first].start == tokens[first].end:
        first += 1  # the word start of a SentencePiece stands for nothing
    return (first, last) if first <= last else None


# ---------------------------------------------------------------------------------------------
# Answers out of scores
# ---------------------------------------------------------------------------------------------

Candidate = collections.namedtuple("Candidate", ["text", "score", "start", "end"])
Candidate.__doc__ = """A possible answer.

text: the passage from character `start` to `end`; score: log-probability, higher is better."""

Answer = collections.namedtuple("Answer", ["candidates", "null_score"])
Answer.__doc__ = """What a model answers: list of Candidate, the best first; null_score: that there
is no answer, as a log-probability like theirs."""


def answer(reading, number, log_probabilities, n_best_size, max_answer_length):
    """Finds the best answers to a question in the scores of its windows.

    A span in several windows is judged in one of them, where it has most context around it: a
    window that ends in the middle of a sentence knows less of its last words. So each span has one
    score, none comes twice, and each that some window holds can be the answer (which going by the
    start alone, as BERT's run_squad.py does, would not give).

    Args:
        reading: Reading; number: of the question.
        log_probabilities: of each window of the question, in order, an array [2, S]: how probable
            each position is as the first, and as the last token of the answer.
        n_best_size: answers to return, at most; max_answer_length: in tokens.

    Returns:
        Answer.
    """
    tokens = reading.tokens(number)
    parts = [reading.windows[window] for window in reading.windows_of(number)]
    spans = [(part.start, part.end) for part in parts]
    found, null_score = [], np.inf
    for part_number, (part, scores) in enumerate(zip(parts, log_probabilities)):
        # The window that is least sure that nothing is in it speaks for the passage.
        null_score = min(null_score, float(scores[0, 0] + scores[1, 0]))
        first = reading.first_place(part)
        length = part.end - part.start
        starts, ends = scores[:, first:first + length]
        found.extend(
            (score, part.start + start, part.start + end) for score, start, end in best_spans(
                starts, ends, n_best_size, max_answer_length,
                lambda firsts, lasts, number=part_number, shift=part.start: windows.sees_most(
                    spans, number, firsts + shift, lasts + shift)))
    return Answer(_distinct(reading.questions[number].passage, tokens, found, n_best_size),
                  null_score)


def best_spans(starts, ends, count, longest, allowed=None):
    """Returns the spans of the highest sum of scores, the best first.

    Args:
        starts, ends: scores [S] of being a span's first and last token.
        count: spans, at most; longest: tokens of a span, at most.
        allowed: function of two arrays, the first and last tokens of some spans, that tells which
            of them may be answers; None: all.

    Returns:
        list of (score, first, last).

    best_spans(np.array([0., -9.]), np.array([-1., 0.]), 2, 2) == [(0.0, 0, 1), (-1.0, 0, 0)]
    """
    size, longest = len(starts), min(longest, len(starts))
    if not size:
        return []
    sums = np.full([longest, size], -np.inf)  # a row for each length, less one
    for extra in range(longest):
        sums[extra, :size - extra] = starts[:size - extra] + ends[extra:]
    if allowed is not None:
        firsts, extras = np.arange(size), np.arange(longest)[:, np.newaxis]
        sums[~allowed(firsts, firsts + extras)] = -np.inf
    flat = sums.ravel()
    top = np.argpartition(-flat, min(count, flat.size - 1))[:count]
    top = top[np.lexsort((top, -flat[top]))]
    return [(float(flat[place]), int(place % size), int(place % size + place // size))
            for place in top if flat[place] > -np.inf]


def _distinct(passage, tokens, spans, count):
    """Returns Candidates, the best first, of each text the best; spans: (score, first, last)."""
    candidates, seen = [], set()
    for score, first, last in sorted(spans, key=lambda span: (-span[0],) + span[1:]):
        start, end = tokens[first].start, tokens[last].end
        text = passage[start:end]
        if text and text not in seen:
            seen.add(text)
            candidates.append(Candidate(text, score, start, end))
            if len(candidates) == count:
                break
    return candidates


def chosen_text(found, threshold=None):
    """Returns the answer to give: the best candidate's text, or "".

    Args:
        found: Answer.
        threshold: "" is given where the null score is above the best candidate's by more than
            this; None: every question has an answer.
    """
    if not found.candidates:
        return ""
    if threshold is not None and found.null_score - found.candidates[0].score > threshold:
        return ""
    return found.candidates[0].text


def best_threshold(margins, with_answer, without):
    """Returns the threshold for `chosen_text` that gives the highest score in all, and that score.

    Args:
        margins: how far each question's null score is above its best candidate's.
        with_answer, without: what each question scores if the candidate is given, or "".

    Returns:
        (threshold, sum of scores); of several thresholds the one that gives most answers.

    best_threshold([-2.0, 3.0], [1.0, 0.0], [0.0, 1.0]) == (-2.0, 2.0)
    """
    order = np.argsort(margins, kind="mergesort")
    margins, gains = np.asarray(margins)[order], np.subtract(with_answer, without)[order]
    totals = np.sum(without) + np.concatenate([[0.0], np.cumsum(gains)])
    # A threshold parts the sorted questions; equal margins fall on the same side.
    allowed = np.concatenate([[True], margins[1:] != margins[:-1], [True]])
    totals[~allowed] = -np.inf
    best = len(totals) - 1 - int(np.argmax(totals[::-1]))
    threshold = margins[best - 1] if best else margins[0] - 1.0
    return float(threshold), float(totals[best])


def n_best(found, with_null):
    """Returns the candidates with probabilities among themselves, as what JSON can hold.

    Args:
        found: Answer; with_null: whether "" is one of them.

    Returns:
        list of {"text", "probability", "score", "start", "end"}, the best first; of "" start and
        end are None.
    """
    entries = list(found.candidates)
    if with_null or not entries:
        entries.append(Candidate("", found.null_score, None, None))
    entries.sort(key=lambda entry: -entry.score)
    scores = np.array([entry.score for entry in entries])
    shares = np.exp(scores - scores.max()) if np.isfinite(scores.max()) else np.ones(len(scores))
    shares /= shares.sum()
    return [collections.OrderedDict([
        ("text", entry.text), ("probability", round(float(share), 6)),
        ("score", round(float(entry.score), 6)), ("start", entry.start), ("end", entry.end)])
        for entry, share in zip(entries, shares)]


def write_predictions(path, predictions):
    """Writes {id: text} as one JSON object, what the official evaluations read."""
    files.write_json(path, predictions)


def check_submission(path, questions):
    """Raises UserError unless a file answers the questions of a test file, each of them once."""
    found = files.read_json(path)
    wanted = [question.id for question in questions]
    if not isinstance(found, dict) or set(found) != set(wanted):
        raise UserError("%s does not answer the %d questions of the test file; predict again"
                        % (os.path.basename(path), len(wanted)))
    for name, text in found.items():
        if not isinstance(text, str):
            raise UserError("%s: the answer to %s is no text; predict again"
                            % (os.path.basename(path), name))
