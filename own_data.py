"""Your own data as a task without code: `sentence` (one text) and `sentence_pair` (two texts).

A folder with train, dev and test as .tsv, .csv or .json is all it takes: columns are found by
their names or named by flags, labels are those that train and dev hold. `resolve` turns a script's
flags into the task, whether registered in tasks.py or of one's own. Needs no TensorFlow.
"""

import collections
import csv
import itertools
import json
import math
import os
import re
import sys

import errors
import files
import tasks
from console import say
from errors import UserError

NAMES = tasks.OWN_DATA

# .txt is read as .tsv, .jsonl as .json.
SUFFIXES = (".tsv", ".csv", ".json", ".jsonl", ".txt")

Columns = collections.namedtuple("Columns", ["texts", "label"])
Columns.__doc__ = """The columns that are read, by name; by position from 1 where a file names none.

texts: tuple of strings, in the order of the texts.
label: string, or None where a test file has no labels."""

_Sheet = collections.namedtuple("_Sheet", ["path", "names", "has_names", "places", "first"])
_Sheet.__doc__ = """A file's columns.

names: list of strings, the places where the file names none.
has_names: whether the file names them, in line 1 or as JSON does.
places: list of their positions as strings, "1", "2", ...; None for JSON, which has no order.
first: list of what to show of each column, the names or the first row."""

_ID_NAMES = ("id", "idx", "index", "qid", "guid", "序号", "编号", "", "unnamed: 0")
_TEXT_NAME = re.compile("(%s)[ _]?([12ab]?)" % "|".join(tasks.TEXT_NAMES), re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
_LONGEST_NAME = 40    # characters of a column's name, when it is guessed what line 1 is
_LONGEST_LABEL = 30   # characters of a label, when it is guessed which column holds it
_ROWS_LOOKED_AT = 10000


# ---------------------------------------------------------------------------------------------
# From flags to a task
# ---------------------------------------------------------------------------------------------

def names():
    """Returns the names of all tasks: the registered ones and those of one's own data."""
    return tasks.names() + list(NAMES)


def resolve(values, labels_file=None):
    """Returns the task that a script's flags name.

    Args:
        values: {flag: value} with task_name, data_dir, text_columns and label_column.
        labels_file: labels.txt beside a trained checkpoint, whose labels hold when one's own data
            is predicted or trained on further; None: the labels are inferred from the data.

    Returns:
        tasks.Task; one's own data comes as OwnTask.

    Raises:
        UserError: there is no such task, a flag has no meaning for it, or as `task` says.
    """
    name = (values["task_name"] or "").strip().lower()
    if name in NAMES:
        return task(name, values["data_dir"], values.get("text_columns"),
                    values.get("label_column"), labels_file and read_labels(labels_file))
    registered = tasks.get(values["task_name"])
    for flag in ("text_columns", "label_column"):
        if values.get(flag):
            raise UserError("--%s=%s has no meaning for task %s, whose columns are known; it is "
                            "for --task_name=%s" % (flag, values[flag], registered.name,
                                                    " and ".join(NAMES)))
    return registered


def task(name, data_dir, text_columns=None, label_column=None, labels=None):
    """Returns one's own data as a task, with labels read from train and dev unless they are given.

    Args:
        name: "sentence" or "sentence_pair".
        data_dir: folder with train, dev and test, of which only those needed must be there.
        text_columns: names or positions from 1, comma-separated, in the order of the texts;
            None or "": they are found.
        label_column: name or position; None or "": it is found.
        labels: the labels of a trained checkpoint in their order, or None.

    Raises:
        UserError: a flag is at fault, or the labels cannot be inferred: train is absent, a row is
            at fault, it cannot be told which column is which, or the label column cannot be one.
    """
    kind = OwnPairTask if name == "sentence_pair" else OwnTask
    own = kind(name, data_dir, text_columns, label_column, labels or ())
    if not labels:
        own.infer_labels()
    return own


def read_labels(path):
    """Returns the labels of a labels.txt, in class index order.

    Raises:
        UserError: the file is not as training writes it.
    """
    labels = tuple(line for _, line in files.read_lines(path))
    if len(labels) < 2 or len(set(labels)) < len(labels) or not all(
            label and label == label.strip() for label in labels):
        raise UserError("%s is damaged: a label a line is expected, each of them once; put back "
                        "the file that training wrote" % path)
    return labels


# ---------------------------------------------------------------------------------------------
# The task
# ---------------------------------------------------------------------------------------------

class OwnTask(tasks.Task):
    """One's own data: files in a few formats, columns found or chosen, labels from the data.

    Attributes beside those of tasks.Task, known once a file was read:
        text_columns: string, the columns read as texts ("title,body"; "2,3" where none has names).
        label_column: string, the column of the label; None where only unlabelled rows were read.
    """

    def __init__(self, name, data_dir, text_columns, label_column, labels):
        super(OwnTask, self).__init__(name, labels, tasks.OWN_SETTINGS)
        self._count = 2 if name == "sentence_pair" else 1
        self._data_dir = data_dir
        self.file_names = {split: tuple(split + suffix for suffix in SUFFIXES)
                           + self._old_names(split) for split in tasks.SPLITS}
        self._flags = Columns(_items(text_columns), (label_column or "").strip() or None)
        self._check_flags()
        self._sheet = None  # _Sheet of the first file read; the others have the same columns
        self._kept = {}     # {(folder, split): examples} that the labels were inferred from

    def _check_flags(self):
        texts, label = self._flags
        given = "--text_columns=%s" % ",".join(texts)
        if texts and len(texts) != self._count:
            raise UserError("%s names %s where task %s reads %d (%s)" % (
                given, _columns(len(texts)), self.name, self._count,
                "--task_name=sentence_pair reads 2" if self._count == 1
                else "--task_name=sentence reads 1"))
        if not all(texts) or len(set(texts)) < len(texts) or label in texts:
            raise UserError("%s --label_column=%s: every column must be another one"
                            % (given, label or ""))

    # ---- files

    @staticmethod
    def _old_names(split):
        return ()

    def find(self, data_dir, split):
        """Returns the path of a split's file, or None; UserError where two would do."""
        folder = self.folder(data_dir)
        paths = self._files_of(folder, split)
        if len(paths) > 1:
            raise UserError("%s are both there: keep the one that --task_name=%s is to read"
                            % (" and ".join(paths), self.name))
        if paths or any(self._files_of(folder, other) for other in tasks.SPLITS):
            return paths[0] if paths else None
        old = [os.path.join(folder, name) for name in self._old_names(split)]
        return next((path for path in old if files.exists(path)), None)

    @staticmethod
    def _files_of(folder, split):
        paths = [os.path.join(folder, split + suffix) for suffix in SUFFIXES]
        return [path for path in paths if files.exists(path)]

    def path(self, data_dir, split):
        """Returns the path of a split's file; UserError tells the names that would do."""
        path = self.find(data_dir, split)
        if path is None:
            names = [split + suffix for suffix in SUFFIXES[:3]]
            raise UserError("%s holds no %s or %s: --data_dir must name the folder with the files "
                            "of task %s; %s" % (self.folder(data_dir), ", ".join(names[:-1]),
                                                names[-1], self.name, _ABSENT[split]))
        return path

    def remedy(self):
        return ("train, dev and test of your own data belong there, each as .tsv, .csv or .json "
                "with a column for %s" % ("the text" if self._count == 1 else "each text"))

    # ---- labels

    def infer_labels(self):
        """Reads train, and dev where it is there, and takes over the labels that they hold."""
        folder = self.folder(self._data_dir)
        found = collections.OrderedDict()
        for split in ("train", "dev"):
            if split == "train" or self.find(folder, split):
                examples = super(OwnTask, self).read(folder, split)
                self._kept[folder, split] = examples
                found[split] = collections.Counter(example.label for example in examples)
        counts = sum(found.values(), collections.Counter())
        where = "%s, %s" % (self.path(folder, "train"), _title(self.label_column))
        _check_labels(where, counts)
        self._check_first_row(where, self._kept[folder, "train"][0].label, found["train"])
        new = [label for label in found.get("dev", ()) if label not in found["train"]]
        if new and len(new) == len(found["dev"]):
            raise UserError("%s, %s holds no label of train: train has %s, dev %s; are its columns "
                            "the same?" % (
                                self.path(folder, "dev"), _title(self.label_column),
                                _some(found["train"]), _some(found["dev"])))
        if new:
            say("WARNING: %s: labels that stand in dev only cannot be learnt: %s"
                % (where, _some(new)))
        self.labels = tuple(sorted(counts, key=_label_order))

    def _check_first_row(self, where, first, counts):
        """Asks whether line 1 is a header, where it was read as an example with an odd label."""
        others = [label for label in counts if label != first]
        odd = counts[first] == 1 and not self._sheet.has_names and len(others) > 1 and (
            all(counts[label] > 1 for label in others)
            or not _NUMBER.fullmatch(first) and all(map(_NUMBER.fullmatch, others)))
        if not odd:
            return
        doubt = ('%s: line 1 is read as an example, but its label, "%s", occurs nowhere else; if '
                 "it is a header, give --text_columns and --label_column by name" % (where, first))
        if not any(self._flags):
            raise UserError(doubt + ", else by position")
        say("WARNING: " + doubt)

    def _label(self, row, split):
        if self.labels:
            return super(OwnTask, self)._label(row, split)
        value = row.values.get(self._label_field)
        label = "" if value is None else tasks.label_text(value)
        if (not label or isinstance(value, (list, dict)) or "\n" in label or "\r" in label
                or isinstance(value, float) and not math.isfinite(value)):
            row.fail("%s must hold a label, a number or words on one line; here it holds %s" % (
                _title(self._label_field), json.dumps(value, ensure_ascii=False)[:80]))
        # One string for all rows of a label: there may be millions of rows.
        return sys.intern(row.checked_text(self._label_field, label))

    # ---- rows

    def read(self, data_dir, split):
        """Returns the examples of a split, as tasks.Task.read does; no file is parsed twice."""
        kept = self._kept.get((self.folder(data_dir), split))
        return super(OwnTask, self).read(data_dir, split) if kept is None else list(kept)

    def rows(self, path, split):
        is_json = path.endswith((".json", ".jsonl"))
        return self._json_rows(path, split) if is_json else self._table_rows(path, split)

    def _json_rows(self, path, split):
        """Yields (line, dict of column to value) of a JSON file."""
        rows = iter(read_json_rows(path))
        first = next(rows, None)
        if first is None:
            return
        names = list(first[1])
        if self._unsettled(split):
            self._settle(_Sheet(path, names, True, None, names), (), split)
        elif not self._sheet.has_names:
            raise UserError("%s names its columns and %s does not: give that file a header, or "
                            "both the same format" % (path, self._sheet.path))
        for line, values in itertools.chain([first], rows):
            yield line, values

    def _table_rows(self, path, split):
        """Yields (line, dict of column to string) of a .tsv or .csv file."""
        rows = list(read_table(path))
        if not rows:
            return
        cells = [cell.strip() for cell in rows[0][1]]
        if self._unsettled(split):
            has_header = self._flags_name_columns() or reads_as_header(rows)
            places = self._places(path, len(cells), split)
            names = cells if has_header else places
            self._settle(_Sheet(path, names, has_header, places, cells),
                         () if has_header else rows, split)
        elif self._sheet.has_names:
            has_header, names = True, self._same_names(path, cells)
        else:
            has_header, names = reads_as_header(rows), self._same_positions(path, cells, split)
            if has_header:
                say("%s: line 1 reads as a header and is passed over: %s"
                    % (path, ", ".join(cells)))
        for line, values in rows[1:] if has_header else rows:
            yield line, dict(zip(names, values))

    def _unsettled(self, split):
        """Tells whether it is still to be decided which columns are read."""
        return self._sheet is None or (self.label_column is None and split != "test")

    def _flags_name_columns(self):
        return any(column and not _is_position(column)
                   for column in self._flags.texts + (self._flags.label,))

    def _flags_for(self, path, split):
        """Returns the Columns that flags give, or that a file of the old names always has."""
        old = os.path.basename(path) in self._old_names(split)
        return OLD_COLUMNS if old and not any(self._flags) else self._flags

    def _places(self, path, width, split):
        """Returns the positions, "1", "2", ..., that a file's columns stand for."""
        places = [str(number) for number in range(1, width + 1)]
        texts, label = self._flags_for(path, split)
        given = texts + (label,) if texts and label else ("",)
        if split == "test" and all(map(_is_position, given)) and max(map(int, given)) == width + 1:
            # One column less than the flags count on: the label's, which test may lack.
            places.append(str(width + 1))
            places.remove(str(int(label)))
        return places

    def _settle(self, sheet, rows, split):
        """Decides which columns are read, from the first file that shows them."""
        columns = _Choice(sheet, rows, self._flags_for(sheet.path, split), self._count, split,
                          self.labels).columns()
        say("%s: %s from %s; %s" % (
            sheet.path, "text" if self._count == 1 else "texts",
            " and ".join(_title(name) for name in columns.texts),
            "no label" if columns.label is None else "label from " + _title(columns.label)))
        self._sheet = sheet
        self._fields, self._label_field = columns
        self.text_columns, self.label_column = ",".join(columns.texts), columns.label

    def _same_names(self, path, cells):
        """Returns the names in line 1 of a file whose sister has a header; UserError without."""
        for name in self._fields:
            if cells.count(name) != 1:
                raise UserError("%s line 1 must be a header with %s, as in %s; it holds: %s" % (
                    path, _title(name), self._sheet.path, _numbered(cells)))
        return cells

    def _same_positions(self, path, cells, split):
        """Returns the columns of a file whose sister has no header; test may lack the label's."""
        names = list(self._sheet.names)
        if split == "test" and len(cells) == len(names) - 1 and self.label_column:
            names.remove(self.label_column)
            say("%s has a column less than %s: it is taken to have no labels"
                % (path, self._sheet.path))
        if len(cells) != len(names):
            raise UserError("%s has %s where %s has %d; line 1 holds: %s" % (
                path, _columns(len(cells)), self._sheet.path, len(names), _numbered(cells)))
        return names


class OwnPairTask(OwnTask):
    """Two texts a row; also reads the files that this task was first known by."""

    @staticmethod
    def _old_names(split):
        return ("%s_0827.tsv" % split,)


# label, text_a, text_b, without a header
OLD_COLUMNS = Columns(("2", "3"), "1")

_ABSENT = {
    "train": "the labels of your own data are read from it, and training reads it",
    "dev": "--do_eval needs it: move some rows there, about one of ten, from train",
    "test": "--do_predict needs it: the texts to predict, with or without labels",
}


def _check_labels(where, counts):
    """Raises UserError unless {label: rows} can be the classes of a task."""
    rows = sum(counts.values())
    if len(counts) < 2:
        raise UserError('%s: all labels are "%s", and it takes two or more to tell apart; is it '
                        "the right --label_column?" % (where, next(iter(counts))))
    if rows >= 20 and len(counts) > rows / 2:
        raise UserError("%s: %d different labels in %d rows are nothing to learn from; name the "
                        "right --label_column. They begin with: %s" % (
                            where, len(counts), rows,
                            ", ".join(_clipped(label) for label in sorted(counts)[:5])))


def _some(labels):
    return ", ".join(_clipped(label) for label in sorted(labels, key=_label_order)[:20])


def _label_order(label):
    """Sorts numbers by value, before all other labels: "-1", "2", "10", "a"."""
    if _NUMBER.fullmatch(label):
        return 0, float(label), label
    return 1, 0.0, label


# ---------------------------------------------------------------------------------------------
# Which column is which
# ---------------------------------------------------------------------------------------------

class _Choice(object):
    """Finds the columns to read: as the flags say, else by known names, else by what they hold."""

    def __init__(self, sheet, rows, flags, count, split, labels):
        """Takes a file and what is known.

        Args:
            sheet: _Sheet.
            rows: list of (line, cells) of a file without names, to judge columns by.
            flags: Columns as the flags give them.
            count: 1 or 2 texts.
            split: test may go without labels.
            labels: the known labels, or ().
        """
        self._sheet, self._rows, self._flags = sheet, rows, flags
        self._count, self._is_test, self._labels = count, split == "test", frozenset(labels)

    def columns(self):
        """Returns Columns; UserError where it cannot be told which is which."""
        texts = [self._named(column, "text_columns") for column in self._flags.texts]
        if self._flags.label:
            label = self._named(self._flags.label, "label_column")
        elif self._sheet.has_names:
            label = self._label_by_name(texts)
        else:
            label = self._label_by_content(texts)
        if not texts:
            texts = (self._texts_by_name(label) if self._sheet.has_names
                     else [name for name in self._sheet.names if name != label])
        if len(texts) != self._count or (label is None and not self._is_test):
            self._fail()
        chosen = texts + ([] if label is None else [label])
        for name in chosen:
            if chosen.count(name) > 1:
                raise UserError("%s: --text_columns and --label_column both name %s"
                                % (self._sheet.path, _title(name)))
            if self._sheet.names.count(name) > 1:
                raise UserError('%s: two columns are called "%s": rename one'
                                % (self._sheet.path, name))
        return Columns(tuple(texts), label)

    def _named(self, column, flag):
        """Returns the name of the column that a flag gives by name or position.

        Test rows may go without the label: its name comes back though no column has it, or None
        where only its position is known.
        """
        sheet, by_place = self._sheet, _is_position(column) and self._sheet.places is not None
        if by_place and column in sheet.places:
            return sheet.names[sheet.places.index(column)]
        alike = [name for name in sheet.names if name.lower() == column.lower()]
        if not by_place and (column in sheet.names or len(alike) == 1):
            return column if column in sheet.names else alike[0]
        if self._is_test and flag == "label_column":
            return None if by_place else column
        raise UserError("--%s=%s: %s has no such column.%s It has: %s%s" % (
            flag, column, sheet.path, errors.nearest(column, sheet.names), self._shown(),
            "; without a header, give positions from 1" if sheet.places and not by_place else "")
            + self._other_separator())

    def _label_by_name(self, texts):
        others = [name for name in self._sheet.names if name not in texts]
        known = [name for name in others if name.lower() in tasks.LABEL_NAMES]
        if len(known) > 1:
            known = [name for name in known if name.lower() == "label"]
            if not known:
                self._fail()
        if not known and not self._is_test:
            known = [name for name in others if name.lower() not in _ID_NAMES
                     and (texts or not _TEXT_NAME.fullmatch(name))]
        return known[0] if len(known) == 1 else None

    def _texts_by_name(self, label):
        others = [name for name in self._sheet.names
                  if name != label and name.lower() not in _ID_NAMES]
        known = [name for name in others if _TEXT_NAME.fullmatch(name)]
        if len(known) == self._count:
            return sorted(known, key=_text_order)
        return others if len(others) == self._count else []

    def _label_by_content(self, texts):
        others = [name for name in self._sheet.names if name not in texts]
        if texts and len(others) == 1 and not self._is_test:
            return others[0]
        if not texts and len(others) != self._count + 1:
            return None  # in test just the texts, else too many or too few to tell
        likely = [name for name in others if self._may_be_label(name)]
        if len(likely) > 1:
            likely = [name for name in likely if all(map(_NUMBER.fullmatch, self._values(name)))]
        return likely[0] if len(likely) == 1 else None

    def _may_be_label(self, name):
        """Tells whether a column holds short texts of which few differ, or just known labels."""
        values = self._values(name)
        if self._labels:
            return values <= self._labels.union(tasks.NO_LABEL)
        return (2 <= len(values) <= max(2, len(self._rows) // 2)
                and max(map(len, values)) <= _LONGEST_LABEL)

    def _values(self, name):
        index = self._sheet.names.index(name)
        return {cells[index].strip() for _, cells in self._rows}

    def _shown(self):
        if self._sheet.places is None:
            return ", ".join(self._sheet.first)
        return _numbered(self._sheet.first)

    def _other_separator(self):
        """Returns what to do about a table that looks as if something else divided its columns."""
        if self._sheet.places is None or len(self._sheet.first) > 1:
            return ""
        is_csv = self._sheet.path.endswith((".csv", ".csv.gz"))
        ending, divides = (".csv", "commas") if is_csv else (".tsv", "tabs")
        for mark, found, remedy in (
                ("\t", "tabs", "save it so, or call it .tsv"), (";", "semicolons", "save it so"),
                (",", "commas", "save it so, or call it .csv")):
            if mark in self._sheet.first[0]:
                return ". It has one column, with %s in it: a %s has %s between its columns; %s" % (
                    found, ending, divides, remedy)
        return ""

    def _fail(self):
        wanted = "NAME" if self._count == 1 else "NAME,NAME"
        raise UserError("%s: it cannot be told which column is %s and which the label; give "
                        "--text_columns=%s and --label_column=NAME%s. There are: %s" % (
                            self._sheet.path, "the text" if self._count == 1 else "which text",
                            wanted, ", names or positions from 1" if self._sheet.places else "",
                            self._shown()) + self._other_separator())


def reads_as_header(rows):
    """Tells whether the first of the rows [(line, cells)] names the columns.

    At least one cell is, or has between underscores, a name that columns go by; none is a number
    or long; and no column holds its name again further down, as it does where that is a label.
    """
    names = [cell.strip() for cell in rows[0][1]]
    if any(_NUMBER.fullmatch(name) or len(name) > _LONGEST_NAME for name in names):
        return False
    parts = [part for name in names for part in [name] + name.split("_") if part]
    if not any(part.lower() in _ID_NAMES or tasks.COLUMN_NAME.fullmatch(part) for part in parts):
        return False
    return not any(name and cell.strip() == name
                   for _, cells in itertools.islice(rows, 1, _ROWS_LOOKED_AT)
                   for cell, name in zip(cells, names))


def _text_order(name):
    """Sorts the names of two texts: sentence1 before sentence2, query before title."""
    stem, suffix = _TEXT_NAME.fullmatch(name).groups()
    return tasks.TEXT_NAMES.index(stem.lower()), suffix.lower()


def _items(text):
    """Returns the parts of a comma list: _items("a, b") == ("a", "b")."""
    return tuple(part.strip() for part in text.split(",")) if (text or "").strip() else ()


def _is_position(column):
    """Tells whether a column is given by its place, from 1, and not by its name."""
    return re.fullmatch("[0-9]+", column) is not None


def _title(name):
    """Names a column in a message: 'column 2', 'column "title"'."""
    return "column " + (name if _is_position(name) else '"%s"' % name)


def _columns(count):
    return "1 column" if count == 1 else "%d columns" % count


def _numbered(cells, most=20):
    shown = ["%d: %s" % (number, _clipped(cell)) for number, cell in enumerate(cells[:most], 1)]
    return ", ".join(shown + ["..."] * (len(cells) > most))


def _clipped(text):
    return text if len(text) <= _LONGEST_NAME else text[:_LONGEST_NAME] + "..."


# ---------------------------------------------------------------------------------------------
# Formats
# ---------------------------------------------------------------------------------------------

def read_table(path):
    """Yields (line, list of strings) of a .csv file, or of one with tabs; all rows equally wide.

    Raises:
        UserError: a row has more or fewer columns than the first, a blank line stands between
            rows, or the text is not UTF-8 or no CSV; the message names file and line.
    """
    first = None
    for line, cells in _csv_lines(path) if path.endswith(".csv") else tasks.tsv_lines(path):
        first = first or (line, len(cells))
        if len(cells) != first[1]:
            raise UserError("%s line %d has %s, between %s, where line %d has %d" % (
                path, line, _columns(len(cells)),
                "commas" if path.endswith(".csv") else "tabs", *first))
        yield line, cells


def _csv_lines(path):
    """Yields (line where the row begins, cells) of a CSV file as RFC 4180 has it."""
    # A setting of the whole module; its default of 128 KiB refuses long documents.
    csv.field_size_limit(1 << 30)
    reader = csv.reader(_lines_without_nul(path), strict=True)
    blank = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                "%s line %d is no CSV (%s): a field with commas, quotes or line ends stands in "
                'double quotes, and a quote within it is written twice: "he said ""yes"", twice"'
                % (path, line, error)) from error
        if not cells:
            blank = blank or line
            continue
        if blank:
            raise UserError("%s line %d is blank, and rows follow it; remove it" % (path, blank))
        yield line, cells


def _lines_without_nul(path):
    for number, text in files.read_lines(path):
        if "\0" in text:  # which csv takes on some versions of Python and refuses on others
            raise UserError("%s line %d holds a NUL character: is it UTF-16? Convert it first, "
                            "for example: iconv -f UTF-16 -t UTF-8" % (path, number))
        yield text + "\n"


def read_json_rows(path):
    """Yields (line, dict) of a file with one JSON object a line, or with one array of objects.

    Raises:
        UserError: it is neither; the message names file and line.
    """
    first = next((text for _, text in files.read_lines(path) if text.strip()), "")
    return _json_array(path) if first.lstrip().startswith("[") else files.read_json_lines(path)


def _json_array(path):
    """Yields (line where it begins, dict) of the objects in an array."""
    text = "\n".join(line for _, line in files.read_lines(path))
    decoder, line, counted = json.JSONDecoder(), 1, 0
    position, separator = _skip_blanks(text, 0), "["
    while text[position:position + 1] == separator:
        position = _skip_blanks(text, position + 1)
        if separator == "[" and text[position:position + 1] == "]":
            break
        line, counted = line + text.count("\n", counted, position), position
        try:
            row, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise UserError("%s is not valid JSON: %s" % (path, error)) from error
        if not isinstance(row, dict):
            raise UserError("%s line %d holds %s where a JSON object is expected, with a name for "
                            "every column" % (path, line, type(row).__name__))
        yield line, row
        position, separator = _skip_blanks(text, position), ","
    if text[position:].strip() != "]":
        line += text.count("\n", counted, position)
        raise UserError("%s line %d is not valid JSON: %s where a comma or the array's end is "
                        "expected" % (path, line, json.dumps(text[position:position + 20],
                                                             ensure_ascii=False)))


def _skip_blanks(text, position):
    return _BLANKS.match(text, position).end()


_BLANKS = re.compile(r"[ \t\r\n]*")
