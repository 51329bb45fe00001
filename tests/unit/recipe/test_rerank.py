"""`evaluation.rerank`: how it is written, and which recipes it cannot be part of."""

import pytest

from mmret.errors import ConfigError
from mmret.recipe import load_recipe, resolve_to_yaml
from mmret.recipe.rerank import RerankConfig

RECIPE = """\
name: two-step
model: {name: vlmo, size: tiny}
stages:
  - name: pairs
    steps: 1
    data: {batch_size: 4, sources: {demo/emoji: 1}}
    objectives: {itc: {temperature: 0.07}, itm: {}}
    optimizer: {lr: 1e-3}
evaluation: {benchmarks: [demo/emoji]}
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("evaluation.rerank=8", RerankConfig(8)),
        ("evaluation.rerank={k: 8, score: itm_plus_cosine}", RerankConfig(8, "itm_plus_cosine")),
        ("evaluation.rerank={}", RerankConfig(32, "itm")),
        ("evaluation.rerank=null", None),
    ],
)
def test_a_bare_number_is_k(path, override, expected):
    recipe = load_recipe(path, [override])
    assert recipe.evaluation.rerank == expected
    (path.parent / "resolved.yaml").write_text(resolve_to_yaml(recipe))
    assert load_recipe(path.parent / "resolved.yaml") == recipe
    assert load_recipe(path).evaluation.rerank is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["evaluation.rerank=0"], r"evaluation\.rerank\.k.* must be >= 1, got 0"),
        (
            ["evaluation.rerank={score: it}"],
            r"rerank\.score .*must be itm or itm_plus_cosine, got 'it'. Did you mean 'itm'\?",
        ),
        (["evaluation.rerank=8", "stages.pairs.objectives.itm.weight=0"], r"the last stage 'pairs' has none"),
        (
            ["evaluation.rerank=8", "model={name: vlm2vec}", "~stages.pairs.objectives.itm"],
            r"evaluation\.rerank .*which the model 'vlm2vec' cannot \(encode_pair\)",
        ),
    ],
)
def test_what_it_needs_is_asked_for_before_training(path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(path, overrides)
