"""Merging, overriding, resolving: what a recipe means."""

import pytest

from mmret.errors import ConfigError
from mmret.recipe import Override, load_recipe, read_recipe, stage_model_config
from tests.fake_tables import TINY, FusionConfig, ITCConfig, LateConfig, TowerConfig


def test_named_sections_become_their_dataclasses(write):
    recipe = load_recipe(write(TINY))
    assert recipe.model == LateConfig(dim=32)
    assert recipe.stages[0].objectives == {"itc": ITCConfig(temperature=0.05)}
    assert recipe.out == "runs/tiny"


def test_a_bare_number_is_a_sources_weight(write):
    text = TINY.replace("{demo/flags: 1}", "{demo/flags: 1, demo/emoji: {weight: 2, max_samples: 5}}")
    sources = load_recipe(write(text)).stages[0].data.sources
    assert {name: (s.weight, s.max_samples) for name, s in sources.items()} == {
        "demo/flags": (1.0, None),
        "demo/emoji": (2.0, 5),
    }


def test_two_objectives_of_one_class_differ_by_their_log_names(write):
    text = TINY.replace("itc: {temperature: 0.05}", "itc: {temperature: 0.05}\n      vl: {name: itc, temperature: 1}")
    objectives = load_recipe(write(text)).stages[0].objectives
    assert [(key, o.name, o.temperature) for key, o in objectives.items()] == [("itc", "itc", 0.05), ("vl", "itc", 1.0)]


@pytest.mark.parametrize(
    ("text", "value"), [("1e-5", 1e-5), ("1.5E-3", 1.5e-3), ("3", 3.0), ("20_000", 20000.0), (".5", 0.5), ("1e3", 1e3)]
)
def test_numbers_read_as_people_write_them(text, value, write):
    recipe = load_recipe(write(TINY.replace("1e-3", text)))
    assert recipe.stages[0].optimizer.lr == value
    assert load_recipe(write(TINY), [f"stages[0].optimizer.lr={text}"]).stages[0].optimizer.lr == value


def test_lr_scale_keeps_the_order_it_is_written_in_and_replaces_the_default(write):
    text = TINY + "    lr_scale: {'text\\.': 0, 'a': 0.5, '.*': 1}\n"
    assert list(load_recipe(write(text)).stages[0].lr_scale.items()) == [("text\\.", 0.0), ("a", 0.5), (".*", 1.0)]
    assert load_recipe(write(TINY)).stages[0].lr_scale == {".*": 1.0}


def test_a_pattern_added_by_override_is_asked_first(write):
    recipe = load_recipe(write(TINY + "    lr_scale: {'.*': 1}\n"), ["stages[0].lr_scale['text\\.']=0"])
    assert list(recipe.stages[0].lr_scale.items()) == [("text\\.", 0.0), (".*", 1.0)]


def test_extends_merges_mappings_and_replaces_lists(write):
    write(TINY + "trainer: {devices: 2, log_every: 5}\nevaluation: {benchmarks: [demo/flags]}\n", "_base.yaml")
    child = "extends: _base.yaml\nname: child\ntrainer: {log_every: 7}\nevaluation: {benchmarks: []}\n"
    recipe = load_recipe(write(child))
    assert (recipe.name, recipe.out, recipe.model.dim) == ("child", "runs/child", 32)
    assert (recipe.trainer.devices, recipe.trainer.log_every) == (2, 7)
    assert recipe.evaluation.benchmarks == []


def test_extends_finds_parents_beside_the_file_and_among_the_shipped(write):
    write(TINY, "recipes/late/_base.yaml")
    write("extends: _base.yaml\nseed: 3\n", "recipes/late/small.yaml")
    assert load_recipe("late/small").seed == 3
    assert load_recipe(write("extends: late/small\nname: mine\n", "elsewhere/my.yaml")).seed == 3


def test_a_circle_of_files_is_refused_with_its_way(write):
    write("extends: b.yaml\n", "a.yaml")
    write("extends: a.yaml\n", "b.yaml")
    with pytest.raises(ConfigError, match=r"goes in a circle: a\.yaml -> b\.yaml -> a\.yaml"):
        load_recipe("a.yaml")


def test_another_architecture_replaces_the_parents_model_section(write):
    write(TINY, "_base.yaml")
    assert load_recipe(write("extends: _base.yaml\nmodel: {name: fusion}\n")).model == FusionConfig()
    assert load_recipe(write("extends: _base.yaml\nmodel: {px: 8}\n")).model == LateConfig(dim=32, px=8)


def test_null_switches_an_optional_section_off_and_a_mapping_switches_it_on(write):
    text = TINY + "feature_cache: {max_gb: 1}\n"
    cache = load_recipe(write(text)).feature_cache
    assert cache is not None and cache.max_gb == 1.0
    assert load_recipe(write(text), ["feature_cache=null"]).feature_cache is None
    assert load_recipe(write(text), ["~feature_cache"]).feature_cache is None
    assert load_recipe(write(TINY), ["feature_cache={}"]).feature_cache is not None


class TestOverrides:
    def test_reach_stages_by_position_and_by_name(self, write):
        path = write(TINY)
        for key in ("stages[0].steps", "stages.mapping.steps", "stages.0.steps"):
            assert load_recipe(path, [f"{key}=5"]).stages[0].steps == 5

    def test_reach_a_source_that_was_a_bare_number(self, write):
        recipe = load_recipe(write(TINY), ["stages[0].data.sources.demo/flags.max_samples=4"])
        source = recipe.stages[0].data.sources["demo/flags"]
        assert (source.weight, source.max_samples) == (1.0, 4)

    def test_make_the_sections_on_their_way(self, write):
        assert load_recipe(write(TINY), ["trainer.devices=2", "model.tower.layers=3"]).model.tower == TowerConfig(3)

    def test_the_last_one_counts(self, write):
        assert load_recipe(write(TINY), ["seed=1", "seed=2"]).seed == 2

    def test_take_yaml_values(self, write):
        overrides = ["model.mean=[0.1, 0.2, 0.3]", "name='12'", "stages[0].objectives.itc={temperature: 2}"]
        recipe = load_recipe(write(TINY), overrides)
        assert recipe.model.mean == [0.1, 0.2, 0.3]
        assert recipe.name == "12"
        assert recipe.stages[0].objectives["itc"].temperature == 2.0

    def test_delete_back_to_the_default(self, write):
        assert load_recipe(write(TINY), ["~model.dim"]).model.dim == 128

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("seeed=1", "override seeed=1  seeed  unknown key. Did you mean 'seed'?"),
            ("trainr.devices=2", "override trainr.devices=2  trainr  unknown key. Did you mean 'trainer'?"),
            ("trainer.device=2", "override trainer.device=2  trainer.device  unknown key. Did you mean 'devices'?"),
            ("stages[3].steps=2", "override stages[3].steps=2  stages[3]  stages has 1 entries, counted from 0"),
            ("stages.maping.steps=2", "stages.maping  no entry of that name; known: mapping. Did you mean 'mapping'?"),
            ("seed.x=1", "override seed.x=1  seed.x  seed is"),
            ("~trainer.devices", "trainer  nothing to take away: the recipe does not set it."),
            ("~model.dims", "model.dims  nothing to take away: the recipe does not set it. Did you mean 'dim'?"),
            ("~seed=3", "override ~seed=3  '~' takes a key away"),
            ("+seed=3", "override +seed=3  write seed=3"),
            ("--seed=3", "override --seed=3  write seed=3"),
            ("other.yaml", "override other.yaml  expected key.path=value"),
            ("seed=[1", "override seed=[1  seed  this is not YAML"),
            ("trainer.precision=no", "override trainer.precision=no  trainer.precision  'no' is false to some"),
            ("extends=x.yaml", "override extends=x.yaml  extends  only a file can say"),
            ("stages[0].data.batch_size=7 ", None),
        ],
    )
    def test_are_cited_when_they_are_wrong(self, override, message, write):
        path = write(TINY + "seed: 1\n")
        if message is None:
            assert load_recipe(path, [override]).stages[0].data.batch_size == 7
            return
        with pytest.raises(ConfigError) as error:
            load_recipe(path, [override])
        assert message in str(error.value)

    def test_of_a_launcher_are_cited_as_its_own(self, write):
        with pytest.raises(ConfigError, match=r"^fabric run trainer\.strategy=dp  trainer\.strategy  must be "):
            load_recipe(write(TINY), [Override("trainer.strategy=dp", "fabric run")])


class TestInterpolation:
    def test_refers_to_keys_defaults_and_the_environment(self, write, monkeypatch):
        monkeypatch.setenv("MMRET_TEXT", "from-env")
        text = TINY.replace("dim: 32", "dim: ${trainer.log_every}\n  text: ${oc.env:MMRET_TEXT}-${oc.env:MMRET_NO,x}")
        model = load_recipe(write(text)).model
        assert (model.dim, model.text) == (10, "from-env-x")

    def test_can_stand_for_a_whole_section(self, write):
        second = "  - name: joint\n    steps: 5\n    data: ${stages[0].data}\n    objectives: ${stages[0].objectives}\n"
        recipe = load_recipe(write(TINY + second + "    optimizer: ${stages[0].optimizer}\n"))
        assert recipe.stages[1].data == recipe.stages[0].data
        assert recipe.stages[1].objectives == recipe.stages[0].objectives
        assert recipe.stages[1].optimizer.lr == 1e-3

    def test_is_checked_against_the_type_of_its_place(self, write):
        text = TINY.replace("dim: 32", "dim: ${name}")
        with pytest.raises(ConfigError, match=r"recipe\.yaml:4:3  model\.dim  expected a whole number, got 'tiny'"):
            load_recipe(write(text))


def test_a_stages_model_section_changes_only_what_it_names(write):
    recipe = load_recipe(write(TINY + "    model: {text_in_score: false, tower: {layers: 5}}\n"))
    assert recipe.stages[0].model == {"text_in_score": False, "tower": {"layers": 5}}
    changed = stage_model_config(recipe, recipe.stages[0])
    assert changed == LateConfig(dim=32, text_in_score=False, tower=TowerConfig(layers=5))
    assert recipe.model.text_in_score


def test_origins_name_file_and_line_override_or_default(write):
    write("seed: 4\ntrainer:\n  devices: 2\n", "_base.yaml")
    path = write("extends: _base.yaml\n" + TINY)
    overrides = ["stages.mapping.steps=5", Override("trainer.num_nodes=2", "fabric run")]
    origins = read_recipe(path, overrides).origins()
    assert {key: origins[key] for key in origins if origins[key] != "default"} == {
        "name": "recipe.yaml:2",
        "seed": "_base.yaml:1",
        "model.name": "recipe.yaml:4",
        "model.dim": "recipe.yaml:5",
        "stages[0].name": "recipe.yaml:7",
        "stages[0].steps": "override",
        "stages[0].data.batch_size": "recipe.yaml:10",
        "stages[0].data.sources.demo/flags.weight": "recipe.yaml:11",
        "stages[0].objectives.itc.name": "recipe.yaml:13",
        "stages[0].objectives.itc.temperature": "recipe.yaml:13",
        "stages[0].optimizer.lr": "recipe.yaml:14",
        "trainer.devices": "_base.yaml:3",
        "trainer.num_nodes": "fabric run",
    }
    assert origins["trainer.precision"] == "default"
