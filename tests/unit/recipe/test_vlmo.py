"""VLMo's shipped recipes: what each stage trains, the released settings, and that variants change what they say."""

from dataclasses import asdict
from functools import cache

import pytest

from mmret.models import MODELS
from mmret.models.vlmo import LANGUAGE_STAGE, RELEASED_NO_DECAY
from mmret.objectives import OBJECTIVES
from mmret.recipe import load_recipe, stage_model_config
from mmret.training.optim import NO_DECAY, scale_of_parameters

SIZES = ("base", "base_plus", "large")
VARIANTS = (
    "as_released",
    "itc_only",
    "local_negatives",
    "separate_attention",
    "standard_transformer",
    "vl_layers_0",
    "vl_layers_6",
    "without_itm",
    "without_language_stage",
)
TUNED = ("finetune_coco", "finetune_flickr30k", "finetune_imagenet", "finetune_nlvr2", "finetune_vqav2")
ALL = (*SIZES, "vision", *TUNED, *(f"variants/{name}" for name in VARIANTS))


@cache
def recipe(name):
    return load_recipe(f"vlmo/{name}")


def stage_of(name, stage):
    return next(one for one in recipe(name).stages if one.name == stage)


@cache
def scales(name, stage):
    """Parameter -> scale of the learning rate; objectives on the meta device like the model."""
    found, chosen = recipe(name), stage_of(name, stage)
    model = MODELS["vlmo"].skeleton(stage_model_config(found, chosen))
    names = [f"model.{key}" for key, _ in model.named_parameters()]
    for key, config in chosen.active_objectives.items():
        names += [
            f"objectives.{key}.{own}" for own, _ in OBJECTIVES[config.name].for_model(config, model).named_parameters()
        ]
    return scale_of_parameters(names, chosen.lr_scale)


def trained(name, stage):
    return {key for key, scale in scales(name, stage).items() if scale}


@pytest.mark.parametrize("name", ALL)
def test_every_pattern_of_every_stage_matches(name):
    for stage in recipe(name).stages:
        assert trained(name, stage.name)


@pytest.mark.parametrize("size", SIZES)
def test_the_language_stage_trains_what_the_released_one_does(size):
    assert stage_of(size, "language").lr_scale == LANGUAGE_STAGE
    names = trained(size, "language")
    assert not any(part in name for name in names for part in ("attention", "image", "gamma", "pooler", "experts.vl"))
    parts = ("backbone.text.word", "backbone.modality", "backbone.norm", "objectives.mlm", "blocks.0.experts.text")
    assert all(any(part in name for name in names) for part in parts)
    config = stage_model_config(recipe(size), stage_of(size, "language"))
    assert (config.max_text_tokens, config.heads_of, config.vl_start) == (196, (), config.shape["depth"])


@pytest.mark.parametrize("size", SIZES)
def test_the_vision_language_stage_trains_everything_by_the_released_weights(size):
    assert set(scales(size, "vision_language").values()) == {1.0}
    objectives = stage_of(size, "vision_language").objectives
    assert {name: config.weight for name, config in objectives.items()} == {
        "itc": 0.5,
        "itc_vl": 0.5,
        "itm": 1.0,
        "mlm": 0.25,
    }


@pytest.mark.parametrize(
    "size, language, pairs", [("base", 2e-4, 2e-4), ("base_plus", 2e-4, 1e-4), ("large", 5e-5, 5e-5)]
)
def test_sizes_differ_in_size_and_learning_rates(size, language, pairs):
    found, base = recipe(size), recipe("base")
    assert [stage.optimizer.lr for stage in found.stages] == [language, pairs]
    changed = {key for key, value in asdict(found.model).items() if value != asdict(base.model)[key]}
    assert changed <= {"size", "checkpoint_blocks"}
    assert [(s.data, s.objectives, s.schedule, s.steps) for s in found.stages] == [
        (s.data, s.objectives, s.schedule, s.steps) for s in base.stages
    ]


@pytest.mark.parametrize("name", [*SIZES, "finetune_coco", "finetune_flickr30k", "finetune_nlvr2", "finetune_vqav2"])
def test_decay_groups_are_the_released_ones_by_name(name):
    for stage in recipe(name).stages:
        patterns = [one for entry in stage.optimizer.no_decay for one in NO_DECAY.get(entry, [entry])]
        assert patterns == RELEASED_NO_DECAY
        assert (stage.optimizer.betas, stage.optimizer.weight_decay) == ((0.9, 0.98), 0.01)


@pytest.mark.parametrize(
    "name, px, lr, steps, batch, warmup, drop_path",
    [
        ("finetune_coco", 384, 3e-5, 3000, 3072, 300, 0.2),
        ("finetune_flickr30k", 384, 3e-5, 1500, 3072, 150, 0.15),
        ("finetune_nlvr2", 384, 5e-5, 6750, 128, 675, 0.1),
        ("finetune_vqav2", 480, 3e-5, 50_000, 128, 5000, 0.15),
    ],
)
def test_fine_tuning_has_the_released_numbers(name, px, lr, steps, batch, warmup, drop_path):
    (stage,) = recipe(name).stages
    config = stage_model_config(recipe(name), stage)
    assert (config.image_px, config.drop_path) == (px, drop_path)
    assert (stage.optimizer.lr, stage.steps, stage.data.batch_size) == (lr, steps, batch)
    assert stage.schedule.warmup(stage.steps) == warmup


def test_pictures_are_mirrored_except_where_texts_speak_of_left_and_right():
    for name in ("base", "finetune_coco", "finetune_flickr30k"):
        assert recipe(name).stages[-1].data.augment.flip
    for name in ("finetune_vqav2", "finetune_nlvr2"):
        assert not recipe(name).stages[-1].data.augment.flip


def test_the_vqa_head_alone_learns_twenty_times_as_fast():
    found = scales("finetune_vqav2", "answers")
    assert {scale for name, scale in found.items() if name.startswith("objectives.vqa")} == {20.0}
    assert {scale for name, scale in found.items() if name.startswith("model.")} == {1.0}


@pytest.mark.parametrize("name, stage", [("vision", "vision"), ("finetune_imagenet", "imagenet")])
def test_stages_of_pictures_alone_leave_what_no_picture_reaches(name, stage):
    names = trained(name, stage)
    assert not any(".text." in part or "pooler" in part for part in names)
    assert any("experts.image" in part for part in names) and any("attention" in part for part in names)


def test_retrieval_leaves_what_neither_side_alone_reaches():
    names = trained("finetune_coco", "coco")
    assert not any("experts.vl" in name or "pooler" in name for name in names)
    assert any("projections" in name for name in names)


def differences(one, other, at=""):
    """Dotted places at which two trees differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = one.keys() | other.keys()
        return {
            place for key in keys for place in differences(one.get(key), other.get(key), f"{at}.{key}" if at else key)
        }
    return set() if one == other else {at}


def as_tree(name):
    found = recipe(name)
    objectives = {s.name: {key: asdict(config) for key, config in s.objectives.items()} for s in found.stages}
    stages = {s.name: {**asdict(s), "objectives": objectives[s.name]} for s in found.stages}
    return {**asdict(found), "stages": stages}


PAIRS = "stages.vision_language.objectives"
CHANGES = {
    "without_itm": {f"{PAIRS}.itm.weight"},
    "itc_only": {f"{PAIRS}.itm.weight", f"{PAIRS}.mlm.weight"},
    "local_negatives": {f"{PAIRS}.itm.negatives"},
    "separate_attention": {"model.shared_attention"},
    "vl_layers_6": {"model.vl_layers"},
    "vl_layers_0": {"model.vl_layers", f"{PAIRS}.itc.weight", f"{PAIRS}.itc_vl.weight"},
    "without_language_stage": {"stages.language", "stages.vision_language.init_from"},
}


@pytest.mark.parametrize("variant", CHANGES)
def test_variants_change_what_their_name_says(variant):
    assert differences(as_tree("base"), as_tree(f"variants/{variant}")) == CHANGES[variant] | {"name", "out"}


def test_the_standard_transformer_has_one_network_per_block_trained_in_every_stage():
    name = "variants/standard_transformer"
    for stage in ("language", "vision_language"):
        experts = {key.split(".experts.")[1].split(".")[0] for key in trained(name, stage) if ".experts." in key}
        assert experts == {"all"}
    assert "itc_vl" not in stage_of(name, "vision_language").active_objectives


def test_as_released_switches_every_departure_back():
    language, pairs = recipe("variants/as_released").stages
    assert language.data.masking.rule == pairs.data.masking.rule == "vlmo"
    assert language.optimizer.eps_added == pairs.optimizer.eps_added == "before_correction"
    for name in ("itc", "itc_vl"):
        objective = pairs.objectives[name]
        assert (objective.gradient, objective.mask_false_negatives, objective.clamp) == ("local", False, False)
    assert (pairs.objectives["itm"].mask_false_negatives, pairs.objectives["mlm"].average) == (False, "rank")


def test_starting_points_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("MMRET_VLMO_VISION", "/beit.pth")
    monkeypatch.setenv("MMRET_VLMO", "/vlmo.pt")
    assert load_recipe("vlmo/base").stages[0].init_from == "/beit.pth"
    assert load_recipe("vlmo/variants/without_language_stage").stages[0].init_from == "/beit.pth"
    for name in TUNED:
        assert load_recipe(f"vlmo/{name}").stages[0].init_from == "/vlmo.pt"
