"""How far a parameter is from its tower's output, by hand for each architecture."""

import timm
import torch
from torch import nn

from mmret.models import PreFLMR, VLM2Vec
from mmret.models.depth import layers_above
from tests.unit.models.vlmo.toys import toy_model


def block():
    return nn.Sequential(nn.Linear(2, 2), nn.ReLU())


def test_blocks_count_from_the_top_embeddings_lie_below_and_what_follows_is_a_head():
    module = nn.ModuleDict(
        {"embed": nn.Linear(2, 2), "blocks": nn.ModuleList([block(), block(), block()]), "norm": nn.LayerNorm(2)}
    )
    found = layers_above(module)
    assert found["embed.weight"] == 4
    assert [found[f"blocks.{i}.0.weight"] for i in range(3)] == [3, 2, 1]
    assert found["norm.bias"] == 0


def test_vlmo_has_its_table_with_the_heads():
    found = toy_model().layers_above()  # three blocks
    assert found["backbone.text.word.weight"] == found["backbone.image.patch.weight"] == 4
    assert found["backbone.modality.weight"] == 4
    assert found["backbone.blocks.0.gamma_1"] == found["backbone.blocks.0.experts.image.fc1.weight"] == 3
    assert found["backbone.blocks.2.experts.vl.fc1.weight"] == found["backbone.blocks.2.attention.all.qkv.weight"] == 1
    heads = ("backbone.positions.table", "backbone.norm.weight", "pooler.weight", "projections.text.weight")
    assert [found[name] for name in heads] == [0] * 4
    absolute = toy_model(positions="absolute").layers_above()
    assert absolute["backbone.image.position"] == absolute["backbone.text.position"] == 4
    assert absolute.keys() == {name for name, _ in toy_model(positions="absolute").named_parameters()}


def test_each_tower_of_preflmr_counts_from_its_own_top_and_what_joins_them_is_a_head():
    model = PreFLMR.skeleton(PreFLMR.SIZES["tiny"])  # both towers have two layers
    found = model.layers_above()
    assert found.keys() == {name for name, _ in model.named_parameters()}
    for tower in ("document_text", "query_text"):
        assert found[f"{tower}.embeddings.word_embeddings.weight"] == 3
        assert found[f"{tower}.encoder.layer.0.output.dense.weight"] == 2
        assert found[f"{tower}.encoder.layer.1.output.dense.weight"] == 1
    assert found["vision.embeddings.class_embedding"] == found["vision.pre_layrnorm.weight"] == 3
    assert [found[f"vision.layers.{i}.mlp.fc1.weight"] for i in range(2)] == [2, 1]
    others = {name: above for name, above in found.items() if name.split(".")[0] not in _TOWERS}
    assert others and set(others.values()) == {0}


def test_picture_and_language_towers_of_vlm2vec_count_apart():
    found = VLM2Vec.skeleton(VLM2Vec.SIZES["tiny"]).layers_above()
    assert found["vlm.visual.patch_embed.proj.weight"] == found["vlm.language_model.embed_tokens.weight"] == 3
    assert found["vlm.visual.blocks.0.mlp.fc1.weight"] == found["vlm.language_model.layers.0.mlp.up_proj.weight"] == 2
    assert found["vlm.visual.merger.ln_q.weight"] == found["vlm.language_model.norm.weight"] == 0


def test_convolutional_stages_are_layers_too():
    with torch.device("meta"):
        found = layers_above(timm.create_model("efficientnet_lite0"))
    assert (found["conv_stem.weight"], found["blocks.0.0.conv_dw.weight"], found["blocks.6.0.conv_pw.weight"]) == (
        8,
        7,
        1,
    )
    assert found["conv_head.weight"] == 0


_TOWERS = ("document_text", "query_text", "vision")
