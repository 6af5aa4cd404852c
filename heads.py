"""What stands on the encoder: classifiers of texts or tokens, one vector, words for masks.

The pre-training objectives are pretraining.py's; the layers are modeling.py's.

Dimension letters: B batch, S sequence length, P masks of a text, H hidden size, C classes,
V vocabulary.
"""

import collections

import modeling
import runtime  # noqa: F401 - before TensorFlow

import tensorflow.compat.v1 as tf

POOLED_DROPOUT = 0.1
POOLINGS = ("mean", "first", "max")

# What a classifier's folder tells those who use it beside configuration, vocabulary and labels.
CLASSIFIER_FILE = "classifier.json"
# The same of a model that chooses among options: its head scores each of them by one number.
CHOICE_FILE = "choices.json"
# Those of a model that finds entities, or answers.
ENTITY_FILE, READING_FILE = "entities.json", "reading.json"
ENTITY_SCOPE, READING_SCOPE = "cls/entities", "cls/squad"  # of their heads' variables

ClassifierHead = collections.namedtuple("ClassifierHead", ["classes", "use_pooled_output"])
ClassifierHead.__doc__ = """What stands on the encoder.

classes: number of labels; use_pooled_output: classify the pooled first token, else the mean."""


def classifier_logits(config, model_class, head, is_training, input_ids, input_mask, segment_ids,
                      use_one_hot_embeddings=False, recompute=False):
    """Builds encoder and head.

    Args:
        head: ClassifierHead; input_ids, input_mask, segment_ids: int tensors [B, S].
        use_one_hot_embeddings, recompute: as for modeling.Encoder.

    Returns:
        [B, C].
    """
    model = model_class(
        config, is_training, input_ids, input_mask, segment_ids, use_one_hot_embeddings, "bert",
        output_positions=modeling.first_position(input_ids) if head.use_pooled_output else None,
        recompute=recompute)
    vector = (model.get_pooled_output() if head.use_pooled_output
              else modeling.mean_over_tokens(model.get_sequence_output(), input_mask))
    return class_logits(config, vector, head.classes, is_training)


def class_logits(config, pooled, classes, is_training):
    """The classifier's head. [B, H] to [B, C].

    A pre-LN model, whose last layer ends without a LayerNorm, gets one here.
    """
    if getattr(config, "ln_type", "postln") == "preln":
        with tf.variable_scope("loss"):
            pooled = modeling.layer_norm(pooled)
    pooled = modeling.dropout(pooled, POOLED_DROPOUT if is_training else 0.0)
    return modeling.output_logits(pooled, classes, config.initializer_range)


@modeling.once_for_each
def classifier_variable_shapes(config, model_class, classes):
    """Returns {name: shape} of an encoder with a classifier head, of either kind."""
    def build():
        model = model_class(config, False, tf.zeros([1, 1], tf.int32))
        class_logits(config, model.get_pooled_output(), classes, False)

    return modeling.variable_shapes(build)


def choice_logits(config, model_class, head, is_training, input_ids, input_mask, option_ids,
                  option_lengths, length=None, use_one_hot_embeddings=False, recompute=False):
    """Builds encoder and head for questions with options: each is read together with the text.

    The head is a classifier's with one class: `output_weights` [1, H] and `output_bias` [1].

    Args:
        head: ClassifierHead of one class.
        input_ids, input_mask: int [B, T], what all options of a question begin with.
        option_ids: int [B, O], the second parts of a question's rows one after the other.
        option_lengths: int [B, K], tokens of each; 0: there is no such option.
        length: S, tokens of a row with padding; None: those of the longest.
        The others are as for `classifier_logits`.

    Returns:
        [B, K], very low where there is no option.
    """
    first = tf.reduce_sum(input_mask, axis=1)[:, tf.newaxis, tf.newaxis]        # [B, 1, 1]
    second = option_lengths[:, :, tf.newaxis]                                   # [B, K, 1]
    places = tf.range(tf.reduce_max(first + second) if length is None else length)
    places = places[tf.newaxis, tf.newaxis, :]                                  # [1, 1, S]
    starts = tf.cumsum(option_lengths, axis=1, exclusive=True)[:, :, tf.newaxis]
    in_second = tf.cast(places >= first, tf.int32)                              # [B, 1, S]
    mask = tf.cast(places < first + second, tf.int32)                           # [B, K, S]
    shift = tf.shape(input_ids)[1] + starts - first
    tokens = tf.concat([input_ids, option_ids], axis=1)                         # [B, T + O]
    at = mask * (places + in_second * shift)                                    # [B, K, S]
    ids = tf.gather(tokens, at, axis=1, batch_dims=1) * mask                    # [B, K, S]

    def as_rows(tensor):
        return tf.reshape(tensor, [-1, tf.shape(tensor)[2] if length is None else length])

    logits = classifier_logits(
        config, model_class, head, is_training, as_rows(ids), as_rows(mask),
        as_rows(in_second * mask), use_one_hot_embeddings, recompute)
    absent = tf.cast(tf.equal(option_lengths, 0), tf.float32)
    options = option_lengths.shape.as_list()[1]
    return tf.reshape(logits, [-1, options]) - 10000.0 * absent


def token_logits(config, model_class, classes, scope, is_training, input_ids, input_mask,
                 segment_ids, use_one_hot_embeddings=False, recompute=False):
    """Builds encoder and a head on every token: its classes, or where an answer starts and ends.

    The head's variables are `<scope>/output_weights` [C, H] and `<scope>/output_bias` [C], so that
    nobody takes them for a classifier of whole texts.

    Args:
        classes: C; scope: the head's variable scope.
        The others are as for `classifier_logits`.

    Returns:
        [B, S, C].
    """
    model = model_class(config, is_training, input_ids, input_mask, segment_ids,
                        use_one_hot_embeddings, "bert", recompute=recompute)
    vectors = model.get_sequence_output()
    batch, length, width = modeling.get_shape_list(vectors, expected_rank=3)
    with tf.variable_scope(scope):
        if getattr(config, "ln_type", "postln") == "preln":
            vectors = modeling.layer_norm(vectors)
        vectors = modeling.dropout(vectors, POOLED_DROPOUT if is_training else 0.0)
        logits = modeling.output_logits(tf.reshape(vectors, [-1, width]), classes,
                                        config.initializer_range)
    return tf.reshape(logits, [batch, length, classes])


@modeling.once_for_each
def token_variable_shapes(config, model_class, classes, scope):
    """Returns {name: shape} of an encoder with a head on every token."""
    def build():
        ids = tf.zeros([1, 1], tf.int32)
        token_logits(config, model_class, classes, scope, False, ids, tf.ones_like(ids), ids)

    return modeling.variable_shapes(build)


def pool(vectors, input_mask, pooling):
    """Makes one vector of each text's vectors, without those of padding. [B, S, H] to [B, H].

    Args:
        pooling: "mean" or "max" over all tokens, [CLS] and [SEP] among them, or "first": [CLS].
    """
    if pooling == "first":
        return vectors[:, 0, :]
    if pooling == "max":
        padding = 1.0 - tf.cast(input_mask, tf.float32)[:, :, tf.newaxis]
        return tf.reduce_max(vectors + padding * vectors.dtype.min / 2, axis=1)
    return modeling.mean_over_tokens(vectors, input_mask)


def word_logits(config, encoder, positions):
    """Scores of all words at some positions, by the masked words' head of pre-training.

    Args:
        encoder: modeling.Encoder; positions: int [B, P].

    Returns:
        [B, P, V].
    """
    vectors = modeling.gather_positions(encoder.get_sequence_output(), positions)
    logits = modeling.masked_lm_logits(config, vectors, encoder.get_embedding_table(),
                                       encoder.get_embedding_table_2())
    return tf.reshape(logits, tf.concat([tf.shape(positions), [config.vocab_size]], 0))
