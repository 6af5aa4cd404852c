"""ALBERT in the Google checkpoint layout: what differs from modeling.py, and only that.

The embedding is normalised at its own width E and widened by a dense layer; the layers share
parameters in groups; the masked LM head narrows to E again (arXiv 1909.11942, section 3.1).
"""

import collections

import modeling
import runtime  # noqa: F401 - before TensorFlow
from errors import UserError

import tensorflow.compat.v1 as tf

NAMES = modeling.BlockNames(
    attention="attention_1", attention_norm="LayerNorm", intermediate="ffn_1/intermediate/dense",
    output="ffn_1/intermediate/output/dense", output_norm="LayerNorm_1")


class AlbertConfig(modeling.Config):
    """Configuration of the Google layout (`albert_config/albert_config_*_google.json`).

    num_hidden_groups: sets of parameters that the layers are spread over, in order.
    inner_group_num: transformer blocks that one layer consists of, each with its own parameters.
    """

    KEYS = collections.OrderedDict(
        [item for item in modeling.BertConfig.KEYS.items() if item[0] != "ln_type"]
        + [("num_hidden_groups", modeling.Key(int, 1)), ("inner_group_num", modeling.Key(int, 1))])
    REQUIRED_IN_FILES = tuple(
        name for name in KEYS if name not in ("embedding_size", "inner_group_num"))
    UNUSED_KEYS = ("directionality", "net_structure_type", "gap_size", "num_memory_blocks",
                   "down_scale_factor")
    UNUSED_PREFIXES = ("pooler_",)

    @classmethod
    def from_dict(cls, settings, source="configuration"):
        if isinstance(settings, dict) and not modeling.is_google(settings):
            raise UserError(
                "%s: this is an albert_zh-layout config (it has no num_hidden_groups); use "
                "run_pretraining.py or run_classifier.py with it, or one of albert_config/"
                "albert_config_{tiny,small}_google.json here" % source)
        return super(AlbertConfig, cls).from_dict(settings, source)


def group_of(layer, layers, groups):
    """Returns the parameter group of a layer: whole numbers, so exact at every depth.

    [group_of(i, 5, 3) for i in range(5)] == [0, 0, 1, 1, 2]
    """
    return layer * groups // layers


class AlbertModel(modeling.Encoder):
    """The ALBERT encoder in the Google layout; made and used like modeling.BertModel."""

    def _embed(self, config, input_ids, token_type_ids, use_one_hot):
        self._word_vectors, self._table = modeling.embedding_lookup(
            input_ids, config.vocab_size, config.embedding_size, "word_embeddings",
            config.initializer_range, use_one_hot)
        self._table_2 = None
        return modeling.add_types_and_positions(self._word_vectors, token_type_ids, config)

    def _encode(self, config, input_mask, output_positions, recompute, attention_parts):
        batch, length, width = modeling.get_shape_list(self._embedding_output, expected_rank=3)
        wide = modeling.dense(tf.reshape(self._embedding_output, [-1, width]), config.hidden_size,
                              "embedding_hidden_mapping_in", config.initializer_range)
        scopes = ["transformer/group_%d/inner_group_%d" % (
            group_of(index, config.num_hidden_layers, config.num_hidden_groups), inner)
            for index in range(config.num_hidden_layers) for inner in range(config.inner_group_num)]
        outputs = modeling.run_blocks(
            tf.reshape(wide, [batch, length, config.hidden_size]), input_mask, scopes,
            modeling.layer_of(config, attention_parts), NAMES, output_positions, recompute)
        return outputs[config.inner_group_num - 1::config.inner_group_num]

    def get_word_embedding_output(self):
        """[B, S, E]: the word vectors alone, before positions, segments and LayerNorm."""
        return self._word_vectors
