"""The house rules that a machine can check."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "mmret").rglob("*.py"))

# A package may import what stands below it, and itself.
ALLOWED = {
    "errors": set(),
    "stop": set(),
    "allocator": set(),
    "image": {"allocator", "errors"},
    "content": {"image", "errors"},
    "types": {"content", "image", "errors"},
    "ops": {"types", "errors"},
    "models": {"ops", "types", "errors"},
    "objectives": {"models", "ops", "types", "errors"},
    "recipe": {"models", "objectives", "data", "types", "errors"},
    "data": {"recipe", "types", "errors"},
    "index": {"models", "ops", "types", "errors"},
    "evaluation": {"index", "data", "recipe", "objectives", "models", "ops", "types", "errors"},
    "training": {
        "stop",
        "allocator",
        "evaluation",
        "index",
        "data",
        "recipe",
        "objectives",
        "models",
        "ops",
        "types",
        "errors",
    },
    "bench": {"training", "evaluation", "index", "data", "recipe", "objectives", "models", "ops", "types", "errors"},
}
FREE = {"cli", "launch", "parity", "__main__", "__init__"}
"""These see everything."""


def package_of(path):
    return path.relative_to(ROOT / "mmret").parts[0].removesuffix(".py")


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mmret"):
            parts = node.module.split(".")
            if len(parts) > 1:
                yield parts[1]
            else:
                yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("mmret."):
                    yield alias.name.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    package = package_of(path)
    if package in FREE:
        return
    wrong = {name for name in imported(path) if name != package and name not in ALLOWED[package] | {"__version__"}}
    assert not wrong, f"{package} must not import {sorted(wrong)}"


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_package_says_what_belongs_in_it(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring and len(docstring.split()) > 3


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_small(path):
    lines = len(path.read_text().splitlines())
    assert lines <= 300, f"{lines} lines: look for the second noun"


def test_no_file_is_named_for_leftovers():
    names = {p.stem for p in FILES}
    assert not names & {"utils", "helpers", "common", "misc"}
