import pytest
import torch
from torch import nn

from mmret.errors import ConfigError
from mmret.recipe.schema import OptimizerConfig, ScheduleConfig
from mmret.training.optim import build_optimizer, build_schedule, freeze, scale_of_parameters


def model():
    return nn.ModuleDict({"vision": nn.Linear(2, 2), "text": nn.Linear(2, 2), "norm": nn.LayerNorm(2)})


def test_first_matching_pattern_decides():
    scales = scale_of_parameters(["text.weight", "text.bias", "vision.weight"], {"text.*bias": 0.5, "text": 2, ".*": 0})
    assert scales == {"text.weight": 2, "text.bias": 0.5, "vision.weight": 0}


def test_pattern_without_parameter_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"'visoin' matches no parameter\. Did you mean 'vision'"):
        scale_of_parameters(["text.weight", "vision.weight"], {"visoin": 0, ".*": 1})


def test_parameter_without_pattern_is_refused():
    with pytest.raises(ConfigError, match=r"leaves out vision\.weight"):
        scale_of_parameters(["text.weight", "vision.weight"], {"text": 1})


def test_scale_zero_freezes_and_never_reaches_the_optimizer():
    net = model()
    scales = freeze(net, {"vision": 0, "text": 0.1, ".*": 1})
    optimizer = build_optimizer(net, OptimizerConfig(lr=1.0), scales)
    assert not any(p.requires_grad for p in net["vision"].parameters())
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert id(net["vision"].weight) not in rates
    assert rates[id(net["text"].weight)] == (0.1, 0.01)
    assert rates[id(net["text"].bias)] == (0.1, 0.0)
    assert rates[id(net["norm"].weight)] == (1.0, 0.0)


def test_freezing_everything_is_refused():
    with pytest.raises(ConfigError, match="nothing would train"):
        freeze(model(), {".*": 0})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [1 / 3, 2 / 3, 1, 1, 1, 1]),
        ("linear", [1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25]),
        ("cosine", [1 / 3, 2 / 3, 1, 0.853553, 0.5, 0.146447]),
    ],
)
def test_learning_rate_over_six_steps_by_hand(name, expected):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = build_schedule(optimizer, ScheduleConfig(name, warmup_steps=2), steps=6)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(expected, abs=1e-6)
