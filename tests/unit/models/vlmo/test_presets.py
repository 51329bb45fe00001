"""The named presets against the released code's rules, applied to the published names."""

import torch

from mmret.models.vlmo import LANGUAGE_STAGE, RELEASED_NO_DECAY
from mmret.models.vlmo.convert import published_name
from mmret.objectives import ITM, MLM, Classify, ClassifyConfig, ITMConfig, MLMConfig
from mmret.recipe.schema import OptimizerConfig
from mmret.training.optim import build_optimizer, scale_of_parameters
from tests.unit.models.vlmo.toys import toy_model

SPARED = ("bias", "LayerNorm.weight", "norm.weight", "norm1.weight", "norm2.weight")
"""Parts of names that the released code does not decay."""


def whole(**settings):
    model = toy_model(**settings)
    heads = {
        "itm": ITM.for_model(ITMConfig(), model),
        "mlm": MLM.for_model(MLMConfig(), model),
        "vqa": Classify.for_model(ClassifyConfig(num_classes=3), model),
    }
    return torch.nn.ModuleDict({"model": model, "objectives": torch.nn.ModuleDict(heads)})


def test_decay_groups_follow_the_released_rule_on_its_own_names():
    for positions in ("relative", "absolute"):
        module = whole(positions=positions)
        names = {id(p): name for name, p in module.named_parameters()}
        config = OptimizerConfig(lr=1.0, weight_decay=0.01, no_decay=RELEASED_NO_DECAY)
        optimizer = build_optimizer(module, config, dict.fromkeys(names.values(), 1.0))
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                published = published_name(names[id(parameter)].removeprefix("model."))
                assert any(part in published for part in SPARED) == (group["weight_decay"] == 0), published


def test_language_stage_trains_text_and_table_only():
    names = [name for name, _ in whole(vl_layers=0).named_parameters()]
    scales = scale_of_parameters(names, LANGUAGE_STAGE)
    trained = {name.removeprefix("model.backbone.") for name in names if scales[name]}
    assert {"positions.table", "norm.weight", "modality.weight", "text.word.weight"} <= trained
    assert "blocks.1.experts.text.fc1.weight" in trained
    assert not any("attention" in name or "image" in name or "gamma" in name or "pooler" in name for name in trained)
