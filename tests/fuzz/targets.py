"""What is fuzzed: one function a parser, from bytes as a stranger may hand them over.

A target returns when the input was read or refused with a UserError, and raises for everything
else: another exception is a traceback on a user's screen, and a broken promise (a token outside the
vocabulary, a file outside its folder) is worse. `fuzz.py` calls them with inputs that reach ever
more of the code, tests/test_fuzz_targets.py with a few of each kind.

SentencePiece models are no target: the C++ library that parses them reads out of bounds where the
table of characters in a model is damaged, which Python cannot prevent (see SECURITY.md).
"""

import collections
import json
import os
import shutil
import tempfile
import zipfile

import corpus
import download
import files
import inference
import layouts
import numpy as np
import own_data
import raw_text
import records
import similarity
import submission
import tasks
import tokenization
from conftest import ROOT
from errors import UserError

VOCABULARY = os.path.join(ROOT, "albert_config", "vocab.txt")
SAMPLES = os.path.join(ROOT, "data", "clue_sample")

_FOLDER = tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)


def clean_up():
    """Removes the folder in which targets write their input."""
    shutil.rmtree(_FOLDER, ignore_errors=True)


def _file(name, data):
    path = os.path.join(_FOLDER, name)
    with open(path, "wb") as stream:
        stream.write(data)
    return path


def _folder_with(name, data):
    """Returns a folder that holds this one file."""
    folder = os.path.join(_FOLDER, "only-" + name.replace("/", "-"))
    os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
    with open(os.path.join(folder, name), "wb") as stream:
        stream.write(data)
    return folder


def _choose(data, options):
    """Returns (one of the options, by the first byte; the rest of the data)."""
    return options[(data[0] if data else 0) % len(options)], data[1:]


_made = {}


def _once(key, make):
    if key not in _made:
        _made[key] = make()
    return _made[key]


# ---------------------------------------------------------------------------------------------
# Tokenizer, vocabulary
# ---------------------------------------------------------------------------------------------

def tokenizer(data):
    """Any bytes and any text are split into entries of the vocabulary."""
    lower, data = _choose(data, (True, False))
    ours = _once(("tokenizer", lower), lambda: tokenization.FullTokenizer(VOCABULARY, lower))
    for text in (data, data.decode("utf-8", "surrogateescape"), data.decode("utf-16", "ignore")):
        tokens = ours.tokenize(text)
        ids = ours.convert_tokens_to_ids(tokens)
        assert ours.convert_ids_to_tokens(ids) == tokens
        assert not {ours.pad_id, ours.cls_id, ours.sep_id, ours.mask_id} & set(ids)
        assert all(tokens)


def vocabulary(data):
    """A file becomes a vocabulary whose ids are its lines, or is refused."""
    try:
        ours = tokenization.FullTokenizer(_file("vocab.txt", data))
    except UserError:
        return
    assert sorted(ours.vocab.values()) == list(range(len(ours.vocab)))
    for text in ("今天[MASK]abc ##", data.decode("utf-8", "ignore")):
        ids = ours.convert_tokens_to_ids(ours.tokenize(text))
        assert all(0 <= number < len(ours.vocab) for number in ids)


# ---------------------------------------------------------------------------------------------
# Configurations and what lies beside a model
# ---------------------------------------------------------------------------------------------

def config(data):
    """A JSON file becomes a configuration that can be written and read again, or is refused."""
    try:
        layout, found = layouts.read_config(_file("config.json", data))
    except UserError:
        return
    again = layout.config_class.from_dict(json.loads(found.to_json_string()))
    assert again.to_dict() == found.to_dict()
    assert found.hidden_size % found.num_attention_heads == 0


def classifier_settings(data):
    """classifier.json and labels.txt of a model's folder are read or refused."""
    name, data = _choose(data, ("classifier.json", "labels.txt"))
    folder = _folder_with(name, data)
    try:
        if name == "labels.txt":
            labels = own_data.read_labels(os.path.join(folder, name))
        else:
            settings = inference._classifier_settings(folder)
            labels = settings["labels"] or ()
            assert settings["max_seq_length"] is None or settings["max_seq_length"] > 0
    except UserError:
        return
    assert all(isinstance(label, str) and label for label in labels)
    assert len(set(labels)) == len(labels)


# ---------------------------------------------------------------------------------------------
# Records
# ---------------------------------------------------------------------------------------------

_SIZES = {"sequence": 16, "predictions": 4}
_LIMITS = {"input_ids": 60, "masked_lm_ids": 60, "masked_lm_positions": 16, "segment_ids": 2,
           "next_sentence_labels": 2}


def record(data):
    """A serialised record fits the schema in every point, or is refused."""
    schema, data = _choose(data, (records.PRETRAINING, records.UNMASKED, records.CLASSIFICATION))
    sizes = {"sequence": 16, "predictions": 4} if schema is records.PRETRAINING else {
        "sequence": 16}
    try:
        records.check_record("x", data, schema, sizes, _LIMITS)
    except UserError:
        return
    features = records.tf.train.Example.FromString(data).features.feature
    columns = {field.name: list(features[field.name].int64_list.value
                                or features[field.name].float_list.value) for field in schema}
    assert 1 <= len(columns["input_ids"]) == len(columns["segment_ids"]) <= 16
    assert all(0 <= number < 60 for number in columns["input_ids"])
    for place in columns.get("masked_lm_positions", ()):
        assert 0 <= place < len(columns["input_ids"])


def record_file(data):
    """A file of records is read to its end, or is refused."""
    name, data = _choose(data, ("x.tfrecord", "x.tfrecord.gz"))
    path = _file(name, data)
    try:
        records.check(path, records.CLASSIFICATION, {"sequence": None}, all_records=True)
        columns = records.load(path, records.CLASSIFICATION)
    except UserError:
        return
    assert len(columns["input_ids"]) == records.count([path])


# ---------------------------------------------------------------------------------------------
# Rows of tasks
# ---------------------------------------------------------------------------------------------

_TASK_FILES = (
    ("afqmc", "train.json"), ("tnews", "test.json"), ("csl", "dev.json"), ("wsc", "train.json"),
    ("cmnli", "train.json"), ("iflytek", "test.json"), ("lcqmc", "train.txt"),
    ("xnli", "xnli.dev.tsv"), ("xnli", "multinli/multinli.train.zh.tsv"), ("cola", "train.tsv"),
    ("mnli", "train.tsv"), ("mrpc", "msr_paraphrase_train.txt"))


def task_rows(data):
    """A file of a task gives examples with a label of the task and some text, or is refused."""
    (name, file_name), data = _choose(data, _TASK_FILES)
    task, split = tasks.get(name), "test" if "test" in file_name else (
        "dev" if "dev" in file_name else "train")
    folder = _folder_with(file_name, data)
    try:
        examples = task.read(folder, split)
    except UserError:
        return
    finally:
        shutil.rmtree(folder)
    assert examples
    for example in examples:
        assert example.label in task.labels or (split == "test" and example.label is None)
        assert (example.text_a + (example.text_b or "")).strip()
        (example.text_a + (example.text_b or "")).encode("utf-8")


def choice_files(data):
    """A file of multiple choice gives questions that can be answered, or is refused."""
    (name, split, file_name), data = _choose(data, _CHOICE_FILES)
    folder = _folder_with(file_name, data)
    if file_name == "train_answer.json":
        with open(os.path.join(folder, "train.json"), "w", encoding="utf-8") as stream:
            stream.write('{"content": ["#idiom1#，#idiom2#"], "candidates": ["甲", "乙"]}\n')
    task = tasks.get(name)
    try:
        questions = task.read(folder, split)
    except UserError:
        return
    finally:
        shutil.rmtree(folder)
    assert questions
    for question in questions:
        assert 2 <= len(question.options) <= task.kind.most_options
        "".join((question.text, question.question) + question.options).encode("utf-8")
        assert question.answer is None or 0 <= question.answer < len(question.options)
        assert split == "test" or question.answer is not None
    chosen = task.kind.decide(questions, np.zeros([len(questions), task.kind.most_options]))
    path = _file(task.submission_name, task.kind.submission(questions, chosen).encode("utf-8"))
    if split == "test":
        task.check_submission(questions, path)


_CHOICE_FILES = (("c3", "train", "train.json"), ("c3", "test", "test.json"),
                 ("chid", "test", "test.json"), ("chid", "train", "train_answer.json"))


def own_rows(data):
    """One's own train file gives examples and labels, or is refused."""
    (name, file_name), data = _choose(data, [
        (name, "train" + ending) for name in own_data.NAMES for ending in own_data.SUFFIXES])
    folder = _folder_with(file_name, data)
    try:
        task = own_data.task(name, folder)
        examples = task.read(folder, "train")
    except UserError:
        return
    finally:
        shutil.rmtree(folder)
    assert len(task.labels) >= 2 and len(set(task.labels)) == len(task.labels)
    for example in examples:
        assert example.label in task.labels
        assert (example.text_b is None) == (name == "sentence")
    own_data.read_labels(_file("labels.txt", "".join(
        label + "\n" for label in task.labels).encode("utf-8")))


def pairs(data):
    """A file of sentence pairs is read, or is refused."""
    try:
        found = similarity.read_pairs(_file("pairs.tsv", data))
    except UserError:
        return
    assert found and all(len(pair) == 2 for pair in found)


def corpora(data):
    """A corpus gives the same documents in one piece and in many, or is refused in both."""
    kind, data = _choose(data, ("corpus",) + raw_text.FORMATS)
    path = _file("corpus.txt", data)

    def read(piece_bytes):
        pieces = corpus.plan_pieces([path], piece_bytes)
        if kind == "corpus":
            return [document.lines for document in corpus.read_documents(pieces)]
        reading = raw_text.Reading("text", "title", raw_text.ENDS_DOCUMENT, False)
        return [document.lines for piece in pieces for document in raw_text.read_documents(
            piece, kind, reading, raw_text.Tally())]

    if not data:
        return
    found = []
    for piece_bytes in (1 << 20, 7):
        try:
            found.append(read(piece_bytes))
        except UserError:
            found.append(None)
    assert found[0] == found[1]


# ---------------------------------------------------------------------------------------------
# Submissions and archives
# ---------------------------------------------------------------------------------------------

def submission_file(data):
    """A prediction file that passes holds just what CLUE wants, line by line."""
    name, data = _choose(data, ("afqmc", "tnews", "wsc"))
    task = tasks.get(name)
    examples = _once(("examples", name),
                     lambda: task.read(os.path.join(SAMPLES, name), "test")[:3])
    path = _file(task.submission_name, data)
    try:
        tasks.check_submission(task, examples, path)
    except UserError:
        return
    lines = data.decode("utf-8").rstrip("\n").split("\n")
    assert len(lines) == len(examples)
    for line, example in zip(lines, examples):
        row = json.loads(line)
        assert row["id"] == example.id and row["label"] in task.labels
        # No second spelling of a key: which one counts would be the reader's choice.
        keys = [key for key, _ in json.loads(line, object_pairs_hook=list)]
        assert sorted(keys) == sorted(row)
    submission.pack([path], os.path.join(_FOLDER, "submission.zip"))


def archive(data):
    """An archive is unpacked into its folder and nowhere else, or is refused."""
    path = _file("archive.zip", data)
    folder = os.path.join(_FOLDER, "unpacked")
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    before = set(os.listdir(_FOLDER))
    entry = download.Archive(
        "model", "a model", "archive.zip", ["http://127.0.0.1/"], "http://127.0.0.1/", "",
        ["vocab.txt"], {}, None, None, None, 1, 1 << 20, 1 << 20)
    try:
        names = download._unpack(entry, path, folder)
    except (UserError, download._BadArchiveError):
        names = None
    assert set(os.listdir(_FOLDER)) == before
    total = 0
    for root, folders, found in os.walk(folder):
        for name in folders + found:
            assert not os.path.islink(os.path.join(root, name))
        total += sum(os.path.getsize(os.path.join(root, name)) for name in found)
    assert total <= 1 << 20
    if names is not None:
        assert "vocab.txt" in names and os.path.isfile(os.path.join(folder, "vocab.txt"))


def downloads(data):
    """A downloads file is read, with every field of its kind, or is refused."""
    try:
        found = download.read_downloads(_file("downloads.json", data))
    except UserError:
        return
    for entry in found.values():
        assert entry.required and entry.mirrors and "/" not in entry.archive
        assert download._addresses(entry, ())


def json_documents(data):
    """JSON is read as Python reads it, or is refused."""
    path = _file("x.json", data)
    for read in (files.read_json, lambda path: list(files.read_json_lines(path))):
        try:
            read(path)
        except UserError:
            continue


TARGETS = collections.OrderedDict((target.__name__, target) for target in (
    tokenizer, vocabulary, config, classifier_settings, record, record_file, task_rows,
    choice_files, own_rows, pairs, corpora, submission_file, archive, downloads, json_documents))


# ---------------------------------------------------------------------------------------------
# Where the search starts
# ---------------------------------------------------------------------------------------------

def seeds(name):
    """Returns sound inputs of a target, list of bytes."""
    return [bytes(data) for data in _SEEDS[name]()]


def _sample(path, lines=4):
    with open(os.path.join(ROOT, path), "rb") as stream:
        return b"".join(stream.readline() for _ in range(lines))


def _serialized(schema):
    rows = {"input_ids": [2, 7, 3, 9, 3], "input_mask": [1] * 5, "segment_ids": [0, 0, 0, 1, 1],
            "masked_lm_positions": [1, 3], "masked_lm_ids": [7, 9], "masked_lm_weights": [1., 1.],
            "next_sentence_labels": [0], "word_starts": [0, 1, 0, 1, 0], "label_ids": [1],
            "is_real_example": [1]}
    return records.encode(schema, {field.name: rows[field.name] for field in schema})


def _record_files():
    for number, name in enumerate(("x.tfrecord", "x.tfrecord.gz")):
        path = os.path.join(_FOLDER, "seed-" + name)
        import record_bytes
        record_bytes.write(path, [_serialized(records.CLASSIFICATION)] * 2)
        with open(path, "rb") as stream:
            yield bytes([number]) + stream.read()


def _zip():
    path = os.path.join(_FOLDER, "seed.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("albert/vocab.txt", "[PAD]\n[UNK]\n" * 9)
        zipped.writestr("albert/checkpoint", "model_checkpoint_path: \"x\"\n")
    with open(path, "rb") as stream:
        return stream.read()


def _task_seeds():
    for number, (name, file_name) in enumerate(_TASK_FILES):
        path = os.path.join("data", "clue_sample", name, file_name)
        if os.path.exists(os.path.join(ROOT, path)):
            yield bytes([number]) + _sample(path)
    for number, text in (
            (7, "zh\tneutral\t\t\t\t\t前\t后\t\nen\tneutral\t\t\t\t\ta\tb\t\n"),
            (8, "premise\thypo\tlabel\n前\t后\tentailment\n"), (9, "a\t1\t\tA text.\n"),
            (10, "sentence1\tsentence2\tgold_label\na\tb\tneutral\n"),
            (11, "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t2\t3\ta\tb\n")):
        yield bytes([number]) + text.encode("utf-8")


def _choice_seeds():
    entry = '[[["今天很好。"], [{"question": "好吗", "choice": ["好", "坏"], %s}], "m-1"]]'
    for number, text in enumerate((
            entry % '"answer": "好"', entry % '"id": 7',
            '{"content": ["#idiom1#，#idiom2#"], "candidates": ["甲", "乙", "丙"]}\n',
            '{"#idiom1#": 0, "#idiom2#": 1}')):
        yield bytes([number]) + text.encode("utf-8")


def _own_seeds():
    table = "text_a\ttext_b\tlabel\n好\t坏\t1\n坏\t好\t0\n"
    rows = '{"text_a": "好", "text_b": "坏", "label": %d}\n'
    for number in range(10):
        ending = own_data.SUFFIXES[number % 5]
        text = table if ending in (".tsv", ".txt") else table.replace("\t", ",")
        if "json" in ending:
            text = rows % 0 + rows % 1
        yield bytes([number]) + text.encode("utf-8")


def _submission_seeds():
    for number, name in enumerate(("afqmc", "tnews", "wsc")):
        task = tasks.get(name)
        examples = task.read(os.path.join(SAMPLES, name), "test")[:3]
        text = "".join(task.submission_line(example, task.labels[0]) + "\n"
                       for example in examples)
        yield bytes([number]) + text.encode("utf-8")


_SEEDS = {
    "tokenizer": lambda: [b"\0" + "今天Ça va, ΑΣ 1,299.00 [MASK]".encode("utf-8"), b"\1ab\xff"],
    "vocabulary": lambda: ["\n".join(tokenization.WORDPIECE_SPECIALS + ("今", "##今", "a", "\u2028")
                                     ).encode("utf-8") + b"\n"],
    "config": lambda: [_sample("albert_config/albert_config_tiny.json", 99),
                       _sample("albert_config/albert_config_tiny_google.json", 99)],
    "classifier_settings": lambda: [
        b'\0{"labels": ["0", "1"], "max_seq_length": 128, "do_lower_case": true, '
        b'"use_pooled_output": true, "truncate": "head"}', "\1好\n坏\n".encode("utf-8")],
    "record": lambda: [bytes([number]) + _serialized(schema) for number, schema in enumerate(
        (records.PRETRAINING, records.UNMASKED, records.CLASSIFICATION))],
    "record_file": _record_files,
    "task_rows": _task_seeds,
    "choice_files": _choice_seeds,
    "own_rows": _own_seeds,
    "pairs": lambda: ["好\t坏\n天\t地\n".encode("utf-8")],
    "corpora": lambda: [
        b"\0" + _sample("data/news_zh_1.txt", 9), b"\1" + _sample("data/news_zh_1.txt", 9),
        "\2{\"text\": \"好\\n坏\", \"title\": \"天\"}\n".encode("utf-8"),
        "\3<doc id=\"1\">\n好。\n</doc>\n<doc id=\"2\">\n坏。\n</doc>\n".encode("utf-8")],
    "submission_file": _submission_seeds,
    "archive": lambda: [_zip()],
    "downloads": lambda: [_sample("data/downloads.json", 9999)],
    "json_documents": lambda: [b'{"a": [1, 2.5e3, null, true, "\\u4e00"]}\n{"b": {}}\n']}
