"""Jobs on several processes."""

import collections
import concurrent.futures
import concurrent.futures.process
import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading

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
