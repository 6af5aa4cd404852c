"""Turns text into the records that ALBERT is pre-trained on: masked words and sentence order.

Input: UTF-8 text, one sentence a line; a blank line or the end of a file ends a document. Files may
be compressed (.gz, .zst). Output: TFRecords, shuffled, and a summary beside them.

The corpus is worked on in pieces, by all processors. A finished piece lies, sorted by random keys,
in a hidden folder beside the output; when all are there, the records are read from them in the
order of their keys, which is a uniform shuffle of the whole corpus, and written. Memory is
bounded; the disk holds the records twice for a while. An interrupted run goes on when
it is started again, and equal settings give equal records, however the work was divided.

Where what happens: corpus.py (text to documents), words.py (to tokens that know where words begin),
instances.py (to segments and masks), record_making.py and record_bytes.py (to records), spills.py
(the shuffle), workers.py (processes), staging.py (names, restarts), beam_engine.py (the same on
Apache Beam).
"""

import collections
import functools
import os
import re
import shutil
import time

from absl import flags

import console
import corpus
import errors
import files
import instances
import numpy as np
import record_bytes
import record_making
import spills
import staging
import words
import workers
from errors import UserError
from record_making import DYNAMIC, MASKINGS, STATIC

MADE_BY = "create_pretraining_data.py"
ENDING = ".tfrecord"
COMPRESSIONS = collections.OrderedDict([("none", ""), ("gzip", ".gz")])
ENGINES = ("local", "beam")

Settings = collections.namedtuple("Settings", [
    "input_file", "output_file", "vocab_file", "do_lower_case", "do_whole_word_mask",
    "max_seq_length", "max_predictions_per_seq", "random_seed", "dupe_factor", "masked_lm_prob",
    "short_seq_prob", "non_chinese", "spm_model_file", "num_workers", "num_shards",
    "prefixed_word_labels", "max_ngram", "overwrite", "pad_records", "masking", "segmenter",
    "shard_megabytes", "compression", "engine"])
Settings.__doc__ = """The flags of this script, one field each; `define_flags` describes them."""
Settings.__new__.__defaults__ = (
    True, False, 128, 20, 12345, 10, 0.15, 0.1, False, None, None, 1, False, 1, False, False,
    STATIC, "auto", 0, "none", "local")

# What the records do not depend on.
OF_THE_RUN = ("num_workers", "overwrite", "segmenter", "engine")


def making_of(settings):
    """Returns the record_making.Making of Settings."""
    making = record_making.Making(**{name: getattr(settings, name)
                                     for name in record_making.Making._fields})
    return making._replace(dupe_factor=1) if making.masking == DYNAMIC else making


# ---------------------------------------------------------------------------------------------
# Output files
# ---------------------------------------------------------------------------------------------

Outputs = collections.namedtuple("Outputs", ["names", "stem", "ending", "summary", "older"])
Outputs.__doc__ = """Where the records go.

names: the paths that were named one by one, or None: they follow from stem, ending and the number
of shards; summary: path; older: files of an earlier run."""


def plan_outputs(output_file, compression="none"):
    """Names the output files.

    "x.tfrecord" gives x.tfrecord, or for four shards x-00000-of-00004.tfrecord and so on; a comma
    list names the shards one by one. The summary is x.json, x from the first name.

    Raises:
        UserError: a name is that of a folder or comes twice, or the summary's is taken.
    """
    ending = ENDING + COMPRESSIONS[compression]
    names = [_with_ending(name.strip(), ending) for name in (output_file or "").split(",")
             if name.strip()]
    if not names:
        raise UserError("--output_file is missing: name a file, such as data/my_corpus.tfrecord")
    if len(set(map(files.place_of, names))) < len(names):
        raise UserError("--output_file=%s names a file twice" % output_file)
    stems = [name[:-len(ending)] for name in names]
    summary = stems[0] + ".json"
    older = sorted({path for stem in stems for path in staging.find_shards(stem, ENDING)})
    return Outputs(names if len(names) > 1 else None, stems[0], ending, summary,
                   older + staging.older_report(summary, MADE_BY))


def shard_names(outputs, count):
    """Returns the paths of so many shards."""
    return list(outputs.names or staging.shard_names(outputs.stem, outputs.ending, count))


def _with_ending(name, ending):
    staging.require_file_name(name, "my_corpus" + ending)
    if not name.endswith(ending):
        longer = name + (ending[len(ENDING):] if name.endswith(ENDING) else ending)
        console.say("note: the output is written to %s, as the names of such records end in %s"
                    % (longer, ending))
        name = longer
    staging.require_output(name[:-len(ending)], ending, name)
    return name


def refuse_older(outputs, overwrite):
    """As staging.refuse_older."""
    staging.refuse_older(outputs.older, outputs.summary,
                         outputs.names or [outputs.stem + outputs.ending], overwrite)


# ---------------------------------------------------------------------------------------------
# The folder of an unfinished run
# ---------------------------------------------------------------------------------------------

# In it: what the inputs hold; what a piece made, and its records; the finished shards; and, once
# all are there, where they belong.
SURVEY, PIECE, SHARD = "survey.json", "piece-", "shard-"


def work_folder(outputs):
    """Returns the folder of the unfinished run."""
    # Hidden and without the word "tfrecord": no glob of the user's finds it.
    name = os.path.basename(outputs.stem).replace("tfrecord", "records") + ".records"
    return staging.work_folder(outputs.stem, "create-pretraining-data", name)


def plan_of(settings, inputs):
    """Returns what tells whether an unfinished run can be gone on with."""
    plan = collections.OrderedDict(
        (name, value) for name, value in settings._asdict().items() if name not in OF_THE_RUN)
    vocabulary = settings.spm_model_file or settings.vocab_file
    plan.update(inputs=staging.fingerprints(inputs), vocabulary=files.fingerprint(vocabulary))
    return plan


def _spill_path(work, index):
    return os.path.join(work, "%s%06d" % (PIECE, index))


def _shard_path(work, index):
    return os.path.join(work, "%s%05d" % (SHARD, index))


def _segment_path(work, index, bucket):
    return os.path.join(work, "segment-%05d-%05d" % (index, bucket))


# ---------------------------------------------------------------------------------------------
# Jobs
# ---------------------------------------------------------------------------------------------

def make_spill(making, work, buckets, run_size, job):
    """Makes the records of a piece; returns what it counted.

    Args:
        making: record_making.Making; work: folder; buckets, run_size: as for spills.write.
        job: (index, corpus.Piece).
    """
    index, piece = job
    counts = collections.Counter()
    spills.write(_spill_path(work, index), record_making.batches_of(making, piece, counts),
                 buckets, run_size, counts)
    return counts


@functools.lru_cache(maxsize=1)
def load_spills(work, number):
    """Returns (list of spills.Spill of all pieces, int64 [buckets] the records of each bucket)."""
    found = [spills.read_index(_spill_path(work, index)) for index in range(number)]
    return found, sum(spill.counts for spill in found)


def write_shard(work, pieces, shards, ending, index):
    """Writes a shard of the finished records; all shards are of the same size, to one record.

    Args:
        work: folder; pieces, shards: numbers of them; ending: of the shards' names.
        index: which shard.
    """
    found, counts = load_spills(work, pieces)
    start, end = shard_range(counts, shards, index)
    staged = _shard_path(work, index) + ending
    record_bytes.write(staged, spills.read_range(found, counts, start, end))
    files.move(staged, _shard_path(work, index))


def shard_range(counts, shards, index):
    """Returns (first, end) of the records of a shard; counts: int64 [buckets], all records."""
    total = int(counts.sum())
    return total * index // shards, total * (index + 1) // shards


def write_segment(work, pieces, shards, ending, job):
    """Writes the part of a shard that lies in one bucket. job: (shard, bucket)."""
    found, counts = load_spills(work, pieces)
    first = np.append(0, np.cumsum(counts))
    start, end = shard_range(counts, shards, job[0])
    staged = _segment_path(work, *job) + ending
    record_bytes.write(staged, spills.read_range(
        found, counts, max(start, first[job[1]]), min(end, first[job[1] + 1])))
    files.move(staged, _segment_path(work, *job))


def segments_of(counts, shards, index):
    """Returns the (shard, bucket) of the segments that make up a shard."""
    first = np.append(0, np.cumsum(counts))
    start, end = shard_range(counts, shards, index)
    return [(index, bucket) for bucket in range(len(counts))
            if max(start, first[bucket]) < min(end, first[bucket + 1])]


def join_segments(work, segments):
    """Makes a shard of its segments: files of records, compressed ones too, may be joined."""
    with files.atomic_write(_shard_path(work, segments[0][0])) as stream:
        for segment in segments:
            with open(_segment_path(work, *segment), "rb") as part:
                shutil.copyfileobj(part, stream, 1 << 20)
    for segment in segments:
        os.remove(_segment_path(work, *segment))


# ---------------------------------------------------------------------------------------------
# The whole run
# ---------------------------------------------------------------------------------------------

def create(settings, beam_options=()):
    """Creates the records and their summary.

    Args:
        settings: Settings; num_workers None means one worker for each processor.
        beam_options: with engine "beam", the options that Beam is given, list of str.

    Returns:
        the summary, a dict.

    Raises:
        UserError: a setting, an input or the output cannot be used, or an unfinished run is there
            that had other settings. Nothing of an earlier run has been touched then.
    """
    began = time.time()
    if settings.engine == "beam":
        import beam_engine  # which also tells files.py how to reach remote files
    settings = settings._replace(num_workers=settings.num_workers or workers.count_processors())
    check_settings(settings)
    inputs = files.expand(settings.input_file or "", "input_file")
    outputs = plan_outputs(settings.output_file, settings.compression)
    check_paths(settings, inputs, outputs)
    record_making.get_maker(making_of(settings))  # vocabulary and segmenter, before anything starts
    if settings.engine == "beam":
        shards, counts = beam_engine.create(settings, inputs, outputs, list(beam_options))
    else:
        shards, counts = create_locally(settings, inputs, outputs)
    summary = summarize(settings, inputs, shards, counts, time.time() - began)
    files.write_json(outputs.summary, summary)
    if settings.engine == "local":
        staging.remove(work_folder(outputs))
    print(summary_table(summary))
    return summary


def create_locally(settings, inputs, outputs):
    """Makes the records on this machine; returns (paths of the shards, Counter)."""
    work = work_folder(outputs)
    if not staging.is_done(work):
        refuse_older(outputs, settings.overwrite)
    pieces = corpus.plan_pieces(inputs)
    workers.keep_memory_steady()
    with staging.locked(work, "output_file"):
        done = staging.finish(
            work, plan_of(settings, inputs), PIECE, settings.overwrite,
            lambda: make_all(settings, inputs, outputs, pieces, work))
        put_into_place(work, done["shards"], done["older"])
        return done["shards"], collections.Counter(done["counts"])


def make_all(settings, inputs, outputs, pieces, work):
    """Makes all shards in the folder of the unfinished run, and staging.DONE, which says so."""
    total = survey_all(settings, inputs, pieces, work)
    counts = make_pieces(settings, pieces, total, work)
    try:
        check_counts(settings, counts)
        count = count_shards(settings, outputs, counts, work, len(pieces))
    except UserError:
        staging.empty(work)  # what was made is of no use
        raise
    make_shards(settings, outputs, work, len(pieces), count)
    files.write_json(os.path.join(work, staging.DONE), {
        "shards": shard_names(outputs, count), "counts": counts,
        "older": [path for path in outputs.older if path != outputs.summary]})


def survey_all(settings, inputs, pieces, work):
    """Reads all inputs once, so that faults show before the work starts; returns a Survey."""
    path = os.path.join(work, SURVEY)
    if files.exists(path):
        return corpus.Survey(*files.read_json(path))
    found, progress = [], console.Progress("reading", total=len(pieces), unit="piece")
    for _, one in workers.run_jobs(corpus.survey, pieces, min(settings.num_workers, len(pieces))):
        found.append(one)
        if len(pieces) > 1:
            progress.update(len(found))
    total = corpus.add_surveys(found)
    corpus.require_text(total, inputs)
    advise(settings, total, inputs)
    files.write_json(path, total)
    return total


def make_pieces(settings, pieces, total, work):
    """Makes the records of all pieces that are not finished; returns the Counter of all."""
    counts, waiting = collections.Counter(), []
    for index, piece in enumerate(pieces):
        if files.exists(_spill_path(work, index)):
            counts.update(spills.read_index(_spill_path(work, index)).notes)
        else:
            waiting.append((index, piece))
    making = making_of(settings)
    expected = total.characters * making.dupe_factor * record_making.BYTES_PER_TOKEN
    warn_of_full_disk(work, 2 * expected)
    progress = console.Progress("creating", total=total.characters, unit="character",
                                start=counts["characters"])
    # jieba's dictionary is not loaded before the fork: each word looked up would copy a page of it.
    workers_here = min(settings.num_workers, len(waiting)) or 1
    job = functools.partial(make_spill, making, work, spills.count_buckets(expected),
                            spills.run_bytes(expected))
    for _, more in workers.run_jobs(job, waiting, workers_here):
        counts.update(more)
        progress.update(counts["characters"], "%s documents  %s instances" % (
            format(counts["documents"], ","), format(counts["instances"], ",")))
    return counts


def count_shards(settings, outputs, counts, work, pieces):
    """Returns the number of shards; UserError where there are fewer records."""
    if outputs.names:
        count = len(outputs.names)
    elif settings.shard_megabytes:
        size = sum(os.path.getsize(_spill_path(work, index)) for index in range(pieces))
        count = min(-(-size // int(settings.shard_megabytes * 1e6)), counts["instances"])
    else:
        count = settings.num_shards
    if counts["instances"] < count:
        raise UserError("%d instances cannot fill %d shards: use fewer; nothing was written"
                        % (counts["instances"], count))
    return count


def make_shards(settings, outputs, work, pieces, count):
    """Writes the shards that are not finished."""
    waiting = [index for index in range(count) if not files.exists(_shard_path(work, index))]
    load_spills.cache_clear()  # a run before in this process may have had the same folder
    _, counts = load_spills(work, pieces)  # before the fork
    settled = (work, pieces, count, outputs.ending[len(ENDING):])
    in_segments = len(waiting) < settings.num_workers
    if in_segments:
        # Too few shards for all workers: the buckets of each are written apart, and joined.
        segments = [segments_of(counts, count, index) for index in waiting]
        job, jobs = functools.partial(write_segment, *settled), sum(segments, [])
        jobs = [one for one in jobs if not files.exists(_segment_path(work, *one))]
    else:
        job, jobs = functools.partial(write_shard, *settled), waiting
    progress = console.Progress("writing", total=len(jobs), unit="part")
    done = workers.run_jobs(job, jobs, min(settings.num_workers, len(jobs)) or 1)
    for number, _ in enumerate(done, start=1):
        progress.update(number)
    if in_segments:
        for one in segments:
            join_segments(work, one)


def put_into_place(work, shards, older):
    """As staging.put_into_place; shards: where they belong, in their order."""
    names = [os.path.basename(_shard_path(work, index)) for index in range(len(shards))]
    staging.put_into_place(work, list(zip(names, shards)), older)


def warn_of_full_disk(folder, expected):
    free = shutil.disk_usage(folder).free
    if free < 1.1 * expected:
        console.say("WARNING: about %.1f GB will be written, but only %.1f GB are free at %s"
                    % (expected / 1e9, free / 1e9, folder))


def check_settings(settings):
    """Raises UserError for a setting out of its range; names the flag."""
    ranges = (
        ("max_seq_length", 5, 1 << 20), ("max_predictions_per_seq", 1, 1 << 20),
        ("dupe_factor", 1, 1 << 20), ("num_workers", 1, 4096), ("num_shards", 1, 100000),
        ("max_ngram", 1, 1000), ("short_seq_prob", 0.0, 1.0), ("shard_megabytes", 0.0, 1e6))
    for name, least, most in ranges:
        value = getattr(settings, name)
        if not least <= value <= most:
            raise UserError("--%s=%s must be %s to %s" % (name, value, least, most))
    if not 0.0 < settings.masked_lm_prob < 1.0:
        raise UserError("--masked_lm_prob=%s must lie between 0 and 1; 0.15 is usual"
                        % settings.masked_lm_prob)
    if settings.max_predictions_per_seq >= settings.max_seq_length:
        raise UserError("--max_predictions_per_seq=%d must be less than --max_seq_length=%d"
                        % (settings.max_predictions_per_seq, settings.max_seq_length))
    if settings.prefixed_word_labels and (settings.non_chinese or settings.spm_model_file):
        raise UserError("--prefixed_word_labels is about Chinese words in a WordPiece vocabulary: "
                        "leave it out with --non_chinese or --spm_model_file")
    names = (settings.output_file or "").count(",") + 1
    staging.require_shards(max(settings.num_shards, names), settings.shard_megabytes)
    if settings.masking == DYNAMIC and settings.pad_records:
        raise UserError("--pad_records is for other codebases, which cannot read --masking=dynamic")


def check_paths(settings, inputs, outputs):
    """Raises UserError where output folders cannot be written to or an output is an input."""
    names = outputs.names or [outputs.stem + outputs.ending]
    if outputs.names and settings.num_shards not in (1, len(names)):
        raise UserError("--num_shards=%d does not fit the %d names of --output_file: leave it out"
                        % (settings.num_shards, len(names)))
    numbered = outputs.names or re.search(files.SHARD_NUMBER + "$", outputs.stem)
    if settings.masking == DYNAMIC and numbered:
        raise UserError("--output_file=%s: with --masking=dynamic give one name, without a shard's "
                        "number, and --num_shards: training looks for one summary of all shards"
                        % settings.output_file)
    staging.require_no_input(inputs, names + [outputs.summary])
    for folder in sorted({os.path.dirname(path) or "." for path in names}):
        files.make_dir(folder, "output_file")


def advise(settings, total, inputs):
    """Says what looks unintended, before the work starts."""
    of_workers = "" if settings.engine == "beam" else "; workers: %d" % settings.num_workers
    console.say("%s documents, %s sentences, %s characters in %d %s%s" % (
        format(total.documents, ","), format(total.sentences, ","),
        format(total.characters, ","), len(inputs), "file" if len(inputs) == 1 else "files",
        of_workers))
    if total.documents == len(inputs) and total.sentences > 200 * len(inputs):
        console.say("WARNING: no blank lines: each file counts as one document. Put a blank line "
                    "between documents, or segments of unrelated texts are paired")
    if total.documents == total.sentences > 1:
        console.say("WARNING: every document is a single sentence, so each is cut in two. Put the "
                    "sentences of one document on consecutive lines, without blank lines")
    wanted = int(round(settings.max_seq_length * settings.masked_lm_prob))
    if settings.max_predictions_per_seq < wanted:
        console.say("WARNING: --max_predictions_per_seq=%d masks less than --masked_lm_prob=%g of "
                    "%d tokens; use %d" % (
                        settings.max_predictions_per_seq, settings.masked_lm_prob,
                        settings.max_seq_length, wanted))
    packed = [path for path in inputs if files.is_compressed(path)]
    if packed and len(packed) == len(inputs) < settings.num_workers:
        console.say("note: a compressed file is read by one process; %d of %d have work. Several "
                    "smaller files use all" % (len(packed), settings.num_workers))


def check_counts(settings, counts):
    """Raises UserError where there is nothing to write; warns of few masks."""
    if not counts["instances"]:
        raise UserError("--input_file: all %d documents are too short for two segments (%d tokens "
                        "at least); nothing was written" % (counts["documents"],
                                                            instances.SHORTEST_CHUNK))
    if (settings.masking == STATIC
            and 2 * counts["masked_tokens"] < _expected_share(settings) * counts["tokens"]):
        console.say("WARNING: few tokens are masked, as most words are longer than an instance may "
                    "predict: is this text of another language than the settings say?")


def _expected_share(settings):
    return min(settings.masked_lm_prob,
               settings.max_predictions_per_seq / float(settings.max_seq_length))


def summarize(settings, inputs, shards, counts, seconds):
    """Returns the summary of a run as a dict; shares are fractions of 1."""
    made, tokens = counts["instances"], counts["tokens"]
    making = making_of(settings)
    to_use = counts["text_tokens"] * making.dupe_factor
    used = tokens - instances.SPECIALS_PER_INSTANCE * made
    vocabulary = settings.spm_model_file or settings.vocab_file
    summary = collections.OrderedDict([
        ("made_by", MADE_BY),
        ("documents", counts["documents"]),
        ("skipped_documents", counts["skipped_documents"]),
        ("sentences", counts["sentences"]),
        ("instances", made),
        ("mean_length", round(tokens / float(made), 2)),
        ("padding_share", _share(made * settings.max_seq_length - tokens,
                                 made * settings.max_seq_length)),
        ("masked_share", _share(counts["masked_tokens"], tokens)),
        ("swapped_share", _share(counts["swapped_pairs"], made)),
        ("unknown_share", _share(counts["unknown_tokens"], counts["text_tokens"])),
        ("unused_share", _share(to_use - used, to_use)),
        ("seconds", round(seconds, 1)),
        ("inputs", list(inputs)),
        ("outputs", list(shards)),
        ("vocabulary", vocabulary),
        ("vocabulary_sha256", files.fingerprint(vocabulary)),
        ("settings", settings._asdict()),
    ])
    if settings.masking == DYNAMIC:
        summary["masking"] = record_making.describe_masking(making)
    return summary


def _share(part, whole):
    return round(part / float(max(1, whole)), 6)


def summary_table(summary):
    """Formats the summary for the screen."""
    is_dynamic = summary["settings"]["masking"] == DYNAMIC
    rows = [
        ("documents", format(summary["documents"], ",")),
        ("  of these too short, skipped", format(summary["skipped_documents"], ",")),
        ("sentences", format(summary["sentences"], ",")),
        ("instances", format(summary["instances"], ",")),
        ("mean length in tokens", "%.1f" % summary["mean_length"]),
        ("padding, where padded", "%.1f %%" % (100 * summary["padding_share"])),
        ("masked tokens", "when trained" if is_dynamic
         else "%.1f %%" % (100 * summary["masked_share"])),
        ("swapped pairs", "%.1f %%" % (100 * summary["swapped_share"])),
        ("[UNK] in the text", "%.2f %%" % (100 * summary["unknown_share"])),
        ("seconds", "%.1f" % summary["seconds"]),
        ("files", "%s%s" % (os.path.basename(summary["outputs"][0]),
                            " ..." if len(summary["outputs"]) > 1 else "")),
    ]
    return console.table(["pre-training records", ""], rows)


# ---------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------

def define_flags():
    """Defines the flags; called when this file is run, so that other scripts may import it."""
    flags.DEFINE_string("input_file", None,
                        "Text, one sentence a line, a blank line between documents; a comma list "
                        "of names and globs. Read in the order of the list, globs by name.")
    flags.DEFINE_string("output_file", None,
                        "TFRecord file to write, or a comma list of them.")
    flags.DEFINE_string("vocab_file", None,
                        "WordPiece vocabulary, such as albert_config/vocab.txt.")
    flags.DEFINE_bool("do_lower_case", True, "Lower-case the text (and strip accents).")
    flags.DEFINE_bool("do_whole_word_mask", False,
                      "Mask whole words: Chinese ones as jieba finds them.")
    flags.DEFINE_integer("max_seq_length", 128, "Tokens of a record.")
    flags.DEFINE_integer("max_predictions_per_seq", 20, "Most masked tokens of a record.")
    flags.DEFINE_integer("random_seed", 12345, "The same seed gives the same records.")
    flags.DEFINE_integer("dupe_factor", 10, "How often the text is used, each time masked anew.")
    flags.DEFINE_float("masked_lm_prob", 0.15, "Share of tokens that are masked.")
    flags.DEFINE_float("short_seq_prob", 0.1, "Share of records made shorter at random.")
    flags.DEFINE_bool("non_chinese", False,
                      "The text is not Chinese: words are told by ## alone, without jieba.")
    flags.DEFINE_string("spm_model_file", None,
                        "SentencePiece model to use in place of --vocab_file.")
    flags.DEFINE_integer("num_workers", None, "Processes; default: one for each processor.")
    flags.DEFINE_integer("num_shards", 1, "Files to write: x-00000-of-00004.tfrecord, ...")
    flags.DEFINE_bool("prefixed_word_labels", False,
                      "Predict the ## entry of all but the first character of a Chinese word, as "
                      "the released albert_zh models were trained.")
    flags.DEFINE_integer("max_ngram", 1, "Mask spans of up to so many words (ALBERT: 3).")
    flags.DEFINE_bool("pad_records", False, "Pad every record to --max_seq_length and "
                      "--max_predictions_per_seq, as other codebases read them.")
    flags.DEFINE_enum("masking", STATIC, MASKINGS,
                      "static: --dupe_factor times, on disk; dynamic: each instance is written "
                      "once with its word boundaries, and training masks it afresh every epoch.")
    flags.DEFINE_enum("segmenter", "auto", words.SEGMENTERS,
                      "Finds Chinese words; the records are the same. auto: rjieba where it is "
                      "installed and its words are jieba's, else jieba.")
    flags.DEFINE_float("shard_megabytes", 0.0,
                       "Size of a shard, in place of --num_shards; 0: by --num_shards.")
    flags.DEFINE_enum("compression", "none", list(COMPRESSIONS), "gzip: x.tfrecord.gz.")
    flags.DEFINE_enum("engine", "local", ENGINES,
                      "beam: Apache Beam, whose own options follow after --.")
    flags.DEFINE_bool("overwrite", False,
                      "Replace the records of an earlier run with the same --output_file.")


def main(argv):
    settings = Settings(**{name: flags.FLAGS[name].value for name in Settings._fields})
    if argv[1:] and settings.engine != "beam":
        raise UserError("unexpected argument %r: every setting is given as --name=value" % argv[1])
    create(settings, argv[1:])


if __name__ == "__main__":
    define_flags()
    errors.run(main, positional=None)
