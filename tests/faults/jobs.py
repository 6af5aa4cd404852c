"""The project's long jobs, small: what faults interrupt, and what their results are compared by."""

import collections
import contextlib
import http.server
import io
import itertools
import json
import os
import shutil
import signal
import threading
import time
import zipfile

import table

ENTRIES = 2000  # of the vocabulary, the first ones
CONFIG = {"vocab_size": ENTRIES, "embedding_size": 8, "hidden_size": 16, "num_hidden_layers": 1,
          "num_attention_heads": 2, "intermediate_size": 24, "hidden_act": "gelu",
          "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
          "max_position_embeddings": 64, "type_vocab_size": 2, "initializer_range": 0.02,
          "ln_type": "postln"}
TEXTS = [("天气真好，我们今天去公园散步", "好"), ("这家店的东西太差，不会再来", "坏"),
         ("苹果又大又甜，很喜欢", "好"), ("等了两个小时，服务很差", "坏"),
         ("电影很好看，推荐给大家", "好"), ("手机用了一天就坏了", "坏")]

# Each run takes about this many steps; checkpoints come often, to be interrupted as they are saved.
PRETRAINING_STEPS = 24
EPOCHS = 8

Job = collections.namedtuple("Job", ["script", "arguments", "results", "refusal"])
Job.__new__.__defaults__ = (None,)
Job.__doc__ = """A command that a user gives.

arguments: function of an output folder; results: function of that folder to {name: bytes} of what
two runs of the same command must agree in, to the last bit; refusal: what the command says where
everything is done already, if it is not simply done then."""


_making_inputs = threading.RLock()


class Jobs(object):
    """Jobs on inputs that are made on first use, and then used by all faults.

    Attributes:
        folder: where the inputs lie.
    """

    def __init__(self, trial, own_inputs=False):
        """Makes the jobs of a trial. own_inputs: for a fault that changes the inputs."""
        self._trial = trial
        self.folder = os.path.join(trial.folder if own_inputs else os.path.dirname(trial.folder),
                                   "inputs")
        with _making_inputs:
            if not os.path.exists(self.folder):
                os.mkdir(self.folder)
                write(self._path("config.json"), json.dumps(CONFIG))
                with io.open(os.path.join(table.ROOT, "albert_config", "vocab.txt"),
                             encoding="utf-8", newline="\n") as stream:
                    write(self._path("vocab.txt"), "".join(itertools.islice(stream, ENTRIES)))

    def _path(self, *names):
        return os.path.join(self.folder, *names)

    # ---- inputs

    def _text(self, megabytes):
        def make(path):
            with io.open(os.path.join(table.ROOT, "data", "news_zh_1.txt"), "rb") as stream:
                text = stream.read().decode("utf-8")
            text *= 1 + int(megabytes * 1e6 / len(text.encode("utf-8")))
            write(path, text[:int(megabytes * 1e6 / 3)])

        return self._made("text-%g.txt" % megabytes, make)

    def _records(self):
        return self._made("records.tfrecord", lambda path: self._run(
            self.data_creation(0.05).command(path)))

    def _made(self, name, make):
        """Returns the path of an input, which is made on first use."""
        path = self._path(name)
        with _making_inputs:
            if not os.path.exists(path):
                make(path)
        return path

    def _run(self, command):
        done = self._trial.run(*command)
        if done.status:
            raise RuntimeError(done.err)

    def data_dir(self):
        """Returns a folder with texts of two classes."""
        def make(path):
            os.mkdir(path)
            for split, times in (("train", 8), ("dev", 4), ("test", 4)):
                rows = [("text", "label")] + [
                    (text + "。" * number, label) for number in range(times)
                    for text, label in TEXTS]
                write(os.path.join(path, split + ".tsv"),
                      "".join("\t".join(row) + "\n" for row in rows))

        return self._made("data", make)

    def trained(self):
        """Returns the folder of a fine-tuned model."""
        return self._made("trained", lambda path: self._run(self.fine_tuning().command(path)))

    # ---- jobs

    def data_creation(self, megabytes=0.3):
        text = self._text(megabytes)
        return Command("create_pretraining_data.py", lambda output: [
            "--input_file=" + text, "--vocab_file=" + self._path("vocab.txt"),
            "--output_file=" + (output if output.endswith(".tfrecord")
                                else os.path.join(output, "x.tfrecord")),
            "--max_seq_length=32", "--max_predictions_per_seq=5", "--dupe_factor=2",
            "--num_workers=2"], lambda output: contents(output, ".tfrecord"),
            "of an earlier run are there")

    def pretraining(self, *others):
        records = self._records()
        others = [one for one in others if "epochs" not in one]
        return Command("run_pretraining.py", lambda output: [
            "--bert_config_file=" + self._path("config.json"), "--input_file=" + records,
            "--output_dir=" + output, "--do_train", "--max_seq_length=32", "--num_threads=1",
            "--max_predictions_per_seq=5", "--train_batch_size=8", "--num_warmup_steps=4",
            "--num_train_steps=%d" % PRETRAINING_STEPS, "--save_checkpoints_steps=4",
            "--learning_rate=1e-4"] + others, last_checkpoint)

    def fine_tuning(self, *others):
        data = self.data_dir()
        others = [one for one in others if "num_train_steps" not in one]
        return Command("run_classifier.py", lambda output: [
            "--task_name=sentence", "--data_dir=" + data, "--vocab_file=" + self._path("vocab.txt"),
            "--bert_config_file=" + self._path("config.json"), "--output_dir=" + output,
            "--do_train", "--do_eval", "--max_seq_length=24", "--num_threads=1",
            "--train_batch_size=8", "--num_train_epochs=%d" % EPOCHS, "--eval_batch_size=8",
            "--learning_rate=1e-4", "--save_checkpoints_steps=16"] + others,
            lambda output: dict(last_checkpoint(output), **contents(output, "eval_results.txt")))

    def prediction(self, *others):
        data, trained = self.data_dir(), self.trained()
        return Command("run_classifier.py", lambda output: [
            "--task_name=sentence", "--data_dir=" + data, "--vocab_file=" + self._path("vocab.txt"),
            "--bert_config_file=" + self._path("config.json"), "--output_dir=" + output,
            "--init_checkpoint=" + trained, "--do_predict", "--max_seq_length=24",
            "--num_threads=1", "--predict_batch_size=2"] + list(others),
            lambda output: contents(output, "test_results.tsv", "predictions.tsv"))

    def evaluation(self, *others):
        data, trained = self.data_dir(), self.trained()
        return Command("run_classifier.py", lambda output: [
            "--task_name=sentence", "--data_dir=" + data, "--vocab_file=" + self._path("vocab.txt"),
            "--bert_config_file=" + self._path("config.json"), "--output_dir=" + output,
            "--init_checkpoint=" + trained, "--do_eval", "--max_seq_length=24",
            "--num_threads=1", "--eval_batch_size=1"] + list(others),
            lambda output: contents(output, "eval_results.txt", "eval_report.txt"))

    def export(self):
        trained = self.trained()
        return Command("export_model.py", lambda output: [
            "--init_checkpoint=" + trained, "--format=checkpoint,frozen",
            "--export_dir=" + output],
            lambda output: contents(output, ".pb", ".index", "00001", ".txt", "config.json"))


class Command(Job):
    """A Job that can be started."""

    def command(self, output):
        """Returns script and arguments, for Trial.run."""
        return [self.script] + self.arguments(output)

    def difference(self, output, expected):
        """Returns what is not as expected, '' where all is. expected: of `results`."""
        found = self.results(output)
        return ", ".join(sorted(name for name in set(found) | set(expected)
                                if found.get(name) != expected.get(name)))


def write(path, text):
    with io.open(path, "w", encoding="utf-8", newline="") as stream:
        stream.write(text)


def contents(folder, *endings):
    """Returns {path below a folder: bytes} of the visible files whose names end so."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            if name.endswith(endings) and not name.startswith("."):
                path = os.path.join(place, name)
                with open(path, "rb") as stream:
                    found[os.path.relpath(path, folder)] = stream.read()
    return found


def last_checkpoint(folder):
    """Returns the bytes of a run's last checkpoint: weights, optimizer slots and step."""
    steps = steps_saved(folder)
    return contents(folder, *["model.ckpt-%d.%s" % (steps[-1], ending)
                              for ending in ("index", "data-00000-of-00001")]) if steps else {}


def steps_saved(folder):
    """Returns the steps of a folder's checkpoints, ascending."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(int(name[len("model.ckpt-"):-len(".index")]) for name in names
                  if name.startswith("model.ckpt-") and name.endswith(".index")
                  and name[len("model.ckpt-"):-len(".index")].isdigit())


# Trainings that last until they are ended.
FOR_EVER = ("--num_train_steps=1000000", "--num_train_epochs=100000",
            "--save_checkpoints_steps=100000")


def begun_and_ended(trial, job, output):
    """Starts a job of training that goes on, ends it by SIGTERM once it trains; returns Done."""
    process = trial.start(*job.command(output))
    trial.wait_for(process, lambda said: "Going on from" in said and "step" in said)
    os.killpg(process.pid, signal.SIGTERM)
    return trial.finish(process)


def interrupted(trial, job, tries, disturb):
    """Disturbs a job a number of times, and gives the same command again.

    Args:
        disturb: function (started process, seconds that an undisturbed run takes, share of them at
            which to act); returns what was wrong, or ''.

    Returns:
        times the second run finished with the undisturbed run's results.
    """
    reference = os.path.join(trial.folder, "undisturbed")
    began = time.time()
    done = trial.run(*job.command(reference))
    whole = time.time() - began
    if done.status:
        raise RuntimeError(done.err)
    expected, held = job.results(reference), 0
    if not expected:
        raise RuntimeError("no results in %s" % os.listdir(reference))
    shutil.rmtree(reference)
    for number in range(tries):
        output = os.path.join(trial.folder, "try-%d" % number)
        share = (number + trial.random.random()) / tries
        process = trial.start(*job.command(output))
        wrong = disturb(process, whole, share)
        first = trial.finish(process)
        while first.status == 0 and share > 0.1:  # faster than the undisturbed one, and not hit
            shutil.rmtree(output, ignore_errors=True)
            share *= 0.7
            process = trial.start(*job.command(output))
            wrong = disturb(process, whole, share)
            first = trial.finish(process)
        again = trial.run(*job.command(output))
        if not wrong and again.status and not (job.refusal and job.refusal in again.err):
            wrong = "the same command again ended with %d: %s" % (again.status, again.err[-2000:])
        wrong = wrong or job.difference(output, expected)
        held += trial.held(not wrong, "at %.2f of %.1f s: %s\n  first run, status %d: %s" % (
            share, whole, wrong, first.status, first.err[-2000:]))
        shutil.rmtree(output, ignore_errors=True)
    return held


# ---------------------------------------------------------------------------------------------
# A download
# ---------------------------------------------------------------------------------------------

@contextlib.contextmanager
def slow_site(folder, seconds):
    """Serves an archive slowly on this machine; yields the Command that downloads it.

    Args:
        seconds: what sending the archive takes.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        for number, name in enumerate(("train.json", "dev.json", "test.json")):
            zipped.writestr(name, json.dumps({"text": "%d " % number * 30000}))
    content = stream.getvalue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802 - the library's name
            asked = self.headers.get("Range")
            first = int(asked[len("bytes="):-1]) if asked else 0
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(content) - first))
            self.send_header("ETag", '"1"')
            if asked:
                self.send_header("Content-Range", "bytes %d-%d/%d" % (
                    first, len(content) - 1, len(content)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for place in range(first, len(content), len(content) // 50):
                    self.wfile.write(content[place:place + len(content) // 50])
                    self.wfile.flush()
                    time.sleep(seconds / 50)

        def log_message(self, *arguments):
            """Keeps the screen quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server_thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    server_thread.start()
    downloads = os.path.join(folder, "downloads.json")
    write(downloads, json.dumps({"kinds": {"data": {}}, "archives": {"toy": {
        "kind": "data", "archive": "toy_public.zip", "about": "a toy", "folder": "toy",
        "mirrors": ["http://127.0.0.1:%d/" % server.server_address[1]],
        "page": "https://example.org", "required": ["train.json", "dev.json", "test.json"],
        "min_bytes": 100, "max_bytes": 10 ** 7, "max_unpacked_bytes": 10 ** 7}}}))
    try:
        yield Command("download.py", lambda output: [
            "--name=toy", "--output_dir=" + output, "--downloads_file=" + downloads,
            "--timeout=20"], lambda output: contents(output, "train.json", "dev.json",
                                                     "test.json"))
    finally:
        server.shutdown()
        server_thread.join()
        server.server_close()
