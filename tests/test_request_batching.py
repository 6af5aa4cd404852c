"""The queue of the service: what is computed together, in which order, and what full means."""

import threading
import time

import pytest

import request_batching
from errors import UserError
from request_batching import Batcher, ClosedError, ItemError, QueueFullError, Settings

SETTINGS = Settings(max_batch=4, max_delay=0.0, max_queue=20, workers=1)


class Worker(object):
    """A function that notes what it is asked and waits until it may go on."""

    def __init__(self, wrong=()):
        self.batches, self.wrong = [], wrong
        self.begun, self.may_go = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, kind, items):
        self.begun.release()
        assert self.may_go.acquire(timeout=20)
        self.batches.append((kind, items))
        for item in items:
            if item in self.wrong:
                raise UserError("%s is wrong" % item)
        return [item.upper() for item in items]

    def go(self, batches=1):
        for _ in range(batches):
            self.may_go.release()


def make(worker, **changes):
    return Batcher(worker, SETTINGS._replace(**changes))


def occupied(worker, batcher):
    """Has the one thread work on an item, so that what comes now waits; returns its future."""
    future = batcher.submit("first", ["x"])
    assert worker.begun.acquire(timeout=20)
    return future


def test_a_request_gets_its_values_in_order():
    worker = Worker()
    worker.go(9)
    batcher = make(worker)
    answer = batcher.submit("up", ["abc", "d", "efghi", "jk", "l", "m"]).result(20)
    assert answer.values == ["ABC", "D", "EFGHI", "JK", "L", "M"]
    assert answer.waited >= 0 and answer.computed > 0
    batcher.close()


def test_those_that_wait_are_computed_together():
    worker = Worker()
    batcher = make(worker)
    occupied(worker, batcher)
    futures = [batcher.submit("up", [item]) for item in "abc"]
    assert batcher.waiting == 3
    worker.go(2)
    assert [future.result(20).values for future in futures] == [["A"], ["B"], ["C"]]
    assert [sorted(items) for _, items in worker.batches] == [["x"], ["a", "b", "c"]]
    assert batcher.waiting == 0
    batcher.close()


def test_kinds_are_not_mixed_and_the_oldest_comes_first():
    worker = Worker()
    batcher = make(worker)
    occupied(worker, batcher)
    futures = [batcher.submit(kind, [item]) for kind, item in [
        ("one", "a"), ("two", "b"), ("one", "c")]]
    worker.go(3)
    assert [future.result(20).values for future in futures] == [["A"], ["B"], ["C"]]
    assert [(kind, sorted(items)) for kind, items in worker.batches[1:]] == [
        ("one", ["a", "c"]), ("two", ["b"])]
    batcher.close()


def test_a_batch_has_items_of_like_length_the_oldest_among_them():
    worker = Worker()
    batcher = make(worker, max_batch=3)
    occupied(worker, batcher)
    lengths = [30, 2, 31, 3, 33, 1]
    futures = [batcher.submit("up", ["a" * length]) for length in lengths]
    worker.go(3)
    for future in futures:
        future.result(20)
    assert [sorted(map(len, items)) for _, items in worker.batches[1:]] == [
        [30, 31, 33], [1, 2, 3]]
    batcher.close()


def test_a_long_list_does_not_keep_others_waiting():
    worker = Worker()
    batcher = make(worker)
    occupied(worker, batcher)
    long = batcher.submit("up", ["long"] * 16)
    short = batcher.submit("up", ["late"])
    worker.go(2)
    assert short.result(20).values == ["LATE"] and not long.done()
    worker.go(9)
    assert long.result(20).values == ["LONG"] * 16
    batcher.close()


def test_a_batch_waits_for_company():
    worker = Worker()
    worker.go(9)
    batcher = make(worker, max_delay=60.0, max_batch=2)
    first = batcher.submit("up", ["a"])
    time.sleep(0.05)
    assert not first.done()
    second = batcher.submit("up", ["b"])
    assert first.result(20).values + second.result(20).values == ["A", "B"]
    assert len(worker.batches) == 1
    batcher.close()


def test_idle_threads_share_what_waits():
    worker, together = Worker(), threading.Barrier(2, timeout=20)

    def compute(_, items):
        together.wait()  # two threads are in here at the same time, or this fails
        return items

    batcher = Batcher(compute, SETTINGS._replace(workers=2, max_batch=16, max_delay=0.2))
    time.sleep(0.05)
    assert batcher.submit("up", list("abcdefghijkl")).result(20).values == list("abcdefghijkl")
    assert not worker.batches
    batcher.close()


def test_a_full_queue_takes_no_more_until_there_is_room():
    worker = Worker()
    batcher = make(worker, max_queue=3)
    occupied(worker, batcher)
    first = batcher.submit("up", ["a", "b"])
    with pytest.raises(QueueFullError):
        batcher.submit("up", ["c", "d"])
    batcher.submit("up", ["e"])
    assert first.cancel()  # whoever gives up makes room
    last = batcher.submit("up", ["f", "g"])
    worker.go(9)
    assert last.result(20).values == ["F", "G"]
    assert "a" not in [item for _, items in worker.batches for item in items]
    batcher.close()


def test_a_wrong_item_is_told_to_the_one_who_sent_it():
    worker = Worker(wrong=["c"])
    batcher = make(worker)
    occupied(worker, batcher)
    good, bad = batcher.submit("up", ["a"]), batcher.submit("up", ["b", "c"])
    worker.go(9)
    assert good.result(20).values == ["A"]
    with pytest.raises(ItemError, match="item 1: c is wrong"):
        bad.result(20)
    assert batcher.submit("up", ["d"]).result(20).values == ["D"]
    batcher.close()


@pytest.mark.parametrize("fault", [MemoryError("no room"), ValueError("odd")])
def test_a_failing_batch_fails_its_requests_and_no_others(fault):
    def compute(_, items):
        if "bad" in items:
            raise fault
        return items

    batcher = Batcher(compute, SETTINGS)
    with pytest.raises(type(fault), match=str(fault)):
        batcher.submit("up", ["bad"] * 9).result(20)  # several batches: the rest is dropped
    assert batcher.submit("up", ["good"]).result(20).values == ["good"]
    batcher.close()
    assert batcher.waiting == 0


def test_too_few_values_are_a_failure_too():
    batcher = Batcher(lambda _, items: items[1:], SETTINGS)
    with pytest.raises(RuntimeError, match="1 values for 2 items"):
        batcher.submit("up", ["a", "b"]).result(20)
    batcher.close()


def test_closing_computes_what_was_taken():
    worker = Worker()
    batcher = make(worker, max_delay=60.0)
    future = batcher.submit("up", ["a"])
    closing = threading.Thread(target=batcher.close)
    closing.start()
    worker.go()
    assert future.result(20).values == ["A"]
    closing.join(20)
    assert not closing.is_alive()
    with pytest.raises(ClosedError):
        batcher.submit("up", ["b"])


def test_many_threads_get_their_own_answers():
    batcher = Batcher(lambda _, items: [item * 2 for item in items],
                      request_batching.Settings(8, 0.001, 10000, 3))
    wrong = []

    def client(number):
        for turn in range(50):
            items = ["%d-%d-%d" % (number, turn, item) for item in range(turn % 7 + 1)]
            if batcher.submit(turn % 2, items).result(20).values != [item * 2 for item in items]:
                wrong.append(items)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and batcher.waiting == 0
    batcher.close()
