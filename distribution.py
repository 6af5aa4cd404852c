"""Several devices or machines: which there are, who is who, and what happens when one goes.

Training on them is estimators.py's; what they add up is optimization.py's.
"""

import collections
import contextlib
import json
import os
import re
import socket
import threading
import time

import runtime
from console import say
from errors import UserError

import tensorflow.compat.v1 as tf

DISTRIBUTIONS = ("none", "mirrored", "multi_worker")


def local_devices():
    """Returns the names of this machine's GPUs."""
    found = tf.config.experimental.list_physical_devices("GPU")
    return ["/gpu:%d" % number for number in range(len(found))]


def require_bfloat16(instead):
    """Raises UserError where TensorFlow does not multiply in bfloat16: on GPUs, on older CPUs.

    Args:
        instead: the --precision to use on GPUs.
    """
    lack = runtime.why_no_bfloat16()
    if local_devices():
        lack = "GPUs are used here, and it is for CPUs; use --precision=" + instead
    if lack:
        raise UserError("--precision=bfloat16: " + lack)


def require_distribution(run):
    """Raises UserError where --distribution does not fit the other flags or the machine."""
    if run.distribution == "none":
        return
    if run.use_tpu:
        raise UserError("--distribution=%s: a TPU's cores need none; leave the flag out"
                        % run.distribution)
    if run.distribution == "mirrored" and not local_devices():
        raise UserError("--distribution=mirrored needs GPUs, and TensorFlow sees none here; leave "
                        "the flag out")
    if run.recompute and len(local_devices()) > 1 and not runtime.RECOMPUTES_ON_REPLICAS:
        raise UserError("--recompute and --distribution=%s with several GPUs do not go together on "
                        "TensorFlow 1.15; use 2.15 (ALBERT_TF=2), one GPU a worker, or "
                        "--gradient_accumulation_steps" % run.distribution)
    if run.distribution == "multi_worker" and not _is_complete(read_cluster()):
        raise UserError(
            "--distribution=multi_worker needs the environment's TF_CONFIG, on each machine with "
            'its own index: {"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": '
            '"worker", "index": 0}}')


def _is_complete(found):
    """Whether a TF_CONFIG names workers by their addresses, and this one by its number."""
    cluster, task = found.get("cluster"), found.get("task")
    if not (isinstance(cluster, dict) and isinstance(task, dict) and cluster.get("worker")):
        return False
    hosts = list(cluster.values())
    return (all(isinstance(some, list) for some in hosts)
            and all(isinstance(host, str) and re.search(r".:\d+$", host)
                    for some in hosts for host in some)
            and task.get("type") in ("chief", "worker") and task["type"] in cluster
            and str(task.get("index")).isdigit()
            and int(task["index"]) < len(cluster[task["type"]]))


def read_cluster():
    """Returns what TF_CONFIG says, {} where it is not set."""
    try:
        found = json.loads(os.environ.get("TF_CONFIG") or "{}")
    except ValueError as error:
        raise UserError("the environment's TF_CONFIG is no JSON: %s" % error) from error
    if not isinstance(found, dict):
        raise UserError("the environment's TF_CONFIG is no JSON object: %s"
                        % os.environ["TF_CONFIG"])
    return found


def is_chief(run):
    """Tells whether this process writes what is not a checkpoint: worker 0, or the only one."""
    if run.distribution != "multi_worker":
        return True
    cluster = read_cluster()
    task = cluster["task"]
    return task["type"] == "chief" or (
        not cluster["cluster"].get("chief") and int(task["index"]) == 0)


def replicas(run):
    """Returns the number of devices that each compute a batch of a step."""
    if run.distribution == "none":
        return 1
    here = max(1, len(local_devices()))
    if run.distribution == "mirrored":
        return here
    cluster = read_cluster()["cluster"]
    return here * (len(cluster.get("chief", [])) + len(cluster["worker"]))


def examples_per_step(run, batch_size):
    """Returns how many examples one update sees. batch_size: --train_batch_size."""
    return batch_size * run.gradient_accumulation_steps * replicas(run)


InputPart = collections.namedtuple("InputPart", ["number", "count", "batches"])
InputPart.__doc__ = """Which part of the data an input_fn is to give.

number: of the input, from 0; count: of inputs; batches: that it gives in each step."""


def input_part(params, input_context=None):
    """Returns the InputPart of a call of an input_fn: of a worker, of a TPU's host, or all.

    Args:
        params: of the input_fn; a TPUEstimator tells in it which host calls.
        input_context: tf.distribute.InputContext of a strategy, or None.
    """
    if input_context:
        count = input_context.num_input_pipelines
        return InputPart(input_context.input_pipeline_id, count,
                         input_context.num_replicas_in_sync // count)
    if "context" not in params:
        return InputPart(0, 1, 1)
    _, number, count, batches = params["context"].current_input_fn_deployment()
    return InputPart(number, count, batches)


@contextlib.contextmanager
def without_cluster():
    """Hides TF_CONFIG, from which an estimator of one machine would take a part in a cluster."""
    hidden = os.environ.pop("TF_CONFIG", None)
    try:
        yield
    finally:
        if hidden is not None:
            os.environ["TF_CONFIG"] = hidden


class PeerWatch(tf.train.SessionRunHook):
    """Starts this worker anew when another one is gone.

    TensorFlow's collectives then fail or wait for ever, and let nobody in who comes back. Anew,
    the worker waits for the others and goes on with them from the last checkpoint.
    """

    SECONDS_BETWEEN = 1.0
    SECONDS_FOR_AN_ANSWER = 5.0
    MISSES = 3

    def __init__(self, cluster):
        """Takes what TF_CONFIG says."""
        task, workers = cluster["task"], cluster["cluster"]
        self._peers = [address for kind in ("chief", "worker")
                       for index, address in enumerate(workers.get(kind, []))
                       if (kind, index) != (task["type"], int(task["index"]))]
        self._thread, self._done = None, threading.Event()

    def after_run(self, run_context, run_values):
        del run_context, run_values
        if self._thread is None:  # after the first common step all peers have been there
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def end(self, session):
        del session
        self._done.set()

    def _watch(self):
        while not self._done.wait(self.SECONDS_BETWEEN):
            self.restart_if_alone()

    def restart_if_alone(self):
        """Starts the program anew if a peer does not answer; else returns."""
        for peer in self._peers:
            misses = 0
            while not self._done.is_set() and not self._answers(peer):
                misses += 1
                if misses == self.MISSES:
                    say("WARNING: worker %s is gone; starting anew, to go on from the last "
                        "checkpoint with it once it is back" % peer)
                    tf.summary.FileWriterCache.clear()  # writes what the curves hold so far
                    runtime.restart()
                time.sleep(self.SECONDS_BETWEEN)

    def _answers(self, peer):
        host, port = peer.rsplit(":", 1)
        try:
            # IPv6 addresses stand in brackets: [::1]:2222.
            socket.create_connection((host.strip("[]"), int(port)),
                                     self.SECONDS_FOR_AN_ANSWER).close()
            return True
        except OSError:
            return False
