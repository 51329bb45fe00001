import torch

from mmret.models.preflmr import PreFLMR
from mmret.objectives import HardNegativeConfig
from mmret.recipe.schema import OptimizerConfig, Stage
from mmret.training.late_interaction import LateInteractionModule


def module(lr_scale):
    torch.manual_seed(0)
    stage = Stage(
        name="one",
        steps=1,
        objectives={"hard_negative": HardNegativeConfig()},
        optimizer=OptimizerConfig(lr=1.0),
        lr_scale=lr_scale,
    )
    return LateInteractionModule(PreFLMR(PreFLMR.SIZES["tiny"]), stage)


def test_frozen_towers_stay_in_eval_mode_from_the_start():
    one = module({"vision": 0, ".*": 1})  # Lightning never calls train() before a fit
    assert not any(part.training for part in one.model.vision.modules())
    assert one.model.mapping.training
    one.eval()
    one.train()
    assert not one.model.vision.training


def test_each_step_and_rank_has_its_own_seed_whatever_came_before():
    one = module({".*": 1})
    draws = []
    for batch in (0, 1, 0):
        one.on_train_batch_start(None, batch)
        draws.append(torch.rand(1).item())
        torch.rand(5)
    assert draws[0] == draws[2] != draws[1]
