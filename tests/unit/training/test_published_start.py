"""A stage that starts from a published VLMo file takes its model and its heads."""

from pathlib import Path

import torch

from mmret.models.vlmo import from_published
from mmret.objectives import ClassifyConfig, ITCConfig, ITMConfig
from mmret.recipe.schema import MixtureConfig, OptimizerConfig, Recipe, SourceConfig, Stage
from mmret.training.stage import _build
from tests.unit.models.vlmo.toys import published, toy_model


def build(init_from, **objectives):
    stage = Stage(
        name="tune",
        steps=1,
        data=MixtureConfig(sources={"toy": SourceConfig()}, batch_size=4),
        objectives=objectives,
        optimizer=OptimizerConfig(lr=1e-3),
        init_from=str(init_from),
    )
    recipe = Recipe(name="toy", model=toy_model().config, stages=[stage])
    return _build(recipe, stage, previous=None)


def test_model_heads_and_temperatures_are_kept_and_the_rest_is_named(tmp_path: Path):
    state = published(toy_model(seed=5))
    torch.save({"state_dict": state}, tmp_path / "vlmo.pt")
    module, report = build(
        tmp_path / "vlmo.pt",
        itc=ITCConfig(temperature=0.07, learn_temperature=True),
        itm=ITMConfig(),
        colour=ClassifyConfig(num_classes=3),
    )
    parts = from_published(state)
    assert all(torch.equal(value, parts.model[key]) for key, value in module.model.state_dict().items())
    for name in ("itc.logit_scale", "itm.head.weight", "itm.head.bias"):
        assert torch.equal(module.objectives.state_dict()[name], parts.objectives[name])
        assert f"objectives.{name}" in report.kept
    assert {name.split(".")[1] for name in report.new} == {"colour"}
    assert {name.split(".")[1] for name in report.dropped} == {"itc_vl", "mlm", "vqa", "nlvr2"}
