"""Jobs on several processes, and the folder of an unfinished run that only one run may use."""

import collections
import concurrent.futures
import concurrent.futures.process
import contextlib
import ctypes
import fcntl
import gc
import multiprocessing
import os
import signal
import sys
import threading

import files
from errors import UserError


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # options of glibc's mallopt


def count_processors():
    """Returns how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_memory_steady():
    """Has this process, and those it forks, give the memory of large arrays back at once (glibc).

    Left alone, glibc keeps more and more of what is freed, the longer a process works.
    """
    set_option = _of_glibc("mallopt")
    if set_option:
        for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            set_option(option, 1 << 20)


def _of_glibc(name):
    """Returns a function of the system's C library, None where it has no such function."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def _call_and_tidy(function, job):
    """Returns function(job); what memory that took goes back to the system before the next job."""
    result = function(job)
    trim = _of_glibc("malloc_trim")
    if trim:
        trim(0)
    return result


def run_jobs(function, jobs, num_workers, start_method=None):
    """Yields (job, function(job)) of each job as they are done, from so many processes.

    Few jobs are under way at any time. Close the generator to stop the workers. What `function`
    needs for all jobs is best loaded before: forked workers share it.

    Args:
        function: can be pickled: of a module, or functools.partial of one.
        jobs: iterable.
        num_workers: processes; with 1 everything happens in this one, in order.
        start_method: "fork" or "spawn"; None: what is safe here.

    Raises:
        UserError: a worker was killed.
    """
    if num_workers == 1:
        for job in jobs:
            yield job, function(job)
        return
    # Forked workers share what is loaded here, page by page, until they write to it; the garbage
    # collector writes to every object it looks at.
    gc.freeze()
    context = multiprocessing.get_context(start_method or _default_start_method())
    reading_end, writing_end = context.Pipe(duplex=False)
    pool = concurrent.futures.ProcessPoolExecutor(
        num_workers, mp_context=context, initializer=_start_worker,
        initargs=(reading_end, writing_end))
    try:
        for done in _as_done(pool, function, jobs, num_workers):
            yield done
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError("a worker process was killed, perhaps for lack of memory. Try "
                        "--num_workers=%d; what was finished is kept" % max(1, num_workers // 2)
                        ) from error
    except BaseException:
        writing_end.close()  # the workers end at once, in the middle of their jobs
        raise
    finally:
        pool.shutdown()
        writing_end.close()
        reading_end.close()
        gc.unfreeze()


def _as_done(pool, function, jobs, num_workers):
    under_way = collections.OrderedDict()
    for job in jobs:
        under_way[pool.submit(_call_and_tidy, function, job)] = job
        if len(under_way) > 2 * num_workers:
            for done in _wait_for_one(under_way):
                yield done
    while under_way:
        for done in _wait_for_one(under_way):
            yield done


def _wait_for_one(under_way):
    """Waits until a job is done; yields (job, result) of all that are, and forgets them."""
    done, _ = concurrent.futures.wait(
        under_way, return_when=concurrent.futures.FIRST_COMPLETED)
    for future in done:
        yield under_way.pop(future), future.result()


def _default_start_method():
    # Elsewhere than on Linux, forking a process that has loaded system libraries is not safe.
    return "fork" if sys.platform.startswith("linux") else "spawn"


def _start_worker(reading_end, writing_end):
    """Prepares a worker: Ctrl-C is the parent's business, and without the parent it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):  # the parent tells of both
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, signal.SIG_DFL)
    writing_end.close()
    threading.Thread(target=_end_with_parent, args=(reading_end,), daemon=True).start()


def _end_with_parent(reading_end):
    """Waits until the parent closes its end of the pipe, by its death if need be."""
    try:
        reading_end.recv()
    except (EOFError, OSError):
        os._exit(1)


# ---------------------------------------------------------------------------------------------
# The folder of an unfinished run
# ---------------------------------------------------------------------------------------------

PLAN = "plan.json"


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


def resume(folder, plan, start_anew):
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


def require_shard_size(megabytes):
    """Raises UserError for --shard_megabytes too small to hold anything; 0: not given."""
    if 0.0 < megabytes < 0.001:
        raise UserError("--shard_megabytes=%s is less than a kilobyte" % megabytes)


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


def fingerprints(paths):
    """Returns what tells whether input files are still the same: [[path, size, modified], ...].

    `modified` is None for files that are not local.
    """
    return [[path, files.size(path),
             None if files.is_remote(path) else int(os.stat(path).st_mtime)] for path in paths]
