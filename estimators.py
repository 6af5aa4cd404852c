"""Running models: TPU, GPU or CPU estimators, their flags, initialisation and progress."""

import collections

import checkpoints
import runtime  # noqa: F401 - before TensorFlow
from absl import flags
from console import Progress, say
from errors import UserError

import tensorflow.compat.v1 as tf

RunSettings = collections.namedtuple("RunSettings", [
    "output_dir", "use_tpu", "tpu_name", "tpu_zone", "gcp_project", "master", "num_tpu_cores",
    "iterations_per_loop", "save_checkpoints_steps", "keep_checkpoint_max", "random_seed",
    "num_threads"])
RunSettings.__doc__ = "Where and how a script runs; the fields are the flags of the same names."


def define_flags(save_checkpoints_steps=1000, keep_checkpoint_max=10):
    """Defines the flags that all training scripts share."""
    flags.DEFINE_string("output_dir", None, "Folder for checkpoints and results.")
    flags.DEFINE_integer("save_checkpoints_steps", save_checkpoints_steps,
                         "Save a checkpoint every so many steps.")
    flags.DEFINE_integer("keep_checkpoint_max", keep_checkpoint_max,
                         "Keep the last so many checkpoints; 0 keeps all.")
    flags.DEFINE_integer("random_seed", 12345, "Seed of initialisation, input order and dropout.")
    flags.DEFINE_integer("num_threads", 0, "CPU threads; 0: one per core; 1 is reproducible to "
                         "the last bit.")
    flags.DEFINE_integer("iterations_per_loop", 1000, "Steps per call on a TPU.")
    flags.DEFINE_bool("use_tpu", False, "Run on a TPU.")
    flags.DEFINE_string("tpu_name", None, "Name or address of the TPU.")
    flags.DEFINE_string("tpu_zone", None, "Cloud zone of the TPU, if not the default one.")
    flags.DEFINE_string("gcp_project", None, "Cloud project of the TPU, if not the default one.")
    flags.DEFINE_string("master", None, "Address of a TensorFlow master.")
    flags.DEFINE_integer("num_tpu_cores", 8, "Number of TPU cores.")


def run_settings(values):
    """Reads and checks the flags of `define_flags`.

    Args:
        values: the parsed flags.

    Raises:
        UserError: names the flag at fault.
    """
    settings = RunSettings(*[getattr(values, name) for name in RunSettings._fields])
    if not settings.output_dir:
        raise UserError("--output_dir is missing: name a folder for checkpoints and results")
    checkpoints.require_plain_path(settings.output_dir, "output_dir")
    for name, least in (("save_checkpoints_steps", 1), ("keep_checkpoint_max", 0),
                        ("iterations_per_loop", 1), ("num_tpu_cores", 1), ("num_threads", 0)):
        if getattr(settings, name) < least:
            raise UserError("--%s=%d: at least %d is needed"
                            % (name, getattr(settings, name), least))
    if settings.use_tpu and not (settings.tpu_name or settings.master):
        raise UserError("--use_tpu needs --tpu_name (or --master)")
    return settings


def make_estimator(model_fn, run, model_dir, train_batch_size=None, eval_batch_size=None,
                   predict_batch_size=None):
    """Makes the TPUEstimator that runs `model_fn` on a TPU, or else on the local GPU or CPU."""
    batch_sizes = (train_batch_size, eval_batch_size, predict_batch_size)
    if run.use_tpu and any(size and size % run.num_tpu_cores for size in batch_sizes):
        raise UserError("on a TPU all batch sizes must be multiples of --num_tpu_cores=%d"
                        % run.num_tpu_cores)
    cluster = _tpu_cluster(run) if run.use_tpu and run.tpu_name else None
    tpu_config = tf.estimator.tpu.TPUConfig(
        iterations_per_loop=run.iterations_per_loop, num_shards=run.num_tpu_cores,
        per_host_input_for_training=tf.estimator.tpu.InputPipelineConfig.PER_HOST_V2)
    config = tf.estimator.tpu.RunConfig(
        cluster=cluster, master=run.master, model_dir=model_dir, tf_random_seed=run.random_seed,
        save_checkpoints_steps=run.save_checkpoints_steps,
        keep_checkpoint_max=run.keep_checkpoint_max or None, log_step_count_steps=None,
        session_config=_session_config(run), tpu_config=tpu_config)
    return tf.estimator.tpu.TPUEstimator(
        model_fn=model_fn, config=config, use_tpu=run.use_tpu, train_batch_size=train_batch_size,
        eval_batch_size=eval_batch_size, predict_batch_size=predict_batch_size)


def _tpu_cluster(run):
    say("Connecting to TPU %s" % run.tpu_name)
    try:
        return tf.distribute.cluster_resolver.TPUClusterResolver(
            run.tpu_name, zone=run.tpu_zone, project=run.gcp_project)
    except Exception as error:  # noqa: BLE001 - the cloud's client raises errors of many kinds
        raise UserError("--tpu_name=%s cannot be found (%s); check --tpu_name, --tpu_zone and "
                        "--gcp_project, and that this machine is in the cloud"
                        % (run.tpu_name, error)) from error


def _session_config(run):
    config = tf.ConfigProto(allow_soft_placement=True,
                            intra_op_parallelism_threads=run.num_threads,
                            inter_op_parallelism_threads=run.num_threads)
    config.gpu_options.allow_growth = True
    return config


def scaffold_fn(model_fit, use_tpu, with_global_step=False):
    """Loads a checkpoint into the current graph; on a TPU by the function it returns."""
    if model_fit is None:
        return None
    if not use_tpu:
        checkpoints.load(model_fit, with_global_step)
        return None

    def load_on_host():
        checkpoints.load(model_fit, with_global_step)
        return tf.train.Scaffold()

    return load_on_host


class ProgressHook(tf.train.SessionRunHook):
    """Says how far a job is, with its rate and the values of named scalars."""

    def __init__(self, label, total, scalars=(), count_global_steps=True):
        """Makes the hook.

        Args:
            label: what is being done, e.g. "train".
            total: number of steps in all, or None.
            scalars: (label, tensor name) pairs to show, e.g. [("loss", "total_loss:0")].
            count_global_steps: follow the global step (training), else count calls.
        """
        self._label, self._total = label, total
        self._scalars = list(scalars)
        self._count_global_steps = count_global_steps
        self._done, self._progress = 0, None

    def after_create_session(self, session, coord):
        del coord
        self._done = (int(session.run(tf.train.get_global_step()))
                      if self._count_global_steps else 0)

    def before_run(self, run_context):
        graph = run_context.session.graph
        fetches = {label: graph.get_tensor_by_name(name) for label, name in self._scalars}
        if self._count_global_steps:
            fetches["global_step"] = tf.train.get_global_step(graph)
        return tf.train.SessionRunArgs(fetches)

    def after_run(self, run_context, run_values):
        values = run_values.results
        # The step fetched beside an update may be the one before or after it: count calls here.
        self._done += 1
        if self._count_global_steps:
            self._done = max(self._done, int(values["global_step"]))
        if self._progress is None:  # the first step pays for the start: the rate counts from here
            self._progress = Progress(self._label, self._total, "step", start=self._done)
        shown = "  ".join("%s %.4g" % (label, values[label]) for label, _ in self._scalars)
        self._progress.update(self._done, shown)


def format_results(results):
    """Formats a dict of results as users' scripts read them: `name = value`, one a line."""
    return "".join("%s = %s\n" % (name, results[name]) for name in sorted(results))
