"""A child recipe that changes its parent's stages by name."""

import pytest

from mmret.recipe import RecipeError, load_recipe
from tests.fake_tables import TINY

PARENT = TINY + "    lr_scale: {text: 1, '.*': 0}\n"


@pytest.fixture
def child(write):
    """child(text) -> the recipe of a child that says so."""
    write(PARENT, "_base.yaml")
    return lambda text: load_recipe(write(f"extends: _base.yaml\nname: child\n{text}"))


def test_only_what_the_child_says_of_a_stage_changes(child):
    parent = load_recipe("_base.yaml").stages[0]
    (stage,) = child(
        f"stages: {{{parent.name}: {{objectives: {{itc: {{weight: 0.5}}}}, data: {{batch_size: 4}}}}}}\n"
    ).stages
    assert (stage.objectives["itc"].weight, stage.data.batch_size) == (0.5, 4)
    assert stage.objectives["itc"].temperature == parent.objectives["itc"].temperature
    assert (stage.steps, stage.data.sources, stage.lr_scale) == (parent.steps, parent.data.sources, parent.lr_scale)


def test_lr_scale_is_replaced_whole_as_its_order_counts(child):
    name = load_recipe("_base.yaml").stages[0].name
    assert child(f"stages: {{{name}: {{lr_scale: {{vision: 1, '.*': 0.5}}}}}}\n").stages[0].lr_scale == {
        "vision": 1,
        ".*": 0.5,
    }


def test_null_leaves_a_stage_out_and_a_list_replaces_all(write):
    second = TINY[TINY.index("  - name:") :].replace("- name: ", "- name: second_", 1)
    write(TINY + second, "_base.yaml")
    first, other = load_recipe("_base.yaml").stages
    assert other.name == f"second_{first.name}"
    found = load_recipe(write(f"extends: _base.yaml\nstages: {{{first.name}: null}}\n")).stages
    assert found == [other]
    assert load_recipe(write("extends: _base.yaml\nstages:\n" + second)).stages == [other]


def test_a_stage_that_the_parent_does_not_have_is_refused_with_the_nearest_name(child):
    name = load_recipe("_base.yaml").stages[0].name
    with pytest.raises(
        RecipeError, match=rf"recipe.yaml:3:\d+  stages.{name}x  no stage of that name below; .*{name}'"
    ):
        child(f"stages: {{{name}x: {{steps: 3}}}}\n")
