"""Named entities: files with tags or spans, tags and spans turned into one another, decoding.

Plain NumPy, without TensorFlow. Every character of a text has one tag and one token, so that any
entity can be told to the character, whatever the text holds.

Dimension letters: T characters of a text, L labels (tags).
"""

import bisect
import collections
import json
import os
import re

import numpy as np

import console
import errors
import files
import named_files
import tasks
import tokenization
import windows
from errors import UserError

TASK_NAMES = ("cluener", "ner")
SUBMISSION_NAME = "cluener_predict.json"  # CLUENER's

SCHEMES = ("bio", "bioes")
_PREFIXES = {"bio": "BI", "bioes": "BIES"}
OUTSIDE = "O"

_TAGGED = (".txt", ".bio", ".bmes", ".bioes", ".conll", ".tsv")
_JSON = (".json", ".jsonl")

Entity = collections.namedtuple("Entity", ["start", "end", "type"])
Entity.__doc__ = """An entity: text[start:end], in characters, and what it is, e.g. "PER"."""

Sentence = collections.namedtuple("Sentence", ["id", "text", "entities"])
Sentence.__doc__ = """A text and its entities.

id: the row's `id`, else its number from 0; text: string, not empty.
entities: tuple of Entity in the order of their places; None: unknown."""


# ---------------------------------------------------------------------------------------------
# Tags and spans
# ---------------------------------------------------------------------------------------------

def labels_for(types, scheme):
    """Returns the tags of some types of entities, "O" first.

    labels_for(["PER"], "bio") == ["O", "B-PER", "I-PER"]
    """
    return [OUTSIDE] + ["%s-%s" % (prefix, kind) for kind in types for prefix in _PREFIXES[scheme]]


def split_tag(tag):
    """Returns (prefix, type) of a tag: split_tag("B-PER") == ("B", "PER"), of "O" ("O", "O")."""
    return tag[:1], tag.split("-", 1)[-1] or "_"


def spans_of(tags):
    """Returns the entities of a sequence of tags, as seqeval 1.2.2 reads them.

    That is CoNLL's reading: an entity goes on while tags of one type follow one another, and ends
    before a B or S and after an E or S. So an I without a B before it opens an entity too. An M
    (of BMES) is read as an I.

    Returns:
        list of Entity, by place.

    spans_of(["B-PER", "I-PER", "O", "I-LOC"]) == [Entity(0, 2, "PER"), Entity(3, 4, "LOC")]
    """
    found, begin = [], None
    last, last_type = OUTSIDE, OUTSIDE
    for place, tag in enumerate(list(tags) + [OUTSIDE]):
        prefix, kind = split_tag(tag)
        prefix = "I" if prefix == "M" else prefix
        if last != OUTSIDE and _ends(last, last_type, prefix, kind) and begin is not None:
            found.append(Entity(begin, place, last_type))
            begin = None
        if _begins(last, last_type, prefix, kind):
            begin = place
        last, last_type = prefix, kind
    return found


def _ends(last, last_type, prefix, kind):
    return last in "ES" or prefix in "BSO" or last_type != kind


def _begins(last, last_type, prefix, kind):
    if prefix == OUTSIDE:
        return False
    return (prefix in "BS" or last_type != kind or last in "S" + OUTSIDE
            or (last == "E" and prefix in "EI"))


def tags_of(entities, length, scheme):
    """Returns the tags of a text: list of `length` strings.

    Args:
        entities: Entities that do not overlap.

    tags_of([Entity(1, 3, "PER")], 4, "bio") == ["O", "B-PER", "I-PER", "O"]
    """
    tags = [OUTSIDE] * length
    for start, end, kind in entities:
        tags[start:end] = ["I-" + kind] * (end - start)
        tags[start] = "B-" + kind
        if scheme == "bioes":
            tags[end - 1] = ("S-" if end - start == 1 else "E-") + kind
    return tags


def without_overlaps(entities):
    """Returns the entities that one sequence of tags can tell: of those that overlap the longest.

    Among equally long ones the first stays.
    """
    kept, starts, ends = [], [], []  # without overlaps, they end in the order that they start in
    for entity in sorted(entities, key=lambda one: (one.start - one.end, one.start, one.type)):
        place = bisect.bisect_right(starts, entity.start)
        if (place == 0 or ends[place - 1] <= entity.start) and (
                place == len(starts) or entity.end <= starts[place]):
            kept.append(entity)
            starts.insert(place, entity.start)
            ends.insert(place, entity.end)
    return tuple(sorted(kept))


# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------

class EntityTask(named_files.NamedFilesTask):
    """Named entities: {train,dev,test} with a tag for each character, or with spans as CLUENER's.

    Attributes beside those of tasks.Task:
        labels: the tags, set once it is known which types there are.
    """

    file_names = {split: tuple(split + ending for ending in _TAGGED + _JSON)
                  for split in tasks.SPLITS}

    def __init__(self, name, files_of_splits=None):
        """Describes a task: as NamedFilesTask. name: one of TASK_NAMES."""
        super(EntityTask, self).__init__(
            name, files_of_splits, SUBMISSION_NAME if name == "cluener" else None)

    def read(self, data_dir, split):
        """Returns the Sentences of a split; UserError names file and line of a fault."""
        path = self.path(data_dir, split)
        sentences = read_sentences(path, entities_needed=split != "test")
        if not sentences:
            raise UserError("%s holds no sentence; %s" % (path, self.remedy()))
        if split == "test":
            tasks.require_different_ids(path, sentences)
        return sentences

    def check_submission(self, examples, path):
        """As the function `check_submission`; examples: the sentences of the test file."""
        files.require_file(path, "predictions")
        check_submission(path, examples)

    def remedy(self):
        return ("put train, dev and test there, as .txt (a character and its tag a line, a blank "
                'line between sentences) or .json (a line: "text" and "label" as CLUENER has '
                "them), or name each by --train_file, --dev_file and --test_file")


def read_sentences(path, entities_needed=True):
    """Reads a file of either kind; what ends in .json or .jsonl holds spans, all others hold tags.

    Tags may be of the schemes BIO, BMES and BIOES, also mixed; see `spans_of`.

    Args:
        entities_needed: whether a sentence without tags or label is an error.

    Returns:
        list of Sentence.

    Raises:
        UserError: names file and line.
    """
    if path.endswith(_JSON):
        return [_sentence_of_row(path, line, row, number, entities_needed)
                for number, (line, row) in enumerate(files.read_json_lines(path))]
    return list(_tagged_sentences(path, entities_needed))


def _tagged_sentences(path, entities_needed):
    """Yields the Sentences of a file with a character and its tag a line."""
    for number, rows in enumerate(_blocks(path)):
        chars, tags, line = [], [], rows[0][0]
        for line, columns in rows:
            chars.append(columns[0])
            if len(columns) > 1:
                tags.append(_checked_tag(path, line, columns[-1]))
        if not tags and not entities_needed:
            entities = None
        elif len(tags) == len(chars):
            # A row may hold several characters (a number, a word): its tag is that of the whole.
            ends = np.cumsum([len(char) for char in chars]).tolist()
            entities = tuple(Entity(ends[start] - len(chars[start]), ends[end - 1], kind)
                             for start, end, kind in spans_of(tags))
        else:
            raise UserError("%s, sentence that ends in line %d: %d of %d lines have no tag; a line "
                            "is a character, a blank and its tag" % (
                                path, line, len(chars) - len(tags), len(chars)))
        yield Sentence(number, "".join(chars), entities)


def _blocks(path):
    """Yields lists of (line, columns): what stands between blank lines."""
    rows = []
    for line, text in files.read_lines(path):
        if not text.strip(" \t"):
            if rows:
                yield rows
            rows = []
        elif not text.startswith("-DOCSTART-"):
            columns = re.split("[ \t]+", text.rstrip(" \t"))
            # The character may be a blank itself: the line then begins with it.
            rows.append((line, [columns[0] or text[0]] + columns[1:]))
    if rows:
        yield rows


def _checked_tag(path, line, tag):
    prefix, kind = split_tag(tag)
    if tag == OUTSIDE or (prefix in "BIMES" and tag[1:2] == "-" and kind != "_"
                          and _is_type(kind)):
        return tag
    raise UserError('%s line %d: "%s" is no tag: O, or B-, I-, M-, E- or S- with the type of the '
                    "entity, such as B-PER" % (path, line, tag))


def _is_type(kind):
    """Tells whether a type can stand in labels.txt, a line each, and be read back as it is."""
    return bool(kind) and kind == kind.strip() and len(kind.splitlines()) == 1


def _sentence_of_row(path, line, row, number, entities_needed):
    """Returns the Sentence of a row as CLUENER has them; its spans include their last character."""
    def fail(problem):
        raise UserError("%s line %d: %s" % (path, line, problem))

    text, label = row.get("text"), row.get("label")
    if not isinstance(text, str) or not text:
        fail('the field "text" must be a text that is not empty')
    for part in [text] + list(label if isinstance(label, dict) else ()):
        problem = errors.half_character(part)
        if problem:
            fail("text or label " + problem)
    name = row.get("id", number)
    if not isinstance(name, (int, str)) or isinstance(name, bool):
        fail('the field "id" must be a number or a text')
    if label is None and not entities_needed:
        return Sentence(name, text, None)
    if not isinstance(label, dict):
        fail('the field "label" must be an object {type: {mention: [[first, last], ...]}}')
    found = set()
    for kind, mentions in label.items():
        if not _is_type(kind):
            fail("the label %s is no type of entities: a text without blanks at its ends and "
                 "without line breaks is expected" % json.dumps(kind))
        if not isinstance(mentions, dict):
            fail('the label "%s" must be an object {mention: [[first, last], ...]}' % kind)
        for mention, places in mentions.items():
            for place in places if isinstance(places, list) else [places]:
                if not (isinstance(place, list) and len(place) == 2
                        and all(type(end) is int for end in place)):
                    fail('the places of "%s" must be [[first, last], ...]' % mention)
                first, last = place
                if not 0 <= first <= last < len(text) or text[first:last + 1] != mention:
                    fail('"%s" does not stand from character %d to %d of the text'
                         % (mention, first, last))
                found.add(Entity(first, last + 1, kind))
    return Sentence(name, text, tuple(sorted(found)))


def types_of(sentences):
    """Returns the types of the entities of sentences, sorted."""
    return sorted({entity.type for sentence in sentences for entity in sentence.entities or ()})


# ---------------------------------------------------------------------------------------------
# Windows: [CLS] characters [SEP]
# ---------------------------------------------------------------------------------------------

Settings = collections.namedtuple("Settings", [
    "tokenizer", "max_seq_length", "doc_stride", "labels", "scheme"])
Settings.__doc__ = """How sentences become windows.

max_seq_length, doc_stride: in tokens; labels: of `labels_for`, in the order of the model's
classes; scheme: one of SCHEMES."""


class Tagging(object):
    """Sentences as tokens and tags, and the windows that a model sees of them.

    A window is a windows.Window whose `text` is the number of its sentence.
    """

    def __init__(self, sentences, settings):
        """Turns sentences into tokens, a token a character; settings: Settings."""
        self.sentences, self._settings = sentences, settings
        self._ids = _CharacterIds(settings.tokenizer)
        self._tag_ids = {label: number for number, label in enumerate(settings.labels)}
        self.windows, self._first_windows = [], [0]
        self._latest = None, None  # sentence and its tag ids, for all windows of a long one
        for number, sentence in enumerate(sentences):
            self.windows.extend(windows.Window(number, start, end) for start, end in windows.cut(
                len(sentence.text), settings.max_seq_length - 2, settings.doc_stride))
            self._first_windows.append(len(self.windows))
        lost = sum(len(sentence.entities) - len(without_overlaps(sentence.entities))
                   for sentence in sentences if sentence.entities)
        if lost:
            console.say("entities that overlap longer ones, which tags cannot tell: %d" % lost)

    def windows_of(self, number):
        """Returns the range of the numbers of a sentence's windows."""
        return range(self._first_windows[number], self._first_windows[number + 1])

    def tag_ids(self, number):
        """Returns the class of each character of a sentence; 0 for a type without a class."""
        if self._latest[0] != number:
            sentence = self.sentences[number]
            tags = tags_of(without_overlaps(sentence.entities or ()), len(sentence.text),
                           self._settings.scheme)
            self._latest = number, [self._tag_ids.get(tag, 0) for tag in tags]
        return self._latest[1]

    def features(self, window):
        """Returns {field name: list of numbers} of a window, for its record."""
        tokenizer = self._settings.tokenizer
        text = self.sentences[window.text].text[window.start:window.end]
        length = len(text) + 2
        return {
            "input_ids": [tokenizer.cls_id] + [self._ids[char] for char in text]
            + [tokenizer.sep_id],
            "input_mask": [1] * length, "segment_ids": [0] * length,
            "label_ids": [0] + self.tag_ids(window.text)[window.start:window.end] + [0],
            "label_mask": [0] + [1] * len(text) + [0], "is_real_example": [1]}

    def joined(self, number, scores):
        """Joins the scores of a sentence's windows into one for each character.

        Args:
            number: of the sentence; scores: of each of its windows, in order, an array
                [characters of the window, L].

        Returns:
            array [T, L]: of a character in several windows, the scores of that where it has most
            context around it.
        """
        parts = [self.windows[window] for window in self.windows_of(number)]
        length = len(self.sentences[number].text)
        best = windows.best_of([(part.start, part.end) for part in parts], length)
        places = np.arange(length)
        return np.stack([scores[best[place]][place - parts[best[place]].start]
                         for place in places])


class _CharacterIds(dict):
    """The id of the one token of each character; what has none, such as a blank, is unknown."""

    def __init__(self, tokenizer):
        super(_CharacterIds, self).__init__()
        self._tokenizer = tokenizer

    def __missing__(self, char):
        pieces = [piece for piece in self._tokenizer.tokenize(char)
                  if piece != tokenization.SPM_WORD_START]
        self[char] = number = self._tokenizer.convert_tokens_to_ids(
            (pieces or [self._tokenizer.unk_token])[:1])[0]
        return number


# ---------------------------------------------------------------------------------------------
# Decoding
# ---------------------------------------------------------------------------------------------

Rules = collections.namedtuple("Rules", ["first", "following", "last"])
Rules.__doc__ = """Which tags may begin a text, follow one another and end it.

bool arrays: first and last [L]; following [L, L], a row for each tag that comes before."""


def rules_for(labels):
    """Returns the Rules of tags: an I follows a B or I of its type, and so on."""
    ends_with_e = any(label.startswith("E-") for label in labels)

    def opens(tag):
        return tag == OUTSIDE or tag[0] in "BS"

    def complete(tag):
        """Whether an entity may be over after this tag."""
        return tag[0] in "OES" or not ends_with_e

    def may_follow(before, after):
        goes_on = before[0] in "BI" and after[0] in "IE" and split_tag(before)[1] == (
            split_tag(after)[1])
        return goes_on or (opens(after) and complete(before))

    return Rules(np.array([opens(label) for label in labels]),
                 np.array([[may_follow(before, after) for after in labels] for before in labels]),
                 np.array([complete(label) for label in labels]))


def best_sequence(scores, rules):
    """Returns the sequence of tags of the highest sum of scores that keeps to the rules (Viterbi).

    Args:
        scores: log-probabilities [T, L]; rules: Rules.

    Returns:
        list of T classes.
    """
    scores = np.nan_to_num(scores, nan=-1e30) if np.isnan(scores).any() else scores
    penalties = np.where(rules.following, 0.0, -1e9)
    total = scores[0] + np.where(rules.first, 0.0, -1e9)
    arrows = []
    for row in scores[1:]:
        paths = total[:, np.newaxis] + penalties
        arrows.append(paths.argmax(axis=0))
        total = paths.max(axis=0) + row
    best = [int((total + np.where(rules.last, 0.0, -1e9)).argmax())]
    for arrow in reversed(arrows):
        best.append(int(arrow[best[-1]]))
    return best[::-1]


# ---------------------------------------------------------------------------------------------
# Predictions
# ---------------------------------------------------------------------------------------------

def prediction_line(sentence, entities):
    """Returns a line of predictions.jsonl: id, text and entities with their characters."""
    return json.dumps(collections.OrderedDict([
        ("id", sentence.id), ("text", sentence.text), ("entities", [
            collections.OrderedDict([("type", kind), ("start", start), ("end", end),
                                     ("text", sentence.text[start:end])])
            for start, end, kind in entities])]), ensure_ascii=False)


def submission_line(sentence, entities):
    """Returns a line of CLUENER's submission: {"id": 0, "label": {type: {mention: [[0, 1]]}}}."""
    label = collections.OrderedDict()
    for start, end, kind in entities:
        mentions = label.setdefault(kind, collections.OrderedDict())
        mentions.setdefault(sentence.text[start:end], []).append([start, end - 1])
    return json.dumps(collections.OrderedDict([("id", sentence.id), ("label", label)]),
                      ensure_ascii=False)


def check_submission(path, sentences, types=None):
    """Checks CLUENER's submission file against the sentences of the test file.

    Args:
        types: of entities that the model knows; None: there may be any.

    Raises:
        UserError: names file and line.
    """
    rows = list(files.read_json_lines(path))
    if len(rows) != len(sentences):
        raise UserError("%s holds %d lines where the test file has %d rows; predict again"
                        % (path, len(rows), len(sentences)))
    tasks.require_plain_lines(path, len(rows))
    for (line, row), sentence in zip(rows, sentences):
        if "id" not in row:
            raise UserError("%s line %d has no id; predict again" % (os.path.basename(path), line))
        checked = _sentence_of_row(path, line, dict(row, text=sentence.text), 0, True)
        found = set(types_of([checked]))
        if checked.id != sentence.id or not found <= (found if types is None else set(types)):
            raise UserError("%s line %d: id or types are not those of the test file and the model; "
                            "predict again" % (os.path.basename(path), line))
