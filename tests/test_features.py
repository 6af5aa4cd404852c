"""Features: which part of a text is kept, what is written and found again, how batches are made."""

import io
import json
import os
from unittest import mock

import numpy as np
import pytest
from helpers import batches_of

import distribution
import features
import files
import records
import tasks
import tokenization


LETTERS = list("abcdefgh")
LABELS = ("0", "1")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("vocab") / "vocab.txt")
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    entries += list("天气好吗今不一二三四五六七八九")
    files.write_text(path, "".join(entry + "\n" for entry in entries))
    return tokenization.FullTokenizer(path)


# ---------------------------------------------------------------------------------------------
# Which part of a text is kept
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("truncate, length, kept", [
    ("head", 4, "abcd"), ("tail", 4, "efgh"), ("head_tail", 4, "afgh"),
    ("head", 7, "abcdefg"), ("tail", 7, "bcdefgh"), ("head_tail", 7, "abdefgh"),
    ("head", 1, "a"), ("tail", 1, "h"), ("head_tail", 1, "a"), ("head_tail", 3, "agh"),
    ("head", 0, ""), ("tail", 0, ""), ("head_tail", 0, "")])
def test_one_text_is_cut_as_asked(truncate, length, kept):
    assert features.truncate_tokens(LETTERS, length, truncate) == list(kept)


@pytest.mark.parametrize("truncate", features.TRUNCATIONS)
def test_a_text_that_fits_stays_whole(truncate):
    for length in (8, 9, 100):
        assert features.truncate_tokens(LETTERS, length, truncate) == LETTERS
        assert features.truncate_pair(LETTERS, ["x"], length + 1, truncate) == (LETTERS, ["x"])


def test_head_and_tail_are_shared_as_in_the_paper():
    tokens = list(range(600))  # arXiv 1905.05583, 5.3.1: the first 128 and the last 382
    assert features.truncate_tokens(tokens, 510, "head_tail") == tokens[:128] + tokens[-382:]


def test_the_longer_text_is_cut():
    assert features.truncate_pair([1, 2, 3, 4], [5, 6], 4) == ([1, 2], [5, 6])
    assert features.truncate_pair([1, 2], [5, 6, 7], 3) == ([1, 2], [5])
    assert features.truncate_pair([1], [], 0) == ([], [])
    assert features.truncate_pair([1, 2], [3], 9) == ([1, 2], [3])


@pytest.mark.parametrize("truncate, first, second", [
    ("head", "abcd", "1234"), ("tail", "efgh", "3456"), ("head_tail", "afgh", "1456")])
def test_each_text_of_a_pair_is_cut_as_asked(truncate, first, second):
    assert features.truncate_pair(LETTERS, list("123456"), 8, truncate) == (
        list(first), list(second))


# ---------------------------------------------------------------------------------------------
# One example
# ---------------------------------------------------------------------------------------------

def test_features_of_pairs_and_single_texts(tokenizer):
    ids = {token: i for i, token in enumerate(tokenizer.vocab)}
    pair = features.featurise(tasks.Example(0, "天气", "好吗", "1"), LABELS, tokenizer, 24)
    tokens = ["[CLS]", "天", "气", "[SEP]", "好", "吗", "[SEP]"]
    assert pair["input_ids"] == [ids[token] for token in tokens]
    assert pair["segment_ids"] == [0, 0, 0, 0, 1, 1, 1]
    assert pair["input_mask"] == [1] * 7 and pair["label_ids"] == [1]
    single = features.featurise(tasks.Example(0, "天气好", None, None), LABELS, tokenizer, 4)
    assert single["input_ids"] == [ids[token] for token in ("[CLS]", "天", "气", "[SEP]")]
    assert single["segment_ids"] == [0] * 4 and single["label_ids"] == [0]


@pytest.mark.parametrize("truncate, single, pair", [
    ("head", "一二三四五六七八", "一二三四[SEP]天气好"),
    ("tail", "二三四五六七八九", "六七八九[SEP]气好吗"),
    ("head_tail", "一二四五六七八九", "一七八九[SEP]天好吗")])
def test_features_hold_the_part_that_is_asked_for(tokenizer, truncate, single, pair):
    def tokens(text_b, length):
        made = features.featurise(tasks.Example(0, "一二三四五六七八九", text_b, "0"), LABELS,
                                  tokenizer, length, truncate)
        assert len(made["input_ids"]) == length == len(made["segment_ids"])
        return "".join(tokenizer.convert_ids_to_tokens(made["input_ids"]))

    assert tokens(None, 10) == "[CLS]" + single + "[SEP]"
    assert tokens("天气好吗", 10) == "[CLS]" + pair + "[SEP]"


# ---------------------------------------------------------------------------------------------
# A split and its record file
# ---------------------------------------------------------------------------------------------

ROWS = [("天气", "好吗", "1"), ("天气好", "不好", "0"), ("今天", "天气", "1")]


def write_afqmc(folder, rows):
    os.makedirs(str(folder), exist_ok=True)
    with io.open(str(folder / "dev.json"), "w", encoding="utf-8") as stream:
        for a, b, label in rows:
            stream.write(json.dumps({"sentence1": a, "sentence2": b, "label": label}) + "\n")
    return tasks.get("afqmc").read(str(folder), "dev")


def make(tokenizer, folder, examples, **changes):
    making = features.Settings(tokenizer, "vocabulary", 24, "head")._replace(**changes)
    return features.split_features(tasks.get("afqmc"), "dev", examples, str(folder), making)


def test_a_record_file_holds_the_features_in_order(tokenizer, tmp_path):
    examples = write_afqmc(tmp_path, ROWS)
    split = make(tokenizer, tmp_path, examples)
    assert split.examples == examples and split.key in split.path
    found = batches_of(features.input_fn_builder(split, 24, False), 1)
    assert sorted(int(batch["row"]) for batch in found) == list(range(len(examples)))
    for batch in found:
        expected = features.featurise(examples[int(batch.pop("row"))], LABELS, tokenizer, 24)
        assert {name: np.ravel(value).tolist() for name, value in batch.items()} == expected
    assert len(found) == 3


def test_record_files_follow_content_vocabulary_length_and_truncation(tokenizer, tmp_path):
    out = tmp_path / "out"
    out.mkdir()

    def path(rows=ROWS, data="data", **changes):
        return make(tokenizer, out, write_afqmc(tmp_path / data, rows), **changes).path

    first = path()
    assert path() == first
    assert path(data="the_same_elsewhere") == first
    others = [path(tokenizer_key="other"), path(max_seq_length=12), path(truncate="tail"),
              path(truncate="head_tail"), path(ROWS[:2]), path(ROWS[::-1]),
              path(ROWS[:2] + [("今天", "天气", "0")]), path(ROWS[:2] + [("今天天", "气", "1")])]
    assert len(set(others + [first])) == len(others) + 1


def test_other_labels_make_other_features(tokenizer, tmp_path):
    examples = [tasks.Example(0, "天气", None, "a")]

    def path(labels, name="own"):
        task = tasks.Task(name, labels, None, ("sentence",))
        return features.split_features(task, "dev", examples, str(tmp_path), features.Settings(
            tokenizer, "vocabulary", 24, "head")).path

    # The same row, which is class 0 or class 1 as the labels go.
    assert len({path(("a", "b")), path(("b", "a")), path(("a", "b", "c"))}) == 3


def test_features_are_made_once(tokenizer, tmp_path, monkeypatch, capsys):
    examples = write_afqmc(tmp_path, ROWS)
    before = make(tokenizer, tmp_path, examples)
    assert "features dev  example 3/3" in capsys.readouterr().err
    monkeypatch.setattr(features, "featurise", lambda *_: pytest.fail("made again"))
    assert make(tokenizer, tmp_path, examples) == before
    assert capsys.readouterr().err == ""


def test_an_interrupted_split_leaves_nothing_to_be_found(tokenizer, tmp_path, monkeypatch):
    examples = write_afqmc(tmp_path / "data", ROWS)
    out = tmp_path / "out"
    out.mkdir()
    whole = features.featurise

    def stopped(example, *others):
        if example is examples[2]:
            raise KeyboardInterrupt
        return whole(example, *others)

    monkeypatch.setattr(features, "featurise", stopped)
    with pytest.raises(KeyboardInterrupt):
        make(tokenizer, out, examples)
    assert os.listdir(str(out)) == []


# ---------------------------------------------------------------------------------------------
# Batches
# ---------------------------------------------------------------------------------------------

def make_split(folder, count):
    """A split of examples of lengths 1, 2, 3, ... for tests of the input."""
    path = os.path.join(str(folder), "split.tf_record")
    rows = [{"input_ids": [i + 1] * (i + 1), "input_mask": [1] * (i + 1),
             "segment_ids": [0] * (i + 1), "label_ids": [i % 2], "is_real_example": [1]}
            for i in range(count)]
    records.write(path, [records.encode(records.CLASSIFICATION, row) for row in rows])
    return features.Split(path, "key", [tasks.Example(i, "", None, "0") for i in range(count)])


def test_batches_hold_like_lengths_and_are_padded_to_their_longest(tmp_path):
    found = batches_of(features.input_fn_builder(make_split(tmp_path, 5), 16, False), 2)
    assert [batch["input_ids"].shape for batch in found] == [(1, 5), (2, 4), (2, 2)]
    np.testing.assert_array_equal(found[2]["input_ids"], [[1, 0], [2, 2]])
    np.testing.assert_array_equal(found[2]["input_mask"], [[1, 0], [1, 1]])
    assert [batch["row"].tolist() for batch in found] == [[4], [2, 3], [0, 1]]
    assert [batch["label_ids"].tolist() for batch in found] == [[0], [0, 1], [0, 1]]
    assert all(batch["is_real_example"].all() for batch in found)


def test_fixed_shapes_fill_the_last_batch_with_rows_that_do_not_count(tmp_path):
    found = batches_of(features.input_fn_builder(make_split(tmp_path, 5), 16, False,
                                              fixed_shapes=True), 4)
    assert [batch["input_ids"].shape for batch in found] == [(4, 16), (4, 16)]
    np.testing.assert_array_equal(found[1]["is_real_example"], [1, 0, 0, 0])
    assert [batch["row"].tolist() for batch in found] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    # Eight TPU cores with 2 rows each: as many rows as whole batches of 16 need.
    found = batches_of(features.input_fn_builder(make_split(tmp_path, 5), 16, False,
                                              fixed_shapes=True, whole_batch=16), 2)
    assert len(found) == 8


@pytest.mark.parametrize("fixed_shapes", [False, True])
def test_training_order_follows_from_the_seed(tmp_path, fixed_shapes):
    split = make_split(tmp_path, 9)

    def order(seed, first_step=0):
        return [int(i) for batch in batches_of(features.input_fn_builder(
            split, 16, True, seed, fixed_shapes, first_step=first_step), 3, limit=6)
            for i in batch["input_ids"][:, 0]]

    assert order(1) == order(1) != order(2)
    hosts = [distribution.InputPart(number, 2, 1) for number in range(2)]
    with mock.patch.object(distribution, "input_part", side_effect=hosts):
        assert order(1) != order(1)  # no two hosts of a TPU, or workers, have the same batches
    assert sorted(order(1)[:9]) == list(range(1, 10))  # each epoch sees every example once
    assert order(1)[:9] != order(1)[9:]
    if not fixed_shapes:
        assert order(1)[6:] == order(1, first_step=2)[:12]
