"""spills.py: a shuffle of any size."""

import random

import pytest

import spills
from errors import UserError


def write_some(folder, count, files=3, buckets=5, seed=1, run_size=1 << 20):
    """Writes random records into some spill files; returns (all of them, list of Spill)."""
    rng = random.Random(seed)
    pairs = [(rng.randrange(1 << spills.KEY_BITS), b"%d" % number * rng.randrange(4))
             for number in range(count)]
    found = []
    for number in range(files):
        mine = pairs[number::files]
        path = str(folder / ("spill-%d" % number))
        spills.write(path, [mine[start:start + 7] for start in range(0, len(mine), 7)], buckets,
                     run_size, {"records": len(mine)})
        found.append(spills.read_index(path))
    return pairs, found


@pytest.mark.parametrize("run_size", [1, 100, 1 << 20])
def test_records_come_in_the_order_of_their_keys(tmp_path, run_size):
    pairs, found = write_some(tmp_path, 500, run_size=run_size)
    counts = sum(spill.counts for spill in found)
    expected = [record for _, record in sorted(pairs)]
    assert sum(spill.notes["records"] for spill in found) == 500
    assert counts.sum() == 500 and list(spills.read_range(found, counts, 0, 500)) == expected
    for start, end in ((0, 1), (3, 210), (210, 211), (499, 500), (100, 100)):
        assert list(spills.read_range(found, counts, start, end)) == expected[start:end]
    if run_size == 1:
        assert len(found[0].offsets) > 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spill-0", "spill-1", "spill-2"]


def test_a_spill_may_be_empty(tmp_path):
    spills.write(str(tmp_path / "none"), [[], []], 4, 100)
    found = spills.read_index(str(tmp_path / "none"))
    assert found.offsets.shape == (0, 5) and found.counts.tolist() == [0] * 4
    assert spills.read_bucket([found], 2) == []


def test_one_bucket_is_held_at_a_time(tmp_path, monkeypatch):
    _, found = write_some(tmp_path, 300, buckets=10)
    read, whole = [], spills.read_bucket
    monkeypatch.setattr(spills, "read_bucket",
                        lambda spills, bucket: read.append(bucket) or whole(spills, bucket))
    counts = sum(spill.counts for spill in found)
    first = counts[0]
    records = spills.read_range(found, counts, 0, 300)
    for _ in range(first):
        next(records)
    assert read == [0]
    next(records)
    assert read == [0, 1]


def test_buckets_grow_with_the_data():
    assert spills.count_buckets(0) == 1
    assert spills.count_buckets(10 * spills.BUCKET_BYTES) == 11
    assert spills.count_buckets(1e15) == spills.MOST_BUCKETS
    assert [spills.run_bytes(size) for size in (1e6, 1e10, 1e12)] == [
        spills.RUN_BYTES, 10 ** 10 // spills.RUNS, spills.MOST_RUN_BYTES]


def test_a_damaged_spill_is_named(tmp_path):
    path = tmp_path / "spill"
    for content in (b"", b"\0" * 90, b"\xff" * 10, b"\xff" * 100, b"\0" * 100 + b"\1" * 24):
        path.write_bytes(content)
        with pytest.raises(UserError, match="spill is damaged"):
            spills.read_index(str(path))


def test_a_failure_leaves_no_file(tmp_path):
    def batches():
        yield [(1, b"a")]
        raise UserError("the text is bad")

    with pytest.raises(UserError, match="the text is bad"):
        spills.write(str(tmp_path / "spill"), batches(), 3, 100)
    assert list(tmp_path.iterdir()) == []
