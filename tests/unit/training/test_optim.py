import pytest
import torch
from torch import nn

from mmret.errors import ConfigError
from mmret.models.vlmo import RELEASED_NO_DECAY
from mmret.recipe.schema import OptimizerConfig, ScheduleConfig
from mmret.training.optim import build_optimizer, build_schedule, freeze, scale_of_parameters, with_layer_decay


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


def rates(net, **settings):
    """Parameter name -> learning rate at lr 1, with lr_scale 0.1 for text."""
    config = OptimizerConfig(lr=1.0, **settings)
    scales = with_layer_decay({name: 0.1 if "text" in name else 1.0 for name, _ in net.named_parameters()},
                              config.layer_decay, {"vision.weight": 2, "text.weight": 3})  # fmt: skip
    names = {id(p): name for name, p in net.named_parameters()}
    optimizer = build_optimizer(net, config, scales)
    return {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


def test_layer_decay_multiplies_lr_scale_and_leaves_heads_alone():
    net = nn.ModuleDict({"model": nn.ModuleDict({"vision": nn.Linear(1, 1), "text": nn.Linear(1, 1)})})
    net["objectives"] = nn.Linear(1, 1)
    found = rates(net, layer_decay=0.5)
    assert found["model.vision.weight"] == 0.25
    assert found["model.text.weight"] == pytest.approx(0.1 * 0.125)
    assert found["model.text.bias"] == pytest.approx(0.1)
    assert found["objectives.weight"] == 1.0
    assert rates(net)["model.vision.weight"] == 1.0


def test_layer_decay_groups_are_named_and_keep_weight_decay_apart():
    net = nn.ModuleDict({"a": nn.Linear(1, 1)})
    scales = with_layer_decay({"a.weight": 1.0, "a.bias": 1.0}, 0.5, {"a.weight": 1, "a.bias": 1})
    optimizer = build_optimizer(net, OptimizerConfig(lr=1.0), scales)
    assert [group["name"] for group in optimizer.param_groups] == ["x0.5", "x0.5, no decay"]


def test_a_frozen_layer_stays_frozen_under_layer_decay():
    assert with_layer_decay({"model.a": 0.0}, 0.9, {"a": 3}) == {"model.a": 0.0}


@pytest.mark.parametrize("decay", [0, 1.5])
def test_layer_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ConfigError, match=r"layer_decay must be above 0 and at most 1, got"):
        OptimizerConfig(lr=1.0, layer_decay=decay)


def test_eps_before_correction_takes_the_older_step():
    """One step from 0 with gradient g: v = (1 - b) g^2, so the step is lr g / (|g| + eps / sqrt(1 - b))."""
    gradient, eps = 1e-6, 1e-6
    moved = {}
    for added in ("after_correction", "before_correction"):
        net = nn.ModuleDict({"a": nn.Linear(1, 1, bias=False)})
        nn.init.zeros_(net["a"].weight)
        config = OptimizerConfig(lr=1.0, weight_decay=0.0, betas=(0.9, 0.99), eps=eps, eps_added=added)
        optimizer = build_optimizer(net, config, {"a.weight": 1.0})
        net["a"].weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
        moved[added] = -net["a"].weight.item()
    assert moved["after_correction"] == pytest.approx(0.5, rel=1e-4)
    assert moved["before_correction"] == pytest.approx(1 / 11, rel=1e-4)


def test_eps_at_an_unknown_place_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"eps_added must be .* got 'before_corection'\. Did you mean 'before_corr"):
        OptimizerConfig(lr=1.0, eps_added="before_corection")


def test_a_named_preset_stands_for_its_patterns():
    net = nn.ModuleDict({"positions": nn.ParameterDict({"table": nn.Parameter(torch.zeros(1))}), "a": nn.Linear(1, 1)})
    scales = dict.fromkeys((name for name, _ in net.named_parameters()), 1.0)
    groups = [
        [(group["weight_decay"], len(group["params"])) for group in build_optimizer(net, config, scales).param_groups]
        for config in (
            OptimizerConfig(lr=1.0, no_decay=["vlmo_released"]),
            OptimizerConfig(lr=1.0, no_decay=RELEASED_NO_DECAY),
            OptimizerConfig(lr=1.0, no_decay=["vlmo_released", "a.weight"]),
        )
    ]
    assert groups[0] == groups[1] == [(0.01, 1), (0.0, 2)]
    assert groups[2] == [(0.0, 3)]


def test_warm_up_may_be_a_share_of_the_steps():
    assert ScheduleConfig(warmup_fraction=0.1).warmup(steps=25) == 2
    assert ScheduleConfig(warmup_steps=7).warmup(steps=25) == 7
    with pytest.raises(ConfigError, match="both set; give one"):
        ScheduleConfig(warmup_steps=1, warmup_fraction=0.1)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    build_schedule(optimizer, ScheduleConfig("constant", warmup_fraction=0.5), steps=4)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1 / 3)


def test_on_a_gpu_torch_chooses_how_parameters_are_stepped_together():
    """`fused: False` would be a choice, too: none of them together."""
    net = model()
    scales = freeze(net, {".*": 1})
    assert build_optimizer(net, OptimizerConfig(lr=1.0), scales).defaults["fused"] is True
    elsewhere = build_optimizer(net.to("meta"), OptimizerConfig(lr=1.0), scales).defaults
    assert (elsewhere["fused"], elsewhere["foreach"]) == (None, None)
