"""Steps of a session called side by side until their input ends."""

import sys
import threading

import pytest

import estimators
import runtime
from errors import UserError

import tensorflow.compat.v1 as tf


class Input(object):
    """Steps that return 0, 1, ... up to `count` - 1, and then find no more input."""

    def __init__(self, count, together=1):
        """together: number of calls that must come at the same time, or they fail."""
        self._count, self.calls = count, 0
        self._lock, self._barrier = threading.Lock(), threading.Barrier(together)

    def step(self):
        self._barrier.wait(timeout=20)
        with self._lock:
            number = self.calls
            self.calls += 1
        if number >= self._count:
            raise tf.errors.OutOfRangeError(None, None, "end")
        return number


@pytest.mark.parametrize("side_by_side", [1, 2, 3])
def test_all_steps_until_the_end(side_by_side):
    source = Input(6, together=side_by_side)
    assert sorted(estimators.until_the_end(source.step, side_by_side)) == list(range(6))
    assert source.calls == 6 + side_by_side


@pytest.mark.parametrize("side_by_side, most", [(1, 4), (2, 4), (3, 1), (2, 0)])
def test_no_more_steps_than_wanted(side_by_side, most):
    source = Input(100)
    found = list(estimators.until_the_end(source.step, side_by_side, most))
    assert sorted(found) == list(range(most)) and source.calls == most


def test_other_failures_come_through():
    def step():
        raise UserError("broken")

    with pytest.raises(UserError, match="broken"):
        list(estimators.until_the_end(step, 2))


def test_who_stops_early_leaves_nothing_running():
    source, threads = Input(100), threading.active_count()
    steps = estimators.until_the_end(source.step, 1)
    assert next(steps) == 0 and threading.active_count() == threads + 1
    steps.close()
    assert threading.active_count() == threads


@pytest.mark.parametrize("decorate", [runtime.as_written, lambda input_fn: input_fn])
def test_input_functions_run_as_they_are_written(decorate):
    """Else TensorFlow runs a copy that it has rewritten, as without the decorator here."""
    places = []

    def of_a_record(record):
        places.append(sys._getframe().f_code.co_filename)
        return record

    def input_fn(params, input_context=None):
        return tf.data.Dataset.range(params["count"]).map(of_a_record)

    decorate(input_fn)({"count": 2})
    assert (places == [__file__]) == (decorate is runtime.as_written)
