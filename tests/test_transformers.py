"""Both layouts against Hugging Face's ALBERT, an implementation that shares nothing with ours.

Needs PyTorch (`ALBERT_EXTRAS="test hf"`, see requirements/hf.txt); skipped without it.
"""

import collections

import numpy as np
import pytest
import reference
from helpers import TINY, TINY_GOOGLE, load_weights, pretraining_rows

import hugging_face
import layouts
import modeling

import tensorflow.compat.v1 as tf

torch = pytest.importorskip("torch", reason='PyTorch is missing: ALBERT_EXTRAS="test hf"')
transformers = pytest.importorskip("transformers")

CONTENT = {"pad_id": 0, "cls_id": 2, "sep_id": 3, "is_sentencepiece": False}


def hugging_face_model(config, weights):
    """Returns an AlbertForPreTraining with these weights, in memory."""
    tokenizer = collections.namedtuple("Tokenizer", CONTENT)(**CONTENT)
    settings = hugging_face.to_settings(config, tokenizer, "AlbertForPreTraining")
    architecture, names = hugging_face.architecture_of(weights)
    assert architecture == "AlbertForPreTraining"
    names.update(hugging_face.encoder_names(config))
    assert set(weights) - {variable.name for variable in names.values()} == (
        set() if hugging_face.is_google(config)
        else {"bert/embeddings/word_embeddings", "bert/embeddings/word_embeddings_2"})
    model = transformers.AlbertForPreTraining(transformers.AlbertConfig(**settings)).eval()
    return fill(model, hugging_face.to_tensors(config, weights, names))


def fill(model, tensors):
    """Loads {name: array}; the tables must be exactly those that the model has."""
    with torch.no_grad():
        wanted = dict(model.named_parameters())
        # A tied output layer: no parameter of its own, or a second name of the first one.
        wanted.pop("predictions.decoder.bias", None)
        assert set(wanted) == set(tensors)
        for name, parameter in wanted.items():
            assert tuple(parameter.shape) == tensors[name].shape, name
            parameter.copy_(torch.from_numpy(tensors[name]))
    assert model.predictions.decoder.weight is model.albert.embeddings.word_embeddings.weight
    return model


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


@pytest.mark.parametrize("layout, settings", [
    (layouts.GOOGLE, dict(TINY_GOOGLE, num_hidden_layers=3)),
    # Its head masks are cut so that a group needs as many layers as it has blocks.
    (layouts.GOOGLE, dict(TINY_GOOGLE, num_hidden_layers=6, num_hidden_groups=3,
                          inner_group_num=2)),
    (layouts.GOOGLE, dict(TINY_GOOGLE, num_hidden_layers=5, num_hidden_groups=2,
                          hidden_act="relu")),
    (layouts.ALBERT_ZH, dict(TINY, num_hidden_layers=3)),
], ids=["Google layout", "Google layout, three groups of two", "uneven groups", "albert_zh layout"])
def test_hugging_face_agrees(layout, settings):
    config = layout.config_class.from_dict(settings)
    weights = reference.initial_values(
        modeling.pretraining_variable_shapes(config, layout.model_class))
    rows = pretraining_rows(3)
    batch = [np.array([row[name] for row in rows])
             for name in ("input_ids", "input_mask", "segment_ids")]
    sequence, pooled, scores, order = our_outputs(layout, config, weights, batch)
    model = hugging_face_model(config, weights)
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
