"""Finding, recognising and checking checkpoints before anything is loaded from them.

A checkpoint that does not fit is refused with the list of names and shapes; nothing is ever
half-loaded in silence.
"""

import collections
import os
import re
import shutil

import files
import modeling
import numpy as np
import runtime  # noqa: F401 - before TensorFlow
from console import say
from errors import UserError, nearest

import tensorflow.compat.v1 as tf

ENCODER = "bert/"

_GROUP = re.compile(r"^(bert/encoder/transformer/)group_\d+/")
_SUFFIXES = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")

Fit = collections.namedtuple("Fit", ["prefix", "loaded", "fresh"])
Fit.__doc__ = """What a model takes from a checkpoint.

prefix: the checkpoint; loaded: {variable of the model: variable in the file}; fresh: names of the
variables initialised anew."""


# ---------------------------------------------------------------------------------------------
# Finding a checkpoint
# ---------------------------------------------------------------------------------------------

def resolve(path, flag="init_checkpoint"):
    """Turns a prefix, one of a checkpoint's files or a folder into the checkpoint's prefix.

    In a folder the `checkpoint` file decides; where it points nowhere (some released archives)
    or is absent, the only checkpoint there is taken.

    Raises:
        UserError: there is no such checkpoint; the message names those that exist nearby.
    """
    if not path:
        raise UserError("--%s is missing: name a checkpoint or its folder" % flag)
    require_plain_path(path, flag)
    if files.is_dir(path):
        return _resolve_folder(path, flag)
    prefix = _SUFFIXES.sub("", path)
    if files.exists(prefix + ".index"):
        return prefix
    folder = os.path.dirname(prefix) or "."
    there = prefixes_in(folder) if files.is_dir(folder) else []
    if not there:
        raise UserError("--%s=%s does not exist, and there is no checkpoint in %s"
                        % (flag, path, folder))
    raise UserError("--%s=%s does not exist.%s Checkpoints in that folder: %s" % (
        flag, path, nearest(prefix, there), ", ".join(there)))


def require_plain_path(path, flag):
    """Raises UserError for a path with *, ? or [, which TensorFlow takes for a pattern."""
    if re.search(r"[*?\[]", path):
        raise UserError("--%s=%s holds *, ? or [, which TensorFlow cannot read as a name; choose "
                        "another folder name" % (flag, path))


def _resolve_folder(folder, flag):
    there = prefixes_in(folder)
    named = _named_in_state(folder)
    if named in there:
        return named
    if len(there) == 1:
        return there[0]
    if not there:
        raise UserError("--%s=%s: there is no checkpoint in that folder" % (flag, folder))
    raise UserError("--%s=%s holds several checkpoints; name one of %s"
                    % (flag, folder, ", ".join(there)))


def prefixes_in(folder):
    """Returns the prefixes of the complete checkpoints in a folder, by step, then by name."""
    if not files.is_dir(folder):
        return []
    names = files.list_dir(folder)
    with_data = {_SUFFIXES.sub("", name) for name in names if ".data-" in name}
    found = [name[:-len(".index")] for name in names if name.endswith(".index")]
    prefixes = [os.path.join(folder, name) for name in found if name in with_data]
    return sorted(prefixes, key=lambda prefix: (step_in_name(prefix), prefix))


def _named_in_state(folder):
    """Returns the prefix that the folder's `checkpoint` file names, as a path in this folder.

    Only the last part of the name counts: folders are moved and archives carry others' paths.
    """
    path = os.path.join(folder, "checkpoint")
    if not files.exists(path):
        return None
    try:
        for _, line in files.read_lines(path):
            match = re.match(r'\s*model_checkpoint_path:\s*"([^"]*)"', line)
            if match:
                return os.path.join(folder, os.path.basename(match.group(1)))
    except UserError as error:
        say("WARNING: %s; going by the names of the checkpoints" % error)
    return None


def latest_in(folder):
    """Returns the prefix a run in `folder` would go on from, or None.

    One that was only half written is passed over, with a warning; where all are, it is the last.
    """
    there = _newest_first(folder)
    return next(iter(whole(there)), there[0] if there else None)


def _newest_first(folder):
    """Returns the prefixes of a run, from the one to go on from to the oldest."""
    there = prefixes_in(folder)
    named = _named_in_state(folder)
    steps = [prefix for prefix in reversed(there)
             if step_in_name(prefix) >= 0 and prefix != named]
    return ([named] if named in there else []) + steps


def trained_in(folder):
    """Returns the prefixes of the checkpoints that a run in `folder` saved while training.

    What was only half written is left out, with a warning.
    """
    return list(whole(prefix for prefix in prefixes_in(folder) if step_in_name(prefix) > 0))


def whole(prefixes):
    """Yields those of the prefixes whose files are all there, in full; says what is not."""
    for prefix in prefixes:
        try:
            read_shapes(prefix)
        except UserError as error:
            _warn_of(prefix, error)
        else:
            yield prefix


_warned_of = set()


def _warn_of(prefix, error):
    """Says once that a checkpoint is not used."""
    if prefix not in _warned_of:
        _warned_of.add(prefix)
        say("WARNING: passed over: %s" % error)


def last_sound_in(folder):
    """As `latest_in`, but every number of it has been read and is one.

    Raises:
        UserError: there are checkpoints, and none is sound.
    """
    fault = None
    names = files.list_dir(folder) if files.is_dir(folder) else []
    for name in names:
        prefix = os.path.join(folder, _SUFFIXES.sub("", name))
        if re.search(r"-\d+\.index$", name) and not files.glob(_glob_escape(prefix) + ".data-*"):
            _warn_of(prefix, "checkpoint %s has no data file" % prefix)
    for prefix in _newest_first(folder):
        try:
            read_shapes(prefix)
            check_content(prefix)
            return prefix
        except UserError as error:
            _warn_of(prefix, error)
            fault = fault or error
    if fault is not None:
        raise UserError("%s\nno checkpoint in --output_dir=%s can be used: move its files away to "
                        "start anew" % (fault, folder))
    return None


def step_reached(folder):
    """Returns the step that a run in `folder` would go on from, 0 where there is none."""
    latest = latest_in(folder)
    return max(step_in_name(latest), 0) if latest else 0


def remove_unfinished(folder):
    """Removes what a run that was killed was writing; only for who holds the folder's lock."""
    if files.is_remote(folder):
        return
    for name in files.list_dir(folder):
        path = os.path.join(folder, name)
        # TensorFlow's Saver and `copy` write to such names before they move what is finished.
        if re.search(r"\.ckpt-\d+_temp(_[0-9a-f]+)?$", name) and os.path.isdir(path):
            shutil.rmtree(path)
        elif name.startswith(files.TEMPORARY) or re.search(r"\.tmp-\d+\.(index|data-.*)$", name):
            files.remove(path)


def step_in_name(prefix):
    """Returns 300 for `.../model.ckpt-300`, -1 for names without a step."""
    match = re.search(r"-(\d+)$", prefix)
    return int(match.group(1)) if match else -1


# ---------------------------------------------------------------------------------------------
# Looking into a checkpoint
# ---------------------------------------------------------------------------------------------

def read_shapes(prefix):
    """Returns {variable name: shape} of all tensors in a checkpoint, optimizer slots included.

    Raises:
        UserError: the file cannot be read or has been cut short.
    """
    try:
        reader = tf.train.NewCheckpointReader(prefix)
        shapes = reader.get_variable_to_shape_map()
    except (tf.errors.OpError, ValueError) as error:
        raise UserError("checkpoint %s cannot be read (%s); copy or download it again"
                        % (prefix, str(error).split("\n")[0])) from error
    _check_size(prefix)
    return {name: tuple(shape) for name, shape in shapes.items()}


def check_content(prefix):
    """Reads every tensor of a checkpoint; UserError names the checkpoint when one is damaged.

    One of NaN or infinite numbers is damaged too.
    """
    reader = tf.train.NewCheckpointReader(prefix)
    for name in sorted(reader.get_variable_to_shape_map()):
        try:
            value = reader.get_tensor(name)
        except (tf.errors.OpError, ValueError) as error:
            raise UserError(
                "checkpoint %s is damaged at %s; copy or download it again, or, if it is a run's "
                "own, move its files away to go on from the one before" % (prefix, name)
            ) from error
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise UserError("checkpoint %s is of no use: %s holds NaN or infinite numbers; take "
                            "an earlier one" % (prefix, name))


def _check_size(prefix):
    """Raises UserError when the data files are shorter than the tensors they should hold."""
    reader = tf.train.NewCheckpointReader(prefix)
    types = reader.get_variable_to_dtype_map()
    needed = 0
    for name, shape in reader.get_variable_to_shape_map().items():
        count = 1
        for size in shape:
            count *= size
        if types[name] != tf.string:
            needed += count * types[name].size
    there = sum(files.size(path) for path in files.glob(_glob_escape(prefix) + ".data-*"))
    if there < needed:
        raise UserError("checkpoint %s is cut short: its data files hold %d bytes of at least %d; "
                        "copy or download it again" % (prefix, there, needed))


def _glob_escape(path):
    return re.sub(r"([*?[])", r"[\1]", path)


def layout_of(shapes):
    """Returns "albert_zh", "google", "bert" or "unknown" for {variable name: shape}."""
    names = set(shapes)
    if any(name.startswith("bert/encoder/transformer/group_") for name in names):
        return "google"
    if "bert/embeddings/word_embeddings_2" in names:
        return "albert_zh"
    if "bert/embeddings/word_embeddings" in names:
        return "bert"
    return "unknown"


_LAYOUT_ADVICE = {
    "google": "it is a checkpoint of the Google layout, for run_pretraining_google.py and "
              "run_classifier_sp_google.py",
    "albert_zh": "it is a checkpoint of the albert_zh layout, for run_pretraining.py and "
                 "run_classifier.py",
    "bert": "it is a BERT checkpoint, whose embedding is not factorised; an ALBERT one is needed",
    "unknown": "it holds no BERT or ALBERT encoder",
}


# ---------------------------------------------------------------------------------------------
# Does it fit the model?
# ---------------------------------------------------------------------------------------------

def fit(prefix, model_shapes, allow_partial=False, required_heads=(), from_group0=False,
        fresh_heads=False, for_training=True):
    """Decides what a model takes from a checkpoint, or refuses it.

    Optimizer slots and heads that the model lacks are ignored. Every encoder variable (`bert/`)
    must be there with its shape. Heads are taken when they fit, else initialised anew.

    Args:
        model_shapes: {name: shape} of the model's trainable variables.
        allow_partial: take what fits of the encoder too.
        required_heads: names of head variables that must be loaded (evaluation, prediction).
        from_group0: every parameter group (Google layout) takes the values of the file's group 0.
        fresh_heads: the heads are initialised anew even where they fit.
        for_training: whether a refusal may name the flag that trains with what fits.

    Returns:
        Fit.

    Raises:
        UserError: lists the missing and mismatched names with their shapes.
    """
    shapes = read_shapes(prefix)
    check_content(prefix)
    _require_float32(prefix, model_shapes)
    sources = {name: _GROUP.sub(r"\1group_0/", name) if from_group0 else name
               for name in model_shapes}
    loaded = collections.OrderedDict(
        (name, sources[name]) for name in model_shapes
        if shapes.get(sources[name]) == tuple(model_shapes[name])
        and (name.startswith(ENCODER) or not fresh_heads))
    fresh = [name for name in model_shapes if name not in loaded]
    encoder_faults = [name for name in fresh if name.startswith(ENCODER)]
    if encoder_faults and (not allow_partial or not _any_encoder(loaded)):
        raise UserError(_refusal(prefix, shapes, model_shapes, encoder_faults, for_training))
    head_faults = [name for name in fresh if name in required_heads]
    if head_faults:
        raise UserError(
            "checkpoint %s has no fitting head, so there is nothing to evaluate or predict with; "
            "fine-tune it first (--do_train)%s"
            % (prefix, "".join(_fault_line(name, shapes, model_shapes) for name in head_faults)))
    return Fit(prefix, loaded, fresh)


def _require_float32(prefix, names):
    types = tf.train.NewCheckpointReader(prefix).get_variable_to_dtype_map()
    wrong = ["\n  %s is %s" % (name, types[name].name) for name in names
             if name in types and types[name] != tf.float32]
    if wrong:
        raise UserError("checkpoint %s does not hold float32 weights; convert it first:%s"
                        % (prefix, "".join(wrong)))


def head_names(shapes):
    """Returns the names of the heads' variables: all but the encoder's."""
    return {name for name in shapes if not name.startswith(ENCODER)}


def fit_with_heads(prefix, model_shapes):
    """As `fit`, for evaluation and prediction: encoder and heads must all be in the file."""
    return fit(prefix, model_shapes, required_heads=head_names(model_shapes), for_training=False)


def _any_encoder(names):
    return any(name.startswith(ENCODER) for name in names)


def _fault_line(name, shapes, model_shapes):
    if name in shapes:
        return "\n  %s is %s in the file, %s in the model" % (
            name, list(shapes[name]), list(model_shapes[name]))
    return "\n  %s %s is missing" % (name, list(model_shapes[name]))


def _refusal(prefix, shapes, model_shapes, faults, for_training):
    lines = ["checkpoint %s does not fit the model" % prefix]
    theirs, ours = layout_of(shapes), layout_of(model_shapes)
    if theirs != ours:
        lines[0] += ": " + _LAYOUT_ADVICE[theirs]
    elif any(name in shapes for name in faults):
        lines[0] += ": it is of another size%s" % _matching_config(shapes)
    listing = "".join(_fault_line(name, shapes, model_shapes) for name in sorted(faults))
    if not for_training or all(name in faults for name in model_shapes if name.startswith(ENCODER)):
        return lines[0] + listing
    return lines[0] + listing + (
        "\n--allow_partial_init loads what fits and initialises the rest anew")


def _matching_config(shapes):
    """Returns ', as in albert_config/x.json' for the shipped configuration of a file's sizes."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "albert_config")
    word = shapes.get("bert/embeddings/word_embeddings")
    hidden = shapes.get("bert/pooler/dense/bias")
    for path in files.glob(os.path.join(folder, "*.json")):
        settings = files.read_json(path)
        if not isinstance(settings, dict):
            continue
        if ((settings.get("vocab_size"), settings.get("embedding_size", 128)) == word
                and (settings.get("hidden_size"),) == hidden
                and modeling.is_google(settings) == (layout_of(shapes) == "google")):
            return ", that of albert_config/%s" % os.path.basename(path)
    return ""


def require_same_config(config, prefix, allow_partial=False, free=()):
    """Stops when the configurations beside a checkpoint all differ from the given one.

    The depth of a model with shared layers cannot be read off its variables: the file beside the
    checkpoint is the only witness.

    Args:
        free: names of settings that may differ.

    Raises:
        UserError: lists each differing key with both values.
    """
    closest, agrees = None, False
    for path in files.glob(os.path.join(_glob_escape(os.path.dirname(prefix) or "."),
                                        "*config*.json")):
        settings = files.read_json(path)
        if not isinstance(settings, dict) or "hidden_size" not in settings:
            continue
        differences = [row for row in _differences(config, settings) if row[0] not in free]
        if not differences:
            agrees = True
        elif closest is None or len(differences) < len(closest[1]):
            closest = (path, differences)
    if closest is None:
        return
    path, differences = closest
    if agrees:
        say("WARNING: several configurations lie beside %s; going by the one that agrees with "
            "the given one, not by %s" % (prefix, path))
        return
    text = "the configuration beside the checkpoint, %s, differs from the given one:%s" % (
        path, "".join("\n  %s: %s there, %s given" % row for row in differences))
    if not allow_partial:
        raise UserError("%s\nuse that file as the configuration (or --allow_partial_init, if you "
                        "mean to start another model from these weights)" % text)
    say("WARNING: " + text)


def _differences(config, settings):
    rows = []
    for name, ours in config.architecture().items():
        if name in settings or name not in config.REQUIRED_IN_FILES:
            theirs = settings.get(name, config.KEYS[name].default)
            if theirs != ours:
                rows.append((name, theirs, ours))
    return rows


def require_resumable(prefix, model_shapes, slot_names):
    """Checks that training can go on from a run's own checkpoint.

    Args:
        model_shapes: {name: shape} of the model's trainable variables.
        slot_names: the optimizer's slot names, e.g. ("lamb_m", "lamb_v").

    Raises:
        UserError: the folder holds another model, or one trained with another optimizer.
    """
    shapes = read_shapes(prefix)
    check_content(prefix)
    faults = [name for name in model_shapes if shapes.get(name) != tuple(model_shapes[name])]
    if faults:
        raise UserError(
            "output_dir holds another model (%s); choose an empty --output_dir, or name that "
            "checkpoint as --init_checkpoint%s"
            % (prefix, "".join(_fault_line(name, shapes, model_shapes) for name in faults)))
    # A variable that has no gradient (the pooler of a classifier of the mean) has no slots.
    lacking = [slot for slot in slot_names
               if not any(name.endswith("/" + slot) for name in shapes)]
    if lacking:
        raise UserError(
            "output_dir holds a run of another optimizer (%s has no %s); use the same --optimizer, "
            "or an empty --output_dir with --init_checkpoint=%s"
            % (prefix, " and ".join(lacking), prefix))


# ---------------------------------------------------------------------------------------------
# Loading
# ---------------------------------------------------------------------------------------------

def starting_point(config, shapes, run_record, output_dir, init_checkpoint, allow_partial=False,
                   slot_names=(), from_group0=False, fresh_heads=False):
    """Decides where the weights come from and says so: the folder's run, a checkpoint, chance.

    Args:
        config: the model's configuration; shapes: {name: shape} of its trainable variables.
        run_record: run_record.RunRecord of the folder.
        slot_names: the optimizer's slot names; () when nothing is trained, so that a checkpoint
            with all heads is needed.
        from_group0, fresh_heads: as for `fit`.

    Returns:
        Fit for `init_checkpoint`, or None (resumed or random).

    Raises:
        UserError: a checkpoint does not fit, or there is none to evaluate or predict with.
    """
    resumed = last_sound_in(output_dir)
    if resumed:
        theirs = layout_of(read_shapes(resumed))
        if theirs != layout_of(shapes):
            raise UserError("--output_dir=%s holds another model, %s: %s; choose an empty "
                            "--output_dir" % (output_dir, os.path.basename(resumed),
                                              _LAYOUT_ADVICE[theirs]))
        require_same_config(config, resumed)
        require_resumable(resumed, shapes, slot_names)
        run_record.require_same_start(_resolve_if_there(init_checkpoint))
        say("Going on from %s" % resumed)
        if slot_names:
            _make_state_name(output_dir, resumed)
        return None
    model_fit = None
    if init_checkpoint:
        prefix = resolve(init_checkpoint)
        if slot_names:
            run_record.require_own_folder(prefix)
        model_fit = (fit(prefix, shapes, allow_partial, (), from_group0, fresh_heads)
                     if slot_names else fit_with_heads(prefix, shapes))
        require_same_config(config, prefix, allow_partial,
                            free=("num_hidden_groups",) if from_group0 else ())
    elif not slot_names:
        raise UserError("--output_dir=%s holds no checkpoint: train first (--do_train), or name a "
                        "trained one as --init_checkpoint" % output_dir)
    describe(model_fit)
    return model_fit


def _resolve_if_there(init_checkpoint):
    """Returns the prefix that a resumed run once started from, None where it is gone."""
    try:
        return resolve(init_checkpoint) if init_checkpoint else None
    except UserError as error:
        say("WARNING: not needed to go on, but: %s" % error)
        return None


def _make_state_name(folder, prefix):
    """Makes the folder's `checkpoint` file name `prefix`, from which TensorFlow resumes.

    It may be absent or name a path of another machine; TensorFlow would then start anew.
    """
    try:
        latest = tf.train.latest_checkpoint(folder)
    except ValueError:  # what is there is no text
        latest = None
    if latest is None or files.absolute(latest) != files.absolute(prefix):
        tf.train.update_checkpoint_state(folder, files.absolute(prefix), [
            files.absolute(there) for there in whole(prefixes_in(folder))
            if step_in_name(there) >= 0])


def describe(model_fit):
    """Says on screen what was taken from where; with None, that initialisation is random."""
    if model_fit is None:
        say("Initialisation: random (no --init_checkpoint)")
        return
    total = len(model_fit.loaded) + len(model_fit.fresh)
    say("Initialisation: %d of %d variables from %s" % (
        len(model_fit.loaded), total, model_fit.prefix))
    if model_fit.fresh:
        say("  initialised anew: %s" % ", ".join(model_fit.fresh))


def load(model_fit, with_global_step=False):
    """Makes the variables of the current graph start from a checkpoint.

    Args:
        model_fit: Fit.
        with_global_step: take the step as well, where the file has one (evaluation).
    """
    rest = [(source, name) for name, source in model_fit.loaded.items()]
    if with_global_step and "global_step" in read_shapes(model_fit.prefix):
        rest.append(("global_step", tf.train.get_or_create_global_step()))
    while rest:  # one call takes each variable of the file once
        assignments = dict(rest)
        tf.train.init_from_checkpoint(model_fit.prefix, assignments)
        rest = [(source, target) for source, target in rest if assignments[source] is not target]


def paths_of(prefix):
    """Returns a checkpoint's files, the index last: it is written last, so it vouches for all."""
    return files.glob(_glob_escape(prefix) + ".data-*") + [prefix + ".index"]


def copy(prefix, target):
    """Copies a checkpoint to another prefix; an older one there stays until the copy is whole."""
    if files.exists(target + ".index") and files.fingerprint(target + ".index") == (
            files.fingerprint(prefix + ".index")):
        return
    unfinished = "%s.tmp-%d" % (target, os.getpid())
    try:
        for path in paths_of(prefix):
            files.copy(path, unfinished + path[len(prefix):])
        move(unfinished, target)
    finally:
        for path in files.glob(_glob_escape(unfinished) + ".*"):
            files.remove(path)


def move(prefix, target):
    """Moves a finished checkpoint into place, over an older one of the same name."""
    for path in paths_of(prefix):
        files.move(path, target + path[len(prefix):])


def strip(prefix, target):
    """Writes the model's variables of a checkpoint as one without optimizer slots or step.

    Args:
        prefix: any checkpoint of ours or a released one; target: the new prefix.

    Returns:
        (number of variables kept, number left out).

    Raises:
        UserError: there is no encoder in it.
    """
    shapes = read_shapes(prefix)
    check_content(prefix)
    kept = sorted(name for name in shapes if name != "global_step"
                  and not name.endswith(("/adam_m", "/adam_v", "/lamb_m", "/lamb_v")))
    if layout_of(shapes) not in ("albert_zh", "google"):
        raise UserError("checkpoint %s cannot be exported: %s"
                        % (prefix, _LAYOUT_ADVICE[layout_of(shapes)]))
    reader = tf.train.NewCheckpointReader(prefix)
    with tf.Graph().as_default(), tf.Session() as session:
        # Fed one by one: a graph must not hold the weights as constants (2 GB at most).
        placeholders = [tf.placeholder(reader.get_variable_to_dtype_map()[name], shapes[name])
                        for name in kept]
        variables = [tf.get_variable(name, initializer=placeholder, trainable=False)
                     for name, placeholder in zip(kept, placeholders)]
        for name, variable, placeholder in zip(kept, variables, placeholders):
            session.run(variable.initializer, {placeholder: reader.get_tensor(name)})
        tf.train.Saver(variables, max_to_keep=None).save(
            session, target, write_meta_graph=False, write_state=False)
    return len(kept), len(shapes) - len(kept)
