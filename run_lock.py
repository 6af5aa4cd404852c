"""One run at a time in an output folder: the second is refused while the first lives."""

import errno
import fcntl
import os
import platform
import sys
import time

import files
from console import say
from errors import UserError

NAME = ".run.lock"


class RunLock(object):
    """Holds a folder for this process within a block.

    The lock is the operating system's and ends with the process, however that ends, so it is never
    stale. It acts between the processes of one machine, and of several where the file system shares
    locks (NFS mostly does). Remote folders, such as gs://, have none: there nothing is held.
    """

    def __init__(self, folder, is_owner=True):
        """Locks nothing yet.

        Args:
            is_owner: False for a worker that trains together with others: the folder is the
                chief's, who holds it for all.
        """
        self._folder, self._path = folder, os.path.join(folder, NAME)
        self._can_lock = is_owner and not files.is_remote(self._path)
        self._stream = None

    def __enter__(self):
        """Takes the lock if the folder is, or was, in use; else `take` does, once it is there.

        Raises:
            UserError: another run holds the folder; the message names it.
        """
        if self._can_lock and os.path.exists(self._path):
            self.take()
        return self

    def take(self):
        """Takes the lock, if it is not held already; the folder must be there.

        Raises:
            UserError: as for the beginning of the block.
        """
        if self._stream is not None or not self._can_lock:
            return
        stream = self._open_locked()
        while stream is not None and not self._is_in_place(stream):
            stream.close()  # it was the lock of a run that has just ended and removed it
            stream = self._open_locked()
        if stream is None:
            return
        self._stream = stream
        stream.truncate(0)
        stream.write(("process %d on %s since %s: %s" % (
            os.getpid(), platform.node(), time.strftime("%Y-%m-%d %H:%M:%S"),
            " ".join(sys.argv))).encode("utf-8", "replace"))
        stream.flush()

    def __exit__(self, *_):
        if self._stream is None:
            return
        try:
            os.remove(self._path)
        except OSError as error:
            # Gone with its folder, or not to be removed: unlocked, it stands in nobody's way.
            if error.errno not in (errno.ENOENT, errno.EROFS, errno.EACCES, errno.EPERM):
                raise
        finally:
            self._stream.close()
            self._stream = None

    def _open_locked(self):
        """Opens the file and locks it; None where the file system has no locks."""
        stream = open(self._path, "a+b")  # noqa: SIM115 - it stays open as long as the lock is held
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            who = stream.read().decode("utf-8", "replace") or "a process that has just begun"
            stream.close()
            raise UserError(
                "--output_dir=%s is in use by another run, %s. Wait until it ends, or choose "
                "another --output_dir" % (self._folder, who)) from error
        except OSError as error:
            stream.close()
            say("WARNING: %s has no locks (%s): start no second run in it while this one lasts"
                % (self._folder, error.strerror))
            return None
        return stream

    def _is_in_place(self, stream):
        try:
            return os.path.samestat(os.fstat(stream.fileno()), os.stat(self._path))
        except FileNotFoundError:
            return False
