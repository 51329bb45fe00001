"""What a bench file may say, and what it is refused for."""

import json
from pathlib import Path

import pytest

from mmret.bench import read_bench, resolve_variants
from mmret.bench.read import is_bench
from mmret.bench.target import primary_key, validation_keys
from mmret.errors import ConfigError
from mmret.recipe.resolved import plain
from mmret.recipe.shipped import names
from tests.unit.bench.builders import write_bench

SHIPPED = names("bench")


def refusal(path, *overrides, only=()):
    with pytest.raises(ConfigError) as caught:
        resolve_variants(read_bench(path, overrides), only=only)
    return str(caught.value)


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path):
    assert "Did you mean 'seeds'?" in refusal(write_bench(tmp_path, sed="[0]"))
    variants = "{a: {recipe: toy.yaml, override: []}}"
    assert "Did you mean 'overrides'?" in refusal(write_bench(tmp_path, variants=variants))


@pytest.mark.parametrize("budget", ["{}", "{steps: 5, samples: 9}"])
def test_a_budget_is_counted_in_exactly_one_unit(tmp_path, budget):
    assert "exactly one of steps, samples, seconds and flops" in refusal(write_bench(tmp_path, budget=budget))


def test_seeds_are_different(tmp_path):
    assert "seeds" in refusal(write_bench(tmp_path, seeds="[1, 1]"))


def test_a_variant_without_a_recipe_is_named(tmp_path):
    assert "variants b: no recipe" in refusal(write_bench(tmp_path, variants="{a: {recipe: toy.yaml}, b: {}}"))


def test_what_is_wrong_with_a_recipe_says_of_which_variant(tmp_path):
    path = write_bench(tmp_path, variants="{a: {recipe: toy.yaml}, b: {recipe: toy.yaml, overrides: [model.widht=8]}}")
    message = refusal(path)
    assert "variants.b" in message and "Did you mean 'width'?" in message


def test_only_wants_known_variants(tmp_path):
    assert "no such variant; known: a, b" in refusal(write_bench(tmp_path), only=["c"])


def test_variants_measured_on_different_sets_are_refused(tmp_path):
    path = write_bench(tmp_path, evaluation=None)
    text = (tmp_path / "toy.yaml").read_text().replace("demo/emoji/unseen_both", "demo/emoji/unseen_style")
    (tmp_path / "other.yaml").write_text(text)
    path.write_text(path.read_text().replace("b: {recipe: toy.yaml", "b: {recipe: other.yaml"))
    message = refusal(path)
    assert "different sets" in message and "b: demo/emoji/unseen_style" in message


@pytest.mark.parametrize("override", ["evaluation.benchmarks=[demo/flags]", "seed=3", "out=elsewhere"])
def test_what_the_bench_decides_no_variant_may(tmp_path, override):
    variants = f"{{a: {{recipe: toy.yaml}}, b: {{recipe: toy.yaml, overrides: ['{override}']}}}}"
    assert "is the bench's to say" in refusal(write_bench(tmp_path, variants=variants))


def test_all_variants_get_the_bench_s_sources_and_who_changes_them_is_marked(tmp_path):
    changed = "overrides: ['stages.second.data.sources={demo/flags_describe: 1}']"
    path = write_bench(
        tmp_path,
        sources="{demo/emoji_to_image: 1}",
        variants=f"{{a: {{recipe: toy.yaml}}, b: {{recipe: toy.yaml, {changed}}}}}",
    )
    a, b = resolve_variants(read_bench(path))
    assert [list(stage.data.sources) for stage in a.recipe.stages] == [["demo/emoji_to_image"]] * 2
    assert list(b.recipe.stages[1].data.sources) == ["demo/flags_describe"]
    assert (a.data_differs, b.data_differs) == (False, True)


def test_in_tiny_size_a_variant_is_what_its_tiny_section_says(tmp_path):
    path = write_bench(
        tmp_path,
        variants="{a: {recipe: nowhere, overrides: [model.depth=9], tiny: {recipe: toy.yaml}}}",
        tiny="{name: small}",
    )
    loaded = read_bench(path, ["size=tiny", "seeds=[7]"])
    (variant,) = resolve_variants(loaded)
    assert (loaded.bench.name, loaded.bench.seeds, variant.recipe.model.depth) == ("small", [7], None)
    assert "nowhere" in refusal(path)


def test_a_bench_of_one_size_says_so(tmp_path):
    assert "it comes in one size" in refusal(write_bench(tmp_path), "size=tiny")


def test_the_primary_metric_is_known_by_either_name_and_must_be_measured(tmp_path):
    bench = read_bench(write_bench(tmp_path)).bench
    assert primary_key(bench, ["demo/emoji/unseen_both"]) == "emoji/unseen_both/recall@1"
    bench.primary = "emoji/unseen_both/mrr"
    assert primary_key(bench, ["demo/emoji"]) == "emoji/unseen_both/mrr"
    with pytest.raises(ConfigError, match=r"recall@1 is not measured|mrr is not measured"):
        primary_key(bench, ["demo/flags"])


def test_a_sweep_wants_validation_sets_that_are_no_test_sets(tmp_path):
    assert validation_keys(read_bench(write_bench(tmp_path)).bench) == ["emoji/validation/recall@1"]
    for evaluation, message in (
        ("{benchmarks: [demo/emoji/unseen_both]}", "sets to choose by that are no test sets"),
        ("{benchmarks: [demo/emoji], validation: [demo/emoji/validation]}", "among evaluation.benchmarks too"),
    ):
        with pytest.raises(ConfigError, match=message):
            validation_keys(read_bench(write_bench(tmp_path, evaluation=evaluation)).bench)


@pytest.mark.parametrize("size", ["full", "tiny"])
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_bench_resolves_in_both_sizes(name, size):
    loaded = read_bench(SHIPPED[name], [f"size={size}"])
    variants = resolve_variants(loaded)  # reads every recipe, spec and benchmark that is named
    assert [variant.name for variant in variants] == [*loaded.bench.variants]
    assert primary_key(loaded.bench, variants[0].recipe.evaluation.benchmarks)
    if size == "tiny":
        assert loaded.bench.name == f"{name}-tiny", "each size has a folder of its own"


@pytest.mark.parametrize("size", ["full", "tiny"])
@pytest.mark.parametrize("name", SHIPPED)
def test_no_two_variants_of_a_shipped_bench_are_the_same_run(name, size):
    runs = {}
    for variant in resolve_variants(read_bench(SHIPPED[name], [f"size={size}"])):
        stages = plain(variant.recipe.stages)
        for stage in stages:
            stage["data"]["block_size"] = stage["data"]["block_size"] or stage["data"]["batch_size"]  # what null means
        key = json.dumps([plain(variant.recipe.model), stages, variant.share, dict(variant.environ)], default=str)
        runs.setdefault(key, []).append(variant.name)
    assert [names for names in runs.values() if len(names) > 1] == []


def test_the_studies_are_shipped_and_told_from_recipes():
    assert {"architectures", "preflmr", "vlm2vec", "vlmo", "data"} <= set(SHIPPED)
    assert not [name for name in names("recipe") if name.startswith("bench/")]
    assert is_bench(SHIPPED["vlmo"]) and is_bench("bench/vlmo")
    assert not is_bench(Path(names("recipe")["tiny/vlmo"]))
