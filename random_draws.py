"""Random draws of training that follow from seed, step and place alone: dropout's.

TensorFlow's own random operations go on from where they were when the process began, so a run that
was interrupted would go on with other draws. These can be repeated: the graph's seed (that of
--random_seed), the number of the draw within the graph, the step, the part of the batch and the
replica decide, and nothing else.
"""

import contextlib

import runtime  # noqa: F401 - before TensorFlow

import tensorflow.compat.v1 as tf

_DRAWS, _PARTS = "random_draws", "random_draws_part"  # collections of the graph
MOST_PARTS = 1 << 16


@contextlib.contextmanager
def part_of_batch(number):
    """Within the block, draws are those of one of the parts that a batch is computed in.

    Args:
        number: int or scalar int tensor, below MOST_PARTS.
    """
    parts = tf.get_collection_ref(_PARTS)
    parts.append(number)
    try:
        yield
    finally:
        parts.pop()


def seeds(shape):
    """Returns seeds for stateless operations.

    Where the graph has no seed or no global step, they are drawn anew whenever they are run.

    Args:
        shape: list of ints that ends in 2.

    Returns:
        int32 tensor.
    """
    graph_seed, step = tf.get_default_graph().seed, tf.train.get_global_step()
    if graph_seed is None or step is None:
        return tf.random.uniform(shape, maxval=tf.int32.max, dtype=tf.int32)
    draws = tf.get_collection_ref(_DRAWS)
    draws.append(len(draws))
    parts = tf.get_collection(_PARTS)
    part = tf.cast(parts[-1] if parts else 0, tf.int64)
    place = tf.constant(wrapped(graph_seed * (1 << 20) + draws[-1]), tf.int64)
    place += _replica() * (1 << 16)
    return tf.random.stateless_uniform(
        shape, tf.stack([place, tf.cast(step, tf.int64) * MOST_PARTS + part]),
        minval=0, maxval=tf.int32.max, dtype=tf.int32)


def wrapped(number):
    """Returns a number modulo 2^64 as int64 holds it: seeds such as a date may have many digits."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _replica():
    """Returns the number of the replica that the graph is being made for, int64."""
    context = tf.distribute.get_replica_context()
    if context is None or tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return tf.constant(0, tf.int64)
    return tf.cast(context.replica_id_in_sync_group, tf.int64)
