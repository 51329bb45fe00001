"""Every recipe in the tree loads with the real tables, and every data spec and benchmark that it names is there."""

from pathlib import Path

import pytest

from mmret.recipe import load_recipe, resolve_to_yaml

ROOT = Path(__file__).resolve().parents[3]
RECIPES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "recipes").rglob("*.yaml")
    if not any(part.startswith("_") or part == "bench" for part in path.relative_to(ROOT / "recipes").parts)
)


@pytest.mark.parametrize("path", RECIPES)
def test_shipped_recipe_loads_and_is_a_fixed_point(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names are found from anywhere, not only from the checkout
    recipe = load_recipe(ROOT / path)  # looks up every spec, benchmark and split that it names
    (tmp_path / "resolved.yaml").write_text(resolve_to_yaml(recipe))
    assert load_recipe("resolved.yaml") == recipe


def test_there_are_recipes_to_test():
    assert RECIPES
