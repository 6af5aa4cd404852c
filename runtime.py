"""The start of every TensorFlow script, and the only place that knows TensorFlow's version.

Import it before TensorFlow: the quiet start works through settings that TensorFlow reads once,
while it loads. `run(main)` is the last line of every entry script that uses TensorFlow.
"""

import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", category=DeprecationWarning)

import tensorflow.compat.v1 as tf  # noqa: E402 - the settings above come first

import errors  # noqa: E402
from errors import UserError  # noqa: E402

IS_TF1 = tf.__version__.startswith("1.")

# FATAL: below it, TensorFlow 1.15 logs its own account of every error before ours.
tf.logging.set_verbosity(tf.logging.FATAL)
tf.disable_v2_behavior()
tf.enable_resource_variables()


def without_auto_shard(dataset):
    """Returns `dataset` with TensorFlow's own sharding over workers off: the input_fn shards."""
    options = tf.data.Options()
    if IS_TF1:
        options.experimental_distribute.auto_shard = False
    else:
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.OFF)
    return dataset.with_options(options)


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
    remedies = (
        (tf.errors.ResourceExhaustedError,
         "out of memory or disk space: lower the batch size or the sequence length"),
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
