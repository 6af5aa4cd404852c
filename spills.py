"""Records on disk, sorted by a random key: a shuffle of any size in bounded memory.

Every record comes with a random key, and its place in the output is that of its key among all
keys, so the order is a uniform shuffle of all records wherever they were made: a record may travel
from anywhere to anywhere. Records are written as they are made, in runs that fit in memory, each
sorted by key, into one spill file for each piece of the corpus. Buckets are equal ranges of keys;
a bucket is read from all runs and sorted in memory.
"""

import collections
import json
import os
import struct

import files
import numpy as np
from errors import UserError

KEY_BITS = 53              # as many as a random double has
BUCKET_BYTES = 8 << 20     # a bucket holds about so much
MOST_BUCKETS = 4096
RUN_BYTES = 2 << 20        # a run, too; of large data more, so that there are not too many
MOST_RUN_BYTES = 32 << 20
RUNS = 2500

_RECORD = struct.Struct("<QI")    # key, length
_TRAILER = struct.Struct("<QQQ")  # runs, buckets, bytes of the notes

Spill = collections.namedtuple("Spill", ["path", "offsets", "counts", "notes"])
Spill.__doc__ = """A finished spill file.

offsets: int64 [runs, buckets + 1], where each bucket starts in the file, and where the last ends;
counts: int64 [buckets], its records; notes: dict, what `write` was given."""


def count_buckets(expected_bytes):
    """Returns how many buckets to use for about so many bytes of records."""
    return max(1, min(MOST_BUCKETS, int(expected_bytes // BUCKET_BYTES) + 1))


def run_bytes(expected_bytes):
    """Returns how much a run holds, of about so many bytes of records."""
    return int(min(max(expected_bytes // RUNS, RUN_BYTES), MOST_RUN_BYTES))


def write(path, batches, buckets, run_size, notes=None):
    """Writes a spill file, which appears only when complete.

    Args:
        path: of the file.
        batches: iterable of lists of (key, record): an int from 0 to below 2 ** KEY_BITS, bytes.
        buckets: number of buckets; run_size: bytes of a run.
        notes: dict that JSON can hold, which stands in the file too; as it is after the last batch.
    """
    with files.atomic_write(path) as stream:
        offsets, counts = [], np.zeros(buckets, np.int64)
        held, size = [], 0
        for batch in batches:
            held.extend(batch)
            size += sum(len(record) for _, record in batch)
            if size >= run_size:
                offsets.append(_write_run(stream, held, buckets, counts))
                held, size = [], 0
        if held:
            offsets.append(_write_run(stream, held, buckets, counts))
        table = np.array(offsets, np.int64).reshape([len(offsets), buckets + 1])
        stream.write(table.astype("<i8").tobytes())
        stream.write(counts.astype("<i8").tobytes())
        said = json.dumps(notes or {}).encode("utf-8")
        stream.write(said + _TRAILER.pack(len(offsets), buckets, len(said)))


def _write_run(stream, held, buckets, counts):
    """Writes records sorted by key; returns the offsets of the buckets, adds to their counts."""
    held.sort(key=lambda pair: pair[0])
    bucket_of = np.array([key * buckets >> KEY_BITS for key, _ in held], np.int64)
    counts += np.bincount(bucket_of, minlength=buckets)
    sizes = np.array([_RECORD.size + len(record) for _, record in held], np.int64)
    ends = np.append(0, np.cumsum(sizes)) + stream.tell()
    for key, record in held:
        stream.write(_RECORD.pack(key, len(record)))
        stream.write(record)
    return ends[np.searchsorted(bucket_of, np.arange(buckets + 1))]


def read_index(path):
    """Returns the Spill of a finished file."""
    with open(path, "rb") as stream:
        end = max(os.path.getsize(path) - _TRAILER.size, 0)
        stream.seek(end)
        trailer = stream.read()
        runs, buckets, said = _TRAILER.unpack(trailer) if len(trailer) == _TRAILER.size else (
            0, 0, 1 << 62)
        size = 8 * (runs * (buckets + 1) + buckets)
        if size + said > end or said < 2:
            raise UserError("%s is damaged: remove it and start again" % path)
        stream.seek(end - size - said)
        table = np.frombuffer(stream.read(size), "<i8").astype(np.int64)
        notes = json.loads(stream.read(said).decode("utf-8"))
    return Spill(path, table[:runs * (buckets + 1)].reshape([runs, buckets + 1]),
                 table[runs * (buckets + 1):], notes)


def read_bucket(spills, bucket):
    """Returns the records of a bucket in the order of their keys, a list of bytes."""
    found = []
    for spill in spills:
        with open(spill.path, "rb") as stream:
            for run in spill.offsets:
                stream.seek(run[bucket])
                found.extend(_records_in(stream.read(int(run[bucket + 1] - run[bucket]))))
    # Equal keys are as good as impossible; then the records themselves decide.
    found.sort()
    return [record for _, record in found]


def _records_in(data):
    """Yields the (key, record) of a part of a spill file."""
    place = 0
    while place < len(data):
        key, length = _RECORD.unpack_from(data, place)
        place += _RECORD.size
        yield key, data[place:place + length]
        place += length


def read_range(spills, counts, start, end):
    """Yields the records from number `start` to `end` of the whole order.

    Args:
        spills: list of Spill, all of them; counts: int64 [buckets], records of each in all spills.
    """
    first = np.append(0, np.cumsum(counts))
    for bucket in range(len(counts)):
        low, high = max(start, first[bucket]), min(end, first[bucket + 1])
        if low < high:
            for record in read_bucket(spills, bucket)[low - first[bucket]:high - first[bucket]]:
                yield record
