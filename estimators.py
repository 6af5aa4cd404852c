"""Running models: TPU, GPU or CPU estimators, their flags, initialisation, progress, curves."""

import collections
import concurrent.futures
import contextlib
import itertools
import os
import time

import checkpoints
import distribution
import files
import interruption
import modeling
import runtime
from absl import flags
from console import Progress, say
from errors import UserError

import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import rewriter_config_pb2

RunSettings = collections.namedtuple("RunSettings", [
    "output_dir", "use_tpu", "tpu_name", "tpu_zone", "gcp_project", "master", "num_tpu_cores",
    "iterations_per_loop", "save_checkpoints_steps", "keep_checkpoint_max", "random_seed",
    "num_threads", "precision", "xla", "gradient_accumulation_steps", "distribution", "recompute"])
# What scripts without flags of these names run with.
RunSettings.__new__.__defaults__ = ("float32", False, 1, "none", False)
RunSettings.__doc__ = "Where and how a script runs; the fields are the flags of the same names."


PRECISIONS = ("float32", "bfloat16", "float16")
CORES_OF_A_HOST = 8  # of TPUs v2 and v3
NEVER_AGAIN = 10 ** 9


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
    flags.DEFINE_enum("precision", "float32", PRECISIONS, "Of the arithmetic; weights, optimizer "
                      "and checkpoints stay float32. bfloat16: CPUs that have it, on TensorFlow 2; "
                      "TPUs compute so anyway. float16: GPUs, with dynamic loss scaling.")
    flags.DEFINE_bool("xla", False, "Compile with XLA; for GPUs.")
    flags.DEFINE_integer("gradient_accumulation_steps", 1, "Batches of --train_batch_size whose "
                         "gradients are added up for one update. A step is an update: it sees "
                         "--train_batch_size x this x the replicas of --distribution.")
    flags.DEFINE_bool("recompute", False, "Keep only each layer's input for the way back and "
                      "compute the layer again there: less memory, one more pass forward.")
    flags.DEFINE_enum("distribution", "none", distribution.DISTRIBUTIONS,
                      "mirrored: all GPUs of this machine; multi_worker: the machines that the "
                      "environment's TF_CONFIG names, with an --output_dir that all of them see. "
                      "Each device then gets batches of --train_batch_size.")
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
    if not runtime.HAS_ESTIMATOR:
        raise UserError("TensorFlow %s has no Estimator, which training, evaluation and prediction "
                        "are built on; use TensorFlow 2.15 (ALBERT_TF=2) or 1.15 (ALBERT_TF=1). "
                        "similarity.py and export_model.py run here" % tf.__version__)
    if not settings.output_dir:
        raise UserError("--output_dir is missing: name a folder for checkpoints and results")
    checkpoints.require_plain_path(settings.output_dir, "output_dir")
    for name, least in (("save_checkpoints_steps", 1), ("keep_checkpoint_max", 0),
                        ("iterations_per_loop", 1), ("num_tpu_cores", 1), ("num_threads", 0),
                        ("gradient_accumulation_steps", 1)):
        if getattr(settings, name) < least:
            raise UserError("--%s=%d: at least %d is needed"
                            % (name, getattr(settings, name), least))
    if settings.random_seed is not None and not -1 << 63 <= settings.random_seed < 1 << 63:
        raise UserError("--random_seed=%d: at most 63 bits are taken" % settings.random_seed)
    if settings.use_tpu and not (settings.tpu_name or settings.master):
        raise UserError("--use_tpu needs --tpu_name (or --master)")
    if settings.tpu_name and not settings.use_tpu:
        raise UserError("--tpu_name=%s has no effect without --use_tpu" % settings.tpu_name)
    if settings.master and settings.distribution != "none":
        raise UserError("--master=%s has no effect with --distribution=%s" % (
            settings.master, settings.distribution))
    require_precision(settings)
    distribution.require_distribution(settings)
    return settings


def require_precision(run):
    """Raises UserError where this machine or TensorFlow cannot compute as --precision says."""
    if run.xla and run.use_tpu:
        raise UserError("--xla: a TPU always compiles with XLA; leave the flag out")
    if run.precision == "float16" and (run.use_tpu or not distribution.local_devices()):
        raise UserError("--precision=float16 needs a GPU, and %s; use --precision=%s" % (
            ("a TPU computes in bfloat16", "bfloat16") if run.use_tpu
            else ("TensorFlow sees none here", "float32")))
    if run.precision == "bfloat16" and not run.use_tpu:
        distribution.require_bfloat16(instead="float16")


def require_full_cores(run, values):
    """Raises UserError for a batch size that a TPU's cores cannot share. values: {flag: value}."""
    for name, value in sorted(values.items()):
        if run.use_tpu and name.endswith("_batch_size") and value % run.num_tpu_cores:
            raise UserError("--%s=%d: on a TPU all batch sizes must be multiples of "
                            "--num_tpu_cores=%d" % (name, value, run.num_tpu_cores))


def require_one_host(run, values):
    """Raises UserError where a pod of several hosts would evaluate or predict: it only trains.

    Args:
        values: {flag: value}.
    """
    asked = ["--" + name for name in ("do_eval", "do_predict") if values.get(name)]
    if run.use_tpu and run.num_tpu_cores > CORES_OF_A_HOST and asked:
        raise UserError("%s: several TPU hosts (--num_tpu_cores=%d) can only train; do it in a "
                        "command of its own, without --do_train, on %d cores or without --use_tpu"
                        % (" and ".join(asked), run.num_tpu_cores, CORES_OF_A_HOST))


def make_estimator(model_fn, run, model_dir, train_batch_size=None, eval_batch_size=None,
                   predict_batch_size=None):
    """Makes the estimator that runs `model_fn`.

    That for training, which has no other batch size, follows --distribution: its batches are for
    one device, and `run.gradient_accumulation_steps` times as large as `train_batch_size` (the
    model_fn divides them, see optimization.differentiate). Others run on a TPU, or else on the
    local GPU or CPU.

    Args:
        model_fn: function (features, labels, mode, params) that returns a TPUEstimatorSpec.
        train_batch_size, eval_batch_size, predict_batch_size: examples a batch, what input_fn gets
            as params["batch_size"].
    """
    model_fn = adapted(model_fn, run)
    trains = eval_batch_size is None and predict_batch_size is None
    if trains and train_batch_size:
        train_batch_size *= run.gradient_accumulation_steps
    if trains and run.distribution != "none":
        return _distributed_estimator(model_fn, run, model_dir, train_batch_size)
    cluster = _tpu_cluster(run) if run.use_tpu and run.tpu_name else None
    tpu_config = tf.estimator.tpu.TPUConfig(
        iterations_per_loop=run.iterations_per_loop, num_shards=run.num_tpu_cores,
        per_host_input_for_training=tf.estimator.tpu.InputPipelineConfig.PER_HOST_V2)
    with distribution.without_cluster():
        config = tf.estimator.tpu.RunConfig(
            cluster=cluster, master=run.master, tpu_config=tpu_config,
            save_summary_steps=100 if run.use_tpu else 0,  # else ProgressHook writes the curves
            **_run_config(run, model_dir))
    return tf.estimator.tpu.TPUEstimator(
        model_fn=model_fn, config=config, use_tpu=run.use_tpu, train_batch_size=train_batch_size,
        eval_batch_size=eval_batch_size, predict_batch_size=predict_batch_size)


def adapted(model_fn, run):
    """Returns a model_fn that makes the graph that is fast here: of the same numbers, but rounding.
    """
    if run.use_tpu or distribution.local_devices():
        return model_fn

    # TensorFlow cannot compile a piece of a loop, in which the parts of a batch are computed; --xla
    # compiles everything; under a strategy it has not been tried.
    compiles = (run.distribution == "none" and run.gradient_accumulation_steps == 1
                and not run.xla)

    def on_cpu(features, labels, mode, params):
        if run.precision == "bfloat16":
            modeling.multiply_in_bfloat16()
        # Others would spend on compiling for each length what they gain: they are soon over.
        if compiles and mode == tf.estimator.ModeKeys.TRAIN:
            runtime.warm_up_compiler(session_config(run))
            modeling.compile_activations()
        return model_fn(features, labels, mode, params)

    return on_cpu


def _run_config(run, model_dir):
    return dict(model_dir=model_dir, tf_random_seed=run.random_seed,
                save_checkpoints_steps=run.save_checkpoints_steps,
                keep_checkpoint_max=run.keep_checkpoint_max or None, log_step_count_steps=None,
                session_config=session_config(run))


def _distributed_estimator(model_fn, run, model_dir, batch_size):
    """Makes a plain Estimator with a strategy: TPUEstimator fails with one on TensorFlow 1.15."""
    # Under a strategy TensorFlow 2 would convert the model_fn's Python, for no use here.
    as_it_is = tf.autograph.experimental.do_not_convert(model_fn)

    def spec_fn(features, labels, mode, params):
        return as_it_is(features, labels, mode, params).as_estimator_spec()

    def config_with(strategy, save_summary_steps):
        return tf.estimator.RunConfig(train_distribute=strategy,
                                      save_summary_steps=save_summary_steps,
                                      **_run_config(run, model_dir))

    if run.distribution == "mirrored":
        with distribution.without_cluster():
            config = config_with(tf.distribute.MirroredStrategy(distribution.local_devices()), 0)
    else:
        # Several workers save no checkpoints where no summaries are wanted: TensorFlow looks at
        # the one number for both. So a summary is asked for, the first step's and no other.
        config = config_with(tf.distribute.experimental.MultiWorkerMirroredStrategy(), NEVER_AGAIN)
    return tf.estimator.Estimator(spec_fn, config=config, params={"batch_size": batch_size})


def train(estimator, run, input_fn, max_steps, hooks):
    """Trains up to `max_steps` in all, alone or together with the other workers.

    Ctrl-C and SIGTERM save a checkpoint and end the program. (Not with several workers, who save
    together: there the last one saved stands.)

    Args:
        estimator: of `make_estimator`.
        hooks: of the chief's process; the other workers run without.

    Raises:
        UserError: the output folder is full, read-only or gone; names it and the remedy.
    """
    if run.distribution == "multi_worker":
        with naming_the_folder(run.output_dir):
            _train_together(estimator, run, input_fn, max_steps,
                            hooks if distribution.is_chief(run) else [])
        return
    with interruption.Watch() as watch, naming_the_folder(run.output_dir):
        hooks = list(hooks) + [StopHook(watch)]
        if run.output_dir:
            hooks.append(FolderHook(run.output_dir))
        if run.output_dir and not run.use_tpu:  # whose estimator brings its own
            hooks.append(SavingHook(run.output_dir, save_steps=run.save_checkpoints_steps))
        estimator.train(input_fn, max_steps=max_steps, hooks=hooks)
    if watch.number is not None:
        interruption.end(watch.number, "ended by %s after step %d of %d, which is saved in %s; "
                         "give the same command again to go on" % (
                             interruption.NAMES[watch.number],
                             checkpoints.step_reached(run.output_dir), max_steps, run.output_dir))


class StopHook(tf.train.SessionRunHook):
    """Ends the training after a step in which a signal came; the last step is then saved."""

    def __init__(self, watch):
        """watch: interruption.Watch."""
        self._watch = watch

    def after_run(self, run_context, run_values):
        del run_values
        if self._watch.number is not None:
            run_context.request_stop()


class SavingHook(tf.train.CheckpointSaverHook):
    """Saves checkpoints, but not again the one that a training goes on from.

    TensorFlow would write that one's index anew in its place: killed in the midst of it, a run
    would lose the checkpoint that it had.
    """

    def after_create_session(self, session, coord):
        self._begins = True
        super(SavingHook, self).after_create_session(session, coord)
        self._begins = False

    def _save(self, session, step):
        if self._begins and list(checkpoints.whole(
                prefix for prefix in ["%s-%d" % (self._save_path, step)]
                if files.exists(prefix + ".index"))):
            self._summary_writer.add_session_log(tf.SessionLog(
                status=tf.SessionLog.CHECKPOINT, checkpoint_path=self._save_path), step)
            return False  # what follows a save: whether to stop
        return super(SavingHook, self)._save(session, step)


class FolderHook(tf.train.SessionRunHook):
    """Ends a training whose local folder was moved or removed: TensorFlow would make another."""

    SECONDS_BETWEEN = 1.0

    def __init__(self, folder):
        self._folder, self._next = folder, 0.0
        self._is_local = not files.is_remote(folder)

    def begin(self):
        self._there = os.stat(self._folder) if self._is_local else None

    def after_run(self, run_context, run_values):
        del run_context, run_values
        if self._is_local and time.time() >= self._next:
            self._next = time.time() + self.SECONDS_BETWEEN
            self._check()

    def end(self, session):
        del session
        if self._is_local:
            self._check()

    def _check(self):
        if not (os.path.isdir(self._folder)
                and os.path.samestat(os.stat(self._folder), self._there)):
            raise UserError(_GONE % self._folder)


_GONE = ("--output_dir=%s is gone, or another folder is in its place: put it back. What was saved "
         "in it is whole; then the same command goes on from it")


@contextlib.contextmanager
def naming_the_folder(folder):
    """Within the block, TensorFlow's failure to write to a folder is told with its remedy.

    Raises:
        UserError: names the folder and what is wrong with it.
    """
    try:
        yield
    except (tf.errors.OpError, ValueError) as error:  # the Saver makes a ValueError of some
        if isinstance(error, UserError):
            raise
        if folder and not files.is_remote(folder) and not os.path.isdir(folder):
            raise UserError(_GONE % folder) from error
        fault = _fault_of(error)
        if fault is None:
            raise
        raise UserError("--output_dir=%s %s. What was saved before is whole; then the same command "
                        "goes on from it" % (folder, fault)) from error


def _fault_of(error):
    """Returns what is wrong with a folder, and the remedy, where it is what caused an error."""
    said = getattr(error, "message", None) or ""
    if "No space left" in said or "quota exceeded" in said:
        return "is on a disk that is full: make room there"
    if isinstance(error, tf.errors.PermissionDeniedError) or "Read-only file system" in said:
        return "can no longer be written to (%s): make it writable" % said.split("; ")[-1]
    return None


def _train_together(estimator, run, input_fn, max_steps, hooks):
    """Trains as one of several workers."""
    watch = distribution.PeerWatch(distribution.read_cluster())
    try:
        # Only this entrance of Estimator starts the servers through which workers meet. Nobody
        # has the role of an evaluator, so nothing is evaluated here.
        tf.estimator.train_and_evaluate(
            estimator, tf.estimator.TrainSpec(input_fn, max_steps=max_steps,
                                              hooks=hooks + [watch]),
            tf.estimator.EvalSpec(input_fn, steps=1))
    except tf.errors.OpError:
        watch.restart_if_alone()
        raise
    runtime.free_server()
    if not distribution.is_chief(run):
        # Collective saving makes every worker write a checkpoint somewhere.
        task = distribution.read_cluster()["task"]
        own = os.path.join(run.output_dir, "tmp_%s_%d" % (task["type"], int(task["index"])))
        if tf.io.gfile.exists(own):
            tf.io.gfile.rmtree(own)


def _tpu_cluster(run):
    say("Connecting to TPU %s" % run.tpu_name)
    try:
        return tf.distribute.cluster_resolver.TPUClusterResolver(
            run.tpu_name, zone=run.tpu_zone, project=run.gcp_project)
    except Exception as error:  # noqa: BLE001 - the cloud's client raises errors of many kinds
        raise UserError("--tpu_name=%s cannot be found (%s); check --tpu_name, --tpu_zone and "
                        "--gcp_project, and that this machine is in the cloud"
                        % (run.tpu_name, error)) from error


# Batches of a prediction that a CPU computes at the same time: while one is at an operation that
# occupies one core, another uses the rest.
SIDE_BY_SIDE = 2


def predicted_rows(model_fn, run, input_fn, batch_size, model_dir):
    """Yields what a model_fn predicts for each row of an input, in no certain order.

    On a TPU its estimator does the work, elsewhere one session here.

    Args:
        model_fn: as for `make_estimator`; it loads the weights.
        batch_size: examples a batch, what input_fn gets as params["batch_size"].
        model_dir: folder for what the TPU's estimator leaves behind.

    Yields:
        {name: array}.
    """
    if run.use_tpu:
        estimator = make_estimator(model_fn, run, model_dir, train_batch_size=batch_size,
                                   predict_batch_size=batch_size)
        for row in estimator.predict(input_fn):
            yield row
        return
    params = {"batch_size": batch_size}
    with tf.Graph().as_default():
        iterator = tf.data.make_initializable_iterator(input_fn(params))
        spec = adapted(model_fn, run)(iterator.get_next(), None,
                                      tf.estimator.ModeKeys.PREDICT, params)
        config = session_config(run)
        with tf.Session(run.master or "", config=config) as session:
            session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
            session.run([tf.tables_initializer(), iterator.initializer])
            side_by_side = 1 if run.num_threads == 1 or distribution.local_devices() else (
                SIDE_BY_SIDE)
            for batch in until_the_end(lambda: session.run(spec.predictions), side_by_side):
                for number in range(len(batch["row"])):
                    yield {name: values[number] for name, values in batch.items()}


def until_the_end(step, side_by_side, most=None):
    """Yields what `step()` returns, called by several threads, until the input comes to its end.

    Args:
        side_by_side: number of calls at the same time.
        most: number of calls in all, at most.
    """
    calls = itertools.repeat(step) if most is None else itertools.repeat(step, most)
    with concurrent.futures.ThreadPoolExecutor(side_by_side) as threads:
        running = collections.deque(map(threads.submit, itertools.islice(calls, side_by_side)))
        while running:
            try:
                result = running.popleft().result()
            except tf.errors.OutOfRangeError:
                continue  # the other calls may have got the last batches
            running.extend(map(threads.submit, itertools.islice(calls, 1)))
            yield result


def session_config(run):
    """Returns the settings of TensorFlow's sessions. run: RunSettings."""
    config = tf.ConfigProto(allow_soft_placement=True,
                            intra_op_parallelism_threads=run.num_threads,
                            inter_op_parallelism_threads=run.num_threads)
    config.gpu_options.allow_growth = True
    if run.precision == "float16":
        config.graph_options.rewrite_options.auto_mixed_precision = (
            rewriter_config_pb2.RewriterConfig.ON)
    if run.precision == "bfloat16" and not run.use_tpu:
        runtime.enable_bfloat16(config)
    if run.xla:
        config.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.ON_1
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
