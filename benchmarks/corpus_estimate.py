"""What pre-training records of a large corpus cost: a paper estimate, with its arithmetic.

    python benchmarks/corpus_estimate.py --measured=benchmark_output/create_data.json
    python benchmarks/corpus_estimate.py --sizes=30GB,3TB --machines=1,8,64 --shards=64,1024 \\
        --characters_per_cpu_second=... (and the other figures that --measured would give)

Nothing is measured here, and nothing is assumed of the speed: the figures come from --measured, a
JSON file, or from the flags of the same names, which come first. The file is create_data.json of
benchmarks/create_data.py (its largest text counts), or holds the figures as one object, or one
object for each way of making records, {"cases": {"static, 10 times": {...}, ...}}:

    characters_per_cpu_second       characters of the corpus that one CPU makes into records a
                                    second, all duplicates of them
    record_bytes_per_character      bytes of records on disk for each character of the corpus
    start_up_seconds                from the command to the first record
    read_characters_per_cpu_second  of the first reading, which only counts, and
    write_bytes_per_second          bytes of records that one process sorts and writes, both if
                                    characters_per_cpu_second does not include them; without the
                                    latter, too few shards are not seen to make writing slow
    efficiency                      {"1": 1.0, "2": 0.97, ...}: throughput of so many workers on one
                                    machine, over that many times the throughput of one
    bytes_per_character             of the corpus; 3.0, as of Chinese in UTF-8, if not given

One machine works with the local engine, several with Apache Beam. What is left out: the 12 bytes of
key that travel with a record, and what a runner itself takes. Prices are examples to be replaced.
"""

import collections
import math
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import errors  # noqa: E402 - the project's modules lie one folder up
import files  # noqa: E402
import side_by_side  # noqa: E402
import spills  # noqa: E402
from absl import flags  # noqa: E402
from errors import UserError  # noqa: E402
from side_by_side import number  # noqa: E402

FLAGS = flags.FLAGS

GB, HOUR = 1e9, 3600.0
UNITS = {"": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15}

RATES = ("characters_per_cpu_second", "read_characters_per_cpu_second",
         "record_bytes_per_character", "write_bytes_per_second", "start_up_seconds")
INCLUDED = float("inf")  # rate of work that another figure includes
USUAL = {"bytes_per_character": 3.0, "read_characters_per_cpu_second": INCLUDED,
         "write_bytes_per_second": INCLUDED}

Figures = collections.namedtuple("Figures", RATES + ("efficiency", "bytes_per_character"))
Figures.__doc__ = """What was measured; see above. efficiency: {workers: share}."""

Cluster = collections.namedtuple("Cluster", ["machines", "cores", "machine_efficiency", "shards"])
Cluster.__doc__ = """Where the work is done.

machines; cores: of each, a worker each; machine_efficiency: throughput of several machines, over
that many times the throughput of one; shards: files to write."""

Prices = collections.namedtuple("Prices", [
    "cpu_hour", "shuffled_gb", "stored_gb_month", "thousand_writes", "months"])
Prices.__doc__ = """Prices, in one currency; months: that the records are kept."""

Estimate = collections.namedtuple("Estimate", [
    "characters", "cpu_hours", "efficiency", "make_hours", "write_hours", "paid_cpu_hours",
    "record_gb", "shuffled_gb", "shard_read_gb", "peak_gb", "files_written", "cost"])
Estimate.__doc__ = """What follows.

cpu_hours: of work; efficiency: of the workers; make_hours, write_hours: by the clock;
paid_cpu_hours: all cores, by the clock; record_gb: of the finished shards; shuffled_gb: between
machines; shard_read_gb: read back to write the shards; peak_gb: on storage at once, the corpus
included; files_written: buckets and shards; cost: in the currency of the prices."""


# ---------------------------------------------------------------------------------------------
# What is given
# ---------------------------------------------------------------------------------------------

def define_flags():
    flags.DEFINE_list("sizes", ["30GB", "3TB"], "Sizes of the corpus.")
    flags.DEFINE_string("measured", None, "JSON file with the figures.")
    for name in RATES + ("bytes_per_character",):
        flags.DEFINE_float(name, None, "Figure that replaces the file's; see above.")
    flags.DEFINE_list("efficiency", [], "Workers and share, such as 1:1,2:0.97,4:0.9.")
    flags.DEFINE_integer("cores", 16, "Cores of a machine.")
    flags.DEFINE_list("machines", ["1", "8", "64"], "Numbers of machines.")
    flags.DEFINE_float("machine_efficiency", 0.9, "Throughput of several machines, over that many "
                       "times the throughput of one; not measured.")
    flags.DEFINE_list("shards", ["64", "1024", "16384"], "Numbers of files to write.")
    flags.DEFINE_float("price_cpu_hour", 0.05, "Price of a core for an hour.")
    flags.DEFINE_float("price_shuffled_gb", 0.01, "Price of a GB that a runner shuffles.")
    flags.DEFINE_float("price_stored_gb_month", 0.02, "Price of storing a GB for a month.")
    flags.DEFINE_float("price_thousand_writes", 0.005, "Price of writing a thousand files.")
    flags.DEFINE_float("months", 1.0, "How long the records are kept.")
    flags.DEFINE_string("output_dir", "benchmark_output", "Folder for the table (.md, .json).")


def parse_size(text):
    """Returns the bytes of a size; UserError for anything else.

    >>> parse_size("30GB"), parse_size("1.5 TB")
    (30000000000.0, 1500000000000.0)
    """
    found = re.match(r"\s*([0-9.]+)\s*([KMGTP]?B?)\s*$", text.upper())
    try:
        size = float(found.group(1)) * UNITS[found.group(2)]
    except (AttributeError, KeyError, ValueError) as error:
        raise UserError("--sizes=%s: sizes such as 30GB or 3TB are needed" % text) from error
    if size <= 0:
        raise UserError("--sizes=%s must be more than 0" % text)
    return size


def parse_efficiency(pairs, where):
    """Returns {workers: share} of pairs of texts or numbers; UserError names `where`."""
    found = {}
    for workers, share in pairs:
        try:
            found[int(workers)] = float(share)
        except (TypeError, ValueError) as error:
            raise UserError("%s: numbers of workers with shares are needed, such as 2:0.97; not "
                            "%s:%s" % (where, workers, share)) from error
        if int(workers) < 1 or not 0.0 < float(share) <= 1.5:
            raise UserError("%s: %s workers with %s of the throughput cannot be"
                            % (where, workers, share))
    return found


def read_cases(path):
    """Returns {name: dict} of the file that --measured names."""
    files.require_file(path, "measured")
    content = files.read_json(path)
    cases = content.get("cases", {"": content}) if isinstance(content, dict) else None
    if isinstance(content, dict) and "scale" in content:
        cases = {"dupe_factor 1": figures_of_scale(content["scale"], path)}
    if not cases or not isinstance(cases, dict) or not all(
            isinstance(case, dict) for case in cases.values()):
        raise UserError('--measured=%s holds neither figures nor {"cases": {name: figures}}' % path)
    return collections.OrderedDict(sorted(cases.items()))


def figures_of_scale(rows, path):
    """Returns the figures, a dict, that follow from the largest text of benchmarks/create_data.py.

    Args:
        rows: list of dicts, the file's "scale"; path: of the file.

    Raises:
        UserError: they are not what that benchmark writes.
    """
    try:
        largest = max(row["megabytes"] for row in rows)
        by_workers = {row["workers"]: row for row in rows if row["megabytes"] == largest}
        one = by_workers[1]
        return {
            "characters_per_cpu_second": one["characters"] / (one["cpu"] - one["start_up_cpu"]),
            "record_bytes_per_character": one["bytes"] / one["characters"],
            "start_up_seconds": one["start_up_seconds"],
            "bytes_per_character": largest * 1e6 / one["characters"],
            "efficiency": {workers: row["rate"] / (workers * one["rate"])
                           for workers, row in by_workers.items()}}
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError("--measured=%s holds no measurement of one worker: run "
                        "benchmarks/create_data.py with --scale_megabytes" % path) from error


def figures_of(case, given, where):
    """Returns the Figures of a case.

    Args:
        case: dict of the file; given: dict of the flags, which come first; where: names the case.

    Raises:
        UserError: one is missing or out of range.
    """
    values = {}
    for name in RATES + ("bytes_per_character",):
        value = case.get(name) if given.get(name) is None else given[name]
        if value is None and name in USUAL:
            values[name] = USUAL[name]
            continue
        if value is None:
            raise UserError("%s lacks %s: give --%s, or a file that holds it as --measured"
                            % (where, name, name))
        low_enough = name == "start_up_seconds" and value == 0
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not (
                low_enough or (value > 0 and math.isfinite(value))):
            raise UserError("%s: %s=%s must be a number above 0" % (where, name, value))
        values[name] = float(value)
    efficiency = given.get("efficiency")
    if not efficiency:
        stated = case.get("efficiency", {"1": 1.0})
        if not isinstance(stated, dict):
            raise UserError('%s: efficiency must be {"workers": share, ...}' % where)
        efficiency = parse_efficiency(stated.items(), where)
    return Figures(efficiency=efficiency, **values)


# ---------------------------------------------------------------------------------------------
# Arithmetic
# ---------------------------------------------------------------------------------------------

def serial_share(efficiency):
    """Returns c of `efficiency(n) = 1 / (1 + c (n - 1))` (Amdahl's law), by least squares.

    serial_share({1: 1.0, 3: 0.5}) == 0.5
    """
    points = [(workers - 1, 1.0 / share - 1.0) for workers, share in efficiency.items()]
    spread = sum(x * x for x, _ in points)
    return max(0.0, sum(x * y for x, y in points) / spread) if spread else 0.0


def efficiency_of(workers, efficiency):
    """Returns the efficiency of so many workers: as measured, else by the law that fits best."""
    if workers in efficiency:
        return efficiency[workers]
    return 1.0 / (1.0 + serial_share(efficiency) * (workers - 1))


def estimate(text_bytes, figures, cluster, prices):
    """Returns the Estimate for a corpus of so many bytes."""
    characters = text_bytes / figures.bytes_per_character
    cpu_seconds = (characters / figures.read_characters_per_cpu_second
                   + characters / figures.characters_per_cpu_second)
    record_bytes = characters * figures.record_bytes_per_character
    write_cpu_seconds = record_bytes / figures.write_bytes_per_second
    is_cluster = cluster.machines > 1
    workers = cluster.machines * cluster.cores
    efficiency = efficiency_of(cluster.cores, figures.efficiency)
    if is_cluster:
        efficiency *= cluster.machine_efficiency
    make_seconds = figures.start_up_seconds + cpu_seconds / (workers * efficiency)
    # A shard is the work of one process, so fewer shards than workers leave some idle.
    writers = min(cluster.shards, workers)
    write_seconds = write_cpu_seconds / (writers * efficiency)
    paid_cpu_hours = workers * (make_seconds + write_seconds) / HOUR
    shuffled_bytes = record_bytes if is_cluster else 0.0
    # The buckets at both ends of a shard are read whole: one too many, on average.
    shard_read_bytes = record_bytes + cluster.shards * min(spills.BUCKET_BYTES, record_bytes)
    files_written = cluster.shards + (
        math.ceil(record_bytes / spills.BUCKET_BYTES) if is_cluster else 0)
    cost = (paid_cpu_hours * prices.cpu_hour + shuffled_bytes / GB * prices.shuffled_gb
            + record_bytes / GB * prices.stored_gb_month * prices.months
            + files_written / 1000.0 * prices.thousand_writes)
    return Estimate(
        characters, (cpu_seconds + write_cpu_seconds) / HOUR, efficiency, make_seconds / HOUR,
        write_seconds / HOUR, paid_cpu_hours, record_bytes / GB, shuffled_bytes / GB,
        shard_read_bytes / GB, (text_bytes + 2 * record_bytes) / GB, files_written, cost)


def explain(text_bytes, figures, cluster, prices):
    """Returns the arithmetic of an Estimate as rows: what, how it is reckoned, result."""
    one = estimate(text_bytes, figures, cluster, prices)
    workers, shuffle = cluster.machines * cluster.cores, one.shuffled_gb
    work = ["characters / %s" % number(rate) for rate in (
        figures.read_characters_per_cpu_second, figures.characters_per_cpu_second)
            if rate != INCLUDED]
    if figures.write_bytes_per_second != INCLUDED:
        work.append("records / %s bytes" % number(figures.write_bytes_per_second))
    return [
        ["what", "how", "result"],
        ["characters", "%s GB / %s bytes" % (number(text_bytes / GB),
                                             number(figures.bytes_per_character)),
         "%s million" % number(one.characters / 1e6)],
        ["records, GB", "x %s bytes" % number(figures.record_bytes_per_character),
         number(one.record_gb)],
        ["CPU-hours of work", " + ".join(work), number(one.cpu_hours)],
        ["efficiency", "of %d workers on a machine%s" % (
            cluster.cores, " x %s" % number(cluster.machine_efficiency)
            if cluster.machines > 1 else ""), "%.3f" % one.efficiency],
        ["hours to make", "%s s + work / (%d workers x efficiency)" % (
            number(figures.start_up_seconds), workers), number(one.make_hours)],
        ["hours to write", "work / (%d writers x efficiency)" % min(cluster.shards, workers),
         number(one.write_hours)],
        ["shuffled, GB", "records" if shuffle else "none between machines", number(shuffle)],
        ["storage at the peak, GB", "corpus + 2 x records (buckets and shards)",
         number(one.peak_gb)],
        ["paid CPU-hours", "%d cores x hours" % workers, number(one.paid_cpu_hours)],
        ["cost", "%s x %s + %s x %s + %s x %s x %s + %s / 1000 x %s" % (
            number(one.paid_cpu_hours), number(prices.cpu_hour), number(shuffle),
            number(prices.shuffled_gb), number(one.record_gb), number(prices.stored_gb_month),
            number(prices.months), number(one.files_written), number(prices.thousand_writes)),
         number(one.cost)]]


# ---------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------

def machine_rows(text_bytes, figures, clusters, prices):
    """Returns the table of the numbers of machines, the header first."""
    rows = [["machines", "engine", "CPU-hours", "efficiency", "hours", "shuffled, GB",
             "storage, GB", "cost"]]
    for cluster in clusters:
        one = estimate(text_bytes, figures, cluster, prices)
        rows.append([str(cluster.machines), "beam" if cluster.machines > 1 else "local",
                     number(one.cpu_hours), "%.3f" % one.efficiency,
                     number(one.make_hours + one.write_hours), number(one.shuffled_gb),
                     number(one.peak_gb), number(one.cost)])
    return rows


def shard_rows(text_bytes, figures, clusters, prices):
    """Returns the table of the numbers of shards, the header first."""
    rows = [["shards", "GB of a shard", "hours to write", "GB read", "files written", "cost"]]
    for cluster in clusters:
        one = estimate(text_bytes, figures, cluster, prices)
        rows.append([number(cluster.shards), number(one.record_gb / cluster.shards),
                     number(one.write_hours), number(one.shard_read_gb),
                     number(one.files_written), number(one.cost)])
    return rows


def tables_of(sizes, cases, machines, shards, cluster, prices):
    """Returns ([(heading, rows)], list of dicts of all estimates, for the JSON file).

    Args:
        sizes: list of (name, bytes); cases: {name: Figures}; machines, shards: lists of numbers.
        cluster: Cluster, of whose number of machines and shards the largest is used elsewhere.
    """
    tables, details = [], []
    widest = cluster._replace(machines=max(machines), shards=max(shards))
    for name, text_bytes in sizes:
        for case, figures in cases.items():
            title = "%s of text%s" % (name, ", " + case if case else "")
            by_machines = [widest._replace(machines=count) for count in machines]
            by_shards = [widest._replace(shards=count) for count in shards]
            tables += [
                ("%s: by machines of %d cores, %s shards" % (
                    title, cluster.cores, number(widest.shards)),
                 machine_rows(text_bytes, figures, by_machines, prices)),
                ("%s: by shards, %d %s" % (title, widest.machines, "machine"
                                           if widest.machines == 1 else "machines"),
                 shard_rows(text_bytes, figures, by_shards, prices)),
                ("%s: the arithmetic of the last line" % title,
                 explain(text_bytes, figures, by_shards[-1], prices))]
            details += [collections.OrderedDict(
                [("corpus", name), ("case", case)] + list(one._asdict().items())
                + list(estimate(text_bytes, figures, one, prices)._asdict().items()))
                for one in by_machines + by_shards]
    return tables, details


def main(_):
    sizes = [(text.strip(), parse_size(text)) for text in FLAGS.sizes]
    machines = side_by_side.whole_numbers(FLAGS.machines, "machines", 1)
    shards = side_by_side.whole_numbers(FLAGS.shards, "shards", 1)
    side_by_side.require_at_least_one(FLAGS, ["cores"])
    if not sizes:
        raise UserError("--sizes is empty: give sizes such as 30GB,3TB")
    if not 0.0 < FLAGS.machine_efficiency <= 1.0:
        raise UserError("--machine_efficiency=%s must be above 0 and at most 1"
                        % FLAGS.machine_efficiency)
    prices = Prices(FLAGS.price_cpu_hour, FLAGS.price_shuffled_gb, FLAGS.price_stored_gb_month,
                    FLAGS.price_thousand_writes, FLAGS.months)
    if min(prices) < 0:
        raise UserError("prices and --months cannot be below 0")
    given = {name: FLAGS[name].value for name in RATES + ("bytes_per_character",)}
    given["efficiency"] = parse_efficiency(
        [pair.partition(":")[::2] for pair in FLAGS.efficiency], "--efficiency")
    cases = read_cases(FLAGS.measured) if FLAGS.measured else {"": {}}
    where = "--measured=%s" % FLAGS.measured if FLAGS.measured else "the command"
    cases = collections.OrderedDict(
        (name, figures_of(case, given, where + (", " + name if name else "")))
        for name, case in cases.items())
    files.make_dir(FLAGS.output_dir, "output_dir")
    cluster = Cluster(max(machines), FLAGS.cores, FLAGS.machine_efficiency, max(shards))
    tables, details = tables_of(sizes, cases, machines, shards, cluster, prices)
    conditions = collections.OrderedDict([("command", side_by_side.command_line())])
    for case, figures in cases.items():
        conditions["figures" + (", " + case if case else "")] = ", ".join(
            "%s %s" % (name, "included" if value == INCLUDED else value)
            for name, value in figures._asdict().items())
    conditions["prices"] = ", ".join("%s %s" % pair for pair in prices._asdict().items())
    measured = min(max(figures.efficiency) for figures in cases.values())
    conditions["not measured"] = "%sthe efficiency of several machines (%s); prices" % (
        "the efficiency of more than %d workers, which follows from that of fewer by Amdahl's "
        "law; " % measured if measured < FLAGS.cores else "", FLAGS.machine_efficiency)
    title = "Pre-training records of large corpora: an estimate"
    side_by_side.print_tables(title, conditions, tables)
    side_by_side.save(os.path.join(FLAGS.output_dir, "corpus_estimate"), title, conditions, tables,
                      {"estimates": details}, lambda path: False)


if __name__ == "__main__":
    define_flags()
    errors.run(main)
