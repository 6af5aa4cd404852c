"""Creating pre-training data: CPU time, memory, and what a second worker brings.

    python benchmarks/create_data.py
    python benchmarks/create_data.py --scale_megabytes=20,200,2000 --rounds=3

First table: --megabytes of --input_file at length 512, whole words, with dupe_factor 1 and 10, by
one worker; the whole command is measured, start-up included. "the plain way" is how such scripts
are usually written, and how the older releases did it: every duplicate is segmented anew by jieba,
tokens are masked one by one in Python, records are written through TensorFlow. It is faster than
the older script, which is not part of this project, as it has this project's tokenizer.

Second table: text of several sizes, made of the input by repetition with variation (a character in
fifty is another one of the text), by one and by two workers. Memory is the most that all processes
held together (proportional set size, sampled). What a worker does a second is corrected for the
start-up, which is measured on a text of one document.

The JSON file is what benchmarks/corpus_estimate.py takes as --measured.
"""

import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import errors  # noqa: E402 - the project's modules lie one folder up
import files  # noqa: E402
import side_by_side  # noqa: E402
from absl import flags  # noqa: E402
from console import say  # noqa: E402
from errors import UserError  # noqa: E402
from side_by_side import (  # noqa: E402
    THIS, Measure, Outcome, Reference, Variant, number, summarise)

FLAGS = flags.FLAGS

SCRIPT = os.path.join(ROOT, "create_pretraining_data.py")
SAMPLE = os.path.join(ROOT, "data", "news_zh_1.txt")
SETTINGS = ("--do_whole_word_mask=True", "--max_seq_length=512", "--max_predictions_per_seq=51",
            "--masked_lm_prob=0.10")
DUPLICATES = (1, 10)
SEED = 1
CHANGED = 50        # of so many characters one is replaced in repeated text
SAMPLED_EVERY = 0.05  # seconds

VARIANTS = [
    Variant("plain", "the plain way", THIS, {"role": "plain"}),
    Variant("jieba", "this project, jieba alone", THIS, {"arguments": ["--segmenter=jieba"]}),
    Variant("auto", "this project", THIS, {"arguments": []}),
    Variant("dynamic", "this project, dynamic masking", THIS,
            {"arguments": ["--masking=dynamic"]}),
]
REFERENCES = [Reference("to the plain way", ("plain",))]

Run = collections.namedtuple("Run", ["cpu", "wall", "memory"])
Run.__doc__ = """What a command took.

cpu, wall: seconds; memory: MiB, or None where it was not watched."""


def measures_of():
    """Returns the list of Measure of the first table."""
    found = []
    for duplicates in DUPLICATES:
        key = "%d" % duplicates
        found.append(Measure("instance_" + key, "CPU time an instance, dupe_factor %s" % key, "us",
                             False, (("cpu_" + key, "CPU-seconds"), ("wall_" + key, "seconds"))))
    return found


def define_flags():
    side_by_side.define_flags()
    shared = os.environ.get("ALBERT_ZH_SHARED_DATA",
                            os.path.join(os.path.dirname(ROOT), "shared", "data"))
    corpus = os.path.join(shared, "corpus", "people_daily_199801.txt")
    flags.DEFINE_string("input_file", corpus if os.path.exists(corpus) else SAMPLE,
                        "Text to measure with.")
    flags.DEFINE_string("vocab_file", os.path.join(ROOT, "albert_config", "vocab.txt"),
                        "Vocabulary.")
    flags.DEFINE_float("megabytes", 2.0, "Text of the first table.")
    flags.DEFINE_list("scale_megabytes", ["20", "100"], "Texts of the second table; none: \"\".")
    flags.DEFINE_integer("workers", 2, "Workers of the second table, beside one.")


# ---------------------------------------------------------------------------------------------
# The plain way
# ---------------------------------------------------------------------------------------------

def make_plainly(settings):
    """Creates records without any of this project's short cuts; returns their number."""
    import corpus
    import records
    import tokenization
    import words
    tokenizer = tokenization.FullTokenizer(settings["vocab_file"])
    segment, rng = words.load_jieba(), random.Random(SEED)
    documents = [[tokenizer.tokenize(line) for line in document.lines]
                 for document in corpus.read_documents(corpus.plan_pieces([settings["input"]]))]

    def examples():
        for _ in range(settings["duplicates"]):
            for sentences in documents:
                for first, second, is_swapped in _plain_pairs(sentences, rng):
                    yield records.encode(records.PRETRAINING, _plain_record(
                        first, second, is_swapped, tokenizer, segment, rng))

    return records.write(settings["output"], examples())


def _plain_pairs(sentences, rng):
    """Yields (first, second, is_swapped) of a document, lists of tokens, 509 in all at most."""
    chunk, size = [], 0
    for place, sentence in enumerate(sentences):
        chunk.append(sentence)
        size += len(sentence)
        if place == len(sentences) - 1 or size >= 509:
            cut = rng.randint(1, max(len(chunk) - 1, 1))
            first, second = sum(chunk[:cut], []), sum(chunk[cut:], [])
            while len(first) + len(second) > 509:
                (first if len(first) > len(second) else second).pop()
            if first and second:
                is_swapped = rng.random() < 0.5
                yield (second, first, True) if is_swapped else (first, second, False)
            chunk, size = [], 0


def _plain_record(first, second, is_swapped, tokenizer, segment, rng):
    """Returns the fields of a record, with whole words masked."""
    tokens = ["[CLS]"] + first + ["[SEP]"] + second + ["[SEP]"]
    groups = []
    for part, offset in ((first, 1), (second, len(first) + 2)):
        left = 0
        words = iter(segment("".join(token.replace("##", "") for token in part)))
        for place, token in enumerate(part):
            if left <= 0 and not token.startswith("##"):
                left += len(next(words, "  "))
                groups.append([])
            left -= len(token.replace("##", ""))
            groups[-1].append(offset + place)
    rng.shuffle(groups)
    labels, limit = {}, min(51, max(1, int(round(len(tokens) * 0.1))))
    for group in groups:
        if len(labels) >= limit:
            break
        if len(labels) + len(group) > limit:
            continue
        for place in group:
            labels[place] = tokens[place]
            draw = rng.random()
            if draw < 0.8:
                tokens[place] = "[MASK]"
            elif draw < 0.9:
                tokens[place] = tokenizer.inv_vocab[rng.randrange(len(tokenizer.vocab))]
    places = sorted(labels)
    ids = tokenizer.convert_tokens_to_ids(tokens)
    padding, unused = [0] * (512 - len(ids)), [0] * (51 - len(places))
    return {
        "input_ids": ids + padding, "input_mask": [1] * len(ids) + padding,
        "segment_ids": [0] * (len(first) + 2) + [1] * (len(second) + 1) + padding,
        "masked_lm_positions": places + unused,
        "masked_lm_ids": tokenizer.convert_tokens_to_ids([labels[p] for p in places]) + unused,
        "masked_lm_weights": [1.0] * len(places) + [0.0] * len(unused),
        "next_sentence_labels": [int(is_swapped)]}


# ---------------------------------------------------------------------------------------------
# Measuring a command
# ---------------------------------------------------------------------------------------------

def run(arguments, watch_memory=False):
    """Runs a command; returns its Run.

    Raises:
        UserError: it failed.
    """
    before, began = os.times(), time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    memory = Memory(process.pid) if watch_memory else None
    said, _ = process.communicate()
    wall, after = time.perf_counter() - began, os.times()
    if process.returncode:
        raise UserError("the measured command failed: %s\n%s" % (
            " ".join(arguments), said.decode("utf-8", "replace")[-2000:]))
    cpu = (after.children_user - before.children_user
           + after.children_system - before.children_system)
    return Run(cpu, wall, memory.stop() if memory else None)


class Memory(object):
    """Watches how much memory a process and those it started hold together (Linux)."""

    def __init__(self, pid):
        self._pid, self._most, self._ended = pid, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self):
        """Returns the most that was seen, in MiB."""
        self._ended.set()
        self._thread.join()
        return self._most

    def _watch(self):
        while not self._ended.wait(SAMPLED_EVERY):
            self._most = max(self._most, sum(map(_held, _family(self._pid))))


def _family(pid):
    """Returns the ids of a process and of all that it started."""
    found = [pid]
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task)) as stream:
                for child in stream.read().split():
                    found += _family(int(child))
    except OSError:  # it has just ended
        pass
    return found


def _held(pid):
    """Returns the proportional set size of a process in MiB; 0 when it has just ended."""
    try:
        with open("/proc/%d/smaps_rollup" % pid) as stream:
            for line in stream:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) / 1024.0
    except OSError:  # it has just ended
        pass
    return 0.0


# ---------------------------------------------------------------------------------------------
# The two tables
# ---------------------------------------------------------------------------------------------

def command_of(variant, text, output, duplicates, vocab_file, workers=1):
    """Returns the command that makes a variant's records of a text."""
    if variant.settings.get("role") == "plain":
        settings = {"input": text, "output": output, "duplicates": duplicates,
                    "vocab_file": vocab_file}
        return [sys.executable, os.path.abspath(__file__), "--worker=" + json.dumps(settings)]
    return [sys.executable, SCRIPT, "--input_file=" + text, "--output_file=" + output,
            "--vocab_file=" + vocab_file, "--dupe_factor=%d" % duplicates,
            "--overwrite=True", "--num_workers=%d" % workers] + list(
                SETTINGS) + variant.settings["arguments"]


def measure_variants(variants, text, folder, rounds, vocab_file):
    """Runs all variants round robin; returns list of Outcome."""
    outcomes = [Outcome(variant, {"runtime": "Python " + sys.version.split()[0]}, [], None)
                for variant in variants]
    for round_number in range(1, rounds + 1):
        for place, outcome in enumerate(outcomes):
            say("Round %d of %d: %s" % (round_number, rounds, outcome.variant.name))
            values = {}
            for duplicates in DUPLICATES:
                output = os.path.join(folder, outcome.variant.key + ".tfrecord")
                command = command_of(outcome.variant, text, output, duplicates, vocab_file)
                found = run(command)
                key = "%d" % duplicates
                values["cpu_" + key], values["wall_" + key] = found.cpu, found.wall
                values["instance_" + key] = 1e6 * found.cpu / count_records(output)
            outcomes[place].rounds.append(values)
    return outcomes


def count_records(path):
    """Returns the number of records of a TFRecord file, without loading TensorFlow."""
    count, size = 0, os.path.getsize(path)
    with open(path, "rb") as stream:
        while stream.tell() < size:
            stream.seek(int.from_bytes(stream.read(8), "little") + 8, os.SEEK_CUR)
            count += 1
    return count


def write_text(source, path, size, seed=SEED):
    """Writes so many bytes of text: the source, then again with other characters here and there.

    Returns:
        the number of characters.
    """
    with open(source, encoding="utf-8") as stream:
        documents = stream.read().split("\n\n")
    generator = random.Random(seed)
    inventory = [char for char in "".join(documents) if not char.isspace()]
    written = characters = 0
    with open(path, "w", encoding="utf-8") as stream:
        for repetition in range(1 << 30):
            for document in documents:
                if repetition:
                    document = list(document)
                    for place in range(generator.randrange(CHANGED), len(document), CHANGED):
                        if not document[place].isspace():
                            document[place] = generator.choice(inventory)
                    document = "".join(document)
                stream.write(document + "\n\n")
                written += len(document.encode("utf-8")) + 2
                characters += len(document)
                if written >= size:
                    return characters
    raise AssertionError("never reached")


def measure_scale(source, folder, sizes, workers, vocab_file, rounds):
    """Makes records of texts of several sizes, by one and by several workers in turns.

    Returns:
        list of {"megabytes", "workers", "seconds", "cpu", "memory": MiB, "characters", "bytes": of
        the records, "rate": characters a second without the start-up, "start_up_seconds",
        "start_up_cpu"}: medians of the rounds, of memory the most.
    """
    variant = next(one for one in VARIANTS if one.key == "auto")
    text, output = os.path.join(folder, "scale.txt"), os.path.join(folder, "scale.tfrecord")

    def measured():
        runs = {count: [] for count in sorted({1, workers})}
        for _ in range(rounds):
            for count in runs:
                runs[count].append(run(command_of(variant, text, output, 1, vocab_file, count),
                                       watch_memory=True))
        return {count: Run(summarise([one.cpu for one in several]).median,
                           summarise([one.wall for one in several]).median,
                           max(one.memory for one in several))
                for count, several in runs.items()}

    found = []
    write_text(source, text, 1)
    start_ups = measured()
    for size in sizes:
        say("Writing %d MB of text" % size)
        characters = write_text(source, text, size * 1e6)
        say("Making records of %d MB, %d rounds" % (size, rounds))
        for count, one in measured().items():
            seconds = max(one.wall - start_ups[count].wall, 1e-9)
            found.append(collections.OrderedDict([
                ("megabytes", size), ("workers", count), ("seconds", one.wall), ("cpu", one.cpu),
                ("memory", one.memory), ("characters", characters),
                ("bytes", os.path.getsize(output)), ("rate", characters / seconds),
                ("start_up_seconds", start_ups[count].wall),
                ("start_up_cpu", start_ups[count].cpu)]))
    return found


def scale_rows(found):
    """Returns the second table, the header first."""
    rows = [["MB of text", "workers", "seconds", "CPU-seconds", "characters/s", "to one worker",
             "MiB of memory"]]
    for one in found:
        alone = next(other for other in found
                     if other["megabytes"] == one["megabytes"] and other["workers"] == 1)
        rows.append(["%d" % one["megabytes"], "%d" % one["workers"], number(one["seconds"]),
                     number(one["cpu"]), number(one["rate"]),
                     "%.2fx" % (one["rate"] / alone["rate"]), number(one["memory"])])
    return rows


def main(_):
    if FLAGS.worker:
        make_plainly(json.loads(FLAGS.worker))
        return
    side_by_side.require_at_least_one(FLAGS, ("rounds", "workers"))
    if not FLAGS.megabytes > 0:
        raise UserError("--megabytes=%g: a number above 0 is needed" % FLAGS.megabytes)
    sizes = [size for size in FLAGS.scale_megabytes if size.strip()]
    sizes = side_by_side.whole_numbers(sizes, "scale_megabytes", least=1) if sizes else []
    files.require_file(FLAGS.input_file, "input_file")
    files.require_file(FLAGS.vocab_file, "vocab_file")
    chosen = side_by_side.choose(VARIANTS, FLAGS.variants)
    files.make_dir(FLAGS.output_dir, "output_dir")
    facts = side_by_side.machine()
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "text.txt")
        characters = write_text(FLAGS.input_file, text, FLAGS.megabytes * 1e6)
        facts.update(data="%s, %s characters" % (os.path.basename(FLAGS.input_file),
                                                 format(characters, ",")),
                     settings=" ".join(SETTINGS), rounds=FLAGS.rounds)
        outcomes = measure_variants(chosen, text, folder, FLAGS.rounds, FLAGS.vocab_file)
        scale = measure_scale(FLAGS.input_file, folder, sizes, FLAGS.workers, FLAGS.vocab_file,
                              FLAGS.rounds)
    more = [("Scale, dupe_factor 1", scale_rows(scale))] if scale else []
    side_by_side.report("create_data", "Creating pre-training data", facts, outcomes, measures_of(),
                        REFERENCES, FLAGS.output_dir, more, {"scale": scale})


if __name__ == "__main__":
    define_flags()
    errors.run(main)
