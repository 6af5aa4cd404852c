"""create_pretraining_data.py: records, files, workers, restarts and bad input."""

import collections
import filecmp
import gc
import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

import corpus
import create_pretraining_data as cpd
import files
import record_making
import records
import staging
import workers
from errors import UserError

import tensorflow.compat.v1 as tf

# Each document has sentences of its own numbers, so that any stretch of text tells its origin.
NOUNS = ["图书馆", "运动会", "博物馆", "火车站", "天安门", "计算机", "电影院", "大学生"]
VERBS = ["参观", "讨论", "研究", "建设", "介绍", "学习", "支持", "发展"]


def invented_text(documents=30, sentences=12, seed=1):
    rng = random.Random(seed)
    lines = []
    for document in range(documents):
        for sentence in range(rng.randint(2, sentences)):
            clauses = ["第%d个%s正在%s%s" % (document * 100 + sentence, rng.choice(NOUNS),
                                         rng.choice(VERBS), rng.choice(NOUNS))
                       for _ in range(rng.randint(1, 4))]
            lines.append("，".join(clauses) + "。")
        lines.append("")
    return "\n".join(lines)


@pytest.fixture
def settings(tmp_path, vocab_file):
    text = tmp_path / "corpus.txt"
    text.write_bytes(invented_text().encode("utf-8"))
    (tmp_path / "out").mkdir()
    return cpd.Settings(str(text), str(tmp_path / "out" / "x.tfrecord"), vocab_file,
                        dupe_factor=2, num_workers=1, max_seq_length=64,
                        max_predictions_per_seq=10, do_whole_word_mask=True)


@pytest.fixture
def many_pieces(monkeypatch):
    """Makes the small corpus many pieces."""
    monkeypatch.setattr(corpus, "PIECE_BYTES", 1000)
    monkeypatch.setattr(corpus, "MOST_PIECES", 1)
    monkeypatch.setattr(corpus, "MOST_PIECE_BYTES", 1000)


def read_records(paths):
    found = []
    for path in paths:
        for serialized in records.read(path):
            example = tf.train.Example.FromString(serialized)
            found.append({name: list(feature.int64_list.value or feature.float_list.value)
                          for name, feature in example.features.feature.items()})
    return found


# ---------------------------------------------------------------------------------------------
# Records, files, workers
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("pad_records", [False, True])
def test_records_have_the_known_keys(settings, pad_records):
    summary = cpd.create(settings._replace(pad_records=pad_records))
    (path,) = summary["outputs"]
    records.check(path, records.PRETRAINING, {"sequence": 64, "predictions": 10})
    found = read_records([path])
    tokens = sum(sum(record["input_mask"]) for record in found)
    masked = sum(sum(record["masked_lm_weights"]) for record in found)
    swapped = sum(record["next_sentence_labels"][0] for record in found)
    assert summary["instances"] == len(found)
    assert summary["mean_length"] == round(tokens / float(len(found)), 2)
    assert summary["padding_share"] == pytest.approx(1 - tokens / (64.0 * len(found)), abs=1e-6)
    assert summary["masked_share"] == pytest.approx(masked / tokens, abs=1e-6)
    assert summary["swapped_share"] == pytest.approx(swapped / float(len(found)), abs=1e-6)
    assert summary["documents"] == 30 and summary["skipped_documents"] == 0
    for record in found:
        length = sum(record["input_mask"])
        assert set(record) == {field.name for field in records.PRETRAINING}
        padding = [0] * (64 - length) if pad_records else []
        assert record["input_mask"] == [1] * length + padding
        assert record["input_ids"][length:] == padding
        first = record["input_ids"].index(102) + 1
        assert record["segment_ids"] == [0] * first + [1] * (length - first) + padding
        number = int(sum(record["masked_lm_weights"]))
        unused = [0] * (10 - number) if pad_records else []
        assert record["masked_lm_weights"] == [1.0] * number + unused
        assert record["masked_lm_positions"][number:] == unused
        assert record["masked_lm_ids"][number:] == unused
    with open(os.path.join(os.path.dirname(path), "x.json"), encoding="utf-8") as stream:
        assert json.load(stream) == json.loads(json.dumps(summary))
    assert sorted(os.listdir(os.path.dirname(path))) == ["x.json", "x.tfrecord"]


def test_records_are_the_same_on_every_runtime(settings):
    # Both runtimes must give this digest. It changes with the vocabulary, jieba's dictionary or
    # the meaning of a draw; a change of that kind belongs in CHANGELOG.md.
    cpd.create(settings._replace(max_ngram=2, pad_records=True))
    with open(settings.output_file, "rb") as stream:
        assert hashlib.sha256(stream.read()).hexdigest() == DIGEST


DIGEST = "7dfc17f2ce9c6f2892ed3b736c638ae4b0da5cb432a3cc21e4b8e0ca652b34f0"


def test_padding_is_all_that_pad_records_adds(settings):
    cpd.create(settings)
    plain = read_records([settings.output_file])
    cpd.create(settings._replace(pad_records=True, overwrite=True))
    padded = read_records([settings.output_file])
    assert len(plain) == len(padded)
    for short, full in zip(plain, padded):
        assert all(full[name][:len(value)] == value and not any(full[name][len(value):])
                   for name, value in short.items())


@pytest.mark.parametrize("changes", [
    {"num_workers": 2}, {"num_workers": 4}, {"segmenter": "jieba"}, {"num_shards": 3}])
def test_records_do_not_depend_on_how_they_are_made(settings, tmp_path, many_pieces, changes):
    pieces = corpus.plan_pieces([settings.input_file])
    assert len(pieces) > 5
    cpd.create(settings)
    other = settings._replace(output_file=str(tmp_path / "other" / "x.tfrecord"), **changes)
    summary = cpd.create(other)
    assert [record for path in summary["outputs"] for record in records.read(path)] == list(
        records.read(settings.output_file))


def test_records_do_not_depend_on_pieces_and_units(settings, tmp_path, monkeypatch):
    cpd.create(settings)
    monkeypatch.setattr(corpus, "PIECE_BYTES", 777)
    monkeypatch.setattr(corpus, "MOST_PIECES", 10 ** 6)
    monkeypatch.setattr(record_making, "UNIT_CHARACTERS", 300)
    other = settings._replace(output_file=str(tmp_path / "other" / "x.tfrecord"))
    cpd.create(other)
    assert filecmp.cmp(settings.output_file, other.output_file, shallow=False)


def test_another_seed_gives_other_records(settings, tmp_path):
    cpd.create(settings)
    other = settings._replace(output_file=str(tmp_path / "o" / "x.tfrecord"), random_seed=7)
    cpd.create(other)
    both = [set(records.read(one.output_file)) for one in (settings, other)]
    assert len(both[0] & both[1]) < 0.1 * len(both[0])


def test_records_are_shuffled(settings):
    summary = cpd.create(settings._replace(dupe_factor=1))
    # The sentences are numbered by document: 第%d个.
    order = []
    vocabulary = files.read_lines(settings.vocab_file)
    tokens = {number - 1: token for number, token in vocabulary}
    for record in read_records(summary["outputs"]):
        digits = "".join(tokens[i] if tokens[i].isdecimal() else " "
                         for i in record["input_ids"]).split()
        order.append(max(map(int, digits)) // 100 if digits else 0)
    in_a_row = sum(one == other for one, other in zip(order, order[1:]))
    assert len(order) > 60 and in_a_row < 0.25 * len(order)


def test_compressed_input_and_output(settings, tmp_path):
    cpd.create(settings)
    packed = tmp_path / "corpus.txt.gz"
    with open(settings.input_file, "rb") as stream:
        packed.write_bytes(gzip.compress(stream.read()))
    summary = cpd.create(settings._replace(input_file=str(packed), compression="gzip",
                                           output_file=str(tmp_path / "packed")))
    assert summary["outputs"] == [str(tmp_path / "packed.tfrecord.gz")]
    assert list(records.read(summary["outputs"][0])) == list(records.read(settings.output_file))
    assert os.path.getsize(summary["outputs"][0]) < 0.5 * os.path.getsize(settings.output_file)


def test_shards_of_a_size(settings):
    summary = cpd.create(settings._replace(shard_megabytes=0.02, dupe_factor=4))
    sizes = [os.path.getsize(path) for path in summary["outputs"]]
    assert len(sizes) > 3 and max(sizes) < 22000
    assert summary["outputs"][0].endswith("x-00000-of-%05d.tfrecord" % len(sizes))
    assert sum(1 for path in summary["outputs"] for _ in records.read(path)) == summary["instances"]


def test_dynamic_masking_writes_each_instance_once_unmasked(settings, tmp_path):
    static = cpd.create(settings._replace(dupe_factor=1))
    summary = cpd.create(settings._replace(masking="dynamic", dupe_factor=10,
                                           output_file=str(tmp_path / "d.tfrecord")))
    found = read_records(summary["outputs"])
    assert summary["instances"] == len(found) and summary["masked_share"] == 0
    assert 0.9 < len(found) / float(static["instances"]) < 1.1
    for record in found:
        assert set(record) == {field.name for field in records.UNMASKED}
        assert 103 not in record["input_ids"] and record["word_starts"][0] == 0
        first = record["segment_ids"].count(0)
        assert record["word_starts"][1] == record["word_starts"][first] == 1
        assert record["word_starts"][first - 1] == record["word_starts"][-1] == 0


# ---------------------------------------------------------------------------------------------
# Workers and restarts
# ---------------------------------------------------------------------------------------------

def test_spawned_workers_give_the_same_results(settings, many_pieces):
    pieces = corpus.plan_pieces([settings.input_file])
    spawned = list(workers.run_jobs(corpus.survey, pieces, 2, start_method="spawn"))
    assert gc.get_freeze_count() == 0  # what was kept from the collector is its own again
    assert sorted(spawned) == sorted((piece, corpus.survey(piece)) for piece in pieces)


def test_a_killed_worker_ends_the_run_with_a_message_and_keeps_what_is_finished(
        settings, tmp_path, monkeypatch, many_pieces):
    cpd.create(settings)
    make, folder = record_making.RecordMaker.make, tmp_path / "other"

    def fatal(self, documents):
        if documents[0].offset > 3000:
            os.kill(os.getpid(), signal.SIGKILL)
        return make(self, documents)

    other = settings._replace(output_file=str(folder / "x.tfrecord"), num_workers=2)
    monkeypatch.setattr(record_making.RecordMaker, "make", fatal)
    with pytest.raises(UserError, match="worker process was killed.*--num_workers=1"):
        cpd.create(other)
    assert os.listdir(str(folder)) == [".x.records.unfinished"]
    made = []
    monkeypatch.setattr(record_making.RecordMaker, "make",
                        lambda self, documents: made.append(documents) or make(self, documents))
    cpd.create(other._replace(num_workers=1))
    assert min(documents[0].offset for documents in made) > 0
    assert sorted(os.listdir(str(folder))) == ["x.json", "x.tfrecord"]
    assert filecmp.cmp(settings.output_file, other.output_file, shallow=False)


def test_an_error_in_a_worker_arrives(settings, monkeypatch, many_pieces):
    def fail(self, documents):
        raise UserError("the document at %d is bad" % documents[0].offset)

    monkeypatch.setattr(record_making.RecordMaker, "make", fail)
    with pytest.raises(UserError, match="the document at .* is bad"):
        cpd.create(settings._replace(num_workers=2))
    assert not files.exists(settings.output_file)


def stop_at(monkeypatch, place):
    """Has a run end, as if killed, when it is about to do something the n-th time."""
    module, name, times = place
    counts, whole = collections.Counter(), getattr(module, name)

    def stop(*arguments):
        counts[name] += 1
        if counts[name] == times:
            raise Killed()
        return whole(*arguments)

    monkeypatch.setattr(module, name, stop)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("place", [
    (corpus, "survey", 3), (cpd, "make_spill", 4), (cpd, "write_shard", 2),
    (cpd, "put_into_place", 1), (cpd, "summarize", 1), (staging, "remove", 1)])
def test_a_run_that_was_killed_goes_on(settings, tmp_path, monkeypatch, many_pieces, place):
    settings = settings._replace(num_shards=3)
    expected = cpd.create(settings)
    other = settings._replace(output_file=str(tmp_path / "other" / "x.tfrecord"))
    with monkeypatch.context() as patch:
        stop_at(patch, place)
        with pytest.raises(Killed):
            cpd.create(other)
    found = cpd.create(other)
    for one, two in zip(expected["outputs"], found["outputs"]):
        assert filecmp.cmp(one, two, shallow=False)
    same = ("documents", "instances", "mean_length", "masked_share", "swapped_share")
    assert [found[name] for name in same] == [expected[name] for name in same]
    assert len(os.listdir(str(tmp_path / "other"))) == 4


def test_an_unfinished_run_with_other_settings_is_not_mixed_in(settings, monkeypatch, many_pieces):
    with monkeypatch.context() as patch:
        stop_at(patch, (cpd, "make_spill", 4))
        with pytest.raises(Killed):
            cpd.create(settings)
    changed = settings._replace(max_seq_length=32)
    with pytest.raises(UserError, match="another max_seq_length lies in .*x.records.unfinished"):
        cpd.create(changed)
    with open(settings.input_file, "ab") as stream:
        stream.write("\n新的。\n又一句。\n".encode("utf-8"))
    with pytest.raises(UserError, match="another inputs lies in"):
        cpd.create(settings)
    summary = cpd.create(changed._replace(overwrite=True))
    assert summary["documents"] == 31
    assert max(len(record["input_ids"]) for record in read_records(summary["outputs"])) <= 32


def test_two_runs_do_not_write_to_one_output(settings):
    work = cpd.work_folder(cpd.plan_outputs(settings.output_file))
    with staging.locked(work, "output_file"):
        with pytest.raises(UserError, match="another run is writing to the same --output_file"):
            cpd.create(settings)
    cpd.create(settings)


def test_no_tensorflow_is_loaded(root, settings):
    done = run([sys.executable, "-c", "import sys; sys.path.insert(0, %r)\n"
                "import create_pretraining_data as cpd\n"
                "cpd.create(cpd.Settings(%r, %r, %r, num_workers=1, do_whole_word_mask=True))\n"
                "assert 'tensorflow' not in sys.modules" % (
                    root, settings.input_file, settings.output_file, settings.vocab_file)])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name, shards, expected", [
    ("x.tfrecord", 1, ["x.tfrecord"]),
    ("x", 1, ["x.tfrecord"]),
    ("x.tfrecord", 3, ["x-00000-of-00003.tfrecord", "x-00001-of-00003.tfrecord",
                       "x-00002-of-00003.tfrecord"]),
    ("x.tfrecord, y.tfrecord", 1, ["x.tfrecord", "y.tfrecord"]),
])
def test_names_of_shards(settings, name, shards, expected):
    folder = os.path.dirname(settings.output_file)
    names = ",".join(os.path.join(folder, part.strip()) for part in name.split(","))
    summary = cpd.create(settings._replace(output_file=names, num_shards=shards))
    assert sorted(os.listdir(folder)) == sorted(expected + ["x.json"])
    sizes = [len(read_records([os.path.join(folder, name)])) for name in expected]
    assert sum(sizes) == summary["instances"] and max(sizes) - min(sizes) <= 1


def test_an_earlier_run_is_refused_then_replaced_as_a_whole(settings, capsys):
    folder = os.path.dirname(settings.output_file)
    cpd.create(settings._replace(num_shards=3))
    bystander = os.path.join(folder, "x-more.tfrecord")
    shutil.copy(os.path.join(folder, "x-00000-of-00003.tfrecord"), bystander)
    before = {name: os.stat(os.path.join(folder, name)).st_mtime_ns for name in os.listdir(folder)}
    for shards in (1, 2, 3):
        with pytest.raises(UserError, match="--overwrite=True"):
            cpd.create(settings._replace(num_shards=shards))
    assert before == {name: os.stat(os.path.join(folder, name)).st_mtime_ns
                      for name in os.listdir(folder)}
    cpd.create(settings._replace(num_shards=1, overwrite=True))
    assert sorted(os.listdir(folder)) == ["x-more.tfrecord", "x.json", "x.tfrecord"]
    assert "removing" in capsys.readouterr().err
    with open(os.path.join(folder, "x.json"), encoding="utf-8") as stream:
        assert json.load(stream)["outputs"] == [settings.output_file]


def test_records_that_no_run_is_known_to_have_made_are_never_removed(settings, capsys):
    folder = os.path.dirname(settings.output_file)
    mine = os.path.join(folder, "x-00000-of-00002.tfrecord")
    for _ in range(2):  # without a report, and with one that does not list it
        files.write_text(mine, "mine")
        with pytest.raises(UserError, match="x-00000-of-00002.tfrecord would be taken for a"):
            cpd.create(settings._replace(overwrite=True))
        with open(mine) as stream:
            assert stream.read() == "mine"
        os.remove(mine)
        cpd.create(settings._replace(overwrite=True))
    # The file that is named is meant to go, whoever made it.
    os.remove(os.path.join(folder, "x.json"))
    cpd.create(settings._replace(overwrite=True))


def test_a_file_of_the_users_in_the_summarys_place_is_kept(settings):
    own = os.path.join(os.path.dirname(settings.output_file), "x.json")
    with open(own, "w") as stream:
        stream.write('{"text": "mine"}')
    with pytest.raises(UserError, match="file of another kind"):
        cpd.create(settings._replace(overwrite=True))
    with open(own) as stream:
        assert stream.read() == '{"text": "mine"}'


# ---------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("changes, message", [
    ({"max_seq_length": 4}, "--max_seq_length=4 must be 5 to"),
    ({"max_predictions_per_seq": 0}, "--max_predictions_per_seq=0 must be 1 to"),
    ({"max_predictions_per_seq": 64}, "must be less than --max_seq_length=64"),
    ({"dupe_factor": 0}, "--dupe_factor=0"),
    ({"masked_lm_prob": 0.0}, "--masked_lm_prob=0.0"),
    ({"masked_lm_prob": 15.0}, "--masked_lm_prob=15.0"),
    ({"short_seq_prob": -0.1}, "--short_seq_prob=-0.1"),
    ({"short_seq_prob": float("nan")}, "--short_seq_prob=nan"),
    ({"num_workers": -2}, "--num_workers=-2"),
    ({"num_shards": 0}, "--num_shards=0"),
    ({"num_shards": 5000}, "cannot fill 5000 shards"),
    ({"max_ngram": 0}, "--max_ngram=0"),
    ({"prefixed_word_labels": True, "non_chinese": True}, "--prefixed_word_labels"),
    ({"shard_megabytes": 1.0, "num_shards": 2}, "--shard_megabytes"),
    ({"shard_megabytes": 1e-7}, "less than a kilobyte"),
    ({"shard_megabytes": 1.0, "output_file": None}, "--output_file is missing"),
    ({"masking": "dynamic", "pad_records": True}, "--pad_records"),
    ({"masking": "dynamic", "output_file": "{folder}/a.tfrecord,{folder}/b.tfrecord",
      "num_shards": 1}, "give one name"),
    ({"masking": "dynamic", "output_file": "{folder}/a-00000-of-00002.tfrecord"}, "give one name"),
    ({"input_file": None}, "--input_file is missing"),
    ({"input_file": "/no/such/*.txt"}, "no file matches /no/such"),
    ({"output_file": None}, "--output_file is missing"),
    ({"output_file": "{folder}"}, "is a folder"),
    ({"output_file": "{folder}/.tfrecord"}, "has no name"),
    ({"output_file": "{folder}/a.tfrecord,{folder}/a.tfrecord"}, "twice"),
    ({"output_file": "{folder}/a.tfrecord,{folder}/b.tfrecord", "num_shards": 3}, "does not fit"),
    ({"output_file": "{corpus}/x.tfrecord"}, "cannot be written to"),
    ({"vocab_file": None}, "--vocab_file is missing"),
    ({"vocab_file": "/no/such/vocab.txt"}, "--vocab_file=/no/such/vocab.txt does not exist"),
    ({"vocab_file": "{corpus}"}, "repeats the entry|lacks the special"),
])
def test_bad_settings_are_named(settings, changes, message):
    folder = os.path.dirname(settings.output_file)
    changes = {name: value.format(folder=folder, corpus=settings.input_file)
               if isinstance(value, str) else value for name, value in changes.items()}
    with pytest.raises(UserError, match=message):
        cpd.create(settings._replace(**changes))
    assert os.listdir(folder) == []


@pytest.mark.parametrize("content, message", [
    (b"", "is empty"),
    (b"\n \n\xe3\x80\x80\n", "holds only blank lines"),
    ("一\n\n二\n".encode("utf-8"), "all 2 documents are too short.*nothing was written"),
    ("好的。\n\n".encode("utf-8") * 300 + "中文。\n".encode("gb18030"),
     "corpus.txt line 601 is not UTF-8.*GB18030"),
])
def test_bad_text_is_named(settings, content, message):
    with open(settings.input_file, "wb") as stream:
        stream.write(content)
    with pytest.raises(UserError, match=message):
        cpd.create(settings)
    assert os.listdir(os.path.dirname(settings.output_file)) == []


def test_the_input_is_not_overwritten(settings, tmp_path):
    own = str(tmp_path / "mine.tfrecord")
    shutil.copy(settings.input_file, own)
    with pytest.raises(UserError, match="would overwrite the input"):
        cpd.create(settings._replace(input_file=own, output_file=own, overwrite=True))
    assert filecmp.cmp(own, settings.input_file, shallow=False)


@pytest.mark.parametrize("text, warning", [
    ("今天没有下雨。\n" * 300, "no blank lines"),
    ("今天没有下雨。\n\n" * 20, "every document is a single sentence"),
])
def test_unlikely_texts_are_pointed_out(settings, capsys, text, warning):
    with open(settings.input_file, "wb") as stream:
        stream.write(text.encode("utf-8"))
    cpd.create(settings)
    assert warning in capsys.readouterr().err


def test_text_on_a_remote_file_system_makes_the_same(settings, tmp_path):
    """TensorFlow's own file systems give whole lines only."""
    here = cpd.create(settings)
    there = cpd.create(settings._replace(input_file="file://" + settings.input_file,
                                         output_file=str(tmp_path / "there.tfrecord")))
    for one, other in zip(here["outputs"], there["outputs"]):
        with open(one, "rb") as first, open(other, "rb") as second:
            assert first.read() == second.read()


def test_too_short_documents_are_counted(settings):
    with open(settings.input_file, "ab") as stream:
        stream.write("\n一\n\n\u200b\n\n。\n".encode("utf-8"))
    summary = cpd.create(settings)
    assert summary["documents"] == 33 and summary["skipped_documents"] == 3


# ---------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------

def command(root, *arguments):
    return [sys.executable, os.path.join(root, "create_pretraining_data.py")] + list(arguments)


def run(*arguments, **options):
    return subprocess.run(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, timeout=120, **options)


def test_the_command_line_creates_records(root, settings):
    done = run(command(root, "--input_file=%s" % settings.input_file, "--dupe_factor=1",
                       "--output_file=new/tf_news.tfrecord", "--num_shards=2", "--num_workers=2",
                       "--vocab_file=%s" % settings.vocab_file, "--do_whole_word_mask"),
               cwd=os.path.dirname(settings.output_file))
    assert done.returncode == 0, done.stderr
    assert "Building prefix dict" not in done.stderr and "Warning:" not in done.stderr
    assert "swapped pairs" in done.stdout and "30 documents" in done.stderr
    folder = os.path.join(os.path.dirname(settings.output_file), "new")
    assert sorted(os.listdir(folder)) == ["tf_news-00000-of-00002.tfrecord",
                                          "tf_news-00001-of-00002.tfrecord", "tf_news.json"]
    with open(os.path.join(folder, "tf_news.json"), encoding="utf-8") as stream:
        chosen = json.load(stream)["settings"]
    assert chosen["max_seq_length"] == 128 and chosen["max_predictions_per_seq"] == 20
    assert chosen["random_seed"] == 12345 and chosen["masked_lm_prob"] == 0.15
    assert chosen["short_seq_prob"] == 0.1 and chosen["do_lower_case"] is True


@pytest.mark.parametrize("arguments, message", [
    (["--max_sequence_length=64"], "max_seq_length"),
    (["--input_file=/no/such.txt"], "no file matches /no/such.txt"),
])
def test_the_command_line_answers_mistakes_in_one_message(root, arguments, message):
    done = run(command(root, *arguments))
    assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, vocab_file):
    """Settings of a run over two pieces that was done in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "corpus.txt").write_bytes(invented_text(1400).encode("utf-8"))
    (folder / "out").mkdir()
    settings = cpd.Settings(str(folder / "corpus.txt"), str(folder / "out" / "x.tfrecord"),
                            vocab_file, dupe_factor=4, num_workers=2, max_seq_length=64,
                            max_predictions_per_seq=10)
    cpd.create(settings)
    return settings


def test_one_file_by_two_names_is_one_file(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="names a file twice"):
        cpd.create(settings._replace(output_file="./a.tfrecord,a.tfrecord"))
    os.symlink(settings.input_file, "link.txt")
    summary = cpd.create(settings._replace(input_file="corpus.txt,./corpus.txt,link.txt"))
    assert summary["documents"] == 30


def test_an_output_that_would_be_a_folder_is_refused_at_once(settings, tmp_path):
    (tmp_path / "d.tfrecord").mkdir()
    with pytest.raises(UserError, match="the output would be .*d.tfrecord, and that is a folder"):
        cpd.create(settings._replace(output_file=str(tmp_path / "d"), overwrite=True))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_goes_on(root, uninterrupted, tmp_path, number):
    settings = uninterrupted
    output = tmp_path / "other" / "x.tfrecord"
    arguments = command(
        root, "--input_file=%s" % settings.input_file, "--dupe_factor=4",
        "--output_file=%s" % output, "--num_workers=2", "--max_seq_length=64",
        "--max_predictions_per_seq=10", "--vocab_file=%s" % settings.vocab_file)
    process = subprocess.Popen(
        arguments, stderr=subprocess.PIPE, universal_newlines=True, start_new_session=True,
        # A shell starts background jobs, and so perhaps these tests, with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    work = cpd.work_folder(cpd.plan_outputs(str(output)))
    try:
        deadline = time.time() + 60
        while time.time() < deadline and not (
                os.path.isdir(work) and staging.has_finished(work, cpd.PIECE)):
            time.sleep(0.01)
        # Ctrl-C reaches the whole group, a plain kill the process alone.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        _, said = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
    assert os.listdir(str(tmp_path / "other")) == [".x.records.unfinished"]
    if number != signal.SIGKILL:
        status, word = {signal.SIGINT: (130, "interrupted"),
                        signal.SIGTERM: (143, "SIGTERM")}[number]
        assert process.returncode == status and "Traceback" not in said and word in said
    done = run(arguments)
    assert done.returncode == 0 and "going on with the unfinished run" in done.stderr, done.stderr
    assert filecmp.cmp(settings.output_file, str(output), shallow=False)
    assert sorted(os.listdir(str(tmp_path / "other"))) == ["x.json", "x.tfrecord"]


def test_a_run_that_is_killed_again_and_again_ends_as_any_other(root, uninterrupted, tmp_path):
    settings = uninterrupted._replace(output_file=str(tmp_path / "x.tfrecord"), num_shards=2)
    outputs = cpd.create(settings)["outputs"]
    folder, rng = tmp_path / "other", random.Random(8)
    arguments = command(
        root, "--input_file=%s" % settings.input_file, "--dupe_factor=4", "--num_shards=2",
        "--output_file=%s" % (folder / "x.tfrecord"), "--num_workers=2", "--max_seq_length=64",
        "--max_predictions_per_seq=10", "--vocab_file=%s" % settings.vocab_file)
    work = cpd.work_folder(cpd.plan_outputs(str(folder / "x.tfrecord")))

    def finished():
        return [name for name in (os.listdir(work) if os.path.isdir(work) else ())
                if not name.startswith(files.TEMPORARY)]

    killed = 0
    for _ in range(3):  # each time when it has come a little further
        most = len(finished()) + rng.randint(1, 3)
        process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(finished()) < most:
            time.sleep(0.005)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
    done = run(arguments)
    assert killed and (done.returncode == 0 or "of an earlier run" in done.stderr), done.stderr
    for path in outputs:
        assert filecmp.cmp(path, str(folder / os.path.basename(path)), shallow=False)
    assert len(os.listdir(str(folder))) == 3


def test_the_shell_script_passes_flags_through(root, tmp_path):
    script = str(tmp_path / "a folder" / "create_pretrain_data.sh")
    os.mkdir(os.path.dirname(script))
    shutil.copy(os.path.join(root, "create_pretrain_data.sh"), script)
    done = run(["bash", script, "--help"], cwd="/")
    assert done.returncode == 0 and "--max_predictions_per_seq=51" in done.stdout
    with open(os.path.join(os.path.dirname(script), "env.sh"), "w") as stream:
        stream.write("export PYTHON=echo\n")
    for given in ([], ["--max_seq_length=64", "--input_file=a b.txt", "--output_file=c.tfrecord"]):
        done = run(["bash", script] + given, cwd="/")
        assert done.returncode == 0, done.stderr
        for default in ("data/news_zh_1.txt --output_file=",
                        "data/tf_news_2016_zh_raw_news2016zh_1.tfrecord", "albert_config/vocab.txt",
                        "--do_whole_word_mask=True", "--max_seq_length=512",
                        "--max_predictions_per_seq=51", "--masked_lm_prob=0.10"):
            assert default in done.stdout
        assert done.stdout.strip().endswith(" ".join(["--masked_lm_prob=0.10"] + given))
    done = run(["bash", script, "--input_file=mine.txt"], cwd="/")
    assert done.returncode == 1 and "--output_file" in done.stderr
