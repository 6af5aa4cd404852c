"""Windows over long texts: nothing is passed over, and every token is judged where most is seen."""

import random

import numpy as np
import pytest

import windows


def test_windows_of_a_worked_example():
    assert windows.cut(10, 6, 3) == [(0, 6), (3, 9), (6, 10)]
    assert windows.cut(6, 6, 3) == [(0, 6)]
    assert windows.cut(7, 6, 9) == [(0, 6), (6, 7)]  # no farther apart than they are long
    assert windows.cut(0, 6, 3) == [(0, 0)]
    assert windows.best_of([(0, 6), (3, 9), (6, 10)], 10).tolist() == [
        0, 0, 0, 0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("size, stride", [(0, 1), (1, 0)])
def test_sizes_that_lead_nowhere_are_refused(size, stride):
    with pytest.raises(ValueError, match="windows of"):
        windows.cut(3, size, stride)


def test_random_windows_cover_all_and_the_best_sees_most():
    rng = random.Random(3)
    for _ in range(300):
        length, size, stride = rng.randrange(1, 60), rng.randrange(1, 20), rng.randrange(1, 25)
        spans = windows.cut(length, size, stride)
        assert sorted({place for start, end in spans for place in range(start, end)}) == list(
            range(length))
        assert all(0 < end - start <= size for start, end in spans)
        for place, best in enumerate(windows.best_of(spans, length)):
            seen = [min(place - start, end - 1 - place) if start <= place < end else -1
                    for start, end in spans]
            assert seen[best] == max(seen) >= 0


def test_of_each_stretch_one_window_sees_most():
    rng = random.Random(4)
    for _ in range(300):
        length, size, stride = rng.randrange(1, 40), rng.randrange(1, 20), rng.randrange(1, 25)
        spans = windows.cut(length, size, stride)
        stretches = [(first, last) for first in range(length) for last in range(first, length)
                     if any(start <= first and last < end for start, end in spans)]
        firsts, lasts = np.array(stretches).T
        found = np.array([windows.sees_most(spans, number, firsts, lasts) & (
            firsts >= start) & (lasts < end) for number, (start, end) in enumerate(spans)])
        assert (found.sum(axis=0) == 1).all()
        sides = np.array([np.minimum(firsts - start, end - 1 - lasts) for start, end in spans])
        np.testing.assert_array_equal(found.argmax(axis=0), sides.argmax(axis=0))
