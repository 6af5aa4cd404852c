"""Does the service stand a steady load? Ten minutes of it, and batching against none.

    python benchmarks/serve.py --model_dir=albert_lcqmc_checkpoints
    python benchmarks/serve.py --minutes=1 --data_file=pairs.tsv

Starts serve.py twice, as it is delivered and with --max_batch=1. First both answer single pairs in
turns, to --clients and to a --crowd of them (a batch cannot hold more than are asked for at the
same time; the target is for the crowd). Then the first one stands the mixed load for the whole
time: single pairs, requests with several, classes and vectors, from clients that ask again as soon
as they have their answer. Every answer of a pair is compared with the first one that the same pair
got. Clients and service share the machine. Without --model_dir the tiny configuration with random
weights is measured: its values do not change the speed. Ends with status 1 when a target is missed.
"""

import collections
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import errors  # noqa: E402 - the project's modules lie one folder up
import files  # noqa: E402
import numpy as np  # noqa: E402
from absl import flags  # noqa: E402
from console import say, table  # noqa: E402
from errors import UserError  # noqa: E402

FLAGS = flags.FLAGS
REAL_DATA = os.path.join(os.path.dirname(ROOT), "shared", "data", "lcqmc", "dev.txt")
SAMPLE = os.path.join(ROOT, "data", "clue_sample", "lcqmc", "dev.txt")
START_SECONDS = 120
NEAR = 1e-4  # how far two answers for one pair may lie apart: the padding of a batch moves digits

# The mixed load: (share of the requests, endpoint, name of the list in it, pairs of a request).
SINGLE = ((1.0, "similarity", "pairs", 1),)
MIXED = ((0.75, "similarity", "pairs", 1), (0.1, "similarity", "pairs", 8),
         (0.1, "classify", "texts", 1), (0.05, "embed", "texts", 1))

# What the service is to reach on CI's two cores; growth is its memory's from half-time on.
TARGETS = {"pairs_per_s": 300, "p99_ms": 100, "batching": 2, "growth": 0.01}

Request = collections.namedtuple("Request", ["endpoint", "pairs", "data"])
Request.__doc__ = "endpoint: its name; pairs: numbers of pairs; data: bytes to send."


def define_flags():
    flags.DEFINE_string("model_dir", None, "Folder of a model fine-tuned on pairs; none: random "
                        "weights.")
    flags.DEFINE_string("data_file", REAL_DATA if os.path.exists(REAL_DATA) else SAMPLE,
                        "Pairs, two sentences a line between tabs.")
    flags.DEFINE_float("minutes", 10, "Length of the mixed load.")
    flags.DEFINE_integer("clients", 8, "Clients, each with one request at a time.")
    flags.DEFINE_integer("crowd", 32, "Clients of the second comparison of batching.")
    flags.DEFINE_integer("rounds", 3, "Turns with batching and without.")
    flags.DEFINE_float("round_seconds", 10, "Length of a turn.")
    flags.DEFINE_float("warm_up", 5, "Seconds of load before anything counts.")
    flags.DEFINE_list("settings", [], "Further flags of serve.py, with batching and without.")
    flags.DEFINE_bool("require", True, "End with status 1 when a target is missed.")


# ---------------------------------------------------------------------------------------------
# The service
# ---------------------------------------------------------------------------------------------

class Service(object):
    """serve.py as a process."""

    def __init__(self, model_dir, settings):
        self._process = subprocess.Popen(
            [sys.executable, os.path.join(ROOT, "serve.py"), "--model_dir=" + model_dir,
             "--port=0"] + settings, stderr=subprocess.PIPE)
        self._said = []
        threading.Thread(target=self._listen, daemon=True).start()
        waited = time.time() + START_SECONDS
        while not self.address:
            if self._process.poll() is not None or time.time() > waited:
                self._process.kill()
                raise UserError("serve.py did not start:\n" + "".join(self._said[-5:]))
            time.sleep(0.1)

    def _listen(self):
        for line in self._process.stderr:
            self._said.append(line.decode("utf-8", "replace"))

    @property
    def address(self):
        """(host, port), None before it serves."""
        found = re.search(r"Serving at http://([0-9.]+):(\d+)/", "".join(self._said))
        return (found.group(1), int(found.group(2))) if found else None

    def memory(self):
        """Returns the bytes that it holds."""
        with open("/proc/%d/statm" % self._process.pid) as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def cpu_seconds(self):
        """Returns the time that it has kept CPUs busy."""
        with open("/proc/%d/stat" % self._process.pid) as stream:
            fields = stream.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        """Ends it as a person would; returns its exit status."""
        self._process.terminate()
        return self._process.wait(60)


# ---------------------------------------------------------------------------------------------
# The clients. They share the machine with the service, so they do as little as they can.
# ---------------------------------------------------------------------------------------------

class Load(object):
    """Several clients that ask until they are stopped; what they saw."""

    def __init__(self, address, requests, clients, known):
        """Binds the parts.

        Args:
            address: (host, port); requests: list of Request.
            known: {pair: its first answer}, which grows.
        """
        self._address, self._requests, self._known = address, requests, known
        self._clients = clients
        self._counting, self._stopped = False, False
        self.latencies = collections.defaultdict(list)  # endpoint and pairs to seconds
        self.pairs, self.errors, self.different = 0, collections.Counter(), 0
        self._lock = threading.Lock()

    def run(self, warm_up, seconds, watch=lambda: None):
        """Lets the clients ask; returns the seconds that counted.

        Args:
            watch: called about every second while it counts.
        """
        threads = [threading.Thread(target=self._client, args=(number,), daemon=True)
                   for number in range(self._clients)]
        for thread in threads:
            thread.start()
        time.sleep(warm_up)
        begin, self._counting = time.perf_counter(), True
        while time.perf_counter() - begin < seconds:
            watch()
            time.sleep(min(1.0, max(0.0, begin + seconds - time.perf_counter())))
        took, self._stopped = time.perf_counter() - begin, True
        for thread in threads:
            thread.join()
        return took

    def _client(self, number):
        generator = random.Random(number)
        connection = None
        while not self._stopped:
            request = generator.choice(self._requests)
            begin = time.perf_counter()
            try:
                connection = connection or socket.create_connection(self._address, 60)
                connection.sendall(request.data)
                status, body = _receive(connection)
            except OSError as error:
                connection = None
                self._failed(type(error).__name__)
                time.sleep(0.1)
                continue
            took = time.perf_counter() - begin
            if status != 200:
                self._failed("status %d" % status)
            elif self._counting and not self._stopped:
                with self._lock:
                    self.pairs += len(request.pairs)
                    self.latencies[request.endpoint, len(request.pairs)].append(took)
            if status == 200 and request.endpoint == "similarity":
                self._compare(request.pairs, json.loads(body)["similarities"])
        if connection:
            connection.close()

    def _failed(self, why):
        with self._lock:
            self.errors[why] += 1

    def _compare(self, pairs, answers):
        for pair, answer in zip(pairs, answers):
            if abs(self._known.setdefault(pair, answer) - answer) > NEAR:
                with self._lock:
                    self.different += 1


def _receive(connection):
    """Returns (status, body) of the next answer."""
    data = connection.recv(65536)
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise ConnectionResetError("the service has closed the connection")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    size = int(re.search(rb"content-length: (\d+)", head).group(1))
    while len(body) < size:
        body += connection.recv(1 << 20)
    return int(head[9:12]), body


def make_requests(pairs, mix, count, seed=0):
    """Returns a list of Request as `mix` says."""
    generator = random.Random(seed)
    shares = [part[0] for part in mix]
    found = []
    for _, endpoint, name, size in generator.choices(mix, shares, k=count):
        numbers = [generator.randrange(len(pairs)) for _ in range(size)]
        body = json.dumps({name: [pairs[number] for number in numbers]},
                          ensure_ascii=False).encode("utf-8")
        found.append(Request(endpoint, numbers, (
            "POST /v1/%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Content-Length: %d\r\n\r\n" % (endpoint, len(body))).encode("ascii") + body))
    return found


def percentile(values, share):
    """Returns the value that `share` of them do not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


# ---------------------------------------------------------------------------------------------
# The measurement
# ---------------------------------------------------------------------------------------------

def compare_batching(services, pairs, clients, values):
    """Returns {name: list of pairs/s}, measured in turns."""
    requests, known = make_requests(pairs, SINGLE, 4000), {}
    rates = {name: [] for name in services}
    for number in range(values.rounds):
        for name, service in services.items():
            load = Load(service.address, requests, clients, known)
            load.run(0, values.warm_up if number == 0 else min(1, values.warm_up))
            load = Load(service.address, requests, clients, known)
            busy = service.cpu_seconds()
            seconds = load.run(0, values.round_seconds)
            busy = service.cpu_seconds() - busy
            _require_no_error(load)
            rates[name].append(load.pairs / seconds)
            say("%d clients, %s, round %d: %.0f pairs/s, %.2f ms of a CPU a pair" % (
                clients, name, number + 1, rates[name][-1], 1e3 * busy / max(load.pairs, 1)))
    return rates


def stand_load(service, pairs, values):
    """Returns (Load, seconds, list of bytes held, about one a second)."""
    load = Load(service.address, make_requests(pairs, MIXED, 20000, seed=1), values.clients, {})
    memory = []
    seconds = load.run(values.warm_up, 60 * values.minutes, lambda: memory.append(service.memory()))
    memory.append(service.memory())
    return load, seconds, memory


def _require_no_error(load):
    if load.errors or load.different:
        raise UserError("the service made mistakes: %s" % ", ".join(
            ["%d x %s" % (count, why) for why, count in load.errors.items()]
            + ["%d answers differ" % load.different]))


def report(load, seconds, memory):
    """Prints what the mixed load came to; returns {name of TARGETS: figure}."""
    rows = []
    everything = [value for values in load.latencies.values() for value in values]
    for name, latencies in [("all", everything)] + sorted(
            ("%s, %d pair%s" % (key[0], key[1], "s" * (key[1] > 1)), values)
            for key, values in load.latencies.items()):
        rows.append([name, len(latencies)] + ["%.1f" % (1e3 * percentile(latencies, share))
                                              for share in (0.5, 0.95, 0.99, 1.0)])
    print(table(["requests", "number", "p50 ms", "p95 ms", "p99 ms", "longest ms"], rows))
    # One sample says little, and in the first half the libraries' caches fill up to their limits.
    tenths = [percentile(part, 0.5) / 2.0 ** 20 for part in np.array_split(memory, 10) if len(part)]
    print("%.0f pairs/s over %.1f minutes; errors: %s; answers that differ: %d" % (
        load.pairs / seconds, seconds / 60, dict(load.errors) or "none", load.different))
    print("memory, MB, in each tenth of the time: %s; %.0f at most" % (
        " ".join("%.0f" % tenth for tenth in tenths), max(memory) / 2.0 ** 20))
    return {"pairs_per_s": load.pairs / seconds, "p99_ms": 1e3 * percentile(everything, 0.99),
            "growth": tenths[-1] / tenths[len(tenths) // 2] - 1}


def judge(figures):
    """Returns what misses a target, as lines of text."""
    missed = ["%s is %.3g, the target is at least %g" % (name, figures[name], TARGETS[name])
              for name in ("pairs_per_s", "batching") if figures[name] < TARGETS[name]]
    return missed + ["%s is %.3g, the target is at most %g" % (name, figures[name], TARGETS[name])
                     for name in ("p99_ms", "growth") if figures[name] > TARGETS[name]]


def read_pairs(path):
    """Returns the pairs of a file, whatever follows them in a line."""
    files.require_file(path, "data_file")
    pairs = []
    for number, line in files.read_lines(path):
        columns = line.split("\t")
        if len(columns) < 2:
            raise UserError("%s line %d does not hold two sentences between tabs" % (path, number))
        pairs.append(columns[:2])
    return pairs


def make_random_model(folder):
    """Writes a two-class model of random weights; in a process of its own, for TensorFlow's sake.
    """
    made = subprocess.run([sys.executable, "-c", _MAKE, folder], stderr=subprocess.PIPE)
    if made.returncode:
        raise UserError("no model with random weights could be made:\n%s"
                        % made.stderr.decode("utf-8", "replace")[-2000:])


_MAKE = """
import importlib.util, os, sys
sys.path.insert(0, %r)
spec = importlib.util.spec_from_file_location(
    "similarity_benchmark", os.path.join(%r, "benchmarks", "similarity.py"))
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)
benchmark.make_random_model(
    sys.argv[1], os.path.join(%r, "albert_config", "albert_config_tiny.json"))
""" % (ROOT, ROOT, ROOT)


def main(_):
    for name in ("clients", "crowd", "rounds"):
        if getattr(FLAGS, name) < 1:
            raise UserError("--%s=%d: at least 1 is needed" % (name, getattr(FLAGS, name)))
    if FLAGS.minutes <= 0 or FLAGS.round_seconds <= 0:
        raise UserError("--minutes and --round_seconds must be more than 0")
    pairs = read_pairs(FLAGS.data_file)
    with tempfile.TemporaryDirectory() as folder:
        if FLAGS.model_dir is None:
            make_random_model(folder)
        services = {}
        try:
            for name, more in (("batching", []), ("each pair by itself", [
                    "--max_batch=1", "--max_delay_ms=0"])):
                services[name] = Service(FLAGS.model_dir or folder, FLAGS.settings + more)
            rates = {clients: compare_batching(services, pairs, clients, FLAGS)
                     for clients in (FLAGS.clients, FLAGS.crowd)}
            load, seconds, memory = stand_load(services["batching"], pairs, FLAGS)
        finally:
            statuses = [service.stop() for service in services.values()]
    print("%d CPUs, %d clients, %d pairs of %s" % (os.cpu_count(), FLAGS.clients, len(pairs),
                                                   FLAGS.data_file))
    rows = []
    for clients, found in rates.items():
        medians = [percentile(values, 0.5) for values in found.values()]
        ratio = medians[0] / medians[1]
        rows += [["%d clients: %s" % (clients, name), "%.0f" % median,
                  " ".join("%.0f" % rate for rate in found[name])]
                 for name, median in zip(found, medians)]
        rows.append(["%d clients: times as many" % clients, "%.2f" % ratio, ""])
    print(table(["single pairs", "pairs/s, median", "each round"], rows))
    figures = dict(report(load, seconds, memory), batching=ratio)
    if any(statuses):
        raise UserError("the service ended with status %s" % statuses)
    _require_no_error(load)
    missed = judge(figures)
    if missed and FLAGS.require:
        raise UserError("; ".join(missed))
    print("\n".join(missed) or "All targets are reached.")


if __name__ == "__main__":
    define_flags()
    errors.run(main)
