"""Which tasks an array has, and what each runs."""

import pytest

from mmret.errors import ConfigError
from mmret.launch.array import array_numbers, tasks_of, variant_files


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-3", [0, 1, 2, 3]), ("1,5,5", [1, 5]), ("0-3,8-16:4%2", [0, 1, 2, 3, 8, 12, 16]), ("7", [7])],
)
def test_arrays_are_read_as_sbatch_reads_them(text, numbers):
    assert array_numbers(text) == numbers


@pytest.mark.parametrize("text", ["", "a", "3-1", "0-3%", "0-3%x", "1-9:0", "-3"])
def test_no_array_is_refused(text):
    with pytest.raises(ConfigError, match="--array"):
        array_numbers(text)


def test_placeholders_become_the_tasks_number_and_recipe():
    tasks = tasks_of(["x/a.yaml", "x/b.yaml"], ["out=runs/{variant}-{array}"], None, variants=True)
    assert [(task.number, task.path, task.overrides) for task in tasks] == [
        (0, "x/a.yaml", ("out=runs/a-0",)),
        (1, "x/b.yaml", ("out=runs/b-1",)),
    ]


def test_an_array_of_equal_tasks_is_refused():
    with pytest.raises(ConfigError, match=r"all tasks would train the same\. Write \{array\} where they differ"):
        tasks_of(["a.yaml"], ["seed=3"], "0-3", variants=False)


def test_an_array_past_the_variants_is_refused():
    with pytest.raises(ConfigError, match=r"--array 0-2: there are 2 variants, numbered from 0"):
        tasks_of(["a.yaml", "b.yaml"], [], "0-2", variants=True)


def test_a_folder_stands_for_its_recipes_but_those_to_extend(tmp_path):
    for name in ("b.yaml", "a.yaml", "_base.yaml"):
        (tmp_path / name).touch()
    assert variant_files([str(tmp_path), "shipped/name"]) == [
        str(tmp_path / "a.yaml"),
        str(tmp_path / "b.yaml"),
        "shipped/name",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no \*\.yaml in this folder"):
        variant_files([str(tmp_path / "empty")])
