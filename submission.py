"""Packs the CLUE predictions into the zip that the CLUE site takes, every file checked before.

python submission.py --data_dir=CLUEdataset --output_file=clue_submission.zip \
    --predictions='*_output/*_predict.json'

The name of a prediction file tells its task and the test file (tnews11_predict.json: tnews,
c310_predict.json: c3, test1.0.json); what it holds is checked against the test file. Gives one zip
without folders and one line per task on screen.
"""

import collections
import io
import json
import os
import zipfile

from absl import flags

import console
import entities
import errors
import files
import reading_comprehension
import tasks
from errors import UserError


# The tasks of a submission that have scripts of their own; tasks.clue_names() has the others.
OTHERS = collections.OrderedDict([
    ("cmrc2018", reading_comprehension.ReadingTask("cmrc2018")),
    ("cluener", entities.EntityTask("cluener"))])


def known_files():
    """Returns {file name: tasks.Task} of all submissions, in the order of the tasks' table."""
    found = collections.OrderedDict()
    for name in tasks.clue_names():
        for file_name in tasks.get(name).submission_names():
            found[file_name] = tasks.get(name).for_submission(file_name)
    for task in OTHERS.values():
        found[task.submission_name] = task
    return found


def recognise(path):
    """Returns the Task whose submission file has the name of `path`.

    Raises:
        UserError: no task's submission is called so; the message lists the names there are.
    """
    wanted = known_files()
    name = os.path.basename(path)
    if name not in wanted:
        raise UserError("--predictions: %s is not the name of a CLUE submission file.%s Known are: "
                        "%s" % (path, errors.nearest(name, wanted), ", ".join(sorted(wanted))))
    return wanted[name]


def check(paths, data_dir):
    """Checks prediction files against the test files under `data_dir`.

    Args:
        paths: list of prediction files, named as the CLUE site wants them.
        data_dir: folder with a folder per task (or, for a single task, that task's folder).

    Returns:
        list of (Task, path, number of predictions), in the order of `known_files`.

    Raises:
        UserError: a file is not a task's, two are the same task's, or one does not fit its test
            file.
    """
    by_name = {}
    for path in paths:
        task, name = recognise(path), os.path.basename(path)
        if name in by_name:
            raise UserError("--predictions: %s and %s are both predictions of task %s; give one"
                            % (by_name[name], path, task.name))
        by_name[name] = path
    checked = []
    for name, task in known_files().items():
        if name in by_name:
            examples = task.read(_task_folder(task, data_dir), "test")
            task.check_submission(examples, by_name[name])
            _warn_of_one_answer(by_name[name])
            checked.append((task, by_name[name], len(examples)))
    return checked


def _warn_of_one_answer(path):
    if os.path.basename(path) in _OBJECTS:
        answers = list(files.read_json(path).values())
    else:
        answers = [row["label"] for _, row in files.read_json_lines(path)]
    different = {json.dumps(answer, ensure_ascii=False) for answer in answers}
    if len(different) == 1:
        console.say('WARNING: %s: every prediction is %s: has the model learnt anything?'
                    % (path, different.pop()))


# The files that hold one object; the others hold one a line.
_OBJECTS = (reading_comprehension.SUBMISSION_NAME,) + tasks.get("chid").submission_names()


def pack(paths, output_file):
    """Packs files into one zip without folders, which is read back before it takes its place.

    The zip depends on the files' names and contents only, so packing twice gives equal bytes.

    Raises:
        UserError: the zip does not read back as it was written.
    """
    contents = {os.path.basename(path): _read(path) for path in paths}
    with files.atomic_path(output_file) as temporary:
        with files.open_binary(temporary, "wb") as stream:
            stream.write(_zip(contents))
        _check_zip(temporary, contents, output_file)


def _task_folder(task, data_dir):
    """Returns `data_dir`'s folder of a task; `data_dir` itself may be the folder of one task."""
    inside = [os.path.join(data_dir, name) for name in (task.name,) + task.aliases]
    inside = [folder for folder in inside if files.is_dir(folder)]
    return inside[0] if len(inside) == 1 else task.folder(data_dir)


def _read(path):
    with files.open_binary(path) as stream:
        return stream.read()


def names_in(path):
    """Returns the set of the names in a zip; an empty one where there is none, or no zip."""
    if not files.exists(path):
        return set()
    try:
        with zipfile.ZipFile(io.BytesIO(_read(path))) as archive:
            return set(archive.namelist())
    except zipfile.BadZipFile:  # it is about to be replaced
        return set()


def _zip(contents):
    """Returns the bytes of a zip of {name: bytes}, sorted, with fixed times and modes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix on every system
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, contents[name])
    return buffer.getvalue()


def _check_zip(path, contents, output_file):
    try:
        with zipfile.ZipFile(io.BytesIO(_read(path))) as archive:
            found = {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise UserError("--output_file=%s did not read back as a zip (%s); is the disk full?"
                        % (output_file, error)) from error
    if found != contents:
        raise UserError("--output_file=%s did not read back as written; is the disk full?"
                        % output_file)


def main(_):
    settings = flags.FLAGS
    if not settings.data_dir:
        raise UserError("--data_dir is missing: name the folder that holds the tasks' folders, "
                        "for example --data_dir=CLUEdataset")
    if not settings.output_file:
        raise UserError("--output_file is missing: name a zip file")
    if files.is_dir(settings.output_file):
        raise UserError("--output_file=%s is a folder: name a zip file" % settings.output_file)
    paths = files.expand(settings.predictions, "predictions")
    checked = check(paths, settings.data_dir)
    files.make_dir(os.path.dirname(settings.output_file) or ".", "output_file")
    pack([path for _, path, _ in checked], settings.output_file)
    print(console.table(["task", "file", "predictions"],
                        [[task.name, os.path.basename(path), count]
                         for task, path, count in checked]))
    packed = {task.name for task, _, _ in checked}
    absent = [name for name in collections.OrderedDict.fromkeys(
        task.name for task in known_files().values()) if name not in packed]
    console.say("%s is written, checked and read back%s" % (
        settings.output_file, "; tasks not in it: " + ", ".join(absent) if absent else ""))


def _define_flags():
    flags.DEFINE_string("data_dir", None, "Folder with a folder of data per task.")
    flags.DEFINE_string("output_file", "clue_submission.zip", "The zip to write.")
    flags.DEFINE_string("predictions", "", "Comma list of prediction files; globs are welcome.")


if __name__ == "__main__":
    _define_flags()
    errors.run(main)
