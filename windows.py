"""Long texts in overlapping windows: where they begin, and which of them knows a place best."""

import collections

import numpy as np

Window = collections.namedtuple("Window", ["text", "start", "end"])
Window.__doc__ = """A part of a text.

text: number of the text; start, end: its tokens, text[start:end]."""


def cut(length, size, stride):
    """Returns the (start, end) of the windows that cover a text, each `stride` after the last.

    Args:
        length: tokens of the text; size: tokens of a window, at most; stride: tokens from the
            start of one to that of the next; above `size` it counts as `size`, so that no token
            is passed over.

    cut(10, 6, 3) == [(0, 6), (3, 9), (6, 10)]
    """
    if size < 1 or stride < 1:
        raise ValueError("windows of %d tokens, %d apart" % (size, stride))
    starts = [0]
    while starts[-1] + size < length:
        starts.append(starts[-1] + min(stride, size))
    return [(start, min(start + size, length)) for start in starts]


def best_of(spans, length):
    """Tells for each token of a text which of its windows sees most around it.

    A token near the edge of a window is seen there without what comes before or after it. The best
    window is the one where the shorter side is longest, among equals the longer window, then the
    first.

    Args:
        spans: of `cut`; length: tokens of the text.

    Returns:
        int array [length]: numbers of windows.

    best_of([(0, 6), (3, 9), (6, 10)], 10).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2]
    """
    best, most = np.zeros(length, np.int64), np.full(length, -1.0)
    for number, (start, end) in enumerate(spans):
        places = np.arange(start, end)
        # The small share of the length decides among equals alone: sides are whole numbers.
        seen = np.minimum(places - start, end - 1 - places) + 1e-6 * (end - start)
        better = seen > most[start:end]
        best[start:end][better] = number
        most[start:end][better] = seen[better]
    return best


def sees_most(spans, number, firsts, lasts):
    """Tells of some stretches of a text whether a window sees more around them than the others do.

    Of every stretch that lies within some window, exactly one window sees most: where its shorter
    side is longest, among equals the first.

    Args:
        spans: of `cut`; number: of the window; firsts, lasts: int arrays of the stretches' first
            and last tokens, all within the window.

    Returns:
        bool array.
    """
    def shorter_side(window):
        start, end = spans[window]
        # Below 0 where the window does not hold the stretch.
        return np.minimum(firsts - start, end - 1 - lasts)

    # From one window to the next the left side shrinks and the right one grows, so that a window
    # that beats its neighbours beats all.
    here = shorter_side(number)
    most = np.ones(np.shape(here), bool)
    if number > 0:
        most &= here > shorter_side(number - 1)
    if number + 1 < len(spans):
        most &= here >= shorter_side(number + 1)
    return most
