"""Programs measured side by side: on one machine, in one run, round robin.

Every variant is a worker, a process with an interpreter and libraries of its own. It prepares
itself (the warm-up too), then waits for lines on standard input; for each line it runs one round
and answers with a line of JSON. The parent asks one worker after the other, round by round, so
only one works at a time and whatever slows the machine down slows all of them down alike. A
worker that cannot run (a package is missing, it fails) gives a line in the table that says why.

The parent never loads TensorFlow or PyTorch. That is for the workers, in the last two sections.

On a GPU: the same commands, in an environment with GPU builds of TensorFlow and PyTorch; all
variants then run there, and the tables name the devices. A TPU takes fixed shapes and runs many
steps a call; these benchmarks do not measure it.
"""

import collections
import datetime
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import files  # noqa: E402 - the project's modules lie one folder up
import plots  # noqa: E402
from absl import flags  # noqa: E402
from console import say, table  # noqa: E402
from errors import UserError, nearest  # noqa: E402

THIS, BASELINE = "this", "baseline"
BASELINE_PYTHON = os.path.join(ROOT, ".venv-tf1", "bin", "python")
HF = "HF transformers"
SECONDS_TO_END = 20

# The extensions that decide which matrix products a CPU's libraries choose.
CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16",
             "asimd", "sve", "bf16")

SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
         "intermediate_size", "hidden_dropout_prob", "attention_probs_dropout_prob",
         "max_position_embeddings", "type_vocab_size")

Variant = collections.namedtuple("Variant", ["key", "name", "interpreter", "settings"])
Variant.__doc__ = """One line of the tables.

key: short name, for --variants; name: what the table says; interpreter: THIS, the Python that the
benchmark runs on, or BASELINE; settings: dict that the worker is given, as JSON holds it."""

Measure = collections.namedtuple("Measure", ["key", "title", "unit", "more_is_better", "beside"])
Measure.__doc__ = """What a table and a panel of the picture show.

key: of a round's values; title, unit: of the table; more_is_better: which way ratios count;
beside: ((key, column title), ...) of values that stand in the table too, as medians."""

Reference = collections.namedtuple("Reference", ["title", "keys"])
Reference.__doc__ = "A column of ratios: to the best of the variants with these keys."

Outcome = collections.namedtuple("Outcome", ["variant", "about", "rounds", "problem"])
Outcome.__doc__ = """What a variant came to.

about: what the worker says of itself, {"runtime": "TensorFlow 2.15.1", ...}; rounds: list of
{measure key: value}; problem: why it could not run (to the end), or None."""

Summary = collections.namedtuple("Summary", ["low", "median", "high"])
Summary.__doc__ = "Lower quartile, median and upper quartile."


# ---------------------------------------------------------------------------------------------
# Flags
# ---------------------------------------------------------------------------------------------

def define_flags():
    """Defines the flags that all benchmarks share."""
    flags.DEFINE_string("output_dir", "benchmark_output", "Folder for the table (.md, .json) and "
                        "the picture (.png).")
    flags.DEFINE_integer("rounds", 5, "Rounds; the table holds their medians.")
    flags.DEFINE_string("variants", None, "Only these variants, comma-separated; none: all.")
    flags.DEFINE_string("baseline_python", None, "Python with TensorFlow 1.15, for the lines of "
                        "the older code; none: that of .venv-tf1, where there is one.")
    flags.DEFINE_string("worker", None, "Set by the benchmark itself, for its workers.")


def define_model_flags(batch_size, max_seq_length):
    """Defines the flags of the benchmarks that train one model; the arguments are defaults."""
    define_config_flag()
    flags.DEFINE_integer("batch_size", batch_size, "Examples of a step.")
    flags.DEFINE_integer("max_seq_length", max_seq_length, "Tokens of an example, at most.")


def define_config_flag():
    flags.DEFINE_string("bert_config_file",
                        os.path.join(ROOT, "albert_config", "albert_config_tiny.json"),
                        "JSON file with the model's sizes.")


def whole_numbers(texts, flag, least):
    """Returns the different numbers of a list flag, ascending; UserError for anything else."""
    try:
        values = sorted({int(text) for text in texts})
    except ValueError as error:
        raise UserError("--%s=%s: whole numbers are needed" % (flag, ",".join(texts))) from error
    if not values or values[0] < least:
        raise UserError("--%s=%s: numbers from %d on are needed" % (flag, ",".join(texts), least))
    return values


def read_sizes(path, max_seq_length=None, flag="bert_config_file"):
    """Reads a configuration as a dict, without TensorFlow; the workers check it thoroughly.

    Raises:
        UserError: no configuration, or max_seq_length is beyond its positions.
    """
    files.require_file(path, flag)
    sizes = files.read_json(path)
    lacking = [name for name in SIZES if not isinstance(sizes, dict) or name not in sizes]
    if lacking:
        raise UserError("--%s=%s lacks %s: name a file such as those in albert_config/"
                        % (flag, path, ", ".join(lacking)))
    if (max_seq_length or 0) > sizes["max_position_embeddings"]:
        raise UserError("--max_seq_length=%d is beyond the %d positions of %s"
                        % (max_seq_length, sizes["max_position_embeddings"], path))
    return sizes


def require_at_least_one(values, names):
    """Raises UserError, naming the flag, for a number below 1. values: the parsed flags."""
    for name in names:
        if getattr(values, name) < 1:
            raise UserError("--%s=%d: at least 1 is needed" % (name, getattr(values, name)))


def interpreters(baseline_python=None):
    """Returns {THIS, BASELINE: path of a Python, or None where there is none}.

    Raises:
        UserError: the Python that --baseline_python names does not exist.
    """
    if baseline_python and not os.path.isfile(baseline_python):
        raise UserError("--baseline_python=%s does not exist: name a Python with TensorFlow 1.15"
                        % baseline_python)
    if not baseline_python and os.path.isfile(BASELINE_PYTHON):
        baseline_python = BASELINE_PYTHON
    return {THIS: sys.executable, BASELINE: baseline_python}


def choose(variants, keys):
    """Returns the variants that --variants names (keys, comma-separated), all for None.

    Raises:
        UserError: one of them is unknown.
    """
    if not keys:
        return list(variants)
    wanted = [key.strip() for key in keys.split(",") if key.strip()]
    known = [variant.key for variant in variants]
    for key in wanted:
        if key not in known:
            raise UserError("--variants: %s is unknown.%s Known: %s"
                            % (key, nearest(key, known), ", ".join(known)))
    return [variant for variant in variants if variant.key in wanted]


# ---------------------------------------------------------------------------------------------
# The parent: rounds
# ---------------------------------------------------------------------------------------------

class WorkerError(Exception):
    """A worker cannot run, or cannot go on; the message is for the table."""


class Worker(object):
    """The parent's end of a worker."""

    def __init__(self, python, script, settings):
        """Starts the process; it prepares itself while `about` waits."""
        self._process = subprocess.Popen(
            [python, script, "--worker=" + json.dumps(settings)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)

    def about(self):
        """Waits until the worker is ready; returns what it says of itself."""
        return self._answer("about")

    def run_round(self):
        """Has the worker run a round; returns {measure key: value}."""
        try:
            self._process.stdin.write(b"round\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return self._answer("values")  # which tells how it ended
        return self._answer("values")

    def _answer(self, name):
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise WorkerError("ended with status %d (see above)" % status)
        answer = json.loads(line.decode("utf-8"))
        if "problem" in answer:
            raise WorkerError(answer["problem"])
        return answer[name]

    def close(self):
        """Ends the process."""
        try:
            self._process.stdin.close()
        except BrokenPipeError:  # it has ended already
            pass
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def measure(script, variants, pythons, rounds):
    """Runs all variants, round robin.

    Args:
        script: path of the benchmark, which serves a worker when it is given --worker.
        variants: list of Variant; pythons: of `interpreters`.
        rounds: number of rounds.

    Returns:
        list of Outcome, in the order of `variants`.
    """
    workers, outcomes = collections.OrderedDict(), {}
    try:
        for variant in variants:
            say("Preparing: %s" % variant.name)
            outcomes[variant.key] = _prepared(script, variant, pythons, workers)
        for number in range(1, rounds + 1):
            for key, worker in list(workers.items()):
                say("Round %d of %d: %s" % (number, rounds, outcomes[key].variant.name))
                try:
                    outcomes[key].rounds.append(worker.run_round())
                except WorkerError as error:
                    outcomes[key] = outcomes[key]._replace(problem=str(error))
                    workers.pop(key).close()
    finally:
        for worker in workers.values():
            worker.close()
    return [outcomes[variant.key] for variant in variants]


def _prepared(script, variant, pythons, workers):
    """Starts a variant's worker and adds it to `workers` once it is ready; returns its Outcome."""
    python = pythons[variant.interpreter]
    if python is None:
        return Outcome(variant, {}, [], "no Python with TensorFlow 1.15 (--baseline_python)")
    worker = Worker(python, script, variant.settings)
    try:
        about = worker.about()
    except WorkerError as error:
        worker.close()
        return Outcome(variant, {}, [], str(error))
    except BaseException:
        worker.close()
        raise
    workers[variant.key] = worker
    return Outcome(variant, about, [], None)


def run_once(script, settings, python=None):
    """Has a fresh process do one round; returns (about, its values).

    Raises:
        WorkerError: it could not.
    """
    worker = Worker(python or sys.executable, script, settings)
    try:
        return worker.about(), worker.run_round()
    finally:
        worker.close()


def require_once(script, settings):
    """Returns the values of `run_once`, for what all variants need; UserError if it fails."""
    try:
        return run_once(script, settings)[1]
    except WorkerError as error:
        raise UserError("the benchmark cannot be prepared: %s" % error) from error


# ---------------------------------------------------------------------------------------------
# The parent: numbers
# ---------------------------------------------------------------------------------------------

def summarise(values):
    """Returns the Summary of numbers, of which there is at least one.

    summarise([4, 1, 3, 2, 5]) == Summary(2, 3, 4)
    """
    ordered = sorted(values)

    def quantile(share):
        place = share * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    return Summary(quantile(0.25), quantile(0.5), quantile(0.75))


def summary_of(outcome, key):
    """Returns the Summary of a variant's values of a measure, or None where it has none."""
    values = [values[key] for values in outcome.rounds if key in values]
    return summarise(values) if values and not outcome.problem else None


def ratios(outcomes, a_measure, reference):
    """Returns {variant key: how many times as good as the best of the reference's variants}.

    Above 1 is better, be it by a higher rate or a lower time. Medians are compared. Empty where
    none of the reference's variants has a value.
    """
    medians = {outcome.variant.key: summary_of(outcome, a_measure.key) for outcome in outcomes}
    medians = {key: summary.median for key, summary in medians.items() if summary}
    known = [medians[key] for key in reference.keys if key in medians]
    if not known:
        return {}
    if a_measure.more_is_better:
        return {key: median / max(known) for key, median in medians.items()}
    return {key: min(known) / median for key, median in medians.items()}


def machine():
    """Returns what is known of this machine, and of now: {"cpu": ..., "cores": ..., ...}."""
    fields = {}
    if os.path.exists("/proc/cpuinfo"):
        for _, line in files.read_lines("/proc/cpuinfo"):
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    present = fields.get("flags", fields.get("Features", "")).split()
    return collections.OrderedDict([
        ("cpu", fields.get("model name") or platform.machine()), ("cores", cores()),
        ("cpu_flags", [flag for flag in CPU_FLAGS if flag in present]),
        ("system", platform.platform()), ("load_before", round(os.getloadavg()[0], 2)),
        ("date", datetime.datetime.utcnow().strftime("%Y-%m-%d %H:%M UTC"))])


def cores():
    """Returns the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def command_line():
    """Returns the command that started this process, as one would type it."""
    return " ".join(["python"] + [shlex.quote(part) for part in sys.argv])


# ---------------------------------------------------------------------------------------------
# The parent: what is printed and saved
# ---------------------------------------------------------------------------------------------

def report(name, title, facts, outcomes, measures, references, output_dir, more_tables=(),
           more_details=None):
    """Prints the tables; saves them as NAME.md and NAME.json with a picture NAME.png.

    Args:
        name: of the files; title: of the picture and the text.
        facts: {what: text} of the conditions, as strings and numbers.
        outcomes: of `measure`; measures: list of Measure; references: list of Reference.
        output_dir: folder that exists.
        more_tables: list of (heading, rows); more_details: {name: value} for the JSON file.
    """
    conditions = collections.OrderedDict([("command", command_line())])
    conditions.update(facts)
    tables = [("%s, %s" % (one.title, one.unit), rows_of(outcomes, one, references))
              for one in measures]
    if any("profile" in outcome.about for outcome in outcomes):
        tables.append(("Where a training step's time goes, %", profile_rows(outcomes)))
    tables.extend(more_tables)
    print_tables(title, conditions, tables)
    details = collections.OrderedDict([
        ("measures", [one._asdict() for one in measures]),
        ("variants", [_as_json(outcome, measures, references, outcomes)
                      for outcome in outcomes])])
    details.update(more_details or {})
    save(os.path.join(output_dir, name), title, conditions, tables, details,
         lambda path: draw(title, outcomes, measures, path))


def print_tables(title, conditions, tables):
    """Prints conditions, {what: text}, and tables, a list of (heading, rows)."""
    print(title)
    for what, value in conditions.items():
        print("  %s: %s" % (what, _text(value)))
    for heading, rows in tables:
        print("\n" + heading)
        print(table(rows[0], rows[1:]))


def save(path, title, conditions, tables, details, draw_to):
    """Writes path.md, path.json and, where matplotlib is installed, path.png.

    Args:
        details: dict of what else the JSON file holds.
        draw_to: function of a path that draws the picture, or returns False.
    """
    files.write_text(path + ".md", markdown(title, conditions, tables))
    files.write_json(path + ".json", collections.OrderedDict(
        [("title", title), ("conditions", conditions)] + list(details.items())))
    endings = [".md", ".json"] + [".png"] * draw_to(path + ".png")
    say("Saved: " + ", ".join(path + ending for ending in endings))


def rows_of(outcomes, a_measure, references):
    """Returns the rows of a measure's table as lists of strings, the header first."""
    header = ["variant", "runs on", "median", "quartiles"]
    header += [title for _, title in a_measure.beside]
    shares = [ratios(outcomes, a_measure, reference) for reference in references]
    rows = [header + [reference.title for reference in references]]
    for outcome in outcomes:
        summary = summary_of(outcome, a_measure.key)
        if summary is None:
            row = [outcome.variant.name, "not run: %s" % (outcome.problem or "no value")]
            rows.append(row + ["-"] * (len(rows[0]) - len(row)))
            continue
        row = [outcome.variant.name, outcome.about["runtime"]]
        row += [number(summary.median), "%s to %s" % (number(summary.low), number(summary.high))]
        row += [number(summary_of(outcome, key).median) for key, _ in a_measure.beside]
        rows.append(row + ["%.2fx" % share[outcome.variant.key] if share else "-"
                           for share in shares])
    return rows


def profile_rows(outcomes):
    """Returns the rows of the profiles (see Steps.profile) of the variants that have one."""
    rows = [["variant", "waiting for input, of the step", "matrix products, of all operations"]]
    return rows + [
        [outcome.variant.name, "%.2f" % outcome.about["profile"]["waiting"],
         "%.0f" % outcome.about["profile"]["matrix products"]]
        for outcome in outcomes if "profile" in outcome.about and not outcome.problem]


def number(value):
    """Formats with three digits or more: 0.0123, 1.23, 12.3, 123, 12,345."""
    return format(value, ",.0f") if abs(value) >= 100 else "%.3g" % value


def markdown(title, conditions, tables):
    """Formats the conditions and the tables, a list of (heading, rows), as Markdown."""
    lines = ["# " + title, ""]
    lines += ["- %s: %s" % (what, "`%s`" % value if what == "command" else _text(value))
              for what, value in conditions.items()]
    for heading, rows in tables:
        lines += ["", "## " + heading, "", _markdown_row(rows[0]),
                  "|---|" + "---:|" * (len(rows[0]) - 1)]
        lines += [_markdown_row(row) for row in rows[1:]]
    return "\n".join(lines) + "\n"


def _markdown_row(cells):
    return "| %s |" % " | ".join(str(cell).replace("|", "\\|") for cell in cells)


def _text(value):
    return " ".join(value) if isinstance(value, list) else str(value)


def _as_json(outcome, measures, references, outcomes):
    key = outcome.variant.key
    summaries = {one.key: summary_of(outcome, one.key) for one in measures}
    return collections.OrderedDict([
        ("key", key), ("name", outcome.variant.name), ("about", outcome.about),
        ("problem", outcome.problem), ("rounds", outcome.rounds),
        ("medians", {name: summary.median for name, summary in summaries.items() if summary}),
        ("ratios", {reference.title: {
            one.key: share[key] for one in measures
            for share in [ratios(outcomes, one, reference)] if key in share}
            for reference in references})])


def draw(title, outcomes, measures, path):
    """Draws a panel of bars for each measure, with the quartiles as lines on them.

    Returns:
        True if the picture was drawn.
    """
    if not plots.is_available():
        return False
    names = [outcome.variant.name for outcome in outcomes]
    font, (title, *names) = plots.spell([title] + names)
    columns = min(len(measures), 3)
    lines = -(-len(measures) // columns)
    height = (0.32 * len(names) + 0.9) * lines + 0.4
    with plots.canvas(path, 2.6 + 3.2 * columns, height, font) as figure:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        for place, one in enumerate(measures):
            axes = figure.add_subplot(lines, columns, place + 1)
            _draw_bars(axes, outcomes, one.key)
            axes.set_title("%s, %s" % (one.title, one.unit))
            axes.set_yticks(range(len(names)))
            axes.set_yticklabels(names if place % columns == 0 else [])
    return True


def _draw_bars(axes, outcomes, key):
    axes.grid(True, axis="x")
    axes.set_ylim(len(outcomes) - 0.4, -0.6)
    for row, outcome in enumerate(outcomes):
        summary = summary_of(outcome, key)
        if summary is None:
            axes.annotate("not run", (0, row), (3, 0), va="center", textcoords="offset points",
                          color=plots.GREY, fontsize=8)
            continue
        axes.barh(row, summary.median, height=0.66,
                  color=plots.ORANGE if outcome.variant.name.startswith(HF) else plots.BLUE)
        axes.plot([summary.low, summary.high], [row, row], color=plots.INK, linewidth=1.2)
        axes.annotate(number(summary.median), (max(summary.median, summary.high), row), (4, 0),
                      va="center", textcoords="offset points", fontsize=8)
    axes.margins(x=0.16)


# ---------------------------------------------------------------------------------------------
# A worker
# ---------------------------------------------------------------------------------------------

def serve(prepare, settings):
    """The life of a worker; returns when the parent closes its standard input.

    Args:
        prepare: function of `settings` that gets everything ready and warm; returns
            (what it says of itself, function that runs a round and returns {measure key: value}).
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print stays out of them

    def answer(value):
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        about, run_round = prepare(settings)
        answer({"about": about})
        for _ in sys.stdin:
            answer({"values": run_round()})
    except BrokenPipeError:  # the parent is gone, nobody waits for an answer
        return
    except ModuleNotFoundError as error:
        answer({"problem": "%s is not installed" % error.name})
    except UserError as error:
        answer({"problem": str(error)})
    except Exception as error:  # noqa: BLE001 - whatever it is, the other variants go on
        traceback.print_exc()
        answer({"problem": "failed: %s: %s" % (type(error).__name__,
                                               str(error).strip().split("\n")[0])})


def peak_memory():
    """Returns the most memory, in MiB, that this process has held at a time."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024.0 * 1024.0 if sys.platform == "darwin" else 1024.0)


def fastest(candidates, make_step, trials=2):
    """Returns the candidate whose step takes the least time.

    Args:
        make_step: function of a candidate that returns its step, a function without arguments.
    """
    times = []
    for candidate in candidates:
        step = make_step(candidate)
        step()
        times.append(min(seconds(step) for _ in range(trials)))
    return candidates[times.index(min(times))]


def seconds(function, *arguments):
    """Returns how long a call takes."""
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


# ---------------------------------------------------------------------------------------------
# Workers of this project, on TensorFlow
# ---------------------------------------------------------------------------------------------

def training_variants():
    """Returns the Variants of this project that benchmarks of training share.

    Their settings: role "tensorflow"; older: the graph of older_graph.py; padded: pad everything;
    precision: see `run_settings`.
    """
    def one(key, name, interpreter, padded, precision="float32", older=False):
        return Variant(key, name, interpreter, {
            "role": "tensorflow", "older": older, "padded": padded, "precision": precision})

    return [one("older", "older code: padded", BASELINE, True, older=True),
            one("padded_tf1", "padded, TF 1.15", BASELINE, True),
            one("by_length_tf1", "by length, TF 1.15", BASELINE, False),
            one("padded", "padded, float32", THIS, True),
            one("by_length", "by length, float32", THIS, False),
            one("bfloat16", "by length, bfloat16", THIS, False, "bfloat16")]


def tensorflow_about(session):
    """Returns what a worker says of itself: TensorFlow's version and the devices."""
    import tensorflow.compat.v1 as tf
    devices = sorted({device.device_type for device in session.list_devices()} - {"XLA_CPU",
                                                                                 "XLA_GPU"})
    return {"runtime": "TensorFlow " + tf.__version__, "python": platform.python_version(),
            "devices": devices}


def run_settings(precision):
    """Returns the settings of a run as the scripts have them with --precision.

    Raises:
        UserError: this machine or TensorFlow cannot compute so.
    """
    import estimators
    plain = dict.fromkeys(estimators.RunSettings._fields[:-len(
        estimators.RunSettings.__new__.__defaults__)])
    run = estimators.RunSettings(**dict(plain, num_threads=0, precision=precision))
    estimators.require_precision(run)
    return run


class Steps(object):
    """Steps of a model_fn over an input_fn, in a graph and a session of their own.

    The step is what an estimator's session runs, without hooks and checkpoints.
    """

    def __init__(self, input_fn, model_fn, batch_size, mode, precision="float32"):
        """Builds the graph, with random weights.

        Args:
            input_fn, model_fn: as a TPUEstimator takes them.
            mode: "train"; "predict": this project's evaluation and prediction, batches side by
                side; "evaluate": metrics updated batch by batch, the older releases' evaluation.
            precision: see `run_settings`.
        """
        import estimators

        import tensorflow.compat.v1 as tf
        self._until_the_end = estimators.until_the_end
        self._side_by_side = estimators.SIDE_BY_SIDE if mode == "predict" else 1
        with tf.Graph().as_default():
            tf.set_random_seed(1)
            params = {"batch_size": batch_size}
            iterator = tf.data.make_initializable_iterator(input_fn(params))
            features = iterator.get_next()
            run = run_settings(precision)
            spec = estimators.adapted(model_fn, run)(features, None, {
                "train": tf.estimator.ModeKeys.TRAIN, "predict": tf.estimator.ModeKeys.PREDICT,
                "evaluate": tf.estimator.ModeKeys.EVAL}[mode], params)
            self._restart = iterator.initializer
            self._fetches = [tf.shape(features["input_ids"])[0], (
                spec.train_op if mode == "train" else spec.predictions if mode == "predict"
                else _metric_updates(spec))]
            self.session = tf.Session(config=estimators.session_config(run))
            self.session.run([tf.global_variables_initializer(),
                              tf.local_variables_initializer()])
        self.restart()

    def restart(self):
        """Starts the input anew."""
        self.session.run(self._restart)

    def rate(self, most=None):
        """Runs steps, `most` or until the input ends; returns examples a second."""
        began = time.perf_counter()
        examples = sum(map(int, self._until_the_end(
            lambda: self.session.run(self._fetches)[0], self._side_by_side, most)))
        return examples / (time.perf_counter() - began)

    def profile(self, steps=3):
        """Runs steps under TensorFlow's tracer; returns where their time went, in percent.

        "waiting": of the steps' duration, until the input is there. "matrix products": of the time
        of all operations, those that multiply matrices (with what is fused into them).
        """
        import tensorflow.compat.v1 as tf
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        duration, times = 0.0, collections.Counter()
        for _ in range(steps):
            metadata = tf.RunMetadata()
            duration += seconds(self.session.run, self._fetches, None, options, metadata)
            times.update(_microseconds_by_kind(metadata.step_stats))
        products = sum(time for kind, time in times.items() if "MatMul" in kind)
        return {"waiting": 1e-4 * times["IteratorGetNext"] / duration,
                "matrix products": 100.0 * products / sum(times.values())}


def _microseconds_by_kind(step_stats):
    """Returns {kind of operation: microseconds}."""
    times = collections.Counter()
    for device in step_stats.dev_stats:
        for node in device.node_stats:
            # "name = Kind(inputs)"; TensorFlow 1.15 tells some a second time, without that.
            _, _, call = node.timeline_label.partition(" = ")
            if call:
                times[call.partition("(")[0]] += node.all_end_rel_micros
    return times


def _metric_updates(spec):
    metric_fn, tensors = spec.eval_metrics
    return [update for _, update in metric_fn(*tensors).values()]


# ---------------------------------------------------------------------------------------------
# Workers of Hugging Face transformers, on PyTorch
# ---------------------------------------------------------------------------------------------

def import_transformers():
    """Returns the package, told to leave TensorFlow alone: it would load it and take its memory."""
    os.environ.update(USE_TORCH="1", USE_TF="0", USE_FLAX="0")
    import transformers
    return transformers


def hugging_face(config, class_name, attention, **changes):
    """Returns a model of transformers with random weights and a configuration's sizes.

    Args:
        config: dict of a file in albert_config/; class_name: e.g. "AlbertForPreTraining";
            attention: "sdpa" (PyTorch's fused one) or "eager".
    """
    transformers = import_transformers()
    sizes = {name: config[name] for name in SIZES}
    settings = transformers.AlbertConfig(
        embedding_size=config.get("embedding_size", 128), hidden_act="gelu_new",
        layer_norm_eps=1e-12, **dict(sizes, **changes))
    model_class = getattr(transformers, class_name)
    return model_class._from_config(settings, attn_implementation=attention).to(torch_device())


def torch_device():
    import torch
    return "cuda" if torch.cuda.is_available() else "cpu"


def torch_about(chosen):
    """Returns what a worker says of itself. chosen: {setting: the value found fastest}."""
    import torch
    device = torch_device()
    return {"runtime": "PyTorch %s, transformers %s" % (
        torch.__version__.partition("+")[0], import_transformers().__version__),
            "python": platform.python_version(), "chosen": chosen,
            "devices": [torch.cuda.get_device_name() if device == "cuda" else "CPU"]}


def torch_tensors(arrays):
    """Returns {name: tensor on the device} of {name: integer array}."""
    import torch
    device = torch_device()
    return {name: torch.from_numpy(array).long().to(device) for name, array in arrays.items()}


def torch_precision(precision):
    """Returns the context to compute in "float32" or, mixed, "bfloat16"."""
    import torch
    return torch.autocast(torch_device(), torch.bfloat16, enabled=precision == "bfloat16")


class TorchTraining(object):
    """Training and evaluation of a model of transformers, at the settings found fastest here.

    Tried are PyTorch's fused attention and the plain one, all threads and one (on a busy machine
    threads wait for one another), and the fused and the "foreach" AdamW; gradients are clipped as
    in this project. Not tried: torch.compile, which compiles anew for each length.
    """

    LEAN = {"attention": "sdpa", "threads": cores(), "optimizer": "fused"}

    def __init__(self, make_model, loss_of, precision, batch, lean=False):
        """Finds the settings.

        Args:
            make_model: function of "sdpa" or "eager" that returns the model.
            loss_of: function of (model, batch) that returns the loss.
            precision: "float32" or "bfloat16".
            batch: what settings are tried with.
            lean: take those that need least memory and try none, which would take more.
        """
        import torch
        self._torch, self._loss_of, self._precision = torch, loss_of, precision
        self.chosen = dict(self.LEAN)

        def trial(name):
            def make_step(value):
                self._set(make_model, dict(self.chosen, **{name: value}))
                return lambda: self._train(batch)
            return make_step

        choices = (("attention", ("sdpa", "eager")),
                   ("threads", sorted({cores(), 1}, reverse=True)),
                   ("optimizer", ("fused", "foreach")))
        for name, candidates in () if lean else choices:
            self.chosen[name] = fastest(candidates, trial(name))
        self._set(make_model, self.chosen)

    def _set(self, make_model, settings):
        self._torch.manual_seed(1)
        self._torch.set_num_threads(settings["threads"])
        self.model = make_model(settings["attention"])
        self._optimizer = self._torch.optim.AdamW(
            self.model.parameters(), lr=1e-5, **{settings["optimizer"]: True})

    def _train(self, batch):
        with torch_precision(self._precision):
            loss = self._loss_of(self.model, batch)
        loss.backward()
        self._torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return loss.item()

    def _evaluate(self, batch):
        with self._torch.inference_mode(), torch_precision(self._precision):
            return self._loss_of(self.model, batch).item()

    def rate(self, batches, training):
        """Runs over batches, an iterable of dicts with input_ids; returns examples a second."""
        self.model.train(training)
        step = self._train if training else self._evaluate
        examples, began = 0, time.perf_counter()
        for batch in batches:
            step(batch)
            examples += len(batch["input_ids"])
        return examples / (time.perf_counter() - began)
