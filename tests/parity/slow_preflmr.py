"""PreFLMR once more, slowly: one row, one head, one token at a time, from published weights and config.json only.

Shares no code with mmret; written from reference/preflmr.md, to check the fast model where no golden files are at hand.
"""

import math

import torch


class SlowPreFLMR:
    """Vectors of single queries and documents, as lists of [D] tensors and lists of bool.

    Args:
        state: tensors by published name.
        config: published config.json with all fields filled in.
        mapping: configuration of the mapping network's layers; None: no mapping network.
    """

    def __init__(self, state, config, mapping=None):
        self.state, self.config, self.mapping = state, config, mapping
        self.text, self.vision = config["text_config"], config["vision_config"]
        self.separate = config["separate_query_and_context_text_encoder"]

    def query(self, ids, attention, pictures=()):
        """ids, attention: lists of int; pictures: list of [3, px, px]."""
        hidden = self.bert("query", ids, attention)
        separator = 1
        sep_id = self.config["separator_id"]
        if sep_id is not None and sep_id in ids and ids.index(sep_id) > 1:
            separator = ids.index(sep_id)
        tokens, mask = [], []
        for place, (number, state) in enumerate(zip(ids, hidden)):
            keep = number != 0 and (place < 2 or place > separator)
            vector = self.state["query_text_encoder_linear.weight"] @ state
            tokens.append(vector if keep else torch.zeros_like(vector))
            mask.append(keep)
        states = [self.clip(picture) for picture in pictures]
        for layers in states:
            prefix = self.prefix(layers[-1][0])
            tokens += prefix
            mask += [True] * len(prefix)
        if self.mapping is not None:
            for layers in states:
                mapped = self.mapped(layers[-2][1:], hidden)
                tokens += mapped
                mask += [True] * len(mapped)
        return [self.unit(token) for token in tokens], mask

    def document(self, ids, attention, pictures=(), skip=()):
        """As `query`; skip: token ids that do not count."""
        tokens, mask = [], []
        for picture in pictures:
            prefix = self.prefix(self.clip(picture)[-1][0])
            tokens += prefix
            mask += [True] * len(prefix)
        side = "context" if self.separate else "query"
        for number, state in zip(ids, self.bert("context", ids, attention)):
            keep = number != 0 and number not in skip
            vector = self.state[f"{side}_text_encoder_linear.weight"] @ state
            tokens.append(vector if keep else torch.zeros_like(vector))
            mask.append(keep)
        return [self.unit(token) for token in tokens], mask

    def bert(self, side, ids, attention):
        """Last hidden state of each place."""
        p = f"{side if self.separate else 'query'}_text_encoder.bert_model."
        eps = self.text["layer_norm_eps"]
        word, place, kind = (
            self.state[f"{p}embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
        )
        rows = [self.norm(f"{p}embeddings.LayerNorm", word[n] + place[i] + kind[0], eps) for i, n in enumerate(ids)]
        for layer in range(self.text["num_hidden_layers"]):
            q = f"{p}encoder.layer.{layer}."
            heads = self.text["num_attention_heads"]
            rows = self.bert_attention(f"{q}attention", rows, rows, attention, heads, eps)
            rows = self.bert_ffn(q, rows, eps)
        return rows

    def mapped(self, patches, text):
        """One token per patch; every patch sees every patch and the text's first places, whatever they are."""
        rows = [self.linear("transformer_mapping_input_linear", patch) for patch in patches]
        text = text[: self.config["transformer_mapping_cross_attention_length"]]
        heads, eps = self.mapping["num_attention_heads"], self.mapping["layer_norm_eps"]
        for layer in range(self.config["transformer_mapping_num_hidden_layers"]):
            p = f"transformer_mapping_network.layer.{layer}."
            rows = self.bert_attention(f"{p}attention", rows, rows, [1] * len(rows), heads, eps)
            rows = self.bert_attention(f"{p}crossattention", rows, text, [1] * len(text), heads, eps)
            rows = self.bert_ffn(p, rows, eps)
        return [self.linear("transformer_mapping_output_linear", row) for row in rows]

    def bert_attention(self, p, rows, memory, visible, heads, eps):
        query, key, value = (f"{p}.self.{name}" for name in ("query", "key", "value"))
        mixed = self.attention(query, key, value, rows, memory, visible, heads)
        return [
            self.norm(f"{p}.output.LayerNorm", row + self.linear(f"{p}.output.dense", new), eps)
            for row, new in zip(rows, mixed)
        ]

    def bert_ffn(self, p, rows, eps):
        out = []
        for row in rows:
            inner = self.gelu(self.linear(f"{p}intermediate.dense", row))
            out.append(self.norm(f"{p}output.LayerNorm", row + self.linear(f"{p}output.dense", inner), eps))
        return out

    def attention(self, query, key, value, rows, memory, visible, heads):
        keys, values = [self.linear(key, m) for m in memory], [self.linear(value, m) for m in memory]
        out = []
        for row in rows:
            asked = self.linear(query, row)
            width = len(asked) // heads
            parts = []
            for head in range(heads):
                span = slice(head * width, (head + 1) * width)
                weights = [
                    math.exp(float(asked[span] @ k[span]) / math.sqrt(width)) if seen else 0.0
                    for k, seen in zip(keys, visible)
                ]
                parts.append(sum(w / sum(weights) * v[span] for w, v in zip(weights, values)))
            out.append(torch.cat(parts))
        return out

    def clip(self, picture):
        """States of all places after the embedding and after each layer: [layer][place]."""
        p = "query_vision_encoder.vision_model.vision_model."
        size, eps = self.vision["patch_size"], self.vision["layer_norm_eps"]
        kernel = self.state[f"{p}embeddings.patch_embedding.weight"]
        rows = [self.state[f"{p}embeddings.class_embedding"]]
        for top in range(0, picture.shape[1], size):
            for left in range(0, picture.shape[2], size):
                patch = picture[:, top : top + size, left : left + size]
                rows.append(torch.stack([(kernel[out] * patch).sum() for out in range(len(kernel))]))
        places = self.state[f"{p}embeddings.position_embedding.weight"]
        rows = [self.norm(f"{p}pre_layrnorm", row + places[i], eps) for i, row in enumerate(rows)]
        states = [rows]
        act = self.gelu if self.vision["hidden_act"] == "gelu" else self.quick_gelu
        for layer in range(self.vision["num_hidden_layers"]):
            q = f"{p}encoder.layers.{layer}."
            normed = [self.norm(f"{q}layer_norm1", row, eps) for row in rows]
            names = [f"{q}self_attn.{letter}_proj" for letter in "qkv"]
            heads = self.vision["num_attention_heads"]
            mixed = self.attention(*names, normed, normed, [1] * len(rows), heads)
            rows = [row + self.linear(f"{q}self_attn.out_proj", new) for row, new in zip(rows, mixed)]
            inner = [act(self.linear(f"{q}mlp.fc1", self.norm(f"{q}layer_norm2", row, eps))) for row in rows]
            rows = [row + self.linear(f"{q}mlp.fc2", new) for row, new in zip(rows, inner)]
            states.append(rows)
        return states

    def prefix(self, overall):
        inner = torch.tanh(self.linear("query_vision_projection.model.0", overall))
        flat, dim = self.linear("query_vision_projection.model.2", inner), self.config["dim"]
        return [flat[i : i + dim] for i in range(0, len(flat), dim)]

    def linear(self, name, row):
        return self.state[f"{name}.weight"] @ row + self.state[f"{name}.bias"]

    def norm(self, name, row, eps):
        centred = row - row.mean()
        return (
            centred / torch.sqrt((centred**2).mean() + eps) * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]
        )

    @staticmethod
    def gelu(x):
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    @staticmethod
    def quick_gelu(x):
        return x / (1 + torch.exp(-1.702 * x))

    @staticmethod
    def unit(vector):
        length = float(vector.norm())
        return vector / max(length, 1e-12)


def slow_score(query, document, mask):
    """Sum over query tokens of the best document token; one that does not count is -9999."""
    total = 0.0
    for q in query:
        total += max(float(q @ d) if keep else -9999.0 for d, keep in zip(document, mask))
    return total


def slow_loss(scores, documents_per_query):
    """Mean of -log softmax at column i * K of row i."""
    losses = []
    for i, row in enumerate(scores):
        top = max(row)
        total = math.log(sum(math.exp(s - top) for s in row)) + top
        losses.append(total - row[i * documents_per_query])
    return sum(losses) / len(losses)
