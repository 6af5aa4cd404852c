"""Faults that are tried on the project, and the one table of what came of them.

A fault is a function in a module `faults_*.py` of this folder. It tries something bad a number of
times, and returns how often it tried and how often nothing was lost:

    @table.fault("no such file, reader")
    def missing_file(trial):
        held = 0
        for number in range(trial.times(20, short=4)):
            done = trial.run("similarity.py", "--file1=%s/%d" % (trial.folder, number))
            held += trial.held(done.status == 1, "ended with %d: %s" % (done.status, done.err))
        return 20, held
"""

import collections
import os
import random
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

Fault = collections.namedtuple("Fault", ["name", "function", "in_short", "seconds"])
Fault.__doc__ = """One row of the table.

function: takes a Trial, returns (times tried, times nothing was lost); in_short: whether --short
tries it too; seconds: what it takes, about, so that the long ones are begun first."""

Done = collections.namedtuple("Done", ["status", "out", "err"])
Done.__doc__ = "How a process ended: exit status (-9: killed by signal 9) and what it said."

FAULTS = []


class Skip(Exception):  # noqa: N818 - it is no error
    """Raised by a fault that cannot be tried on this machine; the message says why."""


def fault(name, in_short=True, seconds=10):
    """Decorator that makes a function a row of the table; see Fault."""
    def register(function):
        FAULTS.append(Fault(name, function, in_short, seconds))
        return function

    return register


class Trial(object):
    """What a fault works with.

    Attributes:
        folder: an empty folder of its own, removed in the end.
        random: random.Random, the same for the same seed and fault.
        is_short: whether few tries are wanted.
        losses: list of str, what was lost.
    """

    SECONDS_AT_MOST = 120  # of one process; what takes longer hangs

    def __init__(self, folder, seed, is_short):
        self.folder, self.is_short, self.losses = folder, is_short, []
        self._processes = 0
        self.random = random.Random("%s %s" % (seed, os.path.basename(folder)))

    def times(self, full, short):
        """Returns how many times to try: in full, or with --short."""
        return short if self.is_short else full

    def held(self, condition, otherwise):
        """Returns whether a condition holds as 0 or 1, and notes what to tell where it does not."""
        if not condition:
            self.losses.append(otherwise)
        return int(bool(condition))

    def start(self, script, *arguments, **settings):
        """Starts a script of the project in a process group of its own; see `finish`.

        Args:
            script: its name, relative to the project's folder, or an absolute path.
            settings: cwd; prefix, a list of words before the command; and further variables of the
                environment.

        Returns:
            subprocess.Popen; `finish` reads its output.
        """
        # Not pipes, which would hold up a process that says much.
        self._processes += 1
        said = ["%s.%d.%s" % (self.folder, self._processes, name) for name in ("out", "err")]
        with open(said[0], "ab") as out, open(said[1], "ab") as err:
            process = subprocess.Popen(
                settings.pop("prefix", []) + [sys.executable, os.path.join(ROOT, script)]
                + [str(one) for one in arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=settings.pop("cwd", None),
                env=dict(os.environ, PYTHONIOENCODING="utf-8", **settings),
                start_new_session=True)
        process.said = said
        return process

    def wait_for(self, process, condition, seconds=60):
        """Waits until a condition holds or the process has ended; returns whether it holds.

        Args:
            condition: function of what the process has said on standard error so far.
        """
        end = time.time() + seconds
        while time.time() < end:
            if condition(_read(process.said[1])):
                return True
            if process.poll() is not None:
                return condition(_read(process.said[1]))
            time.sleep(0.01)
        return False

    def finish(self, process):
        """Waits for a process of `start`; returns Done. One that hangs is killed, status -9."""
        try:
            process.wait(self.SECONDS_AT_MOST)
        except subprocess.TimeoutExpired:
            self.losses.append("%s hung" % " ".join(process.args[1:]))
            kill(process)
        done = Done(process.returncode, *[_read(path) for path in process.said])
        for path in process.said:
            os.remove(path)
        return done

    def run(self, script, *arguments, **settings):
        """Runs a script of the project to its end; returns Done."""
        return self.finish(self.start(script, *arguments, **settings))

    def kill_after(self, seconds, script, *arguments, **settings):
        """Runs a script and kills it, and all that it started, after so long; returns Done.

        The status is not -9 where it had come to its end before.
        """
        process = self.start(script, *arguments, **settings)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            kill(process)
        return self.finish(process)


def kill(process):
    """Kills a process of Trial.start and all that it started, and waits for its end."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has just ended
    process.wait()


def _read(path):
    with open(path, "rb") as stream:
        return stream.read().decode("utf-8", "replace")


def is_one_message(done, *fragments):
    """Whether a process ended with status 1 and one message that holds all fragments."""
    lines = [line for line in done.err.split("\n") if line.startswith("ERROR: ")]
    return (done.status == 1 and len(lines) == 1 and not has_traceback(done)
            and all(fragment in done.err for fragment in fragments))


def has_traceback(done):
    return any(sign in done.err for sign in (
        "Traceback", "Original stack trace", 'File "', "Exception ignored", "Segmentation"))
