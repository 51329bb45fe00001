"""Every shipped recipe passes `mmret check`: its patterns match, its sizes fit, whatever data and weights are here."""

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
    assert main(["check", str(ROOT / path)]) == 0, capsys.readouterr().err
