"""Multiple choice: the questions and options in C3's and ChID's files, their tokens, the decision.

Plain NumPy, without TensorFlow. What CLUE's files look like was written down from memory of its
published baselines, since no copy of them was at hand: the docstrings of `Comprehension` and
`Idioms` say what is taken for granted, and where several spellings go round, all are read.

Dimension letters: N questions, K options.
"""

import collections
import json
import re

import numpy as np

import console
import errors
import files
from errors import UserError

Question = collections.namedtuple("Question", [
    "id", "text", "question", "options", "answer", "group"])
Question.__doc__ = """A question with options, one of which is right.

id: what predictions are told by; text: what it is about; question: string, "" where the text asks.
options: tuple of strings, 2 or more; answer: index of the right one, None where it is unknown.
group: number that is equal for questions that are decided together, which follow one another."""

MASKS = 4  # tokens that stand for the blank of an idiom: nearly all idioms have four characters
# Tokens of an input, at least: enough for both segments to say something.
SHORTEST = 16


# ---------------------------------------------------------------------------------------------
# C3
# ---------------------------------------------------------------------------------------------

class Comprehension(object):
    """C3: texts and dialogues, questions about them with two to four options each.

    Taken for granted: a file is a JSON list with an entry for each text, itself a list of the
    text's sentences (a list of strings), its questions, and an id of which nothing depends. A
    question is an object with `question`, `choice` (a list of strings, at most four) and `answer`
    (the text of one of them); one to be predicted has an `id`, a whole number, in place of the
    answer. Empty options at the end fill up to four in some copies and count as none.
    """

    most_options = 4
    decides_groups = False

    def read(self, paths, answers_needed=True):
        """Reads the files of a split, in their order.

        Args:
            answers_needed: whether a question without an answer is an error.

        Returns:
            list of Question; each of them is decided by itself.

        Raises:
            UserError: names file, place and field at fault.
        """
        questions = []
        for path in paths:
            document = files.read_json(path)
            if not isinstance(document, list):
                raise UserError("%s is not in C3's format: a list of texts with their questions is "
                                "expected" % path)
            for number, entry in enumerate(document):
                self._read_text(_Place(path, "[%d]" % number), entry, answers_needed, questions)
        return questions

    def _read_text(self, place, entry, answers_needed, questions):
        """Adds the questions about one text to those before."""
        if not isinstance(entry, list) or len(entry) < 2 or not isinstance(entry[1], list):
            place.fail("a list of the text's sentences, its questions and an id is expected")
        sentences = [entry[0]] if isinstance(entry[0], str) else entry[0]
        text = "\n".join(place.texts(sentences, "the text", or_empty=True))
        if not text.strip():
            place.fail("the text is empty")
        for number, row in enumerate(entry[1]):
            questions.append(self._question(
                place.within("[1][%d]" % number), row, text, answers_needed, len(questions)))

    def _question(self, place, row, text, answers_needed, number):
        if not isinstance(row, dict):
            place.fail('an object with "question", "choice" and "answer" is expected')
        asked = place.text(row.get("question"), 'the field "question"')
        found = place.texts(row.get("choice"), 'the field "choice"', or_empty=True)
        while found and not found[-1].strip():
            found.pop()
        if not 2 <= len(found) <= self.most_options:
            place.fail('the field "choice" must hold 2 to %d options; here it holds %d'
                       % (self.most_options, len(found)))
        if not all(option.strip() for option in found):
            place.fail("an option is empty, and others follow it")
        name = row.get("id", number)
        if isinstance(name, bool) or not isinstance(name, (int, str)) or name == "":
            place.fail('the field "id" must be a whole number or a string')
        answer = row.get("answer")
        if answer in (None, "") and not answers_needed:
            return Question(name, text, asked, tuple(found), None, number)
        if answer in (None, ""):
            place.fail('the field "answer" is missing, and only test questions may go without')
        answer = place.text(answer, 'the field "answer"').strip()
        plain = [option.strip() for option in found]
        if answer not in plain:
            place.fail('the answer "%s" is none of the options: %s'
                       % (answer[:80], " / ".join(plain)[:200]))
        return Question(name, text, asked, tuple(found), plain.index(answer), number)

    def tokens(self, question, tokenize, mask_token, room, truncate):
        """Returns (tokens of the text, list of the options' tokens, each after the question's).

        Text and options share `room`; the longer side gives way, of the options' side the question
        before the option. All options see the same part of the text.

        Args:
            tokenize: function of a text to its tokens; mask_token: unused here.
            room: tokens of the text and the longest of the options together, at most.
            truncate: function of (tokens, number) to that many tokens of them.
        """
        del mask_token
        text, asked = tokenize(question.text), tokenize(question.question)
        options = [tokenize(option) for option in question.options]
        longest = max(map(len, options))
        share = min(len(asked) + longest, max(room - len(text), (room + 1) // 2))
        options = [option[:share] for option in options]
        asked = asked[:share - min(longest, share)]
        longest = max(len(asked + option) for option in options)
        return truncate(text, room - longest), [asked + option for option in options]

    def decide(self, questions, scores):
        """Returns the index of the option chosen for each question. scores: [N, K]."""
        return [_best(row[:len(question.options)]) for question, row in zip(questions, scores)]

    def submission(self, questions, chosen):
        """Returns the text of a submission file: a line {"id": 0, "label": 2} for each question."""
        return "".join(json.dumps(collections.OrderedDict([("id", question.id), ("label", option)]),
                                  ensure_ascii=False) + "\n"
                       for question, option in zip(questions, chosen))

    def check_submission(self, path, questions):
        """Checks a submission file against the questions of the test file.

        Returns:
            the number of its lines.

        Raises:
            UserError: names file and line.
        """
        rows = list(files.read_json_lines(path))
        if len(rows) != len(questions):
            raise UserError("%s holds %d predictions where the test file has %d questions; predict "
                            "again" % (path, len(rows), len(questions)))
        for (line, row), question in zip(rows, questions):
            if sorted(row) != ["id", "label"]:
                problem = "the keys are %s where id, label are expected" % (
                    ", ".join(row) or "none")
            elif type(row["id"]) is not type(question.id) or row["id"] != question.id:
                problem = "id %s where the test file has %s" % (
                    json.dumps(row["id"]), json.dumps(question.id))
            else:
                problem = _option_problem(row["label"], question)
            if problem:
                raise UserError("%s line %d: %s; predict again" % (path, line, problem))
        return len(rows)


# ---------------------------------------------------------------------------------------------
# ChID
# ---------------------------------------------------------------------------------------------

BLANK = re.compile(r"(#idiom\d+#)")


class Idioms(object):
    """ChID: which idiom belongs into which blank of some passages? No idiom belongs into two.

    Taken for granted: a line is an object with `candidates`, at most ten idioms, and `content`, a
    list of passages (or a single one) in which `#idiom000378#` and its like stand for the blanks.
    All blanks of a line share its candidates. The answers are a file of their own: one object that
    gives each blank the index of its idiom, {"#idiom000378#": 3}, or lines `#idiom000378#,3`.
    """

    most_options = 10
    decides_groups = True

    def read(self, paths, answers_needed=True):
        """Reads passages and answers.

        Args:
            paths: the file of the passages and, where they are known, that of the answers.
            answers_needed: whether a blank without an answer is an error.

        Returns:
            list of Question, one a blank, in the order of their places; `id` is the blank as it
            stands in the text, `group` the line.

        Raises:
            UserError: names file, line and field at fault.
        """
        answers = self._answers(paths[1]) if len(paths) > 1 else {}
        questions, lines_of_blanks, bare = [], {}, []
        for line, row in files.read_json_lines(paths[0]):
            place = _Place(paths[0], "line %d" % line)
            options = tuple(place.texts(row.get("candidates"), 'the field "candidates"'))
            if not 2 <= len(options) <= self.most_options:
                place.fail('the field "candidates" must hold 2 to %d idioms; here it holds %d'
                           % (self.most_options, len(options)))
            content = row.get("content")
            content = [content] if isinstance(content, str) else content
            for text in place.texts(content, 'the field "content"'):
                blanks = BLANK.findall(text)
                if not blanks:
                    bare.append(line)
                for blank in blanks:
                    if blank in lines_of_blanks:
                        place.fail("the blank %s stands in line %d already, and predictions are "
                                   "told by it" % (blank, lines_of_blanks[blank]))
                    lines_of_blanks[blank] = line
                    questions.append(Question(
                        blank, text, "", options,
                        self._answer(place, blank, options, answers, answers_needed, paths), line))
        if bare:
            console.say("%s: passages without a blank: %d (first: line %d)"
                        % (paths[0], len(bare), bare[0]))
        unused = len(set(answers) - set(lines_of_blanks))
        if unused:
            console.say("%s: answers to blanks that stand in no passage: %d" % (paths[1], unused))
        return questions

    @staticmethod
    def _answers(path):
        """Returns {blank: index} of a file of answers."""
        if not path.endswith(".csv"):
            found = files.read_json(path)
            if not isinstance(found, dict):
                raise UserError('%s: an object that gives each blank the index of its idiom is '
                                'expected, {"#idiom000378#": 3}' % path)
            return found
        found = {}
        for line, text in files.read_lines(path):
            match = re.fullmatch(r"\s*(#idiom\d+#)\s*,\s*(\d+)\s*", text)
            if match:
                found[match.group(1)] = int(match.group(2))
            elif text.strip():
                raise UserError("%s line %d: a blank and the index of its idiom are expected, such "
                                "as #idiom000378#,3; here stands: %s" % (path, line, text[:80]))
        return found

    @staticmethod
    def _answer(place, blank, options, answers, answers_needed, paths):
        if blank not in answers:
            if answers_needed:
                place.fail("%s has no answer to the blank %s" % (paths[-1], blank))
            return None
        answer = answers[blank]
        if isinstance(answer, bool) or not isinstance(answer, int) or not (
                0 <= answer < len(options)):
            raise UserError("%s: the answer to %s must be a whole number from 0 to %d; it is %s"
                            % (paths[-1], blank, len(options) - 1, json.dumps(answer)[:80]))
        return answer

    def tokens(self, question, tokenize, mask_token, room, truncate):
        """Returns (tokens of a window around the blank, list of the candidates' tokens).

        The blank is MASKS masks, each other blank a single one, so that the two differ.

        Args: as Comprehension.tokens; truncate: unused here, the window lies where the blank is.
        """
        del truncate
        options = [tokenize(option)[:room // 2] for option in question.options]
        width = room - max(map(len, options))
        tokens, place = [], None
        for part in BLANK.split(question.text):
            if part == question.id:
                place = len(tokens)
                tokens += [mask_token] * MASKS
            elif BLANK.fullmatch(part):
                tokens.append(mask_token)
            elif part:
                tokens += tokenize(part)
        start = min(max(place + MASKS // 2 - width // 2, 0), max(len(tokens) - width, 0))
        return tokens[start:start + width], options

    def decide(self, questions, scores):
        """Returns the index of the idiom chosen for each blank, in a group no idiom twice.

        A group with more blanks than idioms cannot have it so: there each is decided by itself.

        Args:
            scores: log-probabilities [N, K].
        """
        chosen, start = [], 0
        while start < len(questions):
            end = start
            while end < len(questions) and questions[end].group == questions[start].group:
                end += 1
            chosen += assign(scores[start:end, :len(questions[start].options)])
            start = end
        return chosen

    def submission(self, questions, chosen):
        """Returns the text of a submission file: one object, {"#idiom000378#": 3}."""
        return json.dumps(collections.OrderedDict(
            (question.id, option) for question, option in zip(questions, chosen)), indent=1) + "\n"

    def check_submission(self, path, questions):
        """Checks a submission file against the blanks of the test file; UserError names the fault.

        Returns:
            None: the file is no file of lines.
        """
        found = files.read_json(path)
        if not isinstance(found, dict):
            raise UserError("%s: one object with an index for each blank is expected; predict again"
                            % path)
        by_id = collections.OrderedDict((question.id, question) for question in questions)
        for blank in by_id:
            if blank not in found:
                raise UserError("%s: the blank %s of the test file is missing; predict again"
                                % (path, blank))
        for blank, option in found.items():
            problem = ("the test file has no such blank" if blank not in by_id
                       else _option_problem(option, by_id[blank]))
            if problem:
                raise UserError("%s: %s: %s; predict again" % (path, blank, problem))


def assign(scores):
    """Chooses an option for each row, none of them twice, so that the scores' sum is highest.

    With more rows than options each row gets its own best. Exact: over the sets of options taken.

    Args:
        scores: [rows, options].

    Returns:
        list of the options' indexes.

    assign(np.array([[-1.0, -2.0], [-1.0, -9.0]])) == [1, 0]
    """
    rows, options = scores.shape
    # Weights that are no numbers give scores that are none; they lose against all others.
    scores = np.where(np.isnan(scores), -1e30, scores)
    if rows == 1 or rows > options:
        return [_best(row) for row in scores]
    taken = np.arange(1 << options)
    best = np.where(taken == 0, 0.0, -np.inf)  # of each set of options: the highest sum
    choices = []
    for row in scores:
        sums = np.full([options, len(taken)], -np.inf)
        for option in range(options):
            without = taken[taken >> option & 1 == 0]
            sums[option, without | 1 << option] = best[without] + row[option]
        choices.append(sums.argmax(axis=0))
        best = sums.max(axis=0)
    at, found = int(best.argmax()), []
    for choice in reversed(choices):
        found.append(int(choice[at]))
        at ^= 1 << found[-1]
    return found[::-1]


# ---------------------------------------------------------------------------------------------
# What both share
# ---------------------------------------------------------------------------------------------

def _best(scores):
    return int(np.argmax(np.where(np.isnan(scores), -np.inf, scores)))


def _option_problem(option, question):
    """Returns what is wrong with a predicted index, or None."""
    if isinstance(option, bool) or not isinstance(option, int) or not (
            0 <= option < len(question.options)):
        return "%s is none of the indexes 0 to %d of its options" % (
            json.dumps(option, ensure_ascii=False)[:80], len(question.options) - 1)
    return None


class _Place(object):
    """A place in a file, for the messages of what is wrong there."""

    def __init__(self, path, place):
        self._path, self._place = path, place

    def within(self, place):
        return _Place(self._path, self._place + place)

    def fail(self, problem):
        raise UserError("%s %s: %s" % (self._path, self._place, problem))

    def text(self, value, what):
        """Returns a value that must be a text."""
        if not isinstance(value, str):
            self.fail("%s must be a text; here it holds %s" % (what, _shown(value)))
        problem = errors.half_character(value)
        if problem:
            self.fail("%s %s" % (what, problem))
        return value

    def texts(self, values, what, or_empty=False):
        """Returns values that must be a list of texts, none of them empty."""
        if not isinstance(values, list):
            self.fail("%s must be a list of texts; here it holds %s" % (what, _shown(values)))
        found = [self.text(value, "an entry of " + what) for value in values]
        if not or_empty and not all(value.strip() for value in found):
            self.fail("an entry of %s is empty" % what)
        return found


def _shown(value):
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)[:80]
