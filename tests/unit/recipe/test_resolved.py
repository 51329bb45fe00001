"""A resolved recipe is a fixed point, and its fingerprint moves only with what changes the result."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmret.recipe import load_recipe, recipe_fingerprint, resolve_to_yaml
from mmret.recipe.interpolation import escape
from mmret.recipe.problem import Origin, Problems
from mmret.recipe.yaml_marks import dump_yaml, parse_yaml
from tests.fake_tables import TINY

ODD = ["on", "No", "012", "12:30", "1e-5", "0x1f", "~", "null", ".inf", "<<", "-\ta", "a:\tb", "#", "'", "&a", "|", "%"]
"""Texts that a careless writer would leave unquoted."""
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=12),
    st.sampled_from(
        [
            "on",
            "No",
            "012",
            "12:30",
            "1e-5",
            "0x1f",
            "~",
            "null",
            ".inf",
            "<<",
            "-\ta",
            "a:\tb",
            "#",
            "'",
            "&a",
            "|",
            ">",
            "?",
            "@",
            "%",
        ]
    ),
)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


@given(trees)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_what_is_written_reads_back_the_same(tree):
    problems = Problems()
    back = parse_yaml(dump_yaml({"tree": tree}), Origin("text", 1, 1), problems).plain()["tree"]
    assert (back, repr(back), problems) == (tree, repr(tree), [])


@pytest.fixture
def reload(write):
    """reload(text, overrides) -> (recipe, its YAML, the recipe of that YAML)."""

    def again(text, overrides=()):
        recipe = load_recipe(write(text), overrides)
        resolved = resolve_to_yaml(recipe)
        return recipe, resolved, load_recipe(write(resolved, "resolved.yaml"))

    return again


awkward = st.text(alphabet="ab$\\{}'\": #\n\t${}é\u2028", max_size=10)


@given(
    texts=st.lists(awkward.filter(lambda text: text != "???"), min_size=3, max_size=3),
    lr=st.floats(min_value=1e-12, max_value=1e3),
    seed=st.integers(0, 2**40),
    scales=st.dictionaries(st.text(alphabet="ab.*|$^", max_size=4), st.floats(0, 2), max_size=3),
    weights=st.lists(st.floats(0.001, 100) | st.integers(1, 9), min_size=2, max_size=2),
)
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_saved_resolved_recipe_is_a_fixed_point(reload, texts, lr, seed, scales, weights):
    def compiles(pattern):
        try:
            return re.compile(pattern) is not None
        except re.error:
            return False

    scales = {pattern: scale for pattern, scale in scales.items() if compiles(pattern)} | {".*": 1.0}
    changes = {
        "out": texts[0],
        "model.text": texts[1],
        "stages[0].objectives.itc.head": texts[2],
        "seed": seed,
        "stages[0].optimizer.lr": lr,
        "stages[0].lr_scale": scales,
        "stages[0].data.sources": {"demo/flags": weights[0], "demo/emoji": {"weight": weights[1]}},
        "stages[0].model": {"mean": [0.1, 2], "text": texts[0]},
    }
    flat = {key: value for key, value in changes.items() if not isinstance(value, dict)}
    overrides = [f"{key}={dump_yaml([escape(value)])[2:]}" for key, value in flat.items()]
    tree = parse_yaml(TINY, Origin("tiny", 1, 1), Problems()).plain()
    tree["stages"][0] |= {"lr_scale": scales, "model": escape(changes["stages[0].model"])}
    tree["stages"][0]["data"]["sources"] = changes["stages[0].data.sources"]
    recipe, resolved, again = reload(dump_yaml(tree), overrides)
    assert (recipe.out, recipe.model.text, recipe.stages[0].objectives["itc"].head) == tuple(texts)
    assert again == recipe
    assert list(again.stages[0].lr_scale) == list(scales)
    assert resolve_to_yaml(again) == resolved
    assert recipe_fingerprint(again) == recipe_fingerprint(recipe)


def test_the_resolved_recipe_stands_alone(reload, write, workplace):
    write(TINY, "_base.yaml")
    recipe, resolved, _ = reload("extends: _base.yaml\nfeature_cache: {}\nname: ${oc.env:MMRET_NONE,child}\n")
    (workplace / "_base.yaml").unlink()
    assert "extends" not in resolved and "${" not in resolved
    assert load_recipe("resolved.yaml") == recipe


SAME = [
    "name=other",
    "out=elsewhere",
    "gallery=1",
    "trainer.devices=2",
    "trainer.log_every=3",
    "trainer.threads=1",
    "trainer.evaluate_every=5",
    "stages[0].data.num_workers=2",
    "evaluation.batch_size=7",
    "evaluation.during_training=[demo/flags]",
]
OTHER = [
    "seed=1",
    "model.dim=16",
    "stages[0].steps=11",
    "stages[0].data.batch_size=4",
    "stages[0].data.sources.demo/flags.max_samples=3",
    "stages[0].objectives.itc.temperature=1",
    "stages[0].optimizer.lr=2e-3",
    "stages[0].model={text_in_score: false}",
    "trainer.precision=bf16-mixed",
    "trainer.accumulate=2",
    "feature_cache={}",
    "evaluation.benchmarks=[demo/flags]",
]


@pytest.mark.parametrize("override", SAME)
def test_fingerprint_ignores_what_leaves_the_result_alone(override, write):
    assert recipe_fingerprint(load_recipe(write(TINY), [override])) == recipe_fingerprint(load_recipe("recipe.yaml"))


@pytest.mark.parametrize("override", OTHER)
def test_fingerprint_moves_with_what_changes_the_result(override, write):
    assert recipe_fingerprint(load_recipe(write(TINY), [override])) != recipe_fingerprint(load_recipe("recipe.yaml"))


def test_fingerprint_moves_with_the_order_of_lr_scale(write):
    text = TINY + "    lr_scale: {a: 0, b: 1}\n"
    swapped = TINY + "    lr_scale: {b: 1, a: 0}\n"
    prints = [recipe_fingerprint(load_recipe(write(recipe))) for recipe in (text, swapped)]
    assert prints[0] != prints[1]
