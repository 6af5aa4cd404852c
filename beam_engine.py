"""create_pretraining_data.py --engine=beam: the same records, made on Apache Beam's runners.

    python create_pretraining_data.py --engine=beam --input_file=... -- --runner=FlinkRunner ...

What follows -- are Beam's own options. Without --runner everything happens on this machine, by
Beam's DirectRunner, which holds the records in memory: for trying things out.

How it goes: one pipeline reads the corpus and counts, so that faults show before the work starts. A
second one makes the records of all pieces, groups them by ranges of their random keys ("buckets",
see spills.py), sorts each bucket in memory and writes it to a hidden folder beside the output; then
every shard is put together from the buckets it covers. The place of a record follows from its key
alone, so the shards are the local engine's to the byte.

Workers import this module: it must be where they find modules, with the project's others beside it.
They need no TensorFlow. They reach remote files (gs://, s3://, hdfs://) through Beam.
"""

import collections
import concurrent.futures
import contextlib
import copy
import hashlib
import json
import logging
import os
import re
import stat
import struct
import tempfile
import threading
import types
import typing
import uuid

import console
import corpus
import errors
import files
import record_bytes
import record_making
import spills
import staging
from errors import UserError

logging.disable(logging.WARNING)  # of packages that Beam has no use for here
try:
    import apache_beam as beam
    from apache_beam.io import filesystem, filesystems
    from apache_beam.options import pipeline_options
except ImportError as missing:
    raise UserError("--engine=beam needs the package apache-beam: pip install apache-beam==2.77.0 "
                    "(on Python 3.7: apache-beam==2.48.0 protobuf==3.20.3)") from missing
finally:
    logging.disable(logging.NOTSET)

ROOT = os.path.dirname(os.path.abspath(__file__))

BUCKET_BYTES = spills.BUCKET_BYTES  # a worker sorts about so much in memory
MOST_BUCKETS = 1 << 18
MOVES_AT_A_TIME = 32
BYTES_PER_KEY = 12   # of a record, when its size is what --shard_megabytes goes by

SURVEY, COUNTS, BUCKET, SHARD = "survey.json", "counts.json", "bucket-", "shard-"

_LENGTH = struct.Struct("<I")

Part = collections.namedtuple("Part", ["bucket", "records", "size", "path"])
Part.__doc__ = """A sorted bucket on disk: its number, its records, their bytes, its file."""

Surveyed = collections.namedtuple("Surveyed", ["total", "fault"])
Surveyed.__doc__ = """What was read: corpus.Survey; None or (file, offset, message) of a fault."""

KEYED = typing.Tuple[int, typing.Tuple[int, bytes]]  # (bucket, (key, record))

Sharding = collections.namedtuple("Sharding", ["count", "megabytes"])
Sharding.__doc__ = """How many shards: `count`, or as many as `megabytes` makes, if not 0."""


# ---------------------------------------------------------------------------------------------
# Remote files, without TensorFlow
# ---------------------------------------------------------------------------------------------

class RemoteFiles(object):
    """The functions of tf.io.gfile that files.py uses, on Beam's file systems."""

    def GFile(self, path, mode="rb"):  # noqa: N802 - TensorFlow's name
        """Opens a file, "rb" or "wb"; nothing is decompressed."""
        system = self._system(path)
        function = system.create if "w" in mode else system.open
        return function(path, compression_type=filesystem.CompressionTypes.UNCOMPRESSED)

    def exists(self, path):
        return self._system(path).exists(path) or self.isdir(path)

    def isdir(self, path):
        """Whether there is a file under a path: object stores have no other folders."""
        return bool(self._match(path.rstrip("/") + "/*", 1))

    def stat(self, path):
        found = self._match(path)
        if not found:
            raise UserError("%s does not exist" % path)
        return types.SimpleNamespace(length=found[0].size_in_bytes)

    def listdir(self, path):
        return [found.path.rstrip("/").rsplit("/", 1)[1]
                for found in self._match(path.rstrip("/") + "/*")]

    def glob(self, pattern):
        return [found.path for found in self._match(pattern)]

    def rename(self, source, target, overwrite=False):
        """Renames a file; not every file system replaces one that is there."""
        system = self._system(target)
        if overwrite and system.exists(target):
            system.delete([target])
        system.rename([source], [target])

    def remove(self, path):
        self._system(path).delete([path])

    def remove_all(self, paths):
        """Removes many files in few requests."""
        if paths:
            self._system(paths[0]).delete(list(paths))

    def makedirs(self, path):
        try:
            self._system(path).mkdirs(path)
        except (OSError, filesystem.BeamIOError):
            if not self.exists(path):
                raise

    def _match(self, pattern, most=None):
        return self._system(pattern).match([pattern], [most])[0].metadata_list

    def _system(self, path):
        try:
            return filesystems.FileSystems.get_filesystem(path)
        except ValueError as error:  # no such scheme, or its package is missing
            raise UserError("%s: %s" % (path, error)) from error


REMOTE = RemoteFiles()
files.use_remote(REMOTE)  # for all who import this module: the workers, too


# ---------------------------------------------------------------------------------------------
# Beam's options
# ---------------------------------------------------------------------------------------------

class _OptionParser(pipeline_options._BeamArgumentParser):
    """Beam's parser, whose complaints become user errors."""

    def error(self, message):
        raise UserError("Apache Beam's options (after --): %s" % message)


def parse_options(arguments):
    """Returns the PipelineOptions of a command line.

    Beam passes over what it does not know, so that a misspelt option would be silently without
    effect. Runners beyond this machine may know options that this Python does not.

    Raises:
        UserError: an option is unknown, or its value is no good.
    """
    parser = _OptionParser(allow_abbrev=False, add_help=False)
    classes = {str(cls): cls for cls in pipeline_options.PipelineOptions.__subclasses__()}
    for cls in classes.values():
        cls._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(arguments)
    options = pipeline_options.PipelineOptions(list(arguments))
    if unknown:
        known = [name for action in parser._actions for name in action.option_strings]
        name = unknown[0].split("=")[0]
        hint = errors.nearest(name, known)
        if is_local(options) or hint:
            raise UserError("Apache Beam has no option %s (after --).%s" % (name, hint))
        console.say("note: left to the runner, as Apache Beam itself does not know them: %s"
                    % " ".join(unknown))
    # From 2.6x on, DirectRunner first tries to fetch and start Prism, another program, which knows
    # nothing of --direct_running_mode. With this option, which is about triggers, of which there
    # are none here, it does not.
    options.view_as(pipeline_options.TypeOptions).allow_unsafe_triggers = True
    if is_local(options):
        _be_quiet(options)
    return options


def _be_quiet(options):
    """Has Beam's runner on this machine not tell of each step; what goes wrong is raised, too."""
    standard = options.view_as(pipeline_options.StandardOptions)
    standard.runner = standard.runner or "DirectRunner"  # that there is none would be told
    of_workers = options.view_as(pipeline_options.WorkerOptions)
    if not of_workers.default_sdk_harness_log_level:
        of_workers.default_sdk_harness_log_level = "CRITICAL"
        logging.getLogger().setLevel(logging.WARNING)
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)


def is_local(options):
    """Whether the runner of PipelineOptions is the one that works on this machine alone."""
    runner = options.view_as(pipeline_options.StandardOptions).runner or "direct"
    return runner.rsplit(".", 1)[-1].lower() in ("direct", "directrunner", "fnapirunner",
                                                 "switchingdirectrunner")


def run(options, build):
    """Runs a pipeline to its end.

    Args:
        options: PipelineOptions; build: function of a Pipeline, which fills it.

    Raises:
        UserError: the options do not fit together, the runner cannot be reached, a worker met a
            user error, or the run was cancelled.
    """
    try:
        pipeline = beam.Pipeline(options=copy.deepcopy(options))  # older ones write into them
    except (ValueError, ImportError) as error:
        raise UserError("Apache Beam's options (after --): %s" % error) from error
    build(pipeline)
    try:
        state = _wait(_start(pipeline, options))
    except Exception as error:  # noqa: BLE001 - what is not a user error is raised again
        message = _user_error_in(
            "UserError: %s" % error if isinstance(error, UserError) else str(error))
        if message is None:
            raise
        raise UserError(message) from error
    if state != beam.runners.runner.PipelineState.DONE:
        raise UserError("Apache Beam's run ended as %s: see what its runner says" % state)


def _start(pipeline, options):
    """Starts a run, which on this machine is all of it; UserError where another runner cannot."""
    try:
        return pipeline.run()
    except Exception as error:  # noqa: BLE001 - of whatever library leads to the runner
        if is_local(options):
            raise
        raise UserError("Apache Beam could not start the run on %s: %s %s" % (
            options.view_as(pipeline_options.StandardOptions).runner, type(error).__name__, error)
            ) from error


def _wait(result):
    """Waits for the end of a run and returns its state; stops the run when this is interrupted."""
    try:
        return result.wait_until_finish() or result.state
    except KeyboardInterrupt:
        try:
            result.cancel()
        except NotImplementedError:  # such a runner works in this process, and ends with it
            pass
        raise


def _user_error_in(text):
    """Returns the message of the UserError that a worker reports in a traceback, or None.

    >>> _user_error_in("Traceback ...\\nerrors.UserError: a.txt is bad [while running 'x']\\n")
    'a.txt is bad'
    """
    found = re.findall(r"^(?:errors\.)?UserError: (.*?)(?: \[while running .*)?$", text, re.M)
    return found[-1] if found else None


# ---------------------------------------------------------------------------------------------
# On the workers
# ---------------------------------------------------------------------------------------------

# Some runners work with several threads in a process. The vocabulary's tables are shared, and while
# one thread looks a new character up, others must not read them; Python runs one at a time anyway.
_LOCK = threading.Lock()


class Vocabulary(object):
    """A vocabulary that travels: its content is with the workers, wherever its file is."""

    def __init__(self, making):
        """making: record_making.Making, whose vocabulary this machine can read."""
        self._name = "spm_model_file" if making.spm_model_file else "vocab_file"
        with files.open_binary(getattr(making, self._name)) as stream:
            self._content = stream.read()
        self._making = making._replace(vocab_file=None, spm_model_file=None)

    def unpack(self):
        """Returns the Making with the path of a local copy, which all runs on a machine share."""
        digest = hashlib.sha256(self._content).hexdigest()[:32]
        path = os.path.join(_own_folder(), digest)
        if not (os.path.exists(path) and files.fingerprint(path).startswith(digest)):
            with files.atomic_write(path) as stream:
                stream.write(self._content)
        return self._making._replace(**{self._name: path})


def _own_folder():
    """Returns a folder for temporary files that other users of the machine cannot write to.

    Raises:
        UserError: something else has its name.
    """
    path = os.path.join(tempfile.gettempdir(), "albert-%d" % os.getuid())
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)  # not where a link leads to
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise UserError("%s is not a folder that this user alone can write to: remove it, or set "
                        "TMPDIR" % path)
    return path


def survey_piece(piece):
    """Returns the Surveyed of a corpus.Piece.

    A fault in the text is a result like others: raised, it would have the runner try again.
    """
    try:
        return Surveyed(corpus.survey(piece), None)
    except UserError as error:
        return Surveyed(corpus.Survey(0, 0, 0), (piece.file, piece.start, str(error)))


def add_surveyed(several):
    """Returns the Surveyed of several: the sum, and the first fault."""
    several = list(several)
    faults = [tuple(one.fault) for one in several if one.fault]
    return Surveyed(corpus.add_surveys(one.total for one in several),
                    min(faults) if faults else None)


class MakeRecords(beam.DoFn):
    """Pieces to (bucket, (key, record)); what was counted, dicts, goes to the output COUNTED."""

    COUNTED = "counted"

    def __init__(self, vocabulary, buckets):
        """vocabulary: Vocabulary; buckets: number of them."""
        super(MakeRecords, self).__init__()
        self._vocabulary, self._buckets, self._making = vocabulary, buckets, None

    def setup(self):
        with _LOCK:
            self._making = self._vocabulary.unpack()
            record_making.get_maker(self._making)

    def process(self, piece):
        counts, size = collections.Counter(), 0
        for batch in _one_at_a_time(record_making.batches_of(self._making, piece, counts)):
            for key, record in batch:
                size += len(record) + BYTES_PER_KEY
                yield key * self._buckets >> spills.KEY_BITS, (key, record)
        yield beam.pvalue.TaggedOutput(self.COUNTED, dict(counts, record_bytes=size))


def _one_at_a_time(batches):
    """Yields from an iterator that only one thread of the process works at."""
    while True:
        with _LOCK:
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def add_counts(counted):
    """Returns the sum of dicts of numbers."""
    total = collections.Counter()
    for counts in counted:
        total.update(counts)
    return dict(total)


def write_json(value, path):
    files.write_json(path, value)


def write_bucket(pair, folder):
    """Sorts a bucket and writes it; returns its Part.

    A part has a name of its own, so that a repeated attempt disturbs nobody.

    Args:
        pair: (bucket, iterable of (key, record)); folder: path.
    """
    bucket, records = pair
    # Equal keys are as good as impossible; then the records themselves decide.
    found = sorted(records)
    path = "%s/%s%06d-%s" % (folder, BUCKET, bucket, uuid.uuid4().hex)
    size = 0
    with files.open_binary(path, "wb") as stream:
        for _, record in found:
            stream.write(_LENGTH.pack(len(record)))
            stream.write(record)
            size += len(record) + BYTES_PER_KEY
    return Part(bucket, len(found), size, path)


def read_range(parts, start, end):
    """Yields the records from number `start` to `end` of all in the order of their keys.

    Args:
        parts: list of Part, all of them, in any order.
    """
    first = 0
    for part in sorted(parts):
        low, high = max(start, first) - first, min(end, first + part.records) - first
        first += part.records
        if low < high:
            for record in _records_of(part, low, high):
                yield record


def _records_of(part, low, high):
    """Yields the records from number `low` to `high` of a part."""
    with files.open_binary(part.path) as stream:
        data = stream.read()
    place = 0
    for number in range(high):
        length, = _LENGTH.unpack_from(data, place)
        place += _LENGTH.size
        if number >= low:
            yield data[place:place + length]
        place += length


def count_shards(sharding, records, size):
    """Returns the number of shards of so many records and bytes."""
    if sharding.megabytes:
        return min(-(-size // int(sharding.megabytes * 1e6)), records)
    return sharding.count


def plan_shards(_, parts, sharding):
    """Returns [(index, number of the first record, of the one behind the last)] of the shards."""
    total = sum(part.records for part in parts)
    count = count_shards(sharding, total, sum(part.size for part in parts))
    if total < count:
        return []  # which the driver then tells
    return [(index, total * index // count, total * (index + 1) // count)
            for index in range(count)]


def write_shard(shard, parts, folder, compression):
    """Writes a shard under its name in the folder.

    Args:
        shard: of `plan_shards`; parts: list of Part; compression: ending, "" or ".gz".
    """
    index, start, end = shard
    path = shard_path(folder, index)
    attempt = "%s-%s%s" % (path, uuid.uuid4().hex, compression)
    record_bytes.write(attempt, read_range(parts, start, end))
    files.move(attempt, path)
    return index


def shard_path(folder, index):
    return "%s/%s%05d" % (folder, SHARD, index)


# ---------------------------------------------------------------------------------------------
# On this machine
# ---------------------------------------------------------------------------------------------

def create(settings, inputs, outputs, beam_options):
    """Makes the records; what the local engine does with processes, on a runner of Beam.

    Args:
        settings: create_pretraining_data.Settings; inputs: list of paths; outputs: its Outputs.
        beam_options: list of str.

    Returns:
        (paths of the shards, Counter)

    Raises:
        UserError: an option, an input or the output cannot be used. What an earlier run made is
            still there then.
    """
    import create_pretraining_data as script  # which imports this module
    script.refuse_older(outputs, settings.overwrite)
    options = parse_options(beam_options)
    vocabulary = Vocabulary(script.making_of(settings))
    inputs = [path if files.is_remote(path) else os.path.abspath(path) for path in inputs]
    sharding = Sharding(len(outputs.names) if outputs.names else settings.num_shards,
                        0.0 if outputs.names else settings.shard_megabytes)
    compression = outputs.ending[len(script.ENDING):]
    with modules_found(), unfinished(outputs.stem) as folder:
        total = survey(options, inputs, folder)
        corpus.require_text(total, inputs)
        script.advise(settings, total, inputs)
        expected = total.characters * script.making_of(
            settings).dupe_factor * record_making.BYTES_PER_TOKEN
        counts = make(options, inputs, folder, vocabulary, count_buckets(expected), sharding,
                      compression)
        script.check_counts(settings, counts)
        count = count_shards(sharding, counts["instances"], counts.pop("record_bytes"))
        if counts["instances"] < count:
            raise UserError("%d instances cannot fill %d shards: use fewer; nothing was written"
                            % (counts["instances"], count))
        shards = script.shard_names(outputs, count)
        move_all([shard_path(folder, index) for index in range(count)], shards)
        script.put_into_place(folder, shards, [path for path in outputs.older
                                               if path != outputs.summary])
    return shards, counts


def count_buckets(expected_bytes):
    """Returns how many buckets to use for about so many bytes of records."""
    return max(1, min(MOST_BUCKETS, int(expected_bytes // BUCKET_BYTES) + 1))


def survey(options, inputs, folder):
    """Returns the corpus.Survey of files, counted by the workers; UserError for a fault in them."""
    path = "%s/%s" % (folder, SURVEY)

    def build(pipeline):
        _ = (_pieces(pipeline, inputs)
             | "Survey" >> beam.Map(survey_piece)
             | "AddSurveys" >> beam.CombineGlobally(add_surveyed)
             | "WriteSurvey" >> beam.Map(write_json, path))

    run(options, build)
    total, fault = read_result(path)
    if fault:
        raise UserError(fault[-1])
    return corpus.Survey(*total)


def make(options, inputs, folder, vocabulary, buckets, sharding, compression):
    """Makes the records and the shards in the folder; returns the Counter of all."""
    path = "%s/%s" % (folder, COUNTS)

    def build(pipeline):
        made = _pieces(pipeline, inputs) | "MakeRecords" >> beam.ParDo(
            MakeRecords(vocabulary, buckets)).with_output_types(KEYED).with_outputs(
                MakeRecords.COUNTED, main="records")
        _ = (made[MakeRecords.COUNTED]
             | "AddCounts" >> beam.CombineGlobally(add_counts)
             | "WriteCounts" >> beam.Map(write_json, path))
        parts = beam.pvalue.AsList(
            made.records
            | "GroupByBucket" >> beam.GroupByKey()
            | "WriteBuckets" >> beam.Map(write_bucket, folder))
        _ = (pipeline
             | "Start" >> beam.Create([None])
             | "PlanShards" >> beam.FlatMap(plan_shards, parts, sharding)
             | "SpreadShards" >> beam.Reshuffle()
             | "WriteShards" >> beam.Map(write_shard, parts, folder, compression))

    run(options, build)
    return collections.Counter(read_result(path))


def _pieces(pipeline, inputs):
    """Returns the collection of the corpus's Pieces; workers plan them, as there may be many."""
    return (pipeline
            | "Inputs" >> beam.Create([list(inputs)])
            | "PlanPieces" >> beam.FlatMap(corpus.plan_pieces)
            | "SpreadPieces" >> beam.Reshuffle())


def read_result(path):
    """Returns the content of a JSON file that a worker has written."""
    require_result(path)
    with files.open_binary(path) as stream:
        return json.loads(stream.read().decode("utf-8"))


def require_result(path):
    """Raises UserError where this machine does not see what the workers have written."""
    if not files.exists(path):
        raise UserError("the workers have written %s, but it is not there on this machine: "
                        "--output_file and --input_file must lie where all of them and this "
                        "machine see them, such as gs://, hdfs:// or a shared disk" % path)


def move_all(sources, targets):
    """Moves files, many at a time: an object store copies each, which takes a while.

    Raises:
        UserError: one is not there; then none has been moved.
    """
    if sources:
        present = set(files.list_dir(os.path.dirname(sources[0])))
        for source in sources:
            if os.path.basename(source) not in present:
                require_result(source)
    with concurrent.futures.ThreadPoolExecutor(MOVES_AT_A_TIME) as pool:
        for done in [pool.submit(files.move, *pair) for pair in zip(sources, targets)]:
            done.result()


@contextlib.contextmanager
def modules_found():
    """Lets processes that Beam starts on this machine find the project's modules."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([ROOT] + [before] * bool(before))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextlib.contextmanager
def unfinished(stem):
    """Yields a hidden folder beside the output, which is removed at the end, whatever happens.

    On this machine's disks one run at a time may have it. A killed run leaves it; the next one
    with the same output empties it.

    Args:
        stem: of the output.
    """
    base = os.path.basename(stem).replace("tfrecord", "records")
    if files.is_remote(stem):
        folder = "%s/.%s.beam" % (os.path.dirname(stem), base)
        _remove_files(folder)
        try:
            yield folder
        finally:
            _remove_files(folder)
        return
    folder = os.path.join(os.path.dirname(os.path.abspath(stem)), ".%s.beam" % base)
    with staging.locked(folder, "output_file"):
        staging.empty(folder)
        try:
            yield folder
        finally:
            staging.remove(folder)


def _remove_files(folder):
    """Removes our files in a remote folder."""
    if files.is_dir(folder):
        REMOTE.remove_all(["%s/%s" % (folder, name) for name in files.list_dir(folder)])
