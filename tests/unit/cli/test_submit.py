"""What `mmret submit` writes, freezes, refuses, and hands to sbatch."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mmret.cli import main
from mmret.recipe import load_recipe
from tests.fake_tables import TINY

GPUS = ["--nodes=2", "--gpus-per-node=4", "--time=24:00:00"]


@pytest.fixture(autouse=True)
def small_package(monkeypatch, tmp_path):
    """Frozen is a stand-in for the package: the real one is copied by `test_the_frozen_code_is_what_runs`."""
    package = tmp_path / "package" / "mmret"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr("mmret.launch.freeze.mmret.__file__", str(package / "__init__.py"))


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """A sbatch that notes its arguments and answers 4711."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(body="echo '4711;cluster'"):
        (folder / "sbatch").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{body}\n')
        (folder / "sbatch").chmod(0o755)

    put()
    return put


@pytest.fixture
def printed(capsys):
    """printed(*arguments) -> the script of `mmret submit ... --print`, and its folder."""

    def call(*arguments):
        capsys.readouterr()
        code = main(["submit", *arguments, "--print"])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        folder = re.search(r"^FROZEN=(.*)$", captured.out, re.M)[1]
        return captured.out, Path(folder)

    return call


def options_of(script):
    return re.findall(r"^#SBATCH --(.*)$", script, re.M)


def test_the_script_asks_for_what_was_said(write, printed, workplace):
    script, frozen = printed(write(TINY), *GPUS, "--partition=gpu", "--mem=200G", "--sbatch=exclusive", "out=runs/x")
    assert script.startswith("#!/bin/bash\n")
    assert options_of(script) == [
        "job-name=tiny",
        "nodes=2",
        "ntasks-per-node=4",
        "gpus-per-node=4",
        "cpus-per-task=1",
        "time=24:00:00",
        "partition=gpu",
        "mem=200G",
        "exclusive",
        f"chdir={workplace}",
        f"output={frozen}/%j.log",
        "open-mode=append",
        "requeue",
        "signal=USR1@180",
    ]
    assert frozen.parent == workplace / "runs/x/slurm"
    assert "\nsrun --kill-on-bad-exit=1 --cpus-per-task=1 \\\n" in script
    assert f'  {sys.executable} "$FROZEN/code/mmret/__main__.py" run "$FROZEN/recipe.yaml"\n' in script
    assert 'scontrol requeue "$SLURM_JOB_ID"' in script
    assert subprocess.run(["bash", "-n", str(frozen / "job.sbatch")]).returncode == 0


def test_a_folder_with_spaces_quotes_and_percent_signs_is_written_as_sbatch_and_bash_read_it(write, printed):
    name = "it's 50%j of $HOME"
    script, _ = printed(write(TINY), *GPUS, f"out={name}")
    output = next(option for option in options_of(script) if option.startswith("output="))
    (read,) = shlex.split(output.removeprefix("output="))
    folder = Path(read.replace("%%", "%")).parent  # as SLURM fills in a file name
    assert "%%j of" in read and folder.parent == Path.cwd() / name / "slurm"
    line = re.search(r"^FROZEN=.*$", script, re.M)[0]
    told = subprocess.run(["bash", "-c", f'{line}\nprintf %s "$FROZEN"'], capture_output=True, text=True).stdout
    assert Path(told) == folder and folder.is_dir()


def test_the_frozen_recipe_has_the_jobs_devices_and_no_loose_ends(write, printed):
    _, frozen = printed(write(TINY), *GPUS, "seed=5")
    trainer = load_recipe(frozen / "recipe.yaml").trainer
    assert (trainer.num_nodes, trainer.devices, trainer.accelerator) == (2, 4, "gpu")
    Path("recipe.yaml").write_text("broken by now")
    assert load_recipe(frozen / "recipe.yaml").seed == 5
    assert (frozen / "code/mmret/__init__.py").exists()


def test_what_the_recipe_says_needs_no_option(write, printed):
    text = TINY + "trainer: {accelerator: gpu, devices: 4, num_nodes: 2}\n"
    script, _ = printed(write(text.replace("batch_size: 8", "batch_size: 8\n      num_workers: 6")))
    assert {"nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "cpus-per-task=7"} <= set(options_of(script))
    script, _ = printed(write(TINY), "trainer.accelerator=cpu", "--tasks-per-node=2", "--cpus-per-task=3")
    assert "ntasks-per-node=2" in options_of(script) and "gpus" not in script
    assert "cpus-per-task=3" in options_of(script)


@pytest.mark.parametrize(
    ("section", "options", "message"),
    [
        ("{devices: 2}", GPUS, r"recipe\.yaml:14:11  trainer\.devices  is 2 here, but --gpus-per-node says 4"),
        ("{num_nodes: 4}", GPUS, r"trainer\.num_nodes  is 4 here, but --nodes says 2"),
        ("{accelerator: cpu}", GPUS, r"trainer\.accelerator  is cpu here, but --gpus-per-node means gpu"),
        ("{}", ["--gpus-per-node=8", "--tasks-per-node=2"], "a task drives one GPU; leave one out"),
        ("{}", [], r"how many devices has a node\? Say --gpus-per-node N"),
        ("{}", ["--gpus-per-node=0"], "--gpus-per-node: must be at least 1, got 0"),
        ("{}", [*GPUS, "--name=bash"], "a job of that name counts as a shell"),
        ("{}", [*GPUS, "--array=0-3"], "all tasks would train the same"),
        ("{}", [*GPUS, "--array=0-1", "seed={array}"], "would both write into runs/tiny; give each its own"),
        ("{}", [*GPUS, "other.yaml"], r"2 recipes \(recipe\.yaml, other\.yaml\): --variants makes each a task"),
        ("{}", [*GPUS, "--time=3"], r"--time 3 leaves no time to train: SLURM signals up to 240 s before"),
        ("{}", [*GPUS, "--time=soon"], "--time soon: want minutes"),
        ("{}", [*GPUS, "--sbatch=output=x.log"], "--sbatch=output: the script says that itself"),
        ("{}", [*GPUS, "--sbatch=no-requeue"], "--sbatch=no-requeue: the script says that itself"),
        ("{}", [*GPUS, "--sbatch=-N 2"], "--sbatch=-N 2: want a long option"),
        ("{}", [*GPUS, "--name=a\nb"], r"--name 'a\\nb': want one line"),
    ],
)
def test_contradictions_are_refused_before_anything_is_written(section, options, message, write, capsys):
    assert main(["submit", write(f"{TINY}trainer: {section}\n"), *options]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not Path("runs").exists()


def test_no_recipe_is_refused(capsys, workplace):
    assert main(["submit", "--nodes=2"]) == 2
    assert "which recipe?" in capsys.readouterr().err


def test_sbatch_gets_the_script_and_its_number_is_kept(write, sbatch, capsys, tmp_path):
    assert main(["submit", write(TINY), *GPUS, "out=runs/x"]) == 0
    (script,) = Path("runs/x/slurm").glob("*/job.sbatch")
    assert (tmp_path / "calls").read_text() == f"--parsable {script.absolute()}\n"
    record = json.loads(script.with_name("submitted.json").read_text())
    assert record["job"] == "4711" and record["command"][:3] == ["mmret", "submit", "recipe.yaml"]
    assert {"commit", "python", "packages", "folder"} <= record.keys()
    assert "job 4711" in (err := capsys.readouterr().err) and "4711.log" in err


def test_what_sbatch_refuses_is_said(write, sbatch, capsys):
    sbatch("echo 'Invalid partition name specified' >&2; exit 1")
    assert main(["submit", write(TINY), *GPUS]) == 3
    assert "refuses: Invalid partition name specified" in capsys.readouterr().err


def test_without_sbatch_the_script_is_there_to_take_along(write, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["submit", write(TINY), *GPUS]) == 3
    assert "sbatch is not on PATH: on a machine that has it, sbatch " in capsys.readouterr().err


def test_variants_are_one_array_with_a_recipe_each(write, printed):
    for name in ("a", "b"):
        write(TINY.replace("name: tiny", f"name: {name}"), f"sweep/{name}.yaml")
    script, frozen = printed("--variants", "sweep", *GPUS, "seed=9", "--array=0-1%1")
    assert {"array=0-1%1", "job-name=sweep", f"output={frozen}/%A_%a.log"} <= set(options_of(script))
    assert 'run "$FROZEN/recipes/$SLURM_ARRAY_TASK_ID.yaml"' in script
    assert 'scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"' in script
    recipes = [load_recipe(frozen / f"recipes/{number}.yaml") for number in range(2)]
    assert [(recipe.name, recipe.out, recipe.seed) for recipe in recipes] == [("a", "runs/a", 9), ("b", "runs/b", 9)]


def test_variants_get_the_processors_of_the_one_with_most_workers(write, printed):
    for name, workers in (("a", 0), ("b", 6)):
        text = TINY.replace("name: tiny", f"name: {name}")
        write(text.replace("batch_size: 8", f"batch_size: 8\n      num_workers: {workers}"), f"sweep/{name}.yaml")
    script, _ = printed("--variants", "sweep", *GPUS)
    assert "cpus-per-task=7" in options_of(script)


def test_variants_that_want_other_resources_are_refused(write, capsys):
    for name, devices in (("a", 2), ("b", 4)):
        text = TINY.replace("name: tiny", f"name: {name}")
        write(f"{text}trainer: {{accelerator: gpu, devices: {devices}}}\n", f"sweep/{name}.yaml")
    assert main(["submit", "--variants", "sweep"]) == 2
    assert "variants 0 and 1 want other resources" in capsys.readouterr().err


def test_an_array_fills_its_number_in(write, printed):
    _, frozen = printed(write(TINY), *GPUS, "--array=2,4", "seed={array}", "out=runs/seed-{array}")
    recipes = [load_recipe(frozen / f"recipes/{number}.yaml") for number in (2, 4)]
    assert [(recipe.seed, recipe.out) for recipe in recipes] == [(2, "runs/seed-2"), (4, "runs/seed-4")]


def test_another_verb_runs_over_an_array_without_the_signal(printed, workplace):
    script, _ = printed("--command", "mmret data build cc3m --slice slurm", "--array=0-15", "--name=build")
    assert {"array=0-15", "job-name=build", "nodes=1", "ntasks-per-node=1", "requeue"} <= set(options_of(script))
    assert "signal" not in script and "scontrol" not in script
    assert '"$FROZEN/code/mmret/__main__.py" data build cc3m --slice slurm\n' in script


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--command", "python x.py"], "want 'mmret VERB ...'"),
        (["--command", "mmret run x.yaml"], "mmret submit RECIPE does that"),
        (["--command", "mmret evaluate x", "recipe.yaml"], "what are recipe.yaml beside it?"),
        (["--command", "mmret evaluate x", "--gpus-per-node=4"], "Say --tasks-per-node"),
        (["--command", "mmret evaluate x", "--array=all"], "--array all: want numbers and ranges"),
    ],
)
def test_commands_that_cannot_be_are_refused(options, message, capsys, workplace):
    assert main(["submit", *options]) == 2
    assert message in capsys.readouterr().err
