"""VLMo once more, over the published state dict with loops and no code of ours: what tests hold it against."""

import math

import torch
from torch.nn.functional import conv2d, gelu, layer_norm, linear, normalize


def norm(state, name, x, eps):
    return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def row_of(i, j, num_text, window, span):
    """Row of the relative table for query i, key j of text (first) and picture."""
    R = (2 * window - 1) ** 2 + 3
    A = R + 2 * span + 2
    if i < num_text and j < num_text:
        if i == 0:
            return A - 1 if j == 0 else A - 3
        return A - 2 if j == 0 else R + 2 + (j - i) + span - 2
    if i < num_text:
        return R
    if j < num_text:
        return R + 1
    i, j = i - num_text, j - num_text
    if i == 0:
        return R - 1 if j == 0 else R - 3
    if j == 0:
        return R - 2
    (ri, ci), (rj, cj) = divmod(i - 1, window), divmod(j - 1, window)
    return (ri - rj + window - 1) * (2 * window - 1) + ci - cj + window - 1


def embed_text(state, ids):
    x = torch.stack([state["text_embeddings.word_embeddings.weight"][i] for i in ids])
    x = x + state["text_embeddings.token_type_embeddings.weight"][0]
    if "transformer.pos_embed" in state:
        x = x + state["text_embeddings.position_embeddings.weight"][: len(ids)]
    return norm(state, "text_embeddings.LayerNorm", x, 1e-12) + state["token_type_embeddings.weight"][0]


def embed_image(state, pixels):
    weight, bias = state["transformer.patch_embed.proj.weight"], state["transformer.patch_embed.proj.bias"]
    patches = conv2d(pixels[None], weight, bias, stride=weight.shape[-1])[0].flatten(1).T
    x = torch.cat([state["transformer.cls_token"][0], patches])
    if "transformer.pos_embed" in state:
        x = x + state["transformer.pos_embed"][0]
    return x + state["token_type_embeddings.weight"][1]


def block(state, layer, x, experts, num_text, heads, window, span):
    """One row [N, D], without padding; experts: name for each place."""
    prefix, D = f"transformer.blocks.{layer}.", x.shape[1]
    y = norm(state, prefix + "norm1", x, 1e-6)
    zero = torch.zeros(D)
    bias = torch.cat([state[prefix + "attn.q_bias"], zero, state[prefix + "attn.v_bias"]])
    query, key, value = linear(y, state[prefix + "attn.qkv.weight"], bias).chunk(3, 1)
    parts = []
    for head in range(heads):
        own = slice(head * D // heads, (head + 1) * D // heads)
        scores = query[:, own] @ key[:, own].T / math.sqrt(D // heads)
        if "relative_position_bias_table" in state:
            table = state["relative_position_bias_table"][:, layer * heads + head]
            for i in range(len(x)):
                for j in range(len(x)):
                    scores[i, j] += table[row_of(i, j, num_text, window, span)]
        parts.append(scores.softmax(1) @ value[:, own])
    y = linear(torch.cat(parts, 1), state[prefix + "attn.proj.weight"], state[prefix + "attn.proj.bias"])
    x = x + state.get(prefix + "gamma_1", 1.0) * y
    rows = []
    for place, name in enumerate(experts):
        y = norm(state, f"{prefix}norm2_{name}", x[place], 1e-6)
        y = gelu(linear(y, state[f"{prefix}mlp_{name}.fc1.weight"], state[f"{prefix}mlp_{name}.fc1.bias"]))
        rows.append(linear(y, state[f"{prefix}mlp_{name}.fc2.weight"], state[f"{prefix}mlp_{name}.fc2.bias"]))
    return x + state.get(prefix + "gamma_2", 1.0) * torch.stack(rows)


def run(state, x, experts_of, num_text, depth, heads, window, span):
    for layer in range(depth):
        x = block(state, layer, x, experts_of(layer), num_text, heads, window, span)
    return norm(state, "transformer.norm", x, 1e-6)


def pair(state, ids, pixels, *, depth, start, heads, window, span):
    """Last states [N, D] of a text and a picture read together, and the pooled one."""
    text, image = embed_text(state, ids), embed_image(state, pixels)
    x = torch.cat([text, image])

    def experts(layer):
        return ["vl"] * len(x) if layer >= start else ["text"] * len(text) + ["imag"] * len(image)

    x = run(state, x, experts, len(text), depth, heads, window, span)
    return x, torch.tanh(linear(x[0], state["pooler.dense.weight"], state["pooler.dense.bias"]))


def vector(state, kind, given, vl, *, depth, start, heads, window, span):
    """Unit vector of a text ("text") or picture ("imag"), of the first branch or the second."""
    x = embed_text(state, given) if kind == "text" else embed_image(state, given)

    def experts(layer):
        return ["vl" if vl and layer >= start else kind] * len(x)

    x = run(state, x, experts, len(x) if kind == "text" else 0, depth, heads, window, span)
    name = f"itc_{'vl_' if vl else ''}{'text' if kind == 'text' else 'image'}_proj.fc.weight"
    return normalize(x[0] @ state[name].T, dim=0)
