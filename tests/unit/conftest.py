"""A working folder with specs, and small stand-ins for the tables of models and objectives."""

import pytest

from mmret.recipe import tables
from tests.fake_tables import MODELS, OBJECTIVES


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """The working folder; holds data specs demo/{flags,emoji} and a benchmark demo/flags with a split heldout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tables, "models", lambda: MODELS)
    monkeypatch.setattr(tables, "objectives", lambda: OBJECTIVES)
    monkeypatch.setattr("mmret.recipe.shipped._PACKAGE", tmp_path / "package")
    (tmp_path / "recipes").mkdir()
    for name in ("demo/flags", "demo/emoji", "benchmarks/demo/flags"):
        file = tmp_path / "data_specs" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"name: {name.removeprefix('benchmarks/')}\nsplits: {{heldout: {{}}, validation: {{}}}}\n")
    return tmp_path


@pytest.fixture
def write(workplace):
    """write(text, name="recipe.yaml") -> the path, relative to the working folder."""

    def to_file(text: str, name: str = "recipe.yaml") -> str:
        (workplace / name).parent.mkdir(parents=True, exist_ok=True)
        (workplace / name).write_text(text)
        return name

    return to_file
