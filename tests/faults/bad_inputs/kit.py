"""Sound inputs of every kind, small, that bad ones are made of."""

import io
import json
import os
import shutil
import struct
import sys
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(os.path.dirname(HERE))
ROOT = os.path.dirname(TESTS)

TEXT = "今天天气很好。\n我们去公园。\n\n明天下雨。\n我们在家看书。\n"
CHARACTERS = "今天气很好我们去公园明下雨在家看书。，的一是了人不有这来上大"


def make(folder):
    """Fills a folder with the inputs; uses TensorFlow, so no process may be forked after it."""
    sys.path[:0] = [TESTS, ROOT]
    import helpers
    import reference
    import runtime  # noqa: F401 - before TensorFlow
    import heads
    import modeling
    import modeling_google
    import record_bytes
    import records

    def path(*names):
        found = os.path.join(folder, *names)
        os.makedirs(os.path.dirname(found), exist_ok=True)
        return found

    # ---- configurations, vocabulary
    write(path("config.json"), json.dumps(helpers.TINY))
    write(path("google.json"), json.dumps(helpers.TINY_GOOGLE))
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list(CHARACTERS)
    entries += ["[unused%d]" % number for number in range(60 - len(entries))]
    write(path("vocab.txt"), "".join(entry + "\n" for entry in entries))

    # ---- checkpoints: fine-tuned, pre-trained, of both layouts
    zh = modeling.BertConfig.from_dict(helpers.TINY)
    google = modeling_google.AlbertConfig.from_dict(helpers.TINY_GOOGLE)
    for name, config, model_class, classes in (
            ("model", zh, modeling.BertModel, 2), ("pretrained", zh, modeling.BertModel, 0),
            ("google", google, modeling_google.AlbertModel, 2),
            ("three", zh, modeling.BertModel, 3)):
        shapes = (heads.classifier_variable_shapes(config, model_class, classes) if classes
                  else modeling.pretraining_variable_shapes(config, model_class))
        helpers.write_checkpoint(path(name, "model.ckpt"), reference.initial_values(shapes))
        write(path(name, "albert_config.json"), config.to_json_string())
        shutil.copy(path("vocab.txt"), path(name, "vocab.txt"))
        if classes:
            labels = [str(number) for number in range(classes)]
            write(path(name, "labels.txt"), "".join(label + "\n" for label in labels))
            write(path(name, "classifier.json"), json.dumps(
                {"labels": labels, "max_seq_length": 16, "do_lower_case": True,
                 "use_pooled_output": True, "truncate": "head"}))

    # ---- records
    rows = helpers.pretraining_rows(6)
    record_bytes.write(path("x.tfrecord"), [
        records.encode(records.PRETRAINING, row) for row in rows])
    record_bytes.write(path("x.tfrecord.gz"), [
        records.encode(records.PRETRAINING, row) for row in rows])
    with io.open(path("rows.json"), "w") as stream:
        json.dump([{name: [float(one) if name == "masked_lm_weights" else int(one)
                           for one in value] for name, value in row.items()}
                   for row in rows], stream)
    record_bytes.write(path("dynamic", "x.tfrecord"), [records.encode(records.UNMASKED, {
        "input_ids": [2, 7, 8, 3, 9, 3], "segment_ids": [0, 0, 0, 0, 1, 1],
        "word_starts": [0, 1, 1, 0, 1, 0], "next_sentence_labels": [0]})] * 4)
    write(path("dynamic", "x.json"), json.dumps({"masking": {
        "whole_words": True, "share": 0.15, "most_predictions": 3, "max_ngram": 1, "mask_id": 4,
        "ordinary_ids": [[5, 59]], "vocab_size": 60, "twins": None}}))
    record_bytes.write(path("classes.tfrecord"), [records.encode(records.CLASSIFICATION, {
        "input_ids": [2, 7, 3], "input_mask": [1, 1, 1], "segment_ids": [0, 0, 0],
        "label_ids": [1], "is_real_example": [1]})])

    # ---- rows of tasks, text, predictions
    for task in ("afqmc", "tnews", "wsc", "csl"):
        for split in ("train", "dev", "test"):
            source = os.path.join(ROOT, "data", "clue_sample", task, split + ".json")
            with io.open(source, encoding="utf-8") as stream:
                lines = [line for _, line in zip(range(6), stream)]
            write(path(task, split + ".json"), "".join(lines))
    for split in ("train", "dev", "test"):
        write(path("lcqmc", split + ".txt"), "今天好\t今天很好\t1\n去公园\t在家看书\t0\n" * 3)
        write(path("own", split + ".tsv"), "text\tlabel\n今天好\t好\n明天下雨\t坏\n今天很好\t好\n")
    write(path("corpus.txt"), TEXT * 8)
    write(path("pairs.tsv"), "今天好\t明天好\n去公园\t在家\n")
    with io.open(path("afqmc", "test.json"), encoding="utf-8") as stream:
        ids = [json.loads(line)["id"] for line in stream]
    write(path("afqmc_predict.json"), "".join(
        '{"id": %s, "label": "%d"}\n' % (json.dumps(one), place % 2)
        for place, one in enumerate(ids)))
    with zipfile.ZipFile(path("model.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/vocab.txt", "[PAD]\n" * 300)


# ---------------------------------------------------------------------------------------------
# Making bad ones of them
# ---------------------------------------------------------------------------------------------

def write(path, content):
    """Writes text as UTF-8, or bytes; makes folders."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with io.open(path, "wb") as stream:
        stream.write(content if isinstance(content, bytes) else content.encode("utf-8"))


def read(path):
    with io.open(path, "rb") as stream:
        return stream.read()


def file(name, content):
    """Returns a `make` of one file, by its name below the row's folder."""
    return lambda here, kit: write(os.path.join(here, name), content)


def both(*makes):
    """Returns a `make` that does what several do."""
    return lambda here, kit: [make_one(here, kit) for make_one in makes]


def changed(name, change):
    """Returns a `make` of a file of the kit whose content a function has changed."""
    return lambda here, kit: write(os.path.join(here, name), change(read(os.path.join(kit, name))))


def copy(source, target=None):
    """Returns a `make` of a file of the kit under another name."""
    return lambda here, kit: write(os.path.join(here, target or source),
                                   read(os.path.join(kit, source)))


def folder(source, name, change):
    """Returns a `make` of a folder of the kit, one of whose files is changed: see `model`."""
    return model({name: change}, source, source)


def model(changes, source="model", target="model"):
    """Returns a `make` that copies a folder of the kit and changes it.

    changes: {name of a file in it: function of its bytes, new content, or None to remove it}.
    """
    def make_files(here, kit):
        shutil.copytree(os.path.join(kit, source), os.path.join(here, target))
        for name, change in changes.items():
            path = os.path.join(here, target, name)
            if change is None:
                os.remove(path)
            else:
                write(path, change(read(path)) if callable(change) else change)

    return make_files


def task(split, change, source="afqmc", ending=".json"):
    """Returns a `make` that copies a task's folder as `data` and changes the file of a split.

    change: function of the file's lines (list of bytes without line ends) to others, or content.
    """
    def make_files(here, kit):
        folder = os.path.join(here, "data")
        shutil.copytree(os.path.join(kit, source), folder)
        path = os.path.join(folder, split + ending)
        if callable(change):
            write(path, b"\n".join(change(read(path).rstrip(b"\n").split(b"\n"))) + b"\n")
        else:
            write(path, change)

    return make_files


def row_with(**fields):
    """Returns a change for `task`: the second row gets other fields (None: it loses one)."""
    def change(lines):
        row = json.loads(lines[1].decode("utf-8"))
        for name, value in fields.items():
            if value is None:
                row.pop(name, None)
            else:
                row[name] = value
        return [lines[0], json.dumps(row).encode("ascii")] + lines[2:]

    return change


def second_line(text):
    """Returns a change for `task`: the second line becomes another."""
    content = text if isinstance(text, bytes) else text.encode("utf-8")
    return lambda lines: [lines[0], content] + lines[2:]


def records_of(*serialized):
    """Returns a `make` of x.tfrecord with these bytes as records."""
    def make_file(here, kit):
        import record_bytes
        del kit
        record_bytes.write(os.path.join(here, "x.tfrecord"), serialized)

    return make_file


def record_with(number=0, **fields):
    """Returns a `make` of x.tfrecord, one of whose records has other fields (None: lacks one)."""
    def make_files(here, kit):
        import record_bytes
        import records
        with io.open(os.path.join(kit, "rows.json")) as stream:
            rows = json.load(stream)
        rows[number].update(fields)
        schema = [field for field in records.PRETRAINING
                  if rows[number].get(field.name) is not None]
        serialized = [records.encode(schema if place == number else records.PRETRAINING, row)
                      for place, row in enumerate(rows)]
        record_bytes.write(os.path.join(here, "x.tfrecord"), serialized)

    return make_files


def cut(share):
    """Returns a change that keeps the first part of a file."""
    return lambda data: data[:int(len(data) * share)]


def flip(place):
    """Returns a change of one byte; place: from the start, or, negative, from the end."""
    def change(data):
        data = bytearray(data)
        data[place] ^= 0x55
        return bytes(data)

    return change


def first_lengths_of_records(data):
    """Returns where the parts of a file's first record begin: its checksum, content, checksum."""
    size, = struct.unpack("<Q", data[:8])
    return 8, 12, 12 + size
