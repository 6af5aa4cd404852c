"""Paths and settings of similarity.py, for users to edit. Importing this file does nothing else.

A setting's value is that of its flag (`--batch_size=32`), else of its environment variable
(`ALBERT_ZH_BATCH_SIZE=32`), else the one written here. Paths given as flags or variables are seen
from the current folder, those written here from the project's folder.
"""

import os

import files
from errors import UserError

ROOT = os.path.dirname(os.path.abspath(__file__))

# ---- the model
model_dir = os.path.join(ROOT, "albert_lcqmc_checkpoints")  # folder of the fine-tuned model
ckpt_name = None  # checkpoint in model_dir; None: the best on dev, else the last
# As they stand, these two serve a model_dir that has no such file of its own. Set to another file,
# they count before the file in model_dir.
config_name = os.path.join(ROOT, "albert_config", "albert_config_tiny.json")
vocab_file = os.path.join(ROOT, "albert_config", "vocab.txt")

do_lower_case = None  # whether texts are lower-cased; None: as model_dir says, else yes

# ---- prediction
batch_size = 128  # pairs that are computed at once, at most
max_seq_len = 128  # tokens of a pair (or sentence) at most, longer ones are cut; a model that
#                    was fine-tuned with fewer keeps to that
layer_indexes = [-2]  # layers that sentence vectors are taken from; -1: the last
gpu_memory_fraction = 0.8  # share of a GPU's memory to take at most

# ---- training: similarity.py names the command that makes a model; these stand in it
output_dir = model_dir
data_dir = os.path.join(ROOT, "chineseGLUEdatasets", "lcqmc")  # train.txt, dev.txt, test.txt
num_train_epochs = 10
learning_rate = 5e-5

# ---- without effect, kept so that older scripts can import it; there is no graph file any more
graph_file = os.path.join(ROOT, "albert_lcqmc_checkpoints", "result", "graph")


# ---------------------------------------------------------------------------------------------
# Nothing to edit from here on
# ---------------------------------------------------------------------------------------------

NAMES = ("model_dir", "ckpt_name", "config_name", "vocab_file", "do_lower_case", "batch_size",
         "max_seq_len", "layer_indexes", "gpu_memory_fraction", "output_dir", "data_dir",
         "num_train_epochs", "learning_rate")
_PATHS = ("model_dir", "config_name", "vocab_file", "output_dir", "data_dir")
PREFIX = "ALBERT_ZH_"  # of the environment variables: ALBERT_ZH_MODEL_DIR, ...


def setting(name, given=None):
    """Returns a setting's value, checked.

    Args:
        name: one of NAMES.
        given: what a flag or a caller says; None where nothing is said.

    Raises:
        UserError: the value is ill-typed or out of range; names its source.
    """
    variable = PREFIX + name.upper()
    if given is not None:
        return _checked(name, given, name)
    if os.environ.get(variable):
        return _checked(name, os.environ[variable], variable)
    value = globals()[name]
    if name in _PATHS and value and not files.is_remote(value):
        value = os.path.join(ROOT, value)
    return _checked(name, value, "args.py: " + name)


def _checked(name, value, source):
    if value is None:
        return value
    kind, fits, expected = _RULES.get(name, (_path, lambda value: True, "a name, as text,"))
    try:
        value = kind(value)
    except (KeyError, TypeError, ValueError):
        fits = None
    if fits is None or not fits(value):
        raise UserError("%s=%s: %s is needed" % (source, value, expected))
    return value


def _path(value):
    found = os.fspath(value)  # pathlib's paths, too
    if not isinstance(found, str):
        raise TypeError(value)
    return found


def _truth(value):
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}[str(value).lower()]


def _whole_number(value):
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    return int(value)


def _whole_numbers(values):
    return [_whole_number(value) for value in
            (values.split(",") if isinstance(values, str) else values)]


_RULES = {  # name: (type, what values fit, how that is said)
    "do_lower_case": (_truth, lambda value: True, "True or False"),
    "batch_size": (_whole_number, lambda value: value >= 1, "a whole number from 1 on"),
    "max_seq_len": (_whole_number, lambda value: value >= 5, "a whole number from 5 on"),
    "layer_indexes": (_whole_numbers, len, "a list of layers, such as -2 or -2,-1,"),
    "gpu_memory_fraction": (float, lambda value: 0 < value <= 1, "a share above 0, at most 1,"),
    "num_train_epochs": (float, lambda value: 0 < value < float("inf"), "a number above 0"),
    "learning_rate": (float, lambda value: 0 < value < float("inf"), "a number above 0"),
}
