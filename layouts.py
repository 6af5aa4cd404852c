"""The two checkpoint layouts, and which of them a configuration file is of."""

import collections

import files
import lamb_optimizer
import modeling
import modeling_google
from optimization import AdamWeightDecayOptimizer

Layout = collections.namedtuple("Layout", [
    "name", "config_class", "model_class", "lamb_slots", "lamb_exclusions"])
Layout.__doc__ = """What a script needs to know of a layout.

name: as checkpoints.layout_of has it; config_class, model_class: its configuration and encoder;
lamb_slots: names of LAMB's slots in its checkpoints; lamb_exclusions: names of variables whose
trust ratio is 1 in its training."""

ALBERT_ZH = Layout("albert_zh", modeling.BertConfig, modeling.BertModel,
                   lamb_optimizer.LAMBOptimizer.SLOT_NAMES, ())
GOOGLE = Layout("google", modeling_google.AlbertConfig, modeling_google.AlbertModel,
                AdamWeightDecayOptimizer.SLOT_NAMES, lamb_optimizer.NO_DECAY)


def read_config(path, flag="bert_config_file"):
    """Reads a configuration file of either layout.

    Returns:
        (Layout, configuration).

    Raises:
        UserError: names the file and what is wrong in it.
    """
    files.require_file(path, flag)
    settings = files.read_json(path)
    google = isinstance(settings, dict) and modeling.is_google(settings)
    layout = GOOGLE if google else ALBERT_ZH
    return layout, layout.config_class.from_dict(settings, source=path)
