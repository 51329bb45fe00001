"""A backbone of parts: placeholder places carry the connector's states, frozen towers can be read from a cache."""

import pytest
import torch

import mmret
from mmret.data.features import FeatureReader
from mmret.errors import ConfigError
from mmret.models import VLM2Vec, VLM2VecConfig
from mmret.models.backbones.vlm_composed import ComposedConfig
from mmret.recipe.schema import FeatureCacheConfig
from mmret.training.precompute import fill_feature_cache
from mmret.types import Content
from tests.unit.models.toys import picture

CONTENTS = [
    Content("which flag is this", (picture(1, (60, 90)),)),
    Content("red"),
    Content("compare both", (picture(2, (120, 40)), picture(3, (50, 50)))),
]
PARTS = ComposedConfig(vision="tiny", language="tiny")


def build(**settings):
    torch.manual_seed(3)
    return VLM2Vec.from_config(VLM2VecConfig(backbone="composed", composed=PARTS, **settings)).eval()


def vectors(model, contents=CONTENTS):
    with torch.no_grad():
        return model.encode_query(model.processor(contents, "query")).vectors


def test_each_placeholder_place_holds_its_patch_through_the_connector():
    model = build()
    inputs = model.processor(CONTENTS, "query")
    seen = []
    model.vlm.language.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    with torch.no_grad():
        model.hidden(inputs.dense["input_ids"], inputs.dense["attention_mask"], inputs)
        table = model.vlm.language.get_input_embeddings()
        for row, ids in enumerate(inputs.dense["input_ids"]):
            pictures = inputs.ragged["pixel_values"][row]
            patches = iter(model.vlm.connector(model.vlm.vision(pictures)[1]).flatten(0, 1) if len(pictures) else [])
            for place, number in enumerate(ids.tolist()):
                wanted = next(patches) if number == model.processor.image_id else table.weight[number]
                assert torch.allclose(seen[0]["inputs_embeds"][row, place], wanted, atol=1e-6)
            assert next(patches, None) is None


def test_a_saved_model_opens_without_its_parts(tmp_path):
    model = build(peft={"type": "lora", "r": 2, "target_modules": ["q_proj"]})
    model.save(tmp_path)
    again = mmret.load(tmp_path).eval()
    assert torch.equal(vectors(again), vectors(model))
    assert again.config.composed == PARTS


def test_cached_features_give_the_same_vectors_without_decoding(tmp_path, monkeypatch):
    model = build()
    live = vectors(model)
    cache = FeatureCacheConfig(folder=str(tmp_path), dtype="float32")
    model.vlm.connector.train()
    counts = fill_feature_cache(model, [("query", content) for content in CONTENTS], cache, frozen={"vision"})
    assert not model.vlm.vision.training
    assert counts == {"vision": 2} and isinstance(model.processor.features["vision"], FeatureReader)
    monkeypatch.setattr("mmret.image.EncodedImage.decode", lambda self: pytest.fail("decoded"))
    assert torch.allclose(vectors(model), live, atol=1e-6)


def test_a_picture_that_is_not_cached_is_read(tmp_path):
    model = build()
    live = vectors(model)
    cache = FeatureCacheConfig(folder=str(tmp_path), dtype="float32")
    fill_feature_cache(model, [("query", CONTENTS[0])], cache, frozen={"vision"})
    assert torch.allclose(vectors(model), live, atol=1e-6)


def test_the_end_token_is_what_is_pooled(tmp_path):
    model = build(end_token="[SEP]")
    inputs = model.processor(CONTENTS, "query")
    ids, mask = inputs.dense["input_ids"], inputs.dense["attention_mask"]
    with torch.no_grad():
        states = model.hidden(ids, mask, inputs)
    places = (ids == model.processor.tokenizer.id_of("[SEP]")).nonzero()
    assert places[:, 0].tolist() == [0, 1, 2]
    wanted = torch.nn.functional.normalize(states[places[:, 0], places[:, 1]], dim=-1)
    assert torch.allclose(vectors(model), wanted, atol=1e-6)
    model.save(tmp_path)
    assert torch.equal(vectors(mmret.load(tmp_path).eval()), vectors(model))


def test_the_connector_alone_can_train():
    model = build()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("connector" in name)
    model.encode_query(model.processor(CONTENTS, "query")).vectors.sum().backward()
    assert all(parameter.grad is not None for parameter in model.vlm.connector.parameters())


def test_parts_and_backbone_are_named_together():
    for settings in ({"backbone": "composed"}, {"backbone": "tiny", "composed": PARTS}):
        with pytest.raises(ConfigError, match="give both or neither"):
            VLM2VecConfig(**settings)


def test_an_unknown_connector_is_refused():
    with pytest.raises(ConfigError, match="connector must be one of mlp, linear, got 'resampler'"):
        ComposedConfig(vision="tiny", language="tiny", connector="resampler")


def test_a_frozen_tower_inside_a_training_backbone_stays_in_eval_mode():
    from mmret.recipe.schema import MixtureConfig, OptimizerConfig, SourceConfig, Stage
    from mmret.training.module import RetrievalModule

    stage = Stage(
        name="s",
        steps=1,
        data=MixtureConfig(sources={"x": SourceConfig()}, batch_size=2),
        objectives={},
        optimizer=OptimizerConfig(lr=1e-3),
        lr_scale={"connector": 1, ".*": 0},
    )
    module = RetrievalModule(build(), stage)
    assert not module.model.vlm.vision.training and module.model.vlm.connector.training
