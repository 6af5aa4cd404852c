"""Items of several requests, computed together: a bounded queue and the threads that empty it.

Knows neither the model nor the web: `compute` does the work.
"""

import bisect
import collections
import concurrent.futures
import itertools
import threading
import time

from errors import UserError

Settings = collections.namedtuple("Settings", [
    "max_batch", "max_delay", "max_queue", "workers"])
Settings.__doc__ = """How requests are put together.

max_batch: items computed together, at most.
max_delay: seconds that the first item of a batch waits for company, at most.
max_queue: items that may wait, of all requests together.
workers: batches computed at the same time."""

Answer = collections.namedtuple("Answer", ["values", "waited", "computed"])
Answer.__doc__ = """What a request gets.

values: list, one an item; waited, computed: seconds until its first item was taken, and from then
until the last one was ready."""

# Items of one request count as if they had come one after another, this many seconds apart, so that
# a long list does not keep those that come after it waiting.
SPACING = 0.002
# A batch is chosen by length from this many times as many items as it holds.
CHOICE = 2
# A batch costs as much as this many tokens of it, however small it is (benchmarks/serve.py).
BATCH_COSTS = 32
# Items that are not worth to be parted among idle threads.
WHOLE = 8


class QueueFullError(Exception):
    """There is no room for a request's items now."""


class ClosedError(Exception):
    """No request is taken any more."""


class ItemError(Exception):
    """An item of a request cannot be computed.

    index: its place in the request; reason: the UserError.
    """

    def __init__(self, index, reason):
        super(ItemError, self).__init__("item %d: %s" % (index, reason))
        self.index, self.reason = index, reason


class _Request(object):
    """A request's future and what is known of its answer so far."""

    def __init__(self, count):
        self.future = concurrent.futures.Future()
        self.values, self.missing, self.failed = [None] * count, count, False
        self.came, self.started = time.monotonic(), None

    @property
    def unwanted(self):
        """Whether nobody needs the rest of its items."""
        return self.failed or self.future.cancelled()


# due, number: what items are ordered by; number is unlike any other's.
_Item = collections.namedtuple("_Item", ["due", "number", "length", "request", "index", "value"])


def best_window(lengths, place, most):
    """Chooses what to compute together with one item so that little is padding.

    Args:
        lengths: of the items, ascending; place: of the one that must be among them; most: items.

    Returns:
        (begin, end): those for whom most of what is computed, a batch's fixed share included, is
        their own.

    best_window([9, 10, 10, 90, 95, 99], 4, most=6) == (3, 6)
    """
    best, chosen = 0.0, (place, place + 1)
    own_above = 0
    for end in range(place + 1, min(place + most, len(lengths)) + 1):
        longest = max(lengths[end - 1], 1)
        own_above += lengths[end - 1]
        own, begin = own_above, place
        while begin and end - begin < most:
            # Another one is worth its padding where its share exceeds that of those before.
            if lengths[begin - 1] * (BATCH_COSTS + (end - begin) * longest) <= own * longest:
                break
            begin -= 1
            own += lengths[begin]
        share = own / float(BATCH_COSTS + (end - begin) * longest)
        if share > best:
            best, chosen = share, (begin, end)
    return chosen


class Batcher(object):
    """Takes the items of requests and computes those of one kind together.

    Example:
        batcher = Batcher(lambda kind, items: [item.upper() for item in items], settings)
        batcher.submit("upper", ["a", "b"]).result().values == ["A", "B"]
    """

    def __init__(self, compute, settings, length=len, observe=None):
        """Starts the threads.

        Args:
            compute: function of (kind, list of items) to a sequence of as many values; several
                threads call it. A UserError concerns an item, any other exception the whole batch.
            settings: Settings.
            length: function of an item to about its number of tokens; items of like length are
                computed together.
            observe: function of (items of a batch, seconds that it took), called after each.
        """
        self._compute, self._settings = compute, settings
        self._length, self._observe = length, observe or (lambda *_: None)
        self._changed = threading.Condition()
        self._queues = {}  # kind to list of _Item, in order
        self._waiting, self._idle, self._closed = 0, 0, False
        self._numbers = itertools.count()
        self._threads = [threading.Thread(target=self._work, name="batch-%d" % number, daemon=True)
                         for number in range(settings.workers)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self):
        """Items in the queue."""
        return self._waiting

    def submit(self, kind, items):
        """Puts a request into the queue.

        Args:
            kind: hashable; only items of the same kind are computed together.
            items: list of at least one.

        Returns:
            concurrent.futures.Future of an Answer; ItemError or what `compute` raised. Items of a
            cancelled future are not computed, unless they are already.

        Raises:
            QueueFullError, ClosedError.
        """
        request = _Request(len(items))
        lengths = [self._length(item) for item in items]
        with self._changed:
            if self._closed:
                raise ClosedError()
            if self._waiting + len(items) > self._settings.max_queue:
                self._drop_unwanted()
                if self._waiting + len(items) > self._settings.max_queue:
                    raise QueueFullError()
            queue = self._queues.setdefault(kind, [])
            for index, (item, length) in enumerate(zip(items, lengths)):
                bisect.insort(queue, _Item(request.came + index * SPACING, next(self._numbers),
                                           length, request, index, item))
            self._waiting += len(items)
            self._changed.notify_all()
        return request.future

    def close(self):
        """Takes no more requests, computes those that were taken and ends the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # -----------------------------------------------------------------------------------------
    # The queue; all of this is called with the lock held
    # -----------------------------------------------------------------------------------------

    def _take(self):
        """Waits for a batch; returns (kind, items), or None when all is done."""
        self._idle += 1
        while True:
            kind = min(self._queues, key=lambda name: self._queues[name][0], default=None)
            if kind is None:
                if self._closed:
                    return None
                self._changed.wait()
                continue
            queue = self._queues[kind]
            left = queue[0].request.came + self._settings.max_delay - time.monotonic()
            if left > 0 and len(queue) < self._settings.max_batch and not self._closed:
                self._changed.wait(left)
                continue
            batch = self._choose(kind)
            if batch:
                self._idle -= 1
                return kind, batch

    def _choose(self, kind):
        """Takes items out of a queue: the first in order, and those that go well with it."""
        queue = self._queues[kind]
        share = max(-(-len(queue) // self._idle), WHOLE)
        near = sorted(queue[:CHOICE * self._settings.max_batch], key=lambda item: item.length)
        begin, end = best_window([item.length for item in near], near.index(queue[0]),
                                 min(share, self._settings.max_batch))
        taken = near[begin:end]
        self._remove(kind, {item.number for item in taken})
        now, batch = time.monotonic(), []
        for item in taken:
            if not item.request.unwanted:
                item.request.started = item.request.started or now
                batch.append(item)
        return batch

    def _remove(self, kind, numbers):
        """Takes the items of these numbers out of a queue; a queue that is empty goes."""
        left = [item for item in self._queues[kind] if item.number not in numbers]
        self._waiting -= len(self._queues[kind]) - len(left)
        if left:
            self._queues[kind] = left
        else:
            del self._queues[kind]

    def _drop_unwanted(self):
        for kind in list(self._queues):
            self._remove(kind, {item.number for item in self._queues[kind]
                                if item.request.unwanted})

    # -----------------------------------------------------------------------------------------
    # The threads
    # -----------------------------------------------------------------------------------------

    def _work(self):
        while True:
            with self._changed:
                taken = self._take()
            if taken is None:
                return
            kind, batch = taken
            started = time.monotonic()
            self._answer(kind, batch)
            self._observe(len(batch), time.monotonic() - started)

    def _answer(self, kind, batch):
        """Computes a batch and gives its requests what they wait for."""
        try:
            values = self._compute(kind, [item.value for item in batch])
            if len(values) != len(batch):
                raise RuntimeError("%d values for %d items" % (len(values), len(batch)))
        except UserError as error:
            if len(batch) == 1:
                self._fail(batch, ItemError(batch[0].index, error))
                return
            for item in batch:  # which one is it? the others shall have their values
                self._answer(kind, [item])
            return
        except Exception as error:  # noqa: BLE001 - goes to those who asked
            self._fail(batch, error)
            return
        complete = []
        with self._changed:
            for item, value in zip(batch, values):
                item.request.values[item.index] = value
                item.request.missing -= 1
                if not item.request.missing:
                    complete.append(item.request)
        now = time.monotonic()
        for request in complete:
            if request.future.set_running_or_notify_cancel():
                request.future.set_result(Answer(
                    request.values, request.started - request.came, now - request.started))

    def _fail(self, batch, error):
        """Ends the requests of a batch with an error; the rest of their items is not computed."""
        with self._changed:
            requests = {id(item.request): item.request for item in batch
                        if not item.request.failed}
            for request in requests.values():
                request.failed = True
        for request in requests.values():
            if request.future.set_running_or_notify_cancel():
                request.future.set_exception(error)
