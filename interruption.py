"""Ctrl-C, SIGTERM and a closed terminal: training saves a checkpoint first, all else ends at once.

Either way the run says in one sentence how to go on, and its exit status is the shells' 130, 143 or
129. Under nohup a closed terminal means nothing.
"""

import contextlib
import os
import signal
import stat
import sys
import threading

from console import say

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


def end(number, sentence):
    """Ends the program because of a signal: raises SystemExit with the status that shells expect.

    Args:
        number: the signal's; sentence: what is said.
    """
    _leave_terminal(number)
    sys.stdout.flush()
    say("ERROR: " + sentence)
    sys.exit(128 + number)


def _leave_terminal(number):
    """After SIGHUP the terminal is gone: a word to it would be an error amid the tidying up."""
    if number != signal.SIGHUP:
        return
    for output in (1, 2):
        with contextlib.suppress(OSError):  # it may be closed
            if stat.S_ISCHR(os.fstat(output).st_mode):
                os.dup2(os.open(os.devnull, os.O_WRONLY), output)


def _is_unheard(number):
    """Whether the process was started with SIGHUP ignored, as nohup does; that stays so."""
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN


@contextlib.contextmanager
def terminable():
    """Within the block, SIGTERM and SIGHUP end the run as Ctrl-C does: work is tidied up.

    It is Python's own thread that signals interrupt; in another one the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _end_at_once)
              for number in (signal.SIGTERM, signal.SIGHUP) if not _is_unheard(number)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deferred():
    """Within the block, or a function that this decorates, signals wait for its end.

    For work of seconds in libraries that call Python from C, where what a signal raises is lost or
    becomes another error (matplotlib reading fonts). Signals that are ignored stay so. In other
    than the main thread the block changes nothing.
    """
    came, before = [], {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, lambda number, frame: came.append(number))
                  for number in NAMES if callable(signal.getsignal(number))}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came[:1]:
            os.kill(os.getpid(), number)


def _end_at_once(number, frame):
    del frame
    # A second one does not wait for tidying up. Of a closed terminal shell and kernel both tell.
    signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else signal.SIG_DFL)
    end(number, "ended by %s; give the same command again to go on" % NAMES[number])


class Watch(object):
    """Notes the first signal within its block, for training to end after the step under way.

    A second signal ends the process at once. Signals are read by a thread: Python's own handlers
    would wait until TensorFlow's step, of minutes perhaps, is over. In other than the main thread
    the block changes nothing.

    Attributes:
        number: the signal that came first, or None.
    """

    def __init__(self):
        self.number = None
        self._before, self._pipe, self._thread = {}, None, None

    def __enter__(self):
        if threading.current_thread() is not threading.main_thread():
            return self
        reading, writing = self._pipe = os.pipe()
        os.set_blocking(writing, False)
        self._fd_before = signal.set_wakeup_fd(writing)
        for number in NAMES:  # the wakeup needs a handler, which itself has nothing to do
            if not _is_unheard(number):
                self._before[number] = signal.signal(number, lambda *_: None)
        self._thread = threading.Thread(target=self._read, args=(reading,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        if self._thread is None:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        os.close(self._pipe[1])  # which ends the thread
        self._thread.join()
        os.close(self._pipe[0])

    def _read(self, reading):
        while True:
            came = os.read(reading, 1)
            if not came:
                return
            number = came[0]
            if number not in NAMES:
                continue
            _leave_terminal(number)
            if self.number is not None and number == signal.SIGHUP:
                continue  # shell and kernel both tell of it
            if self.number is not None:
                say("ERROR: ended at once by a second %s; give the same command again to go on "
                    "from the last checkpoint" % NAMES[number])
                os._exit(128 + number)
            self.number = number
            say("%s: saving a checkpoint after this step, then ending; once more ends at once"
                % NAMES[number])
