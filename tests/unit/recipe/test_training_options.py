"""Options of a stage that must agree with others: augmentation, weights of objectives, warm-up."""

import pytest

from mmret.recipe import RecipeError, load_recipe
from tests.fake_tables import TINY


def stage_line(text):
    return TINY + f"    {text}\n"


def test_random_views_and_a_feature_cache_do_not_go_together(write):
    path = write(TINY)
    load_recipe(path, ["stages[0].data.augment={flip: false}"])
    with pytest.raises(
        RecipeError, match=r"stages\[0\]\.data\.augment  random views of pictures are in no feature_cach"
    ):
        load_recipe(path, ["stages[0].data.augment={}", "feature_cache={}"])


def test_augmentation_is_off_unless_asked_for(write):
    assert load_recipe(write(TINY)).stages[0].data.augment is None
    found = load_recipe("recipe.yaml", ["stages[0].data.augment={}"]).stages[0].data.augment
    assert (found.crop_scale, found.flip, found.ops, found.magnitude) == ((0.5, 1.0), True, 2, 7)


def test_objectives_of_weight_0_are_left_out_but_not_all_of_them(write):
    path = write(TINY)
    recipe = load_recipe(path, ["stages[0].objectives.match={weight: 0}"])  # this model cannot read pairs
    assert recipe.stages[0].active_objectives.keys() == {"itc"}
    with pytest.raises(RecipeError, match=r"stages\[0\]\.objectives  every weight is 0; want one above 0"):
        load_recipe(path, ["stages[0].objectives.itc.weight=0"])


def test_warm_up_is_said_once(write):
    path = write(stage_line("schedule: {warmup_fraction: 0.1}"))
    assert load_recipe(path).stages[0].schedule.warmup(10) == 1
    with pytest.raises(RecipeError, match=r"warmup_steps and warmup_fraction are both set"):
        load_recipe(path, ["stages[0].schedule.warmup_steps=3"])
