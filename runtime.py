"""The start of every TensorFlow script, and the only place that knows TensorFlow's version.

Import it before TensorFlow: the quiet start works through settings that TensorFlow reads once,
while it loads. `run(main)` is the last line of every entry script that uses TensorFlow.
"""

import errno
import os
import sys
import warnings

# Without a GPU, level 2 holds nothing but what exceptions say too and XLA's word on its threads.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL",
                      "2" if os.path.exists("/proc/driver/nvidia/version") else "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", category=DeprecationWarning)

import tensorflow.compat.v1 as tf  # noqa: E402 - the settings above come first
from tensorflow.core.protobuf import rewriter_config_pb2  # noqa: E402

import errors  # noqa: E402
from errors import UserError  # noqa: E402

IS_TF1 = tf.__version__.startswith("1.")

# FATAL: below it, TensorFlow 1.15 logs its own account of every error before ours.
tf.logging.set_verbosity(tf.logging.FATAL)
tf.disable_v2_behavior()
tf.enable_resource_variables()


# TensorFlow has been without from 2.16 on; what trains needs it, what only runs a model does not.
HAS_ESTIMATOR = hasattr(tf, "estimator")

# On a second device, 1.15 does not find the variables that a function with a gradient of its own
# reads.
RECOMPUTES_ON_REPLICAS = not IS_TF1


def without_auto_shard(dataset):
    """Returns `dataset` with TensorFlow's own sharding over workers off: the input_fn shards."""
    options = tf.data.Options()
    if IS_TF1:
        options.experimental_distribute.auto_shard = False
    else:
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.OFF)
    return dataset.with_options(options)


def as_written(input_fn):
    """Decorates an input_fn, of params and an input context, whose Python runs as it stands.

    Else TensorFlow would rewrite each function given to Dataset.map, for the sake of conditions on
    tensors that are not there: seconds at the start of a run.
    """
    unchanged = tf.autograph.experimental.do_not_convert(input_fn)

    def with_the_same_arguments(params, input_context=None):  # by which Estimator goes
        return unchanged(params, input_context)

    return with_the_same_arguments


def why_no_bfloat16(cpuinfo="/proc/cpuinfo"):
    """Returns why matrix products on this machine's CPU cannot be in bfloat16, None if they can.

    Args:
        cpuinfo: the file in which Linux describes the CPU.
    """
    if IS_TF1:
        return ("TensorFlow 1.15 has none on CPUs; use TensorFlow 2 (.venv-tf2), or "
                "--precision=float32")
    if os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0":
        return "the environment's TF_ENABLE_ONEDNN_OPTS=0 turns it off; unset it"
    words = set()
    if os.path.exists(cpuinfo):
        with open(cpuinfo) as stream:
            words.update(stream.read().split())
    if not words & {"avx512_bf16", "amx_bf16"}:
        return ("this CPU has neither avx512_bf16 nor amx_bf16, without which it would be slower; "
                "use --precision=float32")
    return None


def enable_bfloat16(session_config):
    """Makes oneDNN multiply matrices in bfloat16; where `why_no_bfloat16` returns None."""
    options = session_config.graph_options.rewrite_options
    options.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON


def compiled(function, types):
    """Returns a function that XLA compiles for each shape of its arguments; None on 1.15.

    There XLA leaves functions on CPUs as they are. Whatever the types, it computes in float32.

    Args:
        function: of tensors, without variables, to a tensor of the first one's shape.
        types: list of the arguments' types; the result has that of the first.
    """
    if IS_TF1:
        return None

    def in_float32(*arguments):
        return tf.cast(function(*[tf.cast(one, tf.float32) for one in arguments]), types[0])

    xla = tf.function(in_float32, [tf.TensorSpec(None, one) for one in types], autograph=False,
                      jit_compile=True)

    def call(*arguments):
        result = xla(*arguments)
        result.set_shape(arguments[0].shape)
        return result

    return call


_warmed_up = []


def warm_up_compiler(session_config):
    """Has XLA compile once, off the screen: the first time, it says so in a line of its own.

    Args:
        session_config: of the process's sessions, of which the first decides on all threads.
    """
    if IS_TF1 or _warmed_up:
        return
    _warmed_up.append(True)
    with tf.Graph().as_default(), tf.Session(config=session_config) as session:
        small = compiled(tf.negative, [tf.float32])(tf.random.uniform([1]))
        sys.stderr.flush()
        with open(os.devnull, "wb") as aside:
            screen = os.dup(2)
            os.dup2(aside.fileno(), 2)
            try:
                session.run(small)
            finally:
                os.dup2(screen, 2)
                os.close(screen)


def free_server():
    """Frees what this process served other workers through.

    TensorFlow 1.15 keeps it until Python ends, and then fails with a traceback on the screen.
    """
    if IS_TF1:
        from tensorflow.python.distribute import distribute_coordinator
        distribute_coordinator._thread_local.server = None


def restart():
    """Runs the program anew in this process's place, with the same command line (Linux only)."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2:  # the new program listens where the old one's server does
                os.set_inheritable(int(name), False)
        except OSError as error:  # the folder's own descriptor, closed by now
            if error.errno != errno.EBADF:
                raise
    os.execv(sys.executable, [sys.executable] + sys.argv)


def run(main, positional=0):
    """Runs an entry script: `errors.run`, with TensorFlow's errors told as user errors too."""
    errors.run(main, translate=_translate, positional=positional)


def _translate(error):
    """Returns the UserError for TensorFlow errors whose cause lies with the user, or None."""
    if isinstance(error, tf.train.NanLossDuringTrainingError):
        return UserError("the loss is no longer a number: lower --learning_rate (or raise the "
                         "warm-up) and start again; the last saved checkpoint is untouched")
    if not isinstance(error, tf.errors.OpError):
        return None
    lines = [line.strip() for line in (error.message or str(error)).split("\n") if line.strip()]
    told = [line for line in lines if line != "Graph execution error:"
            and not line.startswith(("Detected at node", "File ", "Original stack trace"))]
    first_line = (told or lines or ["nothing"])[0]
    if "No space left" in first_line or "quota exceeded" in first_line:
        return UserError("the disk is full: make room, then the same command goes on from what was "
                         "finished\n  TensorFlow says: %s" % first_line)
    remedies = (
        (tf.errors.ResourceExhaustedError,
         "out of memory: lower the batch size or the sequence length"),
        (tf.errors.DataLossError,
         "a file is damaged (cut short or corrupted); make or copy it again"),
        (tf.errors.PermissionDeniedError, "a file or folder may not be read or written"),
        (tf.errors.NotFoundError, "a file that was there at the start is gone"),
        (tf.errors.UnavailableError, "the device or the remote machine does not answer"),
    )
    for kind, remedy in remedies:
        if isinstance(error, kind):
            return UserError("%s\n  TensorFlow says: %s" % (remedy, first_line))
    return None
