"""Turns raw documents into a corpus for create_pretraining_data.py: one sentence a line.

Input: text, JSON lines or Wikipedia extracts, plain or compressed (.gz, .zst). Every document is
cleaned and split into sentences; what is too short, no running text, or there already is left out,
and a report says what and why. Output: a blank line after each document, in the order of the input,
in one file or in shards; a share can be held out for measuring how well a model predicts new text.

The input is worked on in jobs of some megabytes, by all processors. What is finished lies in a
hidden folder beside the output, twice the size of the text at most, until all is written; an
interrupted run goes on when it is started again, and equal settings give equal files, however the
work was divided. Memory does not grow with the corpus.

Where what happens: raw_text.py (files to documents), sentence_splitting.py (to sentences),
duplicates.py (what is there already), workers.py (processes), staging.py (names, restarts).
"""

import collections
import contextlib
import functools
import gzip
import hashlib
import json
import os
import re
import shutil
import time

from absl import flags

import console
import corpus
import duplicates
import errors
import files
import numpy as np
import raw_text
import sentence_splitting
import staging
import workers
from errors import UserError

MADE_BY = "prepare_corpus.py"
ENDING, PACKED = ".txt", ".gz"
HELD_OUT = ".held_out"

# Documents are kept in parts of this size, at most.
PART_BYTES = 8 << 20
PART_DOCUMENTS = 50000
COUNTED_LINES = 1 << 18   # different lines that a process counts at a time
SHOWN = 3                 # examples of what was dropped, for each reason
SHOWN_CHARACTERS = 60
LISTED_INPUTS = 100       # in the report
SHORT_DOCUMENTS = 60      # characters on average, which paragraphs rather than documents have

Settings = collections.namedtuple("Settings", [
    "input_file", "output_file", "input_format", "text_field", "title_field", "blank_lines",
    "skip_bad_lines", "normalize", "max_sentence_characters", "min_characters", "max_characters",
    "min_sentences", "min_chinese_share", "max_symbol_share", "max_repeated_share",
    "max_line_repeats", "drop_duplicates", "near_duplicates", "held_out_share", "num_shards",
    "shard_megabytes", "num_workers", "overwrite"])
Settings.__doc__ = """The flags of this script, one field each; `define_flags` describes them."""
Settings.__new__.__defaults__ = (
    "auto", "text", "", raw_text.ENDS_DOCUMENT, False, "nfc", 500, 20, 0, 1, 0.0, 0.5, 0.5, 0,
    True, 0.0, 0.0, 1, 0.0, None, False)

OF_THE_RUN = ("num_workers", "overwrite")  # what the output does not depend on

# Why documents are left out, in the order in which it is checked.
EMPTY = "no text"
TOO_SHORT, TOO_LONG = "shorter than --min_characters", "longer than --max_characters"
TOO_FEW = "fewer sentences than --min_sentences"
NOT_CHINESE, SYMBOLS = "below --min_chinese_share", "above --max_symbol_share"
REPETITIVE = "above --max_repeated_share"
DUPLICATE, NEAR_DUPLICATE = "the same as an earlier document", "much like an earlier document"
OF_DOCUMENTS = (EMPTY, TOO_SHORT, TOO_LONG, TOO_FEW, NOT_CHINESE, SYMBOLS, REPETITIVE, DUPLICATE,
                NEAR_DUPLICATE)
# And lines of documents.
REPEATED_LINE = "line in more than --max_line_repeats documents"
OF_LINES = raw_text.BAD_LINES + (REPEATED_LINE,)

_NOT_CHINESE = re.compile("[^\u3400-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]+")
_LETTERS = re.compile(r"[^\W\d_]+")


# ---------------------------------------------------------------------------------------------
# One document
# ---------------------------------------------------------------------------------------------

Prepared = collections.namedtuple("Prepared", ["sentences", "characters", "identity",
                                               "repeated_lines"])
Prepared.__doc__ = """A cleaned document.

sentences: list of str; characters: of them; identity: all its text without blanks, lines that
repeat in other documents included; repeated_lines: list of (place among the raw lines, text).
"""


def prepare(lines, settings, repeated=()):
    """Cleans the raw lines of a document and splits them into sentences; returns Prepared.

    Args:
        lines: list of str; settings: Settings; repeated: sorted uint64 array, the digests of lines
            to drop.
    """
    cleaned = [raw_text.clean(line, settings.normalize) for line in lines]
    is_dropped = np.zeros(len(cleaned), bool)
    if len(repeated):
        is_dropped = duplicates.is_among(list(map(duplicates.digest, cleaned)), repeated)
    sentences = []
    for line, drop in zip(cleaned, is_dropped):
        if line and not drop:
            sentences.extend(sentence_splitting.split_sentences(
                line, settings.max_sentence_characters))
    return Prepared(sentences, sum(map(len, sentences)), "".join(cleaned).replace(" ", ""),
                    [(place, cleaned[place]) for place in np.flatnonzero(is_dropped).tolist()])


def why_dropped(sentences, characters, settings):
    """Returns the reason to leave a document out, one of OF_DOCUMENTS, or None."""
    if not sentences:
        return EMPTY
    if characters < settings.min_characters:
        return TOO_SHORT
    if settings.max_characters and characters > settings.max_characters:
        return TOO_LONG
    if len(sentences) < settings.min_sentences:
        return TOO_FEW
    text = "".join(sentences).replace(" ", "")
    if len(_NOT_CHINESE.sub("", text)) < settings.min_chinese_share * len(text):
        return NOT_CHINESE
    if len(_LETTERS.sub("", text)) > settings.max_symbol_share * len(text):
        return SYMBOLS
    different = sum(map(len, set(sentences)))
    if characters - different > settings.max_repeated_share * characters:
        return REPETITIVE
    return None


def is_held_out(identity, share):
    """Tells whether a document is held out; depends on its text alone.

    >>> is_held_out("今天下雨。", 1.0), is_held_out("今天下雨。", 0.0)
    (True, False)
    """
    return duplicates.digest(identity, b"held out") < share * 2.0 ** 64


# ---------------------------------------------------------------------------------------------
# What is dropped
# ---------------------------------------------------------------------------------------------

class Dropped(object):
    """Counts what is dropped, by reason, with the first examples of each.

    Attributes:
        counts: dict of reason to [documents or lines, characters].
        examples: dict of reason to a list of [piece, line in it, text, like], like None or the
            [piece, line] of the document that it is like.
    """

    def __init__(self, counts=None, examples=None):
        self.counts, self.examples = counts or {}, examples or {}

    def add(self, reason, characters, piece, line, text, like=None):
        counts = self.counts.setdefault(reason, [0, 0])
        counts[0] += 1
        counts[1] += characters
        examples = self.examples.setdefault(reason, [])
        if len(examples) < SHOWN:
            shown = text[:SHOWN_CHARACTERS] + ("..." if len(text) > SHOWN_CHARACTERS else "")
            examples.append([piece, line, shown, like])

    def update(self, other):
        """Adds another Dropped; of all examples the first ones are kept."""
        for reason, (number, characters) in other.counts.items():
            counts = self.counts.setdefault(reason, [0, 0])
            counts[0] += number
            counts[1] += characters
        for reason, examples in other.examples.items():
            both = self.examples.get(reason, []) + examples
            self.examples[reason] = sorted(both, key=lambda one: one[:2])[:SHOWN]


# ---------------------------------------------------------------------------------------------
# Parts: prepared documents on disk
# ---------------------------------------------------------------------------------------------

TEXT, INDEX = ".text", ".index"

# One entry for each document: where it came from, how long it is in .text, whether it is held out.
_INDEX = np.dtype([("piece", "<u4"), ("line", "<u8"), ("size", "<u4"), ("sentences", "<u4"),
                   ("characters", "<u4"), ("held_out", "u1")])


class PartWriter(object):
    """Writes prepared documents to part files; use as a context.

    Attributes:
        counts: list of the number of documents of each finished part.
    """

    def __init__(self, path, dropped, drops_duplicates, signer):
        """path: how the names start; dropped: Dropped; signer: duplicates.Signer or None."""
        self.counts = []
        self._path, self._dropped, self._signer = path, dropped, signer
        self._drops_duplicates = drops_duplicates
        self._open = None

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        if self._open is None:
            return None
        if kind is not None:
            return self._open.__exit__(kind, *rest)
        self._finish()
        return None

    def add(self, piece, line, prepared, held_out):
        """Adds a document, unless the part has the same already."""
        if self._open is None:
            self._start()
        text = "".join(prepared.sentences).replace(" ", "")
        key = duplicates.digest(text)
        if self._drops_duplicates:
            row = self._seen.setdefault(key, len(self._rows))
            if row < len(self._rows):
                like = list(self._rows[row][:2])
                self._dropped.add(DUPLICATE, prepared.characters, piece, line,
                                  prepared.sentences[0], like)
                return
        data = ("\n".join(prepared.sentences) + "\n\n").encode("utf-8")
        self._text.write(data)
        if self._signer:
            self._signatures.write(self._signer.sign(text).tobytes())
        self._rows.append((piece, line, len(data), len(prepared.sentences), prepared.characters,
                           held_out))
        self._keys.append(key)
        self._size += len(data)
        if self._size >= PART_BYTES or len(self._rows) >= PART_DOCUMENTS:
            self._finish()

    def _start(self):
        path = "%s-%04d" % (self._path, len(self.counts))
        self._open = contextlib.ExitStack()
        self._digests, self._index, self._text = (
            self._open.enter_context(files.atomic_write(path + ending))
            for ending in (duplicates.DIGESTS, INDEX, TEXT))
        if self._signer:
            self._signatures = self._open.enter_context(
                files.atomic_write(path + duplicates.SIGNATURES))
        self._rows, self._keys, self._seen, self._size = [], [], {}, 0

    def _finish(self):
        self._digests.write(np.array(self._keys, "<u8").tobytes())
        self._index.write(np.array(self._rows, _INDEX).tobytes())
        self.counts.append(len(self._rows))
        self._open.close()
        self._open = None


def read_index(part):
    """Returns the index of a duplicates.Part."""
    return np.fromfile(part.path + INDEX, _INDEX)


def copy_documents(part, index, wanted, target):
    """Copies the text of documents of a part to a stream. wanted: bool [documents]."""
    ends = np.append(0, np.cumsum(index["size"].astype(np.int64)))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], wanted.astype(np.int8), [0]])))
    with open(part.path + TEXT, "rb") as stream:
        for first, last in edges.reshape([-1, 2]).tolist():
            stream.seek(ends[first])
            target.write(stream.read(int(ends[last] - ends[first])))


# ---------------------------------------------------------------------------------------------
# Jobs
# ---------------------------------------------------------------------------------------------

# In the folder of an unfinished run: what the inputs hold, and the lines to drop; of each job, what
# it counted; the pairs of documents that are alike; which documents are dropped as such; the
# finished files.
SURVEY, LINES, REPEATED, JOB, PART = "survey.json", "lines-", "repeated", "job-", "part-"
SAME, SIMILAR, GROUPS, FATES, FOUND = "same-", "similar-", "groups", "fates", "found.json"
SHARD = "shard-"

KEPT, IS_SAME, IS_SIMILAR = range(3)  # fates

Job = collections.namedtuple("Job", ["number", "pieces"])
Job.__doc__ = """Pieces for a process to work on.

number: from 0; pieces: list of (number among all, corpus.Piece, format).
"""


def plan_jobs(pieces, formats):
    """Gathers small pieces in jobs; returns a list of Job."""
    jobs, gathered, size = [], [], 0
    for number, piece in enumerate(pieces):
        gathered.append((number, piece, formats[piece.file]))
        size += _size_of(piece)
        if size >= corpus.PIECE_BYTES:
            jobs.append(Job(len(jobs), gathered))
            gathered, size = [], 0
    if gathered:
        jobs.append(Job(len(jobs), gathered))
    return jobs


def _size_of(piece):
    return (files.size(piece.path) if piece.end is None else piece.end) - piece.start


def read_documents(job, settings, dropped=None, lines=None):
    """Yields (number of the piece, raw_text.RawDocument) of a job.

    Args:
        dropped: Dropped, which counts bad lines; lines: list to which is added how many lines start
            in each piece.
    """
    reading = raw_text.Reading(settings.text_field, settings.title_field, settings.blank_lines,
                               settings.skip_bad_lines)
    for number, piece, kind in job.pieces:
        tally = raw_text.Tally(functools.partial(_add_bad_line, dropped, number)
                               if dropped else None)
        for document in raw_text.read_documents(piece, kind, reading, tally):
            yield number, document
        if lines is not None:
            lines.append(tally.lines)


def _add_bad_line(dropped, piece, reason, number, text):
    dropped.add(reason, len(text), piece, number, text.strip())


def survey(settings, work, job):
    """Reads a job's input, so that faults show; counts in how many documents each line stands.

    Returns:
        dict: lines (of each piece), documents, characters, runs (files of counted lines).
    """
    found = {"lines": [], "documents": 0, "characters": 0, "runs": 0}
    counts = collections.Counter()

    def write_run():
        if counts:
            duplicates.write_counts(_lines_path(work, job.number, found["runs"]), counts)
            found["runs"] += 1
            counts.clear()

    for _, document in read_documents(job, settings, lines=found["lines"]):
        found["documents"] += 1
        found["characters"] += sum(map(len, document.lines))
        if settings.max_line_repeats:
            cleaned = (raw_text.clean(line, settings.normalize) for line in document.lines)
            counts.update({duplicates.digest(line) for line in cleaned if line})
            if len(counts) >= COUNTED_LINES:
                write_run()
    write_run()
    return found


def prepare_job(settings, work, job):
    """Prepares the documents of a job; returns what it counted, a dict.

    Writes part files and, when they are there, what it returns.
    """
    dropped = Dropped()
    signer = _load_signer() if settings.near_duplicates else None
    repeated = _load_repeated(work) if settings.max_line_repeats else ()
    found = {"documents": 0, "characters": 0, "divided": 0, "dropped": dropped.counts,
             "examples": dropped.examples}
    with PartWriter(os.path.join(work, "%s%06d" % (PART, job.number)), dropped,
                    settings.drop_duplicates, signer) as writer:
        for piece, document in read_documents(job, settings, dropped):
            found["documents"] += 1
            found["divided"] += int(document.part > 0)
            found["characters"] += sum(map(len, document.lines))
            prepared = prepare(document.lines, settings, repeated)
            for place, line in prepared.repeated_lines:
                dropped.add(REPEATED_LINE, len(line), piece, document.numbers[place], line)
            reason = why_dropped(prepared.sentences, prepared.characters, settings)
            if reason:
                dropped.add(reason, prepared.characters, piece, document.numbers[0],
                            prepared.sentences[0] if prepared.sentences else "")
            else:
                writer.add(piece, document.numbers[0], prepared,
                           is_held_out(prepared.identity, settings.held_out_share))
    found["parts"] = writer.counts
    files.write_json(_job_path(work, job.number), found)
    return found


@functools.lru_cache(maxsize=1)
def _load_signer():
    return duplicates.Signer()


def _load_repeated(work):
    """Returns the digests of the lines to drop; they stay on disk."""
    path = os.path.join(work, REPEATED)
    if not files.size(path):
        return np.zeros(0, np.uint64)
    return np.memmap(path, "<u8", "r")


def _lines_path(work, job, run):
    return os.path.join(work, "%s%06d-%04d" % (LINES, job, run))


def _job_path(work, number):
    return os.path.join(work, "%s%06d.json" % (JOB, number))


def write_frequent(work, paths, most, bits, bucket):
    """Writes the digests of a bucket that stand in more than `most` documents."""
    with files.atomic_write(os.path.join(work, "%s-%05d" % (REPEATED, bucket))) as stream:
        stream.write(duplicates.find_frequent(paths, most, bits, bucket).tobytes())


def write_same(work, parts, bits, bucket):
    """Writes the pairs of documents of a bucket that are the same."""
    duplicates.write_pairs(os.path.join(work, "%s%05d" % (SAME, bucket)),
                           duplicates.find_same(parts, bits, bucket))


def write_bands(work, threshold, part):
    """Writes the bands of a part, for those of its documents that are not the same as others."""
    fates = read_fates(work, part)
    duplicates.write_bands(part, fates == KEPT, threshold)


def write_similar(work, parts, threshold, bits, band_and_bucket):
    """Writes the pairs of documents of a bucket of a band that are similar."""
    duplicates.write_pairs(
        os.path.join(work, "%s%03d-%05d" % ((SIMILAR,) + band_and_bucket)),
        duplicates.find_similar(parts, threshold, band_and_bucket[0], bits, band_and_bucket[1]))


def read_fates(work, part):
    """Returns the fates of a part's documents, uint8 [documents]."""
    with open(os.path.join(work, FATES), "rb") as stream:
        stream.seek(part.first)
        return np.frombuffer(stream.read(part.count), np.uint8)


Sharing = collections.namedtuple("Sharing", ["starts", "total", "shards", "by_size"])
Sharing.__doc__ = """How the kept documents are shared out.

starts: int64 [parts], bytes (or documents, if not by_size) that are before each part; total: of
all; shards: number of them.
"""
HELD_OUT_SHARD = -1


def shards_of(index, kept, start, sharing):
    """Returns the shard of each document of a part, int64; kept: bool, those that are shared."""
    sizes = index["size"].astype(np.int64) if sharing.by_size else np.ones(len(index), np.int64)
    sizes = np.where(kept, sizes, 0)
    places = start + np.cumsum(sizes) - sizes
    return np.minimum(_shard_at(places, sharing), sharing.shards - 1)


def _shard_at(place, sharing):
    return place * sharing.shards // max(1, sharing.total)


def write_shard(work, parts, sharing, is_packed, shard):
    """Writes a shard of the kept documents, or those held out (HELD_OUT_SHARD)."""
    with files.atomic_write(_shard_path(work, shard)) as stream:
        # Neither name nor time in the header: equal text, equal files.
        target = gzip.GzipFile("", "wb", 6, stream, mtime=0) if is_packed else stream
        for part, start, end in zip(parts, sharing.starts, sharing.starts[1:] + [sharing.total]):
            if shard != HELD_OUT_SHARD and not (
                    _shard_at(start, sharing) <= shard <= _shard_at(end, sharing)):
                continue
            index = read_index(part)
            kept = read_fates(work, part) == KEPT
            held_out = index["held_out"].astype(bool)
            if shard == HELD_OUT_SHARD:
                wanted = kept & held_out
            else:
                wanted = kept & ~held_out
                wanted &= shards_of(index, wanted, start, sharing) == shard
            copy_documents(part, index, wanted, target)
        if is_packed:
            target.close()


def _shard_path(work, shard):
    return os.path.join(work, "%s%s" % (
        SHARD, "held-out" if shard == HELD_OUT_SHARD else "%05d" % shard))


# ---------------------------------------------------------------------------------------------
# Output files
# ---------------------------------------------------------------------------------------------

Outputs = collections.namedtuple("Outputs", ["stem", "ending", "report"])
Outputs.__doc__ = """Where the corpus goes: stem, ending, e.g. .txt.gz; report: path."""


def plan_outputs(output_file):
    """Returns the Outputs: "x.txt.gz" gives x.txt.gz (or x-00000-of-00004.txt.gz) and x.json.

    Raises:
        UserError: the name is missing, a folder's, or has an ending that cannot be written.
    """
    name = (output_file or "").strip()
    if not name:
        raise UserError("--output_file is missing: name a file, such as data/my_corpus.txt")
    staging.require_file_name(name, "my_corpus.txt")
    if name.endswith(".zst"):
        raise UserError("--output_file=%s: a corpus is written plain or as .gz" % name)
    ending = ENDING + (PACKED if name.endswith(PACKED) else "")
    stem = re.sub(r"(\.txt)?(\.gz)?$", "", name)
    staging.require_output(stem, ending, name)
    if stem + ending != name:
        console.say("note: the output is written to %s%s" % (stem, ending))
    return Outputs(stem, ending, stem + ".json")


def find_older(outputs):
    """Returns the files of an earlier run with the same name.

    Raises:
        UserError: a file of another kind is where the report would go.
    """
    return (staging.find_shards(outputs.stem, ENDING, [HELD_OUT])
            + staging.older_report(outputs.report, MADE_BY))


def work_folder(outputs):
    """Returns the folder of the unfinished run."""
    return staging.work_folder(outputs.stem, "prepare-corpus",
                               os.path.basename(outputs.stem) + ENDING)


# ---------------------------------------------------------------------------------------------
# The whole run
# ---------------------------------------------------------------------------------------------

def create(settings):
    """Creates the corpus and its report.

    Args:
        settings: Settings; num_workers None means one worker for each processor.

    Returns:
        the report, a dict.

    Raises:
        UserError: a setting, an input or the output cannot be used, or an unfinished run is there
            that had other settings. Nothing of an earlier run has been touched then.
    """
    began = time.time()
    settings = settings._replace(num_workers=settings.num_workers or workers.count_processors())
    check_settings(settings)
    if settings.near_duplicates:
        _load_signer()  # so that a missing package shows before anything starts
    inputs = files.expand(settings.input_file or "", "input_file")
    outputs = plan_outputs(settings.output_file)
    older = find_older(outputs)
    check_paths(inputs, outputs, older)
    work = work_folder(outputs)
    if not staging.is_done(work):
        staging.refuse_older(older, outputs.report, [outputs.stem + outputs.ending],
                             settings.overwrite)
    with staging.locked(work, "output_file"):
        done = staging.finish(work, plan_of(settings, inputs), JOB, settings.overwrite,
                              lambda: make_all(settings, inputs, outputs, older, work))
        staging.put_into_place(work, done["files"], done["older"])
        report = collections.OrderedDict(done["report"], seconds=round(time.time() - began, 1))
        files.write_json(outputs.report, report)
    staging.remove(work)
    show(report)
    return report


def plan_of(settings, inputs):
    """Returns what tells whether an unfinished run can be gone on with."""
    plan = collections.OrderedDict(
        (name, value) for name, value in settings._asdict().items() if name not in OF_THE_RUN)
    fingerprints = json.dumps(staging.fingerprints(inputs)).encode("utf-8")
    plan["inputs"] = hashlib.sha256(fingerprints).hexdigest()  # there may be very many
    return plan


def make_all(settings, inputs, outputs, older, work):
    """Makes all files in the folder of the unfinished run, and staging.DONE, which says so."""
    formats = [raw_text.format_of(path, settings.input_format) for path in inputs]
    pieces = raw_text.plan_pieces(inputs, formats, settings.blank_lines)
    jobs = plan_jobs(pieces, formats)
    raw_text.clean("")  # before the fork, so that the workers share its table
    surveyed = survey_all(settings, inputs, jobs, raw_text.TEXT in formats, work)
    counts, dropped, parts = prepare_all(settings, jobs, surveyed, work)
    find_duplicates(settings, parts, work)
    totals, sharing = share_out(settings, parts, dropped, work)
    try:
        check_totals(settings, counts, dropped, totals, sharing)
    except UserError:
        staging.empty(work)  # what was made is of no use
        raise
    places = write_all(settings, outputs, parts, sharing, totals, work)
    report = make_report(settings, inputs, pieces, surveyed, counts, dropped, totals,
                         [path for _, path in places])
    files.write_json(os.path.join(work, staging.DONE), {
        "files": places, "report": report,
        "older": [path for path in older if path != outputs.report]})


def run_all(settings, function, jobs, label, unit):
    """Yields (job, result) of jobs, a list, as they are done; says how far they are."""
    progress = console.Progress(label, total=len(jobs), unit=unit)
    finished = workers.run_jobs(function, jobs, min(settings.num_workers, len(jobs)) or 1)
    for done, found in enumerate(finished, start=1):
        if len(jobs) > 1:
            progress.update(done)
        yield found


def survey_all(settings, inputs, jobs, has_text, work):
    """Reads all inputs once, so that faults show before the work starts.

    Args:
        has_text: whether some input is plain text.

    Returns:
        dict: lines (of each piece), documents, characters.
    """
    path = os.path.join(work, SURVEY)
    if files.exists(path):
        return files.read_json(path)
    found = {}
    for job, one in run_all(settings, functools.partial(survey, settings, work), jobs, "reading",
                            "job"):
        found[job.number] = one
    ordered = [found[job.number] for job in jobs]
    total = {"lines": sum((one["lines"] for one in ordered), []),
             "documents": sum(one["documents"] for one in ordered),
             "characters": sum(one["characters"] for one in ordered)}
    if not total["documents"]:
        raise UserError("--input_file: %s no document; --input_format says how files are read"
                        % ("%s holds" % inputs[0] if len(inputs) == 1
                           else "the %d files hold" % len(inputs)))
    advise(settings, total, inputs, has_text, work)
    if settings.max_line_repeats:
        find_repeated_lines(settings, [_lines_path(work, job.number, run) for job in jobs
                                       for run in range(found[job.number]["runs"])], work)
    files.write_json(path, total)
    return total


def find_repeated_lines(settings, paths, work):
    """Writes the digests of lines that stand in more documents than allowed, sorted."""
    bits = duplicates.bucket_bits(sum(map(duplicates.count_counts, paths)))
    function = functools.partial(write_frequent, work, paths, settings.max_line_repeats, bits)
    found = _run_missing(settings, work, function,
                         [("%s-%05d" % (REPEATED, bucket), bucket) for bucket in range(1 << bits)],
                         "repeated lines", "bucket")
    with files.atomic_write(os.path.join(work, REPEATED)) as stream:
        for path in found:  # each sorted, and all after the other
            with open(path, "rb") as part:
                shutil.copyfileobj(part, stream)
    for path in paths + found:
        os.remove(path)


def prepare_all(settings, jobs, surveyed, work):
    """Prepares all documents; returns (Counter, Dropped, list of duplicates.Part)."""
    waiting = [job for job in jobs if not files.exists(_job_path(work, job.number))]
    done = sum(files.read_json(_job_path(work, job.number))["characters"] for job in jobs
               if files.exists(_job_path(work, job.number)))
    progress = console.Progress("preparing", total=surveyed["characters"], unit="character",
                                start=done)
    for _, one in workers.run_jobs(functools.partial(prepare_job, settings, work), waiting,
                                   min(settings.num_workers, len(waiting)) or 1):
        done += one["characters"]
        progress.update(done)
    counts, dropped, parts, first = collections.Counter(), Dropped(), [], 0
    for job in jobs:
        one = files.read_json(_job_path(work, job.number))
        counts.update({name: one[name] for name in ("documents", "characters", "divided")})
        dropped.update(Dropped(one["dropped"], one["examples"]))
        for number, count in enumerate(one["parts"]):
            parts.append(duplicates.Part(
                os.path.join(work, "%s%06d-%04d" % (PART, job.number, number)), first, count))
            first += count
    return counts, dropped, parts


def find_duplicates(settings, parts, work):
    """Finds the documents that are, or are much like, earlier ones; writes FATES and GROUPS.

    GROUPS holds for each document the number of the first of those that it is like.
    """
    if not parts or files.exists(os.path.join(work, FOUND)):
        return
    total = sum(part.count for part in parts)
    bits = duplicates.bucket_bits(total)
    fates_path, groups_path = os.path.join(work, FATES), os.path.join(work, GROUPS)
    groups = duplicates.Groups(groups_path, total)
    with open(fates_path, "wb") as stream:
        stream.truncate(total)
    fates = np.memmap(fates_path, np.uint8, "r+", shape=(total,))
    if settings.drop_duplicates:
        names = _run_missing(settings, work, functools.partial(write_same, work, parts, bits),
                             [("%s%05d" % (SAME, bucket), bucket) for bucket in range(1 << bits)],
                             "duplicates", "bucket")
        for pairs in _pairs_of(names):
            fates[pairs[:, 1]] = IS_SAME
            groups.join(pairs)
    if settings.near_duplicates:
        fates.flush()  # the workers read the file
        for pairs in _similar_pairs(settings, parts, bits, work):
            groups.join(pairs)
    for start, firsts in groups.settle():
        block = fates[start:start + len(firsts)]
        is_later = firsts != np.arange(start, start + len(firsts))
        block[is_later & (block == KEPT)] = IS_SIMILAR
    fates.flush()
    files.write_json(os.path.join(work, FOUND), {})


def _similar_pairs(settings, parts, bits, work):
    """Yields the pairs of similar documents, in blocks."""
    threshold = settings.near_duplicates
    names = _run_missing(
        settings, work, functools.partial(write_bands, work, threshold),
        [(os.path.basename(part.path) + duplicates.PAIRS, part) for part in parts],
        "near duplicates in parts", "part")
    bands = duplicates.choose_bands(threshold)[0]
    names += _run_missing(
        settings, work, functools.partial(write_similar, work, parts, threshold, bits),
        [("%s%03d-%05d" % (SIMILAR, band, bucket), (band, bucket))
         for band in range(bands) for bucket in range(1 << bits)],
        "near duplicates", "bucket")
    return _pairs_of(names)


def _run_missing(settings, work, function, named_jobs, label, unit):
    """Does the jobs, (name of the file it writes, job), whose file is missing; returns the paths.
    """
    named_jobs = [(os.path.join(work, name), job) for name, job in named_jobs]
    waiting = [job for path, job in named_jobs if not files.exists(path)]
    for _ in run_all(settings, function, waiting, label, unit):
        pass
    return [path for path, _ in named_jobs]


def _pairs_of(paths):
    for path in paths:
        for pairs in duplicates.read_pairs(path):
            yield pairs


def share_out(settings, parts, dropped, work):
    """Counts what is kept; adds to `dropped`, a Dropped; returns (totals, a Counter, Sharing)."""
    totals, sizes, numbers, shown = collections.Counter(), [], [], collections.Counter()
    for part in parts:
        index, fates = read_index(part), read_fates(work, part)
        held_out = index["held_out"].astype(bool)
        for name, wanted in (("", (fates == KEPT) & ~held_out),
                             ("held_out_", (fates == KEPT) & held_out)):
            chosen = index[wanted]
            totals[name + "documents"] += len(chosen)
            for field in ("sentences", "characters", "size"):
                totals[name + field] += int(chosen[field].sum(dtype=np.int64))
        sizes.append(totals["size"])
        numbers.append(totals["documents"])
        _count_duplicates(part, parts, index, fates, dropped, shown, work)
    count = settings.num_shards
    if settings.shard_megabytes:
        count = max(1, -(-totals["size"] // int(settings.shard_megabytes * 1e6)))
        count = min(count, max(1, totals["documents"]))
    by_size = Sharing([0] + sizes[:-1], totals["size"], count, True)
    # A document may be larger than a shard; where that leaves a shard empty, they are counted.
    if count == 1 or count > totals["documents"] or _fills_all(parts, by_size, work):
        return totals, by_size
    return totals, Sharing([0] + numbers[:-1], totals["documents"], count, False)


def _fills_all(parts, sharing, work):
    """Tells whether every shard gets a document."""
    filled = np.zeros(sharing.shards, bool)
    for part, start in zip(parts, sharing.starts):
        index = read_index(part)
        kept = (read_fates(work, part) == KEPT) & ~index["held_out"].astype(bool)
        filled[shards_of(index, kept, start, sharing)[kept]] = True
    return bool(filled.all())


def _count_duplicates(part, parts, index, fates, dropped, shown, work):
    """Adds the duplicates of a part to `dropped`, the first with the documents they are like.

    Args:
        index, fates: of the part; shown: Counter of how many of each reason have been shown.
    """
    for fate, reason in ((IS_SAME, DUPLICATE), (IS_SIMILAR, NEAR_DUPLICATE)):
        rows = np.flatnonzero(fates == fate)
        found = Dropped()
        for row in rows[:SHOWN - shown[reason]].tolist():
            shown[reason] += 1
            found.add(reason, 0, int(index["piece"][row]), int(index["line"][row]),
                      _first_sentence(part, index, row), _place_of_first(part.first + row, parts,
                                                                         work))
        if len(rows):
            found.counts[reason] = [len(rows), int(index["characters"][rows].sum(dtype=np.int64))]
            dropped.update(found)


def _first_sentence(part, index, row):
    with open(part.path + TEXT, "rb") as stream:
        stream.seek(int(index["size"][:row].sum(dtype=np.int64)))
        return stream.readline().decode("utf-8").strip()


def _place_of_first(number, parts, work):
    """Returns [piece, line] of the first document of those that one is like."""
    with open(os.path.join(work, GROUPS), "rb") as stream:
        stream.seek(8 * number)
        first = int(np.frombuffer(stream.read(8), "<i8")[0])
    owner = np.searchsorted([part.first for part in parts], first, side="right") - 1
    row = read_index(parts[owner])[first - parts[owner].first]
    return [int(row["piece"]), int(row["line"])]


def write_all(settings, outputs, parts, sharing, totals, work):
    """Writes the files that are not finished; returns [(name in the folder, where it belongs)]."""
    places = list(enumerate(staging.shard_names(outputs.stem, outputs.ending, sharing.shards)))
    if totals["held_out_documents"]:
        places.append((HELD_OUT_SHARD, outputs.stem + HELD_OUT + outputs.ending))
    function = functools.partial(write_shard, work, parts, sharing,
                                 outputs.ending.endswith(PACKED))
    waiting = [shard for shard, _ in places if not files.exists(_shard_path(work, shard))]
    for _ in run_all(settings, function, waiting, "writing", "file"):
        pass
    return [(os.path.basename(_shard_path(work, shard)), path) for shard, path in places]


# ---------------------------------------------------------------------------------------------
# Checks
# ---------------------------------------------------------------------------------------------

def check_settings(settings):
    """Raises UserError for a setting out of its range; names the flag."""
    ranges = (
        ("max_sentence_characters", 10, corpus.LINE_CHARACTERS), ("min_characters", 0, 1 << 30),
        ("max_characters", 0, 1 << 30), ("min_sentences", 1, 1 << 30),
        ("min_chinese_share", 0.0, 1.0), ("max_symbol_share", 0.0, 1.0),
        ("max_repeated_share", 0.0, 1.0), ("max_line_repeats", 0, 1 << 30),
        ("near_duplicates", 0.0, 1.0), ("num_shards", 1, 100000), ("shard_megabytes", 0.0, 1e6),
        ("num_workers", 1, 4096))
    for name, least, most in ranges:
        value = getattr(settings, name)
        if not least <= value <= most:
            raise UserError("--%s=%s must be %s to %s" % (name, value, least, most))
    if not 0.0 <= settings.held_out_share < 1.0:
        raise UserError("--held_out_share=%s must be 0, or less than 1; 0.01 is usual"
                        % settings.held_out_share)
    if 0.0 < settings.near_duplicates < 0.3:
        raise UserError("--near_duplicates=%s: unrelated texts of one kind share as much; 0.8 is "
                        "usual, 0.3 the least" % settings.near_duplicates)
    if not settings.text_field:
        raise UserError("--text_field is empty: name the field of JSON lines that holds the text")
    staging.require_shards(settings.num_shards, settings.shard_megabytes)
    if 0 < settings.max_characters < settings.min_characters:
        raise UserError("--max_characters=%d is less than --min_characters=%d" % (
            settings.max_characters, settings.min_characters))


def check_paths(inputs, outputs, older):
    """Raises UserError where the output cannot be written to or would overwrite an input.

    Args:
        older: of `find_older`, which by their names alone may be the input.
    """
    staging.require_no_input(inputs, [
        outputs.stem + outputs.ending, outputs.report,
        outputs.stem + HELD_OUT + outputs.ending] + older)
    files.make_dir(os.path.dirname(outputs.stem) or ".", "output_file")


def advise(settings, total, inputs, has_text, work):
    """Says what the input holds, and what looks unintended, before the work starts."""
    console.say("%s documents, %s characters in %d %s; workers: %d" % (
        format(total["documents"], ","), format(total["characters"], ","), len(inputs),
        "file" if len(inputs) == 1 else "files", settings.num_workers))
    if (has_text and settings.blank_lines == raw_text.ENDS_DOCUMENT
            and total["documents"] > len(inputs)
            and total["characters"] < SHORT_DOCUMENTS * total["documents"]):
        console.say("WARNING: the documents have %d characters on average; if blank lines only "
                    "separate paragraphs in these texts, give --blank_lines=paragraph"
                    % (total["characters"] // total["documents"]))
    expected = 6 * total["characters"]  # up to three bytes a character, in the folder and beside
    free = shutil.disk_usage(work).free
    if free < 1.1 * expected:
        console.say("WARNING: about %.1f GB will be written, but only %.1f GB are free at %s"
                    % (expected / 1e9, free / 1e9, work))


def check_totals(settings, counts, dropped, totals, sharing):
    """Raises UserError where there is nothing to write."""
    if not totals["documents"]:
        reasons = ["%d: %s" % (dropped.counts[reason][0], reason) for reason in OF_DOCUMENTS
                   if reason in dropped.counts]
        if totals["held_out_documents"]:
            reasons.append("%d: held out" % totals["held_out_documents"])
        raise UserError("--input_file: none of the %d documents is left (%s); nothing was written"
                        % (counts["documents"], "; ".join(reasons)))
    if totals["documents"] < sharing.shards:
        raise UserError("%d documents cannot fill %d shards: use fewer; nothing was written"
                        % (totals["documents"], sharing.shards))
    if settings.held_out_share and not totals["held_out_documents"]:
        console.say("WARNING: --held_out_share=%g of %d documents is none: no file of held-out "
                    "documents is written" % (settings.held_out_share, totals["documents"]))


# ---------------------------------------------------------------------------------------------
# The report
# ---------------------------------------------------------------------------------------------

def make_report(settings, inputs, pieces, surveyed, counts, dropped, totals, outputs):
    """Returns the report of a run, a dict; `create` adds the seconds."""
    first_lines = lines_before(pieces, surveyed["lines"])

    def place(piece, line):
        return "%s line %d" % (pieces[piece].path, 1 + first_lines[piece] + line)

    rows = []
    for reason in OF_LINES + OF_DOCUMENTS:
        if reason in dropped.counts:
            number, characters = dropped.counts[reason]
            rows.append(collections.OrderedDict([
                ("reason", reason), ("lines" if reason in OF_LINES else "documents", number),
                ("characters", characters),
                ("examples", [_example(place, *one) for one in dropped.examples[reason]])]))
    return collections.OrderedDict([
        ("made_by", MADE_BY),
        ("documents_in", counts["documents"]),
        ("characters_in", counts["characters"]),
        ("parts_of_very_long_documents", counts["divided"]),
        ("documents", totals["documents"]),
        ("sentences", totals["sentences"]),
        ("characters", totals["characters"]),
        ("held_out_documents", totals["held_out_documents"]),
        ("held_out_sentences", totals["held_out_sentences"]),
        ("held_out_characters", totals["held_out_characters"]),
        ("dropped", rows),
        ("number_of_inputs", len(inputs)),
        ("inputs", list(inputs[:LISTED_INPUTS])),
        ("outputs", outputs),
        ("settings", settings._asdict()),
    ])


def lines_before(pieces, lines):
    """Returns how many lines of its file come before each piece. lines: that start in each."""
    found, before = [], 0
    for number, piece in enumerate(pieces):
        if number and piece.file != pieces[number - 1].file:
            before = 0
        found.append(before)
        before += lines[number]
    return found


def _example(place, piece, line, text, like):
    example = collections.OrderedDict([("at", place(piece, line)), ("text", text)])
    if like:
        example["like"] = place(*like)
    return example


def show(report):
    """Prints the report as a table, and the first example of everything that was dropped."""
    rows = [("input", report["documents_in"], "", report["characters_in"]),
            ("corpus", report["documents"], report["sentences"], report["characters"])]
    if report["held_out_documents"]:
        rows.append(("held out", report["held_out_documents"], report["held_out_sentences"],
                     report["held_out_characters"]))
    for one in report["dropped"]:
        number = one["documents"] if "documents" in one else "%s lines" % format(one["lines"], ",")
        rows.append((one["reason"], number, "", one["characters"]))
    cells = [[format(cell, ",") if isinstance(cell, int) else cell for cell in one]
             for one in rows]
    print(console.table(["prepared corpus", "documents", "sentences", "characters"], cells))
    for one in report["dropped"]:
        for example in one["examples"][:1]:
            console.say("%s, for example %s%s: %s" % (
                one["reason"], example["at"],
                " (like %s)" % example["like"] if "like" in example else "", example["text"]))
    console.say("%s in %s; all examples are in the report beside it" % (
        report["outputs"][0] if len(report["outputs"]) == 1
        else "%d files, %s ..." % (len(report["outputs"]), report["outputs"][0]),
        console.duration(report["seconds"])))


# ---------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------

def define_flags():
    """Defines the flags; called when this file is run, so that other scripts may import it."""
    flags.DEFINE_string("input_file", None,
                        "Raw documents; a comma list of names and globs, plain, .gz or .zst. Read "
                        "in the order of the list, globs by name.")
    flags.DEFINE_string("output_file", None,
                        "Corpus to write, such as data/corpus.txt or data/corpus.txt.gz.")
    flags.DEFINE_enum("input_format", "auto", ("auto",) + raw_text.FORMATS,
                      "text; jsonl: a JSON object a line; wiki: what WikiExtractor writes; auto: "
                      "told by how a file starts, and its name.")
    flags.DEFINE_string("text_field", "text", "Field of JSON lines that holds the text.")
    flags.DEFINE_string("title_field", "",
                        "Field of JSON lines whose text becomes the first line of the document, "
                        "unless it stands there already; empty: none.")
    flags.DEFINE_enum("blank_lines", raw_text.ENDS_DOCUMENT, raw_text.BLANK_LINES,
                      "What a blank line ends in text files: a document, as in corpora; or just a "
                      "paragraph, where every file is one document.")
    flags.DEFINE_bool("skip_bad_lines", False,
                      "Pass over lines that are not UTF-8, no JSON object or without text, and "
                      "count them; otherwise the first of them ends the run.")
    flags.DEFINE_enum("normalize", "nfc", raw_text.NORMAL_FORMS,
                      "Unicode form. nfc: the same character always has the same code, and the "
                      "text looks the same; nfkc also turns full-width letters and punctuation "
                      "into ASCII, which a model for Chinese text should know as they are.")
    flags.DEFINE_integer("max_sentence_characters", 500,
                         "A longer sentence is cut at clause marks.")
    flags.DEFINE_integer("min_characters", 20, "Shorter documents are dropped.")
    flags.DEFINE_integer("max_characters", 0, "Longer documents are dropped; 0: none is.")
    flags.DEFINE_integer("min_sentences", 1, "Documents of fewer sentences are dropped.")
    flags.DEFINE_float("min_chinese_share", 0.0,
                       "Documents with a smaller share of Chinese characters are dropped; 0.5 "
                       "leaves Chinese text.")
    flags.DEFINE_float("max_symbol_share", 0.5,
                       "Documents with a larger share of digits, punctuation and symbols are "
                       "dropped, such as tables; 1: none is.")
    flags.DEFINE_float("max_repeated_share", 0.5,
                       "Documents of whose characters a larger share is in sentences that came "
                       "before in the document are dropped; 1: none is.")
    flags.DEFINE_integer("max_line_repeats", 0,
                         "Lines of the input that stand in more documents are dropped everywhere, "
                         "such as notices of web sites; 0: none is.")
    flags.DEFINE_bool("drop_duplicates", True,
                      "Drop documents whose text, but for blanks, is that of an earlier one.")
    flags.DEFINE_float("near_duplicates", 0.0,
                       "Drop documents that share this much with an earlier one, of what any five "
                       "characters in a row are in either, such as 0.8; 0: none. Needs the package "
                       "datasketch, and takes several times as long.")
    flags.DEFINE_float("held_out_share", 0.0,
                       "Share of the documents that is written to x.held_out.txt instead. It "
                       "depends on a document's text alone which ones.")
    flags.DEFINE_integer("num_shards", 1, "Files to write: x-00000-of-00004.txt, ...")
    flags.DEFINE_float("shard_megabytes", 0.0,
                       "Size of a shard before compression, in place of --num_shards; 0: by "
                       "--num_shards.")
    flags.DEFINE_integer("num_workers", None, "Processes; default: one for each processor.")
    flags.DEFINE_bool("overwrite", False,
                      "Replace the corpus of an earlier run with the same --output_file.")


def main(_):
    create(Settings(**{name: flags.FLAGS[name].value for name in Settings._fields}))


if __name__ == "__main__":
    define_flags()
    errors.run(main)
