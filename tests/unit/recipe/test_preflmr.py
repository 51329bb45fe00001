"""PreFLMR's shipped recipes: what each stage trains, and that variants differ in what they say and nothing else."""

from dataclasses import asdict
from functools import cache

import pytest

from mmret.models import MODELS
from mmret.recipe import load_recipe, stage_model_config
from mmret.training.optim import scale_of_parameters

SIZES = ("vit_b", "vit_l", "vit_g")
VARIANTS = ("text_large", "mapping_layers_2", "mapping_layers_3", "mapping_layers_4", "without_patches")


@cache
def recipe(name):
    return load_recipe(f"preflmr/{name}")


def scales(name, stage):
    """Parameter -> scale of the learning rate, on the meta device."""
    found = recipe(name)
    (chosen,) = [one for one in found.stages if one.name == stage]
    model = MODELS["preflmr"].skeleton(stage_model_config(found, chosen))
    return scale_of_parameters([f"model.{key}" for key, _ in model.named_parameters()], chosen.lr_scale)


def modules(name, stage):
    """First part of the name of each parameter that trains -> scales."""
    found = {}
    for key, scale in scales(name, stage).items():
        if scale:
            found.setdefault(key.split(".")[1], set()).add(scale)
    return found


MAPPING = {"prefix", "mapping_in", "mapping", "mapping_out"}


def test_stage_0_trains_one_text_encoder_and_nothing_else():
    assert modules("vit_b", "text") == {"document_text": {1.0}, "document_text_linear": {1.0}}


def test_stage_1_trains_the_mapping_alone_with_the_text_out_of_the_score():
    assert modules("vit_b", "mapping") == {name: {1.0} for name in MAPPING}
    found = recipe("vit_b")
    assert [stage_model_config(found, stage).query_text_in_score for stage in found.stages] == [True, False, True, True]


@pytest.mark.parametrize("stage", ["intermediate", "full"])
def test_later_stages_train_all_but_the_vision_tower_the_mapping_ten_times_as_fast(stage):
    text = {"document_text": {0.1}, "document_text_linear": {0.1}}
    if stage == "full":
        text |= {"query_text": {0.1}, "query_text_linear": {0.1}}
    assert modules("vit_b", stage) == {**{name: {1.0} for name in MAPPING}, **text}


def test_the_query_encoder_splits_off_in_the_last_stage_only():
    found = recipe("vit_b")
    assert [stage_model_config(found, s).separate_text_encoders for s in found.stages] == [False, False, False, True]


@pytest.mark.parametrize("name", [*SIZES, *(f"variants/{name}" for name in VARIANTS)])
def test_every_pattern_matches_and_the_vision_tower_never_trains(name):
    for stage in recipe(name).stages:
        assert not any(scale for key, scale in scales(name, stage.name).items() if ".vision." in key)


def test_sizes_differ_in_the_vision_tower_only():
    small, large = (asdict(recipe(name).model) for name in ("vit_b", "vit_l"))
    assert {key for key in small if small[key] != large[key]} == {"vision"}
    assert recipe("vit_b").stages == recipe("vit_l").stages == recipe("vit_g").stages


@pytest.mark.parametrize("variant, left_out", [("without_intermediate", "intermediate"), ("colbertv2", "text")])
def test_variants_that_leave_a_stage_out_keep_the_others_as_they_are(variant, left_out):
    base, other = recipe("vit_b"), recipe(f"variants/{variant}")
    assert other.stages == [stage for stage in base.stages if stage.name != left_out]
    assert (other.trainer, other.evaluation) == (base.trainer, base.evaluation)


@pytest.mark.parametrize(
    "variant, changes",
    [
        ("text_large", {"text": "bert-large-uncased", "vision": "openai/clip-vit-large-patch14"}),
        ("mapping_layers_2", {"mapping_layers": 2}),
        ("mapping_layers_3", {"mapping_layers": 3}),
        ("mapping_layers_4", {"mapping_layers": 4}),
        ("without_patches", {"use_mapping": False}),
        ("without_instructions", {"use_instructions": False, "instruction_separator": None}),
        ("colbertv2", {"text": "colbert-ir/colbertv2.0"}),
    ],
)
def test_variants_change_what_their_name_says(variant, changes):
    assert asdict(recipe(f"variants/{variant}").model) == {**asdict(recipe("vit_b").model), **changes}


def test_fine_tuning_starts_from_the_folder_that_the_environment_names(monkeypatch):
    monkeypatch.setenv("MMRET_PREFLMR", "/models/preflmr")
    for name in ("evqa", "okvqa", "infoseek"):
        found = load_recipe(f"preflmr/finetune_{name}")
        assert found.stages[0].init_from == found.model.text == found.model.vision == "/models/preflmr"
        assert found.evaluation.benchmarks == [f"m2kr/{name}"]


def test_fine_tuning_freezes_the_vision_tower_only():
    trained = set(modules("finetune_evqa", "finetune"))
    assert trained == MAPPING | {"document_text", "document_text_linear", "query_text", "query_text_linear"}
