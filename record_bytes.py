"""Pre-training records as bytes, made of arrays without TensorFlow and without a loop per number.

The bytes of a record are those that `records.encode` makes with protobuf (tested): a
tf.train.Example with the keys in their alphabetical order, lists packed. A TFRecord file frames
each record with its length and two checksums:

    uint64 length, uint32 checksum of the length, bytes, uint32 checksum of the bytes

(tensorflow/core/lib/io/record_writer.h; checksums are CRC-32C, rotated and shifted).
"""

import functools
import gzip
import struct

import files
import numpy as np
from errors import UserError

INT64, FLOAT = "int64", "float32"


# ---------------------------------------------------------------------------------------------
# Numbers to bytes: many records at once
# ---------------------------------------------------------------------------------------------

class Column(object):
    """One field of many records, encoded: `column[i]` are the bytes of record i's numbers."""

    def __init__(self, data, offsets):
        """data: bytes of all records; offsets: where each starts, and where the last one ends."""
        self._data, self._offsets = data, offsets

    def __getitem__(self, number):
        return self._data[self._offsets[number]:self._offsets[number + 1]]


def whole_numbers(values, offsets):
    """Returns the Column of whole numbers, as varints.

    Args:
        values: integer array [N], numbers from 0 to below 2 ** 28.
        offsets: int array [records + 1], which of them belong to a record.
    """
    values = np.asarray(values, np.uint32)
    sizes = np.ones(len(values), np.int64)
    for bits in (7, 14, 21):
        sizes += values >= (1 << bits)
    places = np.append(0, np.cumsum(sizes))
    data = np.empty(places[-1], np.uint8)
    data[places[:-1]] = (values & 127) | ((sizes > 1) << 7)
    for index in (1, 2, 3):
        longer = np.flatnonzero(sizes > index)
        data[places[longer] + index] = (
            ((values[longer] >> (7 * index)) & 127) | ((sizes[longer] > index + 1) << 7))
    return Column(data.tobytes(), places[np.asarray(offsets)].tolist())


class Repeated(object):
    """A field whose numbers are first zeros, then one value: masks, segments, weights."""

    def __init__(self, zeros, others, zero, other):
        """zeros, others: lists, how many numbers each record has; zero, other: their bytes."""
        self._zeros, self._others, self._zero, self._other = zeros, others, zero, other

    def __getitem__(self, number):
        return self._zero * self._zeros[number] + self._other * self._others[number]


def ones(counts):
    """Returns the column of records that hold so many ones each."""
    return Repeated([0] * len(counts), counts, b"", b"\x01")


def zeros_then_ones(zeros, others):
    """Returns the column of records that hold so many zeros and then so many ones each."""
    return Repeated(zeros, others, b"\x00", b"\x01")


def weights(counts):
    """Returns the column of records that hold so many floats 1.0 each."""
    return Repeated([0] * len(counts), counts, b"", struct.pack("<f", 1.0))


# ---------------------------------------------------------------------------------------------
# Bytes to records
# ---------------------------------------------------------------------------------------------

def encode(columns, kinds, count):
    """Returns the serialised tf.train.Examples of many records.

    Args:
        columns: {key: what gives the bytes of record i's numbers as column[i]}.
        kinds: {key: INT64 or FLOAT}.
        count: number of records.
    """
    keys = sorted(columns)
    found = []
    for number in range(count):
        parts, size = [], 0
        for key in keys:
            numbers = columns[key][number]
            head = _head(key, kinds[key], len(numbers))
            parts += (head, numbers)
            size += len(head) + len(numbers)
        found.append(b"\x0a" + _varint(size) + b"".join(parts))
    return found


@functools.lru_cache(maxsize=1 << 10)
def _head(key, kind, size):
    """Returns what stands before the bytes of a feature's numbers, of which there are `size`.

    Features.feature (1) of {key (1), value (2): Feature with int64_list (3) or float_list (2) of
    value (1), packed}; an empty list has no value at all.
    """
    numbers = b"\x0a" + _varint(size) if size else b""
    in_list = len(numbers) + size
    a_list = (b"\x1a" if kind == INT64 else b"\x12") + _varint(in_list)
    in_feature = len(a_list) + in_list
    name = key.encode("ascii")
    entry = b"\x0a" + _varint(len(name)) + name + b"\x12" + _varint(in_feature)
    return b"\x0a" + _varint(len(entry) + in_feature) + entry + a_list + numbers


@functools.lru_cache(maxsize=1 << 10)
def _varint(number):
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------

@functools.lru_cache(maxsize=None)
def _checksum():
    """Returns the function from bytes to their CRC-32C."""
    try:
        import google_crc32c
    except ImportError as error:
        raise UserError("writing records needs the package google-crc32c: "
                        "pip install google-crc32c") from error
    return google_crc32c.value


def framed(record):
    """Returns a record as it stands in a TFRecord file."""
    length = struct.pack("<Q", len(record))
    return b"".join([length, _masked_checksum(length), record, _masked_checksum(record)])


def _masked_checksum(data):
    value = _checksum()(data)
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xa282ead8) & 0xffffffff)


def write(path, serialized_records):
    """Writes records to `path`, which appears only when complete; .gz compresses.

    Returns:
        their number.
    """
    count = 0
    with files.atomic_write(path) as stream:
        # Without a time in it, the same records are the same bytes.
        target = (gzip.GzipFile("", "wb", 6, stream, 0) if path.endswith(".gz") else stream)
        for record in serialized_records:
            target.write(framed(record))
            count += 1
        if target is not stream:
            target.close()
    return count
