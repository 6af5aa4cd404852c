"""Properties of readers and writers: what was written is read, and damage never passes."""

import csv
import io
import json
import os
import random

import numpy as np
import pytest

pytest.importorskip("hypothesis")

from hostile import bounded, utf8_texts  # noqa: E402 - it needs hypothesis
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import corpus  # noqa: E402
import own_data  # noqa: E402
import record_bytes  # noqa: E402
import records  # noqa: E402
import similarity  # noqa: E402
import tasks  # noqa: E402
from errors import UserError  # noqa: E402

visible = utf8_texts().filter(lambda text: text.strip())
one_line = utf8_texts(without="\n").map(lambda text: text.rstrip("\r"))
one_cell = utf8_texts(without="\t\n").map(lambda text: text.rstrip("\r"))


def write(folder, name, text):
    path = os.path.join(str(folder), name)
    with io.open(path, "wb") as stream:
        stream.write(text.encode("utf-8"))
    return path


# ---------------------------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------------------------

@bounded(150)
@given(st.lists(st.tuples(visible, utf8_texts(), st.sampled_from(["0", "1"]),
                          st.integers(0, 1 << 40)),
                min_size=1, max_size=5, unique_by=lambda row: row[3]), st.booleans())
def test_json_rows_come_back_as_they_were(tmp_path, rows, ascii_only):
    write(tmp_path, "test.json", "".join(json.dumps(
        {"sentence1": first, "sentence2": second, "label": label, "id": number},
        ensure_ascii=ascii_only) + "\n" for first, second, label, number in rows))
    found = tasks.get("afqmc").read(str(tmp_path), "test")
    assert [tuple(example) for example in found] == [
        (number, first, second, label) for first, second, label, number in rows]


@bounded(150)
@given(st.lists(st.tuples(one_cell.filter(str.strip), one_cell, st.sampled_from(["0", "1"])),
                min_size=1, max_size=5))
def test_tab_separated_rows_come_back_as_they_were(tmp_path, rows):
    rows = [("今天", "明天", "1")] + rows  # a first row that no one takes for a header
    write(tmp_path, "train.txt", "".join("\t".join(row) + "\n" for row in rows))
    found = tasks.get("lcqmc").read(str(tmp_path), "train")
    assert [tuple(example[1:]) for example in found] == rows


@bounded(150)
@given(st.lists(st.tuples(utf8_texts(without="\x00\r").filter(str.strip),
                          st.sampled_from(["good", "bad"])), max_size=5))
def test_csv_rows_come_back_as_they_were(tmp_path, rows):
    rows = [("今天", "good"), ("明天", "bad")] + rows
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["text", "label"])
    writer.writerows(rows)
    write(tmp_path, "train.csv", text.getvalue())
    task = own_data.task("sentence", str(tmp_path))
    found = task.read(str(tmp_path), "train")
    assert [(example.text_a, example.label) for example in found] == rows
    assert task.labels == ("bad", "good")


@bounded(150)
@given(st.lists(st.tuples(one_cell, one_cell), min_size=1, max_size=5))
def test_pairs_come_back_as_they_were(tmp_path, pairs):
    # A line of white space alone is a blank line.
    pairs = [pair for pair in pairs if "\t".join(pair).strip()] or [("a", "b")]
    path = write(tmp_path, "pairs.tsv", "".join("\t".join(pair) + "\n" for pair in pairs))
    expected = [(pairs[0][0][1:], pairs[0][1])] if pairs[0][0].startswith("\ufeff") else [pairs[0]]
    assert similarity.read_pairs(path) == expected + pairs[1:]


@bounded(100)
@given(st.lists(one_line, min_size=1, max_size=9))
def test_labels_come_back_as_they_were_or_are_refused(tmp_path, labels):
    path = write(tmp_path, "labels.txt", "".join(label + "\n" for label in labels))
    sound = (len(labels) > 1 and len(set(labels)) == len(labels)
             and all(label and label == label.strip() for label in labels)
             and not labels[0].startswith("\ufeff"))
    if sound:
        assert own_data.read_labels(path) == tuple(labels)
    elif not labels[0].startswith("\ufeff"):
        with pytest.raises(UserError, match="labels.txt"):
            own_data.read_labels(path)


@bounded(100)
@given(st.lists(one_line, min_size=1, max_size=12), st.integers(1, 40))
def test_a_corpus_loses_no_sentence(tmp_path, lines, piece_bytes):
    path = write(tmp_path, "corpus.txt", "".join(line + "\n" for line in lines))
    found = [line for document in corpus.read_documents(corpus.plan_pieces([path], piece_bytes))
             for line in document.lines]
    stripped = [line[line.startswith("\ufeff") and number == 0:].strip()
                for number, line in enumerate(lines)]
    assert "".join(found) == "".join(stripped)


# ---------------------------------------------------------------------------------------------
# Records
# ---------------------------------------------------------------------------------------------

numbers = st.lists(st.integers(0, 21127), min_size=1, max_size=30)


@bounded(60)
@given(st.lists(numbers, min_size=1, max_size=5), st.sampled_from(["", ".gz"]))
def test_records_come_back_as_they_were(tmp_path, rows, ending):
    path = str(tmp_path / ("x.tfrecord" + ending))
    record_bytes.write(path, [records.encode(records.CLASSIFICATION, {
        "input_ids": row, "input_mask": [1] * len(row), "segment_ids": [0] * len(row),
        "label_ids": [len(row) % 2], "is_real_example": [1]}) for row in rows])
    records.check(path, records.CLASSIFICATION, {"sequence": None}, all_records=True)
    found = records.load(path, records.CLASSIFICATION)
    assert [ids.tolist() for ids in found["input_ids"]] == rows
    assert np.concatenate(found["label_ids"]).tolist() == [len(row) % 2 for row in rows]
    assert records.count([path]) == len(rows)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of a file of three records, and where each begins."""
    path = str(tmp_path_factory.mktemp("sound") / "x")
    rows = [records.encode(records.CLASSIFICATION, {
        "input_ids": [7] * size, "input_mask": [1] * size, "segment_ids": [0] * size,
        "label_ids": [1], "is_real_example": [1]}) for size in (3, 40, 9)]
    record_bytes.write(path, rows)
    with io.open(path, "rb") as stream:
        return stream.read(), np.cumsum([0] + [len(row) + 16 for row in rows]).tolist()


def test_no_damaged_byte_of_a_record_file_passes(tmp_path, sound):
    """Every region: length, its checksum, content, its checksum; of each record."""
    data, starts = sound
    rng = random.Random(1)
    places = sorted({start + step for start in starts[:-1] for step in range(13)}
                    | {end - step for end in starts[1:] for step in range(1, 6)}
                    | set(rng.sample(range(len(data)), 60)))
    path = str(tmp_path / "x.tfrecord")
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << rng.randrange(8)
        with io.open(path, "wb") as stream:
            stream.write(bytes(changed))
        with pytest.raises(UserError, match="x.tfrecord is damaged after record [0-2]"):
            records.load(path, records.CLASSIFICATION)


def test_a_record_file_cut_anywhere_is_told_or_ends_with_a_record(tmp_path, sound):
    data, starts = sound
    path = str(tmp_path / "x.tfrecord")
    for end in range(1, len(data)):
        with io.open(path, "wb") as stream:
            stream.write(data[:end])
        if end in starts:
            assert records.count([path]) == starts.index(end)
        else:
            with pytest.raises(UserError, match="x.tfrecord is damaged after record [0-2]"):
                records.count([path])


# ---------------------------------------------------------------------------------------------
# Submissions
# ---------------------------------------------------------------------------------------------

@bounded(150)
@given(st.data())
def test_a_changed_submission_is_another_sound_one_or_refused(tmp_path, data):
    task = tasks.get(data.draw(st.sampled_from(["afqmc", "tnews", "wsc"])))
    ids = data.draw(st.lists(st.one_of(st.integers(0, 99999), visible), min_size=1, max_size=4,
                             unique_by=repr))
    examples = [tasks.Example(number, "a", None, None) for number in ids]
    labels = [data.draw(st.sampled_from(task.labels)) for _ in ids]
    path = str(tmp_path / task.submission_name)
    tasks.write_submission(task, examples, labels, path)
    tasks.check_submission(task, examples, path)
    with io.open(path, "rb") as stream:
        content = stream.read()
    place = data.draw(st.integers(0, len(content) - 1))
    changed = content[:place] + data.draw(st.binary(max_size=3)) + content[
        place + data.draw(st.integers(0, 4)):]
    with io.open(path, "wb") as stream:
        stream.write(changed)
    try:
        tasks.check_submission(task, examples, path)
    except UserError as error:
        assert str(path) in str(error)
        return
    found = [json.loads(line) for line in changed.decode("utf-8").rstrip("\n").split("\n")]
    assert [row["id"] for row in found] == ids
    assert all(row["label"] in task.labels for row in found)
