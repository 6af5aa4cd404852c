"""The tasks as a registry: files, fields, labels, CLUE's settings, readers, submission lines.

A new task is one row of `_TASKS`, or a class of a few lines where its rows need more than their
fields. `python tasks.py` lists the tasks, `python tasks.py --settings=tnews` prints the settings
of one as flags. Your own data, whose labels are known only from its files, is own_data.py's work:
only the names and settings of its tasks stand here.
"""

import collections
import json
import os
import re

from absl import flags

import choices
import console
import errors
import files
from errors import UserError

SPLITS = ("train", "dev", "test")

Example = collections.namedtuple("Example", ["id", "text_a", "text_b", "label"])
Example.__doc__ = """One row of a task.

id: the row's `id` (number or string, as it stands), else its `idx`, else its number from 0.
text_a, text_b: strings; text_b is None for tasks with a single text.
label: one of the task's labels; None for a test row without one."""

Settings = collections.namedtuple("Settings", [
    "max_seq_length", "train_batch_size", "learning_rate", "num_train_epochs",
    "save_checkpoints_steps"])
Settings.__doc__ = """A task's published hyper-parameters, named like run_classifier.py's flags.

max_seq_length in tokens, train_batch_size in examples, save_checkpoints_steps in training steps
(None: nothing published, the flag's default holds)."""


# ---------------------------------------------------------------------------------------------
# The registry
# ---------------------------------------------------------------------------------------------

def get(name, flag="task_name"):
    """Returns the Task called `name`, in upper or lower case, or by an alias.

    Args:
        flag: the flag that the name comes from, for the message.

    Raises:
        UserError: there is no such task; the message lists those there are.
    """
    wanted = (name or "").strip().lower()
    if wanted in _BY_NAME:
        return _BY_NAME[wanted]
    if wanted in OWN_DATA:
        raise UserError("--%s=%s: that is your own data, whose labels are known only from its "
                        "files; run_classifier.py reads it: --task_name=%s --data_dir=FOLDER"
                        % (flag, name, wanted))
    if not wanted:
        raise UserError("--%s is missing: name one of %s" % (
            flag, ", ".join(names() + list(OWN_DATA))))
    known = sorted(list(_BY_NAME) + list(OWN_DATA))
    raise UserError("--%s=%s is no known task.%s Known are: %s" % (
        flag, name, errors.nearest(wanted, known), ", ".join(known)))


def names():
    """Returns the names of the registered tasks, without aliases; OWN_DATA are two more."""
    return [task.name for task in _TASKS]


def clue_names():
    """Returns the names of the tasks that make up a CLUE submission."""
    return [task.name for task in _TASKS if task.submission_name]


def settings(name, flag="task_name"):
    """Returns the Settings of the task called `name`, which may be one of OWN_DATA."""
    wanted = (name or "").strip().lower()
    return OWN_SETTINGS if wanted in OWN_DATA else get(name, flag).settings


def settings_flags(values):
    """Returns Settings as flags: '--max_seq_length=128 --train_batch_size=16 ...'."""
    return " ".join("--%s=%s" % (name, _number(value))
                    for name, value in values._asdict().items() if value is not None)


def _number(value):
    """Writes a setting the usual way: _number(2e-5) == '2e-5', _number(128) == '128'."""
    return ("%g" % value).replace("e-0", "e-") if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------

class Task(object):
    """A classification task in CLUE's form: {train,dev,test}.json, one JSON object a line.

    Attributes:
        name: string.
        aliases: other names that users know it by; also tried as names of its folder.
        labels: tuple of strings; the position is the class index of released checkpoints.
        settings: Settings.
        submission_name: file name that the CLUE site expects, or None.
        label_descriptions: dict of label to the `label_desc` of submission lines, or None.
        file_names: dict of split to the file names looked for under data_dir, best first.
    """

    file_names = {split: (split + ".json",) for split in SPLITS}

    # The columns that texts and label come from, where the user chooses them (own_data.py).
    text_columns = label_column = None

    def __init__(self, name, labels, settings, fields=(), aliases=(), submission_name=None,
                 label_descriptions=None, skipped_label=None, label_synonyms=None,
                 label_field="label"):
        """Describes a task.

        Args:
            fields: the names of the one or two text fields of a row.
            label_field: the name of its label's field.
            skipped_label: the label of training and dev rows to leave out (annotators disagreed).
            label_synonyms: dict of other spellings to the label they stand for.
            The others are the attributes of the same name.
        """
        self.name, self.labels, self.settings = name, tuple(labels), settings
        self.aliases, self.submission_name = tuple(aliases), submission_name
        self.label_descriptions = label_descriptions
        self._fields, self._skipped_label = tuple(fields), skipped_label
        self._label_synonyms, self._label_field = label_synonyms or {}, label_field

    def read(self, data_dir, split):
        """Returns the examples of a split ("train", "dev" or "test") in the file's order.

        Raises:
            UserError: the file is absent or holds no example, or a row is at fault: a field is
                missing or no string, all its text is empty, its label is unknown, it has none in
                train or dev, or, in the test file of a CLUE task, it has the id of another row.
                The message names file and line.
        """
        path = self.path(data_dir, split)
        if self.folder(data_dir) != data_dir:
            console.say("--data_dir=%s holds no files of task %s itself: reading %s"
                        % (data_dir, self.name, path))
        notes, examples, lines_of_ids = collections.OrderedDict(), [], {}
        for number, (line, values) in enumerate(self.rows(path, split)):
            row = _Row(values, path, line, self.name, notes)
            example = self._example(row, number, split)
            if example is None:
                continue
            if split == "test" and self.submission_name:
                first = lines_of_ids.setdefault(repr(example.id), line)
                if first != line:
                    row.fail("id %s is that of line %d too, and a prediction is told by its id; "
                             "give every row another one" % (json.dumps(example.id), first))
            examples.append(example)
        for note, lines in notes.items():
            console.say("%s: %s: %d (first: line %d)" % (path, note, len(lines), lines[0]))
        if not examples:
            raise UserError("%s holds no example of task %s; %s" % (path, self.name, self.remedy()))
        return examples

    def rows(self, path, split):
        """Yields (line number, dict of the row's fields)."""
        return files.read_json_lines(path)

    def texts(self, row):
        """Returns the row's texts, one or two: tasks that need more than its fields override it."""
        return tuple(row.text(field) for field in self._fields)

    def _example(self, row, number, split):
        label = self._label(row, split)
        if label is not None and label == self._skipped_label:
            row.note('rows left out because their label is "%s"' % label)
            return None
        texts = self.texts(row)
        if not any(text.strip() for text in texts):
            row.fail("the text is empty")
        return Example(row.id(number), texts[0], texts[1] if len(texts) == 2 else None, label)

    def _label(self, row, split):
        """Returns the label's canonical spelling; None for an unlabelled test row."""
        value = row.values.get(self._label_field)
        label = None if value is None else label_text(value)
        label = self._label_synonyms.get(label, label)
        if label in self.labels:
            return label
        if split == "test" and label in NO_LABEL:
            return None
        if label is None:
            row.fail('the field "%s" is missing, and only test rows may go without; the row '
                     "holds: %s" % (self._label_field, row.holds()))
        if label != self._skipped_label:
            row.fail('label "%s" is unknown to task %s.%s Known are: %s' % (
                label, self.name, errors.nearest(label, self.labels), _listed(self.labels)))
        return label

    def find(self, data_dir, split):
        """Returns the path of a split's file, or None where there is none."""
        folder = self.folder(data_dir)
        paths = (os.path.join(folder, name) for name in self.file_names[split])
        return next((path for path in paths if files.exists(path)), None)

    def path(self, data_dir, split):
        """Returns the path of a split's file.

        Raises:
            UserError: there is none; the message tells where it was looked for and the remedy.
        """
        path = self.find(data_dir, split)
        if path is None:
            folder = self.folder(data_dir)
            wanted = [os.path.join(folder, name) for name in self.file_names[split]]
            absent = ("%s does not exist" % wanted[0] if len(wanted) == 1
                      else "neither %s exists" % " nor ".join(wanted))
            raise UserError("%s: --data_dir must name the folder with the files of task %s; %s"
                            % (absent, self.name, self.remedy()))
        return path

    def folder(self, data_dir):
        """Returns the folder with the task's files: data_dir, or its one subfolder for the task.

        So `CLUEdataset` serves where `CLUEdataset/tnews` is meant.

        Raises:
            UserError: data_dir is not given or is no folder, or several subfolders would do.
        """
        if not data_dir:
            raise UserError("--data_dir is missing: name the folder with the files of task %s; %s"
                            % (self.name, self.remedy()))
        if files.exists(data_dir) and not files.is_dir(data_dir):
            raise UserError("--data_dir=%s is a file: name the folder that holds it" % data_dir)
        if self._has_files(data_dir):
            return data_dir
        names = files.list_dir(data_dir) if files.is_dir(data_dir) else []
        inside = [os.path.join(data_dir, name) for name in names
                  if name.lower() in (self.name,) + self.aliases]
        inside = [folder for folder in inside if self._has_files(folder)]
        if len(inside) > 1:
            raise UserError("--data_dir=%s: both %s hold files of task %s; name one of them"
                            % (data_dir, " and ".join(inside), self.name))
        return inside[0] if inside else data_dir

    def paths(self, data_dir, split):
        """Returns the paths of all files of a split: the first is that of `path`."""
        return [self.path(data_dir, split)]

    def _has_files(self, folder):
        return any(files.exists(os.path.join(folder, name))
                   for split in SPLITS for name in self.file_names[split])

    def remedy(self):
        """Returns the words that tell a user how to come by the task's files."""
        return ("to fetch them: python download.py --name=%s --output_dir=CLUEdataset, then "
                "--data_dir=CLUEdataset/%s" % (self.name, self.name))

    def submission_names(self):
        """Returns the names that the task's submission file may have."""
        return (self.submission_name,) if self.submission_name else ()

    def submission_in(self, data_dir):
        """Returns the name of the submission file for the test file in a folder."""
        del data_dir
        return self.submission_name

    def for_submission(self, name):
        """Returns the task as it is for a submission file of one of the names."""
        del name
        return self

    def check_submission(self, examples, path):
        """As the function `check_submission`."""
        check_submission(self, examples, path)

    def submission_line(self, example, label):
        """Returns the line of a submission file: '{"id": 0, "label": "0"}', no line end."""
        if label not in self.labels:
            raise ValueError("%r is no label of task %s" % (label, self.name))
        line = collections.OrderedDict([("id", example.id), ("label", label)])
        if self.label_descriptions:
            line["label_desc"] = self.label_descriptions[label]
        return json.dumps(line, ensure_ascii=False)


class KeywordTask(Task):
    """CSL: are these the keywords of this abstract? text_a is the keywords, text_b the abstract."""

    def texts(self, row):
        return " ".join(row.text_list("keyword")), row.text("abst")


class CoreferenceTask(Task):
    """WSC: does the pronoun (span 2) stand for the noun (span 1)? One text with both marked."""

    def texts(self, row):
        text, target = row.text("text"), row.child("target")
        spans = [self._span(text, target, name) for name in ("span1", "span2")]
        return (mark_spans(text, spans[0], spans[1]),)

    @staticmethod
    def _span(text, target, name):
        """Returns the (start, end) of a span, in characters, checked to lie within the text."""
        start, words = target.integer(name + "_index"), target.text(name + "_text")
        end = start + len(words)
        if not words or start < 0 or end > len(text):
            target.fail('%s "%s" at character %d does not lie within the text of %d characters'
                        % (name, words, start, len(text)))
        if text[start:end] != words:
            # The marks go where the index says, as in the data that checkpoints were tuned on.
            target.note("rows whose %s_text is not what stands at %s_index" % (name, name))
        return start, end


class LargestFirstTask(Task):
    """OCNLI: its training file comes in several sizes, of which the largest there is read."""

    file_names = dict(Task.file_names, train=(
        "train.50k.json", "train.json", "train.30k.json", "train.10k.json", "train.5k.json",
        "train.3k.json"))


class PairFileTask(Task):
    """LCQMC: {train,dev,test}.txt with text_a, text_b and label between tabs, no header row."""

    file_names = {split: (split + ".txt",) for split in SPLITS}

    def rows(self, path, split):
        return _tsv_rows(path, ("text_a", "text_b", "label"), self.labels)

    def remedy(self):
        return ("LCQMC is a licensed corpus that you bring: put train.txt, dev.txt and test.txt "
                "there (a line: text_a, text_b and label, between tabs)")


class XnliTask(Task):
    """XNLI in Chinese, as Google's archive (tab-separated) or as CLUE's (JSON)."""

    file_names = {
        "train": ("multinli/multinli.train.zh.tsv", "train.json"),
        "dev": ("xnli.dev.tsv", "dev.json"),
        "test": ("xnli.test.tsv", "test.json"),
    }

    def rows(self, path, split):
        if path.endswith(".json"):
            return files.read_json_lines(path)
        labels = self.labels + tuple(self._label_synonyms)
        if path.endswith("multinli.train.zh.tsv"):
            return _tsv_rows(path, ("premise", "hypo", "label"), labels)
        return _chinese_rows(path, labels)

    def remedy(self):
        return ("put XNLI's files there, either multinli/multinli.train.zh.tsv, xnli.dev.tsv and "
                "xnli.test.tsv (XNLI-MT-1.0.zip and XNLI-1.0.zip) or train.json, dev.json and "
                "test.json (a line: premise, hypo and label)")


class GlueTask(Task):
    """A task of GLUE (Wang et al. 2018): tab-separated, columns named in line 1, plain quotes."""

    file_names = {split: (split + ".tsv",) for split in SPLITS}

    def rows(self, path, split):
        needed = self._fields if split == "test" else self._fields + (self._label_field,)
        header = None
        for line, columns in tsv_lines(path):
            if header is None:
                header = columns
                absent = [name for name in needed if name not in header]
                if absent:
                    raise UserError('%s line %d must name the columns of task %s; "%s" is missing, '
                                    "it holds: %s" % (path, line, self.name, absent[0],
                                                      ", ".join(columns)[:200]))
            else:
                _check_width(path, line, columns, header)
                yield line, dict(zip(header, columns))

    def remedy(self):
        return ("GLUE's files (https://gluebenchmark.com/tasks) belong there: %s"
                % ", ".join(self.file_names[split][0] for split in SPLITS))


class MatchedTask(GlueTask):
    """MNLI, with the dev and test files of the genres that training has seen."""

    file_names = dict(GlueTask.file_names, dev=("dev_matched.tsv",), test=("test_matched.tsv",))


class AcceptabilityTask(GlueTask):
    """CoLA: source, label, star and sentence without a header; in test index and sentence with."""

    def rows(self, path, split):
        names = None
        for line, columns in tsv_lines(path):
            if names is None:
                if columns[0].strip() == "index" and len(columns) == 2:
                    names = ("index", "sentence")
                    continue
                names = ("source", "label", "star", "sentence")
            _check_width(path, line, columns, names)
            row = dict(zip(names, columns))
            if line == 1 and _is_header((row["sentence"],), row["label"], self.labels):
                console.say("%s: line 1 reads as a header and is passed over: %s"
                            % (path, ", ".join(columns)))
                continue
            yield line, row


class ParaphraseTask(GlueTask):
    """MRPC, as GLUE's files or as Microsoft's, whose training file holds GLUE's dev rows too."""

    file_names = dict(GlueTask.file_names, train=("train.tsv", "msr_paraphrase_train.txt"),
                      test=("test.tsv", "msr_paraphrase_test.txt"))

    def rows(self, path, split):
        rows = super(ParaphraseTask, self).rows(path, split)
        if os.path.basename(path) != "msr_paraphrase_train.txt":
            return rows
        dev = os.path.join(os.path.dirname(path), "dev.tsv")
        return self._without(rows, dev, path) if files.exists(dev) else rows

    def _without(self, rows, dev, path):
        """Yields the rows that are not in the file `dev`, so that none is trained on."""
        held_out = {self._key(row) for _, row in super(ParaphraseTask, self).rows(dev, "dev")}
        count = 0
        for line, row in rows:
            if self._key(row) in held_out:
                count += 1
            else:
                yield line, row
        if count:
            console.say("%s: rows left out because they are in dev.tsv: %d" % (path, count))

    def _key(self, row):
        return tuple(row[field].strip() for field in self._fields)


class ChoiceTask(Task):
    """Questions with options to choose from: choices.py has what is particular to them.

    There are no labels. A split may lie in several files that belong together, and test in one of
    several versions, each with a submission name of its own.

    Attributes beside those of Task:
        kind: choices.Comprehension or choices.Idioms.
    """

    def __init__(self, name, kind, settings, file_sets, submission_names):
        """Describes a task.

        Args:
            file_sets: {split: tuples of the names of files that belong together, best first}.
            submission_names: {name of the test file: that of its submission}, best first.
        """
        super(ChoiceTask, self).__init__(
            name, (), settings, submission_name=next(iter(submission_names.values())))
        self.kind = kind
        self._file_sets, self._submission_names = file_sets, submission_names
        self.file_names = {split: tuple(collections.OrderedDict.fromkeys(
            file_name for file_set in file_sets[split] for file_name in file_set))
            for split in SPLITS}

    def paths(self, data_dir, split):
        """Returns the paths of a split's files; UserError where one of them is missing."""
        folder = self.folder(data_dir)
        partial = None
        for names_of_set in self._file_sets[split]:
            paths = [os.path.join(folder, name) for name in names_of_set]
            absent = [path for path in paths if not files.exists(path)]
            if not absent:
                return paths
            if len(absent) < len(paths) and partial is None:
                partial = absent[0]
        if partial:
            raise UserError("%s does not exist, and it belongs to the %s split of task %s like "
                            "what is there; %s" % (partial, split, self.name, self.remedy()))
        return [super(ChoiceTask, self).path(data_dir, split)]

    def path(self, data_dir, split):
        return self.paths(data_dir, split)[0]

    def read(self, data_dir, split):
        """Returns the questions of a split, a list of choices.Question in the files' order.

        Raises:
            UserError: a file is absent or at fault, or holds no question.
        """
        paths = self.paths(data_dir, split)
        if self.folder(data_dir) != data_dir:
            console.say("--data_dir=%s holds no files of task %s itself: reading %s"
                        % (data_dir, self.name, paths[0]))
        questions = self.kind.read(paths, answers_needed=split != "test")
        if not questions:
            raise UserError("%s holds no question of task %s; %s"
                            % (paths[0], self.name, self.remedy()))
        if split == "test":
            require_different_ids(paths[0], questions)
        return questions

    def remedy(self):
        return "%s; or put its files there: %s" % (
            super(ChoiceTask, self).remedy(), ", ".join(
                " and ".join(self._file_sets[split][0]) for split in SPLITS))

    def submission_names(self):
        return tuple(collections.OrderedDict.fromkeys(self._submission_names.values()))

    def submission_in(self, data_dir):
        return self._submission_names[os.path.basename(self.path(data_dir, "test"))]

    def for_submission(self, name):
        """Returns the task with those test files only that have submissions of a name."""
        fitting = {file_name for file_name, submission in self._submission_names.items()
                   if submission == name}
        return ChoiceTask(
            self.name, self.kind, self.settings,
            dict(self._file_sets, test=tuple(
                names_of_set for names_of_set in self._file_sets["test"]
                if names_of_set[0] in fitting)), collections.OrderedDict(
                    (file_name, submission)
                    for file_name, submission in self._submission_names.items()
                    if file_name in fitting))

    def check_submission(self, examples, path):
        """Checks a submission file against the test questions; UserError names the fault."""
        files.require_file(path, "predictions")
        lines = self.kind.check_submission(path, examples)
        if lines is not None:
            require_plain_lines(path, lines)


def mark_spans(text, first, second):
    """Wraps one span of a text in `_ _` and another in `[ ]`, without added spaces.

    Args:
        first, second: (start, end) in characters, end not included. Nested spans stay nested.

    Example: mark_spans("小明说他累", (0, 2), (3, 4)) == "_小明_说[他]累"
    """
    marks = []
    for rank, ((start, end), opening, closing) in enumerate(((first, "_", "_"),
                                                             (second, "[", "]"))):
        # Where marks meet: what ends comes before what begins, and the longer span is outside
        # (the first one where both are equal).
        marks.append((start, 1, start - end, rank, opening))
        marks.append((end, 0, end - start, -rank, closing))
    for position, _, _, _, mark in sorted(marks, reverse=True):
        text = text[:position] + mark + text[position:]
    return text


# ---------------------------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------------------------

# What stands in the label field of test rows that have no label, in one mirror or another.
NO_LABEL = (None, "", "-", "-1")


def label_text(value):
    """Returns a JSON label as a string: 108, 108.0 and "108" are one label, as true and "true"."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def _listed(labels, most=150):
    """Returns the labels between commas, the first ones of very many."""
    more = ", ... (%d in all)" % len(labels) if len(labels) > most else ""
    return ", ".join(labels[:most]) + more


class _Row(object):
    """The fields of one row, checked when they are asked for; complaints name file and line."""

    def __init__(self, values, path, line, task_name, notes, prefix=""):
        self.values, self._path, self._line = values, path, line
        self._task_name, self._notes, self._prefix = task_name, notes, prefix

    def fail(self, problem):
        raise UserError("%s line %d: %s" % (self._path, self._line, problem))

    def note(self, text):
        """Remembers that this row was treated specially; `Task.read` says how many were."""
        self._notes.setdefault(text, []).append(self._line)

    def holds(self):
        return ", ".join(self.values) or "nothing"

    def text(self, field):
        return self.checked_text(field, self._value(field, (str,), "a string"))

    def text_list(self, field):
        items = self._value(field, (list,), "a list of strings")
        for item in items:
            if not isinstance(item, str):
                self._wrong_type(field, item, "a list of strings")
            self.checked_text(field, item)
        return items

    def integer(self, field):
        return self._value(field, (int,), "a whole number")

    def child(self, field):
        return _Row(self._value(field, (dict,), "an object"), self._path, self._line,
                    self._task_name, self._notes, self._prefix + field + ".")

    def id(self, number):
        for field in ("id", "idx"):
            if self.values.get(field) not in (None, ""):
                value = self._value(field, (int, str), "a whole number or a string")
                return self.checked_text(field, value) if isinstance(value, str) else value
        return number

    def _value(self, field, types, expected):
        if field not in self.values:
            self.fail('the field "%s%s" is missing; it holds: %s. Is this a file of task %s?'
                      % (self._prefix, field, self.holds(), self._task_name))
        value = self.values[field]
        if not isinstance(value, types) or isinstance(value, bool):
            self._wrong_type(field, value, expected)
        return value

    def _wrong_type(self, field, value, expected):
        self.fail('the field "%s%s" must be %s; here it holds %s'
                  % (self._prefix, field, expected, json.dumps(value, ensure_ascii=False)[:80]))

    def checked_text(self, field, text):
        """Returns a text; refuses half a surrogate pair."""
        problem = errors.half_character(text)
        if problem:
            self.fail('the field "%s%s" %s' % (self._prefix, field, problem))
        return text


# ---------------------------------------------------------------------------------------------
# Tab-separated rows: no quoting, nothing dropped in silence
# ---------------------------------------------------------------------------------------------

# Names that columns go by. Of the texts: what usually comes first in a pair stands first.
TEXT_NAMES = (
    "premise", "hypothesis", "hypo", "query", "question", "q", "title", "text", "sentence", "sent",
    "s", "content", "body", "document", "doc", "passage", "paragraph", "abstract", "abst",
    "answer", "review", "comment", "utterance", "问题", "问句", "查询", "标题", "文本", "句子",
    "语句", "内容", "正文", "摘要", "答案", "回答", "评论")
LABEL_NAMES = (
    "label", "labels", "gold_label", "label_id", "class", "category", "sentiment", "target", "tag",
    "polarity", "intent", "topic", "标签", "类别", "分类", "情感", "意图", "极性")
COLUMN_NAME = re.compile("(%s)[ _]?([12ab]?)" % "|".join(TEXT_NAMES + LABEL_NAMES), re.IGNORECASE)

_XNLI_LANGUAGES = ("ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur",
                   "vi", "zh")


def _tsv_rows(path, fields, labels):
    """Yields (line, dict of fields) of a file whose columns are `fields`, the label last."""
    for line, columns in tsv_lines(path):
        _check_width(path, line, columns, fields)
        if line == 1 and _is_header(columns[:-1], columns[-1], labels):
            console.say("%s: line 1 reads as a header and is passed over: %s"
                        % (path, ", ".join(columns)))
            continue
        yield line, dict(zip(fields, columns))


def _chinese_rows(path, labels):
    """Yields (line, dict of fields) of the Chinese rows of xnli.dev.tsv or xnli.test.tsv."""
    others = 0
    for line, columns in tsv_lines(path):
        if len(columns) < 8:
            raise UserError("%s line %d has %d columns where XNLI has 8 or more, between tabs: "
                            "language first, label second, texts seventh and eighth"
                            % (path, line, len(columns)))
        language, label, premise, hypothesis = (columns[index] for index in (0, 1, 6, 7))
        if line == 1 and _is_header((premise, hypothesis), label, labels):
            continue
        if language == "zh":
            yield line, {"premise": premise, "hypo": hypothesis, "label": label}
        elif language in _XNLI_LANGUAGES:
            others += 1
        else:
            raise UserError('%s line %d: the first column must name one of XNLI\'s languages (%s); '
                            'here it holds "%s"'
                            % (path, line, ", ".join(_XNLI_LANGUAGES), language[:80]))
    if others:
        console.say("%s: rows in other languages than zh passed over: %d" % (path, others))


def _check_width(path, line, columns, names):
    """Raises UserError unless a row has as many columns as there are names."""
    if len(columns) != len(names):
        raise UserError("%s line %d has %d column%s where %d are expected, between tabs: %s" % (
            path, line, len(columns), "" if len(columns) == 1 else "s", len(names),
            ", ".join(names)))


def tsv_lines(path):
    """Yields (line, columns); blank lines may stand at the end only."""
    blank = None
    for line, text in files.read_lines(path):
        if not text.strip(" "):
            blank = blank or line
            continue
        if blank:
            raise UserError("%s line %d is blank, and rows follow it; remove it" % (path, blank))
        yield line, text.split("\t")


def _is_header(texts, label, labels):
    """Tells whether a first line reads as column names: no known label beside texts like those."""
    return label.strip() not in labels and all(
        COLUMN_NAME.fullmatch(text.strip()) for text in texts)


# ---------------------------------------------------------------------------------------------
# Submissions
# ---------------------------------------------------------------------------------------------

def write_submission(task, examples, predicted_labels, path):
    """Writes a submission file: one JSON line per test row, in the rows' order.

    Args:
        task: Task with a submission name.
        examples: list of Example, all rows of the test file.
        predicted_labels: list of labels (strings of `task.labels`), one per example.
        path: the file, which appears only when complete; its name should be the task's
            `submission_name`.
    """
    if len(examples) != len(predicted_labels):
        raise ValueError("%d examples, %d predictions" % (len(examples), len(predicted_labels)))
    files.write_text(path, "".join(
        task.submission_line(example, label) + "\n"
        for example, label in zip(examples, predicted_labels)))


def check_submission(task, examples, path):
    """Checks a submission file against the test rows.

    Raises:
        UserError: the number of lines, an id or its place, a label, or a key is wrong, or the file
            is not plain UTF-8 with one JSON object a line; the message names file and line.
    """
    files.require_file(path, "predictions")
    rows = list(files.read_json_lines(path))
    if len(rows) != len(examples):
        raise UserError("%s holds %d predictions where the test file of task %s has %d rows; "
                        "predict again" % (path, len(rows), task.name, len(examples)))
    for number, ((line, row), example) in enumerate(zip(rows, examples), 1):
        problem = ("a blank line comes before it" if line != number
                   else _submission_problem(task, example, row))
        if problem:
            raise UserError("%s line %d: %s; predict again" % (path, line, problem))
    require_plain_lines(path, len(rows))


def require_different_ids(path, rows):
    """Raises UserError if two rows of a test file have one `id`."""
    counts = collections.Counter(repr(row.id) for row in rows)
    for row in rows:
        if counts[repr(row.id)] > 1:
            raise UserError("%s: %d rows have the id %s, and a prediction is told by its id; give "
                            "each another one" % (path, counts[repr(row.id)], json.dumps(row.id)))


def require_plain_lines(path, count):
    """Refuses what `files.read_json_lines` passes over and other readers of JSON lines may not."""
    with files.open_binary(path) as stream:
        content = stream.read()
    for what, is_so in (("starts with a byte order mark", content.startswith(b"\xef\xbb\xbf")),
                        ("holds carriage returns", b"\r" in content),
                        ("ends with blank lines", content.rstrip(b"\n").count(b"\n") + 1 != count
                         or content.endswith(b"\n\n"))):
        if is_so:
            raise UserError("%s %s, which CLUE's site may not read; predict again" % (path, what))
    for line, text in enumerate(content.decode("utf-8").rstrip("\n").split("\n"), 1):
        keys = json.loads(text, object_pairs_hook=lambda pairs: [key for key, _ in pairs])
        if len(set(keys)) < len(keys):
            raise UserError("%s line %d: a key comes twice: %s; predict again"
                            % (path, line, ", ".join(keys)))


def _submission_problem(task, example, row):
    """Returns what is wrong with a submission line, or None."""
    keys = ["id", "label"] + (["label_desc"] if task.label_descriptions else [])
    if sorted(row) != sorted(keys):
        return "the keys are %s where %s are expected" % (", ".join(row) or "none", ", ".join(keys))
    if type(row["id"]) is not type(example.id) or row["id"] != example.id:
        return "id %s where the test file has %s" % (json.dumps(row["id"]), json.dumps(example.id))
    if not isinstance(row["label"], str) or row["label"] not in task.labels:
        return "label %s is none of the strings %s" % (
            json.dumps(row["label"], ensure_ascii=False), ", ".join(task.labels))
    if task.label_descriptions and row["label_desc"] != task.label_descriptions[row["label"]]:
        return 'label_desc %s where label "%s" has "%s"' % (
            json.dumps(row["label_desc"], ensure_ascii=False), row["label"],
            task.label_descriptions[row["label"]])
    return None


# ---------------------------------------------------------------------------------------------
# The table. Labels in class index order; settings: length, batch, rate, epochs, save every
# ---------------------------------------------------------------------------------------------

_BINARY = ("0", "1")
_INFERENCE = ("contradiction", "entailment", "neutral")

_NEWS = collections.OrderedDict([
    ("100", "news_story"), ("101", "news_culture"), ("102", "news_entertainment"),
    ("103", "news_sports"), ("104", "news_finance"), ("106", "news_house"), ("107", "news_car"),
    ("108", "news_edu"), ("109", "news_tech"), ("110", "news_military"), ("112", "news_travel"),
    ("113", "news_world"), ("114", "news_stock"), ("115", "news_agriculture"),
    ("116", "news_game"),
])

# Of these three we know no published settings but the lengths of c3 and chid. A batch is padded to
# its longest question only, and holds each as many times as it has options.
_OCNLI_SETTINGS = Settings(128, 32, 3e-5, 3, 500)
_C3_SETTINGS = Settings(512, 16, 2e-5, 8, 500)
_CHID_SETTINGS = Settings(64, 16, 2e-5, 3, 5000)

_C3_FILES = {
    "train": (("m-train.json", "d-train.json"), ("train.json",)),
    "dev": (("m-dev.json", "d-dev.json"), ("dev.json",)),
    "test": (("test1.1.json",), ("test.json",), ("test1.0.json",), ("m-test.json", "d-test.json")),
}
_CHID_FILES = {
    "train": (("train.json", "train_answer.json"), ("train.json", "train_answer.csv")),
    "dev": (("dev.json", "dev_answer.json"), ("dev.json", "dev_answer.csv")),
    "test": (("test1.1.json",), ("test.json",), ("test1.0.json",)),
}

_TASKS = (
    Task("afqmc", _BINARY, Settings(128, 16, 2e-5, 3, 300), ("sentence1", "sentence2"),
         submission_name="afqmc_predict.json"),
    Task("cmnli", _INFERENCE, Settings(128, 64, 3e-5, 2, 300), ("sentence1", "sentence2"),
         submission_name="cmnli_predict.json", skipped_label="-"),
    KeywordTask("csl", _BINARY, Settings(128, 16, 1e-5, 5, 100),
                submission_name="csl_predict.json"),
    Task("iflytek", [str(number) for number in range(119)], Settings(128, 32, 2e-5, 3, 300),
         ("sentence",), submission_name="iflytek_predict.json"),
    Task("tnews", _NEWS, Settings(128, 16, 2e-5, 3, 300), ("sentence",),
         submission_name="tnews11_predict.json", label_descriptions=_NEWS),
    CoreferenceTask("wsc", ("true", "false"), Settings(128, 16, 1e-5, 10, 10),
                    aliases=("cluewsc2020",), submission_name="cluewsc11_predict.json"),
    LargestFirstTask("ocnli", _INFERENCE, _OCNLI_SETTINGS, ("sentence1", "sentence2"),
                     submission_name="ocnli_50k_predict.json", skipped_label="-"),
    ChoiceTask("c3", choices.Comprehension(), _C3_SETTINGS, _C3_FILES, collections.OrderedDict([
        ("test1.1.json", "c311_predict.json"), ("test.json", "c311_predict.json"),
        ("test1.0.json", "c310_predict.json"), ("m-test.json", "c311_predict.json")])),
    ChoiceTask("chid", choices.Idioms(), _CHID_SETTINGS, _CHID_FILES, collections.OrderedDict([
        ("test1.1.json", "chid11_predict.json"), ("test.json", "chid11_predict.json"),
        ("test1.0.json", "chid10_predict.json")])),
    PairFileTask("lcqmc", _BINARY, Settings(128, 64, 1e-4, 5, None), ("text_a", "text_b"),
                 aliases=("lcqmc_pair",)),
    XnliTask("xnli", _INFERENCE, Settings(128, 32, 3e-5, 2, None), ("premise", "hypo"),
             label_synonyms={"contradictory": "contradiction"}),
    # GLUE's: length, batch and rate of the ALBERT paper (Lan et al. 2020, table 14); its steps
    # (5336, 10000, 800) as passes over the 8551, 392702 and 3668 training rows.
    AcceptabilityTask("cola", _BINARY, Settings(512, 16, 1e-5, 10, None), ("sentence",)),
    MatchedTask("mnli", _INFERENCE, Settings(512, 128, 3e-5, 3.26, None),
                ("sentence1", "sentence2"), label_field="gold_label", skipped_label="-"),
    ParaphraseTask("mrpc", _BINARY, Settings(512, 32, 2e-5, 7, None), ("#1 String", "#2 String"),
                   label_field="Quality"),
)

# The tasks of own_data.py: one text, two texts. Nothing is published for data that nobody knows:
# a start, the flags' defaults with LCQMC's learning rate.
OWN_DATA = ("sentence", "sentence_pair")
OWN_SETTINGS = Settings(128, 32, 1e-4, 3, None)

_BY_NAME = {name: task for task in _TASKS for name in (task.name,) + task.aliases}


# ---------------------------------------------------------------------------------------------
# Command line, for shell scripts
# ---------------------------------------------------------------------------------------------

def _overview():
    """Returns the table of all tasks, your own data included."""
    rows = [(task.name, len(task.labels) or "options", task.settings, task.submission_name)
            for task in _TASKS]
    rows += [(name, "yours", OWN_SETTINGS, None) for name in OWN_DATA]
    return console.table(("task", "labels") + Settings._fields + ("submission",), [
        [name, labels] + ["-" if value is None else _number(value) for value in numbers]
        + [submission or "-"] for name, labels, numbers, submission in rows])


def _submission_name(name):
    """Returns the submission file's name; UserError for what is no CLUE task by this very name."""
    task = get(name, "submission_name")
    if task.name != name or not task.submission_name:
        raise UserError("%s is no CLUE task by that name; use %s%s" % (
            name, ", ".join(clue_names()), "" if task.submission_name else
            " here, and run_classifier.py (or run_classifier_lcqmc.sh) for %s" % task.name))
    return task.submission_name


def main(_):
    values = flags.FLAGS
    if values.submission_name is not None:
        print(_submission_name(values.submission_name))
    elif values.settings is not None:
        print(settings_flags(settings(values.settings, "settings")))
    else:
        print(_overview())


if __name__ == "__main__":
    # Defined here, not on import: scripts that import this module have their own flags.
    flags.DEFINE_string("settings", None, "Task whose settings are printed as flags.")
    flags.DEFINE_string("submission_name", None, "CLUE task, in lower case, whose submission "
                        "file's name is printed.")
    errors.run(main)
