"""Both layouts against Hugging Face's ALBERT, an implementation that shares nothing with ours.

Needs PyTorch (`ALBERT_EXTRAS="test hf"`, see requirements/hf.txt); skipped without it.
"""

import numpy as np
import pytest
import reference
from helpers import TINY, TINY_GOOGLE, load_weights, pretraining_rows

import layouts
import modeling

import tensorflow.compat.v1 as tf

torch = pytest.importorskip("torch", reason='PyTorch is missing: ALBERT_EXTRAS="test hf"')
transformers = pytest.importorskip("transformers")

HEADS = {"predictions.dense": "cls/predictions/transform/dense",
         "predictions.LayerNorm": "cls/predictions/transform/LayerNorm"}


def hugging_face(settings, embedding_size, groups=1, inner=1):
    """Returns an AlbertForPreTraining of the configuration's sizes."""
    config = transformers.AlbertConfig(
        vocab_size=settings["vocab_size"], embedding_size=embedding_size,
        hidden_size=settings["hidden_size"], num_hidden_layers=settings["num_hidden_layers"],
        num_hidden_groups=groups, num_attention_heads=settings["num_attention_heads"],
        intermediate_size=settings["intermediate_size"], inner_group_num=inner,
        hidden_act="gelu_new", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        max_position_embeddings=settings["max_position_embeddings"], type_vocab_size=2,
        layer_norm_eps=1e-12, classifier_dropout_prob=0.0)
    return transformers.AlbertForPreTraining(config).eval()


def fill(model, tensors):
    """Loads {name: array}; the tables must be exactly those that the model has."""
    with torch.no_grad():
        wanted = dict(model.named_parameters())
        # A tied output layer: no parameter of its own, or a second name of the first one.
        wanted.pop("predictions.decoder.bias", None)
        assert set(wanted) == set(tensors)
        for name, parameter in wanted.items():
            assert tuple(parameter.shape) == tensors[name].shape, name
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(tensors[name])))
    assert model.predictions.decoder.weight is model.albert.embeddings.word_embeddings.weight
    return model


def block_names(group, inner):
    """Names of one block: {Hugging Face's: ours} in the Google layout."""
    theirs = "albert.encoder.albert_layer_groups.%d.albert_layers.%d." % (group, inner)
    ours = "bert/encoder/transformer/group_%d/inner_group_%d/" % (group, inner)
    names = {theirs + "attention." + part: ours + "attention_1/self/" + part
             for part in ("query", "key", "value")}
    names.update({
        theirs + "attention.dense": ours + "attention_1/output/dense",
        theirs + "attention.LayerNorm": ours + "LayerNorm",
        theirs + "ffn": ours + "ffn_1/intermediate/dense",
        theirs + "ffn_output": ours + "ffn_1/intermediate/output/dense",
        theirs + "full_layer_layer_norm": ours + "LayerNorm_1"})
    return names


def shared_block_names():
    """The same for the shared layer of the albert_zh layout."""
    ours = "bert/encoder/layer_shared/"
    renamed = {"attention_1/self/": "attention/self/",
               "attention_1/output/dense": "attention/output/dense",
               "LayerNorm": "attention/output/LayerNorm", "LayerNorm_1": "output/LayerNorm",
               "ffn_1/intermediate/dense": "intermediate/dense",
               "ffn_1/intermediate/output/dense": "output/dense"}
    names = {}
    for theirs, google in block_names(0, 0).items():
        name = google[len("bert/encoder/transformer/group_0/inner_group_0/"):]
        start = "attention_1/self/" if name.startswith("attention_1/self/") else name
        names[theirs] = ours + renamed[start] + name[len(start):]
    return names


def translated(weights, scopes):
    """Turns dense layers and LayerNorms into Hugging Face's; scopes: {theirs: ours}."""
    tensors = {}
    for theirs, ours in scopes.items():
        if ours.endswith(("LayerNorm", "LayerNorm_1")):
            tensors[theirs + ".weight"] = weights[ours + "/gamma"]
            tensors[theirs + ".bias"] = weights[ours + "/beta"]
        else:
            tensors[theirs + ".weight"] = weights[ours + "/kernel"].T
            tensors[theirs + ".bias"] = weights[ours + "/bias"]
    tensors["predictions.bias"] = weights["cls/predictions/output_bias"]
    tensors["sop_classifier.classifier.weight"] = weights["cls/seq_relationship/output_weights"]
    tensors["sop_classifier.classifier.bias"] = weights["cls/seq_relationship/output_bias"]
    for name in ("word", "token_type", "position"):
        tensors["albert.embeddings.%s_embeddings.weight" % name] = weights[
            "bert/embeddings/%s_embeddings" % name]
    return tensors


def google_model(settings, weights):
    groups, inner = settings["num_hidden_groups"], settings["inner_group_num"]
    scopes = dict(HEADS, **{
        "albert.embeddings.LayerNorm": "bert/embeddings/LayerNorm",
        "albert.encoder.embedding_hidden_mapping_in": "bert/encoder/embedding_hidden_mapping_in",
        "albert.pooler": "bert/pooler/dense"})
    for group in range(groups):
        for block in range(inner):
            scopes.update(block_names(group, block))
    return fill(hugging_face(settings, settings["embedding_size"], groups, inner),
                translated(weights, scopes))


def albert_zh_model(settings, weights):
    """Embeddings of full width: the factors multiplied, and nothing left for the widening."""
    scopes = dict(HEADS, **shared_block_names())
    scopes.update({"albert.embeddings.LayerNorm": "bert/embeddings/LayerNorm",
                   "albert.pooler": "bert/pooler/dense"})
    tensors = translated(weights, scopes)
    width = settings["hidden_size"]
    tensors["albert.embeddings.word_embeddings.weight"] = (
        weights["bert/embeddings/word_embeddings"] @ weights["bert/embeddings/word_embeddings_2"])
    mapping = "albert.encoder.embedding_hidden_mapping_in"
    tensors[mapping + ".weight"] = np.eye(width, dtype=np.float32)
    tensors[mapping + ".bias"] = np.zeros(width, np.float32)
    return fill(hugging_face(settings, width), tensors)


def our_outputs(layout, config, weights, batch):
    """(sequence output, pooled output, masked LM scores at all positions, order scores)."""
    with tf.Graph().as_default(), tf.Session() as session:
        ids, mask, segments = (tf.constant(part, tf.int32) for part in batch)
        model = layout.model_class(config, False, ids, mask, segments)
        sequence = model.get_sequence_output()
        scores = modeling.masked_lm_logits(
            config, tf.reshape(sequence, [-1, config.hidden_size]), model.get_embedding_table(),
            model.get_embedding_table_2())
        order = modeling.sentence_order_logits(config, model.get_pooled_output())
        load_weights(session, weights)
        return session.run([sequence, model.get_pooled_output(), scores, order])


@pytest.mark.parametrize("layout, make, settings", [
    (layouts.GOOGLE, google_model, dict(TINY_GOOGLE, num_hidden_layers=3)),
    # Its head masks are cut so that a group needs as many layers as it has blocks.
    (layouts.GOOGLE, google_model, dict(TINY_GOOGLE, num_hidden_layers=6, num_hidden_groups=3,
                                        inner_group_num=2)),
    (layouts.ALBERT_ZH, albert_zh_model, dict(TINY, num_hidden_layers=3)),
], ids=["Google layout", "Google layout, three groups of two", "albert_zh layout"])
def test_hugging_face_agrees(layout, make, settings):
    config = layout.config_class.from_dict(settings)
    weights = reference.initial_values(
        modeling.pretraining_variable_shapes(config, layout.model_class))
    rows = pretraining_rows(3)
    batch = [np.array([row[name] for row in rows])
             for name in ("input_ids", "input_mask", "segment_ids")]
    sequence, pooled, scores, order = our_outputs(layout, config, weights, batch)
    model = make(settings, weights)
    with torch.no_grad():
        ids, mask, segments = (torch.from_numpy(part) for part in batch)
        encoded = model.albert(ids, attention_mask=mask, token_type_ids=segments)
        heads = model(ids, attention_mask=mask, token_type_ids=segments)
    real = batch[1].astype(bool)  # padding: what it holds differs with the way of masking
    np.testing.assert_allclose(sequence[real], encoded.last_hidden_state.numpy()[real], atol=2e-5)
    np.testing.assert_allclose(pooled, encoded.pooler_output.numpy(), atol=2e-5)
    np.testing.assert_allclose(scores.reshape(3, 12, -1)[real],
                               heads.prediction_logits.numpy()[real], atol=2e-5)
    np.testing.assert_allclose(order, heads.sop_logits.numpy(), atol=2e-5)
