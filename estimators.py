"""Running models: TPU, GPU or CPU estimators, their flags, initialisation, progress, curves."""

import collections
import time

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


def flag_values(all_flags):
    """Returns {flag: value} of the project's own flags, without those that absl brings along."""
    return {flag.name: flag.value
            for module, defined in all_flags.flags_by_module_dict().items()
            if not module.startswith(("absl", "tensorflow")) for flag in defined}


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


def require_full_cores(run, values):
    """Raises UserError for a batch size that a TPU's cores cannot share. values: {flag: value}."""
    for name, value in sorted(values.items()):
        if run.use_tpu and name.endswith("_batch_size") and value % run.num_tpu_cores:
            raise UserError("--%s=%d: on a TPU all batch sizes must be multiples of "
                            "--num_tpu_cores=%d" % (name, value, run.num_tpu_cores))


def make_estimator(model_fn, run, model_dir, train_batch_size=None, eval_batch_size=None,
                   predict_batch_size=None):
    """Makes the TPUEstimator that runs `model_fn` on a TPU, or else on the local GPU or CPU."""
    cluster = _tpu_cluster(run) if run.use_tpu and run.tpu_name else None
    tpu_config = tf.estimator.tpu.TPUConfig(
        iterations_per_loop=run.iterations_per_loop, num_shards=run.num_tpu_cores,
        per_host_input_for_training=tf.estimator.tpu.InputPipelineConfig.PER_HOST_V2)
    config = tf.estimator.tpu.RunConfig(
        cluster=cluster, master=run.master, model_dir=model_dir, tf_random_seed=run.random_seed,
        save_checkpoints_steps=run.save_checkpoints_steps,
        keep_checkpoint_max=run.keep_checkpoint_max or None, log_step_count_steps=None,
        save_summary_steps=100 if run.use_tpu else 0,  # elsewhere ProgressHook writes the curves
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


Scalar = collections.namedtuple("Scalar", ["tag", "tensor", "label"])
Scalar.__doc__ = """A number to follow during training.

tag: its name in TensorBoard and curves.png; tensor: name of the tensor; label: its short name in
progress messages, None to leave it out there."""

# The curves hold about so many points a run, and never lie more than so many steps apart.
POINTS_PER_CURVE = 500
MOST_STEPS_BETWEEN_POINTS = 100


class ProgressHook(tf.train.SessionRunHook):
    """Says how far a job is, with its rate and the values of scalars; writes them as curves."""

    def __init__(self, label, total, scalars=(), curves_dir=None, batch_size=None):
        """Makes the hook.

        Args:
            label: what is being done, e.g. "train".
            total: number of steps in all, or None.
            scalars: Scalars to follow.
            curves_dir: folder for TensorBoard's event files; the hook then follows the global
                step. None: nothing is written and calls are counted (evaluation).
            batch_size: examples a step, for the curve `examples/sec`.
        """
        self._label, self._total, self._scalars = label, total, list(scalars)
        self._curves_dir, self._batch_size = curves_dir, batch_size
        self._count_global_steps = curves_dir is not None
        self._every = min(max((total or 0) // POINTS_PER_CURVE, 1), MOST_STEPS_BETWEEN_POINTS)
        self._done, self._progress, self._writer, self._last_point = 0, None, None, None

    def after_create_session(self, session, coord):
        del coord
        if self._count_global_steps:
            self._done = int(session.run(tf.train.get_global_step()))
            self._writer = tf.summary.FileWriterCache.get(self._curves_dir)

    def before_run(self, run_context):
        graph = run_context.session.graph
        fetches = {one.tag: graph.get_tensor_by_name(one.tensor) for one in self._scalars}
        if self._count_global_steps:
            fetches["global_step"] = tf.train.get_global_step(graph)
        return tf.train.SessionRunArgs(fetches)

    def after_run(self, run_context, run_values):
        values = run_values.results
        # The step fetched beside an update may be the one before or after it: count calls here.
        self._done += 1
        if self._count_global_steps:
            self._done = max(self._done, int(values["global_step"]))
            if self._done % self._every == 0:
                self._write_point(values)
        if self._progress is None:  # the first step pays for the start: the rate counts from here
            self._progress = Progress(self._label, self._total, "step", start=self._done)
        shown = "  ".join("%s %.4g" % (one.label, values[one.tag])
                          for one in self._scalars if one.label)
        self._progress.update(self._done, shown)

    def _write_point(self, values):
        point = {one.tag: values[one.tag] for one in self._scalars}
        now = time.time()
        if self._last_point is not None and self._batch_size:
            step, then = self._last_point
            point["examples/sec"] = (self._done - step) * self._batch_size / max(now - then, 1e-9)
        self._last_point = (self._done, now)
        self._writer.add_summary(tf.Summary(value=[
            tf.Summary.Value(tag=tag, simple_value=float(value))
            for tag, value in point.items()]), self._done)

    def end(self, session):
        del session
        if self._writer is not None:
            self._writer.flush()


def format_results(results):
    """Formats a dict of results as users' scripts read them: `name = value`, one a line."""
    return "".join("%s = %s\n" % (name, results[name]) for name in sorted(results))
