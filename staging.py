"""The files that a script makes of a corpus: their names, the folder where an unfinished run keeps
them, and the way into place.

What an interrupted run has finished is gone on with, by the same command; nothing is where the user
looks for it before all is finished, and nothing of somebody else's is replaced or removed.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import tempfile

import console
import files
from errors import UserError

PLAN = "plan.json"  # in the folder: what the results depend on
DONE = "done.json"  # and, once all is finished, what belongs where


# ---------------------------------------------------------------------------------------------
# Names
# ---------------------------------------------------------------------------------------------

def require_file_name(output_file, example):
    """Raises UserError where --output_file is a folder; `example` is a file that may lie in it."""
    if files.is_dir(output_file) or not os.path.basename(output_file):
        raise UserError("--output_file=%s is a folder: name a file in it, such as %s"
                        % (output_file, os.path.join(output_file, example)))


def require_output(stem, ending, output_file):
    """Raises UserError where stem + ending, made of --output_file, is no name for a file."""
    if not os.path.basename(stem):
        raise UserError("--output_file=%s has no name before %s" % (output_file, ending))
    if files.is_dir(stem + ending):
        raise UserError("the output would be %s%s, and that is a folder: give another "
                        "--output_file" % (stem, ending))


def require_shards(num_shards, shard_megabytes):
    """Raises UserError for flags that do not tell the number of shards."""
    if shard_megabytes and num_shards > 1:
        raise UserError("--shard_megabytes and the number of shards are two ways to say the same: "
                        "give one of them")
    if 0.0 < shard_megabytes < 0.001:
        raise UserError("--shard_megabytes=%s is less than a kilobyte" % shard_megabytes)


def require_no_input(inputs, outputs):
    """Raises UserError where one of the paths `outputs` is one of the inputs."""
    taken = set(map(files.place_of, outputs))
    for path in inputs:
        if files.place_of(path) in taken:
            raise UserError("--output_file would overwrite the input %s: choose another name"
                            % path)


def shard_names(stem, ending, count):
    """Returns the paths of so many shards: shard_names("x", ".txt", 1) == ["x.txt"]."""
    if count == 1:
        return [stem + ending]
    return ["%s-%05d-of-%05d%s" % (stem, index, count, ending) for index in range(count)]


def find_shards(stem, ending, others=()):
    """Returns the files there are under a stem: x.txt, x.txt.gz, x-00000-of-00004.txt.

    Args:
        ending: of names, before that of a packed file.
        others: what names may have in place of a shard's number.
    """
    folder, base = os.path.split(stem)
    if not files.is_dir(folder or "."):
        return []
    between = "|".join([files.SHARD_NUMBER] + [re.escape(other) for other in others])
    pattern = re.compile(r"%s(%s)?%s(\.gz)?" % (re.escape(base), between, re.escape(ending)))
    return [os.path.join(folder, name) for name in files.list_dir(folder or ".")
            if pattern.fullmatch(name)]


def older_report(path, made_by):
    """Returns [path] for a JSON report that a script wrote before, [] where there is no file.

    Args:
        made_by: name of the script, which its reports hold.

    Raises:
        UserError: the file is another one.
    """
    if not files.exists(path):
        return []
    try:
        content = files.read_json(path)
    except UserError:
        content = None
    if not isinstance(content, dict) or content.get("made_by") != made_by:
        raise UserError("%s, where the report would go, is a file of another kind: choose another "
                        "--output_file" % path)
    return [path]


def refuse_older(older, report, targets, overwrite):
    """Refuses files of an earlier run, unless they are to go, and files of somebody else.

    The latter would be taken for a part of the output, or removed as those of an earlier run.

    Args:
        older: paths that look like a run's output.
        report: path of the report of the earlier run, which lists what that made.
        targets: those of the paths that the output is named by; who overwrites means them.

    Raises:
        UserError: names them.
    """
    listed = files.read_json(report)["outputs"] if files.exists(report) else ()
    known = {os.path.basename(path) for path in listed}
    strangers = [path for path in older
                 if path not in targets and path != report and os.path.basename(path) not in known]
    if strangers:
        raise UserError("%s would be taken for a part of the output, and %s lists no such file: "
                        "move away what is yours, or choose another --output_file" % (
                            _name_some(strangers),
                            report if files.exists(report) else "no report (%s)" % report))
    if older and not overwrite:
        raise UserError("%s of an earlier run %s there: give --overwrite=True to replace %s, or "
                        "another --output_file" % (
                            _name_some(older), *(("is", "it") if len(older) == 1
                                                 else ("are", "them"))))


def _name_some(paths):
    more = " and %d more" % (len(paths) - 3) if len(paths) > 3 else ""
    return ", ".join(paths[:3]) + more


# ---------------------------------------------------------------------------------------------
# The folder of an unfinished run
# ---------------------------------------------------------------------------------------------

def work_folder(stem, script, name):
    """Returns the folder of an unfinished run: beside the output, or local for a remote one.

    Args:
        stem: of the output; script: whose run it is; name: the output's, as a hidden folder has it.
    """
    if files.is_remote(stem):
        digest = hashlib.sha256(stem.encode("utf-8")).hexdigest()[:16]
        return os.path.join(tempfile.gettempdir(), "%s-%s" % (script, digest))
    return os.path.join(os.path.dirname(stem), ".%s.unfinished" % name)


@contextlib.contextmanager
def locked(folder, flag):
    """Makes a folder for an unfinished run and holds it for this process until the block ends.

    The lock is the operating system's: it ends with the process, however that ends.

    Raises:
        UserError: another run holds it; names the flag.
    """
    files.make_dir(folder, flag)
    with open(os.path.join(folder, "lock"), "ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError("another run is writing to the same --%s (it holds %s): wait until it "
                            "ends, or choose another name" % (flag, folder)) from error
        yield folder


def is_done(folder):
    """Tells whether all is finished in the folder, and only the way into place is left."""
    return files.exists(os.path.join(folder, DONE))


def has_finished(folder, first):
    """Tells whether a job is finished in the folder, so that a file's name begins with `first`."""
    return any(name.startswith(first) for name in files.list_dir(folder))


def finish(folder, plan, first, overwrite, make_all):
    """Has all files made in a folder, or what an unfinished run left to make.

    Args:
        folder: of `locked`.
        plan: JSON-like dict of all that the results depend on.
        first: how the names of the files begin that a finished job leaves.
        overwrite: forget an unfinished run with another plan.
        make_all: function without arguments that makes what is missing, and last DONE.

    Returns:
        what DONE holds.

    Raises:
        UserError: an unfinished run has another plan; names what differs.
    """
    if _resume(folder, plan, overwrite or not has_finished(folder, first)):
        remove_unfinished_files(folder)
        if has_finished(folder, first):
            console.say("going on with the unfinished run in %s" % folder)
    try:
        if not is_done(folder):
            make_all()
    except UserError:
        if not has_finished(folder, first):
            remove(folder)
        raise
    return files.read_json(os.path.join(folder, DONE))


def _resume(folder, plan, start_anew):
    """Tells whether the unfinished run in a folder has this plan; writes the plan if not.

    Args:
        folder: of `locked`.
        plan: JSON-like dict of all that the results depend on.
        start_anew: forget an unfinished run with another plan.

    Returns:
        whether what lies in the folder can be used. If not, the folder is empty but for the plan.

    Raises:
        UserError: the plans differ; names what.
    """
    path = os.path.join(folder, PLAN)
    found = files.read_json(path) if files.exists(path) else None
    if found == plan:
        return True
    if found is not None and not start_anew:
        different = sorted(name for name in set(plan) | set(found)
                           if plan.get(name) != found.get(name))
        raise UserError(
            "an unfinished run with another %s lies in %s: give the same settings and input to "
            "finish it, or --overwrite=True to start anew" % (", ".join(different), folder))
    empty(folder)
    files.write_json(path, plan)
    return False


def empty(folder):
    """Removes what an unfinished run left in its folder, but for the lock."""
    for name in files.list_dir(folder):
        if name != "lock":
            os.remove(os.path.join(folder, name))


def remove_unfinished_files(folder):
    """Removes the files that a killed process was writing; see files.atomic_path."""
    for name in files.list_dir(folder):
        if name.startswith(files.TEMPORARY):
            os.remove(os.path.join(folder, name))


def remove(folder):
    """Removes the folder of a run that is finished."""
    empty(folder)
    os.remove(os.path.join(folder, "lock"))
    os.rmdir(folder)


def fingerprints(paths):
    """Returns what tells whether input files are still the same: [[path, size, modified], ...].

    `modified` is None for files that are not local.
    """
    return [[path, files.size(path),
             None if files.is_remote(path) else int(os.stat(path).st_mtime)] for path in paths]


def put_into_place(folder, places, older):
    """Moves finished files to where they belong; removes the rest of an earlier run.

    Args:
        places: [(name in the folder, path)]; what was moved before is no longer in the folder.
        older: paths of the earlier run.
    """
    for name, path in places:
        staged = os.path.join(folder, name)
        if files.exists(staged) and files.is_remote(path):
            files.copy(staged, path)
            os.remove(staged)
        elif files.exists(staged):
            files.move(staged, path)
    targets = [path for _, path in places]
    for path in older:
        if path not in targets and files.exists(path):
            console.say("removing %s of the earlier run (--overwrite)" % path)
            files.remove(path)
