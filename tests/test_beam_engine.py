"""beam_engine.py: the local engine's records to the byte, on Apache Beam's local runners.

Needs apache-beam, which goes into an environment of its own (see README); needs no TensorFlow.
"""

import collections
import doctest
import io
import json
import os
import random
import subprocess
import sys
import types

import pytest
from conftest import ROOT

beam = pytest.importorskip("apache_beam", reason="apache-beam is not installed here")

import beam_engine  # noqa: E402 - these need apache-beam
import corpus  # noqa: E402
import create_pretraining_data as cpd  # noqa: E402
import files  # noqa: E402
import spills  # noqa: E402
from apache_beam.io import localfilesystem  # noqa: E402
from errors import UserError  # noqa: E402

NOUNS = ["图书馆", "运动会", "博物馆", "火车站", "天安门", "计算机", "电影院", "大学生"]
VERBS = ["参观", "讨论", "研究", "建设", "介绍", "学习", "支持", "发展"]


class StoreFileSystem(localfilesystem.LocalFileSystem):
    """A file system with a scheme of its own, store://, in the folder that ALBERT_STORE names.

    As in an object store, a folder exists while a file is in it, and nothing replaces silently.
    """

    @classmethod
    def scheme(cls):
        return "store"

    def _local(self, path):
        return os.path.join(os.environ["ALBERT_STORE"], path[len("store://"):])

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/")] + list(paths))

    def mkdirs(self, path):
        raise filesystem_error("a store has no folders")

    def exists(self, path):
        return os.path.isfile(self._local(path))

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        root = os.environ["ALBERT_STORE"]
        for folder, _, names in os.walk(root):
            for name in names:
                path = "store://" + os.path.relpath(os.path.join(folder, name), root)
                if path.startswith(dir_or_prefix):
                    yield self.metadata(path)

    def metadata(self, path):
        local = self._local(path)
        return beam_engine.filesystem.FileMetadata(path, os.path.getsize(local),
                                                   os.path.getmtime(local))

    def _path_open(self, path, mode, *rest, **named):
        if "w" in mode and not os.path.isdir(os.path.dirname(self._local(path))):
            os.makedirs(os.path.dirname(self._local(path)))
        return super(StoreFileSystem, self)._path_open(self._local(path), mode, *rest, **named)

    def create(self, path, *rest, **named):
        return self._path_open(path, "wb", *rest, **named)

    def rename(self, source_file_names, destination_file_names):
        for source, target in zip(source_file_names, destination_file_names):
            assert not os.path.exists(self._local(target))
            os.rename(self._local(source), self._local(target))

    def delete(self, paths):
        for path in paths:
            os.remove(self._local(path))


def filesystem_error(text):
    return beam_engine.filesystem.BeamIOError(text, {})


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Folder of the files whose names start with store://."""
    folder = tmp_path / "store"
    folder.mkdir()
    monkeypatch.setenv("ALBERT_STORE", str(folder))
    return folder


def invented_text(documents=24, seed=1):
    rng = random.Random(seed)
    lines = []
    for document in range(documents):
        for sentence in range(rng.randint(2, 10)):
            lines.append("，".join(
                "第%d个%s正在%s%s" % (document * 100 + sentence, rng.choice(NOUNS),
                                  rng.choice(VERBS), rng.choice(NOUNS))
                for _ in range(rng.randint(1, 4))) + "。")
        lines.append("")
    return "\n".join(lines)


@pytest.fixture
def settings(tmp_path, vocab_file):
    for name, seed in (("a.txt", 1), ("b.txt", 2)):
        (tmp_path / name).write_bytes(invented_text(seed=seed).encode("utf-8"))
    for name in ("local", "beam"):
        (tmp_path / name).mkdir()
    return cpd.Settings(
        "%s,%s" % (tmp_path / "a.txt", tmp_path / "b.txt"),
        str(tmp_path / "beam" / "x.tfrecord"), vocab_file, dupe_factor=2, num_workers=1,
        max_seq_length=64, max_predictions_per_seq=10, do_whole_word_mask=True, num_shards=3,
        engine="beam")


@pytest.fixture
def many_pieces(monkeypatch):
    """Makes pieces and buckets so small that there are several."""
    monkeypatch.setattr(corpus, "PIECE_BYTES", 1500)
    monkeypatch.setattr(beam_engine, "BUCKET_BYTES", 20000)


def read(path):
    with io.open(str(path), "rb") as stream:
        return stream.read()


def contents(folder):
    """Returns {name: bytes} of the files of a folder, hidden ones too, but for the summary."""
    return {name: read(folder / name) for name in os.listdir(str(folder))
            if not name.endswith(".json")}


def both(settings, tmp_path, options=()):
    """Makes the records with both engines; returns (summary of local, of Beam)."""
    local = cpd.create(settings._replace(
        output_file=str(tmp_path / "local" / "x.tfrecord"), engine="local"))
    return local, cpd.create(settings, list(options))


def without_run(summary):
    """Returns what of a summary does not tell where and how long the run was."""
    return {name: value for name, value in summary.items()
            if name not in ("seconds", "outputs", "settings")}


# ---------------------------------------------------------------------------------------------
# The same records
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("changes", [
    {"pad_records": True, "num_shards": 40, "prefixed_word_labels": True},
    {"masking": "dynamic", "num_shards": 1, "compression": "gzip"}])
def test_the_shards_are_those_of_the_local_engine(settings, tmp_path, many_pieces, changes):
    local, made = both(settings._replace(**changes), tmp_path)
    shards = contents(tmp_path / "beam")
    assert shards == contents(tmp_path / "local")
    assert len(shards) == len(made["outputs"]) == changes.get("num_shards", 3)
    assert without_run(made) == without_run(local)
    assert made["instances"] > 100


@pytest.mark.parametrize("mode", ["multi_processing", "multi_threading"])
def test_several_workers_make_the_same(settings, tmp_path, many_pieces, mode, monkeypatch):
    monkeypatch.chdir(tmp_path)  # so that workers do not find the modules by the folder they are in
    local, made = both(settings, tmp_path, [
        "--direct_running_mode=" + mode, "--direct_num_workers=2"])
    assert contents(tmp_path / "beam") == contents(tmp_path / "local")
    assert without_run(made) == without_run(local)


def test_a_portable_runner_makes_the_same(settings, tmp_path, many_pieces):
    """The way to Flink and Spark: a job server, and workers that are reached by network."""
    both(settings, tmp_path, ["--runner=PortableRunner", "--job_endpoint=embed",
                              "--environment_type=LOOPBACK"])
    assert contents(tmp_path / "beam") == contents(tmp_path / "local")


def test_shards_by_size_and_by_name(settings, tmp_path, many_pieces):
    by_size = settings._replace(num_shards=1, shard_megabytes=0.01)
    both(by_size, tmp_path)
    assert contents(tmp_path / "beam") == contents(tmp_path / "local")
    assert len(contents(tmp_path / "beam")) > 2
    names = [str(tmp_path / "named" / name) for name in ("one.tfrecord", "two.tfrecord")]
    made = cpd.create(settings._replace(num_shards=1, output_file=",".join(names)))
    assert made["outputs"] == names and sorted(contents(tmp_path / "named")) == [
        "one.tfrecord", "two.tfrecord"]


def test_compressed_input_and_a_sentencepiece_model(settings, tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    lines = [line for line in invented_text().split("\n") if line]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=120, pad_id=0, unk_id=1,
        bos_id=-1, eos_id=-1, control_symbols=["[CLS]", "[SEP]", "[MASK]"], minloglevel=2)
    (tmp_path / "spm.model").write_bytes(model.getvalue())
    packed = tmp_path / "c.txt.gz"
    with files.gzip.open(str(packed), "wb") as stream:
        stream.write(invented_text(seed=5).encode("utf-8"))
    both(settings._replace(
        spm_model_file=str(tmp_path / "spm.model"), vocab_file=None,
        input_file=settings.input_file + "," + str(packed)), tmp_path)
    assert contents(tmp_path / "beam") == contents(tmp_path / "local")


def test_real_text(settings, tmp_path, shared_data):
    path = os.path.join(shared_data, "corpus", "people_daily_199801.txt")
    with io.open(path, encoding="utf-8", newline="\n") as stream:
        text = "\n\n".join(stream.read().split("\n\n")[::20])
    (tmp_path / "news.txt").write_bytes(text.encode("utf-8"))
    both(settings._replace(input_file=str(tmp_path / "news.txt")), tmp_path)
    assert contents(tmp_path / "beam") == contents(tmp_path / "local")


def test_remote_files_need_no_tensorflow(
        settings, store, tmp_path, many_pieces, capsys, monkeypatch):
    for name in ("tensorflow", "tensorflow.compat", "tensorflow.compat.v1"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    for name in ("a.txt", "b.txt"):
        os.rename(str(tmp_path / name), str(store / name))
    remote = settings._replace(input_file="store://*.txt", output_file="store://out/x.tfrecord")
    (store / "out").mkdir()
    for name in ("x.tfrecord", "x-00001-of-00003.tfrecord"):
        (store / "out" / name).write_bytes(b"of an earlier run")
    files.write_json(str(store / "out" / "x.json"), {
        "made_by": cpd.MADE_BY, "outputs": ["x.tfrecord", "x-00001-of-00003.tfrecord"]})
    with pytest.raises(UserError, match="of an earlier run are there"):
        cpd.create(remote)
    made = cpd.create(remote._replace(overwrite=True))
    assert "removing store://out/x.tfrecord of the earlier run" in capsys.readouterr().err
    assert made["outputs"] == ["store://out/x-%05d-of-00003.tfrecord" % n for n in range(3)]
    cpd.create(settings._replace(
        input_file="%s,%s" % (store / "a.txt", store / "b.txt"), engine="local",
        output_file=str(tmp_path / "local" / "x.tfrecord")))
    assert os.listdir(str(store / "out" / ".x.beam")) == []
    (store / "out" / ".x.beam").rmdir()  # a store would have no such thing
    assert contents(store / "out") == contents(tmp_path / "local")


# ---------------------------------------------------------------------------------------------
# Parts
# ---------------------------------------------------------------------------------------------

def test_the_examples_in_the_docstrings_hold():
    result = doctest.testmod(beam_engine)
    assert result.attempted >= 1 and result.failed == 0


def test_a_range_of_records_is_read_from_the_buckets_it_covers(tmp_path):
    rng = random.Random(1)
    keyed = [(rng.randrange(1 << spills.KEY_BITS), b"r%d" % n * rng.randint(0, 9))
             for n in range(200)]
    keyed += [(keyed[0][0], b"z"), (keyed[0][0], b"a")]  # equal keys: by the records
    groups = collections.defaultdict(list)
    for key, record in keyed:
        groups[key * 7 >> spills.KEY_BITS].append((key, record))
    parts = [beam_engine.write_bucket((bucket, iter(group)), str(tmp_path))
             for bucket, group in groups.items()]
    expected = [record for _, record in sorted(keyed)]
    for start, end in ((0, 202), (0, 1), (57, 58), (30, 150), (201, 202), (5, 5)):
        assert list(beam_engine.read_range(parts, start, end)) == expected[start:end]
    assert sum(part.size for part in parts) == sum(len(record) + 12 for record in expected)


def test_a_repeated_attempt_writes_another_file(tmp_path):
    pair = (3, [(5, b"five")])
    first, second = (beam_engine.write_bucket(pair, str(tmp_path)) for _ in range(2))
    assert first.path != second.path and first[:3] == second[:3] == (3, 1, 16)
    for _ in range(2):
        beam_engine.write_shard((0, 0, 1), [first], str(tmp_path), "")
    assert list(beam_engine.read_range([second], 0, 1)) == [b"five"]
    assert sorted(name.split("-")[0] for name in os.listdir(str(tmp_path))) == [
        "bucket", "bucket", "shard"]


def test_shards_are_even_and_by_size_if_wished():
    parts = [beam_engine.Part(0, 6, 900, "a"), beam_engine.Part(1, 4, 600, "b")]
    plan = beam_engine.plan_shards(None, parts, beam_engine.Sharding(4, 0.0))
    assert plan == [(0, 0, 2), (1, 2, 5), (2, 5, 7), (3, 7, 10)]
    by_size = beam_engine.Sharding(1, 0.0005)
    assert len(beam_engine.plan_shards(None, parts, by_size)) == 3
    assert beam_engine.count_shards(beam_engine.Sharding(1, 0.000001), 10, 1500) == 10
    assert beam_engine.plan_shards(None, parts, beam_engine.Sharding(11, 0.0)) == []


def test_buckets_grow_in_number_then_in_size():
    assert beam_engine.count_buckets(0) == 1
    assert beam_engine.count_buckets(10 * beam_engine.BUCKET_BYTES) == 11
    assert beam_engine.count_buckets(1e18) == beam_engine.MOST_BUCKETS


def test_the_vocabulary_travels_by_its_content(settings, tmp_path, monkeypatch):
    local = tmp_path / "temporary"
    local.mkdir()
    monkeypatch.setattr(beam_engine.tempfile, "gettempdir", lambda: str(local))
    copy = tmp_path / "v.txt"
    content = read(settings.vocab_file)
    copy.write_bytes(content)
    making = cpd.making_of(settings._replace(vocab_file=str(copy)))
    vocabulary = beam_engine.Vocabulary(making)
    copy.unlink()
    unpacked = vocabulary.unpack()
    assert unpacked._replace(vocab_file=None) == making._replace(vocab_file=None)
    with open(unpacked.vocab_file, "r+b") as stream:  # a copy that another program has spoilt
        stream.write(b"?")
    assert vocabulary.unpack() == unpacked
    assert read(unpacked.vocab_file) == content
    own, = local.iterdir()
    own.chmod(0o777)
    with pytest.raises(UserError, match="albert-.* is not a folder that this user alone"):
        vocabulary.unpack()
    own.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o700)
    own.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="remove it, or set TMPDIR"):
        vocabulary.unpack()


# ---------------------------------------------------------------------------------------------
# What can go wrong
# ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options, message", [
    (["--direct_num_worker=2"], "no option --direct_num_worker (after --). Did you mean "
                                "\"--direct_num_workers\"?"),
    (["--runner=FlinkRunner", "--flink_mastr=x"], "Did you mean \"--flink_master\"?"),
    (["--num_shards=2"], "no option --num_shards"),
    (["records"], "no option records"),
    (["--direct_num_workers=two"], "invalid int value: 'two'"),
    (["--direct_running_mode=fast"], "invalid choice: 'fast'"),
    (["--runner=NoRunner"], "Unexpected pipeline runner: NoRunner"),
])
def test_wrong_options_are_named_before_the_work(settings, tmp_path, options, message):
    with pytest.raises(UserError) as error:
        cpd.create(settings, options)
    assert message in str(error.value)
    assert os.listdir(str(tmp_path / "beam")) == []


def test_options_that_another_runner_may_know_are_passed_on(capfd):
    options = beam_engine.parse_options(["--runner=FlinkRunner", "--xyzzy=7"])
    assert "left to the runner, as Apache Beam itself does not know them: --xyzzy=7" in (
        capfd.readouterr().err)
    assert options.get_all_options(retain_unknown_options=True)["xyzzy"] == "7"
    assert not beam_engine.is_local(options)
    for name in ("DirectRunner", "direct", "apache_beam.runners.direct.DirectRunner"):
        assert beam_engine.is_local(beam_engine.parse_options(["--runner=" + name]))


def test_a_fault_in_the_text_is_named_and_nothing_is_left(settings, tmp_path, many_pieces, capfd):
    (tmp_path / "bad.txt").write_bytes(b"\n\n" + "好的。\n中文".encode("gb18030"))
    (tmp_path / "worse.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError) as error:
        cpd.create(settings._replace(input_file=str(tmp_path / "*.txt")))
    assert "bad.txt line 3 is not UTF-8" in str(error.value)
    assert "Traceback" not in capfd.readouterr().err
    assert os.listdir(str(tmp_path / "beam")) == []


@pytest.mark.parametrize("mode", ["in_memory", "multi_processing"])
def test_a_user_error_of_a_worker_is_told_as_such(settings, tmp_path, mode):
    """Such as a package that is missing there."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "sitecustomize.py").write_text(
        "import sys\nsys.modules['google_crc32c'] = None\n")
    program = ("import sys; sys.path.insert(0, %r); import beam_engine, errors; "
               "import create_pretraining_data as s; s.define_flags(); "
               "errors.run(s.main, positional=None)" % ROOT)
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--engine=beam", "--input_file=" + settings.input_file,
         "--output_file=" + settings.output_file, "--vocab_file=" + settings.vocab_file, "--",
         "--direct_running_mode=" + mode], stderr=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=str(packages), PYTHONIOENCODING="utf-8"))
    err = process.communicate()[1].decode("utf-8")
    assert process.returncode == 1
    assert err.splitlines()[-1] == (
        "ERROR: writing records needs the package google-crc32c: pip install google-crc32c")
    assert os.listdir(str(tmp_path / "beam")) == []


def test_too_little_text_is_an_error(settings, tmp_path):
    (tmp_path / "a.txt").write_bytes("好\n\n坏\n".encode("utf-8"))
    with pytest.raises(UserError, match="all 2 documents are too short"):
        cpd.create(settings._replace(input_file=str(tmp_path / "a.txt")))
    (tmp_path / "a.txt").write_bytes("今天下雨。\n我没有出门。\n".encode("utf-8"))
    with pytest.raises(UserError, match="2 instances cannot fill 3 shards"):
        cpd.create(settings._replace(input_file=str(tmp_path / "a.txt")))
    assert os.listdir(str(tmp_path / "beam")) == []


def test_defects_keep_their_traceback(settings, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(beam_engine, "plan_shards", broken)
    with pytest.raises(Exception, match="a defect") as error:
        cpd.create(settings)
    assert not isinstance(error.value, UserError)


def test_output_that_this_machine_does_not_see_is_explained(settings, monkeypatch):
    monkeypatch.setattr(beam_engine, "write_json", lambda value, path: None)
    with pytest.raises(UserError, match="must lie where all of them and this machine see them"):
        cpd.create(settings)


def test_older_records_stay_until_the_new_ones_are_there(settings, tmp_path, monkeypatch, capfd):
    names = ["x.tfrecord", "x-00000-of-00003.tfrecord", "x-00001-of-00002.tfrecord"]
    for name in names:
        (tmp_path / "beam" / name).write_bytes(b"of an earlier run")
    files.write_json(str(tmp_path / "beam" / "x.json"), {"made_by": cpd.MADE_BY, "outputs": names})
    before = contents(tmp_path / "beam")
    with pytest.raises(UserError, match="--overwrite=True"):
        cpd.create(settings._replace(num_shards=2))
    with monkeypatch.context() as patch:
        patch.setattr(beam_engine, "plan_shards", lambda *_: [])
        with pytest.raises(UserError):
            cpd.create(settings._replace(num_shards=2, overwrite=True))
    assert contents(tmp_path / "beam") == before
    cpd.create(settings._replace(num_shards=2, overwrite=True))
    assert sorted(contents(tmp_path / "beam")) == [
        "x-00000-of-00002.tfrecord", "x-00001-of-00002.tfrecord"]
    assert capfd.readouterr().err.count("of the earlier run (--overwrite)") == 2


def test_two_runs_at_once_are_refused_and_leftovers_removed(settings, tmp_path):
    folder = str(tmp_path / "beam" / ".x.beam")
    with beam_engine.staging.locked(folder, "output_file"):
        with pytest.raises(UserError, match="another run is writing"):
            cpd.create(settings)
    with io.open(os.path.join(folder, "shard-00000"), "wb") as stream:
        stream.write(b"of a killed run")
    with beam_engine.unfinished(str(tmp_path / "beam" / "x")) as made:
        assert made == folder and os.listdir(folder) == ["lock"]
    assert not os.path.exists(folder)


class FakeResult(object):
    state, cancelled = "CANCELLED", False

    def wait_until_finish(self):
        if self.state == "RUNNING":
            raise KeyboardInterrupt
        return self.state

    def cancel(self):
        self.cancelled = True


def fake_pipeline(monkeypatch, run):
    monkeypatch.setattr(beam, "Pipeline", lambda options: types.SimpleNamespace(run=run))
    return beam_engine.parse_options(["--runner=FlinkRunner"])


def test_a_cancelled_run_is_no_success_and_an_interrupted_one_is_cancelled(monkeypatch):
    result = FakeResult()
    options = fake_pipeline(monkeypatch, lambda: result)
    with pytest.raises(UserError, match="ended as CANCELLED"):
        beam_engine.run(options, lambda pipeline: None)
    result.state = "RUNNING"
    with pytest.raises(KeyboardInterrupt):
        beam_engine.run(options, lambda pipeline: None)
    assert result.cancelled


def test_a_runner_that_cannot_be_reached_is_named(monkeypatch):
    def no_way():
        raise RuntimeError("no server")

    options = fake_pipeline(monkeypatch, no_way)
    with pytest.raises(UserError, match="could not start the run on FlinkRunner: RuntimeError no "):
        beam_engine.run(options, lambda pipeline: None)
    with pytest.raises(RuntimeError, match="no server"):  # on this machine, it may be a defect
        beam_engine.run(beam_engine.parse_options([]), lambda pipeline: None)


def test_the_script_takes_beams_options_after_two_dashes(settings, tmp_path):
    process = subprocess.Popen([
        sys.executable, os.path.join(ROOT, "create_pretraining_data.py"), "--engine=beam",
        "--input_file=" + settings.input_file, "--output_file=" + settings.output_file,
        "--vocab_file=" + settings.vocab_file, "--dupe_factor=1", "--",
        "--runner=DirectRunner", "--direct_num_workers=1"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=str(tmp_path), env=dict(os.environ, PYTHONIOENCODING="utf-8"))
    out, err = process.communicate()
    assert process.returncode == 0, err.decode("utf-8")
    assert err.decode("utf-8").count("\n") < 6  # Beam does not tell of each of its steps
    assert "pre-training records" in out.decode("utf-8")
    with io.open(str(tmp_path / "beam" / "x.json"), encoding="utf-8") as stream:
        assert json.load(stream)["outputs"] == [settings.output_file]
