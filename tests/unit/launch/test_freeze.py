"""What a job runs is a copy: of the code, and of the recipe with everything resolved."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mmret
from mmret.launch.freeze import commit_of, freeze
from mmret.recipe import load_recipe
from tests.fake_tables import TINY

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in a checkout: code, a cache, data specs beside it."""
    folder = tmp_path / "checkout" / "mmret"
    (folder / "__pycache__").mkdir(parents=True)
    for name in ("__init__.py", "job.sbatch", "__pycache__/x.pyc", "../data_specs/demo/flags.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1")
    monkeypatch.setattr("mmret.launch.freeze.mmret.__file__", str(folder / "__init__.py"))
    return folder


def git(folder, *arguments):
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_code_and_shipped_specs_are_copied_without_caches(package, write):
    recipe = load_recipe(write(TINY))
    frozen = freeze(Path("run/slurm"), {"recipe.yaml": recipe, "recipes/3.yaml": recipe}, ["submit", "x"])
    assert frozen.folder.is_absolute()
    found = {str(path.relative_to(frozen.folder)) for path in frozen.folder.rglob("*") if path.is_file()}
    assert found == {
        "code/mmret/__init__.py",
        "code/mmret/job.sbatch",
        "code/data_specs/demo/flags.yaml",
        "recipe.yaml",
        "recipes/3.yaml",
        "submitted.json",
    }
    assert load_recipe(frozen.folder / "recipe.yaml") == recipe
    assert json.loads((frozen.folder / "submitted.json").read_text())["command"] == ["mmret", "submit", "x"]


def test_two_jobs_of_one_second_have_folders_of_their_own(package, workplace):
    assert len({freeze(Path("run"), {}, []).folder for _ in range(3)}) == 3


def test_the_commit_says_whether_files_were_changed_since(package):
    assert commit_of(package) == ""
    git(package.parent, "init")
    assert commit_of(package) == ""
    git(package.parent, "add", "mmret/__init__.py", "mmret/job.sbatch")
    git(package.parent, "commit", "-m", "x")
    (package / "__pycache__/x.pyc").unlink()
    commit = commit_of(package)
    assert len(commit) == 12
    (package / "job.sbatch").write_text("2")
    assert commit_of(package) == f"{commit} + changes"


def test_the_frozen_code_is_what_runs_even_in_the_checkout(tmp_path):
    frozen = freeze(tmp_path, {}, []).folder
    version = frozen / "code/mmret/__init__.py"
    version.write_text(version.read_text().replace(f'"{mmret.__version__}"', '"9.9.9"'))
    command = [sys.executable, str(frozen / "code/mmret/__main__.py"), "--version"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.stderr.split() == ["mmret", "9.9.9"]
