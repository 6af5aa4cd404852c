"""What people see: messages and progress on standard error, result tables on standard output."""

import sys
import time
import unicodedata


def say(text):
    """Prints one message to standard error at once."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def duration(seconds):
    """Formats seconds: duration(3725) == '1:02:05', duration(65) == '1:05'."""
    seconds = int(round(seconds))
    hours, rest = divmod(seconds, 3600)
    if hours:
        return "%d:%02d:%02d" % (hours, rest // 60, rest % 60)
    return "%d:%02d" % (rest // 60, rest % 60)


class Progress(object):
    """Says every few seconds how far a job is, at which rate and how long it still takes.

    Example: `train  step 120/300  12.4 step/s  0:15 left  loss 8.31`
    """

    def __init__(self, label, total=None, unit="item", every_seconds=5.0, start=0):
        self._label, self._total, self._unit = label, total, unit
        self._every, self._start = every_seconds, start
        self._began = self._said = time.time()

    def update(self, done, extra=""):
        """Takes the number of items done so far; prints when it is time to."""
        now = time.time()
        finished = self._total is not None and done >= self._total
        if finished or now - self._said >= self._every:
            self._said = now
            say(self._line(done, now, extra))

    def _line(self, done, now, extra):
        rate = (done - self._start) / max(now - self._began, 1e-9)
        parts = [self._label]
        if self._total is None:
            parts.append("%s %s" % (self._unit, format(done, ",")))
        else:
            parts.append("%s %s/%s" % (self._unit, format(done, ","), format(self._total, ",")))
        if done > self._start:
            parts.append("%.3g %s/s" % (rate, self._unit) if rate < 100
                         else "%s %s/s" % (format(int(rate), ","), self._unit))
        if self._total is not None and rate > 0 and done < self._total:
            parts.append("%s left" % duration((self._total - done) / rate))
        if extra:
            parts.append(extra)
        return "  ".join(parts)


def width(text):
    """Columns a text takes on a terminal: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def table(header, rows):
    """Formats a table: first column left-aligned, the others right-aligned.

    >>> print(table(["task", "accuracy"], [["afqmc", "0.7"]]))
    task   accuracy
    -----  --------
    afqmc       0.7
    """
    cells = [[str(cell) for cell in row] for row in [header] + list(rows)]
    widths = [max(width(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for row in cells:
        padded = [cell + " " * (widths[i] - width(cell)) if i == 0
                  else " " * (widths[i] - width(cell)) + cell for i, cell in enumerate(row)]
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)
