"""Documents and lines that repeat, found in memory that does not grow with the corpus.

Texts are compared by digests of 8 bytes, which lie on disk in parts, in the order of the corpus.
The range of digests is divided into buckets; of one bucket after the other the digests of all
parts are read and sorted. By chance two different texts among n have the same digest with
probability n * n / 2 ** 65: 3e-6 for ten million.

Near duplicates are found by MinHash (package datasketch) over the sets of all SHINGLE characters in
a row: the share of equal numbers in two signatures estimates the share of common shingles, with a
standard deviation of 0.035 at 0.8. Only documents are compared whose signatures agree in all
numbers of a band (locality-sensitive hashing). Documents linked by chains of such pairs are one
group, whose first is kept; so the last of a chain may resemble the first less than the threshold.

A million documents take, while the search runs: 8 MB of digests, 9 MB for what was decided and, for
near duplicates, 512 MB of signatures and up to 220 MB of bands (at 0.8), all on disk. The memory of
a process stays below about 150 MB, beside what the system keeps of the 9 MB, which are mapped.
"""

import collections
import hashlib
import inspect

import files
import numpy as np
from errors import UserError

BUCKET_ITEMS = 1 << 19   # digests that a process sorts at a time, about
BLOCK_ITEMS = 4096       # signatures that it holds at a time
SHINGLE = 5
PERMUTATIONS = 128
LEAST_RECALL = 0.95      # of pairs exactly as similar as the threshold

# A document is compared with the first of those that share a band with it, if it does not
# resemble that one with the next that does not either, and so on, so many times at most.
MOST_LEADERS = 64

_CHARACTERS_AT_ONCE = 2048
_NUMBER = np.dtype("<i8")

Part = collections.namedtuple("Part", ["path", "first", "count"])
Part.__doc__ = """Some documents in a row.

path: how the names of its files start, which are path + DIGESTS and so on; first: number of its
first document in the corpus; count: of its documents.
"""
DIGESTS, SIGNATURES, BANDS, PAIRS = ".digests", ".signatures", ".bands", ".pairs"


def digest(text, purpose=b""):
    """Returns the digest of a text, an int below 2 ** 64; purpose: bytes, gives another one."""
    data = text.encode("utf-8")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=purpose).digest(), "little")


def bucket_bits(items):
    """Returns b, so that 2 ** b buckets hold about BUCKET_ITEMS of so many items each."""
    return max(0, (-(-items // BUCKET_ITEMS) - 1).bit_length())


def _in_bucket(keys, bucket, bits):
    """Tells which of the keys, a uint64 array, lie in a bucket; returns a bool array or slice."""
    return keys >> np.uint64(64 - bits) == np.uint64(bucket) if bits else slice(None)


def _slice_of_bucket(keys, bucket, bits):
    """Returns where the keys of a bucket are in a sorted uint64 array."""
    start = np.searchsorted(keys, np.uint64(bucket << 64 - bits)) if bucket else 0
    is_last = bucket + 1 == 1 << bits
    end = len(keys) if is_last else np.searchsorted(keys, np.uint64(bucket + 1 << 64 - bits))
    return slice(int(start), int(end))


def _array_on_disk(path, kind, start, count):
    """Returns an array that is a part of a file, read where it is used."""
    return np.memmap(path, kind, "r", start, (count,)) if count else np.zeros(0, kind)


# ---------------------------------------------------------------------------------------------
# The same text
# ---------------------------------------------------------------------------------------------

def find_same(parts, bits, bucket):
    """Finds the documents of a bucket whose digest an earlier one has.

    Args:
        parts: list of Part.

    Returns:
        int64 [pairs, 2]: the number of the first that has it, of the later one.
    """
    keys, numbers = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for part in parts:
        digests = np.fromfile(part.path + DIGESTS, "<u8")
        rows = np.arange(part.first, part.first + part.count)
        wanted = _in_bucket(digests, bucket, bits)
        keys.append(digests[wanted])
        numbers.append(rows[wanted])
    keys, numbers = np.concatenate(keys), np.concatenate(numbers)
    order = np.argsort(keys, kind="stable")  # numbers ascend, and stay so among equal keys
    keys, numbers = keys[order], numbers[order]
    first = _first_of_group(keys)
    is_later = first != np.arange(len(keys))
    return np.stack([numbers[first[is_later]], numbers[is_later]], axis=1)


def _first_of_group(keys):
    """Returns for each of the sorted keys the place of the first that equals it."""
    places = np.arange(len(keys))
    opens = np.append(True, keys[1:] != keys[:-1])[:len(keys)]
    return np.maximum.accumulate(np.where(opens, places, 0))


# ---------------------------------------------------------------------------------------------
# Lines in many documents
# ---------------------------------------------------------------------------------------------

def write_counts(path, counts):
    """Writes a Counter of digests."""
    keys = np.fromiter(counts.keys(), np.uint64, len(counts))
    numbers = np.fromiter(counts.values(), np.uint64, len(counts))
    order = np.argsort(keys)
    with files.atomic_write(path) as stream:
        stream.write(keys[order].astype("<u8").tobytes())
        stream.write(numbers[order].astype("<u8").tobytes())


def count_counts(path):
    """Returns how many digests a file of `write_counts` holds."""
    return files.size(path) // 16


def find_frequent(paths, most, bits, bucket):
    """Returns the digests of a bucket that come more than `most` times, a sorted uint64 array."""
    keys, counts = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    for path in paths:
        number = count_counts(path)
        table = _array_on_disk(path, "<u8", 0, 2 * number)
        wanted = _slice_of_bucket(table[:number], bucket, bits)
        keys.append(np.array(table[:number][wanted]))
        counts.append(np.array(table[number:][wanted]))
    keys, counts = np.concatenate(keys), np.concatenate(counts)
    order = np.argsort(keys)
    different, starts = np.unique(keys[order], return_index=True)
    if not len(different):
        return different
    return different[np.add.reduceat(counts[order], starts) > most]


def is_among(digests, known):
    """Tells which digests, a list of ints, are in the sorted uint64 array `known`; bool array."""
    digests = np.array(digests, np.uint64)
    if not len(known):
        return np.zeros(len(digests), bool)
    return known[np.minimum(np.searchsorted(known, digests), len(known) - 1)] == digests


# ---------------------------------------------------------------------------------------------
# Signatures
# ---------------------------------------------------------------------------------------------

class Signer(object):
    """Makes the MinHash signatures of texts; the same on all releases of datasketch and Python."""

    def __init__(self):
        """Raises UserError where datasketch is missing."""
        try:
            from datasketch import MinHash
        except ImportError as error:
            raise UserError("--near_duplicates needs the package datasketch: pip install datasketch"
                            ) from error
        # datasketch 2 has other permutations by default, and keeps those of datasketch 1.
        has_schemes = "scheme" in inspect.signature(MinHash.__init__).parameters
        self._minhash = MinHash(PERMUTATIONS, seed=1, hashfunc=_itself,
                                **({"scheme": "legacy"} if has_schemes else {}))

    def sign(self, text):
        """Returns the signature of a text, uint32 [PERMUTATIONS]."""
        self._minhash.clear()
        hashes = hash_shingles(text)
        for start in range(0, len(hashes), _CHARACTERS_AT_ONCE):
            self._minhash.update_batch(hashes[start:start + _CHARACTERS_AT_ONCE].tolist())
        return self._minhash.hashvalues.astype("<u4")


def _itself(value):
    return value


def hash_shingles(text):
    """Returns the hashes of all SHINGLE characters in a row, uint64 below 2 ** 32.

    A shorter text is one shingle.
    """
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.uint64)
    width = min(SHINGLE, len(codes))
    count = len(codes) - width + 1
    hashes = np.zeros(count, np.uint64)
    for place in range(width):
        hashes = hashes * np.uint64(0x100000001b3) + codes[place:place + count]
    hashes ^= hashes >> np.uint64(33)
    hashes *= np.uint64(0xff51afd7ed558ccd)
    return hashes >> np.uint64(32)


def choose_bands(threshold):
    """Returns (bands, rows) by which pairs as similar as the threshold are found well enough.

    Two documents that share s of their shingles agree in a band of r rows with probability s ** r.
    """
    for rows in range(PERMUTATIONS, 1, -1):
        bands = PERMUTATIONS // rows
        if 1 - (1 - threshold ** rows) ** bands >= LEAST_RECALL:
            return bands, rows
    return PERMUTATIONS, 1


def band_keys(signatures, bands, rows):
    """Returns the keys of signatures, uint32 [n, PERMUTATIONS], in all bands, uint64 [bands, n]."""
    columns = signatures[:, :bands * rows].astype(np.uint64).reshape([-1, bands, rows])
    keys = np.full(columns.shape[:2], 0xcbf29ce484222325, np.uint64)
    for row in range(rows):
        keys = (keys ^ columns[:, :, row]) * np.uint64(0x9e3779b97f4a7c15)
        keys ^= keys >> np.uint64(32)
    return keys.T


# ---------------------------------------------------------------------------------------------
# Near duplicates
# ---------------------------------------------------------------------------------------------

def link(keys, numbers, threshold, read_signatures):
    """Links documents with equal keys where their signatures say that they are similar.

    Args:
        keys: uint64 [n]; numbers: int64 [n], of the documents.
        read_signatures: function from numbers to their signatures.

    Returns:
        (int64 [pairs, 2] of linked numbers, the earlier one first; keys, numbers of the entries
        that are linked to no earlier one of the same key).
    """
    order = np.lexsort((numbers, keys))
    keys, numbers = keys[order], numbers[order]
    waiting, pairs, leaders = np.arange(len(keys)), [np.zeros([0, 2], np.int64)], []
    for _ in range(MOST_LEADERS):
        first = _first_of_group(keys[waiting])
        is_follower = first != np.arange(len(waiting))
        leaders.append(waiting[~is_follower])
        found = np.stack([numbers[waiting[first[is_follower]]], numbers[waiting[is_follower]]],
                         axis=1)
        waiting = waiting[is_follower]
        if not len(waiting):
            break
        similar = are_similar(found, threshold, read_signatures)
        pairs.append(found[similar])
        waiting = waiting[~similar]
    left = np.sort(np.concatenate(leaders + [waiting]))
    return np.concatenate(pairs), keys[left], numbers[left]


def are_similar(pairs, threshold, read_signatures):
    """Tells of which pairs, int64 [n, 2], the signatures are similar; returns bool [n]."""
    similar = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), BLOCK_ITEMS):
        block = pairs[start:start + BLOCK_ITEMS]
        same = read_signatures(block[:, 0]) == read_signatures(block[:, 1])
        similar[start:start + BLOCK_ITEMS] = same.mean(axis=1) >= threshold
    return similar


def signature_reader(parts):
    """Returns the function from document numbers, int64 [n], to signatures, uint32 [n, P]."""
    firsts = np.array([part.first for part in parts])

    def read(numbers):
        found = np.zeros([len(numbers), PERMUTATIONS], "<u4")
        size = found[:1].nbytes
        places = np.argsort(numbers, kind="stable")
        owners = np.searchsorted(firsts, numbers[places], side="right") - 1
        for owner in np.unique(owners).tolist():
            part = parts[owner]
            with open(part.path + SIGNATURES, "rb") as stream:
                for place in places[owners == owner].tolist():
                    stream.seek(int(numbers[place] - part.first) * size)
                    found[place] = np.frombuffer(stream.read(size), "<u4")
        return found

    return read


def write_bands(part, wanted, threshold):
    """Links the near duplicates within a part; writes its pairs, and the keys of what is left.

    Args:
        part: Part; wanted: bool [part.count], the documents that take part.
    """
    bands, rows = choose_bands(threshold)
    chosen = np.flatnonzero(wanted)
    keys = np.zeros([bands, len(chosen)], np.uint64)
    read = signature_reader([part])
    for start in range(0, len(chosen), BLOCK_ITEMS):
        block = chosen[start:start + BLOCK_ITEMS]
        keys[:, start:start + BLOCK_ITEMS] = band_keys(read(part.first + block), bands, rows)
    found = [link(keys[band], part.first + chosen, threshold, read) for band in range(bands)]
    pairs, keys, numbers = zip(*found)
    ends = np.append(0, np.cumsum([len(of_band) for of_band in keys])).astype("<i8")
    with files.atomic_write(part.path + BANDS) as stream:
        stream.write(ends.tobytes())
        for of_band in keys:
            stream.write(of_band.astype("<u8").tobytes())
        for of_band in numbers:
            stream.write((of_band - part.first).astype("<u4").tobytes())
    write_pairs(part.path + PAIRS, _different(np.concatenate(pairs)))


def _different(pairs):
    """Returns pairs, int64 [n, 2], sorted and each once."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    is_new = np.append(True, (pairs[1:] != pairs[:-1]).any(axis=1))[:len(pairs)]
    return pairs[is_new]


def find_similar(parts, threshold, band, bits, bucket):
    """Links the near duplicates of a bucket of a band; returns pairs as `link` does."""
    bands = choose_bands(threshold)[0]
    keys, numbers = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for part in parts:
        of_part, rows = _read_band(part.path + BANDS, bands, band)
        wanted = _slice_of_bucket(of_part, bucket, bits)
        keys.append(np.array(of_part[wanted]))
        numbers.append(part.first + rows[wanted].astype(np.int64))
    return link(np.concatenate(keys), np.concatenate(numbers), threshold,
                signature_reader(parts))[0]


def _read_band(path, bands, band):
    """Returns (sorted keys, rows) of a band, as write_bands wrote them."""
    with open(path, "rb") as stream:
        ends = np.frombuffer(stream.read(8 * (bands + 1)), "<i8").tolist()
    start, end = ends[band:band + 2]
    header, count = 8 * (bands + 1), end - start
    return (_array_on_disk(path, "<u8", header + 8 * start, count),
            _array_on_disk(path, "<u4", header + 8 * ends[-1] + 4 * start, count))


# ---------------------------------------------------------------------------------------------
# Groups
# ---------------------------------------------------------------------------------------------

def write_pairs(path, pairs):
    """Writes int64 [n, 2]; the file appears only when complete."""
    with files.atomic_write(path) as stream:
        stream.write(np.ascontiguousarray(pairs, _NUMBER).tobytes())


def read_pairs(path):
    """Yields the pairs of a file in blocks, int64 [n, 2]."""
    with open(path, "rb") as stream:
        while True:
            data = stream.read(BUCKET_ITEMS * 2 * _NUMBER.itemsize)
            if not data:
                return
            yield np.frombuffer(data, _NUMBER).reshape([-1, 2])


class Groups(object):
    """The groups that linked documents belong to, in a file: 8 bytes for each document.

    The file is mapped to memory, so that the system keeps of it what there is room for.
    """

    def __init__(self, path, count):
        """Makes the file; every document is a group of its own."""
        with open(path, "wb") as stream:
            for start in range(0, count, BUCKET_ITEMS):
                stream.write(np.arange(start, min(count, start + BUCKET_ITEMS),
                                       dtype=_NUMBER).tobytes())
        # An earlier document of the same group, or itself for the first.
        self._earlier = np.memmap(path, _NUMBER, "r+", shape=(count,))

    def join(self, pairs):
        """Joins the groups of pairs, int64 [n, 2]."""
        for one, other in pairs.tolist():
            one, other = self._find(one), self._find(other)
            if one != other:
                self._earlier[max(one, other)] = min(one, other)

    def _find(self, number):
        """Returns the first of the group, and shortens the way to it."""
        earlier = self._earlier
        above = int(earlier[number])
        while above != number:
            further = int(earlier[above])
            earlier[number] = further
            number, above = further, int(earlier[further])
        return number

    def settle(self):
        """Makes every document point to the first of its group; yields (start, firsts) in blocks.

        start: number of the block's first document; firsts: int64 array.
        """
        for start in range(0, len(self._earlier), BUCKET_ITEMS):
            block = self._earlier[start:start + BUCKET_ITEMS]
            # All before the block point to their firsts already, so few steps lead there.
            while True:
                further = self._earlier[block]
                if np.array_equal(further, block):
                    break
                block[:] = further
            yield start, np.array(block)
        self._earlier.flush()
