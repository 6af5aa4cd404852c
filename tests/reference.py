"""ALBERT (both layouts), LAMB and AdamW in plain NumPy, for tests to compare with.

Written from the papers, apart from the code under test: one sequence at a time, float64.
"""

import fractions
import zlib

import numpy as np


def initial_value(name, shape):
    """Weights that are a function of the variable's name, as the golden files use them."""
    seed = zlib.crc32(("albert:" + name).encode()) & 0x7fffffff
    value = np.random.RandomState(seed).normal(0, 0.1, size=shape).astype(np.float32)
    return value + np.float32(1.0) if name.endswith("gamma") else value


def initial_values(shapes):
    return {name: initial_value(name, shape) for name, shape in shapes.items()}


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def normalise(x, weights, scope):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return ((x - mean) / np.sqrt(variance + 1e-12) * weights[scope + "/gamma"]
            + weights[scope + "/beta"])


def linear(x, weights, scope):
    return x @ weights[scope + "/kernel"] + weights[scope + "/bias"]


def attention(x, mask, weights, scope, heads):
    length, width = x.shape
    size = width // heads
    result = np.zeros_like(x)
    parts = {k: linear(x, weights, "%s/self/%s" % (scope, k)) for k in ("query", "key", "value")}
    for head in range(heads):
        columns = slice(head * size, (head + 1) * size)
        scores = parts["query"][:, columns] @ parts["key"][:, columns].T / np.sqrt(size)
        scores = scores + (1 - mask[None, :]) * -10000.0
        result[:, columns] = softmax(scores) @ parts["value"][:, columns]
    return linear(result, weights, scope + "/output/dense")


def encode(config, weights, ids, mask, segments):
    """One sequence through the encoder: (embedding [S, H], all layers, pooled [H])."""
    weights = {name: value.astype(np.float64) for name, value in weights.items()}
    emb = "bert/embeddings/"
    x = weights[emb + "word_embeddings"][ids] @ weights[emb + "word_embeddings_2"]
    x = x + weights[emb + "token_type_embeddings"][segments]
    x = x + weights[emb + "position_embeddings"][:len(ids)]
    x = embedding = normalise(x, weights, emb + "LayerNorm")
    layer = "bert/encoder/layer_shared/"
    norms = (layer + "attention/output/LayerNorm", layer + "output/LayerNorm")

    def attend(y):
        return attention(y, mask, weights, layer + "attention", config["num_attention_heads"])

    def feed_forward(y):
        inner = gelu(linear(y, weights, layer + "intermediate/dense"))
        return linear(inner, weights, layer + "output/dense")

    layers = []
    for _ in range(config["num_hidden_layers"]):
        if config.get("ln_type", "postln") == "preln":
            x = x + attend(normalise(x, weights, norms[0]))
            x = x + feed_forward(normalise(x, weights, norms[1]))
        else:
            x = normalise(x + attend(x), weights, norms[0])
            x = normalise(x + feed_forward(x), weights, norms[1])
        layers.append(x)
    pooled = np.tanh(linear(x[:1], weights, "bert/pooler/dense"))[0]
    return embedding, layers, pooled


def encode_google(config, weights, ids, mask, segments):
    """As `encode`, in the Google layout: the embedding is [S, E]."""
    weights = {name: value.astype(np.float64) for name, value in weights.items()}
    emb, heads = "bert/embeddings/", config["num_attention_heads"]
    x = (weights[emb + "word_embeddings"][ids] + weights[emb + "token_type_embeddings"][segments]
         + weights[emb + "position_embeddings"][:len(ids)])
    embedding = normalise(x, weights, emb + "LayerNorm")
    x = linear(embedding, weights, "bert/encoder/embedding_hidden_mapping_in")
    depth, groups = config["num_hidden_layers"], config["num_hidden_groups"]
    layers = []
    for index in range(depth):
        group = int(fractions.Fraction(index, depth) * groups)
        for inner in range(config["inner_group_num"]):
            block = "bert/encoder/transformer/group_%d/inner_group_%d/" % (group, inner)
            x = normalise(x + attention(x, mask, weights, block + "attention_1", heads),
                          weights, block + "LayerNorm")
            widened = gelu(linear(x, weights, block + "ffn_1/intermediate/dense"))
            x = normalise(x + linear(widened, weights, block + "ffn_1/intermediate/output/dense"),
                          weights, block + "LayerNorm_1")
        layers.append(x)
    pooled = np.tanh(linear(x[0], weights, "bert/pooler/dense"))
    return embedding, layers, pooled


def masked_lm_scores_google(weights, vectors):
    """Scores of all words for vectors [P, H] at masked positions; [P, V]."""
    weights = {name: value.astype(np.float64) for name, value in weights.items()}
    transform = "cls/predictions/transform/"
    narrowed = normalise(gelu(linear(vectors, weights, transform + "dense")), weights,
                         transform + "LayerNorm")
    return (narrowed @ weights["bert/embeddings/word_embeddings"].T
            + weights["cls/predictions/output_bias"])


def pretraining_losses_google(config, weights, rows):
    """(masked LM loss, sentence-order loss) of records given as dicts of arrays."""
    nll, weight, order = 0.0, 0.0, 0.0
    for row in rows:
        _, layers, pooled = encode_google(config, weights, row["input_ids"], row["input_mask"],
                                          row["segment_ids"])
        scores = masked_lm_scores_google(weights, layers[-1][row["masked_lm_positions"]])
        picked = softmax(scores)[np.arange(len(scores)), row["masked_lm_ids"]]
        nll -= (np.log(picked) * row["masked_lm_weights"]).sum()
        weight += row["masked_lm_weights"].sum()
        order -= np.log(softmax(
            weights["cls/seq_relationship/output_weights"] @ pooled
            + weights["cls/seq_relationship/output_bias"])[row["next_sentence_labels"][0]])
    return nll / (weight + 1e-5), order / len(rows)


def class_probabilities(weights, pooled):
    """What a fine-tuned head makes of a pooled vector [H]."""
    return softmax(weights["output_weights"].astype(np.float64) @ pooled
                   + weights["output_bias"])


def rate_at(step, peak, steps, warmup, power=1.0):
    return peak * step / warmup if step < warmup else peak * (1 - step / steps) ** power


def optimizer_step(weights, gradients, moments, rate, lamb, clip=1.0, exempt=()):
    """One step on dicts of arrays, in place; moments: {name: [m, v]}.

    exempt: substrings of names whose trust ratio is 1.
    """
    norm = np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients.values()))
    scale = clip / max(norm, clip)
    for name, gradient in gradients.items():
        gradient = gradient.astype(np.float64) * scale
        m, v = moments.setdefault(name, [np.zeros(gradient.shape), np.zeros(gradient.shape)])
        m[...] = 0.9 * m + 0.1 * gradient
        v[...] = 0.999 * v + 0.001 * gradient ** 2
        update = m / (np.sqrt(v) + 1e-6)
        if not any(word in name for word in ("LayerNorm", "layer_norm", "bias")):
            update = update + 0.01 * weights[name]
        ratio = 1.0
        if lamb and not any(word in name for word in exempt):
            sizes = np.linalg.norm(weights[name]), np.linalg.norm(update)
            ratio = sizes[0] / sizes[1] if sizes[0] > 0 and sizes[1] > 0 else 1.0
        weights[name] = (weights[name] - rate * ratio * update).astype(np.float32)
