"""The embedded sample tasks and corpus have the official formats and are fit to learn from."""

import collections
import os

import pytest

import files

SPLITS = ("train", "dev", "test")
LEAST_ROWS = {"train": 96, "dev": 40, "test": 24}
JSON_TASKS = ("afqmc", "cmnli", "csl", "iflytek", "tnews", "wsc")

# Keys in the order of the official files; test rows carry an id or idx and no label.
KEYS = {
    "afqmc": (["sentence1", "sentence2", "label"], ["id", "sentence1", "sentence2"]),
    "cmnli": (["sentence1", "sentence2", "label"], ["id", "sentence1", "sentence2"]),
    "csl": (["id", "abst", "keyword", "label"], ["id", "abst", "keyword"]),
    "iflytek": (["label", "label_des", "sentence"], ["id", "sentence"]),
    "tnews": (["label", "label_desc", "sentence", "keywords"], ["id", "sentence", "keywords"]),
    "wsc": (["target", "idx", "label", "text"], ["target", "idx", "text"]),
}
SPAN_KEYS = ["span2_index", "span1_index", "span1_text", "span2_text"]
TNEWS_NAMES = {
    "100": "news_story", "101": "news_culture", "102": "news_entertainment",
    "103": "news_sports", "104": "news_finance", "106": "news_house", "107": "news_car",
    "108": "news_edu", "109": "news_tech", "110": "news_military", "112": "news_travel",
    "113": "news_world", "114": "news_stock", "115": "news_agriculture", "116": "news_game"}
LABELS = {
    "afqmc": {"0", "1"},
    "cmnli": {"contradiction", "entailment", "neutral"},
    "csl": {"0", "1"},
    "iflytek": {str(number) for number in range(119)},
    "tnews": set(TNEWS_NAMES),
    "wsc": {"true", "false"},
    "lcqmc": {"0", "1"},
}
FEW_WAY_TASKS = ("afqmc", "cmnli", "csl", "wsc", "lcqmc")


def sample_path(root, task, split):
    ending = "txt" if task == "lcqmc" else "json"
    return os.path.join(root, "data", "clue_sample", task, "%s.%s" % (split, ending))


def sample_rows(root, task, split):
    """Rows of a split as dictionaries; LCQMC's columns are named like AFQMC's fields."""
    path = sample_path(root, task, split)
    if task != "lcqmc":
        return [row for _, row in files.read_json_lines(path)]
    names = ("sentence1", "sentence2", "label")
    rows = [line.split("\t") for _, line in files.read_lines(path)]
    assert all(len(row) == len(names) for row in rows), path
    return [dict(zip(names, row)) for row in rows]


def content(row):
    """What a model sees of a row: all but its number and its label."""
    return repr(sorted((key, value) for key, value in row.items()
                       if key not in ("id", "idx", "label", "label_des", "label_desc")))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", sorted(LABELS))
def test_file_is_utf8_lines_that_end_in_newline_only(root, task, split):
    with open(sample_path(root, task, split), "rb") as stream:
        raw = stream.read()
    assert raw.endswith(b"\n") and not raw.endswith(b"\n\n")
    assert b"\r" not in raw and not raw.startswith(b"\xef\xbb\xbf")
    assert b"\\u" not in raw, "texts are written as they are, not escaped"
    assert raw.count(b"\n") == len(sample_rows(root, task, split)) >= LEAST_ROWS[split]
    raw.decode("utf-8")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", JSON_TASKS)
def test_keys_are_the_official_ones_in_their_order(root, task, split):
    wanted = KEYS[task][1 if split == "test" else 0]
    for row in sample_rows(root, task, split):
        assert list(row) == wanted
        if task == "wsc":
            assert list(row["target"]) == SPAN_KEYS


@pytest.mark.parametrize("task", JSON_TASKS)
def test_first_keys_equal_those_of_the_real_files(root, shared_data, task):
    for split in SPLITS:
        real = os.path.join(shared_data, "clue", task, split + ".json")
        _, first = next(files.read_json_lines(real))
        assert list(sample_rows(root, task, split)[0]) == list(first)


@pytest.mark.parametrize("task", sorted(LABELS))
def test_labels_are_known_and_spread_alike_in_train_and_dev(root, task):
    shares = {}
    for split in SPLITS if task == "lcqmc" else ("train", "dev"):
        labels = [row["label"] for row in sample_rows(root, task, split)]
        assert set(labels) <= LABELS[task]
        if task in FEW_WAY_TASKS:
            assert set(labels) == LABELS[task]
        else:
            assert len(set(labels)) >= 8
        counts = collections.Counter(labels)
        shares[split] = {label: count / float(len(labels)) for label, count in counts.items()}
    assert set(shares["train"]) == set(shares["dev"])
    for label, share in shares["train"].items():
        assert abs(share - shares["dev"][label]) < 0.05


def test_tnews_names_belong_to_their_numbers(root):
    for split in ("train", "dev"):
        for row in sample_rows(root, "tnews", split):
            assert row["label_desc"] == TNEWS_NAMES[row["label"]]


@pytest.mark.parametrize("task,name", [("tnews", "label_desc"), ("iflytek", "label_des")])
def test_label_names_are_the_official_ones(root, shared_data, task, name):
    real = os.path.join(shared_data, "clue", task, "train.json")
    official = {(str(row["label"]), row[name]) for _, row in files.read_json_lines(real)}
    for split in ("train", "dev"):
        used = {(row["label"], row[name]) for row in sample_rows(root, task, split)}
        assert used <= official


@pytest.mark.parametrize("split", SPLITS)
def test_iflytek_gives_each_label_one_name(root, split):
    if split == "test":
        assert all(row["sentence"] for row in sample_rows(root, "iflytek", split))
        return
    names = collections.defaultdict(set)
    for row in sample_rows(root, "iflytek", split):
        names[row["label"]].add(row["label_des"])
    assert all(len(found) == 1 and "" not in found for found in names.values())


@pytest.mark.parametrize("split", SPLITS)
def test_wsc_offsets_point_at_their_spans(root, split):
    for row in sample_rows(root, "wsc", split):
        spans = row["target"]
        for number in ("1", "2"):
            start, span = spans["span%s_index" % number], spans["span%s_text" % number]
            assert span and row["text"][start:start + len(span)] == span


@pytest.mark.parametrize("split", SPLITS)
def test_csl_keywords_tell_the_label(root, split):
    for row in sample_rows(root, "csl", split):
        assert 40 <= len(row["abst"]) <= 120
        assert row["keyword"] and all(row["keyword"])
        if split != "test":
            all_inside = all(word in row["abst"] for word in row["keyword"])
            assert row["label"] == ("1" if all_inside else "0")


@pytest.mark.parametrize("task", sorted(LABELS))
def test_no_row_is_repeated_within_or_across_the_splits(root, task):
    seen = {}
    for split in SPLITS:
        for number, row in enumerate(sample_rows(root, task, split)):
            here = (split, number)
            assert seen.setdefault(content(row), here) == here


@pytest.mark.parametrize("task", JSON_TASKS)
def test_test_rows_are_numbered_from_zero(root, task):
    rows = sample_rows(root, task, "test")
    assert [row["idx" if task == "wsc" else "id"] for row in rows] == list(range(len(rows)))


@pytest.mark.parametrize("task,key", [("csl", "id"), ("wsc", "idx")])
def test_numbers_of_train_and_dev_rows_are_unique(root, task, key):
    numbers = [row[key] for split in ("train", "dev") for row in sample_rows(root, task, split)]
    assert len(set(numbers)) == len(numbers)


def test_line_separator_inside_a_text_survives_reading(root):
    rows = sample_rows(root, "tnews", "train")
    marked = [row for row in rows if "\u2028" in row["sentence"]]
    assert len(marked) == 1
    before, after = marked[0]["sentence"].split("\u2028")
    assert before and after and marked[0]["label_desc"] == "news_game"


@pytest.mark.parametrize("task", sorted(LABELS))
def test_train_texts_hold_the_oddities_of_real_ones(root, task):
    fields = ("sentence1", "sentence2", "sentence", "abst", "text")
    text = "".join(row.get(field, "") for row in sample_rows(root, task, "train")
                   for field in fields)
    assert any(char.isalpha() and char < "\u007f" for char in text), "an English word"
    assert any(char.isdigit() for char in text), "a digit"
    assert any(char > "\uffff" for char in text), "an emoji"
    assert any("\uff01" <= char <= "\uff5e" for char in text), "a full-width character"


def corpus_documents(root):
    """Documents of the sample corpus, each a list of sentences."""
    documents = [[]]
    for _, line in files.read_lines(os.path.join(root, "data", "news_zh_1.txt")):
        if line:
            documents[-1].append(line)
        elif documents[-1]:
            documents.append([])
    return [document for document in documents if document]


def test_corpus_has_enough_documents_of_enough_sentences(root):
    documents = corpus_documents(root)
    assert len(documents) >= 60
    assert min(len(document) for document in documents) >= 6


def test_corpus_repeats_no_sentence_and_has_clean_lines(root):
    sentences = [sentence for document in corpus_documents(root) for sentence in document]
    assert len(set(sentences)) == len(sentences)
    assert all(sentence == sentence.strip() for sentence in sentences)


def test_corpus_file_ends_in_one_newline_and_has_single_blank_lines(root):
    with open(os.path.join(root, "data", "news_zh_1.txt"), "rb") as stream:
        raw = stream.read()
    assert raw.endswith(b"\n") and not raw.endswith(b"\n\n")
    assert b"\n\n\n" not in raw and b"\r" not in raw
