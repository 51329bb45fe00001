"""Phi-3.5-V once more, over the published state dict with loops and no code of ours: what tests hold it against."""

import math

import torch
from torch.nn.functional import conv2d, gelu, layer_norm, linear, normalize, silu

TOWER = "model.vision_embed_tokens.img_processor.vision_model"


def attention(q, k, v, causal):
    """[L, d] of one head; row i sees all, or rows up to i."""
    rows = []
    for i in range(len(q)):
        seen = i + 1 if causal else len(k)
        weights = torch.softmax(torch.stack([q[i] @ k[j] for j in range(seen)]) / math.sqrt(q.shape[1]), 0)
        rows.append(sum(weights[j] * v[j] for j in range(seen)))
    return torch.stack(rows)


def clip(state, view, sizes):
    """Patches [g, g, C] of one view [3, px, px]."""

    def dense(name, x):
        return linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name, x):
        return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)

    patches = conv2d(view[None], state[f"{TOWER}.embeddings.patch_embedding.weight"], stride=sizes["patch_size"])[0]
    side = patches.shape[1]
    rows = [state[f"{TOWER}.embeddings.class_embedding"]]
    rows += [patches[:, i, j] for i in range(side) for j in range(side)]
    x = torch.stack(rows) + state[f"{TOWER}.embeddings.position_embedding.weight"]
    x = norm(f"{TOWER}.pre_layrnorm", x)
    for layer in range(sizes["num_hidden_layers"] - 1):  # the last one is not read
        name = f"{TOWER}.encoder.layers.{layer}"
        y = norm(f"{name}.layer_norm1", x)
        q, k, v = (dense(f"{name}.self_attn.{letter}_proj", y) for letter in "qkv")
        heads = sizes["num_attention_heads"]
        parts = [attention(*parts, causal=False) for parts in zip(*(t.chunk(heads, 1) for t in (q, k, v)))]
        x = x + dense(f"{name}.self_attn.out_proj", torch.cat(parts, 1))
        y = dense(f"{name}.mlp.fc1", norm(f"{name}.layer_norm2", x))
        x = x + dense(f"{name}.mlp.fc2", y * torch.sigmoid(1.702 * y))
    return x[1:].view(side, side, -1)


def picture_tokens(state, views, size, config):
    """Tokens of one picture: views [1 + crops, 3, px, px], padded (height, width)."""
    sizes = config["img_processor"]["vision_config"]
    grids = [clip(state, view, sizes) for view in views]
    side = len(grids[0]) // 2
    rows, columns = (pixels // sizes["image_size"] for pixels in size)
    row_end = state["model.vision_embed_tokens.sub_GN"].flatten()

    def cell(grid, i, j):
        return torch.cat(
            [grid[2 * i, 2 * j], grid[2 * i, 2 * j + 1], grid[2 * i + 1, 2 * j], grid[2 * i + 1, 2 * j + 1]]
        )

    tokens = []
    for i in range(rows * side):
        for j in range(columns * side):
            tokens.append(cell(grids[1 + i // side * columns + j // side], i % side, j % side))
        tokens.append(row_end)
    tokens.append(state["model.vision_embed_tokens.glb_GN"].flatten())
    for i in range(side):
        tokens += [cell(grids[0], i, j) for j in range(side)] + [row_end]
    name = "model.vision_embed_tokens.img_projection"
    first = gelu(linear(torch.stack(tokens), state[f"{name}.0.weight"], state[f"{name}.0.bias"]))
    return linear(first, state[f"{name}.2.weight"], state[f"{name}.2.bias"])


def rotated(x, config, long):
    """Head states [L, d] turned by their positions 0, 1, ..."""
    scaling, original = config["rope_scaling"], config["original_max_position_embeddings"]
    stretch = config["max_position_embeddings"] / original
    scale = math.sqrt(1 + math.log(stretch) / math.log(original))
    factors, half = scaling["long_factor" if long else "short_factor"], x.shape[1] // 2
    rows = []
    for place, row in enumerate(x):
        turned = [None] * (2 * half)
        for i in range(half):
            angle = place / (factors[i] * config["rope_theta"] ** (i / half))
            cos, sin = scale * math.cos(angle), scale * math.sin(angle)
            turned[i] = row[i] * cos - row[i + half] * sin
            turned[i + half] = row[i + half] * cos + row[i] * sin
        rows.append(torch.stack(turned))
    return torch.stack(rows)


def states(state, config, ids, pictures, width):
    """[L, D] after the final norm, of one row's ids without padding in a batch padded to `width`.

    pictures: (views, padded size) of each, in order of their places, which have ids below 0.
    """

    def norm(name, x):
        return state[f"{name}.weight"] * x / torch.sqrt((x * x).mean(-1, keepdim=True) + config["rms_norm_eps"])

    features = [row for views, size in pictures for row in picture_tokens(state, views, size, config)]
    assert sum(number < 0 for number in ids) == len(features)
    given = iter(features)
    x = torch.stack([next(given) if number < 0 else state["model.embed_tokens.weight"][number] for number in ids])
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    size = config["hidden_size"] // heads
    long = width > config["original_max_position_embeddings"]
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        joint = linear(norm(f"{name}.input_layernorm", x), state[f"{name}.self_attn.qkv_proj.weight"])
        q, k, v = joint.split([heads * size, groups * size, groups * size], 1)
        parts = []
        for head in range(heads):
            group = head * groups // heads
            own = slice(head * size, (head + 1) * size)
            shared = slice(group * size, (group + 1) * size)
            parts.append(
                attention(rotated(q[:, own], config, long), rotated(k[:, shared], config, long), v[:, shared], True)
            )
        x = x + linear(torch.cat(parts, 1), state[f"{name}.self_attn.o_proj.weight"])
        gate, up = linear(norm(f"{name}.post_attention_layernorm", x), state[f"{name}.mlp.gate_up_proj.weight"]).chunk(
            2, 1
        )
        x = x + linear(up * silu(gate), state[f"{name}.mlp.down_proj.weight"])
    return norm("model.norm", x)


def vector(state, config, ids, pictures, width):
    """[D] unit vector of the row's last state."""
    return normalize(states(state, config, ids, pictures, width)[-1], dim=0)
